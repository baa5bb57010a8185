"""The form of an API key.  Pure: no clock, no database.

``bk_<id>_<secret>``: the id is public and finds the row, the secret is 256 random
bits and is stored as its SHA-256 only.  A fast hash is right for a secret nobody
chose: there is nothing to guess.
"""

import hashlib
import hmac
import re
from enum import StrEnum
from secrets import token_hex, token_urlsafe

_FORM = re.compile(r"bk_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")


class Role(StrEnum):
    """What a key, or a person who has signed in, may do."""

    OFFICER = "officer"  # commune or district officer: reads and changes addresses of its unit
    MONITOR = "monitor"  # provincial IT monitoring: reads everything, changes nothing
    PARTNER = "partner"  # a bank or payment partner: its own routes and what is public
    CITIZEN = "citizen"  # a person who has signed in and holds no office: their own data
    ADMIN = "admin"  # the province's registrar and data officer: everything, everywhere


OFFICES = frozenset({Role.OFFICER, Role.MONITOR, Role.ADMIN})
"""Roles that read what is not public; a person may hold one too."""


def new_key() -> tuple[str, str, bytes]:
    """A fresh key: its public id, the whole text to hand over once, and the hash to keep."""
    public_id = token_hex(6)
    secret = token_urlsafe(32)
    return public_id, f"bk_{public_id}_{secret}", _hash(secret)


def split(text: str) -> tuple[str, str] | None:
    """The id and the secret of a key as sent, or None if it has not the form of one."""
    found = _FORM.fullmatch(text)
    return (found[1], found[2]) if found else None


def matches(secret: str, kept: bytes) -> bool:
    """Whether a secret is the one whose hash was kept, in time that tells nothing."""
    return hmac.compare_digest(_hash(secret), kept)


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
