"""Files of providers and banks, from their bytes to money, evidence, cases and the ledger."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from httpx import AsyncClient
from msgspec.structs import replace
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool

from bkapp.access.rules import Role
from bkapp.db import sessions_of
from bkapp.http import HANOI
from bkapp.payments.commands.reconciliation import reconcile, reconciliation
from bkapp.payments.matching import Type
from bkapp.payments.models import (
    Bill,
    LedgerTransaction,
    Merchant,
    PaymentAttempt,
    PaymentCase,
    Receipt,
    ReconciliationItem,
    Refund,
    StatementFile,
    StatementLine,
)
from bkapp.payments.operations import ledger, reconciling, refunds
from bkapp.payments.operations.reconciling import DayNotOver, Imported, ItemResolved
from bkapp.payments.providers import Finding, Outcome
from bkapp.payments.queries import reconciling as queries
from bkapp.payments.rules import AttemptStatus, BillStatus, CaseKind, Evidence, Place, RefundStatus
from bkapp.payments.statements import Kind, Line, Source, StatementUnreadable, Status, write_report
from tests.make import a_key, auth
from tests.payments import make
from tests.payments import statement_files as files
from tests.payments.make import NOW
from tests.payments.statement_files import Movement

THEN = NOW - timedelta(days=1)
DAY = THEN.astimezone(HANOI).date()
TODAY = NOW.astimezone(HANOI).date()
LATER = NOW + timedelta(days=2)
# For what asks the clock itself.
YESTERDAY = datetime.now(HANOI).replace(hour=12, minute=0) - timedelta(days=1)
DAY_BEFORE_NOW = YESTERDAY.date()


# --- a day's books ------------------------------------------------------------------------------------------------


async def paid(
    session: AsyncSession, merchant: Merchant, number: str | None, *, amount: int = 20_000, now: datetime = THEN
) -> Receipt:
    """Money that paid a bill, as the provider's message told it."""
    attempt = await make.an_attempt(session, await make.a_bill(session, amount=amount), merchant, now=now)
    await make.hear(session, merchant, attempt, transaction=number, now=now)
    return (await session.scalars(select(Receipt).where(Receipt.attempt_id == attempt.id))).one()


async def given_back(session: AsyncSession, receipt: Receipt, number: str, *, amount: int, by_hand: bool) -> Refund:
    refund = await refunds.request_refund(
        session,
        receipt_id=receipt.id,
        amount=amount,
        reason="thu nhầm",
        by_hand=by_hand,
        limit=1_000_000,
        by="test",
        now=THEN,
    )
    if by_hand:
        return await refunds.record_transfer(session, refund.id, transaction=number, by="other", now=THEN)
    refund.sent_at = THEN
    finding = Finding(references=[refund.reference], outcome=Outcome.PAID, amount=amount, transaction=number)
    return await refunds.hear_refund(session, refund.id, finding, source="call", now=THEN)


async def line_of(session: AsyncSession, receipt: Receipt) -> Line:
    attempt = await session.get_one(PaymentAttempt, receipt.attempt_id)
    return a_line(attempt.reference, receipt.transaction, receipt.amount)


def a_line(
    reference: str, number: str, amount: int, status: Status = Status.SUCCEEDED, kind: Kind = Kind.PAYMENT
) -> Line:
    references = (reference,) if reference else ()
    return Line(kind=kind, references=references, transaction=number, amount=amount, status=status, at=THEN)


def back_line(refund: Refund) -> Line:
    return a_line(refund.reference, refund.transaction or "", refund.amount, kind=Kind.REFUND)


async def take(
    session: AsyncSession,
    merchant: Merchant,
    data: bytes | list[Line],
    *,
    source: Source = Source.PROVIDER,
    now: datetime = NOW,
    day: date = DAY,
) -> Imported:
    """Import a file, with every promise about money looked at after it."""
    if isinstance(data, list):
        data = write_report(merchant.key, day, data)
    imported = await reconciling.import_file(
        session, merchant, source=source, name="tep.csv", data=data, by="test", now=now
    )
    await sound(session)
    return imported


async def sound(session: AsyncSession) -> None:
    assert await ledger.verify(session) == []
    suspense = await queries.suspense(session)
    assert suspense.holds, suspense


async def found_in(session: AsyncSession, imported: Imported) -> list[queries.ItemRow]:
    return await queries.items(session, today=TODAY, file_id=imported.file.id, limit=1_000)


async def open_now(session: AsyncSession) -> list[queries.ItemRow]:
    return await queries.items(session, today=TODAY, only_open=True, limit=1_000)


