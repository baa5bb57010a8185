"""Looking after an address: verifying, correcting, moving households, other registers' names, hamlets."""

from datetime import date

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.operations import Caller, require_reach
from bkapp.address import changes, queries
from bkapp.address.changes import Changed, append
from bkapp.address.models import Dwelling, Identifier
from bkapp.address.operations.placing import (
    Door,
    IdentifierTaken,
    NoHousehold,
    Point,
    Refused,
    commune_of,
    hamlet_named,
    line_through,
    link,
    lock_household,
    locked,
    place,
    reached,
    refuse_same_door,
    require_live,
    take_turn,
)
from bkapp.address.pluscodes import area as area_of
from bkapp.address.rules import IDENTIFIER_FORMS, Change, Method, Status, effective_day, tidy
from bkapp.db import violated
from bkapp.errors import FieldError, Invalid


async def verify(
    session: AsyncSession, caller: Caller, code: str, *, method: Method, photo: str | None, on: date | None, today: date
) -> Dwelling:
    """Record that an officer made sure of the address.

    A verification holds until the next one: one that is recorded late takes its
    place before those that came after it, and does not hide them.
    """
    dwelling = await locked(session, caller, code)
    require_live(dwelling)
    day = effective_day(on, today=today, began=dwelling.began)
    later = [
        version.verified_on
        for version in await changes.believed(session, code, since=day)
        if version.verified_on is not None and version.verified_on > day
    ]
    await changes.revise(
        session,
        dwelling,
        effective=day,
        until=min(later, default=None),
        restates=False,
        attributes={
            "verified_on": day,
            "verified_by": caller.id,
            "verification_method": method,
            "verification_photo": tidy(photo),
        },
    )
    await append(session, [Changed(code, Change.VERIFIED, day)], actor=caller.id)
    return dwelling


async def correct_point(
    session: AsyncSession,
    caller: Caller,
    code: str,
    *,
    point: Point,
    unit_code: str | None,
    hamlet: str | None,
    reason: str,
    since: date | None,
    today: date,
) -> Dwelling:
    """Put the door where it really is.  The code stays; history keeps the old point.

    A better measurement tells where the door always was, so by default it
    holds from the beginning.  A point in another commune needs that commune
    named in ``unit_code`` (nobody's home changes commune by a slip of a
    finger), and takes the home out of its hamlet unless ``hamlet`` names one.
    """
    await take_turn(session)
    dwelling = await locked(session, caller, code)
    require_live(dwelling)
    effective = effective_day(since or dwelling.began, today=today, began=dwelling.began)
    commune = await commune_of(session, dwelling)
    unit = await place(session, point, unit_code or commune.code, on=today)
    require_reach(caller, unit.id)
    door = {name: getattr(dwelling, name) for name in Door.__struct_fields__}
    await refuse_same_door(session, point, door, ignoring={code})
    attributes: dict[str, object] = {
        "point": point.ewkt(),
        "point_source": point.source,
        "point_accuracy_m": point.accuracy_m,
        "area": area_of(point.lon, point.lat),
    }
    if hamlet is not None or unit.id != dwelling.unit_id:
        attributes["hamlet_id"] = await hamlet_named(session, hamlet, unit.id, today)
    line = await line_through(
        session,
        point,
        unit,
        since=effective,
        believed=[
            (version.unit_id, version.valid_from, version.valid_to)
            for version in await changes.believed(session, code, since=effective)
        ],
    )
    await changes.revise(session, dwelling, effective=effective, line=line, attributes=attributes)
    await append(session, [Changed(code, Change.POINT_CORRECTED, effective)], actor=caller.id, note=tidy(reason))
    return dwelling


