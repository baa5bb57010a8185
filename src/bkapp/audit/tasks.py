"""Background jobs of the audit chain."""

from datetime import UTC, datetime

import structlog

from bkapp.audit.checkpoints import Keys
from bkapp.audit.operations import make_checkpoint, seal_reads
from bkapp.audit.queries import newest_checkpoint, verify
from bkapp.config import load_settings
from bkapp.jobs import jobs, transaction

log = structlog.get_logger("bkapp.audit")


@jobs.periodic(cron="*/10 * * * *")
@jobs.task(name="audit.seal_reads", pass_context=False)
async def seal_settled_reads(timestamp: int) -> None:
    """Reads that are ten minutes old become part of the chain."""
    sealed = 1
    while sealed:
        async with transaction() as session:
            sealed = await seal_reads(session)


@jobs.periodic(cron="7 * * * *")
@jobs.task(name="audit.checkpoint", pass_context=False)
async def sign_checkpoint(timestamp: int) -> None:
    """What was added since the last checkpoint is verified and signed.  What is wrong with it is logged once: the next
    time begins where this one ended."""
    settings = load_settings()
    keys = Keys.parse(settings.signing_keys)
    async with transaction() as session:
        # One moment of the database for both: what is added meanwhile would be signed and never verified.
        await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        newest = await newest_checkpoint(session)
        found = await verify(session, keys.public, since=newest.seq if newest else 1)
        if found.broken:
            first = found.breaks[0]
            log.error("audit_chain_broken", broken=found.broken, kind=first.kind, seq=first.seq)
        await make_checkpoint(session, keys, issuer=settings.base_url, now=datetime.now(UTC))
