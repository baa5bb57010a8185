"""Changes that are recorded late: history stays true, and nobody's past is overwritten by accident."""

from datetime import date, timedelta
from typing import Any

import pytest
from httpx import AsyncClient
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.models import DataRead
from bkapp.address import operations, queries
from bkapp.address.models import Dwelling, DwellingVersion, HouseholdLink
from bkapp.address.operations import Door, Part, Refused
from bkapp.address.operations.placing import HouseholdHasAddress
from bkapp.address.rules import BeforeItBegan, Method, PointSource
from bkapp.errors import Invalid
from bkapp.http import today
from tests import make

ADDRESSES = "/api/v1/addresses"
OLD = date(2021, 5, 1)


def units_of(versions: list[queries.Version]) -> list[tuple[str, date, date | None]]:
    return [(version.unit.name, version.valid_from, version.valid_to) for version in versions]


async def history(session: AsyncSession, code: str) -> list[queries.Version]:
    return await queries.versions(session, code, as_of=None, known_at=None)


async def test_a_verification_recorded_late_does_not_hide_a_later_one(session: AsyncSession) -> None:
    day = today()
    home = await make.an_address(session, since=day - timedelta(days=30))
    late = day - timedelta(days=20)
    for method, on in ((Method.FIELD_VISIT, day), (Method.DOCUMENT, late)):
        await operations.verify(session, make.ADMIN, home.code, method=method, photo=None, on=on, today=day)

    now = await session.get_one(Dwelling, home.code, populate_existing=True)
    told = [(version.verified_on, version.verification_method) for version in await history(session, home.code)]

    assert (now.verified_on, now.verification_method) == (day, Method.FIELD_VISIT)
    assert told == [(None, None), (late, Method.DOCUMENT), (day, Method.FIELD_VISIT)]
    assert now.stated == 2, "neither verification makes a plate outdated"


async def test_parts_of_a_home_divided_long_ago_went_through_the_same_communes(session: AsyncSession) -> None:
    home = await make.an_address(session, unit="01954", since=OLD)

    parts = await operations.split(
        session,
        make.ADMIN,
        home.code,
        parts=[Part(Door(floor="1")), Part(Door(floor="2"))],
        on=date(2022, 1, 1),
        today=today(),
    )

    for part in parts:
        assert units_of(await history(session, part.code)) == [
            ("Xã Vân Tùng", date(2022, 1, 1), date(2023, 4, 10)),
            ("Thị trấn Vân Tùng", date(2023, 4, 10), date(2025, 7, 1)),
            ("Xã Ngân Sơn", date(2025, 7, 1), None),
        ]
    assert units_of(await history(session, home.code))[-1] == ("Xã Ngân Sơn", date(2025, 7, 1), None)


async def test_a_point_corrected_into_another_commune_has_been_in_what_lay_there_then(session: AsyncSession) -> None:
    place = await make.a_place(session, "01954", on=OLD)
    home = await make.an_address(session, unit="01834", since=OLD)

    await operations.correct_point(
        session,
        make.ADMIN,
        home.code,
        point=place,
        unit_code="01954",
        hamlet=None,
        reason="wrong valley",
        since=None,
        today=today(),
    )

    assert units_of(await history(session, home.code)) == [
        ("Xã Vân Tùng", OLD, date(2023, 4, 10)),
        ("Thị trấn Vân Tùng", date(2023, 4, 10), date(2025, 7, 1)),
        ("Xã Ngân Sơn", date(2025, 7, 1), None),
    ]
    found = await queries.summary(session, home.code)
    assert found is not None
    assert found.unit.code == "01954"


async def test_a_correction_within_the_commune_keeps_the_believed_past_without_official_boundaries(
    session: AsyncSession,
) -> None:
    home = await make.an_address(session, unit="01975", since=date(2024, 3, 1))
    here = await queries.point_of(session, home.code)
    better = operations.Point(here.lon, here.lat + 0.0003, PointSource.GPS, 3)

    await operations.correct_point(
        session,
        make.ADMIN,
        home.code,
        point=better,
        unit_code=None,
        hamlet=None,
        reason="measured again",
        since=None,
        today=today(),
    )

    assert [name for name, _, _ in units_of(await history(session, home.code))] == ["Xã Vi Hương", "Xã Phủ Thông"]
    known = await session.scalar(
        select(func.count()).where(DwellingVersion.code == home.code, DwellingVersion.recorded_to.is_not(None))
    )
    assert known == 4, "two versions of the proposal and two of its issue stay readable"


