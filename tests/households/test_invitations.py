"""Invitations: made by the head, good once, and worth nothing until an officer has said yes."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from httpx import AsyncClient
from sqlalchemy import func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.models import DataRead
from bkapp.access.operations import Caller, OutsideScope
from bkapp.address.models import Household
from bkapp.address.operations import HouseholdRef
from bkapp.config import Settings
from bkapp.db import Sessions, open_engine, sessions_of
from bkapp.errors import DomainError, NotFound, Unauthenticated
from bkapp.households import operations
from bkapp.households.models import Invitation, Membership
from bkapp.households.operations.deciding import OwnHousehold
from bkapp.households.operations.inviting import (
    AlreadyInHousehold,
    InvitationOver,
    OwnInvitation,
    TooManyInvitations,
    UnknownInvitation,
)
from bkapp.households.operations.showing import NotHead, NotInHousehold
from bkapp.households.rules import (
    INVITATION_LASTS,
    MOST_INVITATIONS,
    MembershipDecided,
    MemberSource,
    MemberStatus,
    Relation,
    hash_of,
    settle_membership,
)
from bkapp.households.tasks import forget_old_invitations_nightly
from bkapp.http import IdempotencyRecord, today
from tests import make
from tests.households import make as people

INVITATIONS = "/api/v1/me/household/invitations"
ACCEPT = "/api/v1/invitations/accept"
OTHER = "02083"


def now() -> datetime:
    return datetime.now(UTC)


async def invited(session: AsyncSession, head: Caller, relation: Relation = Relation.MOTHER) -> str:
    _, token = await operations.invite(session, head, relation=relation, now=now())
    return token


async def took(session: AsyncSession, head: Caller, name: str = "Triệu Thị Mẩy") -> tuple[Caller, Membership]:
    """Somebody who took up an invitation of a head's."""
    person = await people.a_person(session, name)
    return person, await operations.accept(session, person, await invited(session, head), now=now())


@pytest.mark.parametrize("to", MemberStatus)
@pytest.mark.parametrize("before", MemberStatus)
def test_how_a_membership_moves(before: MemberStatus, to: MemberStatus) -> None:
    moves = {
        (MemberStatus.WAITING, MemberStatus.ACTIVE),
        (MemberStatus.WAITING, MemberStatus.REFUSED),
        (MemberStatus.WAITING, MemberStatus.ENDED),
        (MemberStatus.ACTIVE, MemberStatus.ENDED),
    }
    if (before, to) in moves:
        assert settle_membership(before, to) is to
    else:
        with pytest.raises(MembershipDecided):
            settle_membership(before, to)


class TestInviting:
    async def test_the_secret_is_shown_once_and_not_kept(self, session: AsyncSession) -> None:
        head = await people.a_head(session)
        made, token = await operations.invite(session, head, relation=Relation.MOTHER, now=now())
        kept = await session.scalar(text("SELECT to_jsonb(i)::text FROM invitation i"))
        assert (made.relation, made.secret_hash) == ("Mẹ", hash_of(token))
        assert len(token) == 43
        assert token not in str(kept)
        assert made.expires_at - now() < INVITATION_LASTS

    async def test_only_the_head_invites(self, session: AsyncSession) -> None:
        head = await people.a_head(session)
        member = await people.a_person(session, "Hoàng Thị Lan")
        await people.registered(session, member, head=head, relation="Vợ")
        with pytest.raises(NotHead):
            await invited(session, member)
        with pytest.raises(NotInHousehold):
            await invited(session, await people.a_person(session))
        waiting, _ = await took(session, head)
        with pytest.raises(NotInHousehold):
            await invited(session, waiting)

    async def test_ten_may_be_open(self, session: AsyncSession) -> None:
        head = await people.a_head(session)
        tokens = [await invited(session, head) for _ in range(MOST_INVITATIONS)]
        with pytest.raises(TooManyInvitations):
            await invited(session, head)
        first = await session.scalar(select(Invitation.id).where(Invitation.secret_hash == hash_of(tokens[0])))
        assert isinstance(first, UUID)
        await operations.revoke(session, head, first, now=now())
        await invited(session, head)
        await session.execute(update(Invitation).values(expires_at=now() - timedelta(seconds=1)))
        await invited(session, head)

    async def test_revoking(self, session: AsyncSession) -> None:
        head, other = await people.a_head(session), await people.a_head(session, name="Dương Văn Páo")
        made, token = await operations.invite(session, head, relation=Relation.CHILD, now=now())
        for invitation in (made.id, uuid4()):
            with pytest.raises(NotFound):
                await operations.revoke(session, other, invitation, now=now())
        await operations.revoke(session, head, made.id, now=now())
        first = made.revoked_at
        await operations.revoke(session, head, made.id, now=now())
        assert made.revoked_at == first
        with pytest.raises(InvitationOver) as over:
            await operations.accept(session, await people.a_person(session), token, now=now())
        assert over.value.facts == {"reason": "revoked"}

    async def test_old_ones_are_forgotten(self, session: AsyncSession) -> None:
        head = await people.a_head(session)
        await invited(session, head)
        assert await operations.forget_old_invitations(session) == 0
        await session.execute(update(Invitation).values(expires_at=now() - timedelta(days=31)))
        assert await operations.forget_old_invitations(session) == 1


