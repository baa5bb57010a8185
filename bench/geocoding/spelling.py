"""What keyboards, haste, dialects and old files do to Vietnamese text.  Nothing here knows about addresses."""

import unicodedata
from collections.abc import Callable
from random import Random

_TONES = "\u0301\u0300\u0309\u0303\u0323"  # sắc, huyền, hỏi, ngã, nặng
_CIRCUMFLEX, _BREVE, _HORN = "\u0302", "\u0306", "\u031b"
_TELEX_TONES = dict(zip(_TONES, "sfrxj", strict=True))
_VNI_TONES = dict(zip(_TONES, "12345", strict=True))
_VNI_SHAPES = {_CIRCUMFLEX: "6", _HORN: "7", _BREVE: "8"}

# TCVN3 (.VnTime): where each letter lies.  Capitals with a tone have no place of their own, the font makes them large.
_TCVN3 = dict(
    zip(
        "àảãáạăằẳẵắặâầẩẫấậđèẻẽéẹêềểễếệìỉĩíịòỏõóọôồổỗốộơờởỡớợùủũúụưừửữứựỳỷỹýỵĂÂÊÔƠƯĐ",
        bytes.fromhex(
            "B5B6B7B8B9A8BBBCBDBEC6A9C7C8C9CACBAECCCECFD0D1AAD2D3D4D5D6D7D8DCDDDEDFE1E2E3E4ABE5E6E7E8E9"
            "ACEAEBECEDEEEFF1F2F3F4ADF5F6F7F8F9FAFBFCFDFEA1A2A3A4A5A6A7"
        ).decode("latin-1"),
        strict=True,
    )
)

_NEARBY = {
    "q": "wa", "w": "qes", "e": "wrd", "r": "etf", "t": "ryg", "y": "tuh", "u": "yij", "i": "uok", "o": "ipl",
    "p": "ol", "a": "qsz", "s": "awdx", "d": "sefc", "f": "drgv", "g": "fthb", "h": "gyjn", "j": "hukm", "k": "jil",
    "l": "kop", "z": "asx", "x": "zsdc", "c": "xdfv", "v": "cfgb", "b": "vghn", "n": "bhjm", "m": "njk",
}  # fmt: skip
_VOWELS = {
    "a": "aàáảãạăằắẳẵặâầấẩẫậ", "e": "eèéẻẽẹêềếểễệ", "i": "iìíỉĩị", "o": "oòóỏõọôồốổỗộơờớởỡợ", "u": "uùúủũụưừứửữự",
    "y": "yỳýỷỹỵ",
}  # fmt: skip

# What one ear does not tell from the other.
_ONSETS = (("l", "n"), ("s", "x"), ("tr", "ch"), ("d", "gi", "r"))
_ALL_ONSETS = (
    "ngh", "ng", "nh", "gh", "kh", "ph", "th", "tr", "ch", "gi", "qu", "sl", "phj", "pj", "b", "c", "d", "đ", "g",
    "h", "k", "l", "m", "n", "p", "r", "s", "t", "v", "x",
)  # fmt: skip


def fold(text: str) -> str:
    """Small letters without marks, as on a telephone without Vietnamese."""
    letters = unicodedata.normalize("NFD", text.lower().replace("đ", "d"))
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


def bare(text: str) -> str:
    """The same without making letters small."""
    letters = unicodedata.normalize("NFD", text.replace("đ", "d").replace("Đ", "D"))
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


def telex(text: str, *, at_end: bool, short: bool = False) -> str:
    """The keys of Telex; the tone after the syllable or straight after its vowel; ``short``: ươ as uow, not uwow."""
    return _keys(text, _telex_letter, _TELEX_TONES, at_end=at_end, horns=("uwow", "uow") if short else None)


def vni(text: str, *, at_end: bool, short: bool = False) -> str:
    """The keys of VNI; ``short``: ươ as uo7, not u7o7."""
    return _keys(text, _vni_letter, _VNI_TONES, at_end=at_end, horns=("u7o7", "uo7") if short else None)


def _keys(
    text: str,
    shape: Callable[[str, str], str],
    tones: dict[str, str],
    *,
    at_end: bool,
    horns: tuple[str, str] | None,
) -> str:
    written = []
    for word in _runs(text):
        keys, last = "", ""
        for letter in word:
            base, *marks = list(unicodedata.normalize("NFD", letter))
            tone = "".join(tones[mark] for mark in marks if mark in tones)
            keys += shape(base, "".join(mark for mark in marks if mark not in tones))
            if at_end:
                last += tone
            else:
                keys += tone
        if horns:
            keys = keys.replace(*horns).replace(horns[0].capitalize(), horns[1].capitalize())
        written.append(keys + last)
    return "".join(written)


