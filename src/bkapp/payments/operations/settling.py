"""What arrived at the bank: posted once for each receipt and refund, or for a provider's whole day."""

from datetime import date

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.payments.models import Merchant, StatementFile
from bkapp.payments.operations import ledger
from bkapp.payments.queries.reconciling import in_force
from bkapp.payments.rules import Evidence

_RAISE_ATTEMPTS = text("""
    UPDATE payment_attempt a SET success = :strength FROM receipt r
    WHERE r.id = ANY(:receipts) AND a.id = r.attempt_id AND a.status = 'succeeded' AND a.amount = r.amount
        AND a.success < :strength""")
_RAISE_RECEIPTS = text("UPDATE receipt SET evidence = :strength WHERE id = ANY(:receipts) AND evidence < :strength")
# Money of no bill arrives where all fees go that no procedure names.
_ARRIVED = text("""
    SELECT i.receipt_id, i.refund_id, l.amount, coalesce(b.beneficiary_id, any_.beneficiary_id)
    FROM reconciliation_item i JOIN statement_line l ON l.id = i.statement_line_id
    LEFT JOIN refund d ON d.id = i.refund_id
    JOIN receipt r ON r.id = coalesce(i.receipt_id, d.receipt_id)
    LEFT JOIN bill b ON b.id = r.bill_id
    LEFT JOIN procedure_account any_ ON any_.procedure_code = '*'
    WHERE l.file_id = :file AND l.status = 'succeeded'
        AND (i.kind = 'matched' OR i.resolved_by = 'statement:' || l.id) AND coalesce(d.amount, r.amount) = l.amount
        AND NOT EXISTS (
            SELECT FROM ledger_transaction t WHERE t.kind = 'settlement' AND t.subject = CASE
                WHEN i.refund_id IS NULL THEN 'settlement:receipt:' || i.receipt_id
                ELSE 'settlement:refund:' || i.refund_id END)
    ORDER BY i.id""")


async def arrived(session: AsyncSession, merchant: Merchant, file: StatementFile) -> None:
    """What the bank's statement has is proven, and stands on the agency's account: once for each receipt and refund."""
    arrived = (await session.execute(_ARRIVED, {"file": file.id})).all()
    proven = {"receipts": [row[0] for row in arrived if row[0] is not None], "strength": int(Evidence.STATEMENT)}
    await session.execute(_RAISE_ATTEMPTS, proven)
    await session.execute(_RAISE_RECEIPTS, proven)
    for receipt_id, refund_id, amount, beneficiary_id in arrived:
        if beneficiary_id is None:
            continue  # nobody's account is known
        moved = amount if refund_id is None else -amount
        await ledger.post(
            session,
            "settlement",
            [(ledger.bank(beneficiary_id), moved), (ledger.clearing(merchant.key), -moved)],
            subject=f"settlement:receipt:{receipt_id}" if refund_id is None else f"settlement:refund:{refund_id}",
            receipt_id=receipt_id,
            refund_id=refund_id,
        )


# What each line of a provider's report is for: the bill's beneficiary, else whoever fees of no named procedure go to.
_SHARES = text(f"""
    SELECT coalesce(b.beneficiary_id, any_.beneficiary_id),
        sum(CASE l.kind WHEN 'payment' THEN l.amount ELSE -l.amount END)::bigint
    FROM statement_file f JOIN statement_line l ON l.file_id = f.id
    JOIN reconciliation_item i ON i.statement_line_id = l.id
    LEFT JOIN refund d ON d.id = i.refund_id
    LEFT JOIN receipt r ON r.id = coalesce(i.receipt_id, d.receipt_id)
    LEFT JOIN bill b ON b.id = r.bill_id
    LEFT JOIN procedure_account any_ ON any_.procedure_code = '*'
    WHERE f.merchant_id = :merchant AND f.source = 'provider' AND f.business_date = :day AND l.status = 'succeeded'
        AND {in_force("f")}
        AND NOT EXISTS (SELECT FROM ledger_transaction t
            WHERE t.kind = 'settlement' AND t.subject = :subject)
    GROUP BY 1 ORDER BY 1""")


async def settle_day(session: AsyncSession, merchant: Merchant, day: date) -> None:
    """A provider's day has arrived in one transfer: to each beneficiary its share of the report.  Once for each day."""
    subject = f"settlement:{merchant.key}:{day}"
    about = {"merchant": merchant.id, "day": day, "subject": subject}
    shares = [(who, amount) for who, amount in await session.execute(_SHARES, about) if amount != 0]
    if not shares or any(who is None for who, _ in shares):
        return  # settled before, or for nobody whose account is known
    entries = [(ledger.bank(who), amount) for who, amount in shares]
    entries.append((ledger.clearing(merchant.key), -sum(amount for _, amount in shares)))
    await ledger.post(session, "settlement", [entry for entry in entries if entry[1] != 0], subject=subject)
