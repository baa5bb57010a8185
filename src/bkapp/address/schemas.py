"""What the address API accepts and returns."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType, structs

from bkapp.address import codes
from bkapp.address.operations import Door, HouseholdRef, Part, Point
from bkapp.address.pluscodes import encode as plus_code
from bkapp.address.pluscodes import vpostcode
from bkapp.address.queries import Details, EventRow, HamletRow, Name, Stay, Summary, Version
from bkapp.address.rules import Change, Method, PointSource, Status

# Printable NFC text of one line is made of these by the register; here only what no name can be is refused.
Line = Annotated[str, Meta(min_length=1, max_length=120)]
Short = Annotated[str, Meta(min_length=1, max_length=40)]
Note = Annotated[str, Meta(min_length=3, max_length=500)]
UnitCode = Annotated[str, Meta(pattern=r"^[0-9]{5}$", description="Code of a commune, with its leading zeros.")]
CodeText = Annotated[
    str,
    Meta(min_length=1, max_length=64, description="An address code as people write it.", examples=["BK 482 719 346"]),
]
# What a person enters: GPS, a pin on the map, a survey or a paper.  Imports and the demo name themselves.
Entered = Literal["gps", "map", "survey", "paper"]


class PointIn(Struct, frozen=True, forbid_unknown_fields=True):
    """A point in WGS 84 degrees."""

    lon: Annotated[float, Meta(ge=-180, le=180)]
    lat: Annotated[float, Meta(ge=-90, le=90)]
    source: Entered = "map"
    accuracy_m: Annotated[float, Meta(ge=0, le=10_000)] | None = None

    def read(self) -> Point:
        return Point(self.lon, self.lat, PointSource(self.source), self.accuracy_m)


class DoorIn(Struct, frozen=True, forbid_unknown_fields=True):
    """What is written at the door."""

    house_number: Short | None = None
    street: Line | None = None
    building: Line | None = None
    entrance: Short | None = None
    floor: Short | None = None
    door: Short | None = None

    def read(self) -> Door:
        return Door(self.house_number, self.street, self.building, self.entrance, self.floor, self.door)


class HouseholdIn(Struct, frozen=True, forbid_unknown_fields=True):
    """A household by its number in a register.  No name and no citizen's number belongs here."""

    source: Annotated[str, Meta(min_length=1, max_length=60)]
    id: Annotated[str, Meta(min_length=1, max_length=60)]

    def read(self) -> HouseholdRef:
        return HouseholdRef(self.source, self.id)


class Propose(Struct, frozen=True, forbid_unknown_fields=True):
    """A dwelling that is to get an address."""

    point: PointIn
    unit: UnitCode
    hamlet: Line | None = None
    door: DoorIn = DoorIn()
    household: HouseholdIn | None = None
    since: date | None = None


class Reason(Struct, frozen=True, forbid_unknown_fields=True):
    reason: Note


class Verify(Struct, frozen=True, forbid_unknown_fields=True):
    method: Method
    photo: Annotated[str, Meta(min_length=1, max_length=300, description="Where the photo is kept.")] | None = None
    on: date | None = None


class CorrectPoint(Struct, frozen=True, forbid_unknown_fields=True):
    point: PointIn
    reason: Note
    unit: UnitCode | None = None
    hamlet: Line | None = None
    since: date | None = None


class CorrectDoor(Struct, frozen=True, forbid_unknown_fields=True):
    """What stands at the door, whole: what is left out is not there.  The hamlet stays when none is named."""

    door: DoorIn
    reason: Note
    hamlet: Line | None = None
    since: date | None = None


class Move(Struct, frozen=True, forbid_unknown_fields=True):
    """The household goes to another address, or away when ``to`` is null."""

    to: CodeText | None = None
    on: date | None = None


class PartIn(Struct, frozen=True, forbid_unknown_fields=True):
    door: DoorIn
    point: PointIn | None = None
    keeps_household: bool = False

    def read(self) -> Part:
        return Part(self.door.read(), self.point.read() if self.point else None, self.keeps_household)


class Split(Struct, frozen=True, forbid_unknown_fields=True):
    parts: Annotated[list[PartIn], Meta(min_length=2, max_length=50)]
    on: date | None = None


class Merge(Struct, frozen=True, forbid_unknown_fields=True, rename={"others": "with"}):
    others: Annotated[list[CodeText], Meta(min_length=1, max_length=50)]
    door: DoorIn = DoorIn()
    point: PointIn | None = None
    household_of: CodeText | None = None
    on: date | None = None


