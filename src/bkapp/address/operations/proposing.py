"""Proposing, issuing and rejecting an address."""

from datetime import date

from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.operations import Caller, require_reach
from bkapp.address import changes
from bkapp.address.changes import Changed, append
from bkapp.address.models import Dwelling
from bkapp.address.operations.placing import (
    Door,
    HouseholdRef,
    Point,
    add,
    claim_household,
    hamlet_named,
    link,
    locked,
    periods_of,
    place,
    refuse_housed,
    take_turn,
)
from bkapp.address.rules import Change, Status, effective_day, move, tidy


async def propose(
    session: AsyncSession,
    caller: Caller,
    *,
    point: Point,
    unit_code: str,
    hamlet: str | None,
    door: Door,
    household: HouseholdRef | None,
    since: date | None,
    today: date,
    is_demo: bool = False,
) -> Dwelling:
    """Take a proposal into the register under a code of its own.

    ``unit_code`` is the commune as its people name it on the day ``since``.
    Raises :class:`Refused` with every reason, :class:`HouseholdHasAddress`.
    """
    began = effective_day(since, today=today)
    await take_turn(session)
    unit = await place(session, point, unit_code, on=began)
    periods = await periods_of(session, unit, point, began)
    unit_id = periods[-1][0]
    require_reach(caller, unit_id)
    hamlet_id = await hamlet_named(session, hamlet, unit_id, today)
    household_id = None
    if household is not None:
        household_id = await claim_household(session, household)
        await refuse_housed(session, household_id, caller)  # before any other lock is waited for
    dwelling = await add(
        session,
        point=point,
        door=door,
        unit_id=unit_id,
        hamlet_id=hamlet_id,
        began=began,
        status=Status.PROPOSED,
        is_demo=is_demo,
    )
    await changes.begin(session, dwelling, periods=periods)
    if household_id:
        await link(session, dwelling.code, household_id, since=began)
    await append(session, [Changed(dwelling.code, Change.PROPOSED, began)], actor=caller.id)
    return dwelling


async def issue(session: AsyncSession, caller: Caller, code: str) -> Dwelling:
    """Accept a proposal: the address is current from the day it was proposed for."""
    dwelling = await locked(session, caller, code)
    await changes.revise(
        session, dwelling, effective=dwelling.began, attributes={"status": move(dwelling.status, Status.CURRENT)}
    )
    await append(session, [Changed(code, Change.ISSUED, dwelling.began)], actor=caller.id)
    return dwelling


async def reject(session: AsyncSession, caller: Caller, code: str, *, reason: str, today: date) -> Dwelling:
    """Refuse a proposal.  Its code is spent; its household is free to propose again."""
    dwelling = await locked(session, caller, code)
    status = move(dwelling.status, Status.REJECTED)
    link = await changes.open_link(session, code)
    if link is not None:
        await changes.end_link(session, link, on=link.valid_from)
    await changes.revise(session, dwelling, effective=dwelling.began, attributes={"status": status})
    await append(session, [Changed(code, Change.REJECTED, today)], actor=caller.id, note=tidy(reason))
    return dwelling
