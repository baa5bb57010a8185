"""Reading OpenStreetMap files with osmium: what has a name and lies in a box; nothing else is kept in memory."""

from collections import defaultdict
from collections.abc import Iterator
from itertools import count, pairwise
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from bkapp.address.imports import osm_names
from bkapp.address.imports.osm_names import RoadName
from bkapp.address.imports.places import PlaceRow
from bkapp.address.rules import PlaceKind, metres_between, tidy
from bkapp.errors import Invalid

NAMES = ("name", "name:vi", "ref", "bridge:name")
KEYS = (*osm_names.ANY_VALUE, *osm_names.SOME_VALUES, "highway", "place", "bridge:name")
# Kept in a temporary file: the nodes of a country take more memory than a small server has.
STORAGE = "sparse_file_array"

Position = tuple[float, float]


class Box(Struct, frozen=True):
    """Degrees around the province."""

    west: float
    south: float
    east: float
    north: float

    def holds(self, place: Position) -> bool:
        lon, lat = place
        return self.west <= lon <= self.east and self.south <= lat <= self.north


class Settlement(Struct, frozen=True):
    """A node that OpenStreetMap calls a hamlet, village or neighbourhood."""

    id: int
    name: str
    point: Position


class Contents(Struct):
    """What a file has in a box.  ``lines`` are pieces of roads with the road's id."""

    pois: dict[str, PlaceRow] = field(default_factory=dict)
    lines: list[tuple[str, list[Position]]] = field(default_factory=list)
    road_names: dict[str, str] = field(default_factory=dict)
    settlements: list[Settlement] = field(default_factory=list)


def read_osm(path: Path, box: Box) -> Contents:
    """What a file of OpenStreetMap holds in a box; :class:`Invalid` if it is none, or if osmium is not installed."""
    try:
        import osmium  # noqa: PLC0415  (the extra `osm`)
    except ImportError:
        raise Invalid("OpenStreetMap files need the extra `osm`: pip install bkapp[osm].", file=path.name) from None
    reading = _Reading(box, osmium.geom.WKBFactory())
    try:
        for thing in _things(osmium, path):
            reading.take(thing)
    except RuntimeError as error:
        raise Invalid(f"{path.name} cannot be read as an OpenStreetMap file: {error}.", file=path.name) from None
    return reading.done()


def _things(osmium: Any, path: Path) -> Iterator[Any]:
    """The nodes, ways and areas of a file that have one of the keys and a name.  Each is good until the next one."""
    return iter(
        osmium.FileProcessor(path)
        .with_locations(STORAGE)
        .with_areas(osmium.filter.KeyFilter(*KEYS))
        .with_filter(osmium.filter.KeyFilter(*KEYS))
        .with_filter(osmium.filter.KeyFilter(*NAMES))
    )


class _Reading:
    """Takes one thing after the other and sorts it in."""

    def __init__(self, box: Box, wkb: Any) -> None:
        self._box = box
        self._wkb = wkb
        self._found = Contents()
        self._numbers = count(1)
        self._metres: defaultdict[RoadName, float] = defaultdict(float)

    def take(self, thing: Any) -> None:
        tags = {tag.k: tag.v for tag in thing.tags}
        if thing.is_node():
            self._take_node(thing, tags)
        elif thing.is_way():
            self._take_way(thing, tags)
        elif thing.is_area():
            self._take_area(thing, tags)

    def done(self) -> Contents:
        # Of the spellings of a road the one that is written out, else the one on most of it.
        for name in sorted(self._metres, key=lambda name: (name.spoken, self._metres[name], name.name)):
            self._found.road_names[name.id] = name.name
        return self._found

    def _take_node(self, node: Any, tags: dict[str, str]) -> None:
        name = osm_names.name_of(tags)
        if name is None or not node.location.valid():
            return
        point = round(node.location.lon, 7), round(node.location.lat, 7)
        if not self._box.holds(point):
            return
        if tags.get("place") in osm_names.HAMLETS:
            self._found.settlements.append(Settlement(node.id, name, point))
        if osm_names.is_poi(tags):
            self._add(f"n{node.id}", name, point)

    def _take_way(self, way: Any, tags: dict[str, str]) -> None:
        # An extract lacks some nodes of what crosses its edge.
        line = [(node.location.lon, node.location.lat) for node in way.nodes if node.location.valid()]
        if not any(self._box.holds(place) for place in line):
            return
        if tags.get("highway", "") not in osm_names.NO_ROADS and len(line) > 1:
            metres = length(line)
            for name in osm_names.road_names(tags):
                self._metres[name] += metres
                self._found.lines.append((name.id, line))
        bridge = tidy(tags.get("bridge:name"))
        named = osm_names.name_of({"name": bridge} if bridge else tags)
        if named and (bridge or osm_names.is_poi(tags)):
            # If it is an area, that comes later, and with a better point.
            self._add(f"w{way.id}", named, middle(line))

    def _take_area(self, area: Any, tags: dict[str, str]) -> None:
        name = osm_names.name_of(tags)
        first = next((node for ring in area.outer_rings() for node in ring), None)
        if name is None or first is None or not osm_names.is_poi(tags):
            return
        if self._box.holds((first.location.lon, first.location.lat)):
            shape = bytes.fromhex(self._wkb.create_multipolygon(area))
            self._add(f"{'w' if area.from_way() else 'r'}{area.orig_id()}", name, None, shape)

    def _add(self, source_id: str, name: str, point: Position | None, shape: bytes | None = None) -> None:
        if point is None or self._box.holds(point):
            line = next(self._numbers)
            self._found.pois[source_id] = PlaceRow(line, source_id, PlaceKind.POI, name, point, shape)


def length(line: list[Position]) -> float:
    """Metres along a line."""
    return sum(metres_between(*one, *other) for one, other in pairwise(line))


def middle(line: list[Position]) -> Position:
    """The point half-way along a line."""
    half = length(line) / 2
    for one, other in pairwise(line):
        step = metres_between(*one, *other)
        if half <= step:
            part = half / step if step else 0.0
            return tuple(round(a + part * (b - a), 7) for a, b in zip(one, other, strict=True))  # type: ignore[return-value]
        half -= step
    return round(line[-1][0], 7), round(line[-1][1], 7)
