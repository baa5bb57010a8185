"""What is asked of identity: who holds a cookie or a token, devices, notices, what is kept of a person."""

from datetime import datetime, timedelta
from uuid import UUID

from msgspec import Struct
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.rules import Role
from bkapp.identity.models import Notice, Person
from bkapp.identity.rules import (
    BROWSER_IDLE,
    ENOUGH_FOR_OFFICE,
    NATIVE_IDLE,
    OFFICE_IDLE,
    OFFICE_LASTS,
    SignInKind,
)
from bkapp.units.queries import SCOPE


def _seconds(span: timedelta) -> str:
    return f"interval '{int(span.total_seconds())} seconds'"


# The office that a person (p) holds now, as the role g.
_OFFICE = """
    LEFT JOIN role_grant g ON g.person_id = p.id AND g.ended_at IS NULL
        AND (g.expires_at IS NULL OR g.expires_at > now())"""
# Whether a sign-in (s) of a person who holds the office g, or none, is not over.  An office that was given or that
# ended after the sign-in counts from then on.
_LIVE = f"""
    s.ended_at IS NULL AND s.expires_at > now() AND p.erased_at IS NULL
    AND s.seen_at > now() - CASE WHEN g.id IS NOT NULL THEN {_seconds(OFFICE_IDLE)}
        WHEN s.kind = '{SignInKind.NATIVE}' THEN {_seconds(NATIVE_IDLE)} ELSE {_seconds(BROWSER_IDLE)} END
    AND (g.id IS NULL OR s.created_at > now() - {_seconds(OFFICE_LASTS)})"""


def sign_ins(homes: str) -> str:
    """The live sign-ins of some keys, with what a :class:`bkapp.access.operations.Caller` needs, for ``Lookups``.

    A key is ``c:`` and the SHA-256 of a cookie's secret in hex, or ``s:`` and the id of a sign-in.  ``homes`` is an
    SQL expression that gives the codes of a person's addresses as text[], with {person} where their id goes; it is
    asked only for those whose identity was verified well enough.  The columns are those of :class:`Live`.
    """
    return f"""
SELECT k.key, s.id, s.person_id, s.kind, s.level, s.acr, s.authenticated_at, s.seen_at,
    LEAST(s.expires_at, CASE WHEN g.id IS NOT NULL THEN s.created_at + {_seconds(OFFICE_LASTS)} END),
    CASE WHEN s.level >= {ENOUGH_FOR_OFFICE} THEN g.role END,
    CASE WHEN g.unit_id IS NOT NULL THEN ARRAY({SCOPE.format(unit_id="g.unit_id")}) END,
    CASE WHEN s.level >= {ENOUGH_FOR_OFFICE} THEN {homes.format(person="p.id")} ELSE '{{}}'::text[] END
FROM unnest(%s::text[]) AS k(key)
CROSS JOIN LATERAL (
    SELECT * FROM sign_in
    WHERE secret_hash = CASE WHEN left(k.key, 2) = 'c:' THEN decode(substr(k.key, 3), 'hex') END
    UNION ALL
    SELECT * FROM sign_in WHERE id = CASE WHEN left(k.key, 2) = 's:' THEN CAST(substr(k.key, 3) AS uuid) END
) AS s
JOIN person p ON p.id = s.person_id
{_OFFICE}
WHERE {_LIVE}"""


NO_HOMES = "'{{}}'::text[]"
"""What stands for homes where there is no register of households."""


class Live(Struct, frozen=True, array_like=True):
    """A row of :func:`sign_ins`.  ``role`` is None for who holds no office; ``scope`` are the ids of its units."""

    key: str
    id: UUID
    person: UUID
    kind: SignInKind
    level: int
    acr: str | None
    authenticated_at: datetime
    seen_at: datetime
    expires_at: datetime
    role: Role | None
    scope: list[int] | None
    homes: list[str]


