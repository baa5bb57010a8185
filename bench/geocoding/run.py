"""The command: queries made, both sides asked, tables shown."""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
from msgspec import Struct

from bench import servers
from bench.databases import codes
from bench.geocoding import addok, queries, reverse, speed, tables
from bench.geocoding.asking import ADDOK, OURS, Client, features
from bench.geocoding.loading import Loaded, loaded
from bench.geocoding.queries import Query
from bench.geocoding.scores import Outcome, calibration
from bench.geocoding.speed import Target
from bench.load import generator

WORKERS = 2
MANY = 64  # connections: a busy morning, when look-ups that arrive together share a statement


class Options(Struct, frozen=True, kw_only=True):
    """What the command was asked for."""

    kinds: tuple[str, ...]
    count: int
    seed: int
    misses: int
    port: int | None  # of a server that is running already
    keep: str | None
    peer: bool
    stock: bool
    load: bool
    connections: tuple[int, ...]
    seconds: float
    rounds: int
    csv_rows: int
    peer_csv_rows: int


class Ours(Struct, frozen=True):
    """Our side as it runs."""

    target: Target
    server: servers.Server | None
    data: Loaded | None
    ready_seconds: float | None


def dumped(path: Path, asked: Iterable[Query]) -> dict[str, Any]:
    """Write the queries to a file instead of asking anybody."""
    written = queries.dump(path, asked)
    print(f"{written} queries in {path}")
    return {"queries": written, "file": str(path)}


def run(options: Options) -> dict[str, Any]:
    """Measure, print, return the figures."""
    asked = list(queries.all_kinds(options.kinds, options.count, options.seed))
    figures: dict[str, Any] = {"queries": len(asked), "seed": options.seed, "client": generator()}
    with ExitStack() as stack:
        ours = stack.enter_context(_ours(options))
        peer = stack.enter_context(addok.running(stock=options.stock)) if _peer_wanted(options) else None
        targets = [ours.target] + ([Target(ADDOK, peer.web.port)] if peer else [])
        outcomes = {target.side.name: ask(target, asked) for target in targets}
        figures["accuracy"] = tables.show_accuracy(outcomes)
        figures["calibration"] = tables.show_calibration({name: calibration(found) for name, found in outcomes.items()})
        figures["latency"] = tables.show_latency(outcomes)
        if options.load:
            fresh = speed.shuffled(list(queries.all_kinds(options.kinds, speed.FRESH, options.seed + 1)))
            figures["throughput"] = {
                f"c{connections}": tables.show_throughput(
                    speed.throughput(
                        targets,
                        fresh,
                        connections=connections,
                        seconds=options.seconds,
                        rounds=options.rounds,
                    ),
                    connections,
                )
                for connections in options.connections
            }
            figures["csv"] = tables.show_rows(_csv(targets, fresh, options))
            figures["reverse"] = reverse.run(
                ours.target,
                targets[1] if peer else None,
                ours.data.url if ours.data else None,
                reverse.points(asked, 1_000),
                concurrencies=(*options.connections, MANY),
                seconds=options.seconds,
                rounds=options.rounds,
            )
        figures["weight"] = tables.show_weight(_weights(ours, peer))
        tables.show_misses(outcomes[OURS.name], options.misses)
    return figures


def ask(target: Target, asked: Sequence[Query]) -> list[Outcome]:
    """Every query one after another over one connection."""
    client = Client(target.port)
    for query in asked[:: max(1, len(asked) // 50)]:  # caches warm, modules loaded
        client.get(target.side.path(query.text, prefix=query.kind == "prefix"))
    outcomes = []
    for query in asked:
        status, body, seconds = client.get(target.side.path(query.text, prefix=query.kind == "prefix"))
        answers = [target.side.read(one) for one in features(body)] if status == 200 else []
        outcomes.append(Outcome.of(query, answers, seconds, status))
    return outcomes


def _peer_wanted(options: Options) -> bool:
    if not options.peer:
        return False
    lacking = addok.missing()
    if lacking:
        print(f"without the peer: {lacking}")
    return lacking is None


@contextmanager
def _ours(options: Options) -> Iterator[Ours]:
    if options.port:
        yield Ours(Target(OURS, options.port), None, None, None)
        return
    with loaded(options.keep) as data:
        code = codes(data.url, most=1)[0]
        _analyse(data.url)
        began = time.perf_counter()
        with servers.app(data.url, code, BKAPP_WEB_WORKERS=str(WORKERS)) as server:
            client = Client(server.port)
            while not client.answers(OURS.path("xã Vi Hương", prefix=False)):
                if time.perf_counter() - began > 60:
                    raise SystemExit("bkapp does not find addresses: /api/v1/geocode is not answered with 200.")
                time.sleep(0.1)
            yield Ours(Target(OURS, server.port), server, data, time.perf_counter() - began)


def _analyse(url: str) -> None:
    """A kept database may be as an older run left it."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")


def _csv(targets: Sequence[Target], fresh: Sequence[Query], options: Options) -> dict[str, float]:
    mixed = [query for query in fresh if query.kind != "prefix"]
    counts = {OURS.name: options.csv_rows, ADDOK.name: options.peer_csv_rows}
    return {target.side.name: speed.rows_per_second(target, mixed[: counts[target.side.name]]) for target in targets}


def _weights(ours: Ours, peer: addok.Peer | None) -> list[tuple[str, str]]:
    rows = []
    if ours.server and ours.data:
        database = speed.database_memory_mib(ours.data.url)
        rows.append(("bkapp: web servers, MiB", f"{ours.server.memory_mib():.0f}"))
        rows.append(("bkapp: its database connections, MiB", "?" if database is None else f"{database:.0f}"))
        rows.append(("bkapp: from start to first answer, s", f"{ours.ready_seconds or 0:.1f}"))
        if ours.data.households_seconds:
            rows.append(("bkapp: hamlets brought in, s", f"{ours.data.hamlets_seconds:.1f}"))
            rows.append(("bkapp: households brought in, s", f"{ours.data.households_seconds:.1f}"))
    if peer:
        rows.append(("addok: web servers, MiB", f"{peer.web.memory_mib():.0f}"))
        rows.append(("addok: Redis, MiB", f"{peer.redis.memory_mib():.0f}"))
        rows.append(("addok: documents brought in and indexed, s", f"{peer.load_seconds:.1f}"))
    return rows
