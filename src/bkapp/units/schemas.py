"""What the units API returns."""

from datetime import date
from typing import Annotated

from msgspec import Meta, Struct

from bkapp.units.models import Level, Quality
from bkapp.units.queries import Attribution, Contained, DatedIdentifier, Details, Unit

Code = Annotated[
    str,
    Meta(
        description="2 digits of a province, 3 of a district, 5 of a commune; on other days it means other units.",
        examples=["01954"],
    ),
]


class UnitOut(Struct, frozen=True):
    code: Code
    level: Level
    kind: Annotated[str, Meta(examples=["Xã"])]
    name: Annotated[str, Meta(examples=["Ngân Sơn"])]
    full_name: Annotated[str, Meta(examples=["Xã Ngân Sơn"])]
    parent: Annotated[str | None, Meta(description="Code of the unit above, on this unit's days.", examples=["19"])]
    valid_from: Annotated[date, Meta(description="First day of the unit. Records begin on 2020-02-01.")]
    valid_to: Annotated[date | None, Meta(description="First day without the unit; null while it lasts.")]
    decree: Annotated[
        str | None,
        Meta(description="The act that made the unit; null where it is older.", examples=["1683/NQ-UBTVQH15"]),
    ]
    in_bac_kan: Annotated[bool, Meta(description="Whether it lies in the Bắc Kạn of before 2025-07-01.")]
    boundary_quality: Annotated[
        Quality | None,
        Meta(description="official: imported from a file. approximate: drawn from points. null: none is known."),
    ]

    @classmethod
    def of(cls, unit: Unit) -> "UnitOut":
        return cls(
            code=unit.code,
            level=unit.level,
            kind=unit.kind,
            name=unit.name,
            full_name=unit.full_name,
            parent=unit.parent,
            valid_from=unit.valid_from,
            valid_to=unit.valid_to,
            decree=unit.decree,
            in_bac_kan=unit.in_bac_kan,
            boundary_quality=unit.boundary_quality,
        )


class UnitPage(Struct, frozen=True):
    as_of: date
    items: list[UnitOut]
    next: Annotated[str | None, Meta(description="Pass it as `after` to go on; null at the end.", examples=["01954"])]


class UnitDetailsOut(Struct, frozen=True):
    as_of: date
    unit: UnitOut
    area_km2: Annotated[float | None, Meta(description="As published, not measured from the boundary.")]
    aliases: Annotated[list[str], Meta(description="Former names and other spellings; some are known only folded.")]
    identifiers: list[DatedIdentifier]
    boundary: Annotated[Attribution | None, Meta(description="Where an official boundary comes from.")]

    @classmethod
    def of(cls, unit: Unit, details: Details, as_of: date) -> "UnitDetailsOut":
        return cls(
            as_of=as_of,
            unit=UnitOut.of(unit),
            area_km2=unit.area_km2,
            aliases=details.aliases,
            identifiers=details.identifiers,
            boundary=details.boundary,
        )


class RelatedUnits(Struct, frozen=True):
    unit: Annotated[UnitOut, Meta(description="The unit that the code means on `as_of`.")]
    as_of: date
    on: date
    items: Annotated[list[UnitOut], Meta(description="The units of the same territory on the day `on`.")]

    @classmethod
    def of(cls, unit: Unit, as_of: date, on: date, items: list[Unit]) -> "RelatedUnits":
        return cls(unit=UnitOut.of(unit), as_of=as_of, on=on, items=[UnitOut.of(item) for item in items])


class ContainedOut(Struct, frozen=True):
    on: date
    unit: UnitOut
    boundary_quality: Annotated[
        Quality, Meta(description="approximate: near the edge the neighbouring unit may be the right one.")
    ]

    @classmethod
    def of(cls, found: Contained, on: date) -> "ContainedOut":
        return cls(on=on, unit=UnitOut.of(found.unit), boundary_quality=found.boundary_quality)
