"""Claiming an address for a household, and taking the claim back."""

from datetime import date
from typing import Any
from uuid import UUID

from msgspec import Struct
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.operations import Caller
from bkapp.access.rules import Role
from bkapp.address import changes, codes
from bkapp.address import operations as addresses
from bkapp.address.models import Dwelling, Household
from bkapp.address.operations import Door, HouseholdRef, Point, Refused
from bkapp.address.operations.placing import AddressHasHousehold, HouseholdHasAddress, lock_household, take_turn
from bkapp.address.operations.reading import NotIssued, read_code
from bkapp.address.rules import Status
from bkapp.audit.operations import append
from bkapp.errors import DomainError, FieldError, Forbidden, Invalid, NotFound
from bkapp.households import queries
from bkapp.households.models import AddressClaim, Membership
from bkapp.households.operations.asking import lock_person, person_of
from bkapp.households.operations.leaving import drop_claim
from bkapp.households.operations.showing import birth_of, require_member
from bkapp.households.rules import ClaimStatus, MemberRole, is_adult, settle_claim
from bkapp.sealing import Keyring
from bkapp.units import queries as units
from bkapp.units.queries import Unit


class TooYoung(Forbidden):
    """Who claims an address for a household is 18 or older."""

    code = "too_young_to_claim"
    title = "Người đề nghị nhận địa chỉ phải từ đủ 18 tuổi"


class ClaimWaiting(DomainError):
    """The household has a claim that waits for an officer; withdraw it to make another."""

    code = "claim_waiting"
    title = "Hộ gia đình đang có một đề nghị chờ xử lý"


class RegisteredElsewhere(DomainError):
    """The address is not in the commune where the population register has the household; ``registered`` names that."""

    status = 422
    code = "household_registered_elsewhere"
    title = "Hộ gia đình đăng ký thường trú ở xã, phường khác với địa chỉ này"


class AddressNotCurrent(DomainError):
    """Only an address that is in use can be claimed by its code."""

    code = "address_not_current"
    title = "Địa chỉ này hiện không dùng, không thể nhận"


class ClaimOvertaken(DomainError):
    """The address was decided about in the register while the claim waited; refuse or confirm the claim as it is."""

    code = "claim_overtaken"
    title = "Địa chỉ trong đề nghị đã được xử lý ở sổ địa chỉ"


class Pin(Struct, frozen=True):
    """A home that has no address yet: where its door is and what stands there."""

    point: Point
    door: Door
    hamlet: str | None


async def claim(
    session: AsyncSession,
    keyring: Keyring,
    caller: Caller,
    *,
    code: str | None,
    pin: Pin | None,
    today: date,
    is_demo: bool = False,
) -> AddressClaim:
    """Say that an address is the household's: one that is there (``code``, as written) or a new one at a pin.

    The registry's own checks hold for a pin.  Until an officer confirms, nobody gains anything by it.
    """
    if (code is None) == (pin is None):
        raise Invalid("Send either a code or a pin.", [FieldError("/code", "exactly one of code and pin")])
    await take_turn(session)  # before any other lock
    membership = await _acting(session, caller)
    await _require_adult(session, keyring, membership, today)
    household_id = membership.household_id
    waiting = await session.scalar(
        select(AddressClaim.id).where(
            AddressClaim.household_id == household_id, AddressClaim.status == ClaimStatus.WAITING
        )
    )
    if waiting is not None:
        raise ClaimWaiting("The household has a claim that waits.", claim=str(waiting))
    home = await queries.open_address(session, household_id)
    if home is not None:
        raise HouseholdHasAddress("Your household has an address.", address=home)
    here = await _registered(session, household_id)
    if pin is None:
        dwelling = await _existing(session, str(code), here)
    else:
        dwelling = await _proposed(session, caller, pin, here, household_id, today=today, is_demo=is_demo)
    made = AddressClaim(
        household_id=household_id,
        person_id=membership.person_id,
        code=dwelling.code,
        is_new=pin is not None,
        status=ClaimStatus.WAITING,
        unit_id=dwelling.unit_id,
    )
    session.add(made)
    await session.flush()
    await append(
        session,
        kind="address_claimed",
        actor=caller.id,
        subject=str(made.id),
        household=str(household_id),
        address=dwelling.code,
        new=made.is_new,
    )
    return made


