"""What payments hold of a person: taken out, cut when they are erased, and kept while money is on its way."""

import asyncio
import io
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from httpx import AsyncClient
from pypdf import PdfReader
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.operations import Caller
from bkapp.db import open_engine, sessions_of
from bkapp.http import IdempotencyRecord
from bkapp.payments.models import Bill, Merchant, PaymentAttempt, PaymentCase, Receipt, Refund, WebhookInbox
from bkapp.payments.operations import attempts, bills, ledger, refunds
from bkapp.payments.operations.keeping import LETTERS_LAST
from bkapp.payments.providers import Finding, Line, Outcome
from bkapp.payments.rules import CASE_CLOCK, BillStatus, FeeKind, RefundStatus
from bkapp.privacy import exports, operations
from bkapp.privacy.exports import Export
from bkapp.privacy.operations import ErasureBlocked, paying
from bkapp.privacy.operations.erasing import _ERASED
from bkapp.privacy.rules import RETENTION
from bkapp.sealing import Keyring
from tests import make as addresses
from tests.households import make as people
from tests.payments import make

NOW = make.NOW
KEYRING: Keyring = people.KEYRING
NAME = "Nông Văn Hùng"


def id_of(caller: Caller) -> UUID:
    assert caller.person is not None
    return caller.person


async def a_named_bill(session: AsyncSession, number: str, *, amount: int = 20_000) -> Bill:
    """A bill of a citizen's number, as an office issues it."""
    return await bills.issue_bill(
        session,
        KEYRING,
        lines=[
            Line(FeeKind.CHARGE, "LP01", "Lệ phí chứng thực", amount - 5_000),
            Line(FeeKind.DELIVERY, "BC", "Cước gửi kết quả", 5_000),
        ],
        description="Lệ phí hồ sơ chứng thực",
        procedure_code="2.000815",
        procedure_name="Chứng thực bản sao từ bản chính",
        dossier_code="000.00.01.H03-261124-0001",
        unit_id=None,
        payer_number=number,
        payer_name=NAME,
        by="office",
        now=NOW,
    )


async def paid(session: AsyncSession, merchant: Merchant, bill: Bill, transaction: str) -> Receipt:
    """Money that came for a bill, whether it was owed or not."""
    attempt = await make.an_attempt(session, bill, merchant)
    await make.hear(session, merchant, attempt, transaction=transaction)
    return (await session.scalars(select(Receipt).where(Receipt.attempt_id == attempt.id))).one()


async def paid_twice(session: AsyncSession, merchant: Merchant, bill: Bill) -> tuple[Receipt, Receipt]:
    """A bill paid by an attempt and, late, by the one before it; the second asks for its refund by itself."""
    late = await make.an_attempt(session, bill, merchant)
    await attempts.abandon(session, late.id, by="test", now=NOW)
    first = await paid(session, merchant, bill, "T1")
    await make.hear(session, merchant, late, transaction="T2")
    return first, (await session.scalars(select(Receipt).where(Receipt.attempt_id == late.id))).one()


async def taken_out(session: AsyncSession, caller: Caller) -> tuple[Export, dict[str, list[dict[str, Any]]]]:
    """The export and, as a program reads it, the rows of its parts."""
    export = await operations.collect(session, KEYRING, id_of(caller), now=NOW)
    read = msgspec.json.decode(msgspec.json.encode(export))
    return export, {part["id"]: part["rows"] for part in read["parts"]}


async def erase(session: AsyncSession, caller: Caller) -> None:
    await operations.erase(session, KEYRING, id_of(caller), actor="x", now=datetime.now(UTC))


