"""The gate that every signed token of somebody else passes, and our own on their way back in.

PyJWT and cryptography check the signature; this module decides beforehand what may get that far.  A token is a compact
JWS (RFC 7515) of one spelling: canonical base64url, JSON objects without a member given twice.  Which algorithms count
and which keys there are is said by us, never by the token: a header that brings a key of its own, names an address to
fetch one from or asks for an extension is refused, and so is a key that was published for something else.

What the claims of a token mean is for the caller to check.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, Self

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from jwt.algorithms import Algorithm, ECAlgorithm, OKPAlgorithm, RSAAlgorithm, RSAPSSAlgorithm
from msgspec import Struct

from bkapp import base64url

LONGEST_TOKEN = 32_768
LONGEST_KEY_SET = 262_144
MOST_KEYS = 64
DEEPEST = 32
LEAST_RSA_BITS = 2048
MOST_RSA_BITS = 8192  # a longer key costs us more than it costs who sends it

Claims = dict[str, Any]
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | Ed25519PublicKey

_TOKEN = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]*)")
_MARK = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)
# A token that brings its own key, says where to fetch one, or changes the rules of verification.
_FORBIDDEN = ("jwk", "jku", "x5u", "x5c", "x5t", "x5t#S256", "crit", "b64", "zip", "enc")
_LONGEST_KID = 256


class Reason(StrEnum):
    """Why a token is refused, for machines."""

    TOO_LONG = "too_long"
    MALFORMED = "malformed"
    BAD_HEADER = "bad_header"
    FORBIDDEN_HEADER = "forbidden_header"
    WRONG_ALGORITHM = "wrong_algorithm"
    WRONG_TYPE = "wrong_type"
    UNKNOWN_KEY = "unknown_key"
    AMBIGUOUS_KEY = "ambiguous_key"
    UNSUITABLE_KEY = "unsuitable_key"
    WRONG_SIGNATURE = "wrong_signature"
    BAD_CLAIMS = "bad_claims"


class BadToken(ValueError):
    """The token does not pass the gate.  The sentence repeats nothing of it."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class _Suite(Struct, frozen=True):
    """What an algorithm asks of a key, and what checks its signatures."""

    kty: str
    crv: str | None
    hash: str
    check: Algorithm


_SUITES: dict[str, _Suite] = {
    "RS256": _Suite("RSA", None, "sha256", RSAAlgorithm(RSAAlgorithm.SHA256)),
    "RS384": _Suite("RSA", None, "sha384", RSAAlgorithm(RSAAlgorithm.SHA384)),
    "RS512": _Suite("RSA", None, "sha512", RSAAlgorithm(RSAAlgorithm.SHA512)),
    "PS256": _Suite("RSA", None, "sha256", RSAPSSAlgorithm(RSAPSSAlgorithm.SHA256)),
    "PS384": _Suite("RSA", None, "sha384", RSAPSSAlgorithm(RSAPSSAlgorithm.SHA384)),
    "PS512": _Suite("RSA", None, "sha512", RSAPSSAlgorithm(RSAPSSAlgorithm.SHA512)),
    "ES256": _Suite("EC", "P-256", "sha256", ECAlgorithm(ECAlgorithm.SHA256)),
    "ES384": _Suite("EC", "P-384", "sha384", ECAlgorithm(ECAlgorithm.SHA384)),
    "ES512": _Suite("EC", "P-521", "sha512", ECAlgorithm(ECAlgorithm.SHA512)),
    # Ed25519 alone: Ed448 goes by the same name (RFC 8037) and nobody here signs with it.
    "EdDSA": _Suite("OKP", "Ed25519", "sha512", OKPAlgorithm()),
}
_CURVES: dict[str, ec.EllipticCurve] = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}


class Key(Struct, frozen=True):
    """One published key.  ``public`` is None where the key is weak, broken or of a kind that is not used here."""

    kid: str | None
    kty: str
    crv: str | None
    alg: str | None
    public: PublicKey | None
    for_signatures: bool

    def suits(self, algorithm: str) -> bool:
        """Whether the key was published for signatures of this algorithm."""
        suite = _SUITES[algorithm]
        return (
            self.public is not None
            and self.for_signatures
            and (self.kty, self.crv) == (suite.kty, suite.crv)
            and self.alg in {None, algorithm}
        )


