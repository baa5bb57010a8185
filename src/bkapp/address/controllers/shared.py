"""What the controllers of addresses share: codes in paths, documented refusals, the exact view and its record."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from litestar import Request
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIResponse, Operation, Schema
from litestar.params import PathParameter
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.operations import Caller, record_read, record_reads
from bkapp.address import queries
from bkapp.address.operations.reading import look_up
from bkapp.address.queries import Details, Summary
from bkapp.address.schemas import (
    AddressOut,
)
from bkapp.errors import DomainError
from bkapp.http import (
    documented,
    request_id_of,
)

CodeInPath = Annotated[
    str,
    PathParameter(
        description="An address code in any form people write: 482719346, BK 482 719 346, bk-482-719-346 …",
        max_length=64,
    ),
]
READ = documented(401, 404, 422)
WRITE = documented(401, 403, 404, 409, 413, 415, 422)


def also(operation: Operation, kinds: dict[str, Schema]) -> None:
    success = (operation.responses or {}).get("200")
    if isinstance(success, OpenAPIResponse) and success.content is not None:
        success.content.update({kind: OpenAPIMediaType(schema=schema) for kind, schema in kinds.items()})


async def details_for(session: AsyncSession, asking: Caller | None, found: Summary, request: Request) -> Details | None:
    """The exact view, if the caller may see it; that they saw it is recorded."""
    if asking is None:
        return None
    details = await queries.details(session, found.code)
    if details is None or not asking.sees(details.unit_id, found.code):
        return None
    await record_read(
        session,
        asking,
        subject=found.code,
        what=request.scope["path_template"],
        request_id=request_id_of(request.scope),
    )
    return details


async def shown(session: AsyncSession, asking: Caller, request: Request, code: str) -> AddressOut:
    """An address as its officer sees it after a change; that they saw it is recorded like any read."""
    found = await look_up(session, code)
    return AddressOut.of(found, await details_for(session, asking, found, request))


@asynccontextmanager
async def telling(asking: Caller, request: Request) -> AsyncIterator[None]:
    """Record of a refusal which home it tells of: whose door is here, where a household lives.

    What the refused change did is undone, so the read is kept beside it.
    """
    try:
        yield
    except DomainError as refusal:
        home = refusal.facts.get("address")
        if isinstance(home, str):
            await record_reads(
                request.app.state.records,
                asking,
                subjects=[home],
                what=request.scope["path_template"],
                request_id=request_id_of(request.scope),
            )
        raise
