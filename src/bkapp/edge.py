"""The outermost ASGI layer: what holds for every answer, whatever route it came from.

One layer rather than a stack of middlewares, because every request pays for it:
request ids, security headers, HEAD, the rate limit, metrics and one log line.
A log line names the route (``/api/v1/addresses/{code}``) and never the path, so
that no address, code or search text is ever logged.
"""

import ipaddress
import re
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from random import getrandbits
from typing import Any
from urllib.parse import urlsplit

import msgspec
import structlog
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram

from bkapp.config import Settings
from bkapp.limiter import Limiter

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

REQUEST_ID = "bkapp.request_id"
_REQUEST_ID = re.compile(rb"[A-Za-z0-9_-]{8,64}")
_UNLIMITED = frozenset({"/healthz", "/readyz", "/metrics"})

CSP = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
# The API's documentation is a program in the page: its own scripts, its own styles, and it reads the description.
DOCUMENTATION = "/schema"
TILES = "/tiles/"
DOCUMENTATION_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# The one page with a script: it asks the telephone where it is, if its holder says so.
LOCATING = "/toi/ho-gia-dinh/dia-chi"
LOCATING_CSP = f"{CSP}; script-src 'self'"
_HEADERS = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Other sites are told nothing; our own must be, or browsers send forms with "Origin: null".
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "geolocation=(self), camera=(self), microphone=(self)",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

log = structlog.get_logger("bkapp.edge")