async def cases(session: AsyncSession, kind: CaseKind) -> list[PaymentCase]:
    found = await session.scalars(select(PaymentCase).where(PaymentCase.kind == kind, PaymentCase.closed_at.is_(None)))
    return list(found)


@pytest.fixture
async def vnpay(session: AsyncSession) -> Merchant:
    return await make.a_merchant(session, provider="vnpay")


@pytest.fixture
async def vietqr(session: AsyncSession) -> Merchant:
    return await make.a_merchant(session, provider="vietqr")


# --- reports of providers -----------------------------------------------------------------------------------------


async def test_seeded_differences_are_all_found_and_nothing_else(session: AsyncSession, vnpay: Merchant) -> None:
    """The same as the mutations of test_matching, through the database, with the books checked after each."""
    receipts = [await paid(session, vnpay, f"9{at:05}", amount=1_000 * (at + 1)) for at in range(24)]
    lines = [await line_of(session, receipt) for receipt in receipts]
    back = [await given_back(session, receipts[at], f"7{at:05}", amount=500, by_hand=False) for at in range(1, 5)]
    lines += [back_line(refund) for refund in back]
    waiting = await make.an_attempt(session, await make.a_bill(session), vnpay, now=THEN)
    lines.append(a_line(waiting.reference, "", waiting.amount, Status.PENDING))
    for seed in range(10):
        dice = random.Random(seed)  # noqa: S311  (dice that always fall the same)
        async with session.begin_nested() as taken_back:
            file, expected = _mutated(dice, lines)
            imported = await take(session, vnpay, file)
            rows = await found_in(session, imported)
            differing = Counter((row.kind, row.transaction) for row in rows if row.kind is not Type.MATCHED)
            assert differing == expected, seed
            assert len([row for row in rows if row.line is not None]) == len(file) == imported.file.line_count
            news = {row.transaction for row in rows if row.resolved_by and row.resolved_by.startswith("statement:")}
            assert news == {number for kind, number in expected if kind is Type.ONLY_THEIRS and number != "4"}
            await taken_back.rollback()
        session.expire_all()
        await session.refresh(vnpay)


def _mutated(dice: random.Random, lines: list[Line]) -> tuple[list[Line], Counter[tuple[Type, str]]]:
    """A file in which each line is dropped, doubled, of another amount or outcome now and then, with some added."""
    file: list[Line] = []
    expected: Counter[tuple[Type, str]] = Counter()
    for line in lines:
        mutation = dice.choice(("", "", "", "", "drop", "repeat", "amount", "failed"))
        of_refund = line.kind is Kind.REFUND
        if not line.transaction or not mutation:
            file.append(line)
            continue
        if mutation == "drop":
            expected[Type.REFUND if of_refund else Type.ONLY_OURS, line.transaction] += 1
            continue
        if mutation == "repeat":
            file += [line, line]
            expected[Type.DUPLICATE, line.transaction] += 1
        elif mutation == "amount":
            file.append(replace(line, amount=line.amount + 7))
            expected[Type.REFUND if of_refund else Type.AMOUNT, line.transaction] += 1
        else:
            file.append(replace(line, status=Status.PENDING))
            expected[Type.REFUND if of_refund else Type.STATUS, line.transaction] += 1
    for at in range(dice.randrange(3)):
        file.append(a_line("", f"5{at}", 3_000))
        expected[Type.ONLY_THEIRS, f"5{at}"] += 1
    if dice.random() < 0.5:
        file.append(a_line("HT0000000000", "6", 3_000, kind=Kind.REFUND))
        expected[Type.REFUND, "6"] += 1
    dice.shuffle(file)
    return file, expected


async def test_the_same_file_again_changes_nothing(session: AsyncSession, vnpay: Merchant) -> None:
    receipt = await paid(session, vnpay, "91")
    file = [await line_of(session, receipt), a_line("", "92", 5_000)]
    first = await take(session, vnpay, file)
    counted = await _counts(session)
    again = await take(session, vnpay, file, now=LATER)
    assert (first.new, again.new, again.file.id) == (True, False, first.file.id)
    assert await _counts(session) == counted


async def _counts(session: AsyncSession) -> list[int]:
    tables = (StatementFile, StatementLine, ReconciliationItem, Receipt, LedgerTransaction, PaymentCase)
    return [await session.scalar(select(func.count()).select_from(table)) or 0 for table in tables]


