"""Erasing a person: every column of every table, the log and the export are searched for them, before and after."""

import asyncio
import json
import logging
import unicodedata
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import structlog
from httpx import AsyncClient
from msgspec.structs import replace
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from typing_extensions import override

from bkapp.access.operations import Caller
from bkapp.access.rules import Role
from bkapp.address import queries as addresses
from bkapp.address.models import Dwelling, GeocodeJob, Household, HouseholdLink
from bkapp.address.operations import Door
from bkapp.audit import queries as audit
from bkapp.audit.checkpoints import Keys
from bkapp.audit.models import AuditEntry
from bkapp.config import DEMO_SIGNING_KEYS, Settings
from bkapp.db import Sessions, open_engine, sessions_of
from bkapp.households import operations as households
from bkapp.households.models import Membership
from bkapp.households.operations.claiming import Pin
from bkapp.households.operations.leaving import SOURCE
from bkapp.households.rules import Relation
from bkapp.http import IdempotencyRecord, today
from bkapp.identity import operations as identity
from bkapp.identity.models import NativeCode, Notice, Person, RefreshToken, RoleGrant, SignIn
from bkapp.identity.operations import Arrived
from bkapp.identity.rules import EndReason, SignInKind
from bkapp.payments.models import PaymentCase, Receipt, ReconciliationItem, WebhookInbox
from bkapp.payments.operations import bills, refunds
from bkapp.payments.providers import Line
from bkapp.payments.rules import FeeKind
from bkapp.privacy import operations
from bkapp.privacy.models import Consent, SubjectRequest
from bkapp.privacy.operations import Blocker, ErasureBlocked
from bkapp.privacy.operations.requests import _locked
from bkapp.privacy.purposes import PURPOSES
from bkapp.privacy.rules import RequestKind, RequestStatus
from bkapp.sealing import Keyring, Unsealable
from tests import make
from tests.households import make as people
from tests.identity import make as signing
from tests.payments import make as paying

NAME, BIRTH, PHONE = "Đàm Thị Quỳnh Như", date(1987, 11, 23), "0987654321"
DEVICE = "Cốc Cốc trên máy của Quỳnh"


@dataclass(frozen=True)
class Traces:
    """What gives a person away, by a name for each: texts in every spelling, and hashes as bytes."""

    texts: dict[str, str]
    hashes: dict[str, bytes]

    @classmethod
    def of(cls, number: str, subject: str) -> "Traces":
        plain = "".join(
            letter
            for letter in unicodedata.normalize("NFD", NAME.replace("Đ", "D"))
            if not unicodedata.combining(letter)
        )
        texts = {
            "number": number,
            "subject": subject,
            "name": NAME,
            "name decomposed": unicodedata.normalize("NFD", NAME),
            "name in capitals": NAME.upper(),
            "name escaped": json.dumps(NAME)[1:-1],
            "name without marks": plain,
            "name as the register writes it": plain.upper().replace(" ", ""),
            "given name": "Quỳnh",
            "phone": PHONE,
            "phone abroad": f"+84{PHONE[1:]}",
            "phone grouped": "0987 654 321",
            "birth": BIRTH.isoformat(),
            "birth as written": f"{BIRTH:%d/%m/%Y}",
            "birth in digits": f"{BIRTH:%Y%m%d}",
        }
        hashes = {
            "number hash": people.KEYRING.lookup("citizen", number),
            "household hash": people.KEYRING.lookup("household", number),
            "subject hash": people.KEYRING.lookup("eid-subject", f"{signing.ISSUER}\0{subject}"),
        }
        return cls({name: text.casefold() for name, text in texts.items()}, hashes)

    def in_text(self, text: str) -> set[str]:
        text = text.casefold()
        found = {name for name, wanted in self.texts.items() if wanted in text}
        return found | {name for name, wanted in self.hashes.items() if wanted.hex() in text}

    def in_bytes(self, data: bytes) -> set[str]:
        found = {name for name, wanted in self.hashes.items() if wanted in data}
        return found | self.in_text(data.decode("utf-8", "replace")) | self.in_text(data.hex())


