"""Random histories of payments, against a reference model and with every promise about money checked after each.

Words of providers come late, doubled, swapped and contradicting each other; transactions die before they commit and are
done again.  ``BKAPP_HISTORIES`` says how many histories are run (seeds from ``BKAPP_HISTORIES_FROM`` on); the test run
takes a few hundred.
"""

import itertools
import os
import random
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.db import Sessions, open_engine, sessions_of
from bkapp.payments.commands import drawn
from bkapp.payments.models import Beneficiary, Bill, BillLine, Merchant, PaymentAttempt, PaymentEvent, Receipt, Refund
from bkapp.payments.operations import attempts, bills, ledger, refunds
from bkapp.payments.providers import Begun, Finding, Outcome
from bkapp.payments.references import new_reference
from bkapp.payments.rules import EDGES, REFUND_EDGES, AttemptStatus, BillStatus, Evidence, Standing
from tests.payments import make
from tests.payments.reference import Model

HISTORIES = int(os.environ.get("BKAPP_HISTORIES", "250"))
CHUNK = 500
FEW = 1_000
"""Of so few histories every step is compared, of more only their ends; a seed that fails is then run alone."""
FIRST = int(os.environ.get("BKAPP_HISTORIES_FROM", "0"))


class Known(NamedTuple):
    """What stays known of an attempt when what the session holds is gone."""

    id: UUID
    reference: str
    amount: int


