"""How a change is written down: versions, the household link, and its one event.

Operations decide *what* changes; this module keeps the three promises about
*how*: an old belief is closed and never overwritten, the current row's revision
rises by one, and exactly one event is appended to the feed, last of all, because
appending holds the feed's head until commit.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
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


async def revise(
    session: AsyncSession,
    dwelling: Dwelling,
    *,
    effective: date,
    unit_on: Callable[[date], Awaitable[int]] | None = None,
    restates: bool = True,
    attributes: Mapping[str, object] = {},
) -> None:
    """Change a locked dwelling from the day ``effective`` on.

    Beliefs about that time are closed and written anew with the attributes;
    what was believed before stays readable with its record time.  ``unit_on``
    tells the unit on the first day of each version, where a corrected point
    may lie in another one.  ``restates`` is False for a change that leaves what
    a certificate says as it was, so that plates stay good.
    """
    recorded = await clock(session)
    believed = (
        await session.scalars(
            select(DwellingVersion)
            .where(
                DwellingVersion.code == dwelling.code,
                DwellingVersion.recorded_to.is_(None),
                or_(DwellingVersion.valid_to.is_(None), DwellingVersion.valid_to > effective),
            )
            .order_by(DwellingVersion.valid_from)
        )
    ).all()
    for version in believed:
        version.recorded_to = recorded
    placed = [await unit_on(max(version.valid_from, effective)) if unit_on else None for version in believed]
    if believed and placed[-1] is not None:
        dwelling.unit_id = placed[-1]
    for name, value in attributes.items():
        setattr(dwelling, name, value)
    dwelling.revision += 1
    if restates:
        dwelling.stated = dwelling.revision
    await session.flush()
    for version, unit_id in zip(believed, placed, strict=True):
        kept = {name: getattr(version, name) for name in ATTRIBUTES}
        begins = max(version.valid_from, effective)
        if version.valid_from < effective:
            session.add(
                DwellingVersion(
                    code=dwelling.code,
                    revision=dwelling.revision,
                    valid_from=version.valid_from,
                    valid_to=effective,
                    recorded_from=recorded,
                    **kept,
                )
            )
        changed = {name: value for name, value in attributes.items() if name in ATTRIBUTES}
        if unit_id is not None:
            changed["unit_id"] = unit_id
        session.add(
            DwellingVersion(
                code=dwelling.code,
                revision=dwelling.revision,
                valid_from=begins,
                valid_to=version.valid_to,
                recorded_from=recorded,
                **{**kept, **changed},
            )
        )
    await session.flush()


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
