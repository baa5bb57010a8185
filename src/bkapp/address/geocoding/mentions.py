"""Where names and numbers stand in a text: first as they are, then as they sound, then with mistakes."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from rapidfuzz.distance import OSA
from rapidfuzz.process import extract

from bkapp.address.geocoding.gazetteer import SHORTEST_FUZZY, Gazetteer, Name, sound, sound_places
from bkapp.address.geocoding.normalise import Tokens, squeeze
from bkapp.address.geocoding.words import HAMLET_KINDS, LONGEST_WORD, WORDS, Role, Word, road_reference

SHORTEST_INSIDE = 3  # letters of a name that begins or ends inside a word that nobody knows
SOUNDS_LIKE = 0.94
MOST_WINDOWS = 40
MOST_NAMES = 400  # mentions of a text; more come only from texts made to have them


class Mention(NamedTuple):
    """A name at a place of the joined keys.  ``before`` is the kind that stands in front of it, if one does."""

    begin: int
    end: int
    name: Name
    similarity: float
    before: Word | None
    partial: bool = False


def mask(begin: int, end: int) -> int:
    """Letters of the joined keys as bits: what is covered, free or in the way is then one operation."""
    return (1 << end) - (1 << begin)


class Number(NamedTuple):
    """A number that may be a house's.  ``forms`` are the ways to look it up, the likeliest first."""

    begin: int
    end: int
    forms: tuple[str, ...]
    marked: bool  # "số 14", "SN 14"
    written: str


def edges(tokens: Tokens) -> list[int]:
    """The places of the joined keys where a name may begin or end, in order."""
    places: list[int] = []
    for token in tokens.items:
        places.append(token.at)
        if not token.known and len(token.key) > 3:
            places.extend(range(token.at + 1, token.until))
    places.append(len(tokens.joined))
    return places


def words_at(tokens: Tokens, places: Sequence[int]) -> list[tuple[int, int, Word]]:
    """Words that are no names, the longest at each place."""
    found: list[tuple[int, int, Word]] = []
    joined = tokens.joined
    whole = {token.at for token in tokens.items} | {len(joined)}
    for index, begin in enumerate(places):
        best: tuple[int, int, Word] | None = None
        stop = next((stop for stop in tokens.stops if stop > begin), len(joined))
        for end in places[index + 1 :]:
            if end - begin > LONGEST_WORD or end > stop:
                break
            word = WORDS.get(joined[begin:end])
            # inside an unknown word, a short one is a piece of something else
            if word is not None and (
                (begin in whole and end in whole)
                or end - begin >= SHORTEST_INSIDE
                or (begin in whole and end - begin <= 2)
            ):
                best = (begin, end, word)
        if best is not None:
            found.append(best)
    return found


def exact(gazetteer: Gazetteer, tokens: Tokens, places: Sequence[int]) -> list[Mention]:
    """Names that stand in the text letter by letter."""
    joined, names, longest = tokens.joined, gazetteer.names, gazetteer.longest
    whole = {token.at for token in tokens.items} | {len(joined)}
    stops = tokens.stops
    found = []
    for index, begin in enumerate(places):
        stop = next((stop for stop in stops if stop > begin), len(joined))
        for end in places[index + 1 :]:
            if end - begin > longest or end > stop:
                break
            name = names.get(joined[begin:end])
            if name is None:
                continue
            if begin in whole and end in whole:
                found.append(Mention(begin, end, name, 1.0, None))
            elif end - begin >= SHORTEST_INSIDE and not name.short:
                found.append(Mention(begin, end, name, 0.99, None))
        if len(found) > MOST_NAMES:
            break
    return found


def partial(gazetteer: Gazetteer, tokens: Tokens, mentions: Sequence[Mention], *, most: int = 60) -> list[Mention]:
    """Names that begin as the text ends, for somebody who is still typing.

    ``mentions`` are the names that are there already: where one is a commune's, all its hamlets come into question,
    else the first ``most``.
    """
    end = len(tokens.joined)
    communes = {uid for mention in mentions for uid in mention.name.units if gazetteer.units[uid].role is Role.COMMUNE}
    found: list[Mention] = []
    for token in reversed(tokens.items[-5:]):
        start = tokens.joined[token.at :]
        keys = {*gazetteer.beginning_with(start, most, units_only=True)}
        if len(start) > 1:  # one letter is enough for a commune, not for half of all hamlets
            keys.update(gazetteer.beginning_with(start, most))
            for uid in sorted(communes)[:8]:
                keys.update(key for key in gazetteer.names_in(uid, guessable=False) if key.startswith(start))
        for key in sorted(keys):
            if key != start and not gazetteer.names[key].short:
                # what is not yet typed costs a little: of two names the one that is nearly whole comes first
                similarity = 0.97 - 0.05 * (1 - len(start) / len(key))
                found.append(Mention(token.at, end, gazetteer.names[key], similarity, None, partial=True))
    return found


