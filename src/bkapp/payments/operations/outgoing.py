"""Telling partners and banks what becomes of bills: queueing, claiming, what came of a try, sending once more.

A message belongs to one endpoint and one bill, and goes out when all before it of the two are settled: delivered, or
given up.  Whoever sends one has claimed it in a transaction of their own (a lease, and the number of the try), sends,
and records in another; a claim that nobody records runs out, and the message is sent again under the same id.

Everything here but a claim locks the endpoint before its messages.
"""

from datetime import UTC, datetime
from secrets import token_hex
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct
from sqlalchemy import func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.audit.operations import append
from bkapp.db import carry_out
from bkapp.errors import DomainError, NotFound
from bkapp.jobs import defer
from bkapp.payments.models import WebhookDelivery, WebhookEndpoint, WebhookKey, WebhookMessage
from bkapp.payments.sending import (
    DISABLE,
    GIVE_UP,
    KINDS,
    LEASE,
    TROUBLED,
    Answer,
    families,
    next_try,
    read_retry_after,
)
from bkapp.sealing import Keyring, Unsealable

TASK = "payments.deliver"
LOST = "lost"
"""What is noted of a try that nobody recorded: whether it arrived is not known."""
UNSIGNED = "unsigned"
"""What is noted of a message that we could not sign; it was not sent."""


class EndpointDisabled(DomainError):
    """The endpoint is disabled, so nothing is sent to it; enable it first."""

    code = "webhook_endpoint_disabled"
    title = "Địa chỉ nhận thông báo đang bị tắt, hãy bật lại trước"


class MessageUnderWay(DomainError):
    """The message is being sent at this moment; ask again after Retry-After."""

    code = "webhook_message_under_way"
    title = "Thông báo này đang được gửi"


class Claimed(Struct, frozen=True):
    """A message that is the holder's to send.  Without ``keys`` it cannot be signed."""

    seq: int
    id: str
    endpoint_id: UUID
    url: str
    body: str
    tries: int
    keys: tuple[str, ...]


_QUEUE = """
    INSERT INTO webhook_message (id, endpoint_id, bill_id, kind, body, next_try_at, give_up_at)
    SELECT %(id)s, e.id, %(bill_id)s, %(kind)s, %(body)s, %(now)s, %(give_up_at)s FROM webhook_endpoint e
    WHERE e.active AND e.kinds && %(wanting)s
        AND EXISTS (SELECT FROM webhook_key k WHERE k.endpoint_id = e.id AND k.retired_at IS NULL)
    RETURNING endpoint_id"""


async def tell(session: AsyncSession, *, kind: str, bill_id: UUID, data: dict[str, object], now: datetime) -> None:
    """Queue an event for every endpoint that wants its kind, as part of this transaction.

    ``data`` names nobody.  The order of messages is that of these calls, if the caller holds the bill's row.  An
    endpoint hears from its first key on: before, nothing could be signed.
    """
    if kind not in KINDS:
        raise ValueError(f"{kind} is no kind that endpoints can ask for.")
    payload = {"type": kind, "timestamp": now.astimezone(UTC), "data": {"bill": bill_id, **data}}
    values = {
        "id": f"msg_{token_hex(16)}",
        "bill_id": bill_id,
        "kind": kind,
        "body": msgspec.json.encode(payload).decode(),
        "now": now,
        "give_up_at": now + GIVE_UP,
        "wanting": families(kind),
    }
    for (endpoint_id,) in await carry_out(session, _QUEUE, values):
        await defer(session, TASK, endpoint_id=str(endpoint_id), bill_id=str(bill_id))


# Only the first message of an endpoint and a bill can be claimed: SKIP LOCKED must not skip to its successor.
_CLAIM = text("""
    WITH first AS (
        SELECT m.seq, m.next_try_at FROM webhook_message m JOIN webhook_endpoint e ON e.id = m.endpoint_id
        WHERE m.seq = (SELECT min(seq) FROM webhook_message
                WHERE endpoint_id = :endpoint_id AND bill_id = :bill_id AND status = 'waiting')
            AND m.status = 'waiting' AND m.next_try_at <= :now AND e.active AND e.failures < :most_failures
        FOR UPDATE OF m SKIP LOCKED)
    UPDATE webhook_message m SET next_try_at = :until, tries = m.tries + 1
    FROM first, webhook_endpoint e WHERE m.seq = first.seq AND e.id = m.endpoint_id
    RETURNING m.seq, m.id, m.endpoint_id, e.url, m.body, m.tries""")
