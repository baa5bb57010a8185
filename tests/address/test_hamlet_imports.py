"""Hamlets from files: nothing twice, nothing lost, everything with its source, followed through mergers."""

import asyncio
import csv
import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import shapely
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.address import operations, queries
from bkapp.address.imports import Fault, Outcome, import_hamlets
from bkapp.address.imports.hamlets import HamletRow, read_hamlet
from bkapp.address.models import Hamlet, PlaceSource
from bkapp.address.rules import Change
from bkapp.cli import main
from bkapp.db import open_engine, sessions_of
from bkapp.errors import Invalid
from bkapp.http import today
from bkapp.units.queries import unit_on
from tests import make

BEFORE = date(2020, 2, 1)
MERGER = date(2025, 7, 1)
# Vi Hương, Lục Bình and the town of Phủ Thông are in one commune since the merger.
VI_HUONG, LUC_BINH = "01975", "01990"
Row = dict[str, Any]


def write_csv(path: Path, rows: list[Row], delimiter: str = ",", encoding: str = "utf-8-sig") -> Path:
    with path.open("w", encoding=encoding, newline="") as file:
        out = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        out.writeheader()
        out.writerows(rows)
    return path


def write_geojson(path: Path, features: list[tuple[Row | None, Any]]) -> Path:
    path.write_text(
        json.dumps(
            {
                "type": "FeatureCollection",
                "features": [
                    {"type": "Feature", "properties": properties, "geometry": geometry}
                    for properties, geometry in features
                ],
            }
        )
    )
    return path


def point(row: Row) -> Row:
    return {"type": "Point", "coordinates": [row["lon"], row["lat"]]}


def square(row: Row, size: float = 0.002) -> Row:
    west, south = row["lon"] - size / 2, row["lat"] - size / 2
    ring = [[west, south], [west + size, south], [west + size, south + size], [west, south + size], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}


async def take(session: AsyncSession, path: Path, **options: Any) -> Outcome:
    return await import_hamlets(
        session, path, **{"source": "Sở Nội vụ", "licence": "test", "as_of": None, "today": today(), **options}
    )


async def a_row(
    session: AsyncSession, name: str, unit: str = VI_HUONG, *, since: date | None = BEFORE, north: float = 0
) -> Row:
    place = await make.a_place(session, unit, on=since, north=north)
    return {"name": name, "unit": unit, "since": since or "", "lon": place.lon, "lat": place.lat}


async def hamlets_in(session: AsyncSession, unit: str, on: date | None = None) -> dict[str, Any]:
    """The hamlets of a commune on a day with their rows, by full name."""
    found = await unit_on(session, unit, on or today())
    assert found is not None
    named = await queries.hamlets_of(session, unit_id=found.id, on=on or today())
    rows = await session.execute(
        text("""
            SELECT h.id, h.valid_from, h.valid_to, h.predecessor_id, h.source, s.file_name,
                ST_X(h.point::geometry) AS lon, ST_Y(h.point::geometry) AS lat
            FROM hamlet h LEFT JOIN place_source s ON s.id = h.place_source_id WHERE h.unit_id = :unit
        """),
        {"unit": found.id},
    )
    by_id = {row.id: row for row in rows}
    return {hamlet.full_name: by_id[hamlet.id] for hamlet in named}


async def version(session: AsyncSession) -> int:
    found = await session.scalar(text("SELECT version FROM gazetteer_head"))
    assert found is not None
    return int(found)


def reasons(done: Outcome) -> list[tuple[int, str]]:
    return [(fault.line, fault.field) for fault in done.faults]


