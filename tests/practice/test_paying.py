"""The practice payment providers over real sockets: every button, every fault, the pages and the files of a day."""

import base64
import time
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec
import pytest

from bkapp.payments import statements, vietqr
from bkapp.payments.matching import days_in
from bkapp.payments.providers import Call, NoAnswer, NotSent, Order, Outcome, Refused, Verdict
from bkapp.payments.providers.paygov import Paygov
from bkapp.payments.providers.wire import HANOI
from bkapp.payments.statements import Kind, Source, Status
from bkapp.practice.paying import reports
from bkapp.practice.paying.cashier import Cashier, Choice, Closed, Delivery, OtherOrder, State
from bkapp.practice.paying.faults import STRAIGHT, Do, Fault, On, Script
from bkapp.practice.paying.merchants import practice_merchants
from bkapp.practice.paying.pages import FACADES
from tests.practice.tills import DOSSIER, NAMES, QUICK, Till, a_till, an_order, eventually

REDIRECTING = tuple(name for name in NAMES if name != "vietqr")
TELLS_OF_FAILURE = ("paygov", "keypay", "vnpay", "momo", "viettel")


@pytest.fixture(scope="module")
async def shared() -> AsyncIterator[Till]:
    async with a_till() as running:
        yield running


@pytest.fixture
async def till(shared: Till) -> AsyncIterator[Till]:
    yield shared
    shared.go_on.set()
    await shared.script()
    shared.refuses.clear()


async def outcomes(till: Till, order: Order, count: int) -> list[Outcome]:
    return [one.finding.outcome for one in await till.told(order, count)]


# --- buttons ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
async def test_slow_is_pending_until_it_is_told(till: Till, name: str) -> None:
    order = an_order()

    till.go_on.clear()
    await till.pay(await till.begin(name, order), "cham")
    meanwhile = await till.inquire(name, order)
    early = till.about(order)
    till.go_on.set()
    told = await outcomes(till, order, 1)

    assert (meanwhile.outcome, early, told) == (Outcome.PENDING, [], [Outcome.PAID])
    assert (await till.inquire(name, order)).outcome is Outcome.PAID


@pytest.mark.parametrize("name", REDIRECTING)
async def test_late_has_failed_first_and_is_paid_afterwards(till: Till, name: str) -> None:
    order = an_order()

    till.go_on.clear()
    await till.choose(await till.begin(name, order), "muon")
    meanwhile = await till.inquire(name, order)
    till.go_on.set()
    told = await outcomes(till, order, 2 if name in TELLS_OF_FAILURE else 1)

    assert meanwhile.outcome is Outcome.FAILED
    assert told == [Outcome.FAILED, Outcome.PAID][-len(told) :]
    assert (await till.inquire(name, order)).outcome is Outcome.PAID


@pytest.mark.parametrize("name", TELLS_OF_FAILURE)
async def test_a_failure_is_told_as_one_even_after_the_late_money_came(till: Till, name: str) -> None:
    order = an_order()
    await till.choose(await till.begin(name, order), "muon", seconds="0")
    asked = till.asked(order)
    await eventually(lambda: asked.paid)

    message = till.cashier.facade(asked).notice(asked, None, STRAIGHT, till.cashier.now())
    assert message is not None
    call = Call(
        method=message.method,
        what="result" if name == "viettel" else "",
        query=urlsplit(message.url).query.encode(),
        headers={},
        body=message.body,
    )
    finding = till.providers[name].hear(till.merchants[name], call, now=datetime.now(UTC)).finding

    assert finding is not None
    assert (finding.outcome, finding.transaction) == (Outcome.FAILED, None)


@pytest.mark.parametrize("name", NAMES)
async def test_a_wrong_signature_is_never_believed_and_sent_until_nobody_wants_to(till: Till, name: str) -> None:
    order, before = an_order(), len(till.heard)

    answer = await till.pay(await till.begin(name, order), "sai-chu-ky")
    told = (await eventually(lambda: tellings(till, order)))[-1]
    tries = told.tries
    await eventually(lambda: len(tries) == 1 + len(QUICK.retries))

    refused = [one.refused for one in till.heard[before:] if one.call.what != "verify"]
    assert [one.verdict for one in refused if one is not None] == [Verdict.BAD_SIGNATURE] * len(tries)
    assert not told.done
    assert (await till.inquire(name, order)).outcome is Outcome.PAID
    if "?" in answer.headers["location"]:
        query = answer.headers["location"].partition("?")[2].encode()
        provider, merchant = till.providers[name], till.merchants[name]
        assert provider.came_back(merchant, query, now=datetime.now(UTC)) is None


