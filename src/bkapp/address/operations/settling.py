"""Moving addresses to other units when units change: succession after a merger, or a boundary that became official.

The codes stay.  All of it is done in sets, because a merger of communes touches
every home in them, and still every home gets its event.
"""

from collections.abc import Collection
from datetime import date

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.address.changes import Changed, append, clock
from bkapp.address.models import ATTRIBUTES
from bkapp.address.operations.placing import PLACING
from bkapp.address.rules import Change

# Homes whose commune has ended, with the commune that took it over: the only one, or else the one they lie in.
_EXPIRED = """
    SELECT DISTINCT ON (d.code) d.code, heir.id AS unit_id, heir.valid_from AS effective
    FROM dwelling d
    JOIN admin_unit u ON u.id = d.unit_id AND u.valid_to <= :today
    JOIN admin_unit_succession s ON s.old_id = u.id
    JOIN admin_unit heir ON heir.id = s.new_id AND heir.level = 'commune'
    WHERE d.status IN ('proposed', 'current')
    ORDER BY d.code,
        EXISTS (SELECT FROM admin_unit_piece p
                WHERE p.unit_id = heir.id AND ST_Covers(p.geom, d.point::geometry)) DESC, heir.id
"""

# Homes that lie in another commune of today than the one they were put in when its boundary was a guess.
_MISPLACED = """
    SELECT DISTINCT ON (d.code) d.code, there.id AS unit_id, there.valid_from AS effective
    FROM dwelling d
    JOIN admin_unit_piece p ON ST_Covers(p.geom, d.point::geometry)
    JOIN admin_unit there ON there.id = p.unit_id AND there.level = 'commune' AND there.in_bac_kan
        AND there.valid_to IS NULL AND there.boundary_quality = 'official'
    WHERE d.status IN ('proposed', 'current') AND there.id <> d.unit_id
        AND (d.unit_id = ANY(:units) OR there.id = ANY(:units))
    ORDER BY d.code, there.id
"""

_OF_HAMLET = """
    SELECT d.code, d.unit_id, greatest(d.began, CAST(:on AS date)) AS effective
    FROM dwelling d WHERE d.hamlet_id = :hamlet AND d.status IN ('proposed', 'current')
"""

_KEPT = ", ".join(name for name in ATTRIBUTES if name not in {"unit_id", "hamlet_id"})


async def settle_units(session: AsyncSession, *, today: date, actor: str, changed_units: Collection[int] = ()) -> int:
    """Put every living address into the commune it belongs to today; return how many changed.

    ``changed_units`` are the units whose boundary was just imported.  Safe to
    repeat: what is settled stays.
    """
    await session.execute(select(func.pg_advisory_xact_lock(PLACING)))
    await succeed_hamlets(session, today=today, actor=actor)
    count = 0
    # A unit may have been followed by one that ended as well: every step is a change with its own day.
    while moved := await _apply(session, _EXPIRED, {"today": today}, actor, _HEIR):
        count += moved
    if changed_units:
        count += await _apply(session, _MISPLACED, {"units": sorted(changed_units)}, actor, _NO_HAMLET)
    return count


async def rehouse_in_hamlet(session: AsyncSession, old_id: int, new_id: int, *, on: date, actor: str) -> int:
    """Put the living homes of a hamlet into another row of the same commune from a day on; return how many."""
    return await _apply(
        session, _OF_HAMLET, {"hamlet": old_id, "on": on}, actor, str(int(new_id)), Change.HAMLET_CHANGED
    )


