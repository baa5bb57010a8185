"""Tiles of the map of addresses over HTTP, beside pgbench on the same SQL."""

from collections.abc import Sequence
from random import Random
from typing import Any

import psycopg

from bench import pgbench, servers
from bench.databases import codes, demo_database
from bench.load import Sample, fire, generator, median, share
from bench.tables import percent, show
from bkapp.address.queries.tiles import CELLS, cells_of
from bkapp.address.tiles import Tile

PATH = "/tiles/addresses/1/"
TILES = 200  # of each zoom


def run(*, households: int, pairs: int, seconds: float, connections: int, zooms: Sequence[int]) -> dict[str, Any]:
    """Measure, print, return the figures."""
    figures: dict[str, Any] = {"households": households, "client": generator(), "connections": connections}
    rows = []
    with demo_database(households) as url, servers.app(url, codes(url)[0]) as app:
        for zoom in zooms:
            tiles = _around_homes(url, zoom)
            paths = [f"{tile.z}/{tile.x}/{tile.y}.mvt" for tile in tiles]
            script = _script(tiles)
            fire(app.port, paths, connections=connections, seconds=1, path=PATH)
            ours: list[Sample] = []
            limits: list[Sample] = []
            for _ in range(pairs):
                ours.append(fire(app.port, paths, connections=connections, seconds=seconds, path=PATH))
                limits.append(pgbench.run_script(url, script, clients=connections, seconds=seconds))
            for name, samples in ((f"app, zoom {zoom}", ours), ("pgbench, same SQL", limits)):
                middle = median(samples)
                of = percent(share(ours, samples)) if samples is limits else ""
                rows.append([name, f"{middle.rps:,.0f}", f"{middle.p50_ms:.1f}", f"{middle.p99_ms:.1f}", of])
            figures[f"z{zoom}"] = {
                "app": median(ours),
                "pgbench": median(limits),
                "share_of_pgbench": round(share(ours, limits), 3),
            }
    show(f"Tiles with homes, {connections} connections", ["", "req/s", "p50 ms", "p99 ms", "app's share"], rows)
    return figures


def _around_homes(url: str, zoom: int) -> list[Tile]:
    """Tiles of a zoom that hold homes, the same ones each time."""
    with psycopg.connect(url) as connection:
        found = connection.execute(
            """
            SELECT DISTINCT CAST(floor((ST_X(point::geometry) + 180) / 360 * 2 ^ %(zoom)s) AS int),
                CAST(floor((1 - asinh(tan(radians(ST_Y(point::geometry)))) / pi()) / 2 * 2 ^ %(zoom)s) AS int)
            FROM dwelling ORDER BY 1, 2
            """,
            {"zoom": zoom},
        ).fetchall()
    Random(1).shuffle(found)
    return [Tile(zoom, x, y) for x, y in found[:TILES]]


def _script(tiles: Sequence[Tile]) -> str:
    """The statement with the values of one of the tiles each time; pgbench takes names written as SQLAlchemy's."""
    asked = [cells_of(tile) for tile in tiles]
    head = pgbench.drawn(**{name: [repr(values[name]) for values in asked] for name in asked[0]})
    return f"{head}{CELLS.text.strip().replace(':day', 'CURRENT_DATE')};\n"
