"""Messages that money came, durable when answered, beside pgbench with the same rows."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import psycopg
from msgspec.structs import replace

from bench import pgbench
from bench.load import Sample, generator, median, request, send_each, share
from bench.owing import AMOUNT, FIRST, MERCHANT, SECRET, TERMINAL, Owing, owing, require_room, require_true_books
from bench.tables import percent, show
from bkapp.payments.providers.vnpay import pay_query
from bkapp.payments.providers.wire import compact_time

AIM = 0.40
# What one message comes to, and nothing else: what is read to judge it, the locks, and each row once.  The first lines
# count up, so that each transaction has an attempt of its own.
_SCRIPT = """
\\set mine :mine + 1
\\set reference :first + :mine * :clients + :client_id
BEGIN;
SELECT * FROM merchant m JOIN merchant_secret s ON s.merchant_id = m.id WHERE m.key = '{key}' AND s.retired_at IS NULL;
INSERT INTO webhook_inbox (merchant_id, what, remote_ip, headers, body_cipher, body_bytes)
VALUES ('{merchant}', '', '127.0.0.1', '{{"method": "GET"}}', decode(repeat('a7', {length}), 'hex'), 0)
RETURNING id AS letter \\gset
SELECT id AS attempt, bill_id AS bill FROM payment_attempt WHERE reference = :reference::text \\gset
SELECT payer_id AS payer FROM bill WHERE id = :bill FOR UPDATE \\gset
SELECT * FROM payment_attempt WHERE id = :attempt FOR UPDATE;
UPDATE webhook_inbox SET event_id = encode(sha256(decode(:letter::text || '00', 'escape')), 'hex'), attempt_id = :attempt,
    outcome = 'applied', answered_at = now() WHERE id = :letter;
INSERT INTO payment_event (attempt_id, version, at, event, start, "end", evidence, source)
VALUES (:attempt, 3, now(), 'paid', 'pending', 'succeeded', 2, 'inbox');
UPDATE payment_attempt SET status = 'succeeded', success = 2, version = 3, settled_at = now(), next_check_at = NULL
WHERE id = :attempt;
SELECT e.id FROM webhook_endpoint e WHERE e.active AND e.kinds && ARRAY['bill.paid', 'payment.succeeded'];
SELECT * FROM receipt WHERE merchant_id = '{merchant}' AND transaction = :reference::text FOR UPDATE;
INSERT INTO receipt (merchant_id, transaction, attempt_id, bill_id, amount, place, evidence, received_at)
VALUES ('{merchant}', :reference::text, :attempt, :bill, {amount}, 'applied', 2, now()) RETURNING id AS receipt \\gset
UPDATE bill SET status = 'paid', paid_at = now(), version = 2 WHERE id = :bill;
INSERT INTO notice (person_id, kind, data) VALUES (:payer, 'bill_paid', jsonb_build_object('bill', :bill::text));
INSERT INTO ledger_transaction (kind, entries, subject, receipt_id)
VALUES ('receipt', '[["clearing' || chr(58) || '{key}",{amount}],["payable' || chr(58) || '{beneficiary}",-{amount}]]',
    'receipt' || chr(58) || :receipt, :receipt);
COMMIT;
"""


def run(*, pairs: int, seconds: float, concurrencies: tuple[int, ...], most: int) -> dict[str, Any]:
    """Measure, print, return the figures.  ``most``: for how many messages a second there are bills."""
    figures: dict[str, Any] = {"client": generator()}
    room = round(most * seconds)
    first = FIRST
    with owing(room * (2 * pairs * len(concurrencies) + 1), being_paid=True) as database:
        messages = _messages(first, room)
        send_each(database.port, messages, connections=8, seconds=min(2, seconds))
        script = _SCRIPT.format(
            key=MERCHANT,
            merchant=database.merchant,
            beneficiary=database.beneficiary,
            amount=AMOUNT,
            length=len(messages[0]),
        )
        for clients in concurrencies:
            ours: list[Sample] = []
            limits: list[Sample] = []
            for _ in range(pairs):
                first += room
                ours.append(_told(database, first, room, connections=clients, seconds=seconds))
                first += room
                known = {"first": first - clients, "mine": 0, "clients": clients}
                limits.append(pgbench.run_script(database.url, script, clients=clients, seconds=seconds, known=known))
            require_room(ours + limits, seconds, room)
            _print(clients, ours, limits)
            figures[f"c{clients}"] = {
                "app": median(ours),
                "pgbench": median(limits),
                "share_of_pgbench": round(share(ours, limits), 3),
            }
        require_true_books(database.url)
    return figures


def _told(database: Owing, first: int, room: int, *, connections: int, seconds: float) -> Sample:
    """Tell of payments.  An error is also what was answered and is not in the database as money taken."""
    with psycopg.connect(database.url) as connection:
        before = _taken(connection)
        sample = send_each(database.port, _messages(first, room), connections=connections, seconds=seconds)
        kept = _taken(connection) - before
    return replace(sample, errors=sample.errors + max(0, int(sample.rps * seconds) - kept))


def _taken(connection: psycopg.Connection) -> int:
    [count] = connection.execute("SELECT count(*) FROM ledger_transaction").fetchone() or [0]
    connection.commit()
    return int(count)


def _messages(first: int, count: int) -> list[bytes]:
    """VNPAY's messages that so many attempts were paid, each signed."""
    return [
        request("GET", f"/api/v1/payments/hooks/{MERCHANT}?{_ipn(reference)}")
        for reference in map(str, range(first, first + count))
    ]


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


def _print(clients: int, ours: Sequence[Sample], limits: Sequence[Sample]) -> None:
    rows = []
    for name, samples in (("app", ours), ("pgbench, same rows", limits)):
        middle = median(samples)
        rows.append(
            [
                name,
                f"{middle.rps:,.0f}",
                f"{middle.p50_ms:.1f}",
                f"{middle.p99_ms:.1f}",
                str(middle.errors),
                percent(share(ours, samples)) if samples is limits else "",
            ]
        )
    show(
        f"Messages that money came, {clients} connections (aim: at least {percent(AIM)} of pgbench)",
        ["", "per s", "p50 ms", "p99 ms", "errors", "app's share"],
        rows,
    )
