"""Official boundaries from files: what is taken, what is refused, and what is said about it."""

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.errors import Invalid
from bkapp.units import queries
from bkapp.units.boundaries import ImportReport, import_boundaries
from bkapp.units.models import Level, Quality
from bkapp.units.operations import approximate_boundaries, load_seed

EVE, MERGER = date(2025, 6, 30), date(2025, 7, 1)

# A piece of Bắc Kạn to draw squares in, 0.02 degrees (about 2 km) each.
WEST, SOUTH, STEP = 105.7, 22.1, 0.02


def square(column: float, row: float = 0, size: float = STEP) -> dict[str, Any]:
    west, south = WEST + column * STEP, SOUTH + row * STEP
    ring = [[west, south], [west + size, south], [west + size, south + size], [west, south + size], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}


def feature(code: object, geometry: object, **properties: object) -> dict[str, object]:
    return {"type": "Feature", "properties": {"code": code, **properties}, "geometry": geometry}


@pytest.fixture
def geojson(tmp_path: Path) -> Callable[..., Path]:
    def write(*features: dict[str, object], **members: object) -> Path:
        path = tmp_path / "units.geojson"
        path.write_text(json.dumps({"type": "FeatureCollection", "features": features, **members}), encoding="utf-8")
        return path

    return write


async def take(session: AsyncSession, path: Path, as_of: date = MERGER, code_field: str | None = None) -> ImportReport:
    return await import_boundaries(
        session, path, as_of=as_of, source="Sở Nội vụ", licence="công bố", code_field=code_field
    )


async def faults_of(session: AsyncSession, path: Path, as_of: date = MERGER) -> dict[str, str]:
    """What is said against each feature of a file that is refused; nothing of it may have been taken."""
    with pytest.raises(Invalid) as refused:
        await take(session, path, as_of)
    assert await session.scalar(text("SELECT count(*) FROM boundary_source")) == 0
    assert await session.scalar(text("SELECT count(*) FROM admin_unit WHERE boundary_quality = 'official'")) == 0
    faults: dict[str, str] = {}
    for error in refused.value.facts["errors"]:  # type: ignore[attr-defined]
        faults[error.pointer] = f"{faults.get(error.pointer, '')} {error.detail}".strip()
    return faults


async def refusal(session: AsyncSession, path: Path, **options: Any) -> str:
    with pytest.raises(Invalid) as refused:
        await take(session, path, **options)
    return refused.value.detail


async def area_km2(session: AsyncSession, code: str, on: date) -> float:
    unit = await queries.unit_on(session, code, on)
    assert unit is not None
    area = await session.scalar(
        text("SELECT ST_Area(boundary::geography) / 1e6 FROM admin_unit WHERE id = :id"), {"id": unit.id}
    )
    return float(area)


async def test_the_real_files_of_all_levels_are_taken(session: AsyncSession, shared: Path) -> None:
    taken = {
        name: await take(session, shared / f"{name}.geojson", as_of)
        for name, as_of in (
            ("nested_old_communes_108", EVE),
            ("nested_old_districts_8", EVE),
            ("nested_province_06", EVE),
            ("nested_new_units_37", MERGER),
        )
    }

    assert [len(report.changed) for report in taken.values()] == [108, 8, 1, 37]
    assert [report.level for report in taken.values()] == [Level.COMMUNE, Level.DISTRICT, Level.PROVINCE, Level.COMMUNE]
    assert await session.scalar(text("SELECT count(*) FROM admin_unit WHERE boundary_quality = 'official'")) == 154
    # The pieces are the boundaries: same area, unit by unit (in square degrees, because pieces have straight edges).
    wrong = await session.scalars(
        text("""
            SELECT u.full_name FROM admin_unit u JOIN admin_unit_piece p ON p.unit_id = u.id GROUP BY u.id
            HAVING abs(sum(ST_Area(p.geom)) / ST_Area(u.boundary) - 1) > 1e-9
        """)
    )
    assert wrong.all() == []


async def test_taking_the_same_file_again_changes_nothing(session: AsyncSession, shared: Path) -> None:
    path = shared / "nested_old_districts_8.geojson"
    await take(session, path, EVE)

    again = await take(session, path, EVE)

    assert again.changed == set()
    assert await session.scalar(text("SELECT count(*) FROM boundary_source")) == 1


async def test_containment_uses_official_boundaries_and_says_so(session: AsyncSession, shared: Path) -> None:
    at_the_post_office = (105.8350, 22.1471)
    before = await queries.containing(session, *at_the_post_office, MERGER)

    await take(session, shared / "nested_new_units_37.geojson")

    after = await queries.containing(session, *at_the_post_office, MERGER)
    assert before is not None
    assert after is not None
    assert (before.boundary_quality, after.boundary_quality) == (Quality.APPROXIMATE, Quality.OFFICIAL)
    assert after.unit.code == "01840"
    assert (await queries.details(session, after.unit.id)).boundary is not None


