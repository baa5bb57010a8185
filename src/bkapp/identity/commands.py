"""Commands about offices and the keys of personal data, for ``bkapp grants`` and ``bkapp keys``."""

import base64
import secrets
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta

import click
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.rules import OFFICES, Role
from bkapp.config import BadSetting, Settings, load_settings
from bkapp.db import Sessions
from bkapp.errors import NotFound
from bkapp.http import today
from bkapp.identity import operations
from bkapp.identity.operations import SEALED, Sealed
from bkapp.running import on_database
from bkapp.sealing import KEY_BYTES, Keyring, Unsealable
from bkapp.units import queries as units

ACTOR = "cli"


@click.group()
def grants() -> None:
    """Offices that people hold: officer of a unit, monitoring, the province's registrar."""


@grants.command("new", short_help="Give a citizen an office.")
@click.option("--role", type=click.Choice([role.value for role in Role if role in OFFICES]), required=True)
@click.option("--unit", help="Code of the unit that an officer works for, with its successors.")
@click.option(
    "--as-of", type=click.DateTime(["%Y-%m-%d"]), help="The day on which the unit's code is read; today if left out."
)
@click.option("--days", type=click.IntRange(1, 3650), default=365, show_default=True, help="How long it is good for.")
def new_grant(role: str, unit: str | None, as_of: datetime | None, days: int) -> None:
    """Give an office to the citizen whose number is on standard input, 12 digits and nothing else.

    It is not an argument, because arguments are seen by everybody on the machine and kept in histories. The citizen
    need not have signed in before. The id of the grant is shown.
    """
    number = _number_given()

    async def work(session: AsyncSession, keyring: Keyring) -> str:
        unit_id = None
        if unit is not None:
            found = await units.unit_on(session, unit, as_of.date() if as_of else today())
            if found is None:
                raise NotFound(f"No unit has the code {unit} on that day.")
            unit_id = found.id
        now = datetime.now(UTC)
        grant = await operations.grant_office(
            session,
            keyring,
            number=number,
            role=Role(role),
            unit_id=unit_id,
            actor=ACTOR,
            expires_at=now + timedelta(days=days),
            is_demo=load_settings().demo,
            now=now,
        )
        return str(grant.id)

    click.echo(_in_transaction(work))


@grants.command("end", short_help="Take a citizen's office back.")
def end_grant() -> None:
    """Take back the office of the citizen whose number is on standard input.  It counts from their next request."""
    number = _number_given()

    async def work(session: AsyncSession, keyring: Keyring) -> str:
        return str(
            (await operations.end_office(session, keyring, number=number, actor=ACTOR, now=datetime.now(UTC))).id
        )

    click.echo(_in_transaction(work))


@click.command("data")
@click.option("--kid", default=lambda: f"{today():%Y%m%d}", help="The key's name; the day if left out.")
def data_key(kid: str) -> None:
    """Make a key for BKAPP_DATA_KEYS and one for BKAPP_LOOKUP_KEY.

    A new data key goes in front of the old ones; then run `bkapp keys reseal`, and take the old ones away. The look-up
    key is made once and kept: with another one nobody is found again.
    """
    click.echo(f"BKAPP_DATA_KEYS={kid}:{_new_key()}")
    click.echo(f"BKAPP_LOOKUP_KEY={_new_key()}")


def reseal(*, also: Sequence[Sealed] = ()) -> click.Command:
    """The command ``bkapp keys reseal``; ``also`` are sealed columns that other features keep."""

    @click.command("reseal")
    @click.option(
        "--batch", type=click.IntRange(1, 20_000), default=500, show_default=True, help="Values per transaction."
    )
    def command(batch: int) -> None:
        """Seal all personal data anew with the first key of BKAPP_DATA_KEYS.

        What was broken off goes on where it was. Once this has ended with nothing left, the other keys can go.
        """

        async def work(settings: Settings, sessions: Sessions) -> int:
            keyring, done = _keyring(settings), 0
            for what in (*SEALED, *also):
                while True:
                    async with sessions.begin() as session:
                        sealed = await operations.reseal(session, keyring, what, batch=batch)
                    if not sealed:
                        break
                    done += sealed
            return done

        try:
            click.echo(f"{on_database(work)} values sealed anew; nothing is left under another key", err=True)
        except Unsealable as error:
            click.echo(f"bkapp: {error}", err=True)
            raise SystemExit(1) from None

    return command


def _new_key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(KEY_BYTES)).decode().rstrip("=")


def _number_given() -> str:
    """The citizen's number from standard input; asked for without an echo where that is a terminal."""
    if sys.stdin.isatty():
        return str(click.prompt("Citizen's number", hide_input=True, err=True)).strip()
    return sys.stdin.readline(64).strip()


def _in_transaction(work: Callable[[AsyncSession, Keyring], Awaitable[str]]) -> str:
    async def alone(settings: Settings, sessions: Sessions) -> str:
        async with sessions.begin() as session:
            return await work(session, _keyring(settings))

    return on_database(alone)


def _keyring(settings: Settings) -> Keyring:
    if not settings.data_keys or not settings.lookup_key:
        raise BadSetting("BKAPP_DATA_KEYS and BKAPP_LOOKUP_KEY are not set: make them with `bkapp keys data`.")
    return Keyring.parse(settings.data_keys, settings.lookup_key)
