"""Asking every place that a text names how much of the text it explains.

A place explains its own name, and the names of all units it lies or lay in, whatever their order and time.  What it
does not explain counts against it, so "Thôn Nà Ít, xã Cao Tân" is the commune Cao Tân with something unknown in it,
rather than a hamlet Nà Ít somewhere else.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import exp

from bkapp.address.geocoding.gazetteer import Gazetteer, Unit
from bkapp.address.geocoding.hypotheses import CLOSE_CALL, Hypothesis, Used, marks, name_of
from bkapp.address.geocoding.mentions import Mention, Number, mask, numbers_in, uncut, with_kinds
from bkapp.address.geocoding.normalise import Tokens
from bkapp.address.geocoding.results import MatchLevel
from bkapp.address.geocoding.words import ELSEWHERE, Role, Word
from bkapp.address.rules import metres_between

# In front, a piece between commas that names nothing we know and has no word of addresses in it is somebody's name or a
# shop's.  Behind, it is a place we do not know.
ASIDE = 0.2
WRONG_LEVEL = 0.6  # "huyện Ngân Sơn" for the commune Ngân Sơn
WRONG_KIND = 0.8  # "phường Tân Lập" for the xã: there are others of that name elsewhere
FORMER = 0.995
HOPELESS = 0.5  # what can explain less than this part of what another can, is not what was meant
MOST_HAMLETS = 80
MOST_HYPOTHESES = 12
SAME_MARKS = 0.03
OWN_COMMUNE = 0.06
NEAR_METRES = 10_000
NEAR_BONUS = 0.04
# Where a name lists its places that are no units.
_LEAVES = {MatchLevel.HAMLET: "hamlets", MatchLevel.STREET: "streets", MatchLevel.PLACE: "places"}
_PLACE_KINDS = frozenset({Role.HAMLET, Role.COMMUNE, Role.DISTRICT, Role.PROVINCE})


class Scorer:
    """Scores the places that mentions name, for one text."""

    def __init__(
        self,
        gazetteer: Gazetteer,
        tokens: Tokens,
        fillers: list[tuple[int, int, Word]],
        near: tuple[float, float] | None,
        road: tuple[int, int, str] | None,
    ) -> None:
        self.gazetteer = gazetteer
        self.tokens = tokens
        self.fillers = fillers
        self.near = near
        self.numbers = numbers_in(tokens, fillers)
        self.road = road
        self.pieces = _pieces(tokens)
        self.asides: list[bool] = []
        self.unspoken: list[bool] = []
        self.place_words = 0
        self.free_fillers: list[int] = []
        self.elsewhere: list[tuple[int, int, bool]] = []

    def score(self, mentions: Sequence[Mention]) -> list[Hypothesis]:
        fillers = uncut(self.fillers, mentions)
        mentions = with_kinds(mentions, fillers)
        self.asides = _asides(self.tokens, mentions, fillers)
        self.unspoken = _asides(self.tokens, [], fillers)
        self.place_words = _bits(fillers, Role.PLACE)
        self.free_fillers = _free(fillers, self.tokens.stops)
        self.elsewhere = _elsewhere(self.tokens, fillers)
        candidates = ((hypothesis, self._usable(hypothesis, mentions)) for hypothesis in self._candidates(mentions))
        usable = [
            (sum([one.weight for one in used]), hypothesis, used)
            for hypothesis, used in candidates
            if any(one.own for one in used)
        ]
        usable.sort(key=lambda candidate: -candidate[0])
        # Explaining is the dear part, so only those get there that could come near the first.
        hypotheses = [
            self._explain(hypothesis, used)
            for most, hypothesis, used in usable[: 2 * MOST_HYPOTHESES]
            if most >= HOPELESS * usable[0][0]
        ]
        hypotheses.sort(key=lambda hypothesis: -hypothesis.rank)
        if self.tokens.marked and hypotheses:
            close = hypotheses[0].rank - CLOSE_CALL
            for hypothesis in hypotheses[:MOST_HYPOTHESES]:
                if hypothesis.rank > close and self._same_marks(hypothesis):
                    hypothesis.prior += SAME_MARKS
                    hypothesis.rank += SAME_MARKS
            hypotheses.sort(key=lambda hypothesis: -hypothesis.rank)
        seen: set[tuple[str, int]] = set()
        best = []
        for hypothesis in hypotheses:
            if hypothesis.place not in seen:
                seen.add(hypothesis.place)
                best.append(hypothesis)
        return best

    def _candidates(self, mentions: Sequence[Mention]) -> list[Hypothesis]:
        gazetteer = self.gazetteer
        units = {uid for mention in mentions for uid in (*mention.name.units, *mention.name.former)}
        hamlets = {index for mention in mentions for index in mention.name.hamlets}
        if len(hamlets) > 1:
            # Hamlets of one name are in many communes; where a commune is named, only its own can be meant.
            # A name that is a district's too (Chợ Đồn) says nothing, unless xã stands before it.
            communes = {
                uid
                for mention in mentions
                for uid in (*mention.name.units, *mention.name.former)
                if (mention.before is not None and Role.COMMUNE in mention.before.roles)
                or all(gazetteer.units[one].role is Role.COMMUNE for one in mention.name.units)
            }
            inside = {index for index in hamlets if not communes.isdisjoint(gazetteer.hamlet_support[index])}
            if not inside and len(hamlets) > MOST_HAMLETS:
                inside = {index for index in hamlets if not units.isdisjoint(gazetteer.hamlet_support[index])}
            hamlets = inside or hamlets
            if len(hamlets) > 4 * MOST_HAMLETS:
                hamlets = set(sorted(hamlets)[: 4 * MOST_HAMLETS])
        found = [self._unit(uid) for uid in units]
        for index in hamlets:
            row = gazetteer.hamlets[index]
            found.append(
                Hypothesis(
                    MatchLevel.HAMLET,
                    index,
                    gazetteer.hamlet_support[index],
                    gazetteer.units[row.unit_id],
                    row.lon,
                    row.lat,
                )
            )
        for index in {index for mention in mentions for index in mention.name.streets}:
            street = gazetteer.streets[index]
            today = gazetteer.units[street.unit_id]
            found.append(Hypothesis(MatchLevel.STREET, index, today.around, today, street.lon, street.lat))
        for index in {index for mention in mentions for index in mention.name.places}:
            place = gazetteer.places[index]
            today = gazetteer.units[place.unit_id]
            found.append(Hypothesis(MatchLevel.PLACE, index, today.around, today, place.lon, place.lat))
        return found

    def _unit(self, uid: int) -> Hypothesis:
        unit = self.gazetteer.units[uid]
        level = {Role.COMMUNE: MatchLevel.COMMUNE, Role.DISTRICT: MatchLevel.DISTRICT}.get(
            unit.role, MatchLevel.PROVINCE
        )
        return Hypothesis(level, uid, unit.support, unit.today, unit.row.lon, unit.row.lat)

    # --- explaining ---

    def _usable(self, hypothesis: Hypothesis, mentions: Sequence[Mention]) -> list[Used]:
        """What the mentions are to a hypothesis, those left out that are about something else."""
        units, support, level, index = self.gazetteer.units, hypothesis.support, hypothesis.level, hypothesis.index
        leaf = _LEAVES.get(level, "")
        found = []
        for mention in mentions:
            begin, end, name, similarity, before, _ = mention
            value, best, own, was, timeless = 0.0, None, False, False, False
            if leaf and index in (
                name.hamlets
                if level is MatchLevel.HAMLET
                else name.streets
                if level is MatchLevel.STREET
                else name.places
            ):
                value, own = similarity * _agreement(before, level, None), True
            for uid in name.units:
                if uid in support:
                    unit = units[uid]
                    its_own = not leaf and uid == index
                    fit = similarity * _agreement(before, level, unit) + (0.0005 if its_own else 0)
                    if best is not None and abs(fit - value) < 0.001:
                        timeless = timeless or (best.row.valid_to is None) != (unit.row.valid_to is None)
                    elif fit > value:
                        timeless = False
                    if fit > value:
                        value, best, own, was = fit, unit, its_own, False
            for uid in name.former:
                if uid in support and similarity * FORMER > value:
                    value, best, own, was = similarity * FORMER, units[uid], not leaf and uid == index, True
                    timeless = False
            if value:
                found.append(Used(mention, value * (end - begin), mask(begin, end), best, own, was, timeless))
        return found

    def _explain(self, hypothesis: Hypothesis, usable: list[Used]) -> Hypothesis:
        first = max((used for used in usable if used.own), key=_preference)
        chosen, taken, explained, letters = [first], first.mask, first.weight, first.mask.bit_count()
        for used in sorted(usable, key=_preference, reverse=True):
            if not used.own and not used.mask & taken:
                chosen.append(used)
                taken |= used.mask
                explained += used.weight
                letters += used.mask.bit_count()
        number = self.number_of(hypothesis, taken)
        hypothesis.used = chosen
        hypothesis.taken = taken
        hypothesis.likeness = first.mention.similarity
        hypothesis.fits = first.weight > 0.9 * first.mention.similarity * first.mask.bit_count()
        hypothesis.has_commune = hypothesis.level is MatchLevel.COMMUNE or any(
            used.unit is not None and used.unit.role is Role.COMMUNE for used in chosen
        )
        hypothesis.explained = explained
        complete = hypothesis.level is MatchLevel.HAMLET and hypothesis.has_commune
        rest, hypothesis.unmatched = self._unexplained(taken, number, chosen, complete=complete)
        hypothesis.weight = letters + rest
        firm = sum(used.mask for used in chosen if used.mention.similarity == 1)
        begin = min(used.mention.begin for used in chosen)
        hypothesis.elsewhere = any(
            not mask(at, end) & firm and (said or at > begin) for at, end, said in self.elsewhere
        )
        hypothesis.prior = self._prior(hypothesis, first)
        hypothesis.rank = hypothesis.coverage + hypothesis.prior
        return hypothesis

    def number_of(self, hypothesis: Hypothesis, taken: int) -> Number | None:
        """The number that would be the house's: a marked one, else the first that is part of no name."""
        if self.road is not None:
            taken |= mask(*self.road[:2])
        free = [number for number in self.numbers if not taken & mask(number.begin, number.end)]
        return next((number for number in free if number.marked), free[0] if free else None)

    def _unexplained(
        self, taken: int, number: Number | None, chosen: Sequence[Used], *, complete: bool
    ) -> tuple[float, tuple[tuple[int, int], ...]]:
        """How much of the text is left over, and where.

        In front of a ``complete`` address, a piece is an aside even if it holds a name: people are called Tân Sơn.
        """
        first = min(used.mention.begin for used in chosen)
        start = next(piece for token, piece in zip(self.tokens.items, self.pieces, strict=True) if token.until > first)
        asides = self.unspoken if complete else self.asides
        if number is not None:
            taken |= mask(number.begin, number.end)
        for filler in self.free_fillers:
            if not filler & taken:
                taken |= filler
        rest, left = 0.0, []
        for token, aside, piece in zip(self.tokens.items, asides, self.pieces, strict=True):
            free = mask(token.at, token.until) & ~taken
            if free:
                left.append((token.at, token.until))
                if token.number and len(token.key) >= 5:
                    rest += 0.3  # a postcode, the number of some paper
                elif (aside and piece < start) or free & self.place_words:
                    rest += free.bit_count() * ASIDE
                else:
                    rest += free.bit_count()
        return rest, tuple(left)

    def _prior(self, hypothesis: Hypothesis, first: Used) -> float:
        """What decides between places that explain the same."""
        prior = 0.0
        if hypothesis.level is MatchLevel.PROVINCE:
            prior += 0.03
        elif hypothesis.level is MatchLevel.DISTRICT:
            # There are no districts in today's province.
            today = any(
                used.unit is not None and used.unit.role is Role.PROVINCE and used.unit.row.valid_to is None
                for used in hypothesis.used
            )
            prior += -0.02 if today else 0.02
        elif hypothesis.level is MatchLevel.COMMUNE and first.unit is not None:
            # today's commune, unless something in the text is of another time
            old = any(
                used.unit is not None and used.unit.row.valid_to is not None and used is not first
                for used in hypothesis.used
            )
            ended = first.unit.row.valid_to is not None
            prior += 0.01 + (0.002 if old == ended else 0)
            prior -= 0.01 if first.former else 0
            prior -= 0 if first.unit.row.in_bac_kan else 0.01
        elif hypothesis.level is MatchLevel.PLACE:
            prior -= 0.01
        elif hypothesis.level is MatchLevel.HAMLET:
            # Of two hamlets of one name that a merger put into one commune, the one whose own commune is named.
            home = self.gazetteer.hamlets[hypothesis.index].former_unit_id
            if any(home in used.mention.name.units or home in used.mention.name.former for used in hypothesis.used):
                old = any(used.unit is not None and used.unit.row.valid_to is not None for used in hypothesis.used)
                prior += OWN_COMMUNE if old else OWN_COMMUNE / 4
        if first.mention.partial:
            prior += {MatchLevel.PROVINCE: -0.03, MatchLevel.DISTRICT: -0.01}.get(hypothesis.level, 0)
        if self.near is not None:
            away = metres_between(*self.near, hypothesis.lon, hypothesis.lat)
            prior += NEAR_BONUS * exp(-away / NEAR_METRES)
        return prior

    def _same_marks(self, hypothesis: Hypothesis) -> bool:
        """Whether the marks are those of the name too; where a tone stands in its syllable does not count."""
        first = hypothesis.used[0]
        if first.former:
            return True  # how it was written is not known
        written = self.tokens.written(first.mention.begin, first.mention.end)
        return f" {marks(written)} " in f" {marks(name_of(self.gazetteer, hypothesis))} "


