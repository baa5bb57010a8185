"""A bank transfer is asked for with a code, and what the bank says of it is believed for its signature alone."""

import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bkapp.payments import standardwebhooks, vietqr
from bkapp.payments.providers import (
    Call,
    Finding,
    Hearing,
    HookRefused,
    Line,
    Merchant,
    NoAnswer,
    NotSent,
    Order,
    Outcome,
    Provider,
    Verdict,
)
from bkapp.payments.providers.calling import Wire
from bkapp.payments.providers.vietqr import Vietqr, data_text
from bkapp.payments.rules import FeeKind

NOW = datetime(2026, 3, 15, 3, 15, 30, tzinfo=UTC)
REFERENCE, OTHER = "TT7K3M9Q2M4G", "TT0H8YWB5ZNP"
WEBHOOK = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
# The example in payOS's documentation.
PAYOS_KEY = "1a54716c8f0efb2744fb28b6e38b25da7f67a925d98bc1c18bd8faaecadd7675"
PAYOS_SIGNATURE = "412e915d2871504ed31be63c8f62a149a4410d34c4c42affc9006ef9917eaa03"
PAYOS_DATA: dict[str, Any] = {
    "orderCode": 123,
    "amount": 3000,
    "description": "VQRIO123",
    "accountNumber": "12345678",
    "reference": "TF230204212323",
    "transactionDateTime": "2023-02-04 18:25:00",
    "currency": "VND",
    "paymentLinkId": "124c33293c43417ab7879e14c8d9eb18",
    "code": "00",
    "desc": "Thành công",
    "counterAccountBankId": "",
    "counterAccountBankName": "",
    "counterAccountName": "",
    "counterAccountNumber": "",
    "virtualAccountName": "",
    "virtualAccountNumber": "",
}
CREDIT: dict[str, Any] = {
    "accountNumber": "0011012345678",
    "amount": 20_000,
    "description": f"MBVCB.3278907687.{REFERENCE[:4].lower()} {REFERENCE[4:]} thanh toan",
    "reference": "FT26074012345",
    "transactionDateTime": "2026-03-15 10:14:59",
    "currency": "VND",
    "code": "00",
    "desc": "Thành công",
    "counterAccountName": None,
}


def a_merchant(options: dict[str, str] | None = None, **secrets: list[str]) -> Merchant:
    return Merchant(
        key="bank",
        provider="vietqr",
        code="BACKAN01",
        secrets={"checksum": ["s3cret"], "webhook": [WEBHOOK]} | secrets,
        options={"api": "https://bank.example/open/v1"} if options is None else options,
        home="https://app.example.vn",
    )


def an_order(**changes: Any) -> Order:
    order = Order(
        reference=REFERENCE,
        amount=20_000,
        created_at=NOW - timedelta(minutes=5),
        expires_at=NOW + timedelta(hours=24),
        bill_code="HD4C6XKT2AV6",
        dossier_code="000.00.01.H03-220315-0001",
        procedure_code="1.004222",
        procedure_name="Đăng ký thường trú",
        agency="UBND xã Phủ Thông",
        account="0011012345678",
        account_name="UBND XA PHU THONG",
        bank_bin="970403",
        lines=[Line(kind=FeeKind.CHARGE, code="LP01", name="Lệ phí", amount=20_000)],
        return_url="https://app.example.vn/payments/return/x",
    )
    return msgspec.structs.replace(order, **changes)


MERCHANT, ORDER = a_merchant(), an_order()
VIETQR = Vietqr(Wire(httpx.MockTransport(lambda _: httpx.Response(404))))


def by_hand(data: dict[str, Any], key: str = "s3cret") -> str:
    """The signature of payOS, written from its documentation."""
    text = "&".join(f"{name}={'' if value is None else value}" for name, value in sorted(data.items()))
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()


def notification(data: dict[str, Any], /, signature: Any = None, **around: Any) -> bytes:
    shown = by_hand(data) if signature is None else signature
    said = {"code": data.get("code"), "desc": "success", "success": data.get("code") == "00", "data": data}
    return json.dumps(said | {"signature": shown} | around, ensure_ascii=False).encode()


def a_call(body: bytes, headers: dict[str, str] | None = None, method: str = "POST", what: str = "") -> Call:
    return Call(method=method, what=what, query=b"", headers=headers or {}, body=body)


