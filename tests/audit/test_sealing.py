"""Sealing reads while others record them: nothing that commits late falls into a stretch that is sealed."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.operations import Caller, record_reads
from bkapp.access.queries import RECORD_READS
from bkapp.access.rules import Role
from bkapp.audit import queries
from bkapp.audit.operations import SETTLED, seal_reads
from bkapp.audit.queries import Verification
from bkapp.db import Lookups, Sessions, open_engine, sessions_of

NONE_YET = timedelta(seconds=-1)
READER = Caller(id="k", role=Role.MONITOR, unit_ids=None)


@pytest.fixture
async def committing(own_database: str) -> AsyncIterator[Sessions]:
    engine = open_engine(own_database)
    yield sessions_of(engine)
    await engine.dispose()


async def record(session: AsyncSession, subject: str, *, minutes_ago: int = 0) -> int:
    statement = text(
        "INSERT INTO data_read (read_at, reader, subject, what, request_id) "
        "VALUES (now() - make_interval(mins => :ago), 'k', :subject, '/w', 'r') RETURNING id"
    )
    return int((await session.execute(statement, {"ago": minutes_ago, "subject": subject})).scalar_one())


async def seal(sessions: Sessions, *, settled: timedelta = NONE_YET, patience: float = 5) -> int:
    async with sessions.begin() as session:
        return await seal_reads(session, settled=settled, patience=patience)


async def verified(sessions: Sessions) -> Verification:
    async with sessions() as session:
        return await queries.verify(session, {})


async def test_what_is_young_is_left_for_later(committing: Sessions) -> None:
    async with committing.begin() as session:
        await record(session, "old", minutes_ago=12)
        last = await record(session, "just old enough", minutes_ago=11)
        await record(session, "young", minutes_ago=9)

    assert timedelta(minutes=10) == SETTLED
    assert [await seal(committing, settled=SETTLED), await seal(committing, settled=SETTLED)] == [2, 0]
    async with committing() as session:
        assert await queries.sealed_up_to(session) == last


async def test_a_read_that_commits_late_is_waited_for(committing: Sessions) -> None:
    async with committing() as slow, slow.begin() as work:
        first = await record(slow, "slow", minutes_ago=60)
        async with committing.begin() as quick:
            second = await record(quick, "quick", minutes_ago=60)
        assert first < second
        assert await seal(committing, settled=SETTLED, patience=0.1) == 0

        sealing = asyncio.create_task(seal(committing, settled=SETTLED))
        await asyncio.sleep(0.2)
        async with committing.begin() as meanwhile:  # nobody waits for who seals
            await record(meanwhile, "meanwhile", minutes_ago=60)
        assert not sealing.done()
        await work.commit()
        assert await sealing == 2

    assert await seal(committing, settled=SETTLED) == 1
    found = await verified(committing)
    assert (found.seals, found.reads, found.broken) == (2, 3, 0)


async def test_one_that_has_not_drawn_its_number_yet_is_waited_for_too(committing: Sessions) -> None:
    """An INSERT holds its lock before it draws: who has only the lock may be about to write a lower number."""
    async with committing() as slow, slow.begin() as work:
        await slow.execute(text("LOCK TABLE data_read IN ROW EXCLUSIVE MODE"))
        drawn = await slow.scalar(text("SELECT nextval('data_read_id_seq')"))
        async with committing.begin() as quick:
            await record(quick, "quick")
        assert await seal(committing, patience=0.1) == 0
        await slow.execute(
            text("INSERT INTO data_read OVERRIDING SYSTEM VALUE VALUES (:id, now(), 'k', 'slow', '/w', 'r')"),
            {"id": drawn},
        )
        await work.commit()
    assert await seal(committing) == 2
    assert (await verified(committing)).broken == 0


async def test_numbers_that_were_drawn_for_nothing_leave_no_gap(committing: Sessions) -> None:
    for turn in range(4):
        async with committing() as session, session.begin() as work:
            await record(session, f"s{turn}")
            if turn % 2 == 0:
                await work.rollback()
    assert await seal(committing) == 2
    async with committing() as session, session.begin() as work:
        await record(session, "undone")
        await work.rollback()
    async with committing.begin() as session:
        await record(session, "kept")
    assert await seal(committing) == 1

    found = await verified(committing)
    assert (found.reads, found.broken) == (3, 0)


async def test_two_who_seal_at_once_seal_once(committing: Sessions) -> None:
    async with committing.begin() as session:
        await record(session, "s")
    async with committing.begin() as one:
        assert await seal_reads(one, settled=NONE_YET) == 1
        assert await seal(committing) == 0
    assert await seal(committing) == 0
    assert (await verified(committing)).seals == 1


async def test_it_holds_while_many_record(committing: Sessions, own_database: str) -> None:
    records = Lookups(own_database, RECORD_READS)
    busy = True

    async def read_on(number: int) -> int:
        turn = 0
        while busy:
            async with committing() as session, session.begin() as work:
                await record(session, f"s{number}")
                await asyncio.sleep(0.001 * (number + turn % 3))
                if turn % 7 == 0:
                    await work.rollback()
            await record_reads(records, READER, subjects=["BK", "BL"], what="/w", request_id="r")
            turn += 1
        return turn

    readers = [asyncio.create_task(read_on(number)) for number in range(6)]
    sealed = 0
    for _ in range(15):
        sealed += await seal(committing)
        await asyncio.sleep(0.02)
    busy = False
    turns = await asyncio.gather(*readers)
    sealed += await seal(committing)
    found = await verified(committing)
    async with committing() as session:
        kept = await session.scalar(text("SELECT count(*) FROM data_read"))
    await records.close()

    assert found.breaks == ()
    assert sealed == found.reads == kept
    assert kept is not None
    assert kept > 2 * sum(turns) > 0
    assert found.seals > 5
