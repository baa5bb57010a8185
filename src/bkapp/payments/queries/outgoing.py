"""Questions about webhooks to partners: what is due, how an endpoint is, what became of messages.  Reads only."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from msgspec import Struct
from sqlalchemy import exists, func, select, true
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from bkapp.payments.models import WebhookDelivery, WebhookEndpoint, WebhookKey, WebhookMessage


class Waiting(Struct, frozen=True):
    """What an endpoint has not got yet."""

    messages: int
    since: datetime | None  # when the oldest was made


class MessageRow(NamedTuple):
    """A message and what came of its last try."""

    message: WebhookMessage
    last_try_at: datetime | None
    last_status: int | None
    last_error: str | None


async def due_endpoints(session: AsyncSession, *, now: datetime) -> Sequence[UUID]:
    """The active endpoints that have a message to be tried."""
    due = exists().where(
        WebhookMessage.endpoint_id == WebhookEndpoint.id,
        WebhookMessage.status == "waiting",
        WebhookMessage.next_try_at <= now,
    )
    return (await session.scalars(select(WebhookEndpoint.id).where(WebhookEndpoint.active, due))).all()


async def due_bills(session: AsyncSession, endpoint_id: UUID, *, now: datetime, limit: int) -> Sequence[UUID]:
    """The bills whose first waiting message for an endpoint is to be tried, the longest due first."""
    earlier = aliased(WebhookMessage)
    behind = exists().where(
        earlier.endpoint_id == WebhookMessage.endpoint_id,
        earlier.bill_id == WebhookMessage.bill_id,
        earlier.status == "waiting",
        earlier.seq < WebhookMessage.seq,
    )
    due = (
        select(WebhookMessage.bill_id)
        .where(
            WebhookMessage.endpoint_id == endpoint_id,
            WebhookMessage.status == "waiting",
            WebhookMessage.next_try_at <= now,
            ~behind,
        )
        .order_by(WebhookMessage.next_try_at, WebhookMessage.seq)
        .limit(limit)
    )
    return (await session.scalars(due)).all()


async def endpoints(session: AsyncSession) -> Sequence[WebhookEndpoint]:
    """All endpoints, the oldest first."""
    found = select(WebhookEndpoint).order_by(WebhookEndpoint.created_at, WebhookEndpoint.id)
    return (await session.scalars(found)).all()


async def endpoint(session: AsyncSession, endpoint_id: UUID) -> WebhookEndpoint | None:
    return await session.get(WebhookEndpoint, endpoint_id)


async def keys_of(session: AsyncSession, endpoint_id: UUID) -> Sequence[WebhookKey]:
    """The keys that an endpoint ever had, the oldest first."""
    found = select(WebhookKey).where(WebhookKey.endpoint_id == endpoint_id).order_by(WebhookKey.created_at)
    return (await session.scalars(found)).all()


async def waiting_for(session: AsyncSession, endpoint_id: UUID) -> Waiting:
    """How much waits for an endpoint, and since when."""
    counted = select(func.count(), func.min(WebhookMessage.created_at)).where(
        WebhookMessage.endpoint_id == endpoint_id, WebhookMessage.status == "waiting"
    )
    return Waiting(*(await session.execute(counted)).one())


async def messages(
    session: AsyncSession, endpoint_id: UUID, *, status: str | None, limit: int, after: int | None
) -> list[MessageRow]:
    """The messages of an endpoint, newest first; ``after`` is the number of the last one of the page before."""
    last = (
        select(WebhookDelivery.at, WebhookDelivery.status, WebhookDelivery.error)
        .where(WebhookDelivery.message_seq == WebhookMessage.seq)
        .order_by(WebhookDelivery.id.desc())
        .limit(1)
        .lateral()
    )
    found = (
        select(
            WebhookMessage,
            last.c.at,
            last.c.status,
            last.c.error,
        )
        .outerjoin(last, true())
        .where(WebhookMessage.endpoint_id == endpoint_id)
        .order_by(WebhookMessage.seq.desc())
        .limit(limit)
    )
    if status is not None:
        found = found.where(WebhookMessage.status == status)
    if after is not None:
        found = found.where(WebhookMessage.seq < after)
    return [MessageRow(*row) for row in await session.execute(found)]
