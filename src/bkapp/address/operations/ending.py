"""Ending addresses: retiring, splitting and merging.  An ended code stays ended."""

from collections.abc import Collection, Sequence
from datetime import date
from uuid import UUID

from msgspec import Struct
from sqlalchemy import delete, update
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.operations import Caller
from bkapp.address import changes, queries
from bkapp.address.changes import Changed, append
from bkapp.address.models import Dwelling, Identifier
from bkapp.address.operations.placing import (
    Door,
    Point,
    Refused,
    add,
    commune_of,
    link,
    lock_doors,
    locked,
    place,
    reached,
    take_turn,
)
from bkapp.address.rules import Change, Status, effective_day, move, tidy
from bkapp.errors import FieldError, Invalid


async def retire(
    session: AsyncSession,
    caller: Caller,
    code: str,
    *,
    reason: str,
    replaced_by: Sequence[str] = (),
    on: date | None,
    today: date,
) -> Dwelling:
    """End an address for good: demolished, flooded by a reservoir, never existed, or replaced by another."""
    if code in replaced_by:
        raise Invalid("An address cannot replace itself.", [FieldError("/replaced_by", "names the address itself")])
    found = await changes.lock(session, [code, *replaced_by])
    dwelling = await reached(session, caller, found, code)
    heirs = [await reached(session, caller, found, heir) for heir in dict.fromkeys(replaced_by)]
    for heir in heirs:
        if heir.status is not Status.CURRENT:
            raise Refused("Only a current address replaces another.", [FieldError("/replaced_by", heir.code)])
    day = effective_day(on, today=today, began=await _earliest_end(session, dwelling))
    move(dwelling.status, Status.RETIRED)
    await _let_go(session, code, day)
    await _end(session, dwelling, day, heirs=[heir.code for heir in heirs])
    changed = [Changed(code, Change.RETIRED, day)]
    for heir in heirs:
        start = max(day, heir.began)
        await changes.revise(
            session, heir, effective=start, restates=False, attributes={"replaces": sorted({*heir.replaces, code})}
        )
        changed.append(Changed(heir.code, Change.TOOK_OVER, start))
    await append(session, changed, actor=caller.id, note=tidy(reason))
    return dwelling


class Part(Struct, frozen=True):
    """One home that a divided one becomes; at the old point when it has none of its own."""

    door: Door
    point: Point | None = None
    keeps_household: bool = False


async def split(
    session: AsyncSession, caller: Caller, code: str, *, parts: Sequence[Part], on: date | None, today: date
) -> list[Dwelling]:
    """Divide one home into several.  The old code ends; each part gets a new one.

    The household stays in the one part that says so, otherwise it has left.
    """
    if len(parts) < 2:
        raise Invalid("Splitting makes two homes or more.", [FieldError("/parts", "fewer than two")])
    if sum(part.keeps_household for part in parts) > 1:
        raise Invalid("One household keeps one part.", [FieldError("/parts", "more than one part keeps the household")])
    await take_turn(session)
    dwelling = await locked(session, caller, code)
    move(dwelling.status, Status.RETIRED)
    day = effective_day(on, today=today, began=await _earliest_end(session, dwelling))
    here = await _point_of(session, dwelling)
    household = await _let_go(session, code, day)
    await lock_doors(session, [part.point or here for part in parts])
    made = []
    for number, part in enumerate(parts):
        if part.point is not None:
            await _stay_in_commune(session, dwelling, part.point, today, pointer=f"/parts/{number}/point")
        made.append(
            await _successor(
                session,
                part.point or here,
                part.door,
                like=dwelling,
                day=day,
                replaces=[code],
                ignoring={code},
                pointer=f"/parts/{number}",
            )
        )
        if part.keeps_household and household is not None:
            await link(session, made[-1].code, household, since=day)
    await _end(session, dwelling, day, heirs=[part.code for part in made])
    changed = [Changed(code, Change.SPLIT, day)] + [Changed(part.code, Change.TOOK_OVER, day) for part in made]
    await append(session, changed, actor=caller.id)
    return made


