"""People, how they sign in, and their sessions."""

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE person (
            id uuid NOT NULL DEFAULT gen_random_uuid(),
            number_hmac bytea,
            number_cipher bytea,
            name_cipher bytea,
            birth_cipher bytea,
            phone_cipher bytea,
            level integer NOT NULL,
            is_demo boolean NOT NULL DEFAULT false,
            created_at timestamptz NOT NULL DEFAULT now(),
            restricted_at timestamptz,
            erased_at timestamptz,
            CONSTRAINT pk_person PRIMARY KEY (id),
            CONSTRAINT uq_person_number_hmac UNIQUE (number_hmac),
            CONSTRAINT ck_person_level CHECK (level BETWEEN 0 AND 3),
            CONSTRAINT ck_person_erased CHECK (
                CASE WHEN erased_at IS NULL THEN number_hmac IS NOT NULL AND number_cipher IS NOT NULL
                ELSE num_nonnulls(number_hmac, number_cipher, name_cipher, birth_cipher, phone_cipher) = 0 END)
        )
    """)
    # The provider's own name for a person may be their number, so it is kept as an HMAC only.
    op.execute("""
        CREATE TABLE eid_subject (
            issuer text NOT NULL,
            subject_hmac bytea NOT NULL,
            person_id uuid NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT pk_eid_subject PRIMARY KEY (issuer, subject_hmac),
            CONSTRAINT fk_eid_subject_person_id FOREIGN KEY (person_id) REFERENCES person (id)
        )
    """)
    op.execute("CREATE INDEX ix_eid_subject_person_id ON eid_subject (person_id)")
    op.execute("""
        CREATE TABLE role_grant (
            id uuid NOT NULL DEFAULT gen_random_uuid(),
            person_id uuid NOT NULL,
            role varchar(32) NOT NULL,
            unit_id bigint,
            granted_at timestamptz NOT NULL DEFAULT now(),
            granted_by text NOT NULL,
            expires_at timestamptz,
            ended_at timestamptz,
            CONSTRAINT pk_role_grant PRIMARY KEY (id),
            CONSTRAINT fk_role_grant_person_id FOREIGN KEY (person_id) REFERENCES person (id),
            CONSTRAINT fk_role_grant_unit_id FOREIGN KEY (unit_id) REFERENCES admin_unit (id),
            CONSTRAINT ck_role_grant_role CHECK (role IN ('officer', 'monitor', 'admin')),
            CONSTRAINT ck_role_grant_officer_has_unit CHECK ((role = 'officer') = (unit_id IS NOT NULL))
        )
    """)
    op.execute("CREATE UNIQUE INDEX uq_role_grant_person_id ON role_grant (person_id) WHERE ended_at IS NULL")
    # What a browser or app must bring back from the provider; lives for minutes and is used once.
    op.execute("""
        CREATE TABLE sign_in_attempt (
            state_hash bytea NOT NULL,
            issuer text NOT NULL,
            nonce text NOT NULL,
            verifier text NOT NULL,
            browser_hash bytea NOT NULL,
            next text NOT NULL,
            native_redirect text,
            native_challenge text,
            native_state text,
            max_age integer,
            acr text,
            created_at timestamptz NOT NULL DEFAULT now(),
            expires_at timestamptz NOT NULL,
            used_at timestamptz,
            CONSTRAINT pk_sign_in_attempt PRIMARY KEY (state_hash),
            CONSTRAINT ck_sign_in_attempt_native CHECK (
                num_nonnulls(native_redirect, native_challenge) IN (0, 2))
        )
    """)
    op.execute("CREATE INDEX ix_sign_in_attempt_expires_at ON sign_in_attempt (expires_at)")
    op.execute("""
        CREATE TABLE sign_in (
            id uuid NOT NULL DEFAULT gen_random_uuid(),
            person_id uuid NOT NULL,
            kind varchar(32) NOT NULL,
            secret_hash bytea,
            level integer NOT NULL,
            acr text,
            authenticated_at timestamptz NOT NULL,
            issuer text NOT NULL,
            provider_sid text,
            device text NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            seen_at timestamptz NOT NULL DEFAULT now(),
            expires_at timestamptz NOT NULL,
            ended_at timestamptz,
            end_reason varchar(32),
            CONSTRAINT pk_sign_in PRIMARY KEY (id),
            CONSTRAINT uq_sign_in_secret_hash UNIQUE (secret_hash),
            CONSTRAINT fk_sign_in_person_id FOREIGN KEY (person_id) REFERENCES person (id),
            CONSTRAINT ck_sign_in_kind CHECK (kind IN ('browser', 'native')),
            CONSTRAINT ck_sign_in_secret CHECK (secret_hash IS NULL OR kind = 'browser'),
            CONSTRAINT ck_sign_in_end_reason CHECK (
                end_reason IN ('signed_out', 'remote', 'everywhere', 'provider', 'reuse', 'renewed', 'erased')),
            CONSTRAINT ck_sign_in_ended CHECK ((ended_at IS NULL) = (end_reason IS NULL))
        )
    """)
    op.execute("CREATE INDEX ix_sign_in_person_id ON sign_in (person_id)")
    op.execute("CREATE INDEX ix_sign_in_provider_sid ON sign_in (issuer, provider_sid)")
    op.execute("""
        CREATE TABLE refresh_token (
            hash bytea NOT NULL,
            sign_in_id uuid NOT NULL,
            issued_at timestamptz NOT NULL DEFAULT now(),
            rotated_at timestamptz,
            successor_cipher bytea,
            CONSTRAINT pk_refresh_token PRIMARY KEY (hash),
            CONSTRAINT fk_refresh_token_sign_in_id FOREIGN KEY (sign_in_id) REFERENCES sign_in (id) ON DELETE CASCADE
        )
    """)
    op.execute("CREATE UNIQUE INDEX uq_refresh_token_sign_in_id ON refresh_token (sign_in_id) WHERE rotated_at IS NULL")
    op.execute("CREATE INDEX ix_refresh_token_sign_in_id ON refresh_token (sign_in_id)")
    op.execute("""
        CREATE TABLE native_code (
            hash bytea NOT NULL,
            sign_in_id uuid NOT NULL,
            challenge text NOT NULL,
            redirect text NOT NULL,
            expires_at timestamptz NOT NULL,
            used_at timestamptz,
            CONSTRAINT pk_native_code PRIMARY KEY (hash),
            CONSTRAINT fk_native_code_sign_in_id FOREIGN KEY (sign_in_id) REFERENCES sign_in (id) ON DELETE CASCADE
        )
    """)
    # Logout tokens and the like are good once.
    op.execute("""
        CREATE TABLE used_token (
            issuer text NOT NULL,
            jti text NOT NULL,
            expires_at timestamptz NOT NULL,
            CONSTRAINT pk_used_token PRIMARY KEY (issuer, jti)
        )
    """)
    # What a citizen must be told when they next look: another device signed in, a stolen token was used.
    op.execute("""
        CREATE TABLE notice (
            id uuid NOT NULL DEFAULT gen_random_uuid(),
            person_id uuid NOT NULL,
            kind text NOT NULL,
            data jsonb NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            read_at timestamptz,
            CONSTRAINT pk_notice PRIMARY KEY (id),
            CONSTRAINT fk_notice_person_id FOREIGN KEY (person_id) REFERENCES person (id)
        )
    """)
    op.execute("CREATE INDEX ix_notice_person_id ON notice (person_id)")
