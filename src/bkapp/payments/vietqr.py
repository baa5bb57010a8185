"""VietQR: the codes that ask a bank's app for a transfer (NAPAS IBFT v1.5.2, after EMVCo's QR of merchants).  Pure.

A code is a row of fields: two digits for which, two for how long, then the value, which may be such a row again.
Lengths count characters, and the checksum at the end (CRC-16/CCITT-FALSE) is over the bytes of UTF-8.  Reading is
strict, because a checksum alone also passes over codes whose lengths are wrong: every length must end where its field
does, fields are in their order, each once, and one that is not a transfer's is refused.
"""

import binascii
import re
from collections.abc import Collection

from msgspec import Struct

LONGEST = 512  # EMVCo's limit for a code
MOST_AMOUNT = 10**13 - 1

_NAPAS = "A000000727"
_TO_ACCOUNT, _TO_CARD = "QRIBFTTA", "QRIBFTTC"
_STATIC, _DYNAMIC = "11", "12"
_DONG = "704"
_CHECKSUM = "6304"
_NEEDED = frozenset({"00", "01", "38", "53", "58"})
_KNOWN = _NEEDED | {"52", "54", "59", "60", "62"}


class NotVietQr(ValueError):
    """A text is no code for a transfer, or a transfer cannot be put into a code; says why."""


class Transfer(Struct, frozen=True, kw_only=True):
    """What a code asks for.

    With an amount it is dynamic, for one payment; without one it is static, and stands on a counter.  A text that is
    not there is empty.
    """

    bank_bin: str
    account: str
    card: bool = False  # whether the account is the number of a card
    amount: int | None = None  # đồng
    category: str = ""  # of the merchant, ISO 18245
    name: str = ""
    city: str = ""
    bill_number: str = ""
    store: str = ""
    label: str = ""
    terminal: str = ""
    purpose: str = ""


_ADDITIONAL = {"bill_number": "01", "store": "03", "label": "05", "terminal": "07", "purpose": "08"}
_TEXTS = {"name": 25, "city": 15, **dict.fromkeys(_ADDITIONAL, 25)}


def credit_transfer(bank_bin: str, account: str, amount: int, purpose: str) -> str:
    """The code for one transfer of an amount to an account; raise :class:`NotVietQr`."""
    return build(Transfer(bank_bin=bank_bin, account=account, amount=amount, purpose=purpose))


def build(transfer: Transfer) -> str:
    """The code for a transfer; raise :class:`NotVietQr` for one that no code can hold."""
    _check(transfer)
    beneficiary = _field("00", transfer.bank_bin) + _field("01", transfer.account)
    service = _TO_CARD if transfer.card else _TO_ACCOUNT
    body = "".join(
        (
            _field("00", "01"),
            _field("01", _STATIC if transfer.amount is None else _DYNAMIC),
            _field("38", _field("00", _NAPAS) + _field("01", beneficiary) + _field("02", service)),
            _field("52", transfer.category),
            _field("53", _DONG),
            _field("54", "" if transfer.amount is None else str(transfer.amount)),
            _field("58", "VN"),
            _field("59", transfer.name),
            _field("60", transfer.city),
            _field("62", "".join(_field(number, getattr(transfer, name)) for name, number in _ADDITIONAL.items())),
            _CHECKSUM,
        )
    )
    return f"{body}{_crc(body):04X}"


def parse(text: str) -> Transfer:
    """The transfer that a code asks for; raise :class:`NotVietQr` for anything that is not one, letter for letter."""
    outer = _only(fields(text), _KNOWN, _NEEDED)
    napas = _only(_rows(outer["38"]), ("00", "01", "02"), ("00", "01", "02"))
    beneficiary = _only(_rows(napas["01"]), ("00", "01"), ("00", "01"))
    additional = _only(_rows(outer.get("62", "")), _ADDITIONAL.values(), ())
    if outer["00"] != "01":
        raise NotVietQr("The code is of another version.")
    if outer["53"] != _DONG or outer["58"] != "VN":
        raise NotVietQr("The code is not for đồng in Việt Nam.")
    if napas["00"] != _NAPAS or napas["02"] not in {_TO_ACCOUNT, _TO_CARD}:
        raise NotVietQr("The code is not for a transfer through NAPAS.")
    amount = outer.get("54")
    if amount is not None and re.fullmatch(r"[1-9][0-9]*", amount) is None:
        raise NotVietQr("The amount is not a number of đồng.")
    if outer["01"] != (_STATIC if amount is None else _DYNAMIC):
        raise NotVietQr("A dynamic code has an amount, a static one has none.")
    transfer = Transfer(
        bank_bin=beneficiary["00"],
        account=beneficiary["01"],
        card=napas["02"] == _TO_CARD,
        amount=None if amount is None else int(amount),
        category=outer.get("52", ""),
        name=outer.get("59", ""),
        city=outer.get("60", ""),
        **{name: additional.get(number, "") for name, number in _ADDITIONAL.items()},
    )
    _check(transfer)
    return transfer


