"""The audit chain, who reads data beside keys, and keys for partners."""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    # A reader is a key or a person who has signed in; which one, its form tells.
    op.execute("ALTER TABLE data_read DROP CONSTRAINT fk_data_read_key_id")
    op.execute("ALTER TABLE data_read RENAME COLUMN key_id TO reader")
    op.execute("ALTER TABLE api_key DROP CONSTRAINT ck_api_key_role")
    op.execute("""
        ALTER TABLE api_key ADD CONSTRAINT ck_api_key_role CHECK (role IN ('officer', 'monitor', 'partner', 'admin'))
    """)
    op.execute("""
        CREATE TABLE audit_head (
            single boolean NOT NULL DEFAULT true,
            seq bigint NOT NULL,
            hash bytea NOT NULL,
            CONSTRAINT pk_audit_head PRIMARY KEY (single),
            CONSTRAINT ck_audit_head_single CHECK (single)
        )
    """)
    op.execute("INSERT INTO audit_head (seq, hash) VALUES (0, sha256('bkapp audit'))")
    op.execute("""
        CREATE TABLE audit_entry (
            seq bigint NOT NULL,
            at timestamptz NOT NULL,
            kind text NOT NULL,
            actor text NOT NULL,
            subject text NOT NULL,
            data text NOT NULL,
            previous bytea NOT NULL,
            hash bytea NOT NULL,
            CONSTRAINT pk_audit_entry PRIMARY KEY (seq)
        )
    """)
    op.execute("CREATE INDEX ix_audit_entry_subject_seq ON audit_entry (subject, seq)")
    # Each field goes in with its length in bytes, so that no two entries are written alike.
    op.execute("""
        CREATE FUNCTION audit_digest(previous bytea, seq bigint, at timestamptz, VARIADIC fields text[]) RETURNS bytea
        LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
            SELECT sha256(convert_to(
                encode(previous, 'hex') || chr(10) || seq || chr(10)
                || (extract(epoch FROM at) * 1000000)::bigint || chr(10)
                || (SELECT string_agg(octet_length(f.field) || ':' || f.field, chr(10) ORDER BY f.place)
                    FROM unnest(fields) WITH ORDINALITY AS f(field, place)), 'UTF8'))
        $$
    """)
    # The row of the head is what those who append wait for; it is written once for each entry, because a transaction
    # that reads for long (a backup, say) keeps all its old versions where every append has to step over them.
    op.execute("""
        CREATE FUNCTION audit_append() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            SELECT h.seq + 1, h.hash INTO STRICT NEW.seq, NEW.previous FROM audit_head h FOR UPDATE;
            NEW.at := clock_timestamp();
            NEW.hash := audit_digest(NEW.previous, NEW.seq, NEW.at, NEW.kind, NEW.actor, NEW.subject, NEW.data);
            UPDATE audit_head SET seq = NEW.seq, hash = NEW.hash;
            RETURN NEW;
        END $$
    """)
    op.execute("""
        CREATE TRIGGER audit_entry_append BEFORE INSERT ON audit_entry
        FOR EACH ROW EXECUTE FUNCTION audit_append()
    """)
    op.execute("""
        CREATE FUNCTION audit_keep() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'the table % is only added to', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
        END $$
    """)
    op.execute("""
        CREATE TABLE audit_checkpoint (
            seq bigint NOT NULL,
            made_at timestamptz NOT NULL,
            hash bytea NOT NULL,
            token text NOT NULL,
            CONSTRAINT pk_audit_checkpoint PRIMARY KEY (seq)
        )
    """)
    # Reads are many and recorded together, so they are sealed afterwards: each seal is an entry of the chain.
    op.execute("""
        CREATE TABLE read_seal (
            last_id bigint NOT NULL,
            first_id bigint NOT NULL,
            count bigint NOT NULL,
            digest bytea NOT NULL,
            entry_seq bigint NOT NULL,
            CONSTRAINT pk_read_seal PRIMARY KEY (last_id),
            CONSTRAINT fk_read_seal_entry_seq FOREIGN KEY (entry_seq) REFERENCES audit_entry (seq)
        )
    """)
    for table in ("audit_entry", "audit_checkpoint", "read_seal", "data_read"):
        op.execute(f"""
            CREATE TRIGGER {table}_keep BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
            FOR EACH STATEMENT EXECUTE FUNCTION audit_keep()
        """)
    # What the trigger of an entry does to the head goes on; what anybody else does is refused.
    op.execute("""
        CREATE TRIGGER audit_head_keep BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON audit_head
        FOR EACH STATEMENT WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION audit_keep()
    """)
