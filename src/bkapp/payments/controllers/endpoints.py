"""HTTP for outgoing webhooks: where events go, what signs them, what became of them.  For the province's registrar."""

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from litestar import Controller, Response, get, post
from litestar.datastructures import State
from litestar.params import JSONBody, PathParameter, QueryParameter
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.guards import Asking, admin
from bkapp.errors import NotFound
from bkapp.http import KEYED, IdempotencyKey, Reading, Transaction, documented
from bkapp.payments.flows import delivering
from bkapp.payments.models import WebhookEndpoint
from bkapp.payments.operations import endpoints, outgoing
from bkapp.payments.queries import outgoing as queries
from bkapp.payments.schemas.endpoints import (
    AddEndpoint,
    AddKey,
    EndpointOut,
    EndpointsOut,
    HealthOut,
    KeyOut,
    MessageOut,
    MessagesOut,
    NewKeyOut,
    Status,
    TriedMessageOut,
)

SEEN = documented(401, 403, 404)
CHANGE = documented(401, 403, 404, 409, 413, 415, 422)
PRIVATE = {"Cache-Control": "no-store"}

Id = Annotated[UUID, PathParameter()]
Seq = Annotated[int, PathParameter(ge=1, le=9_000_000_000_000_000)]
Limit = Annotated[int, QueryParameter(ge=1, le=100)]
After = Annotated[int | None, QueryParameter(ge=1, description="`next` of the page before.")]


