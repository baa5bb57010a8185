"""Reading the files that money is reconciled with: every format, and whatever is damaged refused whole."""

import logging
import random
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from bkapp.payments import statements
from bkapp.payments.references import new_reference
from bkapp.payments.statements import Kind, Line, Report, Source, StatementUnreadable, Status, write_report
from tests.payments import statement_files as files
from tests.payments.statement_files import Movement

DAY = date(2026, 10, 20)
AT = datetime(2026, 10, 20, 2, 15, tzinfo=UTC)
PAID, BACK = new_reference("TT"), new_reference("HT")
MOVEMENTS = [
    Movement("FT26293000001", 20_000, f"MBVCB.3278907687.{PAID.lower()[:2]} {PAID[2:]} thanh toan"),
    Movement("FT26293000002", -15_000, f"HOAN TIEN {BACK} CHO NGUYEN VAN A"),
    Movement("FT26293000003", 7_000, "khong co ma"),
]
BANKS: dict[str, Callable[[], bytes]] = {
    "csv": lambda: files.csv_file(DAY, MOVEMENTS),
    "xlsx": lambda: files.workbook(DAY, MOVEMENTS),
    "mt940": lambda: files.mt940(DAY, MOVEMENTS),
    "camt053": lambda: files.camt053(DAY, MOVEMENTS),
}


def line(**changes: object) -> Line:
    values: dict[str, object] = {
        "kind": Kind.PAYMENT,
        "references": (PAID,),
        "transaction": "14422574",
        "amount": 20_000,
        "status": Status.SUCCEEDED,
        "at": AT,
    }
    return Line(**{**values, **changes})  # type: ignore[arg-type]


LINES = [
    line(),
    line(kind=Kind.REFUND, references=(BACK,), transaction='a "b", c', amount=15_000),
    line(status=Status.FAILED, transaction="", references=()),
    line(status=Status.PENDING, transaction="9", amount=1),
]


def read(data: bytes, source: Source = Source.BANK) -> Report:
    return statements.read(data, source)


def refusal(data: bytes, source: Source = Source.BANK) -> StatementUnreadable:
    with pytest.raises(StatementUnreadable) as caught:
        statements.read(data, source)
    return caught.value


# --- the report of a provider -------------------------------------------------------------------------------------


def test_a_report_is_read_as_it_was_written() -> None:
    report = read(write_report("vnpay", DAY, LINES), Source.PROVIDER)
    assert (report.merchant, report.business_date, report.format) == ("vnpay", DAY, "bkapp")
    assert (report.lines, report.count, report.total) == (LINES, 4, 5_000)
    assert read(write_report("vnpay", DAY, []), Source.PROVIDER).count == 0


def test_the_documented_report_is_read() -> None:
    text = (Path(__file__).parents[2] / "docs" / "reconciliation.md").read_text()
    example = text.split("```\n# bkapp-report")[1].split("```")[0]
    report = read(("# bkapp-report" + example).encode(), Source.PROVIDER)
    assert (report.count, report.total) == (2, 10_000)


@pytest.mark.parametrize(
    ("what", "damage", "where", "pointer"),
    [
        ("a changed amount", (b",20000,", b",20001,"), 7, "/7"),
        ("a line that is gone", (b"TT", b"\nTT"), 1, "/1"),
        ("another count", (b";4;", b";5;"), 1, "/1"),
        ("another sum", (b";55001\n", b";55002\n"), 7, "/7"),
        ("no header", (b"# bkapp-report", b"# report"), 1, "/1"),
        ("no trailer", (b"# end", b"# End"), 7, "/7"),
        ("a day that is none", (b"2026-10-20;", b"2026-02-30;"), 1, "/1"),
        ("no UTF-8", (b"succeeded,", b"\xff,"), 3, "/3"),
    ],
)
def test_a_damaged_report_is_refused_and_says_where(
    what: str, damage: tuple[bytes, bytes], where: int, pointer: str
) -> None:
    data = write_report("vnpay", DAY, LINES)
    assert damage[0] in data, what
    error = refusal(data.replace(damage[0], damage[1], 1), Source.PROVIDER)
    assert error.facts["line"] == where
    assert error.facts["errors"][0].pointer == pointer  # type: ignore[index]


