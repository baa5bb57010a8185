"""What every controller shares: transactions, idempotency, how refusals are answered, pagination.

:class:`UnitOfWork` is where HTTP requests commit.  Jobs and commands do the same
with ``async with sessions.begin()``.  Nothing else in bkapp commits.
"""

import hashlib
import hmac
import re
from collections.abc import AsyncIterator, Mapping
from datetime import date, datetime, timedelta
from typing import Annotated, Any, cast
from urllib.parse import parse_qs
from zoneinfo import ZoneInfo

import msgspec
import sqlalchemy as sa
import structlog
from litestar import Litestar, MediaType, Request, Response
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.exceptions import HTTPException
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import HeaderParameter
from litestar.types import ASGIApp, ExceptionHandlersMap, HTTPScope, Message, Receive, Scope, Send
from litestar.utils.scope.state import ScopeState
from msgspec import Meta, Struct
from psycopg.types.json import Json
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionFree
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column
from typing_extensions import override

from bkapp.db import Sessions, Table, carry_out, is_outage
from bkapp.edge import REQUEST_ID
from bkapp.errors import (
    DomainError,
    FieldError,
    Forbidden,
    KeyInFlight,
    KeyMissing,
    KeyReused,
    Malformed,
    MethodNotAllowed,
    NotAcceptable,
    NotFound,
    TooLarge,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
    UnsupportedMediaType,
)

HANOI = ZoneInfo("Asia/Ho_Chi_Minh")
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
PROBLEM = "application/problem+json"
# For OpenAPI: a route for who has signed in (with a browser or an app), one for offices (with a key, too), and one that
# tells more to either.
SIGNED_IN: list[dict[str, list[str]]] = [{"session": []}, {"token": []}]
KEYED: list[dict[str, list[str]]] = [{"key": []}, *SIGNED_IN]
MAYBE_KEYED: list[dict[str, list[str]]] = [{}, *KEYED]

Transaction = NamedDependency[AsyncSession]
Reading = NamedDependency[AsyncSession]

# Documented on every unsafe route; checked by UnitOfWork before the handler is reached.
IdempotencyKey = Annotated[
    str,
    HeaderParameter(
        name="Idempotency-Key",
        description="One per intended change, 1 to 255 visible ASCII characters; the same key gives the same answer.",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
    ),
]

log = structlog.get_logger("bkapp.http")


def today() -> date:
    """The day it is in Bắc Kạn."""
    return datetime.now(HANOI).date()


# --- problems ---------------------------------------------------------------------------------------------------


class Problem(Struct, omit_defaults=True):
    """Problem details (RFC 9457)."""

    type: Annotated[str, Meta(description="Stable; what programs compare.", examples=["/problems/not_found"])]
    title: Annotated[str, Meta(description="Vietnamese, for the person.")]
    status: int
    detail: Annotated[str, Meta(description="English, for the engineer.")]
    request_id: str
    errors: list[FieldError] = []
    suggestions: list[dict[str, Any]] = []


_BY_STATUS: dict[int, type[DomainError]] = {
    400: Malformed,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    405: MethodNotAllowed,
    406: NotAcceptable,
    413: TooLarge,
    415: UnsupportedMediaType,
    429: TooManyRequests,
    503: Unavailable,
}


def documented(*statuses: int) -> dict[int, ResponseSpec]:
    """The refusals of a route, for OpenAPI.  400, 401 (a bad key), 429 and 503 can happen anywhere."""
    return {
        status: ResponseSpec(
            data_container=Problem,
            media_type=PROBLEM,
            generate_examples=False,
            description=_BY_STATUS[status].title if status in _BY_STATUS else "Yêu cầu bị từ chối",
        )
        for status in sorted({400, 401, 429, 503, *statuses})
    }


def problem_of(error: DomainError, request_id: str) -> dict[str, object]:
    return {
        **error.facts,
        "type": f"/problems/{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "request_id": request_id,
    }


def refuse(request: Request, error: DomainError) -> Response:
    """Answer a refusal as RFC 9457 problem details, or as a page to a browser that asked a page route."""
    headers = {"Cache-Control": "no-store"}
    wait = error.facts.get("retry_after", 5 if error.status == 503 else None)
    if wait is not None:
        headers["Retry-After"] = str(wait)
    if error.status == 401:
        headers["WWW-Authenticate"] = str(error.facts.get("authenticate", 'Bearer realm="bkapp"'))
    allow = error.facts.get("allow")
    if allow:
        headers["Allow"] = str(allow)
    problem = problem_of(error, request_id_of(request.scope))
    page = request.app.state.get("error_page")
    if page and wants_page(request):
        return Response(page(problem), status_code=error.status, media_type=MediaType.HTML, headers=headers)
    return Response(problem, status_code=error.status, media_type=PROBLEM, headers=headers)


