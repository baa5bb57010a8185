"""Who is behind a cookie or a token: the statement that finds them, access tokens, offices, upkeep."""

import asyncio
import base64
import os
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import jwt
import msgspec
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.rules import Role
from bkapp.address.certificates import Signer
from bkapp.audit.models import AuditEntry
from bkapp.config import DEMO_DATA_KEYS, DEMO_LOOKUP_KEY, DEMO_SEED, DEMO_SIGNING_KEYS
from bkapp.db import Lookups, Sessions, lookup_through, open_engine, sessions_of
from bkapp.errors import Invalid, NotFound, Unauthenticated
from bkapp.households.queries import HOMES
from bkapp.http import today
from bkapp.identity import operations, rules
from bkapp.identity.commands import data_key, grants, reseal
from bkapp.identity.jose import BadToken
from bkapp.identity.models import NativeCode, Person, RefreshToken, RoleGrant, SignIn, SignInAttempt, UsedToken
from bkapp.identity.operations import SEALED, HoldsOffice
from bkapp.identity.people import SignedIn
from bkapp.identity.queries import NO_HOMES, sign_ins
from bkapp.identity.rules import ACCESS_TOKEN_LASTS, SignInKind, hashed, new_secret
from bkapp.identity.tokens import TYPE, TokenSigner
from bkapp.sealing import Keyring, Unsealable
from bkapp.units import queries as units
from tests import make as addresses
from tests.identity import make

NOW = datetime.now(UTC)


@pytest.fixture
def people(sessions: Sessions) -> SignedIn:
    return SignedIn(lookup_through(sessions, sign_ins(HOMES)), make.SIGNER, sessions)


# --- who asks ---------------------------------------------------------------------------------------------------


async def test_a_cookie_and_a_token_lead_to_the_same_person(session: AsyncSession, people: SignedIn) -> None:
    person = await make.a_person(session)
    secret, token = await make.a_sign_in(session, person), await make.a_native_sign_in(session, person)
    await session.commit()
    by_cookie, by_token = await people.of_cookie(secret), await people.of_token(token)
    assert by_cookie is not None
    for caller in (by_cookie, by_token):
        assert (caller.id, caller.person, caller.role, caller.unit_ids) == (
            str(person), person, Role.CITIZEN, frozenset(),
        )  # fmt: skip
        assert (caller.level, caller.homes) == (2, frozenset())
    assert (by_cookie.by_cookie, by_token.by_cookie) == (True, False)
    assert people.csrf_token(secret) != people.csrf_token(new_secret())


@pytest.mark.parametrize(
    "secret", ["", "a", "a" * 42, "a" * 44, "é" * 43, "a" * 42 + "\x00", "a" * 43, "%s" * 21 + "x"]
)
async def test_a_cookie_that_is_none_is_nobody(people: SignedIn, secret: str) -> None:
    assert await people.of_cookie(secret) is None


async def test_the_token_of_a_browser_or_of_somebody_else_is_not_good(session: AsyncSession, people: SignedIn) -> None:
    person, other = await make.a_person(session), await make.a_person(session)
    secret = await make.a_sign_in(session, person)
    await make.a_native_sign_in(session, other)
    await session.commit()
    browser = (await make.of_secret(session, secret)).id
    native = (await session.scalars(select(SignIn.id).where(SignIn.kind == SignInKind.NATIVE))).one()
    for who, which in ((person, browser), (person, native), (other, browser), (other, uuid4())):
        with pytest.raises(Unauthenticated):
            await people.of_token(make.SIGNER.mint(person=who, sign_in=which, now=NOW))


async def test_offices_reach_what_their_keys_would(session: AsyncSession, people: SignedIn) -> None:
    officer = await make.a_person(session, role=Role.OFFICER, unit=addresses.COMMUNE)
    monitor = await make.a_person(session, role=Role.MONITOR)
    low = await make.a_person(session, role=Role.OFFICER, unit=addresses.COMMUNE, level=1)
    secrets = [await make.a_sign_in(session, person) for person in (officer, monitor, low)]
    await session.commit()
    found = [await people.of_cookie(secret) for secret in secrets]
    inside = await units.unit_on(session, addresses.COMMUNE, today())
    outside = await units.unit_on(session, "02191", today())
    assert inside is not None
    assert outside is not None
    told = [(one.role, one.reaches(inside.id), one.reaches(outside.id)) for one in found if one]
    assert told == [(Role.OFFICER, True, False), (Role.MONITOR, True, True), (Role.CITIZEN, False, False)]


