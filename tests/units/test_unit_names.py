"""Laws of folding: what must become equal, and what must not."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bkapp.units.names import fold, key, same_unit

VIETNAMESE = st.text(
    alphabet="aàáảãạăằắẳẵặâầấẩẫậbcdđeèéẻẽẹêềếểễệghiìíỉĩịklmnoòóỏõọôồốổỗộơờớởỡợpqrstuùúủũụưừứửữựvxyỳýỷỹỵĐ ÂƠƯ-,.01289",
    max_size=40,
)


@given(VIETNAMESE)
def test_composed_and_decomposed_text_fold_alike(text: str) -> None:
    assert fold(unicodedata.normalize("NFD", text)) == fold(unicodedata.normalize("NFC", text))


@given(VIETNAMESE)
def test_folded_vietnamese_is_plain_ascii_in_lower_case(text: str) -> None:
    folded = fold(text)

    assert folded.isascii()
    assert folded == folded.lower()


@given(st.text(max_size=40))
def test_folding_twice_changes_nothing_more(text: str) -> None:
    assert fold(fold(text)) == fold(text)
    assert key(key(text)) == key(text)


@given(st.text(max_size=40))
def test_folded_text_has_no_marks_and_single_spaces(text: str) -> None:
    folded = fold(text)

    assert not any(unicodedata.combining(letter) for letter in folded)
    assert folded == " ".join(folded.split())
    assert unicodedata.is_normalized("NFC", folded)


@given(VIETNAMESE)
def test_case_never_matters(text: str) -> None:
    assert key(text.upper()) == key(text.lower()) == key(text)


@given(VIETNAMESE, st.sampled_from(["\u00a0", "\u200b", "\ufeff", "\u2060", "\u00ad"]))
def test_invisible_characters_never_matter(text: str, invisible: str) -> None:
    assert key(f"{invisible} {text} {invisible}") == key(text)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Xã Hoà Mục", "Xã Hòa Mục"),
        ("Liêm Thuỷ", "Liêm Thủy"),
        ("Sỹ Bình", "Sĩ Bình"),
        ("Bắc Kạn", "Bắc Cạn"),
        ("Pắc Nặm", "Pác Nặm"),
        ("Đức Xuân", "Ðức Xuân"),
        ("Đức Xuân", "Ɖức Xuân"),
        ("Phường Đức Xuân", "PHƯỜNG ĐỨC\u00a0XUÂN"),
        ("Na Rì", "Na-Ri"),
        ("Nguyễn Thị Minh Khai", "Ｎguyen Thi Minh Khai"),
    ],
)
def test_spellings_of_one_name_have_one_key(one: str, other: str) -> None:
    assert key(one) == key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("Thuý", "Thúi"), ("Tay", "Tai"), ("Yên Cư", "Iên Cư"), ("Thượng Quan", "Thượng Giáo"), ("Nà Phặc", "Na Rì")],
)
def test_different_words_keep_different_keys(one: str, other: str) -> None:
    assert key(one) != key(other)


@pytest.mark.parametrize(
    "given_name", ["Vân Tùng", "Thị trấn Vân Tùng", "TT. Vân Tùng", "TT Van Tung", "T.T. VÂN TÙNG"]
)
def test_a_unit_is_known_with_its_kind_written_out_shortened_or_left_out(given_name: str) -> None:
    assert same_unit(given_name, kind="Thị trấn", name="Vân Tùng")


@pytest.mark.parametrize("given_name", ["Xã Vân Tùng", "X. Vân Tùng", "Ngân Sơn", "", "Thị trấn"])
def test_another_kind_or_name_is_another_unit(given_name: str) -> None:
    assert not same_unit(given_name, kind="Thị trấn", name="Vân Tùng")
