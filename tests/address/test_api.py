"""The address API, end to end: HTTP in, PostGIS underneath."""

from datetime import date, timedelta
from typing import Any

import msgspec
import pytest
from httpx import ASGITransport, AsyncClient
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.models import DataRead
from bkapp.access.queries import RECORD_READS
from bkapp.access.rules import Role
from bkapp.address import codes, queries
from bkapp.address.models import Dwelling, Event
from bkapp.address.operations import Door
from bkapp.app import create_app
from bkapp.config import Settings
from bkapp.db import Lookups, open_engine, readers_of, sessions_of
from bkapp.edge import Edge
from bkapp.http import today
from tests import make

ADDRESSES = "/api/v1/addresses"


async def proposal(session: AsyncSession, **changes: Any) -> dict[str, Any]:
    place = await make.a_place(session, north=changes.pop("north", 0))
    body = {"point": {"lon": place.lon, "lat": place.lat, "source": "gps"}, "unit": make.COMMUNE}
    return {**body, **changes}


class TestPropose:
    async def test_an_officer_proposes_and_issues_and_anybody_checks(
        self, client: AsyncClient, session: AsyncSession
    ) -> None:
        key = await make.a_key(session, unit=make.COMMUNE)
        await session.commit()
        body = await proposal(session, household={"source": "so-ho", "id": "1"}, door={"house_number": "14"})

        proposed = await make.post(client, key, ADDRESSES, body)
        code = proposed.json()["code"]
        issued = await make.post(client, key, f"{ADDRESSES}/{code}/issue")
        public = await client.get(f"{ADDRESSES}/{code}")

        assert (proposed.status_code, proposed.json()["status"]) == (201, "proposed")
        assert (issued.status_code, issued.json()["status"]) == (200, "current")
        assert codes.parse(code) == code
        assert public.json()["unit"]["code"] == make.COMMUNE
        assert public.json()["unit"]["boundary"] == "approximate"
        assert "exact" not in public.json()
        assert proposed.json()["exact"]["house_number"] == "14"
        assert proposed.json()["exact"]["identifiers"]["plus_code"]

    async def test_every_form_of_a_code_resolves(self, client: AsyncClient, session: AsyncSession) -> None:
        made = await make.an_address(session)
        await session.commit()
        code = made.code

        for form in (
            code,
            codes.display(code),
            f"bk-{code[:3]}-{code[3:6]}-{code[6:]}",
            f"{code[:3]}.{code[3:6]}.{code[6:]}",
        ):
            assert (await client.get(f"{ADDRESSES}/{form}")).json()["code"] == code

    async def test_a_wrong_code_is_never_corrected_but_asked_about(
        self, client: AsyncClient, session: AsyncSession
    ) -> None:
        made = await make.an_address(session)
        await session.commit()
        wrong = made.code[:-1] + str((int(made.code[-1]) + 1) % 10)

        answer = await client.get(f"{ADDRESSES}/{wrong}")

        assert answer.status_code == 422
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["type"] == "/problems/address_code_wrong"
        assert [found["code"] for found in answer.json()["suggestions"]] == [made.code]
        assert set(answer.json()["suggestions"][0]) == {"code", "display", "unit"}

    async def test_a_near_miss_that_nobody_has_is_not_suggested(self, client: AsyncClient) -> None:
        answer = await client.get(f"{ADDRESSES}/482719347")
        assert (answer.status_code, answer.json()["suggestions"]) == (422, [])

    async def test_a_code_that_was_never_issued_is_not_found(self, client: AsyncClient) -> None:
        answer = await client.get(f"{ADDRESSES}/482719346")
        assert (answer.status_code, answer.json()["type"]) == (404, "/problems/address_not_issued")

    async def test_a_point_in_another_commune_is_refused_with_the_reason(
        self, client: AsyncClient, session: AsyncSession
    ) -> None:
        key = await make.a_key(session)
        await session.commit()
        elsewhere = await make.a_place(session, "02191")

        answer = await make.post(
            client, key, ADDRESSES, await proposal(session, point={"lon": elsewhere.lon, "lat": elsewhere.lat})
        )

        assert (answer.status_code, answer.json()["type"]) == (422, "/problems/address_refused")
        assert "02191" in answer.json()["errors"][0]["detail"]
        assert answer.json()["errors"][0]["pointer"] == "/point"
        assert answer.json()["reasons"] == ["outside_commune"]

    async def test_a_point_outside_the_province_is_refused(self, client: AsyncClient, session: AsyncSession) -> None:
        key = await make.a_key(session)
        await session.commit()
        answer = await make.post(client, key, ADDRESSES, await proposal(session, point={"lon": 105.85, "lat": 21.03}))
        assert answer.json()["reasons"] == ["outside_province"]

    async def test_a_second_home_at_the_same_door_needs_something_to_tell_it_apart(
        self, client: AsyncClient, session: AsyncSession
    ) -> None:
        key = await make.a_key(session)
        await make.an_address(session)
        await session.commit()

        same = await make.post(client, key, ADDRESSES, await proposal(session, north=2.5))
        upstairs = await make.post(client, key, ADDRESSES, await proposal(session, north=2.5, door={"floor": "2"}))
        next_door = await make.post(client, key, ADDRESSES, await proposal(session, north=3.6))

        assert (same.status_code, same.json()["reasons"]) == (422, ["same_door"])
        assert upstairs.status_code == 201
        assert next_door.status_code == 201

    async def test_a_household_has_one_address(self, client: AsyncClient, session: AsyncSession) -> None:
        key = await make.a_key(session)
        household = await make.a_household()
        made = await make.an_address(session, household=household)
        await session.commit()

        answer = await make.post(
            client,
            key,
            ADDRESSES,
            await proposal(session, north=50, household={"source": household.source, "id": household.id}),
        )

        assert (answer.status_code, answer.json()["type"]) == (409, "/problems/household_has_address")
        assert answer.json()["address"] == made.code
        assert await session.scalar(select(func.count()).select_from(Dwelling)) == 1

    async def test_an_officer_of_elsewhere_is_refused(self, client: AsyncClient, session: AsyncSession) -> None:
        key = await make.a_key(session, unit="02191")
        await session.commit()
        answer = await make.post(client, key, ADDRESSES, await proposal(session))
        assert (answer.status_code, answer.json()["type"]) == (403, "/problems/outside_scope")

    async def test_a_key_for_a_commune_of_before_the_merger_works_in_its_successor(
        self, client: AsyncClient, session: AsyncSession
    ) -> None:
        # Vi Hương (01975) went into Phủ Thông (01969) on 2025-07-01.
        key = await make.a_key(session, unit="01975", on=date(2025, 6, 30))
        await session.commit()
        assert (await make.post(client, key, ADDRESSES, await proposal(session))).status_code == 201

    async def test_unknown_fields_and_wrong_types_point_to_the_field(
        self, client: AsyncClient, session: AsyncSession
    ) -> None:
        key = await make.a_key(session)
        await session.commit()

        unknown = await make.post(client, key, ADDRESSES, await proposal(session, colour="red"))
        wrong = await make.post(client, key, ADDRESSES, await proposal(session, point={"lon": "x", "lat": 22}))
        missing = await make.post(client, key, ADDRESSES, {})
        garbage = await client.post(
            ADDRESSES, content=b"{", headers={**make.auth(key), "Content-Type": "application/json"}
        )

        for answer in (unknown, wrong, missing, garbage):
            assert (answer.status_code, answer.json()["type"]) == (400, "/problems/malformed")
            assert answer.headers["content-type"] == "application/problem+json"
        assert wrong.json()["errors"][0]["pointer"] == "/point/lon"

    async def test_a_hamlet_that_is_unknown_is_refused_with_those_that_come_near(
        self, client: AsyncClient, session: AsyncSession
    ) -> None:
        key = await make.a_key(session)
        await session.commit()
        opened = await make.post(client, key, f"/api/v1/units/{make.COMMUNE}/hamlets", {"name": "Thôn Nà Ít"})
        twice = await make.post(client, key, f"/api/v1/units/{make.COMMUNE}/hamlets", {"name": "thôn nà ít"})

        wrong = await make.post(client, key, ADDRESSES, await proposal(session, hamlet="Thôn Nà Lít"))
        right = await make.post(client, key, ADDRESSES, await proposal(session, hamlet="Thon Na It"))

        assert (opened.status_code, twice.status_code) == (201, 409)
        assert "Thôn Nà Ít" in wrong.json()["errors"][0]["detail"]
        assert right.json()["hamlet"] == "Thôn Nà Ít"

    async def test_neighbours_codes_differ_in_five_digits(self, session: AsyncSession) -> None:
        made = [(await make.an_address(session, north=20 * n)).code for n in range(12)]
        likeness = [codes.agreement(a, b) for a in made for b in made if a < b]
        assert max(likeness) <= 4


