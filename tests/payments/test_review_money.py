"""What a review of payments found: money shown as paid that is not, words that come too late, questions that stop."""

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from httpx import AsyncClient
from sqlalchemy import func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession
from typing_extensions import override

from bkapp.db import Sessions, open_engine, sessions_of
from bkapp.payments.flows import paying
from bkapp.payments.models import (
    Merchant,
    PaymentAttempt,
    PaymentCase,
    Receipt,
    Refund,
    WebhookInbox,
    WebhookMessage,
)
from bkapp.payments.operations import (
    attempts,
    bills,
    endpoints,
    inbox,
    ledger,
    merchants,
    money,
    refund_moves,
    refunds,
)
from bkapp.payments.operations.attempts import IdTaken
from bkapp.payments.providers import Call, Finding, Line, NoAnswer, NotSent, Outcome, Verdict
from bkapp.payments.providers import Merchant as Account
from bkapp.payments.providers.calling import Wire
from bkapp.payments.providers.keypay import Keypay
from bkapp.payments.providers.registry import Providers
from bkapp.payments.rules import ATTEMPT_LASTS, AttemptStatus, BillStatus, CaseKind, Evidence, FeeKind, Place
from tests.identity.make import KEYRING
from tests.payments.make import NOW, a_bill, a_merchant, a_receipt, an_attempt, hear
from tests.payments.test_hooks import HOOK, SECRET, ipn
from tests.payments.wallets import ORDER

HOME = "https://bkapp.test"
PLAIN = {"pay_url": "http://keypay.test/pay", "detail_url": "http://keypay.test/detail"}
Answer = Finding | Exception | Callable[[Any], Any]


class Scripted:
    """A provider that answers questions as a test tells it, and remembers about what it was asked."""

    name = "vnpay"

    def __init__(self, *answers: Answer, brought: Finding | None = None) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []
        self._brought = brought

    async def begin(self, *_: object, **__: object) -> Any:
        raise AssertionError("nothing is begun here")

    async def inquire(self, merchant: Any, order: Any, *, now: datetime) -> Finding:
        self.asked.append(order.reference)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return await answer(order) if callable(answer) else answer

    def came_back(self, *_: object, **__: object) -> Finding | None:
        return self._brought


class Known(Providers):
    """Providers of which each is the one script."""

    def __init__(self, script: Any) -> None:
        super().__init__()
        self._script = script

    @override
    def of(self, name: str) -> Any:
        return self._script


def says(attempt: PaymentAttempt, outcome: Outcome, transaction: str | None = None) -> Finding:
    amount = attempt.amount if outcome is Outcome.PAID else None
    return Finding(references=[attempt.reference], outcome=outcome, amount=amount, transaction=transaction, code="x")


async def status_of(session: AsyncSession, attempt: PaymentAttempt | UUID) -> AttemptStatus:
    about = attempt if isinstance(attempt, UUID) else attempt.id
    found = await session.scalar(select(PaymentAttempt.status).where(PaymentAttempt.id == about))
    assert found is not None
    return found


async def open_kinds(session: AsyncSession) -> list[CaseKind]:
    found = await session.scalars(select(PaymentCase.kind).where(PaymentCase.closed_at.is_(None)))
    return sorted(found)


async def check(session: AsyncSession) -> None:
    await session.flush()
    await session.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
    await session.execute(text("SET CONSTRAINTS ALL DEFERRED"))
    assert await ledger.verify(session) == []


# --- whose money it is --------------------------------------------------------------------------------------------


async def test_one_transaction_does_not_let_two_attempts_succeed(session: AsyncSession) -> None:
    """Somebody who owes two fees of 20,000 đồng writes the codes of both into one transfer; the bank, asked about
    either, names it."""
    merchant = await a_merchant(session, provider="vietqr")
    first = await an_attempt(session, await a_bill(session), merchant)
    second = await an_attempt(session, await a_bill(session), merchant)

    for attempt in (first, second, second):
        await hear(session, merchant, attempt, how=Evidence.INQUIRY, transaction="B1")

    assert [await status_of(session, each) for each in (first, second)] == ["succeeded", "pending"]
    assert await session.scalar(select(func.count()).select_from(Receipt)) == 1
    assert await open_kinds(session) == [CaseKind.STATUS]
    await check(session)


