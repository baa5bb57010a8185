"""Granian, which serves us, beside Uvicorn, each with the whole application: throughput, latency, memory."""

from collections.abc import Sequence
from typing import Any

from bench import servers
from bench.databases import codes, demo_database
from bench.load import Sample, fire, generator, median, share
from bench.tables import percent, show

Runs = list[Sample]


def run(*, households: int, pairs: int, seconds: float, concurrencies: tuple[int, ...]) -> dict[str, Any]:
    """Measure, print, return the figures."""
    figures: dict[str, Any] = {"households": households, "client": generator()}
    with demo_database(households) as url:
        wanted = codes(url)
        with servers.app(url, wanted[0]) as granian, servers.uvicorn(url, wanted[0]) as uvicorn:
            for server in (granian, uvicorn):
                fire(server.port, wanted, connections=8, seconds=2)
            rows = []
            for keep_alive, clients in [*((True, clients) for clients in concurrencies), (False, 8)]:
                ours: Runs = []
                peers: Runs = []
                for _ in range(pairs):
                    for server, runs in ((granian, ours), (uvicorn, peers)):
                        runs.append(
                            fire(server.port, wanted, connections=clients, seconds=seconds, keep_alive=keep_alive)
                        )
                name = f"{clients} connections" if keep_alive else f"{clients} clients, a connection each request"
                rows += _rows(name, ours, peers)
                figures[f"c{clients}" if keep_alive else f"c{clients}_close"] = {
                    "granian": median(ours),
                    "uvicorn": median(peers),
                    "share_of_uvicorn": round(share(ours, peers), 3),
                    "p99_of_uvicorns": round(median(ours).p99_ms / median(peers).p99_ms, 3),
                }
            memory = {"granian": round(granian.memory_mib()), "uvicorn": round(uvicorn.memory_mib())}
    show(
        f"Servers with the whole application, median of {pairs} runs of {seconds:g} s each, in turns",
        ["", "req/s", "p50 ms", "p99 ms", "errors", "of uvicorn's"],
        rows,
    )
    show("Memory after the runs", ["", "MiB"], [[name, str(mib)] for name, mib in memory.items()])
    return {**figures, "memory_mib": memory}


def _rows(name: str, ours: Sequence[Sample], peers: Sequence[Sample]) -> list[list[str]]:
    found = []
    for server, runs in (("granian", ours), ("uvicorn", peers)):
        middle = median(runs)
        ratio = percent(share(ours, peers)) if runs is ours else ""
        found.append(
            [
                f"{name}: {server}",
                f"{middle.rps:,.0f}",
                f"{middle.p50_ms:.2f}",
                f"{middle.p99_ms:.2f}",
                str(middle.errors),
                ratio,
            ]
        )
    return found
