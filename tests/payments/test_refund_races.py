"""Many who want the same money back at the same moment: real commits, many connections; and the routes of it."""

import asyncio
from collections import Counter
from functools import partial
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest
from httpx import ASGITransport, AsyncClient
from psycopg.errors import DeadlockDetected
from sqlalchemy import func, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from bkapp.access.rules import Role
from bkapp.app import create_app
from bkapp.config import load_settings
from bkapp.db import Sessions, is_outage, open_engine, readers_of, sessions_of
from bkapp.edge import Edge
from bkapp.errors import DomainError
from bkapp.http import today
from bkapp.payments.models import Merchant, PaymentCase, Receipt, Refund
from bkapp.payments.operations import evidence, ledger, refunds
from bkapp.payments.providers import Finding, Outcome
from bkapp.payments.rules import RESERVING, Evidence, RefundStatus
from bkapp.units import queries as units
from tests import make
from tests.identity.make import a_person, a_sign_in, cookie_headers
from tests.payments.make import NOW, a_bill, a_merchant, a_receipt, an_attempt, hear

AMOUNT = 1_000_000
TURNS = asyncio.Semaphore(20)  # as many as there are connections
PAID = Finding(references=[], outcome=Outcome.PAID, transaction="R1")
FAILED = Finding(references=[], outcome=Outcome.FAILED, code="99")


async def sums(session: AsyncSession, receipt_id: UUID) -> tuple[int, int, int, int]:
    """The receipt's reserved and refunded, and what its refunds come to."""
    row = await session.execute(
        text("""
            SELECT r.reserved, r.refunded,
                (SELECT coalesce(sum(amount), 0)::bigint FROM refund WHERE receipt_id = r.id
                    AND status IN ('waiting', 'approved', 'unknown', 'pending')),
                (SELECT coalesce(sum(amount), 0)::bigint FROM refund WHERE receipt_id = r.id AND status = 'succeeded')
            FROM receipt r WHERE r.id = :id"""),
        {"id": receipt_id},
    )
    reserved, refunded, promised, given = row.one()
    return reserved, refunded, promised, given


async def once(sessions: Sessions, doing: Any) -> bool:
    """Do something in a transaction of its own; whether it was done.

    A server that has no time is asked again.  A deadlock would be a bug of ours, and is no reason to.
    """
    while True:
        try:
            async with TURNS, sessions.begin() as session:
                await doing(session)
        except DomainError:
            return False
        except OperationalError as error:
            if isinstance(error.orig, DeadlockDetected) or not is_outage(error):
                raise
        else:
            return True


async def test_two_hundred_racing_refunds_never_come_to_more_than_was_paid(own_database: str) -> None:
    engine = open_engine(own_database, pool_size=20)
    sessions = sessions_of(engine)
    async with sessions.begin() as session:
        receipt = await a_receipt(session, amount=AMOUNT)
    chance = Random(20261124)  # noqa: S311  (no secret)
    amounts = [chance.randint(1_000, 40_000) for _ in range(200)]

    async def ask(amount: int) -> int:
        asking = partial(
            refunds.request_refund,
            receipt_id=receipt.id,
            amount=amount,
            reason="nộp nhầm",
            by_hand=False,
            limit=200_000,
            by="an",
            now=NOW,
        )
        return amount if await once(sessions, asking) else 0

    taken = await asyncio.gather(*(ask(amount) for amount in amounts))

    assert 0 in taken, "they want more than there is"
    async with sessions() as session:
        reserved, refunded, promised, given = await sums(session, receipt.id)
        asked = await session.scalars(select(Refund.amount).where(Refund.status.in_(RESERVING)))
        assert Counter(asked) == Counter(amount for amount in taken if amount)
    assert sum(amounts) > AMOUNT >= sum(taken) == reserved == promised
    assert (refunded, given) == (0, 0)
    # Nobody was refused who would have fitted in what was left at the end.
    assert all(amount > AMOUNT - reserved for amount, took in zip(amounts, taken, strict=True) if not took)
    await engine.dispose()


