"""Address codes: nine digits that people can say, type and check without a network.

``BK 482 719 346`` is seven opaque digits and two check digits.  With c1..c9 the
digits from left to right, a code satisfies

    c1 + c2 + … + c9         ≡ 0 (mod 11)
    1·c1 + 2·c2 + … + 9·c9   ≡ 0 (mod 11)

and its first digit is not 0.  This is a Reed-Solomon code over GF(11) of
distance 3: any one or two wrong digits and any swap of two digits are caught,
and one wrong digit can be located.  ``BK`` names the issuer and means nothing.

Locating an error never corrects it here: with two errors the "corrected" code
may be a neighbour's.  :func:`near_misses` only lists what to ask about.
"""

import re
import unicodedata
from collections.abc import Callable
from secrets import randbelow

LENGTH = 9
PAYLOADS = range(1_000_000, 10_000_000)
LONGEST_TEXT = 64

_SEPARATORS = re.compile(r"[\s.\-_/\u00ad\u2010-\u2015\u2212\u200b-\u200d\u2060\ufeff]+")
_SHAPE = re.compile(r"(?:BK)?([0-9]{9})")
_INVERSE = {factor: pow(factor, -1, 11) for factor in range(1, 11)}


class WrongCode(ValueError):
    """The text is not an address code.

    ``digits`` holds the nine digits when the text had the shape of a code and
    only its check digits disagree, otherwise None.
    """

    def __init__(self, reason: str, digits: str | None = None) -> None:
        super().__init__(reason)
        self.digits = digits


def complete(payload: int) -> str | None:
    """The code with these seven leading digits, or None where a check symbol would be 10.

    About ten payloads in eleven, squared, have a code: 7 438 016 in all.
    """
    if payload not in PAYLOADS:
        raise ValueError(f"A payload has seven digits and does not begin with 0, so not {payload}.")
    body = str(payload)
    total, weighted = _sums(body)
    eighth = (weighted - 9 * total) % 11
    ninth = (-total - eighth) % 11
    return f"{body}{eighth}{ninth}" if eighth < 10 and ninth < 10 else None


def draw(below: Callable[[int], int] = randbelow) -> str:
    """A random code.  ``below(n)`` returns an integer in ``range(n)``.

    Random rather than counted: a code must not tell how many came before it or
    let anybody guess the neighbours'.
    """
    while True:
        if code := complete(PAYLOADS.start + below(len(PAYLOADS))):
            return code


def parse(text: str) -> str:
    """Read a code as people write it and return its nine digits.

    Accepts any case, full-width digits, spaces, dots, dashes, with or without
    ``BK``.  Raises :class:`WrongCode` and never repairs.
    """
    if len(text) > LONGEST_TEXT:
        raise WrongCode("An address code has nine digits.")
    plain = _SEPARATORS.sub("", unicodedata.normalize("NFKC", text)).upper()
    found = _SHAPE.fullmatch(plain)
    if not found:
        raise WrongCode("An address code has nine digits, with or without BK in front.")
    digits = found[1]
    if digits[0] == "0":
        raise WrongCode("An address code does not begin with 0.", digits)
    if not _holds(digits):
        raise WrongCode("The check digits do not match: at least one digit is wrong.", digits)
    return digits


def display(digits: str) -> str:
    """The form for signs and speech: ``BK 482 719 346``."""
    return f"BK {digits[:3]} {digits[3:6]} {digits[6:]}"


def near_misses(digits: str) -> list[str]:
    """The codes that one wrong digit or one swap of neighbours would turn into ``digits``.

    The one code at distance 1 comes first, if there is one; then the swaps.
    For a valid code the answer is empty.
    """
    total, weighted = (value % 11 for value in _sums(digits))
    found: list[str] = []
    if total:
        place = weighted * _INVERSE[total] % 11
        if 1 <= place <= LENGTH:
            right = (int(digits[place - 1]) - total) % 11
            if right < 10:
                found.append(digits[: place - 1] + str(right) + digits[place:])
    elif weighted:
        found.extend(
            digits[:i] + digits[i + 1] + digits[i] + digits[i + 2 :]
            for i in range(LENGTH - 1)
            if digits[i] != digits[i + 1]
        )
    return [code for code in found if code[0] != "0" and _holds(code)]


def agreement(code: str, other: str) -> int:
    """In how many places two codes have the same digit (0 to 9)."""
    return sum(a == b for a, b in zip(code, other, strict=True))


def _sums(digits: str) -> tuple[int, int]:
    total = weighted = 0
    for place, digit in enumerate(digits, start=1):
        value = ord(digit) - 48
        total += value
        weighted += place * value
    return total, weighted


def _holds(digits: str) -> bool:
    total, weighted = _sums(digits)
    return total % 11 == 0 and weighted % 11 == 0
