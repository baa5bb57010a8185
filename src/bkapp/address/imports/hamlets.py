"""Hamlets from a file: opened in the commune that their code means on their day, and followed to the one of today.

All of a file is written in one transaction: hamlets are some thousands, and namesakes of one new commune are told
apart best when they come together.
"""

from collections import defaultdict
from collections.abc import Iterable
from datetime import date
from pathlib import Path

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.address.imports.hamlet_writing import NewHamlet, open_hamlets, place_hamlets
from bkapp.address.imports.reading import Fault, Form, Record, commune_code, day, plain_text, position, records
from bkapp.address.imports.sources import Outcome, note_source, origin, take_turn_alone
from bkapp.address.imports.staging import NEAR_GUESS, NOWHERE, STATED_AND_THERE, copy_rows, misplaced, points_on_surface
from bkapp.address.operations.settling import succeed_hamlets
from bkapp.address.rules import APPROXIMATE_EDGE_METRES, LONGEST_HAMLET, PlaceSourceKind, tidy
from bkapp.errors import Invalid
from bkapp.units import queries as units
from bkapp.units.names import key as name_key

FORM = Form(
    what="hamlets",
    columns=("name", "unit", "since", "lon", "lat", "source_id"),
    needed=("name", "unit"),
    shapes=True,
    placeless=True,
)


class HamletRow(Struct):
    """One hamlet of a file, read but not yet judged by the register."""

    line: int
    source_id: str
    name: str
    unit: str
    since: date | None  # None: from the first day of the unit that its code means on the file's day
    point: tuple[float, float] | None
    shape: bytes | None = None

    @property
    def key(self) -> str:
        return name_key(self.name)

    def fault(self, field: str, reason: str) -> Fault:
        return Fault(self.line, self.source_id or self.name, field, reason)


def read_hamlet(line: int, values: Record, *, today: date) -> HamletRow | Fault:
    """One record as a hamlet, or what is wrong with it."""
    if isinstance(values, str):
        return Fault(line, "", "", values)
    name = tidy(plain_text(values.get("name"))) or ""
    source_id = tidy(plain_text(values.get("source_id"))) or ""

    def fault(field: str, reason: str) -> Fault:
        return Fault(line, source_id or name, field, reason)

    if not name_key(name):
        return fault("name", "empty" if not name else "no letters or numbers")
    if len(name) > LONGEST_HAMLET:
        return fault("name", f"longer than {LONGEST_HAMLET} characters")
    try:
        unit = commune_code(values)
    except ValueError as error:
        return fault("unit", str(error))
    try:
        since = day(values.get("since"))
    except ValueError as error:
        return fault("since", str(error))
    if since is not None and since > today:
        return fault("since", "in the future")
    shape = values.get("shape")
    placed = any(plain_text(values.get(name)).strip() for name in ("lon", "lat"))
    try:
        point = position(values) if placed and shape is None else None
    except ValueError as error:
        return fault("lon", str(error))
    return HamletRow(line, source_id, name, unit, since, point, shape)


async def import_hamlets(
    session: AsyncSession, path: Path, *, source: str, licence: str, as_of: date | None, today: date
) -> Outcome:
    """Open the hamlets of a file, and give their points to those that are there.

    ``as_of`` is the day on which the code of a row without ``since`` is read, today if None.
    """
    file = origin(PlaceSourceKind.HAMLETS, path, source=source, licence=licence)
    rows: list[HamletRow] = []
    done = Outcome()
    for line, values in records(path, FORM):
        done.rows += 1
        read = read_hamlet(line, values, today=today)
        if isinstance(read, Fault):
            done.refuse(read)
        else:
            rows.append(read)
    if not done.rows:
        raise Invalid(f"{path.name} holds no hamlets.")
    await take_turn_alone(session)
    judged = await _judge(session, await _place_shapes(session, rows, done), done, as_of=as_of or today, today=today)
    source_id = await note_source(session, file, done.rows)
    await _write(session, judged, done, source=file.source, source_id=source_id)
    await succeed_hamlets(session, today=today, actor="import")
    ended = sum(taken.ended and taken.known is None for taken in judged)
    if ended:
        done.notes.append(f"{ended} of them in communes that have ended; they go on in those that followed")
    done.faults.sort(key=lambda fault: fault.line)
    return done


async def _place_shapes(session: AsyncSession, rows: list[HamletRow], done: Outcome) -> list[HamletRow]:
    """Give each polygon a point inside it, and refuse those where there is none."""
    points = await points_on_surface(session, {row.line: row.shape for row in rows if row.shape is not None})
    usable = []
    for row in rows:
        row.point = points.get(row.line, row.point)
        if row.shape is not None and row.point is None:
            done.refuse(row.fault("lon", NOWHERE))
        else:
            usable.append(row)
    return usable


# --- judging ----------------------------------------------------------------------------------------------------


class Known(Struct):
    """A hamlet of the register.  ``id`` is None for one that this file is about to open."""

    id: int | None
    name: str
    qualifier: str | None
    valid_from: date
    valid_to: date | None
    point: tuple[float, float] | None
    line: int | None = None

    @property
    def full_name(self) -> str:
        return f"{self.name} ({self.qualifier})" if self.qualifier else self.name


class Judged(Struct, frozen=True):
    """A row that can be taken: into which commune, whether that has ended, from when, and which hamlet it is if the
    register knows it."""

    row: HamletRow
    unit_id: int
    ended: bool
    begins: date
    known: Known | None


