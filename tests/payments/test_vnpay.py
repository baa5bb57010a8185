"""VNPAY: its vectors, its answers, what it says of payments and refunds, and npm's vnpay on the other side."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bkapp.payments.providers import (
    Call,
    Finding,
    HookRefused,
    Merchant,
    NoAnswer,
    NotSent,
    Outcome,
    Provider,
    Refunds,
    Refused,
    Verdict,
)
from bkapp.payments.providers.calling import Wire
from bkapp.payments.providers.vnpay import (
    QUERY_ANSWERED,
    QUERY_ASKED,
    REFUND_ANSWERED,
    REFUND_ASKED,
    Vnpay,
    api_hash,
    pay_hash,
    pay_query,
)
from tests.payments.wallets import (
    HOME,
    NOW,
    ORDER,
    REFUND,
    Peer,
    meets_trouble,
    needs_settings,
    nothing_spoilt_is_taken,
    refusal,
    socket_that,
)
from tests.peers.payments import ask

SECRET, OLD_SECRET = "s3cret", "the one before"
MERCHANT = Merchant(
    key="vnpay",
    provider="vnpay",
    code="BACKAN01",
    secrets={"hash": [SECRET, OLD_SECRET]},
    options={"pay_url": "https://pay.test/vpcpay.html", "api_url": "https://api.test/transaction", "ip": "10.0.0.9"},
    home=HOME,
)
ACCOUNT = {"tmnCode": MERCHANT.code, "secret": SECRET}
PROVIDER = Vnpay(Wire())

PAID = {
    "vnp_TmnCode": MERCHANT.code,
    "vnp_Amount": "2000000",
    "vnp_BankCode": "NCB",
    "vnp_BankTranNo": "VNP14422574",
    "vnp_CardType": "ATM",
    "vnp_OrderInfo": "Thanh toan HD00000000AB 000.00.01.H03-220315-0001",
    "vnp_PayDate": "20220315101830",
    "vnp_ResponseCode": "00",
    "vnp_TransactionNo": "14422574",
    "vnp_TransactionStatus": "00",
    "vnp_TxnRef": ORDER.reference,
}
FINDING = Finding(
    references=[ORDER.reference],
    outcome=Outcome.PAID,
    amount=20_000,
    transaction="14422574",
    at=datetime(2022, 3, 15, 3, 18, 30, tzinfo=UTC),
    code="00",
)


def ipn(query: bytes) -> Call:
    return Call(method="GET", what="", query=query, headers={}, body=b"")


def told(secret: str = SECRET, **changes: str | None) -> bytes:
    """A signed query; a field that is changed to None is left out."""
    fields = {name: value for name, value in (PAID | changes).items() if value is not None}
    return pay_query(fields, secret).encode()


def hear(query: bytes, now: datetime = NOW) -> Finding | None:
    return PROVIDER.hear(MERCHANT, ipn(query), now=now).finding


def test_it_is_a_provider_that_gives_money_back() -> None:
    provider: Provider = PROVIDER
    assert isinstance(provider, Refunds)


def test_vectors_of_vnpays_own_fixture() -> None:
    fields = {
        "vnp_Amount": "1000000",
        "vnp_BankCode": "NCB",
        "vnp_BankTranNo": "VNP14422574",
        "vnp_CardType": "ATM",
        "vnp_OrderInfo": "Thanh toan don hang 2024-05-21T02:17:31.249Z",
        "vnp_PayDate": "20240521091806",
        "vnp_ResponseCode": "00",
        "vnp_TmnCode": "TEST_TMN_CODE",
        "vnp_TransactionNo": "14422574",
        "vnp_TransactionStatus": "00",
        "vnp_TxnRef": "1716257871703",
    }
    good = (
        "649982421beb422556a1374713c74e58e716ecbd05007c0c0e1f7effdfaf361d"
        "bf146889ca446139afe11b9954c4d5c486e99e3b86fcfab6957f29eb0be72895"
    )
    assert pay_hash(fields, "test_secret") == good
    # What is empty, not VNPAY's, or the signature itself is not signed.
    assert pay_hash({**fields, "vnp_Bill": "", "utm": "x", "vnp_SecureHash": good}, "test_secret") == good
    assert pay_hash({**fields, "vnp_ResponseCode": "99"}, "test_secret") == (
        "503194f6d93b57b357b2d1d09742565e67e86d771352c5dca4fc8d39df3d392c"
        "6b3809add9405f97cfb9631f445e36c80656cfbf47eac67d97fa165865c13e1b"
    )
    merchant = msgspec.structs.replace(MERCHANT, code="TEST_TMN_CODE", secrets={"hash": ["test_secret"]})
    now = datetime(2024, 5, 21, 3, tzinfo=UTC)
    call = ipn(urlencode({**fields, "vnp_SecureHash": good}).encode())
    assert PROVIDER.hear(merchant, call, now=now).finding == Finding(
        references=["1716257871703"],
        outcome=Outcome.PAID,
        amount=10_000,
        transaction="14422574",
        at=datetime(2024, 5, 21, 2, 18, 6, tzinfo=UTC),
        code="00",
    )


def test_vectors_of_requests() -> None:
    text = (
        "vnp_Amount=2000000&vnp_Command=pay&vnp_CreateDate=20220315101530&vnp_CurrCode=VND"
        "&vnp_ExpireDate=20220315103030&vnp_IpAddr=127.0.0.1&vnp_Locale=vn"
        "&vnp_OrderInfo=Le+phi+ho+so+000.00.01.H03-220315-0001&vnp_OrderType=other"
        "&vnp_ReturnUrl=https%3A%2F%2Fapp.example.vn%2Fpay%2Freturn%3Fx%3D1&vnp_TmnCode=BACKAN01"
        "&vnp_TxnRef=H03x220315x0001&vnp_Version=2.1.0"
    )
    assert pay_query(dict(parse_qsl(text)), SECRET) == text + (
        "&vnp_SecureHash=12d4df65c77632834b84d66aa7009974281b1f7a3ba85e6b55f4cb7c1def058b"
        "af5215f438a8384ef477a8dbdffd4d58b2801d417c441fb356909878a5c9ac82"
    )
    request = "REQ1|2.1.0|querydr|BACKAN01|H03x220315x0001|20220315101530|20220315110000|127.0.0.1|query"
    asked = dict(zip(QUERY_ASKED, request.split("|"), strict=True))
    assert api_hash(asked, QUERY_ASKED, SECRET) == (
        "0390d0498de57bbf93797b1ecc31ee7649cc9ffdb5ea16374173e50a2f499f49"
        "321780ba9e660b325bf6f8d1d20b5212a8f515e08a6fb523d6f73024dee869a3"
    )
    with pytest.raises(ValueError, match="parts fields"):
        api_hash(asked | {"vnp_OrderInfo": "a|b"}, QUERY_ASKED, SECRET)


async def test_the_payer_carries_the_request() -> None:
    begun = await PROVIDER.begin(MERCHANT, ORDER, now=NOW)
    assert begun.qr is None
    address = urlsplit(begun.redirect_url or "")
    assert address.geturl().startswith("https://pay.test/vpcpay.html?")
    fields = dict(parse_qsl(address.query, strict_parsing=True))
    shown = fields.pop("vnp_SecureHash")
    assert fields == {
        "vnp_Amount": "2000000",
        "vnp_Command": "pay",
        "vnp_CreateDate": "20220315101530",
        "vnp_CurrCode": "VND",
        "vnp_ExpireDate": "20220315103030",
        "vnp_IpAddr": "113.160.0.7",
        "vnp_Locale": "vn",
        "vnp_OrderInfo": "Thanh toan HD00000000AB 000.00.01.H03-220315-0001",
        "vnp_OrderType": "other",
        "vnp_ReturnUrl": ORDER.return_url,
        "vnp_TmnCode": "BACKAN01",
        "vnp_TxnRef": ORDER.reference,
        "vnp_Version": "2.1.0",
    }
    assert shown == pay_hash(fields, SECRET)
    assert await PROVIDER.begin(MERCHANT, ORDER, now=NOW + timedelta(hours=1)) == begun
    afternoon = msgspec.structs.replace(ORDER, created_at=datetime(2022, 3, 15, 14, 5, 9, tzinfo=UTC))
    assert "vnp_CreateDate=20220315210509" in ((await PROVIDER.begin(MERCHANT, afternoon, now=NOW)).redirect_url or "")


def test_an_ipn_is_heard() -> None:
    first = PROVIDER.hear(MERCHANT, ipn(told()), now=NOW)
    assert first.finding == FINDING
    assert PROVIDER.hear(MERCHANT, ipn(told()), now=NOW + timedelta(days=3)) == first
    # Under the secret that is about to go, in another order, encoded otherwise: the same message.
    assert PROVIDER.hear(MERCHANT, ipn(told(OLD_SECRET)), now=NOW) == first
    fields = PAID | {"vnp_SecureHash": pay_hash(PAID, SECRET), "vnp_Inv_Phone": ""}
    backwards = "&".join(f"{name}={quote(fields[name], safe='')}" for name in sorted(fields, reverse=True))
    assert "%20" in backwards
    assert PROVIDER.hear(MERCHANT, ipn(backwards.encode()), now=NOW) == first
    assert PROVIDER.hear(MERCHANT, ipn(told(vnp_TransactionNo="14422575")), now=NOW).event_id != first.event_id
    assert refusal(PROVIDER, MERCHANT, ipn(told("another"))) is Verdict.BAD_SIGNATURE
    keyless = msgspec.structs.replace(MERCHANT, secrets={})
    assert refusal(PROVIDER, keyless, ipn(told(""))) is Verdict.BAD_SIGNATURE


@pytest.mark.parametrize(
    ("code", "status", "outcome", "word"),
    [
        ("00", "00", Outcome.PAID, "00"),
        ("24", "02", Outcome.FAILED, "24"),
        ("99", "02", Outcome.FAILED, "99"),
        ("24", None, Outcome.FAILED, "24"),
        # Nothing is known until VNPAY has decided, or where it contradicts itself.
        ("07", "00", Outcome.PENDING, "07"),
        ("07", "02", Outcome.PENDING, "07"),
        ("00", "07", Outcome.PENDING, "07"),
        ("24", "04", Outcome.PENDING, "24"),
        ("00", "01", Outcome.PENDING, "01"),
        ("00", "02", Outcome.PENDING, "02"),
        ("24", "00", Outcome.PENDING, "24"),
        ("00", None, Outcome.PENDING, ""),
        ("99", None, Outcome.PENDING, "99"),
        (None, "00", Outcome.PENDING, ""),
    ],
)
def test_both_codes_say_what_came_of_it(code: str | None, status: str | None, outcome: Outcome, word: str) -> None:
    query = told(vnp_ResponseCode=code, vnp_TransactionStatus=status)
    finding = hear(query)
    assert finding == PROVIDER.came_back(MERCHANT, query, now=NOW)
    assert finding is not None
    assert (finding.outcome, finding.code) == (outcome, word)


def test_a_try_that_came_to_nothing_has_no_number() -> None:
    finding = hear(told(vnp_ResponseCode="24", vnp_TransactionStatus="02", vnp_TransactionNo="0", vnp_PayDate=None))
    assert finding is not None
    assert (finding.transaction, finding.at, finding.amount) == (None, None, 20_000)


@pytest.mark.parametrize(
    ("query", "verdict"),
    [
        (b"", Verdict.BAD_SIGNATURE),
        (b"vnp_Amount=2000000", Verdict.BAD_SIGNATURE),
        (told() + b"&vnp_Amount=2000000", Verdict.MALFORMED),
        (told() + b"&utm_source=x", Verdict.MALFORMED),
        (told() + b"&vnp_Fee=5", Verdict.BAD_SIGNATURE),
        (told() + b"&vnp_SecureHashType=MD5", Verdict.MALFORMED),
        (told() + b"&vnp_Bill%FF=1", Verdict.MALFORMED),
        (told() + b"&vnp_x%00=1", Verdict.MALFORMED),
        (b"&".join(b"vnp_%d=1" % number for number in range(200)), Verdict.MALFORMED),
        (told(vnp_TmnCode="BACKAN02"), Verdict.NO_ORDER),
        (told(vnp_TmnCode=None), Verdict.NO_ORDER),
        (told(vnp_Amount="2000050"), Verdict.WRONG_AMOUNT),
        (told(vnp_Amount="20000.00"), Verdict.MALFORMED),
        (told(vnp_Amount="-2000000"), Verdict.MALFORMED),
        (told(vnp_Amount="02000000"), Verdict.MALFORMED),
        (told(vnp_Amount=None), Verdict.MALFORMED),
        (told(vnp_TxnRef=None), Verdict.MALFORMED),
        (told(vnp_TxnRef="TT\x00"), Verdict.MALFORMED),
        (told(vnp_TransactionNo="1|2"), Verdict.MALFORMED),
        (told(vnp_TransactionNo=None), Verdict.MALFORMED),
        (told(vnp_TransactionNo="0"), Verdict.MALFORMED),
        (told(vnp_ResponseCode="'; --"), Verdict.MALFORMED),
        # The clock of twelve hours, and what is no time at all.
        (told(vnp_PayDate="20220315101830AM"), Verdict.MALFORMED),
        (told(vnp_PayDate="2022031510:18"), Verdict.MALFORMED),
        (told(vnp_PayDate="20220315241830"), Verdict.MALFORMED),
        (told(vnp_PayDate="20220229101830"), Verdict.MALFORMED),
        (told(vnp_PayDate="00010101000000"), Verdict.MALFORMED),
        (told(vnp_PayDate="２０２２０３１５１０１８３０"), Verdict.MALFORMED),
        (told(vnp_PayDate="20220315103531"), Verdict.STALE),
        (told(vnp_PayDate="20220308102029"), Verdict.STALE),
    ],
)
def test_what_cannot_be_believed_or_read_is_refused(query: bytes, verdict: Verdict) -> None:
    assert refusal(PROVIDER, MERCHANT, ipn(query)) is verdict


def test_times_up_to_the_limits_are_taken() -> None:
    for at in ("20220315103530", "20220308102030"):
        assert hear(told(vnp_PayDate=at)) is not None


@pytest.mark.parametrize("changes", [{"method": "POST"}, {"what": "verify"}, {"body": b"{}"}])
def test_only_a_get_is_an_ipn(changes: dict[str, Any]) -> None:
    assert refusal(PROVIDER, MERCHANT, msgspec.structs.replace(ipn(told()), **changes)) is Verdict.MALFORMED


def test_one_wrong_character_is_found() -> None:
    def read(query: bytes) -> object:
        # What is empty is not signed, and says nothing.
        return dict(parse_qsl(query.decode("utf-8", "replace")))

    assert nothing_spoilt_is_taken(PROVIDER, MERCHANT, told(), ipn, read) < 20  # a doubled &, a space for a plus


@given(st.binary(max_size=400) | st.text(alphabet="vnp_AmountTxRef=&%+0123456789", max_size=400).map(str.encode))
def test_whatever_the_bytes_are_nothing_else_is_raised(raw: bytes) -> None:
    for query in (raw, told() + raw, raw + told()):
        try:
            heard = PROVIDER.hear(MERCHANT, ipn(query), now=NOW)
        except HookRefused:
            continue
        assert heard.finding == FINDING  # nothing was added but what is empty
    assert PROVIDER.came_back(MERCHANT, raw, now=NOW) is None


@pytest.mark.parametrize(
    ("verdict", "code"),
    [
        (Verdict.TAKEN, "00"),
        (Verdict.NO_ORDER, "01"),
        (Verdict.KNOWN, "02"),
        (Verdict.FORBIDDEN, "03"),
        (Verdict.WRONG_AMOUNT, "04"),
        (Verdict.BAD_SIGNATURE, "97"),
        (Verdict.MALFORMED, "99"),
        (Verdict.STALE, "99"),
        (Verdict.BROKEN, "99"),
    ],
)
def test_answers(verdict: Verdict, code: str) -> None:
    answer = PROVIDER.answer(MERCHANT, verdict, {}, now=NOW)
    assert (answer.status, answer.media_type) == (200, "application/json")
    said = json.loads(answer.body)
    assert said["RspCode"] == code
    assert said["Message"]


def test_the_browser_comes_back() -> None:
    assert PROVIDER.came_back(MERCHANT, b"bill=1&lang=vi&" + told(OLD_SECRET), now=NOW) == FINDING
    # Long afterwards, too: it is shown, and proves nothing.
    assert PROVIDER.came_back(MERCHANT, told(), now=NOW + timedelta(days=400)) == FINDING
    for query in (
        b"",
        b"bill=1",
        told("another"),
        told() + b"&vnp_Amount=2000000",
        told() + b"&vnp_Fee=1",
        told(vnp_TmnCode="BACKAN02"),
        told(vnp_Amount="2000050"),
        told(vnp_PayDate="yesterday"),
        told().replace(b"=00&", b"=%FF&"),
    ):
        assert PROVIDER.came_back(MERCHANT, query, now=NOW) is None


def answered(command: str, names: tuple[str, ...], secret: str = SECRET, **said: Any) -> dict[str, Any]:
    """A signed answer of VNPAY's; a field that is None is left out."""
    whole = {
        "vnp_ResponseId": "r1",
        "vnp_Command": command,
        "vnp_ResponseCode": "00",
        "vnp_Message": "Success",
        "vnp_TmnCode": MERCHANT.code,
        "vnp_TxnRef": ORDER.reference,
        "vnp_Amount": "2000000",
        "vnp_BankCode": "NCB",
        "vnp_PayDate": "20220315101830",
        "vnp_TransactionNo": "14422574",
        "vnp_TransactionType": "01",
        "vnp_TransactionStatus": "00",
        "vnp_OrderInfo": "Thanh toan",
    } | said
    whole = {name: value for name, value in whole.items() if value is not None}
    texts = {name: str(value) for name, value in whole.items()}
    return whole | {"vnp_SecureHash": api_hash(texts, names, secret)}


