"""``bkapp geocode``: the addresses of a file, on this machine."""

import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bkapp.address.csvfiles import Sheet, options_of, read
from bkapp.address.operations.files import Tally, geocode
from bkapp.address.operations.finding import open_finder
from bkapp.config import BadSetting, load_settings
from bkapp.db import is_outage, open_engine, readers_of
from bkapp.errors import DomainError

STANDARD = Path("-")


@click.command("geocode", short_help="Find the addresses of a CSV file.")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="FILE.geocoded.csv if left out; - is standard output.",
)
@click.option("--column", "columns", multiple=True, help="A column of the address; repeat it. All if left out.")
@click.option("--delimiter", default="", help="What separates the columns; guessed if left out.")
@click.option("--encoding", default="", help="utf-8 if left out; utf-16, windows-1258, windows-1252.")
@click.option("--lat", default="", help="A column with latitudes, to prefer places near them.")
@click.option("--lon", default="", help="A column with longitudes.")
@click.option("--with-bom", is_flag=True, help="Begin with a byte order mark, for Excel.")
def geocode_command(file: Path, output: Path | None, columns: tuple[str, ...], with_bom: bool, **texts: str) -> None:  # noqa: FBT001
    """Find the addresses of FILE, a CSV whose first line names its columns; - is standard input.

    Its columns come back as they were, and behind them latitude, longitude and result_…. The exit code is 1 if a row
    could not be asked for.
    """
    to = output or (STANDARD if file == STANDARD else file.with_name(f"{file.stem}.geocoded.csv"))
    began = time.perf_counter()
    try:
        options = options_of(
            {"columns": columns, "with_bom": ["1" if with_bom else ""], **{n: [t] for n, t in texts.items()}}
        )
        data = sys.stdin.buffer.read() if file == STANDARD else file.read_bytes()
        tally = asyncio.run(_geocode(read(data, options), file.name, to))
    except BadSetting as error:
        click.echo(f"bkapp: {error}", err=True)
        raise SystemExit(2) from None
    except DomainError as refusal:
        click.echo(f"bkapp: {refusal.detail}", err=True)
        raise SystemExit(1) from None
    except OSError as error:
        click.echo(f"bkapp: {error.filename}: {error.strerror}", err=True)
        raise SystemExit(1) from None
    except Exception as error:
        if not is_outage(error):
            raise
        click.echo("bkapp: the database does not answer; try again.", err=True)
        raise SystemExit(1) from None
    seconds = time.perf_counter() - began
    click.echo(
        f"{tally.rows} rows: A {tally.a}, B {tally.b}, C {tally.c}, not found {tally.missing}, errors {tally.failed}; "
        f"{seconds:.1f} s, {tally.rows / seconds:.0f} rows/s" + ("" if to == STANDARD else f" ({to})"),
        err=True,
    )
    raise SystemExit(1 if tally.failed else 0)


async def _geocode(sheet: Sheet, name: str, to: Path) -> Tally:
    url = load_settings().database_url
    engine = open_engine(url, pool_size=4)
    readers = readers_of(engine)
    finder = open_finder(readers, url)
    console = Console(stderr=True)
    shown = (TextColumn("[progress.description]{task.description}"), BarColumn(), MofNCompleteColumn())
    tally = Tally()
    try:
        with (
            _written(to) as out,
            Progress(*shown, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as bar,
        ):
            job = bar.add_task(name, total=sheet.rows)
            out.write(sheet.head())
            async for piece in geocode(finder, sheet, tally):
                out.write(piece)
                bar.update(job, completed=tally.rows)
    finally:
        await finder.close()
        await engine.dispose()
    return tally


@contextmanager
def _written(to: Path) -> Iterator[BinaryIO]:
    """A file that gets its name when it is whole, so that a broken run leaves none that looks finished."""
    if to == STANDARD:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    part = to.with_name(f"{to.name}.part")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(to)
    finally:
        part.unlink(missing_ok=True)