def standard(body: bytes, *, message_id: str = "msg_1", at: datetime = NOW, key: str = WEBHOOK) -> Call:
    """A message signed after Standard Webhooks."""
    signature = standardwebhooks.sign(message_id, int(at.timestamp()), body, [key])
    headers = {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": signature,
    }
    return a_call(body, headers)


def heard(data: dict[str, Any], /, *, merchant: Merchant = MERCHANT, **around: Any) -> Finding:
    finding = VIETQR.hear(merchant, a_call(notification(data, **around)), now=NOW).finding
    assert finding is not None
    return finding


def refused(call: Call, merchant: Merchant = MERCHANT) -> Verdict:
    with pytest.raises(HookRefused) as caught:
        VIETQR.hear(merchant, call, now=NOW)
    return caught.value.verdict


class TestBeginning:
    async def test_the_code_asks_for_the_amount_with_the_reference_as_its_purpose(self) -> None:
        provider: Provider = VIETQR

        begun = await provider.begin(MERCHANT, ORDER, now=NOW)

        assert begun.redirect_url is None
        assert begun.qr is not None
        assert vietqr.parse(begun.qr) == vietqr.Transfer(
            bank_bin="970403", account="0011012345678", amount=20_000, purpose=REFERENCE
        )
        assert await provider.begin(MERCHANT, ORDER, now=NOW + timedelta(hours=1)) == begun

    def test_no_browser_comes_back_from_a_bank(self) -> None:
        assert VIETQR.came_back(MERCHANT, b"code=00", now=NOW) is None


