"""Bulk import of households: one file, every row accounted for.

Rows go through the same rules as single proposals, in batches: a batch is
copied into a temporary table, judged there and here, and written in one
transaction together with how far the file has come.  A wrong row is written to
the report with its line and never costs another row.  The same file again, or
a file of the same source that repeats a household, changes nothing: where a
household has ever lived is for officers to say, not for a file.
"""

import asyncio
import csv
import hashlib
import io
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime
from functools import cache
from itertools import islice
from math import floor
from pathlib import Path
from typing import Any

import msgspec
import psycopg
from msgspec import Raw, Struct
from sqlalchemy import func, select, text
from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.address import codes, queries
from bkapp.address.changes import Changed, append, clock
from bkapp.address.models import ImportRun
from bkapp.address.operations.placing import PLACING
from bkapp.address.pluscodes import area as area_of
from bkapp.address.rules import (
    APPROXIMATE_EDGE_METRES,
    LIVE,
    NEIGHBOURS_DIFFER_IN,
    SAME_DOOR_METRES,
    Change,
    Status,
    door_label,
    metres_between,
    tidy,
)
from bkapp.db import Sessions
from bkapp.errors import Invalid
from bkapp.units.names import key as name_key

TEXTS = ("house_number", "street", "building", "entrance", "floor", "door")
LONGEST = 120
LONGEST_LINE = 100_000  # bytes; no row is that long, and what is read at once has to have an end
COLUMNS = ("source_id", "lon", "lat", "unit", "hamlet", "since", "accuracy_m", *TEXTS)
NEEDED = ("source_id", "lon", "lat", "unit")


class Row(Struct, frozen=True):
    """One household of a file, read but not yet judged by the register."""

    line: int
    source_id: str
    lon: float
    lat: float
    unit: str
    hamlet: str | None
    since: date
    accuracy_m: float | None
    doors: tuple[str | None, ...]

    def fault(self, field: str, reason: str) -> "Fault":
        return Fault(self.line, self.source_id, field, reason)


# Line, code, commune as stated, commune of today, hamlet, area: a row of the temporary table `accepted`.
Accepted = tuple[int, str, int, int, int | None, str]


class Fault(Struct, frozen=True):
    """Why a row was not taken (or, for ``differs``, why it was left as it is)."""

    line: int
    source_id: str
    field: str
    reason: str


class Tally(Struct):
    """How the import stands."""

    rows: int = 0
    imported: int = 0
    skipped: int = 0
    refused: int = 0


# --- reading ----------------------------------------------------------------------------------------------------


# What a file says of one household, or why nothing can be read there.
Record = dict[str, Any] | str


def records(path: Path) -> Iterator[tuple[int, Record]]:
    """The rows of a CSV, GeoJSON, GeoJSON-lines or GeoPackage file with their line (or feature) numbers.

    CSV may be separated by comma, semicolon or tab, in UTF-8 with or without
    BOM; a field holds no line break.  Raises ``Invalid`` at once for a file that
    is none of these; what is wrong with one row is said in its place.
    """
    match path.suffix.lower():
        case ".csv" | ".tsv" | ".txt":
            return _csv_records(path, *_csv_header(path))
        case ".geojsonl" | ".ndjson":
            _require_utf8(path)
            return ((line, raw if isinstance(raw, str) else _feature(raw)) for line, raw in _lines(path))
        case ".geojson" | ".json":
            return _geojson_records(path)
        case ".gpkg":
            return _geopackage_records(path)
    raise Invalid("A file of households is CSV, GeoJSON or GeoPackage.", file=path.name)


def count_records(path: Path) -> int | None:
    """About how many rows a file has, where that can be told without reading them all."""
    match path.suffix.lower():
        case ".csv" | ".tsv" | ".txt" | ".geojsonl" | ".ndjson":
            with path.open("rb") as file:
                return sum(part.count(b"\n") for part in iter(lambda: file.read(1 << 20), b""))
    return None


