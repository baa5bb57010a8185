"""What payments hold of a person: taken out with the rest, and cut from them when they are erased.

A bill, its receipts and its refunds are vouchers of accounting, which the law keeps whoever paid is erased or not; they
stay with an id of nobody.  What a provider wrote to us, and what offices noted beside a voucher, is neither.
"""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.identity.models import Person
from bkapp.payments.models import (
    Bill,
    BillLine,
    Merchant,
    PaymentAttempt,
    PaymentCase,
    Receipt,
    ReconciliationItem,
    Refund,
    WebhookInbox,
)
from bkapp.payments.operations import showing
from bkapp.payments.queries import bills as queries
from bkapp.payments.queries.bills import TOLD
from bkapp.payments.rules import RefundStatus
from bkapp.privacy.exports import Part
from bkapp.privacy.purposes import PURPOSES
from bkapp.sealing import Keyring

_PAYMENTS = PURPOSES["payments"].act
_PAGE = 1000
_OURS = "payments%"  # who does what happens by itself; anybody else is an id, and writes in their own words


def owed_by(person_id: UUID) -> ColumnElement[bool]:
    """Of the bills, those of a person: they name them, or their number."""
    number = select(Person.number_hmac).where(Person.id == person_id, Person.erased_at.is_(None)).scalar_subquery()
    return or_(Bill.payer_id == person_id, Bill.payer_hmac == number)


def came_for(mine: Select[*tuple[Any, ...]]) -> ColumnElement[bool]:
    """Of the receipts, the money that came for some bills, or by an attempt at paying them and went elsewhere."""
    tried = select(PaymentAttempt.id).where(PaymentAttempt.bill_id.in_(mine))
    return or_(Receipt.bill_id.in_(mine), Receipt.attempt_id.in_(tried))


# --- taking out ---------------------------------------------------------------------------------------------------


