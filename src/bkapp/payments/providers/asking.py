"""What asking any provider needs: our settings for it, the codes it refuses with, the addresses it sends payers to."""

import re
from urllib.parse import urlsplit

from bkapp.payments.providers import Merchant, NotSent

_CODE = re.compile(r"[0-9A-Za-z_.-]{1,32}")
_ADDRESS = re.compile(r"[!#-;=?-\[\]_a-z~]{1,2048}")  # what may stand in a URL as it is
_HERE = frozenset({"localhost", "127.0.0.1"})


def option_of(merchant: Merchant, name: str) -> str:
    """A setting of a merchant; raise :class:`NotSent` where there is none, for then nothing can be asked."""
    value = merchant.options.get(name)
    if not value:
        raise NotSent(f"The merchant has no option {name}.")
    return value


def secret_of(merchant: Merchant, purpose: str) -> str:
    """The secret that signs for a purpose; raise :class:`NotSent` where there is none."""
    secrets = merchant.secrets.get(purpose, ())
    if not secrets:
        raise NotSent(f"The merchant has no secret for {purpose}.")
    return secrets[0]


def read_code(text: str) -> str:
    """A provider's word for an outcome; raise ``ValueError`` for what is none."""
    if _CODE.fullmatch(text) is None:
        raise ValueError("not a code")
    return text


def payer_url(text: str) -> str:
    """An address that a payer may be sent to: https, or http on this machine; raise ``ValueError`` for any other."""
    if _ADDRESS.fullmatch(text) is None:
        raise ValueError("not an address")
    parts = urlsplit(text)
    if not parts.hostname or "@" in parts.netloc or parts.port == 0:
        raise ValueError("not an address of a site")
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _HERE):
        raise ValueError("not an https address")
    return text
