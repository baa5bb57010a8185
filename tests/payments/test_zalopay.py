"""ZaloPay: its vector, what it is asked and answers, and what is made of its callbacks."""

import json
from collections.abc import Callable
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
from bkapp.payments.providers.zalopay import RETURNED, Zalopay, data_hash, order_name, refund_name, zalopay_hash
from tests.payments.wallets import (
    HOME,
    NOW,
    ORDER,
    REFUND,
    Peer,
    json_meaning,
    meets_trouble,
    needs_settings,
    nothing_spoilt_is_taken,
    posted,
    refusal,
    socket_that,
)

KEY1, KEY2, OLD_KEY2 = "s3cret", "callback s3cret", "the one before"
MERCHANT = Merchant(
    key="zalopay",
    provider="zalopay",
    code="2553",
    secrets={"key1": [KEY1, "another"], "key2": [KEY2, OLD_KEY2]},
    options={"url": "https://zalopay.test"},
    home=HOME,
)
PROVIDER = Zalopay(Wire())
NAME = f"220315_{ORDER.reference}"

PAID: dict[str, Any] = {
    "app_id": 2553,
    "app_trans_id": NAME,
    "app_time": 1647314130000,
    "app_user": "bkapp",
    "amount": 20_000,
    "embed_data": '{"redirecturl":"https://app.example.vn/thanh-toan/ve?bill=1&lang=vi"}',
    "item": "[]",
    "zp_trans_id": 220315000000389,
    "server_time": 1647314190000,
    "channel": 38,
    "merchant_user_id": "7ZMSl3nEg5sOUJzOLSoUFT8xKNQVaLOLXHB--8Eytqc",
    "user_fee_amount": 0,
    "discount_amount": 0,
}
FINDING = Finding(
    references=[ORDER.reference],
    outcome=Outcome.PAID,
    amount=20_000,
    transaction="220315000000389",
    at=datetime(2022, 3, 15, 3, 16, 30, tzinfo=UTC),
    code="1",
)


def told(key: str = KEY2, **changes: object) -> dict[str, Any]:
    """A signed callback; a field of its data that is changed to None is left out."""
    data = json.dumps({name: value for name, value in (PAID | changes).items() if value is not None})
    return {"data": data, "mac": data_hash(key, data), "type": 1}


def signed(data: str) -> dict[str, Any]:
    return {"data": data, "mac": data_hash(KEY2, data), "type": 1}


def raw(said: dict[str, Any]) -> bytes:
    return json.dumps(said).encode()


def hear(said: dict[str, Any]) -> Finding | None:
    return PROVIDER.hear(MERCHANT, posted(said), now=NOW).finding


def test_it_is_a_provider_that_gives_money_back() -> None:
    provider: Provider = PROVIDER
    assert isinstance(provider, Refunds)


def test_vector() -> None:
    mac = "87251baff494a73dd853ea0a4885834f8a4f9cddb6c1c6ba831ba357b39a05c4"
    assert zalopay_hash("s3cret", 2553, "220315_0001", "user123", 20_000, 1647314130000, "{}", "[]") == mac
    assert data_hash("s3cret", "2553|220315_0001|user123|20000|1647314130000|{}|[]") == mac
    with pytest.raises(ValueError, match="parts values"):
        zalopay_hash("s3cret", 2553, "220315_0001|user123", 20_000)


def test_the_day_in_a_name_is_that_of_viet_nam() -> None:
    late = datetime(2022, 3, 15, 16, 59, 59, tzinfo=UTC)
    order = msgspec.structs.replace(ORDER, created_at=late)
    assert order_name(order) == "220315_TT00000000AK"
    assert order_name(msgspec.structs.replace(order, created_at=late + timedelta(seconds=1))) == "220316_TT00000000AK"
    refund = msgspec.structs.replace(REFUND, requested_at=late + timedelta(seconds=1))
    assert refund_name(MERCHANT, refund) == "220316_2553_HT00000000AC"


def answering(**said: Any) -> Peer:
    return Peer(lambda _: said)