def answering(names: tuple[str, ...], secret: str = SECRET, **said: Any) -> Peer:
    """VNPAY's server, which answers this."""
    return Peer(lambda asked: answered(asked["vnp_Command"], names, secret, **said))


async def inquire(peer: Peer) -> Finding:
    return await Vnpay(peer.wire).inquire(MERCHANT, ORDER, now=NOW)


async def test_an_order_is_asked_about() -> None:
    peer = answering(QUERY_ANSWERED)
    assert await inquire(peer) == FINDING
    await Vnpay(peer.wire).inquire(MERCHANT, ORDER, now=NOW + timedelta(seconds=1))
    first, second = peer.asked
    assert first["vnp_RequestId"] != second["vnp_RequestId"]
    assert first.pop("vnp_SecureHash") == api_hash(first, QUERY_ASKED, SECRET)
    assert first == {
        "vnp_RequestId": "TT00000000AK1647314430000",
        "vnp_Version": "2.1.0",
        "vnp_Command": "querydr",
        "vnp_TmnCode": "BACKAN01",
        "vnp_TxnRef": ORDER.reference,
        "vnp_TransactionDate": "20220315101530",
        "vnp_CreateDate": "20220315102030",
        "vnp_IpAddr": "10.0.0.9",
        "vnp_OrderInfo": f"Truy van {ORDER.reference}",
    }
    assert await inquire(answering(QUERY_ANSWERED, OLD_SECRET, vnp_PromotionCode="KM1", vnp_Amount=2000000)) == FINDING


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        ({"vnp_TransactionStatus": "01"}, Outcome.PENDING),
        ({"vnp_TransactionStatus": "04"}, Outcome.PENDING),
        ({"vnp_TransactionStatus": "07"}, Outcome.PENDING),
        ({"vnp_TransactionStatus": "02", "vnp_PayDate": None, "vnp_TransactionNo": "0"}, Outcome.FAILED),
        ({"vnp_ResponseCode": "91", "vnp_TransactionStatus": None, "vnp_Amount": None}, Outcome.ABSENT),
    ],
)
async def test_what_an_inquiry_finds(said: dict[str, Any], outcome: Outcome) -> None:
    finding = await inquire(answering(QUERY_ANSWERED, **said))
    assert finding.outcome is outcome
    assert finding.references == [ORDER.reference]