class TestAccepting:
    async def test_who_accepts_waits_and_sees_nothing_yet(self, session: AsyncSession) -> None:
        head = await people.a_head(session)
        person, made = await took(session, head)
        view = await operations.show(session, people.KEYRING, person, today=today(), what="/", request_id="r")
        assert (made.status, made.source, made.relation) == (MemberStatus.WAITING, MemberSource.INVITATION, "Mẹ")
        assert view.membership is not None
        assert (view.members, view.addresses, view.units) == ([], [], [])
        with pytest.raises(NotInHousehold):
            await operations.require_member(session, person)

    async def test_an_invitation_is_good_once_in_time_and_for_others(self, session: AsyncSession) -> None:
        head = await people.a_head(session)
        token = await invited(session, head)
        back = await session.begin_nested()
        with pytest.raises(OwnInvitation):
            await operations.accept(session, head, token, now=now())
        await back.rollback()
        late = await people.a_person(session)
        with pytest.raises(InvitationOver) as expired:
            await operations.accept(session, late, token, now=now() + INVITATION_LASTS)
        with pytest.raises(UnknownInvitation):
            await operations.accept(session, late, token[:-1] + "!", now=now())
        await operations.accept(session, await people.a_person(session), token, now=now())
        with pytest.raises(InvitationOver) as used:
            await operations.accept(session, late, token, now=now())
        assert (expired.value.facts, used.value.facts) == ({"reason": "expired"}, {"reason": "used"})

    async def test_who_is_in_a_household_stays_there(self, session: AsyncSession) -> None:
        head, other = await people.a_head(session), await people.a_head(session, name="Dương Văn Páo")
        waiting, _ = await took(session, head)
        for caller, same in ((other, False), (waiting, True)):
            token = await invited(session, head)
            back = await session.begin_nested()
            with pytest.raises(AlreadyInHousehold) as caught:
                await operations.accept(session, caller, token, now=now())
            await back.rollback()
            assert caught.value.facts == {"same": same}

    async def test_the_register_confirms_or_overrules_an_invitation(self, session: AsyncSession) -> None:
        head, other = await people.a_head(session), await people.a_head(session, name="Dương Văn Páo")
        here, first = await took(session, head)
        there, second = await took(session, head)
        same = await people.registered(session, here, head=head, relation="Mẹ")
        elsewhere = await people.registered(session, there, head=other)
        await session.refresh(second)
        assert (same.id, same.source, same.status) == (first.id, MemberSource.POPULATION, MemberStatus.ACTIVE)
        assert second.status is MemberStatus.ENDED
        assert elsewhere.household_id != first.household_id