async def test_a_payment_is_begun() -> None:
    peer = answering(return_code=1, sub_return_code=1, order_url="https://zalopay.test/pay?order=e", order_token="t")
    for later in (timedelta(0), timedelta(minutes=9)):
        begun = await Zalopay(peer.wire).begin(MERCHANT, ORDER, now=NOW + later)
        assert (begun.redirect_url, begun.qr, begun.token) == ("https://zalopay.test/pay?order=e", None, None)
    first, second = peer.asked
    assert first == second
    assert peer.paths[0] == "/v2/create"
    embedded = '{"redirecturl":"https://app.example.vn/thanh-toan/ve?bill=1&lang=vi"}'
    assert first == {
        "app_id": 2553,
        "app_user": "bkapp",
        "app_trans_id": NAME,
        "app_time": 1647314130000,
        "amount": 20_000,
        "description": "Thanh toan HD00000000AB 000.00.01.H03-220315-0001",
        "callback_url": f"{HOME}/api/v1/payments/hooks/zalopay",
        "redirect_url": ORDER.return_url,
        "embed_data": embedded,
        "item": "[]",
        "mac": data_hash(KEY1, f"2553|{NAME}|bkapp|20000|1647314130000|{embedded}|[]"),
    }


@pytest.mark.parametrize(
    ("said", "result"),
    [
        ({"return_code": 2, "sub_return_code": -402}, "-402"),
        ({"return_code": 2, "sub_return_code": -429}, "-429"),
        ({"return_code": -401}, "-401"),
        # There is one already, or nobody knows.
        ({"return_code": 2, "sub_return_code": -68}, None),
        ({"return_code": 2, "sub_return_code": -500}, None),
        ({"return_code": 2}, None),
        ({"return_code": 3}, None),
        ({"return_code": True, "order_url": "https://zalopay.test/"}, None),
        ({"return_code": "one", "order_url": "https://zalopay.test/"}, None),
        ({"return_code": 1}, None),
        ({"return_code": 1, "order_url": "http://zalopay.test/"}, None),
        ({"return_code": 1, "order_url": ["https://zalopay.test/"]}, None),
    ],
)
async def test_payments_that_do_not_begin(said: dict[str, Any], result: str | None) -> None:
    with pytest.raises(Refused if result else NoAnswer) as caught:
        await Zalopay(answering(**said).wire).begin(MERCHANT, ORDER, now=NOW)
    if isinstance(caught.value, Refused):
        assert caught.value.code == result


def test_a_callback_is_heard() -> None:
    first = PROVIDER.hear(MERCHANT, posted(told()), now=NOW)
    assert first.finding == FINDING
    assert PROVIDER.hear(MERCHANT, posted(told()), now=NOW + timedelta(days=3)) == first
    assert PROVIDER.hear(MERCHANT, posted(told(OLD_KEY2)), now=NOW) == first
    assert PROVIDER.hear(MERCHANT, posted({"mac": told()["mac"], "data": told()["data"]}), now=NOW) == first
    assert PROVIDER.hear(MERCHANT, posted(told(zp_trans_id="220315000000390")), now=NOW).event_id != first.event_id
    # The data are signed as they are written, and not as they would be written again.
    for text in (json.dumps(PAID, separators=(",", ":")), json.dumps(PAID, indent=1), json.dumps(PAID, sort_keys=True)):
        assert hear(signed(text)) == FINDING
    respaced = told() | {"data": told()["data"].replace(", ", ",")}
    assert refusal(PROVIDER, MERCHANT, posted(respaced)) is Verdict.BAD_SIGNATURE
    for key in (KEY1, "else", ""):
        assert refusal(PROVIDER, MERCHANT, posted(told(key))) is Verdict.BAD_SIGNATURE
    keyless = msgspec.structs.replace(MERCHANT, secrets={})
    assert refusal(PROVIDER, keyless, posted(told(""))) is Verdict.BAD_SIGNATURE


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        ({}, Verdict.MALFORMED),
        (told() | {"mac": None}, Verdict.MALFORMED),
        (told() | {"mac": "đ" * 64}, Verdict.BAD_SIGNATURE),
        (told() | {"data": PAID}, Verdict.MALFORMED),
        (told() | {"type": 2}, Verdict.MALFORMED),
        (told() | {"type": None}, Verdict.MALFORMED),
        (told() | {"amount": 5}, Verdict.MALFORMED),
        (signed("[]"), Verdict.MALFORMED),
        (told() | {"data": "\ud800"}, Verdict.MALFORMED),
        (signed('{"app_id":2553,"app_id":2553}'), Verdict.MALFORMED),
        (signed("[" * 50_000), Verdict.MALFORMED),
        (told(app_id=2554), Verdict.NO_ORDER),
        (told(app_id=None), Verdict.MALFORMED),
        (told(app_trans_id=None), Verdict.MALFORMED),
        (told(app_trans_id=ORDER.reference), Verdict.MALFORMED),
        (told(app_trans_id="220315_TT\x00"), Verdict.MALFORMED),
        (told(amount=None), Verdict.MALFORMED),
        (told(amount=-20_000), Verdict.MALFORMED),
        (told(amount=20_000.5), Verdict.MALFORMED),
        (told(amount="2e4"), Verdict.MALFORMED),
        (told(zp_trans_id=None), Verdict.MALFORMED),
        (told(zp_trans_id=0), Verdict.MALFORMED),
        (told(zp_trans_id="1|2"), Verdict.MALFORMED),
        # The clock of twelve hours, and what is no time at all.
        (told(server_time="10:16:30 AM"), Verdict.MALFORMED),
        (told(server_time="20220315101630"), Verdict.MALFORMED),
        (told(server_time=1647314190), Verdict.MALFORMED),
        (told(server_time=None), Verdict.STALE),
        (told(server_time=1647314430000 + 900_001), Verdict.STALE),
        (told(server_time=1647314430000 - 604_800_001), Verdict.STALE),
    ],
)
def test_what_cannot_be_believed_or_read_is_refused(said: dict[str, Any], verdict: Verdict) -> None:
    assert refusal(PROVIDER, MERCHANT, posted(raw(said))) is verdict


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"data":NaN}',
        b"[" * 100_000,
        raw(told())[:-1] + b',"type":1}',
        urlencode(told()).encode(),
    ],
)
def test_only_strict_json_is_read(body: bytes) -> None:
    assert refusal(PROVIDER, MERCHANT, posted(body)) is Verdict.MALFORMED


