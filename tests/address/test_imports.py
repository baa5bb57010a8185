"""Bulk import: every row accounted for, one bad row costs nobody else, the same file changes nothing."""

import asyncio
import csv
import json
from collections.abc import AsyncIterator
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

from bkapp.address import codes, demo, imports, queries
from bkapp.address.imports import Fault, Row, import_households, read_row
from bkapp.address.models import Dwelling, DwellingVersion, Event, Hamlet, ImportRun
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

    async def test_a_full_demo_reaches_every_commune(self, session: AsyncSession, tmp_path: Path) -> None:
        rows = await demo.write_households(session, tmp_path / "all.csv", households=1300)
        with (tmp_path / "all.csv").open(encoding="utf-8") as file:
            communes = {row["unit"] for row in csv.DictReader(file)}
        assert rows == 1300
        assert len(communes) == 37
