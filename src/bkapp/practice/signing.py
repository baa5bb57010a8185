"""The practice eID's keys and the tokens it signs with them, well or, on request, wrongly.

It does not use bkapp's own gate for tokens: what checks itself finds nothing.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable
from typing import Annotated, Any

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa
from jwt.algorithms import get_default_algorithms
from msgspec import Meta, Struct

PrivateKey = EllipticCurvePrivateKey | RSAPrivateKey | Ed25519PrivateKey
ALGORITHMS = ("ES256", "RS256", "EdDSA")


class Faults(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What goes wrong at the practice eID; any number of things at once.  ``slow`` is in seconds.

    Of the answer to the browser: ``wrong_state``, ``wrong_iss`` and ``no_iss`` (RFC 9207).  Of the discovery document:
    ``wrong_issuer``.  Of user info: ``wrong_userinfo_sub``.  All others are of the ID token; ``hmac`` signs with the
    public key as if it were a secret, ``future`` says it was issued in an hour, ``stale_auth_time`` that the person
    signed in a day ago.  ``rotate_keys`` happens once, when it is set.
    """

    down: bool = False
    slow: Annotated[float, Meta(ge=0, le=60)] = 0
    wrong_issuer: bool = False
    wrong_state: bool = False
    wrong_iss: bool = False
    no_iss: bool = False
    wrong_userinfo_sub: bool = False
    wrong_token_iss: bool = False
    wrong_aud: bool = False
    no_aud: bool = False
    no_iat: bool = False
    no_exp: bool = False
    no_sub: bool = False
    wrong_nonce: bool = False
    no_nonce: bool = False
    wrong_at_hash: bool = False
    no_auth_time: bool = False
    stale_auth_time: bool = False
    expired: bool = False
    future: bool = False
    bad_signature: bool = False
    alg_none: bool = False
    hmac: bool = False
    unknown_kid: bool = False
    no_kid: bool = False
    crit: bool = False
    rotate_keys: bool = False


_CLAIM_FAULTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "wrong_token_iss": lambda claims: claims.update(iss="https://another-eid.example"),
    "wrong_aud": lambda claims: claims.update(aud="another-client"),
    "no_aud": lambda claims: claims.pop("aud", None),
    "no_iat": lambda claims: claims.pop("iat", None),
    "no_exp": lambda claims: claims.pop("exp", None),
    "no_sub": lambda claims: claims.pop("sub", None),
    "wrong_nonce": lambda claims: claims.update(nonce="another-nonce"),
    "no_nonce": lambda claims: claims.pop("nonce", None),
    "wrong_at_hash": lambda claims: claims.update(at_hash=base64url(b"another access t")),
    "no_auth_time": lambda claims: claims.pop("auth_time", None),
    "stale_auth_time": lambda claims: claims.update(auth_time=claims.get("auth_time", 0) - 86_400),
    "expired": lambda claims: claims.update(iat=claims["iat"] - 7200, exp=claims["exp"] - 7200),
    "future": lambda claims: claims.update(iat=claims["iat"] + 3600, exp=claims["exp"] + 3600),
}


class Keys:
    """Signing keys, one for each algorithm; those before the last rotation still verify what they signed."""

    def __init__(self) -> None:
        self._current: dict[str, tuple[str, PrivateKey]] = {}
        self._known: dict[str, Any] = {}
        self.rotate()

    def rotate(self) -> None:
        """Make new keys; the old ones leave the key set at once, which a client survives only by fetching it anew."""
        makers: dict[str, Callable[[], PrivateKey]] = {
            "ES256": lambda: generate_private_key(SECP256R1()),
            "RS256": lambda: generate_rsa(public_exponent=65537, key_size=2048),
            "EdDSA": Ed25519PrivateKey.generate,
        }
        for algorithm in ALGORITHMS:
            kid = f"{algorithm.lower()}-{secrets.token_hex(4)}"
            key = makers[algorithm]()
            self._current[algorithm] = (kid, key)
            self._known[kid] = key.public_key()

    def public(self) -> dict[str, list[dict[str, Any]]]:
        """The key set (RFC 7517) of the keys that sign today."""
        return {
            "keys": [
                {**_jwk(algorithm, key), "kid": kid, "alg": algorithm, "use": "sig"}
                for algorithm, (kid, key) in self._current.items()
            ]
        }

    def sign(self, claims: dict[str, Any], algorithm: str, *, typ: str = "JWT", faults: Faults | None = None) -> str:
        """A compact JWS of the claims, with what is wrong about it."""
        faults = faults or Faults()
        claims = dict(claims)
        for name, spoil in _CLAIM_FAULTS.items():
            if getattr(faults, name):
                spoil(claims)
        kid, key = self._current[algorithm]
        header: dict[str, Any] = {"alg": algorithm, "typ": typ, "kid": kid}
        if faults.unknown_kid:
            header["kid"] = "nobody-has-this"
        if faults.no_kid:
            del header["kid"]
        if faults.crit:
            header |= {"crit": ["practice"], "practice": True}
        if faults.alg_none:
            return f"{_part({**header, 'alg': 'none'})}.{_part(claims)}."
        if faults.hmac:
            signed = f"{_part({**header, 'alg': 'HS256'})}.{_part(claims)}"
            secret = msgspec.json.encode(_jwk(algorithm, key))
            return f"{signed}.{base64url(hmac.digest(secret, signed.encode(), hashlib.sha256))}"
        signed = f"{_part(header)}.{_part(claims)}"
        signature = get_default_algorithms()[algorithm].sign(signed.encode(), key)
        if faults.bad_signature:
            signature = bytes([signature[0] ^ 1]) + signature[1:]
        return f"{signed}.{base64url(signature)}"

    def read(self, token: str) -> dict[str, Any] | None:
        """The claims of an ID token that we signed once, even if it has expired; None if we did not."""
        try:
            kid = jwt.get_unverified_header(token).get("kid", "")
            claims: dict[str, Any] = jwt.decode(
                token,
                self._known.get(kid, ""),
                algorithms=list(ALGORITHMS),
                options={"verify_aud": False, "verify_exp": False},
            )
        except (jwt.InvalidTokenError, jwt.InvalidKeyError, TypeError, ValueError):
            return None
        return claims


def base64url(raw: bytes) -> str:
    """Without padding, as all of JOSE has it."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def half_hash(text: str, algorithm: str) -> str:
    """``at_hash``: the left half of the hash that goes with the algorithm (OIDC Core §3.1.3.6)."""
    digest = hashlib.sha512(text.encode()).digest() if algorithm == "EdDSA" else hashlib.sha256(text.encode()).digest()
    return base64url(digest[: len(digest) // 2])


def _part(value: dict[str, Any]) -> str:
    return base64url(msgspec.json.encode(value))


def _jwk(algorithm: str, key: PrivateKey) -> dict[str, Any]:
    made = get_default_algorithms()[algorithm].to_jwk(key.public_key(), as_dict=True)
    return {name: value for name, value in made.items() if name != "key_ops"}
