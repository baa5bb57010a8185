"""Which place a text means, how sure that is, and what of the text says so."""

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bkapp.address.geocoding.mentions import MOST_NAMES, MOST_WINDOWS, _windows, exact
from bkapp.address.geocoding.normalise import LONGEST_TEXT, clean, tokens_of
from bkapp.address.geocoding.results import Era, Grade, MatchLevel
from bkapp.address.geocoding.searching import search
from tests.address.geocoding.provinces import Province, Village

VI_HUONG, CAO_TAN, KIM_LU, SON_THANH, DUC_XUAN = "01975", "01885", "02158", "02161", "01840"


@cache
def province() -> Province:
    return Province(
        [
            Village(VI_HUONG, "Thôn Nà Ít", ("14", "14A", "14/2A")),
            Village(VI_HUONG, "Thôn Bản Khoang", ("1", "2")),
            Village(CAO_TAN, "Thôn Nà Quang", ("14",)),
            Village(KIM_LU, "Thôn Nà Pài", ("5",)),
            Village(SON_THANH, "Thôn Nà Pài", ("5",)),
            Village(DUC_XUAN, "Tổ 8A", ("57",)),
        ],
        streets={DUC_XUAN: ["Đường Trường Chinh"]},
        places={DUC_XUAN: ["Chợ Đức Xuân"]},
    )


def test_a_clean_address_is_found_exactly_and_explained() -> None:
    answer = province().find("Số 14, thôn Nà Ít, xã Vi Hương, huyện Bạch Thông, tỉnh Bắc Kạn")
    match = answer.matches[0]

    assert answer.grade is Grade.A
    assert (match.level, match.house_number, match.hamlet) == (MatchLevel.HOUSE, "14", "Thôn Nà Ít")
    assert match.label == "Số 14, Thôn Nà Ít, Xã Phủ Thông, Tỉnh Thái Nguyên"
    assert match.former is not None
    assert match.former.name == "Xã Vi Hương"
    assert match.district == "Huyện Bạch Thông"
    assert match.era is Era.BEFORE_2025
    assert match.score > 0.98
    assert [(part.kind, part.text) for part in match.matched] == [
        ("hamlet", "Nà Ít"),
        ("commune", "Vi Hương"),
        ("district", "Bạch Thông"),
        ("province", "Bắc Kạn"),
        ("house", "Số 14"),
    ]
    assert match.unmatched == ()


def test_a_mistake_makes_it_likely_and_says_where_it_is() -> None:
    answer = province().find("Số 14, thôn Nà Ịts, xã Vi Hơưng, huyện Bạch Thông")
    match = answer.matches[0]

    assert answer.grade is Grade.B
    assert match.level is MatchLevel.HOUSE
    assert {part.text for part in match.matched if part.similarity < 1} == {"Nà Ịts", "Vi Hơưng"}


def test_a_house_that_is_not_there_is_not_made_up() -> None:
    answer = province().find("Số 99, thôn Nà Ít, xã Vi Hương")

    assert answer.matches[0].level is MatchLevel.HAMLET
    assert answer.matches[0].house_number is None
    assert answer.matches[0].unmatched == ("Số 99",)
    assert answer.grade is not Grade.A


def test_a_hamlet_of_another_commune_is_not_taken_for_one_of_the_named() -> None:
    match = province().find("Thôn Nà Ít, xã Cao Tân, huyện Pác Nặm").matches[0]

    assert match.level is MatchLevel.COMMUNE
    assert match.former is not None
    assert match.former.code == CAO_TAN
    assert "Nà" in match.unmatched


def test_two_hamlets_of_one_name_in_one_new_commune_are_told_apart_by_the_old_one() -> None:
    old = province().find("Số 5, thôn Nà Pài, xã Sơn Thành, huyện Na Rì")
    new = province().find("Số 5, thôn Nà Pài, xã Na Rì, tỉnh Thái Nguyên")

    assert old.matches[0].former is not None
    assert old.matches[0].former.code == SON_THANH
    assert old.matches[0].score > 0.9
    assert new.grade is Grade.C
    assert {match.former.code for match in new.matches[:2] if match.former} == {KIM_LU, SON_THANH}
    assert all(match.score < 0.6 for match in new.matches)


def test_who_is_near_is_answered_with_what_is_near() -> None:
    ambiguous = "thôn Nà Pài"
    there = province().old[SON_THANH].row
    other = province().old[KIM_LU].row
    for row in (there, other):
        match = province().find(ambiguous, near=(row.lon, row.lat)).matches[0]
        assert match.former is not None
        assert match.former.code == row.code


@pytest.mark.parametrize(
    "text",
    [
        "12 Nguyễn Trãi, Thanh Xuân, Hà Nội",
        "xã Trung Hòa, quận Cầu Giấy, thành phố Hà Nội",
        "asdkjh qwe zzz",
        "0912 345 678",
        "😀😀😀",
        "'; DROP TABLE dwelling; --",
    ],
)
def test_it_says_nothing_rather_than_something_wrong(text: str) -> None:
    answer = province().find(text)

    assert not answer.matches
    assert answer.reason in {"no_name", "not_here"}
    assert answer.detail


def test_a_street_and_a_place_are_found_in_their_commune() -> None:
    street = province().find("đường Trường Chinh, phường Đức Xuân, TP Bắc Kạn").matches[0]
    place = province().find("chợ Đức Xuân").matches[0]

    assert (street.level, street.street) == (MatchLevel.STREET, "Đường Trường Chinh")
    assert (place.level, place.place) == (MatchLevel.PLACE, "Chợ Đức Xuân")


