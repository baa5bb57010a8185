"""Consents, requests of data subjects, exports."""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE consent (
            id uuid NOT NULL DEFAULT gen_random_uuid(),
            person_id uuid NOT NULL,
            purpose text NOT NULL,
            text_version text NOT NULL,
            channel varchar(32) NOT NULL,
            given_at timestamptz NOT NULL DEFAULT now(),
            withdrawn_at timestamptz,
            withdrawn_channel varchar(32),
            CONSTRAINT pk_consent PRIMARY KEY (id),
            CONSTRAINT fk_consent_person_id FOREIGN KEY (person_id) REFERENCES person (id),
            CONSTRAINT ck_consent_channel CHECK (channel IN ('web', 'app', 'office')),
            CONSTRAINT ck_consent_withdrawn_channel CHECK (withdrawn_channel IN ('web', 'app', 'office')),
            CONSTRAINT ck_consent_withdrawn CHECK ((withdrawn_at IS NULL) = (withdrawn_channel IS NULL))
        )
    """)
    op.execute("CREATE UNIQUE INDEX uq_consent_person_id ON consent (person_id, purpose) WHERE withdrawn_at IS NULL")
    op.execute("CREATE INDEX ix_consent_person_id ON consent (person_id)")
    op.execute("""
        CREATE TABLE subject_request (
            id uuid NOT NULL DEFAULT gen_random_uuid(),
            person_id uuid NOT NULL,
            kind varchar(32) NOT NULL,
            status varchar(32) NOT NULL,
            details_cipher bytea,
            received_at timestamptz NOT NULL DEFAULT now(),
            acknowledge_by timestamptz NOT NULL,
            acknowledged_at timestamptz,
            due_at timestamptz NOT NULL,
            extended_at timestamptz,
            extension_reason text,
            closed_at timestamptz,
            closed_by text,
            outcome text,
            CONSTRAINT pk_subject_request PRIMARY KEY (id),
            CONSTRAINT fk_subject_request_person_id FOREIGN KEY (person_id) REFERENCES person (id),
            CONSTRAINT ck_subject_request_kind CHECK (
                kind IN ('access', 'rectify', 'erase', 'restrict', 'object', 'withdraw', 'provide')),
            CONSTRAINT ck_subject_request_status CHECK (status IN ('received', 'acknowledged', 'done', 'refused')),
            CONSTRAINT ck_subject_request_extended CHECK ((extended_at IS NULL) = (extension_reason IS NULL)),
            CONSTRAINT ck_subject_request_closed CHECK ((closed_at IS NULL) = (status IN ('received', 'acknowledged')))
        )
    """)
    op.execute("CREATE INDEX ix_subject_request_person_id ON subject_request (person_id)")
    op.execute("""
        CREATE INDEX ix_subject_request_due_at ON subject_request (due_at) WHERE closed_at IS NULL
    """)
    op.execute("""
        CREATE UNIQUE INDEX uq_subject_request_open ON subject_request (person_id, kind) WHERE closed_at IS NULL
    """)
