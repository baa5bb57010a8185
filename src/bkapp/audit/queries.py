"""What the audit chain says, and whether it is whole."""

import hashlib
from bisect import bisect_right
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.audit import checkpoints
from bkapp.audit.checkpoints import BadCheckpoint, Checkpoint, PublicKeys
from bkapp.audit.models import AuditCheckpoint, AuditEntry, AuditHead, ReadSeal
from bkapp.audit.rules import GENESIS, SEALED, Broken, data_text, entry_bytes, read_bytes, seal_data

BATCH = 5_000  # rows in memory at a time
MOST_OF_A_KIND = 10  # breaks that are told; all are counted

# A time as the exact number of microseconds, which stands in no calendar: also what no datetime can hold has one.
_MICROS = "trim_scale(extract(epoch FROM {column}) * 1000000)::text"
ENTRIES = f"""
    SELECT e.seq, {_MICROS.format(column="e.at")}, e.kind, e.actor, e.subject, e.data, e.previous, e.hash,
        c.token, c.hash
    FROM audit_entry e LEFT JOIN audit_checkpoint c ON c.seq = e.seq
    WHERE e.seq >= :since ORDER BY e.seq"""
READS = f"""
    SELECT id, {_MICROS.format(column="read_at")}, reader, subject, what, request_id
    FROM data_read WHERE id > :after AND id <= :last ORDER BY id LIMIT :most"""
_SEALS = """
    SELECT s.first_id, s.last_id, s.count, s.digest, s.entry_seq, e.kind, e.data
    FROM read_seal s LEFT JOIN audit_entry e ON e.seq = s.entry_seq
    WHERE s.entry_seq >= :since ORDER BY s.last_id"""
_LOWEST = -(1 << 63)
NO_LIMIT = (1 << 63) - 1


class CheckpointRow(Struct, frozen=True):
    seq: int
    made_at: datetime
    hash: bytes
    token: str


class Break(Struct, frozen=True):
    """Something that is wrong, at an entry."""

    kind: Broken
    seq: int
    detail: str


class Verification(Struct, frozen=True, kw_only=True):
    """What was gone through, and what is wrong with it: the first breaks of each kind by entry, ``broken`` in all."""

    since: int
    last: int  # the number of the last entry; 0 when there is none
    entries: int
    checkpoints: int
    seals: int
    reads: int
    broken: int
    breaks: tuple[Break, ...]


async def newest_checkpoint(session: AsyncSession) -> CheckpointRow | None:
    """The checkpoint that covers most."""
    row = (await session.execute(_CHECKPOINTS.order_by(AuditCheckpoint.seq.desc()).limit(1))).first()
    return None if row is None else CheckpointRow(*row)


_CHECKPOINTS = sa.select(AuditCheckpoint.seq, AuditCheckpoint.made_at, AuditCheckpoint.hash, AuditCheckpoint.token)


async def last_entry(session: AsyncSession) -> tuple[int, bytes]:
    """The number and the hash of the last entry; of an empty chain 0 and what the first one will follow."""
    row = (await session.execute(_LAST)).first()
    return (0, GENESIS) if row is None else (row.seq, row.hash)


_LAST = sa.select(AuditEntry.seq, AuditEntry.hash).order_by(AuditEntry.seq.desc()).limit(1)


async def sealed_up_to(session: AsyncSession, *, before: int = NO_LIMIT) -> int:
    """The last id of ``data_read`` that a seal covers, of the seals in entries before the given one; 0 for none."""
    found = await session.scalar(sa.select(sa.func.max(ReadSeal.last_id)).where(ReadSeal.entry_seq < before))
    return found or 0


async def batches(session: AsyncSession, statement: str, **values: Any) -> AsyncGenerator[Sequence[Any]]:
    """The rows of a statement, :data:`BATCH` at a time through a cursor on the server: memory does not grow."""
    connection = await session.connection()
    result = await connection.stream(sa.text(statement), values, execution_options={"yield_per": BATCH})
    async for batch in result.partitions(BATCH):
        yield batch


async def verify(
    session: AsyncSession, keys: PublicKeys, *, since: int = 1, outside: str | None = None
) -> Verification:
    """Compute the chain again from what it says, and compare: numbers, links, hashes, head, checkpoints, sealed reads.

    ``since`` is the first entry to look at; what is before it counts as good.  ``outside`` is the token of a checkpoint
    that somebody kept elsewhere: the only thing that shows a chain written anew, or cut with its head.  Give it a
    session of one snapshot (REPEATABLE READ) where others append meanwhile.  It never raises for what it finds.
    """
    findings = _Findings()
    kept = _kept(outside, keys, findings)
    since = max(1, min(since, kept.seq) if kept else since)
    before = since - 1
    previous = await session.scalar(sa.select(AuditEntry.hash).where(AuditEntry.seq == before))
    if before and previous is None:
        findings.add(Broken.ENTRY_MISSING, before, "there is no entry of this number")
    chain = _Chain(keys, findings, since=since, previous=previous if before else GENESIS)
    async for batch in batches(session, ENTRIES, since=since if before else _LOWEST):
        for row in batch:
            chain.follow(*row)
    await _check_head(session, chain, findings)
    if kept is not None:
        await _check_kept(session, kept, findings)
    await _check_orphans(session, since, findings)
    seals, reads = await _check_seals(session, since, findings)
    return Verification(
        since=since,
        last=chain.last,
        entries=chain.entries,
        checkpoints=chain.checkpoints,
        seals=seals,
        reads=reads,
        broken=findings.count,
        breaks=findings.told(),
    )


