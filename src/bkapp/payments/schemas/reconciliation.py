"""Files of providers and banks, and what comparing them found, as the API takes and gives them."""

from datetime import date, datetime
from typing import Annotated, Self
from uuid import UUID

from msgspec import Meta, Struct

from bkapp.payments.matching import Type
from bkapp.payments.queries.reconciling import DayRow, FileRow, ItemRow, Side, Suspense
from bkapp.payments.statements import Kind, Source


class ResolveItem(Struct, frozen=True, forbid_unknown_fields=True):
    """How a difference was settled."""

    note: Annotated[str, Meta(min_length=3, max_length=500, pattern=r"^[^\x00-\x1f\x7f]*$")]


class StatementOut(Struct, frozen=True, kw_only=True):
    """A daily report of a provider, or a bank's statement, that was taken.

    The newest of a merchant's day is `in_force`. `differences` are lines and money that do not match, `open` those that
    nobody has settled. `total` is by how much our money grew, all lines together.
    """

    id: UUID
    merchant: str
    source: Source
    format: Annotated[str, Meta(description="`bkapp`, `csv`, `xlsx`, `mt940` or `camt053`.")]
    business_date: date
    sha256: str
    name: str
    lines: int
    total: int
    imported_at: datetime
    imported_by: str
    in_force: bool
    differences: int
    open: int

    @classmethod
    def of(cls, row: FileRow) -> Self:
        return cls(
            id=row.id,
            merchant=row.merchant,
            source=row.source,
            format=row.format,
            business_date=row.business_date,
            sha256=row.sha256.hex(),
            name=row.name,
            lines=row.line_count,
            total=row.total,
            imported_at=row.imported_at,
            imported_by=row.imported_by,
            in_force=row.in_force,
            differences=row.differences,
            open=row.open,
        )


class ImportedOut(Struct, frozen=True):
    """The file; `repeated` if these bytes were taken before, and nothing was done again."""

    statement: StatementOut
    repeated: bool


class StatementsOut(Struct, frozen=True):
    """Files, the newest first."""

    statements: list[StatementOut]
    next: UUID | None


class ReconciliationItemOut(Struct, frozen=True, kw_only=True):
    """What comparing found of a line, or of money of ours that no line speaks of.

    `matched`; `only_theirs`, a try or money that we knew nothing of; `only_ours`, money without a line; `amount`;
    `status`, where both know how it ended and disagree; `duplicate`, a number that stands there twice, or a second
    payment of one attempt; `refund`, whatever is wrong with a refund. The type stays what it was found to be when
    hearing the file has settled it (`resolved_by` is `statement:…` then).
    """

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
    our_amount: int | None
    their_amount: int | None
    receipt_id: UUID | None
    receipt_number: int | None
    refund_id: UUID | None
    first_seen_at: datetime
    age_days: Annotated[int, Meta(description="Since the business day.")]
    resolved_at: datetime | None
    resolved_by: str | None
    note: str | None

    @classmethod
    def of(cls, row: ItemRow) -> Self:
        return cls(
            id=row.id,
            merchant=row.merchant,
            source=row.source,
            business_date=row.business_date,
            kind=row.kind,
            line=row.line,
            line_kind=row.line_kind,
            line_status=row.line_status,
            reference=row.reference,
            transaction=row.transaction,
            our_amount=row.ours,
            their_amount=row.theirs,
            receipt_id=row.receipt_id,
            receipt_number=row.receipt_number,
            refund_id=row.refund_id,
            first_seen_at=row.first_seen_at,
            age_days=row.age,
            resolved_at=row.resolved_at,
            resolved_by=row.resolved_by,
            note=row.note,
        )


class ReconciliationItemsOut(Struct, frozen=True):
    """Items in the order in which they were found."""

    items: list[ReconciliationItemOut]
    next: int | None


class FoundOut(Struct, frozen=True):
    """How many items of a type there are, how many are open, and what each side says they come to."""

    kind: Type
    count: int
    open: int
    ours: int
    theirs: int


class SideOut(Struct, frozen=True, kw_only=True):
    """The file of a day that is in force."""

    statement_id: UUID
    format: str
    lines: int
    total: int
    imported_at: datetime
    found: list[FoundOut]

    @classmethod
    def of(cls, side: Side | None) -> Self | None:
        if side is None:
            return None
        return cls(
            statement_id=side.file_id,
            format=side.format,
            lines=side.lines,
            total=side.total,
            imported_at=side.imported_at,
            found=[FoundOut(one.kind, one.count, one.open, one.ours, one.theirs) for one in side.found],
        )


class ReconciledDayOut(Struct, frozen=True, kw_only=True):
    """A merchant's day three ways: the ledger (`received`, `repaid`), the provider's report, the bank's statement.

    `settled` is what of the day has arrived at the bank, as the ledger has it.
    """

    merchant: str
    title: str
    date: date
    received: int
    received_count: int
    repaid: int
    repaid_count: int
    settled: int
    provider: SideOut | None
    bank: SideOut | None
    open: int

    @classmethod
    def of(cls, row: DayRow) -> Self:
        return cls(
            merchant=row.merchant,
            title=row.title,
            date=row.date,
            received=row.received.amount,
            received_count=row.received.count,
            repaid=row.repaid.amount,
            repaid_count=row.repaid.count,
            settled=row.settled,
            provider=SideOut.of(row.provider),
            bank=SideOut.of(row.bank),
            open=row.open,
        )


class SuspenseOut(Struct, frozen=True):
    """The suspense account of the ledger beside what it is made of; they are the same at all times."""

    balance: int
    unmatched: int
    receipts: int
    holds: bool

    @classmethod
    def of(cls, row: Suspense) -> Self:
        return cls(row.balance, row.unmatched, row.receipts, row.holds)


class ReconciliationOut(Struct, frozen=True):
    """Days, the newest first."""

    days: list[ReconciledDayOut]
    suspense: SuspenseOut
