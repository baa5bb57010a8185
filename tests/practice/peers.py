"""Serve an ASGI app on a real socket, so that a test speaks to it as to a stranger."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn


@asynccontextmanager
async def running(app: Any, listener: socket.socket | None = None) -> AsyncIterator[str]:
    """Serve ``app`` on 127.0.0.1 in a thread with its own loop; give its address (``http://127.0.0.1:49152``).

    An app that has to know its own address before it is made takes it from a ``listener`` of :func:`listening`.
    The lifespan of the app runs in that thread, so its clients and locks belong to that loop.
    """
    listener = listener or listening()
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,
    )
    server = uvicorn.Server(config)
    failures: list[BaseException] = []

    def serve() -> None:
        try:
            asyncio.run(server.serve(sockets=[listener]))
        except BaseException as failure:  # noqa: BLE001  (told by the other thread; uvicorn leaves with SystemExit)
            failures.append(failure)

    thread = threading.Thread(target=serve, name="practice peer", daemon=True)
    address = address_of(listener)
    thread.start()
    try:
        while not server.started:
            if not thread.is_alive():
                raise RuntimeError("the app did not start") from next(iter(failures), None)
            await asyncio.sleep(0.01)
        yield address
    finally:
        server.should_exit = True
        await asyncio.to_thread(thread.join, 10)
        listener.close()


def listening() -> socket.socket:
    """A socket bound to a free port of 127.0.0.1."""
    listener = socket.socket(proto=socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    return listener


def address_of(listener: socket.socket) -> str:
    """The ``http://`` address of a listener, without a slash at its end."""
    return f"http://127.0.0.1:{listener.getsockname()[1]}"
