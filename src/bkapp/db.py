"""The database edge: one engine per process, one transaction per unit of work."""

from datetime import datetime
from enum import Enum

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
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
        # Our statements are short: compiling them to machine code costs more than it ever saves.
        connect_args={"connect_timeout": 5, "application_name": "bkapp", "options": "-c jit=off"},
    )


def sessions_of(engine: AsyncEngine) -> Sessions:
    """Sessions for work that writes: ``async with sessions.begin() as session``."""
    return async_sessionmaker(engine, expire_on_commit=False)


def readers_of(engine: AsyncEngine) -> Sessions:
    """Sessions for reading: each statement stands alone, so a look-up costs one round trip and not three."""
    return async_sessionmaker(
        engine.execution_options(isolation_level="AUTOCOMMIT"), expire_on_commit=False, autoflush=False
    )


def open_sessions(url: str) -> Sessions:
    """Sessions of an engine of their own, for commands and jobs."""
    return sessions_of(open_engine(url, pool_size=4))


def violated(error: IntegrityError) -> str | None:
    """The name of the constraint that an integrity error broke."""
    return getattr(getattr(error.orig, "diag", None), "constraint_name", None)
