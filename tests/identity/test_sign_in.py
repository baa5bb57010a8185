"""The way to the provider and back: one browser, one time, one person."""

import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID, uuid4

import pytest
import structlog
from httpx import AsyncClient, Response
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import delete, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession
from typing_extensions import override

from bkapp.access.guards import COOKIE
from bkapp.access.rules import Role
from bkapp.audit.models import AuditEntry
from bkapp.config import Settings
from bkapp.db import Sessions, open_engine, sessions_of
from bkapp.errors import DomainError, Invalid, NotFound
from bkapp.identity import operations, rules
from bkapp.identity.models import EidSubject, Notice, Person, SignIn, SignInAttempt
from bkapp.identity.providers import Identity, Logout, NotACitizen, ProviderUnavailable, SignInDenied, SignInRefused
from bkapp.identity.rules import (
    AFTER_SIGN_IN,
    OFFICE_LASTS,
    EndReason,
    NoticeKind,
    device_label,
    hashed,
    local_path,
    mobile,
)
from tests.identity import make

ELSEWHERE = [
    "",
    "toi",
    "https://evil.test/",
    "http://evil.test",
    "HTTPS:evil.test",
    "//evil.test",
    "///evil.test",
    "////evil.test/%2e%2e",
    "/\\evil.test",
    "\\\\evil.test",
    "/\\/evil.test",
    "\\/evil.test",
    "/%5cevil.test",
    "/%5C%5Cevil.test",
    "/%2fevil.test",
    "/%2Fevil.test",
    "/%252fevil.test",
    "/%25252f%25252fevil.test",
    "/toi//evil.test",
    "/toi/..//evil.test",
    "/./\\evil.test",
    "/.//evil.test",
    "/%2e%2e/evil.test",
    "/..%2fevil.test",
    "/\tevil.test",
    "/\t/evil.test",
    "/\r\nSet-Cookie: a=b",
    "/\n/evil.test",
    "/%0d%0aSet-Cookie:a=b",
    "/%09/evil.test",
    "/%00",
    "\x00/toi",
    " /toi",
    "/toi ",
    "javascript:alert(1)",
    "data:text/html,x",
    "/toi\u2028",
    "/toi/ă",
    "/\uff0fevil.test",
    "/%zz",
    "/toi?a=\\evil",
    "/toi?a=b\n",
    "/toi#\\",
    "/dang-nhap",
    "/dang-nhap/ve?code=c&state=s",
    "/" + "a" * 1024,
    "@evil.test",
    ".evil.test",
    "?next=//evil.test",
    "#x",
]


@pytest.mark.parametrize("text", ELSEWHERE)
def test_what_could_be_read_as_another_site_leads_to_ones_own_page(text: str) -> None:
    assert local_path(text) == AFTER_SIGN_IN


@pytest.mark.parametrize(
    "text",
    ["/", "/toi", "/toi/thiet-bi", "/c/482719346?v=a.b.c", "/tim?q=Ph%E1%BB%A7+Th%C3%B4ng", "/toi?x=/y#z", "/a:b"],
)
def test_a_path_of_ours_is_gone_on_to(text: str) -> None:
    assert local_path(text) == text


@given(st.text(alphabet="/\\%25cfC.:@?#\t\n ae", max_size=12))
def test_no_text_leads_to_another_host(text: str) -> None:
    found = local_path(text)
    parts = urlsplit(found)
    assert (parts.scheme, parts.netloc) == ("", "")
    assert found.startswith("/")
    assert not found.startswith(("//", "/\\"))


def test_devices_are_named_coarsely() -> None:
    edge = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/130.0 Safari/537.36 Edg/130.0"
    iphone = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605 Version/17.5 Mobile Safari/604.1"
    assert device_label(make.CHROME) == "Chrome trên Android"
    assert device_label(edge) == "Edge trên Windows"
    assert device_label(iphone) == "Safari trên iPhone"
    assert device_label("curl/8.5.0") == "curl"
    assert device_label("") == device_label("<script>\x00") == "Trình duyệt"
    assert device_label(make.CHROME, rules.SignInKind.NATIVE) == "Ứng dụng trên Android"


@pytest.mark.parametrize("text", ["0912345678", "+84912345678", "84 912 345 678", "0912.345.678", "0084912345678"])
def test_mobile_numbers_have_one_form(text: str) -> None:
    assert mobile(text) == "+84912345678"


