"""Jobs exist only if their transaction commits, and a worker does them."""

import asyncio

import pytest
from sqlalchemy import func, select, text

from bkapp.address.tasks import settle_units_nightly, tend_geocode_jobs
from bkapp.db import open_engine, sessions_of
from bkapp.http import IdempotencyRecord
from bkapp.jobs import defer, forget_old_keys_nightly, open_jobs


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