def tellings(till: Till, order: Order) -> list[Delivery]:
    """What the provider began to tell of money."""
    return [one for one in list(till.asked(order).deliveries) if one.about.startswith("đã thu")]


@pytest.mark.parametrize("name", REDIRECTING)
async def test_nobody_pays_an_order_twice_by_its_page(till: Till, name: str) -> None:
    order = an_order()
    begun = await till.begin(name, order)
    page = await till.page_of(begun)

    first, again = [await till.http.post(page, data={"choice": "thanh-cong"}) for _ in range(2)]
    shown = await till.http.get(page)

    assert (first.status_code, again.status_code) == (303, 409)
    assert len(till.asked(order).payments) == 1
    assert "Đã thanh toán" in shown.text
    assert "Về trang của đơn vị thu phí" in shown.text
    assert "<button" not in shown.text


async def test_seconds_may_be_chosen_and_are_a_number(till: Till) -> None:
    order = an_order()
    page = await till.page_of(await till.begin("momo", order))

    refused = await till.http.post(page, data={"choice": "cham", "seconds": "mot"})
    await till.http.post(page, data={"choice": "cham", "seconds": "0"})

    assert refused.status_code == 400
    assert await outcomes(till, order, 1) == [Outcome.PAID]


async def test_viettel_takes_nothing_that_the_merchant_does_not_want(till: Till) -> None:
    order = an_order()
    till.refuses.add(order.reference)

    await till.choose(await till.begin("viettel", order), "thanh-cong")

    assert (till.asked(order).state, till.asked(order).payments) == (State.FAILED, [])
    assert [one.about for one in till.asked(order).deliveries] == ["hỏi trước khi thu tiền"]
    assert (await till.inquire("viettel", order)).outcome is Outcome.FAILED


# --- faults ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("do", ["timeout", "drop", "error500", "garbage"])
@pytest.mark.parametrize("name", ["paygov", "keypay", "momo", "zalopay"])
async def test_a_begin_that_went_wrong_is_found_out_by_asking(till: Till, name: str, do: str) -> None:
    order, provider = an_order(), till.hasty[name]
    await till.script({"on": "begin", "do": do, "merchant": name})

    with pytest.raises(NoAnswer):
        await provider.begin(till.merchants[name], order, now=datetime.now(UTC))

    def is_there() -> bool:
        return till.cashier.find(till.cashier.merchants[name], named(name, order)) is not None

    if do in {"timeout", "garbage"}:
        await eventually(is_there)
    else:
        assert not is_there()


def named(name: str, order: Order) -> str:
    """What a provider calls an order."""
    return f"{order.created_at.astimezone(HANOI):%y%m%d}_{order.reference}" if name == "zalopay" else order.reference


async def test_a_slow_answer_comes_all_the_same_and_a_doubled_begin_is_one_order(till: Till) -> None:
    slow, doubled = an_order(), an_order()
    await till.script({"on": "begin", "do": "slow"}, {"on": "begin", "do": "duplicate"})

    began = time.monotonic()
    begun = [await till.begin("paygov", order) for order in (slow, doubled)]

    assert time.monotonic() - began >= QUICK.lag
    assert all(one.redirect_url for one in begun)
    assert [one.reference for one in till.cashier.orders.values()].count(doubled.reference) == 1


async def test_a_wrong_amount_in_an_answer_is_noticed(till: Till) -> None:
    await till.script({"on": "begin", "do": "wrong_amount", "merchant": "momo"})

    with pytest.raises(NoAnswer):
        await till.begin("momo", an_order())