class TestLookingAfter:
    async def test_verifying_is_recorded_with_method_and_officer(
        self, client: AsyncClient, session: AsyncSession
    ) -> None:
        key = await make.a_key(session)
        made = await make.an_address(session)
        await session.commit()

        answer = await make.post(
            client, key, f"{ADDRESSES}/{made.code}/verify", {"method": "field_visit", "photo": "photos/1"}
        )

        assert answer.json()["exact"]["verified_on"] == today().isoformat()
        assert answer.json()["exact"]["verification_method"] == "field_visit"

    async def test_correcting_the_point_keeps_the_code_and_the_old_belief(
        self, client: AsyncClient, session: AsyncSession
    ) -> None:
        key = await make.a_key(session)
        made = await make.an_address(session, since=today() - timedelta(days=30))
        await session.commit()
        before = (await queries.point_of(session, made.code)).lat
        known = await session.scalar(select(func.clock_timestamp()))
        assert known is not None
        better = await make.a_place(session, north=40)

        answer = await make.post(
            client,
            key,
            f"{ADDRESSES}/{made.code}/correct-point",
            {"point": {"lon": better.lon, "lat": better.lat}, "reason": "measured again"},
        )

        assert answer.status_code == 200
        assert answer.json()["code"] == made.code
        url = f"{ADDRESSES}/{made.code}/history"
        headers = {"Authorization": f"Bearer {key}"}
        now = (await client.get(url, headers=headers)).json()["versions"]
        then = (await client.get(url, headers=headers, params={"known_at": known.isoformat()})).json()["versions"]
        assert [round(version["lat"], 6) for version in now] == [round(better.lat, 6)]
        assert [round(version["lat"], 6) for version in then] == [round(before, 6)]

    async def test_a_correction_into_another_commune_must_name_it(
        self, client: AsyncClient, session: AsyncSession
    ) -> None:
        key = await make.a_key(session)
        made = await make.an_address(session)
        await session.commit()
        there = await make.a_place(session, "02191")
        body = {"point": {"lon": there.lon, "lat": there.lat}, "reason": "wrong valley"}

        slip = await make.post(client, key, f"{ADDRESSES}/{made.code}/correct-point", body)
        meant = await make.post(client, key, f"{ADDRESSES}/{made.code}/correct-point", {**body, "unit": "02191"})

        assert slip.status_code == 422
        assert meant.json()["unit"]["code"] == "02191"

    async def test_a_household_moves_and_both_codes_stay_with_their_houses(
        self, client: AsyncClient, session: AsyncSession
    ) -> None:
        key = await make.a_key(session)
        home = await make.an_address(session, household=await make.a_household())
        other = await make.an_address(session, north=60)
        await session.commit()

        answer = await make.post(client, key, f"{ADDRESSES}/{home.code}/move", {"to": codes.display(other.code)})
        again = await make.post(client, key, f"{ADDRESSES}/{home.code}/move", {"to": other.code})

        left, entered = answer.json()["addresses"]
        assert left["exact"]["household"] is None
        assert entered["exact"]["household"] is not None
        assert (again.status_code, again.json()["type"]) == (409, "/problems/address_has_no_household")

    async def test_another_registers_number_belongs_to_one_address(
        self, client: AsyncClient, session: AsyncSession
    ) -> None:
        key = await make.a_key(session)
        one, two = await make.an_address(session), await make.an_address(session, north=30)
        await session.commit()
        body = {"scheme": "dcs10", "value": "2321012345"}

        first = await make.post(client, key, f"{ADDRESSES}/{one.code}/identifiers", body)
        second = await make.post(client, key, f"{ADDRESSES}/{two.code}/identifiers", body)

        assert first.json()["exact"]["identifiers"]["dcs10"] == "2321012345"
        assert (second.status_code, second.json()["type"]) == (409, "/problems/identifier_taken")


