"""What a token that passed the gate must claim before it is believed: for us, by this provider, now, for this sign-in.

OpenID Connect Core §3.1.3.7 (ID token), §5.3.2 (userinfo), Back-Channel Logout 1.0 §2.6 (logout token).
"""

import hmac
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from bkapp.identity import jose, rules
from bkapp.identity.providers import Logout, SignInRefused

SKEW = 60  # seconds that two clocks may differ
FRESH = 600  # seconds from the issue of a token to its use: it comes straight from the provider
LONGEST_SUBJECT = 255
LOGOUT_LASTS = 86_400  # the longest that a logout token has to be remembered
LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"


class Wanted(Struct, frozen=True, kw_only=True):
    """What this sign-in asked for and got besides the ID token.

    ``max_age`` in seconds.  ``acr`` must be met by name; one of ``acr_allowed`` only if the token names any.
    """

    nonce: str
    access_token: str
    code: str
    max_age: int | None
    acr: str | None
    acr_allowed: Sequence[str]


class Proof(Struct, frozen=True, kw_only=True):
    """What an ID token proves."""

    subject: str
    acr: str | None
    authenticated_at: datetime
    provider_sid: str | None


def check_id_token(token: jose.Verified, wanted: Wanted, *, issuer: str, client_id: str, now: float) -> Proof:
    """Check the claims of an ID token; raises :class:`SignInRefused`."""
    claims = token.claims
    _check_addressed(claims, issuer, client_id)
    _check_time(claims, now)
    subject = _text(claims, "sub", needed=True)
    _check_nonce(claims, wanted.nonce)
    _check_half_hash(claims, "at_hash", wanted.access_token, token.algorithm)
    _check_half_hash(claims, "c_hash", wanted.code, token.algorithm)
    acr = _text(claims, "acr")
    _check_acr(acr, wanted)
    authenticated = _check_auth_time(claims, wanted.max_age, now)
    return Proof(
        subject=str(subject),
        acr=acr,
        # When the token was issued says nothing of it: a provider that knows the browser issues one unasked.
        authenticated_at=rules.NOT_TOLD if authenticated is None else datetime.fromtimestamp(int(authenticated), UTC),
        provider_sid=_text(claims, "sid"),
    )


def check_userinfo(claims: Mapping[str, Any], *, subject: str, issuer: str, client_id: str) -> None:
    """Check that a userinfo answer is about ``subject``, and where it says for whom and by whom it is, that too."""
    found = claims.get("sub")
    if not isinstance(found, str) or not hmac.compare_digest(found.encode(), subject.encode()):
        raise _refused("userinfo_sub", "The userinfo is about another subject than the ID token.")
    if "iss" in claims and claims["iss"] != issuer:
        raise _refused("userinfo_iss", "The userinfo was made by another issuer.")
    if "aud" in claims and client_id not in _audiences(claims):
        raise _refused("userinfo_aud", "The userinfo was made for another client.")


def check_logout(token: jose.Verified, *, issuer: str, client_id: str, now: float) -> Logout:
    """Check the claims of a logout token; raises :class:`SignInRefused`."""
    claims = token.claims
    _check_addressed(claims, issuer, client_id)
    _check_time(claims, now)
    expires = _number(claims, "exp")
    if expires is None or expires > now + LOGOUT_LASTS:
        raise _refused("exp", "A logout token is good for a day at most.")
    if "nonce" in claims:
        # So that an ID token, which has one, never ends a session.
        raise _refused("nonce", "A logout token has no nonce.")
    events = claims.get("events")
    if not isinstance(events, dict) or not isinstance(events.get(LOGOUT_EVENT), dict):
        raise _refused("events", "The token does not say that it is a logout.")
    subject, sid = _text(claims, "sub"), _text(claims, "sid")
    if subject is None and sid is None:
        raise _refused("sub", "The logout token names neither a subject nor a session.")
    return Logout(
        issuer=issuer,
        subject=subject,
        provider_sid=sid,
        jti=str(_text(claims, "jti", needed=True)),
        expires_at=datetime.fromtimestamp(int(expires) + SKEW, UTC),
    )


