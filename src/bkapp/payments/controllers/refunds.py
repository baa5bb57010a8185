"""Giving money back, as offices do it: asked for by one, approved by another above a limit, seen through to its end."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from litestar import Controller, Request, Response, get, post
from litestar.datastructures import State
from litestar.params import JSONBody, PathParameter, QueryParameter

from bkapp.access.guards import Asking, admin, officer
from bkapp.access.operations import Caller, record_reads
from bkapp.http import KEYED, IdempotencyKey, Reading, Transaction, documented, request_id_of
from bkapp.payments.operations import refund_desk as desk
from bkapp.payments.queries import refunds as queries
from bkapp.payments.queries.refunds import RefundDetails
from bkapp.payments.rules import RefundStatus
from bkapp.payments.schemas.refunds import AskRefund, OfficeRefundOut, OfficeRefundsOut, RecordTransfer, RejectRefund

WRITE = documented(401, 403, 404, 409, 413, 415, 422)
PRIVATE = {"Cache-Control": "no-store"}

RefundId = Annotated[UUID, PathParameter()]


class RefundController(Controller):
    """Refunds."""

    path = "/api/v1/refunds"
    tags = ("payments",)

    @post("/", operation_id="askRefund", guards=[officer], security=KEYED, responses=WRITE)
    async def ask(
        self,
        state: State,
        transaction: Transaction,
        asking: Asking,
        idempotency_key: IdempotencyKey,
        data: JSONBody[AskRefund],
    ) -> OfficeRefundOut:
        """Ask for money to be given back, in part or all that is left of a receipt; it is kept apart at once.

        Above the limit it waits for the approval of somebody else. By officers for bills of their units; for money of
        no bill, by the province. The same `id` again with the same content answers the first refund. 409
        `refund_too_large` says how much is left as `refundable`.
        """
        asked = await desk.ask_refund(
            transaction,
            asking,
            receipt_id=data.receipt_id,
            amount=data.amount,
            reason=data.reason,
            limit=state.settings.refund_limit,
            refund_id=data.id,
            now=datetime.now(UTC),
        )
        return OfficeRefundOut.of(asked)

    @get("/", operation_id="listRefunds", guards=[admin], security=KEYED, responses=documented(401, 403))
    async def list_refunds(
        self,
        state: State,
        reading: Reading,
        asking: Asking,
        request: Request,
        *,
        status: Annotated[RefundStatus | None, QueryParameter()] = None,
        limit: Annotated[int, QueryParameter(ge=1, le=100)] = 50,
        after: Annotated[UUID | None, QueryParameter(description="`next` of the page before.")] = None,
    ) -> Response[OfficeRefundsOut]:
        """Refunds, oldest first: `status=waiting` are those to approve.  Each read is recorded."""
        found = await queries.refunds(reading, status=status, limit=limit + 1, after=after)
        page = found[:limit]
        await _seen(state, asking, request, page)
        more = page[-1].id if len(found) > limit else None
        return Response(OfficeRefundsOut([OfficeRefundOut.of(row) for row in page], more), headers=PRIVATE)

    @get(
        "/{refund_id:uuid}",
        operation_id="showRefund",
        guards=[officer],
        security=KEYED,
        responses=documented(401, 403, 404),
    )
    async def show(
        self, state: State, reading: Reading, asking: Asking, request: Request, refund_id: RefundId
    ) -> Response[OfficeRefundOut]:
        """A refund of a bill of one's units."""
        row = await desk.seen_refund(reading, asking, refund_id)
        await _seen(state, asking, request, [row])
        return Response(OfficeRefundOut.of(row), headers=PRIVATE)

    @post(
        "/{refund_id:uuid}/approve",
        operation_id="approveRefund",
        status_code=200,
        guards=[admin],
        security=KEYED,
        responses=WRITE,
    )
    async def approve(
        self, transaction: Transaction, asking: Asking, idempotency_key: IdempotencyKey, refund_id: RefundId
    ) -> OfficeRefundOut:
        """Agree that money is given back; not by who asked for it.  It is sent to the provider at once."""
        return OfficeRefundOut.of(await desk.approve_refund(transaction, asking, refund_id, now=datetime.now(UTC)))

    @post(
        "/{refund_id:uuid}/reject",
        operation_id="rejectRefund",
        status_code=200,
        guards=[admin],
        security=KEYED,
        responses=WRITE,
    )
    async def reject(
        self,
        transaction: Transaction,
        asking: Asking,
        idempotency_key: IdempotencyKey,
        refund_id: RefundId,
        data: JSONBody[RejectRefund],
    ) -> OfficeRefundOut:
        """Money is not given back.  Possible until the provider is asked."""
        rejected = await desk.reject_refund(transaction, asking, refund_id, reason=data.reason, now=datetime.now(UTC))
        return OfficeRefundOut.of(rejected)

    @post(
        "/{refund_id:uuid}/transferred",
        operation_id="recordRefundTransfer",
        status_code=200,
        guards=[admin],
        security=KEYED,
        responses=WRITE,
    )
    async def transferred(
        self,
        transaction: Transaction,
        asking: Asking,
        idempotency_key: IdempotencyKey,
        refund_id: RefundId,
        data: JSONBody[RecordTransfer],
    ) -> OfficeRefundOut:
        """The treasury has transferred an approved refund that is `by_hand`; a transfer counts for one refund."""
        recorded = await desk.record_transfer(
            transaction, asking, refund_id, transaction=data.transaction, now=datetime.now(UTC)
        )
        return OfficeRefundOut.of(recorded)


async def _seen(state: State, asking: Caller, request: Request[Any, Any, Any], rows: Sequence[RefundDetails]) -> None:
    """Record who read of whose money."""
    subjects = [
        str(row.person) if row.person else f"bill:{row.bill_id}" if row.bill_id else f"receipt:{row.receipt_id}"
        for row in rows
    ]
    await record_reads(
        state.records,
        asking,
        subjects=dict.fromkeys(subjects),
        what=str(request.scope["path_template"]),
        request_id=request_id_of(request.scope),
    )


CONTROLLERS = (RefundController,)
