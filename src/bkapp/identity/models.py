"""Tables of people, their sign-ins and what they are told."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from bkapp.access.rules import Role
from bkapp.db import Table
from bkapp.identity.rules import EndReason, SignInKind

_NEW_ID = text("gen_random_uuid()")


class Person(Table):
    """Somebody who has signed in.  What says who they are is encrypted; an erased person keeps the id alone."""

    __tablename__ = "person"
    __table_args__ = (UniqueConstraint("number_hmac"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=_NEW_ID)
    number_hmac: Mapped[bytes | None]
    number_cipher: Mapped[bytes | None]
    name_cipher: Mapped[bytes | None]
    birth_cipher: Mapped[bytes | None]
    phone_cipher: Mapped[bytes | None]
    level: Mapped[int]  # identity assurance of the last sign-in, 0 to 3
    is_demo: Mapped[bool] = mapped_column(server_default="false")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    restricted_at: Mapped[datetime | None]
    erased_at: Mapped[datetime | None]


class EidSubject(Table):
    """Whom an identity provider means by a subject of its own."""

    __tablename__ = "eid_subject"
    __table_args__ = (Index(None, "person_id"),)

    issuer: Mapped[str] = mapped_column(primary_key=True)
    subject_hmac: Mapped[bytes] = mapped_column(primary_key=True)
    person_id: Mapped[UUID] = mapped_column(ForeignKey("person.id"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class RoleGrant(Table):
    """An office that a person holds: officer of a unit, monitoring, or the province's registrar and data officer."""

    __tablename__ = "role_grant"
    __table_args__ = (
        Index("uq_role_grant_person_id", "person_id", unique=True, postgresql_where=text("ended_at IS NULL")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=_NEW_ID)
    person_id: Mapped[UUID] = mapped_column(ForeignKey("person.id"))
    role: Mapped[Role]
    unit_id: Mapped[int | None] = mapped_column(ForeignKey("admin_unit.id"))
    granted_at: Mapped[datetime] = mapped_column(server_default=func.now())
    granted_by: Mapped[str]
    expires_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]


class SignInAttempt(Table):
    """A sign-in on its way to the provider and back: minutes long, bound to one browser, used once."""

    __tablename__ = "sign_in_attempt"
    __table_args__ = (Index(None, "expires_at"),)

    state_hash: Mapped[bytes] = mapped_column(primary_key=True)
    issuer: Mapped[str]
    nonce: Mapped[str]
    verifier: Mapped[str]
    browser_hash: Mapped[bytes]
    next: Mapped[str]
    native_redirect: Mapped[str | None]
    native_challenge: Mapped[str | None]
    native_state: Mapped[str | None]
    max_age: Mapped[int | None]
    acr: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class SignIn(Table):
    """A session: one device of a person, until it signs out or its time is over."""

    __tablename__ = "sign_in"
    __table_args__ = (
        UniqueConstraint("secret_hash"),
        Index(None, "person_id"),
        Index("ix_sign_in_provider_sid", "issuer", "provider_sid"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=_NEW_ID)
    person_id: Mapped[UUID] = mapped_column(ForeignKey("person.id"))
    kind: Mapped[SignInKind]
    secret_hash: Mapped[bytes | None]
    level: Mapped[int]
    acr: Mapped[str | None]
    authenticated_at: Mapped[datetime]
    issuer: Mapped[str]
    provider_sid: Mapped[str | None]
    device: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    seen_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    end_reason: Mapped[EndReason | None]


class RefreshToken(Table):
    """One refresh token of a native sign-in; the family is the sign-in, and its last token the one not rotated."""

    __tablename__ = "refresh_token"
    __table_args__ = (
        Index("uq_refresh_token_sign_in_id", "sign_in_id", unique=True, postgresql_where=text("rotated_at IS NULL")),
        Index("ix_refresh_token_sign_in_id", "sign_in_id"),
    )

    hash: Mapped[bytes] = mapped_column(primary_key=True)
    sign_in_id: Mapped[UUID] = mapped_column(ForeignKey("sign_in.id", ondelete="CASCADE"))
    issued_at: Mapped[datetime] = mapped_column(server_default=func.now())
    rotated_at: Mapped[datetime | None]
    successor_cipher: Mapped[bytes | None]


class NativeCode(Table):
    """What a native app changes for its first tokens, with the verifier of its challenge (RFC 7636, RFC 8252)."""

    __tablename__ = "native_code"

    hash: Mapped[bytes] = mapped_column(primary_key=True)
    sign_in_id: Mapped[UUID] = mapped_column(ForeignKey("sign_in.id", ondelete="CASCADE"))
    challenge: Mapped[str]
    redirect: Mapped[str]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class UsedToken(Table):
    """A token that is good once and has been used."""

    __tablename__ = "used_token"

    issuer: Mapped[str] = mapped_column(primary_key=True)
    jti: Mapped[str] = mapped_column(primary_key=True)
    expires_at: Mapped[datetime]


class Notice(Table):
    """What a person is told when they next look: a new device, a stolen token that was used."""

    __tablename__ = "notice"
    __table_args__ = (Index(None, "person_id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=_NEW_ID)
    person_id: Mapped[UUID] = mapped_column(ForeignKey("person.id"))
    kind: Mapped[str]
    data: Mapped[dict[str, Any]] = mapped_column(JSONB)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    read_at: Mapped[datetime | None]
