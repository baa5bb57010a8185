"""The peer of the resolve benchmark: the same server, driver, pool and SQL, and nothing else."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from psycopg_pool import AsyncConnectionPool

from bench.databases import libpq
from bkapp.address.queries import RESOLVE
from bkapp.config import load_settings

Application = Callable[
    [dict[str, Any], Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]
]
SQL = RESOLVE + "%s"
_ENCODER = msgspec.json.Encoder()


def application() -> Application:
    """An ASGI application that looks a code up and writes the row as JSON."""
    settings = load_settings()
    pool = AsyncConnectionPool(
        libpq(settings.database_url),
        min_size=settings.pool_size,
        max_size=settings.pool_size,
        open=False,
        kwargs={"autocommit": True},
    )

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await _live(pool, receive, send)
            return
        code = scope["path"].rpartition("/")[2]
        async with pool.connection() as connection:
            cursor = await connection.execute(SQL, (code,), prepare=True)
            row = await cursor.fetchone()
        assert row is not None
        body = _ENCODER.encode(row)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


async def _live(pool: AsyncConnectionPool[Any], receive: Any, send: Any) -> None:
    await receive()
    await pool.open(wait=True)
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await pool.close()
    await send({"type": "lifespan.shutdown.complete"})
