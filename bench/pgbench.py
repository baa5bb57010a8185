"""pgbench on the statement behind the hot path: what the database alone can do."""

import os
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.load import Sample
from bkapp.address.queries import RESOLVE


def program() -> str:
    """Where pgbench is; Debian keeps it beside the server."""
    found = shutil.which("pgbench") or next(
        (str(path) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin/pgbench"), reverse=True)), None
    )
    if found is None:
        raise SystemExit("pgbench is not installed: it comes with PostgreSQL's server or contrib package.")
    return found


def run(url: str, codes: Sequence[str], *, clients: int, seconds: float) -> Sample:
    """The statement as a prepared one, for random codes, by this many clients for some seconds."""
    return run_script(url, f"{drawn(code=codes)}{RESOLVE}:code;\n", clients=clients, seconds=seconds)


def drawn(**values: Sequence[str]) -> str:
    """The head of a script that sets variables to one of so many numbers each time, all at the same random place."""
    most = min(map(len, values.values())) - 1
    sets = "".join(f"\\set {name} {_pick(numbers)}\n" for name, numbers in values.items())
    return f"\\set place random(0, {most})\n{sets}"


def run_script(url: str, text: str, *, clients: int, seconds: float, known: Mapping[str, int] | None = None) -> Sample:
    """A script with its statements prepared, by this many clients for some seconds.

    Each client starts with the variables that are ``known`` and keeps what the script makes of them.
    """
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "script.sql"
        script.write_text(text)
        command = [program(), "-n", "-M", "prepared", "-c", str(clients), "-j", str(min(clients, os.cpu_count() or 1))]
        command += ["-T", str(max(1, round(seconds))), "-f", str(script), "-l", "--log-prefix", f"{folder}/log", url]
        for name, value in (known or {}).items():
            command += ["-D", f"{name}={value}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
        if done.returncode:
            raise SystemExit(f"pgbench failed:\n{done.stderr}")
        tps = next(float(line.split()[2]) for line in done.stdout.splitlines() if line.startswith("tps = "))
        took = sorted(
            int(line.split(" ", 3)[2]) for log in Path(folder).glob("log.*") for line in log.read_text().splitlines()
        )
    return Sample(tps, statistics.median(took) / 1000, took[len(took) * 99 // 100] / 1000)


def _pick(codes: Sequence[str], first: int = 0) -> str:
    """An expression that turns :place into one of the codes by halving: pgbench has no arrays and reads no files."""
    if len(codes) == 1:
        return codes[0]
    half = len(codes) // 2
    left, right = _pick(codes[:half], first), _pick(codes[half:], first + half)
    return f"CASE WHEN :place < {first + half} THEN {left} ELSE {right} END"
