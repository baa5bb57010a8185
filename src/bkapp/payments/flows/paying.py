"""Paying: asking a provider, and finding out what came of it, between transactions of ours.

The intent is committed before anybody is asked.  Whoever dies after that leaves an attempt whose next check is due, and
a sweeper finds out by inquiry what became of it; nothing is ever asked for twice.
"""

import asyncio
from collections import defaultdict
from contextlib import suppress
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from msgspec import Struct
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from bkapp.db import Sessions
from bkapp.errors import NotFound
from bkapp.payments import providers
from bkapp.payments.flows import going_on
from bkapp.payments.models import Merchant, PaymentAttempt
from bkapp.payments.operations import attempts, evidence
from bkapp.payments.operations.attempts import GRACE
from bkapp.payments.operations.merchants import opened, opened_by_key
from bkapp.payments.providers import Finding, NoAnswer, NotSent, Order, Outcome, Refused
from bkapp.payments.providers.registry import Providers
from bkapp.payments.queries.orders import order_of
from bkapp.payments.rules import LIVE, AttemptStatus, Evidence, next_check
from bkapp.sealing import Keyring

log = structlog.get_logger("bkapp.payments")
AT_ONCE = 4  # questions to one merchant's provider, so that one that is slow has only those who wait for it wait
SWEEP_LASTS = timedelta(seconds=30)
"""How long a sweep goes on asking; what is left is due, and the next one's."""


class _Asked(Struct, frozen=True):
    """What is needed to ask about an attempt while no transaction is open."""

    row: Merchant
    merchant: providers.Merchant
    order: Order
    attempt: PaymentAttempt


async def start(
    sessions: Sessions,
    known: Providers,
    keyring: Keyring,
    *,
    home: str,
    bill_id: UUID,
    method: str,
    attempt_id: UUID,
    payer_ip: str,
    by: str,
    now: datetime,
) -> PaymentAttempt:
    """Start paying a bill with a method (the key of a merchant).

    The same ``attempt_id`` again is the same attempt, however far it is by now: one that nobody knows the outcome of is
    asked about and not begun again.
    """
    async with sessions.begin() as session:
        row, merchant = await opened_by_key(session, keyring, method, home)
        attempt, fresh = await attempts.open_attempt(session, bill_id, row, attempt_id=attempt_id, by=by, now=now)
        if fresh and not row.active:
            raise NotFound("There is no such payment method.")
        asked = _Asked(row, merchant, await order_of(session, attempt, home=home, payer_ip=payer_ip), attempt)
    if not fresh:
        if attempt.status in {AttemptStatus.CREATED, AttemptStatus.UNKNOWN}:
            return await look(sessions, known, keyring, home=home, attempt_id=attempt_id, due_only=True, now=now)
        return attempt
    # No transaction is open here: a slow provider must not hold our locks.
    try:
        begun = await known.of(row.provider).begin(asked.merchant, asked.order, now=now)
    except NotSent:
        async with sessions.begin() as session:
            return await attempts.record_refused(session, attempt.id, code="unreachable", now=now)
    except Refused as refused:
        async with sessions.begin() as session:
            return await attempts.record_refused(session, attempt.id, code=refused.code, now=now)
    except NoAnswer:
        log.warning("payment_call_unknown", merchant=row.key, attempt=str(attempt.id))
        async with sessions.begin() as session:
            return await attempts.record_unknown(session, attempt.id, source="call", now=now)
    async with sessions.begin() as session:
        return await attempts.record_begun(session, attempt.id, begun, now=now)


