"""Who lives together as the population register says, the addresses they claim, the members they invite."""

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE membership (
            id uuid NOT NULL DEFAULT gen_random_uuid(),
            household_id uuid NOT NULL,
            person_id uuid NOT NULL,
            role varchar(32) NOT NULL,
            relation text,
            source varchar(32) NOT NULL,
            status varchar(32) NOT NULL,
            unit_code text,
            created_at timestamptz NOT NULL DEFAULT now(),
            checked_at timestamptz,
            decided_at timestamptz,
            decided_by text,
            reason text,
            ended_at timestamptz,
            CONSTRAINT pk_membership PRIMARY KEY (id),
            CONSTRAINT fk_membership_household_id FOREIGN KEY (household_id) REFERENCES household (id),
            CONSTRAINT fk_membership_person_id FOREIGN KEY (person_id) REFERENCES person (id),
            CONSTRAINT ck_membership_role CHECK (role IN ('head', 'member')),
            CONSTRAINT ck_membership_source CHECK (source IN ('population', 'invitation')),
            CONSTRAINT ck_membership_status CHECK (status IN ('waiting', 'active', 'refused', 'ended'))
        )
    """)
    op.execute("""
        CREATE UNIQUE INDEX uq_membership_person_id ON membership (person_id) WHERE status IN ('waiting', 'active')
    """)
    op.execute("""
        CREATE UNIQUE INDEX uq_membership_head ON membership (household_id) WHERE status = 'active' AND role = 'head'
    """)
    op.execute("CREATE INDEX ix_membership_household_id ON membership (household_id)")
    op.execute("""
        CREATE INDEX ix_membership_invited ON membership (status, created_at, id) WHERE source = 'invitation'
    """)
    op.execute("""
        CREATE TABLE address_claim (
            id uuid NOT NULL DEFAULT gen_random_uuid(),
            household_id uuid NOT NULL,
            person_id uuid NOT NULL,
            code text NOT NULL,
            is_new boolean NOT NULL,
            status varchar(32) NOT NULL,
            unit_id bigint NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            decided_at timestamptz,
            decided_by text,
            reason text,
            CONSTRAINT pk_address_claim PRIMARY KEY (id),
            CONSTRAINT fk_address_claim_household_id FOREIGN KEY (household_id) REFERENCES household (id),
            CONSTRAINT fk_address_claim_person_id FOREIGN KEY (person_id) REFERENCES person (id),
            CONSTRAINT fk_address_claim_code FOREIGN KEY (code) REFERENCES dwelling (code),
            CONSTRAINT fk_address_claim_unit_id FOREIGN KEY (unit_id) REFERENCES admin_unit (id),
            CONSTRAINT ck_address_claim_status CHECK (status IN ('waiting', 'confirmed', 'refused', 'withdrawn'))
        )
    """)
    op.execute("""
        CREATE UNIQUE INDEX uq_address_claim_household_id ON address_claim (household_id) WHERE status = 'waiting'
    """)
    op.execute("CREATE INDEX ix_address_claim_status_created_at_id ON address_claim (status, created_at, id)")
    op.execute("CREATE INDEX ix_address_claim_person_id ON address_claim (person_id)")
    op.execute("""
        CREATE TABLE invitation (
            id uuid NOT NULL DEFAULT gen_random_uuid(),
            household_id uuid NOT NULL,
            invited_by uuid NOT NULL,
            secret_hash bytea NOT NULL,
            relation text,
            created_at timestamptz NOT NULL DEFAULT now(),
            expires_at timestamptz NOT NULL,
            used_at timestamptz,
            revoked_at timestamptz,
            CONSTRAINT pk_invitation PRIMARY KEY (id),
            CONSTRAINT uq_invitation_secret_hash UNIQUE (secret_hash),
            CONSTRAINT fk_invitation_household_id FOREIGN KEY (household_id) REFERENCES household (id),
            CONSTRAINT fk_invitation_invited_by FOREIGN KEY (invited_by) REFERENCES person (id)
        )
    """)
    op.execute("CREATE INDEX ix_invitation_household_id ON invitation (household_id)")
    # Every question to the population register, before it is asked and after (domain rule: who, when, what for).
    op.execute("""
        CREATE TABLE population_query (
            request_id text NOT NULL,
            person_id uuid NOT NULL,
            asked_by text NOT NULL,
            purpose text NOT NULL,
            asked_at timestamptz NOT NULL DEFAULT now(),
            answered_at timestamptz,
            outcome varchar(32),
            CONSTRAINT pk_population_query PRIMARY KEY (request_id),
            CONSTRAINT fk_population_query_person_id FOREIGN KEY (person_id) REFERENCES person (id),
            CONSTRAINT ck_population_query_outcome CHECK (
                outcome IN ('found', 'not_found', 'mismatch', 'refused', 'unavailable'))
        )
    """)
    op.execute("CREATE INDEX ix_population_query_person_id ON population_query (person_id)")
