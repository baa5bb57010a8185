"""Who is asking, and the guards that routes name."""

import hmac
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.di import NamedDependency
from litestar.handlers import BaseRouteHandler
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from bkapp.access.operations import Caller, identify
from bkapp.access.rules import OFFICES, Role
from bkapp.db import Lookup
from bkapp.edge import origin_of
from bkapp.errors import Forbidden, Unauthenticated
from bkapp.http import SAFE_METHODS

Asking = NamedDependency[Caller]
MaybeAsking = NamedDependency[Caller | None]
Guard = Callable[[ASGIConnection[Any, Any, Any, Any], BaseRouteHandler], Awaitable[None]]

COOKIE = "__Host-bkapp"
"""The session of a browser.  The prefix makes browsers refuse one that is not Secure, or that another host set."""

ENOUGH_FOR_OWN_DATA = 2
"""The identity assurance (IAL) from which a person sees what registers hold of them."""
STEP_UP_AGE = timedelta(minutes=5)


class ForeignPage(Forbidden):
    """A browser sent a change that no page of ours asked for (cross-site request forgery)."""

    code = "foreign_page"
    title = "Yêu cầu không đến từ trang của hệ thống"


class StepUpNeeded(Unauthenticated):
    """This needs a sign-in that is recent enough or sure enough (RFC 9470); sign in again and repeat."""

    code = "insufficient_user_authentication"
    title = "Cần xác thực lại để tiếp tục"


class TooLowAssurance(Forbidden):
    """The person's identity was not verified well enough at the provider; VNeID level 2 is."""

    code = "assurance_too_low"
    title = "Cần tài khoản định danh mức độ 2"


class People(Protocol):
    """What finds the person behind a cookie or an access token."""

    async def of_cookie(self, secret: str) -> Caller | None:
        """Who holds this cookie; None for one that is unknown or over."""
        ...

    async def of_token(self, token: str) -> Caller:
        """Who holds this access token; raise ``Unauthenticated`` for one that is not good."""
        ...

    def csrf_token(self, secret: str) -> str:
        """What a page must send back with a change, for browsers that do not say where it comes from."""
        ...


class Authentication:
    """Puts the caller into ``scope["user"]``: None without credentials, never a guess with bad ones.

    ``Authorization: Bearer`` holds an API key (``bk_…``) or the access token of a native app.  Without it the cookie of
    a browser counts; then a change must come from a page of ours.
    """

    def __init__(self, keys: Lookup, people: People | None, base_url: str) -> None:
        self._keys = keys
        self._people = people
        self._origin = origin_of(base_url)

    def __call__(self, app: ASGIApp) -> ASGIApp:
        async def authenticated(scope: Scope, receive: Receive, send: Send) -> None:
            scope["user"] = None
            cookies = b""
            for name, value in scope["headers"]:
                if name == b"authorization":
                    scope["user"] = await self._holder(value)
                    break
                if name == b"cookie":
                    cookies += value + b"; "
            else:
                if cookies and self._people is not None:
                    scope["user"] = await self._visitor(self._people, cookies, scope)  # type: ignore[arg-type]
            await app(scope, receive, send)

        return authenticated

    async def _holder(self, header: bytes) -> Caller:
        kind, _, text = header.decode("latin-1").partition(" ")
        text = text.strip()
        if kind.lower() != "bearer":
            raise Unauthenticated("Send the API key as: Authorization: Bearer bk_…")
        if self._people is not None and not text.startswith("bk_"):
            return await self._people.of_token(text)
        return await identify(self._keys, text)

    async def _visitor(self, people: People, cookies: bytes, scope: HTTPScope) -> Caller | None:
        secret = cookie_of(cookies)
        caller = await people.of_cookie(secret) if secret else None
        # An open route (the callback of a provider, say) does nothing in the name of who sends it.
        if caller is not None and scope["method"] not in SAFE_METHODS and not scope["route_handler"].opt.get("open"):
            self._refuse_foreign(scope, people.csrf_token(secret))
        return caller

    def _refuse_foreign(self, scope: HTTPScope, token: str) -> None:
        """Browsers say where a request comes from (Fetch Metadata, Origin); one that does not must send the token."""
        sent = {name: value.decode("latin-1") for name, value in scope["headers"]}
        site, origin = sent.get(b"sec-fetch-site"), sent.get(b"origin")
        if site is not None and site != "same-origin":
            raise ForeignPage(f"A change must come from a page of ours; this one is {site}.")
        if origin is not None and origin.lower() != self._origin:
            raise ForeignPage("A change must come from a page of ours; this one has another origin.")
        shown = sent.get(b"x-csrf-token", "").encode()
        if site is None and origin is None and not hmac.compare_digest(shown, token.encode()):
            raise ForeignPage("Send X-CSRF-Token as GET /api/v1/session gives it.")