# The try before this one, if nobody recorded it.
_LOST = text("""
    INSERT INTO webhook_delivery (message_seq, at, error, milliseconds)
    SELECT :seq, :now, :error, 0
    WHERE (SELECT count(*) FROM webhook_delivery WHERE message_seq = :seq) < :tries - 1""")


async def claim(
    session: AsyncSession, keyring: Keyring, *, endpoint_id: UUID, bill_id: UUID, now: datetime, troubled_too: bool
) -> Claimed | None:
    """Take the oldest waiting message of an endpoint and a bill, if it is due and nobody else has it.

    An endpoint that has failed often in a row gives none, but to those who ask for ``troubled_too``.
    """
    asked = {
        "endpoint_id": endpoint_id,
        "bill_id": bill_id,
        "now": now,
        "until": now + LEASE,
        "most_failures": 2**31 - 1 if troubled_too else TROUBLED,
    }
    row = (await session.execute(_CLAIM, asked)).one_or_none()
    if row is None:
        return None
    await session.execute(_LOST, {"seq": row.seq, "now": now, "error": LOST, "tries": row.tries})
    keys = await _keys(session, keyring, endpoint_id)
    return Claimed(row.seq, row.id, row.endpoint_id, row.url, row.body, row.tries, keys)


async def _keys(session: AsyncSession, keyring: Keyring, endpoint_id: UUID) -> tuple[str, ...]:
    """The keys in force, newest first; none if one of them does not open."""
    kept = await session.execute(
        select(WebhookKey.id, WebhookKey.secret_cipher)
        .where(WebhookKey.endpoint_id == endpoint_id, WebhookKey.retired_at.is_(None))
        .order_by(WebhookKey.created_at.desc())
    )
    try:
        return tuple(keyring.open(cipher, f"webhook_key:{key_id}") for key_id, cipher in kept)
    except Unsealable:
        return ()


async def record(
    session: AsyncSession,
    claimed: Claimed,
    answer: Answer,
    *,
    at: datetime,
    now: datetime,
    share: float,
    asked_by: str | None,
) -> None:
    """Keep what came of sending a claimed message: sent ``at``, answered ``now``.

    Who lost the claim meanwhile, by being slower than the lease, changes nothing: the message is somebody else's.
    ``share`` is a number drawn between 0 and 1 (:func:`bkapp.payments.sending.next_try`).
    """
    endpoint = await session.get_one(WebhookEndpoint, claimed.endpoint_id, with_for_update={"key_share": True})
    message = await session.scalar(
        select(WebhookMessage)
        .where(
            WebhookMessage.seq == claimed.seq,
            WebhookMessage.tries == claimed.tries,
            WebhookMessage.status == "waiting",
        )
        .with_for_update()
    )
    if message is None:
        return
    milliseconds = round((now - at).total_seconds() * 1000)
    session.add(
        WebhookDelivery(
            message_seq=claimed.seq,
            at=at,
            status=answer.status,
            error=answer.error,
            milliseconds=milliseconds,
            asked_by=asked_by,
        )
    )
    await session.flush()
    if answer.good:
        message.status, message.next_try_at, message.delivered_at = "delivered", None, now
        endpoint.failures, endpoint.failing_since, endpoint.last_success_at = 0, None, now
        return
    await _postpone(session, message, answer, now=now, share=share)
    if answer.error == UNSIGNED:
        return  # which says nothing about the endpoint
    endpoint.failures += 1
    endpoint.failing_since = endpoint.failing_since or now
    if endpoint.active and answer.status == 410:
        await _disable(session, endpoint, reason="gone", by=TASK, now=now)
    elif endpoint.active and now - endpoint.failing_since >= DISABLE:
        await _disable(session, endpoint, reason="failing", by=TASK, now=now)


async def _postpone(
    session: AsyncSession, message: WebhookMessage, answer: Answer, *, now: datetime, share: float
) -> None:
    failed = await session.scalar(
        select(func.count()).where(
            WebhookDelivery.message_seq == message.seq, WebhookDelivery.at >= message.give_up_at - GIVE_UP
        )
    )
    message.next_try_at = next_try(
        now,
        failed=failed or 1,
        share=share,
        retry_after=read_retry_after(answer.retry_after, now),
        give_up_at=message.give_up_at,
    )
    if message.next_try_at is None:
        message.status = "given_up"


async def _disable(session: AsyncSession, endpoint: WebhookEndpoint, *, reason: str, by: str, now: datetime) -> None:
    endpoint.active, endpoint.disabled_at, endpoint.disabled_reason = False, now, reason
    await session.flush()
    await append(
        session, kind="webhook_endpoint_disabled", actor=by, subject=f"webhook_endpoint:{endpoint.id}", reason=reason
    )


