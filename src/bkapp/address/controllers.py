"""HTTP for addresses: decode, guard, call one operation or query, encode."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

import msgspec
from litestar import Controller, Request, Response, get, post
from litestar.datastructures import State
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIResponse, OpenAPIType, Operation, Schema
from litestar.params import FromPath, FromQuery, JSONBody, PathParameter, QueryParameter
from litestar.response import Stream
from msgspec import UNSET
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.guards import Asking, MaybeAsking, maybe_asking, officer
from bkapp.access.operations import Caller, record_read
from bkapp.access.rules import Role
from bkapp.address import operations, plates, queries
from bkapp.address.certificates import BadCertificate, Signer, judge, link, verify
from bkapp.address.operations.reading import look_up, read_code, resolve
from bkapp.address.queries import Details, Summary
from bkapp.address.schemas import (
    AddressesOut,
    AddressOut,
    CertificateOut,
    CheckCertificate,
    CorrectDoor,
    CorrectPoint,
    EventOut,
    EventsOut,
    GiveIdentifier,
    HamletOut,
    HamletsOut,
    HistoryOut,
    Merge,
    Move,
    OpenHamlet,
    Propose,
    Reason,
    RenameHamlet,
    Retire,
    Split,
    UnitCode,
    VerdictOut,
    Verify,
    VersionOut,
    public_versions,
)
from bkapp.address.statements import plain, plate_of, statement_of
from bkapp.db import Sessions
from bkapp.errors import NotAcceptable, NotFound
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
    request_id_of,
    today,
)
from bkapp.units import queries as units

CodeInPath = Annotated[
    str,
    PathParameter(
        description="An address code in any form people write: 482719346, BK 482 719 346, bk-482-719-346 …",
        max_length=64,
    ),
]
READ = documented(401, 404, 422)
WRITE = documented(401, 403, 404, 409, 413, 415, 422)
NDJSON = "application/x-ndjson"


@dataclass
class AlsoAsPlate(Operation):
    """Litestar describes one media type for an answer; a certificate has three."""

    def __post_init__(self) -> None:
        _also(self, {"image/svg+xml": Schema(type=OpenAPIType.STRING), "application/pdf": _BINARY})


@dataclass
class AlsoAsLines(Operation):
    """The feed comes as one JSON document or as a line for each event."""

    def __post_init__(self) -> None:
        _also(self, {NDJSON: Schema(type=OpenAPIType.STRING, description="One EventOut a line.")})


_BINARY = Schema(type=OpenAPIType.STRING, content_media_type="application/pdf")


def _also(operation: Operation, kinds: dict[str, Schema]) -> None:
    success = (operation.responses or {}).get("200")
    if isinstance(success, OpenAPIResponse) and success.content is not None:
        success.content.update({kind: OpenAPIMediaType(schema=schema) for kind, schema in kinds.items()})


async def _details(session: AsyncSession, asking: Caller | None, found: Summary, request: Request) -> Details | None:
    """The exact view, if the caller may see it; that they saw it is recorded."""
    if asking is None:
        return None
    details = await queries.details(session, found.code)
    if details is None or not asking.reaches(details.unit_id):
        return None
    await record_read(
        session,
        asking,
        subject=found.code,
        what=request.scope["path_template"],
        request_id=request_id_of(request.scope),
    )
    return details


async def _shown(session: AsyncSession, asking: Caller, request: Request, code: str) -> AddressOut:
    """An address as its officer sees it after a change; that they saw it is recorded like any read."""
    found = await look_up(session, code)
    return AddressOut.of(found, await _details(session, asking, found, request))


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
        return await _shown(transaction, asking, request, made.code)

    @HotRoute("/{code:str}", operation_id="getAddress", guards=[anyone], security=MAYBE_KEYED, responses=READ)
    async def show(self, state: State, request: Request, code: CodeInPath) -> AddressOut:
        """Check a code.  Anybody sees status, commune, hamlet and coarse area; holders and officers the rest."""
        # Every scan of a plate comes here, so a session is opened only for those who may see more.
        found = await resolve(state.lookup, state.readers, code)
        asking = maybe_asking(request)
        if asking is None:
            return AddressOut.of(found)
        async with state.readers.begin() as reading:
            return AddressOut.of(found, await _details(reading, asking, found, request))

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
        exact = await _details(reading, maybe_asking, found, request) is not None
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
        exact = await _details(reading, maybe_asking, found, request)
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

    @post(
        "/{code:str}/issue",
        operation_id="issueAddress",
        status_code=200,
        guards=[officer],
        security=KEYED,
        responses=WRITE,
    )
    async def issue(
        self,
        transaction: Transaction,
        asking: Asking,
        request: Request,
        idempotency_key: IdempotencyKey,
        code: CodeInPath,
    ) -> AddressOut:
        """Accept a proposal: the address is current."""
        digits = await read_code(transaction, code)
        await operations.issue(transaction, asking, digits)
        return await _shown(transaction, asking, request, digits)

    @post(
        "/{code:str}/reject",
        operation_id="rejectAddress",
        status_code=200,
        guards=[officer],
        security=KEYED,
        responses=WRITE,
    )
    async def reject(
        self,
        transaction: Transaction,
        asking: Asking,
        request: Request,
        idempotency_key: IdempotencyKey,
        code: CodeInPath,
        data: JSONBody[Reason],
    ) -> AddressOut:
        """Refuse a proposal.  The code is spent; the household may propose again."""
        digits = await read_code(transaction, code)
        await operations.reject(transaction, asking, digits, reason=data.reason, today=today())
        return await _shown(transaction, asking, request, digits)

    @post(
        "/{code:str}/verify",
        operation_id="verifyAddress",
        status_code=200,
        guards=[officer],
        security=KEYED,
        responses=WRITE,
    )
    async def verify(
        self,
        transaction: Transaction,
        asking: Asking,
        request: Request,
        idempotency_key: IdempotencyKey,
        code: CodeInPath,
        data: JSONBody[Verify],
    ) -> AddressOut:
        """Record that an officer made sure of the address."""
        digits = await read_code(transaction, code)
        await operations.verify(
            transaction, asking, digits, method=data.method, photo=data.photo, on=data.on, today=today()
        )
        return await _shown(transaction, asking, request, digits)

    @post(
        "/{code:str}/correct-point",
        operation_id="correctAddressPoint",
        status_code=200,
        guards=[officer],
        security=KEYED,
        responses=WRITE,
    )
    async def correct_point(
        self,
        transaction: Transaction,
        asking: Asking,
        request: Request,
        idempotency_key: IdempotencyKey,
        code: CodeInPath,
        data: JSONBody[CorrectPoint],
    ) -> AddressOut:
        """Put the door where it really is.  The code stays; history keeps the old point."""
        digits = await read_code(transaction, code)
        await operations.correct_point(
            transaction,
            asking,
            digits,
            point=data.point.read(),
            unit_code=data.unit,
            hamlet=data.hamlet,
            reason=data.reason,
            since=data.since,
            today=today(),
        )
        return await _shown(transaction, asking, request, digits)

    @post(
        "/{code:str}/correct-door",
        operation_id="correctAddressDoor",
        status_code=200,
        guards=[officer],
        security=KEYED,
        responses=WRITE,
    )
    async def correct_door(
        self,
        transaction: Transaction,
        asking: Asking,
        request: Request,
        idempotency_key: IdempotencyKey,
        code: CodeInPath,
        data: JSONBody[CorrectDoor],
    ) -> AddressOut:
        """Write what stands at the door as it is, and the hamlet if one is named."""
        digits = await read_code(transaction, code)
        await operations.correct_door(
            transaction,
            asking,
            digits,
            door=data.door.read(),
            hamlet=data.hamlet,
            reason=data.reason,
            since=data.since,
            today=today(),
        )
        return await _shown(transaction, asking, request, digits)

    @post(
        "/{code:str}/move",
        operation_id="moveHousehold",
        status_code=200,
        guards=[officer],
        security=KEYED,
        responses=WRITE,
    )
    async def move(
        self,
        transaction: Transaction,
        asking: Asking,
        request: Request,
        idempotency_key: IdempotencyKey,
        code: CodeInPath,
        data: JSONBody[Move],
    ) -> AddressesOut:
        """The household moves to another address, or away.  Codes stay with their houses."""
        digits = await read_code(transaction, code)
        to = await read_code(transaction, data.to) if data.to else None
        changed = await operations.move_household(transaction, asking, digits, to=to, on=data.on, today=today())
        return AddressesOut([await _shown(transaction, asking, request, dwelling.code) for dwelling in changed])

    @post(
        "/{code:str}/split",
        operation_id="splitAddress",
        status_code=201,
        guards=[officer],
        security=KEYED,
        responses=WRITE,
    )
    async def split(
        self,
        transaction: Transaction,
        asking: Asking,
        request: Request,
        idempotency_key: IdempotencyKey,
        code: CodeInPath,
        data: JSONBody[Split],
    ) -> AddressesOut:
        """Divide one home into several.  The old code ends; each part gets a new one."""
        digits = await read_code(transaction, code)
        made = await operations.split(
            transaction, asking, digits, parts=[part.read() for part in data.parts], on=data.on, today=today()
        )
        return AddressesOut([await _shown(transaction, asking, request, dwelling.code) for dwelling in made])

    @post(
        "/{code:str}/merge",
        operation_id="mergeAddresses",
        status_code=201,
        guards=[officer],
        security=KEYED,
        responses=WRITE,
    )
    async def merge(
        self,
        transaction: Transaction,
        asking: Asking,
        request: Request,
        idempotency_key: IdempotencyKey,
        code: CodeInPath,
        data: JSONBody[Merge],
    ) -> AddressOut:
        """Make one home of several.  Their codes end; the whole gets a new one."""
        wanted = [await read_code(transaction, text) for text in [code, *data.others]]
        made = await operations.merge(
            transaction,
            asking,
            wanted,
            door=data.door.read(),
            point=data.point.read() if data.point else None,
            household_of=await read_code(transaction, data.household_of) if data.household_of else None,
            on=data.on,
            today=today(),
        )
        return await _shown(transaction, asking, request, made.code)

    @post(
        "/{code:str}/retire",
        operation_id="retireAddress",
        status_code=200,
        guards=[officer],
        security=KEYED,
        responses=WRITE,
    )
    async def retire(
        self,
        transaction: Transaction,
        asking: Asking,
        request: Request,
        idempotency_key: IdempotencyKey,
        code: CodeInPath,
        data: JSONBody[Retire],
    ) -> AddressOut:
        """End an address for good.  Its code is never used again."""
        digits = await read_code(transaction, code)
        heirs = [await read_code(transaction, heir) for heir in data.replaced_by]
        await operations.retire(
            transaction, asking, digits, reason=data.reason, replaced_by=heirs, on=data.on, today=today()
        )
        return await _shown(transaction, asking, request, digits)

    @post(
        "/{code:str}/identifiers",
        operation_id="giveAddressIdentifier",
        status_code=200,
        guards=[officer],
        security=KEYED,
        responses=WRITE,
    )
    async def identifier(
        self,
        transaction: Transaction,
        asking: Asking,
        request: Request,
        idempotency_key: IdempotencyKey,
        code: CodeInPath,
        data: JSONBody[GiveIdentifier],
    ) -> AddressOut:
        """Record the name another register has for this address."""
        digits = await read_code(transaction, code)
        await operations.name_otherwise(
            transaction, asking, digits, scheme=data.scheme, value=data.value, since=data.since, today=today()
        )
        return await _shown(transaction, asking, request, digits)


class HamletController(Controller):
    """Hamlets (thôn, bản, tổ …) of a commune."""

    path = "/api/v1/units/{unit:str}/hamlets"
    tags = ("hamlets",)

    @get("/", operation_id="listHamlets", guards=[anyone], responses=documented(404))
    async def list_hamlets(
        self, reading: Reading, unit: FromPath[UnitCode], as_of: FromQuery[date | None] = None
    ) -> HamletsOut:
        """The hamlets of a commune on a day, today by default."""
        day = as_of or today()
        commune = await units.unit_on(reading, unit, day)
        if commune is None:
            raise NotFound(f"There is no unit {unit} on {day}.")
        return HamletsOut([HamletOut.of(row) for row in await queries.hamlets_of(reading, unit_id=commune.id, on=day)])

    @post("/", operation_id="openHamlet", guards=[officer], security=KEYED, responses=WRITE)
    async def open_hamlet(
        self,
        transaction: Transaction,
        asking: Asking,
        request: Request,
        idempotency_key: IdempotencyKey,
        unit: FromPath[UnitCode],
        data: JSONBody[OpenHamlet],
    ) -> HamletOut:
        """Add a hamlet to a commune."""
        made = await operations.open_hamlet(
            transaction, asking, unit_code=unit, name=data.name, since=data.since, today=today()
        )
        return HamletOut(made.id, made.name, made.qualifier, made.valid_from, made.valid_to)

    @post(
        "/{hamlet_id:int}/rename",
        operation_id="renameHamlet",
        status_code=200,
        guards=[officer],
        security=KEYED,
        responses=WRITE,
    )
    async def rename_hamlet(
        self,
        transaction: Transaction,
        asking: Asking,
        idempotency_key: IdempotencyKey,
        unit: FromPath[UnitCode],
        hamlet_id: Annotated[int, PathParameter(ge=1, le=9_000_000_000_000_000)],
        data: JSONBody[RenameHamlet],
    ) -> HamletOut:
        """Rename a hamlet, or make it part of another; its homes go with it."""
        made = await operations.rename_hamlet(
            transaction, asking, unit_code=unit, hamlet_id=hamlet_id, name=data.name, on=data.on, today=today()
        )
        return HamletOut(made.id, made.name, made.qualifier, made.valid_from, made.valid_to)


class EventController(Controller):
    """The feed of every change, for whoever keeps a copy of the register."""

    path = "/api/v1/address-events"
    tags = ("events",)

    @get(
        "/",
        operation_id="listAddressEvents",
        operation_class=AlsoAsLines,
        guards=[anyone],
        security=MAYBE_KEYED,
        responses={
            **documented(401, 406),
            200: ResponseSpec(
                EventsOut,
                generate_examples=False,
                description="A page; with Accept: application/x-ndjson one event a line.",
            ),
        },
    )
    async def events(
        self,
        state: State,
        reading: Reading,
        maybe_asking: MaybeAsking,
        request: Request,
        after: Annotated[
            int, QueryParameter(ge=0, le=9_000_000_000_000_000, description="The last number you have.")
        ] = 0,
        limit: Annotated[int, QueryParameter(ge=1, le=100_000, description="At most 1000 as JSON.")] = 100,
    ) -> Response[Any] | Stream:
        """The changes after a number, in the order in which they were committed, without gaps.

        Start with 0, keep the number of the last event, ask again.  Replaying all of them gives the current table.
        Full data is for the province's registrar and monitoring; officers get it for their units; others what is
        public.
        """
        visible = await _visible(reading, maybe_asking, request)
        if NDJSON in request.headers.get("accept", ""):
            return Stream(
                _lines(state.readers, after, limit, visible), media_type=NDJSON, headers={"Cache-Control": "no-store"}
            )
        found = await queries.events(reading, after=after, limit=min(limit, 1000))
        page = [EventOut.of(event, exact=_may_see(visible, event.data)) for event in found]
        return Response(
            EventsOut(page, next=page[-1].seq if page else after, head=await queries.head(reading)),
            headers={"Cache-Control": "no-store"},
        )


# Which addresses' exact data a caller sees in the feed: True for all, else the (code, valid_from) of units.
Visible = bool | frozenset[tuple[str, str]]


async def _visible(session: AsyncSession, asking: Caller | None, request: Request) -> Visible:
    if asking is None:
        return False
    await record_read(
        session,
        asking,
        subject="address-events",
        what=request.url.query or "all",
        request_id=request_id_of(request.scope),
    )
    if asking.role in {Role.ADMIN, Role.MONITOR}:
        return True
    found = [await units.unit_by_id(session, unit_id) for unit_id in sorted(asking.unit_ids or ())]
    return frozenset((unit.code, unit.valid_from.isoformat()) for unit in found if unit)


def _may_see(visible: Visible, data: dict[str, Any]) -> bool:
    if isinstance(visible, bool):
        return visible
    return (data["unit"]["code"], data["unit"]["valid_from"]) in visible


async def _lines(readers: Sessions, after: int, limit: int, visible: Visible) -> AsyncIterator[bytes]:
    """The feed line by line.  Each page is read and its connection given back before it is sent: a slow reader keeps
    nobody else waiting."""
    encoder = msgspec.json.Encoder()
    while limit > 0:
        async with readers() as session:
            page = await queries.events(session, after=after, limit=min(limit, 1000))
        for event in page:
            yield encoder.encode(EventOut.of(event, exact=_may_see(visible, event.data))) + b"\n"
        if len(page) < min(limit, 1000):
            return
        after = page[-1].seq
        limit -= len(page)


class CertificateController(Controller):
    """Certificates, checked on line.  Off line: verify the signature against `/.well-known/jwks.json`."""

    tags = ("certificates",)

    @post(
        "/api/v1/certificates/verify",
        operation_id="verifyCertificate",
        status_code=200,
        guards=[anyone],
        opt={"reads_only": True},
        responses=documented(413, 415),
    )
    async def check(self, state: State, reading: Reading, data: JSONBody[CheckCertificate]) -> VerdictOut:
        """Say whether a certificate is genuine, and whether the register still says the same."""
        signer: Signer = state.signer
        try:
            then = verify(data.certificate, signer)
        except BadCertificate as error:
            return VerdictOut("not_genuine", [], error.reason.value, None, None)
        found = await queries.summary(reading, then.code)
        if found is None:
            return VerdictOut("not_genuine", [], "not_in_register", plain(then), None)
        exact = await queries.details(reading, then.code) if then.plus_code else None
        now = statement_of(found, exact, issuer=state.base_url, now=datetime.now(UTC))
        verdict = judge(data.certificate, signer, now=now)
        return VerdictOut(verdict.outcome, list(verdict.changed), None, plain(then), AddressOut.of(found))

    @get("/.well-known/jwks.json", operation_id="getSigningKeys", guards=[anyone], responses=documented())
    async def jwks(self, state: State) -> Response[dict[str, Any]]:
        """The public keys that certificates are signed with, past ones included (RFC 7517, RFC 8037)."""
        signer: Signer = state.signer
        return Response(
            signer.jwks(),
            headers={"Cache-Control": "public, max-age=3600", "Access-Control-Allow-Origin": "*"},
        )


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