async def test_finding_sign_ins_needs_no_table_read_through(own_database: str) -> None:
    engine = open_engine(own_database)
    async with sessions_of(engine).begin() as session:
        await session.execute(
            text("""
            INSERT INTO person (number_hmac, number_cipher, level)
            SELECT sha256(n::text::bytea), '', 2 FROM generate_series(1, 3000) AS n
        """)
        )
        await session.execute(
            text("""
            INSERT INTO sign_in (person_id, kind, secret_hash, level, authenticated_at, issuer, device, expires_at)
            SELECT id, 'browser', sha256(id::text::bytea), 2, now(), 'i', 'd', now() + interval '1 day' FROM person
        """)
        )
        await session.execute(
            text("""
            INSERT INTO role_grant (person_id, role, granted_by) SELECT id, 'monitor', 't' FROM person LIMIT 300
        """)
        )
    async with engine.connect() as connection:
        autocommit = await connection.execution_options(isolation_level="AUTOCOMMIT")
        await autocommit.execute(text("ANALYZE"))
        for setting in ("enable_hashjoin", "enable_mergejoin", "enable_bitmapscan"):  # as ``Lookups`` asks
            await autocommit.execute(text(f"SET {setting} = off"))
        statement = sign_ins(HOMES).replace("%s", "ARRAY['c:00', 's:00000000-0000-0000-0000-000000000000']")
        plan = "\n".join(row[0] for row in await autocommit.execute(text(f"EXPLAIN {statement}".replace(":", r"\:"))))
    for index in ("uq_sign_in_secret_hash", "pk_sign_in", "pk_person", "uq_role_grant_person_id"):
        assert index in plan, plan
    assert "Seq Scan on sign_in" not in plan, plan
    assert "Seq Scan on person" not in plan, plan

    lookup = Lookups(own_database, sign_ins(NO_HOMES))
    async with engine.connect() as connection:
        rows = (await connection.execute(text("SELECT id, encode(secret_hash, 'hex') FROM sign_in LIMIT 40"))).all()
    keys = [f"s:{row[0]}" for row in rows] + [f"c:{row[1]}" for row in rows] + ["c:00", f"s:{uuid4()}"]
    found = await asyncio.gather(*(lookup(key) for key in keys))
    assert [row and str(row[1]) for row in found] == [str(row[0]) for row in rows] * 2 + [None, None]
    await lookup.close()
    await engine.dispose()


async def test_a_busy_server_notes_a_device_once(own_database: str) -> None:
    engine = open_engine(own_database)
    sessions = sessions_of(engine)
    async with sessions.begin() as session:
        secret = await make.a_sign_in(session, await make.a_person(session), idle=timedelta(hours=1))
    lookup = Lookups(own_database, sign_ins(HOMES))
    one, other = (SignedIn(lookup, make.SIGNER, sessions) for _ in range(2))
    async with sessions.begin() as session:
        # Somebody holds the row: nobody who asks waits for them.
        await session.execute(select(SignIn).with_for_update())
        async with asyncio.timeout(3):
            assert await one.of_cookie(secret) is not None
    found = await asyncio.gather(*(who.of_cookie(secret) for who in (one, other) for _ in range(20)))
    assert all(found)
    async with sessions() as session:
        seen = (await make.of_secret(session, secret)).seen_at
    assert datetime.now(UTC) - seen < timedelta(minutes=1)
    await lookup.close()
    await engine.dispose()


async def test_who_is_signed_in_is_not_turned_away_because_it_cannot_be_noted(
    session: AsyncSession, sessions: Sessions
) -> None:
    secret = await make.a_sign_in(session, await make.a_person(session), idle=timedelta(hours=1))
    await session.commit()
    nowhere = open_engine("postgresql://nobody@127.0.0.1:1/none")
    people = SignedIn(lookup_through(sessions, sign_ins(HOMES)), make.SIGNER, sessions_of(nowhere))
    assert await people.of_cookie(secret) is not None
    await nowhere.dispose()


# --- access tokens ----------------------------------------------------------------------------------------------


def test_an_access_token_says_whose_it_is_for_five_minutes() -> None:
    person, sign_in = uuid4(), uuid4()
    token = make.SIGNER.mint(person=person, sign_in=sign_in, now=NOW)
    read = make.SIGNER.read(token, now=NOW + ACCESS_TOKEN_LASTS - timedelta(seconds=2))
    assert (read.person, read.sign_in) == (person, sign_in)
    header, claims = (msgspec.json.decode(base64.urlsafe_b64decode(part + "==")) for part in token.split(".")[:2])
    assert header == {"alg": "EdDSA", "kid": "demo", "typ": "at+jwt"}
    assert (claims["iss"], claims["aud"]) == (make.BASE_URL, f"{make.BASE_URL}/api")
    assert set(claims) == {"iss", "aud", "sub", "sid", "iat", "exp", "jti"}
    for moment in (NOW + ACCESS_TOKEN_LASTS, NOW - timedelta(seconds=5)):
        with pytest.raises(BadToken):
            make.SIGNER.read(token, now=moment)


