"""Bills and attempts as the API takes and gives them."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from ipaddress import ip_address
from typing import Annotated, Literal, Self
from unicodedata import normalize
from uuid import UUID

from msgspec import Meta, Struct

from bkapp.payments.operations.offices import NewBill
from bkapp.payments.providers import Line
from bkapp.payments.queries.bills import AttemptRow, BillRow, CaseRow, LineRow, Method, ReceiptRow, RefundRow
from bkapp.payments.rules import LIVE, AttemptStatus, BillStatus, CaseKind, FeeKind, Place, RefundStatus

MOST_AMOUNT = 9_999_999_999
MOST_LINES = 20

# One line that can be printed: no control or direction marks, and no space at its ends.
_MARKS = r"\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff"
_ONE_LINE = rf"^[^\s{_MARKS}](?:[^{_MARKS}]*[^\s{_MARKS}])?$"

Amount = Annotated[int, Meta(ge=1, le=MOST_AMOUNT, description="Đồng.")]
Words = Annotated[str, Meta(min_length=1, max_length=200, pattern=_ONE_LINE)]
Code = Annotated[str, Meta(pattern=r"^[0-9A-Za-z][0-9A-Za-z._/-]{0,49}$", description="Letters, digits and . _ / -")]
UnitCode = Annotated[str, Meta(pattern=r"^[0-9]{5}$", description="Code of a commune, with its leading zeros.")]
MethodKey = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9-]{1,31}$", description="As the list of methods gives it.")]
Kind = Literal["redirect", "transfer"]

_TRANSFERS = frozenset({"vietqr"})


def kind_of(provider: str) -> Kind:
    """Whether the payer goes to another page, or transfers money with their bank's app."""
    return "transfer" if provider in _TRANSFERS else "redirect"


# While a payer is likely to be looking, a program may look often; later it only loads everybody.
_POLLS = (
    (timedelta(seconds=15), 1_000),
    (timedelta(minutes=1), 2_000),
    (timedelta(minutes=5), 5_000),
    (timedelta.max, 15_000),
)


def poll_after_ms(age: timedelta) -> int:
    """How long to wait before looking at an attempt of an age again."""
    return next(wait for until, wait in _POLLS if age < until)


def payer_ip(address: str) -> str:
    """The payer's network address, which some providers want; a stand-in where it is not known."""
    try:
        return str(ip_address(address.partition("%")[0]))
    except ValueError:
        return "127.0.0.1"


def way_on(address: str | None) -> str | None:
    """Where a provider sends the payer.  It stands in links, which must lead somewhere and do nothing else."""
    return address if address is not None and address.startswith(("https://", "http://")) else None


# --- in ---------------------------------------------------------------------------------------------------------


class LineIn(Struct, frozen=True, forbid_unknown_fields=True):
    """A part of what is owed: `fee` phí, `charge` lệ phí, `delivery` cước bưu chính."""

    kind: FeeKind
    code: Code
    name: Words
    amount: Amount

    def read(self) -> Line:
        return Line(self.kind, self.code, normalize("NFC", self.name), self.amount)


class PayerIn(Struct, frozen=True, forbid_unknown_fields=True):
    """Who owes it: a person by id, or by their citizen's number with the name on the bill."""

    person: UUID | None = None
    number: Annotated[str, Meta(pattern=r"^[0-9]{12}$")] | None = None
    name: Words | None = None

    def __post_init__(self) -> None:
        if (self.person is None) == (self.number is None):
            raise ValueError("give either the person or the number")
        if self.number is not None and self.name is None:
            raise ValueError("a number needs the name")


