"""Base64url has one spelling for some bytes."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bkapp.base64url import decode, encode, read_key, read_keys


@given(st.binary())
def test_what_is_written_is_read_again_and_only_so(raw: bytes) -> None:
    text = encode(raw)
    assert decode(text) == raw
    padded = base64.urlsafe_b64encode(raw).decode()
    assert read_key(padded) == raw
    if padded != text:
        with pytest.raises(ValueError, match="canonical"):
            decode(padded)


@pytest.mark.parametrize("text", ["A", "AB", "AAA=", "A A", "AA\n", "+/+/", "é", "AAAAA", "\x00AAA"])
def test_other_spellings_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="base64url"):
        decode(text)


def test_keys_are_read_with_their_ids() -> None:
    one, other = encode(b"1" * 32), base64.urlsafe_b64encode(b"2" * 32).decode()
    assert read_keys(f" a:{one} , b:{other}") == [("a", b"1" * 32), ("b", b"2" * 32)]
