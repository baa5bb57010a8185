"""Fixtures: a real PostgreSQL with PostGIS, one transaction per test, thrown away after it.

A template database is migrated and seeded once for all workers; each worker
clones it.  Tests of concurrency and of commands, which need real commits, get a
clone of their own (``own_database``).
"""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from httpx import ASGITransport, AsyncClient
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.pool import NullPool

import bkapp.models  # noqa: F401  (fills the metadata)
from bkapp.app import create_app
from bkapp.config import Settings, load_settings
from bkapp.db import Sessions, driver_url
from bkapp.edge import Edge
from bkapp.migrate import migrate
from bkapp.units import operations as units

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
MAINTENANCE = os.environ.get("TEST_DATABASE_URL", "")


def _url(database: str) -> str:
    # render_as_string hides passwords unless told otherwise
    return make_url(driver_url(MAINTENANCE)).set(database=database).render_as_string(hide_password=False)


def _libpq(database: str) -> str:
    return _url(database).replace("postgresql+psycopg", "postgresql", 1)


def _template_name() -> str:
    """A name that changes with what the template is made of."""
    digest = hashlib.sha256()
    for path in sorted([*ROOT.glob("migrations/**/*.py"), *ROOT.glob("migrations/**/*.sql")]):
        digest.update(path.read_bytes())
    for path in sorted([*ROOT.glob("src/bkapp/units/**/*.py"), *ROOT.glob("src/bkapp/units/data/*")]):
        digest.update(path.read_bytes())
    return f"bkapp_template_{digest.hexdigest()[:12]}"


async def _fill(url: str) -> None:
    engine = create_async_engine(url, poolclass=NullPool, connect_args={"options": "-c jit=off"})
    async with async_sessionmaker(engine, expire_on_commit=False).begin() as session:
        await units.load_seed(session)
        await units.approximate_boundaries(session)
    await engine.dispose()


@pytest.fixture(scope="session")
def template() -> str:
    """The name of a database that is migrated and knows the units."""
    if not MAINTENANCE:
        pytest.fail("TEST_DATABASE_URL is not set: run the tests with ./dev test.")
    name = _template_name()
    with psycopg.connect(_libpq("postgres"), autocommit=True) as connection:
        # Workers start at the same time; one makes the template, the others wait here.
        connection.execute("SELECT pg_advisory_lock(7236117)")
        ready = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s AND datistemplate", [name]).fetchone()
        if not ready:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            connection.execute(f'CREATE DATABASE "{name}"')
            migrate(_url(name))
            asyncio.run(_fill(_url(name)))
            connection.execute(f'ALTER DATABASE "{name}" WITH IS_TEMPLATE true')
        connection.execute("SELECT pg_advisory_unlock(7236117)")
    return name


def _clone(template: str) -> Iterator[str]:
    name = f"bkapp_test_{uuid4().hex[:12]}"
    with psycopg.connect(_libpq("postgres"), autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(7236118)")  # a template is copied by one at a time
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        connection.execute("SELECT pg_advisory_unlock(7236118)")
    yield _url(name)
    with psycopg.connect(_libpq("postgres"), autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@pytest.fixture(scope="session")
def database(template: str) -> Iterator[str]:
    """The URL of this worker's database; nothing is ever committed there."""
    yield from _clone(template)


@pytest.fixture
def own_database(template: str) -> Iterator[str]:
    """The URL of a database for one test that commits."""
    yield from _clone(template)


@pytest.fixture(scope="session")
async def engine(database: str) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(database, poolclass=NullPool, connect_args={"options": "-c jit=off"})
    yield engine
    await engine.dispose()


@pytest.fixture
async def sessions(engine: AsyncEngine) -> AsyncIterator[Sessions]:
    """A session factory whose every commit is a savepoint inside one doomed transaction."""
    async with engine.connect() as connection:
        outer = await connection.begin()
        yield async_sessionmaker(connection, join_transaction_mode="create_savepoint", expire_on_commit=False)
        await outer.rollback()


@pytest.fixture
async def session(sessions: Sessions) -> AsyncIterator[AsyncSession]:
    async with sessions() as session:
        yield session


@pytest.fixture
def settings(database: str) -> Settings:
    return load_settings(
        {
            "DATABASE_URL": database,
            "BKAPP_DEMO": "1",
            "BKAPP_BASE_URL": "http://bkapp.test",
            "BKAPP_RATE_LIMIT": "1000000/second",
        }
    )


@pytest.fixture
async def client(sessions: Sessions, settings: Settings) -> AsyncIterator[AsyncClient]:
    app = Edge(create_app(settings, sessions, sessions), settings)  # type: ignore[arg-type]
    transport = ASGITransport(app=app, raise_app_exceptions=False)
    async with AsyncClient(transport=transport, base_url="http://bkapp.test") as client:
        yield client


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real boundaries, beside the checkout."""
    if not (SHARED / "data").is_dir():
        pytest.skip("the real boundaries (../shared/data) are not here")
    return SHARED / "data"
