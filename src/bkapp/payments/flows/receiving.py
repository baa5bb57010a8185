"""Hearing from providers.  A message has a transaction of its own, whatever it comes to."""

from datetime import datetime

from sqlalchemy.exc import IntegrityError

from bkapp.db import Sessions, is_outage
from bkapp.errors import NotFound
from bkapp.payments.operations import hub, inbox
from bkapp.payments.operations.merchants import merchant_row
from bkapp.payments.providers import Answer, Call
from bkapp.payments.providers.registry import Providers
from bkapp.sealing import Keyring

BILLS = "bills"
"""The last part of the address at which the national platform asks for bills."""


async def receive(
    sessions: Sessions,
    known: Providers,
    keyring: Keyring,
    *,
    merchant_key: str,
    call: Call,
    home: str,
    remote_ip: str,
    now: datetime,
) -> Answer:
    """Take a message for a merchant and say what to answer; raise ``NotFound`` for a merchant we do not have."""
    if call.what == BILLS:
        async with sessions.begin() as session:
            row = await merchant_row(session, merchant_key)
            if row.provider != "paygov":
                raise NotFound("Bills are looked up through the national platform alone.")
            return await hub.look_up(session, keyring, row, call, home=home, remote_ip=remote_ip, now=now)

    async def take() -> Answer:
        async with sessions.begin() as session:
            return await inbox.receive(
                session, known, keyring, merchant_key, call, home=home, remote_ip=remote_ip, now=now
            )

    try:
        try:
            return await take()
        except IntegrityError as error:
            if not inbox.is_twin(error):
                raise
            return await take()
    except Exception as error:
        if isinstance(error, NotFound) or is_outage(error):
            raise
        async with sessions.begin() as session:
            return await inbox.keep_broken(
                session, known, keyring, merchant_key, call, error, home=home, remote_ip=remote_ip, now=now
            )
