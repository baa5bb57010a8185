"""What reconciliation compares and found."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import UUID

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.http import HANOI
from bkapp.payments.matching import Books, Day, Money, Repayment, Try, Type
from bkapp.payments.rules import AttemptStatus, RefundStatus
from bkapp.payments.statements import Kind, Line, Source

SUPERSEDED = "superseded:"
"""How ``resolved_by`` begins where a newer file of the day stands instead."""


def in_force(file: str) -> str:
    """SQL: whether no newer file of the same day stands instead of one (the name of its row)."""
    return f"""NOT EXISTS (
        SELECT FROM statement_file newer WHERE newer.merchant_id = {file}.merchant_id AND newer.source = {file}.source
            AND newer.business_date = {file}.business_date AND newer.imported_at > {file}.imported_at)"""


_IN_FORCE = in_force("f")
_HANOI = "AT TIME ZONE 'Asia/Ho_Chi_Minh'"


def by_line(provider: str, source: Source) -> bool:
    """Whether a file's lines are single payments.  Of most providers a bank sees the money of whole days only."""
    return source is Source.PROVIDER or provider == "vietqr"


def bounds(day: date) -> tuple[datetime, datetime]:
    """When a day begins in Hà Nội and when the next one does."""
    start = datetime.combine(day, time(), HANOI).astimezone(UTC)
    return start, datetime.combine(day + timedelta(days=1), time(), HANOI).astimezone(UTC)


# --- what we have -------------------------------------------------------------------------------------------------

# Another file of the same source, of another day, speaks of it.
_CONFIRMED = f"""EXISTS (
    SELECT FROM reconciliation_item i JOIN statement_line l ON l.id = i.statement_line_id
    JOIN statement_file f ON f.id = l.file_id
    WHERE i.{{column}} = {{row}}.id AND i.source = :source AND f.business_date <> :day AND {_IN_FORCE})"""

_MONEY = text(f"""
    WITH named AS (
        SELECT id FROM receipt WHERE merchant_id = :merchant AND transaction = ANY(:numbers)
        UNION SELECT r.id FROM payment_attempt a JOIN receipt r ON r.attempt_id = a.id
            WHERE a.reference = ANY(:references) AND r.merchant_id = :merchant
        UNION SELECT id FROM receipt WHERE merchant_id = :merchant AND received_at >= :since AND received_at < :until
    )
    SELECT r.id, coalesce(a.reference, ''), r.transaction, r.amount, r.place <> 'reversed',
        r.received_at >= :since AND r.received_at < :until, {_CONFIRMED.format(column="receipt_id", row="r")}
    FROM named JOIN receipt r USING (id) LEFT JOIN payment_attempt a ON a.id = r.attempt_id
    ORDER BY r.number""")
_TRIES = text("""
    SELECT reference, amount, status FROM payment_attempt
    WHERE merchant_id = :merchant AND reference = ANY(:references)""")
_REPAYMENTS = text(f"""
    WITH named AS (
        SELECT id FROM refund WHERE reference = ANY(:references)
        UNION SELECT id FROM refund WHERE transaction = ANY(:numbers)
        UNION SELECT id FROM refund WHERE status = 'succeeded' AND settled_at >= :since AND settled_at < :until
    )
    SELECT d.id, d.reference, coalesce(d.transaction, ''), d.amount, d.status,
        d.status = 'succeeded' AND d.settled_at >= :since AND d.settled_at < :until
            AND (:source = 'bank' OR NOT d.by_hand), {_CONFIRMED.format(column="refund_id", row="d")}
    FROM named JOIN refund d USING (id) JOIN receipt r ON r.id = d.receipt_id
    WHERE r.merchant_id = :merchant ORDER BY d.requested_at, d.id""")
_UNTOLD = ("ref:", "source:")


