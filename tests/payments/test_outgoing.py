"""Events go out signed, in order and until they arrive, and never to an address inside."""

import asyncio
import base64
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from httpx import AsyncClient, Response
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from standardwebhooks.webhooks import Webhook, WebhookVerificationError
from typing_extensions import override

from bkapp.access.rules import Role
from bkapp.audit.models import AuditEntry
from bkapp.db import Sessions, open_engine, sessions_of
from bkapp.errors import Invalid
from bkapp.http import IdempotencyRecord
from bkapp.payments.flows import delivering
from bkapp.payments.models import WebhookDelivery, WebhookEndpoint, WebhookKey, WebhookMessage
from bkapp.payments.operations import endpoints, outgoing
from bkapp.payments.posting import Poster
from bkapp.payments.sending import (
    ASKABLE,
    DISABLE,
    GIVE_UP,
    KINDS,
    LEASE,
    Answer,
    Target,
    WrongTarget,
    families,
    is_public,
    next_try,
    read_retry_after,
    read_target,
)
from tests import make
from tests.identity.make import KEYRING
from tests.payments.make import a_bill, a_merchant
from tests.practice.peers import running

NOW = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
SOON = timedelta(seconds=30)  # more than anything here takes, also on a busy machine


# --- a partner ---------------------------------------------------------------------------------------------------


