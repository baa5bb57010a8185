"""Files of addresses in the background: sent, worked off, taken up again, fetched, forgotten."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest
import structlog
from httpx import ASGITransport, AsyncClient
from sqlalchemy import func, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.models import DataRead
from bkapp.access.rules import Role
from bkapp.address.controllers import files
from bkapp.address.csvfiles import Options, read
from bkapp.address.models import GeocodeJob
from bkapp.address.operations import file_jobs
from bkapp.address.operations.files import BATCH, Tally, geocode
from bkapp.address.rules import JobStatus
from bkapp.address.tasks import geocode_file, tend_geocode_jobs
from bkapp.app import create_app
from bkapp.config import Settings
from bkapp.db import Lookup, Row, Sessions
from bkapp.edge import Edge
from bkapp.jobs import open_jobs
from tests import make
from tests.address.geocode_files import (
    CSV,
    FILE,
    JOBS,
    Database,
    a_finder,
    a_register,
    failing,
    many,
    problem,
    start,
    upload,
)


@pytest.fixture
async def there(own_database: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Database]:
    monkeypatch.setenv("DATABASE_URL", own_database)
    monkeypatch.setenv("BKAPP_DEMO", "1")
    database = Database(own_database)
    async with database.sessions() as session:
        await a_register(session)
    yield database
    await database.close()


class TestJob:
    @pytest.fixture
    async def key(self, session: AsyncSession) -> str:
        key = await make.a_key(session, unit=make.COMMUNE)
        await session.commit()
        return key

    async def test_begins_as_waiting_with_its_work_queued(
        self, client: AsyncClient, session: AsyncSession, key: str
    ) -> None:
        answer = await start(client, key)

        job = answer.json()
        assert answer.status_code == 202
        assert answer.headers["location"] == f"{JOBS}/{job['id']}" == job["links"]["self"]
        assert (job["status"], job["rows_total"], job["rows_done"], job["rows_failed"]) == ("waiting", 3, 0, 0)
        assert (job["problem"], job["started_at"], job["links"]["result"]) == (None, None, None)
        assert job["expires_at"] > job["created_at"]
        queued = await session.execute(text("SELECT task_name, args FROM procrastinate_jobs"))
        assert queued.one() == (file_jobs.TASK, {"job_id": job["id"]})
        assert (await client.get(job["links"]["self"], headers=make.auth(key))).json() == job

    async def test_is_the_same_when_it_is_sent_twice(
        self, client: AsyncClient, session: AsyncSession, key: str
    ) -> None:
        # httpx, like every program, draws a new boundary each time.
        first = await start(client, key, **{"Idempotency-Key": "one"})
        again = await start(client, key, **{"Idempotency-Key": "one"})
        other = await start(client, key, FILE + "y;z;\n", **{"Idempotency-Key": "one"})
        assert again.content == first.content
        assert again.headers["idempotent-replayed"] == "true"
        assert problem(other)[:2] == (422, "idempotency_key_reused")
        assert await session.scalar(select(func.count()).select_from(GeocodeJob)) == 1

    async def test_needs_a_key_and_an_idempotency_key(self, client: AsyncClient, key: str) -> None:
        assert (await client.post(JOBS, **upload(FILE))).status_code == 401
        assert (await client.get(f"{JOBS}/{uuid4()}")).status_code == 401
        answer = await client.post(JOBS, **upload(FILE), headers={"Authorization": f"Bearer {key}"})
        assert problem(answer)[:2] == (400, "idempotency_key_missing")

    async def test_is_refused_at_once_for_what_cannot_be_read(self, client: AsyncClient, key: str) -> None:
        assert problem(await start(client, key, "a;b\n")) == (422, "geocode_file_unreadable", ["/columns/0"])
        assert problem(await start(client, key, b"\xff\xfea")) == (422, "geocode_file_unreadable", ["/encoding"])
        assert problem(await start(client, key, many(files.IN_BACKGROUND.rows + 1, "a;b;c")))[:2] == (
            413,
            "geocode_file_too_large",
        )
        assert problem(await start(client, key, b"a" * (files.IN_BACKGROUND.bytes + 1)))[0] == 413

    async def test_is_seen_by_its_key_and_the_registrar_alone(
        self, client: AsyncClient, session: AsyncSession, sessions: Sessions, key: str
    ) -> None:
        job = (await start(client, key)).json()
        await file_jobs._end(sessions, UUID(job["id"]), status=JobStatus.DONE, output=b"a\r\n", rows_done=3)
        other, monitor, admin = [
            await make.a_key(session, unit="01840"),
            await make.a_key(session, role=Role.MONITOR),
            await make.a_key(session),
        ]
        await session.commit()
        for path in (job["links"]["self"], f"{job['links']['self']}/result"):
            found = [
                (await client.get(path, headers=make.auth(each))).status_code for each in (other, monitor, admin, key)
            ]
            assert found == [404, 404, 200, 200], path
            assert (await client.request("DELETE", job["links"]["self"], headers=make.auth(other))).status_code == 404
        # That the registrar looked is recorded, as of any reading of somebody's data.
        assert await session.scalar(select(func.count()).where(DataRead.subject == f"geocode-job:{job['id']}")) == 1

    async def test_has_no_result_until_it_is_done(self, client: AsyncClient, sessions: Sessions, key: str) -> None:
        job = (await start(client, key)).json()
        answer = await client.get(f"{job['links']['self']}/result", headers=make.auth(key))
        assert problem(answer)[:2] == (409, "geocode_job_not_done")
        assert answer.headers["retry-after"] == "2"
        await file_jobs._end(sessions, UUID(job["id"]), status=JobStatus.FAILED, problem="Why.")
        answer = await client.get(f"{job['links']['self']}/result", headers=make.auth(key))
        assert problem(answer)[:2] == (409, "geocode_job_failed")
        assert answer.json()["detail"] == "Why."
        assert problem(await client.get(f"{JOBS}/{uuid4()}/result", headers=make.auth(key)))[0] == 404

    async def test_is_deleted_when_its_key_says_so(self, client: AsyncClient, session: AsyncSession, key: str) -> None:
        job = (await start(client, key)).json()
        headers = make.auth(key)
        for _ in range(2):
            assert (await client.request("DELETE", job["links"]["self"], headers=headers)).status_code == 204
        assert (await client.get(job["links"]["self"], headers=headers)).status_code == 404
        assert await session.scalar(select(func.count()).select_from(GeocodeJob)) == 0

    async def test_is_one_of_a_few(self, client: AsyncClient, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(file_jobs, "MOST_KEPT", 1)
        assert (await start(client, key)).status_code == 202
        assert problem(await start(client, key))[:2] == (409, "geocode_too_many_jobs")


class TestWork:
    async def test_is_done_by_a_worker_and_fetched(self, there: Database, settings: Settings) -> None:
        async with there.sessions.begin() as session:
            key = await make.a_key(session, unit=make.COMMUNE)
        app = Edge(create_app(settings, there.sessions, there.readers), settings)  # type: ignore[arg-type]
        async with AsyncClient(transport=ASGITransport(app=app), base_url="http://bkapp.test") as client:
            links = (await start(client, key)).json()["links"]

            async with open_jobs(there.url) as app_of_jobs:
                await asyncio.wait_for(app_of_jobs.run_worker_async(wait=False, install_signal_handlers=False), 30)

            job = (await client.get(links["self"], headers=make.auth(key))).json()
            assert (job["status"], job["rows_done"], job["rows_failed"], job["problem"]) == ("done", 3, 0, None)
            result = await client.get(job["links"]["result"], headers=make.auth(key))
            assert result.headers["content-type"] == "text/csv; charset=utf-8"
            assert result.headers["content-disposition"].endswith("danh%20s%C3%A1ch.geocoded.csv")
            at_once = await client.post(CSV, **upload(FILE), data={"columns": ["adresse", "commune"]})
            assert result.content == at_once.content
        stored = await there.job(UUID(job["id"]))
        assert stored.input is None
        assert stored.started_at is not None
        assert stored.finished_at is not None
        assert stored.created_at <= stored.started_at <= stored.finished_at

    async def test_shows_how_far_it_is(self, there: Database) -> None:
        rows = (2 * file_jobs.STEP + 1) * BATCH
        job_id = await there.a_job(many(rows, "x;số 1 thôn Nà Ít;Phủ Thông") + "\n")
        seen: list[tuple[JobStatus, int]] = []

        def watched(lookup: Lookup) -> Lookup:
            async def look_up(key: str) -> Row | None:
                job = await there.job(job_id)
                seen.append((job.status, job.rows_done))
                return await lookup(key)

            return look_up

        await there.run(job_id, a_finder(there.readers, watched))
        assert {status for status, _ in seen} == {JobStatus.RUNNING}
        assert sorted({done for _, done in seen}) == [0, 900, 1900]
        assert (await there.job(job_id)).rows_done == rows

    async def test_again_changes_nothing_that_is_done(self, there: Database) -> None:
        job_id = await there.a_job()
        await there.run(job_id)
        first = await there.job(job_id)
        await there.run(job_id)
        assert (await there.job(job_id)).finished_at == first.finished_at
        assert first.output is not None
        assert first.output.count(b"\r\n") == 4

    async def test_is_not_done_by_two_at_a_time(self, there: Database) -> None:
        job_id = await there.a_job(status=JobStatus.RUNNING)
        async with there.readers() as worker:
            await worker.execute(select(func.pg_advisory_lock(file_jobs._number(f"geocode_job:{job_id}"))))
            await there.run(job_id)
            assert (await there.job(job_id)).status is JobStatus.RUNNING
            assert await there.tend() == 0
            await worker.execute(select(func.pg_advisory_unlock_all()))

    async def test_of_a_worker_that_died_is_taken_up_again(self, there: Database) -> None:
        dead = await there.a_job(status=JobStatus.RUNNING, rows_done=2)
        lost = await there.a_job(created_at=func.now() - func.make_interval(0, 0, 0, 0, 2))
        fresh = await there.a_job()
        async with there.sessions.begin() as session:
            await session.execute(text("DELETE FROM procrastinate_jobs"))

        assert await there.tend() == 2

        async with open_jobs(there.url) as app:
            await asyncio.wait_for(app.run_worker_async(wait=False, install_signal_handlers=False), 30)
        assert [(await there.job(job_id)).status for job_id in (dead, lost, fresh)] == ["done", "done", "waiting"]

    async def test_that_an_outage_interrupts_is_left_for_the_next(self, there: Database) -> None:
        job_id = await there.a_job("a;b\nsố 1 thôn Nà Ít;Phủ Thông\n")
        finder = a_finder(there.readers, failing(OperationalError("", None, Exception())))
        for attempt in range(1, file_jobs.MOST_ATTEMPTS + 1):
            with pytest.raises(OperationalError):
                await there.run(job_id, finder)
            job = await there.job(job_id)
            assert (job.status, job.options["attempts"]) == (JobStatus.RUNNING, attempt)
        await there.run(job_id)
        job = await there.job(job_id)
        assert (job.status, job.input) == (JobStatus.FAILED, None)
        assert job.problem == f"Given up after {file_jobs.MOST_ATTEMPTS} interrupted attempts."

    async def test_that_fails_says_why(self, there: Database) -> None:
        job_id = await there.a_job('a;b\n"x;y\n')
        await there.run(job_id)
        job = await there.job(job_id)
        assert (job.status, job.output, job.input) == (JobStatus.FAILED, None, None)
        assert job.problem is not None
        assert "quotes in line 2" in job.problem

    async def test_that_meets_a_bug_ends_without_telling_rows(
        self, there: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job_id = await there.a_job(options={"read": {"columns": 1}, "attempts": 0})
        with structlog.testing.capture_logs() as logs:
            await there.run(job_id)
        assert (await there.job(job_id)).problem == "Something went wrong on our side."
        assert [entry["event"] for entry in logs] == ["file_failed"]
        assert "Nà Ít" not in repr(logs)

    async def test_stops_when_its_job_was_deleted(self, there: Database) -> None:
        job_id = await there.a_job(many(2 * file_jobs.STEP * BATCH, "x;số 1 thôn Nà Ít;Phủ Thông") + "\n")
        batches = 0

        def watched(lookup: Lookup) -> Lookup:
            async def look_up(key: str) -> Row | None:
                nonlocal batches
                batches += 1
                if batches == 1:
                    async with there.sessions.begin() as session:
                        await file_jobs.delete_job(session, await file_jobs.look_up_job(session, make.ADMIN, job_id))
                return await lookup(key)

            return look_up

        await there.run(job_id, a_finder(there.readers, watched))
        assert await there.count("SELECT count(*) FROM geocode_job") == 0
        assert batches <= 2 * file_jobs.STEP

    async def test_is_forgotten_after_a_week(self, there: Database) -> None:
        old = await there.a_job(created_at=func.now() - func.make_interval(0, 0, 0, 8))
        young = await there.a_job(created_at=func.now() - func.make_interval(0, 0, 0, 6))
        await tend_geocode_jobs(timestamp=1)
        assert await there.count("SELECT array_agg(id) FROM geocode_job") == [young] != [old]

    async def test_of_a_job_that_is_gone_is_nothing(self, there: Database) -> None:
        await geocode_file(job_id=str(uuid4()))


async def test_a_tally_counts_every_row_once(there: Database) -> None:
    sheet = read(FILE.encode() + b"1;2;3;4;5\n", Options())
    tally = Tally()
    async for _ in geocode(there.finder, sheet, tally):
        pass
    assert tally.rows == 4 == tally.failed + tally.missing + tally.a + tally.b + tally.c
    assert (tally.failed, tally.missing) == (1, 1)
