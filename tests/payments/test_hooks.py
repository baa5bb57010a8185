"""What comes in at the hooks: kept whatever it is, answered in its protocol, acted on once."""

from datetime import UTC, datetime
from urllib.parse import quote_plus

import pytest
from httpx import AsyncClient
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.payments.models import Bill, LedgerTransaction, Merchant, PaymentAttempt, PaymentCase, Receipt, WebhookInbox
from bkapp.payments.operations import ledger, merchants
from bkapp.payments.providers.vnpay import pay_hash
from bkapp.payments.providers.wire import compact_time
from bkapp.payments.rules import Evidence
from tests.identity.make import KEYRING
from tests.payments import make

SECRET = "s3cret"
HOOK = "/api/v1/payments/hooks/vnpay"


@pytest.fixture
async def attempt(session: AsyncSession) -> PaymentAttempt:
    merchant = await make.a_merchant(session, secrets={"hash": SECRET})
    bill = await make.a_bill(session)
    attempt = await make.an_attempt(session, bill, merchant, now=datetime.now(UTC))
    await session.commit()
    return attempt


def ipn(attempt: PaymentAttempt, secret: str = SECRET, **changes: str) -> str:
    """VNPAY's message that an attempt was paid, signed."""
    fields = {
        "vnp_Amount": str(attempt.amount * 100),
        "vnp_BankCode": "NCB",
        "vnp_BankTranNo": "VNP14422574",
        "vnp_CardType": "ATM",
        "vnp_OrderInfo": "Le phi",
        "vnp_PayDate": compact_time(datetime.now(UTC)),
        "vnp_ResponseCode": "00",
        "vnp_TmnCode": "BACKAN01",
        "vnp_TransactionNo": "14422574",
        "vnp_TransactionStatus": "00",
        "vnp_TxnRef": attempt.reference,
        **changes,
    }
    signed = {**fields, "vnp_SecureHash": pay_hash(fields, secret)}
    return "&".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in signed.items())


async def _outcomes(session: AsyncSession) -> list[tuple[str, str | None]]:
    rows = await session.execute(select(WebhookInbox.outcome, WebhookInbox.reason).order_by(WebhookInbox.id))
    return [(outcome, reason) for outcome, reason in rows]


async def test_a_payment_is_taken_once_however_often_it_is_told(
    client: AsyncClient, session: AsyncSession, attempt: PaymentAttempt
) -> None:
    message = ipn(attempt)
    first = await client.get(f"{HOOK}?{message}")
    again = await client.get(f"{HOOK}?{message}")
    retold = await client.get(f"{HOOK}?{ipn(attempt, vnp_BankTranNo='VNP999')}")

    assert [answer.json()["RspCode"] for answer in (first, again, retold)] == ["00", "02", "02"]
    assert [outcome for outcome, _ in await _outcomes(session)] == ["applied", "duplicate", "noted"]
    assert (await session.scalars(select(WebhookInbox.attempt_id))).all() == [attempt.id] * 3
    assert await session.scalar(select(func.count()).select_from(Receipt)) == 1
    assert await session.scalar(select(func.count()).select_from(LedgerTransaction)) == 1
    assert await session.scalar(select(Bill.status).where(Bill.id == attempt.bill_id)) == "paid"
    assert await ledger.verify(session) == []


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"secret": "another"}, "97"),
        ({"vnp_TxnRef": "TT000000000X"}, "01"),
        ({"vnp_Amount": "1999900"}, "04"),
        ({"vnp_PayDate": "20220315011530"}, "99"),
    ],
)
async def test_what_cannot_be_believed_is_answered_in_the_protocol_and_kept(
    client: AsyncClient, session: AsyncSession, attempt: PaymentAttempt, changes: dict[str, str], code: str
) -> None:
    answers = [await client.get(f"{HOOK}?{ipn(attempt, **changes)}") for _ in range(2)]

    assert [(answer.status_code, answer.json()["RspCode"]) for answer in answers] == [(200, code)] * 2
    assert len(await _outcomes(session)) == 2
    assert await session.scalar(select(PaymentAttempt.status).where(PaymentAttempt.id == attempt.id)) == "pending"
    assert await ledger.verify(session) == []