def sounding(gazetteer: Gazetteer, tokens: Tokens) -> list[Mention]:
    """Names that sound like the text where l/n, s/x, tr/ch, d/gi/r are one."""
    heard, places = sound(tokens.joined), sound_places(tokens.joined)
    whole = [place for place, source in enumerate(places) if source in {token.at for token in tokens.items}]
    whole.append(len(heard))
    found = []
    for index, begin in enumerate(whole):
        for end in whole[index + 1 : index + 7]:
            for name in gazetteer.by_sound.get(heard[begin:end], ()):
                at, until = places[begin], places[end]
                if tokens.joined[at:until] != name.key:
                    found.append(Mention(at, until, name, SOUNDS_LIKE, None))
        if len(found) > MOST_NAMES:
            break
    return found


def misspelt(
    gazetteer: Gazetteer, tokens: Tokens, covered: int, within: Sequence[str], *, most: int = 6
) -> list[Mention]:
    """Names that what is left of the text may have been meant for: a letter too many, missing, wrong or swapped.

    ``covered`` are the letters already understood, ``within`` the names to consider.
    """
    found: list[Mention] = []
    for begin, end in _windows(tokens, covered):
        written = tokens.joined[begin:end]
        allowed = _mistakes(len(written) + 1)
        for key, distance, _ in extract(
            written, within, scorer=OSA.distance, score_cutoff=allowed, limit=most, processor=None
        ):
            if 0 < distance <= _mistakes(len(key)):
                # Of two names as far away, the one that begins like the text is meant: people slip later in a word.
                same = _begin_alike(key, written) / len(key)
                similarity = 1 - (distance - 0.2 * same) / max(len(key), len(written))
                found.append(Mention(begin, end, gazetteer.names[key], similarity, None))
    return found


def misspelt_words(tokens: Tokens, covered: int) -> list[tuple[int, int, Word]]:
    """Kinds with a mistake: "huỵen", "thnô"."""
    found = []
    for token in tokens.items:
        if token.known or len(token.key) < 4 or covered & mask(token.at, token.until):
            continue
        best = extract(token.key, _LONG_WORDS, scorer=OSA.distance, score_cutoff=1, limit=1)
        if best:
            found.append((token.at, token.until, WORDS[best[0][0]]))
    return found


