"""What the claims of VNeID and the national portal say of who holds an account.

The names are those of the national single sign-on (domain.md §2.6): ``SoDinhDanh`` the citizen number, ``HoVaTen`` the
name, ``NgayThangNamSinh`` the date of birth, ``LoaiTaiKhoan`` the kind of account (1 citizen, 2 organisation), ``IAL``
or ``loAs`` how well the person was proven, ``SoDienThoai`` the phone.  Providers write numbers as numbers or as text,
and dates in three ways.  Name, birth and phone may also come by their OpenID Connect names; the citizen number has no
other name.  ``TechID``, the provider's own number of an account, is not used: the subject of the token says the same
and is signed.

No sentence here repeats a value: they are somebody's data.
"""

import re
import unicodedata
from collections.abc import Mapping
from datetime import date, datetime
from enum import StrEnum
from typing import Any

from msgspec import Struct
from typing_extensions import override

from bkapp.errors import DomainError

HIGHEST_LEVEL = 3
LONGEST_NAME = 200
CITIZEN, ORGANISATION = "1", "2"
_ORGANISATION_NUMBERS = ("MaSoThue", "MaSoDoanhNghiep")
# What two answers of one provider must not say differently.
_FIRM = ("SoDinhDanh", "LoaiTaiKhoan", "IAL", "loAs")

_NUMBER = re.compile(r"[0-9]{12}")
_DATES = (
    (re.compile(r"[0-9]{2}/[0-9]{2}/[0-9]{4}"), "%d/%m/%Y"),
    (re.compile(r"[0-9]{8}"), "%Y%m%d"),
    (re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}"), "%Y-%m-%d"),
)
# The oldest citizens have a year of birth alone; OpenID Connect also knows a day without its year.
_PART_OF_A_DATE = re.compile(r"[0-9]{4}|0000-[0-9]{2}-[0-9]{2}")
_MIDNIGHT = re.compile(r"[T ]00:00:00(\.0+)?(Z|[+-][0-9]{2}:[0-9]{2})?$")
_PHONE = re.compile(r"(?:\+84|84|0)([0-9]{9,10})")


class NotACitizen(DomainError):
    """The account belongs to an organisation: only people sign in here."""

    status = 403
    code = "not_a_citizen_account"
    title = "Đây là tài khoản của tổ chức; xin đăng nhập bằng tài khoản định danh cá nhân"


class Reason(StrEnum):
    """Why claims cannot be used, for machines."""

    NO_NUMBER = "no_citizen_number"
    BAD_NUMBER = "bad_citizen_number"
    NO_NAME = "no_name"
    BAD_NAME = "bad_name"
    BAD_BIRTH = "bad_birth_date"
    BAD_KIND = "bad_account_kind"
    BAD_LEVEL = "bad_assurance_level"
    CONTRADICTION = "claims_contradict"


class UnusableClaims(ValueError):
    """The claims do not say who somebody is."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Holder(Struct, frozen=True, kw_only=True):
    """Who holds a citizen's account.

    ``number`` has 12 digits; ``name`` is in NFC; ``birth`` is None where the provider knows a year alone; ``phone`` is
    written ``+84…``; ``level`` is the identity assurance, 0 to 3.
    """

    number: str
    name: str
    birth: date | None
    phone: str | None
    level: int

    @override
    def __repr__(self) -> str:
        # Personal data must not reach a log by way of a stray f-string.
        return f"Holder(level={self.level})"


def merge(signed: Mapping[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
    """The claims of the ID token and of the userinfo together; raise :class:`UnusableClaims` if they contradict.

    What is signed counts first.  Claims of other sources (``_claim_names``, ``_claim_sources``) stay where they are:
    nobody here has checked who says them, so they are neither read nor fetched.
    """
    for name in _FIRM:
        if name in signed and name in told and _text(signed, name) != _text(told, name):
            raise UnusableClaims(Reason.CONTRADICTION, "The ID token and the userinfo name different people.")
    return {**told, **signed}


def read_holder(claims: Mapping[str, Any], *, today: date) -> Holder:
    """Read who holds the account.

    Raises :class:`NotACitizen` for an organisation and :class:`UnusableClaims` where number, name, level or birth
    cannot be read.  A phone that cannot be read is left out: nothing is decided by it.
    """
    _check_kind(claims)
    return Holder(
        number=_number(claims),
        name=_name(claims),
        birth=_birth(claims, today),
        phone=_phone(claims),
        level=_level(claims),
    )


def _text(claims: Mapping[str, Any], name: str) -> str:
    """A claim as text: providers write the same thing as ``1`` or ``"1"``.  Empty where it is missing or no scalar."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, str | int):
        return "" if value is None else "\0"  # there, but nothing that could be read
    return unicodedata.normalize("NFC", str(value)).strip()


