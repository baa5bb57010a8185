"""MoMo: its vectors, what it is asked and answers, and what is made of its messages."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bkapp.payments.providers import (
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
from bkapp.payments.providers.momo import CREATE, IPN, QUERY, REFUND, Momo, momo_hash, momo_text
from tests.payments.wallets import (
    HOME,
    NOW,
    ORDER,
    Peer,
    json_meaning,
    meets_trouble,
    needs_settings,
    nothing_spoilt_is_taken,
    posted,
    refusal,
    socket_that,
)
from tests.payments.wallets import REFUND as GIVEN_BACK

ACCESS, SECRET, OLD_ACCESS, OLD_SECRET = "AK", "s3cret", "OLD", "the one before"
MERCHANT = Merchant(
    key="momo",
    provider="momo",
    code="MOMO",
    secrets={"access": [ACCESS, OLD_ACCESS], "secret": [SECRET, OLD_SECRET]},
    options={"url": "https://momo.test"},
    home=HOME,
)
PROVIDER = Momo(Wire())

PAID: dict[str, Any] = {
    "partnerCode": "MOMO",
    "orderId": ORDER.reference,
    "requestId": ORDER.reference,
    "amount": 20_000,
    "orderInfo": "Thanh toan HD00000000AB 000.00.01.H03-220315-0001",
    "orderType": "momo_wallet",
    "transId": 2147483647,
    "resultCode": 0,
    "message": "Thành công.",
    "payType": "qr",
    "responseTime": 1647314190000,
    "extraData": "",
}
FINDING = Finding(
    references=[ORDER.reference],
    outcome=Outcome.PAID,
    amount=20_000,
    transaction="2147483647",
    at=datetime(2022, 3, 15, 3, 16, 30, tzinfo=UTC),
    code="0",
)


def told(access: str = ACCESS, secret: str = SECRET, **changes: object) -> dict[str, Any]:
    """A signed message; a field that is changed to None is left out."""
    fields = {name: value for name, value in (PAID | changes).items() if value is not None}
    texts = {name: str(fields.get(name, "")) for name in IPN} | {"accessKey": access}
    return fields | {"signature": momo_hash(texts, IPN, secret)}


def raw(said: dict[str, Any]) -> bytes:
    return json.dumps(said, ensure_ascii=False).encode()


def hear(said: dict[str, Any]) -> Finding | None:
    return PROVIDER.hear(MERCHANT, posted(said), now=NOW).finding


def test_it_is_a_provider_that_gives_money_back() -> None:
    provider: Provider = PROVIDER
    assert isinstance(provider, Refunds)


def test_vectors() -> None:
    created = {
        "accessKey": "AK",
        "amount": "20000",
        "extraData": "",
        "ipnUrl": "https://app.example.vn/ipn/momo",
        "orderId": "O1",
        "orderInfo": "Le phi ho so",
        "partnerCode": "MOMO",
        "redirectUrl": "https://app.example.vn/r",
        "requestId": "R1",
        "requestType": "captureWallet",
    }
    assert momo_hash(created, CREATE, "s3cret") == "79f441bfc9310ee8f7539ebe54fe10af9af9c817fedb72b236e01979de99c2dd"
    paid = {
        "accessKey": "AK",
        "amount": "20000",
        "extraData": "",
        "message": "Successful.",
        "orderId": "O1",
        "orderInfo": "Le phi ho so",
        "orderType": "momo_wallet",
        "partnerCode": "MOMO",
        "payType": "qr",
        "requestId": "R1",
        "responseTime": "1647314190000",
        "resultCode": "0",
        "transId": "2147483647",
    }
    signature = "a2c28a42ea1d895ad41c646afde72542efb1e82a73bd9706046c122d93802402"
    assert momo_hash(paid, IPN, "s3cret") == signature
    finding = hear({name: paid[name] for name in paid if name != "accessKey"} | {"signature": signature})
    assert finding == msgspec.structs.replace(FINDING, references=["O1"])
    assert momo_text(paid, QUERY) == "accessKey=AK&orderId=O1&partnerCode=MOMO&requestId=R1"


def answered(asked: dict[str, Any], **said: Any) -> dict[str, Any]:
    """An answer of MoMo's to this; a field that is None is left out."""
    whole = {
        "partnerCode": asked["partnerCode"],
        "orderId": asked["orderId"],
        "requestId": asked["requestId"],
        "amount": 20_000,
        "responseTime": 1647314190000,
        "message": "Thành công.",
        "resultCode": 0,
    } | said
    return {name: value for name, value in whole.items() if value is not None}