async def merge(
    session: AsyncSession,
    caller: Caller,
    wanted: Sequence[str],
    *,
    door: Door,
    point: Point | None,
    household_of: str | None,
    on: date | None,
    today: date,
) -> Dwelling:
    """Make one home of several neighbours.  Their codes end; the whole gets a new one.

    Where more than one of them is inhabited, ``household_of`` says whose
    household stays; the others have left.
    """
    wanted = list(dict.fromkeys(wanted))
    if len(wanted) < 2:
        raise Invalid("Merging takes two addresses or more.", [FieldError("/with", "names no other address")])
    await take_turn(session)
    found = await changes.lock(session, wanted)
    olds = [await reached(session, caller, found, code) for code in wanted]
    for old in olds:
        move(old.status, Status.RETIRED)
    if len({old.unit_id for old in olds}) > 1:
        raise Refused("Homes of different communes cannot become one.", [FieldError("/with", "another commune")])
    day = effective_day(on, today=today, began=max([await _earliest_end(session, old) for old in olds]))
    if point is not None:
        await _stay_in_commune(session, olds[0], point, today, pointer="/point")
    households = {old.code: await _let_go(session, old.code, day) for old in olds}
    keeper = _keeper({code for code, household in households.items() if household}, household_of)
    whole = await _successor(
        session,
        point or await _point_of(session, olds[0]),
        door,
        like=olds[0],
        day=day,
        replaces=wanted,
        ignoring=set(wanted),
        pointer="/point",
    )
    if keeper and (staying := households[keeper]):
        await link(session, whole.code, staying, since=day)
    for old in olds:
        await _end(session, old, day, heirs=[whole.code])
    changed = [Changed(old.code, Change.MERGED, day) for old in olds] + [Changed(whole.code, Change.TOOK_OVER, day)]
    await append(session, changed, actor=caller.id)
    return whole


def _keeper(inhabited: set[str], named: str | None) -> str | None:
    """Whose household stays in a merged home."""
    if named is None and len(inhabited) > 1:
        raise Refused(
            "More than one of these homes is inhabited: say whose household stays.",
            [FieldError("/household_of", f"one of {', '.join(sorted(inhabited))}")],
        )
    if named is not None and named not in inhabited:
        raise Refused("No household lives there.", [FieldError("/household_of", "not an inhabited home of these")])
    return named or next(iter(inhabited), None)


async def _point_of(session: AsyncSession, dwelling: Dwelling) -> Point:
    here = await queries.point_of(session, dwelling.code)
    return Point(here.lon, here.lat, dwelling.point_source, dwelling.point_accuracy_m)


async def _stay_in_commune(
    session: AsyncSession, dwelling: Dwelling, point: Point, today: date, *, pointer: str
) -> None:
    unit = await commune_of(session, dwelling)
    await place(session, point, unit.code, on=today, pointer=pointer)


async def _successor(
    session: AsyncSession,
    point: Point,
    door: Door,
    *,
    like: Dwelling,
    day: date,
    replaces: Sequence[str],
    ignoring: Collection[str],
    pointer: str,
) -> Dwelling:
    """A current dwelling that takes over from others of the same commune and hamlet."""
    made = await add(
        session,
        point=point,
        door=door,
        unit_id=like.unit_id,
        hamlet_id=like.hamlet_id,
        began=day,
        status=Status.CURRENT,
        is_demo=like.is_demo,
        replaces=replaces,
        ignoring=ignoring,
        pointer=pointer,
    )
    periods = [
        (version.unit_id, max(version.valid_from, day), version.valid_to)
        for version in await changes.believed(session, like.code, since=day)
    ]
    await changes.begin(session, made, periods=_joined(periods))
    return made


def _joined(periods: changes.Line) -> list[tuple[int, date, date | None]]:
    """The same periods with neighbours of one unit made one."""
    joined: list[tuple[int, date, date | None]] = []
    for unit_id, since, to in periods:
        if joined and joined[-1][0] == unit_id:
            joined[-1] = (unit_id, joined[-1][1], to)
        else:
            joined.append((unit_id, since, to))
    return joined


async def _earliest_end(session: AsyncSession, dwelling: Dwelling) -> date:
    """The first day on which an address can have ended: not before it began or somebody moved in or out."""
    moved = await changes.quiet_since(session, dwelling.code)
    return max(dwelling.began, moved) if moved else dwelling.began


async def _let_go(session: AsyncSession, code: str, day: date) -> UUID | None:
    """End the stay of whoever lives at an address; return which household it was."""
    stay = await changes.open_link(session, code)
    if stay is None:
        return None
    household_id = stay.household_id
    await changes.end_link(session, stay, on=max(day, stay.valid_from))
    return household_id


async def _end(session: AsyncSession, dwelling: Dwelling, day: date, *, heirs: Sequence[str]) -> None:
    await changes.revise(
        session,
        dwelling,
        effective=day,
        attributes={"status": move(dwelling.status, Status.RETIRED), "replaced_by": list(heirs)},
    )
    # The names others gave it end as well, so that what replaces it can bear them.
    await session.execute(
        delete(Identifier).where(
            Identifier.code == dwelling.code, Identifier.valid_to.is_(None), Identifier.valid_from >= day
        )
    )
    await session.execute(
        update(Identifier).where(Identifier.code == dwelling.code, Identifier.valid_to.is_(None)).values(valid_to=day)
    )