def test_times_up_to_the_limits_are_taken() -> None:
    for at in (1647314430000 + 900_000, 1647314430000 - 604_800_000):
        assert hear(told(server_time=at)) is not None


@pytest.mark.parametrize("changes", [{"method": "GET"}, {"what": "verify"}, {"query": b"a=1"}])
def test_only_a_post_is_a_callback(changes: dict[str, Any]) -> None:
    assert refusal(PROVIDER, MERCHANT, msgspec.structs.replace(posted(told()), **changes)) is Verdict.MALFORMED


def test_one_wrong_character_is_found() -> None:
    right = raw(told())
    assert nothing_spoilt_is_taken(PROVIDER, MERCHANT, right, posted, json_meaning) < 20  # spaces of JSON


@given(st.binary(max_size=300) | st.text(max_size=100).map(lambda text: raw({"data": text, "mac": text})))
def test_whatever_the_bytes_are_nothing_else_is_raised(body: bytes) -> None:
    for message in (body, raw(told()) + body, raw(signed(body.decode("latin-1")))):
        try:
            heard = PROVIDER.hear(MERCHANT, posted(message), now=NOW)
        except HookRefused:
            continue
        assert heard.finding == FINDING  # nothing but spaces was added
    assert PROVIDER.came_back(MERCHANT, body, now=NOW) is None


@pytest.mark.parametrize(
    ("verdict", "code"),
    [
        (Verdict.TAKEN, 1),
        (Verdict.KNOWN, 2),
        (Verdict.WRONG_AMOUNT, 2),
        (Verdict.NO_ORDER, 0),
        (Verdict.BROKEN, 0),
        (Verdict.BAD_SIGNATURE, -1),
        (Verdict.MALFORMED, -1),
        (Verdict.FORBIDDEN, -1),
        (Verdict.STALE, -1),
    ],
)
def test_answers(verdict: Verdict, code: int) -> None:
    answer = PROVIDER.answer(MERCHANT, verdict, {}, now=NOW)
    assert (answer.status, answer.media_type) == (200, "application/json")
    said = json.loads(answer.body)
    assert said["return_code"] == code
    assert said["return_message"]


def shown(key: str = KEY2, **changes: str) -> bytes:
    fields = {
        "appid": "2553",
        "apptransid": NAME,
        "pmcid": "38",
        "bankcode": "",
        "amount": "20000",
        "discountamount": "0",
        "status": "1",
    } | changes
    return urlencode(fields | {"checksum": data_hash(key, "|".join(fields[name] for name in RETURNED))}).encode()


def test_the_browser_comes_back() -> None:
    finding = msgspec.structs.replace(FINDING, transaction=None, at=None)
    assert PROVIDER.came_back(MERCHANT, b"bill=1&lang=vi&" + shown(), now=NOW) == finding
    assert PROVIDER.came_back(MERCHANT, shown(OLD_KEY2), now=NOW + timedelta(days=400)) == finding
    failed = PROVIDER.came_back(MERCHANT, shown(status="-49"), now=NOW)
    assert failed == msgspec.structs.replace(finding, outcome=Outcome.FAILED, code="-49")
    for query in (
        b"",
        shown(KEY1),
        shown() + b"&status=1",
        shown(status="-49").replace(b"status=-49", b"status=1"),
        shown(appid="2554"),
        shown(amount="x"),
        shown(status="paid"),
        shown(apptransid="TT"),
        shown(bankcode="VCB|20000"),
    ):
        assert PROVIDER.came_back(MERCHANT, query, now=NOW) is None


