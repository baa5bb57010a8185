"""A browser of somebody who has signed in, as far as a test without one needs it."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import msgspec
from httpx import ASGITransport, AsyncClient, Response

from bkapp.access.operations import Caller
from bkapp.app import create_app
from bkapp.config import Settings
from bkapp.db import Sessions
from bkapp.edge import Edge
from bkapp.households.providers import Register
from tests.households.make import Residents

COOKIE = "__Host-bkapp"


@asynccontextmanager
async def served(
    settings: Settings,
    sessions: Sessions,
    *callers: Caller,
    population: Register | None = None,
    readers: Sessions | None = None,
) -> AsyncIterator[AsyncClient]:
    """A client of the application in which some have signed in, each with a cookie that is their id."""
    residents = Residents()
    residents.let_in(*(msgspec.structs.replace(caller, by_cookie=True) for caller in callers))
    app = create_app(settings, sessions, readers or sessions, people=residents, population=population)
    transport = ASGITransport(app=Edge(app, settings), raise_app_exceptions=False)  # type: ignore[arg-type]
    async with AsyncClient(transport=transport, base_url="http://bkapp.test") as client:
        yield client


def headers(caller: Caller | None) -> dict[str, str]:
    common = {"Accept": "text/html", "Sec-Fetch-Site": "same-origin"}
    return common | ({"Cookie": f"{COOKIE}={caller.id}"} if caller else {})


async def see(client: AsyncClient, caller: Caller | None, path: str) -> Response:
    """Open a page."""
    return await client.get(path, headers=headers(caller))


async def send(client: AsyncClient, caller: Caller | None, path: str, **fields: str) -> Response:
    """Send a form."""
    return await client.post(path, headers=headers(caller), data={"idempotency_key": uuid4().hex, **fields})


def link(page: Response, pattern: str) -> str:
    """The first address on a page that fits."""
    found = re.search(f'(?:href|action|formaction|src)="({pattern})"', page.text)
    assert found, f"no {pattern} on the page"
    return found[1].replace("&amp;", "&")
