"""Questions that ./dev asks: each is a function, and its answer is the exit code."""

import errno
import http.client
import os
import signal
import socket
import sys
import time
from collections.abc import Callable

# Ctrl-C is ./dev's to answer; a traceback would only hide what it says.
signal.signal(signal.SIGINT, signal.SIG_DFL)


def port_is_free(port: str) -> bool:
    """Whether a server could listen on ``port``, on every address of this machine."""
    for family, host in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):  # noqa: S104  # nothing is served here
        try:
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind((host, int(port)))
        except OSError as error:  # a machine without IPv6 is no obstacle
            if error.errno == errno.EADDRINUSE:
                return False
    return True


def answers(port: str, pid: str, seconds: str, path: str = "/readyz") -> bool:
    """Whether the server of process ``pid`` is ready within ``seconds``; gives up as soon as the process is gone."""
    end = time.monotonic() + float(seconds)
    while time.monotonic() < end:
        try:
            os.kill(int(pid), 0)
            connection = http.client.HTTPConnection("localhost", int(port), timeout=5)
            connection.request("GET", path)
            if connection.getresponse().status == http.HTTPStatus.OK:
                return True
        except ProcessLookupError:
            return False
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(0.05)
    return False


def has_dwellings() -> bool:
    import psycopg  # noqa: PLC0415  # the other questions are asked more often and do without

    with psycopg.connect(os.environ["DATABASE_URL"].replace("+psycopg", "", 1)) as connection:
        row = connection.execute("SELECT EXISTS (SELECT FROM dwelling)").fetchone()
    return row is not None and bool(row[0])


QUESTIONS: dict[str, Callable[..., bool]] = {
    "port_is_free": port_is_free,
    "answers": answers,
    "has_dwellings": has_dwellings,
}

if __name__ == "__main__":
    sys.exit(not QUESTIONS[sys.argv[1]](*sys.argv[2:]))
