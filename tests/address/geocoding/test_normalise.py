"""Letters, keys and tokens."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bkapp.address.geocoding.normalise import MOST_TOKENS, clean, keys_of, squeeze, tokens_of, untelex, word_key

WORDS = {
    *("bac", "can", "duc", "xuan", "phuong", "xa", "vi", "huong", "huyen", "bach", "thong", "tinh", "na", "nghe"),
    *("thon", "so", "to", "choong", "ten", "hoa", "thuy", "quan", "dua", "ray"),
}


def keys(text: str) -> list[str]:
    return [token.key for token in tokens_of(clean(text), WORDS).items]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Đức Xuân", "Ðức Xuân"),  # Icelandic eth
        ("Đức Xuân", "Ɖức Xuân"),  # African d
        ("Hòa Mục", "Hoà Mục"),
        ("Liêm Thủy", "Liêm Thuỷ"),
        ("Sỹ Bình", "Sĩ Bình"),
        ("Bắc Kạn", "Bắc Cạn"),
        ("Bắc Kạn", "BẮC\u00a0KẠN"),
        ("Bắc Kạn", "Bắc\u200b Kạn"),
        ("Bắc Kạn", "Ｂắｃ Ｋạｎ"),
        ("Bắc Kạn", "backan"),
        ("Na Rì", "Na Ri"),
        ("Yên Mỹ", "Yên Mĩ"),
    ],
)
def test_spellings_of_one_name_have_one_key(one: str, other: str) -> None:
    assert squeeze(one) == squeeze(other)
    assert squeeze(unicodedata.normalize("NFD", one)) == squeeze(one)


@pytest.mark.parametrize(("one", "other"), [("Yên Mỹ", "Yên My Mỹ"), ("Nà Lẹng", "Nà Lạng"), ("Tổ 8", "Tổ 8A")])
def test_different_names_have_different_keys(one: str, other: str) -> None:
    assert squeeze(one) != squeeze(other)


@pytest.mark.parametrize(
    "typed",
    ["Bawsc Kanj", "Bacws Kanj", "Ba81c Ka5n", "B¾c K¹n", "BẮC KẠN", "Báº¯c Káº¡n", "Bắc Cạn"],
)
def test_bac_kan_is_read_however_it_was_typed(typed: str) -> None:
    assert keys(typed) == ["bac", "can"]


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("Dduwcs Xuaan", ["duc", "xuan"]),
        ("DDwcs Xuaan", ["duc", "xuan"]),
        ("phuwowngf", ["phuong"]),
        ("soos 14 thoon naf nghef", ["so", "14", "thon", "na", "nghe"]),
        ("xa4 Vi Hu7o7ng, huye65n Ba5ch Tho6ng", ["xa", "vi", "huong", "huyen", "bach", "thong"]),
        ("to63 8a, ba81c ka5n", ["to", "8a", "bac", "can"]),
        ("to63", ["to", "63"]),  # alone it may as well be tổ 63
        ("P.§øc Xu©n", ["p", "duc", "xuan"]),
        ("chooongj", ["choong"]),
        ("raaxy", ["ray"]),
    ],
)
def test_telex_vni_and_tcvn3_are_undone(typed: str, read: list[str]) -> None:
    assert keys(typed) == read


def test_a_word_of_some_name_is_left_as_it_is() -> None:
    assert keys("to ten") == ["to", "ten"]


def test_what_has_marks_was_not_typed_with_the_input_method_off() -> None:
    assert keys("Nàs") == ["nas"]


@pytest.mark.parametrize(
    ("text", "read"),
    [("tổ 08A", ["to", "8a"]), ("to8a", ["to", "8a"]), ("14/2A", ["14", "2a"]), ("SN12", ["sn", "12"]), ("007", ["7"])],
)
def test_numbers_are_taken_from_letters_and_lose_their_zeros(text: str, read: list[str]) -> None:
    assert keys(text) == read


def test_contacts_are_no_part_of_an_address() -> None:
    assert keys("thôn Nà Nghè, 0912 345 678, tu@example.vn") == ["thon", "na", "nghe"]


@given(st.text(max_size=400))
def test_any_text_can_be_taken_apart_and_its_tokens_stand_where_they_say(text: str) -> None:
    plain = clean(text)
    tokens = tokens_of(plain, WORDS)

    assert clean(plain) == plain or "\ufffd" in text or len(plain) < len(text) + 2
    assert len(tokens.items) <= 2 * MOST_TOKENS + 400
    assert tokens.joined == "".join(token.key for token in tokens.items)
    for token in tokens.items:
        assert tokens.joined[token.at : token.until] == token.key
        assert 0 <= token.start < token.end <= len(plain)


@given(st.text(alphabet="aáàảãạăâeêioôơuưyđĐXÃnkh08", max_size=60))
def test_a_key_has_a_key_that_is_itself(text: str) -> None:
    assert squeeze(squeeze(text)) == squeeze(text)
    assert squeeze(text) == "".join(keys_of(text))


@given(st.sampled_from(sorted(WORDS)), st.sampled_from("sfrxj"))
def test_a_tone_typed_at_the_end_of_a_syllable_is_undone(word: str, tone: str) -> None:
    assert word in untelex(word + tone)
    assert word_key(word) == word
