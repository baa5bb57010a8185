"""Signed checkpoints of the audit chain: "entry N had this hash on that day".

A chain that only its own database keeps can be written anew from some entry on, hashes and all.  A checkpoint that
somebody keeps elsewhere shows it.  It travels as a compact JWS (RFC 7515) with an Ed25519 signature (RFC 8037), made
with the keys that sign certificates, so that ``/.well-known/jwks.json`` verifies it; its type keeps it from being
taken for one.

Reading is strict: one checkpoint has exactly one text.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Final, Literal, Self

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Meta, Struct

from bkapp import base64url

TYPE: Final = "bk-audit+jwt"
LONGEST_TOKEN = 1024

PublicKeys = Mapping[str, Ed25519PublicKey]
"""The keys that verify, by their ids."""


class Reason(StrEnum):
    """Why a text is not a genuine checkpoint, for machines."""

    MALFORMED = "malformed"
    UNKNOWN_KEY = "unknown_key"
    WRONG_SIGNATURE = "wrong_signature"


class BadCheckpoint(ValueError):
    """The text is not a genuine checkpoint."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Checkpoint(Struct, frozen=True, kw_only=True):
    """At ``made_at`` (aware, kept to the second) the last entry was number ``seq``, with this hash of 32 bytes."""

    issuer: str
    seq: int
    hash: bytes
    made_at: datetime


class _Header(Struct, frozen=True, forbid_unknown_fields=True):
    alg: Literal["EdDSA"]
    kid: str
    typ: Literal["bk-audit+jwt"]


class _Claims(Struct, frozen=True, forbid_unknown_fields=True):
    # The order of the fields is the order in the signed text: append, never reorder.
    iss: Annotated[str, Meta(pattern=r"^https?://[!-~]{1,200}\Z")]
    iat: Annotated[int, Meta(ge=0, lt=1 << 36)]  # before the year 4147, so datetime can hold it
    seq: Annotated[int, Meta(ge=1, lt=1 << 53)]
    hash: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class Keys:
    """The keys of checkpoints: the first signs, all of ``public`` verify.

    ``pairs`` are a key id and a 32-byte Ed25519 seed each.
    """

    def __init__(self, pairs: Sequence[tuple[str, bytes]]) -> None:
        private = {kid: Ed25519PrivateKey.from_private_bytes(seed) for kid, seed in pairs}
        self.kid = pairs[0][0]
        self._key = private[self.kid]
        self.public: PublicKeys = {kid: key.public_key() for kid, key in private.items()}

    @classmethod
    def parse(cls, signing_keys: str) -> Self:
        """Read the setting ``kid:seed[,kid:seed…]``, which was checked before."""
        return cls(base64url.read_keys(signing_keys))

    def sign(self, checkpoint: Checkpoint) -> str:
        """The token of a checkpoint.  Ed25519 is deterministic: the same one always gives the same text."""
        claims = _Claims(
            iss=checkpoint.issuer,
            iat=int(checkpoint.made_at.timestamp()),
            seq=checkpoint.seq,
            hash=checkpoint.hash.hex(),
        )
        header = _Header(alg="EdDSA", kid=self.kid, typ=TYPE)
        signed = f"{base64url.encode(msgspec.json.encode(header))}.{base64url.encode(msgspec.json.encode(claims))}"
        return f"{signed}.{base64url.encode(self._key.sign(signed.encode()))}"


def read(token: str, keys: PublicKeys) -> Checkpoint:
    """What a genuine token says; raise :class:`BadCheckpoint` for any other text."""
    parts = token.split(".") if len(token) <= LONGEST_TOKEN else []
    if len(parts) != 3:
        raise BadCheckpoint(Reason.MALFORMED, "A checkpoint has three parts joined by dots.")
    header_text, claims_text, signature = (_decode(part) for part in parts)
    try:
        header = msgspec.json.decode(header_text, type=_Header)
        claims = msgspec.json.decode(claims_text, type=_Claims)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadCheckpoint(Reason.MALFORMED, f"This is no checkpoint: {error}") from None
    # Catches names given twice, spaces, escapes and any order but ours.
    if (msgspec.json.encode(header), msgspec.json.encode(claims)) != (header_text, claims_text):
        raise BadCheckpoint(Reason.MALFORMED, "The checkpoint is not written in its one canonical form.")
    key = keys.get(header.kid)
    if key is None:
        raise BadCheckpoint(Reason.UNKNOWN_KEY, "The checkpoint was signed with a key that is not published.")
    try:
        key.verify(signature, f"{parts[0]}.{parts[1]}".encode())
    except InvalidSignature:
        raise BadCheckpoint(Reason.WRONG_SIGNATURE, "The signature does not match.") from None
    return Checkpoint(
        issuer=claims.iss,
        seq=claims.seq,
        hash=bytes.fromhex(claims.hash),
        made_at=datetime.fromtimestamp(claims.iat, UTC),
    )


def _decode(part: str) -> bytes:
    try:
        raw = base64url.decode(part)
    except ValueError:
        raw = b""
    if not raw:
        raise BadCheckpoint(Reason.MALFORMED, "A part of the checkpoint is not canonical base64url.")
    return raw
