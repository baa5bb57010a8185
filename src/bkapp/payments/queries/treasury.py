"""What waits for the province's treasury desk, in numbers.  Reads only."""

from datetime import datetime

from msgspec import Struct
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.payments.models import Merchant, PaymentCase, Refund, WebhookInbox
from bkapp.payments.queries import refunds
from bkapp.payments.queries.bills import Method
from bkapp.payments.queries.refunds import RefundDetails
from bkapp.payments.rules import RefundStatus

NOT_BELIEVED = ("refused", "broken")
"""The outcomes of messages that somebody has to look at."""


class Waiting(Struct, frozen=True):
    """How many cases are open and how many of them late; how many refunds wait for approval, and for a transfer."""

    cases: int
    late: int
    to_approve: int
    to_transfer: int


class Refused(Struct, frozen=True):
    """How many messages of a merchant's provider were not believed, or broke something of ours."""

    merchant: str
    outcome: str
    count: int


async def waiting(session: AsyncSession, *, now: datetime) -> Waiting:
    """What waits for the desk."""
    of_cases = select(func.count(), func.count().filter(PaymentCase.due_at < now)).where(
        PaymentCase.closed_at.is_(None)
    )
    cases, late = (await session.execute(of_cases)).one()
    of_refunds = select(
        func.count().filter(Refund.status == RefundStatus.WAITING),
        func.count().filter(Refund.status == RefundStatus.APPROVED, Refund.by_hand),
    ).where(Refund.status.in_((RefundStatus.WAITING, RefundStatus.APPROVED)))
    return Waiting(cases, late, *(await session.execute(of_refunds)).one())


async def refused(session: AsyncSession, *, since: datetime) -> list[Refused]:
    """The messages since a time that were not believed, by merchant."""
    rows = await session.execute(
        select(Merchant.key, WebhookInbox.outcome, func.count())
        .join(Merchant, Merchant.id == WebhookInbox.merchant_id)
        .where(WebhookInbox.outcome.in_(NOT_BELIEVED), WebhookInbox.received_at >= since)
        .group_by(Merchant.key, WebhookInbox.outcome)
        .order_by(Merchant.key, WebhookInbox.outcome)
    )
    return [Refused(*row) for row in rows]


async def to_transfer(session: AsyncSession, *, limit: int) -> list[RefundDetails]:
    """The refunds that were agreed to and that the treasury transfers by hand, oldest first."""
    wanted = (
        select(Refund.id)
        .where(Refund.status == RefundStatus.APPROVED, Refund.by_hand)
        .order_by(Refund.requested_at, Refund.id)
        .limit(limit)
    )
    found = [await refunds.refund(session, one) for one in (await session.scalars(wanted)).all()]
    return [one for one in found if one is not None]


async def merchants(session: AsyncSession) -> list[Method]:
    """Every merchant, also those that are no way to pay any more: their files still come."""
    rows = await session.execute(
        select(Merchant.key, Merchant.provider, Merchant.title).order_by(Merchant.position, Merchant.key)
    )
    return [Method(*row) for row in rows]