class IssueBill(Struct, frozen=True, forbid_unknown_fields=True):
    """What somebody owes.  The client may make the id, and then finds the bill whatever happened to the answer."""

    unit: UnitCode
    description: Words
    procedure_code: Code
    procedure_name: Annotated[str, Meta(min_length=1, max_length=500, pattern=_ONE_LINE)]
    lines: Annotated[list[LineIn], Meta(min_length=1, max_length=MOST_LINES)]
    payer: PayerIn
    dossier_code: Code | None = None
    due_on: date | None = None
    id: UUID | None = None

    def __post_init__(self) -> None:
        if sum(line.amount for line in self.lines) > MOST_AMOUNT:
            raise ValueError(f"the lines come to more than {MOST_AMOUNT} đồng")

    def read(self) -> NewBill:
        return NewBill(
            unit=self.unit,
            description=normalize("NFC", self.description),
            procedure_code=self.procedure_code,
            procedure_name=normalize("NFC", self.procedure_name),
            lines=[line.read() for line in self.lines],
            payer=self.payer.person,
            payer_number=self.payer.number,
            payer_name=None if self.payer.name is None else normalize("NFC", self.payer.name),
            dossier_code=self.dossier_code,
            due_on=self.due_on,
            id=self.id,
        )


class StartAttempt(Struct, frozen=True, forbid_unknown_fields=True):
    """One try at paying.  The client may make the id; else it follows from the Idempotency-Key."""

    method: MethodKey
    id: UUID | None = None


# --- out --------------------------------------------------------------------------------------------------------


class MethodOut(Struct, frozen=True):
    """A way to pay: `redirect` to another page, or `transfer` by a QR code for the bank's app."""

    key: str
    title: str
    kind: Kind

    @classmethod
    def of(cls, row: Method) -> Self:
        return cls(row.key, row.title, kind_of(row.provider))


class MethodsOut(Struct, frozen=True):
    methods: list[MethodOut]


class LineOut(Struct, frozen=True):
    """A part of what is owed."""

    kind: FeeKind
    code: str
    name: str
    amount: int

    @classmethod
    def of(cls, row: LineRow) -> Self:
        return cls(row.kind, row.code, row.name, row.amount)


class AccountOut(Struct, frozen=True):
    """The account that the money is for."""

    agency: str
    bank_bin: str
    account: str
    account_name: str
    treasury: str | None


class AttemptOut(Struct, frozen=True, kw_only=True):
    """One try at paying.

    `unknown`: the provider was asked and we do not know yet what came of it; do not pay again meanwhile.  An attempt
    that `expired` or `failed` may still succeed, if money comes late.
    """

    id: UUID
    bill_id: UUID
    reference: str
    method: str
    method_title: str
    kind: Kind
    amount: int
    status: AttemptStatus
    version: Annotated[int, Meta(description="Grows with every change of the status.")]
    created_at: datetime
    expires_at: datetime
    settled_at: datetime | None
    redirect_url: Annotated[str | None, Meta(description="Where the payer goes on, while it waits for them.")]
    qr: Annotated[str | None, Meta(description="VietQR (EMVCo) for the payer's bank app, while it waits for them.")]
    failure_code: Annotated[str | None, Meta(description="The provider's word for why.")]
    poll_after_ms: Annotated[
        int | None, Meta(description="When to look again; null when there is nothing to wait for.")
    ]

    @classmethod
    def of(cls, row: AttemptRow, *, now: datetime) -> Self:
        live = row.status in LIVE
        return cls(
            id=row.id,
            bill_id=row.bill_id,
            reference=row.reference,
            method=row.merchant,
            method_title=row.title,
            kind=kind_of(row.provider),
            amount=row.amount,
            status=row.status,
            version=row.version,
            created_at=row.created_at,
            expires_at=row.expires_at,
            settled_at=row.settled_at,
            redirect_url=way_on(row.redirect_url) if live else None,
            qr=row.qr if live else None,
            failure_code=row.failure_code,
            poll_after_ms=poll_after_ms(now - row.created_at) if live else None,
        )


