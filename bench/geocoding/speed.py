"""How fast: requests a second over several connections, rows of a file a second, memory."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from random import Random
from statistics import median as middle
from uuid import uuid4

import psycopg
from msgspec import Struct

from bench.geocoding.asking import Client, Side
from bench.geocoding.generator import SEED
from bench.geocoding.queries import Query
from bench.load import Sample, fire
from bench.servers import process_memory_mib

AIM_OF_PEER, AIM_OF_PEERS_ROWS = 5, 10  # times what the peer does
AIM_P50_MS, AIM_P99_MS = 3, 10
FRESH = 1_500  # texts of each kind that nobody has asked for yet, so that no cache can tell us faster than we are


class Target(Struct, frozen=True):
    """A running server and how it is asked."""

    side: Side
    port: int


def percentiles(seconds: Sequence[float]) -> tuple[float, float]:
    """The median and the 99th percentile in milliseconds."""
    ordered = sorted(seconds)
    return middle(ordered) * 1000, ordered[len(ordered) * 99 // 100] * 1000


def throughput(
    targets: Sequence[Target], queries: Sequence[Query], *, connections: int, seconds: float, rounds: int
) -> dict[str, list[Sample]]:
    """The same random queries of all kinds to each in turns, after a warm-up: the runs of each."""
    runs: dict[str, list[Sample]] = {target.side.name: [] for target in targets}
    for turn in range(rounds + 1):
        for target in targets:
            paths = [target.side.path(query.text, prefix=query.kind == "prefix")[1:] for query in queries]
            sample = fire(target.port, paths, connections=connections, seconds=seconds if turn else 1, path="/")
            if turn:
                runs[target.side.name].append(sample)
    return runs


def shuffled(queries: Sequence[Query]) -> list[Query]:
    """Queries of all kinds in one order that is always the same."""
    return Random(SEED).sample(queries, len(queries))


def rows_per_second(target: Target, queries: Sequence[Query]) -> float:
    """A file with one address in each row, sent as addok's clients send it."""
    table = io.StringIO()
    rows = csv.writer(table)
    rows.writerow(("number", "address"))
    rows.writerows(enumerate((query.text for query in queries), start=1))
    body, content_type = form({"columns": "address", "delimiter": ","}, "data", table.getvalue().encode())
    status, content, seconds = Client(target.port, timeout=600).post(target.side.csv_path, body, content_type)
    back = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"))))
    if status != 200 or len(back) != len(queries):
        raise SystemExit(f"{target.side.name} answers a CSV file with {status} and {len(back)} rows: {content[:300]!r}")
    return len(back) / seconds


def form(fields: dict[str, str], name: str, file: bytes) -> tuple[bytes, str]:
    """A multipart form with one CSV file, and its content type."""
    boundary = uuid4().hex
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'.encode()
        for field, value in fields.items()
    ]
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="addresses.csv"\r\n'
    parts.append(f"{head}Content-Type: text/csv\r\n\r\n".encode() + file + f"\r\n--{boundary}--\r\n".encode())
    return b"".join(parts), f"multipart/form-data; boundary={boundary}"


def database_memory_mib(url: str) -> float | None:
    """Memory of the database's processes for us, shared memory counted by parts; None where we may not look."""
    with psycopg.connect(url) as connection:
        pids = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchall()
    try:
        return sum(process_memory_mib(pid) for (pid,) in pids if Path(f"/proc/{pid}").exists())
    except PermissionError:
        return None
