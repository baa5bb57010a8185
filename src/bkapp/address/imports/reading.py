"""Reading files of things with a place: every record a row, or a fault with its line."""

import csv
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw, Struct

from bkapp.address.rules import tidy
from bkapp.errors import Invalid
from bkapp.units.boundary_files import polygon_wkb

TEXTS = ("house_number", "street", "building", "entrance", "floor", "door")
LONGEST = 120
LONGEST_LINE = 100_000  # bytes; no row is that long, and what is read at once has to have an end
COLUMNS = ("source_id", "lon", "lat", "unit", "hamlet", "since", "accuracy_m", *TEXTS)
NEEDED = ("source_id", "lon", "lat", "unit")


class Form(Struct, frozen=True):
    """What a file of some kind is made of.

    A CSV file with other columns than these is refused, unless ``others``.  With ``shapes`` a feature may be a
    polygon, which comes as well-known binary under the name ``shape``; with ``placeless`` it may have no geometry.
    """

    what: str
    columns: tuple[str, ...]
    needed: tuple[str, ...]
    others: bool = False
    shapes: bool = False
    placeless: bool = False


HOUSEHOLDS = Form("households", COLUMNS, NEEDED)


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


class Fault(Struct, frozen=True):
    """Why a row was not taken (or, for ``differs``, why it was left as it is)."""

    line: int
    source_id: str
    field: str
    reason: str


# What a file says of one household, or why nothing can be read there.
Record = dict[str, Any] | str


def records(path: Path, form: Form = HOUSEHOLDS) -> Iterator[tuple[int, Record]]:
    """The rows of a CSV, GeoJSON, GeoJSON-lines or GeoPackage file with their line (or feature) numbers.

    CSV may be separated by comma, semicolon or tab, in UTF-8 with or without
    BOM; a field holds no line break.  Raises ``Invalid`` at once for a file that
    is none of these; what is wrong with one row is said in its place.
    """
    match path.suffix.lower():
        case ".csv" | ".tsv" | ".txt":
            return _csv_records(path, *_csv_header(path, form))
        case ".geojsonl" | ".ndjson":
            _require_utf8(path)
            return ((line, raw if isinstance(raw, str) else _feature(raw, form)) for line, raw in _lines(path))
        case ".geojson" | ".json":
            return _geojson_records(path, form)
        case ".gpkg":
            return _geopackage_records(path, form)
    raise Invalid(f"A file of {form.what} is CSV, GeoJSON or GeoPackage.", file=path.name)


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


def _csv_header(path: Path, form: Form) -> tuple[list[str], str]:
    """The names of the columns and what separates them."""
    try:
        head = _require_utf8(path).decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise Invalid("The first line is not UTF-8: save the file as CSV UTF-8.", file=path.name) from None
    if not head.strip():
        raise Invalid("The file is empty, or its first line is: that is where the names of the columns are.")
    if "\r" in head:
        raise Invalid("The lines end in the old Macintosh way: save the file as CSV UTF-8.", file=path.name)
    delimiter = max(",;\t", key=head.count)
    names = [name.strip().lower() for name in next(csv.reader([head], delimiter=delimiter), [])]
    _require_columns(names, form)
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


def _geojson_records(path: Path, form: Form) -> Iterator[tuple[int, Record]]:
    try:
        collection = msgspec.json.decode(path.read_bytes().removeprefix(b"\xef\xbb\xbf"), type=_Collection)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Invalid("The file cannot be read as GeoJSON.", file=path.name) from None
    # Each is decoded when its turn comes: as objects they would take many times the room of the file.
    return ((number, _feature(raw, form)) for number, raw in enumerate(collection.features, start=1))


def _feature(raw: bytes | Raw, form: Form) -> Record:
    try:
        feature = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "cannot be read as a GeoJSON feature"
    if not isinstance(feature, dict):
        return "no GeoJSON feature"
    match feature.get("geometry"):
        case {"type": "Point", "coordinates": [lon, lat, *_]}:
            place = {"lon": lon, "lat": lat}
        case {"type": "Polygon" | "MultiPolygon"} as geometry if form.shapes:
            try:
                place = {"shape": polygon_wkb(geometry)}
            except ValueError as error:
                return str(error)
        case None if form.placeless:
            place = {}
        case _:
            return "not a Point or Polygon" if form.shapes else "not a Point"
    match feature.get("properties"):
        case dict(properties):
            values = {name.lower(): value for name, value in properties.items()}
        case _:
            values = {}
    for name in form.columns:
        if isinstance(values.get(name), dict | list):
            return f"{name} is no text or number"
    return {**values, **place}