def _preference(used: Used) -> float:
    """Of what explains as much, what does so to the letter."""
    return used.weight * (1 if used.mention.similarity >= 0.99 else 0.97)


def _agreement(before: Word | None, level: MatchLevel, unit: Unit | None) -> float:
    """How well the kind in front of a name fits what it is taken for."""
    if before is None or Role.NOISE in before.roles or before.roles == (Role.PLACE,):
        return 1.0
    if unit is None:
        if level is MatchLevel.HAMLET:
            fits = {Role.HAMLET, Role.HOUSE}
        elif level is MatchLevel.STREET:
            fits = {Role.ROAD, Role.ALLEY, Role.HOUSE, Role.KILOMETRE}
        else:
            fits = {Role.HAMLET, Role.HOUSE, Role.ROAD, Role.ALLEY}
        return 1.0 if fits & {*before.roles} else WRONG_LEVEL
    if unit.role not in before.roles:
        return 1.0 if before.roles == (Role.HOUSE,) else WRONG_LEVEL
    return 1.0 if len(before.roles) > 1 or unit.kind == before.kind else WRONG_KIND


def _bits(fillers: Sequence[tuple[int, int, Word]], role: Role) -> int:
    """The letters of the words of one role."""
    bits = 0
    for begin, end, word in fillers:
        if word.roles == (role,):
            bits |= mask(begin, end)
    return bits