async def test_whatever_becomes_of_racing_refunds_the_books_agree(own_database: str) -> None:
    """Asked for, approved, rejected, heard of as done and as failed, all at once and in any order."""
    engine = open_engine(own_database, pool_size=20)
    sessions = sessions_of(engine)
    async with sessions.begin() as session:
        receipt = await a_receipt(session, amount=AMOUNT)
    chance = Random(5)  # noqa: S311  (no secret)

    async def live() -> None:
        refund_id, amount = uuid4(), chance.randint(20_000, 120_000)
        doings: list[Any] = [
            lambda s: refunds.approve(s, refund_id, by="binh", now=NOW),
            lambda s: refunds.reject(s, refund_id, by="binh", now=NOW),
            lambda s: refunds.record_unknown(s, refund_id, source="call", now=NOW),
            lambda s: refunds.hear_refund(s, refund_id, PAID, source="inquiry", now=NOW),
            lambda s: refunds.hear_refund(s, refund_id, FAILED, source="inquiry", now=NOW),
            lambda s: refunds.hear_refund(s, refund_id, PAID, source="statement:1", now=NOW),
        ]
        chance.shuffle(doings)
        asking = partial(
            refunds.request_refund,
            receipt_id=receipt.id,
            amount=amount,
            reason="nộp nhầm",
            by_hand=False,
            limit=chance.choice((0, AMOUNT)),  # some wait for a second person
            by="an",
            now=NOW,
            refund_id=refund_id,
        )
        if await once(sessions, asking):
            await asyncio.gather(*(once(sessions, doing) for doing in doings))

    await asyncio.gather(*(live() for _ in range(40)))

    async with sessions() as session:
        reserved, refunded, promised, given = await sums(session, receipt.id)
        found = Counter(await session.scalars(select(Refund.status)))
        assert (reserved, refunded) == (promised, given)
        assert reserved + refunded <= AMOUNT
        assert found[RefundStatus.SUCCEEDED] > 0 < found[RefundStatus.REJECTED]
        assert await ledger.verify(session) == []
        assert (await ledger.balances(session))["clearing:vnpay"] == AMOUNT - refunded
    await engine.dispose()


async def test_two_approvals_at_once_send_once(own_database: str) -> None:
    engine = open_engine(own_database, pool_size=10)
    sessions = sessions_of(engine)
    async with sessions.begin() as session:
        receipt = await a_receipt(session)
        refund = await refunds.request_refund(
            session, receipt_id=receipt.id, amount=10_000, reason="x", by_hand=False, limit=0, by="an", now=NOW
        )

    done = await asyncio.gather(
        *(
            once(sessions, partial(refunds.approve, refund_id=refund.id, by=by, now=NOW))
            for by in ("an", "binh", "chi", "dung", "an")
        )
    )

    assert Counter(done) == {True: 1, False: 4}
    async with sessions() as session:
        assert (
            await session.scalar(text("SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'payments.refund'"))
            == 1
        )
        assert (await session.get_one(Refund, refund.id)).approved_by in {"binh", "chi", "dung"}
    await engine.dispose()


# --- through the routes -------------------------------------------------------------------------------------------


