"""Tables of access: API keys and reads of personal data."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Identity, Index, func
from sqlalchemy.orm import Mapped, mapped_column

from bkapp.access.rules import Role
from bkapp.db import Table


class ApiKey(Table):
    __tablename__ = "api_key"

    id: Mapped[str] = mapped_column(primary_key=True)
    secret_hash: Mapped[bytes]
    label: Mapped[str]
    role: Mapped[Role]
    unit_id: Mapped[int | None] = mapped_column(ForeignKey("admin_unit.id"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class DataRead(Table):
    """Somebody read what is not public.  Kept so that a person can be told who saw their data (Luật 91/2025)."""

    __tablename__ = "data_read"
    __table_args__ = (Index(None, "subject", "read_at"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    read_at: Mapped[datetime] = mapped_column(server_default=func.now())
    reader: Mapped[str]  # the id of a key or of a person
    subject: Mapped[str]
    what: Mapped[str]
    request_id: Mapped[str]
