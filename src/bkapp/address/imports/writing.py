"""Bulk import of households: one file, every row accounted for.

Rows go through the same rules as single proposals, in batches: a batch is
copied into a temporary table, judged there and here, and written in one
transaction together with how far the file has come.  A wrong row is written to
the report with its line and never costs another row.  The same file again, or
a file of the same source that repeats a household, changes nothing: where a
household has ever lived is for officers to say, not for a file.
"""

import asyncio
import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import psycopg
from msgspec import Struct
from sqlalchemy import func, select, text
from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.address import codes, queries
from bkapp.address.changes import Changed, append, clock
from bkapp.address.imports.reading import Fault, Record, Row, read_row, records
from bkapp.address.imports.staging import NEAR_GUESS, STATED_AND_THERE, copy_rows, misplaced
from bkapp.address.imports.surroundings import Surroundings
from bkapp.address.models import ImportRun
from bkapp.address.operations.placing import PLACING
from bkapp.address.pluscodes import area as area_of
from bkapp.address.rules import (
    APPROXIMATE_EDGE_METRES,
    LIVE,
    SAME_DOOR_METRES,
    Change,
    Status,
    door_label,
    tidy,
)
from bkapp.db import Sessions
from bkapp.errors import Invalid
from bkapp.units.names import key as name_key

# Line, code, commune as stated, commune of today, hamlet, area: a row of the temporary table `accepted`.
Accepted = tuple[int, str, int, int, int | None, str]


class Tally(Struct):
    """How the import stands."""

    rows: int = 0
    imported: int = 0
    skipped: int = 0
    refused: int = 0


async def import_households(
    sessions: Sessions,
    path: Path,
    *,
    source: str,
    today: date,
    dry_run: bool = False,
    is_demo: bool = False,
    batch: int = 2000,
    draw: Callable[[], str] = codes.draw,
    started: Callable[[int], None] = lambda _: None,
    report: Callable[[list[Fault]], None] = lambda _: None,
    progress: Callable[[Tally], None] = lambda _: None,
) -> Tally:
    """Import the households of a file and return the tally.

    An interrupted import of the same file and source goes on where its last
    whole batch ended, and its tally counts from the beginning of the file;
    ``started`` gets the number of rows done before.  ``report`` gets the faults of each batch once it is
    committed; with ``dry_run`` everything is judged and nothing is kept.
    """
    plain = tidy(source)
    if not plain:
        raise Invalid("Name the source of the file: the register that its numbers belong to.")
    reader = await asyncio.to_thread(records, path)  # refuses a file that is none before anything is noted
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    tally = Tally() if dry_run else await _resume(sessions, sha256, plain, path.name)
    done = tally.rows
    started(done)
    around = Surroundings()
    seen: dict[str, int] = {}
    portions = _portions(reader, after=done, size=batch, today=today)

    async def write(portion: list[Row | Fault]) -> None:
        faults = await _take(
            sessions, portion, plain, sha256, around, seen, tally, draw, dry_run=dry_run, is_demo=is_demo
        )
        report(faults)
        progress(tally)

    portion: list[Row | Fault] | None = await asyncio.to_thread(next, portions, [])
    while portion is not None:
        # The database works on one portion while the next is read.
        reading = asyncio.create_task(asyncio.to_thread(next, portions, None))
        try:
            await write(portion)
        finally:
            portion = await reading
    if not dry_run:
        async with sessions.begin() as session:
            run = await _run(session, sha256, plain)
            run.finished_at = await clock(session)
    return tally


def _portions(
    reader: Iterator[tuple[int, Record]], *, after: int, size: int, today: date
) -> Iterator[list[Row | Fault]]:
    """The rows of a file in portions, without the first ``after`` of them."""
    portion: list[Row | Fault] = []
    for line, values in islice(reader, after, None):
        portion.append(read_row(line, values, today=today))
        if len(portion) >= size:
            yield portion
            portion = []
    if portion:
        yield portion


async def _resume(sessions: Sessions, sha256: str, source: str, file_name: str) -> Tally:
    """What is already accounted for of this file; a finished import starts anew and skips what is there."""
    async with sessions.begin() as session:
        run = await session.scalar(
            select(ImportRun).where(ImportRun.sha256 == sha256, ImportRun.source == source).with_for_update()
        )
        if run is None:
            session.add(ImportRun(sha256=sha256, source=source, file_name=file_name))
            return Tally()
        if run.finished_at is not None:
            run.finished_at = None
            run.rows_done = run.imported = run.skipped = run.refused = 0
        return Tally(run.rows_done, run.imported, run.skipped, run.refused)


async def _run(session: AsyncSession, sha256: str, source: str) -> ImportRun:
    return (
        await session.execute(
            select(ImportRun).where(ImportRun.sha256 == sha256, ImportRun.source == source).with_for_update()
        )
    ).scalar_one()


