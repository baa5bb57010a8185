"""Crashes: the API, the worker or PostgreSQL is killed at every commit of a payment's life and at every call outside.

Each point of the matrix is a bill of its own.  The same happens to it every time (a payment is begun, the provider
tells of it, is asked, gives money back …), but at the n-th moment of that one process, or PostgreSQL, gets a SIGKILL.
Then things go on as they do: whoever serves is started again, who got no answer asks again, time passes.  Afterwards
our books have to be those of the provider: nothing lost, nothing twice, nothing stuck.
"""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import httpx
import msgspec
import psycopg
import pytest
from msgspec import Struct
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.pool import NullPool

from bkapp.access.operations import make_key
from bkapp.access.rules import Role
from bkapp.db import driver_url
from bkapp.http import HANOI
from bkapp.migrate import migrate
from bkapp.payments.models import Bill, PaymentAttempt, PaymentCase, Receipt, Refund, WebhookMessage
from bkapp.payments.operations import ledger
from bkapp.payments.rules import BillStatus, Place, RefundStatus
from bkapp.practice.paying import reports
from bkapp.practice.paying.cashier import Cashier, Pace
from bkapp.practice.paying.cashier import Order as Asked
from bkapp.practice.paying.merchants import practice_merchants
from bkapp.practice.server import application
from tests.conftest import _libpq
from tests.identity.make import a_person, a_sign_in, cookie_headers
from tests.payments.crashing import ON_PAID, PROCEEDED, SWEEPS, About, Ended, Order
from tests.payments.make import a_bill, a_merchant
from tests.payments.test_outgoing import Partner, an_endpoint
from tests.practice.peers import address_of, listening, running

ROOT = Path(__file__).parents[2]
QUICK = Pace(slow=0.1, late=0.1, lag=0.1, hang=1, retries=(0.02,) * 100)
PATIENCE = 60.0
TOLD = {"thanh-cong": 1, "trung": 2, "mat-thong-bao": 0}
"""How often the provider tells of money after what the payer chose."""

# What a day changes.  The clocks of bkapp and PostgreSQL stand; instead everything that waits gets older.
A_DAY_LATER = """
    UPDATE payment_attempt SET next_check_at = next_check_at - interval '1 day' WHERE next_check_at IS NOT NULL;
    UPDATE refund SET next_check_at = next_check_at - interval '1 day', sent_at = sent_at - interval '1 day'
        WHERE next_check_at IS NOT NULL;
    UPDATE webhook_message SET next_try_at = next_try_at - interval '1 day' WHERE next_try_at IS NOT NULL;
    UPDATE idempotency_key SET in_flight_until = in_flight_until - interval '1 day' WHERE in_flight_until IS NOT NULL;
    UPDATE procrastinate_workers SET last_heartbeat = last_heartbeat - interval '1 day'"""
STUCK = text("""
    SELECT 'attempt', status, bill_id::text FROM payment_attempt WHERE status IN ('created', 'unknown', 'pending')
    UNION ALL SELECT 'refund', status, id::text FROM refund
        WHERE status IN ('waiting', 'approved', 'unknown', 'pending')
    UNION ALL SELECT 'message', status, bill_id::text FROM webhook_message WHERE status <> 'delivered'
    UNION ALL SELECT 'letter', outcome, id::text FROM webhook_inbox
        WHERE outcome IN ('received', 'refused', 'broken') OR answered_at IS NULL
    UNION ALL SELECT 'request', status::text, key FROM idempotency_key WHERE in_flight_until IS NOT NULL
    UNION ALL SELECT 'job', status::text, task_name FROM procrastinate_jobs
        WHERE status <> 'failed' OR task_name = :on_paid""")
"""What waits for somebody.  Of a job that failed because PostgreSQL was away a sweeper takes the place."""


class Fatal(Struct, frozen=True):
    """The moment at which something is killed: the process itself, or PostgreSQL where its first process is named.

    At 0 nothing is; the moments are counted.
    """

    at: int = 0
    kill: int = 0


