"""Roads, points of interest and hamlets from a file of OpenStreetMap."""

import asyncio
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.address.imports.osm_hamlets import take_hamlets
from bkapp.address.imports.osm_reading import Box, Contents, read_osm
from bkapp.address.imports.places import locate, reconcile, stage, take_out
from bkapp.address.imports.sources import Outcome, note_source, origin, take_turn_alone
from bkapp.address.imports.staging import copy_rows, points_on_surface
from bkapp.address.rules import PlaceKind, PlaceSourceKind
from bkapp.errors import Invalid

# A road that only touches a commune is not one of its roads, unless it is as short as that.
SHORTEST_METRES = 50

_BOX = text("""
    SELECT ST_XMin(box) AS west, ST_YMin(box) AS south, ST_XMax(box) AS east, ST_YMax(box) AS north
    FROM (SELECT ST_Expand(ST_Extent(boundary)::geometry, 0.03) AS box FROM admin_unit
          WHERE level = 'commune' AND in_bac_kan AND valid_to IS NULL) AS extent
""")


async def import_osm(
    session: AsyncSession,
    path: Path,
    *,
    source: str,
    licence: str,
    today: date,
    open_unknown: bool = False,
    complete: bool = False,
) -> Outcome:
    """Take the named roads and points of interest of a file, and points for hamlets that have none.

    Hamlets of OpenStreetMap that the register does not know are opened only with ``open_unknown``.  With ``complete``
    roads and places of the source that the file does not hold are taken out.
    """
    file = origin(PlaceSourceKind.OSM, path, source=source, licence=licence)
    west, south, east, north = (await session.execute(_BOX)).one()
    if west is None:
        raise Invalid("There are no boundaries yet to tell what lies where: run `bkapp migrate`.")
    found = await asyncio.to_thread(read_osm, path, Box(west, south, east, north))
    if not (found.pois or found.lines or found.settlements):
        raise Invalid(f"{path.name} holds nothing with a name in or near Bắc Kạn.")
    await take_turn_alone(session)
    done = Outcome()
    source_id = await note_source(session, file, len(found.pois) + len(found.road_names) + len(found.settlements))
    await _take_places(session, found, done, today=today, source=file.source, source_id=source_id)
    if complete and done.imported + done.changed + done.same:
        done.gone = await take_out(session, set(PlaceKind), source=file.source)
    hamlets = await take_hamlets(
        session, found.settlements, today=today, source=file.source, source_id=source_id, open_unknown=open_unknown
    )
    done.notes.append(hamlets.in_words(opened=open_unknown))
    return done


# --- roads and points of interest -------------------------------------------------------------------------------

_STAGE_LINES = (
    text("""
        CREATE TEMP TABLE IF NOT EXISTS incoming_line (
            id bigint, source_id text, name text, line geometry(LineString, 4326)
        ) ON COMMIT DROP
    """),
    text("TRUNCATE incoming_line"),
)
# The point of a road in a commune is the one on it that is nearest to the middle of all its pieces there.
_ROADS = text("""
    WITH parts AS (
        SELECT i.source_id, i.name, p.unit_id,
            ST_Collect(CASE WHEN ST_Covers(p.geom, i.line) THEN i.line
                ELSE ST_CollectionExtract(ST_Intersection(i.line, p.geom), 2) END ORDER BY i.id, p.id) AS lines
        FROM incoming_line i
        JOIN admin_unit_piece p ON ST_Intersects(p.geom, i.line)
            -- An array, because a join with them is planned as if there were one.
            AND p.unit_id = ANY(ARRAY(
                SELECT id FROM admin_unit WHERE level = 'commune' AND in_bac_kan
                    AND valid_from <= :today AND (valid_to IS NULL OR valid_to > :today)))
        GROUP BY i.source_id, i.name, p.unit_id
    ), measured AS (
        SELECT *, ST_Length(lines::geography) AS metres FROM parts
    ), shared AS (
        SELECT *, max(metres) OVER (PARTITION BY source_id) AS longest FROM measured
    )
    INSERT INTO placed (kind, source_id, name, unit_id, point)
    SELECT 'road', source_id, name, unit_id,
        ST_SnapToGrid(ST_ClosestPoint(lines, ST_Centroid(lines)), 0.0000001)::geography
    FROM shared
    WHERE metres > 0 AND metres >= least(:shortest, longest)
    RETURNING source_id
""")


async def _take_places(
    session: AsyncSession, found: Contents, done: Outcome, *, today: date, source: str, source_id: int
) -> None:
    pois = {row.line: row for row in found.pois.values()}
    shapes = {line: row.shape for line, row in pois.items() if row.shape is not None}
    for line, point in (await points_on_surface(session, shapes)).items():
        pois[line].point = point
    await stage(session, pois.values())
    outside = len(await locate(session, today))
    roads = await _stage_roads(session, found, today)
    await reconcile(session, done, source=source, source_id=source_id)
    done.rows = done.imported + done.changed + done.same
    done.notes.append(f"{len(set(roads))} roads in {len(roads)} parts, one for each commune they run through")
    done.notes.append(f"{len(pois) - outside} points of interest; {outside} more lie near the province and not in it")


async def _stage_roads(session: AsyncSession, found: Contents, today: date) -> Sequence[str]:
    for statement in _STAGE_LINES:
        await session.execute(statement)
    lines = (
        (number, road, found.road_names[road], f"LINESTRING({', '.join(f'{lon:.7f} {lat:.7f}' for lon, lat in line)})")
        for number, (road, line) in enumerate(found.lines)
    )
    await copy_rows(session, "incoming_line", lines)
    await session.execute(text("ANALYZE incoming_line"))
    return (await session.scalars(_ROADS, {"today": today, "shortest": SHORTEST_METRES})).all()
