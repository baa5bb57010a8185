"""What the household API accepts and returns."""

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from msgspec import Meta, Struct

from bkapp.address import codes
from bkapp.address.operations import Point
from bkapp.address.queries import Summary
from bkapp.address.rules import PointSource, Status
from bkapp.address.schemas import CodeText, DoorIn, Line, Note
from bkapp.households.models import AddressClaim, Invitation, Membership
from bkapp.households.operations import HouseholdView, MemberView, Pin
from bkapp.households.queries import ClaimRow, InvitedRow
from bkapp.households.rules import ClaimStatus, Hindrance, MemberRole, MemberSource, MemberStatus, Outcome, Relation

Token = Annotated[str, Meta(min_length=1, max_length=100, description="As the invitation's link ends.")]


class PinIn(Struct, frozen=True, forbid_unknown_fields=True):
    """Where the door is (WGS 84 degrees), by GPS or set on the map, and what is written there."""

    lon: Annotated[float, Meta(ge=-180, le=180)]
    lat: Annotated[float, Meta(ge=-90, le=90)]
    source: Literal["gps", "map"] = "map"
    accuracy_m: Annotated[float, Meta(ge=0, le=10_000)] | None = None
    hamlet: Line | None = None
    door: DoorIn = DoorIn()

    def read(self) -> Pin:
        return Pin(Point(self.lon, self.lat, PointSource(self.source), self.accuracy_m), self.door.read(), self.hamlet)


class ClaimAddress(Struct, frozen=True, forbid_unknown_fields=True):
    """An address that is there (`code`) or a new one (`pin`): exactly one of the two."""

    code: CodeText | None = None
    pin: PinIn | None = None


class Refuse(Struct, frozen=True, forbid_unknown_fields=True):
    """Why not, for the household to read."""

    reason: Note


class EndMembership(Struct, frozen=True, forbid_unknown_fields=True):
    """Why somebody belongs to the household no more, for the offices to read."""

    reason: Note


class Invite(Struct, frozen=True, forbid_unknown_fields=True):
    """What the invited person is to the head of the household."""

    relation: Relation


class AcceptInvitation(Struct, frozen=True, forbid_unknown_fields=True):
    token: Token


# --- out --------------------------------------------------------------------------------------------------------


class CommuneRef(Struct, frozen=True):
    """A commune of today."""

    code: str
    name: str


class HomeOut(Struct, frozen=True):
    """Where the household lives; proposed while an officer has not confirmed it."""

    code: str
    display: str
    status: Status
    unit: CommuneRef
    hamlet: str | None

    @classmethod
    def of(cls, row: Summary) -> Self:
        return cls(row.code, codes.display(row.code), row.status, CommuneRef(row.unit.code, row.unit.name), row.hamlet)


class MemberOut(Struct, frozen=True):
    """Somebody of the household who has signed in.  Only the head sees names."""

    id: UUID
    me: bool
    role: MemberRole
    relation: str | None
    status: MemberStatus
    name: str | None
    can_end: Annotated[bool, Meta(description="Whether it is the asking head's to end: the member was invited.")]

    @classmethod
    def of(cls, row: MemberView) -> Self:
        return cls(row.id, row.is_me, row.role, row.relation, row.status, row.name, row.can_end)


class OwnClaimOut(Struct, frozen=True):
    """A claim as the household sees it."""

    id: UUID
    code: str
    display: str
    new: Annotated[bool, Meta(description="Whether the address was proposed with the claim.")]
    status: ClaimStatus
    created_at: datetime
    decided_at: datetime | None
    reason: Annotated[str | None, Meta(description="Why it was refused.")]

    @classmethod
    def of(cls, row: ClaimRow | AddressClaim) -> Self:
        return cls(
            row.id,
            row.code,
            codes.display(row.code),
            row.is_new,
            row.status,
            row.created_at,
            row.decided_at,
            row.reason,
        )


class OwnClaimsOut(Struct, frozen=True):
    claims: list[OwnClaimOut]


class HouseholdOut(Struct, frozen=True):
    """One's household.  `units` is where the population register has it, today's communes of Bắc Kạn."""

    id: UUID
    role: MemberRole
    relation: str | None
    status: Annotated[MemberStatus, Meta(description="waiting: an officer has to confirm; nothing else is told yet.")]
    source: MemberSource
    unit_code: Annotated[str | None, Meta(description="Of the commune, as the population register has it.")]
    units: list[CommuneRef]
    members: list[MemberOut]
    addresses: list[HomeOut]
    claim: Annotated[OwnClaimOut | None, Meta(description="The one that waits for an officer.")]
    can_claim: bool
    hindrance: Annotated[Hindrance | None, Meta(description="Why not, where one cannot claim an address now.")]


