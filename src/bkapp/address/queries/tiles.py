"""What lies in a square of the map, drawn by PostGIS as a vector tile.

Whatever anybody sees of homes is computed from two things: homes as they were at the last step of the feed
(``_THEN``), and of each of them only the square of 566 m that it stands in (``_SQUARE``).
"""

from collections.abc import Awaitable, Callable, Collection
from datetime import date
from typing import Any

from msgspec import Struct
from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.address.tiles import (
    BUFFER,
    COARSEST_SQUARE,
    EXTENT,
    FEWEST_HOMES,
    FINEST_SQUARE,
    HAMLETS_FROM,
    MOST_BYTES,
    STEP,
    Layer,
    Tile,
)

BEFORE_2025 = date(2025, 6, 30)
# How many times coarser a tile is drawn, tried in this order until it is small enough.
COARSER = (1, 4, 16, 64)
MOST_HAMLETS = 600  # in a tile, at the finest
MOST_HOMES = 600
BYTES_FOR_CELLS = 6_000  # what 256 squares take at most, which stand in the same tile as homes


class Drawn(Struct, frozen=True):
    """A tile, and the number of the state of the register that it shows."""

    version: int
    body: bytes


class Homes(Struct, frozen=True):
    """The part of a tile that shows single homes, and how many there are."""

    body: bytes
    count: int


class About(Struct, frozen=True):
    """What the register knows of a map as a whole; ``bounds`` are west, south, east, north."""

    version: int
    bounds: list[float] | None
    sources: list[str]


# --- parts of statements ----------------------------------------------------------------------------------------

_IN_FORCE = "{0}.valid_from <= :day AND ({0}.valid_to IS NULL OR {0}.valid_to > :day)"
_HAMLET_IN_FORCE = _IN_FORCE.format("h")
_COMMUNE_IN_FORCE = f"u.level = 'commune' AND u.in_bac_kan AND {_IN_FORCE.format('u')}"
_BOX = "ST_MakeEnvelope(:west, :south, :east, :north, 4326)"

# Units begin and end on days that are known beforehand, so a map may change on a day when nothing is written.
_DAYS = """
    (SELECT count(DISTINCT valid_from) FILTER (WHERE valid_from <= :day)
          + count(DISTINCT valid_to) FILTER (WHERE valid_to <= :day) FROM admin_unit)"""
# Every number in these only ever rises, so no two states have the same sum.
_NAMES = f"((SELECT version FROM gazetteer_head) * 1000 + {_DAYS})"
_NAMES_AND_HOMES = f"({_NAMES} + (SELECT seq / {STEP} FROM feed_head) * 1000)"

# Shares of the way across the world from the west, and down from the north.
_ACROSS = "(({lon} + 180) / 360)"
_DOWN = "((1 - asinh(tan(radians({lat}))) / pi()) / 2)"
_LON, _LAT = "ST_X({}.point::geometry)", "ST_Y({}.point::geometry)"
_SQUARE = f"""
    CAST(floor({_ACROSS.format(lon="lon")} * {1 << FINEST_SQUARE}) AS int) AS sx,
    CAST(floor({_DOWN.format(lat="lat")} * {1 << FINEST_SQUARE}) AS int) AS sy"""

# ``across`` and ``down`` as steps in the tile.
_X, _Y = f"(across * :count - :x) * {EXTENT}", f"(down * :count - :y) * {EXTENT}"
_GEOM = f"ST_MakePoint(floor({_X} + 0.5), floor({_Y} + 0.5)) AS geom"
_IN_TILE = f"{_X} BETWEEN {-BUFFER} AND {EXTENT + BUFFER} AND {_Y} BETWEEN {-BUFFER} AND {EXTENT + BUFFER}"

