"""Who read my data: all of it, only mine, in words, along the index."""

import math
import re
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from httpx import AsyncClient
from msgspec.structs import replace
from sqlalchemy import insert, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access import operations as access
from bkapp.access.models import DataRead
from bkapp.access.operations import Caller
from bkapp.access.rules import Role
from bkapp.address.models import HouseholdLink
from bkapp.address.operations import HouseholdRef
from bkapp.households.models import Membership
from bkapp.households.operations.leaving import SOURCE
from bkapp.households.rules import MemberRole, MemberSource, MemberStatus
from bkapp.identity.models import RoleGrant
from bkapp.privacy import queries
from bkapp.privacy.rules import HANOI, MYSELF, RELATIVE, SOMEBODY
from bkapp.units import queries as units
from tests import make
from tests.households import make as people

NOW = datetime(2026, 6, 10, 10, tzinfo=HANOI)
WHAT = "/api/v1/addresses/{code:str}"


async def a_read(
    session: AsyncSession, subject: str, *, at: datetime = NOW, reader: str = "key", what: str = WHAT
) -> None:
    await session.execute(
        insert(DataRead).values(read_at=at, reader=reader, subject=subject, what=what, request_id="r")
    )


async def lives_at(
    session: AsyncSession, caller: Caller, since: date, until: date | None = None, *, north: float = 0
) -> str:
    """The household of a caller lives at a new address for some time."""
    number = await people.number_of(session, caller)
    ref = HouseholdRef(SOURCE, people.KEYRING.lookup("household", number).hex())
    made = await make.an_address(session, household=ref, since=since, north=north)
    if until is not None:
        await session.execute(update(HouseholdLink).where(HouseholdLink.code == made.code).values(valid_to=until))
    return made.code


async def seen(session: AsyncSession, caller: Caller, **paging: Any) -> list[queries.Read]:
    assert caller.person is not None
    return await queries.reads(session, caller.person, **{"limit": 100, **paging})


def at(day: str) -> datetime:
    return datetime.fromisoformat(day).replace(tzinfo=HANOI)