async def correct_door(
    session: AsyncSession,
    caller: Caller,
    code: str,
    *,
    door: Door,
    hamlet: str | None,
    reason: str,
    since: date | None,
    today: date,
) -> Dwelling:
    """Write what stands at the door as it is: house number, street, building, entrance, floor, door, and the hamlet.

    The whole door is replaced; the hamlet stays when none is named.
    """
    await take_turn(session)
    dwelling = await locked(session, caller, code)
    require_live(dwelling)
    effective = effective_day(since, today=today, began=dwelling.began)
    here = await queries.point_of(session, code)
    parts = door.tidied()
    await refuse_same_door(
        session, Point(here.lon, here.lat, dwelling.point_source), parts, ignoring={code}, pointer="/door"
    )
    attributes: dict[str, object] = dict(parts)
    if hamlet is not None:
        attributes["hamlet_id"] = await hamlet_named(session, hamlet, dwelling.unit_id, today)
        # A hamlet is one of today's commune, so it cannot have been that before.
        commune = await commune_of(session, dwelling)
        effective = max(effective, commune.valid_from)
    await changes.revise(session, dwelling, effective=effective, attributes=attributes)
    await append(session, [Changed(code, Change.DOOR_CORRECTED, effective)], actor=caller.id, note=tidy(reason))
    return dwelling


async def move_household(
    session: AsyncSession, caller: Caller, code: str, *, to: str | None, on: date | None, today: date
) -> list[Dwelling]:
    """The household of an address moves to another, or away (``to`` None).  Both codes stay with their houses."""
    wanted = [code] if to is None else [code, to]
    if to == code:
        raise Invalid("A household cannot move to where it lives.", [FieldError("/to", "the same address")])
    if (guess := await changes.open_link(session, code)) is not None:
        await lock_household(session, guess.household_id)
    found = await changes.lock(session, wanted)
    origin = await reached(session, caller, found, code)
    target = await reached(session, caller, found, to) if to else None
    stay = await changes.open_link(session, code)
    if stay is None:
        raise NoHousehold("No household lives at this address now.", address=code)
    day = effective_day(on, today=today, began=max(stay.valid_from, target.began if target else stay.valid_from))
    household_id = stay.household_id
    await changes.end_link(session, stay, on=day)
    await changes.touch(session, origin)
    changed = [Changed(code, Change.HOUSEHOLD_MOVED_OUT, day)]
    if target is not None:
        if target.status is not Status.CURRENT:
            raise Refused(
                "A household can move only to a current address.",
                [FieldError("/to", f"this address is {target.status}")],
            )
        await link(session, target.code, household_id, since=day)
        await changes.touch(session, target)
        changed.append(Changed(target.code, Change.HOUSEHOLD_MOVED_IN, day))
    await append(session, changed, actor=caller.id)
    return [origin] if target is None else [origin, target]


async def name_otherwise(
    session: AsyncSession, caller: Caller, code: str, *, scheme: str, value: str, since: date | None, today: date
) -> Dwelling:
    """Record the name that another register has for this address; an earlier name of the scheme ends that day."""
    if not IDENTIFIER_FORMS[scheme].fullmatch(value):
        raise Invalid(
            f"An identifier of {scheme} has another form.", [FieldError("/value", IDENTIFIER_FORMS[scheme].pattern)]
        )
    dwelling = await locked(session, caller, code)
    require_live(dwelling)
    day = effective_day(since, today=today, began=dwelling.began)
    present = await session.scalar(
        select(Identifier).where(Identifier.code == code, Identifier.scheme == scheme, Identifier.valid_to.is_(None))
    )
    if present is not None and present.value == value:
        return dwelling
    if present is not None and day < present.valid_from:
        raise Invalid(
            f"The present identifier holds since {present.valid_from}; another cannot follow it before that.",
            [FieldError("/since", "before the present identifier")],
        )
    if present is not None and day == present.valid_from:
        present.value = value  # the same day again: the first was a slip
    else:
        if present is not None:
            present.valid_to = day
            await session.flush()
        session.add(Identifier(code=code, scheme=scheme, value=value, valid_from=day))
    try:
        await session.flush()
    except IntegrityError as error:
        if violated(error) != "ex_address_identifier_one_address_per_value":
            raise
        raise IdentifierTaken("Another address has this identifier.", scheme=scheme) from None
    await changes.touch(session, dwelling)
    await append(session, [Changed(code, Change.IDENTIFIER_GIVEN, day)], actor=caller.id)
    return dwelling
