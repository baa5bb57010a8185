"""Bulk import: every row accounted for, one bad row costs nobody else, the same file changes nothing."""

import asyncio
import csv
import json
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
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

from bkapp.address import changes, codes, demo, imports, operations, queries
from bkapp.address.imports import Fault, Row, import_households, read_row
from bkapp.address.models import Dwelling, DwellingVersion, Event, Hamlet, ImportRun
from bkapp.address.operations import Door, HouseholdRef, Point, placing
from bkapp.address.rules import PointSource
from bkapp.cli import main
from bkapp.db import Sessions, open_engine, sessions_of
from bkapp.errors import Invalid
from bkapp.http import today
from bkapp.units import queries as units
from bkapp.units.names import key as name_key
from tests import make


@pytest.fixture
async def own(own_database: str) -> AsyncIterator[Sessions]:
    engine = open_engine(own_database, pool_size=4)
    yield sessions_of(engine)
    await engine.dispose()


async def rows_of(sessions: Sessions, count: int, **changes: Any) -> list[dict[str, Any]]:
    async with sessions() as session:
        place = await make.a_place(session)
    return [
        {
            "source_id": f"h{number}",
            "lon": place.lon + number % 20 * 0.0003,
            "lat": place.lat + number // 20 * 0.0003,
            "unit": make.COMMUNE,
            "house_number": str(number),
            **changes,
        }
        for number in range(count)
    ]


def write_csv(path: Path, rows: list[dict[str, Any]], delimiter: str = ",") -> Path:
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        out = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        out.writeheader()
        out.writerows(rows)
    return path


async def take(sessions: Sessions, path: Path, **options: Any) -> tuple[imports.Tally, list[Fault]]:
    faults: list[Fault] = []
    tally = await import_households(sessions, path, source="so-ho", today=today(), report=faults.extend, **options)
    return tally, faults


async def test_every_good_row_gets_an_address_with_its_version_household_and_event(
    own: Sessions, tmp_path: Path
) -> None:
    path = write_csv(tmp_path / "a.csv", await rows_of(own, 130), delimiter=";")

    tally, faults = await take(own, path, batch=50)

    assert (tally.rows, tally.imported, tally.refused, faults) == (130, 130, 0, [])
    async with own() as session:
        rows = await queries.current_table(session)
        events = await queries.events(session, after=0, limit=1000)
        versions = await session.scalar(select(func.count()).select_from(DwellingVersion))
    assert len(rows) == versions == 130
    assert {row["code"] for row in rows} == {codes.parse(row["code"]) for row in rows}
    assert all(row["household"] and row["status"] == "current" for row in rows)
    assert [event.seq for event in events] == list(range(1, 131))
    assert sorted((event.data for event in events), key=lambda data: data["code"]) == rows


async def test_one_bad_row_never_loses_the_others_and_each_fault_has_its_line(own: Sessions, tmp_path: Path) -> None:
    rows = await rows_of(own, 9)
    async with own() as session:
        there = await make.a_place(session, "02191")
    rows[1]["lon"] = "east"
    rows[2]["unit"] = "1969"
    rows[3]["lon"], rows[3]["lat"] = there.lon, there.lat
    rows[4]["lon"], rows[4]["lat"] = rows[0]["lon"], rows[0]["lat"]
    rows[5]["source_id"] = "h0"
    rows[6]["lon"], rows[6]["lat"] = 105.85, 21.03
    rows[7]["unit"] = "01975"

    tally, faults = await take(own, write_csv(tmp_path / "a.csv", rows))

    assert (tally.imported, tally.refused) == (2, 7)
    assert [(fault.line, fault.field) for fault in faults] == [
        (3, "lon"), (4, "unit"), (5, "lon"), (6, "lon"), (7, "source_id"), (8, "lon"), (9, "unit"),
    ]  # fmt: skip
    assert "leading zeros" in faults[1].reason
    assert "02191" in faults[2].reason
    assert "within 3 m" in faults[3].reason
    assert "outside the province" in faults[5].reason


