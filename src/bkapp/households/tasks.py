"""Background jobs of households."""

from bkapp.households.operations import forget_old_invitations
from bkapp.jobs import jobs, transaction


@jobs.periodic(cron="31 17 * * *")  # half past midnight in Bắc Kạn; procrastinate counts in UTC
@jobs.task(name="households.forget_old_invitations", pass_context=False)
async def forget_old_invitations_nightly(timestamp: int) -> None:
    """Invitations that ended a month ago go; what came of them is in the memberships and the audit chain."""
    async with transaction() as session:
        await forget_old_invitations(session)