class TestHouseholds:
    async def test_a_home_cannot_have_ended_before_somebody_moved_in(self, session: AsyncSession) -> None:
        day = today()
        home = await make.an_address(session, since=day - timedelta(days=90))
        other = await make.an_address(
            session, north=60, household=await make.a_household(), since=day - timedelta(days=90)
        )
        await operations.move_household(
            session, make.ADMIN, other.code, to=home.code, on=day - timedelta(days=40), today=day
        )
        early = day - timedelta(days=60)

        with pytest.raises(BeforeItBegan):
            await operations.split(
                session,
                make.ADMIN,
                home.code,
                parts=[Part(Door(floor="1"), keeps_household=True), Part(Door(floor="2"))],
                on=early,
                today=day,
            )
        with pytest.raises(BeforeItBegan):
            await operations.retire(session, make.ADMIN, home.code, reason="burnt", on=early, today=day)
        with pytest.raises(BeforeItBegan):
            await operations.retire(session, make.ADMIN, other.code, reason="burnt", on=early, today=day)
        stays = await session.scalar(
            select(func.count()).select_from(HouseholdLink).where(HouseholdLink.recorded_to.is_(None))
        )
        assert stays == 2

    async def test_where_a_household_lives_is_told_only_to_who_is_in_charge_there(
        self, client: AsyncClient, session: AsyncSession
    ) -> None:
        household = await make.a_household()
        made = await make.an_address(session, household=household)
        stranger, officer = await make.a_key(session, unit="02191"), await make.a_key(session, unit=make.COMMUNE)
        await session.commit()

        async def ask(key: str, unit: str) -> dict[str, Any]:
            place = await make.a_place(session, unit, north=70)
            body = {
                "point": {"lon": place.lon, "lat": place.lat},
                "unit": unit,
                "household": {"source": household.source, "id": household.id},
            }
            answer = await make.post(client, key, ADDRESSES, body)
            assert answer.status_code == 409
            told: dict[str, Any] = answer.json()
            return told

        assert "address" not in await ask(stranger, "02191")
        assert (await ask(officer, make.COMMUNE))["address"] == made.code

    async def test_a_household_with_an_address_is_refused_by_name(self, session: AsyncSession) -> None:
        household = await make.a_household()
        await make.an_address(session, household=household)
        with pytest.raises(HouseholdHasAddress):
            await make.an_address(session, household=household, north=50)


class TestDoors:
    async def test_the_door_and_the_hamlet_can_be_put_right(self, client: AsyncClient, session: AsyncSession) -> None:
        key = await make.a_key(session)
        made = await make.an_address(session, door=Door(house_number="1", floor="1"))
        upstairs = await make.an_address(session, door=Door(floor="2"))
        await session.commit()
        await make.post(client, key, f"/api/v1/units/{make.COMMUNE}/hamlets", {"name": "Thôn Nà Ít"})
        url = f"{ADDRESSES}/{made.code}/correct-door"

        same = await make.post(client, key, url, {"door": {"floor": "2"}, "reason": "a slip"})
        right = await make.post(
            client, key, url, {"door": {"house_number": "7"}, "hamlet": "Thôn Nà Ít", "reason": "new number"}
        )

        assert (same.status_code, same.json()["errors"][0]["pointer"]) == (422, "/door")
        assert right.json()["exact"]["house_number"] == "7"
        assert right.json()["exact"]["floor"] is None
        assert right.json()["hamlet"] == "Thôn Nà Ít"
        assert upstairs.code != made.code

    async def test_in_a_tower_every_flat_needs_its_own_door(self, session: AsyncSession) -> None:
        day = today()
        tower = await make.an_address(session)
        await operations.split(
            session,
            make.ADMIN,
            tower.code,
            parts=[Part(Door(door=f"P{number}")) for number in range(260)],
            on=None,
            today=day,
        )
        for number in (0, 130, 259):
            with pytest.raises(Refused):
                await make.an_address(session, door=Door(door=f"p{number}"))
        await make.an_address(session, door=Door(door="P260"))


