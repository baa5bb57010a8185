"""Coordinates, Plus Codes and address codes in texts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bkapp.address import codes, pluscodes
from bkapp.address.geocoding.positions import Position, address_code, coordinates, in_vietnam, plus_code

HERE = (105.8348, 22.147)


@pytest.mark.parametrize(
    "text",
    [
        "22.1470, 105.8348",
        "22.1470 105.8348",
        "(22.1470; 105.8348)",
        "22,1470; 105,8348",
        "N22.1470 E105.8348",
        "22.1470N, 105.8348E",
        "lat: 22.1470, lon: 105.8348",
        "vĩ độ 22.1470 kinh độ 105.8348",
        "22°08'49.2\"N 105°50'05.3\"E",
        "22°08′49.2″ 105°50′05.3″",
        "105°50'05.3\"Đ, 22°08'49.2\"B",
        "E105.8348 N22.1470",
        "https://maps.google.com/?q=22.1470,105.8348",
        "https://www.google.com/maps/@22.1470,105.8348,17z",
        "https://www.openstreetmap.org/#map=17/22.1470/105.8348",
    ],
)
def test_coordinates_are_read_in_their_usual_forms(text: str) -> None:
    found = coordinates(text)

    assert found is not None
    assert (found.lon, found.lat) == pytest.approx(HERE, abs=1e-4)
    assert not found.swapped


def test_longitude_first_is_read_and_told() -> None:
    assert coordinates("105.8348, 22.1470") == Position(105.8348, 22.147, 10, swapped=True)


@pytest.mark.parametrize(
    "text", ["14/2A", "12, 14", "Km 12+500", "22.147", "22.147, 105.83, 7", "999.1, 22.5", "14 5", ""]
)
def test_other_numbers_are_no_coordinates(text: str) -> None:
    assert coordinates(text) is None


@given(st.floats(-180, 179.99), st.floats(-90, 89.99), st.integers(10, 12))
def test_a_plus_codes_cell_holds_the_point_it_was_made_of(lon: float, lat: float, digits: int) -> None:
    code = pluscodes.encode(lon, lat, digits)
    cell = pluscodes.decode(code)

    assert abs(cell.lon - lon) <= cell.half_width * 1.0001
    assert abs(cell.lat - lat) <= cell.half_height * 1.0001
    assert pluscodes.encode(cell.lon, cell.lat, digits) == code


@given(
    st.floats(102, 110),
    st.floats(8, 24),
    st.sampled_from([(4, 0.45), (2, 9.0), (6, 0.02)]),
    st.floats(-1, 1),
    st.floats(-1, 1),
)
def test_a_short_plus_code_is_recovered_near_where_it_was_shortened(
    lon: float, lat: float, cut: tuple[int, float], east: float, north: float
) -> None:
    digits, reach = cut
    code = pluscodes.encode(lon, lat)

    assert pluscodes.recover(code[digits:], lon + reach * east, lat + reach * north) == code


@pytest.mark.parametrize("code", ["CR22+22", "7PH7CR22", "7PH7CR00+22", "7PH7CR2A+22", "+", "7PH7CR22+2"])
def test_what_is_no_full_plus_code_is_refused(code: str) -> None:
    with pytest.raises(ValueError, match="not a full Plus Code"):
        pluscodes.decode(code)


@pytest.mark.parametrize(
    ("text", "code", "short", "rest"),
    [
        ("CJ68+R59, Nam Mẫu, Ba Bể, Bắc Kạn", "CJ68+R59", True, "Nam Mẫu, Ba Bể, Bắc Kạn"),
        ("7pj74rwm+4w", "7PJ74RWM+4W", False, ""),
        ("nhà tôi ở 7PJ74RWM+4W nhé", "7PJ74RWM+4W", False, "nhà tôi ở   nhé"),
    ],
)
def test_plus_codes_are_found_in_texts(text: str, code: str, short: bool, rest: str) -> None:  # noqa: FBT001
    found = plus_code(text)

    assert found is not None
    assert (found.code, found.short, found.rest) == (code, short, rest)


def test_a_kilometre_post_is_no_plus_code() -> None:
    assert plus_code("Km 12+500 QL3") is None


def test_an_address_code_is_found_in_a_text_and_checked() -> None:
    code = codes.complete(4827193)
    assert code is not None
    right = address_code(f"nhà tôi {codes.display(code)}, gọi trước nhé")
    wrong = address_code("BK 482 719 345")

    assert right is not None
    assert right.code == code
    assert wrong is not None
    assert wrong.code is None
    assert address_code("thôn Nà Ít") is None
    assert address_code(code) is not None


def test_vietnam_is_where_it_is() -> None:
    assert in_vietnam(*HERE)
    assert not in_vietnam(HERE[1], HERE[0])
    assert not in_vietnam(2.35, 48.85)
