"""The command ``bkapp``: serving, migrating, keys, imports, the demo."""

import asyncio
import base64
import multiprocessing
import os
import secrets
import signal
import socket
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access import operations as access
from bkapp.access.rules import Role
from bkapp.address.commands import demo_seed, hamlets, households, osm, places, settle_after_boundaries
from bkapp.address.file_commands import geocode_command
from bkapp.address.operations import settle_units
from bkapp.audit.commands import audit
from bkapp.config import BadSetting, Settings, load_settings
from bkapp.db import act_as
from bkapp.errors import DomainError
from bkapp.http import today
from bkapp.identity.commands import data_key, grants, reseal
from bkapp.logs import set_up_logs
from bkapp.migrate import grant_rights
from bkapp.migrate import migrate as run_migrations
from bkapp.payments.commands import ledger, payments
from bkapp.payments.operations.keeping import SEALED as PAYMENTS_SEALED
from bkapp.practice.commands import demo_payments, demo_people
from bkapp.privacy.commands import privacy
from bkapp.privacy.operations import SEALED as PRIVACY_SEALED
from bkapp.running import in_transaction
from bkapp.units import operations as units_operations
from bkapp.units import queries as units
from bkapp.units.commands import boundaries


def settings() -> Settings:
    """The settings, or one sentence and the end."""
    try:
        return load_settings()
    except BadSetting as error:
        click.echo(f"bkapp: {error}", err=True)
        raise SystemExit(2) from None


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """bkapp: one digital address per household of Bắc Kạn."""


@main.command()
def migrate() -> None:
    """Bring the database to this release: tables, units, approximate boundaries."""
    config = settings()
    run_migrations(config.database_url)
    if config.app_role:
        grant_rights(config.database_url, config.app_role)

    async def load(session: AsyncSession) -> int:
        await units_operations.load_seed(session)
        changed = await units_operations.approximate_boundaries(session)
        return await settle_units(session, today=today(), actor="migration", changed_units=changed)

    moved = in_transaction(load)
    click.echo(f"migrated; {moved} addresses changed unit" if moved else "migrated", err=True)


@main.command()
def serve() -> None:
    """Serve the API and the pages."""
    config = settings()
    set_up_logs(config.log_level)
    if config.web_workers > 1 and "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        # Workers write their figures to files here, so that any of them can answer for all.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="bkapp-metrics-")
    serve_factory(config)


@main.command()
def practice() -> None:
    """Serve the practice eID and population register: made-up people, for demo and training."""
    config = settings()
    set_up_logs(config.log_level)
    if not config.demo:
        click.echo("bkapp: BKAPP_DEMO is not 1: the practice servers sign anybody in as anybody.", err=True)
        raise SystemExit(2)
    serve_factory(
        msgspec.structs.replace(config, port=config.practice_port, web_workers=1), "bkapp.practice.server:asgi"
    )


def serve_factory(config: Settings, factory: str = "bkapp.cli:application") -> None:
    """Serve what a factory makes; the benchmarks serve their peers through here too."""
    from granian import Granian  # noqa: PLC0415  (only this command needs it)
    from granian.constants import HTTPModes, Interfaces, Loops, RuntimeModes  # noqa: PLC0415

    if config.web_workers > 1:
        # Metrics choose when they are imported whether processes share them, so each worker imports for itself.
        multiprocessing.set_start_method("spawn")
    # Granian binds for itself and panics where it cannot; this finds out first, and whether there is IPv6.
    with listen(config.host, config.port) as listener:
        address = listener.getsockname()[0]
    quiet = {"handlers": [], "level": "WARNING", "propagate": True}
    Granian(
        factory,
        address=address,
        port=config.port,
        interface=Interfaces.ASGI,
        factory=True,
        workers=config.web_workers,
        loop=Loops.uvloop,
        runtime_mode=RuntimeModes.st,
        http=HTTPModes.http1,
        websockets=False,
        backlog=2048,
        respawn_failed_workers=True,
        workers_kill_timeout=10,
        log_dictconfig={"formatters": {}, "handlers": {}, "loggers": {"_granian": quiet, "granian.access": quiet}},
    ).serve()


