"""KeyPay: two keys, callbacks that sign little, and the old protocol, which is off."""

import asyncio
import json
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bkapp.payments.providers import (
    Finding,
    Hearing,
    HookRefused,
    Merchant,
    NoAnswer,
    NotSent,
    Outcome,
    Provider,
    Refused,
    Verdict,
)
from bkapp.payments.providers.calling import Wire
from bkapp.payments.providers.keypay import (
    DETAIL_SIGNED,
    PAY_SIGNED,
    Keypay,
    detail_checksum,
    legacy_hash,
    pay_checksum,
)
from bkapp.payments.providers.wire import read_query
from tests.payments.provider_peers import (
    BROKEN_BODIES,
    NOW,
    ORDER,
    REFERENCE,
    UNREADABLE,
    answer,
    mangled,
    post,
    tampered,
    wire,
    wire_to,
)

FIRST, SECOND, OLD_KEY = "s3cret", "an0ther", "k3y"
MERCHANT = Merchant(
    key="keypay",
    provider="keypay",
    code="CLIENT1",
    secrets={"hash_1": (FIRST,), "hash_2": (SECOND, "older")},
    options={"pay_url": "https://keypay.test/pay", "detail_url": "https://keypay.test/detail"},
    home="https://bkapp.example",
)
OLD = msgspec.structs.replace(
    MERCHANT,
    secrets={"legacy": (OLD_KEY, "older")},
    options={"legacy": "1", "legacy_url": "https://keypay.test/process"},
)
KEYPAY: Provider = Keypay(Wire())
PAGE = "https://keypay.test/page?t=1"
SIGNED = {
    "addition_fee": "0",
    "client_id": "CLIENT1",
    "command": "PAY",
    "trans_amount": "20000",
    "transaction_id": REFERENCE,
    "version": "3.0",
}
PAID = Finding(references=[REFERENCE], outcome=Outcome.PAID, amount=20_000, transaction="KP42", code="0")
BROUGHT = {
    "command": "pay",
    "merchant_trans_id": REFERENCE,
    "merchant_code": "CLIENT1",
    "response_code": "00",
    "trans_id": "KP42",
    "good_code": "HD0123456789",
    "net_cost": "20000",
    "ship_fee": "0",
    "tax": "0",
    "service_code": "720",
    "currency_code": "704",
}


def callback(secret: str = SECOND, after: dict[str, Any] | None = None, **changed: Any) -> bytes:
    """A callback, signed after its fields were changed, and changed again after that."""
    fields = {**SIGNED, **{name: value for name, value in changed.items() if name in SIGNED}}
    said = {"status": 0, "transaction_code": "KP42", "payment_fee": 1100, **fields, **changed}
    said |= {"check_sum": pay_checksum(fields, secret), **(after or {})}
    return json.dumps({name: value for name, value in said.items() if value is not None}).encode()


def hear(body: bytes) -> Hearing:
    return KEYPAY.hear(MERCHANT, post(body), now=NOW)


def refused(body: bytes) -> Verdict:
    with pytest.raises(HookRefused) as caught:
        hear(body)
    return caught.value.verdict


class TestVectors:
    def test_the_known_checksum(self) -> None:
        text = "0|CLIENT1|PAY|20000|123_abcdef|3.0"
        right = "b625fc6f8b327d5c483d5a97266e6cad3169b4fd32422e0297ff7d89b92b434d"
        assert pay_checksum(dict(zip(PAY_SIGNED, text.split("|"), strict=True)), "s3cret") == right

    def test_a_bar_within_any_field_is_refused(self) -> None:
        for name in PAY_SIGNED:
            with pytest.raises(ValueError, match=r"\|"):
                pay_checksum({**SIGNED, name: "a|b"}, FIRST)
        for name in DETAIL_SIGNED:
            with pytest.raises(ValueError, match=r"\|"):
                detail_checksum({**SIGNED, name: "a|b"}, FIRST)


