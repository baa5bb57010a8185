"""Files of boundaries: GeoJSON by the standard library, GeoPackage and Shapefile by pyogrio (extra ``gis``).

Reading finds the code, the name and the shape of each feature and says what is wrong with
each.  Whether the shapes are sound and fit together is for PostGIS to say, in operations.
"""

import hashlib
import struct
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from bkapp.errors import FieldError, Invalid

# Names of the column with a unit's code, best first; a file of communes often names their district and province too.
CODE_FIELDS = (
    *("code", "ma", "ma_dvhc", "madvhc", "gso_code", "unit_code"),
    *("ma_xa", "maxa", "ma_px", "ward_code", "wardcode", "commune_code"),
    *("ma_huyen", "mahuyen", "district_code", "ma_tinh", "matinh", "province_code"),
)
NAME_FIELDS = (
    *("full_name", "fullname", "name", "ten", "ten_dvhc", "tendvhc", "ten_day_du"),
    *("ten_xa", "tenxa", "ten_px", "ward_name", "commune_name"),
    *("ten_huyen", "tenhuyen", "district_name", "ten_tinh", "tentinh", "province_name"),
)
WGS84 = "EPSG:4326"
_GDAL = {".gpkg", ".shp"}
_GEOJSON = {".geojson", ".json"}


class Feature(Struct, frozen=True):
    """``number`` counts from 1, as people count rows.  ``wkb`` is in the reference system of the file."""

    number: int
    code: str
    name: str | None
    wkb: bytes

    @property
    def label(self) -> str:
        return f"Feature {self.number} ({self.code})"


class BoundaryFile(Struct, frozen=True):
    """What was read.  ``crs`` is ``EPSG:n`` or a definition in WKT; ``faults`` say why features were left out."""

    file_name: str
    sha256: str
    crs: str
    features: list[Feature]
    faults: list[FieldError]


class _Raw(Struct, frozen=True):
    """A feature before its code has been looked at; ``fault`` says why where ``wkb`` is empty."""

    number: int
    fields: Mapping[str, object]
    wkb: bytes
    fault: str = ""


def read(path: Path, *, code_field: str | None = None) -> BoundaryFile:
    """Read a file of polygons with codes; raise :class:`Invalid` when the file as a whole is of no use."""
    suffix = path.suffix.lower()
    if suffix not in _GEOJSON | _GDAL:
        raise Invalid(f"{path.name} is not .geojson, .json, .gpkg or .shp.")
    if not path.is_file():
        raise Invalid(f"{path} is not a file.")
    crs, raws = _read_geojson(path) if suffix in _GEOJSON else _read_with_gdal(path)
    if not raws:
        raise Invalid(f"{path.name} holds no features.")
    columns = {column: None for raw in raws for column in raw.fields}
    code_column = _column(columns, (code_field,) if code_field else CODE_FIELDS)
    if code_column is None:
        wanted = f"no column {code_field!r}" if code_field else "no column with codes that we know"
        raise Invalid(
            f"{path.name} has {wanted}; it has {', '.join(columns) or 'no columns at all'}. Name it with --code-field."
        )
    name_column = _column(columns, NAME_FIELDS)
    features: list[Feature] = []
    faults: list[FieldError] = []
    for raw in raws:
        if raw.fault:
            faults.append(fault(raw.number, raw.fault))
        try:
            code = _code(raw.fields.get(code_column))
        except ValueError as error:
            faults.append(fault(raw.number, str(error)))
            continue
        name = raw.fields.get(name_column or "")
        if raw.wkb:
            named = name if isinstance(name, str) and name.strip() else None
            features.append(Feature(raw.number, code, named, raw.wkb))
    return BoundaryFile(path.name, _sha256(path), crs, features, faults)


def fault(number: int, detail: str) -> FieldError:
    return FieldError(pointer=f"/features/{number - 1}", detail=detail)


def _column(columns: Iterable[str], wanted: Iterable[str]) -> str | None:
    by_name = {column.lower(): column for column in columns}
    return next((by_name[name.lower()] for name in wanted if name.lower() in by_name), None)