class TestEnding:
    async def test_a_split_home_ends_and_its_parts_replace_it(self, client: AsyncClient, session: AsyncSession) -> None:
        key = await make.a_key(session)
        made = await make.an_address(session, household=await make.a_household())
        await session.commit()

        answer = await make.post(
            client,
            key,
            f"{ADDRESSES}/{made.code}/split",
            {"parts": [{"door": {"floor": "1"}, "keeps_household": True}, {"door": {"floor": "2"}}]},
        )

        assert answer.status_code == 201
        parts = answer.json()["addresses"]
        old = (await client.get(f"{ADDRESSES}/{made.code}")).json()
        assert old["status"] == "retired"
        assert old["replaced_by"] == [part["code"] for part in parts]
        assert all(part["replaces"] == [made.code] for part in parts)
        assert [part["exact"]["household"] is not None for part in parts] == [True, False]

    async def test_parts_that_nothing_tells_apart_are_refused_and_nothing_is_written(
        self, client: AsyncClient, session: AsyncSession
    ) -> None:
        key = await make.a_key(session)
        made = await make.an_address(session)
        await session.commit()
        events = await session.scalar(select(func.count()).select_from(Event))

        answer = await make.post(client, key, f"{ADDRESSES}/{made.code}/split", {"parts": [{"door": {}}, {"door": {}}]})

        assert answer.json()["reasons"] == ["same_door"]
        assert (await client.get(f"{ADDRESSES}/{made.code}")).json()["status"] == "current"
        assert await session.scalar(select(func.count()).select_from(Event)) == events

    async def test_merging_inhabited_homes_asks_whose_household_stays(
        self, client: AsyncClient, session: AsyncSession
    ) -> None:
        key = await make.a_key(session)
        one = await make.an_address(session, household=await make.a_household(), door=Door(door="1"))
        two = await make.an_address(session, household=await make.a_household(), door=Door(door="2"))
        await session.commit()

        asked = await make.post(client, key, f"{ADDRESSES}/{one.code}/merge", {"with": [two.code]})
        answer = await make.post(
            client, key, f"{ADDRESSES}/{one.code}/merge", {"with": [two.code], "household_of": two.code}
        )

        assert asked.status_code == 422
        assert answer.status_code == 201
        assert sorted(answer.json()["replaces"]) == sorted([one.code, two.code])
        assert answer.json()["exact"]["household"] is not None
        for code in (one.code, two.code):
            assert (await client.get(f"{ADDRESSES}/{code}")).json()["replaced_by"] == [answer.json()["code"]]

    async def test_a_retired_code_is_never_revived(self, client: AsyncClient, session: AsyncSession) -> None:
        key = await make.a_key(session)
        made = await make.an_address(session)
        heir = await make.an_address(session, north=30)
        await session.commit()

        ended = await make.post(
            client, key, f"{ADDRESSES}/{made.code}/retire", {"reason": "demolished", "replaced_by": [heir.code]}
        )
        for verb, body in (
            ("issue", None),
            ("verify", {"method": "photo"}),
            ("retire", {"reason": "again"}),
            ("correct-point", {"point": {"lon": 105.9, "lat": 22.2}, "reason": "again"}),
        ):
            again = await make.post(client, key, f"{ADDRESSES}/{made.code}/{verb}", body)
            assert again.status_code == 409, verb

        assert ended.json()["status"] == "retired"
        assert (await client.get(f"{ADDRESSES}/{heir.code}")).json()["replaces"] == [made.code]
        with pytest.raises(Exception, match="never revived"):
            await session.execute(
                text("UPDATE dwelling SET status = 'current', revision = revision + 1 WHERE code = :code"),
                {"code": made.code},
            )

    async def test_a_rejected_proposal_frees_its_household(self, client: AsyncClient, session: AsyncSession) -> None:
        key = await make.a_key(session)
        household = await make.a_household()
        made = await make.an_address(session, household=household, current=False)
        await session.commit()

        answer = await make.post(client, key, f"{ADDRESSES}/{made.code}/reject", {"reason": "no such house"})
        again = await make.post(
            client,
            key,
            ADDRESSES,
            await proposal(session, household={"source": household.source, "id": household.id}),
        )

        assert answer.json()["status"] == "rejected"
        assert again.status_code == 201
        assert again.json()["code"] != made.code

    async def test_days_in_the_future_are_refused(self, client: AsyncClient, session: AsyncSession) -> None:
        key = await make.a_key(session)
        made = await make.an_address(session)
        await session.commit()
        tomorrow = (today() + timedelta(days=1)).isoformat()
        answer = await make.post(client, key, f"{ADDRESSES}/{made.code}/retire", {"reason": "soon", "on": tomorrow})
        assert (answer.status_code, answer.json()["type"]) == (422, "/problems/address_future_day")


