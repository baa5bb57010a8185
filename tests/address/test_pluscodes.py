"""Plus Codes agree with the specification's own test data, and areas hide homes."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bkapp.address.pluscodes import ALPHABET, LENGTHS, area, encode, vpostcode

# latitude, longitude, digits, code: from test_data/encoding.csv of github.com/google/open-location-code (Apache 2.0).
PUBLISHED = [
    (20.375, 2.775, 6, "7FG49Q00+"),
    (20.3700625, 2.7821875, 10, "7FG49QCJ+2V"),
    (20.3701125, 2.782234375, 11, "7FG49QCJ+2VX"),
    (20.3701135, 2.78223535156, 13, "7FG49QCJ+2VXGJ"),
    (47.0000625, 8.0000625, 10, "8FVC2222+22"),
    (-41.2730625, 174.7859375, 10, "4VCPPQGP+Q9"),
    (0.5, -179.5, 4, "62G20000+"),
    (-89.5, -179.5, 4, "22220000+"),
    (-89.9999375, -179.9999375, 10, "22222222+22"),
    (0.5, 179.5, 4, "6VGX0000+"),
    (1, 1, 11, "6FH32222+222"),
    (90, 1, 4, "CFX30000+"),
    (92, 1, 4, "CFX30000+"),
    (90, 1, 10, "CFX3X2X2+X2"),
    (1, 180, 4, "62H20000+"),
    (1, 181, 4, "62H30000+"),
    (20.3701135, 362.78223535156, 13, "7FG49QCJ+2VXGJ"),
    (47.0000625, -711.9999375, 10, "8FVC2222+22"),
    (1.2, 3.4, 10, "6FH56C22+22"),
    (37.539669125, -122.375069724, 15, "849VGJQF+VX7QR3J"),
    (35.6, 3.033, 10, "8F75J22M+26"),
    (-2.804, 7.003, 13, "6F9952W3+C6222"),
    (2.5, -64.23, 11, "67JQGQ2C+222"),
    (80.0100000001, 58.57, 15, "CHGW2H6C+2222222"),
    (80.0099999999, 58.57, 15, "CHGW2H5C+X2RRRRR"),
    (-80.0099999999, 58.57, 15, "2HFWXHRC+2222222"),
    (-80.0100000001, 58.57, 15, "2HFWXHQC+X2RRRRR"),
    (38.1176000887231, 165.441989844555, 15, "8VC74C9R+2QX445C"),
    (-80.0, -360000000170.0, 2, "22000000+"),
    # From the README of the same repository.
    (47.365590, 8.524997, 10, "8FVC9G8F+6X"),
    (47.365590, 8.524997, 11, "8FVC9G8F+6XQ"),
]

BAC_KAN = (105.8345, 22.1470)

TEN_MILLIONTHS = 10_000_000
in_the_province = st.tuples(
    st.integers(105 * TEN_MILLIONTHS, 106 * TEN_MILLIONTHS), st.integers(21 * TEN_MILLIONTHS, 23 * TEN_MILLIONTHS)
)
anywhere = st.tuples(st.floats(-180, 180), st.floats(-90, 90))


@pytest.mark.parametrize(("lat", "lon", "digits", "code"), PUBLISHED)
def test_codes_equal_the_published_ones(lat: float, lon: float, digits: int, code: str) -> None:
    assert encode(lon, lat, digits) == code


@given(anywhere, st.sampled_from(sorted(LENGTHS)))
def test_every_point_on_earth_has_a_well_formed_code(point: tuple[float, float], digits: int) -> None:
    code = encode(*point, digits)

    assert code[8] == "+"
    assert len(code) == max(digits, 8) + 1
    assert set(code.replace("+", "").rstrip("0")) <= set(ALPHABET)
    assert len(code.replace("+", "").rstrip("0")) == digits


@given(anywhere)
def test_a_longer_code_begins_with_the_shorter_one(point: tuple[float, float]) -> None:
    assert encode(*point, 11).startswith(encode(*point, 10))
    assert encode(*point, 10).startswith(encode(*point, 8))


@given(in_the_province)
def test_the_area_is_the_same_all_over_its_cell_of_a_twentieth_degree(point: tuple[int, int]) -> None:
    lon, lat = (value / TEN_MILLIONTHS for value in point)
    middle = ((value // 500_000 * 500_000 + 250_000) / TEN_MILLIONTHS for value in point)

    assert area(lon, lat) == area(*middle)
    assert area(lon, lat).endswith("00+")


def test_a_vpostcode_is_the_postcode_and_seven_symbols_of_the_place() -> None:
    lon, lat = 8.524997, 47.365590

    assert vpostcode("23106", lon, lat) == "231069G8F6XQ"
    assert len(vpostcode("23106", *BAC_KAN)) == 12


@pytest.mark.parametrize("postcode", ["", "2310", "231067", "2310a", "２３１０６", "23 06"])
def test_what_is_no_postcode_makes_no_vpostcode(postcode: str) -> None:
    with pytest.raises(ValueError, match="five digits"):
        vpostcode(postcode, *BAC_KAN)


@pytest.mark.parametrize("digits", [0, 1, 3, 9, 16, -2])
def test_lengths_that_do_not_exist_are_refused(digits: int) -> None:
    with pytest.raises(ValueError, match="digits"):
        encode(*BAC_KAN, digits)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_point_needs_finite_numbers(bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        encode(bad, 22.0)
    with pytest.raises(ValueError, match="finite"):
        encode(105.0, bad)
