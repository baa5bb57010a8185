"""Load on a server at the loopback address: ``wrk`` where it is installed, else a client of our own."""

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct, convert

ADDRESS = "127.0.0.1"
PATH = "/api/v1/addresses/"

# Draws random codes from a file.  Requests are made before the clock starts, so that wrk only sends.
_DRAW = """
local requests = {}
function init(args)
   math.randomseed(os.time())
   for code in io.lines(args[1]) do
      requests[#requests + 1] = wrk.format("GET", args[2] .. code)
   end
end
function request() return requests[math.random(#requests)] end
"""
_DONE = """
function done(summary, latency, _)
   local e = summary.errors
   io.write(string.format('{"rps": %.1f, "p50_ms": %.3f, "p99_ms": %.3f, "errors": %d}\\n',
      summary.requests / summary.duration * 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
      e.connect + e.read + e.write + e.status + e.timeout))
end
"""


# Sends each request once, in their order; wrk asks for one at its start that it does not send.
_EACH = """
local requests, at = {}, 0
function init(args)
   for request in io.open(args[1], "rb"):read("*a"):gmatch("[^%z]+") do requests[#requests + 1] = request end
end
function request()
   at = at % #requests + 1
   return requests[at]
end
"""


class Sample(Struct, frozen=True):
    """One run: requests or transactions a second, milliseconds, answers that were not as they should be."""

    rps: float
    p50_ms: float
    p99_ms: float
    errors: int = 0


def generator() -> str:
    """Which client makes the load."""
    return "wrk" if shutil.which("wrk") else "the built-in client (install wrk for a lighter one)"


def fire(
    port: int,
    codes: Sequence[str],
    *,
    connections: int,
    seconds: float,
    keep_alive: bool = True,
    path: str = PATH,
    headers: Mapping[str, str] | None = None,
) -> Sample:
    """Ask for random codes, or for what else follows ``path``, over this many connections for some seconds."""
    lines = [f"{name}: {value}" for name, value in (headers or {}).items()]
    if not keep_alive:
        lines.append("Connection: close")
    with tempfile.TemporaryDirectory() as folder:
        listing = Path(folder) / "codes"
        listing.write_text("\n".join(codes) + "\n")
        if shutil.which("wrk"):
            command = _wrk(folder, _DRAW, connections, seconds)
            for line in lines:
                command += ["-H", line]
            command += [f"http://{ADDRESS}:{port}", "--", str(listing), path]
        else:
            command = [*_client(port, listing, connections, seconds), "keep" if keep_alive else "close", path, *lines]
        return _ran(command, seconds)


def send_each(port: int, requests: Sequence[bytes], *, connections: int, seconds: float) -> Sample:
    """Send requests one after another, each once, over this many connections for some seconds.

    They are as :func:`request` makes them.  It is an error if there were not enough.
    """
    with tempfile.TemporaryDirectory() as folder:
        listing = Path(folder) / "requests"
        listing.write_bytes(b"\0".join(requests))
        if shutil.which("wrk"):
            command = [*_wrk(folder, _EACH, connections, seconds), f"http://{ADDRESS}:{port}", "--", str(listing)]
        else:
            command = [*_client(port, listing, connections, seconds), "each", ""]
        return _ran(command, seconds)


def request(method: str, path: str, /, *, body: bytes = b"", **headers: str) -> bytes:
    """A request as it goes over the wire; ``_`` in the name of a header stands for ``-``."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {ADDRESS}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def _wrk(folder: str, script: str, connections: int, seconds: float) -> list[str]:
    path = Path(folder) / "script.lua"
    path.write_text(script + _DONE)
    return ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "-s", str(path)]


def _client(port: int, listing: Path, connections: int, seconds: float) -> list[str]:
    return [sys.executable, "-m", "bench.client", str(port), str(listing), str(connections), str(seconds)]


def _ran(command: Sequence[str], seconds: float) -> Sample:
    run = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
    if run.returncode:
        raise SystemExit(f"The load client failed:\n{run.stderr or run.stdout}")
    return convert(json.loads(run.stdout.splitlines()[-1]), Sample)


def median(samples: Sequence[Sample]) -> Sample:
    """The middle run, figure by figure."""
    return Sample(
        rps=statistics.median(sample.rps for sample in samples),
        p50_ms=statistics.median(sample.p50_ms for sample in samples),
        p99_ms=statistics.median(sample.p99_ms for sample in samples),
        errors=sum(sample.errors for sample in samples),
    )


def share(samples: Sequence[Sample], of: Sequence[Sample]) -> float:
    """The median of the pairwise ratios of throughput: what drifts in time falls on both sides of a pair."""
    return statistics.median(a.rps / b.rps for a, b in zip(samples, of, strict=True))
