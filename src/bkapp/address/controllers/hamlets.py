"""Hamlets of a commune."""

from datetime import date
from typing import Annotated

from litestar import Controller, Request, get, post
from litestar.params import FromPath, FromQuery, JSONBody, PathParameter

from bkapp.access.guards import Asking, officer
from bkapp.address import operations, queries
from bkapp.address.controllers.shared import WRITE
from bkapp.address.schemas import (
    HamletOut,
    HamletsOut,
    OpenHamlet,
    RenameHamlet,
    UnitCode,
)
from bkapp.errors import NotFound
from bkapp.http import (
    KEYED,
    IdempotencyKey,
    Reading,
    Transaction,
    anyone,
    documented,
    today,
)
from bkapp.units import queries as units


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
