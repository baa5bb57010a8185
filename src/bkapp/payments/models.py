"""Tables of payments.  What must hold is held by PostgreSQL: see the migration for its checks and triggers."""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    SmallInteger,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from bkapp.db import Table
from bkapp.payments.rules import AttemptStatus, BillStatus, CaseKind, FeeKind, Place, RefundStatus

_NEW_ID = text("gen_random_uuid()")
_ALWAYS = Identity(always=True)
_LIVE = "status IN ('created', 'unknown', 'pending')"


class Beneficiary(Table):
    """The account that a fee is for: of an agency, or of the treasury (Kho bạc)."""

    __tablename__ = "beneficiary"
    __table_args__ = (UniqueConstraint("bank_bin", "account"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=_NEW_ID)
    name: Mapped[str]
    bank_bin: Mapped[str]  # of NAPAS, 6 digits
    account: Mapped[str]
    account_name: Mapped[str]  # as the bank writes it: ASCII capitals
    treasury: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ProcedureAccount(Table):
    """Whose account a procedure's fees go to; the procedure ``*`` stands for all that are not named."""

    __tablename__ = "procedure_account"

    procedure_code: Mapped[str] = mapped_column(primary_key=True)
    beneficiary_id: Mapped[UUID] = mapped_column(ForeignKey("beneficiary.id"))


class Bill(Table):
    """What somebody owes.  The payer is a person who signed in, or known by the HMAC of their citizen number alone."""

    __tablename__ = "bill"
    __table_args__ = (
        UniqueConstraint("code"),
        Index(None, "payer_id", "created_at"),
        Index("ix_bill_payer_hmac", "payer_hmac", postgresql_where=text("payer_hmac IS NOT NULL")),
        Index("ix_bill_dossier_code", "dossier_code", postgresql_where=text("dossier_code IS NOT NULL")),
        Index(None, "unit_id", "created_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=_NEW_ID)
    code: Mapped[str]
    status: Mapped[BillStatus] = mapped_column(server_default="open")
    amount: Mapped[int] = mapped_column(BigInteger)  # đồng
    description: Mapped[str]
    dossier_code: Mapped[str | None]
    procedure_code: Mapped[str]
    procedure_name: Mapped[str]
    beneficiary_id: Mapped[UUID] = mapped_column(ForeignKey("beneficiary.id"))
    unit_id: Mapped[int | None] = mapped_column(ForeignKey("admin_unit.id"))  # whose officers see to it
    payer_id: Mapped[UUID | None] = mapped_column(ForeignKey("person.id"))
    payer_hmac: Mapped[bytes | None]  # Keyring.lookup("citizen", number)
    payer_name_cipher: Mapped[bytes | None]  # sealed for "bill.payer_name:<id>"
    due_on: Mapped[date | None]
    on_paid: Mapped[str | None]  # the task to queue with bill_id when it is paid
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    created_by: Mapped[str]
    paid_at: Mapped[datetime | None]
    cancelled_at: Mapped[datetime | None]
    cancelled_by: Mapped[str | None]
    version: Mapped[int] = mapped_column(server_default="1")


class BillLine(Table):
    """A part of what a bill asks."""

    __tablename__ = "bill_line"

    bill_id: Mapped[UUID] = mapped_column(ForeignKey("bill.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[FeeKind]
    code: Mapped[str]
    name: Mapped[str]
    amount: Mapped[int] = mapped_column(BigInteger)


class Merchant(Table):
    """Our account with a payment provider.  ``options`` are its addresses and whatever else is no secret."""

    __tablename__ = "merchant"
    __table_args__ = (UniqueConstraint("key"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=_NEW_ID)
    key: Mapped[str]  # in our addresses, such as vnpay
    provider: Mapped[str]
    code: Mapped[str]  # what the provider calls us
    title: Mapped[str]  # Vietnamese, what the payer chooses
    options: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default="{}")
    allowed_ips: Mapped[list[str]] = mapped_column(ARRAY(Text()), server_default="{}")
    position: Mapped[int] = mapped_column(server_default="0")
    calls_per_minute: Mapped[int] = mapped_column(server_default="60")
    call_tokens: Mapped[float] = mapped_column(Double(), server_default="60")
    refilled_at: Mapped[datetime] = mapped_column(server_default=func.now())
    active: Mapped[bool] = mapped_column(Boolean, server_default="true")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class MerchantSecret(Table):
    """A secret shared with a provider, sealed for "merchant_secret:<id>"; two of a purpose may be in force."""

    __tablename__ = "merchant_secret"
    __table_args__ = (
        Index(
            "uq_merchant_secret_merchant_id",
            "merchant_id",
            "purpose",
            "slot",
            unique=True,
            postgresql_where=text("retired_at IS NULL"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=_NEW_ID)
    merchant_id: Mapped[UUID] = mapped_column(ForeignKey("merchant.id"))
    purpose: Mapped[str]
    slot: Mapped[int] = mapped_column(SmallInteger)
    secret_cipher: Mapped[bytes]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    retired_at: Mapped[datetime | None]


class PaymentAttempt(Table):
    """A try at paying a bill.  ``status`` follows from ``reached``, ``success`` and ``failure`` (rules.Standing)."""

    __tablename__ = "payment_attempt"
    __table_args__ = (
        UniqueConstraint("reference"),
        Index("uq_payment_attempt_live", "bill_id", unique=True, postgresql_where=text(_LIVE)),
        Index(None, "bill_id", "created_at"),
        Index(
            "ix_payment_attempt_next_check_at",
            "next_check_at",
            postgresql_where=text("next_check_at IS NOT NULL"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=_NEW_ID)
    bill_id: Mapped[UUID] = mapped_column(ForeignKey("bill.id"))
    merchant_id: Mapped[UUID] = mapped_column(ForeignKey("merchant.id"))
    reference: Mapped[str]  # what we call it to the provider
    amount: Mapped[int] = mapped_column(BigInteger)
    status: Mapped[AttemptStatus] = mapped_column(server_default="created")
    reached: Mapped[AttemptStatus] = mapped_column(server_default="created")
    success: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    failure: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    version: Mapped[int] = mapped_column(server_default="1")
    created_at: Mapped[datetime]
    created_by: Mapped[str]
    expires_at: Mapped[datetime]
    next_check_at: Mapped[datetime | None]
    checks: Mapped[int] = mapped_column(server_default="0")
    settled_at: Mapped[datetime | None]
    redirect_url: Mapped[str | None]
    qr: Mapped[str | None]
    token: Mapped[str | None]  # what the provider calls it, where its inquiry wants that
    failure_code: Mapped[str | None]


class PaymentEvent(Table):
    """A move of an attempt, and on whose word.  Only added to."""

    __tablename__ = "payment_event"
    __table_args__ = (UniqueConstraint("attempt_id", "version"),)

    id: Mapped[int] = mapped_column(BigInteger, _ALWAYS, primary_key=True)
    attempt_id: Mapped[UUID] = mapped_column(ForeignKey("payment_attempt.id"))
    version: Mapped[int]
    at: Mapped[datetime]
    event: Mapped[str]
    start: Mapped[str]
    end: Mapped[str]
    evidence: Mapped[int] = mapped_column(SmallInteger)
    source: Mapped[str]  # "inbox:17", "inquiry", "statement:203", "call", "clock", "payer"


class AttemptEdge(Table):
    """The graph of bkapp.payments.rules, for the trigger."""

    __tablename__ = "attempt_edge"

    start: Mapped[str] = mapped_column(primary_key=True)
    end: Mapped[str] = mapped_column(primary_key=True)
    event: Mapped[str]


class Receipt(Table):
    """Money that came, once for each transaction of a merchant's provider or bank."""

    __tablename__ = "receipt"
    __table_args__ = (
        UniqueConstraint("number"),
        UniqueConstraint("merchant_id", "transaction"),
        Index("uq_receipt_applied", "bill_id", unique=True, postgresql_where=text("place = 'applied'")),
        Index(None, "bill_id"),
        Index(None, "attempt_id"),
        Index(None, "merchant_id", "received_at"),
        Index("ix_receipt_suspense", "created_at", postgresql_where=text("place = 'suspense'")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=_NEW_ID)
    number: Mapped[int] = mapped_column(BigInteger, _ALWAYS)
    merchant_id: Mapped[UUID] = mapped_column(ForeignKey("merchant.id"))
    transaction: Mapped[str]  # the provider's or the bank's; "ref:<reference>" while nobody told one
    attempt_id: Mapped[UUID | None] = mapped_column(ForeignKey("payment_attempt.id"))
    bill_id: Mapped[UUID | None] = mapped_column(ForeignKey("bill.id"))
    amount: Mapped[int] = mapped_column(BigInteger)
    place: Mapped[Place]
    refunded: Mapped[int] = mapped_column(BigInteger, server_default="0")
    reserved: Mapped[int] = mapped_column(BigInteger, server_default="0")
    evidence: Mapped[int] = mapped_column(SmallInteger)
    received_at: Mapped[datetime]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Refund(Table):
    """Money to give back.  ``by_hand``: the provider cannot, so the treasury transfers it."""

    __tablename__ = "refund"
    __table_args__ = (
        UniqueConstraint("reference"),
        Index(None, "receipt_id"),
        Index("uq_refund_transaction", "transaction", unique=True, postgresql_where=text("by_hand")),
        Index("ix_refund_next_check_at", "next_check_at", postgresql_where=text("next_check_at IS NOT NULL")),
        Index(None, "status", "requested_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=_NEW_ID)
    receipt_id: Mapped[UUID] = mapped_column(ForeignKey("receipt.id"))
    reference: Mapped[str]
    amount: Mapped[int] = mapped_column(BigInteger)
    reason: Mapped[str]
    by_hand: Mapped[bool] = mapped_column(Boolean)
    status: Mapped[RefundStatus]
    requested_by: Mapped[str]
    requested_at: Mapped[datetime]
    approved_by: Mapped[str | None]  # "payments.small" where the amount needs no second person
    approved_at: Mapped[datetime | None]
    sent_at: Mapped[datetime | None]
    next_check_at: Mapped[datetime | None]
    checks: Mapped[int] = mapped_column(server_default="0")
    settled_at: Mapped[datetime | None]
    transaction: Mapped[str | None]
    failure_code: Mapped[str | None]
    version: Mapped[int] = mapped_column(server_default="1")


class RefundEdge(Table):
    """The graph of refunds of bkapp.payments.rules, for the trigger."""

    __tablename__ = "refund_edge"

    start: Mapped[str] = mapped_column(primary_key=True)
    end: Mapped[str] = mapped_column(primary_key=True)


class RefundEvent(Table):
    """A move of a refund, and on whose word.  Only added to."""

    __tablename__ = "refund_event"
    __table_args__ = (UniqueConstraint("refund_id", "version"),)

    id: Mapped[int] = mapped_column(BigInteger, _ALWAYS, primary_key=True)
    refund_id: Mapped[UUID] = mapped_column(ForeignKey("refund.id"))
    version: Mapped[int]
    at: Mapped[datetime]
    start: Mapped[str]
    end: Mapped[str]
    source: Mapped[str]


class PaymentCase(Table):
    """Something about money that somebody has to settle by ``due_at``."""

    __tablename__ = "payment_case"
    __table_args__ = (
        Index(
            "uq_payment_case_receipt_id",
            "receipt_id",
            unique=True,
            postgresql_where=text(
                "closed_at IS NULL AND kind IN ('duplicate', 'amount', 'closed_bill', 'unidentified')"
            ),
        ),
        Index("ix_payment_case_due_at", "due_at", postgresql_where=text("closed_at IS NULL")),
        Index(None, "bill_id"),
        Index(None, "receipt_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=_NEW_ID)
    kind: Mapped[CaseKind]
    merchant_id: Mapped[UUID | None] = mapped_column(ForeignKey("merchant.id"))
    bill_id: Mapped[UUID | None] = mapped_column(ForeignKey("bill.id"))
    attempt_id: Mapped[UUID | None] = mapped_column(ForeignKey("payment_attempt.id"))
    receipt_id: Mapped[UUID | None] = mapped_column(ForeignKey("receipt.id"))
    refund_id: Mapped[UUID | None] = mapped_column(ForeignKey("refund.id"))
    statement_line_id: Mapped[int | None] = mapped_column(BigInteger)
    detail: Mapped[str] = mapped_column(server_default="")  # English, of our own words and codes
    opened_at: Mapped[datetime] = mapped_column(server_default=func.now())
    due_at: Mapped[datetime]
    closed_at: Mapped[datetime | None]
    closed_by: Mapped[str | None]
    outcome: Mapped[str | None]


class LedgerHead(Table):
    """The number and the hash of the last transaction."""

    __tablename__ = "ledger_head"

    single: Mapped[bool] = mapped_column(Boolean, primary_key=True, server_default="true")
    seq: Mapped[int] = mapped_column(BigInteger)
    hash: Mapped[bytes]


class LedgerTransaction(Table):
    """Money that moved between accounts of ours.  PostgreSQL numbers, chains and spreads it, and changes it never."""

    __tablename__ = "ledger_transaction"
    __table_args__ = (
        UniqueConstraint("reverses"),
        Index(None, "receipt_id"),
        Index("uq_ledger_transaction_settlement", "subject", unique=True, postgresql_where=text("kind = 'settlement'")),
    )

    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    at: Mapped[datetime]
    kind: Mapped[str]
    receipt_id: Mapped[UUID | None]
    refund_id: Mapped[UUID | None]
    subject: Mapped[str]
    reverses: Mapped[int | None] = mapped_column(ForeignKey("ledger_transaction.seq"))
    entries: Mapped[str]
    previous: Mapped[bytes]
    hash: Mapped[bytes]


class LedgerEntry(Table):
    """One side of a transaction: a debit above zero, a credit below."""

    __tablename__ = "ledger_entry"
    __table_args__ = (Index("ix_ledger_entry_account", "account", postgresql_include=["amount"]),)

    transaction_seq: Mapped[int] = mapped_column(ForeignKey("ledger_transaction.seq"), primary_key=True)
    position: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    account: Mapped[str]
    amount: Mapped[int] = mapped_column(BigInteger)


class WebhookInbox(Table):
    """A message from a provider, as it came, before anybody read it.  The body is sealed for "webhook_inbox:<id>"."""

    __tablename__ = "webhook_inbox"
    __table_args__ = (
        Index(
            "uq_webhook_inbox_event",
            "merchant_id",
            "event_id",
            unique=True,
            postgresql_where=text("event_id IS NOT NULL"),
        ),
        Index(None, "outcome", "id"),
        Index(None, "attempt_id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    merchant_id: Mapped[UUID] = mapped_column(ForeignKey("merchant.id"))
    received_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    what: Mapped[str]  # the last part of the address it came to
    remote_ip: Mapped[str]
    headers: Mapped[str]  # JSON of the few that count
    body_cipher: Mapped[bytes | None]  # forgotten after a while
    body_bytes: Mapped[int] = mapped_column(Integer)
    outcome: Mapped[str] = mapped_column(server_default="received")
    reason: Mapped[str | None]
    event_id: Mapped[str | None]
    attempt_id: Mapped[UUID | None] = mapped_column(ForeignKey("payment_attempt.id"))
    answered_at: Mapped[datetime | None]


class WebhookEndpoint(Table):
    """Where a partner or a bank wants to hear of bills."""

    __tablename__ = "webhook_endpoint"
    __table_args__ = (UniqueConstraint("url"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=_NEW_ID)
    label: Mapped[str]
    url: Mapped[str]
    kinds: Mapped[list[str]] = mapped_column(ARRAY(Text()))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    created_by: Mapped[str]
    active: Mapped[bool] = mapped_column(Boolean, server_default="true")
    failures: Mapped[int] = mapped_column(server_default="0")  # in a row
    failing_since: Mapped[datetime | None]
    last_success_at: Mapped[datetime | None]
    disabled_at: Mapped[datetime | None]
    disabled_reason: Mapped[str | None]


class WebhookKey(Table):
    """A key that signs for an endpoint, sealed for "webhook_key:<id>"; two of a scheme may be in force."""

    __tablename__ = "webhook_key"
    __table_args__ = (
        Index(
            "uq_webhook_key_endpoint_id",
            "endpoint_id",
            "scheme",
            "slot",
            unique=True,
            postgresql_where=text("retired_at IS NULL"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=_NEW_ID)
    endpoint_id: Mapped[UUID] = mapped_column(ForeignKey("webhook_endpoint.id"))
    scheme: Mapped[str]
    slot: Mapped[int] = mapped_column(SmallInteger)
    secret_cipher: Mapped[bytes]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    retired_at: Mapped[datetime | None]


class WebhookMessage(Table):
    """An event for an endpoint.  Those of one bill are delivered in the order of ``seq``."""

    __tablename__ = "webhook_message"
    __table_args__ = (
        UniqueConstraint("id", "endpoint_id"),
        Index(
            "ix_webhook_message_waiting",
            "endpoint_id",
            "bill_id",
            "seq",
            postgresql_where=text("status = 'waiting'"),
        ),
        Index(None, "endpoint_id", "seq"),
        Index("ix_webhook_message_next_try_at", "next_try_at", postgresql_where=text("status = 'waiting'")),
    )

    seq: Mapped[int] = mapped_column(BigInteger, _ALWAYS, primary_key=True)
    id: Mapped[str]  # msg_…
    endpoint_id: Mapped[UUID] = mapped_column(ForeignKey("webhook_endpoint.id"))
    bill_id: Mapped[UUID] = mapped_column(ForeignKey("bill.id"))
    kind: Mapped[str]
    body: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    status: Mapped[str] = mapped_column(server_default="waiting")
    tries: Mapped[int] = mapped_column(server_default="0")
    next_try_at: Mapped[datetime | None]
    give_up_at: Mapped[datetime]
    delivered_at: Mapped[datetime | None]


class WebhookDelivery(Table):
    """A try at delivering a message."""

    __tablename__ = "webhook_delivery"
    __table_args__ = (Index(None, "message_seq"),)

    id: Mapped[int] = mapped_column(BigInteger, _ALWAYS, primary_key=True)
    message_seq: Mapped[int] = mapped_column(ForeignKey("webhook_message.seq"))
    at: Mapped[datetime]
    status: Mapped[int | None]
    error: Mapped[str | None]
    milliseconds: Mapped[int]
    asked_by: Mapped[str | None]


class StatementFile(Table):
    """A daily report of a provider, or a bank's statement."""

    __tablename__ = "statement_file"
    __table_args__ = (
        UniqueConstraint("merchant_id", "source", "business_date", "sha256", name="uq_statement_file_sha256"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=_NEW_ID)
    merchant_id: Mapped[UUID] = mapped_column(ForeignKey("merchant.id"))
    source: Mapped[str]
    format: Mapped[str]
    business_date: Mapped[date]
    sha256: Mapped[bytes]
    name: Mapped[str]
    line_count: Mapped[int]
    total: Mapped[int] = mapped_column(BigInteger)
    imported_at: Mapped[datetime] = mapped_column(server_default=func.now())
    imported_by: Mapped[str]


class StatementLine(Table):
    """A line of such a file."""

    __tablename__ = "statement_line"
    __table_args__ = (UniqueConstraint("file_id", "position"), Index(None, "transaction"), Index(None, "reference"))

    id: Mapped[int] = mapped_column(BigInteger, _ALWAYS, primary_key=True)
    file_id: Mapped[UUID] = mapped_column(ForeignKey("statement_file.id"))
    position: Mapped[int]
    kind: Mapped[str]
    reference: Mapped[str]  # ours, found in it; "" where there is none
    transaction: Mapped[str]
    amount: Mapped[int] = mapped_column(BigInteger)
    status: Mapped[str]
    at: Mapped[datetime]


class ReconciliationItem(Table):
    """What comparing found of a line, or of something of ours that no line speaks of."""

    __tablename__ = "reconciliation_item"
    __table_args__ = (
        Index(
            "uq_reconciliation_item_line",
            "statement_line_id",
            unique=True,
            postgresql_where=text("statement_line_id IS NOT NULL"),
        ),
        Index(
            "uq_reconciliation_item_receipt",
            "source",
            "receipt_id",
            unique=True,
            postgresql_where=text("statement_line_id IS NULL AND receipt_id IS NOT NULL AND resolved_at IS NULL"),
        ),
        Index(
            "uq_reconciliation_item_refund",
            "source",
            "refund_id",
            unique=True,
            postgresql_where=text("statement_line_id IS NULL AND refund_id IS NOT NULL AND resolved_at IS NULL"),
        ),
        Index(None, "receipt_id"),
        Index(None, "refund_id"),
        Index(
            "ix_reconciliation_item_open",
            "merchant_id",
            "business_date",
            postgresql_where=text("kind <> 'matched' AND resolved_at IS NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(BigInteger, _ALWAYS, primary_key=True)
    merchant_id: Mapped[UUID] = mapped_column(ForeignKey("merchant.id"))
    source: Mapped[str]
    business_date: Mapped[date]
    kind: Mapped[str]
    statement_line_id: Mapped[int | None] = mapped_column(ForeignKey("statement_line.id"))
    receipt_id: Mapped[UUID | None] = mapped_column(ForeignKey("receipt.id"))
    refund_id: Mapped[UUID | None] = mapped_column(ForeignKey("refund.id"))
    our_amount: Mapped[int | None] = mapped_column(BigInteger)
    their_amount: Mapped[int | None] = mapped_column(BigInteger)
    first_seen_at: Mapped[datetime] = mapped_column(server_default=func.now())
    resolved_at: Mapped[datetime | None]
    resolved_by: Mapped[str | None]  # who, "statement:203" by whose word, "superseded:<file>" where a newer file stands
    note: Mapped[str | None]
