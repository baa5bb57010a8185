"""What stands around the rows of an import: doors that must differ, codes that must not be alike."""

from collections import defaultdict
from collections.abc import Iterable
from math import floor

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.address import codes, queries
from bkapp.address.imports.reading import Row
from bkapp.address.rules import (
    LIVE,
    NEIGHBOURS_DIFFER_IN,
    SAME_DOOR_METRES,
    Status,
    door_label,
    metres_between,
)

_TILE = 0.02  # degrees: what is loaded from the register at once
_CELL = 0.003  # a little more than 300 m, the reach of the rule that neighbours' codes differ
_STEP = 0.00003  # a little more than 3 m, the reach of the rule that doors differ


# Longitude, latitude, what tells it from others at its door (None: it has ended), code.
_Home = tuple[float, float, str | None, str]


class Surroundings:
    """The codes and doors around the rows of an import, loaded tile by tile as rows come near them.

    Between two batches others may write, so each batch first catches up with
    what the feed has since.
    """

    def __init__(self) -> None:
        self._seq: int | None = None  # the event up to which this is true
        self._tiles: set[tuple[int, int]] = set()
        self._codes: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
        self._doors: defaultdict[tuple[int, int], list[_Home]] = defaultdict(list)
        self._homes: dict[str, _Home] = {}

    async def catch_up(self, session: AsyncSession) -> None:
        """Learn of the homes that others added, moved or ended since this was last true."""
        head = await queries.head(session)
        if self._seq is not None and head != self._seq:
            for home in await session.execute(_CHANGED, {"after": self._seq}):
                self.forget(home.code)
                self._stand(*home)
        self._seq = head

    def wrote(self, count: int, head: int) -> None:
        """Our own events need no catching up, where they follow what is known without a gap."""
        if self._seq is not None and self._seq + count == head:
            self._seq = head

    async def load(self, session: AsyncSession, rows: Iterable[Row]) -> None:
        """Fetch what the register has around these rows and was not fetched before."""
        wanted = {
            (floor((row.lon + dx) / _TILE), floor((row.lat + dy) / _TILE))
            for row in rows
            for dx in (-_CELL, _CELL)
            for dy in (-_CELL, _CELL)
        } - self._tiles
        self._tiles |= wanted
        for x, y in sorted(wanted):
            found = await session.execute(_STANDING, {"w": x * _TILE, "s": y * _TILE, "size": _TILE})
            for home in found:
                # Neighbouring tiles share their edges.
                if home.code not in self._homes:
                    self._stand(*home)

    def _stand(
        self,
        code: str,
        lon: float,
        lat: float,
        status: str,
        building: str | None,
        entrance: str | None,
        storey: str | None,
        door: str | None,
    ) -> None:
        self.add(code, lon, lat, door_label(building, entrance, storey, door) if Status(status) in LIVE else None)

    def same_door(self, lon: float, lat: float, label: str) -> str | None:
        """The code of a home whose door is within three metres and that nothing tells from this one."""
        x, y = floor(lon / _STEP), floor(lat / _STEP)
        for i in (x - 1, x, x + 1):
            for j in (y - 1, y, y + 1):
                for other_lon, other_lat, other, code in self._doors.get((i, j), ()):
                    if other == label and metres_between(lon, lat, other_lon, other_lat) <= SAME_DOOR_METRES:
                        return code
        return None

    def code_for(self, lon: float, lat: float, free: list[str]) -> str:
        """Take a code out of ``free`` that is unlike all of those around: in five digits or more where one of the last
        64 is so, else the most different of them."""
        x, y = floor(lon / _CELL), floor(lat / _CELL)
        near = [spots for i in (x - 1, x, x + 1) for j in (y - 1, y, y + 1) for spots in self._codes.get((i, j), ())]
        best, best_likeness = -1, codes.LENGTH + 1
        for place in range(len(free) - 1, max(len(free) - 65, -1), -1):
            spots = _spots(free[place])
            likeness = max(((spots & other).bit_count() for other in near), default=0)
            if likeness < best_likeness:
                best, best_likeness = place, likeness
            if likeness <= codes.LENGTH - NEIGHBOURS_DIFFER_IN:
                break
        free[best], free[-1] = free[-1], free[best]
        return free.pop()

    def add(self, code: str, lon: float, lat: float, label: str | None) -> None:
        """Note a home; ``label`` is None for one that has ended, whose door is free again."""
        home = self._homes[code] = (lon, lat, label, code)
        self._codes[floor(lon / _CELL), floor(lat / _CELL)].append(_spots(code))
        if label is not None:
            self._doors[floor(lon / _STEP), floor(lat / _STEP)].append(home)

    def forget(self, code: str) -> None:
        """Take a home out again, if it was noted."""
        home = self._homes.pop(code, None)
        if home is not None:
            lon, lat, label, _ = home
            self._codes[floor(lon / _CELL), floor(lat / _CELL)].remove(_spots(code))
            if label is not None:
                self._doors[floor(lon / _STEP), floor(lat / _STEP)].remove(home)


_HOME = """
    SELECT code, ST_X(point::geometry), ST_Y(point::geometry), status, building, entrance, floor, door FROM dwelling
"""
_STANDING = text(f"{_HOME} WHERE point && ST_MakeEnvelope(:w, :s, :w + :size, :s + :size, 4326)::geography")
_CHANGED = text(f"{_HOME} WHERE code IN (SELECT code FROM address_event WHERE seq > :after)")


# Three digits as three bits among thirty.
_THREE = {f"{n:03d}": 1 << n // 100 | 1 << 10 + n // 10 % 10 | 1 << 20 + n % 10 for n in range(1000)}


def _spots(code: str) -> int:
    """A code as a set of bits, one for each digit in its place, so that likeness is one ``and`` and a count."""
    return _THREE[code[:3]] | _THREE[code[3:6]] << 30 | _THREE[code[6:]] << 60
