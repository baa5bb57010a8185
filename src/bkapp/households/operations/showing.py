"""A household as its people see it."""

from datetime import date, datetime
from uuid import UUID

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.operations import Caller, record_read
from bkapp.address import queries as addresses
from bkapp.address.queries import Summary
from bkapp.errors import DomainError, Forbidden
from bkapp.households import queries
from bkapp.households.models import Membership
from bkapp.households.operations.asking import NameMismatch, NotRegistered, opened, person_of
from bkapp.households.providers import RegisterUnavailable
from bkapp.households.queries import ClaimRow
from bkapp.households.rules import ClaimStatus, Hindrance, MemberRole, MemberSource, MemberStatus, Outcome, is_adult
from bkapp.identity.models import Person
from bkapp.sealing import Keyring
from bkapp.units.queries import Unit


class NotInHousehold(DomainError):
    """The person is in no household that we know, or waits for an officer to confirm that they are."""

    code = "not_in_household"
    title = "Bạn chưa thuộc hộ gia đình nào trong hệ thống"


class NotHead(Forbidden):
    """Only the head of the household does this."""

    code = "not_head_of_household"
    title = "Việc này do chủ hộ thực hiện"


class MemberView(Struct, frozen=True):
    """Somebody of the household.  ``name`` is there for its head alone, who may end those ``can_end`` is true of."""

    id: UUID
    is_me: bool
    role: MemberRole
    relation: str | None
    status: MemberStatus
    name: str | None
    can_end: bool = False


class HouseholdView(Struct, frozen=True, kw_only=True):
    """The household a person is in; ``unit_code`` is the register's code of its commune, ``units`` that of today."""

    membership: Membership | None
    register: Outcome | None
    checked_at: datetime | None
    unit_code: str | None = None
    units: list[Unit] = []
    members: list[MemberView] = []
    addresses: list[Summary] = []
    claim: ClaimRow | None = None
    hindrance: Hindrance | None = None


async def show(
    session: AsyncSession, keyring: Keyring, caller: Caller, *, today: date, what: str, request_id: str
) -> HouseholdView:
    """What a person may see of their household; that they saw it is recorded.

    Raise what the register said of a person who is in none: :class:`NotRegistered`, :class:`NameMismatch`, or that it
    does not answer.
    """
    person_id = person_of(caller)
    last = await queries.last_asked(session, person_id)
    membership = await queries.membership_of(session, person_id)
    register = last.outcome if last else None
    checked_at = last.told_at if last else None
    if membership is None:
        _refuse_unknown(register)
        return HouseholdView(membership=None, register=register, checked_at=checked_at)
    await record_read(session, caller, subject=f"household:{membership.household_id}", what=what, request_id=request_id)
    view = HouseholdView(
        membership=membership, register=register, checked_at=checked_at, hindrance=Hindrance.NOT_CONFIRMED
    )
    if membership.status is not MemberStatus.ACTIVE:
        return view  # nothing of a household for somebody who says that they belong to it
    household_id = membership.household_id
    found = await queries.registered_units(session, household_id)
    code = await queries.open_address(session, household_id)
    home = await addresses.summary(session, code) if code else None
    claims = [claim for claim in await queries.claims_of(session, household_id) if claim.status is ClaimStatus.WAITING]
    return HouseholdView(
        membership=membership,
        register=register,
        checked_at=checked_at,
        unit_code=await queries.registered_code(session, household_id),
        units=found,
        members=await _members(session, keyring, caller, membership, what=what, request_id=request_id),
        addresses=[home] if home else [],
        claim=claims[0] if claims else None,
        hindrance=await _hindrance(
            session, keyring, person_id, today=today, here=bool(found), housed=home is not None, waiting=bool(claims)
        ),
    )


def _refuse_unknown(register: Outcome | None) -> None:
    match register:
        case Outcome.FOUND:
            return
        case Outcome.NOT_FOUND:
            raise NotRegistered("The population register knows nobody of this number; the commune's police can help.")
        case Outcome.MISMATCH:
            raise NameMismatch("The population register has another name or birth date for this number.")
        case _:
            raise RegisterUnavailable("The population register has not answered yet.", reason="no_answer")


async def _members(
    session: AsyncSession, keyring: Keyring, caller: Caller, own: Membership, *, what: str, request_id: str
) -> list[MemberView]:
    views = []
    for row in await queries.members(session, own.household_id):
        is_me = row.person_id == own.person_id
        name = None
        can_end = own.role is MemberRole.HEAD and row.source is MemberSource.INVITATION
        if own.role is MemberRole.HEAD and not is_me:
            name = name_of(keyring, row.person_id, row.name_cipher)
            await record_read(session, caller, subject=str(row.person_id), what=what, request_id=request_id)
        views.append(MemberView(row.id, is_me, row.role, row.relation, row.status, name, can_end))
    return views


async def _hindrance(
    session: AsyncSession, keyring: Keyring, person_id: UUID, *, today: date, here: bool, housed: bool, waiting: bool
) -> Hindrance | None:
    if waiting:
        return Hindrance.CLAIM_WAITING
    if housed:
        return Hindrance.HOUSED
    if not here:
        return Hindrance.REGISTERED_ELSEWHERE
    birth = await birth_of(session, keyring, person_id)
    return None if birth is not None and is_adult(birth, today) else Hindrance.MINOR


async def birth_of(session: AsyncSession, keyring: Keyring, person_id: UUID) -> date | None:
    """When a person was born, as their sign-in said."""
    person = await session.get_one(Person, person_id)
    text = opened(keyring, person.birth_cipher, f"person.birth:{person_id}")
    return date.fromisoformat(text) if text else None


def name_of(keyring: Keyring | None, person_id: UUID, sealed: bytes | None) -> str | None:
    """A person's name.  Whoever calls this records the read."""
    return opened(keyring, sealed, f"person.name:{person_id}") if keyring else None


async def require_member(session: AsyncSession, caller: Caller) -> Membership:
    """The confirmed membership of a person, whose household they may act for; raise :class:`NotInHousehold`."""
    membership = await queries.membership_of(session, person_of(caller))
    if membership is None or membership.status is not MemberStatus.ACTIVE:
        raise NotInHousehold("You are in no household that is confirmed.")
    return membership


async def require_head(session: AsyncSession, caller: Caller) -> Membership:
    """The same of its head; raise :class:`NotHead`."""
    membership = await require_member(session, caller)
    if membership.role is not MemberRole.HEAD:
        raise NotHead("Only the head of the household does this.")
    return membership