async def books(session: AsyncSession, merchant_id: UUID, source: Source, day: date, lines: Sequence[Line]) -> Books:
    """Our money, attempts and refunds of a merchant's day, and whatever else the lines name."""
    since, until = bounds(day)
    about: dict[str, Any] = {
        "merchant": merchant_id,
        "source": source.value,
        "day": day,
        "since": since,
        "until": until,
        "references": sorted({reference for line in lines for reference in line.references}),
    }
    paid = about | {"numbers": sorted({line.transaction for line in lines if line.kind is Kind.PAYMENT})}
    back = about | {"numbers": sorted({line.transaction for line in lines if line.kind is Kind.REFUND})}
    money = [
        Money(
            id=row[0],
            reference=row[1],
            transaction="" if row[2].startswith(_UNTOLD) else row[2],
            amount=row[3],
            stands=row[4],
            expected=row[5],
            confirmed=row[6],
        )
        for row in await session.execute(_MONEY, paid)
    ]
    tries = [
        Try(reference=reference, amount=amount, status=AttemptStatus(status))
        for reference, amount, status in await session.execute(_TRIES, about)
    ]
    repayments = [
        Repayment(
            id=row[0],
            reference=row[1],
            transaction=row[2],
            amount=row[3],
            status=RefundStatus(row[4]),
            expected=row[5],
            confirmed=row[6],
        )
        for row in await session.execute(_REPAYMENTS, back)
    ]
    return Books(money, tries, repayments)


_DAYS = text(f"""
    SELECT f.business_date, f.total, coalesce((
        SELECT l.transaction FROM statement_line l JOIN statement_file b ON b.id = l.file_id
        WHERE b.merchant_id = f.merchant_id AND b.source = 'bank' AND l.reference = f.business_date::text
        ORDER BY l.id LIMIT 1), '')
    FROM statement_file f
    WHERE f.merchant_id = :merchant AND f.source = 'provider' AND f.business_date <= :day
        AND f.business_date > CAST(:day AS date) - 60 AND f.total <> 0 AND {_IN_FORCE}
    ORDER BY f.business_date""")


async def settlement_days(session: AsyncSession, merchant_id: UUID, day: date) -> list[Day]:
    """The days of which a provider told us, up to one, and by which transfer each was settled."""
    rows = await session.execute(_DAYS, {"merchant": merchant_id, "day": day})
    return [Day(*row) for row in rows]


# --- what was found -----------------------------------------------------------------------------------------------


class FileRow(Struct, frozen=True, kw_only=True):
    """A file that was imported; ``in_force`` unless a newer one of its day stands."""

    id: UUID
    merchant: str
    source: Source
    format: str
    business_date: date
    sha256: bytes
    name: str
    line_count: int
    total: int
    imported_at: datetime
    imported_by: str
    in_force: bool
    differences: int
    open: int


_FILES = f"""
    SELECT f.id, m.key AS merchant, f.source, f.format, f.business_date, f.sha256, f.name, f.line_count, f.total,
        f.imported_at, f.imported_by, {_IN_FORCE} AS in_force, coalesce(found.differences, 0) AS differences,
        coalesce(found.open, 0) AS open
    FROM statement_file f JOIN merchant m ON m.id = f.merchant_id
    LEFT JOIN LATERAL (
        SELECT count(*) AS differences, count(*) FILTER (WHERE i.resolved_at IS NULL) AS open
        FROM reconciliation_item i LEFT JOIN statement_line l ON l.id = i.statement_line_id
        WHERE i.kind <> 'matched' AND i.merchant_id = f.merchant_id AND i.business_date = f.business_date
            AND i.source = f.source AND (l.file_id = f.id OR (
                l.id IS NULL AND {_IN_FORCE} AND coalesce(i.resolved_by, '') NOT LIKE '{SUPERSEDED}%'))
    ) found ON true"""


async def files(
    session: AsyncSession, *, merchant: str | None = None, limit: int, after: UUID | None = None
) -> list[FileRow]:
    """Files, the newest first; ``after`` is the last one of the page before."""
    rows = await session.execute(
        text(f"""{_FILES}
            WHERE (CAST(:merchant AS text) IS NULL OR m.key = :merchant) AND (CAST(:after AS uuid) IS NULL OR
                (f.imported_at, f.id) < (SELECT imported_at, id FROM statement_file WHERE id = :after))
            ORDER BY f.imported_at DESC, f.id DESC LIMIT :limit"""),
        {"merchant": merchant, "after": after, "limit": limit},
    )
    return [_file(row) for row in rows.mappings()]


async def file(session: AsyncSession, file_id: UUID) -> FileRow | None:
    """A file."""
    row = (await session.execute(text(f"{_FILES} WHERE f.id = :id"), {"id": file_id})).mappings().one_or_none()
    return None if row is None else _file(row)


def _file(row: Any) -> FileRow:
    return FileRow(**{**row, "source": Source(row["source"]), "sha256": bytes(row["sha256"])})


