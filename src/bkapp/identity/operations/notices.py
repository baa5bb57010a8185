"""What a person is told when they next look."""

from datetime import datetime
from uuid import UUID

from psycopg.types.json import Jsonb
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.db import carry_out
from bkapp.errors import NotFound
from bkapp.identity.models import Notice
from bkapp.identity.rules import NoticeKind

_TELL = "INSERT INTO notice (person_id, kind, data) VALUES (%(person)s, %(kind)s, %(data)s)"


async def tell(session: AsyncSession, person: UUID, kind: NoticeKind | str, **data: str) -> None:
    """Leave a notice for a person.  ``data`` says no more than ids of ours and words of ours."""
    await carry_out(session, _TELL, {"person": person, "kind": str(kind), "data": Jsonb(data)})


_TELL_HOLDER = """
    INSERT INTO notice (person_id, kind, data)
    SELECT id, %(kind)s, %(data)s FROM person WHERE erased_at IS NULL
        AND id = coalesce(%(person)s, (SELECT id FROM person WHERE number_hmac = %(number_hmac)s))"""


async def tell_holder(
    session: AsyncSession, person: UUID | None, number_hmac: bytes | None, kind: NoticeKind | str, **data: str
) -> None:
    """:func:`tell` for a person, or else for who has signed in with a citizen number; nobody else is told."""
    told = {"person": person, "number_hmac": number_hmac, "kind": str(kind), "data": Jsonb(data)}
    await carry_out(session, _TELL_HOLDER, told)


async def read_notice(session: AsyncSession, person: UUID, notice: UUID, *, now: datetime) -> Notice:
    """Mark a notice as read.  Safe to repeat: the first time stands."""
    found = await session.get(Notice, notice, with_for_update=True)
    if found is None or found.person_id != person:
        raise NotFound("There is no such notice.")
    found.read_at = found.read_at or now
    await session.flush()
    return found
