"""Tables of members, claims, invitations and questions to the population register."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from bkapp.db import Table
from bkapp.households.rules import ClaimStatus, MemberRole, MemberSource, MemberStatus, Outcome

_NEW_ID = text("gen_random_uuid()")


class Membership(Table):
    """A person in a household, as the population register or an invitation says."""

    __tablename__ = "membership"
    __table_args__ = (
        Index(
            "uq_membership_person_id",
            "person_id",
            unique=True,
            postgresql_where=text("status IN ('waiting', 'active')"),
        ),
        Index(
            "uq_membership_head",
            "household_id",
            unique=True,
            postgresql_where=text("status = 'active' AND role = 'head'"),
        ),
        Index(None, "household_id"),
        Index("ix_membership_invited", "status", "created_at", "id", postgresql_where=text("source = 'invitation'")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=_NEW_ID)
    household_id: Mapped[UUID] = mapped_column(ForeignKey("household.id"))
    person_id: Mapped[UUID] = mapped_column(ForeignKey("person.id"))
    role: Mapped[MemberRole]
    relation: Mapped[str | None]  # to the head, as the register words it
    source: Mapped[MemberSource]
    status: Mapped[MemberStatus]
    unit_code: Mapped[str | None]  # commune of permanent residence, as the register has it
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    checked_at: Mapped[datetime | None]  # when the population register last said so
    decided_at: Mapped[datetime | None]
    decided_by: Mapped[str | None]
    reason: Mapped[str | None]
    ended_at: Mapped[datetime | None]


class AddressClaim(Table):
    """A household says that an address is theirs: one that is there, or one proposed with the claim (``is_new``)."""

    __tablename__ = "address_claim"
    __table_args__ = (
        Index(
            "uq_address_claim_household_id", "household_id", unique=True, postgresql_where=text("status = 'waiting'")
        ),
        Index(None, "status", "created_at", "id"),
        Index(None, "person_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=_NEW_ID)
    household_id: Mapped[UUID] = mapped_column(ForeignKey("household.id"))
    person_id: Mapped[UUID] = mapped_column(ForeignKey("person.id"))
    code: Mapped[str] = mapped_column(ForeignKey("dwelling.code"))
    is_new: Mapped[bool]
    status: Mapped[ClaimStatus]
    unit_id: Mapped[int] = mapped_column(ForeignKey("admin_unit.id"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    decided_at: Mapped[datetime | None]
    decided_by: Mapped[str | None]
    reason: Mapped[str | None]


class Invitation(Table):
    """A head's word that somebody belongs to the household; its secret is handed over and not kept."""

    __tablename__ = "invitation"
    __table_args__ = (UniqueConstraint("secret_hash"), Index(None, "household_id"))

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=_NEW_ID)
    household_id: Mapped[UUID] = mapped_column(ForeignKey("household.id"))
    invited_by: Mapped[UUID] = mapped_column(ForeignKey("person.id"))
    secret_hash: Mapped[bytes]
    relation: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class PopulationQuery(Table):
    """One question to the population register: who asked about whom, when and what for."""

    __tablename__ = "population_query"
    __table_args__ = (Index(None, "person_id"),)

    request_id: Mapped[str] = mapped_column(primary_key=True)
    person_id: Mapped[UUID] = mapped_column(ForeignKey("person.id"))
    asked_by: Mapped[str]
    purpose: Mapped[str]
    asked_at: Mapped[datetime] = mapped_column(server_default=func.now())
    answered_at: Mapped[datetime | None]
    outcome: Mapped[Outcome | None]
