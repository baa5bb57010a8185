"""Importing households, beside COPY of the very same rows into the same tables."""

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import psycopg

from bench.databases import copy_of, empty_database, take, write_demo
from bench.tables import percent, show

AIM_OF_COPY = 0.30
TABLES = ("household", "dwelling", "dwelling_version", "household_link", "address_event")
# Which of a table's rows belong to the events of one batch.
_PART = {
    "household": """SELECT t.* FROM address_event e JOIN household_link l USING (code)
        JOIN household t ON t.id = l.household_id""",
    "address_event": "SELECT e.* FROM address_event e",
} | {
    table: f"SELECT t.* FROM address_event e JOIN {table} t ON t.code = e.code"
    for table in ("dwelling", "dwelling_version", "household_link")
}

Batch = dict[str, bytes]


def run(*, households: int, batch: int, rounds: int) -> dict[str, Any]:
    """Measure, print, return the figures."""
    ours, same, bare = [], [], []
    with empty_database() as prepared, tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "households.csv"
        write_demo(prepared, path, households)
        for _ in range(rounds):
            with copy_of(prepared) as url:
                began = time.perf_counter()
                tally = take(url, path, batch=batch)
                ours.append(tally.imported / (time.perf_counter() - began))
                batches = _dump(url, batch)
            with copy_of(prepared) as url:
                same.append(tally.imported / _copy(url, batches, ""))
            with copy_of(prepared) as url:
                with psycopg.connect(url) as connection:
                    for table in TABLES:
                        connection.execute(f"CREATE TABLE bare_{table} AS TABLE {table} WITH NO DATA")
                bare.append(tally.imported / _copy(url, batches, "bare_"))
    of_same = median(a / b for a, b in zip(ours, same, strict=True))
    of_bare = median(a / b for a, b in zip(ours, bare, strict=True))
    show(
        f"Import of {tally.imported:,} households, {batch:,} to a transaction, median of {rounds} "
        f"(aim: at least {percent(AIM_OF_COPY)} of COPY into the same tables)",
        ["", "households/s", "import's share"],
        [
            ["import", f"{median(ours):,.0f}", ""],
            ["COPY of its rows, same indexes, constraints, triggers", f"{median(same):,.0f}", percent(of_same)],
            ["COPY of them, none of these (a bound, not a peer)", f"{median(bare):,.0f}", percent(of_bare)],
        ],
    )
    return {
        "households": tally.imported,
        "import_per_s": round(median(ours)),
        "copy_per_s": round(median(same)),
        "copy_without_indexes_per_s": round(median(bare)),
        "share_of_copy": round(of_same, 3),
        "share_of_copy_without_indexes": round(of_bare, 3),
    }


def _dump(url: str, batch: int) -> list[Batch]:
    """What an import made, in the order and the portions in which it was made."""
    found = []
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT max(seq) FROM address_event").fetchone()
        assert row is not None
        for first in range(1, row[0] + 1, batch):
            part: Batch = {}
            for table, select in _PART.items():
                where = f"WHERE e.seq BETWEEN {first} AND {first + batch - 1} ORDER BY e.seq"
                with connection.cursor().copy(f"COPY ({select} {where}) TO STDOUT") as copy:
                    part[table] = b"".join(bytes(data) for data in copy)
            found.append(part)
    return found


def _copy(url: str, batches: list[Batch], prefix: str) -> float:
    """Copy the batches in, one transaction each; return the seconds it took."""
    with psycopg.connect(url, autocommit=True) as connection:
        began = time.perf_counter()
        for part in batches:
            with connection.transaction():
                for table in TABLES:
                    with connection.cursor().copy(f"COPY {prefix}{table} FROM STDIN") as copy:
                        copy.write(part[table])
        return time.perf_counter() - began