class Retire(Struct, frozen=True, forbid_unknown_fields=True):
    reason: Note
    replaced_by: Annotated[list[CodeText], Meta(max_length=50)] = []
    on: date | None = None


class GiveIdentifier(Struct, frozen=True, forbid_unknown_fields=True):
    """The name another register has for the address."""

    scheme: Annotated[
        Literal["dcs10", "bca12", "local"],
        Meta(description="dcs10: national digital address, 10 digits; bca12: police place id, 12 digits; local: any."),
    ]
    value: Annotated[str, Meta(min_length=1, max_length=40, pattern=r"^[0-9A-Za-z.-]+$")]
    since: date | None = None


class OpenHamlet(Struct, frozen=True, forbid_unknown_fields=True):
    name: Annotated[str, Meta(min_length=1, max_length=80)]
    since: date | None = None


class RenameHamlet(Struct, frozen=True, forbid_unknown_fields=True):
    """Another name for a hamlet; the name of another hamlet of the commune makes the two one."""

    name: Annotated[str, Meta(min_length=1, max_length=80)]
    on: date | None = None


class CheckCertificate(Struct, frozen=True, forbid_unknown_fields=True):
    certificate: Annotated[str, Meta(min_length=1, max_length=4096)]


# --- out --------------------------------------------------------------------------------------------------------


class CommuneOut(Struct, frozen=True):
    """A commune.  The code means this unit from ``valid_from`` on; codes are reused through time."""

    code: str
    name: str
    valid_from: date
    boundary: Annotated[str | None, Meta(description="official, or approximate: drawn by us from points.")]


class ExactOut(Struct, frozen=True):
    """What only the holder and officers see."""

    lon: float
    lat: float
    point_source: PointSource
    point_accuracy_m: float | None
    house_number: str | None
    street: str | None
    building: str | None
    entrance: str | None
    floor: str | None
    door: str | None
    household: UUID | None
    verified_on: date | None
    verified_by: str | None
    verification_method: Method | None
    verification_photo: str | None
    identifiers: dict[str, str]

    @classmethod
    def of(cls, row: Details) -> Self:
        """The exact view, with the identifiers that are computed from the point."""
        computed = {"plus_code": plus_code(row.lon, row.lat, 11)}
        if row.postcode:
            computed["vpostcode"] = vpostcode(row.postcode, row.lon, row.lat)
        own = {name: getattr(row, name) for name in cls.__struct_fields__ if name != "identifiers"}
        return cls(**own, identifiers={**row.identifiers, **computed})


class AddressOut(Struct, frozen=True):
    """An address as anybody may see it; ``exact`` is there for those who may see more."""

    code: str
    display: str
    status: Status
    revision: int
    since: date
    unit: CommuneOut
    province: str | None
    hamlet: str | None
    area: Annotated[str, Meta(description="Plus Code of a cell of about 5 km: never the home itself.")]
    replaces: list[str]
    replaced_by: list[str]
    demo: bool
    exact: ExactOut | UnsetType = UNSET

    @classmethod
    def of(cls, row: Summary, details: Details | None = None) -> Self:
        return cls(
            code=row.code,
            display=codes.display(row.code),
            status=row.status,
            revision=row.revision,
            since=row.since,
            unit=CommuneOut(row.unit.code, row.unit.name, row.unit.valid_from, row.unit.boundary),
            province=row.province,
            hamlet=row.hamlet,
            area=row.area,
            replaces=row.replaces,
            replaced_by=row.replaced_by,
            demo=row.demo,
            exact=ExactOut.of(details) if details else UNSET,
        )


class AddressesOut(Struct, frozen=True):
    addresses: list[AddressOut]


class VersionOut(Struct, frozen=True, omit_defaults=True):
    """So it was from ``valid_from`` to ``valid_to`` (not included), as recorded from … to …."""

    revision: int
    valid_from: date
    recorded_from: datetime
    status: Status
    unit: CommuneOut
    valid_to: date | None = None
    recorded_to: datetime | None = None
    hamlet: str | None = None
    replaces: list[str] = []
    replaced_by: list[str] = []
    lon: float | UnsetType = UNSET
    lat: float | UnsetType = UNSET
    point_source: PointSource | UnsetType = UNSET
    point_accuracy_m: float | UnsetType | None = UNSET
    house_number: str | UnsetType | None = UNSET
    street: str | UnsetType | None = UNSET
    building: str | UnsetType | None = UNSET
    entrance: str | UnsetType | None = UNSET
    floor: str | UnsetType | None = UNSET
    door: str | UnsetType | None = UNSET
    verified_on: date | UnsetType | None = UNSET
    verification_method: Method | UnsetType | None = UNSET

    @classmethod
    def of(cls, row: Version, *, exact: bool) -> Self:
        shown = {
            name: getattr(row, name)
            for name in cls.__struct_fields__
            if name != "unit" and (exact or name not in _EXACT_VERSION)
        }
        return cls(unit=CommuneOut(row.unit.code, row.unit.name, row.unit.valid_from, row.unit.boundary), **shown)


