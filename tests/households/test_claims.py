"""Claims of addresses: who may make one, what the registry says to it, who decides, and once."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from httpx import AsyncClient
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.models import DataRead
from bkapp.access.operations import Caller, OutsideScope
from bkapp.address import codes
from bkapp.address import operations as addresses
from bkapp.address.models import Dwelling, Event, Household, HouseholdLink
from bkapp.address.operations import Door, Point, Refused
from bkapp.address.operations.placing import AddressHasHousehold, HouseholdHasAddress
from bkapp.address.operations.reading import NotIssued, WrongAddressCode
from bkapp.address.rules import PointSource, Status
from bkapp.audit.models import AuditEntry
from bkapp.config import Settings
from bkapp.db import Sessions, open_engine, sessions_of
from bkapp.errors import DomainError, Invalid, NotFound
from bkapp.households import operations, queries
from bkapp.households.models import AddressClaim, Membership
from bkapp.households.operations import Pin
from bkapp.households.operations.claiming import (
    AddressNotCurrent,
    ClaimOvertaken,
    ClaimWaiting,
    RegisteredElsewhere,
    TooYoung,
)
from bkapp.households.operations.deciding import OwnHousehold
from bkapp.households.operations.showing import NotInHousehold
from bkapp.households.rules import ClaimDecided, ClaimStatus, Hindrance, Relation, settle_claim
from bkapp.http import today
from bkapp.identity.models import Person
from tests import make
from tests.households import make as people

CLAIMS = "/api/v1/me/household/claims"
OTHER = "02083"  # Xã Yên Phong


async def claimed(
    session: AsyncSession, caller: Caller, code: str | None = None, point: Point | None = None, **rest: Any
) -> AddressClaim:
    pin = None
    if code is None:
        point = point or await make.a_place(session)
        pin = Pin(point, rest.pop("door", Door()), rest.pop("hamlet", None))
    return await operations.claim(session, people.KEYRING, caller, code=code, pin=pin, today=today())


async def status_of(session: AsyncSession, code: str) -> Status:
    return (await session.get_one(Dwelling, code, populate_existing=True)).status


@pytest.mark.parametrize("now", ClaimStatus)
@pytest.mark.parametrize("to", ClaimStatus)
def test_a_claim_is_decided_once(now: ClaimStatus, to: ClaimStatus) -> None:
    if now is ClaimStatus.WAITING and to is not ClaimStatus.WAITING:
        assert settle_claim(now, to) is to
    else:
        with pytest.raises(ClaimDecided):
            settle_claim(now, to)


class TestClaiming:
    async def test_a_pin_becomes_a_proposed_address_of_the_household_alone(self, session: AsyncSession) -> None:
        head = await people.a_head(session)
        made = await claimed(session, head, door=Door(house_number="14 bis"))

        dwelling = await session.get_one(Dwelling, made.code)
        event = (await session.scalars(select(Event))).one()
        entry = (await session.scalars(select(AuditEntry).where(AuditEntry.kind == "address_claimed"))).one()
        assert (made.status, made.is_new, made.person_id) == (ClaimStatus.WAITING, True, head.person)
        assert (dwelling.status, dwelling.house_number) == (Status.PROPOSED, "14 bis")
        assert await queries.open_address(session, made.household_id) == made.code
        assert (event.kind, event.actor) == ("proposed", head.id)
        assert (entry.actor, entry.subject) == (head.id, str(made.id))
        assert "14 bis" not in entry.data

    async def test_an_empty_address_is_claimed_by_its_code_as_written(self, session: AsyncSession) -> None:
        head = await people.a_head(session)
        there = await make.an_address(session)
        made = await claimed(session, head, f"bk-{there.code[:3]} {there.code[3:6]}.{there.code[6:]}")
        assert (made.code, made.is_new) == (there.code, False)
        assert await queries.open_address(session, made.household_id) is None

    async def test_an_adult_member_may_claim_and_a_minor_may_not(self, session: AsyncSession) -> None:
        head = await people.a_head(session)
        birth = today().replace(year=today().year - 18, day=1)
        grown = await people.a_person(session, "Nông Văn Lâm", birth=birth)
        minor = await people.a_person(session, "Nông Minh Anh", birth=birth + timedelta(days=60))
        untold = await people.a_person(session, "Nông Văn Tý", birth=None)
        for caller in (grown, minor, untold):
            await people.registered(session, caller, head=head)
        for caller in (minor, untold):
            with pytest.raises(TooYoung):
                await claimed(session, caller)
        assert (await claimed(session, grown)).person_id == grown.person

    async def test_who_is_in_no_household_claims_nothing(self, session: AsyncSession) -> None:
        with pytest.raises(NotInHousehold):
            await claimed(session, await people.a_person(session))

    async def test_exactly_one_of_code_and_pin(self, session: AsyncSession) -> None:
        head = await people.a_head(session)
        both = Pin(await make.a_place(session), Door(), None)
        for code, pin in ((None, None), ("482719346", both)):
            with pytest.raises(Invalid):
                await operations.claim(session, people.KEYRING, head, code=code, pin=pin, today=today())

    async def test_one_waiting_claim_and_one_address(self, session: AsyncSession) -> None:
        head = await people.a_head(session)
        officer = await people.an_officer(session)
        made = await claimed(session, head)
        with pytest.raises(ClaimWaiting) as waits:
            await claimed(session, head)
        await operations.confirm_claim(session, officer, made.id, today=today())
        with pytest.raises(HouseholdHasAddress) as housed:
            await claimed(session, head)
        assert waits.value.facts == {"claim": str(made.id)}
        assert housed.value.facts == {"address": made.code}

    async def test_a_pin_in_another_commune_says_where_the_household_is_registered(self, session: AsyncSession) -> None:
        head = await people.a_head(session)
        for code, point in (
            (None, await make.a_place(session, OTHER)),
            ((await make.an_address(session, unit=OTHER)).code, None),
        ):
            with pytest.raises(RegisteredElsewhere) as caught:
                await claimed(session, head, code, point)
            assert caught.value.facts == {"registered": {"code": "01969", "name": "Xã Phủ Thông"}}
        assert await session.scalar(select(func.count()).select_from(Dwelling)) == 1
        with pytest.raises(Refused) as outside:
            await claimed(session, head, point=Point(105.85, 21.03, PointSource.MAP))
        assert outside.value.facts["reasons"] == ["outside_province"]

    @pytest.mark.parametrize("commune", ["00001", "05440"])  # Hà Nội; nobody's
    async def test_a_household_registered_outside_bac_kan_claims_nothing_here(
        self, session: AsyncSession, commune: str
    ) -> None:
        head = await people.a_head(session, unit=commune)
        with pytest.raises(RegisteredElsewhere) as caught:
            await claimed(session, head)
        assert caught.value.facts == {"registered": {"code": commune}}

    async def test_a_code_of_before_the_merger_means_what_took_it_over(self, session: AsyncSession) -> None:
        old = await session.scalar(
            text("""
            SELECT o.code FROM admin_unit o
            JOIN admin_unit_succession s ON s.old_id = o.id JOIN admin_unit n ON n.id = s.new_id
            WHERE n.code = '01969' AND n.valid_to IS NULL AND o.level = 'commune' AND NOT EXISTS (
                SELECT FROM admin_unit u WHERE u.code = o.code AND u.valid_to IS NULL) LIMIT 1""")
        )
        head = await people.a_head(session, unit=old)
        assert (await claimed(session, head)).is_new

    async def test_the_registrys_own_checks_hold_and_tell_nobody_whose_home_is_near(
        self, session: AsyncSession
    ) -> None:
        head = await people.a_head(session)
        there = await make.an_address(session)
        with pytest.raises(Refused) as same_door:
            await claimed(session, head, point=await make.a_place(session, north=2))
        with pytest.raises(Refused) as hamlet:
            await claimed(session, head, point=await make.a_place(session, north=20), hamlet="Bản Không Có")
        assert same_door.value.facts["reasons"] == ["same_door"]
        told = str(same_door.value.facts)
        assert there.code not in told
        assert codes.display(there.code) not in told
        assert " m " not in told
        assert [error.pointer for error in same_door.value.facts["errors"]] == ["/pin"]  # type: ignore[attr-defined]
        assert [error.pointer for error in hamlet.value.facts["errors"]] == ["/pin/hamlet"]  # type: ignore[attr-defined]

    async def test_what_cannot_be_claimed_by_code(self, session: AsyncSession) -> None:
        head = await people.a_head(session)
        lived_in = await make.an_address(session, household=await make.a_household())
        proposed = await make.an_address(session, north=20, current=False)
        retired = await make.an_address(session, north=40)
        await addresses.retire(session, make.ADMIN, retired.code, reason="gone", on=None, today=today())
        with pytest.raises(AddressHasHousehold) as somebody:
            await claimed(session, head, lived_in.code)
        assert somebody.value.facts == {"address": lived_in.code}
        for code in (proposed.code, retired.code):
            with pytest.raises(AddressNotCurrent):
                await claimed(session, head, code)
        with pytest.raises(NotIssued):
            await claimed(session, head, "482719346")
        with pytest.raises(WrongAddressCode):
            await claimed(session, head, "482719347")

    async def test_a_claim_taken_back_rejects_the_proposal_and_may_be_made_again(self, session: AsyncSession) -> None:
        head = await people.a_head(session)
        member = await people.a_person(session, "Nông Văn Lâm")
        await people.registered(session, member, head=head)
        other = await people.a_head(session, name="Dương Văn Páo")
        made = await claimed(session, head)
        for caller in (other, member):
            with pytest.raises(NotFound):
                await operations.withdraw(session, caller, made.id, today=today())
        taken = await operations.withdraw(session, head, made.id, today=today())
        assert (taken.status, taken.decided_by) == (ClaimStatus.WITHDRAWN, head.id)
        assert await status_of(session, made.code) is Status.REJECTED
        with pytest.raises(ClaimDecided):
            await operations.withdraw(session, head, made.id, today=today())
        again = await claimed(session, member)
        await operations.withdraw(session, head, again.id, today=today())  # the head may for everybody


class TestDeciding:
    async def test_confirming_a_new_address_issues_it_and_it_is_everybodys_home_at_once(
        self, session: AsyncSession
    ) -> None:
        head = await people.a_head(session)
        officer = await people.an_officer(session)
        made = await claimed(session, head)
        done = await operations.confirm_claim(session, officer, made.id, today=today())
        homes = await session.scalar(text(f"SELECT {queries.HOMES.format(person=':id')}"), {"id": head.person})
        assert (done.status, done.decided_by, done.decided_at is not None) == (ClaimStatus.CONFIRMED, officer.id, True)
        assert homes == [made.code]
        assert await status_of(session, made.code) is Status.CURRENT
        assert (await session.scalars(select(AuditEntry.kind).order_by(AuditEntry.seq.desc()))).first() == (
            "address_claim_confirmed"
        )

    async def test_confirming_an_old_address_moves_the_household_in(self, session: AsyncSession) -> None:
        head = await people.a_head(session)
        there = await make.an_address(session)
        made = await claimed(session, head, there.code)
        await operations.confirm_claim(session, await people.an_officer(session), made.id, today=today())
        assert await queries.open_address(session, made.household_id) == there.code
        last = (await session.scalars(select(Event).order_by(Event.seq.desc()))).first()
        assert last is not None
        assert (last.kind, last.data["household"]) == ("household_moved_in", str(made.household_id))

    async def test_refusing_rejects_the_proposal_and_keeps_the_officers_words_from_the_feed(
        self, session: AsyncSession
    ) -> None:
        head = await people.a_head(session)
        made = await claimed(session, head)
        refused = await operations.refuse_claim(
            session, await people.an_officer(session), made.id, reason="Nhà của ông Nông Văn Hùng ở thôn khác",
            today=today(),
        )  # fmt: skip
        assert (refused.status, refused.reason) == (ClaimStatus.REFUSED, "Nhà của ông Nông Văn Hùng ở thôn khác")
        assert await status_of(session, made.code) is Status.REJECTED
        assert await queries.open_address(session, made.household_id) is None
        for table in (Event, AuditEntry):
            rows = await session.scalars(text(f"SELECT to_jsonb(t)::text FROM {table.__tablename__} t"))
            assert not any("Hùng" in row for row in rows)
        await claimed(session, head)

    async def test_refusing_an_old_address_leaves_it_as_it_is(self, session: AsyncSession) -> None:
        head = await people.a_head(session)
        there = await make.an_address(session)
        made = await claimed(session, head, there.code)
        await operations.refuse_claim(session, make.ADMIN, made.id, reason="no", today=today())
        assert await status_of(session, there.code) is Status.CURRENT

    async def test_out_of_reach_unknown_own_and_twice(self, session: AsyncSession) -> None:
        head = await people.a_head(session)
        officer, elsewhere = await people.an_officer(session), await people.an_officer(session, OTHER)
        made = await claimed(session, head)
        with pytest.raises(OutsideScope):
            await operations.confirm_claim(session, elsewhere, made.id, today=today())
        with pytest.raises(OutsideScope):
            await operations.refuse_claim(session, elsewhere, made.id, reason="no", today=today())
        with pytest.raises(NotFound):
            await operations.confirm_claim(session, officer, uuid4(), today=today())
        await people.registered(session, officer, head=head, relation="Vợ")
        with pytest.raises(OwnHousehold):
            await operations.confirm_claim(session, officer, made.id, today=today())
        await operations.confirm_claim(session, make.ADMIN, made.id, today=today())
        with pytest.raises(ClaimDecided):
            await operations.refuse_claim(session, make.ADMIN, made.id, reason="no", today=today())

    async def test_two_households_claim_one_empty_home_and_one_gets_it(self, session: AsyncSession) -> None:
        one, two = await people.a_head(session), await people.a_head(session, name="Dương Văn Páo")
        there = await make.an_address(session)
        first, second = [(await claimed(session, head, there.code)).id for head in (one, two)]
        await operations.confirm_claim(session, make.ADMIN, second, today=today())
        back = await session.begin_nested()
        with pytest.raises(AddressHasHousehold):
            await operations.confirm_claim(session, make.ADMIN, first, today=today())
        await back.rollback()
        await operations.refuse_claim(session, make.ADMIN, first, reason="taken", today=today())

    async def test_an_address_decided_in_the_registry_meanwhile(self, session: AsyncSession) -> None:
        one, two, three = [await people.a_head(session, name=name) for name in ("Lý A", "Lý B", "Lý C")]
        issued = await claimed(session, one)
        rejected = await claimed(session, two, point=await make.a_place(session, north=20))
        retired = await make.an_address(session, north=40)
        gone = await claimed(session, three, retired.code)
        await addresses.issue(session, make.ADMIN, issued.code)
        await addresses.reject(session, make.ADMIN, rejected.code, reason="no", today=today())
        await addresses.retire(session, make.ADMIN, retired.code, reason="gone", on=None, today=today())

        with pytest.raises(ClaimOvertaken):
            await operations.withdraw(session, one, issued.id, today=today())
        done = await operations.confirm_claim(session, make.ADMIN, issued.id, today=today())
        assert done.status is ClaimStatus.CONFIRMED
        refused, over = rejected.id, gone.id
        for claim in (refused, over):
            back = await session.begin_nested()
            with pytest.raises(ClaimOvertaken):
                await operations.confirm_claim(session, make.ADMIN, claim, today=today())
            await back.rollback()
        await operations.refuse_claim(session, make.ADMIN, over, reason="gone", today=today())
        await operations.withdraw(session, two, refused, today=today())
        await claimed(session, two, point=await make.a_place(session, north=60))


@pytest.fixture
async def residents() -> people.Residents:
    return people.Residents()


@pytest.fixture
async def client(sessions: Sessions, settings: Settings, residents: people.Residents) -> AsyncIterator[AsyncClient]:
    async with people.served(settings, sessions, residents) as client:
        yield client


class TestOverHttp:
    async def test_a_household_claims_an_officer_confirms_and_both_see_it(
        self, client: AsyncClient, session: AsyncSession, residents: people.Residents
    ) -> None:
        head, officer = await people.a_head(session), await people.an_officer(session)
        elsewhere = await people.an_officer(session, OTHER)
        residents.let_in(head, officer, elsewhere)
        place = await make.a_place(session)
        await session.commit()
        pin = {"lon": place.lon, "lat": place.lat, "source": "gps", "accuracy_m": 5, "door": {"house_number": "14"}}

        made = await people.post(client, head, CLAIMS, {"pin": pin})
        waiting = (await people.fetch(client, head, "/api/v1/me/household")).json()["household"]
        listed = await people.fetch(client, officer, "/api/v1/claims")
        others = await people.fetch(client, elsewhere, "/api/v1/claims")
        claim = made.json()["id"]
        path = f"/api/v1/claims/{claim}/confirm"
        foreign = await people.post(client, elsewhere, path)
        done = await people.post(client, officer, path)
        twice = await people.post(client, officer, path)
        after = (await people.fetch(client, head, "/api/v1/me/household")).json()["household"]
        history = (await people.fetch(client, head, CLAIMS)).json()["claims"]
        decided = (await people.fetch(client, officer, "/api/v1/claims?status=confirmed")).json()["claims"]

        assert (made.status_code, made.json()["status"], made.json()["new"]) == (201, "waiting", True)
        assert waiting["claim"]["id"] == claim
        assert (waiting["hindrance"], waiting["addresses"][0]["status"]) == (Hindrance.CLAIM_WAITING, "proposed")
        [row] = listed.json()["claims"]
        assert (row["claimant"], row["house_number"], row["accuracy_m"]) == ("Nông Văn Hùng", "14", 5)
        assert (row["unit"]["code"], round(row["lon"], 4)) == ("01969", round(place.lon, 4))
        assert others.json() == {"claims": [], "next": None}
        assert (foreign.status_code, foreign.json()["type"]) == (403, "/problems/outside_scope")
        assert (done.status_code, done.json()["status"]) == (200, "confirmed")
        assert (twice.status_code, twice.json()["type"]) == (409, "/problems/claim_decided")
        assert (after["claim"], after["hindrance"]) == (None, Hindrance.HOUSED)
        assert (after["addresses"][0]["status"], after["addresses"][0]["display"]) == ("current", row["display"])
        assert [one["status"] for one in history] == ["confirmed"]
        assert [one["claimant"] for one in decided] == [None]
        reads = [
            (read.subject, read.what)
            for read in await session.scalars(select(DataRead).where(DataRead.reader == officer.id))
        ]
        assert sorted(reads) == sorted(2 * [(head.id, "/api/v1/claims"), (row["code"], "/api/v1/claims")])

    async def test_pages(self, client: AsyncClient, session: AsyncSession, residents: people.Residents) -> None:
        officer = await people.an_officer(session)
        residents.let_in(officer)
        for number in range(5):
            head = await people.a_head(session, name=f"Lý Văn {number}")
            await claimed(session, head, point=await make.a_place(session, north=20 * number))
        await session.commit()
        seen: list[str] = []
        after = ""
        for size in (2, 2, 1):
            page = (await people.fetch(client, officer, f"/api/v1/claims?limit=2{after}")).json()
            assert len(page["claims"]) == size
            seen += [claim["id"] for claim in page["claims"]]
            after = f"&after={page['next']}"
        assert page["next"] is None
        assert len(set(seen)) == 5

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"code": "482719346", "pin": {"lon": 105.9, "lat": 22.2}},
            {"pin": {"lon": 500, "lat": 22.2}},
            {"pin": {"lon": 105.9, "lat": 22.2, "source": "survey"}},
            {"pin": {"lon": 105.9}},
            {"code": ""},
            {"code": "482719346", "household": "mine"},
            [],
        ],
    )
    async def test_bad_bodies(
        self, client: AsyncClient, session: AsyncSession, residents: people.Residents, body: Any
    ) -> None:
        head = await people.a_head(session)
        residents.let_in(head)
        await session.commit()
        answer = await people.post(client, head, CLAIMS, body)
        assert answer.status_code in {400, 422}
        assert answer.headers["content-type"] == "application/problem+json"

    async def test_refusals_have_their_reasons(
        self, client: AsyncClient, session: AsyncSession, residents: people.Residents
    ) -> None:
        head, officer = await people.a_head(session), await people.an_officer(session)
        residents.let_in(head, officer)
        elsewhere = await make.a_place(session, OTHER)
        place = await make.a_place(session)
        await session.commit()
        away = await people.post(client, head, CLAIMS, {"pin": {"lon": elsewhere.lon, "lat": elsewhere.lat}})
        made = await people.post(client, head, CLAIMS, {"pin": {"lon": place.lon, "lat": place.lat}})
        path = f"/api/v1/claims/{made.json()['id']}/refuse"
        silent = await people.post(client, officer, path, {"reason": ""})
        blank = await people.post(client, officer, path, {"reason": " \u200b\x00 "})
        refused = await people.post(client, officer, path, {"reason": "Không đúng vị trí"})
        own = (await people.fetch(client, head, CLAIMS)).json()["claims"]
        unknown = await people.post(client, head, f"{CLAIMS}/{uuid4()}/withdraw")
        assert (away.status_code, away.json()["type"]) == (422, "/problems/household_registered_elsewhere")
        assert away.json()["registered"]["name"] == "Xã Phủ Thông"
        assert (silent.status_code, blank.status_code, refused.status_code) == (400, 422, 200)
        assert own[0]["reason"] == "Không đúng vị trí"
        assert unknown.status_code == 404


async def outcomes(*works: Any) -> list[str]:
    """What came of works that ran at once: ok, or the code of the refusal."""

    async def one(work: Any) -> str:
        try:
            await work
        except DomainError as error:
            return error.code
        return "ok"

    return sorted(await asyncio.gather(*(one(work) for work in works)))


class TestAtOnce:
    async def test_a_household_that_claims_many_times_at_once_has_one_claim(self, own_database: str) -> None:
        engine = open_engine(own_database, pool_size=20)
        sessions = sessions_of(engine)
        async with sessions.begin() as session:
            head = await people.a_head(session)
            member = await people.a_person(session, "Nông Văn Lâm")
            await people.registered(session, member, head=head)
            places = [await make.a_place(session, north=20 * number) for number in range(8)]

        async def claim(caller: Caller, place: Point) -> None:
            async with sessions.begin() as session:
                await claimed(session, caller, point=place)

        told = await outcomes(*(claim(head if n % 2 else member, place) for n, place in enumerate(places)))
        async with sessions() as session:
            assert told == ["claim_waiting"] * 7 + ["ok"]
            for table in (AddressClaim, Dwelling, HouseholdLink, Event):
                assert await session.scalar(select(func.count()).select_from(table)) == 1
        await engine.dispose()

    async def test_two_officers_and_the_household_decide_at_once_and_one_wins(self, own_database: str) -> None:
        engine = open_engine(own_database, pool_size=20)
        sessions = sessions_of(engine)
        async with sessions.begin() as session:
            head = await people.a_head(session)
            one, two = await people.an_officer(session), await people.an_officer(session)
            made = await claimed(session, head)

        async def confirm(caller: Caller) -> None:
            async with sessions.begin() as session:
                await operations.confirm_claim(session, caller, made.id, today=today())

        async def refuse(caller: Caller) -> None:
            async with sessions.begin() as session:
                await operations.refuse_claim(session, caller, made.id, reason="no", today=today())

        async def withdraw() -> None:
            async with sessions.begin() as session:
                await operations.withdraw(session, head, made.id, today=today())

        told = await outcomes(confirm(one), confirm(two), refuse(one), refuse(two), withdraw())
        async with sessions() as session:
            assert told == ["claim_decided"] * 4 + ["ok"]
            claim = await session.get_one(AddressClaim, made.id)
            ends = {
                ClaimStatus.CONFIRMED: Status.CURRENT,
                ClaimStatus.REFUSED: Status.REJECTED,
                ClaimStatus.WITHDRAWN: Status.REJECTED,
            }
            assert await status_of(session, made.code) is ends[claim.status]
            assert await session.scalar(select(func.count()).select_from(Event)) == 2
        await engine.dispose()

    async def test_two_households_get_one_empty_home_at_once_and_one_lives_there(self, own_database: str) -> None:
        engine = open_engine(own_database, pool_size=20)
        sessions = sessions_of(engine)
        async with sessions.begin() as session:
            there = await make.an_address(session)
            claims = [
                await claimed(session, await people.a_head(session, name=f"Lý Văn {number}"), there.code)
                for number in range(4)
            ]

        async def confirm(claim: AddressClaim) -> None:
            async with sessions.begin() as session:
                await operations.confirm_claim(session, make.ADMIN, claim.id, today=today())

        told = await outcomes(*(confirm(claim) for claim in claims))
        async with sessions() as session:
            assert told == ["address_has_household"] * 3 + ["ok"]
            assert await session.scalar(select(func.count()).select_from(HouseholdLink)) == 1
        await engine.dispose()

    async def test_erasing_waits_for_a_claim_or_the_claim_for_it_and_neither_for_ever(self, own_database: str) -> None:
        engine = open_engine(own_database, pool_size=20)
        sessions = sessions_of(engine)
        async with sessions.begin() as session:
            head = await people.a_head(session)
            there = await make.an_address(session)

        async def claim() -> None:
            async with sessions.begin() as session:
                await claimed(session, head, there.code)

        async def invite() -> None:
            async with sessions.begin() as session:
                await operations.invite(session, head, relation=Relation.CHILD, now=datetime.now(UTC))

        async with sessions.begin() as session:
            await session.execute(select(Person.id).where(Person.id == head.person).with_for_update())
            told = asyncio.create_task(outcomes(claim(), invite()))
            await asyncio.sleep(0.3)
            await people.erased(session, head)
        assert await told == ["not_in_household"] * 2
        await engine.dispose()

    async def test_two_answers_about_one_person_make_one_membership(self, own_database: str) -> None:
        engine = open_engine(own_database, pool_size=20)
        sessions = sessions_of(engine)
        async with sessions.begin() as session:
            person = await people.a_person(session)

        async def answer() -> None:
            async with sessions.begin() as session:
                await people.registered(session, person)

        assert await outcomes(*(answer() for _ in range(6))) == ["ok"] * 6
        async with sessions() as session:
            for table in (Membership, Household):
                assert await session.scalar(select(func.count()).select_from(table)) == 1
        await engine.dispose()