@pytest.mark.parametrize(
    "said",
    [
        {"vnp_TxnRef": "TT00000000AL"},
        {"vnp_TmnCode": "BACKAN02"},
        {"vnp_Command": "refund"},
        {"vnp_ResponseCode": "94"},
        {"vnp_ResponseCode": "99"},
        {"vnp_TransactionStatus": "05"},
        {"vnp_TransactionStatus": None},
        {"vnp_TransactionType": "02"},
        {"vnp_TransactionType": "03"},
        {"vnp_Amount": None},
        {"vnp_Amount": "2000050"},
        {"vnp_Amount": True},
        {"vnp_TransactionNo": None},
        {"vnp_PayDate": "20220315101830PM"},
    ],
)
async def test_answers_that_say_nothing(said: dict[str, Any]) -> None:
    with pytest.raises(NoAnswer):
        await inquire(answering(QUERY_ANSWERED, **said))


@pytest.mark.parametrize(
    "changes",
    [
        {"vnp_SecureHash": "0" * 128},
        {"vnp_SecureHash": None},
        {"vnp_SecureHash": 0},
        {"vnp_TransactionStatus": "02"},
        # Signed alike: what parts the fields has become a part of one.
        {"vnp_BankCode": "NCB|20220315101830", "vnp_PayDate": ""},
    ],
)
async def test_answers_that_were_changed(changes: dict[str, Any]) -> None:
    right = answered("querydr", QUERY_ANSWERED)
    assert await inquire(Peer(lambda _: right)) == FINDING
    with pytest.raises(NoAnswer):
        await inquire(Peer(lambda _: right | changes))