_STAGE = (
    text("""
        CREATE TEMP TABLE IF NOT EXISTS incoming_hamlet (
            line bigint PRIMARY KEY, unit text, since date, point geography(Point, 4326)
        ) ON COMMIT DROP
    """),
    text("TRUNCATE incoming_hamlet"),
)
_ANALYZE = text("ANALYZE incoming_hamlet")
_JUDGE = text(f"""
    SELECT i.line, stated.id AS stated_id, stated.full_name AS stated_name, stated.valid_from AS stated_from,
        stated.valid_to <= :today AS ended,
        there.id AS there_id, there.code AS there_code, there.full_name AS there_name, {NEAR_GUESS} AS near_guess
    FROM incoming_hamlet i
    {STATED_AND_THERE}
    ORDER BY i.line
""")
_KNOWN = text("""
    SELECT unit_id, key, id, name, qualifier, valid_from, valid_to,
        ST_X(point::geometry) AS lon, ST_Y(point::geometry) AS lat
    FROM hamlet WHERE unit_id = ANY(:units) ORDER BY valid_from, id
""")


async def _judge(
    session: AsyncSession, rows: list[HamletRow], done: Outcome, *, as_of: date, today: date
) -> list[Judged]:
    by_line = {row.line: row for row in rows}
    for statement in _STAGE:
        await session.execute(statement)
    staged = (
        (
            row.line,
            row.unit,
            row.since or as_of,
            None if row.point is None else "POINT({:.7f} {:.7f})".format(*row.point),
        )
        for row in rows
    )
    await copy_rows(session, "incoming_hamlet", staged)
    await session.execute(_ANALYZE)
    verdicts = (await session.execute(_JUDGE, {"edge": APPROXIMATE_EDGE_METRES, "today": today})).all()
    register = await _known(session, {verdict.stated_id for verdict in verdicts if verdict.stated_id is not None})
    judged: list[Judged] = []
    for verdict in verdicts:
        row = by_line[verdict.line]
        if verdict.stated_id is None:
            done.refuse(row.fault("unit", await _no_such_unit(session, row.unit, row.since or as_of)))
            continue
        if row.point is not None and (elsewhere := misplaced(verdict, row.unit)):
            done.refuse(row.fault("lon", elsewhere))
            continue
        begins = row.since or verdict.stated_from
        found = register.find(verdict.stated_id, row.key, begins)
        if len(found) > 1:
            names = ", ".join(sorted(known.full_name for known in found))
            done.refuse(row.fault("name", f"more than one of that name, write the former commune too: {names}"))
            continue
        known = found[0] if found else None
        if known is not None and known.line is not None:
            done.refuse(row.fault("name", f"repeats line {known.line}"))
            continue
        judged.append(Judged(row, verdict.stated_id, bool(verdict.ended), begins, known))
        register.claim(verdict.stated_id, row, begins, known)
    return judged


async def _no_such_unit(session: AsyncSession, code: str, on: date) -> str:
    meant = "; ".join(unit.in_words() for unit in await units.meanings(session, code))
    return f"no commune of Bắc Kạn has the code {code} on {on}: it " + (f"means {meant}" if meant else "is not known")


class Register:
    """The hamlets of some communes at all times, found as ``queries.hamlets_named`` does, and those of the file."""

    def __init__(self) -> None:
        self._by_key: defaultdict[tuple[int, str], list[Known]] = defaultdict(list)
        self._twins: defaultdict[tuple[int, str], list[Known]] = defaultdict(list)

    def add(self, unit_id: int, key: str, known: Known) -> None:
        self._by_key[unit_id, key].append(known)
        if known.qualifier:
            self._twins[unit_id, name_key(known.name)].append(known)

    def claim(self, unit_id: int, row: HamletRow, begins: date, known: Known | None) -> None:
        """Note that a line of the file is this hamlet."""
        if known is None:
            self.add(unit_id, row.key, Known(None, row.name, None, begins, None, row.point, row.line))
        else:
            known.line = row.line

    def find(self, unit_id: int, key: str, begins: date) -> list[Known]:
        """The hamlet of this name at some time from a day on: the first there was; or several that share it."""
        for hamlets in (self._by_key.get((unit_id, key), []), self._twins.get((unit_id, key), [])):
            lasting = [known for known in hamlets if known.valid_to is None or known.valid_to > begins]
            if lasting:
                return lasting[:1] if hamlets is self._by_key.get((unit_id, key)) else lasting
        return []


async def _known(session: AsyncSession, unit_ids: Iterable[int]) -> Register:
    register = Register()
    for row in await session.execute(_KNOWN, {"units": list(unit_ids)}):
        point = None if row.lon is None else (row.lon, row.lat)
        register.add(row.unit_id, row.key, Known(row.id, row.name, row.qualifier, row.valid_from, row.valid_to, point))
    return register


async def _write(session: AsyncSession, judged: list[Judged], done: Outcome, *, source: str, source_id: int) -> None:
    new: list[NewHamlet] = []
    placed: dict[int, tuple[float, float]] = {}
    for taken in judged:
        row, known = taken.row, taken.known
        if known is None or known.id is None:
            new.append(NewHamlet(taken.unit_id, row.name, taken.begins, row.point))
            continue
        if row.name not in {known.name, known.full_name}:
            done.faults.append(row.fault("differs", f"called {known.full_name!r} in the register"))
        if row.point is None or row.point == known.point:
            done.same += 1
        else:
            placed[known.id] = row.point
    done.imported = await open_hamlets(session, new, source=source, source_id=source_id)
    done.changed = len(placed)
    done.same += len(new) - done.imported  # somebody was faster
    await place_hamlets(session, placed, source_id=source_id)
