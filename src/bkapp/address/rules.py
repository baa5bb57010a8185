"""The life of an address, as data.  Pure: no clock, no database, no network."""

import re
import unicodedata
from datetime import date
from enum import StrEnum
from math import asin, cos, radians, sin, sqrt

from bkapp.errors import DomainError


class Status(StrEnum):
    """Where an address is in its life.  A code that has ended is never revived (as in Denmark's DAR)."""

    PROPOSED = "proposed"  # đề nghị
    CURRENT = "current"  # đang dùng
    RETIRED = "retired"  # đã ngừng dùng
    REJECTED = "rejected"  # không chấp nhận


NEXT: dict[Status, frozenset[Status]] = {
    Status.PROPOSED: frozenset({Status.CURRENT, Status.REJECTED}),
    Status.CURRENT: frozenset({Status.RETIRED}),
    Status.RETIRED: frozenset(),
    Status.REJECTED: frozenset(),
}
LIVE = frozenset({Status.PROPOSED, Status.CURRENT})


class Change(StrEnum):
    """What happened to an address; the kind of an event in the feed."""

    PROPOSED = "proposed"
    ISSUED = "issued"
    REJECTED = "rejected"
    VERIFIED = "verified"
    POINT_CORRECTED = "point_corrected"
    DOOR_CORRECTED = "door_corrected"
    HOUSEHOLD_MOVED_IN = "household_moved_in"
    HOUSEHOLD_MOVED_OUT = "household_moved_out"
    SPLIT = "split"
    MERGED = "merged"
    TOOK_OVER = "took_over"  # replaces an address that was split, merged or retired
    RETIRED = "retired"
    UNIT_CHANGED = "unit_changed"
    HAMLET_CHANGED = "hamlet_changed"
    IDENTIFIER_GIVEN = "identifier_given"
    UPDATED = "updated"  # told to the public in place of what is not theirs to know
    IMPORTED = "imported"


class PointSource(StrEnum):
    """Where the coordinates come from."""

    GPS = "gps"
    MAP = "map"  # a pin set on a map
    SURVEY = "survey"
    PAPER = "paper"
    IMPORT = "import"
    DEMO = "demo"


class Method(StrEnum):
    """How an officer made sure of an address."""

    FIELD_VISIT = "field_visit"
    PHOTO = "photo"
    DOCUMENT = "document"
    VIDEO_CALL = "video_call"


class PlaceKind(StrEnum):
    """What the geocoder knows beside units, hamlets and homes."""

    ROAD = "road"
    """One road in one commune."""
    POI = "poi"
    """A school, market, bridge …: whatever people name to be found."""


class PlaceSourceKind(StrEnum):
    """What a file of places held."""

    HAMLETS = "hamlets"
    PLACES = "places"
    OSM = "osm"


class JobStatus(StrEnum):
    """How far a file of addresses is."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


# The forms of other registers' names: the national digital address (QĐ 392/QĐ-BTTTT), the police place id (draft
# decree of 02/2026), and anything short of somebody else's.
IDENTIFIER_FORMS = {
    "dcs10": re.compile(r"[0-9]{10}"),
    "bca12": re.compile(r"[0-9]{12}"),
    "local": re.compile(r"[0-9A-Za-z.-]{1,40}"),
}
LONGEST_HAMLET = 80  # leaves room for the former commune behind it, which a merger may add

SAME_DOOR_METRES = 3.0
NEIGHBOUR_METRES = 300.0
NEIGHBOURS_DIFFER_IN = 5
# Until official boundaries are imported, cells are drawn from points alone and their edges are guesses; a home this
# near to the commune its people name is believed to be in it.
APPROXIMATE_EDGE_METRES = 2_000.0


class IllegalMove(DomainError):
    """The address is in a state from which it cannot go where it was sent."""

    code = "address_illegal_move"
    title = "Địa chỉ không thể chuyển sang trạng thái này"


def move(now: Status, to: Status) -> Status:
    """Return ``to`` if an address may go there from ``now``; raise :class:`IllegalMove` otherwise."""
    if to in NEXT[now]:
        return to
    raise IllegalMove(f"An address that is {now} cannot become {to}.", now=now, to=to)


def door_label(building: str | None, entrance: str | None, floor: str | None, door: str | None) -> str:
    """What tells one home from another at the same door; empty for a house on its own."""
    return " ".join(part.casefold() for part in (building, entrance, floor, door) if part)


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")


def tidy(text: str | None) -> str | None:
    """One line of NFC text without control or invisible characters; None when nothing is left."""
    if text is None:
        return None
    plain = _CONTROL.sub("", unicodedata.normalize("NFC", text).replace("\n", " ").replace("\t", " "))
    return " ".join(plain.split()) or None


def metres_between(lon1: float, lat1: float, lon2: float, lat2: float) -> float:
    """Great-circle distance on a sphere of 6 371 km; within 0.6 % of the ellipsoid, for small distances only."""
    dlat, dlon = radians(lat2 - lat1) / 2, radians(lon2 - lon1) / 2
    a = sin(dlat) ** 2 + cos(radians(lat1)) * cos(radians(lat2)) * sin(dlon) ** 2
    return 12_742_000 * asin(sqrt(min(1.0, a)))


def effective_day(asked: date | None, *, today: date, began: date | None = None) -> date:
    """The day from which a change holds: as asked, today by default, never in the future or before the address.

    A change of tomorrow is not yet a fact, so the register does not hold it.
    """
    day = asked or today
    if day > today:
        raise FutureDay(f"The day {day} is in the future; record the change when it happens.", on=day)
    if began is not None and day < began:
        raise BeforeItBegan(f"The address began on {began}, after {day}.", on=day, began=began)
    return day


class FutureDay(DomainError):
    """A change was dated after today; the register records what has happened."""

    status = 422
    code = "address_future_day"
    title = "Ngày hiệu lực ở tương lai"


class BeforeItBegan(DomainError):
    """A change was dated before the address, or the stay in it, began."""

    status = 422
    code = "address_before_it_began"
    title = "Ngày hiệu lực trước khi địa chỉ bắt đầu"
