"""Background jobs of signing in."""

from datetime import UTC, datetime

from bkapp.config import load_settings
from bkapp.db import open_engine, sessions_of
from bkapp.identity import operations
from bkapp.jobs import jobs


@jobs.periodic(cron="41 18 * * *")  # in the small hours of Bắc Kạn; procrastinate counts in UTC
@jobs.task(name="identity.forget", pass_context=False)
async def forget_nightly(timestamp: int) -> None:
    """Attempts, codes, used tokens and sessions that are over for long are forgotten."""
    engine = open_engine(load_settings().database_url, pool_size=2)
    try:
        async with sessions_of(engine).begin() as session:
            await operations.forget(session, now=datetime.now(UTC))
    finally:
        await engine.dispose()
