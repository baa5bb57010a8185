"""From answers to figures: how often the first answer and one of five is right, and how far a score can be believed."""

from collections.abc import Sequence
from math import sqrt

from msgspec import Struct
from typing_extensions import override

from bench.geocoding.asking import Answer, is_right
from bench.geocoding.queries import Query

SURE = 0.8  # from here on a program takes an answer without asking anybody
BINS = (0.0, 0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)

# Shares of right first answers (of ``prefix``: within five) that the design wants, by kind.
BARS = {
    "clean": 0.999, "no_diacritics": 0.999, "abbreviations": 0.999, "no_commas": 0.999, "no_district": 0.999,
    "one_typo": 0.99, "typo_hamlet": 0.98, "telex": 0.98, "vni": 0.98, "glued": 0.98, "reordered": 0.98,
    "nha_so": 0.98, "regional": 0.96, "old_names": 0.99, "pre2020": 0.99, "mixed_eras": 0.99, "prefix": 0.995,
}  # fmt: skip
BAR_OF_WRONG = 0.002


class Outcome(Struct, frozen=True):
    """What came of one query."""

    query: Query
    answers: tuple[Answer, ...]
    seconds: float
    rank: int | None  # at which place the right house stands, from 0
    status: int = 200

    @classmethod
    def of(cls, query: Query, answers: Sequence[Answer], seconds: float, status: int = 200) -> "Outcome":
        rank = next((place for place, answer in enumerate(answers) if is_right(query, answer)), None)
        return cls(query, tuple(answers), seconds, rank, status)

    @property
    def abstains(self) -> bool:
        """Whether no house is offered in the first place: nothing, or only a hamlet or commune."""
        return not self.answers or not self.answers[0].is_house

    @property
    def is_sure_and_wrong(self) -> bool:
        """Whether another house is offered as if there were no doubt."""
        return self.rank != 0 and not self.abstains and self.answers[0].score >= SURE


class Share(Struct, frozen=True):
    """So many of so many, with the 95 % interval of Wilson."""

    count: int
    of: int

    @property
    def value(self) -> float:
        return self.count / self.of if self.of else 0.0

    def interval(self) -> tuple[float, float]:
        if not self.of:
            return 0.0, 1.0
        z, n, p = 1.96, self.of, self.value
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        reach = z / (1 + z * z / n) * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max(0.0, middle - reach), min(1.0, middle + reach)

    @override
    def __str__(self) -> str:
        low, high = self.interval()
        return f"{self.value * 100:.1f} [{low * 100:.1f}-{high * 100:.1f}]"


class Score(Struct, frozen=True):
    """The figures of some outcomes."""

    first: Share
    within_five: Share
    first_of_answerable: Share
    sure_and_wrong: Share
    abstained: Share

    @classmethod
    def of(cls, outcomes: Sequence[Outcome]) -> "Score":
        count = len(outcomes)
        answerable = [outcome for outcome in outcomes if not outcome.query.unanswerable]
        return cls(
            first=Share(sum(outcome.rank == 0 for outcome in outcomes), count),
            within_five=Share(sum(outcome.rank is not None for outcome in outcomes), count),
            first_of_answerable=Share(sum(outcome.rank == 0 for outcome in answerable), len(answerable)),
            sure_and_wrong=Share(sum(outcome.is_sure_and_wrong for outcome in outcomes), count),
            abstained=Share(sum(outcome.abstains for outcome in outcomes), count),
        )

    def figures(self) -> dict[str, float]:
        """For programs."""
        return {
            "queries": self.first.of,
            "top1": round(self.first.value, 4),
            "top5": round(self.within_five.value, 4),
            "top1_answerable": round(self.first_of_answerable.value, 4),
            "sure_and_wrong": round(self.sure_and_wrong.value, 4),
            "abstained": round(self.abstained.value, 4),
        }


class Bin(Struct, frozen=True):
    """First answers with scores from ``low`` on, up to the next bin, and how many of them are right."""

    low: float
    mean: float
    right: Share


def calibration(outcomes: Sequence[Outcome]) -> list[Bin]:
    """Houses offered in the first place, by their score: an honest score is the share that is right."""
    found = []
    for place, low in enumerate(BINS):
        high = BINS[place + 1] if place + 1 < len(BINS) else 2.0
        there = [one for one in outcomes if not one.abstains and low <= one.answers[0].score < high]
        if there:
            mean = sum(one.answers[0].score for one in there) / len(there)
            found.append(Bin(low, mean, Share(sum(one.rank == 0 for one in there), len(there))))
    return found


def reaches(kind: str, score: Score) -> bool | None:
    """Whether a kind's bar is reached; None where it has none."""
    if kind not in BARS:
        return None
    return (score.within_five if kind == "prefix" else score.first).value >= BARS[kind]
