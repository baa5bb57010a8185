"""Background jobs of personal data."""

from datetime import UTC, datetime

from bkapp.jobs import jobs, transaction
from bkapp.privacy.operations import keep_no_longer
from bkapp.privacy.rules import RETENTION_TASK


@jobs.periodic(cron="43 17 * * *")  # a quarter to one at night in Bắc Kạn; procrastinate counts in UTC
@jobs.task(name=RETENTION_TASK, pass_context=False)
async def keep_no_longer_nightly(timestamp: int) -> None:
    """What is older than the table of retention says is deleted."""
    async with transaction() as session:
        await keep_no_longer(session, now=datetime.now(UTC))
