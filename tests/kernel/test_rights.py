"""The role that serving and working act as: it adds to the books and changes none of them."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.errors import CheckViolation, InsufficientPrivilege
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from bkapp.audit import queries as audit
from bkapp.audit.checkpoints import Keys
from bkapp.audit.operations import append, make_checkpoint
from bkapp.config import DEMO_SIGNING_KEYS
from bkapp.db import act_as, open_engine, sessions_of
from bkapp.jobs import defer, forget_old_keys_nightly, open_jobs
from bkapp.migrate import ADDED_TO, READ_ONLY, grant_rights
from bkapp.payments.models import LedgerEntry, PaymentEvent, RefundEvent
from bkapp.payments.operations import ledger, refunds
from bkapp.payments.rules import RefundStatus
from tests.payments import make

BOOKS = (
    "ledger_transaction",
    "audit_entry",
    "audit_checkpoint",
    "read_seal",
    "data_read",
    "payment_event",
    "refund_event",
)
# What a trigger guards as well, so that not even the owner of the tables changes it by an oversight.
GUARDED = (*BOOKS, "ledger_head", "ledger_entry", "audit_head")
WRITTEN_BY_TRIGGERS = ("ledger_head", "ledger_entry", "audit_head")
INSERT = "INSERT INTO ledger_transaction (kind, subject, entries) VALUES ('receipt', 'test', %s)"


def libpq(database: str) -> str:
    return database.replace("+psycopg", "")


@pytest.fixture
def role(own_database: str) -> Iterator[str]:
    """A role that was given the rights of the app, which this process acts as."""
    name = f"bkapp_test_{uuid4().hex[:12]}"
    grant_rights(own_database, name)
    act_as(name)
    yield name
    act_as("")
    with psycopg.connect(libpq(own_database), autocommit=True) as connection:
        for statement in ("DROP OWNED BY {}", "DROP ROLE {}"):  # roles are not of one database
            connection.execute(sql.SQL(statement).format(sql.Identifier(name)))


@pytest.fixture
async def engine_as_role(own_database: str, role: str) -> AsyncIterator[AsyncEngine]:
    engine = open_engine(own_database)
    yield engine
    await engine.dispose()


def let_through(database: str, role: str, statements: list[str]) -> list[str]:
    """Which statements PostgreSQL does not refuse for want of a right; none is kept."""
    through = []
    with psycopg.connect(libpq(database), options=f"-c role={role}" if role else "") as connection:
        for statement in statements:
            try:
                connection.execute(statement.encode())
            except InsufficientPrivilege:
                pass
            else:
                through.append(statement)
            connection.rollback()
    return through


def changes_of(database: str, table: str) -> list[str]:
    """A statement for each way to change a table that is not adding to it."""
    with psycopg.connect(libpq(database)) as connection:
        column = connection.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND attidentity = ''"
            " ORDER BY attnum LIMIT 1",
            [table],
        ).fetchone()
    assert column is not None
    return [
        f'UPDATE {table} SET "{column[0]}" = "{column[0]}"',
        f"DELETE FROM {table}",
        f"TRUNCATE {table} CASCADE",
    ]


def test_the_role_changes_no_book(own_database: str, role: str) -> None:
    assert set(ADDED_TO) == set(BOOKS)
    assert {"ledger_head", "ledger_entry"} < set(READ_ONLY)
    rights = [(table, right) for table in (*BOOKS, *READ_ONLY) for right in ("UPDATE", "DELETE", "TRUNCATE", "TRIGGER")]
    rights += [(table, "INSERT") for table in READ_ONLY]
    # It lacks the right itself, whatever the triggers say.
    with psycopg.connect(libpq(own_database)) as connection:
        asked = "SELECT has_table_privilege(%s, %s, %s)"
        assert not [one for one in rights if connection.execute(asked, [role, *one]).fetchone() != (False,)]
    tried = [statement for table in (*BOOKS, *READ_ONLY) for statement in changes_of(own_database, table)]
    tried += changes_of(own_database, "audit_head")
    tried += [f"INSERT INTO {table} DEFAULT VALUES" for table in (*READ_ONLY, "audit_head")]
    # Nor does it do away with what guards them.
    tried += [
        "ALTER TABLE ledger_transaction DISABLE TRIGGER ALL",
        "DROP TRIGGER audit_entry_keep ON audit_entry",
        "CREATE OR REPLACE FUNCTION audit_keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "CREATE TRIGGER mine BEFORE INSERT ON ledger_entry FOR EACH ROW EXECUTE FUNCTION audit_keep()",
        "SET session_replication_role = replica",
    ]
    assert len(tried) > 40
    assert let_through(own_database, role, tried) == []


def test_nor_does_the_owner_by_an_oversight(own_database: str) -> None:
    tried = [statement for table in GUARDED for statement in changes_of(own_database, table)]
    tried += [f"INSERT INTO {table} DEFAULT VALUES" for table in WRITTEN_BY_TRIGGERS]
    assert let_through(own_database, "", tried) == []


def test_rights_that_were_wider_before_are_taken_back(own_database: str, role: str) -> None:
    asked = "SELECT has_table_privilege('ledger_entry', 'INSERT, UPDATE, DELETE, TRUNCATE, TRIGGER')"  # any of them
    with psycopg.connect(libpq(own_database)) as connection:
        connection.execute(sql.SQL("GRANT ALL ON ALL TABLES IN SCHEMA public TO {}").format(sql.Identifier(role)))
    with psycopg.connect(libpq(own_database), options=f"-c role={role}") as connection:
        assert connection.execute(asked).fetchone() == (True,)
    grant_rights(own_database, role)
    with psycopg.connect(libpq(own_database), options=f"-c role={role}") as connection:
        assert connection.execute(asked).fetchone() == (False,)


def test_what_does_not_come_to_zero_does_not_commit(own_database: str, role: str) -> None:
    refused = ['[["suspense",-5],["clearing:a",4]]', '[["suspense",0],["clearing:a",0]]', '[["suspense",5]]', "[]"]
    with psycopg.connect(libpq(own_database), options=f"-c role={role}") as connection:
        for entries in refused:
            with pytest.raises(CheckViolation), connection.transaction():
                connection.execute(INSERT, [entries])
        assert connection.execute("SELECT count(*) FROM ledger_transaction").fetchone() == (0,)
        assert connection.execute("SELECT seq FROM ledger_head").fetchone() == (0,)
        connection.commit()
        with connection.transaction():
            connection.execute(INSERT, ['[["suspense",-5],["clearing:a",5]]'])
        assert connection.execute("SELECT sum(amount), count(*) FROM ledger_entry").fetchone() == (0, 2)


async def test_the_role_takes_money_gives_it_back_and_works(
    own_database: str, role: str, engine_as_role: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions, now = sessions_of(engine_as_role), datetime.now(UTC)
    async with sessions.begin() as session:
        assert await session.scalar(text("SELECT current_user")) == role
        receipt = await make.a_receipt(session, amount=100_000)
        refund = await refunds.request_refund(
            session, receipt_id=receipt.id, amount=100_000, reason="test", by_hand=True, limit=0, by="one", now=now
        )
        await refunds.approve(session, refund.id, by="two", now=now)
        await refunds.record_transfer(session, refund.id, transaction="FT1", by="two", now=now)
        await append(session, kind="test", actor="test", subject="test")
        await defer(session, forget_old_keys_nightly, timestamp=1)
    monkeypatch.setenv("DATABASE_URL", own_database)
    monkeypatch.setenv("BKAPP_DEMO", "1")
    async with open_jobs(own_database) as app:
        await asyncio.wait_for(app.run_worker_async(wait=False, install_signal_handlers=False), 20)
    async with sessions.begin() as session:
        checkpoint = await make_checkpoint(session, Keys.parse(DEMO_SIGNING_KEYS), issuer="http://t", now=now)

    async with sessions() as session:
        assert refund.status is RefundStatus.SUCCEEDED
        assert await ledger.verify(session) == []
        assert set((await ledger.balances(session)).values()) == {0}
        for table, least in ((LedgerEntry, 4), (PaymentEvent, 2), (RefundEvent, 2)):
            assert (await session.scalar(select(func.count()).select_from(table)) or 0) >= least
        chain = await audit.verify(session, Keys.parse(DEMO_SIGNING_KEYS).public)
        assert (chain.broken, checkpoint is not None and checkpoint.seq == chain.entries) == (0, True)
        states = await session.scalars(
            text("SELECT status::text FROM procrastinate_jobs WHERE task_name = :name"),
            {"name": forget_old_keys_nightly.name},
        )
        assert states.all() == ["succeeded"]