@pytest.mark.parametrize("name", ["paygov", "keypay", "vnpay", "viettel", "vietqr"])
async def test_what_is_inquired_may_come_forged_late_or_wrong(till: Till, name: str) -> None:
    order = an_order()
    await till.pay(await till.begin(name, order))

    await till.script({"on": "inquire", "do": "bad_signature"}, {"on": "inquire", "do": "timeout"})
    for _ in range(2):
        with pytest.raises(NoAnswer):
            await till.inquire(name, order, hastily=True)
    await till.script({"on": "inquire", "do": "wrong_amount"}, {"on": "inquire", "do": "slow"})
    wrong = await till.inquire(name, order)
    right = await till.inquire(name, order)

    assert (wrong.amount, right.amount) == (21_000, 20_000)


async def test_the_hash_of_a_payment_page_is_needed(till: Till) -> None:
    for name in ("vnpay", "viettel"):
        url = (await till.begin(name, an_order())).redirect_url
        assert url is not None
        page = await till.http.get(url.replace("20000", "30000"))
        assert (page.status_code, "Sai chữ ký" in page.text) == (400, True)


@pytest.mark.parametrize("do", ["timeout", "drop", "error500", "garbage", "bad_signature"])
async def test_a_webhook_that_went_wrong_is_sent_again(till: Till, do: str) -> None:
    order = an_order()
    await till.script({"on": "webhook", "do": do, "times": 2})

    await till.pay(await till.begin("vnpay", order))
    assert await outcomes(till, order, 1) == [Outcome.PAID]

    delivery = await eventually(lambda: till.asked(order).deliveries[-1])
    assert await eventually(lambda: delivery.done)
    assert [one.taken for one in delivery.tries] == [False, False, True]


async def test_a_webhook_may_be_slow_or_about_another_amount(till: Till) -> None:
    slow, wrong = an_order(), an_order()

    await till.script({"on": "webhook", "do": "slow"})
    began = time.monotonic()
    await till.pay(await till.begin("paygov", slow))
    await outcomes(till, slow, 1)
    took = time.monotonic() - began
    await till.script({"on": "webhook", "do": "wrong_amount"})
    await till.pay(await till.begin("paygov", wrong))
    told = await till.told(wrong)

    assert took >= QUICK.slow
    assert told[0].finding.amount == 21_000
    assert (await till.inquire("paygov", wrong)).amount == 20_000


@pytest.mark.parametrize(
    ("do", "payments", "told", "state"),
    [
        ("timeout", [20_000], 0, State.PAID),
        ("drop", [], 0, State.WAITING),
        ("error500", [], 0, State.WAITING),
        ("garbage", [20_000], 0, State.PAID),
        ("bad_signature", [20_000], 0, State.PAID),
        ("slow", [20_000], 1, State.PAID),
        ("duplicate", [20_000, 20_000], 2, State.PAID),
        ("wrong_amount", [21_000], 1, State.PAID),
        ("ok", [20_000], 1, State.PAID),
    ],
)
async def test_paying_goes_wrong_as_the_script_says(
    till: Till, do: str, payments: list[int], told: int, state: State
) -> None:
    order = an_order()
    page = await till.page_of(await till.begin("momo", order))
    await till.script({"on": "pay", "do": do})

    try:
        answer = await till.http.post(page, data={"choice": "thanh-cong"}, timeout=QUICK.hang + 2)
        status = answer.status_code
    except httpx.RemoteProtocolError:
        status = 0

    assert status == {"drop": 0, "error500": 500}.get(do, 303)
    asked = till.asked(order)
    await eventually(lambda: asked.state is state)
    if told:
        await outcomes(till, order, told)
    assert [one.amount for one in asked.payments] == payments
    assert len(till.about(order)) == told


async def test_a_script_is_worked_off_call_by_call() -> None:
    script = Script([Fault(on=On.WEBHOOK, do=Do.OK, times=2), Fault(on=On.WEBHOOK, do=Do.DROP, merchant="momo")])

    done = [script.take(On.WEBHOOK, "vnpay") for _ in range(3)] + [script.take(On.WEBHOOK, "momo") for _ in range(2)]

    assert done == [Do.OK, Do.OK, Do.OK, Do.DROP, Do.OK]
    assert script.faults == []


