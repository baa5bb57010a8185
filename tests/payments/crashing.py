"""bkapp's own processes, which die or lose their database at a moment of one's choosing.

A *moment* is one after which the world, or our own database, may know something new: just before and just after a
commit that wrote something, a call to somebody outside, and a job of the queue being taken and settled.  A process
counts those that it comes through, and at the chosen one it is killed, or PostgreSQL is, with SIGKILL.

As a program (``python -m tests.payments.crashing LISTENER``) this imports everything once.  Then it forks a process for
each line of JSON that it reads, which costs a tenth of starting one: no thread and no event loop exists before.  What
runs there is bkapp as its commands run it; the environment is that of ``bkapp serve`` and ``bkapp worker``.
"""

import asyncio
import gc
import os
import re
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit
from uuid import UUID
from weakref import WeakKeyDictionary

import msgspec
import psycopg
import sqlalchemy as sa
import uvicorn
from msgspec import Struct
from procrastinate.exceptions import AlreadyEnqueued
from procrastinate.manager import JobManager
from sqlalchemy.engine.default import DefaultDialect

import bkapp.tasks  # noqa: F401  (a worker knows them all)
from bkapp.app import asgi
from bkapp.config import load_settings
from bkapp.db import open_engine, sessions_of
from bkapp.jobs import jobs, open_jobs, transaction
from bkapp.logs import set_up_logs
from bkapp.payments import posting
from bkapp.payments.flows import importing
from bkapp.payments.posting import Poster
from bkapp.payments.providers.calling import Wire
from bkapp.payments.statements import Source

ON_PAID = "tests.bill_paid"
"""The task that a bill's payment queues; a row of :data:`PROCEEDED` is what it leaves."""
PROCEEDED = "CREATE TABLE proceeded (bill_id uuid NOT NULL)"
SWEEPS = ("bkapp.retry_stalled", "payments.sweep", "payments.deliver_due")
"""What a worker does every minute or oftener, whatever is queued."""


class Order(Struct, frozen=True, kw_only=True):
    """What to run (``api``, ``worker`` or ``import``), and what to kill at which moment.

    A worker runs until nothing is queued, ``tasks`` first.  ``at`` is 0 for one that only counts, and None for one that
    is let be.  ``kill`` names the number of PostgreSQL's first process, or is 0 for the process itself.
    """

    run: str
    at: int | None = None
    kill: int = 0
    tasks: Sequence[str] = ()
    file: bytes = b""
    now: datetime | None = None


class About(Struct, frozen=True):
    """A question about a process: how it ended, if it did; or ``end`` it now."""

    pid: int
    end: bool = False


class Ended(Struct, frozen=True):
    """How a process ended (below zero: the signal), and the moments that it came through.  None: it runs."""

    status: int | None
    moments: list[str] = []


# --- in the processes -----------------------------------------------------------------------------------------------


class Fuse:
    """Counts moments, and strikes at one of them."""

    def __init__(self) -> None:
        self.at: int | None = None
        self.kill = 0
        self.passed = 0
        self.told = -1

    def lay(self, order: Order, told: int) -> None:
        self.at, self.kill, self.told = order.at, order.kill, told

    def moment(self, name: str) -> None:
        if self.at is None:
            return
        self.passed += 1
        os.write(self.told, f"{name}\n".encode())
        if self.passed == self.at:
            self.at = None
            if self.kill:
                kill_one_of(self.kill)
            else:
                os.kill(os.getpid(), signal.SIGKILL)


def kill_one_of(postmaster: int) -> None:
    """Kill a process of PostgreSQL, which then ends them all and starts anew from what is on disk."""
    victim = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()[0]
    os.kill(int(victim), signal.SIGKILL)
    while Path(f"/proc/{victim}").exists():
        time.sleep(0.001)  # until PostgreSQL has noticed; nothing of ours runs meanwhile
    time.sleep(0.02)


fuse = Fuse()
_wrote: WeakKeyDictionary[Any, list[str]] = WeakKeyDictionary()
_WRITES = re.compile(r"(?:INSERT INTO|DELETE FROM|(?<!FOR )(?<!KEY )\bUPDATE(?! SET)) (\w+)")


def instrument() -> None:
    """Let every engine, every call to somebody outside and the queue tell of their moments."""

    execute = psycopg.AsyncCursor.execute

    @wraps(execute)
    async def note(self: psycopg.AsyncCursor[Any], query: Any, *arguments: Any, **more: Any) -> Any:
        _wrote.setdefault(self.connection, []).extend(_WRITES.findall(str(query)))
        return await execute(self, query, *arguments, **more)

    psycopg.AsyncCursor.execute = note  # type: ignore[method-assign]
    commit: Any = DefaultDialect.do_commit

    @wraps(commit)
    def do_commit(self: DefaultDialect, connection: Any) -> None:
        name = fuse.at is not None and _commit_of(connection)
        if name:
            fuse.moment(f"before {name}")
        commit(self, connection)
        if name:
            fuse.moment(f"after {name}")

    DefaultDialect.do_commit = do_commit  # type: ignore[method-assign]
    _around(Wire, "send", lambda asked: f"call: {urlsplit(asked[1]).path.rpartition('/')[2]}")
    _around(Poster, "post", lambda asked: f"message: {msgspec.json.decode(asked[1])['type']}")
    _around(JobManager, "finish_job_by_id_async", lambda _: "job settled")
    fetch = JobManager.fetch_job

    @wraps(fetch)
    async def fetch_job(*arguments: Any, **more: Any) -> Any:
        job = await fetch(*arguments, **more)
        if job is not None:
            fuse.moment(f"after job taken: {job.task_name}")
        return job

    JobManager.fetch_job = fetch_job  # type: ignore[method-assign]


