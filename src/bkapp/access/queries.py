"""What is asked of access for every request that names a key, each for many at once (see ``bkapp.db.Lookups``)."""

from bkapp.units.queries import SCOPE

# Keys by their public ids, each with the units that its mandate covers.
KEYS = f"""
SELECT k.key, a.secret_hash, a.role, a.expires_at, a.revoked_at,
    CASE WHEN a.unit_id IS NOT NULL THEN ARRAY({SCOPE.format(unit_id="a.unit_id")}) END
FROM unnest(%s::text[]) AS k(key) JOIN api_key a ON a.id = k.key"""

# Records reads, each written as a JSON array of reader, subject, what and request id.
RECORD_READS = """
INSERT INTO data_read (reader, subject, what, request_id)
SELECT r.row->>0, r.row->>1, r.row->>2, r.row->>3 FROM unnest(%s::text[]) AS k(key), CAST(k.key AS jsonb) AS r(row)
RETURNING request_id"""
