"""Running the work of a command on the database of the settings; what stands in its way is told in a sentence."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import click
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.config import BadSetting, Settings, load_settings
from bkapp.db import Sessions, is_outage, open_engine, sessions_of
from bkapp.errors import DomainError

T = TypeVar("T")


def on_database(work: Callable[[Settings, Sessions], Awaitable[T]]) -> T:
    """What work comes to.  A wrong setting ends the command with 2, a refusal or an outage with 1."""

    async def run() -> T:
        settings = load_settings()
        engine = open_engine(settings.database_url, pool_size=2)
        try:
            return await work(settings, sessions_of(engine))
        finally:
            await engine.dispose()

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


def in_transaction(work: Callable[[AsyncSession], Awaitable[T]]) -> T:
    """What work in one transaction of its own comes to, as in :func:`on_database`."""

    async def alone(_: Settings, sessions: Sessions) -> T:
        async with sessions.begin() as session:
            return await work(session)

    return on_database(alone)