class World:
    """A bkapp whose processes die, a payment provider and a partner that do not, a citizen and an office."""

    def __init__(
        self,
        database: str,
        cashier: Cashier,
        demands: Counter[tuple[str, str]],
        partner: Partner,
        partner_url: str,
        forker: asyncio.subprocess.Process,
    ) -> None:
        self.database = database
        self.engine = create_async_engine(database, poolclass=NullPool)
        self.sessions = async_sessionmaker(self.engine, expire_on_commit=False)
        self.cashier = cashier
        self.home = cashier.home
        self.demands = demands
        self.partner = partner
        # Each request on a connection of its own: one that breaks tells that who served it died.
        self.http = httpx.AsyncClient(timeout=PATIENCE, limits=httpx.Limits(max_keepalive_connections=0))
        self.struck: Ended | None = None
        self._partner_url = partner_url
        self._forker = forker
        self._gone: dict[int, Ended] = {}
        self._api = self._victim = 0
        self._citizen = self._office = ""
        self._person = uuid4()
        self._watch: psycopg.AsyncConnection[Any] | None = None

    # --- processes ---------------------------------------------------------------------------------------------------

    async def _tell(self, message: Struct) -> bytes:
        assert self._forker.stdin is not None
        assert self._forker.stdout is not None
        self._forker.stdin.write(msgspec.json.encode(message) + b"\n")
        answer = await self._forker.stdout.readline()
        assert answer, "the process that forks them ended; its log says why"
        return answer

    async def run(self, order: Order) -> int:
        return int(await self._tell(order))

    async def known(self, pid: int, *, end: bool = False) -> Ended:
        if pid in self._gone:
            return self._gone[pid]
        ended = msgspec.json.decode(await self._tell(About(pid, end)), type=Ended)
        if ended.status is not None:
            self._gone[pid] = ended
        return ended

    async def until_ended(self, pid: int) -> Ended:
        async with asyncio.timeout(PATIENCE):
            while True:
                ended = await self.known(pid)
                if ended.status is not None:
                    return ended
                await asyncio.sleep(0.005)

    async def serve(self, fatal: Fatal | None = None) -> None:
        """Let the API run, from now on as it is told."""
        if self._api:
            await self.known(self._api, end=True)
        self._api = await self.run(Order(run="api", at=fatal.at if fatal else None, kill=fatal.kill if fatal else 0))
        if fatal:
            self._victim = self._api

    async def work(self, fatal: Fatal | None = None, tasks: Sequence[str] = SWEEPS, **more: Any) -> None:
        """Let a worker (or what ``more`` says) work off what is queued, until it is done or dead."""
        order = Order(**{"run": "worker", "tasks": tasks, **more})
        if fatal:
            order = msgspec.structs.replace(order, at=fatal.at, kill=fatal.kill)
        ended = await self.until_ended(await self.run(order))
        if fatal:
            self.struck = ended
            await self.awake()
        else:
            assert ended.status == 0, "an unharmed worker ends well; the log says what happened"

    async def awake(self) -> None:
        """PostgreSQL is there again, if it was killed.  (That it was, a connection tells that broke.)"""
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    self._watch = self._watch or await psycopg.AsyncConnection.connect(_plain(self.database))
                    await self._watch.execute("SELECT")
                    await self._watch.rollback()
                except psycopg.OperationalError:
                    await self.close()
                    await asyncio.sleep(0.02)
                else:
                    return

    async def close(self) -> None:
        if self._watch is not None:
            await self._watch.close()
            self._watch = None

    async def revive(self) -> None:
        """What the one who looks after the machines does: start what died."""
        await self.awake()
        ended = await self.known(self._api)
        if ended.status is not None:
            await (self.take_note() if self._victim else self.serve())

    async def take_note(self) -> None:
        """How the API ended that was to be killed.  Where it was not, it is let be from here on."""
        await self.awake()
        if self._victim:
            self.struck = await self.known(self._victim, end=True)
            self._victim = 0
            await self.serve()

    async def a_day_passes(self) -> None:
        async with self.engine.begin() as connection:
            for statement in A_DAY_LATER.split(";"):
                await connection.execute(text(statement))

    # --- people ------------------------------------------------------------------------------------------------------

    async def settle_down(self) -> None:
        """Everybody and everything that bills need."""
        await self.awake()
        async with self.sessions.begin() as session:
            await session.execute(text(PROCEEDED))
            self._person = await a_person(session)
            self._citizen = await a_sign_in(session, self._person)
            self._office = await make_key(session, label="Kho bạc", role=Role.ADMIN, unit_id=None)
            account = self.cashier.merchants["momo"]
            momo = await a_merchant(session, provider="momo", secrets=account.secrets)
            momo.code, momo.options = account.code, account.options
            momo.calls_per_minute, momo.call_tokens = 1_000_000, 1_000_000
            await an_endpoint(session, f"{self._partner_url}/", kinds=("bill.*", "money.*", "refund.*"))
        await self.serve()

    async def issue(self) -> UUID:
        async with self.sessions.begin() as session:
            return (await a_bill(session, payer_id=self._person, on_paid=ON_PAID)).id

    async def insist(self, path: str, body: dict[str, Any], *, office: bool = False) -> dict[str, Any]:
        """Ask the API for a change until it answers: the same, with the same key."""
        key = uuid4().hex
        headers = cookie_headers(self._citizen, key)
        if office:
            headers = {"Authorization": f"Bearer {self._office}", "Idempotency-Key": key}
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    answer = await self.http.post(f"{self.home}{path}", headers=headers, json=body)
                except httpx.TransportError:
                    await self.until_ended(self._api)  # which is seen a moment after its connections break
                    await self.revive()
                    continue
                if answer.status_code < 300:
                    said: dict[str, Any] = answer.json()
                    return said
                assert answer.status_code == 503 or answer.json()["type"] == "/problems/idempotency_key_in_flight", (
                    answer.text
                )
                await self.revive()
                await self.a_day_passes()

    async def begin(self, bill: UUID) -> str:
        """Start paying, until there is a page to pay at; return its address."""
        async with asyncio.timeout(PATIENCE):
            while True:
                attempt = await self.insist(f"/api/v1/bills/{bill}/attempts", {"method": "momo"})
                while attempt["status"] in {"created", "unknown"}:
                    await self.a_day_passes()
                    await self.work()
                    attempt = await self.look(attempt["id"])
                if attempt["status"] == "pending" and attempt["redirect_url"]:
                    return str(attempt["redirect_url"])
                assert attempt["status"] in {"failed", "pending"}, attempt
                if attempt["status"] == "pending":
                    await self.insist(f"/api/v1/attempts/{attempt['id']}/abandon", {})

    async def look(self, attempt: str) -> dict[str, Any]:
        answer = await self.http.get(f"{self.home}/api/v1/attempts/{attempt}", headers=cookie_headers(self._citizen))
        said: dict[str, Any] = answer.raise_for_status().json()
        return said

    async def pay(self, page: str, choice: str = "thanh-cong") -> Asked:
        """What the payer does at the provider's page; done when the provider has told of it."""
        answer = await self.http.post(page, data={"choice": choice})
        assert answer.status_code == 303, answer.text
        order = self.cashier.orders[urlsplit(page).path.rpartition("/")[2]]
        async with asyncio.timeout(PATIENCE):
            while [told.done for told in order.deliveries] != [True] * TOLD[choice]:
                await self.revive()
                await asyncio.sleep(0.005)
        return order

    async def stuck(self) -> list[Any]:
        async with self.engine.connect() as connection:
            return [tuple(row) for row in await connection.execute(STUCK, {"on_paid": ON_PAID})]

    # --- what has to be true -----------------------------------------------------------------------------------------

    async def settle(self) -> None:
        """Time passes, and a worker works, until nothing is under way."""
        for _ in range(4):
            await self.a_day_passes()
            await self.work()
            if not await self.stuck():
                return
        assert await self.stuck() == []

    async def check_books(self) -> None:
        """The books are whole, and what changes something at the provider was asked for once: never to find out."""
        assert set(self.demands.values()) == {1}
        async with self.sessions.begin() as session:
            assert await ledger.verify(session) == []
            assert sum((await ledger.balances(session)).values()) == 0

    async def check(self, bill_id: UUID) -> None:
        """Our books of a bill are those of the provider, and everybody was told."""
        async with self.sessions() as session:
            bill = await session.get_one(Bill, bill_id)
            references = set(
                await session.scalars(select(PaymentAttempt.reference).where(PaymentAttempt.bill_id == bill_id))
            )
            receipts = (await session.scalars(select(Receipt).where(Receipt.bill_id == bill_id))).all()
            refunds = (
                await session.scalars(select(Refund).where(Refund.receipt_id.in_([r.id for r in receipts])))
            ).all()
            cases = (await session.scalars(select(PaymentCase).where(PaymentCase.bill_id == bill_id))).all()
            messages = (
                await session.scalars(
                    select(WebhookMessage).where(WebhookMessage.bill_id == bill_id).order_by(WebhookMessage.seq)
                )
            ).all()
            proceeded = await session.scalar(
                text("SELECT count(*) FROM proceeded WHERE bill_id = :bill").bindparams(bill=bill_id)
            )
        orders = [order for order in list(self.cashier.orders.values()) if order.reference in references]
        taken = [payment for order in orders for payment in order.payments]
        given_back = [repayment for order in orders for repayment in order.refunds]

        # Nothing lost, nothing twice: what the provider took is what we have, and one of it pays the bill.
        assert sorted(receipt.transaction for receipt in receipts) == sorted(payment.transaction for payment in taken)
        assert [receipt.place for receipt in receipts].count(Place.APPLIED) == 1
        assert bill.status is BillStatus.PAID
        # What it gave back is what we say, each once, and no more than it took.
        done = {refund.reference for refund in refunds if refund.status is RefundStatus.SUCCEEDED}
        assert sorted(repayment.reference for repayment in given_back) == sorted(done)
        assert sum(receipt.refunded for receipt in receipts) == sum(one.amount for one in given_back)
        assert all(receipt.reserved == 0 for receipt in receipts)
        # A refund that never reached the provider is somebody's to decide, and what is in suspense is, too.
        unsettled = {refund.id for refund in refunds} - {one.id for one in refunds if one.reference in done}
        assert unsettled == {case.refund_id for case in cases if case.refund_id and case.closed_at is None}
        # The feature that waits for the bill went on, and the partner heard of everything in its order.
        assert proceeded
        heard = [headers["webhook-id"] for headers, body in self.partner.came if str(bill_id).encode() in body]
        assert list(dict.fromkeys(heard)) == [message.id for message in messages]
        assert all(heard.count(message.id) <= 2 for message in messages)


