"""The names and places that the geocoder keeps in memory, and what it asks the register beside them."""

import asyncio

from msgspec import Struct
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.address.geocoding.gazetteer import AliasRow, Gazetteer, HamletRow, PlaceRow, StreetRow, UnitRow, street_key
from bkapp.address.models import FeedHead, GazetteerHead

# Where a hamlet has no point of its own, the middle of its homes stands for it, on a grid of some 500 m and only if
# there are a few: the middle of one home is the home.
FEWEST_HOMES = 5
_COARSE = "round({}::numeric * 200) / 200"
HAMLET_RADIUS_M = 800.0
SOMEWHERE_IN_COMMUNE_M = 5000.0
STREET_RADIUS_M = 1500.0

_UNITS = text("""
    SELECT u.id, u.code, u.level, u.kind, u.name, u.full_name, u.parent_id, u.valid_from::text AS valid_from,
        u.valid_to::text AS valid_to, ST_X(u.point::geometry) AS lon, ST_Y(u.point::geometry) AS lat,
        coalesce(sqrt(u.area_km2 / pi()) * 1000,
            CASE u.level WHEN 'commune' THEN 4000 WHEN 'district' THEN 15000 ELSE 40000 END) AS radius_m,
        i.value AS postcode, u.in_bac_kan
    FROM admin_unit u
    LEFT JOIN admin_unit_identifier i ON i.unit_id = u.id AND i.scheme = 'vnpost2018' AND i.valid_to IS NULL
    ORDER BY u.id
""")
_HEIRS = text("""
    WITH RECURSIVE line AS (
        SELECT old_id AS first, new_id AS id FROM admin_unit_succession
        UNION
        SELECT line.first, s.new_id FROM line JOIN admin_unit_succession s ON s.old_id = line.id)
    SELECT line.first, u.id FROM line JOIN admin_unit u ON u.id = line.id
    WHERE u.valid_to IS NULL AND u.level = 'commune' ORDER BY line.first, u.code
""")
_ALIASES = text("SELECT unit_id, name, source = 'vietnamadminunits' FROM admin_unit_alias ORDER BY unit_id, name")
_HAMLETS = text(f"""
    WITH RECURSIVE line AS (
        SELECT id AS last, id, predecessor_id, unit_id, name FROM hamlet WHERE valid_to IS NULL
        UNION ALL
        SELECT line.last, h.id, h.predecessor_id, h.unit_id, h.name
        FROM line JOIN hamlet h ON h.id = line.predecessor_id
    ), homes AS (
        SELECT hamlet_id, avg(ST_X(point::geometry)) AS lon, avg(ST_Y(point::geometry)) AS lat
        FROM dwelling WHERE status = 'current' AND hamlet_id IS NOT NULL
        GROUP BY hamlet_id HAVING count(*) >= {FEWEST_HOMES}
    )
    SELECT h.id, h.unit_id, h.name, h.qualifier,
        coalesce((SELECT u.id FROM line JOIN admin_unit u ON u.id = line.unit_id
                  WHERE line.last = h.id AND u.valid_to IS NOT NULL ORDER BY u.valid_to DESC LIMIT 1),
            (SELECT s.old_id FROM admin_unit_succession s JOIN admin_unit u ON u.id = s.old_id
             WHERE s.new_id = h.unit_id AND u.name = h.qualifier LIMIT 1),
            (SELECT u.id FROM admin_unit_piece p JOIN admin_unit u ON u.id = p.unit_id
             JOIN admin_unit_succession s ON s.old_id = u.id AND s.new_id = h.unit_id
             WHERE u.boundary_quality = 'official' AND ST_Intersects(p.geom, h.point::geometry) LIMIT 1)
        ) AS former_unit_id,
        ARRAY(SELECT DISTINCT line.name FROM line WHERE line.last = h.id AND line.name <> h.name) AS former_names,
        coalesce(ST_X(h.point::geometry), {_COARSE.format("homes.lon")}, ST_X(u.point::geometry))::float8 AS lon,
        coalesce(ST_Y(h.point::geometry), {_COARSE.format("homes.lat")}, ST_Y(u.point::geometry))::float8 AS lat,
        CASE WHEN h.point IS NOT NULL OR homes.lon IS NOT NULL THEN {HAMLET_RADIUS_M} ELSE {SOMEWHERE_IN_COMMUNE_M} END
            ::float8 AS radius_m,
        h.point IS NOT NULL OR homes.lon IS NOT NULL AS placed
    FROM hamlet h JOIN admin_unit u ON u.id = h.unit_id
    LEFT JOIN homes ON homes.hamlet_id = h.id
    WHERE h.valid_to IS NULL AND u.valid_to IS NULL ORDER BY h.id
""")
_STREETS = text(f"""
    SELECT s.unit_id, s.street, coalesce(s.lon, ST_X(u.point::geometry))::float8 AS lon,
        coalesce(s.lat, ST_Y(u.point::geometry))::float8 AS lat, false AS placed
    FROM (SELECT unit_id, street,
            CASE WHEN count(*) >= {FEWEST_HOMES} THEN {_COARSE.format("avg(ST_X(point::geometry))")} END AS lon,
            CASE WHEN count(*) >= {FEWEST_HOMES} THEN {_COARSE.format("avg(ST_Y(point::geometry))")} END AS lat
        FROM dwelling WHERE status = 'current' AND street IS NOT NULL GROUP BY unit_id, street) AS s
    JOIN admin_unit u ON u.id = s.unit_id
    UNION ALL
    SELECT unit_id, name, ST_X(point::geometry), ST_Y(point::geometry), true FROM place WHERE kind = 'road'
    ORDER BY unit_id, placed DESC, street
""")
_PLACES = text("""
    SELECT id, unit_id, name, ST_X(point::geometry), ST_Y(point::geometry) FROM place WHERE kind = 'poi' ORDER BY id
""")


