"""Addresses as people of Bắc Kạn write them, collected by hand, with what has to be found.

``addresses.csv`` was written from the grammar of addresses and not from the geocoder.  Rows of level ``place``
(coordinates, Plus Codes) need boundaries: ``tests/address/test_finding.py`` has them.
"""

import csv
import unicodedata
from functools import cache

import pytest

from bkapp.address.geocoding.results import MatchLevel
from tests.address.geocoding.provinces import HERE, Province, written_villages

with (HERE / "addresses.csv").open(encoding="utf-8", newline="") as _file:
    ADDRESSES = [row for row in csv.DictReader(_file) if row["level"] != "place"]


@cache
def province() -> Province:
    return Province(written_villages())


@pytest.mark.parametrize("row", ADDRESSES, ids=[row["query"].encode("unicode_escape").decode() for row in ADDRESSES])
def test_a_written_address_is_found(row: dict[str, str]) -> None:
    answer = province().find(row["query"])

    if row["level"] == "none":
        assert not answer.matches
        assert answer.reason in {"no_name", "not_here", "empty"}
        return
    match = answer.matches[0]
    assert match.level == row["level"], match.label
    if row["new_code"]:
        assert match.unit is not None
        assert match.unit.code == row["new_code"]
    if row["old_code"]:
        assert match.former is not None
        assert match.former.code == row["old_code"]
    if row["hamlet"]:
        assert match.hamlet is not None
        assert match.hamlet.partition(" (")[0] == row["hamlet"]
    if row["house"]:
        assert match.house_number == row["house"]
    if match.level in {MatchLevel.DISTRICT, MatchLevel.PROVINCE}:
        assert match.former is not None
        assert f"{match.level} {match.former.code}" in row["note"]


def test_there_are_at_least_150_of_them_and_some_are_decomposed() -> None:
    assert len(ADDRESSES) >= 150
    assert sum(row["query"] != unicodedata.normalize("NFC", row["query"]) for row in ADDRESSES) >= 4


def test_the_time_of_an_address_is_told_for_nearly_all_of_them() -> None:
    """Which time a text is of is partly a judgement, so some may differ."""
    judged = [row for row in ADDRESSES if row["era"] and row["level"] != "none"]
    same = sum(province().find(row["query"]).matches[0].era == row["era"] for row in judged)
    assert same >= 0.94 * len(judged)


# --- all communes of 2025-06-30 in every form ---------------------------------------------------------------------


def _bare(text: str) -> str:
    letters = unicodedata.normalize("NFD", text.replace("đ", "d").replace("Đ", "D"))
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


_SHORT = {"Xã": "X.", "Phường": "P.", "Thị trấn": "TT.", "Huyện": "H.", "Thành phố": "TP.", "Tỉnh": "T."}
FORMS = {
    "full": lambda old, district, new: f"{old[0]} {old[1]}, {district[0]} {district[1]}, tỉnh Bắc Kạn",
    "no diacritics": lambda old, district, new: _bare(f"{old[0]} {old[1]}, {district[0]} {district[1]}, tỉnh Bắc Kạn"),
    "abbreviated": lambda old, district, new: (
        f"{_SHORT[old[0]]} {old[1]}, {_SHORT[district[0]]} {district[1]}, T. Bắc Kạn"
    ),
    "no prefixes": lambda old, district, new: f"{old[1]}, {district[1]}, Bắc Kạn",
    "decomposed": lambda old, district, new: unicodedata.normalize(
        "NFD", f"{old[0]} {old[1]}, {district[0]} {district[1]}, tỉnh Bắc Kạn"
    ),
    "no commas": lambda old, district, new: f"{old[0]} {old[1]} {district[0]} {district[1]} tỉnh Bắc Kạn",
    "no district": lambda old, district, new: f"{old[0]} {old[1]}, tỉnh Bắc Kạn",
    "new form": lambda old, district, new: f"{new[0]} {new[1]}, tỉnh Thái Nguyên",
}


@pytest.mark.parametrize("form", FORMS)
def test_each_of_the_108_communes_is_found_in_every_form(form: str) -> None:
    missed = []
    for code, unit in province().old.items():
        assert unit.today is not None
        assert unit.district is not None
        names = [(one.row.kind.capitalize(), one.row.name) for one in (unit, unit.district, unit.today)]
        match = province().find(FORMS[form](*names)).matches[0]
        right = match.level is MatchLevel.COMMUNE and match.unit is not None and match.unit.code == unit.today.row.code
        if form != "new form":
            right = right and match.former is not None and match.former.code == code
        if not right:
            missed.append((FORMS[form](*names), match.label, match.former))

    assert len(province().old) == 108
    assert not missed
