"""All names that addresses are made of, indexed for finding them in a text.

Built from plain rows, so that a test or a program without a database can build one.  It is small (a province has
some hundred units and some thousand hamlets) and is kept in memory; houses are not in it.
"""

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import chain

from msgspec import Struct

from bkapp.address.geocoding.normalise import keys_of, squeeze
from bkapp.address.geocoding.words import HAMLET_KINDS, SYLLABLES, WORDS, Role, road_reference
from bkapp.units.names import fold

BAC_THAI = ("06", "19")  # from 1965 to 1996 Bắc Kạn and Thái Nguyên were the province Bắc Thái
SHORTEST_FUZZY = 4  # letters; among shorter names everything is one mistake away from everything


class UnitRow(Struct, frozen=True):
    """A unit for the time it had one name.  ``heir`` is today's commune that it became, None for higher levels."""

    id: int
    code: str
    level: str
    kind: str
    name: str
    full_name: str
    parent_id: int | None
    valid_from: str
    valid_to: str | None
    lon: float
    lat: float
    radius_m: float
    heirs: tuple[int, ...] = ()
    postcode: str | None = None
    in_bac_kan: bool = True


class AliasRow(Struct, frozen=True):
    """Another spelling of a unit's name, or (``former``) what a part of it was called before our records begin."""

    unit_id: int
    name: str
    former: bool


class HamletRow(Struct, frozen=True):
    """A hamlet of today: where it is as far as anybody may know, the commune it was in before, its former names."""

    id: int
    unit_id: int
    name: str
    qualifier: str | None
    former_unit_id: int | None
    former_names: tuple[str, ...]
    lon: float
    lat: float
    radius_m: float
    placed: bool = True
    """Whether lon, lat are the hamlet's and not its commune's."""

    @property
    def full_name(self) -> str:
        return f"{self.name} ({self.qualifier})" if self.qualifier else self.name


class StreetRow(Struct, frozen=True):
    """A street or road in a commune of today.  ``spellings`` are the ways the register writes it at doors."""

    unit_id: int
    name: str
    spellings: tuple[str, ...]
    lon: float
    lat: float
    radius_m: float


class PlaceRow(Struct, frozen=True):
    id: int
    unit_id: int
    name: str
    lon: float
    lat: float


class Unit(Struct):
    """A unit with what it supports: the ids of all units that are true of a place in it, in any time."""

    row: UnitRow
    kind: str
    role: Role
    today: "Unit | None" = None
    district: "Unit | None" = None
    province: "Unit | None" = None
    support: frozenset[int] = frozenset()
    around: frozenset[int] = frozenset()
    """Of a commune of today: what is true of any place in it, whichever of the former communes it was in."""
    hamlets: tuple[int, ...] = ()


class Name(Struct):
    """Everything that is called so.  ``former`` are units of which it was the name of a part before 2020."""

    key: str
    units: list[int] = []
    former: list[int] = []
    hamlets: list[int] = []
    streets: list[int] = []
    places: list[int] = []
    short: bool = False
    """An abbreviation: only where it stands as a word of its own."""


_LEVEL_ROLE = {"commune": Role.COMMUNE, "district": Role.DISTRICT, "province": Role.PROVINCE}