async def test_money_only_the_provider_knew_of_pays_its_bill(session: AsyncSession, vnpay: Merchant) -> None:
    waiting = await make.an_attempt(session, await make.a_bill(session), vnpay, now=THEN)
    imported = await take(session, vnpay, [a_line(waiting.reference, "91", waiting.amount)])
    (row,) = await found_in(session, imported)
    assert (row.kind, row.ours, row.theirs) == (Type.ONLY_THEIRS, 20_000, 20_000)
    assert row.resolved_by == f"statement:{await session.scalar(select(StatementLine.id))}"
    assert row.receipt_id is not None
    assert (await session.get_one(Bill, waiting.bill_id)).status is BillStatus.PAID
    receipt = await session.get_one(Receipt, row.receipt_id)
    assert (receipt.place, receipt.evidence, receipt.received_at) == (Place.APPLIED, Evidence.INQUIRY, THEN)
    assert await open_now(session) == []


async def test_money_of_nobody_stands_in_suspense(session: AsyncSession, vnpay: Merchant) -> None:
    await take(session, vnpay, [a_line("", "91", 5_000), a_line("TT0000000000", "92", 6_000)])
    assert (await queries.suspense(session)).unmatched == 11_000
    assert {case.kind for case in await session.scalars(select(PaymentCase))} == {CaseKind.UNIDENTIFIED}
    assert await open_now(session) == []


async def test_a_second_payment_of_an_attempt_goes_to_suspense(session: AsyncSession, vnpay: Merchant) -> None:
    receipt = await paid(session, vnpay, "91")
    line = await line_of(session, receipt)
    imported = await take(session, vnpay, [line, replace(line, transaction="92")])
    rows = await found_in(session, imported)
    assert [row.kind for row in rows] == [Type.MATCHED, Type.DUPLICATE]
    assert rows[1].resolved_at is not None
    assert (await queries.suspense(session)).unmatched == 20_000
    assert len(await cases(session, CaseKind.DUPLICATE)) == 1


async def test_a_success_that_the_report_denies_is_taken_back(session: AsyncSession, vnpay: Merchant) -> None:
    receipt = await paid(session, vnpay, "91")
    imported = await take(session, vnpay, [replace(await line_of(session, receipt), status=Status.FAILED)])
    (row,) = await found_in(session, imported)
    assert (row.kind, row.resolved_at is not None) == (Type.STATUS, True)
    await session.refresh(receipt)
    assert receipt.place is Place.REVERSED
    bill = await session.get_one(Bill, receipt.bill_id)
    assert bill.status is BillStatus.OPEN


async def test_a_success_that_was_asked_about_is_not_taken_back_but_disputed(
    session: AsyncSession, vnpay: Merchant
) -> None:
    receipt = await paid(session, vnpay, "91")
    attempt = await session.get_one(PaymentAttempt, receipt.attempt_id)
    await make.hear(session, vnpay, attempt, how=Evidence.INQUIRY, transaction="91", now=THEN)
    await take(session, vnpay, [replace(await line_of(session, receipt), status=Status.FAILED)])
    assert [row.kind for row in await open_now(session)] == [Type.STATUS]
    (case,) = await cases(session, CaseKind.STATUS)
    assert (case.receipt_id, case.bill_id, case.attempt_id) == (receipt.id, receipt.bill_id, attempt.id)


async def test_what_both_sides_insist_on_is_one_case(session: AsyncSession, vnpay: Merchant) -> None:
    attempt = await make.an_attempt(session, await make.a_bill(session), vnpay, now=THEN)
    await make.hear(session, vnpay, attempt, Outcome.FAILED, how=Evidence.STATEMENT, now=THEN)
    line = a_line(attempt.reference, "91", attempt.amount)
    await take(session, vnpay, [line])
    (row,) = await open_now(session)
    assert row.kind is Type.STATUS
    (case,) = await cases(session, CaseKind.STATUS)
    assert case.attempt_id == attempt.id
    await take(session, vnpay, [line, a_line("", "92", 5)])
    assert len(await cases(session, CaseKind.STATUS)) == 1


async def test_money_in_suspense_keeps_its_case(session: AsyncSession, vietqr: Merchant) -> None:
    """Also where a file that was superseded, or an item that was resolved, opened it."""
    await take(session, vietqr, files.csv_file(DAY, [Movement("FT1", 5_000, "")]), source=Source.BANK)
    await take(session, vietqr, files.csv_file(DAY, [Movement("FT1", 6_000, "")]), source=Source.BANK)
    (row,) = await open_now(session)
    assert row.kind is Type.AMOUNT
    case = (await session.scalars(select(PaymentCase))).one()
    case.statement_line_id = await session.scalar(select(ReconciliationItem.statement_line_id).filter_by(id=row.id))
    await session.flush()
    await reconciling.resolve(session, row.id, note="đã hỏi ngân hàng", by="admin", now=NOW)
    await take(session, vietqr, files.csv_file(DAY, [Movement("FT1", 5_000, "x")]), source=Source.BANK)
    assert await open_now(session) == []


