"""Attempts at paying: opening one, what came of asking the provider, giving up.

Every move of an attempt goes through :func:`move`, with the rows of its bill and itself locked.
"""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.db import adopt, carry_out, remember
from bkapp.errors import DomainError, NotFound
from bkapp.payments.models import Bill, Merchant, PaymentAttempt
from bkapp.payments.operations import outgoing
from bkapp.payments.operations.merchants import take_call
from bkapp.payments.providers import Begun
from bkapp.payments.references import new_reference
from bkapp.payments.rules import (
    ATTEMPT_LASTS,
    CALL_LEASE,
    EVENTS,
    LATE_CHECKS,
    LIVE,
    TRANSFER_LASTS,
    AttemptStatus,
    BillStatus,
    Evidence,
    Standing,
    next_check,
)

GRACE = timedelta(minutes=5)
"""How long after an attempt's time nobody may have answered before it counts as expired all the same."""
AT_MOST_EVERY = timedelta(seconds=5)
"""How often the same attempt is asked about, however often its payer comes back."""


class AlreadyBeingPaid(DomainError):
    """The bill has an attempt under way: finish that one, or abandon it first."""

    code = "bill_already_being_paid"
    title = "Khoản này đang được thanh toán theo một cách khác"


class BillSettled(DomainError):
    """The bill is paid or was cancelled."""

    code = "bill_settled"
    title = "Khoản này đã được thanh toán hoặc đã hủy"


class IdTaken(DomainError):
    """The id that the client made belongs to something else."""

    code = "id_taken"
    title = "Mã yêu cầu này đã được dùng cho việc khác"


class AttemptOver(DomainError):
    """The attempt has ended; nothing of it can be abandoned."""

    code = "attempt_over"
    title = "Lần thanh toán này đã kết thúc"


# PostgreSQL locks in the order of OF: the bill first, as everywhere.
_LOCKED = (
    select(Bill, PaymentAttempt)
    .join(PaymentAttempt, PaymentAttempt.bill_id == Bill.id)
    .with_for_update(of=(Bill, PaymentAttempt))
    .execution_options(populate_existing=True)
)
_BY_ID = _LOCKED.where(PaymentAttempt.id == bindparam("id"))
_BY_REFERENCE = _LOCKED.where(
    PaymentAttempt.merchant_id == bindparam("merchant_id"), PaymentAttempt.reference == bindparam("reference")
)


async def locked(session: AsyncSession, attempt_id: UUID) -> tuple[Bill, PaymentAttempt]:
    """An attempt and its bill, both locked; raise ``NotFound``."""
    found = (await session.execute(_BY_ID, {"id": attempt_id})).one_or_none()
    if found is None:
        raise NotFound("There is no such attempt.")
    return found[0], found[1]


async def locked_by_reference(
    session: AsyncSession, merchant_id: UUID, reference: str
) -> tuple[Bill, PaymentAttempt] | None:
    """The attempt that a merchant's provider knows by a reference and its bill, both locked."""
    named = {"merchant_id": merchant_id, "reference": reference}
    found = (await session.execute(_BY_REFERENCE, named)).one_or_none()
    return None if found is None else (found[0], found[1])


async def open_attempt(
    session: AsyncSession, bill_id: UUID, merchant: Merchant, *, attempt_id: UUID, by: str, now: datetime
) -> tuple[PaymentAttempt, bool]:
    """Mean to pay a bill through a merchant; return the attempt and whether it is new.

    The same id again is the same attempt.  Raise :class:`BillSettled`, :class:`AlreadyBeingPaid` (with the attempt that
    is under way) or :class:`IdTaken`.
    """
    bill = await session.get(Bill, bill_id, with_for_update=True, populate_existing=True)
    if bill is not None and bill.status is BillStatus.OPEN:
        made = await _insert(session, bill, merchant, attempt_id, by, now)
        if made is not None:
            return made, True
    known = await session.get(PaymentAttempt, attempt_id)
    if known is not None:
        if known.bill_id != bill_id or known.merchant_id != merchant.id:
            raise IdTaken("This id belongs to another attempt.")
        return known, False
    if bill is None:
        raise NotFound("There is no such bill.")
    if bill.status is not BillStatus.OPEN:
        raise BillSettled(f"The bill is {bill.status}.")
    live = await session.scalar(
        select(PaymentAttempt.id).where(PaymentAttempt.bill_id == bill.id, PaymentAttempt.status.in_(LIVE))
    )
    raise AlreadyBeingPaid("This bill is already being paid.", attempt_id=str(live))


_INSERT = """
    INSERT INTO payment_attempt (id, bill_id, merchant_id, reference, amount, status, reached, created_at, created_by,
        expires_at, next_check_at)
    VALUES (%(id)s, %(bill_id)s, %(merchant_id)s, %(reference)s, %(amount)s, %(status)s, %(reached)s, %(created_at)s,
        %(created_by)s, %(expires_at)s, %(next_check_at)s)
    ON CONFLICT DO NOTHING RETURNING id"""


