"""Roads, places and hamlets from OpenStreetMap."""

import asyncio
import builtins
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any

import osmium
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from osmium.osm.mutable import Node, Relation, Way
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.address import operations
from bkapp.address.imports import Outcome, import_hamlets, import_osm
from bkapp.address.imports.osm_names import bare_key, is_poi, road_id, road_names
from bkapp.address.imports.osm_reading import length, middle
from bkapp.address.models import Hamlet, Place, PlaceSource
from bkapp.address.rules import metres_between
from bkapp.cli import main
from bkapp.db import open_engine, sessions_of
from bkapp.errors import Invalid
from bkapp.http import today
from bkapp.units.names import key
from bkapp.units.queries import unit_on
from tests import make
from tests.address.test_hamlet_imports import a_row, hamlets_in, version, write_csv

VI_HUONG, LUC_BINH = "01975", "01990"
Position = tuple[float, float]


class Map:
    """A small file of OpenStreetMap in the making."""

    def __init__(self) -> None:
        self._nodes: list[Node] = []
        self._ways: list[Way] = []
        self._relations: list[Relation] = []

    def node(self, at: Position, /, **tags: str) -> int:
        number = len(self._nodes) + 1
        self._nodes.append(Node(id=number, location=at, tags=_tags(tags)))
        return number

    def way(self, places: Iterable[Position], *, lost: bool = False, **tags: str) -> int:
        nodes: dict[Position, int] = {}
        refs = [nodes.get(place) or nodes.setdefault(place, self.node(place)) for place in places]
        number = len(self._ways) + 1
        self._ways.append(Way(id=number, nodes=[*refs, 999_999] if lost else refs, tags=_tags(tags)))
        return number

    def area(self, way: int, **tags: str) -> int:
        number = len(self._relations) + 1
        members = [("w", way, "outer")]
        self._relations.append(Relation(id=number, members=members, tags={"type": "multipolygon"} | _tags(tags)))
        return number

    def write(self, path: Path) -> Path:
        with osmium.SimpleWriter(path, overwrite=True) as out:
            for node in self._nodes:
                out.add_node(node)
            for way in self._ways:
                out.add_way(way)
            for relation in self._relations:
                out.add_relation(relation)
        return path


def _tags(tags: dict[str, str]) -> dict[str, str]:
    return {name.replace("__", ":"): value for name, value in tags.items()}


def square(lon: float, lat: float, size: float = 0.002) -> list[Position]:
    west, south = lon - size / 2, lat - size / 2
    return [(west, south), (west + size, south), (west + size, south + size), (west, south + size), (west, south)]


async def take(session: AsyncSession, path: Path, **options: Any) -> Outcome:
    return await import_osm(
        session, path, **{"source": "OpenStreetMap", "licence": "ODbL-1.0", "today": today(), **options}
    )


async def middle_of(session: AsyncSession, unit: str = make.COMMUNE, *, on: date | None = None) -> Position:
    place = await make.a_place(session, unit, on=on)
    return round(place.lon, 7), round(place.lat, 7)


async def places_of(session: AsyncSession) -> dict[tuple[str, str], Any]:
    """Every place by its number and the code of its commune."""
    rows = await session.execute(
        text("""
            SELECT p.source_id, u.code, p.kind, p.name, ST_X(p.point::geometry) AS lon, ST_Y(p.point::geometry) AS lat,
                ST_Covers(u.boundary, p.point::geometry) AS inside
            FROM place p JOIN admin_unit u ON u.id = p.unit_id ORDER BY p.id
        """)
    )
    return {(row.source_id, row.code): row for row in rows}