# --- what happens to a bill ------------------------------------------------------------------------------------------

Happening = Callable[[World, UUID, Fatal], Awaitable[None]]


async def begun(world: World, bill: UUID, fatal: Fatal) -> None:
    """A payment is begun."""
    await world.serve(fatal)
    page = await world.begin(bill)
    await world.take_note()
    await world.pay(page)


async def told(world: World, bill: UUID, fatal: Fatal) -> None:
    """The provider tells of money, twice at the same moment: the payer paid two times."""
    page = await world.begin(bill)
    await world.serve(fatal)
    await world.pay(page, "trung")
    await world.take_note()


async def asked(world: World, bill: UUID, fatal: Fatal) -> None:
    """The provider never tells, and is asked."""
    await world.pay(await world.begin(bill), "mat-thong-bao")
    await world.a_day_passes()
    await world.work(fatal, ["payments.sweep"])


async def given_back(world: World, bill: UUID, fatal: Fatal) -> None:
    """Of money that came twice the second goes back by itself, and the partner hears of it all."""
    await world.pay(await world.begin(bill), "trung")
    await world.work(fatal, [])


async def refunded(world: World, bill: UUID, fatal: Fatal) -> None:
    """An office asks for money to be given back."""
    await world.pay(await world.begin(bill))
    await world.serve(fatal)
    async with world.sessions() as session:
        receipt = (await session.scalars(select(Receipt).where(Receipt.bill_id == bill))).one()
    body = {"receipt_id": str(receipt.id), "amount": 5_000, "reason": "Nộp thừa"}
    await world.insist("/api/v1/refunds", body, office=True)
    await world.take_note()