class World:
    """The real thing, in one transaction that is taken back at the end."""

    def __init__(self, session: AsyncSession, merchant_id: UUID, owed: list[UUID]) -> None:
        self.session, self.merchant_id, self.bills = session, merchant_id, owed
        self.tries: list[Known] = []
        self.now = make.NOW

    async def merchant(self) -> Merchant:
        return await self.session.get_one(Merchant, self.merchant_id)

    async def step(self, dice: random.Random, model: Model) -> None:
        """Something happens, in the model and here; now and then its transaction dies first and it is done again."""
        self.now += timedelta(seconds=dice.choice((1, 20, 400)))
        doing = self._choose(dice, model)
        if doing is None:
            return
        name, arguments = doing
        if dice.random() < 0.1:
            dying = await self.session.begin_nested()
            await getattr(self, name)(None, *arguments)
            await dying.rollback()
            self.session.expunge_all()
        await getattr(self, name)(model, *arguments)

    def _choose(self, dice: random.Random, model: Model) -> tuple[str, tuple] | None:
        choices: list[tuple[str, tuple]] = [("open", (dice.randrange(2),))] * 2
        for at in range(len(self.tries)):
            amount = model.tries[at].amount
            choices += [
                ("begun", (at,)),
                ("unknown", (at,)),
                ("refused", (at,)),
                ("give_up", (at,)),
                ("absent", (at,)),
                ("failed", (at, dice.randint(1, 4))),
            ]
            # Now and then a transaction is told of as another attempt's, or as another amount.
            name = dice.choice((None, f"T{at}", f"T{at}", f"T{at}b", f"T{dice.randrange(len(self.tries))}"))
            paid = amount if dice.random() < 0.85 else amount + 1
            wrong = f"W{at}" if dice.random() < 0.7 else name
            choices += [("paid", (at, dice.randint(1, 4), name if paid == amount else wrong, paid))] * 4
        for at, money in enumerate(model.money):
            choices.append(("ask_back", (at, dice.randint(1, money.amount))))
            choices += [
                ("settle_back", (at, which, dice.choice(("send", "unknown", "failed", "succeeded"))))
                for which in range(len(money.back))
            ]
        if dice.random() < 0.05:
            choices = [("cancel", (dice.randrange(2),))]
        return dice.choice(choices)

    async def open(self, model: Model | None, bill: int) -> None:
        try:
            attempt, _ = await attempts.open_attempt(
                self.session, self.bills[bill], await self.merchant(), attempt_id=uuid4(), by="test", now=self.now
            )
        except (attempts.AlreadyBeingPaid, attempts.BillSettled):
            assert model is None or not model.open(bill)
            return
        if model is not None:
            assert model.open(bill)
            self.tries.append(Known(attempt.id, attempt.reference, attempt.amount))

    async def begun(self, model: Model | None, at: int) -> None:
        await attempts.record_begun(self.session, self.tries[at].id, Begun(), now=self.now)
        if model:
            model.reach(at, 2)

    async def unknown(self, model: Model | None, at: int) -> None:
        await attempts.record_unknown(self.session, self.tries[at].id, source="call", now=self.now)
        if model:
            model.reach(at, 1)

    async def refused(self, model: Model | None, at: int) -> None:
        await attempts.record_refused(self.session, self.tries[at].id, code="x", now=self.now)
        if model:
            model.says_failed(at, 1)

    async def give_up(self, model: Model | None, at: int) -> None:
        with suppress(attempts.AttemptOver):
            await attempts.abandon(self.session, self.tries[at].id, by="test", now=self.now)
        if model:
            model.give_up(at)

    async def cancel(self, model: Model | None, bill: int) -> None:
        with suppress(attempts.BillSettled):
            await bills.cancel_bill(self.session, self.bills[bill], by="test", now=self.now)
        if model:
            model.cancel(bill)

    async def paid(self, model: Model | None, at: int, strength: int, name: str | None, amount: int) -> None:
        await make.hear(
            self.session,
            await self.merchant(),
            self.tries[at],
            how=Evidence(strength),
            transaction=name,
            amount=amount,
            now=self.now,
        )
        if model:
            model.says_paid(at, strength, name, amount)

    async def failed(self, model: Model | None, at: int, strength: int) -> None:
        how = Evidence(strength)
        await make.hear(self.session, await self.merchant(), self.tries[at], Outcome.FAILED, how=how, now=self.now)
        if model:
            model.says_failed(at, strength)

    async def absent(self, model: Model | None, at: int) -> None:
        how = Evidence.INQUIRY
        await make.hear(self.session, await self.merchant(), self.tries[at], Outcome.ABSENT, how=how, now=self.now)
        if model:
            model.says_absent(at)

    async def _receipt(self, at: int) -> Receipt:
        rows = await self.session.scalars(
            select(Receipt).order_by(Receipt.number).offset(at).limit(1).execution_options(populate_existing=True)
        )
        return rows.one()

    async def ask_back(self, model: Model | None, at: int, amount: int) -> None:
        receipt = await self._receipt(at)
        try:
            await refunds.request_refund(
                self.session,
                receipt_id=receipt.id,
                amount=amount,
                reason="test",
                by_hand=False,
                limit=500_000,
                by="test",
                now=self.now,
            )
        except (refunds.RefundTooLarge, refunds.ReceiptReversed):
            assert model is None or not model.ask_back(at, amount)
            return
        assert model is None or model.ask_back(at, amount)

    async def settle_back(self, model: Model | None, at: int, which: int, outcome: str) -> None:
        receipt = await self._receipt(at)
        rows = await self.session.scalars(
            select(Refund)
            .where(Refund.receipt_id == receipt.id)
            .order_by(Refund.requested_at)  # no two at the same time, since time goes on with every step
            .execution_options(populate_existing=True)
        )
        refund = rows.all()[which]
        if outcome == "send":
            if refund.status == "approved" and refund.sent_at is None:
                refund.sent_at = self.now
                await self.session.flush()
        elif outcome == "unknown":
            if refund.sent_at is not None:
                await refunds.record_unknown(self.session, refund.id, source="call", now=self.now)
        elif refund.sent_at is not None or refund.status == "failed":
            said = Outcome.FAILED if outcome == "failed" else Outcome.PAID
            finding = Finding(references=[refund.reference], outcome=said, amount=refund.amount)
            await refunds.hear_refund(self.session, refund.id, finding, source="inquiry", now=self.now)
        if model:
            model.settle_back(at, which, outcome)

    async def seen(self) -> dict[str, object]:
        await self.session.flush()
        found = await self.session.execute(select(Bill.id, Bill.status))
        statuses = {bill_id: str(status) for bill_id, status in found}
        tries = {
            row.id: (str(row.status), row.success, row.failure)
            for row in await self.session.execute(
                select(PaymentAttempt.id, PaymentAttempt.status, PaymentAttempt.success, PaymentAttempt.failure)
            )
        }
        money = await self.session.execute(
            select(Receipt.amount, Receipt.place, Receipt.reserved, Receipt.refunded).order_by(Receipt.number)
        )
        return {
            "bills": [statuses[bill] for bill in self.bills],
            "tries": [tries[attempt.id] for attempt in self.tries],
            "money": [(amount, str(place), reserved, refunded) for amount, place, reserved, refunded in money],
            "suspense": -(await ledger.balances(self.session)).get(ledger.SUSPENSE, 0),
        }


async def _world(session: AsyncSession, merchant_id: UUID, beneficiary_id: UUID, amounts: list[int]) -> World:
    owed = [
        Bill(
            id=uuid4(),
            code=new_reference("HD"),
            status=BillStatus.OPEN,
            amount=amount,
            description="x",
            procedure_code="1",
            procedure_name="x",
            beneficiary_id=beneficiary_id,
            created_at=make.NOW,
            created_by="test",
        )
        for amount in amounts
    ]
    session.add_all(owed)
    await session.flush()
    session.add_all(BillLine(bill_id=b.id, position=1, kind="fee", code="1", name="x", amount=b.amount) for b in owed)
    await session.flush()
    return World(session, merchant_id, [bill.id for bill in owed])


