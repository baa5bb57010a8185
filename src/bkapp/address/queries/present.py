"""An address as it is: what anybody may know, and what only some may."""

from collections.abc import Sequence
from datetime import date
from typing import Any
from uuid import UUID

from geoalchemy2 import Geometry
from msgspec import Struct
from sqlalchemy import cast, func, literal_column, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.address.models import Dwelling, HouseholdLink, Identifier
from bkapp.address.rules import Method, PointSource, Status
from bkapp.db import Lookup
from bkapp.units.models import AdminUnit


class UnitRef(Struct, frozen=True):
    """A commune as an address names it: the code means what it meant from ``valid_from`` on."""

    code: str
    name: str
    valid_from: date
    boundary: str | None


class Summary(Struct, frozen=True):
    """What anybody may know of an address."""

    code: str
    status: Status
    revision: int
    stated: int
    since: date
    unit: UnitRef
    province: str | None
    hamlet: str | None
    area: str
    replaces: list[str]
    replaced_by: list[str]
    demo: bool


class Details(Struct, frozen=True):
    """What the holder and officers may know besides."""

    unit_id: int
    lon: float
    lat: float
    point_source: PointSource
    point_accuracy_m: float | None
    house_number: str | None
    street: str | None
    building: str | None
    entrance: str | None
    floor: str | None
    door: str | None
    household: UUID | None
    verified_on: date | None
    verified_by: str | None
    verification_method: Method | None
    verification_photo: str | None
    identifiers: dict[str, str]
    postcode: str | None


# The look-up that everything else waits for: one statement by primary keys, nothing computed but JSON.
RESOLVE = """
SELECT d.code, d.status, d.revision, d.stated, d.began, d.area, d.replaces, d.replaced_by, d.is_demo,
    u.code AS unit_code, u.full_name AS unit_name, u.valid_from AS unit_valid_from, u.boundary_quality,
    p.full_name AS province,
    CASE WHEN h.qualifier IS NULL THEN h.name ELSE h.name || ' (' || h.qualifier || ')' END AS hamlet
FROM dwelling d
JOIN admin_unit u ON u.id = d.unit_id
LEFT JOIN admin_unit p ON p.id = u.parent_id
LEFT JOIN hamlet h ON h.id = d.hamlet_id
WHERE d.code = """
_RESOLVE = text(RESOLVE + ":code")
# The same for all codes that were asked for at once; the first column says which row is whose.
RESOLVE_MANY = RESOLVE + "ANY(%s)"


async def resolve(lookup: Lookup, code: str) -> Summary | None:
    """The public view of an address by the shortest way, or None where the code was never issued."""
    row = await lookup(code)
    return None if row is None else summary_of(row)


async def summary(session: AsyncSession, code: str) -> Summary | None:
    """The public view of an address, or None where the code was never issued."""
    row = (await session.execute(_RESOLVE, {"code": code})).first()
    if row is None:
        return None
    return summary_of(tuple(row))


def summary_of(row: Sequence[Any]) -> Summary:
    """A row of :data:`RESOLVE` as a Struct."""
    (
        code, status, revision, stated, began, area, replaces, replaced_by, demo,
        unit, name, since, boundary, province, hamlet,
    ) = row  # fmt: skip
    return Summary(
        code=code,
        status=Status(status),
        revision=revision,
        stated=stated,
        since=began,
        unit=UnitRef(code=unit, name=name, valid_from=since, boundary=boundary),
        province=province,
        hamlet=hamlet,
        area=area,
        replaces=replaces,
        replaced_by=replaced_by,
        demo=demo,
    )


async def details(session: AsyncSession, code: str) -> Details | None:
    """The exact view of an address.  Whoever calls this records the read."""
    point = cast(Dwelling.point, Geometry)
    row = (
        await session.execute(
            select(
                Dwelling.unit_id,
                func.ST_X(point).label("lon"),
                func.ST_Y(point).label("lat"),
                *(getattr(Dwelling, name) for name in (*PLAIN_DETAILS, "verified_by", "verification_photo")),
                select(HouseholdLink.household_id)
                .where(
                    HouseholdLink.code == Dwelling.code,
                    HouseholdLink.recorded_to.is_(None),
                    HouseholdLink.valid_to.is_(None),
                )
                .scalar_subquery()
                .label("household"),
                select(func.coalesce(func.jsonb_object_agg(Identifier.scheme, Identifier.value), text("'{}'::jsonb")))
                .where(Identifier.code == Dwelling.code, Identifier.valid_to.is_(None))
                .scalar_subquery()
                .label("identifiers"),
                literal_column(_POSTCODE).label("postcode"),
            ).where(Dwelling.code == code)
        )
    ).first()
    return None if row is None else Details(**row._mapping)  # noqa: SLF001  (public in spite of its name)


PLAIN_DETAILS = (
    "point_source",
    "point_accuracy_m",
    "house_number",
    "street",
    "building",
    "entrance",
    "floor",
    "door",
    "verified_on",
    "verification_method",
)
# The postcode of 2018 is one of the communes of then: where today's commune has none, the one that lay here before.
_POSTCODE = """
    (SELECT i.value FROM admin_unit_identifier i JOIN admin_unit u ON u.id = i.unit_id
     WHERE i.scheme = 'vnpost2018' AND u.level = 'commune' AND (u.id = dwelling.unit_id OR EXISTS (
        SELECT FROM admin_unit_succession s JOIN admin_unit_piece p ON p.unit_id = s.old_id
        WHERE s.new_id = dwelling.unit_id AND s.old_id = u.id AND ST_Covers(p.geom, dwelling.point::geometry)))
     ORDER BY u.id = dwelling.unit_id DESC, u.id LIMIT 1)"""


async def issued(session: AsyncSession, wanted: Sequence[str]) -> dict[str, str]:
    """Which of these codes exist, with the commune each is in."""
    rows = await session.execute(
        select(Dwelling.code, AdminUnit.full_name)
        .join(AdminUnit, AdminUnit.id == Dwelling.unit_id)
        .where(Dwelling.code.in_(wanted))
    )
    return {code: commune for code, commune in rows}  # noqa: C416  (a Row is not typed as a pair)


class Here(Struct, frozen=True):
    lon: float
    lat: float


async def point_of(session: AsyncSession, code: str) -> Here:
    """Where a dwelling's door is."""
    point = cast(Dwelling.point, Geometry)
    row = (await session.execute(select(func.ST_X(point), func.ST_Y(point)).where(Dwelling.code == code))).one()
    return Here(lon=row[0], lat=row[1])


async def sample(session: AsyncSession) -> str | None:
    """One current demo address to show."""
    code: str | None = await session.scalar(
        select(Dwelling.code)
        .where(Dwelling.is_demo, Dwelling.status == Status.CURRENT)
        .order_by(Dwelling.code)
        .limit(1)
    )
    return code
