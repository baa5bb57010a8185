"""Points of interest from files: each in the commune around it, nothing twice, everything with its source."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.address.imports import Fault, Outcome, import_places
from bkapp.address.imports.places import PlaceRow, read_place
from bkapp.address.models import Place, PlaceSource
from bkapp.address.rules import PlaceKind
from bkapp.errors import Invalid
from bkapp.http import today
from tests import make
from tests.address.test_hamlet_imports import Row, point, reasons, square, values, version, write_csv, write_geojson


class TestPlaces:
    async def take(self, session: AsyncSession, path: Path, **options: Any) -> Outcome:
        return await import_places(
            session, path, **{"source": "HOT", "licence": "ODbL-1.0", "complete": False, "today": today(), **options}
        )

    async def a_place(self, session: AsyncSession, number: int, name: str | None, unit: str = make.COMMUNE) -> Row:
        place = await make.a_place(session, unit, north=50 * number)
        return {"name": name, "lon": place.lon, "lat": place.lat, "source_id": f"p{number}"}

    async def known(self, session: AsyncSession) -> dict[str, tuple[str, str, str]]:
        rows = await session.execute(
            text("SELECT p.source_id, p.kind, p.name, u.full_name FROM place p JOIN admin_unit u ON u.id = p.unit_id")
        )
        return {row.source_id: (row.kind, row.name, row.full_name) for row in rows}

    async def test_each_place_goes_to_the_commune_around_it_and_what_cannot_is_told(
        self, session: AsyncSession, tmp_path: Path
    ) -> None:
        rows = [
            await self.a_place(session, 1, "Chợ  Phủ Thông"),
            await self.a_place(session, 2, "Trường THCS", "02191"),
            await self.a_place(session, 3, ""),
            {"name": "Hồ Gươm", "lon": 105.8523, "lat": 21.0287, "source_id": "p4"},
            {"name": "Lặp lại", "lon": 105.8, "lat": 22.1, "source_id": "p1"},
            {"name": "Không số", "lon": 105.8, "lat": 22.1, "source_id": ""},
            {"name": "Ngược", "lon": 22.1, "lat": 105.8, "source_id": "p7"},
        ]

        done = await self.take(session, write_csv(tmp_path / "p.csv", rows))

        assert (done.rows, done.imported, done.unnamed, done.refused) == (7, 2, 1, 4)
        assert [(fault.line, fault.reason) for fault in done.faults] == [
            (5, "the point lies outside the province"),
            (6, "repeats line 2"),
            (7, "empty, and no osm_id either"),
            (8, "lon and lat look swapped"),
        ]
        assert await self.known(session) == {
            "p1": ("poi", "Chợ Phủ Thông", "Xã Phủ Thông"),
            "p2": ("poi", "Trường THCS", "Xã Xuân Dương"),
        }
        source = (await session.scalars(select(PlaceSource))).one()
        assert (source.kind, source.source, source.licence, source.features) == ("places", "HOT", "ODbL-1.0", 7)

    async def test_the_same_file_again_changes_nothing_and_wakes_nobody(
        self, session: AsyncSession, tmp_path: Path
    ) -> None:
        path = write_csv(tmp_path / "p.csv", [await self.a_place(session, n, f"Quán {n}") for n in range(5)])
        await self.take(session, path, complete=True)
        before = await version(session)

        done = await self.take(session, path, complete=True)

        assert (done.imported, done.changed, done.same, done.gone) == (0, 0, 5, 0)
        assert await version(session) == before

    async def test_a_newer_file_changes_what_differs_and_takes_out_the_rest_only_if_it_is_complete(
        self, session: AsyncSession, tmp_path: Path
    ) -> None:
        rows = [await self.a_place(session, n, f"Quán {n}") for n in range(4)]
        await self.take(session, write_csv(tmp_path / "p.csv", rows))
        other = await make.a_place(session, "02191")
        rows[0]["name"] = "Quán mới"
        rows[1]["lon"], rows[1]["lat"] = other.lon, other.lat
        newer = write_csv(tmp_path / "q.csv", rows[:3])

        done = await self.take(session, newer)

        assert (done.imported, done.changed, done.same, done.gone) == (0, 2, 1, 0)
        assert await self.known(session) == {
            "p0": ("poi", "Quán mới", "Xã Phủ Thông"),
            "p1": ("poi", "Quán 1", "Xã Xuân Dương"),
            "p2": ("poi", "Quán 2", "Xã Phủ Thông"),
            "p3": ("poi", "Quán 3", "Xã Phủ Thông"),
        }
        files = await session.execute(
            text("SELECT p.source_id, s.file_name FROM place p JOIN place_source s ON s.id = p.place_source_id")
        )
        assert dict(files.all()) == {"p0": "q.csv", "p1": "q.csv", "p2": "p.csv", "p3": "p.csv"}

        complete = await self.take(session, newer, complete=True)
        elsewhere = write_csv(tmp_path / "r.csv", [{**rows[0], "lon": 105.85, "lat": 21.03}])
        nothing = await self.take(session, elsewhere, complete=True)

        assert (complete.same, complete.gone) == (3, 1)
        assert (nothing.refused, nothing.gone) == (1, 0)
        assert sorted(await self.known(session)) == ["p0", "p1", "p2"]

    async def test_polygons_and_roads_come_too(self, session: AsyncSession, tmp_path: Path) -> None:
        row = await self.a_place(session, 1, None)
        path = write_geojson(
            tmp_path / "p.geojson",
            [
                ({"name": None, "name:vi": "Bệnh viện", "osm_id": 12, "osm_type": "ways"}, square(row)),
                ({"name": "Đường Hùng Vương", "kind": "road", "source_id": "r"}, point(row)),
                ({"name": "Biển", "source_id": "s"}, square({"lon": 22, "lat": 105})),
                ({"name:en": "Nobody"}, point(row)),
            ],
        )

        done = await self.take(session, path)

        assert (done.imported, done.unnamed, reasons(done)) == (2, 1, [(3, "lon")])
        assert await self.known(session) == {
            "w12": ("poi", "Bệnh viện", "Xã Phủ Thông"),
            "r": ("road", "Đường Hùng Vương", "Xã Phủ Thông"),
        }

    @pytest.mark.parametrize(
        ("name", "content", "told"),
        [
            ("p.csv", b"name,lon,lat,source_id\n", "holds no places"),
            ("p.csv", b"name,lat,source_id\nA,1,2\n", "no column lon"),
            ("p.osm", b"", "A file of places is CSV, GeoJSON or GeoPackage"),
        ],
    )
    async def test_a_file_that_is_none_is_refused_with_a_sentence(
        self, session: AsyncSession, tmp_path: Path, name: str, content: bytes, told: str
    ) -> None:
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(Invalid, match=told):
            await self.take(session, path)

    async def test_a_line_that_cannot_be_read_and_a_name_that_is_too_long_cost_only_themselves(
        self, session: AsyncSession, tmp_path: Path
    ) -> None:
        place = await self.a_place(session, 1, "Chợ")
        path = write_csv(tmp_path / "p.csv", [place, {**place, "name": "x" * 121, "source_id": "p2"}])
        with path.open("ab") as file:
            file.write(b"\xff,1,2,3\n")

        done = await self.take(session, path)

        assert (done.imported, done.refused) == (1, 2)
        assert [fault.reason for fault in done.faults] == ["longer than 120 characters", "not UTF-8"]

    async def test_the_real_export_of_places_is_taken(self, session: AsyncSession, shared: Path) -> None:
        path = shared / "osm_poi_backan_hotosm.geojson"

        done = await self.take(session, path)

        assert done.rows == 176
        assert done.imported + done.unnamed + done.refused == 176
        assert {fault.reason for fault in done.faults} <= {"the point lies outside the province"}
        assert done.imported > 50
        ids = (await session.scalars(select(Place.source_id))).all()
        assert all(number[0] in "nwr" and number[1:].isdigit() for number in ids)


@given(st.dictionaries(st.sampled_from(["name", "name:vi", "kind", "lon", "lat", "source_id", "osm_id"]), values))
def test_any_record_is_a_place_a_fault_or_has_no_name(record: Row) -> None:
    read = read_place(1, record)
    assert read is None or isinstance(read, PlaceRow | Fault)
    if isinstance(read, PlaceRow):
        assert read.name
        assert read.source_id
        assert read.kind in PlaceKind
