"""Questions about addresses.  Reads only; each answers with rows shaped for its reader."""

from collections.abc import Collection, Sequence
from datetime import date, datetime
from typing import Any
from uuid import UUID

from geoalchemy2 import Geography, Geometry
from msgspec import Struct
from sqlalchemy import cast, func, literal_column, or_, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.address.models import Dwelling, DwellingVersion, Event, FeedHead, Hamlet, HouseholdLink, Identifier
from bkapp.address.rules import LIVE, Change, Method, PointSource, Status, door_label
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
                *(getattr(Dwelling, name) for name in (*_PLAIN_DETAILS, "verified_by", "verification_photo")),
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


_PLAIN_DETAILS = (
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
            *(getattr(DwellingVersion, name) for name in _PLAIN_DETAILS),
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


# --- hamlets ----------------------------------------------------------------------------------------------------


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
    """The hamlets of a commune that answer to a key: exactly, or by name where a merger made namesakes."""
    rows = await session.execute(
        _hamlets(unit_id, on).where(or_(Hamlet.key == key, Hamlet.key.startswith(key + " ", autoescape=True))).limit(20)
    )
    found = [HamletRow(*row) for row in rows]
    exact = [hamlet for hamlet in found if hamlet.qualifier is None]
    return exact or [hamlet for hamlet in found if hamlet.qualifier]


async def hamlets_like(session: AsyncSession, *, unit_id: int, key: str, on: date) -> list[HamletRow]:
    """The hamlets of a commune whose names come near, nearest first."""
    rows = await session.execute(
        _hamlets(unit_id, on)
        .where(func.similarity(Hamlet.key, key) > 0.3)
        .order_by(func.similarity(Hamlet.key, key).desc())
        .limit(3)
    )
    return [HamletRow(*row) for row in rows]


# --- the feed ---------------------------------------------------------------------------------------------------


class EventRow(Struct, frozen=True):
    seq: int
    recorded_at: datetime
    kind: Change
    code: str
    revision: int
    effective: date
    note: str | None
    data: dict[str, Any]


async def head(session: AsyncSession) -> int:
    """The number of the last event, 0 when nothing has happened."""
    return (await session.execute(select(FeedHead.seq))).scalar_one()


async def events(session: AsyncSession, *, after: int, limit: int) -> list[EventRow]:
    """The events after a number, in the order in which they were committed."""
    rows = await session.execute(_events(after).limit(limit))
    return [EventRow(*row) for row in rows]


def _events(after: int) -> Any:
    return (
        select(
            Event.seq,
            Event.recorded_at,
            Event.kind,
            Event.code,
            Event.revision,
            Event.effective,
            Event.note,
            Event.data,
        )
        .where(Event.seq > after)
        .order_by(Event.seq)
    )


CURRENT_TABLE = text("SELECT dwelling_snapshot(d) FROM dwelling d ORDER BY d.code")


async def current_table(session: AsyncSession) -> list[dict[str, Any]]:
    """Every address as the feed describes it, for comparing a replica with the register."""
    return [row[0] for row in await session.execute(CURRENT_TABLE)]


class Found(Struct, frozen=True):
    """A commune or hamlet found by its name."""

    kind: str
    name: str
    unit_code: str
    unit_name: str
    addresses: int


async def find_places(session: AsyncSession, *, key: str, on: date, limit: int = 20) -> list[Found]:
    """Hamlets whose name contains or resembles a key, best first, with how many current addresses each has."""
    if not key:
        return []
    rows = await session.execute(
        text("""
            SELECT h.name, h.qualifier, u.code, u.full_name,
                (SELECT count(*) FROM dwelling d
                 WHERE d.unit_id = h.unit_id AND d.hamlet_id = h.id AND d.status = 'current') AS addresses
            FROM hamlet h JOIN admin_unit u ON u.id = h.unit_id
            WHERE h.valid_from <= :on AND (h.valid_to IS NULL OR h.valid_to > :on)
                AND (strpos(h.key, :key) > 0 OR strpos(:key, h.key) > 0 OR similarity(h.key, :key) > 0.4)
            ORDER BY similarity(h.key, :key) DESC, h.name LIMIT :limit
        """),
        {"key": key, "on": on, "limit": limit},
    )
    return [
        Found("hamlet", f"{name} ({qualifier})" if qualifier else name, code, unit, addresses)
        for name, qualifier, code, unit, addresses in rows
    ]


async def sample(session: AsyncSession) -> str | None:
    """One current demo address to show."""
    code: str | None = await session.scalar(
        select(Dwelling.code)
        .where(Dwelling.is_demo, Dwelling.status == Status.CURRENT)
        .order_by(Dwelling.code)
        .limit(1)
    )
    return code


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
