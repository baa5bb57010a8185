"""What the tests of files of addresses share: a register with one hamlet, forms, disturbed look-ups, a database."""

import csv
import io
from collections.abc import Callable
from typing import Any
from uuid import UUID

from httpx import AsyncClient, Response
from sqlalchemy import text, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import undefer

from bkapp.address import operations, queries
from bkapp.address.csvfiles import Options
from bkapp.address.models import GeocodeJob
from bkapp.address.operations import Door, file_jobs
from bkapp.address.operations.finding import Finder, open_finder
from bkapp.address.queries.gazetteer import AROUND, HOUSES, INSIDE
from bkapp.db import Lookup, Row, Sessions, lookup_through, open_engine, readers_of, sessions_of
from bkapp.http import today
from tests import make

CSV = "/api/v1/geocode/csv"
JOBS = "/api/v1/geocode/jobs"
FILE = 'tên;adresse;commune\nÔng A;số 14a thôn Nà Ít;Phủ Thông\n"Bà B; C";Na It;xa Phu Thong\nX;;\n'


async def a_register(session: AsyncSession) -> None:
    """A hamlet with a house in it, committed."""
    await operations.open_hamlet(
        session, make.ADMIN, unit_code=make.COMMUNE, name="Thôn Nà Ít", since=None, today=today()
    )
    await make.an_address(session, hamlet="Thôn Nà Ít", door=Door(house_number="14A"))
    await session.commit()


def rows_of(content: bytes, delimiter: str = ";") -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), delimiter=delimiter))


def upload(content: str | bytes, name: str = "danh sách.csv") -> dict[str, Any]:
    return {"files": {"data": (name, content if isinstance(content, bytes) else content.encode(), "text/csv")}}


def problem(answer: Response) -> tuple[int, str, list[str]]:
    told = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    return (
        answer.status_code,
        told["type"].removeprefix("/problems/"),
        [each["pointer"] for each in told.get("errors", [])],
    )


def many(rows: int, line: str = "x;thôn Nà Ít;Phủ Thông") -> str:
    return "\n".join(["tên;adresse;commune", *[line] * rows])


def a_finder(readers: Sessions, houses: Callable[[Lookup], Lookup]) -> Finder:
    """A finder whose look-ups of houses are disturbed."""
    return Finder(
        readers,
        houses=houses(lookup_through(readers, HOUSES)),
        inside=lookup_through(readers, INSIDE),
        around=lookup_through(readers, AROUND),
        resolve=lookup_through(readers, queries.RESOLVE_MANY),
    )


def failing(error: Exception, *, after: int = 0, key: str = "") -> Callable[[Lookup], Lookup]:
    """Look-ups that fail after some, or for one key."""
    count = 0

    def disturbed(lookup: Lookup) -> Lookup:
        async def look_up(wanted: str) -> Row | None:
            nonlocal count
            count += 1
            if count > after and key in wanted:
                raise error
            return await lookup(wanted)

        return look_up

    return disturbed


async def start(client: AsyncClient, key: str, content: str | bytes = FILE, **headers: str) -> Response:
    return await client.post(
        JOBS, **upload(content), data={"columns": ["adresse", "commune"]}, headers={**make.auth(key), **headers}
    )


class Database:
    """A database of its own, in which things are committed."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = open_engine(url)
        self.sessions = sessions_of(self.engine)
        self.readers = readers_of(self.engine)
        self.finder = open_finder(self.readers, url)

    async def close(self) -> None:
        await self.finder.close()
        await self.engine.dispose()

    async def a_job(self, content: str = FILE, **values: Any) -> UUID:
        async with self.sessions.begin() as session:
            job = await file_jobs.start_job(
                session,
                make.ADMIN,
                file_name="a.csv",
                data=content.encode(),
                options=Options(),
                rows=content.count("\n") - 1,
            )
            if values:
                await session.execute(update(GeocodeJob).where(GeocodeJob.id == job.id).values(values))
            return job.id

    async def job(self, job_id: UUID) -> GeocodeJob:
        async with self.sessions() as session:
            found = await session.get(GeocodeJob, job_id, options=[undefer("*")])
            assert found is not None
            return found

    async def run(self, job_id: UUID, finder: Finder | None = None) -> None:
        await file_jobs.run_job(self.sessions, self.readers, finder or self.finder, job_id)

    async def tend(self) -> int:
        async with self.sessions.begin() as session:
            await file_jobs.forget_old_jobs(session)
            return await file_jobs.take_up_again(session)

    async def count(self, sql: str) -> Any:
        async with self.sessions() as session:
            return await session.scalar(text(sql))
