"""The ways in which addresses are written, each a function from a household and dice to a text.

A kind answers None for a household that nobody could write that way, such as a
hamlet without its commune where the district has two hamlets of that name.
"""

import unicodedata
from collections import Counter
from collections.abc import Callable
from functools import cache
from random import Random

from msgspec import Struct
from msgspec.structs import replace

from bench.geocoding import forms, spelling
from bench.geocoding.forms import Habit, Parts
from bench.geocoding.generator import Hamlet, Household, communes, hamlets
from bench.geocoding.names import BEFORE_2020, FORMER_KINDS, SPELLINGS


class Draft(Struct, frozen=True):
    """A text and, where it was misspelt, what was meant; ``open_end``: it stops in the middle of its last name."""

    text: str
    meant: str = ""
    open_end: bool = False


Kind = Callable[[Household, Random], Draft | None]


@cache
def _twins() -> Counter[tuple[str, str]]:
    """How many hamlets have a name in a unit of today, a district or the province, whatever their kind and marks."""
    found: Counter[tuple[str, str]] = Counter()
    for hamlet in hamlets():
        name = spelling.fold(hamlet.bare)
        found[f"today {hamlet.commune.today.code}", name] += 1
        found[f"district {hamlet.commune.district.code}", name] += 1
    return found


def unique_today(hamlet: Hamlet) -> bool:
    """Whether no other hamlet of its commune of today has its name."""
    return _twins()[f"today {hamlet.commune.today.code}", spelling.fold(hamlet.bare)] == 1


def unique_in_district(hamlet: Hamlet) -> bool:
    return _twins()[f"district {hamlet.commune.district.code}", spelling.fold(hamlet.bare)] == 1


@cache
def _communes_of_today() -> frozenset[str]:
    return frozenset(commune.today.name for commune in communes())


def commune_tells(hamlet: Hamlet) -> bool:
    """Whether its old commune's name, read as one of today too, still means this hamlet and no other."""
    return unique_today(hamlet) or hamlet.commune.name not in _communes_of_today()


def clean(household: Household, dice: Random) -> Draft | None:
    return Draft(forms.write(forms.parts(household), forms.habit(dice)))


def no_diacritics(household: Household, dice: Random) -> Draft | None:
    text = forms.write(forms.parts(household), forms.habit(dice))
    return Draft(spelling.fold(text) if dice.random() < 0.5 else spelling.bare(text))


_SHORT = {
    "Thôn": ("T.", "T", "Th."), "Bản": ("B.",), "Xóm": ("X.",), "Tổ": ("T.", "Tổ"), "Khu": ("K.", "Khu"),
    "Tiểu khu": ("TK", "TK.", "T.khu"), "Tổ dân phố": ("TDP", "TDP.", "TDP số"), "Xã": ("X.", "X"),
    "Phường": ("P.", "P"), "Thị trấn": ("TT.", "TT", "T.T."), "Huyện": ("H.", "H"),
    "Thành phố": ("TP.", "TP", "Tp.", "T.P."), "Tỉnh": ("T.", "T"),
}  # fmt: skip


def abbreviations(household: Household, dice: Random) -> Draft | None:
    """T. for thôn, tổ and tỉnh, X. for xã and xóm, H., P., TT., TP., TDP, TK, SN, BK."""
    address = forms.parts(household)
    how = replace(forms.habit(dice), small=False, number=dice.choice(("SN {}", "S {}", "SN: {}", "Số {}", "{}")))

    def short(kind: str) -> str:
        return dice.choice(_SHORT[kind])

    text = forms.write(
        replace(
            address,
            hamlet_kind=short(address.hamlet_kind),
            commune_kind=short(address.commune_kind),
            district_kind=short(address.district_kind),
            province_kind=short(address.province_kind),
            province="BK" if dice.random() < 0.1 else address.province,
        ),
        how,
    )
    return Draft(text.replace(". ", ".") if dice.random() < 0.3 else text)


def no_commas(household: Household, dice: Random) -> Draft | None:
    how = replace(forms.habit(dice), after_number=" ", separator=" ")
    return Draft(forms.write(forms.parts(household), how))