async def parts_of(session: AsyncSession, keyring: Keyring, person_id: UUID) -> list[Part]:
    """What a person owes and paid, what came of it and what went back."""
    mine = select(Bill.id).where(owed_by(person_id))
    return [
        await _bills(session, keyring, person_id),
        await _part(
            session,
            "bill_lines",
            "Từng phần của khoản phải nộp",
            "Mỗi khoản gồm những phí, lệ phí nào.",
            {"bill": "Mã khoản nộp", "kind": "Loại", "code": "Mã", "name": "Tên", "amount": "Số tiền (đồng)"},
            select(Bill.code, BillLine.kind, BillLine.code, BillLine.name, BillLine.amount)
            .join(Bill, Bill.id == BillLine.bill_id)
            .where(BillLine.bill_id.in_(mine))
            .order_by(Bill.created_at.desc(), Bill.id, BillLine.position),
        ),
        await _part(
            session,
            "payments",
            "Các lần nộp",
            "Mỗi lần bạn thử nộp một khoản. Thông điệp gốc của kênh thanh toán được mã hóa, chỉ để đối chiếu, không có "
            "trong tệp này và được xóa sau 400 ngày.",
            {
                "bill": "Mã khoản nộp",
                "method": "Cách nộp",
                "reference": "Mã giao dịch",
                "amount": "Số tiền (đồng)",
                "status": "Tình trạng",
                "created_at": "Bắt đầu",
                "expires_at": "Hết hạn",
                "settled_at": "Kết thúc",
                "failure_code": "Mã lý do",
            },
            select(
                Bill.code,
                Merchant.title,
                PaymentAttempt.reference,
                PaymentAttempt.amount,
                PaymentAttempt.status,
                PaymentAttempt.created_at,
                PaymentAttempt.expires_at,
                PaymentAttempt.settled_at,
                PaymentAttempt.failure_code,
            )
            .join(Bill, Bill.id == PaymentAttempt.bill_id)
            .join(Merchant, Merchant.id == PaymentAttempt.merchant_id)
            .where(PaymentAttempt.bill_id.in_(mine))
            .order_by(PaymentAttempt.created_at.desc(), PaymentAttempt.id),
        ),
        await _part(
            session,
            "receipts",
            "Tiền đã nhận",
            "Tiền đã đến cho các khoản của bạn và đang được ghi ở đâu.",
            {
                "number": "Số",
                "bill": "Mã khoản nộp",
                "method": "Cách nộp",
                "amount": "Số tiền (đồng)",
                "received_at": "Nhận lúc",
                "place": "Ghi ở",
                "refunded": "Đã hoàn (đồng)",
                "transaction": "Số giao dịch của kênh thanh toán",
            },
            select(
                Receipt.number,
                Bill.code,
                Merchant.title,
                Receipt.amount,
                Receipt.received_at,
                Receipt.place,
                Receipt.refunded,
                Receipt.transaction,
            )
            .join(Merchant, Merchant.id == Receipt.merchant_id)
            .outerjoin(Bill, Bill.id == Receipt.bill_id)
            .where(came_for(mine))
            .order_by(Receipt.received_at.desc(), Receipt.number.desc()),
        ),
        await _part(
            session,
            "refunds",
            "Tiền hoàn lại",
            "Tiền được đề nghị hoàn, và đã hoàn đến đâu.",
            {
                "reference": "Mã hoàn tiền",
                "receipt": "Của số",
                "amount": "Số tiền (đồng)",
                "status": "Tình trạng",
                "reason": "Lý do",
                "by_hand": "Kho bạc chuyển khoản",
                "requested_at": "Đề nghị lúc",
                "approved_at": "Duyệt lúc",
                "sent_at": "Gửi đi lúc",
                "settled_at": "Xong lúc",
                "transaction": "Số giao dịch hoàn",
                "failure_code": "Lý do không hoàn",
            },
            select(
                Refund.reference,
                Receipt.number,
                Refund.amount,
                Refund.status,
                Refund.reason,
                Refund.by_hand,
                Refund.requested_at,
                Refund.approved_at,
                Refund.sent_at,
                Refund.settled_at,
                Refund.transaction,
                Refund.failure_code,
            )
            .join(Receipt, Receipt.id == Refund.receipt_id)
            .where(came_for(mine))
            .order_by(Refund.requested_at.desc(), Refund.id),
        ),
        await _part(
            session,
            "payment_cases",
            "Vụ việc về tiền của bạn",
            "Tiền của bạn cần ai đó xử lý, và hạn xử lý.",
            {
                "bill": "Mã khoản nộp",
                "kind": "Loại",
                "amount": "Số tiền (đồng)",
                "opened_at": "Mở lúc",
                "due_at": "Hạn",
                "closed_at": "Xong lúc",
            },
            select(
                Bill.code,
                PaymentCase.kind,
                Receipt.amount,
                PaymentCase.opened_at,
                PaymentCase.due_at,
                PaymentCase.closed_at,
            )
            .join(Bill, Bill.id == PaymentCase.bill_id)
            .outerjoin(Receipt, Receipt.id == PaymentCase.receipt_id)
            .where(PaymentCase.bill_id.in_(mine), PaymentCase.kind.in_(TOLD))
            .order_by(PaymentCase.opened_at.desc(), PaymentCase.id),
        ),
    ]


async def subjects_of(session: AsyncSession, person_id: UUID) -> list[str]:
    """What the audit chain calls a person's bills, and the money that came for them."""
    mine = select(Bill.id).where(owed_by(person_id))
    receipts = select(Receipt.id).where(came_for(mine))
    found: list[str] = []
    for ids in (
        mine,
        receipts,
        select(Refund.id).where(Refund.receipt_id.in_(receipts)),
        select(PaymentCase.id).where(PaymentCase.bill_id.in_(mine), PaymentCase.kind.in_(TOLD)),
    ):
        found += [str(each) for each in await session.scalars(ids)]
    return found


