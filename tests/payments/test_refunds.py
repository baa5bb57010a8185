"""Refunds: what is reserved, who agrees, what is asked of the provider, and what becomes of the money."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from typing_extensions import override

from bkapp.db import Sessions
from bkapp.errors import Invalid, NotFound
from bkapp.identity.models import Notice
from bkapp.payments.flows import refunding
from bkapp.payments.models import Merchant, PaymentCase, Receipt, Refund, RefundEvent
from bkapp.payments.operations import evidence, ledger, refunds
from bkapp.payments.operations.attempts import IdTaken
from bkapp.payments.operations.refund_moves import ARRIVES, RefundMoved, move
from bkapp.payments.operations.refunds import (
    NotByHand,
    ReceiptReversed,
    RefundTooLarge,
    SamePerson,
    TransferKnown,
)
from bkapp.payments.providers import REFUNDING, Finding, NoAnswer, NotSent, Outcome, RefundOrder, Refunds, Refused
from bkapp.payments.providers import Merchant as OpenedMerchant
from bkapp.payments.providers.registry import Providers
from bkapp.payments.rules import CALL_LEASE, REFUND_EDGES, CaseKind, Evidence, Place, RefundStatus, next_check
from tests.identity.make import KEYRING, a_person
from tests.payments.make import NOW, a_bill, a_merchant, a_receipt, an_attempt, hear

LIMIT = 50_000
HOME = "https://bkapp.test"
Answer = Finding | Exception


def says(outcome: Outcome, *, amount: int | None = None, transaction: str | None = None) -> Finding:
    return Finding(references=[], outcome=outcome, amount=amount, transaction=transaction, code="77")


PAID = says(Outcome.PAID, transaction="R1")


class Scripted:
    """A provider that gives money back as a test tells it, and remembers what it was asked."""

    name = "vnpay"

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []
        self.orders: list[RefundOrder] = []

    async def refund(self, merchant: OpenedMerchant, refund: RefundOrder, *, now: Any) -> Finding:
        return self._answer("refund", refund)

    async def inquire_refund(self, merchant: OpenedMerchant, refund: RefundOrder, *, now: Any) -> Finding:
        return self._answer("inquire", refund)

    def _answer(self, what: str, refund: RefundOrder) -> Finding:
        self.asked.append(what)
        self.orders.append(refund)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Known(Providers):
    """Providers of which each gives money back through the one script."""

    def __init__(self, script: Scripted) -> None:
        super().__init__()
        self._script = script

    @override
    def refunds(self, name: str) -> Refunds | None:
        return self._script


async def ask(session: AsyncSession, receipt: Receipt, amount: int, **options: Any) -> Refund:
    given = {"reason": "nộp nhầm", "by_hand": False, "limit": LIMIT, "by": "officer", "now": NOW, **options}
    return await refunds.request_refund(session, receipt_id=receipt.id, amount=amount, **given)


async def counted(session: AsyncSession, receipt: Receipt) -> tuple[int, int]:
    row = await session.execute(select(Receipt.reserved, Receipt.refunded).where(Receipt.id == receipt.id))
    return tuple(row.one())  # type: ignore[return-value]


async def cases(session: AsyncSession, kind: CaseKind) -> list[PaymentCase]:
    found = await session.scalars(
        select(PaymentCase).where(PaymentCase.kind == kind).execution_options(populate_existing=True)
    )
    return list(found)


async def jobs(session: AsyncSession) -> list[str]:
    found = await session.scalars(
        text("SELECT args ->> 'refund_id' FROM procrastinate_jobs WHERE task_name = 'payments.refund'")
    )
    return list(found)


async def check(session: AsyncSession) -> None:
    """What must hold after everything: deferred constraints, books that balance, suspense that is what waits there."""
    await session.flush()
    await session.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
    await session.execute(text("SET CONSTRAINTS ALL DEFERRED"))
    assert await ledger.verify(session) == []
    waiting = await session.scalar(
        select(func.coalesce(func.sum(Receipt.amount - Receipt.refunded), 0)).where(Receipt.place == Place.SUSPENSE)
    )
    assert -(await ledger.balances(session)).get(ledger.SUSPENSE, 0) == waiting


async def twice_paid(session: AsyncSession, *, amount: int = 600_000) -> Receipt:
    """The second payment of a bill, in suspense.  So large that a person has to agree before it goes back."""
    merchant = await a_merchant(session)
    bill = await a_bill(session, amount=amount)
    attempt = await an_attempt(session, bill, merchant)
    await hear(session, merchant, attempt, transaction="T1")
    await hear(session, merchant, attempt, transaction="T2")
    return (await session.scalars(select(Receipt).where(Receipt.place == Place.SUSPENSE))).one()


# --- asking -------------------------------------------------------------------------------------------------------


async def test_a_part_is_kept_apart_and_then_given_back(session: AsyncSession) -> None:
    receipt = await a_receipt(session, amount=100_000)

    refund = await ask(session, receipt, 40_000)

    assert (refund.status, refund.approved_by) == (RefundStatus.APPROVED, "payments.small")
    assert (receipt.reserved, receipt.refunded) == await counted(session, receipt) == (40_000, 0)
    await check(session)

    refund = await refunds.hear_refund(session, refund.reference, PAID, source="inquiry", now=NOW)

    assert (refund.status, refund.transaction) == (RefundStatus.SUCCEEDED, "R1")
    assert await counted(session, receipt) == (0, 40_000)
    assert (await ledger.balances(session))["clearing:vnpay"] == 60_000
    await check(session)


async def test_more_than_is_left_is_refused_and_said_how_much_that_is(session: AsyncSession) -> None:
    receipt = await a_receipt(session, amount=100_000)
    await ask(session, receipt, 60_000)

    with pytest.raises(RefundTooLarge) as refused:
        await ask(session, receipt, 60_000)

    assert refused.value.facts == {"refundable": 40_000}
    assert await counted(session, receipt) == (60_000, 0)
    await ask(session, receipt, 40_000)
    assert await counted(session, receipt) == (100_000, 0)


@pytest.mark.parametrize("amount", [0, -1, -100_000])
async def test_an_amount_is_above_zero(session: AsyncSession, amount: int) -> None:
    receipt = await a_receipt(session)

    with pytest.raises(Invalid):
        await ask(session, receipt, amount)

    assert await counted(session, receipt) == (0, 0)


async def test_money_that_never_came_is_not_given_back(session: AsyncSession) -> None:
    merchant = await a_merchant(session)
    attempt = await an_attempt(session, await a_bill(session), merchant)
    await hear(session, merchant, attempt, transaction="T1")
    await hear(session, merchant, attempt, Outcome.FAILED, how=Evidence.STATEMENT)
    receipt = (await session.scalars(select(Receipt))).one()

    with pytest.raises(ReceiptReversed):
        await ask(session, receipt, 1)
    with pytest.raises(NotFound):
        await refunds.request_refund(
            session, receipt_id=uuid4(), amount=1, reason="…", by_hand=False, limit=0, by="x", now=NOW
        )


async def test_the_same_id_is_the_same_refund_even_when_nothing_is_left(session: AsyncSession) -> None:
    receipt = await a_receipt(session, amount=50_000)
    name = uuid4()
    first = await ask(session, receipt, 50_000, refund_id=name)

    again = await ask(session, receipt, 50_000, refund_id=name)

    assert (again.id, again.reference) == (first.id, first.reference)
    assert await counted(session, receipt) == (50_000, 0)
    assert len(await jobs(session)) == 1


@pytest.mark.parametrize("other", [{"amount": 10_001}, {"reason": "khác"}, {"by": "somebody"}])
async def test_the_same_id_with_other_content_is_refused(session: AsyncSession, other: dict[str, Any]) -> None:
    receipt = await a_receipt(session, amount=50_000)
    name = uuid4()
    await ask(session, receipt, 10_000, refund_id=name)

    with pytest.raises(IdTaken):
        await ask(session, receipt, **{"amount": 10_000, "refund_id": name, **other})

    assert await counted(session, receipt) == (10_000, 0)


async def test_who_asks_before_a_provider_knows_the_money_has_it_transferred(session: AsyncSession) -> None:
    """A transfer that named nothing came by no attempt, so no provider could be told what to give back."""
    merchant = await a_merchant(session, provider="vietqr")
    nameless = Finding(references=[], outcome=Outcome.PAID, amount=30_000, transaction="FT1", at=NOW)
    await evidence.hear(session, merchant, nameless, evidence=Evidence.WEBHOOK, source="test", now=NOW)
    receipt = (await session.scalars(select(Receipt))).one()

    refund = await ask(session, receipt, 30_000, by_hand=False)

    assert (refund.by_hand, refund.next_check_at) == (True, None)
    assert await jobs(session) == []


# --- a second person ----------------------------------------------------------------------------------------------


async def test_above_the_limit_somebody_else_agrees_and_then_it_is_sent(session: AsyncSession) -> None:
    receipt = await a_receipt(session)
    refund = await ask(session, receipt, LIMIT + 1, by="an")
    assert (refund.status, refund.next_check_at, await jobs(session)) == (RefundStatus.WAITING, None, [])

    with pytest.raises(SamePerson):
        await refunds.approve(session, refund.id, by="an", now=NOW)
    assert refund.status is RefundStatus.WAITING
    approved = await refunds.approve(session, refund.id, by="binh", now=NOW)

    assert (approved.status, approved.approved_by) == (RefundStatus.APPROVED, "binh")
    assert await jobs(session) == [str(refund.id)]
    with pytest.raises(RefundMoved):
        await refunds.approve(session, refund.id, by="chi", now=NOW)
    await check(session)


async def test_at_the_limit_nobody_has_to_agree(session: AsyncSession) -> None:
    refund = await ask(session, await a_receipt(session), LIMIT)

    assert refund.status is RefundStatus.APPROVED
    assert await jobs(session) == [str(refund.id)]


async def test_many_small_parts_are_no_way_around_the_second_person(session: AsyncSession) -> None:
    receipt = await a_receipt(session)

    parts = [await ask(session, receipt, amount) for amount in (LIMIT - 10_000, 10_000, 1)]

    assert [part.status for part in parts] == [RefundStatus.APPROVED, RefundStatus.APPROVED, RefundStatus.WAITING]


async def test_postgresql_too_refuses_that_somebody_approves_their_own(session: AsyncSession) -> None:
    refund = await ask(session, await a_receipt(session), LIMIT + 1, by="an")

    with pytest.raises(DBAPIError, match="ck_refund_four_eyes"):
        await session.execute(
            update(Refund)
            .where(Refund.id == refund.id)
            .values(status=RefundStatus.APPROVED, version=2, approved_by="an", approved_at=NOW, next_check_at=NOW)
        )


async def test_what_is_rejected_is_free_again(session: AsyncSession) -> None:
    receipt = await a_receipt(session, amount=100_000)
    refund = await ask(session, receipt, 100_000)

    rejected = await refunds.reject(session, refund.id, by="binh", now=NOW, reason="chưa đủ hồ sơ")

    assert (rejected.status, rejected.failure_code) == (RefundStatus.REJECTED, "chưa đủ hồ sơ")
    assert await counted(session, receipt) == (0, 0)
    await ask(session, receipt, 100_000)
    await check(session)


async def test_what_is_on_its_way_is_not_rejected(session: AsyncSession) -> None:
    refund = await ask(session, await a_receipt(session), 10_000)
    assert await refunds.claim_question(session, KEYRING, refund.id, home=HOME, now=NOW)

    with pytest.raises(RefundMoved):
        await refunds.reject(session, refund.id, by="binh", now=NOW)


# --- moves --------------------------------------------------------------------------------------------------------


async def test_each_move_has_its_event(session: AsyncSession) -> None:
    refund = await ask(session, await a_receipt(session), LIMIT + 1, by="an")
    await refunds.approve(session, refund.id, by="binh", now=NOW)
    await refunds.record_unknown(session, refund.id, source="call", now=NOW)
    await refunds.hear_refund(session, refund.id, PAID, source="inquiry", now=NOW)

    events = await session.execute(
        select(RefundEvent.version, RefundEvent.start, RefundEvent.end, RefundEvent.source).order_by(RefundEvent.id)
    )
    assert [tuple(row) for row in events] == [
        (2, "waiting", "approved", "binh"),
        (3, "approved", "unknown", "call"),
        (4, "unknown", "succeeded", "inquiry"),
    ]


async def test_a_refund_that_somebody_else_moved_meanwhile_is_not_moved(session: AsyncSession) -> None:
    refund = await ask(session, await a_receipt(session), 10_000)
    raw = text("UPDATE refund SET status = 'unknown', version = version + 1 WHERE id = :id")
    await session.execute(raw, {"id": refund.id})

    with pytest.raises(RefundMoved):
        await move(session, refund, RefundStatus.PENDING, source="call", now=NOW, next_check_at=NOW)

    assert await session.scalar(select(func.count()).select_from(RefundEvent)) == 0


@pytest.mark.parametrize("start", RefundStatus)
async def test_no_other_way_than_the_graph_is_taken(session: AsyncSession, start: RefundStatus) -> None:
    refund = await ask(session, await a_receipt(session), LIMIT + (start is RefundStatus.WAITING))
    if start not in {RefundStatus.WAITING, RefundStatus.APPROVED}:
        await move(session, refund, start, source="test", now=NOW, next_check_at=NOW)

    for end in set(RefundStatus) - REFUND_EDGES[start] - {start}:
        with pytest.raises(RefundMoved):
            await move(session, refund, end, source="test", now=NOW)
        with pytest.raises(DBAPIError, match="cannot become"):
            async with session.begin_nested():
                await session.execute(
                    text("UPDATE refund SET status = :end, version = version + 1 WHERE id = :id"),
                    {"end": end.value, "id": refund.id},
                )


# --- sending ------------------------------------------------------------------------------------------------------


@pytest.fixture
def send(sessions: Sessions) -> Callable[..., Any]:
    async def send(script: Scripted, refund: Refund, *, after: timedelta = timedelta()) -> Refund | None:
        return await refunding.send(sessions, Known(script), KEYRING, home=HOME, refund_id=refund.id, now=NOW + after)

    return send


async def asked_for(session: AsyncSession, amount: int = 30_000) -> tuple[Receipt, Refund]:
    receipt = await a_receipt(session, amount=100_000)
    refund = await ask(session, receipt, amount, limit=amount)
    await session.commit()
    return receipt, refund


async def test_a_provider_is_told_what_it_needs_and_not_why(session: AsyncSession, send: Any) -> None:
    receipt, refund = await asked_for(session, 100_000)
    script = Scripted(PAID)

    done = await send(script, refund)

    assert done.status is RefundStatus.SUCCEEDED
    (order,) = script.orders
    assert (order.reference, order.amount, order.full) == (refund.reference, 100_000, True)
    assert (order.transaction, order.paid_at) == (receipt.transaction, receipt.received_at)
    assert order.reason == f"Hoan tien {order.order.bill_code}"
    assert await send(script, refund) is None, "what is done is asked no more"
    await check(session)


async def test_a_transaction_that_nobody_told_is_not_made_up(session: AsyncSession, send: Any) -> None:
    merchant = await a_merchant(session)
    attempt = await an_attempt(session, await a_bill(session), merchant)
    await hear(session, merchant, attempt)
    refund = await ask(session, (await session.scalars(select(Receipt))).one(), 20_000)
    await session.commit()
    script = Scripted(PAID)

    await send(script, refund)

    assert script.orders[0].transaction == ""


async def test_after_no_answer_it_is_only_asked_what_came_of_it(session: AsyncSession, send: Any) -> None:
    receipt, refund = await asked_for(session)
    script = Scripted(
        NoAnswer("gone"), NoAnswer("gone"), NotSent("away"), says(Outcome.ABSENT), says(Outcome.PENDING), PAID
    )

    seen = []
    for minutes in (0, 2, 4, 6, 16, 30):
        await send(script, refund, after=timedelta(minutes=minutes))
        seen.append(str(await session.scalar(select(Refund.status).where(Refund.id == refund.id))))

    assert script.asked == ["refund", *["inquire"] * 5]
    assert seen == ["unknown"] * 4 + ["pending", "succeeded"]
    assert {(order.reference, order.full) for order in script.orders} == {(refund.reference, False)}
    assert script.orders[0] == script.orders[-1], "it is asked about as it was asked for"
    assert await counted(session, receipt) == (0, 30_000)
    await check(session)


async def test_who_dies_after_the_intent_leaves_a_question_and_no_second_refund(
    session: AsyncSession, sessions: Sessions, send: Any
) -> None:
    _, refund = await asked_for(session)
    async with sessions.begin() as dying:
        assert (await refunds.claim_question(dying, KEYRING, refund.id, home=HOME, now=NOW)) is not None
    script = Scripted(PAID)

    early = await send(script, refund, after=CALL_LEASE - timedelta(seconds=1))
    late = await send(script, refund, after=CALL_LEASE)

    assert (early, script.asked) == (None, ["inquire"])
    assert late.status is RefundStatus.SUCCEEDED
    sources = await session.scalars(select(RefundEvent.source).order_by(RefundEvent.id))
    assert list(sources) == ["clock", "inquiry"]
    await check(session)


async def test_who_learns_late_that_no_answer_came_changes_nothing(session: AsyncSession) -> None:
    """The inquiry was faster than the one who waited for the answer."""
    receipt = await a_receipt(session)
    refund = await ask(session, receipt, 30_000)
    await refunds.hear_refund(session, refund.id, PAID, source="inquiry", now=NOW)

    for told in (
        await refunds.record_unknown(session, refund.id, source="call", now=NOW),
        await refunds.record_not_sent(session, refund.id, now=NOW),
        await refunds.record_refused(session, refund.id, code="91", now=NOW),
    ):
        assert told.status is RefundStatus.SUCCEEDED

    assert await counted(session, receipt) == (0, 30_000)


async def test_what_was_not_sent_is_sent_later(session: AsyncSession, send: Any) -> None:
    _, refund = await asked_for(session)
    script = Scripted(NotSent("away"), PAID)

    first = await send(script, refund)
    soon = await send(script, refund, after=next_check(1) - timedelta(seconds=1))
    later = await send(script, refund, after=next_check(1))

    assert (first.status, first.sent_at, soon) == (RefundStatus.APPROVED, None, None)
    assert (later.status, later.sent_at) == (RefundStatus.SUCCEEDED, NOW + next_check(1))
    assert script.asked == ["refund", "refund"]


async def test_a_refusal_frees_the_money_and_opens_a_case(session: AsyncSession, send: Any) -> None:
    receipt, refund = await asked_for(session)

    refused = await send(Scripted(Refused("91")), refund)

    assert (refused.status, refused.failure_code) == (RefundStatus.FAILED, "91")
    assert await counted(session, receipt) == (0, 0)
    (case,) = await cases(session, CaseKind.REFUND_FAILED)
    assert (case.refund_id, case.detail) == (refund.id, "91")
    await check(session)


@pytest.mark.parametrize(("known", "then"), [(False, RefundStatus.FAILED), (True, RefundStatus.PENDING)])
async def test_what_the_provider_does_not_know_never_arrived_if_time_enough_went_by(
    session: AsyncSession, send: Any, *, known: bool, then: RefundStatus
) -> None:
    """Only if it was not known there before: then somebody has to look, and its money stays apart."""
    receipt, refund = await asked_for(session)
    first = says(Outcome.PENDING) if known else NoAnswer("gone")
    script = Scripted(first, says(Outcome.ABSENT), says(Outcome.ABSENT), says(Outcome.ABSENT))
    await send(script, refund)

    early = await send(script, refund, after=ARRIVES - timedelta(minutes=5))
    assert early.status is (RefundStatus.PENDING if known else RefundStatus.UNKNOWN)
    late = await send(script, refund, after=ARRIVES)

    assert late.status is then
    assert await counted(session, receipt) == ((30_000 if known else 0), 0)
    assert len(await cases(session, CaseKind.STATUS)) == int(known)
    assert len(await cases(session, CaseKind.REFUND_FAILED)) == int(not known)
    await check(session)


async def test_another_amount_than_asked_is_no_success(session: AsyncSession, send: Any) -> None:
    receipt, refund = await asked_for(session)
    script = Scripted(says(Outcome.PAID, amount=29_000), says(Outcome.PAID, amount=29_000))

    await send(script, refund)
    after = await send(script, refund, after=timedelta(minutes=5))

    assert after.status is RefundStatus.UNKNOWN
    assert script.asked == ["refund", "inquire"]
    assert await counted(session, receipt) == (30_000, 0)
    (case,) = await cases(session, CaseKind.STATUS)
    assert "29000" in case.detail


async def test_a_provider_is_asked_no_more_often_than_its_budget(session: AsyncSession, send: Any) -> None:
    _, refund = await asked_for(session)
    await session.execute(update(Merchant).values(call_tokens=0, refilled_at=NOW, calls_per_minute=1))
    await session.commit()
    script = Scripted(PAID)

    assert await send(script, refund) is None
    assert await send(script, refund, after=timedelta(seconds=20)) is None
    done = await send(script, refund, after=timedelta(minutes=2))

    assert (done.status, script.asked) == (RefundStatus.SUCCEEDED, ["refund"])


async def test_the_sweeper_takes_what_is_due_and_nothing_else(session: AsyncSession, sessions: Sessions) -> None:
    receipt = await a_receipt(session, amount=200_000)
    small = await ask(session, receipt, 10_000)
    await ask(session, receipt, LIMIT + 1)
    await ask(session, receipt, 20_000, by_hand=True)
    await session.commit()
    script = Scripted(PAID)

    taken = [
        await refunding.sweep(sessions, Known(script), KEYRING, home=HOME, now=NOW + timedelta(seconds=seconds))
        for seconds in (-1, 0, 1)
    ]

    assert taken == [0, 1, 0]
    assert [order.reference for order in script.orders] == [small.reference]


async def test_one_that_breaks_the_provider_does_not_stop_the_sweeper(
    session: AsyncSession, sessions: Sessions
) -> None:
    await asked_for(session)
    script = Scripted(ZeroDivisionError("a bug"), PAID)

    first = await refunding.sweep(sessions, Known(script), KEYRING, home=HOME, now=NOW)
    later = NOW + CALL_LEASE + timedelta(seconds=1)
    second = await refunding.sweep(sessions, Known(script), KEYRING, home=HOME, now=later)

    assert (first, second, script.asked) == (1, 1, ["refund", "inquire"])


def test_what_gives_money_back_is_what_we_say_does() -> None:
    known = Providers()
    names = {"paygov", "keypay", "vnpay", "momo", "zalopay", "viettel", "vietqr"}

    assert {name for name in names if known.refunds(name) is not None} == REFUNDING


# --- what came of it ----------------------------------------------------------------------------------------------


async def test_money_in_suspense_that_all_went_back_has_no_case_any_more(session: AsyncSession) -> None:
    receipt = await twice_paid(session)
    (refund,) = await session.scalars(select(Refund))  # asked for by itself
    await refunds.reject(session, refund.id, by="binh", now=NOW)
    parts = [await ask(session, receipt, amount, limit=600_000) for amount in (200_000, 400_000)]
    await check(session)

    await refunds.hear_refund(session, parts[0].id, PAID, source="inquiry", now=NOW)
    (case,) = await cases(session, CaseKind.DUPLICATE)
    assert case.closed_at is None
    await check(session)
    await refunds.hear_refund(session, parts[1].id, PAID, source="inquiry", now=NOW)

    (case,) = await cases(session, CaseKind.DUPLICATE)
    assert (case.closed_at, case.outcome) == (NOW, "refunded")
    await check(session)


async def test_a_late_success_is_taken_again_where_it_fits(session: AsyncSession, send: Any) -> None:
    receipt, refund = await asked_for(session, 60_000)
    await send(Scripted(Refused("99")), refund)
    await check(session)

    late = await refunds.hear_refund(session, refund.id, PAID, source="statement:3", now=NOW)

    assert late.status is RefundStatus.SUCCEEDED
    assert await counted(session, receipt) == (0, 60_000)
    (case,) = await cases(session, CaseKind.REFUND_FAILED)
    assert case.outcome == "refunded"
    await check(session)


async def test_a_late_success_that_does_not_fit_is_a_case_and_overdraws_nothing(
    session: AsyncSession, send: Any
) -> None:
    receipt, refund = await asked_for(session, 60_000)
    await send(Scripted(Refused("99")), refund)
    second = await ask(session, receipt, 60_000, limit=60_000)

    for source in ("statement:3", "statement:4"):
        late = await refunds.hear_refund(session, refund.id, PAID, source=source, now=NOW)
        assert late.status is RefundStatus.FAILED
    await refunds.hear_refund(session, second.id, PAID, source="inquiry", now=NOW)

    assert await counted(session, receipt) == (0, 60_000)
    third = await ask(session, receipt, 40_000, limit=100_000)
    await refunds.hear_refund(session, third.id, PAID, source="inquiry", now=NOW)
    assert await counted(session, receipt) == (0, 100_000)
    (case,) = await cases(session, CaseKind.OVERREFUND)
    assert (case.refund_id, case.closed_at) == (refund.id, None), "that all went back does not settle what went twice"
    (case,) = await cases(session, CaseKind.REFUND_FAILED)
    assert case.outcome == "refunded"
    await check(session)


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.PENDING, Outcome.ABSENT])
async def test_what_is_said_after_a_success_changes_nothing(session: AsyncSession, outcome: Outcome) -> None:
    receipt = await a_receipt(session)
    refund = await ask(session, receipt, 30_000)
    await refunds.hear_refund(session, refund.id, PAID, source="inquiry", now=NOW)

    for finding in (says(outcome), PAID):
        refund = await refunds.hear_refund(session, refund.id, finding, source="inquiry", now=NOW)
        assert refund.status is RefundStatus.SUCCEEDED

    assert await counted(session, receipt) == (0, 30_000)
    assert (await ledger.balances(session))["clearing:vnpay"] == 70_000


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.PENDING, Outcome.ABSENT])
async def test_what_is_said_of_a_refund_that_was_not_sent_changes_nothing(
    session: AsyncSession, outcome: Outcome
) -> None:
    receipt = await a_receipt(session)
    refund = await ask(session, receipt, 30_000)

    heard = await refunds.hear_refund(session, refund.id, says(outcome), source="statement:1", now=NOW + ARRIVES)

    assert (heard.status, await counted(session, receipt)) == (RefundStatus.APPROVED, (30_000, 0))


async def test_the_number_of_the_refund_may_be_told_later(session: AsyncSession) -> None:
    refund = await ask(session, await a_receipt(session), 30_000)

    for number in (None, "R1", "R2"):
        told = says(Outcome.PAID, transaction=number)
        refund = await refunds.hear_refund(session, refund.id, told, source="inquiry", now=NOW)

    assert refund.transaction == "R1"


async def test_a_word_for_a_refund_that_nobody_approved_is_a_case(session: AsyncSession) -> None:
    receipt = await a_receipt(session)
    refund = await ask(session, receipt, LIMIT + 1)

    heard = await refunds.hear_refund(session, refund.reference, PAID, source="statement:9", now=NOW)

    assert heard.status is RefundStatus.WAITING
    assert await counted(session, receipt) == (LIMIT + 1, 0)
    assert len(await cases(session, CaseKind.STATUS)) == 1


async def test_the_payer_is_told_and_so_are_partners(session: AsyncSession) -> None:
    payer = await a_person(session)
    merchant = await a_merchant(session)
    bill = await a_bill(session, payer_id=payer)
    attempt = await an_attempt(session, bill, merchant)
    await hear(session, merchant, attempt, transaction="T1")
    refund = await ask(session, (await session.scalars(select(Receipt))).one(), 20_000)
    await a_partner(session)

    await refunds.hear_refund(session, refund.id, PAID, source="inquiry", now=NOW)

    told = (await session.scalars(select(Notice).where(Notice.kind == "refund_succeeded"))).one()
    assert (told.person_id, told.data) == (payer, {"bill": str(bill.id), "refund": refund.reference})
    body = await session.scalar(text("SELECT body::jsonb FROM webhook_message WHERE kind = 'refund.succeeded'"))
    assert body["data"]["amount"] == 20_000
    assert body["data"]["refund"] == refund.reference


async def a_partner(session: AsyncSession) -> None:
    """An endpoint that hears of everything."""
    made = "INSERT INTO webhook_endpoint (label, url, kinds, created_by) VALUES ('x', 'https://x.test', '{*}', 'x')"
    endpoint = await session.scalar(text(f"{made} RETURNING id"))
    await session.execute(
        text("INSERT INTO webhook_key (endpoint_id, scheme, slot, secret_cipher) VALUES (:id, 'v1', 1, 'x')"),
        {"id": endpoint},
    )


# --- by hand ------------------------------------------------------------------------------------------------------


async def test_where_the_provider_cannot_the_treasury_transfers(session: AsyncSession) -> None:
    receipt = await a_receipt(session, amount=100_000, provider="paygov")
    refund = await ask(session, receipt, 100_000, by_hand=True, by="an")
    with pytest.raises(RefundMoved):
        await refunds.record_transfer(session, refund.id, transaction="FT0", by="an", now=NOW)
    await refunds.approve(session, refund.id, by="binh", now=NOW)
    assert await jobs(session) == []

    on_its_way = await refunds.hear_refund(session, refund.id, says(Outcome.PENDING), source="statement:1", now=NOW)
    assert on_its_way.status is RefundStatus.APPROVED, "nobody can be asked what comes of it"
    done = await refunds.record_transfer(session, refund.id, transaction="FT1", by="chi", now=NOW)

    assert (done.status, done.transaction) == (RefundStatus.SUCCEEDED, "FT1")
    assert await counted(session, receipt) == (0, 100_000)
    assert (await ledger.balances(session))["clearing:paygov"] == 0
    await check(session)


async def test_a_transfer_counts_for_one_refund(session: AsyncSession) -> None:
    receipt = await a_receipt(session, amount=100_000, provider="paygov")
    first, second = [await ask(session, receipt, amount, by_hand=True) for amount in (10_000, 20_000)]
    await refunds.record_transfer(session, first.id, transaction="FT1", by="chi", now=NOW)

    with pytest.raises(TransferKnown):
        await refunds.record_transfer(session, second.id, transaction="FT1", by="chi", now=NOW)

    assert await counted(session, receipt) == (20_000, 10_000)


async def test_nobody_transfers_what_the_provider_gives_back(session: AsyncSession) -> None:
    refund = await ask(session, await a_receipt(session), 10_000)

    with pytest.raises(NotByHand):
        await refunds.record_transfer(session, refund.id, transaction="FT1", by="chi", now=NOW)
