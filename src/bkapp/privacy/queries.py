"""Questions about personal data: who read it, what is held, what was asked.  Reads only."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Struct
from sqlalchemy import ColumnElement, case, func, select, text, tuple_
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.models import DataRead
from bkapp.address.tiles import HOMES_FROM, MOST_ZOOM
from bkapp.identity.models import Person
from bkapp.privacy.models import Consent, SubjectRequest
from bkapp.privacy.purposes import PURPOSES, ConsentState, Purpose, state_of
from bkapp.privacy.rules import (
    MYSELF,
    OFFICE,
    RELATIVE,
    ROLE_WORDS,
    SOMEBODY,
    Clock,
    RequestKind,
    RequestStatus,
    Standing,
    standing,
    what_in_words,
)

# --- purposes ---------------------------------------------------------------------------------------------------


class PurposeState(Struct, frozen=True):
    """A purpose and how a person stands to it.  ``given_version`` is the text of the consent that stands, if any."""

    purpose: Purpose
    state: ConsentState
    given_version: str | None = None
    given_at: datetime | None = None
    withdrawn_at: datetime | None = None


async def purposes_for(session: AsyncSession, person_id: UUID) -> list[PurposeState]:
    """Every purpose of the catalogue, with the newest consent of the person."""
    rows = await session.scalars(
        select(Consent)
        .ext(distinct_on(Consent.purpose))
        .where(Consent.person_id == person_id)
        .order_by(Consent.purpose, Consent.withdrawn_at.is_not(None), Consent.given_at.desc(), Consent.id)
    )
    newest = {row.purpose: row for row in rows}
    return [_state(purpose, newest.get(purpose.id)) for purpose in PURPOSES.values()]


def _state(purpose: Purpose, newest: Consent | None) -> PurposeState:
    if newest is None:
        return PurposeState(purpose, state_of(purpose, live=None, withdrawn=False))
    live = newest.text_version if newest.withdrawn_at is None else None
    state = state_of(purpose, live=live, withdrawn=newest.withdrawn_at is not None)
    return PurposeState(purpose, state, live, newest.given_at, newest.withdrawn_at)


async def standing_consent(session: AsyncSession, person_id: UUID, purpose_id: str) -> Consent | None:
    """The consent to a purpose that is not withdrawn, whatever its version."""
    found: Consent | None = await session.scalar(
        select(Consent).where(
            Consent.person_id == person_id, Consent.purpose == purpose_id, Consent.withdrawn_at.is_(None)
        )
    )
    return found


# --- who read my data -------------------------------------------------------------------------------------------


class Read(Struct, frozen=True):
    """Somebody read data of a person.  ``who`` and ``what`` are Vietnamese words; nobody's name or number."""

    id: int
    at: datetime
    who: str
    what: str
    about: str  # person, household, or the code of an address


# What counts as a person's: themselves; their household while they were in it; its addresses while it lived there, and
# the tiles of the map in which their officers saw them.
# Whoever the register names lived there before they signed in for the first time; who was invited, since an officer
# agreed.  Periods are merged, so that a read is found once; each subject is then read backwards along its index.
_READS = f"""
WITH stay AS (
    SELECT m.household_id, CASE WHEN m.source = 'population' THEN '-infinity' ELSE m.decided_at END AS since,
        coalesce(m.ended_at, 'infinity') AS until
    FROM membership m
    WHERE m.person_id = CAST(:person AS uuid) AND m.status IN ('active', 'ended')
        AND (m.source = 'population' OR m.decided_at IS NOT NULL)
), home AS (
    SELECT l.code, d.point::geometry AS point, tstzrange(since, until)
        * tstzrange(l.valid_from::timestamp AT TIME ZONE 'Asia/Ho_Chi_Minh',
            l.valid_to::timestamp AT TIME ZONE 'Asia/Ho_Chi_Minh') AS period
    FROM stay JOIN household_link l ON l.household_id = stay.household_id AND l.recorded_to IS NULL
    JOIN dwelling d ON d.code = l.code
    WHERE since < until
), mine AS (
    SELECT CAST(:person AS text) AS subject, 'person' AS about, tstzrange('-infinity', 'infinity') AS period
    UNION ALL
    SELECT 'household:' || household_id, 'household', tstzrange(since, until) FROM stay WHERE since < until
    UNION ALL
    SELECT code, code, period FROM home
    UNION ALL
    SELECT concat_ws('/', 'addresses', z, floor((ST_X(point) + 180) / 360 * (1 << z)),
        floor((1 - asinh(tan(radians(ST_Y(point)))) / pi()) / 2 * (1 << z))), code, period
    FROM home, generate_series({HOMES_FROM}, {MOST_ZOOM}) AS z
), period AS (
    SELECT subject, min(about) AS about, unnest(range_agg(period)) AS span FROM mine GROUP BY subject
), found AS (
    SELECT r.*, period.about FROM period CROSS JOIN LATERAL (
        SELECT d.id, d.read_at, d.reader, d.what FROM data_read d
        WHERE d.subject = period.subject
            AND d.read_at >= coalesce(lower(span), '-infinity') AND d.read_at < coalesce(upper(span), 'infinity')
            AND (d.read_at, d.id) < (CAST(:at AS timestamptz), CAST(:before AS bigint))
        ORDER BY d.read_at DESC, d.id DESC LIMIT :limit
    ) r ORDER BY r.read_at DESC, r.id DESC LIMIT :limit
)
SELECT f.id, f.read_at, f.reader, f.about, f.what, k.role AS key_role, k.label, k.unit_name, o.role, o.unit,
    EXISTS (
        SELECT FROM membership m JOIN stay ON stay.household_id = m.household_id
        WHERE m.person_id = f.person AND m.status IN ('active', 'ended')
            AND f.read_at >= m.created_at AND f.read_at < coalesce(m.ended_at, 'infinity')) AS lives_here
FROM (
    SELECT found.*,
        CASE WHEN reader ~ '^[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}$' THEN CAST(reader AS uuid) END AS person
    FROM found
) f
LEFT JOIN LATERAL (
    SELECT a.role, a.label, u.full_name AS unit_name FROM api_key a LEFT JOIN admin_unit u ON u.id = a.unit_id
    WHERE a.id = f.reader
) k ON true
LEFT JOIN LATERAL (
    SELECT g.role, u.full_name AS unit FROM role_grant g LEFT JOIN admin_unit u ON u.id = g.unit_id
    WHERE g.person_id = f.person AND f.read_at >= g.granted_at AND f.read_at < coalesce(g.ended_at, 'infinity')
    ORDER BY g.granted_at DESC LIMIT 1
) o ON true
ORDER BY f.read_at DESC, f.id DESC"""


