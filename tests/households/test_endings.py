"""How a membership ends: by the person, the head or an officer, and for the view of the home by the register's age."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from httpx import AsyncClient
from sqlalchemy import select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.operations import Caller, OutsideScope
from bkapp.address.models import Household
from bkapp.address.operations import Door, HouseholdRef
from bkapp.audit.models import AuditEntry
from bkapp.config import Settings
from bkapp.db import Sessions, open_engine, sessions_of
from bkapp.errors import DomainError, Invalid, NotFound
from bkapp.households import flows, operations
from bkapp.households.models import AddressClaim, Membership
from bkapp.households.operations import ResidenceDecides
from bkapp.households.operations.deciding import OwnHousehold
from bkapp.households.operations.showing import NotHead, NotInHousehold
from bkapp.households.providers import Citizen
from bkapp.households.queries import HOMES
from bkapp.households.rules import (
    REGISTER_STANDS,
    ClaimStatus,
    MembershipDecided,
    MemberSource,
    MemberStatus,
    Relation,
    opens_home,
)
from bkapp.http import today
from bkapp.identity.models import Notice
from tests import make
from tests.households import make as people

LEAVE = "/api/v1/me/household/leave"
OTHER = "02083"
NOW = datetime(2026, 3, 12, 8, tzinfo=UTC)


async def waiting(session: AsyncSession, head: Caller, name: str = "Triệu Thị Mẩy") -> tuple[Caller, Membership]:
    """Somebody who took up an invitation of a head's."""
    person = await people.a_person(session, name)
    now = datetime.now(UTC)
    _, token = await operations.invite(session, head, relation=Relation.OTHER, now=now)
    return person, await operations.accept(session, person, token, now=now)


async def member(session: AsyncSession, head: Caller, name: str = "Triệu Thị Mẩy") -> tuple[Caller, Membership]:
    """The same, and an officer has agreed."""
    person, made = await waiting(session, head, name)
    return person, await operations.confirm_member(session, make.ADMIN, made.id)


async def housed(session: AsyncSession, head: Caller) -> str:
    """The code where the head's household lives."""
    own = await operations.require_member(session, head)
    household = await session.get_one(Household, own.household_id)
    return (await make.an_address(session, household=HouseholdRef(household.source, household.source_id))).code


async def homes(session: AsyncSession, caller: Caller) -> list[str]:
    """Where a person sees the exact home."""
    found: list[str] = await session.scalar(text(f"SELECT {HOMES.format(person=':id')}"), {"id": caller.person})
    return found


async def notices(session: AsyncSession, caller: Caller) -> list[tuple[str, dict[str, str]]]:
    found = await session.scalars(select(Notice).where(Notice.person_id == caller.person))
    return [(notice.kind, notice.data) for notice in found]


async def last_entry(session: AsyncSession) -> tuple[str, str, str]:
    entry = (await session.scalars(select(AuditEntry).order_by(AuditEntry.seq.desc()).limit(1))).one()
    return entry.kind, entry.actor, entry.subject


class TestLeaving:
    async def test_who_was_invited_leaves_and_sees_the_home_no_more(self, session: AsyncSession) -> None:
        head = await people.a_head(session)
        code = await housed(session, head)
        person, made = await member(session, head)
        decided = made.decided_at
        assert await homes(session, person) == [code]

        left = await operations.leave_own(session, person, today=today())

        assert await homes(session, person) == []
        assert (left.id, left.status, left.reason) == (made.id, MemberStatus.ENDED, "left")
        assert left.ended_at is not None
        assert left.decided_at == decided
        assert await last_entry(session) == ("membership_ended", person.id, person.id)
        assert await notices(session, person) == []
        with pytest.raises(NotInHousehold):
            await operations.leave_own(session, person, today=today())
        assert await homes(session, head) == [code]

    async def test_who_waits_takes_it_back_and_may_be_invited_again(self, session: AsyncSession) -> None:
        head = await people.a_head(session)
        person, made = await waiting(session, head)
        left = await operations.leave_own(session, person, today=today())
        assert (left.id, left.status, left.decided_at) == (made.id, MemberStatus.ENDED, None)
        with pytest.raises(MembershipDecided):
            await operations.confirm_member(session, make.ADMIN, made.id)
        _, token = await operations.invite(session, head, relation=Relation.OTHER, now=datetime.now(UTC))
        again = await operations.accept(session, person, token, now=datetime.now(UTC))
        assert again.status is MemberStatus.WAITING

    async def test_what_they_asked_for_in_its_name_goes_with_them(self, session: AsyncSession) -> None:
        head = await people.a_head(session)
        person, _ = await member(session, head)
        pin = operations.Pin(await make.a_place(session), Door(), None)
        await operations.claim(session, people.KEYRING, person, code=None, pin=pin, today=today())
        await operations.leave_own(session, person, today=today())
        assert (await session.scalars(select(AddressClaim.status))).one() is ClaimStatus.WITHDRAWN

    async def test_whom_the_register_has_there_stays(self, session: AsyncSession) -> None:
        head = await people.a_head(session)
        child = await people.a_person(session, "Nông Minh Anh")
        await people.registered(session, child, head=head)
        for caller in (head, child):
            with pytest.raises(ResidenceDecides):
                await operations.leave_own(session, caller, today=today())
        # Who was invited first and is registered there since, too.
        person, _ = await member(session, head)
        await people.registered(session, person, head=head)
        with pytest.raises(ResidenceDecides):
            await operations.leave_own(session, person, today=today())