class Heads(Struct, frozen=True):
    """Numbers that rise with every change of a name, and of an address."""

    names: int
    addresses: int


async def heads(session: AsyncSession) -> Heads:
    seq = select(FeedHead.seq).scalar_subquery()
    return Heads(*(await session.execute(select(GazetteerHead.version, seq))).one())


async def load_gazetteer(session: AsyncSession) -> Gazetteer:
    """All names of the register and where they are, as far as anybody may know."""
    heirs: dict[int, list[int]] = {}
    for old, new in await session.execute(_HEIRS):
        heirs.setdefault(old, []).append(new)
    units = [
        UnitRow(**row._mapping, heirs=tuple(heirs.get(row.id, ())))  # noqa: SLF001  (public in spite of its name)
        for row in await session.execute(_UNITS)
    ]
    # Each statement sees its own moment: what lies in a unit that was made since waits for the next time.
    known = {unit.id for unit in units}
    hamlets = [
        HamletRow(**{**row._mapping, "former_names": tuple(row.former_names)})  # noqa: SLF001
        for row in await session.execute(_HAMLETS)
        if row.unit_id in known
    ]
    streets: dict[tuple[int, str], StreetRow] = {}
    for unit_id, name, lon, lat, _ in await session.execute(_STREETS):
        place = (unit_id, street_key(name))
        there = streets.get(place)
        if unit_id not in known:
            continue
        if there is None:
            streets[place] = StreetRow(unit_id, name, (name,), lon, lat, STREET_RADIUS_M)
        else:
            streets[place] = StreetRow(
                unit_id, there.name, (*there.spellings, name), there.lon, there.lat, STREET_RADIUS_M
            )
    aliases = [AliasRow(*row) for row in await session.execute(_ALIASES) if row[0] in known]
    places = [PlaceRow(*row) for row in await session.execute(_PLACES) if row[1] in known]
    # In a thread, so that those who search meanwhile wait for a slice of it at the most.
    return await asyncio.to_thread(
        Gazetteer, units=units, aliases=aliases, hamlets=hamlets, streets=list(streets.values()), places=places
    )


# The doors of some (hamlet, number) or (commune, street, number), each as a key: h|12|14A, s|7|14A|Trường Chinh.
# The number is made a key by the function that the index uses.
HOUSES = """
SELECT k.key, found.doors
FROM unnest(%s::text[]) AS k(key)
CROSS JOIN LATERAL (
    SELECT jsonb_agg(jsonb_build_array(d.code, d.house_number, d.street, d.unit_id, d.hamlet_id,
        ST_X(d.point::geometry), ST_Y(d.point::geometry), d.is_demo)) AS doors
    FROM (
        (SELECT d.* FROM dwelling d
         WHERE left(k.key, 1) = 'h' AND d.status = 'current' AND d.hamlet_id = split_part(k.key, '|', 2)::bigint
             AND house_key(d.house_number) = house_key(split_part(k.key, '|', 3)) ORDER BY d.code LIMIT 20)
        UNION ALL
        (SELECT d.* FROM dwelling d
         WHERE left(k.key, 1) = 's' AND d.status = 'current' AND d.unit_id = split_part(k.key, '|', 2)::bigint
             AND d.street = split_part(k.key, '|', 4)
             AND house_key(d.house_number) = house_key(split_part(k.key, '|', 3)) ORDER BY d.code LIMIT 20)
    ) AS d
) AS found
WHERE found.doors IS NOT NULL"""

_INSIDE = """
    SELECT u.id FROM admin_unit_piece p JOIN admin_unit u ON u.id = p.unit_id
    WHERE ST_Intersects(p.geom, here.at) AND u.level = 'commune' AND u.in_bac_kan AND u.valid_to IS NULL
    ORDER BY u.boundary_quality = 'official' DESC, u.code LIMIT 1"""
_HERE = """
FROM unnest(%s::text[]) AS k(key)
CROSS JOIN LATERAL (
    SELECT ST_SetSRID(ST_MakePoint(split_part(k.key, ' ', 1)::float8, split_part(k.key, ' ', 2)::float8), 4326) AS at
) AS here"""

# The commune around some points, each as a key "lon lat".
INSIDE = f"SELECT k.key, u.id {_HERE} CROSS JOIN LATERAL ({_INSIDE}) AS u"

# The same with the nearest home, for those who may see it.
AROUND = f"""
SELECT k.key, u.id, d.code, d.house_number, d.street, d.unit_id, d.hamlet_id, d.lon, d.lat, d.metres {_HERE}
LEFT JOIN LATERAL (
    SELECT d.code, d.house_number, d.street, d.unit_id, d.hamlet_id, ST_X(d.point::geometry) AS lon,
        ST_Y(d.point::geometry) AS lat, d.point <-> here.at::geography AS metres
    FROM dwelling d WHERE d.status = 'current'
    ORDER BY d.point <-> here.at::geography LIMIT 1
) AS d ON true
LEFT JOIN LATERAL ({_INSIDE}) AS u ON true"""
