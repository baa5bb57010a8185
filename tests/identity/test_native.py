"""Native apps: a code once, refresh tokens in turn, families that die."""

import asyncio
import base64
import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from httpx import AsyncClient, Response
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.rules import Role
from bkapp.audit.models import AuditEntry
from bkapp.config import Settings
from bkapp.db import Lookups, Sessions, open_engine, sessions_of
from bkapp.households.queries import HOMES
from bkapp.identity import operations
from bkapp.identity.models import NativeCode, Notice, RefreshToken, SignIn
from bkapp.identity.providers import ProviderUnavailable, SignInDenied, SignInRefused
from bkapp.identity.queries import sign_ins
from bkapp.identity.rules import GRACE, NATIVE_IDLE, NATIVE_LASTS, OFFICE_LASTS, EndReason, SignInKind, hashed, proves
from tests.identity import make

REDIRECT = "bkapp://signed-in"
VERIFIER = "a-verifier-that-every-worker-of-the-tests-knows-alike"


def challenge_of(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


CHALLENGE = challenge_of(VERIFIER)
START = {
    "redirect_uri": REDIRECT,
    "code_challenge": CHALLENGE,
    "code_challenge_method": "S256",
    "state": "app-state",
}


def test_the_challenge_is_that_of_rfc_7636() -> None:
    verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    assert proves(verifier, "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM")
    assert not proves(verifier[:-1], "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM")
    assert not proves("", "")
    assert not proves("plain" * 10, "plain" * 10)


async def signed_in(client: AsyncClient, **start: str) -> Response:
    """The way of the system's browser; return the answer that leads back to the app."""
    query = "&".join(f"{name}={value}" for name, value in {**START, **start}.items())
    return await make.signing_in(client, start=f"/ung-dung/dang-nhap?{query}")


def answer_of(back: Response) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(back.headers["location"]).query).items()}


async def ask(client: AsyncClient, **form: str) -> Response:
    return await client.post("/api/v1/token", data=form)


async def exchanged(client: AsyncClient, code: str, **other: str) -> Response:
    form = {"grant_type": "authorization_code", "code": code, "code_verifier": VERIFIER, "redirect_uri": REDIRECT}
    return await ask(client, **{**form, **other})


async def refreshed(client: AsyncClient, token: str) -> Response:
    return await ask(client, grant_type="refresh_token", refresh_token=token)


async def tokens(client: AsyncClient) -> dict[str, Any]:
    given = await exchanged(client, answer_of(await signed_in(client))["code"])
    assert given.status_code == 200, given.text
    return dict(given.json())


async def works(client: AsyncClient, access: str) -> bool:
    answer = await client.get("/api/v1/me", headers=make.bearer(access))
    assert answer.status_code in {200, 401}
    return answer.status_code == 200


def refused(answer: Response, error: str = "invalid_grant") -> bool:
    body = answer.json()
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert answer.headers["cache-control"] == "no-store"
    return (answer.status_code, body["error"], body["type"]) == (400, error, f"/problems/{error}")


# --- signing in -------------------------------------------------------------------------------------------------


async def test_an_app_signs_its_person_in(settings: Settings, sessions: Sessions, session: AsyncSession) -> None:
    provider = make.SayingProvider()
    async with make.visiting(settings, sessions, provider) as client:
        back = await signed_in(client)
        answer = answer_of(back)
        given = await exchanged(client, answer["code"])
        body = given.json()
        seen = (await client.get("/api/v1/session", headers=make.bearer(body["access_token"]))).json()
        changed = await client.post("/api/v1/me/phone", headers=make.bearer(body["access_token"]), json={"phone": None})
        devices = (await client.get("/api/v1/me/devices", headers=make.bearer(body["access_token"]))).json()["devices"]

    assert back.status_code == 303
    assert back.headers["location"].startswith(f"{REDIRECT}?")
    assert (answer["state"], answer["iss"]) == ("app-state", "http://bkapp.test")
    assert "__Host-bkapp" not in make.set_cookies(back)
    assert (given.status_code, given.headers["cache-control"]) == (200, "no-store")
    assert (body["token_type"], body["expires_in"]) == ("Bearer", 300)
    assert abs(body["refresh_expires_in"] - NATIVE_LASTS.total_seconds()) < 60
    assert (seen["signed_in"], seen["csrf_token"]) == (True, None)
    assert changed.status_code == 204
    assert [(device["kind"], device["this"], device["device"]) for device in devices] == [
        ("native", True, "Ứng dụng trên Android")
    ]
    for kept in (body["refresh_token"], answer["code"]):
        for table in (RefreshToken, NativeCode):
            assert kept.encode() not in b"".join((await session.scalars(select(table.hash))).all())


