"""The geocoder on the register: names and houses from the database, over HTTP, and what it tells to whom."""

import csv
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
from httpx import AsyncClient
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.models import DataRead
from bkapp.address import codes, operations
from bkapp.address.geocoding.results import MatchLevel
from bkapp.address.operations import Door
from bkapp.address.operations.finding import open_finder
from bkapp.address.pluscodes import encode
from bkapp.db import Sessions
from bkapp.http import today
from bkapp.units.boundaries import import_boundaries
from tests import make
from tests.address.geocoding.provinces import HERE

WRITTEN = "số 14, thôn Nà Ít, xã Phủ Thông"


async def a_hamlet(session: AsyncSession, name: str = "Thôn Nà Ít", unit: str = make.COMMUNE) -> None:
    await operations.open_hamlet(session, make.ADMIN, unit_code=unit, name=name, since=None, today=today())


async def a_home(session: AsyncSession, number: str = "14", *, north: float = 0, **door: Any) -> Any:
    if not await session.scalar(text("SELECT 1 FROM hamlet WHERE name = 'Thôn Nà Ít'")):
        await a_hamlet(session)
    return await make.an_address(
        session, hamlet="Thôn Nà Ít", north=north, door=Door(number, **{"street": None, **door}), since=today()
    )


async def geocode(client: AsyncClient, q: str, path: str = "geocode", **more: Any) -> dict[str, Any]:
    response = await client.get(f"/api/v1/{path}", params={"q": q, **more})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def first(client: AsyncClient, q: str, path: str = "geocode", **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = (await geocode(client, q, path, **more))["features"][0]
    return found


async def test_a_home_is_found_at_its_hamlet_and_its_code_and_door_are_not_told(
    client: AsyncClient, session: AsyncSession
) -> None:
    home = await a_home(session)
    await session.commit()

    feature = await first(client, WRITTEN)

    told = feature["properties"]["geocoding"]
    assert (told["level"], told["type"]) == ("house", "house")
    assert (told["housenumber"], told["locality"], told["city"]) == ("14", "Thôn Nà Ít", "Xã Phủ Thông")
    assert told["citycode"] == make.COMMUNE
    assert told["state"] == "Tỉnh Thái Nguyên"
    assert told["score"] > 0.95
    assert "code" not in told
    assert home.code not in str(feature)
    exact = (await session.execute(text("SELECT ST_X(point::geometry), ST_Y(point::geometry) FROM dwelling"))).one()
    assert feature["geometry"]["coordinates"] != pytest.approx(list(exact), abs=1e-4)
    assert told["accuracy"] >= 500


async def test_an_officer_of_the_commune_sees_code_and_door_and_that_is_recorded(
    client: AsyncClient, session: AsyncSession
) -> None:
    home = await a_home(session)
    key = await make.a_key(session, unit=make.COMMUNE)
    elsewhere = await make.a_key(session, unit="02083")
    await session.commit()
    url = "/api/v1/geocode"

    mine = (await client.get(url, params={"q": WRITTEN}, headers=make.auth(key))).json()["features"][0]
    theirs = (await client.get(url, params={"q": WRITTEN}, headers=make.auth(elsewhere))).json()["features"][0]

    assert mine["properties"]["geocoding"]["code"] == home.code
    assert mine["properties"]["geocoding"]["exact"] is True
    assert "code" not in theirs["properties"]["geocoding"]
    reads = (await session.scalars(select(DataRead).where(DataRead.subject == home.code))).all()
    assert [read.what for read in reads] == ["/api/v1/geocode"]


async def test_a_hamlet_of_few_homes_gives_none_away_and_one_of_more_is_in_their_middle(
    client: AsyncClient, session: AsyncSession
) -> None:
    commune = (
        await session.execute(
            text("""
                SELECT ST_X(point::geometry), ST_Y(point::geometry) FROM admin_unit
                WHERE code = :code AND valid_to IS NULL
            """),
            {"code": make.COMMUNE},
        )
    ).one()
    for number in range(4):
        await a_home(session, str(number + 1), north=20 * number)
    await session.commit()
    finder = client._transport.app._inner.state.finder  # type: ignore[attr-defined]

    few = (await first(client, "thôn Nà Ít, xã Phủ Thông"))["geometry"]["coordinates"]
    await a_home(session, "5", north=80)
    await session.commit()
    finder._gazetteer = None
    more = (await first(client, "thôn Nà Ít, xã Phủ Thông"))["geometry"]["coordinates"]

    assert few == pytest.approx(list(commune), abs=1e-6)
    place = await make.a_place(session)
    assert more == pytest.approx([round(place.lon * 200) / 200, round(place.lat * 200) / 200], abs=0.0051)
    assert [round(number * 200, 6) % 1 for number in more] == [0, 0]


async def test_a_retired_home_is_not_found(client: AsyncClient, session: AsyncSession) -> None:
    home = await a_home(session)
    await operations.retire(session, make.ADMIN, home.code, reason="đã phá dỡ", on=None, today=today())
    await session.commit()

    told = (await first(client, WRITTEN))["properties"]["geocoding"]

    assert told["level"] == "hamlet"
    assert told["unmatched"] == ["số 14"]


@pytest.mark.parametrize("written", ["014", "14 ", "Số 14"])
async def test_house_numbers_meet_however_the_register_writes_them(
    client: AsyncClient, session: AsyncSession, written: str
) -> None:
    await a_home(session, written)
    await session.commit()

    assert (await first(client, WRITTEN))["properties"]["geocoding"]["level"] == "house"


@pytest.mark.parametrize(
    ("stored", "typed"),
    [
        ("14/2A ngõ 5", "14/2A ngõ 5, thôn Nà Ít, xã Phủ Thông"),
        ("5/14/2A", "số 14/2a ngõ 5, thôn Nà Ít"),
        ("14A", "14 A thôn Nà Ít"),
        ("Km 12+500", "Km12+500, thôn Nà Ít"),
    ],
)
async def test_house_numbers_of_many_parts_are_found(
    client: AsyncClient, session: AsyncSession, stored: str, typed: str
) -> None:
    await a_home(session, stored)
    await session.commit()

    told = (await first(client, typed))["properties"]["geocoding"]
    assert told["housenumber"] == stored


async def test_doors_of_one_number_are_ambiguous_and_streets_tell_them_apart(
    client: AsyncClient, session: AsyncSession
) -> None:
    await a_home(session, street="đường Trường Chinh")
    await a_home(session, street="đường Hùng Vương", north=50)
    await session.commit()

    both = await geocode(client, "số 14 thôn Nà Ít", "wash")
    one = await first(client, "số 14 đường Hùng Vương, thôn Nà Ít, xã Phủ Thông")
    street = await first(client, "số 14 Trường Chinh, xã Phủ Thông")

    assert both["class"] == "C"
    assert one["properties"]["geocoding"]["street"] == "đường Hùng Vương"
    assert street["properties"]["geocoding"]["level"] == "house"


async def test_an_address_code_is_an_address(client: AsyncClient, session: AsyncSession) -> None:
    home = await a_home(session)
    await session.commit()

    told = (await first(client, f"giao đến {codes.display(home.code)}"))["properties"]["geocoding"]
    wrong = await geocode(client, "BK 482 719 345")
    unknown = await geocode(client, "BK 482 719 346")

    assert (told["level"], told["code"], told["locality"]) == ("house", home.code, "Thôn Nà Ít")
    assert "housenumber" not in told
    assert wrong["geocoding"]["reason"] == "wrong_code"
    assert unknown["geocoding"]["reason"] == "unknown_code"


async def test_a_hamlet_is_found_as_soon_as_the_names_are_asked_for_again(
    sessions: Sessions, session: AsyncSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bkapp.address.operations.finding.FRESH_SECONDS", 0)
    finder = open_finder(sessions)
    before = (await finder.find("thôn Nà Ít, xã Phủ Thông")).matches[0].level
    await a_hamlet(session)
    await session.commit()

    after = (await finder.find("thôn Nà Ít, xã Phủ Thông")).matches[0]

    assert before is MatchLevel.COMMUNE
    assert (after.level, after.hamlet) == (MatchLevel.HAMLET, "Thôn Nà Ít")


async def test_names_are_asked_for_once_a_second_at_most(sessions: Sessions, session: AsyncSession) -> None:
    finder = open_finder(sessions)
    first_ones = await finder.gazetteer()
    await a_hamlet(session)
    await session.commit()

    assert await finder.gazetteer() is first_ones


async def test_a_hamlets_former_name_and_commune_find_it(client: AsyncClient, session: AsyncSession) -> None:
    await session.execute(
        text("""
            INSERT INTO hamlet (unit_id, name, key, valid_from, valid_to, source)
            SELECT id, 'Thôn Nà Cũ', 'thon na cu', '2020-02-01', '2025-07-01', 'test'
            FROM admin_unit WHERE code = '01975'
        """)
    )
    await session.execute(
        text("""
            INSERT INTO hamlet (unit_id, name, key, valid_from, predecessor_id, source)
            SELECT u.id, 'Thôn Nà Ít', 'thon na it', '2025-07-01', h.id, 'test' FROM admin_unit u, hamlet h
            WHERE u.code = '01969' AND u.valid_to IS NULL
        """)
    )
    await session.commit()

    told = (await first(client, "thôn Nà Cũ, xã Vi Hương, huyện Bạch Thông"))["properties"]["geocoding"]

    assert told["locality"] == "Thôn Nà Ít"
    assert told["former"]["name"] == "Xã Vi Hương"
    assert told["district"] == "Huyện Bạch Thông"
    assert told["era"] == "before_2025"


# --- while typing, and washing ------------------------------------------------------------------------------------


async def test_autocomplete_finishes_names(client: AsyncClient, session: AsyncSession) -> None:
    await a_home(session)
    await session.commit()

    found = await geocode(client, "thon na i", "autocomplete")
    commune = await geocode(client, "phu th", "autocomplete")

    assert found["features"][0]["properties"]["geocoding"]["locality"] == "Thôn Nà Ít"
    assert commune["features"][0]["properties"]["geocoding"]["city"] == "Xã Phủ Thông"


async def test_washing_grades_and_says_what_differs(client: AsyncClient, session: AsyncSession) -> None:
    await a_home(session)
    await session.commit()

    exact = await geocode(client, WRITTEN, "wash")
    likely = await geocode(client, "số 14, thôn Nà Ítt, xã Phủ Thôgn", "wash")
    none = await geocode(client, "quận Cầu Giấy, Hà Nội", "wash")

    assert exact["class"] == "A"
    assert exact["result"]["address"]["housenumber"] == "14"
    assert likely["class"] == "B"
    assert {part["text"] for part in likely["result"]["differences"]} == {"Nà Ítt", "Phủ Thôgn"}
    assert (none["class"], none["result"], none["candidates"], none["reason"]) == ("C", None, [], "not_here")


# --- bad input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["geocode", "autocomplete", "wash"])
@pytest.mark.parametrize("q", ["", "   ", "\u200b", "x" * 401, "đ" * 10_000])
async def test_nothing_and_too_much_are_refused_clearly(client: AsyncClient, path: str, q: str) -> None:
    response = await client.get(f"/api/v1/{path}", params={"q": q})

    assert response.status_code == 422
    problem = response.json()
    assert problem["type"] == "/problems/invalid"
    assert problem["errors"][0]["pointer"] == "q"


@pytest.mark.parametrize(
    "q", ["😀😀", "'; DROP TABLE dwelling; --", "\x01\x02a\x7f", "%00", "../../etc/passwd", "NULL"]
)
async def test_what_is_no_address_gets_an_empty_collection_and_a_reason(client: AsyncClient, q: str) -> None:
    answer = await geocode(client, q)

    assert answer["features"] == []
    assert answer["geocoding"]["reason"] in {"no_name", "empty", "not_here"}


@pytest.mark.parametrize(
    ("lat", "lon", "words"),
    [(105.83, 22.14, "swapped"), (22.14, 222.0, "no point"), (-91.0, 10.0, "no point"), ("nan", 105, "")],
)
async def test_impossible_points_are_refused_with_the_reason(
    client: AsyncClient, lat: float, lon: float, words: str
) -> None:
    for path, params in (("reverse", {}), ("geocode", {"q": "Nà Ít"})):
        response = await client.get(f"/api/v1/{path}", params={"lat": lat, "lon": lon, **params})
        assert response.status_code in {400, 422}
        assert words in response.json()["detail"]


async def test_half_a_point_is_refused(client: AsyncClient) -> None:
    response = await client.get("/api/v1/geocode", params={"q": "Nà Ít", "lat": 22.1})

    assert response.status_code == 422
    assert response.json()["errors"] == [{"pointer": "lon", "detail": "missing"}]


async def test_a_point_outside_vietnam_is_refused_and_one_outside_the_province_is_empty(client: AsyncClient) -> None:
    paris = await client.get("/api/v1/reverse", params={"lat": 48.85, "lon": 2.35})
    hanoi = await client.get("/api/v1/reverse", params={"lat": 21.03, "lon": 105.85})

    assert paris.status_code == 422
    assert "outside Vietnam" in paris.json()["detail"]
    assert hanoi.status_code == 200
    assert hanoi.json()["features"] == []
    assert hanoi.json()["geocoding"]["reason"] == "outside"


# --- what is at a point -------------------------------------------------------------------------------------------


async def at(client: AsyncClient, lon: float, lat: float, **headers: str) -> dict[str, Any]:
    response = await client.get("/api/v1/reverse", params={"lat": lat, "lon": lon}, headers=headers)
    assert response.status_code == 200, response.text
    told: dict[str, Any] = response.json()["features"][0]["properties"]["geocoding"]
    return told


async def test_a_point_is_in_the_nearest_hamlet_and_the_home_is_for_officers(
    client: AsyncClient, session: AsyncSession
) -> None:
    home = await a_home(session)
    place = await make.a_place(session)
    await session.execute(
        text("UPDATE hamlet SET point = ST_SetSRID(ST_MakePoint(:lon, :lat), 4326) WHERE name = 'Thôn Nà Ít'"),
        {"lon": place.lon, "lat": place.lat + 0.002},
    )
    key = await make.a_key(session, unit=make.COMMUNE)
    elsewhere = await make.a_key(session, unit="02083")
    await session.commit()

    public = await at(client, place.lon, place.lat + 0.0005)
    officer = await at(client, place.lon, place.lat + 0.0005, **make.auth(key))
    other = await at(client, place.lon, place.lat + 0.0005, **make.auth(elsewhere))

    assert (public["level"], public["locality"]) == ("hamlet", "Thôn Nà Ít")
    assert public["distance"] == pytest.approx(166, abs=3)
    assert "housenumber" not in public
    assert other == public
    assert (officer["level"], officer["code"], officer["housenumber"]) == ("house", home.code, "14")
    assert officer["distance"] == pytest.approx(55, abs=3)
    reads = (await session.scalars(select(DataRead.what).where(DataRead.subject == home.code))).all()
    assert reads == ["/api/v1/reverse"]


async def test_where_a_home_is_changes_nothing_for_who_may_not_see_it(
    client: AsyncClient, session: AsyncSession
) -> None:
    """Else the line where the answer changes would lead to its door."""
    place = await make.a_place(session)
    around = [(place.lon + east, place.lat + north) for east in (-0.01, 0, 0.01) for north in (-0.01, 0, 0.01)]
    before = [await at(client, *point) for point in around]
    await a_home(session)
    await session.commit()

    assert [await at(client, *point) for point in around] == before


async def test_no_point_of_the_province_is_without_an_answer(client: AsyncClient, session: AsyncSession) -> None:
    points = await session.execute(
        text("""
            SELECT u.code, ST_X(p.geom), ST_Y(p.geom)
            FROM admin_unit u, ST_Dump(ST_GeneratePoints(u.boundary, 3, 7)) AS p
            WHERE u.level = 'commune' AND u.in_bac_kan AND u.valid_to IS NULL
        """)
    )
    for code, lon, lat in points.all():
        told = await at(client, lon, lat)
        assert told["level"] in {"hamlet", "commune"}
        assert told["citycode"] == code
        assert told["distance"] == 0


async def test_coordinates_and_plus_codes_are_addresses_too(client: AsyncClient, session: AsyncSession) -> None:
    place = await make.a_place(session)
    await session.commit()
    code = encode(place.lon, place.lat)

    for q in (f"{place.lat:.6f}, {place.lon:.6f}", code, f"{code[4:]} Phủ Thông, Bạch Thông, Bắc Kạn", f"{code[4:]}"):
        feature = await first(client, q)
        assert feature["properties"]["geocoding"]["level"] == "place"
        assert feature["properties"]["geocoding"]["citycode"] == make.COMMUNE
        assert feature["geometry"]["coordinates"] == pytest.approx([place.lon, place.lat], abs=0.0002)

    swapped = await geocode(client, f"{place.lon:.6f}, {place.lat:.6f}")
    assert "other way round" in swapped["geocoding"]["detail"]
    assert (await geocode(client, "48.85, 2.35"))["geocoding"]["reason"] == "outside"


async def test_written_points_lie_in_the_communes_that_official_boundaries_say(
    client: AsyncClient, session: AsyncSession, shared: Path
) -> None:
    await import_boundaries(
        session, shared / "nested_new_units_37.geojson", as_of=date(2025, 7, 1), source="test", licence="test"
    )
    await session.commit()
    with (HERE / "addresses.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["level"] == "place"]

    assert rows
    for row in rows:
        told = (await first(client, row["query"]))["properties"]["geocoding"]
        assert (told["level"], told["citycode"]) == ("place", row["new_code"]), row["query"]


# --- GeocodeJSON ---------------------------------------------------------------------------------------------------


async def test_answers_are_geocodejson(client: AsyncClient, session: AsyncSession) -> None:
    """What geocoder-tester reads: a FeatureCollection whose features have a point and ``properties.geocoding``."""
    await a_home(session)
    await session.commit()

    answer = await geocode(client, WRITTEN, lang="vi", limit=1)

    assert answer["type"] == "FeatureCollection"
    assert answer["geocoding"]["version"] == "0.1.0"
    assert len(answer["features"]) == 1
    feature = answer["features"][0]
    assert feature["type"] == "Feature"
    assert feature["geometry"]["type"] == "Point"
    assert {"type", "label", "name", "housenumber", "city", "state", "country"} <= set(
        feature["properties"]["geocoding"]
    )
    assert msgspec.json.decode(msgspec.json.encode(answer)) == answer


async def test_many_texts_are_answered_like_single_ones(sessions: Sessions, session: AsyncSession) -> None:
    home = await a_home(session)
    await session.commit()
    finder = open_finder(sessions)
    texts = [WRITTEN, "Bắc Kạn", "", "x" * 401, codes.display(home.code), "22.2, 105.9", "Hà Nội", WRITTEN.upper()]

    together = await finder.find_many(texts, limit=5)
    apart = [await finder.find(each) for each in texts]

    assert together == apart


async def test_the_page_for_people_finds_addresses_too(client: AsyncClient, session: AsyncSession) -> None:
    await a_home(session)
    await session.commit()

    home = await client.get("/tim", params={"q": WRITTEN})
    old = await client.get("/tim", params={"q": "xa vi huong, bach thong"})
    district = await client.get("/tim", params={"q": "huyện Ba Bể"})
    misspelt = await client.get("/tim", params={"q": "so 14 thon na iit, vi huong"})
    nothing = await client.get("/tim", params={"q": "Cầu Giấy, Hà Nội"})

    assert "Số 14, Thôn Nà Ít" in home.text
    assert "Số 14, Thôn Nà Ít" in misspelt.text
    assert "Xã Vi Hương" in old.text
    assert "nay là Xã Phủ Thông" in old.text
    assert "không còn từ 01/07/2025" in district.text
    assert "Không tìm thấy" in nothing.text


@pytest.mark.parametrize("code", ["X2222222+22", "XXXXXXXX+XX", "FXXXXXXX+XX", "CXXXXXXX+XX"])
async def test_a_plus_code_beyond_the_world_is_outside(client: AsyncClient, code: str) -> None:
    assert (await geocode(client, code))["geocoding"]["reason"] == "outside"


async def test_names_that_cannot_be_renewed_are_kept(
    sessions: Sessions, session: AsyncSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bkapp.address.operations.finding.FRESH_SECONDS", 0)
    finder = open_finder(sessions)
    names = await finder.gazetteer()
    await a_hamlet(session)
    await session.commit()

    async def broken(_: AsyncSession) -> None:
        raise KeyError(1)

    monkeypatch.setattr("bkapp.address.operations.finding.load_gazetteer", broken)
    with structlog.testing.capture_logs() as lines:
        kept = await finder.gazetteer()

    assert kept is names
    assert [line["event"] for line in lines] == ["names_not_renewed"]


@pytest.mark.parametrize("typed", ["14Đ", "14đ", "14 D"])
async def test_a_house_number_with_d_stroke_is_found(client: AsyncClient, session: AsyncSession, typed: str) -> None:
    await a_home(session, "14Đ")
    await session.commit()

    told = (await first(client, f"số {typed} thôn Nà Ít, xã Phủ Thông"))["properties"]["geocoding"]
    assert told["housenumber"] == "14Đ"