class TestHearing:
    def test_the_public_example_of_payos_is_believed(self) -> None:
        body = notification(PAYOS_DATA, PAYOS_SIGNATURE)

        hearing = VIETQR.hear(a_merchant(checksum=[PAYOS_KEY]), a_call(body), now=NOW)

        assert hearing.finding == Finding(
            references=[],
            outcome=Outcome.PAID,
            amount=3_000,
            transaction="TF230204212323",
            at=datetime(2023, 2, 4, 11, 25, tzinfo=UTC),
            code="00",
        )
        assert by_hand(PAYOS_DATA, PAYOS_KEY) == PAYOS_SIGNATURE

    def test_the_reference_is_found_in_what_people_and_banks_make_of_it(self) -> None:
        assert heard(CREDIT) == Finding(
            references=[REFERENCE],
            outcome=Outcome.PAID,
            amount=20_000,
            transaction="FT26074012345",
            at=datetime(2026, 3, 15, 3, 14, 59, tzinfo=UTC),
            code="00",
        )

    @pytest.mark.parametrize(
        ("content", "references"),
        [
            ("", []),
            (None, []),
            ("chuc mung nam moi", []),
            (f"{REFERENCE}{OTHER}", [REFERENCE, OTHER]),
            (f"{REFERENCE}-{REFERENCE}", [REFERENCE]),
            (REFERENCE[:-1], []),
        ],
    )
    def test_money_may_name_none_or_several(self, content: str | None, references: list[str]) -> None:
        assert heard(CREDIT | {"description": content}).references == references

    def test_either_secret_is_good_while_they_change(self) -> None:
        merchant = a_merchant(checksum=["newer", "s3cret"])

        assert heard(CREDIT, merchant=merchant).references == [REFERENCE]
        assert heard(CREDIT, merchant=merchant, signature=by_hand(CREDIT, "newer")).references == [REFERENCE]

    def test_the_same_message_is_the_same_event_and_another_is_another(self) -> None:
        def event(data: dict[str, Any], key: str = "s3cret") -> str:
            body = notification(dict(reversed(data.items())), by_hand(data, key))
            return VIETQR.hear(a_merchant(checksum=[key]), a_call(body), now=NOW).event_id

        assert event(CREDIT) == event(CREDIT, "another") == event(dict(sorted(CREDIT.items())))
        assert event(CREDIT) != event(CREDIT | {"reference": "FT26074012346"})

    def test_a_transfer_that_did_not_go_through_ends_nothing(self) -> None:
        finding = heard(CREDIT | {"code": "99"})

        assert (finding.outcome, finding.code) == (Outcome.PENDING, "99")

    def test_a_body_signed_after_standard_webhooks_needs_no_other_signature(self) -> None:
        body = json.dumps({"type": "credit", "data": CREDIT}).encode()

        hearing = VIETQR.hear(MERCHANT, standard(body), now=NOW)

        assert hearing == Hearing(event_id="msg_1", finding=heard(CREDIT))

    def test_a_bank_may_sign_with_a_key_that_only_it_has(self) -> None:
        private = standardwebhooks.new_private_key()
        merchant = a_merchant(webhook=[standardwebhooks.public_half(private)])

        hearing = VIETQR.hear(merchant, standard(notification(CREDIT), key=private), now=NOW)

        assert hearing.finding == heard(CREDIT)

    @pytest.mark.parametrize(
        ("call", "verdict"),
        [
            (standard(notification(CREDIT), key=standardwebhooks.new_secret()), Verdict.BAD_SIGNATURE),
            (standard(notification(CREDIT), at=NOW - timedelta(seconds=301)), Verdict.STALE),
            (standard(notification(CREDIT), at=NOW + timedelta(seconds=301)), Verdict.STALE),
            (a_call(notification(CREDIT), {"webhook-id": "msg_1"}), Verdict.MALFORMED),
            (
                a_call(
                    notification(CREDIT),
                    {"webhook-id": "a.b", "webhook-timestamp": "1", "webhook-signature": "v1,AAAA"},
                ),
                Verdict.MALFORMED,
            ),
            (standard(b"\xff"), Verdict.MALFORMED),
            (standard(b"[]"), Verdict.MALFORMED),
        ],
    )
    def test_what_standard_webhooks_refuses_is_refused(self, call: Call, verdict: Verdict) -> None:
        assert refused(call) is verdict

    @pytest.mark.parametrize(
        "signature", ["", "0" * 64, by_hand(CREDIT).upper(), by_hand(CREDIT, "other"), "Lệ phí", 5]
    )
    def test_a_wrong_signature_is_refused(self, signature: Any) -> None:
        assert refused(a_call(notification(CREDIT, signature=signature))) is Verdict.BAD_SIGNATURE

    def test_without_a_secret_nothing_is_believed(self) -> None:
        merchant = a_merchant(checksum=[], webhook=[])

        assert refused(a_call(notification(CREDIT)), merchant) is Verdict.BAD_SIGNATURE
        assert refused(standard(notification(CREDIT)), merchant) is Verdict.BAD_SIGNATURE

    def test_a_bad_key_of_ours_is_our_fault(self) -> None:
        assert refused(standard(notification(CREDIT)), a_merchant(webhook=["whsec_?"])) is Verdict.BROKEN

    @pytest.mark.parametrize(
        "around",
        [
            {"code": "01"},
            {"code": 0},
            {"success": False},
            {"success": 1},
            {"success": None},
            {"data": [CREDIT]},
            {"data": None},
            {"signature": []},
        ],
    )
    def test_what_stands_around_the_signed_data_must_not_contradict_it(self, around: dict[str, Any]) -> None:
        assert refused(a_call(notification(CREDIT, **around))) is Verdict.MALFORMED

    @pytest.mark.parametrize(
        "change",
        [
            {"currency": "USD"},
            {"currency": None},
            {"amount": 0},
            {"amount": -20_000},  # a debit
            {"amount": 20_000.5},
            {"amount": "2e4"},
            {"amount": "20.000"},
            {"amount": 10**15},
            {"amount": None},
            {"amount": True},
            {"reference": ""},
            {"reference": " FT1"},
            {"reference": "FT\t1"},
            {"reference": "x" * 101},
            {"reference": None},
            {"accountNumber": ""},
            {"accountNumber": "0011 0123"},
            {"accountNumber": "٠٠١١"},
            {"code": ""},
            {"code": "0 0"},
            {"description": 7},
            {"description": "x" * 1001},
            {"transactionDateTime": "2026-03-15T10:14:59"},
            {"transactionDateTime": "2026-03-15 10:14:59 AM"},
            {"transactionDateTime": "2026-3-15 10:14:59"},
            {"transactionDateTime": "2026-03-15 24:00:00"},
            {"transactionDateTime": "2026-02-30 10:14:59"},
            {"transactionDateTime": "2026-03-15 10:14:60"},
            {"transactionDateTime": "0001-01-01 00:00:00"},
            {"transactionDateTime": "0000-01-01 00:00:00"},
            {"transactionDateTime": "２０２６-03-15 10:14:59"},
            {"transactionDateTime": "2026-03-15 10:14:59\n"},
            {"transactionDateTime": 1773544530},
            {"transactionDateTime": None},
        ],
        ids=str,
    )
    def test_what_is_no_credit_in_dong_is_refused_though_signed(self, change: dict[str, Any]) -> None:
        assert refused(a_call(notification(CREDIT | change))) is Verdict.MALFORMED
        assert refused(standard(notification(CREDIT | change))) is Verdict.MALFORMED

    @pytest.mark.parametrize("lost", [name for name in CREDIT if name not in {"desc", "counterAccountName"}])
    def test_every_part_of_a_credit_is_needed(self, lost: str) -> None:
        data = {name: value for name, value in CREDIT.items() if name != lost}

        assert refused(a_call(notification(data))) is Verdict.MALFORMED

    @pytest.mark.parametrize(
        ("text", "ambiguous"),
        [("a&b", False), ("a=b", False), ("a &b & c", False), ("a&b=c", True), ("a&=", True), ("a\nb", True)],
    )
    def test_a_value_that_reads_like_another_field_is_refused(self, text: str, ambiguous: bool) -> None:  # noqa: FBT001
        body = notification(CREDIT | {"counterAccountName": text})

        if ambiguous:
            assert refused(a_call(body)) is Verdict.MALFORMED
        else:
            assert VIETQR.hear(MERCHANT, a_call(body), now=NOW).finding == heard(CREDIT)

    def test_money_cannot_be_moved_from_one_field_to_another_under_the_same_signature(self) -> None:
        written = CREDIT | {"counterAccountName": "A&currency=USD", "currency": "VND"}
        moved = {name: value for name, value in CREDIT.items() if name not in {"counterAccountName", "currency"}}
        moved |= {"counterAccountName": "A", "currency": "USD&currency=VND"}

        assert by_hand(written) == by_hand(moved)
        assert refused(a_call(notification(written))) is Verdict.MALFORMED
        assert refused(a_call(notification(moved))) is Verdict.MALFORMED

    def test_a_time_far_ahead_of_ours_is_refused(self) -> None:
        soon = heard(CREDIT | {"transactionDateTime": "2026-03-16 10:15:30"})

        assert soon.at == NOW + timedelta(days=1)
        late = notification(CREDIT | {"transactionDateTime": "2026-03-16 10:15:31"})
        assert refused(a_call(late)) is Verdict.STALE
        assert refused(a_call(notification(CREDIT | {"transactionDateTime": "9999-12-31 23:59:59"}))) is Verdict.STALE

    def test_only_accounts_of_the_merchant_where_they_are_listed(self) -> None:
        merchant = a_merchant({"accounts": "0011012345678 999"})

        assert heard(CREDIT, merchant=merchant).amount == 20_000
        assert refused(a_call(notification(CREDIT | {"accountNumber": "12345678"})), merchant) is Verdict.MALFORMED

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"null",
            b"{}",
            b"{" * 5_000,
            b'{"data":' * 5_000,
            b"\xff\xfe{}",
            notification(CREDIT).replace(b'"code"', b'"amount": 1, "code"'),
            notification(CREDIT).replace(b'"amount": 20000', b'"amount": 1, "amount": 20000'),
            notification(CREDIT).replace(b"20000", b"NaN"),
            notification(CREDIT).replace(b"20000", b"9" * 5_000),
            notification(CREDIT).replace(b"Th\xc3\xa0nh", b"\\ud800"),
            json.dumps({"data": {"code": "00"} | {f"k{n}": n for n in range(10_000)}, "signature": "x"}).encode(),
        ],
        ids=range(12),
    )
    def test_a_body_that_is_none_is_refused(self, body: bytes) -> None:
        assert refused(a_call(body)) in {Verdict.MALFORMED, Verdict.BAD_SIGNATURE}

    def test_what_it_says_to_the_operator_holds_nothing_of_the_message(self) -> None:
        for body in (notification(CREDIT | {"amount": "secret"}), b"secret", notification(CREDIT, signature="secret")):
            with pytest.raises(HookRefused) as caught:
                VIETQR.hear(MERCHANT, a_call(body), now=NOW)
            assert "secret" not in caught.value.reason


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
messages = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("code", "desc", "success", "signature", "data"), json_values)
)
headers = st.dictionaries(
    st.sampled_from(["webhook-id", "webhook-timestamp", "webhook-signature"]), st.text(max_size=30), max_size=3
)


