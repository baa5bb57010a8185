"""Questions about administrative units.  Reads only.

Everything is asked *on a day*: a unit is in force on ``valid_from`` and no longer on ``valid_to``.
"""

from collections.abc import Collection
from datetime import date, timedelta

from msgspec import Struct
from sqlalchemy import ColumnElement, Select, TextClause, func, or_, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from bkapp.units.models import AdminUnit, AdminUnitPiece, Alias, BoundarySource, Identifier, Level, Quality
from bkapp.units.names import key

_Parent = aliased(AdminUnit)


class Unit(Struct, frozen=True):
    """``parent`` is the parent's code at the time; ``decree`` the act that made the unit, None where it is older
    than our records."""

    id: int
    code: str
    level: Level
    kind: str
    name: str
    full_name: str
    parent: str | None
    valid_from: date
    valid_to: date | None
    decree: str | None
    in_bac_kan: bool
    area_km2: float | None
    boundary_quality: Quality | None

    def in_words(self) -> str:
        """The unit and its days, for a refusal."""
        until = f" until {self.valid_to - timedelta(days=1)}" if self.valid_to else ""
        return f"{self.full_name} from {self.valid_from}{until}"


class Contained(Struct, frozen=True):
    """The commune around a point, and how far its boundary can be trusted."""

    unit: Unit
    boundary_quality: Quality


class DatedIdentifier(Struct, frozen=True):
    scheme: str
    value: str
    valid_from: date
    valid_to: date | None


class Attribution(Struct, frozen=True):
    """Where an official boundary comes from."""

    source: str
    licence: str
    as_of: date


class Details(Struct, frozen=True):
    """What is known of a unit beside its name and period."""

    aliases: list[str]
    identifiers: list[DatedIdentifier]
    boundary: Attribution | None


async def unit_on(session: AsyncSession, code: str, on: date) -> Unit | None:
    """The unit that ``code`` means on a day."""
    found = await _units(session, _select().where(AdminUnit.code == code, _in_force(on)))
    return found[0] if found else None


async def unit_by_id(session: AsyncSession, unit_id: int) -> Unit | None:
    found = await _units(session, _select().where(AdminUnit.id == unit_id))
    return found[0] if found else None


async def units_by_ids(session: AsyncSession, ids: Collection[int]) -> list[Unit]:
    """Some units, by code."""
    return await _units(session, _select().where(AdminUnit.id.in_(ids)).order_by(AdminUnit.code)) if ids else []


async def meanings(session: AsyncSession, code: str) -> list[Unit]:
    """Every unit that a code ever meant, oldest first."""
    return await _units(session, _select().where(AdminUnit.code == code).order_by(AdminUnit.valid_from))


async def units_on(
    session: AsyncSession,
    on: date,
    *,
    level: Level | None = None,
    parent: str | None = None,
    q: str | None = None,
    in_bac_kan: bool | None = None,
    limit: int = 200,
    after: str = "",
) -> list[Unit]:
    """The units in force on a day, by code, those after the code ``after``.

    ``q`` is any part of a name in any spelling, former names included.  The table has a few hundred
    rows, so it is read through: an index for parts of words would cost more than it saves.
    """
    statement = _select().where(_in_force(on), AdminUnit.code > after).order_by(AdminUnit.code).limit(limit)
    if level is not None:
        statement = statement.where(AdminUnit.level == level)
    if parent is not None:
        statement = statement.where(_Parent.code == parent)
    if in_bac_kan is not None:
        statement = statement.where(AdminUnit.in_bac_kan == in_bac_kan)
    if q is not None:
        part = key(q)
        if not part:
            return []
        glued = part.replace(" ", "")  # some former names are known only as folded words run together
        also = select(Alias.unit_id).where(or_(Alias.folded.contains(part), Alias.folded.contains(glued)))
        statement = statement.where(or_(AdminUnit.folded.contains(part), AdminUnit.id.in_(also)))
    return await _units(session, statement)


async def details(session: AsyncSession, unit_id: int) -> Details:
    aliases = await session.scalars(select(Alias.name).where(Alias.unit_id == unit_id).order_by(Alias.name))
    identifiers = await session.execute(
        select(Identifier.scheme, Identifier.value, Identifier.valid_from, Identifier.valid_to)
        .where(Identifier.unit_id == unit_id)
        .order_by(Identifier.scheme, Identifier.valid_from)
    )
    source = await session.execute(
        select(BoundarySource.source, BoundarySource.licence, BoundarySource.as_of)
        .join(AdminUnit, AdminUnit.boundary_source_id == BoundarySource.id)
        .where(AdminUnit.id == unit_id)
    )
    file = source.one_or_none()
    return Details(
        aliases=list(aliases),
        identifiers=[DatedIdentifier(*row) for row in identifiers],
        boundary=Attribution(*file) if file else None,
    )


# A unit leads to what took it over, or, where no act names a successor (a district), to its last children.
_SUCCESSORS = text("""
    WITH RECURSIVE line AS (
        SELECT id, valid_from, valid_to FROM admin_unit WHERE id = :unit_id
        UNION
        SELECT next.id, next.valid_from, next.valid_to
        FROM line, LATERAL (
            SELECT u.id, u.valid_from, u.valid_to
            FROM admin_unit_succession s JOIN admin_unit u ON u.id = s.new_id
            WHERE s.old_id = line.id
            UNION ALL
            SELECT u.id, u.valid_from, u.valid_to FROM admin_unit u
            WHERE u.parent_id = line.id AND u.valid_to = line.valid_to
              AND NOT EXISTS (SELECT FROM admin_unit_succession s WHERE s.old_id = line.id)
        ) next
        WHERE line.valid_to <= :on
    )
    SELECT id FROM line WHERE valid_from <= :on AND (valid_to IS NULL OR valid_to > :on)
""")
_PREDECESSORS = text("""
    WITH RECURSIVE line AS (
        SELECT id, valid_from, valid_to FROM admin_unit WHERE id = :unit_id
        UNION
        SELECT u.id, u.valid_from, u.valid_to
        FROM line JOIN admin_unit_succession s ON s.new_id = line.id JOIN admin_unit u ON u.id = s.old_id
        WHERE line.valid_from > :on
    )
    SELECT id FROM line WHERE valid_from <= :on AND (valid_to IS NULL OR valid_to > :on)
""")


async def successors(session: AsyncSession, unit: Unit, on: date) -> list[Unit]:
    """The units that have a unit's territory on a later day, through any number of changes, by code.

    A unit still in force is its own successor.  A district's are communes, because districts ended without one.
    """
    return await _related(session, _SUCCESSORS, unit, on)


async def predecessors(session: AsyncSession, unit: Unit, on: date) -> list[Unit]:
    """The units that had a unit's territory on an earlier day, by code, as far as our records go back."""
    return await _related(session, _PREDECESSORS, unit, on)


async def containing(session: AsyncSession, lon: float, lat: float, on: date) -> Contained | None:
    """The commune of (old) Bắc Kạn around a point on a day; None outside, or before our records begin.

    Pieces are of one size whatever the boundary, so this costs the same for a ward and a large commune.
    Where an official boundary meets an approximate one the official one counts, and on the line between
    two units the answer is the one with the lower code: always the same.
    """
    here = func.ST_SetSRID(func.ST_MakePoint(lon, lat), 4326)
    found = await _units(
        session,
        _select()
        .join(AdminUnitPiece, AdminUnitPiece.unit_id == AdminUnit.id)
        .where(
            func.ST_Intersects(AdminUnitPiece.geom, here),
            AdminUnit.level == Level.COMMUNE,
            AdminUnit.in_bac_kan,
            _in_force(on),
        )
        .order_by((AdminUnit.boundary_quality == Quality.OFFICIAL).desc(), AdminUnit.code)
        .limit(1),
    )
    if not found or found[0].boundary_quality is None:
        return None
    return Contained(found[0], found[0].boundary_quality)


# To be filled in with what stands for the unit.
SCOPE = """
    WITH RECURSIVE territory AS (
        SELECT id FROM admin_unit WHERE id = {unit_id}
        UNION
        SELECT u.id FROM territory JOIN admin_unit u ON u.parent_id = territory.id
    ), scope AS (
        SELECT id FROM territory
        UNION
        SELECT s.new_id FROM scope
        JOIN admin_unit_succession s ON s.old_id = scope.id
        JOIN admin_unit u ON u.id = s.new_id
        WHERE u.level = 'commune'
    )
    SELECT id FROM scope
"""
_SCOPE = text(SCOPE.format(unit_id=":unit_id"))


async def scope_ids(session: AsyncSession, unit_id: int) -> set[int]:
    """The ids that a mandate for a unit covers: the unit, everything below it, and what became of its communes.

    Only communes hand their mandate on.  A district or province reaches today through its communes, so the
    mandate for Bắc Kạn covers its 37 units of 2025, and not the other 55 of the province it merged into.
    """
    return set(await session.scalars(_SCOPE, {"unit_id": unit_id}))


def _select() -> Select:
    """The columns of :class:`Unit`, in its order."""
    return select(
        AdminUnit.id,
        AdminUnit.code,
        AdminUnit.level,
        AdminUnit.kind,
        AdminUnit.name,
        AdminUnit.full_name,
        _Parent.code.label("parent"),
        AdminUnit.valid_from,
        AdminUnit.valid_to,
        AdminUnit.decree,
        AdminUnit.in_bac_kan,
        AdminUnit.area_km2,
        AdminUnit.boundary_quality,
    ).outerjoin(_Parent, _Parent.id == AdminUnit.parent_id)


def _in_force(on: date) -> ColumnElement[bool]:
    return (AdminUnit.valid_from <= on) & or_(AdminUnit.valid_to.is_(None), AdminUnit.valid_to > on)


async def _units(session: AsyncSession, statement: Select) -> list[Unit]:
    return [Unit(*row) for row in await session.execute(statement)]


async def _related(session: AsyncSession, statement: TextClause, unit: Unit, on: date) -> list[Unit]:
    ids = (await session.scalars(statement, {"unit_id": unit.id, "on": on})).all()
    return await units_by_ids(session, ids)