def wants_page(request: Request) -> bool:
    """Whether a person with a browser waits for the answer, rather than a program."""
    path = request.scope["path"]
    return not path.startswith(("/api/", "/.well-known/", "/schema")) and "text/html" in request.headers.get(
        "accept", ""
    )


def _refuse_http(request: Request, error: HTTPException) -> Response:
    """Litestar's own refusals (no such route, unreadable body, …) in our words."""
    kind = _BY_STATUS.get(error.status_code)
    if error.detail == "client disconnected prematurely":
        kind = Malformed  # which nobody will read; but it is no bug
    if kind is None:
        return _fail(request, error)
    if kind is Malformed:
        return refuse(request, Malformed("The request cannot be read.", _field_errors(error)))
    if kind is MethodNotAllowed:
        allowed = set((error.headers or {}).get("allow", "").split(", "))
        allowed |= {"HEAD"} if "GET" in allowed else set()
        return refuse(request, MethodNotAllowed("This method is not allowed here.", allow=", ".join(sorted(allowed))))
    details = {
        NotFound: "There is nothing at this address.",
        TooLarge: "The body is larger than this route accepts.",
        UnsupportedMediaType: "Send application/json.",
    }
    return refuse(request, kind(details.get(kind, error.detail)))


def _field_errors(error: HTTPException) -> list[FieldError]:
    """Litestar's messages as JSON pointers: ``$.a[0].b`` in a body becomes ``/a/0/b``; a parameter keeps its name."""
    if not isinstance(error.extra, list):
        path = re.search(r"`\$((?:\.\w+|\[\d+\])*)`", error.detail)
        return [FieldError(pointer=_pointer(path[1] if path else ""), detail=error.detail.split(" - at ")[0])]
    found = []
    for message in error.extra:
        key = str(message.get("key", ""))
        in_body = message.get("source") in {"body", None} or key == "data"
        pointer = _pointer("." + key if key and key != "data" else "") if in_body else key
        found.append(FieldError(pointer=pointer, detail=str(message.get("message", ""))))
    return found


def _pointer(path: str) -> str:
    """``.a[0].b`` as ``/a/0/b``; the whole body for what is no path."""
    if not re.fullmatch(r"(?:\.\w+|\[\d+\])*", path):
        return ""
    return re.sub(r"\.|\[(?=\d)", "/", path).replace("]", "")


def _fail(request: Request, error: Exception) -> Response:
    """A bug: say so without a trace, and record it once."""
    request_id = request_id_of(request.scope)
    log.error("bug", request_id=request_id, route=request.scope.get("path_template"), exc_info=error)
    problem = {
        "type": "/problems/internal",
        "title": "Hệ thống gặp lỗi, xin thử lại sau",
        "status": 500,
        "detail": "Something went wrong on our side; it has been recorded.",
        "request_id": request_id,
    }
    return Response(problem, status_code=500, media_type=PROBLEM)


def _outage(request: Request, error: Exception) -> Response:
    """The database is away or has no time for us: not the caller's fault and worth another try."""
    if not is_outage(error):
        return _fail(request, error)
    log.warning("database_unavailable", kind=type(error).__name__, route=request.scope.get("path_template"))
    return refuse(request, Unavailable("The database does not answer at the moment."))


def _too_deep(request: Request, _: RecursionError) -> Response:
    """JSON nested beyond what can be read."""
    return refuse(request, Malformed("The body is nested too deep.", [FieldError("", "nested too deep")]))


EXCEPTION_HANDLERS: ExceptionHandlersMap = {
    RecursionError: _too_deep,
    DomainError: refuse,
    HTTPException: _refuse_http,
    OperationalError: _outage,
    InterfaceError: _outage,
    NoConnectionFree: _outage,
    Exception: _fail,
}


# --- guards -----------------------------------------------------------------------------------------------------


class HotRoute(HTTPRouteHandler):
    """A GET that answers with a Struct, without what Litestar does anew for every request.

    Copying the handler for each guard, collecting its exception handlers and
    building a response in four steps takes as long as the look-up itself.
    """

    def __init__(self, path: str, **options: Any) -> None:
        super().__init__(path, http_method="GET", **options)
        self._exception_handlers: ExceptionHandlersMap | None = None

    @override
    async def authorize_connection(self, connection: ASGIConnection) -> None:
        for guard in self.resolve_guards():
            await guard(connection, self)  # type: ignore[misc]

    @override
    def resolve_exception_handlers(self) -> ExceptionHandlersMap:
        if self._exception_handlers is None:
            self._exception_handlers = super().resolve_exception_handlers()
        return self._exception_handlers

    @override
    async def to_response(self, app: Litestar, data: Any, request: Request) -> ASGIApp:
        body = _JSON.encode(data)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]

        async def answer(_: Scope, __: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body, "more_body": False})

        return answer


