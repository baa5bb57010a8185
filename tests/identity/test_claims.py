"""What VNeID and the national portal call things, read into who somebody is."""

from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bkapp.identity.claims import Holder, NotACitizen, Reason, UnusableClaims, merge, read_holder

TODAY = date(2026, 3, 1)
VNEID: dict[str, Any] = {
    "sub": "5f1c",
    "LoaiTaiKhoan": 1,
    "SoDinhDanh": "099083000017",
    "HoVaTen": "Hoàng Văn Páo",
    "NgayThangNamSinh": "19/05/1983",
    "TechID": "T-1",
    "IAL": 2,
    "loAs": "2",
}


def read(**changes: Any) -> Holder:
    found = VNEID | changes
    return read_holder({name: value for name, value in found.items() if value is not ...}, today=TODAY)


def test_a_citizen_of_vneid() -> None:
    assert read() == Holder(number="099083000017", name="Hoàng Văn Páo", birth=date(1983, 5, 19), phone=None, level=2)


def test_a_citizen_of_the_national_portal() -> None:
    holder = read(
        LoaiTaiKhoan="1", NgayThangNamSinh="19830519", SoDienThoai="0912 345 678", IAL="2", loAs=..., ThuDienTu="a@b.vn"
    )

    assert (holder.birth, holder.phone, holder.level) == (date(1983, 5, 19), "+84912345678", 2)


def test_the_names_of_openid_connect_stand_in() -> None:
    holder = read(
        HoVaTen=..., NgayThangNamSinh=..., name="Hoang  Van Pao", birthdate="1983-05-19", phone_number="+84912345678"
    )

    assert (holder.name, holder.birth, holder.phone) == ("Hoang Van Pao", date(1983, 5, 19), "+84912345678")


@pytest.mark.parametrize(
    "changes",
    [
        {"LoaiTaiKhoan": 2},
        {"LoaiTaiKhoan": "2"},
        {"LoaiTaiKhoan": 2, "SoDinhDanh": ..., "MaSoThue": "4700123456"},
        {"LoaiTaiKhoan": ..., "SoDinhDanh": ..., "MaSoThue": "4700123456"},
        {"LoaiTaiKhoan": "", "SoDinhDanh": "", "MaSoDoanhNghiep": "4700123456"},
    ],
    ids=["number", "text", "with a tax code", "by its tax code", "by its business code"],
)
def test_an_organisation_does_not_sign_in(changes: dict[str, Any]) -> None:
    with pytest.raises(NotACitizen):
        read(**changes)


def test_a_citizen_with_a_tax_code_does() -> None:
    assert read(LoaiTaiKhoan=..., MaSoThue="8012345678").number == "099083000017"


