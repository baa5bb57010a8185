"""The API of bills and attempts: whose they are, how they are paid, and how one learns what came of it."""

import asyncio
import io
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import msgspec
import pytest
from httpx import AsyncClient
from pypdf import PdfReader
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.pool import NullPool

from bkapp.access.models import DataRead
from bkapp.access.operations import Caller
from bkapp.access.rules import Role
from bkapp.app import asgi
from bkapp.config import Settings, load_settings
from bkapp.db import Sessions
from bkapp.payments import vietqr
from bkapp.payments.controllers import attempts as following
from bkapp.payments.models import Bill, BillLine, Merchant, PaymentAttempt
from bkapp.payments.operations import showing
from bkapp.payments.schemas.bills import payer_ip, poll_after_ms
from bkapp.units import queries as units
from tests import make
from tests.conftest import _clone
from tests.identity.make import KEYRING, a_number, a_person, a_sign_in, cookie_headers, visiting
from tests.payments.make import a_bill, a_merchant, an_attempt, hear
from tests.practice.peers import running

BILLS = "/api/v1/bills"
NAME = "Nông Thị Nộp"
ELSEWHERE = "02083"
ROOM = following._ROOM._value


class Payer(msgspec.Struct):
    """Somebody with a bill, and their browser's cookie."""

    person: UUID
    secret: str

    def headers(self, key: str | None = None, **more: str) -> dict[str, str]:
        return cookie_headers(self.secret, key, **more)


@pytest.fixture
async def payer(session: AsyncSession) -> Payer:
    person = await a_person(session, name=NAME)
    return Payer(person, await a_sign_in(session, person))


@pytest.fixture
async def other(session: AsyncSession) -> Payer:
    person = await a_person(session, name="Dương Văn Khác")
    return Payer(person, await a_sign_in(session, person))


@pytest.fixture
async def vnpay(session: AsyncSession) -> Merchant:
    return await a_vnpay(session)


@pytest.fixture
async def browser(settings: Settings, sessions: Sessions) -> AsyncIterator[AsyncClient]:
    async with visiting(settings, sessions) as client:
        yield client


async def a_vnpay(session: AsyncSession) -> Merchant:
    """A merchant whose payers carry the request themselves, so that nothing is asked over the network."""
    row = await a_merchant(session, provider="vnpay", secrets={"hash": "s3cret"})
    row.options = {"pay_url": "https://pay.test/vpcpay.html", "api_url": "http://127.0.0.1:9/api"}
    await session.flush()
    return row


async def unit_id(session: AsyncSession, code: str = make.COMMUNE) -> int:
    found = await units.unit_on(session, code, datetime.now(UTC).date())
    assert found is not None
    return found.id


async def owed(session: AsyncSession, payer: Payer, **facts: Any) -> Bill:
    return await a_bill(session, payer_id=payer.person, unit_id=await unit_id(session), **facts)


async def start(client: AsyncClient, payer: Payer, bill: Bill, **more: Any) -> httpx.Response:
    key = more.pop("key", None)
    return await client.post(
        f"{BILLS}/{bill.id}/attempts", headers=payer.headers(key), json={"method": "vnpay", **more}
    )


async def reads(session: AsyncSession, subject: UUID, path: str) -> int:
    counted = select(func.count()).where(DataRead.subject == str(subject), DataRead.what.startswith(path))
    return (await session.execute(counted)).scalar_one()


class TestMethods:
    async def test_anybody_sees_the_ways_to_pay_that_are_open_in_their_order(
        self, browser: AsyncClient, session: AsyncSession, vnpay: Merchant
    ) -> None:
        bank = await a_merchant(session, provider="vietqr")
        closed = await a_merchant(session, provider="momo")
        vnpay.position, bank.position, closed.active = 2, 1, False
        await session.commit()

        answer = await browser.get("/api/v1/payment-methods")

        assert answer.json()["methods"] == [
            {"key": "vietqr", "title": "Thử", "kind": "transfer"},
            {"key": "vnpay", "title": "Thử", "kind": "redirect"},
        ]