class TestHamlets:
    async def test_a_hamlet_of_a_former_commune_goes_on_in_the_one_of_today_with_its_place_and_source(
        self, session: AsyncSession, tmp_path: Path
    ) -> None:
        row = await a_row(session, "Thôn  Nà Ít")

        done = await take(session, write_csv(tmp_path / "h.csv", [row]))

        assert (done.rows, done.imported, done.refused, done.faults) == (1, 1, 0, [])
        old = (await hamlets_in(session, VI_HUONG, MERGER - timedelta(days=1)))["Thôn Nà Ít"]
        new = (await hamlets_in(session, make.COMMUNE))["Thôn Nà Ít"]
        assert (old.valid_from, old.valid_to, new.valid_from, new.valid_to) == (BEFORE, MERGER, MERGER, None)
        assert new.predecessor_id == old.id
        for hamlet in (old, new):
            assert (hamlet.lon, hamlet.lat) == (round(row["lon"], 7), round(row["lat"], 7))
            assert (hamlet.source, hamlet.file_name) == ("Sở Nội vụ", "h.csv")
        source = (await session.scalars(select(PlaceSource))).one()
        assert (source.kind, source.licence, source.features, len(source.sha256)) == ("hamlets", "test", 1, 64)

    async def test_a_commune_that_changed_twice_is_followed_step_by_step(
        self, session: AsyncSession, tmp_path: Path
    ) -> None:
        await take(session, write_csv(tmp_path / "h.csv", [await a_row(session, "Bản Súng", "01954")]))

        now = (await hamlets_in(session, "01954"))["Bản Súng"]
        town = (await hamlets_in(session, "01954", date(2024, 1, 1)))["Bản Súng"]
        first = (await hamlets_in(session, "01954", BEFORE))["Bản Súng"]
        assert (now.predecessor_id, town.predecessor_id, first.predecessor_id) == (town.id, first.id, None)

    async def test_namesakes_of_one_file_are_told_apart_by_their_former_communes_and_others_are_not(
        self, session: AsyncSession, tmp_path: Path
    ) -> None:
        rows = [
            await a_row(session, "Thôn Nà Ít", VI_HUONG),
            await a_row(session, "Thôn Nà Ít", LUC_BINH),
            await a_row(session, "Thôn Nà Pái", LUC_BINH, north=300),
        ]

        done = await take(session, write_csv(tmp_path / "h.csv", rows))

        assert done.imported == 3
        assert set(await hamlets_in(session, make.COMMUNE)) == {
            "Thôn Nà Ít (Vi Hương)", "Thôn Nà Ít (Lục Bình)", "Thôn Nà Pái",
        }  # fmt: skip

    async def test_a_namesake_of_a_later_file_tells_both_apart_and_homes_hear_of_it(
        self, session: AsyncSession, tmp_path: Path
    ) -> None:
        await take(session, write_csv(tmp_path / "one.csv", [await a_row(session, "Thôn Nà Ít", VI_HUONG)]))
        home = await make.an_address(session, hamlet="Thôn Nà Ít")
        before = await queries.head(session)

        done = await take(session, write_csv(tmp_path / "two.csv", [await a_row(session, "Thôn Nà Ít", LUC_BINH)]))
        third = await a_row(session, "Thôn Nà Ít", "01969", since=date(2020, 3, 1))
        await take(session, write_csv(tmp_path / "three.csv", [third]))

        assert (done.imported, done.faults) == (1, [])
        names = {"Thôn Nà Ít (Vi Hương)", "Thôn Nà Ít (Lục Bình)", "Thôn Nà Ít (Phủ Thông)"}
        assert set(await hamlets_in(session, make.COMMUNE)) == names
        (event,) = await queries.events(session, after=before, limit=10)
        assert (event.code, event.kind) == (home.code, Change.HAMLET_CHANGED)
        rows = await queries.current_table(session)
        assert [row["hamlet"]["qualifier"] for row in rows] == ["Vi Hương"]
        assert rows[0] == event.data

    async def test_the_same_file_again_changes_nothing_and_wakes_nobody(
        self, session: AsyncSession, tmp_path: Path
    ) -> None:
        rows = [await a_row(session, "Thôn Nà Ít", unit) for unit in (VI_HUONG, LUC_BINH)]
        path = write_csv(tmp_path / "h.csv", rows)
        await take(session, path)
        before = await version(session), await session.scalar(select(func.count()).select_from(Hamlet))

        done = await take(session, path)

        assert (done.imported, done.changed, done.same, done.faults) == (0, 0, 2, [])
        assert before == (await version(session), await session.scalar(select(func.count()).select_from(Hamlet)))
        assert await session.scalar(select(func.count()).select_from(PlaceSource)) == 1

    async def test_a_newer_file_moves_a_hamlet_and_what_it_became_unless_that_has_a_place_of_its_own(
        self, session: AsyncSession, tmp_path: Path
    ) -> None:
        rows = [await a_row(session, "Thôn Nà Ít"), await a_row(session, "Thôn Nà Pái", north=200)]
        await take(session, write_csv(tmp_path / "one.csv", rows))
        ours = await a_row(session, "Thôn Nà Pái", make.COMMUNE, since=None, north=900)
        await take(session, write_csv(tmp_path / "today.csv", [ours]))
        for row in rows:
            row["lat"] += 0.002

        done = await take(session, write_csv(tmp_path / "two.csv", rows))

        assert (done.imported, done.changed, done.same) == (0, 2, 0)
        now = await hamlets_in(session, make.COMMUNE)
        assert (now["Thôn Nà Ít"].lat, now["Thôn Nà Ít"].file_name) == (round(rows[0]["lat"], 7), "two.csv")
        assert (now["Thôn Nà Pái"].lat, now["Thôn Nà Pái"].file_name) == (round(ours["lat"], 7), "today.csv")

    async def test_what_an_officer_opened_under_the_new_commune_is_what_the_old_hamlet_became(
        self, session: AsyncSession, tmp_path: Path
    ) -> None:
        early = await operations.open_hamlet(
            session, make.ADMIN, unit_code=make.COMMUNE, name="Thôn Nà Ít", since=date(2025, 9, 1), today=today()
        )
        row = await a_row(session, "Thôn Nà Ít")

        await take(session, write_csv(tmp_path / "h.csv", [row]))

        (name, now), *others = (await hamlets_in(session, make.COMMUNE)).items()
        old = (await hamlets_in(session, VI_HUONG, BEFORE))["Thôn Nà Ít"]
        assert (name, now.id, now.predecessor_id, others) == ("Thôn Nà Ít", early.id, old.id, [])
        assert (now.lat, now.file_name, now.source) == (round(row["lat"], 7), "h.csv", "key:test")

    async def test_a_hamlet_that_is_there_gets_a_place_and_keeps_its_name_and_day(
        self, session: AsyncSession, tmp_path: Path
    ) -> None:
        await operations.open_hamlet(
            session, make.ADMIN, unit_code=make.COMMUNE, name="Thôn Nà Ít", since=date(2025, 9, 1), today=today()
        )
        row = await a_row(session, "THÔN NÀ ÍT", make.COMMUNE, since=None)

        done = await take(session, write_csv(tmp_path / "h.csv", [row]))

        assert (done.imported, done.changed, done.refused) == (0, 1, 0)
        assert [(fault.field, fault.reason) for fault in done.faults] == [
            ("differs", "called 'Thôn Nà Ít' in the register")
        ]
        found = await hamlets_in(session, make.COMMUNE)
        assert [(name, hamlet.valid_from) for name, hamlet in found.items()] == [("Thôn Nà Ít", date(2025, 9, 1))]

    async def test_without_a_day_codes_are_read_on_the_files_day_and_hamlets_begin_with_their_commune(
        self, session: AsyncSession, tmp_path: Path
    ) -> None:
        new = {"name": "Thôn Mới", "unit": make.COMMUNE}
        old = {"name": "Thôn Cũ", "unit": VI_HUONG}
        await take(session, write_csv(tmp_path / "new.csv", [new], delimiter=";", encoding="utf-8"))
        await take(session, write_csv(tmp_path / "old.csv", [old], delimiter="\t"), as_of=MERGER - timedelta(days=1))

        now = await hamlets_in(session, make.COMMUNE)
        assert (now["Thôn Mới"].valid_from, now["Thôn Mới"].lon) == (MERGER, None)
        then = await hamlets_in(session, VI_HUONG, BEFORE)
        assert then["Thôn Cũ"].valid_from == BEFORE

    async def test_each_wrong_row_is_refused_with_its_line_and_costs_no_other(
        self, session: AsyncSession, tmp_path: Path
    ) -> None:
        good = await a_row(session, "Thôn Tốt")
        far = await a_row(session, "", "02191")
        wrong = [
            good | {"name": "thon tot"},
            good | {"name": " "},
            good | {"name": "…"},
            good | {"name": "x" * 81},
            good | {"name": "a", "lon": good["lat"], "lat": good["lon"]},
            good | {"name": "b", "lat": 123},
            good | {"name": "c", "lon": "east"},
            good | {"name": "d", "lat": ""},
            good | {"name": "e", "unit": "1975"},
            good | {"name": "f", "since": ""},
            good | {"name": "g", "since": "2019-12-31"},
            good | {"name": "h", "since": "tomorrow"},
            good | {"name": "i", "since": today() + timedelta(days=1)},
            good | {"name": "k", "lon": far["lon"], "lat": far["lat"]},
            good | {"name": "l", "lon": 105.85, "lat": 21.03},
        ]

        done = await take(session, write_csv(tmp_path / "h.csv", [good, *wrong]))

        assert (done.rows, done.imported, done.refused) == (16, 1, 15)
        assert [fault.line for fault in done.faults] == list(range(3, 18))
        told = [fault.reason for fault in done.faults]
        meant = ": it means Xã Vi Hương from 2020-02-01 until 2025-06-30"
        assert told == [
            "repeats line 2",
            "empty",
            "no letters or numbers",
            "longer than 80 characters",
            "lon and lat look swapped",
            "lon or lat is no place on Earth",
            "lon and lat are not numbers in degrees",
            "lon and lat are not numbers in degrees",
            "'1975' is no code of a commune: five digits, leading zeros kept",
            f"no commune of Bắc Kạn has the code 01975 on {today()}{meant}",
            f"no commune of Bắc Kạn has the code 01975 on 2019-12-31{meant}",
            "'tomorrow' is no day: write 2026-01-31",
            "in the future",
            told[13],
            "the point lies outside the province, not in Xã Vi Hương (01975)",
        ]
        assert told[13].endswith("not in Xã Vi Hương (01975)")

    async def test_a_point_just_beyond_a_guessed_edge_is_believed_and_beyond_an_official_one_is_not(
        self, session: AsyncSession, tmp_path: Path
    ) -> None:
        lon, lat = (
            await session.execute(
                text("""
                    SELECT ST_X(q), ST_Y(q)
                    FROM admin_unit u
                    JOIN admin_unit o ON o.level = 'commune' AND o.in_bac_kan AND o.valid_to IS NULL AND o.id <> u.id
                    CROSS JOIN LATERAL ST_ClosestPoint(u.boundary, o.boundary) AS edge
                    CROSS JOIN LATERAL (SELECT ST_Project(edge::geography, 300, ST_Azimuth(
                        edge, (ST_MaximumInscribedCircle(o.boundary)).center))::geometry AS q) AS there
                    WHERE u.code = :code AND u.valid_to IS NULL AND ST_Contains(o.boundary, q)
                    ORDER BY o.code LIMIT 1
                """),
                {"code": make.COMMUNE},
            )
        ).one()
        row = {"name": "Thôn Nà Ít", "unit": make.COMMUNE, "lon": lon, "lat": lat}
        path = write_csv(tmp_path / "h.csv", [row])
        assert (await take(session, path)).refused == 0
        await session.execute(
            text("""
                WITH source AS (
                    INSERT INTO boundary_source (file_name, sha256, source, licence, level, as_of, features)
                    VALUES ('b.geojson', '', 'test', 'test', 'commune', current_date, 1) RETURNING id)
                UPDATE admin_unit SET boundary_quality = 'official', boundary_source_id = source.id
                FROM source WHERE code = :code AND valid_to IS NULL
            """),
            {"code": make.COMMUNE},
        )

        assert reasons(await take(session, path)) == [(2, "lon")]

    async def test_a_name_that_several_hamlets_share_is_refused_until_the_former_commune_is_written_too(
        self, session: AsyncSession, tmp_path: Path
    ) -> None:
        both = [await a_row(session, "Thôn Nà Ít", unit) for unit in (VI_HUONG, LUC_BINH)]
        await take(session, write_csv(tmp_path / "h.csv", both))
        short = await a_row(session, "Thôn Nà Ít", make.COMMUNE, since=None, north=100)

        done = await take(session, write_csv(tmp_path / "today.csv", [short, short | {"name": "Nà Ít thôn"}]))
        clear = await take(session, write_csv(tmp_path / "two.csv", [short | {"name": "Thôn Nà Ít (Vi Hương)"}]))

        assert [fault.reason for fault in done.faults] == [
            "more than one of that name, write the former commune too: Thôn Nà Ít (Lục Bình), Thôn Nà Ít (Vi Hương)"
        ]
        assert (done.imported, clear.changed, clear.faults) == (1, 1, [])

    async def test_geojson_and_geopackage_bring_points_polygons_and_hamlets_without_a_place(
        self, session: AsyncSession, tmp_path: Path
    ) -> None:
        rows = [await a_row(session, f"Thôn {n}", since=None, unit=make.COMMUNE, north=400 * n) for n in range(4)]
        bow = square(rows[3])
        bow["coordinates"][0][1], bow["coordinates"][0][2] = bow["coordinates"][0][2], bow["coordinates"][0][1]
        swapped = square({"lon": rows[0]["lat"], "lat": rows[0]["lon"]})
        shapes = [point(rows[0]), square(rows[1]), None, bow]
        path = write_geojson(
            tmp_path / "h.geojson",
            [
                *zip(({"NAME": row["name"], "unit": row["unit"]} for row in rows), shapes, strict=True),
                ({"name": "Thôn Ngược", "unit": make.COMMUNE}, swapped),
                ({"name": "Thôn Vạch", "unit": make.COMMUNE}, {"type": "LineString", "coordinates": [[105, 22]]}),
                ({"name": "Thôn Hở", "unit": make.COMMUNE}, {"type": "Polygon", "coordinates": [[[105, 22]]]}),
                ({"name": ["Thôn"], "unit": make.COMMUNE}, None),
                (None, None),
            ],
        )
        package = tmp_path / "h.gpkg"
        more = [await a_row(session, f"Bản {n}", since=None, unit=make.COMMUNE, north=-400 * n) for n in range(2)]
        pyogrio.raw.write(
            package,
            shapely.to_wkb([shapely.geometry.shape(square(row)) for row in more]),
            [np.array([row[name] for row in more], dtype=object) for name in ("name", "unit")],
            ["name", "unit"],
            geometry_type="Polygon",
            crs="EPSG:4326",
        )

        first = await take(session, path)
        second = await take(session, package)

        assert [(fault.line, fault.reason) for fault in first.faults] == [
            (5, "its polygon is nowhere on Earth: are lon and lat swapped?"),
            (6, "not a Point or Polygon"),
            (7, "One of its rings is not closed, or has fewer than four positions."),
            (8, "name is no text or number"),
            (9, "empty"),
        ]
        assert (first.imported, second.imported, second.faults) == (4, 2, [])
        found = await hamlets_in(session, make.COMMUNE)
        for row in (rows[0], rows[1], *more):
            assert found[row["name"]].lat == pytest.approx(row["lat"], abs=1e-6)
        assert found["Thôn 2"].lat is None
        assert found["Thôn 3"].lat == pytest.approx(rows[3]["lat"], abs=0.001)

    @pytest.mark.parametrize(
        ("name", "content", "told"),
        [
            ("h.csv", b"", "empty"),
            ("h.csv", b"name,unit\n", "holds no hamlets"),
            ("h.csv", b"name,lon,lat\nA,1,2\n", "no column unit"),
            ("h.csv", b"name,unit,latt\nA,01969,2\n", "unknown columns 'latt'"),
            ("h.csv", "name,unit\nThôn,01969\n".encode("utf-16"), "UTF-16"),
            ("h.csv", "tên,unit\nThôn,01969\n".encode("cp1258", errors="replace"), "not UTF-8"),
            ("h.geojson", b"{", "GeoJSON"),
            ("h.geojson", b'{"type": "FeatureCollection", "features": []}', "holds no hamlets"),
            ("h.gpkg", b"no database", "GeoPackage"),
            ("h.xlsx", b"PK", "A file of hamlets is CSV, GeoJSON or GeoPackage"),
        ],
    )
    async def test_a_file_that_is_none_is_refused_with_a_sentence(
        self, session: AsyncSession, tmp_path: Path, name: str, content: bytes, told: str
    ) -> None:
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(Invalid, match=told):
            await take(session, path)

    async def test_a_geopackage_of_other_coordinates_or_several_layers_is_refused_with_a_sentence(
        self, session: AsyncSession, tmp_path: Path
    ) -> None:
        def write(name: str, layer: str, crs: str | None, shapes: Any) -> Path:
            path = tmp_path / name
            names = [np.array(["a"], dtype=object)]
            kind = None if shapes is None else "Point"
            pyogrio.raw.write(
                path, shapes, names, ["name"], geometry_type=kind, crs=crs, layer=layer, append=path.exists()
            )
            return path

        shapes = shapely.to_wkb([shapely.Point(105.8, 22.1)])
        for layer in ("thôn", "bản"):
            several = write("two.gpkg", layer, "EPSG:4326", shapes)

        for path, told in (
            (several, "has the layers thôn, bản"),
            (write("table.gpkg", "a", None, None), r"has the layers \(none\)"),
            (write("metres.gpkg", "a", "EPSG:32648", shapes), "EPSG:32648; save them as EPSG:4326"),
        ):
            with pytest.raises(Invalid, match=told):
                await take(session, path)

    async def test_a_file_needs_a_source_and_a_licence(self, session: AsyncSession, tmp_path: Path) -> None:
        path = write_csv(tmp_path / "h.csv", [{"name": "a", "unit": "01969"}])
        with pytest.raises(Invalid):
            await take(session, path, licence=" ")

    async def test_five_thousand_hamlets_take_seconds(self, session: AsyncSession, tmp_path: Path) -> None:
        communes = await session.execute(
            text("""
                SELECT code, ST_X(p), ST_Y(p)
                FROM (SELECT code, (ST_MaximumInscribedCircle(boundary)).center AS p FROM admin_unit
                      WHERE level = 'commune' AND in_bac_kan AND valid_from = '2020-02-01') AS middle
            """)
        )
        rows = [
            {"name": f"Thôn Nà {n}", "unit": code, "since": BEFORE, "lon": lon + n * 1e-5, "lat": lat}
            for code, lon, lat in communes.all()
            for n in range(46)
        ]

        async with asyncio.timeout(60):  # three seconds where nothing else runs
            done = await take(session, write_csv(tmp_path / "h.csv", rows))

        assert (done.imported, done.refused) == (108 * 46, 0)
        lasting = select(func.count()).select_from(Hamlet).where(Hamlet.valid_to.is_(None))
        assert await session.scalar(lasting) == 108 * 46
        assert await session.scalar(lasting.where(Hamlet.point.is_(None))) == 0


