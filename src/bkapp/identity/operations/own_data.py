"""What a person says of themselves, and what is kept of them."""

from datetime import date
from uuid import UUID

from msgspec import Struct
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.audit import operations as audit
from bkapp.errors import FieldError, Invalid, NotFound
from bkapp.identity import queries
from bkapp.identity.models import Person
from bkapp.identity.rules import mobile
from bkapp.sealing import Keyring


class Opened(Struct, frozen=True, kw_only=True):
    """What is kept of a person, in the clear: for their own eyes and for those whom the law lets see it.

    ``number`` has 12 digits and ``phone`` is E.164; what was never said is None.
    """

    id: UUID
    number: str
    name: str | None
    birth: date | None
    phone: str | None
    level: int


async def open_person(session: AsyncSession, keyring: Keyring, person: UUID) -> Opened:
    """What is kept of a person.  Who calls this records the read."""
    sealed = await queries.kept(session, person)
    if sealed is None or sealed.number is None:
        raise NotFound("Nothing is kept of this person.")
    birth = _open(keyring, sealed.birth, f"person.birth:{person}")
    return Opened(
        id=person,
        number=keyring.open(sealed.number, f"person.number:{person}"),
        name=_open(keyring, sealed.name, f"person.name:{person}"),
        birth=None if birth is None else date.fromisoformat(birth),
        phone=_open(keyring, sealed.phone, f"person.phone:{person}"),
        level=sealed.level,
    )


def _open(keyring: Keyring, sealed: bytes | None, context: str) -> str | None:
    return None if sealed is None else keyring.open(sealed, context)


async def set_phone(session: AsyncSession, keyring: Keyring, person: UUID, phone: str | None) -> None:
    """Keep the number at which a person wants to be called, or keep none."""
    plain = None if phone is None else mobile(phone)
    if phone is not None and plain is None:
        raise Invalid(
            "This is not a Vietnamese mobile number.", [FieldError("/phone", "such as +84912345678 or 0912 345 678")]
        )
    row = await session.scalar(select(Person).where(Person.id == person, Person.erased_at.is_(None)).with_for_update())
    if row is None:
        raise NotFound("Nothing is kept of this person.")
    row.phone_cipher = None if plain is None else keyring.seal(plain, f"person.phone:{person}")
    await session.flush()
    await audit.append(session, kind="phone_changed", actor=str(person), subject=str(person), kept=plain is not None)
