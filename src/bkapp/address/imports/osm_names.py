"""What OpenStreetMap's tags call things: roads by name and number, points of interest, hamlets.  Pure."""

import re
from collections.abc import Mapping

from msgspec import Struct

from bkapp.address.geocoding.normalise import squeeze
from bkapp.address.geocoding.words import road_reference
from bkapp.address.imports.reading import LONGEST
from bkapp.address.rules import tidy
from bkapp.units.names import key

# What is named after itself and looked for by its name, whatever its value, and where only some values are.
ANY_VALUE = ("amenity", "shop", "tourism", "healthcare", "leisure", "historic")
SOME_VALUES = {
    "office": frozenset({"government", "administrative", "diplomatic"}),
    "man_made": frozenset({"bridge"}),
    "railway": frozenset({"station", "halt"}),
    "public_transport": frozenset({"station"}),
    "natural": frozenset({"cave_entrance", "water", "peak"}),
}
# What is tagged like a road and is not one, or not yet.
NO_ROADS = frozenset({"", "proposed", "construction", "platform", "bus_stop", "rest_area", "services"})
HAMLETS = frozenset({"hamlet", "village", "neighbourhood"})

_KINDS = (
    "to dan pho",
    "khu dan cu",
    "cum dan cu",
    "khu pho",
    "tieu khu",
    "thon",
    "xom",
    "ban",
    "lang",
    "khu",
    "to",
    "ap",
)
_KIND = re.compile(rf"(?:{'|'.join(_KINDS)}) (?=.*[a-z])(.+)")
_STREET = re.compile(r"(?:duong pho|duong|pho) (.+)")


class RoadName(Struct, frozen=True):
    """One of the names of a road.  ``id`` is the same for every way that spells it another way."""

    id: str
    name: str
    spoken: bool  # written out, as in "Quốc lộ 3", and not as a number on a sign


def name_of(tags: Mapping[str, str]) -> str | None:
    """The Vietnamese name, tidied; None where there is none that fits."""
    for tag in ("name:vi", "name"):
        name = tidy(tags.get(tag))
        if name and key(name) and len(name) <= LONGEST:
            return name
    return None


def road_names(tags: Mapping[str, str]) -> list[RoadName]:
    """What a highway is called: by each number of its ``ref``, and by its name.

    ``QL.3``, ``QL 3`` and a way named ``Quốc lộ 3`` are one road; a street that is a part of it
    (``Đường Trần Hưng Đạo``, ref ``QL3``) is another one beside it.
    """
    found: dict[str, RoadName] = {}
    name = name_of(tags)
    if name:
        found[road_id(name)] = RoadName(road_id(name), name, spoken=True)
    for part in (tags.get("ref") or "").split(";"):
        sign = re.sub(r"[\s.\-]", "", tidy(part) or "").upper()
        if key(sign) and len(sign) <= LONGEST:
            found.setdefault(road_id(sign), RoadName(road_id(sign), sign, spoken=False))
    return list(found.values())


def road_id(name: str) -> str:
    """The stable id of a road's name: ``road:QL3`` whether the sign or the name says it, else ``road:hung vuong``."""
    reference = road_reference(squeeze(name))
    if reference:
        return f"road:{reference.upper()}"
    plain = key(name)
    street = _STREET.fullmatch(plain)
    return f"road:{street[1] if street else plain}"


def is_poi(tags: Mapping[str, str]) -> bool:
    return any(tag in tags for tag in ANY_VALUE) or any(tags.get(tag) in values for tag, values in SOME_VALUES.items())


def bare_key(name: str) -> str:
    """The key of a hamlet's name without its kind: ``Thôn Nà Ít`` and ``Nà Ít`` are one; ``Tổ 8`` is not ``Thôn 8``."""
    plain = key(name)
    named = _KIND.fullmatch(plain)
    return named[1] if named else plain