class TestBills:
    async def test_a_person_sees_their_own_newest_first_and_page_by_page(
        self, browser: AsyncClient, session: AsyncSession, payer: Payer, other: Payer, vnpay: Merchant
    ) -> None:
        mine = [await owed(session, payer, amount=amount) for amount in (1_000, 2_000, 3_000)]
        for place, bill in enumerate(mine):
            bill.created_at = datetime.now(UTC) - timedelta(days=9 - place)
        await owed(session, other)
        await session.commit()

        first = (await browser.get(f"{BILLS}?limit=2", headers=payer.headers())).json()
        rest = (await browser.get(f"{BILLS}?limit=2&after={first['next']}", headers=payer.headers())).json()

        assert [bill["amount"] for bill in first["bills"] + rest["bills"]] == [3_000, 2_000, 1_000]
        assert rest["next"] is None
        assert await reads(session, payer.person, BILLS) == 2

    async def test_a_bill_on_a_number_is_found_by_whoever_signs_in_with_it(
        self, browser: AsyncClient, session: AsyncSession, vnpay: Merchant
    ) -> None:
        number = a_number()
        bill = await a_bill(session, payer_number=number)
        person = await a_person(session, number=number)
        late = Payer(person, await a_sign_in(session, person))
        await session.commit()

        listed = (await browser.get(BILLS, headers=late.headers())).json()["bills"]
        started = await start(browser, late, bill)

        assert [one["id"] for one in listed] == [str(bill.id)]
        assert started.status_code == 201

    async def test_open_ones_alone_can_be_asked_for(
        self, browser: AsyncClient, session: AsyncSession, payer: Payer, vnpay: Merchant
    ) -> None:
        open_one, paid = await owed(session, payer), await owed(session, payer)
        attempt = await an_attempt(session, paid, vnpay)
        await hear(session, vnpay, attempt, transaction="T1")
        await session.commit()

        asked = {
            status: (await browser.get(f"{BILLS}?status={status}", headers=payer.headers())).json()["bills"]
            for status in ("open", "paid", "cancelled")
        }

        assert {status: [one["id"] for one in found] for status, found in asked.items()} == {
            "open": [str(open_one.id)],
            "paid": [str(paid.id)],
            "cancelled": [],
        }

    async def test_one_bill_is_told_to_its_payer_and_its_offices_alone_and_each_read_is_recorded(
        self, browser: AsyncClient, session: AsyncSession, payer: Payer, other: Payer, vnpay: Merchant
    ) -> None:
        bill = await owed(session, payer)
        inside, outside = await make.a_key(session, unit=make.COMMUNE), await make.a_key(session, unit=ELSEWHERE)
        province, monitor = await make.a_key(session), await make.a_key(session, role=Role.MONITOR)
        await session.commit()
        path = f"{BILLS}/{bill.id}"

        told = {
            "payer": await browser.get(path, headers=payer.headers()),
            "inside": await browser.get(path, headers=make.auth(inside)),
            "province": await browser.get(path, headers=make.auth(province)),
        }
        refused = {
            "other": (await browser.get(path, headers=other.headers())).status_code,
            "outside": (await browser.get(path, headers=make.auth(outside))).status_code,
            "monitor": (await browser.get(path, headers=make.auth(monitor))).status_code,
            "nobody": (await browser.get(path)).status_code,
        }

        assert {who: answer.status_code for who, answer in told.items()} == dict.fromkeys(told, 200)
        assert {answer.json()["payer_name"] for answer in told.values()} == {NAME}
        assert refused == {"other": 404, "outside": 403, "monitor": 403, "nobody": 401}
        assert await reads(session, payer.person, BILLS) == 3

    async def test_a_bill_of_no_unit_is_the_provinces(
        self, browser: AsyncClient, session: AsyncSession, payer: Payer, vnpay: Merchant
    ) -> None:
        bill = await a_bill(session, payer_id=payer.person)
        inside, province = await make.a_key(session, unit=make.COMMUNE), await make.a_key(session)
        await session.commit()

        answers = [await browser.get(f"{BILLS}/{bill.id}", headers=make.auth(key)) for key in (inside, province)]

        assert [answer.status_code for answer in answers] == [403, 200]

    async def test_money_paid_twice_is_shown_with_its_clock_and_its_refund(
        self, browser: AsyncClient, session: AsyncSession, payer: Payer, vnpay: Merchant
    ) -> None:
        bill = await owed(session, payer)
        attempt = await an_attempt(session, bill, vnpay)
        await hear(session, vnpay, attempt, transaction="T1")
        await hear(session, vnpay, attempt, transaction="T2")
        await session.commit()

        told = (await browser.get(f"{BILLS}/{bill.id}", headers=payer.headers())).json()

        assert [(one["amount"], one["place"]) for one in told["receipts"]] == [
            (20_000, "applied"),
            (20_000, "suspense"),
        ]
        assert [one["amount"] for one in told["receipts"][1]["refunds"]] == [20_000]
        [case] = told["cases"]
        assert (case["kind"], case["amount"]) == ("duplicate", 20_000)
        assert datetime.fromisoformat(case["due_at"]) > datetime.fromisoformat(case["opened_at"]) + timedelta(days=6)
        assert told["confirmation"] == f"{BILLS}/{bill.id}/confirmation.pdf"


