"""Money that came: placing it on its bill or in suspense, taking that back, and what follows from either.

Whoever calls holds the locks of the bill and of the attempt, if there are any.
"""

from contextlib import suppress
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Struct
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.db import adopt, carry_out, remember
from bkapp.errors import DomainError, NotFound
from bkapp.jobs import defer
from bkapp.payments.models import Bill, LedgerTransaction, Merchant, PaymentAttempt, Receipt, Refund
from bkapp.payments.operations import ledger, outgoing, refunds
from bkapp.payments.operations.cases import close_cases, open_case
from bkapp.payments.operations.payers import tell_payer
from bkapp.payments.operations.refund_moves import RefundMoved
from bkapp.payments.providers import REFUNDING
from bkapp.payments.rules import (
    AUTOMATIC_REFUND,
    BillStatus,
    CaseKind,
    Evidence,
    Place,
    RefundStatus,
)

AUTOMATIC = "payments.automatic"
"""Who asks for the refund of what was paid twice, or for a bill that was cancelled."""


class NotInSuspense(DomainError):
    """The money is not in suspense, or some of it was given back already."""

    code = "receipt_not_in_suspense"
    title = "Khoản tiền này không còn ở tài khoản chờ xử lý"


class DoesNotFit(DomainError):
    """The money is not what the bill asks, or the bill is not open."""

    code = "receipt_does_not_fit"
    title = "Khoản tiền không khớp với khoản phải nộp"


class Taken(Struct, frozen=True):
    """The receipt of money that came, and whether it is new."""

    receipt: Receipt
    new: bool


async def credit(
    session: AsyncSession,
    merchant: Merchant,
    *,
    attempt: PaymentAttempt | None,
    bill: Bill | None,
    transaction: str | None,
    amount: int,
    evidence: Evidence,
    source: str,
    received_at: datetime,
    now: datetime,
) -> tuple[Receipt, bool]:
    """Take money that came, and let it stand where it belongs; return its receipt, and whether it is new or counts
    again."""
    taken = await take(
        session,
        merchant,
        attempt=attempt,
        bill=bill,
        transaction=transaction,
        amount=amount,
        evidence=evidence,
        source=source,
        received_at=received_at,
    )
    counts = await place(session, merchant, taken, attempt=attempt, bill=bill, amount=amount, source=source, now=now)
    return taken.receipt, counts


async def take(
    session: AsyncSession,
    merchant: Merchant,
    *,
    attempt: PaymentAttempt | None,
    bill: Bill | None,
    transaction: str | None,
    amount: int,
    evidence: Evidence,
    source: str,
    received_at: datetime,
    stands: bool = True,
) -> Taken:
    """The receipt of money that came, new or known; :func:`place` says what follows from it.

    Once for each transaction of the merchant: a repeat only strengthens the evidence.  A message that names no
    transaction is about the attempt's money that we have, if we have it.  Money that stronger evidence denies
    (``stands`` is false) is noted, and counts for nothing until evidence as strong says otherwise.
    """
    new = await _receive(
        session,
        told=transaction is not None,
        reference=None if attempt is None else f"ref:{attempt.reference}",
        merchant_id=merchant.id,
        transaction=transaction or (f"ref:{attempt.reference}" if attempt is not None else f"source:{source}"),
        attempt_id=attempt.id if attempt else None,
        bill_id=bill.id if bill else None,
        amount=amount,
        place=_place_of(_misfit(amount, bill, attempt)) if stands else Place.REVERSED,
        evidence=evidence,
        received_at=received_at,
    )
    if new is not None:
        return Taken(new, new=True)
    known = await _known(session, merchant, attempt, transaction, amount)
    assert known is not None, "a receipt that stands in the way can be found"
    known.evidence = max(known.evidence, evidence)
    await session.flush()
    return Taken(known, new=False)