class _Findings:
    """The breaks found, few of each kind, however many there are."""

    def __init__(self) -> None:
        self.count = 0
        self._of_kind: Counter[Broken] = Counter()
        self._breaks: list[Break] = []

    def add(self, kind: Broken, seq: int, detail: str) -> None:
        self.count += 1
        self._of_kind[kind] += 1
        if self._of_kind[kind] <= MOST_OF_A_KIND:
            self._breaks.append(Break(kind, seq, detail))

    def told(self) -> tuple[Break, ...]:
        return tuple(sorted(self._breaks, key=lambda one: one.seq))


class _Chain:
    """Follows the entries.  A hash that does not fit is told once: the next entry is held against it as it stands."""

    def __init__(self, keys: PublicKeys, findings: _Findings, *, since: int, previous: bytes | None) -> None:
        self._keys = keys
        self._findings = findings
        self._expected = since
        self.previous = previous  # None where nobody can tell
        self.last = since - 1
        self.entries = 0
        self.checkpoints = 0

    def follow(
        self,
        seq: int,
        micros: str,
        kind: str,
        actor: str,
        subject: str,
        data: str,
        previous: bytes,
        own: bytes,
        token: str | None,
        noted: bytes | None,
    ) -> None:
        add = self._findings.add
        self.entries += 1
        if seq != self._expected:
            if seq < self._expected:
                add(Broken.ENTRY_UNEXPECTED, seq, f"the chain begins with entry {self._expected}")
                return
            gone = str(self._expected) if seq == self._expected + 1 else f"{self._expected} to {seq - 1}"
            add(Broken.ENTRY_MISSING, self._expected, f"{gone} not there")
            self.previous = None
        if self.previous is not None and previous != self.previous:
            add(Broken.LINK_BROKEN, seq, "it does not hold the hash of the entry before it")
        # A constraint may be gone as well, so a field may be nothing.
        if (
            None in (micros, kind, actor, subject, data, previous)
            or hashlib.sha256(entry_bytes(previous, seq, micros, kind, actor, subject, data)).digest() != own
        ):
            add(Broken.ENTRY_ALTERED, seq, "its hash is not that of what it says")
        if token is not None:
            self._compare(seq, own, token, noted)
        self.previous = own
        self.last = seq
        self._expected = seq + 1

    def _compare(self, seq: int, own: bytes, token: str, noted: bytes | None) -> None:
        self.checkpoints += 1
        try:
            told = checkpoints.read(token, self._keys)
        except BadCheckpoint as error:
            self._findings.add(Broken.CHECKPOINT_NOT_GENUINE, seq, f"{error.reason}: {error}")
            return
        if (told.seq, told.hash) != (seq, own) or noted != told.hash:
            self._findings.add(
                Broken.CHECKPOINT_DIFFERS, seq, f"its checkpoint is of entry {told.seq} with hash {told.hash.hex()}"
            )


def _kept(token: str | None, keys: PublicKeys, findings: _Findings) -> Checkpoint | None:
    if token is None:
        return None
    try:
        return checkpoints.read(token.strip(), keys)
    except BadCheckpoint as error:
        findings.add(Broken.CHECKPOINT_NOT_GENUINE, 0, f"the one kept elsewhere: {error.reason}: {error}")
        return None


async def _check_kept(session: AsyncSession, kept: Checkpoint, findings: _Findings) -> None:
    rows = (await session.execute(sa.select(AuditEntry.hash).where(AuditEntry.seq == kept.seq))).all()
    made = f"the one kept elsewhere, of {kept.made_at:%Y-%m-%d %H:%M:%S} UTC"
    if not rows:
        findings.add(Broken.CHECKPOINT_WITHOUT_ENTRY, kept.seq, f"{made}, is of an entry that is not there")
    elif rows[0].hash != kept.hash:
        findings.add(
            Broken.CHECKPOINT_DIFFERS, kept.seq, f"{made}, has another hash: the chain was written anew up to here"
        )


