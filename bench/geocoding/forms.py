"""How the people of Bắc Kạn write an address when nothing goes wrong: its parts, and the habits they differ in."""

from random import Random

from msgspec import Struct
from msgspec.structs import replace

from bench.geocoding.generator import Household

OLD_PROVINCE, NEW_PROVINCE = "Bắc Kạn", "Thái Nguyên"


class Habit(Struct, frozen=True):
    """What one writer does the same way in a whole address."""

    number: str = "Số {}"
    after_number: str = ", "
    separator: str = ", "
    small: bool = False  # kind words begin with a small letter
    province_kind: bool = True  # "tỉnh Bắc Kạn", not "Bắc Kạn"
    province: bool = True
    country: bool = False


class Parts(Struct, frozen=True):
    """An address from the door outwards; a part that is not written is empty."""

    number: str
    hamlet_kind: str
    hamlet: str
    commune_kind: str
    commune: str
    district_kind: str = ""
    district: str = ""
    province_kind: str = ""
    province: str = ""


NUMBERS = ("Số {}", "số {}", "SN {}", "{}", "Số nhà {}", "nhà số {}", "S{}")
_WEIGHTS = (26, 16, 14, 30, 7, 5, 2)


def habit(dice: Random) -> Habit:
    """Somebody's habits."""
    number = dice.choices(NUMBERS, _WEIGHTS)[0]
    return Habit(
        number=number,
        after_number=", " if dice.random() < 0.7 else " ",
        separator=", " if dice.random() < 0.9 else ",",
        small=dice.random() < 0.6,
        province_kind=dice.random() < 0.6,
        country=dice.random() < 0.03,
    )


def parts(household: Household) -> Parts:
    """The whole address in the units of 2025-06-30: what most people still write."""
    commune = household.hamlet.commune
    return Parts(
        number=household.number,
        hamlet_kind=household.hamlet.kind,
        hamlet=household.hamlet.bare,
        commune_kind=commune.kind,
        commune=commune.name,
        district_kind=commune.district.kind,
        district=commune.district.name,
        province_kind="Tỉnh",
        province=OLD_PROVINCE,
    )


def of_today(household: Household) -> Parts:
    """The address in the units of 2025-07-01, which have no districts."""
    today = household.hamlet.commune.today
    return replace(
        parts(household),
        commune_kind=today.kind,
        commune=today.name,
        district_kind="",
        district="",
        province=NEW_PROVINCE,
    )


def without_district(address: Parts) -> Parts:
    return replace(address, district_kind="", district="")


def without_kinds(address: Parts) -> Parts:
    """Only names; a quarter that is a number keeps its word, without which nobody would know it from a house."""
    return replace(
        address,
        hamlet_kind=address.hamlet_kind if address.hamlet[0].isdigit() else "",
        commune_kind="",
        district_kind="",
        province_kind="",
    )


def write(address: Parts, how: Habit) -> str:
    """The address in one line, number first."""
    return number(address, how) + how.after_number + how.separator.join(names(address, how))


def number(address: Parts, how: Habit) -> str:
    return how.number.format(address.number)


def names(address: Parts, how: Habit) -> list[str]:
    """Hamlet, commune, district, province, country: those that are written."""
    province_kind = address.province_kind if how.province_kind else ""
    pairs = [
        (address.hamlet_kind, address.hamlet),
        (address.commune_kind, address.commune),
        (address.district_kind, address.district),
        (province_kind, address.province if how.province else ""),
    ]
    written = [_named(kind, name, small=how.small) for kind, name in pairs if name]
    return [*written, "Việt Nam"] if how.country else written


def _named(kind: str, name: str, *, small: bool) -> str:
    if not kind:
        return name
    return f"{kind.lower() if small else kind} {name}"
