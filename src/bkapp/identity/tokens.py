"""The access tokens of native apps: short, signed, and good only as long as the sign-in that they name.

A token is a JWS of the type ``at+jwt`` (RFC 9068) with an Ed25519 signature, which bkapp alone reads.  Its keys are
drawn from the signing keys of the register and are not those keys, so that neither can be made to sign for the other.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from secrets import token_urlsafe
from typing import Annotated, Self
from uuid import UUID

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec import Meta, Struct

from bkapp import base64url
from bkapp.identity.jose import BadToken, Jwks, Reason, verify
from bkapp.identity.rules import ACCESS_TOKEN_LASTS

TYPE = "at+jwt"
ALGORITHM = "EdDSA"
_PURPOSE = b"bkapp access token"
_JWS = jwt.PyJWS(algorithms=[ALGORITHM])

_Id = Annotated[str, Meta(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z")]
_Second = Annotated[int, Meta(ge=0, lt=1 << 36)]


class _Claims(Struct, frozen=True, forbid_unknown_fields=True):
    iss: str
    aud: str
    sub: _Id
    sid: _Id
    iat: _Second
    exp: _Second
    jti: Annotated[str, Meta(min_length=1, max_length=64)]


class AccessToken(Struct, frozen=True, kw_only=True):
    """What a token that is good says: whose it is, and by which sign-in."""

    person: UUID
    sign_in: UUID
    expires_at: datetime


class TokenSigner:
    """Makes and reads access tokens.  The first key signs, all of them are read."""

    def __init__(self, keys: Sequence[tuple[str, bytes]], base_url: str) -> None:
        """``keys`` are pairs of an id and a 32-byte seed, as the register signs its certificates with."""
        private = {kid: _key_of(seed) for kid, seed in keys}
        self._kid = keys[0][0]
        self._key = private[self._kid]
        self._keys = Jwks({"keys": [_jwk(kid, key) for kid, key in private.items()]})
        self._issuer = base_url
        self._audience = f"{base_url}/api"

    @classmethod
    def parse(cls, signing_keys: str, base_url: str) -> Self:
        """Read the setting ``kid:seed[,kid:seed…]``, checked before; seeds are base64url of 32 bytes."""
        return cls(base64url.read_keys(signing_keys), base_url)

    def mint(self, *, person: UUID, sign_in: UUID, now: datetime) -> str:
        """A token for a sign-in, good for :data:`bkapp.identity.rules.ACCESS_TOKEN_LASTS`."""
        issued = int(now.timestamp())
        claims = _Claims(
            iss=self._issuer,
            aud=self._audience,
            sub=str(person),
            sid=str(sign_in),
            iat=issued,
            exp=issued + int(ACCESS_TOKEN_LASTS.total_seconds()),
            jti=token_urlsafe(12),
        )
        return _JWS.encode(
            msgspec.json.encode(claims), self._key, algorithm=ALGORITHM, headers={"kid": self._kid, "typ": TYPE}
        )

    def read(self, token: str, *, now: datetime) -> AccessToken:
        """What a token of ours says; raise :class:`bkapp.identity.jose.BadToken` for any other."""
        claims = verify(token, keys=self._keys, algorithms=(ALGORITHM,), typ=frozenset({TYPE}))
        try:
            found = msgspec.convert(claims, _Claims)
        except msgspec.ValidationError:
            raise BadToken(Reason.BAD_CLAIMS, "The claims are not those of an access token.") from None
        # One clock writes and reads these, so there is no leeway.
        good = found.iat <= now.timestamp() + 1 and now.timestamp() < found.exp
        if not good or (found.iss, found.aud) != (self._issuer, self._audience):
            raise BadToken(Reason.BAD_CLAIMS, "The token is over, or was made for something else.")
        return AccessToken(
            person=UUID(found.sub), sign_in=UUID(found.sid), expires_at=datetime.fromtimestamp(found.exp, UTC)
        )


def _key_of(seed: bytes) -> Ed25519PrivateKey:
    drawn = HKDF(algorithm=SHA256(), length=32, salt=None, info=_PURPOSE).derive(seed)
    return Ed25519PrivateKey.from_private_bytes(drawn)


def _jwk(kid: str, key: Ed25519PrivateKey) -> dict[str, str]:
    x = base64url.encode(key.public_key().public_bytes_raw())
    return {"kty": "OKP", "crv": "Ed25519", "kid": kid, "use": "sig", "alg": ALGORITHM, "x": x}