@pytest.mark.parametrize(
    "sent",
    [b"{}", b"[{}]", b'[{"on": "begin", "do": "explode"}]', b'[{"on": "pay", "do": "ok", "times": 0}]', b"\xff"],
)
async def test_a_script_that_cannot_be_read_changes_nothing(till: Till, sent: bytes) -> None:
    await till.script({"on": "refund", "do": "drop"})

    answer = await till.http.post("/thanh-toan/kich-ban", content=sent, headers={"Content-Type": "application/json"})

    assert answer.status_code == 400
    assert (await till.http.get("/thanh-toan/kich-ban")).json() == [{"on": "refund", "do": "drop"}]


async def test_the_page_sets_the_script_too(till: Till) -> None:
    answer = await till.http.post(
        "/thanh-toan/kich-ban", data={"script": '[{"on": "begin", "do": "slow", "times": 3}]'}
    )
    shown = await till.http.get("/thanh-toan/")

    assert (answer.status_code, answer.headers["location"]) == (303, "/thanh-toan/")
    assert "&#34;times&#34;: 3" in shown.text


# --- who asks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["paygov", "keypay", "momo", "zalopay"])
async def test_a_merchant_with_another_key_is_refused(till: Till, name: str) -> None:
    order, merchant = an_order(), till.merchants[name]
    other = msgspec.structs.replace(merchant, secrets=dict.fromkeys(merchant.secrets, ("other",)))

    with pytest.raises(Refused):
        await till.providers[name].begin(other, order, now=datetime.now(UTC))

    assert till.cashier.find(till.cashier.merchants[name], named(name, order)) is None


@pytest.mark.parametrize("name", NAMES)
async def test_nobody_learns_of_orders_without_the_key(till: Till, name: str) -> None:
    order, merchant = an_order(), till.merchants[name]
    await till.pay(await till.begin(name, order))
    other = msgspec.structs.replace(merchant, secrets=dict.fromkeys(merchant.secrets, ("other",)))

    try:
        finding = await till.providers[name].inquire(other, order, now=datetime.now(UTC))
    except (NoAnswer, NotSent):
        return
    assert finding.outcome is not Outcome.PAID


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (path, body)
        for path in (
            "paygov/init",
            "paygov/query",
            "paygov/bill",
            "keypay/pay",
            "keypay/detail",
            "vnpay/merchant_webapi/api/transaction",
            "momo/v2/gateway/api/create",
            "momo/v2/gateway/api/query",
            "momo/v2/gateway/api/refund",
            "momo/v2/gateway/api/refund/query",
            "zalopay/v2/create",
            "zalopay/v2/query",
            "zalopay/v2/refund",
            "zalopay/v2/query_refund",
            "viettel/search",
        )
        for body in (b"", b"\xff", b"[]", b'{"a": {}}', b'{"MaDoiTac": "BACKAN", "app_id": "2553"}')
    ],
)
async def test_a_call_that_cannot_be_read_is_refused_in_the_protocol(till: Till, path: str, body: bytes) -> None:
    answer = await till.http.post(f"/thanh-toan/{path}", content=body)

    assert answer.status_code < 500
    assert isinstance(answer.json(), dict)


@pytest.mark.parametrize("name", REDIRECTING)
async def test_strangers_and_references_used_for_something_else_are_refused(till: Till, name: str) -> None:
    order, merchant = an_order(), till.merchants[name]
    await till.page_of(await till.begin(name, order))
    stranger = msgspec.structs.replace(merchant, code="999")
    dearer = msgspec.structs.replace(an_order(30_000), reference=order.reference, created_at=order.created_at)

    for who, what in ((stranger, an_order()), (merchant, dearer)):
        try:
            begun = await till.providers[name].begin(who, what, now=datetime.now(UTC))
        except (Refused, NoAnswer):
            continue
        assert begun.redirect_url is not None
        assert (await till.http.get(begun.redirect_url)).status_code == 400
    assert till.asked(order).amount == 20_000