REQUESTS = Histogram(
    "bkapp_http_request_duration_seconds",
    "Time from the first byte of a request to the last byte of its answer.",
    ["method", "route", "status"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
LIMITED = Counter("bkapp_http_rate_limited", "Requests refused by the rate limit.")


def registry() -> CollectorRegistry:
    return REGISTRY


class Edge:
    """Wraps the application.  ``inner`` is an ASGI application that answers every request it is given."""

    def __init__(self, inner: ASGIApp, settings: Settings) -> None:
        self._inner = inner
        # Browsers hold redirects after a form to the same rule, and signing out ends at the identity provider.
        forms = f"form-action 'self' {origin_of(settings.eid_issuer)}" if settings.eid_issuer else "form-action 'self'"
        policy, locating = (text.replace("form-action 'self'", forms) for text in (CSP, LOCATING_CSP))
        own = {**_HEADERS, "Content-Security-Policy": policy}
        headers = [(name.lower().encode(), value.encode()) for name, value in own.items()]
        if settings.base_url.startswith("https://"):
            headers.append((b"strict-transport-security", b"max-age=31536000; includeSubDomains"))
        self._headers = headers
        self._of_page = {
            DOCUMENTATION: [(b"content-security-policy", DOCUMENTATION_CSP.encode()), *headers[1:]],
            LOCATING: [(b"content-security-policy", locating.encode()), *headers[1:]],
        }
        self._names = frozenset(name for name, _ in headers)
        self._proxies = settings.trusted_proxies
        self._limiter = Limiter(settings.rate_limit, settings.redis_url)
        # Labelled children are looked up once and kept: `labels()` takes a lock and sorts out names each time.
        self._timers: dict[tuple[str, str, int], Callable[[float], None]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._answer(scope, receive, send)
            return
        try:
            await self._inner(scope, receive, send)
        finally:
            if scope["type"] == "lifespan":
                await self._limiter.close()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        method: str = scope["method"]
        head = method == "HEAD"
        if head:
            # Every GET answers HEAD: same headers, no body (RFC 9110 §9.3.2).  The server's own scope still says HEAD,
            # or it would wait for the body that the headers promise.
            scope = {**scope, "method": "GET"}
        request_id = scope[REQUEST_ID] = _request_id(scope["headers"])
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = self._headers_of(message.get("headers", ()), request_id, scope)
            elif head and message["type"] == "http.response.body":
                if message.get("more_body"):
                    return
                message = {"type": "http.response.body", "body": b""}
            await send(message)

        try:
            if scope["path"] not in _UNLIMITED and (wait := self._limiter.hit(caller_address(scope, self._proxies))):
                LIMITED.inc()
                await _refuse(answer, 429, "too_many_requests", "Quá nhiều yêu cầu, xin chờ một chút", request_id, wait)
            else:
                await self._inner(scope, receive, answer)
        except Exception:
            # The application answers its own errors, so this is a bug of ours or a client that left.
            log.exception("unanswered", request_id=request_id, route=scope.get("path_template", ""))
            if not status:
                await _refuse(answer, 500, "internal", "Hệ thống gặp lỗi, xin thử lại sau", request_id)
        finally:
            seconds = time.perf_counter() - began
            route = scope.get("path_template") or "unrouted"
            self._observe(method, route, status, seconds)
            log.info(
                "request", method=method, route=route, status=status, ms=round(seconds * 1000, 2), request_id=request_id
            )

    def _headers_of(
        self, given: Iterable[tuple[bytes, bytes]], request_id: str, scope: Scope
    ) -> list[tuple[bytes, bytes]]:
        """An answer's headers with ours behind them; one that the application gave stands."""
        path: str = scope["path"]
        common = self._of_page.get(path, self._headers)
        headers = [*given]
        if path.startswith(TILES):
            # The rules for other origins overwrite Vary, and a cache must not give an officer anybody's map.
            headers = [header for header in headers if header[0] != b"vary"]
            headers.append((b"vary", b"Accept-Encoding, Authorization, Cookie, Origin"))
        present = {name for name, _ in headers}
        if self._names.isdisjoint(present):
            headers += common
        else:
            headers += [header for header in common if header[0] not in present]
        if scope.get("user") is not None and b"cache-control" not in present:
            # Who is known may see more than others, and caches may keep what a cookie brought, unless they are told.
            headers.append((b"cache-control", b"no-store"))
        headers.append((b"x-request-id", request_id.encode()))
        return headers

    def _observe(self, method: str, route: str, status: int, seconds: float) -> None:
        key = (method, route, status)
        observe = self._timers.get(key)
        if observe is None:
            known = method if method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} else "other"
            observe = self._timers[key] = REQUESTS.labels(known, route, str(status)).observe
        observe(seconds)


def origin_of(url: str) -> str:
    """The origin of a web address as browsers write it (RFC 6454 §6.2): without a path, and a port only where it says
    something."""
    parts = urlsplit(url.lower())
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    usual = {"http": 80, "https": 443}.get(parts.scheme)
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port not in {None, usual} else "")


def _request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The caller's own id if it is harmless, else a new one, which tells requests apart and guards nothing."""
    for name, value in headers:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return value.decode()
    return f"{getrandbits(64):016x}"


def remote_address(scope: Scope, proxies: int) -> str:
    """The address that a request came from.

    ``proxies`` is how many of the addresses in X-Forwarded-For, from the right, our own proxies wrote.
    """
    client = scope.get("client")
    address = str(client[0]) if client else "unknown"
    if proxies:
        chain = [
            part.strip()
            for name, value in scope["headers"]
            if name == b"x-forwarded-for"
            for part in value.decode("latin-1").split(",")
        ]
        if len(chain) >= proxies:
            address = chain[-proxies]
    return address


def caller_address(scope: Scope, proxies: int) -> str:
    """The caller's network address for the rate limit; an IPv6 caller is a whole /64, which one household holds."""
    address = remote_address(scope, proxies)
    if ":" in address:
        try:
            ip = ipaddress.IPv6Address(address.partition("%")[0])
        except ValueError:
            return "unknown"
        return str(ip.ipv4_mapped or ipaddress.IPv6Network((int(ip) >> 64 << 64, 64)))
    return address


async def _refuse(send: Send, status: int, code: str, title: str, request_id: str, wait: int = 0) -> None:
    detail = f"Try again in {wait} seconds." if wait else "Something went wrong on our side; it has been recorded."
    problem = {
        "type": f"/problems/{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "request_id": request_id,
    }
    headers = [(b"content-type", b"application/problem+json")]
    if wait:
        headers.append((b"retry-after", str(wait).encode()))
    body = msgspec.json.encode(problem)
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
