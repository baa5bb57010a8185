"""What holds for every answer: ids, headers, HEAD, problems, idempotency, limits."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from httpx import ASGITransport, AsyncClient
from httpx import Response as HttpAnswer
from litestar import Litestar, Request, Response, post
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.types import ASGIApp, Receive, Scope, Send
from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp import jobs
from bkapp.address.models import Dwelling
from bkapp.app import create_app
from bkapp.config import Settings, load_settings
from bkapp.db import Sessions, open_engine, readers_of, sessions_of
from bkapp.edge import Edge, caller_address
from bkapp.errors import DomainError, Forbidden, NotFound, Unauthenticated, Unavailable, refusals
from bkapp.http import EXCEPTION_HANDLERS, IN_FLIGHT, IdempotencyRecord, UnitOfWork, request_key
from tests import make

ADDRESSES = "/api/v1/addresses"


async def body_of(session: AsyncSession, north: float = 0) -> dict[str, object]:
    place = await make.a_place(session, north=north)
    return {"point": {"lon": place.lon, "lat": place.lat}, "unit": make.COMMUNE}


class TestEdge:
    async def test_every_answer_has_an_id_and_security_headers(self, client: AsyncClient) -> None:
        for path in ("/healthz", "/nowhere", "/api/v1/addresses/1", "/c/482719346"):
            answer = await client.get(path)
            assert re.fullmatch(r"[0-9a-f]{16}", answer.headers["x-request-id"]), path
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert "default-src 'none'" in answer.headers["content-security-policy"]
            assert answer.headers["referrer-policy"] == "same-origin"

    async def test_only_the_documentation_may_run_scripts_and_only_ours(self, client: AsyncClient) -> None:
        documentation = (await client.get("/schema")).headers["content-security-policy"]
        assert "script-src 'self';" in documentation
        assert "connect-src 'self';" in documentation
        assert "script-src" not in (await client.get("/")).headers["content-security-policy"]
        page = (await client.get("/schema")).text
        assert "<script>" not in page
        assert "://" not in page
        assert "://" not in (await client.get("/schema/assets/start.js")).text

    async def test_a_callers_request_id_is_kept_if_it_is_harmless(self, client: AsyncClient) -> None:
        kept = await client.get("/healthz", headers={"X-Request-Id": "abc-12345"})
        refused = await client.get("/healthz", headers={"X-Request-Id": "a b\tc"})
        assert kept.headers["x-request-id"] == "abc-12345"
        assert refused.headers["x-request-id"] != "a b\tc"

    async def test_head_answers_like_get_without_a_body(self, client: AsyncClient, session: AsyncSession) -> None:
        made = await make.an_address(session)
        await session.commit()
        for path in ("/healthz", f"{ADDRESSES}/{made.code}", f"/c/{made.code}", "/api/v1/units/01969", "/metrics"):
            get, head = await client.get(path), await client.head(path)
            assert (head.status_code, head.content) == (get.status_code, b""), path
            if path != "/metrics":
                assert head.headers["content-length"] == get.headers["content-length"], path

    async def test_the_server_still_knows_that_it_was_head(self, settings: Settings) -> None:
        seen = []

        async def inner(scope: Any, receive: Any, send: Any) -> None:
            seen.append(scope["method"])
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
            await send({"type": "http.response.body", "body": b"{}"})

        async def send(message: Any) -> None:
            seen.append(message.get("body", b""))

        scope = {"type": "http", "method": "HEAD", "path": "/healthz", "headers": []}
        await Edge(inner, settings)(scope, send, send)  # type: ignore[arg-type]
        assert (seen, scope["method"]) == (["GET", b"", b""], "HEAD")

    async def test_the_log_names_the_route_and_never_the_code(self, client: AsyncClient, session: AsyncSession) -> None:
        made = await make.an_address(session)
        await session.commit()
        with structlog.testing.capture_logs() as lines:
            await client.get(f"{ADDRESSES}/{made.code}")
            await client.get("/tim", params={"q": "Vi Hương"})
        told = str(lines)
        assert "/api/v1/addresses/{code}" in told
        assert made.code not in told
        assert "Hương" not in told

    async def test_metrics_are_openmetrics_without_codes(self, client: AsyncClient, session: AsyncSession) -> None:
        made = await make.an_address(session)
        await session.commit()
        await client.get(f"{ADDRESSES}/{made.code}")
        answer = await client.get("/metrics")
        assert answer.headers["content-type"].startswith("application/openmetrics-text")
        assert answer.text.endswith("# EOF\n")
        assert 'route="/api/v1/addresses/{code}"' in answer.text
        assert made.code not in answer.text

    async def test_a_burst_is_told_to_wait(self, sessions: Sessions, settings: Settings, database: str) -> None:
        few = load_settings({"DATABASE_URL": database, "BKAPP_DEMO": "1", "BKAPP_RATE_LIMIT": "3/minute"})
        app = Edge(create_app(settings, sessions, sessions), few)  # type: ignore[arg-type]
        async with AsyncClient(transport=ASGITransport(app=app), base_url="http://t") as client:
            answers = [await client.get("/problems") for _ in range(5)]
            health = await client.get("/healthz")
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 61
        assert answers[-1].json()["type"] == "/problems/too_many_requests"
        assert health.status_code == 200

    @pytest.mark.parametrize(
        ("client", "forwarded", "proxies", "who"),
        [
            ("192.0.2.1", b"", 0, "192.0.2.1"),
            ("192.0.2.1", b"203.0.113.9", 0, "192.0.2.1"),
            ("192.0.2.1", b"6.6.6.6, 203.0.113.9", 1, "203.0.113.9"),
            ("192.0.2.1", b"", 1, "192.0.2.1"),
            ("2001:db8:1:2:3:4:5:6", b"", 0, "2001:db8:1:2::/64"),
            ("::ffff:192.0.2.1", b"", 0, "192.0.2.1"),
            ("::not:an:address::", b"", 0, "unknown"),
        ],
    )
    def test_who_is_limited(self, client: str, forwarded: bytes, proxies: int, who: str) -> None:
        headers = [(b"x-forwarded-for", forwarded)] if forwarded else []
        assert caller_address({"client": (client, 1), "headers": headers}, proxies) == who


class TestProblems:
    async def test_what_is_not_there_is_a_problem_in_vietnamese_and_english(self, client: AsyncClient) -> None:
        answer = await client.get("/api/v1/nowhere")
        problem = answer.json()
        assert answer.status_code == problem["status"] == 404
        assert answer.headers["content-type"] == "application/problem+json"
        assert (problem["type"], problem["title"]) == ("/problems/not_found", "Không tìm thấy")
        assert problem["request_id"] == answer.headers["x-request-id"]

    async def test_a_browser_gets_a_page_and_a_program_a_problem(self, client: AsyncClient) -> None:
        page = await client.get("/nowhere", headers={"Accept": "text/html,*/*"})
        problem = await client.get("/nowhere", headers={"Accept": "*/*"})
        assert page.headers["content-type"].startswith("text/html")
        assert "Không tìm thấy" in page.text
        assert problem.headers["content-type"] == "application/problem+json"

    async def test_a_wrong_method_says_which_are_right(self, client: AsyncClient) -> None:
        answer = await client.delete(f"{ADDRESSES}/482719346")
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, OPTIONS")

    async def test_a_body_that_is_too_large_or_not_json_is_refused(
        self, client: AsyncClient, session: AsyncSession
    ) -> None:
        key = await make.a_key(session)
        await session.commit()
        large = await client.post(ADDRESSES, content=b" " * 300_000, headers=make.auth(key))
        form = await client.post(ADDRESSES, data={"unit": "01969"}, headers=make.auth(key))
        assert (large.status_code, large.json()["type"]) == (413, "/problems/too_large")
        assert form.status_code in {400, 415}
        assert form.headers["content-type"] == "application/problem+json"

    async def test_every_kind_of_refusal_has_a_line_in_the_catalogue(self, client: AsyncClient) -> None:
        page = (await client.get("/problems")).text
        for kind in refusals():
            assert f'id="{kind.code}"' in page
            assert kind.title in page.replace("&#39;", "'")
            jump = await client.get(f"/problems/{kind.code}")
            assert jump.headers["location"] == f"/problems#{kind.code}"
        titles = [kind.code for kind in refusals()]
        assert len(set(titles)) == len(titles)


class TestOutage:
    @pytest.fixture
    async def away(self) -> AsyncIterator[AsyncClient]:
        """The application with a database that is not there."""
        url = "postgresql://postgres@127.0.0.1:1/none"
        settings = load_settings({"DATABASE_URL": url, "BKAPP_DEMO": "1"})
        engine = open_engine(url)
        app = Edge(create_app(settings, sessions_of(engine), readers_of(engine)), settings)  # type: ignore[arg-type]
        async with AsyncClient(transport=ASGITransport(app=app), base_url="http://t") as client:
            yield client
        await engine.dispose()

    async def test_a_database_that_is_away_is_503_and_not_500(self, away: AsyncClient) -> None:
        for path in (f"{ADDRESSES}/482719346", "/api/v1/units/01969", "/readyz"):
            answer = await away.get(path)
            assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable"), path
            assert answer.headers["retry-after"] == "5"
            assert "127.0.0.1" not in answer.text
        assert (await away.get("/healthz")).status_code == 200


class TestReady:
    async def test_ready_means_migrated(self, client: AsyncClient) -> None:
        assert (await client.get("/readyz")).json()["status"] == "ready"


class TestIdempotency:
    async def test_a_post_without_a_key_is_refused_before_anything_happens(
        self, client: AsyncClient, session: AsyncSession
    ) -> None:
        key = await make.a_key(session)
        await session.commit()
        headers = {"Authorization": f"Bearer {key}"}
        for idempotency_key in (None, "", "with space", "x" * 256):
            extra = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
            answer = await client.post(ADDRESSES, json=await body_of(session), headers={**headers, **extra})
            assert (answer.status_code, answer.json()["type"]) == (400, "/problems/idempotency_key_missing")
        assert await session.scalar(select(func.count()).select_from(Dwelling)) == 0

    async def test_a_repeat_gets_the_same_bytes_and_changes_nothing(
        self, client: AsyncClient, session: AsyncSession
    ) -> None:
        key = await make.a_key(session)
        await session.commit()
        body = await body_of(session)

        first = await client.post(ADDRESSES, json=body, headers=make.auth(key, "k1"))
        again = await client.post(ADDRESSES, json=body, headers=make.auth(key, "k1"))

        assert (first.status_code, again.status_code) == (201, 201)
        assert first.content == again.content
        assert "idempotent-replayed" not in first.headers
        assert again.headers["idempotent-replayed"] == "true"
        assert again.headers["content-type"] == first.headers["content-type"]
        assert await session.scalar(select(func.count()).select_from(Dwelling)) == 1

    async def test_a_key_is_for_one_request_of_one_caller(self, client: AsyncClient, session: AsyncSession) -> None:
        key, other = await make.a_key(session), await make.a_key(session)
        await session.commit()
        await client.post(ADDRESSES, json=await body_of(session), headers=make.auth(key, "k1"))

        another_body = await client.post(ADDRESSES, json=await body_of(session, 50), headers=make.auth(key, "k1"))
        another_caller = await client.post(ADDRESSES, json=await body_of(session, 90), headers=make.auth(other, "k1"))

        assert (another_body.status_code, another_body.json()["type"]) == (422, "/problems/idempotency_key_reused")
        assert another_caller.status_code == 201

    async def test_a_refusal_is_kept_and_its_work_undone(self, client: AsyncClient, session: AsyncSession) -> None:
        key = await make.a_key(session)
        made = await make.an_address(session, current=False)
        await session.commit()
        url = f"{ADDRESSES}/{made.code}/retire"

        first = await client.post(url, json={"reason": "too early"}, headers=make.auth(key, "k1"))
        await make.post(client, key, f"{ADDRESSES}/{made.code}/issue")
        again = await client.post(url, json={"reason": "too early"}, headers=make.auth(key, "k1"))

        assert (first.status_code, again.status_code) == (409, 409)
        assert first.content == again.content
        assert again.headers["content-type"] == "application/problem+json"

    async def test_what_never_reached_the_work_is_not_kept(self, client: AsyncClient, session: AsyncSession) -> None:
        key = await make.a_key(session)
        await session.commit()
        wrong = await client.post(ADDRESSES, json={"unit": 1}, headers=make.auth(key, "k1"))
        right = await client.post(ADDRESSES, json=await body_of(session), headers=make.auth(key, "k1"))
        assert (wrong.status_code, right.status_code) == (400, 201)
        nobody = await client.post(ADDRESSES, json={}, headers={"Idempotency-Key": "k2"})
        assert nobody.status_code == 401

    async def test_keys_are_forgotten_after_their_time_and_not_before(self, session: AsyncSession) -> None:
        for days in (29, 36):
            session.add(
                IdempotencyRecord(
                    caller="c",
                    key=str(days),
                    fingerprint=b"",
                    status=201,
                    headers={},
                    body=b"",
                    created_at=func.now() - func.make_interval(0, 0, 0, days),
                )
            )
        await session.flush()
        assert await jobs.forget_old_keys(session) == 1
        assert (await session.scalars(select(IdempotencyRecord.key))).all() == ["29"]


class Slow(DomainError):
    """Somebody else is at it; ask again after Retry-After."""

    code = "tests_slow"
    title = "Đang bận"


class Outside:
    """Whoever a flow calls outside.  ``then`` is what comes of each call, by its number; ``barred`` may not ask."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.barred = ""
        self.then: Callable[[int], Awaitable[dict[str, Any]]] = self.does

    async def does(self, call: int) -> dict[str, Any]:
        return {"call": call}

    async def raises(self, error: Exception, call: int) -> dict[str, Any]:
        """Break at the first call alone."""
        if call == 1:
            raise error
        return {"call": call}