def opened(keyring: Keyring, sealed: bytes, contexts: list[str]) -> str | None:
    """What a sealed value says, whatever it was sealed for."""
    for context in contexts:
        try:
            return keyring.open(sealed, context)
        except (Unsealable, ValueError):
            continue
    return None


async def found_in(session: AsyncSession, traces: Traces, ids: list[str]) -> dict[str, set[str]]:
    """Where traces are: each cell of each column of each table, as text, as bytes, and with its seal opened."""
    contexts = [
        f"{what}:{each}"
        for each in ids
        for what in (
            "person.number",
            "person.name",
            "person.birth",
            "person.phone",
            "request.details",
            "bill.payer_name",
            "webhook_inbox",
        )
    ]
    columns = await session.execute(
        text("""
        SELECT c.table_schema, c.table_name, c.column_name, c.data_type FROM information_schema.columns c
        JOIN information_schema.tables t USING (table_schema, table_name)
        WHERE c.table_schema NOT IN ('pg_catalog', 'information_schema') AND t.table_type = 'BASE TABLE'
        ORDER BY 1, 2, c.ordinal_position""")
    )
    found: dict[str, set[str]] = {}
    seen = 0
    for schema, table, column, kind in columns.all():
        cell = f'"{column}"' if kind == "bytea" else f'"{column}"::text'
        for value in await session.scalars(
            text(f'SELECT {cell} FROM "{schema}"."{table}" WHERE "{column}" IS NOT NULL')
        ):
            seen += 1
            if isinstance(value, str):
                hits = traces.in_text(value)
            else:
                hits = traces.in_bytes(bytes(value))
                inside = opened(people.KEYRING, bytes(value), contexts)
                if inside is not None:
                    hits |= {f"sealed {name}" for name in traces.in_text(inside)}
            if hits:
                found.setdefault(f"{table}.{column}", set()).update(hits)
    assert seen > 1000  # it did look
    return found


class Listening(logging.Handler):
    """Keeps what is logged by way of the standard library."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    @override
    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@contextmanager
def listening() -> Iterator[list[Any]]:
    """Everything that is logged meanwhile."""
    handler, root = Listening(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    lines: list[Any] = handler.lines
    try:
        with structlog.testing.capture_logs() as logged:
            yield lines
            lines += logged
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


@dataclass
class Life:
    """A person with everything that bkapp can know of somebody, and their way to the data officer."""

    client: AsyncClient
    me: Caller
    officer: Caller
    relative: Caller
    number: str
    erase: str = ""
    code: str = ""
    household: UUID | None = None
    sealed: list[str] = field(default_factory=list)  # what else is sealed for them


async def a_person(session: AsyncSession) -> tuple[Caller, str]:
    said = signing.an_identity(name=NAME, birth=BIRTH)
    arrived = await identity.arrive(
        session,
        people.KEYRING,
        said,
        kind=SignInKind.BROWSER,
        device=DEVICE,
        now=datetime.now(UTC),
        is_demo=False,
    )
    assert isinstance(arrived, Arrived)
    me = Caller(
        id=str(arrived.person),
        role=Role.CITIZEN,
        unit_ids=frozenset(),
        person=arrived.person,
        level=2,
        authenticated_at=datetime.now(UTC),
    )
    return me, said.number


async def pay(session: AsyncSession, life: Life) -> None:
    """A bill of the person's number, paid, with what the provider wrote and offices noted about it."""
    merchant = await paying.a_merchant(session)
    bill = await bills.issue_bill(
        session,
        people.KEYRING,
        lines=[Line(FeeKind.CHARGE, "LP01", "Lệ phí", 20_000)],
        description="Lệ phí",
        procedure_code="2.000815",
        procedure_name="Chứng thực",
        dossier_code=None,
        unit_id=None,
        payer_number=life.number,
        payer_name=NAME,
        by=life.officer.id,
        now=datetime.now(UTC),
    )
    attempt = await paying.an_attempt(session, bill, merchant)
    attempt.redirect_url = f"https://pay.example/?name={NAME}"
    await paying.hear(session, merchant, attempt, transaction="T1")
    receipt = (await session.scalars(select(Receipt.id).where(Receipt.bill_id == bill.id))).one()
    letter = WebhookInbox(
        id=7, merchant_id=merchant.id, what="ipn", remote_ip="192.0.2.7", headers="{}", body_bytes=9,
        body_cipher=people.KEYRING.seal(f"{NAME} chuyen tien", "webhook_inbox:7"), attempt_id=attempt.id,
    )  # fmt: skip
    asked = f"Hoàn cho {NAME}"
    refund = await refunds.request_refund(
        session, receipt_id=receipt, amount=1_000, reason=asked, by_hand=True, limit=0, by="one", now=paying.NOW
    )
    await refunds.reject(session, refund.id, by="two", now=paying.NOW, reason=f"{NAME} không nhận")
    closed = {"closed_at": paying.NOW, "closed_by": "one", "outcome": f"Đã gọi bà {NAME}"}
    case = PaymentCase(kind="status", bill_id=bill.id, due_at=paying.NOW, **closed)
    item = ReconciliationItem(
        merchant_id=merchant.id, source="bank", business_date=today(), kind="only_ours", receipt_id=receipt,
        resolved_at=paying.NOW, resolved_by="one", note=f"Bà {NAME} nộp",
    )  # fmt: skip
    session.add_all([letter, case, item])
    life.sealed += [str(bill.id), "7"]