@given(st.binary() | messages.map(lambda said: json.dumps(said).encode()), headers)
def test_no_message_raises_anything_but_a_refusal(body: bytes, found: dict[str, str]) -> None:
    refused(a_call(body, found))


@given(st.sampled_from(sorted(CREDIT)), json_values)
def test_no_signed_data_raise_anything_but_a_refusal(name: str, value: Any) -> None:
    data = CREDIT | {name: value}
    try:
        body = json.dumps({"data": data, "signature": by_hand(data)}).encode()
    except UnicodeEncodeError:  # half a character cannot be signed
        body = json.dumps({"data": data, "signature": ""}).encode()

    for call in (a_call(body), standard(body)):
        try:
            finding = VIETQR.hear(MERCHANT, call, now=NOW).finding
        except HookRefused:
            continue
        assert finding is not None
        assert finding.amount
        assert finding.at


def test_every_character_of_the_signed_data_counts() -> None:
    body = notification(CREDIT).decode()
    start, end = body.index('"data": ') + 8, body.index(', "signature"')

    for at in range(start, end):
        for sign in 'x0 "-':
            changed = body[:at] + sign + body[at + 1 :]
            try:
                same = json.loads(changed)["data"] == CREDIT  # a space within the JSON, and not within its values
            except ValueError:
                same = False
            if not same:
                assert refused(a_call(changed.encode())) in {Verdict.MALFORMED, Verdict.BAD_SIGNATURE}, changed


