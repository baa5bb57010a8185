"""The job queue: procrastinate's own schema, as its release 3.10.0 ships it.

Kept as a copy so that this migration always makes the same tables; a test tells
when the installed release has another schema and a new migration is due.
"""

from pathlib import Path

from alembic import op

revision = "0002"
down_revision = "0001"

SCHEMA = Path(__file__).parents[1] / "sql" / "procrastinate-3.10.0.sql"


def upgrade() -> None:
    # Straight to the driver: many statements at once, and their % signs are not placeholders.
    op.get_bind().connection.driver_connection.execute(SCHEMA.read_text())
