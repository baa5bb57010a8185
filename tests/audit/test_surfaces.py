"""What operators and the public see of the chain: commands, jobs, one route."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import jwt
import psycopg
import pytest
from click.testing import CliRunner, Result
from httpx import AsyncClient
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.audit import checkpoints, tasks
from bkapp.audit.checkpoints import Keys
from bkapp.audit.commands import audit
from bkapp.audit.operations import append
from bkapp.audit.queries import verify
from bkapp.config import DEMO_SIGNING_KEYS
from tests.audit.test_chain import NOW, a_chain, signed

PATH = "/api/v1/audit/checkpoint"
RECORD = (
    "INSERT INTO data_read (read_at, reader, subject, what, request_id) "
    "VALUES (now() - interval '1 h', 'k', 's', '/w', 'r')"
)


@pytest.fixture
def place(own_database: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("DATABASE_URL", own_database)
    monkeypatch.setenv("BKAPP_DEMO", "1")
    return own_database.replace("+psycopg", "", 1)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(audit, arguments)


def do(place: str, *statements: str) -> None:
    """As a superuser whose triggers are off; what is recorded or appended goes through them all the same."""
    with psycopg.connect(place) as connection:
        for statement in statements:
            if not statement.startswith("INSERT"):
                connection.execute("SET session_replication_role = replica")
            connection.execute(statement)


def added(place: str, count: int) -> None:
    rows = "INSERT INTO audit_entry (kind, actor, subject, data) SELECT 'k', 'a', 's', '{}' FROM generate_series(1, %d)"
    do(place, rows % count)


class TestCommands:
    def test_a_chain_that_holds(self, place: str) -> None:
        added(place, 3)
        token = run("checkpoint")
        again = run("checkpoint")
        added(place, 1)

        assert (token.exit_code, again.stdout) == (0, token.stdout)
        told = checkpoints.read(token.stdout.strip(), Keys.parse(DEMO_SIGNING_KEYS).public)
        assert (told.seq, told.issuer) == (3, "http://localhost:8000")
        alone, beside, part = run("verify"), run("verify", "--checkpoint", token.stdout), run("verify", "--since", "4")
        assert alone.stdout == "The audit chain holds: entries 1 to 4, 1 checkpoints, 0 seals of 0 reads.\n"
        assert beside.stdout.startswith("The audit chain holds and agrees with the checkpoint: ")
        assert "entries 4 to 4, 0 checkpoints" in part.stdout
        assert (alone.exit_code, beside.exit_code, part.exit_code) == (0, 0, 0)

    def test_a_chain_that_does_not(self, place: str) -> None:
        added(place, 4)
        token = run("checkpoint").stdout
        do(place, "UPDATE audit_entry SET actor = 'x' WHERE seq = 2")
        broken = run("verify")
        assert broken.exit_code == 1
        assert broken.stderr.splitlines()[0].startswith("bkapp: the audit chain is broken once, first at entry 2 (")
        assert "  entry 2: entry_altered: " in broken.stderr

        do(
            place,
            "DELETE FROM audit_checkpoint",
            "DELETE FROM audit_entry WHERE seq > 1",
            "UPDATE audit_head SET seq = 1, hash = (SELECT hash FROM audit_entry)",
        )
        assert run("verify").exit_code == 0
        cut = run("verify", "--checkpoint", token)
        assert (cut.exit_code, "checkpoint_without_entry" in cut.stderr) == (1, True)
        assert run("verify", "--checkpoint", "nonsense").exit_code == 1

    def test_what_cannot_be_done_is_told_in_a_sentence(self, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
        empty = run("checkpoint")
        assert (empty.exit_code, empty.stderr) == (1, "bkapp: the audit chain is empty: there is nothing to sign.\n")
        assert run("verify").exit_code == 0
        assert run("verify", "--since", "0").exit_code == 2

        added(place, 3)
        run("checkpoint")
        do(place, "DELETE FROM audit_entry WHERE seq = 3")
        cut = run("checkpoint")
        assert (cut.exit_code, cut.stderr.startswith("bkapp: There is a checkpoint of entry 3")) == (1, True)

        monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@/none?host=/nonexistent")
        away = run("verify")
        assert (away.exit_code, away.stderr) == (1, "bkapp: the database does not answer; try again.\n")
        monkeypatch.delenv("DATABASE_URL")
        assert run("verify").exit_code == 2


class TestJobs:
    async def test_reads_are_sealed_and_what_is_new_is_signed(self, place: str) -> None:
        do(place, *[RECORD] * 5)
        job: Callable[..., Awaitable[Any]]
        for job in (tasks.sign_checkpoint, tasks.seal_settled_reads, tasks.sign_checkpoint, tasks.sign_checkpoint):
            await job(timestamp=0)
        with psycopg.connect(place) as connection:
            rows = connection.execute("SELECT seq FROM audit_checkpoint").fetchall()
            seals = connection.execute("SELECT entry_seq, count FROM read_seal").fetchall()
        assert (rows, seals) == ([(1,)], [(1, 5)])

    async def test_what_is_wrong_is_logged_and_signing_goes_on(
        self, place: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        logged: list[dict[str, Any]] = []
        monkeypatch.setattr(tasks.log, "error", lambda event, **facts: logged.append({"event": event, **facts}))
        await asyncio.to_thread(added, place, 4)
        await asyncio.to_thread(do, place, "UPDATE audit_entry SET data = '' WHERE seq = 2")
        await tasks.sign_checkpoint(timestamp=0)
        await asyncio.to_thread(added, place, 1)
        await tasks.sign_checkpoint(timestamp=0)

        assert logged == [{"event": "audit_chain_broken", "broken": 1, "kind": "entry_altered", "seq": 2}]
        with psycopg.connect(place) as connection:
            assert connection.execute("SELECT seq FROM audit_checkpoint ORDER BY 1").fetchall() == [(4,), (5,)]

    async def test_what_is_added_meanwhile_is_left_to_the_next_time(
        self, place: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def verified(*arguments: Any, **options: Any) -> Any:
            found = await verify(*arguments, **options)
            await asyncio.to_thread(added, place, 3)
            return found

        monkeypatch.setattr(tasks, "verify", verified)
        await asyncio.to_thread(added, place, 4)
        await tasks.sign_checkpoint(timestamp=0)

        with psycopg.connect(place) as connection:
            assert connection.execute("SELECT seq FROM audit_checkpoint").fetchall() == [(4,)]


class TestRoute:
    async def test_before_there_is_one(self, client: AsyncClient) -> None:
        answer = await client.get(PATH)
        assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not_found")

    async def test_anybody_gets_the_newest(self, client: AsyncClient, session: AsyncSession) -> None:
        token = await a_chain(session)
        await session.commit()
        answer = await client.get(PATH)
        told = answer.json()

        assert answer.status_code == 200
        assert (told["seq"], told["made_at"], told["token"]) == (12, NOW.isoformat().replace("+00:00", "Z"), token)
        assert jwt.decode(token, options={"verify_signature": False})["hash"] == told["hash"]
        assert answer.headers["cache-control"] == "public, max-age=60"
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "set-cookie" not in answer.headers

    async def test_it_tells_nothing_about_anybody(self, client: AsyncClient, session: AsyncSession) -> None:
        await append(session, kind="sign_in", actor="a-person", subject="a-person", device="x")
        await signed(session)
        await session.commit()
        assert set((await client.get(PATH)).json()) == {"seq", "made_at", "hash", "token"}
