"""The double-entry ledger: posting, balances, verifying.

An account is a name.  ``clearing:<merchant>`` is money that a provider or a bank holds for us,
``payable:<beneficiary>`` what we owe an agency, ``bank:<beneficiary>`` what arrived on its account, ``suspense`` money
that is nobody's yet.
Debits are above zero and credits below; a transaction comes to zero, and nothing is ever changed, only reversed.
"""

import json
from collections.abc import Sequence
from uuid import UUID

from msgspec import Struct
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.db import carry_out
from bkapp.payments.models import LedgerEntry, LedgerTransaction

SUSPENSE = "suspense"
Entries = Sequence[tuple[str, int]]


def clearing(merchant_key: str) -> str:
    """The account of what a merchant's provider holds for us."""
    return f"clearing:{merchant_key}"


def payable(beneficiary_id: UUID) -> str:
    """The account of what a beneficiary is owed."""
    return f"payable:{beneficiary_id}"


def bank(beneficiary_id: UUID) -> str:
    """The account of what arrived on a beneficiary's bank account."""
    return f"bank:{beneficiary_id}"


# The trigger fills in the rest, and knows the number.
_POST = """
    INSERT INTO ledger_transaction (kind, entries, subject, receipt_id, refund_id, reverses)
    VALUES (%(kind)s, %(entries)s, %(subject)s, %(receipt_id)s, %(refund_id)s, %(reverses)s) RETURNING seq"""


async def post(
    session: AsyncSession,
    kind: str,
    entries: Entries,
    *,
    subject: str,
    receipt_id: UUID | None = None,
    refund_id: UUID | None = None,
    reverses: int | None = None,
) -> int:
    """Add a transaction; return its number.

    ``kind`` is ``receipt``, ``apply``, ``refund``, ``settlement`` or ``reversal``.  Others who post wait until this
    transaction ends, so post late.  What does not come to zero does not commit.
    """
    row = {
        "kind": kind,
        "entries": json.dumps([list(entry) for entry in entries], ensure_ascii=False, separators=(",", ":")),
        "subject": subject,
        "receipt_id": receipt_id,
        "refund_id": refund_id,
        "reverses": reverses,
    }
    [(seq,)] = await carry_out(session, _POST, row)
    return int(seq)


async def reverse(session: AsyncSession, seq: int, *, subject: str) -> int:
    """Take a transaction back by its opposite.  One that was taken back before breaks a constraint."""
    transaction = (await session.execute(select(LedgerTransaction).where(LedgerTransaction.seq == seq))).scalar_one()
    entries = [(account, -amount) for account, amount in json.loads(transaction.entries)]
    return await post(
        session,
        "reversal",
        entries,
        subject=subject,
        receipt_id=transaction.receipt_id,
        refund_id=transaction.refund_id,
        reverses=seq,
    )


async def balances(session: AsyncSession) -> dict[str, int]:
    """What every account comes to, in đồng."""
    rows = await session.execute(
        select(LedgerEntry.account, func.sum(LedgerEntry.amount))
        .group_by(LedgerEntry.account)
        .order_by(LedgerEntry.account)
    )
    return {account: int(total) for account, total in rows}


class Break(Struct, frozen=True):
    """Something wrong with the books: a stable word, where, and what was found."""

    kind: str
    where: str
    detail: str


_CHAIN = text("""
    SELECT t.seq FROM (
        SELECT t.*, lag(t.hash, 1, sha256('bkapp ledger')) OVER (ORDER BY t.seq) AS before,
               row_number() OVER (ORDER BY t.seq) AS place
        FROM ledger_transaction t) t
    WHERE t.place <> t.seq OR t.previous <> t.before
       OR t.hash <> audit_digest(t.previous, t.seq, t.at, t.kind, coalesce(t.receipt_id::text, ''),
            coalesce(t.refund_id::text, ''), t.subject, coalesce(t.reverses::text, ''), t.entries)
    ORDER BY t.seq LIMIT 100""")
_ENTRIES = text("""
    SELECT coalesce(t.seq, e.transaction_seq)
    FROM (SELECT seq, jsonb_agg(jsonb_build_array(x.entry ->> 0, (x.entry ->> 1)::bigint) ORDER BY x.place) AS written,
                 sum((x.entry ->> 1)::bigint) AS total
          FROM ledger_transaction, jsonb_array_elements(entries::jsonb) WITH ORDINALITY AS x(entry, place)
          GROUP BY seq) t
    FULL JOIN (SELECT transaction_seq, jsonb_agg(jsonb_build_array(account, amount) ORDER BY position) AS kept
               FROM ledger_entry GROUP BY transaction_seq) e ON e.transaction_seq = t.seq
    WHERE t.written IS DISTINCT FROM e.kept OR t.total <> 0
    ORDER BY 1 LIMIT 100""")
