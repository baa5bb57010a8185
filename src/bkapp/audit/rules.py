"""How entries and reads are written before they are hashed, and the ways in which a chain can be broken.

Pure: no clock, no database.  PostgreSQL hashes an entry when it is added (``audit_digest`` in migration 0007); this is
the same form once more, written from its description and not from that code, so that the two check each other.
"""

import hashlib
from enum import StrEnum

import msgspec

GENESIS = hashlib.sha256(b"bkapp audit").digest()
"""What the first entry follows."""

SEALED = "reads_sealed"
"""The kind of an entry that seals a stretch of reads."""


class Broken(StrEnum):
    """What can be wrong with a chain."""

    ENTRY_MISSING = "entry_missing"
    ENTRY_UNEXPECTED = "entry_unexpected"  # numbered below one that should be the first
    ENTRY_ALTERED = "entry_altered"  # its hash is not that of what it says
    LINK_BROKEN = "link_broken"  # it does not follow the entry before it
    HEAD_DIFFERS = "head_differs"
    CHECKPOINT_NOT_GENUINE = "checkpoint_not_genuine"
    CHECKPOINT_DIFFERS = "checkpoint_differs"  # it is genuine, and of another chain
    CHECKPOINT_WITHOUT_ENTRY = "checkpoint_without_entry"
    SEAL_MISSING = "seal_missing"
    SEAL_DIFFERS = "seal_differs"  # from its entry
    SEAL_WITHOUT_ENTRY = "seal_without_entry"
    SEAL_OUT_OF_LINE = "seal_out_of_line"  # it does not begin where the one before it ends
    READS_MISSING = "reads_missing"
    READS_ADDED = "reads_added"
    READS_ALTERED = "reads_altered"


def entry_bytes(previous: bytes, seq: int, micros: int | str, *fields: str) -> bytes:
    """An entry as it is hashed: lines with the hash before it in hex, its number, its time, its fields.

    ``micros`` are microseconds since 1970 in decimal; ``fields`` are kind, actor, subject and data, each led by its
    length in bytes, so that no two entries are written alike.
    """
    lines = [previous.hex(), str(seq), str(micros)]
    for field in fields:
        lines.append(f"{len(field.encode())}:{field}")  # noqa: PERF401  (a comprehension of one field is slower here)
    return "\n".join(lines).encode()


def read_bytes(row_id: int, micros: int | str, *fields: str) -> bytes:
    """A read as it is hashed with those before and behind it; every line ends, so that rows do not run together.

    ``fields`` are reader, subject, what and request id.
    """
    lines = [str(row_id), str(micros)]
    for field in fields:
        lines.append(f"{len(field.encode())}:{field}")  # noqa: PERF401
    lines.append("")
    return "\n".join(lines).encode()


def seal_data(*, first_id: int, last_id: int, count: int, digest: bytes) -> dict[str, int | str]:
    """What the entry of a seal holds: ids of ``data_read``, how many rows they have, the hash of them in hex."""
    return {"first_id": first_id, "last_id": last_id, "count": count, "digest": digest.hex()}


def data_text(data: dict[str, object]) -> str:
    """The data of an entry as it is kept: JSON with its names in order, so that it is written in one way only."""
    return msgspec.json.encode(data, order="deterministic").decode()