class TestHamlets:
    async def test_a_renamed_hamlet_takes_its_homes_along_and_the_past_keeps_its_name(
        self, client: AsyncClient, session: AsyncSession
    ) -> None:
        day = today()
        since = day - timedelta(days=30)
        hamlets = f"/api/v1/units/{make.COMMUNE}/hamlets"
        for name in ("Thôn Nà Ít", "Thôn Bản Mới"):
            await operations.open_hamlet(session, make.ADMIN, unit_code=make.COMMUNE, name=name, since=since, today=day)
        home = await make.an_address(session, hamlet="Thôn Nà Ít", since=since)
        key, stranger = await make.a_key(session), await make.a_key(session, unit="02191")
        await session.commit()
        first = (await client.get(hamlets)).json()["hamlets"]
        number = next(row["id"] for row in first if row["name"] == "Thôn Nà Ít")

        foreign = await make.post(client, stranger, f"{hamlets}/{number}/rename", {"name": "Thôn Khác"})
        empty = await make.post(client, key, f"{hamlets}/{number}/rename", {"name": "!!!"})
        renamed = await make.post(
            client,
            key,
            f"{hamlets}/{number}/rename",
            {"name": "Thôn Nà Lẹng", "on": (day - timedelta(days=10)).isoformat()},
        )
        gone = await make.post(client, key, f"{hamlets}/{number}/rename", {"name": "Thôn Khác"})
        merged = await make.post(client, key, f"{hamlets}/{renamed.json()['id']}/rename", {"name": "thon ban moi"})

        assert (foreign.status_code, empty.status_code, gone.status_code) == (403, 422, 404)
        assert merged.json()["name"] == "Thôn Bản Mới"
        assert (await client.get(f"{ADDRESSES}/{home.code}")).json()["hamlet"] == "Thôn Bản Mới"
        told = [
            (version.hamlet, version.valid_from)
            for version in await queries.versions(session, home.code, as_of=None, known_at=None)
        ]
        assert told == [
            ("Thôn Nà Ít", since),
            ("Thôn Nà Lẹng", day - timedelta(days=10)),
            ("Thôn Bản Mới", day),
        ]
        events = await queries.events(session, after=0, limit=10)
        assert [event.kind for event in events][-2:] == ["hamlet_changed", "hamlet_changed"]
        assert events[-1].data["hamlet"]["name"] == "Thôn Bản Mới"


class TestIdentifiers:
    async def test_the_name_of_an_ended_address_is_free_for_what_replaces_it(self, session: AsyncSession) -> None:
        day = today()
        home = await make.an_address(session, since=day - timedelta(days=9))
        name: dict[str, Any] = {"scheme": "dcs10", "value": "2321012345", "today": day}
        await operations.name_otherwise(session, make.ADMIN, home.code, since=day - timedelta(days=8), **name)
        parts = await operations.split(
            session, make.ADMIN, home.code, parts=[Part(Door(floor="1")), Part(Door(floor="2"))], on=None, today=day
        )

        await operations.name_otherwise(session, make.ADMIN, parts[0].code, since=None, **name)

        assert [found.valid_to for found in await queries.names(session, home.code, as_of=None)] == [day]
        assert await queries.names(session, parts[0].code, as_of=None)

    async def test_forms_and_days_of_identifiers_are_checked(self, session: AsyncSession) -> None:
        day = today()
        home = await make.an_address(session, since=day - timedelta(days=9))
        for scheme, value in (("dcs10", "123"), ("bca12", "12345678901x"), ("dcs10", "2321012345\n"), ("local", "ạ")):
            with pytest.raises(Invalid):
                await operations.name_otherwise(
                    session, make.ADMIN, home.code, scheme=scheme, value=value, since=None, today=day
                )
        with pytest.raises(BeforeItBegan):
            await operations.name_otherwise(
                session, make.ADMIN, home.code, scheme="local", value="a", since=date(1, 1, 1), today=day
            )
        await operations.name_otherwise(
            session, make.ADMIN, home.code, scheme="local", value="a", since=None, today=day
        )
        with pytest.raises(Invalid, match="cannot follow"):
            await operations.name_otherwise(
                session, make.ADMIN, home.code, scheme="local", value="b", since=day - timedelta(days=1), today=day
            )


