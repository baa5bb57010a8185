"""How events go out to partners: what they may ask to hear, where they may live, and when we try again.  Pure."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from msgspec import Struct

KINDS = (
    "bill.paid",
    "bill.reopened",
    "payment.succeeded",
    "payment.failed",
    "money.suspended",
    "refund.succeeded",
    "refund.failed",
)
"""What is told.  An endpoint asks for some of these, for all of a family (``bill.*``) or for everything (``*``)."""

PATIENCE = timedelta(seconds=15)
"""How long an endpoint may take for its answer, from looking its name up on."""
LEASE = timedelta(seconds=60)
"""For how long a message belongs to whoever sends it; well above what sending takes at the most."""
GIVE_UP = timedelta(days=3)
DISABLE = timedelta(days=5)
"""An endpoint that fails for so long without a success in between is disabled."""
TROUBLED = 3
"""From so many failures in a row on, an endpoint is left to the sweeper, so that it does not keep workers waiting."""
MOST_KEYS = 2  # of a scheme, in force

_STEPS = (
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    *(timedelta(hours=hours) for hours in (2, 5, 10, 14, 20, 24)),
)
_LEAST = timedelta(seconds=1)
_LONGEST_WAIT = timedelta(days=1)  # that an endpoint may ask of us


class Answer(Struct, frozen=True):
    """What came of a try: a status, or else why there is none."""

    status: int | None
    error: str | None
    retry_after: str | None = None

    @property
    def good(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


class Target(Struct, frozen=True):
    """Where a message goes.  ``path`` is what stands in the request line."""

    scheme: str
    host: str  # lower case; of an IPv6 address without brackets
    port: int
    path: str

    @property
    def authority(self) -> str:
        """What the Host header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


class WrongTarget(ValueError):
    """An address that nothing is sent to.  The sentence says why."""


class Refused(Exception):
    """A name stands for an address that nothing is sent to."""


# --- what is told -----------------------------------------------------------------------------------------------


def families(kind: str) -> list[str]:
    """All that an endpoint may have asked for to hear of this kind: itself, its families, everything."""
    parts = kind.split(".")
    return [kind, *(".".join([*parts[:end], "*"]) for end in range(len(parts) - 1, -1, -1))]


ASKABLE = frozenset(wanted for kind in KINDS for wanted in families(kind))


# --- when -------------------------------------------------------------------------------------------------------


def next_try(
    now: datetime, *, failed: int, share: float, retry_after: timedelta | None, give_up_at: datetime
) -> datetime | None:
    """When to try again after ``failed`` failures since the message was first to be sent; None for never.

    The wait is a share, drawn between 0 and 1, of a step that grows (full jitter: an endpoint that comes back is not
    met by all at once), and no less than the endpoint asks for.  The last try is at ``give_up_at``.
    """
    if now >= give_up_at:
        return None
    wait = _STEPS[min(max(failed, 1), len(_STEPS)) - 1] * share
    return min(now + max(wait, _LEAST, retry_after or _LEAST), give_up_at)


def read_retry_after(text: str | None, now: datetime) -> timedelta | None:
    """What a ``Retry-After`` header asks for, seconds or a date; None where it cannot be read."""
    if text is None:
        return None
    if re.fullmatch(r"[0-9]{1,9}", text.strip()):
        wait = timedelta(seconds=int(text))
    else:
        try:
            date = parsedate_to_datetime(text)
        except (ValueError, IndexError, TypeError, OverflowError):
            return None
        wait = (date if date.tzinfo else date.replace(tzinfo=UTC)) - now
    return min(max(wait, timedelta()), _LONGEST_WAIT)


# --- where ------------------------------------------------------------------------------------------------------

_PORTS = {"https": 443, "http": 80}
_LONGEST_URL = 2000
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"(?=.{{1,253}}\Z)(?:{_LABEL}\.)*{_LABEL}")
# One strict reading, so that no two programs can understand the same address differently.  A name in letters of other
# scripts comes as its ASCII form (xn--…).
_URL = re.compile(r"(https?)://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::([0-9]{1,5}))?(/[!\x24-\x5b\x5d-\x7e]*)?")


def read_target(url: str, *, demo: bool = False) -> Target:
    """Where a URL points; raise :class:`WrongTarget` for one that nothing is sent to.

    https to a public host, port 443 or a port that needs no privilege.  ``demo`` also allows http and addresses of
    this machine.  What a name stands for is checked when something is sent (:func:`check_addresses`).
    """
    parts = _URL.fullmatch(url) if len(url) <= _LONGEST_URL else None
    if parts is None:
        raise WrongTarget("It is no plain web address: https, a host, a path; no user, no fragment, ASCII only.")
    scheme, written, port_text, path = parts.groups()
    host = _host(written)
    port = int(port_text) if port_text else _PORTS[scheme]
    if port != 443 and not 1024 <= port <= 65535:
        raise WrongTarget("The port is 443, or one from 1024 on.")
    if scheme != "https" and not demo:
        raise WrongTarget("It begins with https.")
    address = _literal(host)
    if address is not None:
        try:
            check_addresses([host], scheme=scheme, demo=demo)
        except Refused:
            raise WrongTarget("It is not an address of the public Internet.") from None
    return Target(scheme, host, port, path or "/")


def check_addresses(found: Sequence[str], *, scheme: str, demo: bool) -> None:
    """Raise :class:`Refused` unless all that a name stands for may be sent to.

    One that may not refuses them all: a name with an inner address beside a public one is up to no good.
    """
    for text in found:
        try:
            address = ip_address(text)
        except ValueError:
            raise Refused(text) from None
        if demo and address.is_loopback:
            continue
        if scheme != "https" or not is_public(address):
            raise Refused(text)


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address is one host of the public Internet.  The registries of IANA, and clouds' own services."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC)
    if address.scope_id is not None:
        return False
    for network in _WRAPPING:
        if address in network:  # an IPv4 address, written so for IPv6 or translated by the network
            return is_public(IPv4Address(int(address) & 0xFFFF_FFFF))
    return address in _UNICAST and not any(address in network for network in _NOT_PUBLIC_6)


_NOT_PUBLIC = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",
        "100.64.0.0/10",  # behind a carrier's translation; a cloud's metadata
        "127.0.0.0/8",
        "168.63.129.16/32",  # a cloud's own service, at a public address
        "169.254.0.0/16",  # link-local; most clouds' metadata
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocols; a cloud's metadata
        "192.0.2.0/24",  # documentation, as two more below
        "192.88.99.0/24",  # relays of 6to4
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)
_UNICAST = IPv6Network("2000::/3")
_WRAPPING = (IPv6Network("::ffff:0:0/96"), IPv6Network("64:ff9b::/96"))
_NOT_PUBLIC_6 = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocols, with Teredo, which hides an IPv4 address
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which hides an IPv4 address, too
        "3fff::/20",  # documentation
    )
)


def _host(written: str) -> str:
    host = written.lower()
    if host.startswith("["):
        host = host[1:-1]
        if _literal(host) is None:
            raise WrongTarget("What stands in brackets is no IPv6 address.")
        return host
    # Numbers at the end make it an IPv4 address for those who resolve it: 2130706433, 0x7f.1 and 127.1 are 127.0.0.1.
    if re.fullmatch(r"[0-9]+|0x[0-9a-f]*", host.rpartition(".")[2]):
        if _literal(host) is None:
            raise WrongTarget("An IPv4 address is four decimal numbers with full stops between.")
        return host
    if _NAME.fullmatch(host) is None:
        raise WrongTarget("The host is no name of the domain name system.")
    return host


def _literal(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None
