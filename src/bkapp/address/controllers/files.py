"""Files of addresses: answered while they are read, or worked off in the background."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any
from uuid import UUID

import structlog
from litestar import Controller, Request, Response, delete, get, post
from litestar.datastructures import State
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import PathParameter
from litestar.response import Stream
from litestar.types import Message, Receive, Scope, Send
from typing_extensions import override

from bkapp.access.guards import Asking, MaybeAsking, keyed
from bkapp.access.operations import record_read
from bkapp.address.controllers.uploads import BESIDE, Limits, TakesAFile, attachment, too_large, upload_of
from bkapp.address.csvfiles import Sheet, read
from bkapp.address.file_schemas import JOBS, JobOut
from bkapp.address.operations import file_jobs
from bkapp.address.operations.files import geocode
from bkapp.address.operations.finding import Finder
from bkapp.errors import TooManyRequests
from bkapp.http import (
    KEYED,
    MAYBE_KEYED,
    IdempotencyKey,
    Reading,
    Transaction,
    anyone,
    documented,
    request_id_of,
)

MB = 1 << 20
PUBLIC = Limits(bytes=2 * MB, rows=5_000)
WITH_KEY = Limits(bytes=20 * MB, rows=50_000)
IN_BACKGROUND = Limits(bytes=40 * MB, rows=200_000)
SEND_TO_JOBS = (
    f"send it to {JOBS} with a key, where {IN_BACKGROUND.rows} rows and {IN_BACKGROUND.bytes >> 20} MB are taken"
)
IN_PARTS = "send it in parts"
MOST_AT_ONCE = 4  # files that a process answers
PATIENCE = 30  # seconds in which a reader has to take a piece

JobId = Annotated[UUID, PathParameter()]
_CSV = "text/csv"

log = structlog.get_logger("bkapp.files")


class FileController(Controller):
    """The addresses of whole files."""

    path = "/api/v1/geocode"
    tags = ("geocoding",)

    @post(
        "/csv",
        operation_id="geocodeCsv",
        operation_class=TakesAFile,
        status_code=200,
        media_type=_CSV,
        guards=[anyone],
        security=MAYBE_KEYED,
        opt={"reads_only": True},
        request_max_body_size=WITH_KEY.bytes + BESIDE,
        responses={
            **documented(413, 415, 422),
            200: ResponseSpec(str, media_type=_CSV, generate_examples=False, description="The file, with results."),
        },
    )
    async def geocode_csv(self, state: State, request: Request, maybe_asking: MaybeAsking) -> Stream:
        """Find every address of a CSV file.

        The contract is that of addok's `/search/csv/`: send the file as `data`, get its rows back with `latitude`,
        `longitude` and `result_…` behind its own columns, each batch as soon as it is found. Fields may stand in the
        query string instead. At most 5000 rows and 2 MB, with a key 50000 and 20 MB.
        """
        _require_a_turn()  # before anything is read
        limits = WITH_KEY if maybe_asking else PUBLIC
        upload = await upload_of(request, limits, instead=SEND_TO_JOBS)
        sheet = await asyncio.to_thread(read, upload.data, upload.options)
        if sheet.rows > limits.rows:
            raise too_large(limits, instead=SEND_TO_JOBS)
        pieces = _answer(state.finder, sheet)
        return Pieces(
            await anext(pieces),  # until it is there, a refusal can still be an answer
            pieces,
            media_type=_CSV,
            headers={
                "Content-Disposition": attachment(upload.name),
                "X-Total-Rows": str(sheet.rows),
                "Cache-Control": "no-store",
                "X-Accel-Buffering": "no",  # asks proxies to pass pieces on as they come
            },
        )

    @post(
        "/jobs",
        operation_id="startGeocodeJob",
        operation_class=TakesAFile,
        status_code=202,
        guards=[keyed],
        security=KEYED,
        request_max_body_size=IN_BACKGROUND.bytes + BESIDE,
        responses=documented(401, 409, 413, 415, 422),
    )
    async def start(
        self, transaction: Transaction, asking: Asking, request: Request, idempotency_key: IdempotencyKey
    ) -> Response[JobOut]:
        """Have the addresses of a large CSV file found in the background.

        The form is that of `/api/v1/geocode/csv`, with at most 200000 rows and 40 MB. Ask for the job until its status
        is `done`, then fetch the result. Job and files are deleted seven days after they were sent.
        """
        upload = await upload_of(request, IN_BACKGROUND, instead=IN_PARTS)
        sheet = await asyncio.to_thread(read, upload.data, upload.options)
        if sheet.rows > IN_BACKGROUND.rows:
            raise too_large(IN_BACKGROUND, instead=IN_PARTS)
        job = await file_jobs.start_job(
            transaction,
            asking,
            file_name=upload.name,
            data=upload.data,
            options=upload.options,
            rows=sheet.rows,
        )
        made = JobOut.of(job)
        return Response(made, status_code=202, headers={"Location": made.links.here})

    @get(
        "/jobs/{job_id:uuid}",
        operation_id="showGeocodeJob",
        guards=[keyed],
        security=KEYED,
        responses=documented(401, 404),
    )
    async def show(self, reading: Reading, asking: Asking, job_id: JobId) -> Response[JobOut]:
        """How far a file is.  Only the key that sent it, and the registrar's, can see it."""
        job = await file_jobs.look_up_job(reading, asking, job_id)
        return Response(JobOut.of(job), headers={"Cache-Control": "no-store"})

    @get(
        "/jobs/{job_id:uuid}/result",
        operation_id="getGeocodeJobResult",
        media_type=_CSV,
        guards=[keyed],
        security=KEYED,
        responses={
            **documented(401, 404, 409),
            200: ResponseSpec(str, media_type=_CSV, generate_examples=False, description="The file, with results."),
        },
    )
    async def result(self, reading: Reading, asking: Asking, request: Request, job_id: JobId) -> Response[bytes]:
        """The finished file."""
        job = await file_jobs.look_up_job(reading, asking, job_id)
        output = await file_jobs.result_of(reading, job)
        if job.caller != asking.id:
            await record_read(
                reading,
                asking,
                subject=f"geocode-job:{job_id}",
                what=request.scope["path_template"],
                request_id=request_id_of(request.scope),
            )
        headers = {"Content-Disposition": attachment(job.file_name), "Cache-Control": "no-store"}
        return Response(output, media_type=_CSV, headers=headers)

    @delete(
        "/jobs/{job_id:uuid}",
        operation_id="deleteGeocodeJob",
        guards=[keyed],
        security=KEYED,
        responses=documented(401, 404, 409, 422),
    )
    async def delete(
        self, transaction: Transaction, asking: Asking, idempotency_key: IdempotencyKey, job_id: JobId
    ) -> None:
        """Delete a job and its files now, or stop it."""
        job = await file_jobs.look_up_job(transaction, asking, job_id)
        await file_jobs.delete_job(transaction, job)