async def live(life: Life, sessions: Sessions) -> None:
    """Do what a citizen does, and what officers do about it."""
    client, me, officer = life.client, life.me, life.officer
    assert me.person is not None
    async with sessions.begin() as session:
        member = await people.registered(session, me)
        life.household = member.household_id
        await people.registered(session, life.relative, head=me)
        point = await make.a_place(session)
        claim = await households.claim(
            session, people.KEYRING, me, code=None, pin=Pin(point, Door(house_number="12"), None), today=today()
        )
        life.code = claim.code
        await households.invite(session, me, relation=Relation.MOTHER, now=datetime.now(UTC))
        await signing.a_sign_in(session, me.person, provider_sid="sid-1", device=DEVICE)
        await signing.a_native_sign_in(session, me.person)
        native = (await session.scalars(select(SignIn.id).where(SignIn.kind == SignInKind.NATIVE))).one()
        later = datetime.now(UTC) + timedelta(minutes=1)
        session.add(RefreshToken(hash=b"r" * 32, sign_in_id=native, successor_cipher=people.KEYRING.seal("next", "x")))
        session.add(NativeCode(hash=b"c" * 32, sign_in_id=native, challenge="c", redirect="r", expires_at=later))
        session.add(
            GeocodeJob(caller=me.id, file_name=f"{NAME}.csv", options={}, input=f"{NAME};{life.number}".encode())
        )
        await pay(session, life)
        # An officer's stored answer that names the person, as some route may give it.
        for answered in (officer.id, me.id):
            session.add(
                IdempotencyRecord(
                    caller=answered,
                    key=uuid4().hex,
                    fingerprint=b"f",
                    status=200,
                    headers={},
                    body=json.dumps({"person": me.id, "name": NAME}, ensure_ascii=False).encode(),
                )
            )
    shown = PURPOSES["contact_phone"].version
    for path, body, status in (
        ("consents", {"purpose": "contact_phone", "text_version": shown}, 200),
        ("consents", {"purpose": "notices", "text_version": PURPOSES["notices"].version}, 200),
        ("phone", {"phone": PHONE}, 204),
        ("requests", {"kind": "rectify", "details": f"Tôi là {NAME}, số {life.number}, máy {PHONE}"}, 201),
        ("requests", {"kind": "access", "details": f"Sinh ngày {BIRTH:%d/%m/%Y}"}, 201),
        ("requests", {"kind": "erase", "details": f"Xóa giúp {NAME}"}, 201),
    ):
        answer = await people.post(client, me, f"/api/v1/me/{path}", body)
        assert answer.status_code == status, answer.text
        if body.get("kind") == "erase":
            life.erase = answer.json()["id"]
    asked = (await people.fetch(client, officer, "/api/v1/privacy/requests")).json()["items"]
    rectify = next(item["id"] for item in asked if item["kind"] == "rectify")
    for verb, said in (
        ("acknowledge", {}),
        ("extend", {"days": 5, "reason": f"Chờ xác minh bà {NAME}"}),
        ("close", {"outcome": f"Đã sửa cho {NAME}"}),
    ):
        answer = await people.post(client, officer, f"/api/v1/privacy/requests/{rectify}/{verb}", said)
        assert answer.status_code == 200, answer.text