def no_district(household: Household, dice: Random) -> Draft | None:
    """Without the district; without the province too where the name of the commune means one hamlet at all times."""
    how = replace(forms.habit(dice), province=dice.random() < 0.7 or not commune_tells(household.hamlet))
    return Draft(forms.write(forms.without_district(forms.parts(household)), how))


def _noisy(household: Household, dice: Random, change: Callable[[str], str]) -> Draft:
    meant = forms.write(forms.parts(household), forms.habit(dice))
    return Draft(change(meant), meant)


def one_typo(household: Household, dice: Random) -> Draft | None:
    return _noisy(household, dice, lambda text: spelling.slip(text, dice))


def typo_no_diacritics(household: Household, dice: Random) -> Draft | None:
    meant = spelling.fold(forms.write(forms.parts(household), forms.habit(dice)))
    return Draft(spelling.slip(meant, dice), meant)


def two_typos(household: Household, dice: Random) -> Draft | None:
    """Two slips in two words."""
    meant = forms.write(forms.parts(household), forms.habit(dice))
    one, other = sorted(dice.sample(spelling.words(meant), 2), reverse=True)  # the later one first: places stay
    late = spelling.slip(meant, dice, first=one[0], end=one[1])
    return Draft(spelling.slip(late, dice, first=other[0], end=other[1]), meant)


def typo_hamlet(household: Household, dice: Random) -> Draft | None:
    """A slip in the last word of the hamlet's name."""
    words = [word for word in household.hamlet.bare.split() if word.isalpha()]
    if not words or len(words[-1]) < 2:
        return None
    meant = forms.write(forms.parts(household), forms.habit(dice))
    first = meant.index(household.hamlet.bare) + household.hamlet.bare.rindex(words[-1])
    return Draft(spelling.slip(meant, dice, first=first, end=first + len(words[-1])), meant)


def _keyed(household: Household, dice: Random, keys: Callable[..., str]) -> Draft:
    """Typed with the input method off; some put the tone after the syllable, some after its vowel, some both."""
    text = forms.write(forms.parts(household), forms.habit(dice))
    text = text.lower() if dice.random() < 0.4 else text
    ends, short = dice.choice((True, False, None)), dice.random() < 0.5
    return Draft(
        " ".join(
            keys(word, at_end=dice.random() < 0.5 if ends is None else ends, short=short) for word in text.split(" ")
        )
    )


def telex(household: Household, dice: Random) -> Draft | None:
    return _keyed(household, dice, spelling.telex)


def vni(household: Household, dice: Random) -> Draft | None:
    return _keyed(household, dice, spelling.vni)


def _pairs(name: str) -> str:
    """The words of a name run together two by two."""
    words = name.split()
    return " ".join("".join(words[place : place + 2]) for place in range(0, len(words), 2))


def glued(household: Household, dice: Random) -> Draft | None:
    """Words run together in pairs, as a bad keyboard or copying from a table does: "namnghe anthang"."""
    address = forms.parts(household)
    if dice.random() < 0.5:
        address = forms.without_kinds(address)
    how = forms.habit(dice)
    how = replace(how, separator=dice.choice((" ", how.separator)))
    address = replace(
        address,
        hamlet=_pairs(address.hamlet),
        commune=_pairs(address.commune),
        district=_pairs(address.district),
        province=_pairs(address.province),
    )
    if household.hamlet.is_numbered and dice.random() < 0.5:  # "tổ8A"
        address = replace(address, hamlet=f"{address.hamlet_kind}{address.hamlet}", hamlet_kind="")
    return Draft(_sometimes_folded(forms.write(address, how), dice))


def glued_all(household: Household, dice: Random) -> Draft | None:
    """Each part is one word: "so14, thonnaleng, xavihuong"."""
    address = forms.parts(household)
    if dice.random() < 0.4:
        address = forms.without_kinds(address)
    how = forms.habit(dice)
    door = forms.number(address, how).replace(" ", "")
    names = [name.replace(" ", "") for name in forms.names(address, how)]
    return Draft(_sometimes_folded(dice.choice((" ", ", ")).join([door, *names]), dice))


