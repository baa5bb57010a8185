"""What the API tells of files that are worked off in the background."""

from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from msgspec import Meta, Struct

from bkapp.address.models import GeocodeJob
from bkapp.address.operations.file_jobs import KEPT
from bkapp.address.rules import JobStatus

JOBS = "/api/v1/geocode/jobs"


class JobLinks(Struct, frozen=True, rename={"here": "self"}):
    here: str
    result: Annotated[str | None, Meta(description="Where the file is; null until it is done.")]


class JobOut(Struct, frozen=True):
    """A file of addresses and how far it is."""

    id: UUID
    status: JobStatus
    rows_total: int
    rows_done: int
    rows_failed: Annotated[int, Meta(description="Rows of those done that could not be asked for: see result_error.")]
    problem: Annotated[str | None, Meta(description="Why it failed.")]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: Annotated[datetime, Meta(description="The job and its file are deleted soon after.")]
    links: JobLinks

    @classmethod
    def of(cls, job: GeocodeJob) -> Self:
        here = f"{JOBS}/{job.id}"
        return cls(
            id=job.id,
            status=job.status,
            rows_total=job.rows_total,
            rows_done=job.rows_done,
            rows_failed=job.rows_failed,
            problem=job.problem,
            created_at=job.created_at,
            started_at=job.started_at,
            finished_at=job.finished_at,
            expires_at=job.created_at + KEPT,
            links=JobLinks(here, f"{here}/result" if job.status is JobStatus.DONE else None),
        )
