"""Giving money back: reserving it on its receipt, a second person's agreement, what came of asking the provider.

What is given back is kept apart on the receipt by one guarded UPDATE before anything else happens, so whoever races
for the same money, no more than came is ever promised.  Everything that locks a bill, a receipt and a refund locks them
in this order.
"""

from datetime import datetime
from uuid import UUID, uuid4

from msgspec import Struct
from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.db import violated
from bkapp.errors import DomainError, FieldError, Invalid, NotFound
from bkapp.jobs import defer
from bkapp.payments import providers
from bkapp.payments.models import Merchant, PaymentAttempt, Receipt, Refund
from bkapp.payments.operations.attempts import IdTaken
from bkapp.payments.operations.merchants import opened, take_call
from bkapp.payments.operations.refund_moves import (
    RefundMoved,
    absent,
    count,
    fail,
    given,
    is_out,
    locked,
    move,
    require,
    succeed,
)
from bkapp.payments.providers import Finding, Outcome, RefundOrder
from bkapp.payments.queries.orders import order_of
from bkapp.payments.references import new_reference
from bkapp.payments.rules import CALL_LEASE, Place, RefundStatus, next_check
from bkapp.sealing import Keyring

SEND = "payments.refund"
"""The job that sends a refund to its provider."""
SMALL = "payments.small"
"""Who approves what is too little to need a second person."""
UNTOLD = ("ref:", "source:")
"""How a receipt's transaction begins where nobody told us its number."""


class RefundTooLarge(DomainError):
    """More than is left of the receipt; ``refundable`` is what could be given back."""

    code = "refund_too_large"
    title = "Số tiền hoàn lớn hơn số tiền còn có thể hoàn"


class ReceiptReversed(DomainError):
    """The money never came, as stronger evidence says; nothing can be given back of it."""

    code = "receipt_reversed"
    title = "Khoản thu này đã bị hủy ghi nhận, không thể hoàn tiền"


class SamePerson(DomainError):
    """Who asked for a refund does not approve it; somebody else does."""

    code = "same_person"
    title = "Người đề nghị hoàn tiền không được tự duyệt, cần người khác duyệt"


class NotByHand(DomainError):
    """The provider gives this refund back itself; nobody transfers it."""

    code = "refund_not_by_hand"
    title = "Khoản hoàn này do kênh thanh toán tự chuyển, không chuyển bằng tay"


class TransferKnown(DomainError):
    """The bank's transaction was recorded for another refund."""

    code = "transfer_known"
    title = "Giao dịch chuyển khoản này đã ghi cho một khoản hoàn khác"


# --- asking, agreeing ---------------------------------------------------------------------------------------------


async def request_refund(
    session: AsyncSession,
    *,
    receipt_id: UUID,
    amount: int,
    reason: str,
    by_hand: bool,
    limit: int,
    by: str,
    now: datetime,
    refund_id: UUID | None = None,
) -> Refund:
    """Reserve money on its receipt to be given back; see :func:`ask`."""
    refund, _ = await ask(
        session,
        receipt_id=receipt_id,
        amount=amount,
        reason=reason,
        by_hand=by_hand,
        limit=limit,
        by=by,
        now=now,
        refund_id=refund_id,
    )
    return refund


async def ask(
    session: AsyncSession,
    *,
    receipt_id: UUID,
    amount: int,
    reason: str,
    by_hand: bool,
    limit: int,
    by: str,
    now: datetime,
    refund_id: UUID | None = None,
) -> tuple[Refund, bool]:
    """Reserve money on its receipt to be given back; return the refund, and whether it is new.

    If more than ``limit`` đồng of the receipt go back with it, somebody else has to approve it first.  The same id
    again with the same content is the first refund, whatever became of it.  Raise :class:`RefundTooLarge`,
    :class:`ReceiptReversed`, ``IdTaken`` or ``NotFound``.
    """
    if amount <= 0:
        raise Invalid("A refund is of some money.", [FieldError("/amount", "above zero")])
    refund_id = refund_id or uuid4()
    try:
        async with session.begin_nested():
            attempt_id, promised = await _reserve(session, receipt_id, amount)
            by_hand = by_hand or attempt_id is None  # a provider only knows money that we asked it for
            small = promised <= limit  # together with what goes back already, or a large sum would go in small parts
            await session.execute(
                insert(Refund).values(
                    id=refund_id,
                    receipt_id=receipt_id,
                    reference=new_reference("HT"),
                    amount=amount,
                    reason=reason,
                    by_hand=by_hand,
                    status=RefundStatus.APPROVED if small else RefundStatus.WAITING,
                    requested_by=by,
                    requested_at=now,
                    approved_by=SMALL if small else None,
                    approved_at=now if small else None,
                    next_check_at=now if small and not by_hand else None,
                )
            )
    except (IntegrityError, DomainError) as error:
        if isinstance(error, IntegrityError) and violated(error) != "pk_refund":
            raise
        # Whoever sent this id before, or at the same moment, may be the one who took the money.
        known = await session.get(Refund, refund_id, populate_existing=True)
        if known is None:
            raise
        if (known.receipt_id, known.amount, known.reason, known.requested_by) != (receipt_id, amount, reason, by):
            raise IdTaken("This id belongs to another refund.") from None
        return known, False
    await session.get_one(Receipt, receipt_id, populate_existing=True)  # whoever holds it sees what is reserved
    refund = await session.get_one(Refund, refund_id)
    if refund.status is RefundStatus.APPROVED and not refund.by_hand:
        await defer(session, SEND, refund_id=str(refund_id))
    return refund, True


