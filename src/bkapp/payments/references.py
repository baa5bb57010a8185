"""The codes that people and banks copy: of a bill (``HD…``), of an attempt (``TT…``), of a refund (``HT…``).  Pure.

Two letters, nine characters drawn at random from 32, and a check character after ISO/IEC 7064 MOD 37,36, which finds
every single wrong character and nearly every swap of two neighbours.  Upper case without accents, separators, I, L, O
and U, because banks drop whatever else stands in the content of a transfer.
"""

import re
from secrets import choice

DRAWN = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_ALL = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_WITHIN = re.compile(r"(?:HD|TT|HT)[0-9A-Z]{10}")
LENGTH = 12


def new_reference(prefix: str) -> str:
    """A fresh code: ``HD`` for a bill, ``TT`` for an attempt, ``HT`` for a refund."""
    body = prefix + "".join(choice(DRAWN) for _ in range(9))
    return body + _check(body)


def is_reference(text: str) -> bool:
    """Whether a text is a code whose check character is right."""
    return _WITHIN.fullmatch(text) is not None and _check(text[:-1]) == text[-1]


def references_in(text: str) -> list[str]:
    """The codes in the content of a bank transfer, which banks and people change: case, spaces, words before and after.

    ``mbvcb.3278907687.tt 7k3m9q2m4x5 thanh toan`` has one.  In their order, each once.
    """
    packed = re.sub(r"[^0-9A-Z]", "", text.upper())
    found = [packed[at : at + LENGTH] for at in range(len(packed) - LENGTH + 1)]
    return list(dict.fromkeys(code for code in found if is_reference(code)))


def _check(body: str) -> str:
    """ISO/IEC 7064 MOD 37,36, the hybrid system for alphanumeric strings."""
    product = 36
    for character in body:
        total = (product + _ALL.index(character)) % 36 or 36
        product = total * 2 % 37
    return _ALL[(37 - product) % 36]