class RefundOut(Struct, frozen=True):
    """Money on its way back to the payer."""

    id: UUID
    reference: str
    amount: int
    status: RefundStatus
    requested_at: datetime
    settled_at: datetime | None

    @classmethod
    def of(cls, row: RefundRow) -> Self:
        return cls(row.id, row.reference, row.amount, row.status, row.requested_at, row.settled_at)


class ReceiptOut(Struct, frozen=True, kw_only=True):
    """Money that came: `applied` pays the bill; in `suspense` it waits to be given back."""

    id: UUID
    number: int
    amount: int
    place: Place
    refunded: int
    received_at: datetime
    method_title: str
    reference: str | None
    refunds: list[RefundOut]

    @classmethod
    def of(cls, row: ReceiptRow, refunds: Sequence[RefundRow]) -> Self:
        return cls(
            id=row.id,
            number=row.number,
            amount=row.amount,
            place=row.place,
            refunded=row.refunded,
            received_at=row.received_at,
            method_title=row.title,
            reference=row.reference,
            refunds=[RefundOut.of(refund) for refund in refunds if refund.receipt_id == row.id],
        )


class CaseOut(Struct, frozen=True):
    """Money of the payer's that somebody has to settle by `due_at`: it was paid twice, say."""

    id: UUID
    kind: CaseKind
    amount: int | None
    opened_at: datetime
    due_at: datetime

    @classmethod
    def of(cls, row: CaseRow) -> Self:
        return cls(row.id, row.kind, row.amount, row.opened_at, row.due_at)


class BillOut(Struct, frozen=True, kw_only=True):
    """What somebody owes, or has paid."""

    id: UUID
    code: str
    status: BillStatus
    amount: int
    description: str
    procedure_code: str
    procedure_name: str
    dossier_code: str | None
    agency: str
    due_on: date | None
    created_at: datetime
    paid_at: datetime | None
    cancelled_at: datetime | None

    @classmethod
    def of(cls, row: BillRow) -> Self:
        return cls(
            id=row.id,
            code=row.code,
            status=row.status,
            amount=row.amount,
            description=row.description,
            procedure_code=row.procedure_code,
            procedure_name=row.procedure_name,
            dossier_code=row.dossier_code,
            agency=row.agency,
            due_on=row.due_on,
            created_at=row.created_at,
            paid_at=row.paid_at,
            cancelled_at=row.cancelled_at,
        )


class BillsOut(Struct, frozen=True):
    """A page, newest first; `next` is what `after` is for the one that follows."""

    bills: list[BillOut]
    next: UUID | None


class BillDetailsOut(Struct, frozen=True, kw_only=True):
    """A bill with everything that happened to it."""

    bill: BillOut
    payer_name: str | None
    account: AccountOut
    lines: list[LineOut]
    attempts: Annotated[list[AttemptOut], Meta(description="Newest first, 20 at the most.")]
    receipts: list[ReceiptOut]
    cases: list[CaseOut]
    confirmation: Annotated[str | None, Meta(description="Where the confirmation (PDF) is, once it is paid.")]

    @classmethod
    def of(
        cls,
        row: BillRow,
        *,
        payer_name: str | None,
        lines: Sequence[LineRow],
        attempts: Sequence[AttemptRow],
        receipts: Sequence[ReceiptRow],
        refunds: Sequence[RefundRow],
        cases: Sequence[CaseRow],
        now: datetime,
    ) -> Self:
        paid = row.status is BillStatus.PAID
        return cls(
            bill=BillOut.of(row),
            payer_name=payer_name,
            account=AccountOut(row.agency, row.bank_bin, row.account, row.account_name, row.treasury),
            lines=[LineOut.of(line) for line in lines],
            attempts=[AttemptOut.of(attempt, now=now) for attempt in attempts],
            receipts=[ReceiptOut.of(receipt, refunds) for receipt in receipts],
            cases=[CaseOut.of(case) for case in cases],
            confirmation=f"/api/v1/bills/{row.id}/confirmation.pdf" if paid else None,
        )
