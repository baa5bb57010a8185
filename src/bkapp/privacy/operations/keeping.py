"""What is kept no longer than its time (see :data:`bkapp.privacy.rules.RETENTION`)."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import case, delete, or_, update
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.identity.models import Notice
from bkapp.privacy.models import SubjectRequest
from bkapp.privacy.rules import RETENTION


async def keep_no_longer(session: AsyncSession, *, now: datetime) -> dict[str, int]:
    """Delete what is older than its time; return how many of each kind.  Safe to repeat."""
    old = {what: now - timedelta(days=kept.days) for what, kept in RETENTION.items()}
    statements: dict[str, Any] = {
        "read_notices": delete(Notice).where(Notice.read_at < old["read_notices"]),
        "unread_notices": delete(Notice).where(Notice.read_at.is_(None), Notice.created_at < old["unread_notices"]),
        "request_details": update(SubjectRequest)
        .where(
            SubjectRequest.closed_at < old["request_details"],
            or_(SubjectRequest.details_cipher.is_not(None), SubjectRequest.outcome.is_not(None)),
        )
        .values(
            details_cipher=None,
            outcome=None,
            extension_reason=case((SubjectRequest.extended_at.is_not(None), "")),  # that there was one stays
        )
        .execution_options(synchronize_session=False),
    }
    return {
        what: (await session.execute(statement)).rowcount  # type: ignore[attr-defined]
        for what, statement in statements.items()
    }