def speaks_of(receipt: Receipt, attempt: PaymentAttempt | None, bill: Bill | None, amount: int) -> bool:
    """Whether what is told of an attempt or a bill can be about a receipt: its money is nobody else's, and as much."""
    if attempt is not None and receipt.attempt_id is not None:
        return receipt.attempt_id == attempt.id and receipt.amount == amount
    return (bill is None or receipt.bill_id in {None, bill.id}) and receipt.amount == amount


async def place(
    session: AsyncSession,
    merchant: Merchant,
    taken: Taken,
    *,
    attempt: PaymentAttempt | None,
    bill: Bill | None,
    amount: int,
    source: str,
    stands: bool = True,
    now: datetime,
) -> bool:
    """Let money that was taken pay its bill, or stand in suspense; return whether it is new or counts again."""
    receipt = taken.receipt
    misfit = _misfit(amount, bill, attempt)
    if taken.new:
        if stands:
            await _settle(session, merchant, receipt, bill, misfit, now=now)
        return stands
    if not speaks_of(receipt, attempt, bill, amount):
        await _open_difference(session, merchant, receipt, attempt, bill, amount, source, now=now)
        return False
    if attempt is not None and receipt.attempt_id is None:
        receipt.attempt_id = attempt.id
        await session.flush()
    if receipt.place is Place.REVERSED and stands:
        await _place(session, merchant, receipt, bill, attempt, now=now)
        return True
    if receipt.place is not Place.SUSPENSE or receipt.bill_id is not None or bill is None:
        return False
    # It was nobody's until now.
    receipt.bill_id = bill.id
    await session.flush()
    if receipt.refunded or receipt.reserved:
        return False  # somebody has decided about it
    if misfit is None:
        await _apply(session, receipt, bill, by="payments", now=now)
    else:
        await close_cases(session, receipt_id=receipt.id, by="payments", outcome="identified", now=now)
        await _suspend(session, merchant, receipt, bill, misfit, now=now)
    return True


async def _open_difference(
    session: AsyncSession,
    merchant: Merchant,
    receipt: Receipt,
    attempt: PaymentAttempt | None,
    bill: Bill | None,
    amount: int,
    source: str,
    *,
    now: datetime,
) -> None:
    """One transaction is told of as two amounts, or of two payers' money: somebody has to find out."""
    whose, kind = (receipt.bill_id, receipt.attempt_id), CaseKind.STATUS
    if receipt.amount != amount:
        kind = CaseKind.AMOUNT if receipt.place is not Place.SUSPENSE else CaseKind.STATUS
        detail = f"{receipt.amount} before, {amount} now ({source})"
    else:
        whose = (bill.id if bill else None, attempt.id if attempt else None)
        detail = f"the transaction of receipt {receipt.number}, which is of another payment ({source})"
    await open_case(
        session,
        kind,
        now=now,
        merchant_id=merchant.id,
        bill_id=whose[0],
        attempt_id=whose[1],
        receipt_id=receipt.id,
        detail=detail,
    )