def _commit_of(connection: Any) -> str:
    """What to call a commit, by the tables written to; nothing for that of a transaction that changes nothing."""
    cursor = connection.cursor()
    cursor.execute("SELECT pg_current_xact_id_if_assigned() IS NOT NULL")
    (changed,) = cursor.fetchone()
    cursor.close()
    wrote = _wrote.pop(connection.driver_connection, [])
    return f"commit: {', '.join(dict.fromkeys(wrote))}" if changed else ""


def _around(kind: type, method: str, name: Callable[[Sequence[Any]], str]) -> None:
    call = getattr(kind, method)

    @wraps(call)
    async def around(self: Any, *arguments: Any, **more: Any) -> Any:
        fuse.moment(f"before {name(arguments)}")
        answer = await call(self, *arguments, **more)
        fuse.moment(f"after {name(arguments)}")
        return answer

    setattr(kind, method, around)


@jobs.task(name=ON_PAID, pass_context=False, retry=True)
async def proceed(bill_id: str) -> None:
    """What another feature does when a bill is paid.  No sweeper stands behind it, so it is tried until it succeeds."""
    async with transaction() as session:
        await session.execute(sa.text("INSERT INTO proceeded VALUES (:bill)"), {"bill": UUID(bill_id)})


async def serve(app: Any, listener: socket.socket) -> None:
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
    )
    await uvicorn.Server(config).serve(sockets=[listener])


async def work(order: Order, told: int) -> None:
    jobs.periodic_registry.periodic_tasks.clear()  # what the clock would queue is queued by name
    async with open_jobs(load_settings().database_url) as app:
        for task in order.tasks:
            with suppress(AlreadyEnqueued):
                await jobs.tasks[task].defer_async(timestamp=0)
        fuse.lay(order, told)
        await app.run_worker_async(
            wait=False, concurrency=1, listen_notify=False, delete_jobs="successful", install_signal_handlers=False
        )


async def take_file(order: Order) -> None:
    assert order.now is not None
    engine = open_engine(load_settings().database_url, pool_size=1)
    try:
        await importing.take_file(
            sessions_of(engine),
            "momo",
            source=Source.PROVIDER,
            name="momo.csv",
            data=order.file,
            by="test",
            now=order.now,
        )
    finally:
        await engine.dispose()


def run(order: Order, told: int, app: Any, listener: socket.socket) -> None:
    if order.run == "worker":
        asyncio.run(work(order, told))
        return
    fuse.lay(order, told)
    asyncio.run(serve(app, listener) if order.run == "api" else take_file(order))


# --- the program that forks them ------------------------------------------------------------------------------------


def main(listener: socket.socket) -> None:
    """Answer each order with the number of its process, and each question with what is known of it."""
    answers, quiet = os.dup(1), os.open(os.devnull, os.O_RDONLY)
    os.dup2(2, 1)
    settings = load_settings()
    set_up_logs(settings.log_level)
    instrument()
    app = asgi(settings)
    posting._trusted()  # is read from many files, once
    listener.listen(128)  # who comes while no process serves waits for the next one
    gc.collect()
    gc.freeze()
    tellers: dict[int, int] = {}
    orders, questions = msgspec.json.Decoder(Order), msgspec.json.Decoder(About)
    os.write(answers, b"{}\n")
    for line in sys.stdin.buffer:
        if b'"run"' not in line:
            os.write(answers, msgspec.json.encode(_ended(questions.decode(line), tellers)) + b"\n")
            continue
        order = orders.decode(line)
        told, teller = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(told)
            os.dup2(quiet, 0)
            _be(order, teller, app, listener)
        os.close(teller)
        tellers[pid] = told
        os.write(answers, b"%d\n" % pid)
    for pid in tellers:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _be(order: Order, told: int, app: Any, listener: socket.socket) -> NoReturn:
    status = 1
    try:
        run(order, told, app, listener)
        status = 0
    except BaseException:  # noqa: BLE001  (this process ends here, whatever happened)
        traceback.print_exc()
    finally:
        os._exit(status)


def _ended(about: About, tellers: dict[int, int]) -> Ended:
    if about.end:
        os.kill(about.pid, signal.SIGKILL)
    gone, status = os.waitpid(about.pid, 0 if about.end else os.WNOHANG)
    if not gone:
        return Ended(None)
    with os.fdopen(tellers.pop(about.pid)) as told:
        return Ended(os.waitstatus_to_exitcode(status), told.read().splitlines())


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
