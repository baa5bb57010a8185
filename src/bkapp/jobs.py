"""Background jobs, kept in the same database as the rows they are about (procrastinate).

A job deferred in a transaction exists only if the transaction commits.  Arguments
are ids, never objects; every task is safe to repeat.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import procrastinate
import psycopg
import sqlalchemy as sa
import structlog
from procrastinate.exceptions import ConnectorException, UniqueViolation
from procrastinate.jobs import Job, Status
from procrastinate.manager import JobManager
from procrastinate.tasks import Task
from procrastinate.types import JSONValue
from psycopg.errors import RaiseException
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.config import load_settings
from bkapp.db import connection_options, driver_url, open_engine, sessions_of
from bkapp.http import IdempotencyRecord

log = structlog.get_logger("bkapp.jobs")

jobs = procrastinate.App(connector=procrastinate.PsycopgConnector())


@asynccontextmanager
async def open_jobs(url: str) -> AsyncIterator[procrastinate.App]:
    """The job application on a database of the given address.

    The same application and not a copy: tasks belong to one, and what is due at a time is queued through it.
    """
    connector = procrastinate.PsycopgConnector(
        conninfo=driver_url(url).replace("postgresql+psycopg", "postgresql", 1),
        kwargs={"options": connection_options()},
        min_size=1,
        max_size=4,
    )
    with jobs.replace_connector(connector):
        async with jobs.open_async():
            yield jobs


async def work(url: str, stop: asyncio.Event, *, concurrency: int = 8, pause: float = 2.0) -> None:
    """Work off jobs until told to stop.

    A database that goes away (a restart, say) ends procrastinate's worker without a word; here it begins again.
    """
    while not stop.is_set():
        try:
            async with open_jobs(url) as app:
                worker = asyncio.create_task(
                    app.run_worker_async(
                        concurrency=concurrency,
                        listen_notify=True,
                        delete_jobs="successful",
                        install_signal_handlers=False,
                    )
                )
                told = asyncio.create_task(stop.wait())
                await asyncio.wait({worker, told}, return_when=asyncio.FIRST_COMPLETED)
                told.cancel()
                worker.cancel()  # which waits for the jobs under way
                with suppress(asyncio.CancelledError):
                    await worker
        except (procrastinate.exceptions.ConnectorException, psycopg.Error, OSError) as error:
            log.warning("worker_lost_database", kind=type(error).__name__)
        if not stop.is_set():
            log.warning("worker_begins_again")
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), pause)


@asynccontextmanager
async def transaction() -> AsyncIterator[AsyncSession]:
    """The one transaction of a job, on a connection of its own."""
    engine = open_engine(load_settings().database_url, pool_size=1)
    try:
        async with sessions_of(engine).begin() as session:
            yield session
    finally:
        await engine.dispose()


async def defer(session: AsyncSession, task: Task | str, **arguments: JSONValue) -> None:
    """Queue a job that exists only if this transaction commits.

    A name stands for a task whose module the caller must not import: tasks call operations, not the other way.
    """
    raw = await (await session.connection()).get_raw_connection()
    name = task if isinstance(task, str) else task.name
    await jobs.configure_task(name, connection=raw.driver_connection).defer_async(**arguments)


async def forget_old_keys(session: AsyncSession, *, days: int = 35) -> int:
    """Delete stored answers older than ``days`` (at least 30 are promised); return how many."""
    result = await session.execute(
        sa.delete(IdempotencyRecord).where(
            IdempotencyRecord.created_at < sa.func.now() - sa.func.make_interval(0, 0, 0, days)
        )
    )
    return result.rowcount  # type: ignore[attr-defined,no-any-return]


# No ``lock``: one that died itself would keep it, and nobody would be taken up any more.
@jobs.periodic(cron="* * * * *")
@jobs.task(name="bkapp.retry_stalled", pass_context=True, queueing_lock="bkapp.retry_stalled")
async def retry_stalled(context: procrastinate.JobContext, timestamp: int) -> None:
    """Jobs whose worker died in the middle are taken up again; every task is safe to repeat."""
    manager = context.app.job_manager
    for job in await manager.get_stalled_jobs():
        try:
            await _take_up(manager, job)
        except ConnectorException as error:
            # Somebody else took it up, or its worker was only slow and is done with it: the others still wait.
            if not isinstance(error.__cause__, RaiseException):
                raise


async def _take_up(manager: JobManager, job: Job) -> None:
    try:
        await manager.retry_job(job)
    except UniqueViolation:
        # The same is queued once more already; the one that died would keep its locks for ever.
        await manager.finish_job(job, status=Status.FAILED, delete_job=True)


@jobs.periodic(cron="17 2 * * *")
@jobs.task(name="bkapp.forget_old_keys", pass_context=False)
async def forget_old_keys_nightly(timestamp: int) -> None:
    async with transaction() as session:
        await forget_old_keys(session)
