"""Giving money back: asking a provider for it, and what came of it, between transactions of ours.

That a refund is sent is committed before it is, so it is asked for once.  Where the answer does not come, or we die
before it is written down, the provider is asked what came of it, until it tells.
"""

import asyncio
from contextlib import suppress
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError

from bkapp.db import Sessions
from bkapp.payments.flows import going_on
from bkapp.payments.models import Refund
from bkapp.payments.operations import refunds
from bkapp.payments.operations.refunds import Question
from bkapp.payments.providers import NoAnswer, NotSent, Refused
from bkapp.payments.providers import Refunds as Refunding
from bkapp.payments.providers.registry import Providers
from bkapp.payments.queries.refunds import due_refunds
from bkapp.sealing import Keyring

SWEEP_LASTS = timedelta(seconds=30)
"""How long a sweep goes on asking; what is left is due, and the next one's."""

log = structlog.get_logger("bkapp.payments")


async def send(
    sessions: Sessions, known: Providers, keyring: Keyring, *, home: str, refund_id: UUID, now: datetime
) -> Refund | None:
    """Send an approved refund to its provider, or ask what came of one that was sent.

    Safe to repeat: None where there is nothing to ask by now, somebody else is at it, or the provider's budget is used
    up.
    """
    async with sessions.begin() as session:
        question = await refunds.claim_question(session, keyring, refund_id, home=home, now=now)
    if question is None:
        return None
    provider = known.refunds(question.merchant.provider)
    if provider is None:
        raise LookupError(f"{question.merchant.provider} gives nothing back itself")
    # No transaction is open from here until the answer: a slow provider must not hold our locks.
    if question.first:
        return await _ask_for_it(sessions, provider, question, now=now)
    try:
        finding = await provider.inquire_refund(question.merchant, question.order, now=now)
    except (NotSent, NoAnswer) as error:
        log.warning("refund_inquiry_failed", merchant=question.merchant.key, kind=type(error).__name__)
        return None
    async with sessions.begin() as session:
        return await refunds.hear_refund(session, refund_id, finding, source="inquiry", now=now)


async def _ask_for_it(sessions: Sessions, provider: Refunding, question: Question, *, now: datetime) -> Refund:
    try:
        finding = await provider.refund(question.merchant, question.order, now=now)
    except NotSent:
        log.warning("refund_not_sent", merchant=question.merchant.key, refund=str(question.refund_id))
        async with sessions.begin() as session:
            return await refunds.record_not_sent(session, question.refund_id, now=now)
    except Refused as refused:
        async with sessions.begin() as session:
            return await refunds.record_refused(session, question.refund_id, code=refused.code, now=now)
    except NoAnswer:
        log.warning("refund_call_unknown", merchant=question.merchant.key, refund=str(question.refund_id))
        async with sessions.begin() as session:
            return await refunds.record_unknown(session, question.refund_id, source="call", now=now)
    async with sessions.begin() as session:
        return await refunds.hear_refund(session, question.refund_id, finding, source="call", now=now)


async def sweep(
    sessions: Sessions, known: Providers, keyring: Keyring, *, home: str, now: datetime, limit: int = 50
) -> int:
    """Send, or ask about, the refunds that are due, for as long as a sweep lasts; return how many that were."""
    clock = going_on(now)
    until = now + SWEEP_LASTS
    async with sessions.begin() as session:
        waiting = await due_refunds(session, now=now, limit=limit)
    gate = asyncio.Semaphore(4)

    async def one(refund_id: UUID) -> bool:
        async with gate:
            if clock() >= until:
                return False
            try:
                await send(sessions, known, keyring, home=home, refund_id=refund_id, now=clock())
            except Exception:
                # One that cannot be asked about must not stop the others, nor stand before them each time.
                log.exception("refund_failed_to_send", refund=str(refund_id))
                with suppress(SQLAlchemyError):
                    async with sessions.begin() as session:
                        await refunds.put_off(session, refund_id, now=clock())
            return True

    return sum(await asyncio.gather(*(one(refund_id) for refund_id in waiting)))