@pytest.mark.parametrize(
    "wrong",
    [
        {"redirect_uri": "bkapp://signed-in/"},
        {"redirect_uri": "bkapp://signed-in?x=y"},
        {"redirect_uri": "https://evil.test/"},
        {"redirect_uri": ""},
        {"redirect_uri": "BKAPP://signed-in"},
        {"code_challenge": ""},
        {"code_challenge": "short"},
        {"code_challenge": CHALLENGE + "="},
        {"code_challenge_method": "plain"},
        {"code_challenge_method": ""},
        {"state": "x" * 513},
        {"state": "%0d%0a"},
    ],
    ids=str,
)
async def test_an_app_that_is_not_ours_is_never_called_back(
    settings: Settings, sessions: Sessions, wrong: dict[str, str]
) -> None:
    provider = make.SayingProvider()
    async with make.visiting(settings, sessions, provider) as client:
        query = "&".join(f"{name}={value}" for name, value in {**START, **wrong}.items())
        answer = await client.get(f"/ung-dung/dang-nhap?{query}")
    assert (answer.status_code, answer.json()["type"]) == (400, "/problems/malformed")
    assert not provider.begun


@pytest.mark.parametrize(
    ("refusal", "error"),
    [(SignInDenied("no"), "access_denied"), (ProviderUnavailable("x", reason="y"), "temporarily_unavailable")],
)
async def test_an_app_is_told_that_it_did_not_work(
    settings: Settings, sessions: Sessions, refusal: Exception, error: str
) -> None:
    provider = make.SayingProvider()
    async with make.visiting(settings, sessions, provider) as client:
        away = await client.get("/ung-dung/dang-nhap", params=START)
        provider.refusal = refusal
        back = await client.get(
            "/dang-nhap/ve",
            params={"code": "c", "state": provider.begun[0]["state"]},
            headers={"Cookie": f"__Host-bkapp-login={make.cookie_value(away, '__Host-bkapp-login')}"},
        )
    assert answer_of(back) == {"error": error, "state": "app-state", "iss": "http://bkapp.test"}


async def test_what_does_not_prove_anybody_is_not_told_to_the_app(settings: Settings, sessions: Sessions) -> None:
    provider = make.SayingProvider()
    async with make.visiting(settings, sessions, provider) as client:
        away = await client.get("/ung-dung/dang-nhap", params=START)
        provider.refusal = SignInRefused("forged", reason="wrong_signature")
        back = await client.get(
            "/dang-nhap/ve",
            params={"code": "c", "state": provider.begun[0]["state"]},
            headers={"Cookie": f"__Host-bkapp-login={make.cookie_value(away, '__Host-bkapp-login')}"},
        )
    assert back.status_code == 400


# --- codes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [{"code_verifier": "x" * 43}, {"redirect_uri": "bkapp://other"}, {"code": "a" * 43}, {"code": "\x00"}],
    ids=str,
)
async def test_a_code_is_good_for_its_app_alone_and_is_spent(
    settings: Settings, sessions: Sessions, wrong: dict[str, str]
) -> None:
    async with make.visiting(settings, sessions, make.SayingProvider()) as client:
        code = answer_of(await signed_in(client))["code"]
        assert refused(await exchanged(client, **{"code": code, **wrong}))
        again = await exchanged(client, code)
        assert again.status_code == 200 if "code" in wrong else refused(again)


async def test_a_code_lives_for_a_minute(settings: Settings, sessions: Sessions, session: AsyncSession) -> None:
    async with make.visiting(settings, sessions, make.SayingProvider()) as client:
        code = answer_of(await signed_in(client))["code"]
        await session.execute(update(NativeCode).values(expires_at=datetime.now(UTC)))
        await session.commit()
        assert refused(await exchanged(client, code))