async def test_an_order_is_asked_about() -> None:
    said = {"return_code": 1, "amount": 20_000, "zp_trans_id": 220315000000389, "server_time": 1647314190000}
    peer = answering(**said)
    assert await Zalopay(peer.wire).inquire(MERCHANT, ORDER, now=NOW) == FINDING
    assert peer.paths == ["/v2/query"]
    assert peer.asked == [{"app_id": 2553, "app_trans_id": NAME, "mac": data_hash(KEY1, f"2553|{NAME}|{KEY1}")}]
    # Days later it is still the order of its day.
    await Zalopay(peer.wire).inquire(MERCHANT, ORDER, now=NOW + timedelta(days=2))
    assert peer.asked[0] == peer.asked[1]


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        ({"return_code": 1, "amount": 20_000, "zp_trans_id": "220315000000389"}, Outcome.PAID),
        ({"return_code": 3}, Outcome.PENDING),
        ({"return_code": 3, "is_processing": True, "amount": 0}, Outcome.PENDING),
        ({"return_code": 2, "is_processing": True}, Outcome.PENDING),
        ({"return_code": 2, "sub_return_code": -63}, Outcome.PENDING),
        ({"return_code": 2, "sub_return_code": -54}, Outcome.FAILED),
        ({"return_code": 2, "sub_return_code": -217}, Outcome.FAILED),
        ({"return_code": 2}, Outcome.FAILED),
        ({"return_code": 2, "sub_return_code": -101}, Outcome.ABSENT),
        # What is wrong with the question says nothing of the order.
        ({"return_code": 2, "sub_return_code": -92}, None),
        ({"return_code": 2, "sub_return_code": -402}, None),
        ({"return_code": 2, "sub_return_code": -500}, None),
        ({"return_code": -429}, None),
        ({"return_code": -500}, None),
        ({"return_code": 0}, None),
        ({"return_code": 1, "amount": 20_000}, None),
        ({"return_code": 1, "amount": 20_000, "zp_trans_id": 0}, None),
        ({"return_code": 1, "zp_trans_id": 5}, None),
        ({"return_code": 1, "amount": "20 000", "zp_trans_id": 5}, None),
        ({"return_code": 1, "amount": 20_000, "zp_trans_id": 5, "server_time": 0}, None),
        ({"return_code": [1]}, None),
    ],
)
async def test_what_an_inquiry_finds(said: dict[str, Any], outcome: Outcome | None) -> None:
    provider = Zalopay(answering(**said).wire)
    if outcome is None:
        with pytest.raises(NoAnswer):
            await provider.inquire(MERCHANT, ORDER, now=NOW)
    else:
        finding = await provider.inquire(MERCHANT, ORDER, now=NOW)
        assert (finding.outcome, finding.references) == (outcome, [ORDER.reference])


async def test_nothing_is_believed_when_it_goes_wrong() -> None:
    await meets_trouble(lambda wire: Zalopay(wire).begin(MERCHANT, ORDER, now=NOW))
    await meets_trouble(lambda wire: Zalopay(wire).inquire(MERCHANT, ORDER, now=NOW))
    await meets_trouble(lambda wire: Zalopay(wire).refund(MERCHANT, REFUND, now=NOW))
    await meets_trouble(lambda wire: Zalopay(wire).inquire_refund(MERCHANT, REFUND, now=NOW))
    await needs_settings(MERCHANT, lambda wire, bare: Zalopay(wire).begin(bare, ORDER, now=NOW))
    await needs_settings(MERCHANT, lambda wire, bare: Zalopay(wire).inquire(bare, ORDER, now=NOW))
    await needs_settings(MERCHANT, lambda wire, bare: Zalopay(wire).refund(bare, REFUND, now=NOW))


async def test_answers_without_signatures_need_tls() -> None:
    peer = answering(return_code=3)
    plain = msgspec.structs.replace(MERCHANT, options={"url": "http://zalopay.test"})
    with pytest.raises(NotSent):
        await Zalopay(peer.wire).inquire(plain, ORDER, now=NOW)
    assert peer.asked == []