# What the feed said, at its last step, of the addresses that have changed since; all others are as they were.
# They are looked up one by one, because the planner would sooner read all events.
_THEN = f"""
    changed AS MATERIALIZED (
        SELECT code, min(revision) - 1 AS revision
        FROM (SELECT code, revision FROM address_event
              WHERE seq > (SELECT seq - seq % {STEP} FROM feed_head) ORDER BY seq LIMIT {STEP}) AS event
        GROUP BY code
    ), before AS MATERIALIZED (
        SELECT CAST(data ->> 'lon' AS float8) AS lon, CAST(data ->> 'lat' AS float8) AS lat,
            data #>> '{{unit,code}}' AS unit, CAST(data #>> '{{unit,valid_from}}' AS date) AS unit_since,
            CAST(data #>> '{{hamlet,id}}' AS bigint) AS hamlet_id
        FROM changed, LATERAL (
            SELECT data FROM address_event e
            WHERE e.code = changed.code AND e.revision = changed.revision LIMIT 1) AS event
        WHERE data ->> 'status' = 'current'
    )"""
_UNCHANGED = "d.status = 'current' AND d.code NOT IN (SELECT code FROM changed)"


def _mvt(name: str, rows: str) -> str:
    """Rows with a ``geom`` as a layer of a vector tile; no bytes where there are no rows."""
    return f"coalesce((SELECT ST_AsMVT(part, '{name}', {EXTENT}, 'geom') FROM ({rows}) AS part), '')"


def _statement(version: str, *layers: str, tables: str) -> TextClause:
    """A tile with its version."""
    return text(f"WITH {tables} SELECT {version}, {' || '.join(layers)}")


# --- units ------------------------------------------------------------------------------------------------------

# Vertices go to a grid of half a pixel, each by itself, so that neighbours still meet.
_SHAPES = f"""
    tile AS (
        SELECT edge, width / 512 * :coarser AS grid, ST_Transform(ST_Expand(edge, width / 8), 4326) AS around
        FROM (SELECT edge, ST_XMax(edge) - ST_XMin(edge) AS width
              FROM ST_TileEnvelope(CAST(:z AS int), CAST(:column AS int), CAST(:row AS int)) AS edge) AS square
    ), shape AS MATERIALIZED (
        SELECT u.code, u.name, u.kind, u.boundary_quality AS quality,
            ST_Transform(ST_ClipByBox2D(u.boundary, around), 3857) AS land
        FROM tile JOIN admin_unit u ON u.boundary && around AND {_COMMUNE_IN_FORCE}
    ), whole AS (
        SELECT ST_Boundary(ST_Union(CASE WHEN ST_IsValid(land) THEN land ELSE ST_MakeValid(land) END ORDER BY code))
            AS line
        FROM shape
    )"""
_DRAWN = f"ST_AsMVTGeom(ST_SnapToGrid({{}}, grid), edge, {EXTENT}, {BUFFER}) AS geom"
_UNITS = _statement(
    _NAMES,
    _mvt(
        "units",
        f"""SELECT * FROM (SELECT code, name, kind, quality, {_DRAWN.format("land")} FROM shape, tile) AS drawn
            WHERE geom IS NOT NULL ORDER BY code""",
    ),
    _mvt("outline", f"SELECT * FROM (SELECT {_DRAWN.format('line')} FROM whole, tile) AS drawn WHERE geom IS NOT NULL"),
    tables=_SHAPES,
)


async def _units(session: AsyncSession, tile: Tile, day: date, coarser: int) -> Drawn:
    values = {"z": tile.z, "column": tile.x, "row": tile.y, "coarser": float(coarser), "day": day}
    return await _drawn(session, _UNITS, values)


# --- counts by commune ------------------------------------------------------------------------------------------

_COMMUNES = f"""
    commune AS (
        SELECT * FROM (
            SELECT u.id, u.code, u.valid_from, u.name, u.kind,
                {_ACROSS.format(lon=_LON.format("u"))} AS across, {_DOWN.format(lat=_LAT.format("u"))} AS down
            FROM admin_unit u WHERE {_COMMUNE_IN_FORCE}) AS u
        WHERE {_IN_TILE}
    )"""


def _by_commune(what: str, rows: str) -> str:
    """The communes in a tile with the ``number`` that rows give for a ``unit_id``."""
    return _mvt(
        "communes",
        f"""SELECT code, name, kind, CAST(number AS int) AS {what}, {_GEOM}
            FROM commune JOIN ({rows}) AS counted ON unit_id = commune.id ORDER BY code""",
    )


