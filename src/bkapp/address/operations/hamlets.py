"""Opening and renaming hamlets.  A hamlet is a row for the time it has its name; renaming begins another."""

from datetime import date

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.operations import Caller, require_reach
from bkapp.address.models import Hamlet
from bkapp.address.operations.placing import HamletExists
from bkapp.address.operations.settling import rehouse_in_hamlet
from bkapp.address.rules import LONGEST_HAMLET, effective_day, tidy
from bkapp.db import violated
from bkapp.errors import FieldError, Invalid, NotFound
from bkapp.units import queries as units
from bkapp.units.names import key as name_key


async def open_hamlet(
    session: AsyncSession, caller: Caller, *, unit_code: str, name: str, since: date | None, today: date
) -> Hamlet:
    """Add a hamlet to a commune."""
    unit = await units.unit_on(session, unit_code, today)
    if unit is None or unit.level != "commune" or not unit.in_bac_kan:
        raise NotFound(f"There is no commune {unit_code} in use today.")
    require_reach(caller, unit.id)
    day = effective_day(since, today=today, began=unit.valid_from)
    plain = _name(name)
    hamlet = Hamlet(unit_id=unit.id, name=plain, key=name_key(plain), valid_from=day, source=f"key:{caller.id}")
    session.add(hamlet)
    try:
        await session.flush()
    except IntegrityError as error:
        if violated(error) != "ex_hamlet_one_name_at_a_time":
            raise
        raise HamletExists("This commune has a hamlet of that name.", name=plain) from None
    return hamlet


async def rename_hamlet(
    session: AsyncSession, caller: Caller, *, unit_code: str, hamlet_id: int, name: str, on: date | None, today: date
) -> Hamlet:
    """Give a hamlet another name from a day on; under the name of another one of the commune it becomes part of that.

    Its homes go with it, with an event each.
    """
    unit = await units.unit_on(session, unit_code, today)
    old = await session.get(Hamlet, hamlet_id, with_for_update={"key_share": True})
    if unit is None or old is None or old.unit_id != unit.id or old.valid_to is not None:
        raise NotFound(f"The commune {unit_code} has no hamlet {hamlet_id} today.")
    require_reach(caller, unit.id)
    day = effective_day(on, today=today, began=old.valid_from)
    plain = _name(name)
    wanted = await session.scalar(
        select(Hamlet).where(
            Hamlet.unit_id == unit.id, Hamlet.key == name_key(plain), Hamlet.valid_to.is_(None), Hamlet.id != old.id
        )
    )
    if wanted is None and day == old.valid_from:
        # Named wrongly from the first day: the name is put right and no other hamlet was ever there.
        old.name, old.key, old.qualifier = plain, name_key(plain), None
        wanted = old
    else:
        if day == old.valid_from:
            raise HamletExists("Both hamlets began on that day: name a later one.", name=plain)
        old.valid_to = day
        await session.flush()
        if wanted is None:
            wanted = Hamlet(
                unit_id=unit.id,
                name=plain,
                key=name_key(plain),
                valid_from=day,
                predecessor_id=old.id,
                point=old.point,
                place_source_id=old.place_source_id,
                source=f"key:{caller.id}",
            )
            session.add(wanted)
    await session.flush()
    await rehouse_in_hamlet(session, old.id, wanted.id, on=day, actor=caller.id)
    return wanted


def _name(text: str) -> str:
    plain = tidy(text) or ""
    if not name_key(plain) or len(plain) > LONGEST_HAMLET:
        raise Invalid(
            "A hamlet needs a name of letters or numbers.",
            [FieldError("/name", f"1 to {LONGEST_HAMLET} characters, some of them letters or numbers")],
        )
    return plain
