"""Running the migrations from wherever bkapp is installed."""

from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from psycopg import sql

from bkapp.db import driver_url


def alembic_config() -> Config:
    """Alembic's configuration: the migrations beside the source, or inside an installed package."""
    inside = Path(__file__).parent / "migrations"
    config = Config()
    config.set_main_option(
        "script_location", str(inside if inside.exists() else Path(__file__).parents[2] / "migrations")
    )
    return config


def migrate(url: str) -> None:
    """Bring a database to the newest migration.  Waits for another runner; safe to repeat."""
    config = alembic_config()
    config.set_main_option("sqlalchemy.url", driver_url(url).replace("%", "%%"))
    command.upgrade(config, "head")


# What the app only adds to.  Triggers refuse changes to whoever asks; the role of the app is not even asked.
ADDED_TO = (
    "audit_entry",
    "audit_checkpoint",
    "read_seal",
    "data_read",
    "ledger_transaction",
    "payment_event",
    "refund_event",
)
# What only triggers write, as the owner of the tables.
READ_ONLY = ("ledger_head", "ledger_entry", "attempt_edge", "refund_edge", "alembic_version")


def grant_rights(url: str, role: str) -> None:
    """Give the role that serving and working act as what it needs and no more: it owns nothing and changes no book.

    The role is made where that is allowed and it is not there.
    """
    name = sql.Identifier(role)
    with psycopg.connect(driver_url(url).replace("postgresql+psycopg", "postgresql", 1)) as connection:
        there = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone()
        if there is None:
            connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(name))
            connection.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(name))
        for statement in (
            "REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {}",  # what was given by hand before, say
            "GRANT USAGE ON SCHEMA public TO {}",
            "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {}",
            "GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {}",
        ):
            connection.execute(sql.SQL(statement).format(name))
        for table in (*ADDED_TO, *READ_ONLY):
            rights = "UPDATE, DELETE, TRUNCATE" if table in ADDED_TO else "INSERT, UPDATE, DELETE, TRUNCATE"
            connection.execute(sql.SQL("REVOKE " + rights + " ON {} FROM {}").format(sql.Identifier(table), name))
