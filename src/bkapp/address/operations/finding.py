"""Finding what people mean by an address: the names from memory, the houses from the register in one statement."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from math import cos, inf, radians
from typing import Any

import msgspec
import structlog

from bkapp.address import pluscodes, queries
from bkapp.address.codes import display
from bkapp.address.geocoding.answers import House, answer_of, in_unit, nothing, of_hamlet, of_unit
from bkapp.address.geocoding.gazetteer import Gazetteer, HamletRow, Unit
from bkapp.address.geocoding.hypotheses import Hypothesis
from bkapp.address.geocoding.normalise import LONGEST_TEXT, clean, tokens_of
from bkapp.address.geocoding.positions import Position, address_code, coordinates, plus_code
from bkapp.address.geocoding.results import Answer, Era, Grade, Match, MatchLevel, Part
from bkapp.address.geocoding.searching import Search, search
from bkapp.address.queries.gazetteer import AROUND, HOUSES, INSIDE, Heads, heads, load_gazetteer
from bkapp.address.rules import Status, metres_between
from bkapp.db import Lookup, Lookups, Row, Sessions, look_all_up, lookup_through

log = structlog.get_logger("bkapp.finding")

FRESH_SECONDS = 1.0
"""How long names may be out of date; so a hamlet is found a second after it was opened."""
SETTLED_SECONDS = 60.0
"""How long streets and the middles of hamlets may be: they come from homes, which change all the time."""
MOST_LOOKED_UP = 8  # hypotheses whose house is asked for; all of them in one statement
HOME_METRES = 1_500  # a home this near is told to an officer who asks what is here
AT_BORDER_METRES = 500  # the same across the border of its commune
NEAR_HAMLET_METRES = 8_000

Reaches = Callable[[int], bool]


class Finder:
    """Answers searches.  One for each process: it keeps the names of the register in memory.

    ``houses``, ``inside`` and ``around`` are look-ups of :data:`HOUSES`, :data:`INSIDE` and :data:`AROUND`,
    ``resolve`` one of ``RESOLVE_MANY``.
    """

    def __init__(self, readers: Sessions, *, houses: Lookup, inside: Lookup, around: Lookup, resolve: Lookup) -> None:
        self._readers = readers
        self._houses = houses
        self._inside = inside
        self._around = around
        self._resolve = resolve
        self._gazetteer: Gazetteer | None = None
        self._heads = Heads(0, 0)
        self._asked = 0.0
        self._loaded = 0.0
        self._loading: asyncio.Lock | None = None

    async def close(self) -> None:
        """Give the connections back."""
        for lookup in (self._houses, self._inside, self._around, self._resolve):
            if isinstance(lookup, Lookups):
                await lookup.close()

    async def gazetteer(self) -> Gazetteer:
        """The names of the register, at most a second old."""
        now = time.monotonic()
        if self._gazetteer is not None and now - self._asked < FRESH_SECONDS:
            return self._gazetteer
        if self._loading is None:
            self._loading = asyncio.Lock()
        if self._loading.locked() and self._gazetteer is not None:
            return self._gazetteer  # somebody is looking; what we have is good enough meanwhile
        async with self._loading:
            if self._gazetteer is None:
                self._gazetteer = await self._load()
            elif time.monotonic() - self._asked >= FRESH_SECONDS:
                try:
                    self._gazetteer = await self._load()
                except Exception:  # whatever it is, the names we have are better than none
                    log.exception("names_not_renewed")
            self._asked = time.monotonic()
            return self._gazetteer

    async def _load(self) -> Gazetteer:
        """The names as they are now: those we have, unless something has changed."""
        async with self._readers() as session:
            there = await heads(session)
            settled = there == self._heads or time.monotonic() - self._loaded < SETTLED_SECONDS
            if self._gazetteer is not None and there.names == self._heads.names and settled:
                return self._gazetteer
            loaded = await load_gazetteer(session)
            self._heads, self._loaded = there, time.monotonic()
            return loaded

    async def find(
        self,
        text: str,
        *,
        near: tuple[float, float] | None = None,
        limit: int = 5,
        partial: bool = False,
        reaches: Reaches | None = None,
    ) -> Answer:
        """What a text may mean, best first.

        ``near`` is (lon, lat) of who asks; ``partial`` says that they are still typing.  ``reaches`` tells the
        communes whose homes the caller may see exactly: who passes it records the reads.
        """
        gazetteer = await self.gazetteer()
        asked = self._prepare(gazetteer, text, near=near, partial=partial)
        if isinstance(asked, Search):
            keys = _house_keys(gazetteer, asked)
            found = await look_all_up(self._houses, {key for each in keys for key in each})
            return _answer(gazetteer, text, asked, keys, found, limit=limit, partial=partial, reaches=reaches)
        if isinstance(asked, Answer):
            return asked
        return await asked

    async def find_many(
        self,
        texts: Sequence[str],
        *,
        near: Sequence[tuple[float, float] | None] | None = None,
        limit: int = 1,
        reaches: Reaches | None = None,
    ) -> list[Answer]:
        """:meth:`find` for many texts with one statement for all their houses."""
        gazetteer = await self.gazetteer()
        prepared: list[Search | Answer | Coroutine[Any, Any, Answer]] = []
        for place, text in enumerate(texts):
            prepared.append(self._prepare(gazetteer, text, near=near[place] if near else None, partial=False))
            await asyncio.sleep(0)  # others wait for a text, not for a file
        keys = [_house_keys(gazetteer, asked) if isinstance(asked, Search) else [] for asked in prepared]
        found = await look_all_up(self._houses, {key for each in keys for some in each for key in some})
        done = []
        for text, asked, its_keys in zip(texts, prepared, keys, strict=True):
            if isinstance(asked, Search):
                done.append(
                    _answer(gazetteer, text, asked, its_keys, found, limit=limit, partial=False, reaches=reaches)
                )
                await asyncio.sleep(0)
            else:
                done.append(asked if isinstance(asked, Answer) else await asked)
        return done

    async def around(self, lon: float, lat: float, *, reaches: Reaches | None = None) -> Match | None:
        """What is at a point: the home for those who may see it, else the hamlet, else the commune; None outside.

        A hamlet has no boundary, so it is the one of the commune whose place is nearest.  Homes would tell better,
        and would be told: where the answer changes is half way between two of them.
        """
        gazetteer = await self.gazetteer()
        key = f"{lon:.7f} {lat:.7f}"
        found = await (self._inside if reaches is None else self._around)(key)
        if found is not None and reaches is not None:
            home = _home_around(gazetteer, found, reaches)
            if home is not None:
                return home
        unit = None if found is None else gazetteer.units.get(found[1])
        if unit is None:
            return None
        shared: dict[str, Any] = {"score": 1.0, "era": Era.TODAY}
        hamlet, metres = _nearest_hamlet(gazetteer, unit, lon, lat)
        if hamlet is None:  # of a commune one is inside, however far its middle is
            return of_unit(gazetteer, unit, distance_m=0.0, **shared)
        return of_hamlet(gazetteer, hamlet, distance_m=float(round(metres)), **shared)

    def _prepare(
        self, gazetteer: Gazetteer, text: str, *, near: tuple[float, float] | None, partial: bool
    ) -> Search | Answer | Coroutine[Any, Any, Answer]:
        """A search to be completed with houses, an answer, or a promise of one."""
        if len(text) > LONGEST_TEXT:
            return nothing(text, "too_long")
        plain = clean(text)
        if not plain:
            return nothing(text, "empty")
        code = address_code(plain)
        if code is not None:
            if code.code is None:
                return nothing(text, "wrong_code", code.reason)
            return self._by_code(text, code.code, code.written)
        position = coordinates(plain)
        if position is not None:
            return self._at(text, position, Part("coordinates", plain, plain, 1.0))
        plus = plus_code(plain) if "+" in plain else None
        if plus is not None:
            return self._by_plus_code(gazetteer, text, plus.code, plus.rest, short=plus.short)
        tokens = tokens_of(plain, gazetteer.vocabulary)
        if not tokens.items:
            return nothing(text, "empty")
        return search(gazetteer, tokens, typing=partial, near=near)

    # --- codes and positions ---

    async def _by_code(self, text: str, code: str, written: str) -> Answer:
        found = await queries.resolve(self._resolve, code)
        if found is None or found.status is Status.REJECTED:
            return nothing(text, "unknown_code", f"No address has the code {display(code)}.")
        gazetteer = await self.gazetteer()
        unit = next(
            (unit for unit in gazetteer.units.values() if unit.row.code == found.unit.code and unit.today is unit), None
        )
        if unit is None:
            return nothing(text, "unknown_code", "The address ended before the communes of today.")
        shared: dict[str, Any] = {
            "score": 1.0,
            "era": Era.ANY,
            "matched": (Part("code", written, display(code), 1.0),),
            "code": code,
        }
        hamlets = (gazetteer.hamlets[index] for index in unit.hamlets)
        hamlet = next((one for one in hamlets if one.full_name == found.hamlet and one.unit_id == unit.row.id), None)
        match = of_hamlet(gazetteer, hamlet, **shared) if hamlet else of_unit(gazetteer, unit, **shared)
        return Answer(text, (msgspec.structs.replace(match, level=MatchLevel.HOUSE),), grade=Grade.A)

    async def _by_plus_code(self, gazetteer: Gazetteer, text: str, code: str, rest: str, *, short: bool) -> Answer:
        whole = code
        if short:
            town = search(gazetteer, tokens_of(rest, gazetteer.vocabulary)).hypotheses if rest else []
            # A short code repeats every 110 km or 5 km; without a town the middle of the province has to do.
            lon, lat = (town[0].lon, town[0].lat) if town else MIDDLE
            whole = pluscodes.recover(code, lon, lat)
        try:
            cell = pluscodes.decode(whole)
        except ValueError:  # its first sign lies beyond the pole
            return nothing(text, "outside")
        metres = max(cell.half_height * 110_700, 1.0)
        return await self._at(text, Position(cell.lon, cell.lat, metres), Part("plus_code", code, whole, 1.0))

    async def _at(self, text: str, position: Position, part: Part) -> Answer:
        found = await self.around(position.lon, position.lat)
        if found is None:
            return nothing(text, "outside")
        detail = None
        if position.swapped:
            detail = "Longitude stood before latitude; they were read the other way round."
        label = f"{position.lat:.5f}, {position.lon:.5f} ({found.label})"
        match = msgspec.structs.replace(
            found,
            level=MatchLevel.PLACE,
            label=label,
            lon=position.lon,
            lat=position.lat,
            accuracy_m=position.radius_m,
            score=0.95 if position.swapped else 1.0,
            matched=(part,),
            era=Era.ANY,
        )
        return Answer(text, (match,), None, detail, Grade.B if position.swapped else Grade.A)


MIDDLE = (105.84, 22.24)


def open_finder(readers: Sessions, url: str | None = None, *, resolve: Lookup | None = None) -> Finder:
    """A finder on connections of its own to ``url``; through ``readers`` alone where none is given."""
    statements = {"houses": HOUSES, "inside": INSIDE, "around": AROUND, "resolve": queries.RESOLVE_MANY}
    lookups: dict[str, Lookup] = {
        name: Lookups(url, statement) if url else lookup_through(readers, statement)
        for name, statement in statements.items()
        if name != "resolve" or resolve is None
    }
    if resolve is not None:
        lookups["resolve"] = resolve
    return Finder(readers, **lookups)


# --- houses -----------------------------------------------------------------------------------------------------


def _house_keys(gazetteer: Gazetteer, asked: Search) -> list[list[str]]:
    """For each hypothesis, what to look up for the number that the text names: the ways it may be written."""
    keys: list[list[str]] = []
    for place, (hypothesis, number) in enumerate(zip(asked.hypotheses, asked.numbers, strict=True)):
        if number is None or place >= MOST_LOOKED_UP:
            keys.append([])
        elif hypothesis.level is MatchLevel.HAMLET:
            hamlet = gazetteer.hamlets[hypothesis.index]
            keys.append([f"h|{hamlet.id}|{form}" for form in number.forms])
        elif hypothesis.level is not MatchLevel.STREET:
            keys.append([])
        else:
            street = gazetteer.streets[hypothesis.index]
            keys.append([f"s|{street.unit_id}|{form}|{name}" for form in number.forms for name in street.spellings])
    return keys


def _answer(
    gazetteer: Gazetteer,
    text: str,
    asked: Search,
    keys: Sequence[Sequence[str]],
    found: dict[str, Row | None],
    *,
    limit: int,
    partial: bool,
    reaches: Reaches | None,
) -> Answer:
    houses: list[list[House]] = []
    for hypothesis, some in zip(asked.hypotheses, keys, strict=True):
        rows: list[list[Any]] = next((row[1] for key in some if (row := found[key]) is not None), [])
        houses.append(_of_street([House(*door[:7]) for door in rows], gazetteer, asked, hypothesis))
    answer = answer_of(gazetteer, text, asked, houses, limit=limit, typing=partial)
    if not any(match.code for match in answer.matches):
        return answer
    doors = {house.code: house for some in houses for house in some}
    matches = tuple(_shown(match, doors.get(match.code or ""), reaches) for match in answer.matches)
    return msgspec.structs.replace(answer, matches=matches)


def _of_street(houses: list[House], gazetteer: Gazetteer, asked: Search, hypothesis: Hypothesis) -> list[House]:
    """Of several homes with one number in a hamlet, those in the street that the text names too, if any are."""
    if len(houses) < 2 or hypothesis.level is not MatchLevel.HAMLET:
        return houses
    named = {
        spelling
        for mention in asked.mentions
        for index in mention.name.streets
        for spelling in gazetteer.streets[index].spellings
    }
    return [house for house in houses if house.street in named] or houses


def _shown(match: Match, house: House | None, reaches: Reaches | None) -> Match:
    """A match as the caller may see it: which code a door has, and where it is, is not for everybody."""
    if house is None:
        return match
    if reaches is not None and reaches(house.unit_id):
        return msgspec.structs.replace(
            match, lon=round(house.lon, 7), lat=round(house.lat, 7), accuracy_m=10.0, exact=True
        )
    return msgspec.structs.replace(match, code=None)


# --- what is around a point --------------------------------------------------------------------------------------


def _home_around(gazetteer: Gazetteer, row: Row, reaches: Reaches) -> Match | None:
    """The nearest home, if it is near, in the commune around (or just outside all) and the caller reaches it."""
    _, unit_id, code, number, street, home_unit, hamlet_id, lon, lat, metres = row
    unit = gazetteer.units.get(home_unit or 0)
    if unit is None or metres > (HOME_METRES if unit_id == home_unit else AT_BORDER_METRES) or not reaches(home_unit):
        return None
    hamlet = gazetteer.hamlets_by_id.get(hamlet_id or 0)
    return in_unit(
        unit,
        level=MatchLevel.HOUSE,
        lon=lon,
        lat=lat,
        accuracy_m=10,
        house_number=number,
        street=street,
        hamlet=hamlet.full_name if hamlet else None,
        hamlet_id=hamlet_id,
        former=gazetteer.units.get((hamlet and hamlet.former_unit_id) or 0),
        code=code,
        exact=True,
        distance_m=round(metres, 1),
        score=1.0,
        era=Era.TODAY,
    )


def _nearest_hamlet(gazetteer: Gazetteer, unit: Unit, lon: float, lat: float) -> tuple[HamletRow | None, float]:
    """The hamlet of a commune whose place is nearest, and how far that is; none where all are far or have no place."""
    nearest, best = None, inf
    east = cos(radians(lat))  # on a plane, which over a commune puts them in the same order as the sphere
    for index in unit.hamlets:
        hamlet = gazetteer.hamlets[index]
        if hamlet.placed:
            away = ((hamlet.lon - lon) * east) ** 2 + (hamlet.lat - lat) ** 2
            if away < best:
                nearest, best = hamlet, away
    metres = inf if nearest is None else metres_between(lon, lat, nearest.lon, nearest.lat)
    return (nearest, metres) if metres < NEAR_HAMLET_METRES else (None, metres)