async def reported(world: World, bill: UUID, fatal: Fatal) -> None:
    """The provider never tells; its report of the day is taken, by a command that is given again if it dies."""
    await world.pay(await world.begin(bill), "mat-thong-bao")
    now = datetime.now(UTC)
    file = reports.provider_report(world.cashier, world.cashier.merchants["momo"], now.astimezone(HANOI).date())
    command = {"run": "import", "file": file, "now": now + timedelta(days=1)}
    await world.work(fatal, [], **command)
    await world.work(None, [], **command)


# --- the matrix ------------------------------------------------------------------------------------------------------

MESSAGE = ("commit", "message", "commit")  # claimed, sent, what came of it
MOMENTS: dict[Happening, tuple[str, ...]] = {
    begun: (
        "commit",  # the key is claimed
        "commit",  # the intent
        "call: create",
        "commit",  # the outcome
        "commit",  # the answer
    ),
    told: ("commit", "commit"),  # of each message all that follows from it, or nothing
    asked: (
        "job taken: payments.sweep",
        "commit",  # the check is claimed, and a call of the provider's budget
        "call: query",
        "commit",  # what was heard
        "job settled",
    ),
    given_back: (
        *("job taken: payments.deliver", *MESSAGE, *MESSAGE, "job settled"),
        *("job taken: tests.bill_paid", "commit", "job settled"),
        *("job taken: payments.deliver", "job settled"),
        # The intent, the call, what came of it.
        *("job taken: payments.refund", "commit", "call: refund", "commit", "job settled"),
        *("job taken: payments.deliver", *MESSAGE, "job settled"),
    ),
    refunded: ("commit",),
    reported: ("commit",),
}
"""Every moment of each, as it passes unharmed; one more, or one less, has to be looked at."""