@pytest.fixture
async def engine_of_own(own_database: str) -> AsyncIterator[AsyncEngine]:
    engine = open_engine(own_database)
    yield engine
    await engine.dispose()


@pytest.fixture
def committed(engine_of_own: AsyncEngine) -> Sessions:
    return sessions_of(engine_of_own)


@pytest.fixture
async def life(committed: Sessions, settings: Settings) -> AsyncIterator[Life]:
    residents = people.Residents()
    async with committed.begin() as session:
        me, number = await a_person(session)
        officer = replace(
            await people.a_person(session, "Ma Thị Lan"),
            role=Role.ADMIN,
            unit_ids=None,
            authenticated_at=datetime.now(UTC),
        )
        relative = await people.a_person(session, "Nông Thị Mai")
    residents.let_in(me, officer, relative)
    async with people.served(settings, committed, residents) as client:
        yield Life(client, me, officer, relative, number)


async def erase(life: Life) -> None:
    answer = await people.post(life.client, life.officer, f"/api/v1/privacy/requests/{life.erase}/erase")
    assert (answer.status_code, answer.json()["status"]) == (200, "done"), answer.text


async def test_nothing_says_who_an_erased_person_was(life: Life, committed: Sessions) -> None:
    traces = Traces.of(life.number, f"sub-{life.number}")
    with listening() as logged:
        await live(life, committed)
        async with committed() as session:
            ids = [life.me.id, *life.sealed, *map(str, await session.scalars(select(SubjectRequest.id)))]
            before = await found_in(session, traces, ids)
        exported = (await people.fetch(life.client, life.me, "/api/v1/me/export.json")).text

        await erase(life)

        async with committed() as session:
            after = await found_in(session, traces, ids)
        others = [
            (await people.fetch(life.client, life.officer, path)).text
            for path in ("/api/v1/privacy/requests", "/api/v1/privacy/requests?closed=true", "/api/v1/address-events")
        ]
        others += [
            (await people.fetch(life.client, life.relative, path)).text
            for path in ("/api/v1/me/household", "/api/v1/me/reads")
        ]
        # The relative may take theirs out too; their caller here signed in long ago, so the operation itself is asked.
        async with committed.begin() as session:
            assert life.relative.person is not None
            export = await operations.collect(session, people.KEYRING, life.relative.person, now=datetime.now(UTC))
            others.append(repr(export))
        figures = (await life.client.get("/metrics")).text
        gone = await people.fetch(life.client, life.me, "/api/v1/me/export.json")

    # That all of this is found before shows that the search can find it.
    assert before["person.number_hmac"] == {"number hash"}
    assert "sealed number" in before["person.number_cipher"]
    assert {"sealed name", "sealed given name"} <= before["person.name_cipher"]
    assert before["person.birth_cipher"] == {"sealed birth"}
    assert "sealed phone abroad" in before["person.phone_cipher"]
    assert {"sealed name", "sealed number", "sealed phone", "sealed birth as written"} <= before[
        "subject_request.details_cipher"
    ]
    assert before["eid_subject.subject_hmac"] == {"subject hash"}
    assert before["household.source_id"] == {"household hash"}
    assert "given name" in before["sign_in.device"]
    assert {"name", "number"} <= before["geocode_job.input"]
    assert before["bill.payer_hmac"] == {"number hash"}
    assert "sealed name" in before["bill.payer_name_cipher"]
    assert "sealed name" in before["webhook_inbox.body_cipher"]
    for place in (
        "idempotency_key.body",
        "subject_request.extension_reason",
        "subject_request.outcome",
        "payment_attempt.redirect_url",
        "refund.reason",
        "refund.failure_code",
        "payment_case.outcome",
        "reconciliation_item.note",
    ):
        assert "name" in before[place], place
    assert {"number", "name", "phone abroad", "birth"} <= traces.in_text(exported)

    # The household is found by its head's number while others live there, and by nothing else.
    assert after == {"household.source_id": {"household hash"}}
    for answer in others:
        assert traces.in_text(answer) == set()
    assert traces.in_text(figures) == set()
    assert gone.status_code == 404
    assert len(logged) > 20
    assert traces.in_text("\n".join(map(repr, logged))) == set()

    # And with the last of them that goes too.
    async with committed.begin() as session:
        assert life.relative.person is not None
        await operations.erase(session, people.KEYRING, life.relative.person, actor="x", now=datetime.now(UTC))
    async with committed() as session:
        assert await found_in(session, traces, ids) == {}


