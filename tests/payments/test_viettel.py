"""ViettelPay: one rule for everything that is signed, and borders that cannot be moved."""

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
    Verdict,
)
from bkapp.payments.providers.calling import Wire
from bkapp.payments.providers.viettel import (
    FOUND_SIGNED,
    PAYMENT_SIGNED,
    RESULT_SIGNED,
    VERIFY_SIGNED,
    Viettel,
    billcode,
    checksum,
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

SECRET = "s3cret"
MERCHANT = Merchant(
    key="viettel",
    provider="viettel",
    code="MC01",
    secrets={"hash_key": (SECRET, "older")},
    options={
        "access_code": "AC",
        "pay_url": "https://viettel.test/PaymentGateway/payment",
        "search_url": "https://viettel.test/PaymentAPI/webresources/postData",
    },
    home="https://bkapp.example",
)
VIETTEL: Provider = Viettel(Wire())
ASKED = {
    "billcode": "20000-HD0123456789",
    "merchant_code": "MC01",
    "order_id": REFERENCE,
    "trans_amount": "20000",
}
TOLD = {
    **ASKED,
    "cust_msisdn": "84912345678",
    "error_code": "00",
    "payment_status": "1",
    "vt_transaction_id": "98765",
}
PAID = Finding(references=[REFERENCE], outcome=Outcome.PAID, amount=20_000, transaction="98765", code="00.1")


def message(
    fields: dict[str, str], secret: str = SECRET, after: dict[str, str | None] | None = None, **changed: str
) -> bytes:
    """A form, signed after its fields were changed, and changed again after that."""
    said = {**fields, **changed}
    said_after = {**said, "check_sum": checksum("AC", said, secret), **(after or {})}
    return urlencode({name: value for name, value in said_after.items() if value is not None}).encode()


def hear(what: str, body: bytes) -> Hearing:
    return VIETTEL.hear(MERCHANT, post(body, what), now=NOW)


def refusal(what: str, body: bytes) -> HookRefused:
    with pytest.raises(HookRefused) as caught:
        hear(what, body)
    return caught.value


def answered(verdict: Verdict, context: Any) -> dict[str, str]:
    said: dict[str, str] = json.loads(VIETTEL.answer(MERCHANT, verdict, context, now=NOW).body)
    return said


def test_the_known_checksum() -> None:
    fields = {"billcode": "BILL1", "merchant_code": "MC01", "order_id": "ORD1", "trans_amount": "20000"}
    assert checksum("AC", fields, "s3cret") == "7a58ca3d1c20cdce0230e03c8a9bbdad8bb5bdaa"


class TestQuestions:
    @pytest.mark.parametrize("what", ["verify", "mcpaymentconfirm"])
    def test_viettel_asks_before_it_takes_money(self, what: str) -> None:
        heard = hear(what, message(ASKED))
        assert (heard.finding, heard.asks, heard.amount) == (None, REFERENCE, 20_000)
        said = answered(Verdict.TAKEN, heard.context)
        proof = said.pop("check_sum")
        assert said == {**ASKED, "error_code": "00"}
        assert proof == checksum("AC", said, SECRET)

    def test_it_need_not_say_the_amount(self) -> None:
        heard = hear("verify", message(ASKED, after={"trans_amount": None}))
        assert heard.context["trans_amount"] == "20000"
        assert heard.event_id == hear("verify", message(ASKED, "older")).event_id

    @pytest.mark.parametrize(
        ("body", "verdict", "code"),
        [
            (message(ASKED, "guess"), Verdict.BAD_SIGNATURE, "02"),
            (message(ASKED, merchant_code="MC02"), Verdict.NO_ORDER, "01"),
            (message(ASKED, trans_amount="19000"), Verdict.WRONG_AMOUNT, "03"),
            (message(ASKED, after={"trans_amount": "19000"}), Verdict.BAD_SIGNATURE, "02"),
            (message(ASKED, billcode="HD0123456789"), Verdict.MALFORMED, "03"),
            (message(ASKED, order_id="ORD1"), Verdict.MALFORMED, "03"),
            (message(ASKED) + b"&order_id=x", Verdict.MALFORMED, "03"),
            *((message(ASKED, after={name: None}), Verdict.MALFORMED, "03") for name in ("billcode", "check_sum")),
            *((body, Verdict.MALFORMED, "03") for body in BROKEN_BODIES.values()),
        ],
    )
    def test_a_question_that_is_none_of_its_own_is_refused(self, body: bytes, verdict: Verdict, code: str) -> None:
        refused = refusal("verify", body)
        assert refused.verdict is verdict
        said = answered(verdict, refused.context)
        assert said["error_code"] == code
        assert set(said) == {*VERIFY_SIGNED, "error_code", "check_sum"}

    def test_nobody_can_choose_what_we_sign(self) -> None:
        for what in ("verify", "result"):
            forged = refusal(what, message(TOLD, "guess", billcode="1-HD0123456789"))
            assert answered(forged.verdict, forged.context)["check_sum"] == ""

    def test_a_question_is_no_result(self) -> None:
        """A bill code that ends in 00 and an amount that begins with 1 would read as a paid result."""
        asked = {**ASKED, "billcode": "120000-HD0123456700", "trans_amount": "120000"}
        text = checksum("AC", asked, SECRET)
        as_result = {**asked, "billcode": "120000-HD01234567", "cust_msisdn": "", "error_code": "00"}
        as_result |= {"payment_status": "1", "trans_amount": "20", "vt_transaction_id": "000"}
        assert checksum("AC", as_result, SECRET) == text
        assert refusal("result", urlencode({**as_result, "check_sum": text}).encode()).verdict is Verdict.MALFORMED


class TestResults:
    @pytest.mark.parametrize("what", ["", "result", "mcreceiveresult"])
    def test_a_result_is_believed(self, what: str) -> None:
        heard = hear(what, message(TOLD))
        assert heard.finding == PAID
        said = answered(Verdict.TAKEN, heard.context)
        assert said["check_sum"] == checksum(
            "AC", {"error_code": "00", "merchant_code": "MC01", "order_id": REFERENCE}, SECRET
        )
        assert (said["return_url"], said["return_bill_code"], said["return_other_info"]) == ("", "", "")
        assert heard.event_id == hear(what, message(TOLD, "older")).event_id
        assert "84912345678" not in repr(heard)

    @pytest.mark.parametrize(
        ("error", "status", "outcome"),
        [
            ("00", "1", Outcome.PAID),
            ("00", "0", Outcome.PENDING),
            ("00", "2", Outcome.FAILED),
            ("21", "2", Outcome.FAILED),
            ("21", "1", Outcome.PENDING),
        ],
    )
    def test_what_a_status_means(self, error: str, status: str, outcome: Outcome) -> None:
        finding = hear("result", message(TOLD, error_code=error, payment_status=status)).finding
        assert finding is not None
        assert (finding.outcome, finding.amount, finding.code) == (outcome, 20_000, f"{error}.{status}")

    def test_another_amount_is_told_as_it_is(self) -> None:
        finding = hear("result", message(TOLD, trans_amount="19000")).finding
        assert finding is not None
        assert finding.amount == 19_000

    def test_the_border_between_amount_and_number_cannot_be_moved(self) -> None:
        for amount, number in [("2000", "098765"), ("2", "000098765"), ("200009", "8765")]:
            moved = message(TOLD, trans_amount=amount, vt_transaction_id=number)
            assert read_query(moved)["check_sum"] == read_query(message(TOLD))["check_sum"]
            assert refusal("result", moved).verdict is Verdict.MALFORMED

    @pytest.mark.parametrize(
        ("body", "verdict"),
        [
            (message(TOLD, "guess"), Verdict.BAD_SIGNATURE),
            (message(TOLD, merchant_code="MC02"), Verdict.NO_ORDER),
            (message(TOLD, vt_transaction_id=""), Verdict.MALFORMED),
            (message(TOLD, vt_transaction_id="a b"), Verdict.MALFORMED),
            (message(TOLD, error_code="000"), Verdict.MALFORMED),
            (message(TOLD, payment_status="11"), Verdict.MALFORMED),
            (message(TOLD, trans_amount="020000"), Verdict.MALFORMED),
            (message(TOLD, cust_msisdn="PAYME"), Verdict.MALFORMED),
            (message(TOLD, billcode="20000-HD1"), Verdict.MALFORMED),
            (message(TOLD) + b"&payment_status=1", Verdict.MALFORMED),
            (message(TOLD) + b"&x=" + b"y" * 70_000, Verdict.MALFORMED),
            (message(ASKED), Verdict.MALFORMED),
            *((message(TOLD, after={name: None}), Verdict.MALFORMED) for name in [*RESULT_SIGNED, "check_sum"]),
            *((body, Verdict.MALFORMED) for body in BROKEN_BODIES.values()),
        ],
    )
    def test_what_is_no_result_is_refused(self, body: bytes, verdict: Verdict) -> None:
        assert refusal("result", body).verdict is verdict
        assert VIETTEL.came_back(MERCHANT, body, now=NOW) is None

    def test_there_are_no_other_messages(self) -> None:
        assert refusal("refund", message(TOLD)).verdict is Verdict.MALFORMED

    @given(st.data())
    def test_one_character_changed_in_what_is_signed_is_refused(self, data: st.DataObject) -> None:
        what, fields = data.draw(st.sampled_from([("verify", ASKED), ("result", TOLD)]))
        right = read_query(message(fields))
        name = data.draw(st.sampled_from(sorted(right)))
        spoilt = message(fields, after={name: data.draw(tampered(right[name]).filter(_encodable))})
        assert refusal(what, spoilt).verdict in {Verdict.BAD_SIGNATURE, Verdict.MALFORMED}

    @given(st.data())
    def test_any_bytes_are_refused_or_mean_the_same(self, data: st.DataObject) -> None:
        body = data.draw(mangled(message(TOLD)) | mangled(message(ASKED)) | st.binary(max_size=300))
        what = data.draw(st.sampled_from(["verify", "result", "?"]))
        with suppress(HookRefused):
            heard = hear(what, body)
            assert heard.asks == REFERENCE if what == "verify" else heard.finding == PAID

    def test_the_browser_brings_the_same(self) -> None:
        assert VIETTEL.came_back(MERCHANT, message(TOLD), now=NOW) == PAID
        assert VIETTEL.came_back(MERCHANT, b"", now=NOW) is None

    @pytest.mark.parametrize("verdict", Verdict)
    @pytest.mark.parametrize("what", ["verify", "result"])
    def test_every_verdict_has_its_answer(self, verdict: Verdict, what: str) -> None:
        said = answered(verdict, hear(what, message(TOLD if what == "result" else ASKED)).context)
        codes = {Verdict.TAKEN: "00", Verdict.NO_ORDER: "01", Verdict.BAD_SIGNATURE: "02"}
        codes |= {Verdict.KNOWN: "03" if what == "verify" else "00"}  # nothing is charged that need not be paid
        assert said["error_code"] == codes.get(verdict, "03")
        signed = {name: value for name, value in said.items() if value and name != "check_sum"}
        assert said["check_sum"] == checksum("AC", signed, SECRET)


def _encodable(text: str) -> bool:
    return not any("\ud800" <= sign <= "\udfff" for sign in text)


class TestBeginning:
    async def test_the_payer_carries_a_signed_request(self) -> None:
        begun = await Viettel(wire(500, b"")).begin(MERCHANT, ORDER, now=NOW)
        assert begun.redirect_url is not None
        assert begun.redirect_url.startswith("https://viettel.test/PaymentGateway/payment?")
        said = read_query(urlsplit(begun.redirect_url).query.encode())
        signed = {name: said[name] for name in PAYMENT_SIGNED}
        assert said == {
            "billcode": billcode(ORDER),
            "command": "PAYMENT",
            "merchant_code": "MC01",
            "order_id": REFERENCE,
            "trans_amount": "20000",
            "version": "2.0",
            "desc": "Thanh toan ho so 000.00.01.H03-261124-0001",
            "return_url": ORDER.return_url,
            "check_sum": checksum("AC", signed, SECRET),
        }

    async def test_without_settings_there_is_none(self) -> None:
        for merchant in (
            msgspec.structs.replace(MERCHANT, options={}),
            msgspec.structs.replace(MERCHANT, secrets={}),
        ):
            with pytest.raises(NotSent):
                await Viettel(wire(200, found())).begin(merchant, ORDER, now=NOW)
            with pytest.raises(NotSent):
                await Viettel(wire(200, found())).inquire(merchant, ORDER, now=NOW)


def found(secret: str = SECRET, after: dict[str, Any] | None = None, **changed: str | None) -> bytes:
    """An answer to a search, as the one known system reads it: without an amount."""
    fields: dict[str, str | None] = {
        "error_code": "00",
        "merchant_code": "MC01",
        "order_id": REFERENCE,
        "payment_status": "1",
        "version": "2.0",
        "vt_transaction_id": "98765",
        **changed,
    }
    said = {name: value for name, value in fields.items() if value is not None}
    return json.dumps({**said, "check_sum": checksum("AC", said, secret), **(after or {})}).encode()


class TestAsking:
    async def test_a_payment_is_found(self) -> None:
        asked: list[dict[str, str]] = []

        async def viettel(request: httpx.Request) -> httpx.Response:
            asked.append(read_query(request.content))
            assert request.headers["content-type"] == "application/x-www-form-urlencoded"
            return answer(200, found())

        assert await Viettel(wire_to(viettel)).inquire(MERCHANT, ORDER, now=NOW) == PAID
        fields = {"cmd": "TRANS_INQUIRY", "merchant_code": "MC01", "order_id": REFERENCE, "version": "2.0"}
        assert asked == [{**fields, "check_sum": checksum("AC", fields, SECRET)}]

    @pytest.mark.parametrize(
        ("body", "outcome", "amount"),
        [
            (found("older", trans_amount="19000"), Outcome.PAID, 19_000),
            (found(after={"payment_status": 1, "msg": "x"}), Outcome.PAID, 20_000),
            (found(payment_status="0", vt_transaction_id=None), Outcome.PENDING, 20_000),
            (found(payment_status="3", vt_transaction_id=""), Outcome.FAILED, 20_000),
            (found(error_code="01", payment_status=None, vt_transaction_id=None), Outcome.ABSENT, None),
        ],
    )
    async def test_what_an_answer_means(self, body: bytes, outcome: Outcome, amount: int | None) -> None:
        finding = await Viettel(wire(200, body)).inquire(MERCHANT, ORDER, now=NOW)
        assert (finding.outcome, finding.amount, finding.references) == (outcome, amount, [REFERENCE])

    @pytest.mark.parametrize(
        ("status", "body"),
        [
            *((200, body) for body in UNREADABLE.values()),
            (500, found()),
            (404, found()),
            (200, found("guess")),
            (200, found(order_id="TT0000000000")),
            (200, found(merchant_code="MC02")),
            (200, found(error_code="99")),
            (200, found(payment_status=None)),
            (200, found(payment_status="10")),
            (200, found(vt_transaction_id=None)),
            (200, found(after={"check_sum": None})),
            (200, found(after={"trans_amount": 20000})),
            *((200, found(after={name: "7"})) for name in FOUND_SIGNED),
        ],
    )
    async def test_what_cannot_be_believed_says_nothing(self, status: int, body: bytes) -> None:
        with pytest.raises(NoAnswer):
            await Viettel(wire(status, body)).inquire(MERCHANT, ORDER, now=NOW)

    async def test_nor_does_what_comes_too_late(self) -> None:
        async def slow(_: httpx.Request) -> httpx.Response:
            await asyncio.sleep(1)
            return answer(200, found())

        with pytest.raises(NoAnswer):
            await Viettel(wire_to(slow, patience=0.05)).inquire(MERCHANT, ORDER, now=NOW)
