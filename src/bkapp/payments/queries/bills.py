"""Questions about bills, what was tried to pay them and what came of it.  Reads only."""

from collections.abc import Collection, Sequence
from datetime import date, datetime
from typing import Any
from uuid import UUID

from msgspec import Struct
from sqlalchemy import bindparam, false, func, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from bkapp.identity.models import Person
from bkapp.payments.models import Beneficiary, Bill, BillLine, Merchant, PaymentAttempt, PaymentCase, Receipt, Refund
from bkapp.payments.rules import AttemptStatus, BillStatus, CaseKind, FeeKind, Place, RefundStatus
from bkapp.units.models import AdminUnit

TOLD = frozenset({CaseKind.DUPLICATE, CaseKind.AMOUNT, CaseKind.CLOSED_BILL, CaseKind.REFUND_FAILED})
"""The cases that a payer is told of: their own money waits for something.  The others are between us and providers."""


class BillRow(Struct, frozen=True):
    """A bill with the account it is for.

    ``person`` is the payer if they are known as somebody who signed in, also where the bill names their number alone;
    ``payer_name`` is sealed for the bill and ``person_name`` for the person.
    """

    id: UUID
    code: str
    status: BillStatus
    amount: int
    description: str
    dossier_code: str | None
    procedure_code: str
    procedure_name: str
    unit_id: int | None
    unit_name: str | None
    due_on: date | None
    created_at: datetime
    paid_at: datetime | None
    cancelled_at: datetime | None
    version: int
    agency: str
    bank_bin: str
    account: str
    account_name: str
    treasury: str | None
    payer_name: bytes | None
    person: UUID | None
    person_name: bytes | None


class LineRow(Struct, frozen=True):
    """A line of a bill."""

    kind: FeeKind
    code: str
    name: str
    amount: int


class AttemptRow(Struct, frozen=True):
    """A try at paying, and through whom."""

    id: UUID
    bill_id: UUID
    reference: str
    amount: int
    status: AttemptStatus
    version: int
    created_at: datetime
    expires_at: datetime
    settled_at: datetime | None
    redirect_url: str | None
    qr: str | None
    failure_code: str | None
    merchant: str
    provider: str
    title: str


class ReceiptRow(Struct, frozen=True):
    """Money that came for a bill, and through whom."""

    id: UUID
    number: int
    amount: int
    place: Place
    refunded: int
    reserved: int
    transaction: str
    received_at: datetime
    reference: str | None
    title: str


class RefundRow(Struct, frozen=True):
    """Money of a bill on its way back."""

    id: UUID
    receipt_id: UUID
    reference: str
    amount: int
    status: RefundStatus
    requested_at: datetime
    settled_at: datetime | None


class CaseRow(Struct, frozen=True):
    """An open case about a bill's money; ``amount`` is that of the money where it is about some."""

    id: UUID
    kind: CaseKind
    opened_at: datetime
    due_at: datetime
    amount: int | None


class Method(Struct, frozen=True):
    """A way to pay."""

    key: str
    provider: str
    title: str


class Checked(Struct, frozen=True):
    """What a confirmation may tell everybody."""

    number: int
    amount: int
    refunded: int
    place: Place
    received_at: datetime
    agency: str
    dossier_code: str | None
    procedure_name: str


_ByNumber = aliased(Person)
_Payer = aliased(Person)


# Who is known by their number alone may have signed in since.
_payer_id = func.coalesce(
    Bill.payer_id,
    select(_ByNumber.id)
    .where(_ByNumber.number_hmac == Bill.payer_hmac, _ByNumber.erased_at.is_(None))
    .scalar_subquery(),
)


def _bills() -> Any:
    return (
        select(
            Bill.id,
            Bill.code,
            Bill.status,
            Bill.amount,
            Bill.description,
            Bill.dossier_code,
            Bill.procedure_code,
            Bill.procedure_name,
            Bill.unit_id,
            AdminUnit.full_name.label("unit_name"),
            Bill.due_on,
            Bill.created_at,
            Bill.paid_at,
            Bill.cancelled_at,
            Bill.version,
            Beneficiary.name.label("agency"),
            Beneficiary.bank_bin,
            Beneficiary.account,
            Beneficiary.account_name,
            Beneficiary.treasury,
            Bill.payer_name_cipher.label("payer_name"),
            _Payer.id.label("person"),
            _Payer.name_cipher.label("person_name"),
        )
        .join(Beneficiary, Beneficiary.id == Bill.beneficiary_id)
        .outerjoin(AdminUnit, AdminUnit.id == Bill.unit_id)
        .outerjoin(_Payer, _Payer.id == _payer_id)
    )


