"""What offices do about refunds, cases and money in suspense: who may, and each act in the audit chain, last of all."""

from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.operations import Caller, OutsideScope
from bkapp.audit.operations import append
from bkapp.errors import DomainError, Forbidden, NotFound
from bkapp.payments.models import PaymentCase, Receipt, Refund
from bkapp.payments.operations import money, refunds
from bkapp.payments.operations.cases import HOLDING
from bkapp.payments.operations.refunds import RefundTooLarge
from bkapp.payments.operations.showing import is_own, require_office
from bkapp.payments.providers import REFUNDING
from bkapp.payments.queries import bills
from bkapp.payments.queries import refunds as queries
from bkapp.payments.queries.refunds import CaseDetails, RefundDetails
from bkapp.payments.rules import Place


class OwnRefund(Forbidden):
    """Nobody gives money back to themselves in the name of an office; a colleague does."""

    code = "own_refund"
    title = "Cán bộ không tự xử lý việc hoàn tiền cho chính mình"


class CaseClosed(DomainError):
    """The case is closed."""

    code = "case_closed"
    title = "Vụ việc này đã được khép lại"


class CaseHoldsMoney(DomainError):
    """The money of this case is still in suspense; give it back or apply it to a bill, which closes the case."""

    code = "case_holds_money"
    title = "Khoản tiền của vụ việc còn ở tài khoản chờ xử lý, cần hoàn lại hoặc ghi vào khoản phải nộp"


async def ask_refund(
    session: AsyncSession,
    caller: Caller,
    *,
    receipt_id: UUID,
    amount: int | None,
    reason: str,
    limit: int,
    refund_id: UUID | None,
    now: datetime,
) -> RefundDetails:
    """Ask for money to be given back, all that is left of the receipt if no amount is said."""
    about = await queries.receipt_facts(session, receipt_id)
    if about is None:
        raise NotFound("There is no such receipt.")
    await _require_desk(session, caller, about.bill_id)
    if amount is None:
        known = None if refund_id is None else await session.get(Refund, refund_id)
        amount = about.left if known is None else known.amount
        if amount == 0:
            raise RefundTooLarge("Nothing is left of this receipt.", refundable=0)
    refund, new = await refunds.ask(
        session,
        receipt_id=receipt_id,
        amount=amount,
        reason=reason,
        by_hand=about.provider not in REFUNDING,
        limit=limit,
        by=caller.id,
        now=now,
        refund_id=refund_id,
    )
    if new:
        await _log(session, "refund_requested", caller, refund)
    return await _details(session, refund.id)


async def seen_refund(session: AsyncSession, caller: Caller, refund_id: UUID) -> RefundDetails:
    """A refund of a bill whose unit the caller reaches."""
    found = await queries.refund(session, refund_id)
    if found is None:
        raise NotFound("There is no such refund.")
    if found.bill_id is None:
        _require_province(caller)
    else:
        bill = await bills.bill(session, found.bill_id)
        assert bill is not None, "a receipt's bill is there"
        require_office(caller, bill)
    return found


async def approve_refund(session: AsyncSession, caller: Caller, refund_id: UUID, *, now: datetime) -> RefundDetails:
    """Agree, as a second person."""
    await _require_other(session, caller, refund_id)
    refund = await refunds.approve(session, refund_id, by=caller.id, now=now)
    await _log(session, "refund_approved", caller, refund)
    return await _details(session, refund_id)


async def reject_refund(
    session: AsyncSession, caller: Caller, refund_id: UUID, *, reason: str, now: datetime
) -> RefundDetails:
    """Give up a refund that is not sent."""
    refund = await refunds.reject(session, refund_id, by=caller.id, now=now, reason=reason)
    await _log(session, "refund_rejected", caller, refund)
    return await _details(session, refund_id)


async def record_transfer(
    session: AsyncSession, caller: Caller, refund_id: UUID, *, transaction: str, now: datetime
) -> RefundDetails:
    """The treasury has transferred the money."""
    await _require_other(session, caller, refund_id)
    refund = await refunds.record_transfer(session, refund_id, transaction=transaction, by=caller.id, now=now)
    await _log(session, "refund_transferred", caller, refund)
    return await _details(session, refund_id)


async def close_case(
    session: AsyncSession, caller: Caller, case_id: UUID, *, outcome: str, now: datetime
) -> CaseDetails:
    """Say that a case is settled.  One whose money is in suspense is closed by what becomes of that, and not before."""
    case = await session.get(PaymentCase, case_id, with_for_update=True, populate_existing=True)
    if case is None:
        raise NotFound("There is no such case.")
    if case.closed_at is not None:
        raise CaseClosed("The case was closed before.", outcome=case.outcome)
    if case.kind in HOLDING and case.receipt_id is not None:
        receipt = await session.get_one(Receipt, case.receipt_id, populate_existing=True)
        if receipt.place is Place.SUSPENSE and receipt.refunded < receipt.amount:
            raise CaseHoldsMoney("The money is in suspense.", receipt_id=str(receipt.id))
    case.closed_at, case.closed_by, case.outcome = now, caller.id, outcome
    await session.flush()
    found = await queries.case(session, case_id)
    assert found is not None, "the case is there"
    await append(session, kind="payment_case_closed", actor=caller.id, subject=str(case_id), case=case.kind.value)
    return found


async def apply_receipt(
    session: AsyncSession, caller: Caller, receipt_id: UUID, bill_id: UUID, *, now: datetime
) -> Receipt:
    """Let money in suspense pay a bill."""
    receipt = await money.apply_receipt(session, receipt_id, bill_id, by=caller.id, now=now)
    await append(session, kind="receipt_applied", actor=caller.id, subject=str(receipt_id), bill=str(bill_id))
    return receipt


async def _require_desk(session: AsyncSession, caller: Caller, bill_id: UUID | None) -> None:
    """Refuse whoever does not see to the bill, or owes it; money of no bill is the province's."""
    if bill_id is None:
        _require_province(caller)
        return
    bill = await bills.bill(session, bill_id)
    assert bill is not None, "a receipt's bill is there"
    require_office(caller, bill)
    if is_own(caller, bill):
        raise OwnRefund("Somebody else sees to money that goes back to you.")


def _require_province(caller: Caller) -> None:
    if caller.unit_ids is not None:
        raise OutsideScope("This money is of no bill; the province sees to it.")


async def _require_other(session: AsyncSession, caller: Caller, refund_id: UUID) -> None:
    found = await queries.refund(session, refund_id)
    if found is None:
        raise NotFound("There is no such refund.")
    await _require_desk(session, caller, found.bill_id)


async def _details(session: AsyncSession, refund_id: UUID) -> RefundDetails:
    found = await queries.refund(session, refund_id)
    assert found is not None, "the refund is there"
    return found


async def _log(session: AsyncSession, kind: str, caller: Caller, refund: Refund) -> None:
    await append(
        session,
        kind=kind,
        actor=caller.id,
        subject=str(refund.id),
        receipt=str(refund.receipt_id),
        amount=refund.amount,
        status=refund.status.value,
    )
