"""Adding to the audit chain, sealing reads into it, signing how far it is."""

import asyncio
import hashlib
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.audit import queries
from bkapp.audit.checkpoints import Checkpoint, Keys
from bkapp.audit.models import AuditCheckpoint, ReadSeal
from bkapp.audit.queries import CheckpointRow
from bkapp.audit.rules import SEALED, data_text, seal_data
from bkapp.errors import DomainError

SETTLED = timedelta(minutes=10)
"""How old a read is when it is sealed."""
MOST_READS = 200_000  # in one seal
PATIENCE = 30.0  # seconds in which those who are recording reads have to end
_SEALING = 7236121  # the advisory lock of who seals

_APPEND = sa.text(
    "INSERT INTO audit_entry (kind, actor, subject, data) VALUES (:kind, :actor, :subject, :data) RETURNING seq"
)
_OLD_ENOUGH = sa.text("""
    SELECT id FROM data_read WHERE id > :after AND read_at < now() - CAST(:settled AS interval)
    ORDER BY id DESC LIMIT 1""")
_WRITERS = sa.text("""
    SELECT virtualtransaction FROM pg_locks
    WHERE locktype = 'relation' AND relation = 'data_read'::regclass AND mode = 'RowExclusiveLock' AND granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND pid IS DISTINCT FROM pg_backend_pid()""")


class ChainCut(DomainError):
    """The audit chain ends before an entry that has a checkpoint: `bkapp audit verify` tells more."""

    code = "audit_chain_cut"
    title = "Nhật ký kiểm toán không còn nguyên vẹn"


async def append(session: AsyncSession, *, kind: str, actor: str, subject: str, **data: Any) -> int:
    """Add an entry to the chain, as part of this transaction; return its number.

    ``actor`` and ``subject`` are ids: of a person, a key, an address, or the name of a task of ours.  ``data`` must
    not say who somebody is.  Others who append wait until this transaction ends, so append last.
    """
    entry = {"kind": kind, "actor": actor, "subject": subject, "data": data_text(data)}
    return int((await session.execute(_APPEND, entry)).scalar_one())


async def seal_reads(
    session: AsyncSession, *, settled: timedelta = SETTLED, most: int = MOST_READS, patience: float = PATIENCE
) -> int:
    """Seal the reads that follow those sealed, as part of this transaction; return how many, 0 if there were none.

    A seal is an entry of the chain with the ids it covers, how many rows they have and the hash of these.  A row that
    came into a sealed stretch afterwards would look like one that somebody forged, and ids are no order of commits: a
    transaction takes its id when it inserts and may commit long after others with higher ones.  So first the last id
    to seal is chosen, and then everybody is waited for who holds the lock that an INSERT into ``data_read`` takes
    before it draws an id and keeps until its transaction has ended.  Whoever takes the lock later draws a higher id
    (ids are not cached by connections), so after that nothing can come in below.  Age proves nothing, because a
    transaction may be as old as it likes; it only makes a wait rare.  Nobody waits for us: no lock on the table is
    asked for.  If somebody does not end within ``patience`` seconds nothing is sealed, and the next time tries again.

    Each statement has to see what was committed before it (READ COMMITTED, which is what sessions have).
    """
    if not await session.scalar(sa.select(sa.func.pg_try_advisory_xact_lock(_SEALING))):
        return 0
    after = await queries.sealed_up_to(session)
    end = await session.scalar(_OLD_ENOUGH, {"after": after, "settled": settled})
    if end is None or not await _all_recorded(session, patience):
        return 0
    digest, count, last = hashlib.sha256(), 0, after
    async for rows in queries.batches(session, queries.READS, after=after, last=end, most=most):
        digest.update(queries.joined(rows))
        count += len(rows)
        last = rows[-1][0]
    seal: dict[str, Any] = {"first_id": after + 1, "last_id": last, "count": count, "digest": digest.digest()}
    entry = await append(session, kind=SEALED, actor="audit.seal_reads", subject="data_read", **seal_data(**seal))
    await session.execute(sa.insert(ReadSeal).values(**seal, entry_seq=entry))
    return count


async def _all_recorded(session: AsyncSession, patience: float) -> bool:
    """Wait until the transactions that are writing reads now have ended; False if one of them does not."""
    until = asyncio.get_running_loop().time() + patience
    writers = set(await session.scalars(_WRITERS))
    while writers:
        if asyncio.get_running_loop().time() > until:
            return False
        await asyncio.sleep(0.05)
        writers &= set(await session.scalars(_WRITERS))
    return True


async def make_checkpoint(session: AsyncSession, keys: Keys, *, issuer: str, now: datetime) -> CheckpointRow | None:
    """Sign how far the chain is, as part of this transaction; the same again if it has not grown, None if empty."""
    seq, digest = await queries.last_entry(session)
    newest = await queries.newest_checkpoint(session)
    if newest is not None and newest.seq > seq:
        raise ChainCut(f"There is a checkpoint of entry {newest.seq}, and the chain ends with entry {seq}.")
    if seq == 0 or (newest is not None and newest.seq == seq):
        return newest
    made_at = now.replace(microsecond=0)
    token = keys.sign(Checkpoint(issuer=issuer, seq=seq, hash=digest, made_at=made_at))
    statement = insert(AuditCheckpoint).values(seq=seq, made_at=made_at, hash=digest, token=token)
    await session.execute(statement.on_conflict_do_nothing())  # another one may have been quicker
    return await queries.newest_checkpoint(session)