def _runs(text: str) -> list[str]:
    """Runs of letters, and what is between them letter by letter."""
    found: list[str] = []
    inside = False
    for letter in unicodedata.normalize("NFC", text):
        if letter.isalpha() and inside:
            found[-1] += letter
        else:
            found.append(letter)
        inside = letter.isalpha()
    return found


def _telex_letter(base: str, shape: str) -> str:
    if base in "đĐ":
        return {"đ": "dd", "Đ": "DD"}[base]
    return base + {"": "", _CIRCUMFLEX: base.lower(), _BREVE: "w", _HORN: "w"}[shape]


def _vni_letter(base: str, shape: str) -> str:
    if base in "đĐ":
        return {"đ": "d9", "Đ": "D9"}[base]
    return base + _VNI_SHAPES.get(shape, "")


def tcvn3(text: str) -> str:
    """The bytes of TCVN3 read as Latin-1, as in tables copied from old files."""
    written = []
    for letter in unicodedata.normalize("NFC", text):
        if letter.isascii():
            written.append(letter)
        else:
            written.append(_TCVN3.get(letter) or _TCVN3[letter.lower()])
    return "".join(written)


def slip(text: str, dice: Random, *, first: int = 0, end: int | None = None) -> str:
    """One slip of the fingers in a word of letters between two places of a text.

    A letter too many, too few, another one, two exchanged, or a wrong mark.  Words of one letter and words with
    digits are left alone: there a slip would make another address and not a misspelt one.
    """
    end = len(text) if end is None else end
    places = [place for word in words(text) for place in range(*word) if first <= place < end]
    while places:
        at = dice.choice(places)
        changed = _slip_at(text, at, dice)
        if changed != text:
            return changed
    raise ValueError(f"no word to misspell in {text!r}")


def words(text: str) -> list[tuple[int, int]]:
    """Where words of at least two letters and no digit begin and end."""
    found: list[tuple[int, int]] = []
    start = 0
    for place in range(len(text) + 1):
        if place == len(text) or not text[place].isalnum():
            if place - start > 1 and text[start:place].isalpha():
                found.append((start, place))
            start = place + 1
    return found


def _slip_at(text: str, at: int, dice: Random) -> str:
    letter = text[at]
    marked = any(not sign.isascii() for sign in text)
    kinds = ["insert", "delete", "replace", "swap"]
    if marked and fold(letter) in _VOWELS:
        kinds.append("mark")
    match dice.choice(kinds):
        case "insert":
            extra = letter if dice.random() < 0.4 else dice.choice(_NEARBY.get(fold(letter), "e"))
            return text[: at + 1] + _like(extra, letter) + text[at + 1 :]
        case "delete":
            return text[:at] + text[at + 1 :]
        case "replace":
            other = dice.choice(_NEARBY.get(fold(letter), "e"))
            return text[:at] + _like(other, letter) + text[at + 1 :]
        case "mark":
            other = dice.choice(_VOWELS[fold(letter)])
            return text[:at] + _like(other, letter) + text[at + 1 :]
        case _:
            beside = at + 1 if at + 1 < len(text) and text[at + 1].isalpha() else at - 1
            low, high = sorted((at, beside))
            return text[:low] + text[high] + text[low] + text[high + 1 :]


def _like(letter: str, model: str) -> str:
    return letter.upper() if model.isupper() else letter.lower()


def sounds_alike(syllable: str, dice: Random) -> str:
    """The syllable begun as another dialect hears it; the same where no dialect hears it otherwise."""
    small = syllable.lower()
    onset = max((onset for onset in _ALL_ONSETS if small.startswith(onset)), key=len, default="")
    rest = syllable[len(onset) :]
    if onset == "gi" and (not rest or fold(rest[0]) not in "aeouy"):
        return syllable  # gì: the i is the vowel
    for family in _ONSETS:
        if onset in family and rest:
            other = dice.choice([one for one in family if one != onset])
            if other == "gi" and rest[0] in "iìíỉĩị":
                other = next(one for one in family if one not in {"gi", onset})
            return (other.capitalize() if syllable[0].isupper() else other) + rest
    return syllable
