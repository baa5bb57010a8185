"""Questions about households.  Reads only."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from geoalchemy2 import Geometry
from msgspec import Struct
from sqlalchemy import cast, func, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.address.models import Dwelling, HouseholdLink
from bkapp.address.rules import Status
from bkapp.households.models import AddressClaim, Invitation, Membership, PopulationQuery
from bkapp.households.rules import REGISTER_STANDS, ClaimStatus, MemberRole, MemberSource, MemberStatus, Outcome
from bkapp.identity.models import Person
from bkapp.units import queries as units
from bkapp.units.models import AdminUnit
from bkapp.units.queries import Unit

_TODAY = "CAST(now() AT TIME ZONE 'Asia/Ho_Chi_Minh' AS date)"

HOMES = f"""
    ARRAY(
        SELECT l.code FROM membership m
        JOIN household_link l ON l.household_id = m.household_id AND l.recorded_to IS NULL
            AND l.valid_from <= {_TODAY} AND (l.valid_to IS NULL OR l.valid_to > {_TODAY})
        JOIN dwelling d ON d.code = l.code AND d.status = 'current'
        WHERE m.person_id = {{person}} AND m.status = 'active'
            AND (m.source <> 'population' OR m.checked_at >= now() - interval '{REGISTER_STANDS.days} days')
        ORDER BY l.code)"""
"""The codes where a person's household lives now, as text[]; to be filled in with what stands for the person's id.

What the population register said longer ago than :data:`REGISTER_STANDS` counts no more, until it says so again.
"""

# The communes of today's Bắc Kạn where a household is registered.  A code means the newest unit that had it; a unit
# that has ended leads to what took it over.
_REGISTERED = f"""
    WITH RECURSIVE line AS (
        (SELECT u.id, u.valid_to, u.in_bac_kan FROM admin_unit u
         WHERE u.level = 'commune' AND u.valid_from <= {_TODAY} AND u.code = (
            SELECT told.unit_code FROM membership told
            WHERE told.household_id = {{household}} AND told.source = 'population' AND told.unit_code IS NOT NULL
            ORDER BY told.status <> 'active', told.role <> 'head', told.checked_at DESC, told.id LIMIT 1)
         ORDER BY u.valid_from DESC LIMIT 1)
        UNION
        SELECT n.id, n.valid_to, n.in_bac_kan FROM line
        JOIN admin_unit_succession s ON s.old_id = line.id
        JOIN admin_unit n ON n.id = s.new_id
        WHERE line.valid_to <= {_TODAY}
    )
    SELECT id FROM line WHERE in_bac_kan AND (valid_to IS NULL OR valid_to > {_TODAY})"""
# What stands for the household may be a column of a statement around these, so no table here has its name.
# Whose officers decide about its members: those of the commune where it lives, else where it is registered.
_CHARGE = (
    """
    SELECT d.unit_id FROM household_link l JOIN dwelling d ON d.code = l.code
    WHERE l.household_id = {household} AND l.recorded_to IS NULL AND l.valid_to IS NULL
    UNION
    SELECT id FROM ("""
    + _REGISTERED
    + """) AS registered
    WHERE NOT EXISTS (
        SELECT FROM household_link l
        WHERE l.household_id = {household} AND l.recorded_to IS NULL AND l.valid_to IS NULL)"""
)


async def registered_units(session: AsyncSession, household_id: UUID) -> list[Unit]:
    """Today's communes of Bắc Kạn in which a household is registered, by code: mostly one, none if elsewhere."""
    found = await session.scalars(text(_REGISTERED.format(household=":household")), {"household": household_id})
    return await units.units_by_ids(session, found.all())


async def units_in_charge(session: AsyncSession, household_id: UUID) -> set[int]:
    """The ids of the communes whose officers decide about a household's members."""
    return set(await session.scalars(text(_CHARGE.format(household=":household")), {"household": household_id}))


async def registered_code(session: AsyncSession, household_id: UUID) -> str | None:
    """The commune's code as the register has it, which may be one that we do not know."""
    code: str | None = await session.scalar(
        select(Membership.unit_code)
        .where(
            Membership.household_id == household_id,
            Membership.source == MemberSource.POPULATION,
            Membership.unit_code.is_not(None),
        )
        .order_by(
            Membership.status != MemberStatus.ACTIVE,
            Membership.role != MemberRole.HEAD,
            Membership.checked_at.desc(),
            Membership.id,
        )
        .limit(1)
    )
    return code