_JSON = msgspec.json.Encoder()


async def anyone(_: ASGIConnection, __: BaseRouteHandler) -> None:
    """This route is public on purpose.  Every route names a guard, so that a forgotten one is seen.

    Guards are coroutines, because Litestar would give each plain function a thread for every request.
    """


# --- transactions and idempotency -------------------------------------------------------------------------------


class IdempotencyRecord(Table):
    """The answer once given to a key, kept at least 30 days so that a repeat gets the same bytes."""

    __tablename__ = "idempotency_key"

    caller: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[bytes]
    status: Mapped[int]
    headers: Mapped[dict[str, str]] = mapped_column(sa.JSON)
    body: Mapped[bytes]
    created_at: Mapped[datetime] = mapped_column(server_default=sa.func.now(), index=True)
    in_flight_until: Mapped[datetime | None]  # of a flow that has not answered yet


SESSION = "bkapp.session"
KEY = "bkapp.idempotency_key"
IN_FLIGHT = 0  # the status of an answer that is not there yet
FLOW_LEASE = timedelta(seconds=45)
"""How long a flow has to answer, before the same request may take it up again."""
_KEPT_HEADERS = frozenset({b"content-type", b"location"})
# Answers that say nothing about the change itself may differ next time, so they are not kept.
_NOT_KEPT = frozenset({400, 401, 403, 405, 406, 413, 415, 429})


