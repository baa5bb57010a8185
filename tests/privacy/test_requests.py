"""What people ask about their data, and the data officer's clock."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from click.testing import CliRunner
from httpx import AsyncClient, Response
from msgspec.structs import replace
from sqlalchemy import func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.models import DataRead
from bkapp.access.operations import Caller
from bkapp.access.rules import Role
from bkapp.audit.models import AuditEntry
from bkapp.cli import main
from bkapp.db import open_engine, sessions_of
from bkapp.http import IdempotencyRecord
from bkapp.identity.models import Notice, Person
from bkapp.identity.operations import tell
from bkapp.privacy import operations
from bkapp.privacy.models import Consent, SubjectRequest
from bkapp.privacy.operations import RequestOpen
from bkapp.privacy.purposes import PURPOSES
from bkapp.privacy.rules import HANOI, RETENTION, Channel, RequestKind, RequestStatus
from bkapp.privacy.tasks import keep_no_longer_nightly
from tests import make
from tests.households import make as people

DESK = "/api/v1/privacy/requests"
WORDS = "Họ tên của tôi ghi sai, xin sửa thành Nông Văn Hưng"


async def ask(client: AsyncClient, caller: Caller, kind: str = "rectify", details: str | None = WORDS) -> Response:
    return await people.post(client, caller, "/api/v1/me/requests", {"kind": kind, "details": details})


async def step(client: AsyncClient, caller: Caller, request: str, verb: str, body: Any = None) -> Response:
    return await people.post(client, caller, f"{DESK}/{request}/{verb}", body)


async def own(client: AsyncClient, caller: Caller) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await people.fetch(client, caller, "/api/v1/me/requests")).json()["items"]
    return found


async def desk(client: AsyncClient, caller: Caller, query: str = "") -> list[dict[str, Any]]:
    answer = await people.fetch(client, caller, f"{DESK}{query}")
    assert answer.headers["cache-control"] == "no-store"
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


def problem(answer: Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["type"].removeprefix("/problems/")


class TestAsking:
    async def test_the_clock_begins_and_the_words_are_sealed(
        self, client: AsyncClient, session: AsyncSession, citizen: Caller
    ) -> None:
        answer = await ask(client, citizen)

        made = answer.json()
        assert answer.status_code == 201
        assert (made["kind"], made["status"], made["title"]) == ("rectify", "received", "Chỉnh sửa dữ liệu của tôi")
        due = datetime.fromisoformat(made["due_at"]).astimezone(HANOI)
        came = datetime.fromisoformat(made["received_at"]).astimezone(HANOI)
        assert (due.date() - came.date()).days == 10
        assert made["received_at"] < made["acknowledge_by"] < made["due_at"]
        kept = (await session.scalars(select(SubjectRequest))).one()
        assert kept.details_cipher is not None
        assert "Hưng".encode() not in kept.details_cipher
        assert people.KEYRING.open(kept.details_cipher, f"request.details:{kept.id}") == WORDS
        answers = await session.scalars(select(IdempotencyRecord.body))
        assert not any("Hưng".encode() in body for body in answers)
        assert await own(client, citizen) == [made]

    async def test_there_is_one_open_request_of_a_kind(
        self, client: AsyncClient, citizen: Caller, data_officer: Caller
    ) -> None:
        first = (await ask(client, citizen)).json()
        assert problem(await ask(client, citizen)) == (409, "request_open")
        assert (await ask(client, citizen, "access", None)).status_code == 201
        await step(client, data_officer, first["id"], "close", {"outcome": "Đã sửa"})
        assert (await ask(client, citizen)).status_code == 201

    @pytest.mark.parametrize(
        "body",
        [
            {"kind": "sell"},
            {"kind": "access", "details": ""},
            {"kind": "access", "details": "   "},
            {"kind": "access", "details": "a\u0000b"},
            {"kind": "access", "details": "x" * 2001},
            {"kind": "access", "person": "x"},
            {},
        ],
    )
    async def test_what_cannot_be_read_is_refused(self, client: AsyncClient, citizen: Caller, body: Any) -> None:
        answer = await people.post(client, citizen, "/api/v1/me/requests", body)
        assert problem(answer) == (400, "malformed")

    async def test_words_have_lines(self, client: AsyncClient, citizen: Caller) -> None:
        assert (await ask(client, citizen, "access", "Dòng một\n\n\tdòng hai")).status_code == 201

    async def test_others_do_not_see_it(
        self, client: AsyncClient, session: AsyncSession, citizen: Caller, residents: people.Residents
    ) -> None:
        other = await people.a_person(session, "Lý Văn Xa")
        residents.let_in(other)
        await session.commit()
        await ask(client, citizen)
        assert await own(client, other) == []


class TestDesk:
    async def test_the_officer_sees_what_is_due_first_and_that_is_recorded(
        self, client: AsyncClient, session: AsyncSession, citizen: Caller, data_officer: Caller
    ) -> None:
        late = (await ask(client, citizen, "restrict")).json()["id"]
        soon = (await ask(client, citizen, "rectify")).json()["id"]
        await session.execute(
            update(SubjectRequest)
            .where(SubjectRequest.id == UUID(late))
            .values(acknowledge_by=func.now() - timedelta(days=3))
        )
        await session.commit()

        found = await desk(client, data_officer)

        assert [(item["id"], item["overdue"]) for item in found] == [(late, True), (soon, False)]
        assert found[0]["days_left"] == -3
        assert found[0]["next_due"] == found[0]["acknowledge_by"]
        assert (found[1]["name"], found[1]["details"]) == ("Nông Văn Hùng", WORDS)
        read = (await session.execute(select(DataRead.reader, DataRead.what).where(DataRead.what == DESK))).all()
        assert [tuple(row) for row in read] == [(data_officer.id, DESK)]
        newest = (await people.fetch(client, citizen, "/api/v1/me/reads")).json()["items"][0]
        assert newest["what"] == "Giải quyết yêu cầu về dữ liệu cá nhân"

    async def test_pages_go_on(self, client: AsyncClient, citizen: Caller, data_officer: Caller) -> None:
        for kind in RequestKind:
            await ask(client, citizen, kind.value, None)
        whole = [item["id"] for item in await desk(client, data_officer)]
        paged: list[str] = []
        query = "?limit=3"
        while True:
            page = (await people.fetch(client, data_officer, f"{DESK}{query}")).json()
            paged += [item["id"] for item in page["items"]]
            if page["next"] is None:
                break
            query = f"?limit=3&after={page['next']}"
        assert paged == whole
        assert len(whole) == len(RequestKind)
        for each in whole[:4]:
            await step(client, data_officer, each, "refuse", {"reason": "Thử"})
        closed = await desk(client, data_officer, "?closed=true&limit=2")
        assert [item["id"] for item in closed] == [whole[3], whole[2]]
        rest = await desk(client, data_officer, f"?closed=true&limit=2&after={whole[2]}")
        assert [item["id"] for item in rest] == [whole[1], whole[0]]
        assert await desk(client, data_officer, f"?after={uuid4()}") == []

    async def test_acknowledging_stops_the_first_clock(
        self, client: AsyncClient, session: AsyncSession, citizen: Caller, data_officer: Caller
    ) -> None:
        made = (await ask(client, citizen)).json()
        answer = await step(client, data_officer, made["id"], "acknowledge", {})
        again = await step(client, data_officer, made["id"], "acknowledge", {})

        assert (answer.status_code, answer.json()["status"]) == (200, "acknowledged")
        assert problem(again) == (409, "request_step_not_possible")
        (item,) = await desk(client, data_officer)
        assert item["next_due"] == item["due_at"] == made["due_at"]
        (seen,) = await own(client, citizen)
        assert seen["acknowledged_at"] is not None
        told = (await session.scalars(select(Notice))).one()
        assert (told.kind, told.data) == (
            "data_request",
            {"request": made["id"], "asked": "rectify", "status": "acknowledged"},
        )

    async def test_a_processor_that_must_act_has_longer(
        self, client: AsyncClient, citizen: Caller, data_officer: Caller
    ) -> None:
        made = (await ask(client, citizen, "restrict")).json()
        answer = await step(client, data_officer, made["id"], "acknowledge", {"with_processor": True})
        longer = datetime.fromisoformat(answer.json()["due_at"]) - datetime.fromisoformat(made["due_at"])
        assert longer == timedelta(days=5)

    async def test_acknowledging_takes_no_extension_back(
        self, client: AsyncClient, citizen: Caller, data_officer: Caller
    ) -> None:
        made = (await ask(client, citizen, "restrict")).json()
        await step(client, data_officer, made["id"], "extend", {"days": 15, "reason": "Chờ xác minh"})
        answer = await step(client, data_officer, made["id"], "acknowledge", {"with_processor": True})
        longer = datetime.fromisoformat(answer.json()["due_at"]) - datetime.fromisoformat(made["due_at"])
        assert longer == timedelta(days=20)

    async def test_more_time_is_taken_once_and_the_person_sees_why(
        self, client: AsyncClient, citizen: Caller, data_officer: Caller
    ) -> None:
        made = (await ask(client, citizen)).json()
        why = {"days": 15, "reason": "Chờ Công an xã xác minh"}
        answer = await step(client, data_officer, made["id"], "extend", why)
        again = await step(client, data_officer, made["id"], "extend", why)

        longer = datetime.fromisoformat(answer.json()["due_at"]) - datetime.fromisoformat(made["due_at"])
        assert longer == timedelta(days=15)
        assert problem(again) == (409, "request_extended_before")
        (seen,) = await own(client, citizen)
        assert (seen["extension_reason"], seen["extended_at"] is not None) == (why["reason"], True)

    async def test_more_time_is_not_taken_after_the_end(
        self, client: AsyncClient, session: AsyncSession, citizen: Caller, data_officer: Caller
    ) -> None:
        made = (await ask(client, citizen)).json()
        await session.execute(update(SubjectRequest).values(due_at=func.now() - timedelta(seconds=1)))
        await session.commit()
        answer = await step(client, data_officer, made["id"], "extend", {"days": 1, "reason": "Muộn"})
        assert problem(answer) == (409, "request_extension_too_late")

    @pytest.mark.parametrize("body", [{"days": 16, "reason": "x"}, {"days": 0, "reason": "x"}, {"days": 3}])
    async def test_an_extension_has_a_length_and_a_reason(
        self, client: AsyncClient, citizen: Caller, data_officer: Caller, body: Any
    ) -> None:
        made = (await ask(client, citizen)).json()
        assert problem(await step(client, data_officer, made["id"], "extend", body)) == (400, "malformed")

    @pytest.mark.parametrize(
        ("verb", "field", "status"), [("close", "outcome", "done"), ("refuse", "reason", "refused")]
    )
    async def test_a_closed_request_stays_closed(
        self, client: AsyncClient, citizen: Caller, data_officer: Caller, verb: str, field: str, status: str
    ) -> None:
        made = (await ask(client, citizen)).json()
        answer = await step(client, data_officer, made["id"], verb, {field: "Đã xem xét"})

        assert (answer.status_code, answer.json()["status"]) == (200, status)
        (seen,) = await own(client, citizen)
        assert (seen["status"], seen["outcome"]) == (status, "Đã xem xét")
        assert await desk(client, data_officer) == []
        for next_verb, body in (
            ("acknowledge", {}),
            ("extend", {"days": 1, "reason": "x"}),
            ("close", {"outcome": "x"}),
            ("refuse", {"reason": "x"}),
            ("erase", None),
        ):
            again = await step(client, data_officer, made["id"], next_verb, body)
            assert problem(again) == (409, "request_step_not_possible"), next_verb

    async def test_restricting_marks_the_person_and_stops_what_rests_on_consent(
        self, client: AsyncClient, session: AsyncSession, citizen: Caller, data_officer: Caller
    ) -> None:
        made = (await ask(client, citizen, "restrict")).json()
        await step(client, data_officer, made["id"], "close", {"outcome": "Đã hạn chế"})
        assert (await session.get_one(Person, citizen.person, populate_existing=True)).restricted_at is not None
        given = await people.post(
            client, citizen, "/api/v1/me/consents", {"purpose": "notices", "text_version": PURPOSES["notices"].version}
        )
        assert problem(given) == (409, "processing_restricted")
        await ask(client, citizen, "access")
        assert [item["restricted"] for item in await desk(client, data_officer)] == [True]

    async def test_a_request_to_withdraw_ends_every_consent(
        self, client: AsyncClient, session: AsyncSession, citizen: Caller, data_officer: Caller
    ) -> None:
        assert citizen.person is not None
        for purpose in ("notices", "contact_phone"):
            await operations.give_consent(
                session,
                citizen.person,
                purpose,
                text_version=PURPOSES[purpose].version,
                channel=Channel.WEB,
                now=datetime.now(UTC),
            )
        await session.commit()
        made = (await ask(client, citizen, "withdraw")).json()
        await step(client, data_officer, made["id"], "close", {"outcome": "Đã rút"})
        rows = (await session.scalars(select(Consent).execution_options(populate_existing=True))).all()
        assert [(row.withdrawn_channel, row.withdrawn_at is None) for row in rows] == [(Channel.OFFICE, False)] * 2

    async def test_erasing_is_a_step_of_its_own(
        self, client: AsyncClient, citizen: Caller, data_officer: Caller
    ) -> None:
        erase = (await ask(client, citizen, "erase")).json()
        access = (await ask(client, citizen, "access")).json()
        closed = await step(client, data_officer, erase["id"], "close", {"outcome": "Đã xóa"})
        wrong = await step(client, data_officer, access["id"], "erase")
        assert problem(closed) == (409, "request_needs_erasing")
        assert problem(wrong) == (409, "request_is_no_erasure")

    async def test_erasing_needs_a_recent_sign_in(
        self, client: AsyncClient, citizen: Caller, data_officer: Caller, residents: people.Residents
    ) -> None:
        erase = (await ask(client, citizen, "erase")).json()
        residents.let_in(replace(data_officer, authenticated_at=datetime.now(UTC) - timedelta(minutes=6)))
        late = await step(client, data_officer, erase["id"], "erase")
        assert problem(late) == (401, "insufficient_user_authentication")
        assert 'max_age="300"' in late.headers["WWW-Authenticate"]
        residents.let_in(data_officer)
        assert (await step(client, data_officer, erase["id"], "erase")).status_code == 200

    async def test_each_step_is_in_the_audit_chain_without_a_word_of_anybody(
        self, client: AsyncClient, session: AsyncSession, citizen: Caller, data_officer: Caller
    ) -> None:
        made = (await ask(client, citizen)).json()
        await step(client, data_officer, made["id"], "acknowledge", {})
        await step(client, data_officer, made["id"], "extend", {"days": 3, "reason": "Bí mật"})
        await step(client, data_officer, made["id"], "close", {"outcome": "Bí mật"})
        rows = (
            await session.scalars(
                select(AuditEntry).where(AuditEntry.kind.startswith("request_")).order_by(AuditEntry.seq)
            )
        ).all()
        assert [(row.kind, row.actor) for row in rows] == [
            ("request_received", citizen.id),
            ("request_acknowledged", data_officer.id),
            ("request_extended", data_officer.id),
            ("request_done", data_officer.id),
        ]
        assert {row.subject for row in rows} == {citizen.id}
        assert "Bí mật" not in "".join(row.data for row in rows)

    async def test_it_is_the_data_officers_alone(
        self, client: AsyncClient, session: AsyncSession, citizen: Caller, residents: people.Residents
    ) -> None:
        officer = await people.an_officer(session)
        residents.let_in(officer)
        monitor = await make.a_key(session, role=Role.MONITOR)
        key = await make.a_key(session)
        await session.commit()
        made = (await ask(client, citizen)).json()
        for who in (citizen.id, officer.id, monitor):
            headers = make.auth(who)
            assert (await client.get(DESK, headers=headers)).status_code == 403
            for verb in ("acknowledge", "extend", "close", "refuse", "erase"):
                assert (await client.post(f"{DESK}/{made['id']}/{verb}", headers=headers)).status_code == 403
        assert (await client.get(DESK)).status_code == 401
        # The province's key reaches it too, and what it saw is recorded.
        assert (await client.get(DESK, headers=make.auth(key))).status_code == 200
        assert await session.scalar(select(func.count()).where(DataRead.reader == key.split("_")[1])) == 1

    async def test_what_is_not_there_is_not_found(self, client: AsyncClient, data_officer: Caller) -> None:
        for verb, body in (
            ("acknowledge", {}),
            ("extend", {"days": 1, "reason": "x"}),
            ("close", {"outcome": "x"}),
            ("refuse", {"reason": "x"}),
            ("erase", None),
        ):
            assert (await step(client, data_officer, str(uuid4()), verb, body)).status_code == 404


async def test_two_requests_at_once_leave_one(own_database: str) -> None:
    engine = open_engine(own_database)
    sessions = sessions_of(engine)
    async with sessions.begin() as session:
        caller = await people.a_person(session)
    assert caller.person is not None
    person_id = caller.person

    async def one() -> str:
        try:
            async with sessions.begin() as session:
                await operations.ask(
                    session,
                    people.KEYRING,
                    person_id,
                    kind=RequestKind.ACCESS,
                    details=None,
                    now=datetime.now(UTC),
                )
        except RequestOpen:
            return "open"
        return "made"

    outcomes = await asyncio.gather(*(one() for _ in range(6)))
    await engine.dispose()
    assert sorted(outcomes) == ["made", *["open"] * 5]


class TestKeeping:
    async def test_what_is_older_than_its_time_goes_and_nothing_else(
        self, session: AsyncSession, citizen: Caller
    ) -> None:
        assert citizen.person is not None
        now = datetime.now(UTC)
        for kind, read, age in (
            ("read old", 181, 200),
            ("read", 179, 900),
            ("unread old", None, 731),
            ("unread", None, 729),
        ):
            await tell(session, citizen.person, kind)
            await session.execute(
                update(Notice)
                .where(Notice.kind == kind)
                .values(
                    created_at=now - timedelta(days=age),
                    read_at=None if read is None else now - timedelta(days=read),
                )
            )
        for kind, closed in ((RequestKind.ACCESS, 366), (RequestKind.RECTIFY, 364)):
            made = await operations.ask(
                session, people.KEYRING, citizen.person, kind=kind, details=WORDS, now=now - timedelta(days=380)
            )
            await operations.prolong(session, made.id, actor="x", days=1, reason="Chờ", now=now - timedelta(days=379))
            await operations.refuse(session, made.id, actor="x", reason="Không rõ", now=now - timedelta(days=closed))
        open_one = await operations.ask(
            session, people.KEYRING, citizen.person, kind=RequestKind.OBJECT, details=WORDS, now=now
        )
        before = await session.scalar(select(func.count()).select_from(Notice))

        gone = await operations.keep_no_longer(session, now=now)
        again = await operations.keep_no_longer(session, now=now)

        assert gone == {"read_notices": 1, "unread_notices": 1, "request_details": 1}
        assert set(again.values()) == {0}
        assert await session.scalar(select(func.count()).select_from(Notice)) == (before or 0) - 2
        assert set(gone) == {what for what, kept in RETENTION.items() if kept.task == keep_no_longer_nightly.name}
        rows = {
            row.kind: row
            for row in await session.scalars(select(SubjectRequest).execution_options(populate_existing=True))
        }
        assert rows[RequestKind.ACCESS].details_cipher is None
        assert rows[RequestKind.ACCESS].outcome is None
        assert rows[RequestKind.ACCESS].extension_reason == ""
        assert rows[RequestKind.ACCESS].status is RequestStatus.REFUSED
        assert rows[RequestKind.RECTIFY].details_cipher is not None
        assert rows[RequestKind.RECTIFY].outcome == "Không rõ"
        assert open_one.details_cipher is not None

    async def test_the_task_does_it_nightly(self, own_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DATABASE_URL", own_database)
        monkeypatch.setenv("BKAPP_DEMO", "1")
        engine = open_engine(own_database)
        async with sessions_of(engine).begin() as session:
            caller = await people.a_person(session)
            assert caller.person is not None
            await tell(session, caller.person, "old")
            await session.execute(update(Notice).values(read_at=func.now() - timedelta(days=181)))
        await keep_no_longer_nightly(0)
        async with sessions_of(engine)() as session:
            left = await session.scalar(select(func.count()).select_from(Notice))
        await engine.dispose()
        assert left == 0


class TestCommands:
    @pytest.fixture
    async def there(self, own_database: str, monkeypatch: pytest.MonkeyPatch) -> Caller:
        monkeypatch.setenv("DATABASE_URL", own_database)
        monkeypatch.setenv("BKAPP_DEMO", "1")
        engine = open_engine(own_database)
        async with sessions_of(engine).begin() as session:
            caller = await people.a_person(session)
        await engine.dispose()
        return caller

    @staticmethod
    async def run(*arguments: str) -> tuple[int, str, str]:
        result = await asyncio.to_thread(CliRunner().invoke, main, ["privacy", *arguments])
        return result.exit_code, result.stdout, result.stderr

    async def test_deadlines_are_listed_by_ids_alone(self, there: Caller, own_database: str) -> None:
        assert there.person is not None
        assert await self.run("deadlines") == (0, "", "no request is open\n")
        engine = open_engine(own_database)
        now = datetime.now(UTC)
        async with sessions_of(engine).begin() as session:
            late = await operations.ask(
                session,
                people.KEYRING,
                there.person,
                kind=RequestKind.ACCESS,
                details=WORDS,
                now=now - timedelta(days=60),
            )
            early = await operations.ask(
                session, people.KEYRING, there.person, kind=RequestKind.ERASE, details=WORDS, now=now
            )
        await engine.dispose()

        code, listed, _ = await self.run("deadlines")
        late_code, only_late, _ = await self.run("deadlines", "--overdue")

        lines = listed.splitlines()
        assert (code, late_code) == (0, 1)
        assert [line.split()[0] for line in lines] == ["request", str(late.id), str(early.id)]
        assert "OVERDUE" in lines[1]
        assert "OVERDUE" not in lines[2]
        assert [line.split()[0] for line in only_late.splitlines()] == ["request", str(late.id)]
        assert "Hưng" not in listed
        assert there.id not in listed

    async def test_tables_of_the_law_are_shown(self, there: Caller) -> None:
        code, limits, _ = await self.run("limits")
        assert (code, "91/2025/QH15" in limits) == (0, True)
        code, kept, _ = await self.run("retention")
        assert (code, [what for what in RETENTION if what not in kept]) == (0, [])

    async def test_a_restriction_is_lifted_by_id(self, there: Caller, own_database: str) -> None:
        engine = open_engine(own_database)
        async with sessions_of(engine).begin() as session:
            await session.execute(text("UPDATE person SET restricted_at = now()"))
        assert await self.run("lift-restriction", there.id) == (0, "", "lifted\n")
        async with sessions_of(engine)() as session:
            assert await session.scalar(text("SELECT restricted_at FROM person")) is None
        await engine.dispose()
        assert (await self.run("lift-restriction", str(uuid4())))[0] == 1
        assert (await self.run("lift-restriction", "x"))[0] == 2
