"""Comparing a file with our own books.  Pure, and the same whenever it is asked.

Each line of the file becomes an :class:`Item`, and so does each of ours that the file should speak of and does not.
What the types mean is told in docs/reconciliation.md; in short: ``matched``; ``only_theirs``, a try or money we know
nothing of; ``only_ours``, money of ours without a line; ``amount``; ``status``, where both know how it ended and
disagree; ``duplicate``, a line whose number stands there twice, or a second payment of one attempt; ``refund``,
whatever is wrong with a refund.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from enum import StrEnum
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from bkapp.payments.rules import LIVE, RESERVING, AttemptStatus, RefundStatus
from bkapp.payments.statements import Kind, Line, Status


class Type(StrEnum):
    """What comparing found."""

    MATCHED = "matched"
    ONLY_OURS = "only_ours"
    ONLY_THEIRS = "only_theirs"
    AMOUNT = "amount"
    STATUS = "status"
    DUPLICATE = "duplicate"
    REFUND = "refund"


class Money(Struct, frozen=True, kw_only=True):
    """A receipt of ours.

    ``transaction`` is empty while nobody told its number.  ``expected``: the file should speak of it, because it came
    on the file's day; ``confirmed``: another file of the same source does.
    """

    id: UUID
    reference: str  # of its attempt; "" where it has none
    transaction: str
    amount: int
    stands: bool  # it was not reversed
    expected: bool
    confirmed: bool = False


class Try(Struct, frozen=True, kw_only=True):
    """An attempt of ours."""

    reference: str
    amount: int
    status: AttemptStatus


class Repayment(Struct, frozen=True, kw_only=True):
    """A refund of ours; ``expected`` and ``confirmed`` as for :class:`Money`."""

    id: UUID
    reference: str
    transaction: str
    amount: int
    status: RefundStatus
    expected: bool
    confirmed: bool = False


class Books(Struct, frozen=True):
    """What we have that a file can speak of: of its day, or named by one of its lines."""

    money: Sequence[Money] = ()
    tries: Sequence[Try] = ()
    repayments: Sequence[Repayment] = ()


class Item(Struct, frozen=True, kw_only=True):
    """What comparing found.  ``line`` is an index into the file's lines; ``news``: the line tells something about money
    that we have to hear."""

    type: Type
    line: int | None = None
    receipt: UUID | None = None
    refund: UUID | None = None
    reference: str = ""  # of the attempt or refund that the line is about, as far as we know it
    ours: int | None = None
    theirs: int | None = None
    news: bool = False


def compare(books: Books, lines: Sequence[Line]) -> list[Item]:
    """Compare line by line; the items of lines in their order, behind them what is only ours."""
    found: dict[int, Item] = {}
    repeated = _repeated(lines)
    for index in repeated:
        found[index] = Item(type=Type.DUPLICATE, line=index, theirs=lines[index].amount)
    # Lines that say what succeeded go first: what a failed try beside a paid one means depends on them.
    order = sorted(
        (index for index in range(len(lines)) if index not in repeated),
        key=lambda index: (lines[index].status is not Status.SUCCEEDED, index),
    )
    payments, refunds = _Payments(books), _Refunds(books)
    for index in order:
        line = lines[index]
        found[index] = payments.item(index, line) if line.kind is Kind.PAYMENT else refunds.item(index, line)
    return [found[index] for index in range(len(lines))] + payments.missing() + refunds.missing()


def _repeated(lines: Sequence[Line]) -> set[int]:
    """The lines whose number another line of the same kind has; one that says it succeeded is the one that counts."""
    counts: dict[tuple[Kind, str], int] = {}
    again: set[int] = set()
    for index, line in enumerate(lines):
        if not line.transaction:
            continue
        first = counts.setdefault((line.kind, line.transaction), index)
        if first == index:
            continue
        if line.status is Status.SUCCEEDED and lines[first].status is not Status.SUCCEEDED:
            counts[line.kind, line.transaction] = index
            again.add(first)
        else:
            again.add(index)
    return again


class _Payments:
    """Our receipts and attempts, and which of them a line has spoken of."""

    def __init__(self, books: Books) -> None:
        self._tries = {one.reference: one for one in books.tries}
        self._numbered = {one.transaction: one for one in books.money if one.transaction}
        self._of: dict[str, list[Money]] = {}
        for one in books.money:
            if one.reference:
                self._of.setdefault(one.reference, []).append(one)
        self._money = books.money
        self._spoken: set[UUID] = set()

    def item(self, index: int, line: Line) -> Item:
        known = [reference for reference in line.references if reference in self._tries]
        tried = self._tries[known[0]] if known else None
        money = self._money_of(line, known)
        if money is not None:
            return self._of_money(index, line, money, known)
        if line.status is Status.SUCCEEDED:
            return self._unknown_success(index, line, tried)
        return self._no_success(index, line, tried)

    def missing(self) -> list[Item]:
        return [
            Item(type=Type.ONLY_OURS, receipt=one.id, reference=one.reference, ours=one.amount)
            for one in self._money
            if one.expected and one.stands and not one.confirmed and one.id not in self._spoken
        ]

    def _money_of(self, line: Line, known: Sequence[str]) -> Money | None:
        """The receipt that a line is about: that of its number, or one of its attempt that has no number yet."""
        found = self._numbered.get(line.transaction) if line.transaction else None
        if found is not None or line.status is not Status.SUCCEEDED:
            return found
        unnumbered = (one for name in known for one in self._of.get(name, ()) if not one.transaction)
        return next((one for one in unnumbered if one.id not in self._spoken), None)

    def _of_money(self, index: int, line: Line, money: Money, known: Sequence[str]) -> Item:
        self._spoken.add(money.id)
        agreed = money.stands == (line.status is Status.SUCCEEDED)
        elsewhere = bool(known) and bool(money.reference) and money.reference not in known
        kind = Type.MATCHED
        if not agreed or elsewhere:
            kind = Type.STATUS
        elif money.amount != line.amount:
            kind = Type.AMOUNT
        return Item(
            type=kind,
            line=index,
            receipt=money.id,
            reference=money.reference,
            ours=money.amount,
            theirs=line.amount,
            news=not agreed and line.status is not Status.PENDING,
        )

    def _unknown_success(self, index: int, line: Line, tried: Try | None) -> Item:
        """Money came, they say, that we do not have."""
        kind = Type.ONLY_THEIRS
        if tried is not None and tried.status is AttemptStatus.FAILED:
            kind = Type.STATUS
        elif tried is not None and tried.status is AttemptStatus.SUCCEEDED:
            kind = Type.DUPLICATE
        return Item(
            type=kind,
            line=index,
            reference=tried.reference if tried else "",
            ours=tried.amount if tried else None,
            theirs=line.amount,
            news=True,
        )

    def _no_success(self, index: int, line: Line, tried: Try | None) -> Item:
        """No money came, they say, at least not yet."""
        if tried is None:
            return Item(type=Type.ONLY_THEIRS, line=index, theirs=line.amount)
        item = Item(type=Type.MATCHED, line=index, reference=tried.reference, ours=tried.amount, theirs=line.amount)
        if tried.status is AttemptStatus.SUCCEEDED:
            paid = [one for one in self._of.get(tried.reference, ()) if one.stands]
            if all(one.confirmed or one.id in self._spoken for one in paid):
                return item  # a try beside the one that was paid
            doubted = next(one for one in paid if not one.confirmed and one.id not in self._spoken)
            self._spoken.add(doubted.id)
            return Item(
                type=Type.STATUS,
                line=index,
                receipt=doubted.id,
                reference=tried.reference,
                ours=doubted.amount,
                theirs=line.amount,
                news=line.status is Status.FAILED,
            )
        failed = line.status is Status.FAILED
        if (failed and tried.status in LIVE) or (not failed and tried.status is AttemptStatus.FAILED):
            return replace(item, type=Type.STATUS, news=failed)
        return item if tried.amount == line.amount else replace(item, type=Type.AMOUNT)


class _Refunds:
    """Our refunds, and which of them a line has spoken of."""

    def __init__(self, books: Books) -> None:
        self._repayments = books.repayments
        self._named = {one.reference: one for one in books.repayments}
        self._numbered = {one.transaction: one for one in books.repayments if one.transaction}
        self._done: set[UUID] = set()  # a line says it succeeded
        self._spoken: set[UUID] = set()

    def item(self, index: int, line: Line) -> Item:
        found = next((self._named[name] for name in line.references if name in self._named), None)
        found = found or (self._numbered.get(line.transaction) if line.transaction else None)
        if found is None:
            return Item(type=Type.REFUND, line=index, theirs=line.amount)
        beside = found.id in self._done or (found.confirmed and line.status is not Status.SUCCEEDED)
        self._spoken.add(found.id)
        item = Item(
            type=Type.MATCHED,
            line=index,
            refund=found.id,
            reference=found.reference,
            ours=found.amount,
            theirs=line.amount,
        )
        if line.status is Status.SUCCEEDED:
            if beside:
                return replace(item, type=Type.REFUND)  # given back a second time
            self._done.add(found.id)
            agreed = found.status is RefundStatus.SUCCEEDED
        elif beside:
            return item  # a try beside the one that succeeded
        elif line.status is Status.FAILED:
            agreed = found.status in {RefundStatus.FAILED, RefundStatus.REJECTED}
        else:
            agreed = found.status in RESERVING
        if agreed and found.amount == line.amount:
            return item
        # What was given back is heard when it is the amount that was meant to be.
        heard = not agreed and found.amount == line.amount and line.status is not Status.PENDING
        return replace(item, type=Type.REFUND, news=heard)

    def missing(self) -> list[Item]:
        return [
            Item(type=Type.REFUND, refund=one.id, reference=one.reference, ours=one.amount)
            for one in self._repayments
            if one.expected and not one.confirmed and one.id not in self._spoken
        ]


# --- settlement: banks that get the money of a provider's whole day at once --------------------------------------


class Day(Struct, frozen=True):
    """What a provider's report of a day comes to, and the bank's number of the transfer that settled it, if one did."""

    date: date
    net: int
    settled_by: str = ""


class Settled(Struct, frozen=True):
    """What a line of a bank's statement is to the days of a provider."""

    item: Item
    day: date | None


