"""Ending sign-ins: by their person, from another device, by the provider."""

from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.audit import operations as audit
from bkapp.errors import DomainError, NotFound
from bkapp.identity.models import EidSubject, SignIn, UsedToken
from bkapp.identity.providers import Logout
from bkapp.identity.rules import EndReason, storable
from bkapp.sealing import Keyring


class LogoutRepeated(DomainError):
    """This logout token was used before."""

    status = 400
    code = "logout_token_used"
    title = "Mã đăng xuất này đã được dùng"


class Ended(Struct, frozen=True):
    """A sign-in that is over."""

    id: UUID
    person: UUID
    device: str


async def end(session: AsyncSession, *which: sa.ColumnElement[bool], reason: EndReason, now: datetime) -> list[Ended]:
    """End the sign-ins of some description; those that were over stay as they ended.  A family ends with its sign-in:
    its refresh tokens are good for nothing from then on."""
    rows = await session.execute(
        sa.update(SignIn)
        .where(SignIn.ended_at.is_(None), *which)
        .values(ended_at=now, end_reason=reason)
        .returning(SignIn.id, SignIn.person_id, SignIn.device)
        .execution_options(synchronize_session=False)
    )
    return [Ended(*row) for row in rows]


async def sign_out(session: AsyncSession, *, person: UUID, sign_in: UUID, now: datetime) -> None:
    """A person leaves this device.  Safe to repeat."""
    if await end(session, SignIn.id == sign_in, SignIn.person_id == person, reason=EndReason.SIGNED_OUT, now=now):
        await audit.append(session, kind="sign_out", actor=str(person), subject=str(person), sign_in=str(sign_in))


async def end_device(session: AsyncSession, *, person: UUID, own: UUID | None, device: UUID, now: datetime) -> None:
    """A person signs out one of their devices, from the device ``own`` or on it.  Safe to repeat."""
    theirs = await session.scalar(sa.select(SignIn.id).where(SignIn.id == device, SignIn.person_id == person))
    if theirs is None:
        raise NotFound("You are signed in on no such device.")
    if device == own:
        await sign_out(session, person=person, sign_in=device, now=now)
    elif await end(session, SignIn.id == device, reason=EndReason.REMOTE, now=now):
        await audit.append(
            session, kind="device_signed_out", actor=str(person), subject=str(person), sign_in=str(device)
        )


async def end_everywhere(
    session: AsyncSession, *, person: UUID, actor: str, reason: EndReason = EndReason.EVERYWHERE, now: datetime
) -> int:
    """End all sign-ins of a person, this one too; return how many there were."""
    ended = await end(session, SignIn.person_id == person, reason=reason, now=now)
    if ended:
        await audit.append(
            session,
            kind="signed_out_everywhere",
            actor=actor,
            subject=str(person),
            reason=reason.value,
            sign_ins=sorted(str(gone.id) for gone in ended),
        )
    return len(ended)


async def hear_logout(session: AsyncSession, keyring: Keyring, logout: Logout, *, now: datetime) -> int:
    """The provider says that somebody signed out there: their sign-ins by it end here; return how many.

    With a session of the provider those of that session, else all of that subject (OpenID Connect Back-Channel
    Logout §2.7).  A token is heard once.
    """
    first = await session.scalar(
        insert(UsedToken)
        .values(issuer=logout.issuer, jti=storable(logout.jti), expires_at=logout.expires_at)
        .on_conflict_do_nothing()
        .returning(UsedToken.jti)
    )
    if first is None:
        raise LogoutRepeated("This logout token was used before.")
    ended = await end(session, *_meant(keyring, logout), reason=EndReason.PROVIDER, now=now)
    for gone in ended:
        await audit.append(
            session, kind="provider_sign_out", actor=str(gone.person), subject=str(gone.person), sign_in=str(gone.id)
        )
    return len(ended)


def _meant(keyring: Keyring, logout: Logout) -> list[sa.ColumnElement[bool]]:
    by_issuer: list[Any] = [SignIn.issuer == logout.issuer]
    if logout.provider_sid is not None:
        return [*by_issuer, SignIn.provider_sid == storable(logout.provider_sid)]
    subject = keyring.lookup("eid-subject", f"{logout.issuer}\0{logout.subject}")
    person = sa.select(EidSubject.person_id).where(
        EidSubject.issuer == logout.issuer, EidSubject.subject_hmac == subject
    )
    return [*by_issuer, SignIn.person_id == person.scalar_subquery()]