def answering(**said: Any) -> Peer:
    return Peer(lambda asked: answered(asked, **said))


async def test_a_payment_is_begun() -> None:
    peer = answering(payUrl="https://momo.test/pay?t=1")
    for later in (timedelta(0), timedelta(minutes=9)):
        begun = await Momo(peer.wire).begin(MERCHANT, ORDER, now=NOW + later)
        assert (begun.redirect_url, begun.qr, begun.token) == ("https://momo.test/pay?t=1", None, None)
    first, second = peer.asked
    assert first == second
    assert peer.paths[0] == "/v2/gateway/api/create"
    texts = {name: str(value) for name, value in first.items()} | {"accessKey": ACCESS}
    assert first.pop("signature") == momo_hash(texts, CREATE, SECRET)
    assert first == {
        "partnerCode": "MOMO",
        "requestId": ORDER.reference,
        "orderId": ORDER.reference,
        "amount": 20_000,
        "orderInfo": "Thanh toan HD00000000AB 000.00.01.H03-220315-0001",
        "redirectUrl": ORDER.return_url,
        "ipnUrl": f"{HOME}/api/v1/payments/hooks/momo",
        "requestType": "captureWallet",
        "extraData": "",
        "lang": "vi",
    }


@pytest.mark.parametrize(
    ("said", "raised"),
    [
        ({"resultCode": 13}, Refused),
        ({"resultCode": 20}, Refused),
        ({"resultCode": 22}, Refused),
        ({"resultCode": 1017}, Refused),
        # There is one already, or nobody knows.
        ({"resultCode": 40}, NoAnswer),
        ({"resultCode": 41}, NoAnswer),
        ({"resultCode": 10}, NoAnswer),
        ({"resultCode": 99}, NoAnswer),
        ({"resultCode": 1000}, NoAnswer),
        ({"resultCode": None}, NoAnswer),
        ({"resultCode": 0}, NoAnswer),
        ({"payUrl": "http://momo.test/pay"}, NoAnswer),
        ({"payUrl": "javascript:alert(1)"}, NoAnswer),
        ({"payUrl": "https://momo.test/\n"}, NoAnswer),
        ({"payUrl": "https://["}, NoAnswer),
        ({"payUrl": 7}, NoAnswer),
        ({"payUrl": "https://momo.test/pay", "amount": 2_000}, NoAnswer),
        ({"payUrl": "https://momo.test/pay", "orderId": "TT00000000AL"}, NoAnswer),
        ({"payUrl": "https://momo.test/pay", "requestId": "TT00000000AL"}, NoAnswer),
        ({"payUrl": "https://momo.test/pay", "partnerCode": "OMOM"}, NoAnswer),
    ],
)
async def test_payments_that_do_not_begin(said: dict[str, Any], raised: type[Exception]) -> None:
    with pytest.raises(raised) as caught:
        await Momo(answering(**said).wire).begin(MERCHANT, ORDER, now=NOW)
    if isinstance(caught.value, Refused):
        assert caught.value.code == str(said["resultCode"])