class Partner:
    """A receiver of webhooks: notes what came, and answers as it was told to, else 204.  An ASGI app."""

    def __init__(self) -> None:
        self.came: list[tuple[dict[str, str], bytes]] = []
        self.lines: dict[str, list[str]] = {}
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.always: tuple[int, dict[str, str]] = (204, {})
        self.takes = 0.0
        self.at_once: Counter[str] = Counter()
        self.most_at_once = 0

    @property
    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers, _ in self.came]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for kind in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{kind}.complete"})
            return
        self.at_once[scope["path"]] += 1
        self.most_at_once = max(self.most_at_once, *self.at_once.values())
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        await asyncio.sleep(self.takes)
        self.came.append((headers, body))
        self.lines.setdefault(scope["path"], []).append(headers.get("webhook-id", ""))
        status, more_headers = self.answers.pop(0) if self.answers else self.always
        self.at_once[scope["path"]] -= 1
        raw = [(name.encode(), value.encode()) for name, value in more_headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": [*raw, (b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})


@pytest.fixture(scope="module")
async def listening() -> AsyncIterator[tuple[Partner, str]]:
    partner = Partner()
    async with running(partner) as address:
        yield partner, address


@pytest.fixture
async def partner(listening: tuple[Partner, str]) -> tuple[Partner, str]:
    listening[0].__init__()  # type: ignore[misc]  # one server, as good as new for every test
    return listening


@pytest.fixture
async def poster() -> AsyncIterator[Poster]:
    async with Poster(demo=True) as poster:
        yield poster


async def an_endpoint(
    session: AsyncSession, url: str, *, kinds: tuple[str, ...] = ("*",), scheme: str = "v1"
) -> tuple[UUID, str]:
    """An endpoint and the key that its partner checks with."""
    made = await endpoints.add_endpoint(session, label="Ngân hàng thử", url=url, kinds=kinds, demo=True, by="test")
    key = await endpoints.add_key(session, KEYRING, made.id, scheme=scheme, by="test")
    return made.id, key.shown


async def bills(session: AsyncSession, count: int = 1) -> list[UUID]:
    await a_merchant(session)
    return [(await a_bill(session)).id for _ in range(count)]


async def told(session: AsyncSession, bill: UUID, kind: str = "bill.paid", *, now: datetime = NOW) -> str:
    """Tell of a bill; return the id of the message."""
    await outgoing.tell(session, kind=kind, bill_id=bill, data={"amount": 20_000}, now=now)
    newest = select(WebhookMessage.id).order_by(WebhookMessage.seq.desc()).limit(1)
    return str(await session.scalar(newest))


async def message(sessions: Sessions, message_id: str) -> WebhookMessage:
    async with sessions() as session:
        return (await session.scalars(select(WebhookMessage).where(WebhookMessage.id == message_id))).one()


async def tries(sessions: Sessions, message_id: str) -> list[tuple[int | None, str | None, str | None]]:
    """Status, error and who asked, of each try."""
    found = (
        select(WebhookDelivery.status, WebhookDelivery.error, WebhookDelivery.asked_by)
        .join(WebhookMessage, WebhookMessage.seq == WebhookDelivery.message_seq)
        .where(WebhookMessage.id == message_id)
        .order_by(WebhookDelivery.id)
    )
    async with sessions() as session:
        return [(row.status, row.error, row.asked_by) for row in await session.execute(found)]


async def the_endpoint(sessions: Sessions, endpoint_id: UUID) -> WebhookEndpoint:
    async with sessions() as session:
        return await session.get_one(WebhookEndpoint, endpoint_id)


async def audited(session: AsyncSession) -> list[str]:
    return list(await session.scalars(select(AuditEntry.kind).order_by(AuditEntry.seq)))


Delivering = Callable[..., Awaitable[int]]


@pytest.fixture
def deliver(sessions: Sessions, poster: Poster) -> Delivering:
    async def delivered(endpoint_id: UUID, bill: UUID | None, *, now: datetime = NOW, **asked: Any) -> int:
        return await delivering.deliver(
            sessions, KEYRING, asked.pop("poster", poster), endpoint_id=endpoint_id, bill_id=bill, now=now, **asked
        )

    return delivered


# --- what is told, and signed ------------------------------------------------------------------------------------


async def test_a_message_is_one_of_standard_webhooks(
    sessions: Sessions, partner: tuple[Partner, str], deliver: Delivering
) -> None:
    receiver, address = partner
    async with sessions.begin() as session:
        endpoint, secret = await an_endpoint(session, f"{address}/hooks?of=us")
        public = (await endpoints.add_key(session, KEYRING, endpoint, scheme="v1a", by="test")).shown
        (bill,) = await bills(session)
        now = datetime.now(UTC)  # the library compares with its clock
        message_id = await told(session, bill, now=now)
    assert await deliver(endpoint, bill, now=now) == 1

    ((headers, body),) = receiver.came
    assert headers["content-type"] == "application/json"
    assert headers["host"] == address.removeprefix("http://")
    payload = Webhook(secret).verify(body, headers)
    assert payload == {
        "type": "bill.paid",
        "timestamp": now.isoformat().replace("+00:00", "Z"),
        "data": {"bill": str(bill), "amount": 20_000},
    }
    assert headers["webhook-id"] == message_id
    versions = dict(signature.split(",", 1) for signature in headers["webhook-signature"].split(" "))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    raw = base64.b64decode(public.removeprefix("whpk_"))
    Ed25519PublicKey.from_public_bytes(raw).verify(base64.b64decode(versions["v1a"]), signed)

    kept = await message(sessions, message_id)
    assert (kept.status, kept.tries) == ("delivered", 1)
    health = await the_endpoint(sessions, endpoint)
    assert (health.failures, health.failing_since) == (0, None)
    assert health.last_success_at == kept.delivered_at is not None
    assert await deliver(endpoint, bill, now=now + SOON) == 0


async def test_who_asked_for_a_kind_is_told_of_it_under_one_id_and_a_job_is_queued(session: AsyncSession) -> None:
    (bill,) = await bills(session)
    asked = {
        "all": ("*",),
        "family": ("refund.*",),
        "exact": ("bill.paid", "refund.failed"),
        "other": ("bill.*", "payment.failed"),
        "off": ("*",),
    }
    made = {
        name: (await an_endpoint(session, f"https://{name}.example/", kinds=kinds))[0] for name, kinds in asked.items()
    }
    made["keyless"] = (
        await endpoints.add_endpoint(
            session, label="x", url="https://keyless.example/", kinds=["*"], demo=False, by="test"
        )
    ).id
    await outgoing.disable_endpoint(session, made["off"], by="test", now=NOW)

    await told(session, bill, "refund.failed")
    rows = (await session.scalars(select(WebhookMessage).order_by(WebhookMessage.seq))).all()
    assert {row.endpoint_id for row in rows} == {made["all"], made["family"], made["exact"]}
    assert len({row.id for row in rows}) == len({row.body for row in rows}) == 1
    assert {row.give_up_at for row in rows} == {NOW + GIVE_UP}
    queued = text("SELECT args FROM procrastinate_jobs WHERE task_name = 'payments.deliver' ORDER BY id")
    args = list(await session.scalars(queued))
    assert sorted(arg["endpoint_id"] for arg in args) == sorted(str(row.endpoint_id) for row in rows)
    assert {arg["bill_id"] for arg in args} == {str(bill)}

    with pytest.raises(ValueError, match="no kind"):
        await outgoing.tell(session, kind="bill.seen", bill_id=bill, data={}, now=NOW)


def test_every_kind_can_be_asked_for_in_each_way() -> None:
    assert families("bill.paid") == ["bill.paid", "bill.*", "*"]
    assert {"*", "bill.*", "payment.*", "money.*", "refund.*"} == ASKABLE - set(KINDS)


# --- order and trying again --------------------------------------------------------------------------------------


async def test_a_failure_keeps_those_of_its_bill_waiting_and_no_others(
    sessions: Sessions, partner: tuple[Partner, str], deliver: Delivering, poster: Poster
) -> None:
    receiver, address = partner
    async with sessions.begin() as session:
        endpoint, _ = await an_endpoint(session, address)
        bill, other = await bills(session, 2)
        first = await told(session, bill, "payment.succeeded")
        second = await told(session, bill)
        elsewhere = await told(session, other)
    receiver.answers = [(500, {}), (204, {}), (503, {})]
    assert await deliver(endpoint, bill) == 1
    assert await deliver(endpoint, other) == 1
    assert receiver.ids == [first, elsewhere]
    assert await deliver(endpoint, bill, now=NOW) == 0  # not yet

    retry = (await message(sessions, first)).next_try_at
    assert retry is not None
    assert NOW < retry <= NOW + timedelta(seconds=5) + SOON
    assert await delivering.sweep(sessions, KEYRING, poster, now=retry) == 1  # answered 503
    assert receiver.ids == [first, elsewhere, first]
    later = (await message(sessions, first)).next_try_at
    assert later is not None
    assert later <= retry + timedelta(minutes=5) + SOON
    assert await delivering.sweep(sessions, KEYRING, poster, now=later) == 2
    assert receiver.ids == [first, elsewhere, first, first, second]
    assert await tries(sessions, first) == [(500, None, None), (503, None, None), (204, None, None)]


async def test_two_workers_never_send_the_same_and_keep_the_order(own_database: str) -> None:
    engine = open_engine(own_database)
    sessions = sessions_of(engine)
    receiver = Partner()
    receiver.takes = 0.02
    async with running(receiver) as address, Poster(demo=True) as poster:
        async with sessions.begin() as session:
            one, _ = await an_endpoint(session, f"{address}/a")
            two, _ = await an_endpoint(session, f"{address}/b", kinds=("bill.paid",))
            (bill,) = await bills(session)
            ids = [await told(session, bill, kind) for kind in ("payment.succeeded", "bill.paid", "bill.reopened")]
        work = [delivering.deliver(sessions, KEYRING, poster, endpoint_id=one, bill_id=bill, now=NOW) for _ in range(6)]
        done = await asyncio.gather(*work, delivering.sweep(sessions, KEYRING, poster, now=NOW))
        assert sum(done) == 4
        assert receiver.most_at_once == 1  # at each of the two addresses
        again = await asyncio.gather(
            *(
                delivering.deliver(sessions, KEYRING, poster, endpoint_id=end, bill_id=None, now=NOW)
                for end in (one, two)
            )
        )
        assert sum(again) == 0
        assert receiver.lines == {"/a": ids, "/b": [ids[1]]}
    await engine.dispose()


async def test_a_message_is_given_up_after_three_days_and_the_next_one_goes(
    sessions: Sessions, partner: tuple[Partner, str], poster: Poster
) -> None:
    receiver, address = partner
    receiver.always = (500, {})
    async with sessions.begin() as session:
        endpoint, _ = await an_endpoint(session, address)
        (bill,) = await bills(session)
        first = await told(session, bill, "payment.succeeded")
        second = await told(session, bill, now=NOW + timedelta(days=2))
    at, count = NOW, 0
    while (state := await message(sessions, first)).next_try_at is not None:
        at = max(at, state.next_try_at)
        if at >= NOW + GIVE_UP:
            receiver.answers = [(500, {}), (200, {})]
        count += await delivering.sweep(sessions, KEYRING, poster, now=at)
        assert count < 100
    assert state.status == "given_up"
    assert at == NOW + GIVE_UP  # the last try is at the very end
    assert state.tries == count - 1 == len(await tries(sessions, first))
    assert state.tries >= 10
    assert receiver.ids == [first] * (count - 1) + [second]
    assert (await message(sessions, second)).status == "delivered"
    assert (await the_endpoint(sessions, endpoint)).failures == 0


async def test_an_endpoint_that_is_gone_is_disabled_and_an_operator_enables_it(
    sessions: Sessions, partner: tuple[Partner, str], deliver: Delivering, poster: Poster
) -> None:
    receiver, address = partner
    receiver.answers = [(410, {})]
    async with sessions.begin() as session:
        endpoint, _ = await an_endpoint(session, address)
        (bill,) = await bills(session)
        first = await told(session, bill)
    assert await deliver(endpoint, bill) == 1
    gone = await the_endpoint(sessions, endpoint)
    assert (gone.active, gone.disabled_reason) == (False, "gone")
    async with sessions.begin() as session:
        await told(session, bill, "bill.reopened")
        assert await session.scalar(select(func.count()).select_from(WebhookMessage)) == 1
        assert (await audited(session))[-1] == "webhook_endpoint_disabled"
    assert await deliver(endpoint, bill, now=NOW + timedelta(hours=1)) == 0
    assert await delivering.sweep(sessions, KEYRING, poster, now=NOW + timedelta(hours=1)) == 0

    later = NOW + timedelta(days=2)
    async with sessions.begin() as session:
        await outgoing.enable_endpoint(session, endpoint, by="test", now=later)
    assert (await message(sessions, first)).give_up_at == later + GIVE_UP
    assert await deliver(endpoint, None, now=later) == 1
    assert receiver.ids == [first, first]


async def test_what_waits_for_a_disabled_endpoint_is_given_up_in_the_end(
    sessions: Sessions, poster: Poster, session: AsyncSession
) -> None:
    endpoint, _ = await an_endpoint(session, "https://away.example/")
    (bill,) = await bills(session)
    waiting = await told(session, bill)
    await outgoing.disable_endpoint(session, endpoint, by="test", now=NOW)
    await session.commit()
    await delivering.sweep(sessions, KEYRING, poster, now=NOW + GIVE_UP - SOON)
    assert (await message(sessions, waiting)).status == "waiting"
    await delivering.sweep(sessions, KEYRING, poster, now=NOW + GIVE_UP)
    assert (await message(sessions, waiting)).status == "given_up"


async def test_an_endpoint_that_fails_for_five_days_is_disabled(
    sessions: Sessions, partner: tuple[Partner, str], deliver: Delivering, poster: Poster
) -> None:
    receiver, address = partner
    receiver.always = (301, {"location": f"{address}/elsewhere"})  # which is not followed
    async with sessions.begin() as session:
        endpoint, _ = await an_endpoint(session, address)
        (bill,) = await bills(session)
        await told(session, bill)
    assert await deliver(endpoint, bill) == 1
    assert len(receiver.came) == 1
    failing = await the_endpoint(sessions, endpoint)
    assert failing.failures == 1
    assert failing.failing_since is not None
    for days, active in ((DISABLE - timedelta(minutes=1), True), (DISABLE, False)):
        async with sessions.begin() as session:
            await told(session, bill, now=failing.failing_since + days)
        await delivering.sweep(sessions, KEYRING, poster, now=failing.failing_since + days)
        health = await the_endpoint(sessions, endpoint)
        assert (health.active, health.disabled_reason) == (active, None if active else "failing")
    assert health.failing_since == failing.failing_since


async def test_a_troubled_endpoint_keeps_no_worker_waiting(
    sessions: Sessions, partner: tuple[Partner, str], deliver: Delivering, poster: Poster
) -> None:
    receiver, address = partner
    receiver.always = (502, {})
    async with sessions.begin() as session:
        endpoint, _ = await an_endpoint(session, address)
        made = await bills(session, 8)
        for bill in made:
            await told(session, bill)
    assert [await deliver(endpoint, bill) for bill in made] == [1, 1, 1, 0, 0, 0, 0, 0]
    assert await delivering.sweep(sessions, KEYRING, poster, now=NOW) == 3  # and then leaves it alone
    receiver.always = (200, {})
    assert await delivering.sweep(sessions, KEYRING, poster, now=NOW + timedelta(minutes=1)) == 8
    assert (await the_endpoint(sessions, endpoint)).failures == 0


@pytest.mark.parametrize(
    ("asks", "waits"),
    [
        ("7200", timedelta(hours=2)),
        (format_datetime(NOW + timedelta(hours=3), usegmt=True), timedelta(hours=3)),
        ("99999999", timedelta(days=1)),
    ],
)
async def test_an_endpoint_may_ask_to_be_left_alone_for_a_while(
    sessions: Sessions, partner: tuple[Partner, str], deliver: Delivering, asks: str, waits: timedelta
) -> None:
    receiver, address = partner
    receiver.answers = [(429, {"retry-after": asks})]
    async with sessions.begin() as session:
        endpoint, _ = await an_endpoint(session, address)
        (bill,) = await bills(session)
        waiting = await told(session, bill)
    await deliver(endpoint, bill)
    retry = (await message(sessions, waiting)).next_try_at
    assert retry is not None
    assert NOW + waits <= retry <= NOW + waits + SOON


@pytest.mark.parametrize("asks", [None, "", "soon", "-5", "1e3", "Tue, 99 Foo 2026 00:00:00 GMT", "٣"])
def test_what_cannot_be_read_asks_for_nothing(asks: str | None) -> None:
    assert read_retry_after(asks, NOW) is None


def test_a_time_that_is_over_asks_for_nothing_more() -> None:
    assert read_retry_after(format_datetime(NOW - timedelta(days=1)), NOW) == timedelta()


@given(
    st.integers(1, 40),
    st.floats(0, 1),
    st.none() | st.integers(0, 10**6).map(lambda seconds: timedelta(seconds=seconds)),
    st.integers(0, 4 * 86400),
)
def test_a_wait_is_a_share_of_its_step_and_ends_when_it_is_time_to_give_up(
    failed: int, share: float, asked: timedelta | None, elapsed: int
) -> None:
    now, end = NOW + timedelta(seconds=elapsed), NOW + GIVE_UP
    found = next_try(now, failed=failed, share=share, retry_after=asked, give_up_at=end)
    if now >= end:
        assert found is None
        return
    assert found is not None
    assert now < found <= end
    steps = [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400]
    longest = max(timedelta(seconds=steps[min(failed, 9) - 1]), asked or timedelta())
    assert found - now <= max(longest, timedelta(seconds=1))
    if asked is not None:
        assert found >= min(now + asked, end)


# --- crashes -----------------------------------------------------------------------------------------------------


class Dying(Poster):
    """A worker that sends, and dies before it can say so."""

    @override
    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        await super().post(url, body, headers)
        raise asyncio.CancelledError


async def test_a_message_whose_sender_died_is_sent_again_under_its_id(
    sessions: Sessions, partner: tuple[Partner, str], deliver: Delivering
) -> None:
    receiver, address = partner
    async with sessions.begin() as session:
        endpoint, _ = await an_endpoint(session, address)
        (bill,) = await bills(session)
        first = await told(session, bill)
        second = await told(session, bill, "bill.reopened")
    async with Dying(demo=True) as dying:
        with pytest.raises(asyncio.CancelledError):
            await deliver(endpoint, bill, poster=dying)
    assert receiver.ids == [first]
    assert await deliver(endpoint, bill, now=NOW + LEASE - timedelta(seconds=2)) == 0  # it may still be at it
    assert await deliver(endpoint, bill, now=NOW + LEASE + SOON) == 2
    assert receiver.ids == [first, first, second]
    assert receiver.came[0][1] == receiver.came[1][1]
    assert await tries(sessions, first) == [(None, "lost", None), (204, None, None)]


async def test_who_was_slower_than_the_lease_changes_nothing(session: AsyncSession) -> None:
    endpoint, _ = await an_endpoint(session, "https://slow.example/")
    (bill,) = await bills(session)
    await told(session, bill)

    async def claimed(now: datetime) -> outgoing.Claimed:
        found = await outgoing.claim(session, KEYRING, endpoint_id=endpoint, bill_id=bill, now=now, troubled_too=False)
        assert found is not None
        return found

    async def recorded(claim: outgoing.Claimed, status: int, now: datetime) -> None:
        await outgoing.record(session, claim, Answer(status, None), at=now, now=now, share=0.5, asked_by=None)

    slow = await claimed(NOW)
    later = NOW + LEASE
    quick = await claimed(later)
    assert (slow.id, slow.tries, quick.tries) == (quick.id, 1, 2)
    await recorded(slow, 500, later)
    kept = await session.get_one(WebhookMessage, slow.seq)
    assert (kept.status, (await session.get_one(WebhookEndpoint, endpoint)).failures) == ("waiting", 0)
    await recorded(quick, 200, later)
    assert kept.status == "delivered"
    await recorded(slow, 500, later)
    assert kept.status == "delivered"
    assert await session.scalar(select(func.count()).select_from(WebhookDelivery)) == 2  # one is lost


async def test_what_cannot_be_signed_is_not_sent_and_not_the_endpoints_fault(
    sessions: Sessions, partner: tuple[Partner, str], deliver: Delivering
) -> None:
    receiver, address = partner
    async with sessions.begin() as session:
        endpoint, _ = await an_endpoint(session, address)
        (bill,) = await bills(session)
        waiting = await told(session, bill)
        await session.execute(text("UPDATE webhook_key SET secret_cipher = 'x'"))
    assert await deliver(endpoint, bill) == 1
    assert receiver.came == []
    assert await tries(sessions, waiting) == [(None, "unsigned", None)]
    assert (await the_endpoint(sessions, endpoint)).failures == 0


# --- where messages may go ---------------------------------------------------------------------------------------

INNER = [
    "0.0.0.0",  # noqa: S104
    "10.1.2.3",
    "100.100.100.200",
    "127.0.0.1",
    "127.8.8.8",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.7",
    "203.0.113.9",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0:127.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b::10.0.0.1",
    "64:ff9b:1::8.8.8.8",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "2606:4700::1%eth0",
    "fec0::1",
    "ff02::1",
]
OUTER = ["1.1.1.1", "8.8.8.8", "103.28.36.1", "172.32.0.1", "::ffff:8.8.8.8", "64:ff9b::808:808", "2606:4700::1111"]


@pytest.mark.parametrize("address", INNER)
async def test_nothing_is_sent_to_an_address_inside_whatever_name_it_has(address: str) -> None:
    assert not is_public(ip_address(address))
    calls = []

    async def resolve(host: str, port: int) -> list[str]:
        calls.append(host)
        return ["8.8.8.8", address]

    async with Poster(resolve=resolve) as poster:
        assert await poster.post("https://partner.example/", b"{}", {}) == Answer(None, "address_refused")
    assert calls == ["partner.example"]
    if "%" not in address:
        host = f"[{address}]" if ":" in address else address
        with pytest.raises(WrongTarget):
            read_target(f"https://{host}/")


@pytest.mark.parametrize("address", OUTER)
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://partner.example/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0x7f.1/",
        "https://127.1/",
        "https://0177.0.0.1/",
        "https://8.8.8/",
        "https://[::ffff:127.0.0.1]/",
        "https://[::ffff:7f00:1]/",
        "https://[not:one]/",
        "https://[::1::2]/",
        "https://[8.8.8.8]x/",
        "https://[fe80::1%25eth0]/",
        "https://user@partner.example/",
        "https://user:pass@partner.example/",
        "https://partner.example@169.254.169.254/",
        "https://partner.example#@127.0.0.1/",
        "https://partner.example/#part",
        "https://partner.example\\@127.0.0.1/",
        "https:\\\\partner.example/",
        "https:/partner.example/",
        "https://partner.example?query",
        "https://partner.example./",
        "https://partner..example/",
        "https://-partner.example/",
        "https://pärtner.example/",
        "https://partner。example/",
        "https://partner.example:22/",
        "https://partner.example:80/",
        "https://partner.example:1023/",
        "https://partner.example:65536/",
        "https://partner.example:99999/",
        "https://partner.example:x/",
        "https://partner.example/a b",
        "https://partner.example/a\r\nHost: inner",
        "https://partner.example/a\n",
        "https:///path",
        "https://",
        "",
        "ftp://partner.example/",
        "file:///etc/passwd",
        "gopher://partner.example/",
        "unix:/run/redis.sock",
        "HTTPS://partner.example/",
        "https://partner.example/" + "a" * 2000,
        "https://" + "a" * 64 + ".example/",
    ],
)
async def test_an_address_is_read_strictly(url: str) -> None:
    with pytest.raises(WrongTarget):
        read_target(url)
    async with Poster() as poster:
        assert (await poster.post(url, b"{}", {})).error == "address_refused"