async def _take(
    sessions: Sessions,
    pending: list[Row | Fault],
    source: str,
    sha256: str,
    around: Surroundings,
    seen: dict[str, int],
    tally: Tally,
    draw: Callable[[], str],
    *,
    dry_run: bool,
    is_demo: bool,
) -> list[Fault]:
    """Judge and write one batch in one transaction; return its faults."""
    rows = {row.line: row for row in pending if isinstance(row, Row)}
    async with sessions.begin() as session:
        await session.execute(select(func.pg_advisory_xact_lock(PLACING)))
        verdict = await _sort(session, rows, source, around, seen, draw)
        faults = [row for row in pending if isinstance(row, Fault)] + verdict.faults
        accepted = verdict.accepted
        if dry_run:
            await session.rollback()
        else:
            broken = await _write_what_can_be(session, accepted, rows, source, is_demo=is_demo)
            for line, code, *_ in accepted:
                if line in broken:
                    around.forget(code)
                    del seen[rows[line].source_id]
                    faults.append(rows[line].fault("", f"refused by the register: {broken[line]}"))
            accepted = [row for row in accepted if row[0] not in broken]
            around.wrote(len(accepted), await queries.head(session))
            run = await _run(session, sha256, source)
            run.rows_done += len(pending)
            run.imported += len(accepted)
            run.skipped += verdict.skipped
            run.refused += len(faults)
    tally.rows += len(pending)
    tally.imported += len(accepted)
    tally.skipped += verdict.skipped
    tally.refused += len(faults)
    return sorted([*faults, *verdict.differences], key=lambda fault: fault.line)


class Sorted(Struct):
    """What becomes of the rows of a batch."""

    accepted: list[Accepted] = []
    faults: list[Fault] = []
    differences: list[Fault] = []
    skipped: int = 0


async def _sort(
    session: AsyncSession,
    rows: dict[int, Row],
    source: str,
    around: Surroundings,
    seen: dict[str, int],
    draw: Callable[[], str],
) -> Sorted:
    """Ask the register about the rows of a batch, and give a code to each that it can take."""
    await _stage(session, rows.values(), source)
    await around.catch_up(session)
    await around.load(session, rows.values())
    free = await _free_codes(session, len(rows) + 256, draw)
    verdicts = (await session.execute(_JUDGE, {"edge": APPROXIMATE_EDGE_METRES})).all()
    homes = await _homes(session, {verdict.line for verdict in verdicts if verdict.household_id is not None})
    hamlets = await _hamlets(session, {verdict.unit_id for verdict in verdicts if rows[verdict.line].hamlet})
    done = Sorted()
    for verdict in verdicts:
        row = rows[verdict.line]
        if row.source_id in seen:
            done.faults.append(row.fault("source_id", f"repeats line {seen[row.source_id]}"))
            continue
        if row.line in homes:
            seen[row.source_id] = row.line
            done.skipped += 1
            difference = _difference(homes[row.line])
            if difference is not None:
                done.differences.append(row.fault("differs", difference))
            continue
        hamlet = hamlets(row.hamlet, verdict.unit_id) if row.hamlet else None
        fault = _judge(row, verdict, hamlet, around)
        if fault is not None:
            done.faults.append(fault)
            continue
        seen[row.source_id] = row.line
        code = around.code_for(row.lon, row.lat, free)
        around.add(code, row.lon, row.lat, door_label(*row.doors[2:]))
        hamlet_id = hamlet if isinstance(hamlet, int) else None
        done.accepted.append((row.line, code, verdict.stated_id, verdict.unit_id, hamlet_id, area_of(row.lon, row.lat)))
    return done


_TAKEN = text("SELECT code FROM dwelling WHERE code = ANY(:codes)")


async def _free_codes(session: AsyncSession, count: int, draw: Callable[[], str]) -> list[str]:
    """Codes that nobody has.  Whoever adds an address holds our lock or waits for it, so they stay free to the end."""
    free: dict[str, None] = {}
    while len(free) < count:
        drawn = list(dict.fromkeys(draw() for _ in range(count - len(free))))
        taken = set(await session.scalars(_TAKEN, {"codes": drawn}))
        free.update(dict.fromkeys(code for code in drawn if code not in taken))
    return list(free)


def _judge(row: Row, verdict: Any, hamlet: int | str | None, around: Surroundings) -> Fault | None:
    """Why the register does not take a row, or None."""
    if verdict.stated_id is None:
        return row.fault("unit", f"no commune of Bắc Kạn has the code {row.unit} on {row.since}")
    if elsewhere := misplaced(verdict, row.unit):
        return row.fault("lon", elsewhere)
    if verdict.unit_id is None:
        return row.fault("unit", "the commune was divided since: give today's code and no earlier day")
    if isinstance(hamlet, str):
        return row.fault("hamlet", hamlet)
    twin = around.same_door(row.lon, row.lat, door_label(*row.doors[2:]))
    if twin is not None:
        return row.fault("lon", f"{codes.display(twin)} has its door within 3 m and nothing tells the two apart")
    return None