@pytest.mark.parametrize(
    "text", ["", "02093870123", "0112345678", "+1912345678", "091234567", "09123456789", "٠912345678"]
)
def test_what_is_no_mobile_number_is_not_taken(text: str) -> None:
    assert mobile(text) is None


# --- to the provider --------------------------------------------------------------------------------------------


async def test_a_browser_sets_out_with_secrets_that_are_kept_as_hashes(
    settings: Settings, sessions: Sessions, session: AsyncSession
) -> None:
    provider = make.SayingProvider()
    async with make.visiting(settings, sessions, provider) as client:
        away = await client.get("/dang-nhap", params={"next": "/toi/thiet-bi", "max_age": 300, "goi_y": "chu-ho"})

    asked = provider.begun[0]
    assert away.status_code == 303
    assert away.headers["cache-control"] == "no-store"
    assert (asked["max_age"], asked["login_hint"]) == (300, "chu-ho")
    assert asked["redirect_uri"] == "http://bkapp.test/dang-nhap/ve"
    assert len({asked["state"], asked["nonce"], asked["verifier"]}) == 3
    kept = (await session.scalars(select(SignInAttempt))).one()
    assert kept.state_hash == hashed(asked["state"])
    assert kept.next == "/toi/thiet-bi"
    binding = make.set_cookies(away)["__Host-bkapp-login"]
    assert kept.browser_hash == hashed(make.cookie_value(away, "__Host-bkapp-login"))
    assert {part.strip().lower() for part in binding.split(";")[1:]} == {
        "httponly", "max-age=600", "path=/", "samesite=lax", "secure",
    }  # fmt: skip


async def test_a_hint_that_could_be_a_number_is_not_passed_on(settings: Settings, sessions: Sessions) -> None:
    provider = make.SayingProvider()
    async with make.visiting(settings, sessions, provider) as client:
        for hint in ("001084000001", "Nông Văn Bảo", "a b", "x" * 41):
            await client.get("/dang-nhap", params={"goi_y": hint})
    assert [asked["login_hint"] for asked in provider.begun] == [None] * 4


async def test_a_second_tab_does_not_spoil_the_first(settings: Settings, sessions: Sessions) -> None:
    async with make.visiting(settings, sessions, make.SayingProvider()) as client:
        first = await client.get("/dang-nhap")
        binding = make.cookie_value(first, "__Host-bkapp-login")
        cookies = {"Cookie": f"__Host-bkapp-login={binding}"}
        second = await client.get("/dang-nhap", headers=cookies)
        assert make.cookie_value(second, "__Host-bkapp-login") == binding
        for away in (first, second):
            assert (await came_back(client, away, cookies)).status_code == 303


async def test_a_provider_that_is_down_is_told_and_leaves_nobody_signed_in(
    settings: Settings, sessions: Sessions, session: AsyncSession
) -> None:
    provider = make.SayingProvider()
    provider.refusal = ProviderUnavailable("It does not answer.", reason="timeout")
    async with make.visiting(settings, sessions, provider) as client:
        page = await client.get("/dang-nhap", headers={"Accept": "text/html"})
        problem = await client.get("/dang-nhap")
        provider.refusal = None
        again = await make.signing_in(client)
    assert (page.status_code, page.headers["content-type"].partition(";")[0]) == (503, "text/html")
    assert "retry-after" in page.headers
    assert '<a href="/dang-nhap">' in page.text
    assert problem.json()["type"] == "/problems/identity_provider_unavailable"
    assert COOKIE in make.set_cookies(again)


async def test_where_no_provider_is_set_nobody_can_sign_in(settings: Settings, sessions: Sessions) -> None:
    async with make.visiting(settings, sessions, None) as client:
        answers = [
            await client.get("/dang-nhap"),
            await client.get("/dang-nhap/ve", params={"code": "c", "state": "s"}),
            await client.post("/dang-nhap/thong-bao", data={"logout_token": "t"}),
        ]
    assert [answer.status_code for answer in answers] == [404, 404, 404]


# --- and back ---------------------------------------------------------------------------------------------------


async def came_back(client: AsyncClient, away: Response, headers: dict[str, str], **params: str) -> Response:
    state = parse_qs(urlsplit(away.headers["location"]).query)["state"][0]
    client.cookies.clear()
    return await client.get("/dang-nhap/ve", params={"code": "c", "state": state, **params}, headers=headers)


