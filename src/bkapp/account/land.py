"""What the register knows of the land around a pin: borders, hamlets, roads and places, and never a home."""

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.account.maps import Border, Label, LabelKind, View
from bkapp.address.geocoding.gazetteer import Gazetteer
from bkapp.http import today

MOST_NAMES = 80  # of a kind, on a map that has room for a quarter of them

# Communes are some forty, so they are read through.  Vertices go to a grid of half a pixel, each by itself, so that
# neighbours still share their border and it is drawn once.
_COMMUNES = text("""
    WITH shown AS MATERIALIZED (
        SELECT full_name, boundary_quality = 'approximate' AS approximate,
            ST_PointOnSurface(ST_MakeValid(ST_ClipByBox2D(boundary, box))) AS middle,
            ST_ClipByBox2D(ST_SnapToGrid(ST_Boundary(boundary), :grid), ST_Expand(box, :grid * 8)) AS line
        FROM admin_unit, ST_MakeEnvelope(:west, :south, :east, :north, 4326) AS box
        WHERE boundary && box AND level = 'commune' AND in_bac_kan
            AND valid_from <= :day AND (valid_to IS NULL OR valid_to > :day)
    )
    SELECT full_name, ST_X(middle), ST_Y(middle), NULL, NULL FROM shown WHERE NOT ST_IsEmpty(middle)
    UNION ALL
    SELECT NULL, NULL, NULL, approximate, ST_AsGeoJSON(ST_LineMerge(ST_UnaryUnion(ST_Collect(line))), 6)
    FROM shown GROUP BY approximate
""")
_HAMLETS = text("""
    SELECT id, ST_X(point::geometry), ST_Y(point::geometry) FROM hamlet
    WHERE point && ST_MakeEnvelope(:west, :south, :east, :north, 4326)::geography
        AND valid_from <= :day AND (valid_to IS NULL OR valid_to > :day) LIMIT :most
""")
_PLACES = text("""
    SELECT kind, name, ST_X(point::geometry), ST_Y(point::geometry) FROM place
    WHERE point && ST_MakeEnvelope(:west, :south, :east, :north, 4326)::geography ORDER BY kind, id LIMIT :most
""")


async def around(session: AsyncSession, gazetteer: Gazetteer, view: View) -> tuple[list[Border], list[Label]]:
    """The borders and names that a map shows, the names that matter most first."""
    west, south, east, north = view.corners()
    box = {"west": west, "south": south, "east": east, "north": north, "day": today()}
    grid = (east - west) / 560
    borders: list[Border] = []
    communes: list[Label] = []
    for name, lon, lat, approximate, line in await session.execute(_COMMUNES, box | {"grid": grid}):
        if name is not None:
            communes.append(Label(name, lon, lat, LabelKind.COMMUNE))
        borders += [Border(points, approximate) for points in _lines(line)]
    exact = {id_: (lon, lat) for id_, lon, lat in await session.execute(_HAMLETS, box | {"most": MOST_NAMES})}
    named = gazetteer.hamlets_by_id
    labels = [Label(named[id_].full_name, *at, LabelKind.HAMLET) for id_, at in exact.items() if id_ in named]
    labels += [
        Label(f"≈ {hamlet.full_name}", hamlet.lon, hamlet.lat, LabelKind.NEAR_HAMLET)
        for hamlet in gazetteer.hamlets
        if hamlet.placed and hamlet.id not in exact and west < hamlet.lon < east and south < hamlet.lat < north
    ][:MOST_NAMES]
    labels += [
        Label(name, lon, lat, LabelKind.ROAD if kind == "road" else LabelKind.PLACE)
        for kind, name, lon, lat in await session.execute(_PLACES, box | {"most": MOST_NAMES})
    ]
    return borders, labels + communes


def _lines(geojson: str | None) -> list[list[tuple[float, float]]]:
    """The lines of a geometry as lists of (lon, lat)."""
    if geojson is None:
        return []
    shape = msgspec.json.decode(geojson)
    parts = shape["geometries"] if shape["type"] == "GeometryCollection" else [shape]
    lines = []
    for part in parts:
        if part["type"] == "LineString":
            lines.append(part["coordinates"])
        elif part["type"] == "MultiLineString":
            lines += part["coordinates"]
    return [[(lon, lat) for lon, lat in line] for line in lines if line]