async def test_another_amount_becomes_a_case_and_moves_no_money(session: AsyncSession, vnpay: Merchant) -> None:
    receipt = await paid(session, vnpay, "91")
    before = await ledger.balances(session)
    await take(session, vnpay, [replace(await line_of(session, receipt), amount=30_000)])
    (row,) = await open_now(session)
    assert (row.kind, row.ours, row.theirs, row.age) == (Type.AMOUNT, 20_000, 30_000, 1)
    (case,) = await cases(session, CaseKind.AMOUNT)
    assert case.receipt_id == receipt.id
    assert await ledger.balances(session) == before


async def test_refunds_are_compared_with_refunds(session: AsyncSession, vnpay: Merchant) -> None:
    receipt = await paid(session, vnpay, "91")
    refund = await refunds.request_refund(
        session,
        receipt_id=receipt.id,
        amount=5_000,
        reason="thu nhầm",
        by_hand=False,
        limit=1_000_000,
        by="test",
        now=THEN,
    )
    refund.sent_at = THEN
    await session.flush()
    line = a_line(refund.reference, "71", 5_000, kind=Kind.REFUND)
    strange = a_line("HT0000000000", "72", 5_000, kind=Kind.REFUND)
    imported = await take(session, vnpay, [await line_of(session, receipt), line, strange])
    rows = await found_in(session, imported)
    assert [(row.kind, row.resolved_at is not None) for row in rows] == [
        (Type.MATCHED, False),
        (Type.REFUND, True),
        (Type.REFUND, False),
    ]
    await session.refresh(refund)
    assert (refund.status, refund.transaction) == (RefundStatus.SUCCEEDED, "71")
    (case,) = await cases(session, CaseKind.STATUS)
    assert case.statement_line_id is not None


async def test_a_corrected_file_stands_instead_of_the_one_before(session: AsyncSession, vnpay: Merchant) -> None:
    receipt, other = await paid(session, vnpay, "91"), await paid(session, vnpay, "92")
    right = await line_of(session, receipt)
    first = await take(session, vnpay, [replace(right, amount=1), a_line("", "95", 5_000)])
    assert {row.kind for row in await open_now(session)} == {Type.AMOUNT, Type.ONLY_OURS}
    second = await take(session, vnpay, [right, a_line("", "95", 5_000)])
    assert second.new
    assert [(row.kind, row.receipt_id) for row in await open_now(session)] == [(Type.ONLY_OURS, other.id)]
    assert await cases(session, CaseKind.AMOUNT) == []
    listed = {row.id: row.in_force for row in await queries.files(session, limit=10)}
    assert listed == {first.file.id: False, second.file.id: True}
    (day,) = await queries.days(session, DAY, DAY)
    assert day.provider is not None
    assert {found.kind: (found.count, found.open) for found in day.provider.found} == {
        Type.MATCHED: (2, 0),
        Type.ONLY_OURS: (1, 1),
    }
    assert day.open == 1
    again = await take(session, vnpay, [replace(right, amount=1), a_line("", "95", 5_000)])
    assert (again.new, again.file.id) == (False, first.file.id)


async def test_money_about_midnight_is_found_in_the_file_of_the_next_day(
    session: AsyncSession, vnpay: Merchant
) -> None:
    midnight = datetime.combine(DAY, datetime.min.time(), HANOI)
    late = await paid(session, vnpay, "91", now=midnight + timedelta(seconds=2))  # it came 5 s before that
    day_before = DAY - timedelta(days=1)
    assert late.received_at.astimezone(HANOI).date() == day_before
    await take(session, vnpay, [], day=day_before)
    assert [row.kind for row in await open_now(session)] == [Type.ONLY_OURS]
    await take(session, vnpay, [await line_of(session, late)], day=DAY)
    assert await open_now(session) == []
    await take(session, vnpay, [a_line("", "96", 1_000)], day=day_before)
    assert await open_now(session) == []  # another day's file speaks of it


