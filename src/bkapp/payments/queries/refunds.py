"""Questions about refunds, cases and the receipts they are about.  Reads only."""

from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Struct
from sqlalchemy import func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.identity.models import Person
from bkapp.payments.models import Bill, Merchant, PaymentCase, Receipt, Refund
from bkapp.payments.rules import CaseKind, Place, RefundStatus


class ReceiptFacts(Struct, frozen=True):
    """What there is to know of a receipt before something is given back of it."""

    bill_id: UUID | None
    provider: str
    left: int


async def receipt_facts(session: AsyncSession, receipt_id: UUID) -> ReceiptFacts | None:
    row = (
        await session.execute(
            select(Receipt.bill_id, Merchant.provider, Receipt.amount - Receipt.refunded - Receipt.reserved)
            .join(Merchant, Merchant.id == Receipt.merchant_id)
            .where(Receipt.id == receipt_id)
        )
    ).first()
    return None if row is None else ReceiptFacts(*row)


class RefundDetails(Struct, frozen=True):
    """A refund with the receipt and the bill it is of.  ``person`` is the payer, if they ever signed in."""

    id: UUID
    receipt_id: UUID
    reference: str
    amount: int
    reason: str
    by_hand: bool
    status: RefundStatus
    requested_by: str
    requested_at: datetime
    approved_by: str | None
    approved_at: datetime | None
    sent_at: datetime | None
    next_check_at: datetime | None
    settled_at: datetime | None
    transaction: str | None
    failure_code: str | None
    receipt_number: int
    merchant_key: str
    bill_id: UUID | None
    bill_code: str | None
    person: UUID | None


def _refunds() -> Any:
    by_number = (
        select(Person.id)
        .where(Person.number_hmac == Bill.payer_hmac, Person.erased_at.is_(None))
        .correlate(Bill)
        .scalar_subquery()
    )
    return (
        select(
            Refund.id,
            Refund.receipt_id,
            Refund.reference,
            Refund.amount,
            Refund.reason,
            Refund.by_hand,
            Refund.status,
            Refund.requested_by,
            Refund.requested_at,
            Refund.approved_by,
            Refund.approved_at,
            Refund.sent_at,
            Refund.next_check_at,
            Refund.settled_at,
            Refund.transaction,
            Refund.failure_code,
            Receipt.number,
            Merchant.key,
            Receipt.bill_id,
            Bill.code,
            func.coalesce(Bill.payer_id, by_number),
        )
        .join(Receipt, Receipt.id == Refund.receipt_id)
        .join(Merchant, Merchant.id == Receipt.merchant_id)
        .outerjoin(Bill, Bill.id == Receipt.bill_id)
    )


async def refund(session: AsyncSession, refund_id: UUID) -> RefundDetails | None:
    row = (await session.execute(_refunds().where(Refund.id == refund_id))).first()
    return None if row is None else RefundDetails(*row)


async def refunds(
    session: AsyncSession, *, status: RefundStatus | None, limit: int, after: UUID | None
) -> list[RefundDetails]:
    """All refunds, or those of a status, oldest first, from the one that follows ``after``."""
    statement = _refunds().order_by(Refund.requested_at, Refund.id).limit(limit)
    if status is not None:
        statement = statement.where(Refund.status == status)
    if after is not None:
        last = select(Refund.requested_at, Refund.id).where(Refund.id == after)
        statement = statement.where(tuple_(Refund.requested_at, Refund.id) > last.scalar_subquery())
    return [RefundDetails(*row) for row in await session.execute(statement)]


async def due_refunds(session: AsyncSession, *, now: datetime, limit: int) -> list[UUID]:
    """The refunds whose provider is to be asked something by now, those that wait longest first."""
    found = await session.scalars(
        select(Refund.id).where(Refund.next_check_at <= now).order_by(Refund.next_check_at, Refund.id).limit(limit)
    )
    return [*found]


class CaseDetails(Struct, frozen=True):
    """A case with the money and the bill it is about.  Nothing here says who anybody is."""

    id: UUID
    kind: CaseKind
    detail: str
    opened_at: datetime
    due_at: datetime
    closed_at: datetime | None
    outcome: str | None
    merchant_key: str | None
    bill_id: UUID | None
    bill_code: str | None
    attempt_id: UUID | None
    receipt_id: UUID | None
    receipt_number: int | None
    place: Place | None
    amount: int | None
    refunded: int | None
    reserved: int | None
    refund_id: UUID | None


def _cases() -> Any:
    return (
        select(
            PaymentCase.id,
            PaymentCase.kind,
            PaymentCase.detail,
            PaymentCase.opened_at,
            PaymentCase.due_at,
            PaymentCase.closed_at,
            PaymentCase.outcome,
            Merchant.key,
            PaymentCase.bill_id,
            Bill.code,
            PaymentCase.attempt_id,
            PaymentCase.receipt_id,
            Receipt.number,
            Receipt.place,
            Receipt.amount,
            Receipt.refunded,
            Receipt.reserved,
            PaymentCase.refund_id,
        )
        .outerjoin(Merchant, Merchant.id == PaymentCase.merchant_id)
        .outerjoin(Bill, Bill.id == PaymentCase.bill_id)
        .outerjoin(Receipt, Receipt.id == PaymentCase.receipt_id)
    )


async def case(session: AsyncSession, case_id: UUID) -> CaseDetails | None:
    row = (await session.execute(_cases().where(PaymentCase.id == case_id))).first()
    return None if row is None else CaseDetails(*row)


async def cases(
    session: AsyncSession,
    units: frozenset[int] | None,
    *,
    is_open: bool | None,
    kind: CaseKind | None,
    limit: int,
    after: UUID | None,
) -> list[CaseDetails]:
    """Cases of bills of some units (None: all, also those of no bill), those due soonest first."""
    statement = _cases().order_by(PaymentCase.due_at, PaymentCase.id).limit(limit)
    if units is not None:
        statement = statement.where(Bill.unit_id.in_(units))
    if is_open is not None:
        statement = statement.where(PaymentCase.closed_at.is_(None) if is_open else PaymentCase.closed_at.is_not(None))
    if kind is not None:
        statement = statement.where(PaymentCase.kind == kind)
    if after is not None:
        last = select(PaymentCase.due_at, PaymentCase.id).where(PaymentCase.id == after)
        statement = statement.where(tuple_(PaymentCase.due_at, PaymentCase.id) > last.scalar_subquery())
    return [CaseDetails(*row) for row in await session.execute(statement)]