class TestDismissing:
    @pytest.mark.parametrize("confirmed", [True, False])
    async def test_the_head_ends_who_was_invited_and_they_are_told(
        self, session: AsyncSession, *, confirmed: bool
    ) -> None:
        head = await people.a_head(session)
        code = await housed(session, head)
        person, made = await (member if confirmed else waiting)(session, head)
        assert await homes(session, person) == ([code] if confirmed else [])

        ended = await operations.dismiss(session, head, made.id, today=today())

        assert await homes(session, person) == []
        assert (ended.status, ended.reason) == (MemberStatus.ENDED, "dismissed")
        assert await notices(session, person) == [
            ("membership_ended", {"household": str(made.household_id), "by": "head"})
        ]
        assert await last_entry(session) == ("membership_ended", head.id, person.id)
        with pytest.raises(MembershipDecided):
            await operations.dismiss(session, head, made.id, today=today())

    async def test_neither_themselves_nor_whom_the_register_has_there(self, session: AsyncSession) -> None:
        head = await people.a_head(session)
        child = await people.a_person(session, "Nông Minh Anh")
        theirs = await people.registered(session, child, head=head)
        own = await operations.require_member(session, head)
        for membership in (own, theirs):
            with pytest.raises(ResidenceDecides):
                await operations.dismiss(session, head, membership.id, today=today())

    async def test_members_of_others_are_none(self, session: AsyncSession) -> None:
        head, other = await people.a_head(session), await people.a_head(session, name="Dương Văn Páo")
        _, made = await member(session, head)
        for membership_id in (made.id, uuid4()):
            with pytest.raises(NotFound):
                await operations.dismiss(session, other, membership_id, today=today())
        assert made.status is MemberStatus.ACTIVE

    async def test_only_the_head_does_it(self, session: AsyncSession) -> None:
        head = await people.a_head(session)
        person, made = await member(session, head)
        child = await people.a_person(session, "Nông Minh Anh")
        await people.registered(session, child, head=head)
        for caller in (child, person):
            with pytest.raises(NotHead):
                await operations.dismiss(session, caller, made.id, today=today())
        with pytest.raises(NotInHousehold):
            await operations.dismiss(session, await people.a_person(session), made.id, today=today())

    async def test_the_head_is_told_whom_they_may_end(self, session: AsyncSession) -> None:
        head = await people.a_head(session)
        child = await people.a_person(session, "Nông Minh Anh")
        await people.registered(session, child, head=head)
        person, made = await member(session, head)

        async def shown(caller: Caller) -> set[UUID]:
            view = await operations.show(session, people.KEYRING, caller, today=today(), what="/", request_id="r")
            return {row.id for row in view.members if row.can_end}

        assert await shown(head) == {made.id}
        assert await shown(child) == await shown(person) == set()


class TestOfficers:
    async def test_an_officer_of_the_commune_ends_it_with_a_reason(self, session: AsyncSession) -> None:
        head = await people.a_head(session)
        code = await housed(session, head)
        officer, elsewhere = await people.an_officer(session), await people.an_officer(session, OTHER)
        person, made = await member(session, head)
        with pytest.raises(OutsideScope):
            await operations.end_member(session, elsewhere, made.id, reason="Không ở cùng", today=today())
        with pytest.raises(NotFound):
            await operations.end_member(session, officer, uuid4(), reason="Không ở cùng", today=today())
        with pytest.raises(Invalid):
            await operations.end_member(session, officer, made.id, reason="\u200b\u200b", today=today())
        assert await homes(session, person) == [code]

        ended = await operations.end_member(session, officer, made.id, reason=" Không  ở cùng", today=today())

        assert (ended.status, ended.reason) == (MemberStatus.ENDED, "Không ở cùng")
        assert await homes(session, person) == []
        assert await notices(session, person) == [
            ("membership_ended", {"household": str(made.household_id), "by": "officer"})
        ]
        assert await last_entry(session) == ("membership_ended", officer.id, person.id)

    async def test_not_whom_the_register_has_there_nor_in_ones_own_household(self, session: AsyncSession) -> None:
        head, officer = await people.a_head(session), await people.an_officer(session)
        own = await operations.require_member(session, head)
        with pytest.raises(ResidenceDecides):
            await operations.end_member(session, officer, own.id, reason="Không ở cùng", today=today())
        await people.registered(session, officer, head=head)
        _, made = await member(session, head)
        with pytest.raises(OwnHousehold):
            await operations.end_member(session, officer, made.id, reason="Không ở cùng", today=today())


