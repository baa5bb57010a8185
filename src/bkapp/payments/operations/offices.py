"""What offices do with bills: ask for a fee in the name of a unit, and take that back."""

from collections.abc import Sequence
from datetime import date, datetime
from uuid import UUID

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.operations import Caller, require_reach
from bkapp.errors import FieldError, Forbidden, Invalid, NotFound
from bkapp.payments.operations.bills import cancel_bill, issue_bill
from bkapp.payments.operations.showing import is_own, require_office
from bkapp.payments.providers import Line
from bkapp.payments.queries import bills as queries
from bkapp.payments.queries.bills import BillRow
from bkapp.sealing import Keyring
from bkapp.units import queries as units


class OwnBill(Forbidden):
    """Nobody takes back, in the name of an office, what they owe themselves; a colleague does."""

    code = "own_bill"
    title = "Cán bộ không tự hủy khoản phải nộp của chính mình"


class NewBill(Struct, frozen=True, kw_only=True):
    """What an office asks for, and of whom: a person by id, or by number and name.  ``unit`` is a commune's code."""

    unit: str
    description: str
    procedure_code: str
    procedure_name: str
    lines: Sequence[Line]
    payer: UUID | None
    payer_number: str | None
    payer_name: str | None
    dossier_code: str | None
    due_on: date | None
    id: UUID | None


async def issue(
    session: AsyncSession, keyring: Keyring, asking: Caller, new: NewBill, *, now: datetime, today: date
) -> BillRow:
    """Ask for a fee in the name of a unit that the caller reaches; raise what :func:`issue_bill` raises."""
    unit = await units.unit_on(session, new.unit, today)
    if unit is None:
        raise Invalid("There is no such commune today.", [FieldError("/unit", "unknown")])
    require_reach(asking, unit.id)
    if new.payer is not None and not await queries.is_person(session, new.payer):
        raise Invalid("There is no such person.", [FieldError("/payer/person", "unknown")])
    made = await issue_bill(
        session,
        keyring,
        lines=new.lines,
        description=new.description,
        procedure_code=new.procedure_code,
        procedure_name=new.procedure_name,
        dossier_code=new.dossier_code,
        unit_id=unit.id,
        payer_id=new.payer,
        payer_number=new.payer_number,
        payer_name=new.payer_name,
        due_on=new.due_on,
        bill_id=new.id,
        by=asking.id,
        now=now,
    )
    return await _as_written(session, made.id)


async def cancel(session: AsyncSession, asking: Caller, bill_id: UUID, *, now: datetime) -> BillRow:
    """Take a fee back that the caller's unit asked for; raise what :func:`cancel_bill` raises."""
    row = await queries.bill(session, bill_id)
    if row is None:
        raise NotFound("There is no such bill.")
    require_office(asking, row)
    if is_own(asking, row):
        raise OwnBill("Somebody else takes back what you owe.")
    await cancel_bill(session, bill_id, by=asking.id, now=now)
    return await _as_written(session, bill_id)


async def _as_written(session: AsyncSession, bill_id: UUID) -> BillRow:
    row = await queries.bill(session, bill_id)
    assert row is not None, "a bill that was just written can be found"
    return row
