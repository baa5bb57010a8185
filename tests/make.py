"""Factories: plain functions, built through operations so that they cannot make impossible rows."""

from datetime import date
from typing import Any
from uuid import uuid4

from httpx import AsyncClient, Response
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access import operations as access
from bkapp.access.operations import Caller
from bkapp.access.rules import Role
from bkapp.address import operations
from bkapp.address.models import Dwelling
from bkapp.address.operations import Door, HouseholdRef, Point
from bkapp.address.rules import PointSource
from bkapp.http import today
from bkapp.units import queries as units

# A place well inside today's Xã Phủ Thông (01969), where the pilot commune Vi Hương is now.
COMMUNE = "01969"
ADMIN = Caller(id="test", role=Role.ADMIN, unit_ids=None)


async def a_key(
    session: AsyncSession, *, role: Role = Role.ADMIN, unit: str | None = None, on: date | None = None
) -> str:
    """An API key; an officer's when a unit's code is given."""
    if unit is not None:
        found = await units.unit_on(session, unit, on or today())
        assert found is not None
        return await access.make_key(session, label="test", role=Role.OFFICER, unit_id=found.id)
    return await access.make_key(session, label="test", role=role, unit_id=None)


async def a_place(session: AsyncSession, unit: str = COMMUNE, *, on: date | None = None, north: float = 0) -> Point:
    """A point in a commune, ``north`` metres from its middle."""
    found = await units.unit_on(session, unit, on or today())
    assert found is not None
    middle = text("""
        SELECT ST_X(p), ST_Y(p) FROM (
            SELECT (ST_MaximumInscribedCircle(boundary)).center AS p FROM admin_unit WHERE id = :id) AS middle
    """)
    lon, lat = (await session.execute(middle, {"id": found.id})).one()
    return Point(lon, lat + north / 110_700, PointSource.GPS, 5)


async def a_household() -> HouseholdRef:
    return HouseholdRef("test", uuid4().hex)


async def an_address(
    session: AsyncSession,
    *,
    unit: str = COMMUNE,
    north: float = 0,
    door: Door | None = None,
    household: HouseholdRef | None = None,
    hamlet: str | None = None,
    since: date | None = None,
    current: bool = True,
) -> Dwelling:
    """A current address (or a proposed one), by the registrar."""
    made = await operations.propose(
        session,
        ADMIN,
        point=await a_place(session, unit, on=since, north=north),
        unit_code=unit,
        hamlet=hamlet,
        door=door or Door(),
        household=household,
        since=since,
        today=today(),
    )
    if current:
        await operations.issue(session, ADMIN, made.code)
    return made


def auth(key: str, idempotency_key: str | None = None) -> dict[str, str]:
    """The headers of an unsafe request."""
    return {"Authorization": f"Bearer {key}", "Idempotency-Key": idempotency_key or uuid4().hex}


async def post(client: AsyncClient, key: str, path: str, body: Any = None, **headers: str) -> Response:
    """POST with a key and a fresh Idempotency-Key."""
    content = {} if body is None else {"json": body}
    return await client.post(path, headers={**auth(key), **headers}, **content)
