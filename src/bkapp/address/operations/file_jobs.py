"""Files of addresses in the background: sent, worked off, fetched, forgotten.

A job belongs to the key that sent it.  Its file is somebody's data, so the input goes when the work is done and the
whole job :data:`KEPT` days after it was sent.
"""

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
import structlog
from sqlalchemy import ColumnElement, delete, func, literal_column, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.operations import Caller
from bkapp.access.rules import Role
from bkapp.address.csvfiles import FileUnreadable, Options, read
from bkapp.address.models import GeocodeJob
from bkapp.address.operations.files import Tally, geocode
from bkapp.address.operations.finding import Finder
from bkapp.address.rules import JobStatus
from bkapp.db import Sessions, is_outage
from bkapp.errors import DomainError, NotFound
from bkapp.jobs import defer

TASK = "address.geocode_file"
KEPT = timedelta(days=7)
LOST = timedelta(hours=1)
MOST_KEPT = 20  # for one key
MOST_ATTEMPTS = 5
MOST_BYTES = 200 << 20  # of a result
STEP = 10  # pieces between two notes of how far it is

log = structlog.get_logger("bkapp.files")


class TooManyJobs(DomainError):
    """The key has as many files here as it may have at a time; delete some, or wait until they are."""

    code = "geocode_too_many_jobs"
    title = "Đã gửi quá nhiều tệp, hãy xóa bớt tệp cũ rồi gửi lại"


class JobNotDone(DomainError):
    """The file is not worked off, so there is no result; ask for the job until its status is done."""

    code = "geocode_job_not_done"
    title = "Tệp chưa xử lý xong"


class JobFailed(DomainError):
    """The file could not be worked off, so there is no result; the job's problem says why."""

    code = "geocode_job_failed"
    title = "Không xử lý được tệp này"


async def start_job(
    session: AsyncSession, caller: Caller, *, file_name: str, data: bytes, options: Options, rows: int
) -> GeocodeJob:
    """Keep a file and queue the work on it; both exist if the transaction commits."""
    # So that two files at once cannot both be the last one allowed.
    await session.execute(select(func.pg_advisory_xact_lock(_number(f"geocode_jobs:{caller.id}"))))
    kept = await session.scalar(select(func.count()).where(GeocodeJob.caller == caller.id))
    if (kept or 0) >= MOST_KEPT:
        raise TooManyJobs(f"This key has {kept} files here; delete some first.", most=MOST_KEPT)
    job = GeocodeJob(
        caller=caller.id,
        file_name=file_name,
        options={"read": msgspec.to_builtins(options), "attempts": 0},
        input=data,
        rows_total=rows,
    )
    session.add(job)
    await session.flush()
    await session.refresh(job)
    await defer(session, TASK, job_id=str(job.id))
    return job


async def look_up_job(session: AsyncSession, caller: Caller, job_id: UUID) -> GeocodeJob:
    """A job of the caller's, or anybody's for the registrar; to others there is none."""
    job = await session.get(GeocodeJob, job_id)
    if job is None or (job.caller != caller.id and caller.role is not Role.ADMIN):
        raise NotFound("There is no such job; jobs are deleted some days after they were sent.")
    return job


async def result_of(session: AsyncSession, job: GeocodeJob) -> bytes:
    """The finished file of a job."""
    if job.status is JobStatus.FAILED:
        raise JobFailed(job.problem or "The file could not be worked off.")
    if job.status is not JobStatus.DONE:
        raise JobNotDone(f"The job is {job.status}: {job.rows_done} of {job.rows_total} rows are done.", retry_after=2)
    output = await session.scalar(select(GeocodeJob.output).where(GeocodeJob.id == job.id))
    if output is None:
        raise NotFound("The job was deleted just now.")
    return output


async def delete_job(session: AsyncSession, job: GeocodeJob) -> None:
    """Delete a job with all it holds; who works on it stops at the next step."""
    await session.execute(delete(GeocodeJob).where(GeocodeJob.id == job.id))


# --- the work ---------------------------------------------------------------------------------------------------


async def run_job(sessions: Sessions, readers: Sessions, finder: Finder, job_id: UUID) -> None:
    """Work a job off, from its beginning.  Safe to repeat, and to do twice at a time: the second one leaves.

    An advisory lock says that somebody works on it.  It goes away with the worker's connection, however that ended,
    and :func:`take_up_again` looks for jobs that are running without one.
    """
    lock = _number(f"geocode_job:{job_id}")
    async with readers() as keeper:
        if not await keeper.scalar(select(func.pg_try_advisory_lock(lock))):
            return
        try:
            await _run(sessions, finder, job_id)
        except Exception as error:
            if is_outage(error):
                raise  # as good as a worker that died
            log.error("file_failed", job=str(job_id), kind=type(error).__name__)  # noqa: TRY400  (no row in the log)
            await _end(sessions, job_id, status=JobStatus.FAILED, problem="Something went wrong on our side.")
        finally:
            with suppress(DBAPIError):  # gone with its connection
                await keeper.execute(select(func.pg_advisory_unlock(lock)))