def fields(text: str) -> dict[str, str]:
    """The fields of any EMVCo code, VietQR or not, whose lengths and checksum are right; the checksum left out."""
    body, shown = text[:-4], text[-4:]
    if len(text) > LONGEST or not _is_plain(text):
        raise NotVietQr("The text is too long or holds signs that are not printed.")
    if not body.endswith(_CHECKSUM) or re.fullmatch(r"[0-9A-Fa-f]{4}", shown) is None:
        raise NotVietQr("There is no checksum at the end.")
    if int(shown, 16) != _crc(body):
        raise NotVietQr("The checksum is wrong.")
    found = _rows(body.removesuffix(_CHECKSUM))
    if next(iter(found), None) != "00" or "63" in found:
        raise NotVietQr("The first field is not the version, or a checksum stands before the end.")
    return found


def _rows(text: str) -> dict[str, str]:
    """The fields that a text is made of, to its last character."""
    found: dict[str, str] = {}
    while text:
        if re.match(r"[0-9]{4}", text) is None:
            raise NotVietQr("A field does not begin with its number and length.")
        number, length, rest = text[:2], int(text[2:4]), text[4:]
        if not 0 < length <= len(rest):
            raise NotVietQr("A field is empty, or shorter than it says.")
        if number in found:
            raise NotVietQr("A field is there twice.")
        found[number], text = rest[:length], rest[length:]
    return found


def _only(found: dict[str, str], known: Collection[str], needed: Collection[str]) -> dict[str, str]:
    """The same fields, if they are known and in their order, and none that is needed is missing."""
    if not found.keys() <= set(known):
        raise NotVietQr("There is a field that a transfer does not have.")
    if not found.keys() >= set(needed):
        raise NotVietQr("A field is missing.")
    if list(found) != sorted(found):
        raise NotVietQr("The fields are not in their order.")
    return found


def _check(transfer: Transfer) -> None:
    if re.fullmatch(r"[0-9]{6}", transfer.bank_bin) is None:
        raise NotVietQr("The bank's number is not six digits.")
    if re.fullmatch(r"[0-9]{1,19}" if transfer.card else r"[0-9A-Za-z]{1,19}", transfer.account) is None:
        raise NotVietQr("This is no number of an account or a card.")
    if transfer.amount is not None and not 0 < transfer.amount <= MOST_AMOUNT:
        raise NotVietQr("The amount is not one that a code can ask for.")
    if re.fullmatch(r"(?:[0-9]{4})?", transfer.category) is None:
        raise NotVietQr("The merchant's category is not four digits.")
    for name, most in _TEXTS.items():
        text = getattr(transfer, name)
        if len(text) > most or not _is_plain(text):
            raise NotVietQr(f"The {name.replace('_', ' ')} is too long or holds signs that are not printed.")


def _field(number: str, value: str) -> str:
    """A field, or nothing where there is no value."""
    if len(value) > 99:
        raise NotVietQr("The texts are too long together.")
    return f"{number}{len(value):02}{value}" if value else ""


def _is_plain(text: str) -> bool:
    """Whether a text is of printed signs that all readers count alike: JavaScript, Java and Swift do not agree about
    the length of those beyond U+FFFF."""
    return text.isprintable() and max(text, default="") <= "\uffff"


def _crc(text: str) -> int:
    return binascii.crc_hqx(text.encode(), 0xFFFF)
