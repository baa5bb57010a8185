"""Writing hamlets of a file: opening new ones, giving points to those that are there."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.units.names import key as name_key


class NewHamlet(Struct, frozen=True):
    """A hamlet that the register does not know, its commune and the first day of its name there."""

    unit_id: int
    name: str
    begins: date
    point: tuple[float, float] | None


_OPEN = text("""
    INSERT INTO hamlet (unit_id, name, key, valid_from, source, point, place_source_id)
    SELECT unit_id, name, key, begins, :source, ST_SetSRID(ST_MakePoint(lon, lat), 4326)::geography,
        CAST(:source_id AS bigint)
    FROM unnest(CAST(:units AS bigint[]), CAST(:names AS text[]), CAST(:keys AS text[]), CAST(:days AS date[]),
            CAST(:lons AS float8[]), CAST(:lats AS float8[]))
        AS row (unit_id, name, key, begins, lon, lat)
    ON CONFLICT DO NOTHING
    RETURNING id
""")
# What a hamlet became has its point from it, until it gets one of its own.
_PLACE = text("""
    WITH RECURSIVE given AS (
        SELECT id, ST_SetSRID(ST_MakePoint(lon, lat), 4326)::geography AS point
        FROM unnest(CAST(:ids AS bigint[]), CAST(:lons AS float8[]), CAST(:lats AS float8[])) AS row (id, lon, lat)
    ), line AS (
        SELECT given.id, given.point, h.place_source_id AS before FROM given JOIN hamlet h USING (id)
        UNION ALL
        SELECT n.id, line.point, line.before
        FROM line JOIN hamlet n ON n.predecessor_id = line.id
        WHERE (n.point IS NULL OR n.place_source_id IS NOT DISTINCT FROM line.before)
            AND n.id NOT IN (SELECT id FROM given)
    )
    UPDATE hamlet h SET point = line.point, place_source_id = :source_id FROM line WHERE h.id = line.id
""")


async def open_hamlets(session: AsyncSession, new: Sequence[NewHamlet], *, source: str, source_id: int) -> int:
    """Add hamlets that are not there, in communes that may have ended; return how many."""
    if not new:
        return 0
    points: list[Any] = [hamlet.point or (None, None) for hamlet in new]
    opened = await session.execute(
        _OPEN,
        {
            "source": source,
            "source_id": source_id,
            "units": [hamlet.unit_id for hamlet in new],
            "names": [hamlet.name for hamlet in new],
            "keys": [name_key(hamlet.name) for hamlet in new],
            "days": [hamlet.begins for hamlet in new],
            "lons": [lon for lon, _ in points],
            "lats": [lat for _, lat in points],
        },
    )
    return len(opened.all())


async def place_hamlets(session: AsyncSession, points: Mapping[int, tuple[float, float]], *, source_id: int) -> None:
    """Give hamlets their points, by id, and with them what they became."""
    if not points:
        return
    await session.execute(
        _PLACE,
        {
            "source_id": source_id,
            "ids": list(points),
            "lons": [lon for lon, _ in points.values()],
            "lats": [lat for _, lat in points.values()],
        },
    )
