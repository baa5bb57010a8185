"""Messages from providers: kept as they came, then read, then answered, all in one transaction.

A message is stored before anybody looks at it, so that nothing is lost whatever it turns out to be.  What follows from
it (a move of an attempt, money, the ledger, messages to partners, jobs) commits with it or not at all; one that we
break on is kept in a transaction of its own.
"""

import ipaddress
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from uuid import UUID

import structlog
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.audit.operations import append
from bkapp.db import carry_out, is_outage, violated
from bkapp.errors import NotFound
from bkapp.payments import providers
from bkapp.payments.models import Bill, Merchant, PaymentAttempt, WebhookInbox
from bkapp.payments.operations.evidence import about, weigh
from bkapp.payments.operations.merchants import VERSION, opened, opened_as
from bkapp.payments.providers import Answer, Call, Finding, Hearing, HookRefused, Provider, Verdict
from bkapp.payments.providers.registry import Providers
from bkapp.payments.rules import LIVE, BillStatus, Evidence
from bkapp.sealing import Keyring

LONGEST_BODY = 65_536
KEPT_OF_TOO_LONG = 4_096
KEPT_HEADERS = ("content-type", "user-agent", "webhook-id", "webhook-timestamp", "webhook-signature")
_DONE = frozenset({"applied", "duplicate"})

log = structlog.get_logger("bkapp.payments")


async def receive(
    session: AsyncSession,
    known: Providers,
    keyring: Keyring,
    key: str,
    call: Call,
    *,
    home: str,
    remote_ip: str,
    now: datetime,
) -> Answer:
    """Keep a message to the merchant with a key, act on it, and say what to answer; raise ``NotFound``.

    Nothing that a stranger sends raises anything else.  What does is a mistake of ours, which undoes what was done
    (:func:`keep_broken`), or the same message at the same moment (:func:`is_twin`), after which this is to be done once
    more.
    """
    number, row, merchant = await begin(session, keyring, key, home)
    await keep(session, keyring, row, number, call, remote_ip)
    provider = known.of(row.provider)
    return await _act(session, provider, merchant, row, number, call, remote_ip=remote_ip, came_at=now, now=now)


async def keep_broken(
    session: AsyncSession,
    known: Providers,
    keyring: Keyring,
    key: str,
    call: Call,
    error: Exception,
    *,
    home: str,
    remote_ip: str,
    now: datetime,
) -> Answer:
    """Keep a message that we broke on, so that an operator can act on it, and ask the provider to come again."""
    number, row, merchant = await begin(session, keyring, key, home)
    await keep(session, keyring, row, number, call, remote_ip)
    log.error("webhook_broke", merchant=row.key, inbox=number, exc_info=error)
    await note(session, number, "broken", reason=type(error).__name__, now=now)
    provider = known.of(row.provider)
    context: Mapping[str, str] = {}
    with suppress(Exception):  # it may be what broke us
        context = _heard(provider, merchant, row, call, remote_ip, now).context
    return provider.answer(merchant, Verdict.BROKEN, context, now=now)


def is_twin(error: Exception) -> bool:
    """Whether the same message came at the same moment, was waited for, and is known by now."""
    return isinstance(error, IntegrityError) and violated(error) == "uq_webhook_inbox_event"


