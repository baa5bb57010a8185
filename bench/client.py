"""A load client for machines without wrk.

``python -m bench.client PORT FILE CONNECTIONS SECONDS keep|close|each PATH [HEADER...]``.  With ``each`` the file holds
whole requests, parted by zero bytes, and each is sent once, in their order; else it holds what follows PATH, drawn at
random.  One event loop and one raw connection per slot; an answer is counted when its last byte is there.  It needs
more of the machine than wrk, so its figures are lower on both sides of a ratio and less far apart.
"""

import asyncio
import json
import random
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import cast

import uvloop
from typing_extensions import override

ADDRESS = "127.0.0.1"
GOOD = (b"HTTP/1.1 200", b"HTTP/1.1 201", b"HTTP/1.1 304")

Draw = Callable[[], bytes]


class Slot(asyncio.Protocol):
    """One connection that asks again as soon as it is answered."""

    def __init__(self, draw: Draw, until: float, took: list[float], ended: asyncio.Future[int]) -> None:
        self._draw = draw
        self._until = until
        self._took = took
        self._ended = ended
        self._errors = 0
        self._seen = b""
        self._began = 0.0
        self._transport: asyncio.Transport | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._ask()

    @override
    def data_received(self, data: bytes) -> None:
        self._seen += data
        head = self._seen.find(b"\r\n\r\n")
        if head < 0:
            return
        at = self._seen.lower().find(b"content-length:", 0, head)
        # What has not changed (304) has no body and needs no length.
        known = self._seen.startswith(b"HTTP/1.1 304")
        if at < 0 and not known:
            self._errors += 1
            self._close()
            return
        length = 0 if known else int(self._seen[at + 15 : self._seen.find(b"\r", at)])
        if len(self._seen) < head + 4 + length:
            return
        now = time.perf_counter()
        self._took.append(now - self._began)
        self._errors += not self._seen.startswith(GOOD)
        self._seen = b""
        if now >= self._until:
            self._close()
        else:
            self._ask()

    @override
    def connection_lost(self, _: Exception | None) -> None:
        if not self._ended.done():
            self._ended.set_result(self._errors + 1)

    def _ask(self) -> None:
        assert self._transport is not None
        self._began = time.perf_counter()
        self._transport.write(self._draw())

    def _close(self) -> None:
        assert self._transport is not None
        if not self._ended.done():
            self._ended.set_result(self._errors)
        self._transport.close()


async def keep(port: int, draw: Draw, connections: int, until: float, took: list[float]) -> int:
    """Ask over lasting connections until the time is over; return how many answers were wrong."""
    loop = asyncio.get_running_loop()
    ends: list[asyncio.Future[int]] = [loop.create_future() for _ in range(connections)]
    for end in ends:
        await loop.create_connection(lambda end=end: Slot(draw, until, took, end), ADDRESS, port)  # type: ignore[misc]
    return sum(await asyncio.wait_for(asyncio.gather(*ends), timeout=until - time.perf_counter() + 30))


async def close(port: int, draw: Draw, connections: int, until: float, took: list[float]) -> int:
    """The same with a new connection for every request."""

    async def slot() -> int:
        errors = 0
        while time.perf_counter() < until:
            began = time.perf_counter()
            reader, writer = await asyncio.open_connection(ADDRESS, port)
            writer.write(draw())
            errors += not (await reader.read(-1)).startswith(GOOD)
            took.append(time.perf_counter() - began)
            writer.close()
        return errors

    return sum(await asyncio.wait_for(asyncio.gather(*(slot() for _ in range(connections))), timeout=600))


def main() -> None:
    port, listing, connections, seconds, how, path, *headers = sys.argv[1:]
    if how == "each":
        draw: Draw = cycle(Path(listing).read_bytes().split(b"\0")).__next__
    else:
        more = "".join(f"{header}\r\n" for header in headers)
        requests = [
            f"GET {path}{code} HTTP/1.1\r\nHost: {ADDRESS}:{port}\r\n{more}\r\n".encode()
            for code in Path(listing).read_text().split()
        ]
        draw = partial(random.choice, requests)
    took: list[float] = []
    began = time.perf_counter()
    work = (close if how == "close" else keep)(int(port), draw, int(connections), began + float(seconds), took)
    errors = uvloop.run(work)
    spent = time.perf_counter() - began
    took.sort()
    figures = {
        "rps": round(len(took) / spent, 1),
        "p50_ms": round(took[len(took) // 2] * 1000, 3),
        "p99_ms": round(took[len(took) * 99 // 100] * 1000, 3),
        "errors": errors,
    }
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
