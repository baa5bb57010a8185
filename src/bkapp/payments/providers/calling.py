"""Asking a payment provider over HTTP: bounded in time and size, and honest about what is not known."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import httpx
from msgspec import Struct

from bkapp.payments.providers import NoAnswer, NotSent
from bkapp.payments.providers.asking import payer_url
from bkapp.payments.providers.wire import read_json

CONNECT_SECONDS = 3.0
TOTAL_SECONDS = 12.0
LONGEST_ANSWER = 262_144


class Reply(Struct, frozen=True):
    """An answer that was read to its end."""

    status: int
    body: bytes


class Wire:
    """The HTTP client for payment providers.

    Redirects are not followed and proxies of the environment not used: what is sent is signed with secrets of ours.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport | None = None, *, patience: float = TOTAL_SECONDS) -> None:
        self._patience = patience
        self._client = httpx.AsyncClient(
            transport=transport,
            timeout=httpx.Timeout(patience, connect=min(patience, CONNECT_SECONDS)),
            follow_redirects=False,
            trust_env=False,
            # A packed answer may be a thousand times as long as what came over the wire, so none is asked for.
            headers={"Accept-Encoding": "identity", "User-Agent": "bkapp"},
        )

    async def send(
        self,
        method: str,
        url: str,
        *,
        body: bytes = b"",
        media_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Ask, and read the answer to its end.

        Raise :class:`NotSent` where no connection came about, and :class:`NoAnswer` where one did and the answer is
        missing, too long, an error of the server or packed: whatever was asked may have happened.
        """
        sent = {**(headers or {}), **({"Content-Type": media_type} if body else {})}
        # "from None" everywhere: the errors of httpx hold the request, and with it what we signed.
        try:
            async with (
                asyncio.timeout(self._patience),
                self._client.stream(method, url, headers=sent, content=body or None) as response,
            ):
                return await _read(response)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol, httpx.InvalidURL):
            raise NotSent("The provider cannot be reached.") from None
        except (TimeoutError, httpx.HTTPError, httpx.StreamError, OSError, ValueError):
            raise NoAnswer("The provider did not answer.") from None

    async def ask(self, url: str, fields: Mapping[str, object]) -> dict[str, Any]:
        """Post a JSON object and read the one that is answered; raise as :meth:`send` does."""
        reply = await self.send("POST", url, body=json.dumps(fields).encode())
        # A refusal may come as 400 and say why.
        if not 200 <= reply.status < 300 and not 400 <= reply.status < 500:
            raise NoAnswer(f"The provider answered {reply.status}.")
        try:
            return read_json(reply.body)
        except ValueError:
            raise NoAnswer("The provider's answer is no JSON object.") from None

    async def close(self) -> None:
        await self._client.aclose()


async def _read(response: httpx.Response) -> Reply:
    if response.status_code >= 500:
        raise NoAnswer(f"The provider answered {response.status_code}.")
    if response.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise NoAnswer("The provider packs its answers, unasked.")
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > LONGEST_ANSWER:
            raise NoAnswer("The provider's answer is too long.")
    return Reply(response.status_code, bytes(body))


def telling_who(url: str) -> str:
    """An address whose answers need no signature, since TLS says who gives them, or this machine does.

    Raise :class:`NotSent` for any other.
    """
    try:
        return payer_url(url)
    except ValueError:
        raise NotSent("The provider signs no answers, and its address is not https.") from None
