"""Administrative units through time, what became of them, and their boundaries."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE boundary_source (
            id bigint GENERATED ALWAYS AS IDENTITY,
            file_name text NOT NULL,
            sha256 text NOT NULL,
            source text NOT NULL,
            licence text NOT NULL,
            level varchar(32) NOT NULL,
            as_of date NOT NULL,
            features integer NOT NULL,
            imported_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT pk_boundary_source PRIMARY KEY (id),
            CONSTRAINT uq_boundary_source_sha256_as_of UNIQUE (sha256, as_of),
            CONSTRAINT ck_boundary_source_level CHECK (level IN ('province', 'district', 'commune'))
        )
    """)
    # Codes are given again to other units, so a code means something only on a day, and then one thing.
    op.execute("""
        CREATE TABLE admin_unit (
            id bigint GENERATED ALWAYS AS IDENTITY,
            code text NOT NULL,
            level varchar(32) NOT NULL,
            kind text NOT NULL,
            name text NOT NULL,
            full_name text NOT NULL,
            folded text NOT NULL,
            parent_id bigint,
            valid_from date NOT NULL,
            valid_to date,
            decree text,
            in_bac_kan boolean NOT NULL,
            point geography(Point, 4326) NOT NULL,
            area_km2 double precision,
            boundary geometry(MultiPolygon, 4326),
            boundary_quality varchar(32),
            boundary_source_id bigint,
            CONSTRAINT pk_admin_unit PRIMARY KEY (id),
            CONSTRAINT uq_admin_unit_code_valid_from UNIQUE (code, valid_from),
            CONSTRAINT ex_admin_unit_one_meaning_per_day
                EXCLUDE USING gist (code WITH =, daterange(valid_from, valid_to) WITH &&),
            CONSTRAINT fk_admin_unit_parent_id FOREIGN KEY (parent_id) REFERENCES admin_unit (id),
            CONSTRAINT fk_admin_unit_boundary_source_id
                FOREIGN KEY (boundary_source_id) REFERENCES boundary_source (id),
            CONSTRAINT ck_admin_unit_level CHECK (level IN ('province', 'district', 'commune')),
            CONSTRAINT ck_admin_unit_code CHECK (code ~ CASE level
                WHEN 'province' THEN '^[0-9]{2}$' WHEN 'district' THEN '^[0-9]{3}$' ELSE '^[0-9]{5}$' END),
            CONSTRAINT ck_admin_unit_period CHECK (valid_to > valid_from),
            CONSTRAINT ck_admin_unit_quality CHECK (boundary_quality IN ('official', 'approximate')),
            CONSTRAINT ck_admin_unit_boundary_has_quality CHECK ((boundary IS NULL) = (boundary_quality IS NULL)),
            CONSTRAINT ck_admin_unit_official_has_source
                CHECK ((boundary_quality IS NOT DISTINCT FROM 'official') = (boundary_source_id IS NOT NULL))
        )
    """)
    op.execute("CREATE INDEX ix_admin_unit_parent_id ON admin_unit (parent_id)")
    op.execute("""
        CREATE TABLE admin_unit_piece (
            id bigint GENERATED ALWAYS AS IDENTITY,
            unit_id bigint NOT NULL,
            geom geometry(Polygon, 4326) NOT NULL,
            CONSTRAINT pk_admin_unit_piece PRIMARY KEY (id),
            CONSTRAINT fk_admin_unit_piece_unit_id FOREIGN KEY (unit_id) REFERENCES admin_unit (id) ON DELETE CASCADE
        )
    """)
    op.execute("CREATE INDEX ix_admin_unit_piece_geom ON admin_unit_piece USING gist (geom)")
    op.execute("CREATE INDEX ix_admin_unit_piece_unit_id ON admin_unit_piece (unit_id)")
    op.execute("""
        CREATE TABLE admin_unit_succession (
            old_id bigint NOT NULL,
            new_id bigint NOT NULL,
            effective date NOT NULL,
            decree text NOT NULL,
            kind varchar(32) NOT NULL,
            CONSTRAINT pk_admin_unit_succession PRIMARY KEY (old_id, new_id),
            CONSTRAINT fk_admin_unit_succession_old_id FOREIGN KEY (old_id) REFERENCES admin_unit (id),
            CONSTRAINT fk_admin_unit_succession_new_id FOREIGN KEY (new_id) REFERENCES admin_unit (id),
            CONSTRAINT ck_admin_unit_succession_kind CHECK (kind IN ('whole', 'unchanged')),
            CONSTRAINT ck_admin_unit_succession_moves CHECK (old_id <> new_id)
        )
    """)
    op.execute("CREATE INDEX ix_admin_unit_succession_new_id ON admin_unit_succession (new_id)")
    op.execute("""
        CREATE TABLE admin_unit_alias (
            unit_id bigint NOT NULL,
            name text NOT NULL,
            folded text NOT NULL,
            source text NOT NULL,
            CONSTRAINT pk_admin_unit_alias PRIMARY KEY (unit_id, name),
            CONSTRAINT fk_admin_unit_alias_unit_id FOREIGN KEY (unit_id) REFERENCES admin_unit (id) ON DELETE CASCADE
        )
    """)
    op.execute("""
        CREATE TABLE admin_unit_identifier (
            unit_id bigint NOT NULL,
            scheme text NOT NULL,
            value text NOT NULL,
            valid_from date NOT NULL,
            valid_to date,
            CONSTRAINT pk_admin_unit_identifier PRIMARY KEY (unit_id, scheme, valid_from),
            CONSTRAINT ex_admin_unit_identifier_one_value_at_a_time
                EXCLUDE USING gist (unit_id WITH =, scheme WITH =, daterange(valid_from, valid_to) WITH &&),
            CONSTRAINT fk_admin_unit_identifier_unit_id
                FOREIGN KEY (unit_id) REFERENCES admin_unit (id) ON DELETE CASCADE,
            CONSTRAINT ck_admin_unit_identifier_period CHECK (valid_to > valid_from)
        )
    """)
    op.execute("CREATE INDEX ix_admin_unit_identifier_scheme_value ON admin_unit_identifier (scheme, value)")