def kind(moment: str) -> str:
    """A moment without what may differ from one time to the next: the tables of a commit, the kind of a message."""
    return moment.partition(":")[0] if "commit" in moment or "message" in moment else moment


async def moments_of(world: World, happening: Happening) -> list[str]:
    """The moments that a happening comes through when nothing is killed."""
    bill = await world.issue()
    await happening(world, bill, Fatal())
    assert world.struck is not None
    await world.settle()
    await world.check(bill)
    moments = world.struck.moments
    if happening is asked:  # what follows is the same as of any other money
        moments = moments[: moments.index("after job settled") + 1]
    passed = [kind(name).removeprefix("after ") for name in moments if name.startswith("after ")]
    assert tuple(passed) == MOMENTS[happening]
    return moments


async def strike(world: World, happening: Happening, at: int, moment: str, kill: int = 0) -> None:
    """Let a happening be struck at a moment, and see that all comes to a good end."""
    bill, world.struck = await world.issue(), None
    try:
        await happening(world, bill, Fatal(at, kill))
        assert world.struck is not None
        assert len(world.struck.moments) == at
        assert kind(world.struck.moments[-1]) == kind(moment)
        assert kill or world.struck.status == -9
        await world.settle()
        await world.check(bill)
        await world.check_books()
    except BaseException as error:
        what = "PostgreSQL was" if kill else "it was"
        error.add_note(f"{happening.__name__}: {what} killed at its moment {at}, {moment}")
        raise


@pytest.mark.slow
@pytest.mark.parametrize("happenings", [(begun, told, refunded), (asked, given_back, reported)], ids=["api", "worker"])
async def test_a_process_that_is_killed_at_any_moment_loses_nothing_and_does_nothing_twice(
    own_database: str, tmp_path: Path, happenings: Sequence[Happening]
) -> None:
    async with a_world(own_database, tmp_path) as world:
        for happening in happenings:
            for at, moment in enumerate(await moments_of(world, happening), 1):
                await strike(world, happening, at, moment)