class TestTakenOut:
    async def test_a_bill_with_all_that_was_paid_and_goes_back(self, session: AsyncSession, citizen: Caller) -> None:
        merchant = await make.a_merchant(session)
        bill = await a_named_bill(session, await people.number_of(session, citizen))
        first, second = await paid_twice(session, merchant, bill)
        asked = await refunds.request_refund(
            session, receipt_id=first.id, amount=5_000, reason="Gửi nhầm", by_hand=True, limit=0, by="one", now=NOW
        )

        export, parts = await taken_out(session, citizen)

        (row,) = parts["bills"]
        assert (row["code"], row["status"], row["amount"], row["payer"]) == (bill.code, "paid", 20_000, NAME)
        assert (row["agency"], row["dossier_code"]) == ("UBND xã Phủ Thông", "000.00.01.H03-261124-0001")
        assert [(line["bill"], line["kind"], line["amount"]) for line in parts["bill_lines"]] == [
            (bill.code, "charge", 15_000),
            (bill.code, "delivery", 5_000),
        ]
        assert {(one["bill"], one["method"], one["status"]) for one in parts["payments"]} == {
            (bill.code, merchant.title, "succeeded")
        }
        assert {(one["number"], one["place"], one["transaction"], one["refunded"]) for one in parts["receipts"]} == {
            (first.number, "applied", "T1", 0),
            (second.number, "suspense", "T2", 0),
        }
        assert {(one["receipt"], one["reason"], one["amount"], one["status"]) for one in parts["refunds"]} == {
            (first.number, "Gửi nhầm", 5_000, "waiting"),
            (second.number, "duplicate", 20_000, "approved"),
        }
        (case,) = parts["payment_cases"]
        assert (case["kind"], case["amount"], case["closed_at"]) == ("duplicate", 20_000, None)
        assert datetime.fromisoformat(case["due_at"]) == NOW + CASE_CLOCK
        assert "bill_issued" in {entry["kind"] for entry in parts["audit"]}
        text = msgspec.json.encode(export).decode()
        for held_back in (str(asked.requested_by), "cipher", "hmac", "redirect", "pay.example"):
            assert f'"{held_back}"' not in text
        assert all(part.basis for part in export.parts)

    async def test_those_that_name_the_person_and_those_of_their_number_and_of_nobody_else(
        self, session: AsyncSession, citizen: Caller
    ) -> None:
        merchant = await make.a_merchant(session)
        other = await people.a_person(session, "Ma Thị Lan")
        named = await make.a_bill(session, payer_id=id_of(citizen))
        numbered = await a_named_bill(session, await people.number_of(session, citizen))
        foreign = await a_named_bill(session, await people.number_of(session, other))
        await paid_twice(session, merchant, foreign)
        nobodys = await make.a_bill(session)

        _, parts = await taken_out(session, citizen)

        assert {row["code"] for row in parts["bills"]} == {named.code, numbered.code}
        assert {row["bill"] for row in parts["bill_lines"]} == {named.code, numbered.code}
        assert [parts[part] for part in ("payments", "receipts", "refunds", "payment_cases")] == [[]] * 4
        assert foreign.code not in str(parts)
        assert nobodys.code not in str(parts)

    async def test_however_many_there_are(
        self, session: AsyncSession, citizen: Caller, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(paying, "_PAGE", 2)
        await make.a_merchant(session)
        made = [await make.a_bill(session, payer_id=id_of(citizen)) for _ in range(4)]
        _, parts = await taken_out(session, citizen)
        assert sorted(row["code"] for row in parts["bills"]) == sorted(bill.code for bill in made)

    async def test_the_pdf_says_it_in_vietnamese(self, session: AsyncSession, citizen: Caller) -> None:
        merchant = await make.a_merchant(session)
        await paid_twice(session, merchant, await make.a_bill(session, payer_id=id_of(citizen)))
        export, _ = await taken_out(session, citizen)
        body = await asyncio.to_thread(exports.pdf, export)
        text = " ".join(" ".join(page.extract_text() for page in PdfReader(io.BytesIO(body)).pages).split())
        for said in (
            "Tình trạng: đã nộp",
            "Loại: lệ phí",
            "Ghi ở: tài khoản chờ xử lý",
            "Lý do: trả hai lần",
            "Loại: trả hai lần",
            "Loại: đã nộp xong một khoản",
            "Việc: lập khoản phải nộp",
        ):
            assert said in text, said


class TestErasing:
    async def test_the_voucher_stays_and_names_nobody(self, session: AsyncSession, citizen: Caller) -> None:
        merchant = await make.a_merchant(session)
        number = await people.number_of(session, citizen)
        bill = await a_named_bill(session, number)
        receipt = await paid(session, merchant, bill, "T1")
        given = await refunds.request_refund(
            session, receipt_id=receipt.id, amount=5_000, reason="Gửi nhầm", by_hand=True, limit=9_000, by="a", now=NOW
        )
        await refunds.record_transfer(session, given.id, transaction="FT1", by="b", now=NOW)
        other = await people.a_person(session, "Ma Thị Lan")
        foreign = await a_named_bill(session, await people.number_of(session, other))
        named = await make.a_bill(session, payer_id=id_of(citizen))

        await erase(session, citizen)

        session.expunge_all()
        cut = await session.get_one(Bill, bill.id)
        assert (cut.payer_hmac, cut.payer_name_cipher) == (None, None)
        assert (cut.status, cut.amount, cut.description) == (BillStatus.PAID, 20_000, "Lệ phí hồ sơ chứng thực")
        assert (await session.get_one(Bill, named.id)).payer_id == citizen.person
        attempt = (await session.scalars(select(PaymentAttempt).where(PaymentAttempt.bill_id == bill.id))).one()
        assert (attempt.redirect_url, attempt.amount) == (None, 20_000)
        kept = await session.get_one(Refund, given.id)
        assert (kept.status, kept.reason) == (RefundStatus.SUCCEEDED, "Gửi nhầm")
        assert (await session.get_one(Receipt, receipt.id)).refunded == 5_000
        assert await ledger.verify(session) == []
        theirs = await session.get_one(Bill, foreign.id)
        assert theirs.payer_hmac is not None
        assert KEYRING.open(theirs.payer_name_cipher or b"", f"bill.payer_name:{foreign.id}") == NAME
        # Who comes back with the number is a new person, and owes nothing of it.
        again = await people.a_person(session, NAME, number=number)
        _, parts = await taken_out(session, again)
        assert parts["bills"] == []

    async def test_what_offices_and_providers_wrote_goes(self, session: AsyncSession, citizen: Caller) -> None:
        merchant = await make.a_merchant(session)
        bill = await make.a_bill(session, payer_id=id_of(citizen))
        receipt = await paid(session, merchant, bill, "T1")
        words = f"Bà {NAME} rút lại"
        refund = await refunds.request_refund(
            session, receipt_id=receipt.id, amount=5_000, reason=words, by_hand=True, limit=0, by="one", now=NOW
        )
        await refunds.reject(session, refund.id, by="two", now=NOW, reason=words)
        session.add_all(
            PaymentCase(
                kind="status", bill_id=bill.id, due_at=NOW, closed_at=NOW, closed_by=by, outcome=outcome, detail="code"
            )
            for by, outcome in (("officer", words), ("payments", "refunded"))
        )
        foreign = await make.an_attempt(session, await make.a_bill(session), merchant)
        for number, attempt_id in ((1, receipt.attempt_id), (2, foreign.id)):
            session.add(
                WebhookInbox(
                    id=number,
                    merchant_id=merchant.id,
                    what="ipn",
                    remote_ip="192.0.2.7",
                    headers='{":method": "POST"}',
                    body_cipher=KEYRING.seal(words, f"webhook_inbox:{number}"),
                    body_bytes=9,
                    outcome="applied",
                    event_id=f"E{number}",
                    attempt_id=attempt_id,
                )
            )
        await session.flush()

        await erase(session, citizen)

        session.expunge_all()
        rejected = await session.get_one(Refund, refund.id)
        assert (rejected.reason, rejected.failure_code) == (_ERASED, _ERASED)
        outcomes = await session.scalars(select(PaymentCase.outcome).where(PaymentCase.bill_id == bill.id))
        assert sorted(outcome or "" for outcome in outcomes) == sorted([_ERASED, "refunded"])
        mine, theirs = (await session.scalars(select(WebhookInbox).order_by(WebhookInbox.id))).all()
        assert (mine.body_cipher, mine.headers, mine.remote_ip) == (None, "{}", "")
        assert (mine.event_id, mine.outcome) == ("E1", "applied")  # the same message again is still known
        assert theirs.body_cipher is not None

    async def test_stored_answers_about_their_bills_are_emptied(
        self, client: AsyncClient, session: AsyncSession, citizen: Caller, data_officer: Caller
    ) -> None:
        await make.a_merchant(session)
        other = await people.a_person(session, "Ma Thị Lan")
        numbers = [await people.number_of(session, caller) for caller in (citizen, other)]
        await session.commit()
        body = {
            "unit": addresses.COMMUNE,
            "description": "Lệ phí",
            "procedure_code": "2.000815",
            "procedure_name": "Chứng thực",
            "lines": [{"kind": "charge", "code": "LP01", "name": "Lệ phí", "amount": 20_000}],
        }
        answers = []
        for number in numbers:
            payer = {"number": number, "name": NAME}
            headers = addresses.auth(data_officer.id, uuid4().hex)
            answers.append(await client.post("/api/v1/bills", json={**body, "payer": payer}, headers=headers))
            assert answers[-1].status_code == 201, answers[-1].text

        await erase(session, citizen)

        kept = await session.scalars(select(IdempotencyRecord.body).where(IdempotencyRecord.caller == data_officer.id))
        assert sorted(kept) == sorted([b"{}", answers[1].content])

    async def blocked(self, session: AsyncSession, caller: Caller) -> list[str]:
        with pytest.raises(ErasureBlocked) as caught:
            await erase(session, caller)
        return [blocker.code for blocker in caught.value.facts["blockers"]]  # type: ignore[attr-defined]

    async def test_not_while_they_are_paying(self, session: AsyncSession, citizen: Caller) -> None:
        merchant = await make.a_merchant(session)
        bill = await a_named_bill(session, await people.number_of(session, citizen))
        attempt = await make.an_attempt(session, bill, merchant)
        assert await self.blocked(session, citizen) == ["payment_under_way"]
        await attempts.abandon(session, attempt.id, by="test", now=NOW)
        # What nobody pays is no reason to know somebody for ever.
        await erase(session, citizen)
        assert (await session.get_one(Bill, bill.id, populate_existing=True)).status is BillStatus.OPEN

    async def test_not_while_their_money_waits_or_is_on_its_way_back(
        self, session: AsyncSession, citizen: Caller
    ) -> None:
        merchant = await make.a_merchant(session)
        bill = await make.a_bill(session, payer_id=id_of(citizen))
        _, second = await paid_twice(session, merchant, bill)
        refund = (await session.scalars(select(Refund).where(Refund.receipt_id == second.id))).one()
        assert await self.blocked(session, citizen) == ["money_in_suspense", "refund_under_way"]
        await refunds.record_unknown(session, refund.id, source="call", now=NOW)
        await session.execute(update(PaymentCase).values(closed_at=NOW, closed_by="a", outcome="too early"))
        assert await self.blocked(session, citizen) == ["money_in_suspense", "refund_under_way"]
        says = Finding(references=[], outcome=Outcome.PAID, amount=20_000, transaction="R1")
        await refunds.hear_refund(session, refund.id, says, source="inquiry", now=NOW)
        await erase(session, citizen)

    async def test_not_while_a_refund_that_failed_is_not_settled(self, session: AsyncSession, citizen: Caller) -> None:
        merchant = await make.a_merchant(session)
        receipt = await paid(session, merchant, await make.a_bill(session, payer_id=id_of(citizen)), "T1")
        refund = await refunds.request_refund(
            session, receipt_id=receipt.id, amount=5_000, reason="test", by_hand=False, limit=9_000, by="a", now=NOW
        )
        await session.execute(update(Refund).where(Refund.id == refund.id).values(sent_at=NOW))
        await refunds.record_refused(session, refund.id, code="51", now=NOW)
        assert await self.blocked(session, citizen) == ["money_in_suspense"]
        await session.execute(update(PaymentCase).values(closed_at=NOW, closed_by="a", outcome="paid in cash"))
        await erase(session, citizen)

    async def test_anothers_money_is_no_reason(self, session: AsyncSession, citizen: Caller) -> None:
        merchant = await make.a_merchant(session)
        other = await people.a_person(session, "Ma Thị Lan")
        await paid_twice(session, merchant, await make.a_bill(session, payer_id=id_of(other)))
        await make.an_attempt(session, await make.a_bill(session, payer_id=id_of(other)), merchant)
        await make.an_attempt(session, await make.a_bill(session), merchant)
        await erase(session, citizen)

    async def test_a_payment_that_is_being_written_down_is_not_waited_for(self, own_database: str) -> None:
        """Its transaction holds the bill and will want the person: each would wait for the other."""
        engine = open_engine(own_database)
        sessions = sessions_of(engine)
        async with sessions.begin() as session:
            me = await people.a_person(session, NAME)
            merchant = await make.a_merchant(session)
            attempt = await make.an_attempt(session, await make.a_bill(session, payer_id=id_of(me)), merchant)
            await attempts.abandon(session, attempt.id, by="test", now=NOW)
        async with sessions.begin() as session:
            await attempts.locked(session, attempt.id)  # late money, say
            async with sessions.begin() as erasing, asyncio.timeout(5):
                assert await self.blocked(erasing, me) == ["payment_under_way"]
        async with sessions.begin() as session:
            await erase(session, me)
        await engine.dispose()


def test_the_table_of_retention_says_how_long_messages_stay() -> None:
    assert timedelta(days=RETENTION["payment_messages"].days) == LETTERS_LAST
    assert RETENTION["payment_messages"].task == "payments.forget_letters"
