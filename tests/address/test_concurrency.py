"""Promises that only hold if they hold for many at once: real commits, many connections."""

import asyncio
from typing import Any

from httpx import ASGITransport, AsyncClient
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from bkapp.address import operations, queries
from bkapp.address.models import Dwelling, Event, HouseholdLink
from bkapp.address.operations import Door, HouseholdRef, Point
from bkapp.address.rules import LIVE, Method, PointSource
from bkapp.app import create_app
from bkapp.config import load_settings
from bkapp.db import Sessions, open_engine, readers_of, sessions_of
from bkapp.edge import Edge
from bkapp.errors import DomainError
from bkapp.http import today
from tests import make


def app_on(url: str, engine: AsyncEngine) -> Any:
    settings = load_settings({"DATABASE_URL": url, "BKAPP_DEMO": "1", "BKAPP_RATE_LIMIT": "1000000/second"})
    return Edge(create_app(settings, sessions_of(engine), readers_of(engine)), settings)  # type: ignore[arg-type]


async def test_two_hundred_concurrent_proposals_for_one_household_end_with_one_address(own_database: str) -> None:
    engine = open_engine(own_database, pool_size=20)
    async with sessions_of(engine).begin() as session:
        key = await make.a_key(session)
        place = await make.a_place(session)
    body = {
        "point": {"lon": place.lon, "lat": place.lat},
        "unit": make.COMMUNE,
        "household": {"source": "so-ho", "id": "1"},
    }
    transport = ASGITransport(app=app_on(own_database, engine))
    async with AsyncClient(transport=transport, base_url="http://bkapp.test", timeout=60) as client:

        async def propose(number: int) -> int:
            # Spread out, so that it is the household that is refused and not the place.
            point = {"lon": place.lon + number % 20 * 0.0001, "lat": place.lat + number // 20 * 0.0001}
            while True:
                answer = await make.post(client, key, "/api/v1/addresses", {**body, "point": point})
                if answer.status_code != 503:
                    return answer.status_code

        answers = await asyncio.gather(*(propose(number) for number in range(200)))

    async with sessions_of(engine)() as session:
        assert sorted(set(answers)) == [201, 409]
        assert answers.count(201) == 1
        assert await session.scalar(select(func.count()).select_from(Dwelling)) == 1
        assert await session.scalar(select(func.count()).select_from(HouseholdLink)) == 1
        assert await session.scalar(select(func.count()).select_from(Event)) == 1
    await engine.dispose()


async def test_one_key_sent_fifty_times_at_once_acts_once(own_database: str) -> None:
    engine = open_engine(own_database, pool_size=10)
    async with sessions_of(engine).begin() as session:
        key = await make.a_key(session)
        place = await make.a_place(session)
    body = {"point": {"lon": place.lon, "lat": place.lat}, "unit": make.COMMUNE}
    transport = ASGITransport(app=app_on(own_database, engine))
    async with AsyncClient(transport=transport, base_url="http://bkapp.test", timeout=60) as client:
        answers = await asyncio.gather(
            *(client.post("/api/v1/addresses", json=body, headers=make.auth(key, "one")) for _ in range(50))
        )
        last = await client.post("/api/v1/addresses", json=body, headers=make.auth(key, "one"))

    made = {answer.content for answer in answers if answer.status_code == 201}
    waiting = [answer for answer in answers if answer.status_code == 409]
    assert len(made) == 1
    assert all(answer.headers["retry-after"] == "1" for answer in waiting)
    assert (last.status_code, last.headers["idempotent-replayed"], last.content) == (201, "true", made.pop())
    async with sessions_of(engine)() as session:
        assert await session.scalar(select(func.count()).select_from(Dwelling)) == 1
    await engine.dispose()


class Replica:
    """A consumer of the feed that knows nothing but what events say."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        self.last = 0

    async def catch_up(self, sessions: Sessions) -> int:
        async with sessions() as session:
            events = await queries.events(session, after=self.last, limit=500)
        for event in events:
            assert event.seq == self.last + 1, "a gap in the feed"
            before = self.rows.get(event.code)
            assert event.revision == (before["revision"] + 1 if before else 1), "a change without its event"
            self.rows[event.code] = event.data
            self.last = event.seq
        return len(events)


async def test_twenty_writers_and_a_reader_of_the_feed_end_with_equal_tables(own_database: str) -> None:
    engine = open_engine(own_database, pool_size=24)
    sessions = sessions_of(engine)
    async with sessions.begin() as session:
        middle = await make.a_place(session)
    replica = Replica()
    finished = asyncio.Event()

    async def read() -> None:
        while not finished.is_set():
            await replica.catch_up(readers_of(engine))
            await asyncio.sleep(0.01)

    async def write(writer: int) -> int:
        """Propose, issue, verify, move, split, merge and retire, side by side with the others."""
        done = 0
        mine: list[str] = []
        for turn in range(8):
            try:
                async with sessions.begin() as session:
                    point = Point(middle.lon + writer * 0.0002, middle.lat + turn * 0.0002, PointSource.GPS)
                    made = await operations.propose(
                        session,
                        make.ADMIN,
                        point=point,
                        unit_code=make.COMMUNE,
                        hamlet=None,
                        door=Door(house_number=str(turn)),
                        household=HouseholdRef("so-ho", f"{writer}-{turn}"),
                        since=None,
                        today=today(),
                    )
                    await operations.issue(session, make.ADMIN, made.code)
                    mine.append(made.code)
                    if turn == 3:
                        await asyncio.sleep(0.02)
                        raise Interrupted  # noqa: TRY301  (dies inside its transaction: that is the point)
                async with sessions.begin() as session:
                    await change(session, turn, mine)
                done += 1
            except (Interrupted, DomainError):
                mine = [code for code in mine if await exists(sessions, code)]
        return done

    reader = asyncio.create_task(read())
    done = await asyncio.gather(*(write(number) for number in range(20)))
    finished.set()
    await reader
    while await replica.catch_up(readers_of(engine)):
        pass

    async with sessions() as session:
        table = await queries.current_table(session)
        head = await queries.head(session)
        living = await session.scalar(select(func.count()).select_from(Dwelling).where(Dwelling.status.in_(LIVE)))
    assert sum(done) >= 100
    assert replica.last == head
    assert sorted(replica.rows.values(), key=lambda row: row["code"]) == table
    assert living == sum(row["status"] in LIVE for row in replica.rows.values())
    await engine.dispose()


class Interrupted(Exception):
    """A writer that dies before it commits."""


async def exists(sessions: Sessions, code: str) -> bool:
    async with sessions() as session:
        return await session.get(Dwelling, code) is not None


async def change(session: Any, turn: int, mine: list[str]) -> None:
    day = today()
    match turn:
        case 1:
            await operations.verify(session, make.ADMIN, mine[-1], method=Method.PHOTO, photo=None, on=None, today=day)
        case 2:
            parts = [operations.Part(Door(floor="1"), keeps_household=True), operations.Part(Door(floor="2"))]
            await operations.split(session, make.ADMIN, mine[0], parts=parts, on=None, today=day)
        case 4:
            await operations.move_household(session, make.ADMIN, mine[-1], to=None, on=None, today=day)
        case 5:
            await operations.move_household(session, make.ADMIN, mine[-1], to=mine[-2], on=None, today=day)
        case 6:
            await operations.merge(
                session,
                make.ADMIN,
                mine[-2:],
                door=Door(house_number="1"),
                point=None,
                household_of=None,
                on=None,
                today=day,
            )
        case 7:
            await operations.retire(session, make.ADMIN, mine[-1], reason="demolished", on=None, today=day)
        case _:
            pass
