"""Signed statements about an address, small enough for the QR code of a house plate.

A *statement* says what the register held about one address when it was signed.
It travels as a compact JWS (RFC 7515) with an Ed25519 signature (RFC 8037), so
that anybody can verify it without a network from ``/.well-known/jwks.json``.

A plate stays on a wall for decades, so a statement does not expire.  Whether
the register has moved on since is answered by :func:`judge`, which compares
revisions.  A statement never names a person, and gives the place of a home
only to those who may know it (``plus_code``).

Verification is strict on purpose: one statement has exactly one text.  Other
base64, other JSON, other header parameters and other algorithms are refused
before any signature is looked at.
"""

import base64
import re
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Meta, Struct

from bkapp import base64url
from bkapp.address import codes

TYPE = "bk-address+jwt"
ALGORITHM = "EdDSA"
LONGEST_TOKEN = 2048
SEED_BYTES = 32

_TOKEN = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
_KID = re.compile(r"[A-Za-z0-9._-]{1,16}")
_SEED = re.compile(r"[A-Za-z0-9_-]{43}")
_HEADER = {"alg", "kid", "typ"}
_NAMED_AFTER_A_KEY = ("jwk", "jku", "x5u", "x5c", "x5t", "x5t#S256", "crit")
_JWS = jwt.PyJWS(algorithms=[ALGORITHM])


class Reason(StrEnum):
    """Why a certificate is not genuine, for machines."""

    MALFORMED = "malformed"
    TOO_LONG = "too_long"
    WRONG_ALGORITHM = "wrong_algorithm"
    WRONG_TYPE = "wrong_type"
    FORBIDDEN_HEADER = "forbidden_header"
    UNKNOWN_KEY = "unknown_key"
    WRONG_SIGNATURE = "wrong_signature"
    WRONG_CLAIMS = "wrong_claims"
    OTHER_ADDRESS = "other_address"


