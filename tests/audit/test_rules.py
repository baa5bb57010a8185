"""How entries are written: in PostgreSQL and here alike, and no two alike."""

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bkapp.audit.rules import GENESIS, entry_bytes, read_bytes

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40) | st.sampled_from(
    ["", "\n", "1:\n", "2:ab\n0:", "👨‍👩‍👧 Bắc Kạn", "𐐷𝒳", "\ufeff", "e\u0301", '{"a":"\\"}', "\r\n\x1f\x7f"]
)
fields = st.lists(texts, min_size=4, max_size=4)
hashes = st.binary(min_size=32, max_size=32)
numbers = st.integers(1, (1 << 63) - 1)
times = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)).map(lambda at: at.replace(tzinfo=UTC))  # noqa: DTZ001


@pytest.fixture(scope="module")
def connection(database: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database.replace("+psycopg", "", 1), autocommit=True) as connection:
        yield connection


@given(hashes, numbers, times, fields)
@example(GENESIS, 1, EPOCH, [""] * 4)
@example(b"\xff" * 32, (1 << 63) - 1, EPOCH - timedelta(microseconds=1), ["\n"] * 4)
def test_postgresql_hashes_an_entry_as_we_do(
    connection: psycopg.Connection, previous: bytes, seq: int, at: datetime, four: list[str]
) -> None:
    [computed] = connection.execute(
        "SELECT audit_digest(%s, %s, %s, VARIADIC %s::text[])", [previous, seq, at, four]
    ).fetchone() or [None]

    micros = (at - EPOCH) // timedelta(microseconds=1)
    assert computed == hashlib.sha256(entry_bytes(previous, seq, micros, *four)).digest()


def parsed(raw: bytes) -> tuple[list[bytes], list[bytes], bytes]:
    """The plain lines of what was written, the fields that are led by their lengths, and what is left."""
    plain, told = [], []
    while raw:
        line, _, rest = raw.partition(b"\n")
        length, colon, _ = line.partition(b":")
        if not colon:
            plain.append(line)
            raw = rest
            continue
        start = len(length) + 1
        told.append(raw[start : start + int(length)])
        end = raw[start + int(length) :]
        assert not end or end.startswith(b"\n")
        raw = end[1:]
        if len(told) == 4:
            return plain, told, raw
    return plain, told, raw


@given(hashes, numbers, st.integers(), fields)
def test_an_entry_can_be_read_back_so_no_two_are_written_alike(
    previous: bytes, seq: int, micros: int, four: list[str]
) -> None:
    plain, told, rest = parsed(entry_bytes(previous, seq, micros, *four))

    assert plain == [previous.hex().encode(), str(seq).encode(), str(micros).encode()]
    assert [field.decode() for field in told] == four
    assert rest == b""


@given(st.lists(st.tuples(numbers, st.integers(), fields), max_size=4))
def test_reads_can_be_told_apart_when_they_are_hashed_together(rows: list[tuple[int, int, list[str]]]) -> None:
    raw = b"".join(read_bytes(number, micros, *four) for number, micros, four in rows)
    found = []
    while raw:
        plain, told, raw = parsed(raw)
        found.append((int(plain[0]), int(plain[1]), [field.decode() for field in told]))

    assert found == rows