async def test_a_file_of_another_date_is_refused_by_its_names_and_codes(session: AsyncSession, shared: Path) -> None:
    faults = await faults_of(session, shared / "nested_old_communes_108.geojson", MERGER)

    assert (
        "has no unit on 2025-07-01: it means Phường Nguyễn Thị Minh Khai from 2020-02-01 until 2025-06-30"
        in (faults["/features/0"])
    )
    assert "is called 'Phường Phùng Chí Kiên', but on 2025-07-01 the code means Phường Bắc Kạn" in faults["/features/3"]
    assert "from 2020-02-01" in (await faults_of(session, shared / "nested_old_districts_8.geojson"))["/features/0"]


async def test_official_boundaries_outlive_another_start(session: AsyncSession, geojson: Callable[..., Path]) -> None:
    await take(session, geojson(feature("01840", square(0))))

    await load_seed(session)
    changed = await approximate_boundaries(session)

    unit = await queries.unit_on(session, "01840", MERGER)
    assert unit is not None
    assert unit.boundary_quality is Quality.OFFICIAL
    assert changed == set()


async def test_an_official_boundary_counts_before_an_approximate_one(
    session: AsyncSession, geojson: Callable[..., Path]
) -> None:
    here = (WEST + STEP / 2, SOUTH + STEP / 2)
    guess = await queries.containing(session, *here, MERGER)
    assert guess is not None
    assert guess.unit.code != "02191"

    report = await take(session, geojson(feature("02191", square(0))))

    found = await queries.containing(session, *here, MERGER)
    assert found is not None
    assert report.changed == {found.unit.id}
    assert (found.unit.code, found.boundary_quality) == ("02191", Quality.OFFICIAL)


async def test_every_fault_is_told_at_once_and_nothing_is_taken(
    session: AsyncSession, geojson: Callable[..., Path]
) -> None:
    path = geojson(
        feature("01840", square(0)),
        feature("99999", square(2)),
        feature("01843", square(4), name="Xã Ba Bể"),
        feature("01840", square(6)),
        feature("01849", {"type": "Point", "coordinates": [105.8, 22.1]}),
        feature("01864", None),
        feature(1864, square(8)),
        feature("1867", square(10)),
        feature(None, square(12)),
        feature("01876", {"type": "Polygon", "coordinates": [[[105.7, 22.1], [105.8, 22.1], [105.8, 22.2]]]}),
        feature("01879", {"type": "Polygon", "coordinates": [[["a", 1], [2, 2], [3, 1], ["a", 1]]]}),
        feature(1867.0, square(14)),
    )

    faults = await faults_of(session, path)

    said = {int(pointer.rpartition("/")[2]): detail for pointer, detail in faults.items()}
    assert set(said) == set(range(1, 12))
    assert "not a code we know" in said[1]
    assert "'Xã Ba Bể', but on 2025-07-01 the code means Phường Bắc Kạn" in said[2]
    assert "repeats the code of feature 1" in said[3]
    assert "is a Point" in said[4]
    assert "no geometry" in said[5]
    assert "leading zeros (01864)" in said[6]
    assert "leading zeros (01867)" in said[7]
    assert "None, which is not a code" in said[8]
    assert "not closed" in said[9]
    assert "not lists of numbers" in said[10]
    assert "leading zeros (01867)" in said[11]


@pytest.mark.parametrize(
    ("geometry", "said"),
    [
        ({"type": "Polygon", "coordinates": [[[22.1, 105.7], [22.1, 105.8], [22.2, 105.8], [22.1, 105.7]]]}, "swapped"),
        ({"type": "Polygon", "coordinates": [[[2.1, 48], [2.2, 48], [2.2, 48.1], [2.1, 48]]]}, "outside Vietnam"),
        ({"type": "Polygon", "coordinates": [[[4e5, 2e6], [5e5, 2e6], [5e5, 3e6], [4e5, 2e6]]]}, "look like metres"),
        ({"type": "Polygon", "coordinates": [[[105, 22], [105, 22], [105, 22], [105, 22]]]}, "encloses no area"),
        ({"type": "Polygon", "coordinates": [[[1e300, 22], [105, 22], [105, 23], [1e300, 22]]]}, "not finite"),
        ({"type": "Polygon", "coordinates": []}, "no geometry"),
        ({"type": "MultiPolygon", "coordinates": [[]]}, "no geometry"),
        ({"type": "GeometryCollection", "geometries": []}, "no geometry"),
        ({"type": "LineString", "coordinates": [[105, 22], [106, 22]]}, "is a LineString"),
        ({"type": "Polygon", "coordinates": [[[105], [106], [107], [105]]]}, "fewer than two numbers"),
    ],
)
async def test_a_shape_that_cannot_be_a_boundary_is_refused(
    session: AsyncSession, geojson: Callable[..., Path], geometry: dict[str, object], said: str
) -> None:
    assert said in (await faults_of(session, geojson(feature("01840", geometry))))["/features/0"]


