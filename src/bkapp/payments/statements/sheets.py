"""Statements of banks as tables: CSV and XLSX with the columns ``date, transaction, amount, content``."""

import re
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime
from io import BytesIO
from typing import Any

import openpyxl

from bkapp.payments.statements.lines import (
    HANOI,
    MOST_LINES,
    Line,
    Report,
    StatementUnreadable,
    amount_of,
    bank_line,
    in_hanoi,
    number_of,
    text_of,
)
from bkapp.payments.statements.reports import framed, is_framed, records

COLUMNS = ("date", "transaction", "amount", "content")
MOST_UNPACKED = 24 << 20  # bytes; a workbook of 50,000 lines has about 15 MB
MOST_MEMBERS = 200
_DAYS = ("%Y-%m-%d", "%d/%m/%Y", "%d/%m/%Y %H:%M", "%d/%m/%Y %H:%M:%S")


def read_csv(data: bytes) -> Report:
    """A CSV file with commas or semicolons, in the frame of a report of ours or without it."""
    text = text_of(data)
    if is_framed(text):
        frame = framed(text)
        signed = list(_lines(records(frame.rows, COLUMNS, first=frame.first)))
        if sum(line.moved for line in signed) != frame.total:
            raise StatementUnreadable("the amounts do not come to the sum of the header", line=1)
        return Report(format="csv", business_date=frame.business_date, lines=signed, merchant=frame.merchant)
    rows = text.replace("\r\n", "\n").rstrip("\n").split("\n")
    if len(rows) - 1 > MOST_LINES:
        raise StatementUnreadable(f"A file has at most {MOST_LINES} lines.")
    lines = list(_lines(records(rows, COLUMNS, first=1)))
    return Report(format="csv", business_date=_one_day(lines), lines=lines)


def read_workbook(data: bytes) -> Report:
    """The only sheet of an XLSX file.  A formula says what another program made of it, so there may be none."""
    _require_small(data)
    try:
        workbook = openpyxl.load_workbook(BytesIO(data), read_only=True, keep_links=False)
        try:
            if len(workbook.worksheets) != 1:
                raise StatementUnreadable("A workbook has one sheet.")
            rows = list(_rows(workbook.worksheets[0]))
        finally:
            workbook.close()
    except StatementUnreadable:
        raise
    except Exception:  # noqa: BLE001  (whatever a damaged file makes of the libraries)
        raise StatementUnreadable("The file is no XLSX workbook, or a damaged one.") from None
    if not rows or rows[0][1] != list(COLUMNS):
        raise StatementUnreadable(f"the columns are {', '.join(COLUMNS)}", line=1)
    lines = list(_lines(rows[1:]))
    return Report(format="xlsx", business_date=_one_day(lines), lines=lines)


def _require_small(data: bytes) -> None:
    """Refuse a file that would be unpacked to more than a statement can be.  No more than it says is unpacked."""
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError, RuntimeError):
        raise StatementUnreadable("The file is no XLSX workbook, or a damaged one.") from None
    if len(members) > MOST_MEMBERS or sum(member.file_size for member in members) > MOST_UNPACKED:
        raise StatementUnreadable(f"Unpacked, a workbook has at most {MOST_UNPACKED >> 20} MB.")


def _rows(sheet: Any) -> Iterator[tuple[int, list[str]]]:
    """The rows of a sheet as texts, with their numbers; those without any value are left out."""
    for number, row in enumerate(sheet.iter_rows(max_col=len(COLUMNS) + 1), 1):
        if number > MOST_LINES + 1:
            raise StatementUnreadable(f"A file has at most {MOST_LINES} lines.")
        texts = [_text(cell, number) for cell in row]
        if texts[len(COLUMNS) :] not in ([], [""]):
            raise StatementUnreadable(f"more columns than {', '.join(COLUMNS)}", line=number)
        if any(texts):
            yield number, (texts + [""] * len(COLUMNS))[: len(COLUMNS)]


def _text(cell: Any, line: int) -> str:
    if cell.value is None:
        return ""
    if cell.data_type in {"f", "e"}:
        raise StatementUnreadable("a formula, or the error of one: save the sheet with values", line=line)
    if isinstance(cell.value, datetime):
        return cell.value.replace(microsecond=0).isoformat(sep=" ")
    if isinstance(cell.value, str):
        return cell.value.strip()
    if isinstance(cell.value, bool) or not isinstance(cell.value, int | float) or cell.value != int(cell.value):
        raise StatementUnreadable("a value that is no text, whole number or date", line=line)
    if abs(cell.value) >= 10**15:
        raise StatementUnreadable("a number of more than 15 digits, which sheets round: write it as text", line=line)
    return str(int(cell.value))


def _lines(rows: Iterable[tuple[int, Sequence[str]]]) -> Iterator[Line]:
    for line, (at, transaction, amount, content) in rows:
        yield bank_line(
            at=_time(at.strip(), line),
            transaction=number_of(transaction, line=line),
            amount=amount_of(amount.strip(), line=line, signed=True),
            content=content,
        )


def _time(text: str, line: int) -> datetime:
    """ISO 8601, or a day or time as they are written in Vietnam."""
    for form in _DAYS:
        try:
            return in_hanoi(datetime.strptime(text, form).replace(tzinfo=HANOI), line=line, field="date")
        except ValueError:
            continue
    if re.match(r"[0-9]{4}-", text):
        try:
            return in_hanoi(datetime.fromisoformat(text), line=line, field="date")
        except ValueError:
            pass
    raise StatementUnreadable("no day or time", line=line, field="date")


def _one_day(lines: Sequence[Line]) -> date:
    """The day that all lines are of, where nothing else says which it is."""
    days = {line.at.astimezone(HANOI).date() for line in lines}
    if len(days) != 1:
        raise StatementUnreadable(
            "The file is of no day: send the lines of one day, or put a header and a trailer around them."
            if not days
            else f"The file is of {len(days)} days: send one for each day."
        )
    return days.pop()