async def test_nothing_is_believed_when_it_goes_wrong() -> None:
    await meets_trouble(lambda wire: Vnpay(wire).inquire(MERCHANT, ORDER, now=NOW))
    await meets_trouble(lambda wire: Vnpay(wire).refund(MERCHANT, REFUND, now=NOW))
    await meets_trouble(lambda wire: Vnpay(wire).inquire_refund(MERCHANT, REFUND, now=NOW))
    await needs_settings(MERCHANT, lambda wire, bare: Vnpay(wire).begin(bare, ORDER, now=NOW))
    await needs_settings(MERCHANT, lambda wire, bare: Vnpay(wire).inquire(bare, ORDER, now=NOW))
    await needs_settings(MERCHANT, lambda wire, bare: Vnpay(wire).refund(bare, REFUND, now=NOW))


async def test_on_a_real_socket() -> None:
    half = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{"
    for says in (b"", b"garbage\r\n\r\n", half):
        async with socket_that(says) as address:
            merchant = msgspec.structs.replace(MERCHANT, options={"api_url": address})
            wire = Wire(patience=0.3)
            with pytest.raises(NoAnswer):
                await Vnpay(wire).refund(merchant, REFUND, now=NOW)
            await wire.close()
    wire = Wire(patience=1.0)
    with pytest.raises(NotSent):  # nobody listens any more
        await Vnpay(wire).refund(merchant, REFUND, now=NOW)
    await wire.close()


async def test_money_is_given_back() -> None:
    said = {"vnp_TransactionType": "02", "vnp_TransactionNo": "14422599", "vnp_TransactionStatus": "05"}
    peer = answering(REFUND_ANSWERED, **said)
    for later in (timedelta(0), timedelta(hours=1)):
        assert await Vnpay(peer.wire).refund(MERCHANT, REFUND, now=NOW + later) == Finding(
            references=[REFUND.reference],
            outcome=Outcome.PENDING,
            amount=20_000,
            transaction="14422599",
            at=FINDING.at,
            code="05",
        )
    first, second = peer.asked
    assert first == second
    assert first.pop("vnp_SecureHash") == api_hash(first, REFUND_ASKED, SECRET)
    assert first == {
        "vnp_RequestId": REFUND.reference,
        "vnp_Version": "2.1.0",
        "vnp_Command": "refund",
        "vnp_TmnCode": "BACKAN01",
        "vnp_TransactionType": "02",
        "vnp_TxnRef": ORDER.reference,
        "vnp_Amount": "2000000",
        "vnp_TransactionNo": "14422574",
        "vnp_TransactionDate": "20220315101530",
        "vnp_CreateBy": "bkapp",
        "vnp_CreateDate": "20220315121530",
        "vnp_IpAddr": "10.0.0.9",
        "vnp_OrderInfo": "Nop trung",
    }
    part = msgspec.structs.replace(REFUND, full=False, amount=5_000, transaction="FT22/074|1", reason="")
    peer = answering(REFUND_ANSWERED, vnp_Amount="500000", vnp_TransactionType="03")
    assert (await Vnpay(peer.wire).refund(MERCHANT, part, now=NOW)).outcome is Outcome.PAID
    assert {
        "vnp_TransactionType": "03",
        "vnp_Amount": "500000",
        "vnp_TransactionNo": "0",
        "vnp_OrderInfo": REFUND.reference,
    }.items() <= peer.asked[0].items()


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        ({"vnp_TransactionStatus": "00"}, Outcome.PAID),
        ({"vnp_TransactionStatus": "06"}, Outcome.PENDING),
        ({"vnp_TransactionStatus": None}, Outcome.PENDING),
        ({"vnp_TransactionStatus": "09"}, Outcome.FAILED),
        ({"vnp_ResponseCode": "94"}, Outcome.PENDING),
    ],
)
async def test_what_comes_of_a_refund_at_once(said: dict[str, Any], outcome: Outcome) -> None:
    peer = answering(REFUND_ANSWERED, **said)
    assert (await Vnpay(peer.wire).refund(MERCHANT, REFUND, now=NOW)).outcome is outcome