class TestWhatIsTold:
    async def test_the_public_history_has_no_seam_where_something_private_changed(
        self, client: AsyncClient, session: AsyncSession
    ) -> None:
        day = today()
        home = await make.an_address(session, since=day - timedelta(days=30))
        await operations.verify(
            session, make.ADMIN, home.code, method=Method.PHOTO, photo=None, on=day - timedelta(days=9), today=day
        )
        key = await make.a_key(session)
        await session.commit()
        url = f"{ADDRESSES}/{home.code}/history"

        public = (await client.get(url)).json()["versions"]
        exact = (await client.get(url, headers={"Authorization": f"Bearer {key}"})).json()["versions"]

        assert len(public) == 1
        assert len(exact) == 2
        assert exact[1]["verification_method"] == "photo"

    async def test_every_answer_with_exact_data_is_recorded_as_a_read(
        self, client: AsyncClient, session: AsyncSession
    ) -> None:
        home = await make.an_address(session)
        key = await make.a_key(session)
        await session.commit()
        answer = await make.post(client, key, f"{ADDRESSES}/{home.code}/verify", {"method": "photo", "photo": "p/1"})
        reads = (await session.scalars(select(DataRead))).all()
        assert answer.json()["exact"]["verification_photo"] == "p/1"
        assert [(read.subject, read.what) for read in reads] == [(home.code, "/api/v1/addresses/{code}/verify")]

    async def test_an_old_exact_certificate_does_not_tell_the_new_place(
        self, client: AsyncClient, session: AsyncSession
    ) -> None:
        home = await make.an_address(session)
        key = await make.a_key(session)
        await session.commit()
        headers = {"Authorization": f"Bearer {key}"}
        certificate = (await client.get(f"{ADDRESSES}/{home.code}/certificate", headers=headers)).json()
        better = await make.a_place(session, north=200)
        moved = await make.post(
            client,
            key,
            f"{ADDRESSES}/{home.code}/correct-point",
            {"point": {"lon": better.lon, "lat": better.lat}, "reason": "measured again"},
        )

        page = await client.get(f"/c/{home.code}", params={"v": certificate["certificate"]})

        now = moved.json()["exact"]["identifiers"]["plus_code"]
        assert certificate["statement"]["plus_code"] != now
        assert now not in page.text
        assert "đã được đo lại" in page.text

    async def test_a_body_nested_beyond_reading_is_malformed_and_no_bug(self, client: AsyncClient) -> None:
        body = '{"certificate":' + "[" * 50_000 + "]" * 50_000 + "}"
        answer = await client.post(
            "/api/v1/certificates/verify", content=body, headers={"Content-Type": "application/json"}
        )
        assert (answer.status_code, answer.json()["type"]) == (400, "/problems/malformed")

    async def test_an_heirs_plate_stays_good(self, session: AsyncSession) -> None:
        home, heir = await make.an_address(session), await make.an_address(session, north=40)
        proposal = await make.an_address(session, north=80, current=False)
        with pytest.raises(Refused, match="current"):
            await operations.retire(
                session, make.ADMIN, home.code, reason="x", replaced_by=[proposal.code], on=None, today=today()
            )
        before = heir.stated
        await operations.retire(
            session, make.ADMIN, home.code, reason="burnt", replaced_by=[heir.code], on=None, today=today()
        )
        now = await session.get_one(Dwelling, heir.code, populate_existing=True)
        assert (now.stated, now.replaces) == (before, [home.code])


async def test_beliefs_never_overlap_whatever_is_recorded_late(session: AsyncSession) -> None:
    """The referee is an exclusion constraint; this says that no verb runs into it."""
    day = today()
    home = await make.an_address(session, unit="01954", since=OLD)
    await operations.verify(
        session, make.ADMIN, home.code, method=Method.PHOTO, photo=None, on=date(2023, 4, 10), today=day
    )
    for since in (date(2022, 1, 1), date(2023, 4, 9), date(2025, 7, 1), None):
        place = await make.a_place(session, "01954", north=3)
        await operations.correct_point(
            session,
            make.ADMIN,
            home.code,
            point=place,
            unit_code=None,
            hamlet=None,
            reason="again",
            since=since,
            today=day,
        )
    versions = await history(session, home.code)
    assert versions[0].valid_from == OLD
    assert [version.valid_to for version in versions[:-1]] == [version.valid_from for version in versions[1:]]
    current = await session.execute(
        text("""
            SELECT d.unit_id = v.unit_id AND d.status = v.status FROM dwelling d JOIN dwelling_version v USING (code)
            WHERE v.recorded_to IS NULL AND v.valid_to IS NULL AND d.code = :code
        """),
        {"code": home.code},
    )
    assert current.scalar_one() is True
