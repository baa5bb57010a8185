"""Giving and withdrawing consent, and asking whether it was given."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.operations import Caller
from bkapp.audit.operations import append
from bkapp.errors import DomainError, Forbidden, NotFound
from bkapp.identity.models import Person
from bkapp.privacy import queries
from bkapp.privacy.models import Consent
from bkapp.privacy.purposes import PURPOSES, Basis, of_consent, require_shown
from bkapp.privacy.rules import Channel


class ConsentNeeded(Forbidden):
    """The person has not agreed to this use of their data, or agreed to an earlier text; `purpose` says to what."""

    code = "consent_needed"
    title = "Cần bạn đồng ý trước khi dùng dữ liệu này"


class ProcessingRestricted(DomainError):
    """The person asked that their data be left alone: nothing is done that rests on their consent."""

    code = "processing_restricted"
    title = "Dữ liệu đang bị hạn chế xử lý theo yêu cầu của người dùng"


def channel_of(caller: Caller) -> Channel:
    """By what a person who has signed in says something: a browser or an app."""
    return Channel.WEB if caller.by_cookie else Channel.APP


async def give_consent(
    session: AsyncSession, person_id: UUID, purpose_id: str, *, text_version: str, channel: Channel, now: datetime
) -> Consent:
    """Write down that a person agrees to a purpose in the words they were shown.

    Safe to repeat.  A consent to an earlier text ends with the new one.
    """
    purpose = of_consent(purpose_id)
    require_shown(purpose, text_version)
    person = await locked(session, person_id)
    if person.restricted_at is not None:
        raise ProcessingRestricted("You asked that your data be left alone; ask the data officer to lift that first.")
    before = await queries.standing_consent(session, person_id, purpose.id)
    if before is not None:
        if before.text_version == purpose.version:
            return before
        _end(before, channel=channel, now=now)
        await session.flush()
    given = Consent(
        person_id=person_id, purpose=purpose.id, text_version=purpose.version, channel=channel, given_at=now
    )
    session.add(given)
    await session.flush()
    await append(
        session,
        kind="consent_given",
        actor=str(person_id),
        subject=str(person_id),
        purpose=purpose.id,
        version=purpose.version,
        channel=channel.value,
    )
    return given


async def withdraw_consent(
    session: AsyncSession, person_id: UUID, purpose_id: str, *, actor: str, channel: Channel, now: datetime
) -> bool:
    """End what a person agreed to, whatever its version; return whether there was anything.  Safe to repeat.

    What was kept for that purpose alone goes at once: with ``contact_phone`` the telephone number.
    """
    purpose = of_consent(purpose_id)
    person = await locked(session, person_id)
    before = await queries.standing_consent(session, person_id, purpose.id)
    if before is not None:
        _end(before, channel=channel, now=now)
    if purpose.id == "contact_phone":
        person.phone_cipher = None
    await session.flush()
    if before is None:
        return False
    await append(
        session,
        kind="consent_withdrawn",
        actor=actor,
        subject=str(person_id),
        purpose=purpose.id,
        version=before.text_version,
        channel=channel.value,
    )
    return True


async def withdraw_all(session: AsyncSession, person_id: UUID, *, actor: str, channel: Channel, now: datetime) -> None:
    """End everything that a person agreed to."""
    for purpose in PURPOSES.values():
        if purpose.basis is Basis.CONSENT:
            await withdraw_consent(session, person_id, purpose.id, actor=actor, channel=channel, now=now)


async def require_consent(session: AsyncSession, person_id: UUID, purpose_id: str) -> None:
    """Refuse what a person has not agreed to in the words of today, or restricted; for whoever uses data by consent."""
    purpose = of_consent(purpose_id)
    person = await session.get(Person, person_id, populate_existing=True)
    if person is None or person.erased_at is not None:
        raise NotFound("There is no such person.")
    if person.restricted_at is not None:
        raise ProcessingRestricted("The person asked that their data be left alone.", purpose=purpose.id)
    given = await queries.standing_consent(session, person_id, purpose.id)
    if given is None or given.text_version != purpose.version:
        raise ConsentNeeded(f"This needs consent to {purpose.id}.", purpose=purpose.id, text_version=purpose.version)


async def locked(session: AsyncSession, person_id: UUID) -> Person:
    """A person who is not erased, whose row nobody else changes until we are done."""
    person: Person | None = await session.scalar(
        select(Person)
        .where(Person.id == person_id, Person.erased_at.is_(None))
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if person is None:
        raise NotFound("There is no such person.")
    return person


def _end(consent: Consent, *, channel: Channel, now: datetime) -> None:
    consent.withdrawn_at = now
    consent.withdrawn_channel = channel