def test_the_command_says_what_it_did_and_a_dry_run_keeps_nothing(
    own_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def in_database(work: Any) -> Any:
        engine = open_engine(own_database, pool_size=1)
        try:
            async with sessions_of(engine).begin() as session:
                return await work(session)
        finally:
            await engine.dispose()

    rows = [
        asyncio.run(in_database(lambda session: a_row(session, "Thôn Nà Ít"))),
        {"name": "Thôn Lạ", "unit": "99999", "since": BEFORE, "lon": "", "lat": ""},
    ]
    path = write_csv(tmp_path / "h.csv", rows)
    monkeypatch.setenv("DATABASE_URL", own_database)
    monkeypatch.setenv("BKAPP_DEMO", "1")
    command = ["import", "hamlets", str(path), "--source", "Sở Nội vụ", "--licence", "test"]

    tried = CliRunner().invoke(main, [*command, "--dry-run"])
    done = CliRunner().invoke(main, command)
    again = CliRunner().invoke(main, command)
    broken = tmp_path / "broken.csv"
    broken.write_bytes(b"")
    refused = CliRunner().invoke(main, ["import", "places", str(broken), "--source", "a", "--licence", "b"])

    assert tried.stderr.startswith("2 rows: 1 would be imported, 0 changed, 0 were there, 1 refused")
    assert done.stderr.startswith("2 rows: 1 imported, 0 changed, 0 were there, 1 refused")
    assert again.stderr.startswith("2 rows: 0 imported, 0 changed, 1 were there, 1 refused")
    assert "1 of them in communes that have ended" in done.stderr
    assert (tried.exit_code, done.exit_code, refused.exit_code) == (1, 1, 1)
    assert refused.stderr.startswith("bkapp: The file is empty")
    report = (tmp_path / "h.csv.report.csv").read_text().splitlines()
    assert report[0] == "line,source_id,field,reason"
    assert report[1].startswith("3,Thôn Lạ,unit,")
    assert len(report) == 2


values = st.one_of(st.none(), st.text(max_size=30), st.floats(), st.integers(), st.binary(max_size=3))


@given(st.dictionaries(st.sampled_from(["name", "unit", "since", "lon", "lat", "source_id", ""]), values))
def test_any_record_is_a_hamlet_or_a_fault(record: Row) -> None:
    read = read_hamlet(1, record, today=today())
    assert isinstance(read, HamletRow | Fault)
    if isinstance(read, HamletRow):
        assert read.key
        assert read.point is None or (-180 <= read.point[0] <= 180 and -90 <= read.point[1] <= 90)
