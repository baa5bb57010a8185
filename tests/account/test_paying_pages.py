"""Paying on pages without scripts: what people owe and pay, what officers ask for, what the treasury desk settles."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import uuid4

import msgspec
import pytest
import zxingcpp
from httpx import AsyncClient, Response
from PIL import Image, ImageDraw
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.models import DataRead
from bkapp.access.operations import Caller
from bkapp.access.rules import Role
from bkapp.account import billing, paying, treasury
from bkapp.config import Settings
from bkapp.db import Sessions
from bkapp.http import HANOI
from bkapp.pages import render
from bkapp.pages.account import (
    BillCard,
    CaseWork,
    Choice,
    ClockView,
    DayView,
    EndpointView,
    FieldProblem,
    LetterView,
    Line,
    Me,
    Problem,
    RefundWork,
    TryCard,
)
from bkapp.payments import vietqr
from bkapp.payments.models import Bill, Merchant, PaymentAttempt, PaymentCase, Receipt, Refund, WebhookInbox
from bkapp.payments.operations import showing
from bkapp.payments.providers.vnpay import pay_hash
from bkapp.payments.rules import CaseKind, Place, RefundStatus
from bkapp.payments.statements import Kind, Status, write_report
from bkapp.payments.statements import Line as StatementLine
from bkapp.units import queries as units
from tests import make
from tests.account.make import headers, link, see, send, served
from tests.households.make import KEYRING, a_person, an_officer, name_of
from tests.pages.test_pages import HOSTILE, STYLE, Page
from tests.payments.make import NOW, a_bill, a_merchant, an_attempt, hear

AT = datetime(2026, 11, 24, 3, 5, tzinfo=UTC)
ID = "0f8fad5b-d9cb-469f-a165-70867728950e"
ME = Me(name="Nông Văn Hùng", officer=True, registrar=True)


@pytest.fixture
async def payer(session: AsyncSession) -> Caller:
    return await a_person(session, "Nông Thị Nộp")


@pytest.fixture
async def officer(session: AsyncSession) -> Caller:
    return await an_officer(session)


@pytest.fixture
async def desk(session: AsyncSession) -> Caller:
    person = await a_person(session, "Lường Văn Quyết")
    return msgspec.structs.replace(person, role=Role.ADMIN, unit_ids=None, authenticated_at=datetime.now(UTC))


@pytest.fixture
async def vnpay(session: AsyncSession) -> Merchant:
    row = await a_merchant(session, provider="vnpay", secrets={"hash": "s3cret"})
    row.title = "Ví và thẻ qua VNPAY"
    row.options = {"pay_url": "https://pay.test/vpcpay.html", "api_url": "http://127.0.0.1:9/api"}
    await session.flush()
    return row


@pytest.fixture
async def browser(
    settings: Settings, sessions: Sessions, session: AsyncSession, payer: Caller, officer: Caller, desk: Caller
) -> AsyncIterator[AsyncClient]:
    await session.commit()
    async with served(settings, sessions, payer, officer, desk) as client:
        yield client


async def owed(session: AsyncSession, payer: Caller, **facts: Any) -> Bill:
    unit = await units.unit_on(session, make.COMMUNE, datetime.now(UTC).date())
    assert unit is not None
    bill = await a_bill(session, payer_id=payer.person, unit_id=unit.id, **facts)
    await session.commit()
    return bill


async def attempt_of(session: AsyncSession) -> PaymentAttempt:
    newest = select(PaymentAttempt).order_by(PaymentAttempt.created_at.desc()).limit(1)
    return (await session.scalars(newest.execution_options(populate_existing=True))).one()


def refresh_of(page: Response | Page) -> str | None:
    found = page if isinstance(page, Page) else Page(page.text)
    return next((tag["content"] for tag in found.every("meta") if tag.get("http-equiv") == "refresh"), None)


class TestCitizen:
    async def test_what_one_owes_leads_from_home_to_the_ways_to_pay(
        self, browser: AsyncClient, session: AsyncSession, payer: Caller, vnpay: Merchant
    ) -> None:
        bill = await owed(session, payer, amount=1_250_000)

        home = await see(browser, payer, "/toi")
        listed = await see(browser, payer, link(home, "/toi/hoa-don"))
        one = await see(browser, payer, link(listed, f"/toi/hoa-don/{bill.id}"))

        assert "1.250.000 đồng" in Page(listed.text).text
        said = Page(one.text).text
        for expected in ("1.250.000 đồng", "Chưa nộp", "Ví và thẻ qua VNPAY", "Nông Thị Nộp", bill.code, "000.00.01"):
            assert expected in said
        assert one.headers["cache-control"] == "no-store"
        kept = await session.scalars(select(DataRead.what).where(DataRead.subject == payer.id))
        assert "/toi/hoa-don/{bill_id}" in set(kept)

    async def test_another_ones_bill_is_not_there(
        self, browser: AsyncClient, session: AsyncSession, payer: Caller, officer: Caller, vnpay: Merchant
    ) -> None:
        bill = await owed(session, officer)
        attempt = await an_attempt(session, bill, vnpay)
        await session.commit()

        for path in (f"/toi/hoa-don/{bill.id}", f"/toi/thanh-toan/{attempt.id}"):
            assert (await see(browser, payer, path)).status_code == 404
            assert (await see(browser, None, path)).status_code == 302
        assert (await send(browser, payer, f"/toi/hoa-don/{bill.id}/tra", method="vnpay")).status_code == 404
        assert (await send(browser, payer, f"/toi/thanh-toan/{attempt.id}/cach-khac")).status_code == 404

    async def test_by_redirect_a_page_of_ours_leads_on_because_forms_may_not(
        self, browser: AsyncClient, session: AsyncSession, payer: Caller, vnpay: Merchant
    ) -> None:
        bill = await owed(session, payer)

        sent = await send(browser, payer, f"/toi/hoa-don/{bill.id}/tra", method="vnpay")
        attempt = await attempt_of(session)
        leaving = await see(browser, payer, sent.headers["location"])
        later = await see(browser, payer, f"/toi/thanh-toan/{attempt.id}")

        assert (sent.status_code, sent.headers["location"]) == (303, f"/toi/thanh-toan/{attempt.id}?di=1")
        away = attempt.redirect_url or ""
        assert away.startswith("https://pay.test/vpcpay.html?")
        assert refresh_of(leaving) == f"0;url={away}"
        assert away in [a.get("href") for a in Page(leaving.text).every("a")]
        assert refresh_of(later) == f"3;url=/toi/thanh-toan/{attempt.id}"
        assert "pay.test" not in leaving.headers["content-security-policy"]

    async def test_a_form_sent_twice_is_one_attempt_and_another_way_has_to_wait(
        self, browser: AsyncClient, session: AsyncSession, payer: Caller, vnpay: Merchant
    ) -> None:
        bill = await owed(session, payer)
        await a_merchant(session, provider="vietqr")
        await session.commit()
        path = f"/toi/hoa-don/{bill.id}/tra"

        first = await send(browser, payer, path, method="vnpay", idempotency_key="k")
        again = await send(browser, payer, path, method="vnpay", idempotency_key="k")
        another = await send(browser, payer, path, method="vietqr", idempotency_key="k")

        assert first.headers["location"] == again.headers["location"]
        assert another.status_code == 409
        assert "đang được thanh toán" in another.text
        assert link(another, f"/toi/thanh-toan/{(await attempt_of(session)).id}")
        assert not [form for form in Page(another.text).every("form") if form["action"] == path]

    async def test_choosing_nothing_is_told_and_a_form_without_key_refused(
        self, browser: AsyncClient, session: AsyncSession, payer: Caller, vnpay: Merchant
    ) -> None:
        bill = await owed(session, payer)
        path = f"/toi/hoa-don/{bill.id}/tra"

        nothing = await send(browser, payer, path)
        unknown = await send(browser, payer, path, method="vi-cua-toi")
        no_key = await browser.post(path, headers=headers(payer), data={"method": "vnpay"})

        assert (nothing.status_code, unknown.status_code, no_key.status_code) == (422, 422, 400)
        assert "Hãy chọn một cách nộp." in nothing.text
        assert (await session.scalar(select(PaymentAttempt.id))) is None

    async def test_by_transfer_the_page_has_the_code_and_the_same_to_copy(
        self, browser: AsyncClient, session: AsyncSession, payer: Caller
    ) -> None:
        await a_merchant(session, provider="vietqr")
        bill = await owed(session, payer)

        sent = await send(browser, payer, f"/toi/hoa-don/{bill.id}/tra", method="vietqr")
        shown = await see(browser, payer, sent.headers["location"])

        attempt = await attempt_of(session)
        assert "?" not in sent.headers["location"]
        asked = vietqr.parse(scanned(shown.text))
        assert (asked.amount, asked.purpose) == (20_000, attempt.reference)
        said = Page(shown.text).text
        for expected in ("Vietcombank", "0011001234567", "UBND XA PHU THONG", "20.000 đồng", attempt.reference):
            assert expected in said

    async def test_how_it_stands_is_told_in_words_until_it_is_over(
        self, browser: AsyncClient, session: AsyncSession, payer: Caller, vnpay: Merchant
    ) -> None:
        bill = await owed(session, payer)
        attempt = await an_attempt(session, bill, vnpay, begun=False)
        path = f"/toi/thanh-toan/{attempt.id}"
        told = {}
        for status, reached, settled in (
            ("created", "created", None),
            ("unknown", "unknown", None),
            ("expired", "expired", NOW),
        ):
            await session.execute(
                update(PaymentAttempt).values(
                    status=status,
                    reached=reached,
                    settled_at=settled,
                    version=PaymentAttempt.version + 1,
                    created_at=datetime.now(UTC) - timedelta(minutes=2),
                )
            )
            page = await see(browser, payer, path)
            told[status] = (Page(page.text).text, refresh_of(page))

        assert "Đang kết nối" in told["created"][0]
        assert "Chưa rõ kết quả" in told["unknown"][0]
        assert "Đừng trả lại." in told["unknown"][0]
        assert "Chọn cách khác" not in told["unknown"][0]
        assert told["unknown"][1] == f"5;url={path}"
        assert "Đã hết hạn" in told["expired"][0]
        assert told["expired"][1] is None

    async def test_paid_it_says_so_and_offers_the_confirmation(
        self, browser: AsyncClient, session: AsyncSession, payer: Caller, vnpay: Merchant
    ) -> None:
        bill = await owed(session, payer)
        attempt = await an_attempt(session, bill, vnpay)
        await hear(session, vnpay, attempt, transaction="T1")
        await session.commit()

        shown = await see(browser, payer, f"/toi/thanh-toan/{attempt.id}")
        one = await see(browser, payer, f"/toi/hoa-don/{bill.id}")
        home = await see(browser, payer, "/toi")
        pdf = await see(browser, payer, link(one, "/api/v1/bills/.*[.]pdf"))

        assert "Thành công" in shown.text
        assert refresh_of(shown) is None
        assert link(shown, "/api/v1/bills/.*[.]pdf")
        assert "Đã nộp" in one.text
        assert "Bạn đã nộp xong một khoản" in home.text
        assert link(home, f"/toi/hoa-don/{bill.id}")
        assert pdf.headers["content-type"] == "application/pdf"

    async def test_who_paid_twice_is_told_until_when_it_comes_back(
        self, browser: AsyncClient, session: AsyncSession, payer: Caller, vnpay: Merchant
    ) -> None:
        bill = await owed(session, payer)
        attempt = await an_attempt(session, bill, vnpay)
        await hear(session, vnpay, attempt, transaction="T1")
        await hear(session, vnpay, attempt, transaction="T2")
        case = (await session.scalars(select(PaymentCase))).one()
        await session.commit()

        bill_page = Page((await see(browser, payer, f"/toi/hoa-don/{bill.id}")).text).text
        attempt_page = Page((await see(browser, payer, f"/toi/thanh-toan/{attempt.id}")).text).text

        due = case.due_at.astimezone(HANOI).strftime("%d/%m/%Y")
        for said in (bill_page, attempt_page):
            assert "Bạn đã trả hai lần." in said
            assert f"sẽ được hoàn chậm nhất ngày {due}" in said
        assert "Tiền hoàn lại" in bill_page
        assert "sắp chuyển" in bill_page

    async def test_another_way_can_be_chosen_while_nothing_came(
        self, browser: AsyncClient, session: AsyncSession, payer: Caller, vnpay: Merchant
    ) -> None:
        bill = await owed(session, payer)
        attempt = await an_attempt(session, bill, vnpay)
        await session.commit()
        path = f"/toi/thanh-toan/{attempt.id}/cach-khac"

        left = await send(browser, payer, path)
        one = await see(browser, payer, left.headers["location"])
        await hear(session, vnpay, attempt, transaction="T1")
        await session.commit()
        too_late = await send(browser, payer, path)

        assert (left.status_code, left.headers["location"]) == (303, f"/toi/hoa-don/{bill.id}")
        assert "Chọn cách nộp" in one.text
        assert "Bạn đã chọn cách khác." not in one.text
        assert too_late.headers["location"] == f"/toi/thanh-toan/{attempt.id}"

    async def test_a_provider_cannot_put_anything_but_a_way_into_the_link(
        self, browser: AsyncClient, session: AsyncSession, payer: Caller, vnpay: Merchant
    ) -> None:
        bill = await owed(session, payer)
        attempt = await an_attempt(session, bill, vnpay)
        attempt.redirect_url = "javascript:alert(1)"
        await session.commit()

        shown = await see(browser, payer, f"/toi/thanh-toan/{attempt.id}?di=1")

        assert "javascript:" not in shown.text
        assert (refresh_of(shown) or "").endswith(f";url=/toi/thanh-toan/{attempt.id}")


class TestComingBack:
    def query(self, attempt: PaymentAttempt, code: str = "24") -> str:
        fields = {
            "vnp_Amount": str(attempt.amount * 100),
            "vnp_ResponseCode": code,
            "vnp_TransactionStatus": "02" if code != "00" else "00",
            "vnp_TmnCode": "BACKAN01",
            "vnp_TxnRef": attempt.reference,
        }
        signed = {**fields, "vnp_SecureHash": pay_hash(fields, "s3cret")}
        return "&".join(f"{name}={value}" for name, value in signed.items())

    async def test_the_payer_goes_on_to_the_attempt_and_others_learn_how_it_stands_alone(
        self, browser: AsyncClient, session: AsyncSession, payer: Caller, officer: Caller, vnpay: Merchant
    ) -> None:
        bill = await owed(session, payer)
        attempt = await an_attempt(session, bill, vnpay, now=datetime.now(UTC))
        await session.commit()
        path = f"/thanh-toan/ve/{attempt.reference}"

        own = await see(browser, payer, f"{path}?{self.query(attempt, '00')}")
        strangers = [await see(browser, who, path) for who in (officer, None)]

        assert (own.status_code, own.headers["location"]) == (303, f"/toi/thanh-toan/{attempt.id}")
        for stranger in strangers:
            assert stranger.status_code == 200
            said = Page(stranger.text).text
            assert "Đang chờ kết quả" in said
            assert not [told for told in ("20.000", bill.code, str(attempt.id), "Nộp") if told in said]
        # What a browser brings proves nothing.
        assert (await session.scalar(select(Receipt.id))) is None

    async def test_a_signed_no_is_shown_and_an_unsigned_one_is_not(
        self, browser: AsyncClient, session: AsyncSession, payer: Caller, vnpay: Merchant
    ) -> None:
        attempt = await an_attempt(session, await owed(session, payer), vnpay, now=datetime.now(UTC))
        await session.commit()
        path = f"/thanh-toan/ve/{attempt.reference}"

        forged = await see(browser, None, f"{path}?{self.query(attempt)}0")
        signed = await see(browser, None, f"{path}?{self.query(attempt)}")

        assert "Đang chờ kết quả" in forged.text
        assert "không thành công" in signed.text

    async def test_a_code_that_is_none_leads_nowhere(self, browser: AsyncClient) -> None:
        for code in ("TT7K3M9Q2M4X", "x", "TT%00", "HD00000000001"):
            assert (await see(browser, None, f"/thanh-toan/ve/{code}")).status_code == 404


class TestChecking:
    async def test_anybody_can_check_a_confirmation_and_learns_nobodys_name(
        self, browser: AsyncClient, session: AsyncSession, payer: Caller, vnpay: Merchant
    ) -> None:
        bill = await owed(session, payer)
        await hear(session, vnpay, await an_attempt(session, bill, vnpay), transaction="T1")
        receipt = (await session.scalars(select(Receipt))).one()
        await session.commit()
        path = f"/xac-nhan/{showing.token_of(KEYRING, receipt.number)}"

        good = Page((await see(browser, None, path)).text).text
        small = await see(browser, None, path.lower())
        await session.execute(update(Receipt).values(refunded=5_000))
        part = Page((await see(browser, None, path)).text).text
        await session.execute(update(Receipt).values(refunded=0, place=Place.REVERSED))
        gone = Page((await see(browser, None, path)).text).text

        for expected in ("Giấy thật. Khoản này đã được thanh toán.", "20.000 đồng", "UBND xã Phủ Thông", "-0001"):
            assert expected in good
        assert small.status_code == 200
        assert "000.00.01" not in good
        assert await name_of(session, payer) not in good
        assert "đã hoàn 5.000 đồng" in part
        assert "không còn giá trị" in gone

    async def test_a_wrong_one_is_a_page_that_says_not_found(
        self, browser: AsyncClient, session: AsyncSession, payer: Caller, vnpay: Merchant
    ) -> None:
        token = showing.token_of(KEYRING, 1)
        for wrong in (token, token.replace("1-", "2-"), "1-AAAAAAAAAAAAAAAA", "x"):
            answer = await see(browser, None, f"/xac-nhan/{wrong}")
            assert answer.status_code == 404
            assert "Không tìm thấy" in answer.text


class TestIssuing:
    FORM = {
        "unit": make.COMMUNE,
        "number": "099184000001",
        "name": "Triệu Thị Mẩy",
        "dossier_code": "H03.01-261124-0009",
        "procedure_code": "2.000635",
        "procedure_name": "Cấp bản sao trích lục hộ tịch",
        "description": "Lệ phí cấp bản sao",
        "due_on": "31/12/2026",
        "kind1": "charge",
        "line1": "Lệ phí",
        "amount1": "8.000",
        "kind2": "charge",
        "line2": "",
        "amount2": "",
        "kind3": "delivery",
        "line3": "Cước gửi",
        "amount3": "30000",
    }

    async def test_an_officer_asks_for_a_fee_and_takes_it_back(
        self, browser: AsyncClient, session: AsyncSession, officer: Caller, vnpay: Merchant
    ) -> None:
        await session.commit()

        before = await see(browser, officer, "/can-bo/hoa-don")
        form = await see(browser, officer, link(before, "/can-bo/hoa-don/moi"))
        sent = await send(browser, officer, link(form, "/can-bo/hoa-don/moi"), **self.FORM)
        bill = (await session.scalars(select(Bill))).one()
        done = await see(browser, officer, sent.headers["location"])
        cancelled = await send(browser, officer, f"/can-bo/hoa-don/{bill.id}/huy")
        again = await see(browser, officer, cancelled.headers["location"])

        assert "Xã Phủ Thông" in form.text
        assert sent.headers["location"] == f"/can-bo/hoa-don?moi={bill.code}"
        assert (bill.amount, bill.due_on, bill.created_by) == (38_000, date(2026, 12, 31), officer.id)
        assert f"Đã lập khoản {bill.code}" in Page(done.text).text
        assert "Triệu Thị Mẩy" not in done.text
        assert "đã hủy" in again.text
        read = await session.scalars(select(DataRead.subject).where(DataRead.reader == officer.id))
        assert f"bill:{bill.id}" in set(read)

    async def test_what_is_wrong_is_told_at_its_field_and_what_was_typed_stays(
        self, browser: AsyncClient, session: AsyncSession, officer: Caller, vnpay: Merchant
    ) -> None:
        await session.commit()
        wrong_ones: list[tuple[dict[str, str], str]] = [
            ({"number": "12345"}, "number"),
            ({"name": ""}, "name"),
            ({"dossier_code": "hồ sơ"}, "dossier_code"),
            ({"due_on": "31/13/2026"}, "due_on"),
            ({"due_on": "mai"}, "due_on"),
            ({"line1": ""}, "line1"),
            ({"amount3": "nhiều"}, "amount3"),
            ({"kind3": "x"}, "kind3"),
            ({"amount1": "9999999999"}, ""),
            ({"unit": "02083"}, ""),
        ]
        for changes, field in wrong_ones:
            answer = await send(browser, officer, "/can-bo/hoa-don/moi", **{**self.FORM, **changes})

            assert answer.status_code == (403 if "unit" in changes else 422), changes
            found = Page(answer.text)
            assert not field or f"#{field}" in {a.get("href") for a in found.every("a")}, changes
            typed = {one.get("id"): one.get("value") for one in found.every("input")}
            assert typed["description"] == "Lệ phí cấp bản sao"
        assert (await session.scalar(select(Bill.id))) is None

    async def test_citizens_have_no_desk(self, browser: AsyncClient, payer: Caller, officer: Caller) -> None:
        for path in ("", "/moi"):
            assert (await see(browser, payer, f"/can-bo/hoa-don{path}")).status_code == 403
        for path in ("", "/vu-viec", "/hoan-tien", "/sao-ke", "/tin-bao"):
            for caller in (payer, officer):
                assert (await see(browser, caller, f"/can-bo/doi-soat{path}")).status_code == 403


class TestDesk:
    async def suspended(
        self, session: AsyncSession, payer: Caller, vnpay: Merchant, amount: int = 15_000
    ) -> PaymentCase:
        """Money of the wrong amount, in suspense."""
        attempt = await an_attempt(session, await owed(session, payer), vnpay)
        await hear(session, vnpay, attempt, transaction=f"T{uuid4().hex[:6]}", amount=amount)
        await session.commit()
        return (await session.scalars(select(PaymentCase).order_by(PaymentCase.opened_at.desc()))).first()  # type: ignore[return-value]

    async def test_suspense_stands_beside_what_it_is_made_of(
        self, browser: AsyncClient, session: AsyncSession, payer: Caller, desk: Caller, vnpay: Merchant
    ) -> None:
        await self.suspended(session, payer, vnpay)

        shown = Page((await see(browser, desk, "/can-bo/doi-soat")).text)

        assert shown.text.count("15.000 đồng") == 2
        assert "Hai số bằng nhau." in shown.text
        assert "1, quá hạn 0" in shown.text

    async def test_money_that_fits_another_bill_is_applied_to_it(
        self, browser: AsyncClient, session: AsyncSession, payer: Caller, desk: Caller, vnpay: Merchant
    ) -> None:
        case = await self.suspended(session, payer, vnpay)
        other = await owed(session, payer, amount=15_000)
        path = f"/can-bo/doi-soat/vu-viec/{case.id}/ghi"

        listed = await see(browser, desk, "/can-bo/doi-soat/vu-viec")
        wrong = await send(browser, desk, path, receipt=str(case.receipt_id), bill="HD123")
        done = await send(browser, desk, path, receipt=str(case.receipt_id), bill=other.code.lower())
        after = await see(browser, desk, "/can-bo/doi-soat/vu-viec")

        assert "Sai số tiền" in listed.text
        assert "Khép lại" not in listed.text
        assert (wrong.status_code, done.status_code) == (422, 303)
        assert "Không có khoản phải nộp mang mã này." in wrong.text
        assert "Không có vụ việc nào đang mở." in after.text
        await session.refresh(other)
        assert other.status == "paid"

    async def test_above_the_limit_a_second_person_agrees(
        self,
        settings: Settings,
        sessions: Sessions,
        session: AsyncSession,
        payer: Caller,
        desk: Caller,
        vnpay: Merchant,
    ) -> None:
        case = await self.suspended(session, payer, vnpay, amount=900_000)
        second = msgspec.structs.replace(await a_person(session, "Ma Thị Hai"), role=Role.ADMIN, unit_ids=None)
        await session.commit()
        async with served(settings, sessions, desk, second) as browser:
            path = f"/can-bo/doi-soat/vu-viec/{case.id}/hoan"
            silent = await send(browser, desk, path, receipt=str(case.receipt_id))
            too_much = await send(
                browser, desk, path, receipt=str(case.receipt_id), reason="trả nhầm", amount="1.000.000"
            )
            asked = await send(browser, desk, path, receipt=str(case.receipt_id), reason="trả nhầm")
            refund = (await session.scalars(select(Refund))).one()
            deciding = f"/can-bo/doi-soat/hoan-tien/{refund.id}"
            own = await see(browser, desk, "/can-bo/doi-soat/hoan-tien")
            by_self = await send(browser, desk, f"{deciding}/duyet")
            others = await see(browser, second, "/can-bo/doi-soat/hoan-tien")
            agreed = await send(browser, second, f"{deciding}/duyet")

        assert (silent.status_code, too_much.status_code, asked.status_code) == (422, 409, 303)
        assert f"#reason-{case.id}" in silent.text
        assert "lớn hơn" in too_much.text
        assert "người khác duyệt" in own.text
        assert not [form for form in Page(own.text).every("form") if form["action"] == f"{deciding}/duyet"]
        assert by_self.status_code == 409
        assert "trả nhầm" in others.text
        assert agreed.status_code == 303
        await session.refresh(refund)
        assert (refund.status, refund.amount, refund.approved_by) == (RefundStatus.APPROVED, 900_000, second.id)

    async def test_what_the_treasury_transferred_is_recorded_and_a_refund_can_be_refused(
        self, browser: AsyncClient, session: AsyncSession, payer: Caller, desk: Caller
    ) -> None:
        bank = await a_merchant(session, provider="vietqr")
        for _ in range(2):
            attempt = await an_attempt(session, await owed(session, payer), bank)
            await hear(session, bank, attempt, transaction=f"A{uuid4().hex[:6]}")
            await hear(session, bank, attempt, transaction=f"B{uuid4().hex[:6]}")
        await session.commit()
        first, second = await session.scalars(select(Refund).order_by(Refund.requested_at, Refund.id))
        path = "/can-bo/doi-soat/hoan-tien"

        listed = await see(browser, desk, path)
        wrong = await send(browser, desk, f"{path}/{first.id}/da-chuyen", transaction="?")
        done = await send(browser, desk, f"{path}/{first.id}/da-chuyen", transaction="FT26328001")
        silent = await send(browser, desk, f"{path}/{second.id}/tu-choi", reason="")
        refused = await send(browser, desk, f"{path}/{second.id}/tu-choi", reason="đã trả tại quầy")

        assert first.reference in listed.text
        assert [answer.status_code for answer in (wrong, done, silent, refused)] == [422, 303, 422, 303]
        await session.refresh(first)
        await session.refresh(second)
        assert (first.status, first.transaction) == (RefundStatus.SUCCEEDED, "FT26328001")
        assert second.status is RefundStatus.REJECTED

    async def test_a_case_without_money_is_closed_with_words(
        self, browser: AsyncClient, session: AsyncSession, desk: Caller, vnpay: Merchant
    ) -> None:
        case = PaymentCase(
            kind=CaseKind.STATUS, merchant_id=vnpay.id, due_at=NOW - timedelta(days=900), detail="differs from the file"
        )
        session.add(case)
        await session.commit()

        listed = await see(browser, desk, "/can-bo/doi-soat/vu-viec")
        silent = await send(browser, desk, f"/can-bo/doi-soat/vu-viec/{case.id}/khep", outcome="x")
        closed = await send(browser, desk, f"/can-bo/doi-soat/vu-viec/{case.id}/khep", outcome="đã hỏi VNPAY")

        assert "Quá hạn" in listed.text
        assert (silent.status_code, closed.status_code) == (422, 303)
        await session.refresh(case)
        assert (case.outcome, case.closed_by) == ("đã hỏi VNPAY", desk.id)

    async def test_a_file_is_taken_once_and_what_it_says_stands_beside_the_books(
        self, browser: AsyncClient, session: AsyncSession, payer: Caller, desk: Caller, vnpay: Merchant
    ) -> None:
        attempt = await an_attempt(session, await owed(session, payer), vnpay)
        yesterday = datetime.now(HANOI) - timedelta(days=1)
        await hear(session, vnpay, attempt, transaction="14422574", now=yesterday)
        await session.commit()
        path = "/can-bo/doi-soat/sao-ke"
        report = write_report(
            vnpay.key,
            yesterday.date(),
            [
                StatementLine(
                    kind=Kind.PAYMENT,
                    transaction="14422574",
                    references=(attempt.reference,),
                    amount=20_000,
                    status=Status.SUCCEEDED,
                    at=yesterday - timedelta(seconds=5),
                )
            ],
        )

        async def sent(data: bytes, **fields: str) -> Response:
            return await browser.post(
                path,
                headers=headers(desk),
                data={"merchant": "vnpay", "source": "provider", **fields},
                files={"file": ("vnpay-hôm-qua.csv", data, "text/csv")},
            )

        first, again = await sent(report), await sent(report)
        days = Page((await see(browser, desk, first.headers["location"])).text).text
        broken = await sent(b"\x00\xff not a report")
        nowhere, nothing = await sent(report, merchant="x"), await sent(b"")

        assert first.headers["location"] == f"{path}?nhan=moi"
        assert again.headers["location"] == f"{path}?nhan=cu"
        assert "1 khoản, 20.000 đồng" in days
        assert "1 dòng: 1 khớp" in days
        assert "Ngân hàng: chưa có tệp." in days
        assert [answer.status_code for answer in (broken, nowhere, nothing)] == [422, 404, 400]
        assert "#file" in broken.text

    async def test_messages_that_were_not_believed_are_counted_and_their_content_stays_sealed(
        self, browser: AsyncClient, session: AsyncSession, desk: Caller, vnpay: Merchant
    ) -> None:
        for outcome, age in (("refused", 1), ("refused", 2), ("broken", 3), ("applied", 1), ("refused", 9)):
            session.add(
                WebhookInbox(
                    merchant_id=vnpay.id,
                    what="",
                    remote_ip="203.0.113.9",
                    headers="{}",
                    body_cipher=b"sealed",
                    body_bytes=77,
                    outcome=outcome,
                    reason="The signature is not right.",
                    received_at=datetime.now(UTC) - timedelta(days=age),
                )
            )
        await session.commit()

        shown = Page((await see(browser, desk, "/can-bo/doi-soat/tin-bao")).text).text

        assert "vnpay, bị từ chối 2" in shown
        assert "vnpay, gặp lỗi của ta 1" in shown
        assert shown.count("The signature is not right.") == 3
        assert "sealed" not in shown


# --- made-up pages ------------------------------------------------------------------------------------------------

LINES = [Line(f"Lệ phí: khoản {n}", "20.000 đồng") for n in range(4)]
WORD = "Lệ phí cấp bản sao trích lục đăng ký khai sinh cho con"
CARD = BillCard(
    id=ID,
    code="HD7K3M9Q2M4X",
    title=WORD,
    status="open",
    amount="1.250.000 đồng",
    agency="Ủy ban nhân dân xã Phủ Thông",
    dossier="H03.01-261124-0001",
    at=AT,
    due=AT.date(),
    paid=AT,
)
CODE = vietqr.credit_transfer("970436", "0011001234567", 1_250_000, "TT7K3M9Q2M4X")
TRY = TryCard(
    id=ID,
    bill=ID,
    code="HD7K3M9Q2M4X",
    title=WORD,
    status="pending",
    amount="1.250.000 đồng",
    method="Chuyển khoản VietQR",
    reference="TT7K3M9Q2M4X",
    at=AT,
    until=AT,
    qr=paying._qr(CODE),
)
CASE = CaseWork(
    id=ID,
    title="Sai số tiền",
    due=AT,
    late=True,
    amount="15.000 đồng",
    left="10.000 đồng",
    receipt=ID,
    held=True,
    bill="HD7K3M9Q2M4X",
    merchant="vnpay",
    detail="20000 before, 15000 now (inbox:17)",
)
REFUND = RefundWork(
    id=ID,
    reference="HT7K3M9Q2M4X",
    amount="1.250.000 đồng",
    reason="Người dân trả nhầm hai lần",
    at=AT,
    bill="HD7K3M9Q2M4X",
    receipt=123,
    merchant="vnpay",
    own=False,
)


def others(one: Any, count: int, first: int = 0) -> list[Any]:
    """The same several times, each with an id of its own."""
    return [msgspec.structs.replace(one, id=f"{ID[:-4]}{first + n:04d}") for n in range(count)]


def wrong(*fields: str) -> Problem:
    return Problem("Chưa làm được", [FieldProblem(field, "Hãy sửa lại.") for field in fields])


FORM: dict[str, Any] = {"me": ME, "problem": None, "typed": {}, "of": ""}
ATTEMPT: dict[str, Any] = {"me": ME, "paid": False, "twice": None, "transfer": [], "refresh": 5, "go": None}
ATTEMPT["problem"] = None
BILL: dict[str, Any] = {
    "me": ME,
    "bill": CARD,
    "parts": LINES,
    "facts": LINES,
    "back": LINES,
    "clocks": [
        ClockView(kind, AT.date(), "20.000 đồng") for kind in ("duplicate", "amount", "closed_bill", "refund_failed")
    ],
    "live": None,
    "methods": [Choice(f"m{n}", f"Cách thứ {n}") for n in range(7)],
    "tries": others(TRY, paying.TRIES_SHOWN),
    "problem": None,
}
ISSUING: dict[str, Any] = {
    **FORM,
    "units": [Choice(f"{n:05d}", f"Xã Phủ Thông {n}") for n in range(37)],
    "kinds": billing.KINDS,
    "rows": billing.ROWS,
}
PAGES: dict[str, tuple[str, dict[str, Any]]] = {
    "bills": ("bills.html", {"me": ME, "bills": others(CARD, paying.SHOWN), "more": ID}),
    "no bills": ("bills.html", {"me": ME, "bills": [], "more": None}),
    "bill": ("bill.html", BILL),
    "bill under way": ("bill.html", {**BILL, "live": TRY, "methods": []}),
    "bill paid": ("bill.html", {**BILL, "bill": msgspec.structs.replace(CARD, status="paid"), "methods": []}),
    "bill refused": ("bill.html", {**BILL, "clocks": [], "problem": wrong("pay")}),
    "transfer": ("attempt.html", {**ATTEMPT, "attempt": TRY, "transfer": LINES}),
    "leaving": (
        "attempt.html",
        {
            **ATTEMPT,
            "attempt": msgspec.structs.replace(TRY, qr=None, href="https://pay.test/x"),
            "go": "https://pay.test/x",
        },
    ),
    "came back": ("came_back.html", {"me": None, "stands": "unknown"}),
    "confirmation": ("confirmation.html", {"me": None, "valid": True, "refunded": None, "facts": LINES}),
    "issued": (
        "issued_bills.html",
        {"me": ME, "bills": others(CARD, billing.SHOWN), "more": ID, "made": "HD7K3M9Q2M4X", "problem": None},
    ),
    "issuing": ("issue_bill.html", ISSUING),
    "issuing refused": (
        "issue_bill.html",
        {**ISSUING, "problem": wrong("unit", "number", "line1", "amount3", "kind2", "due_on")},
    ),
    "treasury": (
        "treasury.html",
        {"me": ME, "ledger": "1 đồng", "unmatched": "2 đồng", "holds": False, "tasks": LINES},
    ),
    "cases": ("cases.html", {**FORM, "cases": others(CASE, treasury.CASES_SHOWN + 1), "more": ID}),
    "cases refused": (
        "cases.html",
        {
            **FORM,
            "cases": others(CASE, 2) + others(msgspec.structs.replace(CASE, held=False), 1, 7),
            "more": None,
            "of": f"{ID[:-4]}0000",
            "problem": wrong(*(f"{name}-{ID[:-4]}0000" for name in ("amount", "reason", "bill"))),
        },
    ),
    "refunds": (
        "refunds.html",
        {
            **FORM,
            "waiting": others(REFUND, treasury.REFUNDS_SHOWN),
            "by_hand": others(REFUND, treasury.REFUNDS_SHOWN, 10),
        },
    ),
    "refunds refused": (
        "refunds.html",
        {
            **FORM,
            "waiting": others(msgspec.structs.replace(REFUND, own=True), 1),
            "by_hand": others(REFUND, 1, 10),
            "of": f"{ID[:-4]}0010",
            "problem": wrong(f"transaction-{ID[:-4]}0010"),
        },
    ),
    "statements": (
        "statements.html",
        {
            **FORM,
            "merchants": BILL["methods"],
            "sources": treasury.SOURCES,
            "days": [
                DayView(
                    title=WORD, day=AT.date(), received="10 khoản, 1.250.000 đồng", provider=WORD, bank=None, open=3
                )
            ]
            * treasury.DAYS_SHOWN,
            "taken": "Đã nhận.",
        },
    ),
    "statements refused": (
        "statements.html",
        {**FORM, "merchants": [], "sources": treasury.SOURCES, "days": [], "taken": None, "problem": wrong("file")},
    ),
    "messages": (
        "messages.html",
        {
            "me": ME,
            "counts": LINES,
            "letters": [
                LetterView(at=AT, merchant="viettel", what="verify", reason="The signature is not right.", bytes=9)
            ]
            * treasury.LETTERS_SHOWN,
            "failing": [EndpointView(label=WORD, since=AT, failures=9, waiting=8, active=False)] * 6,
        },
    ),
}


@pytest.mark.parametrize("name", PAGES)
class TestEveryPage:
    def document(self, name: str) -> str:
        template, values = PAGES[name]
        return render(f"account/{template}", **values)

    def test_it_fits_a_slow_phone_and_runs_nothing(self, name: str) -> None:
        document = self.document(name)
        found = Page(document)

        assert len(document.encode()) + len(STYLE.encode()) < 15_000
        assert not {"script", "style", "iframe", "object", "img"} & {tag for tag, _ in found.tags}
        for _, attributes in found.tags:
            assert "style" not in attributes
            assert not [attribute for attribute in attributes if attribute.startswith("on")]
            for given in (attributes.get("href"), attributes.get("src"), attributes.get("action")):
                assert given is None or re.match(r"/(?!/)|#", given) or given == "https://pay.test/x"

    def test_it_can_be_used_with_a_keyboard_and_a_screen_reader(self, name: str) -> None:
        found = Page(self.document(name))
        listed = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
        ids, labelled = set(listed), {attributes.get("for") for attributes in found.every("label")}

        assert len(listed) == len(ids)
        assert len(list(found.every("h1"))) == 1
        for tag in ("input", "select", "textarea"):
            for field in found.every(tag):
                if field.get("type") != "hidden":
                    assert field["id"] in labelled
                    assert set((field.get("aria-describedby") or "").split()) <= ids
        for _, attributes in found.tags:
            assert set((attributes.get("aria-labelledby") or "").split()) <= ids
        for drawing in found.every("svg"):
            assert drawing.get("aria-hidden") == "true" or drawing.get("aria-label")
        levels = [int(tag[1]) for tag, _ in found.tags if re.fullmatch("h[1-6]", tag)]
        assert all(after <= before + 1 for before, after in pairwise(levels))

    def test_what_is_wrong_leads_to_its_field_and_every_change_has_a_key(self, name: str) -> None:
        document = self.document(name)
        found = Page(document)
        ids = {attributes.get("id") for _, attributes in found.tags}
        problem = PAGES[name][1].get("problem")

        assert ("<title>Lỗi: " in document) is (problem is not None)
        for field in problem.fields if problem else ():
            assert field.field in ids
        posts = [form for form in found.every("form") if form["method"] == "post" and "enctype" not in form]
        keys = [field["value"] for field in found.every("input") if field.get("name") == "idempotency_key"]
        assert len(set(keys)) == len(keys) == len(posts)

    def test_hostile_words_stay_words(self, name: str) -> None:
        template, values = PAGES[name]
        attacked = Page(render(f"account/{template}", **{key: _hostile(value) for key, value in values.items()}))

        assert [tag for tag, _ in attacked.tags] == [tag for tag, _ in Page(self.document(name)).tags]


OURS = {"id", "bill", "status", "kind", "href", "qr", "receipt", "value", "field"}


def _hostile(value: Any) -> Any:
    """The same with every word that people or providers chose replaced."""
    if isinstance(value, list):
        return [_hostile(one) for one in value]
    if isinstance(value, msgspec.Struct):
        changes = {name: getattr(value, name) for name in value.__struct_fields__ if name not in OURS}
        return msgspec.structs.replace(
            value, **{name: HOSTILE if isinstance(given, str) else given for name, given in changes.items()}
        )
    return value


def scanned(document: str) -> str:
    """What a bank's app reads from the code on a page."""
    found = re.search(r'<svg role="img"[^>]*viewBox="0 0 (\d+) \d+"[^>]*><path[^>]* d="([^"]+)"', document)
    assert found, "no code on the page"
    side, steps = int(found[1]), found[2]
    picture = Image.new("L", (side * 8, side * 8), 255)
    pen = ImageDraw.Draw(picture)
    x, y = 0.0, 0.0
    for step, numbers in re.findall(r"([Mmh])([^Mmh]+)", steps):
        given = [float(each) for each in re.findall(r"-?\d*\.?\d+", numbers)]
        if step == "h":
            pen.rectangle((x * 8, (y - 0.5) * 8, (x + given[0]) * 8 - 1, (y + 0.5) * 8 - 1), fill=0)
            x += given[0]
        else:
            x, y = (given[0], given[1]) if step == "M" else (x + given[0], y + given[1])
    [code] = zxingcpp.read_barcodes(picture)
    return str(code.text)
