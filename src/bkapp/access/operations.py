"""Making, revoking and checking API keys, and recording reads of personal data."""

from datetime import UTC, datetime

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.models import ApiKey, DataRead
from bkapp.access.rules import Role, matches, new_key, split
from bkapp.errors import Forbidden, Invalid, NotFound, Unauthenticated
from bkapp.units import queries as units


class Caller(Struct, frozen=True):
    """Who is asking.  ``unit_ids`` is None for a role that reaches everywhere."""

    id: str
    role: Role
    unit_ids: frozenset[int] | None

    def reaches(self, unit_id: int) -> bool:
        return self.unit_ids is None or unit_id in self.unit_ids


class OutsideScope(Forbidden):
    """The officer's key does not cover the commune of this address."""

    code = "outside_scope"
    title = "Địa bàn này không thuộc phạm vi khóa truy cập của bạn"


async def make_key(
    session: AsyncSession, *, label: str, role: Role, unit_id: int | None, expires_at: datetime | None = None
) -> str:
    """Make a key and return its text, which is shown once and not kept."""
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


async def identify(session: AsyncSession, text: str) -> Caller:
    """Who holds this key; raise ``Unauthenticated`` for one that is unknown, wrong, expired or revoked.

    The answer does not say which of these it was.
    """
    refusal = Unauthenticated("The API key is not valid.")
    parts = split(text)
    if parts is None:
        raise refusal
    key = await session.get(ApiKey, parts[0])
    if key is None or not matches(parts[1], key.secret_hash):
        raise refusal
    now = datetime.now(UTC)
    if key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= now):
        raise refusal
    scope = None if key.unit_id is None else frozenset(await units.scope_ids(session, key.unit_id))
    return Caller(id=key.id, role=key.role, unit_ids=scope)


def require_reach(caller: Caller, unit_id: int) -> None:
    """Refuse a caller whose key does not cover the unit."""
    if not caller.reaches(unit_id):
        raise OutsideScope("Your key does not cover this unit.")


async def record_read(session: AsyncSession, caller: Caller, *, subject: str, what: str, request_id: str) -> None:
    """Record that a caller read what is not public about a subject."""
    session.add(DataRead(key_id=caller.id, subject=subject, what=what, request_id=request_id))
    await session.flush()
