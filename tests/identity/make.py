"""Factories of people and their sign-ins, a provider that says what a test tells it, and the app with both."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from secrets import randbelow
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID, uuid4

from httpx import ASGITransport, AsyncClient, Response
from litestar import Litestar
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.guards import COOKIE
from bkapp.access.rules import Role
from bkapp.app import create_app
from bkapp.config import DEMO_DATA_KEYS, DEMO_LOOKUP_KEY, DEMO_SIGNING_KEYS, Settings
from bkapp.db import Lookup, Sessions, lookup_through
from bkapp.edge import Edge
from bkapp.households.queries import HOMES
from bkapp.http import today
from bkapp.identity import operations
from bkapp.identity.models import Person, SignIn
from bkapp.identity.people import SignedIn
from bkapp.identity.providers import Identity, Logout
from bkapp.identity.queries import sign_ins
from bkapp.identity.rules import SignInKind, hashed, lifetime, new_secret
from bkapp.identity.tokens import TokenSigner
from bkapp.sealing import Keyring
from bkapp.units import queries as units

KEYRING = Keyring.parse(DEMO_DATA_KEYS, DEMO_LOOKUP_KEY)
"""The keys of the demo, which the settings of tests name."""
BASE_URL = "http://bkapp.test"
SIGNER = TokenSigner.parse(DEMO_SIGNING_KEYS, BASE_URL)
ISSUER = "https://eid.test"
CHROME = "Mozilla/5.0 (Linux; Android 14) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Mobile Safari/537.36"


def a_number() -> str:
    """A citizen's number that nobody has: no province has the code 099."""
    return f"099{randbelow(10**9):09d}"


def an_identity(
    *,
    number: str | None = None,
    name: str = "Nông Văn Bảo",
    birth: date | None = date(1984, 3, 9),
    phone: str | None = None,
    level: int = 2,
    issuer: str = ISSUER,
    subject: str | None = None,
    acr: str | None = None,
    authenticated_at: datetime | None = None,
    provider_sid: str | None = None,
) -> Identity:
    """What a provider says of somebody; the subject is the number's unless one is given."""
    number = number or a_number()
    return Identity(
        issuer=issuer,
        subject=subject or f"sub-{number}",
        number=number,
        name=name,
        birth=birth,
        phone=phone,
        level=level,
        acr=acr,
        authenticated_at=authenticated_at or datetime.now(UTC),
        provider_sid=provider_sid,
    )


async def a_person(
    session: AsyncSession,
    keyring: Keyring = KEYRING,
    *,
    number: str | None = None,
    name: str = "Nông Văn Bảo",
    birth: date | None = date(1984, 3, 9),
    phone: str | None = None,
    level: int = 2,
    role: Role | None = None,
    unit: str | None = None,
) -> UUID:
    """Somebody who has signed in before; who holds an office when a role is given, an officer's in a unit's code."""
    identity = an_identity(number=number, name=name, birth=birth, level=level)
    person = await operations.recognise(session, keyring, identity, is_demo=False)
    if phone is not None:
        row = await session.get_one(Person, person)
        row.phone_cipher = keyring.seal(phone, f"person.phone:{person}")
        await session.flush()
    if role is not None:
        found = await units.unit_on(session, unit, today()) if unit else None
        await operations.grant_office(
            session,
            keyring,
            number=identity.number,
            role=role,
            unit_id=found.id if found else None,
            actor="test",
            now=datetime.now(UTC),
        )
    return person


async def a_sign_in(
    session: AsyncSession,
    person: UUID,
    *,
    level: int | None = None,
    age: timedelta = timedelta(0),
    idle: timedelta = timedelta(0),
    issuer: str = ISSUER,
    provider_sid: str | None = None,
    acr: str | None = None,
    device: str = "Chrome trên Android",
) -> str:
    """A session of a browser; return the secret of its cookie.

    ``age`` is how long ago the person signed in, ``idle`` how long ago they were last seen; the level is that of the
    person unless one is given.
    """
    secret = new_secret()
    await _sign_in(session, person, SignInKind.BROWSER, secret, level, age, idle, issuer, provider_sid, acr, device)
    return secret


async def a_native_sign_in(
    session: AsyncSession, person: UUID, *, level: int | None = None, age: timedelta = timedelta(0)
) -> str:
    """A sign-in of an app; return an access token of it."""
    made = await _sign_in(
        session, person, SignInKind.NATIVE, None, level, age, timedelta(0), ISSUER, None, None, "Ứng dụng trên Android"
    )
    return SIGNER.mint(person=person, sign_in=made, now=datetime.now(UTC))


async def _sign_in(
    session: AsyncSession,
    person: UUID,
    kind: SignInKind,
    secret: str | None,
    level: int | None,
    age: timedelta,
    idle: timedelta,
    issuer: str,
    provider_sid: str | None,
    acr: str | None,
    device: str,
) -> UUID:
    row = await session.get_one(Person, person)
    now = datetime.now(UTC)
    made = SignIn(
        id=uuid4(),
        person_id=person,
        kind=kind,
        secret_hash=None if secret is None else hashed(secret),
        level=row.level if level is None else level,
        acr=acr,
        authenticated_at=now - age,
        issuer=issuer,
        provider_sid=provider_sid,
        device=device,
        created_at=now - age,
        seen_at=now - idle,
        expires_at=now - age + lifetime(kind, in_office=False),
    )
    session.add(made)
    await session.flush()
    return made.id


