"""The feed of changes, and the table it rebuilds."""

from datetime import date, datetime
from typing import Any

from msgspec import Struct
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.address.models import Event, FeedHead
from bkapp.address.rules import Change


class EventRow(Struct, frozen=True):
    seq: int
    recorded_at: datetime
    kind: Change
    code: str
    revision: int
    effective: date
    note: str | None
    data: dict[str, Any]


async def head(session: AsyncSession) -> int:
    """The number of the last event, 0 when nothing has happened."""
    return (await session.execute(select(FeedHead.seq))).scalar_one()


async def events(session: AsyncSession, *, after: int, limit: int) -> list[EventRow]:
    """The events after a number, in the order in which they were committed."""
    rows = await session.execute(_events(after).limit(limit))
    return [EventRow(*row) for row in rows]


def _events(after: int) -> Any:
    return (
        select(
            Event.seq,
            Event.recorded_at,
            Event.kind,
            Event.code,
            Event.revision,
            Event.effective,
            Event.note,
            Event.data,
        )
        .where(Event.seq > after)
        .order_by(Event.seq)
    )


CURRENT_TABLE = text("SELECT dwelling_snapshot(d) FROM dwelling d ORDER BY d.code")


async def current_table(session: AsyncSession) -> list[dict[str, Any]]:
    """Every address as the feed describes it, for comparing a replica with the register."""
    return [row[0] for row in await session.execute(CURRENT_TABLE)]
