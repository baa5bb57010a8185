"""A place that a text may mean: what of the text it explains, how likely that makes it, and of which time it is."""

from collections.abc import Sequence
from functools import lru_cache
from math import exp
from typing import NamedTuple
from unicodedata import normalize

from msgspec import Struct

from bkapp.address.geocoding.gazetteer import Gazetteer, Unit
from bkapp.address.geocoding.mentions import Mention
from bkapp.address.geocoding.results import Era, MatchLevel

# What a text is explained by is counted in letters; a house number counts as much as this many.
NUMBER_WEIGHT = 3.0
# Two places this far apart in what they explain are told apart with odds of e to one.
CLOSE_CALL = 0.015
# Below these chances it is better to say nothing; with two things that speak for a place a longer text is a letter
# or a label around it.
LEAST, LEAST_WITH_EVIDENCE = 0.3, 0.1


class Used(NamedTuple):
    """A mention and what it was taken for: the hypothesis' own name, or a unit it lies in."""

    mention: Mention
    weight: float  # letters explained, less for mistakes and kinds that do not fit
    mask: int
    unit: Unit | None
    own: bool
    former: bool
    timeless: bool = False
    """Whether the name fits a unit in force and one that ended alike, so that it tells no time."""


class Hypothesis(Struct):
    """One place that a text may mean, before the register is asked for the house."""

    level: MatchLevel
    index: int  # of the hamlet, street or place; the id of the unit
    support: frozenset[int]
    today: Unit | None
    lon: float
    lat: float
    used: list[Used] = []
    explained: float = 0
    weight: float = 0
    likeness: float = 1.0
    fits: bool = True
    """Whether the kind in front of its own name is of its level: it is not in "huyện Đồng Hỷ" for the commune."""
    prior: float = 0
    has_commune: bool = False
    taken: int = 0
    unmatched: tuple[tuple[int, int], ...] = ()
    rank: float = 0
    elsewhere: bool = False

    @property
    def coverage(self) -> float:
        return self.explained / self.weight if self.weight else 0

    @property
    def place(self) -> tuple[str, int]:
        """What makes it another place than another hypothesis; a commune is the same under its old and new name."""
        if self.level is MatchLevel.COMMUNE and self.today is not None:
            return ("unit", self.today.row.id)
        return ("unit" if self.level in {MatchLevel.DISTRICT, MatchLevel.PROVINCE} else self.level, self.index)


@lru_cache(maxsize=20_000)
def marks(text: str) -> str:
    """Letters with their marks in an order that does not depend on where in a syllable the tone was written."""
    return " ".join(
        "".join(sorted(normalize("NFD", word.lower()))) for word in text.replace("-", " ").replace(".", " ").split()
    )


def name_of(gazetteer: Gazetteer, hypothesis: Hypothesis) -> str:
    """What the register calls a hypothesis' place."""
    match hypothesis.level:
        case MatchLevel.HAMLET:
            return gazetteer.hamlets[hypothesis.index].full_name
        case MatchLevel.STREET:
            return gazetteer.streets[hypothesis.index].name
        case MatchLevel.PLACE:
            return gazetteer.places[hypothesis.index].name
    return gazetteer.units[hypothesis.index].row.full_name


def evidence(hypothesis: Hypothesis) -> int:
    """How many things speak for a hypothesis: names without a mistake, and kinds that fit them."""
    firm = [used for used in hypothesis.used if used.mention.similarity >= 0.99]
    return len(firm) + sum(
        used.unit is not None and used.mention.before is not None and used.unit.role in used.mention.before.roles
        for used in firm
    )


# --- from what is explained to a chance ---------------------------------------------------------------------------


def chances(hypotheses: Sequence[Hypothesis], houses: Sequence[bool | None]) -> list[float]:
    """The chance of each hypothesis to be what was meant, 0 to 1.

    ``houses`` says of each whether the register has the house that the text names; None where it names none.
    """
    plain: list[float] = []
    ranks: list[float] = []
    for hypothesis, house in zip(hypotheses, houses, strict=True):
        number = 0.0 if house is None else NUMBER_WEIGHT
        coverage = (hypothesis.explained + (number if house else 0)) / (hypothesis.weight + number)
        chance = coverage**1.3 * (1 - 0.35 * (1 - hypothesis.likeness))
        if not hypothesis.has_commune and hypothesis.level in {MatchLevel.HAMLET, MatchLevel.STREET, MatchLevel.PLACE}:
            chance *= 0.97
        if not hypothesis.fits:
            chance *= 0.8
        if len(hypothesis.used) == 1 and hypothesis.likeness < 0.99 and not hypothesis.used[0].mention.partial:
            chance *= 0.65  # one name with a mistake in it, and nothing else that speaks for it
        if hypothesis.elsewhere:
            chance *= 0.25
        plain.append(min(chance, 1.0))
        ranks.append(coverage + hypothesis.prior)
    if not plain:
        return []
    best = max(ranks)
    odds = [exp((rank - best) / CLOSE_CALL) for rank in ranks]
    total = sum(odds)
    return [chance * odd / total for chance, odd in zip(plain, odds, strict=True)]


def era_of(hypothesis: Hypothesis) -> Era:
    """The time whose units a text names."""
    old = new = before = False
    for used in hypothesis.used:
        if used.former:
            before = True
        elif used.unit is not None and not used.timeless:
            ended = used.unit.row.valid_to is not None
            old, new = old or ended, new or not ended
    if before:
        return Era.MIXED if new else Era.BEFORE_2020
    if old:
        return Era.MIXED if new else Era.BEFORE_2025
    return Era.TODAY if new else Era.ANY
