"""The tokens of native apps: a code once for the first ones, then each refresh token once for the next.

A *family* is all refresh tokens of one sign-in.  Whether it lives is said by the sign-in alone, so that nothing
brings back one that was killed, however fresh a token of it is.
"""

from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.audit import operations as audit
from bkapp.errors import DomainError
from bkapp.identity import queries
from bkapp.identity.models import NativeCode, RefreshToken, SignIn
from bkapp.identity.operations.ending import end
from bkapp.identity.operations.notices import tell
from bkapp.identity.rules import (
    ACCESS_TOKEN_LASTS,
    GRACE,
    NATIVE_CODE_LASTS,
    EndReason,
    NoticeKind,
    SignInKind,
    hashed,
    idle_limit,
    is_secret,
    lifetime,
    new_secret,
    proves,
)
from bkapp.identity.tokens import TokenSigner
from bkapp.sealing import Keyring


class InvalidGrant(DomainError):
    """The code or the refresh token is unknown, used, over, or was made for something else; sign in again."""

    status = 400
    code = "invalid_grant"
    title = "Mã truy cập không còn hiệu lực, xin đăng nhập lại"


class InvalidTokenRequest(DomainError):
    """A request for tokens leaves out what its grant needs."""

    status = 400
    code = "invalid_request"
    title = "Yêu cầu cấp mã truy cập không đầy đủ"


class UnsupportedGrant(DomainError):
    """Tokens are given for authorization_code and for refresh_token alone."""

    status = 400
    code = "unsupported_grant_type"
    title = "Cách xin mã truy cập này không được hỗ trợ"


class Tokens(Struct, frozen=True, kw_only=True):
    """What an app goes on with.  The refresh token is good until ``ends_at`` at the latest, whatever its use."""

    access: str
    access_lasts: timedelta
    refresh: str
    ends_at: datetime


async def give_code(session: AsyncSession, *, sign_in: UUID, challenge: str, redirect: str, now: datetime) -> str:
    """A code that the app of a challenge changes for its first tokens."""
    code = new_secret()
    session.add(
        NativeCode(
            hash=hashed(code),
            sign_in_id=sign_in,
            challenge=challenge,
            redirect=redirect,
            expires_at=now + NATIVE_CODE_LASTS,
        )
    )
    await session.flush()
    return code


async def exchange(
    session: AsyncSession, signer: TokenSigner, *, code: str, verifier: str, redirect: str, now: datetime
) -> Tokens | None:
    """The first tokens for a code, or None; what a refusal did must stay, so it does not raise.

    Whoever comes with a code spends it.  A code that comes twice was stolen on one of the two ways, so what it gave is
    over (RFC 6749 §4.1.2).
    """
    if not is_secret(code):
        return None
    claimed = await session.scalar(
        sa.update(NativeCode)
        .where(NativeCode.hash == hashed(code), NativeCode.used_at.is_(None))
        .values(used_at=now)
        .returning(NativeCode)
    )
    if claimed is None:
        known = await session.get(NativeCode, hashed(code))
        if known is not None:
            await _kill(session, known.sign_in_id, now=now)
        return None
    if claimed.expires_at <= now or claimed.redirect != redirect or not proves(verifier, claimed.challenge):
        await end(session, SignIn.id == claimed.sign_in_id, reason=EndReason.SIGNED_OUT, now=now)
        return None
    family = await _live(session, claimed.sign_in_id, now=now)
    if family is None:
        return None
    in_office = await queries.office(session, family.person_id) is not None
    family.expires_at = family.created_at + lifetime(SignInKind.NATIVE, in_office=in_office)
    token = new_secret()
    session.add(RefreshToken(hash=hashed(token), sign_in_id=family.id, issued_at=now))
    await session.flush()
    return _tokens(signer, family, token, now=now)


async def rotate(
    session: AsyncSession, keyring: Keyring, signer: TokenSigner, *, token: str, now: datetime
) -> Tokens | None:
    """The next tokens for a refresh token, or None; what a refusal did must stay, so it does not raise.

    One of those who come at the same time with the same token takes it; the others, and who comes within ``GRACE``
    because an answer was lost, get the same successor.  Later the token must have been stolen, from the app or by it:
    the whole family ends, and the person is told (RFC 9700 §4.14.2).
    """
    if not is_secret(token):
        return None
    old, successor = hashed(token), new_secret()
    context = f"refresh.successor:{old.hex()}"
    # The claim.  Those who lose wait here until the winner's transaction is over.
    sign_in = await session.scalar(
        sa.update(RefreshToken)
        .where(RefreshToken.hash == old, RefreshToken.rotated_at.is_(None))
        .values(rotated_at=now, successor_cipher=keyring.seal(successor, context))
        .returning(RefreshToken.sign_in_id)
    )
    if sign_in is not None:
        family = await _live(session, sign_in, now=now)
        if family is None:
            return None
        session.add(RefreshToken(hash=hashed(successor), sign_in_id=family.id, issued_at=now))
        family.seen_at = now
        await session.flush()
        return _tokens(signer, family, successor, now=now)

    used = await session.get(RefreshToken, old)
    if used is None or used.rotated_at is None:
        return None
    if now - used.rotated_at > GRACE or used.successor_cipher is None:
        await _kill(session, used.sign_in_id, now=now)
        return None
    family = await _live(session, used.sign_in_id, now=now)
    return None if family is None else _tokens(signer, family, keyring.open(used.successor_cipher, context), now=now)


async def _live(session: AsyncSession, sign_in: UUID, *, now: datetime) -> SignIn | None:
    """The sign-in of a family, if it is not over; kept from ending until the transaction does."""
    found = await session.get(SignIn, sign_in, with_for_update={"key_share": True}, populate_existing=True)
    if found is None or found.ended_at is not None or found.expires_at <= now:
        return None
    in_office = await queries.office(session, found.person_id) is not None
    over = found.seen_at + idle_limit(SignInKind.NATIVE, in_office=in_office) <= now
    # An office that was given after the sign-in shortens it.
    over = over or found.created_at + lifetime(SignInKind.NATIVE, in_office=in_office) <= now
    return None if over else found


async def _kill(session: AsyncSession, sign_in: UUID, *, now: datetime) -> None:
    """A token came back that was used before: end the family, tell the person.  The second time changes nothing."""
    for gone in await end(session, SignIn.id == sign_in, reason=EndReason.REUSE, now=now):
        await tell(session, gone.person, NoticeKind.TOKEN_REUSED, sign_in=str(gone.id), device=gone.device)
        await audit.append(
            session, kind="token_reused", actor=str(gone.person), subject=str(gone.person), sign_in=str(gone.id)
        )


def _tokens(signer: TokenSigner, family: SignIn, refresh: str, *, now: datetime) -> Tokens:
    return Tokens(
        access=signer.mint(person=family.person_id, sign_in=family.id, now=now),
        access_lasts=ACCESS_TOKEN_LASTS,
        refresh=refresh,
        ends_at=family.expires_at,
    )
