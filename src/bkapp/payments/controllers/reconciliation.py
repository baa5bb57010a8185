"""Files to reconcile with, what comparing them found, and the days as they stand."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Annotated
from uuid import UUID

from litestar import Controller, Request, Response, get, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIType, Operation, RequestBody, Schema
from litestar.params import JSONBody, PathParameter, QueryParameter

from bkapp.access.guards import Asking, admin, keyed
from bkapp.errors import FieldError, Invalid, NotFound
from bkapp.http import KEYED, IdempotencyKey, Reading, Transaction, documented, today
from bkapp.payments.matching import Type
from bkapp.payments.operations import reconciling
from bkapp.payments.operations.merchants import merchant_row
from bkapp.payments.queries import reconciling as queries
from bkapp.payments.schemas.reconciliation import (
    ImportedOut,
    ReconciledDayOut,
    ReconciliationItemOut,
    ReconciliationItemsOut,
    ReconciliationOut,
    ResolveItem,
    StatementOut,
    StatementsOut,
    SuspenseOut,
)
from bkapp.payments.statements import MOST_BYTES, Source

PRIVATE = {"Cache-Control": "no-store"}
READ = documented(401, 403, 404)
MOST_DAYS = 93

Merchant = Annotated[str, QueryParameter(pattern=r"^[a-z][a-z0-9-]{1,31}$", description="The merchant's key.")]
MaybeMerchant = Annotated[
    str | None, QueryParameter(pattern=r"^[a-z][a-z0-9-]{1,31}$", description="The merchant's key; all if left out.")
]
Limit = Annotated[int, QueryParameter(ge=1, le=500)]
AfterItem = Annotated[int, QueryParameter(ge=0, le=2**63 - 1, description="`next` of the page before.")]


@dataclass
class TakesBytes(Operation):
    """Describes a body that is a file as it is."""

    def __post_init__(self) -> None:
        file = Schema(
            type=OpenAPIType.STRING, content_media_type="application/octet-stream", description="The file's bytes."
        )
        self.request_body = RequestBody({"application/octet-stream": OpenAPIMediaType(schema=file)}, required=True)


class StatementController(Controller):
    """Daily reports of providers and statements of banks."""

    path = "/api/v1/statements"
    tags = ("payments",)

    @post(
        "/",
        operation_id="importStatement",
        operation_class=TakesBytes,
        guards=[admin],
        security=KEYED,
        request_max_body_size=MOST_BYTES,
        responses={
            **documented(401, 403, 404, 409, 413, 415, 422),
            200: ResponseSpec(ImportedOut, generate_examples=False, description="These bytes were taken before."),
        },
    )
    async def take(
        self,
        transaction: Transaction,
        asking: Asking,
        request: Request,
        idempotency_key: IdempotencyKey,
        *,
        merchant: Merchant,
        source: Annotated[Source, QueryParameter(description="Who made the file.")],
        name: Annotated[str, QueryParameter(max_length=120, description="What to call it.")] = "",
    ) -> Response[ImportedOut]:
        """Take the file of a merchant's day, which is the body as it is, and reconcile it at once.

        Its format is seen from the bytes: our own report of a provider; CSV, XLSX, MT940 or CAMT.053 of a bank (see
        `docs/reconciliation.md`). It is taken whole or not at all: 422 `statement_unreadable` says on which `line` what
        is wrong. The same bytes again answer 200 with the first import and `repeated`; others for the same day are a
        correction, which is in force from then on.
        """
        row = await merchant_row(transaction, merchant)
        imported = await reconciling.import_file(
            transaction,
            row,
            source=source,
            name="".join(sign for sign in name if sign.isprintable()) or f"{merchant}.{source}",
            data=await request.body(),
            by=asking.id,
            now=datetime.now(UTC),
        )
        file = await queries.file(transaction, imported.file.id)
        assert file is not None, "the file is there"
        made = ImportedOut(StatementOut.of(file), not imported.new)
        return Response(made, status_code=201 if imported.new else 200, headers=PRIVATE)

    @get("/", operation_id="listStatements", guards=[admin], security=KEYED, responses=READ)
    async def list_statements(
        self,
        reading: Reading,
        *,
        merchant: MaybeMerchant = None,
        limit: Annotated[int, QueryParameter(ge=1, le=100)] = 50,
        after: Annotated[UUID | None, QueryParameter(description="`next` of the page before.")] = None,
    ) -> Response[StatementsOut]:
        """Files that were taken, the newest first."""
        found = await queries.files(reading, merchant=merchant, limit=limit + 1, after=after)
        page = [StatementOut.of(row) for row in found[:limit]]
        more = page[-1].id if len(found) > limit else None
        return Response(StatementsOut(page, more), headers=PRIVATE)

    @get(
        "/{statement_id:uuid}/items",
        operation_id="listStatementItems",
        guards=[admin],
        security=KEYED,
        responses=READ,
    )
    async def items(
        self,
        reading: Reading,
        statement_id: Annotated[UUID, PathParameter()],
        *,
        kind: Annotated[Type | None, QueryParameter()] = None,
        limit: Limit = 100,
        after: AfterItem = 0,
    ) -> Response[ReconciliationItemsOut]:
        """What became of each line of a file, and behind them what only we have of its day."""
        if await queries.file(reading, statement_id) is None:
            raise NotFound("There is no such file.")
        found = await queries.items(
            reading, today=today(), file_id=statement_id, kind=kind, after=after, limit=limit + 1
        )
        return _page(found, limit)


class ReconciliationController(Controller):
    """Days three ways, and differences that are open."""

    path = "/api/v1/reconciliation"
    tags = ("payments",)

    @get("/", operation_id="showReconciliation", guards=[keyed], security=KEYED, responses=documented(401, 403, 422))
    async def days(
        self,
        reading: Reading,
        *,
        merchant: MaybeMerchant = None,
        since: Annotated[date | None, QueryParameter(name="from", description="Two weeks ago if left out.")] = None,
        until: Annotated[date | None, QueryParameter(name="to", description="Yesterday if left out.")] = None,
    ) -> Response[ReconciliationOut]:
        """What the ledger, the providers and the banks say of each merchant's days, at most 93 of them, and whether
        suspense is what it is made of.  Sums only: they tell nothing about anybody.
        """
        until = until or today() - timedelta(days=1)
        since = since or max(until, date(2000, 1, 15)) - timedelta(days=13)
        if not date(2000, 1, 1) <= since <= until <= date(2200, 1, 1) or (until - since).days >= MOST_DAYS:
            raise Invalid("The days are in order, and at most 93.", [FieldError("from", f"at most {MOST_DAYS} days")])
        rows = await queries.days(reading, since, until, merchant=merchant)
        suspense = SuspenseOut.of(await queries.suspense(reading))
        return Response(ReconciliationOut([ReconciledDayOut.of(row) for row in rows], suspense), headers=PRIVATE)

    @get("/items", operation_id="listReconciliationItems", guards=[admin], security=KEYED, responses=READ)
    async def open_items(
        self,
        reading: Reading,
        *,
        merchant: MaybeMerchant = None,
        kind: Annotated[Type | None, QueryParameter()] = None,
        limit: Limit = 100,
        after: AfterItem = 0,
    ) -> Response[ReconciliationItemsOut]:
        """Differences of all days that nobody has settled, those found first first."""
        found = await queries.items(
            reading, today=today(), merchant=merchant, kind=kind, only_open=True, after=after, limit=limit + 1
        )
        return _page(found, limit)

    @post(
        "/items/{item_id:int}/resolve",
        operation_id="resolveReconciliationItem",
        status_code=200,
        guards=[admin],
        security=KEYED,
        responses=documented(401, 403, 404, 409, 413, 415, 422),
    )
    async def resolve(
        self,
        transaction: Transaction,
        asking: Asking,
        idempotency_key: IdempotencyKey,
        item_id: Annotated[int, PathParameter(ge=1, le=2**63 - 1)],
        data: JSONBody[ResolveItem],
    ) -> ReconciliationItemOut:
        """Say how a difference was settled; the case that it opened is closed with it.  No money moves by this."""
        await reconciling.resolve(transaction, item_id, note=data.note, by=asking.id, now=datetime.now(UTC))
        found = await queries.item(transaction, item_id, today=today())
        assert found is not None, "the item is there"
        return ReconciliationItemOut.of(found)


def _page(found: list[queries.ItemRow], limit: int) -> Response[ReconciliationItemsOut]:
    page = [ReconciliationItemOut.of(row) for row in found[:limit]]
    more = page[-1].id if len(found) > limit else None
    return Response(ReconciliationItemsOut(page, more), headers=PRIVATE)


CONTROLLERS = (StatementController, ReconciliationController)