def application() -> Any:
    """The ASGI application, made from the environment in each worker process."""
    from bkapp.app import asgi  # noqa: PLC0415  (makes other commands start at once)

    config = settings()
    set_up_logs(config.log_level)
    act_as(config.app_role)
    return asgi(config)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; for ``::`` one that takes IPv6 and IPv4, or IPv4 alone where there is no IPv6."""
    try:
        if ":" in host and socket.has_dualstack_ipv6():
            return socket.create_server((host, port), family=socket.AF_INET6, backlog=2048, dualstack_ipv6=host == "::")
        return socket.create_server(("0.0.0.0" if host == "::" else host, port), backlog=2048)  # noqa: S104
    except OSError as error:
        click.echo(f"bkapp: cannot listen on BKAPP_HOST={host} BKAPP_PORT={port}: {error.strerror or error}.", err=True)
        raise SystemExit(1) from None


@main.command()
def worker() -> None:
    """Work off background jobs."""
    import bkapp.tasks  # noqa: F401, PLC0415  (tasks are known once their module is)
    from bkapp.jobs import work  # noqa: PLC0415

    config = settings()
    set_up_logs(config.log_level)
    act_as(config.app_role)

    async def run() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await work(config.database_url, stop)

    asyncio.run(run())


@main.command()
@click.option("--check", is_flag=True, help="Only say whether the committed file is up to date.")
@click.argument("file", type=click.Path(path_type=Path), default="openapi/bkapp.json")
def openapi(file: Path, *, check: bool) -> None:
    """Write the OpenAPI description."""
    from bkapp.openapi import description  # noqa: PLC0415

    text = description()
    if check:
        if not file.exists() or file.read_text() != text:
            click.echo(f"{file} is out of date: run ./dev openapi", err=True)
            raise SystemExit(1)
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@main.group()
def keys() -> None:
    """API keys and signing keys."""


@keys.command("new")
@click.option("--label", required=True, help="Whose key it is: an office, never a person's number.")
@click.option(
    "--role",
    type=click.Choice([role.value for role in Role if role is not Role.CITIZEN]),
    default="officer",
    show_default=True,
)
@click.option("--unit", help="Code of the unit an officer's key covers, with its successors.")
@click.option(
    "--as-of", type=click.DateTime(["%Y-%m-%d"]), help="The day on which the unit's code is read; today if left out."
)
@click.option("--days", type=click.IntRange(1, 3650), default=365, show_default=True, help="How long it is good for.")
def new_key(label: str, role: str, unit: str | None, as_of: datetime | None, days: int) -> None:
    """Make an API key and show it once."""

    async def work(session: AsyncSession) -> str:
        unit_id = None
        if unit is not None:
            found = await units.unit_on(session, unit, as_of.date() if as_of else today())
            if found is None:
                raise DomainError(f"No unit has the code {unit} on that day.")
            unit_id = found.id
        return await access.make_key(
            session,
            label=label,
            role=Role(role),
            unit_id=unit_id,
            expires_at=datetime.now(UTC) + timedelta(days=days),
        )

    click.echo(in_transaction(work))


@keys.command("revoke")
@click.argument("key_id")
def revoke_key(key_id: str) -> None:
    """Revoke the API key with this id (the part between bk_ and the next _)."""
    in_transaction(lambda session: access.revoke_key(session, key_id, now=datetime.now(UTC)))
    click.echo("revoked", err=True)


@keys.command("signing")
@click.option("--kid", default=lambda: f"{today():%Y%m%d}", help="The key's public name; the day if left out.")
def signing_key(kid: str) -> None:
    """Make a signing key for BKAPP_SIGNING_KEYS.  Put a new one first and keep the old ones behind it."""
    seed = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("=")
    click.echo(f"{kid}:{seed}")


keys.add_command(data_key)
keys.add_command(reseal(also=(*PRIVACY_SEALED, *PAYMENTS_SEALED)))
main.add_command(grants)
main.add_command(audit)
main.add_command(privacy)
main.add_command(payments)
main.add_command(ledger)


@main.group("import")
def imports() -> None:
    """Take data from files."""


imports.add_command(boundaries(then=settle_after_boundaries))
imports.add_command(households)
imports.add_command(hamlets)
imports.add_command(places)
imports.add_command(osm)


main.add_command(geocode_command)


@main.group()
def demo() -> None:
    """A made-up province to try things on."""


demo.add_command(demo_seed)
demo.add_command(demo_people)
demo.add_command(demo_payments)


@main.command("settings")
def show_settings() -> None:
    """Say which settings are in force, without secrets."""
    from bkapp.config import describe  # noqa: PLC0415

    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(describe(settings()))) + b"\n")
