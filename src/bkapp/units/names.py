"""Vietnamese names made comparable.

``fold`` forgets marks, ``key`` also forgets the spelling variants that people and
registers disagree on, so that an index and a question meet.  Neither is for
display: what we show is the name as the act wrote it, in NFC.
"""

import re
import unicodedata

# D with stroke, and the two letters that look like it and are typed for it: Icelandic eth and African d.
_STROKED = str.maketrans({"đ": "d", "Đ": "d", "ð": "d", "Ð": "d", "ɖ": "d", "Ɖ": "d"})
# Zero-width characters and soft hyphens come along when names are copied from web pages and PDF files.
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")
# A lone final y after these is i for half of the writers (Sỹ/Sĩ Bình, Lý/Lí); in uy, ay, yên it is not.
_FINAL_Y = re.compile(r"\b([bcdghklmnprstvx]{1,3}|qu)y\b")
# Native words write this sound c before a, o and u; Bắc Kạn is the exception that many write Bắc Cạn.
_K_FOR_C = re.compile(r"\bk(?=[aou])")

_ABBREVIATIONS = {
    "tỉnh": ("t",),
    "thành phố": ("tp", "t p"),
    "thị xã": ("tx", "t x"),
    "quận": ("q",),
    "huyện": ("h",),
    "phường": ("p",),
    "xã": ("x",),
    "thị trấn": ("tt", "t t"),
}


def fold(text: str) -> str:
    """Lower case without tone and vowel marks, spaces single: ``"Xã  ĐỨC Xuân"`` becomes ``"xa duc xuan"``.

    Decomposed, full-width and look-alike letters fold like the plain ones.
    """
    text = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text)).lower()
    letters = unicodedata.normalize("NFKD", text.translate(_STROKED))
    bare = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return " ".join(unicodedata.normalize("NFC", bare).lower().split())


def key(text: str) -> str:
    """What two spellings of one name have in common, for an index and the questions put to it.

    Words of letters and digits, folded, where i/y (Sỹ/Sĩ) and k/c (Kạn/Cạn) are one.  The
    place of the tone mark (hoà/hòa) is forgotten with the mark itself.
    """
    words = " ".join(re.findall(r"[^\W_]+", fold(text)))
    return _K_FOR_C.sub("c", _FINAL_Y.sub(r"\1i", words))


def same_unit(given: str, *, kind: str, name: str) -> bool:
    """Whether somebody who wrote ``given`` can have meant the unit called ``kind`` ``name``.

    The kind may be missing or abbreviated, but not another one: Xã Vân Tùng is not Thị trấn Vân Tùng.
    """
    forms = ("", kind, *_ABBREVIATIONS.get(kind.lower(), ()))
    return key(given) in {key(f"{form} {name}") for form in forms}