class TestHistory:
    async def test_an_address_of_before_the_merger_was_in_the_old_commune_then(
        self, client: AsyncClient, session: AsyncSession
    ) -> None:
        place = await make.a_place(session, "01975", on=date(2025, 6, 30))
        key = await make.a_key(session)
        await session.commit()
        made = await make.post(
            client,
            key,
            ADDRESSES,
            {"point": {"lon": place.lon, "lat": place.lat}, "unit": "01975", "since": "2024-03-01"},
        )
        url = f"{ADDRESSES}/{made.json()['code']}"

        then = (await client.get(f"{url}/history", params={"as_of": "2025-06-30"})).json()["versions"]
        now = (await client.get(f"{url}/history", params={"as_of": "2025-07-01"})).json()["versions"]
        before = (await client.get(f"{url}/history", params={"as_of": "2024-02-29"})).json()["versions"]

        assert [version["unit"]["name"] for version in then] == ["Xã Vi Hương"]
        assert [version["unit"]["name"] for version in now] == ["Xã Phủ Thông"]
        assert before == []
        assert made.json()["unit"]["code"] == "01969"
        assert made.json()["exact"]["identifiers"]["vpostcode"].startswith("232")

    async def test_who_lived_there_and_what_others_call_it_is_told_with_its_days(
        self, client: AsyncClient, session: AsyncSession
    ) -> None:
        key = await make.a_key(session)
        since = today() - timedelta(days=20)
        home = await make.an_address(session, household=await make.a_household(), since=since)
        other = await make.an_address(session, north=60, since=since)
        await session.commit()
        left = today() - timedelta(days=5)
        await make.post(client, key, f"{ADDRESSES}/{home.code}/move", {"to": other.code, "on": left.isoformat()})
        await make.post(
            client,
            key,
            f"{ADDRESSES}/{home.code}/identifiers",
            {"scheme": "dcs10", "value": "2321012345", "since": since.isoformat()},
        )
        await make.post(client, key, f"{ADDRESSES}/{home.code}/identifiers", {"scheme": "dcs10", "value": "2321054321"})
        url = f"{ADDRESSES}/{home.code}/history"
        headers = {"Authorization": f"Bearer {key}"}

        whole = (await client.get(url, headers=headers)).json()
        then = (await client.get(url, headers=headers, params={"as_of": since.isoformat()})).json()
        public = (await client.get(url)).json()

        assert [(stay["valid_from"], stay["valid_to"]) for stay in whole["households"]] == [
            (since.isoformat(), left.isoformat())
        ]
        assert [name["value"] for name in whole["identifiers"]] == ["2321012345", "2321054321"]
        assert [name["value"] for name in then["identifiers"]] == ["2321012345"]
        assert "households" not in public
        assert "identifiers" not in public


