"""Taking the files of providers and banks, comparing them with our books, and hearing what they tell.

A file is taken whole, in one transaction: its lines, what comparing found of each, the evidence that follows from it
and what arrived at the bank.  Files of one merchant take turns.
"""

import asyncio
import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import structlog
from msgspec import Struct
from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.audit.operations import append
from bkapp.db import violated
from bkapp.errors import DomainError, NotFound
from bkapp.http import HANOI
from bkapp.payments import statements
from bkapp.payments.matching import Item, Type, compare, settle
from bkapp.payments.models import (
    Beneficiary,
    Merchant,
    PaymentCase,
    Receipt,
    ReconciliationItem,
    Refund,
    StatementFile,
    StatementLine,
)
from bkapp.payments.operations import differences, evidence, refunds, settling
from bkapp.payments.operations.cases import open_case
from bkapp.payments.providers import Finding, Outcome
from bkapp.payments.queries import reconciling as queries
from bkapp.payments.queries.reconciling import SUPERSEDED, MissingFile, by_line, in_force
from bkapp.payments.rules import CaseKind, Evidence, Place
from bkapp.payments.statements import Kind, Line, Report, Source, StatementUnreadable, Status

CYCLE = timedelta(days=2)
"""How long after its day money without a line becomes a case: by then it should have been in the file of its day or,
if it came about midnight, in the next one."""
_OUTCOMES = {Status.SUCCEEDED: Outcome.PAID, Status.FAILED: Outcome.FAILED, Status.PENDING: Outcome.PENDING}
_STRENGTHS = {Source.PROVIDER: Evidence.INQUIRY, Source.BANK: Evidence.STATEMENT}

log = structlog.get_logger("bkapp.payments")


class DayNotOver(DomainError):
    """The file is of a day that is not over yet, so it cannot have all of it."""

    code = "statement_day_not_over"
    title = "Ngày giao dịch của tệp chưa kết thúc"


class ItemResolved(DomainError):
    """Nothing is open about this item: it matched, or was settled before."""

    code = "reconciliation_item_resolved"
    title = "Mục đối soát này đã được xử lý"


class Imported(Struct, frozen=True):
    """A file that was taken.  ``new`` is false for one that was taken before, of which nothing was done again."""

    file: StatementFile
    new: bool


async def import_file(
    session: AsyncSession, merchant: Merchant, *, source: Source, name: str, data: bytes, by: str, now: datetime
) -> Imported:
    """Take a file of a merchant's day, whole or not at all, and reconcile it.

    The same bytes again are the first import.  Others for the same day are a correction: they stand instead of the file
    before, whose words stay heard.  Raise ``StatementUnreadable`` or :class:`DayNotOver`.
    """
    report = await asyncio.to_thread(statements.read, data, source)
    if report.merchant not in {"", merchant.key}:
        raise StatementUnreadable(f"The file is of {report.merchant} and not of {merchant.key}.", line=1)
    if report.account and by_line(merchant.provider, source):
        await _require_own_account(session, report.account)
    if report.business_date >= now.astimezone(HANOI).date():
        raise DayNotOver(f"{report.business_date} is not over.", business_date=str(report.business_date))
    await session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"reconciling:{merchant.id}", 0))))
    of_day = [
        StatementFile.merchant_id == merchant.id,
        StatementFile.source == source.value,
        StatementFile.business_date == report.business_date,
    ]
    before = await session.scalar(
        select(StatementFile).where(*of_day).order_by(StatementFile.imported_at.desc()).limit(1)
    )
    digest = hashlib.sha256(data).digest()
    made = await session.scalar(
        insert(StatementFile)
        .values(
            merchant_id=merchant.id,
            source=source.value,
            format=report.format,
            business_date=report.business_date,
            sha256=digest,
            name=name,
            line_count=report.count,
            total=report.total,
            # The newest of a day stands, so no two are of one moment.
            imported_at=now if before is None else max(now, before.imported_at + timedelta(microseconds=1)),
            imported_by=by,
        )
        .on_conflict_do_nothing()
        .returning(StatementFile)
    )
    if made is None:
        known = await session.scalars(select(StatementFile).where(*of_day, StatementFile.sha256 == digest))
        return Imported(known.one(), new=False)
    if before is not None:
        await differences.supersede(session, before, made, now=now)
    if by_line(merchant.provider, source):
        found = await _reconcile_lines(session, merchant, made, report, now=now)
    else:
        found = await _reconcile_totals(session, merchant, made, report, now=now)
    counts: dict[str, int] = defaultdict(int)
    for item in found:
        counts[item.type.value] += 1
    told = {"merchant": merchant.key, "source": source.value, "day": str(report.business_date)}
    await append(
        session, kind="statement_imported", actor=by, subject=f"statement:{made.id}", found=dict(counts), **told
    )
    return Imported(made, new=True)


