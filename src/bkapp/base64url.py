"""Base64url without padding (RFC 4648 §5), as tokens and the settings of keys are written."""

import base64
import binascii


def encode(raw: bytes) -> str:
    """Bytes as text."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def decode(text: str) -> bytes:
    """Text as bytes; raise ValueError for what :func:`encode` does not write, a second spelling of the same bytes too
    (RFC 4648 §3.5)."""
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):  # the latter for what is not ASCII
        raise ValueError("This is not base64url.") from None
    if encode(raw) != text:
        raise ValueError("This is not canonical base64url.")
    return raw


def read_keys(setting: str) -> list[tuple[str, bytes]]:
    """The ids and bytes of ``kid:key[,kid:key…]``, a setting that was checked at the start."""
    pairs = (entry.strip().partition(":") for entry in setting.split(","))
    return [(kid, read_key(key)) for kid, _, key in pairs]


def read_key(text: str) -> bytes:
    """The bytes of one key, which may be padded; empty for what is none."""
    plain = text.strip().rstrip("=")
    try:
        return base64.urlsafe_b64decode(plain + "=" * (-len(plain) % 4))
    except (binascii.Error, ValueError):
        return b""
