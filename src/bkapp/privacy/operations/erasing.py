"""Erasing a person: nothing is left that says who they were, and everything that must stay names an id alone.

What stays: the person's id, the audit chain, who read data, questions to the population register, the history of
addresses, consents as proof, and bills with what was paid and given back, as vouchers.  None of them says who that id
was.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.address.models import GeocodeJob, Household
from bkapp.audit.operations import append
from bkapp.errors import DomainError
from bkapp.households.models import AddressClaim, Membership
from bkapp.households.operations import forget_person
from bkapp.households.operations.leaving import SOURCE
from bkapp.households.rules import MemberStatus
from bkapp.http import IdempotencyRecord
from bkapp.identity.models import EidSubject, NativeCode, Notice, Person, RefreshToken, RoleGrant, SignIn
from bkapp.identity.rules import EndReason
from bkapp.privacy.models import Consent, SubjectRequest
from bkapp.privacy.operations.consents import locked
from bkapp.privacy.operations.hindrances import HINDRANCES, Hindrance
from bkapp.privacy.operations.paying import bills_of, forget_payer
from bkapp.privacy.rules import Channel, RequestStatus
from bkapp.sealing import Keyring, Unsealable


class ErasureBlocked(DomainError):
    """The person cannot be erased now; `blockers` lists every reason."""

    code = "erasure_blocked"
    title = "Chưa thể xóa dữ liệu của người này"


_ERASED = "Dữ liệu đã được xóa"
_EMPTY = text("""
    UPDATE idempotency_key SET body = '{}' WHERE body <> '{}' AND EXISTS (
        SELECT FROM unnest(CAST(:ids AS text[])) AS named(id) WHERE position(convert_to(named.id, 'UTF8') IN body) > 0)
""")


async def erase(
    session: AsyncSession,
    keyring: Keyring,
    person_id: UUID,
    *,
    actor: str,
    now: datetime,
    hindrances: Sequence[Hindrance] = HINDRANCES,
) -> None:
    """Erase a person, all of it in this transaction; raise :class:`ErasureBlocked` with every reason why not.

    Who signs in with the same number afterwards is a new person.
    """
    person = await locked(session, person_id)
    found = [await ask(session, person_id) for ask in hindrances]
    blockers = [blocker for blocker in found if blocker is not None]
    if blockers:
        raise ErasureBlocked(
            "The person cannot be erased: " + ", ".join(blocker.code for blocker in blockers) + ".", blockers=blockers
        )
    await _forget_head(session, keyring, person)
    await _forget_answers(session, person_id)
    await forget_payer(session, person_id, instead=_ERASED)
    await _forget_sign_ins(session, person_id, now=now)
    await _close_requests(session, person_id, actor=actor, now=now)
    await _end_consents(session, person_id, now=now)
    await session.execute(delete(GeocodeJob).where(GeocodeJob.caller == str(person_id)))
    person.number_hmac = person.number_cipher = person.name_cipher = person.birth_cipher = person.phone_cipher = None
    person.level = 0
    person.erased_at = now
    await session.flush()
    # These add to the audit chain, whose lock is taken last.
    await forget_person(session, person_id, actor=actor)
    await append(session, kind="person_erased", actor=actor, subject=str(person_id))


async def _forget_head(session: AsyncSession, keyring: Keyring, person: Person) -> None:
    """A household is known by its head's number, as an HMAC.  While others live there it stays, so that they find it.

    :func:`forget_person` sees to the household a person is in; this, to one that they were the head of before.
    """
    if person.number_cipher is None:
        return
    try:
        number = keyring.open(person.number_cipher, f"person.number:{person.id}")
    except Unsealable:
        return
    others = (
        select(Membership.id)
        .where(
            Membership.household_id == Household.id,
            Membership.person_id != person.id,
            Membership.status.in_({MemberStatus.WAITING, MemberStatus.ACTIVE}),
        )
        .exists()
    )
    await session.execute(
        update(Household)
        .where(Household.source == SOURCE, Household.source_id == keyring.lookup("household", number).hex(), ~others)
        .values(source_id=func.concat("erased-", Household.id))
        .execution_options(synchronize_session=False)
    )


async def _forget_answers(session: AsyncSession, person_id: UUID) -> None:
    """Answers kept for repeats may show data: the person's own go, those to others about the person are emptied.

    The key of another's change stays, so that repeating it still does nothing.
    """
    caller = str(person_id)
    await session.execute(delete(IdempotencyRecord).where(IdempotencyRecord.caller == caller))
    ids = [caller]
    for kind in (Membership, AddressClaim, SubjectRequest):
        ids += [str(each) for each in await session.scalars(select(kind.id).where(kind.person_id == person_id))]
    ids += map(str, await bills_of(session, person_id))  # whatever is answered about attempts or refunds names the bill
    await session.execute(_EMPTY, {"ids": ids})


async def _forget_sign_ins(session: AsyncSession, person_id: UUID, *, now: datetime) -> None:
    theirs = select(SignIn.id).where(SignIn.person_id == person_id)
    await session.execute(delete(RefreshToken).where(RefreshToken.sign_in_id.in_(theirs)))
    await session.execute(delete(NativeCode).where(NativeCode.sign_in_id.in_(theirs)))
    await session.execute(
        update(SignIn)
        .where(SignIn.person_id == person_id, SignIn.ended_at.is_(None))
        .values(ended_at=now, end_reason=EndReason.ERASED)
        .execution_options(synchronize_session=False)
    )
    await session.execute(
        update(SignIn)
        .where(SignIn.person_id == person_id)
        .values(device="", secret_hash=None, provider_sid=None, acr=None)
        .execution_options(synchronize_session=False)
    )
    await session.execute(delete(EidSubject).where(EidSubject.person_id == person_id))
    await session.execute(delete(Notice).where(Notice.person_id == person_id))
    # Offices whose time ran out; one that is held would have stopped us.
    await session.execute(
        update(RoleGrant)
        .where(RoleGrant.person_id == person_id, RoleGrant.ended_at.is_(None))
        .values(ended_at=func.least(RoleGrant.expires_at, now))
        .execution_options(synchronize_session=False)
    )


async def _close_requests(session: AsyncSession, person_id: UUID, *, actor: str, now: datetime) -> None:
    """Requests stay with their clocks as proof; every free text goes, since people write names into it."""
    open_ones = await session.scalars(
        select(SubjectRequest).where(SubjectRequest.person_id == person_id, SubjectRequest.closed_at.is_(None))
    )
    for request in open_ones.all():
        request.status = RequestStatus.DONE
        request.closed_at = now
        request.closed_by = actor
    await session.flush()
    await session.execute(
        update(SubjectRequest)
        .where(SubjectRequest.person_id == person_id)
        .values(details_cipher=None, outcome=_ERASED)
        .execution_options(synchronize_session=False)
    )
    await session.execute(
        update(SubjectRequest)
        .where(SubjectRequest.person_id == person_id, SubjectRequest.extended_at.is_not(None))
        .values(extension_reason=_ERASED)
        .execution_options(synchronize_session=False)
    )


async def _end_consents(session: AsyncSession, person_id: UUID, *, now: datetime) -> None:
    await session.execute(
        update(Consent)
        .where(Consent.person_id == person_id, Consent.withdrawn_at.is_(None))
        .values(withdrawn_at=now, withdrawn_channel=Channel.OFFICE)
        .execution_options(synchronize_session=False)
    )
