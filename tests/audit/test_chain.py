"""The chain: how it grows, what is refused, and what of a forger's work is found."""

import asyncio
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.audit import queries
from bkapp.audit.checkpoints import Checkpoint, Keys
from bkapp.audit.operations import ChainCut, append, make_checkpoint, seal_reads
from bkapp.audit.queries import Verification
from bkapp.audit.rules import GENESIS, Broken, entry_bytes
from bkapp.db import open_engine, sessions_of

KEYS = Keys([("k1", bytes(range(32)))])
ISSUER = "https://bkapp.example"
NOW = datetime(2026, 3, 1, 8, 7, tzinfo=UTC)
AT_ONCE = timedelta(seconds=-1)  # reads of this very transaction are sealed too


async def entries(session: AsyncSession, count: int) -> None:
    for number in range(count):
        await append(session, kind="sign_in", actor=f"p{number}", subject=f"p{number}", device="Điện thoại")


async def reads(session: AsyncSession, count: int) -> None:
    statement = "INSERT INTO data_read (reader, subject, what, request_id) VALUES ('k', :subject, '/w', 'r')"
    await session.execute(text(statement), [{"subject": f"s{number}"} for number in range(count)])


async def signed(session: AsyncSession) -> str:
    made = await make_checkpoint(session, KEYS, issuer=ISSUER, now=NOW)
    assert made is not None
    return made.token


async def a_chain(session: AsyncSession) -> str:
    """Entries 1 to 12: two seals of three reads each are 6 and 10; 8 and 12 have checkpoints, whose token returns."""
    await entries(session, 5)
    await reads(session, 3)
    assert await seal_reads(session, settled=AT_ONCE) == 3
    await entries(session, 2)
    await signed(session)
    await entries(session, 1)
    await reads(session, 3)
    assert await seal_reads(session, settled=AT_ONCE) == 3
    await entries(session, 2)
    token = await signed(session)
    await reads(session, 2)  # of which no seal tells yet
    return token


async def forge(session: AsyncSession, *statements: str) -> None:
    """What a superuser can do who turns the triggers off."""
    await session.execute(text("SET LOCAL session_replication_role = replica"))
    for statement in statements:
        await session.execute(text(statement))
    await session.execute(text("SET LOCAL session_replication_role = origin"))


async def verified(session: AsyncSession, *, since: int = 1, outside: str | None = None) -> Verification:
    return await queries.verify(session, KEYS.public, since=since, outside=outside)


def told(found: Verification) -> list[tuple[Broken, int]]:
    return [(one.kind, one.seq) for one in found.breaks]


async def rewrite(session: AsyncSession, first: int) -> None:
    """Change an entry and compute every hash from there on anew, the head's too."""
    micros_of = "(extract(epoch FROM at) * 1000000)::bigint"
    statement = f"SELECT seq, {micros_of}, kind, actor, subject, data FROM audit_entry ORDER BY seq"
    rows = (await session.execute(text(statement))).all()
    previous, statements = GENESIS, []
    for seq, micros, kind, actor, subject, data in rows:
        new = "somebody" if seq == first else actor
        own = hashlib.sha256(entry_bytes(previous, seq, micros, kind, new, subject, data)).digest()
        link = f"previous = '\\x{previous.hex()}', hash = '\\x{own.hex()}'"
        statements.append(f"UPDATE audit_entry SET actor = '{new}', {link} WHERE seq = {seq}")
        previous = own
    await forge(session, *statements, f"UPDATE audit_head SET hash = '\\x{previous.hex()}'")