class ItemRow(Struct, frozen=True, kw_only=True):
    """What comparing found, with what its line or our receipt says.  ``age`` is in days since the business day."""

    id: int
    merchant: str
    source: Source
    business_date: date
    kind: Type
    line: int | None
    line_kind: Kind | None
    line_status: str | None
    reference: str
    transaction: str
    ours: int | None
    theirs: int | None
    receipt_id: UUID | None
    receipt_number: int | None
    refund_id: UUID | None
    first_seen_at: datetime
    age: int
    resolved_at: datetime | None
    resolved_by: str | None
    note: str | None


_ITEMS = f"""
    SELECT i.id, m.key AS merchant, i.source, i.business_date, i.kind, l.position AS line, l.kind AS line_kind,
        l.status AS line_status, coalesce(nullif(l.reference, ''), d.reference, a.reference, '') AS reference,
        coalesce(nullif(l.transaction, ''), d.transaction, r.transaction, '') AS transaction,
        i.our_amount AS ours, i.their_amount AS theirs, i.receipt_id, r.number AS receipt_number, i.refund_id,
        i.first_seen_at, CAST(:today AS date) - i.business_date AS age, i.resolved_at, i.resolved_by, i.note
    FROM reconciliation_item i JOIN merchant m ON m.id = i.merchant_id
    LEFT JOIN statement_line l ON l.id = i.statement_line_id
    LEFT JOIN receipt r ON r.id = i.receipt_id
    LEFT JOIN payment_attempt a ON a.id = r.attempt_id
    LEFT JOIN refund d ON d.id = i.refund_id
    LEFT JOIN statement_file f ON f.id = :file
    WHERE i.id > :after AND (CAST(:kind AS text) IS NULL OR i.kind = :kind)
        AND (CAST(:merchant AS text) IS NULL OR m.key = :merchant)
        AND (NOT :only_open OR (i.kind <> 'matched' AND i.resolved_at IS NULL))
        AND (CAST(:file AS uuid) IS NULL OR l.file_id = :file OR (
            l.id IS NULL AND i.merchant_id = f.merchant_id AND i.source = f.source
            AND i.business_date = f.business_date AND {_IN_FORCE}
            AND coalesce(i.resolved_by, '') NOT LIKE '{SUPERSEDED}%'))
    ORDER BY i.id LIMIT :limit"""


async def items(
    session: AsyncSession,
    *,
    today: date,
    file_id: UUID | None = None,
    merchant: str | None = None,
    kind: Type | None = None,
    only_open: bool = False,
    after: int = 0,
    limit: int,
) -> list[ItemRow]:
    """What was found, in the order in which it was: of one file with what only we have of its day, or of all."""
    rows = await session.execute(
        text(_ITEMS),
        {
            "today": today,
            "file": file_id,
            "merchant": merchant,
            "kind": None if kind is None else kind.value,
            "only_open": only_open,
            "after": after,
            "limit": limit,
        },
    )
    return [_item(row) for row in rows.mappings()]


async def item(session: AsyncSession, item_id: int, *, today: date) -> ItemRow | None:
    """One item."""
    rows = await items(session, today=today, after=item_id - 1, limit=1)
    return rows[0] if rows and rows[0].id == item_id else None


def _item(row: Any) -> ItemRow:
    typed = {"source": Source(row["source"]), "kind": Type(row["kind"])}
    line_kind = None if row["line_kind"] is None else Kind(row["line_kind"])
    return ItemRow(**{**row, **typed, "line_kind": line_kind})


class Sum(Struct, frozen=True):
    """How many, and what they come to."""

    count: int = 0
    amount: int = 0


class Found(Struct, frozen=True):
    """How much of a type was found, how much of it is open, and what each side says it comes to."""

    kind: Type
    count: int
    open: int
    ours: int
    theirs: int


class Side(Struct, frozen=True, kw_only=True):
    """The file of a day that stands."""

    file_id: UUID
    name: str
    format: str
    lines: int
    total: int
    imported_at: datetime
    found: Sequence[Found]


class DayRow(Struct, frozen=True, kw_only=True):
    """A merchant's day three ways: what the ledger says, what the provider told, what the bank did.

    ``received`` and ``repaid`` are what the ledger has of the day, ``settled`` what of it arrived at the bank.
    """

    merchant: str
    title: str
    date: date
    received: Sum
    repaid: Sum
    settled: int
    provider: Side | None
    bank: Side | None

    @property
    def open(self) -> int:
        """How many differences nobody has settled."""
        return sum(found.open for side in (self.provider, self.bank) if side is not None for found in side.found)