@pytest.mark.parametrize("code", ["02", "03", "91", "95", "97"])
async def test_refunds_refused(code: str) -> None:
    said: dict[str, Any] = {"vnp_ResponseCode": code, "vnp_TransactionStatus": None, "vnp_Amount": None}
    with pytest.raises(Refused) as caught:
        await Vnpay(answering(REFUND_ANSWERED, **said).wire).refund(MERCHANT, REFUND, now=NOW)
    assert caught.value.code == code
    # Whoever cannot sign refuses nothing.
    with pytest.raises(NoAnswer):
        await Vnpay(answering(REFUND_ANSWERED, "another", **said).wire).refund(MERCHANT, REFUND, now=NOW)


@pytest.mark.parametrize(
    "said", [{"vnp_ResponseCode": "99"}, {"vnp_Amount": "1000000"}, {"vnp_Amount": None}, {"vnp_TxnRef": "TT"}]
)
async def test_refunds_that_nothing_is_known_of(said: dict[str, Any]) -> None:
    with pytest.raises(NoAnswer):
        await Vnpay(answering(REFUND_ANSWERED, **said).wire).refund(MERCHANT, REFUND, now=NOW)


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        ({"vnp_TransactionStatus": "05"}, Outcome.PENDING),
        ({"vnp_TransactionStatus": "06"}, Outcome.PENDING),
        ({"vnp_TransactionStatus": "09"}, Outcome.FAILED),
        ({"vnp_TransactionStatus": "00"}, Outcome.PAID),
        ({"vnp_ResponseCode": "91"}, Outcome.ABSENT),
        # Of the payment, of another refund, of nothing known: no word about this refund.
        ({"vnp_TransactionType": "01"}, None),
        ({"vnp_TransactionType": "03"}, None),
        ({"vnp_Amount": "1000000"}, None),
        ({"vnp_TransactionStatus": "02"}, None),
        ({"vnp_ResponseCode": "94"}, None),
    ],
)
async def test_a_refund_is_asked_about(said: dict[str, Any], outcome: Outcome | None) -> None:
    said = {"vnp_TransactionType": "02"} | said
    peer = answering(QUERY_ANSWERED, **said)
    if outcome is None:
        with pytest.raises(NoAnswer):
            await Vnpay(peer.wire).inquire_refund(MERCHANT, REFUND, now=NOW)
    else:
        finding = await Vnpay(peer.wire).inquire_refund(MERCHANT, REFUND, now=NOW)
        assert (finding.outcome, finding.references) == (outcome, [REFUND.reference])
    assert peer.asked[0]["vnp_Command"] == "querydr"
    assert peer.asked[0]["vnp_RequestId"].startswith(REFUND.reference)


