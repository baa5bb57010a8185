"""Running the migrations from wherever bkapp is installed."""

from pathlib import Path

from alembic import command
from alembic.config import Config

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