async def _bills(session: AsyncSession, keyring: Keyring, person_id: UUID) -> Part:
    found = page = await queries.bills_of(session, person_id, limit=_PAGE)
    while len(page) == _PAGE:
        page = await queries.bills_of(session, person_id, limit=_PAGE, after=page[-1].id)
        found = found + page
    return Part(
        id="bills",
        title="Khoản phải nộp",
        note="Khoản mang tên hoặc số định danh của bạn; chứng từ được giữ ít nhất 10 năm theo pháp luật về kế toán.",
        basis=_PAYMENTS,
        fields={
            "code": "Mã khoản nộp",
            "description": "Nội dung",
            "procedure_code": "Mã thủ tục",
            "procedure_name": "Thủ tục",
            "dossier_code": "Mã hồ sơ",
            "agency": "Nộp cho",
            "unit": "Nơi lập",
            "amount": "Số tiền (đồng)",
            "status": "Tình trạng",
            "payer": "Người nộp",
            "due_on": "Hạn nộp",
            "created_at": "Lập lúc",
            "paid_at": "Nộp xong lúc",
            "cancelled_at": "Hủy lúc",
        },
        rows=[
            {
                "code": row.code,
                "description": row.description,
                "procedure_code": row.procedure_code,
                "procedure_name": row.procedure_name,
                "dossier_code": row.dossier_code,
                "agency": row.agency,
                "unit": row.unit_name,
                "amount": row.amount,
                "status": row.status,
                "payer": showing.payer_name(keyring, row),
                "due_on": row.due_on,
                "created_at": row.created_at,
                "paid_at": row.paid_at,
                "cancelled_at": row.cancelled_at,
            }
            for row in found
        ],
    )


async def _part(
    session: AsyncSession, part: str, title: str, note: str, fields: dict[str, str], rows: Select[*tuple[Any, ...]]
) -> Part:
    found = await session.execute(rows)
    return Part(
        id=part,
        title=title,
        note=note,
        basis=_PAYMENTS,
        fields=fields,
        rows=[dict(zip(fields, row, strict=True)) for row in found],
    )


# --- cutting ------------------------------------------------------------------------------------------------------


async def bills_of(session: AsyncSession, person_id: UUID) -> list[UUID]:
    """The ids of a person's bills."""
    return [*await session.scalars(select(Bill.id).where(owed_by(person_id)))]


async def forget_payer(session: AsyncSession, person_id: UUID, *, instead: str) -> None:
    """Leave the vouchers and nothing else of a person: no name, no number, no network address, no message.

    ``instead`` takes the place of what offices noted about their money.  What a bill or a refund is for stays, as a
    voucher has to say it.
    """
    bills = await bills_of(session, person_id)
    attempts = select(PaymentAttempt.id).where(PaymentAttempt.bill_id.in_(bills))
    receipts = select(Receipt.id).where(or_(Receipt.bill_id.in_(bills), Receipt.attempt_id.in_(attempts)))
    given_back = select(Refund.id).where(Refund.receipt_id.in_(receipts))
    changes: list[tuple[Any, ColumnElement[bool], Mapping[str, Any]]] = [
        (PaymentAttempt, PaymentAttempt.bill_id.in_(bills), {"redirect_url": None}),
        (
            WebhookInbox,
            and_(WebhookInbox.attempt_id.in_(attempts), WebhookInbox.body_cipher.is_not(None)),
            {"body_cipher": None, "headers": "{}", "remote_ip": ""},
        ),
        # One that was not given back is no voucher, and its reasons are words between colleagues.
        (
            Refund,
            and_(
                Refund.receipt_id.in_(receipts),
                Refund.status == RefundStatus.REJECTED,
                Refund.requested_by.not_like(_OURS),
            ),
            {"reason": instead},
        ),
        (
            Refund,
            and_(
                Refund.receipt_id.in_(receipts),
                Refund.status == RefundStatus.REJECTED,
                Refund.failure_code.is_not(None),
            ),
            {"failure_code": instead},
        ),
        (
            PaymentCase,
            and_(
                or_(
                    PaymentCase.bill_id.in_(bills),
                    PaymentCase.receipt_id.in_(receipts),
                    PaymentCase.attempt_id.in_(attempts),
                ),
                PaymentCase.closed_by.not_like(_OURS),
            ),
            {"outcome": instead},
        ),
        (
            ReconciliationItem,
            and_(
                or_(ReconciliationItem.receipt_id.in_(receipts), ReconciliationItem.refund_id.in_(given_back)),
                ReconciliationItem.note.is_not(None),
            ),
            {"note": instead},
        ),
        (Bill, Bill.id.in_(bills), {"payer_hmac": None, "payer_name_cipher": None}),
    ]
    for table, about, values in changes:
        await session.execute(update(table).where(about).values(**values).execution_options(synchronize_session=False))