# Hamlets of an ended commune that nothing followed yet, with the commune that took it over.
_ENDING = """
    SELECT h.id, h.name, h.qualifier, h.key, h.source, h.point, h.place_source_id, h.unit_id AS old_id,
        u.valid_to AS on_day, u.name AS commune,
        -- the folded name without its kind (Xã, Thị trấn): folding keeps the length of a name in NFC
        h.key || ' ' || substr(u.folded, length(u.folded) - length(u.name) + 1) AS long_key,
        s.new_id AS unit_id
    FROM hamlet h
    JOIN admin_unit u ON u.id = h.unit_id AND u.valid_to <= :today
    JOIN admin_unit_succession s ON s.old_id = u.id
    WHERE (h.valid_to IS NULL OR h.valid_to > u.valid_to) AND h.valid_from < u.valid_to
        AND NOT EXISTS (SELECT FROM hamlet n WHERE n.predecessor_id = h.id)
"""
_ANY_ENDING = text(f"SELECT EXISTS ({_ENDING})")
# A namesake that came earlier from another commune, when it was the only one of its name.
_TELL_EARLIER_APART = text(f"""
    WITH ending AS ({_ENDING})
    UPDATE hamlet n SET qualifier = u.name,
        key = n.key || ' ' || substr(u.folded, length(u.folded) - length(u.name) + 1)
    FROM hamlet o JOIN admin_unit u ON u.id = o.unit_id
    WHERE n.predecessor_id = o.id AND n.key = o.key AND n.qualifier IS NULL AND n.unit_id <> o.unit_id
        AND EXISTS (SELECT FROM ending e WHERE e.unit_id = n.unit_id AND e.key = n.key AND e.old_id <> o.unit_id)
        AND NOT EXISTS (SELECT FROM hamlet x WHERE x.unit_id = n.unit_id
            AND x.key = n.key || ' ' || substr(u.folded, length(u.folded) - length(u.name) + 1))
    RETURNING n.id, n.valid_from
""")
_GO_ON = text(f"""
    WITH ending AS ({_ENDING}),
        closed AS (
            UPDATE hamlet h SET valid_to = e.on_day FROM ending e WHERE h.id = e.id RETURNING h.id)
    INSERT INTO hamlet (unit_id, name, qualifier, key, valid_from, predecessor_id, source, point, place_source_id)
    SELECT e.unit_id, e.name,
        CASE WHEN apart THEN e.commune ELSE e.qualifier END,
        CASE WHEN apart THEN e.long_key ELSE e.key END,
        e.on_day, e.id, e.source, e.point, e.place_source_id
    FROM ending e
    JOIN closed USING (id)
    CROSS JOIN LATERAL (SELECT
        EXISTS (SELECT FROM ending o WHERE o.unit_id = e.unit_id AND o.key = e.key AND o.id <> e.id)
        OR EXISTS (SELECT FROM hamlet n LEFT JOIN hamlet o ON o.id = n.predecessor_id
                   WHERE n.unit_id = e.unit_id AND (n.key = e.long_key OR n.predecessor_id IS NOT NULL AND n.key = e.key
                       OR o.unit_id <> n.unit_id AND o.key = e.key)) AS apart) twins
    -- Somebody may have opened it under the new commune already.
    ON CONFLICT DO NOTHING
    RETURNING id
""")
# What somebody opened under the new commune already is what the hamlet became.
_BECOME = text("""
    UPDATE hamlet n SET predecessor_id = h.id, point = coalesce(n.point, h.point),
        place_source_id = CASE WHEN n.point IS NULL THEN h.place_source_id ELSE n.place_source_id END
    FROM (
        SELECT DISTINCT ON (n.id) n.id AS heir, h.*
        FROM hamlet h
        JOIN admin_unit u ON u.id = h.unit_id AND u.valid_to = h.valid_to
        JOIN admin_unit_succession s ON s.old_id = u.id
        JOIN hamlet n ON n.unit_id = s.new_id AND n.predecessor_id IS NULL
            AND (n.valid_to IS NULL OR n.valid_to > u.valid_to)
            AND n.key IN (h.key, h.key || ' ' || substr(u.folded, length(u.folded) - length(u.name) + 1))
        WHERE NOT EXISTS (SELECT FROM hamlet o WHERE o.predecessor_id = h.id)
        ORDER BY n.id, n.key = h.key, h.id) h
    WHERE n.id = h.heir
""")


