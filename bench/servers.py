"""The servers under load, as processes of their own: the application as ``bkapp serve`` runs it, and its peers."""

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

from bench.load import ADDRESS, PATH

# The limiter is at work and never refuses; everything else is as in production.
_SETTINGS = {
    "BKAPP_DEMO": "0",
    "BKAPP_BASE_URL": "https://bkapp.example",
    "BKAPP_SIGNING_KEYS": "bench:" + "A" * 43,
    "BKAPP_HOST": ADDRESS,
    "BKAPP_RATE_LIMIT": "100000000/second",
}
_UVICORN = [
    *(sys.executable, "-m", "uvicorn", "--factory", "--loop", "uvloop", "--http", "httptools"),
    *("--no-access-log", "--no-server-header", "--no-proxy-headers", "--log-level", "warning"),
    *("--timeout-keep-alive", "30", "--backlog", "2048", "--host", ADDRESS),
]


class Server:
    """A running server: where it listens and what it weighs."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self._process = process
        self.port = port

    def memory_mib(self) -> float:
        """Memory of the server and the processes below it in MiB; what they share is counted once."""
        pids, found = [self._process.pid], []
        while pids:
            pid = pids.pop()
            found.append(pid)
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                pids += map(int, task.read_text().split())
        return sum(map(process_memory_mib, found))


def process_memory_mib(pid: int) -> float:
    """Memory of a process in MiB; what it shares is counted by parts."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) / 1024


@contextmanager
def app(database: str, code: str, **settings: str) -> Iterator[Server]:
    """The application, exactly as ``bkapp serve`` runs it; its log goes to a file nobody reads."""
    with _running([sys.executable, "-m", "bkapp", "serve"], database, code, settings) as server:
        yield server


@contextmanager
def bare(database: str, code: str, **settings: str) -> Iterator[Server]:
    """Bare ASGI under the same server."""
    with _running([sys.executable, "-m", "bench.serve", "bench.bare:application"], database, code, settings) as server:
        yield server


@contextmanager
def uvicorn(database: str, code: str, **settings: str) -> Iterator[Server]:
    """The application under Uvicorn, the way ADR 0002 tried it."""
    with _running(_UVICORN, database, code, settings, at_port="bkapp.cli:application") as server:
        yield server


@contextmanager
def _running(
    command: list[str], database: str, code: str, settings: dict[str, str], at_port: str = ""
) -> Iterator[Server]:
    port = free_port()
    if at_port:
        command = [*command, "--port", str(port), at_port]
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("BKAPP_", "REDIS_"))}
    environ |= {**_SETTINGS, "DATABASE_URL": database, "BKAPP_PORT": str(port), **settings}
    with started(command, environ, ready=lambda: _answers(port, code)) as process:
        yield Server(process, port)


@contextmanager
def started(
    command: list[str], environ: Mapping[str, str], *, ready: Callable[[], bool]
) -> Iterator[subprocess.Popen[bytes]]:
    """A server that is ready, stopped at the end; one that does not get ready ends the run with the end of its log."""
    with TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environ, start_new_session=True)
        try:
            until = time.monotonic() + 60
            while not ready():
                if process.poll() is not None or time.monotonic() > until:
                    log.seek(0)
                    end = log.read()[-2000:].decode(errors="replace")
                    raise SystemExit(f"{' '.join(command)} does not serve:\n{end}")
                time.sleep(0.1)
            yield process
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _answers(port: int, code: str) -> bool:
    try:
        connection = http.client.HTTPConnection(ADDRESS, port, timeout=5)
        connection.request("GET", PATH + code)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        port: int = probe.getsockname()[1]
        return port