async def test_the_same_file_again_changes_nothing(own: Sessions, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", await rows_of(own, 30))
    await take(own, path)
    async with own() as session:
        before = await queries.current_table(session), await queries.head(session)

    tally, faults = await take(own, path)

    async with own() as session:
        after = await queries.current_table(session), await queries.head(session)
    assert (tally.imported, tally.skipped, faults) == (0, 30, [])
    assert before == after


async def test_a_household_that_stands_elsewhere_is_reported_and_left(own: Sessions, tmp_path: Path) -> None:
    rows = await rows_of(own, 2)
    await take(own, write_csv(tmp_path / "a.csv", rows))
    rows[1]["lat"] += 0.001

    tally, faults = await take(own, write_csv(tmp_path / "b.csv", rows))

    assert (tally.imported, tally.skipped, tally.refused) == (0, 2, 0)
    assert [(fault.line, fault.field) for fault in faults] == [(3, "differs")]


async def only_code(session: AsyncSession, source_id: str) -> str:
    found = await session.execute(
        text("""SELECT l.code FROM household_link l JOIN household h ON h.id = l.household_id
                WHERE h.source_id = :source_id AND l.recorded_to IS NULL"""),
        {"source_id": source_id},
    )
    return str(found.scalar_one())


@pytest.mark.parametrize("ended", ["2025-09-01", "2025-08-01"])
async def test_a_household_whose_home_ended_gets_no_second_code_from_the_same_file(
    own: Sessions, tmp_path: Path, ended: str
) -> None:
    rows = await rows_of(own, 3, since="2025-08-01")
    await take(own, write_csv(tmp_path / "a.csv", rows[:2]))
    async with own.begin() as session:
        code = await only_code(session, "h0")
        day = date.fromisoformat(ended)
        await operations.retire(session, make.ADMIN, code, reason="never existed", on=day, today=today())

    tally, faults = await take(own, write_csv(tmp_path / "b.csv", rows))

    assert (tally.imported, tally.skipped, tally.refused) == (1, 2, 0)
    assert [(fault.line, fault.field, fault.reason) for fault in faults] == [
        (2, "differs", f"{codes.display(code)} is retired")
    ]


async def test_a_household_that_left_is_reported_with_the_day_and_gets_no_second_code(
    own: Sessions, tmp_path: Path
) -> None:
    rows = await rows_of(own, 2, since="2025-08-01")
    path = write_csv(tmp_path / "a.csv", rows)
    await take(own, path)
    async with own.begin() as session:
        code = await only_code(session, "h1")
        link = await changes.open_link(session, code)
        assert link is not None
        await changes.end_link(session, link, on=date(2026, 1, 5))

    tally, faults = await take(own, path)

    assert (tally.imported, tally.skipped, tally.refused) == (0, 2, 0)
    assert [fault.reason for fault in faults] == [f"left {codes.display(code)} on 2026-01-05"]


async def test_a_household_whose_proposal_was_rejected_is_imported(own: Sessions, tmp_path: Path) -> None:
    rows = await rows_of(own, 1, since="2025-08-01")
    async with own.begin() as session:
        household = HouseholdRef("so-ho", "h0")
        proposed = await make.an_address(session, household=household, current=False)
        await operations.reject(session, make.ADMIN, proposed.code, reason="not a home", today=today())

    tally, faults = await take(own, write_csv(tmp_path / "a.csv", rows))

    assert (tally.imported, faults) == (1, [])


async def test_a_row_that_the_database_refuses_costs_only_itself_and_is_told_without_its_values(
    own: Sessions, tmp_path: Path
) -> None:
    rows = await rows_of(own, 40)
    async with own.begin() as session:
        await session.execute(
            text("ALTER TABLE dwelling ADD CONSTRAINT ck_dwelling_luck CHECK (house_number NOT IN ('13', '31'))")
        )

    tally, faults = await take(own, write_csv(tmp_path / "a.csv", rows), batch=30)

    assert (tally.rows, tally.imported, tally.refused) == (40, 38, 2)
    assert [(fault.line, fault.reason) for fault in faults] == [
        (15, "refused by the register: ck_dwelling_luck"),
        (33, "refused by the register: ck_dwelling_luck"),
    ]
    async with own() as session:
        events = await queries.events(session, after=0, limit=1000)
        run = (await session.scalars(select(ImportRun))).one()
    assert [event.seq for event in events] == list(range(1, 39))
    assert (run.rows_done, run.imported, run.refused) == (40, 38, 2)


async def test_homes_that_others_add_move_and_end_between_two_batches_are_seen(
    own: Sessions, own_database: str, tmp_path: Path
) -> None:
    rows = await rows_of(own, 5, since="2025-08-01")
    rows[4]["lon"], rows[4]["lat"] = rows[0]["lon"], rows[0]["lat"]

    def at(row: dict[str, Any]) -> Point:
        return Point(row["lon"], row["lat"], PointSource.GPS)

    async def others() -> None:
        engine = open_engine(own_database, pool_size=1)
        async with sessions_of(engine).begin() as session:
            for point in (at(rows[1]), Point(rows[2]["lon"], rows[2]["lat"] + 0.01, PointSource.GPS)):
                made = await operations.propose(
                    session, make.ADMIN, point=point, unit_code=make.COMMUNE, hamlet=None, door=Door(),
                    household=None, since=None, today=today(),
                )  # fmt: skip
            await operations.correct_point(
                session, make.ADMIN, made.code, point=at(rows[2]), unit_code=None, hamlet=None, reason="beside",
                since=None, today=today(),
            )  # fmt: skip
            first = await only_code(session, "h0")
            await operations.retire(session, make.ADMIN, first, reason="gone", on=None, today=today())
        await engine.dispose()

    def between(tally: imports.Tally) -> None:
        if tally.rows == 1:
            with ThreadPoolExecutor() as pool:  # the loop of this test waits here
                pool.submit(asyncio.run, others()).result()

    tally, faults = await take(own, write_csv(tmp_path / "a.csv", rows), batch=1, progress=between)

    assert [fault.line for fault in faults] == [3, 4]
    assert all("within 3 m" in fault.reason for fault in faults)
    assert (tally.imported, tally.refused) == (3, 2)


@pytest.mark.parametrize("batch", [2, 2000])
@pytest.mark.parametrize("dry_run", [True, False])
async def test_a_repeated_number_is_refused_whatever_the_batches(
    own: Sessions, tmp_path: Path, batch: int, *, dry_run: bool
) -> None:
    rows = await rows_of(own, 5)
    rows[4]["source_id"] = "h0"

    tally, faults = await take(own, write_csv(tmp_path / "a.csv", rows), batch=batch, dry_run=dry_run)

    assert (tally.imported, tally.skipped, tally.refused) == (4, 0, 1)
    assert [(fault.line, fault.reason) for fault in faults] == [(6, "repeats line 2")]


async def test_an_interrupted_import_goes_on_where_it_ended(own: Sessions, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", await rows_of(own, 60))
    seen: list[int] = []

    def die(tally: imports.Tally) -> None:
        seen.append(tally.rows)
        if tally.rows == 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await take(own, path, batch=20, progress=die)
    async with own() as session:
        run = (await session.scalars(select(ImportRun))).one()
        assert (run.rows_done, run.imported, run.finished_at) == (40, 40, None)

    before: list[int] = []
    tally, _ = await take(own, path, batch=20, started=before.append)

    assert before == [40]
    assert (tally.rows, tally.imported, tally.skipped) == (60, 60, 0)
    async with own() as session:
        assert await session.scalar(select(func.count()).select_from(Dwelling)) == 60


async def test_a_dry_run_judges_all_and_keeps_nothing(own: Sessions, tmp_path: Path) -> None:
    rows = await rows_of(own, 10)
    rows[3]["unit"] = "99999"

    tally, faults = await take(own, write_csv(tmp_path / "a.csv", rows), dry_run=True, batch=4)

    assert (tally.imported, tally.refused, len(faults)) == (9, 1, 1)
    async with own() as session:
        for table in (Dwelling, Event, ImportRun):
            assert await session.scalar(select(func.count()).select_from(table)) == 0


async def test_households_of_before_the_merger_have_both_communes_in_their_history(
    own: Sessions, tmp_path: Path
) -> None:
    async with own() as session:
        place = await make.a_place(session, "01975", on=date(2025, 6, 30))
    row = {"source_id": "h", "lon": place.lon, "lat": place.lat, "unit": "01975", "since": "2021-05-01"}

    tally, faults = await take(own, write_csv(tmp_path / "a.csv", [row]))

    assert (tally.imported, faults) == (1, [])
    async with own() as session:
        code = (await session.scalars(select(Dwelling.code))).one()
        versions = await queries.versions(session, code, as_of=None, known_at=None)
    assert [(version.unit.name, version.valid_to) for version in versions] == [
        ("Xã Vi Hương", date(2025, 7, 1)),
        ("Xã Phủ Thông", None),
    ]


async def test_a_commune_that_changed_twice_has_three_versions(own: Sessions, tmp_path: Path) -> None:
    # Vân Tùng was a commune, became a town on 2023-04-10 and is part of Xã Ngân Sơn since the merger.
    async with own() as session:
        place = await make.a_place(session, "01954", on=date(2021, 5, 1))
    row = {"source_id": "h", "lon": place.lon, "lat": place.lat, "unit": "01954", "since": "2021-05-01"}

    tally, faults = await take(own, write_csv(tmp_path / "a.csv", [row]))

    assert (tally.imported, faults) == (1, [])
    async with own() as session:
        code = (await session.scalars(select(Dwelling.code))).one()
        versions = await queries.versions(session, code, as_of=None, known_at=None)
    assert [(version.unit.name, version.valid_from) for version in versions] == [
        ("Xã Vân Tùng", date(2021, 5, 1)),
        ("Thị trấn Vân Tùng", date(2023, 4, 10)),
        ("Xã Ngân Sơn", date(2025, 7, 1)),
    ]


async def test_hamlets_are_found_by_name_and_unknown_ones_refused(own: Sessions, tmp_path: Path) -> None:
    async with own.begin() as session:
        unit = await units.unit_on(session, make.COMMUNE, today())
        assert unit is not None
        session.add(
            Hamlet(
                unit_id=unit.id, name="Thôn Nà Ít", key=name_key("Thôn Nà Ít"), valid_from=unit.valid_from, source="t"
            )
        )
    rows = await rows_of(own, 2, hamlet="THÔN  NA IT")
    rows[1]["hamlet"] = "Thôn Không Có"

    tally, faults = await take(own, write_csv(tmp_path / "a.csv", rows))

    assert tally.imported == 1
    assert [fault.field for fault in faults] == ["hamlet"]
    async with own() as session:
        assert (await queries.current_table(session))[0]["hamlet"]["name"] == "Thôn Nà Ít"


async def test_hamlets_of_one_name_are_told_apart_by_the_commune_they_were_in(own: Sessions, tmp_path: Path) -> None:
    async with own.begin() as session:
        unit = await units.unit_on(session, make.COMMUNE, today())
        assert unit is not None
        for name, qualifier in (("Thôn Nà Ít", "Vi Hương"), ("Thôn Nà Ít", "Lục Bình"), ("Thôn Nà Ít Thượng", None)):
            key = name_key(f"{name} {qualifier or ''}")
            session.add(
                Hamlet(unit_id=unit.id, name=name, qualifier=qualifier, key=key, valid_from=unit.valid_from, source="t")
            )
    rows = await rows_of(own, 4)
    for row, name in zip(rows, ("Thôn Nà Ít (Vi Hương)", "thôn nà ít lục bình", "Thôn Nà Ít", "Thôn Nà"), strict=True):
        row["hamlet"] = name

    tally, faults = await take(own, write_csv(tmp_path / "a.csv", rows))

    assert tally.imported == 2
    assert [(fault.line, fault.field, fault.reason) for fault in faults] == [
        (4, "hamlet", "more than one: Thôn Nà Ít (Lục Bình), Thôn Nà Ít (Vi Hương)"),
        (5, "hamlet", "the commune has no hamlet 'Thôn Nà': add it first"),
    ]
    async with own() as session:
        found = {row["house_number"]: row["hamlet"]["qualifier"] for row in await queries.current_table(session)}
    assert found == {"0": "Vi Hương", "1": "Lục Bình"}


@pytest.mark.parametrize(
    ("stated", "there", "believed"),
    [
        ("approximate", "approximate", True),
        ("approximate", "official", False),
        ("official", "approximate", False),
        ("official", "official", False),
    ],
)
async def test_a_point_beyond_an_edge_is_believed_only_where_both_sides_are_guesses_by_file_as_by_hand(
    own: Sessions, tmp_path: Path, stated: str, there: str, *, believed: bool
) -> None:
    async with own.begin() as session:
        lon, lat, other = (
            await session.execute(
                text("""
                    SELECT ST_X(p), ST_Y(p), o.code
                    FROM admin_unit u
                    JOIN admin_unit o ON o.level = 'commune' AND o.in_bac_kan AND o.valid_to IS NULL AND o.id <> u.id
                    CROSS JOIN LATERAL ST_ClosestPoint(u.boundary, o.boundary) AS edge
                    CROSS JOIN LATERAL ST_Project(edge::geography, 300, ST_Azimuth(
                        edge, (ST_MaximumInscribedCircle(o.boundary)).center)) AS q
                    CROSS JOIN LATERAL (SELECT q::geometry AS p) AS point
                    WHERE u.code = :code AND u.level = 'commune' AND u.valid_to IS NULL AND ST_Contains(o.boundary, p)
                        AND NOT ST_Contains(u.boundary, p)
                    ORDER BY o.code LIMIT 1
                """),
                {"code": make.COMMUNE},
            )
        ).one()
        source = await session.scalar(
            text("""
                INSERT INTO boundary_source (file_name, sha256, source, licence, level, as_of, features)
                VALUES ('a.geojson', '', 'test', 'test', 'commune', current_date, 2) RETURNING id
            """)
        )
        official = [code for code, quality in ((make.COMMUNE, stated), (other, there)) if quality == "official"]
        await session.execute(
            text("""
                UPDATE admin_unit SET boundary_quality = 'official', boundary_source_id = :source
                WHERE code = ANY(:codes) AND level = 'commune' AND valid_to IS NULL
            """),
            {"source": source, "codes": official},
        )
    row = {"source_id": "h", "lon": lon, "lat": lat, "unit": make.COMMUNE}

    tally, _ = await take(own, write_csv(tmp_path / "a.csv", [row]), dry_run=True)
    async with own() as session:
        try:
            await placing.place(session, Point(lon, lat, PointSource.GPS), make.COMMUNE, on=today())
        except placing.Refused:
            by_hand = False
        else:
            by_hand = True

    assert (tally.imported == 1, by_hand) == (believed, believed)


async def test_geojson_and_geopackage_give_the_same_as_csv(own: Sessions, tmp_path: Path) -> None:
    rows = await rows_of(own, 6)
    features: list[dict[str, Any]] = [
        {
            "type": "Feature",
            "geometry": {"type": "Point", "coordinates": [row["lon"], row["lat"]]},
            "properties": {"source_id": row["source_id"], "unit": row["unit"]},
        }
        for row in rows[:3]
    ]
    features.append({"type": "Feature", "geometry": None, "properties": {"source_id": "x", "unit": make.COMMUNE}})
    collection = tmp_path / "a.geojson"
    collection.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    package = tmp_path / "a.gpkg"
    pyogrio.raw.write(
        package,
        shapely.to_wkb(shapely.points([(row["lon"], row["lat"]) for row in rows[3:]])),
        [np.array([row[name] for row in rows[3:]], dtype=object) for name in ("source_id", "unit", "house_number")],
        ["source_id", "unit", "house_number"],
        geometry_type="Point",
        crs="EPSG:4326",
    )

    first, faults = await take(own, collection)
    second, none = await take(own, package)

    assert (first.imported, [(fault.line, fault.reason) for fault in faults]) == (3, [(4, "not a Point")])
    assert (second.imported, none) == (3, [])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b"name,lon,lat\n"),
        ("a.csv", "source_id,lon,lat,unit\nh,105,22,Xã".encode("utf-16")),
        ("a.csv", b"source_id,lon,lat,unit,colour\n"),
        ("a.csv", b"source_id,lon,lat,unit,lat\n"),
        ("a.csv", b""),
        ("a.csv", "source_id,lon,lat,unit\n".encode("utf-16-be")),
        ("a.csv", b"source_id,lon,lat,unit\rh,105,22,01969\r"),
        ("a.csv", b"source_id,lon,lat,unit,\xff\n"),
        ("a.geojsonl", '{"geometry": null}\n'.encode("utf-16")),
        ("a.geojson", b"{"),
        ("a.geojson", b'{"type": "Point"}'),
        ("a.xlsx", b"PK"),
    ],
)
async def test_a_file_that_is_none_of_these_is_refused_with_a_sentence(
    own: Sessions, tmp_path: Path, name: str, content: bytes
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(Invalid):
        await take(own, path)
    async with own() as session:
        assert await session.scalar(select(func.count()).select_from(ImportRun)) == 0


OPEN_QUOTE = "a line break inside a field: a quote is not closed"
HEAD = b"source_id,lon,lat,unit,street\n"
GOOD = b"%b,105.8,22.1,01969,Ph\xc3\xb9ng\n"


@pytest.mark.parametrize(
    ("bad", "reasons"),
    [
        (b"x\xff,105.8,22.1,01969,\n", ["not UTF-8"]),
        (b"x,105.8,22.1,01969,\0\n", ["a NUL character"]),
        (b"x,105.8,22.1,01969," + b"x" * 300_000 + b"\n", ["a line of more than 100000 bytes"]),
        (b"x,105.8,22.1,01969\n", ["4 columns instead of 5"]),
        (b'x,105.8,22.1,01969,"open\n', [OPEN_QUOTE]),
        (b'x,105.8,22.1,01969,"2\nlines"\n', [OPEN_QUOTE, "1 columns instead of 5"]),
        (b"x,105.8,22.1,01969,a\rb\n", [OPEN_QUOTE]),
        (b"\n\r\n,,,,\n", []),
    ],
    ids=["byte", "nul", "long", "columns", "quote", "break", "return", "empty"],
)  # fmt: skip
def test_what_is_wrong_with_one_line_costs_no_other_and_lines_are_counted_as_editors_do(
    tmp_path: Path, bad: bytes, reasons: list[str]
) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(
        HEAD + GOOD % b"a" + bad + GOOD.replace(b"\n", b"\r\n") % b"b" + b'c,105.8,22.1,01969,"a ""b"", c"'
    )

    read = list(imports.records(path))

    after = 3 + bad.count(b"\n")
    assert [entry for entry in read if isinstance(entry[1], str)] == list(enumerate(reasons, start=3))
    good = [(line, values["source_id"], values["street"]) for line, values in read if isinstance(values, dict)]
    assert good == [(2, "a", "Phùng"), (after, "b", "Phùng"), (after + 1, "c", 'a "b", c')]


BROKEN_FEATURES = [
    (b"null", "no GeoJSON feature"),
    (b"[1]", "no GeoJSON feature"),
    (b'{"geometry": {"type": "Point", "coordinates": [105.8]}}', "not a Point"),
    (b'{"geometry": {"type": "Point", "coordinates": 7}}', "not a Point"),
    (b'{"geometry": 7}', "not a Point"),
    (b'{"properties": {"unit": "\xff"}}', "cannot be read as a GeoJSON feature"),
    (
        b'{"geometry": {"type": "Point", "coordinates": [1, 2]}, "properties": {"door": {}}}',
        "door is no text or number",
    ),
]


def test_a_feature_that_is_wrong_costs_only_itself(tmp_path: Path) -> None:
    good = b'{"geometry": {"type": "Point", "coordinates": [105.8, 22.1, 300]}, "properties": {"Source_ID": "h"}}'
    features = [good, *(raw for raw, _ in BROKEN_FEATURES), good]
    collection, lines = tmp_path / "a.geojson", tmp_path / "a.geojsonl"
    collection.write_bytes(b'{"type": "FeatureCollection", "features": [' + b",".join(features) + b"]}")
    lines.write_bytes(b"\n".join([*features, b"{bad"]))

    home = {"source_id": "h", "lon": 105.8, "lat": 22.1}
    expected = [*enumerate([home, *(reason for _, reason in BROKEN_FEATURES), home], start=1)]
    assert list(imports.records(collection)) == expected
    assert list(imports.records(lines)) == [*expected, (10, "cannot be read as a GeoJSON feature")]


@pytest.mark.parametrize(("name", "count"), [("a.csv", 3), ("a.geojsonl", 3), ("a.geojson", None), ("a.gpkg", None)])
def test_rows_are_counted_without_reading_them_where_that_can_be_done(
    tmp_path: Path, name: str, count: int | None
) -> None:
    (tmp_path / name).write_bytes(b"one\ntwo\nthree\n")
    assert imports.count_records(tmp_path / name) == count


values = st.one_of(st.none(), st.text(max_size=30), st.floats(), st.integers())


@given(st.dictionaries(st.sampled_from([*imports.COLUMNS, ""]), values))
def test_any_record_is_a_row_or_a_fault(record: dict[str, Any]) -> None:
    read = read_row(1, record, today=today())
    assert isinstance(read, Row | Fault)
    if isinstance(read, Row):
        assert -180 <= read.lon <= 180
        assert read.source_id


def test_the_command_says_what_it_did_and_lists_refused_rows(
    own_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def prepare() -> list[dict[str, Any]]:
        engine = open_engine(own_database, pool_size=1)
        try:
            return await rows_of(sessions_of(engine), 3)
        finally:
            await engine.dispose()

    rows = asyncio.run(prepare())
    rows[1]["unit"] = "99999"
    path = write_csv(tmp_path / "households.csv", rows)
    monkeypatch.setenv("DATABASE_URL", own_database)
    monkeypatch.setenv("BKAPP_DEMO", "1")

    result = CliRunner().invoke(main, ["import", "households", str(path), "--source", "so-ho"])

    assert result.exit_code == 1
    assert "3 rows: 2 imported, 0 were there, 1 refused" in result.stderr
    report = (tmp_path / "households.csv.report.csv").read_text().splitlines()
    assert report[0] == "line,source_id,field,reason"
    assert report[1].startswith("3,h1,unit,")


class TestDemo:
    async def test_the_demo_is_always_the_same_and_marked(self, own: Sessions, tmp_path: Path) -> None:
        drawn = demo.demo_codes()
        async with own.begin() as session:
            await demo.write_households(session, tmp_path / "one.csv", households=300)
        async with own.begin() as session:
            await demo.write_households(session, tmp_path / "two.csv", households=300)
        assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()

        tally = await import_households(
            own, tmp_path / "one.csv", source=demo.SOURCE, today=today(), is_demo=True, draw=lambda: next(drawn)
        )

        assert (tally.imported, tally.refused) == (300, 0)
        async with own() as session:
            rows = await queries.current_table(session)
            communes = await session.scalar(text("SELECT count(DISTINCT unit_id) FROM dwelling"))
        assert all(row["demo"] and row["hamlet"] for row in rows)
        assert (communes or 0) >= 30

    async def test_as_many_come_as_are_asked_for_and_a_larger_demo_begins_as_a_smaller_one(
        self, own: Sessions, tmp_path: Path
    ) -> None:
        async with own.begin() as session:
            await demo.write_households(session, tmp_path / "small.csv", households=500)
            rows = await demo.write_households(session, tmp_path / "large.csv", households=25_000)
        assert rows == 25_000
        small, large = ((tmp_path / name).read_text().splitlines() for name in ("small.csv", "large.csv"))
        assert large[:501] == small

        tally, faults = await take(own, tmp_path / "large.csv", dry_run=True)

        assert (tally.imported, faults) == (25_000, [])

    async def test_a_full_demo_reaches_every_commune(self, session: AsyncSession, tmp_path: Path) -> None:
        rows = await demo.write_households(session, tmp_path / "all.csv", households=1300)
        with (tmp_path / "all.csv").open(encoding="utf-8") as file:
            communes = {row["unit"] for row in csv.DictReader(file)}
        assert rows == 1300
        assert len(communes) == 37
