"""Throw-away databases for the benchmarks: migrated, with units and demo households, dropped at the end."""

import asyncio
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
from sqlalchemy.engine import make_url

import bkapp.models  # noqa: F401  (fills the metadata)
from bkapp.address import demo
from bkapp.address.imports import Tally, import_households
from bkapp.db import driver_url, open_engine, sessions_of
from bkapp.http import today
from bkapp.migrate import migrate
from bkapp.units import operations as units


def maintenance() -> str:
    """The address of a database on the server to measure, as its superuser."""
    url = os.environ.get("TEST_DATABASE_URL")
    if not url:
        raise SystemExit("TEST_DATABASE_URL is not set: run the benchmarks with ./dev bench.")
    return libpq(url)


def libpq(url: str) -> str:
    """An address of SQLAlchemy's kind as psql, pgbench and psycopg read it."""
    return url.replace("postgresql+psycopg", "postgresql", 1)


@contextmanager
def empty_database() -> Iterator[str]:
    """The address of a migrated database that knows the units and no household."""
    name = f"bkapp_bench_{uuid4().hex[:10]}"
    try:
        yield new_database(name)
    finally:
        with psycopg.connect(maintenance(), autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def new_database(name: str) -> str:
    """Make a migrated database that knows the units and no household, and stays; return its address."""
    with psycopg.connect(maintenance(), autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    url = make_url(driver_url(maintenance())).set(database=name).render_as_string(hide_password=False)
    migrate(url)
    asyncio.run(_load_units(url))
    return libpq(url)


@contextmanager
def copy_of(template: str) -> Iterator[str]:
    """The address of a copy of a database that nobody is connected to."""
    name = f"bkapp_bench_{uuid4().hex[:10]}"
    with psycopg.connect(maintenance(), autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{make_url(template).database}"')
        connection.execute("CHECKPOINT")
    try:
        yield libpq(make_url(template).set(database=name).render_as_string(hide_password=False))
    finally:
        with psycopg.connect(maintenance(), autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@contextmanager
def demo_database(households: int) -> Iterator[str]:
    """The address of a database with this many demo households."""
    with empty_database() as url, tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "demo.csv"
        write_demo(url, path, households)
        tally = take(url, path)
        if tally.refused * 100 > households:
            raise SystemExit(f"{tally.refused} of the demo's {households} households were refused.")
        settle(url)
        yield url


def write_demo(url: str, path: Path, households: int) -> None:
    """Write the demo's households as a file for the importer; their hamlets go into the database."""

    async def run() -> None:
        engine = open_engine(url, pool_size=1)
        async with sessions_of(engine).begin() as session:
            await demo.write_households(session, path, households=households)
        await engine.dispose()

    asyncio.run(run())


def take(url: str, path: Path, *, batch: int = 2000) -> Tally:
    """Import a file of households as ``bkapp import households`` does."""

    async def run() -> Tally:
        engine = open_engine(url, pool_size=2)
        try:
            return await import_households(
                sessions_of(engine), path, source=demo.SOURCE, today=today(), is_demo=True, batch=batch
            )
        finally:
            await engine.dispose()

    return asyncio.run(run())


def settle(url: str) -> None:
    """Vacuum and checkpoint, so that no run pays for what filling the database left to do."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")


def codes(url: str, *, most: int = 20_000) -> list[str]:
    """Codes of the database in random order, the same ones each time: what clients and pgbench ask for."""
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT code FROM dwelling ORDER BY md5(code) LIMIT %s", [most])
        return [code for (code,) in rows]


async def _load_units(url: str) -> None:
    engine = open_engine(url, pool_size=1)
    async with sessions_of(engine).begin() as session:
        await units.load_seed(session)
        await units.approximate_boundaries(session)
    await engine.dispose()