def _lines(path: Path) -> Iterator[tuple[int, bytes | str]]:
    """The lines of a file that hold anything, by number; a line without end is passed over."""
    with path.open("rb") as file:
        number = 0
        while raw := file.readline(LONGEST_LINE):
            number += 1
            if len(raw) == LONGEST_LINE and not raw.endswith(b"\n"):
                while (rest := file.readline(LONGEST_LINE)) and not rest.endswith(b"\n"):
                    pass
                yield number, f"a line of more than {LONGEST_LINE} bytes"
                continue
            if number == 1:
                raw = raw.removeprefix(b"\xef\xbb\xbf")  # the byte order mark of UTF-8
            if raw.strip():
                yield number, raw


def _require_utf8(path: Path) -> bytes:
    """The first line of a file, unless it is in an encoding of two or four bytes a character."""
    with path.open("rb") as file:
        head = file.readline(LONGEST_LINE)
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in head:
        raise Invalid("The file is not UTF-8 but looks like UTF-16: save it as UTF-8.", file=path.name)
    return head.removeprefix(b"\xef\xbb\xbf")


def _csv_header(path: Path) -> tuple[list[str], str]:
    """The names of the columns and what separates them."""
    try:
        head = _require_utf8(path).decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise Invalid("The first line is not UTF-8: save the file as CSV UTF-8.", file=path.name) from None
    if "\r" in head:
        raise Invalid("The lines end in the old Macintosh way: save the file as CSV UTF-8.", file=path.name)
    delimiter = max(",;\t", key=head.count)
    names = [name.strip().lower() for name in next(csv.reader([head], delimiter=delimiter), [])]
    _require_columns(names)
    return names, delimiter


def _csv_records(path: Path, names: list[str], delimiter: str) -> Iterator[tuple[int, Record]]:
    # Line by line, so that a quote that is not closed spoils one row and does not swallow those below.
    lines = _lines(path)
    next(lines)
    for number, raw in lines:
        if isinstance(raw, str):
            yield number, raw
            continue
        try:
            line = raw.decode().rstrip("\r\n")
        except UnicodeDecodeError:
            yield number, "not UTF-8"
            continue
        if '"' in line and "\r" not in line:
            values = next(csv.reader((f"{line}\n",), delimiter=delimiter))
        else:
            values = line.split(delimiter)
        if "\r" in line or values[-1].endswith("\n"):
            yield number, "a line break inside a field: a quote is not closed"
        elif "\0" in line:
            yield number, "a NUL character"
        elif any(values):
            if len(values) == len(names):
                yield number, dict(zip(names, values, strict=True))
            else:
                yield number, f"{len(values)} columns instead of {len(names)}"


class _Collection(Struct):
    features: list[Raw]


def _geojson_records(path: Path) -> Iterator[tuple[int, Record]]:
    try:
        collection = msgspec.json.decode(path.read_bytes().removeprefix(b"\xef\xbb\xbf"), type=_Collection)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Invalid("The file cannot be read as GeoJSON.", file=path.name) from None
    # Each is decoded when its turn comes: as objects they would take many times the room of the file.
    return ((number, _feature(raw)) for number, raw in enumerate(collection.features, start=1))


def _feature(raw: bytes | Raw) -> Record:
    try:
        feature = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "cannot be read as a GeoJSON feature"
    if not isinstance(feature, dict):
        return "no GeoJSON feature"
    match feature.get("geometry"):
        case {"type": "Point", "coordinates": [lon, lat, *_]}:
            pass
        case _:
            return "not a Point"
    match feature.get("properties"):
        case dict(properties):
            values = {name.lower(): value for name, value in properties.items()}
        case _:
            values = {}
    for name in COLUMNS:
        if isinstance(values.get(name), dict | list):
            return f"{name} is no text or number"
    return {**values, "lon": lon, "lat": lat}