async def give_up_overdue(session: AsyncSession, *, now: datetime) -> int:
    """Give up what waits longer than it should for an endpoint that is disabled; return how many messages."""
    given_up = await session.execute(
        update(WebhookMessage)
        .where(
            WebhookMessage.status == "waiting",
            WebhookMessage.give_up_at <= now,
            WebhookMessage.next_try_at <= now,  # nobody is sending it
            WebhookMessage.endpoint_id.in_(select(WebhookEndpoint.id).where(~WebhookEndpoint.active)),
        )
        .values(status="given_up", next_try_at=None)
        .execution_options(synchronize_session=False)
    )
    return given_up.rowcount  # type: ignore[attr-defined,no-any-return]


async def disable_endpoint(session: AsyncSession, endpoint_id: UUID, *, by: str, now: datetime) -> WebhookEndpoint:
    """Send nothing more to an endpoint.  What waits stays, for as long as it would have been tried.  Safe to repeat."""
    endpoint = await locked(session, endpoint_id)
    if endpoint.active:
        await _disable(session, endpoint, reason="operator", by=by, now=now)
    return endpoint


async def enable_endpoint(session: AsyncSession, endpoint_id: UUID, *, by: str, now: datetime) -> WebhookEndpoint:
    """Send to an endpoint again, at once what waits for it, with three more days for each.  Safe to repeat."""
    endpoint = await locked(session, endpoint_id)
    if endpoint.active:
        return endpoint
    endpoint.active, endpoint.disabled_at, endpoint.disabled_reason = True, None, None
    endpoint.failures, endpoint.failing_since = 0, None
    await session.flush()
    await _make_due(session, WebhookMessage.endpoint_id == endpoint_id, now=now)
    await defer(session, TASK, endpoint_id=str(endpoint_id), bill_id=None)
    await append(session, kind="webhook_endpoint_enabled", actor=by, subject=f"webhook_endpoint:{endpoint_id}")
    return endpoint


async def redeliver(session: AsyncSession, seq: int, *, by: str, now: datetime) -> WebhookMessage:
    """Send a message once more and at once, under its id, whatever came of it before.

    If it still waits behind others of its bill, these are tried at once, too: the order stays.
    """
    endpoint_id = await session.scalar(select(WebhookMessage.endpoint_id).where(WebhookMessage.seq == seq))
    if endpoint_id is None:
        raise NotFound("There is no such message.")
    endpoint = await locked(session, endpoint_id)
    if not endpoint.active:
        raise EndpointDisabled("The endpoint of this message is disabled.", reason=endpoint.disabled_reason)
    message = await session.get_one(WebhookMessage, seq, with_for_update=True, populate_existing=True)
    if message.status == "waiting":
        if await session.scalar(select(_under_way(now)).where(WebhookMessage.seq == seq)):
            raise MessageUnderWay("This message is being sent now.", retry_after=round(LEASE.total_seconds()))
    else:
        message.status, message.delivered_at = "waiting", None
        message.next_try_at, message.give_up_at = now, now + GIVE_UP
        await session.flush()
    together = (
        (WebhookMessage.endpoint_id == endpoint_id)
        & (WebhookMessage.bill_id == message.bill_id)
        & (WebhookMessage.seq <= seq)
    )
    await _make_due(session, together, now=now)
    await session.refresh(message)
    await defer(session, TASK, endpoint_id=str(endpoint_id), bill_id=str(message.bill_id), message_seq=seq, asked_by=by)
    await append(session, kind="webhook_redelivered", actor=by, subject=f"webhook_message:{seq}")
    return message


async def locked(session: AsyncSession, endpoint_id: UUID) -> WebhookEndpoint:
    """An endpoint that nobody else changes until this transaction ends; new messages for it do not wait."""
    endpoint = await session.get(
        WebhookEndpoint, endpoint_id, with_for_update={"key_share": True}, populate_existing=True
    )
    if endpoint is None:
        raise NotFound("There is no such endpoint.")
    return endpoint


def _under_way(now: datetime) -> Any:
    """Whether a waiting message is claimed: its last try is not recorded, and the lease not over."""
    recorded = select(func.count()).where(WebhookDelivery.message_seq == WebhookMessage.seq).scalar_subquery()
    return (WebhookMessage.next_try_at > now) & (WebhookMessage.tries > recorded)


async def _make_due(session: AsyncSession, which: Any, *, now: datetime) -> None:
    await session.execute(
        update(WebhookMessage)
        .where(which, WebhookMessage.status == "waiting", ~_under_way(now))
        .values(next_try_at=now, give_up_at=now + GIVE_UP)
        .execution_options(synchronize_session=False)
    )
