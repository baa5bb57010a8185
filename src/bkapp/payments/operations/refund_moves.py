"""How a refund moves, and what moves with it: the money of its receipt, cases, the ledger, who is told.

Whoever calls holds the locks of :func:`locked`.
"""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.errors import DomainError, NotFound
from bkapp.payments.models import Bill, Merchant, PaymentCase, Receipt, Refund, RefundEvent
from bkapp.payments.operations import ledger, outgoing
from bkapp.payments.operations.cases import HOLDING, open_case
from bkapp.payments.operations.payers import tell_payer
from bkapp.payments.providers import Finding
from bkapp.payments.rules import REFUND_EDGES, RESERVING, CaseKind, Place, RefundStatus, next_check

ITSELF = "payments"
"""Who closes cases that are settled by what happens."""
ARRIVES = timedelta(minutes=30)
"""After this long a refund of which the provider knows nothing has not reached it, and will not."""
TOLD = "refund_succeeded"
"""The notice to the payer; its data are ``bill`` (an id) and ``refund`` (its reference)."""


class RefundMoved(DomainError):
    """The refund is not, or is no more, where this can be done; ``now`` is its status."""

    code = "refund_moved"
    title = "Khoản hoàn tiền không còn ở bước cho phép việc này"


async def locked(session: AsyncSession, about: UUID | str) -> tuple[Bill | None, Receipt, Refund]:
    """A refund with its receipt and the bill that this is for, all locked; raise ``NotFound``."""
    await session.flush()
    named = Refund.id == about if isinstance(about, UUID) else Refund.reference == about
    ids = (
        await session.execute(
            select(Refund.id, Receipt.id, Receipt.bill_id).join(Receipt, Receipt.id == Refund.receipt_id).where(named)
        )
    ).first()
    if ids is None:
        raise NotFound("There is no such refund.")
    refund_id, receipt_id, bill_id = ids
    bill = None
    if bill_id is not None:
        bill = await session.get_one(Bill, bill_id, with_for_update=True, populate_existing=True)
    receipt = await session.get_one(Receipt, receipt_id, with_for_update=True, populate_existing=True)
    return bill, receipt, await session.get_one(Refund, refund_id, with_for_update=True, populate_existing=True)


