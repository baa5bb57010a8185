"""Attempts to sign in: begun in one browser, claimed once when that browser comes back."""

from datetime import datetime

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.errors import DomainError, FieldError, Malformed
from bkapp.identity.models import SignInAttempt
from bkapp.identity.rules import ATTEMPT_LASTS, hashed, is_challenge, is_secret, new_secret


class SignInExpired(DomainError):
    """This sign-in was begun too long ago, was finished before or was never begun here; begin again."""

    status = 400
    code = "sign_in_expired"
    title = "Lần đăng nhập này đã hết hạn hoặc đã dùng, xin đăng nhập lại"


class OtherBrowser(DomainError):
    """The sign-in was begun in another browser than the one that came back from the provider."""

    status = 400
    code = "sign_in_in_other_browser"
    title = "Lần đăng nhập này bắt đầu ở trình duyệt khác, xin đăng nhập lại"


class NativeApp(Struct, frozen=True, kw_only=True):
    """The app that a sign-in is for: where it is called back, its PKCE challenge, and what it wants back."""

    redirect: str
    challenge: str
    state: str | None


class Attempt(Struct, frozen=True, kw_only=True):
    """An attempt that was begun or claimed, with the secrets that it is checked by."""

    state: str
    nonce: str
    verifier: str
    issuer: str
    next: str
    max_age: int | None
    acr: str | None
    native: NativeApp | None


def read_app(
    *, redirect_uri: str, code_challenge: str, code_challenge_method: str, state: str, redirects: tuple[str, ...]
) -> NativeApp:
    """The app that asks, if it is one of ours and brings a challenge.

    A wrong address is never called back: whoever reads the refusal is the person.
    """
    wrong = []
    if redirect_uri not in redirects:
        wrong.append(FieldError("redirect_uri", "not the address of an app that is known here"))
    if code_challenge_method != "S256":
        wrong.append(FieldError("code_challenge_method", "S256 alone"))
    if not is_challenge(code_challenge):
        wrong.append(FieldError("code_challenge", "43 characters of base64url"))
    if not state.isascii() or not state.isprintable() or len(state) > 512:
        wrong.append(FieldError("state", "at most 512 visible ASCII characters"))
    if wrong:
        raise Malformed("This is not a sign-in of an app that is known here.", wrong)
    return NativeApp(redirect=redirect_uri, challenge=code_challenge, state=state or None)


async def begin(
    session: AsyncSession,
    *,
    issuer: str,
    browser: str,
    next: str,  # noqa: A002  (the word of the route)
    max_age: int | None,
    acr: str | None,
    native: NativeApp | None,
    now: datetime,
) -> Attempt:
    """Note that a browser, known by a secret of its own, sets out for the provider."""
    attempt = Attempt(
        state=new_secret(),
        nonce=new_secret(),
        verifier=new_secret(),
        issuer=issuer,
        next=next,
        max_age=max_age,
        acr=acr,
        native=native,
    )
    session.add(
        SignInAttempt(
            state_hash=hashed(attempt.state),
            issuer=issuer,
            nonce=attempt.nonce,
            verifier=attempt.verifier,
            browser_hash=hashed(browser),
            next=next,
            native_redirect=native and native.redirect,
            native_challenge=native and native.challenge,
            native_state=native and native.state,
            max_age=max_age,
            acr=acr,
            expires_at=now + ATTEMPT_LASTS,
        )
    )
    await session.flush()
    return attempt


async def claim(session: AsyncSession, *, state: str, browser: str, issuer: str, now: datetime) -> Attempt:
    """Take the attempt of a state, which only the browser that began it can, once.

    One who comes with another browser does not spend it for who began it.
    """
    refusal = SignInExpired("There is no sign-in under way with this state.")
    if not is_secret(state):
        raise refusal
    live = [
        SignInAttempt.state_hash == hashed(state),
        SignInAttempt.issuer == issuer,
        SignInAttempt.used_at.is_(None),
        SignInAttempt.expires_at > now,
    ]
    row = await session.scalar(
        sa.update(SignInAttempt)
        .where(*live, SignInAttempt.browser_hash == hashed(browser))
        .values(used_at=now)
        .returning(SignInAttempt)
    )
    if row is None:
        if await session.scalar(sa.select(sa.exists().where(*live))):
            raise OtherBrowser("The sign-in was begun in another browser.")
        raise refusal
    app = None
    if row.native_redirect is not None and row.native_challenge is not None:
        app = NativeApp(redirect=row.native_redirect, challenge=row.native_challenge, state=row.native_state)
    return Attempt(
        state=state,
        nonce=row.nonce,
        verifier=row.verifier,
        issuer=row.issuer,
        next=row.next,
        max_age=row.max_age,
        acr=row.acr,
        native=app,
    )
