"""What providers told us, for operators, and the balances of the books."""

from datetime import UTC, datetime
from typing import Annotated

from litestar import Controller, get, post
from litestar.datastructures import State
from litestar.params import PathParameter, QueryParameter

from bkapp.access.guards import Asking, admin, keyed
from bkapp.http import KEYED, IdempotencyKey, Reading, Transaction, documented
from bkapp.payments.operations import inbox, ledger
from bkapp.payments.queries import inbox as queries
from bkapp.payments.queries.inbox import unmatched
from bkapp.payments.schemas.inbox import BalanceOut, BalancesOut, LetterOut, LettersOut, ReplayedOut


class InboxController(Controller):
    """Messages from providers."""

    path = "/api/v1/webhook-inbox"
    tags = ("payments",)

    @get("/", operation_id="listWebhookInbox", guards=[admin], security=KEYED, responses=documented(401, 403))
    async def list_messages(
        self,
        reading: Reading,
        *,
        outcome: Annotated[list[str] | None, QueryParameter(description="`refused`, `broken`, `applied`…")] = None,
        merchant: Annotated[str | None, QueryParameter(pattern=r"^[a-z][a-z0-9-]{1,31}$")] = None,
        limit: Annotated[int, QueryParameter(ge=1, le=100)] = 50,
        before: Annotated[int | None, QueryParameter(description="`next` of the page before.", ge=1, le=2**62)] = None,
    ) -> LettersOut:
        """Messages from payment providers, the newest first.  What stood in them stays sealed."""
        found = await queries.letters(
            reading, outcomes=outcome or [], merchant=merchant, before=before, limit=limit + 1
        )
        page = [LetterOut.of(row) for row in found[:limit]]
        return LettersOut(page, page[-1].id if len(found) > limit else None)

    @post(
        "/{inbox_id:int}/replay",
        operation_id="replayWebhook",
        status_code=200,
        guards=[admin],
        security=KEYED,
        responses=documented(401, 403, 404, 409, 422),
    )
    async def replay(
        self,
        state: State,
        transaction: Transaction,
        asking: Asking,
        idempotency_key: IdempotencyKey,
        inbox_id: Annotated[int, PathParameter(ge=1, le=2**62)],
    ) -> ReplayedOut:
        """Act anew on a message as it was kept, after a secret or an order was put right."""
        letter = await inbox.replay(
            transaction,
            state.providers,
            state.keyring,
            inbox_id,
            home=state.base_url,
            by=asking.id,
            now=datetime.now(UTC),
        )
        return ReplayedOut(letter.id, letter.outcome, letter.reason)


class LedgerController(Controller):
    """The books."""

    path = "/api/v1/ledger"
    tags = ("payments",)

    @get("/balances", operation_id="listBalances", guards=[keyed], security=KEYED, responses=documented(401, 403))
    async def balances(self, reading: Reading) -> BalancesOut:
        """What every account comes to."""
        found = await ledger.balances(reading)
        return BalancesOut(
            [BalanceOut(account, total) for account, total in found.items()],
            -found.get(ledger.SUSPENSE, 0),
            await unmatched(reading),
        )
