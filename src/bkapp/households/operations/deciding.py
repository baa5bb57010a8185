"""What an officer decides: whether an address is a household's, whether somebody belongs to it."""

from datetime import date
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.operations import Caller, OutsideScope, require_reach
from bkapp.address import changes
from bkapp.address import operations as addresses
from bkapp.address.changes import Changed
from bkapp.address.models import Dwelling
from bkapp.address.operations.placing import link, lock_household
from bkapp.address.rules import Change, Status, tidy
from bkapp.audit.operations import append
from bkapp.errors import FieldError, Forbidden, Invalid, NotFound
from bkapp.households import queries
from bkapp.households.models import AddressClaim, Membership
from bkapp.households.operations.claiming import ClaimOvertaken, locked_claim
from bkapp.households.operations.ending import end_invited, locked_member
from bkapp.households.operations.leaving import reject_proposal
from bkapp.households.rules import ClaimStatus, MemberStatus, settle_claim, settle_membership

# What the feed of addresses says of a refusal; the officer's own words stay with the claim, where they can be erased.
REFUSED = "the household's claim was refused"


class OwnHousehold(Forbidden):
    """An officer does not decide about their own household; a colleague does."""

    code = "own_household"
    title = "Cán bộ không tự xử lý việc của hộ mình"


async def confirm_claim(session: AsyncSession, caller: Caller, claim_id: UUID, *, today: date) -> AddressClaim:
    """The address is the household's: a proposed one is issued, in one that was there the household moves in."""
    claim, dwelling = await _claim_to_decide(session, caller, claim_id)
    claim.status = settle_claim(claim.status, ClaimStatus.CONFIRMED)
    await _decided(session, claim, caller)
    if claim.is_new and dwelling.status is Status.PROPOSED:
        await addresses.issue(session, caller, dwelling.code)
    elif dwelling.status is not Status.CURRENT:
        raise ClaimOvertaken(f"The address is {dwelling.status}; refuse the claim.", address=dwelling.code)
    elif await queries.open_address(session, claim.household_id) != dwelling.code:
        await _move_in(session, caller, dwelling.code, claim.household_id, today=today)
    await _log(session, "address_claim_confirmed", caller, claim)
    return claim


async def refuse_claim(
    session: AsyncSession, caller: Caller, claim_id: UUID, *, reason: str, today: date
) -> AddressClaim:
    """The address is not the household's; one that was proposed with the claim is rejected."""
    claim, dwelling = await _claim_to_decide(session, caller, claim_id)
    claim.status = settle_claim(claim.status, ClaimStatus.REFUSED)
    claim.reason = _in_words(reason)
    await _decided(session, claim, caller)
    if claim.is_new:
        await reject_proposal(session, dwelling.code, actor=caller.id, reason=REFUSED, today=today)
    await _log(session, "address_claim_refused", caller, claim)
    return claim


async def confirm_member(session: AsyncSession, caller: Caller, membership_id: UUID) -> Membership:
    """Somebody who took up an invitation belongs to the household."""
    membership = await _member_to_decide(session, caller, membership_id)
    membership.status = settle_membership(membership.status, MemberStatus.ACTIVE)
    await _decided(session, membership, caller)
    await _log_member(session, "membership_confirmed", caller, membership)
    return membership


async def refuse_member(session: AsyncSession, caller: Caller, membership_id: UUID, *, reason: str) -> Membership:
    """Somebody who took up an invitation does not belong to the household."""
    membership = await _member_to_decide(session, caller, membership_id)
    membership.status = settle_membership(membership.status, MemberStatus.REFUSED)
    membership.reason = _in_words(reason)
    await _decided(session, membership, caller)
    await _log_member(session, "membership_refused", caller, membership)
    return membership


async def end_member(
    session: AsyncSession, caller: Caller, membership_id: UUID, *, reason: str, today: date
) -> Membership:
    """Somebody who was invited belongs to the household no more, or should not have been in it."""
    await locked_member(session, membership_id)
    membership = await _member_to_decide(session, caller, membership_id)
    await end_invited(session, membership, caller, by="officer", reason=_in_words(reason), today=today)
    return membership


def _in_words(reason: str) -> str:
    plain = tidy(reason)
    if plain is None:
        raise Invalid("A decision against somebody says why.", [FieldError("/reason", "nothing can be read in it")])
    return plain


async def _claim_to_decide(session: AsyncSession, caller: Caller, claim_id: UUID) -> tuple[AddressClaim, Dwelling]:
    """A claim and its address, locked in the order in which households lock them too."""
    guess = await session.get(AddressClaim, claim_id)
    if guess is None:
        raise NotFound("There is no such claim.")
    dwelling = await session.get_one(Dwelling, guess.code)
    require_reach(caller, dwelling.unit_id)
    await lock_household(session, guess.household_id)
    claim = await locked_claim(session, claim_id)
    await _refuse_own(session, caller, claim.household_id)
    dwelling = (await changes.lock(session, [claim.code]))[claim.code]
    require_reach(caller, dwelling.unit_id)
    return claim, dwelling


async def _member_to_decide(session: AsyncSession, caller: Caller, membership_id: UUID) -> Membership:
    membership = await session.get(Membership, membership_id, with_for_update=True, populate_existing=True)
    if membership is None:
        raise NotFound("There is no such membership.")
    charge = await queries.units_in_charge(session, membership.household_id)
    if caller.unit_ids is not None and not any(caller.reaches(unit_id) for unit_id in charge):
        raise OutsideScope("Your key does not cover the commune of this household.")
    await _refuse_own(session, caller, membership.household_id)
    if membership.person_id == caller.person:
        raise OwnHousehold("Somebody else decides about your own membership.")
    return membership


async def _refuse_own(session: AsyncSession, caller: Caller, household_id: UUID) -> None:
    if caller.person is None:
        return
    own = await queries.membership_of(session, caller.person)
    if own is not None and own.household_id == household_id:
        raise OwnHousehold("Somebody else decides about your own household.")


async def _move_in(session: AsyncSession, caller: Caller, code: str, household_id: UUID, *, today: date) -> None:
    """A household that lives nowhere moves into a locked address."""
    await link(session, code, household_id, since=today)
    dwelling = (await changes.lock(session, [code]))[code]
    await changes.touch(session, dwelling)
    await changes.append(session, [Changed(code, Change.HOUSEHOLD_MOVED_IN, today)], actor=caller.id)


async def _decided(session: AsyncSession, row: AddressClaim | Membership, caller: Caller) -> None:
    row.decided_at = (await session.execute(select(func.clock_timestamp()))).scalar_one()
    row.decided_by = caller.id
    await session.flush()


async def _log(session: AsyncSession, kind: str, caller: Caller, claim: AddressClaim) -> None:
    await append(
        session,
        kind=kind,
        actor=caller.id,
        subject=str(claim.id),
        household=str(claim.household_id),
        address=claim.code,
    )


async def _log_member(session: AsyncSession, kind: str, caller: Caller, membership: Membership) -> None:
    await append(
        session,
        kind=kind,
        actor=caller.id,
        subject=str(membership.person_id),
        household=str(membership.household_id),
    )
