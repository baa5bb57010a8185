"""A database with people who have signed in and owe fees, for the benchmarks of payments."""

import asyncio
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID

import psycopg
from msgspec import Struct

from bench import pgbench, servers
from bench.databases import codes, demo_database, settle
from bench.load import Sample, median, share
from bench.tables import percent, show
from bkapp.access.guards import COOKIE
from bkapp.db import open_engine, sessions_of
from bkapp.identity.rules import hashed, new_secret
from bkapp.payments.models import Beneficiary, ProcedureAccount
from bkapp.payments.operations import ledger, merchants
from bkapp.payments.operations.bills import ANY_PROCEDURE
from bkapp.sealing import Keyring

MERCHANT, TERMINAL, SECRET = "vnpay", "BACKAN01", "bench, is no real secret"
AMOUNT = 20_000
PEOPLE = 500
FIRST = 100_000_000_000
"""Bills are numbered from here on: ``HD100000000000`` is the code of the first, and its attempt has the number alone as
its reference, so that pgbench can count them up."""
WORKERS = str(os.cpu_count() or 1)
"""As many processes serve as pgbench has threads."""
KEYS = {"BKAPP_DATA_KEYS": "bench:" + "A" * 43, "BKAPP_LOOKUP_KEY": "A" * 43}

_PEOPLE = """
INSERT INTO person (number_hmac, number_cipher, name_cipher, level)
SELECT sha256(convert_to('n' || g, 'UTF8')), sha256('x'), sha256('y'), 2 FROM generate_series(1, %s) g RETURNING id"""
_SIGN_IN = """
INSERT INTO sign_in (person_id, kind, secret_hash, level, authenticated_at, issuer, device, expires_at)
VALUES (%s, 'browser', %s, 2, now(), 'bench', 'Chrome', now() + interval '30 days')"""
_BILLS = """
INSERT INTO bill (code, amount, description, dossier_code, procedure_code, procedure_name, beneficiary_id, payer_id,
    created_by)
SELECT 'HD' || g, %(amount)s, 'Lệ phí hồ sơ chứng thực', '000.00.01.H03-' || g, '2.000815',
    'Chứng thực bản sao từ bản chính', %(beneficiary)s, (%(people)s::uuid[])[1 + g %% %(count)s], 'bench'
FROM generate_series(%(first)s, %(first)s + %(bills)s - 1) AS g"""
_LINES = """
INSERT INTO bill_line (bill_id, position, kind, code, name, amount)
SELECT id, 1, 'charge', 'LP01', 'Lệ phí chứng thực', amount FROM bill"""
_ATTEMPTS = """
INSERT INTO payment_attempt (bill_id, merchant_id, reference, amount, status, reached, version, created_at, created_by,
    expires_at, next_check_at, redirect_url)
SELECT id, %s, substr(code, 3), amount, 'pending', 'pending', 2, now() - interval '1 hour', payer_id,
    now() + interval '1 day', now() + interval '1 day', 'https://pay.example/vpcpay.html?' || repeat('x', 500)
FROM bill ORDER BY code LIMIT %s"""
_BEGUN = """
INSERT INTO payment_event (attempt_id, version, at, event, start, "end", evidence, source)
SELECT id, 2, created_at, 'submitted', 'created', 'pending', 0, 'call' FROM payment_attempt"""


class Owing(Struct, frozen=True):
    """Such a database and a server on it; ``cookies`` are those of its people by their ids."""

    url: str
    port: int
    merchant: UUID
    beneficiary: UUID
    cookies: dict[UUID, str]