@pytest.mark.parametrize(
    ("row", "pointer"),
    [
        ("TT1,1,payment,0,succeeded,2026-10-20T08:00:00+07:00", "/3/amount"),
        ("TT1,1,payment,-5,succeeded,2026-10-20T08:00:00+07:00", "/3/amount"),
        ("TT1,1,payment,5.0,succeeded,2026-10-20T08:00:00+07:00", "/3/amount"),
        ("TT1,1,payment,99999999999999,succeeded,2026-10-20T08:00:00+07:00", "/3/amount"),
        ("TT1,1,payment,٥,succeeded,2026-10-20T08:00:00+07:00", "/3/amount"),
        ("TT1,1,gift,5,succeeded,2026-10-20T08:00:00+07:00", "/3/kind"),
        ("TT1,1,payment,5,done,2026-10-20T08:00:00+07:00", "/3/status"),
        ("TT1,,payment,5,succeeded,2026-10-20T08:00:00+07:00", "/3/transaction"),
        ("TT1,1\x07,payment,5,succeeded,2026-10-20T08:00:00+07:00", "/3/transaction"),
        ("T T1,1,payment,5,succeeded,2026-10-20T08:00:00+07:00", "/3/reference"),
        ("TT1,1,payment,5,succeeded,2026-10-20T08:00:00", "/3/at"),
        ("TT1,1,payment,5,succeeded,20/10/2026", "/3/at"),
        ("TT1,1,payment,5,succeeded,0001-01-01T00:00:00+07:00", "/3/at"),
        ("TT1,1,payment,5,succeeded", "/3"),
        ('TT1,"1,payment,5,succeeded,2026-10-20T08:00:00+07:00', "/3"),
        ("", "/3"),
    ],
)
def test_a_row_that_is_none_is_refused(row: str, pointer: str) -> None:
    digest = statements.reports.row_hash([row])
    head = "# bkapp-report;vnpay;2026-10-20;1;5\nreference,transaction,kind,amount,status,at\n"
    error = refusal(f"{head}{row}\n# end;1;5;{digest}\n".encode(), Source.PROVIDER)
    assert error.facts["errors"][0].pointer == pointer  # type: ignore[index]


def test_a_report_has_to_come_to_its_sum() -> None:
    row = "TT1,1,payment,5,succeeded,2026-10-20T08:00:00+07:00"
    digest = statements.reports.row_hash([row])
    head = "# bkapp-report;vnpay;2026-10-20;1;6\nreference,transaction,kind,amount,status,at\n"
    assert "come to" in refusal(f"{head}{row}\n# end;1;6;{digest}\n".encode(), Source.PROVIDER).detail


def test_files_are_bounded() -> None:
    assert "5 MB" in refusal(b"x" * (5 << 20) + b"x").detail
    head = b"date,transaction,amount,content\n"
    row = b"2026-10-20,%d,1,\n"
    assert read(head + b"".join(row % at for at in range(50_000))).count == 50_000
    assert "50000 lines" in refusal(head + b"".join(row % at for at in range(50_001))).detail
    assert refusal(b" \n").detail == "The file is empty."


# --- statements of banks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BANKS)
def test_every_format_says_the_same(kind: str) -> None:
    report = read(BANKS[kind]())
    assert (report.format, report.business_date, report.count, report.total) == (kind, DAY, 3, 12_000)
    assert [one.references for one in report.lines] == [(PAID,), (BACK,), ()]
    assert [(one.kind, one.transaction, one.amount) for one in report.lines] == [
        (Kind.PAYMENT, "FT26293000001", 20_000),
        (Kind.REFUND, "FT26293000002", 15_000),
        (Kind.PAYMENT, "FT26293000003", 7_000),
    ]
    assert {one.status for one in report.lines} == {Status.SUCCEEDED}
    assert {one.at.astimezone(statements.lines.HANOI).date() for one in report.lines} == {DAY}


def test_csv_may_have_semicolons_and_a_frame() -> None:
    assert read(files.csv_file(DAY, MOVEMENTS, delimiter=";")).total == 12_000
    rows = [f"2026-10-20,{one.number},{one.amount},{one.content}" for one in MOVEMENTS]
    end = f"# end;3;12000;{statements.reports.row_hash(rows)}"
    framed = ["# bkapp-report;vietqr;2026-10-20;3;12000", "date,transaction,amount,content", *rows, end]
    report = read("\n".join(framed).encode())
    assert (report.merchant, report.business_date, report.total) == ("vietqr", DAY, 12_000)
    refusal("\n".join(framed).replace(",20000,", ",20001,").encode())
    empty = f"# end;0;0;{statements.reports.row_hash([])}"
    quiet = ["# bkapp-report;vietqr;2026-10-20;0;0", "date,transaction,amount,content", empty]
    assert read("\n".join(quiet).encode()).count == 0


