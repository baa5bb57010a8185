"""Somebody came back from the provider: who they are here, and their session."""

from datetime import datetime
from uuid import UUID, uuid4

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.audit import operations as audit
from bkapp.errors import Forbidden
from bkapp.identity import queries
from bkapp.identity.models import EidSubject, Person, SignIn
from bkapp.identity.operations.ending import end
from bkapp.identity.operations.notices import tell
from bkapp.identity.providers import Identity
from bkapp.identity.rules import (
    NATIVE_CODE_LASTS,
    EndReason,
    NoticeKind,
    SignInKind,
    hashed,
    is_secret,
    lifetime,
    new_secret,
    storable,
)
from bkapp.sealing import Keyring


class SubjectChanged(Forbidden):
    """The provider gave an account of before another citizen's number; an officer has to look at it."""

    code = "eid_subject_changed"
    title = "Tài khoản định danh này đã gắn với một số định danh khác, xin liên hệ cơ quan quản lý"

    def __init__(self, person: UUID) -> None:
        super().__init__("This account stood for another person before.")
        self.person = person


class Arrived(Struct, frozen=True, kw_only=True):
    """A sign-in as it was made.  ``secret`` is the browser's; an app has none and changes a code for its tokens."""

    person: UUID
    sign_in: UUID
    secret: str | None
    expires_at: datetime


async def arrive(
    session: AsyncSession,
    keyring: Keyring,
    identity: Identity,
    *,
    kind: SignInKind,
    device: str,
    old_secret: str = "",
    is_demo: bool = False,
    now: datetime,
) -> Arrived | SubjectChanged:
    """Sign a person in on a device; make them known if they are new.

    The session that the browser held before, under ``old_secret``, is over: a cookie that somebody put there gains
    nothing.  A refusal is returned and not raised, because the entry in the audit chain that it leaves must stay.
    """
    try:
        async with session.begin_nested():
            person = await recognise(session, keyring, identity, is_demo=is_demo)
    except SubjectChanged as refusal:
        who = str(refusal.person)
        await audit.append(session, kind="sign_in_refused", actor=who, subject=who, reason="number_changed")
        return refusal

    renewed = False
    if is_secret(old_secret):
        ended = await end(session, SignIn.secret_hash == hashed(old_secret), reason=EndReason.RENEWED, now=now)
        renewed = any(gone.person == person for gone in ended)
    others = await queries.devices(session, person)
    in_office = await queries.office(session, person) is not None
    secret = new_secret() if kind is SignInKind.BROWSER else None
    made = SignIn(
        id=uuid4(),
        person_id=person,
        kind=kind,
        secret_hash=None if secret is None else hashed(secret),
        level=identity.level,
        acr=storable(identity.acr),
        authenticated_at=identity.authenticated_at,
        issuer=identity.issuer,
        provider_sid=storable(identity.provider_sid),
        device=device,
        created_at=now,
        seen_at=now,
        # An app that never comes for its tokens is gone with its code.
        expires_at=now + (NATIVE_CODE_LASTS if secret is None else lifetime(kind, in_office=in_office)),
    )
    session.add(made)
    await session.flush()
    if others and not renewed:
        await tell(session, person, NoticeKind.NEW_DEVICE, sign_in=str(made.id), device=device)
    await audit.append(
        session,
        kind="sign_in",
        actor=str(person),
        subject=str(person),
        sign_in=str(made.id),
        how=kind.value,
        level=identity.level,
    )
    return Arrived(person=person, sign_in=made.id, secret=secret, expires_at=made.expires_at)


async def recognise(session: AsyncSession, keyring: Keyring, identity: Identity, *, is_demo: bool) -> UUID:
    """The person of an identity: the one of its number, whichever provider says it; with what it says of them.

    Their telephone number is not kept: a person gives it, and agrees to it, for themselves.  Who was erased has no
    number any more, so they are a new person.
    """
    person = await person_of(session, keyring, identity.number, is_demo=is_demo)
    subject = keyring.lookup("eid-subject", f"{identity.issuer}\0{identity.subject}")
    erased = sa.exists().where(Person.id == EidSubject.person_id, Person.erased_at.is_not(None))
    taken = insert(EidSubject).values(issuer=identity.issuer, subject_hmac=subject, person_id=person)
    await session.execute(
        taken.on_conflict_do_update(
            index_elements=["issuer", "subject_hmac"], set_={"person_id": taken.excluded.person_id}, where=erased
        )
    )
    meant = await session.scalar(
        sa.select(EidSubject.person_id).where(EidSubject.issuer == identity.issuer, EidSubject.subject_hmac == subject)
    )
    if meant is not None and meant != person:
        raise SubjectChanged(meant)

    row = (await session.execute(sa.select(Person).where(Person.id == person))).scalar_one()
    row.level = identity.level
    # Who asked that their data be left alone is let in, and nothing new is kept of them.
    if row.restricted_at is None:
        row.name_cipher = keyring.seal(identity.name, f"person.name:{person}")
        if identity.birth is not None:
            row.birth_cipher = keyring.seal(identity.birth.isoformat(), f"person.birth:{person}")
    await session.flush()
    return person


async def person_of(session: AsyncSession, keyring: Keyring, number: str, *, is_demo: bool = False) -> UUID:
    """The person of a citizen's number, made known if they were not.  The database decides between two who ask."""
    new = uuid4()
    wanted = insert(Person).values(
        id=new,
        number_hmac=keyring.lookup("citizen", number),
        number_cipher=keyring.seal(number, f"person.number:{new}"),
        level=0,
        is_demo=is_demo,
    )
    # An update that changes nothing, so that the row comes back and stays as it is until we are done.
    kept = wanted.on_conflict_do_update(index_elements=["number_hmac"], set_={"is_demo": Person.is_demo})
    return (await session.execute(kept.returning(Person.id))).scalar_one()