class TestPlaces:
    async def test_nodes_ways_and_relations_with_a_name_become_places(
        self, session: AsyncSession, tmp_path: Path
    ) -> None:
        lon, lat = await middle_of(session)
        world = Map()
        school = world.node((lon, lat), amenity="school", name="Trường  Tiểu học")
        world.node((lon, lat), amenity="bench")
        world.node((lon, lat), name="Nothing we look for")
        world.node((105.85, 21.03), amenity="school", name="Hà Nội")
        market = world.way(square(lon + 0.01, lat), amenity="marketplace", name="Market", name__vi="Chợ")
        line = [(lon, lat + 0.01), (lon + 0.001, lat + 0.01), (lon + 0.003, lat + 0.01)]
        bridge = world.way(line, highway="primary", bridge="yes", bridge__name="Cầu Phủ")
        yard = world.way(square(lon, lat - 0.01))
        clinic = world.area(yard, healthcare="clinic", name="Trạm y tế")
        crossed = square(lon - 0.01, lat)
        crossed[1], crossed[2] = crossed[2], crossed[1]
        temple = world.way(crossed, amenity="place_of_worship", name="Chùa")

        done = await take(session, world.write(tmp_path / "a.osm.pbf"))

        found = await places_of(session)
        assert {(number, row.name) for (number, _), row in found.items()} == {
            (f"n{school}", "Trường Tiểu học"),
            (f"w{market}", "Chợ"),
            (f"w{bridge}", "Cầu Phủ"),
            (f"r{clinic}", "Trạm y tế"),
            (f"w{temple}", "Chùa"),
        }
        assert all(row.kind == "poi" and row.inside for row in found.values())
        at_market, at_bridge = found[f"w{market}", make.COMMUNE], found[f"w{bridge}", make.COMMUNE]
        assert (at_market.lon, at_market.lat) == pytest.approx((lon + 0.01, lat), abs=1e-6)
        assert (at_bridge.lon, at_bridge.lat) == pytest.approx((lon + 0.0015, lat + 0.01), abs=1e-6)
        assert (done.rows, done.imported, done.refused) == (5, 5, 0)
        source = (await session.scalars(select(PlaceSource))).one()
        assert (source.kind, source.source, source.licence) == ("osm", "OpenStreetMap", "ODbL-1.0")

    async def test_the_same_file_again_changes_nothing_and_wakes_nobody(
        self, session: AsyncSession, tmp_path: Path
    ) -> None:
        lon, lat = await middle_of(session)
        world = Map()
        world.node((lon, lat), amenity="school", name="Trường")
        world.node((lon, lat), place="hamlet", name="Nà Ít")
        world.way([(lon, lat), (lon + 0.2, lat)], highway="primary", ref="QL.3")
        path = world.write(tmp_path / "a.osm.pbf")
        await take(session, path, open_unknown=True)
        before = await version(session)

        done = await take(session, path, open_unknown=True, complete=True)

        assert (done.imported, done.changed, done.gone, done.same) == (0, 0, 0, done.rows)
        assert await version(session) == before

    async def test_a_complete_file_takes_out_what_it_does_not_hold(self, session: AsyncSession, tmp_path: Path) -> None:
        lon, lat = await middle_of(session)
        first, second = Map(), Map()
        for world, names in ((first, ("Một", "Hai")), (second, ("Một",))):
            for name in names:
                world.node((lon, lat), shop="yes", name=name)
        await take(session, first.write(tmp_path / "a.osm.pbf"))
        path = second.write(tmp_path / "b.osm.pbf")

        kept = await take(session, path)
        done = await take(session, path, complete=True)

        assert (kept.same, kept.gone, done.same, done.gone) == (1, 0, 1, 1)
        assert (await session.scalars(select(Place.name))).all() == ["Một"]