async def _require_own_account(session: AsyncSession, account: str) -> None:
    """Refuse the statement of an account that no fee goes to: all its money would be taken for ours."""
    parts = [part for whole in re.split(r"[^0-9A-Z]+", account.upper()) for part in (whole, whole.removesuffix("VND"))]
    if await session.scalar(select(Beneficiary.id).where(Beneficiary.account.in_(parts)).limit(1)) is None:
        raise StatementUnreadable("The statement is of an account that no fee goes to.", field="account")


async def resolve(session: AsyncSession, item_id: int, *, note: str, by: str, now: datetime) -> None:
    """Say that a difference is settled, and how; its case is closed with it.  Raise :class:`ItemResolved`."""
    item = await session.get(ReconciliationItem, item_id, with_for_update=True, populate_existing=True)
    if item is None:
        raise NotFound("There is no such item.")
    if item.kind == Type.MATCHED or item.resolved_at is not None:
        raise ItemResolved("Nothing is open about this item.")
    item.resolved_at, item.resolved_by, item.note = now, by, note
    await session.flush()
    if item.statement_line_id is None:
        await differences.close_missing(session, [item], by=by, outcome=note, now=now)
    else:
        await session.execute(
            update(PaymentCase)
            .where(PaymentCase.statement_line_id == item.statement_line_id, differences.closable())
            .values(closed_at=now, closed_by=by, outcome=note)
            .execution_options(synchronize_session=False)
        )
    await append(
        session, kind="reconciliation_resolved", actor=by, subject=f"reconciliation:{item_id}", found=item.kind
    )


# --- line by line -------------------------------------------------------------------------------------------------


async def _reconcile_lines(
    session: AsyncSession, merchant: Merchant, file: StatementFile, report: Report, *, now: datetime
) -> list[Item]:
    source, lines = Source(file.source), report.lines

    async def compared() -> list[Item]:
        return compare(await queries.books(session, merchant.id, source, file.business_date, lines), lines)

    # Whoever posts to the ledger holds it to the end, so all that will be locked is locked before the first posting.
    await _lock(session, merchant, lines, await compared())
    items = await compared()
    ids = await _add_lines(session, file, [(line, next(iter(line.references), "")) for line in lines])
    await differences.add_items(session, file, items, ids, now=now)
    for item in items:
        if item.news and item.line is not None:
            await _hear(session, merchant, source, lines[item.line], item, f"statement:{ids[item.line]}", now=now)
    if any(item.news for item in items):
        await differences.note_what_settled(session, items, await compared(), ids, now=now)
    await differences.found_later(session, file, items, ids, now=now)
    await differences.open_cases(session, merchant, items, ids, now=now)
    if source is Source.BANK:
        await settling.arrived(session, merchant, file)
    return items


async def _hear(
    session: AsyncSession, merchant: Merchant, source: Source, line: Line, item: Item, told_by: str, *, now: datetime
) -> None:
    finding = Finding(
        references=line.references,
        outcome=_OUTCOMES[line.status],
        amount=line.amount,
        transaction=line.transaction or None,
        at=line.at,
        code=line.status.value,
    )
    if line.kind is Kind.PAYMENT:
        strength = _STRENGTHS[source]
        await evidence.hear(session, merchant, finding, evidence=strength, source=told_by, now=now)
    elif item.refund is not None:
        try:
            async with session.begin_nested():
                await refunds.hear_refund(session, item.refund, finding, source=told_by, now=now)
        except IntegrityError as error:
            # The transfer was recorded for another refund: a difference that stays.
            if violated(error) != "uq_refund_transaction":
                raise


async def _lock(session: AsyncSession, merchant: Merchant, lines: Sequence[Line], items: Sequence[Item]) -> None:
    """Lock what hearing and settling will touch, in the order in which everybody locks: bills, attempts, receipts,
    refunds."""
    heard = [lines[item.line] for item in items if item.news and item.line is not None]
    names = sorted({reference for line in heard for reference in line.references})
    about = {
        "merchant": merchant.id,
        "names": names,
        "numbers": sorted({line.transaction for line in heard if line.transaction}),
        "receipts": [item.receipt for item in items if item.receipt is not None],
        "refunds": [item.refund for item in items if item.refund is not None],
    }
    for statement in _LOCKS:
        await session.execute(statement, about)


