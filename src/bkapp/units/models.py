"""Tables of administrative units.  Migration 0003 has their constraints: one meaning of a code per day, and so on."""

from datetime import date, datetime
from enum import StrEnum

from geoalchemy2 import Geography, Geometry, WKBElement
from sqlalchemy import BigInteger, ForeignKey, Identity, Index, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from bkapp.db import Table


class Level(StrEnum):
    PROVINCE = "province"
    DISTRICT = "district"
    COMMUNE = "commune"


class SuccessionKind(StrEnum):
    WHOLE = "whole"
    """The new unit took in all of the old one."""
    UNCHANGED = "unchanged"
    """The same area and name go on under the new order."""


class Quality(StrEnum):
    OFFICIAL = "official"
    """Imported from a file, whose source, licence and hash we keep."""
    APPROXIMATE = "approximate"
    """Drawn by us from points; about a quarter of the land is in the wrong cell."""


class BoundarySource(Table):
    """A file of boundaries that was imported."""

    __tablename__ = "boundary_source"
    __table_args__ = (UniqueConstraint("sha256", "as_of"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    file_name: Mapped[str]
    sha256: Mapped[str]
    source: Mapped[str]
    licence: Mapped[str]
    level: Mapped[Level]
    as_of: Mapped[date]
    features: Mapped[int]
    imported_at: Mapped[datetime] = mapped_column(server_default=func.now())


class AdminUnit(Table):
    """A unit while it had one code, name, kind and parent: ``[valid_from, valid_to)``, open while it lasts."""

    __tablename__ = "admin_unit"
    __table_args__ = (UniqueConstraint("code", "valid_from"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    code: Mapped[str]
    level: Mapped[Level]
    kind: Mapped[str]
    name: Mapped[str]
    full_name: Mapped[str]
    folded: Mapped[str]
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("admin_unit.id"), index=True)
    valid_from: Mapped[date]
    valid_to: Mapped[date | None]
    decree: Mapped[str | None]
    in_bac_kan: Mapped[bool]
    point: Mapped[WKBElement] = mapped_column(Geography("POINT", srid=4326, spatial_index=False), deferred=True)
    area_km2: Mapped[float | None]
    boundary: Mapped[WKBElement | None] = mapped_column(
        Geometry("MULTIPOLYGON", srid=4326, spatial_index=False), deferred=True
    )
    boundary_quality: Mapped[Quality | None]
    boundary_source_id: Mapped[int | None] = mapped_column(ForeignKey("boundary_source.id"))


class AdminUnitPiece(Table):
    """A small part of a boundary: an index finds the few vertices around a point instead of thousands."""

    __tablename__ = "admin_unit_piece"
    __table_args__ = (Index("ix_admin_unit_piece_geom", "geom", postgresql_using="gist"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    unit_id: Mapped[int] = mapped_column(ForeignKey("admin_unit.id", ondelete="CASCADE"), index=True)
    geom: Mapped[WKBElement] = mapped_column(Geometry("POLYGON", srid=4326, spatial_index=False))


class Succession(Table):
    """``new`` took over from ``old`` on a day, by an act."""

    __tablename__ = "admin_unit_succession"

    old_id: Mapped[int] = mapped_column(ForeignKey("admin_unit.id"), primary_key=True)
    new_id: Mapped[int] = mapped_column(ForeignKey("admin_unit.id"), primary_key=True, index=True)
    effective: Mapped[date]
    decree: Mapped[str]
    kind: Mapped[SuccessionKind]


class Alias(Table):
    """Another spelling or a former name; ``folded`` is what a search compares."""

    __tablename__ = "admin_unit_alias"

    unit_id: Mapped[int] = mapped_column(ForeignKey("admin_unit.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    folded: Mapped[str]
    source: Mapped[str]


class Identifier(Table):
    """A number that others use for a unit, such as a postcode, for as long as it is in use."""

    __tablename__ = "admin_unit_identifier"
    __table_args__ = (Index("ix_admin_unit_identifier_scheme_value", "scheme", "value"),)

    unit_id: Mapped[int] = mapped_column(ForeignKey("admin_unit.id", ondelete="CASCADE"), primary_key=True)
    scheme: Mapped[str] = mapped_column(primary_key=True)
    valid_from: Mapped[date] = mapped_column(primary_key=True)
    value: Mapped[str]
    valid_to: Mapped[date | None]