class BadCertificate(ValueError):
    """The text is not a genuine certificate."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Statement(Struct, frozen=True, kw_only=True):
    """What the register says about an address at ``issued_at`` (aware, kept to the second).

    ``revision`` is the version number of the register's row, from 1.
    ``unit_valid_from`` tells which unit is meant: unit codes are used again.
    """

    code: str
    status: str
    unit_code: str
    unit_name: str
    unit_valid_from: date
    hamlet: str | None = None
    revision: int
    issued_at: datetime
    issuer: str
    plus_code: str | None = None


_Name = Annotated[str, Meta(min_length=1, max_length=120)]


class _Claims(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    # The order of the fields is the order in the signed text: append, never reorder.
    iss: Annotated[str, Meta(pattern=r"^https?://[!-~]{1,200}\Z")]
    sub: Annotated[str, Meta(pattern=r"^BK[0-9]{9}\Z")]
    iat: Annotated[int, Meta(ge=0, lt=1 << 36)]  # before the year 4147, so datetime can hold it
    st: Literal["proposed", "current", "retired", "rejected"]
    u: Annotated[str, Meta(pattern=r"^[0-9]{5}\Z")]
    un: _Name
    uf: date
    rev: Annotated[int, Meta(ge=1, lt=1 << 53)]
    h: _Name | None = None
    olc: Annotated[str, Meta(pattern=r"^[23456789CFGHJMPQRVWX]{8}\+[23456789CFGHJMPQRVWX]{2,7}\Z")] | None = None


class Signer:
    """The keys of the register: the first signs, all are published, so that old plates stay verifiable.

    ``kid`` is the id of the key that signs; ``public`` holds the keys that verify, by id.
    """

    def __init__(self, keys: Sequence[tuple[str, bytes]]) -> None:
        """``keys`` are pairs of a key id and a 32-byte Ed25519 seed, newest first."""
        if not keys:
            raise ValueError("There is no signing key.")
        self._private: dict[str, Ed25519PrivateKey] = {}
        seen: dict[bytes, str] = {}
        for place, (kid, seed) in enumerate(keys, start=1):
            # A kid that is not one may be a seed written on the wrong side, so it is not repeated here.
            if not _KID.fullmatch(kid):
                raise ValueError(f"The id of signing key {place} must be 1 to 16 letters, digits, dots or dashes.")
            if len(seed) != SEED_BYTES:
                raise ValueError(f"The seed of signing key {kid!r} must have {SEED_BYTES} bytes, not {len(seed)}.")
            if kid in self._private:
                raise ValueError(f"Two signing keys have the id {kid!r}.")
            if seed in seen:
                raise ValueError(f"The signing keys {seen[seed]!r} and {kid!r} have the same seed.")
            self._private[kid] = Ed25519PrivateKey.from_private_bytes(seed)
            seen[seed] = kid
        self.kid = keys[0][0]
        self.public: dict[str, Ed25519PublicKey] = {kid: key.public_key() for kid, key in self._private.items()}

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the setting ``kid:seed[,kid:seed…]``; seeds are base64url of 32 bytes.

        Errors say which entry is wrong and how, and never repeat a seed.
        """
        entries = [entry.strip() for entry in text.split(",")]
        keys = []
        for place, entry in enumerate(entries, start=1):
            kid, colon, seed = entry.partition(":")
            if not colon:
                raise ValueError(f"Signing key {place} of {len(entries)} is not written as kid:seed.")
            plain = seed.strip().removesuffix("=")
            if not _SEED.fullmatch(plain):
                raise ValueError(
                    f"The seed of signing key {place} of {len(entries)} must be {SEED_BYTES} bytes in base64url, "
                    f"43 characters; it has {len(plain)}."
                )
            keys.append((kid.strip(), base64.urlsafe_b64decode(plain + "=")))
        return cls(keys)

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """The JWK set to publish (RFC 7517, RFC 8037)."""
        return {
            "keys": [
                {
                    "kty": "OKP",
                    "crv": "Ed25519",
                    "kid": kid,
                    "use": "sig",
                    "alg": ALGORITHM,
                    "x": base64url.encode(key.public_bytes_raw()),
                }
                for kid, key in self.public.items()
            ]
        }

    def sign(self, statement: Statement) -> str:
        """The certificate of a statement: a compact JWS.  Raises ValueError for an impossible statement.

        Ed25519 is deterministic: the same statement always gives the same text.
        """
        if statement.issued_at.tzinfo is None:
            raise ValueError("issued_at must be an aware time.")
        codes.parse(statement.code)
        claims = _Claims(
            iss=statement.issuer,
            sub=f"BK{statement.code}",
            # Far from now a float is too coarse for microseconds and would round them up.
            iat=int(statement.issued_at.replace(microsecond=0).timestamp()),
            st=statement.status,  # type: ignore[arg-type]  # checked by the conversion below
            u=statement.unit_code,
            un=unicodedata.normalize("NFC", statement.unit_name),
            uf=statement.unit_valid_from,
            rev=statement.revision,
            h=statement.hamlet and unicodedata.normalize("NFC", statement.hamlet),
            olc=statement.plus_code,
        )
        payload = msgspec.json.encode(claims)
        try:
            msgspec.json.decode(payload, type=_Claims)
        except msgspec.ValidationError as error:
            raise ValueError(f"This cannot be stated: {error}") from None
        token = _JWS.encode(
            payload, self._private[self.kid], algorithm=ALGORITHM, headers={"kid": self.kid, "typ": TYPE}
        )
        if len(token) > LONGEST_TOKEN:
            raise ValueError(f"The certificate would be longer than {LONGEST_TOKEN} characters.")
        return token


def verify(token: str, keys: Signer | Mapping[str, Any]) -> Statement:
    """Return what a genuine certificate states, or raise :class:`BadCertificate`.

    ``keys`` is our signer or a published JWK set.  In a set, keys other than
    Ed25519 keys for signatures are passed over (RFC 7517 §5).
    """
    if len(token) > LONGEST_TOKEN:
        raise BadCertificate(Reason.TOO_LONG, f"A certificate has at most {LONGEST_TOKEN} characters.")
    parts = _TOKEN.fullmatch(token)
    if not parts:
        raise BadCertificate(Reason.MALFORMED, "A certificate has three base64url parts joined by dots.")
    header, payload, _ = (_decode(part) for part in parts.groups())
    key = _key_for(header, keys.public if isinstance(keys, Signer) else _read_jwks(keys))
    try:
        _JWS.decode(token, key, algorithms=[ALGORITHM])
    except jwt.InvalidTokenError:
        raise BadCertificate(Reason.WRONG_SIGNATURE, "The signature does not match.") from None
    return _read_claims(payload)


class Verdict(Struct, frozen=True):
    """What a certificate is worth today.

    ``superseded`` is genuine, but the register moved on: ``changed`` names the
    fields of :class:`Statement` that differ now.  It may be empty, when what
    changed is not part of a statement.
    """

    outcome: Literal["current", "superseded", "not_genuine"]
    statement: Statement | None = None
    changed: tuple[str, ...] = ()
    reason: Reason | None = None


