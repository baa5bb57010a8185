"""Messages that money came, durable when answered, beside pgbench with the same rows."""

from datetime import UTC, datetime
from functools import partial
from typing import Any

import psycopg
from msgspec.structs import replace

from bench.databases import settle
from bench.load import Sample, generator, median, request, send_each, share
from bench.owing import (
    AMOUNT,
    FIRST,
    MERCHANT,
    SECRET,
    TERMINAL,
    WORKERS,
    Owing,
    Slices,
    beside,
    owing,
    print_pair,
    require_true_books,
)
from bench.tables import percent
from bkapp.payments.providers.vnpay import pay_query
from bkapp.payments.providers.wire import compact_time

AIM = 0.40
# What one message comes to, and nothing else: what is read to judge it, the locks, and each row once.
_SCRIPT = """
BEGIN;
SELECT * FROM merchant m JOIN merchant_secret s ON s.merchant_id = m.id WHERE m.key = '{key}' AND s.retired_at IS NULL;
INSERT INTO webhook_inbox (merchant_id, what, remote_ip, headers, body_cipher, body_bytes)
VALUES ('{merchant}', '', '127.0.0.1', '{{"method": "GET"}}', decode(repeat('a7', {length}), 'hex'), 0)
RETURNING id AS letter \\gset
SELECT a.id AS attempt, b.id AS bill, b.payer_id AS payer FROM bill b JOIN payment_attempt a ON a.bill_id = b.id
WHERE a.merchant_id = '{merchant}' AND a.reference = :number::text FOR UPDATE OF b, a \\gset
UPDATE webhook_inbox SET event_id = encode(sha256(convert_to(:number::text, 'UTF8')), 'hex'), attempt_id = :attempt,
    outcome = 'applied', answered_at = now() WHERE id = :letter;
WITH moved AS (UPDATE payment_attempt SET status = 'succeeded', success = 2, version = 3, settled_at = now(),
    next_check_at = NULL WHERE id = :attempt)
INSERT INTO payment_event (attempt_id, version, at, event, start, "end", evidence, source)
VALUES (:attempt, 3, now(), 'paid', 'pending', 'succeeded', 2, 'inbox');
SELECT e.id FROM webhook_endpoint e WHERE e.active AND e.kinds && ARRAY['bill.paid', 'payment.succeeded'];
INSERT INTO receipt (merchant_id, transaction, attempt_id, bill_id, amount, place, evidence, received_at)
VALUES ('{merchant}', :number::text, :attempt, :bill, {amount}, 'applied', 2, now())
ON CONFLICT (merchant_id, transaction) DO NOTHING RETURNING id AS receipt \\gset
UPDATE bill SET status = 'paid', paid_at = now(), version = 2 WHERE id = :bill;
INSERT INTO notice (person_id, kind, data) SELECT id, 'bill_paid', jsonb_build_object('bill', :bill::text) FROM person
WHERE id = :payer AND erased_at IS NULL;
INSERT INTO ledger_transaction (kind, entries, subject, receipt_id)
VALUES ('receipt', '[["clearing' || chr(58) || '{key}",{amount}],["payable' || chr(58) || '{beneficiary}",-{amount}]]',
    'receipt' || chr(58) || :receipt, :receipt);
COMMIT;
"""


def run(*, pairs: int, seconds: float, concurrencies: tuple[int, ...], most: int) -> dict[str, Any]:
    """Measure, print, return the figures.  ``most``: for how many messages a second there are bills."""
    figures: dict[str, Any] = {"client": generator(), "workers": int(WORKERS)}
    slices = Slices(FIRST, round(most * seconds))
    bills = slices.each * (2 * pairs * len(concurrencies) + 1)
    with owing(bills, being_paid=bills) as database:
        _told(database, slices.take(), connections=8, seconds=min(2, seconds))
        settle(database.url)  # plans that were made while tables were empty are made anew, as they are every day
        script = _SCRIPT.format(
            key=MERCHANT,
            merchant=database.merchant,
            beneficiary=database.beneficiary,
            amount=AMOUNT,
            length=len(_messages(range(FIRST, FIRST + 1))[0]),
        )
        for clients in concurrencies:
            tell = partial(_told, database, connections=clients, seconds=seconds)
            ours, limits = beside(database.url, slices, tell, script, clients=clients, seconds=seconds, pairs=pairs)
            title = f"Messages that money came, {clients} connections (aim: at least {percent(AIM)} of pgbench)"
            print_pair(title, "per s", ours, limits, "pgbench, same rows")
            figures[f"c{clients}"] = {
                "app": median(ours),
                "pgbench": median(limits),
                "share_of_pgbench": round(share(ours, limits), 3),
            }
        require_true_books(database.url)
    return figures


def _told(database: Owing, numbers: range, *, connections: int, seconds: float) -> Sample:
    """Tell of payments.  An error is also what was answered and is not in the database as money taken."""
    with psycopg.connect(database.url) as connection:
        before = _taken(connection)
        sample = send_each(database.port, _messages(numbers), connections=connections, seconds=seconds)
        kept = _taken(connection) - before
    return replace(sample, errors=sample.errors + max(0, int(sample.rps * seconds) - kept))


def _taken(connection: psycopg.Connection) -> int:
    [count] = connection.execute("SELECT count(*) FROM ledger_transaction").fetchone() or [0]
    connection.commit()
    return int(count)


def _messages(numbers: range) -> list[bytes]:
    """VNPAY's messages that attempts were paid, each signed."""
    return [request("GET", f"/api/v1/payments/hooks/{MERCHANT}?{_ipn(str(number))}") for number in numbers]


def _ipn(reference: str) -> str:
    fields = {
        "vnp_Amount": str(AMOUNT * 100),
        "vnp_BankCode": "NCB",
        "vnp_BankTranNo": f"VNP{reference}",
        "vnp_CardType": "ATM",
        "vnp_OrderInfo": f"Thanh toan {reference}",
        "vnp_PayDate": compact_time(datetime.now(UTC)),
        "vnp_ResponseCode": "00",
        "vnp_TmnCode": TERMINAL,
        "vnp_TransactionNo": reference,
        "vnp_TransactionStatus": "00",
        "vnp_TxnRef": reference,
    }
    return pay_query(fields, SECRET)