async def test_the_same_reference_for_another_amount_is_another_order() -> None:
    cashier = a_cashier(lambda: 1_800_000_000.0)
    merchant = cashier.merchants["paygov"]
    order = cashier.begin(merchant, "A", 1_000, about="")

    assert cashier.begin(merchant, "A", 1_000, about="") is order
    with pytest.raises(OtherOrder):
        cashier.begin(merchant, "A", 2_000, about="")


def a_cashier(clock: Any) -> Cashier:
    merchants = practice_merchants("http://practice")
    return Cashier(
        site="http://practice",
        home="http://bkapp",
        merchants=merchants,
        facades=FACADES,
        http=httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(200))),
        clock=clock,
        pace=QUICK,
    )


async def test_numbers_are_never_given_out_again_not_even_after_a_restart() -> None:
    before = a_cashier(lambda: 1_800_000_000.0)
    after = a_cashier(lambda: 1_800_000_001.0)

    numbers = [before.number() for _ in range(500)] + [after.number() for _ in range(500)]

    assert len(set(numbers)) == 1_000


async def test_an_order_that_nobody_pays_expires() -> None:
    now = [1_800_000_000.0]
    cashier = a_cashier(lambda: now[0])
    merchant = cashier.merchants["vnpay"]
    order = cashier.begin(merchant, "A", 1_000, about="", expires_at=cashier.now() + timedelta(minutes=15))

    now[0] += 16 * 60

    with pytest.raises(Closed):
        await cashier.pay(order, Choice.PAY)
    assert (order.state, order.payments) == (State.EXPIRED, [])


# --- Paygov's own pages ----------------------------------------------------------------------------------------------


async def test_somebody_comes_to_paygov_with_the_code_of_a_dossier(till: Till) -> None:
    owed = an_order(35_000)
    till.owed[DOSSIER] = owed

    asked = await till.http.post("/thanh-toan/paygov/tra-cuu", data={"dossier": DOSSIER})
    page = await till.http.get(asked.headers["location"])
    await till.http.post(asked.headers["location"], data={"choice": "thanh-cong"})
    heard = await eventually(
        lambda: [
            one.finding
            for one in list(till.heard)
            if one.hearing and one.hearing.finding and DOSSIER in one.hearing.finding.references
        ]
    )

    assert "35.000 đ" in page.text
    assert "Phí thẩm định" in page.text
    assert (heard[0].outcome, heard[0].amount) == (Outcome.PAID, 35_000)


@pytest.mark.parametrize("page", ["paygov/tra-cuu", "ngan-hang/doc-ma", "ngan-hang/chuyen-khoan", "kich-ban"])
async def test_a_form_that_cannot_be_read_is_a_page_that_says_so(till: Till, page: str) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await till.http.post(f"/thanh-toan/{page}", content=b"a=1&a=2&dossier=%ff", headers=form)

    assert (answer.status_code, "Không đọc được" in answer.text) == (400, True)


async def test_a_dossier_without_a_bill_is_said_so(till: Till) -> None:
    till.owed.clear()

    nothing, unknown = [
        await till.http.post("/thanh-toan/paygov/tra-cuu", data={"dossier": code}) for code in (DOSSIER, "nothing")
    ]

    assert "không còn khoản nào phải nộp" in nothing.text
    assert "Không tìm thấy hồ sơ" in unknown.text


async def test_paygov_has_a_receipt_once_it_is_paid(till: Till) -> None:
    order, provider, merchant = an_order(), till.providers["paygov"], till.merchants["paygov"]
    assert isinstance(provider, Paygov)
    begun = await till.begin("paygov", order)

    with pytest.raises(Refused):
        await provider.bill_pdf(merchant, order, now=datetime.now(UTC))
    await till.pay(begun)

    assert (await provider.bill_pdf(merchant, order, now=datetime.now(UTC))).startswith(b"%PDF-")


# --- the bank --------------------------------------------------------------------------------------------------------


async def test_the_bank_signs_after_standard_webhooks_if_asked_to(till: Till) -> None:
    order = an_order()

    await till.pay(await till.begin("vietqr", order), scheme="standard-webhooks")
    heard = (await till.told(order))[0]

    assert "webhook-signature" in heard.call.headers
    assert b'"signature"' not in heard.call.body
    assert heard.finding.amount == 20_000