class Held:
    """A call that does not come back until it is let go."""

    def __init__(self) -> None:
        self.begun, self.go = asyncio.Event(), asyncio.Event()

    async def first(self, call: int) -> dict[str, Any]:
        if call == 1:
            self.begun.set()
            await self.go.wait()
        return {"call": call}


def flow_app(outside: Outside, sessions: Sessions) -> Litestar:
    """An application with one keyed flow, that tells callers apart by a header."""

    def who(app: ASGIApp) -> ASGIApp:
        async def known(scope: Scope, receive: Receive, send: Send) -> None:
            name = dict(scope["headers"]).get(b"x-who", b"").decode()
            scope["user"] = SimpleNamespace(id=name) if name else None
            await app(scope, receive, send)

        return known

    async def welcome(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        if connection.scope["user"].id == outside.barred:
            raise Forbidden("Not any more.")

    @post("/pay", guards=[welcome], opt={"flow": True, "keyed": True})
    async def pay(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
        outside.keys.append(request_key(request))
        made = await outside.then(len(outside.keys))
        headers = {"Location": f"/pay/{made['call']}", "Cache-Control": "no-store"}
        return Response(made, status_code=201, headers=headers)

    return Litestar(
        route_handlers=[pay],
        middleware=[who, UnitOfWork(sessions, b"secret")],
        exception_handlers=EXCEPTION_HANDLERS,
        openapi_config=None,
    )


class TestKeyedFlows:
    """A route whose flow calls somebody outside between transactions of its own: one key is one answer."""

    @pytest.fixture
    def outside(self) -> Outside:
        return Outside()

    @pytest.fixture
    async def shop(self, outside: Outside, sessions: Sessions) -> AsyncIterator[AsyncClient]:
        transport = ASGITransport(app=flow_app(outside, sessions), raise_app_exceptions=False)  # type: ignore[arg-type]
        async with AsyncClient(transport=transport, base_url="http://t") as client:
            yield client

    async def ask(self, shop: AsyncClient, key: str = "k1", body: str = "{}", who: str = "an") -> HttpAnswer:
        return await shop.post("/pay", content=body, headers={"Idempotency-Key": key, "X-Who": who})

    async def died(self, session: AsyncSession) -> None:
        """What a process leaves that dies in the middle, after its claim has run out."""
        await session.execute(
            update(IdempotencyRecord).values(
                status=IN_FLIGHT, headers={}, body=b"", in_flight_until=func.now() - timedelta(seconds=1)
            )
        )
        await session.commit()

    async def test_a_repeat_gets_the_same_bytes_and_calls_nobody(self, shop: AsyncClient, outside: Outside) -> None:
        first, again = await self.ask(shop), await self.ask(shop)
        assert (first.status_code, again.status_code) == (201, 201)
        assert first.content == again.content == b'{"call":1}'
        assert (first.headers.get("idempotent-replayed"), again.headers["idempotent-replayed"]) == (None, "true")
        for name in ("location", "content-type"):
            assert again.headers[name] == first.headers[name]
        assert outside.keys == ["an\0k1"]

    async def test_a_key_is_of_one_caller_and_the_flow_is_told_it(self, shop: AsyncClient, outside: Outside) -> None:
        answers = [await self.ask(shop, who="an"), await self.ask(shop, who="binh"), await self.ask(shop, key="k2")]
        assert [answer.json()["call"] for answer in answers] == [1, 2, 3]
        assert len(set(outside.keys)) == 3
        without = await shop.post("/pay", content="{}", headers={"X-Who": "an"})
        assert (without.status_code, without.json()["type"]) == (400, "/problems/idempotency_key_missing")
        assert len(outside.keys) == 3

    async def test_another_request_with_the_key_is_refused(self, shop: AsyncClient, outside: Outside) -> None:
        await self.ask(shop, body='{"a":1}')
        other = await self.ask(shop, body='{"a":2}')
        assert (other.status_code, other.json()["type"]) == (422, "/problems/idempotency_key_reused")
        assert len(outside.keys) == 1

    async def test_while_it_is_worked_on_a_repeat_is_told_to_wait(self, shop: AsyncClient, outside: Outside) -> None:
        held = Held()
        outside.then = held.first
        working = asyncio.create_task(self.ask(shop))
        await held.begun.wait()
        same, other = await self.ask(shop), await self.ask(shop, body="[]")
        held.go.set()
        first = await working
        again = await self.ask(shop)

        assert (same.status_code, same.json()["type"]) == (409, "/problems/idempotency_key_in_flight")
        assert same.headers["retry-after"] == "1"
        assert (other.status_code, other.json()["type"]) == (422, "/problems/idempotency_key_reused")
        assert (first.status_code, again.content, len(outside.keys)) == (201, first.content, 1)

    async def test_a_refusal_that_stands_is_kept(self, shop: AsyncClient, outside: Outside) -> None:
        outside.then = partial(outside.raises, NotFound("There is no such bill."))
        first, again = await self.ask(shop), await self.ask(shop)
        assert (first.status_code, again.status_code) == (404, 404)
        assert first.content == again.content
        assert again.headers["idempotent-replayed"] == "true"
        assert len(outside.keys) == 1

    @pytest.mark.parametrize(
        ("error", "status"),
        [
            (RuntimeError("a bug"), 500),
            (Unavailable("Away."), 503),
            (Unauthenticated("Sign in again."), 401),
            (Slow("Somebody else is at it.", retry_after=2), 409),
        ],
        ids=["bug", "away", "signed out", "come again"],
    )
    async def test_what_says_nothing_about_the_change_is_not(
        self, shop: AsyncClient, outside: Outside, session: AsyncSession, error: Exception, status: int
    ) -> None:
        outside.then = partial(outside.raises, error)
        first = await self.ask(shop)
        assert await session.scalar(select(func.count()).select_from(IdempotencyRecord)) == 0
        again = await self.ask(shop)
        assert (first.status_code, again.status_code) == (status, 201)
        assert outside.keys == ["an\0k1"] * 2

    async def test_a_guards_refusal_claims_nothing_and_nothing_is_replayed_past_it(
        self, shop: AsyncClient, outside: Outside, session: AsyncSession
    ) -> None:
        outside.barred = "an"
        refused = await self.ask(shop)
        assert await session.scalar(select(func.count()).select_from(IdempotencyRecord)) == 0
        outside.barred = ""
        let_in = await self.ask(shop)
        outside.barred = "an"
        again = await self.ask(shop)
        assert [answer.status_code for answer in (refused, let_in, again)] == [403, 201, 403]

    async def test_one_that_died_is_taken_up_by_the_same_request_alone(
        self, shop: AsyncClient, outside: Outside, session: AsyncSession
    ) -> None:
        await self.ask(shop)
        await self.died(session)
        other = await self.ask(shop, body="[]")
        taken, again = await self.ask(shop), await self.ask(shop)
        assert (other.status_code, other.json()["type"]) == (422, "/problems/idempotency_key_reused")
        assert (taken.status_code, taken.json(), again.content) == (201, {"call": 2}, taken.content)
        assert outside.keys == ["an\0k1"] * 2

    async def test_one_that_was_only_slow_gives_the_answer_of_who_took_it_over(
        self, shop: AsyncClient, outside: Outside, session: AsyncSession
    ) -> None:
        held = Held()
        outside.then = held.first
        working = asyncio.create_task(self.ask(shop))
        await held.begun.wait()
        await self.died(session)
        taken = await self.ask(shop)
        held.go.set()
        slow, again = await working, await self.ask(shop)
        assert taken.json() == {"call": 2}
        assert slow.content == again.content == taken.content
        assert len(outside.keys) == 2

    async def test_one_that_fails_late_leaves_the_claim_of_who_took_it_over(
        self, shop: AsyncClient, outside: Outside, session: AsyncSession
    ) -> None:
        held, other = Held(), Held()

        async def both(call: int) -> dict[str, Any]:
            if call == 1:
                await held.first(1)
                raise RuntimeError("too late")
            return await other.first(call - 1)

        outside.then = both
        working = asyncio.create_task(self.ask(shop))
        await held.begun.wait()
        await self.died(session)
        taking = asyncio.create_task(self.ask(shop))
        await other.begun.wait()
        held.go.set()
        failed, meanwhile = await working, await self.ask(shop)
        other.go.set()
        taken = await taking
        assert [answer.status_code for answer in (failed, meanwhile, taken)] == [500, 409, 201]
        assert (await self.ask(shop)).content == taken.content
        assert len(outside.keys) == 2

    async def test_nothing_is_kept_of_who_was_erased_meanwhile(
        self, shop: AsyncClient, outside: Outside, session: AsyncSession
    ) -> None:
        held = Held()
        outside.then = held.first
        working = asyncio.create_task(self.ask(shop))
        await held.begun.wait()
        await session.execute(delete(IdempotencyRecord))
        await session.commit()
        held.go.set()
        assert (await working).status_code == 201
        assert await session.scalar(select(func.count()).select_from(IdempotencyRecord)) == 0

    async def test_fifty_at_once_have_one_effect(self, outside: Outside, own_database: str) -> None:
        engine = open_engine(own_database)

        async def slowly(call: int) -> dict[str, Any]:
            await asyncio.sleep(0.05)
            return {"call": call}

        outside.then = slowly
        transport = ASGITransport(app=flow_app(outside, sessions_of(engine)))  # type: ignore[arg-type]
        async with AsyncClient(transport=transport, base_url="http://t") as shop:
            answers = await asyncio.gather(*(self.ask(shop) for _ in range(50)))
            after = await self.ask(shop)
        await engine.dispose()
        made = [answer for answer in answers if answer.status_code == 201]
        assert {answer.status_code for answer in answers} <= {201, 409}
        assert {answer.content for answer in [*made, after]} == {b'{"call":1}'}
        assert [answer for answer in made if "idempotent-replayed" not in answer.headers] == made[:1]
        assert outside.keys == ["an\0k1"]