def test_an_ipn_is_heard() -> None:
    first = PROVIDER.hear(MERCHANT, posted(told()), now=NOW)
    assert first.finding == FINDING
    assert PROVIDER.hear(MERCHANT, posted(told()), now=NOW + timedelta(days=3)) == first
    backwards = dict(reversed(told().items())) | {"paymentOption": "momo", "promotionInfo": None, "userFee": 0}
    assert PROVIDER.hear(MERCHANT, posted(backwards), now=NOW) == first
    # Whichever of the keys in force are used, it is the same message.
    for access, secret in ((OLD_ACCESS, OLD_SECRET), (OLD_ACCESS, SECRET)):
        assert PROVIDER.hear(MERCHANT, posted(told(access, secret)), now=NOW) == first
    assert PROVIDER.hear(MERCHANT, posted(told(transId=5)), now=NOW).event_id != first.event_id
    for access, secret in (("ELSE", SECRET), (ACCESS, "else")):
        assert refusal(PROVIDER, MERCHANT, posted(told(access, secret))) is Verdict.BAD_SIGNATURE
    keyless = msgspec.structs.replace(MERCHANT, secrets={})
    assert refusal(PROVIDER, keyless, posted(told("", ""))) is Verdict.BAD_SIGNATURE


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        (0, Outcome.PAID),
        (1000, Outcome.PENDING),
        (7000, Outcome.PENDING),
        (7002, Outcome.PENDING),
        (9000, Outcome.PENDING),
        (1005, Outcome.FAILED),
        (1006, Outcome.FAILED),
        (99, Outcome.FAILED),
    ],
)
def test_what_the_code_says(code: int, outcome: Outcome) -> None:
    said = told(resultCode=code, transId=0 if code else 1)
    finding = hear(said)
    assert finding is not None
    assert (finding.outcome, finding.code, finding.transaction) == (outcome, str(code), None if code else "1")
    assert PROVIDER.came_back(MERCHANT, urlencode(said).encode(), now=NOW) == finding


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        ({}, Verdict.MALFORMED),
        (told() | {"signature": None}, Verdict.MALFORMED),
        (told() | {"signature": "ệ" * 64}, Verdict.BAD_SIGNATURE),
        (told() | {"accessKey": ACCESS}, Verdict.MALFORMED),
        (told() | {"fee": 0}, Verdict.MALFORMED),
        (told() | {"amount": 20_001}, Verdict.BAD_SIGNATURE),
        (told() | {"amount": 20_000.0}, Verdict.MALFORMED),
        (told() | {"amount": True}, Verdict.MALFORMED),
        (told() | {"message": ["x"]}, Verdict.MALFORMED),
        (told(message=None), Verdict.MALFORMED),
        (told(partnerCode="OMOM"), Verdict.NO_ORDER),
        (told(amount=-1), Verdict.MALFORMED),
        (told(amount="020000"), Verdict.MALFORMED),
        (told(amount=10**15), Verdict.MALFORMED),
        (told(orderId="TT\x00"), Verdict.MALFORMED),
        (told(orderId=""), Verdict.MALFORMED),
        (told(transId=0), Verdict.MALFORMED),
        (told(transId="-5"), Verdict.MALFORMED),
        (told(resultCode="zero"), Verdict.MALFORMED),
        # What parts the fields must not be in one: these two would be signed alike.
        (told(message="Thành công.&orderId=TT00000000AL"), Verdict.MALFORMED),
        # The clock of twelve hours, and what is no time at all.
        (told(responseTime="20220315101630"), Verdict.MALFORMED),
        (told(responseTime="10:16:30 AM"), Verdict.MALFORMED),
        (told(responseTime=1647314190), Verdict.MALFORMED),
        (told(responseTime=-1647314190000), Verdict.MALFORMED),
        (told(responseTime=1647314430000 + 900_001), Verdict.STALE),
        (told(responseTime=1647314430000 - 604_800_001), Verdict.STALE),
    ],
)
def test_what_cannot_be_believed_or_read_is_refused(said: dict[str, Any], verdict: Verdict) -> None:
    assert refusal(PROVIDER, MERCHANT, posted(said)) is verdict


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"amount":NaN}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        raw(told()).replace(b'"amount"', b'"amount": 1, "amount"'),
        raw(told()).replace("Thành công.".encode(), b"\\ud800"),
        urlencode(told()).encode(),
    ],
)
def test_only_strict_json_is_read(body: bytes) -> None:
    assert refusal(PROVIDER, MERCHANT, posted(body)) is Verdict.MALFORMED