class TestCallbacks:
    def test_a_callback_is_believed_when_the_second_key_signed_it(self) -> None:
        heard = hear(callback())
        assert heard.finding == PAID
        assert heard.event_id == hear(callback("older")).event_id == hear(callback(payment_fee=0)).event_id
        assert refused(callback(FIRST)) is Verdict.BAD_SIGNATURE

    def test_a_failure_and_the_success_after_it_are_two_messages(self) -> None:
        failed = hear(callback(status=5))
        assert failed.finding is not None
        assert failed.finding.outcome is Outcome.FAILED
        assert failed.event_id != hear(callback()).event_id

    @pytest.mark.parametrize(
        ("status", "outcome"), [("0", Outcome.PAID), (1, Outcome.PENDING), ("2", Outcome.FAILED), (-1, Outcome.FAILED)]
    )
    def test_what_a_status_means(self, status: object, outcome: Outcome) -> None:
        finding = hear(callback(status=status)).finding
        assert finding is not None
        assert (finding.outcome, finding.amount) == (outcome, 20_000)

    def test_which_statuses_are_not_final_can_be_set(self) -> None:
        merchant = msgspec.structs.replace(MERCHANT, options={"pending_statuses": "7 9"})
        outcomes = [
            KEYPAY.hear(merchant, post(callback(status=status)), now=NOW).finding.outcome  # type: ignore[union-attr]
            for status in (1, 7, 9)
        ]
        assert outcomes == [Outcome.FAILED, Outcome.PENDING, Outcome.PENDING]

    @pytest.mark.parametrize(
        ("body", "verdict"),
        [
            *((callback(after={name: None}), Verdict.MALFORMED) for name in [*PAY_SIGNED, "status", "check_sum"]),
            *((body, Verdict.MALFORMED) for body in BROKEN_BODIES.values()),
            (callback(client_id="CLIENT2"), Verdict.NO_ORDER),
            (callback(command="REFUND"), Verdict.MALFORMED),
            (callback(addition_fee="1000"), Verdict.MALFORMED),
            (callback(trans_amount="20000.0"), Verdict.MALFORMED),
            (callback(after={"trans_amount": 20000.0}), Verdict.MALFORMED),
            (callback(after={"trans_amount": "2000"}), Verdict.BAD_SIGNATURE),
            (callback(transaction_id="T" * 21), Verdict.MALFORMED),
            (callback(transaction_id="đ"), Verdict.MALFORMED),
            (callback(transaction_code=""), Verdict.MALFORMED),
            (callback(transaction_code=None), Verdict.MALFORMED),
            (callback(transaction_code="KP\u0000"), Verdict.MALFORMED),
            (callback(description="y" * 70_000), Verdict.MALFORMED),
            (callback(status=False), Verdict.MALFORMED),
            (callback(status=0.0), Verdict.MALFORMED),
            (callback(status="00x"), Verdict.MALFORMED),
            (callback(after={"client_id": "a|b"}), Verdict.MALFORMED),
            (callback(after={"client_id": "\ud800"}), Verdict.MALFORMED),
            (callback()[:-1] + b', "status": 0}', Verdict.MALFORMED),
        ],
    )
    def test_what_is_no_callback_is_refused(self, body: bytes, verdict: Verdict) -> None:
        assert refused(body) is verdict

    @given(st.data())
    def test_one_character_changed_in_what_is_signed_is_refused(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from([*PAY_SIGNED, "check_sum"]))
        spoilt = callback(after={name: data.draw(tampered(json.loads(callback())[name]))})
        assert refused(spoilt) in {Verdict.BAD_SIGNATURE, Verdict.MALFORMED}

    @given(st.data())
    def test_any_bytes_are_refused_or_are_about_the_same_money(self, data: st.DataObject) -> None:
        with suppress(HookRefused):
            finding = hear(data.draw(mangled(callback()) | st.binary(max_size=300))).finding
            assert finding is not None
            assert (finding.references, finding.amount) == ([REFERENCE], 20_000)

    @pytest.mark.parametrize("verdict", Verdict)
    def test_every_verdict_has_its_answer(self, verdict: Verdict) -> None:
        said = json.loads(KEYPAY.answer(MERCHANT, verdict, {}, now=NOW).body)
        assert said["return_code"] == (0 if verdict in {Verdict.TAKEN, Verdict.KNOWN} else -1)
        assert said["return_msg"]

    def test_the_browser_proves_nothing(self) -> None:
        assert KEYPAY.came_back(MERCHANT, urlencode(BROUGHT).encode(), now=NOW) is None