async def test_overlapping_features_are_refused_and_slivers_are_not(
    session: AsyncSession, geojson: Callable[..., Path]
) -> None:
    faults = await faults_of(session, geojson(feature("01840", square(0)), feature("01843", square(0.5))))
    assert "overlaps feature 2 (01843) by" in faults["/features/0"]

    sliver = 0.00001  # about a metre of two kilometres
    report = await take(session, geojson(feature("01840", square(0)), feature("01843", square(1 - sliver / STEP))))

    assert len(report.changed) == 2


async def test_overlap_with_an_imported_boundary_is_refused_and_replacing_it_is_not(
    session: AsyncSession, geojson: Callable[..., Path]
) -> None:
    await take(session, geojson(feature("01840", square(0))))

    with pytest.raises(Invalid) as refused:
        await take(session, geojson(feature("01843", square(0.5))))
    assert "the official boundary of Phường Đức Xuân (01840)" in refused.value.facts["errors"][0].detail  # type: ignore[index]

    replaced = await take(session, geojson(feature("01840", square(3)), feature("01843", square(0.5))))
    assert len(replaced.changed) == 2


async def test_levels_and_times_may_overlap_but_not_in_one_file(
    session: AsyncSession, geojson: Callable[..., Path]
) -> None:
    assert (
        "mixes levels"
        in (await faults_of(session, geojson(feature("058", square(0)), feature("01840", square(2))), EVE))[
            "/features/0"
        ]
    )

    await take(session, geojson(feature("058", square(0))), EVE)
    await take(session, geojson(feature("01840", square(0))), EVE)
    report = await take(session, geojson(feature("01840", square(0))), MERGER)

    assert len(report.changed) == 1


async def test_a_ring_that_crosses_itself_is_repaired_and_reported(
    session: AsyncSession, geojson: Callable[..., Path]
) -> None:
    bow_tie = {
        "type": "Polygon",
        "coordinates": [[[105.7, 22.1], [105.8, 22.2], [105.8, 22.1], [105.7, 22.2], [105.7, 22.1]]],
    }

    report = await take(session, geojson(feature("01840", bow_tie)))

    assert len(report.repaired) == 1
    assert report.repaired[0].startswith("Feature 1 (01840): Self-intersection")
    # Half of the square of 0.1 degrees, which is 10.3 km by 11.1 km.
    assert await area_km2(session, "01840", MERGER) == pytest.approx(57, abs=1)


@pytest.mark.parametrize("column", ["code", "MA_XA", "Ma", "ward_code"])
async def test_the_column_of_codes_is_found_by_its_usual_names(
    session: AsyncSession, geojson: Callable[..., Path], column: str
) -> None:
    properties = {column: "01840", "province_code": "19", "TEN_XA": "Đức Xuân"}

    report = await take(session, geojson({"type": "Feature", "properties": properties, "geometry": square(0)}))

    assert len(report.changed) == 1


