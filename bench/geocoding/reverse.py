"""From a point to what is there: over HTTP, beside the nearest home by SQL in pgbench and beside the peer.

We ask as anybody does, who is told the hamlet and commune.  The SQL is the one that officers get, which looks for the
nearest home besides, as the peer does.
"""

from collections.abc import Sequence
from random import Random
from typing import Any

from bench import pgbench
from bench.geocoding.asking import Client, features
from bench.geocoding.generator import EAST, NORTH, SEED
from bench.geocoding.queries import Query
from bench.geocoding.scores import Share
from bench.geocoding.speed import Target, percentiles
from bench.load import Sample, fire, median
from bench.tables import percent, show
from bkapp.address.queries.gazetteer import AROUND

AIM_OF_SQL = 0.50
AIM_P99_MS = 3
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


def run(
    targets: Sequence[Target],
    url: str | None,
    spots: Sequence[tuple[Query, Point]],
    *,
    concurrencies: Sequence[int],
    seconds: float,
    rounds: int,
) -> dict[str, Any]:
    """Measure, print, return the figures.  Both sides get the same number of connections each time."""
    figures: dict[str, Any] = {}
    rows = []
    for target in targets:
        found, took = _hamlets_found(target, spots)
        p50, p99 = percentiles(took)
        rows.append([target.side.name, str(found), f"{p50:.2f}", f"{p99:.2f}"])
        figures[target.side.name] = {"hamlet": round(found.value, 4), "p50_ms": p50, "p99_ms": p99}
    show(
        f"Reverse, {ASIDE} m or less from a door, one after another (aim: p99 at most {AIM_P99_MS} ms)",
        ["", "right hamlet %", "p50 ms", "p99 ms"],
        rows,
    )
    for connections in concurrencies:
        figures[f"c{connections}"] = _rates(targets, url, spots, connections, seconds=seconds, rounds=rounds)
    return figures


def _rates(
    targets: Sequence[Target],
    url: str | None,
    spots: Sequence[tuple[Query, Point]],
    connections: int,
    *,
    seconds: float,
    rounds: int,
) -> dict[str, Any]:
    """Answers a second over some connections, of both sides and of the SQL, in turns."""
    samples: dict[str, list[Sample]] = {target.side.name: [] for target in targets}
    sql: list[Sample] = []
    for turn in range(rounds + 1):
        for target in targets:
            paths = [target.side.reverse_path(*spot)[1:] for _, spot in spots]
            sample = fire(target.port, paths, connections=connections, seconds=seconds if turn else 1, path="/")
            if turn:
                samples[target.side.name].append(sample)
        if url and turn:
            script = _script([spot for _, spot in spots])
            sql.append(pgbench.run_script(url, script, clients=connections, seconds=seconds))
    figures: dict[str, Any] = {name: median(of) for name, of in samples.items()}
    if sql:
        figures["sql"] = median(sql)
    rows = [
        [
            "pgbench, nearest home" if name == "sql" else name,
            f"{sample.rps:,.0f}",
            f"{sample.p50_ms:.2f}",
            f"{sample.p99_ms:.2f}",
            str(sample.errors),
            percent(sample.rps / figures["sql"].rps) if sql else "",
        ]
        for name, sample in figures.items()
    ]
    if sql:
        figures["share_of_sql"] = round(figures[targets[0].side.name].rps / figures["sql"].rps, 3)
    show(
        f"Reverse, {connections} connections (aim: {percent(AIM_OF_SQL)} of the SQL)",
        ["", "req/s", "p50 ms", "p99 ms", "errors", "of SQL"],
        rows,
    )
    return figures


def _hamlets_found(target: Target, spots: Sequence[tuple[Query, Point]]) -> tuple[Share, list[float]]:
    """How often the first answer is in the hamlet of the nearest home, and how long each took."""
    client, right, took = Client(target.port), 0, []
    for query, spot in spots:
        status, body, seconds = client.get(target.side.reverse_path(*spot))
        took.append(seconds)
        answers = [target.side.read(one) for one in features(body)] if status == 200 else []
        right += bool(answers) and is_near(query, answers[0].hamlet, answers[0].new)
    return Share(right, len(spots)), took


def is_near(query: Query, hamlet: str, commune: str) -> bool:
    return hamlet.casefold() == query.hamlet.casefold() and commune == query.new


def _script(spots: Sequence[Point]) -> str:
    """The statement for officers, with numbers that pgbench draws in place of its list of points."""
    head = pgbench.drawn(lon=[str(lon) for lon, _ in spots], lat=[str(lat) for _, lat in spots])
    statement = AROUND.replace("%s::text[]", "ARRAY[concat(:lon::text, ' ', :lat::text)]")
    return f"{head}{' '.join(statement.split())};\n"