class TestPrivacy:
    async def test_the_exact_place_is_for_those_in_charge_and_every_read_of_it_is_recorded(
        self, client: AsyncClient, session: AsyncSession
    ) -> None:
        made = await make.an_address(session, household=await make.a_household())
        here = await make.a_key(session, unit=make.COMMUNE)
        elsewhere = await make.a_key(session, unit="02191")
        await session.commit()
        url = f"{ADDRESSES}/{made.code}"

        nobody = await client.get(url)
        officer = await client.get(url, headers={"Authorization": f"Bearer {here}"})
        stranger = await client.get(url, headers={"Authorization": f"Bearer {elsewhere}"})

        assert "exact" not in nobody.json()
        assert "exact" not in stranger.json()
        assert officer.json()["exact"]["household"]
        reads = (await session.scalars(select(DataRead))).all()
        assert [(read.subject, read.reader) for read in reads] == [(made.code, here.split("_")[1])]

    async def test_a_refusal_that_tells_of_a_home_is_a_read_of_it(self, settings: Settings, own_database: str) -> None:
        engine = open_engine(own_database)
        sessions, records = sessions_of(engine), Lookups(own_database, RECORD_READS)
        household = await make.a_household()
        async with sessions.begin() as session:
            made = await make.an_address(session, household=household)
            place = await make.a_place(session)
            key = await make.a_key(session, unit=make.COMMUNE)
        app = Edge(create_app(settings, sessions, readers_of(engine), records=records), settings)  # type: ignore[arg-type]
        client = AsyncClient(transport=ASGITransport(app=app), base_url="http://bkapp.test")
        point = {"lon": place.lon, "lat": place.lat, "source": "gps"}
        lives = {"household": {"source": household.source, "id": household.id}}

        door = await make.post(client, key, ADDRESSES, {"unit": make.COMMUNE, "point": point})
        away = {"unit": make.COMMUNE, "point": {**point, "lat": place.lat + 0.001}, **lives}
        housed = await make.post(client, key, ADDRESSES, away)

        assert (door.status_code, door.json()["address"]) == (422, made.code)
        assert (housed.status_code, housed.json()["address"]) == (409, made.code)
        async with sessions() as session:
            reads = (await session.scalars(select(DataRead).order_by(DataRead.id))).all()
        await records.close()
        await engine.dispose()
        assert [(read.subject, read.request_id) for read in reads] == [
            (made.code, answer.headers["x-request-id"]) for answer in (door, housed)
        ]

    async def test_a_bad_key_is_refused_even_on_a_public_route(self, client: AsyncClient) -> None:
        answer = await client.get(f"{ADDRESSES}/482719346", headers={"Authorization": "Bearer bk_no"})
        assert (answer.status_code, answer.json()["type"]) == (401, "/problems/unauthenticated")
        assert answer.headers["www-authenticate"].startswith("Bearer")

    async def test_monitoring_reads_and_changes_nothing(self, client: AsyncClient, session: AsyncSession) -> None:
        key = await make.a_key(session, role=Role.MONITOR)
        made = await make.an_address(session)
        await session.commit()
        read = await client.get(f"{ADDRESSES}/{made.code}", headers={"Authorization": f"Bearer {key}"})
        change = await make.post(client, key, f"{ADDRESSES}/{made.code}/retire", {"reason": "no"})
        assert "exact" in read.json()
        assert change.status_code == 403