@pytest.mark.parametrize(
    ("url", "target", "authority"),
    [
        ("https://Partner.Example", Target("https", "partner.example", 443, "/"), "partner.example"),
        ("https://partner.example:443/a", Target("https", "partner.example", 443, "/a"), "partner.example"),
        ("https://p.vn:8443/a?b=c@d", Target("https", "p.vn", 8443, "/a?b=c@d"), "p.vn:8443"),
        ("https://8.8.8.8/", Target("https", "8.8.8.8", 443, "/"), "8.8.8.8"),
        ("https://[2606:4700::1111]:1024/", Target("https", "2606:4700::1111", 1024, "/"), "[2606:4700::1111]:1024"),
        ("https://xn--bc-kim.vn/", Target("https", "xn--bc-kim.vn", 443, "/"), "xn--bc-kim.vn"),
    ],
)
def test_a_public_address_is_read(url: str, target: Target, authority: str) -> None:
    assert read_target(url) == target
    assert read_target(url).authority == authority


async def test_a_resolver_that_answers_nonsense_is_not_believed() -> None:
    async def resolve(host: str, port: int) -> list[str]:
        return ["partner.example"]

    async with Poster(resolve=resolve) as poster:
        assert (await poster.post("https://partner.example/", b"{}", {})).error == "address_refused"