def app_on(url: str, engine: AsyncEngine) -> Any:
    settings = load_settings({"DATABASE_URL": url, "BKAPP_DEMO": "1", "BKAPP_RATE_LIMIT": "1000000/second"})
    return Edge(create_app(settings, sessions_of(engine), readers_of(engine)), settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("by", ["key", "id"])
async def test_fifty_at_once_of_one_request_have_one_effect(own_database: str, by: str) -> None:
    """Sent with one Idempotency-Key, or each with another and the id that the client made."""
    engine = open_engine(own_database, pool_size=10)
    async with sessions_of(engine).begin() as session:
        key = await make.a_key(session)
        receipt = await a_receipt(session, amount=100_000)
    body = {"receipt_id": str(receipt.id), "amount": 60_000, "reason": "nộp nhầm"}
    if by == "id":
        body["id"] = str(uuid4())
    transport = ASGITransport(app=app_on(own_database, engine))
    async with AsyncClient(transport=transport, base_url="http://bkapp.test", timeout=60) as client:

        async def send() -> Any:
            while True:
                headers = make.auth(key, "one" if by == "key" else None)
                answer = await client.post("/api/v1/refunds", json=body, headers=headers)
                if answer.status_code != 503:
                    return answer

        answers = await asyncio.gather(*(send() for _ in range(50)))
        last = await send()

    made = [answer for answer in answers if answer.status_code == 201]
    waiting = [answer for answer in answers if answer.status_code != 201]
    assert len({answer.content for answer in [*made, last]}) == 1
    assert all((answer.status_code, answer.headers["retry-after"]) == (409, "1") for answer in waiting)
    assert last.status_code == 201
    assert not (by == "id" and waiting)
    async with sessions_of(engine)() as session:
        assert await sums(session, receipt.id) == (60_000, 0, 60_000, 0)
        assert await session.scalar(select(func.count()).select_from(Refund)) == 1
        assert await session.scalar(text("SELECT count(*) FROM audit_entry WHERE kind = 'refund_requested'")) == 1
    await engine.dispose()


async def paid_bill(session: AsyncSession, *, unit: str | None = None, payer_id: UUID | None = None) -> Receipt:
    """The money of a paid bill of 600 000 đồng of a commune, above what one person may give back alone."""
    unit_id = None
    if unit is not None:
        found = await units.unit_on(session, unit, today())
        assert found is not None
        unit_id = found.id
    merchant = await a_merchant(session)
    attempt = await an_attempt(
        session, await a_bill(session, amount=600_000, unit_id=unit_id, payer_id=payer_id), merchant
    )
    await hear(session, merchant, attempt, transaction="T1")
    return (await session.scalars(select(Receipt))).one()


async def test_an_officer_asks_and_the_province_agrees(client: AsyncClient, session: AsyncSession) -> None:
    payer = await a_person(session)
    receipt = await paid_bill(session, unit=make.COMMUNE, payer_id=payer)
    officer, elsewhere = [await make.a_key(session, unit=unit) for unit in (make.COMMUNE, "02083")]
    admin = await make.a_key(session)
    await session.commit()
    body = {"receipt_id": str(receipt.id), "reason": "nộp hai lần"}

    outside = await make.post(client, elsewhere, "/api/v1/refunds", body)
    asked = await make.post(client, officer, "/api/v1/refunds", body)
    again = await make.post(client, officer, "/api/v1/refunds", body)

    assert (outside.status_code, outside.json()["type"]) == (403, "/problems/outside_scope")
    assert (asked.status_code, asked.json()["status"], asked.json()["amount"]) == (201, "waiting", 600_000)
    assert (again.status_code, again.json()["type"], again.json()["refundable"]) == (
        409,
        "/problems/refund_too_large",
        0,
    )
    path = f"/api/v1/refunds/{asked.json()['id']}"
    assert (await make.post(client, officer, f"{path}/approve")).status_code == 403
    waiting = await client.get("/api/v1/refunds?status=waiting", headers=make.auth(admin))
    assert [row["id"] for row in waiting.json()["refunds"]] == [asked.json()["id"]]
    approved = await make.post(client, admin, f"{path}/approve")
    assert (approved.status_code, approved.json()["status"]) == (200, "approved")
    rejected = await make.post(client, admin, f"{path}/reject", {"reason": "xin rút"})
    assert (rejected.status_code, rejected.json()["status"]) == (200, "rejected")

    shown = await client.get(path, headers=make.auth(officer))
    hidden = await client.get(path, headers=make.auth(elsewhere))
    assert (shown.json()["failure_code"], hidden.status_code) == ("xin rút", 403)
    reads = await session.scalars(text("SELECT what FROM data_read WHERE subject = :id"), {"id": str(payer)})
    assert sorted(reads) == ["/api/v1/refunds", "/api/v1/refunds/{refund_id}"]
    kinds = await session.scalars(text("SELECT kind FROM audit_entry WHERE kind LIKE 'refund_%' ORDER BY seq"))
    assert list(kinds) == ["refund_requested", "refund_approved", "refund_rejected"]


async def test_nobody_approves_their_own_and_nobody_refunds_themselves(
    client: AsyncClient, session: AsyncSession
) -> None:
    person = await a_person(session, role=Role.ADMIN)
    receipt = await paid_bill(session, unit=make.COMMUNE, payer_id=person)
    admin, other = await make.a_key(session), await make.a_key(session)
    signed_in = cookie_headers(await a_sign_in(session, person))
    await session.commit()
    body = {"receipt_id": str(receipt.id), "reason": "nộp hai lần"}

    own = await client.post("/api/v1/refunds", json=body, headers={**signed_in, "Idempotency-Key": uuid4().hex})
    asked = await make.post(client, admin, "/api/v1/refunds", body)
    path = f"/api/v1/refunds/{asked.json()['id']}/approve"
    own_approval = await client.post(path, headers={**signed_in, "Idempotency-Key": uuid4().hex})
    same = await make.post(client, admin, path)
    approved = await make.post(client, other, path)

    assert (own.status_code, own.json()["type"]) == (403, "/problems/own_refund")
    assert (own_approval.status_code, own_approval.json()["type"]) == (403, "/problems/own_refund")
    assert (same.status_code, same.json()["type"]) == (409, "/problems/same_person")
    assert approved.status_code == 200


async def test_money_of_nobody_is_the_provinces_and_pays_the_bill_it_is_for(
    client: AsyncClient, session: AsyncSession
) -> None:
    merchant = await a_merchant(session, provider="vietqr")
    bill = await a_bill(session, amount=30_000)
    await hear_of_nobody(session, merchant, 30_000)
    receipt = (await session.scalars(select(Receipt))).one()
    case = (await session.scalars(select(PaymentCase))).one()
    admin, officer = await make.a_key(session), await make.a_key(session, unit=make.COMMUNE)
    monitor = await make.a_key(session, role=Role.MONITOR)
    await session.commit()

    seen = [
        len((await client.get("/api/v1/payment-cases?open=true", headers=make.auth(key))).json()["cases"])
        for key in (admin, officer, monitor)
    ]
    assert seen == [1, 0, 1]
    asked = await make.post(client, officer, "/api/v1/refunds", {"receipt_id": str(receipt.id), "reason": "của ai đó"})
    assert asked.status_code == 403
    held = await make.post(client, admin, f"/api/v1/payment-cases/{case.id}/close", {"outcome": "để đó"})
    assert (held.status_code, held.json()["type"]) == (409, "/problems/case_holds_money")

    applied = await make.post(client, admin, f"/api/v1/receipts/{receipt.id}/apply", {"bill_id": str(bill.id)})

    assert (applied.status_code, applied.json()["place"], applied.json()["bill_id"]) == (200, "applied", str(bill.id))
    closed = (await client.get("/api/v1/payment-cases?open=false", headers=make.auth(admin))).json()["cases"]
    assert [(one["id"], one["outcome"]) for one in closed] == [(str(case.id), "applied")]
    again = await make.post(client, admin, f"/api/v1/payment-cases/{case.id}/close", {"outcome": "xong rồi"})
    assert (again.status_code, again.json()["type"]) == (409, "/problems/case_closed")


async def hear_of_nobody(session: AsyncSession, merchant: Merchant, amount: int) -> None:
    finding = Finding(references=[], outcome=Outcome.PAID, amount=amount, transaction="FT1", at=NOW)
    await evidence.hear(session, merchant, finding, evidence=Evidence.WEBHOOK, source="test", now=NOW)


async def test_what_was_written_about_a_closed_case_is_not_for_monitoring(
    client: AsyncClient, session: AsyncSession
) -> None:
    receipt = await a_receipt(session)
    refund = await refunds.request_refund(
        session, receipt_id=receipt.id, amount=10_000, reason="x", by_hand=False, limit=10_000, by="an", now=NOW
    )
    await refunds.record_unknown(session, refund.id, source="call", now=NOW)
    await refunds.hear_refund(session, refund.id, FAILED, source="inquiry", now=NOW)
    case = (await session.scalars(select(PaymentCase))).one()
    admin, monitor = await make.a_key(session), await make.a_key(session, role=Role.MONITOR)
    await session.commit()
    closed = await make.post(
        client, admin, f"/api/v1/payment-cases/{case.id}/close", {"outcome": "bà Nông Thị Mai nhận tiền mặt"}
    )
    assert closed.status_code == 200

    for key, told in ((admin, True), (monitor, False)):
        answer = await client.get("/api/v1/payment-cases?kind=refund_failed", headers=make.auth(key))
        assert ("Mai" in answer.text) is told


async def test_pages_follow_one_another(client: AsyncClient, session: AsyncSession) -> None:
    receipt = await a_receipt(session, amount=100_000)
    for amount in (1_000, 2_000, 3_000):
        await refunds.request_refund(
            session, receipt_id=receipt.id, amount=amount, reason="x", by_hand=False, limit=1_000, by="an", now=NOW
        )
    admin = await make.a_key(session)
    await session.commit()

    seen, after = [], ""
    while after is not None:
        answer = (await client.get(f"/api/v1/refunds?limit=2{after}", headers=make.auth(admin))).json()
        seen += [row["amount"] for row in answer["refunds"]]
        after = answer["next"] and f"&after={answer['next']}"

    assert sorted(seen) == [1_000, 2_000, 3_000]


BAD_BODIES: list[dict[str, Any]] = [
    {"amount": 0},
    {"amount": -5},
    {"amount": 1.5},
    {"amount": 10**10},
    {"reason": ""},
    {"reason": "a\x00b c"},
    {"id": "x"},
    {"by_hand": True},
]


async def test_what_makes_no_sense_is_refused_before_anything_is_kept_apart(
    client: AsyncClient, session: AsyncSession
) -> None:
    receipt = await a_receipt(session)
    admin = await make.a_key(session)
    await session.commit()

    good = {"receipt_id": str(receipt.id), "reason": "nộp nhầm"}
    answers = [await make.post(client, admin, "/api/v1/refunds", {**good, **bad}) for bad in BAD_BODIES]

    assert [answer.status_code for answer in answers] == [400] * len(BAD_BODIES)
    assert await sums(session, receipt.id) == (0, 0, 0, 0)
