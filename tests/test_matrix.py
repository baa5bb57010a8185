"""Who may do what: every route asked by everybody, and what came of it, in one table.

A new route fails here until it has a row.  A row has a status for each of :data:`CALLERS`; a star behind one says that
the answer tells something that is not public: a name, number or telephone, the door or the exact place of a home.
Each request is asked in the same world and taken back, so that rows don't depend on each other.
"""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from string import Template
from typing import Any
from uuid import UUID, uuid4

import pytest
from httpx import ASGITransport, AsyncClient
from litestar.handlers import HTTPRouteHandler
from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_sessionmaker

from bkapp.access.operations import Caller
from bkapp.access.rules import Role
from bkapp.address.models import Hamlet, Household
from bkapp.address.operations import Door, HouseholdRef
from bkapp.app import create_app
from bkapp.config import load_settings
from bkapp.edge import Edge
from bkapp.households import operations as households
from bkapp.households.rules import Relation
from bkapp.http import today
from bkapp.identity.models import Notice
from bkapp.privacy import operations as privacy
from bkapp.privacy.rules import RequestKind
from bkapp.units import queries as units
from tests import make
from tests.households.make import registered
from tests.identity.make import (
    BASE_URL,
    KEYRING,
    SayingProvider,
    a_person,
    a_sign_in,
    an_app,
    cookie_headers,
    of_secret,
)
from tests.matrix import CALLERS, ROWS
from tests.payments.make import a_treasury

SETTINGS = {"BKAPP_DEMO": "1", "BKAPP_BASE_URL": BASE_URL, "BKAPP_RATE_LIMIT": "1000000/second"}
OWNER, SEEKER, NUMBER, PHONE, DOOR = "Nông Thị Riêng", "Triệu Văn Đợi", "099184123456", "+84990000777", "7RIENG"


class World(Struct):
    """What the rows' paths and bodies are made of, and how each caller proves who they are."""

    values: dict[str, str]
    headers: dict[str, dict[str, str]]
    secrets: tuple[str, ...]


async def _world(session: AsyncSession) -> World:
    now = datetime.now(UTC)
    owner = await a_person(session, name=OWNER, number=NUMBER, phone=PHONE)
    low = await a_person(session, name="Bàn Thị Mức", level=1)
    other = await a_person(session, name="Dương Văn Khác")
    seeker = await a_person(session, name=SEEKER)
    invited = await a_person(session, name="Vi Thị Mời")
    officer_in = await a_person(session, name="Lường Văn Cán", role=Role.OFFICER, unit=make.COMMUNE)
    officer_out = await a_person(session, name="Ma Thị Ngoài", role=Role.OFFICER, unit="02083")

    own = await registered(session, _caller(owner))
    await registered(session, _caller(other), unit="02083")
    await registered(session, _caller(seeker))
    ref = await session.get_one(Household, own.household_id)
    home = await make.an_address(
        session, door=Door(house_number=DOOR), household=HouseholdRef(ref.source, ref.source_id)
    )
    empty = await make.an_address(session, north=80)
    proposed = await make.an_address(session, north=160, current=False)
    claim = await households.claim(session, KEYRING, _caller(seeker), code=empty.code, pin=None, today=today())
    _, token = await households.invite(session, _caller(owner), relation=Relation.OTHER, now=now)
    membership = await households.accept(session, _caller(invited), token, now=now)
    invitation, token = await households.invite(session, _caller(owner), relation=Relation.OTHER, now=now)
    asked = await privacy.ask(session, KEYRING, other, kind=RequestKind.ACCESS, details=None, now=now)

    people = {"owner": owner, "other": other, "officer_in": officer_in, "officer_out": officer_out, "low": low}
    secrets = {name: await a_sign_in(session, person) for name, person in people.items()}
    device = await of_secret(session, await a_sign_in(session, owner))
    notice = Notice(person_id=owner, kind="new_device", data={"device": "Chrome trên Android"})
    session.add(notice)
    keys = {role: await make.a_key(session, role=role) for role in (Role.MONITOR, Role.PARTNER, Role.ADMIN)}
    place = "SELECT ST_X(point::geometry), ST_Y(point::geometry) FROM dwelling WHERE code = :code"
    lon, lat = (await session.execute(text(place), {"code": home.code})).one()
    ids: dict[str, Any] = {"claim": claim, "membership": membership, "asked": asked, "notice": notice}
    ids["invitation"] = invitation
    commune = await units.unit_on(session, make.COMMUNE, today())
    assert commune is not None
    treasury = await a_treasury(session, owner, commune.id, now=now)
    await session.flush()
    values = {
        **treasury,
        "home": home.code,
        "empty": empty.code,
        "proposed": proposed.code,
        "token": token,
        "device": str(device.id),
        "lon": f"{lon:.7f}",
        "lat": f"{lat:.7f}",
        "near_lon": f"{lon + 0.0004:.7f}",
        "near_lat": f"{lat - 0.0003:.7f}",
        "far_lon": f"{lon - 0.001:.7f}",
        "far_lat": f"{lat - 0.001:.7f}",
        "unit": make.COMMUNE,
        "hamlet": str(await _hamlet(session)),
        "door": DOOR,
        **{name: str(row.id) for name, row in ids.items()},
    }
    await session.commit()
    headers = {
        "anonymous": {},
        **{name: cookie_headers(secret) for name, secret in secrets.items()},
        **{role.value: make.auth(key) for role, key in keys.items()},
    }
    # To the millimetre only at the door itself; a metre is told by nobody who may not.
    return World(values, headers, (OWNER, SEEKER, NUMBER, PHONE, DOOR, f"{lon:.5f}", f"{lat:.5f}"))