async def test_npm_vnpay_believes_what_we_sign() -> None:
    begun = await PROVIDER.begin(MERCHANT, ORDER, now=NOW)
    query = urlsplit(begun.redirect_url or "").query
    questions = [{"do": "ipn", "account": ACCOUNT, "query": told().decode()}]
    questions += [{"do": "cameBack", "account": ACCOUNT, "query": shown} for shown in (told().decode(), query)]
    questions += [{"do": "ipn", "account": ACCOUNT | {"secret": "another"}, "query": query}]
    questions += [{"do": "ipn", "account": ACCOUNT, "query": query.replace("2000000", "3000000")}]
    heard, back, carried, forged, changed = ask(*questions)
    assert (heard["isVerified"], heard["isSuccess"], heard["vnp_Amount"]) == (True, True, 20_000)
    assert (back["isVerified"], back["vnp_TxnRef"]) == (True, ORDER.reference)
    assert (carried["isVerified"], carried["vnp_ReturnUrl"]) == (True, ORDER.return_url)
    assert not forged["isVerified"]
    assert not changed["isVerified"]


async def test_we_believe_what_npm_vnpay_signs() -> None:
    carried, started = (
        {"do": "payUrl", "account": ACCOUNT, "data": data}
        for data in (
            # It signs requests alone, and these in the way that VNPAY signs its messages.
            PAID | {"vnp_Amount": 20_000, "vnp_OrderInfo": "Lệ phí & phí: 100% (đ) /?=+#'\"<>,;@$[]"},
            {
                "vnp_Amount": 20_000,
                "vnp_TxnRef": ORDER.reference,
                "vnp_OrderInfo": "Thanh toan HD00000000AB 000.00.01.H03-220315-0001",
                "vnp_IpAddr": ORDER.payer_ip,
                "vnp_ReturnUrl": ORDER.return_url,
                "vnp_CreateDate": 20220315101530,
                "vnp_ExpireDate": 20220315103030,
                "vnp_OrderType": "other",
            },
        )
    )
    question = {
        "vnp_RequestId": "REQ1",
        "vnp_TxnRef": ORDER.reference,
        "vnp_TransactionDate": 20220315101530,
        "vnp_CreateDate": 20220315110000,
        "vnp_IpAddr": "127.0.0.1",
        "vnp_OrderInfo": "query",
    }
    refunding = {
        "vnp_TransactionType": "02",
        "vnp_Amount": 20_000,
        "vnp_TransactionNo": 14422574,
        "vnp_CreateBy": "bkapp",
    }
    query_dr = {"do": "queryDr", "account": ACCOUNT, "data": question}
    answer = answered("querydr", QUERY_ANSWERED)
    url, same_request, good, bad, refunded = ask(
        carried,
        started,
        query_dr | {"answer": answer},
        query_dr | {"answer": answer | {"vnp_TransactionStatus": "02"}},
        {"do": "refund", "account": ACCOUNT, "data": question | refunding, "answer": {}},
    )
    query = urlsplit(url).query.encode()
    assert hear(query) == FINDING == PROVIDER.came_back(MERCHANT, query, now=NOW)
    # The same order, written down by both.
    begun = await PROVIDER.begin(MERCHANT, ORDER, now=NOW)
    assert dict(parse_qsl(urlsplit(same_request).query)) == dict(parse_qsl(urlsplit(begun.redirect_url or "").query))
    # Its questions are signed as ours, and it believes answers signed as we expect them.
    for sent, names in ((good["sent"], QUERY_ASKED), (refunded["sent"], REFUND_ASKED)):
        assert sent["vnp_SecureHash"] == api_hash({name: str(sent[name]) for name in names}, names, SECRET)
    assert (good["made"]["isVerified"], bad["made"]["isVerified"]) == (True, False)
