"""Statements of banks as SWIFT MT940, read by the library mt-940."""

import io
import logging
import re
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import Any

import mt940

from bkapp.payments.statements.lines import (
    MOST_AMOUNT,
    MOST_LINES,
    Line,
    Report,
    StatementUnreadable,
    bank_line,
    midnight,
    number_of,
    text_of,
)

# The library logs what it cannot read, with names and accounts in it.
logging.getLogger("mt940").setLevel(logging.CRITICAL + 1)

_OPENINGS = ("final_opening_balance", "intermediate_opening_balance", "opening_balance")
_CLOSINGS = ("final_closing_balance", "intermediate_closing_balance", "closing_balance")
MOST_MESSAGES = 2_000
_FIELD = re.compile(r"^:[0-9A-Z]{2,3}:", re.MULTILINE)
_SUBFIELD = re.compile(r"\?[0-9]{2}")


def read_mt940(data: bytes) -> Report:
    """One account's statement, in one message or several that follow each other; its balances have to fit its lines."""
    text, places = _statements_of(text_of(data))
    if len(places) > MOST_LINES:
        raise StatementUnreadable(f"A file has at most {MOST_LINES} lines.")
    # The library takes long over fields that no statement has.
    count = len(re.findall(r"^:20:", text, re.MULTILINE))
    if count > MOST_MESSAGES or len(_FIELD.findall(text)) > 2 * len(places) + 12 * count:
        raise StatementUnreadable("more messages or fields than a statement has")
    try:
        messages = mt940.parse_statements(
            io.StringIO(text),  # a text would be taken for the name of a file, if there is one
            processors={"post_transaction_details": []},
            options=mt940.Options.all(),
        )
        pages = [(dict(page.data), [dict(movement.data) for movement in page.transactions]) for page in messages]
    except Exception:  # noqa: BLE001  (the library raises whatever a damaged field leads to)
        raise StatementUnreadable("The file is no MT940 statement, or a damaged one.") from None
    movements = [movement for _, page in pages for movement in page]
    # A movement without its type would be overwritten by the next one.
    if len(movements) != len(places):
        raise StatementUnreadable("a field :61: without the type of the movement", field=":61:")
    lines = [_line(movement, line) for movement, line in zip(movements, places, strict=True)]
    day = _checked([page for page, _ in pages], lines, pages)
    return Report(format="mt940", business_date=day, lines=lines, account=pages[0][0]["account_identification"])


def _statements_of(text: str) -> tuple[str, list[int]]:
    """The text without what belongs to no movement, and on which lines of the file movements begin.

    Left out are the envelopes of messages and what is told behind a closing balance, which the library takes for a
    part of the last movement.
    """
    kept, places, closed = [], [], False
    for number, raw in enumerate(text.replace("\r", "").split("\n"), 1):
        line = raw.partition("{4:")[2] if raw.startswith("{") else raw
        if line.startswith(":20:"):
            closed = False
        if line.startswith("-}") or closed or not line:
            continue
        if line.startswith(":61:"):
            places.append(number)
        closed = line.startswith((":62:", ":62F:", ":62M:"))
        kept.append(line)
    return "\n".join(kept), places


def _line(movement: dict[str, Any], line: int) -> Line:
    amount: Any = movement["amount"].amount
    if amount != int(amount) or not 0 < abs(amount) <= MOST_AMOUNT:
        raise StatementUnreadable("an amount is a whole number of đồng and not 0", line=line, field=":61:")
    if movement.get("currency") != "VND":
        raise StatementUnreadable("the account is not in đồng", line=line, field=":60F:")
    day: Any = movement.get("entry_date") or movement["date"]
    customers = (movement.get("customer_reference") or "").strip()
    number = (movement.get("bank_reference") or "").strip() or customers
    if number.upper() == "NONREF":
        raise StatementUnreadable("a movement without the bank's reference", line=line, field=":61:")
    told = [movement.get("transaction_details"), movement.get("extra_details"), customers]
    return bank_line(
        at=midnight(date(day.year, day.month, day.day)),
        transaction=number_of(number, line=line, field=":61:"),
        amount=int(amount),
        content=_SUBFIELD.sub("", " ".join(part for part in told if part)),
    )


def _checked(
    heads: Sequence[dict[str, Any]], lines: Sequence[Line], pages: Sequence[tuple[dict[str, Any], list[Any]]]
) -> date:
    """The day of the last closing balance, when each message goes on where the one before it ended."""
    if len({head.get("account_identification") for head in heads}) != 1 or not heads[0].get("account_identification"):
        raise StatementUnreadable("not the statement of one account", field=":25:")
    expected: Decimal | None = None
    day: Any = None
    done = 0
    for head, page in pages:
        opening = next((head[name] for name in _OPENINGS if name in head), None)
        closing = next((head[name] for name in _CLOSINGS if name in head), None)
        if opening is None or closing is None:
            raise StatementUnreadable("no opening or no closing balance", field=":62F:")
        if expected is not None and opening.amount.amount != expected:
            raise StatementUnreadable("a message does not begin where the one before it ends", field=":60F:")
        moved = sum(line.moved for line in lines[done : done + len(page)])
        if opening.amount.amount + moved != closing.amount.amount or closing.amount.currency != "VND":
            raise StatementUnreadable("the lines do not lead from the opening to the closing balance", field=":62F:")
        expected, day, done = closing.amount.amount, closing.date, done + len(page)
    return date(day.year, day.month, day.day)
