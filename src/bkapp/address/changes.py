"""How a change is written down: versions, the household link, and its one event.

Operations decide *what* changes; this module keeps the three promises about
*how*: an old belief is closed and never overwritten, the current row's revision
rises by one, and exactly one event is appended to the feed, last of all, because
appending holds the feed's head until commit.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from uuid import UUID

from msgspec import Struct
from sqlalchemy import func, or_, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.address.models import ATTRIBUTES, Dwelling, DwellingVersion, HouseholdLink
from bkapp.address.rules import Change


class Changed(Struct, frozen=True):
    """One change of one dwelling, for the feed."""

    code: str
    kind: Change
    effective: date


_APPEND = text("""
    WITH head AS (
        UPDATE feed_head SET seq = seq + :count, at = greatest(at, clock_timestamp())
        RETURNING seq - :count AS base, at)
    INSERT INTO address_event (seq, recorded_at, kind, code, revision, effective, actor, note, data)
    SELECT head.base + c.place, head.at, c.kind, d.code, d.revision, c.effective, :actor, :note, dwelling_snapshot(d)
    FROM head,
        unnest(CAST(:codes AS text[]), CAST(:kinds AS text[]), CAST(:days AS date[]))
            WITH ORDINALITY AS c(code, kind, effective, place)
        JOIN dwelling d ON d.code = c.code
""")


async def append(session: AsyncSession, changed: Sequence[Changed], *, actor: str, note: str | None = None) -> None:
    """Append the events of this transaction to the feed, in the given order.

    Call once, after every row is written: from here to commit no other writer
    can append, which is what makes the feed gap-free and ordered by commit.
    """
    await session.flush()
    await session.execute(
        _APPEND,
        {
            "count": len(changed),
            "actor": actor,
            "note": note,
            "codes": [change.code for change in changed],
            "kinds": [change.kind.value for change in changed],
            "days": [change.effective for change in changed],
        },
    )


async def clock(session: AsyncSession) -> datetime:
    """The database's time now.  Read after the dwelling is locked, so that beliefs about it never run backwards."""
    now: datetime = (await session.execute(select(func.clock_timestamp()))).scalar_one()
    return now


