"""What payments keep, and for how long; which columns are sealed."""

from datetime import datetime, timedelta

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.identity.operations import Sealed
from bkapp.payments.models import Bill, MerchantSecret, WebhookInbox, WebhookKey

SEALED = (
    Sealed(Bill.payer_name_cipher, Bill.id, "bill.payer_name"),
    Sealed(MerchantSecret.secret_cipher, MerchantSecret.id, "merchant_secret"),
    Sealed(WebhookKey.secret_cipher, WebhookKey.id, "webhook_key"),
    Sealed(WebhookInbox.body_cipher, WebhookInbox.id, "webhook_inbox"),
)
"""The sealed columns of this feature, for ``bkapp keys reseal``."""
LETTERS_LAST = timedelta(days=400)
"""For how long the content of providers' messages is kept: a business year, its closing, and every replay horizon."""


async def forget_letters(session: AsyncSession, *, now: datetime) -> int:
    """Empty old messages from providers: when and about what they were stays, what stood in them does not."""
    emptied = await session.execute(
        update(WebhookInbox)
        .where(WebhookInbox.received_at < now - LETTERS_LAST, WebhookInbox.body_cipher.is_not(None))
        .values(body_cipher=None, headers="{}", remote_ip="")
        .execution_options(synchronize_session=False)
    )
    return emptied.rowcount  # type: ignore[attr-defined,no-any-return]
