"""Keys: who holds one, what it reaches, when it ends."""

import asyncio
from datetime import UTC, date, datetime, timedelta

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access import operations
from bkapp.access.models import ApiKey, DataRead
from bkapp.access.queries import KEYS, RECORD_READS
from bkapp.access.rules import Role, matches, new_key, split
from bkapp.cli import main
from bkapp.db import Lookup, Lookups, Sessions, lookup_through, open_engine, sessions_of
from bkapp.edge import origin_of
from bkapp.errors import Invalid, NotFound, Unauthenticated
from bkapp.http import today
from bkapp.units import queries as units
from tests import make


@pytest.fixture
def keys(sessions: Sessions) -> Lookup:
    return lookup_through(sessions, KEYS)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://Bkapp.Example/app", "https://bkapp.example"),
        ("https://bkapp.example:443", "https://bkapp.example"),
        ("http://bkapp.example:80/", "http://bkapp.example"),
        ("http://localhost:8000", "http://localhost:8000"),
        ("https://[2001:DB8::1]:8443", "https://[2001:db8::1]:8443"),
    ],
)
def test_an_origin_is_what_browsers_say_it_is(url: str, origin: str) -> None:
    assert origin_of(url) == origin


@given(st.text())
def test_any_text_is_a_key_or_nothing(text: str) -> None:
    assert split(text) is None or text.startswith("bk_")


def test_a_key_is_kept_as_a_hash_only() -> None:
    public_id, text, kept = new_key()
    parts = split(text)
    assert parts is not None
    assert parts[0] == public_id
    assert matches(parts[1], kept)
    assert not matches(parts[1][:-1] + "!", kept)
    assert parts[1].encode() not in kept


async def test_a_key_names_its_holder(session: AsyncSession, keys: Lookup) -> None:
    key = await make.a_key(session, role=Role.MONITOR)
    await session.commit()
    caller = await operations.identify(keys, key)
    assert (caller.role, caller.unit_ids) == (Role.MONITOR, None)
    kept = (await session.scalars(select(ApiKey))).one()
    assert key.split("_", 2)[2].encode() not in kept.secret_hash


async def test_wrong_expired_and_revoked_keys_are_refused_alike(session: AsyncSession, keys: Lookup) -> None:
    good = await make.a_key(session)
    revoked = await make.a_key(session)
    await operations.revoke_key(session, revoked.split("_")[1], now=datetime.now(UTC))
    expired = await operations.make_key(
        session, label="old", role=Role.ADMIN, unit_id=None, expires_at=datetime.now(UTC) - timedelta(seconds=1)
    )
    other = await make.a_key(session)
    await session.commit()
    mixed = f"bk_{good.split('_')[1]}_{other.split('_', 2)[2]}"

    told = set()
    for text in ("", "bk_", "Bearer x", revoked, expired, mixed, f"bk_{'0' * 12}_{good.split('_', 2)[2]}"):
        with pytest.raises(Unauthenticated) as caught:
            await operations.identify(keys, text)
        told.add(str(caught.value))
    assert len(told) == 1


async def test_an_officers_key_needs_a_unit_and_others_have_none(session: AsyncSession) -> None:
    with pytest.raises(Invalid):
        await operations.make_key(session, label="x", role=Role.OFFICER, unit_id=None)
    with pytest.raises(Invalid):
        await operations.make_key(session, label="x", role=Role.ADMIN, unit_id=1)
    with pytest.raises(Invalid):
        await operations.make_key(session, label="x", role=Role.CITIZEN, unit_id=None)
    with pytest.raises(NotFound):
        await operations.revoke_key(session, "nobody", now=datetime.now(UTC))


async def test_a_key_for_an_old_district_reaches_what_became_of_it_and_no_more(
    session: AsyncSession, keys: Lookup
) -> None:
    key = await make.a_key(session, unit="063", on=date(2025, 6, 30))  # Huyện Bạch Thông
    await session.commit()
    caller = await operations.identify(keys, key)
    mine = await units.unit_on(session, "01969", today())  # Xã Phủ Thông
    other = await units.unit_on(session, "02191", today())
    assert mine is not None
    assert other is not None
    assert caller.reaches(mine.id)
    assert not caller.reaches(other.id)


async def test_reads_recorded_together_are_all_kept(own_database: str) -> None:
    engine = open_engine(own_database)
    sessions = sessions_of(engine)
    async with sessions.begin() as session:
        text = await make.a_key(session, role=Role.MONITOR)
    keys, records = Lookups(own_database, KEYS), Lookups(own_database, RECORD_READS)
    caller = await operations.identify(keys, text)
    subjects = ["BK", 'say "home"', "back\\slash", "{a,b}", "Bắc Kạn", "BK"]
    await asyncio.gather(
        *(
            operations.record_reads(records, caller, subjects=subjects[:-1], what=f"w{place}", request_id=f"r{place}")
            for place in range(40)
        ),
        # The same read twice is two reads.
        operations.record_reads(records, caller, subjects=["BK"], what="w0", request_id="r0"),
        operations.record_reads(records, caller, subjects=[], what="nothing", request_id="none"),
    )
    async with sessions() as session:
        kept = (await session.execute(select(DataRead.reader, DataRead.subject, DataRead.what))).all()
    await keys.close()
    await records.close()
    await engine.dispose()
    wanted = [(caller.id, subject, f"w{place}") for place in range(40) for subject in subjects[:-1]]
    assert sorted(map(tuple, kept)) == sorted([*wanted, (caller.id, "BK", "w0")])


async def test_a_read_that_cannot_be_recorded_is_an_error(own_database: str) -> None:
    records = Lookups(own_database, RECORD_READS)
    caller = operations.Caller(id="somebody", role=Role.MONITOR, unit_ids=None)
    with pytest.raises(DBAPIError):
        await operations.record_reads(records, caller, subjects=["BK"], what="no text holds \0", request_id="r")
    await operations.record_reads(records, caller, subjects=["BK"], what="w", request_id="r")
    await records.close()


def test_keys_are_made_and_revoked_on_the_command_line(own_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", own_database)
    monkeypatch.setenv("BKAPP_DEMO", "1")
    run = CliRunner()

    made = run.invoke(main, ["keys", "new", "--label", "Xã Phủ Thông", "--unit", "01969"])
    unknown = run.invoke(main, ["keys", "new", "--label", "x", "--unit", "99999"])
    nowhere = run.invoke(main, ["keys", "new", "--label", "x"])
    revoked = run.invoke(main, ["keys", "revoke", made.stdout.split("_")[1]])
    nobody = run.invoke(main, ["keys", "revoke", "nobody"])
    signing = run.invoke(main, ["keys", "signing", "--kid", "k2"])

    assert (made.exit_code, split(made.stdout.strip()) is not None) == (0, True)
    assert (unknown.exit_code, "99999" in unknown.stderr) == (1, True)
    assert nowhere.exit_code == 1
    assert revoked.exit_code == 0
    assert (nobody.exit_code, nobody.stderr) == (1, "bkapp: There is no key nobody.\n")
    assert signing.stdout.startswith("k2:")
    assert len(signing.stdout.strip()) == len("k2:") + 43