_turns = asyncio.Semaphore(MOST_AT_ONCE)
# Files take turns with their batches: other requests wait for one row of one file, however many files there are.
_batch = asyncio.Lock()


def _require_a_turn() -> None:
    if _turns.locked():
        raise TooManyRequests("Other files are being answered; try again in a moment.", retry_after=5)


async def _answer(finder: Finder, sheet: Sheet) -> AsyncGenerator[bytes]:
    """The file in pieces, the first one with its head."""
    _require_a_turn()
    async with _turns, aclosing(geocode(finder, sheet, through_outages=True)) as pieces:
        async with _batch:
            piece = sheet.head() + await anext(pieces, b"")
        while piece:
            yield piece
            async with _batch:
                piece = await anext(pieces, b"")


class Pieces(Stream):
    """A stream that gives its turn back when it ends, however that is: done, left by its reader, waited for too long.

    A generator that nobody reads on is otherwise closed when the interpreter happens to collect it.
    """

    def __init__(self, first: bytes, rest: AsyncGenerator[bytes], *, media_type: str, headers: dict[str, str]) -> None:
        async def all_of_them() -> AsyncIterator[bytes]:
            yield first
            async for piece in rest:
                yield piece

        super().__init__(all_of_them(), media_type=media_type, headers=headers)
        self._rest = rest

    @override
    def to_asgi_response(self, *args: Any, **kwargs: Any) -> Any:
        stream = super().to_asgi_response(*args, **kwargs)

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            async def in_time(message: Message) -> None:
                async with asyncio.timeout(PATIENCE):
                    await send(message)

            try:
                await stream(scope, receive, in_time)
            except* TimeoutError:
                log.info("reader_too_slow", route=scope.get("path_template"))
            finally:
                await self._rest.aclose()

        return answer
