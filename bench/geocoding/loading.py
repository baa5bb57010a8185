"""Our side's data: the made-up province brought in the way a province brings in its own."""

import csv
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from msgspec import Struct
from sqlalchemy.engine import make_url

from bench.databases import empty_database, libpq, maintenance, new_database, settle
from bench.geocoding.generator import Hamlet, hamlets, households

SOURCE = "bench"
SINCE_OLD, SINCE_NEW = "2020-02-01", "2025-07-01"


class Loaded(Struct, frozen=True):
    """A database with the province, and how long it took to fill (0: it was there)."""

    url: str
    hamlets_seconds: float = 0.0
    households_seconds: float = 0.0


@contextmanager
def loaded(keep: str | None) -> Iterator[Loaded]:
    """A database with all hamlets and households; with a name it stays, and is taken again the next time."""
    if keep is None:
        with empty_database() as url:
            yield _fill(url)
        return
    name = f"bkapp_bench_keep_{keep}"
    with psycopg.connect(maintenance(), autocommit=True) as connection:
        known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone()
    url = libpq(make_url(maintenance()).set(database=name).render_as_string(hide_password=False))
    if known and _is_whole(url):
        yield Loaded(url)
        return
    if known:
        with psycopg.connect(maintenance(), autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    yield _fill(new_database(name))


def _is_whole(url: str) -> bool:
    """Whether a kept database was filled to its end."""
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM dwelling").fetchone()
    return row == (sum(1 for _ in households()),)


def _fill(url: str) -> Loaded:
    with tempfile.TemporaryDirectory() as folder:
        places, homes = Path(folder) / "hamlets.csv", Path(folder) / "households.csv"
        write_hamlets(places)
        hamlets_seconds = _import(url, "hamlets", places, "--licence", "none")
        write_households(homes, _names(url))
        households_seconds = _import(url, "households", homes)
    settle(url)
    return Loaded(url, hamlets_seconds, households_seconds)


def write_hamlets(path: Path) -> None:
    """The hamlets as ``bkapp import hamlets`` takes them: in the communes of 2020."""
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("name", "unit", "since", "lon", "lat", "source_id"))
        for number, hamlet in enumerate(hamlets()):
            rows.writerow((hamlet.name, hamlet.commune.code, SINCE_OLD, hamlet.lon, hamlet.lat, f"h{number}"))


def write_households(path: Path, names: dict[Hamlet, str]) -> None:
    """The households as ``bkapp import households`` takes them: in the communes of today."""
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("source_id", "lon", "lat", "unit", "hamlet", "since", "accuracy_m", "house_number"))
        for number, home in enumerate(households()):
            rows.writerow(
                (
                    f"b{number}",
                    home.lon,
                    home.lat,
                    home.hamlet.commune.today.code,
                    names[home.hamlet],
                    SINCE_NEW,
                    5,
                    home.number,
                )
            )


def _names(url: str) -> dict[Hamlet, str]:
    """What the register calls each hamlet since the merger: where two have one name, with the former commune."""
    with psycopg.connect(url) as connection:
        rows = connection.execute("""
            SELECT u.code, h.name, h.qualifier FROM hamlet h JOIN admin_unit u ON u.id = h.unit_id
            WHERE h.valid_to IS NULL AND u.valid_to IS NULL AND u.level = 'commune'
        """).fetchall()
    known = {(code, name, qualifier) for code, name, qualifier in rows}
    found: dict[Hamlet, str] = {}
    for hamlet in hamlets():
        today, former = hamlet.commune.today.code, hamlet.commune.name
        forms = [q for c, n, q in known if (c, n) == (today, hamlet.name) and (q is None or former in q)]
        if len(forms) != 1:
            raise SystemExit(f"{hamlet.name} of {former} is {len(forms)} hamlets of {today} in the register.")
        found[hamlet] = hamlet.name if forms[0] is None else f"{hamlet.name} ({forms[0]})"
    return found


def _import(url: str, what: str, path: Path, *options: str) -> float:
    """Run ``bkapp import``; return its seconds.  A row that is refused is a mistake in the set and ends the run."""
    environ = {**os.environ, "DATABASE_URL": url, "BKAPP_DEMO": "1"}
    command = [sys.executable, "-m", "bkapp", "import", what, str(path), "--source", SOURCE, *options]
    began = os.times().elapsed
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    print(f"{what}: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else 'done'}", file=sys.stderr)
    if done.returncode:
        report = path.with_name(f"{path.name}.report.csv")
        first = "".join(report.open(encoding="utf-8").readlines()[:5]) if report.exists() else done.stderr[-2000:]
        raise SystemExit(f"bkapp import {what} failed:\n{first}")
    return os.times().elapsed - began
