"""What a text may mean: its names as they are, then as they sound, then with mistakes, until it is explained."""

from collections.abc import Iterable

from msgspec import Struct

from bkapp.address.geocoding.gazetteer import Gazetteer
from bkapp.address.geocoding.hypotheses import Hypothesis
from bkapp.address.geocoding.mentions import (
    Mention,
    Number,
    edges,
    exact,
    misspelt,
    misspelt_numbered,
    misspelt_words,
    partial,
    road_in,
    sounding,
    words_at,
)
from bkapp.address.geocoding.normalise import Tokens
from bkapp.address.geocoding.results import MatchLevel
from bkapp.address.geocoding.scoring import MOST_HYPOTHESES, Scorer
from bkapp.address.geocoding.words import Role

WELL_EXPLAINED = 0.985


class Search(Struct):
    """A text with everything that it may mean, best first."""

    tokens: Tokens
    mentions: list[Mention]
    hypotheses: list[Hypothesis]
    numbers: list[Number | None]  # of each hypothesis, the house that the text names


def search(
    gazetteer: Gazetteer, tokens: Tokens, *, typing: bool = False, near: tuple[float, float] | None = None
) -> Search:
    """Everything a text may mean.  ``typing``: it may end in the middle of a name.  ``near`` is (lon, lat)."""
    places = edges(tokens)
    fillers = words_at(tokens, places)
    mentions = exact(gazetteer, tokens, places)
    if typing:
        mentions += partial(gazetteer, tokens, mentions)
    road = road_in(tokens)
    if road is not None and road[2] in gazetteer.names:  # "quốc lộ 3" is called QL3 in the register
        mentions.append(Mention(*road[:2], gazetteer.names[road[2]], 1.0, None))
    scorer = Scorer(gazetteer, tokens, fillers, near, road)
    hypotheses = scorer.score(mentions)
    if not hypotheses or hypotheses[0].coverage < WELL_EXPLAINED:
        mentions += sounding(gazetteer, tokens)
        hypotheses = scorer.score(mentions)
    if not hypotheses or hypotheses[0].unmatched or hypotheses[0].coverage < WELL_EXPLAINED - 0.04:
        covered = hypotheses[0].taken if hypotheses else 0
        scorer.fillers += misspelt_words(tokens, covered)
        hypotheses = _guess(scorer, mentions, covered)
        if hypotheses and hypotheses[0].unmatched:
            # What looked understood may be a part of something longer that is misspelt.
            firm = [used for used in hypotheses[0].used if not used.own and used.mention.end - used.mention.begin > 5]
            again = sum(used.mask for used in firm if used.mention.similarity == 1)
            if again != covered:
                hypotheses = _guess(scorer, mentions, again)
        if scorer.numbers and not any(hypothesis.level is MatchLevel.HAMLET for hypothesis in hypotheses[:1]):
            mentions += misspelt_numbered(gazetteer, tokens)
            hypotheses = scorer.score(mentions)
    numbers = [scorer.number_of(hypothesis, hypothesis.taken) for hypothesis in hypotheses[:MOST_HYPOTHESES]]
    return Search(tokens, mentions, hypotheses[:MOST_HYPOTHESES], numbers)


def _guess(scorer: Scorer, mentions: list[Mention], covered: int) -> list[Hypothesis]:
    """Add to ``mentions`` what the letters that are not ``covered`` may have been meant for, and score again."""
    gazetteer, tokens = scorer.gazetteer, scorer.tokens
    # What is some unit's name to the letter is not another one's with a mistake.
    units = {(mention.begin, mention.end) for mention in mentions if mention.similarity == 1 and mention.name.units}
    guessed = misspelt(gazetteer, tokens, covered, gazetteer.unit_names)
    mentions += [mention for mention in guessed if (mention.begin, mention.end) not in units]
    mentions += misspelt(gazetteer, tokens, covered, _hamlets_named_around(gazetteer, mentions))
    return scorer.score(mentions)


def _hamlets_named_around(gazetteer: Gazetteer, mentions: Iterable[Mention]) -> list[str]:
    """The names of hamlets to compare a misspelt one with: of the communes that are named, else of the districts."""
    units = {uid for mention in mentions for uid in (*mention.name.units, *mention.name.former) if not mention.partial}
    for role in (Role.COMMUNE, Role.DISTRICT):
        named = [uid for uid in units if gazetteer.units[uid].role is role]
        if named:
            return sorted({name for uid in named[:12] for name in gazetteer.names_in(uid)})
    return gazetteer.hamlet_names