_LOCKS = [
    text(
        """WITH bills AS (
            SELECT bill_id AS id FROM payment_attempt WHERE reference = ANY(:names)
            UNION SELECT id FROM bill WHERE code = ANY(:names)
            UNION SELECT bill_id FROM receipt WHERE merchant_id = :merchant AND transaction = ANY(:numbers)
            UNION SELECT r.bill_id FROM refund d JOIN receipt r ON r.id = d.receipt_id WHERE d.id = ANY(:refunds))
        SELECT id FROM bill WHERE id IN (SELECT id FROM bills) ORDER BY id FOR UPDATE"""
    ),
    text(
        """SELECT id FROM payment_attempt WHERE reference = ANY(:names)
            OR id IN (SELECT attempt_id FROM receipt WHERE id = ANY(:receipts)) ORDER BY id FOR UPDATE"""
    ),
    text(
        """SELECT id FROM receipt WHERE id = ANY(:receipts)
            OR (merchant_id = :merchant AND transaction = ANY(:numbers))
            OR attempt_id IN (SELECT id FROM payment_attempt WHERE reference = ANY(:names))
            OR id IN (SELECT receipt_id FROM refund WHERE id = ANY(:refunds)) ORDER BY id FOR UPDATE"""
    ),
    text("SELECT id FROM refund WHERE id = ANY(:refunds) ORDER BY id FOR UPDATE"),
]


async def _add_lines(session: AsyncSession, file: StatementFile, lines: Iterable[tuple[Line, str]]) -> list[int]:
    """Keep the lines of a file, each with the reference it goes by; return their ids.  What a bank tells of a transfer
    names people, and is not kept."""
    rows = [
        {
            "file_id": file.id,
            "position": position,
            "kind": line.kind.value,
            "reference": reference,
            "transaction": line.transaction,
            "amount": line.amount,
            "status": line.status.value,
            "at": line.at,
        }
        for position, (line, reference) in enumerate(lines, 1)
    ]
    if not rows:
        return []
    made = await session.scalars(insert(StatementLine).returning(StatementLine.id, sort_by_parameter_order=True), rows)
    return list(made)


# --- a whole day at once ------------------------------------------------------------------------------------------


async def _reconcile_totals(
    session: AsyncSession, merchant: Merchant, file: StatementFile, report: Report, *, now: datetime
) -> list[Item]:
    """The bank gets a provider's days as one transfer each: find the day that each line settles."""
    found = settle(await queries.settlement_days(session, merchant.id, file.business_date), report.lines)
    days = ["" if one.day is None else str(one.day) for one in found]
    ids = await _add_lines(session, file, zip(report.lines, days, strict=True))
    items = [one.item for one in found]
    await differences.add_items(session, file, items, ids, now=now)
    await differences.open_cases(session, merchant, items, ids, now=now)
    for one in found:
        if one.day is not None and one.item.type is Type.MATCHED:
            await settling.settle_day(session, merchant, one.day)
    return items


# --- every day ----------------------------------------------------------------------------------------------------


class Daily(Struct, frozen=True):
    """What the daily check found: money that no file speaks of, and files that are not there."""

    opened: int
    missing: Sequence[MissingFile]


# Receipts and refunds of a day whose file stands, that no line in force speaks of.  Most were found when the file came;
# these here we heard of later.
_UNSPOKEN = """
    INSERT INTO reconciliation_item (merchant_id, source, business_date, kind, {column}, our_amount, first_seen_at)
    SELECT f.merchant_id, f.source, f.business_date, '{kind}', one.id, one.amount, :now
    FROM statement_file f JOIN merchant m ON m.id = f.merchant_id
    JOIN LATERAL ({rows}) one ON true
    WHERE (f.source = 'provider' OR m.provider = 'vietqr') AND f.business_date BETWEEN :since AND :until
        AND {stands}
        AND NOT EXISTS (
            SELECT FROM reconciliation_item i LEFT JOIN statement_line l ON l.id = i.statement_line_id
            LEFT JOIN statement_file o ON o.id = l.file_id
            WHERE i.{column} = one.id AND i.source = f.source AND CASE WHEN o.id IS NULL
                THEN coalesce(i.resolved_by, '') NOT LIKE '{superseded}%' ELSE {its_stands} END)
    ON CONFLICT DO NOTHING"""
