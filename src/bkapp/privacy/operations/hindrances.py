"""What stands in the way of erasing somebody now: whose law says to keep something adds its question here."""

from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

from msgspec import Struct
from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.identity.models import RoleGrant
from bkapp.payments.models import Bill, PaymentAttempt, PaymentCase, Receipt, Refund
from bkapp.payments.queries.bills import TOLD
from bkapp.payments.rules import LIVE, RESERVING, Place
from bkapp.privacy.operations.paying import came_for, owed_by


class Blocker(Struct, frozen=True):
    """Why a person cannot be erased now: a stable word, and a Vietnamese sentence for the person."""

    code: str
    title: str


Hindrance = Callable[[AsyncSession, UUID], Awaitable[Blocker | None]]


async def holds_office(session: AsyncSession, person_id: UUID) -> Blocker | None:
    """Who acts for the authority answers for it by name; the office ends first."""
    held = await session.scalar(
        select(RoleGrant.id).where(
            RoleGrant.person_id == person_id,
            RoleGrant.ended_at.is_(None),
            or_(RoleGrant.expires_at.is_(None), RoleGrant.expires_at > func.now()),
        )
    )
    if held is None:
        return None
    return Blocker("holds_office", "Người này đang giữ một chức vụ trong hệ thống")


async def pays(session: AsyncSession, person_id: UUID) -> Blocker | None:
    """A payment under way needs to know whose it is.  A bill that nobody is paying does not.

    Who is looked at stays as they are until this transaction ends: their bills are locked.  Whoever holds one waits for
    the person that an erasure holds, so none is waited for, and a bill that is held counts as one being paid.
    """
    theirs = select(Bill.id).where(owed_by(person_id))
    held = (await session.scalars(theirs.with_for_update(skip_locked=True, key_share=True))).all()
    all_of_them = await session.scalar(select(func.count()).select_from(theirs.subquery()))
    live = await session.scalar(
        select(PaymentAttempt.id).where(PaymentAttempt.bill_id.in_(theirs), PaymentAttempt.status.in_(LIVE)).limit(1)
    )
    if live is None and len(held) == all_of_them:
        return None
    return Blocker("payment_under_way", "Người này đang có một lần thanh toán chưa kết thúc")


async def awaits_money(session: AsyncSession, person_id: UUID) -> Blocker | None:
    """Their money stands where it belongs to nothing, or somebody has to give it back."""
    theirs = select(Bill.id).where(owed_by(person_id))
    suspended = select(Receipt.id).where(
        came_for(theirs), Receipt.place == Place.SUSPENSE, Receipt.refunded < Receipt.amount
    )
    unsettled = select(PaymentCase.id).where(
        PaymentCase.bill_id.in_(theirs), PaymentCase.closed_at.is_(None), PaymentCase.kind.in_(TOLD)
    )
    if await session.scalar(select(or_(suspended.exists(), unsettled.exists()))):
        return Blocker("money_in_suspense", "Còn tiền của người này đang chờ xử lý")
    return None


async def awaits_refund(session: AsyncSession, person_id: UUID) -> Blocker | None:
    """Money is on its way back to them."""
    theirs = select(Bill.id).where(owed_by(person_id))
    found = await session.scalar(
        select(Refund.id)
        .join(Receipt, Receipt.id == Refund.receipt_id)
        .where(came_for(theirs), Refund.status.in_(RESERVING))
        .limit(1)
    )
    return None if found is None else Blocker("refund_under_way", "Còn khoản hoàn tiền cho người này chưa xong")


HINDRANCES: Sequence[Hindrance] = (holds_office, pays, awaits_money, awaits_refund)
"""What is asked before anybody is erased."""
