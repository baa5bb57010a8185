"""From a point to what is there: over HTTP, beside the statement it is answered from in pgbench and beside the peer.

We ask twice: as anybody does, who is told the hamlet and commune, and with a key, which is told the nearest home (as
the peer tells everybody) and has that read recorded.  Each has a statement of its own.
"""

import asyncio
from collections.abc import Sequence
from random import Random
from typing import Any

from msgspec import Struct

from bench import pgbench
from bench.geocoding.asking import Client, features
from bench.geocoding.generator import EAST, NORTH, SEED
from bench.geocoding.queries import Query
from bench.geocoding.scores import Share
from bench.geocoding.speed import Target, percentiles
from bench.load import Sample, fire, median, share
from bench.tables import percent, show
from bkapp.access.operations import make_key
from bkapp.access.rules import Role
from bkapp.address.queries.gazetteer import AROUND, INSIDE
from bkapp.db import open_engine, sessions_of

AIM_OF_SQL = 0.50
AIM_P99_MS = 3
PUBLIC, WITH_KEY = "bkapp, public", "bkapp, with a key"
ASIDE = 20  # metres from the door, where somebody stands with a telephone
Point = tuple[float, float]


def points(queries: Sequence[Query], count: int) -> list[tuple[Query, Point]]:
    """Spots a few steps from homes."""
    dice = Random(SEED)
    return [
        (
            query,
            (
                round(query.lon + dice.uniform(-ASIDE, ASIDE) / EAST, 6),
                round(query.lat + dice.uniform(-ASIDE, ASIDE) / NORTH, 6),
            ),
        )
        for query in dice.sample(queries, min(count, len(queries)))
    ]


class Asker(Struct, frozen=True):
    """Who asks whom, and the statement that the answer comes from."""

    name: str
    target: Target
    headers: dict[str, str]
    statement: str | None


def run(
    ours: Target,
    peer: Target | None,
    url: str | None,
    spots: Sequence[tuple[Query, Point]],
    *,
    concurrencies: Sequence[int],
    seconds: float,
    rounds: int,
) -> dict[str, Any]:
    """Measure, print, return the figures.  All get the same number of connections each time."""
    askers = [Asker(PUBLIC, ours, {}, INSIDE)]
    if url:  # else somebody else's server, for which we have no key
        askers.append(Asker(WITH_KEY, ours, {"Authorization": f"Bearer {asyncio.run(_key(url))}"}, AROUND))
    if peer:
        askers.append(Asker(peer.side.name, peer, {}, None))
    figures: dict[str, Any] = {}
    rows = []
    for asker in askers:
        found, took = _found(asker, spots)
        p50, p99 = percentiles(took)
        rows.append([asker.name, str(found), f"{p50:.2f}", f"{p99:.2f}"])
        figures[asker.name] = {"right": round(found.value, 4), "p50_ms": p50, "p99_ms": p99}
    show(
        f"Reverse, {ASIDE} m or less from a door, one after another (aim: p99 at most {AIM_P99_MS} ms)",
        ["", "right hamlet (with a key: and a home) %", "p50 ms", "p99 ms"],
        rows,
    )
    for connections in concurrencies:
        figures[f"c{connections}"] = _rates(askers, url, spots, connections, seconds=seconds, rounds=rounds)
    return figures


def _rates(
    askers: Sequence[Asker],
    url: str | None,
    spots: Sequence[tuple[Query, Point]],
    connections: int,
    *,
    seconds: float,
    rounds: int,
) -> dict[str, Any]:
    """Answers a second over some connections, of each and, right behind it, of the statement it is answered from."""
    samples: dict[str, list[Sample]] = {asker.name: [] for asker in askers}
    bare: dict[str, list[Sample]] = {asker.name: [] for asker in askers if url and asker.statement}
    for turn in range(rounds + 1):
        for asker in askers:
            side, port = asker.target.side, asker.target.port
            paths = [side.reverse_path(*spot)[1:] for _, spot in spots]
            length = seconds if turn else 1
            sample = fire(port, paths, connections=connections, seconds=length, path="/", headers=asker.headers)
            if not turn:
                continue
            samples[asker.name].append(sample)
            if url and asker.statement:
                script = _script(asker.statement, [spot for _, spot in spots])
                bare[asker.name].append(pgbench.run_script(url, script, clients=connections, seconds=seconds))
    figures: dict[str, Any] = {}
    rows = []
    for name, runs in samples.items():
        middle = figures[name] = median(runs)
        of_sql = share(runs, bare[name]) if name in bare else None
        rows.append(_row(name, middle, "" if of_sql is None else percent(of_sql)))
        if of_sql is not None:
            figures[f"{name}: sql"] = median(bare[name])
            figures[f"{name}: share_of_sql"] = round(of_sql, 3)
            rows.append(_row("  its statement in pgbench", figures[f"{name}: sql"], ""))
    show(
        f"Reverse, {connections} connections (aim: {percent(AIM_OF_SQL)} of its SQL)",
        ["", "req/s", "p50 ms", "p99 ms", "errors", "of SQL"],
        rows,
    )
    return figures


def _row(name: str, sample: Sample, of_sql: str) -> list[str]:
    return [name, f"{sample.rps:,.0f}", f"{sample.p50_ms:.2f}", f"{sample.p99_ms:.2f}", str(sample.errors), of_sql]


def _found(asker: Asker, spots: Sequence[tuple[Query, Point]]) -> tuple[Share, list[float]]:
    """How often the first answer is in the hamlet of the nearest home, with a key that home's, and the seconds."""
    side = asker.target.side
    client, right, took = Client(asker.target.port, headers=asker.headers), 0, []
    for query, spot in spots:
        status, body, seconds = client.get(side.reverse_path(*spot))
        took.append(seconds)
        answers = [side.read(one) for one in features(body)] if status == 200 else []
        near = bool(answers) and is_near(query, answers[0].hamlet, answers[0].new)
        right += near and (answers[0].is_house or asker.statement != AROUND)
    return Share(right, len(spots)), took


async def _key(url: str) -> str:
    """A key that reaches every home, as the province's monitoring has one."""
    engine = open_engine(url)
    try:
        async with sessions_of(engine).begin() as session:
            return await make_key(session, label="bench", role=Role.MONITOR, unit_id=None)
    finally:
        await engine.dispose()


def is_near(query: Query, hamlet: str, commune: str) -> bool:
    return hamlet.casefold() == query.hamlet.casefold() and commune == query.new


def _script(statement: str, spots: Sequence[Point]) -> str:
    """A statement of ours with numbers that pgbench draws in place of its list of points."""
    head = pgbench.drawn(lon=[str(lon) for lon, _ in spots], lat=[str(lat) for _, lat in spots])
    bare = statement.replace("%s::text[]", "ARRAY[concat(:lon::text, ' ', :lat::text)]")
    return f"{head}{' '.join(bare.split())};\n"
