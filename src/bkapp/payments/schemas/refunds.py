"""Refunds, cases and money in suspense as the API takes and gives them."""

from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from msgspec import Meta, Struct

from bkapp.payments.models import Receipt
from bkapp.payments.queries.refunds import CaseDetails, RefundDetails
from bkapp.payments.rules import CaseKind, Place, RefundStatus
from bkapp.payments.schemas.bills import Amount

# One line that can be read: PostgreSQL keeps no NUL, and nobody needs the others.
Why = Annotated[str, Meta(min_length=3, max_length=500, pattern=r"^[^\x00-\x1f\x7f]*$")]


# --- in ---------------------------------------------------------------------------------------------------------


class AskRefund(Struct, frozen=True, forbid_unknown_fields=True):
    """Money to give back.  The client may make the id, and then finds the refund whatever happened to the answer."""

    receipt_id: UUID
    reason: Why
    amount: Annotated[Amount | None, Meta(description="Đồng; all that is left of the receipt if none is said.")] = None
    id: UUID | None = None


class RejectRefund(Struct, frozen=True, forbid_unknown_fields=True):
    """Why the money is not given back."""

    reason: Why


class RecordTransfer(Struct, frozen=True, forbid_unknown_fields=True):
    """The bank's number of the transfer that gave the money back."""

    transaction: Annotated[str, Meta(pattern=r"^[0-9A-Za-z][0-9A-Za-z._/-]{2,99}$")]


class CloseCase(Struct, frozen=True, forbid_unknown_fields=True):
    """How the case was settled."""

    outcome: Why


class ApplyReceipt(Struct, frozen=True, forbid_unknown_fields=True):
    """The bill that the money is for."""

    bill_id: UUID


# --- out --------------------------------------------------------------------------------------------------------


class OfficeRefundOut(Struct, frozen=True, kw_only=True):
    """Money on its way back, as offices see it.

    `waiting` for a second person, `approved` to be sent (or to be transferred `by_hand`), `unknown` while nobody knows
    what came of asking the provider, `pending` there, then `succeeded` or `failed`; or `rejected`.  What `failed` may
    still succeed, if the provider was late to tell.
    """

    id: UUID
    reference: str
    status: RefundStatus
    amount: int
    reason: str
    by_hand: bool
    receipt_id: UUID
    receipt_number: int
    method: str
    bill_id: UUID | None
    bill_code: str | None
    requested_by: str
    requested_at: datetime
    approved_by: Annotated[str | None, Meta(description="`payments.small` where no second person is needed.")]
    approved_at: datetime | None
    sent_at: datetime | None
    settled_at: datetime | None
    transaction: Annotated[str | None, Meta(description="The provider's or the bank's number of the refund.")]
    failure_code: Annotated[str | None, Meta(description="Why not: the provider's word, or of who rejected it.")]

    @classmethod
    def of(cls, row: RefundDetails) -> Self:
        return cls(
            id=row.id,
            reference=row.reference,
            status=row.status,
            amount=row.amount,
            reason=row.reason,
            by_hand=row.by_hand,
            receipt_id=row.receipt_id,
            receipt_number=row.receipt_number,
            method=row.merchant_key,
            bill_id=row.bill_id,
            bill_code=row.bill_code,
            requested_by=row.requested_by,
            requested_at=row.requested_at,
            approved_by=row.approved_by,
            approved_at=row.approved_at,
            sent_at=row.sent_at,
            settled_at=row.settled_at,
            transaction=row.transaction,
            failure_code=row.failure_code,
        )


class OfficeRefundsOut(Struct, frozen=True):
    """A page, oldest first; `next` is what `after` is for the one that follows."""

    refunds: list[OfficeRefundOut]
    next: UUID | None


class PaymentCaseOut(Struct, frozen=True, kw_only=True):
    """Something about money that somebody has to settle by `due_at`.  It says who nobody is."""

    id: UUID
    kind: CaseKind
    detail: str
    opened_at: datetime
    due_at: datetime
    closed_at: datetime | None
    outcome: str | None
    method: str | None
    bill_id: UUID | None
    bill_code: str | None
    attempt_id: UUID | None
    receipt_id: UUID | None
    receipt_number: int | None
    place: Annotated[Place | None, Meta(description="Where the receipt's money stands.")]
    amount: Annotated[int | None, Meta(description="Of the receipt, đồng.")]
    refunded: int | None
    reserved: int | None
    refund_id: UUID | None

    @classmethod
    def of(cls, row: CaseDetails, *, in_words: bool = True) -> Self:
        """``in_words``: with what somebody wrote about how it was settled, which may name people."""
        return cls(
            id=row.id,
            kind=row.kind,
            detail=row.detail,
            opened_at=row.opened_at,
            due_at=row.due_at,
            closed_at=row.closed_at,
            outcome=row.outcome if in_words else None,
            method=row.merchant_key,
            bill_id=row.bill_id,
            bill_code=row.bill_code,
            attempt_id=row.attempt_id,
            receipt_id=row.receipt_id,
            receipt_number=row.receipt_number,
            place=row.place,
            amount=row.amount,
            refunded=row.refunded,
            reserved=row.reserved,
            refund_id=row.refund_id,
        )


class PaymentCasesOut(Struct, frozen=True):
    """A page, those due soonest first; `next` is what `after` is for the one that follows."""

    cases: list[PaymentCaseOut]
    next: UUID | None


class AppliedReceiptOut(Struct, frozen=True):
    """Money that pays its bill now."""

    id: UUID
    number: int
    amount: int
    place: Place
    bill_id: UUID | None

    @classmethod
    def of(cls, row: Receipt) -> Self:
        return cls(row.id, row.number, row.amount, row.place, row.bill_id)
