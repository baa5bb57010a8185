"""Taking one's data out: a read that is recorded and audited, in a transaction that ends before anything is sent."""

from datetime import datetime
from uuid import UUID

from bkapp.access.operations import Caller, record_read
from bkapp.audit.operations import append
from bkapp.db import Sessions
from bkapp.privacy import operations
from bkapp.privacy.exports import Export
from bkapp.sealing import Keyring


async def take_out(
    sessions: Sessions, keyring: Keyring, caller: Caller, person_id: UUID, *, what: str, request_id: str, now: datetime
) -> Export:
    """Everything that is held about a person; ``what`` is the route, as the record of the read names it.

    The audit chain waits for nobody who draws a PDF, and no connection does.
    """
    async with sessions.begin() as session:
        export = await operations.collect(session, keyring, person_id, now=now)
        await record_read(session, caller, subject=str(person_id), what=what, request_id=request_id)
        await append(session, kind="data_exported", actor=caller.id, subject=str(person_id), how=what)
    return export