async def test_who_comes_back_is_signed_in_and_goes_on(
    settings: Settings, sessions: Sessions, session: AsyncSession
) -> None:
    identity = make.an_identity(provider_sid="sid-1", acr="urn:2", phone="+84912345678")
    provider = make.SayingProvider(identity)
    async with make.visiting(settings, sessions, provider) as client:
        back = await make.signing_in(client, start="/dang-nhap?next=/toi/thiet-bi")
        secret = make.cookie_value(back, COOKIE)
        seen = (await client.get("/api/v1/session", headers={"Cookie": f"{COOKIE}={secret}"})).json()
        me = (await client.get("/api/v1/me", headers={"Cookie": f"{COOKIE}={secret}"})).json()

    assert (back.status_code, back.headers["location"]) == (303, "/toi/thiet-bi")
    assert back.headers["cache-control"] == "no-store"
    flags = {part.strip().lower() for part in make.set_cookies(back)[COOKIE].split(";")[1:]}
    assert {"httponly", "path=/", "samesite=lax", "secure"} < flags
    assert not any(flag.startswith("domain") for flag in flags)
    asked, begun = provider.finished[0], provider.begun[0]
    assert [asked[name] for name in ("state", "nonce", "verifier", "redirect_uri")] == [
        begun[name] for name in ("state", "nonce", "verifier", "redirect_uri")
    ]
    assert (seen["signed_in"], seen["person"]["name"], seen["role"], seen["level"], seen["acr"]) == (
        True, identity.name, "citizen", 2, "urn:2",
    )  # fmt: skip
    assert (me["birth"], me["phone"], me["number"]) == ("1984-03-09", None, "•" * 9 + identity.number[-3:])
    kept = await make.of_secret(session, secret)
    assert (kept.provider_sid, kept.device, kept.kind) == ("sid-1", "Chrome trên Android", "browser")
    entry = (await session.scalars(select(AuditEntry).where(AuditEntry.kind == "sign_in"))).one()
    assert entry.subject == str(kept.person_id)
    person = await session.get_one(Person, kept.person_id)
    sealed = b"".join(filter(None, [person.number_cipher, person.name_cipher, person.birth_cipher]))
    for secret_text in (identity.number, identity.name, "1984"):
        assert secret_text.encode() not in sealed
        assert secret_text not in entry.data


async def test_an_answer_is_good_once(settings: Settings, sessions: Sessions, session: AsyncSession) -> None:
    async with make.visiting(settings, sessions, make.SayingProvider()) as client:
        away = await client.get("/dang-nhap")
        cookies = {"Cookie": f"__Host-bkapp-login={make.cookie_value(away, '__Host-bkapp-login')}"}
        first = await came_back(client, away, cookies)
        again = await came_back(client, away, cookies)
    assert (first.status_code, again.status_code) == (303, 400)
    assert again.json()["type"] == "/problems/sign_in_expired"
    assert not make.set_cookies(again)
    assert await session.scalar(select(func.count()).select_from(SignIn)) == 1


async def test_another_browser_cannot_finish_and_does_not_spoil(settings: Settings, sessions: Sessions) -> None:
    async with make.visiting(settings, sessions, make.SayingProvider()) as client:
        mine, theirs = await client.get("/dang-nhap"), await client.get("/dang-nhap")
        own = {"Cookie": f"__Host-bkapp-login={make.cookie_value(mine, '__Host-bkapp-login')}"}
        client.cookies.clear()
        other = {"Cookie": f"__Host-bkapp-login={make.cookie_value(theirs, '__Host-bkapp-login')}"}
        refused = [await came_back(client, mine, headers) for headers in ({}, other, {"Cookie": "__Host-bkapp-login="})]
        good = await came_back(client, mine, own)
    assert {answer.json()["type"] for answer in refused} == {"/problems/sign_in_in_other_browser"}
    assert not any(make.set_cookies(answer) for answer in refused)
    assert good.status_code == 303


