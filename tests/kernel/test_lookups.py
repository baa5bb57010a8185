"""Look-ups on their own connection, and the rate limit that several processes share."""

import asyncio
import os
from collections.abc import AsyncIterator
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy.exc import OperationalError, ProgrammingError

from bkapp import limiter
from bkapp.db import Lookups
from bkapp.limiter import Limiter

SQUARES = "SELECT key, pg_backend_pid() FROM unnest(%s::text[]) AS asked(key) WHERE key <> 'nobody'"


@pytest.fixture
async def lookups(database: str) -> AsyncIterator[Lookups]:
    lookups = Lookups(database, SQUARES)
    yield lookups
    await lookups.close()


class TestLookups:
    async def test_everybody_gets_their_own_answer(self, lookups: Lookups) -> None:
        keys = [f"k{number % 700}" for number in range(1500)] + ["nobody"]
        rows = await asyncio.gather(*(lookups(key) for key in keys))
        assert [row and row[0] for row in rows] == [*keys[:-1], None]

    async def test_a_connection_that_the_server_closed_is_replaced(self, lookups: Lookups, database: str) -> None:
        first = await lookups("a")
        assert first is not None
        with psycopg.connect(database.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute("SELECT pg_terminate_backend(%s, 5000)", [first[1]])
        second = await lookups("b")
        assert second is not None
        assert second[1] != first[1]

    async def test_a_database_that_is_away_is_told_to_all_who_wait(self) -> None:
        lookups = Lookups("postgresql://nobody@127.0.0.1:1/nowhere", SQUARES)
        told = await asyncio.gather(lookups("a"), lookups("b"), return_exceptions=True)
        assert [type(error) for error in told] == [OperationalError, OperationalError]

    async def test_a_wrong_statement_is_nobodys_outage(self, database: str) -> None:
        lookups = Lookups(database, "SELECT nothing FROM nowhere WHERE %s IS NULL")
        with pytest.raises(ProgrammingError):
            await lookups("a")
        await lookups.close()

    async def test_one_who_leaves_does_not_take_the_others_answers(self, lookups: Lookups) -> None:
        leaving, staying = asyncio.create_task(lookups("a")), asyncio.create_task(lookups("a"))
        await asyncio.sleep(0)
        leaving.cancel()
        row = await staying
        assert row is not None
        assert row[0] == "a"


async def shared(one: Limiter) -> None:
    """Wait until a limiter has nothing left to share."""
    if one._sharing is not None:
        await one._sharing


class TestLimiter:
    async def test_each_caller_is_counted_alone(self) -> None:
        few = Limiter("2/hour", None)
        assert [few.hit("a"), few.hit("a"), few.hit("b")] == [0, 0, 0]
        assert 1 <= few.hit("a") <= 3601

    async def test_processes_add_their_counts_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        url = os.environ.get("TEST_REDIS_URL")
        if not url:
            pytest.skip("TEST_REDIS_URL is not set")
        monkeypatch.setattr(limiter, "SHARED_EVERY", 0.01)
        one, other, who = Limiter("10/hour", url), Limiter("10/hour", url), uuid4().hex
        for _ in range(8):
            assert one.hit(who) == 0
        await shared(one)
        assert other.hit(who) == 0
        await shared(other)
        assert [other.hit(who) > 0, other.hit(who) > 0] == [False, True]
        await one.close()
        await other.close()

    async def test_without_redis_a_process_limits_by_itself(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limiter, "SHARED_EVERY", 0.01)
        alone = Limiter("1/hour", "redis://127.0.0.1:1/0")
        before = limiter.DOWN._value.get()
        assert alone.hit("a") == 0
        await shared(alone)
        assert alone.hit("a") > 0
        assert limiter.DOWN._value.get() == before + 1
        await alone.close()