async def succeed_hamlets(session: AsyncSession, *, today: date, actor: str) -> int:
    """Let the hamlets of ended communes go on under what followed; return how many did.

    Two of one name are told apart by the commune they were in, also where one of them came earlier: then its homes get
    an event.  The caller holds the lock ``PLACING``.
    """
    count = 0
    while await session.scalar(_ANY_ENDING, {"today": today}):
        for hamlet_id, since in (await session.execute(_TELL_EARLIER_APART, {"today": today})).all():
            await rehouse_in_hamlet(session, hamlet_id, hamlet_id, on=since, actor=actor)
        made = len((await session.execute(_GO_ON, {"today": today})).all())
        await session.execute(_BECOME)
        count += made
    return count


# The hamlet that a home's hamlet became: its successor, or one of its name that was opened under the new commune.
_HEIR = """(SELECT n.id FROM hamlet n JOIN hamlet o ON o.id = d.hamlet_id
            WHERE n.unit_id = m.unit_id AND n.valid_to IS NULL AND (n.predecessor_id = o.id OR n.key = o.key)
            ORDER BY n.predecessor_id = o.id DESC NULLS LAST LIMIT 1)"""
# A home that lies in another commune than its people thought lies in none of that commune's hamlets we know of, even
# where one has the same name.
_NO_HAMLET = "NULL"


async def _apply(
    session: AsyncSession,
    question: str,
    values: dict[str, object],
    actor: str,
    hamlet: str,
    kind: Change = Change.UNIT_CHANGED,
) -> int:
    """Change the unit of the homes that ``question`` finds: close beliefs, write new ones, one event each."""
    await session.execute(text("DROP TABLE IF EXISTS moving"))
    await session.execute(text(f"CREATE TEMP TABLE moving ON COMMIT DROP AS {question}"), values)
    await session.execute(
        text("SELECT d.code FROM dwelling d JOIN moving USING (code) ORDER BY d.code FOR NO KEY UPDATE OF d")
    )
    # One that ended while we waited for it stays where it ended.
    await session.execute(
        text("DELETE FROM moving m USING dwelling d WHERE d.code = m.code AND d.status NOT IN ('proposed', 'current')")
    )
    recorded = await clock(session)
    await session.execute(
        text(f"""
            UPDATE dwelling d SET unit_id = m.unit_id, hamlet_id = {hamlet}, revision = d.revision + 1,
                stated = d.revision + 1
            FROM moving m WHERE d.code = m.code
        """)
    )
    await session.execute(
        text(f"""
            WITH closed AS (
                UPDATE dwelling_version v SET recorded_to = :recorded
                FROM moving m
                WHERE v.code = m.code AND v.recorded_to IS NULL
                    AND (v.valid_to IS NULL OR v.valid_to > m.effective)
                RETURNING v.*, m.effective)
            INSERT INTO dwelling_version
                (code, revision, valid_from, valid_to, recorded_from, unit_id, hamlet_id, {_KEPT})
            SELECT c.code, d.revision, part.valid_from, part.valid_to, :recorded,
                CASE WHEN part.after THEN d.unit_id ELSE c.unit_id END,
                CASE WHEN part.after THEN d.hamlet_id ELSE c.hamlet_id END,
                {", ".join(f"c.{name}" for name in _KEPT.split(", "))}
            FROM closed c
            JOIN dwelling d ON d.code = c.code
            CROSS JOIN LATERAL (VALUES
                (c.valid_from, c.effective, false),
                (greatest(c.valid_from, c.effective), c.valid_to, true)) AS part(valid_from, valid_to, after)
            WHERE part.after OR c.valid_from < c.effective
        """),
        {"recorded": recorded},
    )
    rows = (await session.execute(text("SELECT code, effective FROM moving ORDER BY code"))).all()
    if rows:
        await append(session, [Changed(row.code, kind, row.effective) for row in rows], actor=actor)
    return len(rows)