class TestDeciding:
    async def test_an_officer_of_the_registered_commune_decides_once(self, session: AsyncSession) -> None:
        head = await people.a_head(session)
        officer, elsewhere = await people.an_officer(session), await people.an_officer(session, OTHER)
        person, made = await took(session, head)
        with pytest.raises(OutsideScope):
            await operations.confirm_member(session, elsewhere, made.id)
        with pytest.raises(NotFound):
            await operations.confirm_member(session, officer, uuid4())
        done = await operations.confirm_member(session, officer, made.id)
        assert (done.status, done.decided_by) == (MemberStatus.ACTIVE, officer.id)
        assert (await operations.require_member(session, person)).id == made.id
        with pytest.raises(MembershipDecided):
            await operations.refuse_member(session, officer, made.id, reason="late")

    async def test_where_the_household_lives_its_officers_decide(self, session: AsyncSession) -> None:
        head = await people.a_head(session)
        own = await operations.require_member(session, head)
        household = await session.get_one(Household, own.household_id)
        await make.an_address(session, unit=OTHER, household=HouseholdRef(household.source, household.source_id))
        _, made = await took(session, head)
        with pytest.raises(OutsideScope):
            await operations.confirm_member(session, await people.an_officer(session), made.id)
        await operations.confirm_member(session, await people.an_officer(session, OTHER), made.id)

    async def test_a_refused_person_may_be_invited_again(self, session: AsyncSession) -> None:
        head = await people.a_head(session)
        person, made = await took(session, head)
        refused = await operations.refuse_member(session, make.ADMIN, made.id, reason="Không ở cùng")
        assert (refused.status, refused.reason) == (MemberStatus.REFUSED, "Không ở cùng")
        await operations.accept(session, person, await invited(session, head), now=now())

    async def test_nobody_decides_about_themselves_or_their_household(self, session: AsyncSession) -> None:
        head, officer = await people.a_head(session), await people.an_officer(session)
        mine = await operations.accept(session, officer, await invited(session, head), now=now())
        with pytest.raises(OwnHousehold):
            await operations.confirm_member(session, officer, mine.id)
        await operations.confirm_member(session, make.ADMIN, mine.id)
        _, next_one = await took(session, head)
        with pytest.raises(OwnHousehold):
            await operations.confirm_member(session, officer, next_one.id)


@pytest.fixture
async def residents() -> people.Residents:
    return people.Residents()


@pytest.fixture
async def client(sessions: Sessions, settings: Settings, residents: people.Residents) -> AsyncIterator[AsyncClient]:
    async with people.served(settings, sessions, residents) as client:
        yield client


