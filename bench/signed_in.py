"""What a session costs: look-ups of who has signed in, beside the same look-ups by anybody and the statement alone."""

import asyncio
from typing import Any

import psycopg

from bench import pgbench, servers
from bench.databases import codes, demo_database
from bench.load import Sample, fire, generator, median, share
from bench.tables import percent, show
from bkapp.access.guards import COOKIE
from bkapp.app import SIGN_INS
from bkapp.identity.rules import hashed, new_secret

AIM_OF_ANYBODY = 0.50
# People who have signed in once each; half of them with an app.  What is sealed is so many random bytes.
_PEOPLE = """
INSERT INTO person (number_hmac, number_cipher, name_cipher, level)
SELECT sha256(convert_to('n' || g, 'UTF8')), sha256('x'), sha256('y'), 2 FROM generate_series(1, %s) AS g"""
_SIGN_INS = """
INSERT INTO sign_in (person_id, kind, secret_hash, level, authenticated_at, issuer, device, expires_at)
SELECT p.id, 'browser', sha256(convert_to('bench-' || row_number() OVER (), 'UTF8')), 2, now(), 'bench', 'Chrome',
    now() + interval '30 days' FROM person p"""
_OURS = "UPDATE sign_in SET secret_hash = %s WHERE secret_hash = sha256('bench-1')"


def run(*, people: int, pairs: int, seconds: float, concurrencies: tuple[int, ...]) -> dict[str, Any]:
    """Measure, print, return the figures."""
    figures: dict[str, Any] = {"people": people, "client": generator()}
    with demo_database(2_000) as url:
        secret = asyncio.run(_fill(url, people))
        wanted = codes(url)
        cookie = {"Cookie": f"{COOKIE}={secret}"}
        key = "'c:' || encode(sha256(convert_to('bench-' || :who::text, 'UTF8')), 'hex')"
        statement = " ".join(SIGN_INS.replace("%s::text[]", f"ARRAY[{key}]").split())
        script = f"\\set who random(2, {people})\n{statement};\n"
        with servers.app(url, wanted[0]) as app:
            for headers in ({}, cookie):
                fire(app.port, wanted, connections=8, seconds=2, headers=headers)
            for clients in concurrencies:
                signed: list[Sample] = []
                anybody: list[Sample] = []
                bare: list[Sample] = []
                for _ in range(pairs):
                    signed.append(fire(app.port, wanted, connections=clients, seconds=seconds, headers=cookie))
                    anybody.append(fire(app.port, wanted, connections=clients, seconds=seconds))
                    bare.append(pgbench.run_script(url, script, clients=clients, seconds=seconds))
                _print(clients, signed, anybody, bare)
                figures[f"c{clients}"] = {
                    "signed_in": median(signed),
                    "anybody": median(anybody),
                    "pgbench": median(bare),
                    "share_of_anybody": round(share(signed, anybody), 3),
                    "share_of_pgbench": round(share(signed, bare), 3),
                }
    return figures


async def _fill(url: str, people: int) -> str:
    """Make people with sign-ins; return the secret of one."""
    secret = new_secret()
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute(_PEOPLE, [people])
        await connection.execute(_SIGN_INS)
        await connection.execute(_OURS, [hashed(secret)])
        await connection.commit()
        await connection.set_autocommit(True)
        await connection.execute("VACUUM ANALYZE")
    return secret


def _print(clients: int, signed: list[Sample], anybody: list[Sample], bare: list[Sample]) -> None:
    rows = []
    for name, samples in (("signed in", signed), ("anybody", anybody), ("pgbench, the look-up of the session", bare)):
        middle = median(samples)
        of = "" if samples is signed else percent(share(signed, samples))
        rows.append(
            [name, f"{middle.rps:,.0f}", f"{middle.p50_ms:.2f}", f"{middle.p99_ms:.2f}", str(middle.errors), of]
        )
    show(
        f"Look-ups of who has signed in, {clients} connections (aim: {percent(AIM_OF_ANYBODY)} of anybody's)",
        ["", "req/s", "p50 ms", "p99 ms", "errors", "signed in: share"],
        rows,
    )