class TestGrowing:
    async def test_it_holds(self, session: AsyncSession) -> None:
        token = await a_chain(session)
        found = await verified(session, outside=token)

        assert found.breaks == ()
        assert (found.since, found.last, found.entries) == (1, 12, 12)
        assert (found.checkpoints, found.seals, found.reads, found.broken) == (2, 2, 6, 0)

    async def test_an_empty_one_holds_and_has_nothing_to_sign(self, session: AsyncSession) -> None:
        found = await verified(session)
        assert (found.last, found.entries, found.broken) == (0, 0, 0)
        assert await make_checkpoint(session, KEYS, issuer=ISSUER, now=NOW) is None
        assert await seal_reads(session, settled=AT_ONCE) == 0

    async def test_from_an_entry_on(self, session: AsyncSession) -> None:
        await a_chain(session)
        found = await verified(session, since=7)

        assert found.breaks == ()
        assert (found.entries, found.checkpoints, found.seals, found.reads) == (6, 2, 1, 3)
        assert told(await verified(session, since=13)) == []
        assert told(await verified(session, since=14)) == [(Broken.ENTRY_MISSING, 13)]

    async def test_many_rows_go_through_in_portions(
        self, session: AsyncSession, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(queries, "BATCH", 3)
        await a_chain(session)
        await reads(session, 20)
        while await seal_reads(session, settled=AT_ONCE, most=4):
            pass
        found = await verified(session)

        assert found.breaks == ()
        assert (found.seals, found.reads) == (8, 28)

    async def test_no_more_than_a_portion_is_fetched_at_a_time(self, session: AsyncSession) -> None:
        some = queries.batches(session, "SELECT g FROM generate_series(1, :n) AS g", n=2 * queries.BATCH + 1)
        assert [len(batch) async for batch in some] == [queries.BATCH, queries.BATCH, 1]

    async def test_who_appends_at_the_same_time_is_put_in_one_order(self, own_database: str) -> None:
        engine = open_engine(own_database)
        sessions = sessions_of(engine)

        async def work(number: int) -> None:
            for turn in range(15):
                async with sessions() as session, session.begin() as transaction:
                    await append(session, kind="k", actor=f"a{number}", subject="s", turn=turn)
                    if turn % 5 == 0:
                        await transaction.rollback()

        await asyncio.gather(*(work(number) for number in range(8)))
        async with sessions() as session:
            found = await verified(session)
            disorder = await session.scalar(
                text("SELECT count(*) FROM audit_entry a JOIN audit_entry b ON b.seq = a.seq + 1 WHERE b.at < a.at")
            )
        await engine.dispose()
        assert (found.entries, found.last, found.broken, disorder) == (96, 96, 0, 0)

    async def test_it_is_verified_while_others_append(self, own_database: str) -> None:
        engine = open_engine(own_database)
        sessions = sessions_of(engine)
        async with sessions() as session:
            await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            before = await queries.last_entry(session)
            async with sessions.begin() as other:
                await a_chain(other)
            found = await verified(session)
        async with sessions() as session:
            after = await verified(session)
        await engine.dispose()
        assert (before[0], found.entries, found.broken) == (0, 0, 0)
        assert (after.entries, after.broken) == (12, 0)


KEPT = ("audit_entry", "audit_checkpoint", "read_seal", "data_read", "audit_head")
REFUSED: Sequence[str] = [
    *(f"DELETE FROM {table}" for table in KEPT),
    *(f"TRUNCATE {table} CASCADE" for table in KEPT),
    "UPDATE audit_entry SET actor = 'x' WHERE seq = 1",
    "UPDATE audit_entry SET actor = 'x' WHERE false",
    "UPDATE audit_checkpoint SET token = ''",
    "UPDATE read_seal SET count = 0",
    "UPDATE data_read SET reader = 'x'",
    "UPDATE audit_head SET seq = 0",
    "INSERT INTO audit_head (single, seq, hash) VALUES (true, 0, '') ON CONFLICT DO NOTHING",
    "INSERT INTO audit_entry SELECT * FROM audit_entry ON CONFLICT (seq) DO UPDATE SET actor = 'x'",
    "INSERT INTO audit_checkpoint SELECT * FROM audit_checkpoint ON CONFLICT (seq) DO UPDATE SET token = ''",
    "INSERT INTO read_seal SELECT * FROM read_seal ON CONFLICT (last_id) DO UPDATE SET count = 0",
    "INSERT INTO data_read OVERRIDING SYSTEM VALUE SELECT * FROM data_read ON CONFLICT (id) DO UPDATE SET reader = 'x'",
    "MERGE INTO data_read USING audit_head ON true WHEN MATCHED THEN DELETE",
    "WITH gone AS (DELETE FROM audit_entry RETURNING 1) SELECT count(*) FROM gone",
]


class TestKeeping:
    @pytest.mark.parametrize("statement", REFUSED)
    async def test_the_database_lets_nobody_change_it(self, session: AsyncSession, statement: str) -> None:
        await a_chain(session)
        with pytest.raises(ProgrammingError, match="is only added to"):
            async with session.begin_nested():
                await session.execute(text(statement))
        assert (await verified(session)).broken == 0

    async def test_what_an_entry_says_of_its_place_is_not_believed(self, session: AsyncSession) -> None:
        await session.execute(
            text(
                "INSERT INTO audit_entry (seq, at, kind, actor, subject, data, previous, hash) "
                "VALUES (99, '2001-01-01', 'k', 'a', 's', '{}', 'x', 'y')"
            )
        )
        found = await verified(session)
        assert (found.last, found.broken) == (1, 0)
        year = await session.scalar(text("SELECT extract(year FROM at)::int FROM audit_entry"))
        assert year is not None
        assert year > 2001

    async def test_a_checkpoint_is_made_once_for_an_entry(self, session: AsyncSession) -> None:
        await entries(session, 2)
        first = await make_checkpoint(session, KEYS, issuer=ISSUER, now=NOW)
        again = await make_checkpoint(session, KEYS, issuer=ISSUER, now=NOW + timedelta(hours=1))
        await entries(session, 1)
        next_one = await make_checkpoint(session, KEYS, issuer=ISSUER, now=NOW + timedelta(hours=1))

        assert first == again
        assert first is not None
        assert next_one is not None
        assert (first.seq, next_one.seq) == (2, 3)
        assert (first.made_at, next_one.made_at - first.made_at) == (NOW, timedelta(hours=1))

    async def test_a_chain_that_was_cut_is_not_signed(self, session: AsyncSession) -> None:
        await a_chain(session)
        await forge(session, "DELETE FROM audit_entry WHERE seq > 10")
        with pytest.raises(ChainCut):
            await signed(session)


_SAID = "at, kind, actor, subject, data"
_NUMBERED_BY_HAND = "ALTER TABLE data_read ALTER id SET GENERATED BY DEFAULT"
_REST = f"{_SAID}, previous, hash"
# What a forger does to the chain of twelve, and what is told of it.
FORGED: dict[str, tuple[list[str], list[tuple[Broken, int]]]] = {
    "an entry altered": (
        ["UPDATE audit_entry SET actor = 'x' WHERE seq = 4"],
        [(Broken.ENTRY_ALTERED, 4)],
    ),
    "its subject and data shifted": (
        ["UPDATE audit_entry SET subject = subject || E'\\n' || data, data = '' WHERE seq = 4"],
        [(Broken.ENTRY_ALTERED, 4)],
    ),
    "its time altered": (
        ["UPDATE audit_entry SET at = at + interval '1 microsecond' WHERE seq = 4"],
        [(Broken.ENTRY_ALTERED, 4)],
    ),
    "its time beyond any calendar": (
        [
            "UPDATE audit_entry SET at = 'infinity' WHERE seq = 4",
            "UPDATE audit_entry SET at = '4000-01-01 BC' WHERE seq = 5",
        ],
        [(Broken.ENTRY_ALTERED, 4), (Broken.ENTRY_ALTERED, 5)],
    ),
    "an entry altered with its hash": (
        [
            "UPDATE audit_entry SET actor = 'x' WHERE seq = 4",
            f"UPDATE audit_entry SET hash = audit_digest(previous, seq, {_SAID}) WHERE seq = 4",
        ],
        [(Broken.LINK_BROKEN, 5)],
    ),
    "hashes cut short": (
        ["UPDATE audit_entry SET hash = '', previous = '' WHERE seq = 4"],
        [(Broken.LINK_BROKEN, 4), (Broken.ENTRY_ALTERED, 4), (Broken.LINK_BROKEN, 5)],
    ),
    "an entry deleted": (
        ["DELETE FROM audit_entry WHERE seq = 4"],
        [(Broken.ENTRY_MISSING, 4)],
    ),
    "three deleted": (
        ["DELETE FROM audit_entry WHERE seq IN (2, 3, 4)"],
        [(Broken.ENTRY_MISSING, 2)],
    ),
    "the first deleted": (
        ["DELETE FROM audit_entry WHERE seq = 1"],
        [(Broken.ENTRY_MISSING, 1)],
    ),
    "the last deleted": (
        ["DELETE FROM audit_checkpoint WHERE seq = 12", "DELETE FROM audit_entry WHERE seq = 12"],
        [(Broken.ENTRY_MISSING, 12)],
    ),
    "one put before the first": (
        [f"INSERT INTO audit_entry SELECT 0, {_REST} FROM audit_entry WHERE seq = 1"],
        [(Broken.ENTRY_UNEXPECTED, 0)],
    ),
    "one put behind the last": (
        [
            f"INSERT INTO audit_entry SELECT 13, {_SAID}, hash, '' FROM audit_entry WHERE seq = 12",
            f"UPDATE audit_entry SET hash = audit_digest(previous, seq, {_SAID}) WHERE seq = 13",
        ],
        [(Broken.HEAD_DIFFERS, 13)],
    ),
    "two swapped": (
        [
            "UPDATE audit_entry SET seq = -seq WHERE seq IN (3, 4)",
            "UPDATE audit_entry SET seq = 7 + seq WHERE seq < 0",
        ],
        [
            (Broken.LINK_BROKEN, 3),
            (Broken.ENTRY_ALTERED, 3),
            (Broken.LINK_BROKEN, 4),
            (Broken.ENTRY_ALTERED, 4),
            (Broken.LINK_BROKEN, 5),
        ],
    ),
    "the head turned back": (
        ["UPDATE audit_head SET seq = 11"],
        [(Broken.HEAD_DIFFERS, 12)],
    ),
    "the head with another hash": (
        ["UPDATE audit_head SET hash = ''"],
        [(Broken.HEAD_DIFFERS, 12)],
    ),
    "no head": (
        ["DELETE FROM audit_head"],
        [(Broken.HEAD_DIFFERS, 12)],
    ),
    "a checkpoint that is no text of ours": (
        ["UPDATE audit_checkpoint SET token = reverse(token) WHERE seq = 8"],
        [(Broken.CHECKPOINT_NOT_GENUINE, 8)],
    ),
    "a checkpoint of another entry": (
        ["UPDATE audit_checkpoint SET token = (SELECT token FROM audit_checkpoint WHERE seq = 12) WHERE seq = 8"],
        [(Broken.CHECKPOINT_DIFFERS, 8)],
    ),
    "a checkpoint's hash": (
        ["UPDATE audit_checkpoint SET hash = '' WHERE seq = 8"],
        [(Broken.CHECKPOINT_DIFFERS, 8)],
    ),
    "a checkpoint of nothing": (
        ["UPDATE audit_checkpoint SET seq = 99 WHERE seq = 8"],
        [(Broken.CHECKPOINT_WITHOUT_ENTRY, 99)],
    ),
    "the tail cut with its head, but not its checkpoint": (
        [
            "DELETE FROM audit_entry WHERE seq > 10",
            "UPDATE audit_head SET seq = 10, hash = (SELECT hash FROM audit_entry WHERE seq = 10)",
        ],
        [(Broken.CHECKPOINT_WITHOUT_ENTRY, 12)],
    ),
    "a read deleted": (
        ["DELETE FROM data_read WHERE subject = 's1' AND id < 4"],
        [(Broken.READS_MISSING, 6)],
    ),
    "the last read sealed deleted": (
        ["DELETE FROM data_read WHERE id = (SELECT max(last_id) FROM read_seal)"],
        [(Broken.READS_MISSING, 10)],
    ),
    "a read altered": (
        ["UPDATE data_read SET reader = 'x' WHERE id = 2"],
        [(Broken.READS_ALTERED, 6)],
    ),
    "a read's time altered": (
        ["UPDATE data_read SET read_at = read_at - interval '1 day' WHERE id = 5"],
        [(Broken.READS_ALTERED, 10)],
    ),
    "a read moved": (
        [_NUMBERED_BY_HAND, "UPDATE data_read SET id = 0 WHERE id = 2", "UPDATE data_read SET id = 2 WHERE id = 1"],
        [(Broken.READS_MISSING, 6)],
    ),
    "a read put in": (
        [
            "UPDATE read_seal SET last_id = 1000 WHERE last_id = 6",
            "INSERT INTO data_read OVERRIDING SYSTEM VALUE VALUES (900, now(), 'x', 's', 'w', 'r')",
        ],
        [(Broken.SEAL_DIFFERS, 10), (Broken.READS_ADDED, 10)],
    ),
    "two reads swapped": (
        [
            _NUMBERED_BY_HAND,
            "UPDATE data_read SET id = -id WHERE id IN (1, 2)",
            "UPDATE data_read SET id = 3 + id WHERE id < 0",
        ],
        [(Broken.READS_ALTERED, 6)],
    ),
    "a read deleted with its seal": (
        ["DELETE FROM data_read WHERE id > 3", "DELETE FROM read_seal WHERE last_id > 3"],
        [(Broken.SEAL_MISSING, 10)],
    ),
    "a read deleted and sealed anew": (
        [
            "DELETE FROM data_read WHERE id = 2",
            "UPDATE read_seal SET count = 2, digest = sha256('x') WHERE last_id = 3",
        ],
        [(Broken.SEAL_DIFFERS, 6), (Broken.READS_ALTERED, 6)],
    ),
    "a seal of no entry": (
        ["UPDATE read_seal SET entry_seq = 99 WHERE last_id = 6"],
        [(Broken.SEAL_MISSING, 10), (Broken.SEAL_WITHOUT_ENTRY, 99)],
    ),
    "the first seal deleted": (
        ["DELETE FROM read_seal WHERE last_id = 3"],
        [(Broken.SEAL_MISSING, 6), (Broken.SEAL_OUT_OF_LINE, 10), (Broken.READS_ADDED, 10)],
    ),
    "constraints dropped and nothing in their place": (
        [
            "ALTER TABLE audit_entry ALTER data DROP NOT NULL, ALTER previous DROP NOT NULL, ALTER hash DROP NOT NULL",
            "ALTER TABLE read_seal ALTER digest DROP NOT NULL, ALTER count DROP NOT NULL",
            "ALTER TABLE data_read ALTER reader DROP NOT NULL",
            "ALTER TABLE audit_head ALTER seq DROP NOT NULL",
            "UPDATE audit_entry SET data = NULL WHERE seq = 2",
            "UPDATE audit_entry SET previous = NULL WHERE seq = 3",
            "UPDATE audit_entry SET hash = NULL WHERE seq = 4",
            "UPDATE read_seal SET digest = NULL, count = NULL WHERE last_id = 3",
            "UPDATE data_read SET reader = NULL WHERE id = 5",
            "UPDATE audit_head SET seq = NULL",
        ],
        [
            (Broken.ENTRY_ALTERED, 2),
            (Broken.LINK_BROKEN, 3),
            (Broken.ENTRY_ALTERED, 3),
            (Broken.ENTRY_ALTERED, 4),
            (Broken.SEAL_DIFFERS, 6),
            (Broken.READS_ADDED, 6),
            (Broken.READS_ALTERED, 10),
            (Broken.HEAD_DIFFERS, 12),
        ],
    ),
}  # fmt: skip


class TestForgeries:
    @pytest.mark.parametrize(("statements", "wanted"), FORGED.values(), ids=FORGED)
    async def test_a_forgery_is_found_and_named(
        self, session: AsyncSession, statements: list[str], wanted: list[tuple[Broken, int]]
    ) -> None:
        await session.execute(text("ALTER TABLE data_read ALTER id RESTART"))
        await a_chain(session)
        await forge(session, *statements)
        found = await verified(session)

        assert told(found) == wanted
        assert found.broken == len(wanted)

    async def test_a_chain_written_anew_is_shown_by_its_checkpoints(self, session: AsyncSession) -> None:
        token = await a_chain(session)
        await rewrite(session, 4)

        assert told(await verified(session)) == [(Broken.CHECKPOINT_DIFFERS, 8), (Broken.CHECKPOINT_DIFFERS, 12)]
        await forge(session, "DELETE FROM audit_checkpoint")
        assert told(await verified(session)) == []
        assert told(await verified(session, outside=token)) == [(Broken.CHECKPOINT_DIFFERS, 12)]

    async def test_a_tail_cut_with_all_that_tells_of_it_is_shown_only_by_a_checkpoint_from_elsewhere(
        self, session: AsyncSession
    ) -> None:
        token = await a_chain(session)
        await forge(
            session,
            "DELETE FROM audit_checkpoint WHERE seq > 10",
            "DELETE FROM audit_entry WHERE seq > 10",
            "UPDATE audit_head SET seq = 10, hash = (SELECT hash FROM audit_entry WHERE seq = 10)",
        )

        assert told(await verified(session)) == []
        assert told(await verified(session, outside=token)) == [(Broken.CHECKPOINT_WITHOUT_ENTRY, 12)]

    async def test_a_checkpoint_from_elsewhere_is_one_of_ours_or_none(self, session: AsyncSession) -> None:
        await a_chain(session)
        _, digest = await queries.last_entry(session)
        same = Checkpoint(issuer=ISSUER, seq=12, hash=digest, made_at=NOW)
        forged = Keys([("k1", bytes(32))]).sign(same)
        for token in (forged, "", "x.y.z"):
            assert told(await verified(session, outside=token)) == [(Broken.CHECKPOINT_NOT_GENUINE, 0)]
        # One that is older than where the look begins moves the beginning.
        old = await session.scalar(text("SELECT token FROM audit_checkpoint WHERE seq = 8"))
        assert (await verified(session, since=11, outside=old)).entries == 5

    async def test_however_much_is_wrong_little_is_told_and_all_counted(self, session: AsyncSession) -> None:
        await entries(session, 30)
        await forge(session, "UPDATE audit_entry SET actor = 'x'")
        found = await verified(session)

        assert (found.broken, len(found.breaks)) == (30, queries.MOST_OF_A_KIND)
