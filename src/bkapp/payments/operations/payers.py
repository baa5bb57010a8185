"""Telling the payer of a bill, whoever that is by now."""

from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.db import carry_out
from bkapp.identity.operations import notices
from bkapp.payments.models import Bill

_PAYER = """
    SELECT id FROM person WHERE erased_at IS NULL
        AND id = coalesce(%(payer_id)s, (SELECT id FROM person WHERE number_hmac = %(payer_hmac)s))"""


async def tell_payer(session: AsyncSession, bill: Bill, kind: str, **data: str) -> None:
    """Leave a notice for the payer; nobody is told who never signed in, or was erased.

    Most bills are issued to a citizen number, whose owner may have signed in since.
    """
    for (payer,) in await carry_out(session, _PAYER, {"payer_id": bill.payer_id, "payer_hmac": bill.payer_hmac}):
        await notices.tell(session, payer, kind, bill=str(bill.id), **data)