class Gazetteer:
    """The index.  Ids of units are theirs in the rows; hamlets, streets and places are counted here."""

    def __init__(
        self,
        *,
        units: Iterable[UnitRow],
        aliases: Iterable[AliasRow] = (),
        hamlets: Sequence[HamletRow] = (),
        streets: Sequence[StreetRow] = (),
        places: Sequence[PlaceRow] = (),
    ) -> None:
        self.units = {row.id: Unit(row, " ".join(keys_of(row.kind)), _LEVEL_ROLE[row.level]) for row in units}
        self.hamlets = tuple(hamlets)
        self.hamlets_by_id = {hamlet.id: hamlet for hamlet in self.hamlets}
        self.streets = tuple(streets)
        self.places = tuple(places)
        self.names: dict[str, Name] = {}
        self.vocabulary: set[str] = set(SYLLABLES)
        self._relate()
        self.hamlet_support = tuple(self._support_of(hamlet) for hamlet in self.hamlets)
        self._name_units(aliases)
        self._name_hamlets()
        for index, street in enumerate(self.streets):
            for form in {street_key(spelling) for spelling in (street.name, *street.spellings)}:
                self._call(form, street.name).streets.append(index)
        for index, place in enumerate(self.places):
            self._call(squeeze(place.name), place.name).places.append(index)
        self._sort()

    # --- units ---

    def _relate(self) -> None:
        by_unit: dict[int, list[int]] = defaultdict(list)
        for index, hamlet in enumerate(self.hamlets):
            by_unit[hamlet.unit_id].append(index)
            by_unit[hamlet.former_unit_id or -hamlet.unit_id].append(index)
        for unit in self.units.values():
            above = self.units.get(unit.row.parent_id or 0)
            if unit.role is Role.COMMUNE:
                heirs = [self.units[heir] for heir in unit.row.heirs if heir in self.units]
                unit.today = heirs[0] if heirs else unit
                if above is not None and above.role is Role.DISTRICT:
                    unit.district = above
                    above = self.units.get(above.row.parent_id or 0)
            elif unit.role is Role.DISTRICT:
                unit.district = unit
            unit.province = unit if unit.role is Role.PROVINCE else above
            unit.hamlets = tuple(by_unit.get(unit.row.id, ()))
            if unit.today is not None and unit.today is not unit:
                # Of some hamlets it is not known in which of the former communes they were.
                unit.hamlets += tuple(by_unit.get(-unit.today.row.id, ()))
        self._support()

    def _support(self) -> None:
        """What is true of a place in a unit: its own line upwards in its time and today's; of a commune of today also
        the districts and the province that its communes were in."""
        communes = [unit for unit in self.units.values() if unit.today is not None]
        for unit in communes:
            unit.support = self._line(unit) | self._line(unit.today)
        for unit in communes:
            if unit.today is not unit and unit.today is not None:
                unit.today.support |= self._line(unit) - {unit.row.id}
        for unit in communes:
            # Xã Vân Tùng that became Thị trấn Vân Tùng is true of the town's places too.
            unit.support |= {other.row.id for other in communes if _same_under_another_kind(unit, other)}
        for unit in communes:
            if unit.today is unit:
                unit.around = unit.support.union(*(old.support for old in communes if old.today is unit))
        for unit in self.units.values():
            if unit.role is Role.DISTRICT:
                below = [other for other in communes if other.district is unit]
                above = {
                    up.row.id for other in below for up in (other.province, other.today and other.today.province) if up
                }
                unit.support = frozenset({unit.row.id, *above})
                unit.hamlets = tuple(sorted({hamlet for other in below for hamlet in other.hamlets}))
            elif unit.role is Role.PROVINCE:
                # The province that took another one in explains its name: "Thái Nguyên (Bắc Kạn cũ)".
                joined = {
                    other.province.row.id
                    for other in communes
                    if other.province and other.today and other.today.province is unit
                }
                unit.support = frozenset({unit.row.id, *joined})

    def _line(self, unit: Unit | None) -> frozenset[int]:
        """A unit and those above it in its time."""
        return frozenset(up.row.id for up in (unit, unit.district, unit.province) if up) if unit else frozenset()

    def _support_of(self, hamlet: HamletRow) -> frozenset[int]:
        today = self.units[hamlet.unit_id]
        if hamlet.former_unit_id is not None and hamlet.former_unit_id in self.units:
            return self.units[hamlet.former_unit_id].support | {today.row.id}
        return today.around  # in which of the communes that were joined is not known

    # --- names ---

    def _call(self, form: str, words: str) -> Name:
        self.vocabulary.update(keys_of(words))
        name = self.names.get(form)
        if name is None:
            name = self.names[form] = Name(form)
        return name

    def _name_units(self, aliases: Iterable[AliasRow]) -> None:
        # Those in force first: where nothing tells them apart, a name means what it means today.
        for unit in sorted(self.units.values(), key=lambda unit: unit.row.valid_to is not None):
            self._call(squeeze(unit.row.name), unit.row.full_name).units.append(unit.row.id)
        kinds = sorted((form for form, word in WORDS.items() if Role.COMMUNE in word.roles), key=len, reverse=True)
        for alias in aliases:
            unit = self.units[alias.unit_id]
            form = squeeze(alias.name)
            # a former name may come with its kind run together: xahavi
            bare = next((form[len(kind) :] for kind in kinds if len(kind) > 1 and form.startswith(kind)), form)
            bare = bare if len(bare) >= 3 else form
            known = self._call(bare, alias.name)
            own = squeeze(unit.row.name) == bare
            if not own and unit.row.id not in known.units and unit.row.id not in known.former:
                (known.former if alias.former else known.units).append(unit.row.id)
        for unit in self.units.values():
            words = fold(unit.row.name).split()
            if unit.role is not Role.COMMUNE or len(words) > 2:
                initials, kind = (
                    "".join(word[0] for word in words),
                    "".join(word[0] for word in fold(unit.kind).split()),
                )
                for form in (initials, kind + initials):
                    name = self._call(form, "")
                    name.units.append(unit.row.id)
                    name.short = True
            if len(words) > 3:  # Phường Nguyễn Thị Minh Khai is Phường Minh Khai to its people
                self._call(squeeze(" ".join(words[-2:])), "").units.append(unit.row.id)
        for code in BAC_THAI:
            provinces = [unit for unit in self.units.values() if unit.row.code == code]
            self._call(squeeze("Bắc Thái"), "Bắc Thái").former.extend(unit.row.id for unit in provinces)

    def _name_hamlets(self) -> None:
        self._names_of_hamlet: list[list[str]] = []
        self._guessable_of_hamlet: list[list[str]] = []
        for index, hamlet in enumerate(self.hamlets):
            forms: dict[str, bool] = {}
            for called in (hamlet.name, *hamlet.former_names):
                self.vocabulary.update(keys_of(called))
                numbered, its_forms = hamlet_forms(called)
                # Tổ 8 is never a misspelt Tổ 9.
                forms |= {form: not numbered and len(form) >= SHORTEST_FUZZY for form in its_forms}
            for form in sorted(forms):
                self._call(form, "").hamlets.append(index)
            self._names_of_hamlet.append(sorted(forms))
            self._guessable_of_hamlet.append([form for form in sorted(forms) if forms[form]])

    def _sort(self) -> None:
        """What is needed to find names by their beginnings, by sound, and with mistakes."""
        # A word that is a whole name run together is known too.
        self.vocabulary.update(key for key in self.names if len(key) >= SHORTEST_FUZZY)
        self.sorted_names = sorted(self.names)
        self.sorted_units = sorted(key for key, name in self.names.items() if name.units and not name.short)
        self.longest = max(map(len, self.names), default=0)
        self.by_sound: dict[str, list[Name]] = defaultdict(list)
        for name in self.names.values():
            if not name.short:
                self.by_sound[sound(name.key)].append(name)
        self.unit_names = [
            key
            for key, name in self.names.items()
            if (name.units or name.former) and not name.short and len(key) >= SHORTEST_FUZZY
        ]
        self.hamlet_names = sorted({form for forms in self._guessable_of_hamlet for form in forms})
        self._names_in: dict[tuple[int, bool], list[str]] = {}

    def names_in(self, unit_id: int, *, guessable: bool = True) -> list[str]:
        """The names of the hamlets of a unit; ``guessable`` are those that can be told in spite of a mistake."""
        key = (unit_id, guessable)
        if key not in self._names_in:
            forms = self._guessable_of_hamlet if guessable else self._names_of_hamlet
            found = chain.from_iterable(forms[index] for index in self.units[unit_id].hamlets)
            self._names_in[key] = sorted(set(found))
        return self._names_in[key]

    def beginning_with(self, prefix: str, most: int, *, units_only: bool = False) -> list[str]:
        """The keys of names that begin so, in order."""
        names = self.sorted_units if units_only else self.sorted_names
        start = bisect_left(names, prefix)
        found = []
        for key in names[start : start + most]:
            if not key.startswith(prefix):
                break
            found.append(key)
        return found


