"""What a provider is told about an attempt."""

from uuid import UUID

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.payments.models import Beneficiary, Bill, BillLine, PaymentAttempt
from bkapp.payments.providers import Line, Order

# Said once, since to say a statement takes longer than to have it answered.
_BILL = (
    select(Bill, Beneficiary)
    .join(Beneficiary, Beneficiary.id == Bill.beneficiary_id)
    .where(Bill.id == bindparam("bill_id"))
)
_LINES = (
    select(BillLine.kind, BillLine.code, BillLine.name, BillLine.amount)
    .where(BillLine.bill_id == bindparam("bill_id"))
    .order_by(BillLine.position)
)


async def order_of(session: AsyncSession, attempt: PaymentAttempt, *, home: str, payer_ip: str = "127.0.0.1") -> Order:
    """An attempt as its provider wants it; the same whenever it is made."""
    bill, beneficiary = (await session.execute(_BILL, {"bill_id": attempt.bill_id})).one()
    return Order(
        reference=attempt.reference,
        amount=attempt.amount,
        created_at=attempt.created_at,
        expires_at=attempt.expires_at,
        bill_code=bill.code,
        dossier_code=bill.dossier_code or "",
        procedure_code=bill.procedure_code,
        procedure_name=bill.procedure_name,
        agency=beneficiary.name,
        account=beneficiary.account,
        account_name=beneficiary.account_name,
        bank_bin=beneficiary.bank_bin,
        lines=await lines_of(session, bill.id),
        return_url=f"{home}/thanh-toan/ve/{attempt.reference}",
        token=attempt.token or "",
        payer_ip=payer_ip,
    )


async def lines_of(session: AsyncSession, bill_id: UUID) -> list[Line]:
    """The lines of a bill in their order."""
    return [Line(*row) for row in await session.execute(_LINES, {"bill_id": bill_id})]
