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