def _sometimes_folded(text: str, dice: Random) -> str:
    return spelling.fold(text) if dice.random() < 0.6 else text


def reordered(household: Household, dice: Random) -> Draft | None:
    """District first and number last, or the number between hamlet and commune."""
    address = forms.parts(household)
    if dice.random() < 0.4:
        address = forms.without_kinds(address)
    comma = dice.random() < 0.6
    how = replace(
        forms.habit(dice),
        number=dice.choice(("số {}", "Số {}", "SN {}", "số nhà {}", *(("{}",) if comma else ()))),
        separator=", " if comma else " ",
        province=False,
        country=False,
    )
    door = forms.number(address, how)
    hamlet, commune, district = forms.names(address, how)
    orders = [
        (district, commune, hamlet, door),
        (district, commune, hamlet, door),
        (commune, district, hamlet, door),
        (hamlet, commune, district, door),
        (hamlet, door, commune, district),
    ]
    order = dice.choice([*orders, (commune, hamlet, door)] if commune_tells(household.hamlet) else orders)
    text = how.separator.join(order)
    return Draft(spelling.fold(text) if dice.random() < 0.4 else text)


def nha_so(household: Household, dice: Random) -> Draft | None:
    number = dice.choice(("nhà số {}", "Nhà số {}", "số nhà {}", "Số nhà {}", "Nhà {}", "nha so {}", "so nha {}"))
    text = forms.write(forms.parts(household), replace(forms.habit(dice), number=number))
    return Draft(spelling.fold(text) if number.isascii() else text)


def regional(household: Household, dice: Random) -> Draft | None:
    """Words as one's own dialect says them: l for n, s for x, tr for ch, d for gi and r, and the other way round."""
    address = forms.parts(household)
    names = address.hamlet.split(), address.commune.split()
    swaps = [
        (part, place, changed)
        for part, words in enumerate(names)
        for place, word in enumerate(words)
        if (changed := spelling.sounds_alike(word, dice)) != word
    ]
    if not swaps:
        return None
    certain = dice.choice(swaps)
    for part, place, changed in swaps:
        if (part, place, changed) == certain or dice.random() < 0.4:
            names[part][place] = changed
    how = forms.habit(dice)
    said = replace(address, hamlet=" ".join(names[0]), commune=" ".join(names[1]))
    texts = forms.write(said, how), forms.write(address, how)
    text, meant = map(spelling.fold, texts) if dice.random() < 0.3 else texts
    return Draft(text, meant)


def no_kind_words(household: Household, dice: Random) -> Draft | None:
    return Draft(forms.write(forms.without_kinds(forms.parts(household)), forms.habit(dice)))


def old_names(household: Household, dice: Random) -> Draft | None:
    """The units of 2025-06-30 with the liberties people take: other spellings, "cũ", the kinds of earlier years."""
    address = forms.parts(household)
    commune = household.hamlet.commune

    def spelt(name: str) -> str:
        return " ".join(SPELLINGS.get(word, word) if dice.random() < 0.5 else word for word in name.split())

    kind = FORMER_KINDS.get(commune.code, commune.kind) if dice.random() < 0.5 else commune.kind
    town = commune.district.kind == "Thành phố" and dice.random() < 0.3
    return Draft(
        forms.write(
            replace(
                address,
                hamlet=spelt(address.hamlet),
                commune_kind=kind if dice.random() < 0.8 else "",
                commune=spelt(address.commune) + dice.choice(("", "", "", "", " cũ", " (cũ)")),
                district_kind="Thị xã" if town else address.district_kind if dice.random() < 0.8 else "",
                district=spelt(address.district),
                province=spelt(address.province),
            ),
            forms.habit(dice),
        )
    )


