"""Telling the payer of a bill, whoever that is by now."""

from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.identity.operations import notices
from bkapp.payments.models import Bill


async def tell_payer(session: AsyncSession, bill: Bill, kind: str, **data: str) -> None:
    """Leave a notice for the payer; nobody is told who never signed in, or was erased.

    Most bills are issued to a citizen number, whose owner may have signed in since.
    """
    await notices.tell_holder(session, bill.payer_id, bill.payer_hmac, kind, bill=str(bill.id), **data)
