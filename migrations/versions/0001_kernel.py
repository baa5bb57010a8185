"""Extensions and the answers kept for idempotency keys."""

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    # Installed beforehand by whoever made the database where the app's role may not.
    for extension in ("postgis", "btree_gist", "pg_trgm"):
        op.execute(f"CREATE EXTENSION IF NOT EXISTS {extension}")
    op.execute("""
        CREATE TABLE idempotency_key (
            caller text NOT NULL,
            key text NOT NULL,
            fingerprint bytea NOT NULL,
            status integer NOT NULL,
            headers json NOT NULL,
            body bytea NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT pk_idempotency_key PRIMARY KEY (caller, key)
        )
    """)
    op.execute("CREATE INDEX ix_idempotency_key_created_at ON idempotency_key (created_at)")
