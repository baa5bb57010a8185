"""The audit chain: adding to it, sealing reads into it, computing it again; each beside what the machine can do."""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from statistics import median
from typing import Any
from uuid import uuid4

import psycopg

from bench import load, pgbench
from bench.databases import empty_database, settle
from bench.load import Sample, share
from bench.tables import percent, show
from bkapp.audit.operations import append, seal_reads
from bkapp.audit.queries import verify
from bkapp.db import Sessions, open_engine, sessions_of

AT_ONCE = timedelta(seconds=-1)
IN_A_TRANSACTION = 500
# Values as long as those of a sign-in.
_ONE, _OTHER, _DEVICE = uuid4(), uuid4(), uuid4()
_APPEND = f"""INSERT INTO audit_entry (kind, actor, subject, data)
VALUES ('sign_in', '{_ONE}', '{_OTHER}', '{{"device":"{_DEVICE}","level":2}}') RETURNING seq;
"""
_ENTRIES = f"""INSERT INTO audit_entry (kind, actor, subject, data)
SELECT 'sign_in', '{_ONE}', '{_OTHER}', '{{"device":"{_DEVICE}","level":2}}' FROM generate_series(1, %s)"""
_READS = """INSERT INTO data_read (reader, subject, what, request_id)
SELECT left(md5(n::text), 12), lpad(n::text, 9, '0'), '/api/v1/addresses/{code}', left(md5(n::text), 16)
FROM generate_series(1, %s) AS n"""

Work = Callable[[Sessions], Awaitable[int]]


def run(
    *, entries: int, reads: int, rounds: int, pairs: int, seconds: float, connections: tuple[int, ...]
) -> dict[str, Any]:
    """Measure, print, return the figures."""
    with empty_database() as url:
        figures: dict[str, Any] = {"append": _appends(url, pairs=pairs, seconds=seconds, connections=connections)}
        _fill(url, entries)
        ours, limits = [], []
        for _ in range(rounds):
            ours.append(_timed(url, _verified(1)))
            limits.append(_copied(url, "SELECT * FROM audit_entry ORDER BY seq"))
        figures["verify_entries"] = _told("Verifying entries", ours, limits)
        ours, limits = [], []
        for _ in range(rounds):
            with psycopg.connect(url) as connection:
                connection.execute(_READS, [reads])
                [last] = connection.execute("SELECT coalesce(max(last_id), 0) FROM read_seal").fetchone() or [0]
            settle(url)
            ours.append(_timed(url, _sealed))
            limits.append(_copied(url, f"SELECT * FROM data_read WHERE id > {last} ORDER BY id"))
        figures["seal_reads"] = _told("Sealing reads", ours, limits)
        with psycopg.connect(url) as connection:
            [first] = connection.execute("SELECT min(entry_seq) FROM read_seal").fetchone() or [1]
        ours, limits = [], []
        for _ in range(rounds):
            ours.append(_timed(url, _verified(first)))
            limits.append(_copied(url, "SELECT * FROM data_read ORDER BY id"))
        figures["verify_reads"] = _told("Verifying sealed reads", ours, limits)
    return figures


def _appends(url: str, *, pairs: int, seconds: float, connections: tuple[int, ...]) -> dict[str, Any]:
    figures = {}
    rows = []
    for clients in connections:
        ours: list[Sample] = []
        peers: list[Sample] = []
        for _ in range(pairs):
            ours.append(asyncio.run(_appended(url, clients, seconds)))
            peers.append(pgbench.run_script(url, _APPEND, clients=clients, seconds=seconds))
        mine, other = load.median(ours), load.median(peers)
        rows.append(
            [
                f"{clients} connections",
                f"{mine.rps:,.0f}",
                f"{mine.p99_ms:.1f}",
                f"{other.rps:,.0f}",
                f"{other.p99_ms:.1f}",
                percent(share(ours, peers)),
            ]
        )
        figures[f"c{clients}"] = {"ours": mine, "pgbench": other, "share": round(share(ours, peers), 3)}
    head = ["", "entries/s", "p99 ms", "pgbench, same SQL", "p99 ms", "our share"]
    show("Appending, each entry a transaction of its own", head, rows)
    return figures


async def _appended(url: str, clients: int, seconds: float) -> Sample:
    """Append as a request does, from this many tasks at a time."""
    engine = open_engine(url, pool_size=clients)
    sessions = sessions_of(engine)
    took: list[float] = []

    async def work(until: float) -> None:
        while (began := time.perf_counter()) < until:
            async with sessions.begin() as session:
                await append(
                    session, kind="sign_in", actor=str(_ONE), subject=str(_OTHER), device=str(_DEVICE), level=2
                )
            took.append((time.perf_counter() - began) * 1000)

    await asyncio.gather(*(work(time.perf_counter() + 0.3) for _ in range(clients)))  # connections are opened
    took.clear()
    began = time.perf_counter()
    await asyncio.gather(*(work(began + seconds) for _ in range(clients)))
    lasted = time.perf_counter() - began
    await engine.dispose()
    took.sort()
    return Sample(len(took) / lasted, median(took), took[len(took) * 99 // 100])


def _fill(url: str, entries: int) -> None:
    """Entries as those that were appended, so many to a transaction."""
    with psycopg.connect(url, autocommit=True) as connection:
        for _ in range(0, entries, IN_A_TRANSACTION):
            connection.execute(_ENTRIES, [IN_A_TRANSACTION])
    settle(url)


def _timed(url: str, work: Work) -> float:
    """How many rows a second some work goes through; it returns how many it were."""

    async def run() -> float:
        engine = open_engine(url, pool_size=1)
        began = time.perf_counter()
        count = await work(sessions_of(engine))
        lasted = time.perf_counter() - began
        await engine.dispose()
        return count / lasted

    return asyncio.run(run())


def _verified(since: int) -> Work:
    async def work(sessions: Sessions) -> int:
        async with sessions() as session:
            found = await verify(session, {}, since=since)
        if found.broken:
            raise SystemExit(f"The chain is broken: {found.breaks[0]}")
        return found.reads or found.entries

    return work


async def _sealed(sessions: Sessions) -> int:
    total, sealed = 0, 1
    while sealed:
        async with sessions.begin() as session:
            sealed = await seal_reads(session, settled=AT_ONCE)
        total += sealed
    return total


def _copied(url: str, select: str) -> float:
    """How many of these rows a second can be fetched with COPY and hashed as they come, and nothing else."""
    digest = hashlib.sha256()
    with psycopg.connect(url) as connection:
        cursor = connection.cursor()
        began = time.perf_counter()
        with cursor.copy(f"COPY ({select}) TO STDOUT") as copy:
            for data in copy:
                digest.update(data)
        return cursor.rowcount / (time.perf_counter() - began)


def _told(title: str, ours: list[float], limits: list[float]) -> dict[str, float]:
    ratio = median(a / b for a, b in zip(ours, limits, strict=True))
    show(
        f"{title}, median of {len(ours)}",
        ["", "rows/s", "our share"],
        [
            ["bkapp", f"{median(ours):,.0f}", ""],
            ["COPY and SHA-256 of the same rows, nothing else", f"{median(limits):,.0f}", percent(ratio)],
        ],
    )
    return {"per_s": round(median(ours)), "copy_per_s": round(median(limits)), "share": round(ratio, 3)}