class EndpointController(Controller):
    """Where partners and banks hear what becomes of bills."""

    path = "/api/v1/webhook-endpoints"
    tags = ("payments",)

    @get("/", operation_id="listWebhookEndpoints", guards=[admin], security=KEYED, responses=documented(401, 403))
    async def list_endpoints(self, reading: Reading) -> Response[EndpointsOut]:
        """All endpoints, the oldest first."""
        found = await queries.endpoints(reading)
        return Response(EndpointsOut([EndpointOut.of(row) for row in found]), headers=PRIVATE)

    @post("/", operation_id="addWebhookEndpoint", guards=[admin], security=KEYED, responses=CHANGE)
    async def add(
        self,
        state: State,
        transaction: Transaction,
        asking: Asking,
        idempotency_key: IdempotencyKey,
        data: JSONBody[AddEndpoint],
    ) -> EndpointOut:
        """Register where a partner wants to hear, and of what; it hears from its first key on.

        Messages follow Standard Webhooks. What the host stands for is looked up and checked at every delivery.
        """
        made = await endpoints.add_endpoint(
            transaction,
            label=data.label,
            url=data.url,
            kinds=data.kinds,
            demo=state.settings.demo,
            by=asking.id,
        )
        return EndpointOut.of(made)

    @get("/{endpoint_id:uuid}", operation_id="showWebhookEndpoint", guards=[admin], security=KEYED, responses=SEEN)
    async def show(self, reading: Reading, endpoint_id: Id) -> Response[HealthOut]:
        """An endpoint, its keys and how it is."""
        found = await _found(reading, endpoint_id)
        keys = await queries.keys_of(reading, endpoint_id)
        return Response(HealthOut.of(found, keys, await queries.waiting_for(reading, endpoint_id)), headers=PRIVATE)

    @post(
        "/{endpoint_id:uuid}/disable",
        operation_id="disableWebhookEndpoint",
        status_code=200,
        guards=[admin],
        security=KEYED,
        responses=CHANGE,
    )
    async def disable(
        self, transaction: Transaction, asking: Asking, idempotency_key: IdempotencyKey, endpoint_id: Id
    ) -> EndpointOut:
        """Send nothing more to it. What waits is kept for as long as it would have been tried."""
        return EndpointOut.of(
            await outgoing.disable_endpoint(transaction, endpoint_id, by=asking.id, now=datetime.now(UTC))
        )

    @post(
        "/{endpoint_id:uuid}/enable",
        operation_id="enableWebhookEndpoint",
        status_code=200,
        guards=[admin],
        security=KEYED,
        responses=CHANGE,
    )
    async def enable(
        self, transaction: Transaction, asking: Asking, idempotency_key: IdempotencyKey, endpoint_id: Id
    ) -> EndpointOut:
        """Send to it again, at once what waits for it. What happened meanwhile was not kept for it."""
        return EndpointOut.of(
            await outgoing.enable_endpoint(transaction, endpoint_id, by=asking.id, now=datetime.now(UTC))
        )

    @post(
        "/{endpoint_id:uuid}/keys",
        operation_id="addWebhookKey",
        guards=[admin],
        security=KEYED,
        opt={"flow": True},
        responses=CHANGE,
    )
    async def add_key(
        self, state: State, asking: Asking, endpoint_id: Id, data: JSONBody[AddKey]
    ) -> Response[NewKeyOut]:
        """Make a key, which signs from the next message on, beside the one before it. It is shown this once.

        Two of a scheme may be in force: hand the new one over, then retire the old one. A repeat makes another key, so
        this takes no `Idempotency-Key`; retire one whose answer was lost.
        """
        made = await delivering.add_key(state.sessions, state.keyring, endpoint_id, scheme=data.scheme, by=asking.id)
        return Response(NewKeyOut.of(made), status_code=201, headers=PRIVATE)

    @post(
        "/{endpoint_id:uuid}/keys/{key_id:uuid}/retire",
        operation_id="retireWebhookKey",
        status_code=200,
        guards=[admin],
        security=KEYED,
        responses=CHANGE,
    )
    async def retire_key(
        self, transaction: Transaction, asking: Asking, idempotency_key: IdempotencyKey, endpoint_id: Id, key_id: Id
    ) -> KeyOut:
        """A key signs no more. The last one in force stays."""
        return KeyOut.of(
            await endpoints.retire_key(transaction, endpoint_id, key_id, by=asking.id, now=datetime.now(UTC))
        )

    @get(
        "/{endpoint_id:uuid}/messages",
        operation_id="listWebhookMessages",
        guards=[admin],
        security=KEYED,
        responses=SEEN,
    )
    async def messages(
        self,
        reading: Reading,
        endpoint_id: Id,
        *,
        status: Annotated[Status | None, QueryParameter()] = None,
        limit: Limit = 50,
        after: After = None,
    ) -> Response[MessagesOut]:
        """The messages for an endpoint, newest first, and what came of each one's last try."""
        await _found(reading, endpoint_id)
        found = await queries.messages(reading, endpoint_id, status=status, limit=limit + 1, after=after)
        page = found[:limit]
        following = page[-1].message.seq if len(found) > limit else None
        return Response(MessagesOut([TriedMessageOut.of(row) for row in page], following), headers=PRIVATE)


class MessageController(Controller):
    """Messages to partners."""

    path = "/api/v1/webhook-messages"
    tags = ("payments",)

    @post(
        "/{seq:int}/redeliver",
        operation_id="redeliverWebhookMessage",
        status_code=200,
        guards=[admin],
        security=KEYED,
        responses=CHANGE,
    )
    async def redeliver(
        self, transaction: Transaction, asking: Asking, idempotency_key: IdempotencyKey, seq: Seq
    ) -> MessageOut:
        """Send a message once more and at once, under its id, whatever came of it before.

        If it still waits behind others of its bill, these are tried at once, too.
        """
        return MessageOut.of(await outgoing.redeliver(transaction, seq, by=asking.id, now=datetime.now(UTC)))


async def _found(session: AsyncSession, endpoint_id: UUID) -> WebhookEndpoint:
    found = await queries.endpoint(session, endpoint_id)
    if found is None:
        raise NotFound("There is no such endpoint.")
    return found


CONTROLLERS = (EndpointController, MessageController)
