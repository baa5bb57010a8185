"""The database edge: one engine per process, one transaction per unit of work."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime
from enum import Enum
from typing import Any

import psycopg
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionFree
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, make_transient_to_detached
from sqlalchemy.orm.attributes import set_committed_value

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

Row = tuple[Any, ...]
# Answers for a key, outside any transaction.
Lookup = Callable[[str], Awaitable[Row | None]]
MOST_KEYS = 500  # in one statement

# Our statements are short: compiling them to machine code costs more than it ever saves.
_CONNECT: dict[str, Any] = {"connect_timeout": 5, "application_name": "bkapp", "options": "-c jit=off"}


def act_as(role: str) -> None:
    """Let every connection that this process opens from now on act as a role with fewer rights; "" for the own one."""
    _CONNECT["options"] = "-c jit=off" + (f" -c role={role}" if role else "")


def connection_options() -> str:
    """What libpq is told of every connection, for those that are not opened here."""
    return str(_CONNECT["options"])


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


def open_engine(url: str, *, pool_size: int = 20) -> AsyncEngine:
    """An engine that opens connections as they are needed, ``pool_size`` at the most, and keeps them."""
    return create_async_engine(
        driver_url(url),
        pool_size=pool_size,
        max_overflow=0,  # one beyond those kept would be opened and closed for each use, which costs more than to wait
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
# By keys, whatever their number, so there is one right plan, and making it anew costs more than carrying it out.
_BY_KEYS = (
    "-c enable_hashjoin=off -c enable_mergejoin=off -c enable_bitmapscan=off -c plan_cache_mode=force_generic_plan"
)


class Lookups:
    """Look-ups by key on a connection of their own: no session, no transaction, a prepared statement that stays.

    ``statement`` takes an array of keys and returns rows that begin with their key.
    For the path that everything else waits for, where a session costs ten times
    the look-up itself.  Keys that arrive while an answer is under way go in one
    statement together, so a busy server asks less often and not more; a key on
    its own goes at once.  A connection the server has closed (a restart, say) is
    replaced and asked again; other errors are those of sessions, so that they
    are answered alike.
    """

    def __init__(self, url: str, statement: str) -> None:
        self._url = driver_url(url).replace("postgresql+psycopg", "postgresql", 1)
        self._statement = statement
        self._wanted: list[tuple[str, asyncio.Future[Row | None]]] = []
        self._asking: asyncio.Task[None] | None = None
        self._cursor: psycopg.AsyncCursor[Row] | None = None

    async def __call__(self, key: str) -> Row | None:
        answer: asyncio.Future[Row | None] = asyncio.get_running_loop().create_future()
        self._wanted.append((key, answer))
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_for_all())
        return await answer

    async def many(self, keys: Iterable[str]) -> dict[str, Row | None]:
        """The rows of some keys, asked for together."""
        loop = asyncio.get_running_loop()
        answers = {key: loop.create_future() for key in keys}
        if answers:
            self._wanted += answers.items()
            if self._asking is None:
                self._asking = asyncio.create_task(self._ask_for_all())
        return {key: await answer for key, answer in answers.items()}

    async def close(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
        await self._forget_connection()

    async def _ask_for_all(self) -> None:
        try:
            while self._wanted:
                batch, self._wanted = self._wanted[:MOST_KEYS], self._wanted[MOST_KEYS:]
                try:
                    found = await self._found([key for key, _ in batch])
                except Exception as error:  # noqa: BLE001  (everybody who waits is told)
                    for _, answer in batch:
                        if not answer.done():
                            answer.set_exception(error)
                else:
                    for key, answer in batch:
                        if not answer.done():
                            answer.set_result(found.get(key))
        finally:
            self._asking = None

    async def _found(self, keys: list[str]) -> dict[str, Row]:
        try:
            async with asyncio.timeout(5):
                if self._cursor is not None:
                    try:
                        return await self._ask(self._cursor, keys)
                    except psycopg.Error as error:
                        if error.sqlstate not in _STALE:
                            raise
                options = f"{_CONNECT['options']} {_BY_KEYS}"
                connection = await psycopg.AsyncConnection.connect(
                    self._url, autocommit=True, **{**_CONNECT, "options": options}
                )
                self._cursor = connection.cursor()
                return await self._ask(self._cursor, keys)
        except psycopg.Error as error:
            raise DBAPIError.instance(self._statement, None, error, psycopg.Error, hide_parameters=True) from error
        except TimeoutError:
            raise NoConnectionFree("The database did not answer a look-up in time.") from None

    async def _ask(self, cursor: psycopg.AsyncCursor[Row], keys: list[str]) -> dict[str, Row]:
        try:
            await cursor.execute(self._statement, (_array(keys),), prepare=True)
            return {row[0]: row for row in await cursor.fetchall()}
        except BaseException:
            await self._forget_connection()
            raise

    async def _forget_connection(self) -> None:
        cursor, self._cursor = self._cursor, None
        if cursor is not None:
            await cursor.connection.close()


def _array(texts: list[str]) -> str:
    """One or more texts as PostgreSQL writes an array; the driver takes ten times as long over it."""
    return '{"' + '","'.join([text.replace("\\", r"\\").replace('"', r"\"") for text in texts]) + '"}'


def lookup_through(readers: Sessions, statement: str) -> Lookup:
    """Look-ups in sessions, for tests whose rows nobody else can see."""

    # Such sessions may share one connection, which answers one question at a time.
    turn = asyncio.Lock()

    async def look_up(key: str) -> Row | None:
        async with turn, readers.begin() as session:
            connection = await session.connection()
            row = (await connection.exec_driver_sql(statement, ([key],))).first()
            return None if row is None else tuple(row)

    return look_up


async def look_all_up(lookup: Lookup, keys: Iterable[str]) -> dict[str, Row | None]:
    """The rows of some keys, in one statement where the look-up can."""
    if isinstance(lookup, Lookups):
        return await lookup.many(keys)
    return {key: await lookup(key) for key in keys}


async def carry_out(session: AsyncSession, statement: str, values: Mapping[str, Any]) -> list[Row]:
    """Carry a statement out in a session's transaction; return the rows it gives.

    It goes through the driver alone and stays prepared, which takes a third of the time of ``session.execute``: for
    the statements that money waits for.  The session neither writes what it holds before, nor learns what changed.
    """
    # Asking the session for its connection takes as long as the rest, so that is done once in a transaction; and once
    # in each savepoint, which begins with it.
    transaction, cursor = session.info.get(_CURSOR, (None, None))
    if transaction is None or transaction is not _innermost(session):
        connection: Any = await session.connection()
        cursor = connection.sync_connection.connection.driver_connection.cursor()
        session.info[_CURSOR] = _innermost(session), cursor
    try:
        await cursor.execute(statement, values, prepare=True)
        return await cursor.fetchall() if cursor.description else []
    except psycopg.Error as error:
        raise DBAPIError.instance(statement, None, error, psycopg.Error, hide_parameters=True) from error


_CURSOR = "bkapp.cursor"


def _innermost(session: AsyncSession) -> Any:
    return session.sync_session.get_nested_transaction() or session.sync_session.get_transaction()


def adopt(session: AsyncSession, row: Table) -> None:
    """Let a session hold a row that :func:`carry_out` made, as if it had read it; all its columns are to be there."""
    make_transient_to_detached(row)
    session.add(row)


def remember(row: Table, **values: Any) -> None:
    """Let a row of a session say what the database holds by now, after :func:`carry_out` changed it there."""
    for name, value in values.items():
        set_committed_value(row, name, value)


def violated(error: IntegrityError) -> str | None:
    """The name of the constraint that an integrity error broke."""
    return getattr(getattr(error.orig, "diag", None), "constraint_name", None)


def is_outage(error: Exception) -> bool:
    """Whether an exception says that the database is away or has no time for us, and not that we are wrong."""
    if isinstance(error, NoConnectionFree):
        return True
    if not isinstance(error, OperationalError | InterfaceError):
        return False
    state = getattr(error.orig, "sqlstate", None)
    # 08 connection, 53 resources, 57P0x shutdown, 57014 timeout, 55P03 lock timeout, 40 serialization and deadlock
    return (
        error.connection_invalidated
        or (state or "08")[:2] in {"08", "53", "40"}
        or state in {"57P01", "57P02", "57P03", "57014", "55P03"}
    )