async def revive(
    session: AsyncSession, merchant: Merchant, bill: Bill, attempt: PaymentAttempt, *, now: datetime
) -> None:
    """An attempt's money was denied, or noted after it was, and now counts after all."""
    denied = await session.scalars(
        select(Receipt)
        .where(Receipt.attempt_id == attempt.id, Receipt.place == Place.REVERSED, Receipt.amount == attempt.amount)
        .order_by(Receipt.number)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    for receipt in denied.all():
        await _place(session, merchant, receipt, bill, attempt, now=now)


async def _known(
    session: AsyncSession, merchant: Merchant, attempt: PaymentAttempt | None, transaction: str | None, amount: int
) -> Receipt | None:
    statement = select(Receipt).where(Receipt.merchant_id == merchant.id)
    lock = {"populate_existing": True}
    if transaction is not None:
        found = await session.scalar(
            statement.where(Receipt.transaction == transaction).with_for_update().execution_options(**lock)
        )
        if found is not None or attempt is None:
            return found
        # What we took before anybody told its number.
        unnamed = await session.scalar(
            statement.where(Receipt.transaction == f"ref:{attempt.reference}", Receipt.amount == amount)
            .with_for_update()
            .execution_options(**lock)
        )
        if unnamed is not None:
            unnamed.transaction = transaction
        return unnamed
    if attempt is None:
        return None
    return await session.scalar(
        statement.where(Receipt.attempt_id == attempt.id, Receipt.amount == amount)
        .order_by(Receipt.number)
        .limit(1)
        .with_for_update()
        .execution_options(**lock)
    )


# What is known already is not taken again: a transaction by its number, and the money of an attempt while either side
# of the two does not name one.
_RECEIVE = """
    INSERT INTO receipt (merchant_id, transaction, attempt_id, bill_id, amount, place, evidence, received_at)
    SELECT %(merchant_id)s, %(transaction)s, %(attempt_id)s, %(bill_id)s, %(amount)s, %(place)s, %(evidence)s,
        %(received_at)s
    WHERE NOT EXISTS (
        SELECT FROM receipt WHERE merchant_id = %(merchant_id)s AND attempt_id = %(attempt_id)s AND amount = %(amount)s
            AND (transaction = %(reference)s OR NOT %(told)s))
    ON CONFLICT (merchant_id, transaction) DO NOTHING RETURNING id, number, created_at"""


async def _receive(session: AsyncSession, *, told: bool, reference: str | None, **values: Any) -> Receipt | None:
    """A new receipt; None where there is one of this money."""
    made = await carry_out(session, _RECEIVE, {"told": told, "reference": reference, **values})
    if not made:
        return None
    [(new_id, number, created_at)] = made
    receipt = Receipt(id=new_id, number=number, refunded=0, reserved=0, created_at=created_at, **values)
    adopt(session, receipt)
    return receipt


def _misfit(amount: int, bill: Bill | None, attempt: PaymentAttempt | None) -> CaseKind | None:
    """Why money cannot pay the bill; None where it does."""
    if bill is None:
        return CaseKind.UNIDENTIFIED
    if amount != bill.amount or (attempt is not None and amount != attempt.amount):
        return CaseKind.AMOUNT
    if bill.status is BillStatus.CANCELLED:
        return CaseKind.CLOSED_BILL
    return CaseKind.DUPLICATE if bill.status is BillStatus.PAID else None


def _place_of(misfit: CaseKind | None) -> Place:
    return Place.APPLIED if misfit is None else Place.SUSPENSE


async def _place(
    session: AsyncSession,
    merchant: Merchant,
    receipt: Receipt,
    bill: Bill | None,
    attempt: PaymentAttempt | None,
    *,
    now: datetime,
) -> None:
    """Let money that was denied pay its bill after all, or stand in suspense with a case."""
    misfit = _misfit(receipt.amount, bill, attempt)
    receipt.place = _place_of(misfit)
    await session.flush()
    await _settle(session, merchant, receipt, bill, misfit, now=now)


async def _settle(
    session: AsyncSession,
    merchant: Merchant,
    receipt: Receipt,
    bill: Bill | None,
    misfit: CaseKind | None,
    *,
    now: datetime,
) -> None:
    """What follows from where money stands: its bill is paid, or there is a case; and the ledger says so."""
    subject = f"receipt:{receipt.id}"
    taken = (ledger.clearing(merchant.key), receipt.amount)
    if misfit is None:
        assert bill is not None
        await _pay(session, bill, receipt, now=now)
        owed = (ledger.payable(bill.beneficiary_id), -receipt.amount)
        await ledger.post(session, "receipt", [taken, owed], subject=subject, receipt_id=receipt.id)
        return
    await _suspend(session, merchant, receipt, bill, misfit, now=now)
    entries = [taken, (ledger.SUSPENSE, -receipt.amount)]
    await ledger.post(session, "receipt", entries, subject=subject, receipt_id=receipt.id)


async def _suspend(
    session: AsyncSession, merchant: Merchant, receipt: Receipt, bill: Bill | None, misfit: CaseKind, *, now: datetime
) -> None:
    """Money stands in suspense: there is a case, its payer is told, and what was paid in vain goes back."""
    case = await open_case(
        session,
        misfit,
        now=now,
        merchant_id=merchant.id,
        bill_id=receipt.bill_id,
        attempt_id=receipt.attempt_id,
        receipt_id=receipt.id,
    )
    if bill is not None:
        told = {"receipt": receipt.number, "amount": receipt.amount, "reason": misfit, "due_at": case.due_at}
        await outgoing.tell(session, kind="money.suspended", bill_id=bill.id, data=told, now=now)
        await tell_payer(session, bill, "money_suspended")
    if misfit in {CaseKind.DUPLICATE, CaseKind.CLOSED_BILL}:
        await refunds.request_refund(
            session,
            receipt_id=receipt.id,
            amount=receipt.amount,
            reason=misfit,
            by_hand=merchant.provider not in REFUNDING,
            limit=AUTOMATIC_REFUND,
            by=AUTOMATIC,
            now=now,
        )


_PAY = "UPDATE bill SET status = %(status)s, paid_at = %(paid_at)s, version = %(version)s WHERE id = %(id)s"


async def _pay(session: AsyncSession, bill: Bill, receipt: Receipt, *, now: datetime) -> None:
    paid = {"status": BillStatus.PAID, "paid_at": receipt.received_at, "version": bill.version + 1}
    await carry_out(session, _PAY, {"id": bill.id, **paid})
    remember(bill, **paid)
    told = {"receipt": receipt.number, "amount": receipt.amount, "paid_at": receipt.received_at}
    await outgoing.tell(session, kind="bill.paid", bill_id=bill.id, data=told, now=now)
    await tell_payer(session, bill, "bill_paid")
    if bill.on_paid is not None:
        await defer(session, bill.on_paid, bill_id=str(bill.id))


async def _apply(session: AsyncSession, receipt: Receipt, bill: Bill, *, by: str, now: datetime) -> None:
    """Money in suspense pays a bill."""
    receipt.place = Place.APPLIED
    receipt.bill_id = bill.id
    await session.flush()
    await close_cases(session, receipt_id=receipt.id, by=by, outcome="applied", now=now)
    await _pay(session, bill, receipt, now=now)
    entries = [(ledger.SUSPENSE, receipt.amount), (ledger.payable(bill.beneficiary_id), -receipt.amount)]
    await ledger.post(session, "apply", entries, subject=f"receipt:{receipt.id}", receipt_id=receipt.id)


async def apply_receipt(session: AsyncSession, receipt_id: UUID, bill_id: UUID, *, by: str, now: datetime) -> Receipt:
    """Let money in suspense pay a bill; raise ``NotFound``, :class:`NotInSuspense` or :class:`DoesNotFit`."""
    bill = await session.get(Bill, bill_id, with_for_update=True, populate_existing=True)
    receipt = await session.get(Receipt, receipt_id, with_for_update=True, populate_existing=True)
    if bill is None or receipt is None:
        raise NotFound("There is no such bill, or no such receipt.")
    if receipt.place is not Place.SUSPENSE or receipt.refunded or receipt.reserved:
        raise NotInSuspense("The money is not in suspense, or some of it goes back.")
    if bill.status is not BillStatus.OPEN or bill.amount != receipt.amount:
        raise DoesNotFit(f"The bill is {bill.status} and asks {bill.amount}; the money is {receipt.amount}.")
    await _apply(session, receipt, bill, by=by, now=now)
    return receipt


async def deny(session: AsyncSession, bill: Bill, attempt: PaymentAttempt, *, source: str, now: datetime) -> None:
    """Stronger evidence says that an attempt's money never came: take it back from wherever it stands.

    What was partly given back, or pays another bill since somebody decided so, cannot be: that is a conflict for
    somebody to settle.  Money of another amount than the attempt's was never its success, and stays.
    """
    held = await session.scalars(
        select(Receipt)
        .where(Receipt.attempt_id == attempt.id, Receipt.place != Place.REVERSED, Receipt.amount == attempt.amount)
        .order_by(Receipt.number)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    posted: list[int] = []
    for receipt in held.all():
        await _withdraw(session, receipt, now=now)
        if receipt.refunded or receipt.reserved or receipt.bill_id != bill.id:
            await open_case(
                session,
                CaseKind.CONFLICT,
                now=now,
                merchant_id=receipt.merchant_id,
                bill_id=receipt.bill_id,
                attempt_id=attempt.id,
                receipt_id=receipt.id,
                detail=f"denied by {source}",
            )
            continue
        posted += await _standing_posts(session, receipt.id)
        was_applied = receipt.place is Place.APPLIED
        receipt.place = Place.REVERSED
        await session.flush()
        await close_cases(session, receipt_id=receipt.id, by="payments", outcome="denied", now=now)
        if was_applied:
            bill.status, bill.paid_at = BillStatus.OPEN, None
            bill.version += 1
            await session.flush()
            await outgoing.tell(
                session, kind="bill.reopened", bill_id=bill.id, data={"receipt": receipt.number}, now=now
            )
    if bill.status is BillStatus.OPEN:
        await _heir(session, bill, now=now)  # which locks, and so comes before the ledger
    for seq in posted:
        await ledger.reverse(session, seq, subject=f"attempt:{attempt.id}")


async def _standing_posts(session: AsyncSession, receipt_id: UUID) -> list[int]:
    """What the ledger says of a receipt's place and has not taken back."""
    taken_back = select(LedgerTransaction.reverses).where(
        LedgerTransaction.receipt_id == receipt_id, LedgerTransaction.reverses.is_not(None)
    )
    found = await session.scalars(
        select(LedgerTransaction.seq)
        .where(
            LedgerTransaction.receipt_id == receipt_id,
            LedgerTransaction.kind.in_(("receipt", "apply")),
            LedgerTransaction.seq.not_in(taken_back),
        )
        .order_by(LedgerTransaction.seq)
    )
    return list(found)


async def _withdraw(session: AsyncSession, receipt: Receipt, *, now: datetime) -> None:
    """Give up refunds that we asked for ourselves and that nobody has sent."""
    ours = await session.scalars(
        select(Refund.id).where(
            Refund.receipt_id == receipt.id,
            Refund.requested_by == AUTOMATIC,
            Refund.sent_at.is_(None),
            Refund.status.in_({RefundStatus.WAITING, RefundStatus.APPROVED}),
        )
    )
    for refund_id in ours.all():
        with suppress(RefundMoved):  # it was sent at this moment
            await refunds.reject(session, refund_id, by="payments", now=now)
    await session.refresh(receipt, with_for_update=True)


async def _heir(session: AsyncSession, bill: Bill, *, now: datetime) -> None:
    """A bill whose money was denied is paid by other money that came for it, if there is some."""
    waiting = await session.scalars(
        select(Receipt)
        .where(Receipt.bill_id == bill.id, Receipt.place == Place.SUSPENSE, Receipt.amount == bill.amount)
        .order_by(Receipt.number)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    for receipt in waiting.all():
        await _withdraw(session, receipt, now=now)
        if not receipt.refunded and not receipt.reserved:
            await _apply(session, receipt, bill, by="payments", now=now)
            return


async def strengthen(session: AsyncSession, receipt_id: UUID, evidence: Evidence) -> None:
    """Remember the strongest word for money that we have."""
    await session.execute(
        update(Receipt)
        .where(Receipt.id == receipt_id, Receipt.evidence < evidence)
        .values(evidence=evidence)
        .execution_options(synchronize_session=False)
    )