async def of_secret(session: AsyncSession, secret: str) -> SignIn:
    """The sign-in of a cookie, as it is in the database now."""
    wanted = select(SignIn).where(SignIn.secret_hash == hashed(secret)).execution_options(populate_existing=True)
    return (await session.scalars(wanted)).one()


async def age_sign_in(session: AsyncSession, secret: str, **columns: Any) -> None:
    """Change a sign-in behind everybody's back, to make it old or lowly."""
    await session.execute(update(SignIn).where(SignIn.secret_hash == hashed(secret)).values(**columns))


def cookie_headers(secret: str, idempotency_key: str | None = None, **more: str) -> dict[str, str]:
    """The headers of a page of ours in a browser that is signed in; more go in as ``Sec_Fetch_Site="none"``."""
    return {
        "Cookie": f"{COOKIE}={secret}",
        "Sec-Fetch-Site": "same-origin",
        "Idempotency-Key": idempotency_key or uuid4().hex,
        **{name.replace("_", "-"): value for name, value in more.items()},
    }


def bearer(token: str, idempotency_key: str | None = None) -> dict[str, str]:
    """The headers of an app that is signed in."""
    return {"Authorization": f"Bearer {token}", "Idempotency-Key": idempotency_key or uuid4().hex}


class SayingProvider:
    """An identity provider that says what the test told it to; it keeps to the protocol and asks nobody."""

    def __init__(self, identity: Identity | None = None) -> None:
        self.issuer = ISSUER
        self.identity = identity or an_identity()
        self.refusal: Exception | None = None
        self.logout: Logout | None = None
        self.begun: list[dict[str, Any]] = []
        self.finished: list[dict[str, Any]] = []

    async def begin(self, **asked: Any) -> str:
        if self.refusal is not None:
            raise self.refusal
        self.begun.append(asked)
        return f"{self.issuer}/authorize?state={asked['state']}"

    async def finish(self, params: Mapping[str, str], **asked: Any) -> Identity:
        if self.refusal is not None:
            raise self.refusal
        self.finished.append({"params": dict(params), **asked})
        return self.identity

    async def read_logout(self, token: str) -> Logout:
        if self.refusal is not None:
            raise self.refusal
        assert self.logout is not None
        return self.logout

    async def end_session_url(self, *, after: str) -> str | None:
        if self.refusal is not None:
            raise self.refusal
        return f"{self.issuer}/logout?post_logout_redirect_uri={after}"

    async def close(self) -> None: ...


def an_app(settings: Settings, sessions: Sessions, provider: Any = None, lookup: Lookup | None = None) -> Litestar:
    """The application with people who sign in; ``provider`` stands in for the national eID."""
    lookup = lookup or lookup_through(sessions, sign_ins(HOMES))
    return create_app(settings, sessions, sessions, people=SignedIn(lookup, SIGNER, sessions), eid=provider)


@asynccontextmanager
async def visiting(
    settings: Settings, sessions: Sessions, provider: Any = None, lookup: Lookup | None = None
) -> AsyncIterator[AsyncClient]:
    """A client of :func:`an_app`.  It keeps no cookies: each test says who asks with :func:`cookie_headers`."""
    app = Edge(an_app(settings, sessions, provider, lookup), settings)  # type: ignore[arg-type]
    transport = ASGITransport(app=app, raise_app_exceptions=False)
    async with AsyncClient(transport=transport, base_url=BASE_URL) as client:
        yield client


def set_cookies(answer: Response) -> dict[str, str]:
    """The Set-Cookie headers of an answer, by name."""
    found = (text for name, text in answer.headers.multi_items() if name == "set-cookie")
    return {text.partition("=")[0]: text for text in found}


def cookie_value(answer: Response, name: str) -> str:
    """The value that an answer sets a cookie to."""
    return set_cookies(answer)[name].partition("=")[2].partition(";")[0]


async def signing_in(
    client: AsyncClient, *, start: str = "/dang-nhap", user_agent: str = CHROME, secret: str | None = None
) -> Response:
    """Go to the provider and come back from it, as a browser does; return the answer to its return."""
    away = await client.get(start)
    assert away.status_code == 303, away.text
    state = parse_qs(urlsplit(away.headers["location"]).query)["state"][0]
    binding = f"__Host-bkapp-login={cookie_value(away, '__Host-bkapp-login')}"
    cookies = binding if secret is None else f"{binding}; {COOKIE}={secret}"
    client.cookies.clear()
    return await client.get(
        "/dang-nhap/ve",
        params={"code": "c", "state": state},
        headers={"Cookie": cookies, "User-Agent": user_agent, "Accept": "application/json"},
    )
