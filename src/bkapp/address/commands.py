"""Commands about addresses, for ``bkapp import`` and ``bkapp demo``."""

import asyncio
import csv
import tempfile
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.address import demo
from bkapp.address.imports import (
    Fault,
    Outcome,
    Tally,
    count_records,
    import_hamlets,
    import_households,
    import_osm,
    import_places,
)
from bkapp.address.operations import settle_units
from bkapp.config import load_settings
from bkapp.db import open_engine, sessions_of
from bkapp.errors import DomainError
from bkapp.http import today
from bkapp.units.boundaries import ImportReport


async def settle_after_boundaries(session: AsyncSession, report: ImportReport) -> None:
    """Homes that an official boundary shows to be in another commune go there, in the import's transaction."""
    moved = await settle_units(session, today=today(), actor="import", changed_units=report.changed)
    if moved:
        click.echo(f"  {moved} addresses are in another commune than the approximate boundary said", err=True)


@click.command("households", short_help="Take households and their dwellings from a file.")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--source", required=True, help="The register the file's numbers belong to; numbers are unique in it.")
@click.option("--dry-run", is_flag=True, help="Judge every row and keep nothing.")
@click.option(
    "--report", type=click.Path(path_type=Path), help="Where to list refused rows; FILE.report.csv if left out."
)
@click.option("--batch", type=click.IntRange(1, 20_000), default=2000, show_default=True, help="Rows per transaction.")
def households(file: Path, source: str, dry_run: bool, report: Path | None, batch: int) -> None:  # noqa: FBT001
    """Take households from FILE: CSV, GeoJSON or GeoPackage.

    Columns: source_id, lon, lat and unit (code of the commune on the day `since`, today if empty); may have hamlet,
    since, accuracy_m, house_number, street, building, entrance, floor, door. Refused rows are listed in the report
    with their line. The same file again changes nothing; an interrupted import goes on where it ended.
    """
    listing = report or file.with_name(f"{file.name}.report.csv")
    tally = asyncio.run(_households(file, source, listing, batch=batch, dry_run=dry_run))
    kept = "would be imported" if dry_run else "imported"
    click.echo(
        f"{tally.rows} rows: {tally.imported} {kept}, {tally.skipped} were there, {tally.refused} refused"
        + (f" (see {listing})" if listing.exists() and listing.stat().st_size > 0 else ""),
        err=True,
    )
    raise SystemExit(1 if tally.refused else 0)


async def _households(file: Path, source: str, listing: Path, *, batch: int, dry_run: bool) -> Tally:
    engine = open_engine(load_settings().database_url, pool_size=4)
    console = Console(stderr=True)
    columns = (TextColumn("[progress.description]{task.description}"), BarColumn(), MofNCompleteColumn())
    try:
        total = count_records(file)
        with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as bar:
            job = bar.add_task(file.name, total=total)
            return await import_households(
                sessions_of(engine),
                file,
                source=source,
                today=today(),
                dry_run=dry_run,
                batch=batch,
                started=lambda done: None if done else listing.unlink(missing_ok=True),
                report=lambda faults: _list(listing, faults),
                progress=lambda tally: bar.update(job, completed=tally.rows),
            )
    except DomainError as refusal:
        click.echo(f"bkapp: {refusal.detail}", err=True)
        raise SystemExit(1) from None
    finally:
        await engine.dispose()


def _list(listing: Path, faults: Iterable[Fault]) -> None:
    rows: list[tuple[Any, ...]] = [(fault.line, fault.source_id, fault.field, fault.reason) for fault in faults]
    if not rows:
        return
    fresh = not listing.exists()
    with listing.open("a", encoding="utf-8", newline="") as file:
        out = csv.writer(file)
        if fresh:
            out.writerow(("line", "source_id", "field", "reason"))
        out.writerows(rows)


def _place_options(command: Callable[..., None]) -> Callable[..., None]:
    """What the commands for hamlets and places have in common."""
    for option in (
        click.option(
            "--report", type=click.Path(path_type=Path), help="Where to list rows; FILE.report.csv if left out."
        ),
        click.option("--dry-run", is_flag=True, help="Judge every row and keep nothing."),
        click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False)),
    ):
        command = option(command)
    return command


@click.command("hamlets", short_help="Take hamlets and where they are from a file.")
@_place_options
@click.option("--source", required=True, help="Who made the file.")
@click.option("--licence", required=True, help="On which terms the file may be used.")
@click.option(
    "--as-of",
    type=click.DateTime(["%Y-%m-%d"]),
    help="The day on which codes of rows without `since` are read; today if left out.",
)
def hamlets(
    file: Path, source: str, licence: str, as_of: datetime | None, report: Path | None, *, dry_run: bool
) -> None:
    """Take hamlets from FILE: CSV, GeoJSON or GeoPackage, with points, polygons or neither.

    Columns: name and unit (code of the commune on the day `since`); may have since, lon, lat, source_id. A hamlet of a
    commune that has ended goes on in the one that followed. One that is there gets its point. The same file again
    changes nothing.
    """
    day = as_of.date() if as_of else None
    _take(
        file,
        report,
        lambda session: import_hamlets(session, file, source=source, licence=licence, as_of=day, today=today()),
        dry_run=dry_run,
    )