def _code(value: object) -> str:
    """A code is text.  A number is taken only when it cannot have lost a leading zero; ``ValueError`` says why not."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if not text.isascii() or not text.isdigit():
        raise ValueError(f"Its code is {value!r}, which is not a code.")
    if len(text) == 5 or (isinstance(value, str) and len(text) in {2, 3}):
        return text
    lost = f" Did it lose its leading zeros ({text.zfill(5)})?" if len(text) < 5 else ""
    raise ValueError(f"Its code is {value!r}, but codes are text of 2, 3 or 5 digits.{lost}")


def _sha256(path: Path) -> str:
    """The hash of the file; of a Shapefile all parts, because its codes are in another one than its shapes."""
    parts = [path]
    if path.suffix.lower() == ".shp":
        parts = sorted(part for part in path.parent.iterdir() if part.stem == path.stem and part.is_file())
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.read_bytes())
    return digest.hexdigest()


# --- GeoJSON ----------------------------------------------------------------------------------------------------


class _Name(Struct):
    name: str = ""


class _CRS(Struct):
    properties: _Name = msgspec.field(default_factory=_Name)


class _GeoFeature(Struct):
    properties: dict[str, Any] | None = None
    geometry: dict[str, Any] | None = None


class _Collection(Struct):
    type: str
    features: list[_GeoFeature] = []
    crs: _CRS | None = None


def _read_geojson(path: Path) -> tuple[str, list[_Raw]]:
    try:
        collection = msgspec.json.decode(path.read_bytes().removeprefix(b"\xef\xbb\xbf"), type=_Collection)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"{path.name} is not GeoJSON: {error}") from None
    if collection.type != "FeatureCollection":
        raise Invalid(f"{path.name} is a GeoJSON {collection.type}, not a FeatureCollection.")
    raws = []
    for number, feature in enumerate(collection.features, start=1):
        fields = feature.properties or {}
        try:
            raws.append(_Raw(number, fields, polygon_wkb(feature.geometry)))
        except ValueError as error:
            raws.append(_Raw(number, fields, b"", str(error)))
    return _crs(path, collection.crs), raws


def _crs(path: Path, member: _CRS | None) -> str:
    """RFC 7946 knows WGS 84 only; many programs still write the older ``crs`` member."""
    if member is None or member.properties.name.upper().endswith("CRS84"):
        return WGS84
    name = member.properties.name.upper()
    number = name.rpartition(":")[2]
    if "EPSG:" not in name or not number.isdigit():
        raise Invalid(f"{path.name} says its reference system is {member.properties.name!r}, which we do not know.")
    return f"EPSG:{number}"


def polygon_wkb(geometry: dict[str, Any] | None) -> bytes:
    """A GeoJSON polygon as well-known binary; ``ValueError`` says why not."""
    if not geometry or not geometry.get("coordinates"):
        raise ValueError("It has no geometry.")
    kind, coordinates = geometry.get("type"), geometry["coordinates"]
    if kind not in {"Polygon", "MultiPolygon"}:
        raise ValueError(f"Its geometry is a {kind}; boundaries are polygons.")
    polygons = [coordinates] if kind == "Polygon" else coordinates
    try:
        body = b"".join(_wkb_polygon(polygon) for polygon in polygons)
    except (TypeError, struct.error):
        raise ValueError("Its coordinates are not lists of numbers.") from None
    return struct.pack("<BII", 1, 6, len(polygons)) + body


def _wkb_polygon(rings: list[list[list[float]]]) -> bytes:
    parts = [struct.pack("<BII", 1, 3, len(rings))]
    for ring in rings:
        if len(ring) < 4 or ring[0] != ring[-1]:
            raise ValueError("One of its rings is not closed, or has fewer than four positions.")
        if any(len(position) < 2 for position in ring):
            raise ValueError("One of its positions has fewer than two numbers.")
        flat = [number for position in ring for number in position[:2]]
        parts.append(struct.pack(f"<I{len(flat)}d", len(ring), *flat))
    return b"".join(parts)


# --- GeoPackage and Shapefile -----------------------------------------------------------------------------------


def _read_with_gdal(path: Path) -> tuple[str, list[_Raw]]:
    try:
        pyogrio = import_module("pyogrio")
    except ImportError:
        raise Invalid(
            f"Reading {path.name} needs pyogrio, which is not installed: pip install 'bkapp[gis]', or use GeoJSON."
        ) from None
    try:
        layers = [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
        if len(layers) != 1:
            raise Invalid(f"{path.name} has the layers {', '.join(layers) or '(none)'}; we want a file with one.")
        meta, _, shapes, values = import_module("pyogrio.raw").read(path, layer=layers[0], force_2d=True)
    except pyogrio.errors.DataSourceError as error:
        raise Invalid(f"{path.name} cannot be read: {error}") from None
    if not meta["crs"]:
        raise Invalid(f"{path.name} does not say its reference system: a Shapefile needs its .prj.")
    names = [str(name) for name in meta["fields"]]
    columns = [column.tolist() for column in values]
    raws = []
    for row, shape in enumerate(shapes):
        fields = {name: column[row] for name, column in zip(names, columns, strict=True)}
        raws.append(_Raw(row + 1, fields, bytes(shape or b""), "" if shape else "It has no geometry."))
    return str(meta["crs"]), raws
