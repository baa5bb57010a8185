"""From a text as it was typed to tokens that can be compared.

:func:`squeeze` is the one key of names: the index is made with it and questions are put with it.  Everything else
here undoes what happens between a person's head and the text: programs that mangled letters (TCVN3), input methods
that were off (Telex, VNI), words copied with invisible characters.
"""

import re
import unicodedata
from collections.abc import Container
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from bkapp.units.names import key

LONGEST_TEXT = 400  # characters; the longest real address we know has about 150
MOST_TOKENS = 60


class Token(NamedTuple):
    """A word or a number.

    ``key`` is folded, with Telex and VNI undone; ``start`` and ``end`` are its place in the cleaned text; ``at`` is
    where its key begins in the joined keys of all tokens, ``until`` where it ends.  Names may begin and end inside
    a word that is not ``known``.
    """

    key: str
    start: int
    end: int
    at: int
    until: int
    known: bool
    number: bool


class Tokens(NamedTuple):
    """A text taken apart.  ``joined`` is the keys of all tokens without spaces."""

    text: str
    items: tuple[Token, ...]
    joined: str
    marked: bool  # whether it was typed with Vietnamese marks
    stops: tuple[int, ...]  # where in ``joined`` a comma or the like stands, which no name goes across

    def written(self, begin: int, end: int) -> str:
        """What was written where the joined keys have these places."""
        inside = [token for token in self.items if token.at < end and token.until > begin]
        return self.text[inside[0].start : inside[-1].end] if inside else ""


_WORD = re.compile(r"[^\W_]+")

# --- the one key ------------------------------------------------------------------------------------------------

# k is written c before a, o and u (Kạn/Cạn); y behind a consonant is i (Sỹ/Sĩ, Mỹ/Mĩ).  Neither looks at the ends of
# words, which are lost where words are run together.
_K_FOR_C = re.compile("k(?=[aou])")
_Y_FOR_I = re.compile("(?<=[bcdghklmnpqrstvx])y(?![aeiou])")


def squeeze(text: str) -> str:
    """The key of a name or of a piece of text: folded, without spaces: ``"Bắc Kạn"`` becomes ``"baccan"``."""
    return "".join(keys_of(text))


@lru_cache(maxsize=50_000)
def word_key(word: str) -> str:
    """The key of one word, remembered: people write few different ones."""
    return _Y_FOR_I.sub("i", _K_FOR_C.sub("c", key(word).replace(" ", "")))


def keys_of(text: str) -> list[str]:
    """The keys of the words of a text."""
    return [key for word in _WORD.findall(readable(text)) if (key := word_key(word))]


# --- cleaning ---------------------------------------------------------------------------------------------------

# TCVN3 (ABC), the encoding of many files before 2010: each letter has a byte of its own, which programs of today
# read as Latin-1.  TCVN 5712:1993, character set 3.
_TCVN3 = dict(
    zip(
        "µ¸¶·¹¨»¾¼½Æ©ÇÊÈÉË®ÌÐÎÏÑªÒÕÓÔÖ×ÝØÜÞßãáâä«åèæçé¬êíëìîïóñòô\u00adõøö÷ùúýûüþ¡¢§£¤¥¦",
        "àáảãạăằắẳẵặâầấẩẫậđèéẻẽẹêềếểễệìíỉĩịòóỏõọôồốổỗộơờớởỡợùúủũụưừứửữựỳýỷỹỵĂÂĐÊÔƠƯ",
        strict=True,
    )
)
# Of these, the ones that no Vietnamese text in Unicode has: they tell that the text is TCVN3.
_ONLY_TCVN3 = re.compile("[µ¸¶¹¨»¾¼½Æ©ÇËÎÏÑ®ªÖ×ØÞß«åæçë¬îïñö÷øûüþ¡¢§£¤¥¦]")
_TCVN3_WORD = re.compile(rf"[A-Za-z{re.escape(''.join(_TCVN3))}]+")
_INVISIBLE = re.compile("[\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff\u00ad]")
_BREAKS = re.compile("[\t\r\n]+")
_LOST = re.compile(r"(?<=[^\W\d_])[?\ufffd](?=[^\W\d_])")  # a letter that an encoding did not have: "V?n"
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
# Telephone numbers and e-mail addresses, which labels carry and which are nobody's address.
_CONTACTS = re.compile(r"(?<!\d)(?:\+?84|0)(?:[\s.-]?\d){8,9}(?!\d)|\S+@\S+\.\w+")
_TEN_DIGITS = re.compile(r"(?:\d[\s.-]?){9}")
_MARKS = re.compile("[^\x00-\x7f]")


# UTF-8 that a program took for Windows-1252: "xÃ£" for "xã".
_UTF8_MANGLED = re.compile(r"[ÃÄ][^\sA-Za-z]|á[º»]")


def clean(text: str) -> str:
    """A text that somebody searches for, readable and without telephone numbers and e-mail addresses."""
    text = readable(text)
    if "://" not in text and ("@" in text or _TEN_DIGITS.search(text)):
        text = " ".join(_CONTACTS.sub(" , ", text).split())
    return text


def readable(text: str) -> str:
    """One line of NFC text without what cannot be seen; letters mangled by encodings are repaired."""
    if _UTF8_MANGLED.search(text):
        text = _from_utf8(text)
    text = _CONTROL.sub(" ", _BREAKS.sub(", ", text.strip()))
    if _ONLY_TCVN3.search(text) and not re.search("[\u0300-\u036f\u1ea0-\u1ef9ăđơưĂĐƠƯ]", text):
        text = _TCVN3_WORD.sub(lambda word: _from_tcvn3(word[0]), text)
    return " ".join(unicodedata.normalize("NFKC", _LOST.sub("", _INVISIBLE.sub("", text))).split())