class TestWhatCounts:
    async def test_the_person_the_household_and_its_addresses_while_they_lived_there(
        self, session: AsyncSession, citizen: Caller
    ) -> None:
        before = {read.id for read in await seen(session, citizen)}
        household = (await people.registered(session, citizen)).household_id
        old = await lives_at(session, citizen, date(2025, 9, 1), date(2026, 3, 1))
        home = await lives_at(session, citizen, date(2026, 3, 1), north=100)
        other = (await make.an_address(session, north=500)).code
        mine = [
            (citizen.id, "2026-06-01T08:00"),
            (f"household:{household}", "2026-06-01T09:00"),
            (home, "2026-06-01T10:00"),
            (home, "2026-03-01T00:00"),  # the first moment there, in Bắc Kạn
            (old, "2026-02-28T23:59:59"),
            (old, "2025-09-01T00:00"),
        ]
        foreign = [
            (old, "2026-03-01T00:00"),
            (old, "2025-08-31T23:59:59"),
            (home, "2026-02-28T23:59:59"),
            (other, "2026-06-01T10:00"),
            (str(uuid4()), "2026-06-01T10:00"),
            (f"household:{uuid4()}", "2026-06-01T10:00"),
            ("address-events", "2026-06-01T10:00"),
        ]
        for subject, when in [*mine, *foreign]:
            await a_read(session, subject, at=at(when))

        found = [read for read in await seen(session, citizen) if read.id not in before and read.at < at("2026-06-02")]

        assert [read.at for read in found] == sorted((at(when) for _, when in mine), reverse=True)
        assert {read.about for read in found} == {"person", "household", old, home}

    async def test_officers_who_saw_the_home_on_the_map_are_told(
        self, client: AsyncClient, session: AsyncSession, citizen: Caller
    ) -> None:
        home = await lives_at(session, citizen, date(2026, 6, 1))
        point = text("SELECT ST_X(point::geometry), ST_Y(point::geometry) FROM dwelling WHERE code = :code")
        lon, lat = (await session.execute(point, {"code": home})).one()
        key = await make.a_key(session, unit=make.COMMUNE)
        await session.commit()
        document = (await client.get("/tiles/addresses.json")).json()
        version = document["tiles"][0].split("/")[-4]
        for z in (14, 17, 20):
            x = int((lon + 180) / 360 * (1 << z))
            y = int((1 - math.asinh(math.tan(math.radians(lat))) / math.pi) / 2 * (1 << z))
            for column in (x, x + 1):
                path = f"/tiles/addresses/{version}/{z}/{column}/{y}.mvt"
                answer = await client.get(path, headers=make.auth(key))
                assert answer.status_code == 200, answer.text
        found = [read for read in await seen(session, citizen) if read.what == "Xem bản đồ địa chỉ"]
        assert [read.about for read in found] == [home] * 3
        assert {read.who for read in found} == {"test"}

    async def test_nothing_after_they_left_the_household(self, session: AsyncSession, citizen: Caller) -> None:
        household = (await people.registered(session, citizen)).household_id
        home = await lives_at(session, citizen, date(2025, 9, 1))
        await session.execute(
            update(Membership)
            .where(Membership.person_id == citizen.person)
            .values(status=MemberStatus.ENDED, ended_at=at("2026-05-01T12:00"), created_at=at("2026-01-01"))
        )
        for when in ("2026-05-01T11:59", "2026-05-01T12:00", "2026-05-02"):
            await a_read(session, home, at=at(when), reader="x")
            await a_read(session, f"household:{household}", at=at(when), reader="x")
        found = [read.at for read in await seen(session, citizen) if read.who == "Người dùng khác"]
        assert found == [at("2026-05-01T11:59")] * 2

    @pytest.mark.parametrize(
        ("status", "decided", "count"),
        [
            (MemberStatus.WAITING, None, 0),
            (MemberStatus.REFUSED, "2026-04-01", 0),
            (MemberStatus.ENDED, None, 0),
            (MemberStatus.ACTIVE, "2026-04-01", 1),
        ],
    )
    async def test_who_was_invited_sees_what_was_read_since_an_officer_agreed(
        self, session: AsyncSession, citizen: Caller, status: MemberStatus, decided: str | None, count: int
    ) -> None:
        household = (await people.registered(session, citizen)).household_id
        guest = await people.a_person(session, "Bàn Văn Tá")
        ended = at("2026-07-01") if status is MemberStatus.ENDED else None
        session.add(
            Membership(
                household_id=household,
                person_id=guest.person,
                role=MemberRole.MEMBER,
                source=MemberSource.INVITATION,
                status=status,
                created_at=at("2026-03-01"),
                decided_at=at(decided) if decided else None,
                ended_at=ended,
            )
        )
        await session.flush()
        await a_read(session, f"household:{household}", at=at("2026-03-15"))
        await a_read(session, f"household:{household}", at=at("2026-04-15"))
        assert len(await seen(session, guest)) == count

    async def test_a_read_is_told_once_however_the_register_was_corrected(
        self, session: AsyncSession, citizen: Caller
    ) -> None:
        household = (await people.registered(session, citizen)).household_id
        home = await lives_at(session, citizen, date(2025, 9, 1))
        # What was believed once, and the same household under a membership of before.
        session.add(
            HouseholdLink(
                code=home,
                household_id=household,
                valid_from=date(2025, 9, 1),
                recorded_from=at("2025-09-01"),
                recorded_to=at("2025-09-02"),
            )
        )
        session.add(
            Membership(
                household_id=household,
                person_id=citizen.person,
                role=MemberRole.MEMBER,
                source=MemberSource.POPULATION,
                status=MemberStatus.ENDED,
                created_at=at("2026-01-01"),
                ended_at=at("2026-08-01"),
            )
        )
        await session.flush()
        await a_read(session, home, reader="x")
        assert len([read for read in await seen(session, citizen) if read.about == home]) == 1


