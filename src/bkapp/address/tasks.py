"""Background jobs of the registry."""

from bkapp.address.operations import settle_units
from bkapp.config import load_settings
from bkapp.db import open_engine, sessions_of
from bkapp.http import today
from bkapp.jobs import jobs


@jobs.periodic(cron="5 17 * * *")  # five past midnight in Bắc Kạn; procrastinate counts in UTC
@jobs.task(name="address.settle_units", pass_context=False)
async def settle_units_nightly(timestamp: int) -> None:
    """On the day on which communes merge, their homes go on under the new one.  Most nights there is nothing to do."""
    engine = open_engine(load_settings().database_url, pool_size=1)
    try:
        async with sessions_of(engine).begin() as session:
            await settle_units(session, today=today(), actor="nightly")
    finally:
        await engine.dispose()