async def _ground(session: AsyncSession) -> tuple[UUID, UUID]:
    """The merchant and the beneficiary of every history."""
    merchant = await make.a_merchant(session)
    agency = (await session.scalars(select(Beneficiary.id))).one()
    return merchant.id, agency


async def _promises_hold(session: AsyncSession) -> None:
    """What must be true at every moment, and what constraints that wait for the commit say of it."""
    await session.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
    await session.execute(text("SET CONSTRAINTS ALL DEFERRED"))
    assert await ledger.verify(session) == []
    moves = await session.scalar(select(func.count()).select_from(PaymentEvent))
    versions = await session.scalar(select(func.coalesce(func.sum(PaymentAttempt.version - 1), 0)))
    assert moves == versions, "every move has its event"


@pytest.mark.slow
@pytest.mark.parametrize("first", range(FIRST, FIRST + HISTORIES, CHUNK))
async def test_any_history_ends_as_the_model_says(own_database: str, first: int) -> None:
    """Many together in a database of their own, where what was taken back is not in the way of others for long."""
    engine = open_engine(own_database, pool_size=1)
    async with sessions_of(engine)() as session:
        ground = await _ground(session)
        for seed in range(first, min(first + CHUNK, FIRST + HISTORIES)):
            dice = random.Random(seed)
            amounts = [dice.choice((20_000, 100_000, 700_000)), 50_000]
            async with session.begin_nested() as history:
                world, model = await _world(session, *ground, amounts), Model(amounts)
                for _ in range(dice.choice((3, 5, 7, 9, 12, 16)) if HISTORIES <= FEW else dice.randint(3, 9)):
                    await world.step(dice, model)
                    if HISTORIES <= FEW:
                        assert await world.seen() == model.seen(), f"seed {seed}"
                assert await world.seen() == model.seen(), f"seed {seed}"
                await _promises_hold(session)
                await history.rollback()
            session.expunge_all()
        await session.rollback()
    await engine.dispose()


WORDS = [
    ("paid", Evidence.WEBHOOK, "T1"),
    ("paid", Evidence.INQUIRY, None),
    ("paid", Evidence.WEBHOOK, "T2"),
    ("failed", Evidence.WEBHOOK, None),
    ("failed", Evidence.INQUIRY, None),
    ("expired", Evidence.NONE, None),
    ("begun", Evidence.NONE, None),
]


async def test_whatever_the_order_of_seven_words_they_end_alike(sessions: Sessions) -> None:
    """All 5,040 orders as rules, and some of them with money in the database."""
    ends = set()
    for order in itertools.permutations(WORDS):
        standing = Standing()
        for word, strength, _ in order:
            standing = {
                "paid": standing.hear(success=strength),
                "failed": standing.hear(failure=strength),
                "expired": standing.reach(AttemptStatus.EXPIRED),
                "begun": standing.reach(AttemptStatus.PENDING),
            }[word]
        ends.add(standing)
    assert len(ends) == 1
    orders = random.Random(7).sample(list(itertools.permutations(WORDS)), 60)
    async with sessions() as session:
        ground = await _ground(session)
        seen = []
        for order in orders:
            async with session.begin_nested() as history:
                world = await _world(session, *ground, [20_000, 50_000])
                model = Model([20_000, 50_000])
                await world.open(model, 0)
                for word, strength, name in order:
                    if word == "paid":
                        await world.paid(model, 0, strength, name, 20_000)
                    elif word == "failed":
                        await world.failed(model, 0, strength)
                    elif word == "begun":
                        await world.begun(model, 0)
                    else:
                        await world.give_up(model, 0)
                await _promises_hold(session)
                end = await world.seen()
                money = sorted((amount, place) for amount, place, *_ in end["money"])  # type: ignore[attr-defined]
                seen.append((end["bills"], end["tries"], money, end["suspense"]))
                await history.rollback()
            session.expunge_all()
    assert all(one == seen[0] for one in seen), seen


async def test_the_database_knows_the_graphs_of_the_rules(session: AsyncSession) -> None:
    rows = await session.execute(text('SELECT start, event, "end" FROM attempt_edge'))
    assert {tuple(row) for row in rows} == {(edge.start, edge.event, edge.end) for edge in EDGES}
    rows = await session.execute(text('SELECT start, "end" FROM refund_edge'))
    assert {tuple(row) for row in rows} == {(start, end) for start, ends in REFUND_EDGES.items() for end in ends}


def test_the_documentation_draws_the_graphs_of_the_rules() -> None:
    assert drawn() in (Path(__file__).parents[2] / "docs" / "payments.md").read_text()
