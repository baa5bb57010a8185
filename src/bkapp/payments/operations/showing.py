"""What is shown of bills, and to whom: their payer, and the offices of their unit.  Whoever calls records the read."""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.operations import Caller, require_reach
from bkapp.access.rules import Role
from bkapp.errors import Forbidden, NotFound
from bkapp.payments import confirmations
from bkapp.payments.confirmations import Confirmation, NotPaid
from bkapp.payments.operations.refunds import UNTOLD
from bkapp.payments.queries import bills as queries
from bkapp.payments.queries.bills import AttemptRow, BillRow
from bkapp.sealing import Keyring, Unsealable

_RECEIPT = "receipt"  # the kind of look-up that confirmations are proven with


async def seen_bill(session: AsyncSession, asking: Caller, bill_id: UUID) -> BillRow:
    """A bill that the caller may see: their own, or one of a unit that they reach as an office.

    Raise ``NotFound`` for others, so that nobody learns which ids there are; an office is told that it is not theirs.
    """
    row = await queries.bill(session, bill_id)
    if row is None:
        raise NotFound("There is no such bill.")
    if is_own(asking, row):
        return row
    if asking.role not in {Role.OFFICER, Role.ADMIN}:
        raise NotFound("There is no such bill.")
    require_office(asking, row)
    return row


def is_own(asking: Caller, row: BillRow) -> bool:
    """Whether a bill is the caller's to pay."""
    return asking.person is not None and row.person == asking.person


def require_office(asking: Caller, row: BillRow) -> None:
    """Refuse an office that does not see to a bill; one of no unit is the province's."""
    if row.unit_id is not None:
        require_reach(asking, row.unit_id)
    elif asking.unit_ids is not None:
        raise Forbidden("This bill is of no unit; the province sees to it.")


async def own_bill(session: AsyncSession, asking: Caller, bill_id: UUID) -> BillRow:
    """A bill that is the caller's to pay; raise ``NotFound`` for any other."""
    row = await queries.bill(session, bill_id)
    if row is None or not is_own(asking, row):
        raise NotFound("There is no such bill.")
    return row


async def own_attempt(session: AsyncSession, asking: Caller, attempt_id: UUID) -> AttemptRow:
    """A try at paying a bill that is the caller's; raise ``NotFound`` for any other."""
    row = None if asking.person is None else await queries.attempt_of(session, asking.person, attempt_id)
    if row is None:
        raise NotFound("There is no such attempt.")
    return row


def subject_of(row: BillRow) -> str:
    """Whom a bill is about, for the record of who read what."""
    return f"bill:{row.id}" if row.person is None else str(row.person)


def payer_name(keyring: Keyring | None, row: BillRow) -> str | None:
    """The payer's name: that on the bill, else the one they signed in with."""
    if keyring is None:
        return None
    for sealed, context in (
        (row.payer_name, f"bill.payer_name:{row.id}"),
        (row.person_name, f"person.name:{row.person}"),
    ):
        if sealed is not None:
            try:
                return keyring.open(sealed, context)
            except Unsealable:
                continue
    return None


async def confirmation_of(
    session: AsyncSession, keyring: Keyring, row: BillRow, *, home: str, is_demo: bool
) -> Confirmation:
    """What is confirmed of a paid bill; raise :class:`NotPaid`."""
    receipt = await queries.paying_receipt(session, row.id)
    if receipt is None:
        raise NotPaid("The bill is not paid.")
    untold = receipt.transaction.startswith(UNTOLD)
    return Confirmation(
        number=receipt.number,
        amount=receipt.amount,
        parts=[confirmations.Part(line.kind, line.name, line.amount) for line in await queries.lines(session, row.id)],
        bill_code=row.code,
        description=row.description,
        procedure_name=row.procedure_name,
        dossier_code=row.dossier_code,
        agency=row.agency,
        account=row.account,
        account_name=row.account_name,
        treasury=row.treasury,
        paid_at=receipt.received_at,
        method=receipt.title,
        reference=receipt.reference,
        transaction=None if untold else receipt.transaction,
        payer=payer_name(keyring, row),
        refunded=receipt.refunded,
        check_url=f"{home}/xac-nhan/{token_of(keyring, receipt.number)}",
        demo=is_demo,
    )


def token_of(keyring: Keyring, number: int) -> str:
    """What the link of a receipt's confirmation ends with."""
    return confirmations.token(number, lambda text: keyring.lookup(_RECEIPT, text))


async def check(session: AsyncSession, keyring: Keyring, token: str) -> queries.Checked:
    """What everybody may know who holds a confirmation; raise ``NotFound`` for a token that is not ours."""
    number = confirmations.number_of(token, lambda text: keyring.lookup(_RECEIPT, text))
    found = None if number is None else await queries.checked(session, number)
    if found is None:
        raise NotFound("There is no such confirmation.")
    return found
