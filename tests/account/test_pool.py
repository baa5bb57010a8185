"""Pages under load: nobody waits for a connection while holding one of the same pool."""

import asyncio

from bkapp.config import Settings
from bkapp.db import open_engine, readers_of, sessions_of
from tests.account.make import send, served
from tests.households.make import a_head


async def test_refused_forms_of_many_at_once_are_all_answered(settings: Settings, own_database: str) -> None:
    writing, reading = open_engine(own_database, pool_size=2), open_engine(own_database, pool_size=2)
    sessions = sessions_of(writing)
    async with sessions.begin() as session:
        people = [await a_head(session, name=f"Nông Văn {number}") for number in range(12)]
    async with served(settings, sessions, *people, readers=readers_of(reading)) as client:
        answers = await asyncio.gather(*(send(client, person, "/toi/ho-gia-dinh/roi") for person in people))
    await writing.dispose()
    await reading.dispose()
    assert [answer.status_code for answer in answers] == [409] * 12
