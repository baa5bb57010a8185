"""Standard Webhooks (standardwebhooks.com, spec 1.0): messages over HTTP that prove who sent them, and when.  Pure.

A signature is over ``id.timestamp.body``, the bytes of the body as they came: ``v1`` is HMAC-SHA256 with a secret that
both sides know (``whsec_…``), ``v1a`` Ed25519 with a private key of the sender (``whsk_…``) whose public half
(``whpk_…``) the receiver has.  Several stand side by side while keys change, and one that fits is enough.

Neither an id nor a timestamp may hold a full stop, or one signature would fit two messages; a timestamp is a whole
number in its only spelling.  That an id came before is for the receiver to remember, for as long as the sender
repeats itself.
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
TOLERANCE = timedelta(minutes=5)
MOST_SIGNATURES = 16

_SECRET, _PRIVATE, _PUBLIC = "whsec_", "whsk_", "whpk_"
_ID = re.compile(r"[!-\-/-~]{1,128}")  # visible ASCII without the full stop
_TIMESTAMP = re.compile(r"0|[1-9][0-9]{0,11}")


class Reason(StrEnum):
    """Why a message is not believed."""

    INCOMPLETE = "incomplete"  # a header is missing
    MALFORMED = "malformed"  # a header cannot be read
    SIGNATURE = "signature"  # no signature fits a key of ours
    TIME = "time"  # it is signed, but of another time


class WebhookRefused(Exception):
    """A message cannot be believed."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


class BadKey(ValueError):
    """A key of ours is not one of this scheme, or not for this use.  Says nothing of the key."""


def sign(message_id: str, timestamp: int, body: bytes, keys: Iterable[str]) -> str:
    """The header ``webhook-signature``, a signature for each key: of ``whsec_`` a ``v1``, of ``whsk_`` a ``v1a``."""
    content = _content(message_id, str(timestamp), body)
    if content is None:
        raise ValueError("The id or the time is not one that can be signed.")
    signatures = [_signature(key, content) for key in keys]
    if not signatures:
        raise ValueError("There is no key to sign with.")
    return " ".join(signatures)


def verify(
    headers: Mapping[str, str], body: bytes, keys: Iterable[str], *, now: datetime, tolerance: timedelta = TOLERANCE
) -> tuple[str, int]:
    """The id and timestamp of a message whose signature fits one of the keys (``whsec_``, ``whpk_``).

    Names of headers are in lower case.  Raise :class:`WebhookRefused` for any other message, whatever it holds, and
    :class:`BadKey` for a key of ours that is none.  Signatures of versions that we do not know are passed over.
    """
    message_id, timestamp, shown = (headers.get(name) for name in (ID, TIMESTAMP, SIGNATURE))
    if message_id is None or timestamp is None or shown is None:
        raise WebhookRefused(Reason.INCOMPLETE)
    content = _content(message_id, timestamp, body)
    signatures = shown.split(" ")
    if content is None or len(signatures) > MOST_SIGNATURES:
        raise WebhookRefused(Reason.MALFORMED)
    # Every key is tried with every signature, so that the time tells nothing of which fits.
    fits = [_fits(key, content, signatures) for key in keys]
    if not any(fits):
        raise WebhookRefused(Reason.SIGNATURE)
    if abs(now.timestamp() - int(timestamp)) > tolerance.total_seconds():
        raise WebhookRefused(Reason.TIME)
    return message_id, int(timestamp)


def new_secret() -> str:
    """A fresh secret for ``v1``, to be known to both sides."""
    return _SECRET + base64.b64encode(secrets.token_bytes(32)).decode()


def new_private_key() -> str:
    """A fresh key for ``v1a``, to be known to the sender alone."""
    private = Ed25519PrivateKey.generate()
    return _PRIVATE + base64.b64encode(private.private_bytes_raw() + private.public_key().public_bytes_raw()).decode()


def public_half(private_key: str) -> str:
    """What the receiver gets of a key for ``v1a``; raise :class:`BadKey`."""
    return _PUBLIC + base64.b64encode(_private_key(private_key).public_key().public_bytes_raw()).decode()


def _content(message_id: str, timestamp: str, body: bytes) -> bytes | None:
    """What is signed; None where the id or the timestamp may not be."""
    if _ID.fullmatch(message_id) is None or _TIMESTAMP.fullmatch(timestamp) is None:
        return None
    return f"{message_id}.{timestamp}.".encode() + body


def _signature(key: str, content: bytes) -> str:
    if key.startswith(_SECRET):
        return f"v1,{_mac(key, content)}"
    return f"v1a,{base64.b64encode(_private_key(key).sign(content)).decode()}"


def _fits(key: str, content: bytes, signatures: Sequence[str]) -> bool:
    if key.startswith(_SECRET):
        # The text is compared, not the bytes it stands for: a second spelling of a signature is not one.
        right = _signature(key, content).encode()
        fits = [hmac.compare_digest(shown.encode("utf-8", "surrogatepass"), right) for shown in signatures]
        return any(fits)
    public = _public_key(key)
    return any(_is_signed(public, content, shown[4:]) for shown in signatures if shown.startswith("v1a,"))


def _is_signed(public: Ed25519PublicKey, content: bytes, shown: str) -> bool:
    signature = _decoded(shown)
    if signature is None:
        return False
    try:
        public.verify(signature, content)
    except InvalidSignature:
        return False
    return True


def _mac(key: str, content: bytes) -> str:
    secret = _key_bytes(key, _SECRET)
    if not 24 <= len(secret) <= 64:
        raise BadKey("A secret has 24 to 64 bytes.")
    return base64.b64encode(hmac.new(secret, content, hashlib.sha256).digest()).decode()


def _private_key(key: str) -> Ed25519PrivateKey:
    """The private key: 32 bytes, or 64 whose second half is the public key, as libsodium keeps it."""
    raw = _key_bytes(key, _PRIVATE)
    if len(raw) not in {32, 64}:
        raise BadKey("A private key has 32 or 64 bytes.")
    private = Ed25519PrivateKey.from_private_bytes(raw[:32])
    if len(raw) == 64 and private.public_key().public_bytes_raw() != raw[32:]:
        raise BadKey("The halves of a private key do not belong together.")
    return private


def _public_key(key: str) -> Ed25519PublicKey:
    raw = _key_bytes(key, _PUBLIC)
    if len(raw) != 32:
        raise BadKey("A public key has 32 bytes.")
    return Ed25519PublicKey.from_public_bytes(raw)


def _key_bytes(key: str, prefix: str) -> bytes:
    raw = _decoded(key.removeprefix(prefix)) if key.startswith(prefix) else None
    if raw is None:
        raise BadKey(f"A key is not {prefix} and base64.")
    return raw


def _decoded(text: str) -> bytes | None:
    """The bytes of base64 in its only spelling, else None."""
    try:
        raw = base64.b64decode(text)
    except (binascii.Error, ValueError):  # the latter for what is not ASCII
        return None
    return raw if base64.b64encode(raw).decode() == text else None