UNUSABLE: dict[str, tuple[dict[str, Any], Reason]] = {
    "no number": ({"SoDinhDanh": ...}, Reason.NO_NUMBER),
    "number null": ({"SoDinhDanh": None}, Reason.NO_NUMBER),
    "number empty": ({"SoDinhDanh": "  "}, Reason.NO_NUMBER),
    "an identity card of old": ({"SoDinhDanh": ..., "SoCMND": "095123456"}, Reason.NO_NUMBER),
    "nine digits": ({"SoDinhDanh": "095123456"}, Reason.BAD_NUMBER),
    "eleven digits": ({"SoDinhDanh": "09908300001"}, Reason.BAD_NUMBER),
    "thirteen digits": ({"SoDinhDanh": "0990830000170"}, Reason.BAD_NUMBER),
    "a letter": ({"SoDinhDanh": "09908300001O"}, Reason.BAD_NUMBER),
    "Arabic digits": ({"SoDinhDanh": "٠٩٩٠٨٣٠٠٠٠١٧"}, Reason.BAD_NUMBER),
    "a number that lost its zero": ({"SoDinhDanh": 99083000017}, Reason.BAD_NUMBER),
    "a number of twelve digits": ({"SoDinhDanh": 199083000017}, Reason.BAD_NUMBER),
    "a list of numbers": ({"SoDinhDanh": ["099083000017"]}, Reason.BAD_NUMBER),
    "an object": ({"SoDinhDanh": {"$ne": ""}}, Reason.BAD_NUMBER),
    "no name": ({"HoVaTen": ...}, Reason.NO_NAME),
    "name of spaces": ({"HoVaTen": "   "}, Reason.NO_NAME),
    "name with a NUL": ({"HoVaTen": "Páo\0"}, Reason.BAD_NAME),
    "name that turns around": ({"HoVaTen": "Páo\u202e"}, Reason.BAD_NAME),
    "name too long": ({"HoVaTen": "P" * 201}, Reason.BAD_NAME),
    "name a list": ({"HoVaTen": ["Páo"]}, Reason.BAD_NAME),
    "birth on no day": ({"NgayThangNamSinh": "31/02/1983"}, Reason.BAD_BIRTH),
    "birth the American way": ({"NgayThangNamSinh": "05/19/1983"}, Reason.BAD_BIRTH),
    "birth of one digit": ({"NgayThangNamSinh": "9/5/1983"}, Reason.BAD_BIRTH),
    "birth tomorrow": ({"NgayThangNamSinh": "02/03/2026"}, Reason.BAD_BIRTH),
    "birth in the year nought": ({"NgayThangNamSinh": "01/01/0000"}, Reason.BAD_BIRTH),
    "birth at noon": ({"NgayThangNamSinh": "1983-05-19T12:00:00"}, Reason.BAD_BIRTH),
    "birth a word": ({"NgayThangNamSinh": "hôm qua"}, Reason.BAD_BIRTH),
    "birth a fraction": ({"NgayThangNamSinh": 1.5}, Reason.BAD_BIRTH),
    "a third kind of account": ({"LoaiTaiKhoan": 3}, Reason.BAD_KIND),
    "a kind that is true": ({"LoaiTaiKhoan": True}, Reason.BAD_KIND),
    "a level too high": ({"IAL": 4}, Reason.BAD_LEVEL),
    "a level below nothing": ({"IAL": -1}, Reason.BAD_LEVEL),
    "a level in words": ({"IAL": "high"}, Reason.BAD_LEVEL),
    "a level that is true": ({"IAL": True}, Reason.BAD_LEVEL),
    "a level and a half": ({"IAL": 1.5}, Reason.BAD_LEVEL),
    "a superscript": ({"IAL": "²"}, Reason.BAD_LEVEL),
}


@pytest.mark.parametrize(("changes", "reason"), UNUSABLE.values(), ids=UNUSABLE)
def test_what_does_not_say_who_somebody_is_is_refused(changes: dict[str, Any], reason: Reason) -> None:
    with pytest.raises(UnusableClaims) as refusal:
        read(**changes)

    assert refusal.value.reason == reason
    assert not any(str(value) in str(refusal.value) for value in changes.values() if len(str(value)) > 3)


@pytest.mark.parametrize(
    ("text", "birth"),
    [
        ("19/05/1983", date(1983, 5, 19)),
        ("19830519", date(1983, 5, 19)),
        (19830519, date(1983, 5, 19)),
        ("1983-05-19", date(1983, 5, 19)),
        ("1983-05-19T00:00:00", date(1983, 5, 19)),
        ("1983-05-19T00:00:00.000+07:00", date(1983, 5, 19)),
        (" 19/05/1983 ", date(1983, 5, 19)),
        ("29/02/2024", date(2024, 2, 29)),
        ("01/03/2026", TODAY),
        pytest.param("1940", None, id="the oldest have a year alone"),
        pytest.param(1940, None, id="as a number"),
        ("0000-05-19", None),
        ("", None),
        (None, None),
        (..., None),
    ],
)
def test_dates_come_in_many_ways(text: Any, birth: date | None) -> None:
    assert read(NgayThangNamSinh=text).birth == birth


