"""Statements that go past the session: in its transaction, with its errors, and known to it."""

from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import IntegrityError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from bkapp.db import Sessions, adopt, carry_out, remember, violated
from bkapp.http import IdempotencyRecord

INSERT = """
    INSERT INTO idempotency_key (caller, key, fingerprint, status, headers, body)
    VALUES (%(caller)s, %(key)s, '', 201, '{}', '') ON CONFLICT (caller, key) DO NOTHING RETURNING status, created_at"""
TAKE_BACK = "UPDATE idempotency_key SET status = %(status)s WHERE caller = %(caller)s AND key = %(key)s"
STATUS = "SELECT status FROM idempotency_key"
WHO = {"caller": "c", "key": "k"}


async def a_record(session: AsyncSession) -> IdempotencyRecord:
    [(status, created_at)] = await carry_out(session, INSERT, WHO)
    values: dict[str, Any] = {"fingerprint": b"", "headers": {}, "body": b"", "in_flight_until": None}
    record = IdempotencyRecord(**WHO, **values, status=status, created_at=created_at)
    adopt(session, record)
    return record


async def test_it_is_part_of_the_transaction(sessions: Sessions) -> None:
    async with sessions() as session:
        assert len(await carry_out(session, INSERT, WHO)) == 1
        await session.rollback()
    async with sessions.begin() as session:
        assert len(await carry_out(session, INSERT, WHO)) == 1
    async with sessions.begin() as session:
        assert await carry_out(session, INSERT, WHO) == []  # it stands, and nothing is given back
        assert await carry_out(session, TAKE_BACK, {**WHO, "status": 202}) == []


async def test_it_is_part_of_the_savepoint(session: AsyncSession) -> None:
    await carry_out(session, INSERT, WHO)
    outer = await session.begin_nested()
    await carry_out(session, TAKE_BACK, {**WHO, "status": 202})
    inner = await session.begin_nested()
    await carry_out(session, TAKE_BACK, {**WHO, "status": 203})
    await inner.rollback()
    assert await carry_out(session, STATUS, {}) == [(202,)]
    await outer.rollback()
    assert await carry_out(session, STATUS, {}) == [(201,)]


async def test_a_session_has_another_connection_in_another_transaction(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        backends = []
        for _ in range(2):
            async with session.begin():
                backends += [await carry_out(session, "SELECT pg_backend_pid()", {}) for _ in range(2)]

    assert backends[0] == backends[1] != backends[2] == backends[3]


async def test_what_it_breaks_is_named_and_can_be_taken_back(session: AsyncSession) -> None:
    await carry_out(session, INSERT, WHO)
    with pytest.raises(IntegrityError) as broken:
        async with session.begin_nested():
            await carry_out(session, INSERT.replace("ON CONFLICT (caller, key) DO NOTHING", ""), WHO)
    with pytest.raises(ProgrammingError):
        async with session.begin_nested():
            await carry_out(session, "SELECT FROM nowhere", {})

    assert violated(broken.value) == "pk_idempotency_key"
    assert "'c'" not in str(broken.value)
    assert await session.get(IdempotencyRecord, ("c", "k")) is not None


async def test_the_session_knows_what_was_made_and_changed(session: AsyncSession, engine: AsyncEngine) -> None:
    record = await a_record(session)
    sent: list[str] = []
    event.listen(engine.sync_engine, "before_cursor_execute", lambda *told: sent.append(told[2]))

    assert await session.get(IdempotencyRecord, ("c", "k")) is record
    await carry_out(session, TAKE_BACK, {**WHO, "status": 202})
    remember(record, status=202)
    await session.flush()
    assert sent == []
    record.status = 203
    await session.flush()
    assert len(sent) == 1
    assert await session.scalar(text(STATUS)) == 203
