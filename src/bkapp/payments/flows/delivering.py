"""Sending events to partners: claim a message, send it while no transaction is open, record what came of it."""

import asyncio
from datetime import datetime, timedelta
from secrets import SystemRandom
from uuid import UUID

import structlog
from msgspec import Struct

from bkapp.db import Sessions
from bkapp.payments import standardwebhooks
from bkapp.payments.flows import Clock, going_on
from bkapp.payments.operations import endpoints, outgoing
from bkapp.payments.operations.endpoints import NewKey
from bkapp.payments.operations.outgoing import Claimed
from bkapp.payments.posting import Poster
from bkapp.payments.queries import outgoing as queries
from bkapp.payments.sending import Answer
from bkapp.sealing import Keyring

BUDGET = timedelta(seconds=25)
"""How long one job goes on with the backlog of an endpoint; what is left is the sweeper's, a minute later."""
PROBES = 3  # failures in a row after which a job leaves an endpoint alone
AT_ONCE = 8  # endpoints that a sweep sends to side by side
_PAGE = 100

log = structlog.get_logger("bkapp.webhooks")
_dice = SystemRandom()


class _Line(Struct, frozen=True):
    """What every try needs."""

    sessions: Sessions
    keyring: Keyring
    poster: Poster
    clock: Clock


async def deliver(
    sessions: Sessions,
    keyring: Keyring,
    poster: Poster,
    *,
    endpoint_id: UUID,
    bill_id: UUID | None,
    now: datetime,
    message_seq: int | None = None,
    asked_by: str | None = None,
) -> int:
    """Send what is due of one bill to an endpoint, in its order, or of all bills; return how many tries that were.

    A message that fails keeps those behind it waiting, until it is delivered or given up.  An endpoint that fails
    again and again is left to :func:`sweep`, but for what an operator asked for (``asked_by``, ``message_seq``).
    Safe to repeat, and to run as often as one likes at the same time.
    """
    line = _Line(sessions, keyring, poster, going_on(now))
    if bill_id is None:
        return await _drain(line, endpoint_id, until=now + BUDGET)
    tries = 0
    asked = (message_seq, asked_by)
    while await _one(line, endpoint_id, bill_id, asked=asked, troubled_too=asked_by is not None) is not None:
        tries += 1
    return tries


async def sweep(sessions: Sessions, keyring: Keyring, poster: Poster, *, now: datetime) -> int:
    """Send whatever is due: tries that were put off, and messages whose job was lost.  Return how many tries.

    Endpoints are served side by side and each one's messages one after another.
    """
    async with sessions.begin() as session:
        await outgoing.give_up_overdue(session, now=now)
        due = await queries.due_endpoints(session, now=now)
    line = _Line(sessions, keyring, poster, going_on(now))
    places = asyncio.Semaphore(AT_ONCE)

    async def serve(endpoint_id: UUID) -> int:
        async with places:
            return await _drain(line, endpoint_id, until=now + BUDGET)

    async with asyncio.TaskGroup() as group:
        serving = [group.create_task(serve(endpoint_id)) for endpoint_id in due]
    return sum(task.result() for task in serving)


async def _drain(line: _Line, endpoint_id: UUID, *, until: datetime) -> int:
    """Send what is due to an endpoint, bill by bill, until it fails some times in a row or the time is up."""
    tries = failures = 0
    while True:
        async with line.sessions.begin() as session:
            bills = await queries.due_bills(session, endpoint_id, now=line.clock(), limit=_PAGE)
        before = tries
        for bill_id in bills:
            while (arrived := await _one(line, endpoint_id, bill_id, troubled_too=True)) is not None:
                tries += 1
                failures = 0 if arrived else failures + 1
                if failures >= PROBES or line.clock() >= until:
                    return tries
        if tries == before:  # all is done, or in the hands of others
            return tries


async def _one(
    line: _Line,
    endpoint_id: UUID,
    bill_id: UUID,
    *,
    asked: tuple[int | None, str | None] = (None, None),
    troubled_too: bool,
) -> bool | None:
    """Try the next message of a bill; return whether it arrived, None if there is nothing to try."""
    async with line.sessions.begin() as session:
        claimed = await outgoing.claim(
            session,
            line.keyring,
            endpoint_id=endpoint_id,
            bill_id=bill_id,
            now=line.clock(),
            troubled_too=troubled_too,
        )
    if claimed is None:
        return None
    # No transaction is open here: a slow endpoint must not hold our locks, nor a connection.
    at = line.clock()
    answer = await _send(line.poster, claimed, at)
    message_seq, asked_by = asked
    async with line.sessions.begin() as session:
        await outgoing.record(
            session,
            claimed,
            answer,
            at=at,
            now=line.clock(),
            share=_dice.random(),
            asked_by=asked_by if claimed.seq == message_seq else None,
        )
    log.info(
        "webhook",
        endpoint=str(endpoint_id),
        message=claimed.id,
        tries=claimed.tries,
        status=answer.status or answer.error,
    )
    return answer.good


async def _send(poster: Poster, claimed: Claimed, at: datetime) -> Answer:
    body, timestamp = claimed.body.encode(), int(at.timestamp())
    if not claimed.keys:
        log.error("webhook_unsigned", endpoint=str(claimed.endpoint_id), message=claimed.id)
        return Answer(None, outgoing.UNSIGNED)
    headers = {
        "Content-Type": "application/json",
        standardwebhooks.ID: claimed.id,
        standardwebhooks.TIMESTAMP: str(timestamp),
        standardwebhooks.SIGNATURE: standardwebhooks.sign(claimed.id, timestamp, body, claimed.keys),
    }
    return await poster.post(claimed.url, body, headers)


async def add_key(sessions: Sessions, keyring: Keyring, endpoint_id: UUID, *, scheme: str, by: str) -> NewKey:
    """Make a key in a transaction of its own.

    Not in that of the request: its answer holds the secret, and answers are kept.
    """
    async with sessions.begin() as session:
        return await endpoints.add_key(session, keyring, endpoint_id, scheme=scheme, by=by)
