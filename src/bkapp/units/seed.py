"""The units we ship: ``data/units.json``, written by ``tools/make_units.py``."""

from datetime import date
from importlib.resources import files

import msgspec
from msgspec import Struct

from bkapp.units.models import Level, SuccessionKind


class SeedUnit(Struct, frozen=True):
    code: str
    level: Level
    kind: str
    name: str
    full_name: str
    parent: str | None
    valid_from: date
    valid_to: date | None
    decree: str | None
    in_bac_kan: bool
    lon: float
    lat: float
    area_km2: float | None


class SeedSuccession(Struct, frozen=True):
    """``old`` is the unit whose period ends on ``effective``, ``new`` the one whose period begins then."""

    old: str
    new: str
    effective: date
    decree: str
    kind: SuccessionKind


class SeedAlias(Struct, frozen=True):
    code: str
    valid_from: date
    name: str
    source: str


class SeedIdentifier(Struct, frozen=True):
    code: str
    unit_from: date
    scheme: str
    value: str
    valid_from: date
    valid_to: date | None


class Site(Struct, frozen=True):
    """A commune of a neighbouring province, known only as a point."""

    code: str
    lon: float
    lat: float


class Provenance(Struct, frozen=True):
    begins: date


class Seed(Struct, frozen=True):
    provenance: Provenance
    units: list[SeedUnit]
    successions: list[SeedSuccession]
    aliases: list[SeedAlias]
    identifiers: list[SeedIdentifier]
    neighbours: list[Site]


def shipped() -> Seed:
    return msgspec.json.decode(files("bkapp.units").joinpath("data/units.json").read_bytes(), type=Seed)