async def test_a_transfer_by_hand_may_name_nothing_of_ours(till: Till) -> None:
    before = len(till.heard)

    answer = await till.transfer(bank_bin="970436", account="0011", amount="7000", content="Tiền “cỏ” & = ạ")
    heard = await eventually(lambda: till.heard[before:])

    assert answer.status_code == 303
    assert (list(heard[0].finding.references), heard[0].finding.amount) == ([], 7_000)


@pytest.mark.parametrize(
    "fields",
    [
        {"bank_bin": "97043"},
        {"account": "12 34"},
        {"account": ""},
        {"amount": "0"},
        {"amount": "-5"},
        {"amount": "1.000"},
        {"choice": "that-bai"},
        {"choice": "nothing"},
        {"scheme": "none"},
    ],
)
async def test_a_transfer_that_no_bank_makes_is_refused(till: Till, fields: dict[str, str]) -> None:
    before = len(till.cashier.orders)

    answer = await till.transfer(**{"bank_bin": "970436", "account": "0011", "amount": "7000"} | fields)

    assert (answer.status_code, len(till.cashier.orders)) == (400, before)
    assert 'role="alert"' in answer.text


async def test_the_bank_reads_codes_strictly(till: Till) -> None:
    good = vietqr.credit_transfer("970436", "0011001234567", 50_000, "TT7K3M9Q2M4X")

    read = await till.http.post("/thanh-toan/ngan-hang/doc-ma", data={"qr": good})
    broken = await till.http.post("/thanh-toan/ngan-hang/doc-ma", data={"qr": good.replace("50000", "60000")})

    assert 'value="50000"' in read.text
    assert (broken.status_code, "Không phải mã VietQR" in broken.text) == (400, True)


async def test_the_bank_answers_only_who_signs_and_asks_now(till: Till) -> None:
    url = "/thanh-toan/ngan-hang/vietqr/transactions?reference=TT7K3M9Q2M4X"

    unsigned = await till.http.get(url)
    odd = await till.http.get(url, headers={b"X-Timestamp": b"\xb2", b"X-Signature": b"0"})
    nobody = await till.http.get(url.replace("vietqr", "vnpay"))

    assert [one.status_code for one in (unsigned, odd, nobody)] == [401, 401, 401]


# --- pages and files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["", "don/nobody", "ngan-hang", "paygov/tra-cuu", "vnpay/paymentv2/vpcpay.html", "viettel/payment"]
)
async def test_pages_run_no_scripts_and_load_only_their_style(till: Till, path: str) -> None:
    page = await till.http.get(f"/thanh-toan/{path}")

    assert "default-src 'none'; style-src 'self'" in page.headers["content-security-policy"]
    assert "script>" not in page.text
    assert 'href="/thanh-toan/style.css"' in page.text
    assert "Không phải cổng thanh toán thật" in page.text
    assert (await till.http.get("/thanh-toan/style.css")).headers["content-type"].startswith("text/css")


async def test_the_log_shows_what_was_sent_and_what_was_answered(till: Till) -> None:
    order = an_order()
    await till.pay(await till.begin("momo", order))
    await outcomes(till, order, 1)
    asked = till.asked(order)
    await eventually(lambda: asked.deliveries[-1].done)

    log = await till.http.get(f"/thanh-toan/don/{asked.ticket}/nhat-ky")
    listed = await till.http.get("/thanh-toan/")

    assert "trả lời 204" in log.text
    assert asked.payments[0].transaction in log.text
    assert f"Nhật ký của {order.reference}" in listed.text