_complete = click.option(
    "--complete", is_flag=True, help="The file is all there is of this source: take out what it does not hold."
)


@click.command("places", short_help="Take points of interest from a file.")
@_place_options
@click.option("--source", required=True, help="Who made the file; its numbers are unique in it.")
@click.option("--licence", required=True, help="On which terms the file may be used.")
@_complete
def places(file: Path, source: str, licence: str, report: Path | None, *, complete: bool, dry_run: bool) -> None:
    """Take places that people name (schools, markets, bridges) from FILE: CSV, GeoJSON or GeoPackage.

    Columns: name (or name:vi), lon, lat, and source_id or osm_id with osm_type. Those without a name are passed over;
    each of the others goes to the commune of today that it lies in.
    """
    _take(
        file,
        report,
        lambda session: import_places(session, file, source=source, licence=licence, complete=complete, today=today()),
        dry_run=dry_run,
    )


@click.command("osm", short_help="Take roads, places and points of hamlets from OpenStreetMap.")
@_place_options
@click.option("--source", default="OpenStreetMap", show_default=True)
@click.option("--licence", default="ODbL-1.0", show_default=True)
@click.option("--open-hamlets", is_flag=True, help="Open hamlets that the register does not know.")
@_complete
def osm(
    file: Path, source: str, licence: str, report: Path | None, *, open_hamlets: bool, complete: bool, dry_run: bool
) -> None:
    """Take roads and points of interest with a name or number from FILE (.osm.pbf), and points for hamlets.

    Hamlets are found by their name in the commune around, and get a point if they have none. Needs the extra `osm`.
    """
    _take(
        file,
        report,
        lambda session: import_osm(
            session,
            file,
            source=source,
            licence=licence,
            today=today(),
            open_unknown=open_hamlets,
            complete=complete,
        ),
        dry_run=dry_run,
    )


def _take(
    file: Path, report: Path | None, work: Callable[[AsyncSession], Awaitable[Outcome]], *, dry_run: bool
) -> None:
    """Import a file in one transaction and say what came of it; exit with 1 if a row was refused."""

    async def run() -> Outcome:
        engine = open_engine(load_settings().database_url, pool_size=2)
        try:
            async with sessions_of(engine).begin() as session:
                done = await work(session)
                if dry_run:
                    await session.rollback()
                return done
        finally:
            await engine.dispose()

    try:
        done = asyncio.run(run())
    except DomainError as refusal:
        click.echo(f"bkapp: {refusal.detail}", err=True)
        raise SystemExit(1) from None
    listing = report or file.with_name(f"{file.name}.report.csv")
    listing.unlink(missing_ok=True)
    _list(listing, done.faults)
    parts = [
        f"{done.imported} {'would be imported' if dry_run else 'imported'}",
        f"{done.changed} changed",
        f"{done.same} were there",
        *([f"{done.gone} gone"] if done.gone else []),
        *([f"{done.unnamed} without a name"] if done.unnamed else []),
        f"{done.refused} refused",
    ]
    click.echo(f"{done.rows} rows: {', '.join(parts)}" + (f" (see {listing})" if done.faults else ""), err=True)
    for note in done.notes:
        click.echo(f"  {note}", err=True)
    raise SystemExit(1 if done.refused else 0)


@click.command("seed", short_help="Make a demo province.")
@click.option("--households", "count", type=click.IntRange(1, 2_000_000), default=500, show_default=True)
def demo_seed(count: int) -> None:
    """Make a province of made-up households: always the same ones, marked as demo. Safe to repeat."""
    if not load_settings().demo:
        click.echo("bkapp: the demo is made only with BKAPP_DEMO=1, never beside real addresses.", err=True)
        raise SystemExit(1)
    faults: list[Fault] = []
    tally = asyncio.run(_seed(count, faults.extend))
    refused = f", {tally.refused} refused" if tally.refused else ""
    click.echo(f"demo: {tally.imported} households added, {tally.skipped} were there{refused}", err=True)
    for fault in [fault for fault in faults if fault.field != "differs"][:10]:
        click.echo(f"  {fault.source_id}: {fault.reason}", err=True)
    if tally.rows < count:
        click.echo(f"  there is room for {tally.rows} households, not for {count}", err=True)


async def _seed(households: int, report: Callable[[list[Fault]], None]) -> Tally:
    engine = open_engine(load_settings().database_url, pool_size=4)
    sessions = sessions_of(engine)
    drawn = demo.demo_codes()
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "demo.csv"
            async with sessions.begin() as session:
                await demo.write_households(session, path, households=households)
            return await import_households(
                sessions,
                path,
                source=demo.SOURCE,
                today=today(),
                is_demo=True,
                draw=lambda: next(drawn),
                report=report,
            )
    finally:
        await engine.dispose()
