"""Whether a look-up costs the same among ten thousand households and among a million."""

import random
from contextlib import ExitStack
from typing import Any

import psycopg

from bench import pgbench, servers
from bench.databases import codes, copy_of, empty_database, settle
from bench.load import Sample, fire, median
from bench.tables import percent, show
from bkapp.address.codes import draw

AIM = 0.20
SEED = 20220426
# Every dwelling is in a commune of today, about its middle, and has its event; all constraints are on.  Versions and
# links to households are left out: a look-up does not read them, and they would take four fifths of the time.
_GROW = (
    """
    INSERT INTO dwelling (code, began, area, is_demo, status, unit_id, hamlet_id, point, point_source, house_number)
    SELECT w.code, '2025-07-01', '7PJ80000+', true, 'current', c.unit_id, c.hamlet_id,
        ST_SetSRID(ST_MakePoint(ST_X(c.point) + w.x, ST_Y(c.point) + w.y), 4326)::geography, 'demo', w.place::text
    FROM wanted w JOIN communes c ON c.place = w.place % (SELECT count(*) FROM communes)
    """,
    """
    WITH head AS (UPDATE feed_head SET seq = seq + (SELECT count(*) FROM wanted) RETURNING seq)
    INSERT INTO address_event (seq, recorded_at, kind, code, revision, effective, actor, data)
    SELECT head.seq + 1 - row_number() OVER (), now(), 'imported', d.code, 1, d.began, 'bench',
        jsonb_build_object('code', d.code, 'unit', d.unit_id, 'status', d.status, 'house_number', d.house_number)
    FROM head, wanted w JOIN dwelling d USING (code)
    """,
)  # fmt: skip


def run(*, sizes: tuple[int, ...], rounds: int, seconds: float, clients: int = 2) -> dict[str, Any]:
    """Measure, print, return the figures.  There is a database for each size, so that the runs take turns."""
    sql: dict[int, list[Sample]] = {size: [] for size in sizes}
    http: dict[int, list[Sample]] = {size: [] for size in sizes}
    with ExitStack() as opened:
        url = opened.enter_context(empty_database())
        _prepare(url)
        dice = random.Random(SEED)
        places: dict[int, tuple[str, list[str]]] = {}
        for size in sizes:
            if places:
                url = opened.enter_context(copy_of(url))
            _grow(url, size, dice)
            settle(url)
            places[size] = url, codes(url)
        served = {
            size: (opened.enter_context(servers.app(url, wanted[0])), url, wanted)
            for size, (url, wanted) in places.items()
        }
        for turn in range(rounds + 1):
            for size, (app, url, wanted) in served.items():
                by_sql = pgbench.run(url, wanted, clients=clients, seconds=seconds)
                by_http = fire(app.port, wanted, connections=clients, seconds=seconds)
                if turn:  # the first warms caches up
                    sql[size].append(by_sql)
                    http[size].append(by_http)
    figures = {size: {"sql_ms": median(sql[size]).p50_ms, "http_ms": median(http[size]).p50_ms} for size in sizes}
    flat = {name: _spread([figures[size][name] for size in sizes]) for name in ("sql_ms", "http_ms")}
    show(
        f"Cost of a look-up by number of households, {clients} clients, median of {rounds} medians "
        f"(aim: flat within {percent(AIM)})",
        ["households", "SQL ms (pgbench)", "HTTP ms"],
        [
            *([f"{size:,}", f"{figures[size]['sql_ms']:.3f}", f"{figures[size]['http_ms']:.3f}"] for size in sizes),
            ["dearest over cheapest", f"+{percent(flat['sql_ms'])}", f"+{percent(flat['http_ms'])}"],
        ],
    )
    return {"by_households": {str(size): figures[size] for size in sizes}, "spread": flat}


def _spread(costs: list[float]) -> float:
    return round(max(costs) / min(costs) - 1, 3)


def _prepare(url: str) -> None:
    """A hamlet in each commune of today, and a point in it."""
    with psycopg.connect(url) as connection:
        connection.execute("""
            INSERT INTO hamlet (unit_id, name, key, valid_from, source)
            SELECT id, 'Thôn Nà Bench', 'na bench', '2025-07-01', 'bench' FROM admin_unit
            WHERE level = 'commune' AND in_bac_kan AND valid_to IS NULL
        """)
        connection.execute("""
            CREATE TABLE communes AS
            SELECT row_number() OVER (ORDER BY u.code) - 1 AS place, u.id AS unit_id, h.id AS hamlet_id,
                ST_PointOnSurface(u.boundary) AS point
            FROM admin_unit u JOIN hamlet h ON h.unit_id = u.id AND h.source = 'bench'
        """)


def _grow(url: str, size: int, dice: random.Random) -> None:
    """Add dwellings with fresh valid codes until there are ``size``."""
    with psycopg.connect(url) as connection:
        there = {code for (code,) in connection.execute("SELECT code FROM dwelling")}
        fresh: dict[str, None] = {}
        while len(there) + len(fresh) < size:
            code = draw(dice.randrange)
            if code not in there:
                fresh[code] = None
        connection.execute("""
            CREATE TEMP TABLE wanted (place bigint, code text PRIMARY KEY, x float8, y float8) ON COMMIT DROP
        """)
        with connection.cursor().copy("COPY wanted FROM STDIN") as copy:
            for place, code in enumerate(fresh):
                copy.write_row((place, code, dice.uniform(-0.01, 0.01), dice.uniform(-0.01, 0.01)))
        connection.execute("ANALYZE wanted")
        for statement in _GROW:
            connection.execute(statement)