_ISO = re.compile(r"(?<![0-9])(20[0-9]{2})-?([0-9]{2})-?([0-9]{2})(?![0-9])")
_VIETNAMESE = re.compile(r"(?<![0-9])([0-9]{2})[/.-]?([0-9]{2})[/.-]?(20[0-9]{2})(?![0-9])")


def days_in(content: str) -> list[date]:
    """The days that the content of a transfer names: ``20/10/2026``, ``20102026``, ``2026-10-20``, ``20261020``."""
    found = [(match[1], match[2], match[3]) for match in _VIETNAMESE.finditer(content)]
    named = [(int(year), int(month), int(day)) for day, month, year in found]
    named += [(int(match[1]), int(match[2]), int(match[3])) for match in _ISO.finditer(content)]
    days = []
    for year, month, day in named:
        try:
            days.append(date(year, month, day))
        except ValueError:
            continue
    return list(dict.fromkeys(days))


def settle(days: Iterable[Day], lines: Sequence[Line]) -> list[Settled]:
    """Find the day that each line settles: the one it names, or the oldest that comes to its amount."""
    open_days: dict[date, Day] = {day.date: day for day in sorted(days, key=lambda day: day.date)}
    before: Mapping[str, Day] = {day.settled_by: day for day in open_days.values() if day.settled_by}
    repeated = _repeated(lines)
    found = []
    for index, line in enumerate(lines):
        if index in repeated:
            found.append(Settled(Item(type=Type.DUPLICATE, line=index, theirs=line.moved), None))
            continue
        day = before.get(line.transaction)
        if day is None:
            named = [open_days[one] for one in days_in(line.content) if one in open_days]
            alike = (one for one in open_days.values() if one.net == line.moved and not one.settled_by)
            day = named[0] if named else next(alike, None)
        if day is None:
            found.append(Settled(Item(type=Type.ONLY_THEIRS, line=index, theirs=line.moved), None))
        elif day.settled_by not in {"", line.transaction}:
            found.append(Settled(Item(type=Type.DUPLICATE, line=index, ours=day.net, theirs=line.moved), None))
        else:
            kind = Type.MATCHED if day.net == line.moved else Type.AMOUNT
            found.append(Settled(Item(type=kind, line=index, ours=day.net, theirs=line.moved), day.date))
            open_days[day.date] = Day(day.date, day.net, line.transaction)
    return found
