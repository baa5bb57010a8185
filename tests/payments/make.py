"""Bills, merchants and money for tests."""

from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from uuid import UUID, uuid4

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.http import HANOI
from bkapp.payments.models import (
    Beneficiary,
    Bill,
    Merchant,
    PaymentAttempt,
    PaymentCase,
    ProcedureAccount,
    Receipt,
    ReconciliationItem,
    WebhookInbox,
    WebhookMessage,
)
from bkapp.payments.operations import (
    attempts,
    bills,
    cases,
    endpoints,
    evidence,
    merchants,
    money,
    reconciling,
    refunds,
    showing,
)
from bkapp.payments.providers import Begun, Finding, Line, Outcome
from bkapp.payments.rules import CaseKind, Evidence, FeeKind
from bkapp.payments.statements import Kind, Source, Status, write_report
from bkapp.payments.statements import Line as ReportLine
from bkapp.payments.vietqr import credit_transfer
from tests.identity.make import KEYRING

NOW = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)


async def a_merchant(
    session: AsyncSession, *, provider: str = "vnpay", key: str | None = None, secrets: dict[str, str] | None = None
) -> Merchant:
    """A merchant, with the account that all fees go to."""
    if await session.get(ProcedureAccount, bills.ANY_PROCEDURE) is None:
        agency = Beneficiary(
            name="UBND xã Phủ Thông", bank_bin="970436", account="0011001234567", account_name="UBND XA PHU THONG"
        )
        session.add(agency)
        await session.flush()
        session.add(ProcedureAccount(procedure_code=bills.ANY_PROCEDURE, beneficiary_id=agency.id))
        await session.flush()
    row = await merchants.add_merchant(
        session,
        key=key or provider,
        provider=provider,
        code="BACKAN01",
        title="Thử",
        options={},
        by="test",
    )
    for purpose, secret in (secrets or {}).items():
        await merchants.add_secret(session, KEYRING, row, purpose=purpose, secret=secret, by="test")
    return row


async def a_bill(
    session: AsyncSession,
    *,
    amount: int = 20_000,
    payer_id: UUID | None = None,
    unit_id: int | None = None,
    dossier_code: str | None = "000.00.01.H03-261124-0001",
    on_paid: str | None = None,
    payer_number: str | None = None,
) -> Bill:
    """An open bill."""
    return await bills.issue_bill(
        session,
        KEYRING,
        lines=[Line(FeeKind.CHARGE, "LP01", "Lệ phí chứng thực", amount)],
        description="Lệ phí hồ sơ chứng thực",
        procedure_code="2.000815",
        procedure_name="Chứng thực bản sao từ bản chính",
        dossier_code=dossier_code,
        unit_id=unit_id,
        payer_id=payer_id,
        payer_number=payer_number,
        on_paid=on_paid,
        by="test",
        now=NOW,
    )


async def an_attempt(
    session: AsyncSession, bill: Bill, merchant: Merchant, *, begun: bool = True, now: datetime = NOW
) -> PaymentAttempt:
    """An attempt that waits for its payer."""
    attempt, _ = await attempts.open_attempt(session, bill.id, merchant, attempt_id=uuid4(), by="test", now=now)
    if begun:
        await attempts.record_begun(session, attempt.id, Begun(redirect_url="https://pay.example/x"), now=now)
    return attempt


class Named(Protocol):
    """An attempt, or what is known of one."""

    @property
    def reference(self) -> str: ...

    @property
    def amount(self) -> int: ...


async def hear(
    session: AsyncSession,
    merchant: Merchant,
    attempt: Named,
    outcome: Outcome = Outcome.PAID,
    *,
    how: Evidence = Evidence.WEBHOOK,
    transaction: str | None = None,
    amount: int | None = None,
    now: datetime = NOW,
) -> str:
    """What a provider says of an attempt; the amount is the attempt's unless told otherwise."""
    finding = Finding(
        references=[attempt.reference],
        outcome=outcome,
        amount=attempt.amount if amount is None and outcome is Outcome.PAID else amount,
        transaction=transaction,
        at=now - timedelta(seconds=5),
    )
    return await evidence.hear(session, merchant, finding, evidence=how, source=f"test:{how.name.lower()}", now=now)


