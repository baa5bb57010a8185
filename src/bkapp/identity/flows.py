"""What signing in and out needs of the provider: asked outside any transaction, between two of ours."""

from collections.abc import Sequence
from datetime import UTC, datetime
from urllib.parse import urlencode

from msgspec import Struct

from bkapp.access.operations import Caller
from bkapp.db import Sessions
from bkapp.errors import DomainError
from bkapp.identity import operations, rules
from bkapp.identity.operations import (
    Attempt,
    InvalidGrant,
    InvalidTokenRequest,
    NativeApp,
    SubjectChanged,
    Tokens,
    UnsupportedGrant,
)
from bkapp.identity.providers import Identity, Provider, ProviderUnavailable, SignInDenied, SignInRefused
from bkapp.identity.rules import SignInKind
from bkapp.identity.tokens import TokenSigner
from bkapp.sealing import Keyring

CALLBACK = "/dang-nhap/ve"


class SetOut(Struct, frozen=True, kw_only=True):
    """Where a browser goes to sign in, and the secret that it must bring back with the answer."""

    location: str
    browser: str


class CameBack(Struct, frozen=True, kw_only=True):
    """Where a browser goes after signing in.  ``secret`` is its new session; None where an app signed in."""

    location: str
    secret: str | None = None
    expires_at: datetime | None = None


async def set_out(
    sessions: Sessions,
    provider: Provider,
    *,
    base_url: str,
    browser: str,
    next: str = rules.AFTER_SIGN_IN,  # noqa: A002  (the word of the route)
    max_age: int | None = None,
    acr: str | None = None,
    hint: str = "",
    native: NativeApp | None = None,
) -> SetOut:
    """Send a browser to the provider.

    ``browser`` is the secret that the browser brings from an attempt before, if it does: a second tab must not spoil
    the first.  A provider that does not answer leaves an attempt behind that nobody can finish; it is forgotten.
    """
    known = browser if rules.is_secret(browser) else rules.new_secret()
    async with sessions.begin() as session:
        attempt = await operations.begin(
            session,
            issuer=provider.issuer,
            browser=known,
            next=rules.local_path(next),
            max_age=max_age,
            acr=acr,
            native=native,
            now=datetime.now(UTC),
        )
    location = await provider.begin(
        state=attempt.state,
        nonce=attempt.nonce,
        verifier=attempt.verifier,
        redirect_uri=f"{base_url}{CALLBACK}",
        max_age=max_age,
        acr=acr,
        login_hint=rules.hint_of(hint),
    )
    return SetOut(location=location, browser=known)


async def come_back(
    sessions: Sessions,
    provider: Provider,
    keyring: Keyring,
    params: Sequence[tuple[str, str]],
    *,
    base_url: str,
    browser: str,
    old_secret: str,
    user_agent: str,
    is_demo: bool,
) -> CameBack:
    """A browser comes back from the provider with ``params``; it is signed in, or an app gets its code.

    The attempt is spent before the provider is asked, so that an answer that is sent twice is refused here.
    """
    given = dict(params)
    if len(given) != len(params):
        raise SignInRefused("A parameter of the answer is there twice.", reason="repeated_parameter")
    async with sessions.begin() as session:
        attempt = await operations.claim(
            session, state=given.get("state", ""), browser=browser, issuer=provider.issuer, now=datetime.now(UTC)
        )
    try:
        identity = await provider.finish(
            given,
            state=attempt.state,
            nonce=attempt.nonce,
            verifier=attempt.verifier,
            redirect_uri=f"{base_url}{CALLBACK}",
            max_age=attempt.max_age,
            acr=attempt.acr,
        )
    except (SignInDenied, ProviderUnavailable) as refusal:
        if attempt.native is None:
            raise
        return CameBack(location=_refusal_for(attempt.native, refusal, base_url))
    return await _settle(
        sessions,
        keyring,
        identity,
        attempt,
        base_url=base_url,
        old_secret=old_secret,
        user_agent=user_agent,
        is_demo=is_demo,
    )