async def _run(sessions: Sessions, finder: Finder, job_id: UUID) -> None:
    taken = await _take(sessions, job_id)
    if taken is None:
        return
    data, options = taken
    try:
        sheet = await asyncio.to_thread(read, data, options)
    except FileUnreadable as refusal:
        await _end(sessions, job_id, status=JobStatus.FAILED, problem=refusal.detail)
        return
    tally, pieces = Tally(), [sheet.head()]
    size = 0
    async for piece in geocode(finder, sheet, tally):
        pieces.append(piece)
        size += len(piece)
        if size > MOST_BYTES:
            problem = f"The result would be larger than {MOST_BYTES >> 20} MB; send the file in parts."
            await _end(sessions, job_id, tally, status=JobStatus.FAILED, problem=problem)
            return
        if len(pieces) % STEP == 0 and not await _note(sessions, job_id, tally):
            return  # it was deleted
    await _end(sessions, job_id, tally, status=JobStatus.DONE, output=b"".join(pieces))


async def _take(sessions: Sessions, job_id: UUID) -> tuple[bytes, Options] | None:
    """The input of a job that is not ended, which is now running."""
    async with sessions.begin() as session:
        job = await session.get(GeocodeJob, job_id, with_for_update=True)
        if job is None or job.status not in {JobStatus.WAITING, JobStatus.RUNNING}:
            return None
        attempts = job.options["attempts"] + 1
        if attempts <= MOST_ATTEMPTS:
            job.options = {**job.options, "attempts": attempts}
            job.status = JobStatus.RUNNING
            job.started_at = func.now()
            job.rows_done = job.rows_failed = 0
            data = await session.scalar(select(GeocodeJob.input).where(GeocodeJob.id == job_id))
            return data or b"", msgspec.convert(job.options["read"], Options)
    await _end(
        sessions, job_id, status=JobStatus.FAILED, problem=f"Given up after {MOST_ATTEMPTS} interrupted attempts."
    )
    return None


async def _note(sessions: Sessions, job_id: UUID, tally: Tally) -> bool:
    """Write down how far it is; False if the job is no longer there."""
    done = {"rows_done": tally.rows, "rows_failed": tally.failed}
    async with sessions.begin() as session:
        result = await session.execute(update(GeocodeJob).where(_open(job_id)).values(done))
        return bool(result.rowcount)  # type: ignore[attr-defined]


async def _end(sessions: Sessions, job_id: UUID, tally: Tally | None = None, **values: Any) -> None:
    """Write down how it ended; the input is no longer needed."""
    if tally:
        values |= {"rows_done": tally.rows, "rows_failed": tally.failed}
    async with sessions.begin() as session:
        await session.execute(
            update(GeocodeJob).where(_open(job_id)).values(input=None, finished_at=func.now(), **values)
        )


def _open(job_id: UUID) -> ColumnElement[bool]:
    """A job that has not ended: what another worker has ended stays so."""
    return (GeocodeJob.id == job_id) & GeocodeJob.status.in_((JobStatus.WAITING, JobStatus.RUNNING))


def _number(name: str) -> Any:
    """The number of an advisory lock."""
    return func.hashtextextended(name, 0)


# Still in the queue, behind others.
_QUEUED: ColumnElement[bool] = literal_column(
    f"EXISTS (SELECT FROM procrastinate_jobs j WHERE j.task_name = '{TASK}' AND j.status = 'todo'"
    " AND j.args ->> 'job_id' = geocode_job.id::text)"
)

# --- the sweepers -----------------------------------------------------------------------------------------------


async def take_up_again(session: AsyncSession) -> int:
    """Queue jobs again that nobody works on: their worker died, or was stopped; return how many."""
    stranded = await session.scalars(
        select(GeocodeJob.id).where(
            (GeocodeJob.status == JobStatus.RUNNING)
            # Queued in the transaction that made it, so one that waits this long was lost on its way to a worker.
            | ((GeocodeJob.status == JobStatus.WAITING) & (GeocodeJob.created_at < func.now() - LOST) & ~_QUEUED)
        )
    )
    count = 0
    for job_id in stranded.all():
        if await session.scalar(select(func.pg_try_advisory_xact_lock(_number(f"geocode_job:{job_id}")))):
            await defer(session, TASK, job_id=str(job_id))
            count += 1
    return count


async def forget_old_jobs(session: AsyncSession) -> int:
    """Delete jobs :data:`KEPT` after they were sent; return how many."""
    result = await session.execute(delete(GeocodeJob).where(GeocodeJob.created_at < func.now() - KEPT))
    return result.rowcount  # type: ignore[attr-defined,no-any-return]