async def test_files_of_others_of_today_and_damaged_ones_leave_nothing(session: AsyncSession, vnpay: Merchant) -> None:
    with pytest.raises(StatementUnreadable):
        await take(session, vnpay, write_report("momo", DAY, []))
    with pytest.raises(DayNotOver):
        await take(session, vnpay, write_report("vnpay", TODAY, []))
    with pytest.raises(StatementUnreadable):
        await take(session, vnpay, write_report("vnpay", DAY, [a_line("", "9", 5)]).replace(b",5,", b",6,"))
    assert await _counts(session) == [0] * 6


# --- statements of banks ------------------------------------------------------------------------------------------


async def _transfer(session: AsyncSession, receipt: Receipt, number: str | None = None) -> Movement:
    attempt = await session.get_one(PaymentAttempt, receipt.attempt_id)
    return Movement(number or receipt.transaction, receipt.amount, f"MBVCB {attempt.reference} nop phi")


WRITERS: dict[str, Callable[[date, list[Movement]], bytes]] = {
    "csv": files.csv_file,
    "xlsx": files.workbook,
    "mt940": files.mt940,
    "camt053": files.camt053,
}


@pytest.mark.parametrize("form", WRITERS)
async def test_what_the_bank_has_is_proven_and_settled_once(session: AsyncSession, vietqr: Merchant, form: str) -> None:
    receipts = [await paid(session, vietqr, f"FT{at}", amount=10_000 + at) for at in range(3)]
    refund = await given_back(session, receipts[0], "FT9", amount=4_000, by_hand=True)
    waiting = await make.an_attempt(session, await make.a_bill(session), vietqr, now=THEN)
    movements = [await _transfer(session, receipt) for receipt in receipts]
    movements += [
        Movement("FT9", -4_000, f"HOAN TIEN {refund.reference}"),
        Movement("FT4", waiting.amount, f"{waiting.reference}"),
        Movement("FT5", 7_000, "khong ro"),
    ]
    imported = await take(session, vietqr, WRITERS[form](DAY, movements), source=Source.BANK)
    rows = await found_in(session, imported)
    assert [row.kind for row in rows] == [Type.MATCHED] * 4 + [Type.ONLY_THEIRS] * 2
    assert await open_now(session) == []
    assert imported.file.format == form
    books = await ledger.balances(session)
    arrived = 10_000 + 10_001 + 10_002 - 4_000 + 20_000 + 7_000
    (bank,) = [amount for account, amount in books.items() if account.startswith("bank:")]
    assert (bank, books["clearing:vietqr"], books["suspense"]) == (arrived, 0, -7_000)
    for receipt in receipts:
        await session.refresh(receipt)
        attempt = await session.get_one(PaymentAttempt, receipt.attempt_id, populate_existing=True)
        assert (receipt.evidence, attempt.success) == (Evidence.STATEMENT, Evidence.STATEMENT)
    # A correction of the same day settles nothing twice.
    movements[5] = Movement("FT5", 7_000, "khong ro nguoi gui")
    corrected = await take(
        session, vietqr, files.csv_file(DAY, [*movements, Movement("FT6", 5, "")]), source=Source.BANK
    )
    assert corrected.new
    assert (await ledger.balances(session))["clearing:vietqr"] == 0


async def test_what_a_bank_tells_of_people_is_not_kept(session: AsyncSession, vietqr: Merchant) -> None:
    await take(
        session, vietqr, files.mt940(DAY, [Movement("FT1", 5, "TRIEU THI BI MAT 0912345678")]), source=Source.BANK
    )
    for table in (StatementFile, StatementLine, ReconciliationItem, PaymentCase):
        for row in (await session.execute(select(table.__table__))).all():
            assert "BI MAT" not in str(row).upper()


async def test_a_statement_of_an_account_that_is_not_ours_is_refused(session: AsyncSession, vietqr: Merchant) -> None:
    for account in ("9999999999", "011001234567", "00110012345670"):
        with pytest.raises(StatementUnreadable, match="account"):
            await take(session, vietqr, files.mt940(DAY, [], account=account), source=Source.BANK)
    for account in (f"970436/{files.ACCOUNT}", f"BFTVVNVX/{files.ACCOUNT}VND"):
        await take(session, vietqr, files.mt940(DAY, [], account=account), source=Source.BANK)


