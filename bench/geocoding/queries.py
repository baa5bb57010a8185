"""The frozen set: 600 texts of each kind with the home that is meant."""

import csv
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from random import Random

from msgspec import Struct
from rapidfuzz.distance import OSA

from bench.geocoding import spelling
from bench.geocoding.generator import SEED, Hamlet, Household, hamlets, households
from bench.geocoding.kinds import KINDS, Draft

COUNT = 600
TOP = 5  # how many answers somebody looks at


class Query(Struct, frozen=True):
    """A text and the home that is meant.

    ``unanswerable``: what was typed is as near to another hamlet as to the one
    that was meant, so a right answer is luck.  These stay in the set; figures
    are given with and without them.
    """

    kind: str
    text: str
    number: str
    hamlet: str  # with its kind, as the register has it
    old: str  # code of its commune of 2025-06-30
    old_name: str
    new: str  # code of its commune of today
    is_twin: bool  # another hamlet of its commune of today has the same name, kind and all
    unanswerable: bool
    lon: float
    lat: float


@cache
def homes() -> dict[str, list[Household]]:
    """All households by code of their old commune."""
    found: defaultdict[str, list[Household]] = defaultdict(list)
    for household in households():
        found[household.hamlet.commune.code].append(household)
    return dict(found)


def of_kind(kind: str, count: int = COUNT, seed: int = SEED) -> list[Query]:
    """The first so many of a kind: commune after commune in ever new order, so that all are asked for alike.

    Another seed asks for other homes of the same province in other words.
    """
    dice = Random(f"{seed}:{kind}")
    found: list[Query] = []
    while len(found) < count:
        for code in dice.sample(sorted(homes()), len(homes())):
            household = dice.choice(homes()[code])
            draft = KINDS[kind](household, dice)
            if draft is not None and len(found) < count:
                found.append(_query(kind, household, draft))
    return found


def all_kinds(kinds: Iterable[str] = KINDS, count: int = COUNT, seed: int = SEED) -> Iterator[Query]:
    for kind in kinds:
        yield from of_kind(kind, count, seed)


def fingerprint() -> str:
    """The SHA-256 of all homes and of all queries: what a test pins, so that nobody can bend the set to a parser."""
    digest = hashlib.sha256()
    for code, found in homes().items():
        for home in found:
            digest.update(f"{code}\t{home.hamlet.name}\t{home.number}\t{home.lon:.7f}\t{home.lat:.7f}\n".encode())
    for query in all_kinds():
        line = (query.kind, query.text, query.number, query.hamlet, query.old, query.new, str(query.unanswerable))
        digest.update(repr(line).encode())
    return digest.hexdigest()


def dump(path: Path, queries: Iterable[Query]) -> int:
    """Write queries as a CSV file; return how many."""
    written = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(Query.__struct_fields__)
        for query in queries:
            rows.writerow([getattr(query, field) for field in Query.__struct_fields__])
            written += 1
    return written


def _query(kind: str, household: Household, draft: Draft) -> Query:
    hamlet = household.hamlet
    return Query(
        kind=kind,
        text=draft.text,
        number=household.number,
        hamlet=hamlet.name,
        old=hamlet.commune.code,
        old_name=hamlet.commune.name,
        new=hamlet.commune.today.code,
        is_twin=any(_is_twin(hamlet, other) for other in _namesakes()[spelling.fold(hamlet.bare)]),
        unanswerable=bool(draft.meant) and _is_unanswerable(hamlet, draft),
        lon=household.lon,
        lat=household.lat,
    )


def _is_twin(one: Hamlet, other: Hamlet) -> bool:
    """Whether two hamlets of different old communes have one name, kind and all, in one commune of today."""
    same_name = spelling.fold(one.name) == spelling.fold(other.name)
    return same_name and one.commune.today == other.commune.today and one.commune != other.commune


@cache
def _namesakes() -> dict[str, list[Hamlet]]:
    found: defaultdict[str, list[Hamlet]] = defaultdict(list)
    for hamlet in hamlets():
        found[spelling.fold(hamlet.bare)].append(hamlet)
    return found


@cache
def _by_commune() -> dict[str, list[Hamlet]]:
    found: defaultdict[str, list[Hamlet]] = defaultdict(list)
    for hamlet in hamlets():
        found[hamlet.commune.code].append(hamlet)
    return found


def _is_unanswerable(hamlet: Hamlet, draft: Draft) -> bool:
    """Whether the text is as near to what would have been written for another hamlet, with marks and without.

    Of a text that stops early: whether more hamlets go on like it than a list of answers shows.
    """
    rivals = [*_by_commune()[hamlet.commune.code], *_namesakes()[spelling.fold(hamlet.bare)]]
    others = {_instead(draft.meant, hamlet, rival) for rival in rivals} - {draft.meant}
    if draft.open_end:
        begun = spelling.fold(draft.text)
        return 1 + sum(spelling.fold(other).startswith(begun) for other in others) > TOP
    text, folded = draft.text.lower(), spelling.fold(draft.text)
    away = OSA.distance(text, draft.meant.lower()), OSA.distance(folded, spelling.fold(draft.meant))
    return any(
        OSA.distance(text, other.lower()) <= away[0] and OSA.distance(folded, spelling.fold(other)) <= away[1]
        for other in others
    )


def _instead(meant: str, hamlet: Hamlet, rival: Hamlet) -> str:
    """What would have been written for another hamlet: the same with its names."""
    names = (
        (hamlet.bare, rival.bare),
        (hamlet.commune.name, rival.commune.name),
        (hamlet.commune.district.name, rival.commune.district.name),
    )
    at = 0
    for own, other in names:
        for form in (str, spelling.fold):
            place = meant.find(form(own), at)
            if place >= 0:
                meant = meant[:place] + form(other) + meant[place + len(form(own)) :]
                at = place + len(form(other))
                break
    return meant