def forged(claims: dict[str, Any] | None = None, header: dict[str, Any] | None = None, key: Any = ...) -> str:
    """A token of our own making with something changed."""
    second = int(NOW.timestamp())
    body = {
        "iss": make.BASE_URL, "aud": f"{make.BASE_URL}/api", "sub": str(uuid4()), "sid": str(uuid4()), "iat": second,
        "exp": second + 300, "jti": "j", **(claims or {}),
    }  # fmt: skip
    body = {name: value for name, value in body.items() if value is not ...}
    named = {"alg": "EdDSA", "kid": "demo", "typ": TYPE, **(header or {})}
    key = make.SIGNER._key if key is ... else key
    return jwt.PyJWS(algorithms=["EdDSA", "HS256", "none"]).encode(
        msgspec.json.encode(body),
        key,
        algorithm=named["alg"],
        headers=named,
    )


def test_a_forged_token_is_good_only_when_nothing_is_wrong() -> None:
    make.SIGNER.read(forged(), now=NOW)


@pytest.mark.parametrize(
    "token",
    [
        forged(key=Ed25519PrivateKey.generate()),
        # The register's own key must not open the door, nor its certificates.
        forged(key=Ed25519PrivateKey.from_private_bytes(DEMO_SEED)),
        forged(header={"typ": "JWT"}),
        forged(header={"typ": "bk-address+jwt"}),
        forged(header={"kid": "other"}),
        forged(header={"crit": ["exp"]}),
        forged(header={"jwk": {}}),
        forged(header={"alg": "none"}, key=None),
        forged(header={"alg": "HS256"}, key=b"x" * 32),
        forged({"iss": "https://evil.test"}),
        forged({"aud": make.BASE_URL}),
        forged({"aud": [f"{make.BASE_URL}/api"]}),
        forged({"sub": "nobody"}),
        forged({"sub": ...}),
        forged({"sid": ...}),
        forged({"exp": ...}),
        forged({"exp": "soon"}),
        forged({"exp": 1e300}),
        forged({"iat": int(NOW.timestamp()) + 3600}),
        forged({"exp": int(NOW.timestamp()) - 1}),
        forged({"jti": ""}),
        forged({"more": True}),
        "",
        "bk",
        "a.b.c",
        "." * 10,
        "\x00",
        "é" * 40,
        "x" * 40_000,
    ],
)
async def test_a_token_of_another_kind_is_refused(people: SignedIn, token: str) -> None:
    with pytest.raises(BadToken):
        make.SIGNER.read(token, now=NOW)
    with pytest.raises(Unauthenticated):
        await people.of_token(token)


def test_tokens_of_an_older_key_are_read_on() -> None:
    newer = base64.urlsafe_b64encode(os.urandom(32)).decode().rstrip("=")
    both = TokenSigner.parse(f"new:{newer},{DEMO_SIGNING_KEYS}", make.BASE_URL)
    old = make.SIGNER.mint(person=uuid4(), sign_in=uuid4(), now=NOW)
    both.read(old, now=NOW)
    with pytest.raises(BadToken):
        make.SIGNER.read(both.mint(person=uuid4(), sign_in=uuid4(), now=NOW), now=NOW)


def test_an_access_token_is_no_certificate_of_an_address() -> None:
    token = make.SIGNER.mint(person=uuid4(), sign_in=uuid4(), now=NOW)
    signer = Signer.parse(DEMO_SIGNING_KEYS)
    own = make.SIGNER._key.public_key().public_bytes_raw()
    assert own not in [key.public_bytes_raw() for key in signer.public.values()]
    assert token


# --- offices ----------------------------------------------------------------------------------------------------