def _geopackage_records(path: Path) -> Iterator[tuple[int, Record]]:
    try:
        import pyogrio  # noqa: PLC0415  (the extra `gis`)
        from pyogrio import raw  # noqa: PLC0415
        from shapely import from_wkb  # noqa: PLC0415
    except ImportError:
        raise Invalid("GeoPackage files need the extra `gis`: pip install bkapp[gis].", file=path.name) from None
    try:
        info = pyogrio.read_info(path)
        if info["crs"] not in {"EPSG:4326", "OGC:CRS84"}:
            raise Invalid(f"The points are in {info['crs']}; save them as EPSG:4326.", file=path.name)
        names = [str(name).lower() for name in info["fields"]]
        step = 20_000
        for start in range(0, info["features"], step):
            _, _, shapes, columns = raw.read(path, skip_features=start, max_features=step)
            points = from_wkb(shapes)
            for offset, point in enumerate(points):
                number = start + offset + 1
                if point is None or point.geom_type != "Point" or point.is_empty:
                    yield number, "not a Point"
                    continue
                values = {name: column[offset] for name, column in zip(names, columns, strict=True)}
                yield number, {**values, "lon": point.x, "lat": point.y}
    except pyogrio.errors.DataSourceError:
        raise Invalid("The file cannot be read as a GeoPackage.", file=path.name) from None


def _require_columns(names: list[str]) -> None:
    missing = [name for name in NEEDED if name not in names]
    if missing:
        raise Invalid(f"The file has no column {', '.join(missing)}; it needs {', '.join(NEEDED)}.")
    twice = sorted({name for name in names if names.count(name) > 1 and name in COLUMNS})
    if twice:
        raise Invalid(f"The file has the column {', '.join(twice)} more than once.")
    unknown = [name for name in names if name not in COLUMNS]
    if unknown:
        raise Invalid(f"The file has unknown columns {', '.join(map(repr, unknown))}; known are {', '.join(COLUMNS)}.")


