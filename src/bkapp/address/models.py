"""Tables of the address registry."""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from geoalchemy2 import Geography, WKBElement
from sqlalchemy import (
    ARRAY,
    REAL,
    BigInteger,
    Boolean,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    String,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from bkapp.address.rules import Change, JobStatus, Method, PlaceKind, PlaceSourceKind, PointSource, Status
from bkapp.db import Table


class Hamlet(Table):
    """Thôn, bản, xóm, tổ…: a row below a commune for the time it had this name there."""

    __tablename__ = "hamlet"
    __table_args__ = (Index("ix_hamlet_point", "point", postgresql_using="gist"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    unit_id: Mapped[int] = mapped_column(ForeignKey("admin_unit.id"))
    name: Mapped[str]
    qualifier: Mapped[str | None]  # the former commune, where a merger brought two hamlets of one name together
    key: Mapped[str]
    valid_from: Mapped[date]
    valid_to: Mapped[date | None]
    predecessor_id: Mapped[int | None] = mapped_column(ForeignKey("hamlet.id"))
    source: Mapped[str]
    point: Mapped[WKBElement | None] = mapped_column(Geography("POINT", srid=4326, spatial_index=False))
    place_source_id: Mapped[int | None] = mapped_column(ForeignKey("place_source.id"))


class PlaceSource(Table):
    """A file of hamlets, roads or points of interest that was imported."""

    __tablename__ = "place_source"
    __table_args__ = (UniqueConstraint("sha256", "source", "kind"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    kind: Mapped[PlaceSourceKind]
    file_name: Mapped[str]
    sha256: Mapped[str]
    source: Mapped[str]
    licence: Mapped[str]
    features: Mapped[int]
    imported_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Place(Table):
    """A road in a commune, or a point of interest: what people name beside or instead of a hamlet."""

    __tablename__ = "place"
    __table_args__ = (
        UniqueConstraint("source", "source_id", "unit_id"),
        Index("ix_place_point", "point", postgresql_using="gist"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    kind: Mapped[PlaceKind]
    name: Mapped[str]
    unit_id: Mapped[int] = mapped_column(ForeignKey("admin_unit.id"))
    point: Mapped[WKBElement] = mapped_column(Geography("POINT", srid=4326, spatial_index=False))
    source: Mapped[str]
    source_id: Mapped[str]
    place_source_id: Mapped[int] = mapped_column(ForeignKey("place_source.id"))


class GazetteerHead(Table):
    """A number that rises whenever a name or place that the geocoder knows changes."""

    __tablename__ = "gazetteer_head"

    single: Mapped[bool] = mapped_column(Boolean, primary_key=True, server_default="true")
    version: Mapped[int] = mapped_column(BigInteger)
    at: Mapped[datetime] = mapped_column(server_default=func.now())


class GeocodeJob(Table):
    """A file of addresses to be found in the background; deleted some days after it was sent."""

    __tablename__ = "geocode_job"
    __table_args__ = (Index("ix_geocode_job_created_at", "created_at"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=text("gen_random_uuid()"))
    caller: Mapped[str]
    status: Mapped[JobStatus] = mapped_column(server_default="waiting")
    file_name: Mapped[str]
    options: Mapped[dict[str, Any]] = mapped_column(JSONB)
    input: Mapped[bytes | None] = mapped_column(deferred=True)
    output: Mapped[bytes | None] = mapped_column(deferred=True)
    rows_total: Mapped[int] = mapped_column(server_default="0")
    rows_done: Mapped[int] = mapped_column(server_default="0")
    rows_failed: Mapped[int] = mapped_column(server_default="0")
    problem: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class Household(Table):
    """A household, known by its number in somebody's register and by nothing else."""

    __tablename__ = "household"
    __table_args__ = (UniqueConstraint("source", "source_id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=text("gen_random_uuid()"))
    source: Mapped[str]
    source_id: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Attributes:
    """What of a dwelling changes through time; shared by its current row and its versions."""

    status: Mapped[Status]
    unit_id: Mapped[int] = mapped_column(ForeignKey("admin_unit.id"))
    hamlet_id: Mapped[int | None] = mapped_column(ForeignKey("hamlet.id"))
    house_number: Mapped[str | None]
    street: Mapped[str | None]
    building: Mapped[str | None]
    entrance: Mapped[str | None]
    floor: Mapped[str | None]
    door: Mapped[str | None]
    point: Mapped[WKBElement] = mapped_column(Geography("POINT", srid=4326, spatial_index=False))
    point_source: Mapped[PointSource]
    point_accuracy_m: Mapped[float | None] = mapped_column(REAL)
    verified_on: Mapped[date | None]
    verified_by: Mapped[str | None]
    verification_method: Mapped[Method | None]
    verification_photo: Mapped[str | None]
    replaces: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default="{}")
    replaced_by: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default="{}")


ATTRIBUTES = tuple(name for name in Attributes.__annotations__)


class Dwelling(Attributes, Table):
    """A dwelling as it is today.  Every change raises ``revision`` by one and appends one event."""

    __tablename__ = "dwelling"
    __table_args__ = (
        ForeignKeyConstraint(
            ["code", "revision"],
            ["address_event.code", "address_event.revision"],
            name="fk_dwelling_code_revision",
            deferrable=True,
            initially="DEFERRED",
        ),
        Index("ix_dwelling_point", "point", postgresql_using="gist"),
        Index("ix_dwelling_unit_id_hamlet_id", "unit_id", "hamlet_id"),
        Index(
            "ix_dwelling_hamlet_id_house_key",
            "hamlet_id",
            text("house_key(house_number)"),
            postgresql_where=text("status = 'current'"),
        ),
        Index(
            "ix_dwelling_unit_id_street_house_key",
            "unit_id",
            "street",
            text("house_key(house_number)"),
            postgresql_where=text("status = 'current' AND street IS NOT NULL"),
        ),
    )

    code: Mapped[str] = mapped_column(primary_key=True)
    revision: Mapped[int] = mapped_column(server_default="1")
    stated: Mapped[int] = mapped_column(server_default="1")  # the revision of what a certificate says
    began: Mapped[date]
    area: Mapped[str]
    is_demo: Mapped[bool] = mapped_column(Boolean, server_default="false")


class DwellingVersion(Attributes, Table):
    """What the register said (recorded_from … recorded_to) was so (valid_from … valid_to)."""

    __tablename__ = "dwelling_version"

    code: Mapped[str] = mapped_column(ForeignKey("dwelling.code"), primary_key=True)
    revision: Mapped[int] = mapped_column(primary_key=True)
    valid_from: Mapped[date] = mapped_column(primary_key=True)
    valid_to: Mapped[date | None]
    recorded_from: Mapped[datetime]
    recorded_to: Mapped[datetime | None]


class HouseholdLink(Table):
    """Which household lived where, and when."""

    __tablename__ = "household_link"

    code: Mapped[str] = mapped_column(ForeignKey("dwelling.code"), primary_key=True)
    household_id: Mapped[UUID] = mapped_column(ForeignKey("household.id"), primary_key=True)
    valid_from: Mapped[date] = mapped_column(primary_key=True)
    valid_to: Mapped[date | None]
    recorded_from: Mapped[datetime] = mapped_column(primary_key=True)
    recorded_to: Mapped[datetime | None]


class Identifier(Table):
    """A name that somebody else has for an address, with its period."""

    __tablename__ = "address_identifier"

    code: Mapped[str] = mapped_column(ForeignKey("dwelling.code"), primary_key=True)
    scheme: Mapped[str] = mapped_column(String(32), primary_key=True)
    value: Mapped[str]
    valid_from: Mapped[date] = mapped_column(primary_key=True)
    valid_to: Mapped[date | None]


class Event(Table):
    """One change of one address, in the order in which changes were committed."""

    __tablename__ = "address_event"
    __table_args__ = (UniqueConstraint("code", "revision"),)

    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    recorded_at: Mapped[datetime]
    kind: Mapped[Change]
    code: Mapped[str]
    revision: Mapped[int]
    effective: Mapped[date]
    actor: Mapped[str]
    note: Mapped[str | None]
    data: Mapped[dict[str, Any]] = mapped_column(JSONB)


class FeedHead(Table):
    """The number of the last event."""

    __tablename__ = "feed_head"

    single: Mapped[bool] = mapped_column(Boolean, primary_key=True, server_default="true")
    seq: Mapped[int] = mapped_column(BigInteger)
    at: Mapped[datetime] = mapped_column(server_default=func.now())


class ImportRun(Table):
    """How far the import of one file came, so that it can go on after an interruption."""

    __tablename__ = "import_run"
    __table_args__ = (UniqueConstraint("sha256", "source"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    sha256: Mapped[str]
    source: Mapped[str]
    file_name: Mapped[str]
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[datetime | None]
    rows_done: Mapped[int] = mapped_column(BigInteger, server_default="0")
    imported: Mapped[int] = mapped_column(BigInteger, server_default="0")
    skipped: Mapped[int] = mapped_column(BigInteger, server_default="0")
    refused: Mapped[int] = mapped_column(BigInteger, server_default="0")
