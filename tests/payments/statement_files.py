"""Files of banks for tests, made of lines."""

import zipfile
from collections.abc import Sequence
from datetime import date
from io import BytesIO
from typing import Any

import openpyxl
from msgspec import Struct

ACCOUNT = "0011001234567"


class Movement(Struct):
    """A line of a bank's statement."""

    number: str
    amount: int  # below zero for money that went out
    content: str


def csv_file(day: date, movements: Sequence[Movement], *, delimiter: str = ",") -> bytes:
    rows = [
        delimiter.join([f"{day:%d/%m/%Y} 09:30", one.number, str(one.amount), f'"{one.content}"']) for one in movements
    ]
    return ("\ufeff" + "\r\n".join([delimiter.join(["date", "transaction", "amount", "content"]), *rows, ""])).encode()


def workbook(day: date, movements: Sequence[Movement], *, also: Sequence[Sequence[Any]] = ()) -> bytes:
    book = openpyxl.Workbook()
    sheet: Any = book.active
    sheet.append(["date", "transaction", "amount", "content"])
    for one in movements:
        sheet.append([day, one.number, one.amount, one.content])
    for row in also:
        sheet.append(row)
    out = BytesIO()
    book.save(out)
    return out.getvalue()


def bomb() -> bytes:
    """A workbook that says of itself that it is 64 MB large, in a few KB."""
    out = BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", b" " * (64 << 20))
    return out.getvalue()


def mt940(day: date, movements: Sequence[Movement], *, account: str = ACCOUNT, opening: int = 1_000_000) -> bytes:
    """A message in its envelope, with what is told behind the closing balance, which is of no movement."""
    lines = [
        "{1:F01BFTVVNVXAXXX0000000000}{2:I940BKAPPXXXN}{4:",
        ":20:STMT",
        f":25:{account}",
        ":28C:1/1",
        f":60F:C{day:%y%m%d}VND{opening},",
    ]
    for one in movements:
        mark = "C" if one.amount > 0 else "D"
        lines.append(f":61:{day:%y%m%d%m%d}{mark}{abs(one.amount)},NTRFNONREF//{one.number}")
        lines.append(f":86:?20{one.content[:27]}?21{one.content[27:54]}?32NGUYEN VAN A")
    closing = opening + sum(one.amount for one in movements)
    lines += [f":62F:C{day:%y%m%d}VND{closing},", ":86:TT0000000000 CUOI NGAY", "-}"]
    return "\r\n".join(lines).encode()


def camt053(
    day: date,
    movements: Sequence[Movement],
    *,
    version: str = "08",
    account: str = ACCOUNT,
    opening: int = 1_000_000,
    head: str = "",
    entries: str = "",
) -> bytes:
    status = "<Sts>BOOK</Sts>" if version == "02" else "<Sts><Cd>BOOK</Cd></Sts>"
    made = "".join(
        f'<Ntry><Amt Ccy="VND">{abs(one.amount)}</Amt><CdtDbtInd>{"CRDT" if one.amount > 0 else "DBIT"}</CdtDbtInd>'
        f"{status}<BookgDt><Dt>{day}</Dt></BookgDt><AcctSvcrRef>{one.number}</AcctSvcrRef><NtryDtls><TxDtls>"
        f"<RmtInf><Ustrd>{one.content}</Ustrd></RmtInf></TxDtls></NtryDtls></Ntry>"
        for one in movements
    )
    closing = opening + sum(one.amount for one in movements)
    balances = "".join(
        f'<Bal><Tp><CdOrPrtry><Cd>{kind}</Cd></CdOrPrtry></Tp><Amt Ccy="VND">{amount}.00</Amt>'
        f"<CdtDbtInd>CRDT</CdtDbtInd><Dt><Dt>{day}</Dt></Dt></Bal>"
        for kind, amount in (("OPBD", opening), ("CLBD", closing))
    )
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>{head}'
        f'<Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.053.001.{version}"><BkToCstmrStmt><GrpHdr/>'
        f"<Stmt><Id>1</Id><Acct><Id><Othr><Id>{account}</Id></Othr></Id></Acct>{balances}{made}{entries}</Stmt>"
        "</BkToCstmrStmt></Document>"
    ).encode()
