"""Background jobs of payments.  Each is safe to repeat; what a lost one was to do, a sweeper finds."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import UUID

import structlog
from msgspec import Struct

from bkapp.config import Settings, load_settings
from bkapp.db import Sessions, open_engine, sessions_of
from bkapp.jobs import jobs, transaction
from bkapp.payments.flows import delivering, paying, refunding
from bkapp.payments.operations import keeping, ledger, reconciling
from bkapp.payments.posting import Poster
from bkapp.payments.providers.registry import Providers
from bkapp.sealing import Keyring

log = structlog.get_logger("bkapp.payments")


class _Desk(Struct, frozen=True):
    """What a job needs that speaks with somebody outside."""

    settings: Settings
    sessions: Sessions
    keyring: Keyring


@asynccontextmanager
async def _desk() -> AsyncIterator[_Desk | None]:
    """None where there are no keys for personal data, and so no payments."""
    settings = load_settings()
    if not settings.data_keys:
        yield None
        return
    engine = open_engine(settings.database_url, pool_size=5)
    try:
        yield _Desk(settings, sessions_of(engine), Keyring.parse(settings.data_keys, settings.lookup_key))
    finally:
        await engine.dispose()


@asynccontextmanager
async def _providers() -> AsyncIterator[Providers]:
    known = Providers()
    try:
        yield known
    finally:
        await known.close()


@jobs.periodic(cron="* * * * * */10")
@jobs.task(name="payments.sweep", pass_context=False, queueing_lock="payments.sweep")
async def sweep(timestamp: int) -> None:
    """Attempts and refunds whose next check is due are asked about."""
    async with _desk() as desk, _providers() as known:
        if desk is None:
            return
        home = desk.settings.base_url
        await paying.sweep(desk.sessions, known, desk.keyring, home=home, now=datetime.now(UTC))
        await refunding.sweep(desk.sessions, known, desk.keyring, home=home, now=datetime.now(UTC))


@jobs.task(name="payments.refund", pass_context=False)
async def send_refund(refund_id: str) -> None:
    """A refund that was agreed to is asked for."""
    async with _desk() as desk, _providers() as known:
        if desk is None:
            return
        await refunding.send(
            desk.sessions,
            known,
            desk.keyring,
            home=desk.settings.base_url,
            refund_id=UUID(refund_id),
            now=datetime.now(UTC),
        )


@jobs.task(name="payments.deliver", pass_context=False)
async def deliver(
    endpoint_id: str, bill_id: str | None = None, message_seq: int | None = None, asked_by: str | None = None
) -> None:
    """What an endpoint is to hear of a bill is delivered, in its order; or one message again, since somebody asked."""
    async with _desk() as desk:
        if desk is None:
            return
        async with Poster(demo=desk.settings.demo) as poster:
            await delivering.deliver(
                desk.sessions,
                desk.keyring,
                poster,
                endpoint_id=UUID(endpoint_id),
                bill_id=UUID(bill_id) if bill_id else None,
                message_seq=message_seq,
                asked_by=asked_by,
                now=datetime.now(UTC),
            )


@jobs.periodic(cron="* * * * * */10")
@jobs.task(name="payments.deliver_due", pass_context=False, queueing_lock="payments.deliver_due")
async def deliver_due(timestamp: int) -> None:
    """Messages whose next try is due are delivered."""
    async with _desk() as desk:
        if desk is None:
            return
        async with Poster(demo=desk.settings.demo) as poster:
            await delivering.sweep(desk.sessions, desk.keyring, poster, now=datetime.now(UTC))


@jobs.periodic(cron="23 23 * * *")  # 06:23 in Bắc Kạn, when the files of the day before are there
@jobs.task(name="payments.reconcile", pass_context=False)
async def reconcile_daily(timestamp: int) -> None:
    """What no file speaks of becomes a case, and missing files are told."""
    async with transaction() as session:
        await reconciling.daily(session, now=datetime.now(UTC))


@jobs.periodic(cron="37 * * * *")
@jobs.task(name="payments.verify_ledger", pass_context=False)
async def verify_ledger(timestamp: int) -> None:
    """The books are verified every hour; what is wrong with them is logged."""
    async with transaction() as session:
        await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        found = await ledger.verify(session)
        if found:
            log.error("ledger_broken", breaks=len(found), kind=found[0].kind, where=found[0].where)


@jobs.periodic(cron="11 19 * * *")
@jobs.task(name="payments.forget_letters", pass_context=False)
async def forget_letters(timestamp: int) -> None:
    """The content of old messages from providers is forgotten."""
    async with transaction() as session:
        await keeping.forget_letters(session, now=datetime.now(UTC))