async def withdraw(session: AsyncSession, caller: Caller, claim_id: UUID, *, today: date) -> AddressClaim:
    """Take a waiting claim back, by who made it or the head; an address proposed with it is rejected."""
    membership = await _acting(session, caller)
    found = await locked_claim(session, claim_id)
    own = found.person_id == membership.person_id or membership.role is MemberRole.HEAD
    if found.household_id != membership.household_id or not own:
        raise NotFound("There is no such claim of yours.")
    settle_claim(found.status, ClaimStatus.WITHDRAWN)
    if found.is_new:
        dwelling = await session.get_one(Dwelling, found.code, populate_existing=True)
        if dwelling.status is Status.CURRENT:
            raise ClaimOvertaken("The address has been issued meanwhile.", address=found.code)
    await drop_claim(session, found, actor=caller.id, today=today)
    await append(
        session,
        kind="address_claim_withdrawn",
        actor=caller.id,
        subject=str(found.id),
        household=str(found.household_id),
        address=found.code,
    )
    return found


async def locked_claim(session: AsyncSession, claim_id: UUID) -> AddressClaim:
    """A claim, locked; its household is locked before it."""
    found = await session.get(AddressClaim, claim_id, with_for_update=True, populate_existing=True)
    if found is None:
        raise NotFound("There is no such claim.")
    return found


async def _acting(session: AsyncSession, caller: Caller) -> Membership:
    """The caller's membership, with the household locked, so that its claims take turns."""
    await lock_person(session, person_of(caller))
    membership = await require_member(session, caller)
    await lock_household(session, membership.household_id)
    return membership


async def _require_adult(session: AsyncSession, keyring: Keyring, membership: Membership, today: date) -> None:
    birth = await birth_of(session, keyring, membership.person_id)
    if birth is None or not is_adult(birth, today):
        raise TooYoung("Somebody of 18 or older claims the address of a household.")


async def _registered(session: AsyncSession, household_id: UUID) -> list[Unit]:
    """The communes of today in which the household is registered; raise where none is in Bắc Kạn."""
    found = await queries.registered_units(session, household_id)
    if not found:
        code = await queries.registered_code(session, household_id)
        raise RegisteredElsewhere("The household is registered outside Bắc Kạn.", registered={"code": code})
    return found


def _elsewhere(here: list[Unit]) -> RegisteredElsewhere:
    registered = here[0]
    return RegisteredElsewhere(
        f"The household is registered in {registered.full_name} ({registered.code}); the address is not there.",
        registered={"code": registered.code, "name": registered.full_name},
    )


async def _existing(session: AsyncSession, written: str, here: list[Unit]) -> Dwelling:
    code = await read_code(session, written)
    dwelling = await session.get(Dwelling, code, populate_existing=True)
    if dwelling is None:
        raise NotIssued(f"The code {codes.display(code)} has not been issued.")
    if dwelling.status is not Status.CURRENT:
        raise AddressNotCurrent(f"This address is {dwelling.status}.", now=dwelling.status)
    if dwelling.unit_id not in {unit.id for unit in here}:
        raise _elsewhere(here)
    if await changes.open_link(session, code) is not None:
        raise AddressHasHousehold("A household lives at this address.", address=code)
    return dwelling


async def _proposed(
    session: AsyncSession,
    caller: Caller,
    pin: Pin,
    here: list[Unit],
    household_id: UUID,
    *,
    today: date,
    is_demo: bool,
) -> Dwelling:
    """The dwelling at a pin, proposed in the name of somebody who reaches the household's commune and no other."""
    there = await units.containing(session, pin.point.lon, pin.point.lat, today)
    named = next((unit for unit in here if there is not None and unit.id == there.unit.id), here[0])
    household = await household_ref(session, household_id)
    limited = Caller(id=caller.id, role=Role.CITIZEN, unit_ids=frozenset({named.id}), person=caller.person)
    try:
        return await addresses.propose(
            session,
            limited,
            point=pin.point,
            unit_code=named.code,
            hamlet=pin.hamlet,
            door=pin.door,
            household=household,
            since=None,
            today=today,
            is_demo=is_demo,
        )
    except Refused as refused:
        raise _about_the_pin(refused, here) from None


def _about_the_pin(refused: Refused, here: list[Unit]) -> DomainError:
    """A refusal of the registry in the words of a claim.

    The registry tells officers which home is in the way; to anybody else that would tell where a code's home is.
    """
    reasons: Any = refused.facts.get("reasons", [])
    errors: Any = refused.facts["errors"]
    if "outside_commune" in reasons:
        return _elsewhere(here)
    if "same_door" in reasons:
        errors = [FieldError("/point", "give building, entrance, floor or door to tell your home from the other")]
    return Refused(
        refused.detail,
        [FieldError(f"/pin{error.pointer.removeprefix('/point')}", error.detail) for error in errors],
        **({"reasons": reasons} if reasons else {}),
    )


async def household_ref(session: AsyncSession, household_id: UUID) -> HouseholdRef:
    """A household as the registry names it."""
    household = await session.get_one(Household, household_id)
    return HouseholdRef(household.source, household.source_id)