async def _reserve(session: AsyncSession, receipt_id: UUID, amount: int) -> tuple[UUID | None, int]:
    """Keep money of a receipt apart; return the attempt that it came by, if any, and how much of it goes back by now.

    The one statement looks and takes, so nobody comes in between.
    """
    taken = await session.execute(
        update(Receipt)
        .where(
            Receipt.id == receipt_id,
            Receipt.place != Place.REVERSED,
            Receipt.refunded + Receipt.reserved + amount <= Receipt.amount,
        )
        .values(reserved=Receipt.reserved + amount)
        .returning(Receipt.attempt_id, Receipt.refunded + Receipt.reserved)
        .execution_options(synchronize_session=False)
    )
    reserved = taken.one_or_none()
    if reserved is not None:
        return reserved
    left = (
        await session.execute(
            select(Receipt.place, Receipt.amount - Receipt.refunded - Receipt.reserved).where(Receipt.id == receipt_id)
        )
    ).first()
    if left is None:
        raise NotFound("There is no such receipt.")
    place, refundable = left
    if place is Place.REVERSED:
        raise ReceiptReversed("The money of this receipt never came.")
    raise RefundTooLarge(f"{amount} was asked for; {refundable} is left.", refundable=refundable)


async def approve(session: AsyncSession, refund_id: UUID, *, by: str, now: datetime) -> Refund:
    """Agree, as a second person, that money is given back; raise :class:`SamePerson` or :class:`RefundMoved`."""
    _, _, refund = await locked(session, refund_id)
    require(refund, RefundStatus.WAITING)
    try:
        async with session.begin_nested():
            await move(
                session,
                refund,
                RefundStatus.APPROVED,
                source=by,
                now=now,
                approved_by=by,
                approved_at=now,
                next_check_at=None if refund.by_hand else now,
            )
    except IntegrityError as error:
        if violated(error) != "ck_refund_four_eyes":
            raise
        raise SamePerson("You asked for this refund; somebody else approves it.") from None
    if not refund.by_hand:
        await defer(session, SEND, refund_id=str(refund_id))
    return refund


async def reject(session: AsyncSession, refund_id: UUID, *, by: str, now: datetime, reason: str = "") -> Refund:
    """Give up a refund that nobody has sent; its money is free again.  Raise :class:`RefundMoved`."""
    _, receipt, refund = await locked(session, refund_id)
    require(refund, RefundStatus.WAITING, RefundStatus.APPROVED)
    if refund.sent_at is not None:
        raise RefundMoved("The provider is being asked for this refund.", now=refund.status)
    await count(session, receipt, reserved=-refund.amount)
    await move(session, refund, RefundStatus.REJECTED, source=by, now=now, failure_code=reason or None)
    return refund


async def record_transfer(
    session: AsyncSession, refund_id: UUID, *, transaction: str, by: str, now: datetime
) -> Refund:
    """The treasury has transferred what the provider cannot give back; ``transaction`` is the bank's number.

    Raise :class:`NotByHand`, :class:`TransferKnown` or :class:`RefundMoved`.
    """
    bill, receipt, refund = await locked(session, refund_id)
    if not refund.by_hand:
        raise NotByHand("The provider gives this one back itself.")
    require(refund, RefundStatus.APPROVED)
    try:
        async with session.begin_nested():
            await succeed(session, bill, receipt, refund, transaction=transaction, source=by, now=now)
    except IntegrityError as error:
        if violated(error) != "uq_refund_transaction":
            raise
        raise TransferKnown("This transaction was recorded for another refund.") from None
    return refund


# --- sending, and what came of it ---------------------------------------------------------------------------------


class Question(Struct, frozen=True):
    """What to ask a provider about a refund: for it (``first``), or what came of it."""

    refund_id: UUID
    first: bool
    merchant: providers.Merchant
    order: RefundOrder


