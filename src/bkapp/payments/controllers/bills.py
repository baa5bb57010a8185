"""Bills: what a person owes, what an office asks for, how it can be paid, and the confirmation that it was."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID, uuid5

from litestar import Controller, Request, Response, get, post
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.handlers import BaseRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import JSONBody, PathParameter, QueryParameter
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.guards import Asking, citizen, officer
from bkapp.access.operations import Caller, record_read
from bkapp.access.rules import Role
from bkapp.edge import remote_address
from bkapp.http import (
    KEYED,
    SIGNED_IN,
    IdempotencyKey,
    Reading,
    Transaction,
    anyone,
    documented,
    request_id_of,
    request_key,
    today,
)
from bkapp.payments import confirmations
from bkapp.payments.flows import paying
from bkapp.payments.operations import offices, showing
from bkapp.payments.queries import bills as queries
from bkapp.payments.rules import BillStatus
from bkapp.payments.schemas.bills import (
    AttemptOut,
    BillDetailsOut,
    BillOut,
    BillsOut,
    IssueBill,
    MethodOut,
    MethodsOut,
    StartAttempt,
    payer_ip,
)

READ = documented(401, 403, 404)
WRITE = documented(401, 403, 404, 409, 413, 415, 422)
PRIVATE = {"Cache-Control": "no-store"}

BillId = Annotated[UUID, PathParameter(description="As the list of bills gives it.")]


async def concerned(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Citizens, and offices that see to bills.  Whose bill it is, and whose office, is checked where it is known."""
    caller: Caller | None = connection.scope.get("user")
    if caller is None or caller.role not in {Role.OFFICER, Role.ADMIN}:
        await citizen(connection, handler)


concerned.bkapp_guard = citizen  # type: ignore[attr-defined]  # for the test that every route names one


class MethodController(Controller):
    """Ways to pay."""

    path = "/api/v1/payment-methods"
    tags = ("payments",)

    @get("/", operation_id="listPaymentMethods", guards=[anyone], responses=documented())
    async def methods(self, reading: Reading) -> MethodsOut:
        """The ways to pay that are open now, in the order to offer them."""
        return MethodsOut([MethodOut.of(row) for row in await queries.methods(reading)])


