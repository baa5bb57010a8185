"""The database edge: one engine per process, one transaction per unit of work."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from enum import Enum
from typing import Any

import psycopg
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as NoConnectionFree
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase

# Named constraints let a migration drop what an earlier one created, and let
# an operation tell "this key exists" from any other integrity error.
NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}

Sessions = async_sessionmaker[AsyncSession]

# Runs one statement with one value (``%s``) outside any transaction and returns its first row.
Lookup = Callable[[str, str], Awaitable[tuple[Any, ...] | None]]

# Our statements are short: compiling them to machine code costs more than it ever saves.
_CONNECT: dict[str, Any] = {"connect_timeout": 5, "application_name": "bkapp", "options": "-c jit=off"}


class Table(DeclarativeBase):
    """Every mapped class in bkapp is a table and nothing more."""

    metadata = sa.MetaData(naming_convention=NAMES)
    type_annotation_map = {
        datetime: sa.DateTime(timezone=True),
        str: sa.Text(),
        Enum: sa.Enum(Enum, native_enum=False, length=32, values_callable=lambda kinds: [kind.value for kind in kinds]),
    }


def driver_url(url: str) -> str:
    """Any of ``postgres://``, ``postgresql://`` or ``postgresql+psycopg://`` as SQLAlchemy wants it."""
    scheme, _, rest = url.partition("://")
    if scheme not in {"postgres", "postgresql", "postgresql+psycopg"} or not rest:
        raise ValueError("not a postgresql:// address")
    return f"postgresql+psycopg://{rest}"


def open_engine(url: str, *, pool_size: int = 10) -> AsyncEngine:
    return create_async_engine(
        driver_url(url),
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_timeout=5,
        hide_parameters=True,  # an error that is logged must not hold anybody's data
        pool_pre_ping=False,  # a broken connection is answered 503 and replaced; a ping would cost every request
        connect_args=_CONNECT,
    )


def sessions_of(engine: AsyncEngine) -> Sessions:
    """Sessions for work that writes: ``async with sessions.begin() as session``."""
    return async_sessionmaker(engine, expire_on_commit=False)


def readers_of(engine: AsyncEngine) -> Sessions:
    """Sessions for reading: each statement stands alone, so a look-up costs one round trip and not three."""
    return async_sessionmaker(
        engine.execution_options(isolation_level="AUTOCOMMIT"), expire_on_commit=False, autoflush=False
    )


# What a kept connection may meet that a new one will not: the server went away or was restarted (no code, 57P01,
# 57P02), or a migration changed what the prepared statement returns (0A000).
_STALE = frozenset({None, "57P01", "57P02", "0A000"})


class Lookups:
    """Connections for single look-ups: no session, no transaction, a cursor and a prepared statement that stay.

    For the path that everything else waits for, where a session costs ten times
    the look-up itself.  A connection is made when it is first needed and closed
    when anything goes wrong on it; a statement that met a connection the server
    had closed (a restart, say) is asked once more on a new one.  Errors are
    those of sessions, so that they are answered alike.
    """

    def __init__(self, url: str, *, size: int) -> None:
        self._url = driver_url(url).replace("postgresql+psycopg", "postgresql", 1)
        self._free = asyncio.Semaphore(size)
        self._idle: list[psycopg.AsyncCursor[Any]] = []

    async def __call__(self, statement: str, value: str) -> tuple[Any, ...] | None:
        if self._free.locked():
            try:
                await asyncio.wait_for(self._free.acquire(), 5)
            except TimeoutError:
                raise NoConnectionFree("No connection for look-ups became free.") from None
        else:
            await self._free.acquire()
        try:
            while self._idle:
                try:
                    return await self._ask(self._idle.pop(), statement, value)
                except psycopg.Error as error:
                    if error.sqlstate not in _STALE:
                        raise
            connection = await psycopg.AsyncConnection.connect(self._url, autocommit=True, **_CONNECT)
            return await self._ask(connection.cursor(), statement, value)
        except psycopg.Error as error:
            raise DBAPIError.instance(statement, None, error, psycopg.Error, hide_parameters=True) from error
        finally:
            self._free.release()

    async def _ask(self, cursor: psycopg.AsyncCursor[Any], statement: str, value: str) -> tuple[Any, ...] | None:
        try:
            await cursor.execute(statement, (value,), prepare=True)
            row: tuple[Any, ...] | None = await cursor.fetchone()
        except BaseException:
            await cursor.connection.close()
            raise
        self._idle.append(cursor)
        return row

    async def close(self) -> None:
        while self._idle:
            await self._idle.pop().connection.close()


def lookup_through(readers: Sessions) -> Lookup:
    """Look-ups in sessions, for tests whose rows nobody else can see."""

    async def look_up(statement: str, value: str) -> tuple[Any, ...] | None:
        async with readers() as session:
            connection = await session.connection()
            row = (await connection.exec_driver_sql(statement, (value,))).first()
            return None if row is None else tuple(row)

    return look_up


def open_sessions(url: str) -> Sessions:
    """Sessions of an engine of their own, for commands and jobs."""
    return sessions_of(open_engine(url, pool_size=4))


def violated(error: IntegrityError) -> str | None:
    """The name of the constraint that an integrity error broke."""
    return getattr(getattr(error.orig, "diag", None), "constraint_name", None)
