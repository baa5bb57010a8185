"""Tables of the audit chain.  PostgreSQL itself numbers and chains the entries, and refuses to change them."""

from datetime import datetime

from sqlalchemy import BigInteger, Boolean, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from bkapp.db import Table


class AuditHead(Table):
    """The number and the hash of the last entry."""

    __tablename__ = "audit_head"

    single: Mapped[bool] = mapped_column(Boolean, primary_key=True, server_default="true")
    seq: Mapped[int] = mapped_column(BigInteger)
    hash: Mapped[bytes]


class AuditEntry(Table):
    """One thing that somebody did.  ``data`` is JSON as it was written, and names nobody but by an id of ours."""

    __tablename__ = "audit_entry"
    __table_args__ = (Index(None, "subject", "seq"),)

    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    at: Mapped[datetime]
    kind: Mapped[str]
    actor: Mapped[str]
    subject: Mapped[str]
    data: Mapped[str]
    previous: Mapped[bytes]
    hash: Mapped[bytes]


class AuditCheckpoint(Table):
    """The hash of an entry, signed, so that a chain written anew is seen."""

    __tablename__ = "audit_checkpoint"

    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    made_at: Mapped[datetime]
    hash: Mapped[bytes]
    token: Mapped[str]


class ReadSeal(Table):
    """A stretch of ``data_read`` whose digest is an entry of the chain."""

    __tablename__ = "read_seal"

    last_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    first_id: Mapped[int] = mapped_column(BigInteger)
    count: Mapped[int] = mapped_column(BigInteger)
    digest: Mapped[bytes]
    entry_seq: Mapped[int] = mapped_column(ForeignKey("audit_entry.seq"))
