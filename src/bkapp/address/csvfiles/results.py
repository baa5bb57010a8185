"""What was found for a row, as cells of a table."""

from msgspec import Struct

from bkapp.address.geocoding.results import Answer, Grade, Match, MatchLevel

RESULTS = (
    "latitude",
    "longitude",
    "result_label",
    "result_score",
    "result_type",
    "result_id",
    "result_housenumber",
    "result_name",
    "result_street",
    "result_hamlet",
    "result_postcode",
    "result_city",
    "result_citycode",
    "result_context",
    "result_class",
    "result_level",
    "result_era",
    "result_former_citycode",
    "result_error",
)
# Levels in addok's words.
TYPES = {
    MatchLevel.HOUSE: "housenumber",
    MatchLevel.STREET: "street",
    MatchLevel.HAMLET: "locality",
    MatchLevel.PLACE: "locality",
    MatchLevel.COMMUNE: "municipality",
    MatchLevel.DISTRICT: "county",
    MatchLevel.PROVINCE: "state",
}
# Reasons that are the row's fault or ours, rather than that nothing was found.
FAULTS = frozenset({"too_long", "unavailable", "failed"})


class Question(Struct, frozen=True):
    """A row of a file: what to look for, and why that may be in vain."""

    values: list[str]
    text: str
    near: tuple[float, float] | None  # lon, lat
    wanted: tuple[tuple[str, str], ...]  # "citycode", "postcode", "type" with the value that a match has to have
    fault: str | None  # goes to result_error
    askable: bool


def chosen(question: Question, answer: Answer) -> Match | None:
    """The best match that has what the row demands."""
    for match in answer.matches:
        if all(value in _own(match, name) for name, value in question.wanted):
            return match
    return None


def _own(match: Match, name: str) -> tuple[str | None, ...]:
    match name:
        case "citycode":
            return tuple(unit.code for unit in (match.unit, match.former) if unit)
        case "postcode":
            return (match.postcode,)
    return (TYPES[match.level],)


def fault_of(question: Question, answer: Answer) -> str | None:
    """Why a row could not be asked about, which is another thing than that nothing was found."""
    return question.fault or (answer.reason if answer.reason in FAULTS else None)


def grade_of(question: Question, answer: Answer) -> Grade:
    """The class of what was found.

    Where another one than the best was taken because the row demands it, it is likely, but no longer exact.
    """
    match = chosen(question, answer)
    return Grade.C if match is None else answer.grade if match is answer.matches[0] else Grade.B


def results(question: Question, answer: Answer) -> dict[str, str]:
    """The cells of a row by their names in RESULTS; what is left out is empty."""
    match = chosen(question, answer)
    if match is None:
        reason = question.fault or answer.reason or ("filtered" if answer.matches else "not_here")
        return {"result_class": Grade.C, "result_error": reason}
    commune = match.unit
    return {
        "latitude": f"{match.lat:.6f}",
        "longitude": f"{match.lon:.6f}",
        "result_label": inert(match.label),
        "result_score": f"{match.score:.2f}",
        "result_type": TYPES[match.level],
        "result_id": id_of(match),
        "result_housenumber": inert(match.house_number or ""),
        "result_name": inert(name_of(match)),
        "result_street": inert(match.street or ""),
        "result_hamlet": inert(match.hamlet or ""),
        "result_postcode": match.postcode or "",
        "result_city": inert(commune.name) if commune else "",
        "result_citycode": commune.code if commune else "",
        "result_context": inert(", ".join(part for part in (match.district, match.province) if part)),
        "result_class": grade_of(question, answer),
        "result_level": match.level,
        "result_era": match.era,
        "result_former_citycode": match.former.code if match.former else "",
        "result_error": question.fault or "",
    }


def name_of(match: Match) -> str:
    """What is written before the commune in an address."""
    match match.level:
        case MatchLevel.HOUSE:
            return " ".join(part for part in (match.house_number, match.street or match.hamlet) if part)
        case MatchLevel.STREET:
            return match.street or ""
        case MatchLevel.HAMLET:
            return match.hamlet or ""
        case MatchLevel.PLACE:
            return match.place or ""
        case MatchLevel.COMMUNE:
            return match.unit.name if match.unit else ""
        case MatchLevel.DISTRICT:
            return match.district or ""
    return match.province or ""


def id_of(match: Match) -> str:
    """What names a match as long as it is in the register; empty where nothing does."""
    if match.code:
        return match.code
    if match.level is MatchLevel.HAMLET and match.hamlet_id is not None:
        return f"hamlet:{match.hamlet_id}"
    return match.unit.code if match.level is MatchLevel.COMMUNE and match.unit else ""


def inert(text: str) -> str:
    """A text that no spreadsheet takes for a formula.  Names begin with letters and digits, so none is changed."""
    return f"'{text}" if text[:1] in {"=", "+", "-", "@", "\t", "\r"} else text
