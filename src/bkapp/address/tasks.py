"""Background jobs of the registry."""

from uuid import UUID

from bkapp.address.operations import file_jobs, settle_units
from bkapp.address.operations.finding import open_finder
from bkapp.config import load_settings
from bkapp.db import open_engine, readers_of, sessions_of
from bkapp.http import today
from bkapp.jobs import jobs, transaction


@jobs.periodic(cron="5 17 * * *")  # five past midnight in Bắc Kạn; procrastinate counts in UTC
@jobs.task(name="address.settle_units", pass_context=False)
async def settle_units_nightly(timestamp: int) -> None:
    """On the day on which communes merge, their homes go on under the new one.  Most nights there is nothing to do."""
    async with transaction() as session:
        await settle_units(session, today=today(), actor="nightly")


@jobs.task(name=file_jobs.TASK, pass_context=False)
async def geocode_file(job_id: str) -> None:
    """Find the addresses of a file that was sent."""
    url = load_settings().database_url
    engine = open_engine(url, pool_size=6)
    readers = readers_of(engine)
    finder = open_finder(readers, url)
    try:
        await file_jobs.run_job(sessions_of(engine), readers, finder, UUID(job_id))
    finally:
        await finder.close()
        await engine.dispose()


@jobs.periodic(cron="*/10 * * * *")
@jobs.task(name="address.tend_geocode_jobs", pass_context=False)
async def tend_geocode_jobs(timestamp: int) -> None:
    """Files whose worker died are taken up again; those that were kept long enough are deleted."""
    async with transaction() as session:
        await file_jobs.forget_old_jobs(session)
        await file_jobs.take_up_again(session)
