"""Tables of consents and of requests by data subjects."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from bkapp.db import Table
from bkapp.privacy.rules import Channel, RequestKind, RequestStatus

_NEW_ID = text("gen_random_uuid()")


class Consent(Table):
    """A person's yes to one purpose, in the words of one version of its text."""

    __tablename__ = "consent"
    __table_args__ = (
        Index(
            "uq_consent_person_id", "person_id", "purpose", unique=True, postgresql_where=text("withdrawn_at IS NULL")
        ),
        Index("ix_consent_person_id", "person_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=_NEW_ID)
    person_id: Mapped[UUID] = mapped_column(ForeignKey("person.id"))
    purpose: Mapped[str]
    text_version: Mapped[str]
    channel: Mapped[Channel]
    given_at: Mapped[datetime] = mapped_column(server_default=func.now())
    withdrawn_at: Mapped[datetime | None]
    withdrawn_channel: Mapped[Channel | None]


class SubjectRequest(Table):
    """What a person asked about their data, with the deadlines of the law."""

    __tablename__ = "subject_request"
    __table_args__ = (
        Index(None, "person_id"),
        Index("ix_subject_request_due_at", "due_at", postgresql_where=text("closed_at IS NULL")),
        Index("uq_subject_request_open", "person_id", "kind", unique=True, postgresql_where=text("closed_at IS NULL")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=_NEW_ID)
    person_id: Mapped[UUID] = mapped_column(ForeignKey("person.id"))
    kind: Mapped[RequestKind]
    status: Mapped[RequestStatus]
    details_cipher: Mapped[bytes | None]
    received_at: Mapped[datetime] = mapped_column(server_default=func.now())
    acknowledge_by: Mapped[datetime]
    acknowledged_at: Mapped[datetime | None]
    due_at: Mapped[datetime]
    extended_at: Mapped[datetime | None]
    extension_reason: Mapped[str | None]
    closed_at: Mapped[datetime | None]
    closed_by: Mapped[str | None]
    outcome: Mapped[str | None]
