"""Leaving a household: because the register names another, the membership is ended, or the person is erased."""

from datetime import date
from uuid import UUID

from sqlalchemy import exists, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.operations import Caller
from bkapp.access.rules import Role
from bkapp.address import operations as addresses
from bkapp.address.models import Dwelling, Household
from bkapp.address.operations.placing import lock_household
from bkapp.address.rules import Status
from bkapp.audit.operations import append
from bkapp.households.models import AddressClaim, Invitation, Membership
from bkapp.households.rules import ClaimStatus, MemberStatus, settle_claim, settle_membership
from bkapp.http import today

SOURCE = "csdldc"
"""The register of a household that is known by its head's number there, as an HMAC."""
# What the feed of addresses says of an end.  It cannot be changed, so no words of a person's go there.
WITHDRAWN = "household withdrew its claim"


async def leave(session: AsyncSession, membership: Membership, *, actor: str, reason: str, today: date) -> None:
    """End a membership, with what the person asked for in the household's name and nobody has decided."""
    await lock_household(session, membership.household_id)
    waiting = await session.scalars(
        select(AddressClaim)
        .where(
            AddressClaim.household_id == membership.household_id,
            AddressClaim.person_id == membership.person_id,
            AddressClaim.status == ClaimStatus.WAITING,
        )
        .with_for_update()
    )
    for claim in waiting.all():
        await drop_claim(session, claim, actor=actor, today=today)
    await session.execute(
        update(Invitation)
        .where(
            Invitation.household_id == membership.household_id,
            Invitation.invited_by == membership.person_id,
            Invitation.used_at.is_(None),
            Invitation.revoked_at.is_(None),
        )
        .values(revoked_at=func.now())
    )
    membership.status = settle_membership(membership.status, MemberStatus.ENDED)
    membership.ended_at = (await session.execute(select(func.clock_timestamp()))).scalar_one()
    membership.reason = reason
    await session.flush()


async def drop_claim(session: AsyncSession, claim: AddressClaim, *, actor: str, today: date) -> None:
    """Withdraw a locked claim; the address that was proposed with it is rejected."""
    claim.status = settle_claim(claim.status, ClaimStatus.WITHDRAWN)
    claim.decided_at = (await session.execute(select(func.clock_timestamp()))).scalar_one()
    claim.decided_by = actor
    await session.flush()
    if claim.is_new:
        await reject_proposal(session, claim.code, actor=actor, reason=WITHDRAWN, today=today)


async def reject_proposal(session: AsyncSession, code: str, *, actor: str, reason: str, today: date) -> None:
    """Reject an address that was proposed with a claim, unless somebody has decided about it already."""
    dwelling = await session.get_one(Dwelling, code, with_for_update={"key_share": True}, populate_existing=True)
    if dwelling.status is Status.PROPOSED:
        # In the household's name: what it proposed is its own to take back, and nothing else.
        hand = Caller(id=actor, role=Role.CITIZEN, unit_ids=frozenset({dwelling.unit_id}))
        await addresses.reject(session, hand, code, reason=reason, today=today)


async def forget_person(session: AsyncSession, person_id: UUID, *, actor: str = "erasure") -> None:
    """Take an erased person out of their household.  What stays names them by our id alone.

    Memberships end and lose what they say of the person, waiting claims are withdrawn, open invitations revoked.
    Questions to the register stay: they hold ids of ours.  A household whose last known member this was is no longer
    found by its head's number; its address stays where it is.  Safe to repeat.
    """
    memberships = await session.scalars(select(Membership).where(Membership.person_id == person_id).with_for_update())
    ended = []
    for membership in memberships.all():
        if membership.status in {MemberStatus.WAITING, MemberStatus.ACTIVE}:
            await leave(session, membership, actor=actor, reason="erased", today=today())
            ended.append(membership.household_id)
        membership.relation = membership.unit_code = None
        membership.reason = "erased"
    await session.execute(update(AddressClaim).where(AddressClaim.person_id == person_id).values(reason=None))
    await session.execute(update(Invitation).where(Invitation.invited_by == person_id).values(relation=None))
    await session.flush()
    for household_id in ended:
        others = exists().where(
            Membership.household_id == household_id,
            Membership.status.in_({MemberStatus.WAITING, MemberStatus.ACTIVE}),
        )
        await session.execute(
            update(Household)
            .where(Household.id == household_id, Household.source == SOURCE, ~others)
            .values(source_id=f"erased-{household_id}")
        )
    for household_id in ended:
        await append(session, kind="membership_ended", actor=actor, subject=str(person_id), household=str(household_id))