class TestBeginning:
    async def test_the_first_key_asks_for_a_payment(self) -> None:
        asked: list[dict[str, Any]] = []

        async def keypay(request: httpx.Request) -> httpx.Response:
            asked.append(json.loads(request.content))
            return answer(200, json.dumps({"error": "0", "msg": "", "payment_url": PAGE}).encode())

        begun = await Keypay(wire_to(keypay)).begin(MERCHANT, ORDER, now=NOW)

        assert begun.redirect_url == PAGE
        said = asked[0]
        assert {name: said[name] for name in SIGNED} == SIGNED
        assert said["check_sum"] == pay_checksum(SIGNED, FIRST)
        assert (said["bill_info"]["MaHoSo"], said["return_url"]) == (ORDER.dossier_code, ORDER.return_url)

    async def test_a_reference_has_twenty_characters_at_most(self) -> None:
        with pytest.raises(ValueError, match="20"):
            await Keypay(wire(200, b"")).begin(MERCHANT, msgspec.structs.replace(ORDER, reference="T" * 21), now=NOW)

    async def test_a_refusal_has_its_code(self) -> None:
        with pytest.raises(Refused) as caught:
            await Keypay(wire(200, b'{"error": 12, "msg": "sai"}')).begin(MERCHANT, ORDER, now=NOW)
        assert caught.value.code == "12"

    @pytest.mark.parametrize(
        ("status", "body"),
        [
            *((200, body) for body in UNREADABLE.values()),
            (500, b'{"error": "0", "payment_url": "https://keypay.test/"}'),
            (403, b'{"error": "0", "payment_url": "https://keypay.test/"}'),
            (200, b'{"error": "0", "payment_url": "http://keypay.test/"}'),
            (200, b'{"error": "0"}'),
            (200, b'{"error": true}'),
        ],
    )
    async def test_what_cannot_be_read_leaves_it_open(self, status: int, body: bytes) -> None:
        with pytest.raises(NoAnswer):
            await Keypay(wire(status, body)).begin(MERCHANT, ORDER, now=NOW)

    @pytest.mark.parametrize(
        "merchant",
        [msgspec.structs.replace(MERCHANT, options={}), msgspec.structs.replace(MERCHANT, secrets={"hash_2": ("x",)})],
    )
    async def test_without_settings_nothing_is_asked(self, merchant: Merchant) -> None:
        ours = Keypay(wire(200, b'{"error": "0", "payment_url": "https://keypay.test/"}'))
        with pytest.raises(NotSent):
            await ours.begin(merchant, ORDER, now=NOW)
        with pytest.raises(NotSent):
            await ours.inquire(merchant, ORDER, now=NOW)


