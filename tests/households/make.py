"""People who have signed in, and what a population register says of them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from secrets import randbelow
from typing import Any
from uuid import uuid4

from httpx import ASGITransport, AsyncClient, Response
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.operations import Caller
from bkapp.access.rules import Role
from bkapp.app import create_app
from bkapp.config import DEMO_DATA_KEYS, DEMO_LOOKUP_KEY, Settings
from bkapp.db import Sessions
from bkapp.edge import Edge
from bkapp.errors import Unauthenticated
from bkapp.households import operations
from bkapp.households.models import Membership, PopulationQuery
from bkapp.households.operations import Question
from bkapp.households.providers import Citizen, Register
from bkapp.http import today
from bkapp.identity.models import Person
from bkapp.sealing import Keyring
from bkapp.units import queries as units
from tests import make

KEYRING = Keyring.parse(DEMO_DATA_KEYS, DEMO_LOOKUP_KEY)
GROWN = date(1984, 3, 12)


def a_number() -> str:
    """Twelve digits that nobody has: 099 is no province."""
    return f"099{randbelow(10**9):09d}"


async def a_person(
    session: AsyncSession, name: str = "Nông Văn Hùng", *, number: str | None = None, birth: date | None = GROWN
) -> Caller:
    """Somebody who has signed in with VNeID level 2."""
    person_id = uuid4()
    number = number or a_number()

    def sealed(field: str, text: str | None) -> bytes | None:
        return None if text is None else KEYRING.seal(text, f"person.{field}:{person_id}")

    session.add(
        Person(
            id=person_id,
            number_hmac=KEYRING.lookup("citizen", number),
            number_cipher=sealed("number", number),
            name_cipher=sealed("name", name),
            birth_cipher=sealed("birth", birth.isoformat() if birth else None),
            level=2,
        )
    )
    await session.flush()
    return Caller(id=str(person_id), role=Role.CITIZEN, unit_ids=frozenset(), person=person_id, level=2)


async def number_of(session: AsyncSession, caller: Caller) -> str:
    person = await session.get_one(Person, caller.person)
    assert person.number_cipher is not None
    return KEYRING.open(person.number_cipher, f"person.number:{caller.person}")


async def name_of(session: AsyncSession, caller: Caller) -> str:
    person = await session.get_one(Person, caller.person)
    assert person.name_cipher is not None
    return KEYRING.open(person.name_cipher, f"person.name:{caller.person}")


async def erased(session: AsyncSession, caller: Caller) -> None:
    """What an erasure does to the person themselves, and to what households know of them."""
    assert caller.person is not None
    gone = ("number_hmac", "number_cipher", "name_cipher", "birth_cipher", "phone_cipher")
    await session.execute(
        update(Person)
        .where(Person.id == caller.person)
        .values(level=0, erased_at=datetime.now(UTC), **dict.fromkeys(gone))
    )
    await operations.forget_person(session, caller.person)


async def registered(
    session: AsyncSession,
    caller: Caller,
    *,
    head: Caller | None = None,
    relation: str = "Con",
    unit: str = make.COMMUNE,
) -> Membership:
    """What follows when the register says that a person lives with ``head`` (themselves when left out)."""
    assert caller.person is not None
    number, name = await number_of(session, caller), await name_of(session, caller)
    question = Question(request_id=uuid4().hex, person_id=caller.person, number=number, name=name, birth=GROWN)
    session.add(
        PopulationQuery(request_id=question.request_id, person_id=caller.person, asked_by=caller.id, purpose="test")
    )
    await session.flush()
    citizen = Citizen(
        number=number,
        name=name.upper(),
        birth=None,
        head_number=number if head is None else await number_of(session, head),
        relation="Chủ hộ" if head is None else relation,
        commune_code=unit,
    )
    now = datetime.now(UTC)
    await operations.take_answer(
        session, KEYRING, caller, question, citizen, now=now, today=today(), what="test", request_id="test"
    )
    found = await operations.require_member(session, caller)
    assert found.person_id == caller.person
    return found


async def a_head(session: AsyncSession, *, unit: str = make.COMMUNE, name: str = "Nông Văn Hùng") -> Caller:
    """The head of a household registered in a commune."""
    head = await a_person(session, name)
    await registered(session, head, unit=unit)
    return head


async def an_officer(session: AsyncSession, unit: str = make.COMMUNE) -> Caller:
    """An officer of a commune, who has signed in."""
    found = await units.unit_on(session, unit, today())
    assert found is not None
    person = await a_person(session, "Hoàng Thị Cán")
    scope = frozenset(await units.scope_ids(session, found.id))
    return Caller(id=person.id, role=Role.OFFICER, unit_ids=scope, person=person.person, level=2)


class Answers:
    """A population register that says what it was told to."""

    def __init__(self, *answers: Citizen | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []

    async def look_up(self, **question: Any) -> Citizen:
        self.asked.append(question)
        await asyncio.sleep(0)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def close(self) -> None:
        self.answers.clear()


class Residents:
    """Whoever has signed in, by a token that is their id."""

    def __init__(self) -> None:
        self.known: dict[str, Caller] = {}

    def let_in(self, *callers: Caller) -> None:
        self.known.update({caller.id: caller for caller in callers})

    async def of_cookie(self, secret: str) -> Caller | None:
        return self.known.get(secret)

    async def of_token(self, token: str) -> Caller:
        if token not in self.known:
            raise Unauthenticated("The token is not good.")
        return self.known[token]

    def csrf_token(self, secret: str) -> str:
        return f"csrf-{secret}"


@asynccontextmanager
async def served(
    settings: Settings, sessions: Sessions, residents: Residents, population: Register | None = None
) -> AsyncIterator[AsyncClient]:
    """A client of the application in which these residents have signed in."""
    app = create_app(settings, sessions, sessions, people=residents, population=population)
    transport = ASGITransport(app=Edge(app, settings), raise_app_exceptions=False)  # type: ignore[arg-type]
    async with AsyncClient(transport=transport, base_url="http://bkapp.test") as client:
        yield client


async def post(client: AsyncClient, caller: Caller, path: str, body: Any = None) -> Response:
    return await make.post(client, caller.id, path, body)


async def fetch(client: AsyncClient, caller: Caller, path: str) -> Response:
    return await client.get(path, headers={"Authorization": f"Bearer {caller.id}"})