class TestIssuing:
    @staticmethod
    def asked(**changes: Any) -> dict[str, Any]:
        return {
            "unit": make.COMMUNE,
            "description": "Lệ phí cấp bản sao trích lục",
            "procedure_code": "2.000635",
            "procedure_name": "Cấp bản sao trích lục hộ tịch",
            "dossier_code": "H03.01-261124-0001",
            "lines": [
                {"kind": "charge", "code": "LP01", "name": "Lệ phí", "amount": 8_000},
                {"kind": "delivery", "code": "BC01", "name": "Cước gửi", "amount": 30_000},
            ],
            "payer": {"number": "099184000001", "name": NAME},
            **changes,
        }

    async def test_an_officer_asks_for_a_fee_in_their_unit(
        self, browser: AsyncClient, session: AsyncSession, vnpay: Merchant
    ) -> None:
        key = await make.a_key(session, unit=make.COMMUNE)
        await session.commit()
        made_by_client = str(uuid4())

        answer = await make.post(browser, key, BILLS, self.asked(id=made_by_client, due_on="2026-12-31"))
        again = await make.post(browser, key, BILLS, self.asked(id=made_by_client, due_on="2026-12-31"))

        assert answer.status_code == again.status_code == 201, answer.text
        assert answer.json() == again.json()
        told = answer.json()
        assert (told["id"], told["amount"], told["status"]) == (made_by_client, 38_000, "open")
        [bill] = await session.scalars(select(Bill))
        assert bill.payer_hmac == KEYRING.lookup("citizen", "099184000001")
        assert NAME.encode() not in (bill.payer_name_cipher or b"")
        kept = await session.scalars(select(BillLine.amount).order_by(BillLine.position))
        assert list(kept) == [8_000, 30_000]
        recorded = select(func.count()).where(DataRead.subject == f"bill:{bill.id}")
        assert (await session.execute(recorded)).scalar_one() == 2

    async def test_a_person_who_signed_in_can_be_named(
        self, browser: AsyncClient, session: AsyncSession, payer: Payer, vnpay: Merchant
    ) -> None:
        key = await make.a_key(session, unit=make.COMMUNE)
        await session.commit()

        good = await make.post(browser, key, BILLS, self.asked(payer={"person": str(payer.person)}))
        unknown = await make.post(browser, key, BILLS, self.asked(payer={"person": str(uuid4())}))

        assert good.status_code == 201
        assert (await browser.get(f"{BILLS}/{good.json()['id']}", headers=payer.headers())).status_code == 200
        assert unknown.status_code == 422
        assert unknown.json()["errors"][0]["pointer"] == "/payer/person"

    async def test_what_cannot_be_is_refused(
        self, browser: AsyncClient, session: AsyncSession, vnpay: Merchant
    ) -> None:
        key = await make.a_key(session, unit=make.COMMUNE)
        await session.commit()
        line = {"kind": "fee", "code": "P", "name": "Phí", "amount": 1_000}
        number = {"number": "099184000001", "name": "A"}
        wrong: list[tuple[dict[str, Any], int]] = [
            ({"unit": ELSEWHERE}, 403),
            ({"unit": "99999"}, 422),
            ({"lines": []}, 400),
            ({"lines": [{**line, "amount": 0}]}, 400),
            ({"lines": [{**line, "amount": -5}]}, 400),
            ({"lines": [{**line, "amount": 0.5}]}, 400),
            ({"lines": [{**line, "amount": 9_999_999_999}, line]}, 400),
            ({"description": "a\x00b"}, 400),
            ({"description": " "}, 400),
            ({"description": "a\u202eb"}, 400),
            ({"dossier_code": "H03|x"}, 400),
            ({"payer": {}}, 400),
            ({"payer": {"number": number["number"]}}, 400),
            ({"payer": {**number, "person": str(uuid4())}}, 400),
            ({"payer": {**number, "number": "９９９１８４００００１２"}}, 400),
            ({"on_paid": "anything.at_all"}, 400),
        ]

        answers = [(await make.post(browser, key, BILLS, self.asked(**one))).status_code for one, _ in wrong]

        assert answers == [status for _, status in wrong]
        assert (await session.execute(select(func.count()).select_from(Bill))).scalar_one() == 0

    async def test_without_an_account_for_the_fee_none_is_asked(
        self, browser: AsyncClient, session: AsyncSession
    ) -> None:
        key = await make.a_key(session, unit=make.COMMUNE)
        await session.commit()

        answer = await make.post(browser, key, BILLS, self.asked())

        assert (answer.status_code, answer.json()["type"]) == (409, "/problems/no_beneficiary")

    async def test_its_office_takes_it_back_and_nobody_else(
        self, browser: AsyncClient, session: AsyncSession, payer: Payer, vnpay: Merchant
    ) -> None:
        bill = await owed(session, payer)
        inside, outside = await make.a_key(session, unit=make.COMMUNE), await make.a_key(session, unit=ELSEWHERE)
        await session.commit()
        path = f"{BILLS}/{bill.id}/cancel"

        assert (await make.post(browser, outside, path)).status_code == 403
        assert (await browser.post(path, headers=payer.headers())).status_code == 403
        cancelled = await make.post(browser, inside, path)

        assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
        assert (await start(browser, payer, bill)).json()["type"] == "/problems/bill_settled"

    async def test_an_officer_does_not_take_back_what_they_owe(
        self, browser: AsyncClient, session: AsyncSession, vnpay: Merchant
    ) -> None:
        person = await a_person(session, role=Role.OFFICER, unit=make.COMMUNE)
        officer = Payer(person, await a_sign_in(session, person))
        bill = await owed(session, officer)
        await session.commit()

        answer = await browser.post(f"{BILLS}/{bill.id}/cancel", headers=officer.headers())

        assert (answer.status_code, answer.json()["type"]) == (403, "/problems/own_bill")