class TestAsking:
    async def test_a_payment_is_found(self) -> None:
        asked: list[dict[str, str]] = []

        async def keypay(request: httpx.Request) -> httpx.Response:
            asked.append(json.loads(request.content))
            return answer(200, callback(error="0"))

        assert await Keypay(wire_to(keypay)).inquire(MERCHANT, ORDER, now=NOW) == PAID
        fields = {"client_id": "CLIENT1", "command": "PAY", "transaction_id": REFERENCE}
        assert asked == [{**fields, "check_sum": detail_checksum(fields, FIRST)}]

    async def test_or_is_not_yet_made(self) -> None:
        finding = await Keypay(wire(200, callback(status=1, transaction_code=None))).inquire(MERCHANT, ORDER, now=NOW)
        assert (finding.outcome, finding.transaction) == (Outcome.PENDING, None)

    @pytest.mark.parametrize(
        ("status", "body"),
        [
            *((200, body) for body in UNREADABLE.values()),
            (500, callback()),
            (400, callback()),
            (200, callback("guess")),
            (200, callback(FIRST)),
            (200, callback(transaction_id="TT0000000000")),
            (200, callback(client_id="CLIENT2")),
            (200, callback(status=None)),
            (200, callback(status=[0])),
            (200, b'{"error": "6", "msg": "khong tim thay"}'),
        ],
    )
    async def test_what_cannot_be_believed_says_nothing(self, status: int, body: bytes) -> None:
        with pytest.raises(NoAnswer):
            await Keypay(wire(status, body)).inquire(MERCHANT, ORDER, now=NOW)

    async def test_nor_does_what_comes_too_late(self) -> None:
        async def slow(_: httpx.Request) -> httpx.Response:
            await asyncio.sleep(1)
            return answer(200, callback())

        with pytest.raises(NoAnswer):
            await Keypay(wire_to(slow, patience=0.05)).inquire(MERCHANT, ORDER, now=NOW)


def brought(secret: str = OLD_KEY, after: dict[str, str] | None = None, **changed: str) -> bytes:
    fields = {**BROUGHT, **changed}
    return urlencode({**fields, "secure_hash": legacy_hash(fields, secret), **(after or {})}).encode()


class TestOldProtocol:
    def test_the_hash_is_over_what_is_not_empty_in_the_order_of_names(self) -> None:
        # The secret and a1b2, by a tool of another hand (md5sum).
        assert legacy_hash({"b": "b2", "c": "", "a": "a1"}, "k") == "589BCBF3C194E51E625362201D1C6216"

    async def test_the_payer_carries_the_request(self) -> None:
        begun = await Keypay(wire(500, b"")).begin(OLD, ORDER, now=NOW)
        assert begun.redirect_url is not None
        address = urlsplit(begun.redirect_url)
        said = read_query(address.query.encode())
        proof = said.pop("secure_hash")
        assert (address.netloc, said["net_cost"], said["merchant_trans_id"]) == ("keypay.test", "20000", REFERENCE)
        assert proof == legacy_hash(said, OLD_KEY)
        assert len(said) == 13

    async def test_it_is_off_unless_set(self) -> None:
        for value in ("0", "true", ""):
            merchant = msgspec.structs.replace(MERCHANT, options={**MERCHANT.options, "legacy": value})
            with pytest.raises(NoAnswer):
                await Keypay(wire(500, b"")).begin(merchant, ORDER, now=NOW)
            unset = msgspec.structs.replace(OLD, options={**OLD.options, "legacy": value})
            assert KEYPAY.came_back(unset, brought(), now=NOW) is None

    def test_what_the_payer_brings_is_read_if_signed(self) -> None:
        assert KEYPAY.came_back(OLD, brought(), now=NOW) == msgspec.structs.replace(PAID, code="00")
        assert KEYPAY.came_back(OLD, brought("older", bank_code="VCB"), now=NOW) is not None
        failed = KEYPAY.came_back(OLD, brought(response_code="18", trans_id=""), now=NOW)
        assert failed is not None
        assert (failed.outcome, failed.transaction) == (Outcome.FAILED, None)

    @pytest.mark.parametrize(
        "query",
        [
            b"",
            b"%ff",
            brought("guess"),
            brought(merchant_code="CLIENT2"),
            brought(net_cost="2e4"),
            brought(after={"net_cost": "2000"}),
            brought() + b"&net_cost=1",
            brought() + b"&x=" + b"y" * 70_000,
        ],
    )
    def test_or_proves_nothing(self, query: bytes) -> None:
        assert KEYPAY.came_back(OLD, query, now=NOW) is None