_STANDING = {"stands": in_force("f"), "its_stands": in_force("o"), "superseded": SUPERSEDED}
_IN_DAY = " AND ".join(
    [
        "{at} >= f.business_date::timestamp AT TIME ZONE 'Asia/Ho_Chi_Minh'",
        "{at} < (f.business_date + 1)::timestamp AT TIME ZONE 'Asia/Ho_Chi_Minh'",
    ]
)
_UNSPOKEN_RECEIPTS = text(
    _UNSPOKEN.format(
        **_STANDING,
        column="receipt_id",
        kind=Type.ONLY_OURS.value,
        rows=f"""SELECT r.id, r.amount FROM receipt r WHERE r.merchant_id = f.merchant_id
            AND r.place <> 'reversed' AND {_IN_DAY.format(at="r.received_at")}""",
    )
)
_UNSPOKEN_REFUNDS = text(
    _UNSPOKEN.format(
        **_STANDING,
        column="refund_id",
        kind=Type.REFUND.value,
        rows=f"""SELECT d.id, d.amount FROM refund d JOIN receipt r ON r.id = d.receipt_id
            WHERE r.merchant_id = f.merchant_id AND d.status = 'succeeded' AND (f.source = 'bank' OR NOT d.by_hand)
            AND {_IN_DAY.format(at="d.settled_at")}""",
    )
)


async def daily(session: AsyncSession, *, now: datetime) -> Daily:
    """Open a case for all money of two days ago and before that no file speaks of, and tell which files are missing.

    A day without its file opens no cases: the file is what is missing then.  Safe to repeat.
    """
    today = now.astimezone(HANOI).date()
    due = today - CYCLE
    span = {"now": now, "since": today - timedelta(days=30), "until": due}
    await session.execute(_UNSPOKEN_RECEIPTS, span)
    await session.execute(_UNSPOKEN_REFUNDS, span)
    await _drop_reversed(session, now=now)
    left = await session.execute(
        select(ReconciliationItem, Receipt.id, Receipt.bill_id, Receipt.attempt_id)
        .outerjoin(Refund, Refund.id == ReconciliationItem.refund_id)
        .join(Receipt, Receipt.id == func.coalesce(ReconciliationItem.receipt_id, Refund.receipt_id))
        .where(
            ReconciliationItem.statement_line_id.is_(None),
            ReconciliationItem.resolved_at.is_(None),
            ReconciliationItem.business_date <= due,
            ~select(PaymentCase.id)
            .where(
                PaymentCase.kind == CaseKind.MISSING,
                PaymentCase.closed_at.is_(None),
                PaymentCase.receipt_id == Receipt.id,
                PaymentCase.refund_id.is_not_distinct_from(ReconciliationItem.refund_id),
            )
            .exists(),
        )
        .order_by(ReconciliationItem.id)
    )
    opened = set()
    for item, receipt_id, bill_id, attempt_id in left.all():
        case = await open_case(
            session,
            CaseKind.MISSING,
            now=now,
            merchant_id=item.merchant_id,
            bill_id=bill_id,
            attempt_id=attempt_id,
            receipt_id=receipt_id,
            refund_id=item.refund_id,
            detail=f"the {item.source}'s file of {item.business_date} does not have it",
        )
        opened.add(case.id)
    missing = await queries.missing_files(session, today)
    for one in missing:
        log.warning("statement_missing", merchant=one.merchant, source=one.source.value, day=str(one.date))
    return Daily(len(opened), missing)


async def _drop_reversed(session: AsyncSession, *, now: datetime) -> None:
    """Money that was reversed meanwhile is not missing: it never came."""
    reversed_ = select(Receipt.id).where(Receipt.place == Place.REVERSED)
    gone = await session.scalars(
        select(ReconciliationItem).where(
            ReconciliationItem.statement_line_id.is_(None),
            ReconciliationItem.resolved_at.is_(None),
            ReconciliationItem.receipt_id.in_(reversed_),
        )
    )
    items = gone.all()
    for item in items:
        item.resolved_at, item.resolved_by = now, differences.ITSELF
    await session.flush()
    await differences.close_missing(session, items, by=differences.ITSELF, outcome="it never came", now=now)
