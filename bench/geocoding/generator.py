"""A made-up province, always the same: the 108 communes of 2025-06-30, 12 hamlets in each, 64 homes in each hamlet."""

from collections.abc import Iterator
from datetime import date
from functools import cache
from math import cos, hypot, pi, sin, sqrt
from random import Random

from msgspec import Struct

from bench.geocoding.names import ENDS, HEADS, SETTLERS, TAILS
from bench.geocoding.spelling import fold
from bkapp.units.models import Level
from bkapp.units.seed import SeedUnit, shipped

SEED = 18_900_411  # the day the province was founded; a new seed is a new set
LAST_DAY = date(2025, 7, 1)  # the day the 108 communes ended
HAMLETS, HOMES = 12, 64  # in a commune, in a hamlet
EAST, NORTH = 103_200, 110_700  # metres in a degree, in the middle of the province
APART = 200  # metres between the middles of two hamlets
ROOM = 150  # metres from there to land that may be another commune's
PITCH, SWAY = 14, 3  # metres: houses stand on a grid, a little beside their place
LARGEST = 2_600  # metres: how far from the middle of a commune its hamlets lie


class Unit(Struct, frozen=True):
    """A commune or district as it is written."""

    code: str
    kind: str
    name: str


class Commune(Struct, frozen=True):
    """A commune of 2025-06-30 and what it is part of since the day after."""

    code: str
    kind: str
    name: str
    district: Unit
    today: Unit
    lon: float
    lat: float


class Hamlet(Struct, frozen=True):
    commune: Commune
    kind: str
    bare: str  # without its kind: "Nà Lẹng", "8A"
    lon: float
    lat: float

    @property
    def name(self) -> str:
        return f"{self.kind} {self.bare}"

    @property
    def is_numbered(self) -> bool:
        return self.bare[0].isdigit()


class Household(Struct, frozen=True):
    hamlet: Hamlet
    number: str
    lon: float
    lat: float


@cache
def communes() -> tuple[Commune, ...]:
    """The 108, by code."""
    seed = shipped()
    old = [unit for unit in seed.units if unit.in_bac_kan and unit.valid_to == LAST_DAY]
    new = {unit.code: unit for unit in seed.units if unit.valid_to is None}
    districts = {unit.code: unit for unit in old if unit.level is Level.DISTRICT}
    become = {step.old: step.new for step in seed.successions if step.effective == LAST_DAY}
    return tuple(
        Commune(
            code=unit.code,
            kind=unit.kind,
            name=unit.name,
            district=_written(districts[unit.parent or ""]),
            today=_written(new[become[unit.code]]),
            lon=unit.lon,
            lat=unit.lat,
        )
        for unit in sorted(old, key=lambda unit: unit.code)
        if unit.level is Level.COMMUNE
    )


@cache
def hamlets() -> tuple[Hamlet, ...]:
    """Twelve in each commune; no two of a commune have one name, whatever their kind and marks."""
    neighbours = [(site.lon, site.lat) for site in shipped().neighbours]
    sites = [(commune.lon, commune.lat) for commune in communes()] + neighbours
    made: list[Hamlet] = []
    for commune in communes():
        dice = Random(f"{SEED}:{commune.code}")
        names = _names(commune, dice)
        middles = _middles(commune, sites, dice)
        made += [
            Hamlet(commune, kind, bare, round(lon, 7), round(lat, 7))
            for (kind, bare), (lon, lat) in zip(names, middles, strict=True)
        ]
    return tuple(made)


def households() -> Iterator[Household]:
    """All 82,944, hamlet after hamlet."""
    for hamlet in hamlets():
        dice = Random(f"{SEED}:{hamlet.commune.code}:{hamlet.bare}")
        for place, number in enumerate(_numbers(dice)):
            x, y = place % 8 - 3.5, place // 8 - 3.5
            east = x * PITCH + dice.uniform(-SWAY, SWAY)
            north = y * PITCH + dice.uniform(-SWAY, SWAY)
            yield Household(hamlet, number, round(hamlet.lon + east / EAST, 7), round(hamlet.lat + north / NORTH, 7))


def _written(unit: SeedUnit) -> Unit:
    return Unit(unit.code, unit.kind, unit.name)