class TestPaying:
    async def test_by_redirect_the_answer_says_where_to_go_on(
        self, browser: AsyncClient, session: AsyncSession, payer: Payer, vnpay: Merchant
    ) -> None:
        bill = await owed(session, payer)
        await session.commit()

        answer = await start(browser, payer, bill)

        told = answer.json()
        assert answer.status_code == 201, answer.text
        assert told["redirect_url"].startswith("https://pay.test/vpcpay.html?")
        assert (told["status"], told["kind"], told["amount"], told["qr"]) == ("pending", "redirect", 20_000, None)
        assert told["poll_after_ms"] == 1_000
        assert answer.headers["location"] == f"/api/v1/attempts/{told['id']}"

    async def test_by_transfer_it_holds_a_code_that_asks_for_the_right_money(
        self, browser: AsyncClient, session: AsyncSession, payer: Payer
    ) -> None:
        await a_merchant(session, provider="vietqr")
        bill = await owed(session, payer)
        await session.commit()

        told = (await start(browser, payer, bill, method="vietqr")).json()
        drawing = await browser.get(f"/api/v1/attempts/{told['id']}/qr.svg", headers=payer.headers())

        asked = vietqr.parse(told["qr"])
        assert (asked.amount, asked.purpose, asked.account) == (20_000, told["reference"], "0011001234567")
        assert drawing.headers["content-type"] == "image/svg+xml"
        assert drawing.text.startswith("<svg ")

    async def test_the_same_key_is_the_same_attempt_and_the_same_bytes(
        self, browser: AsyncClient, session: AsyncSession, payer: Payer, vnpay: Merchant
    ) -> None:
        bill = await owed(session, payer)
        await session.commit()

        first, again = await start(browser, payer, bill, key="one"), await start(browser, payer, bill, key="one")
        other_body = await start(browser, payer, bill, key="one", id=str(uuid4()))

        assert first.content == again.content
        assert again.headers["idempotent-replayed"] == "true"
        assert other_body.status_code == 422
        assert (await session.execute(select(func.count()).select_from(PaymentAttempt))).scalar_one() == 1

    async def test_the_client_may_make_the_id(
        self, browser: AsyncClient, session: AsyncSession, payer: Payer, vnpay: Merchant
    ) -> None:
        bill, second = await owed(session, payer), await owed(session, payer)
        await session.commit()
        own = str(uuid4())

        first, again = await start(browser, payer, bill, id=own), await start(browser, payer, bill, id=own)
        taken = await start(browser, payer, second, id=own)

        assert first.json()["id"] == again.json()["id"] == own
        assert (taken.status_code, taken.json()["type"]) == (409, "/problems/id_taken")

    async def test_a_bill_has_one_attempt_under_way_until_it_is_abandoned(
        self, browser: AsyncClient, session: AsyncSession, payer: Payer, vnpay: Merchant
    ) -> None:
        bill = await owed(session, payer)
        await session.commit()
        first = (await start(browser, payer, bill)).json()

        second = await start(browser, payer, bill)
        abandoned = await browser.post(f"/api/v1/attempts/{first['id']}/abandon", headers=payer.headers())
        third = await start(browser, payer, bill)

        assert (second.status_code, second.json()["type"]) == (409, "/problems/bill_already_being_paid")
        assert second.json()["attempt_id"] == first["id"]
        told = abandoned.json()
        assert (told["status"], told["redirect_url"], told["poll_after_ms"]) == ("expired", None, None)
        assert third.status_code == 201

    async def test_nobody_pays_or_watches_for_another(
        self, browser: AsyncClient, session: AsyncSession, payer: Payer, other: Payer, vnpay: Merchant
    ) -> None:
        bill = await owed(session, payer)
        await session.commit()
        attempt = (await start(browser, payer, bill)).json()["id"]
        key = await make.a_key(session)
        await session.commit()

        assert (await start(browser, other, bill)).status_code == 404
        for path in ("", "/events", "/qr.svg"):
            here = f"/api/v1/attempts/{attempt}{path}"
            assert (await browser.get(here, headers=other.headers())).status_code == 404
            assert (await browser.get(here, headers=make.auth(key))).status_code == 403
        abandoning = f"/api/v1/attempts/{attempt}/abandon"
        assert (await browser.post(abandoning, headers=other.headers())).status_code == 404
        assert (await browser.get(f"{BILLS}/{bill.id}/confirmation.pdf", headers=other.headers())).status_code == 404

    async def test_a_way_that_is_not_open_is_not_there(
        self, browser: AsyncClient, session: AsyncSession, payer: Payer, vnpay: Merchant
    ) -> None:
        bill = await owed(session, payer)
        vnpay.active = False
        await session.commit()

        assert (await start(browser, payer, bill)).status_code == 404
        assert (await start(browser, payer, bill, method="nothing")).status_code == 404

    @pytest.mark.parametrize(
        ("address", "told"),
        [
            ("203.0.113.7", "203.0.113.7"),
            ("2001:db8::1%eth0", "2001:db8::1"),
            ("unknown", "127.0.0.1"),
            ("a|b", "127.0.0.1"),
        ],
    )
    def test_providers_are_told_an_address_or_a_stand_in(self, address: str, told: str) -> None:
        assert payer_ip(address) == told


