"""Points for hamlets from OpenStreetMap's places, found by name in the commune around."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import date

from msgspec import Struct, field
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.address.imports.hamlet_writing import NewHamlet, open_hamlets, place_hamlets
from bkapp.address.imports.osm_names import bare_key
from bkapp.address.imports.osm_reading import Settlement
from bkapp.address.rules import APPROXIMATE_EDGE_METRES, LONGEST_HAMLET
from bkapp.units.names import key as name_key


class Counts(Struct):
    """What came of the hamlets of a file."""

    placed: int = 0
    had: int = 0
    unknown: int = 0
    unclear: int = 0
    outside: int = 0

    def in_words(self, *, opened: bool) -> str:
        unknown = f"{self.unknown} opened" if opened else f"{self.unknown} not known (--open-hamlets opens them)"
        return (
            f"hamlets: {self.placed} got their point, {self.had} had one, {unknown}, "
            f"{self.unclear} not clear which is meant, {self.outside} outside the province or with too long a name"
        )


class Hamlet(Struct, frozen=True):
    """A hamlet of today that a node may be.  ``ours`` says that its point, if any, came from this source before."""

    id: int
    name: str
    key: str
    point: tuple[float, float] | None
    ours: bool
    former_id: int | None  # the commune it was in before


class Around(Struct):
    """The communes around a node: those of today that may be meant, the one it lies in first; former ones."""

    inside: tuple[int, date] | None = None  # its id and first day
    near: list[int] = field(default_factory=list)
    former: set[int] = field(default_factory=set)


# Where boundaries are guesses, a node may belong to the commune beyond.
_AROUND = text("""
    WITH met AS (
        SELECT s.id, u.id AS unit_id, u.code, u.valid_from, u.valid_to IS NULL OR u.valid_to > :today AS lasts,
            u.boundary_quality = 'official' AS official, bool_or(ST_Intersects(p.geom, s.point)) AS inside,
            min(ST_Distance(p.geom::geography, s.point::geography)) AS metres
        FROM (
            SELECT id, ST_SetSRID(ST_MakePoint(lon, lat), 4326) AS point
            FROM unnest(CAST(:ids AS bigint[]), CAST(:lons AS float8[]), CAST(:lats AS float8[])) AS node (id, lon, lat)
        ) s
        JOIN admin_unit_piece p ON p.geom && ST_Expand(s.point, 0.025)
        JOIN admin_unit u ON u.id = p.unit_id AND u.level = 'commune' AND u.in_bac_kan AND u.valid_from <= :today
        GROUP BY s.id, u.id
    )
    SELECT * FROM met
    WHERE inside OR lasts AND NOT official AND metres <= :edge
        AND NOT EXISTS (SELECT FROM met m WHERE m.id = met.id AND m.lasts AND m.inside AND m.official)
    ORDER BY id, inside DESC, official DESC, metres, code
""")
_HAMLETS = text("""
    SELECT h.unit_id, h.id, h.name, h.key, ST_X(h.point::geometry) AS lon, ST_Y(h.point::geometry) AS lat,
        s.kind IS NOT DISTINCT FROM 'osm' AND s.source IS NOT DISTINCT FROM :source AS ours, o.unit_id AS former_id
    FROM hamlet h
    LEFT JOIN place_source s ON s.id = h.place_source_id
    LEFT JOIN hamlet o ON o.id = h.predecessor_id AND o.unit_id <> h.unit_id
    WHERE h.valid_to IS NULL ORDER BY h.id
""")


async def take_hamlets(
    session: AsyncSession,
    settlements: Sequence[Settlement],
    *,
    today: date,
    source: str,
    source_id: int,
    open_unknown: bool,
) -> Counts:
    """Give the hamlets that are named like a node in their commune its point, where they have none or have it from an
    earlier file of this source; open those that no hamlet is named like if ``open_unknown``."""
    counts = Counts()
    around = await _around(session, settlements, today)
    known = await _known(session, source)
    points: dict[int, tuple[float, float]] = {}
    taken: set[int] = set()
    new: dict[tuple[int, str], NewHamlet] = {}
    for node in settlements:
        where = around.get(node.id)
        meant = known.meant(node.name, where) if where is not None else []
        if len(meant) > 1:
            counts.unclear += 1
        elif not meant and where is not None and where.inside is not None and len(node.name) <= LONGEST_HAMLET:
            unit_id, since = where.inside
            new.setdefault((unit_id, bare_key(node.name)), NewHamlet(unit_id, node.name, since, node.point))
        elif not meant:
            counts.outside += 1
        elif meant[0].id in taken or (meant[0].point is not None and not meant[0].ours):
            counts.had += 1
        elif meant[0].point == node.point:
            taken.add(meant[0].id)
            counts.had += 1
        else:
            taken.add(meant[0].id)
            points[meant[0].id] = node.point
            counts.placed += 1
    counts.unknown = len(new)
    await place_hamlets(session, points, source_id=source_id)
    if open_unknown:
        counts.unknown = await open_hamlets(session, list(new.values()), source=source, source_id=source_id)
    return counts


class Known:
    """The hamlets of today by commune and name, with and without the word for what they are."""

    def __init__(self) -> None:
        self._exact: defaultdict[tuple[int, str], list[Hamlet]] = defaultdict(list)
        self._bare: defaultdict[tuple[int, str], list[Hamlet]] = defaultdict(list)

    def add(self, unit_id: int, hamlet: Hamlet) -> None:
        for name in {hamlet.key, name_key(hamlet.name)}:
            self._exact[unit_id, name].append(hamlet)
        self._bare[unit_id, bare_key(hamlet.name)].append(hamlet)

    def meant(self, name: str, where: Around) -> list[Hamlet]:
        """The hamlets that a node may be: those of the nearest commune that has any of its name."""
        for unit_id in where.near:
            found = self._exact.get((unit_id, name_key(name))) or self._bare.get((unit_id, bare_key(name))) or []
            if len(found) > 1:
                # Namesakes of a merger: the one whose former commune the node lies in.
                found = [hamlet for hamlet in found if hamlet.former_id in where.former] or found
            if found:
                return found
        return []


async def _around(session: AsyncSession, settlements: Iterable[Settlement], today: date) -> dict[int, Around]:
    found: defaultdict[int, Around] = defaultdict(Around)
    nodes = list(settlements)
    values = {
        "ids": [node.id for node in nodes],
        "lons": [node.point[0] for node in nodes],
        "lats": [node.point[1] for node in nodes],
        "today": today,
        "edge": APPROXIMATE_EDGE_METRES,
    }
    for row in await session.execute(_AROUND, values):
        where = found[row.id]
        if not row.lasts:
            where.former.add(row.unit_id)
            continue
        where.near.append(row.unit_id)
        if row.inside and where.inside is None:
            where.inside = row.unit_id, row.valid_from
    return dict(found)


async def _known(session: AsyncSession, source: str) -> Known:
    known = Known()
    for row in await session.execute(_HAMLETS, {"source": source}):
        point = None if row.lon is None else (row.lon, row.lat)
        known.add(row.unit_id, Hamlet(row.id, row.name, row.key, point, row.ours, row.former_id))
    return known