async def test_a_bank_gets_the_money_of_a_providers_day_at_once(session: AsyncSession, vnpay: Merchant) -> None:
    receipts = [await paid(session, vnpay, f"9{at}", amount=10_000) for at in range(3)]
    refund = await given_back(session, receipts[0], "71", amount=4_000, by_hand=False)
    lines = [await line_of(session, receipt) for receipt in receipts]
    await take(session, vnpay, [*lines, back_line(refund), a_line("", "95", 1_000)])
    wrong = files.csv_file(DAY, [Movement("FT1", 26_000, f"VNPAY {DAY:%d/%m/%Y}"), Movement("FT2", 55, "lai tien gui")])
    imported = await take(session, vnpay, wrong, source=Source.BANK)
    assert [row.kind for row in await found_in(session, imported)] == [Type.AMOUNT, Type.ONLY_THEIRS]
    assert (await ledger.balances(session))["clearing:vnpay"] == 27_000
    (day,) = await queries.days(session, DAY, DAY)
    assert (day.received.amount, day.repaid.amount, day.settled, day.open) == (31_000, 4_000, 0, 2)
    right = files.csv_file(DAY, [Movement("FT1", 27_000, f"VNPAY {DAY:%d/%m/%Y}")])
    await take(session, vnpay, right, source=Source.BANK)
    await take(session, vnpay, right + b"\n", source=Source.BANK)
    books = await ledger.balances(session)
    (bank,) = [amount for account, amount in books.items() if account.startswith("bank:")]
    assert (books["clearing:vnpay"], bank) == (0, 27_000)
    (day,) = await queries.days(session, DAY, DAY)
    assert (day.received, day.settled, day.open) == (queries.Sum(4, 31_000), 27_000, 0)
    assert await open_now(session) == []


# --- operators, and every day -------------------------------------------------------------------------------------


async def test_an_operator_resolves_what_is_open_once(session: AsyncSession, vnpay: Merchant) -> None:
    receipt = await paid(session, vnpay, "91")
    await take(session, vnpay, [replace(await line_of(session, receipt), amount=30_000)])
    (row,) = await open_now(session)
    await reconciling.resolve(session, row.id, note="đã hỏi VNPAY", by="admin", now=NOW)
    found = await queries.item(session, row.id, today=TODAY)
    assert found is not None
    assert (found.resolved_by, found.note) == ("admin", "đã hỏi VNPAY")
    assert await cases(session, CaseKind.AMOUNT) == []
    with pytest.raises(ItemResolved):
        await reconciling.resolve(session, row.id, note="lần nữa", by="admin", now=NOW)


async def test_missing_money_becomes_a_case_two_days_later_until_it_is_found(
    session: AsyncSession, vnpay: Merchant
) -> None:
    early, late = await paid(session, vnpay, "91"), await paid(session, vnpay, "92")
    refund = await given_back(session, early, "71", amount=1_000, by_hand=False)
    await take(session, vnpay, [await line_of(session, late)])
    heard_later = await paid(session, vnpay, "93")  # of that day, and told after its file came
    assert (await reconciling.daily(session, now=NOW)).opened == 0
    due = NOW + timedelta(days=1)
    assert (await reconciling.daily(session, now=due)).opened == 3
    assert (await reconciling.daily(session, now=due)).opened == 0
    found = await cases(session, CaseKind.MISSING)
    assert {(case.receipt_id, case.refund_id) for case in found} == {
        (early.id, None),
        (early.id, refund.id),
        (heard_later.id, None),
    }
    assert Counter(row.kind for row in await open_now(session)) == {Type.ONLY_OURS: 2, Type.REFUND: 1}
    next_day = [await line_of(session, early), back_line(refund)]
    await take(session, vnpay, next_day, day=DAY + timedelta(days=1), now=LATER)
    assert [case.receipt_id for case in await cases(session, CaseKind.MISSING)] == [heard_later.id]
    attempt = await session.get_one(PaymentAttempt, heard_later.attempt_id)
    await make.hear(session, vnpay, attempt, Outcome.FAILED, how=Evidence.STATEMENT, now=LATER)
    await reconciling.daily(session, now=LATER)
    assert await cases(session, CaseKind.MISSING) == []
    assert await open_now(session) == []
    await sound(session)


async def test_missing_files_are_told(session: AsyncSession, vnpay: Merchant, vietqr: Merchant) -> None:
    for merchant in (vnpay, vietqr):
        merchant.created_at = NOW - timedelta(days=3)
    await paid(session, vnpay, "91")
    await take(session, vnpay, [], day=DAY)
    missing = (await reconciling.daily(session, now=NOW)).missing
    assert {(one.merchant, one.source) for one in missing} == {("vnpay", Source.PROVIDER), ("vietqr", Source.BANK)}
    assert Counter(one.merchant for one in missing) == {"vnpay": 2, "vietqr": 3}
    vietqr.active = False
    await session.flush()
    assert len((await reconciling.daily(session, now=NOW)).missing) == 2
    opened = await session.scalar(select(func.count()).select_from(PaymentCase))
    assert opened == 0  # the files are what is missing


