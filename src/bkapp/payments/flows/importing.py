"""Taking a file to reconcile with, from a page that sends it as a form.

A form with a file carries no key that the unit of work reads, and needs none: the same bytes of the same day are the
same import, whenever they come.
"""

from datetime import datetime

from bkapp.db import Sessions
from bkapp.payments.operations.merchants import merchant_row
from bkapp.payments.operations.reconciling import Imported, import_file
from bkapp.payments.statements import Source


async def take_file(
    sessions: Sessions, merchant: str, *, source: Source, name: str, data: bytes, by: str, now: datetime
) -> Imported:
    """Take a file of a merchant (its key) in a transaction of its own; raise what :func:`import_file` raises."""
    async with sessions.begin() as session:
        row = await merchant_row(session, merchant)
        return await import_file(session, row, source=source, name=name, data=data, by=by, now=now)
