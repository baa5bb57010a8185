"""Making, revoking and checking API keys, and recording reads of personal data."""

from collections.abc import Iterable
from datetime import UTC, datetime
from uuid import UUID

import msgspec
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.models import ApiKey, DataRead
from bkapp.access.rules import Role, matches, new_key, split
from bkapp.db import Lookup, look_all_up
from bkapp.errors import Forbidden, Invalid, NotFound, Unauthenticated


class Caller(Struct, frozen=True, kw_only=True):
    """Who is asking: a key, or a person who has signed in (``person`` is their id).

    ``unit_ids`` is None for a role that reaches everywhere.  ``homes`` are the codes of a person's own addresses.
    ``level`` (identity assurance, 0 to 3), ``acr`` and ``authenticated_at`` tell how they signed in, ``sign_in`` on
    which device, and ``by_cookie`` whether a browser sent this by itself.
    """

    id: str
    role: Role
    unit_ids: frozenset[int] | None
    person: UUID | None = None
    sign_in: UUID | None = None
    homes: frozenset[str] = frozenset()
    level: int = 0
    acr: str | None = None
    authenticated_at: datetime | None = None
    by_cookie: bool = False

    def reaches(self, unit_id: int) -> bool:
        """Whether the caller may see and work with the homes of a unit."""
        return self.unit_ids is None or unit_id in self.unit_ids

    def may_see_more(self, code: str) -> bool:
        """Whether it is worth asking for the unit of a home: the caller reaches some unit, or lives there."""
        return self.unit_ids != frozenset() or code in self.homes

    def sees(self, unit_id: int, code: str) -> bool:
        """Whether the caller may see a home exactly: they reach its unit, or live there."""
        return self.reaches(unit_id) or code in self.homes


class OutsideScope(Forbidden):
    """The officer's key does not cover the commune of this address."""

    code = "outside_scope"
    title = "Địa bàn này không thuộc phạm vi khóa truy cập của bạn"


async def make_key(
    session: AsyncSession, *, label: str, role: Role, unit_id: int | None, expires_at: datetime | None = None
) -> str:
    """Make a key and return its text, which is shown once and not kept."""
    if role is Role.CITIZEN:
        raise Invalid("A citizen signs in and has no key.")
    if (role is Role.OFFICER) != (unit_id is not None):
        raise Invalid("An officer's key needs a unit, and only an officer's key has one.")
    public_id, text, secret_hash = new_key()
    session.add(
        ApiKey(id=public_id, secret_hash=secret_hash, label=label, role=role, unit_id=unit_id, expires_at=expires_at)
    )
    await session.flush()
    return text


async def revoke_key(session: AsyncSession, public_id: str, *, now: datetime) -> None:
    """Revoke a key.  Safe to repeat: the first time stands."""
    key = await session.get(ApiKey, public_id, with_for_update=True)
    if key is None:
        raise NotFound(f"There is no key {public_id}.")
    key.revoked_at = key.revoked_at or now


async def identify(keys: Lookup, text: str) -> Caller:
    """Who holds this key; raise ``Unauthenticated`` for one that is unknown, wrong, expired or revoked.

    ``keys`` is a look-up of :data:`bkapp.access.queries.KEYS`.  The answer does not say which of these it was.
    """
    refusal = Unauthenticated("The API key is not valid.")
    parts = split(text)
    if parts is None:
        raise refusal
    row = await keys(parts[0])
    if row is None:
        raise refusal
    public_id, secret_hash, role, expires_at, revoked_at, scope = row
    if not matches(parts[1], secret_hash):
        raise refusal
    if revoked_at is not None or (expires_at is not None and expires_at <= datetime.now(UTC)):
        raise refusal
    if Role(role) is Role.PARTNER:
        scope = ()
    return Caller(id=public_id, role=Role(role), unit_ids=None if scope is None else frozenset(scope))


def require_reach(caller: Caller, unit_id: int) -> None:
    """Refuse a caller whose key does not cover the unit."""
    if not caller.reaches(unit_id):
        raise OutsideScope("Your key does not cover this unit.")


async def record_read(session: AsyncSession, caller: Caller, *, subject: str, what: str, request_id: str) -> None:
    """Record that a caller read what is not public about a subject."""
    session.add(DataRead(reader=caller.id, subject=subject, what=what, request_id=request_id))
    await session.flush()


async def record_reads(records: Lookup, caller: Caller, *, subjects: Iterable[str], what: str, request_id: str) -> None:
    """:func:`record_read` of some subjects, outside any transaction and together with what others record meanwhile.

    ``records`` is a look-up of :data:`bkapp.access.queries.RECORD_READS`.  When this returns they are kept; a
    connection that breaks in the middle may leave a read recorded twice, and never one that is not recorded.
    """
    rows = [msgspec.json.encode([caller.id, subject, what, request_id]).decode() for subject in subjects]
    await look_all_up(records, rows)