@pytest.mark.parametrize("text", ["Số 14A thôn Nà Ít", "14 A, thôn Nà Ít", "SN 014a thôn Nà Ít", "thôn Nà Ít số 14A"])
def test_a_number_with_a_letter_is_one_number(text: str) -> None:
    assert province().find(text).matches[0].house_number == "14A"


def test_the_end_of_a_text_may_be_the_beginning_of_a_name() -> None:
    found = province().find("số 14 thôn Nà Ít xã Vi H", typing=True)
    hamlet = province().find("Bản Kho", typing=True)

    assert found.matches[0].house_number == "14"
    assert hamlet.matches[0].hamlet == "Thôn Bản Khoang"


@given(st.text(max_size=LONGEST_TEXT))
@settings(max_examples=60, deadline=None)
def test_any_text_gets_an_answer(text: str) -> None:
    answer = province().find(text)

    assert answer.matches or answer.reason
    assert all(0 <= match.score <= 1 for match in answer.matches)
    assert sum(match.score for match in answer.matches) <= 1.0001


@given(st.lists(st.sampled_from(["na", "ban", "khuoi", "to", "8", "bac can", "xyz", "nait", ","]), max_size=130))
@settings(max_examples=30, deadline=None)
def test_the_work_is_bounded_whatever_the_text(words: list[str]) -> None:
    gazetteer = province().gazetteer
    tokens = tokens_of(clean(" ".join(words)[:LONGEST_TEXT]), gazetteer.vocabulary)

    assert len(exact(gazetteer, tokens, [token.at for token in tokens.items])) <= MOST_NAMES + gazetteer.longest
    assert len(_windows(tokens, 0)) <= MOST_WINDOWS
    assert len(search(gazetteer, tokens).hypotheses) <= 12


@pytest.mark.parametrize("text", ["QL3", "quốc lộ 3", "QL. 3", "ql3", "đường quốc lộ 3"])
def test_a_numbered_road_is_one_road_however_it_is_called(text: str) -> None:
    there = Province(streets={"01969": ["QL3"]})

    road = there.find(f"{text}, xã Phủ Thông").matches[0]
    post = there.find(f"Km 12+500 {text}, xã Phủ Thông").matches[0]

    assert (road.level, road.street, road.unmatched) == (MatchLevel.STREET, "QL3", ())
    assert (post.level, post.unmatched) == (MatchLevel.STREET, ("Km 12+500",))


def test_words_that_make_a_kind_together_are_none_where_a_name_ends_between_them() -> None:
    """thị xã is a kind of town, but not in these."""
    there = Province([Village("02176", "Thôn Phiêng Thi", ("6",)), Village("02176", "Thôn Phiêng Ỏ", ("6",))])

    for text in ("Số 6 Thôn Phiêng Thi Xã Cư Lễ Huyện Na Rì", "Số 6, thôn Phiêng Thi, xã Cư Lễ"):
        match = there.find(text).matches[0]
        assert (match.hamlet, match.house_number) == ("Thôn Phiêng Thi", "6")
        assert match.score > 0.95


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("Nhà nghỉ Hà Nội, tổ 8A phường Đức Xuân", MatchLevel.HAMLET),
        ("Anh Hòa Bình - thôn Nà Ít - Vi Hương - 0987654321", MatchLevel.HAMLET),
        ("Nguyễn Văn Tân Sơn, 0912345678, thôn Nà Ít, xã Vi Hương, Bắc Kạn", MatchLevel.HAMLET),
        ("UBND xã Cường Lợi", MatchLevel.COMMUNE),
        ("Bà Lưu Thị Thủy, Trường tiểu học Phủ Thông", MatchLevel.COMMUNE),
        ("Bún chả Hà Nội, Chợ Đồn", MatchLevel.DISTRICT),
    ],
)
def test_people_and_shops_in_front_do_not_hide_an_address(text: str, level: MatchLevel) -> None:
    assert province().find(text).matches[0].level is level


@pytest.mark.parametrize(
    "text",
    [
        *("Phường Tân Lập, Thái Nguyên", "đường Trần Phú, Thái Nguyên", "Tổ 5, phường Quang Trung, TP Thái Nguyên"),
        *("xã Tân Sơn, Chũ", "Xã Tân Kỳ, Tứ Kỳ", "Quảng Bạch, Hà Quảng", "phường Trung Hòa, Cầu Giấy"),
        *("thị trấn Cẩm Giang", "Trương Hoà", "TP Huế, phường Thuận Thành", "Xã Dương Quang, Gia Lâm"),
        *("xã Thượng Giáp, Na Hang", "huyện Đồng Hỷ, Thái Nguyên", "Vĩnh Lộc A, Bình Chánh, SG"),
    ],
)
def test_addresses_of_elsewhere_are_never_answered_with_confidence(text: str) -> None:
    assert all(match.score < 0.8 for match in province().find(text).matches)


def test_a_hamlet_without_a_single_word_disturbs_nothing() -> None:
    there = Province([Village(VI_HUONG, "0987654321"), Village(VI_HUONG, "---"), Village(VI_HUONG, "Thôn Nà Ít")])

    assert there.find("thôn Nà Ít, Vi Hương").matches[0].hamlet == "Thôn Nà Ít"