_BILL = _bills().where(Bill.id == bindparam("bill_id"))


async def bill(session: AsyncSession, bill_id: UUID) -> BillRow | None:
    """One bill."""
    row = (await session.execute(_BILL, {"bill_id": bill_id})).one_or_none()
    return None if row is None else BillRow(*row)


async def bill_by_code(session: AsyncSession, code: str) -> UUID | None:
    """The id of the bill with a code (``HD…``)."""
    found: UUID | None = await session.scalar(select(Bill.id).where(Bill.code == code))
    return found


async def bills_of(
    session: AsyncSession, person: UUID, *, status: BillStatus | None = None, limit: int, after: UUID | None = None
) -> list[BillRow]:
    """What a person owes or paid, newest first: bills that name them, or their number."""
    number = select(Person.number_hmac).where(Person.id == person, Person.erased_at.is_(None)).scalar_subquery()
    own = or_(Bill.payer_id == person, Bill.payer_hmac == number)
    return await _page(session, _bills().where(own), status, limit, after)


async def bills_in(
    session: AsyncSession,
    unit_ids: Collection[int] | None,
    *,
    status: BillStatus | None = None,
    limit: int,
    after: UUID | None = None,
) -> list[BillRow]:
    """The bills of some units (None for all), newest first."""
    wanted = _bills()
    if unit_ids is not None:
        wanted = wanted.where(Bill.unit_id.in_(unit_ids) if unit_ids else false())
    return await _page(session, wanted, status, limit, after)


async def _page(
    session: AsyncSession, wanted: Any, status: BillStatus | None, limit: int, after: UUID | None
) -> list[BillRow]:
    if status is not None:
        wanted = wanted.where(Bill.status == status)
    if after is not None:
        last = aliased(Bill)
        place = select(last.created_at, last.id).where(last.id == after).scalar_subquery()
        wanted = wanted.where(tuple_(Bill.created_at, Bill.id) < place)
    rows = await session.execute(wanted.order_by(Bill.created_at.desc(), Bill.id.desc()).limit(limit))
    return [BillRow(*row) for row in rows]


async def lines(session: AsyncSession, bill_id: UUID) -> list[LineRow]:
    """What a bill is made up of."""
    rows = await session.execute(
        select(BillLine.kind, BillLine.code, BillLine.name, BillLine.amount)
        .where(BillLine.bill_id == bill_id)
        .order_by(BillLine.position)
    )
    return [LineRow(*row) for row in rows]


def _attempts() -> Any:
    return select(
        PaymentAttempt.id,
        PaymentAttempt.bill_id,
        PaymentAttempt.reference,
        PaymentAttempt.amount,
        PaymentAttempt.status,
        PaymentAttempt.version,
        PaymentAttempt.created_at,
        PaymentAttempt.expires_at,
        PaymentAttempt.settled_at,
        PaymentAttempt.redirect_url,
        PaymentAttempt.qr,
        PaymentAttempt.failure_code,
        Merchant.key.label("merchant"),
        Merchant.provider,
        Merchant.title,
    ).join(Merchant, Merchant.id == PaymentAttempt.merchant_id)


async def attempts(session: AsyncSession, bill_id: UUID, *, limit: int = 20) -> list[AttemptRow]:
    """The tries at paying a bill, newest first."""
    rows = await session.execute(
        _attempts()
        .where(PaymentAttempt.bill_id == bill_id)
        .order_by(PaymentAttempt.created_at.desc(), PaymentAttempt.id)
        .limit(limit)
    )
    return [AttemptRow(*row) for row in rows]


_ATTEMPT = _attempts().where(PaymentAttempt.id == bindparam("attempt_id"))
# Somebody waits for this again and again, in one round trip.
_OWN_ATTEMPT = _ATTEMPT.join(Bill, Bill.id == PaymentAttempt.bill_id).where(_payer_id == bindparam("person"))


