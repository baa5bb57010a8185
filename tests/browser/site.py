"""The whole app as users get it: the processes that ``./dev up`` starts, on real sockets, each with its log."""

import asyncio
import os
import socket
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from httpx import AsyncClient, HTTPError

ROOT = Path(__file__).parents[2]


class Site:
    """A running site.  ``url`` is the address of the pages and the API, ``practice`` that of the practice peers."""

    def __init__(self, environment: Mapping[str, str], logs: Path) -> None:
        self.environment = environment
        self.url = environment["BKAPP_BASE_URL"]
        self.practice = f"http://localhost:{environment['BKAPP_PRACTICE_PORT']}"
        self.logs = logs
        self._running: dict[str, Process] = {}

    async def bkapp(self, *arguments: str) -> str:
        """The command ``bkapp`` on this site's database; gives what it prints."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bkapp", *arguments, env=self.environment, stdout=asyncio.subprocess.PIPE
        )
        told, _ = await process.communicate()
        assert process.returncode == 0, f"bkapp {' '.join(arguments)} ended with {process.returncode}"
        return told.decode()

    async def spawn(self, command: str) -> None:
        """Start ``bkapp COMMAND``, which runs until it is stopped."""
        with (self.logs / f"{command}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "bkapp", command, env=self.environment, stdout=log, stderr=log
            )
        self._running[command] = process

    async def ready(self, command: str, probe: str) -> None:
        """Wait until ``probe`` is answered, by whatever but an error of the server."""
        process = self._running[command]
        end = time.monotonic() + 60
        async with AsyncClient() as client:
            while time.monotonic() < end and process.returncode is None:
                try:
                    if not (await client.get(probe)).is_server_error:
                        return
                except HTTPError:
                    pass
                await asyncio.sleep(0.05)
        raise AssertionError(f"bkapp {command} did not get ready:\n{self.log(command)}")

    async def stop(self, command: str) -> None:
        """Stop it as ``./dev down`` does, and look that it ends by itself."""
        process = self._running.pop(command)
        if process.returncode is None:
            process.terminate()
        try:
            async with asyncio.timeout(15):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise AssertionError(f"bkapp {command} did not end:\n{self.log(command)}") from None

    async def kill(self, command: str) -> None:
        """Let it die in the middle of whatever it does."""
        process = self._running.pop(command)
        process.kill()
        await process.wait()

    async def stop_all(self) -> None:
        for command in list(self._running):
            await self.stop(command)

    def log(self, command: str) -> str:
        """What ``bkapp COMMAND`` has written so far, in all its runs."""
        return (self.logs / f"{command}.log").read_text()


@asynccontextmanager
async def serving(database: str, logs: Path) -> AsyncIterator[Site]:
    """A site on ``database`` (its URL) that is stopped afterwards."""
    port, practice_port = free_ports(2)
    inherited = {
        name: text for name, text in os.environ.items() if name != "REDIS_URL" and not name.startswith("BKAPP")
    }
    redis = os.environ.get("TEST_REDIS_URL", "")
    site = Site(
        inherited
        | ({"REDIS_URL": redis} if redis else {})
        | {
            "DATABASE_URL": database,
            "BKAPP_DEMO": "1",
            "BKAPP_PORT": str(port),
            "BKAPP_BASE_URL": f"http://localhost:{port}",
            "BKAPP_PRACTICE_PORT": str(practice_port),
            # Tests at the same time share the Redis, and would use up each other's.
            "BKAPP_RATE_LIMIT": "1000000/second",
            "PYTHONPATH": str(ROOT / "src"),
        },
        logs,
    )
    try:
        await site.spawn("practice")
        await site.spawn("serve")
        await site.bkapp("demo", "people")
        await site.ready("practice", f"{site.practice}/eid/.well-known/openid-configuration")
        await site.ready("serve", f"{site.url}/readyz")
        yield site
    finally:
        await site.stop_all()


def free_ports(count: int) -> list[int]:
    """Different ports on which nothing listens."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports
