"""What all imports do in the database: rows copied into a temporary table, and the question where they lie."""

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

# For rows ``i`` with ``unit``, ``since`` and ``point``: the commune that a row's code means on its day, and the one
# its point lies in then.
STATED_AND_THERE = """
    LEFT JOIN admin_unit stated ON stated.code = i.unit AND stated.level = 'commune' AND stated.in_bac_kan
        AND stated.valid_from <= i.since AND (stated.valid_to IS NULL OR stated.valid_to > i.since)
    LEFT JOIN LATERAL (
        SELECT u.id, u.code, u.full_name, u.boundary_quality
        FROM admin_unit_piece p JOIN admin_unit u ON u.id = p.unit_id
        WHERE ST_Intersects(p.geom, i.point::geometry) AND u.level = 'commune' AND u.in_bac_kan
            AND u.valid_from <= i.since AND (u.valid_to IS NULL OR u.valid_to > i.since)
        ORDER BY u.boundary_quality = 'official' DESC, u.id = stated.id DESC, u.code LIMIT 1) there ON true
"""
# Whether the two differ only because their common boundary is a guess, ``:edge`` metres wide.
NEAR_GUESS = """
    (there.id IS DISTINCT FROM stated.id
        AND stated.boundary_quality = 'approximate'
        AND coalesce(there.boundary_quality, 'approximate') = 'approximate'
        AND (SELECT min(ST_Distance(p.geom::geography, i.point)) <= :edge
             FROM admin_unit_piece p WHERE p.unit_id = stated.id))
"""

# The commune of ``:today`` around the point of a row ``i``, as ``units.queries.containing`` answers; NULL outside.
COMMUNE_AROUND = """(
    SELECT u.id
    FROM admin_unit_piece p JOIN admin_unit u ON u.id = p.unit_id
    WHERE ST_Intersects(p.geom, i.point::geometry) AND u.level = 'commune' AND u.in_bac_kan
        AND u.valid_from <= :today AND (u.valid_to IS NULL OR u.valid_to > :today)
    ORDER BY u.boundary_quality = 'official' DESC, u.code LIMIT 1)
"""


def misplaced(verdict: Any, code: str) -> str | None:
    """Why a point is not believed to be in the commune that its row names, or None."""
    if verdict.there_id == verdict.stated_id or verdict.near_guess:
        return None
    place = f"in {verdict.there_name} ({verdict.there_code})" if verdict.there_id else "outside the province"
    return f"the point lies {place}, not in {verdict.stated_name} ({code})"


async def copy_rows(session: AsyncSession, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
    """Copy rows into a table; None becomes NULL."""
    buffer = io.StringIO()
    csv.writer(buffer).writerows(rows)
    raw: Any = (await (await session.connection()).get_raw_connection()).driver_connection
    async with raw.cursor() as cursor, cursor.copy(f"COPY {table} FROM STDIN (FORMAT csv)") as copy:
        await copy.write(buffer.getvalue())


NOWHERE = "its polygon is nowhere on Earth: are lon and lat swapped?"
_ON_SURFACE = text("""
    SELECT line, ST_X(p), ST_Y(p)
    FROM unnest(CAST(:lines AS bigint[]), CAST(:wkbs AS bytea[])) AS row (line, wkb)
    CROSS JOIN LATERAL (SELECT ST_GeomFromWKB(wkb, 4326) AS shape) AS read
    CROSS JOIN LATERAL (
        SELECT CASE WHEN shape @ ST_MakeEnvelope(-180, -90, 180, 90, 4326)
            THEN ST_PointOnSurface(ST_MakeValid(shape)) END AS p) AS found
    WHERE p IS NOT NULL AND NOT ST_IsEmpty(p)
""")


async def points_on_surface(session: AsyncSession, shapes: Mapping[int, bytes]) -> dict[int, tuple[float, float]]:
    """A point inside each polygon (well-known binary in degrees) that lies on Earth, by its line."""
    if not shapes:
        return {}
    found = await session.execute(_ON_SURFACE, {"lines": list(shapes), "wkbs": list(shapes.values())})
    return {line: (round(lon, 7), round(lat, 7)) for line, lon, lat in found}
