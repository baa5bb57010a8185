"""Sessions of browsers: how long they last, who may send a change with them, how they end."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.guards import COOKIE
from bkapp.access.models import DataRead
from bkapp.access.rules import Role
from bkapp.audit.models import AuditEntry
from bkapp.config import Settings
from bkapp.db import Sessions
from bkapp.http import today
from bkapp.identity import operations
from bkapp.identity.models import Person, SignIn, UsedToken
from bkapp.identity.providers import Logout, ProviderUnavailable, SignInRefused
from bkapp.identity.rules import (
    BROWSER_IDLE,
    BROWSER_LASTS,
    NOT_TOLD,
    OFFICE_IDLE,
    OFFICE_LASTS,
    EndReason,
    csrf_token,
)
from bkapp.units import queries as units
from tests import make as addresses
from tests.identity import make

MINUTE = timedelta(minutes=1)


async def signed_in(client: Any, secret: str) -> bool:
    answer = await client.get("/api/v1/session", headers={"Cookie": f"{COOKIE}={secret}"})
    assert answer.status_code == 200
    return bool(answer.json()["signed_in"])


# --- how long ---------------------------------------------------------------------------------------------------


async def test_a_session_ends_by_idleness_and_by_age(
    settings: Settings, sessions: Sessions, session: AsyncSession
) -> None:
    person = await make.a_person(session)
    officer = await make.a_person(session, role=Role.OFFICER, unit=addresses.COMMUNE)
    # Who is idle, since when they are signed in, whether they still are.
    cases = [
        (person, BROWSER_IDLE - MINUTE, BROWSER_IDLE, True),
        (person, BROWSER_IDLE + MINUTE, BROWSER_IDLE + MINUTE, False),
        (person, timedelta(0), BROWSER_LASTS - MINUTE, True),
        (person, timedelta(0), BROWSER_LASTS + MINUTE, False),
        (officer, OFFICE_IDLE - MINUTE, OFFICE_IDLE, True),
        (officer, OFFICE_IDLE + MINUTE, OFFICE_IDLE + MINUTE, False),
        (officer, timedelta(0), OFFICE_LASTS - MINUTE, True),
        # Signed in before the office was given, for thirty days: the office shortens that.
        (officer, timedelta(0), OFFICE_LASTS + MINUTE, False),
    ]
    secrets = [await make.a_sign_in(session, who, idle=idle, age=age) for who, idle, age, _ in cases]
    await session.commit()
    async with make.visiting(settings, sessions) as client:
        found = [await signed_in(client, secret) for secret in secrets]
    assert found == [good for *_, good in cases]


async def test_use_keeps_a_session_from_idling_and_never_makes_it_longer(
    settings: Settings, sessions: Sessions, session: AsyncSession
) -> None:
    secret = await make.a_sign_in(session, await make.a_person(session), idle=timedelta(days=3))
    fresh = await make.a_sign_in(session, await make.a_person(session), idle=timedelta(seconds=30))
    await session.commit()
    before, untouched = await make.of_secret(session, secret), await make.of_secret(session, fresh)
    seen, ends, recently = before.seen_at, before.expires_at, untouched.seen_at
    async with make.visiting(settings, sessions) as client:
        for _ in range(2):
            assert await signed_in(client, secret)
            assert await signed_in(client, fresh)
    after = await make.of_secret(session, secret)
    assert after.seen_at - seen > timedelta(days=2)
    assert after.expires_at == ends
    # Within a minute nothing is written.
    assert (await make.of_secret(session, fresh)).seen_at == recently


async def test_no_session_is_no_error(settings: Settings, sessions: Sessions, session: AsyncSession) -> None:
    key = await addresses.a_key(session)
    await session.commit()
    async with make.visiting(settings, sessions) as client:
        answers = [
            await client.get("/api/v1/session"),
            await client.get("/api/v1/session", headers={"Cookie": f"{COOKIE}={'a' * 43}"}),
            await client.get("/api/v1/session", headers={"Cookie": f"{COOKIE}=short; {COOKIE}=twice"}),
            await client.get("/api/v1/session", headers={"Authorization": f"Bearer {key}"}),
        ]
        refused = await client.get("/api/v1/me", headers={"Cookie": f"{COOKIE}={'a' * 43}"})
        keyed = await client.get("/api/v1/me", headers={"Authorization": f"Bearer {key}"})
    for answer in answers:
        assert (answer.status_code, answer.json()["signed_in"], answer.json()["csrf_token"]) == (200, False, None)
        assert answer.headers["cache-control"] == "no-store"
    assert (refused.status_code, keyed.status_code) == (401, 403)


# --- who sends it -----------------------------------------------------------------------------------------------

SELF = "http://bkapp.test"
# What a browser says of where a request comes from, and whether a change is made of it.
PAGES: list[tuple[dict[str, Any], bool]] = [
    ({"Sec-Fetch-Site": "same-origin"}, True),
    ({"Sec-Fetch-Site": "same-origin", "Origin": SELF}, True),
    ({"Origin": SELF}, True),
    ({"Sec-Fetch-Site": "cross-site"}, False),
    ({"Sec-Fetch-Site": "cross-site", "Origin": SELF}, False),
    ({"Sec-Fetch-Site": "same-site"}, False),
    ({"Sec-Fetch-Site": "none"}, False),
    ({"Origin": "https://evil.test"}, False),
    ({"Origin": "http://bkapp.test.evil.test"}, False),
    ({"Origin": "https://bkapp.test"}, False),
    ({"Origin": "http://bkapp.test:81"}, False),
    ({"Origin": "null"}, False),
    ({"Sec-Fetch-Site": "same-origin", "Origin": "https://evil.test"}, False),
    ({}, False),
    ({"X-CSRF-Token": "token"}, True),
    ({"X-CSRF-Token": "wrong"}, False),
    ({"X-CSRF-Token": ""}, False),
    ({"X-CSRF-Token": b"\xe9"}, False),
    ({"Sec-Fetch-Site": "cross-site", "X-CSRF-Token": "token"}, False),
]


@pytest.mark.parametrize(("said", "good"), PAGES, ids=str)
async def test_a_change_comes_from_a_page_of_ours(
    settings: Settings, sessions: Sessions, session: AsyncSession, said: dict[str, Any], good: object
) -> None:
    secret = await make.a_sign_in(session, await make.a_person(session, phone="+84912345678"))
    await session.commit()
    said = {name: csrf_token(secret) if value == "token" else value for name, value in said.items()}
    headers = {"Cookie": f"{COOKIE}={secret}", "Idempotency-Key": uuid4().hex, **said}
    async with make.visiting(settings, sessions) as client:
        shown = await client.get("/api/v1/session", headers=headers)
        changed = await client.post("/api/v1/me/phone", headers=headers, json={"phone": None})
        left = await client.post("/dang-xuat", headers=headers)
        still = await signed_in(client, secret)
    assert shown.json()["csrf_token"] == csrf_token(secret)
    if good:
        assert (changed.status_code, left.status_code, still) == (204, 303, False)
    else:
        assert (changed.status_code, changed.json()["type"]) == (403, "/problems/foreign_page")
        assert (left.status_code, still) == (403, True)


async def test_cookies_in_headers_of_their_own_are_read_together(
    settings: Settings, sessions: Sessions, session: AsyncSession
) -> None:
    """As HTTP/2 may send them (RFC 9113 §8.2.3)."""
    secret = await make.a_sign_in(session, await make.a_person(session))
    await session.commit()
    async with make.visiting(settings, sessions) as client:
        answer = await client.get("/api/v1/session", headers=[("Cookie", "a=b"), ("Cookie", f"{COOKIE}={secret}")])
    assert answer.json()["csrf_token"] == csrf_token(secret)


async def test_no_cache_keeps_what_somebody_known_was_answered(
    settings: Settings, sessions: Sessions, session: AsyncSession
) -> None:
    secret = await make.a_sign_in(session, await make.a_person(session))
    key = await addresses.a_key(session)
    made = await addresses.an_address(session)
    await session.commit()
    exact = f"/api/v1/addresses/{made.code}"
    async with make.visiting(settings, sessions) as client:
        for headers in (make.cookie_headers(secret), {"Authorization": f"Bearer {key}"}):
            for path in (exact, "/api/v1/units/01969", "/api/v1/me/devices", f"/c/{made.code}"):
                for ask in (client.get, client.head):
                    told = await ask(path, headers=headers)
                    assert told.headers.get_list("cache-control") == ["no-store"], path
        assert "cache-control" not in (await client.get(exact)).headers
        style = await client.get("/static/style.css", headers=make.cookie_headers(secret))
        assert "public" in style.headers["cache-control"]


async def test_routes_that_act_for_nobody_take_foreign_requests(
    settings: Settings, sessions: Sessions, session: AsyncSession
) -> None:
    secret = await make.a_sign_in(session, await make.a_person(session))
    await session.commit()
    foreign = {"Cookie": f"{COOKIE}={secret}", "Sec-Fetch-Site": "cross-site", "Origin": "https://eid.test"}
    provider = make.SayingProvider()
    provider.logout = a_logout()
    async with make.visiting(settings, sessions, provider) as client:
        told = await client.post("/dang-nhap/thong-bao", headers=foreign, data={"logout_token": "t"})
        token = await client.post("/api/v1/token", headers=foreign, data={"grant_type": "refresh_token"})
    assert told.status_code == 200
    assert token.json()["error"] == "invalid_request"


async def test_a_cookie_beside_a_key_counts_for_nothing(
    settings: Settings, sessions: Sessions, session: AsyncSession
) -> None:
    secret = await make.a_sign_in(session, await make.a_person(session))
    await session.commit()
    async with make.visiting(settings, sessions) as client:
        answer = await client.get(
            "/api/v1/me", headers={"Cookie": f"{COOKIE}={secret}", "Authorization": "Bearer bk_x"}
        )
    assert answer.status_code == 401


# --- own data ---------------------------------------------------------------------------------------------------


async def test_a_person_sees_what_is_kept_of_them_and_that_is_recorded(
    settings: Settings, sessions: Sessions, session: AsyncSession
) -> None:
    number = make.a_number()
    person = await make.a_person(session, number=number, role=Role.OFFICER, unit=addresses.COMMUNE)
    secret = await make.a_sign_in(session, person)
    await session.commit()
    async with make.visiting(settings, sessions) as client:
        me = await client.get("/api/v1/me", headers=make.cookie_headers(secret))
        full = await client.get("/api/v1/me?full=true", headers=make.cookie_headers(secret))
    assert me.headers["cache-control"] == "no-store"
    body = me.json()
    assert (body["name"], body["birth"], body["number"]) == ("Nông Văn Bảo", "1984-03-09", "•" * 9 + number[-3:])
    assert (body["office"]["role"], body["office"]["unit"]) == ("officer", addresses.COMMUNE)
    assert full.json()["number"] == number
    reads = (await session.execute(select(DataRead.reader, DataRead.subject, DataRead.what))).all()
    assert [tuple(read) for read in reads] == [(str(person), str(person), "/api/v1/me")] * 2


async def test_the_whole_number_needs_a_recent_sign_in(
    settings: Settings, sessions: Sessions, session: AsyncSession
) -> None:
    secret = await make.a_sign_in(session, await make.a_person(session), age=timedelta(minutes=6))
    await session.commit()
    async with make.visiting(settings, sessions) as client:
        masked = await client.get("/api/v1/me", headers=make.cookie_headers(secret))
        refused = await client.get("/api/v1/me?full=true", headers=make.cookie_headers(secret))
    assert masked.status_code == 200
    assert (refused.status_code, refused.json()["type"]) == (401, "/problems/insufficient_user_authentication")
    challenge = refused.headers["www-authenticate"]
    assert 'error="insufficient_user_authentication"' in challenge
    assert 'max_age="300"' in challenge


async def test_a_sign_in_of_which_nobody_told_when_is_not_recent(
    settings: Settings, sessions: Sessions, session: AsyncSession
) -> None:
    provider = make.SayingProvider(make.an_identity(authenticated_at=NOT_TOLD))
    async with make.visiting(settings, sessions, provider) as client:
        headers = make.cookie_headers(make.cookie_value(await make.signing_in(client), COOKIE))
        shown = await client.get("/api/v1/session", headers=headers)
        refused = await client.get("/api/v1/me?full=true", headers=headers)
    assert (shown.json()["signed_in"], shown.json()["authenticated_at"]) == (True, None)
    assert (refused.status_code, refused.json()["type"]) == (401, "/problems/insufficient_user_authentication")


async def test_stepping_up_makes_a_session_recent(
    settings: Settings, sessions: Sessions, session: AsyncSession
) -> None:
    identity = make.an_identity()
    person = await make.a_person(session, number=identity.number)
    old = await make.a_sign_in(session, person, age=timedelta(hours=1))
    await session.commit()
    provider = make.SayingProvider(identity)
    async with make.visiting(settings, sessions, provider) as client:
        back = await make.signing_in(client, start="/dang-nhap?max_age=300&next=/toi", secret=old)
        new = make.cookie_value(back, COOKIE)
        full = await client.get("/api/v1/me?full=true", headers=make.cookie_headers(new))
        assert not await signed_in(client, old)
    assert provider.finished[0]["max_age"] == 300
    assert full.status_code == 200


async def test_a_person_of_low_assurance_sees_their_own_and_holds_no_office(
    settings: Settings, sessions: Sessions, session: AsyncSession
) -> None:
    admin = await make.a_person(session, role=Role.ADMIN)
    low, high = await make.a_sign_in(session, admin, level=1), await make.a_sign_in(session, admin)
    await session.commit()
    async with make.visiting(settings, sessions) as client:
        shown = [(await client.get("/api/v1/session", headers=make.cookie_headers(s))).json() for s in (low, high)]
        me = await client.get("/api/v1/me", headers=make.cookie_headers(low))
    assert [(one["role"], one["level"]) for one in shown] == [("citizen", 1), ("admin", 2)]
    assert me.status_code == 200


# --- devices ----------------------------------------------------------------------------------------------------


async def test_a_device_can_be_signed_out_from_another_at_once(
    settings: Settings, sessions: Sessions, session: AsyncSession
) -> None:
    person, stranger = await make.a_person(session), await make.a_person(session)
    here, there = await make.a_sign_in(session, person), await make.a_sign_in(session, person, idle=timedelta(hours=5))
    app = await make.a_native_sign_in(session, person)
    theirs = await make.a_sign_in(session, stranger)
    over = await make.a_sign_in(session, person, age=BROWSER_LASTS + MINUTE)
    await session.commit()
    lost = str((await make.of_secret(session, there)).id)
    async with make.visiting(settings, sessions) as client:
        listed = (await client.get("/api/v1/me/devices", headers=make.cookie_headers(here))).json()["devices"]
        foreign = await client.delete(f"/api/v1/me/devices/{lost}", headers=make.cookie_headers(theirs))
        unknown = await client.delete(f"/api/v1/me/devices/{uuid4()}", headers=make.cookie_headers(here))
        assert await signed_in(client, there)
        gone = [await client.delete(f"/api/v1/me/devices/{lost}", headers=make.cookie_headers(here)) for _ in range(2)]
        assert not await signed_in(client, there)
        assert await signed_in(client, here)
        assert (await client.get("/api/v1/me", headers=make.bearer(app))).status_code == 200
    assert [device["this"] for device in listed].count(True) == 1
    assert len(listed) == 3
    assert str((await make.of_secret(session, over)).id) not in {device["id"] for device in listed}
    assert all(device["seen_at"].endswith(":00Z") and device["seen_at"][-5] == "0" for device in listed)
    assert (foreign.status_code, unknown.status_code) == (404, 404)
    assert [answer.status_code for answer in gone] == [204, 204]
    assert (await make.of_secret(session, there)).end_reason is EndReason.REMOTE
    entries = (await session.scalars(select(AuditEntry).where(AuditEntry.kind == "device_signed_out"))).all()
    assert [entry.subject for entry in entries] == [str(person)]


async def test_signing_out_everywhere_ends_all_and_nobody_elses(
    settings: Settings, sessions: Sessions, session: AsyncSession
) -> None:
    person, stranger = await make.a_person(session), await make.a_person(session)
    own = [await make.a_sign_in(session, person) for _ in range(3)]
    app = await make.a_native_sign_in(session, person)
    theirs = await make.a_sign_in(session, stranger)
    await session.commit()
    async with make.visiting(settings, sessions) as client:
        done = await client.post("/api/v1/me/sign-out-everywhere", headers=make.cookie_headers(own[0]))
        left = [await signed_in(client, secret) for secret in [*own, theirs]]
        with_token = await client.get("/api/v1/me", headers=make.bearer(app))
    assert (done.status_code, done.json()) == (200, {"ended": 4})
    assert "Max-Age=0" in make.set_cookies(done)[COOKIE]
    assert left == [False, False, False, True]
    assert with_token.status_code == 401
    assert 'error="invalid_token"' in with_token.headers["www-authenticate"]


async def test_signing_out_ends_the_session_here_and_at_the_provider(
    settings: Settings, sessions: Sessions, session: AsyncSession
) -> None:
    person = await make.a_person(session)
    secret, other = await make.a_sign_in(session, person), await make.a_sign_in(session, person)
    await session.commit()
    provider = make.SayingProvider()
    async with make.visiting(settings, sessions, provider) as client:
        left = await client.post("/dang-xuat", headers=make.cookie_headers(secret))
        again = await client.post("/dang-xuat", headers=make.cookie_headers(secret))
        provider.refusal = ProviderUnavailable("down", reason="timeout")
        without = await client.post("/dang-xuat", headers=make.cookie_headers(other))
        assert not await signed_in(client, secret)
        assert not await signed_in(client, other)
    assert (left.status_code, left.headers["location"].partition("?")[0]) == (303, "https://eid.test/logout")
    cleared = make.set_cookies(left)[COOKIE].lower()
    assert all(word in cleared for word in ('=""', "max-age=0", "path=/", "secure", "httponly")), cleared
    assert [(answer.status_code, answer.headers["location"]) for answer in (again, without)] == [(303, "/")] * 2
    assert (await make.of_secret(session, secret)).end_reason is EndReason.SIGNED_OUT


# --- the provider says so ---------------------------------------------------------------------------------------


def a_logout(**told: Any) -> Logout:
    return Logout(
        **{
            "issuer": make.ISSUER,
            "subject": None,
            "provider_sid": "sid",
            "jti": uuid4().hex,
            "expires_at": datetime.now(UTC) + timedelta(minutes=2),
            **told,
        }
    )


async def test_a_logout_at_the_provider_ends_sessions_here(
    settings: Settings, sessions: Sessions, session: AsyncSession
) -> None:
    identity = make.an_identity()
    person = await make.a_person(session, number=identity.number)
    await operations.recognise(session, make.KEYRING, identity, is_demo=False)
    stranger = await make.a_person(session)
    by_sid = await make.a_sign_in(session, person, provider_sid="sid")
    by_subject = await make.a_sign_in(session, person, provider_sid="other")
    elsewhere = await make.a_sign_in(session, person, provider_sid="sid", issuer="https://other.test")
    theirs = await make.a_sign_in(session, stranger, provider_sid="theirs")
    await session.commit()
    provider = make.SayingProvider()
    async with make.visiting(settings, sessions, provider) as client:

        async def told(logout: Logout) -> int:
            provider.logout = logout
            return (await client.post("/dang-nhap/thong-bao", data={"logout_token": "t"})).status_code

        async def live() -> list[bool]:
            return [await signed_in(client, secret) for secret in (by_sid, by_subject, elsewhere, theirs)]

        first = a_logout()
        assert (await told(first), await live()) == (200, [False, True, True, True])
        assert await told(first) == 400
        nobody = a_logout(provider_sid=None, subject="nobody")
        assert (await told(nobody), await live()) == (200, [False, True, True, True])
        whole = a_logout(provider_sid=None, subject=identity.subject, jti="a\x00b")
        assert (await told(whole), await live()) == (200, [False, False, True, True])
    ended = await make.of_secret(session, by_sid)
    assert ended.end_reason is EndReason.PROVIDER
    assert await session.scalar(select(func.count()).select_from(UsedToken)) == 3


async def test_a_logout_that_is_not_genuine_ends_nothing(
    settings: Settings, sessions: Sessions, session: AsyncSession
) -> None:
    secret = await make.a_sign_in(session, await make.a_person(session), provider_sid="sid")
    await session.commit()
    provider = make.SayingProvider()
    provider.logout = a_logout()
    provider.refusal = SignInRefused("no", reason="wrong_signature")
    async with make.visiting(settings, sessions, provider) as client:
        forged = await client.post("/dang-nhap/thong-bao", data={"logout_token": "t"})
        empty = await client.post("/dang-nhap/thong-bao", data={})
        twice = await client.post(
            "/dang-nhap/thong-bao",
            content="logout_token=a&logout_token=b",
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )
        assert await signed_in(client, secret)
    for answer in (forged, empty, twice):
        assert (answer.status_code, answer.headers["cache-control"]) == (400, "no-store")
        assert answer.headers["content-type"].startswith("application/problem+json")


# --- offices ----------------------------------------------------------------------------------------------------


async def test_an_office_counts_from_the_next_request_and_ends_at_once(
    settings: Settings, sessions: Sessions, session: AsyncSession
) -> None:
    number = make.a_number()
    person = await make.a_person(session, number=number)
    secret = await make.a_sign_in(session, person)
    inside = await addresses.an_address(session)
    await session.commit()
    exact = f"/api/v1/addresses/{inside.code}"
    async with make.visiting(settings, sessions) as client:

        async def look() -> tuple[str, int]:
            role = (await client.get("/api/v1/session", headers=make.cookie_headers(secret))).json()["role"]
            asked = await client.get("/api/v1/address-events?limit=1", headers=make.cookie_headers(secret))
            await client.get(exact, headers=make.cookie_headers(secret))
            return role, asked.status_code

        assert (await look())[0] == "citizen"
        assert await reads_of(session, person, inside.code) == 0
        unit = await units.unit_on(session, addresses.COMMUNE, today())
        assert unit is not None
        await operations.grant_office(
            session, make.KEYRING, number=number, role=Role.OFFICER, unit_id=unit.id, actor="t", now=datetime.now(UTC)
        )
        await session.commit()
        assert (await look())[0] == "officer"
        assert await reads_of(session, person, inside.code) == 1
        await operations.end_office(session, make.KEYRING, number=number, actor="t", now=datetime.now(UTC))
        await session.commit()
        assert (await look())[0] == "citizen"
        assert await reads_of(session, person, inside.code) == 1


async def test_an_answer_that_was_kept_is_not_told_again_once_the_office_has_ended(
    settings: Settings, sessions: Sessions, session: AsyncSession
) -> None:
    number = make.a_number()
    secret = await make.a_sign_in(session, await make.a_person(session, number=number))
    unit = await units.unit_on(session, addresses.COMMUNE, today())
    assert unit is not None
    await operations.grant_office(
        session, make.KEYRING, number=number, role=Role.OFFICER, unit_id=unit.id, actor="t", now=datetime.now(UTC)
    )
    place = await addresses.a_place(session)
    await session.commit()
    body = {"point": {"lon": place.lon, "lat": place.lat}, "unit": addresses.COMMUNE}
    headers = make.cookie_headers(secret, "k1")
    async with make.visiting(settings, sessions) as client:
        first = await client.post("/api/v1/addresses", headers=headers, json=body)
        again = await client.post("/api/v1/addresses", headers=headers, json=body)
        await operations.end_office(session, make.KEYRING, number=number, actor="t", now=datetime.now(UTC))
        await session.commit()
        after = await client.post("/api/v1/addresses", headers=headers, json=body)
    assert (first.status_code, again.content) == (201, first.content)
    assert (after.status_code, after.json()["type"]) == (403, "/problems/forbidden")


async def reads_of(session: AsyncSession, person: UUID, subject: str) -> int:
    """How often a person read an address by itself; lists and feeds are recorded beside."""
    wanted = select(func.count()).where(
        DataRead.reader == str(person), DataRead.subject == subject, DataRead.what == "/api/v1/addresses/{code}"
    )
    return (await session.execute(wanted)).scalar_one()


async def test_an_office_that_has_run_out_counts_for_nothing(
    settings: Settings, sessions: Sessions, session: AsyncSession
) -> None:
    number = make.a_number()
    secret = await make.a_sign_in(session, await make.a_person(session, number=number))
    ago = datetime.now(UTC) - timedelta(hours=1)
    await operations.grant_office(
        session, make.KEYRING, number=number, role=Role.ADMIN, unit_id=None, actor="t", expires_at=ago, now=ago - MINUTE
    )
    await session.commit()
    async with make.visiting(settings, sessions) as client:
        shown = (await client.get("/api/v1/session", headers=make.cookie_headers(secret))).json()
    assert shown["role"] == "citizen"
    # And is out of the way of the next one.
    await operations.grant_office(
        session, make.KEYRING, number=number, role=Role.MONITOR, unit_id=None, actor="t", now=datetime.now(UTC)
    )


async def test_notices_are_ones_own(settings: Settings, sessions: Sessions, session: AsyncSession) -> None:
    person, stranger = await make.a_person(session), await make.a_person(session)
    secret, theirs = await make.a_sign_in(session, person), await make.a_sign_in(session, stranger)
    await operations.tell(session, person, "new_device", device="Chrome trên Android")
    await session.commit()
    async with make.visiting(settings, sessions) as client:
        listed = (await client.get("/api/v1/me/notices", headers=make.cookie_headers(secret))).json()["notices"]
        nothing = (await client.get("/api/v1/me/notices", headers=make.cookie_headers(theirs))).json()["notices"]
        path = f"/api/v1/me/notices/{listed[0]['id']}/read"
        foreign = await client.post(path, headers=make.cookie_headers(theirs))
        read = [await client.post(path, headers=make.cookie_headers(secret)) for _ in range(2)]
        left = (await client.get("/api/v1/session", headers=make.cookie_headers(secret))).json()["unread_notices"]
    assert (len(listed), nothing, foreign.status_code, left) == (1, [], 404, 0)
    assert [answer.status_code for answer in read] == [200, 200]
    assert read[0].json()["read_at"] == read[1].json()["read_at"] is not None


async def test_an_erased_person_is_signed_out(settings: Settings, sessions: Sessions, session: AsyncSession) -> None:
    person = await make.a_person(session)
    secret = await make.a_sign_in(session, person)
    row = await session.get_one(Person, person)
    row.number_hmac = row.number_cipher = row.name_cipher = row.birth_cipher = None
    row.erased_at = datetime.now(UTC)
    await session.commit()
    async with make.visiting(settings, sessions) as client:
        assert not await signed_in(client, secret)
    ended = await operations.end_everywhere(
        session, person=person, actor="officer", reason=EndReason.ERASED, now=datetime.now(UTC)
    )
    assert ended == 1
    assert await session.scalar(select(SignIn.end_reason).where(SignIn.person_id == person)) is EndReason.ERASED
