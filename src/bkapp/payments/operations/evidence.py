"""What a provider or a bank says of an order, and what follows from it."""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.payments.models import Bill, Merchant, PaymentAttempt
from bkapp.payments.operations.attempts import locked, locked_by_reference, move, standing_of
from bkapp.payments.operations.cases import close_doubts, open_case
from bkapp.payments.operations.money import deny, place, revive, speaks_of, take
from bkapp.payments.providers import Finding, Outcome, Verdict
from bkapp.payments.rules import LIVE, PROOF, AttemptStatus, CaseKind, Evidence


async def hear(
    session: AsyncSession,
    merchant: Merchant,
    finding: Finding,
    *,
    evidence: Evidence,
    source: str,
    now: datetime,
) -> Verdict:
    """Take the word of a merchant's provider, as strong as ``evidence``; return what we made of it.

    Safe to repeat, and in any order: words only add up.  A word for success counts when its amount is the one we asked;
    other money that came is kept in suspense.
    """
    bill, attempt = await about(session, merchant, finding)
    return await weigh(session, merchant, bill, attempt, finding, evidence=evidence, source=source, now=now)


async def weigh(
    session: AsyncSession,
    merchant: Merchant,
    bill: Bill | None,
    attempt: PaymentAttempt | None,
    finding: Finding,
    *,
    evidence: Evidence,
    source: str,
    now: datetime,
) -> Verdict:
    """:func:`hear` for what is locked already; ``bill`` and ``attempt`` are what :func:`about` found."""
    if finding.outcome is Outcome.PAID:
        return await _paid(session, merchant, bill, attempt, finding, evidence=evidence, source=source, now=now)
    if attempt is None or bill is None:
        return Verdict.NO_ORDER
    before, standing = attempt.status, standing_of(attempt)
    if finding.outcome is Outcome.FAILED and finding.amount not in {None, attempt.amount}:
        return Verdict.WRONG_AMOUNT
    if finding.outcome is Outcome.FAILED:
        heard = standing.hear(failure=evidence)
    elif finding.outcome is Outcome.ABSENT:
        # Only where we do not know whether we asked does this say anything: there was nothing that could be paid.
        lost = before in {AttemptStatus.CREATED, AttemptStatus.UNKNOWN}
        heard = standing.hear(failure=Evidence.HINT) if lost else standing
    else:
        heard = standing.reach(AttemptStatus.PENDING)
    if heard == standing:
        return Verdict.KNOWN
    if finding.outcome is not Outcome.PENDING and heard.status is AttemptStatus.FAILED:
        attempt.failure_code = finding.code or finding.outcome
    moved = await move(session, bill, attempt, heard, source=source, now=now)
    if before is AttemptStatus.SUCCEEDED and moved:
        # It may be an older try that this is about, so the provider is asked before anybody believes it for long.
        attempt.next_check_at = now
        await deny(session, bill, attempt, source=source, now=now)
    return Verdict.TAKEN if moved else Verdict.KNOWN


async def about(
    session: AsyncSession, merchant: Merchant, finding: Finding
) -> tuple[Bill | None, PaymentAttempt | None]:
    """The bill and the attempt of a finding, locked.  A transfer may name several; only if they agree is it clear."""
    references = list(finding.references)
    if not references:
        return None, None
    if len(references) == 1:
        found = await locked_by_reference(session, merchant.id, references[0])
        if found is not None or merchant.provider != "vietqr":
            return found or (None, None)
    attempts = (
        await session.execute(
            select(PaymentAttempt.id, PaymentAttempt.bill_id, PaymentAttempt.merchant_id).where(
                PaymentAttempt.reference.in_(references)
            )
        )
    ).all()
    own = [row for row in attempts if row.merchant_id == merchant.id]
    if len(own) == 1:
        return await locked(session, own[0].id)
    if merchant.provider == "paygov" and not attempts:
        # The platform calls what it took on its own page by what it was told of the bill: the dossier's code.
        offered = await session.scalars(
            select(PaymentAttempt.id)
            .join(Bill, Bill.id == PaymentAttempt.bill_id)
            .where(PaymentAttempt.merchant_id == merchant.id, Bill.dossier_code.in_(references))
            .order_by(PaymentAttempt.status.in_(LIVE).desc(), PaymentAttempt.created_at.desc())
            .limit(1)
        )
        known = offered.one_or_none()
        return (None, None) if known is None else await locked(session, known)
    if merchant.provider != "vietqr":
        return None, None
    # People type what they find: the code of a bill, or of an attempt that was to be made another way.
    bills = {row.bill_id for row in attempts}
    bills |= set(await session.scalars(select(Bill.id).where(Bill.code.in_(references))))
    if len(bills) != 1:
        return None, None
    return await session.get(Bill, bills.pop(), with_for_update=True, populate_existing=True), None