_HAMLETS_BY_COMMUNE = _statement(
    _NAMES_AND_HOMES,
    _by_commune(
        "hamlets", f"SELECT unit_id, count(*) AS number FROM hamlet h WHERE {_HAMLET_IN_FORCE} GROUP BY unit_id"
    ),
    tables=_COMMUNES,
)
_HOMES_BY_COMMUNE = _statement(
    _NAMES_AND_HOMES,
    _by_commune(
        "homes",
        f"""SELECT unit_id, count(*) AS number FROM (
                SELECT unit_id FROM dwelling d
                WHERE unit_id = ANY(ARRAY(SELECT id FROM commune)) AND {_UNCHANGED}
                UNION ALL
                SELECT id FROM before JOIN commune ON code = unit AND valid_from = unit_since) AS home
            GROUP BY unit_id HAVING count(*) >= {FEWEST_HOMES}""",
    ),
    tables=f"{_THEN}, {_COMMUNES}",
)

# --- hamlets ----------------------------------------------------------------------------------------------------

# Where nobody has told the place of a hamlet, it stands in the middle of the square that is the mean of its homes'
# squares; with few homes that would give them away, so it is left out.
_PLACED = f"""
    told AS (
        SELECT h.id, {_ACROSS.format(lon=_LON.format("h"))} AS across, {_DOWN.format(lat=_LAT.format("h"))} AS down
        FROM hamlet h WHERE h.point && {_BOX}::geography AND {_HAMLET_IN_FORCE}
    ), untold AS MATERIALIZED (
        SELECT id FROM hamlet h WHERE point IS NULL AND {_HAMLET_IN_FORCE}
            AND unit_id IN (SELECT unit_id FROM admin_unit_piece WHERE geom && {_BOX})
    ), home AS (
        SELECT hamlet_id, {_LON.format("d")} AS lon, {_LAT.format("d")} AS lat FROM dwelling d
        WHERE hamlet_id = ANY(ARRAY(SELECT id FROM untold)) AND {_UNCHANGED}
        UNION ALL
        SELECT hamlet_id, lon, lat FROM before WHERE hamlet_id IN (SELECT id FROM untold)
    ), placed AS (
        SELECT id, across, down, NULL AS approximate FROM told
        UNION ALL
        SELECT hamlet_id, CAST(floor(avg(sx + 0.5)) + 0.5 AS float8) / {1 << FINEST_SQUARE},
            CAST(floor(avg(sy + 0.5)) + 0.5 AS float8) / {1 << FINEST_SQUARE}, true
        FROM (SELECT hamlet_id, {_SQUARE} FROM home) AS square
        GROUP BY hamlet_id HAVING count(*) >= {FEWEST_HOMES}
    )"""
_HAMLETS = _statement(
    _NAMES_AND_HOMES,
    _mvt(
        "hamlets",
        f"""SELECT h.id, h.name || coalesce(' (' || h.qualifier || ')', '') AS name, u.code AS unit, approximate,
                {_GEOM}
            FROM placed JOIN hamlet h ON h.id = placed.id JOIN admin_unit u ON u.id = h.unit_id
            WHERE {_IN_TILE} ORDER BY h.id LIMIT :most""",
    ),
    tables=f"{_THEN}, {_PLACED}",
)
_BEYOND = 0.02  # degrees: people may live up to 2 km outside the approximate boundary of their commune


