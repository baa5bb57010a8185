"""Sealing of personal data: AES-256-GCM at rest, and an HMAC to find a number again without reading it.

A sealed value is ``kid \\0 nonce ciphertext+tag``, bound to the row and column it stands in (``context``), so that one
copied elsewhere does not open.  The first key of the ring seals, all of them open; ``bkapp keys reseal`` seals anew
with the first.  The look-up key stands apart and does not rotate by itself: every HMAC would have to be made again
from the opened values.

from bkapp import base64url
"""

import hashlib
import hmac
import os
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bkapp import base64url

KEY_BYTES = 32
_NONCE_BYTES = 12


class Unsealable(ValueError):
    """A sealed value is damaged, stands in another place than it was sealed for, or its key is gone."""


class Keyring:
    """The keys of personal data.  ``keys`` are pairs of an id and 32 bytes, the sealing one first."""

    def __init__(self, keys: list[tuple[str, bytes]], lookup_key: bytes) -> None:
        self.kid = keys[0][0]
        self._ciphers = {kid: AESGCM(key) for kid, key in keys}
        self._lookup_key = lookup_key

    @classmethod
    def parse(cls, data_keys: str, lookup_key: str) -> Self:
        """Read the settings ``kid:key[,kid:key…]`` and ``key``, checked before; keys are base64url of 32 bytes."""
        return cls(base64url.read_keys(data_keys), base64url.read_key(lookup_key))

    def seal(self, text: str, context: str) -> bytes:
        """A text as it may be kept.  ``context`` names its place, such as ``person.name:<id>``."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._ciphers[self.kid].encrypt(nonce, text.encode(), context.encode())
        return self.kid.encode() + b"\0" + nonce + sealed

    def open(self, sealed: bytes, context: str) -> str:
        """The text again; raise :class:`Unsealable` where it cannot be."""
        kid, _, rest = sealed.partition(b"\0")
        cipher = self._ciphers.get(kid.decode("ascii", "replace"))
        if cipher is None:
            raise Unsealable("The key of a sealed value is not in the ring.")
        try:
            return cipher.decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], context.encode()).decode()
        except (InvalidTag, ValueError):
            raise Unsealable("A sealed value does not open.") from None

    def is_stale(self, sealed: bytes) -> bool:
        """Whether a value was sealed with another key than the one that seals today."""
        return sealed.partition(b"\0")[0] != self.kid.encode()

    def lookup(self, kind: str, text: str) -> bytes:
        """By what a text of a kind (``citizen``, ``eid-subject``…) is found: 32 bytes that tell nothing of it."""
        return hmac.new(self._lookup_key, f"{kind}\0{text}".encode(), hashlib.sha256).digest()