_LEDGER = text(f"""
    SELECT m.key, day, what, count(*), sum(amount)::bigint FROM (
        SELECT r.merchant_id AS merchant, (r.received_at {_HANOI})::date AS day, 'received' AS what,
            sum(e.amount) AS amount
        FROM receipt r JOIN ledger_transaction t ON t.receipt_id = r.id
        LEFT JOIN ledger_transaction back ON back.seq = t.reverses
        JOIN ledger_entry e ON e.transaction_seq = t.seq AND e.account LIKE 'clearing:%'
        WHERE r.received_at >= :start AND r.received_at < :end AND coalesce(back.kind, t.kind) = 'receipt'
        GROUP BY r.id HAVING sum(e.amount) <> 0
        UNION ALL
        SELECT r.merchant_id, (d.settled_at {_HANOI})::date, 'repaid', -e.amount
        FROM refund d JOIN receipt r ON r.id = d.receipt_id
        JOIN ledger_transaction t ON t.refund_id = d.id AND t.kind = 'refund'
        JOIN ledger_entry e ON e.transaction_seq = t.seq AND e.account LIKE 'clearing:%'
        WHERE d.settled_at >= :start AND d.settled_at < :end
        UNION ALL
        SELECT r.merchant_id, (coalesce(d.settled_at, r.received_at) {_HANOI})::date, 'settled', -e.amount
        FROM ledger_transaction t JOIN ledger_entry e ON e.transaction_seq = t.seq AND e.account LIKE 'clearing:%'
        LEFT JOIN refund d ON d.id = t.refund_id
        JOIN receipt r ON r.id = coalesce(t.receipt_id, d.receipt_id)
        WHERE t.kind = 'settlement' AND coalesce(d.settled_at, r.received_at) >= :start
            AND coalesce(d.settled_at, r.received_at) < :end
        UNION ALL
        SELECT m.id, day::date, 'settled', -e.amount
        FROM merchant m, generate_series(CAST(:since AS date), CAST(:until AS date), interval '1 day') day,
            ledger_transaction t, ledger_entry e
        WHERE t.kind = 'settlement' AND t.subject = 'settlement:' || m.key || ':' || day::date
            AND e.transaction_seq = t.seq AND e.account LIKE 'clearing:%'
    ) booked JOIN merchant m ON m.id = booked.merchant
    WHERE CAST(:merchant AS text) IS NULL OR m.key = :merchant
    GROUP BY m.key, day, what""")
_FOUND = text(f"""
    SELECT i.merchant_id, i.source, i.business_date, i.kind, count(*),
        count(*) FILTER (WHERE i.kind <> 'matched' AND i.resolved_at IS NULL),
        coalesce(sum(i.our_amount), 0)::bigint, coalesce(sum(i.their_amount), 0)::bigint
    FROM reconciliation_item i LEFT JOIN statement_line l ON l.id = i.statement_line_id
    LEFT JOIN statement_file f ON f.id = l.file_id
    WHERE i.business_date BETWEEN :since AND :until AND CASE WHEN f.id IS NULL
        THEN coalesce(i.resolved_by, '') NOT LIKE '{SUPERSEDED}%' ELSE {_IN_FORCE} END
    GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4""")
_SIDES = text(f"""
    SELECT f.id, f.merchant_id, f.source, f.business_date, f.name, f.format, f.line_count, f.total, f.imported_at
    FROM statement_file f JOIN merchant m ON m.id = f.merchant_id
    WHERE f.business_date BETWEEN :since AND :until AND (CAST(:merchant AS text) IS NULL OR m.key = :merchant)
        AND {_IN_FORCE}""")
_MERCHANTS = text("""
    SELECT id, key, title FROM merchant WHERE CAST(:merchant AS text) IS NULL OR key = :merchant
    ORDER BY position, key""")


