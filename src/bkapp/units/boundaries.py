"""Official boundaries: taken from a file as a whole, or refused with everything that is wrong with it."""

from collections.abc import Mapping
from datetime import date
from pathlib import Path

from msgspec import Struct
from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.errors import FieldError, Invalid
from bkapp.units import boundary_files, queries
from bkapp.units.boundary_files import BoundaryFile, fault
from bkapp.units.models import BoundarySource, Level
from bkapp.units.names import same_unit
from bkapp.units.operations import LOCK, cut
from bkapp.units.queries import Unit

# Files drawn from one set of lines still overlap by slivers: the largest of 130 in the files of old communes we
# measured is 36 m², 0.00007 % of the smaller one.  More than these is two drawings that disagree.
MOST_OVERLAP_M2 = 10_000
MOST_OVERLAP_SHARE = 0.001


class ImportReport(Struct, frozen=True, kw_only=True):
    """``changed`` are the ids of the units that got a new boundary: none when the file had been imported before."""

    file_name: str
    sha256: str
    level: Level
    as_of: date
    features: int
    repaired: list[str]
    changed: set[int]


_STAGE = (
    text("""
        CREATE TEMPORARY TABLE IF NOT EXISTS boundary_staging (
            number integer PRIMARY KEY, code text NOT NULL, unit_id bigint,
            raw geometry, geom geometry, area double precision
        ) ON COMMIT DROP
    """),
    text("TRUNCATE boundary_staging"),
)
_FILL = text("""
    INSERT INTO boundary_staging (number, code, unit_id, raw)
    SELECT number, code, unit_id, ST_Force2D(ST_GeomFromWKB(wkb))
    FROM unnest(CAST(:numbers AS integer[]), CAST(:codes AS text[]), CAST(:units AS bigint[]), CAST(:wkbs AS bytea[]))
        AS feature (number, code, unit_id, wkb)
""")
_UNUSABLE = text("""
    DELETE FROM boundary_staging b
    USING (
        SELECT number, CASE
            WHEN ST_IsEmpty(raw) THEN 'It has no geometry.'
            WHEN GeometryType(raw) NOT IN ('POLYGON', 'MULTIPOLYGON')
                THEN format('Its geometry is a %s; boundaries are polygons.', initcap(GeometryType(raw)))
            WHEN EXISTS (SELECT FROM ST_DumpPoints(raw) p  -- NaN sorts above every number
                         WHERE abs(ST_X(p.geom)) > 1e9 OR abs(ST_Y(p.geom)) > 1e9)
                THEN 'Some of its coordinates are not finite numbers.'
            END AS why
        FROM boundary_staging
    ) verdict
    WHERE verdict.number = b.number AND verdict.why IS NOT NULL
    RETURNING b.number, verdict.why
""")
_TRANSFORM = text("UPDATE boundary_staging SET geom = ST_Transform(raw, CAST(:crs AS text), 4326)")
_KEEP = text("UPDATE boundary_staging SET geom = ST_SetSRID(raw, 4326)")
_REPAIR = text("""
    UPDATE boundary_staging b SET geom = ST_CollectionExtract(ST_MakeValid(b.geom), 3)
    FROM (SELECT number, ST_IsValidReason(geom) AS reason FROM boundary_staging WHERE NOT ST_IsValid(geom)) broken
    WHERE broken.number = b.number
    RETURNING b.number, b.code, broken.reason, ST_Area(b.geom::geography) / 1e6 AS km2
""")
_MEASURE = text("UPDATE boundary_staging SET geom = ST_Multi(geom), area = ST_Area(geom::geography)")
# Vietnam with its islands, in degrees.
_MISPLACED = text("""
    SELECT number, CASE
        WHEN area IS NULL OR area = 0 THEN 'It encloses no area.'
        WHEN ST_FlipCoordinates(geom) @ ST_MakeEnvelope(102, 6, 118, 24, 4326)
            THEN 'It lies outside Vietnam; its longitudes and latitudes look swapped.'
        WHEN ST_XMax(geom) > 180 OR ST_YMax(geom) > 90
            THEN 'Its coordinates look like metres: the file names the wrong reference system.'
        ELSE 'It lies outside Vietnam.'
        END AS why
    FROM boundary_staging
    WHERE area IS NULL OR area = 0 OR NOT geom @ ST_MakeEnvelope(102, 6, 118, 24, 4326)
    ORDER BY number
""")
_OVERLAPS = text("""
    SELECT a.number, format('feature %s (%s)', b.number, b.code) AS other, m2,
           100 * m2 / NULLIF(LEAST(a.area, b.area), 0) AS percent
    FROM boundary_staging a
    JOIN boundary_staging b ON a.number < b.number AND a.code <> b.code AND a.geom && b.geom
    CROSS JOIN LATERAL (
        SELECT ST_Area(ST_CollectionExtract(ST_Intersection(a.geom, b.geom), 3)::geography) AS m2
    ) shared
    WHERE m2 > :most_m2 OR m2 > :most_share * LEAST(a.area, b.area)
    UNION ALL
    SELECT a.number, format('the official boundary of %s (%s)', u.full_name, u.code), m2, 100 * m2 / NULLIF(a.area, 0)
    FROM boundary_staging a
    JOIN admin_unit u ON u.boundary && a.geom AND u.boundary_quality = 'official' AND u.level = :level
        AND u.valid_from <= :as_of AND (u.valid_to IS NULL OR u.valid_to > :as_of)
        AND a.unit_id IS NOT NULL AND u.id NOT IN (SELECT unit_id FROM boundary_staging WHERE unit_id IS NOT NULL)
    CROSS JOIN LATERAL (
        SELECT ST_Area(ST_CollectionExtract(ST_Intersection(a.geom, u.boundary), 3)::geography) AS m2
    ) shared
    WHERE m2 > :most_m2 OR m2 > :most_share * LEAST(a.area, ST_Area(u.boundary::geography))
    ORDER BY 1, 2
""")
_APPLY = text("""
    UPDATE admin_unit u SET boundary = b.geom, boundary_quality = 'official', boundary_source_id = :source_id
    FROM boundary_staging b
    WHERE u.id = b.unit_id AND (u.boundary_source_id IS DISTINCT FROM :source_id OR u.boundary IS DISTINCT FROM b.geom)
    RETURNING u.id
""")