async def test_a_code_that_comes_twice_ends_what_it_gave(
    settings: Settings, sessions: Sessions, session: AsyncSession
) -> None:
    async with make.visiting(settings, sessions, make.SayingProvider()) as client:
        code = answer_of(await signed_in(client))["code"]
        given = (await exchanged(client, code)).json()
        assert await works(client, given["access_token"])
        assert refused(await exchanged(client, code))
        assert not await works(client, given["access_token"])
        assert refused(await refreshed(client, given["refresh_token"]))
    assert (await session.scalars(select(SignIn.end_reason))).all() == [EndReason.REUSE]


async def test_a_code_that_no_app_fetches_leaves_nobody_signed_in(
    settings: Settings, sessions: Sessions, session: AsyncSession
) -> None:
    async with make.visiting(settings, sessions, make.SayingProvider()) as client:
        await signed_in(client)
    made = (await session.scalars(select(SignIn))).one()
    assert made.expires_at - made.created_at <= timedelta(minutes=1)


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({}, "invalid_request"),
        ({"grant_type": "password", "username": "a", "password": "b"}, "unsupported_grant_type"),
        ({"grant_type": "client_credentials"}, "unsupported_grant_type"),
        ({"grant_type": "authorization_code", "code": "c"}, "invalid_request"),
        ({"grant_type": "authorization_code", "code": "c", "redirect_uri": REDIRECT}, "invalid_request"),
        ({"grant_type": "refresh_token"}, "invalid_request"),
        ({"grant_type": "refresh_token", "refresh_token": "short"}, "invalid_grant"),
        ({"grant_type": "refresh_token", "refresh_token": "a" * 43}, "invalid_grant"),
        ({"grant_type": "refresh_token", "refresh_token": "é" * 43}, "invalid_grant"),
        ({"grant_type": "refresh_token", "refresh_token": "a" * 43, "client_id": "x"}, "invalid_grant"),
    ],
)
async def test_what_is_no_request_for_tokens_is_refused(
    settings: Settings, sessions: Sessions, form: dict[str, str], error: str
) -> None:
    async with make.visiting(settings, sessions) as client:
        assert refused(await ask(client, **form), error)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/x-www-form-urlencoded", b"grant_type=refresh_token&grant_type=refresh_token"),
        ("application/x-www-form-urlencoded", b"\xff\xfe=%ff%00&&&===&grant_type[]=x"),
        ("application/x-www-form-urlencoded; charset=none", b"grant_type=x"),
        ("application/json", b'{"grant_type": "refresh_token"}'),
        ("multipart/form-data", b"--"),
        ("", b""),
    ],
)
async def test_what_is_no_form_is_refused(settings: Settings, sessions: Sessions, kind: str, body: bytes) -> None:
    async with make.visiting(settings, sessions) as client:
        for path in ("/api/v1/token", "/dang-nhap/thong-bao"):
            answer = await client.post(path, content=body, headers={"Content-Type": kind})
            assert answer.status_code in {400, 404, 415}, answer.text


# --- refresh tokens ---------------------------------------------------------------------------------------------


async def test_a_refresh_token_gives_the_next_one(
    settings: Settings, sessions: Sessions, session: AsyncSession
) -> None:
    async with make.visiting(settings, sessions, make.SayingProvider()) as client:
        first = await tokens(client)
        second = (await refreshed(client, first["refresh_token"])).json()
        third = (await refreshed(client, second["refresh_token"])).json()
        assert await works(client, third["access_token"])
    assert len({first["refresh_token"], second["refresh_token"], third["refresh_token"]}) == 3
    # Use does not make it longer.
    assert third["refresh_expires_in"] <= second["refresh_expires_in"] <= first["refresh_expires_in"]
    made = (await session.scalars(select(SignIn))).one()
    assert made.expires_at - made.created_at == NATIVE_LASTS


