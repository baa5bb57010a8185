"""API keys and the record of reads of personal data."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE api_key (
            id text NOT NULL,
            secret_hash bytea NOT NULL,
            label text NOT NULL,
            role varchar(32) NOT NULL,
            unit_id bigint,
            created_at timestamptz NOT NULL DEFAULT now(),
            expires_at timestamptz,
            revoked_at timestamptz,
            CONSTRAINT pk_api_key PRIMARY KEY (id),
            CONSTRAINT fk_api_key_unit_id FOREIGN KEY (unit_id) REFERENCES admin_unit (id),
            CONSTRAINT ck_api_key_officer_has_unit CHECK ((role = 'officer') = (unit_id IS NOT NULL)),
            CONSTRAINT ck_api_key_role CHECK (role IN ('officer', 'monitor', 'admin'))
        )
    """)
    op.execute("""
        CREATE TABLE data_read (
            id bigint GENERATED ALWAYS AS IDENTITY,
            read_at timestamptz NOT NULL DEFAULT now(),
            key_id text NOT NULL,
            subject text NOT NULL,
            what text NOT NULL,
            request_id text NOT NULL,
            CONSTRAINT pk_data_read PRIMARY KEY (id),
            CONSTRAINT fk_data_read_key_id FOREIGN KEY (key_id) REFERENCES api_key (id)
        )
    """)
    op.execute("CREATE INDEX ix_data_read_subject_read_at ON data_read (subject, read_at)")