class TestRoads:
    async def test_a_road_has_a_part_in_each_commune_it_runs_through_with_a_point_on_it(
        self, session: AsyncSession, tmp_path: Path
    ) -> None:
        west, east = await middle_of(session), await middle_of(session, "02191")
        half = (west[0] + east[0]) / 2, (west[1] + east[1]) / 2
        world = Map()
        world.way([west, half], highway="trunk", ref="QL.3", name="Quốc lộ 3")
        world.way([half, east], highway="trunk", ref="QL 3;ĐT254", lost=True)
        world.way([west, (west[0], west[1] + 0.01)], highway="residential", name="Đường Hùng Vương", ref="QL3")
        world.way([east, (east[0], east[1] + 0.01)], highway="proposed", name="Đường Mơ")
        world.way([east, (east[0], east[1] + 0.01)], highway="residential")
        world.way([(105.8, 21.0), (105.9, 21.0)], highway="trunk", ref="QL1")

        done = await take(session, world.write(tmp_path / "a.osm.pbf"))

        found = await places_of(session)
        roads = {number for number, _ in found}
        assert roads == {"road:QL3", "road:TL254", "road:hung vuong"}
        assert {row.name for row in found.values()} == {"Quốc lộ 3", "ĐT254", "Đường Hùng Vương"}
        through = {code for number, code in found if number == "road:QL3"}
        assert {make.COMMUNE, "02191"} <= through
        assert ("road:hung vuong", "02191") not in found
        assert all(row.inside and row.kind == "road" for row in found.values())
        for row in found.values():
            on_road = await session.scalar(
                text("""
                    SELECT ST_Distance(ST_SetSRID(ST_MakePoint(:lon, :lat), 4326)::geography, ST_SetSRID(ST_MakeLine(
                        ARRAY[ST_MakePoint(:a, :b + 0.01), ST_MakePoint(:a, :b), ST_MakePoint(:c, :d)]), 4326))
                """),
                {"lon": row.lon, "lat": row.lat, "a": west[0], "b": west[1], "c": east[0], "d": east[1]},
            )
            assert on_road == pytest.approx(0, abs=30)
        assert done.imported == len(found)

    async def test_a_road_that_only_touches_a_commune_has_no_part_there(
        self, session: AsyncSession, tmp_path: Path
    ) -> None:
        # 20 metres across an edge between two communes of today.
        inside, beyond, code = (
            await session.execute(
                text("""
                    SELECT ARRAY[ST_X(a), ST_Y(a)], ARRAY[ST_X(b), ST_Y(b)], o.code
                    FROM admin_unit u
                    JOIN admin_unit o ON o.level = 'commune' AND o.in_bac_kan AND o.valid_to IS NULL AND o.id <> u.id
                    CROSS JOIN LATERAL ST_ClosestPoint(u.boundary, o.boundary) AS edge
                    CROSS JOIN LATERAL (
                        SELECT ST_Azimuth(edge, (ST_MaximumInscribedCircle(o.boundary)).center) AS way) AS q
                    CROSS JOIN LATERAL (SELECT ST_Project(edge::geography, 20, way)::geometry AS b,
                        ST_Project(edge::geography, 500, way + pi())::geometry AS a) AS ends
                    WHERE u.code = :code AND u.valid_to IS NULL AND ST_Contains(o.boundary, b)
                        AND ST_Contains(u.boundary, a)
                    ORDER BY o.code LIMIT 1
                """),
                {"code": make.COMMUNE},
            )
        ).one()
        world = Map()
        world.way([tuple(inside), tuple(beyond)], highway="residential", name="Đường Qua")

        await take(session, world.write(tmp_path / "a.osm.pbf"))

        assert set(await places_of(session)) == {("road:qua", make.COMMUNE)}
        assert code != make.COMMUNE

    @pytest.mark.parametrize(
        ("tags", "names"),
        [
            ({"ref": "QL.3"}, {"road:QL3": "QL3"}),
            ({"ref": "QL 3 ; QL3B"}, {"road:QL3": "QL3", "road:QL3B": "QL3B"}),
            ({"name": "Quốc lộ 3", "ref": "QL3"}, {"road:QL3": "Quốc lộ 3"}),
            ({"name": "Tỉnh lộ 254", "ref": "ĐT.254"}, {"road:TL254": "Tỉnh lộ 254"}),
            ({"name": "đường  Trần Phú", "ref": "QL3"}, {"road:tran phu": "đường Trần Phú", "road:QL3": "QL3"}),
            ({"name": "Phố Trần Phú"}, {"road:tran phu": "Phố Trần Phú"}),
            ({"name": "Đường"}, {"road:duong": "Đường"}),
            ({"name": "…", "ref": "; ."}, {}),
            ({"name": "Main Street", "name:vi": "Đường Chính"}, {"road:chinh": "Đường Chính"}),
            ({}, {}),
        ],
    )
    def test_spellings_of_a_road_are_one_road(self, tags: dict[str, str], names: dict[str, str]) -> None:
        assert {name.id: name.name for name in road_names(tags)} == names


