"""What is done to administrative units: the shipped ones loaded, approximate boundaries drawn.

Both may be repeated at any time.  Official boundaries are taken in by :mod:`bkapp.units.boundaries`.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import date
from typing import Any

import sqlalchemy as sa
from msgspec import structs
from sqlalchemy import text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.units.models import AdminUnit, Alias, Identifier, Level, Succession
from bkapp.units.names import key
from bkapp.units.seed import Seed, SeedUnit, shipped

# Held to the end of the transaction: two starting processes, or an import and a start, take turns.
LOCK = text("SELECT pg_advisory_xact_lock(7236116)")

# --- the shipped units ------------------------------------------------------------------------------------------


async def load_seed(session: AsyncSession) -> None:
    """Bring the shipped units, successions, names and identifiers into the database.  Boundaries stay as they are."""
    await session.execute(LOCK)
    seed = shipped()
    ids: dict[tuple[str, date], int] = {}
    for level in Level:  # parents first
        # Oldest first: a release that ends a unit and gives its code to another one ends it first.
        units = sorted((unit for unit in seed.units if unit.level is level), key=lambda unit: unit.valid_from)
        await _upsert(session, AdminUnit, [_row(seed, ids, unit) for unit in units], keys=("code", "valid_from"))
        rows = await session.execute(sa.select(AdminUnit.code, AdminUnit.valid_from, AdminUnit.id))
        ids = {(code, valid_from): unit_id for code, valid_from, unit_id in rows}
    ending = {(unit.code, unit.valid_to): ids[unit.code, unit.valid_from] for unit in seed.units}
    successions = [
        {
            "old_id": ending[succession.old, succession.effective],
            "new_id": ids[succession.new, succession.effective],
            "effective": succession.effective,
            "decree": succession.decree,
            "kind": succession.kind,
        }
        for succession in seed.successions
    ]
    aliases = [
        {
            "unit_id": ids[alias.code, alias.valid_from],
            "name": alias.name,
            "folded": key(alias.name),
            "source": alias.source,
        }
        for alias in seed.aliases
    ]
    identifiers = [
        {
            "unit_id": ids[identifier.code, identifier.unit_from],
            "scheme": identifier.scheme,
            "value": identifier.value,
            "valid_from": identifier.valid_from,
            "valid_to": identifier.valid_to,
        }
        for identifier in seed.identifiers
    ]
    await _upsert(session, Succession, successions, keys=("old_id", "new_id"))
    await _upsert(session, Alias, aliases, keys=("unit_id", "name"))
    await _upsert(session, Identifier, identifiers, keys=("unit_id", "scheme", "valid_from"))


def _row(seed: Seed, ids: Mapping[tuple[str, date], int], unit: SeedUnit) -> dict[str, object]:
    row = structs.asdict(unit)
    parent, lon, lat = row.pop("parent"), row.pop("lon"), row.pop("lat")
    above = (
        ids[other.code, other.valid_from]
        for other in seed.units
        if other.code == parent and other.valid_from <= unit.valid_from < (other.valid_to or date.max)
    )
    return row | {
        "folded": key(unit.full_name),
        "parent_id": next(above) if parent else None,
        "point": f"SRID=4326;POINT({lon} {lat})",
    }


async def _upsert(
    session: AsyncSession, table: type[Any], rows: Sequence[Mapping[str, object]], *, keys: tuple[str, ...]
) -> None:
    """Insert what is new and update what differs; a start that finds everything in place writes nothing."""
    statement = insert(table.__table__).values(rows)
    new = {name: statement.excluded[name] for name in rows[0] if name not in keys}
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=keys,
            set_=new,
            where=sa.or_(*(table.__table__.c[name].is_distinct_from(value) for name, value in new.items())),
        )
    )


# --- approximate boundaries -------------------------------------------------------------------------------------

# In UTM 48N, where distances are true, and back vertex by vertex, so that neighbours still share theirs.
_APPROXIMATE = text("""
    WITH RECURSIVE roots AS MATERIALIZED (
        SELECT u.id, ST_Transform(u.point::geometry, 32648) AS site
        FROM admin_unit u
        WHERE u.level = 'commune' AND u.in_bac_kan
          AND NOT EXISTS (SELECT FROM admin_unit_succession s WHERE s.new_id = u.id)
    ), sites AS (
        SELECT site FROM roots
        UNION
        SELECT ST_Transform(ST_SetSRID(ST_MakePoint(lon, lat), 4326), 32648)
        FROM unnest(CAST(:lons AS float8[]), CAST(:lats AS float8[])) AS neighbour (lon, lat)
    ), cells AS MATERIALIZED (
        SELECT (ST_Dump(ST_VoronoiPolygons(ST_Collect(site ORDER BY site)))).geom AS cell FROM sites
    ), lineage AS (
        SELECT id, id AS root FROM roots
        UNION
        SELECT u.id, lineage.root
        FROM lineage
        CROSS JOIN LATERAL (
            SELECT s.new_id AS id FROM admin_unit_succession s WHERE s.old_id = lineage.id
            UNION ALL
            SELECT child.parent_id FROM admin_unit child WHERE child.id = lineage.id
        ) next
        JOIN admin_unit u ON u.id = next.id AND u.in_bac_kan
    ), drawn AS (
        SELECT lineage.id, ST_Multi(ST_Union(ST_Transform(cells.cell, 4326) ORDER BY roots.id)) AS boundary
        FROM lineage
        JOIN roots ON roots.id = lineage.root
        JOIN cells ON ST_Intersects(cells.cell, roots.site)
        GROUP BY lineage.id
    )
    UPDATE admin_unit u SET boundary = drawn.boundary, boundary_quality = 'approximate'
    FROM drawn
    WHERE u.id = drawn.id AND u.boundary_quality IS DISTINCT FROM 'official'
      AND u.boundary IS DISTINCT FROM drawn.boundary
    RETURNING u.id
""")

# Measured with 16 to 100 000 vertices a piece: from 32 to 256 a look-up takes the same time, outside that longer.
_CUT = text("""
    INSERT INTO admin_unit_piece (unit_id, geom)
    SELECT u.id, (ST_Dump(ST_Subdivide(u.boundary, 64))).geom FROM admin_unit u WHERE u.id = ANY(:ids) ORDER BY u.id
""")


async def approximate_boundaries(session: AsyncSession) -> set[int]:
    """Draw a boundary for every unit of Bắc Kạn that has no official one; return the ids of those that changed.

    Each commune of 2020 gets the land nearer to its point than to any other commune's (Voronoi), points
    of neighbouring provinces included, and every other unit the union of the communes it came from or
    consists of: so the levels nest, and old and new boundaries agree.  Against boundaries derived from older
    maps, 74 % of the land is in the right old commune and 84 % in the right unit of 2025.
    """
    await session.execute(LOCK)
    neighbours = shipped().neighbours
    lons, lats = [site.lon for site in neighbours], [site.lat for site in neighbours]
    changed = set(await session.scalars(_APPROXIMATE, {"lons": lons, "lats": lats}))
    await cut(session, changed)
    return changed


async def cut(session: AsyncSession, ids: Collection[int]) -> None:
    """Renew the pieces that containment looks at."""
    if ids:
        await session.execute(text("DELETE FROM admin_unit_piece WHERE unit_id = ANY(:ids)"), {"ids": list(ids)})
        await session.execute(_CUT, {"ids": list(ids)})