def _names(commune: Commune, dice: Random) -> list[tuple[str, str]]:
    """The kinds and names of a commune's hamlets: numbers in towns, names elsewhere, a few of each in between."""
    if commune.kind == "Phường":
        numbered, kind = 8, "Tổ"
    elif commune.kind == "Thị trấn":
        numbered, kind = dice.randint(4, 7), dice.choice(("Tổ", "Tổ dân phố", "Tiểu khu", "Tiểu khu", "Khu"))
    else:
        numbered, kind = (dice.randint(2, 4), dice.choice(("Thôn", "Khu", "Xóm"))) if dice.random() < 0.06 else (0, "")
    found = [(kind, bare) for bare in _ordinals(numbered, dice, lettered=commune.kind != "Xã")]
    usual = "Thôn" if commune.kind != "Xã" else dice.choices(("Thôn", "Bản", "Xóm"), (86, 6, 8))[0]
    taken: set[str] = set()
    while len(found) < HAMLETS:
        bare = _name(dice)
        for part in (bare, f"{bare} 1", f"{bare} 2") if dice.random() < 0.06 else (bare,):
            own = usual if dice.random() < 0.9 else dice.choice(("Thôn", "Xóm", "Bản", "Khu"))
            if own == "Bản" and part.startswith("Bản "):
                own = "Thôn"
            if part is bare and any(fold(f"{bare} {number}") in taken for number in (1, 2)):
                continue
            if fold(part) not in taken and len(found) < HAMLETS and (part is bare or fold(bare) not in taken):
                taken.add(fold(part))
                found.append((own, part))
    return found


def _ordinals(count: int, dice: Random, *, lettered: bool) -> list[str]:
    """``count`` different numbers as quarters have them: "3", "12", in towns "8A" and "8B"."""
    found: list[str] = []
    number = 0
    while len(found) < count:
        number += dice.choice((1, 1, 1, 2, 3)) if lettered else 1
        if lettered and dice.random() < 0.3:
            found += [f"{number}A", f"{number}B"]
        else:
            found.append(str(number))
    return found[:count]


def _name(dice: Random) -> str:
    if dice.random() < 0.08:
        return dice.choice(SETTLERS)
    head = dice.choices(tuple(HEADS), tuple(HEADS.values()))[0]
    tail = TAILS[int(len(TAILS) * dice.random() ** 1.6)]
    return f"{head} {tail} {dice.choice(ENDS)}" if dice.random() < 0.06 else f"{head} {tail}"


def _numbers(dice: Random) -> list[str]:
    """64 different house numbers: most plain, and after some of them 14A, 14B or 14/2 as houses come in between."""
    plain = HOMES - dice.randint(4, 10)
    numbers = [str(number) for number in range(1, plain + 1)]
    between: list[str] = []
    while len(between) < HOMES - plain:
        number = dice.randint(1, plain)
        wanted = dice.choice((f"{number}A", f"{number}B", f"{number}/2", f"{number}/{dice.randint(1, 9)}"))
        if wanted not in between:
            between.append(wanted)
    for wanted in between:
        numbers.insert(dice.randint(0, len(numbers)), wanted)
    return numbers


def _middles(commune: Commune, sites: list[tuple[float, float]], dice: Random) -> list[tuple[float, float]]:
    """Where a commune's hamlets are: nearer to its point than to any other's, with room for their houses.

    Boundaries drawn from nothing but those points (Voronoi) differ a little with the map they are drawn on, so both
    degrees and metres have to agree.
    """
    here = commune.lon, commune.lat
    others = [site for site in sites if site != here]
    away = [hypot((lon - here[0]) * EAST, (lat - here[1]) * NORTH) for lon, lat in others]
    reach = min(LARGEST, 0.9 * min(metres for metres in away if metres > 500))
    near = [site for site, metres in zip(others, away, strict=True) if metres < 2 * reach + 2_000]
    found: list[tuple[float, float]] = []
    while len(found) < HAMLETS:
        angle, far = dice.uniform(0, 2 * pi), reach * sqrt(dice.random())
        spot = here[0] + far * cos(angle) / EAST, here[1] + far * sin(angle) / NORTH
        if all(_apart(spot, other) >= APART for other in found) and all(
            _to_the_line(spot, here, other, east, north) >= ROOM
            for other in near
            for east, north in ((EAST, NORTH), (NORTH, NORTH))
        ):
            found.append(spot)
    return found


def _apart(one: tuple[float, float], other: tuple[float, float]) -> float:
    return hypot((one[0] - other[0]) * EAST, (one[1] - other[1]) * NORTH)


def _to_the_line(
    spot: tuple[float, float], here: tuple[float, float], other: tuple[float, float], east: float, north: float
) -> float:
    """How far a spot is on this side of the line in the middle between two points."""
    dx, dy = (other[0] - here[0]) * east, (other[1] - here[1]) * north
    x, y = (spot[0] - here[0]) * east, (spot[1] - here[1]) * north
    between = hypot(dx, dy)
    return between / 2 - (x * dx + y * dy) / between
