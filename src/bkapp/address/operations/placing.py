"""The steps that verbs share: finding a place, a code, a door and a household, and who may reach them."""

from collections.abc import Collection, Sequence
from datetime import date, timedelta
from math import floor
from uuid import UUID

from msgspec import Struct
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.operations import Caller, OutsideScope
from bkapp.address import changes, codes, queries
from bkapp.address.models import Dwelling, Household, HouseholdLink
from bkapp.address.pluscodes import area as area_of
from bkapp.address.rules import (
    APPROXIMATE_EDGE_METRES,
    LIVE,
    NEIGHBOUR_METRES,
    NEIGHBOURS_DIFFER_IN,
    SAME_DOOR_METRES,
    PointSource,
    Status,
    door_label,
    tidy,
)
from bkapp.db import violated
from bkapp.errors import DomainError, FieldError, Invalid, NotFound
from bkapp.units import queries as units
from bkapp.units.names import key as name_key

# The advisory lock that writers in sets (imports, mergers of units) take alone and single writers share.
PLACING = 7236120


async def take_turn(session: AsyncSession) -> None:
    """Wait until no import is under way.  Verbs that place a home call this before they lock anything else: whoever
    came with rows locked could wait for an import that waits for those rows."""
    await session.execute(select(func.pg_advisory_xact_lock_shared(PLACING)))


class Refused(Invalid):
    """A proposal that the register does not accept, with every reason."""

    code = "address_refused"
    title = "Không thể cấp địa chỉ theo đề nghị này"


class HouseholdHasAddress(DomainError):
    """The household lives at another address in that time: one household, one address."""

    code = "household_has_address"
    title = "Hộ gia đình này đã có địa chỉ số"


class AddressHasHousehold(DomainError):
    """Another household lives at the address in that time: one address, one household."""

    code = "address_has_household"
    title = "Địa chỉ này đã có hộ gia đình đang ở"


class NoHousehold(DomainError):
    """Nobody is registered at the address, so nobody can move from it."""

    code = "address_has_no_household"
    title = "Địa chỉ này hiện không có hộ gia đình nào"


class HamletExists(DomainError):
    """The commune has a hamlet of that name, marks and spelling aside."""

    code = "hamlet_exists"
    title = "Thôn này đã có trong danh sách"


class IdentifierTaken(DomainError):
    """Another address has that identifier of that scheme in that time."""

    code = "identifier_taken"
    title = "Mã này đã gắn với một địa chỉ khác"


class Ended(DomainError):
    """The address is retired or rejected; nothing about it changes any more."""

    code = "address_ended"
    title = "Địa chỉ này đã ngừng dùng, không thể thay đổi"


class HouseholdRef(Struct, frozen=True):
    """A household by its number in somebody's register."""

    source: str
    id: str


class Door(Struct, frozen=True):
    """What tells one home from its neighbours, as people say it."""

    house_number: str | None = None
    street: str | None = None
    building: str | None = None
    entrance: str | None = None
    floor: str | None = None
    door: str | None = None

    def tidied(self) -> dict[str, str | None]:
        return {name: tidy(getattr(self, name)) for name in self.__struct_fields__}


class Point(Struct, frozen=True):
    """Where the door is: WGS 84 degrees, where they come from, and how exact they are in metres."""

    lon: float
    lat: float
    source: PointSource
    accuracy_m: float | None = None

    def ewkt(self) -> str:
        return f"SRID=4326;POINT({self.lon:.7f} {self.lat:.7f})"


async def locked(session: AsyncSession, caller: Caller, code: str) -> Dwelling:
    found = await changes.lock(session, [code])
    return await reached(session, caller, found, code)


async def reached(session: AsyncSession, caller: Caller, found: dict[str, Dwelling], code: str) -> Dwelling:
    dwelling = found.get(code)
    if dwelling is None:
        raise NotFound(f"The code {codes.display(code)} has not been issued.")
    if not caller.reaches(dwelling.unit_id):
        raise OutsideScope("Your key does not cover the commune of this address.")
    return dwelling


async def commune_of(session: AsyncSession, dwelling: Dwelling) -> units.Unit:
    """The commune a dwelling is in now."""
    unit = await units.unit_by_id(session, dwelling.unit_id)
    if unit is None:
        raise LookupError(f"unit {dwelling.unit_id} is gone")  # a foreign key forbids it
    return unit


def require_live(dwelling: Dwelling) -> None:
    if dwelling.status not in LIVE:
        raise Ended(f"This address is {dwelling.status} and does not change any more.", now=dwelling.status)


