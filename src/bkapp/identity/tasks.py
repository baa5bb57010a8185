"""Background jobs of signing in."""

from datetime import UTC, datetime

from bkapp.identity import operations
from bkapp.jobs import jobs, transaction


@jobs.periodic(cron="41 18 * * *")  # in the small hours of Bắc Kạn; procrastinate counts in UTC
@jobs.task(name="identity.forget", pass_context=False)
async def forget_nightly(timestamp: int) -> None:
    """Attempts, codes, used tokens and sessions that are over for long are forgotten."""
    async with transaction() as session:
        await operations.forget(session, now=datetime.now(UTC))