def test_a_sheet_is_of_one_day_and_has_its_columns() -> None:
    head = "date,transaction,amount,content\n"
    assert "2 days" in refusal(f"{head}2026-10-20,1,5,\n2026-10-21,2,5,\n".encode()).detail
    assert "no day" in refusal(head.encode()).detail
    assert refusal(b"date,amount,content\n2026-10-20,5,x\n").facts["line"] == 1
    assert refusal(f"{head}2026-10-20,1,5,x,y\n".encode()).facts["line"] == 2
    assert refusal(f"{head}32/10/2026,1,5,x\n".encode()).facts["errors"][0].pointer == "/2/date"  # type: ignore[index]
    assert refusal(f'{head}2026-10-20,1,"5,000",x\n'.encode()).facts["errors"][0].pointer == "/2/amount"  # type: ignore[index]


def test_workbooks_with_formulas_or_more_than_fits_are_refused() -> None:
    assert "formula" in refusal(files.workbook(DAY, MOVEMENTS, also=[[DAY, "4", "=SUM(C2:C3)", ""]])).detail
    assert "15 digits" in refusal(files.workbook(DAY, [], also=[[DAY, 12345678901234567, 5, ""]])).detail
    assert "whole number" in refusal(files.workbook(DAY, [], also=[[DAY, "1", 5.5, ""]])).detail
    assert "whole number" in refusal(files.workbook(DAY, [], also=[[DAY, "1", True, ""]])).detail
    assert "more columns" in refusal(files.workbook(DAY, MOVEMENTS, also=[[DAY, "4", 5, "", "x"]])).detail
    assert refusal(files.workbook(DAY, MOVEMENTS, also=[[], [DAY, "", 5, ""]])).facts["line"] == 6
    bomb = files.bomb()
    assert len(bomb) < 100_000
    assert "24 MB" in refusal(bomb).detail
    assert read(files.workbook(DAY, [], also=[[DAY, 12345, 5.0, None]])).lines[0].transaction == "12345"


def test_mt940_balances_and_references_are_checked() -> None:
    data = files.mt940(DAY, MOVEMENTS)
    refusal(data.replace(b"C20000,", b"C20001,"))
    refusal(data.replace(b"VND", b"EUR"))
    refusal(data.replace(b"C20000,", b"C20000,50"))
    assert refusal(data.replace(b"//FT26293000002", b"")).facts["line"] == 8
    # The library would let the next movement take the place of one without a type.
    assert "type" in refusal(data.replace(b"NTRFNONREF//FT26293000001", b"//FT26293000001")).detail
    refusal(data.replace(b":62F:", b":64:"))
    twice = files.mt940(DAY, MOVEMENTS[:2]) + b"\r\n" + files.mt940(DAY, MOVEMENTS[2:], opening=1_005_000)
    assert read(twice).total == 12_000
    refusal(files.mt940(DAY, MOVEMENTS[:2]) + b"\r\n" + files.mt940(DAY, MOVEMENTS[2:]))
    other = files.mt940(DAY, MOVEMENTS[2:], opening=1_005_000, account="9")
    assert "more messages" in refusal(b":20:X\n" * 3_000).detail
    assert "more messages" in refusal(data.replace(b":62F:", b":86:x\r\n" * 20 + b":62F:")).detail
    assert "one account" in refusal(files.mt940(DAY, MOVEMENTS[:2]) + b"\r\n" + other).detail
    assert read(data).account == files.ACCOUNT


def test_a_statement_that_is_the_name_of_a_file_opens_none(tmp_path: Path) -> None:
    secret = tmp_path / "statement"
    secret.write_bytes(files.mt940(DAY, MOVEMENTS))
    with pytest.raises(StatementUnreadable):
        statements.swift.read_mt940(str(secret).encode())


def test_what_cannot_be_read_is_not_logged(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG):
        refusal(files.mt940(DAY, MOVEMENTS).replace(b"C20000,", b"?NGUYEN VAN A"))
    assert caplog.text == ""
    assert capsys.readouterr().err == ""