def _refused(claim: str, detail: str) -> SignInRefused:
    return SignInRefused(detail, reason=f"wrong_{claim}")


def _audiences(claims: Mapping[str, Any]) -> list[str]:
    found = claims.get("aud")
    if isinstance(found, str):
        return [found]
    return found if isinstance(found, list) and all(isinstance(entry, str) for entry in found) else []


def _check_addressed(claims: Mapping[str, Any], issuer: str, client_id: str) -> None:
    """That the token is by ``issuer`` and for us; one that is for others as well must have been given to us."""
    if claims.get("iss") != issuer:
        raise _refused("iss", "The token was made by another issuer.")
    audiences = _audiences(claims)
    if client_id not in audiences:
        raise _refused("aud", "The token was made for another client.")
    if (len(audiences) > 1 or "azp" in claims) and claims.get("azp") != client_id:
        raise _refused("azp", "The token was given to another client.")


def _check_time(claims: Mapping[str, Any], now: float) -> None:
    """That the token is good now."""
    issued, expires, begins = (_number(claims, name) for name in ("iat", "exp", "nbf"))
    if issued is None or not now - FRESH - SKEW <= issued <= now + SKEW:
        raise _refused("iat", "The token does not say that it was issued just now.")
    if expires is None or expires <= now - SKEW or expires < issued:
        raise _refused("exp", "The token has expired or does not say when it does.")
    if begins is not None and begins > now + SKEW:
        raise _refused("nbf", "The token is not good yet.")


def _check_nonce(claims: Mapping[str, Any], nonce: str) -> None:
    found = claims.get("nonce")
    if not isinstance(found, str) or not hmac.compare_digest(found.encode(), nonce.encode()):
        raise _refused("nonce", "The ID token belongs to another sign-in.")


def _check_half_hash(claims: Mapping[str, Any], name: str, value: str, algorithm: str) -> None:
    found = claims.get(name)
    if name in claims and (
        not isinstance(found, str) or not hmac.compare_digest(found.encode(), jose.half_hash(value, algorithm).encode())
    ):
        raise _refused(name, f"The ID token came with something else than what its {name} is of.")


def _check_acr(acr: str | None, wanted: Wanted) -> None:
    if wanted.acr is not None and acr not in wanted.acr.split():
        raise _refused("acr", "The person did not sign in as strongly as was asked.")
    if acr is not None and wanted.acr is None and wanted.acr_allowed and acr not in wanted.acr_allowed:
        raise _refused("acr", "The person signed in in another way than was asked.")


def _check_auth_time(claims: Mapping[str, Any], max_age: int | None, now: float) -> float | None:
    found = _number(claims, "auth_time")
    if found is not None and found > now + SKEW:
        raise _refused("auth_time", "The person signed in later than now.")
    if max_age is not None and (found is None or now - found > max_age + SKEW):
        raise _refused("auth_time", "The person has not signed in as recently as was asked.")
    return found


def _number(claims: Mapping[str, Any], name: str) -> float | None:
    """A time in seconds since 1970; None where it is missing.  One that no calendar has is refused."""
    value = claims.get(name)
    if name not in claims:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**33:
        raise _refused(name, f"The claim {name} is not a time.")
    return float(value)


def _text(claims: Mapping[str, Any], name: str, *, needed: bool = False) -> str | None:
    value = claims.get(name)
    if name not in claims and not needed:
        return None
    # Not printable: a text with a NUL cannot be kept by PostgreSQL.
    if not isinstance(value, str) or not 1 <= len(value) <= LONGEST_SUBJECT or not value.isprintable():
        raise _refused(name, f"The claim {name} is not a text of 1 to {LONGEST_SUBJECT} characters.")
    return value
