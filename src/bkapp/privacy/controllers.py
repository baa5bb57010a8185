"""HTTP for personal data: what people know, say and take of theirs, and the data officer's desk."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import msgspec
from litestar import Controller, Request, Response, get, post
from litestar.datastructures import State
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import JSONBody, PathParameter, QueryParameter
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.guards import STEP_UP_AGE, Asking, admin, citizen, require_recent, signed_in, stepped_up
from bkapp.access.operations import Caller, record_reads
from bkapp.errors import Unavailable
from bkapp.households.operations import name_of
from bkapp.http import KEYED, SIGNED_IN, IdempotencyKey, Reading, Transaction, documented, request_id_of
from bkapp.identity.operations import set_phone
from bkapp.privacy import exports, flows, operations, queries
from bkapp.privacy.exports import Export
from bkapp.privacy.schemas import (
    Acknowledge,
    AskForData,
    CaseOut,
    CasesOut,
    CloseRequest,
    Extend,
    GiveConsent,
    OwnPhone,
    PurposeOut,
    PurposesOut,
    ReadOut,
    ReadsOut,
    RefuseRequest,
    RequestOut,
    RequestsOut,
    StepOut,
)
from bkapp.sealing import Keyring

READ = documented(401, 403)
WRITE = documented(401, 403, 404, 409, 413, 415, 422)
PRIVATE = {"Cache-Control": "no-store"}

PurposeId = Annotated[str, PathParameter(max_length=64, description="As the list of purposes gives it.")]
RequestId = Annotated[UUID, PathParameter(description="As the list of requests gives it.")]


class RightsController(Controller):
    """What a person knows of the use of their data, and what they say to it."""

    path = "/api/v1/me"
    tags = ("privacy",)
    security = SIGNED_IN

    @get("/purposes", operation_id="listPurposes", guards=[signed_in], responses=READ)
    async def purposes(self, state: State, reading: Reading, asking: Asking) -> Response[PurposesOut]:
        """What your data are used for, on what ground, and what you have agreed to.

        Nothing is agreed to by itself.  A consent to an earlier text is `outdated` and does not count.
        """
        found = await queries.purposes_for(reading, _person(asking))
        out = PurposesOut(state.settings.data_controller, [PurposeOut.of(each) for each in found])
        return Response(out, headers=PRIVATE)

    @post("/consents", operation_id="giveConsent", status_code=200, guards=[signed_in], responses=WRITE)
    async def give(
        self, transaction: Transaction, asking: Asking, idempotency_key: IdempotencyKey, data: JSONBody[GiveConsent]
    ) -> PurposeOut:
        """Agree to one purpose, in the words you were shown; 409 with the new text where it has changed."""
        await operations.give_consent(
            transaction,
            _person(asking),
            data.purpose,
            text_version=data.text_version,
            channel=operations.channel_of(asking),
            now=datetime.now(UTC),
        )
        return await _purpose(transaction, asking, data.purpose)

    @post(
        "/consents/{purpose:str}/withdraw",
        operation_id="withdrawConsent",
        status_code=200,
        guards=[signed_in],
        responses=WRITE,
    )
    async def withdraw(
        self, transaction: Transaction, asking: Asking, idempotency_key: IdempotencyKey, purpose: PurposeId
    ) -> PurposeOut:
        """Take back what you agreed to.  What was kept for that alone is deleted at once."""
        await operations.withdraw_consent(
            transaction,
            _person(asking),
            purpose,
            actor=asking.id,
            channel=operations.channel_of(asking),
            now=datetime.now(UTC),
        )
        return await _purpose(transaction, asking, purpose)

    @post("/phone", operation_id="setPhone", status_code=204, guards=[signed_in], responses=WRITE)
    async def phone(
        self,
        state: State,
        transaction: Transaction,
        asking: Asking,
        idempotency_key: IdempotencyKey,
        data: JSONBody[OwnPhone],
    ) -> None:
        """Say at which mobile number you want to be called, which needs your consent, or that there is none."""
        person_id = _person(asking)
        if data.phone is not None:
            await operations.require_consent(transaction, person_id, "contact_phone")
        await set_phone(transaction, keyring_of(state), person_id, data.phone)

    @get("/reads", operation_id="listReadsOfMyData", guards=[citizen], responses=READ)
    async def reads(
        self,
        reading: Reading,
        asking: Asking,
        before: Annotated[
            int | None, QueryParameter(ge=1, le=9_000_000_000_000_000, description="`next` of the page before.")
        ] = None,
        limit: Annotated[int, QueryParameter(ge=1, le=500)] = 50,
    ) -> Response[ReadsOut]:
        """Who read data about you, your household or your address while you lived there, newest first.

        Offices are named, their officers are not.
        """
        found = await queries.reads(reading, _person(asking), limit=limit, before=before)
        page = ReadsOut([ReadOut.of(read) for read in found], found[-1].id if len(found) == limit else None)
        return Response(page, headers=PRIVATE)

    @get("/requests", operation_id="listMyDataRequests", guards=[signed_in], responses=READ)
    async def requests(self, reading: Reading, asking: Asking) -> Response[RequestsOut]:
        """What you have asked about your data, until when it is due, and what came of it."""
        found = await queries.requests_of(reading, _person(asking))
        return Response(RequestsOut([RequestOut.of(row) for row in found]), headers=PRIVATE)

    @post("/requests", operation_id="askAboutMyData", status_code=201, guards=[signed_in], responses=WRITE)
    async def ask(
        self,
        state: State,
        transaction: Transaction,
        asking: Asking,
        idempotency_key: IdempotencyKey,
        data: JSONBody[AskForData],
    ) -> RequestOut:
        """Ask to see, correct, get, erase or restrict your data, object to their use, or withdraw consent.

        The clock of the law begins at once.
        """
        request = await operations.ask(
            transaction,
            keyring_of(state),
            _person(asking),
            kind=data.kind,
            details=data.details,
            now=datetime.now(UTC),
        )
        return RequestOut.of(request)

    @get(
        "/export.json",
        operation_id="exportMyData",
        guards=[stepped_up()],
        responses={
            **READ,
            200: ResponseSpec(Export, generate_examples=False, description="Everything, as a file."),
        },
    )
    async def export_json(self, state: State, asking: Asking, request: Request) -> Response[bytes]:
        """Everything that is held about you, for programs."""
        export = await _export(state, asking, request)
        return _file(msgspec.json.format(msgspec.json.encode(export)), "json", "application/json")

    @get(
        "/export.pdf",
        operation_id="exportMyDataToRead",
        guards=[stepped_up()],
        responses={
            **READ,
            200: ResponseSpec(
                bytes, media_type="application/pdf", generate_examples=False, description="The same, to read."
            ),
        },
    )
    async def export_pdf(self, state: State, asking: Asking, request: Request) -> Response[bytes]:
        """Everything that is held about you, in Vietnamese, to read and print."""
        export = await _export(state, asking, request)
        # It takes a second, in which others are answered.
        return _file(await asyncio.to_thread(exports.pdf, export), "pdf", "application/pdf")


class DataOfficerController(Controller):
    """The desk of the data officer: requests with their clocks."""

    path = "/api/v1/privacy/requests"
    tags = ("privacy",)
    security = KEYED
    guards = (admin,)

    @get("/", operation_id="listDataRequests", responses=READ)
    async def requests(
        self,
        state: State,
        reading: Reading,
        asking: Asking,
        request: Request,
        *,
        closed: Annotated[bool, QueryParameter(description="Those that are closed, the last one first.")] = False,
        after: Annotated[UUID | None, QueryParameter(description="`next` of the page before.")] = None,
        limit: Annotated[int, QueryParameter(ge=1, le=200)] = 100,
    ) -> Response[CasesOut]:
        """The open requests, those that are due first first.  That they were read is recorded for each person."""
        keyring = keyring_of(state)
        found = await queries.cases(reading, is_open=not closed, limit=limit, after=after)
        await record_reads(
            state.records,
            asking,
            subjects=sorted({str(case.person_id) for case in found}),
            what=request.scope["path_template"],
            request_id=request_id_of(request.scope),
        )
        now = datetime.now(UTC)
        items = [
            CaseOut.of(
                case,
                name=name_of(keyring, case.person_id, case.name_cipher),
                details=operations.details_of(keyring, case.id, case.details_cipher),
                now=now,
            )
            for case in found
        ]
        return Response(CasesOut(items, found[-1].id if len(found) == limit else None), headers=PRIVATE)

    @post("/{request_id:uuid}/acknowledge", operation_id="acknowledgeDataRequest", status_code=200, responses=WRITE)
    async def acknowledge(
        self,
        transaction: Transaction,
        asking: Asking,
        idempotency_key: IdempotencyKey,
        request_id: RequestId,
        data: JSONBody[Acknowledge],
    ) -> StepOut:
        """Tell the person that the request is being worked on; due two working days after it came."""
        request = await operations.acknowledge(
            transaction, request_id, actor=asking.id, with_processor=data.with_processor, now=datetime.now(UTC)
        )
        return StepOut.of(request)

    @post("/{request_id:uuid}/extend", operation_id="extendDataRequest", status_code=200, responses=WRITE)
    async def extend(
        self,
        transaction: Transaction,
        asking: Asking,
        idempotency_key: IdempotencyKey,
        request_id: RequestId,
        data: JSONBody[Extend],
    ) -> StepOut:
        """Take up to 15 days more, once and before it is due, with a reason that the person sees."""
        request = await operations.prolong(
            transaction, request_id, actor=asking.id, days=data.days, reason=data.reason, now=datetime.now(UTC)
        )
        return StepOut.of(request)

    @post("/{request_id:uuid}/close", operation_id="closeDataRequest", status_code=200, responses=WRITE)
    async def close(
        self,
        transaction: Transaction,
        asking: Asking,
        idempotency_key: IdempotencyKey,
        request_id: RequestId,
        data: JSONBody[CloseRequest],
    ) -> StepOut:
        """The request was carried out.  Restricting and withdrawing happen with it; erasing is a route of its own."""
        request = await operations.carry_out(
            transaction, request_id, actor=asking.id, outcome=data.outcome, now=datetime.now(UTC)
        )
        return StepOut.of(request)

    @post("/{request_id:uuid}/refuse", operation_id="refuseDataRequest", status_code=200, responses=WRITE)
    async def refuse(
        self,
        transaction: Transaction,
        asking: Asking,
        idempotency_key: IdempotencyKey,
        request_id: RequestId,
        data: JSONBody[RefuseRequest],
    ) -> StepOut:
        """The request is not carried out, with a reason that the person sees."""
        request = await operations.refuse(
            transaction, request_id, actor=asking.id, reason=data.reason, now=datetime.now(UTC)
        )
        return StepOut.of(request)

    @post("/{request_id:uuid}/erase", operation_id="eraseByDataRequest", status_code=200, responses=WRITE)
    async def erase(
        self,
        state: State,
        transaction: Transaction,
        asking: Asking,
        idempotency_key: IdempotencyKey,
        request_id: RequestId,
    ) -> StepOut:
        """Erase the person who asked for it, for good; this closes the request.

        Refused with `blockers` while something keeps their data: an office they hold, money on its way to or from them.
        """
        if asking.person is not None:
            require_recent(asking, STEP_UP_AGE, now=datetime.now(UTC))
        request = await operations.to_erase(transaction, request_id)
        await operations.erase(
            transaction, keyring_of(state), request.person_id, actor=asking.id, now=datetime.now(UTC)
        )
        await transaction.refresh(request)
        return StepOut.of(request)


CONTROLLERS = (RightsController, DataOfficerController)


def keyring_of(state: State) -> Keyring:
    """The keys of personal data, which are there where people can sign in."""
    keyring: Keyring | None = state.get("keyring")
    if keyring is None:
        raise Unavailable("There are no keys of personal data here.")
    return keyring


def _person(caller: Caller) -> UUID:
    if caller.person is None:
        raise LookupError("a key is nobody")  # the guards forbid it
    return caller.person


async def _purpose(session: AsyncSession, asking: Caller, purpose_id: str) -> PurposeOut:
    found = await queries.purposes_for(session, _person(asking))
    return PurposeOut.of(next(each for each in found if each.purpose.id == purpose_id))


async def _export(state: State, asking: Caller, request: Request) -> Export:
    return await flows.take_out(
        state.sessions,
        keyring_of(state),
        asking,
        _person(asking),
        what=request.scope["path_template"],
        request_id=request_id_of(request.scope),
        now=datetime.now(UTC),
    )


def _file(body: bytes, ending: str, media_type: str) -> Response[bytes]:
    headers = {**PRIVATE, "Content-Disposition": f'attachment; filename="du-lieu-ca-nhan.{ending}"'}
    return Response(body, media_type=media_type, headers=headers)
