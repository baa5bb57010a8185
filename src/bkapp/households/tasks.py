"""Background jobs of households."""

from bkapp.config import load_settings
from bkapp.db import open_engine, sessions_of
from bkapp.households.operations import forget_old_invitations
from bkapp.jobs import jobs


@jobs.periodic(cron="31 17 * * *")  # half past midnight in Bắc Kạn; procrastinate counts in UTC
@jobs.task(name="households.forget_old_invitations", pass_context=False)
async def forget_old_invitations_nightly(timestamp: int) -> None:
    """Invitations that ended a month ago go; what came of them is in the memberships and the audit chain."""
    engine = open_engine(load_settings().database_url, pool_size=2)
    try:
        async with sessions_of(engine).begin() as session:
            await forget_old_invitations(session)
    finally:
        await engine.dispose()