async def days(session: AsyncSession, since: date, until: date, *, merchant: str | None = None) -> list[DayRow]:
    """Every day of every merchant on which there was money or a file, the newest first."""
    about = {"since": since, "until": until, "merchant": merchant, "start": bounds(since)[0], "end": bounds(until)[1]}
    booked: dict[tuple[str, date], dict[str, Sum]] = {}
    for key, day, what, count, amount in await session.execute(_LEDGER, about):
        booked.setdefault((key, day), {})[what] = Sum(count, amount)
    found: dict[tuple[UUID, str, date], list[Found]] = {}
    for merchant_id, source, day, kind, *sums in await session.execute(_FOUND, about):
        found.setdefault((merchant_id, source, day), []).append(Found(Type(kind), *sums))
    sides: dict[tuple[UUID, str, date], Side] = {}
    for row in await session.execute(_SIDES, about):
        about_file = (row.merchant_id, row.source, row.business_date)
        sides[about_file] = Side(
            file_id=row.id,
            name=row.name,
            format=row.format,
            lines=row.line_count,
            total=row.total,
            imported_at=row.imported_at,
            found=found.get(about_file, []),
        )
    rows = []
    for merchant_id, key, title in await session.execute(_MERCHANTS, about):
        its = {day for name, day in booked if name == key} | {day for one, _, day in sides if one == merchant_id}
        for day in sorted(its, reverse=True):
            ledger = booked.get((key, day), {})
            rows.append(
                DayRow(
                    merchant=key,
                    title=title,
                    date=day,
                    received=ledger.get("received", Sum()),
                    repaid=ledger.get("repaid", Sum()),
                    settled=ledger.get("settled", Sum()).amount,
                    provider=sides.get((merchant_id, "provider", day)),
                    bank=sides.get((merchant_id, "bank", day)),
                )
            )
    return sorted(rows, key=lambda row: row.date, reverse=True)


class Suspense(Struct, frozen=True):
    """What the ledger has in suspense, and what receipts that belong to nothing come to."""

    balance: int
    unmatched: int
    receipts: int

    @property
    def holds(self) -> bool:
        """Whether they are the same, as they have to be at all times."""
        return self.balance == self.unmatched


_SUSPENSE = text("""
    SELECT (SELECT -coalesce(sum(amount), 0) FROM ledger_entry WHERE account = 'suspense')::bigint,
        coalesce(sum(amount - refunded), 0)::bigint, count(*) FILTER (WHERE refunded < amount)
    FROM receipt WHERE place = 'suspense'""")


async def suspense(session: AsyncSession) -> Suspense:
    """The suspense account beside what it is made of, in one statement, so that nobody comes in between."""
    return Suspense(*(await session.execute(_SUSPENSE)).one())


class MissingFile(Struct, frozen=True):
    """A file that should be there: a provider's report, a bank's statement, or the transfer that settles a day."""

    merchant: str
    source: Source
    date: date


_MISSING = text(f"""
    SELECT m.key, wanted.source, wanted.day FROM merchant m
    CROSS JOIN LATERAL (
        SELECT CASE m.provider WHEN 'vietqr' THEN 'bank' ELSE 'provider' END AS source, day::date AS day
        FROM generate_series(
            greatest(CAST(:today AS date) - 7, (m.created_at {_HANOI})::date), CAST(:today AS date) - 1,
            interval '1 day') day
    ) wanted
    WHERE m.active AND NOT EXISTS (
        SELECT FROM statement_file f
        WHERE f.merchant_id = m.id AND f.source = wanted.source AND f.business_date = wanted.day)
    UNION ALL
    SELECT m.key, 'bank', f.business_date FROM merchant m JOIN statement_file f ON f.merchant_id = m.id
    WHERE m.active AND m.provider <> 'vietqr' AND f.source = 'provider' AND f.total <> 0 AND {_IN_FORCE}
        AND f.business_date BETWEEN CAST(:today AS date) - 30 AND CAST(:today AS date) - 4
        AND EXISTS (SELECT FROM statement_file b WHERE b.merchant_id = m.id AND b.source = 'bank')
        AND NOT EXISTS (
            SELECT FROM ledger_transaction t
            WHERE t.kind = 'settlement' AND t.subject = 'settlement:' || m.key || ':' || f.business_date)
    ORDER BY 1, 2, 3""")


async def missing_files(session: AsyncSession, today: date) -> list[MissingFile]:
    """Files of the last week that active merchants owe us, and days whose money has not arrived four days later."""
    rows = await session.execute(_MISSING, {"today": today})
    return [MissingFile(key, Source(source), day) for key, source, day in rows]