async def test_a_lost_answer_can_be_asked_for_again(
    settings: Settings, sessions: Sessions, session: AsyncSession
) -> None:
    async with make.visiting(settings, sessions, make.SayingProvider()) as client:
        first = await tokens(client)
        one, again = [(await refreshed(client, first["refresh_token"])).json() for _ in range(2)]
    assert one["refresh_token"] == again["refresh_token"]
    assert one["access_token"] != again["access_token"]
    assert await session.scalar(select(func.count()).select_from(RefreshToken)) == 2
    kept = (await session.scalars(select(RefreshToken.successor_cipher))).all()
    assert one["refresh_token"].encode() not in b"".join(filter(None, kept))


async def make_late(session: AsyncSession, token: str) -> None:
    """As if a token had been rotated longer ago than the grace."""
    late = datetime.now(UTC) - GRACE - timedelta(seconds=1)
    await session.execute(update(RefreshToken).where(RefreshToken.hash == hashed(token)).values(rotated_at=late))
    await session.commit()


async def test_a_stolen_old_token_kills_the_family_and_the_citizen_is_told(
    settings: Settings, sessions: Sessions, session: AsyncSession
) -> None:
    async with make.visiting(settings, sessions, make.SayingProvider()) as client:
        first = await tokens(client)
        second = (await refreshed(client, first["refresh_token"])).json()
        await make_late(session, first["refresh_token"])

        assert refused(await refreshed(client, first["refresh_token"]))
        assert not await works(client, second["access_token"])
        assert refused(await refreshed(client, second["refresh_token"]))
        assert refused(await refreshed(client, first["refresh_token"]))
    made = (await session.scalars(select(SignIn))).one()
    assert made.end_reason is EndReason.REUSE
    told = (await session.scalars(select(Notice))).all()
    assert [(notice.kind, notice.person_id, notice.data["sign_in"]) for notice in told] == [
        ("token_reused", made.person_id, str(made.id))
    ]
    entries = (await session.scalars(select(AuditEntry.kind).order_by(AuditEntry.seq))).all()
    assert entries == ["sign_in", "token_reused"]


async def test_a_killed_family_does_not_revive_within_the_grace(
    settings: Settings, sessions: Sessions, session: AsyncSession
) -> None:
    async with make.visiting(settings, sessions, make.SayingProvider()) as client:
        first = await tokens(client)
        second = (await refreshed(client, first["refresh_token"])).json()
        await make_late(session, first["refresh_token"])
        # The second was rotated a moment ago and would give the third again, if its family were alive.
        third = (await refreshed(client, second["refresh_token"])).json()
        assert refused(await refreshed(client, first["refresh_token"]))
        for token in (second, third, first):
            assert refused(await refreshed(client, token["refresh_token"]))
            assert not await works(client, token["access_token"])
    assert await session.scalar(select(func.count()).select_from(Notice)) == 1


async def test_a_family_that_was_signed_out_is_over(settings: Settings, sessions: Sessions) -> None:
    async with make.visiting(settings, sessions, make.SayingProvider()) as client:
        first = await tokens(client)
        second = (await refreshed(client, first["refresh_token"])).json()
        left = await client.post("/dang-xuat", headers=make.bearer(second["access_token"]))
        assert left.status_code == 303
        for token in (first, second):
            assert refused(await refreshed(client, token["refresh_token"]))
            assert not await works(client, token["access_token"])


@pytest.mark.parametrize(
    "column", [{"expires_at": timedelta(seconds=1)}, {"seen_at": NATIVE_IDLE + timedelta(minutes=1)}], ids=str
)
async def test_a_family_ends_by_age_and_by_idleness(
    settings: Settings, sessions: Sessions, session: AsyncSession, column: dict[str, timedelta]
) -> None:
    async with make.visiting(settings, sessions, make.SayingProvider()) as client:
        first = await tokens(client)
        await session.execute(update(SignIn).values({name: datetime.now(UTC) - ago for name, ago in column.items()}))
        await session.commit()
        assert refused(await refreshed(client, first["refresh_token"]))
        assert not await works(client, first["access_token"])


