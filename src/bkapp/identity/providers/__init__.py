"""What bkapp asks of an identity provider.

A provider is somebody else's server that knows who people are.  :mod:`bkapp.identity.providers.oidc` speaks OpenID
Connect with it; nothing above this package knows a word of that protocol.
"""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Protocol

from msgspec import Struct
from typing_extensions import override

from bkapp.errors import DomainError
from bkapp.identity.claims import NotACitizen

__all__ = ["Identity", "Logout", "NotACitizen", "Provider", "ProviderUnavailable", "SignInDenied", "SignInRefused"]


class SignInRefused(DomainError):
    """What the identity provider or the browser brought back does not prove who somebody is; ``reason`` says why."""

    status = 400
    code = "sign_in_refused"
    title = "Không đăng nhập được, xin thử lại từ đầu"

    def __init__(self, detail: str, *, reason: str) -> None:
        super().__init__(detail, reason=reason)


class SignInDenied(DomainError):
    """The person did not agree at the identity provider."""

    status = 400
    code = "sign_in_denied"
    title = "Bạn đã không đồng ý đăng nhập"


class ProviderUnavailable(DomainError):
    """The identity provider is down, slow or answers what cannot be used; nothing was changed, so try again."""

    status = 503
    code = "identity_provider_unavailable"
    title = "Hệ thống định danh điện tử đang gián đoạn, xin thử lại sau ít phút"

    def __init__(self, detail: str, *, reason: str) -> None:
        super().__init__(detail, reason=reason)


class Identity(Struct, frozen=True, kw_only=True):
    """Who signed in, as the provider proves it.

    ``issuer`` and ``subject`` name the account at the provider; ``number`` is the citizen number of 12 digits;
    ``birth`` is None where a year alone is known; ``phone`` is written ``+84…``; ``level`` is the identity assurance,
    0 to 3; ``authenticated_at`` is when the person last proved it was them (UTC), and
    :data:`bkapp.identity.rules.NOT_TOLD` where the provider does not say; ``provider_sid`` names the session there,
    which a :class:`Logout` may end.
    """

    issuer: str
    subject: str
    number: str
    name: str
    birth: date | None
    phone: str | None
    level: int
    acr: str | None
    authenticated_at: datetime
    provider_sid: str | None

    @override
    def __repr__(self) -> str:
        # Personal data must not reach a log by way of a stray f-string.
        return f"Identity(issuer={self.issuer!r}, level={self.level})"


class Logout(Struct, frozen=True, kw_only=True):
    """The provider says that a session there is over, or, without ``provider_sid``, all of a subject's.

    ``jti`` is good once; it has to be remembered until ``expires_at`` (UTC).
    """

    issuer: str
    subject: str | None
    provider_sid: str | None
    jti: str
    expires_at: datetime


class Provider(Protocol):
    """An identity provider.  Every call answers within seconds, or raises :class:`ProviderUnavailable`."""

    issuer: str

    async def begin(
        self,
        *,
        state: str,
        nonce: str,
        verifier: str,
        redirect_uri: str,
        max_age: int | None = None,
        acr: str | None = None,
        login_hint: str | None = None,
    ) -> str:
        """The address to send the browser to.

        ``state``, ``nonce`` and ``verifier`` (43 to 128 characters, RFC 7636) are fresh for each sign-in and kept by
        the caller.  ``max_age`` in seconds and ``acr`` ask for a recent or a stronger proof.
        """
        ...

    async def finish(
        self,
        params: Mapping[str, str],
        *,
        state: str,
        nonce: str,
        verifier: str,
        redirect_uri: str,
        max_age: int | None = None,
        acr: str | None = None,
    ) -> Identity:
        """Who came back.  ``params`` are those of the callback, in which no name stands twice.

        Raises :class:`SignInDenied`, :class:`SignInRefused` or :class:`NotACitizen`.
        """
        ...

    async def read_logout(self, token: str) -> Logout:
        """Verify and translate a back-channel logout; raises :class:`SignInRefused` if it is not genuine."""
        ...

    async def end_session_url(self, *, after: str) -> str | None:
        """Where the browser ends the provider's own session and comes back to ``after``; None if that is nowhere."""
        ...

    async def close(self) -> None:
        """Let go of the connections."""
        ...