async def place(
    session: AsyncSession, point: Point, unit_code: str, *, on: date, pointer: str = "/point"
) -> units.Unit:
    """The commune a point lies in on a day, if it is the one that was named.

    An approximate boundary is a guess near its edges, so a point just beyond it
    is believed to be where its people say, unless an official boundary of
    another commune contains it.
    """
    unit = await units.unit_on(session, unit_code, on)
    if unit is None or unit.level != "commune" or not unit.in_bac_kan:
        raise Refused(
            "The commune is not one of Bắc Kạn's on that day.",
            [FieldError("/unit", f"no commune {unit_code!r} of Bắc Kạn on {on}")],
        )
    there = await units.containing(session, point.lon, point.lat, on)
    if there is not None and there.unit.id == unit.id:
        return unit
    metres = await queries.metres_to_unit(session, unit.id, lon=point.lon, lat=point.lat)
    guessed = unit.boundary_quality == "approximate" and (there is None or there.boundary_quality == "approximate")
    if metres is not None and guessed and metres <= APPROXIMATE_EDGE_METRES:
        return unit
    where = (
        f"the point lies in {there.unit.full_name} ({there.unit.code}), not in {unit.full_name} ({unit.code})"
        if there is not None
        else "the point lies outside the province"
    )
    reason = "outside_commune" if there is not None else "outside_province"
    raise Refused(f"The point cannot be accepted: {where}.", [FieldError(pointer, where)], reasons=[reason])


async def periods_of(
    session: AsyncSession, unit: units.Unit, point: Point, began: date
) -> list[tuple[int, date, date | None]]:
    """The units a place has belonged to from a day to now: (unit id, from, to)."""
    periods: list[tuple[int, date, date | None]] = []
    start = began
    while unit.valid_to is not None:
        periods.append((unit.id, start, unit.valid_to))
        start = unit.valid_to
        heirs = await units.successors(session, unit, start)
        if len(heirs) > 1:
            there = await units.containing(session, point.lon, point.lat, start)
            heirs = [heir for heir in heirs if there is not None and heir.id == there.unit.id] or heirs
        if not heirs:
            raise Refused("The commune has no successor.", [FieldError("/unit", f"{unit.code} ended on {start}")])
        unit = heirs[0]
    periods.append((unit.id, start, None))
    return periods


async def lock_doors(session: AsyncSession, points: Sequence[Point]) -> None:
    """Lock the few metres around some points, in one order, so that whoever looks there next finds what we write."""
    reach = SAME_DOOR_METRES / 100_000
    cells = {
        (floor((point.lon + dx) * 5_000) << 32) + floor((point.lat + dy) * 5_000)
        for point in points
        for dx in (-reach, reach)
        for dy in (-reach, reach)
    }
    for cell in sorted(cells):
        await session.execute(select(func.pg_advisory_xact_lock(cell)))


async def line_through(
    session: AsyncSession, point: Point, unit: units.Unit, *, since: date, believed: changes.Line
) -> list[tuple[int, date, date | None]]:
    """The units a point has belonged to from a day on, ending in the commune it is in now.

    Going back, an official boundary of the time decides; without one, what was
    believed of the dwelling, if that became the present commune; else a guess.
    """
    line: list[tuple[int, date, date | None]] = [(unit.id, max(since, unit.valid_from), None)]
    while line[0][1] > since:
        day = line[0][1] - timedelta(days=1)
        there = await units.containing(session, point.lon, point.lat, day)
        known = next((one for one, start, end in believed if start <= day and (end is None or day < end)), None)
        then = there.unit if there else None
        if known is not None and not (there and there.boundary_quality == "official"):
            told = await units.unit_by_id(session, known)
            heirs = await units.successors(session, told, line[0][1]) if told else []
            if line[0][0] in {heir.id for heir in heirs}:
                then = told
        if then is None:
            # Nothing is known of that time here: the first unit known stands for it.
            line[0] = (line[0][0], since, line[0][2])
            break
        line.insert(0, (then.id, max(since, then.valid_from), line[0][1]))
    return line


async def refuse_same_door(
    session: AsyncSession,
    point: Point,
    door: dict[str, str | None],
    *,
    ignoring: Collection[str],
    pointer: str = "/point",
) -> None:
    """Refuse a home within three metres of another one's door that nothing tells from it.

    Writers near one place take turns, so that two of them cannot both find it free.
    """
    await lock_doors(session, [point])
    label = door_label(door["building"], door["entrance"], door["floor"], door["door"])
    for near in await queries.live_doors(
        session, lon=point.lon, lat=point.lat, within=SAME_DOOR_METRES, ignoring=ignoring
    ):
        if near.label == label:
            raise Refused(
                "Another home has its door here, and nothing tells the two apart.",
                [
                    FieldError(
                        pointer,
                        f"{codes.display(near.code)} is {near.metres:.1f} m away; give building, "
                        "entrance, floor or door to tell them apart",
                    )
                ],
                reasons=["same_door"],
                address=near.code,
            )