class BillController(Controller):
    """What is owed for public services."""

    path = "/api/v1/bills"
    tags = ("payments",)

    @get("/", operation_id="listMyBills", guards=[citizen], security=SIGNED_IN, responses=documented(401, 403))
    async def own(
        self,
        reading: Reading,
        asking: Asking,
        request: Request,
        *,
        status: Annotated[BillStatus | None, QueryParameter(description="Only those.")] = None,
        limit: Annotated[int, QueryParameter(ge=1, le=100)] = 50,
        after: Annotated[UUID | None, QueryParameter(description="`next` of the page before.")] = None,
    ) -> Response[BillsOut]:
        """What you owe and what you paid, newest first: bills that name you, or your citizen's number."""
        person = _person(asking)
        found = await queries.bills_of(reading, person, status=status, limit=limit + 1, after=after)
        page = found[:limit]
        await _recorded(reading, asking, request, str(person))
        out = BillsOut([BillOut.of(row) for row in page], page[-1].id if len(found) > limit else None)
        return Response(out, headers=PRIVATE)

    @post("/", operation_id="issueBill", guards=[officer], security=KEYED, responses=WRITE)
    async def issue(
        self,
        state: State,
        transaction: Transaction,
        asking: Asking,
        request: Request,
        idempotency_key: IdempotencyKey,
        data: JSONBody[IssueBill],
    ) -> BillOut:
        """Ask somebody for a fee, as an office of a unit.  The account it goes to is that of the procedure."""
        row = await offices.issue(transaction, state.keyring, asking, data.read(), now=datetime.now(UTC), today=today())
        await _recorded(transaction, asking, request, showing.subject_of(row))
        return BillOut.of(row)

    @get("/{bill_id:uuid}", operation_id="showBill", guards=[concerned], security=KEYED, responses=READ)
    async def show(
        self, state: State, reading: Reading, asking: Asking, request: Request, bill_id: BillId
    ) -> Response[BillDetailsOut]:
        """A bill of yours, or of a unit that your office reaches, with all that was tried, came and went back.

        `cases` says what of the payer's money waits for a decision, and until when.
        """
        row = await showing.seen_bill(reading, asking, bill_id)
        await _recorded(reading, asking, request, showing.subject_of(row))
        receipts = await queries.receipts(reading, row.id)
        out = BillDetailsOut.of(
            row,
            payer_name=showing.payer_name(state.keyring, row),
            lines=await queries.lines(reading, row.id),
            attempts=await queries.attempts(reading, row.id),
            receipts=receipts,
            refunds=await queries.refunds(reading, [receipt.id for receipt in receipts]),
            cases=await queries.cases(reading, row.id),
            now=datetime.now(UTC),
        )
        return Response(out, headers=PRIVATE)

    @post(
        "/{bill_id:uuid}/cancel",
        operation_id="cancelBill",
        status_code=200,
        guards=[officer],
        security=KEYED,
        responses=WRITE,
    )
    async def cancel(
        self,
        transaction: Transaction,
        asking: Asking,
        request: Request,
        idempotency_key: IdempotencyKey,
        bill_id: BillId,
    ) -> BillOut:
        """The fee is not owed any more.  Money that comes all the same is given back."""
        row = await offices.cancel(transaction, asking, bill_id, now=datetime.now(UTC))
        await _recorded(transaction, asking, request, showing.subject_of(row))
        return BillOut.of(row)

    @post(
        "/{bill_id:uuid}/attempts",
        operation_id="startAttempt",
        status_code=201,
        guards=[citizen],
        security=SIGNED_IN,
        opt={"flow": True, "keyed": True},
        responses=WRITE,
    )
    async def pay(
        self,
        state: State,
        asking: Asking,
        request: Request,
        idempotency_key: IdempotencyKey,
        bill_id: BillId,
        data: JSONBody[StartAttempt],
    ) -> Response[AttemptOut]:
        """Start paying a bill of yours: the answer says where the payer goes on, or holds the VietQR code.

        A bill has one attempt under way at the most; `409 bill_already_being_paid` names it in `attempt_id`.  `unknown`
        is not `failed`: look again, and never pay again meanwhile.
        """
        async with state.readers.begin() as session:
            await showing.own_bill(session, asking, bill_id)
        now = datetime.now(UTC)
        made = await paying.start(
            state.sessions,
            state.providers,
            state.keyring,
            home=state.base_url,
            bill_id=bill_id,
            method=data.method,
            attempt_id=data.id or uuid5(bill_id, request_key(request)),
            payer_ip=payer_ip(remote_address(request.scope, state.settings.trusted_proxies)),  # type: ignore[arg-type]
            by=asking.id,
            now=now,
        )
        async with state.readers.begin() as session:
            row = await showing.own_attempt(session, asking, made.id)
        headers = {**PRIVATE, "Location": f"/api/v1/attempts/{made.id}"}
        return Response(AttemptOut.of(row, now=now), status_code=201, headers=headers)

    @get(
        "/{bill_id:uuid}/confirmation.pdf",
        operation_id="getConfirmation",
        guards=[concerned],
        security=KEYED,
        responses={
            **documented(401, 403, 404, 409),
            200: ResponseSpec(
                bytes, media_type="application/pdf", generate_examples=False, description="One page to keep or print."
            ),
        },
    )
    async def confirmation(
        self, state: State, reading: Reading, asking: Asking, request: Request, bill_id: BillId
    ) -> Response[bytes]:
        """The confirmation that a bill was paid, with a code that anybody can check.  It is no tax receipt."""
        row = await showing.seen_bill(reading, asking, bill_id)
        confirmed = await showing.confirmation_of(
            reading, state.keyring, row, home=state.base_url, is_demo=state.settings.demo
        )
        await _recorded(reading, asking, request, showing.subject_of(row))
        # It takes a moment, in which others are answered.
        body = await asyncio.to_thread(confirmations.pdf, confirmed)
        name = f'attachment; filename="xac-nhan-{confirmed.number:07d}.pdf"'
        return Response(body, media_type="application/pdf", headers={**PRIVATE, "Content-Disposition": name})


async def _recorded(session: AsyncSession, asking: Caller, request: Request, subject: str) -> None:
    await record_read(
        session,
        asking,
        subject=subject,
        what=str(request.scope["path_template"]),
        request_id=request_id_of(request.scope),
    )


def _person(asking: Caller) -> UUID:
    assert asking.person is not None, "the guard lets only people in"
    return asking.person