async def _homes(session: AsyncSession, lines: set[int]) -> dict[int, Any]:
    """Where the households of these rows live, or lived last.

    A stay that was taken back counts as well, or the next import would give a
    home that "never existed" again; a proposal that was rejected does not.
    """
    homes: dict[int, Any] = {}
    for question in _HOMES:
        missing = sorted(lines - homes.keys())
        if missing:
            found = await session.execute(question, {"lines": missing})
            homes |= {home.line: home for home in found}
    return homes


def _difference(home: Any) -> str | None:
    """What officers have said about a household that its row does not know."""
    where = codes.display(home.code)
    if Status(home.status) not in LIVE:
        return f"{where} is {home.status}"
    if home.left_on is not None:
        return f"left {where} on {home.left_on}"
    if home.moved_m > SAME_DOOR_METRES:
        return f"stands as {where}, {home.moved_m:.0f} m away"
    return None


async def _hamlets(session: AsyncSession, unit_ids: set[int | None]) -> Callable[[str, int | None], int | str]:
    """What finds a hamlet by its name among those of today of these communes, or tells why there is not one.

    As ``queries.hamlets_named`` does: by its key, or by name where a merger made namesakes.
    """
    by_key: dict[tuple[int | None, str], int] = {}
    twins: defaultdict[tuple[int | None, str], list[Any]] = defaultdict(list)
    if unit_ids:
        for hamlet in await session.execute(_HAMLETS, {"units": [unit for unit in unit_ids if unit is not None]}):
            by_key[hamlet.unit_id, hamlet.key] = hamlet.id
            if hamlet.qualifier:
                twins[hamlet.unit_id, name_key(hamlet.name)].append(hamlet)
                by_key.setdefault((hamlet.unit_id, name_key(f"{hamlet.name} {hamlet.qualifier}")), hamlet.id)

    @cache
    def named(name: str, unit_id: int | None) -> int | str:
        wanted = unit_id, name_key(name)
        if wanted in by_key:
            return by_key[wanted]
        match twins.get(wanted, []):
            case []:
                return f"the commune has no hamlet {name!r}: add it first"
            case [only]:
                return int(only.id)
            case several:
                return f"more than one: {', '.join(f'{twin.name} ({twin.qualifier})' for twin in several)}"

    return named


# Every commune with the units that followed it, step by step, itself included; and where that leads to one of today.
_LINES = """
    WITH RECURSIVE line AS (
        SELECT id AS first, id, valid_from, valid_to FROM admin_unit WHERE level = 'commune' AND in_bac_kan
        UNION ALL
        SELECT line.first, u.id, u.valid_from, u.valid_to
        FROM line JOIN admin_unit_succession s ON s.old_id = line.id JOIN admin_unit u ON u.id = s.new_id),
    heir AS (
        SELECT first, min(id) AS id FROM line WHERE valid_to IS NULL GROUP BY first HAVING count(*) = 1)
"""
_JUDGE = text(f"""
    {_LINES}
    SELECT i.line, stated.id AS stated_id, stated.full_name AS stated_name,
        there.id AS there_id, there.code AS there_code, there.full_name AS there_name,
        {NEAR_GUESS} AS near_guess,
        now.id AS unit_id, hh.id AS household_id
    FROM incoming i
    {STATED_AND_THERE}
    LEFT JOIN heir now ON now.first = stated.id
    LEFT JOIN household hh ON hh.source = i.source AND hh.source_id = i.source_id
    ORDER BY i.line
""")
# What is believed is found by index; the rest is asked for where nothing is believed, which is rare.
_HOMES = [
    text(f"""
        SELECT DISTINCT ON (i.line) i.line, l.code, d.status, ST_Distance(d.point, i.point) AS moved_m,
            CASE WHEN l.recorded_to IS NULL THEN l.valid_to ELSE l.valid_from END AS left_on
        FROM incoming i
        JOIN household hh ON hh.source = i.source AND hh.source_id = i.source_id
        JOIN household_link l ON l.household_id = hh.id AND {which}
        JOIN dwelling d ON d.code = l.code AND d.status <> '{Status.REJECTED.value}'
        WHERE i.line = ANY(:lines)
        ORDER BY i.line, l.valid_to DESC NULLS FIRST, l.recorded_from DESC
    """)
    for which in ("l.recorded_to IS NULL", "l.recorded_to IS NOT NULL")
]
_HAMLETS = text("""
    SELECT id, unit_id, name, qualifier, key FROM hamlet
    WHERE unit_id = ANY(:units) AND valid_to IS NULL ORDER BY name, qualifier
""")


