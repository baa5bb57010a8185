"""Matches as GeocodeJSON (github.com/geocoders/geocodejson-spec, 0.1.0), which geocoder-tester and others read."""

from typing import Annotated, Any

from msgspec import Meta, Struct, field

from bkapp.address.geocoding.results import Answer, Era, Grade, Match, MatchLevel, Part, UnitName

ATTRIBUTION = "bkapp, địa chỉ số Bắc Kạn"
# The levels in the words of the specification; what we mean more exactly is in ``level``.
_TYPES = {
    MatchLevel.HOUSE: "house",
    MatchLevel.STREET: "street",
    MatchLevel.HAMLET: "locality",
    MatchLevel.PLACE: "locality",
    MatchLevel.COMMUNE: "city",
    MatchLevel.DISTRICT: "county",
    MatchLevel.PROVINCE: "state",
}
Degrees = Annotated[float, Meta(description="WGS 84")]


class PointOut(Struct, frozen=True):
    """A GeoJSON point (RFC 7946)."""

    coordinates: Annotated[list[float], Meta(description="Longitude, latitude.", min_length=2, max_length=2)]
    type: str = "Point"


class UnitOfTime(Struct, frozen=True):
    """A unit as it was called in a time; ``valid_to`` is null while it is in force."""

    code: str
    name: str
    valid_from: str | None
    valid_to: str | None

    @classmethod
    def of(cls, unit: UnitName) -> "UnitOfTime":
        return cls(unit.code, unit.name, unit.valid_from, unit.valid_to)


class PartOut(Struct, frozen=True):
    """A piece of the text, what it was taken for, and how alike the two are (1: but for marks and capitals)."""

    kind: str
    text: str
    value: str
    similarity: float

    @classmethod
    def of(cls, part: Part) -> "PartOut":
        return cls(part.kind, part.text, part.value, part.similarity)


class GeocodingOut(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One match.  What does not apply is left out."""

    type: Annotated[str, Meta(description="house, street, locality, city, county or state.")]
    level: Annotated[MatchLevel, Meta(description="The same more exactly, in the register's words.")]
    label: Annotated[str, Meta(description="The address as it is written today.")]
    score: Annotated[float, Meta(description="The estimated chance that this is what was meant.", ge=0, le=1)]
    accuracy: Annotated[int, Meta(description="Metres around the point. Of a home the public sees its hamlet.")]
    name: str | None = None
    housenumber: str | None = None
    street: str | None = None
    locality: Annotated[str | None, Meta(description="The hamlet.")] = None
    city: Annotated[str | None, Meta(description="The commune of today.")] = None
    citycode: str | None = None
    district: Annotated[str | None, Meta(description="The former district.")] = None
    state: str | None = None
    country: str = ""
    postcode: str | None = None
    code: Annotated[str | None, Meta(description="The address code, for who may see which door has it.")] = None
    exact: Annotated[bool, Meta(description="Whether the point is the door's.")] = False
    hamlet_id: int | None = None
    former: Annotated[UnitOfTime | None, Meta(description="The commune or unit it was before 2025-07-01.")] = None
    era: Annotated[Era, Meta(description="The time whose units the text names.")] = Era.ANY
    matched: list[PartOut] = []
    unmatched: Annotated[list[str], Meta(description="What of the text is not explained.")] = []
    distance: Annotated[float | None, Meta(description="Metres from the point that was asked about.")] = None

    @classmethod
    def of(cls, match: Match) -> "GeocodingOut":
        unit = match.unit
        name = match.place or match.hamlet or (unit.name if unit else match.label)
        if match.level is MatchLevel.STREET:
            name = match.street or name
        return cls(
            type=_TYPES[match.level],
            level=match.level,
            label=match.label,
            score=match.score,
            accuracy=round(match.accuracy_m),
            name=name,
            housenumber=match.house_number,
            street=match.street,
            locality=match.hamlet,
            city=unit.name if unit else None,
            citycode=unit.code if unit else None,
            district=match.district,
            state=match.province,
            country="Việt Nam",
            postcode=match.postcode,
            code=match.code,
            exact=match.exact,
            hamlet_id=match.hamlet_id,
            former=UnitOfTime.of(match.former) if match.former else None,
            era=match.era,
            matched=[PartOut.of(part) for part in match.matched],
            unmatched=list(match.unmatched),
            distance=match.distance_m,
        )


class PropertiesOut(Struct, frozen=True):
    geocoding: GeocodingOut


class FeatureOut(Struct, frozen=True):
    """A GeoJSON feature with the match in ``properties.geocoding``."""

    geometry: PointOut
    properties: PropertiesOut
    type: str = "Feature"

    @classmethod
    def of(cls, match: Match) -> "FeatureOut":
        return cls(PointOut([match.lon, match.lat]), PropertiesOut(GeocodingOut.of(match)))


class AboutOut(Struct, frozen=True, omit_defaults=True):
    """What was asked, and why there is nothing where there is nothing."""

    version: str = ""
    attribution: str = ""
    query: str = ""
    reason: Annotated[
        str | None,
        Meta(description="no_name, not_here, outside, wrong_code, unknown_code, empty or too_long."),
    ] = None
    detail: str | None = None


class GeocodeOut(Struct, frozen=True):
    """A GeoJSON feature collection: the matches, best first."""

    geocoding: AboutOut
    features: list[FeatureOut]
    type: str = "FeatureCollection"

    @classmethod
    def of(cls, answer: Answer) -> "GeocodeOut":
        about = AboutOut("0.1.0", ATTRIBUTION, answer.text, answer.reason, answer.detail)
        return cls(about, [FeatureOut.of(match) for match in answer.matches])


class WashedOut(Struct, frozen=True):
    """A candidate for a washed address."""

    score: float
    label: str
    address: GeocodingOut
    lon: Degrees
    lat: Degrees
    differences: Annotated[list[PartOut], Meta(description="What was written otherwise than the register writes it.")]
    unmatched: list[str]

    @classmethod
    def of(cls, match: Match) -> "WashedOut":
        told = GeocodingOut.of(match)
        differences = [part for part in told.matched if part.similarity < 1]
        return cls(match.score, match.label, told, match.lon, match.lat, differences, told.unmatched)


class WashOut(Struct, frozen=True):
    """An address put in order.

    Class A: all of it is in the register and means one thing.  B: something was misspelt, missing or not found, and
    one place stands out.  C: a person has to choose.  ``result`` is there for A and B, ``candidates`` are the others.
    """

    query: str
    grade: Annotated[Grade, Meta(description="A exact, B likely, C ambiguous or unknown.")] = field(name="class")
    result: WashedOut | None = None
    candidates: list[WashedOut] = []
    reason: str | None = None
    detail: str | None = None

    @classmethod
    def of(cls, answer: Answer) -> "WashOut":
        washed: list[Any] = [WashedOut.of(match) for match in answer.matches]
        sure = answer.grade is not Grade.C and washed
        result, others = (washed[0], washed[1:]) if sure else (None, washed)
        return cls(answer.text, answer.grade, result, others, answer.reason, answer.detail)