class TestOverHttp:
    async def test_invite_accept_confirm(
        self, client: AsyncClient, session: AsyncSession, residents: people.Residents
    ) -> None:
        head, person, officer = (
            await people.a_head(session),
            await people.a_person(session, "Triệu Thị Mẩy"),
            await people.an_officer(session),
        )
        elsewhere = await people.an_officer(session, OTHER)
        residents.let_in(head, person, officer, elsewhere)
        await session.commit()

        made = await people.post(client, head, INVITATIONS, {"relation": "Mẹ"})
        token = made.json()["token"]
        listed = await people.fetch(client, head, INVITATIONS)
        accepted = await people.post(client, person, ACCEPT, {"token": token})
        again = await people.post(client, person, ACCEPT, {"token": token})
        waiting = await people.fetch(client, officer, "/api/v1/memberships")
        others = await people.fetch(client, elsewhere, "/api/v1/memberships")
        path = f"/api/v1/memberships/{accepted.json()['id']}/confirm"
        foreign = await people.post(client, elsewhere, path)
        done = await people.post(client, officer, path)
        own = (await people.fetch(client, person, "/api/v1/me/household")).json()["household"]

        assert (made.status_code, made.headers["cache-control"]) == (201, "no-store")
        assert made.json()["link"] == f"http://bkapp.test/moi/{token}"
        assert [one["id"] for one in listed.json()["invitations"]] == [made.json()["id"]]
        assert token not in listed.text
        assert (accepted.status_code, accepted.json()["status"]) == (201, "waiting")
        assert (again.status_code, again.json()["type"]) == (409, "/problems/invitation_over")
        [row] = waiting.json()["memberships"]
        assert (row["name"], row["relation"], row["code"]) == ("Triệu Thị Mẩy", "Mẹ", None)
        assert others.json()["memberships"] == []
        assert (foreign.status_code, done.status_code, done.json()["status"]) == (403, 200, "active")
        assert (own["status"], own["source"], own["role"]) == ("active", "invitation", "member")
        subjects = set(await session.scalars(select(DataRead.subject).where(DataRead.reader == officer.id)))
        assert subjects == {person.id, f"household:{row['household']}"}
        for kept in await session.scalars(select(IdempotencyRecord)):
            assert token.encode() not in kept.body

    async def test_officers_see_those_of_their_own_commune_alone(
        self, client: AsyncClient, session: AsyncSession, residents: people.Residents
    ) -> None:
        expected: dict[str, set[str]] = {}
        for unit in (make.COMMUNE, OTHER):
            housed, homeless = [await people.a_head(session, unit=unit) for _ in range(2)]
            own = await operations.require_member(session, housed)
            household = await session.get_one(Household, own.household_id)
            await make.an_address(session, unit=unit, household=HouseholdRef(household.source, household.source_id))
            officer = await people.an_officer(session, unit)
            residents.let_in(officer)
            expected[officer.id] = {str((await took(session, head))[1].id) for head in (housed, homeless)}
        await session.commit()
        for officer_id, memberships in expected.items():
            answer = await client.get("/api/v1/memberships", headers=make.auth(officer_id))
            assert {row["id"] for row in answer.json()["memberships"]} == memberships

    @pytest.mark.parametrize("body", [{}, {"relation": "Bạn"}, {"relation": "Mẹ", "name": "x"}, []])
    async def test_bad_invitations(
        self, client: AsyncClient, session: AsyncSession, residents: people.Residents, body: Any
    ) -> None:
        head = await people.a_head(session)
        residents.let_in(head)
        await session.commit()
        assert (await people.post(client, head, INVITATIONS, body)).status_code == 400

    async def test_revoking_over_http(
        self, client: AsyncClient, session: AsyncSession, residents: people.Residents
    ) -> None:
        head = await people.a_head(session)
        residents.let_in(head)
        await session.commit()
        made = (await people.post(client, head, INVITATIONS, {"relation": "Mẹ"})).json()
        gone = await client.delete(f"{INVITATIONS}/{made['id']}", headers=make.auth(head.id))
        unknown = await client.delete(f"{INVITATIONS}/{uuid4()}", headers=make.auth(head.id))
        nonsense = await people.post(client, head, ACCEPT, {"token": "x"})
        long = await people.post(client, head, ACCEPT, {"token": "x" * 101})
        assert (gone.status_code, unknown.status_code) == (204, 404)
        assert (nonsense.status_code, nonsense.json()["type"]) == (404, "/problems/invitation_unknown")
        assert long.status_code == 400


