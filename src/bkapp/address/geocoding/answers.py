"""What is said of a match: its label, what of the text it explains, how sure it is."""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from bkapp.address.geocoding.gazetteer import Gazetteer, HamletRow, Unit
from bkapp.address.geocoding.hypotheses import (
    LEAST,
    LEAST_WITH_EVIDENCE,
    Hypothesis,
    chances,
    era_of,
    evidence,
    name_of,
)
from bkapp.address.geocoding.mentions import Number
from bkapp.address.geocoding.results import Answer, Grade, Match, MatchLevel, Part, UnitName
from bkapp.address.geocoding.searching import Search

COUNTRY = "Việt Nam"


class House(Struct, frozen=True):
    """A home that the register has under a number, as far as a search needs it."""

    code: str
    number: str
    street: str | None
    unit_id: int
    hamlet_id: int | None
    lon: float
    lat: float


def answer_of(
    gazetteer: Gazetteer,
    text: str,
    found: Search,
    houses: Sequence[Sequence[House]],
    *,
    limit: int,
    typing: bool = False,
) -> Answer:
    """The matches of a search.  ``houses`` are, for each hypothesis, the homes its number leads to."""
    numbers = found.numbers
    there = [None if number is None else bool(doors) for number, doors in zip(numbers, houses, strict=True)]
    sure = chances(found.hypotheses, there)
    order = sorted(range(len(sure)), key=lambda place: -sure[place])
    # What is much less likely than the best match is not worth a line on a small screen, unless one is still typing.
    kept = [place for place in order if typing or sure[place] >= max(0.02, sure[order[0]] / 50)]
    least = LEAST_WITH_EVIDENCE if kept and evidence(found.hypotheses[kept[0]]) > 1 else LEAST
    if not kept or (not typing and sum(sure) < least):
        reason = "not_here" if any(hypothesis.elsewhere for hypothesis in found.hypotheses) else "no_name"
        return Answer(text, (), reason, _REASONS[reason])
    matches: list[Match] = []
    for place in kept[:limit]:
        hypothesis, number = found.hypotheses[place], numbers[place]
        doors: list[House | None] = [*houses[place]] or [None]
        matches += [match_of(gazetteer, found, hypothesis, number, door, sure[place]) for door in doors]
    return Answer(text, tuple(matches[:limit]), grade=_grade(found, kept, sure, there, houses))


_REASONS = {
    "not_here": "The text names another province and nothing in Bắc Kạn.",
    "no_name": "Nothing in the text is a name that the register knows.",
    "empty": "There is nothing to look for.",
    "too_long": "The text is longer than an address can be.",
    "outside": "The point lies outside the communes that the register covers.",
    "wrong_code": "The check digits of the address code do not match: at least one digit is wrong.",
    "unknown_code": "No address has this code.",
}


def nothing(text: str, reason: str, detail: str | None = None) -> Answer:
    """An answer without matches, and why."""
    return Answer(text, (), reason, detail or _REASONS[reason])


def _grade(
    found: Search,
    kept: Sequence[int],
    sure: Sequence[float],
    there: Sequence[bool | None],
    houses: Sequence[Sequence[House]],
) -> Grade:
    best = kept[0]
    hypothesis = found.hypotheses[best]
    alone = len(houses[best]) <= 1
    exact = hypothesis.coverage > 0.995 and hypothesis.likeness >= 0.99 and not hypothesis.unmatched
    if exact and there[best] is not False and sure[best] >= 0.95 and alone:
        return Grade.A
    return Grade.B if sure[best] >= 0.7 and alone else Grade.C


