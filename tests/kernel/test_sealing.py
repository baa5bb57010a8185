"""Sealed values: nobody reads them without the key, in another place or after a change."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bkapp.config import DEMO_DATA_KEYS, DEMO_LOOKUP_KEY
from bkapp.sealing import Keyring, Unsealable

KEY = base64.urlsafe_b64encode(b"k" * 32).decode().rstrip("=")
RING = Keyring.parse(DEMO_DATA_KEYS, DEMO_LOOKUP_KEY)
PLACE = "person.name:1"


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_what_is_sealed_opens_again_and_shows_nothing(text: str) -> None:
    sealed = RING.seal(text, PLACE)
    assert RING.open(sealed, PLACE) == text
    assert len(text) < 4 or text.encode() not in sealed
    assert RING.seal(text, PLACE) != sealed


@given(st.integers(0, 200), st.integers(1, 255))
def test_a_changed_value_does_not_open(place: int, change: int) -> None:
    sealed = bytearray(RING.seal("Nguyễn Thị Mơ", PLACE))
    sealed[place % len(sealed)] ^= change
    with pytest.raises(Unsealable):
        RING.open(bytes(sealed), PLACE)


@pytest.mark.parametrize("sealed", [b"", b"\0", b"demo", b"demo\0", b"demo\0short", b"\xff\0" + b"x" * 40])
def test_what_was_never_sealed_does_not_open(sealed: bytes) -> None:
    with pytest.raises(Unsealable):
        RING.open(sealed, PLACE)


def test_a_value_is_bound_to_its_place() -> None:
    with pytest.raises(Unsealable):
        RING.open(RING.seal("012345678901", "person.number:1"), "person.number:2")


def test_keys_rotate() -> None:
    old = RING.seal("Hoàng Văn Sính", PLACE)
    ring = Keyring.parse(f"new:{KEY},{DEMO_DATA_KEYS}", DEMO_LOOKUP_KEY)
    assert ring.open(old, PLACE) == "Hoàng Văn Sính"
    assert (ring.is_stale(old), ring.is_stale(ring.seal("x", PLACE))) == (True, False)
    with pytest.raises(Unsealable):
        Keyring.parse(f"new:{KEY}", DEMO_LOOKUP_KEY).open(old, PLACE)


def test_what_is_looked_up_depends_on_kind_text_and_key() -> None:
    found = {
        RING.lookup("citizen", "012345678901"),
        RING.lookup("citizen", "012345678902"),
        RING.lookup("household", "012345678901"),
        Keyring.parse(DEMO_DATA_KEYS, KEY).lookup("citizen", "012345678901"),
    }
    assert len(found) == 4
    assert RING.lookup("citizen", "012345678901") in found
