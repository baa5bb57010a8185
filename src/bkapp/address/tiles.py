"""Squares of the map: which there are, where they lie, and what the sets of them hold.

The world in Web Mercator is one square at zoom 0; each zoom cuts every square
into four, column ``x`` from the west and row ``y`` from the north.  A tile is
one of these squares with what lies in it, as a Mapbox Vector Tile.  How a set
of tiles describes itself is TileJSON 3.0
(github.com/mapbox/tilejson-spec, 3.0.0).
"""

import re
from collections.abc import Sequence
from html import escape
from math import atan, degrees, pi, sinh
from typing import Annotated

from msgspec import Meta, Struct

from bkapp.errors import NotFound

MOST_ZOOM = 20
EXTENT = 4096  # steps along the side of a tile
BUFFER = 64  # steps around it that are drawn too, so that what lies on an edge is not cut in two
MOST_BYTES = 30_000  # of a tile as it is, before compression

# What the public learns of homes.  Everything is told of squares: how many homes each holds, never where in it they
# are.  So nothing finer than the finest square can be worked out, whatever is subtracted from what.
FEWEST_HOMES = 5
FINEST_SQUARE = 16  # tiles of this zoom are 566 m wide in Bắc Kạn
COARSEST_SQUARE = 12  # 9 km; above it, homes are counted by commune
STEP = 100  # the public map moves on after so many changes of addresses, all at once
HAMLETS_FROM = 10  # below it, hamlets are counted by commune
HOMES_FROM = 14  # where officers see single homes


class NoSuchTile(NotFound):
    """There is no tile with this zoom, column and row, or no map of this name."""

    code = "no_such_tile"
    title = "Không có mảnh bản đồ này"


class Tile(Struct, frozen=True):
    """A square of the world."""

    z: int
    x: int
    y: int

    def above(self, z: int) -> "Tile":
        """The square of a lower zoom that this one lies in; itself at its own zoom or a higher one."""
        up = max(self.z - z, 0)
        return Tile(self.z - up, self.x >> up, self.y >> up)

    def degrees(self, margin: float = 0) -> tuple[float, float, float, float]:
        """West, south, east, north in WGS 84, with some degrees around it."""
        count = 1 << self.z
        return (
            self.x / count * 360 - 180 - margin,
            _latitude((self.y + 1) / count) - margin,
            (self.x + 1) / count * 360 - 180 + margin,
            _latitude(self.y / count) + margin,
        )


def _latitude(down: float) -> float:
    """The latitude of a share of the way from the map's northern edge to its southern one."""
    return degrees(atan(sinh(pi * (1 - 2 * down))))


def number(text: str) -> int:
    """A number of a path, written in one way only, so that a tile has one address for caches."""
    if not re.fullmatch(r"0|[1-9][0-9]{0,17}", text, re.ASCII):
        raise NoSuchTile(f"Versions, zooms, columns and rows are whole numbers, not {text!r}.")
    return int(text)


def tile(z: int, x: int, row: str) -> Tile:
    """The tile of a path.  ``row`` is its last part, such as ``7157.mvt``."""
    digits, mvt, rest = row.partition(".mvt")
    if not mvt or rest:
        raise NoSuchTile("A tile's path ends with its row and .mvt, such as /14/13009/7157.mvt.")
    if not 0 <= z <= MOST_ZOOM:
        raise NoSuchTile(f"Zooms go from 0 to {MOST_ZOOM}, so there is no zoom {z}.")
    y, last = number(digits), (1 << z) - 1
    if not (0 <= x <= last and y <= last):
        raise NoSuchTile(f"Columns and rows of zoom {z} go from 0 to {last}, so there is no tile {x}, {y}.")
    return Tile(z, x, y)


class VectorLayer(Struct, frozen=True, omit_defaults=True):
    """A layer inside the tiles: what its features are and what each of them tells."""

    id: str
    description: str
    fields: dict[str, str]
    minzoom: int = 0
    maxzoom: int = MOST_ZOOM


class Layer(Struct, frozen=True):
    """A set of tiles.  ``maxzoom`` is the last zoom that tells more than the one before."""

    name: str
    title: str
    description: str
    minzoom: int
    maxzoom: int
    holds: tuple[VectorLayer, ...]


