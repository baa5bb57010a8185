"""Properties of address codes."""

from itertools import combinations

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from bkapp.address import codes
from bkapp.address.codes import LENGTH, PAYLOADS, WrongCode, agreement, complete, display, draw, near_misses, parse

payloads = st.integers(min_value=PAYLOADS.start, max_value=PAYLOADS.stop - 1)
valid = payloads.map(complete).filter(bool).map(str)
places = st.integers(min_value=0, max_value=LENGTH - 1)
digits = st.sampled_from("0123456789")


def replaced(code: str, place: int, digit: str) -> str:
    return code[:place] + digit + code[place + 1 :]


def test_the_published_example_holds() -> None:
    assert complete(4_827_193) == parse("BK 482 719 346") == "482719346"


@given(valid)
def test_a_code_is_read_back_in_every_form_people_write(code: str) -> None:
    wide = "".join(chr(ord(digit) + 0xFEE0) for digit in code)
    for form in (
        code,
        display(code),
        f"bk{code}",
        f"Bk-{code[:3]}-{code[3:6]}-{code[6:]}",
        f"  {code[:3]}.{code[3:6]}.{code[6:]} ",
        f"BK\u00a0{code[:3]}\u2013{code[3:6]}\u2013{code[6:]}",
        f"ＢＫ{wide}",
        wide,
    ):
        assert parse(form) == code


@given(valid, places, digits)
def test_every_single_wrong_digit_is_caught_and_located(code: str, place: int, digit: str) -> None:
    assume(code[place] != digit)
    wrong = replaced(code, place, digit)

    with pytest.raises(WrongCode) as caught:
        parse(wrong)

    assert caught.value.digits == wrong
    assert near_misses(wrong) == [code]


@given(valid, st.tuples(places, digits), st.tuples(places, digits))
def test_every_two_wrong_digits_are_caught(code: str, one: tuple[int, str], two: tuple[int, str]) -> None:
    wrong = replaced(replaced(code, *one), *two)
    assume(wrong != code)
    with pytest.raises(WrongCode):
        parse(wrong)


@given(valid, places, places)
def test_every_swap_of_two_digits_is_caught_and_a_swap_of_neighbours_is_asked_about(
    code: str, one: int, two: int
) -> None:
    assume(code[one] != code[two])
    swapped = replaced(replaced(code, one, code[two]), two, code[one])
    with pytest.raises(WrongCode):
        parse(swapped)
    if abs(one - two) == 1:
        assert code in near_misses(swapped)


def test_all_single_and_double_errors_and_swaps_of_a_code_are_caught() -> None:
    """Not by samples but all of them, for a few codes: 3 321 wrong texts each."""
    for code in ("482719346", *(draw() for _ in range(3))):
        wrong = {replaced(code, place, digit) for place in range(LENGTH) for digit in "0123456789"}
        wrong |= {
            replaced(replaced(code, one, a), two, b)
            for one, two in combinations(range(LENGTH), 2)
            for a in "0123456789"
            for b in "0123456789"
        }
        wrong.discard(code)
        for text in wrong:
            with pytest.raises(WrongCode):
                parse(text)


@given(st.one_of(st.text(), st.text(alphabet="0123456789BKbk -.\u0660\uff11", max_size=20)))
@example("BK" * 40)
@example("１２３４５６７８９")
@example("٤٨٢٧١٩٣٤٦")
def test_any_text_is_a_code_or_refused(text: str) -> None:
    try:
        code = parse(text)
    except WrongCode as error:
        found = near_misses(error.digits) if error.digits else []
        assert [parse(near) for near in found] == found
    else:
        assert code.isascii()
        assert code.isdigit()
        assert len(code) == LENGTH


@given(valid)
def test_nothing_is_asked_about_a_right_code(code: str) -> None:
    assert near_misses(code) == []


@given(payloads)
def test_a_payload_has_one_code_or_none(payload: int) -> None:
    code = complete(payload)
    assert code is None or (code.startswith(str(payload)) and parse(code) == code)


@pytest.mark.parametrize("payload", [0, 999_999, 10_000_000, -1])
def test_a_payload_has_seven_digits(payload: int) -> None:
    with pytest.raises(ValueError, match="seven digits"):
        complete(payload)


def test_a_code_does_not_begin_with_0() -> None:
    # The sums hold for this one, so only the rule about the first digit refuses it.
    zero = next(
        f"0{n:06d}{a}{b}"
        for n in range(1, 999_999)
        for a in range(10)
        for b in range(10)
        if codes._holds(f"0{n:06d}{a}{b}")
    )
    with pytest.raises(WrongCode, match="begin with 0"):
        parse(zero)
    assert near_misses(zero) == []


@given(valid, valid)
def test_two_codes_differ_in_three_places_or_more(one: str, two: str) -> None:
    assume(one != two)
    assert agreement(one, two) <= LENGTH - 3


def test_drawing_uses_the_dice_it_is_given_and_skips_payloads_without_a_code() -> None:
    throws = iter(range(100))
    code = draw(lambda _: next(throws))
    assert code == next(filter(None, map(complete, PAYLOADS)))