async def membership_of(session: AsyncSession, person_id: UUID, *, lock: bool = False) -> Membership | None:
    """The household a person is in or waits to be in; with ``lock`` nobody else decides about it until we are done."""
    statement = select(Membership).where(
        Membership.person_id == person_id, Membership.status.in_({MemberStatus.WAITING, MemberStatus.ACTIVE})
    )
    if lock:
        statement = statement.with_for_update()
    found: Membership | None = await session.scalar(statement.execution_options(populate_existing=True))
    return found


class Asked(Struct, frozen=True):
    """The last question about a person, and when the register last told something of them."""

    asked_at: datetime
    outcome: Outcome | None
    told_at: datetime | None


async def last_asked(session: AsyncSession, person_id: UUID) -> Asked | None:
    """What came of the last question to the register about a person; None if there was none.

    One without an outcome counts only where no other was asked.
    """
    told = (
        select(func.max(PopulationQuery.answered_at))
        .where(PopulationQuery.person_id == person_id, PopulationQuery.outcome == Outcome.FOUND)
        .scalar_subquery()
    )
    row = (
        await session.execute(
            select(PopulationQuery.asked_at, PopulationQuery.outcome, told)
            .where(PopulationQuery.person_id == person_id)
            .order_by(PopulationQuery.outcome.is_(None), PopulationQuery.asked_at.desc())
            .limit(1)
        )
    ).first()
    return None if row is None else Asked(*row)


async def is_asking(session: AsyncSession, person_id: UUID, *, since: datetime) -> bool:
    """Whether a question about a person, asked after ``since``, has no answer yet."""
    found = await session.scalar(
        select(PopulationQuery.request_id)
        .where(
            PopulationQuery.person_id == person_id,
            PopulationQuery.outcome.is_(None),
            PopulationQuery.asked_at > since,
        )
        .limit(1)
    )
    return found is not None


class MemberRow(Struct, frozen=True):
    """A person of a household; who they are is sealed."""

    id: UUID
    person_id: UUID
    role: MemberRole
    relation: str | None
    source: MemberSource
    status: MemberStatus
    name_cipher: bytes | None


async def members(session: AsyncSession, household_id: UUID) -> list[MemberRow]:
    """The people of a household who have signed in, the head first."""
    rows = await session.execute(
        select(
            Membership.id,
            Membership.person_id,
            Membership.role,
            Membership.relation,
            Membership.source,
            Membership.status,
            Person.name_cipher,
        )
        .join(Person, Person.id == Membership.person_id)
        .where(
            Membership.household_id == household_id,
            Membership.status.in_({MemberStatus.WAITING, MemberStatus.ACTIVE}),
        )
        .order_by(Membership.role != MemberRole.HEAD, Membership.created_at, Membership.id)
    )
    return [MemberRow(*row) for row in rows]


async def open_address(session: AsyncSession, household_id: UUID) -> str | None:
    """The code where a household lives, current or proposed."""
    code: str | None = await session.scalar(
        select(HouseholdLink.code).where(
            HouseholdLink.household_id == household_id,
            HouseholdLink.recorded_to.is_(None),
            HouseholdLink.valid_to.is_(None),
        )
    )
    return code


class ClaimRow(Struct, frozen=True):
    """A claim with the address it is for.  ``unit_id`` is the commune the address is in today."""

    id: UUID
    household_id: UUID
    person_id: UUID
    code: str
    is_new: bool
    status: ClaimStatus
    created_at: datetime
    decided_at: datetime | None
    reason: str | None
    unit_id: int
    unit_code: str
    unit_name: str
    address_status: Status
    house_number: str | None
    street: str | None
    building: str | None
    entrance: str | None
    floor: str | None
    door: str | None
    lon: float
    lat: float
    point_accuracy_m: float | None
    name_cipher: bytes | None


