"""An address as it was: versions, stays, names."""

from datetime import date, datetime
from uuid import UUID

from geoalchemy2 import Geometry
from msgspec import Struct
from sqlalchemy import cast, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.address.models import DwellingVersion, Hamlet, HouseholdLink, Identifier
from bkapp.address.queries.present import PLAIN_DETAILS, UnitRef
from bkapp.address.rules import Method, PointSource, Status
from bkapp.units.models import AdminUnit


class Version(Struct, frozen=True):
    """One belief of the register: so it was from … to …, recorded from … to …."""

    revision: int
    valid_from: date
    valid_to: date | None
    recorded_from: datetime
    recorded_to: datetime | None
    status: Status
    unit: UnitRef
    hamlet: str | None
    replaces: list[str]
    replaced_by: list[str]
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
    verified_on: date | None
    verification_method: Method | None


async def versions(session: AsyncSession, code: str, *, as_of: date | None, known_at: datetime | None) -> list[Version]:
    """The versions of an address by valid time.

    ``as_of`` keeps what was so on that day; ``known_at`` tells it as the
    register believed it then (now by default).
    """
    point = cast(DwellingVersion.point, Geometry)
    question = (
        select(
            *(getattr(DwellingVersion, name) for name in ("revision", "valid_from", "valid_to")),
            DwellingVersion.recorded_from,
            DwellingVersion.recorded_to,
            DwellingVersion.status,
            DwellingVersion.replaces,
            DwellingVersion.replaced_by,
            func.ST_X(point).label("lon"),
            func.ST_Y(point).label("lat"),
            *(getattr(DwellingVersion, name) for name in PLAIN_DETAILS),
            AdminUnit.code.label("unit_code"),
            AdminUnit.full_name.label("unit_name"),
            AdminUnit.valid_from.label("unit_since"),
            AdminUnit.boundary_quality.label("boundary"),
            Hamlet.name.label("hamlet"),
        )
        .join(AdminUnit, AdminUnit.id == DwellingVersion.unit_id)
        .outerjoin(Hamlet, Hamlet.id == DwellingVersion.hamlet_id)
        .where(DwellingVersion.code == code)
        .order_by(DwellingVersion.valid_from, DwellingVersion.recorded_from)
    )
    if as_of is not None:
        question = question.where(
            DwellingVersion.valid_from <= as_of,
            or_(DwellingVersion.valid_to.is_(None), DwellingVersion.valid_to > as_of),
        )
    if known_at is None:
        question = question.where(DwellingVersion.recorded_to.is_(None))
    else:
        question = question.where(
            DwellingVersion.recorded_from <= known_at,
            or_(DwellingVersion.recorded_to.is_(None), DwellingVersion.recorded_to > known_at),
        )
    found = []
    for row in await session.execute(question):
        values = dict(row._mapping)  # noqa: SLF001  (public in spite of its name)
        unit = UnitRef(
            code=values.pop("unit_code"),
            name=values.pop("unit_name"),
            valid_from=values.pop("unit_since"),
            boundary=values.pop("boundary"),
        )
        found.append(Version(unit=unit, **values))
    return found


class Stay(Struct, frozen=True):
    """A household that lived at an address from … to …."""

    household: UUID
    valid_from: date
    valid_to: date | None


async def stays(session: AsyncSession, code: str, *, as_of: date | None) -> list[Stay]:
    """Who lived at an address as the register believes now, earliest first; only on a day where one is given."""
    question = (
        select(HouseholdLink.household_id, HouseholdLink.valid_from, HouseholdLink.valid_to)
        .where(HouseholdLink.code == code, HouseholdLink.recorded_to.is_(None))
        .order_by(HouseholdLink.valid_from)
    )
    if as_of is not None:
        question = question.where(
            HouseholdLink.valid_from <= as_of, or_(HouseholdLink.valid_to.is_(None), HouseholdLink.valid_to > as_of)
        )
    return [Stay(*row) for row in await session.execute(question)]


class Name(Struct, frozen=True):
    """What another register called an address from … to …."""

    scheme: str
    value: str
    valid_from: date
    valid_to: date | None


async def names(session: AsyncSession, code: str, *, as_of: date | None) -> list[Name]:
    """The identifiers that other registers gave an address, by scheme and day."""
    question = (
        select(Identifier.scheme, Identifier.value, Identifier.valid_from, Identifier.valid_to)
        .where(Identifier.code == code)
        .order_by(Identifier.scheme, Identifier.valid_from)
    )
    if as_of is not None:
        question = question.where(
            Identifier.valid_from <= as_of, or_(Identifier.valid_to.is_(None), Identifier.valid_to > as_of)
        )
    return [Name(*row) for row in await session.execute(question)]


async def unit_before(session: AsyncSession, code: str, day: date) -> str | None:
    """The commune the register says an address was in on an earlier day."""
    name: str | None = await session.scalar(
        select(AdminUnit.full_name)
        .join(DwellingVersion, DwellingVersion.unit_id == AdminUnit.id)
        .where(
            DwellingVersion.code == code,
            DwellingVersion.recorded_to.is_(None),
            DwellingVersion.valid_from <= day,
            or_(DwellingVersion.valid_to.is_(None), DwellingVersion.valid_to > day),
        )
    )
    return name