class Device(Struct, frozen=True, kw_only=True):
    """A live sign-in, as its person sees it."""

    id: UUID
    kind: SignInKind
    device: str
    signed_in_at: datetime
    seen_at: datetime
    expires_at: datetime


_DEVICES = text(f"""
    SELECT s.id, s.kind, s.device, s.created_at, s.seen_at,
        LEAST(s.expires_at, CASE WHEN g.id IS NOT NULL THEN s.created_at + {_seconds(OFFICE_LASTS)} END)
    FROM sign_in s JOIN person p ON p.id = s.person_id
    {_OFFICE}
    WHERE s.person_id = :person AND {_LIVE} ORDER BY s.seen_at DESC, s.id LIMIT 200
""")


async def devices(session: AsyncSession, person: UUID) -> list[Device]:
    """Where a person is signed in now, the last used first."""
    rows = await session.execute(_DEVICES, {"person": person})
    return [
        Device(
            id=row[0], kind=SignInKind(row[1]), device=row[2], signed_in_at=row[3], seen_at=row[4], expires_at=row[5]
        )
        for row in rows
    ]


_ENDS = text(f"""
    SELECT LEAST(s.expires_at, CASE WHEN g.id IS NOT NULL THEN s.created_at + {_seconds(OFFICE_LASTS)} END)
    FROM sign_in s JOIN person p ON p.id = s.person_id
    {_OFFICE}
    WHERE s.id = :sign_in
""")


async def ends_at(session: AsyncSession, sign_in: UUID) -> datetime | None:
    """When a sign-in is over at the latest."""
    found: datetime | None = await session.scalar(_ENDS, {"sign_in": sign_in})
    return found


async def notices(session: AsyncSession, person: UUID, *, limit: int = 100) -> list[Notice]:
    """What a person is told, newest first."""
    found = await session.scalars(
        select(Notice).where(Notice.person_id == person).order_by(Notice.created_at.desc(), Notice.id).limit(limit)
    )
    return [*found]


async def unread_notices(session: AsyncSession, person: UUID) -> int:
    """How many notices a person has not read."""
    wanted = select(func.count()).where(Notice.person_id == person, Notice.read_at.is_(None))
    return (await session.execute(wanted)).scalar_one()


class Kept(Struct, frozen=True, kw_only=True):
    """What is kept of a person, sealed as it is."""

    id: UUID
    number: bytes | None
    name: bytes | None
    birth: bytes | None
    phone: bytes | None
    level: int


async def kept(session: AsyncSession, person: UUID) -> Kept | None:
    """What is kept of a person; None for one who is unknown or erased."""
    row = (
        await session.execute(
            select(
                Person.number_cipher, Person.name_cipher, Person.birth_cipher, Person.phone_cipher, Person.level
            ).where(Person.id == person, Person.erased_at.is_(None))
        )
    ).one_or_none()
    if row is None:
        return None
    return Kept(id=person, number=row[0], name=row[1], birth=row[2], phone=row[3], level=row[4])


class Office(Struct, frozen=True, kw_only=True):
    """An office that a person holds; ``unit`` is the code and ``unit_name`` the name of an officer's unit."""

    role: Role
    unit: str | None
    unit_name: str | None
    granted_at: datetime
    expires_at: datetime | None


_OFFICE_OF = text(f"""
    SELECT g.role, u.code, u.full_name, g.granted_at, g.expires_at
    FROM person p {_OFFICE.replace("LEFT JOIN", "JOIN")}
    LEFT JOIN admin_unit u ON u.id = g.unit_id
    WHERE p.id = :person
""")


async def office(session: AsyncSession, person: UUID) -> Office | None:
    """The office that a person holds now."""
    row = (await session.execute(_OFFICE_OF, {"person": person})).one_or_none()
    if row is None:
        return None
    return Office(role=Role(row[0]), unit=row[1], unit_name=row[2], granted_at=row[3], expires_at=row[4])