async def replay(
    session: AsyncSession, known: Providers, keyring: Keyring, inbox_id: int, *, home: str, by: str, now: datetime
) -> WebhookInbox:
    """Act anew on a message that was refused or that we broke on, as it was kept; raise ``NotFound``.

    One that was acted on stays as it is.
    """
    letter = await session.get(WebhookInbox, inbox_id, with_for_update=True)
    if letter is None or letter.body_cipher is None:
        raise NotFound("There is no such message, or what stood in it was forgotten.")
    if letter.outcome in _DONE:
        return letter
    row = await session.get_one(Merchant, letter.merchant_id)
    headers = json.loads(letter.headers)
    raw = keyring.open(letter.body_cipher, f"webhook_inbox:{letter.id}").encode("latin-1")
    query, _, body = raw.partition(b"\n")
    call = Call(method=headers.pop(":method"), what=letter.what, query=query, headers=headers, body=body)
    merchant = await opened(session, keyring, row, home)
    try:
        async with session.begin_nested():
            provider, remote_ip = known.of(row.provider), letter.remote_ip
            # Its age is judged as it was when it came; what follows from it happens now.
            at = letter.received_at
            await _act(session, provider, merchant, row, letter.id, call, remote_ip=remote_ip, came_at=at, now=now)
    except Exception as error:
        if is_outage(error):
            raise
        log.exception("webhook_broke", merchant=row.key, inbox=letter.id)
        await note(session, letter.id, "broken", reason=type(error).__name__, now=now)
    await session.refresh(letter)
    await append(session, kind="webhook_replayed", actor=by, subject=f"webhook_inbox:{inbox_id}")
    return letter


_BEGIN = f"""
    SELECT nextval('webhook_inbox_id_seq'), set_config('lock_timeout', '4s', true), {VERSION}
    FROM merchant m WHERE m.key = %(key)s"""


async def begin(
    session: AsyncSession, keyring: Keyring, key: str, home: str
) -> tuple[int, Merchant, providers.Merchant]:
    """A number for a message to the merchant with a key, and that merchant; raise ``NotFound``.

    From here on its transaction waits for others only so long: a provider that is told to come again does, and a
    connection that waits for ever is missing to everybody.
    """
    found = await carry_out(session, _BEGIN, {"key": key})
    if not found:
        raise NotFound("There is no such payment method.")
    row, merchant = await opened_as(session, keyring, key, home, version=found[0][2:])
    return int(found[0][0]), row, merchant


_KEEP = """
    INSERT INTO webhook_inbox (id, merchant_id, what, remote_ip, headers, body_cipher, body_bytes, outcome)
    VALUES (%(id)s, %(merchant_id)s, %(what)s, %(remote_ip)s, %(headers)s, %(body_cipher)s, %(body_bytes)s, 'received')
"""


async def keep(session: AsyncSession, keyring: Keyring, row: Merchant, number: int, call: Call, remote_ip: str) -> None:
    """Store a message as it came, before anybody reads it."""
    body = call.body if len(call.body) <= LONGEST_BODY else call.body[:KEPT_OF_TOO_LONG]
    text = (call.query[:LONGEST_BODY] + b"\n" + body).decode("latin-1")
    headers = {name: call.headers[name][:1024] for name in KEPT_HEADERS if name in call.headers}
    letter = {
        "id": number,
        "merchant_id": row.id,
        "what": call.what[:64],
        "remote_ip": remote_ip,
        "headers": json.dumps({":method": call.method, **headers}),
        "body_cipher": keyring.seal(text, f"webhook_inbox:{number}"),
        "body_bytes": len(call.body),
    }
    await carry_out(session, _KEEP, letter)


_NOTE = """
    UPDATE webhook_inbox SET outcome = %(outcome)s, reason = %(reason)s, answered_at = %(now)s,
        event_id = CASE WHEN %(again)s THEN NULL ELSE event_id END,
        attempt_id = coalesce(%(attempt_id)s::uuid, attempt_id)
    WHERE id = %(id)s"""


async def note(
    session: AsyncSession,
    number: int,
    outcome: str,
    *,
    reason: str | None = None,
    again: bool = False,
    attempt_id: UUID | None = None,
    now: datetime,
) -> None:
    """Note what came of a message.  ``again``: the same may come once more and then mean something."""
    values = {"id": number, "outcome": outcome, "reason": reason and reason[:500], "again": again, "now": now}
    await carry_out(session, _NOTE, {**values, "attempt_id": attempt_id})


