"""Starting to pay and looking how it stands, as citizens do who have signed in; beside pgbench with the same SQL."""

import http.client
from collections.abc import Sequence
from functools import partial
from hashlib import sha256
from random import Random
from typing import Any
from uuid import UUID

import psycopg

from bench import pgbench
from bench.databases import settle
from bench.load import ADDRESS, Sample, generator, median, request, send_each, share
from bench.owing import AMOUNT, FIRST, MERCHANT, WORKERS, Owing, Slices, beside, owing, print_pair
from bkapp.app import SIGN_INS

WATCHED = 2_000
"""So many attempts are looked at."""
# What each statement of the application asks or writes, in its transactions: whose the session is, the claim of the
# Idempotency-Key, the attempt before VNPAY is asked and after, the stored answer.
_START = """
{whose};
SELECT b.id AS bill, b.payer_id AS payer FROM bill b JOIN beneficiary a ON a.id = b.beneficiary_id
LEFT JOIN admin_unit u ON u.id = b.unit_id
LEFT JOIN person p ON p.id = coalesce(b.payer_id, (SELECT n.id FROM person n WHERE n.number_hmac = b.payer_hmac))
WHERE b.code = 'HD' || :number::text \\gset
INSERT INTO idempotency_key (caller, key, fingerprint, status, headers, body, in_flight_until)
VALUES (:payer, :number::text, sha256('x'), 0, '{{}}', '', now() + interval '45 seconds') ON CONFLICT (caller, key)
DO UPDATE SET in_flight_until = excluded.in_flight_until WHERE idempotency_key.in_flight_until < now();
BEGIN;
SELECT * FROM merchant m JOIN merchant_secret s ON s.merchant_id = m.id WHERE m.key = '{key}' AND s.retired_at IS NULL;
SELECT * FROM bill WHERE id = :bill FOR UPDATE;
INSERT INTO payment_attempt (bill_id, merchant_id, reference, amount, created_at, created_by, expires_at, next_check_at)
VALUES (:bill, '{merchant}', :number::text, {amount}, now(), :payer, now() + interval '15 minutes', now())
ON CONFLICT DO NOTHING RETURNING id AS attempt \\gset
SELECT * FROM bill b JOIN beneficiary a ON a.id = b.beneficiary_id WHERE b.id = :bill;
SELECT * FROM bill_line WHERE bill_id = :bill ORDER BY position;
COMMIT;
BEGIN;
SELECT * FROM bill b JOIN payment_attempt a ON a.bill_id = b.id WHERE a.id = :attempt FOR UPDATE OF b, a;
WITH moved AS (UPDATE payment_attempt SET status = 'pending', reached = 'pending', version = 2, next_check_at = now(),
    redirect_url = repeat('x', 600) WHERE id = :attempt)
INSERT INTO payment_event (attempt_id, version, at, event, start, "end", evidence, source)
VALUES (:attempt, 2, now(), 'submitted', 'created', 'pending', 0, 'call');
COMMIT;
{look}
UPDATE idempotency_key SET status = 201, headers = '{{}}', body = decode(repeat('a7', 900), 'hex'),
    in_flight_until = NULL WHERE caller = :payer AND key = :number::text;
"""
_LOOK = """SELECT a.*, m.key, m.provider, m.title FROM payment_attempt a JOIN merchant m ON m.id = a.merchant_id
JOIN bill b ON b.id = a.bill_id WHERE a.id = :attempt
AND coalesce(b.payer_id, (SELECT n.id FROM person n WHERE n.number_hmac = b.payer_hmac)) = :payer;"""
_OWED = "SELECT id, payer_id FROM bill WHERE code BETWEEN 'HD' || %s AND 'HD' || %s ORDER BY code"
_WATCHED = """SELECT a.id, b.payer_id FROM payment_attempt a JOIN bill b ON b.id = a.bill_id
ORDER BY a.reference LIMIT %s"""


