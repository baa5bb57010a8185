"""Who lives together: the register is asked, its answer settles, its absence changes nothing."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from httpx import AsyncClient
from litestar import Litestar
from litestar.datastructures import State
from sqlalchemy import func, insert, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from typing_extensions import override

from bkapp.access.models import DataRead
from bkapp.access.operations import Caller
from bkapp.address import operations as addresses
from bkapp.address.models import Household
from bkapp.address.operations import Door, HouseholdRef
from bkapp.config import Settings
from bkapp.db import Sessions
from bkapp.households import flows, operations
from bkapp.households.models import AddressClaim, Invitation, Membership, PopulationQuery
from bkapp.households.providers import Citizen, Mismatch, NotFound, RegisterUnavailable
from bkapp.households.providers.csdldc import PopulationRegister
from bkapp.households.queries import HOMES
from bkapp.households.rules import (
    ANSWER_TAKES,
    ASK_AGAIN_AFTER,
    ASK_ANEW_AFTER,
    ClaimStatus,
    Hindrance,
    MemberRole,
    MemberStatus,
    Outcome,
    Relation,
    is_due,
)
from bkapp.http import today
from bkapp.practice.people import PEOPLE
from bkapp.practice.population import ROUTES, Register
from tests import make
from tests.households import make as people
from tests.practice.peers import running

HOUSEHOLD = "/api/v1/me/household"
NOW = datetime(2026, 3, 12, 8, tzinfo=UTC)


@pytest.mark.parametrize(
    ("last", "ago", "again", "due"),
    [
        (None, None, False, True),
        (None, timedelta(seconds=1), False, True),  # whoever asked went away
        (Outcome.FOUND, ASK_AGAIN_AFTER - timedelta(seconds=1), False, False),
        (Outcome.FOUND, ASK_AGAIN_AFTER, False, True),
        (Outcome.NOT_FOUND, ASK_ANEW_AFTER, False, False),
        (Outcome.MISMATCH, ASK_ANEW_AFTER, True, True),
        (Outcome.FOUND, ASK_ANEW_AFTER - timedelta(seconds=1), True, False),
        (Outcome.UNAVAILABLE, ASK_ANEW_AFTER - timedelta(seconds=1), False, False),
        (Outcome.UNAVAILABLE, ASK_ANEW_AFTER, False, True),
        (Outcome.REFUSED, ASK_ANEW_AFTER, False, True),
    ],
)
def test_when_the_register_is_asked(
    last: Outcome | None,
    ago: timedelta | None,
    again: bool,  # noqa: FBT001
    due: bool,  # noqa: FBT001
) -> None:
    assert is_due(last, NOW - ago if ago is not None else None, now=NOW, again=again) is due


async def asked_about(sessions: Sessions, caller: Caller, register: Any, *, again: bool = False) -> Any:
    return await flows.household_of(
        sessions, register, people.KEYRING, caller, what="/here", request_id="r", again=again
    )


async def citizen_of(session: AsyncSession, caller: Caller, **facts: Any) -> Citizen:
    number = await people.number_of(session, caller)
    said = {
        "number": number,
        "name": (await people.name_of(session, caller)).upper(),
        "birth": people.GROWN,
        "head_number": number,
        "relation": "Chủ hộ",
        "commune_code": make.COMMUNE,
    }
    return Citizen(**{**said, **facts})


async def passes(session: AsyncSession, time: timedelta) -> None:
    await session.execute(
        update(PopulationQuery).values(
            asked_at=PopulationQuery.asked_at - time, answered_at=PopulationQuery.answered_at - time
        )
    )
    await session.commit()


class TestAsking:
    async def test_a_head_gets_a_household_that_nobody_can_read_the_number_from(
        self, sessions: Sessions, session: AsyncSession
    ) -> None:
        head = await people.a_person(session)
        await session.commit()
        register = people.Answers(await citizen_of(session, head))

        view = await asked_about(sessions, head, register)

        number = await people.number_of(session, head)
        kept = (await session.scalars(select(Household))).one()
        question = (await session.scalars(select(PopulationQuery))).one()
        assert (view.membership.role, view.membership.status) == (MemberRole.HEAD, MemberStatus.ACTIVE)
        assert [unit.code for unit in view.units] == [make.COMMUNE]
        assert view.hindrance is None
        assert (kept.source, kept.source_id) == ("csdldc", people.KEYRING.lookup("household", number).hex())
        assert number not in kept.source_id
        assert register.asked[0]["request_id"] == question.request_id
        assert (question.outcome, question.asked_by, question.person_id) == (Outcome.FOUND, head.id, head.person)
        assert question.answered_at is not None
        assert {read.subject for read in await session.scalars(select(DataRead))} == {
            head.id,
            f"household:{kept.id}",
        }

    async def test_the_question_is_written_down_before_it_is_asked_and_no_transaction_is_open(
        self, sessions: Sessions, session: AsyncSession
    ) -> None:
        head = await people.a_person(session)
        await session.commit()
        citizen = await citizen_of(session, head)
        seen: list[Any] = []

        class Watching(people.Answers):
            @override
            async def look_up(self, **question: Any) -> Citizen:
                async with sessions() as other:
                    seen.append((await other.scalars(select(PopulationQuery))).one().outcome)
                return await super().look_up(**question)

        await asked_about(sessions, head, Watching(citizen))
        assert seen == [None]

    async def test_one_answer_stands_for_a_day_and_may_be_asked_for_anew(
        self, sessions: Sessions, session: AsyncSession
    ) -> None:
        head = await people.a_person(session)
        await session.commit()
        register = people.Answers(await citizen_of(session, head))
        for _ in range(3):
            await asked_about(sessions, head, register)
        await asked_about(sessions, head, register, again=True)
        assert len(register.asked) == 1
        await passes(session, ASK_ANEW_AFTER)
        await asked_about(sessions, head, register)
        await asked_about(sessions, head, register, again=True)
        assert len(register.asked) == 2
        await passes(session, ASK_AGAIN_AFTER)
        await asked_about(sessions, head, register)
        assert len(register.asked) == 3
        assert len({question["request_id"] for question in register.asked}) == 3
        assert await session.scalar(select(func.count()).select_from(Membership)) == 1

    @pytest.mark.parametrize(
        ("answer", "refusal", "outcome"),
        [
            (NotFound(), operations.NotRegistered, Outcome.NOT_FOUND),
            (Mismatch(), operations.NameMismatch, Outcome.MISMATCH),
            (RegisterUnavailable("away", reason="no_answer"), RegisterUnavailable, Outcome.UNAVAILABLE),
            (RegisterUnavailable("no", reason="refused"), RegisterUnavailable, Outcome.REFUSED),
        ],
    )
    async def test_without_an_answer_nothing_is_made_but_the_question(
        self, sessions: Sessions, session: AsyncSession, answer: Exception, refusal: type[Exception], outcome: Outcome
    ) -> None:
        person = await people.a_person(session)
        await session.commit()
        register = people.Answers(answer)
        for _ in range(2):
            with pytest.raises(refusal):
                await asked_about(sessions, person, register)
        assert len(register.asked) == 1
        assert (await session.scalars(select(PopulationQuery))).one().outcome is outcome
        for table in (Membership, Household, DataRead):
            assert await session.scalar(select(func.count()).select_from(table)) == 0

    @pytest.mark.parametrize("said", [{"name": "LƯƠNG THỊ BA"}, {"birth": people.GROWN + timedelta(days=1)}])
    async def test_an_answer_with_another_name_or_birthday_is_none(
        self, sessions: Sessions, session: AsyncSession, said: dict[str, Any]
    ) -> None:
        person = await people.a_person(session)
        await session.commit()
        with pytest.raises(operations.NameMismatch):
            await asked_about(sessions, person, people.Answers(await citizen_of(session, person, **said)))
        assert await session.scalar(select(func.count()).select_from(Membership)) == 0

    async def test_who_told_no_birth_date_cannot_be_asked_about(
        self, sessions: Sessions, session: AsyncSession
    ) -> None:
        person = await people.a_person(session, birth=None)
        await session.commit()
        with pytest.raises(operations.BirthUnknown):
            await asked_about(sessions, person, people.Answers(NotFound()))
        assert await session.scalar(select(func.count()).select_from(PopulationQuery)) == 0

    async def test_what_is_known_stands_while_the_register_is_away(
        self, sessions: Sessions, session: AsyncSession
    ) -> None:
        head = await people.a_person(session)
        await session.commit()
        first = await asked_about(sessions, head, people.Answers(await citizen_of(session, head)))
        await passes(session, ASK_AGAIN_AFTER)
        away = people.Answers(RegisterUnavailable("away", reason="no_answer"))
        later = await asked_about(sessions, head, away)
        await asked_about(sessions, head, away)
        assert len(away.asked) == 1
        assert later.membership.household_id == first.membership.household_id
        assert later.register is Outcome.UNAVAILABLE
        assert later.checked_at < first.checked_at  # the day that passed

    async def test_without_a_register_what_is_known_is_shown(self, sessions: Sessions, session: AsyncSession) -> None:
        head = await people.a_head(session)
        stranger = await people.a_person(session)
        await session.commit()
        assert (await asked_about(sessions, head, None)).membership is not None
        with pytest.raises(RegisterUnavailable):
            await asked_about(sessions, stranger, None)

    async def test_somebody_in_no_household_is_told_so(self, sessions: Sessions, session: AsyncSession) -> None:
        person = await people.a_person(session)
        await session.commit()
        nowhere = await citizen_of(session, person, head_number=None, relation=None)
        view = await asked_about(sessions, person, people.Answers(nowhere))
        assert (view.membership, view.register) == (None, Outcome.FOUND)


class TestOnItsWay:
    async def test_while_an_answer_is_on_its_way_nobody_else_asks(
        self, sessions: Sessions, session: AsyncSession
    ) -> None:
        head = await people.a_person(session)
        await session.commit()

        class Slow(people.Answers):
            @override
            async def look_up(self, **question: Any) -> Citizen:
                if not self.asked:
                    for again in (False, True):
                        with pytest.raises(RegisterUnavailable):
                            await asked_about(sessions, head, self, again=again)
                return await super().look_up(**question)

        slow = Slow(await citizen_of(session, head))

        class Gone(people.Answers):
            @override
            async def look_up(self, **question: Any) -> Citizen:
                await super().look_up(**question)
                raise ConnectionResetError  # whoever asked went away

        with pytest.raises(ConnectionResetError):
            await asked_about(sessions, head, gone := Gone(slow.answers[0]))
        with pytest.raises(RegisterUnavailable):
            await asked_about(sessions, head, slow)
        assert (len(gone.asked), len(slow.asked)) == (1, 0)
        await passes(session, ANSWER_TAKES)
        assert (await asked_about(sessions, head, slow)).membership is not None
        assert len(slow.asked) == 1

    async def test_an_answer_about_somebody_who_was_erased_meanwhile_is_not_kept(
        self, sessions: Sessions, session: AsyncSession
    ) -> None:
        head = await people.a_person(session)
        await session.commit()

        class Meanwhile(people.Answers):
            @override
            async def look_up(self, **question: Any) -> Citizen:
                async with sessions.begin() as other:
                    await people.erased(other, head)
                return await super().look_up(**question)

        view = await asked_about(sessions, head, Meanwhile(await citizen_of(session, head)))
        assert view.membership is None
        for table in (Membership, Household):
            assert await session.scalar(select(func.count()).select_from(table)) == 0
        assert (await session.scalars(select(PopulationQuery))).one().outcome is Outcome.FOUND


class TestMoving:
    async def test_the_register_moves_a_person_and_what_they_asked_for_goes(
        self, sessions: Sessions, session: AsyncSession
    ) -> None:
        old = await people.a_head(session)
        other = await people.a_head(session, name="Dương Văn Páo")
        place = await make.a_place(session)
        claim = await operations.claim(
            session, people.KEYRING, old, code=None, pin=operations.Pin(place, Door(), None),
            today=today(),
        )  # fmt: skip
        await operations.invite(session, old, relation=Relation.CHILD, now=datetime.now(UTC))
        before = await operations.require_member(session, old)

        after = await people.registered(session, old, head=other, relation="Con rể")

        await session.refresh(claim)
        gone = await session.get_one(Membership, before.id)
        assert after.household_id == (await operations.require_member(session, other)).household_id
        assert (after.role, after.relation) == (MemberRole.MEMBER, "Con rể")
        assert (gone.status, gone.reason, gone.ended_at is not None) == (MemberStatus.ENDED, "register", True)
        assert claim.status is ClaimStatus.WITHDRAWN
        assert (await session.scalars(select(Invitation))).one().revoked_at is not None
        assert await session.scalar(text("SELECT status FROM dwelling")) == "rejected"

    async def test_leaving_every_household_ends_the_membership(self, sessions: Sessions, session: AsyncSession) -> None:
        head = await people.a_head(session)
        await session.commit()
        await passes(session, ASK_AGAIN_AFTER)
        nowhere = await citizen_of(session, head, head_number=None)
        assert (await asked_about(sessions, head, people.Answers(nowhere))).membership is None

    async def test_the_database_holds_one_household_a_person_and_one_head_a_household(
        self, session: AsyncSession
    ) -> None:
        head = await people.a_head(session)
        own = await operations.require_member(session, head)
        child = await people.a_person(session)
        for wrong in (
            {"person_id": head.person, "role": "member", "status": "waiting"},
            {"person_id": child.person, "role": "head", "status": "active"},
        ):
            back = await session.begin_nested()
            with pytest.raises(IntegrityError):
                await session.execute(
                    insert(Membership).values(household_id=own.household_id, source="invitation", **wrong)
                )
            await back.rollback()


class TestHomes:
    async def homes(self, session: AsyncSession, caller: Caller) -> list[str]:
        found: list[str] = await session.scalar(
            text(f"SELECT {HOMES.format(person='p.id')} FROM person p WHERE p.id = :id"), {"id": caller.person}
        )
        return found

    async def test_a_home_is_current_lived_in_and_of_a_confirmed_member(self, session: AsyncSession) -> None:
        head = await people.a_head(session)
        child = await people.a_person(session, "Nông Minh Anh")
        await people.registered(session, child, head=head)
        own = await operations.require_member(session, head)
        household = await session.get_one(Household, own.household_id)
        ref = HouseholdRef(household.source, household.source_id)
        assert await self.homes(session, head) == []

        made = await make.an_address(session, household=ref, current=False)
        assert await self.homes(session, head) == []
        await addresses.issue(session, make.ADMIN, made.code)
        assert await self.homes(session, head) == await self.homes(session, child) == [made.code]

        waiting = await people.a_person(session, "Triệu Thị Mẩy")
        _, token = await operations.invite(session, head, relation=Relation.MOTHER, now=datetime.now(UTC))
        await operations.accept(session, waiting, token, now=datetime.now(UTC))
        assert await self.homes(session, waiting) == []

        await addresses.move_household(session, make.ADMIN, made.code, to=None, on=None, today=today())
        assert await self.homes(session, head) == []


class TestErasing:
    async def test_an_erased_person_leaves_their_household_and_what_they_asked_for(self, session: AsyncSession) -> None:
        head = await people.a_head(session)
        child = await people.a_person(session, "Nông Minh Anh")
        await people.registered(session, child, head=head)
        place = await make.a_place(session)
        pin = operations.Pin(place, Door(), None)
        claim = await operations.claim(session, people.KEYRING, head, code=None, pin=pin, today=today())
        await operations.invite(session, head, relation=Relation.CHILD, now=datetime.now(UTC))
        household = await session.get_one(Household, claim.household_id)
        key = household.source_id
        assert head.person is not None
        assert child.person is not None

        for _ in range(2):
            await operations.forget_person(session, head.person)

        await session.refresh(claim)
        await session.refresh(household)
        gone = (await session.scalars(select(Membership).where(Membership.person_id == head.person))).one()
        assert (gone.status, gone.relation, gone.unit_code, gone.reason) == (MemberStatus.ENDED, None, None, "erased")
        assert claim.status is ClaimStatus.WITHDRAWN
        assert (await session.scalars(select(Invitation))).one().revoked_at is not None
        assert household.source_id == key  # the child is still found by it
        await operations.forget_person(session, child.person)
        await session.refresh(household)
        assert household.source_id == f"erased-{household.id}"


@pytest.fixture
async def residents() -> people.Residents:
    return people.Residents()


@pytest.fixture
async def practice() -> AsyncIterator[tuple[PopulationRegister, Register]]:
    register = Register(PEOPLE.values(), client="bkapp", secret="practice")
    async with running(Litestar([ROUTES], state=State({"register": register}), openapi_config=None)) as url:
        ours = PopulationRegister(f"{url}/dan-cu", "bkapp", "practice")
        yield ours, register
        await ours.close()


@pytest.fixture
async def client(
    sessions: Sessions,
    settings: Settings,
    residents: people.Residents,
    practice: tuple[PopulationRegister, Register],
) -> AsyncIterator[AsyncClient]:
    async with people.served(settings, sessions, residents, practice[0]) as client:
        yield client


async def resident(session: AsyncSession, residents: people.Residents, handle: str) -> Caller:
    somebody = PEOPLE[handle]
    caller = await people.a_person(session, somebody.name, number=somebody.number, birth=somebody.birth)
    residents.let_in(caller)
    return caller


class TestOverHttp:
    async def test_a_family_sees_its_household_and_each_of_it_no_more_than_is_theirs(
        self, client: AsyncClient, session: AsyncSession, residents: people.Residents
    ) -> None:
        head, wife, child, neighbour = [
            await resident(session, residents, handle) for handle in ("chu-ho", "vo", "con-17", "hang-xom")
        ]
        await session.commit()
        for caller in (wife, child, neighbour):
            assert (await people.fetch(client, caller, HOUSEHOLD)).status_code == 200

        answer = await people.fetch(client, head, HOUSEHOLD)
        wifes = (await people.fetch(client, wife, HOUSEHOLD)).json()["household"]
        childs = (await people.fetch(client, child, HOUSEHOLD)).json()["household"]
        neighbours = (await people.fetch(client, neighbour, HOUSEHOLD)).json()["household"]

        own = answer.json()["household"]
        assert answer.headers["cache-control"] == "no-store"
        assert (answer.json()["stale"], answer.json()["register"]) == (False, "found")
        assert own["id"] == wifes["id"] == childs["id"] != neighbours["id"]
        assert own["units"] == [{"code": "01969", "name": "Xã Phủ Thông"}]
        told = {(member["relation"], member["me"], member["name"]) for member in own["members"]}
        assert told == {("Chủ hộ", True, None), ("Vợ", False, "Hoàng Thị Lan"), ("Con", False, "Nông Minh Anh")}
        assert {member["name"] for member in wifes["members"]} == {None}
        assert (own["can_claim"], wifes["can_claim"], childs["can_claim"]) == (True, True, False)
        assert childs["hindrance"] == Hindrance.MINOR
        for secret in (PEOPLE["chu-ho"].number, PEOPLE["vo"].number):
            assert secret not in answer.text
        reads = {
            (read.reader, read.subject)
            for read in await session.scalars(select(DataRead).where(DataRead.reader == head.id))
        }
        assert reads == {(head.id, subject) for subject in (head.id, f"household:{own['id']}", wife.id, child.id)}

    async def test_who_is_not_in_the_register_is_told_where_to_go(
        self, client: AsyncClient, session: AsyncSession, residents: people.Residents
    ) -> None:
        missing = await resident(session, residents, "khong-co")
        other = await resident(session, residents, "sai-ten")
        await session.commit()
        nobody = await people.fetch(client, missing, HOUSEHOLD)
        mismatch = await people.fetch(client, other, HOUSEHOLD)
        assert (nobody.status_code, nobody.json()["type"]) == (404, "/problems/not_in_population_register")
        assert (mismatch.status_code, mismatch.json()["type"]) == (409, "/problems/population_register_mismatch")
        assert "công an" in nobody.json()["title"]
        assert "công an" in mismatch.json()["title"]
        assert "Huệ" not in mismatch.text

    async def test_an_outage_is_said_and_healed_by_asking_anew(
        self,
        client: AsyncClient,
        session: AsyncSession,
        residents: people.Residents,
        practice: tuple[PopulationRegister, Register],
    ) -> None:
        head = await resident(session, residents, "chu-ho")
        await session.commit()
        practice[1].faults = type(practice[1].faults)(down=True)
        away = await people.fetch(client, head, HOUSEHOLD)
        practice[1].faults = type(practice[1].faults)()
        soon = await people.post(client, head, f"{HOUSEHOLD}/refresh")
        await passes(session, ASK_ANEW_AFTER)
        later = await people.post(client, head, f"{HOUSEHOLD}/refresh")
        assert (away.status_code, away.json()["type"]) == (503, "/problems/population_register_unavailable")
        assert "retry-after" in away.headers
        assert soon.status_code == 503
        assert (later.status_code, later.json()["stale"]) == (200, False)
        practice[1].faults = type(practice[1].faults)(html=True)
        await passes(session, ASK_AGAIN_AFTER)
        old = await people.fetch(client, head, HOUSEHOLD)
        assert (old.status_code, old.json()["stale"], old.json()["register"]) == (200, True, "unavailable")
        assert old.json()["household"] == later.json()["household"]

    async def test_guards(self, client: AsyncClient, session: AsyncSession, residents: people.Residents) -> None:
        head = await resident(session, residents, "chu-ho")
        unsure = await people.a_person(session)
        residents.known[unsure.id] = Caller(
            id=unsure.id, role=unsure.role, unit_ids=frozenset(), person=unsure.person, level=1
        )
        key = await make.a_key(session, unit=make.COMMUNE)
        await session.commit()
        some = UUID(int=1)
        own = [
            ("GET", HOUSEHOLD),
            ("POST", f"{HOUSEHOLD}/refresh"),
            ("GET", f"{HOUSEHOLD}/claims"),
            ("POST", f"{HOUSEHOLD}/claims"),
            ("POST", f"{HOUSEHOLD}/claims/{some}/withdraw"),
            ("GET", f"{HOUSEHOLD}/invitations"),
            ("POST", f"{HOUSEHOLD}/invitations"),
            ("DELETE", f"{HOUSEHOLD}/invitations/{some}"),
            ("POST", f"{HOUSEHOLD}/leave"),
            ("POST", f"{HOUSEHOLD}/members/{some}/end"),
            ("POST", "/api/v1/invitations/accept"),
        ]
        offices = [
            ("GET", "/api/v1/claims"),
            ("POST", f"/api/v1/claims/{some}/confirm"),
            ("POST", f"/api/v1/claims/{some}/refuse"),
            ("GET", "/api/v1/memberships"),
            ("POST", f"/api/v1/memberships/{some}/confirm"),
            ("POST", f"/api/v1/memberships/{some}/refuse"),
            ("POST", f"/api/v1/memberships/{some}/end"),
        ]
        for method, path in own + offices:
            assert (await client.request(method, path)).status_code == 401
        for method, path in own:
            assert (await client.request(method, path, headers=make.auth(unsure.id))).status_code == 403
            assert (await client.request(method, path, headers=make.auth(key))).status_code == 403
        for method, path in offices:
            assert (await client.request(method, path, headers=make.auth(head.id))).status_code == 403


async def test_nothing_of_a_person_is_left_in_the_tables_of_households(session: AsyncSession) -> None:
    head = await people.a_head(session)
    number = await people.number_of(session, head)
    for table in (Membership, PopulationQuery, AddressClaim, Invitation, Household):
        rows = await session.execute(text(f"SELECT to_jsonb(t)::text FROM {table.__tablename__} t"))
        for (row,) in rows:
            assert number not in row
            assert "Hùng" not in row
