"""A made-up province to try things on: always the same, and marked as made up in every answer.

Hamlets have names as the Tày, Nùng, Dao and Mông give them (Nà field, Bản
village, Khuổi stream, Lũng valley …), put together at random; no hamlet, house
or household is a real one.
"""

import csv
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from random import Random

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


async def write_households(session: AsyncSession, path: Path, *, households: int) -> int:
    """Make the demo's hamlets and write its households as a file for the importer; return how many rows."""
    dice = Random(SEED)
    centres = await _open_hamlets(session, dice)
    if not centres:
        return 0
    dice.shuffle(centres)  # round and round in this order, so that a small demo has something everywhere
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        numbers = [0] * len(centres)
        for number in range(households):
            place = number % len(centres)
            unit, hamlet, lon, lat = centres[place]
            numbers[place] += 1
            x, y = _spiral(numbers[place] - 1)
            rows.writerow(
                [
                    f"demo-{number + 1:07d}",
                    f"{lon + (x * 22 + dice.uniform(-6, 6)) / 103_200:.7f}",
                    f"{lat + (y * 22 + dice.uniform(-6, 6)) / 110_700:.7f}",
                    unit,
                    hamlet,
                    SINCE.isoformat(),
                    f"{dice.choice((4, 6, 9, 15))}",
                    str(numbers[place]),
                    *[""] * 5,
                ]
            )
    return households


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


async def _open_hamlets(session: AsyncSession, dice: Random) -> list[tuple[str, str, float, float]]:
    """The demo's hamlets as (commune code, name, lon, lat), opened where they are not yet there."""
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
            ORDER BY s.place, u.code
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
            session.add(Hamlet(unit_id=unit_id, name=name, key=name_key(name), valid_from=SINCE, source=SOURCE))
        centres.append((unit, name, lon, lat))
    await session.flush()
    return centres