class Jwks:
    """A set of public keys (RFC 7517).  A key that cannot be used is remembered, so that it is not called unknown."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        """Read a JWK set; raises ValueError when it is not one."""
        entries = document.get("keys")
        if not isinstance(entries, list) or len(entries) > MOST_KEYS:
            raise ValueError(f"A JWK set has a list of at most {MOST_KEYS} keys.")
        self.keys: tuple[Key, ...] = tuple(_read_key(entry) for entry in entries if isinstance(entry, dict))

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Read a JWK set as it was fetched; raises ValueError when it is not one."""
        return cls(read_object(raw, longest=LONGEST_KEY_SET))

    def named(self, kid: str | None) -> list[Key]:
        """The keys of this id; all of them for a token that names none."""
        return [key for key in self.keys if kid is None or key.kid == kid]


class Verified(Struct, frozen=True):
    """A token that passed: what it claims, and the algorithm it was signed with."""

    claims: Claims
    algorithm: str


def verify(token: str, *, keys: Jwks, algorithms: Iterable[str], typ: frozenset[str | None]) -> Claims:
    """Return the claims of a genuine token, or raise :class:`BadToken`.

    ``algorithms`` are those that this issuer signs with; ``typ`` the types that are right here, None for a token that
    names no type.
    """
    return examine(token, keys=keys, algorithms=algorithms, typ=typ).claims


def examine(token: str, *, keys: Jwks, algorithms: Iterable[str], typ: frozenset[str | None]) -> Verified:
    """The same as :func:`verify`, for a caller that needs the algorithm too (``at_hash``)."""
    if len(token) > LONGEST_TOKEN:
        raise BadToken(Reason.TOO_LONG, f"A token has at most {LONGEST_TOKEN} characters.")
    parts = _TOKEN.fullmatch(token)
    if not parts:
        raise BadToken(Reason.MALFORMED, "A token has three base64url parts joined by dots.")
    raw_header, payload, signature = (_decode(part) for part in parts.groups())
    algorithm, kid = _read_header(raw_header, frozenset(algorithms), typ)
    key = _choose(keys, kid, algorithm)
    signed = token.rpartition(".")[0].encode("ascii")
    if not _SUITES[algorithm].check.verify(signed, key, signature):
        raise BadToken(Reason.WRONG_SIGNATURE, "The signature does not match.")
    try:
        return Verified(read_object(payload), algorithm)
    except ValueError as error:
        raise BadToken(Reason.BAD_CLAIMS, f"The claims cannot be read: {error}") from None


