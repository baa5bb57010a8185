"""What every reader makes of a file, and how it refuses one."""

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from enum import StrEnum
from zoneinfo import ZoneInfo

from msgspec import Struct

from bkapp.errors import FieldError, Invalid
from bkapp.payments.references import references_in

HANOI = ZoneInfo("Asia/Ho_Chi_Minh")
MOST_BYTES = 5 << 20
MOST_LINES = 50_000
MOST_AMOUNT = 10**13


class StatementUnreadable(Invalid):
    """A report or statement is not of a format that is read, or damaged; nothing of it was taken."""

    code = "statement_unreadable"
    title = "Tệp đối soát chưa đọc được, chưa ghi nhận dòng nào"

    def __init__(self, detail: str, *, line: int | None = None, field: str = "") -> None:
        """``line`` is the line of the file (of a sheet: the row) and ``field`` the column or tag."""
        pointer = "".join(f"/{part}" for part in (line, field) if part not in {None, ""})
        facts = {} if line is None else {"line": line}
        where = "" if line is None else f"Line {line}: "
        super().__init__(where + detail, [FieldError(pointer, detail)], **facts)


class Source(StrEnum):
    """Who made a file."""

    PROVIDER = "provider"
    BANK = "bank"


class Kind(StrEnum):
    """Which way the money of a line went: to us, or back."""

    PAYMENT = "payment"
    REFUND = "refund"


class Status(StrEnum):
    """What a line says came of it."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    PENDING = "pending"


class Line(Struct, frozen=True, kw_only=True):
    """A line of a file.

    ``references`` are ours, as found in it; ``transaction`` is the provider's or the bank's number, empty only where
    no money moved.  ``content`` is what a bank tells of a transfer: it holds names, so it is never kept.
    """

    kind: Kind
    references: tuple[str, ...]
    transaction: str
    amount: int
    status: Status
    at: datetime
    content: str = ""

    @property
    def moved(self) -> int:
        """By how much the line says that our money grew."""
        if self.status is not Status.SUCCEEDED:
            return 0
        return self.amount if self.kind is Kind.PAYMENT else -self.amount


class Report(Struct, frozen=True, kw_only=True):
    """A file that was read.  ``merchant`` and ``account`` (as a bank writes it) are empty where it does not say."""

    format: str
    business_date: date
    lines: Sequence[Line]
    merchant: str = ""
    account: str = ""

    @property
    def count(self) -> int:
        """How many lines it has."""
        return len(self.lines)

    @property
    def total(self) -> int:
        """By how much our money grew, all lines together."""
        return sum(line.moved for line in self.lines)


def text_of(data: bytes) -> str:
    """A text file's text; a byte order mark is no part of it."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise StatementUnreadable("not UTF-8", line=line) from None
    if "\0" in text:
        raise StatementUnreadable("The file holds NUL characters.")
    return text


def amount_of(text: str, *, line: int, field: str = "amount", signed: bool = False) -> int:
    """Đồng in plain digits; below zero only where ``signed``."""
    sign = r"[+-]?" if signed else ""
    if re.fullmatch(sign + r"[0-9]{1,13}", text) is None or int(text) == 0:
        raise StatementUnreadable(
            "an amount is a whole number of đồng, in digits alone, and not 0", line=line, field=field
        )
    return int(text)


def number_of(text: str, *, line: int, field: str = "transaction", needed: bool = True) -> str:
    """The provider's or bank's number of a transaction."""
    text = text.strip()
    if (needed and not text) or len(text) > 120 or not text.isprintable():
        raise StatementUnreadable("the number of the transaction is missing or no text", line=line, field=field)
    return text


def midnight(day: date) -> datetime:
    """When a day begins in Hà Nội, where nothing more exact is told."""
    return datetime.combine(day, time(), HANOI).astimezone(UTC)


def in_hanoi(at: datetime, *, line: int, field: str) -> datetime:
    """A time as UTC, Hà Nội's where it does not say whose; only of years in which there can be money of ours."""
    if not 2000 <= at.year <= 2200:
        raise StatementUnreadable("a year between 2000 and 2200", line=line, field=field)
    return (at if at.tzinfo is not None else at.replace(tzinfo=HANOI)).astimezone(UTC)


def bank_line(*, at: datetime, transaction: str, amount: int, content: str, pending: bool = False) -> Line:
    """What a bank says of one movement: a credit is a payment, a debit a refund."""
    return Line(
        kind=Kind.PAYMENT if amount > 0 else Kind.REFUND,
        references=tuple(references_in(content)),
        transaction=transaction,
        amount=abs(amount),
        status=Status.PENDING if pending else Status.SUCCEEDED,
        at=at,
        content=content,
    )