async def attempt(session: AsyncSession, attempt_id: UUID) -> AttemptRow | None:
    """One try at paying."""
    row = (await session.execute(_ATTEMPT, {"attempt_id": attempt_id})).one_or_none()
    return None if row is None else AttemptRow(*row)


async def attempt_of(session: AsyncSession, person: UUID, attempt_id: UUID) -> AttemptRow | None:
    """One try at paying a bill that a person owes."""
    row = (await session.execute(_OWN_ATTEMPT, {"attempt_id": attempt_id, "person": person})).one_or_none()
    return None if row is None else AttemptRow(*row)


async def receipts(session: AsyncSession, bill_id: UUID) -> list[ReceiptRow]:
    """The money that came for a bill and is not denied, in the order in which it came."""
    rows = await session.execute(_receipts().where(Receipt.bill_id == bill_id, Receipt.place != Place.REVERSED))
    return [ReceiptRow(*row) for row in rows]


async def paying_receipt(session: AsyncSession, bill_id: UUID) -> ReceiptRow | None:
    """The money that pays a bill."""
    wanted = _receipts().where(Receipt.bill_id == bill_id, Receipt.place == Place.APPLIED)
    row = (await session.execute(wanted)).one_or_none()
    return None if row is None else ReceiptRow(*row)


def _receipts() -> Any:
    return (
        select(
            Receipt.id,
            Receipt.number,
            Receipt.amount,
            Receipt.place,
            Receipt.refunded,
            Receipt.reserved,
            Receipt.transaction,
            Receipt.received_at,
            PaymentAttempt.reference,
            Merchant.title,
        )
        .join(Merchant, Merchant.id == Receipt.merchant_id)
        .outerjoin(PaymentAttempt, PaymentAttempt.id == Receipt.attempt_id)
        .order_by(Receipt.received_at, Receipt.number)
    )


async def refunds(session: AsyncSession, receipt_ids: Sequence[UUID]) -> list[RefundRow]:
    """What is given back, or was, of some receipts."""
    rows = await session.execute(
        select(
            Refund.id,
            Refund.receipt_id,
            Refund.reference,
            Refund.amount,
            Refund.status,
            Refund.requested_at,
            Refund.settled_at,
        )
        .where(Refund.receipt_id.in_(receipt_ids))
        .order_by(Refund.requested_at, Refund.id)
    )
    return [RefundRow(*row) for row in rows]


async def cases(session: AsyncSession, bill_id: UUID) -> list[CaseRow]:
    """The open cases about a bill that its payer is told of, those due first first."""
    rows = await session.execute(
        select(PaymentCase.id, PaymentCase.kind, PaymentCase.opened_at, PaymentCase.due_at, Receipt.amount)
        .outerjoin(Receipt, Receipt.id == PaymentCase.receipt_id)
        .where(PaymentCase.bill_id == bill_id, PaymentCase.closed_at.is_(None), PaymentCase.kind.in_(TOLD))
        .order_by(PaymentCase.due_at, PaymentCase.id)
    )
    return [CaseRow(*row) for row in rows]


async def is_person(session: AsyncSession, person: UUID) -> bool:
    """Whether somebody with this id has signed in and is not erased."""
    found = await session.scalar(select(Person.id).where(Person.id == person, Person.erased_at.is_(None)))
    return found is not None


async def methods(session: AsyncSession) -> list[Method]:
    """The ways to pay, in the order in which they are offered."""
    rows = await session.execute(
        select(Merchant.key, Merchant.provider, Merchant.title)
        .where(Merchant.active)
        .order_by(Merchant.position, Merchant.key)
    )
    return [Method(*row) for row in rows]


async def checked(session: AsyncSession, number: int) -> Checked | None:
    """What a confirmation of a receipt tells everybody; None for money that paid no bill."""
    row = (
        await session.execute(
            select(
                Receipt.number,
                Receipt.amount,
                Receipt.refunded,
                Receipt.place,
                Receipt.received_at,
                Beneficiary.name.label("agency"),
                Bill.dossier_code,
                Bill.procedure_name,
            )
            .join(Bill, Bill.id == Receipt.bill_id)
            .join(Beneficiary, Beneficiary.id == Bill.beneficiary_id)
            .where(Receipt.number == number)
        )
    ).one_or_none()
    return None if row is None else Checked(*row)