async def a_receipt(session: AsyncSession, *, amount: int = 100_000, provider: str = "vnpay") -> Receipt:
    """Money that pays a bill."""
    merchant = await a_merchant(session, provider=provider)
    attempt = await an_attempt(session, await a_bill(session, amount=amount), merchant)
    await hear(session, merchant, attempt, transaction=f"T{uuid4().hex[:10]}")
    return (await session.scalars(select(Receipt).where(Receipt.attempt_id == attempt.id))).one()


async def a_treasury(session: AsyncSession, payer: UUID, unit_id: int, *, now: datetime) -> dict[str, str]:
    """One of everything about money, of a payer and a commune; the names are those of the table of who may do what."""
    vnpay = await a_merchant(session, secrets={"hash": "s3cret"})
    vietqr = await a_merchant(session, provider="vietqr", secrets={"checksum": "s3cret"})
    mine: dict[str, Any] = {"payer_id": payer, "unit_id": unit_id}
    endpoint = await endpoints.add_endpoint(
        session, label="Ngân hàng", url="https://bank.example/hooks", kinds=["*"], demo=True, by="test"
    )
    keys = [
        await endpoints.add_key(session, KEYRING, endpoint.id, scheme=scheme, by="test") for scheme in ("v1", "v1a")
    ]
    paid = await a_bill(session, amount=700_000, **mine)
    await hear(session, vnpay, await an_attempt(session, paid, vnpay, now=now), transaction="T1", now=now)
    receipt = (await session.scalars(select(Receipt).where(Receipt.bill_id == paid.id))).one()
    asked: dict[str, Any] = {"receipt_id": receipt.id, "reason": "test", "limit": 0, "by": "test", "now": now}
    refund = await refunds.request_refund(session, amount=1_000, by_hand=False, **asked)
    by_hand = await refunds.request_refund(session, amount=2_000, by_hand=True, **{**asked, "limit": 9_000})
    owed = await a_bill(session, amount=30_000, **mine)
    under_way = await a_bill(session, amount=40_000, **mine)
    live = await an_attempt(session, under_way, vietqr, begun=False, now=now)
    await attempts.record_begun(
        session, live.id, Begun(qr=credit_transfer("970436", "0011001234567", 40_000, live.reference)), now=now
    )
    await money.credit(
        session,
        vietqr,
        attempt=None,
        bill=None,
        transaction="B1",
        amount=30_000,
        evidence=Evidence.WEBHOOK,
        source="test",
        received_at=now,
        now=now,
    )
    lost = (await session.scalars(select(Receipt).where(Receipt.transaction == "B1"))).one()
    case = await cases.open_case(session, CaseKind.STATUS, now=now, bill_id=owed.id)
    held = (await session.scalars(select(PaymentCase).where(PaymentCase.receipt_id == lost.id))).one()
    day = now - timedelta(days=1)
    line = ReportLine(kind=Kind.PAYMENT, references=(), transaction="Z9", amount=5_000, status=Status.SUCCEEDED, at=day)
    file = write_report("vnpay", day.astimezone(HANOI).date(), [line])
    imported = await reconciling.import_file(
        session, vnpay, source=Source.PROVIDER, name="ngay.csv", data=file, by="test", now=now
    )
    item = (await session.scalars(select(ReconciliationItem).limit(1))).one()
    letter = WebhookInbox(
        merchant_id=vnpay.id,
        what="",
        remote_ip="192.0.2.1",
        headers='{":method": "GET"}',
        body_bytes=0,
        outcome="refused",
    )
    session.add(letter)
    await session.flush()
    letter.body_cipher = KEYRING.seal("\n", f"webhook_inbox:{letter.id}")
    message = (await session.scalars(select(WebhookMessage).order_by(WebhookMessage.seq).limit(1))).one()
    ids = {
        "endpoint": endpoint.id,
        "webhook_key": keys[0].id,
        "message": message.seq,
        "paid_bill": paid.id,
        "bill": owed.id,
        "bill_code": owed.code,
        "over_attempt": receipt.attempt_id,
        "attempt": live.id,
        "attempt_reference": live.reference,
        "receipt": receipt.id,
        "refund": refund.id,
        "transfer": by_hand.id,
        "lost_receipt": lost.id,
        "case": case.id,
        "lost_case": held.id,
        "statement": imported.file.id,
        "item": item.id,
        "letter": letter.id,
        "confirmation": showing.token_of(KEYRING, receipt.number),
    }
    return {name: str(value) for name, value in ids.items()}