class TestPolling:
    async def test_what_one_has_is_not_sent_again(
        self, browser: AsyncClient, session: AsyncSession, payer: Payer, vnpay: Merchant
    ) -> None:
        bill = await owed(session, payer)
        await session.commit()
        path = f"/api/v1/attempts/{(await start(browser, payer, bill)).json()['id']}"

        first = await browser.get(path, headers=payer.headers())
        name = first.headers["etag"]
        same = await browser.get(path, headers=payer.headers(If_None_Match=f'"x", W/{name}'))
        row = (await session.scalars(select(PaymentAttempt))).one()
        await hear(session, vnpay, row, transaction="T1")
        await session.commit()
        moved = await browser.get(path, headers=payer.headers(If_None_Match=name))

        assert (first.status_code, first.headers["retry-after"]) == (200, "1")
        assert not name.startswith("W/")
        assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", name)
        assert same.headers["retry-after"] == "1"
        assert (moved.status_code, moved.json()["status"]) == (200, "succeeded")
        assert moved.json()["poll_after_ms"] is None
        assert "retry-after" not in moved.headers
        assert moved.headers["etag"] != name
        assert "private" in first.headers["cache-control"]

    async def test_the_older_an_attempt_the_longer_the_wait_and_one_name_is_one_answer(
        self, browser: AsyncClient, session: AsyncSession, payer: Payer, vnpay: Merchant
    ) -> None:
        bill = await owed(session, payer)
        await session.commit()
        attempt = (await start(browser, payer, bill)).json()["id"]
        seen: dict[str, bytes] = {}
        waits = []
        for age in (0, 30, 31, 120, 600):
            at = datetime.now(UTC) - timedelta(seconds=age)
            await session.execute(update(PaymentAttempt).values(created_at=at))
            await session.commit()
            answer = await browser.get(f"/api/v1/attempts/{attempt}", headers=payer.headers())
            waits.append((answer.json()["poll_after_ms"], answer.headers["retry-after"]))
            body = msgspec.json.encode({**answer.json(), "created_at": None})
            assert seen.setdefault(answer.headers["etag"], body) == body

        assert waits == [(1_000, "1"), (2_000, "2"), (2_000, "2"), (5_000, "5"), (15_000, "15")]
        assert len(seen) == 4
        assert poll_after_ms(timedelta(days=30)) == 15_000


