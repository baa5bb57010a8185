"""``bkapp audit``: whether the chain is whole, and a checkpoint of it."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeVar

import click

from bkapp.audit.checkpoints import Keys
from bkapp.audit.operations import make_checkpoint
from bkapp.audit.queries import CheckpointRow, Verification
from bkapp.audit.queries import verify as verify_chain
from bkapp.config import BadSetting, Settings, load_settings
from bkapp.db import is_outage, open_engine, sessions_of
from bkapp.errors import DomainError

T = TypeVar("T")


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

    async def run(settings: Settings) -> Verification:
        engine = open_engine(settings.database_url, pool_size=1)
        try:
            async with sessions_of(engine)() as session:
                # One moment of the database, so that what is added meanwhile is not taken for a break.
                await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
                keys = Keys.parse(settings.signing_keys).public
                return await verify_chain(session, keys, since=since, outside=checkpoint)
        finally:
            await engine.dispose()

    found = _answered(run)
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

    async def run(settings: Settings) -> CheckpointRow | None:
        engine = open_engine(settings.database_url, pool_size=1)
        try:
            async with sessions_of(engine).begin() as session:
                keys = Keys.parse(settings.signing_keys)
                return await make_checkpoint(session, keys, issuer=settings.base_url, now=datetime.now(UTC))
        finally:
            await engine.dispose()

    made = _answered(run)
    if made is None:
        click.echo("bkapp: the audit chain is empty: there is nothing to sign.", err=True)
        raise SystemExit(1)
    click.echo(made.token)
    click.echo(f"entry {made.seq}, made at {made.made_at:%Y-%m-%d %H:%M:%S %Z}", err=True)


def _answered(work: Callable[[Settings], Awaitable[T]]) -> T:
    """What work on the database of the settings comes to; what stands in its way is told in a sentence."""

    async def run() -> T:
        return await work(load_settings())

    try:
        return asyncio.run(run())
    except BadSetting as error:
        click.echo(f"bkapp: {error}", err=True)
        raise SystemExit(2) from None
    except DomainError as refusal:
        click.echo(f"bkapp: {refusal.detail}", err=True)
    except Exception as error:
        if not is_outage(error):
            raise
        click.echo("bkapp: the database does not answer; try again.", err=True)
    raise SystemExit(1)