def match_of(
    gazetteer: Gazetteer,
    found: Search,
    hypothesis: Hypothesis,
    number: Number | None,
    house: House | None,
    score: float,
) -> Match:
    """A hypothesis as a match; with a house, of that house."""
    tokens = found.tokens
    parts = []
    for used in sorted(hypothesis.used, key=lambda used: used.mention.begin):
        written = tokens.written(used.mention.begin, used.mention.end)
        own = used.own and used.unit is None
        value = name_of(gazetteer, hypothesis) if own or used.unit is None else used.unit.row.full_name
        kind = hypothesis.level.value if own or used.unit is None else used.unit.row.level
        if used.former:
            value = f"{written} (nay thuộc {value})"
        parts.append(Part(kind, written, value, round(used.mention.similarity, 3)))
    unmatched = [tokens.written(begin, end) for begin, end in hypothesis.unmatched]
    if number is not None:
        if house is not None:
            parts.append(Part("house", number.written, house.number, 1.0))
        else:
            unmatched.insert(0, number.written)
    shared: dict[str, Any] = {
        "score": round(score, 4),
        "era": era_of(hypothesis),
        "matched": tuple(parts),
        "unmatched": tuple(unmatched),
    }
    match hypothesis.level:
        case MatchLevel.HAMLET:
            return of_hamlet(gazetteer, gazetteer.hamlets[hypothesis.index], house, **shared)
        case MatchLevel.STREET:
            street = gazetteer.streets[hypothesis.index]
            today = gazetteer.units[street.unit_id]
            return in_unit(
                today,
                level=MatchLevel.HOUSE if house else MatchLevel.STREET,
                lon=street.lon,
                lat=street.lat,
                accuracy_m=street.radius_m,
                street=street.name,
                house_number=house.number if house else None,
                code=house.code if house else None,
                **shared,
            )
        case MatchLevel.PLACE:
            place = gazetteer.places[hypothesis.index]
            return in_unit(
                gazetteer.units[place.unit_id],
                level=MatchLevel.PLACE,
                lon=place.lon,
                lat=place.lat,
                accuracy_m=50,
                place=place.name,
                **shared,
            )
    return of_unit(gazetteer, gazetteer.units[hypothesis.index], **shared)


def of_hamlet(gazetteer: Gazetteer, hamlet: HamletRow, house: House | None = None, **shared: Any) -> Match:
    """A hamlet, or a house of it at the place that anybody may know: the hamlet's."""
    former = gazetteer.units.get(hamlet.former_unit_id or 0)
    return in_unit(
        gazetteer.units[hamlet.unit_id],
        level=MatchLevel.HOUSE if house else MatchLevel.HAMLET,
        lon=hamlet.lon,
        lat=hamlet.lat,
        accuracy_m=hamlet.radius_m,
        hamlet=hamlet.full_name,
        hamlet_id=hamlet.id,
        house_number=house.number if house else None,
        street=house.street if house else None,
        former=former,
        **({"code": house.code} if house else {}),
        **shared,
    )


def of_unit(gazetteer: Gazetteer, unit: Unit, **shared: Any) -> Match:
    """A commune under its name of any time (the match is today's), a district or a province."""
    row = unit.row
    if unit.today is not None:
        former = unit if unit.today is not unit else None
        return in_unit(
            unit.today,
            level=MatchLevel.COMMUNE,
            lon=row.lon,
            lat=row.lat,
            accuracy_m=row.radius_m,
            former=former,
            **shared,
        )
    level = MatchLevel(row.level)
    above = unit.province if unit.province is not unit else None
    label = row.full_name if above is None else f"{row.full_name}, {above.row.full_name}"
    return Match(
        level=level,
        label=label,
        lon=row.lon,
        lat=row.lat,
        accuracy_m=row.radius_m,
        district=row.full_name if level is MatchLevel.DISTRICT else None,
        province=(above or unit).row.full_name,
        unit=None,
        former=_name(unit),
        **shared,
    )


def in_unit(
    today: Unit,
    *,
    level: MatchLevel,
    lon: float,
    lat: float,
    accuracy_m: float,
    former: Unit | None = None,
    house_number: str | None = None,
    street: str | None = None,
    hamlet: str | None = None,
    place: str | None = None,
    **shared: Any,
) -> Match:
    """A match in a commune of today, with its label."""
    number = None if house_number is None else house_number if house_number[:1].isalpha() else f"Số {house_number}"
    province = today.province.row.full_name if today.province else None
    lines = (place, number, street, hamlet, today.row.full_name, province)
    district = former.district if former is not None else None
    return Match(
        level=level,
        label=", ".join(line for line in lines if line),
        lon=round(lon, 7),
        lat=round(lat, 7),
        accuracy_m=round(accuracy_m),
        house_number=house_number,
        street=street,
        hamlet=hamlet,
        place=place,
        unit=_name(today),
        unit_id=today.row.id,
        former=_name(former) if former is not None and former is not today else None,
        district=district.row.full_name if district else None,
        province=province,
        postcode=(former or today).row.postcode or today.row.postcode,
        **shared,
    )


def _name(unit: Unit) -> UnitName:
    return UnitName(unit.row.code, unit.row.full_name, unit.row.valid_from, unit.row.valid_to)