async def move(
    session: AsyncSession, refund: Refund, to: RefundStatus, *, source: str, now: datetime, **changes: Any
) -> None:
    """Let a refund become what it may become, if it is still what we think it is, and write that down.

    ``source`` is on whose word: who decided, or ``call``, ``inquiry``, ``clock``, ``statement:203``.
    """
    start = refund.status
    if to not in REFUND_EDGES[start]:
        raise RefundMoved(f"A {start} refund cannot become {to}.", now=start)
    values = {"next_check_at": None, **changes, "settled_at": None if to in RESERVING else now}
    moved = await session.scalar(
        update(Refund)
        .where(Refund.id == refund.id, Refund.status == start, Refund.version == refund.version)
        .values(status=to, version=Refund.version + 1, **values)
        .returning(Refund)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    if moved is None:
        raise RefundMoved("Somebody else decided about this refund at the same moment.", now=start)
    session.add(
        RefundEvent(refund_id=moved.id, version=moved.version, at=now, start=start.value, end=to.value, source=source)
    )
    await session.flush()


def require(refund: Refund, *allowed: RefundStatus) -> None:
    if refund.status not in allowed:
        raise RefundMoved(f"The refund is {refund.status}.", now=refund.status)


def is_out(refund: Refund) -> bool:
    """Whether somebody was asked for it, and we wait for what comes of it."""
    if refund.status is RefundStatus.APPROVED:
        return refund.by_hand or refund.sent_at is not None
    return refund.status in {RefundStatus.UNKNOWN, RefundStatus.PENDING}


async def given(
    session: AsyncSession,
    bill: Bill | None,
    receipt: Receipt,
    refund: Refund,
    finding: Finding,
    *,
    source: str,
    now: datetime,
) -> None:
    """Somebody says that the money went back."""
    if refund.status is RefundStatus.SUCCEEDED:
        refund.transaction = refund.transaction or finding.transaction
        await session.flush()
        return
    if refund.status in {RefundStatus.WAITING, RefundStatus.REJECTED}:
        await _doubt(session, receipt, refund, f"{source} says it went back, and nobody sent it", now=now)
        return
    if finding.amount is not None and finding.amount != refund.amount:
        await _doubt(session, receipt, refund, f"{source} says that {finding.amount} went back", now=now)
        if refund.status is RefundStatus.APPROVED and not refund.by_hand:
            await move(session, refund, RefundStatus.UNKNOWN, source=source, now=now, next_check_at=now + next_check(0))
        return
    await succeed(session, bill, receipt, refund, transaction=finding.transaction, source=source, now=now)


async def absent(
    session: AsyncSession, bill: Bill | None, receipt: Receipt, refund: Refund, *, source: str, now: datetime
) -> None:
    """The provider knows nothing of a refund that we sent, perhaps: too early to tell, or it never arrived."""
    if refund.by_hand or refund.sent_at is None:
        return
    late = now - refund.sent_at >= ARRIVES
    if refund.status is RefundStatus.PENDING:
        # It was known there before.  To give up now would promise the money twice.
        if late:
            await _doubt(session, receipt, refund, f"{source} knows nothing of it any more", now=now)
    elif late:
        await fail(session, bill, receipt, refund, code="absent", source=source, now=now)
    elif refund.status is RefundStatus.APPROVED:
        await move(session, refund, RefundStatus.UNKNOWN, source=source, now=now, next_check_at=now + next_check(0))


async def succeed(
    session: AsyncSession,
    bill: Bill | None,
    receipt: Receipt,
    refund: Refund,
    *,
    transaction: str | None,
    source: str,
    now: datetime,
) -> None:
    """The money went back.  What we took for failed and turns out done is taken anew, if there is enough left."""
    late = refund.status is RefundStatus.FAILED
    if late and not await _take_anew(session, receipt, refund.amount):
        await open_case(
            session,
            CaseKind.OVERREFUND,
            now=now,
            merchant_id=receipt.merchant_id,
            bill_id=receipt.bill_id,
            receipt_id=receipt.id,
            refund_id=refund.id,
        )
        return
    if not late:
        await count(session, receipt, reserved=-refund.amount, refunded=refund.amount)
    await move(
        session, refund, RefundStatus.SUCCEEDED, source=source, now=now, transaction=transaction or refund.transaction
    )
    if late:
        await _close(session, PaymentCase.refund_id == refund.id, {CaseKind.REFUND_FAILED}, now=now)
    if receipt.refunded == receipt.amount:
        settled = {CaseKind.REFUND_FAILED, *(HOLDING if receipt.place is Place.SUSPENSE else ())}
        await _close(session, PaymentCase.receipt_id == receipt.id, settled, now=now)
    if bill is not None:
        await _tell(session, bill, receipt, refund, now=now)
        await tell_payer(session, bill, TOLD, refund=refund.reference)
    merchant = await session.get_one(Merchant, receipt.merchant_id)
    owed = ledger.SUSPENSE
    if receipt.place is Place.APPLIED and receipt.bill_id is not None:
        # The bill of the receipt as it is now locked: it may have been applied since the bill was looked up.
        owed = ledger.payable((await session.get_one(Bill, receipt.bill_id)).beneficiary_id)
    await ledger.post(
        session,
        "refund",
        [(owed, refund.amount), (ledger.clearing(merchant.key), -refund.amount)],
        subject=f"refund:{refund.id}",
        receipt_id=receipt.id,
        refund_id=refund.id,
    )


async def fail(
    session: AsyncSession,
    bill: Bill | None,
    receipt: Receipt,
    refund: Refund,
    *,
    code: str,
    source: str,
    now: datetime,
) -> None:
    """The money did not go back: it is free again, and somebody has to see to it."""
    await count(session, receipt, reserved=-refund.amount)
    await move(session, refund, RefundStatus.FAILED, source=source, now=now, failure_code=code)
    await open_case(
        session,
        CaseKind.REFUND_FAILED,
        now=now,
        merchant_id=receipt.merchant_id,
        bill_id=receipt.bill_id,
        receipt_id=receipt.id,
        refund_id=refund.id,
        detail=code,
    )
    if bill is not None:
        await _tell(session, bill, receipt, refund, now=now)


async def _doubt(session: AsyncSession, receipt: Receipt, refund: Refund, detail: str, *, now: datetime) -> None:
    await open_case(
        session,
        CaseKind.STATUS,
        now=now,
        merchant_id=receipt.merchant_id,
        bill_id=receipt.bill_id,
        receipt_id=receipt.id,
        refund_id=refund.id,
        detail=detail,
    )


async def _tell(session: AsyncSession, bill: Bill, receipt: Receipt, refund: Refund, *, now: datetime) -> None:
    told = {"refund": refund.reference, "receipt": receipt.number, "amount": refund.amount}
    await outgoing.tell(session, kind=f"refund.{refund.status}", bill_id=bill.id, data=told, now=now)


async def _close(
    session: AsyncSession, about: ColumnElement[bool], kinds: Collection[CaseKind], *, now: datetime
) -> None:
    """Close what is settled now that the money went back.  Other cases of it are not: money that left twice, say."""
    await session.execute(
        update(PaymentCase)
        .where(about, PaymentCase.kind.in_(kinds), PaymentCase.closed_at.is_(None))
        .values(closed_at=now, closed_by=ITSELF, outcome="refunded")
        .execution_options(synchronize_session=False)
    )


async def count(session: AsyncSession, receipt: Receipt, *, reserved: int = 0, refunded: int = 0) -> None:
    await session.execute(
        update(Receipt)
        .where(Receipt.id == receipt.id)
        .values(reserved=Receipt.reserved + reserved, refunded=Receipt.refunded + refunded)
        .returning(Receipt)
        .execution_options(synchronize_session=False, populate_existing=True)
    )


async def _take_anew(session: AsyncSession, receipt: Receipt, amount: int) -> bool:
    """Count money as given back whose reservation was released, if as much is left."""
    taken = await session.scalar(
        update(Receipt)
        .where(
            Receipt.id == receipt.id,
            Receipt.place != Place.REVERSED,
            Receipt.refunded + Receipt.reserved + amount <= Receipt.amount,
        )
        .values(refunded=Receipt.refunded + amount)
        .returning(Receipt)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    return taken is not None