def half_hash(value: str, algorithm: str) -> str:
    """What ``at_hash`` and ``c_hash`` hold: the left half of a hash, in base64url (OpenID Connect Core §3.1.3.6).

    The hash is the one of the token's algorithm; for Ed25519, whose hash is inside, SHA-512.
    """
    digest = hashlib.new(_SUITES[algorithm].hash, value.encode()).digest()
    return base64url.encode(digest[: len(digest) // 2])


def read_object(raw: bytes, *, longest: int = LONGEST_TOKEN) -> dict[str, Any]:
    """Read a JSON object strictly; raises ValueError, which repeats nothing of it.

    Strictly means UTF-8, no NaN, no lone surrogate, no deep nesting and no member given twice, which two readers may
    understand in two ways.
    """
    if len(raw) > longest:
        raise ValueError(f"it is longer than {longest} bytes")
    try:
        text = raw.decode("utf-8")
        if _depth(text) > DEEPEST:
            raise ValueError(f"it is nested deeper than {DEEPEST}")
        # The stricter reader first; it alone cannot tell that a member was given twice.
        msgspec.json.decode(raw, type=dict[str, Any])
        found = json.loads(text, object_pairs_hook=_once)
    except _Twice:
        raise ValueError("a member is given twice") from None
    except (UnicodeError, RecursionError, msgspec.MsgspecError, json.JSONDecodeError):
        raise ValueError("it is not a JSON object in UTF-8") from None
    return dict(found)


class _Twice(ValueError):
    pass


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Twice
    return found


def _depth(text: str) -> int:
    """How deep brackets are nested, outside of strings."""
    depth = deepest = 0
    for mark in _MARK.finditer(text):
        if mark[0] in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif mark[0] in "]}":
            depth -= 1
    return deepest


def _decode(part: str) -> bytes:
    try:
        return base64url.decode(part)
    except ValueError:
        raise BadToken(Reason.MALFORMED, "A part of the token is not canonical base64url.") from None


def _read_header(raw: bytes, algorithms: frozenset[str], typ: frozenset[str | None]) -> tuple[str, str | None]:
    """The algorithm and the key id of a header that asks for nothing else."""
    try:
        header = read_object(raw)
    except ValueError as error:
        raise BadToken(Reason.BAD_HEADER, f"The header cannot be read: {error}") from None
    for name in header:
        if name in _FORBIDDEN or name.startswith("x5"):
            raise BadToken(Reason.FORBIDDEN_HEADER, "The header has a parameter that is not allowed.")
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in algorithms or algorithm not in _SUITES:
        raise BadToken(Reason.WRONG_ALGORITHM, "The token is signed with an algorithm that is not allowed here.")
    if not (_is_type(header["typ"], typ) if "typ" in header else None in typ):
        raise BadToken(Reason.WRONG_TYPE, "The token is of another type than is wanted here.")
    kid = header.get("kid")
    if "kid" in header and (not isinstance(kid, str) or not 1 <= len(kid) <= _LONGEST_KID):
        raise BadToken(Reason.BAD_HEADER, "The key id is not a short text.")
    return algorithm, kid


def _is_type(found: object, wanted: frozenset[str | None]) -> bool:
    """Types are media types: case does not count and ``application/`` may be left out (RFC 7515 §4.1.9)."""
    if not isinstance(found, str):
        return False
    return found.lower().removeprefix("application/") in {kind.lower() for kind in wanted if kind is not None}


def _choose(keys: Jwks, kid: str | None, algorithm: str) -> PublicKey:
    named = keys.named(kid)
    if not named:
        raise BadToken(Reason.UNKNOWN_KEY, "The token is signed with a key that is not published.")
    suiting = [key.public for key in named if key.suits(algorithm)]
    if not suiting or suiting[0] is None:
        raise BadToken(Reason.UNSUITABLE_KEY, "The key is not one for signatures of this algorithm.")
    if len(suiting) > 1:
        # Trying one after the other would let a token be good by a key that it does not name.
        raise BadToken(Reason.AMBIGUOUS_KEY, "The token does not say which of several keys signed it.")
    return suiting[0]


def _read_key(entry: dict[str, Any]) -> Key:
    kid, kty, crv, alg = (entry.get(name) for name in ("kid", "kty", "crv", "alg"))
    operations = entry.get("key_ops", ["verify"])
    public: PublicKey | None
    try:
        # A key published together with its secret half is everybody's.
        public = None if "d" in entry or "k" in entry else _read_public(entry)
    except (ValueError, UnsupportedAlgorithm):
        public = None
    return Key(
        kid=kid if isinstance(kid, str) else None,
        kty=kty if isinstance(kty, str) else "",
        crv=crv if isinstance(crv, str) else None,
        alg=None if "alg" not in entry else alg if isinstance(alg, str) else "",
        public=public,
        for_signatures=entry.get("use", "sig") == "sig" and isinstance(operations, list) and "verify" in operations,
    )


def _read_public(entry: dict[str, Any]) -> PublicKey | None:
    """The key of a JWK; None for a kind that is not used here, ValueError for numbers that are no key."""
    match entry:
        case {"kty": "RSA", "n": str(n), "e": str(e)}:
            modulus, exponent = int.from_bytes(_decode(n)), int.from_bytes(_decode(e))
            if not LEAST_RSA_BITS <= modulus.bit_length() <= MOST_RSA_BITS or modulus % 2 == 0:
                return None
            if not 3 <= exponent < 2**32:
                return None
            return rsa.RSAPublicNumbers(exponent, modulus).public_key()
        case {"kty": "EC", "crv": str(crv), "x": str(x), "y": str(y)} if crv in _CURVES:
            curve = _CURVES[crv]
            across, up = _decode(x), _decode(y)
            if {len(across), len(up)} != {(curve.key_size + 7) // 8}:
                return None
            return ec.EllipticCurvePublicNumbers(int.from_bytes(across), int.from_bytes(up), curve).public_key()
        case {"kty": "OKP", "crv": "Ed25519", "x": str(x)}:
            return Ed25519PublicKey.from_public_bytes(_decode(x))
        case _:
            return None
