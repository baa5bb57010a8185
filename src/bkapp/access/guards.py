"""Who is asking, and the guards that routes name."""

from typing import Any

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.di import NamedDependency
from litestar.handlers import BaseRouteHandler
from litestar.types import ASGIApp, Receive, Scope, Send

from bkapp.access.operations import Caller, identify
from bkapp.access.rules import Role
from bkapp.db import Lookup
from bkapp.errors import Forbidden, Unauthenticated

Asking = NamedDependency[Caller]
MaybeAsking = NamedDependency[Caller | None]


class Authentication:
    """Puts the caller into ``scope["user"]``: None without an Authorization header, never a guess with a bad one."""

    def __init__(self, keys: Lookup) -> None:
        self._keys = keys

    def __call__(self, app: ASGIApp) -> ASGIApp:
        async def authenticated(scope: Scope, receive: Receive, send: Send) -> None:
            scope["user"] = None
            for name, value in scope["headers"]:
                if name == b"authorization":
                    scope["user"] = await self._caller(value)
                    break
            await app(scope, receive, send)

        return authenticated

    async def _caller(self, header: bytes) -> Caller:
        kind, _, text = header.decode("latin-1").partition(" ")
        if kind.lower() != "bearer":
            raise Unauthenticated("Send the API key as: Authorization: Bearer bk_…")
        return await identify(self._keys, text.strip())


def _required(connection: ASGIConnection[Any, Any, Any, Any]) -> Caller:
    caller: Caller | None = connection.scope.get("user")
    if caller is None:
        raise Unauthenticated("This needs an API key: Authorization: Bearer bk_…")
    return caller


async def keyed(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Whoever has a key, whatever it is for."""
    _required(connection)


async def officer(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Officers and the registrar.  Which units an officer reaches is checked where the unit is known."""
    if _required(connection).role not in {Role.OFFICER, Role.ADMIN}:
        raise Forbidden("This needs an officer's key.")


def asking(request: Request[Any, Any, Any]) -> Caller:
    """The caller of a guarded route."""
    return _required(request)


def maybe_asking(request: Request[Any, Any, Any]) -> Caller | None:
    """The caller of a public route, if they have said who they are."""
    caller: Caller | None = request.scope.get("user")
    return caller