async def _hamlets(session: AsyncSession, tile: Tile, day: date, coarser: int) -> Drawn:
    values = _place(tile) | {"day": day}
    if tile.z < HAMLETS_FROM:
        return await _drawn(session, _HAMLETS_BY_COMMUNE, values)
    return await _drawn(session, _HAMLETS, values | _degrees(tile, _BEYOND) | {"most": MOST_HAMLETS // coarser})


# --- squares of homes -------------------------------------------------------------------------------------------


def _within(zoom: int) -> str:
    """The tile of a lower zoom that a square lies in."""
    return f"sx >> {FINEST_SQUARE - zoom}, sy >> {FINEST_SQUARE - zoom}"


_ZOOMS = range(COARSEST_SQUARE, FINEST_SQUARE)
_SUMS = ", ".join(f"sum(n{FINEST_SQUARE}) OVER (PARTITION BY {_within(zoom)}) AS n{zoom}" for zoom in _ZOOMS)
_LEAST = ", ".join(f"min(n{zoom + 1}) OVER (PARTITION BY {_within(zoom)}) AS least{zoom}" for zoom in _ZOOMS)
_STOP = " ".join(f"WHEN least{zoom} < {FEWEST_HOMES} THEN {zoom}" for zoom in _ZOOMS)

# A square is cut in four only where each quarter has no home or enough of them.  So the squares that are shown do not
# overlap and are the same at all zooms of the map: there is nothing to subtract.  One of the coarsest that has too
# few homes is not shown.
_SQUARES = f"""
    home AS (
        SELECT {_LON.format("d")} AS lon, {_LAT.format("d")} AS lat FROM dwelling d
        WHERE d.point && {_BOX}::geography AND {_UNCHANGED}
        UNION ALL
        SELECT lon, lat FROM before
    ), square AS (
        SELECT sx, sy, count(*) AS n{FINEST_SQUARE} FROM (SELECT {_SQUARE} FROM home) AS home
        WHERE ({_within(COARSEST_SQUARE)}) = (:column, :row) GROUP BY sx, sy
    ), summed AS (
        SELECT *, {_SUMS} FROM square
    ), judged AS (
        SELECT *, {_LEAST} FROM summed WHERE n{COARSEST_SQUARE} >= {FEWEST_HOMES}
    ), cell AS (
        SELECT cell_zoom, sx >> ({FINEST_SQUARE} - cell_zoom) AS cx, sy >> ({FINEST_SQUARE} - cell_zoom) AS cy,
            CAST(sum(n{FINEST_SQUARE}) AS int) AS homes
        FROM (SELECT *, CASE {_STOP} ELSE {FINEST_SQUARE} END AS cell_zoom FROM judged) AS stopped
        GROUP BY 1, 2, 3
    ), placed AS (
        SELECT cell_zoom, homes, CAST(cx + 0.5 AS float8) / (1 << cell_zoom) AS across,
            CAST(cy + 0.5 AS float8) / (1 << cell_zoom) AS down
        FROM cell
    )"""
CELLS = _statement(
    _NAMES_AND_HOMES,
    _mvt("cells", f"SELECT homes, cell_zoom, {_GEOM} FROM placed WHERE {_IN_TILE} ORDER BY across, down"),
    tables=f"{_THEN}, {_SQUARES}",
)
_ROUNDING = 0.001  # degrees around a square, so that nothing on its edge is lost


def cells_of(tile: Tile) -> dict[str, Any]:
    """What :data:`CELLS` asks with for a tile, but for the day."""
    square = tile.above(COARSEST_SQUARE)
    return _place(tile) | _degrees(square, _ROUNDING) | {"column": square.x, "row": square.y}


async def _addresses(session: AsyncSession, tile: Tile, day: date, _: int) -> Drawn:
    if tile.z < COARSEST_SQUARE:
        return await _drawn(session, _HOMES_BY_COMMUNE, _place(tile) | {"day": day})
    return await _drawn(session, CELLS, cells_of(tile) | {"day": day})


# --- single homes -----------------------------------------------------------------------------------------------

# Where too many stand they are counted in 16 by 16 parts of the tile.
_HOMES = text(f"""
    WITH home AS MATERIALIZED (
        SELECT * FROM (
            SELECT code, house_number, status,
                {_ACROSS.format(lon=_LON.format("d"))} AS across, {_DOWN.format(lat=_LAT.format("d"))} AS down
            FROM dwelling d
            WHERE d.point && {_BOX}::geography AND status IN ('proposed', 'current')
                AND (CAST(:units AS bigint[]) IS NULL OR unit_id = ANY(CAST(:units AS bigint[])))) AS near
        WHERE floor(across * :count) = :x AND floor(down * :count) = :y
    ), known AS (
        SELECT count(*) AS number FROM home
    ), part AS (
        SELECT CAST(count(*) AS int) AS homes, (floor(across * :count * 16) + 0.5) / :count / 16 AS across,
            (floor(down * :count * 16) + 0.5) / :count / 16 AS down
        FROM home GROUP BY 2, 3
    )
    SELECT number, CASE WHEN number <= :most
        THEN {_mvt("homes", f"SELECT code, house_number, status, {_GEOM} FROM home ORDER BY code")}
        ELSE {_mvt("homes", f"SELECT homes, {_GEOM} FROM part ORDER BY across, down")} END
    FROM known
""")


async def homes(session: AsyncSession, tile: Tile, *, unit_ids: Collection[int] | None) -> Homes:
    """The single homes in a tile, in some units or in all (None), as a part of it.

    Whoever calls this records the read.
    """
    values = _place(tile) | _degrees(tile, _ROUNDING)
    values["units"] = None if unit_ids is None else sorted(unit_ids)
    shown = Homes(b"", 0)
    for coarser in COARSER:
        count, body = (await session.execute(_HOMES, values | {"most": MOST_HOMES // coarser})).one()
        shown = Homes(bytes(body), count)
        if len(shown.body) <= MOST_BYTES - BYTES_FOR_CELLS:
            break
    return shown


# --- any map ----------------------------------------------------------------------------------------------------

_DRAW: dict[str, Callable[[AsyncSession, Tile, date, int], Awaitable[Drawn]]] = {
    "units": _units,
    "units-2020": _units,
    "hamlets": _hamlets,
    "addresses": _addresses,
}


async def draw(session: AsyncSession, layer: Layer, tile: Tile, *, today: date) -> Drawn:
    """A tile as anybody may see it, of at most 30 000 bytes."""
    drawn = Drawn(0, b"")
    for coarser in COARSER:
        drawn = await _DRAW[layer.name](session, tile, _day_of(layer, today), coarser)
        if len(drawn.body) <= MOST_BYTES:
            break
    return drawn


_REGISTER = "SELECT 'Sổ đăng ký địa chỉ số Bắc Kạn'"
_OF_BOUNDARIES = f"""
    SELECT source || ' (' || licence || ')' FROM boundary_source
    WHERE id IN (SELECT boundary_source_id FROM admin_unit u WHERE {_COMMUNE_IN_FORCE})
    UNION
    SELECT 'Ranh giới gần đúng (bkapp)' FROM admin_unit u
    WHERE {_COMMUNE_IN_FORCE} AND boundary_quality = 'approximate'"""
_OF_HAMLETS = f"""
    SELECT source || ' (' || licence || ')' FROM place_source
    WHERE id IN (SELECT place_source_id FROM hamlet h WHERE {_HAMLET_IN_FORCE})
    UNION {_REGISTER}"""


def _about(version: str, sources: str) -> TextClause:
    return text(f"""
        SELECT {version}, ARRAY({sources} ORDER BY 1),
            ST_XMin(whole), ST_YMin(whole), ST_XMax(whole), ST_YMax(whole)
        FROM (SELECT ST_Extent(boundary) AS whole FROM admin_unit u WHERE {_COMMUNE_IN_FORCE}) AS extent
    """)


_ABOUT = {
    "units": _about(_NAMES, _OF_BOUNDARIES),
    "units-2020": _about(_NAMES, _OF_BOUNDARIES),
    "hamlets": _about(_NAMES_AND_HOMES, _OF_HAMLETS),
    "addresses": _about(_NAMES_AND_HOMES, _REGISTER),
}


async def about(session: AsyncSession, layer: Layer, *, today: date) -> About:
    """The version of a map, its corners and whose work it shows."""
    version, sources, *corners = (await session.execute(_ABOUT[layer.name], {"day": _day_of(layer, today)})).one()
    return About(version, None if None in corners else corners, sources)


def _day_of(layer: Layer, today: date) -> date:
    """The day whose units a map shows."""
    return BEFORE_2025 if layer.name == "units-2020" else today


def _place(tile: Tile) -> dict[str, Any]:
    return {"count": float(1 << tile.z), "x": float(tile.x), "y": float(tile.y)}


def _degrees(tile: Tile, margin: float) -> dict[str, float]:
    return dict(zip(("west", "south", "east", "north"), tile.degrees(margin), strict=True))


async def _drawn(session: AsyncSession, statement: TextClause, values: dict[str, Any]) -> Drawn:
    version, body = (await session.execute(statement, values)).one()
    return Drawn(version, bytes(body))