async def test_what_must_stay_stays(life: Life, committed: Sessions) -> None:
    await live(life, committed)
    async with committed() as session:
        reads = (await session.scalar(text("SELECT count(*) FROM data_read"))) or 0
        entries = (await session.scalar(select(func.count()).select_from(AuditEntry))) or 0
        questions = await session.scalar(text("SELECT count(*) FROM population_query"))
    await erase(life)
    me = life.me.person
    async with committed() as session:
        person = await session.get_one(Person, me)
        assert (person.erased_at is not None, person.level) == (True, 0)
        # The chain holds, with the erasure in it.
        chain = await audit.verify(session, Keys.parse(DEMO_SIGNING_KEYS).public)
        assert (chain.broken, chain.breaks) == (0, ())
        assert chain.entries > entries
        last = (await session.scalars(select(AuditEntry).where(AuditEntry.kind == "person_erased"))).one()
        assert (last.actor, last.subject) == (life.officer.id, life.me.id)
        assert ((await session.scalar(text("SELECT count(*) FROM data_read"))) or 0) >= reads
        assert await session.scalar(text("SELECT count(*) FROM population_query")) == questions
        # Whoever replays the feed has the register as it is, without a gap.
        events = await addresses.events(session, after=0, limit=1000)
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        replica = {event.code: event.data for event in events}
        assert [replica[code] for code in sorted(replica)] == await addresses.current_table(session)
        # The address is the dwelling's and keeps its history; the claim nobody had decided about is withdrawn.
        assert await session.get(Dwelling, life.code) is not None
        assert (await session.scalars(select(HouseholdLink.code))).first() in {None, life.code}
        consents = (await session.scalars(select(Consent).where(Consent.person_id == me))).all()
        assert len(consents) == 2
        assert all(consent.withdrawn_at is not None for consent in consents)
        requests = (await session.scalars(select(SubjectRequest).where(SubjectRequest.person_id == me))).all()
        assert {request.kind for request in requests} == {RequestKind.RECTIFY, RequestKind.ACCESS, RequestKind.ERASE}
        assert all(request.closed_at and request.details_cipher is None for request in requests)
        sign_ins = (await session.scalars(select(SignIn).where(SignIn.person_id == me))).all()
        assert len(sign_ins) == 3
        for sign_in in sign_ins:
            assert sign_in.end_reason is EndReason.ERASED
            assert (sign_in.device, sign_in.secret_hash, sign_in.provider_sid) == ("", None, None)
        for table in (RefreshToken, NativeCode, GeocodeJob):
            assert await session.scalar(select(func.count()).select_from(table)) == 0
        assert (
            await session.scalars(select(IdempotencyRecord).where(IdempotencyRecord.caller == life.me.id))
        ).all() == []
        ended = (await session.scalars(select(Membership).where(Membership.person_id == me))).one()
        assert ended.ended_at is not None


