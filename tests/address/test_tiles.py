"""Maps: what is on a tile, who may see it, how long it keeps, and how large it gets."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from math import asinh, cos, pi, radians, tan
from pathlib import Path
from random import Random
from typing import Any

import mapbox_vector_tile
import pytest
from httpx import AsyncClient, Response
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event, func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from bkapp.access.models import DataRead
from bkapp.access.rules import Role
from bkapp.address import operations
from bkapp.address.models import Dwelling, Hamlet
from bkapp.address.operations import Door, Point
from bkapp.address.queries import tiles as queries
from bkapp.address.rules import PointSource
from bkapp.address.tiles import (
    COARSEST_SQUARE,
    FEWEST_HOMES,
    FINEST_SQUARE,
    LAYERS,
    MOST_BYTES,
    MOST_ZOOM,
    STEP,
    NoSuchTile,
    Tile,
    layer,
    shows_homes,
    tile,
)
from bkapp.http import today
from bkapp.units.boundaries import import_boundaries
from bkapp.units.names import key as name_key
from tests import make
from tests.conftest import ROOT, SHARED

MVT = "application/vnd.mapbox-vector-tile"
FOR_EVER = "public, max-age=31536000, immutable"
FOR_A_MINUTE = "public, max-age=60, must-revalidate"
BAC_KAN = (105.4247, 21.8044, 106.2658, 22.7432)

Homes = Sequence[tuple[float, float]]
Parts = dict[str, list[dict[str, Any]]]


def at(place: tuple[float, float], zoom: int) -> Tile:
    """The tile around a place."""
    lon, lat = place
    count = 1 << zoom
    return Tile(zoom, int((lon + 180) / 360 * count), int((1 - asinh(tan(radians(lat))) / pi) / 2 * count))


def above(place: tuple[float, float]) -> list[Tile]:
    return [at(place, zoom) for zoom in range(MOST_ZOOM + 1)]


def middle(square: Tile, across: float = 0.5, down: float = 0.5) -> tuple[float, float]:
    west, south, east, north = square.degrees()
    return west + (east - west) * across, north + (south - north) * down


# The middle of a finest square in Xã Phủ Thông.
HERE = middle(Tile(FINEST_SQUARE, 52042, 28605))


def path(name: str, square: Tile, version: int = 0) -> str:
    return f"/tiles/{name}/{version}/{square.z}/{square.x}/{square.y}.mvt"


def parts(body: bytes) -> Parts:
    """The layers of a tile: of each feature its properties and its place in the tile."""
    decoded = mapbox_vector_tile.decode(body, default_options={"y_coord_down": True})
    return {
        name: [{**found["properties"], "geometry": found["geometry"]} for found in part["features"]]
        for name, part in decoded.items()
    }


async def drawn(session: AsyncSession, name: str, square: Tile) -> bytes:
    return (await queries.draw(session, layer(name), square, today=today())).body


async def shown(session: AsyncSession, name: str, square: Tile) -> Parts:
    return parts(await drawn(session, name, square))


async def unit_id(session: AsyncSession, code: str = make.COMMUNE) -> int:
    found = await session.scalar(
        text("SELECT id FROM admin_unit WHERE code = :code AND valid_to IS NULL"), {"code": code}
    )
    assert isinstance(found, int)
    return found


_BUILD = text("""
    WITH made AS (
        INSERT INTO dwelling (code, began, area, status, unit_id, hamlet_id, house_number, point, point_source, is_demo)
        SELECT CAST(200000000 + :first + place AS text), :day, '7PH7CR00+', :status, :unit, :hamlet,
            CAST(place AS text), ST_SetSRID(ST_MakePoint(lon, lat), 4326)::geography, 'demo', true
        FROM unnest(CAST(:lons AS float8[]), CAST(:lats AS float8[])) WITH ORDINALITY AS home (lon, lat, place)
        RETURNING *
    )
    INSERT INTO address_event (seq, recorded_at, kind, code, revision, effective, actor, data)
    SELECT :first + row_number() OVER (ORDER BY m.code), now(), 'imported', m.code, 1, :day, 'test',
        jsonb_build_object('status', m.status, 'lon', ST_X(m.point::geometry), 'lat', ST_Y(m.point::geometry),
            'unit', jsonb_build_object('code', u.code, 'valid_from', u.valid_from),
            'hamlet', jsonb_build_object('id', m.hamlet_id))
    FROM made m JOIN admin_unit u ON u.id = m.unit_id