async def test_attempts_that_ended_otherwise_are_settled_by_the_report(session: AsyncSession, vnpay: Merchant) -> None:
    tries = [await make.an_attempt(session, await make.a_bill(session), vnpay, now=THEN) for _ in range(2)]
    await make.hear(session, vnpay, tries[1], Outcome.FAILED, how=Evidence.WEBHOOK, now=THEN)
    file = [
        a_line(tries[0].reference, "", 20_000, Status.FAILED),
        a_line(tries[1].reference, "92", 20_000),
    ]
    imported = await take(session, vnpay, file)
    rows = await found_in(session, imported)
    assert [(row.kind, row.resolved_at is not None) for row in rows] == [(Type.STATUS, True)] * 2
    ended = [(await session.get_one(PaymentAttempt, one.id, populate_existing=True)).status for one in tries]
    assert ended == [AttemptStatus.FAILED, AttemptStatus.SUCCEEDED]


# --- over HTTP, and by command ------------------------------------------------------------------------------------


@pytest.fixture
async def admin(session: AsyncSession) -> dict[str, str]:
    return auth(await a_key(session, role=Role.ADMIN))


def keyed(headers: dict[str, str], key: str) -> dict[str, str]:
    return {**headers, "Idempotency-Key": key, "Content-Type": "application/octet-stream"}


async def test_a_file_is_taken_over_http_and_its_differences_resolved(
    session: AsyncSession, client: AsyncClient, vnpay: Merchant, admin: dict[str, str]
) -> None:
    receipt = await paid(session, vnpay, "91", now=YESTERDAY)
    lines = [replace(await line_of(session, receipt), amount=30_000), replace(a_line("", "95", 1_000), at=YESTERDAY)]
    await session.commit()
    data = write_report("vnpay", DAY_BEFORE_NOW, lines)
    path = "/api/v1/statements?merchant=vnpay&source=provider&name=ng%C3%A0y.csv"
    taken = await client.post(path, content=data, headers=keyed(admin, "one"))
    assert taken.status_code == 201, taken.text
    statement = taken.json()["statement"]
    assert (statement["name"], statement["lines"], statement["total"]) == ("ngày.csv", 2, 31_000)
    assert (statement["in_force"], statement["differences"], statement["open"]) == (True, 2, 1)
    again = await client.post(path, content=data, headers=keyed(admin, "two"))
    assert (again.status_code, again.json()["repeated"]) == (200, True)

    listed = (await client.get("/api/v1/statements?merchant=vnpay", headers=admin)).json()
    assert [row["id"] for row in listed["statements"]] == [statement["id"]]
    items = (await client.get(f"/api/v1/statements/{statement['id']}/items?limit=1", headers=admin)).json()
    rest = await client.get(f"/api/v1/statements/{statement['id']}/items?after={items['next']}", headers=admin)
    found = [*items["items"], *rest.json()["items"]]
    assert [(row["kind"], row["our_amount"], row["their_amount"]) for row in found] == [
        ("amount", 20_000, 30_000),
        ("only_theirs", None, 1_000),
    ]
    open_items = (await client.get("/api/v1/reconciliation/items", headers=admin)).json()["items"]
    assert [row["id"] for row in open_items] == [found[0]["id"]]

    resolve = f"/api/v1/reconciliation/items/{found[0]['id']}/resolve"
    done = await client.post(resolve, json={"note": "đã hỏi"}, headers={**admin, "Idempotency-Key": "three"})
    assert (done.status_code, done.json()["note"]) == (200, "đã hỏi")
    refused = await client.post(resolve, json={"note": "đã hỏi"}, headers={**admin, "Idempotency-Key": "four"})
    assert refused.json()["type"] == "/problems/reconciliation_item_resolved"

    monitor = auth(await a_key(session, role=Role.MONITOR))
    await session.commit()
    shown = (
        await client.get(f"/api/v1/reconciliation?from={DAY_BEFORE_NOW}&to={DAY_BEFORE_NOW}", headers=monitor)
    ).json()
    (day,) = shown["days"]
    assert (day["received"], day["provider"]["total"], day["bank"], day["open"]) == (21_000, 31_000, None, 0)
    assert shown["suspense"] == {"balance": 1_000, "unmatched": 1_000, "receipts": 1, "holds": True}


