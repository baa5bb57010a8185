"""Points of interest from a file, each in the commune of today that it lies in."""

from collections.abc import Collection, Iterable
from datetime import date
from pathlib import Path

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.address.imports.reading import LONGEST, Fault, Form, Record, plain_text, position, records
from bkapp.address.imports.sources import Outcome, note_source, origin
from bkapp.address.imports.staging import COMMUNE_AROUND, NOWHERE, copy_rows, points_on_surface
from bkapp.address.rules import PlaceKind, PlaceSourceKind, tidy
from bkapp.errors import Invalid
from bkapp.units.names import key as name_key

FORM = Form(
    what="places",
    columns=("name", "name:vi", "lon", "lat", "kind", "source_id", "osm_id", "osm_type"),
    needed=("name", "lon", "lat"),
    others=True,
    shapes=True,
)


class PlaceRow(Struct):
    """One place of a file, read but not yet put into a commune."""

    line: int
    source_id: str
    kind: PlaceKind
    name: str
    point: tuple[float, float] | None
    shape: bytes | None = None

    def fault(self, field: str, reason: str) -> Fault:
        return Fault(self.line, self.source_id, field, reason)


def read_place(line: int, values: Record) -> PlaceRow | Fault | None:
    """One record as a place, what is wrong with it, or None if it has no name."""
    if isinstance(values, str):
        return Fault(line, "", "", values)
    name = tidy(plain_text(values.get("name:vi"))) or tidy(plain_text(values.get("name"))) or ""
    source_id = _source_id(values)

    def fault(field: str, reason: str) -> Fault:
        return Fault(line, source_id or name, field, reason)

    if not name_key(name):
        return None
    if len(name) > LONGEST:
        return fault("name", f"longer than {LONGEST} characters")
    if not source_id or len(source_id) > LONGEST:
        return fault("source_id", "too long" if source_id else "empty, and no osm_id either")
    kind = PlaceKind.ROAD if plain_text(values.get("kind")).strip().lower() == PlaceKind.ROAD else PlaceKind.POI
    shape = values.get("shape")
    try:
        point = None if shape is not None else position(values)
    except ValueError as error:
        return fault("lon", str(error))
    return PlaceRow(line, source_id, kind, name, point, shape)


def _source_id(values: dict[str, object]) -> str:
    """The number that the source has for a place; OpenStreetMap's as ``n123``, whichever way a file writes it."""
    given = tidy(plain_text(values.get("source_id")))
    if given:
        return given
    number = (tidy(plain_text(values.get("osm_id"))) or "").removesuffix(".0")
    kind = (tidy(plain_text(values.get("osm_type"))) or "")[:1].lower()
    return f"{kind}{number}" if number else ""


async def import_places(
    session: AsyncSession, path: Path, *, source: str, licence: str, complete: bool, today: date
) -> Outcome:
    """Take the places of a file; with ``complete`` those of its source that it does not hold are taken out."""
    file = origin(PlaceSourceKind.PLACES, path, source=source, licence=licence)
    rows: dict[int, PlaceRow] = {}
    seen: dict[str, int] = {}
    done = Outcome()
    for line, values in records(path, FORM):
        done.rows += 1
        read = read_place(line, values)
        if read is None:
            done.unnamed += 1
        elif isinstance(read, Fault):
            done.refuse(read)
        elif read.source_id in seen:
            done.refuse(read.fault("source_id", f"repeats line {seen[read.source_id]}"))
        else:
            seen[read.source_id] = line
            rows[line] = read
    if not done.rows:
        raise Invalid(f"{path.name} holds no places.")
    shapes = {row.line: row.shape for row in rows.values() if row.shape is not None}
    for line, point in (await points_on_surface(session, shapes)).items():
        rows[line].point = point
    for row in [row for row in rows.values() if row.point is None]:
        done.refuse(row.fault("lon", NOWHERE))
        del rows[row.line]
    await stage(session, rows.values())
    for line in await locate(session, today):
        done.refuse(rows[line].fault("lon", "the point lies outside the province"))
    kinds = {PlaceKind.POI, *(row.kind for row in rows.values())}
    await reconcile(session, done, source=file.source, source_id=await note_source(session, file, done.rows))
    if complete and done.imported + done.changed + done.same:
        done.gone = await take_out(session, kinds, source=file.source)
    done.faults.sort(key=lambda fault: fault.line)
    return done


# --- what the file says, as a temporary table -------------------------------------------------------------------

