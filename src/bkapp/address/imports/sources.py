"""Files of hamlets and places: what came of their rows, and where the register got them."""

import hashlib
from pathlib import Path

from msgspec import Struct, field
from sqlalchemy import func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.address.imports.reading import Fault
from bkapp.address.models import PlaceSource
from bkapp.address.operations.placing import PLACING
from bkapp.address.rules import PlaceSourceKind, tidy
from bkapp.errors import Invalid


class Outcome(Struct):
    """What came of a file: every row is imported, was there, changed something, has no name or is refused."""

    rows: int = 0
    imported: int = 0
    same: int = 0
    changed: int = 0
    unnamed: int = 0
    gone: int = 0  # what was there before and the file, said to be complete, does not hold
    refused: int = 0
    faults: list[Fault] = field(default_factory=list)  # why rows were refused, and what else is worth knowing
    notes: list[str] = field(default_factory=list)

    def refuse(self, fault: Fault) -> None:
        self.refused += 1
        self.faults.append(fault)


class Origin(Struct, frozen=True):
    """Where the rows of a file come from."""

    kind: PlaceSourceKind
    path: Path
    source: str
    licence: str


def origin(kind: PlaceSourceKind, path: Path, *, source: str, licence: str) -> Origin:
    named, terms = tidy(source), tidy(licence)
    if not named or not terms:
        raise Invalid("Name the source of the file, and the licence on whose terms it may be used.")
    return Origin(kind, path, named, terms)


async def take_turn_alone(session: AsyncSession) -> None:
    """Wait for those who place homes, and let others wait, until the end of the transaction."""
    await session.execute(select(func.pg_advisory_xact_lock(PLACING)))


async def note_source(session: AsyncSession, origin: Origin, features: int) -> int:
    """The id of this file among the sources; the same file again is the same source."""
    with origin.path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    statement = insert(PlaceSource).values(
        kind=origin.kind,
        file_name=origin.path.name,
        sha256=sha256,
        source=origin.source,
        licence=origin.licence,
        features=features,
    )
    new = {name: statement.excluded[name] for name in ("file_name", "licence", "features")}
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=("sha256", "source", "kind"),
            set_=new,
            where=or_(*(getattr(PlaceSource, name).is_distinct_from(value) for name, value in new.items())),
        )
    )
    query = select(PlaceSource.id).where(
        PlaceSource.sha256 == sha256, PlaceSource.source == origin.source, PlaceSource.kind == origin.kind
    )
    return (await session.scalars(query)).one()