async def test_on_a_real_socket() -> None:
    said = b'{"return_code":1,"refund_id":9}'
    head = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    cases: list[tuple[bytes, Callable[[Finding], bool] | None]] = [
        (head % (b"200 OK", len(said)) + said, lambda finding: finding.outcome is Outcome.PAID),
        (head % (b"200 OK", 900) + said, None),
        (head % (b"502 Bad Gateway", len(said)) + said, None),
        (b"", None),
    ]
    for says, right in cases:
        async with socket_that(says) as address:
            merchant = msgspec.structs.replace(MERCHANT, options={"url": address})
            wire = Wire(patience=0.5)
            if right is None:
                with pytest.raises(NoAnswer):
                    await Zalopay(wire).refund(merchant, REFUND, now=NOW)
            else:
                assert right(await Zalopay(wire).refund(merchant, REFUND, now=NOW))
            await wire.close()


async def test_money_is_given_back() -> None:
    peer = answering(return_code=3, sub_return_code=2, refund_id=190308000000123)
    now = NOW + timedelta(hours=2)
    assert await Zalopay(peer.wire).refund(MERCHANT, REFUND, now=now) == Finding(
        references=[REFUND.reference], outcome=Outcome.PENDING, transaction="190308000000123", code="3"
    )
    assert peer.paths == ["/v2/refund"]
    assert peer.asked == [
        {
            "app_id": 2553,
            "m_refund_id": "220315_2553_HT00000000AC",
            "zp_trans_id": "14422574",
            "amount": 20_000,
            "timestamp": 1647321630000,
            "description": "Nop trung",
            "mac": data_hash(KEY1, "2553|14422574|20000|Nop trung|1647321630000"),
        }
    ]


@pytest.mark.parametrize(
    ("said", "result"),
    [
        ({"return_code": 1, "refund_id": 5}, Outcome.PAID),
        ({"return_code": 3}, Outcome.PENDING),
        ({"return_code": 2, "sub_return_code": -14}, "-14"),
        ({"return_code": 2, "sub_return_code": -25}, "-25"),
        ({"return_code": 2, "sub_return_code": -101}, "-101"),
        ({"return_code": -402}, "-402"),
        ({"return_code": 2, "sub_return_code": -23}, NoAnswer),
        ({"return_code": 2, "sub_return_code": -500}, NoAnswer),
        ({"return_code": 2}, NoAnswer),
        ({"return_code": 1, "refund_id": "\x00"}, NoAnswer),
        ({"return_code": 1, "refund_id": 0.5}, NoAnswer),
    ],
)
async def test_what_comes_of_a_refund_at_once(said: dict[str, Any], result: Outcome | str | type[Exception]) -> None:
    provider = Zalopay(answering(**said).wire)
    if isinstance(result, Outcome):
        assert (await provider.refund(MERCHANT, REFUND, now=NOW)).outcome is result
    elif isinstance(result, str):
        with pytest.raises(Refused) as caught:
            await provider.refund(MERCHANT, REFUND, now=NOW)
        assert caught.value.code == result
    else:
        with pytest.raises(result):
            await provider.refund(MERCHANT, REFUND, now=NOW)


async def test_what_zalopay_does_not_know_by_number_is_not_asked_back() -> None:
    peer = answering(return_code=1)
    refund = msgspec.structs.replace(REFUND, transaction="FT22074|1")
    with pytest.raises(Refused):
        await Zalopay(peer.wire).refund(MERCHANT, refund, now=NOW)
    assert peer.asked == []


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        ({"return_code": 1, "sub_return_code": 1}, Outcome.PAID),
        ({"return_code": 3, "sub_return_code": -1}, Outcome.PENDING),
        ({"return_code": 2, "sub_return_code": 0}, Outcome.FAILED),
        ({"return_code": 2, "sub_return_code": -14}, Outcome.FAILED),
        ({"return_code": 2, "sub_return_code": -101}, Outcome.ABSENT),
        ({"return_code": -429}, None),
        ({"return_code": 2, "sub_return_code": -500}, None),
    ],
)
async def test_a_refund_is_asked_about(said: dict[str, Any], outcome: Outcome | None) -> None:
    peer = answering(**said)
    if outcome is None:
        with pytest.raises(NoAnswer):
            await Zalopay(peer.wire).inquire_refund(MERCHANT, REFUND, now=NOW)
    else:
        finding = await Zalopay(peer.wire).inquire_refund(MERCHANT, REFUND, now=NOW)
        assert (finding.outcome, finding.references) == (outcome, [REFUND.reference])
    name = "220315_2553_HT00000000AC"
    assert peer.paths == ["/v2/query_refund"]
    assert peer.asked[0]["m_refund_id"] == name
    assert peer.asked[0]["mac"] == data_hash(KEY1, f"2553|{name}|1647314430000")