async def _stage(session: AsyncSession, rows: Iterable[Row], source: str) -> None:
    """Copy a batch into a temporary table."""
    await session.execute(
        text("""
            CREATE TEMP TABLE IF NOT EXISTS incoming (
                line bigint PRIMARY KEY, source text, source_id text, point geography(Point, 4326), unit text,
                since date, accuracy_m real,
                house_number text, street text, building text, entrance text, floor text, door text
            ) ON COMMIT DELETE ROWS
        """)
    )
    await session.execute(
        text("""
            CREATE TEMP TABLE IF NOT EXISTS accepted (
                line bigint PRIMARY KEY, code text, stated_id bigint, unit_id bigint, hamlet_id bigint, area text
            ) ON COMMIT DELETE ROWS
        """)
    )
    await copy_rows(
        session,
        "incoming",
        (
            (
                row.line,
                source,
                row.source_id,
                f"POINT({row.lon:.7f} {row.lat:.7f})",
                row.unit,
                row.since,
                row.accuracy_m,
                *row.doors,
            )
            for row in rows
        ),
    )
    # Without figures the planner takes a fresh temporary table for a large one.
    await session.execute(text("ANALYZE incoming"))


async def _write_what_can_be(
    session: AsyncSession, accepted: list[Accepted], rows: dict[int, Row], source: str, *, is_demo: bool
) -> dict[int, str]:
    """Write accepted rows; of those that the database refuses, return the line and the constraint.

    None is expected.  Should one come, halving finds it in a few tries and the
    others are kept.
    """
    if not accepted:
        return {}
    try:
        async with session.begin_nested():
            await _write(session, accepted, rows, source, is_demo=is_demo)
    except (IntegrityError, DataError, psycopg.IntegrityError, psycopg.DataError) as error:
        if len(accepted) == 1:
            cause: Any = getattr(error, "orig", error)
            return {accepted[0][0]: getattr(cause.diag, "constraint_name", None) or type(cause).__name__}
        half = len(accepted) // 2
        broken = [
            await _write_what_can_be(session, part, rows, source, is_demo=is_demo)
            for part in (accepted[:half], accepted[half:])
        ]
        return broken[0] | broken[1]
    return {}


async def _write(
    session: AsyncSession, accepted: list[Accepted], rows: dict[int, Row], source: str, *, is_demo: bool
) -> None:
    """Write the accepted rows of a batch: households, dwellings, versions, links, events."""
    await session.execute(text("DELETE FROM accepted"))
    await copy_rows(session, "accepted", accepted)
    await session.execute(text("ANALYZE accepted"))
    recorded: datetime = await clock(session)
    values = {"recorded": recorded, "source": source, "demo": is_demo, "point_source": "demo" if is_demo else "import"}
    for statement in _WRITE:
        await session.execute(statement, {name: values[name] for name in statement._bindparams})  # noqa: SLF001
    await append(
        session,
        [Changed(code, Change.IMPORTED, rows[line].since) for line, code, *_ in accepted],
        actor="import",
        note=json.dumps({"source": source}, ensure_ascii=False),
    )


_DOORS = "i.house_number, i.street, i.building, i.entrance, i.floor, i.door"
_WRITE = [
    text("""
        INSERT INTO household (source, source_id)
        SELECT i.source, i.source_id FROM accepted a JOIN incoming i USING (line) ORDER BY i.source_id
        ON CONFLICT DO NOTHING
    """),
    text(f"""
        INSERT INTO dwelling (code, began, area, is_demo, status, unit_id, hamlet_id, point, point_source,
            point_accuracy_m, house_number, street, building, entrance, floor, door)
        SELECT a.code, i.since, a.area, :demo, 'current', a.unit_id, a.hamlet_id, i.point, :point_source,
            i.accuracy_m, {_DOORS}
        FROM accepted a JOIN incoming i USING (line)
    """),
    # One version for each unit the place has belonged to since it began.
    text(f"""
        {_LINES}
        INSERT INTO dwelling_version (code, revision, valid_from, valid_to, recorded_from, status, unit_id, hamlet_id,
            point, point_source, point_accuracy_m, house_number, street, building, entrance, floor, door)
        SELECT a.code, 1, greatest(i.since, u.valid_from), u.valid_to, :recorded, 'current', u.id,
            CASE WHEN u.id = a.unit_id THEN a.hamlet_id END, i.point, :point_source, i.accuracy_m, {_DOORS}
        FROM accepted a JOIN incoming i USING (line) JOIN line u ON u.first = a.stated_id
    """),
    text("""
        INSERT INTO household_link (code, household_id, valid_from, recorded_from)
        SELECT a.code, hh.id, i.since, :recorded
        FROM accepted a JOIN incoming i USING (line)
        JOIN household hh ON hh.source = i.source AND hh.source_id = i.source_id
    """),
]
