"""``bkapp demo people``: gives the test citizens of the practice eID their offices."""

from datetime import UTC, datetime

import click

from bkapp.config import BadSetting, Settings
from bkapp.db import Sessions
from bkapp.http import today
from bkapp.identity import operations
from bkapp.identity.queries import office
from bkapp.practice.people import OFFICES, person
from bkapp.running import on_database
from bkapp.sealing import Keyring
from bkapp.units import queries as units


@click.command("people", short_help="Give the practice eID's officers their offices.")
def demo_people() -> None:
    """Give the practice eID's officers their offices.  Safe to repeat."""

    async def work(settings: Settings, sessions: Sessions) -> int:
        if not settings.demo:
            raise BadSetting("BKAPP_DEMO is not 1: the people of the practice eID get no offices.")
        keyring, given = Keyring.parse(settings.data_keys, settings.lookup_key), 0
        for handle, (role, code) in OFFICES.items():
            async with sessions.begin() as session:
                number = person(handle).number
                there = await operations.person_of(session, keyring, number, is_demo=True)
                if await office(session, there) is not None:
                    continue
                unit = await units.unit_on(session, code, today()) if code else None
                await operations.grant_office(
                    session,
                    keyring,
                    number=number,
                    role=role,
                    unit_id=unit.id if unit else None,
                    actor="demo",
                    is_demo=True,
                    now=datetime.now(UTC),
                )
                given += 1
        return given

    click.echo(f"demo: {on_database(work)} offices given", err=True)