async def test_this_machine_is_reached_in_the_demo_alone(partner: tuple[Partner, str]) -> None:
    receiver, address = partner
    async with Poster(demo=True) as demo, Poster() as real:
        assert (await demo.post(f"{address}/x", b"{}", {})).status == 204
        assert (await real.post(f"{address}/x", b"{}", {})).error == "address_refused"
        for url in ("http://10.0.0.1:8000/", "https://192.168.1.1/", "http://8.8.8.8:8000/", "http://127.0.0.1:22/"):
            assert (await demo.post(url, b"{}", {})).error == "address_refused"
    assert len(receiver.came) == 1


async def test_a_name_is_looked_up_and_checked_at_every_delivery() -> None:
    answers = [["127.0.0.1"], ["169.254.169.254"], []]

    async def resolve(host: str, port: int) -> list[str]:
        return answers.pop(0)

    server = raw_server(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    async with server as (port, _), Poster(demo=True, resolve=resolve) as poster:
        found = [await poster.post(f"http://rebound.example:{port}/", b"{}", {}) for _ in range(3)]
    assert [answer.status or answer.error for answer in found] == [200, "address_refused", "unresolved"]


async def test_a_name_that_nobody_knows_is_not_reached() -> None:
    async with Poster(demo=True) as poster:
        assert (await poster.post("https://partner.invalid/", b"{}", {})).error == "unresolved"


@asynccontextmanager
async def raw_server(
    answer: bytes, *, tls: ssl.SSLContext | None = None, endless: bool = False, keeps: bool = False
) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server that answers with these bytes, and, if ``endless``, with the last of them for ever.

    It closes the connection, unless it ``keeps`` it for more requests.
    """
    came: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            came.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(answer)
            await writer.drain()
            while keeps:
                came.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(answer)
            while endless:
                writer.write(answer[-1:] * 100)
                await writer.drain()
                await asyncio.sleep(0.01)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1], came


def certificate(tmp_path: Path, *names: str) -> Path:
    """A certificate for some names, which vouches for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(hours=1))
        .not_valid_after(datetime.now(UTC) + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    kept = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = tmp_path / "server.pem"
    path.write_bytes(kept + made.public_bytes(pem))
    return path


async def test_the_certificate_is_that_of_the_name_and_not_of_the_address(tmp_path: Path) -> None:
    path = certificate(tmp_path, "hooks.partner.example")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    asked: list[str | None] = []
    server.sni_callback = lambda _socket, name, _context: asked.append(name)

    async def resolve(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    trust = ssl.create_default_context(cafile=str(path))
    async with raw_server(b"HTTP/1.1 204 No Content\r\n\r\n", tls=server, keeps=True) as (port, came):
        async with Poster(demo=True, resolve=resolve, trust=trust) as poster:
            # One after the other: a connection that is kept would carry the second past its check.
            good = await poster.post(f"https://hooks.partner.example:{port}/", b"{}", {})
            bad = await poster.post(f"https://other.example:{port}/", b"{}", {})
        async with Poster(demo=True, resolve=resolve) as wary:
            unknown = await wary.post(f"https://hooks.partner.example:{port}/", b"{}", {})
    assert (good, bad.error, unknown.error) == (Answer(204, None), "certificate", "certificate")
    assert asked == ["hooks.partner.example", "other.example", "hooks.partner.example"]
    assert len(came) == 1
    assert f"\r\nHost: hooks.partner.example:{port}\r\n".encode() in came[0]


async def test_an_answer_without_end_or_form_holds_nobody_up() -> None:
    async with Poster(demo=True, patience=0.4) as poster:

        async def asked(answer: bytes, *, endless: bool = False) -> Answer:
            async with raw_server(answer, endless=endless) as (port, _):
                async with asyncio.timeout(5):
                    return await poster.post(f"http://127.0.0.1:{port}/", b"{}", {})

        head = b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n"
        assert (await asked(head + b"a", endless=True)).status == 200
        assert (await asked(head)).status == 200  # and closes: the body is nothing to us
        assert (await asked(b"HTTP/1.1 200 OK\r\nx: ", endless=True)).error == "timeout"
        assert (await asked(b"HTTP/1.1 100 Continue\r\n\r\n" * 3)).error == "broken"
        assert (await asked(b"no HTTP at all\r\n\r\n")).error == "broken"
        assert (await asked(b"HTTP/1.1 200 OK\r\nx: " + b"a" * 200_000 + b"\r\n\r\n")).error == "broken"
        assert (await asked(b"")).error == "broken"
        assert (await poster.post("http://127.0.0.1:1024/", b"{}", {})).error == "unreachable"


async def test_a_cookie_or_proxy_of_somebody_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1024")
    answer = b"HTTP/1.1 200 OK\r\nset-cookie: of=partner; Path=/\r\ncontent-length: 0\r\n\r\n"
    async with raw_server(answer) as (port, came), Poster(demo=True) as poster:
        for _ in range(2):
            assert (await poster.post(f"http://127.0.0.1:{port}/", b"{}", {})).status == 200
    assert not any(b"cookie" in request.lower() for request in came)


# --- for the registrar -------------------------------------------------------------------------------------------

ENDPOINTS = "/api/v1/webhook-endpoints"


async def test_an_endpoint_is_added_and_its_keys_are_rotated(
    client: AsyncClient, sessions: Sessions, partner: tuple[Partner, str], deliver: Delivering
) -> None:
    receiver, address = partner
    async with sessions.begin() as session:
        key = await make.a_key(session, role=Role.ADMIN)
        (bill,) = await bills(session)
    asked = {"label": "Kho bạc", "url": address, "kinds": ["bill.*"]}
    made = await make.post(client, key, ENDPOINTS, asked)
    assert made.status_code == 201, made.text
    endpoint = made.json()["id"]
    again = await make.post(client, key, ENDPOINTS, asked)
    assert (again.status_code, again.json()["type"]) == (409, "/problems/webhook_endpoint_taken")

    old = await make.post(client, key, f"{ENDPOINTS}/{endpoint}/keys", {})
    assert old.status_code == 201
    assert old.headers["cache-control"] == "no-store"
    last = await make.post(client, key, f"{ENDPOINTS}/{endpoint}/keys/{old.json()['id']}/retire")
    assert (last.status_code, last.json()["type"]) == (409, "/problems/webhook_last_key")
    new = await make.post(client, key, f"{ENDPOINTS}/{endpoint}/keys", {"scheme": "v1"})
    third = await make.post(client, key, f"{ENDPOINTS}/{endpoint}/keys", {"scheme": "v1"})
    assert (third.status_code, third.json()["type"]) == (409, "/problems/webhook_too_many_keys")
    public = await make.post(client, key, f"{ENDPOINTS}/{endpoint}/keys", {"scheme": "v1a"})
    assert public.json()["key"].startswith("whpk_")

    now = datetime.now(UTC)
    async with sessions.begin() as session:
        await told(session, bill, now=now)
    await deliver(UUID(endpoint), bill, now=now)
    ((headers, body),) = receiver.came
    assert [part.partition(",")[0] for part in headers["webhook-signature"].split(" ")] == ["v1a", "v1", "v1"]
    for secret in (old, new):  # during the change both fit
        assert Webhook(secret.json()["key"]).verify(body, headers)["type"] == "bill.paid"

    for _ in range(2):  # the first time stands
        retired = await make.post(client, key, f"{ENDPOINTS}/{endpoint}/keys/{old.json()['id']}/retire")
        assert retired.status_code == 200
    async with sessions.begin() as session:
        await told(session, bill, now=now)
    await deliver(UUID(endpoint), bill, now=now)
    headers, body = receiver.came[-1]
    assert Webhook(new.json()["key"]).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(old.json()["key"]).verify(body, headers)


async def test_an_endpoint_shows_how_it_is_and_keeps_its_secrets(client: AsyncClient, sessions: Sessions) -> None:
    async with sessions.begin() as session:
        key = await make.a_key(session, role=Role.ADMIN)
    made = await make.post(client, key, ENDPOINTS, {"label": "Kho bạc", "url": "https://kb.example/", "kinds": ["*"]})
    endpoint = made.json()["id"]
    keys = [await make.post(client, key, f"{ENDPOINTS}/{endpoint}/keys", {"scheme": way}) for way in ("v1", "v1a")]
    await make.post(client, key, f"{ENDPOINTS}/{endpoint}/keys/{keys[0].json()['id']}/retire")
    async with sessions.begin() as session:
        (bill,) = await bills(session)
        await told(session, bill)

    answer = await client.get(f"{ENDPOINTS}/{endpoint}", headers=make.auth(key))
    shown = answer.json()
    kept = [(row["scheme"], row["retired_at"] is None) for row in shown["keys"]]
    assert kept == [("v1", False), ("v1a", True)]
    assert (shown["endpoint"]["active"], shown["endpoint"]["failures"], shown["waiting"]) == (True, 0, 1)
    assert shown["waiting_since"] is not None
    listed = (await client.get(ENDPOINTS, headers=make.auth(key))).json()
    assert listed["endpoints"] == [shown["endpoint"]]

    secret = keys[0].json()["key"].removeprefix("whsec_")
    async with sessions() as session:
        # Nowhere in the clear: not where it is kept, not with the answers, not in the chain.
        ciphers = list(await session.scalars(select(WebhookKey.secret_cipher)))
        answers = list(await session.scalars(select(IdempotencyRecord.body)))
        chain = [entry.encode() for entry in await session.scalars(select(AuditEntry.data))]
        assert len(ciphers) == 2
        assert not any(secret.encode() in text for text in (*ciphers, *answers, *chain, answer.content))
        kinds = [kind for kind in await audited(session) if kind.startswith("webhook_")]
    assert kinds == ["webhook_endpoint_added", "webhook_key_added", "webhook_key_added", "webhook_key_retired"]


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"url": "http://169.254.169.254/"}, "/url"),
        ({"url": "https://[::ffff:10.0.0.1]/"}, "/url"),
        ({"url": "https://2130706433/"}, "/url"),
        ({"kinds": ["bil.paid"]}, "/kinds"),
        ({"kinds": ["bill.paid.*"]}, "/kinds"),
    ],
)
async def test_what_nothing_can_be_sent_to_is_refused(
    client: AsyncClient, session: AsyncSession, change: dict[str, Any], pointer: str
) -> None:
    key = await make.a_key(session, role=Role.ADMIN)
    await session.commit()
    asked = {"label": "x", "url": "https://partner.example/", "kinds": ["*"], **change}
    answer = await make.post(client, key, ENDPOINTS, asked)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)