async def test_money_of_another_amount_waits_in_suspense(
    client: AsyncClient, session: AsyncSession, attempt: PaymentAttempt
) -> None:
    await client.get(f"{HOOK}?{ipn(attempt, vnp_Amount='1999900')}")

    receipt = (await session.scalars(select(Receipt))).one()
    case = (await session.scalars(select(PaymentCase))).one()
    assert (receipt.amount, receipt.place, case.kind) == (19_999, "suspense", "amount")
    assert (await ledger.balances(session))[ledger.SUSPENSE] == -19_999


@pytest.mark.parametrize(
    ("method", "query", "body"),
    [
        ("GET", "", b""),
        ("GET", "vnp_TxnRef=a&vnp_TxnRef=b", b""),
        ("GET", "vnp_TxnRef=%ff%fe", b""),
        ("GET", "a=" + "b" * 30_000, b""),
        ("POST", "", b"\xff\x00not json"),
        ("POST", "", b"x" * 300_000),
        ("POST", "", b"[" * 50_000),
    ],
    ids=["empty", "twice", "not UTF-8", "long query", "not JSON", "huge", "deep"],
)
@pytest.mark.parametrize("provider", ["paygov", "keypay", "vnpay", "momo", "zalopay", "viettel", "vietqr"])
async def test_garbage_is_answered_and_kept_by_every_protocol(
    client: AsyncClient, session: AsyncSession, provider: str, method: str, query: str, body: bytes
) -> None:
    await make.a_merchant(session, provider=provider)
    await session.commit()

    answer = await client.request(method, f"/api/v1/payments/hooks/{provider}?{query}", content=body)

    assert answer.status_code < 500 or answer.json()["type"] != "/problems/internal"
    [(outcome, reason)] = await _outcomes(session)
    assert outcome == "refused", reason


async def test_a_merchant_that_is_none_is_not_found(client: AsyncClient) -> None:
    assert (await client.post("/api/v1/payments/hooks/nobody", content=b"{}")).status_code == 404


async def test_a_message_that_breaks_us_is_kept_and_can_be_acted_on_again(
    client: AsyncClient, session: AsyncSession, attempt: PaymentAttempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def breaks(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr("bkapp.payments.operations.evidence._paid", breaks)
        answer = await client.get(f"{HOOK}?{ipn(attempt)}")
    assert answer.json()["RspCode"] == "99"
    assert await _outcomes(session) == [("broken", "ZeroDivisionError")]

    answer = await client.get(f"{HOOK}?{ipn(attempt)}")
    assert answer.json()["RspCode"] == "00"


async def test_an_old_secret_is_believed_until_it_is_retired(
    client: AsyncClient, session: AsyncSession, attempt: PaymentAttempt
) -> None:
    row = await session.get_one(Merchant, attempt.merchant_id)
    await merchants.add_secret(session, KEYRING, row, purpose="hash", secret="newer", by="test")
    with pytest.raises(merchants.TwoSecretsInForce):
        async with session.begin_nested():
            await merchants.add_secret(session, KEYRING, row, purpose="hash", secret="third", by="test")
    await session.commit()

    failed = {"vnp_ResponseCode": "24", "vnp_TransactionStatus": "02"}
    assert (await client.get(f"{HOOK}?{ipn(attempt, **failed)}")).json()["RspCode"] == "00"
    assert (await client.get(f"{HOOK}?{ipn(attempt, secret='newer')}")).json()["RspCode"] == "00"
    assert (await client.get(f"{HOOK}?{ipn(attempt, secret='third')}")).json()["RspCode"] == "97"


async def test_a_weak_protocol_is_believed_from_listed_addresses_only(
    client: AsyncClient, session: AsyncSession
) -> None:
    row = await make.a_merchant(session, provider="viettel")
    await session.commit()
    await client.post("/api/v1/payments/hooks/viettel/result", content=b"order_id=1")
    row.allowed_ips = ["127.0.0.0/8"]
    await session.commit()
    await client.post("/api/v1/payments/hooks/viettel/result", content=b"order_id=1")

    first, second = [reason for _, reason in await _outcomes(session)]
    assert str(first).startswith("forbidden")
    assert not str(second).startswith("forbidden")


async def test_a_hint_of_success_moves_no_money(session: AsyncSession, attempt: PaymentAttempt) -> None:
    row = await session.get_one(Merchant, attempt.merchant_id)
    await make.hear(session, row, attempt, how=Evidence.HINT, transaction="T1")

    assert await session.scalar(select(func.count()).select_from(Receipt)) == 0
    assert await session.scalar(select(PaymentAttempt.status).where(PaymentAttempt.id == attempt.id)) == "pending"