@given(
    st.dictionaries(
        st.sampled_from(["a", "b", "ab", "b_a", "a=b", "a&b", ""]), st.text("ab=&\n", max_size=6), min_size=1
    )
)
def test_signed_text_says_what_it_was_made_of(data: dict[str, Any]) -> None:
    try:
        text = data_text(data)
    except ValueError:
        return
    parts: list[str] = []
    for part in text.split("&"):
        if "=" in part:
            parts.append(part)
        else:
            parts[-1] += f"&{part}"
    assert dict(part.split("=", 1) for part in parts) == data


class TestAnswering:
    @pytest.mark.parametrize("verdict", [Verdict.TAKEN, Verdict.KNOWN, Verdict.NO_ORDER, Verdict.WRONG_AMOUNT])
    def test_money_that_came_is_acknowledged_whatever_it_was_for(self, verdict: Verdict) -> None:
        answer = VIETQR.answer(MERCHANT, verdict, {}, now=NOW)

        assert (answer.status, json.loads(answer.body)) == (200, {"success": True})

    @pytest.mark.parametrize(
        ("verdict", "status", "kind"),
        [
            (Verdict.BAD_SIGNATURE, 401, "/problems/unauthenticated"),
            (Verdict.MALFORMED, 400, "/problems/malformed"),
            (Verdict.STALE, 400, "/problems/malformed"),
            (Verdict.FORBIDDEN, 403, "/problems/forbidden"),
            (Verdict.BROKEN, 503, "/problems/unavailable"),
        ],
    )
    def test_other_messages_are_answered_with_a_problem(self, verdict: Verdict, status: int, kind: str) -> None:
        answer = VIETQR.answer(MERCHANT, verdict, {}, now=NOW)

        problem = json.loads(answer.body)
        assert (answer.status, answer.media_type) == (status, "application/problem+json")
        assert (problem["status"], problem["type"]) == (status, kind)
        assert problem["title"]
        assert problem["detail"]

    def test_every_verdict_has_an_answer(self) -> None:
        assert {VIETQR.answer(MERCHANT, verdict, {}, now=NOW).status for verdict in Verdict} == {
            200,
            400,
            401,
            403,
            503,
        }


@dataclass
class Bank:
    """What a bank answers, and what it was asked."""

    body: Callable[[], bytes]
    status: int = 200
    asked: list[httpx.Request] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        # As a stream, because that is how the wire reads; what is given as content is read already.
        return httpx.Response(self.status, stream=httpx.ByteStream(self.body()))


def listed(*entries: dict[str, Any], reference: str = REFERENCE, key: str = "s3cret") -> bytes:
    """A bank's list of transactions, signed by hand."""
    lines = [f"reference={reference}"]
    lines += [
        "&".join(f"{name}={'' if value is None else value}" for name, value in sorted(entry.items()))
        for entry in entries
    ]
    signature = hmac.new(key.encode(), "\n".join(lines).encode(), hashlib.sha256).hexdigest()
    return json.dumps({"data": entries, "signature": signature}).encode()


