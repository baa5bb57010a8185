"""A citizen, a data officer, and the application in which both have signed in."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from httpx import AsyncClient
from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.operations import Caller
from bkapp.access.rules import Role
from bkapp.config import Settings
from bkapp.db import Sessions
from tests.households import make as people


@pytest.fixture
def residents() -> people.Residents:
    return people.Residents()


@pytest.fixture
async def client(sessions: Sessions, settings: Settings, residents: people.Residents) -> AsyncIterator[AsyncClient]:
    async with people.served(settings, sessions, residents) as client:
        yield client


@pytest.fixture
async def citizen(session: AsyncSession, residents: people.Residents) -> Caller:
    """The head of a household, who has just signed in."""
    found = replace(await people.a_head(session), authenticated_at=datetime.now(UTC))
    residents.let_in(found)
    await session.commit()
    return found


@pytest.fixture
async def data_officer(session: AsyncSession, residents: people.Residents) -> Caller:
    found = replace(
        await people.a_person(session, "Ma Thị Lan"),
        role=Role.ADMIN,
        unit_ids=None,
        authenticated_at=datetime.now(UTC),
    )
    residents.let_in(found)
    await session.commit()
    return found