async def test_an_operator_sends_a_message_once_more(
    client: AsyncClient, sessions: Sessions, partner: tuple[Partner, str], deliver: Delivering
) -> None:
    receiver, address = partner
    async with sessions.begin() as session:
        key = await make.a_key(session, role=Role.ADMIN)
        endpoint, _ = await an_endpoint(session, address)
        (bill,) = await bills(session)
        first = await told(session, bill)
    await deliver(endpoint, bill)
    seq = (await message(sessions, first)).seq

    async def asked(number: int) -> Response:
        return await make.post(client, key, f"/api/v1/webhook-messages/{number}/redeliver")

    # A delivered one, at once and under its id, by the job that is queued with it.
    answer = await asked(seq)
    assert (answer.status_code, answer.json()["status"], answer.json()["id"]) == (200, "waiting", first)
    async with sessions() as session:
        jobs = text("SELECT args FROM procrastinate_jobs WHERE task_name = 'payments.deliver' ORDER BY id DESC LIMIT 1")
        args = await session.scalar(jobs)
        assert (await audited(session))[-1] == "webhook_redelivered"
    by = args["asked_by"]
    assert args == {"endpoint_id": str(endpoint), "bill_id": str(bill), "message_seq": seq, "asked_by": by}
    assert by in key
    assert await deliver(endpoint, bill, now=datetime.now(UTC), message_seq=seq, asked_by=by) == 1
    assert receiver.ids == [first, first]
    assert await tries(sessions, first) == [(204, None, None), (204, None, by)]

    # One under way is left to who has it.
    await asked(seq)
    async with Dying(demo=True) as dying:
        with pytest.raises(asyncio.CancelledError):
            await deliver(endpoint, bill, now=datetime.now(UTC), poster=dying)
    under_way = await asked(seq)
    assert (under_way.status_code, under_way.json()["type"]) == (409, "/problems/webhook_message_under_way")
    assert under_way.headers["retry-after"] == "60"

    # A disabled endpoint gets nothing, and what is not there is not sent.
    assert (await make.post(client, key, f"{ENDPOINTS}/{endpoint}/disable")).json()["disabled_reason"] == "operator"
    refused = await asked(seq)
    assert (refused.status_code, refused.json()["type"]) == (409, "/problems/webhook_endpoint_disabled")
    assert (await asked(seq + 1_000_000)).status_code == 404
    assert (await make.post(client, key, f"{ENDPOINTS}/{bill}/enable")).status_code == 404
    for verb, active in (("disable", False), ("enable", True), ("enable", True)):  # what is so already, stays so
        assert (await make.post(client, key, f"{ENDPOINTS}/{endpoint}/{verb}")).json()["active"] is active
    async with sessions() as session:
        assert (await audited(session))[-2:] == ["webhook_endpoint_disabled", "webhook_endpoint_enabled"]