class TestFeed:
    async def test_the_feed_tells_the_public_what_is_public(self, client: AsyncClient, session: AsyncSession) -> None:
        made = await make.an_address(session, door=Door(house_number="7"), household=await make.a_household())
        key = await make.a_key(session, role=Role.MONITOR)
        await session.commit()

        public = (await client.get("/api/v1/address-events")).json()
        full = (await client.get("/api/v1/address-events", headers={"Authorization": f"Bearer {key}"})).json()

        assert [event["kind"] for event in public["events"]] == ["proposed", "issued"]
        assert public["head"] == public["next"] == public["events"][-1]["seq"]
        for event in public["events"]:
            assert event["code"] == made.code
            assert not {"lon", "lat", "house_number", "household"} & set(event["data"])
        assert {"lon", "lat", "house_number", "household"} <= set(full["events"][0]["data"])

    async def test_the_feed_goes_on_where_a_consumer_stopped(self, client: AsyncClient, session: AsyncSession) -> None:
        for number in range(3):
            await make.an_address(session, north=30 * number)
        await session.commit()

        first = (await client.get("/api/v1/address-events", params={"limit": 4})).json()
        rest = await client.get(
            "/api/v1/address-events", params={"after": first["next"]}, headers={"Accept": "application/x-ndjson"}
        )

        lines = [msgspec.json.decode(line) for line in rest.content.splitlines()]
        numbers = [event["seq"] for event in first["events"]] + [event["seq"] for event in lines]
        assert numbers == list(range(numbers[0], numbers[0] + 6))
        assert rest.headers["content-type"].startswith("application/x-ndjson")


