"""The peer: addok with addok-csv in an environment of its own, its own Redis, and our homes in it."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from bench.geocoding.asking import ADDOK, STROKE, Client
from bench.geocoding.generator import Hamlet, Household, households
from bench.geocoding.names import BEFORE_2020
from bench.load import ADDRESS
from bench.servers import Server, free_port, started

PACKAGES = ("addok==1.3.2", "addok-csv==1.1.0", "gunicorn==27.0.1")
PLACE = Path(__file__).parent.parent / ".peers" / "addok"
WORKERS = 2
_CONFIGURATION = Path(__file__).parent / "addok_conf.py"
_SYNONYMS = (
    "tp => thanh pho", "tt => thi tran", "tx => thi xa", "tdp => to dan pho", "tk => tieu khu", "bk => bac kan",
    "p => phuong", "h => huyen", "x => xa",
)  # fmt: skip


class Peer(Struct, frozen=True):
    """addok as it runs: both its servers and how long its data took to load."""

    web: Server
    redis: Server
    load_seconds: float


def install() -> None:
    """Make the peer's environment, from the package index that pip is set to."""
    subprocess.run([sys.executable, "-m", "venv", str(PLACE)], check=True)
    subprocess.run([str(PLACE / "bin" / "pip"), "install", "--quiet", *PACKAGES], check=True)
    print(f"{', '.join(PACKAGES)} in {PLACE}")


def missing() -> str | None:
    """What is not there to run the peer, or None."""
    if not (PLACE / "bin" / "addok").exists():
        return "addok is not installed: python -m bench geocoding --install-peers"
    return None if shutil.which("redis-server") else "redis-server is not installed: apt-get install redis-server"


@contextmanager
def running(*, stock: bool = False) -> Iterator[Peer]:
    """addok with our homes; ``stock`` as it falls out of the box, else set up for Vietnamese."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        socket = folder / "redis.sock"
        synonyms = folder / "synonyms"
        synonyms.write_text("".join(f"{line}\n" for line in _SYNONYMS))
        environ = {
            **os.environ,
            "REDIS_SOCKET": str(socket),
            "ADDOK_CONFIG_MODULE": str(_CONFIGURATION),
            "ADDOK_SYNONYMS": str(synonyms),
            "ADDOK_FOR_VIETNAM": "0" if stock else "1",
            "ADDOK_LOG_DIR": name,
        }
        options = ["--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", name]
        port = free_port()
        with started(["redis-server", *options], os.environ, ready=socket.exists) as redis:
            took = _load(folder, environ)
            # One thread in each process: with more, addok mixes requests up and answers some with 500.
            command = [str(PLACE / "bin" / "gunicorn"), "--workers", str(WORKERS), "--worker-class", "gthread"]
            command += ["--threads", "1", "--keep-alive", "30", "--log-level", "warning"]
            command += ["--bind", f"{ADDRESS}:{port}", "addok.http.wsgi"]
            client = Client(port)
            with started(command, environ, ready=lambda: client.answers(ADDOK.path("bac kan", prefix=False))) as web:
                yield Peer(Server(web, port), Server(redis, 0), took)


def documents() -> Iterator[dict[str, Any]]:
    """A document for each hamlet, as addok has them for streets.

    The first name of a commune is the one it had until 2025; those before and after are given too, so that the peer
    knows what our register knows.
    """
    homes: defaultdict[Hamlet, list[Household]] = defaultdict(list)
    for household in households():
        homes[household.hamlet].append(household)
    for number, (hamlet, there) in enumerate(homes.items()):
        commune = hamlet.commune
        former = [f"{kind} {name}" for kind, name in BEFORE_2020.get(commune.code, ())]
        district = f"{commune.district.kind} {commune.district.name}"
        yield {
            "id": str(number),
            "type": "street",
            "name": hamlet.name,
            "city": [f"{commune.kind} {commune.name}", *former, f"{commune.today.kind} {commune.today.name}"],
            "district": district,
            "context": f"{district}, Tỉnh Bắc Kạn, Tỉnh Thái Nguyên",
            "old": commune.code,
            "new": commune.today.code,
            "hamlet": hamlet.name,
            "importance": 0.5,
            "lat": hamlet.lat,
            "lon": hamlet.lon,
            "housenumbers": {home.number.replace("/", STROKE): {"lat": home.lat, "lon": home.lon} for home in there},
        }


def _load(folder: Path, environ: dict[str, str]) -> float:
    """Load the documents; return how many seconds that took."""
    listing = folder / "documents.json"
    listing.write_bytes(b"\n".join(msgspec.json.encode(document) for document in documents()))
    began = time.perf_counter()
    for arguments in (["batch", str(listing)], ["ngrams"]):
        done = subprocess.run(
            [str(PLACE / "bin" / "addok"), *arguments], env=environ, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"addok {arguments[0]} failed:\n{done.stdout[-1000:]}{done.stderr[-2000:]}")
    return time.perf_counter() - began