async def _insert(
    session: AsyncSession, bill: Bill, merchant: Merchant, attempt_id: UUID, by: str, now: datetime
) -> PaymentAttempt | None:
    """A new attempt; None where there is one with this id, or the bill (locked) has one under way."""
    values = {
        "id": attempt_id,
        "bill_id": bill.id,
        "merchant_id": merchant.id,
        "reference": new_reference("TT"),
        "amount": bill.amount,
        "status": AttemptStatus.CREATED,
        "reached": AttemptStatus.CREATED,
        "created_at": now,
        "created_by": by,
        "expires_at": now + (TRANSFER_LASTS if merchant.provider == "vietqr" else ATTEMPT_LASTS),
        "next_check_at": now + CALL_LEASE,
    }
    if not await carry_out(session, _INSERT, values):
        return None
    unset = dict.fromkeys(("settled_at", "redirect_url", "qr", "token", "failure_code"))
    attempt = PaymentAttempt(**values, **unset, success=0, failure=0, version=1, checks=0)
    adopt(session, attempt)
    return attempt


def standing_of(attempt: PaymentAttempt) -> Standing:
    """What an attempt's status follows from."""
    return Standing(attempt.reached, Evidence(attempt.success), Evidence(attempt.failure))


# What changes in an attempt's life, and why it moved: a move and its event are one statement.
_CHANGING = (
    "reached",
    "success",
    "failure",
    "status",
    "version",
    "next_check_at",
    "checks",
    "settled_at",
    "redirect_url",
    "qr",
    "token",
    "failure_code",
)
_MOVE = f"""
    WITH moved AS (
        UPDATE payment_attempt SET {", ".join(f"{name} = %({name})s" for name in _CHANGING)} WHERE id = %(id)s)
    INSERT INTO payment_event (attempt_id, version, at, event, start, "end", evidence, source)
    VALUES (%(id)s, %(version)s, %(now)s, %(event)s, %(start)s, %(end)s, %(heard)s, %(source)s)"""


async def move(
    session: AsyncSession, bill: Bill, attempt: PaymentAttempt, standing: Standing, *, source: str, now: datetime
) -> bool:
    """Let an attempt (locked) stand where it now stands; return whether its status changed.

    ``source`` says on whose word: ``inbox:17``, ``inquiry``, ``statement:203``, ``call``, ``clock`` or ``payer``.
    """
    before, after = attempt.status, standing.status
    heard = max(standing.success - attempt.success, 0) and standing.success
    heard = heard or (standing.failure if standing.failure > attempt.failure else Evidence.NONE)
    if before is after:
        attempt.reached, attempt.success, attempt.failure = standing.reached, standing.success, standing.failure
        await session.flush()
        return False
    values: dict[str, Any] = {name: getattr(attempt, name) for name in _CHANGING}
    values |= {"reached": standing.reached, "success": standing.success, "failure": standing.failure}
    values |= {"status": after, "version": attempt.version + 1, "settled_at": None if after in LIVE else now}
    if after not in LIVE:
        # Whoever pays late pays all the same, also after their browser said that it failed: so it is still asked about,
        # ever more seldom.
        doubtful = after is AttemptStatus.EXPIRED or (source == "return" and standing.failure is Evidence.HINT)
        values["next_check_at"] = now + next_check(4) if doubtful else None
    event = EVENTS[before, after]
    why = {"now": now, "event": event, "start": before, "end": after, "heard": heard, "source": source}
    await carry_out(session, _MOVE, {"id": attempt.id, **values, **why})
    remember(attempt, **values)
    if after in {AttemptStatus.SUCCEEDED, AttemptStatus.FAILED}:
        await outgoing.tell(
            session,
            kind=f"payment.{after}",
            bill_id=bill.id,
            data={"attempt": str(attempt.id), "reference": attempt.reference, "amount": attempt.amount, "event": event},
            now=now,
        )
    return True


async def record_begun(session: AsyncSession, attempt_id: UUID, begun: Begun, *, now: datetime) -> PaymentAttempt:
    """The provider waits for the payer.  A message that overtook its answer stands."""
    bill, attempt = await locked(session, attempt_id)
    attempt.redirect_url = attempt.redirect_url or begun.redirect_url
    attempt.qr = attempt.qr or begun.qr
    attempt.token = attempt.token or begun.token
    if attempt.status in LIVE:
        attempt.next_check_at = now + next_check(attempt.checks)
    await move(session, bill, attempt, standing_of(attempt).reach(AttemptStatus.PENDING), source="call", now=now)
    return attempt


async def record_unknown(session: AsyncSession, attempt_id: UUID, *, source: str, now: datetime) -> PaymentAttempt:
    """The provider was asked, perhaps, and we do not know what came of it: from now on it is only asked about."""
    bill, attempt = await locked(session, attempt_id)
    if attempt.status is AttemptStatus.CREATED:
        attempt.next_check_at = now + next_check(0)
        await move(session, bill, attempt, standing_of(attempt).reach(AttemptStatus.UNKNOWN), source=source, now=now)
    return attempt