@pytest.mark.parametrize(
    ("changes", "phone"),
    [
        ({"SoDienThoai": "0912345678"}, "+84912345678"),
        ({"SoDienThoai": "84912345678"}, "+84912345678"),
        ({"SoDienThoai": "+84 (912) 345-678"}, "+84912345678"),
        ({"SoDienThoai": "02093 870 123"}, "+842093870123"),
        ({"SoDienThoai": "113"}, None),
        ({"SoDienThoai": "+1 202 555 0100"}, None),
        ({"SoDienThoai": "nhà"}, None),
        ({"SoDienThoai": ["0912345678"]}, None),
        ({"phone_number": "+84912345678", "phone_number_verified": True}, "+84912345678"),
        ({"phone_number": "+84912345678", "phone_number_verified": False}, None),
        ({"phone_number": "+84912345678", "phone_number_verified": "true"}, None),
    ],
)
def test_a_phone_that_cannot_be_read_is_left_out(changes: dict[str, Any], phone: str | None) -> None:
    assert read(**changes).phone == phone


@pytest.mark.parametrize(
    ("changes", "level"),
    [
        ({"IAL": ..., "loAs": ...}, 0),
        ({"IAL": None, "loAs": ""}, 0),
        ({"IAL": 3, "loAs": ...}, 3),
        ({"IAL": ..., "loAs": "1"}, 1),
        ({"IAL": 3, "loAs": 1}, 1),
        ({"IAL": 1, "loAs": 3}, 1),
        ({"IAL": 0, "loAs": 3}, 0),
    ],
)
def test_of_two_levels_the_lower_counts_and_none_is_nought(changes: dict[str, Any], level: int) -> None:
    assert read(**changes).level == level


def test_a_name_has_one_spelling() -> None:
    assert read(HoVaTen=" Hoa\u0300ng   Va\u0306n\tPa\u0301o ").name == "Hoàng Văn Páo"


def test_what_is_signed_counts_before_what_is_told() -> None:
    merged = merge(
        {"HoVaTen": "A", "SoDinhDanh": "099083000017"}, {"HoVaTen": "B", "IAL": 2, "SoDinhDanh": "099083000017"}
    )

    assert merged == {"HoVaTen": "A", "SoDinhDanh": "099083000017", "IAL": 2}


@pytest.mark.parametrize("name", ["SoDinhDanh", "LoaiTaiKhoan", "IAL", "loAs"])
def test_two_answers_must_not_contradict(name: str) -> None:
    assert merge({name: 1}, {name: "1"})

    with pytest.raises(UnusableClaims) as refusal:
        merge({name: "1"}, {name: "2"})

    assert refusal.value.reason == Reason.CONTRADICTION


def test_claims_of_others_are_not_read() -> None:
    claims = VNEID | {
        "_claim_names": {"SoDinhDanh": "src1", "HoVaTen": "src2"},
        "_claim_sources": {"src1": {"JWT": "a.b.c"}, "src2": {"endpoint": "http://169.254.169.254/"}},
    }

    assert read_holder(claims, today=TODAY) == read()
    del claims["SoDinhDanh"]
    with pytest.raises(UnusableClaims):
        read_holder(claims, today=TODAY)


def test_who_somebody_is_does_not_show_in_a_log() -> None:
    assert repr(read()) == "Holder(level=2)"


anything = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text(), max_size=2)


@given(
    st.dictionaries(st.sampled_from([*VNEID, "name", "birthdate", "phone_number", "SoDienThoai", "MaSoThue"]), anything)
)
def test_whatever_a_provider_says_it_is_read_or_refused(changes: dict[str, Any]) -> None:
    try:
        holder = read(**changes)
    except (NotACitizen, UnusableClaims):
        return
    assert len(holder.number) == 12
    assert holder.number.isascii()
    assert holder.number.isdigit()
    assert holder.name.isprintable()
    assert 0 <= holder.level <= 3