def test_times_up_to_the_limits_are_taken() -> None:
    for at in (1647314430000 + 900_000, 1647314430000 - 604_800_000):
        assert hear(told(responseTime=at)) is not None


@pytest.mark.parametrize("changes", [{"method": "GET"}, {"what": "verify"}, {"query": b"a=1"}])
def test_only_a_post_is_an_ipn(changes: dict[str, Any]) -> None:
    assert refusal(PROVIDER, MERCHANT, msgspec.structs.replace(posted(told()), **changes)) is Verdict.MALFORMED


def test_one_wrong_character_is_found() -> None:
    right = raw(told())
    assert nothing_spoilt_is_taken(PROVIDER, MERCHANT, right, posted, json_meaning) < 60  # spaces of JSON


@given(st.binary(max_size=300) | st.text(max_size=100).map(lambda text: raw({"message": text})))
def test_whatever_the_bytes_are_nothing_else_is_raised(body: bytes) -> None:
    for message in (body, raw(told()) + body, raw(told())[:-1] + b"," + body):
        try:
            heard = PROVIDER.hear(MERCHANT, posted(message), now=NOW)
        except HookRefused:
            continue
        assert heard.finding == FINDING  # nothing but spaces was added
    assert PROVIDER.came_back(MERCHANT, body, now=NOW) is None


@pytest.mark.parametrize(
    ("verdict", "status"),
    [
        (Verdict.TAKEN, 204),
        (Verdict.KNOWN, 204),
        (Verdict.WRONG_AMOUNT, 204),
        (Verdict.NO_ORDER, 404),
        (Verdict.BAD_SIGNATURE, 400),
        (Verdict.MALFORMED, 400),
        (Verdict.STALE, 400),
        (Verdict.FORBIDDEN, 403),
        (Verdict.BROKEN, 503),
    ],
)
def test_answers(verdict: Verdict, status: int) -> None:
    answer = PROVIDER.answer(MERCHANT, verdict, {}, now=NOW)
    assert (answer.status, answer.body) == (status, b"")


def test_the_browser_comes_back() -> None:
    query = urlencode(told()).encode()
    assert PROVIDER.came_back(MERCHANT, b"bill=1&lang=vi&" + query, now=NOW) == FINDING
    assert PROVIDER.came_back(MERCHANT, query, now=NOW + timedelta(days=400)) == FINDING
    for shown in (
        b"",
        query + b"&amount=20000",
        query.replace(b"amount=20000", b"amount=30000"),
        query.replace(b"signature=", b"sign="),
        urlencode(told(partnerCode="OMOM")).encode(),
        urlencode(told(message="a&b")).encode(),
        urlencode(told(responseTime="now")).encode(),
    ):
        assert PROVIDER.came_back(MERCHANT, shown, now=NOW) is None


async def test_an_order_is_asked_about() -> None:
    peer = answering(transId=2147483647)
    for later in (timedelta(0), timedelta(seconds=1)):
        finding = await Momo(peer.wire).inquire(MERCHANT, ORDER, now=NOW + later)
        assert finding == msgspec.structs.replace(FINDING, at=None)
    first, second = peer.asked
    assert peer.paths[0] == "/v2/gateway/api/query"
    assert (first["requestId"], second["requestId"]) == ("TT00000000AK-1647314430000", "TT00000000AK-1647314431000")
    assert first.pop("signature") == momo_hash(first | {"accessKey": ACCESS}, QUERY, SECRET)
    assert first.keys() == {"partnerCode", "orderId", "requestId", "lang"}


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        ({"resultCode": 1000}, Outcome.PENDING),
        ({"resultCode": 7000}, Outcome.PENDING),
        ({"resultCode": 7002, "transId": 5}, Outcome.PENDING),
        ({"resultCode": 9000, "transId": 5}, Outcome.PENDING),
        ({"resultCode": 1005, "transId": 0}, Outcome.FAILED),
        ({"resultCode": "1006"}, Outcome.FAILED),
        ({"resultCode": 42, "amount": None}, Outcome.ABSENT),
        # What is wrong with the question says nothing of the order.
        ({"resultCode": 10}, None),
        ({"resultCode": 13}, None),
        ({"resultCode": 40}, None),
        ({"resultCode": 99}, None),
        ({"resultCode": 123456}, None),
        ({"resultCode": 0.0}, None),
        ({"resultCode": 0, "transId": 0}, None),
        ({"resultCode": 0, "transId": "x"}, None),
        ({"resultCode": 0, "transId": 5, "amount": None}, None),
        ({"resultCode": 0, "transId": 5, "amount": "2e4"}, None),
        ({"resultCode": 0, "transId": 5, "orderId": "TT00000000AL"}, None),
        ({"resultCode": 0, "transId": 5, "requestId": "TT00000000AK-1"}, None),
        ({"resultCode": 0, "transId": 5, "partnerCode": "OMOM"}, None),
    ],
)
async def test_what_an_inquiry_finds(said: dict[str, Any], outcome: Outcome | None) -> None:
    provider = Momo(answering(**said).wire)
    if outcome is None:
        with pytest.raises(NoAnswer):
            await provider.inquire(MERCHANT, ORDER, now=NOW)
    else:
        finding = await provider.inquire(MERCHANT, ORDER, now=NOW)
        assert (finding.outcome, finding.references) == (outcome, [ORDER.reference])