def test_camt_versions_batches_and_pending_entries() -> None:
    assert read(files.camt053(DAY, MOVEMENTS, version="02")).total == 12_000
    entry = (
        '<Ntry><Amt Ccy="VND">0</Amt><CdtDbtInd>CRDT</CdtDbtInd><Sts><Cd>{status}</Cd></Sts><BookgDt><DtTm>'
        "2026-10-20T10:00:00</DtTm></BookgDt><AcctSvcrRef>FT9</AcctSvcrRef>{details}</Ntry>"
    )
    noted = entry.format(status="INFO", details="")
    assert read(files.camt053(DAY, MOVEMENTS, entries=noted)).count == 3
    waiting = entry.format(status="PDNG", details="").replace(">0<", ">500<")
    pending = read(files.camt053(DAY, MOVEMENTS, entries=waiting)).lines[-1]
    assert (pending.status, pending.at) == (Status.PENDING, datetime(2026, 10, 20, 3, tzinfo=UTC))
    detail = '<TxDtls><Amt Ccy="VND">{}</Amt><RmtInf><Ustrd>{}</Ustrd></RmtInf></TxDtls>'
    parts = f"<NtryDtls>{detail.format(300, PAID)}{detail.format(200, '')}</NtryDtls>"
    batch = entry.format(status="PDNG", details=parts).replace(">0<", ">500<")
    lines = read(files.camt053(DAY, [], entries=batch)).lines
    assert [(one.transaction, one.amount, one.references) for one in lines] == [
        ("FT9/1", 300, (PAID,)),
        ("FT9/2", 200, ()),
    ]
    assert "details" in refusal(files.camt053(DAY, [], entries=batch.replace(">300<", ">301<"))).detail


def test_camt_balances_accounts_and_currency_are_checked() -> None:
    data = files.camt053(DAY, MOVEMENTS)
    refusal(data.replace(b">20000<", b">20001<"))
    refusal(data.replace(b'Ccy="VND">20000', b'Ccy="USD">20000'))
    refusal(data.replace(b">20000<", b">NaN<"))
    refusal(data.replace(b">20000<", b">1e400<"))
    refusal(data.replace(b"CLBD", b"CLAV"))
    refusal(data.replace(b"camt.053", b"camt.054"))
    refusal(data.replace(b"<AcctSvcrRef>FT26293000001</AcctSvcrRef>", b""))
    refusal(data.replace(b"<Stmt>", b"<Stmt/><Stmt>"))
    assert read(data).account == files.ACCOUNT


def test_xml_with_entities_is_refused() -> None:
    laughs = "".join(f"<!ENTITY a{at} '{f'&a{at - 1};' * 10 if at else 'ha'}'>" for at in range(9))
    refusal(files.camt053(DAY, [Movement("FT1", 5, "&a8;")], head=f"<!DOCTYPE a [{laughs}]>"))
    outside = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]>'
    refusal(files.camt053(DAY, [Movement("FT1", 5, "&x;")], head=outside))
    refusal(files.camt053(DAY, MOVEMENTS, head='<!DOCTYPE a SYSTEM "http://127.0.0.1/x.dtd">'))


@pytest.mark.parametrize("kind", [*BANKS, "bkapp"])
def test_damaged_bytes_are_read_or_refused_and_nothing_else(kind: str) -> None:
    dice = random.Random(kind)  # noqa: S311  (dice that always fall the same)
    source = Source.PROVIDER if kind == "bkapp" else Source.BANK
    whole = write_report("vnpay", DAY, LINES) if kind == "bkapp" else BANKS[kind]()
    refused = 0
    for _ in range(60 if kind == "xlsx" else 400):
        data = bytearray(whole)
        for _ in range(dice.randint(1, 4)):
            at = dice.randrange(len(data))
            if dice.random() < 0.4:
                data[at] = dice.randrange(256)
            elif dice.random() < 0.5:
                del data[at : at + dice.randint(1, 60)]
            else:
                data[at:at] = dice.choice((b"\0", b"\n", b";", b'"', b":61:", b"<Ntry>", b"\xff", data[:40]))
        try:
            report = read(bytes(data), source)
        except StatementUnreadable:
            refused += 1
        else:
            assert all(0 < one.amount <= 10**13 and one.at.tzinfo is UTC for one in report.lines)
            assert all(one.transaction.isprintable() for one in report.lines)
    assert refused > (10 if kind == "csv" else 30)
