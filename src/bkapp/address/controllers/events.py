"""The feed of changes."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from litestar import Controller, Request, Response, get
from litestar.datastructures import State
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPIType, Operation, Schema
from litestar.params import QueryParameter
from litestar.response import Stream
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.guards import MaybeAsking
from bkapp.access.operations import Caller, record_reads
from bkapp.address import queries
from bkapp.address.controllers.shared import also
from bkapp.address.queries.feed import EventRow
from bkapp.address.schemas import (
    EventOut,
    EventsOut,
)
from bkapp.db import Lookup, Sessions
from bkapp.http import (
    MAYBE_KEYED,
    Reading,
    anyone,
    documented,
    request_id_of,
)
from bkapp.units import queries as units

NDJSON = "application/x-ndjson"


@dataclass
class AlsoAsLines(Operation):
    """The feed comes as one JSON document or as a line for each event."""

    def __post_init__(self) -> None:
        also(self, {NDJSON: Schema(type=OpenAPIType.STRING, description="One EventOut a line.")})


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
        show = _Showing(state.records, maybe_asking, await _visible(reading, maybe_asking), request)
        if NDJSON in request.headers.get("accept", ""):
            return Stream(
                _lines(state.readers, after, limit, show), media_type=NDJSON, headers={"Cache-Control": "no-store"}
            )
        page = await show(await queries.events(reading, after=after, limit=min(limit, 1000)))
        return Response(
            EventsOut(page, next=page[-1].seq if page else after, head=await queries.head(reading)),
            headers={"Cache-Control": "no-store"},
        )


# Which addresses' exact data a caller sees in the feed: True for all, else the (code, valid_from) of units.
Visible = bool | frozenset[tuple[str, str]]


async def _visible(session: AsyncSession, asking: Caller | None) -> Visible:
    if asking is None:
        return False
    if asking.unit_ids is None:
        return True
    found = await units.units_by_ids(session, asking.unit_ids)
    return frozenset((unit.code, unit.valid_from.isoformat()) for unit in found)


class _Showing:
    """Shows events as a caller may see them, and records each address whose exact data they saw."""

    def __init__(self, records: Lookup, asking: Caller | None, visible: Visible, request: Request) -> None:
        self._records = records
        self._asking = asking
        self._visible = visible
        self._what = str(request.scope["path_template"])
        self._request_id = request_id_of(request.scope)

    async def __call__(self, page: Sequence[EventRow]) -> list[EventOut]:
        exact = [self._sees(event) for event in page]
        codes = {event.code for event, seen in zip(page, exact, strict=True) if seen}
        if self._asking is not None and codes:
            await record_reads(
                self._records, self._asking, subjects=sorted(codes), what=self._what, request_id=self._request_id
            )
        return [EventOut.of(event, exact=seen) for event, seen in zip(page, exact, strict=True)]

    def _sees(self, event: EventRow) -> bool:
        if isinstance(self._visible, bool):
            return self._visible
        return (event.data["unit"]["code"], event.data["unit"]["valid_from"]) in self._visible


async def _lines(readers: Sessions, after: int, limit: int, show: _Showing) -> AsyncIterator[bytes]:
    """The feed line by line.  Each page is read and its connection given back before it is sent: a slow reader keeps
    nobody else waiting."""
    encoder = msgspec.json.Encoder()
    while limit > 0:
        async with readers() as session:
            page = await queries.events(session, after=after, limit=min(limit, 1000))
        for event in await show(page):
            yield encoder.encode(event) + b"\n"
        if len(page) < min(limit, 1000):
            return
        after = page[-1].seq
        limit -= len(page)
