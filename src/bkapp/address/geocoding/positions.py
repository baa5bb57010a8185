"""Texts that are a place by themselves: coordinates, Plus Codes, address codes."""

import re
import unicodedata

from msgspec import Struct

from bkapp.address import codes, pluscodes

# Vietnam with its seas, generously: what lies outside is not an address here but a slip.
WEST, SOUTH, EAST, NORTH = 102.0, 6.0, 118.0, 24.0


class Position(Struct, frozen=True):
    """A point in degrees (WGS 84) as somebody wrote it; ``swapped`` when longitude stood first."""

    lon: float
    lat: float
    radius_m: float
    swapped: bool = False


class PlusCode(Struct, frozen=True):
    """A Plus Code in a text, and the text without it, which names the town that a short one needs."""

    code: str
    short: bool
    rest: str


class CodeText(Struct, frozen=True):
    """Nine digits that somebody wrote as an address code; ``code`` is None where its check digits disagree."""

    code: str | None
    written: str
    reason: str | None = None


def in_vietnam(lon: float, lat: float) -> bool:
    return WEST <= lon <= EAST and SOUTH <= lat <= NORTH


_DECIMAL = r"[-+]?\d{1,3}(?:\.\d+)?"
_PAIR = re.compile(
    rf"([NSEWnsew]?\s*{_DECIMAL})\s*°?\s*([NSEWnsew]?)\s*[,;/\s]\s*"
    rf"([NSEWnsew]?\s*{_DECIMAL})\s*°?\s*([NSEWnsew]?)"
)
_SAID = re.compile(
    r"(?:\b(?:lat(?:itude)?|lon(?:g|gitude)?|lng|vĩ độ|kinh độ|t[oọ]ạ? độ|gps)\b\s*[:=]?)", re.IGNORECASE
)
_IN_LINK = re.compile(r"(-?\d{1,3}\.\d{3,})(?:,|%2C|/)\s*(-?\d{1,3}\.\d{3,})", re.IGNORECASE)
_COMMAS = re.compile(r"(\d{1,3}),(\d{3,})\s*[;/\s]\s*(\d{1,3}),(\d{3,})")
_SEXAGESIMAL = re.compile(
    r"([NSEW])?\s*(\d{1,3})\s*[°ºd]\s*(?:(\d{1,2}(?:\.\d+)?)\s*['′’]\s*)?"
    r"(?:(\d{1,2}(?:\.\d+)?)\s*(?:\"|″|”|''|′′)\s*)?([NSEWBĐ])?",
    re.IGNORECASE,
)


def coordinates(text: str) -> Position | None:
    """The point that a text is: "22.147, 105.835", "22,147; 105,835", "22°08'49\"N 105°50'05\"E", either first; or
    the one in a link to a map."""
    if "://" in text:
        link = _IN_LINK.search(text)
        return _position(float(link[1]), float(link[2]), "", "") if link else None
    text = _SAID.sub(" ", text).strip().strip("()[]")
    commas = _COMMAS.fullmatch(text)
    if commas:
        return _position(float(f"{commas[1]}.{commas[2]}"), float(f"{commas[3]}.{commas[4]}"), "", "")
    pair = _PAIR.fullmatch(text)
    if pair and ("." in pair[1] or "." in pair[3]):
        first, second = (re.sub(r"[A-Za-z\s]", "", pair[group]) for group in (1, 3))
        signs = [(re.sub(r"[^A-Za-z]", "", pair[one]) + pair[two]).upper()[:1] for one, two in ((1, 2), (3, 4))]
        return _position(float(first), float(second), *signs)
    if "°" in text or "º" in text:
        parts = [part for part in _SEXAGESIMAL.finditer(text) if part[0].strip()]
        rest = _SEXAGESIMAL.sub("", text).strip(" ,;/")
        if len(parts) == 2 and not rest:
            numbers = [int(part[2]) + float(part[3] or 0) / 60 + float(part[4] or 0) / 3600 for part in parts]
            # B and Đ are Bắc (north) and Đông (east)
            signs = [((part[1] or part[5] or "").upper().replace("B", "N").replace("Đ", "E")) for part in parts]
            return _position(numbers[0], numbers[1], signs[0], signs[1])
    return None


def _position(first: float, second: float, first_sign: str, second_sign: str) -> Position | None:
    if first_sign in {"S", "W"}:
        first = -first
    if second_sign in {"S", "W"}:
        second = -second
    if first_sign in {"E", "W"} or second_sign in {"N", "S"}:
        return Position(first, second, 10)  # said by its letters, so nothing is swapped
    swapped = not in_vietnam(second, first) and in_vietnam(first, second)
    lon, lat = (first, second) if swapped else (second, first)
    if not (-180 <= lon <= 180 and -90 <= lat <= 90):
        return None
    return Position(lon, lat, 10, swapped)


_SIGNS = pluscodes.ALPHABET
_FULL = re.compile(rf"(?<![\w+])([{_SIGNS}]{{8}}\+[{_SIGNS}]{{2,5}})(?![\w+])", re.IGNORECASE)
_SHORT = re.compile(rf"(?<![\w+])([{_SIGNS}]{{4}}|[{_SIGNS}]{{6}})(\+[{_SIGNS}]{{2,3}})(?![\w+])", re.IGNORECASE)


def plus_code(text: str) -> PlusCode | None:
    """The Plus Code in a text, full or short: "CJ68+R59, Nam Mẫu, Ba Bể, Bắc Kạn"."""
    found = _FULL.search(text)
    short = found is None
    found = found or _SHORT.search(text)
    if found is None:
        return None
    rest = (text[: found.start()] + " " + text[found.end() :]).strip(" ,;-")
    return PlusCode(found[0].upper(), short, rest)


_BK_CODE = re.compile(r"(?<!\w)BK[\s.\-_:]*((?:\d[\s.\-_]?){8}\d)(?!\d)", re.IGNORECASE)
_NINE = re.compile(r"\s*(\d{3}[\s.\-]?\d{3}[\s.\-]?\d{3})\s*")


def address_code(text: str) -> CodeText | None:
    """The address code in a text: after BK anywhere, or nine digits that are all of it."""
    plain = unicodedata.normalize("NFKC", text)
    found = _BK_CODE.search(plain) or _NINE.fullmatch(plain)
    if found is None:
        return None
    written = found[0].strip()
    try:
        return CodeText(codes.parse(found[1]), written)
    except codes.WrongCode as error:
        return CodeText(None, written, str(error))