class TestCertificates:
    async def test_a_certificate_verifies_and_is_superseded_when_the_register_moves_on(
        self, client: AsyncClient, session: AsyncSession
    ) -> None:
        key = await make.a_key(session)
        made = await make.an_address(session)
        await session.commit()
        certificate = (await client.get(f"{ADDRESSES}/{made.code}/certificate")).json()["certificate"]
        check = "/api/v1/certificates/verify"

        fresh = (await client.post(check, json={"certificate": certificate})).json()
        await make.post(client, key, f"{ADDRESSES}/{made.code}/verify", {"method": "photo"})
        verified = (await client.post(check, json={"certificate": certificate})).json()
        await make.post(client, key, f"{ADDRESSES}/{made.code}/retire", {"reason": "demolished"})
        old = (await client.post(check, json={"certificate": certificate})).json()
        forged = (await client.post(check, json={"certificate": certificate[:-3] + "AAA"})).json()
        page = await client.get(f"/c/{made.code}", params={"v": certificate})

        assert fresh["outcome"] == "current"
        assert verified["outcome"] == "current", "a verification leaves plates good"
        assert (old["outcome"], old["changed"]) == ("superseded", ["status"])
        assert forged["outcome"] == "not_genuine"
        assert "Chứng nhận thật nhưng đã cũ" in page.text

    async def test_plates_come_as_svg_and_pdf_by_format_or_accept(
        self, client: AsyncClient, session: AsyncSession
    ) -> None:
        made = await make.an_address(session)
        await session.commit()
        url = f"{ADDRESSES}/{made.code}/certificate"

        svg = await client.get(url, params={"format": "svg"})
        pdf = await client.get(url, headers={"Accept": "application/pdf"})
        other = await client.get(url, params={"format": "docx"})
        word = await client.get(url, headers={"Accept": "application/msword"})

        assert svg.headers["content-type"].startswith("image/svg+xml")
        assert codes.display(made.code) in svg.text
        assert pdf.content.startswith(b"%PDF")
        assert (other.status_code, other.json()["errors"][0]["pointer"]) == (400, "format")
        assert word.status_code == 406


class TestPages:
    async def test_the_page_of_a_code_needs_no_script_and_tells_nothing_private(
        self, client: AsyncClient, session: AsyncSession
    ) -> None:
        made = await make.an_address(session, door=Door(house_number="1789"), household=await make.a_household())
        await session.commit()

        page = await client.get(f"/c/{made.code}")

        assert page.status_code == 200
        assert codes.display(made.code) in page.text
        assert "<script" not in page.text
        assert "1789" not in page.text

    async def test_wrong_and_unknown_codes_have_pages_of_their_own(self, client: AsyncClient) -> None:
        wrong = await client.get("/c/482719347")
        unknown = await client.get("/c/482719346")
        form = await client.get("/c", params={"code": "BK 482 719 346"})
        assert (wrong.status_code, unknown.status_code) == (422, 404)
        assert "Mã không đúng" in wrong.text
        assert (form.status_code, form.headers["location"]) == (302, "/c/482719346")

    async def test_a_place_is_found_by_its_old_name_without_marks(self, client: AsyncClient) -> None:
        page = await client.get("/tim", params={"q": "vi huong"})
        assert "nay là Xã Phủ Thông" in page.text

    async def test_home_and_problems_and_documentation_answer(self, client: AsyncClient) -> None:
        for path in (
            "/",
            "/problems",
            "/schema",
            "/schema/openapi.json",
            "/schema/assets/swagger-ui.css",
            "/static/style.css",
        ):
            assert (await client.get(path)).status_code == 200, path


async def test_the_feed_records_each_address_whose_exact_data_were_seen(
    client: AsyncClient, session: AsyncSession
) -> None:
    here = await make.an_address(session)
    there = await make.an_address(session, unit="02083")
    officer, monitor = await make.a_key(session, unit=make.COMMUNE), await make.a_key(session, role=Role.MONITOR)
    partner = await make.a_key(session, role=Role.PARTNER)
    await session.commit()
    for key in (officer, monitor, partner):
        page = await client.get("/api/v1/address-events", headers=make.auth(key))
        assert page.status_code == 200
    lines = {**make.auth(officer), "Accept": "application/x-ndjson"}
    assert (await client.get("/api/v1/address-events", headers=lines)).status_code == 200
    await client.get("/api/v1/address-events")

    reads = await session.execute(select(DataRead.reader, DataRead.subject))
    mine, all_of_them = officer.split("_")[1], monitor.split("_")[1]
    wanted = [(mine, here.code), (mine, here.code), (all_of_them, here.code), (all_of_them, there.code)]
    assert sorted(map(tuple, reads)) == sorted(wanted)