async def _paid(
    session: AsyncSession,
    merchant: Merchant,
    bill: Bill | None,
    attempt: PaymentAttempt | None,
    finding: Finding,
    *,
    evidence: Evidence,
    source: str,
    now: datetime,
) -> Verdict:
    if bill is None and merchant.provider != "vietqr" and evidence < Evidence.INQUIRY:
        return Verdict.NO_ORDER
    if evidence < PROOF:
        await _hint(session, attempt, now=now)
        return Verdict.KNOWN
    if finding.amount is None or finding.amount == 0:
        if attempt is not None:
            detail = f"paid, without an amount ({source})"
            await open_case(session, CaseKind.STATUS, now=now, attempt_id=attempt.id, detail=detail)
        return Verdict.WRONG_AMOUNT
    heard = None
    if attempt is not None and finding.amount == attempt.amount:
        heard = standing_of(attempt).hear(success=evidence)
    stands = heard is None or heard.status is AttemptStatus.SUCCEEDED
    taken = await take(
        session,
        merchant,
        attempt=attempt,
        bill=bill,
        transaction=finding.transaction,
        amount=finding.amount,
        evidence=evidence,
        source=source,
        received_at=finding.at or now,
        stands=stands,
    )
    moved = False
    if heard is not None and attempt is not None and bill is not None:
        # Money of somebody else, or of another amount, is no success of this attempt.
        if speaks_of(taken.receipt, attempt, bill, finding.amount):
            moved = await move(session, bill, attempt, heard, source=source, now=now)
        if not stands:
            await _doubt(session, bill, attempt, source, now=now)
    counts = await place(
        session,
        merchant,
        taken,
        attempt=attempt,
        bill=bill,
        amount=finding.amount,
        source=source,
        stands=stands,
        now=now,
    )
    if moved and attempt is not None and bill is not None and attempt.failure:
        await revive(session, merchant, bill, attempt, now=now)
        await close_doubts(session, attempt_id=attempt.id, by="payments", outcome="paid", now=now)
    if bill is None:
        return Verdict.NO_ORDER if counts else Verdict.KNOWN
    if finding.amount != (attempt or bill).amount:
        return Verdict.WRONG_AMOUNT
    return Verdict.TAKEN if moved or counts else Verdict.KNOWN


async def _hint(session: AsyncSession, attempt: PaymentAttempt | None, *, now: datetime) -> None:
    """Somebody who proves nothing says that an attempt was paid: so there is something to ask, whatever was said."""
    if attempt is not None and attempt.status is not AttemptStatus.SUCCEEDED and attempt.next_check_at is None:
        attempt.next_check_at = now
        await session.flush()


async def _doubt(session: AsyncSession, bill: Bill, attempt: PaymentAttempt, source: str, *, now: datetime) -> None:
    """A stronger word says that an attempt failed which somebody says was paid: ask the provider, and tell somebody."""
    attempt.next_check_at = now
    await open_case(
        session, CaseKind.STATUS, now=now, bill_id=bill.id, attempt_id=attempt.id, detail=f"paid says {source}"
    )
