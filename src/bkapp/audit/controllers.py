"""HTTP for the audit chain: the checkpoint that anybody may keep."""

from litestar import Controller, Response, get
from litestar.openapi.datastructures import ResponseSpec

from bkapp.audit import queries
from bkapp.audit.schemas import CheckpointOut
from bkapp.errors import NotFound
from bkapp.http import Reading, anyone, documented


class AuditController(Controller):
    """The chain of who did what.  Its entries are for nobody; that they were not changed is for everybody to see."""

    path = "/api/v1/audit"
    tags = ("audit",)

    @get(
        "/checkpoint",
        operation_id="getAuditCheckpoint",
        guards=[anyone],
        responses={
            **documented(404),
            200: ResponseSpec(CheckpointOut, generate_examples=False, description="The newest one."),
        },
    )
    async def checkpoint(self, reading: Reading) -> Response[CheckpointOut]:
        """The newest signed checkpoint of the audit chain, made every hour in which something was added.

        Keep it where the province cannot reach it: whoever later asks `bkapp audit verify --checkpoint` with it learns
        whether anything up to it was changed since. It tells nothing about anybody.
        """
        newest = await queries.newest_checkpoint(reading)
        if newest is None:
            raise NotFound("The audit chain has no checkpoint yet.")
        headers = {"Cache-Control": "public, max-age=60", "Access-Control-Allow-Origin": "*"}
        return Response(CheckpointOut.of(newest), headers=headers)