class TestHamlets:
    async def test_a_hamlet_without_a_place_gets_that_of_its_namesake_on_the_map(
        self, session: AsyncSession, tmp_path: Path
    ) -> None:
        for name in ("Thôn Nà Ít", "Bản Súng", "Tổ 8"):
            await operations.open_hamlet(
                session, make.ADMIN, unit_code=make.COMMUNE, name=name, since=None, today=today()
            )
        there = await a_row(session, "Thôn Có", make.COMMUNE, since=None)
        csv = write_csv(tmp_path / "h.csv", [there])
        await import_hamlets(session, csv, source="x", licence="y", as_of=None, today=today())
        lon, lat = await middle_of(session)
        world = Map()
        world.node((lon, lat), place="hamlet", name="Nà Ít")
        world.node((lon + 0.001, lat), place="village", name="bản súng")
        world.node((lon + 0.002, lat), place="hamlet", name="Thôn 8")
        world.node((lon + 0.003, lat), place="hamlet", name="Có")
        world.node((lon + 0.004, lat), place="town", name="Thị trấn")
        world.node((lon + 0.005, lat), place="hamlet", name="Thôn Nà Ít")
        world.node((lon + 0.006, lat), place="hamlet", name="x" * 81)
        world.node((105.85, 21.03), place="hamlet", name="Nà Ít")
        path = world.write(tmp_path / "a.osm.pbf")

        done = await take(session, path)

        assert done.notes[-1] == (
            "hamlets: 2 got their point, 2 had one, 1 not known (--open-hamlets opens them), "
            "0 not clear which is meant, 1 outside the province or with too long a name"
        )
        found = await hamlets_in(session, make.COMMUNE)
        assert set(found) == {"Thôn Nà Ít", "Bản Súng", "Tổ 8", "Thôn Có"}
        assert (found["Thôn Nà Ít"].lon, found["Thôn Nà Ít"].file_name) == (lon, "a.osm.pbf")
        assert found["Bản Súng"].lon == pytest.approx(lon + 0.001)
        assert found["Tổ 8"].lon is None
        assert (found["Thôn Có"].lat, found["Thôn Có"].file_name) == (round(there["lat"], 7), "h.csv")

        opened = await take(session, path, open_unknown=True)

        assert "1 opened" in opened.notes[-1]
        found = await hamlets_in(session, make.COMMUNE)
        assert (found["Thôn 8"].lon, found["Thôn 8"].source) == (pytest.approx(lon + 0.002), "OpenStreetMap")

    async def test_a_newer_map_moves_only_the_hamlets_whose_place_came_from_it(
        self, session: AsyncSession, tmp_path: Path
    ) -> None:
        await operations.open_hamlet(
            session, make.ADMIN, unit_code=make.COMMUNE, name="Thôn Nà Ít", since=None, today=today()
        )
        lon, lat = await middle_of(session)
        for number in (1, 2):
            world = Map()
            world.node((lon, lat + number / 1000), place="hamlet", name="Nà Ít")
            await take(session, world.write(tmp_path / f"{number}.osm.pbf"))

        found = (await hamlets_in(session, make.COMMUNE))["Thôn Nà Ít"]
        assert (found.lat, found.file_name) == (pytest.approx(lat + 0.002), "2.osm.pbf")

    async def test_namesakes_are_told_apart_by_the_former_commune_around_the_node(
        self, session: AsyncSession, tmp_path: Path
    ) -> None:
        rows = [await a_row(session, "Thôn Nà Ít", unit) for unit in (VI_HUONG, LUC_BINH)]
        csv = write_csv(tmp_path / "h.csv", [{**row, "lon": "", "lat": ""} for row in rows])
        await import_hamlets(session, csv, source="x", licence="y", as_of=None, today=today())
        world = Map()
        world.node((rows[1]["lon"], rows[1]["lat"]), place="hamlet", name="Nà Ít")
        lon, lat = await middle_of(session, "01969", on=date(2020, 3, 1))  # the old town, which has none of that name
        world.node((lon, lat), place="hamlet", name="Nà Ít")

        done = await take(session, world.write(tmp_path / "a.osm.pbf"))

        assert "1 got their point" in done.notes[-1]
        assert "1 not clear" in done.notes[-1]
        found = await hamlets_in(session, make.COMMUNE)
        assert found["Thôn Nà Ít (Lục Bình)"].lat == pytest.approx(rows[1]["lat"])
        assert found["Thôn Nà Ít (Vi Hương)"].lat is None

    async def test_a_name_that_the_commune_had_for_a_time_is_not_opened_over_it(
        self, session: AsyncSession, tmp_path: Path
    ) -> None:
        old = await operations.open_hamlet(
            session, make.ADMIN, unit_code=make.COMMUNE, name="Thôn Xưa", since=date(2025, 8, 1), today=today()
        )
        await operations.rename_hamlet(
            session, make.ADMIN, unit_code=make.COMMUNE, hamlet_id=old.id, name="Thôn Nay", on=None, today=today()
        )
        world = Map()
        world.node(await middle_of(session), place="hamlet", name="Xưa")

        done = await take(session, world.write(tmp_path / "a.osm.pbf"), open_unknown=True)

        assert "1 opened" in done.notes[-1]
        unit = await unit_on(session, make.COMMUNE, today())
        assert unit is not None
        names = (await session.scalars(select(Hamlet.name).where(Hamlet.unit_id == unit.id))).all()
        assert sorted(names) == ["Thôn Nay", "Thôn Xưa", "Xưa"]

    @pytest.mark.parametrize(
        ("one", "other", "same"),
        [
            ("Thôn Nà Ít", "Nà Ít", True),
            ("Bản Súng", "thôn sung", True),
            ("Tổ dân phố Pá Danh", "Khu Pá Danh", True),
            ("Tổ 8", "Thôn 8", False),
            ("Tổ 8A", "8a", True),
            ("Thôn", "Thôn", True),
            ("Bản", "Thôn", False),
        ],
    )
    def test_the_kind_of_a_hamlet_is_no_part_of_its_name_unless_that_is_a_number(
        self, one: str, other: str, *, same: bool
    ) -> None:
        assert (bare_key(one) == bare_key(other)) is same


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.osm.pbf", b"", "cannot be read"),
        ("a.osm.pbf", b"garbage" * 100, "cannot be read"),
        ("a.txt", b"hello", "cannot be read"),
        ("a.osm", b"<osm version='0.6'></osm>", "holds nothing with a name in or near Bắc Kạn"),
        ("a.osm", b"<osm version='0.6'><node", "cannot be read"),
    ],
)
async def test_a_file_that_is_none_is_refused_with_a_sentence(
    session: AsyncSession, tmp_path: Path, name: str, content: bytes, told: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(Invalid, match=told):
        await take(session, path)


async def test_without_osmium_a_sentence_says_what_to_install(
    session: AsyncSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def missing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "osmium":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(Invalid, match=r"pip install bkapp\[osm\]"):
        await take(session, tmp_path / "a.osm.pbf")


async def test_before_there_are_boundaries_nothing_can_be_placed(session: AsyncSession, tmp_path: Path) -> None:
    await session.execute(text("UPDATE admin_unit SET boundary = NULL, boundary_quality = NULL"))
    with pytest.raises(Invalid, match="bkapp migrate"):
        await take(session, tmp_path / "a.osm.pbf")


def test_the_command_tells_what_came_of_a_file(
    own_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def middle_there() -> Position:
        engine = open_engine(own_database, pool_size=1)
        try:
            async with sessions_of(engine)() as session:
                return await middle_of(session)
        finally:
            await engine.dispose()

    world = Map()
    lon, lat = asyncio.run(middle_there())
    world.node((lon, lat), amenity="school", name="Trường")
    world.node((lon, lat), place="hamlet", name="Nà Ít")
    path = world.write(tmp_path / "a.osm.pbf")
    table = write_csv(tmp_path / "p.csv", [{"name": n, "lon": lon, "lat": lat, "source_id": n} for n in ("Chợ", "")])
    monkeypatch.setenv("DATABASE_URL", own_database)
    monkeypatch.setenv("BKAPP_DEMO", "1")

    done = CliRunner().invoke(main, ["import", "osm", str(path), "--open-hamlets"])
    places = CliRunner().invoke(
        main, ["import", "places", str(table), "--source", "OpenStreetMap", "--licence", "x", "--complete"]
    )

    assert (done.exit_code, places.exit_code) == (0, 0)
    assert done.stderr.startswith("1 rows: 1 imported, 0 changed, 0 were there, 0 refused\n")
    assert "hamlets: 0 got their point, 0 had one, 1 opened" in done.stderr
    assert places.stderr == "2 rows: 1 imported, 0 changed, 0 were there, 1 gone, 1 without a name, 0 refused\n"


places = st.tuples(st.floats(105.5, 106), st.floats(21.9, 22.6))


@given(st.lists(places, min_size=2, max_size=8))
def test_the_middle_of_a_line_is_half_its_length_from_either_end(line: list[Position]) -> None:
    found = middle(line)
    before = [length([*line[:n], found]) for n in range(1, len(line)) if _between(line[n - 1], found, line[n])]
    assert any(metres == pytest.approx(length(line) / 2, rel=0.01, abs=1) for metres in before)


def _between(one: Position, place: Position, other: Position) -> bool:
    return metres_between(*one, *place) + metres_between(*place, *other) <= metres_between(*one, *other) * 1.001 + 1


@given(
    st.dictionaries(st.sampled_from(["name", "name:vi", "ref", "highway", "amenity", "office"]), st.text(max_size=20))
)
def test_any_tags_have_ids_that_are_stable_and_names_with_a_key(tags: dict[str, str]) -> None:
    for name in road_names(tags):
        assert name.id == road_id(name.name)
        assert name.name
    assert is_poi(tags) in {True, False}


@given(st.text(max_size=30))
def test_a_name_without_its_kind_is_the_end_of_the_name_and_never_empty(name: str) -> None:
    assert key(name).endswith(bare_key(name))
    assert bool(bare_key(name)) is bool(key(name))
