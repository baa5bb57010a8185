"""Commands about administrative units, for ``bkapp import``."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path

import click
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.config import load_settings
from bkapp.db import open_engine, sessions_of
from bkapp.errors import Invalid
from bkapp.http import today
from bkapp.units.boundaries import ImportReport, import_boundaries

# What has to happen in the transaction of an import once boundaries moved: whoever keeps things in units says so.
Then = Callable[[AsyncSession, ImportReport], Awaitable[None]]


def boundaries(*, then: Then) -> click.Command:
    """The command ``bkapp import boundaries``; ``then`` runs in the transaction of the import."""

    @click.command("boundaries", short_help="Take official boundaries from a file.")
    @click.argument("file", type=click.Path(path_type=Path))
    @click.option(
        "--as-of",
        type=click.DateTime(["%Y-%m-%d"]),
        help="The day whose units the file shows; today if left out. Codes change meaning, so old maps need their day.",
    )
    @click.option("--source", default="", help="Who published the file; its name if left out.")
    @click.option("--licence", default="not stated", help="On which terms the file may be used.", show_default=True)
    @click.option("--code-field", help="The column with the units' codes, where it is not one we know.")
    def command(file: Path, as_of: datetime | None, source: str, licence: str, code_field: str | None) -> None:
        """Take the official boundaries of one level from FILE: GeoJSON, GeoPackage or Shapefile.

        All of it is taken, or nothing with a list of what is wrong. A file that was taken before changes nothing.
        """

        async def run() -> ImportReport:
            engine = open_engine(load_settings().database_url, pool_size=2)
            try:
                async with sessions_of(engine).begin() as session:
                    report = await import_boundaries(
                        session,
                        file,
                        as_of=as_of.date() if as_of else today(),
                        source=source or file.name,
                        licence=licence,
                        code_field=code_field,
                    )
                    await then(session, report)
            finally:
                await engine.dispose()
            return report

        try:
            report = asyncio.run(run())
        except Invalid as refusal:
            click.echo(f"bkapp: {refusal.detail}", err=True)
            for error in refusal.facts["errors"]:  # type: ignore[attr-defined]
                click.echo(f"  {error.pointer}: {error.detail}", err=True)
            raise SystemExit(1) from None
        for repair in report.repaired:
            click.echo(f"  repaired: {repair}", err=True)
        what = f"{len(report.changed)} new" if report.changed else "nothing new, the file was imported before"
        shown = f"{report.features} official boundaries of level {report.level} as of {report.as_of}"
        click.echo(f"{report.file_name}: {shown}; {what}.", err=True)

    return command
