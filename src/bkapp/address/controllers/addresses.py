"""Proposing an address and everything that is read of one."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

from litestar import Controller, Request, Response, get, post
from litestar.datastructures import State
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPIType, Operation, Schema
from litestar.params import FromQuery, JSONBody, QueryParameter
from msgspec import UNSET

from bkapp.access.guards import Asking, MaybeAsking, maybe_asking, officer
from bkapp.address import operations, plates, queries
from bkapp.address.certificates import Signer, link
from bkapp.address.controllers.shared import READ, WRITE, CodeInPath, also, details_for, shown, telling
from bkapp.address.operations.reading import look_up, resolve
from bkapp.address.schemas import (
    AddressOut,
    CertificateOut,
    HistoryOut,
    Propose,
    VersionOut,
    public_versions,
)
from bkapp.address.statements import plain, plate_of, statement_of
from bkapp.errors import NotAcceptable
from bkapp.http import (
    HANOI,
    KEYED,
    MAYBE_KEYED,
    HotRoute,
    IdempotencyKey,
    Reading,
    Transaction,
    anyone,
    documented,
    today,
)


@dataclass
class AlsoAsPlate(Operation):
    """Litestar describes one media type for an answer; a certificate has three."""

    def __post_init__(self) -> None:
        also(self, {"image/svg+xml": Schema(type=OpenAPIType.STRING), "application/pdf": _BINARY})


_BINARY = Schema(type=OpenAPIType.STRING, content_media_type="application/pdf")


class AddressController(Controller):
    """One digital address per household."""

    path = "/api/v1/addresses"
    tags = ("addresses",)

    @post("/", operation_id="proposeAddress", guards=[officer], security=KEYED, responses=WRITE)
    async def propose(
        self,
        state: State,
        transaction: Transaction,
        asking: Asking,
        request: Request,
        idempotency_key: IdempotencyKey,
        data: JSONBody[Propose],
    ) -> AddressOut:
        """Propose an address for a dwelling.

        Refused with every reason when the point lies outside the commune or the province, within 3 m of another
        home's door with nothing to tell them apart, or when the household has an address.
        """
        async with telling(asking, request):
            made = await operations.propose(
                transaction,
                asking,
                point=data.point.read(),
                unit_code=data.unit,
                hamlet=data.hamlet,
                door=data.door.read(),
                household=data.household.read() if data.household else None,
                since=data.since,
                today=today(),
                is_demo=state.settings.demo,
            )
        return await shown(transaction, asking, request, made.code)

    @HotRoute("/{code:str}", operation_id="getAddress", guards=[anyone], security=MAYBE_KEYED, responses=READ)
    async def show(self, state: State, request: Request, code: CodeInPath) -> AddressOut:
        """Check a code.  Anybody sees status, commune, hamlet and coarse area; holders and officers the rest."""
        # Every scan of a plate comes here, so a session is opened only for those who may see more.
        found = await resolve(state.lookup, state.readers, code)
        asking = maybe_asking(request)
        if asking is None or not asking.may_see_more(found.code):
            return AddressOut.of(found)
        async with state.readers.begin() as reading:
            return AddressOut.of(found, await details_for(reading, asking, found, request))

    @get("/{code:str}/history", operation_id="getAddressHistory", guards=[anyone], security=MAYBE_KEYED, responses=READ)
    async def history(
        self,
        reading: Reading,
        maybe_asking: MaybeAsking,
        request: Request,
        code: CodeInPath,
        as_of: FromQuery[date | None] = None,
        known_at: FromQuery[datetime | None] = None,
    ) -> HistoryOut:
        """What was so, and when.

        `as_of` keeps what was so on that day; `known_at` tells it as the register believed at that time.
        """
        found = await look_up(reading, code)
        exact = await details_for(reading, maybe_asking, found, request) is not None
        if known_at is not None and known_at.tzinfo is None:
            known_at = known_at.replace(tzinfo=HANOI)
        versions = await queries.versions(reading, found.code, as_of=as_of, known_at=known_at)
        return HistoryOut(
            found.code,
            [VersionOut.of(version, exact=True) for version in versions] if exact else public_versions(versions),
            await queries.stays(reading, found.code, as_of=as_of) if exact else UNSET,
            await queries.names(reading, found.code, as_of=as_of) if exact else UNSET,
        )

    @get(
        "/{code:str}/certificate",
        operation_id="getAddressCertificate",
        operation_class=AlsoAsPlate,
        guards=[anyone],
        security=MAYBE_KEYED,
        responses={
            **documented(401, 404, 406, 422),
            200: ResponseSpec(
                CertificateOut, generate_examples=False, description="JSON; SVG and PDF by `format` or Accept."
            ),
        },
    )
    async def certificate(
        self,
        state: State,
        reading: Reading,
        maybe_asking: MaybeAsking,
        request: Request,
        code: CodeInPath,
        format: Annotated[  # noqa: A002  (its name in the address, which refusals point to)
            Literal["json", "svg", "pdf"] | None, QueryParameter(description="By Accept when left out.")
        ] = None,
    ) -> Response[Any]:
        """The signed certificate of an address, or its plate (A6) as SVG or PDF."""
        kind = format or _kind_accepted(request.headers.get("accept", ""))
        if not kind:
            raise NotAcceptable("A certificate comes as json, svg or pdf.")
        found = await look_up(reading, code)
        exact = await details_for(reading, maybe_asking, found, request)
        signer: Signer = state.signer
        issuer: str = state.base_url
        now = datetime.now(UTC)
        if kind == "json":
            statement = statement_of(found, exact, issuer=issuer, now=now)
            token = signer.sign(statement)
            return Response(
                CertificateOut(token, link(issuer, found.code, token), plain(statement), found.unit.boundary)
            )
        plate = plate_of(found, exact, signer=signer, issuer=issuer, now=now, local=now.astimezone(HANOI))
        disposition = f'inline; filename="BK-{found.code}.{kind}"'
        if kind == "svg":
            return Response(plates.svg(plate), media_type="image/svg+xml", headers={"Content-Disposition": disposition})
        return Response(plates.pdf(plate), media_type="application/pdf", headers={"Content-Disposition": disposition})


def _kind_accepted(accept: str) -> str:
    """The form an Accept header asks for: the first that we have, JSON for anything goes."""
    if not accept:
        return "json"
    for entry in accept.split(","):
        kind = {
            "application/json": "json",
            "application/*": "json",
            "*/*": "json",
            "image/svg+xml": "svg",
            "image/*": "svg",
            "application/pdf": "pdf",
        }.get(entry.partition(";")[0].strip().lower())
        if kind:
            return kind
    return ""