async def test_a_transfer_that_came_by_the_bills_code_is_the_attempts_once_that_is_told(session: AsyncSession) -> None:
    merchant = await a_merchant(session, provider="vietqr")
    bill = await a_bill(session)
    attempt = await an_attempt(session, bill, merchant)
    await money.credit(
        session,
        merchant,
        attempt=None,
        bill=bill,
        transaction="B1",
        amount=bill.amount,
        evidence=Evidence.WEBHOOK,
        source="test",
        received_at=NOW,
        now=NOW,
    )

    await hear(session, merchant, attempt, how=Evidence.INQUIRY, transaction="B1")

    assert await status_of(session, attempt) == "succeeded"
    assert (await session.scalars(select(Receipt))).one().attempt_id == attempt.id
    await check(session)


async def test_a_transaction_of_two_amounts_pays_nothing(session: AsyncSession) -> None:
    merchant = await a_merchant(session)
    bill = await a_bill(session)
    attempt = await an_attempt(session, bill, merchant)

    await hear(session, merchant, attempt, transaction="T1", amount=19_000)
    await hear(session, merchant, attempt, transaction="T1")

    assert (bill.status, await status_of(session, attempt)) == (BillStatus.OPEN, "pending")
    await check(session)


async def test_money_that_pays_another_bill_by_now_is_not_taken_from_it_unasked(session: AsyncSession) -> None:
    merchant = await a_merchant(session)
    bill, other = await a_bill(session, amount=600_000), await a_bill(session, amount=600_000)
    attempt = await an_attempt(session, bill, merchant)
    await hear(session, merchant, attempt, transaction="T1")
    await hear(session, merchant, attempt, transaction="T2")
    twice = (await session.scalars(select(Receipt).where(Receipt.transaction == "T2"))).one()
    await refunds.reject(session, (await session.scalars(select(Refund.id))).one(), by="binh", now=NOW)
    await money.apply_receipt(session, twice.id, other.id, by="binh", now=NOW)

    await hear(session, merchant, attempt, Outcome.FAILED, how=Evidence.INQUIRY)

    assert (bill.status, other.status) == (BillStatus.OPEN, BillStatus.PAID)
    assert twice.place is Place.APPLIED
    assert CaseKind.CONFLICT in await open_kinds(session)
    await check(session)


async def test_money_of_nobody_that_turns_out_to_be_paid_twice_goes_back(session: AsyncSession) -> None:
    merchant = await a_merchant(session)
    bill = await a_bill(session)
    attempt = await an_attempt(session, bill, merchant)
    await hear(session, merchant, attempt, transaction="T1")
    await money.credit(
        session,
        merchant,
        attempt=None,
        bill=None,
        transaction="T2",
        amount=bill.amount,
        evidence=Evidence.INQUIRY,
        source="test",
        received_at=NOW,
        now=NOW,
    )
    assert await open_kinds(session) == [CaseKind.UNIDENTIFIED]

    verdict = await hear(session, merchant, attempt, transaction="T2")

    assert verdict is Verdict.TAKEN
    case = (await session.scalars(select(PaymentCase).where(PaymentCase.closed_at.is_(None)))).one()
    assert (case.kind, case.bill_id) == (CaseKind.DUPLICATE, bill.id)
    assert (await session.scalars(select(Refund))).one().amount == bill.amount
    await check(session)


