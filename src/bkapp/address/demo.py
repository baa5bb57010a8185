"""A made-up province to try things on: always the same, and marked as made up in every answer.

Hamlets have names as the Tày, Nùng, Dao and Mông give them (Nà field, Bản
village, Khuổi stream, Lũng valley …), put together at random; no hamlet, house
or household is a real one.
"""

import csv
from collections.abc import Iterator
from datetime import date
from math import hypot
from pathlib import Path
from random import Random
from typing import NamedTuple

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.address import codes
from bkapp.address.imports import COLUMNS
from bkapp.address.models import Hamlet
from bkapp.units.names import key as name_key

SOURCE = "demo"
SEED = 20220426  # the day of the province's plan for digital transformation
HAMLETS_PER_COMMUNE = 12
SINCE = date(2025, 7, 1)
ASIDE = 3  # metres from a house to the line between two hamlets, so twice that between their doors, or more
EAST, NORTH = 103_200, 110_700  # metres in a degree, in the middle of the province
ROUNDS_IN_VAIN = 500  # after that many spots around every hamlet without room for a house, the province is full

_HEADS = ("Nà", "Bản", "Pác", "Khuổi", "Cốc", "Khau", "Lũng", "Phiêng", "Tổng", "Kéo", "Slam", "Nặm", "Thôm", "Vằng")
_TAILS = (
    "Ít", "Lẹng", "Cà", "Mòn", "Pục", "Đứa", "Chang", "Lồm", "Tát", "Diếu", "Khoang", "Pjạc", "Sla", "Quan", "Hin",
    "Bây", "Choọng", "Muồng", "Rào", "Lùng", "Sliến", "Ngòa", "Vài", "Phja", "Tèng", "Mèo", "Lạn", "Nghè", "Đeng",
    "Luông", "Cáp", "Phấy", "Cuôn", "Tảng", "Thẳm", "Dài", "Kẹn", "Cọt", "Mạ", "Piao", "Liềng", "Hán",
)  # fmt: skip


def demo_codes() -> Iterator[str]:
    """The codes of the demo, in order: the same for everybody, so that examples can be written down."""
    dice = Random(SEED + 1)
    while True:
        yield codes.draw(dice.randrange)


class Centre(NamedTuple):
    """Where a hamlet of the demo is."""

    unit_id: int
    unit: str
    hamlet: str
    lon: float
    lat: float


async def write_households(session: AsyncSession, path: Path, *, households: int) -> int:
    """Make the demo's hamlets and write its households as a file for the importer; return how many rows.

    A house stands on its own hamlet's side of the line to the next one, and in
    the hamlet's commune: spots that are not so stay empty, so that the importer
    takes every row.  A larger demo begins with the houses of a
    smaller one.
    """
    dice = Random(SEED)
    centres = await _open_hamlets(session, dice)
    dice.shuffle(centres)  # round and round in this order, so that a small demo has something everywhere
    neighbours = _neighbours(centres)
    houses = [0] * len(centres)
    written = in_vain = spots = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        while centres and written < households and in_vain < ROUNDS_IN_VAIN:
            x, y = _spiral(spots)
            spots += 1
            drawn = [
                (
                    place,
                    centre.lon + (x * 22 + dice.uniform(-6, 6)) / EAST,
                    centre.lat + (y * 22 + dice.uniform(-6, 6)) / NORTH,
                    dice.choice((4, 6, 9, 15)),
                )
                for place, centre in enumerate(centres)
            ]
            stand = [spot for spot in drawn if _on_its_side(spot[1], spot[2], centres[spot[0]], neighbours[spot[0]])]
            inside = await _inside(session, [(centres[place].unit_id, lon, lat) for place, lon, lat, _ in stand])
            stand = [spot for spot, fits in zip(stand, inside, strict=True) if fits]
            in_vain = 0 if stand else in_vain + 1
            for place, lon, lat, accuracy in stand[: households - written]:
                written += 1
                houses[place] += 1
                rows.writerow(
                    [
                        f"demo-{written:07d}",
                        f"{lon:.7f}",
                        f"{lat:.7f}",
                        centres[place].unit,
                        centres[place].hamlet,
                        SINCE.isoformat(),
                        str(accuracy),
                        str(houses[place]),
                        *[""] * 5,
                    ]
                )
    return written


def _neighbours(centres: list[Centre]) -> list[list[tuple[float, float, float]]]:
    """The hamlets within 4 km of each, as (metres, metres east, metres north), nearest first."""
    order = sorted(range(len(centres)), key=lambda place: centres[place].lat)
    neighbours: list[list[tuple[float, float, float]]] = [[] for _ in centres]
    for rank, place in enumerate(order):
        for other in order[rank + 1 :]:
            east = (centres[other].lon - centres[place].lon) * EAST
            north = (centres[other].lat - centres[place].lat) * NORTH
            if north > 4_000:
                break
            if abs(east) <= 4_000:
                neighbours[place].append((hypot(east, north), east, north))
                neighbours[other].append((hypot(east, north), -east, -north))
    return [sorted(found) for found in neighbours]