async def test_an_office_shortens_an_apps_sign_in(
    settings: Settings, sessions: Sessions, session: AsyncSession
) -> None:
    identity = make.an_identity()
    await make.a_person(session, number=identity.number, role=Role.ADMIN)
    await session.commit()
    async with make.visiting(settings, sessions, make.SayingProvider(identity)) as client:
        first = await tokens(client)
        assert first["refresh_expires_in"] <= OFFICE_LASTS.total_seconds()
        old = datetime.now(UTC) - OFFICE_LASTS - timedelta(minutes=1)
        await session.execute(update(SignIn).values(created_at=old, expires_at=old + NATIVE_LASTS))
        await session.commit()
        assert refused(await refreshed(client, first["refresh_token"]))
        assert not await works(client, first["access_token"])


async def test_thirty_two_refreshes_at_once_log_nobody_out(own_database: str, settings: Settings) -> None:
    engine = open_engine(own_database)
    sessions = sessions_of(engine)
    lookup = Lookups(own_database, sign_ins(HOMES))
    async with make.visiting(settings, sessions, make.SayingProvider(), lookup) as client:
        given = await tokens(client)
        for _ in range(2):
            answers = await asyncio.gather(*(refreshed(client, given["refresh_token"]) for _ in range(32)))
            assert [answer.status_code for answer in answers] == [200] * 32
            bodies = [answer.json() for answer in answers]
            assert len({body["refresh_token"] for body in bodies}) == 1
            assert all(await asyncio.gather(*(works(client, body["access_token"]) for body in bodies)))
            given = bodies[0]
    async with sessions() as session:
        assert (await session.scalars(select(SignIn.ended_at))).all() == [None]
        assert await session.scalar(select(func.count()).select_from(RefreshToken)) == 3
        assert await session.scalar(select(func.count()).select_from(Notice)) == 0
    await lookup.close()
    await engine.dispose()


async def test_theft_is_noted_once_however_many_come_at_once(own_database: str, settings: Settings) -> None:
    engine = open_engine(own_database)
    sessions = sessions_of(engine)
    lookup = Lookups(own_database, sign_ins(HOMES))
    async with make.visiting(settings, sessions, make.SayingProvider(), lookup) as client:
        first = await tokens(client)
        second = (await refreshed(client, first["refresh_token"])).json()
        async with sessions() as session:
            await make_late(session, first["refresh_token"])
        sent = [first["refresh_token"], second["refresh_token"]] * 8
        await asyncio.gather(*(refreshed(client, token) for token in sent))
        # Whoever was first: afterwards nothing of the family is good.
        assert refused(await refreshed(client, second["refresh_token"]))
        assert not await works(client, second["access_token"])
    async with sessions() as session:
        assert (await session.scalars(select(SignIn.end_reason))).all() == [EndReason.REUSE]
        assert await session.scalar(select(func.count()).select_from(Notice)) == 1
    await lookup.close()
    await engine.dispose()


async def test_a_code_that_two_bring_at_once_leaves_nobody_with_tokens(own_database: str, settings: Settings) -> None:
    engine = open_engine(own_database)
    sessions = sessions_of(engine)
    lookup = Lookups(own_database, sign_ins(HOMES))
    async with make.visiting(settings, sessions, make.SayingProvider(), lookup) as client:
        code = answer_of(await signed_in(client))["code"]
        answers = await asyncio.gather(*(exchanged(client, code) for _ in range(8)))
        assert sorted(answer.status_code for answer in answers) == [200] + [400] * 7
        given = next(answer.json() for answer in answers if answer.status_code == 200)
        assert not await works(client, given["access_token"])
    await lookup.close()
    await engine.dispose()


async def test_a_person_who_arrives_twice_at_once_is_one(own_database: str) -> None:
    engine = open_engine(own_database)
    sessions = sessions_of(engine)
    identity = make.an_identity()

    async def arrive(number: str) -> object:
        async with sessions.begin() as session:
            return await operations.arrive(
                session,
                make.KEYRING,
                make.an_identity(number=number, subject=identity.subject),
                kind=SignInKind.BROWSER,
                device="x",
                now=datetime.now(UTC),
            )

    other = make.a_number()
    same = await asyncio.gather(*(arrive(identity.number) for _ in range(8)), *(arrive(other) for _ in range(8)))
    arrived = [one for one in same if isinstance(one, operations.Arrived)]
    # One number has the account, whichever was first, and the other one is refused each time.
    assert len(arrived) == 8
    assert len({one.person for one in arrived}) == 1
    await engine.dispose()
