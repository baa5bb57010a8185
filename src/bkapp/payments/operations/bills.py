"""Bills: issuing one, cancelling it, finding those of a dossier."""

from collections.abc import Sequence
from datetime import date, datetime
from uuid import UUID, uuid4

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.audit.operations import append
from bkapp.db import violated
from bkapp.errors import DomainError, NotFound
from bkapp.payments.models import Beneficiary, Bill, BillLine, PaymentAttempt, ProcedureAccount
from bkapp.payments.operations.attempts import BillSettled, IdTaken, move, standing_of
from bkapp.payments.providers import Line
from bkapp.payments.references import new_reference
from bkapp.payments.rules import LIVE, AttemptStatus, BillStatus
from bkapp.sealing import Keyring

ANY_PROCEDURE = "*"


class NoBeneficiary(DomainError):
    """No account is known for the fees of this procedure, and none stands for all."""

    code = "no_beneficiary"
    title = "Chưa có tài khoản thụ hưởng cho thủ tục này"


async def issue_bill(
    session: AsyncSession,
    keyring: Keyring,
    *,
    lines: Sequence[Line],
    description: str,
    procedure_code: str,
    procedure_name: str,
    dossier_code: str | None,
    unit_id: int | None,
    payer_id: UUID | None = None,
    payer_number: str | None = None,
    payer_name: str | None = None,
    due_on: date | None = None,
    on_paid: str | None = None,
    bill_id: UUID | None = None,
    by: str,
    now: datetime,
) -> Bill:
    """Ask somebody for a fee.  The payer is a person who signed in, or a citizen number that signs in one day.

    ``on_paid`` names the task that is queued with ``bill_id`` when the bill is paid; once more, if its money is denied
    and comes again.  The same ``bill_id`` again for the same payer and amount is the same bill.  Raise
    :class:`NoBeneficiary` or :class:`IdTaken`.
    """
    new_id = bill_id or uuid4()
    total = sum(line.amount for line in lines)
    payer_hmac = keyring.lookup("citizen", payer_number) if payer_number else None
    asked = (total, dossier_code, payer_id, payer_hmac, by)
    if bill_id is not None:
        known = await session.get(Bill, bill_id)
        if known is not None:
            return _same(known, asked)
    beneficiary = await beneficiary_of(session, procedure_code)
    bill = Bill(
        id=new_id,
        code=new_reference("HD"),
        amount=total,
        status=BillStatus.OPEN,
        description=description,
        dossier_code=dossier_code,
        procedure_code=procedure_code,
        procedure_name=procedure_name,
        beneficiary_id=beneficiary.id,
        unit_id=unit_id,
        payer_id=payer_id,
        payer_hmac=payer_hmac,
        payer_name_cipher=keyring.seal(payer_name, f"bill.payer_name:{new_id}") if payer_name else None,
        due_on=due_on,
        on_paid=on_paid,
        created_at=now,
        created_by=by,
    )
    try:
        async with session.begin_nested():
            session.add(bill)
            await session.flush()
    except IntegrityError as error:
        if violated(error) != "pk_bill":
            raise
        known = await session.get(Bill, new_id, populate_existing=True)
        assert known is not None, "the bill in the way can be found"
        return _same(known, asked)
    session.add_all(
        BillLine(bill_id=new_id, position=position, kind=line.kind, code=line.code, name=line.name, amount=line.amount)
        for position, line in enumerate(lines, 1)
    )
    await session.flush()
    await append(session, kind="bill_issued", actor=by, subject=str(new_id), amount=total)
    return bill


def _same(known: Bill, asked: tuple[int, str | None, UUID | None, bytes | None, str]) -> Bill:
    if (known.amount, known.dossier_code, known.payer_id, known.payer_hmac, known.created_by) != asked:
        raise IdTaken("This id belongs to another bill.")
    return known


async def beneficiary_of(session: AsyncSession, procedure_code: str) -> Beneficiary:
    """Whose account a procedure's fees go to; raise :class:`NoBeneficiary`."""
    found = await session.scalar(
        select(Beneficiary)
        .join(ProcedureAccount, ProcedureAccount.beneficiary_id == Beneficiary.id)
        .where(ProcedureAccount.procedure_code.in_((procedure_code, ANY_PROCEDURE)))
        .order_by(ProcedureAccount.procedure_code == ANY_PROCEDURE)
        .limit(1)
    )
    if found is None:
        raise NoBeneficiary(f"There is no account for the procedure {procedure_code}.")
    return found


async def cancel_bill(session: AsyncSession, bill_id: UUID, *, by: str, now: datetime) -> Bill:
    """The fee is not owed any more.  Money that comes all the same is given back; raise :class:`BillSettled`.

    Safe to repeat.
    """
    bill = await session.get(Bill, bill_id, with_for_update=True, populate_existing=True)
    if bill is None:
        raise NotFound("There is no such bill.")
    if bill.status is BillStatus.CANCELLED:
        return bill
    if bill.status is not BillStatus.OPEN:
        raise BillSettled("The bill is paid; give the money back instead.")
    under_way = await session.scalars(
        select(PaymentAttempt)
        .where(PaymentAttempt.bill_id == bill.id, PaymentAttempt.status.in_(LIVE))
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    for attempt in under_way.all():
        attempt.failure_code = "cancelled"
        await move(session, bill, attempt, standing_of(attempt).reach(AttemptStatus.EXPIRED), source="office", now=now)
    bill.status, bill.cancelled_at, bill.cancelled_by = BillStatus.CANCELLED, now, by
    bill.version += 1
    await session.flush()
    await append(session, kind="bill_cancelled", actor=by, subject=str(bill.id))
    return bill


async def owed_for_dossier(session: AsyncSession, dossier_code: str) -> Bill | None:
    """The bill of a dossier that is next to be paid, the oldest first; with none open the newest settled one."""
    found: Bill | None = await session.scalar(
        select(Bill)
        .where(Bill.dossier_code == dossier_code)
        .order_by(Bill.status != BillStatus.OPEN, Bill.created_at)
        .limit(1)
    )
    return found