async def test_an_answer_that_comes_too_late_is_refused(
    settings: Settings, sessions: Sessions, session: AsyncSession
) -> None:
    async with make.visiting(settings, sessions, make.SayingProvider()) as client:
        away = await client.get("/dang-nhap")
        await session.execute(update(SignInAttempt).values(expires_at=datetime.now(UTC) - timedelta(seconds=1)))
        await session.commit()
        cookies = {"Cookie": f"__Host-bkapp-login={make.cookie_value(away, '__Host-bkapp-login')}"}
        late = await came_back(client, away, cookies)
    assert (late.status_code, late.json()["type"]) == (400, "/problems/sign_in_expired")


@pytest.mark.parametrize(
    "query", ["", "state=", "state=a", "code=c&state=" + "a" * 43, "state=%00", "state=" + "é" * 43]
)
async def test_an_answer_that_nobody_asked_for_is_refused(settings: Settings, sessions: Sessions, query: str) -> None:
    provider = make.SayingProvider()
    async with make.visiting(settings, sessions, provider) as client:
        answer = await client.get(f"/dang-nhap/ve?{query}", headers={"Accept": "text/html"})
    assert answer.status_code == 400
    assert answer.headers["content-type"].startswith("text/html")
    assert not provider.finished


async def test_an_answer_that_says_something_twice_is_refused(settings: Settings, sessions: Sessions) -> None:
    provider = make.SayingProvider()
    async with make.visiting(settings, sessions, provider) as client:
        away = await client.get("/dang-nhap")
        state = provider.begun[0]["state"]
        cookies = {"Cookie": f"__Host-bkapp-login={make.cookie_value(away, '__Host-bkapp-login')}"}
        client.cookies.clear()
        for query in (
            f"code=a&code=b&state={state}",
            f"code=a&state={state}&state={state}",
            f"code=a&iss=x&iss=y&state={state}",
        ):
            answer = await client.get(f"/dang-nhap/ve?{query}", headers=cookies)
            assert answer.json()["type"] == "/problems/sign_in_refused"
            assert answer.json()["reason"] == "repeated_parameter"
    assert not provider.finished