def _check_kind(claims: Mapping[str, Any]) -> None:
    kind = _text(claims, "LoaiTaiKhoan")
    organised = any(_text(claims, name) for name in _ORGANISATION_NUMBERS) and not _text(claims, "SoDinhDanh")
    if kind == ORGANISATION or (not kind and organised):
        raise NotACitizen("The account belongs to an organisation.")
    if kind not in {"", CITIZEN}:
        raise UnusableClaims(Reason.BAD_KIND, "The kind of the account is neither citizen nor organisation.")


def _number(claims: Mapping[str, Any]) -> str:
    number = _text(claims, "SoDinhDanh")
    if not number:
        raise UnusableClaims(Reason.NO_NUMBER, "The provider told no citizen number.")
    # A number that came as a JSON number has lost its zeros, so it is no number any more.
    if not isinstance(claims["SoDinhDanh"], str) or not _NUMBER.fullmatch(number):
        raise UnusableClaims(Reason.BAD_NUMBER, "The citizen number does not have 12 digits.")
    return number


def _name(claims: Mapping[str, Any]) -> str:
    name = " ".join((_text(claims, "HoVaTen") or _text(claims, "name")).split())
    if not name:
        raise UnusableClaims(Reason.NO_NAME, "The provider told no name.")
    if len(name) > LONGEST_NAME or not name.isprintable():
        raise UnusableClaims(Reason.BAD_NAME, f"The name is not a text of at most {LONGEST_NAME} characters.")
    return name


def _birth(claims: Mapping[str, Any], today: date) -> date | None:
    text = _MIDNIGHT.sub("", _text(claims, "NgayThangNamSinh") or _text(claims, "birthdate"))
    if not text or _PART_OF_A_DATE.fullmatch(text):
        return None
    for shape, form in _DATES:
        if shape.fullmatch(text):
            try:
                birth = datetime.strptime(text, form).date()  # noqa: DTZ007  (a day, which has no zone)
            except ValueError:
                break
            if birth <= today:
                return birth
    raise UnusableClaims(Reason.BAD_BIRTH, "The date of birth is not a day of the past.")


def _phone(claims: Mapping[str, Any]) -> str | None:
    text = _text(claims, "SoDienThoai")
    if not text and claims.get("phone_number_verified", True) is True:
        text = _text(claims, "phone_number")
    found = _PHONE.fullmatch(re.sub(r"[ .()-]", "", text))
    return f"+84{found[1]}" if found else None


def _level(claims: Mapping[str, Any]) -> int:
    """The lower one where two are told, and 0 where none is: what is not proven does not count."""
    told = [text for text in (_text(claims, name) for name in ("IAL", "loAs")) if text]
    levels = []
    for text in told:
        if not re.fullmatch(r"[0-9]", text) or int(text) > HIGHEST_LEVEL:
            raise UnusableClaims(Reason.BAD_LEVEL, f"The assurance level is not a number from 0 to {HIGHEST_LEVEL}.")
        levels.append(int(text))
    return min(levels, default=0)