async def test_nothing_is_believed_when_it_goes_wrong() -> None:
    await meets_trouble(lambda wire: Momo(wire).begin(MERCHANT, ORDER, now=NOW))
    await meets_trouble(lambda wire: Momo(wire).inquire(MERCHANT, ORDER, now=NOW))
    await meets_trouble(lambda wire: Momo(wire).refund(MERCHANT, GIVEN_BACK, now=NOW))
    await meets_trouble(lambda wire: Momo(wire).inquire_refund(MERCHANT, GIVEN_BACK, now=NOW))
    await needs_settings(MERCHANT, lambda wire, bare: Momo(wire).begin(bare, ORDER, now=NOW))
    await needs_settings(MERCHANT, lambda wire, bare: Momo(wire).refund(bare, GIVEN_BACK, now=NOW))


@pytest.mark.parametrize("url", ["http://momo.test", "ftp://momo.test", "momo.test", "https://", ""])
async def test_answers_without_signatures_need_tls(url: str) -> None:
    peer = answering(transId=5)
    with pytest.raises(NotSent):
        await Momo(peer.wire).inquire(msgspec.structs.replace(MERCHANT, options={"url": url}), ORDER, now=NOW)
    assert peer.asked == []


async def test_on_a_real_socket() -> None:
    said = raw(answered({"partnerCode": "MOMO", "orderId": GIVEN_BACK.reference, "requestId": GIVEN_BACK.reference}))
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    async with socket_that(head % len(said[:-1]) + said[:-1]) as address:
        merchant = msgspec.structs.replace(MERCHANT, options={"url": address})
        wire = Wire(patience=0.3)
        with pytest.raises(NoAnswer):
            await Momo(wire).refund(merchant, GIVEN_BACK, now=NOW)
        await wire.close()
    full = raw(json.loads(said) | {"transId": 9})
    async with socket_that(head % len(full) + full) as address:
        merchant = msgspec.structs.replace(MERCHANT, options={"url": address})
        wire = Wire(patience=5)
        assert (await Momo(wire).refund(merchant, GIVEN_BACK, now=NOW)).outcome is Outcome.PAID
        await wire.close()


async def test_money_is_given_back() -> None:
    peer = answering(transId=144492817)
    for later in (timedelta(0), timedelta(hours=1)):
        assert await Momo(peer.wire).refund(MERCHANT, GIVEN_BACK, now=NOW + later) == Finding(
            references=[GIVEN_BACK.reference], outcome=Outcome.PAID, amount=20_000, transaction="144492817", code="0"
        )
    first, second = peer.asked
    assert first == second
    assert peer.paths[0] == "/v2/gateway/api/refund"
    texts = {name: str(value) for name, value in first.items()} | {"accessKey": ACCESS}
    assert momo_text(texts, REFUND) == (
        "accessKey=AK&amount=20000&description=Nop trung&orderId=HT00000000AC&partnerCode=MOMO"
        "&requestId=HT00000000AC&transId=14422574"
    )
    assert first["signature"] == momo_hash(texts, REFUND, SECRET)
    assert (first["amount"], first["transId"]) == (20_000, 14422574)


