"""A small map drawn as SVG, and the way back from a tapped pixel to the place it shows.  Pure.

The map is a picture of fixed size, because a browser without scripts says where on the *shown* picture somebody
tapped.  It is Web Mercator around a centre, like every other map, so north is up and a metre is as long everywhere
on it to within a thousandth.
"""

import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from html import escape
from math import asinh, atan, cos, degrees, pi, radians, sinh, tan

from msgspec import Struct

WIDTH, HEIGHT = 280, 320
"""Pixels, so that the map fits the narrowest telephone (320) with the page's margins."""
CLOSEST, WIDEST = 18, 10
START_ZOOM = 15
EARTH_RADIUS = 6_378_137.0
METRES_IN_A_DEGREE = 111_320.0
STEPS = (10, 50, 200)
"""By how many metres a button moves the pin."""
_WORLD = 256  # pixels of the whole world at zoom 0
_LONGEST_BAR = 90
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ufffe\uffff\ud800-\udfff]")


class LabelKind(StrEnum):
    """What a name on the map belongs to."""

    HAMLET = "hamlet"
    NEAR_HAMLET = "near_hamlet"  # one whose place is known to some 500 m only
    PLACE = "place"
    ROAD = "road"
    COMMUNE = "commune"


class Label(Struct, frozen=True):
    """A name and where it stands, in degrees."""

    text: str
    lon: float
    lat: float
    kind: LabelKind


class Border(Struct, frozen=True):
    """A line between communes as (lon, lat) in degrees; ``approximate`` if it was drawn by us from points."""

    points: Sequence[tuple[float, float]]
    approximate: bool


class View(Struct, frozen=True):
    """What of the world a map shows: its middle in degrees and its zoom, one of ``WIDEST`` to ``CLOSEST``."""

    lon: float
    lat: float
    zoom: int

    def pixel(self, lon: float, lat: float) -> tuple[float, float]:
        """Where a place is on the map: pixels from the left and from the top, outside of it for one not shown."""
        size = _WORLD << self.zoom
        return (
            WIDTH / 2 + (lon - self.lon) / 360 * size,
            HEIGHT / 2 - (asinh(tan(radians(lat))) - asinh(tan(radians(self.lat)))) / (2 * pi) * size,
        )

    def place(self, x: float, y: float) -> tuple[float, float]:
        """The place (lon, lat) that a pixel shows."""
        size = _WORLD << self.zoom
        up = asinh(tan(radians(self.lat))) - (y - HEIGHT / 2) / size * 2 * pi
        return self.lon + (x - WIDTH / 2) / size * 360, degrees(atan(sinh(up)))

    def metres_in_a_pixel(self) -> float:
        """How long a pixel is in the middle of the map."""
        return 2 * pi * EARTH_RADIUS * cos(radians(self.lat)) / (_WORLD << self.zoom)

    def corners(self) -> tuple[float, float, float, float]:
        """West, south, east, north in degrees."""
        west, north = self.place(0, 0)
        east, south = self.place(WIDTH, HEIGHT)
        return west, south, east, north


def shifted(lon: float, lat: float, *, east: float = 0, north: float = 0) -> tuple[float, float]:
    """The place some metres further."""
    return lon + east / METRES_IN_A_DEGREE / cos(radians(lat)), lat + north / METRES_IN_A_DEGREE


def bar(metres_in_a_pixel: float) -> tuple[int, float]:
    """A round number of metres for the scale bar, and how many pixels it is long."""
    lengths = (5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)
    length = max(length for length in lengths if length / metres_in_a_pixel <= _LONGEST_BAR)
    return length, length / metres_in_a_pixel


