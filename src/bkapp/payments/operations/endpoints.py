"""Where events go, and what signs them: endpoints of partners and banks, and their keys.

A key is shown once, to whoever makes it, and kept sealed.  Two of a scheme may be in force, and then both sign: a new
one is made, the partner takes it up, the old one is retired, and no message in between is one they cannot check.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID, uuid4

from msgspec import Struct
from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.audit.operations import append
from bkapp.db import violated
from bkapp.errors import DomainError, FieldError, Invalid, NotFound
from bkapp.payments import standardwebhooks
from bkapp.payments.models import WebhookEndpoint, WebhookKey
from bkapp.payments.operations.outgoing import locked
from bkapp.payments.sending import ASKABLE, MOST_KEYS, WrongTarget, read_target
from bkapp.sealing import Keyring


class EndpointTaken(DomainError):
    """There is an endpoint at this address."""

    code = "webhook_endpoint_taken"
    title = "Địa chỉ nhận thông báo này đã được đăng ký"


class TooManyKeys(DomainError):
    """Two keys of this scheme are in force; retire one first."""

    code = "webhook_too_many_keys"
    title = "Đã có hai khóa đang dùng, hãy ngừng một khóa trước"


class LastKey(DomainError):
    """The endpoint's only key in force; make another one first, or disable the endpoint."""

    code = "webhook_last_key"
    title = "Đây là khóa cuối cùng đang dùng, hãy tạo khóa mới trước"


class NewKey(Struct, frozen=True):
    """A key that was just made.  ``shown`` is what the partner checks signatures with."""

    id: UUID
    scheme: str
    created_at: datetime
    shown: str


async def add_endpoint(
    session: AsyncSession, *, label: str, url: str, kinds: Sequence[str], demo: bool, by: str
) -> WebhookEndpoint:
    """Register where a partner wants to hear, and of what.  It hears from its first key on.

    The address is read, not asked: what its name stands for is looked up when something is sent.
    """
    try:
        read_target(url, demo=demo)
    except WrongTarget as wrong:
        raise Invalid("Nothing can be sent to this address.", [FieldError("/url", str(wrong))]) from None
    unknown = sorted(set(kinds) - ASKABLE)
    if unknown or not kinds:
        known = ", ".join(sorted(ASKABLE))
        raise Invalid("There is no such kind of event.", [FieldError("/kinds", f"Any of {known}.")])
    endpoint = WebhookEndpoint(label=label, url=url, kinds=list(dict.fromkeys(kinds)), created_by=by)
    session.add(endpoint)
    try:
        await session.flush()
    except IntegrityError as error:
        if violated(error) != "uq_webhook_endpoint_url":
            raise
        raise EndpointTaken("There is an endpoint at this address.") from None
    await session.refresh(endpoint)
    await append(session, kind="webhook_endpoint_added", actor=by, subject=f"webhook_endpoint:{endpoint.id}")
    return endpoint


async def add_key(session: AsyncSession, keyring: Keyring, endpoint_id: UUID, *, scheme: str, by: str) -> NewKey:
    """Make a key of scheme ``v1`` or ``v1a``, which signs from the next message on."""
    await locked(session, endpoint_id)
    slots = select(WebhookKey.slot).where(
        WebhookKey.endpoint_id == endpoint_id, WebhookKey.scheme == scheme, WebhookKey.retired_at.is_(None)
    )
    free = set(range(1, MOST_KEYS + 1)) - set(await session.scalars(slots))
    if not free:
        raise TooManyKeys(f"Two {scheme} keys of this endpoint are in force.")
    key_id = uuid4()
    if scheme == "v1":
        kept = shown = standardwebhooks.new_secret()
    else:
        kept = standardwebhooks.new_private_key()
        shown = standardwebhooks.public_half(kept)
    created_at = await session.scalar(
        insert(WebhookKey)
        .values(
            id=key_id,
            endpoint_id=endpoint_id,
            scheme=scheme,
            slot=min(free),
            secret_cipher=keyring.seal(kept, f"webhook_key:{key_id}"),
        )
        .returning(WebhookKey.created_at)
    )
    assert created_at is not None
    await append(
        session,
        kind="webhook_key_added",
        actor=by,
        subject=f"webhook_endpoint:{endpoint_id}",
        key=str(key_id),
        scheme=scheme,
    )
    return NewKey(key_id, scheme, created_at, shown)


async def retire_key(session: AsyncSession, endpoint_id: UUID, key_id: UUID, *, by: str, now: datetime) -> WebhookKey:
    """A key signs no more; but not the last one, or messages could not be signed.  Safe to repeat."""
    await locked(session, endpoint_id)
    key = await session.get(WebhookKey, key_id)
    if key is None or key.endpoint_id != endpoint_id:
        raise NotFound("The endpoint has no such key.")
    if key.retired_at is not None:
        return key
    others = select(WebhookKey.id).where(
        WebhookKey.endpoint_id == endpoint_id, WebhookKey.id != key_id, WebhookKey.retired_at.is_(None)
    )
    if await session.scalar(others.limit(1)) is None:
        raise LastKey("This is the endpoint's last key in force.")
    key.retired_at = now
    await session.flush()
    await append(
        session,
        kind="webhook_key_retired",
        actor=by,
        subject=f"webhook_endpoint:{endpoint_id}",
        key=str(key_id),
        scheme=key.scheme,
    )
    return key