async def asked(bank: Bank | bytes, merchant: Merchant = MERCHANT) -> Finding:
    answers = bank if isinstance(bank, Bank) else Bank(lambda: bank)
    wire = Wire(httpx.MockTransport(answers))
    try:
        return await Vietqr(wire).inquire(merchant, ORDER, now=NOW)
    finally:
        await wire.close()


class TestAsking:
    async def test_the_question_is_signed_over_its_time_path_and_query(self) -> None:
        bank = Bank(lambda: listed(key="older"))

        await asked(bank, a_merchant(checksum=["s3cret", "older"]))

        request = bank.asked[0]
        target = f"/open/v1/transactions?reference={REFERENCE}"
        right = hmac.new(b"s3cret", f"{int(NOW.timestamp())}.{target}".encode(), hashlib.sha256).hexdigest()
        assert (request.method, str(request.url)) == ("GET", f"https://bank.example{target}")
        assert request.headers["X-Timestamp"] == str(int(NOW.timestamp()))
        assert request.headers["X-Signature"] == right

    async def test_the_transaction_whose_content_holds_the_reference_is_found(self) -> None:
        found = await asked(listed(CREDIT | {"description": OTHER, "reference": "FT0"}, CREDIT))

        assert found == heard(CREDIT)

    async def test_no_transaction_means_that_it_may_still_come(self) -> None:
        waiting = Finding(references=[REFERENCE], outcome=Outcome.PENDING)

        assert await asked(listed()) == waiting
        assert await asked(listed(CREDIT | {"description": OTHER})) == waiting

    async def test_debits_other_money_and_transfers_that_failed_pay_nothing(self) -> None:
        entries = [CREDIT | {"amount": -20_000}, CREDIT | {"currency": "USD"}, CREDIT | {"code": "99"}]

        assert (await asked(listed(*entries))).outcome is Outcome.PENDING
        assert (await asked(listed(*entries, CREDIT))).outcome is Outcome.PAID

    async def test_of_several_the_right_amount_counts_first_then_the_earliest(self) -> None:
        wrong = CREDIT | {"amount": 1, "reference": "FT1", "transactionDateTime": "2026-03-15 10:00:00"}
        early = CREDIT | {"reference": "FT2", "transactionDateTime": "2026-03-15 10:10:00"}
        late = CREDIT | {"reference": "FT3"}

        assert (await asked(listed(wrong, late, early))).transaction == "FT2"
        found = await asked(listed(wrong, wrong | {"reference": "FT4", "transactionDateTime": "2026-03-15 09:00:00"}))
        assert (found.transaction, found.amount) == ("FT4", 1)

    async def test_a_transfer_for_two_orders_is_found_for_the_one_that_was_asked_about(self) -> None:
        found = await asked(listed(CREDIT | {"description": f"{OTHER} {REFERENCE}"}))

        assert found.references == [REFERENCE]

    @pytest.mark.parametrize(
        "body",
        [
            listed(CREDIT, key="other"),
            listed(CREDIT, reference=OTHER),
            listed(CREDIT).replace(b"20000", b"20001"),
            listed(CREDIT | {"transactionDateTime": "yesterday"}),
            listed(CREDIT | {"amount": 0}),
            listed({"amount": 5}),
            b'{"data": {}, "signature": ""}',
            b'{"data": [1], "signature": ""}',
            b'{"data": []}',
            b"{}",
            b"[]",
            b"\xff",
            b"",
        ],
        ids=range(13),
    )
    async def test_an_answer_that_is_not_to_be_believed_is_none(self, body: bytes) -> None:
        with pytest.raises(NoAnswer):
            await asked(body)

    @pytest.mark.parametrize("status", [201, 302, 400, 401, 404, 429, 500, 503])
    async def test_another_status_is_no_answer_though_its_body_is_signed(self, status: int) -> None:
        with pytest.raises(NoAnswer):
            await asked(Bank(lambda: listed(CREDIT), status=status))

    @pytest.mark.parametrize("merchant", [a_merchant({}), a_merchant(checksum=[])], ids=["no address", "no secret"])
    async def test_a_bank_that_cannot_be_asked_is_not(self, merchant: Merchant) -> None:
        bank = Bank(lambda: listed(CREDIT))

        with pytest.raises(NotSent):
            await asked(bank, merchant)
        assert bank.asked == []
