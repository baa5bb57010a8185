"""Files to reconcile with: daily reports of providers and statements of banks, read into lines.  Pure.

What the bytes are is seen from the bytes, never from a file's name.  A file is read whole or refused with
:class:`StatementUnreadable`, whatever it is: a number of rows, a sum or a balance that does not fit refuses it too.
docs/reconciliation.md describes the formats.
"""

from bkapp.payments.statements.camt import read_camt
from bkapp.payments.statements.lines import (
    MOST_BYTES,
    MOST_LINES,
    Kind,
    Line,
    Report,
    Source,
    StatementUnreadable,
    Status,
)
from bkapp.payments.statements.reports import read_report, write_report
from bkapp.payments.statements.sheets import read_csv, read_workbook
from bkapp.payments.statements.swift import read_mt940

__all__ = [
    "MOST_BYTES",
    "MOST_LINES",
    "Kind",
    "Line",
    "Report",
    "Source",
    "StatementUnreadable",
    "Status",
    "read",
    "write_report",
]


def read(data: bytes, source: Source) -> Report:
    """The lines of a file; raise :class:`StatementUnreadable`, and nothing else, whatever the bytes are."""
    if len(data) > MOST_BYTES:
        raise StatementUnreadable(f"A file has at most {MOST_BYTES >> 20} MB.")
    if not data.strip():
        raise StatementUnreadable("The file is empty.")
    if source is Source.PROVIDER:
        return read_report(data)
    if data.startswith(b"PK\x03\x04"):
        return read_workbook(data)
    start = data.removeprefix(b"\xef\xbb\xbf").lstrip()[:4]
    if start.startswith(b"<"):
        return read_camt(data)
    if start.startswith((b"{1:", b":20:")):
        return read_mt940(data)
    return read_csv(data)