class TestConfirmation:
    async def test_it_is_there_when_the_bill_is_paid_and_not_before(
        self, browser: AsyncClient, session: AsyncSession, payer: Payer, vnpay: Merchant
    ) -> None:
        bill = await owed(session, payer)
        attempt = await an_attempt(session, bill, vnpay)
        await session.commit()
        path = f"{BILLS}/{bill.id}/confirmation.pdf"

        before = await browser.get(path, headers=payer.headers())
        await hear(session, vnpay, attempt, transaction="GD14422574")
        await session.commit()
        after = await browser.get(path, headers=payer.headers())
        again = await browser.get(path, headers=payer.headers())

        assert (before.status_code, before.json()["type"]) == (409, "/problems/bill_not_paid")
        assert after.headers["content-type"] == "application/pdf"
        assert after.headers["content-disposition"].startswith('attachment; filename="xac-nhan-')
        assert after.content == again.content
        said = " ".join(PdfReader(io.BytesIO(after.content)).pages[0].extract_text().split())
        for expected in (NAME, bill.code, "Hai mươi nghìn đồng", "GD14422574", attempt.reference, "UBND xã Phủ Thông"):
            assert expected in said
        assert await reads(session, payer.person, BILLS) == 2

    async def test_its_code_is_proven_and_no_other(self, session: AsyncSession, payer: Payer, vnpay: Merchant) -> None:
        bill = await owed(session, payer)
        await hear(session, vnpay, await an_attempt(session, bill, vnpay), transaction="T1")
        caller = Caller(id="x", role=Role.CITIZEN, unit_ids=frozenset(), person=payer.person, level=2)
        row = await showing.own_bill(session, caller, bill.id)

        made = await showing.confirmation_of(session, KEYRING, row, home="https://bkapp.test", is_demo=False)
        token = made.check_url.removeprefix("https://bkapp.test/xac-nhan/")

        assert (await showing.check(session, KEYRING, token)).amount == 20_000


# --- events over a real socket ------------------------------------------------------------------------------------


class Served(msgspec.Struct):
    """The application on a socket, with one connection to read with, and a payer who waits."""

    url: str
    writing: Sessions
    payer: Payer
    vnpay: Merchant
    attempt: PaymentAttempt

    @property
    def events(self) -> str:
        return f"{self.url}/api/v1/attempts/{self.attempt.id}/events"

    async def paid(self) -> None:
        async with self.writing.begin() as session:
            await hear(session, self.vnpay, self.attempt, transaction=f"T{uuid4().hex[:8]}")


@pytest.fixture(scope="module")
async def server(template: str) -> AsyncIterator[tuple[str, Sessions]]:
    """The application on a database that commits, with one connection to read with; and how to write there."""
    for database in _clone(template):
        engine = create_async_engine(database, poolclass=NullPool, connect_args={"options": "-c jit=off"})
        settings = load_settings(
            {
                "DATABASE_URL": database,
                "BKAPP_DEMO": "1",
                "BKAPP_BASE_URL": "http://bkapp.test",
                "BKAPP_RATE_LIMIT": "1000000/second",
                "BKAPP_POOL_SIZE": "1",
            }
        )
        async with running(asgi(settings)) as url:
            yield url, async_sessionmaker(engine, expire_on_commit=False)
        await engine.dispose()


@pytest.fixture
async def served(server: tuple[str, Sessions]) -> Served:
    url, writing = server
    async with writing.begin() as session:
        person = await a_person(session, name=NAME)
        payer = Payer(person, await a_sign_in(session, person))
        vnpay = await session.scalar(select(Merchant)) or await a_vnpay(session)
        attempt = await an_attempt(session, await a_bill(session, payer_id=person), vnpay, now=datetime.now(UTC))
    return Served(url, writing, payer, vnpay, attempt)


