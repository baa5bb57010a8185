"""What an officer does with an address: one route for each verb of the registry."""

from litestar import Controller, Request, post
from litestar.params import JSONBody

from bkapp.access.guards import Asking, officer
from bkapp.address import operations
from bkapp.address.controllers.shared import WRITE, CodeInPath, shown, telling
from bkapp.address.operations.reading import read_code
from bkapp.address.schemas import (
    AddressesOut,
    AddressOut,
    CorrectDoor,
    CorrectPoint,
    GiveIdentifier,
    Merge,
    Move,
    Reason,
    Retire,
    Split,
    Verify,
)
from bkapp.http import (
    KEYED,
    IdempotencyKey,
    Transaction,
    today,
)


class VerbController(Controller):
    """Changes of an address.  Each answers with the address as it is afterwards."""

    path = "/api/v1/addresses/{code:str}"
    tags = ("addresses",)

    @post(
        "/issue",
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
        return await shown(transaction, asking, request, digits)

    @post(
        "/reject",
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
        return await shown(transaction, asking, request, digits)

    @post(
        "/verify",
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
        return await shown(transaction, asking, request, digits)

    @post(
        "/correct-point",
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
        async with telling(asking, request):
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
        return await shown(transaction, asking, request, digits)

    @post(
        "/correct-door",
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
        async with telling(asking, request):
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
        return await shown(transaction, asking, request, digits)

    @post(
        "/move",
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
        async with telling(asking, request):
            changed = await operations.move_household(transaction, asking, digits, to=to, on=data.on, today=today())
        return AddressesOut([await shown(transaction, asking, request, dwelling.code) for dwelling in changed])

    @post(
        "/split",
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
        async with telling(asking, request):
            made = await operations.split(
                transaction, asking, digits, parts=[part.read() for part in data.parts], on=data.on, today=today()
            )
        return AddressesOut([await shown(transaction, asking, request, dwelling.code) for dwelling in made])

    @post(
        "/merge",
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
        async with telling(asking, request):
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
        return await shown(transaction, asking, request, made.code)

    @post(
        "/retire",
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
        return await shown(transaction, asking, request, digits)

    @post(
        "/identifiers",
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
        return await shown(transaction, asking, request, digits)