def run(*, pairs: int, seconds: float, concurrencies: tuple[int, ...], most: int) -> dict[str, Any]:
    """Measure, print, return the figures.  ``most``: for how many starts a second there are bills."""
    figures: dict[str, Any] = {"client": generator(), "workers": int(WORKERS)}
    slices = Slices(FIRST + WATCHED, round(most * seconds))
    with owing(WATCHED + slices.each * (2 * pairs * len(concurrencies) + 1), being_paid=WATCHED) as database:
        whose = _whose(next(iter(database.cookies.values())))
        script = _START.format(whose=whose, key=MERCHANT, merchant=database.merchant, amount=AMOUNT, look=_LOOK)
        _started(database, slices.take(), connections=8, seconds=min(2, seconds))
        settle(database.url)  # plans that were made while tables were empty are made anew, as they are every day
        for clients in concurrencies:
            start = partial(_started, database, connections=clients, seconds=seconds)
            ours, limits = beside(database.url, slices, start, script, clients=clients, seconds=seconds, pairs=pairs)
            print_pair(f"Starting to pay, {clients} connections", "per s", ours, limits, "pgbench, same SQL")
            figures[f"start_c{clients}"] = _told(ours, limits)
        polls, drawn = _polls(database)
        look = f"{drawn}{whose};\n{_LOOK}\n"
        send_each(database.port, polls, connections=8, seconds=1)
        for clients in concurrencies:
            ours, limits = [], []
            for _ in range(pairs):
                ours.append(send_each(database.port, polls, connections=clients, seconds=seconds))
                limits.append(pgbench.run_script(database.url, look, clients=clients, seconds=seconds))
            title = f"Looking how it stands and hearing that nothing changed, {clients} connections"
            print_pair(title, "per s", ours, limits, "pgbench, same SQL")
            figures[f"look_c{clients}"] = _told(ours, limits)
    return figures


def _told(ours: Sequence[Sample], limits: Sequence[Sample]) -> dict[str, Any]:
    return {"app": median(ours), "pgbench": median(limits), "share_of_pgbench": round(share(ours, limits), 3)}


def _whose(cookie: str) -> str:
    """The look-up of who holds a cookie."""
    key = f"c:{sha256(cookie.partition('=')[2].encode()).hexdigest()}"
    return " ".join(SIGN_INS.replace("%s::text[]", f"ARRAY['{key}']").split()).replace("'c:", "'c' || chr(58) || '")


def _started(database: Owing, numbers: range, *, connections: int, seconds: float) -> Sample:
    """Start paying bills, each by who owes it."""
    with psycopg.connect(database.url) as connection:
        owed = connection.execute(_OWED, [str(numbers[0]), str(numbers[-1])]).fetchall()
    posts = [_start(database.cookies[payer], bill) for bill, payer in owed]
    return send_each(database.port, posts, connections=connections, seconds=seconds)


def _start(cookie: str, bill: UUID) -> bytes:
    return request(
        "POST",
        f"/api/v1/bills/{bill}/attempts",
        body=f'{{"method":"{MERCHANT}"}}'.encode(),
        Cookie=cookie,
        Sec_Fetch_Site="same-origin",
        Content_Type="application/json",
        Idempotency_Key=bill.hex,
    )


def _polls(database: Owing) -> tuple[list[bytes], str]:
    """Requests of people who look again, all answered 304, and the head of a script that draws the same for pgbench."""
    with psycopg.connect(database.url) as connection:
        watched = connection.execute(_WATCHED, [WATCHED]).fetchall()
    Random(1).shuffle(watched)
    # As the application names how an attempt of this age stands.
    named = [
        (f"/api/v1/attempts/{attempt}", database.cookies[payer], f'"{attempt.hex}-2-15000"')
        for attempt, payer in watched
    ]
    path, cookie, tag = named[0]
    asking = http.client.HTTPConnection(ADDRESS, database.port, timeout=5)
    asking.request("GET", path, headers={"Cookie": cookie, "If-None-Match": tag})
    if (status := asking.getresponse().status) != 304:
        raise SystemExit(f"Looking again is answered {status} and not 304.")
    polls = [request("GET", path, Cookie=cookie, If_None_Match=tag) for path, cookie, tag in named]
    number = f"\\set number random({FIRST}, {FIRST + WATCHED - 1})\n"
    found = """SELECT a.id AS attempt, b.payer_id AS payer FROM payment_attempt a JOIN bill b ON b.id = a.bill_id
WHERE a.reference = :number::text \\gset\n"""
    return polls, number + found