_STAGE = (
    text("""
        CREATE TEMP TABLE IF NOT EXISTS placed (
            line bigint, kind text, source_id text NOT NULL, name text, point geography(Point, 4326), unit_id bigint
        ) ON COMMIT DROP
    """),
    text("TRUNCATE placed"),
)
# Without figures the planner takes a fresh temporary table for a large one.
_ANALYZE = text("ANALYZE placed")
_LOCATE = text(f"UPDATE placed i SET unit_id = {COMMUNE_AROUND}")
_OUTSIDE = text("DELETE FROM placed WHERE unit_id IS NULL RETURNING line")


async def stage(session: AsyncSession, rows: Iterable[PlaceRow]) -> None:
    for statement in _STAGE:
        await session.execute(statement)
    points = (
        (row.line, row.kind.value, row.source_id, row.name, "POINT({:.7f} {:.7f})".format(*row.point), None)
        for row in rows
        if row.point is not None
    )
    await copy_rows(session, "placed", points)


async def locate(session: AsyncSession, today: date) -> list[int]:
    """Put each place into its commune of today; return the lines of those outside the province, which are left out."""
    await session.execute(_ANALYZE)
    await session.execute(_LOCATE, {"today": today})
    return list(await session.scalars(_OUTSIDE))


# --- what the register knows ------------------------------------------------------------------------------------

# A road has a row in each of its communes; a point of interest that is in another commune now is the same one.
_COMPARE = text("""
    SELECT CASE
        WHEN here.id IS NOT NULL AND here.kind = i.kind AND here.name = i.name AND here.point = i.point THEN 'same'
        WHEN here.id IS NOT NULL OR i.kind = 'poi' AND EXISTS (
            SELECT FROM place p WHERE p.source = :source AND p.source_id = i.source_id) THEN 'changed'
        ELSE 'new' END AS verdict, count(*) AS places
    FROM placed i
    LEFT JOIN place here ON here.source = :source AND here.source_id = i.source_id AND here.unit_id = i.unit_id
    GROUP BY 1
""")
_ELSEWHERE = """
    FROM place p
    WHERE p.source = :source AND p.source_id IN (SELECT source_id FROM placed)
        AND (p.source_id, p.unit_id) NOT IN (SELECT source_id, unit_id FROM placed)
"""
_LEFT = text(f"SELECT EXISTS (SELECT {_ELSEWHERE})")
_LEAVE = text(f"DELETE FROM place d USING (SELECT p.id {_ELSEWHERE}) gone WHERE d.id = gone.id")
_WRITE = text("""
    INSERT INTO place AS p (kind, name, unit_id, point, source, source_id, place_source_id)
    SELECT kind, name, unit_id, point, :source, source_id, :file FROM placed ORDER BY source_id, unit_id
    ON CONFLICT (source, source_id, unit_id) DO UPDATE
    SET kind = excluded.kind, name = excluded.name, point = excluded.point, place_source_id = excluded.place_source_id
    WHERE (p.kind, p.name, p.point) IS DISTINCT FROM (excluded.kind, excluded.name, excluded.point)
""")
_UNHELD = """
    FROM place p
    WHERE p.source = :source AND p.kind = ANY(:kinds) AND p.source_id NOT IN (SELECT source_id FROM placed)
"""
_ANY_UNHELD = text(f"SELECT EXISTS (SELECT {_UNHELD})")
_TAKE_OUT = text(f"DELETE FROM place d USING (SELECT p.id {_UNHELD}) gone WHERE d.id = gone.id")


async def reconcile(session: AsyncSession, done: Outcome, *, source: str, source_id: int) -> None:
    """Bring the places of a source to what was staged; nothing is written where nothing differs.

    Every statement that may write makes the geocoder read its names anew, so none is sent in vain.
    """
    await session.execute(_ANALYZE)
    counts = {row.verdict: row.places for row in await session.execute(_COMPARE, {"source": source})}
    done.imported, done.changed = counts.get("new", 0), counts.get("changed", 0)
    done.same = counts.get("same", 0)
    if await session.scalar(_LEFT, {"source": source}):
        await session.execute(_LEAVE, {"source": source})
    if done.imported or done.changed:
        await session.execute(_WRITE, {"source": source, "file": source_id})


async def take_out(session: AsyncSession, kinds: Collection[PlaceKind], *, source: str) -> int:
    """Take out the places of a source that were not staged; return how many."""
    values = {"source": source, "kinds": [kind.value for kind in kinds]}
    if not await session.scalar(_ANY_UNHELD, values):
        return 0
    gone = await session.execute(_TAKE_OUT, values)
    return int(gone.rowcount)  # type: ignore[attr-defined]
