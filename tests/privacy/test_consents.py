"""Purposes, consent and what hangs on it: the telephone number."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from httpx import AsyncClient, Response
from msgspec.structs import replace
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.operations import Caller
from bkapp.audit.models import AuditEntry
from bkapp.db import open_engine, sessions_of
from bkapp.errors import NotFound
from bkapp.identity.models import Person
from bkapp.privacy import operations, purposes
from bkapp.privacy.models import Consent
from bkapp.privacy.operations import ConsentNeeded, ProcessingRestricted
from bkapp.privacy.purposes import PURPOSES, NoConsentNeeded, TextChanged
from bkapp.privacy.rules import Channel
from tests import make
from tests.households import make as people

NOW = datetime(2026, 11, 2, 9, tzinfo=UTC)
VERSION = PURPOSES["contact_phone"].version


async def state_of(client: AsyncClient, caller: Caller, purpose: str) -> dict[str, Any]:
    answer = await people.fetch(client, caller, "/api/v1/me/purposes")
    found: dict[str, Any] = {each["id"]: each for each in answer.json()["items"]}[purpose]
    return found


async def give(client: AsyncClient, caller: Caller, purpose: str = "contact_phone", version: str = VERSION) -> Response:
    return await people.post(client, caller, "/api/v1/me/consents", {"purpose": purpose, "text_version": version})


async def withdraw(client: AsyncClient, caller: Caller, purpose: str = "contact_phone") -> Response:
    return await people.post(client, caller, f"/api/v1/me/consents/{purpose}/withdraw")


async def phone(client: AsyncClient, caller: Caller, number: str | None = "0912 345 678") -> Response:
    return await people.post(client, caller, "/api/v1/me/phone", {"phone": number})


async def kept_phone(session: AsyncSession, caller: Caller) -> str | None:
    sealed = await session.scalar(select(Person.phone_cipher).where(Person.id == caller.person))
    return people.KEYRING.open(sealed, f"person.phone:{caller.person}") if sealed else None


def new_text(monkeypatch: pytest.MonkeyPatch, purpose: str = "contact_phone", version: str = "2") -> None:
    changed = replace(PURPOSES[purpose], text="Nội dung mới.", version=version)
    monkeypatch.setitem(purposes.PURPOSES, purpose, changed)


async def test_nothing_is_given_by_itself(client: AsyncClient, citizen: Caller) -> None:
    answer = await people.fetch(client, citizen, "/api/v1/me/purposes")

    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["controller"] == "Ủy ban nhân dân tỉnh Thái Nguyên (dữ liệu thử)"
    states = {each["id"]: each["state"] for each in answer.json()["items"]}
    assert set(states.values()) == {"not_needed", "not_given"}
    assert [name for name, state in states.items() if state == "not_given"] == [
        "contact_phone",
        "notices",
        "assisted_service",
    ]


async def test_a_consent_keeps_version_time_and_channel(
    client: AsyncClient, session: AsyncSession, citizen: Caller, residents: people.Residents
) -> None:
    answer = await give(client, citizen)
    browser = replace(citizen, by_cookie=True)
    residents.let_in(browser)
    assert (await give(client, browser, "notices", PURPOSES["notices"].version)).status_code == 200

    assert answer.status_code == 200
    assert answer.json()["state"] == "given"
    assert answer.json()["given_version"] == VERSION
    kept = {row.purpose: row for row in await session.scalars(select(Consent))}
    assert kept["contact_phone"].channel is Channel.APP
    assert kept["notices"].channel is Channel.WEB
    assert all(row.text_version and row.person_id == citizen.person for row in kept.values())
    assert all(datetime.now(UTC) - row.given_at < timedelta(minutes=1) for row in kept.values())
    entry = (await session.scalars(select(AuditEntry).where(AuditEntry.kind == "consent_given"))).first()
    assert entry is not None
    assert (entry.actor, entry.subject) == (citizen.id, citizen.id)


async def test_giving_twice_is_giving_once(client: AsyncClient, session: AsyncSession, citizen: Caller) -> None:
    assert [(await give(client, citizen)).status_code for _ in range(3)] == [200, 200, 200]
    assert await session.scalar(select(func.count()).select_from(Consent)) == 1


async def test_the_words_that_were_shown_are_what_counts(
    client: AsyncClient, session: AsyncSession, citizen: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    await give(client, citizen)
    new_text(monkeypatch)
    outdated = await state_of(client, citizen, "contact_phone")
    stale = await give(client, citizen)
    again = await give(client, citizen, version="2")

    assert (outdated["state"], outdated["given_version"], outdated["text_version"]) == ("outdated", VERSION, "2")
    assert stale.status_code == 409
    problem = stale.json()
    assert (problem["type"], problem["text_version"], problem["text"]) == (
        "/problems/consent_text_changed",
        "2",
        "Nội dung mới.",
    )
    assert again.json()["state"] == "given"
    rows = (await session.scalars(select(Consent).order_by(Consent.given_at))).all()
    assert [(row.text_version, row.withdrawn_at is None) for row in rows] == [(VERSION, False), ("2", True)]


@pytest.mark.parametrize(
    ("purpose", "version", "status", "problem"),
    [
        ("sign_in", "1", 409, "no_consent_needed"),
        ("advertising", "1", 404, "not_found"),
        ("contact_phone", "", 409, "consent_text_changed"),
        ("contact_phone", "x" * 33, 400, "malformed"),
    ],
)
async def test_what_cannot_be_consented_to_is_refused(
    client: AsyncClient, session: AsyncSession, citizen: Caller, purpose: str, version: str, status: int, problem: str
) -> None:
    answer = await give(client, citizen, purpose, version)
    assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{problem}")
    assert await session.scalar(select(func.count()).select_from(Consent)) == 0


async def test_withdrawing_is_one_call_and_takes_the_number_at_once(
    client: AsyncClient, session: AsyncSession, citizen: Caller
) -> None:
    await give(client, citizen)
    await phone(client, citizen)
    assert await kept_phone(session, citizen) == "+84912345678"

    answer = await withdraw(client, citizen)
    repeated = await withdraw(client, citizen)

    assert (answer.status_code, answer.json()["state"]) == (200, "withdrawn")
    assert (repeated.status_code, repeated.json()["state"]) == (200, "withdrawn")
    assert await kept_phone(session, citizen) is None
    row = (await session.scalars(select(Consent))).one()
    assert (row.withdrawn_channel, row.withdrawn_at is not None) == (Channel.APP, True)
    kinds = await session.scalars(select(AuditEntry.kind).where(AuditEntry.kind == "consent_withdrawn"))
    assert len(kinds.all()) == 1


async def test_an_outdated_consent_can_be_withdrawn_too(
    client: AsyncClient, citizen: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    await give(client, citizen)
    new_text(monkeypatch)
    assert (await withdraw(client, citizen)).json()["state"] == "withdrawn"


async def test_what_was_never_given_can_be_withdrawn_and_what_needs_none_cannot(
    client: AsyncClient, citizen: Caller
) -> None:
    assert (await withdraw(client, citizen)).json()["state"] == "not_given"
    assert (await withdraw(client, citizen, "sign_in")).json()["type"] == "/problems/no_consent_needed"
    assert (await withdraw(client, citizen, "advertising")).status_code == 404


class TestPhone:
    async def test_needs_consent_in_the_words_of_today(
        self, client: AsyncClient, session: AsyncSession, citizen: Caller, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = await phone(client, citizen)
        await give(client, citizen)
        new_text(monkeypatch)
        after = await phone(client, citizen)

        for answer in (before, after):
            assert (answer.status_code, answer.json()["type"]) == (403, "/problems/consent_needed")
            assert answer.json()["purpose"] == "contact_phone"
        assert await kept_phone(session, citizen) is None

    async def test_is_taken_in_any_form_and_given_back_by_none(
        self, client: AsyncClient, session: AsyncSession, citizen: Caller
    ) -> None:
        await give(client, citizen)
        answer = await phone(client, citizen, "(+84) 912.345.678")
        assert (answer.status_code, answer.content) == (204, b"")
        assert await kept_phone(session, citizen) == "+84912345678"
        assert (await phone(client, citizen, None)).status_code == 204
        assert await kept_phone(session, citizen) is None

    async def test_none_needs_no_consent(self, client: AsyncClient, citizen: Caller) -> None:
        assert (await phone(client, citizen, None)).status_code == 204

    @pytest.mark.parametrize("number", ["", "1", "0212345678", "09123456789", "+1 212 555 0100", "٠٩١٢٣٤٥٦٧٨"])
    async def test_that_is_none_is_refused(self, client: AsyncClient, citizen: Caller, number: str) -> None:
        await give(client, citizen)
        answer = await phone(client, citizen, number)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/phone")


class TestRequireConsent:
    async def test_is_for_those_who_use_data_by_consent(self, session: AsyncSession, citizen: Caller) -> None:
        assert citizen.person is not None
        with pytest.raises(ConsentNeeded):
            await operations.require_consent(session, citizen.person, "notices")
        await operations.give_consent(
            session,
            citizen.person,
            "notices",
            text_version=PURPOSES["notices"].version,
            channel=Channel.OFFICE,
            now=NOW,
        )
        await operations.require_consent(session, citizen.person, "notices")
        with pytest.raises(ConsentNeeded):
            await operations.require_consent(session, citizen.person, "contact_phone")
        with pytest.raises(NoConsentNeeded):
            await operations.require_consent(session, citizen.person, "statistics")
        with pytest.raises(NotFound):
            await operations.require_consent(session, uuid4(), "notices")

    async def test_a_restriction_goes_before_any_consent(self, session: AsyncSession, citizen: Caller) -> None:
        assert citizen.person is not None
        version = PURPOSES["notices"].version
        await operations.give_consent(
            session, citizen.person, "notices", text_version=version, channel=Channel.WEB, now=NOW
        )
        person = await session.get_one(Person, citizen.person)
        person.restricted_at = NOW
        await session.flush()
        with pytest.raises(ProcessingRestricted):
            await operations.require_consent(session, citizen.person, "notices")
        with pytest.raises(ProcessingRestricted):
            await operations.give_consent(
                session, citizen.person, "contact_phone", text_version=VERSION, channel=Channel.WEB, now=NOW
            )
        # To say no is always possible.
        assert await operations.withdraw_consent(
            session, citizen.person, "notices", actor=citizen.id, channel=Channel.WEB, now=NOW
        )

        await operations.lift_restriction(session, citizen.person, actor="cli")
        await operations.lift_restriction(session, citizen.person, actor="cli")
        await operations.give_consent(
            session, citizen.person, "notices", text_version=version, channel=Channel.WEB, now=NOW
        )
        await operations.require_consent(session, citizen.person, "notices")
        lifted = await session.scalars(select(AuditEntry.seq).where(AuditEntry.kind == "restriction_lifted"))
        assert len(lifted.all()) == 1

    async def test_a_stale_version_changes_nothing(self, session: AsyncSession, citizen: Caller) -> None:
        assert citizen.person is not None
        with pytest.raises(TextChanged):
            await operations.give_consent(
                session, citizen.person, "notices", text_version="0", channel=Channel.WEB, now=NOW
            )
        assert await session.scalar(select(func.count()).select_from(Consent)) == 0


async def test_a_yes_and_a_no_at_once_leave_one_of_both(own_database: str) -> None:
    engine = open_engine(own_database)
    sessions = sessions_of(engine)
    async with sessions.begin() as session:
        caller = await people.a_person(session)
    assert caller.person is not None
    person_id = caller.person

    async def yes() -> None:
        async with sessions.begin() as session:
            await operations.give_consent(
                session, person_id, "notices", text_version="1", channel=Channel.WEB, now=datetime.now(UTC)
            )

    async def no() -> None:
        async with sessions.begin() as session:
            await operations.withdraw_consent(
                session, person_id, "notices", actor=caller.id, channel=Channel.WEB, now=datetime.now(UTC)
            )

    for _ in range(4):
        await asyncio.gather(yes(), no(), yes(), no(), yes())
    await yes()
    async with sessions() as session:
        standing = await session.scalar(text("SELECT count(*) FROM consent WHERE withdrawn_at IS NULL"))
    await engine.dispose()
    assert standing == 1


async def test_keys_have_no_rights_of_people(client: AsyncClient, session: AsyncSession) -> None:
    key = await make.a_key(session)
    await session.commit()
    for method, path in (
        ("GET", "purposes"),
        ("POST", "consents"),
        ("POST", "consents/notices/withdraw"),
        ("POST", "phone"),
        ("GET", "reads"),
        ("GET", "requests"),
        ("POST", "requests"),
        ("GET", "export.json"),
        ("GET", "export.pdf"),
    ):
        assert (await client.request(method, f"/api/v1/me/{path}")).status_code == 401
        assert (await client.request(method, f"/api/v1/me/{path}", headers=make.auth(key))).status_code == 403