def _from_utf8(text: str) -> str:
    """The text as it was before its bytes were read as Windows-1252; as it is where that cannot have been."""
    try:
        # Of the five bytes that Windows-1252 leaves open programs make control characters.
        return b"".join(sign.encode("cp1252" if sign > "\x9f" else "latin-1") for sign in text).decode()
    except UnicodeError:
        return text


def _from_tcvn3(word: str) -> str:
    return "".join(_TCVN3.get(letter, letter) for letter in word)


# --- words ------------------------------------------------------------------------------------------------------

_STOP = re.compile(r"[,;|()\[\]–—]|\s-\s|\s/\s")
_PARTS = re.compile(r"\d+[a-zđ]?(?![^\W\d_])|\d+|[^\W\d_]+", re.IGNORECASE)
_VNI = re.compile(r"[a-z]*[aeiouy][a-z]*[1-9][a-z1-9]*|d9[a-z1-9]+")
_VNI_INSIDE = re.compile(r"[a-z]+[1-9]+[a-z]+")
_VNI_FITS = re.compile(r"(?:[aeiouy][1-5]|[aeo]6|[ou]7|a8|d9)")
_VOWEL = re.compile("[aeiouy]")
_TONES = str.maketrans("", "", "sfrxjz")
_REPEATED = re.compile(r"(.)\1+")


def tokens_of(text: str, vocabulary: Container[str]) -> Tokens:
    """Take a cleaned text apart.  ``vocabulary`` holds the words of all names, as keys.

    A word that is in no name is tried as the keys that a Telex or VNI user pressed; only if that gives a word of
    some name is it taken so.
    """
    items: list[Token] = []
    at = 0
    words = list(_WORD.finditer(text))[:MOST_TOKENS]
    vni = any(_is_vni(word[0], vocabulary) for word in words if _VNI_INSIDE.search(word[0].lower()))
    for word in words:
        for folded, start, end in _pieces(word, vocabulary, vni=vni):
            number = folded[0].isdigit()
            until = at + len(folded)
            items.append(Token(folded, start, end, at, until, number or folded in vocabulary, number))
            at = until
    stops = tuple(item.at for last, item in pairwise(items) if _STOP.search(text[last.end : item.start]))
    return Tokens(text, tuple(items), "".join(item.key for item in items), bool(_MARKS.search(text)), stops)


def _pieces(word: re.Match[str], vocabulary: Container[str], *, vni: bool) -> list[tuple[str, int, int]]:
    """The tokens of a word with their places: letters and numbers apart, ``8A`` together and without leading zeros."""
    text, start = word[0], word.start()
    if text.isalpha():
        folded = word_key(text)
        if text.isascii():  # with marks in it, it was not typed with the input method off
            folded = _meant(text.lower(), folded, vocabulary)
        return [(folded, start, word.end())] if folded else []
    if vni and _is_vni(text, vocabulary):
        return [(_without_digits(text), start, word.end())]
    pieces = []
    for part in _PARTS.finditer(text):
        folded = word_key(part[0])
        if folded[:1].isdigit():
            folded = folded.lstrip("0") or "0"
        elif part[0].isascii():
            folded = _meant(part[0].lower(), folded, vocabulary)
        if folded:
            pieces.append((folded, start + part.start(), start + part.end()))
    return pieces


def _meant(typed: str, folded: str, vocabulary: Container[str]) -> str:
    """The key of a word as it was meant: of some name, or else as it was typed."""
    if folded in vocabulary or len(folded) > 12:
        return folded
    return next((word for word in untelex(typed) if word in vocabulary), folded)


def untelex(word: str) -> list[str]:
    """What somebody may have wanted who pressed these keys with Telex on: ``duwcs`` is ``duc``.

    Letters of tones and marks come behind the first vowel; no Vietnamese syllable ends with one of them.
    """
    vowel = _VOWEL.search(word)
    if vowel is None:
        if "w" not in word:
            return []
        word = word.replace("w", "u", 1)
        vowel = _VOWEL.search(word)
        assert vowel is not None
    head, tail = word[: vowel.start()], word[vowel.start() :]
    if head == "dd":
        head = "d"
    head = head.replace("w", "u")
    tail = tail.translate(_TONES).replace("w", "")
    found = [head + _REPEATED.sub(r"\1", tail), head + _REPEATED.sub(r"\1\1", tail)]
    # the mark of a vowel may be typed at the end of the syllable: xuana is xuân, dducd is đức
    found += [form[:-1] for form in found[:1] if len(form) > 2 and form[-1] in "aeod" and form[-1] in form[:-1]]
    return [word_key(form) for form in found]


def _is_vni(text: str, vocabulary: Container[str]) -> bool:
    """Whether a word with digits is a syllable as a VNI user's keys: ``Ba81c``, ``Kan5``."""
    lower = text.lower()
    if not lower.isascii() or not _VNI.fullmatch(lower):
        return False
    bare = _without_digits(lower)
    if bare not in vocabulary:
        return False
    letters: list[str] = []
    for sign in lower:
        if sign.isdigit():
            wanted = {"6": "aeo", "7": "ou", "8": "a", "9": "d"}.get(sign, "aeiouy")
            if not any(letter in wanted for letter in letters):
                return False
        else:
            letters.append(sign)
    return True


def _without_digits(text: str) -> str:
    return word_key("".join(sign for sign in text if not sign.isdigit()))