async def test_an_office_is_given_once_and_noted(session: AsyncSession) -> None:
    number = make.a_number()

    async def give(role: Role, unit_id: int | None = None) -> RoleGrant:
        return await operations.grant_office(
            session, make.KEYRING, number=number, role=role, unit_id=unit_id, actor="cli", now=datetime.now(UTC)
        )

    for role, unit in ((Role.OFFICER, None), (Role.ADMIN, 1), (Role.CITIZEN, None), (Role.PARTNER, None)):
        with pytest.raises(Invalid):
            await give(role, unit)
    grant = await give(Role.ADMIN)
    async with session.begin_nested():
        with pytest.raises(HoldsOffice):
            async with session.begin_nested():
                await give(Role.MONITOR)
    await operations.end_office(session, make.KEYRING, number=number, actor="cli", now=datetime.now(UTC))
    with pytest.raises(NotFound):
        await operations.end_office(session, make.KEYRING, number=number, actor="cli", now=datetime.now(UTC))
    again = await give(Role.MONITOR)
    await operations.end_offices_of(session, again.person_id, actor="officer", now=datetime.now(UTC))
    assert again.person_id == grant.person_id
    entries = (await session.scalars(select(AuditEntry.kind).order_by(AuditEntry.seq))).all()
    assert entries == ["office_granted", "office_ended"] * 2
    assert number not in "".join((await session.scalars(select(AuditEntry.data))).all())
    for wrong in ("", "12345678901", "1234567890123", "12345678901a", "١٢٣٤٥٦٧٨٩٠١٢"):
        with pytest.raises(Invalid):
            await operations.end_office(session, make.KEYRING, number=wrong, actor="cli", now=datetime.now(UTC))


async def test_who_got_an_office_before_they_ever_signed_in_is_found_when_they_do(session: AsyncSession) -> None:
    number = make.a_number()
    await operations.grant_office(
        session, make.KEYRING, number=number, role=Role.ADMIN, unit_id=None, actor="cli", now=datetime.now(UTC)
    )
    waiting = (await session.scalars(select(Person.id))).one()
    assert (await operations.open_person(session, make.KEYRING, waiting)).name is None
    identity = make.an_identity(number=number)
    assert await operations.recognise(session, make.KEYRING, identity, is_demo=False) == waiting
    opened = await operations.open_person(session, make.KEYRING, waiting)
    assert (opened.name, opened.level) == (identity.name, 2)


# --- commands ---------------------------------------------------------------------------------------------------


