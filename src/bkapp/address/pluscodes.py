"""Plus Codes (Open Location Code) and the Vpostcode, computed from a point.

Both are functions of the position alone, so they are printed beside an address
code for navigation and are never a key: a re-survey changes them.

The rules are those of the Open Location Code specification
(github.com/google/open-location-code, Documentation/Specification): the world
is cut into cells of 20°, then five times into 20 x 20, then into 4 x 5.  They
are computed here on whole numbers, because floating point puts a point that
lies on the edge of a cell into the wrong one.
"""

import math
from decimal import Decimal
from typing import NamedTuple

ALPHABET = "23456789CFGHJMPQRVWX"
PAIR_DIGITS = 10
MOST_DIGITS = 15
AREA_DIGITS = 6
LENGTHS = frozenset({2, 4, 6, 8, *range(PAIR_DIGITS, MOST_DIGITS + 1)})

# One degree in the smallest steps there are: 20 cuts of 20 after the first 20°, then five of 5 rows and 4 columns.
_LAT_STEPS = 20**3 * 5**5
_LON_STEPS = 20**3 * 4**5


def encode(lon: float, lat: float, digits: int = PAIR_DIGITS) -> str:
    """The Plus Code of the cell around a point in degrees (WGS 84).

    10 digits are a cell of 1/8000° (about 13 x 14 m in Bắc Kạn), 11 digits one
    of 2.6 x 3.5 m; 2 to 8 digits are padded with zeros.  Longitudes are
    wrapped and latitudes clipped, as the specification asks.
    """
    if digits not in LENGTHS:
        raise ValueError(f"A Plus Code has 2, 4, 6, 8 or 10 to {MOST_DIGITS} digits, not {digits}.")
    if not (math.isfinite(lon) and math.isfinite(lat)):
        raise ValueError("A point needs two finite numbers.")
    row = min(max(_steps(lat, _LAT_STEPS) + 90 * _LAT_STEPS, 0), 180 * _LAT_STEPS - 1)
    column = (_steps(lon, _LON_STEPS) + 180 * _LON_STEPS) % (360 * _LON_STEPS)

    symbols: list[str] = []
    for _ in range(MOST_DIGITS - PAIR_DIGITS):
        row, in_row = divmod(row, 5)
        column, in_column = divmod(column, 4)
        symbols.append(ALPHABET[4 * in_row + in_column])
    for _ in range(PAIR_DIGITS // 2):
        row, in_row = divmod(row, 20)
        column, in_column = divmod(column, 20)
        symbols += [ALPHABET[in_column], ALPHABET[in_row]]
    code = "".join(reversed(symbols))[:digits].ljust(8, "0")
    return f"{code[:8]}+{code[8:]}"


class Cell(NamedTuple):
    """The middle of a Plus Code's cell in degrees, and how far it reaches from there."""

    lon: float
    lat: float
    half_width: float
    half_height: float


def decode(code: str) -> Cell:
    """The cell of a full Plus Code such as ``7PH7CR22+22``; ``ValueError`` where it is none, or a short one."""
    head, plus, tail = code.upper().partition("+")
    digits = head.rstrip("0") + tail
    if (
        plus != "+"
        or len(head) != 8
        or len(digits) not in LENGTHS
        or (tail and "0" in head)
        or any(sign not in ALPHABET for sign in digits)
    ):
        raise ValueError(f"{code} is not a full Plus Code.")
    row = column = 0
    rows, columns = 180 * _LAT_STEPS, 360 * _LON_STEPS
    height, width = 20 * _LAT_STEPS * 20, 20 * _LON_STEPS * 20
    for place in range(0, min(len(digits), PAIR_DIGITS), 2):
        height, width = height // 20, width // 20
        row += ALPHABET.index(digits[place]) * height
        column += ALPHABET.index(digits[place + 1]) * width
    for sign in digits[PAIR_DIGITS:]:
        height, width = height // 5, width // 4
        in_row, in_column = divmod(ALPHABET.index(sign), 4)
        row += in_row * height
        column += in_column * width
    if row >= rows or column >= columns:
        raise ValueError(f"{code} lies outside the world.")
    return Cell(
        (column + width / 2) / _LON_STEPS - 180,
        (row + height / 2) / _LAT_STEPS - 90,
        width / 2 / _LON_STEPS,
        height / 2 / _LAT_STEPS,
    )


def recover(short: str, lon: float, lat: float) -> str:
    """The full Plus Code that a short one such as ``CR22+22`` means near a point: the nearest of that ending.

    Open Location Code specification, "Recovering short codes"; ``ValueError`` where it is no short code.
    """
    head, plus, tail = short.upper().partition("+")
    if plus != "+" or len(head) not in {2, 4, 6} or any(sign not in ALPHABET for sign in head + tail):
        raise ValueError(f"{short} is not a short Plus Code.")
    missing = 8 - len(head)
    size = 20.0 ** (2 - missing // 2)
    near = encode(lon, lat, PAIR_DIGITS)[:missing]
    cell = decode(f"{near}{head}+{tail}")
    around_lat = min(
        (cell.lat + step for step in (-size, 0, size) if -90 <= cell.lat + step <= 90), key=lambda one: abs(one - lat)
    )
    around_lon = min((cell.lon + step for step in (-size, 0, size)), key=lambda one: abs(one - lon))
    return encode(around_lon, around_lat, len(head) + missing + len(tail))


def vpostcode(postcode: str, lon: float, lat: float) -> str:
    """The 12 characters of the Vpostcode: the commune's postcode of 2018 and the place in it.

    The place is the 11-digit Plus Code without its first four digits, which
    are the same all over the province, and without the plus sign.  VNPost
    publishes the principle (Open Location Code, cells of 3 x 3 m, 5 + 7
    characters), not the algorithm; this reading of it is ours.
    """
    if len(postcode) != 5 or not postcode.isascii() or not postcode.isdigit():
        raise ValueError("A postcode of 2018 has five digits.")
    return postcode + encode(lon, lat, PAIR_DIGITS + 1)[4:].replace("+", "")


def area(lon: float, lat: float) -> str:
    """The coarse cell that may be told to anybody, such as ``7PH7CR00+``.

    It is 0.05° wide and high, about 5.2 x 5.5 km in Bắc Kạn: larger than a
    hamlet, so it gives no home away.
    """
    return encode(lon, lat, AREA_DIGITS)


def _steps(degrees: float, steps: int) -> int:
    # The decimal number as people write it, not its binary neighbour: 20.3701135 is on an edge, its float below it.
    return math.floor(Decimal(repr(float(degrees))) * steps)