async def reads(session: AsyncSession, person_id: UUID, *, limit: int, before: int | None = None) -> list[Read]:
    """The reads of a person's data, newest first, those older than the read ``before``."""
    at = None if before is None else await session.scalar(select(DataRead.read_at).where(DataRead.id == before))
    last = {"at": at or "infinity", "before": before or 0}
    rows = await session.execute(text(_READS), {"person": str(person_id), "limit": limit, **last})
    return [Read(row.id, row.read_at, _who(row, person_id), what_in_words(row.what), row.about) for row in rows]


def _who(row: Any, person_id: UUID) -> str:
    if row.reader == str(person_id):
        return MYSELF
    if row.key_role is not None:
        return row.label.strip() or in_office(row.key_role, row.unit_name)
    if row.role is not None:
        return in_office(row.role, row.unit)
    return RELATIVE if row.lives_here else SOMEBODY


def in_office(role: str, unit: str | None) -> str:
    """An office in words: its role and the unit, if it has one."""
    words = ROLE_WORDS.get(role, OFFICE)
    return f"{words} {unit}" if unit else words


# --- requests ---------------------------------------------------------------------------------------------------


async def requests_of(session: AsyncSession, person_id: UUID, *, limit: int = 100) -> Sequence[SubjectRequest]:
    """What a person asked, newest first."""
    rows = await session.scalars(
        select(SubjectRequest)
        .where(SubjectRequest.person_id == person_id)
        .order_by(SubjectRequest.received_at.desc(), SubjectRequest.id)
        .limit(limit)
    )
    return rows.all()


class Case(Struct, frozen=True):
    """A request as the data officer sees it, still sealed.  ``standing`` is there while it is open."""

    id: UUID
    person_id: UUID
    kind: RequestKind
    status: RequestStatus
    received_at: datetime
    acknowledge_by: datetime
    acknowledged_at: datetime | None
    due_at: datetime
    extension_reason: str | None
    closed_at: datetime | None
    outcome: str | None
    details_cipher: bytes | None
    name_cipher: bytes | None
    restricted: bool

    def standing(self, now: datetime) -> Standing | None:
        """How its clock stands; None for one that is closed."""
        if self.closed_at is not None:
            return None
        return standing(self.status, Clock(self.acknowledge_by, self.due_at), now=now)


async def cases(session: AsyncSession, *, is_open: bool, limit: int, after: UUID | None = None) -> list[Case]:
    """Requests, those that are due first first; ``after`` is the last one of the page before."""
    order = (_next_due() if is_open else SubjectRequest.closed_at, SubjectRequest.id)
    statement = (
        select(
            SubjectRequest.id,
            SubjectRequest.person_id,
            SubjectRequest.kind,
            SubjectRequest.status,
            SubjectRequest.received_at,
            SubjectRequest.acknowledge_by,
            SubjectRequest.acknowledged_at,
            SubjectRequest.due_at,
            SubjectRequest.extension_reason,
            SubjectRequest.closed_at,
            SubjectRequest.outcome,
            SubjectRequest.details_cipher,
            Person.name_cipher,
            Person.restricted_at.is_not(None),
        )
        .join(Person, Person.id == SubjectRequest.person_id)
        .where(SubjectRequest.closed_at.is_(None) if is_open else SubjectRequest.closed_at.is_not(None))
        .limit(limit)
    )
    if is_open:
        statement = statement.order_by(*order)
    else:
        statement = statement.order_by(SubjectRequest.closed_at.desc(), SubjectRequest.id.desc())
    if after is not None:
        last = select(*order).where(SubjectRequest.id == after).scalar_subquery()
        here = tuple_(*order)
        statement = statement.where(here > last if is_open else here < last)
    found: Sequence[Any] = (await session.execute(statement)).all()
    return [Case(*row) for row in found]


def _next_due() -> ColumnElement[datetime]:
    """An acknowledged request waits for its end alone."""
    return case(
        (
            SubjectRequest.status == RequestStatus.RECEIVED,
            func.least(SubjectRequest.acknowledge_by, SubjectRequest.due_at),
        ),
        else_=SubjectRequest.due_at,
    )