async def test_money_of_nobody_that_goes_back_already_is_not_given_back_twice(session: AsyncSession) -> None:
    merchant = await a_merchant(session)
    bill = await a_bill(session)
    attempt = await an_attempt(session, bill, merchant)
    await hear(session, merchant, attempt, transaction="T1")
    lost, _ = await money.credit(
        session,
        merchant,
        attempt=None,
        bill=None,
        transaction="T2",
        amount=bill.amount,
        evidence=Evidence.INQUIRY,
        source="test",
        received_at=NOW,
        now=NOW,
    )
    asked: dict[str, Any] = {"reason": "test", "limit": 50_000, "by": "binh", "now": NOW}
    await refunds.request_refund(session, receipt_id=lost.id, amount=5_000, by_hand=True, **asked)

    await hear(session, merchant, attempt, transaction="T2")

    assert (lost.bill_id, lost.reserved) == (bill.id, 5_000)
    await check(session)


async def test_a_failure_about_another_amount_is_about_something_else(session: AsyncSession) -> None:
    merchant = await a_merchant(session)
    attempt = await an_attempt(session, await a_bill(session), merchant)

    verdict = await hear(session, merchant, attempt, Outcome.FAILED, amount=19_000)

    assert (verdict, await status_of(session, attempt)) == (Verdict.WRONG_AMOUNT, "pending")


async def test_a_refund_is_of_the_bill_that_the_money_pays_by_now(session: AsyncSession) -> None:
    """The money was nobody's when its refund was looked up, and pays a bill when both are locked."""
    receipt = await a_receipt(session)
    merchant = await session.get_one(Merchant, receipt.merchant_id)
    asked: dict[str, Any] = {"reason": "test", "limit": 50_000, "by": "binh", "by_hand": False, "now": NOW}
    refund = await refunds.request_refund(session, receipt_id=receipt.id, amount=5_000, **asked)

    await refund_moves.succeed(session, None, receipt, refund, transaction="R1", source="inquiry", now=NOW)

    assert (await ledger.balances(session))[ledger.clearing(merchant.key)] == receipt.amount - 5_000
    await check(session)


