"""Sending to an address that a partner chose, without becoming their arm inside our network (SSRF).

The name is looked up here, all that it stands for is checked, and the connection goes to what was checked: no second
look-up can answer otherwise.  The Host header and the certificate stay those of the name.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from functools import cache
from typing import Self

import httpx

from bkapp.payments.sending import PATIENCE, Answer, Refused, Target, WrongTarget, check_addresses, read_target

CONNECT_SECONDS = 3.0
DRAIN_SECONDS = 1.0
MOST_READ = 4096  # bytes of an answer, which nobody looks at
MOST_ADDRESSES = 4  # of a name, that are tried

Resolve = Callable[[str, int], Awaitable[list[str]]]


class _Unresolved(Exception):
    """A name stands for nothing."""


async def look_up(host: str, port: int) -> list[str]:
    """All addresses that the system knows for a name, the best first.  The system's resolver runs in a thread."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(place[0]) for *_, place in found))


@cache
def _trusted() -> ssl.SSLContext:
    """The certificates that the world trusts, read once: a job makes a client of its own."""
    return httpx.create_ssl_context(trust_env=False)


class Poster:
    """The HTTP client for webhooks.

    No redirects, no proxies of the environment, no cookies, and no connection that is used twice: one that was opened
    for a name must not carry what is meant for another name at the same address.
    """

    def __init__(
        self,
        *,
        demo: bool = False,
        resolve: Resolve = look_up,
        trust: ssl.SSLContext | None = None,
        patience: float = PATIENCE.total_seconds(),
    ) -> None:
        """``demo`` also allows http to this machine; ``trust`` stands for other certificates."""
        self._demo = demo
        self._resolve = resolve
        self._patience = patience
        self._transport = httpx.AsyncHTTPTransport(
            verify=trust or _trusted(), trust_env=False, limits=httpx.Limits(max_keepalive_connections=0)
        )

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send once.  Whatever goes wrong is an answer, too: nothing that the other side does raises here."""
        try:
            target = read_target(url, demo=self._demo)
            async with asyncio.timeout(self._patience):
                response = await self._send(target, body, headers)
        except (WrongTarget, Refused):
            return Answer(None, "address_refused")
        except _Unresolved:
            return Answer(None, "unresolved")
        except TimeoutError:
            return Answer(None, "timeout")
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            return Answer(None, "certificate" if _by_certificate(error) else "unreachable")
        except (httpx.HTTPError, OSError, ValueError):  # ValueError: what h11 makes of headers that are none
            return Answer(None, "broken")
        await _drain(response)
        return Answer(response.status_code, None, response.headers.get("retry-after"))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._transport.aclose()

    async def _send(self, target: Target, body: bytes, headers: Mapping[str, str]) -> httpx.Response:
        try:
            found = await self._resolve(target.host, target.port)
        except (OSError, UnicodeError):
            raise _Unresolved(target.host) from None
        check_addresses(found, scheme=target.scheme, demo=self._demo)
        unreachable: Exception = _Unresolved(target.host)
        for address in found[:MOST_ADDRESSES]:
            request = httpx.Request(
                "POST",
                httpx.URL(scheme=target.scheme, host=address, port=target.port, raw_path=target.path.encode()),
                headers={"Host": target.authority, "User-Agent": "bkapp", **headers},
                content=body,
                extensions={
                    "sni_hostname": target.host,
                    "timeout": httpx.Timeout(self._patience, connect=CONNECT_SECONDS).as_dict(),
                },
            )
            try:
                return await self._transport.handle_async_request(request)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                unreachable = error  # and nothing was sent
        raise unreachable


async def _drain(response: httpx.Response) -> None:
    """Take a little of the answer's body, so that its sender sees no error, and let go of it."""
    with suppress(TimeoutError, httpx.HTTPError, OSError, ValueError):
        async with asyncio.timeout(DRAIN_SECONDS), aclosing(response):
            read = 0
            async for chunk in response.aiter_raw():
                read += len(chunk)
                if read > MOST_READ:
                    return


def _by_certificate(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False