async def test_anothers_stored_answer_is_emptied_and_still_stops_a_repeat(life: Life, committed: Sessions) -> None:
    await live(life, committed)
    path, key = f"/api/v1/privacy/requests/{life.erase}/acknowledge", uuid4().hex
    headers = make.auth(life.officer.id, key)
    first = await life.client.post(path, json={}, headers=headers)
    await erase(life)
    again = await life.client.post(path, json={}, headers=headers)
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json() == {}


async def test_who_comes_back_is_a_new_person(session: AsyncSession) -> None:
    me, number = await a_person(session)
    assert me.person is not None
    await operations.erase(session, people.KEYRING, me.person, actor="x", now=datetime.now(UTC))
    again = await signing.a_person(session, number=number, name=NAME)
    assert again != me.person
    assert (await session.get_one(Person, me.person, populate_existing=True)).number_hmac is None


async def test_who_headed_a_household_before_is_forgotten_there_too(session: AsyncSession) -> None:
    me, number = await a_person(session)
    await people.registered(session, me)
    other = await people.a_head(session, name="Lý Văn Xa")
    await people.registered(session, me, head=other)
    hashed = people.KEYRING.lookup("household", number).hex()
    wanted = select(func.count()).where(Household.source == SOURCE, Household.source_id == hashed)
    assert await session.scalar(wanted) == 1
    assert me.person is not None
    await operations.erase(session, people.KEYRING, me.person, actor="x", now=datetime.now(UTC))
    assert await session.scalar(wanted) == 0
    theirs = people.KEYRING.lookup("household", await people.number_of(session, other)).hex()
    assert await session.scalar(select(func.count()).where(Household.source_id == theirs)) == 1


class TestBlockers:
    async def grant(self, session: AsyncSession, me: Caller, **columns: Any) -> None:
        session.add(RoleGrant(person_id=me.person, role=Role.MONITOR, granted_by="test", **columns))
        await session.flush()

    async def test_who_holds_an_office_is_not_erased(
        self, client: AsyncClient, session: AsyncSession, citizen: Caller, data_officer: Caller
    ) -> None:
        await self.grant(session, citizen)
        await session.commit()
        made = (await people.post(client, citizen, "/api/v1/me/requests", {"kind": "erase"})).json()
        answer = await people.post(client, data_officer, f"/api/v1/privacy/requests/{made['id']}/erase")

        assert (answer.status_code, answer.json()["type"]) == (409, "/problems/erasure_blocked")
        assert answer.json()["blockers"] == [
            {"code": "holds_office", "title": "Người này đang giữ một chức vụ trong hệ thống"}
        ]
        person = await session.get_one(Person, citizen.person, populate_existing=True)
        assert (person.erased_at, person.name_cipher is not None) == (None, True)
        request = (await session.scalars(select(SubjectRequest).execution_options(populate_existing=True))).one()
        assert request.closed_at is None

    async def test_an_office_that_is_over_does_not_stop_it_and_ends(
        self, session: AsyncSession, citizen: Caller
    ) -> None:
        now = datetime.now(UTC)
        await self.grant(session, citizen, expires_at=now - timedelta(days=1))
        assert citizen.person is not None
        await operations.erase(session, people.KEYRING, citizen.person, actor="x", now=now)
        grant = (await session.scalars(select(RoleGrant).execution_options(populate_existing=True))).one()
        assert grant.ended_at == grant.expires_at

    async def test_every_reason_is_told_at_once(self, session: AsyncSession, citizen: Caller) -> None:
        async def owes(_: AsyncSession, __: UUID) -> Blocker:
            return Blocker("unpaid_bills", "Còn khoản phí chưa nộp")

        async def fine(_: AsyncSession, __: UUID) -> None:
            return None

        async def keeps(_: AsyncSession, __: UUID) -> Blocker:
            return Blocker("legal_hold", "Đang có khiếu nại")

        assert citizen.person is not None
        with pytest.raises(ErasureBlocked) as caught:
            await operations.erase(
                session,
                people.KEYRING,
                citizen.person,
                actor="x",
                now=datetime.now(UTC),
                hindrances=(owes, fine, keeps),
            )
        assert [blocker.code for blocker in caught.value.facts["blockers"]] == ["unpaid_bills", "legal_hold"]  # type: ignore[attr-defined]

    async def test_nobody_is_erased_twice(
        self, client: AsyncClient, session: AsyncSession, citizen: Caller, data_officer: Caller
    ) -> None:
        made = (await people.post(client, citizen, "/api/v1/me/requests", {"kind": "erase"})).json()
        path = f"/api/v1/privacy/requests/{made['id']}/erase"
        assert (await people.post(client, data_officer, path)).status_code == 200
        again = await people.post(client, data_officer, path)
        assert (again.status_code, again.json()["type"]) == (409, "/problems/request_step_not_possible")
        assert (await session.scalar(select(func.count()).where(AuditEntry.kind == "person_erased"))) == 1


