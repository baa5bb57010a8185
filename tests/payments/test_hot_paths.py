"""What was made quick about messages is as careful as before."""

import asyncio
from datetime import UTC, datetime

import pytest
from httpx import AsyncClient
from sqlalchemy import func, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.db import open_engine, sessions_of
from bkapp.errors import NotFound
from bkapp.payments.flows import receiving
from bkapp.payments.models import Merchant, MerchantSecret, PaymentAttempt, Receipt, WebhookInbox
from bkapp.payments.operations import attempts, merchants
from bkapp.payments.providers import Call
from bkapp.payments.providers.registry import Providers
from tests.identity.make import KEYRING
from tests.payments import make
from tests.payments.test_bank_credit import CREDIT, notification
from tests.payments.test_hooks import HOOK, SECRET, attempt, ipn

__all__ = ["attempt"]  # the fixture
HOME = "https://app.example.vn"


async def test_a_secret_is_believed_no_more_as_soon_as_it_is_retired(
    client: AsyncClient, session: AsyncSession, attempt: PaymentAttempt
) -> None:
    row = await session.get_one(Merchant, attempt.merchant_id)
    failed = {"vnp_ResponseCode": "24", "vnp_TransactionStatus": "02"}
    old = (await session.scalars(select(MerchantSecret.id))).one()
    assert (await client.get(f"{HOOK}?{ipn(attempt, **failed)}")).json()["RspCode"] == "00"

    await merchants.add_secret(session, KEYRING, row, purpose="hash", secret="newer", by="test")
    await session.commit()
    assert (await client.get(f"{HOOK}?{ipn(attempt, secret='newer', **failed)}")).json()["RspCode"] == "02"
    await merchants.retire_secret(session, row, old, by="test", now=datetime.now(UTC))
    await session.commit()

    assert (await client.get(f"{HOOK}?{ipn(attempt, secret=SECRET)}")).json()["RspCode"] == "97"
    assert (await client.get(f"{HOOK}?{ipn(attempt, secret='newer')}")).json()["RspCode"] == "00"


async def test_a_merchant_is_opened_anew_when_something_of_it_changes(session: AsyncSession) -> None:
    row = await make.a_merchant(session, secrets={"hash": SECRET})
    await session.flush()

    first, opened = await merchants.opened_by_key(session, KEYRING, "vnpay", HOME)
    again, same = await merchants.opened_by_key(session, KEYRING, "vnpay", HOME)
    assert (first.id, opened.secrets, opened.code) == (row.id, {"hash": [SECRET]}, "BACKAN01")
    assert again is first
    assert same is opened
    assert (await merchants.opened_by_key(session, KEYRING, "vnpay", "https://other.vn"))[1].home == "https://other.vn"
    async with session.begin_nested():
        found = await session.get_one(Merchant, row.id)
        found.code, found.allowed_ips = "BACKAN02", ["10.0.0.0/8"]
    changed, reopened = await merchants.opened_by_key(session, KEYRING, "vnpay", HOME)
    assert (changed.allowed_ips, reopened.code) == (["10.0.0.0/8"], "BACKAN02")
    with pytest.raises(NotFound):
        await merchants.opened_by_key(session, KEYRING, "nobody", HOME)


async def test_the_same_message_at_the_same_moment_is_taken_once(own_database: str) -> None:
    """Also where it is about no bill that the first could lock."""
    engine = open_engine(own_database, pool_size=4)
    sessions, known = sessions_of(engine), Providers()
    async with sessions.begin() as session:
        await make.a_merchant(session, provider="vietqr", secrets={"checksum": "s3cret"})
    now = datetime(2026, 3, 15, 3, 15, 30, tzinfo=UTC)

    async def told(description: str) -> bytes:
        body = notification({**CREDIT, "description": description})
        call = Call(method="POST", what="", query=b"", headers={}, body=body)
        answer = await receiving.receive(
            sessions, known, KEYRING, merchant_key="vietqr", call=call, home=HOME, remote_ip="192.0.2.1", now=now
        )
        return answer.body

    try:
        await told("khong ro")
        again = [await asyncio.gather(*(told(f"khong ro, lan {turn}") for _ in range(4))) for turn in range(5)]
        async with sessions() as session:
            counted = select(WebhookInbox.outcome, func.count()).group_by(WebhookInbox.outcome)
            outcomes = {row[0]: row[1] for row in await session.execute(counted)}
            assert await session.scalar(select(func.count()).select_from(Receipt)) == 1
        assert outcomes == {"noted": 6, "duplicate": 15}
        assert len({body for turn in again for body in turn}) == 1
    finally:
        await known.close()
        await engine.dispose()


async def test_the_bill_is_locked_before_its_attempt_and_both_are_as_they_are_by_then(own_database: str) -> None:
    engine = open_engine(own_database, pool_size=4)
    sessions = sessions_of(engine)
    async with sessions.begin() as session:
        merchant = await make.a_merchant(session)
        made = await make.an_attempt(session, await make.a_bill(session), merchant)

    async def lock() -> tuple[int, int]:
        async with sessions.begin() as session:
            bill, attempt = await attempts.locked(session, made.id)
            return bill.version, attempt.checks

    async def is_waited_for(session: AsyncSession) -> None:
        waits = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        for _ in range(1000):
            if (await session.execute(text(waits))).all():
                return
            await session.rollback()  # in one transaction it would see the same each time
            await asyncio.sleep(0.01)
        pytest.fail("nobody waits")

    try:
        async with sessions() as first, sessions() as other:
            await first.execute(text("SELECT FROM payment_attempt FOR UPDATE"))
            waiting = asyncio.create_task(lock())
            await is_waited_for(other)
            with pytest.raises(OperationalError, match="could not obtain lock"):
                await other.execute(text("SELECT FROM bill FOR UPDATE NOWAIT"))
            await first.rollback()
            await waiting
            await other.rollback()

            await first.execute(text("SELECT FROM bill FOR UPDATE"))
            waiting = asyncio.create_task(lock())
            await is_waited_for(other)
            await first.execute(text("UPDATE bill SET version = 7"))
            await first.execute(text("UPDATE payment_attempt SET checks = 8"))
            await first.commit()
            assert await waiting == (7, 8)
    finally:
        await engine.dispose()
