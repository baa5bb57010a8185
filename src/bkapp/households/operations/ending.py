"""Ending a membership that began with an invitation: by the person, or by the head of the household.

An officer does it too, see :mod:`bkapp.households.operations.deciding`.  One that the population register states is
ended by its next answer and by nothing else.
"""

from datetime import date
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.operations import Caller
from bkapp.audit.operations import append
from bkapp.errors import DomainError, NotFound
from bkapp.households import queries
from bkapp.households.models import Membership
from bkapp.households.operations.asking import lock_person, person_of
from bkapp.households.operations.leaving import leave
from bkapp.households.operations.showing import NotInHousehold, require_head
from bkapp.households.rules import MemberSource, MemberStatus, settle_membership
from bkapp.identity.operations import tell

TOLD = "membership_ended"
"""The notice to who was ended by somebody else; its data are ``household`` (an id) and ``by`` (head or officer)."""


class ResidenceDecides(DomainError):
    """The residence register says that the person lives in the household; the police of the commune change that."""

    code = "residence_register_decides"
    title = "Thành viên hộ theo đăng ký cư trú. Mời bạn đến công an xã, phường để điều chỉnh"


async def leave_own(session: AsyncSession, caller: Caller, *, today: date) -> Membership:
    """Leave the household one was invited to, or take back that one waits to be in it."""
    person_id = person_of(caller)
    await lock_person(session, person_id)
    own = await queries.membership_of(session, person_id, lock=True)
    if own is None:
        raise NotInHousehold("You are in no household and wait to be in none.")
    await end_invited(session, own, caller, reason="left", today=today)
    return own


async def dismiss(session: AsyncSession, caller: Caller, membership_id: UUID, *, today: date) -> Membership:
    """End the membership of somebody who was invited into the household, by its head."""
    await lock_person(session, person_of(caller))
    head = await require_head(session, caller)
    membership = await locked_member(session, membership_id)
    if membership is None or membership.household_id != head.household_id:
        raise NotFound("There is no such member of your household.")
    await end_invited(session, membership, caller, by="head", reason="dismissed", today=today)
    return membership


async def locked_member(session: AsyncSession, membership_id: UUID) -> Membership | None:
    """A membership to end, with the person locked before it, as whoever changes their household does."""
    guess = await session.get(Membership, membership_id)
    if guess is None:
        return None
    await lock_person(session, guess.person_id)
    return await session.get_one(Membership, membership_id, with_for_update=True, populate_existing=True)


async def end_invited(
    session: AsyncSession, membership: Membership, caller: Caller, *, by: str = "", reason: str, today: date
) -> None:
    """End a locked membership; who is ended by somebody else (``by``) is told.

    When it was decided about stays as it was: from then on until now the person could see the home.
    """
    settle_membership(membership.status, MemberStatus.ENDED)
    if membership.source is not MemberSource.INVITATION:
        raise ResidenceDecides("The residence register says that this person lives in the household.")
    await leave(session, membership, actor=caller.id, reason=reason, today=today)
    household = str(membership.household_id)
    if by:
        await tell(session, membership.person_id, TOLD, household=household, by=by)
    await append(
        session, kind="membership_ended", actor=caller.id, subject=str(membership.person_id), household=household
    )