async def test_what_was_given_up_or_waits_behind_others_is_sent_at_an_operators_wish(
    sessions: Sessions, partner: tuple[Partner, str], deliver: Delivering
) -> None:
    receiver, address = partner
    receiver.always = (500, {})
    async with sessions.begin() as session:
        endpoint, _ = await an_endpoint(session, address)
        (bill,) = await bills(session)
        first = await told(session, bill, now=NOW - GIVE_UP)
        second = await told(session, bill, "bill.reopened")
        third = await told(session, bill)
    assert await deliver(endpoint, bill) == 2
    assert [(await message(sessions, one)).status for one in (first, second)] == ["given_up", "waiting"]

    later = NOW + timedelta(minutes=10)
    assert await deliver(endpoint, bill, now=later) == 1
    assert (await the_endpoint(sessions, endpoint)).failures == 3  # so jobs leave it alone
    receiver.always = (200, {})
    for number, asked in enumerate((third, first)):
        async with sessions.begin() as session:
            seq = (await message(sessions, asked)).seq
            sent = await outgoing.redeliver(session, seq, by="op", now=later)
            assert (sent.next_try_at, sent.give_up_at) == (later, later + GIVE_UP)
        done = await deliver(endpoint, bill, now=later, message_seq=seq, asked_by="op")
        assert done == (2, 1)[number]
    assert receiver.ids == [first, second, second, second, third, first]
    assert (await tries(sessions, second))[-1] == (200, None, None)  # it went for the sake of the order
    assert (await tries(sessions, third)) == [(200, None, "op")]
    assert (await tries(sessions, first)) == [(500, None, None), (200, None, "op")]


