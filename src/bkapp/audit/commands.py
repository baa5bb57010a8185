"""``bkapp audit``: whether the chain is whole, and a checkpoint of it."""

from datetime import UTC, datetime

import click

from bkapp.audit.checkpoints import Keys
from bkapp.audit.operations import make_checkpoint
from bkapp.audit.queries import CheckpointRow, Verification
from bkapp.audit.queries import verify as verify_chain
from bkapp.config import Settings
from bkapp.db import Sessions
from bkapp.running import on_database


@click.group("audit")
def audit() -> None:
    """The chain of who did what."""


@audit.command()
@click.option(
    "--since", type=click.IntRange(1), default=1, help="The first entry to look at; those before count as good."
)
@click.option("--checkpoint", help="The token of a checkpoint that was kept elsewhere, to compare with.")
def verify(since: int, checkpoint: str | None) -> None:
    """Compute the whole chain again and say whether it holds; the exit code is 1 if it does not.

    A chain that was written anew from some entry on, or cut at its end, looks whole from inside: only a checkpoint from
    elsewhere (GET /api/v1/audit/checkpoint, kept by anybody) shows that.
    """

    async def work(settings: Settings, sessions: Sessions) -> Verification:
        async with sessions() as session:
            # One moment of the database, so that what is added meanwhile is not taken for a break.
            await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            keys = Keys.parse(settings.signing_keys).public
            return await verify_chain(session, keys, since=since, outside=checkpoint)

    found = on_database(work)
    seen = (
        f"entries {found.since:,} to {found.last:,}, {found.checkpoints:,} checkpoints, "
        f"{found.seals:,} seals of {found.reads:,} reads"
    )
    if not found.broken:
        kept = " and agrees with the checkpoint" if checkpoint else ""
        click.echo(f"The audit chain holds{kept}: {seen}.")
        return
    times = "once" if found.broken == 1 else f"{found.broken:,} times"
    click.echo(f"bkapp: the audit chain is broken {times}, first at entry {found.breaks[0].seq} ({seen}).", err=True)
    for one in found.breaks:
        click.echo(f"  entry {one.seq}: {one.kind}: {one.detail}", err=True)
    raise SystemExit(1)


@audit.command()
def checkpoint() -> None:
    """Sign how far the chain is now and print the token, to be kept elsewhere."""

    async def work(settings: Settings, sessions: Sessions) -> CheckpointRow | None:
        async with sessions.begin() as session:
            keys = Keys.parse(settings.signing_keys)
            return await make_checkpoint(session, keys, issuer=settings.base_url, now=datetime.now(UTC))

    made = on_database(work)
    if made is None:
        click.echo("bkapp: the audit chain is empty: there is nothing to sign.", err=True)
        raise SystemExit(1)
    click.echo(made.token)
    click.echo(f"entry {made.seq}, made at {made.made_at:%Y-%m-%d %H:%M:%S %Z}", err=True)