def _begin_alike(one: str, other: str) -> int:
    return next(
        (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


def misspelt_numbered(gazetteer: Gazetteer, tokens: Tokens) -> list[Mention]:
    """Hamlets that have a number for a name, with a mistake in what stands before it: "gổ 7", "tieu kuh 7a"."""
    found = []
    items = tokens.items
    for index, token in enumerate(items):
        if not token.number:
            continue
        for first in range(max(0, index - 3), index):
            begin = items[first].at
            written = tokens.joined[begin : token.at]
            if any(item.number for item in items[first:index]) or written in WORDS:
                continue
            allowed = 1 if len(written) < 6 else 2
            for form, distance, _ in extract(written, _NUMBERED, scorer=OSA.distance, score_cutoff=allowed, limit=3):
                name = gazetteer.names.get(form + token.key)
                if name is not None and name.hamlets and distance < len(form):
                    similarity = 1 - distance / (max(len(form), len(written)) + 1)
                    found.append(Mention(begin, token.until, name, similarity, None))
    return found


_NUMBERED = sorted({squeeze(form) for forms in HAMLET_KINDS.values() for form in forms if len(squeeze(form)) > 1})
_LONG_WORDS = [form for form, word in WORDS.items() if len(form) >= 4 and Role.NOISE not in word.roles]


def _mistakes(length: int) -> int:
    """How many letters may be wrong in a name of this length."""
    return 0 if length < SHORTEST_FUZZY else 1 if length < 7 else 2 if length < 12 else 3


def _windows(tokens: Tokens, covered: int) -> list[tuple[int, int]]:
    """Stretches of up to five words that hold something not understood and nothing that is."""
    free = [(token, not covered & mask(token.at, token.until)) for token in tokens.items]
    stops = {*tokens.stops}
    found = []
    for index, (token, open_) in enumerate(free):
        if not open_:
            continue
        for last in range(index, min(index + 5, len(free))):
            item = free[last][0]
            if not free[last][1] or item.until - token.at > 24:
                break
            word = WORDS.get(item.key)
            if (
                item.until - token.at >= SHORTEST_FUZZY - 1
                and not all(one.number for one, _ in free[index : last + 1])
                and (word is None or not _HIGHER & {*word.roles})  # no name ends with xã or huyện
            ):
                found.append((token.at, item.until))
            if item.until in stops:
                break
    return found[:MOST_WINDOWS]


_HIGHER = frozenset({Role.COMMUNE, Role.DISTRICT, Role.PROVINCE})


def with_kinds(mentions: Sequence[Mention], fillers: Sequence[tuple[int, int, Word]]) -> list[Mention]:
    """The mentions, each with the kind that stands right in front of it."""
    ends: dict[int, tuple[int, Word]] = {}
    for begin, end, word in fillers:
        if end not in ends or begin < ends[end][0]:
            ends[end] = (begin, word)
    return [
        mention if mention.begin not in ends else mention._replace(before=ends[mention.begin][1])
        for mention in mentions
    ]


def uncut(fillers: Sequence[tuple[int, int, Word]], mentions: Sequence[Mention]) -> list[tuple[int, int, Word]]:
    """The words into which no name reaches: in "Phiêng Thi xã Cư Lễ" there is no thị xã."""
    names = [(one.begin, one.end) for one in mentions if one.similarity == 1 and one.end - one.begin >= SHORTEST_FUZZY]
    return [
        (begin, end, word)
        for begin, end, word in fillers
        if not any(first < begin < last < end for first, last in names)
    ]


# --- numbers ----------------------------------------------------------------------------------------------------

_LONGEST_HOUSE = 12


def numbers_in(tokens: Tokens, fillers: Sequence[tuple[int, int, Word]]) -> list[Number]:
    """Numbers that can be a house's: ``14``, ``14A``, ``14 A``, ``14/2A ngõ 5``, ``Km 12+500``; no telephones."""
    ends = {end: (begin, word) for begin, end, word in reversed(fillers)}
    starts = {begin: (end, word) for begin, end, word in fillers}
    items = tokens.items
    found: list[Number] = []
    index = 0
    while index < len(items):
        token = items[index]
        if not token.number:
            index += 1
            continue
        last = index
        while (
            last + 1 < len(items)
            and items[last + 1].number
            and (sign := tokens.text[items[last].end : items[last + 1].start].strip())
            and sign in {"/", "+", "-", "\\"}
        ):
            last += 1
        plain = _joined(tokens, index, last)
        first = last + 1
        begin, end = token.at, items[last].until
        forms = [plain]
        if first < len(items) and len(items[first].key) == 1 and not items[first].number and plain[-1].isdigit():
            # "8 A": the letter may belong to the number, or to what follows
            gap = tokens.text[items[last].end : items[first].start]
            if gap in {"", " ", "-", "."} and items[first].key in "abcdefgh":
                # "33 B. Khuổi Ảng" is rather 33, bản Khuổi Ảng
                dotted = tokens.text[items[first].end : items[first].end + 1] == "."
                forms.insert(len(forms) if dotted else 0, plain + items[first].key)
        alley = starts.get(items[first].at) if first < len(items) else None
        if alley is not None and Role.ALLEY in alley[1].roles:
            number = next((item for item in items[first:] if item.at == alley[0] and item.number), None)
            if number is not None:
                forms[:0] = [f"{plain}n{number.key}", f"{number.key}/{plain}"]
                end = number.until
        before = ends.get(begin)
        marked = before is not None and bool({Role.HOUSE, Role.KILOMETRE} & {*before[1].roles})
        digits = sum(sign.isdigit() for sign in plain)
        if digits <= 4 or (digits <= _LONGEST_HOUSE and re.search("[/+-]", plain)):
            written = tokens.written(before[0] if marked and before else begin, end)
            found.append(Number(begin, end, tuple(forms), marked, written))
        index = max(last + 1, index + 1)
    return found


def _joined(tokens: Tokens, first: int, last: int) -> str:
    """A number with the signs in it: ``14/2a``, ``12+500``."""
    text = tokens.items[first].key
    for index in range(first + 1, last + 1):
        sign = tokens.text[tokens.items[index - 1].end : tokens.items[index].start].strip().replace("\\", "/")
        text += sign + tokens.items[index].key
    return text


def road_in(tokens: Tokens) -> tuple[int, int, str] | None:
    """The first numbered road of a text and its place: QL3, quốc lộ 3, ĐT 254."""
    for index, token in enumerate(tokens.items):
        if token.number:
            continue
        for last in range(index + 1, min(index + 4, len(tokens.items))):
            if tokens.items[last].number:
                end = tokens.items[last].until
                reference = road_reference(tokens.joined[token.at : end])
                if reference:
                    return token.at, end, reference
                break
    return None