async def test_messages_are_listed_newest_first_by_page_and_status(client: AsyncClient, session: AsyncSession) -> None:
    key = await make.a_key(session, role=Role.ADMIN)
    endpoint, _ = await an_endpoint(session, "https://partner.example/")
    (bill,) = await bills(session)
    ids = [await told(session, bill) for _ in range(5)]
    await session.execute(
        text("UPDATE webhook_message SET status = 'given_up', next_try_at = NULL WHERE id = :id"), {"id": ids[1]}
    )
    await session.commit()
    path = f"{ENDPOINTS}/{endpoint}/messages"
    seen: list[str] = []
    after = ""
    for length in (2, 2, 1):
        page = (await client.get(f"{path}?limit=2{after}", headers=make.auth(key))).json()
        assert len(page["messages"]) == length
        seen += [row["message"]["id"] for row in page["messages"]]
        after = f"&after={page['next']}"
    assert page["next"] is None
    assert seen == ids[::-1]
    given_up = (await client.get(f"{path}?status=given_up", headers=make.auth(key))).json()
    assert [row["message"]["id"] for row in given_up["messages"]] == [ids[1]]
    assert given_up["messages"][0]["last_status"] is None
    assert (await client.get(f"{path}?status=lost", headers=make.auth(key))).status_code == 400
    nowhere = await client.get(f"{ENDPOINTS}/{bill}/messages", headers=make.auth(key))
    assert nowhere.status_code == 404


async def test_an_endpoint_without_kinds_is_none(session: AsyncSession) -> None:
    with pytest.raises(Invalid):
        await endpoints.add_endpoint(session, label="x", url="https://a.example/", kinds=[], demo=False, by="test")
