"""Asking another server without being harmed by its answer: bounded in time and size, and never sent elsewhere."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Generic, TypeVar

import httpx
from msgspec import Struct

from bkapp.identity.providers import ProviderUnavailable

CONNECT_SECONDS = 3.0
TOTAL_SECONDS = 10.0
LONGEST_ANSWER = 262_144

Found = TypeVar("Found")


class Answer(Struct, frozen=True):
    """An answer that was read to its end.  ``media_type`` is lower case and without parameters."""

    status: int
    media_type: str
    body: bytes


class Asker:
    """An HTTP client for one provider, that waits ``patience`` seconds for an answer and its end.

    Redirects are not followed: what we send is a secret of ours, meant for the address that the provider published.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport | None, *, patience: float) -> None:
        self._patience = patience
        self._client = httpx.AsyncClient(
            transport=transport,
            timeout=httpx.Timeout(patience, connect=min(patience, CONNECT_SECONDS)),
            follow_redirects=False,
            # A packed answer may be a thousand times as long as what came over the wire, so none is asked for.
            headers={"Accept-Encoding": "identity", "User-Agent": "bkapp"},
        )

    async def get(self, url: str, *, headers: Mapping[str, str] | None = None) -> Answer:
        return await self._ask("GET", url, headers or {}, None)

    async def post(self, url: str, form: Mapping[str, str], *, headers: Mapping[str, str] | None = None) -> Answer:
        return await self._ask("POST", url, headers or {}, form)

    async def close(self) -> None:
        await self._client.aclose()

    async def _ask(self, method: str, url: str, headers: Mapping[str, str], form: Mapping[str, str] | None) -> Answer:
        # "from None" everywhere: the errors of httpx hold the request, and with it our secret.
        try:
            async with (
                asyncio.timeout(self._patience),
                self._client.stream(method, url, headers=dict(headers), data=form) as response,
            ):
                return Answer(response.status_code, _media_type(response), await _read(response))
        except (TimeoutError, httpx.TimeoutException):
            raise ProviderUnavailable("The identity provider does not answer in time.", reason="timeout") from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, ValueError):
            # ValueError: what idna and h11 make of addresses and headers that are none.
            raise ProviderUnavailable("The identity provider cannot be reached.", reason="unreachable") from None


class Kept(Generic[Found]):
    """Something fetched and kept for a while.

    Those who ask while it is on its way wait for the same answer, also when that answer is a failure: a provider that
    is down must not make a queue in which each waits for all before.
    """

    def __init__(self, fetch: Callable[[], Awaitable[Found]], *, lasts: float, clock: Callable[[], float]) -> None:
        self._fetch = fetch
        self._lasts = lasts
        self._clock = clock
        self._found: Found | None = None
        self._found_at = 0.0
        self._looked_at = 0.0
        self._on_its_way: asyncio.Task[Found] | None = None

    async def get(self) -> Found:
        """What is kept, or else what is fetched now."""
        # A clock that was put back does not make it last longer.
        if self._found is not None and 0 <= self._clock() - self._found_at < self._lasts:
            return self._found
        return await self.renew()

    async def renew(self) -> Found:
        """Fetch it anew."""
        if self._on_its_way is None or self._on_its_way.done():
            self._on_its_way = asyncio.ensure_future(self._load())
            self._on_its_way.add_done_callback(_hear)
        # Shielded: one who gives up must not take the answer from the others.
        return await asyncio.shield(self._on_its_way)

    async def newer(self, than: Found, *, pause: float) -> Found:
        """What is kept by now, or fetched now, other than ``than``; at most every ``pause`` seconds, else ``than``."""
        if self._found is not than:
            return await self.get()
        if self._on_its_way is None or self._on_its_way.done():
            now = self._clock()
            if 0 <= now - self._looked_at < pause:
                return than
            self._looked_at = now
        return await self.renew()

    def close(self) -> None:
        if self._on_its_way is not None:
            self._on_its_way.cancel()

    async def _load(self) -> Found:
        self._found = await self._fetch()
        self._found_at = self._clock()
        return self._found


def _hear(task: asyncio.Task[Found]) -> None:
    """Take note of a failure even if all who waited for it have given up, so that asyncio does not log it."""
    if not task.cancelled():
        task.exception()


def _media_type(response: httpx.Response) -> str:
    return str(response.headers.get("content-type", "")).partition(";")[0].strip().lower()


async def _read(response: httpx.Response) -> bytes:
    if response.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise ProviderUnavailable("The identity provider packs its answers, unasked.", reason="bad_answer")
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > LONGEST_ANSWER:
            raise ProviderUnavailable("The identity provider's answer is too long.", reason="answer_too_long")
    return bytes(body)