async def aged(session: AsyncSession, age: timedelta) -> None:
    """The register said what it said that long ago."""
    await session.execute(
        text("UPDATE population_query SET asked_at = asked_at - :age, answered_at = answered_at - :age"), {"age": age}
    )
    await session.execute(update(Membership).values(checked_at=Membership.checked_at - age))
    await session.commit()


class TestFreshness:
    @pytest.mark.parametrize(
        ("source", "age", "opens"),
        [
            (MemberSource.POPULATION, timedelta(), True),
            (MemberSource.POPULATION, REGISTER_STANDS, True),
            (MemberSource.POPULATION, REGISTER_STANDS + timedelta(seconds=1), False),
            (MemberSource.POPULATION, None, False),
            (MemberSource.INVITATION, None, True),
        ],
    )
    def test_how_long_the_word_of_the_register_opens_the_home(
        self, source: MemberSource, age: timedelta | None, *, opens: bool
    ) -> None:
        assert opens_home(source, None if age is None else NOW - age, now=NOW) is opens

    async def test_a_stale_one_shows_no_exact_home_until_the_register_says_so_again(
        self, sessions: Sessions, session: AsyncSession
    ) -> None:
        head = await people.a_head(session)
        code = await housed(session, head)
        guest, _ = await member(session, head)
        number = await people.number_of(session, head)
        citizen = Citizen(
            number=number,
            name=await people.name_of(session, head),
            birth=people.GROWN,
            head_number=number,
            relation="Chủ hộ",
            commune_code=make.COMMUNE,
        )
        await aged(session, REGISTER_STANDS - timedelta(minutes=1))
        assert await homes(session, head) == [code]
        await aged(session, timedelta(minutes=2))
        assert await homes(session, head) == []
        assert await homes(session, guest) == [code]  # ended by people, not by the register

        register = people.Answers(citizen)
        await flows.household_of(sessions, register, people.KEYRING, head, what="/", request_id="r")

        assert len(register.asked) == 1
        assert await homes(session, head) == [code]


@pytest.fixture
async def residents() -> people.Residents:
    return people.Residents()


@pytest.fixture
async def client(sessions: Sessions, settings: Settings, residents: people.Residents) -> AsyncIterator[AsyncClient]:
    async with people.served(settings, sessions, residents) as client:
        yield client


class TestOverHttp:
    async def test_each_way_out(self, client: AsyncClient, session: AsyncSession, residents: people.Residents) -> None:
        head, officer = await people.a_head(session), await people.an_officer(session)
        first, _ = await member(session, head, "Triệu Thị Mẩy")
        second, dismissed = await member(session, head, "Lý Văn Ba")
        third, ended = await member(session, head, "Vi Văn Thông")
        residents.let_in(head, officer, first, second, third)
        await session.commit()

        left = await people.post(client, first, LEAVE)
        again = await people.post(client, first, LEAVE)
        registered = await people.post(client, head, LEAVE)
        gone = await people.post(client, head, f"/api/v1/me/household/members/{dismissed.id}/end")
        without = await people.post(client, officer, f"/api/v1/memberships/{ended.id}/end", {})
        decided = await people.post(
            client, officer, f"/api/v1/memberships/{ended.id}/end", {"reason": "Đã chuyển đi nơi khác"}
        )
        told = await session.scalars(select(Notice.person_id))

        assert (left.status_code, left.json()["status"]) == (200, "ended")
        assert (again.status_code, again.json()["type"]) == (409, "/problems/not_in_household")
        assert (registered.status_code, registered.json()["type"]) == (409, "/problems/residence_register_decides")
        assert (gone.status_code, gone.json()) == (
            200,
            {"id": str(dismissed.id), "household": str(dismissed.household_id), "status": "ended"},
        )
        assert without.status_code == 400
        assert (decided.status_code, decided.json()["status"]) == (200, "ended")
        assert set(told) == {second.person, third.person}
        members = (await people.fetch(client, head, "/api/v1/me/household")).json()["household"]["members"]
        assert [(one["me"], one["can_end"]) for one in members] == [(True, False)]


class TestAtOnce:
    async def test_head_officer_and_person_end_it_once(self, own_database: str) -> None:
        engine = open_engine(own_database, pool_size=20)
        sessions = sessions_of(engine)
        async with sessions.begin() as session:
            head = await people.a_head(session)
            person, made = await member(session, head)

        async def end(way: int) -> str:
            try:
                async with sessions.begin() as session:
                    match way % 3:
                        case 0:
                            await operations.leave_own(session, person, today=today())
                        case 1:
                            await operations.dismiss(session, head, made.id, today=today())
                        case _:
                            await operations.end_member(session, make.ADMIN, made.id, reason="Đã đi", today=today())
            except DomainError as error:
                return error.code
            return "ok"

        told = await asyncio.gather(*(end(way) for way in range(9)))
        async with sessions() as session:
            entries = await session.scalars(select(AuditEntry).where(AuditEntry.kind == "membership_ended"))
            assert len(entries.all()) == 1
        assert sorted(set(told) - {"not_in_household"}) == ["membership_decided", "ok"]
        assert told.count("ok") == 1
        await engine.dispose()