async def import_boundaries(
    session: AsyncSession, path: Path, *, as_of: date, source: str, licence: str, code_field: str | None = None
) -> ImportReport:
    """Take the boundaries of units in force on ``as_of`` from a file: all, or none and every fault told."""
    file = boundary_files.read(path, code_field=code_field)
    await session.execute(LOCK)
    units, faults = await _match(session, file, as_of)
    level = next((unit.level for unit in units.values()), Level.COMMUNE)
    repaired, misfits = await _check_shapes(session, file, units, level, as_of)
    faults = sorted([*file.faults, *faults, *misfits], key=lambda found: int(found.pointer.rpartition("/")[2]))
    if faults:
        raise Invalid(f"{file.file_name} is refused and nothing of it is taken: {len(faults)} fault(s).", faults)
    source_id = await _source_id(session, file, level=level, as_of=as_of, source=source, licence=licence)
    changed = set(await session.scalars(_APPLY, {"source_id": source_id}))
    await cut(session, changed)
    return ImportReport(
        file_name=file.file_name,
        sha256=file.sha256,
        level=level,
        as_of=as_of,
        features=len(file.features),
        repaired=repaired,
        changed=changed,
    )


async def _match(session: AsyncSession, file: BoundaryFile, as_of: date) -> tuple[dict[int, Unit], list[FieldError]]:
    """The unit of each feature by its number, and what speaks against the others.

    Codes are given again to other units, so a name that does not fit means a file of another time.
    """
    units: dict[int, Unit] = {}
    faults: list[FieldError] = []
    first: dict[str, int] = {}
    for feature in file.features:
        unit = await queries.unit_on(session, feature.code, as_of)
        if feature.code in first:
            faults.append(fault(feature.number, f"{feature.label} repeats the code of feature {first[feature.code]}."))
        first.setdefault(feature.code, feature.number)
        if unit is None:
            meant = "; ".join(other.in_words() for other in await queries.meanings(session, feature.code))
            hint = f"it means {meant}" if meant else "it is not a code we know"
            faults.append(fault(feature.number, f"{feature.label} has no unit on {as_of}: {hint}."))
            continue
        units[feature.number] = unit
        if feature.name and not same_unit(feature.name, kind=unit.kind, name=unit.name):
            faults.append(
                fault(
                    feature.number,
                    f"{feature.label} is called {feature.name!r}, but on {as_of} the code means {unit.full_name}: "
                    "is the file of another date?",
                )
            )
    if len(levels := {unit.level for unit in units.values()}) > 1:
        mixed = ", ".join(level for level in Level if level in levels)
        faults.append(fault(file.features[0].number, f"The file mixes levels ({mixed}); import one level at a time."))
    return units, faults