async def lock(session: AsyncSession, codes: Sequence[str]) -> dict[str, Dwelling]:
    """The dwellings of these codes, locked in one order so that two operations cannot wait for each other."""
    rows = await session.scalars(
        select(Dwelling)
        .where(Dwelling.code.in_(codes))
        .order_by(Dwelling.code)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    return {dwelling.code: dwelling for dwelling in rows}


async def begin(session: AsyncSession, dwelling: Dwelling, *, periods: Sequence[tuple[int, date, date | None]]) -> None:
    """Write the first versions of a new dwelling: one for each (unit, valid_from, valid_to) it has lived through."""
    recorded = await clock(session)
    kept = {name: getattr(dwelling, name) for name in ATTRIBUTES}
    for unit_id, valid_from, valid_to in periods:
        session.add(
            DwellingVersion(
                code=dwelling.code,
                revision=1,
                valid_from=valid_from,
                valid_to=valid_to,
                recorded_from=recorded,
                **{**kept, "unit_id": unit_id, "hamlet_id": kept["hamlet_id"] if valid_to is None else None},
            )
        )
    await session.flush()


# The units a place belonged to: (unit id, from, to), in order and without gaps; the last one goes on.
Line = Sequence[tuple[int, date, date | None]]


async def believed(session: AsyncSession, code: str, *, since: date) -> Sequence[DwellingVersion]:
    """What the register says now about a dwelling from a day on, in order."""
    found = await session.scalars(
        select(DwellingVersion)
        .where(
            DwellingVersion.code == code,
            DwellingVersion.recorded_to.is_(None),
            or_(DwellingVersion.valid_to.is_(None), DwellingVersion.valid_to > since),
        )
        .order_by(DwellingVersion.valid_from)
    )
    return found.all()


async def revise(
    session: AsyncSession,
    dwelling: Dwelling,
    *,
    effective: date,
    until: date | None = None,
    line: Line | None = None,
    restates: bool = True,
    attributes: Mapping[str, object] = {},
) -> None:
    """Change a locked dwelling from the day ``effective`` on, or up to ``until`` for what a later fact replaced.

    Beliefs about that time are closed and written anew with the attributes;
    what was believed before stays readable with its record time.  ``line``
    gives the units from ``effective`` on where they change too.  ``restates``
    is False for a change that leaves what a certificate says as it was, so
    that plates stay good.
    """
    recorded = await clock(session)
    old = [
        version
        for version in await believed(session, dwelling.code, since=effective)
        if until is None or version.valid_from < until
    ]
    for version in old:
        version.recorded_to = recorded
    if until is None:
        for name, value in attributes.items():
            setattr(dwelling, name, value)
        if line is not None:
            dwelling.unit_id = line[-1][0]
    dwelling.revision += 1
    if restates:
        dwelling.stated = dwelling.revision
    await session.flush()
    changed = {name: value for name, value in attributes.items() if name in ATTRIBUTES}
    for version in old:
        kept = {name: getattr(version, name) for name in ATTRIBUTES}
        for part in _parts(version, effective, until, line):
            values = {**kept, **changed} if part.changed else kept
            if part.unit_id is not None:
                # A hamlet is one of a commune; of those before today's none is known.
                values = {**values, "unit_id": part.unit_id}
                if part.unit_id != dwelling.unit_id:
                    values["hamlet_id"] = None
            session.add(
                DwellingVersion(
                    code=dwelling.code,
                    revision=dwelling.revision,
                    valid_from=part.valid_from,
                    valid_to=part.valid_to,
                    recorded_from=recorded,
                    **values,
                )
            )
    await session.flush()


class _Part(Struct, frozen=True):
    valid_from: date
    valid_to: date | None
    changed: bool
    unit_id: int | None


def _parts(version: DwellingVersion, effective: date, until: date | None, line: Line | None) -> list[_Part]:
    """A version cut where a change begins and ends, and where the unit changes in between."""
    parts = []
    if version.valid_from < effective:
        parts.append(_Part(version.valid_from, effective, changed=False, unit_id=None))
    begins = max(version.valid_from, effective)
    ends = _earlier(version.valid_to, until)
    for unit_id, since, to in line if line is not None else [(None, begins, ends)]:
        start, end = max(begins, since), _earlier(ends, to)
        if end is None or start < end:
            parts.append(_Part(start, end, changed=True, unit_id=unit_id))
    if until is not None and (version.valid_to is None or until < version.valid_to):
        parts.append(_Part(until, version.valid_to, changed=False, unit_id=None))
    return parts


def _earlier(one: date | None, other: date | None) -> date | None:
    """The earlier of two ends, where None is no end."""
    return min((day for day in (one, other) if day is not None), default=None)


async def touch(session: AsyncSession, dwelling: Dwelling) -> None:
    """Raise the revision for a change that lies beside the dwelling's own attributes (its household, a name for it)."""
    dwelling.revision += 1
    await session.flush()


async def open_link(session: AsyncSession, code: str) -> HouseholdLink | None:
    """The household that lives at an address now."""
    link: HouseholdLink | None = await session.scalar(
        select(HouseholdLink).where(
            HouseholdLink.code == code, HouseholdLink.recorded_to.is_(None), HouseholdLink.valid_to.is_(None)
        )
    )
    return link


async def quiet_since(session: AsyncSession, code: str) -> date | None:
    """The last day on which somebody moved in or out; an address cannot have ended before that."""
    day: date | None = await session.scalar(
        select(func.max(func.coalesce(HouseholdLink.valid_to, HouseholdLink.valid_from))).where(
            HouseholdLink.code == code, HouseholdLink.recorded_to.is_(None)
        )
    )
    return day


async def link_household(session: AsyncSession, code: str, household_id: UUID, *, since: date) -> None:
    """Say that a household lives at an address.  The two exclusion constraints are the referees."""
    recorded = await clock(session)
    session.add(HouseholdLink(code=code, household_id=household_id, valid_from=since, recorded_from=recorded))
    await session.flush()


async def end_link(session: AsyncSession, link: HouseholdLink, *, on: date) -> None:
    """Say that a household left on a day.  A stay of no day was a mistake: it is closed and not replaced."""
    recorded = await clock(session)
    link.recorded_to = recorded
    await session.flush()
    if on > link.valid_from:
        session.add(
            HouseholdLink(
                code=link.code,
                household_id=link.household_id,
                valid_from=link.valid_from,
                valid_to=on,
                recorded_from=recorded,
            )
        )
        await session.flush()