async def add(
    session: AsyncSession,
    *,
    point: Point,
    door: Door,
    unit_id: int,
    hamlet_id: int | None,
    began: date,
    status: Status,
    is_demo: bool,
    replaces: Sequence[str] = (),
    ignoring: Collection[str] = (),
    pointer: str = "/point",
) -> Dwelling:
    """A new dwelling under a fresh code, not yet in the feed."""
    parts = door.tidied()
    await refuse_same_door(session, point, parts, ignoring=ignoring, pointer=pointer)
    near = await queries.codes_near(session, lon=point.lon, lat=point.lat, within=NEIGHBOUR_METRES)
    while True:
        code = distinct_code(near)
        taken = await session.execute(
            insert(Dwelling)
            .values(
                code=code,
                began=began,
                area=area_of(point.lon, point.lat),
                is_demo=is_demo,
                status=status,
                unit_id=unit_id,
                hamlet_id=hamlet_id,
                point=point.ewkt(),
                point_source=point.source,
                point_accuracy_m=point.accuracy_m,
                replaces=list(replaces),
                **parts,
            )
            .on_conflict_do_nothing(index_elements=[Dwelling.code])
            .returning(Dwelling.code)
        )
        if taken.first() is not None:
            break
    return (await changes.lock(session, [code]))[code]


def distinct_code(near: Collection[str], *, tries: int = 64) -> str:
    """A code that differs in five digits or more from all of ``near`` where possible, else the most different drawn.

    After Eircode: neighbours' codes must not be mistaken for each other.
    """
    most_alike = codes.LENGTH - NEIGHBOURS_DIFFER_IN
    best, best_likeness = "", codes.LENGTH + 1
    for _ in range(tries):
        code = codes.draw()
        likeness = max((codes.agreement(code, other) for other in near), default=0)
        if likeness <= most_alike:
            return code
        if likeness < best_likeness:
            best, best_likeness = code, likeness
    return best


async def claim_household(session: AsyncSession, ref: HouseholdRef) -> UUID:
    """The household of this number, locked, so that two proposals for it take turns."""
    source, number = tidy(ref.source), tidy(ref.id)
    if not source or not number:
        raise Invalid("A household needs its register and its number.", [FieldError("/household", "empty")])
    statement = insert(Household).values(source=source, source_id=number)
    statement = statement.on_conflict_do_update(
        index_elements=[Household.source, Household.source_id], set_={"source": statement.excluded.source}
    )
    household_id: UUID = (await session.execute(statement.returning(Household.id))).scalar_one()
    return household_id


async def lock_household(session: AsyncSession, household_id: UUID) -> None:
    await session.execute(select(Household.id).where(Household.id == household_id).with_for_update(key_share=True))


async def refuse_housed(session: AsyncSession, household_id: UUID, caller: Caller | None = None) -> None:
    """Refuse a household that lives somewhere.  Its row is locked, so this answer stays true.

    Where it lives is told only to a caller in charge there: numbers of households can be guessed.
    """
    taken = await session.scalar(
        select(HouseholdLink.code).where(
            HouseholdLink.household_id == household_id,
            HouseholdLink.recorded_to.is_(None),
            HouseholdLink.valid_to.is_(None),
        )
    )
    if taken is not None:
        found = await session.get_one(Dwelling, taken)
        facts = {"address": taken} if caller is not None and caller.reaches(found.unit_id) else {}
        raise HouseholdHasAddress("This household has an address.", **facts)


async def link(session: AsyncSession, code: str, household_id: UUID, *, since: date) -> None:
    """Let a household live at an address."""
    await refuse_housed(session, household_id)
    try:
        await changes.link_household(session, code, household_id, since=since)
    except IntegrityError as error:
        match violated(error):
            case "ex_household_link_one_address_per_household":
                raise HouseholdHasAddress("This household has an address in that time.") from None
            case "ex_household_link_one_household_per_address":
                raise AddressHasHousehold("A household lives at this address in that time.", address=code) from None
            case _:
                raise


async def hamlet_named(session: AsyncSession, name: str | None, unit_id: int, today: date) -> int | None:
    """The hamlet of this name in a commune; an unknown one is refused with the names that come near."""
    plain = tidy(name)
    if plain is None:
        return None
    hamlets = await queries.hamlets_named(session, unit_id=unit_id, key=name_key(plain), on=today)
    if len(hamlets) == 1:
        return hamlets[0].id
    if hamlets:
        names = ", ".join(hamlet.full_name for hamlet in hamlets)
        raise Refused("More than one hamlet has this name.", [FieldError("/hamlet", f"one of: {names}")])
    near = await queries.hamlets_like(session, unit_id=unit_id, key=name_key(plain), on=today)
    hint = f"did you mean: {', '.join(hamlet.full_name for hamlet in near)}" if near else "add it first"
    raise Refused("The commune has no hamlet of that name.", [FieldError("/hamlet", hint)])