@pytest.mark.parametrize(
    ("said", "result"),
    [
        ({"resultCode": 7002}, Outcome.PENDING),
        ({"resultCode": 1080}, "1080"),
        ({"resultCode": 1081}, "1081"),
        ({"resultCode": 1088}, "1088"),
        ({"resultCode": 22}, "22"),
        ({"resultCode": 40}, NoAnswer),
        ({"resultCode": 41}, NoAnswer),
        ({"resultCode": 99}, NoAnswer),
        ({"resultCode": 0}, NoAnswer),
        ({"resultCode": 0, "transId": 9, "amount": 10_000}, NoAnswer),
        ({"resultCode": 0, "transId": 9, "orderId": ORDER.reference}, NoAnswer),
    ],
)
async def test_what_comes_of_a_refund_at_once(said: dict[str, Any], result: Outcome | str | type[Exception]) -> None:
    provider = Momo(answering(**said).wire)
    if isinstance(result, Outcome):
        assert (await provider.refund(MERCHANT, GIVEN_BACK, now=NOW)).outcome is result
    elif isinstance(result, str):
        with pytest.raises(Refused) as caught:
            await provider.refund(MERCHANT, GIVEN_BACK, now=NOW)
        assert caught.value.code == result
    else:
        with pytest.raises(result):
            await provider.refund(MERCHANT, GIVEN_BACK, now=NOW)


async def test_what_momo_does_not_know_by_number_is_not_asked_back() -> None:
    peer = answering(transId=9)
    refund = msgspec.structs.replace(GIVEN_BACK, transaction="FT22074/1")
    with pytest.raises(Refused):
        await Momo(peer.wire).refund(MERCHANT, refund, now=NOW)
    assert peer.asked == []


ENTRY = {"orderId": GIVEN_BACK.reference, "amount": 20_000, "resultCode": 0, "transId": 9}


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        ({"transId": 9}, Outcome.PAID),
        ({"resultCode": 7000}, Outcome.PENDING),
        ({"resultCode": 1081}, Outcome.FAILED),
        ({"resultCode": 42}, Outcome.ABSENT),
        ({"refundTrans": [{"orderId": "HT00000000AD"}, ENTRY]}, Outcome.PAID),
        ({"refundTrans": [ENTRY | {"resultCode": 7002, "transId": 0}]}, Outcome.PENDING),
        ({"refundTrans": [ENTRY | {"resultCode": 1088, "transId": 0}]}, Outcome.FAILED),
        ({"refundTrans": []}, None),
        ({"refundTrans": [ENTRY, ENTRY]}, None),
        ({"refundTrans": "none"}, None),
        ({"refundTrans": [ENTRY | {"amount": 10_000}]}, None),
        ({"refundTrans": [ENTRY | {"transId": 0}]}, None),
        ({"refundTrans": [ENTRY | {"resultCode": None}]}, None),
        ({"transId": 9, "amount": 10_000}, None),
        ({"resultCode": 13}, None),
    ],
)
async def test_a_refund_is_asked_about(said: dict[str, Any], outcome: Outcome | None) -> None:
    peer = answering(**said)
    if outcome is None:
        with pytest.raises(NoAnswer):
            await Momo(peer.wire).inquire_refund(MERCHANT, GIVEN_BACK, now=NOW)
    else:
        finding = await Momo(peer.wire).inquire_refund(MERCHANT, GIVEN_BACK, now=NOW)
        assert (finding.outcome, finding.references) == (outcome, [GIVEN_BACK.reference])
        assert finding.transaction == ("9" if outcome is Outcome.PAID else None)
    assert peer.paths == ["/v2/gateway/api/refund/query"]
    asked = peer.asked[0]
    assert (asked["orderId"], asked["requestId"]) == (GIVEN_BACK.reference, f"{GIVEN_BACK.reference}-1647314430000")