""")


async def build(
    session: AsyncSession, homes: Homes, *, unit: int | None = None, hamlet: int | None = None, status: str = "current"
) -> None:
    """Thousands of homes in a moment: rows and events as an import writes them, but for what no map looks at."""
    await session.execute(
        _BUILD,
        {
            "first": await session.scalar(text("SELECT seq FROM feed_head")),
            "day": date(2025, 7, 1),
            "status": status,
            "unit": unit or await unit_id(session),
            "hamlet": hamlet,
            "lons": [lon for lon, _ in homes],
            "lats": [lat for _, lat in homes],
        },
    )
    await session.execute(text("UPDATE feed_head SET seq = seq + :count"), {"count": len(homes)})


async def step(session: AsyncSession) -> None:
    """Let the public map move on, as it does by itself after so many changes."""
    await session.execute(text(f"UPDATE feed_head SET seq = (seq / {STEP} + 1) * {STEP}"))


async def a_hamlet(session: AsyncSession, name: str = "Thôn Nà Ít", point: tuple[float, float] | None = None) -> int:
    made = Hamlet(
        unit_id=await unit_id(session),
        name=name,
        key=name_key(name),
        valid_from=date(2025, 7, 1),
        source="test",
        point=f"SRID=4326;POINT({point[0]} {point[1]})" if point else None,
    )
    session.add(made)
    await session.flush()
    return made.id


def around(place: tuple[float, float], count: int, metres: float = 10) -> Homes:
    """Homes in a row to the east."""
    return [(place[0] + index * metres / 103_000, place[1]) for index in range(count)]


# --- what there is ----------------------------------------------------------------------------------------------


class TestUnits:
    async def test_a_tile_shows_the_communes_of_today_and_the_line_around_them(self, session: AsyncSession) -> None:
        found: Parts = {"units": [], "outline": []}
        for square in {at((lon, lat), 8) for lon in (105.5, 106.2) for lat in (21.9, 22.6)}:
            for name, features in (await shown(session, "units", square)).items():
                found[name] += features

        communes = {feature["code"]: feature for feature in found["units"]}
        assert len(communes) == 37
        assert communes[make.COMMUNE]["name"] == "Phủ Thông"
        assert communes[make.COMMUNE]["kind"] == "Xã"
        assert {feature["quality"] for feature in communes.values()} == {"approximate"}
        assert {feature["geometry"]["type"] for feature in found["units"]} <= {"Polygon", "MultiPolygon"}
        assert {feature["geometry"]["type"] for feature in found["outline"]} <= {"LineString", "MultiLineString"}

    async def test_the_communes_before_the_merger_have_a_map_too(self, session: AsyncSession) -> None:
        squares = {at((lon, lat), 9) for lon in (105.5, 105.8, 106.2) for lat in (21.9, 22.2, 22.6)}
        tiles = [await shown(session, "units-2020", square) for square in squares]
        old = [feature for found in tiles for feature in found.get("units", [])]

        assert len({feature["code"] for feature in old}) == 108
        assert {feature["kind"] for feature in old} == {"Xã", "Phường", "Thị trấn"}

    async def test_neighbours_meet_at_every_zoom(self, session: AsyncSession) -> None:
        """No gap opens and no land is claimed twice by more than what the grid of a tile does to a line."""
        for zoom in (8, 10, 12):
            square = at(HERE, zoom)
            inside = [feature["geometry"] for feature in (await shown(session, "units", square))["units"]]
            total = await session.scalar(
                text("SELECT sum(ST_Area(ST_GeomFromGeoJSON(shape))) FROM unnest(CAST(:shapes AS text[])) AS shape"),
                {"shapes": [json.dumps(shape) for shape in inside]},
            )
            together = await session.scalar(
                text("""SELECT ST_Area(ST_Union(ST_MakeValid(ST_GeomFromGeoJSON(shape))))
                        FROM unnest(CAST(:shapes AS text[])) AS shape"""),
                {"shapes": [json.dumps(shape) for shape in inside]},
            )
            assert total == pytest.approx(together, rel=0.001)

    async def test_a_commune_with_an_official_boundary_says_so(self, session: AsyncSession, shared: Path) -> None:
        before = await queries.about(session, layer("units"), today=today())
        await import_boundaries(
            session,
            shared / "nested_new_units_37.geojson",
            as_of=date(2025, 7, 1),
            source="Sở <Nội vụ>",
            licence="CC BY 4.0",
        )
        after = await queries.about(session, layer("units"), today=today())
        units = (await shown(session, "units", at(HERE, 11)))["units"]

        assert {feature["quality"] for feature in units} == {"official"}
        assert after.version > before.version
        assert (before.sources, after.sources) == (["Ranh giới gần đúng (bkapp)"], ["Sở <Nội vụ> (CC BY 4.0)"])

    async def test_the_map_changes_on_the_day_on_which_a_unit_ends(self, session: AsyncSession) -> None:
        """The act is in the register long before: nothing is written on the day."""
        whole = layer("units")
        last = await queries.draw(session, whole, at(HERE, 12), today=date(2025, 6, 30))
        first = await queries.draw(session, whole, at(HERE, 12), today=date(2025, 7, 1))
        later = await queries.draw(session, whole, at(HERE, 12), today=date(2025, 7, 2))

        assert last.version < first.version == later.version
        assert last.body != first.body == later.body


class TestHamlets:
    async def test_a_hamlet_stands_where_it_was_told_to(self, session: AsyncSession) -> None:
        hamlet = await a_hamlet(session, point=middle(at(HERE, 14), 0.25, 0.75))
        [found] = (await shown(session, "hamlets", at(HERE, 14)))["hamlets"]

        assert {name: found[name] for name in ("id", "name", "unit")} == {
            "id": hamlet,
            "name": "Thôn Nà Ít",
            "unit": make.COMMUNE,
        }
        assert "approximate" not in found
        assert found["geometry"]["coordinates"] == [1024, 3072]

    async def test_without_a_place_it_stands_in_the_middle_of_the_square_of_its_homes(
        self, session: AsyncSession
    ) -> None:
        hamlet = await a_hamlet(session)
        await build(session, around(HERE, FEWEST_HOMES), hamlet=hamlet)
        assert await drawn(session, "hamlets", at(HERE, 14)) == b""
        await step(session)

        [found] = (await shown(session, "hamlets", at(HERE, 16)))["hamlets"]

        assert (found["id"], found["approximate"]) == (hamlet, True)
        assert found["geometry"]["coordinates"] == [2048, 2048]

    async def test_a_hamlet_of_few_homes_and_no_place_is_not_on_the_map(self, session: AsyncSession) -> None:
        await build(session, around(HERE, FEWEST_HOMES - 1), hamlet=await a_hamlet(session))
        await step(session)

        assert [await drawn(session, "hamlets", square) for square in above(HERE)[10:]] == [b""] * 11

    async def test_below_zoom_10_communes_tell_how_many_they_have(self, session: AsyncSession) -> None:
        await a_hamlet(session, "Thôn Nà Ít")
        await a_hamlet(session, "Thôn Nà Mòn")

        [commune] = (await shown(session, "hamlets", at(HERE, 9)))["communes"]
        assert (commune["code"], commune["hamlets"]) == (make.COMMUNE, 2)


# --- homes, to anybody ------------------------------------------------------------------------------------------


async def cells(session: AsyncSession, homes: Homes) -> dict[Tile, int]:
    """All squares that are shown around some homes at all zooms, each with its homes.

    One square must say the same wherever it is shown.
    """
    found: dict[Tile, int] = {}
    for zoom in range(COARSEST_SQUARE, FINEST_SQUARE + 2):
        # a coarse square is shown at its middle, which may be tiles away from the home
        roots = {at(home, COARSEST_SQUARE) for home in homes}
        near = {at(home, zoom) for home in homes} | {at(middle(root), zoom) for root in roots}
        near |= {at(middle(at(home, coarse)), zoom) for home in homes for coarse in range(13, 17)}
        for square in near:
            for feature in (await shown(session, "addresses", square)).get("cells", []):
                x, y = feature["geometry"]["coordinates"]
                place = middle(square, x / 4096, y / 4096)
                cell = at(place, feature["cell_zoom"])
                assert found.setdefault(cell, feature["homes"]) == feature["homes"]
    return found


def expected(homes: Homes) -> dict[Tile, int]:
    """The same by the rule as it is written down, square by square from the coarsest."""
    finest = Counter(at(home, FINEST_SQUARE) for home in homes)

    def cut(square: Tile, inside: dict[Tile, int]) -> dict[Tile, int]:
        quarters: dict[Tile, dict[Tile, int]] = {}
        for small, count in inside.items():
            quarters.setdefault(small.above(square.z + 1), {})[small] = count
        if square.z == FINEST_SQUARE or any(sum(quarter.values()) < FEWEST_HOMES for quarter in quarters.values()):
            return {square: sum(inside.values())}
        return {cell: count for key, part in quarters.items() for cell, count in cut(key, part).items()}

    roots: dict[Tile, dict[Tile, int]] = {}
    for small, count in finest.items():
        roots.setdefault(small.above(COARSEST_SQUARE), {})[small] = count
    return {
        cell: count
        for root, inside in roots.items()
        if sum(inside.values()) >= FEWEST_HOMES
        for cell, count in cut(root, inside).items()
    }


def thrown(seed: int) -> Random:
    return Random(seed)  # noqa: S311  (dice that always fall the same)


def scattered(dice: Random, count: int) -> Homes:
    """Clusters and lone homes in and around one of the coarsest squares."""
    west, south, east, north = at(HERE, COARSEST_SQUARE).degrees()
    width, height = east - west, north - south
    homes: list[tuple[float, float]] = []
    while len(homes) < count:
        lon, lat = west + width * dice.uniform(-0.2, 1.2), south + height * dice.uniform(-0.2, 1.2)
        spread = dice.choice((0, 0.002, 0.02, 0.2))
        homes += [
            (lon + width * dice.gauss(0, spread), lat + height * dice.gauss(0, spread))
            for _ in range(dice.choice((1, 1, 2, 4, 5, 9, 20)))
        ]
    return homes[:count]


def close(place: tuple[float, float], zoom: int, lowest: int = 0) -> Iterable[Tile]:
    """The tiles around a place down to a zoom."""
    return (at(place, level) for level in range(lowest, zoom + 1))


class TestHomesToAnybody:
    @pytest.mark.parametrize("seed", range(12))
    async def test_wherever_homes_stand_only_squares_of_five_or_more_are_told(
        self, session: AsyncSession, seed: int
    ) -> None:
        dice = thrown(seed)
        homes = scattered(dice, dice.choice((3, 12, 40, 150)))
        await build(session, homes)
        await step(session)

        found = await cells(session, homes)

        assert found == expected(homes)
        assert all(count >= FEWEST_HOMES for count in found.values())
        # No square lies in another one, so no two counts can be subtracted from each other.
        assert not [
            (small, large) for small in found for large in found if small.z > large.z and small.above(large.z) == large
        ]

    @pytest.mark.parametrize("seed", range(4))
    async def test_where_in_its_square_a_home_stands_changes_no_tile(self, session: AsyncSession, seed: int) -> None:
        dice = thrown(seed)
        hamlet = await a_hamlet(session)
        homes = scattered(dice, 60)
        moved = [
            middle(at(home, FINEST_SQUARE), dice.uniform(0.001, 0.999), dice.uniform(0.001, 0.999)) for home in homes
        ]
        squares = {square for home in homes for square in above(home)}
        told = []
        for places in (homes, moved):
            async with session.begin_nested() as work:
                await build(session, places, hamlet=hamlet)
                await step(session)
                told.append(
                    [
                        await drawn(session, name, square)
                        for name in ("addresses", "hamlets")
                        for square in sorted(squares, key=lambda square: (square.z, square.x, square.y))
                    ]
                )
                await work.rollback()

        assert told[0] == told[1]
        assert any(told[0])

    async def test_a_lone_home_changes_no_tile_of_squares(self, session: AsyncSession) -> None:
        crowd, lone = around(HERE, 30), middle(at((106.1, 22.5), COARSEST_SQUARE), 0.3, 0.3)
        await build(session, crowd)
        await step(session)
        squares = [*above(lone), *above(HERE)]
        before = [await drawn(session, "addresses", square) for square in squares]

        await build(session, [lone], unit=await unit_id(session, "01936"))
        await step(session)

        assert [await drawn(session, "addresses", square) for square in squares] == before

    async def test_a_lone_home_beside_a_village_is_counted_with_it_and_told_apart_nowhere(
        self, session: AsyncSession
    ) -> None:
        square = at(HERE, COARSEST_SQUARE)
        village, lone = around(middle(square, 0.1, 0.1), 30, metres=1), middle(square, 0.9, 0.9)
        await build(session, village)
        await step(session)
        assert [cell.z for cell in await cells(session, village)] == [16]

        await build(session, [lone])
        await step(session)

        assert await cells(session, [*village, lone]) == {square: 31}

    async def test_a_commune_is_counted_from_five_homes_on(self, session: AsyncSession) -> None:
        await build(session, around(HERE, FEWEST_HOMES - 1))
        await step(session)
        few = [await drawn(session, "addresses", square) for square in close(HERE, 11)]
        await build(session, [HERE])
        await step(session)

        assert few == [b""] * 12
        for square in close(HERE, 9):
            [commune] = (await shown(session, "addresses", square))["communes"]
            assert (commune["code"], commune["homes"]) == (make.COMMUNE, FEWEST_HOMES)

    async def test_proposed_and_ended_addresses_are_not_counted(self, session: AsyncSession) -> None:
        for status in ("proposed", "retired", "rejected"):
            await build(session, around(HERE, 10), status=status)
        await step(session)

        assert [await drawn(session, "addresses", square) for square in above(HERE)] == [b""] * (MOST_ZOOM + 1)

    async def test_the_map_stands_still_between_two_steps_of_the_feed(self, session: AsyncSession) -> None:
        """Otherwise whoever follows the feed would see in which square each new address is."""
        await build(session, around(HERE, STEP - 10))
        for made in [await make.an_address(session, north=20 * number) for number in range(5)]:
            assert made.code
        place = await make.a_place(session)
        squares = [*above(HERE), *above((place.lon, place.lat))]
        await step(session)
        before = [await queries.draw(session, layer("addresses"), square, today=today()) for square in squares]
        [first, second, *_] = await session.scalars(select(Dwelling.code).where(~Dwelling.is_demo))

        await make.an_address(session, north=500)
        await operations.retire(session, make.ADMIN, first, reason="demolished", on=today(), today=today())
        await operations.correct_point(
            session,
            make.ADMIN,
            second,
            point=Point(place.lon + 0.01, place.lat, PointSource.GPS, 5),
            unit_code=None,
            hamlet=None,
            reason="measured again",
            since=None,
            today=today(),
        )
        meanwhile = [await queries.draw(session, layer("addresses"), square, today=today()) for square in squares]
        await step(session)
        after = [await queries.draw(session, layer("addresses"), square, today=today()) for square in squares]

        assert meanwhile == before
        assert {drawn.version for drawn in after} == {before[0].version + 1000}
        assert [drawn.body for drawn in after] != [drawn.body for drawn in before]


# --- homes, to officers -----------------------------------------------------------------------------------------


async def get(client: AsyncClient, address: str, key: str | None = None, **headers: str) -> Response:
    return await client.get(address, headers={**headers, **({"Authorization": f"Bearer {key}"} if key else {})})


class TestHomesToOfficers:
    async def test_an_officer_sees_the_homes_of_the_unit_and_that_is_recorded(
        self, client: AsyncClient, session: AsyncSession
    ) -> None:
        made = await make.an_address(session, door=Door(house_number="14A"))
        proposed = await make.an_address(session, north=20, current=False)
        key = await make.a_key(session, unit=make.COMMUNE)
        await session.commit()
        place = await make.a_place(session)
        square = at((place.lon, place.lat), 16)

        answer = await get(client, path("addresses", square), key)

        homes = {home["code"]: home for home in parts(answer.content)["homes"]}
        assert homes[made.code]["house_number"] == "14A"
        assert {code: home["status"] for code, home in homes.items()} == {
            made.code: "current",
            proposed.code: "proposed",
        }
        assert "house_number" not in homes[proposed.code]
        x, y = homes[made.code]["geometry"]["coordinates"]
        assert middle(square, x / 4096, y / 4096) == pytest.approx((place.lon, place.lat), abs=2e-6)
        assert answer.headers["cache-control"] == "private, no-store"
        assert {"Authorization", "Cookie"} <= {*answer.headers["vary"].split(", ")}
        [read] = await session.scalars(select(DataRead))
        assert (read.reader, read.subject) == (key.split("_")[1], f"addresses/{square.z}/{square.x}/{square.y}")
        assert read.what == "/tiles/{layer}/{version}/{z}/{x}/{row}"
        assert read.request_id == answer.headers["x-request-id"]

    async def test_the_documentation_tells_how_to_find_who_saw_a_home_on_a_map(
        self, client: AsyncClient, session: AsyncSession
    ) -> None:
        made = await make.an_address(session)
        place = await make.a_place(session)
        key = await make.a_key(session)
        await session.commit()
        seen = [at((place.lon, place.lat), zoom) for zoom in (14, 17, 20)]
        for square in [*seen, Tile(17, seen[1].x + 1, seen[1].y)]:
            await get(client, path("addresses", square), key)

        maps = (ROOT / "docs/registry.md").read_text().partition("## Maps")[2]
        question = maps.partition('psql -c "')[2].partition('"')[0].replace("103183132", made.code)
        reads = await session.execute(text(question))

        assert [read.subject for read in reads] == [f"addresses/{square.z}/{square.x}/{square.y}" for square in seen]

    async def test_a_key_reaches_only_homes_of_its_unit(self, client: AsyncClient, session: AsyncSession) -> None:
        ours, theirs = around(HERE, 3), around((HERE[0], HERE[1] + 0.0003), 4)
        await build(session, ours)
        await build(session, theirs, unit=await unit_id(session, "01936"))
        keys = {
            "officer": await make.a_key(session, unit=make.COMMUNE),
            "stranger": await make.a_key(session, unit="01954"),
            "monitor": await make.a_key(session, role=Role.MONITOR),
        }
        await session.commit()

        seen = {
            who: len(parts((await get(client, path("addresses", at(HERE, 14)), key)).content).get("homes", []))
            for who, key in keys.items()
        }

        assert seen == {"officer": 3, "stranger": 0, "monitor": 7}
        readers = set(await session.scalars(select(DataRead.reader)))
        assert readers == {keys["officer"].split("_")[1], keys["monitor"].split("_")[1]}

    @pytest.mark.parametrize("zoom", [9, 12, 13])
    async def test_below_zoom_14_a_key_shows_nothing_more(
        self, client: AsyncClient, session: AsyncSession, zoom: int
    ) -> None:
        await build(session, around(HERE, 20))
        await step(session)
        key = await make.a_key(session)
        await session.commit()

        mine = await get(client, path("addresses", at(HERE, zoom)), key)
        anybodys = await get(client, path("addresses", at(HERE, zoom)))

        assert mine.content == anybodys.content
        assert mine.headers["cache-control"].startswith("public")
        assert not await session.scalar(select(func.count()).select_from(DataRead))

    async def test_without_a_key_no_home_is_told_and_caches_keep_the_two_apart(
        self, client: AsyncClient, session: AsyncSession
    ) -> None:
        await build(session, around(HERE, 20))
        await step(session)
        await session.commit()

        for square in above(HERE):
            answer = await get(client, path("addresses", square))
            assert "homes" not in parts(answer.content)
            assert b"2000000" not in answer.content
            assert {"Authorization", "Cookie"} <= {*answer.headers["vary"].split(", ")}

    async def test_a_bad_key_is_refused(self, client: AsyncClient) -> None:
        assert (await get(client, path("addresses", at(HERE, 16)), "bk_no_key")).status_code == 401

    async def test_a_home_is_in_one_tile_of_each_zoom(self, session: AsyncSession) -> None:
        edge = middle(at(HERE, 16), 0, 0.5)
        homes = [(edge[0] + offset, edge[1]) for offset in (-1e-7, 0, 1e-7)]
        await build(session, homes)
        right = at(HERE, 16)
        left = Tile(16, right.x - 1, right.y)

        counts = [(await queries.homes(session, square, unit_ids=None)).count for square in (left, right)]
        assert sum(counts) == 3
        assert min(counts) >= 1

    async def test_where_too_many_stand_they_are_counted_in_parts_of_the_tile(self, session: AsyncSession) -> None:
        square = at(HERE, 14)
        crowd = [middle(square, x / 40 + 0.01, y / 40 + 0.01) for x in range(40) for y in range(40)]
        await build(session, crowd)

        shown = await queries.homes(session, square, unit_ids=None)

        counted = parts(shown.body)["homes"]
        assert shown.count == 1600
        assert sum(part["homes"] for part in counted) == 1600
        assert len(counted) <= 256
        assert not [part for part in counted if "code" in part]
        nearer = await queries.homes(session, at(middle(square, 0.6, 0.6), 16), unit_ids=None)
        assert len(parts(nearer.body)["homes"]) == nearer.count > 50


# --- HTTP -------------------------------------------------------------------------------------------------------


class TestAnswers:
    async def test_a_tile_of_the_present_version_keeps_for_ever_and_others_for_a_minute(
        self, client: AsyncClient
    ) -> None:
        description = (await client.get("/tiles/units.json")).json()
        [template] = description["tiles"]
        square = at(HERE, 11)
        address = template.replace("{z}", "11").replace("{x}", str(square.x)).replace("{y}", str(square.y))

        present = await client.get(address)
        old = await client.get(path("units", square, 1))

        assert present.status_code == old.status_code == 200
        assert present.headers["content-type"] == MVT
        assert present.headers["cache-control"] == FOR_EVER
        assert old.headers["cache-control"] == FOR_A_MINUTE
        assert present.content == old.content
        assert {feature["code"] for feature in parts(present.content)["units"]} >= {make.COMMUNE}

    @pytest.mark.parametrize(
        ("name", "change"),
        [
            ("units", "UPDATE admin_unit SET name = name || '' WHERE code = '01969'"),
            ("hamlets", "UPDATE gazetteer_head SET version = version + 1"),
            ("hamlets", f"UPDATE feed_head SET seq = seq + {STEP}"),
            ("addresses", f"UPDATE feed_head SET seq = seq + {STEP}"),
        ],
    )
    async def test_a_change_makes_new_addresses_for_tiles(
        self, client: AsyncClient, session: AsyncSession, name: str, change: str
    ) -> None:
        before = (await client.get(f"/tiles/{name}.json")).json()
        await session.execute(text(change))
        await session.commit()
        after = (await client.get(f"/tiles/{name}.json")).json()

        assert before["tiles"] != after["tiles"]
        assert before["version"] != after["version"]

    async def test_a_few_changes_of_addresses_do_not_empty_peoples_caches(
        self, client: AsyncClient, session: AsyncSession
    ) -> None:
        before = [(await client.get(f"/tiles/{name}.json")).content for name in LAYERS]
        await make.an_address(session)
        await session.commit()

        assert [(await client.get(f"/tiles/{name}.json")).content for name in LAYERS] == before

    async def test_who_has_a_tile_is_not_sent_it_again(self, client: AsyncClient) -> None:
        address = path("units", at(HERE, 10))
        first = await client.get(address)
        again = await get(client, address, **{"If-None-Match": first.headers["etag"]})
        one_of = await get(client, address, **{"If-None-Match": f'"other", W/{first.headers["etag"]}'})
        another = await get(client, address, **{"If-None-Match": '"other"'})

        assert (again.status_code, again.content) == (304, b"")
        assert one_of.status_code == 304
        assert another.status_code == 200
        for header in ("etag", "cache-control", "vary"):
            assert again.headers[header] == first.headers[header]
        assert "content-encoding" not in again.headers

    async def test_tiles_are_compressed_for_who_takes_that_and_named_apart(self, client: AsyncClient) -> None:
        address = path("units", at(HERE, 8))
        packed = await get(client, address, **{"Accept-Encoding": "br;q=1.0, gzip;q=0.8"})
        plain = await get(client, address, **{"Accept-Encoding": "identity"})
        declined = await get(client, address, **{"Accept-Encoding": "gzip;q=0"})
        whole = await get(client, address, **{"Accept-Encoding": "identity", "If-None-Match": packed.headers["etag"]})

        assert packed.headers["content-encoding"] == "gzip"
        assert int(packed.headers["content-length"]) < len(plain.content) * 0.7
        assert packed.content == plain.content
        assert "content-encoding" not in plain.headers
        assert "content-encoding" not in declined.headers
        assert packed.headers["etag"] != plain.headers["etag"]
        assert not packed.headers["etag"].startswith("W/")
        assert "Accept-Encoding" in plain.headers["vary"]
        assert whole.status_code == 200

    async def test_what_is_small_is_not_compressed(self, client: AsyncClient) -> None:
        answer = await get(client, path("units", at(HERE, 16)), **{"Accept-Encoding": "gzip"})
        assert 0 < len(answer.content) < 500
        assert "content-encoding" not in answer.headers

    async def test_a_tile_with_nothing_in_it_is_empty_and_has_a_name(self, client: AsyncClient) -> None:
        for name in LAYERS:
            answer = await client.get(path(name, Tile(12, 0, 0)))
            assert (answer.status_code, answer.content) == (200, b"")
            assert answer.headers["etag"]

    async def test_a_head_request_tells_the_same_without_the_tile(self, client: AsyncClient) -> None:
        address = path("units", at(HERE, 10))
        told, whole = await client.head(address), await client.get(address)

        assert told.content == b""
        assert told.headers["etag"] == whole.headers["etag"]
        assert told.headers["content-length"] == whole.headers["content-length"]

    @pytest.mark.parametrize("name", LAYERS)
    async def test_a_map_describes_itself_as_tilejson(self, client: AsyncClient, name: str) -> None:
        answer = await client.get(f"/tiles/{name}.json")
        described = answer.json()

        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["cache-control"] == FOR_A_MINUTE
        assert described["tilejson"] == "3.0.0"
        [template] = described["tiles"]
        version = int(template.split("/")[-4])
        assert template == f"http://bkapp.test/tiles/{name}/{version}/{{z}}/{{x}}/{{y}}.mvt"
        assert described["version"] == f"1.{version}.0"
        assert described["bounds"] == pytest.approx(BAC_KAN, abs=0.02)
        assert 0 <= described["minzoom"] < described["maxzoom"] <= MOST_ZOOM
        assert described["attribution"]
        assert all(part["id"] and "fields" in part for part in described["vector_layers"])

    async def test_an_attribution_is_html_and_holds_none_of_others(
        self, client: AsyncClient, session: AsyncSession
    ) -> None:
        await session.execute(
            text("""
                WITH file AS (
                    INSERT INTO boundary_source (file_name, sha256, source, licence, level, as_of, features)
                    VALUES ('x', 'x', '<script>alert(1)</script>', 'x', 'commune', '2025-07-01', 1) RETURNING id)
                UPDATE admin_unit u SET boundary_quality = 'official', boundary_source_id = file.id
                FROM file WHERE code = '01969' AND valid_to IS NULL
            """)
        )
        await session.commit()

        attribution = (await client.get("/tiles/units.json")).json()["attribution"]
        assert "&lt;script&gt;" in attribution
        assert "<" not in attribution

    async def test_fields_that_are_told_are_those_in_the_tiles(self, session: AsyncSession) -> None:
        hamlet = await a_hamlet(session)
        await build(session, around(HERE, 20), hamlet=hamlet)
        await step(session)
        for of in LAYERS.values():
            told = {part.id: set(part.fields) for part in of.holds}
            for square in above(HERE):
                found = await shown(session, of.name, square)
                if shows_homes(of, square):
                    found |= parts((await queries.homes(session, square, unit_ids=None)).body)
                for name, features in found.items():
                    [part] = [part for part in of.holds if part.id == name]
                    assert part.minzoom <= square.z <= part.maxzoom
                    for feature in features:
                        assert set(feature) - {"geometry"} <= told[name]

    @pytest.mark.parametrize(
        ("address", "detail"),
        [
            ("/tiles/roads/1/10/813/447.mvt", "units, units-2020, hamlets, addresses"),
            ("/tiles/roads.json", "units, units-2020, hamlets, addresses"),
            ("/tiles/units", "units.json"),
            ("/tiles/units.xml", "units.json"),
            ("/tiles/units/1/21/0/0.mvt", "0 to 20"),
            ("/tiles/units/1/-1/0/0.mvt", "whole numbers"),
            ("/tiles/units/x/10/813/447.mvt", "whole numbers"),
            ("/tiles/units/1/+10/813/447.mvt", "whole numbers"),
            ("/tiles/units/1_0/10/813/447.mvt", "whole numbers"),
            ("/tiles/units/01/10/813/447.mvt", "whole numbers"),
            ("/tiles/units/1/10/1024/0.mvt", "0 to 1023"),
            ("/tiles/units/1/10/0/1024.mvt", "0 to 1023"),
            ("/tiles/units/1/10/-1/0.mvt", "whole numbers"),
            ("/tiles/units/1/10/813/447.pbf", "its row and .mvt"),
            ("/tiles/units/1/10/813/447.mvt.mvt", "its row and .mvt"),
            ("/tiles/units/1/10/813/-1.mvt", "whole numbers"),
            ("/tiles/units/1/10/813/४४७.mvt", "whole numbers"),
            ("/tiles/units/1/10/813/0447.mvt", "whole numbers"),
            ("/tiles/units/1/10/813/99999999999999999999.mvt", "whole numbers"),
        ],
    )
    async def test_what_is_not_there_is_refused_with_what_is(
        self, client: AsyncClient, address: str, detail: str
    ) -> None:
        answer = await client.get(address)

        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["type"] == "/problems/no_such_tile"
        assert detail in answer.json()["detail"]

    @pytest.mark.parametrize("address", ["/tiles/units/1/10/813", "/tiles"])
    async def test_other_addresses_below_tiles_are_nothing(self, client: AsyncClient, address: str) -> None:
        answer = await client.get(address)
        assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not_found")


# --- size and speed ---------------------------------------------------------------------------------------------


async def a_full_province(session: AsyncSession) -> tuple[float, float]:
    """Six thousand homes in villages all over the province, and a town of three thousand; where the town is."""
    rows = await session.execute(
        text("""SELECT u.id, ST_X(p.geom), ST_Y(p.geom) FROM admin_unit u,
                    ST_Dump(ST_GeneratePoints(u.boundary, 12, 7)) AS p
                WHERE u.level = 'commune' AND u.in_bac_kan AND u.valid_to IS NULL ORDER BY u.id""")
    )
    dice = thrown(1)
    for number, (unit, lon, lat) in enumerate(rows.all()):
        hamlet = Hamlet(
            unit_id=unit,
            name=f"Thôn Khuổi Slưởn số {number}",
            key=f"{number}",
            valid_from=date(2025, 7, 1),
            source="test",
            point=f"SRID=4326;POINT({lon} {lat})" if number % 2 else None,
        )
        session.add(hamlet)
        await session.flush()
        homes = [(lon + dice.gauss(0, 0.004), lat + dice.gauss(0, 0.004)) for _ in range(13)]
        await build(session, homes, unit=unit, hamlet=hamlet.id)
    place = await make.a_place(session)
    town = [(place.lon + x * 0.0001, place.lat + y * 0.0001) for x in range(60) for y in range(50)]
    await build(session, town, hamlet=await a_hamlet(session, "Tổ 1"))
    await step(session)
    await session.execute(text("ANALYZE dwelling, hamlet, admin_unit, admin_unit_piece, address_event"))
    return place.lon, place.lat


async def every_tile(session: AsyncSession, name: str) -> Counter[int]:
    """The size of the largest tile of each zoom from 6 to 16, of all tiles that Bắc Kạn reaches into.

    From zoom 13 on nothing is simplified any more, so a quarter of a tile holds a part of what the tile holds; those
    of a small tile are left out.
    """
    largest: Counter[int] = Counter()
    squares = [Tile(0, 0, 0)]
    while squares:
        square = squares.pop()
        west, south, east, north = square.degrees()
        if west > BAC_KAN[2] or east < BAC_KAN[0] or south > BAC_KAN[3] or north < BAC_KAN[1]:
            continue
        size = homes = 0
        if square.z >= 6:
            size = len(await drawn(session, name, square))
        if name == "addresses" and square.z >= 14:
            single = await queries.homes(session, square, unit_ids=None)
            size, homes = size + len(single.body), single.count
        largest[square.z] = max(largest[square.z], size)
        crowded = size > 1_000 or homes > 30 or (name == "addresses" and square.z == 13 and size)
        if square.z < 13 or (square.z < 16 and crowded):
            squares += [Tile(square.z + 1, square.x * 2 + dx, square.y * 2 + dy) for dx in (0, 1) for dy in (0, 1)]
    return largest


@pytest.fixture
def statements(engine: AsyncEngine) -> Iterator[list[str]]:
    """What is sent to the database."""
    sent: list[str] = []

    def keep(_: Any, __: Any, statement: str, *___: Any) -> None:
        sent.append(statement)

    event.listen(engine.sync_engine, "before_cursor_execute", keep)
    yield sent
    event.remove(engine.sync_engine, "before_cursor_execute", keep)


class TestSize:
    @pytest.mark.slow
    async def test_no_tile_has_more_than_30_000_bytes(self, session: AsyncSession) -> None:
        for name, day in (
            ("nested_new_units_37.geojson", date(2025, 7, 1)),
            ("nested_old_communes_108.geojson", date(2025, 6, 30)),
        ):
            # approximate boundaries, where these are not here, have a tenth of their vertices
            if (SHARED / "data" / name).exists():
                await import_boundaries(session, SHARED / "data" / name, as_of=day, source="test", licence="test")
        await a_full_province(session)

        for name in LAYERS:
            largest = await every_tile(session, name)
            assert set(largest) >= set(range(14))
            assert 1000 < max(largest.values()) <= MOST_BYTES, (name, largest)

    async def test_names_too_long_for_a_tile_make_fewer_hamlets_and_not_a_cut_one(self, session: AsyncSession) -> None:
        unit = await unit_id(session)
        for number in range(400):
            lon, lat = middle(at(HERE, 14), number % 20 / 20, number // 20 / 20)
            name = f"{number:03} " + "Thôn Khuổi Slưởn " * 8
            session.add(
                Hamlet(
                    unit_id=unit,
                    name=name,
                    key=name,
                    valid_from=date(2025, 7, 1),
                    source="test",
                    point=f"SRID=4326;POINT({lon} {lat})",
                )
            )
        await session.flush()

        body = await drawn(session, "hamlets", at(HERE, 14))

        assert len(body) <= MOST_BYTES
        assert len(parts(body)["hamlets"]) == queries.MOST_HAMLETS // 16
        nearer = await drawn(session, "hamlets", at(HERE, 17))
        assert 0 < len(parts(nearer)["hamlets"]) < queries.MOST_HAMLETS // 16

    async def test_a_boundary_of_many_vertices_is_drawn_coarser(self, session: AsyncSession) -> None:
        lon, lat = HERE
        await session.execute(
            text("""
                UPDATE admin_unit SET boundary_quality = 'approximate', boundary = ST_Multi(ST_MakePolygon(ST_MakeLine(
                    ARRAY(SELECT ST_SetSRID(ST_MakePoint(
                              :lon + cos(2 * pi() * step / 12000) * (0.12 + 0.03 * (step % 2)),
                              :lat + sin(2 * pi() * step / 12000) * (0.12 + 0.03 * (step % 2))), 4326)
                          FROM generate_series(0, 12000) AS step))))
                WHERE code = '01969' AND valid_to IS NULL
            """),
            {"lon": lon, "lat": lat},
        )

        for zoom in (9, 10, 11):
            body = await drawn(session, "units", at(HERE, zoom))
            assert 0 < len(body) <= MOST_BYTES
            assert "units" in parts(body)

    async def test_homes_are_found_by_an_index(self, session: AsyncSession) -> None:
        town = await a_full_province(session)
        for force in ("force_custom_plan", "force_generic_plan"):
            await session.execute(text(f"SET LOCAL plan_cache_mode = {force}"))
            for zoom, statement in ((12, queries.CELLS), (14, queries.CELLS), (14, queries._HOMES)):
                square = at(town, zoom)
                root = square.above(COARSEST_SQUARE)
                values = {
                    **queries._place(square),
                    **queries._degrees(root, 0),
                    "day": today(),
                    "column": root.x,
                    "row": root.y,
                    "units": None,
                    "most": 600,
                }
                names = statement._bindparams
                plan = "\n".join(
                    line
                    for (line,) in await session.execute(
                        text(f"EXPLAIN {statement.text}"), {name: values[name] for name in names}
                    )
                )
                assert "ix_dwelling_point" in plan, plan
                assert "Seq Scan on dwelling" not in plan
                if statement is queries.CELLS:
                    assert "pk_address_event" in plan
                    assert "Seq Scan on address_event" not in plan

    async def test_a_tile_takes_one_statement(self, session: AsyncSession, statements: list[str]) -> None:
        await build(session, around(HERE, 20))
        statements.clear()
        for number, name in enumerate(LAYERS, start=1):
            await drawn(session, name, at(HERE, 14))
            assert len(statements) == number


# --- arithmetic -------------------------------------------------------------------------------------------------


@given(st.integers(0, MOST_ZOOM), st.data())
def test_the_middle_of_a_tile_lies_in_it_and_in_all_above(zoom: int, data: st.DataObject) -> None:
    last = (1 << zoom) - 1
    x, y = data.draw(st.integers(0, last)), data.draw(st.integers(0, last))
    found = tile(zoom, x, f"{y}.mvt")
    place = middle(found)
    west, south, east, north = found.degrees()

    assert found == Tile(zoom, x, y) == at(place, zoom)
    assert west < place[0] < east
    assert south < place[1] < north
    assert all(found.above(up) == at(place, up) for up in range(zoom + 1))
    assert found.above(MOST_ZOOM) == found


@given(st.text(max_size=12) | st.from_regex(r"\A[0-9]{1,8}\.mvt\Z"))
def test_only_a_row_of_digits_is_read(row: str) -> None:
    digits = row.removesuffix(".mvt")
    good = row != digits and digits.isascii() and digits.isdigit() and int(digits) < 1 << 20
    good = good and digits == str(int(digits))  # 7157 and 07157 are one tile, which has one address
    if good:
        assert tile(20, 0, row) == Tile(20, 0, int(digits))
    else:
        with pytest.raises(NoSuchTile):
            tile(20, 0, row)


def test_the_finest_square_is_as_wide_as_the_documentation_says() -> None:
    west, _, east, _ = at(HERE, FINEST_SQUARE).degrees()
    width = (east - west) * 111_320 * cos(radians(HERE[1]))
    assert round(width) == pytest.approx(566, abs=2)