async def _check_head(session: AsyncSession, chain: _Chain, findings: _Findings) -> None:
    if not chain.entries and chain.previous is None:
        return  # that there is no such entry was told
    heads = (await session.execute(sa.select(AuditHead.seq, AuditHead.hash))).all()
    if len(heads) != 1:
        findings.add(Broken.HEAD_DIFFERS, chain.last, f"there are {len(heads)} heads")
    elif (heads[0].seq or 0) > chain.last:
        findings.add(
            Broken.ENTRY_MISSING, chain.last + 1, f"the head tells of entry {heads[0].seq}, the last is {chain.last}"
        )
    elif heads[0].seq != chain.last or (chain.previous is not None and heads[0].hash != chain.previous):
        findings.add(Broken.HEAD_DIFFERS, chain.last, f"the head tells of entry {heads[0].seq} or of another hash")


async def _check_orphans(session: AsyncSession, since: int, findings: _Findings) -> None:
    """Checkpoints and entries of seals without the row that belongs to them."""
    entry = sa.select(AuditEntry.seq).where(AuditEntry.seq == AuditCheckpoint.seq).exists()
    lone = sa.select(AuditCheckpoint.seq).where(AuditCheckpoint.seq >= since, ~entry).order_by(AuditCheckpoint.seq)
    for seq in await session.scalars(lone.limit(MOST_OF_A_KIND)):
        findings.add(Broken.CHECKPOINT_WITHOUT_ENTRY, seq, "there is a checkpoint of it, and no entry")
    seal = sa.select(ReadSeal.last_id).where(ReadSeal.entry_seq == AuditEntry.seq).exists()
    lone = sa.select(AuditEntry.seq).where(AuditEntry.kind == SEALED, AuditEntry.seq >= since, ~seal)
    for seq in await session.scalars(lone.order_by(AuditEntry.seq).limit(MOST_OF_A_KIND)):
        findings.add(Broken.SEAL_MISSING, seq, "its seal of reads is not there")


async def _check_seals(session: AsyncSession, since: int, findings: _Findings) -> tuple[int, int]:
    """Hold the seals against their entries and their reads; return how many there were of both.

    Reads are taken in the order of their ids up to the end of each seal, so one that stands between two seals counts
    as added to the second.
    """
    after = await sealed_up_to(session, before=since)
    end = await sealed_up_to(session)
    seals = reads = 0
    async with (
        aclosing(batches(session, READS, after=after, last=end, most=NO_LIMIT)) as some,
        aclosing(batches(session, _SEALS, since=since)) as sealed,
    ):
        rows = _Reads(some)
        async for batch in sealed:
            for first_id, last_id, count, digest, seq, kind, data in batch:
                seals += 1
                if first_id != after + 1:
                    findings.add(Broken.SEAL_OUT_OF_LINE, seq, f"its seal begins with read {first_id}, not {after + 1}")
                if kind is None:
                    findings.add(Broken.SEAL_WITHOUT_ENTRY, seq, f"reads up to {last_id} are sealed by no entry")
                elif kind != SEALED or data != _told(first_id, last_id, count, digest):
                    findings.add(Broken.SEAL_DIFFERS, seq, f"its seal of reads up to {last_id} says something else")
                found, computed = await rows.digest_up_to(last_id)
                reads += found
                if found != count:
                    wrong = Broken.READS_ADDED if found > (count or 0) else Broken.READS_MISSING
                    findings.add(wrong, seq, f"reads {first_id} to {last_id}: {found} instead of {count}")
                elif computed != digest:
                    findings.add(Broken.READS_ALTERED, seq, f"reads {first_id} to {last_id} are not those sealed")
                after = last_id
    return seals, reads


def _told(first_id: int, last_id: int, count: int, digest: bytes | None) -> str:
    return data_text({**seal_data(first_id=first_id, last_id=last_id, count=count, digest=digest or b"")})


class _Reads:
    """The rows of ``data_read`` by their ids, taken from one cursor seal by seal."""

    def __init__(self, some: AsyncIterator[Sequence[Any]]) -> None:
        self._some = some
        self._rows: Sequence[Any] = ()
        self._at = 0

    async def digest_up_to(self, last_id: int) -> tuple[int, bytes]:
        """How many rows follow up to an id, and the hash of them together."""
        digest, count = hashlib.sha256(), 0
        while True:
            if self._at == len(self._rows):
                self._rows, self._at = await anext(self._some, []), 0
            to = bisect_right(self._rows, last_id, lo=self._at, key=lambda row: row[0])
            digest.update(joined(self._rows[self._at : to]))
            count += to - self._at
            self._at = to
            if to < len(self._rows) or not self._rows:
                return count, digest.digest()


def joined(rows: Sequence[Any]) -> bytes:
    """Rows of :data:`READS` as they are hashed.  Nothing, where a constraint has gone, counts as an empty text."""
    return b"".join([read_bytes(row[0], row[1], *[field or "" for field in row[2:]]) for row in rows])
