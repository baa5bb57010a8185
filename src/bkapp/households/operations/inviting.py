"""Inviting somebody into a household.  Who takes an invitation up waits for an officer's word."""

from datetime import datetime, timedelta
from secrets import token_urlsafe
from uuid import UUID

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.operations import Caller
from bkapp.address.operations.placing import lock_household
from bkapp.audit.operations import append
from bkapp.errors import DomainError, NotFound, Unauthenticated
from bkapp.households import queries
from bkapp.households.models import Invitation, Membership
from bkapp.households.operations.asking import lock_person, person_of
from bkapp.households.operations.showing import require_head
from bkapp.households.rules import (
    INVITATION_LASTS,
    MOST_INVITATIONS,
    MemberRole,
    MemberSource,
    MemberStatus,
    Relation,
    hash_of,
)


class TooManyInvitations(DomainError):
    """The household has as many open invitations as it may have; revoke one or wait until one ends."""

    code = "too_many_invitations"
    title = "Hộ gia đình đang có quá nhiều lời mời chưa dùng"


class UnknownInvitation(NotFound):
    """There is no invitation with this token."""

    code = "invitation_unknown"
    title = "Lời mời không đúng"


class InvitationOver(DomainError):
    """The invitation was used or revoked, or its time is over; ``reason`` says which."""

    code = "invitation_over"
    title = "Lời mời này không còn dùng được"


class OwnInvitation(DomainError):
    """Who made an invitation cannot take it up."""

    code = "own_invitation"
    title = "Đây là lời mời do chính bạn tạo"


class AlreadyInHousehold(DomainError):
    """The person is in a household, or waits to be; ``same`` says whether it is the one that invites."""

    code = "already_in_household"
    title = "Bạn đã thuộc một hộ gia đình"


async def invite(session: AsyncSession, caller: Caller, *, relation: Relation, now: datetime) -> tuple[Invitation, str]:
    """Make an invitation; return it with its token, which is shown once and not kept."""
    await lock_person(session, person_of(caller))
    head = await require_head(session, caller)
    household_id = head.household_id
    await lock_household(session, household_id)
    count = await session.scalar(
        select(func.count())
        .select_from(Invitation)
        .where(
            Invitation.household_id == household_id,
            Invitation.used_at.is_(None),
            Invitation.revoked_at.is_(None),
            Invitation.expires_at > now,
        )
    )
    if (count or 0) >= MOST_INVITATIONS:
        raise TooManyInvitations(f"A household has at most {MOST_INVITATIONS} open invitations.", most=MOST_INVITATIONS)
    token = token_urlsafe(32)
    made = Invitation(
        household_id=household_id,
        invited_by=head.person_id,
        secret_hash=hash_of(token),
        relation=relation.value,
        expires_at=now + INVITATION_LASTS,
    )
    session.add(made)
    await session.flush()
    await append(session, kind="member_invited", actor=caller.id, subject=str(made.id), household=str(household_id))
    return made, token


async def revoke(session: AsyncSession, caller: Caller, invitation_id: UUID, *, now: datetime) -> None:
    """End an open invitation of the household.  Safe to repeat; one that was used stays used."""
    head = await require_head(session, caller)
    found = await session.get(Invitation, invitation_id, with_for_update=True, populate_existing=True)
    if found is None or found.household_id != head.household_id:
        raise NotFound("There is no such invitation of your household.")
    if found.used_at is not None:
        raise InvitationOver("The invitation was used.", reason="used")
    if found.revoked_at is None:
        found.revoked_at = now
        await session.flush()
        await append(
            session,
            kind="invitation_revoked",
            actor=caller.id,
            subject=str(found.id),
            household=str(found.household_id),
        )


async def accept(session: AsyncSession, caller: Caller, token: str, *, now: datetime) -> Membership:
    """Take an invitation up, once: from here on an officer decides whether the person belongs to the household."""
    person_id = person_of(caller)
    if not await lock_person(session, person_id):
        raise Unauthenticated("The person was erased meanwhile.")
    row = (
        await session.execute(
            update(Invitation)
            .where(
                Invitation.secret_hash == hash_of(token),
                Invitation.used_at.is_(None),
                Invitation.revoked_at.is_(None),
                Invitation.expires_at > now,
            )
            .values(used_at=now)
            .returning(Invitation.id, Invitation.household_id, Invitation.invited_by, Invitation.relation)
        )
    ).first()
    if row is None:
        raise await _why_not(session, token)
    invitation_id, household_id, invited_by, relation = row
    if invited_by == person_id:
        raise OwnInvitation("You made this invitation yourself.")
    if (present := await queries.membership_of(session, person_id)) is not None:
        raise AlreadyInHousehold("You are in a household.", same=present.household_id == household_id)
    made = Membership(
        household_id=household_id,
        person_id=person_id,
        role=MemberRole.MEMBER,
        relation=relation,
        source=MemberSource.INVITATION,
        status=MemberStatus.WAITING,
    )
    session.add(made)
    await session.flush()
    await append(
        session,
        kind="invitation_accepted",
        actor=caller.id,
        subject=str(person_id),
        household=str(household_id),
        invitation=str(invitation_id),
    )
    return made


async def _why_not(session: AsyncSession, token: str) -> DomainError:
    found = await session.scalar(
        select(Invitation).where(Invitation.secret_hash == hash_of(token)).execution_options(populate_existing=True)
    )
    if found is None:
        return UnknownInvitation("There is no invitation with this token.")
    reason = "used" if found.used_at else "revoked" if found.revoked_at else "expired"
    return InvitationOver(f"The invitation is {reason}.", reason=reason)


async def forget_old_invitations(session: AsyncSession, *, days: int = 30) -> int:
    """Delete invitations that ended more than ``days`` ago; return how many."""
    result = await session.execute(delete(Invitation).where(Invitation.expires_at < func.now() - timedelta(days=days)))
    return result.rowcount  # type: ignore[attr-defined,no-any-return]
