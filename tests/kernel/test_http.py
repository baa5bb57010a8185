"""What holds for every answer: ids, headers, HEAD, problems, idempotency, limits."""

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import structlog
from httpx import ASGITransport, AsyncClient
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp import jobs
from bkapp.address.models import Dwelling
from bkapp.app import create_app
from bkapp.config import Settings, load_settings
from bkapp.db import Sessions, open_engine, readers_of, sessions_of
from bkapp.edge import Edge, caller_address
from bkapp.errors import refusals
from bkapp.http import IdempotencyRecord
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