class OwnHouseholdOut(Struct, frozen=True):
    """`household` is null for somebody whom the population register has in none."""

    household: HouseholdOut | None
    checked_at: Annotated[datetime | None, Meta(description="When the population register last told of the person.")]
    stale: Annotated[bool, Meta(description="Whether the last question to it was not answered.")]
    register: Annotated[Outcome | None, Meta(description="What came of the last question.")]

    @classmethod
    def of(cls, view: HouseholdView) -> Self:
        own = view.membership
        household = None
        if own is not None:
            household = HouseholdOut(
                id=own.household_id,
                role=own.role,
                relation=own.relation,
                status=own.status,
                source=own.source,
                unit_code=view.unit_code,
                units=[CommuneRef(unit.code, unit.full_name) for unit in view.units],
                members=[MemberOut.of(member) for member in view.members],
                addresses=[HomeOut.of(home) for home in view.addresses],
                claim=OwnClaimOut.of(view.claim) if view.claim else None,
                can_claim=view.hindrance is None,
                hindrance=view.hindrance,
            )
        return cls(household, view.checked_at, view.register is not Outcome.FOUND, view.register)


class InvitationOut(Struct, frozen=True):
    """An invitation of the household; its token was shown when it was made."""

    id: UUID
    relation: str | None
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None
    revoked_at: datetime | None

    @classmethod
    def of(cls, row: Invitation) -> Self:
        return cls(row.id, row.relation, row.created_at, row.expires_at, row.used_at, row.revoked_at)


class InvitationsOut(Struct, frozen=True):
    invitations: list[InvitationOut]


class NewInvitationOut(Struct, frozen=True):
    """`token` and `link` are shown this once: hand one of them to the person who is invited."""

    id: UUID
    relation: str | None
    expires_at: datetime
    token: str
    link: str


class MembershipOut(Struct, frozen=True):
    """What has become of a membership."""

    id: UUID
    household: UUID
    status: MemberStatus

    @classmethod
    def of(cls, row: Membership) -> Self:
        return cls(row.id, row.household_id, row.status)


class ClaimOut(Struct, frozen=True):
    """A claim as an officer sees it.  `claimant` is their name while the claim waits."""

    id: UUID
    household: UUID
    code: str
    display: str
    new: bool
    status: ClaimStatus
    created_at: datetime
    decided_at: datetime | None
    reason: str | None
    unit: CommuneRef
    address_status: Status
    lon: float
    lat: float
    accuracy_m: float | None
    house_number: str | None
    street: str | None
    building: str | None
    entrance: str | None
    floor: str | None
    door: str | None
    person: UUID
    claimant: str | None

    @classmethod
    def of(cls, row: ClaimRow, claimant: str | None) -> Self:
        return cls(
            id=row.id,
            household=row.household_id,
            code=row.code,
            display=codes.display(row.code),
            new=row.is_new,
            status=row.status,
            created_at=row.created_at,
            decided_at=row.decided_at,
            reason=row.reason,
            unit=CommuneRef(row.unit_code, row.unit_name),
            address_status=row.address_status,
            lon=row.lon,
            lat=row.lat,
            accuracy_m=row.point_accuracy_m,
            house_number=row.house_number,
            street=row.street,
            building=row.building,
            entrance=row.entrance,
            floor=row.floor,
            door=row.door,
            person=row.person_id,
            claimant=claimant,
        )


class ClaimsOut(Struct, frozen=True):
    """A page; ask again with ``after`` = ``next``."""

    claims: list[ClaimOut]
    next: UUID | None


class DecidedOut(Struct, frozen=True):
    """What has become of a claim."""

    id: UUID
    household: UUID
    code: str
    display: str
    status: ClaimStatus

    @classmethod
    def of(cls, row: AddressClaim) -> Self:
        return cls(row.id, row.household_id, row.code, codes.display(row.code), row.status)


class InvitedOut(Struct, frozen=True):
    """Somebody who took up an invitation.  `name` is theirs while an officer has to decide."""

    id: UUID
    household: UUID
    code: Annotated[str | None, Meta(description="Where the household lives.")]
    relation: str | None
    status: MemberStatus
    created_at: datetime
    decided_at: datetime | None
    reason: str | None
    person: UUID
    name: str | None

    @classmethod
    def of(cls, row: InvitedRow, name: str | None) -> Self:
        return cls(
            row.id,
            row.household_id,
            row.code,
            row.relation,
            row.status,
            row.created_at,
            row.decided_at,
            row.reason,
            row.person_id,
            name,
        )


class InvitedPageOut(Struct, frozen=True):
    """A page; ask again with ``after`` = ``next``."""

    memberships: list[InvitedOut]
    next: UUID | None