@pytest.mark.parametrize(
    ("refusal", "status", "code"),
    [
        (SignInDenied("no"), 400, "sign_in_denied"),
        (SignInRefused("bad", reason="bad_nonce"), 400, "sign_in_refused"),
        (ProviderUnavailable("down", reason="timeout"), 503, "identity_provider_unavailable"),
        (NotACitizen("an organisation"), 403, "not_a_citizen_account"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_the_provider_refuses_creates_nothing(
    settings: Settings, sessions: Sessions, session: AsyncSession, refusal: DomainError, status: int, code: str
) -> None:
    provider = make.SayingProvider()
    async with make.visiting(settings, sessions, provider) as client:
        away = await client.get("/dang-nhap")
        cookies = {"Cookie": f"__Host-bkapp-login={make.cookie_value(away, '__Host-bkapp-login')}"}
        provider.refusal = refusal
        refused = await came_back(client, away, cookies)
        provider.refusal = None
        spent = await came_back(client, away, cookies)
    assert (refused.status_code, refused.json()["type"]) == (status, f"/problems/{code}")
    assert not make.set_cookies(refused)
    assert spent.json()["type"] == "/problems/sign_in_expired"
    for table in (Person, SignIn, EidSubject, AuditEntry):
        assert await session.scalar(select(func.count()).select_from(table)) == 0


# --- whose session it is ----------------------------------------------------------------------------------------


async def test_a_cookie_that_was_there_before_gains_nothing(
    settings: Settings, sessions: Sessions, session: AsyncSession
) -> None:
    attacker = await make.a_person(session, name="Kẻ Gian")
    planted = await make.a_sign_in(session, attacker)
    await session.commit()
    never_seen = rules.new_secret()
    async with make.visiting(settings, sessions, make.SayingProvider()) as client:
        for before in (planted, never_seen):
            back = await make.signing_in(client, secret=before)
            secret = make.cookie_value(back, COOKIE)
            assert secret != before
            old = await client.get("/api/v1/session", headers={"Cookie": f"{COOKIE}={before}"})
            assert old.json()["signed_in"] is False
    assert (await make.of_secret(session, planted)).end_reason is EndReason.RENEWED


async def test_signing_in_again_in_one_browser_is_no_new_device(
    settings: Settings, sessions: Sessions, session: AsyncSession
) -> None:
    async with make.visiting(settings, sessions, make.SayingProvider()) as client:
        first = make.cookie_value(await make.signing_in(client), COOKIE)
        second = make.cookie_value(await make.signing_in(client, secret=first), COOKIE)
        assert await session.scalar(select(func.count()).select_from(Notice)) == 0
        await make.signing_in(client)
        told = (await session.scalars(select(Notice))).one()
        unread = (await client.get("/api/v1/session", headers={"Cookie": f"{COOKIE}={second}"})).json()
    assert (told.kind, told.data["device"], unread["unread_notices"]) == (
        NoticeKind.NEW_DEVICE, "Chrome trên Android", 1,
    )  # fmt: skip


async def test_a_number_is_one_person_whichever_provider_says_it(
    session: AsyncSession,
) -> None:
    number = make.a_number()
    one = await operations.recognise(session, make.KEYRING, make.an_identity(number=number), is_demo=False)
    other = await operations.recognise(
        session,
        make.KEYRING,
        make.an_identity(number=number, issuer="https://other.test", name="Nông Văn Báo", level=1),
        is_demo=False,
    )
    opened = await operations.open_person(session, make.KEYRING, one)
    assert one == other
    assert (opened.number, opened.name, opened.level) == (number, "Nông Văn Báo", 1)
    assert await session.scalar(select(func.count()).select_from(EidSubject)) == 2


async def test_a_telephone_number_is_what_the_person_says_and_not_the_provider(session: AsyncSession) -> None:
    identity = make.an_identity(phone="+84912345678")
    person = await operations.recognise(session, make.KEYRING, identity, is_demo=False)
    assert (await operations.open_person(session, make.KEYRING, person)).phone is None
    await operations.set_phone(session, make.KEYRING, person, "0987 654 321")
    await operations.recognise(session, make.KEYRING, identity, is_demo=False)
    assert (await operations.open_person(session, make.KEYRING, person)).phone == "+84987654321"
    for wrong in ("12", "02093870123", "0912345678\x00", ""):
        with pytest.raises(Invalid):
            await operations.set_phone(session, make.KEYRING, person, wrong)
    await operations.set_phone(session, make.KEYRING, person, None)
    assert (await operations.open_person(session, make.KEYRING, person)).phone is None
    entries = (await session.scalars(select(AuditEntry.data).where(AuditEntry.kind == "phone_changed"))).all()
    assert entries == ['{"kept":true}', '{"kept":false}']
    with pytest.raises(NotFound):
        await operations.set_phone(session, make.KEYRING, uuid4(), None)


async def test_an_account_that_comes_back_with_another_number_is_refused_and_noted(
    settings: Settings, sessions: Sessions, session: AsyncSession
) -> None:
    provider = make.SayingProvider(make.an_identity(subject="s"))
    async with make.visiting(settings, sessions, provider) as client:
        await make.signing_in(client)
        first = (await session.scalars(select(Person.id))).one()
        provider.identity = make.an_identity(subject="s")
        refused = await make.signing_in(client)
    assert (refused.status_code, refused.json()["type"]) == (403, "/problems/eid_subject_changed")
    assert str(first) not in refused.text
    assert not make.set_cookies(refused)
    assert (await session.scalars(select(Person.id))).all() == [first]
    assert await session.scalar(select(func.count()).select_from(SignIn)) == 1
    entry = (await session.scalars(select(AuditEntry).where(AuditEntry.kind == "sign_in_refused"))).one()
    assert entry.subject == str(first)


async def test_who_was_erased_comes_back_as_somebody_new(
    settings: Settings, sessions: Sessions, session: AsyncSession
) -> None:
    provider = make.SayingProvider()
    async with make.visiting(settings, sessions, provider) as client:
        secret = make.cookie_value(await make.signing_in(client), COOKIE)
        gone = (await session.scalars(select(Person.id))).one()
        await erase(session, gone, forget_subject=False)
        await session.commit()
        over = await client.get("/api/v1/session", headers={"Cookie": f"{COOKIE}={secret}"})
        back = await make.signing_in(client)
    assert over.json()["signed_in"] is False
    assert (await make.of_secret(session, make.cookie_value(back, COOKIE))).person_id != gone


async def erase(session: AsyncSession, person: UUID, *, forget_subject: bool) -> None:
    if forget_subject:
        await session.execute(delete(EidSubject).where(EidSubject.person_id == person))
    await session.execute(
        update(Person)
        .where(Person.id == person)
        .values(
            number_hmac=None,
            number_cipher=None,
            name_cipher=None,
            birth_cipher=None,
            phone_cipher=None,
            erased_at=datetime.now(UTC),
        )
    )


async def test_of_who_asked_to_be_left_alone_nothing_new_is_kept(session: AsyncSession) -> None:
    identity = make.an_identity(name="Cũ")
    person = await operations.recognise(session, make.KEYRING, identity, is_demo=False)
    await session.execute(update(Person).where(Person.id == person).values(restricted_at=datetime.now(UTC)))
    session.expire_all()
    await operations.recognise(
        session, make.KEYRING, make.an_identity(number=identity.number, name="Mới"), is_demo=False
    )
    assert (await operations.open_person(session, make.KEYRING, person)).name == "Cũ"


async def test_who_holds_an_office_signs_in_for_a_working_day(
    settings: Settings, sessions: Sessions, session: AsyncSession
) -> None:
    identity = make.an_identity()
    await make.a_person(session, number=identity.number, role=Role.MONITOR)
    await session.commit()
    async with make.visiting(settings, sessions, make.SayingProvider(identity)) as client:
        back = await make.signing_in(client)
    kept = await make.of_secret(session, make.cookie_value(back, COOKIE))
    assert kept.expires_at - kept.created_at == OFFICE_LASTS


class Watching(make.SayingProvider):
    """A provider that looks whether anybody keeps a transaction open while it is asked."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._engine = open_engine(url)
        self.looked: list[int] = []

    async def look(self) -> None:
        async with self._engine.connect() as connection:
            waiting = text("""
                SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND state LIKE 'idle in transaction%'
            """)
            self.looked.append((await connection.execute(waiting)).scalar_one())

    @override
    async def begin(self, **asked: Any) -> str:
        await self.look()
        return await super().begin(**asked)

    @override
    async def finish(self, params: Mapping[str, str], **asked: Any) -> Identity:
        await self.look()
        return await super().finish(params, **asked)

    @override
    async def read_logout(self, token: str) -> Logout:
        await self.look()
        return await super().read_logout(token)

    @override
    async def end_session_url(self, *, after: str) -> str | None:
        await self.look()
        return await super().end_session_url(after=after)

    @override
    async def close(self) -> None:
        await self._engine.dispose()


async def test_nobody_keeps_a_transaction_open_while_the_provider_is_asked(
    own_database: str, settings: Settings
) -> None:
    engine = open_engine(own_database)
    provider = Watching(own_database)
    provider.logout = Logout(
        issuer=make.ISSUER, subject="s", provider_sid=None, jti="j", expires_at=datetime.now(UTC) + timedelta(minutes=2)
    )
    async with make.visiting(settings, sessions_of(engine), provider) as client:
        secret = make.cookie_value(await make.signing_in(client), COOKIE)
        await client.post("/dang-nhap/thong-bao", data={"logout_token": "t"})
        await client.post("/dang-xuat", headers=make.cookie_headers(secret))
    await provider.close()
    await engine.dispose()
    assert provider.looked == [0, 0, 0, 0]


async def test_no_secret_and_nobody_is_logged(
    settings: Settings, sessions: Sessions, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    identity = make.an_identity(phone="+84912345678")
    provider = make.SayingProvider(identity)
    caplog.set_level(logging.DEBUG)
    with structlog.testing.capture_logs() as logs:
        async with make.visiting(settings, sessions, provider) as client:
            back = await make.signing_in(client)
            secret = make.cookie_value(back, COOKIE)
            for path in ("/api/v1/me", "/api/v1/session", "/api/v1/me/devices"):
                await client.get(path, headers=make.cookie_headers(secret))
            await client.post("/api/v1/me/phone", headers=make.cookie_headers(secret), json={"phone": "0987654321"})
            await client.post("/dang-xuat", headers=make.cookie_headers(secret))
    out = capsys.readouterr()
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith("httpx")]
    written = "\n".join([*map(str, logs), *ours, out.out, out.err])
    assert len(logs) >= 7
    asked = provider.begun[0]
    for told in (
        secret, asked["state"], asked["nonce"], asked["verifier"], identity.number, identity.name, "912345678",
        "987654321", identity.subject,
    ):  # fmt: skip
        assert told not in written
