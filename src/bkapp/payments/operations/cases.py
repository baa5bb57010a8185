"""Cases: what somebody has to settle, and by when."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.payments.models import PaymentCase
from bkapp.payments.rules import CASE_CLOCK, CaseKind


async def open_case(
    session: AsyncSession,
    kind: CaseKind,
    *,
    now: datetime,
    merchant_id: UUID | None = None,
    bill_id: UUID | None = None,
    attempt_id: UUID | None = None,
    receipt_id: UUID | None = None,
    refund_id: UUID | None = None,
    statement_line_id: int | None = None,
    detail: str = "",
) -> PaymentCase:
    """Open a case; for the same thing, one that is open is answered again.  ``detail`` is English and names nobody."""
    about = {
        "merchant_id": merchant_id,
        "bill_id": bill_id,
        "attempt_id": attempt_id,
        "receipt_id": receipt_id,
        "refund_id": refund_id,
        "statement_line_id": statement_line_id,
    }
    same = [PaymentCase.kind == kind, PaymentCase.closed_at.is_(None)]
    same += [getattr(PaymentCase, name).is_not_distinct_from(value) for name, value in about.items()]
    found = await session.scalar(select(PaymentCase).where(*same).order_by(PaymentCase.opened_at).limit(1))
    if found is not None:
        return found
    # A receipt in suspense has one such case at the most, which the index sees to.
    inserted: PaymentCase | None = await session.scalar(
        insert(PaymentCase)
        .values(**about, kind=kind, detail=detail, opened_at=now, due_at=now + CASE_CLOCK)
        .on_conflict_do_nothing()
        .returning(PaymentCase)
    )
    if inserted is not None:
        return inserted
    return (
        await session.scalars(
            select(PaymentCase).where(PaymentCase.receipt_id == receipt_id, PaymentCase.closed_at.is_(None)).limit(1)
        )
    ).one()


HOLDING = frozenset({CaseKind.DUPLICATE, CaseKind.AMOUNT, CaseKind.CLOSED_BILL, CaseKind.UNIDENTIFIED})
"""Cases of money that stands in suspense."""


async def close_cases(session: AsyncSession, *, receipt_id: UUID, by: str, outcome: str, now: datetime) -> int:
    """Close what is open about a receipt's being in suspense; return how many that were."""
    closed = await session.execute(
        update(PaymentCase)
        .where(PaymentCase.receipt_id == receipt_id, PaymentCase.closed_at.is_(None), PaymentCase.kind.in_(HOLDING))
        .values(closed_at=now, closed_by=by, outcome=outcome)
        .execution_options(synchronize_session=False)
    )
    return closed.rowcount  # type: ignore[attr-defined,no-any-return]


async def close_doubts(session: AsyncSession, *, attempt_id: UUID, by: str, outcome: str, now: datetime) -> int:
    """Close what is open about what came of an attempt, and about nothing else; return how many that were."""
    closed = await session.execute(
        update(PaymentCase)
        .where(
            PaymentCase.attempt_id == attempt_id,
            PaymentCase.kind == CaseKind.STATUS,
            PaymentCase.receipt_id.is_(None),
            PaymentCase.refund_id.is_(None),
            PaymentCase.statement_line_id.is_(None),
            PaymentCase.closed_at.is_(None),
        )
        .values(closed_at=now, closed_by=by, outcome=outcome)
        .execution_options(synchronize_session=False)
    )
    return closed.rowcount  # type: ignore[attr-defined,no-any-return]
