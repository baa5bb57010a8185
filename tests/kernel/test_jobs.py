"""Jobs exist only if their transaction commits, and a worker does them."""

import asyncio
from types import SimpleNamespace
from typing import Any

import procrastinate
import psycopg
import pytest
from sqlalchemy import func, select, text

from bkapp.address.tasks import settle_units_nightly, tend_geocode_jobs
from bkapp.db import open_engine, sessions_of
from bkapp.http import IdempotencyRecord
from bkapp.jobs import defer, forget_old_keys_nightly, open_jobs, retry_stalled, work


async def test_a_job_lives_and_dies_with_its_transaction_and_a_worker_does_it(
    own_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(own_database)
    sessions = sessions_of(engine)
    async with sessions() as session:
        await defer(session, forget_old_keys_nightly, timestamp=1)
        await session.rollback()
    async with sessions.begin() as session:
        assert await session.scalar(text("SELECT count(*) FROM procrastinate_jobs")) == 0
        session.add(
            IdempotencyRecord(
                caller="c", key="old", fingerprint=b"", status=201, headers={}, body=b"",
                created_at=func.now() - func.make_interval(0, 0, 0, 40),
            )
        )  # fmt: skip
        await defer(session, forget_old_keys_nightly, timestamp=2)
        await defer(session, settle_units_nightly, timestamp=2)

    monkeypatch.setenv("DATABASE_URL", own_database)
    monkeypatch.setenv("BKAPP_DEMO", "1")
    async with open_jobs(own_database) as app:
        await asyncio.wait_for(app.run_worker_async(wait=False, install_signal_handlers=False), 20)

    async with sessions() as session:
        states = set(await session.scalars(text("SELECT status::text FROM procrastinate_jobs")))
        assert states == {"succeeded"}
        assert await session.scalar(select(func.count()).select_from(IdempotencyRecord)) == 0
    await engine.dispose()


async def test_what_is_due_at_a_time_is_queued_by_the_worker(
    own_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", own_database)
    monkeypatch.setenv("BKAPP_DEMO", "1")
    async with open_jobs(own_database) as app:
        worker = asyncio.create_task(app.run_worker_async(install_signal_handlers=False))
        engine = open_engine(own_database)
        async with sessions_of(engine)() as session:
            # Each ten minutes, and a worker that starts makes up for the last ten.
            done = "SELECT count(*) FROM procrastinate_jobs WHERE task_name = :name AND status = 'succeeded'"
            async with asyncio.timeout(20):
                while not await session.scalar(text(done), {"name": tend_geocode_jobs.name}):
                    assert not worker.done()
                    await session.rollback()
                    await asyncio.sleep(0.05)
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
        await engine.dispose()


class TestStalled:
    """Jobs whose worker is gone, as they stand in procrastinate's own tables."""

    def left(self, database: str, *jobs: tuple[str, str, int | None, str | None]) -> None:
        """Jobs by lock, status, how many seconds ago their worker was last heard (None: it is gone), queueing lock."""
        with psycopg.connect(database.replace("+psycopg", ""), autocommit=True) as connection:
            for lock, status, silent, queueing in jobs:
                worker = None
                if silent is not None:
                    made = connection.execute(
                        "INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - make_interval(secs => %s))"
                        " RETURNING id",
                        [silent],
                    ).fetchone()
                    worker = made and made[0]
                connection.execute(
                    "INSERT INTO procrastinate_jobs"
                    " (queue_name, task_name, args, lock, status, worker_id, queueing_lock)"
                    " VALUES ('default', %s, '{\"timestamp\": 1}', %s, %s, %s, %s)",
                    [forget_old_keys_nightly.name, lock, status, worker, queueing],
                )

    def jobs(self, database: str) -> dict[str, tuple[str, int]]:
        """The status of each job, and how often it was begun before."""
        with psycopg.connect(database.replace("+psycopg", "")) as connection:
            rows = connection.execute("SELECT lock, status::text, attempts FROM procrastinate_jobs WHERE lock <> ''")
            return {lock: (status, attempts) for lock, status, attempts in rows}

    async def look(self, app: procrastinate.App) -> None:
        context: Any = SimpleNamespace(app=app)
        await retry_stalled(context, 1)

    async def test_those_of_dead_workers_are_queued_again_and_done(
        self, own_database: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DATABASE_URL", own_database)
        monkeypatch.setenv("BKAPP_DEMO", "1")
        self.left(
            own_database,
            ("gone", "doing", None, None),
            ("silent", "doing", 60, None),
            ("alive", "doing", 5, None),
            ("waiting", "todo", None, None),
            ("over", "succeeded", None, None),
        )
        async with open_jobs(own_database) as app:
            await self.look(app)
            queued = self.jobs(own_database)
            await asyncio.wait_for(app.run_worker_async(wait=False, install_signal_handlers=False), 20)
        assert queued == {
            "gone": ("todo", 1),
            "silent": ("todo", 1),
            "alive": ("doing", 0),
            "waiting": ("todo", 0),
            "over": ("succeeded", 0),
        }
        assert self.jobs(own_database) == {
            "gone": ("succeeded", 2),
            "silent": ("succeeded", 2),
            "alive": ("doing", 0),
            "waiting": ("succeeded", 1),
            "over": ("succeeded", 0),
        }

    async def test_one_that_is_queued_once_more_is_given_up_and_the_others_are_not(self, own_database: str) -> None:
        self.left(
            own_database,
            ("dead", "doing", None, "sweep"),
            ("next", "todo", None, "sweep"),
            ("another", "doing", None, None),
        )
        async with open_jobs(own_database) as app:
            await self.look(app)
        assert self.jobs(own_database) == {"next": ("todo", 0), "another": ("todo", 1)}

    async def test_two_that_look_at_once_take_each_up_once(self, own_database: str) -> None:
        self.left(own_database, *((f"{place}", "doing", None, None) for place in range(10)))
        async with open_jobs(own_database) as app:
            await asyncio.gather(*(self.look(app) for _ in range(3)))
        assert self.jobs(own_database) == {f"{place}": ("todo", 1) for place in range(10)}


async def test_a_worker_goes_on_after_its_database_was_away(own_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", own_database)
    monkeypatch.setenv("BKAPP_DEMO", "1")
    engine = open_engine(own_database)
    sessions = sessions_of(engine)
    stop = asyncio.Event()
    worker = asyncio.create_task(work(own_database, stop, pause=0.1))
    waiting = "SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'bkapp.forget_old_keys'"
    others = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    for _ in range(2):
        async with sessions.begin() as session:
            await defer(session, forget_old_keys_nightly, timestamp=1)
        async with asyncio.timeout(30), sessions() as session:
            while await session.scalar(text(waiting)):  # noqa: ASYNC110  (it is done in the database)
                await asyncio.sleep(0.05)
            await session.execute(text(f"SELECT pg_terminate_backend(pid) FROM ({others}) others"))
    stop.set()
    await asyncio.wait_for(worker, 20)
    await engine.dispose()