def read_row(line: int, values: Record, *, today: date) -> Row | Fault:
    """One record as a row, or what is wrong with it."""
    if isinstance(values, str):
        return Fault(line, "", "", values)
    source_id = tidy(_text(values.get("source_id"))) or ""

    def fault(field: str, reason: str) -> Fault:
        return Fault(line, source_id, field, reason)

    if not source_id or len(source_id) > LONGEST:
        return fault("source_id", "empty" if not source_id else "too long")
    try:
        lon, lat = float(values["lon"]), float(values["lat"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return fault("lon", "lon and lat are not numbers in degrees")
    if not (-180 <= lon <= 180 and -90 <= lat <= 90):  # also refuses NaN
        return fault("lon", "lon or lat is no place on Earth")
    unit = _text(values.get("unit")).strip()
    if len(unit) != 5 or not unit.isascii() or not unit.isdigit():
        return fault("unit", f"{unit!r} is no code of a commune: five digits, leading zeros kept")
    try:
        since = _day(values.get("since"), today)
    except ValueError as error:
        return fault("since", str(error))
    try:
        accuracy = _number(values.get("accuracy_m"))
    except ValueError as error:
        return fault("accuracy_m", str(error))
    if since > today:
        return fault("since", "in the future")
    doors = tuple(tidy(_text(values.get(name))) for name in TEXTS)
    hamlet = tidy(_text(values.get("hamlet")))
    for name, value in zip((*TEXTS, "hamlet"), (*doors, hamlet), strict=True):
        if value and len(value) > LONGEST:
            return fault(name, f"longer than {LONGEST} characters")
    return Row(line, source_id, lon, lat, unit, hamlet, since, accuracy, doors)


def _text(value: Any) -> str:
    if value is None or value != value:  # noqa: PLR0124  (NaN, as GeoPackages give for empty)
        return ""
    return value if isinstance(value, str) else str(value)


def _day(value: Any, today: date) -> date:
    plain = _text(value).strip()
    if not plain:
        return today
    try:
        return date.fromisoformat(plain[:10])
    except ValueError:
        raise ValueError(f"{plain!r} is no day: write 2026-01-31") from None


def _number(value: Any) -> float | None:
    plain = _text(value).strip()
    if not plain:
        return None
    number = float(plain)
    if not 0 <= number <= 10_000:
        raise ValueError("not between 0 and 10000 metres")
    return round(number, 3)


# --- what stands nearby -----------------------------------------------------------------------------------------

_TILE = 0.02  # degrees: what is loaded from the register at once
_CELL = 0.003  # a little more than 300 m, the reach of the rule that neighbours' codes differ
_STEP = 0.00003  # a little more than 3 m, the reach of the rule that doors differ


# Longitude, latitude, what tells it from others at its door (None: it has ended), code.
_Home = tuple[float, float, str | None, str]


class Surroundings:
    """The codes and doors around the rows of an import, loaded tile by tile as rows come near them.

    Between two batches others may write, so each batch first catches up with
    what the feed has since.
    """

    def __init__(self) -> None:
        self._seq: int | None = None  # the event up to which this is true
        self._tiles: set[tuple[int, int]] = set()
        self._codes: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
        self._doors: defaultdict[tuple[int, int], list[_Home]] = defaultdict(list)
        self._homes: dict[str, _Home] = {}

    async def catch_up(self, session: AsyncSession) -> None:
        """Learn of the homes that others added, moved or ended since this was last true."""
        head = await queries.head(session)
        if self._seq is not None and head != self._seq:
            for home in await session.execute(_CHANGED, {"after": self._seq}):
                self.forget(home.code)
                self._stand(*home)
        self._seq = head

    def wrote(self, count: int, head: int) -> None:
        """Our own events need no catching up, where they follow what is known without a gap."""
        if self._seq is not None and self._seq + count == head:
            self._seq = head

    async def load(self, session: AsyncSession, rows: Iterable[Row]) -> None:
        """Fetch what the register has around these rows and was not fetched before."""
        wanted = {
            (floor((row.lon + dx) / _TILE), floor((row.lat + dy) / _TILE))
            for row in rows
            for dx in (-_CELL, _CELL)
            for dy in (-_CELL, _CELL)
        } - self._tiles
        self._tiles |= wanted
        for x, y in sorted(wanted):
            found = await session.execute(_STANDING, {"w": x * _TILE, "s": y * _TILE, "size": _TILE})
            for home in found:
                # Neighbouring tiles share their edges.
                if home.code not in self._homes:
                    self._stand(*home)

    def _stand(
        self,
        code: str,
        lon: float,
        lat: float,
        status: str,
        building: str | None,
        entrance: str | None,
        storey: str | None,
        door: str | None,
    ) -> None:
        self.add(code, lon, lat, door_label(building, entrance, storey, door) if Status(status) in LIVE else None)

    def same_door(self, lon: float, lat: float, label: str) -> str | None:
        """The code of a home whose door is within three metres and that nothing tells from this one."""
        x, y = floor(lon / _STEP), floor(lat / _STEP)
        for i in (x - 1, x, x + 1):
            for j in (y - 1, y, y + 1):
                for other_lon, other_lat, other, code in self._doors.get((i, j), ()):
                    if other == label and metres_between(lon, lat, other_lon, other_lat) <= SAME_DOOR_METRES:
                        return code
        return None

    def code_for(self, lon: float, lat: float, free: list[str]) -> str:
        """Take a code out of ``free`` that is unlike all of those around: in five digits or more where one of the last
        64 is so, else the most different of them."""
        x, y = floor(lon / _CELL), floor(lat / _CELL)
        near = [spots for i in (x - 1, x, x + 1) for j in (y - 1, y, y + 1) for spots in self._codes.get((i, j), ())]
        best, best_likeness = -1, codes.LENGTH + 1
        for place in range(len(free) - 1, max(len(free) - 65, -1), -1):
            spots = _spots(free[place])
            likeness = max(((spots & other).bit_count() for other in near), default=0)
            if likeness < best_likeness:
                best, best_likeness = place, likeness
            if likeness <= codes.LENGTH - NEIGHBOURS_DIFFER_IN:
                break
        free[best], free[-1] = free[-1], free[best]
        return free.pop()

    def add(self, code: str, lon: float, lat: float, label: str | None) -> None:
        """Note a home; ``label`` is None for one that has ended, whose door is free again."""
        home = self._homes[code] = (lon, lat, label, code)
        self._codes[floor(lon / _CELL), floor(lat / _CELL)].append(_spots(code))
        if label is not None:
            self._doors[floor(lon / _STEP), floor(lat / _STEP)].append(home)

    def forget(self, code: str) -> None:
        """Take a home out again, if it was noted."""
        home = self._homes.pop(code, None)
        if home is not None:
            lon, lat, label, _ = home
            self._codes[floor(lon / _CELL), floor(lat / _CELL)].remove(_spots(code))
            if label is not None:
                self._doors[floor(lon / _STEP), floor(lat / _STEP)].remove(home)


_HOME = """
    SELECT code, ST_X(point::geometry), ST_Y(point::geometry), status, building, entrance, floor, door FROM dwelling
"""
_STANDING = text(f"{_HOME} WHERE point && ST_MakeEnvelope(:w, :s, :w + :size, :s + :size, 4326)::geography")
_CHANGED = text(f"{_HOME} WHERE code IN (SELECT code FROM address_event WHERE seq > :after)")


# Three digits as three bits among thirty.
_THREE = {f"{n:03d}": 1 << n // 100 | 1 << 10 + n // 10 % 10 | 1 << 20 + n % 10 for n in range(1000)}


def _spots(code: str) -> int:
    """A code as a set of bits, one for each digit in its place, so that likeness is one ``and`` and a count."""
    return _THREE[code[:3]] | _THREE[code[3:6]] << 30 | _THREE[code[6:]] << 60


# --- writing ----------------------------------------------------------------------------------------------------


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
    if verdict.there_id != verdict.stated_id and not verdict.near_guess:
        place = f"in {verdict.there_name} ({verdict.there_code})" if verdict.there_id else "outside the province"
        return row.fault("lon", f"the point lies {place}, not in {verdict.stated_name} ({row.unit})")
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
        (there.id IS DISTINCT FROM stated.id
            AND stated.boundary_quality = 'approximate'
            AND coalesce(there.boundary_quality, 'approximate') = 'approximate'
            AND (SELECT min(ST_Distance(p.geom::geography, i.point)) <= :edge
                 FROM admin_unit_piece p WHERE p.unit_id = stated.id)) AS near_guess,
        now.id AS unit_id, hh.id AS household_id
    FROM incoming i
    LEFT JOIN admin_unit stated ON stated.code = i.unit AND stated.level = 'commune' AND stated.in_bac_kan
        AND stated.valid_from <= i.since AND (stated.valid_to IS NULL OR stated.valid_to > i.since)
    LEFT JOIN LATERAL (
        SELECT u.id, u.code, u.full_name, u.boundary_quality
        FROM admin_unit_piece p JOIN admin_unit u ON u.id = p.unit_id
        WHERE ST_Intersects(p.geom, i.point::geometry) AND u.level = 'commune' AND u.in_bac_kan
            AND u.valid_from <= i.since AND (u.valid_to IS NULL OR u.valid_to > i.since)
        ORDER BY u.boundary_quality = 'official' DESC, u.id = stated.id DESC, u.code LIMIT 1) there ON true
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
    await _copy(
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


async def _copy(session: AsyncSession, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
    buffer = io.StringIO()
    csv.writer(buffer).writerows(rows)
    raw: Any = (await (await session.connection()).get_raw_connection()).driver_connection
    async with raw.cursor() as cursor, cursor.copy(f"COPY {table} FROM STDIN (FORMAT csv)") as copy:
        await copy.write(buffer.getvalue())


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
    await _copy(session, "accepted", accepted)
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