async def test_an_unusual_column_of_codes_is_named_by_the_operator(
    session: AsyncSession, geojson: Callable[..., Path]
) -> None:
    path = geojson({"type": "Feature", "properties": {"khoa": "01840"}, "geometry": square(0)})

    assert "it has khoa. Name it with --code-field" in await refusal(session, path)
    assert "no column 'xyz'" in await refusal(session, path, code_field="xyz")
    assert len((await take(session, path, code_field="khoa")).changed) == 1


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.geojson", "not json", "is not GeoJSON"),
        ("x.geojson", '{"type": "Feature", "geometry": null}', "not a FeatureCollection"),
        ("x.geojson", '{"type": "FeatureCollection", "features": []}', "holds no features"),
        ("x.kml", "", "is not .geojson"),
        ("missing/x.geojson", None, "is not a file"),
        ("x.gpkg", "not a database", "cannot be read"),
    ],
)
async def test_a_file_that_is_none_is_refused_in_words(
    session: AsyncSession, tmp_path: Path, name: str, content: str | None, said: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_text(content, encoding="utf-8")

    assert said in await refusal(session, path)


async def test_other_reference_systems_are_turned_into_degrees(
    session: AsyncSession, geojson: Callable[..., Path]
) -> None:
    ring = [[590000, 2445000], [600000, 2445000], [600000, 2455000], [590000, 2455000], [590000, 2445000]]
    metres = feature("01840", {"type": "Polygon", "coordinates": [ring]})
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::3405"}}  # VN-2000 / UTM 48N

    await take(session, geojson(metres, crs=crs))

    assert await area_km2(session, "01840", MERGER) == pytest.approx(100, abs=0.2)
    for name, said in (("urn:ogc:def:crs:EPSG::999999", "cannot turn into degrees"), ("Hanoi 1972", "do not know")):
        unknown = {"type": "name", "properties": {"name": name}}
        assert said in await refusal(session, geojson(metres, crs=unknown))


def write_with_gdal(path: Path, codes: list[object], shapes: list[shapely.Geometry], **options: Any) -> None:
    raw = pytest.importorskip("pyogrio.raw", reason="pyogrio (the extra `gis`) is not installed")
    kind = object if isinstance(codes[0], str) else np.int32
    raw.write(
        path,
        geometry=np.array(shapely.to_wkb(shapes), dtype=object),
        field_data=[np.array(codes, dtype=kind), np.array(["Đức Xuân", "Phường Bắc Kạn"][: len(codes)], dtype=object)],
        fields=["MA_XA", "TEN_XA"],
        geometry_type="Polygon",
        **options,
    )


@pytest.mark.parametrize(("name", "epsg"), [("x.gpkg", 4326), ("x.gpkg", 3405), ("x.shp", 4326), ("x.shp", 3405)])
async def test_geopackage_and_shapefile_are_taken_in_their_reference_system(
    session: AsyncSession, tmp_path: Path, name: str, epsg: int
) -> None:
    shapes = [shapely.from_geojson(json.dumps(square(column))) for column in (0, 1)]
    wkbs = [
        await session.scalar(
            text("SELECT ST_AsBinary(ST_Transform(ST_SetSRID(ST_GeomFromWKB(:wkb), 4326), CAST(:srid AS integer)))"),
            {"wkb": shapely.to_wkb(shape), "srid": epsg},
        )
        for shape in shapes
    ]
    path = tmp_path / name
    write_with_gdal(path, ["01840", "01843"], [shapely.from_wkb(bytes(wkb)) for wkb in wkbs], crs=f"EPSG:{epsg}")

    report = await take(session, path)
    again = await take(session, path)

    assert (len(report.changed), len(again.changed)) == (2, 0)
    distance = await session.scalar(
        text("""
            SELECT ST_HausdorffDistance(boundary, ST_GeomFromWKB(:wkb, 4326)) FROM admin_unit
            WHERE code = '01840' AND boundary_quality = 'official'
        """),
        {"wkb": shapely.to_wkb(shapes[0])},
    )
    assert distance < 1e-8  # a millimetre


async def test_a_shapefile_with_numbers_for_codes_is_refused_with_a_hint(session: AsyncSession, tmp_path: Path) -> None:
    path = tmp_path / "x.shp"
    write_with_gdal(path, [1840], [shapely.box(105.7, 22.1, 105.8, 22.2)], crs="EPSG:4326")

    assert "leading zeros (01840)" in (await faults_of(session, path))["/features/0"]


async def test_a_file_of_several_layers_is_refused(session: AsyncSession, tmp_path: Path) -> None:
    path = tmp_path / "x.gpkg"
    for layer in ("xa", "huyen"):
        write_with_gdal(
            path, ["01840"], [shapely.box(105.7, 22.1, 105.8, 22.2)], crs="EPSG:4326", layer=layer, append=path.exists()
        )

    assert "has the layers xa, huyen" in await refusal(session, path)


async def test_a_shapefile_without_reference_system_is_refused(session: AsyncSession, tmp_path: Path) -> None:
    path = tmp_path / "x.shp"
    write_with_gdal(path, ["01840"], [shapely.box(105.7, 22.1, 105.8, 22.2)], crs="EPSG:4326")
    path.with_suffix(".prj").unlink()

    assert "needs its .prj" in await refusal(session, path)


async def test_coordinates_that_are_not_numbers_are_refused(session: AsyncSession, tmp_path: Path) -> None:
    path = tmp_path / "x.gpkg"
    with np.errstate(invalid="ignore"):
        ring = shapely.linearrings([[105.7, 22.1], [105.8, float("nan")], [105.8, 22.2], [105.7, 22.1]])
    write_with_gdal(path, ["01840"], [shapely.polygons(ring)], crs="EPSG:4326")

    assert "not finite numbers" in (await faults_of(session, path))["/features/0"]


async def test_without_pyogrio_the_refusal_says_what_to_install(
    session: AsyncSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyogrio", None)
    path = tmp_path / "x.gpkg"
    path.write_bytes(b"")

    assert "pip install 'bkapp[gis]'" in await refusal(session, path)