def judge(token: str, keys: Signer | Mapping[str, Any], *, now: Statement) -> Verdict:
    """Compare a certificate with ``now``, the statement the register would sign today.

    A genuine certificate of another address is not genuine *here*: somebody
    copied a QR code on to another plate.
    """
    try:
        then = verify(token, keys)
    except BadCertificate as error:
        return Verdict("not_genuine", reason=error.reason)
    if then.code != now.code:
        return Verdict("not_genuine", reason=Reason.OTHER_ADDRESS)
    fields = ["status", "unit_code", "unit_name", "unit_valid_from", "hamlet"]
    # A plate in the street leaves the place of the home out, which is no change.
    if then.plus_code and now.plus_code:
        fields.append("plus_code")
    changed = tuple(field for field in fields if getattr(then, field) != getattr(now, field))
    # A higher revision than ours also counts as a difference: the register was restored from an older copy.
    outcome: Literal["current", "superseded"] = "superseded" if changed or then.revision != now.revision else "current"
    return Verdict(outcome, statement=then, changed=changed)


def link(issuer: str, code: str, token: str) -> str:
    """The text of the QR code: the public page of the address, with the certificate to check."""
    return f"{issuer}/c/{code}?v={token}"


def _decode(part: str) -> bytes:
    try:
        return base64url.decode(part)
    except ValueError:
        raise BadCertificate(Reason.MALFORMED, "A part of the certificate is not canonical base64url.") from None


def _key_for(raw: bytes, keys: Mapping[str, Ed25519PublicKey]) -> Ed25519PublicKey:
    try:
        header = msgspec.json.decode(raw, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadCertificate(Reason.MALFORMED, "The header is not a JSON object.") from None
    for name in _NAMED_AFTER_A_KEY:
        # These let a certificate bring its own key or change the rules of verification.
        if name in header:
            raise BadCertificate(Reason.FORBIDDEN_HEADER, f"The header parameter {name} is not allowed.")
    if header.get("alg") != ALGORITHM:
        raise BadCertificate(Reason.WRONG_ALGORITHM, f"The algorithm must be {ALGORITHM}.")
    if header.get("typ") != TYPE:
        raise BadCertificate(Reason.WRONG_TYPE, f"The type must be {TYPE}.")
    if set(header) - _HEADER:
        raise BadCertificate(Reason.FORBIDDEN_HEADER, "The header has unknown parameters.")
    kid = header.get("kid")
    key = keys.get(kid) if isinstance(kid, str) else None
    if key is None:
        raise BadCertificate(Reason.UNKNOWN_KEY, "The certificate was signed with a key that is not published.")
    if msgspec.json.encode({"alg": ALGORITHM, "kid": kid, "typ": TYPE}) != raw:
        raise BadCertificate(Reason.MALFORMED, "The header is not written in its one canonical form.")
    return key


def _read_claims(raw: bytes) -> Statement:
    try:
        claims = msgspec.json.decode(raw, type=_Claims)
        code = codes.parse(claims.sub)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, codes.WrongCode) as error:
        raise BadCertificate(Reason.WRONG_CLAIMS, f"The claims are not those of an address: {error}") from None
    # Catches a claim given twice, spaces, escapes and any order but ours.
    if msgspec.json.encode(claims) != raw:
        raise BadCertificate(Reason.WRONG_CLAIMS, "The claims are not written in their one canonical form.")
    return Statement(
        code=code,
        status=claims.st,
        unit_code=claims.u,
        unit_name=claims.un,
        unit_valid_from=claims.uf,
        hamlet=claims.h,
        revision=claims.rev,
        issued_at=datetime.fromtimestamp(claims.iat, UTC),
        issuer=claims.iss,
        plus_code=claims.olc,
    )


def _read_jwks(jwks: Mapping[str, Any]) -> dict[str, Ed25519PublicKey]:
    found: dict[str, Ed25519PublicKey] = {}
    keys = jwks.get("keys")
    for key in keys if isinstance(keys, list) else []:
        match key:
            case {"kty": "OKP", "crv": "Ed25519", "kid": str(kid), "x": str(x)} if (
                _SEED.fullmatch(x) and key.get("use", "sig") == "sig" and key.get("alg", ALGORITHM) == ALGORITHM
            ):
                found[kid] = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(x + "="))
            case _:
                continue
    return found
