"""How migrations run: one transaction each, impatient of locks, one runner at a time."""

from alembic import context
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

import bkapp.models  # noqa: F401  (fills the metadata for `alembic check`)
from bkapp.config import load_settings
from bkapp.db import Table, driver_url

# Tables that other packages own.
FOREIGN = ("procrastinate_", "spatial_ref_sys", "alembic_version")


def ours(name: str | None, kind: str, _: object) -> bool:
    return not (kind == "table" and name is not None and name.startswith(FOREIGN))


def run() -> None:
    url = context.config.get_main_option("sqlalchemy.url") or driver_url(load_settings().database_url)
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        # Two deployments at once: the second waits here and then finds nothing to do.
        connection.execute(text("SELECT pg_advisory_lock(7236115)"))
        # A migration that cannot get its lock gives up rather than stop everybody behind it.
        connection.execute(text("SET lock_timeout = '4s'"))
        connection.execute(text("SET statement_timeout = '60s'"))
        connection.commit()
        context.configure(
            connection=connection,
            target_metadata=Table.metadata,
            include_name=ours,
            transaction_per_migration=True,
            compare_type=True,
        )
        with context.begin_transaction():
            context.run_migrations()


run()
