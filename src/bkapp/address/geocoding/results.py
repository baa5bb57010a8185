"""What a search for an address answers."""

from enum import StrEnum

from msgspec import Struct


class MatchLevel(StrEnum):
    """How near a match comes to the door, nearest first."""

    HOUSE = "house"
    STREET = "street"
    HAMLET = "hamlet"
    PLACE = "place"
    """A point of interest: a school, a market, a bridge."""
    COMMUNE = "commune"
    DISTRICT = "district"
    PROVINCE = "province"


class Era(StrEnum):
    """In the units of which time an address was written."""

    TODAY = "today"
    """Two tiers, since 2025-07-01."""
    BEFORE_2025 = "before_2025"
    """Three tiers: a commune, district or province that ended on 2025-07-01."""
    BEFORE_2020 = "before_2020"
    """A commune that ended before our records begin (2020-02-01)."""
    MIXED = "mixed"
    """Names of more than one time, such as a new commune with an old district."""
    ANY = "any"
    """Nothing in the text tells: the names were and are in use."""


class Grade(StrEnum):
    """Classes of a washed address, after the Danish "datavask"."""

    A = "A"
    """Exact: all that was written is in the register, and means one thing."""
    B = "B"
    """Likely: something was misspelt, missing or not found, and one match stands out."""
    C = "C"
    """Ambiguous or unknown: a person has to choose from the candidates."""


class UnitName(Struct, frozen=True):
    """A unit as it was called for some time."""

    code: str
    name: str  # with its kind: "Xã Phủ Thông"
    valid_from: str | None  # ISO day; None before our records begin
    valid_to: str | None


class Part(Struct, frozen=True):
    """A piece of the text and what it was taken for."""

    kind: str  # house, street, hamlet, place, commune, district, province, code, plus_code, coordinates
    text: str  # as it was written
    value: str  # as the register calls it
    similarity: float  # 1 where they are the same but for marks, capitals and spelling variants


class Match(Struct, frozen=True, kw_only=True):
    """One place that the text may mean.

    ``score`` is the estimated chance that it is the right one, 0 to 1.  ``lon``, ``lat`` are where it is as far as
    anybody may know: of a house the middle of its hamlet, ``accuracy_m`` metres around; ``code`` and the exact
    place of a house are there only for those who may see them.
    """

    level: MatchLevel
    score: float
    label: str
    lon: float
    lat: float
    accuracy_m: float
    house_number: str | None = None
    street: str | None = None
    hamlet: str | None = None
    hamlet_id: int | None = None
    place: str | None = None
    unit: UnitName | None = None  # the commune of today
    unit_id: int | None = None
    former: UnitName | None = None  # the commune it was in before
    district: str | None = None  # the former district
    province: str | None = None  # today's
    postcode: str | None = None
    code: str | None = None
    exact: bool = False  # whether lon, lat are the door's
    era: Era = Era.ANY
    matched: tuple[Part, ...] = ()
    unmatched: tuple[str, ...] = ()
    distance_m: float | None = None


class Answer(Struct, frozen=True):
    """The matches of a text, best first; where there are none, ``reason`` says why in a stable word."""

    text: str
    matches: tuple[Match, ...] = ()
    reason: str | None = None  # empty, too_long, no_name, not_here, outside, unknown_code
    detail: str | None = None
    grade: Grade = Grade.C