async def _act(
    session: AsyncSession,
    provider: Provider,
    merchant: providers.Merchant,
    row: Merchant,
    number: int,
    call: Call,
    *,
    remote_ip: str,
    came_at: datetime,
    now: datetime,
) -> Answer:
    try:
        hearing = _heard(provider, merchant, row, call, remote_ip, came_at)
    except HookRefused as refused:
        await note(session, number, "refused", reason=f"{refused.verdict}: {refused.reason}", now=now)
        return provider.answer(merchant, refused.verdict, refused.context, now=now)
    if hearing.finding is None:
        await note(session, number, "noted", now=now)
        verdict = await _confirm(session, row, hearing)
    else:
        verdict = await _take(session, row, number, hearing.event_id, hearing.finding, now=now)
    return provider.answer(merchant, verdict, hearing.context, now=now)


def _heard(
    provider: Provider, merchant: providers.Merchant, row: Merchant, call: Call, remote_ip: str, now: datetime
) -> Hearing:
    require_acceptable(row, call, remote_ip, weak=getattr(provider, "needs_allow_list", False))
    return provider.hear(merchant, call, now=now)


def require_acceptable(row: Merchant, call: Call, remote_ip: str, *, weak: bool) -> None:
    """Raise :class:`HookRefused` for a message from elsewhere, or too long to be one.

    A protocol that is ``weak`` is believed only from addresses that the merchant lists.
    """
    if not _allowed(remote_ip, row.allowed_ips, needed=weak):
        raise HookRefused(Verdict.FORBIDDEN, "not from an address of the provider")
    if len(call.body) > LONGEST_BODY or len(call.query) > LONGEST_BODY:
        raise HookRefused(Verdict.MALFORMED, "too long")


def _allowed(remote_ip: str, networks: Sequence[str], *, needed: bool) -> bool:
    """Whether a message may come from there.  A weak protocol without a list is believed from nowhere."""
    if not networks:
        return not needed
    try:
        address = ipaddress.ip_address(remote_ip)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return any(address in ipaddress.ip_network(network, strict=False) for network in networks)


# The outcome is what it nearly always is, so that nothing is left to do once money is booked, when others wait for us.
_CLAIM = """
    UPDATE webhook_inbox SET event_id = %(event_id)s, attempt_id = %(attempt_id)s, outcome = 'applied', reason = NULL,
        answered_at = %(now)s
    WHERE id = %(id)s AND NOT EXISTS (
        SELECT FROM webhook_inbox WHERE merchant_id = %(merchant_id)s AND event_id = %(event_id)s AND id <> %(id)s)
    RETURNING id"""


async def _take(
    session: AsyncSession, row: Merchant, number: int, event_id: str, finding: Finding, *, now: datetime
) -> Verdict:
    bill, attempt = await about(session, row, finding)
    attempt_id = None if attempt is None else attempt.id
    event = {"id": number, "merchant_id": row.id, "event_id": event_id, "attempt_id": attempt_id, "now": now}
    if not await carry_out(session, _CLAIM, event):
        # It says the same of the payer, and is found by its attempt when they are erased.
        await note(session, number, "duplicate", attempt_id=attempt_id, now=now)
        return Verdict.KNOWN
    source = f"inbox:{number}"
    verdict = await weigh(session, row, bill, attempt, finding, evidence=Evidence.WEBHOOK, source=source, now=now)
    if verdict is not Verdict.TAKEN:
        # Until the same message means something, it gets the same answer.
        await note(session, number, "noted", reason=verdict, again=verdict is not Verdict.KNOWN, now=now)
    return verdict


async def _confirm(session: AsyncSession, row: Merchant, hearing: Hearing) -> Verdict:
    """A provider asks, before it charges, whether an order is one of ours and what it asks."""
    found = (
        await session.execute(
            select(PaymentAttempt.status, PaymentAttempt.amount, Bill.status)
            .join(Bill, Bill.id == PaymentAttempt.bill_id)
            .where(PaymentAttempt.merchant_id == row.id, PaymentAttempt.reference == hearing.asks)
        )
    ).one_or_none()
    if found is None:
        return Verdict.NO_ORDER
    status, amount, bill_status = found
    if hearing.amount is not None and hearing.amount != amount:
        return Verdict.WRONG_AMOUNT
    # What may not be paid any more is, to whoever wants to take money for it, no order.
    return Verdict.TAKEN if status in LIVE and bill_status is BillStatus.OPEN else Verdict.NO_ORDER
