"""The national platform asks which fee a dossier has, so that people can pay it there by typing the dossier's code."""

from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.payments.models import Merchant, PaymentAttempt
from bkapp.payments.operations import attempts, bills, inbox
from bkapp.payments.providers import Answer, Begun, Call, HookRefused, Order, paygov
from bkapp.payments.providers.receipts import owed_for
from bkapp.payments.queries.orders import order_of
from bkapp.payments.rules import LIVE, BillStatus
from bkapp.sealing import Keyring

ACTOR = "payments.hub"


async def look_up(
    session: AsyncSession, keyring: Keyring, row: Merchant, call: Call, *, home: str, remote_ip: str, now: datetime
) -> Answer:
    """Answer the platform's question about a dossier.

    What it may take money for has an attempt, whose reference goes with the answer: so the money is known when the
    platform confirms it.  A bill that is being paid another way is not offered, or people would pay it twice.
    """
    number, _, merchant = await inbox.begin(session, keyring, row.key, home)
    await inbox.keep(session, keyring, row, number, call, remote_ip)
    try:
        inbox.require_acceptable(row, call, remote_ip, weak=False)
        dossier = paygov.read_lookup(merchant, call.body, now)
    except HookRefused as refused:
        await inbox.note(session, number, "refused", reason=f"{refused.verdict}: {refused.reason}", now=now)
        return paygov.lookup_refused(refused.verdict)
    await inbox.note(session, number, "noted", now=now)
    bill = await bills.owed_for_dossier(session, dossier)
    if bill is None:
        return paygov.lookup_answer(merchant, None, known=False, now=now)
    order = await _offer(session, bill.id, row, home=home, now=now) if bill.status is BillStatus.OPEN else None
    if order is None:
        return paygov.lookup_answer(merchant, None, known=True, now=now)
    return paygov.lookup_answer(merchant, owed_for(order), known=True, now=now, reference=order.reference)


async def _offer(session: AsyncSession, bill_id: UUID, row: Merchant, *, home: str, now: datetime) -> Order | None:
    """What the platform may take money for; None where somebody is paying it another way."""
    live = await session.scalar(
        select(PaymentAttempt).where(PaymentAttempt.bill_id == bill_id, PaymentAttempt.status.in_(LIVE))
    )
    if live is None:
        try:
            live, _ = await attempts.open_attempt(session, bill_id, row, attempt_id=uuid4(), by=ACTOR, now=now)
        except (attempts.AlreadyBeingPaid, attempts.BillSettled):
            return None
        live = await attempts.record_begun(session, live.id, Begun(), now=now)
    elif live.merchant_id != row.id:
        return None
    return await order_of(session, live, home=home)