def pre2020(household: Household, dice: Random) -> Draft | None:
    """A commune that was put together with another one on 2020-02-01 and still lives on in papers."""
    former = BEFORE_2020.get(household.hamlet.commune.code)
    if former is None:
        return None
    kind, name = dice.choice(former)
    address = replace(forms.parts(household), commune_kind=kind, commune=name)
    tells = unique_today(household.hamlet) or name not in _communes_of_today()
    if dice.random() < 0.15 and tells:
        address = forms.without_kinds(address)
    if dice.random() < 0.15 and tells:
        address = forms.without_district(address)
    return Draft(forms.write(address, forms.habit(dice)))


def mixed_eras(household: Household, dice: Random) -> Draft | None:
    """Old and new units in one address."""
    hamlet = household.hamlet
    old, new, how = forms.parts(household), forms.of_today(household), forms.habit(dice)
    now = f"{new.commune_kind.lower()} {new.commune}"
    if dice.random() < 0.4:
        note = dice.choice((f" (nay là {now}, tỉnh Thái Nguyên)", f" (nay {now}, Thái Nguyên)", f", nay là {now}"))
        return Draft(forms.write(old, replace(how, country=False)) + note)
    if dice.random() < 0.3 and commune_tells(hamlet):
        return Draft(forms.write(replace(old, province=forms.NEW_PROVINCE), how))
    if not unique_today(hamlet):
        return None
    if dice.random() < 0.5:
        return Draft(forms.write(replace(old, commune_kind=new.commune_kind, commune=new.commune), how))
    return Draft(forms.write(replace(new, province=forms.OLD_PROVINCE), how))


def new_form(household: Household, dice: Random) -> Draft | None:
    """As the papers of today have it: hamlet, commune, province."""
    if not unique_today(household.hamlet):
        return None
    return Draft(forms.write(forms.of_today(household), forms.habit(dice)))


def no_commune(household: Household, dice: Random) -> Draft | None:
    hamlet = household.hamlet
    if hamlet.is_numbered or not unique_in_district(hamlet):
        return None
    address = replace(forms.parts(household), commune_kind="", commune="")
    return Draft(forms.write(address, forms.habit(dice)))


def nfd(household: Household, dice: Random) -> Draft | None:
    return Draft(unicodedata.normalize("NFD", forms.write(forms.parts(household), forms.habit(dice))))


def caps(household: Household, dice: Random) -> Draft | None:
    return Draft(forms.write(forms.parts(household), forms.habit(dice)).upper())


def separators(household: Household, dice: Random) -> Draft | None:
    sign = dice.choice((" – ", " - ", "; ", " | ", " / ", "-", ";", "\t", " — "))
    how = replace(forms.habit(dice), separator=sign, after_number=sign if dice.random() < 0.5 else ", ")
    return Draft(forms.write(forms.parts(household), how))


def mojibake(household: Household, dice: Random) -> Draft | None:
    return Draft(spelling.tcvn3(forms.write(forms.parts(household), forms.habit(dice))))


def prefix(household: Household, dice: Random) -> Draft | None:
    """As far as somebody has typed who is in the middle of the commune's or the district's name."""
    address = forms.parts(household)
    if dice.random() < 0.7:
        address = forms.without_district(address)
    if dice.random() < 0.4:
        address = forms.without_kinds(address)
    how = _quick(dice)
    meant = forms.write(address, how)
    name = address.district or address.commune
    text = meant[: len(meant) - min(dice.randint(1, 8), len(name) - 1)].rstrip()
    return Draft(spelling.fold(text) if dice.random() < 0.5 else text, meant, open_end=True)


def _quick(dice: Random) -> Habit:
    how = forms.habit(dice)
    return replace(how, separator=dice.choice((" ", how.separator)), small=True, province=False, country=False)


KINDS: dict[str, Kind] = {
    kind.__name__: kind
    for kind in (
        clean, no_diacritics, abbreviations, no_commas, no_district, one_typo, typo_no_diacritics, typo_hamlet,
        two_typos, telex, vni, glued, glued_all, reordered, nha_so, regional, no_kind_words, old_names, pre2020,
        mixed_eras, new_form, no_commune, nfd, caps, separators, mojibake, prefix,
    )
}  # fmt: skip

__all__ = ["KINDS", "Draft", "Kind", "Parts"]