async def test_a_refund_that_is_sent_at_that_moment_does_not_break_who_takes_money_back(
    session: AsyncSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    merchant = await a_merchant(session)
    bill = await a_bill(session)
    attempt = await an_attempt(session, bill, merchant)
    await hear(session, merchant, attempt, transaction="T1")
    await hear(session, merchant, attempt, transaction="T2")
    reject = refunds.reject

    async def sent_before(*given: Any, **more: Any) -> Refund:
        await session.execute(update(Refund).values(sent_at=NOW))
        return await reject(*given, **more)

    monkeypatch.setattr(refunds, "reject", sent_before)
    await hear(session, merchant, attempt, Outcome.FAILED, how=Evidence.INQUIRY)

    assert (bill.status, await open_kinds(session)) == (BillStatus.OPEN, [CaseKind.CONFLICT, CaseKind.DUPLICATE])
    await check(session)


async def test_a_bills_id_is_not_taken_for_a_bill_of_somebody_else(session: AsyncSession) -> None:
    await a_merchant(session)
    asked: dict[str, Any] = {
        "lines": [Line(FeeKind.FEE, "P1", "Phí", 20_000)],
        "description": "Phí",
        "procedure_code": "2.000815",
        "procedure_name": "Chứng thực",
        "dossier_code": None,
        "unit_id": None,
        "bill_id": uuid4(),
        "by": "test",
        "now": NOW,
    }
    first = await bills.issue_bill(session, KEYRING, **asked, payer_number="001090000001")

    assert await bills.issue_bill(session, KEYRING, **asked, payer_number="001090000001") is first
    with pytest.raises(IdTaken):
        await bills.issue_bill(session, KEYRING, **asked, payer_number="001090000002")


# --- words that come too late -------------------------------------------------------------------------------------


async def test_an_answer_from_before_the_money_came_does_not_undo_it(session: AsyncSession, sessions: Sessions) -> None:
    """The payer's first card is refused, we ask, they pay with another; then the answer about the first one arrives."""
    merchant = await a_merchant(session)
    bill = await a_bill(session)
    attempt = await an_attempt(session, bill, merchant)
    await session.commit()

    async def meanwhile(_: Any) -> Finding:
        async with sessions.begin() as other:
            row = await other.get_one(Merchant, merchant.id)
            await hear(other, row, attempt, transaction="T1")
        return says(attempt, Outcome.FAILED)

    script = Scripted(meanwhile, says(attempt, Outcome.PAID, "T1"))
    later = NOW + timedelta(minutes=1)
    await paying.look(sessions, Known(script), KEYRING, home=HOME, attempt_id=attempt.id, due_only=True, now=later)
    await session.refresh(bill)
    assert (await status_of(session, attempt), bill.status) == ("succeeded", BillStatus.PAID)

    # And what came of it all is asked once more.
    later += timedelta(minutes=1)
    await paying.sweep(sessions, Known(script), KEYRING, home=HOME, now=later)
    await paying.sweep(sessions, Known(script), KEYRING, home=HOME, now=later + timedelta(hours=1))
    assert len(script.asked) == 2
    row = await session.get_one(PaymentAttempt, attempt.id, populate_existing=True)
    assert (row.success, row.failure, row.next_check_at) == (Evidence.INQUIRY, 0, None)
    await check(session)


async def test_a_success_against_a_stronger_failure_is_asked_about(session: AsyncSession, sessions: Sessions) -> None:
    """A provider said, when it was asked, that the first try failed; then the payer paid all the same."""
    merchant = await a_merchant(session)
    bill = await a_bill(session)
    attempt = await an_attempt(session, bill, merchant)
    await hear(session, merchant, attempt, Outcome.FAILED, how=Evidence.INQUIRY)
    await hear(session, merchant, attempt, transaction="T1")
    await session.commit()
    assert (bill.status, await open_kinds(session)) == (BillStatus.OPEN, [CaseKind.STATUS])

    script = Scripted(says(attempt, Outcome.PAID, "T1"))
    await paying.sweep(sessions, Known(script), KEYRING, home=HOME, now=NOW + timedelta(seconds=1))

    await session.refresh(bill)
    assert (bill.status, await open_kinds(session)) == (BillStatus.PAID, [])
    await check(session)


async def test_a_report_that_denies_money_is_doubted_once(session: AsyncSession, sessions: Sessions) -> None:
    """Yesterday's report has the try that failed, and not yet the one after midnight."""
    merchant = await a_merchant(session)
    bill = await a_bill(session)
    attempt = await an_attempt(session, bill, merchant)
    await hear(session, merchant, attempt, transaction="T1")
    await hear(session, merchant, attempt, Outcome.FAILED, how=Evidence.INQUIRY)
    await session.commit()
    assert bill.status is BillStatus.OPEN

    script = Scripted(says(attempt, Outcome.PAID, "T1"))
    await paying.sweep(sessions, Known(script), KEYRING, home=HOME, now=NOW + timedelta(seconds=1))
    await paying.sweep(sessions, Known(script), KEYRING, home=HOME, now=NOW + timedelta(hours=1))

    await session.refresh(bill)
    assert (bill.status, len(script.asked)) == (BillStatus.PAID, 1)
    await check(session)


@pytest.mark.parametrize("told", [Outcome.FAILED, Outcome.PENDING])
async def test_a_browser_that_says_failed_is_not_the_last_word(
    session: AsyncSession, sessions: Sessions, told: Outcome
) -> None:
    """The payer cancels, goes back a page and pays; the provider's message is lost."""
    merchant = await a_merchant(session)
    bill = await a_bill(session)
    attempt = await an_attempt(session, bill, merchant)
    await session.commit()
    script = Scripted(says(attempt, told), says(attempt, Outcome.PAID, "T1"))
    for minutes, brought in ((1, Outcome.FAILED), (2, Outcome.PAID)):
        known = Known(script)
        script._brought = says(attempt, brought, "T1" if brought is Outcome.PAID else None)
        came = NOW + timedelta(minutes=minutes)
        made = await paying.returned(
            sessions, known, KEYRING, home=HOME, reference=attempt.reference, query=b"", now=came
        )

    assert made.status is AttemptStatus.SUCCEEDED
    assert len(script.asked) == 2


async def test_a_browser_that_says_failed_leaves_a_check_behind(session: AsyncSession, sessions: Sessions) -> None:
    merchant = await a_merchant(session)
    attempt = await an_attempt(session, await a_bill(session), merchant)
    await session.commit()
    script = Scripted(NoAnswer(), says(attempt, Outcome.PAID, "T1"), brought=says(attempt, Outcome.FAILED))
    about: dict[str, Any] = {"home": HOME, "reference": attempt.reference, "query": b""}
    await paying.returned(sessions, Known(script), KEYRING, **about, now=NOW + timedelta(minutes=1))
    assert await status_of(session, attempt) == "failed"

    await paying.sweep(sessions, Known(script), KEYRING, home=HOME, now=NOW + timedelta(minutes=30))

    assert await status_of(session, attempt) == "succeeded"


async def test_who_comes_back_again_and_again_does_not_use_the_budget_up(
    session: AsyncSession, sessions: Sessions
) -> None:
    merchant = await a_merchant(session)
    attempt = await an_attempt(session, await a_bill(session), merchant)
    await session.commit()
    script = Scripted(says(attempt, Outcome.PENDING))
    about: dict[str, Any] = {"home": HOME, "reference": attempt.reference, "query": b""}
    for second in range(20):
        await paying.returned(sessions, Known(script), KEYRING, **about, now=NOW + timedelta(seconds=second))

    assert 1 < len(script.asked) <= 4


# --- questions ----------------------------------------------------------------------------------------------------


async def test_a_look_needs_one_connection(own_database: str) -> None:
    engine = open_engine(own_database, pool_size=1)
    sessions = sessions_of(engine)
    async with sessions.begin() as session:
        merchant = await a_merchant(session)
        attempt_id = (await an_attempt(session, await a_bill(session), merchant)).id
    script = Scripted(NotSent())

    made = await paying.look(sessions, Known(script), KEYRING, home=HOME, attempt_id=attempt_id, due_only=True, now=NOW)

    assert (made.status, script.asked) == ("pending", [])
    await engine.dispose()


async def test_a_clock_that_lags_fills_no_bucket(session: AsyncSession) -> None:
    merchant = await a_merchant(session)
    await session.execute(update(Merchant).values(call_tokens=2, refilled_at=NOW, calls_per_minute=60))
    lagging, right = NOW - timedelta(minutes=10), NOW + timedelta(seconds=1)
    taken = [await merchants.take_call(session, merchant.id, now) for now in (lagging, right, right, right)]

    assert taken == [True, True, True, False], "two calls, and one for the second that passed"


async def test_a_question_that_was_not_asked_is_not_counted(session: AsyncSession, sessions: Sessions) -> None:
    merchant = await a_merchant(session)
    attempt = await an_attempt(session, await a_bill(session), merchant)
    await session.execute(update(Merchant).values(call_tokens=0, refilled_at=NOW, calls_per_minute=1))
    await session.execute(text("UPDATE payment_attempt SET checks = 6"))
    await session.commit()
    script = Scripted(NoAnswer())
    soon = NOW + timedelta(seconds=20)
    for now in (soon, soon + timedelta(seconds=16)):
        await paying.sweep(sessions, Known(script), KEYRING, home=HOME, now=now)

    row = await session.get_one(PaymentAttempt, attempt.id, populate_existing=True)
    assert (row.checks, script.asked) == (6, [])
    assert row.next_check_at is not None
    assert row.next_check_at <= soon + timedelta(minutes=1)

    # Though nobody may be asked, nothing waits for ever.
    await session.execute(update(Merchant).values(call_tokens=-10_000))
    await session.commit()
    await paying.sweep(sessions, Known(script), KEYRING, home=HOME, now=NOW + ATTEMPT_LASTS + timedelta(hours=1))
    assert (await status_of(session, attempt), script.asked) == ("expired", [])


async def test_an_attempt_that_nobody_answers_for_is_over_soon_after_its_time(
    session: AsyncSession, sessions: Sessions
) -> None:
    merchant = await a_merchant(session)
    attempt = await an_attempt(session, await a_bill(session), merchant)
    await session.commit()
    known, ended = Known(Scripted(NoAnswer())), NOW
    while await status_of(session, attempt) == "pending":
        found = (await session.get_one(PaymentAttempt, attempt.id, populate_existing=True)).next_check_at
        assert found is not None
        ended = found
        await paying.sweep(sessions, known, KEYRING, home=HOME, now=ended)

    assert ATTEMPT_LASTS < ended - NOW <= ATTEMPT_LASTS + attempts.GRACE + timedelta(seconds=2)


async def test_an_expired_attempt_is_asked_about_for_three_days_and_ever_more_seldom(
    session: AsyncSession, sessions: Sessions
) -> None:
    merchant = await a_merchant(session)
    attempt = await an_attempt(session, await a_bill(session), merchant)
    await attempts.abandon(session, attempt.id, by="test", now=NOW)
    await session.commit()
    script = Scripted(says(attempt, Outcome.PENDING))
    known, asked_at = Known(script), [NOW]
    while (
        due := (await session.get_one(PaymentAttempt, attempt.id, populate_existing=True)).next_check_at
    ) is not None:
        asked_at.append(due)
        await paying.sweep(sessions, known, KEYRING, home=HOME, now=due)

    assert timedelta(days=3) < asked_at[-1] - NOW < timedelta(days=4)
    assert len(script.asked) == len(asked_at) - 1 < 40


class Slow:
    """Two providers: of the one that is dead each question takes long; the other answers."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()

    async def inquire(self, merchant: Any, order: Any, *, now: datetime) -> Finding:
        self.asked[merchant.key] += 1
        if merchant.key == "vnpay":
            await asyncio.sleep(0.4)
            raise NoAnswer
        return Finding(references=[order.reference], outcome=Outcome.PENDING)


async def test_a_dead_provider_keeps_nobody_elses_questions_waiting(
    own_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paying, "SWEEP_LASTS", timedelta(seconds=1))
    engine = open_engine(own_database, pool_size=5)
    sessions = sessions_of(engine)
    async with sessions.begin() as session:
        dead, alive = await a_merchant(session), await a_merchant(session, provider="momo")
        for _ in range(60):
            await an_attempt(session, await a_bill(session), dead)
        last = await an_attempt(session, await a_bill(session), alive, now=NOW + timedelta(seconds=1))
    provider = Slow()
    began = asyncio.get_running_loop().time()

    await paying.sweep(sessions, Known(provider), KEYRING, home=HOME, now=NOW + timedelta(minutes=1), limit=40)

    assert asyncio.get_running_loop().time() - began < 3
    assert provider.asked["momo"] == 1
    assert 4 <= provider.asked["vnpay"] < 40
    async with sessions() as session:
        # Who was not asked about is still due, and is not counted as asked about.
        asked = await session.scalar(select(func.count()).where(PaymentAttempt.checks > 0))
        assert asked == provider.asked.total()
        assert (await session.get_one(PaymentAttempt, last.id)).checks == 1
    await engine.dispose()


async def test_an_attempt_that_cannot_be_read_does_not_stay_in_front(
    session: AsyncSession, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    merchant = await a_merchant(session)
    attempt = await an_attempt(session, await a_bill(session), merchant)
    await session.commit()

    async def breaks(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(paying, "opened", breaks)
    now = NOW + timedelta(minutes=1)
    await paying.sweep(sessions, Known(Scripted(NoAnswer())), KEYRING, home=HOME, now=now)

    row = await session.get_one(PaymentAttempt, attempt.id, populate_existing=True)
    assert row.next_check_at is not None
    assert row.next_check_at > now


async def test_who_started_before_a_method_was_closed_finds_the_attempt(
    session: AsyncSession, sessions: Sessions
) -> None:
    merchant = await a_merchant(session)
    attempt = await an_attempt(session, await a_bill(session), merchant)
    merchant.active = False
    await session.commit()

    made = await paying.start(
        sessions,
        Known(Scripted(NoAnswer())),
        KEYRING,
        home=HOME,
        bill_id=attempt.bill_id,
        method=merchant.key,
        attempt_id=attempt.id,
        payer_ip="127.0.0.1",
        by="test",
        now=NOW,
    )

    assert made.id == attempt.id


async def test_answers_that_nobody_signs_are_taken_over_tls_alone() -> None:
    secrets = {"hash_1": ("a",), "hash_2": ("b",)}
    merchant = Account(key="keypay", provider="keypay", code="C1", secrets=secrets, options=PLAIN, home=HOME)

    def answers(_: httpx.Request) -> httpx.Response:
        raise AssertionError("nothing is sent")

    with pytest.raises(NotSent):
        await Keypay(Wire(httpx.MockTransport(answers))).inquire(merchant, ORDER, now=NOW)


# --- messages -----------------------------------------------------------------------------------------------------


async def test_what_follows_from_a_message_of_last_week_happens_today(session: AsyncSession) -> None:
    """A message that broke us is acted on days later: its age is judged as of then, all else is of now."""
    merchant = await a_merchant(session, secrets={"hash": SECRET})
    now = datetime.now(UTC)
    came = now - timedelta(days=9)
    bill = await a_bill(session)
    paid = await an_attempt(session, bill, merchant, now=came)
    endpoint = await endpoints.add_endpoint(
        session, label="Ngân hàng", url="https://bank.example/hooks", kinds=["*"], demo=True, by="test"
    )
    await endpoints.add_key(session, KEYRING, endpoint.id, scheme="v1", by="test")
    await hear(session, merchant, paid, transaction="T1", now=came)
    query = ipn(paid, vnp_PayDate=(came + timedelta(hours=7)).strftime("%Y%m%d%H%M%S"))
    call = Call(method="GET", what="", query=query.encode(), headers={}, body=b"")
    number, row, _ = await inbox.begin(session, KEYRING, merchant.key, HOME)
    await inbox.keep(session, KEYRING, row, number, call, "192.0.2.1")
    await session.execute(update(WebhookInbox).values(received_at=came, outcome="broken"))

    letter = await inbox.replay(session, Providers(), KEYRING, number, home=HOME, by="binh", now=now)

    assert (letter.outcome, letter.answered_at) == ("applied", now)
    case = (await session.scalars(select(PaymentCase))).one()
    assert (case.kind, case.opened_at) == (CaseKind.DUPLICATE, now)
    assert (await session.scalars(select(Refund))).one().requested_at == now
    message = (await session.scalars(select(WebhookMessage).where(WebhookMessage.kind == "money.suspended"))).one()
    assert message.give_up_at > now
    again = await inbox.replay(session, Providers(), KEYRING, number, home=HOME, by="binh", now=now)
    assert again.outcome == "applied", "what was done is not told otherwise"


@pytest.mark.parametrize("what", ["%00", "a%00b", "%ed%a0%80"])
async def test_an_address_that_no_text_can_hold_is_no_mistake_of_ours(
    client: AsyncClient, session: AsyncSession, what: str
) -> None:
    await a_merchant(session)
    await session.commit()

    for address in (f"{HOOK}/{what}", f"/api/v1/payments/hooks/{what}"):
        answer = await client.post(address, content=b"{}")
        assert answer.status_code < 500, answer.text


async def test_a_message_does_not_wait_for_ever(session: AsyncSession) -> None:
    merchant = await a_merchant(session)
    await inbox.begin(session, KEYRING, merchant.key, HOME)

    assert await session.scalar(text("SHOW lock_timeout")) == "4s"
