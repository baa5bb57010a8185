"""Asking the population register about a person: before the question, and what is done with the answer."""

from datetime import date, datetime
from uuid import UUID

from msgspec import Struct
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.operations import Caller, record_read
from bkapp.address.operations import HouseholdRef
from bkapp.address.operations.placing import claim_household
from bkapp.audit.operations import append
from bkapp.errors import DomainError
from bkapp.households import queries
from bkapp.households.models import Membership, PopulationQuery
from bkapp.households.operations.leaving import SOURCE, leave
from bkapp.households.providers import Citizen
from bkapp.households.rules import (
    ANSWER_TAKES,
    MemberRole,
    MemberSource,
    MemberStatus,
    Outcome,
    is_due,
    register_name,
)
from bkapp.identity.models import Person
from bkapp.sealing import Keyring, Unsealable

PURPOSE = "bkapp.household"
"""What the register is told (MaDVC): to show a person their household and to let them claim its address."""


class NotRegistered(DomainError):
    """The population register knows nobody of the person's number; the police of the commune set that right."""

    status = 404
    code = "not_in_population_register"
    title = "Chưa tìm thấy bạn trong CSDL quốc gia về dân cư. Mời bạn đến công an xã, phường nơi thường trú để cập nhật"


class NameMismatch(DomainError):
    """The population register has another name or birth date for the person's number; the police set that right."""

    code = "population_register_mismatch"
    title = (
        "Họ tên hoặc ngày sinh khác với CSDL quốc gia về dân cư. "
        "Mời bạn đến công an xã, phường nơi thường trú để điều chỉnh"
    )


class BirthUnknown(DomainError):
    """The sign-in did not tell the person's name and birth date, which this needs; sign in again and agree to both."""

    code = "identity_incomplete"
    title = "Tài khoản định danh chưa cho biết họ tên và ngày sinh, xin đăng nhập lại"


class Question(Struct, frozen=True, kw_only=True):
    """What the register is to be asked."""

    request_id: str
    person_id: UUID
    number: str
    name: str
    birth: date


async def question_due(
    session: AsyncSession, keyring: Keyring, caller: Caller, *, request_id: str, now: datetime, again: bool
) -> Question | None:
    """The question that it is time to ask about a person, written down before it is asked; None if there is none.

    While one is on its way no other is asked, however often a page is loaded.  Raise :class:`BirthUnknown` for a person
    of whom we know too little to ask.
    """
    person_id = person_of(caller)
    if not await _is_time(session, person_id, now=now, again=again):
        return None
    if not await lock_person(session, person_id) or not await _is_time(session, person_id, now=now, again=again):
        return None
    person = await session.get_one(Person, person_id)
    number, name, birth = (
        opened(keyring, getattr(person, f"{field}_cipher"), f"person.{field}:{person_id}")
        for field in ("number", "name", "birth")
    )
    if number is None or name is None or birth is None:
        raise BirthUnknown("The sign-in told no name or no birth date.")
    session.add(PopulationQuery(request_id=request_id, person_id=person_id, asked_by=caller.id, purpose=PURPOSE))
    await session.flush()
    return Question(
        request_id=request_id, person_id=person_id, number=number, name=name, birth=date.fromisoformat(birth)
    )


async def _is_time(session: AsyncSession, person_id: UUID, *, now: datetime, again: bool) -> bool:
    last = await queries.last_asked(session, person_id)
    if last is None:
        return True
    due = is_due(last.outcome, last.asked_at, now=now, again=again)
    return due and not await queries.is_asking(session, person_id, since=now - ANSWER_TAKES)


async def take_refusal(session: AsyncSession, question: Question, outcome: Outcome) -> None:
    """Write down that the register told nothing, and why.  What we know stands."""
    await session.execute(
        update(PopulationQuery)
        .where(PopulationQuery.request_id == question.request_id)
        .values(outcome=outcome, answered_at=func.clock_timestamp())
    )


async def take_answer(
    session: AsyncSession,
    keyring: Keyring,
    caller: Caller,
    question: Question,
    citizen: Citizen,
    *,
    now: datetime,
    today: date,
    what: str,
    request_id: str,
) -> Outcome:
    """Take in what the register says of a person: the household they are in, and that they left another one.

    An answer with another name or birth date is none.  Of somebody who was erased meanwhile nothing is kept.
    """
    differs = register_name(citizen.name) != register_name(question.name)
    if differs or (citizen.birth is not None and citizen.birth != question.birth):
        await take_refusal(session, question, Outcome.MISMATCH)
        return Outcome.MISMATCH
    await take_refusal(session, question, Outcome.FOUND)
    if not await lock_person(session, question.person_id):
        return Outcome.FOUND
    before = await queries.membership_of(session, question.person_id, lock=True)
    entries: list[tuple[str, str]] = []
    if citizen.head_number is None:
        if before is not None and before.source is MemberSource.POPULATION:
            await leave(session, before, actor=caller.id, reason="register", today=today)
            entries.append(("membership_ended", str(before.household_id)))
    else:
        ref = HouseholdRef(SOURCE, keyring.lookup("household", citizen.head_number).hex())
        household_id = await claim_household(session, ref)
        if before is not None and before.household_id != household_id:
            await leave(session, before, actor=caller.id, reason="register", today=today)
            entries.append(("membership_ended", str(before.household_id)))
            before = None
        if before is None:
            before = Membership(household_id=household_id, person_id=question.person_id)
            session.add(before)
            entries.append(("membership_registered", str(household_id)))
        before.role = MemberRole.HEAD if citizen.head_number == question.number else MemberRole.MEMBER
        before.relation = citizen.relation
        before.source = MemberSource.POPULATION
        before.status = MemberStatus.ACTIVE
        before.unit_code = citizen.commune_code
        before.checked_at = now
        await session.flush()
    await record_read(session, caller, subject=str(question.person_id), what=what, request_id=request_id)
    for kind, household in entries:
        await append(session, kind=kind, actor=caller.id, subject=str(question.person_id), household=household)
    return Outcome.FOUND


def opened(keyring: Keyring, sealed: bytes | None, context: str) -> str | None:
    """A sealed value, or None where there is none or its key is gone."""
    if sealed is None:
        return None
    try:
        return keyring.open(sealed, context)
    except Unsealable:
        return None


async def lock_person(session: AsyncSession, person_id: UUID) -> bool:
    """Lock a person before their membership and their household; False for somebody who was erased.

    All that changes which household somebody is in, or acts in its name, takes turns by this, and so does erasing.
    """
    found = await session.scalar(
        select(Person.id).where(Person.id == person_id, Person.erased_at.is_(None)).with_for_update(key_share=True)
    )
    return found is not None


def person_of(caller: Caller) -> UUID:
    """The id of the person who asks."""
    if caller.person is None:
        raise LookupError("a key has no household")  # the guard forbids it
    return caller.person
