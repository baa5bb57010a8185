"""What the geocoder needs: places of hamlets, roads and points of interest, keys of house numbers, jobs for files."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE place_source (
            id bigint GENERATED ALWAYS AS IDENTITY,
            kind varchar(32) NOT NULL,
            file_name text NOT NULL,
            sha256 text NOT NULL,
            source text NOT NULL,
            licence text NOT NULL,
            features integer NOT NULL,
            imported_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT pk_place_source PRIMARY KEY (id),
            CONSTRAINT uq_place_source_sha256_source_kind UNIQUE (sha256, source, kind),
            CONSTRAINT ck_place_source_kind CHECK (kind IN ('hamlets', 'places', 'osm'))
        )
    """)
    op.execute("""
        ALTER TABLE hamlet
            ADD COLUMN point geography(Point, 4326),
            ADD COLUMN place_source_id bigint,
            ADD CONSTRAINT fk_hamlet_place_source_id FOREIGN KEY (place_source_id) REFERENCES place_source (id)
    """)
    op.execute("CREATE INDEX ix_hamlet_point ON hamlet USING gist (point)")
    # A road that crosses communes has a row in each: people name the commune with it.
    op.execute("""
        CREATE TABLE place (
            id bigint GENERATED ALWAYS AS IDENTITY,
            kind varchar(32) NOT NULL,
            name text NOT NULL,
            unit_id bigint NOT NULL,
            point geography(Point, 4326) NOT NULL,
            source text NOT NULL,
            source_id text NOT NULL,
            place_source_id bigint NOT NULL,
            CONSTRAINT pk_place PRIMARY KEY (id),
            CONSTRAINT uq_place_source_source_id_unit_id UNIQUE (source, source_id, unit_id),
            CONSTRAINT fk_place_unit_id FOREIGN KEY (unit_id) REFERENCES admin_unit (id),
            CONSTRAINT fk_place_place_source_id FOREIGN KEY (place_source_id) REFERENCES place_source (id),
            CONSTRAINT ck_place_kind CHECK (kind IN ('road', 'poi'))
        )
    """)
    op.execute("CREATE INDEX ix_place_point ON place USING gist (point)")
    # Whoever keeps the names in memory asks for this number to learn that they have changed.
    op.execute("""
        CREATE TABLE gazetteer_head (
            single boolean NOT NULL DEFAULT true,
            version bigint NOT NULL,
            at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT pk_gazetteer_head PRIMARY KEY (single),
            CONSTRAINT ck_gazetteer_head_single CHECK (single)
        ) WITH (fillfactor = 10)
    """)
    op.execute("INSERT INTO gazetteer_head (version) VALUES (1)")
    op.execute("""
        CREATE FUNCTION raise_gazetteer_version() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            UPDATE gazetteer_head SET version = version + 1, at = clock_timestamp();
            RETURN NULL;
        END $$
    """)
    for table in ("admin_unit", "admin_unit_alias", "admin_unit_succession", "hamlet", "place"):
        op.execute(f"""
            CREATE TRIGGER {table}_is_in_gazetteer AFTER INSERT OR UPDATE OR DELETE ON {table}
            FOR EACH STATEMENT EXECUTE FUNCTION raise_gazetteer_version()
        """)
    # The one key of house numbers, for the index and for the question: "Số 014 a" and "14A" are the same door,
    # and so are "14/2A ngõ 5" and "14/2a, ngo 5".
    op.execute(r"""
        CREATE FUNCTION house_key(number text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
            SELECT regexp_replace(upper(regexp_replace(regexp_replace(regexp_replace(translate(lower(number), 'đ', 'd'),
                '^(số|so|nhà|nha|sn|no|km|[\s.:#])+', ''),
                '(ngõ|ngo|ngách|ngach|hẻm|hem|kiệt|kiet)', 'n', 'g'),
                '[^0-9a-z/+-]', '', 'g')), '(^|[^0-9])0+(?=[0-9])', '\1', 'g')
        $$
    """)
    op.execute("""
        CREATE INDEX ix_dwelling_hamlet_id_house_key ON dwelling (hamlet_id, house_key(house_number))
        WHERE status = 'current'
    """)
    op.execute("""
        CREATE INDEX ix_dwelling_unit_id_street_house_key ON dwelling (unit_id, street, house_key(house_number))
        WHERE status = 'current' AND street IS NOT NULL
    """)
    # Files of addresses that are too large to wait for.  They hold people's addresses, so they go after some days.
    op.execute("""
        CREATE TABLE geocode_job (
            id uuid NOT NULL DEFAULT gen_random_uuid(),
            caller text NOT NULL,
            status varchar(32) NOT NULL DEFAULT 'waiting',
            file_name text NOT NULL,
            options jsonb NOT NULL,
            input bytea,
            output bytea,
            rows_total integer NOT NULL DEFAULT 0,
            rows_done integer NOT NULL DEFAULT 0,
            rows_failed integer NOT NULL DEFAULT 0,
            problem text,
            created_at timestamptz NOT NULL DEFAULT now(),
            started_at timestamptz,
            finished_at timestamptz,
            CONSTRAINT pk_geocode_job PRIMARY KEY (id),
            CONSTRAINT ck_geocode_job_status CHECK (status IN ('waiting', 'running', 'done', 'failed')),
            CONSTRAINT ck_geocode_job_done CHECK ((status = 'done') = (output IS NOT NULL))
        )
    """)
    op.execute("CREATE INDEX ix_geocode_job_created_at ON geocode_job (created_at)")
