"""Statements of banks as ISO 20022 CAMT.053, read by defusedxml.

It refuses document types and entities.  A parser for the message was measured and not taken: pycamt 1.1 accepts both,
looks through the whole statement for each entry of an account without IBAN, as all in Vietnam are, and drops the
currency of details.
"""

import re
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from bkapp.payments.statements.lines import (
    MOST_AMOUNT,
    MOST_LINES,
    Line,
    Report,
    StatementUnreadable,
    bank_line,
    in_hanoi,
    number_of,
)

_DOCUMENT = re.compile(r"\{(urn:iso:std:iso:20022:tech:xsd:camt\.053\.001\.(?:0[2-9]|1[0-9]))\}Document")


def read_camt(data: bytes) -> Report:
    """One account's statement of a day; its balances have to fit its entries."""
    try:
        root = fromstring(data, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError):
        raise StatementUnreadable("The file is no XML without entities, or a damaged one.") from None
    name = _DOCUMENT.fullmatch(root.tag)
    if name is None:
        raise StatementUnreadable("The file is no CAMT.053 message.")
    space = {"": name[1]}
    statements = root.findall("BkToCstmrStmt/Stmt", space)
    if len(statements) != 1:
        raise StatementUnreadable(f"{len(statements)} statements and not one", field="Stmt")
    (statement,) = statements
    entries = statement.findall("Ntry", space)
    lines: list[Line] = []
    booked = Decimal(0)
    for number, entry in enumerate(entries, 1):
        found = list(_lines(entry, number, space))
        lines += found
        booked += sum(line.moved for line in found)
        if len(lines) > MOST_LINES:
            raise StatementUnreadable(f"A file has at most {MOST_LINES} lines.")
    balances = dict(_balances(statement, space))
    if "CLBD" not in balances:
        raise StatementUnreadable("no closing balance (CLBD)", field="Bal")
    opening = balances.get("OPBD", balances.get("PRCD"))
    if opening is None or opening[0] + booked != balances["CLBD"][0]:
        raise StatementUnreadable("the entries do not lead from the opening to the closing balance", field="Bal")
    account = _text(statement, "Acct/Id/Othr/Id", space) or _text(statement, "Acct/Id/IBAN", space)
    return Report(format="camt053", business_date=balances["CLBD"][1], lines=lines, account=account)


def _balances(statement: Element, space: dict[str, str]) -> Iterator[tuple[str, tuple[Decimal, date]]]:
    for number, balance in enumerate(statement.findall("Bal", space), 1):
        kind = _text(balance, "Tp/CdOrPrtry/Cd", space)
        day = _day(balance, "Dt", space, number)
        yield kind, (_amount(balance, space, number, "Bal"), day.date())


def _lines(entry: Element, number: int, space: dict[str, str]) -> Iterator[Line]:
    """The movements of an entry: itself, or each of a batch.  Entries for information alone are none."""
    status = _text(entry, "Sts/Cd", space) or _text(entry, "Sts", space)
    if status == "INFO":
        return
    if status not in {"BOOK", "PDNG"}:
        raise StatementUnreadable("no status that is known", line=number, field="Sts")
    total = _whole(_amount(entry, space, number, "Ntry"), number)
    day = "BookgDt" if entry.find("BookgDt", space) is not None else "ValDt"
    at = in_hanoi(_day(entry, day, space, number), line=number, field=day)
    note = _text(entry, "AddtlNtryInf", space)
    own = _text(entry, "AcctSvcrRef", space) or _text(entry, "NtryRef", space)
    details = entry.findall("NtryDtls/TxDtls", space)
    numbers = [_number(detail, space) for detail in details]
    if len(details) < 2:
        parts = [(own or "".join(numbers), total)]
    else:
        if len(set(numbers)) != len(numbers) or "" in numbers:
            # A batch whose parts have no numbers of their own.
            numbers = [f"{own}/{place}" if own else "" for place in range(1, len(details) + 1)]
        parts = [(its, _part(detail, total, space, number)) for its, detail in zip(numbers, details, strict=True)]
    if sum(amount for _, amount in parts) != total:
        raise StatementUnreadable("the details do not come to the entry's amount", line=number, field="TxDtls")
    for place, (transaction, amount) in enumerate(parts):
        yield bank_line(
            at=at,
            transaction=number_of(transaction, line=number, field="AcctSvcrRef"),
            amount=amount,
            # What is told of a whole batch is told of none of its parts.
            content=" ".join(([note] if len(parts) == 1 else []) + (_told(details[place], space) if details else [])),
            pending=status == "PDNG",
        )


def _told(detail: Element, space: dict[str, str]) -> list[str]:
    """What the payer wrote, and what others wrote beside it."""
    paths = ("RmtInf/Ustrd", "RmtInf/Strd/CdtrRefInf/Ref", "RmtInf/Strd/AddtlRmtInf", "Refs/EndToEndId", "AddtlTxInf")
    return [found.text or "" for path in paths for found in detail.findall(path, space)]


def _number(detail: Element, space: dict[str, str]) -> str:
    return _text(detail, "Refs/AcctSvcrRef", space) or _text(detail, "Refs/TxId", space)


def _part(detail: Element, total: int, space: dict[str, str], number: int) -> int:
    """What a detail of a batch moved, in the direction of the batch unless it says another one."""
    holder = detail if detail.find("Amt", space) is not None else detail.find("AmtDtls/TxAmt", space)
    if holder is None:
        raise StatementUnreadable("a detail without an amount", line=number, field="TxDtls")
    said = _text(detail, "CdtDbtInd", space) or ("CRDT" if total > 0 else "DBIT")
    return _whole(_signed(holder, said, space, number, "TxDtls"), number)


def _amount(holder: Element, space: dict[str, str], number: int, field: str) -> Decimal:
    return _signed(holder, _text(holder, "CdtDbtInd", space), space, number, field)


def _signed(holder: Element, said: str, space: dict[str, str], number: int, field: str) -> Decimal:
    amount = holder.find("Amt", space)
    if amount is None or said not in {"CRDT", "DBIT"}:
        raise StatementUnreadable("no amount, or not which way it went", line=number, field=field)
    if amount.get("Ccy") != "VND":
        raise StatementUnreadable("the amount is not in đồng", line=number, field=field)
    try:
        found = Decimal((amount.text or "").strip())
    except InvalidOperation:
        raise StatementUnreadable("no amount", line=number, field=field) from None
    if not found.is_finite() or not 0 <= found <= 10 * MOST_AMOUNT:
        raise StatementUnreadable("no amount", line=number, field=field)
    return found if said == "CRDT" else -found


def _whole(amount: Decimal, number: int) -> int:
    if amount != int(amount) or not 0 < abs(amount) <= MOST_AMOUNT:
        raise StatementUnreadable("an amount is a whole number of đồng and not 0", line=number, field="Amt")
    return int(amount)


def _day(holder: Element, path: str, space: dict[str, str], number: int) -> datetime:
    """A day, as the time it begins, or a time."""
    day, exact = _text(holder, f"{path}/Dt", space), _text(holder, f"{path}/DtTm", space)
    try:
        return datetime.fromisoformat(day[:10] if day else exact)
    except ValueError:
        raise StatementUnreadable("no day", line=number, field=path) from None


def _text(holder: Element, path: str, space: dict[str, str]) -> str:
    return (holder.findtext(path, "", space) or "").strip()