async def record_refused(session: AsyncSession, attempt_id: UUID, *, code: str, now: datetime) -> PaymentAttempt:
    """The provider said no, or was not reached: nothing was begun there."""
    bill, attempt = await locked(session, attempt_id)
    attempt.failure_code = attempt.failure_code or code
    await move(session, bill, attempt, standing_of(attempt).hear(failure=Evidence.HINT), source="call", now=now)
    return attempt


async def abandon(session: AsyncSession, attempt_id: UUID, *, by: str, now: datetime) -> PaymentAttempt:
    """The payer chooses another way.  Money that comes all the same is taken; raise :class:`AttemptOver`.

    Safe to repeat.
    """
    bill, attempt = await locked(session, attempt_id)
    if attempt.status is AttemptStatus.EXPIRED:
        return attempt
    if attempt.status not in LIVE:
        raise AttemptOver(f"The attempt is {attempt.status}.")
    attempt.failure_code = "abandoned"
    source = "payer" if by == attempt.created_by else "office"
    await move(session, bill, attempt, standing_of(attempt).reach(AttemptStatus.EXPIRED), source=source, now=now)
    return attempt


async def expire(session: AsyncSession, attempt_id: UUID, *, now: datetime) -> PaymentAttempt:
    """Nobody paid in time."""
    bill, attempt = await locked(session, attempt_id)
    if attempt.status in LIVE and attempt.expires_at <= now:
        await move(session, bill, attempt, standing_of(attempt).reach(AttemptStatus.EXPIRED), source="clock", now=now)
    return attempt


async def claim_check(
    session: AsyncSession, attempt_id: UUID, *, due_only: bool, now: datetime
) -> PaymentAttempt | None:
    """Take the next question about an attempt.

    None where there is nothing to ask, somebody else just took it, or the provider's budget is used up.
    """
    attempt = await session.scalar(
        select(PaymentAttempt)
        .where(PaymentAttempt.id == attempt_id)
        .with_for_update(skip_locked=True)
        .execution_options(populate_existing=True)
    )
    if attempt is None or attempt.next_check_at is None:
        return None
    if attempt.next_check_at > now:
        just_asked = attempt.checks > 0 and attempt.next_check_at - _wait(attempt, now) > now - AT_MOST_EVERY
        # Whoever created one is still asking.
        if due_only or just_asked or attempt.status is AttemptStatus.CREATED:
            return None
    if not await take_call(session, attempt.merchant_id, now):
        attempt.next_check_at = max(attempt.next_check_at, now + next_check(0))
        await session.flush()
        return None
    attempt.checks += 1
    last = attempt.status not in LIVE and attempt.expires_at + LATE_CHECKS < now
    attempt.next_check_at = None if last else now + _wait(attempt, now)
    await session.flush()
    return attempt


def _wait(attempt: PaymentAttempt, now: datetime) -> timedelta:
    """How long to wait before asking again: not beyond when it is over; and of what is over longer, the longer ago that
    was."""
    if attempt.settled_at is not None:
        return max(next_check(4), (now - attempt.settled_at) / 4)
    over = attempt.expires_at + GRACE - now
    return min(next_check(attempt.checks), over) if over > timedelta() else next_check(attempt.checks)


async def put_off(session: AsyncSession, attempt_id: UUID, *, now: datetime) -> None:
    """A question that broke us is asked much later, so that it does not stand before all others."""
    await session.execute(
        update(PaymentAttempt)
        .where(PaymentAttempt.id == attempt_id, PaymentAttempt.next_check_at <= now)
        .values(next_check_at=now + next_check(7))
        .execution_options(synchronize_session=False)
    )


async def note_answered(session: AsyncSession, attempt: PaymentAttempt) -> None:
    """The provider told us of an attempt (locked) when we asked: where that decides, there is nothing more to ask."""
    decisive = {AttemptStatus.SUCCEEDED: attempt.success, AttemptStatus.FAILED: attempt.failure}
    if decisive.get(attempt.status, Evidence.NONE) >= Evidence.INQUIRY:
        attempt.next_check_at = None
        await session.flush()


async def due(session: AsyncSession, *, now: datetime, limit: int) -> list[tuple[UUID, UUID]]:
    """Attempts that are to be asked about, each with its merchant: of every merchant as many, those that somebody may
    wait for and those waiting longest first."""
    order = (PaymentAttempt.status.in_(LIVE).desc(), PaymentAttempt.next_check_at)
    place = func.row_number().over(partition_by=PaymentAttempt.merchant_id, order_by=order)
    waiting = (
        select(PaymentAttempt.id, PaymentAttempt.merchant_id, place.label("place"))
        .where(PaymentAttempt.next_check_at <= now)
        .subquery()
    )
    found = await session.execute(
        select(waiting.c.id, waiting.c.merchant_id).order_by(waiting.c.place, waiting.c.id).limit(limit)
    )
    return [(attempt_id, merchant_id) for attempt_id, merchant_id in found]