@pytest.mark.parametrize(
    ("content", "status", "problem"),
    [
        (b"", 422, "statement_unreadable"),
        (b"\xff\x00" * 100, 422, "statement_unreadable"),
        (b"x" * (5 << 20) + b"x", 413, "too_large"),
    ],
)
async def test_bad_files_are_refused_over_http(
    client: AsyncClient, vnpay: Merchant, admin: dict[str, str], content: bytes, status: int, problem: str
) -> None:
    path = "/api/v1/statements?merchant=vnpay&source=bank"
    answer = await client.post(path, content=content, headers=keyed(admin, "one"))
    assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{problem}")


async def test_wrong_questions_are_refused(client: AsyncClient, vnpay: Merchant, admin: dict[str, str]) -> None:
    for query in ("from=0001-01-01&to=0001-01-01", "from=2026-01-01", "from=2026-02-01&to=2026-01-01", "to=9999-12-31"):
        assert (await client.get(f"/api/v1/reconciliation?{query}", headers=admin)).status_code == 422, query
    assert (await client.get(f"/api/v1/statements/{vnpay.id}/items", headers=admin)).status_code == 404
    path = "/api/v1/statements?merchant=momo&source=bank"
    assert (await client.post(path, content=b"x", headers=keyed(admin, "one"))).status_code == 404
    resolve = f"/api/v1/reconciliation/items/{2**63 - 1}/resolve"
    headers = {**admin, "Idempotency-Key": "two"}
    assert (await client.post(resolve, json={"note": "không có"}, headers=headers)).status_code == 404


async def test_files_that_come_at_once_are_taken_once_while_messages_come(own_database: str) -> None:
    """Imports of one merchant take turns, and lock what they touch in the order that everybody else does."""
    engine = create_async_engine(own_database, poolclass=NullPool)
    sessions = sessions_of(engine)
    async with sessions.begin() as session:
        merchant = await make.a_merchant(session, provider="vnpay")
        tries = [await make.an_attempt(session, await make.a_bill(session), merchant, now=THEN) for _ in range(12)]
    lines = [a_line(one.reference, f"9{at}", one.amount) for at, one in enumerate(tries)]
    data = write_report("vnpay", DAY, lines)

    async def importing(file: bytes) -> bool:
        async with sessions.begin() as session:
            row = await session.get_one(Merchant, merchant.id)
            taken = await reconciling.import_file(
                session, row, source=Source.PROVIDER, name="x", data=file, by="test", now=NOW
            )
            return taken.new

    async def hearing(at: int) -> bool:
        async with sessions.begin() as session:
            attempt = await session.get_one(PaymentAttempt, tries[at].id)
            await make.hear(session, merchant, attempt, transaction=f"9{at}", now=THEN)
        return False

    shuffled = write_report("vnpay", DAY, lines[::-1])
    done = await asyncio.gather(
        *(importing(data) for _ in range(4)), *(hearing(at) for at in range(12)), importing(shuffled)
    )
    assert sum(done) == 2
    async with sessions.begin() as session:
        assert await ledger.verify(session) == []
        assert await session.scalar(select(func.count()).select_from(Receipt)) == 12
        assert await open_now(session) == []
    await engine.dispose()


def test_the_commands(own_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", own_database)
    monkeypatch.setenv("BKAPP_BASE_URL", "http://bkapp.test")
    monkeypatch.setenv("BKAPP_DEMO", "1")

    async def fill() -> bytes:
        engine = create_async_engine(own_database, poolclass=NullPool)
        async with sessions_of(engine).begin() as session:
            merchant = await make.a_merchant(session, provider="vnpay")
            receipt = await paid(session, merchant, "91", now=YESTERDAY)
            line = await line_of(session, receipt)
        await engine.dispose()
        return write_report("vnpay", DAY_BEFORE_NOW, [replace(line, amount=line.amount + 1)])

    report = tmp_path / "report.csv"
    report.write_bytes(asyncio.run(fill()))
    run = CliRunner()
    asked = ["vnpay", str(report), "--source", "provider"]
    shown = run.invoke(reconcile, asked)
    assert (shown.exit_code, "1 differences, 1 open" in shown.output) == (1, True), shown.output
    assert "amount: line 1" in shown.output
    assert "(taken before)" in run.invoke(reconcile, asked).output
    report.write_bytes(report.read_bytes()[:-9])
    broken = run.invoke(reconcile, asked)
    assert (broken.exit_code, "Line " in broken.output) == (1, True)
    days = run.invoke(reconciliation, ["--date", str(DAY_BEFORE_NOW)])
    assert days.exit_code == 1
    assert f"{DAY_BEFORE_NOW} vnpay: ledger 20,000 đ, provider 20,001 đ, bank –" in days.output
    assert "suspense 0 đ, which is 0 receipts" in days.output