def _same_under_another_kind(one: Unit, other: Unit) -> bool:
    return (
        one is not other
        and one.row.code == other.row.code
        and one.row.name == other.row.name
        and one.today is other.today
        and other is not one.today
    )


def street_key(name: str) -> str:
    """The key of a street: without its kind, a numbered road by its class and number."""
    return _road_key(squeeze(name))


def _road_key(form: str) -> str:
    reference = road_reference(form)
    if reference:
        return reference
    for kind in ("duongpho", "duong", "pho"):
        if form.startswith(kind) and len(form) > len(kind) + 2:
            return form[len(kind) :]
    return form


_ARABIC = {
    roman: str(number)
    for number, roman in enumerate(
        "i ii iii iv v vi vii viii ix x xi xii xiii xiv xv".split(),  # noqa: SIM905  (fifteen strings are no clearer)
        1,
    )
}
_ROMAN = {arabic: roman for roman, arabic in _ARABIC.items()}


def hamlet_forms(name: str) -> tuple[bool, set[str]]:
    """Whether a hamlet has a number for a name, and the keys by which it is found: without its kind, or with a number
    every kind in use.

    ``Thôn Nà Ít`` is found by ``nait``, ``Tổ 8A`` by ``to8a``, ``tdp8a``, ``todanphoso8a`` and more, ``Bản Cuôn`` by
    ``bancuon`` and ``cuon``: Bản is a kind to some and a part of the name to others.  ``Nà Cà 2`` is ``Nà Cà II`` too.
    """
    words = keys_of(name)
    if not words:
        return False, set()
    kind, rest = "", words
    for length in (3, 2, 1):
        word = WORDS.get("".join(words[:length]))
        if word is not None and Role.HAMLET in word.roles and len(words) > length and len("".join(words[:length])) > 1:
            kind, rest = word.kind, words[length:]
            break
    if len(rest) > 1 and rest[0] == "so" and rest[1][0].isdigit():
        rest = rest[1:]
    last = rest[-1].lstrip("0") or rest[-1]
    numbers = {last}
    if len(_ROMAN.get(last, "")) > 1:  # i and v are letters of names to most who type them
        numbers.add(_ROMAN[last])
    elif last in _ARABIC and (len(last) > 1 or (kind and len(rest) == 1)):
        numbers.add(_ARABIC[last])
    if kind and len(rest) == 1 and any(number[0].isdigit() for number in numbers):
        forms = HAMLET_KINDS[kind]
        return True, {f"{squeeze(form)}{so}{one}" for form in forms for so in ("", "so") for one in numbers}
    bares = {"".join((*rest[:-1], number)) for number in numbers}
    if kind == "thon" and words[0] == "ban":
        return False, {form for bare in bares for form in (bare, f"ban{bare}") if len(form) > 2}
    return False, bares if min(map(len, bares)) > 1 else {"".join(words)}


# --- sound ------------------------------------------------------------------------------------------------------

_HEARD = re.compile("tr|gi|[rxl]")
_AS = {"tr": "ch", "r": "d", "x": "s", "l": "n"}


def sound(key: str) -> str:
    """A key as people hear it who do not tell l/n, s/x, tr/ch, d/gi/r apart.

    In words run together the ends of words are lost, so every such letter is taken for the beginning of one.
    """
    return _HEARD.sub(lambda found: _AS.get(found[0]) or _heard_gi(found), key)


def sound_places(key: str) -> list[int]:
    """Where each letter of ``sound(key)``, and its end, comes from in ``key``."""
    places: list[int] = []
    last = 0
    for found in _HEARD.finditer(key):
        places += range(last, found.start())
        heard = _AS.get(found[0]) or _heard_gi(found)
        places += range(found.start(), found.start() + len(heard))
        last = found.end()
    places += range(last, len(key) + 1)
    return places


def _heard_gi(found: re.Match[str]) -> str:
    # gia is da, gìn is din
    return "d" if found.string[found.end() : found.end() + 1] in tuple("aeiouy") else "di"
