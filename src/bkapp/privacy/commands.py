"""Commands for the data officer, for ``bkapp privacy``."""

from datetime import UTC, datetime
from uuid import UUID

import click
from rich.console import Console
from rich.table import Table

from bkapp.privacy import operations, queries
from bkapp.privacy.queries import Case
from bkapp.privacy.rules import HANOI, LIMITS, RETENTION
from bkapp.running import in_transaction

ACTOR = "cli"


@click.group()
def privacy() -> None:
    """What people ask about their data, and what is kept how long."""


@privacy.command("deadlines")
@click.option("--overdue", is_flag=True, help="Only those that are late; the exit code is 1 if there are any.")
def deadlines(*, overdue: bool) -> None:
    """List the open requests with their clocks, those that are due first first.

    They are named by ids of ours; who asked is for the data officer's page.
    """
    now = datetime.now(UTC)
    found = in_transaction(lambda session: queries.cases(session, is_open=True, limit=1000))
    shown = [case for case in found if not overdue or _late(case, now)]
    if not shown:
        click.echo("no request is overdue" if overdue else "no request is open", err=True)
        return
    table = Table(box=None, pad_edge=False)
    for column in ("request", "kind", "status", "received", "due", "days left", ""):
        table.add_column(column, no_wrap=True)
    for case in shown:
        standing = case.standing(now)
        if standing is not None:
            table.add_row(
                str(case.id),
                case.kind.value,
                case.status.value,
                f"{case.received_at.astimezone(HANOI):%Y-%m-%d}",
                f"{standing.next_due.astimezone(HANOI):%Y-%m-%d %H:%M}",
                str(standing.days_left),
                "OVERDUE" if standing.overdue else "",
            )
    Console(width=140, highlight=False).print(table)
    raise SystemExit(1 if overdue else 0)


@privacy.command("retention")
def retention() -> None:
    """List what is deleted after how many days, and why it is kept that long."""
    table = Table(box=None, pad_edge=False)
    for column in ("what", "days", "task", "title", "why"):
        table.add_column(column)
    for kept in RETENTION.values():
        table.add_row(kept.what, str(kept.days), kept.task, f"{kept.title} (tính từ {kept.counted_from})", kept.why)
    Console(width=160, highlight=False).print(table)


@privacy.command("limits")
def limits() -> None:
    """List within how many days each kind of request is carried out."""
    table = Table(box=None, pad_edge=False)
    for column in ("kind", "days", "with a processor", "title", "act"):
        table.add_column(column)
    for kind, limit in LIMITS.items():
        table.add_row(kind.value, str(limit.days), str(limit.with_processor), limit.title, limit.act)
    Console(width=160, highlight=False).print(table)


@privacy.command("lift-restriction")
@click.argument("person", type=click.UUID)
def lift_restriction(person: UUID) -> None:
    """Let the data of PERSON (an id of ours) be used by consent again, because they want it."""
    in_transaction(lambda session: operations.lift_restriction(session, person, actor=ACTOR))
    click.echo("lifted", err=True)


def _late(case: Case, now: datetime) -> bool:
    standing = case.standing(now)
    return standing is not None and standing.overdue