def _pieces(tokens: Tokens) -> list[int]:
    """For each token, the how-manieth piece between commas it is in."""
    return [sum(stop <= token.at for stop in tokens.stops) for token in tokens.items]


def _asides(tokens: Tokens, mentions: Sequence[Mention], fillers: Sequence[tuple[int, int, Word]]) -> list[bool]:
    """For each token, whether it is in a piece between commas that nothing says to be of an address."""
    spoken = [mention.begin for mention in mentions]
    spoken += [begin for begin, _, word in fillers if not {Role.NOISE, Role.PLACE} & {*word.roles}]
    bounds = (0, *tokens.stops, len(tokens.joined) + 1)
    aside = {begin: not any(begin <= place < end for place in spoken) for begin, end in pairwise(bounds)}
    current = False
    found = []
    for token in tokens.items:
        current = aside.get(token.at, current)
        found.append(current)
    return found


def _free(fillers: Sequence[tuple[int, int, Word]], stops: Sequence[int]) -> list[int]:
    """The words that need no explanation.  Right behind a kind they do: in "thôn Là Mới" they are a name."""
    named = reach = -1
    free = []
    for begin, end, word in sorted(fillers, key=lambda filler: (filler[0], -filler[1])):
        if end <= reach:
            continue  # a part of a longer one
        reach = end
        if word.roles == (Role.PLACE,):
            continue
        if begin < named or (begin == named and begin not in stops):
            named = max(named, end)
            continue
        free.append(mask(begin, end))
        if _PLACE_KINDS & {*word.roles}:
            named = end
    return free


def _elsewhere(tokens: Tokens, fillers: Sequence[tuple[int, int, Word]]) -> list[tuple[int, int, bool]]:
    """Where another province or a district of one is named, and whether it is said to be one: by its kind, or because
    it is all there is between two commas.  A hotel may be called Hà Nội."""
    starts = [token.at for token in tokens.items] + [len(tokens.joined)]
    kinds = {end: begin for begin, end, word in fillers if {Role.DISTRICT, Role.PROVINCE} & {*word.roles}}
    bounds = {0, *tokens.stops, len(tokens.joined)}
    return [
        (begin, end, begin in kinds or (begin in bounds and end in bounds))
        for index, begin in enumerate(starts)
        for end in starts[index + 1 : index + 5]
        if tokens.joined[begin:end] in ELSEWHERE
    ]