_EXACT_VERSION = frozenset(
    {
        "lon", "lat", "point_source", "point_accuracy_m", "house_number", "street", "building", "entrance", "floor",
        "door", "verified_on", "verification_method",
    }
)  # fmt: skip


def public_versions(versions: Sequence[Version]) -> list[VersionOut]:
    """The versions without what is not public, and without the seams that would tell when that changed."""
    shown: list[VersionOut] = []
    for version in versions:
        now = VersionOut.of(version, exact=False)
        last = shown[-1] if shown else None
        if last is not None and last.valid_to == now.valid_from and _same(last, now):
            shown[-1] = structs.replace(last, valid_to=now.valid_to, recorded_to=now.recorded_to)
        else:
            shown.append(now)
    return shown


def _same(one: VersionOut, other: VersionOut) -> bool:
    told = ("status", "unit", "hamlet", "replaces", "replaced_by")
    return all(getattr(one, name) == getattr(other, name) for name in told)


class HistoryOut(Struct, frozen=True):
    """The address through time; who lived there and what others call it only for those who may see it."""

    code: str
    versions: list[VersionOut]
    households: list[Stay] | UnsetType = UNSET
    identifiers: list[Name] | UnsetType = UNSET


class EventOut(Struct, frozen=True):
    """One change.  ``data`` is the address after it: all of it for those who may see it, else what is public."""

    seq: int
    recorded_at: datetime
    kind: Change
    code: str
    revision: int
    effective: date
    data: dict[str, Any]
    note: str | UnsetType | None = UNSET

    @classmethod
    def of(cls, row: EventRow, *, exact: bool) -> Self:
        data = row.data if exact else {name: row.data[name] for name in _PUBLIC_DATA}
        if not exact and data["hamlet"]:
            data["hamlet"] = {"name": data["hamlet"]["name"]}
        return cls(
            seq=row.seq,
            recorded_at=row.recorded_at,
            kind=row.kind if exact or row.kind not in _PRIVATE_KINDS else Change.UPDATED,
            code=row.code,
            revision=row.revision,
            effective=row.effective,
            data=data,
            note=row.note if exact else UNSET,
        )


# Whether a home is lived in, and since when, is its people's own business.
_PRIVATE_KINDS = frozenset({Change.HOUSEHOLD_MOVED_IN, Change.HOUSEHOLD_MOVED_OUT, Change.IDENTIFIER_GIVEN})
_PUBLIC_DATA = (
    "code", "revision", "status", "began", "unit", "hamlet", "area", "replaces", "replaced_by", "demo",
)  # fmt: skip


class EventsOut(Struct, frozen=True):
    """A page of the feed.  Ask again with ``after`` = ``next``; ``head`` is the number of the last event there is."""

    events: list[EventOut]
    next: int
    head: int


class HamletOut(Struct, frozen=True):
    id: int
    name: str
    qualifier: str | None
    valid_from: date
    valid_to: date | None

    @classmethod
    def of(cls, row: HamletRow) -> Self:
        return cls(row.id, row.name, row.qualifier, row.valid_from, row.valid_to)


class HamletsOut(Struct, frozen=True):
    hamlets: list[HamletOut]


class CertificateOut(Struct, frozen=True):
    """The signed statement and what it says.  Verify ``certificate`` against ``/.well-known/jwks.json``."""

    certificate: str
    check_url: str
    statement: dict[str, Any]
    boundary: Annotated[str | None, Meta(description="Of the commune's boundary: official or approximate.")]


class VerdictOut(Struct, frozen=True):
    """``current``: genuine and still so; ``superseded``: genuine, but the register moved on; ``not_genuine``."""

    outcome: Literal["current", "superseded", "not_genuine"]
    changed: list[str]
    reason: str | None
    statement: dict[str, Any] | None
    address: AddressOut | None
