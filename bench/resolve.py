"""Resolving a code over HTTP, beside bare ASGI on the same driver and beside pgbench on the same SQL."""

from typing import Any

from bench import pgbench, servers
from bench.databases import codes, demo_database
from bench.load import Sample, fire, generator, median, share
from bench.tables import percent, show

AIM_OF_BARE = 0.70


def run(*, households: int, pairs: int, seconds: float, concurrencies: tuple[int, ...]) -> dict[str, Any]:
    """Measure, print, return the figures."""
    figures: dict[str, Any] = {"households": households, "client": generator()}
    with demo_database(households) as url:
        wanted = codes(url)
        with servers.app(url, wanted[0]) as app, servers.bare(url, wanted[0]) as bare:
            for server in (app, bare):
                fire(server.port, wanted, connections=8, seconds=2)
            for clients in concurrencies:
                ours: list[Sample] = []
                peers: list[Sample] = []
                limits: list[Sample] = []
                for _ in range(pairs):
                    ours.append(fire(app.port, wanted, connections=clients, seconds=seconds))
                    peers.append(fire(bare.port, wanted, connections=clients, seconds=seconds))
                    limits.append(pgbench.run(url, wanted, clients=clients, seconds=seconds))
                _print(clients, ours, peers, limits)
                figures[f"c{clients}"] = {
                    "app": median(ours),
                    "bare": median(peers),
                    "pgbench": median(limits),
                    "share_of_bare": round(share(ours, peers), 3),
                    "share_of_pgbench": round(share(ours, limits), 3),
                }
    return figures


def _print(clients: int, ours: list[Sample], peers: list[Sample], limits: list[Sample]) -> None:
    rows = []
    for name, samples in (("app", ours), ("bare ASGI, same driver", peers), ("pgbench, same SQL", limits)):
        middle = median(samples)
        rows.append(
            [
                name,
                f"{middle.rps:,.0f}",
                f"{middle.p50_ms:.2f}",
                f"{middle.p99_ms:.2f}",
                str(middle.errors),
                "" if samples is ours else percent(share(ours, samples)),
            ]
        )
    show(
        f"Resolve, {clients} connections (aim: at least {percent(AIM_OF_BARE)} of bare ASGI)",
        ["", "req/s", "p50 ms", "p99 ms", "errors", "app's share"],
        rows,
    )