def test_offices_are_given_on_the_command_line(own_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", own_database)
    monkeypatch.setenv("BKAPP_DEMO", "1")
    run = CliRunner()
    number = make.a_number()

    made = run.invoke(grants, ["new", "--role", "officer", "--unit", "01969", "--days", "30"], input=f"{number}\n")
    twice = run.invoke(grants, ["new", "--role", "admin"], input=number)
    unknown = run.invoke(grants, ["new", "--role", "officer", "--unit", "99999"], input=make.a_number())
    nowhere = run.invoke(grants, ["new", "--role", "officer"], input=make.a_number())
    partner = run.invoke(grants, ["new", "--role", "partner"], input=number)
    wrong = run.invoke(grants, ["new", "--role", "admin"], input="123\n")
    nothing = run.invoke(grants, ["new", "--role", "admin"], input="")
    ended = run.invoke(grants, ["end"], input=number)
    again = run.invoke(grants, ["end"], input=number)

    assert made.exit_code == 0, (made.stderr, made.exception)
    assert (made.exit_code, bool(UUID(made.stdout.strip()))) == (0, True)
    assert (twice.exit_code, twice.stderr) == (1, "bkapp: This person holds an office already.\n")
    assert (unknown.exit_code, "99999" in unknown.stderr) == (1, True)
    assert [one.exit_code for one in (nowhere, partner, wrong, nothing)] == [1, 2, 1, 1]
    assert ended.stdout == made.stdout
    assert (again.exit_code, again.stderr) == (1, "bkapp: This person holds no office.\n")
    for one in (made, twice, unknown, wrong, ended, again):
        assert number not in one.output + one.stderr


def test_a_made_data_key_is_one_and_data_is_sealed_anew_with_it(
    own_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = CliRunner()
    made = run.invoke(data_key, ["--kid", "k2"])
    lines = dict(line.split("=", 1) for line in made.stdout.splitlines())
    assert list(lines) == ["BKAPP_DATA_KEYS", "BKAPP_LOOKUP_KEY"]
    new = Keyring.parse(lines["BKAPP_DATA_KEYS"], DEMO_LOOKUP_KEY)
    Keyring.parse(lines["BKAPP_DATA_KEYS"], lines["BKAPP_LOOKUP_KEY"])
    number = make.a_number()

    async def fill() -> list[UUID]:
        engine = open_engine(own_database)
        async with sessions_of(engine).begin() as session:
            found = [
                await make.a_person(session, number=number if n == 0 else None, phone="+84912345678") for n in range(7)
            ]
        await engine.dispose()
        return found

    async def opened(keyring: Keyring, people: list[UUID]) -> list[Any]:
        engine = open_engine(own_database)
        async with sessions_of(engine)() as session:
            found = [await operations.open_person(session, keyring, person) for person in people]
        await engine.dispose()
        return found

    people = asyncio.run(fill())
    before = asyncio.run(opened(make.KEYRING, people))
    monkeypatch.setenv("DATABASE_URL", own_database)
    monkeypatch.setenv("BKAPP_DEMO", "1")
    monkeypatch.setenv("BKAPP_DATA_KEYS", f"{lines['BKAPP_DATA_KEYS']},{DEMO_DATA_KEYS}")
    first = run.invoke(reseal(), ["--batch", "3"])
    again = run.invoke(reseal(), [])
    assert (first.exit_code, first.stderr.split(" ")[0]) == (0, "28")
    assert (again.exit_code, again.stderr.split(" ")[0]) == (0, "0")
    assert asyncio.run(opened(new, people)) == before
    # Without the old key there is nothing to seal anew; with neither it is said.
    monkeypatch.setenv("BKAPP_DATA_KEYS", DEMO_DATA_KEYS)
    lost = run.invoke(reseal(), [])
    assert (lost.exit_code, lost.stderr) == (1, "bkapp: The key of a sealed value is not in the ring.\n")


# --- upkeep -----------------------------------------------------------------------------------------------------


async def test_what_is_over_for_long_is_forgotten(session: AsyncSession) -> None:
    now = datetime.now(UTC)
    person = await make.a_person(session)
    live, ended, old = [await make.a_sign_in(session, person) for _ in range(3)]
    expired = await make.a_sign_in(session, person, age=timedelta(days=30 + 91))
    await make.age_sign_in(session, ended, ended_at=now - timedelta(days=89), end_reason="remote")
    await make.age_sign_in(session, old, ended_at=now - timedelta(days=91), end_reason="remote")
    family = (await make.of_secret(session, old)).id
    kept = (await make.of_secret(session, live)).id
    for sign_in, rotated in ((family, None), (kept, now - timedelta(minutes=1)), (kept, now)):
        session.add(
            RefreshToken(
                hash=os.urandom(32), sign_in_id=sign_in, rotated_at=rotated, successor_cipher=b"x" if rotated else None
            )
        )
    for expires in (now + timedelta(minutes=1), now - timedelta(days=2)):
        session.add(UsedToken(issuer="i", jti=str(expires), expires_at=expires))
        session.add(NativeCode(hash=os.urandom(32), sign_in_id=kept, challenge="c", redirect="r", expires_at=expires))
        session.add(
            SignInAttempt(
                state_hash=os.urandom(32),
                issuer="i",
                nonce="n",
                verifier="v",
                browser_hash=b"b",
                next="/",
                expires_at=expires,
            )
        )
    await session.flush()

    assert await operations.forget(session, now=now) == 5
    assert await operations.forget(session, now=now) == 0

    left = set((await session.scalars(select(SignIn.secret_hash))).all())
    assert left == {hashed(live), hashed(ended)}
    assert hashed(expired) not in left
    ciphers = (await session.scalars(select(RefreshToken.successor_cipher))).all()
    assert (len(ciphers), set(ciphers)) == (2, {None, b"x"})


async def test_a_value_that_was_copied_elsewhere_is_not_sealed_anew(session: AsyncSession) -> None:
    one, other = await make.a_person(session, name="Một"), await make.a_person(session, name="Hai")
    names = select(Person.name_cipher).where(Person.id == one).scalar_subquery()
    await session.execute(update(Person).where(Person.id == other).values(name_cipher=names))
    new = Keyring([("new", os.urandom(32)), *_pairs()], base64.urlsafe_b64decode(DEMO_LOOKUP_KEY + "="))
    with pytest.raises(Unsealable):
        await operations.reseal(session, new, SEALED[1])


def _pairs() -> list[tuple[str, bytes]]:
    return [
        (kid, base64.urlsafe_b64decode(key + "="))
        for kid, _, key in (entry.partition(":") for entry in DEMO_DATA_KEYS.split(","))
    ]


async def test_notes_do_not_count_people_twice(session: AsyncSession) -> None:
    number = make.a_number()
    for _ in range(2):
        await operations.person_of(session, make.KEYRING, number)
    assert await session.scalar(select(func.count()).select_from(Person)) == 1
    assert rules.masked(number) == "•" * 9 + number[-3:]