async def next_event(lines: AsyncIterator[str]) -> dict[str, str]:
    """The fields of the next event; a hint to come back, or a comment, is one too."""
    found: dict[str, str] = {}
    async for line in lines:
        if not line:
            return found
        name, _, value = line.partition(": ")
        found[name] = value
    return found


class TestEvents:
    async def test_a_move_is_told_as_it_happens_and_the_last_one_ends_the_stream(self, served: Served) -> None:
        async with (
            AsyncClient(timeout=10) as client,
            client.stream("GET", served.events, headers=served.payer.headers()) as answer,
        ):
            lines = answer.aiter_lines()
            hint, first = await next_event(lines), await next_event(lines)
            began = time.monotonic()
            await served.paid()
            second = await next_event(lines)
            took = time.monotonic() - began
            rest = [line async for line in lines]

        assert answer.headers["content-type"].startswith("text/event-stream")
        assert (answer.headers["cache-control"], answer.headers["x-accel-buffering"]) == ("no-store", "no")
        assert hint == {"retry": "3000"}
        assert (first["event"], first["id"]) == ("status", "2")
        told = msgspec.json.decode(second["data"])
        assert (second["id"], told["status"], told["version"]) == ("3", "succeeded", 3)
        assert took < 3
        assert rest == []

    async def test_who_comes_back_is_told_what_they_missed_and_then_to_stop(self, served: Served) -> None:
        await served.paid()
        async with AsyncClient(timeout=10) as client:
            missed = await client.get(served.events, headers=served.payer.headers(Last_Event_ID="2"))
            over = await client.get(served.events, headers=served.payer.headers(Last_Event_ID="3"))
            strange = await client.get(served.events, headers=served.payer.headers(Last_Event_ID="x"))

        assert missed.text.count("event: status") == 1
        assert (over.status_code, over.content) == (204, b"")
        assert strange.text.count("event: status") == 1

    async def test_who_waits_holds_no_connection_to_the_database(self, served: Served) -> None:
        async with AsyncClient(timeout=10) as client, AsyncExitStack() as stack:
            streams = [
                await stack.enter_async_context(client.stream("GET", served.events, headers=served.payer.headers()))
                for _ in range(6)
            ]
            lines = [stream.aiter_lines() for stream in streams]
            began = [[await next_event(one) for _ in range(2)][1]["id"] for one in lines]
            # There is one connection to read with, and the sixth reader gets it as well.
            answers = [
                await client.get(f"{served.url}/api/v1/attempts/{served.attempt.id}", headers=served.payer.headers())
                for _ in range(3)
            ]
            await served.paid()
            ended = [(await next_event(one))["id"] for one in lines]

        assert began == ["2"] * 6
        assert [answer.status_code for answer in answers] == [200] * 3
        assert ended == ["3"] * 6

    async def test_a_browser_that_leaves_leaves_nothing_running(self, served: Served) -> None:
        async with AsyncClient(timeout=10) as client:
            for _ in range(3):
                async with client.stream("GET", served.events, headers=served.payer.headers()) as answer:
                    await next_event(answer.aiter_lines())
            free = following._ROOM._value
            for _ in range(100):
                if following._ROOM._value == ROOM:
                    break
                await asyncio.sleep(0.1)

        assert free <= following._ROOM._value == ROOM

    async def test_a_quiet_stream_shows_that_it_is_alive_and_does_not_last_for_ever(
        self, served: Served, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, seconds in (("LOOK_EVERY", 0.05), ("HEARTBEAT_EVERY", 0.2), ("LASTS", 0.6)):
            monkeypatch.setattr(following, name, seconds)
        async with AsyncClient(timeout=10) as client:
            answer = await client.get(served.events, headers=served.payer.headers())

        assert answer.text.count("event: status") == 1
        assert 1 <= answer.text.count(": still here") <= 3

    async def test_in_a_crowd_each_is_told_once_and_comes_back(
        self, served: Served, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(following, "_ROOM", asyncio.Semaphore(0))
        async with AsyncClient(timeout=10) as client:
            answer = await client.get(served.events, headers=served.payer.headers())
            again = await client.get(served.events, headers=served.payer.headers(Last_Event_ID="2"))

        assert answer.text.count("event: status") == 1
        assert again.text == "retry: 3000\n\n"
