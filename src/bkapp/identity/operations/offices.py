"""Giving people an office and taking it back."""

from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.rules import OFFICES, Role
from bkapp.audit import operations as audit
from bkapp.db import violated
from bkapp.errors import DomainError, Invalid, NotFound
from bkapp.identity.models import Person, RoleGrant
from bkapp.identity.operations.arriving import person_of
from bkapp.identity.rules import is_citizen_number
from bkapp.sealing import Keyring


class HoldsOffice(DomainError):
    """The person holds an office already; end it before they get another."""

    code = "holds_an_office"
    title = "Người này đang giữ một vai trò khác"


async def grant_office(
    session: AsyncSession,
    keyring: Keyring,
    *,
    number: str,
    role: Role,
    unit_id: int | None,
    actor: str,
    expires_at: datetime | None = None,
    is_demo: bool = False,
    now: datetime,
) -> RoleGrant:
    """Give the citizen of a number an office, also one who has never signed in.  It counts from their next request."""
    if role not in OFFICES or (role is Role.OFFICER) != (unit_id is not None):
        raise Invalid("An officer needs a unit, and only an officer has one; a citizen and a partner hold no office.")
    _check(number)
    person = await person_of(session, keyring, number, is_demo=is_demo)
    await session.execute(
        sa.update(RoleGrant)
        .where(RoleGrant.person_id == person, RoleGrant.ended_at.is_(None), RoleGrant.expires_at <= now)
        .values(ended_at=RoleGrant.expires_at)
    )
    grant = RoleGrant(person_id=person, role=role, unit_id=unit_id, granted_by=actor, expires_at=expires_at)
    session.add(grant)
    try:
        await session.flush()
    except IntegrityError as error:
        if violated(error) != "uq_role_grant_person_id":
            raise
        raise HoldsOffice("This person holds an office already.") from None
    await audit.append(
        session,
        kind="office_granted",
        actor=actor,
        subject=str(person),
        grant=str(grant.id),
        role=role.value,
        unit=unit_id,
    )
    return grant


async def end_office(session: AsyncSession, keyring: Keyring, *, number: str, actor: str, now: datetime) -> RoleGrant:
    """Take back the office that the citizen of a number holds.  It counts from their next request."""
    _check(number)
    person = sa.select(Person.id).where(Person.number_hmac == keyring.lookup("citizen", number)).scalar_subquery()
    ended = await session.scalars(
        sa.update(RoleGrant)
        .where(RoleGrant.person_id == person, RoleGrant.ended_at.is_(None))
        .values(ended_at=now)
        .returning(RoleGrant)
    )
    grant = ended.one_or_none()
    if grant is None:
        raise NotFound("This person holds no office.")
    await audit.append(session, kind="office_ended", actor=actor, subject=str(grant.person_id), grant=str(grant.id))
    return grant


async def end_offices_of(session: AsyncSession, person: UUID, *, actor: str, now: datetime) -> None:
    """Take back the office of a person, if they hold one: of one who is erased, say."""
    ended = await session.scalars(
        sa.update(RoleGrant)
        .where(RoleGrant.person_id == person, RoleGrant.ended_at.is_(None))
        .values(ended_at=now)
        .returning(RoleGrant.id)
    )
    for grant in ended.all():
        await audit.append(session, kind="office_ended", actor=actor, subject=str(person), grant=str(grant))


def _check(number: str) -> None:
    if not is_citizen_number(number):
        raise Invalid("A citizen's number has 12 digits.")