async def claim_question(
    session: AsyncSession, keyring: Keyring, refund_id: UUID, *, home: str, now: datetime
) -> Question | None:
    """Take what is to be asked next about a refund; None where nothing is, or somebody else is at it.

    That it is sent is on disk before it is: whoever finds it sent and without an outcome, after a crash say, asks what
    came of it and never for it again.
    """
    refund = await session.scalar(
        select(Refund)
        .where(Refund.id == refund_id)
        .with_for_update(skip_locked=True)
        .execution_options(populate_existing=True)
    )
    if refund is None or refund.by_hand or refund.next_check_at is None or refund.next_check_at > now:
        return None
    receipt = await session.get_one(Receipt, refund.receipt_id)
    merchant = await session.get_one(Merchant, receipt.merchant_id)
    if not await take_call(session, merchant.id, now):
        refund.next_check_at = now + next_check(0)
        await session.flush()
        return None
    first = refund.status is RefundStatus.APPROVED and refund.sent_at is None
    if first:
        refund.sent_at = now
        refund.next_check_at = now + CALL_LEASE
        await session.flush()
    else:
        if refund.status is RefundStatus.APPROVED:
            await move(session, refund, RefundStatus.UNKNOWN, source="clock", now=now, next_check_at=now)
        refund.checks += 1
        refund.next_check_at = now + max(CALL_LEASE, next_check(refund.checks))
        await session.flush()
    return Question(
        refund.id,
        first,
        await opened(session, keyring, merchant, home),
        await _order(session, refund, receipt, home=home),
    )


async def hear_refund(
    session: AsyncSession, about: UUID | str, finding: Finding, *, source: str, now: datetime
) -> Refund:
    """Take a provider's or a bank's word about a refund, by its id or its reference.  Safe to repeat, in any order.

    ``source`` is ``call``, ``inquiry`` or ``statement:203``.
    """
    bill, receipt, refund = await locked(session, about)
    if finding.outcome is Outcome.PAID:
        await given(session, bill, receipt, refund, finding, source=source, now=now)
    elif finding.outcome is Outcome.FAILED and is_out(refund):
        await fail(session, bill, receipt, refund, code=finding.code or "failed", source=source, now=now)
    elif finding.outcome is Outcome.PENDING and is_out(refund) and not refund.by_hand:
        if refund.status is not RefundStatus.PENDING:
            await move(session, refund, RefundStatus.PENDING, source=source, now=now, next_check_at=now + next_check(0))
    elif finding.outcome is Outcome.ABSENT and is_out(refund):
        await absent(session, bill, receipt, refund, source=source, now=now)
    return refund


async def put_off(session: AsyncSession, refund_id: UUID, *, now: datetime) -> None:
    """A question that broke us is asked much later, so that it does not stand before all others."""
    await session.execute(
        update(Refund)
        .where(Refund.id == refund_id, Refund.next_check_at <= now)
        .values(next_check_at=now + next_check(7))
        .execution_options(synchronize_session=False)
    )


async def record_unknown(session: AsyncSession, refund_id: UUID, *, source: str, now: datetime) -> Refund:
    """The provider was asked, and we do not know what came of it: from now on it is only asked about."""
    _, _, refund = await locked(session, refund_id)
    if refund.status is RefundStatus.APPROVED:
        await move(session, refund, RefundStatus.UNKNOWN, source=source, now=now, next_check_at=now + next_check(0))
    return refund


async def record_not_sent(session: AsyncSession, refund_id: UUID, *, now: datetime) -> Refund:
    """The provider was not reached: nothing was asked, and it is sent anew later."""
    _, _, refund = await locked(session, refund_id)
    if refund.status is RefundStatus.APPROVED:
        refund.sent_at = None
        refund.checks += 1
        refund.next_check_at = now + next_check(refund.checks)
        await session.flush()
    return refund


async def record_refused(session: AsyncSession, refund_id: UUID, *, code: str, now: datetime) -> Refund:
    """The provider said no, for certain."""
    bill, receipt, refund = await locked(session, refund_id)
    if is_out(refund):
        await fail(session, bill, receipt, refund, code=code, source="call", now=now)
    return refund


async def _order(session: AsyncSession, refund: Refund, receipt: Receipt, *, home: str) -> RefundOrder:
    """A refund as its provider wants it; the same whenever it is made.  Why it is given back stays with us."""
    order = await order_of(session, await session.get_one(PaymentAttempt, receipt.attempt_id), home=home)
    return RefundOrder(
        reference=refund.reference,
        amount=refund.amount,
        reason=f"Hoan tien {order.bill_code}",
        requested_at=refund.sent_at or refund.requested_at,  # ZaloPay takes only a refund of the day
        order=order,
        transaction="" if receipt.transaction.startswith(UNTOLD) else receipt.transaction,
        paid_at=receipt.received_at,
        full=refund.amount == receipt.amount,
    )
