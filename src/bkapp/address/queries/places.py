"""What stands where: doors and codes around a point, hamlets of a commune."""

from collections.abc import Collection
from datetime import date
from typing import Any

from geoalchemy2 import Geography
from msgspec import Struct
from sqlalchemy import cast, func, or_, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.address.models import Dwelling, Hamlet
from bkapp.address.rules import LIVE, door_label
from bkapp.units.names import key as name_key


class NearDoor(Struct, frozen=True):
    code: str
    label: str
    metres: float


async def live_doors(
    session: AsyncSession, *, lon: float, lat: float, within: float, ignoring: Collection[str] = ()
) -> list[NearDoor]:
    """The doors in use within some metres of a point, nearest first, with what tells each from its neighbours.

    All of them: a tower has hundreds at one point.
    """
    here = _geography(lon, lat)
    rows = await session.execute(
        select(
            Dwelling.code,
            Dwelling.building,
            Dwelling.entrance,
            Dwelling.floor,
            Dwelling.door,
            func.ST_Distance(Dwelling.point, here).label("metres"),
        )
        .where(Dwelling.status.in_(LIVE), func.ST_DWithin(Dwelling.point, here, within), Dwelling.code.not_in(ignoring))
        .order_by("metres")
    )
    return [
        NearDoor(code=row.code, label=door_label(row.building, row.entrance, row.floor, row.door), metres=row.metres)
        for row in rows
    ]


async def codes_near(session: AsyncSession, *, lon: float, lat: float, within: float) -> list[str]:
    """Every code ever issued within some metres of a point: an ended one still stands on somebody's papers."""
    return list(
        await session.scalars(
            select(Dwelling.code).where(func.ST_DWithin(Dwelling.point, _geography(lon, lat), within)).limit(20_000)
        )
    )


async def metres_to_unit(session: AsyncSession, unit_id: int, *, lon: float, lat: float) -> float | None:
    """How far a point is from a unit's territory; None for a unit without boundary."""
    metres: float | None = await session.scalar(
        text("""
            SELECT min(ST_Distance(geom::geography, ST_SetSRID(ST_MakePoint(:lon, :lat), 4326)::geography))
            FROM admin_unit_piece WHERE unit_id = :unit_id
        """),
        {"lon": lon, "lat": lat, "unit_id": unit_id},
    )
    return metres


def _geography(lon: float, lat: float) -> Any:
    return cast(func.ST_SetSRID(func.ST_MakePoint(lon, lat), 4326), Geography)


class HamletRow(Struct, frozen=True):
    """A hamlet of a commune for the time it has this name."""

    id: int
    name: str
    qualifier: str | None
    valid_from: date
    valid_to: date | None

    @property
    def full_name(self) -> str:
        return f"{self.name} ({self.qualifier})" if self.qualifier else self.name


def _hamlets(unit_id: int, on: date) -> Any:
    return select(Hamlet.id, Hamlet.name, Hamlet.qualifier, Hamlet.valid_from, Hamlet.valid_to).where(
        Hamlet.unit_id == unit_id, Hamlet.valid_from <= on, or_(Hamlet.valid_to.is_(None), Hamlet.valid_to > on)
    )


async def hamlets_of(session: AsyncSession, *, unit_id: int, on: date) -> list[HamletRow]:
    """The hamlets of a commune on a day, by name."""
    rows = await session.execute(_hamlets(unit_id, on).order_by(Hamlet.name).limit(1000))
    return [HamletRow(*row) for row in rows]


async def hamlets_named(session: AsyncSession, *, unit_id: int, key: str, on: date) -> list[HamletRow]:
    """The hamlets of a commune that answer to a key.

    The one of exactly that name, with its qualifier if it has one; else all
    that have the name and are told apart by a qualifier.
    """
    rows = await session.execute(
        _hamlets(unit_id, on)
        .add_columns(Hamlet.key)
        .where(or_(Hamlet.key == key, Hamlet.key.startswith(key + " ", autoescape=True)))
        .limit(200)
    )
    exact, twins = [], []
    for *values, found in rows:
        hamlet = HamletRow(*values)
        if found == key:
            exact.append(hamlet)
        elif hamlet.qualifier and found == f"{key} {name_key(hamlet.qualifier)}":
            twins.append(hamlet)
    return exact or twins


async def hamlets_like(session: AsyncSession, *, unit_id: int, key: str, on: date) -> list[HamletRow]:
    """The hamlets of a commune whose names come near, nearest first."""
    rows = await session.execute(
        _hamlets(unit_id, on)
        .where(func.similarity(Hamlet.key, key) > 0.3)
        .order_by(func.similarity(Hamlet.key, key).desc())
        .limit(3)
    )
    return [HamletRow(*row) for row in rows]
