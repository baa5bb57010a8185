"""Gazetteers for tests, made from the units we ship and from hamlets that a test names; no database."""

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple

from bkapp.address.geocoding.answers import House, answer_of
from bkapp.address.geocoding.gazetteer import AliasRow, Gazetteer, HamletRow, PlaceRow, StreetRow, Unit, UnitRow
from bkapp.address.geocoding.normalise import clean, squeeze, tokens_of
from bkapp.address.geocoding.results import Answer, MatchLevel
from bkapp.address.geocoding.searching import search
from bkapp.units.seed import SeedUnit, shipped

HERE = Path(__file__).parent


class Village(NamedTuple):
    """A hamlet of a commune of 2025-06-30, with the numbers of its houses."""

    old_code: str
    name: str
    houses: tuple[str, ...] = ()


class Province:
    """A gazetteer with the houses that the register would have."""

    def __init__(
        self,
        villages: Sequence[Village] = (),
        *,
        streets: Mapping[str, Iterable[str]] | None = None,
        places: Mapping[str, Iterable[str]] | None = None,
    ) -> None:
        seed = shipped()
        self._units = seed.units
        self._ids = {(unit.code, unit.valid_from): number for number, unit in enumerate(seed.units, 1)}
        after = {
            self._ending(move.old, move.effective): self._ids[move.new, move.effective] for move in seed.successions
        }
        rows = [self._row(unit, after) for unit in seed.units]
        aliases = [
            AliasRow(self._ids[alias.code, alias.valid_from], alias.name, alias.source == "vietnamadminunits")
            for alias in seed.aliases
        ]
        bare = Gazetteer(units=rows, aliases=aliases)
        self.old = {
            unit.row.code: unit
            for unit in bare.units.values()
            if unit.row.level == "commune" and unit.row.valid_to == "2025-07-01"
        }
        self.today = {unit.row.code: unit for unit in bare.units.values() if unit.today is unit}
        self.villages = tuple(villages)
        self.gazetteer = Gazetteer(
            units=rows,
            aliases=aliases,
            hamlets=self._hamlets(villages),
            streets=[
                StreetRow(unit.row.id, name, (name,), unit.row.lon, unit.row.lat, 1500)
                for code, names in (streets or {}).items()
                for unit in (self.today[code],)
                for name in names
            ],
            places=[
                PlaceRow(number, unit.row.id, name, unit.row.lon, unit.row.lat)
                for code, names in (places or {}).items()
                for unit in (self.today[code],)
                for number, name in enumerate(names, 1)
            ],
        )
        self._houses = {
            (number, house.lower().replace(" ", "").replace("ngõ", "n")): house
            for number, village in enumerate(villages)
            for house in village.houses
        }

    def _ending(self, code: str, day: date) -> int:
        return next(
            self._ids[unit.code, unit.valid_from] for unit in self._units if unit.code == code and unit.valid_to == day
        )

    def _row(self, unit: SeedUnit, after: Mapping[int, int]) -> UnitRow:
        number = heir = self._ids[unit.code, unit.valid_from]
        while heir in after:
            heir = after[heir]
        above = (
            self._ids[other.code, other.valid_from]
            for other in self._units
            if other.code == unit.parent and other.valid_from <= unit.valid_from < (other.valid_to or date.max)
        )
        return UnitRow(
            id=number,
            code=unit.code,
            level=unit.level.value,
            kind=unit.kind,
            name=unit.name,
            full_name=unit.full_name,
            parent_id=next(above) if unit.parent else None,
            valid_from=unit.valid_from.isoformat(),
            valid_to=unit.valid_to.isoformat() if unit.valid_to else None,
            lon=unit.lon,
            lat=unit.lat,
            radius_m=4000,
            heirs=(heir,) if heir != number else (),
            in_bac_kan=unit.in_bac_kan,
        )

    def _hamlets(self, villages: Sequence[Village]) -> list[HamletRow]:
        def today(village: Village) -> Unit:
            unit = self.old[village.old_code].today
            assert unit is not None
            return unit

        namesakes = Counter((today(village).row.id, squeeze(village.name)) for village in villages)
        return [
            HamletRow(
                id=number,
                unit_id=today(village).row.id,
                name=village.name,
                qualifier=old.name if namesakes[today(village).row.id, squeeze(village.name)] > 1 else None,
                former_unit_id=old.id,
                former_names=(),
                lon=old.lon,
                lat=old.lat,
                radius_m=800,
            )
            for number, village in enumerate(villages, 1)
            for old in (self.old[village.old_code].row,)
        ]

    def find(
        self, text: str, *, limit: int = 5, typing: bool = False, near: tuple[float, float] | None = None
    ) -> Answer:
        """What the geocoder says with a register that has the villages' houses."""
        tokens = tokens_of(clean(text), self.gazetteer.vocabulary)
        found = search(self.gazetteer, tokens, typing=typing, near=near)
        houses: list[list[House]] = []
        for hypothesis, number in zip(found.hypotheses, found.numbers, strict=True):
            there = []
            if number is not None and hypothesis.level is MatchLevel.HAMLET:
                hamlet = self.gazetteer.hamlets[hypothesis.index]
                there = [
                    House("", self._houses[key], None, hamlet.unit_id, hamlet.id, hamlet.lon, hamlet.lat)
                    for key in ((hypothesis.index, form) for form in number.forms)
                    if key in self._houses
                ][:1]
            houses.append(there)
        return answer_of(self.gazetteer, text, found, houses, limit=limit, typing=typing)


def written_villages() -> list[Village]:
    """The hamlets of ``hamlets.csv``; houses are separated by semicolons where one has a space in it."""
    with (HERE / "hamlets.csv").open(encoding="utf-8", newline="") as file:
        return [
            Village(row["old_code"], row["name"], tuple(row["houses"].split(";" if ";" in row["houses"] else None)))
            for row in csv.DictReader(file)
        ]