def _on_its_side(lon: float, lat: float, centre: Centre, neighbours: list[tuple[float, float, float]]) -> bool:
    """Whether a house is nearer to its hamlet than to any other, with a little room to the line between the two."""
    x, y = (lon - centre.lon) * EAST, (lat - centre.lat) * NORTH
    reach = 2 * (hypot(x, y) + ASIDE)
    for metres, east, north in neighbours:
        if metres > reach:
            return True
        # how far towards the other one, on the line that joins the two
        if x * east + y * north > (metres / 2 - ASIDE) * metres:
            return False
    return True


async def _inside(session: AsyncSession, spots: list[tuple[int, float, float]]) -> list[bool]:
    """Whether each (unit id, lon, lat) is in its commune as the importer sees it."""
    found = await session.execute(
        text("""
            SELECT coalesce((
                SELECT u.id = s.unit_id FROM admin_unit_piece p JOIN admin_unit u ON u.id = p.unit_id
                WHERE ST_Intersects(p.geom, ST_SetSRID(ST_MakePoint(s.lon, s.lat), 4326))
                    AND u.level = 'commune' AND u.in_bac_kan AND u.valid_to IS NULL
                ORDER BY u.boundary_quality = 'official' DESC, u.id = s.unit_id DESC LIMIT 1), false)
            FROM unnest(CAST(:units AS bigint[]), CAST(:lons AS float8[]), CAST(:lats AS float8[]))
                WITH ORDINALITY AS s(unit_id, lon, lat, place)
            ORDER BY s.place
        """),
        {
            "units": [unit for unit, _, _ in spots],
            "lons": [lon for _, lon, _ in spots],
            "lats": [lat for _, _, lat in spots],
        },
    )
    return list(found.scalars())


def _spiral(number: int) -> tuple[int, int]:
    """The cell of a square spiral: houses fill a hamlet from its middle."""
    x = y = 0
    dx, dy = 1, 0
    side, left, turns = 1, 1, 0
    for _ in range(number):
        x, y = x + dx, y + dy
        left -= 1
        if left == 0:
            dx, dy = -dy, dx
            turns += 1
            side += turns % 2 == 0
            left = side
    return x, y


async def _open_hamlets(session: AsyncSession, dice: Random) -> list[Centre]:
    """The demo's hamlets, opened where they are not yet there."""
    old = await session.execute(
        text("""
            SELECT ST_X(point::geometry), ST_Y(point::geometry) FROM admin_unit
            WHERE level = 'commune' AND in_bac_kan AND valid_to = :day AND point IS NOT NULL ORDER BY code
        """),
        {"day": SINCE},
    )
    spots = [
        (lon + dice.uniform(-1, 1) * 0.012, lat + dice.uniform(-1, 1) * 0.012)
        for lon, lat in old.all()
        for _ in range(HAMLETS_PER_COMMUNE)
    ]
    inside = await session.execute(
        text("""
            SELECT DISTINCT ON (s.place) u.id, u.code, s.lon, s.lat
            FROM unnest(CAST(:lons AS float8[]), CAST(:lats AS float8[])) WITH ORDINALITY AS s(lon, lat, place)
            JOIN admin_unit_piece p
                ON ST_Contains(p.geom, ST_SetSRID(ST_MakePoint(s.lon, s.lat), 4326))
            JOIN admin_unit u ON u.id = p.unit_id AND u.level = 'commune' AND u.in_bac_kan AND u.valid_to IS NULL
            ORDER BY s.place, u.boundary_quality = 'official' DESC, u.code
        """),
        {"lons": [lon for lon, _ in spots], "lats": [lat for _, lat in spots]},
    )
    names: set[tuple[int, str]] = set()
    centres = []
    rows = inside.all()
    found = await session.execute(select(Hamlet.unit_id, Hamlet.key).where(Hamlet.valid_to.is_(None)))
    known = {tuple(row) for row in found}
    for unit_id, unit, lon, lat in rows:
        while True:
            name = f"Thôn {dice.choice(_HEADS)} {dice.choice(_TAILS)}"
            if (unit_id, name_key(name)) not in names:
                break
        names.add((unit_id, name_key(name)))
        if (unit_id, name_key(name)) not in known:
            point = f"SRID=4326;POINT({lon} {lat})"
            session.add(
                Hamlet(unit_id=unit_id, name=name, key=name_key(name), valid_from=SINCE, source=SOURCE, point=point)
            )
        centres.append(Centre(unit_id, unit, name, lon, lat))
    await session.flush()
    return centres
