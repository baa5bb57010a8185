"""Telling the payer of a bill, whoever that is by now."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.identity.models import Person
from bkapp.identity.operations import notices
from bkapp.payments.models import Bill


async def tell_payer(session: AsyncSession, bill: Bill, kind: str, **data: str) -> None:
    """Leave a notice for the payer; nobody is told who never signed in, or was erased.

    Most bills are issued to a citizen number, whose owner may have signed in since.
    """
    mine = Person.id == bill.payer_id
    if bill.payer_id is None:
        if bill.payer_hmac is None:
            return
        mine = Person.number_hmac == bill.payer_hmac
    payer = await session.scalar(select(Person.id).where(mine, Person.erased_at.is_(None)).limit(1))
    if payer is not None:
        await notices.tell(session, payer, kind, bill=str(bill.id), **data)