class UnitOfWork:
    """One transaction around an unsafe request, committed here if the answer is a success.

    The same transaction holds the key's advisory lock (so a second request with
    the key, still in flight, is told to wait), the work, and the stored answer:
    either all of it happened or none.  A refusal's work is rolled back to a
    savepoint and the refusal stored, so that repeating it gives the same answer.

    Keys follow the IETF draft "The Idempotency-Key HTTP Header Field".  A route
    that changes nothing (a POST only because of its size) says so with
    ``opt={"reads_only": True}``; one whose flow opens transactions of its own
    around an outside call, and is safe to repeat, with ``opt={"flow": True}``.  If
    repeating it is to give the same answer all the same, it also says ``"keyed":
    True``: its key is claimed before and its answer stored after, each in a
    transaction of its own, and whoever dies between leaves a claim that runs out.
    The same request then takes the flow up again, which finds by the key
    (:func:`request_key`) how far it came.
    One that a page without scripts sends says ``opt={"form": True}``: its key is
    the field ``idempotency_key``.
    """

    def __init__(self, sessions: Sessions, secret: bytes = b"") -> None:
        """``secret`` keys the fingerprints of bodies: a body may be a telephone number, and those can be tried."""
        self._sessions = sessions
        self._secret = secret

    def __call__(self, app: ASGIApp) -> ASGIApp:
        async def unit_of_work(scope: Scope, receive: Receive, send: Send) -> None:
            http = cast(HTTPScope, scope)
            opt = http["route_handler"].opt
            if http["method"] in SAFE_METHODS or opt.get("reads_only") or (opt.get("flow") and not opt.get("keyed")):
                await app(scope, receive, send)
            elif http.get("user") is None and not opt.get("open"):
                # Nobody is signed in and the route is not open: its guard is about to refuse.
                await app(scope, receive, send)
            elif opt.get("flow"):
                await self._flow_once(scope, receive, send, app)
            else:
                await self._once(scope, receive, send, app)

        return unit_of_work

    async def _asked(self, scope: Scope, receive: Receive) -> tuple[Request[Any, Any, Any], str, str, bytes]:
        """The request, who sends it, its key and the fingerprint of what it asks."""
        http = cast(HTTPScope, scope)
        request = Request[Any, Any, Any](scope, receive)
        key = request.headers.get("idempotency-key", "")
        if not key and http["route_handler"].opt.get("form"):
            # A page without scripts sends its key as a field.
            key = parse_qs(await _form_of(request)).get("idempotency_key", [""])[0]
        if not re.fullmatch(r"[\x21-\x7e]{1,255}", key):
            raise KeyMissing("Send an Idempotency-Key header of 1 to 255 visible ASCII characters with every POST.")
        caller = str(getattr(scope.get("user"), "id", "open"))
        body = await request.body()
        boundary = request.content_type[1].get("boundary", "").encode("latin-1", "replace")
        if boundary:
            # Programs draw another one each time they send the same form.
            body = body.replace(b"--" + boundary, b"")
        asked = b"\0".join([http["method"].encode(), http["path"].encode(), http["query_string"], body])
        return request, caller, key, hmac.digest(self._secret, asked, "sha256")

    async def _flow_once(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        request, caller, key, fingerprint = await self._asked(scope, receive)
        # A claim must not outlive a guard's refusal, and what is replayed is told to nobody who may not ask any more.
        await cast(HTTPScope, scope)["route_handler"].authorize_connection(request)
        async with self._sessions.begin() as session:
            claim = await _claim_flow(session, caller, key, fingerprint)
        if isinstance(claim, IdempotencyRecord):
            await _replay(send, claim)
            return
        scope[KEY] = (caller, key)  # type: ignore[literal-required]
        stored, settled = None, False
        try:
            messages = await _answer_kept_back(next_app, scope, receive)
            answer = _answer_of(messages)
            if answer is not None:
                async with self._sessions.begin() as session:
                    stored = await _settle_flow(session, caller, key, fingerprint, answer)
                settled = True
        finally:
            if not settled:
                # Nothing to be repeated came of it: the same key may be tried again at once.
                async with self._sessions.begin() as session:
                    await session.execute(
                        sa.delete(IdempotencyRecord).where(
                            IdempotencyRecord.caller == caller,
                            IdempotencyRecord.key == key,
                            IdempotencyRecord.in_flight_until == claim,
                        )
                    )
        if stored is not None:
            await _replay(send, stored)
            return
        for message in messages:
            await send(message)

    async def _once(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        http = cast(HTTPScope, scope)
        request, caller, key, fingerprint = await self._asked(scope, receive)
        messages: list[Message] = []
        async with self._sessions.begin() as session:
            stored = await _claim(session, caller, key)
            if stored is None:
                scope[SESSION] = session  # type: ignore[literal-required]
                work = await session.begin_nested()
                messages = await _answer_kept_back(next_app, scope, receive)
                await _settle(
                    session, work, messages, IdempotencyRecord(caller=caller, key=key, fingerprint=fingerprint)
                )
        if stored is None:
            for message in messages:
                await send(message)
        elif stored.fingerprint != fingerprint:
            raise KeyReused("This Idempotency-Key was used for another request.")
        else:
            # An answer that was kept is told to nobody who may not ask any more: an office may have ended meanwhile.
            await http["route_handler"].authorize_connection(request)
            await _replay(send, stored)


async def _answer_kept_back(app: ASGIApp, scope: Scope, receive: Receive) -> list[Message]:
    """What an application answers, for us to send once that is settled."""
    messages: list[Message] = []

    async def keep(message: Message) -> None:
        messages.append(message)

    await app(scope, receive, keep)
    # Litestar takes it for sent, and would not let us answer what goes wrong from here on: a commit, say.
    ScopeState.from_scope(scope).response_started = False
    return messages


async def _form_of(request: Request) -> str:
    if request.content_type[0] != "application/x-www-form-urlencoded":
        return ""
    return (await request.body()).decode("latin-1")


# A writer that waits longer than this for others is told to come again; it must not keep a connection for ever.
_CLAIM = "SELECT set_config('lock_timeout', '4s', true), pg_try_advisory_xact_lock(%(number)s)"


async def _claim(session: AsyncSession, caller: str, key: str) -> IdempotencyRecord | None:
    """Take the key for this transaction; return the answer already given to it, if any."""
    digest = hashlib.blake2b(f"{caller}\0{key}".encode(), digest_size=8).digest()
    number = int.from_bytes(digest, "big", signed=True)
    [(_, ours)] = await carry_out(session, _CLAIM, {"number": number})
    if not ours:
        raise KeyInFlight("A request with this Idempotency-Key is still being worked on.", retry_after=1)
    return await session.get(IdempotencyRecord, (caller, key))


_CLAIM_FLOW = f"""
    INSERT INTO idempotency_key (caller, key, fingerprint, status, headers, body, in_flight_until)
    VALUES (%(caller)s, %(key)s, %(fingerprint)s, {IN_FLIGHT}, '{{}}', '', clock_timestamp() + %(lease)s)
    RETURNING in_flight_until"""
_TAKE_FLOW_OVER = """
    UPDATE idempotency_key SET in_flight_until = clock_timestamp() + %(lease)s
    WHERE caller = %(caller)s AND key = %(key)s AND in_flight_until < clock_timestamp() RETURNING in_flight_until"""
_SETTLE_FLOW = f"""
    UPDATE idempotency_key SET status = %(status)s, headers = %(headers)s, body = %(body)s, in_flight_until = NULL
    WHERE caller = %(caller)s AND key = %(key)s AND fingerprint = %(fingerprint)s AND status = {IN_FLIGHT}
    RETURNING key"""


async def _claim_flow(session: AsyncSession, caller: str, key: str, fingerprint: bytes) -> IdempotencyRecord | datetime:
    """Take the key for a flow, or take it over from one that died; return until when the claim lasts.

    If an answer was given to it already, return that.  Until when it lasts tells a claim from those before it.
    """
    stored = await _claim(session, caller, key)
    asked = {"caller": caller, "key": key, "fingerprint": fingerprint, "lease": FLOW_LEASE}
    if stored is not None and stored.fingerprint != fingerprint:
        raise KeyReused("This Idempotency-Key was used for another request.")
    if stored is not None and stored.status != IN_FLIGHT:
        return stored
    taken = await carry_out(session, _CLAIM_FLOW if stored is None else _TAKE_FLOW_OVER, asked)
    if not taken:
        raise KeyInFlight("A request with this Idempotency-Key is still being worked on.", retry_after=1)
    until: datetime = taken[0][0]
    return until


async def _settle_flow(
    session: AsyncSession, caller: str, key: str, fingerprint: bytes, answer: tuple[int, dict[str, str], bytes]
) -> IdempotencyRecord | None:
    """Store the answer of a flow; return the one to give instead, where whoever took the claim over was quicker."""
    status, headers, body = answer
    given = {"status": status, "headers": Json(headers), "body": body}
    asked = {"caller": caller, "key": key, "fingerprint": fingerprint}
    if await carry_out(session, _SETTLE_FLOW, {**asked, **given}):
        return None
    other = await session.get(IdempotencyRecord, (caller, key))
    # There is none where whoever asked was erased meanwhile.
    return other if other is not None and other.fingerprint == fingerprint and other.status != IN_FLIGHT else None


def _answer_of(messages: list[Message]) -> tuple[int, dict[str, str], bytes] | None:
    """What is kept of an answer; None where it is not to be kept."""
    start = next(message for message in messages if message["type"] == "http.response.start")
    status: int = start["status"]
    headers = dict(start["headers"])
    # A refused form is shown again with what was typed and who typed it, which is nobody's to keep.
    shown_again = status >= 400 and headers.get(b"content-type", b"").startswith(b"text/html")
    # Who is told to come again later is to get another answer then.
    later = status >= 400 and b"retry-after" in headers
    if status >= 500 or status in _NOT_KEPT or shown_again or later:
        return None
    kept = {name.decode(): value.decode() for name, value in headers.items() if name in _KEPT_HEADERS}
    return status, kept, b"".join(m.get("body", b"") for m in messages if m["type"] == "http.response.body")


def request_key(request: Request[Any, Any, Any]) -> str:
    """The Idempotency-Key of a keyed flow and who sent it, as one text that is the same whenever it is repeated."""
    caller, key = request.scope[KEY]  # type: ignore[literal-required]
    return f"{caller}\0{key}"


async def _settle(session: AsyncSession, work: Any, messages: list[Message], record: IdempotencyRecord) -> None:
    """Keep or undo the work by the answer that came out of it, and store the answer with it."""
    start = next(message for message in messages if message["type"] == "http.response.start")
    status: int = start["status"]
    if status < 400:
        await session.flush()
        await work.commit()
    else:
        await work.rollback()
    answer = _answer_of(messages)
    if answer is not None:
        record.status, record.headers, record.body = answer
        session.add(record)


async def _replay(send: Send, stored: IdempotencyRecord) -> None:
    headers = [(name.encode(), value.encode()) for name, value in stored.headers.items()]
    headers += [(b"idempotent-replayed", b"true"), (b"content-length", str(len(stored.body)).encode())]
    await send({"type": "http.response.start", "status": stored.status, "headers": headers})
    await send({"type": "http.response.body", "body": stored.body, "more_body": False})


def transaction(scope: Scope) -> AsyncSession:
    """The session of the transaction that :class:`UnitOfWork` opened around this request."""
    session: AsyncSession = scope[SESSION]  # type: ignore[literal-required]
    return session


async def reading(state: State) -> AsyncIterator[AsyncSession]:
    """A session for a route that only reads (and, at most, records that it did)."""
    readers: Sessions = state.readers
    async with readers.begin() as session:
        yield session


def request_id_of(scope: Mapping[str, Any]) -> str:
    return str(scope.get(REQUEST_ID, ""))