async def test_it_is_all_or_nothing(life: Life, committed: Sessions, own_database: str) -> None:
    """An erasure that breaks in its last step leaves everything as it was."""
    await live(life, committed)
    with psycopg.connect(own_database.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("ALTER TABLE audit_entry ADD CONSTRAINT stop CHECK (kind <> 'person_erased')")
    answer = await people.post(life.client, life.officer, f"/api/v1/privacy/requests/{life.erase}/erase")
    assert answer.status_code == 500
    async with committed() as session:
        person = await session.get_one(Person, life.me.person)
        assert person.erased_at is None
        assert people.KEYRING.open(person.name_cipher or b"", f"person.name:{life.me.id}") == NAME
        live_ones = select(func.count()).where(SignIn.person_id == life.me.person, SignIn.ended_at.is_(None))
        assert await session.scalar(live_ones) == 3


async def test_an_erasure_and_the_persons_own_change_at_once(life: Life, committed: Sessions) -> None:
    """Whoever comes second finds nobody: nothing is written about a person after they are erased."""
    await live(life, committed)

    async def phone() -> int:
        return (await people.post(life.client, life.me, "/api/v1/me/phone", {"phone": PHONE})).status_code

    async def ask() -> int:
        body = {"kind": "object", "details": NAME}
        return (await people.post(life.client, life.me, "/api/v1/me/requests", body)).status_code

    statuses = await asyncio.gather(phone(), ask(), erase(life), phone(), ask())
    assert {status for status in statuses if status is not None} <= {201, 204, 403, 404, 409}
    async with committed() as session:
        person = await session.get_one(Person, life.me.person)
        assert person.phone_cipher is None
        left = select(func.count()).where(SubjectRequest.details_cipher.is_not(None))
        assert await session.scalar(left) == 0


async def test_a_step_of_another_request_and_an_erasure_wait_for_each_other(committed: Sessions) -> None:
    """Both lock the person first: neither dies of the other's lock, and no notice is left of who is gone."""
    async with committed.begin() as session:
        me = await people.a_person(session, NAME)
        assert me.person is not None
        kinds = (RequestKind.RECTIFY, RequestKind.ERASE)
        now = datetime.now(UTC)
        other, mine = [
            await operations.ask(session, people.KEYRING, me.person, kind=kind, details=None, now=now) for kind in kinds
        ]

    async def erasing() -> None:
        async with committed.begin() as session:
            await operations.to_erase(session, mine.id)
            await operations.erase(session, people.KEYRING, mine.person_id, actor="clerk", now=now)

    async with committed.begin() as session:
        await _locked(session, other.id)
        waiting = asyncio.create_task(erasing())
        await asyncio.sleep(0.3)
        await operations.refuse(session, other.id, actor="clerk", reason="Không đủ căn cứ", now=now)
    await waiting
    async with committed() as session:
        assert await session.scalar(select(func.count()).where(Notice.person_id == me.person)) == 0
        kept = await session.get_one(SubjectRequest, other.id)
        assert kept.status is RequestStatus.REFUSED