def cookie_of(header: bytes) -> str:
    """The value of our cookie in a Cookie header; empty if it is not there or there twice."""
    prefix = COOKIE.encode() + b"="
    found = [part.strip()[len(prefix) :] for part in header.split(b";") if part.strip().startswith(prefix)]
    return found[0].decode("latin-1") if len(found) == 1 else ""


def _required(connection: ASGIConnection[Any, Any, Any, Any]) -> Caller:
    caller: Caller | None = connection.scope.get("user")
    if caller is None:
        raise Unauthenticated("Sign in, or send an API key: Authorization: Bearer bk_…")
    return caller


async def keyed(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Offices: officers, monitoring and the registrar, with a key or signed in."""
    if _required(connection).role not in OFFICES:
        raise Forbidden("This is for offices.")


async def officer(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Officers and the registrar.  Which units an officer reaches is checked where the unit is known."""
    if _required(connection).role not in {Role.OFFICER, Role.ADMIN}:
        raise Forbidden("This needs an officer's key.")


async def admin(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """The province's registrar and data officer."""
    if _required(connection).role is not Role.ADMIN:
        raise Forbidden("This is for the province's data officer.")


async def signed_in(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """A person who has signed in, at any level, for what is theirs alone: sessions, notices, rights."""
    if _required(connection).person is None:
        raise Forbidden("This is for a person who has signed in, not for a key.")


async def citizen(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """A person whose identity was verified well enough to see what registers hold of them."""
    caller = _required(connection)
    if caller.person is None:
        raise Forbidden("This is for a person who has signed in, not for a key.")
    if caller.level < ENOUGH_FOR_OWN_DATA:
        raise TooLowAssurance(
            f"This needs identity assurance {ENOUGH_FOR_OWN_DATA}; the sign-in has {caller.level}.",
            needed=ENOUGH_FOR_OWN_DATA,
        )


def stepped_up(max_age: timedelta = STEP_UP_AGE) -> Guard:
    """A person who signed in a short time ago, for what must not be done on a telephone left lying about (RFC 9470)."""

    async def stepped_up_person(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
        await citizen(connection, handler)
        require_recent(_required(connection), max_age, now=datetime.now(UTC))

    stepped_up_person.bkapp_guard = citizen  # type: ignore[attr-defined]  # for the test that every route names one
    return stepped_up_person


def require_recent(caller: Caller, max_age: timedelta, *, now: datetime) -> None:
    """Refuse a sign-in older than ``max_age``; the answer says how to sign in again (RFC 9470 §3)."""
    if caller.authenticated_at is None or now - caller.authenticated_at > max_age:
        seconds = int(max_age.total_seconds())
        raise StepUpNeeded(
            f"This needs a sign-in of the last {seconds} seconds.",
            max_age=seconds,
            authenticate=f'Bearer realm="bkapp", error="insufficient_user_authentication", max_age="{seconds}"',
        )


def asking(request: Request[Any, Any, Any]) -> Caller:
    """The caller of a guarded route."""
    return _required(request)


def maybe_asking(request: Request[Any, Any, Any]) -> Caller | None:
    """The caller of a public route, if they have said who they are."""
    caller: Caller | None = request.scope.get("user")
    return caller
