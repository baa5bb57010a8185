"""What somebody has to settle about money, and money that belongs to no bill yet."""

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from litestar import Controller, Response, get, post
from litestar.params import JSONBody, PathParameter, QueryParameter

from bkapp.access.guards import Asking, admin, keyed
from bkapp.access.rules import Role
from bkapp.http import KEYED, IdempotencyKey, Reading, Transaction, documented
from bkapp.payments.operations import refund_desk as desk
from bkapp.payments.queries import refunds as queries
from bkapp.payments.rules import CaseKind
from bkapp.payments.schemas.refunds import (
    AppliedReceiptOut,
    ApplyReceipt,
    CloseCase,
    PaymentCaseOut,
    PaymentCasesOut,
)

WRITE = documented(401, 403, 404, 409, 413, 415, 422)


class PaymentCaseController(Controller):
    """Cases."""

    path = "/api/v1/payment-cases"
    tags = ("payments",)

    @get("/", operation_id="listPaymentCases", guards=[keyed], security=KEYED, responses=documented(401, 403))
    async def list_cases(
        self,
        reading: Reading,
        asking: Asking,
        *,
        is_open: Annotated[bool | None, QueryParameter(name="open", description="Both kinds if left out.")] = None,
        kind: Annotated[CaseKind | None, QueryParameter()] = None,
        limit: Annotated[int, QueryParameter(ge=1, le=100)] = 50,
        after: Annotated[UUID | None, QueryParameter(description="`next` of the page before.")] = None,
    ) -> Response[PaymentCasesOut]:
        """Cases, those due soonest first: an officer's are those of bills of their units.  They say who nobody is."""
        found = await queries.cases(reading, asking.unit_ids, is_open=is_open, kind=kind, limit=limit + 1, after=after)
        page = found[:limit]
        in_words = asking.role is not Role.MONITOR
        cases = [PaymentCaseOut.of(row, in_words=in_words) for row in page]
        more = page[-1].id if len(found) > limit else None
        return Response(PaymentCasesOut(cases, more), headers={"Cache-Control": "no-store"})

    @post(
        "/{case_id:uuid}/close",
        operation_id="closePaymentCase",
        status_code=200,
        guards=[admin],
        security=KEYED,
        responses=WRITE,
    )
    async def close(
        self,
        transaction: Transaction,
        asking: Asking,
        idempotency_key: IdempotencyKey,
        case_id: Annotated[UUID, PathParameter()],
        data: JSONBody[CloseCase],
    ) -> PaymentCaseOut:
        """Say how a case was settled.  Refused while its money is in suspense: refunding or applying it closes it."""
        closed = await desk.close_case(transaction, asking, case_id, outcome=data.outcome, now=datetime.now(UTC))
        return PaymentCaseOut.of(closed)


class SuspenseController(Controller):
    """Money in suspense."""

    path = "/api/v1/receipts"
    tags = ("payments",)

    @post(
        "/{receipt_id:uuid}/apply",
        operation_id="applyReceipt",
        status_code=200,
        guards=[admin],
        security=KEYED,
        responses=WRITE,
    )
    async def apply(
        self,
        transaction: Transaction,
        asking: Asking,
        idempotency_key: IdempotencyKey,
        receipt_id: Annotated[UUID, PathParameter()],
        data: JSONBody[ApplyReceipt],
    ) -> AppliedReceiptOut:
        """Let money in suspense pay an open bill of the same amount."""
        applied = await desk.apply_receipt(transaction, asking, receipt_id, data.bill_id, now=datetime.now(UTC))
        return AppliedReceiptOut.of(applied)


CONTROLLERS = (PaymentCaseController, SuspenseController)