def _caller(person: UUID) -> Caller:
    return Caller(id=str(person), role=Role.CITIZEN, unit_ids=frozenset(), person=person, level=2)


async def _hamlet(session: AsyncSession) -> int:
    unit = await units.unit_on(session, make.COMMUNE, today())
    assert unit is not None
    hamlet = Hamlet(unit_id=unit.id, name="Thôn Nà Thử", key="na thu", valid_from=today(), source="test")
    session.add(hamlet)
    await session.flush()
    return hamlet.id


class Asked(Struct):
    """The world and a way to ask in it."""

    connection: AsyncConnection
    client: AsyncClient
    world: World

    async def row(self, method: str, path: str, body: str) -> str:
        """What each caller is answered: statuses, starred where the answer tells what is not public."""
        return " ".join([await self._answer(method, path, body, caller) for caller in CALLERS])

    async def _answer(self, method: str, path: str, body: str, caller: str) -> str:
        filled = Template(path).substitute(self.world.values)
        headers = {**self.world.headers[caller], "Accept": "application/json, */*;q=0.5"}
        content: dict[str, Any] = {}
        if method != "GET":
            headers["Idempotency-Key"] = uuid4().hex
            sent = Template(body).substitute(self.world.values)
            if sent.startswith("file:"):
                content = {"files": {"data": ("noi.csv", sent.removeprefix("file:").strip().encode(), "text/csv")}}
            elif sent.startswith("{"):
                content = {"content": sent.encode()}
                headers["Content-Type"] = "application/json"
            elif sent:
                content = {"content": f"{sent}&idempotency_key={uuid4().hex}".encode()}
                headers["Content-Type"] = "application/x-www-form-urlencoded"
        savepoint = await self.connection.begin_nested()
        try:
            answer = await self.client.request(method, filled, headers=headers, **content)
        finally:
            await savepoint.rollback()
        told = answer.text if answer.status_code < 400 else ""
        assert answer.status_code != 500, (method, path, caller, answer.text)
        return f"{answer.status_code}{'*' if any(secret in told for secret in self.world.secrets) else ''}"


@pytest.fixture(scope="module")
async def asked(engine: AsyncEngine, database: str) -> AsyncIterator[Asked]:
    """Asks every row for every caller, in one world that is thrown away."""
    async with engine.connect() as connection:
        outer = await connection.begin()
        sessions = async_sessionmaker(connection, join_transaction_mode="create_savepoint", expire_on_commit=False)
        async with sessions() as session:
            world = await _world(session)
        settings = load_settings({**SETTINGS, "DATABASE_URL": database})
        app = an_app(settings, sessions, SayingProvider())
        transport = ASGITransport(app=Edge(app, settings), raise_app_exceptions=False)  # type: ignore[arg-type]
        async with AsyncClient(transport=transport, base_url=BASE_URL) as client:
            yield Asked(connection, client, world)
        await outer.rollback()


def _routes() -> set[str]:
    """Every route as ``METHOD path``."""
    unbound: Any = None
    app = create_app(load_settings({**SETTINGS, "DATABASE_URL": "postgresql://nobody/nothing"}), unbound, unbound)
    return {
        f"{method} {route.path}"
        for route in app.routes
        for handler in getattr(route, "route_handlers", ())
        if isinstance(handler, HTTPRouteHandler)
        for method in handler.http_methods - {"OPTIONS"}
    }


def test_every_route_has_a_row_and_every_row_a_route() -> None:
    assert _routes() == set(ROWS)


@pytest.mark.parametrize("route", ROWS)
async def test_each_is_answered_as_the_table_says(asked: Asked, route: str) -> None:
    method = route.partition(" ")[0]
    path, body, expected = ROWS[route]
    assert await asked.row(method, path, body) == " ".join(expected.split())