@pytest.mark.slow
async def test_postgresql_that_is_killed_at_any_commit_loses_nothing_and_does_nothing_twice(
    own_postgres: tuple[str, int], tmp_path: Path
) -> None:
    """Of commits that are made again and again, such as one for each message, the first."""
    database, first = own_postgres
    async with a_world(database, tmp_path) as world:
        for happening in (asked, given_back, reported, told, refunded, begun):
            moments = await moments_of(world, happening)
            for at, moment in enumerate(moments, 1):
                if "commit" in moment and (happening is not given_back or moment not in moments[: at - 1]):
                    await strike(world, happening, at, moment, first)


def counting(app: Any, demands: Counter[tuple[str, str]]) -> Any:
    """The provider, with what is demanded of it counted: payments to begin and refunds, by their references."""

    async def counted(scope: Any, receive: Any, send: Any) -> None:
        demand = scope.get("path", "").rpartition("/")[2]
        if demand not in {"create", "refund"}:
            await app(scope, receive, send)
            return
        message = await receive()
        assert not message.get("more_body"), "so little comes in one piece"
        demands[demand, msgspec.json.decode(message["body"])["orderId"]] += 1
        messages = [message]

        async def again() -> Any:
            return messages.pop() if messages else await receive()

        await app(scope, again, send)

    return counted


@asynccontextmanager
async def a_world(database: str, folder: Path) -> AsyncIterator[World]:
    """A world on a database, with the processes' log in a folder."""
    ours, theirs = listening(), listening()
    home, site = address_of(ours), address_of(theirs)
    partner, demands = Partner(), Counter[tuple[str, str]]()
    practice = application(
        base_url=site,
        eid_clients=(),
        population_secret="practice",
        home_url=home,
        merchants=practice_merchants(site),
        pace=QUICK,
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("BKAPP", "REDIS"))} | {
        "DATABASE_URL": database,
        "BKAPP_DEMO": "1",
        "BKAPP_BASE_URL": home,
        "BKAPP_RATE_LIMIT": "1000000/second",
        "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
    }
    with (folder / "processes.log").open("wb") as log:
        forker = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.payments.crashing",
            str(ours.fileno()),
            cwd=ROOT,
            env=environment,
            pass_fds=[ours.fileno()],
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
    assert forker.stdin is not None
    assert forker.stdout is not None
    try:
        async with running(counting(practice, demands), theirs), running(partner) as partner_url:
            world = World(database, practice.state.cashier, demands, partner, partner_url, forker)
            async with world.http:
                assert await forker.stdout.readline(), (folder / "processes.log").read_text()
                try:
                    await world.settle_down()
                    yield world
                finally:
                    await world.close()
    finally:
        forker.stdin.close()
        await forker.wait()
        ours.close()


@pytest.fixture
def own_postgres() -> Iterator[tuple[str, int]]:
    """PostgreSQL servers that nobody else uses, with a database; its URL, and the number of the first process.

    What is killed with SIGKILL leaves to the kernel what it wrote, so they need not wait for the disk.
    """
    with psycopg.connect(_libpq("postgres")) as connection:
        found = connection.execute("SELECT setting FROM pg_config WHERE name = 'BINDIR'").fetchone()
    assert found is not None
    programs = Path(found[0])
    if not (programs / "initdb").exists():
        pytest.skip("PostgreSQL's programs are not on this machine")
    # It refuses root, who therefore runs it as the user that Debian's package made.
    who: dict[str, Any] = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="bkapp-crash-"))
    if who:
        shutil.chown(folder, **who)
    data, options = folder / "data", f"-k {folder} -c listen_addresses= -c fsync=off -c shared_buffers=16MB -c jit=off"

    def run(program: str, *arguments: str) -> None:
        subprocess.run([programs / program, *arguments], cwd="/", check=True, capture_output=True, **who)

    try:
        run("initdb", "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
        run("pg_ctl", "start", "-w", "-D", str(data), "-l", str(folder / "log"), "-o", options)
        try:
            url = f"postgresql+psycopg://postgres@/postgres?host={folder}"
            migrate(url)
            yield url, int((data / "postmaster.pid").read_text().split()[0])
        finally:
            run("pg_ctl", "stop", "-m", "immediate", "-D", str(data))
    finally:
        shutil.rmtree(folder)


def _plain(url: str) -> str:
    return driver_url(url).replace("postgresql+psycopg", "postgresql", 1)