def _claims() -> Any:
    point = cast(Dwelling.point, Geometry)
    return (
        select(
            AddressClaim.id,
            AddressClaim.household_id,
            AddressClaim.person_id,
            AddressClaim.code,
            AddressClaim.is_new,
            AddressClaim.status,
            AddressClaim.created_at,
            AddressClaim.decided_at,
            AddressClaim.reason,
            Dwelling.unit_id,
            AdminUnit.code,
            AdminUnit.full_name,
            Dwelling.status,
            Dwelling.house_number,
            Dwelling.street,
            Dwelling.building,
            Dwelling.entrance,
            Dwelling.floor,
            Dwelling.door,
            func.ST_X(point),
            func.ST_Y(point),
            Dwelling.point_accuracy_m,
            Person.name_cipher,
        )
        .join(Dwelling, Dwelling.code == AddressClaim.code)
        .join(AdminUnit, AdminUnit.id == Dwelling.unit_id)
        .join(Person, Person.id == AddressClaim.person_id)
    )


async def claim(session: AsyncSession, claim_id: UUID) -> ClaimRow | None:
    row = (await session.execute(_claims().where(AddressClaim.id == claim_id))).first()
    return None if row is None else ClaimRow(*row)


async def claims_of(session: AsyncSession, household_id: UUID, *, limit: int = 50) -> list[ClaimRow]:
    """The claims of a household, newest first."""
    rows = await session.execute(
        _claims()
        .where(AddressClaim.household_id == household_id)
        .order_by(AddressClaim.created_at.desc(), AddressClaim.id)
        .limit(limit)
    )
    return [ClaimRow(*row) for row in rows]


async def claims_for(
    session: AsyncSession, units: frozenset[int] | None, *, status: ClaimStatus, limit: int, after: UUID | None
) -> list[ClaimRow]:
    """The claims of addresses in some units (None: everywhere), oldest first, those after the claim ``after``."""
    statement = (
        _claims().where(AddressClaim.status == status).order_by(AddressClaim.created_at, AddressClaim.id).limit(limit)
    )
    if units is not None:
        statement = statement.where(Dwelling.unit_id.in_(units))
    if after is not None:
        last = select(AddressClaim.created_at, AddressClaim.id).where(AddressClaim.id == after)
        statement = statement.where(tuple_(AddressClaim.created_at, AddressClaim.id) > last.scalar_subquery())
    return [ClaimRow(*row) for row in await session.execute(statement)]


class InvitedRow(Struct, frozen=True):
    """Somebody who took up an invitation, with the household's address if it has one."""

    id: UUID
    household_id: UUID
    person_id: UUID
    relation: str | None
    status: MemberStatus
    created_at: datetime
    decided_at: datetime | None
    reason: str | None
    code: str | None
    name_cipher: bytes | None


_INVITED = (
    """
    SELECT m.id, m.household_id, m.person_id, m.relation, m.status, m.created_at, m.decided_at, m.reason, l.code,
        p.name_cipher
    FROM membership m
    JOIN person p ON p.id = m.person_id
    LEFT JOIN household_link l
        ON l.household_id = m.household_id AND l.recorded_to IS NULL AND l.valid_to IS NULL
    WHERE m.source = 'invitation' AND m.status = :status
      AND (CAST(:after AS uuid) IS NULL
        OR (m.created_at, m.id) > (SELECT x.created_at, x.id FROM membership x WHERE x.id = :after))
      AND (CAST(:units AS bigint[]) IS NULL OR EXISTS (SELECT FROM ("""
    + _CHARGE.format(household="m.household_id")
    + """) AS charge (unit_id) WHERE charge.unit_id = ANY(:units)))
    ORDER BY m.created_at, m.id LIMIT :limit"""
)


async def invited_for(
    session: AsyncSession, units: frozenset[int] | None, *, status: MemberStatus, limit: int, after: UUID | None
) -> list[InvitedRow]:
    """Those who took up an invitation to a household in some units (None: everywhere), oldest first."""
    rows = await session.execute(
        text(_INVITED),
        {
            "status": status.value,
            "after": after,
            "units": None if units is None else sorted(units),
            "limit": limit,
        },
    )
    return [
        InvitedRow(**{**row._mapping, "status": MemberStatus(row.status)})  # noqa: SLF001  (public in spite of its name)
        for row in rows
    ]


async def invitations(session: AsyncSession, household_id: UUID, *, limit: int = 50) -> Sequence[Invitation]:
    """The invitations of a household, newest first."""
    found = await session.scalars(
        select(Invitation)
        .where(Invitation.household_id == household_id)
        .order_by(Invitation.created_at.desc(), Invitation.id)
        .limit(limit)
    )
    return found.all()
