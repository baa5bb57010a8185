"""What the API of outgoing webhooks accepts and returns."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from msgspec import Meta, Struct

from bkapp.payments.models import WebhookEndpoint, WebhookKey, WebhookMessage
from bkapp.payments.operations.endpoints import NewKey
from bkapp.payments.queries.outgoing import MessageRow, Waiting
from bkapp.payments.sending import ASKABLE

Status = Literal["waiting", "delivered", "given_up"]


class AddEndpoint(Struct, frozen=True, forbid_unknown_fields=True):
    """Where a partner wants to hear of bills, and of what."""

    label: Annotated[str, Meta(min_length=1, max_length=200, description="Whose it is.")]
    url: Annotated[
        str, Meta(min_length=1, max_length=2000, description="https, a public host, port 443 or one from 1024 on.")
    ]
    kinds: Annotated[
        list[Annotated[str, Meta(min_length=1, max_length=100)]],
        Meta(min_length=1, max_length=len(ASKABLE), description="Any of " + ", ".join(sorted(ASKABLE)) + "."),
    ]


class AddKey(Struct, frozen=True, forbid_unknown_fields=True):
    """``v1`` is HMAC-SHA256 with a shared secret, ``v1a`` Ed25519, of which the partner gets the public key."""

    scheme: Literal["v1", "v1a"] = "v1"


class EndpointOut(Struct, frozen=True):
    """An endpoint and how it is."""

    id: UUID
    label: str
    url: str
    kinds: list[str]
    created_at: datetime
    active: bool
    failures: Annotated[int, Meta(description="In a row.")]
    failing_since: datetime | None
    last_success_at: datetime | None
    disabled_at: datetime | None
    disabled_reason: Annotated[str | None, Meta(description="operator, gone (it answered 410) or failing (five days).")]

    @classmethod
    def of(cls, row: WebhookEndpoint) -> Self:
        return cls(
            row.id,
            row.label,
            row.url,
            row.kinds,
            row.created_at,
            row.active,
            row.failures,
            row.failing_since,
            row.last_success_at,
            row.disabled_at,
            row.disabled_reason,
        )


class EndpointsOut(Struct, frozen=True):
    endpoints: list[EndpointOut]


class KeyOut(Struct, frozen=True):
    """A key, without what is secret about it."""

    id: UUID
    scheme: str
    created_at: datetime
    retired_at: datetime | None

    @classmethod
    def of(cls, row: WebhookKey) -> Self:
        return cls(row.id, row.scheme, row.created_at, row.retired_at)


class NewKeyOut(Struct, frozen=True):
    """A key that was just made.  What the partner checks with is shown this once."""

    id: UUID
    scheme: str
    created_at: datetime
    key: Annotated[str, Meta(description="whsec_… for v1, a secret; whpk_… for v1a, a public key.")]

    @classmethod
    def of(cls, made: NewKey) -> Self:
        return cls(made.id, made.scheme, made.created_at, made.shown)


class HealthOut(Struct, frozen=True):
    """An endpoint, its keys and what waits for it."""

    endpoint: EndpointOut
    keys: list[KeyOut]
    waiting: Annotated[int, Meta(description="Messages that are not delivered yet.")]
    waiting_since: datetime | None

    @classmethod
    def of(cls, endpoint: WebhookEndpoint, keys: Sequence[WebhookKey], waiting: Waiting) -> Self:
        return cls(EndpointOut.of(endpoint), [KeyOut.of(key) for key in keys], waiting.messages, waiting.since)


class MessageOut(Struct, frozen=True):
    """A message and how far it is."""

    seq: int
    id: Annotated[str, Meta(description="The webhook-id, the same at every try.")]
    bill: UUID
    kind: str
    created_at: datetime
    status: Annotated[str, Meta(description="waiting, delivered or given_up.")]
    tries: int
    next_try_at: datetime | None
    give_up_at: datetime
    delivered_at: datetime | None

    @classmethod
    def of(cls, row: WebhookMessage) -> Self:
        return cls(
            row.seq,
            row.id,
            row.bill_id,
            row.kind,
            row.created_at,
            row.status,
            row.tries,
            row.next_try_at,
            row.give_up_at,
            row.delivered_at,
        )


class TriedMessageOut(Struct, frozen=True):
    """A message and what came of its last try."""

    message: MessageOut
    last_try_at: datetime | None
    last_status: Annotated[int | None, Meta(description="What the endpoint answered.")]
    last_error: Annotated[
        str | None,
        Meta(
            description="Why there is no answer: address_refused, unresolved, unreachable, certificate, timeout, "
            "broken, unsigned (nothing was sent), lost (we stopped before we knew)."
        ),
    ]

    @classmethod
    def of(cls, row: MessageRow) -> Self:
        return cls(MessageOut.of(row.message), row.last_try_at, row.last_status, row.last_error)


class MessagesOut(Struct, frozen=True):
    messages: list[TriedMessageOut]
    next: int | None
