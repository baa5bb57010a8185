"""Attempts: how one stands, asked again and again or told as it moves; giving up; its QR code."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from io import BytesIO
from typing import Annotated, Any
from uuid import UUID

import msgspec
import segno
from litestar import Controller, Request, Response, get, post
from litestar.datastructures import State
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import HeaderParameter, PathParameter
from litestar.response import Stream
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionFree

from bkapp.access.guards import Asking, citizen
from bkapp.db import Sessions
from bkapp.errors import NotFound
from bkapp.http import SIGNED_IN, IdempotencyKey, Reading, Transaction, documented
from bkapp.payments.operations import attempts, showing
from bkapp.payments.queries import bills as queries
from bkapp.payments.queries.bills import AttemptRow
from bkapp.payments.rules import LIVE
from bkapp.payments.schemas.bills import AttemptOut

READ = documented(401, 403, 404)
WRITE = documented(401, 403, 404, 409, 413, 415, 422)
PRIVATE = {"Cache-Control": "no-store"}
EVENTS = "text/event-stream"

LOOK_EVERY = 1.0  # seconds
HEARTBEAT_EVERY = 15.0
LASTS = 300.0
COME_BACK_MS = 3_000
_ROOM = asyncio.Semaphore(500)  # streams of one process; beyond, each is told how it stands and comes back for more

AttemptId = Annotated[UUID, PathParameter(description="As the answer to starting it gives it.")]


class AttemptController(Controller):
    """One try at paying a bill of one's own."""

    path = "/api/v1/attempts"
    tags = ("payments",)

    @get(
        "/{attempt_id:uuid}",
        operation_id="showAttempt",
        guards=[citizen],
        security=SIGNED_IN,
        responses={
            **READ,
            200: ResponseSpec(AttemptOut, generate_examples=False, description="How it stands."),
            304: ResponseSpec(None, generate_examples=False, description="You have it already (If-None-Match)."),
        },
    )
    async def show(
        self, reading: Reading, asking: Asking, request: Request, attempt_id: AttemptId
    ) -> Response[AttemptOut] | Response[None]:
        """How an attempt stands.  Ask again after `poll_after_ms`, with the ETag in If-None-Match.

        While it waits for the payer or the provider, Retry-After says the same in seconds, with 304 too.
        """
        row = await showing.own_attempt(reading, asking, attempt_id)
        out = AttemptOut.of(row, now=datetime.now(UTC))
        # What is answered depends on nothing else, so the same name is always the same bytes.
        name = f'"{row.id.hex}-{row.version}-{out.poll_after_ms or 0}"'
        headers = {"Cache-Control": "private, no-cache", "ETag": name}
        if out.poll_after_ms is not None:
            headers["Retry-After"] = str(out.poll_after_ms // 1000)
        if _names(request.headers.get("if-none-match", ""), name):
            return Response(None, status_code=304, headers=headers)
        return Response(out, headers=headers)

    @get(
        "/{attempt_id:uuid}/events",
        operation_id="followAttempt",
        guards=[citizen],
        security=SIGNED_IN,
        responses={
            **READ,
            200: ResponseSpec(
                str, media_type=EVENTS, generate_examples=False, description="Events `status`, each an AttemptOut."
            ),
            204: ResponseSpec(None, generate_examples=False, description="It is over, and you have its last event."),
        },
    )
    async def follow(
        self,
        state: State,
        asking: Asking,
        attempt_id: AttemptId,
        last_event_id: Annotated[
            str | None, HeaderParameter(name="Last-Event-ID", description="The version you have.", max_length=20)
        ] = None,
    ) -> Response[Any] | Stream:
        """The moves of an attempt as they happen (server-sent events), until it is over or five minutes have passed.

        The id of an event is the attempt's version; a browser that comes back sends it in Last-Event-ID and is told
        only what it missed.  204 tells it to stop coming back.
        """
        async with state.readers.begin() as session:
            row = await showing.own_attempt(session, asking, attempt_id)
        seen = int(last_event_id) if last_event_id and last_event_id.isascii() and last_event_id.isdecimal() else 0
        if row.status not in LIVE and seen >= row.version:
            return Response(None, status_code=204, headers=PRIVATE)
        # A proxy that gathers an answer before it passes it on would keep the payer waiting.
        headers = {**PRIVATE, "X-Accel-Buffering": "no"}
        return Stream(_events(state.readers, row, seen), media_type=EVENTS, headers=headers)

    @post(
        "/{attempt_id:uuid}/abandon",
        operation_id="abandonAttempt",
        status_code=200,
        guards=[citizen],
        security=SIGNED_IN,
        responses=WRITE,
    )
    async def abandon(
        self, transaction: Transaction, asking: Asking, idempotency_key: IdempotencyKey, attempt_id: AttemptId
    ) -> AttemptOut:
        """Choose another way to pay.  Money that comes through this one all the same is taken, and given back if the
        bill was paid meanwhile."""
        await showing.own_attempt(transaction, asking, attempt_id)
        now = datetime.now(UTC)
        await attempts.abandon(transaction, attempt_id, by=asking.id, now=now)
        return AttemptOut.of(await showing.own_attempt(transaction, asking, attempt_id), now=now)

    @get(
        "/{attempt_id:uuid}/qr.svg",
        operation_id="getAttemptQr",
        guards=[citizen],
        security=SIGNED_IN,
        responses={
            **READ,
            200: ResponseSpec(
                bytes, media_type="image/svg+xml", generate_examples=False, description="The code as a drawing."
            ),
        },
    )
    async def qr(self, reading: Reading, asking: Asking, attempt_id: AttemptId) -> Response[bytes]:
        """The VietQR code of an attempt that waits for a transfer, as a drawing."""
        row = await showing.own_attempt(reading, asking, attempt_id)
        if row.qr is None or row.status not in LIVE:
            raise NotFound("This attempt waits for no transfer.")
        return Response(drawn(row.qr).encode(), media_type="image/svg+xml", headers=PRIVATE)


def drawn(text: str) -> str:
    """A QR code as SVG that fits any size, to stand in a page or alone."""
    file = BytesIO()
    segno.make_qr(text, error="M").save(file, kind="svg", xmldecl=False, svgns=True, nl=False, omitsize=True, border=4)
    return file.getvalue().decode()


def _names(header: str, name: str) -> bool:
    """Whether an If-None-Match header names what would be answered."""
    return header.strip() == "*" or name in {known.strip().removeprefix("W/") for known in header.split(",")}


async def _events(readers: Sessions, row: AttemptRow, seen: int) -> AsyncIterator[bytes]:
    """The moves of an attempt.  A connection to the database is held for no longer than a look takes."""
    yield f"retry: {COME_BACK_MS}\n\n".encode()
    if _ROOM.locked():
        if row.version > seen:
            yield _event(row)
        return
    clock = asyncio.get_running_loop().time
    async with _ROOM:
        began = quiet = clock()
        while True:
            if row.version > seen:
                yield _event(row)
                seen, quiet = row.version, clock()
            if row.status not in LIVE or clock() - began > LASTS:
                return
            if clock() - quiet >= HEARTBEAT_EVERY:
                yield b": still here\n\n"
                quiet = clock()
            await asyncio.sleep(LOOK_EVERY)
            try:
                async with readers.begin() as session:
                    found = await queries.attempt(session, row.id)
            except (OperationalError, InterfaceError, NoConnectionFree):
                return  # the browser comes back, when the database may have done so too
            row = found or row


def _event(row: AttemptRow) -> bytes:
    data = msgspec.json.encode(AttemptOut.of(row, now=datetime.now(UTC)))
    return b"event: status\nid: %d\ndata: %s\n\n" % (row.version, data)