@contextmanager
def owing(bills: int, *, being_paid: int) -> Iterator[Owing]:
    """So many bills of different people; for the first of them somebody chose how to pay an hour ago."""
    with demo_database(100) as url:
        merchant, beneficiary = asyncio.run(_account(url))
        with psycopg.connect(url) as connection:
            people = [row[0] for row in connection.execute(_PEOPLE, [PEOPLE])]
            secrets = {person: new_secret() for person in people}
            connection.cursor().executemany(_SIGN_IN, [(person, hashed(secret)) for person, secret in secrets.items()])
            # The lines come right after; asking after each bill whether they add up would take longer than all else.
            connection.execute("SET session_replication_role = replica")
            values = {"amount": AMOUNT, "beneficiary": beneficiary, "people": people, "count": len(people)}
            connection.execute(_BILLS, {**values, "first": FIRST, "bills": bills})
            connection.execute(_LINES)
            connection.execute(_ATTEMPTS, [merchant, being_paid])
            connection.execute(_BEGUN)
        settle(url)
        with servers.app(url, codes(url)[0], **KEYS, BKAPP_WEB_WORKERS=WORKERS) as app:
            cookies = {person: f"{COOKIE}={secret}" for person, secret in secrets.items()}
            yield Owing(url, app.port, merchant, beneficiary, cookies)


async def _account(url: str) -> tuple[UUID, UUID]:
    """An account with VNPAY, and the agency that all fees go to."""
    engine = open_engine(url, pool_size=1)
    keyring = Keyring.parse(*KEYS.values())
    async with sessions_of(engine).begin() as session:
        agency = Beneficiary(
            name="UBND xã Phủ Thông", bank_bin="970436", account="0011001234567", account_name="UBND XA PHU THONG"
        )
        session.add(agency)
        await session.flush()
        session.add(ProcedureAccount(procedure_code=ANY_PROCEDURE, beneficiary_id=agency.id))
        merchant = await merchants.add_merchant(
            session,
            key=MERCHANT,
            provider="vnpay",
            code=TERMINAL,
            title="VNPAY",
            options={"pay_url": "https://pay.example/vpcpay.html", "api_url": "https://pay.example/api"},
            by="bench",
        )
        await merchants.add_secret(session, keyring, merchant, purpose="hash", secret=SECRET, by="bench")
        ids = merchant.id, agency.id
    await engine.dispose()
    return ids


def require_true_books(url: str) -> None:
    """End the run unless every promise about money holds, of what either side did."""

    async def run() -> None:
        engine = open_engine(url, pool_size=1)
        async with sessions_of(engine)() as session:
            breaks = await ledger.verify(session)
        await engine.dispose()
        if breaks:
            raise SystemExit(f"The books are wrong: {breaks[0]}")

    asyncio.run(run())


class Slices:
    """The numbers of bills, so many for each run."""

    def __init__(self, first: int, each: int) -> None:
        self._next = first
        self.each = each

    def take(self) -> range:
        self._next += self.each
        return range(self._next - self.each, self._next)


def beside(
    url: str, slices: Slices, ours: Callable[[range], Sample], script: str, *, clients: int, seconds: float, pairs: int
) -> tuple[list[Sample], list[Sample]]:
    """Runs of ours and of pgbench in turns, each with bills of its own; end the run where those were too few.

    The script finds the number of its bill in ``:number``.
    """
    mine: list[Sample] = []
    limits: list[Sample] = []
    for _ in range(pairs):
        mine.append(ours(slices.take()))
        known = {"first": slices.take()[0] - clients, "mine": 0, "clients": clients}
        limits.append(pgbench.run_script(url, _COUNT + script, clients=clients, seconds=seconds, known=known))
    if any(sample.rps * seconds >= slices.each for sample in mine + limits):
        raise SystemExit("This machine is faster than expected: raise --most.")
    return mine, limits


# The clients of pgbench count up in turns.
_COUNT = """\\set mine :mine + 1
\\set number :first + :mine * :clients + :client_id
"""


def print_pair(title: str, unit: str, ours: Sequence[Sample], limits: Sequence[Sample], limit: str) -> None:
    """Both sides of a comparison."""
    rows = []
    for name, samples in (("app", ours), (limit, limits)):
        middle = median(samples)
        of = percent(share(ours, samples)) if samples is limits else ""
        rows.append(
            [name, f"{middle.rps:,.0f}", f"{middle.p50_ms:.1f}", f"{middle.p99_ms:.1f}", str(middle.errors), of]
        )
    show(title, ["", unit, "p50 ms", "p99 ms", "errors", "app's share"], rows)