_COMMUNE = {"code": "Code of the commune", "name": "Its name without its kind", "kind": "Xã, Phường …"}
_OUTLINE = VectorLayer("outline", "The line around all of them.", {})
LAYERS = {
    layer.name: layer
    for layer in (
        Layer(
            "units",
            "Xã, phường",
            "Communes of Bắc Kạn in force today.",
            6,
            14,
            (
                VectorLayer("units", "Communes.", {**_COMMUNE, "quality": "official or approximate boundary"}),
                _OUTLINE,
            ),
        ),
        Layer(
            "units-2020",
            "Xã, phường, thị trấn trước 01/7/2025",
            "Communes of Bắc Kạn until 2025-06-30.",
            6,
            14,
            (
                VectorLayer("units", "Communes.", {**_COMMUNE, "quality": "official or approximate boundary"}),
                _OUTLINE,
            ),
        ),
        Layer(
            "hamlets",
            "Thôn, bản, tổ",
            "Hamlets in use today.",
            6,
            14,
            (
                VectorLayer(
                    "communes",
                    "How many hamlets each commune has.",
                    {**_COMMUNE, "hamlets": "How many"},
                    maxzoom=HAMLETS_FROM - 1,
                ),
                VectorLayer(
                    "hamlets",
                    "Hamlets.",
                    {
                        "id": "Number of the hamlet",
                        "name": "Its name",
                        "unit": "Code of its commune",
                        "approximate": "true where nobody has told its place: the square of 566 m in the middle of its "
                        f"homes, if it has {FEWEST_HOMES}",
                    },
                    minzoom=HAMLETS_FROM,
                ),
            ),
        ),
        Layer(
            "addresses",
            "Địa chỉ số",
            f"How many homes have an address, by commune and by square; never fewer than {FEWEST_HOMES}.",
            6,
            18,
            (
                VectorLayer(
                    "communes",
                    "How many homes each commune has.",
                    {**_COMMUNE, "homes": "How many"},
                    maxzoom=COARSEST_SQUARE - 1,
                ),
                VectorLayer(
                    "cells",
                    "Squares with homes, each at its middle.",
                    {"homes": "How many", "cell_zoom": "The square is a tile of this zoom: 12 is 9 km wide, 16 566 m"},
                    minzoom=COARSEST_SQUARE,
                ),
                VectorLayer(
                    "homes",
                    "With a key only: the homes that it reaches, or how many stand where they are too many to show.",
                    {
                        "code": "Address code",
                        "house_number": "What is written at the door, if anything",
                        "status": "proposed or current",
                        "homes": "How many, in place of the other fields",
                    },
                    minzoom=HOMES_FROM,
                ),
            ),
        ),
    )
}


def shows_homes(of: Layer, square: Tile) -> bool:
    """Whether a tile shows more to some than to others."""
    return of.name == "addresses" and square.z >= HOMES_FROM


def layer(name: str) -> Layer:
    """The set of tiles of that name."""
    if name not in LAYERS:
        raise NoSuchTile(f"There is no map {name[:40]!r}; there are {', '.join(LAYERS)}.")
    return LAYERS[name]


def described_layer(document: str) -> Layer:
    """The set of tiles that a file such as ``units.json`` describes."""
    name, dot, ending = document.rpartition(".")
    if not dot or ending != "json":
        documents = ", ".join(f"{known}.json" for known in LAYERS)
        raise NoSuchTile(f"There is nothing at this address; maps are described by {documents}.")
    return layer(name)


class TileSet(Struct, frozen=True, omit_defaults=True):
    """TileJSON 3.0: where the tiles of a map are and what they hold."""

    tilejson: str
    name: str
    description: str
    version: Annotated[str, Meta(description="The middle number is the one in the tiles' addresses.")]
    attribution: Annotated[str, Meta(description="HTML.")]
    scheme: str
    tiles: Annotated[
        list[str],
        Meta(description="Addresses with {z}, {x} and {y} to fill in. They change when what is on the map changes."),
    ]
    minzoom: int
    maxzoom: int
    vector_layers: list[VectorLayer]
    bounds: Annotated[list[float] | None, Meta(description="West, south, east, north.")] = None


def described(
    of: Layer, *, version: int, base_url: str, bounds: Sequence[float] | None, sources: Sequence[str]
) -> TileSet:
    """The description of a set of tiles as it is now.  ``sources`` are whom to thank, as plain text."""
    return TileSet(
        tilejson="3.0.0",
        name=of.title,
        description=of.description,
        version=f"1.{version}.0",
        attribution=escape("; ".join(sources)),
        scheme="xyz",
        tiles=[f"{base_url}/tiles/{of.name}/{version}/{{z}}/{{x}}/{{y}}.mvt"],
        minzoom=of.minzoom,
        maxzoom=of.maxzoom,
        vector_layers=list(of.holds),
        bounds=list(bounds) if bounds else None,
    )