async def _check_shapes(
    session: AsyncSession, file: BoundaryFile, units: Mapping[int, Unit], level: Level, as_of: date
) -> tuple[list[str], list[FieldError]]:
    """Stage the shapes in degrees, repaired: what was repaired, and what is beyond that."""
    for statement in _STAGE:
        await session.execute(statement)
    await session.execute(
        _FILL,
        {
            "numbers": [feature.number for feature in file.features],
            "codes": [feature.code for feature in file.features],
            "units": [units[feature.number].id if feature.number in units else None for feature in file.features],
            "wkbs": [feature.wkb for feature in file.features],
        },
    )
    faults = [fault(row.number, row.why) for row in await session.execute(_UNUSABLE)]
    try:
        async with session.begin_nested():
            if file.crs == boundary_files.WGS84:
                await session.execute(_KEEP)
            else:
                await session.execute(_TRANSFORM, {"crs": file.crs})
    except DBAPIError as error:
        why = str(error.orig).partition("\n")[0]
        raise Invalid(
            f"{file.file_name} has coordinates in {file.crs.partition('[')[0]} that we cannot turn into degrees: {why}"
        ) from None
    repaired = [
        f"Feature {row.number} ({row.code}): {row.reason}; {row.km2:.2f} km² after the repair"
        for row in await session.execute(_REPAIR)
    ]
    await session.execute(_MEASURE)
    misplaced = [fault(row.number, row.why) for row in await session.execute(_MISPLACED)]
    faults += misplaced
    if not misplaced:
        limits = {"most_m2": MOST_OVERLAP_M2, "most_share": MOST_OVERLAP_SHARE, "level": level, "as_of": as_of}
        faults += [
            fault(row.number, f"It overlaps {row.other} by {row.m2 / 1e4:.2f} ha, {row.percent:.2g} % of the smaller.")
            for row in await session.execute(_OVERLAPS, limits)
        ]
    return sorted(repaired), faults


async def _source_id(
    session: AsyncSession, file: BoundaryFile, *, level: Level, as_of: date, source: str, licence: str
) -> int:
    await session.execute(
        insert(BoundarySource)
        .values(
            file_name=file.file_name,
            sha256=file.sha256,
            source=source,
            licence=licence,
            level=level,
            as_of=as_of,
            features=len(file.features),
        )
        .on_conflict_do_nothing(index_elements=("sha256", "as_of"))
    )
    query = select(BoundarySource.id).where(BoundarySource.sha256 == file.sha256, BoundarySource.as_of == as_of)
    return (await session.scalars(query)).one()