def draw(view: View, *, borders: Iterable[Border], labels: Iterable[Label], accuracy_m: float | None = None) -> str:
    """The map as an SVG document with the pin in its middle.

    A name stands above or below its place; of those that would overlap the earlier one stands.  ``accuracy_m`` draws
    how far off a satellite fix may be.
    """
    size = f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
    fonts = 'font-family="system-ui,Roboto,Noto Sans,Arial,sans-serif" font-size="13"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {fonts}>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#f6f3ea"/>',
        *(_drawn_border(view, border) for border in borders),
        *_drawn_labels(view, labels),
    ]
    x, y = WIDTH / 2, HEIGHT / 2
    if accuracy_m:
        radius = min(accuracy_m / view.metres_in_a_pixel(), WIDTH * 2)
        parts.append(
            f'<circle cx="{x:g}" cy="{y:g}" r="{radius:.1f}" fill="#0b3a82" fill-opacity=".12" stroke="#0b3a82"/>'
        )
    cross = f"M{x:g} {y - 16:g}v11m0 10v11M{x - 16:g} {y:g}h11m10 0h11"
    parts += [
        f'<path d="{cross}" stroke="#fff" stroke-width="6" stroke-linecap="round"/>',
        f'<path d="{cross}" stroke="#b00018" stroke-width="3" stroke-linecap="round"/>',
        f'<circle cx="{x:g}" cy="{y:g}" r="2" fill="#b00018"/>',
        *_drawn_bar(view),
        f'<path d="M{WIDTH - 18} 24l6-16 6 16-6-4z" fill="#14181d"/>',
        f'<text x="{WIDTH - 12}" y="38" text-anchor="middle" font-weight="700" fill="#14181d">B</text>',
        f'<rect x=".5" y=".5" width="{WIDTH - 1}" height="{HEIGHT - 1}" fill="none" stroke="#6b7684"/>',
        "</svg>",
    ]
    return "".join(parts)


def _drawn_border(view: View, border: Border) -> str:
    steps, last = [], None
    for lon, lat in border.points:
        x, y = view.pixel(lon, lat)
        here = f"{x:.0f} {y:.0f}"
        if here != last:
            steps.append(here)
        last = here
    if len(steps) < 2:
        return ""
    dashes = ' stroke-dasharray="7 5"' if border.approximate else ""
    return f'<path d="M{"L".join(steps)}" fill="none" stroke="#7a3e9d" stroke-width="2"{dashes}/>'


# Size, colour, weight or style; and whether a dot marks the place.
_LOOKS = {
    LabelKind.HAMLET: (13, "#14181d", ' font-weight="700"', True),
    LabelKind.NEAR_HAMLET: (13, "#14181d", ' font-style="italic"', False),
    LabelKind.PLACE: (11, "#0a4f27", "", True),
    LabelKind.ROAD: (11, "#7a3300", "", True),
    LabelKind.COMMUNE: (13, "#7a3e9d", ' font-weight="700"', False),
}


def _drawn_labels(view: View, labels: Iterable[Label]) -> list[str]:
    taken: list[tuple[float, float, float, float]] = [
        (WIDTH / 2 - 18, HEIGHT / 2 - 18, WIDTH / 2 + 18, HEIGHT / 2 + 18),  # the pin
        (0, HEIGHT - 34, _LONGEST_BAR + 20, HEIGHT),  # the scale
        (WIDTH - 24, 0, WIDTH, 42),  # north
    ]
    drawn = []
    for label in labels:
        size, colour, style, dot = _LOOKS[label.kind]
        text = _CONTROL.sub("", label.text)[:40]
        x, y = view.pixel(label.lon, label.lat)
        if not (0 < x < WIDTH and 0 < y < HEIGHT):
            continue
        if dot:
            drawn.append(f'<circle cx="{x:.0f}" cy="{y:.0f}" r="3" fill="{colour}"/>')
        half = len(text) * size * 0.33
        middle = min(max(x, half + 3), WIDTH - half - 3)
        if not dot and abs(middle - x) > 12:
            continue  # it would stand beside what it names
        beside_pin = abs(x - WIDTH / 2) < half + 18 and abs(y - HEIGHT / 2) < 18 + size
        for base in (y - 7, y + size + 4) if dot else (y - 26, y + 34) if beside_pin else (y,):
            box = (middle - half, base - size, middle + half, base + 4)
            inside = box[1] > 0 and box[3] < HEIGHT
            if inside and not any(box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in taken):
                taken.append(box)
                drawn.append(
                    f'<text x="{middle:.0f}" y="{base:.0f}" text-anchor="middle" font-size="{size}" fill="{colour}"'
                    f'{style} stroke="#f6f3ea" stroke-width="3" paint-order="stroke">{escape(text)}</text>'
                )
                break
    return drawn


def _drawn_bar(view: View) -> list[str]:
    metres, length = bar(view.metres_in_a_pixel())
    words = f"{metres // 1000} km" if metres >= 1000 else f"{metres} m"
    y = HEIGHT - 10
    halo = 'stroke="#f6f3ea" stroke-width="3" paint-order="stroke"'
    return [
        f'<path d="M10 {y - 6}v6h{length:.0f}v-6" fill="none" stroke="#f6f3ea" stroke-width="6"/>',
        f'<path d="M10 {y - 6}v6h{length:.0f}v-6" fill="none" stroke="#14181d" stroke-width="2"/>',
        f'<text x="14" y="{y - 6}" fill="#14181d" {halo}>{words}</text>',
    ]
