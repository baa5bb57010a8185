"""Background jobs of personal data."""

from datetime import UTC, datetime

from bkapp.config import load_settings
from bkapp.db import open_engine, sessions_of
from bkapp.jobs import jobs
from bkapp.privacy.operations import keep_no_longer
from bkapp.privacy.rules import RETENTION_TASK


@jobs.periodic(cron="43 17 * * *")  # a quarter to one at night in Bắc Kạn; procrastinate counts in UTC
@jobs.task(name=RETENTION_TASK, pass_context=False)
async def keep_no_longer_nightly(timestamp: int) -> None:
    """What is older than the table of retention says is deleted."""
    engine = open_engine(load_settings().database_url, pool_size=2)
    try:
        async with sessions_of(engine).begin() as session:
            await keep_no_longer(session, now=datetime.now(UTC))
    finally:
        await engine.dispose()