async def test_the_files_of_a_day_say_what_happened(till: Till) -> None:
    orders = {name: an_order(31_000) for name in (*NAMES, "cancelled", "slow")}
    for name in NAMES:
        await till.pay(await till.begin(name, orders[name]))
    await till.choose(await till.begin("vnpay", orders["cancelled"]), "that-bai")
    till.go_on.clear()
    await till.pay(await till.begin("vietqr", orders["slow"]), "cham")
    day = f"{till.cashier.now().astimezone(HANOI).date()}"

    for name in NAMES:
        file = await till.http.get(f"/thanh-toan/doi-soat/{name}/{day}.csv")
        report = statements.read(file.content, Source.PROVIDER)
        line = next(one for one in report.lines if orders[name].reference in one.references)
        assert (report.merchant, str(report.business_date)) == (name, day)
        assert (line.kind, line.amount, line.status) == (Kind.PAYMENT, 31_000, Status.SUCCEEDED)
        assert line.transaction == till.asked(orders[name]).payments[0].transaction
        if name == "vnpay":
            failed = next(one for one in report.lines if orders["cancelled"].reference in one.references)
            assert (failed.status, failed.transaction) == (Status.FAILED, "")
        if name == "vietqr":
            pending = next(one for one in report.lines if orders["slow"].reference in one.references)
            assert pending.status is Status.PENDING

    table = statements.read(
        (await till.http.get(f"/thanh-toan/ngan-hang/vietqr/sao-ke/{day}.csv")).content, Source.BANK
    )
    swift = statements.read(
        (await till.http.get(f"/thanh-toan/ngan-hang/vietqr/sao-ke/{day}/{orders['vietqr'].account}.sta")).content,
        Source.BANK,
    )
    for statement in (table, swift):
        found = {line.references: line.amount for line in statement.lines}
        assert str(statement.business_date) == day
        assert found[orders["vietqr"].reference,] == found[orders["slow"].reference,] == 31_000
    assert {line.transaction for line in swift.lines} <= {line.transaction for line in table.lines}


async def test_a_provider_settles_with_the_bank_the_day_after_in_one_sum() -> None:
    now = [datetime(2026, 11, 24, 9, tzinfo=HANOI).timestamp()]
    cashier = a_cashier(lambda: now[0])
    merchant = cashier.merchants["vnpay"]
    for number, amount in enumerate((20_000, 30_000, 40_000)):
        order = cashier.begin(merchant, f"A{number}", amount, about="")
        await cashier.pay(order, Choice.FAIL if amount == 30_000 else Choice.LOST)
    cashier.refund(order, "R", "", 5_000, slowly=False)
    day = date(2026, 11, 25)

    table = statements.read(reports.statement_csv(cashier, merchant, day), Source.BANK)
    swift = statements.read(reports.statement_mt940(cashier, merchant, merchant.code, day), Source.BANK)
    on_the_day = statements.read(reports.statement_csv(cashier, merchant, date(2026, 11, 24)), Source.BANK)
    await cashier.close()

    assert reports.accounts(cashier, merchant, day) == [merchant.code]
    for statement in (table, swift):
        assert [(line.amount, days_in(line.content)) for line in statement.lines] == [(55_000, [date(2026, 11, 24)])]
        assert statement.business_date == day
    assert (on_the_day.count, on_the_day.total) == (0, 0)


async def test_the_files_of_another_day_are_linked_too(till: Till) -> None:
    listed = await till.http.get("/thanh-toan/?ngay=2026-10-20")
    odd = await till.http.get("/thanh-toan/?ngay=hom-qua")

    assert 'href="/thanh-toan/doi-soat/vnpay/2026-10-20.csv"' in listed.text
    assert odd.status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "doi-soat/nobody/2026-11-24.csv",
        "doi-soat/vnpay/today.csv",
        "ngan-hang/nobody/sao-ke/2026-11-24.csv",
        "ngan-hang/vietqr/sao-ke/2026-11-24T00/1.sta",
        "don/nobody/nhat-ky",
    ],
)
async def test_what_is_not_there_is_a_page_that_says_so(till: Till, path: str) -> None:
    answer = await till.http.get(f"/thanh-toan/{path}")

    assert (answer.status_code, "Không thực hiện được" in answer.text) == (404, True)


async def test_the_merchants_have_titles_and_secrets_of_their_own() -> None:
    merchants = practice_merchants("http://localhost:8001")

    assert {one.provider for one in merchants} == set(NAMES)
    secrets = [secret for one in merchants for secret in one.secrets.values()]
    assert len(set(secrets)) == len(secrets)
    assert len(base64.b64decode(merchants[1].secrets["webhook"].removeprefix("whsec_"))) >= 24