def _geopackage_records(path: Path, form: Form) -> Iterator[tuple[int, Record]]:
    try:
        import pyogrio  # noqa: PLC0415  (the extra `gis`)
        from pyogrio import raw  # noqa: PLC0415
        from shapely import from_wkb  # noqa: PLC0415
    except ImportError:
        raise Invalid("GeoPackage files need the extra `gis`: pip install bkapp[gis].", file=path.name) from None
    try:
        layers = [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
        if len(layers) != 1:
            raise Invalid(f"The file has the layers {', '.join(layers) or '(none)'}; save a file with one.")
        info = pyogrio.read_info(path, layer=layers[0])
        if info["crs"] not in {"EPSG:4326", "OGC:CRS84"}:
            raise Invalid(f"The points are in {info['crs']}; save them as EPSG:4326.", file=path.name)
        names = [str(name).lower() for name in info["fields"]]
        step = 20_000
        for start in range(0, info["features"], step):
            _, _, shapes, columns = raw.read(
                path, layer=layers[0], skip_features=start, max_features=step, force_2d=True
            )
            for offset, shape in enumerate(from_wkb(shapes, on_invalid="ignore")):
                number = start + offset + 1
                values = {name: column[offset] for name, column in zip(names, columns, strict=True)}
                if shape is None or shape.is_empty:
                    yield number, values if form.placeless else "not a Point"
                elif shape.geom_type == "Point":
                    yield number, {**values, "lon": shape.x, "lat": shape.y}
                elif form.shapes and shape.geom_type in {"Polygon", "MultiPolygon"}:
                    yield number, {**values, "shape": shape.wkb}
                else:
                    yield number, "not a Point or Polygon" if form.shapes else "not a Point"
    except pyogrio.errors.DataSourceError:
        raise Invalid("The file cannot be read as a GeoPackage.", file=path.name) from None


def _require_columns(names: list[str], form: Form) -> None:
    missing = [name for name in form.needed if name not in names]
    if missing:
        raise Invalid(f"The file has no column {', '.join(missing)}; it needs {', '.join(form.needed)}.")
    twice = sorted({name for name in names if names.count(name) > 1 and name in form.columns})
    if twice:
        raise Invalid(f"The file has the column {', '.join(twice)} more than once.")
    unknown = [name for name in names if name not in form.columns]
    if unknown and not form.others:
        known = ", ".join(form.columns)
        raise Invalid(f"The file has unknown columns {', '.join(map(repr, unknown))}; known are {known}.")


def read_row(line: int, values: Record, *, today: date) -> Row | Fault:
    """One record as a row, or what is wrong with it."""
    if isinstance(values, str):
        return Fault(line, "", "", values)
    source_id = tidy(plain_text(values.get("source_id"))) or ""

    def fault(field: str, reason: str) -> Fault:
        return Fault(line, source_id, field, reason)

    if not source_id or len(source_id) > LONGEST:
        return fault("source_id", "empty" if not source_id else "too long")
    try:
        lon, lat = position(values)
    except ValueError as error:
        return fault("lon", str(error))
    try:
        unit = commune_code(values)
    except ValueError as error:
        return fault("unit", str(error))
    try:
        since = day(values.get("since")) or today
    except ValueError as error:
        return fault("since", str(error))
    try:
        accuracy = _number(values.get("accuracy_m"))
    except ValueError as error:
        return fault("accuracy_m", str(error))
    if since > today:
        return fault("since", "in the future")
    doors = tuple(tidy(plain_text(values.get(name))) for name in TEXTS)
    hamlet = tidy(plain_text(values.get("hamlet")))
    for name, value in zip((*TEXTS, "hamlet"), (*doors, hamlet), strict=True):
        if value and len(value) > LONGEST:
            return fault(name, f"longer than {LONGEST} characters")
    return Row(line, source_id, lon, lat, unit, hamlet, since, accuracy, doors)


def plain_text(value: Any) -> str:
    """What a field says, as text; empty where it says nothing."""
    if value is None or value != value:  # noqa: PLR0124  (NaN, as GeoPackages give for empty)
        return ""
    return value if isinstance(value, str) else str(value)


def position(values: dict[str, Any]) -> tuple[float, float]:
    """Where a record is, longitude and latitude to the centimetre; ``ValueError`` says what is wrong with them."""
    try:
        lon, lat = round(float(values["lon"]), 7), round(float(values["lat"]), 7)
    except (KeyError, TypeError, ValueError, OverflowError):
        raise ValueError("lon and lat are not numbers in degrees") from None
    if 102 <= lat <= 118 and 6 <= lon <= 24:  # Vietnam with its islands, seen the wrong way round
        raise ValueError("lon and lat look swapped")
    if not (-180 <= lon <= 180 and -90 <= lat <= 90):  # also refuses NaN
        raise ValueError("lon or lat is no place on Earth")
    return lon, lat


def commune_code(values: dict[str, Any]) -> str:
    """The code of the commune of a record; ``ValueError`` if it is none."""
    unit = plain_text(values.get("unit")).strip()
    if len(unit) != 5 or not unit.isascii() or not unit.isdigit():
        raise ValueError(f"{unit!r} is no code of a commune: five digits, leading zeros kept")
    return unit


def day(value: Any) -> date | None:
    """The day that a field names, None if it is empty; ``ValueError`` if it is no day."""
    plain = plain_text(value).strip()
    try:
        return date.fromisoformat(plain[:10]) if plain else None
    except ValueError:
        raise ValueError(f"{plain!r} is no day: write 2026-01-31") from None


def _number(value: Any) -> float | None:
    plain = plain_text(value).strip()
    if not plain:
        return None
    number = float(plain)
    if not 0 <= number <= 10_000:
        raise ValueError("not between 0 and 10000 metres")
    return round(number, 3)