class TestWho:
    async def test_offices_are_named_and_their_officers_are_not(self, session: AsyncSession, citizen: Caller) -> None:
        household = (await people.registered(session, citizen)).household_id
        unit = await units.unit_on(session, make.COMMUNE, date(2026, 6, 1))
        assert unit is not None
        label = "Bộ phận một cửa xã Phủ Thông"
        key = (await access.make_key(session, label=label, role=Role.OFFICER, unit_id=unit.id)).split("_")[1]
        blank = (await access.make_key(session, label=" ", role=Role.MONITOR, unit_id=None)).split("_")[1]
        officer = await people.a_person(session, "Hoàng Thị Cán")
        admin = await people.a_person(session, "Ma Thị Lan")
        relative = await people.a_person(session, "Nông Thị Mai")
        await people.registered(session, relative, head=citizen)
        stranger = await people.a_person(session, "Lý Văn Xa")
        for person, role, unit_id, ended in (
            (officer, Role.OFFICER, unit.id, None),
            (admin, Role.ADMIN, None, NOW + timedelta(days=1)),
        ):
            session.add(
                RoleGrant(
                    person_id=person.person,
                    role=role,
                    unit_id=unit_id,
                    granted_by="test",
                    granted_at=NOW - timedelta(days=1),
                    ended_at=ended,
                )
            )
        await session.execute(
            update(Membership).where(Membership.household_id == household).values(created_at=NOW - timedelta(days=9))
        )
        readers = [key, blank, officer.id, admin.id, citizen.id, relative.id, stranger.id, "task"]
        for place, reader in enumerate(readers):
            await a_read(session, citizen.id, at=NOW + timedelta(minutes=place), reader=reader)
        # After the office ended its holder is anybody.
        await a_read(session, citizen.id, at=NOW + timedelta(days=2), reader=admin.id)

        found = [read for read in reversed(await seen(session, citizen)) if NOW <= read.at <= NOW + timedelta(days=2)]

        assert [read.who for read in found] == [
            label,
            "Giám sát hệ thống của tỉnh",
            "Cán bộ Xã Phủ Thông",
            "Cán bộ quản lý dữ liệu của tỉnh",
            MYSELF,
            RELATIVE,
            SOMEBODY,
            SOMEBODY,
            SOMEBODY,
        ]

    async def test_the_answer_names_nobody(
        self, client: AsyncClient, session: AsyncSession, citizen: Caller, residents: people.Residents
    ) -> None:
        officer = await people.an_officer(session)
        residents.let_in(officer)
        home = await lives_at(session, citizen, date(2026, 6, 1))
        await session.commit()
        assert (await people.fetch(client, officer, f"/api/v1/addresses/{home}")).status_code == 200

        answer = await people.fetch(client, citizen, "/api/v1/me/reads")

        newest = answer.json()["items"][0]
        assert (newest["about"], newest["what"]) == (home, "Xem chi tiết địa chỉ")
        assert set(newest) == {"at", "who", "what", "about"}
        assert "Hoàng Thị Cán" not in answer.text
        assert officer.id not in answer.text
        assert not re.search(r"\b\d{12}\b", answer.text)
        assert answer.headers["cache-control"] == "no-store"


class TestPages:
    async def test_they_go_on_where_the_last_one_ended(
        self, client: AsyncClient, session: AsyncSession, citizen: Caller
    ) -> None:
        for place in range(25):  # some at the same moment
            await a_read(session, citizen.id, at=NOW + timedelta(minutes=place // 4), reader="x", what=f"w{place}")
        await session.commit()
        whole = (await people.fetch(client, citizen, "/api/v1/me/reads?limit=500")).json()
        pages: list[Any] = []
        path = "/api/v1/me/reads?limit=7"
        while True:
            page = (await people.fetch(client, citizen, path)).json()
            pages += page["items"]
            if page["next"] is None:
                break
            path = f"/api/v1/me/reads?limit=7&before={page['next']}"
        assert pages == whole["items"]
        assert whole["next"] is None
        times = [item["at"] for item in pages]
        assert times == sorted(times, reverse=True)

    @pytest.mark.parametrize("query", ["limit=0", "limit=501", "before=0", "before=x", "before=99999999999999999999"])
    async def test_paging_that_cannot_be_read_is_refused(
        self, client: AsyncClient, citizen: Caller, query: str
    ) -> None:
        assert (await people.fetch(client, citizen, f"/api/v1/me/reads?{query}")).status_code == 400

    async def test_a_page_after_nothing_is_empty_or_a_page(self, client: AsyncClient, citizen: Caller) -> None:
        answer = await people.fetch(client, citizen, "/api/v1/me/reads?before=8000000000000000")
        assert answer.status_code == 200

    async def test_they_are_for_who_was_verified_well_enough(
        self, client: AsyncClient, citizen: Caller, residents: people.Residents
    ) -> None:
        residents.let_in(replace(citizen, level=1))
        answer = await people.fetch(client, citizen, "/api/v1/me/reads")
        assert (answer.status_code, answer.json()["type"]) == (403, "/problems/assurance_too_low")

    async def test_each_subject_is_read_along_its_index(self, session: AsyncSession, citizen: Caller) -> None:
        await lives_at(session, citizen, date(2026, 1, 1))
        await session.execute(
            text("""
            INSERT INTO data_read (read_at, reader, subject, what, request_id)
            SELECT now() - n * interval '1 minute', 'x', 'other' || n % 500, 'w', 'r' FROM generate_series(1, 40000) n
        """)
        )
        await session.execute(text("ANALYZE data_read"))
        values = {"person": citizen.id, "limit": 50, "at": datetime.now(UTC), "before": 0}
        plan = "\n".join(await session.scalars(text(f"EXPLAIN {queries._READS}"), values))
        assert "Seq Scan on data_read" not in plan
        assert "ix_data_read_subject_read_at" in plan
