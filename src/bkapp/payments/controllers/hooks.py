"""Where payment providers tell us of payments, and the national platform asks for bills."""

from datetime import UTC, datetime

from litestar import Controller, Request, Response, get, post
from litestar.datastructures import State
from litestar.params import FromPath

from bkapp.edge import remote_address
from bkapp.errors import NotFound
from bkapp.http import anyone, documented
from bkapp.payments.flows import receiving
from bkapp.payments.operations.inbox import LONGEST_BODY
from bkapp.payments.providers import Answer, Call


class HookController(Controller):
    """Messages from payment providers.  Each protocol has its own signature and its own answer."""

    path = "/api/v1/payments/hooks/{merchant:str}"
    tags = ("payment hooks",)
    guards = [anyone]  # what proves who sends it is the signature
    opt = {"flow": True, "open": True}
    request_max_body_size = None  # one that is too long is cut off and kept, and answered in its protocol

    @get("/", operation_id="hearByQuery", responses=documented(404))
    async def hear_by_query(self, state: State, request: Request, merchant: FromPath[str]) -> Response[bytes]:
        """A message in the address, as VNPAY's IPN is."""
        return await _hear(state, request, merchant, "")

    @post("/", operation_id="hear", status_code=200, responses=documented(404))
    async def hear(self, state: State, request: Request, merchant: FromPath[str]) -> Response[bytes]:
        """A message in the body."""
        return await _hear(state, request, merchant, "")

    @post("/{what:str}", operation_id="hearAbout", status_code=200, responses=documented(404))
    async def hear_about(
        self, state: State, request: Request, merchant: FromPath[str], what: FromPath[str]
    ) -> Response[bytes]:
        """A message of a kind, where a protocol has several addresses: Viettel's `verify` and `result`, Paygov's
        `bills` (which bill does a dossier have?)."""
        return await _hear(state, request, merchant, what)


async def _hear(state: State, request: Request, merchant: str, what: str) -> Response[bytes]:
    if "\0" in merchant + what:
        raise NotFound("There is nothing at this address.")  # and PostgreSQL keeps no such text
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LONGEST_BODY:
            break
    call = Call(
        method=request.method,
        what=what,
        query=request.scope["query_string"],
        headers={name.lower(): value for name, value in request.headers.items()},
        body=bytes(body),
    )
    answer: Answer = await receiving.receive(
        state.sessions,
        state.providers,
        state.keyring,
        merchant_key=merchant,
        call=call,
        home=state.base_url,
        remote_ip=remote_address(request.scope, state.settings.trusted_proxies),  # type: ignore[arg-type]
        now=datetime.now(UTC),
    )
    return Response(
        answer.body, status_code=answer.status, media_type=answer.media_type, headers={"Cache-Control": "no-store"}
    )
