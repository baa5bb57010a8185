"""Differences that comparing found: kept, settled by what the file told, given cases, left to a newer file."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, any_, cast, or_, select, update
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from bkapp.payments.matching import Item, Type
from bkapp.payments.models import Merchant, PaymentCase, Receipt, ReconciliationItem, StatementFile, StatementLine
from bkapp.payments.operations.cases import open_case
from bkapp.payments.queries.reconciling import SUPERSEDED
from bkapp.payments.rules import CaseKind, Place

ITSELF = "payments"
"""Who settles what is settled by what happens."""


async def add_items(
    session: AsyncSession, file: StatementFile, items: Sequence[Item], ids: Sequence[int], *, now: datetime
) -> None:
    rows = [
        {
            "merchant_id": file.merchant_id,
            "source": file.source,
            "business_date": file.business_date,
            "kind": item.type.value,
            "statement_line_id": None if item.line is None else ids[item.line],
            "receipt_id": item.receipt,
            "refund_id": item.refund,
            "our_amount": item.ours,
            "their_amount": item.theirs,
            "first_seen_at": now,
        }
        for item in items
    ]
    if rows:
        # What only we have may be known to be missing since an earlier day's check.
        await session.execute(insert(ReconciliationItem).on_conflict_do_nothing(), rows)


async def note_what_settled(
    session: AsyncSession, items: Sequence[Item], after: Sequence[Item], ids: Sequence[int], *, now: datetime
) -> None:
    """Of the differences, those that hearing the file has settled.  Their type stays what it was found to be."""
    for item, then in zip(items, after, strict=False):
        if item.line is None or item.type is Type.MATCHED:
            continue
        values: dict[str, object] = {"receipt_id": then.receipt, "refund_id": then.refund}
        if then.type is Type.MATCHED:
            values |= {"resolved_at": now, "resolved_by": f"statement:{ids[item.line]}"}
        await session.execute(
            update(ReconciliationItem)
            .where(ReconciliationItem.statement_line_id == ids[item.line])
            .values(**values)
            .execution_options(synchronize_session=False)
        )


async def found_later(
    session: AsyncSession, file: StatementFile, items: Sequence[Item], ids: Sequence[int], *, now: datetime
) -> None:
    """What an earlier file did not have and this one has is missing no more."""
    spoken = {item.receipt or item.refund: ids[item.line] for item in items if item.line is not None}
    spoken.pop(None, None)
    found = await session.scalars(
        select(ReconciliationItem)
        .where(
            ReconciliationItem.source == file.source,
            ReconciliationItem.statement_line_id.is_(None),
            ReconciliationItem.resolved_at.is_(None),
            or_(
                _among(ReconciliationItem.receipt_id, spoken),
                _among(ReconciliationItem.refund_id, spoken),
            ),
        )
        .execution_options(populate_existing=True)
    )
    missing = found.all()
    for item in missing:
        about = item.receipt_id or item.refund_id
        item.resolved_at, item.resolved_by = now, f"statement:{spoken[about]}"
    await session.flush()
    await close_missing(session, missing, by=ITSELF, outcome="found in a later file", now=now)


def _among(column: InstrumentedAttribute[Any], values: Collection[Any]) -> ColumnElement[bool]:
    """Whether a column is one of many values, which go as one parameter, whatever their number."""
    return column == any_(cast([value for value in values if value is not None], ARRAY(column.type)))


async def close_missing(
    session: AsyncSession, items: Sequence[ReconciliationItem], *, by: str, outcome: str, now: datetime
) -> None:
    """Close the cases of what was missing, where no other file misses it."""
    for item in items:
        about = (
            ReconciliationItem.receipt_id == item.receipt_id
            if item.receipt_id is not None
            else ReconciliationItem.refund_id == item.refund_id
        )
        still = await session.scalar(
            select(ReconciliationItem.id)
            .where(
                about,
                ReconciliationItem.statement_line_id.is_(None),
                ReconciliationItem.resolved_at.is_(None),
            )
            .limit(1)
        )
        if still is not None:
            continue
        its = (
            [PaymentCase.receipt_id == item.receipt_id, PaymentCase.refund_id.is_(None)]
            if item.receipt_id is not None
            else [PaymentCase.refund_id == item.refund_id]
        )
        await session.execute(
            update(PaymentCase)
            .where(*its, PaymentCase.kind == CaseKind.MISSING, PaymentCase.closed_at.is_(None))
            .values(closed_at=now, closed_by=by, outcome=outcome)
            .execution_options(synchronize_session=False)
        )


_CASES = {Type.AMOUNT: CaseKind.AMOUNT, Type.STATUS: CaseKind.STATUS, Type.REFUND: CaseKind.STATUS}


async def open_cases(
    session: AsyncSession, merchant: Merchant, items: Sequence[Item], ids: Sequence[int], *, now: datetime
) -> None:
    """Amounts, outcomes and refunds that nobody could settle need somebody."""
    lines: dict[int | None, Item] = {
        ids[item.line]: item for item in items if item.line is not None and item.type in _CASES
    }
    left = await session.execute(
        select(ReconciliationItem, Receipt.bill_id, Receipt.attempt_id)
        .outerjoin(Receipt, Receipt.id == ReconciliationItem.receipt_id)
        .where(_among(ReconciliationItem.statement_line_id, lines), ReconciliationItem.resolved_at.is_(None))
        .order_by(ReconciliationItem.id)
        .execution_options(populate_existing=True)
    )
    for row, bill_id, attempt_id in left.all():
        found = lines[row.statement_line_id]
        if await _disputed(session, _CASES[found.type], attempt_id=attempt_id, refund_id=row.refund_id):
            continue
        await open_case(
            session,
            _CASES[found.type],
            now=now,
            merchant_id=merchant.id,
            bill_id=bill_id,
            attempt_id=attempt_id,
            receipt_id=row.receipt_id,
            refund_id=row.refund_id,
            statement_line_id=row.statement_line_id,
            detail=f"{row.source} {row.business_date}: {row.our_amount} here, {row.their_amount} there, {found.type}",
        )


async def _disputed(session: AsyncSession, kind: CaseKind, *, attempt_id: UUID | None, refund_id: UUID | None) -> bool:
    """Whether hearing the line, or another word before it, opened a case about the same."""
    about = PaymentCase.refund_id == refund_id if refund_id is not None else PaymentCase.attempt_id == attempt_id
    if kind is not CaseKind.STATUS or (refund_id is None and attempt_id is None):
        return False
    found = await session.scalar(
        select(PaymentCase.id).where(about, PaymentCase.kind == kind, PaymentCase.closed_at.is_(None)).limit(1)
    )
    return found is not None


async def supersede(session: AsyncSession, old: StatementFile, new: StatementFile, *, now: datetime) -> None:
    """What an earlier file of the day left open is left to the new one."""
    of_old = select(StatementLine.id).where(StatementLine.file_id == old.id)
    await session.execute(
        update(ReconciliationItem)
        .where(
            ReconciliationItem.resolved_at.is_(None),
            or_(
                ReconciliationItem.statement_line_id.in_(of_old),
                (ReconciliationItem.statement_line_id.is_(None))
                & (ReconciliationItem.merchant_id == old.merchant_id)
                & (ReconciliationItem.source == old.source)
                & (ReconciliationItem.business_date == old.business_date),
            ),
        )
        .values(resolved_at=now, resolved_by=f"{SUPERSEDED}{new.id}")
        .execution_options(synchronize_session=False)
    )
    await session.execute(
        update(PaymentCase)
        .where(PaymentCase.statement_line_id.in_(of_old), closable())
        .values(closed_at=now, closed_by=ITSELF, outcome="a newer file of the day stands")
        .execution_options(synchronize_session=False)
    )


def closable() -> ColumnElement[bool]:
    """Open cases that do not stand for money in suspense, which keeps its case until it is placed."""
    in_suspense = (
        select(Receipt.id)
        .where(
            Receipt.id == PaymentCase.receipt_id,
            Receipt.place == Place.SUSPENSE,
            Receipt.refunded < Receipt.amount,
            PaymentCase.kind.not_in([CaseKind.STATUS, CaseKind.MISSING]),
        )
        .exists()
    )
    return PaymentCase.closed_at.is_(None) & ~in_suspense