async def _settle(
    sessions: Sessions,
    keyring: Keyring,
    identity: Identity,
    attempt: Attempt,
    *,
    base_url: str,
    old_secret: str,
    user_agent: str,
    is_demo: bool,
) -> CameBack:
    app = attempt.native
    kind = SignInKind.BROWSER if app is None else SignInKind.NATIVE
    now = datetime.now(UTC)
    async with sessions.begin() as session:
        arrived = await operations.arrive(
            session,
            keyring,
            identity,
            kind=kind,
            device=rules.device_label(user_agent, kind),
            # The session of the browser that an app borrows for signing in is none of the app's business.
            old_secret=old_secret if app is None else "",
            is_demo=is_demo,
            now=now,
        )
        code = ""
        if app is not None and not isinstance(arrived, SubjectChanged):
            code = await operations.give_code(
                session, sign_in=arrived.sign_in, challenge=app.challenge, redirect=app.redirect, now=now
            )
    if isinstance(arrived, SubjectChanged):
        raise arrived
    if app is not None:
        return CameBack(location=_with(app, base_url, code=code))
    return CameBack(location=attempt.next, secret=arrived.secret, expires_at=arrived.expires_at)


def _refusal_for(app: NativeApp, refusal: DomainError, base_url: str) -> str:
    error = "access_denied" if isinstance(refusal, SignInDenied) else "temporarily_unavailable"
    return _with(app, base_url, error=error)


def _with(app: NativeApp, base_url: str, **answer: str) -> str:
    """The app's address with an answer; ``iss`` says who gives it (RFC 9207)."""
    said = {**answer, **({} if app.state is None else {"state": app.state}), "iss": base_url}
    return f"{app.redirect}{'&' if '?' in app.redirect else '?'}{urlencode(said)}"


async def sign_out(sessions: Sessions, provider: Provider | None, *, caller: Caller | None, base_url: str) -> str:
    """End this session, if there is one; return where the browser goes.  Safe to repeat."""
    if caller is None or caller.person is None or caller.sign_in is None:
        return "/"
    async with sessions.begin() as session:
        await operations.sign_out(session, person=caller.person, sign_in=caller.sign_in, now=datetime.now(UTC))
    if provider is None:
        return "/"
    try:
        return await provider.end_session_url(after=f"{base_url}/") or "/"
    except ProviderUnavailable:
        # Here they are signed out, which is what they asked of us.
        return "/"


async def hear_logout(sessions: Sessions, provider: Provider, keyring: Keyring, token: str) -> int:
    """The provider tells of a logout there (back-channel); return how many sign-ins it ended here."""
    logout = await provider.read_logout(token)
    async with sessions.begin() as session:
        return await operations.hear_logout(session, keyring, logout, now=datetime.now(UTC))


class TokenRequest(Struct, frozen=True, kw_only=True):
    """What an app sends for tokens; which fields it needs depends on the grant."""

    grant_type: str = ""
    code: str = ""
    code_verifier: str = ""
    redirect_uri: str = ""
    refresh_token: str = ""


async def give_tokens(sessions: Sessions, keyring: Keyring, signer: TokenSigner, request: TokenRequest) -> Tokens:
    """Tokens for a code or for a refresh token.

    No provider is asked; the transaction is here because a refusal may end a family, which must stay.
    """
    now = datetime.now(UTC)
    if not request.grant_type:
        raise InvalidTokenRequest("Send grant_type.", error="invalid_request")
    if request.grant_type == "authorization_code":
        if not (request.code and request.code_verifier and request.redirect_uri):
            raise InvalidTokenRequest(
                "Send code, code_verifier and redirect_uri with this grant.", error="invalid_request"
            )
        async with sessions.begin() as session:
            given = await operations.exchange(
                session,
                signer,
                code=request.code,
                verifier=request.code_verifier,
                redirect=request.redirect_uri,
                now=now,
            )
    elif request.grant_type == "refresh_token":
        if not request.refresh_token:
            raise InvalidTokenRequest("Send refresh_token with this grant.", error="invalid_request")
        async with sessions.begin() as session:
            given = await operations.rotate(session, keyring, signer, token=request.refresh_token, now=now)
    else:
        raise UnsupportedGrant(
            "Tokens are given for authorization_code and refresh_token.", error="unsupported_grant_type"
        )
    if given is None:
        raise InvalidGrant("The code or token is not good for this, or not any more.", error="invalid_grant")
    return given
