"""``bkapp payments reconcile`` and ``bkapp payments reconciliation``: taking a file, and how the days stand."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.http import today
from bkapp.payments.matching import Type
from bkapp.payments.operations import reconciling
from bkapp.payments.operations.merchants import merchant_row
from bkapp.payments.queries import reconciling as queries
from bkapp.payments.queries.reconciling import DayRow, FileRow, ItemRow, Side, Suspense
from bkapp.payments.statements import MOST_BYTES, Source
from bkapp.running import in_transaction

ACTOR = "cli"
MOST_SHOWN = 50


@click.command("reconcile", short_help="Take a provider's report or a bank's statement and compare it.")
@click.argument("merchant")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--source", type=click.Choice([source.value for source in Source]), required=True, help="Who made the file."
)
def reconcile(merchant: str, file: Path, source: str) -> None:
    """Take FILE, the day of MERCHANT as its provider or the bank has it, and compare it with our books.

    The format is seen from the file; docs/reconciliation.md describes them. The same file again changes nothing. Ends
    with 1 if differences are open, or the file cannot be read; then nothing of it was taken.
    """
    with file.open("rb") as opened:
        data = opened.read(MOST_BYTES + 1)

    async def work(session: AsyncSession) -> tuple[bool, FileRow, list[ItemRow]]:
        row = await merchant_row(session, merchant)
        imported = await reconciling.import_file(
            session, row, source=Source(source), name=file.name[:120], data=data, by=ACTOR, now=datetime.now(UTC)
        )
        found = await queries.file(session, imported.file.id)
        assert found is not None, "the file is there"
        items = await queries.items(
            session, today=today(), file_id=found.id, only_open=True, limit=MOST_SHOWN if found.in_force else 0
        )
        return imported.new, found, items

    new, found, items = in_transaction(work)
    stands = "" if found.in_force else "; a newer file of the day is in force"
    click.echo(
        f"{found.merchant} {found.source} {found.business_date}: {found.line_count} lines, {found.total:,} đ, "
        f"{found.differences} differences, {found.open} open{'' if new else ' (taken before)'}{stands}"
    )
    for item in items:
        click.echo("  " + _told(item))
    if found.open > len(items) > 0:
        click.echo(f"  … and {found.open - len(items)} more")
    raise SystemExit(1 if found.open and found.in_force else 0)


@click.command("reconciliation", short_help="How the days stand: ledger, provider, bank.")
@click.option("--date", "day", type=click.DateTime(["%Y-%m-%d"]), help="One day; the last two weeks if left out.")
def reconciliation(day: datetime | None) -> None:
    """Say what the ledger, the providers and the banks have of each day, and which files are missing.

    Ends with 1 if differences are open, or suspense is not what it is made of.
    """
    until = day.date() if day else today() - timedelta(days=1)
    since = until if day else until - timedelta(days=13)

    async def work(session: AsyncSession) -> tuple[list[DayRow], Suspense, Sequence[queries.MissingFile]]:
        return (
            await queries.days(session, since, until),
            await queries.suspense(session),
            await queries.missing_files(session, today()),
        )

    rows, suspense, missing = in_transaction(work)
    for row in rows:
        click.echo(
            f"{row.date} {row.merchant}: ledger {row.received.amount - row.repaid.amount:,} đ, "
            f"provider {_side(row.provider)}, bank {_side(row.bank)}, settled {row.settled:,} đ, {row.open} open"
        )
        for side in (row.provider, row.bank):
            for found in side.found if side else ():
                if found.kind is not Type.MATCHED:
                    click.echo(f"  {found.kind}: {found.count}, {found.open} open")
    for one in missing:
        if since <= one.date <= until:
            click.echo(f"{one.date} {one.merchant}: no file of the {one.source}")
    agrees = "which is" if suspense.holds else f"BUT RECEIPTS COME TO {suspense.unmatched:,} đ:"
    click.echo(f"suspense {suspense.balance:,} đ, {agrees} {suspense.receipts} receipts")
    raise SystemExit(1 if any(row.open for row in rows) or not suspense.holds else 0)


def _side(side: Side | None) -> str:
    return "–" if side is None else f"{side.total:,} đ"


def _told(item: ItemRow) -> str:
    about = " ".join(part for part in (item.reference, item.transaction) if part)
    ours, theirs = ("–" if amount is None else f"{amount:,}" for amount in (item.ours, item.theirs))
    where = "" if item.line is None else f"line {item.line}, "
    return f"{item.id} {item.kind}: {where}{about or 'no reference'}, {ours} here, {theirs} there"