async def look(
    sessions: Sessions,
    known: Providers,
    keyring: Keyring,
    *,
    home: str,
    attempt_id: UUID,
    due_only: bool = False,
    now: datetime,
) -> PaymentAttempt:
    """Ask the provider what came of an attempt, if there is something to ask and the provider's budget allows.

    ``due_only``: only if its next check is due.  Raise ``NotFound``.
    """
    asked = None
    async with sessions.begin() as session:
        attempt = await attempts.claim_check(session, attempt_id, due_only=due_only, now=now)
        if attempt is not None:
            row = await session.get_one(Merchant, attempt.merchant_id)
            asked = _Asked(
                row, await opened(session, keyring, row, home), await order_of(session, attempt, home=home), attempt
            )
    if asked is None:
        made = await _as_it_is(sessions, attempt_id)
        if made.status in LIVE and made.expires_at + GRACE <= now:
            async with sessions.begin() as session:
                return await attempts.expire(session, attempt_id, now=now)
        return made
    if asked.attempt.status is AttemptStatus.CREATED:
        async with sessions.begin() as session:
            await attempts.record_unknown(session, attempt_id, source="clock", now=now)
    finding = await _ask(known, asked, now=now)
    async with sessions.begin() as session:
        _, attempt = await attempts.locked(session, attempt_id)
        if finding is not None and attempt.success > asked.attempt.success and finding.outcome is not Outcome.PAID:
            # It was said before the money came, of which we heard meanwhile; what is said after that counts.
            attempt.next_check_at = now + next_check(0)
        elif finding is not None:
            await evidence.hear(session, asked.row, finding, evidence=Evidence.INQUIRY, source="inquiry", now=now)
            await attempts.note_answered(session, attempt)
        if attempt.expires_at + (timedelta() if finding is not None else GRACE) <= now:
            await attempts.expire(session, attempt_id, now=now)
    return await _as_it_is(sessions, attempt_id)


async def _as_it_is(sessions: Sessions, attempt_id: UUID) -> PaymentAttempt:
    async with sessions() as session:
        attempt = await session.get(PaymentAttempt, attempt_id)
    if attempt is None:
        raise NotFound("There is no such attempt.")
    return attempt


async def _ask(known: Providers, asked: _Asked, *, now: datetime) -> Finding | None:
    try:
        return await known.of(asked.row.provider).inquire(asked.merchant, asked.order, now=now)
    except (NotSent, NoAnswer) as error:
        log.warning("payment_inquiry_failed", merchant=asked.row.key, kind=type(error).__name__)
        return None


async def returned(
    sessions: Sessions,
    known: Providers,
    keyring: Keyring,
    *,
    home: str,
    reference: str,
    query: bytes,
    now: datetime,
) -> PaymentAttempt:
    """The payer's browser came back.  What it brings is a hint at the most, so the provider is asked at once.

    Raise ``NotFound``.
    """
    async with sessions.begin() as session:
        attempt = await session.scalar(select(PaymentAttempt).where(PaymentAttempt.reference == reference))
        if attempt is None:
            raise NotFound("There is no such attempt.")
        row = await session.get_one(Merchant, attempt.merchant_id)
        merchant = await opened(session, keyring, row, home)
        finding = known.of(row.provider).came_back(merchant, query, now=now)
        if finding is not None and list(finding.references) == [reference]:
            await evidence.hear(session, row, finding, evidence=Evidence.HINT, source="return", now=now)
    if attempt.status is not AttemptStatus.SUCCEEDED:
        return await look(sessions, known, keyring, home=home, attempt_id=attempt.id, now=now)
    return await _as_it_is(sessions, attempt.id)


async def sweep(
    sessions: Sessions, known: Providers, keyring: Keyring, *, home: str, now: datetime, limit: int = 200
) -> int:
    """Ask about the attempts whose check is due, for as long as a sweep lasts; return about how many."""
    clock = going_on(now)
    until = now + SWEEP_LASTS
    async with sessions.begin() as session:
        waiting = await attempts.due(session, now=now, limit=limit)
    gates: dict[UUID, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(AT_ONCE))

    async def one(attempt_id: UUID, merchant_id: UUID) -> bool:
        async with gates[merchant_id]:
            if clock() >= until:
                return False
            try:
                await look(sessions, known, keyring, home=home, attempt_id=attempt_id, due_only=True, now=clock())
            except Exception:
                # One that cannot be asked about must not stop the others, nor stand before them each time.
                log.exception("payment_check_failed", attempt=str(attempt_id))
                with suppress(SQLAlchemyError):
                    async with sessions.begin() as session:
                        await attempts.put_off(session, attempt_id, now=clock())
            return True

    return sum(await asyncio.gather(*(one(*each) for each in waiting)))