_INVARIANTS: tuple[tuple[str, str], ...] = (
    (
        "suspense",
        """SELECT 'suspense', format('ledger %s, unmatched receipts %s', ledger.due, kept.due)
        FROM (SELECT -coalesce(sum(amount), 0) AS due FROM ledger_entry WHERE account = 'suspense') ledger,
             (SELECT coalesce(sum(amount - refunded), 0) AS due FROM receipt WHERE place = 'suspense') kept
        WHERE ledger.due <> kept.due""",
    ),
    (
        "receipt",
        """SELECT r.id::text, format('the ledger holds %s of it, its row says %s', coalesce(l.held, 0),
            CASE WHEN r.place = 'reversed' THEN 0 ELSE r.amount - r.refunded END)
        FROM receipt r LEFT JOIN (
            SELECT t.receipt_id, -sum(e.amount) AS held FROM ledger_transaction t
            JOIN ledger_entry e ON e.transaction_seq = t.seq
            WHERE e.account = 'suspense' OR e.account LIKE 'payable:%' GROUP BY t.receipt_id) l ON l.receipt_id = r.id
        WHERE coalesce(l.held, 0) <> CASE WHEN r.place = 'reversed' THEN 0 ELSE r.amount - r.refunded END LIMIT 100""",
    ),
    (
        "bill",
        """SELECT b.id::text, format('%s, with %s receipts applied', b.status, count(r.id))
        FROM bill b LEFT JOIN receipt r ON r.bill_id = b.id AND r.place = 'applied'
        GROUP BY b.id, b.status HAVING (b.status = 'paid') <> (count(r.id) = 1) LIMIT 100""",
    ),
    (
        "attempt",
        """SELECT a.id::text, format('%s, with %s receipts', a.status, count(r.id))
        FROM payment_attempt a LEFT JOIN receipt r ON r.attempt_id = a.id AND r.place <> 'reversed'
        WHERE a.status = 'succeeded' GROUP BY a.id, a.status HAVING count(r.id) = 0 LIMIT 100""",
    ),
    (
        "case",
        """SELECT r.id::text, 'in suspense without an open case' FROM receipt r
        WHERE r.place = 'suspense' AND r.refunded < r.amount AND NOT EXISTS (
            SELECT FROM payment_case c WHERE c.receipt_id = r.id AND c.closed_at IS NULL) LIMIT 100""",
    ),
    (
        "refund",
        """SELECT r.id::text, 'reserved or refunded is not what its refunds come to' FROM receipt r
        LEFT JOIN (SELECT receipt_id,
            coalesce(sum(amount) FILTER (WHERE status IN ('waiting', 'approved', 'unknown', 'pending')), 0) AS reserved,
            coalesce(sum(amount) FILTER (WHERE status = 'succeeded'), 0) AS refunded
            FROM refund GROUP BY receipt_id) f ON f.receipt_id = r.id
        WHERE (r.reserved, r.refunded) IS DISTINCT FROM
              (coalesce(f.reserved, 0)::bigint, coalesce(f.refunded, 0)::bigint)
        LIMIT 100""",
    ),
)


async def verify(session: AsyncSession) -> list[Break]:
    """Everything that is wrong with the books: the chain, its entries, and each promise about money.

    Run it in one moment of the database (REPEATABLE READ) while others write.
    """
    found = [Break("chain", str(seq), "not the hash of what it holds") for seq in await session.scalars(_CHAIN)]
    found += [Break("entries", str(seq), "not what was hashed, or not zero") for seq in await session.scalars(_ENTRIES)]
    for kind, statement in _INVARIANTS:
        found += [Break(kind, where, detail) for where, detail in await session.execute(text(statement))]
    last = (await session.execute(text("SELECT seq, hash FROM ledger_head"))).one()
    newest = (
        await session.execute(text("SELECT seq, hash FROM ledger_transaction ORDER BY seq DESC LIMIT 1"))
    ).one_or_none()
    if newest is not None and tuple(newest) != tuple(last):
        found.append(Break("head", str(last[0]), f"the last transaction is {newest[0]}"))
    return found
