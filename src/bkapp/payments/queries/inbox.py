"""Questions about messages from providers, and about the books.  Reads only."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from msgspec import Struct
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.payments.models import Merchant, Receipt, WebhookInbox
from bkapp.payments.rules import Place


class LetterRow(Struct, frozen=True):
    """A message from a provider, without what stood in it."""

    id: int
    merchant: str
    what: str
    received_at: datetime
    remote_ip: str
    body_bytes: int
    outcome: str
    reason: str | None
    attempt_id: UUID | None


async def letters(
    session: AsyncSession, *, outcomes: Sequence[str], merchant: str | None, before: int | None, limit: int
) -> list[LetterRow]:
    """Messages, the newest first; all outcomes where none is named."""
    statement = (
        select(
            WebhookInbox.id,
            Merchant.key,
            WebhookInbox.what,
            WebhookInbox.received_at,
            WebhookInbox.remote_ip,
            WebhookInbox.body_bytes,
            WebhookInbox.outcome,
            WebhookInbox.reason,
            WebhookInbox.attempt_id,
        )
        .join(Merchant, Merchant.id == WebhookInbox.merchant_id)
        .order_by(WebhookInbox.id.desc())
        .limit(limit)
    )
    if outcomes:
        statement = statement.where(WebhookInbox.outcome.in_([outcome for outcome in outcomes if outcome.isalpha()]))
    if merchant is not None:
        statement = statement.where(Merchant.key == merchant)
    if before is not None:
        statement = statement.where(WebhookInbox.id < before)
    return [LetterRow(*row) for row in await session.execute(statement)]


async def unmatched(session: AsyncSession) -> int:
    """What receipts in suspense come to, in đồng, without what was given back of them."""
    total = await session.scalar(
        select(func.coalesce(func.sum(Receipt.amount - Receipt.refunded), 0)).where(Receipt.place == Place.SUSPENSE)
    )
    return int(total or 0)
