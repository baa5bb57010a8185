"""How bkapp proves to a provider that it is itself: with a key of its own (RFC 7523) or, at older ones, a secret."""

import base64
import secrets
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote_plus

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from bkapp.identity.providers import ProviderUnavailable

ALGORITHM = "ES256"
ASSERTION_LASTS = 60
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

Keys = list[tuple[str, ec.EllipticCurvePrivateKey]]


def read_keys(client_key: str) -> Keys:
    """Read the setting ``kid:key[,kid:key…]``; keys are P-256 scalars, base64url of 32 bytes.  The first one signs.

    Raises ValueError, which never repeats a key.
    """
    found: Keys = []
    for place, entry in enumerate(filter(None, client_key.split(",")), start=1):
        kid, _, text = entry.strip().partition(":")
        try:
            raw = base64.urlsafe_b64decode(text.strip() + "=" * (-len(text.strip()) % 4))
            if not kid or len(raw) != 32:
                raise ValueError  # noqa: TRY301  (one sentence for whatever is wrong)
            found.append((kid, ec.derive_private_key(int.from_bytes(raw), ec.SECP256R1())))
        except ValueError:
            raise ValueError(f"Client key {place} is not kid:key with a P-256 key of 32 bytes in base64url.") from None
    return found


def public_jwks(client_key: str) -> dict[str, list[dict[str, str]]]:
    """The JWK set (RFC 7517) to publish for the provider: the public halves of the setting's keys."""
    return {"keys": [_public_jwk(kid, key) for kid, key in read_keys(client_key)]}


class ClientAuth:
    """The client and what it proves itself with."""

    def __init__(self, *, client_id: str, secret: str, keys: Keys) -> None:
        self.client_id = client_id
        self._secret = secret
        self._keys = keys

    def prove(
        self, *, issuer: str, methods: Sequence[str], algorithms: Sequence[str] | None, now: float
    ) -> tuple[dict[str, str], dict[str, str]]:
        """The form fields and the headers that prove who asks.

        ``methods`` and ``algorithms`` are those the provider takes.  A key is better than a secret: it never leaves
        us.  The assertion is for the issuer and good once, so no other provider can use it.
        """
        if self._keys and "private_key_jwt" in methods and (algorithms is None or ALGORITHM in algorithms):
            return {
                "client_id": self.client_id,
                "client_assertion_type": _ASSERTION_TYPE,
                "client_assertion": self._assertion(issuer, int(now)),
            }, {}
        if self._secret and "client_secret_basic" in methods:
            # Both are form-encoded first (RFC 6749 §2.3.1), which matters for a colon or a plus.
            pair = f"{quote_plus(self.client_id)}:{quote_plus(self._secret)}"
            return {}, {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
        if self._secret and "client_secret_post" in methods:
            return {"client_id": self.client_id, "client_secret": self._secret}, {}
        if "none" in methods:
            return {"client_id": self.client_id}, {}
        raise ProviderUnavailable(
            "The identity provider takes no proof of the client that is set up here.", reason="no_client_authentication"
        )

    def _assertion(self, issuer: str, now: int) -> str:
        kid, key = self._keys[0]
        claims: dict[str, Any] = {
            "iss": self.client_id,
            "sub": self.client_id,
            "aud": issuer,
            "jti": secrets.token_urlsafe(24),
            "iat": now,
            "exp": now + ASSERTION_LASTS,
        }
        return jwt.encode(claims, key, algorithm=ALGORITHM, headers={"kid": kid})


def _public_jwk(kid: str, key: ec.EllipticCurvePrivateKey) -> dict[str, str]:
    numbers = key.public_key().public_numbers()
    x, y = (base64.urlsafe_b64encode(part.to_bytes(32)).rstrip(b"=").decode() for part in (numbers.x, numbers.y))
    return {"kty": "EC", "crv": "P-256", "kid": kid, "use": "sig", "alg": ALGORITHM, "x": x, "y": y}