async def test_old_invitations_go_at_night(own_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", own_database)
    monkeypatch.setenv("BKAPP_DEMO", "1")
    engine = open_engine(own_database)
    async with sessions_of(engine).begin() as session:
        await invited(session, await people.a_head(session))
        await session.execute(update(Invitation).values(expires_at=now() - timedelta(days=31)))
    await forget_old_invitations_nightly(0)
    async with sessions_of(engine)() as session:
        assert await session.scalar(select(func.count()).select_from(Invitation)) == 0
    await engine.dispose()


class TestAtOnce:
    async def test_many_accept_one_token_and_one_is_in(self, own_database: str) -> None:
        engine = open_engine(own_database, pool_size=20)
        sessions = sessions_of(engine)
        async with sessions.begin() as session:
            token = await invited(session, await people.a_head(session))
            guests = [await people.a_person(session, f"Lý Văn {number}") for number in range(8)]

        async def accept(guest: Caller, secret: str) -> str:
            try:
                async with sessions.begin() as session:
                    await operations.accept(session, guest, secret, now=now())
            except DomainError as error:
                return error.code
            return "ok"

        told = sorted(await asyncio.gather(*(accept(guest, token) for guest in guests)))
        async with sessions.begin() as session:
            assert told == ["invitation_over"] * 7 + ["ok"]
            assert (
                await session.scalar(
                    select(func.count()).select_from(Membership).where(Membership.source == "invitation")
                )
                == 1
            )
            heads = [await people.a_head(session, name=f"Bàn Văn {number}") for number in range(6)]
            tokens = [await invited(session, head) for head in heads]
            guest = await people.a_person(session, "Vi Văn Thông")

        told = sorted(await asyncio.gather(*(accept(guest, secret) for secret in tokens)))
        async with sessions() as session:
            assert told == ["already_in_household"] * 5 + ["ok"]
            # A refused acceptance uses nothing up.
            assert (
                await session.scalar(select(func.count()).select_from(Invitation).where(Invitation.used_at.is_(None)))
                == 5
            )
        await engine.dispose()

    async def test_a_head_in_a_hurry_has_ten_invitations(self, own_database: str) -> None:
        engine = open_engine(own_database, pool_size=20)
        sessions = sessions_of(engine)
        async with sessions.begin() as session:
            head = await people.a_head(session)

        async def invite() -> str:
            try:
                async with sessions.begin() as session:
                    await invited(session, head)
            except DomainError as error:
                return error.code
            return "ok"

        told = sorted(await asyncio.gather(*(invite() for _ in range(16))))
        assert told == ["ok"] * MOST_INVITATIONS + ["too_many_invitations"] * (16 - MOST_INVITATIONS)
        await engine.dispose()

    async def test_two_officers_decide_about_a_member_at_once(self, own_database: str) -> None:
        engine = open_engine(own_database, pool_size=20)
        sessions = sessions_of(engine)
        async with sessions.begin() as session:
            _, made = await took(session, await people.a_head(session))

        async def decide(*, yes: bool) -> str:
            try:
                async with sessions.begin() as session:
                    if yes:
                        await operations.confirm_member(session, make.ADMIN, made.id)
                    else:
                        await operations.refuse_member(session, make.ADMIN, made.id, reason="no")
            except DomainError as error:
                return error.code
            return "ok"

        told = sorted(await asyncio.gather(*(decide(yes=bool(number % 2)) for number in range(6))))
        assert told == ["membership_decided"] * 5 + ["ok"]
        await engine.dispose()

    async def test_the_register_answers_while_the_person_accepts_or_an_officer_refuses(self, own_database: str) -> None:
        engine = open_engine(own_database, pool_size=20)
        sessions = sessions_of(engine)
        async with sessions.begin() as session:
            host, other = await people.a_head(session), await people.a_head(session, name="Dương Văn Páo")
            guest = await people.a_person(session, "Triệu Thị Mẩy")
            token = await invited(session, host)

        async def answer(head: Caller) -> Membership:
            async with sessions.begin() as session:
                return await people.registered(session, guest, head=head)

        async with sessions.begin() as session:
            accepted = await operations.accept(session, guest, token, now=now())
            told = asyncio.create_task(answer(host))
            await asyncio.sleep(0.3)
        assert (await told).id == accepted.id

        async with sessions.begin() as session:
            again = await session.get_one(Membership, accepted.id)
            again.source, again.status = MemberSource.INVITATION, MemberStatus.WAITING
        async with sessions.begin() as session:
            await operations.refuse_member(session, make.ADMIN, accepted.id, reason="Không ở cùng")
            told = asyncio.create_task(answer(other))
            await asyncio.sleep(0.3)
        assert (await told).id != accepted.id
        async with sessions() as session:
            kept = await session.get_one(Membership, accepted.id)
            assert (kept.status, kept.reason) == (MemberStatus.REFUSED, "Không ở cùng")
        await engine.dispose()

    async def test_who_is_erased_accepts_nothing_any_more(self, session: AsyncSession) -> None:
        token = await invited(session, await people.a_head(session))
        guest = await people.a_person(session)
        await people.erased(session, guest)
        with pytest.raises(Unauthenticated):
            await operations.accept(session, guest, token, now=now())
