"""The daily report of a provider, in our own format, and the frame that a bank's CSV may have around it, too.

::

    # bkapp-report;vnpay;2026-10-20;2;30000
    reference,transaction,kind,amount,status,at
    TT7K3M9Q2M4G,14422574,payment,20000,succeeded,2026-10-20T08:15:00+07:00
    HT0A1B2C3D45,14422601,refund,10000,succeeded,2026-10-20T09:00:00+07:00
    # end;2;30000;<SHA-256 of the two rows, each with a line feed behind it, in hex>
"""

import csv
import hashlib
import re
from collections.abc import Iterator, Sequence
from datetime import date, datetime

from msgspec import Struct

from bkapp.payments.statements.lines import (
    HANOI,
    MOST_LINES,
    Kind,
    Line,
    Report,
    StatementUnreadable,
    Status,
    amount_of,
    in_hanoi,
    number_of,
    text_of,
)

FORMAT = "bkapp"
COLUMNS = ("reference", "transaction", "kind", "amount", "status", "at")
_HEAD = re.compile(r"# bkapp-report;([a-z][a-z0-9-]{1,31});([0-9]{4}-[0-9]{2}-[0-9]{2});([0-9]{1,6});(-?[0-9]{1,18})")
_END = re.compile(r"# end;([0-9]{1,6});(-?[0-9]{1,18});([0-9a-f]{64})")


class Framed(Struct, frozen=True):
    """The rows between a header and a trailer that fit them.  ``first`` is the line of the file the columns are on."""

    merchant: str
    business_date: date
    rows: Sequence[str]  # the names of the columns among them, first
    first: int
    total: int  # what the column ``amount`` comes to


def is_framed(text: str) -> bool:
    """Whether a text begins as a report of ours does."""
    return text.startswith("# bkapp-report")


def framed(text: str) -> Framed:
    """Check the number of rows and the hash that the header and the trailer tell."""
    lines = text.replace("\r\n", "\n").rstrip("\n").split("\n")
    if len(lines) - 3 > MOST_LINES:
        raise StatementUnreadable(f"A file has at most {MOST_LINES} lines.")
    head = _HEAD.fullmatch(lines[0])
    if head is None:
        raise StatementUnreadable("no header: # bkapp-report;merchant;yyyy-mm-dd;count;sum", line=1)
    end = _END.fullmatch(lines[-1])
    if end is None or len(lines) < 3:
        raise StatementUnreadable("no trailer: # end;count;sum;sha256", line=len(lines))
    rows = lines[2:-1]
    if not int(head[3]) == int(end[1]) == len(rows):
        raise StatementUnreadable(f"{head[3]} rows in the header, {end[1]} in the trailer, {len(rows)} there", line=1)
    if int(head[4]) != int(end[2]):
        raise StatementUnreadable("the sums of the header and the trailer differ", line=len(lines))
    if row_hash(rows) != end[3]:
        raise StatementUnreadable("the rows are not those that the trailer has the hash of", line=len(lines))
    try:
        day = date.fromisoformat(head[2])
    except ValueError:
        raise StatementUnreadable("no day", line=1) from None
    return Framed(head[1], day, lines[1:-1], 2, int(head[4]))


def row_hash(rows: Sequence[str]) -> str:
    """What a trailer holds of the rows."""
    return hashlib.sha256("".join(row + "\n" for row in rows).encode()).hexdigest()


def records(rows: Sequence[str], columns: Sequence[str], *, first: int) -> Iterator[tuple[int, list[str]]]:
    """The fields of each row behind the names of the columns, with its line in the file; a row is one line."""
    delimiter = ";" if rows and ";" in rows[0] else ","
    for line, row in enumerate(rows, first):
        try:
            fields = next(csv.reader([row], delimiter=delimiter, strict=True), [])
        except csv.Error:
            raise StatementUnreadable("the quotes do not fit", line=line) from None
        if line == first:
            if fields != list(columns):
                raise StatementUnreadable(f"the columns are {', '.join(columns)}", line=line)
            continue
        if len(fields) != len(columns):
            raise StatementUnreadable(f"{len(fields)} columns and not {len(columns)}", line=line)
        yield line, fields


def read_report(data: bytes) -> Report:
    """A provider's daily report."""
    text = text_of(data)
    if not is_framed(text):
        raise StatementUnreadable("no header: # bkapp-report;merchant;yyyy-mm-dd;count;sum", line=1)
    frame = framed(text)
    lines = [_line(line, fields) for line, fields in records(frame.rows, COLUMNS, first=frame.first)]
    if sum(line.amount for line in lines) != frame.total:
        raise StatementUnreadable("the amounts do not come to the sum of the header", line=1)
    return Report(format=FORMAT, business_date=frame.business_date, lines=lines, merchant=frame.merchant)


def _line(line: int, fields: Sequence[str]) -> Line:
    reference, transaction, kind, amount, status, at = fields
    if re.fullmatch(r"[0-9A-Za-z._-]{0,40}", reference) is None:
        raise StatementUnreadable("a reference is at most 40 letters and digits", line=line, field="reference")
    try:
        said = Status(status)
        which = Kind(kind)
    except ValueError:
        field = "status" if status not in set(Status) else "kind"
        raise StatementUnreadable(f"no {field} that is known", line=line, field=field) from None
    try:
        when = datetime.fromisoformat(at)
    except ValueError:
        raise StatementUnreadable("no time of ISO 8601", line=line, field="at") from None
    if when.tzinfo is None:
        raise StatementUnreadable("the time has no offset", line=line, field="at")
    return Line(
        kind=which,
        references=(reference,) if reference else (),
        transaction=number_of(transaction, line=line, needed=said is Status.SUCCEEDED),
        amount=amount_of(amount, line=line),
        status=said,
        at=in_hanoi(when, line=line, field="at"),
    )


def write_report(merchant: str, business_date: date, lines: Sequence[Line]) -> bytes:
    """A report of a provider as :func:`read_report` reads it, for those who make one."""
    rows = [
        ",".join(
            [
                line.references[0] if line.references else "",
                line.transaction if line.transaction.isalnum() else '"' + line.transaction.replace('"', '""') + '"',
                line.kind,
                str(line.amount),
                line.status,
                line.at.astimezone(HANOI).isoformat(),
            ]
        )
        for line in lines
    ]
    counts = f"{len(rows)};{sum(line.amount for line in lines)}"
    head = [f"# bkapp-report;{merchant};{business_date};{counts}", ",".join(COLUMNS)]
    return "".join(f"{line}\n" for line in [*head, *rows, f"# end;{counts};{row_hash(rows)}"]).encode()
