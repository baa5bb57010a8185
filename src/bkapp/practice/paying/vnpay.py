"""The practice VNPAY 2.1.0; the fields and signatures are those of :mod:`bkapp.payments.providers.vnpay`."""

from datetime import datetime
from typing import Any

from litestar import Request, Response, get, post
from litestar.datastructures import State as Parts

from bkapp.payments.providers.vnpay import (
    QUERY_ANSWERED,
    QUERY_ASKED,
    REFUND_ANSWERED,
    REFUND_ASKED,
    api_hash,
    pay_hash,
    pay_query,
)
from bkapp.payments.providers.wire import (
    compact_time,
    read_amount,
    read_compact_time,
    read_json,
    read_query,
    same,
    text_of,
)
from bkapp.practice.paying.answering import answered, expect, refused, to_page
from bkapp.practice.paying.cashier import (
    Cashier,
    Facade,
    Message,
    NotRefundable,
    Order,
    OtherOrder,
    Payment,
    RefundState,
    Repayment,
    State,
)
from bkapp.practice.paying.faults import STRAIGHT, On, Twist
from bkapp.practice.paying.merchants import PracticeMerchant

PROVIDER = "vnpay"
_FULL, _PART = "02", "03"
_CANCELLED, _EXPIRED = "24", "11"


def _result(order: Order, payment: Payment | None, twist: Twist, state: State) -> dict[str, str]:
    """What VNPAY says of a try at paying, by IPN and by the browser."""
    paid = payment is not None
    pending = state is State.PROCESSING
    failed = _EXPIRED if state is State.EXPIRED else _CANCELLED
    number = payment.transaction if payment else "0"
    return {
        "vnp_Amount": str(twist.amount(payment.amount if payment else order.amount) * 100),
        "vnp_BankCode": "NCB",
        "vnp_BankTranNo": f"VNP{number}" if paid else "",
        "vnp_CardType": "ATM",
        "vnp_OrderInfo": order.about,
        "vnp_PayDate": compact_time(payment.at if payment else order.closed_at or order.created_at),
        "vnp_ResponseCode": "00" if paid or pending else failed,
        "vnp_TmnCode": order.merchant.code,
        "vnp_TransactionNo": number,
        "vnp_TransactionStatus": "00" if paid else "01" if pending else "02",
        "vnp_TxnRef": order.reference,
    }


def _notice(order: Order, payment: Payment | None, twist: Twist, _: datetime) -> Message:
    result = _result(order, payment, twist, State.PAID if payment else State.FAILED)
    query = pay_query(result, twist.secret(order.merchant.secrets["hash"]))
    return Message(method="GET", url=f"{order.notify_url}?{query}")


def _heard(_: Order, status: int, body: bytes) -> bool:
    try:
        return status == 200 and text_of(read_json(body), "RspCode") in {"00", "02"}
    except ValueError:
        return False


def _way_back(order: Order, twist: Twist) -> str:
    secret = twist.secret(order.merchant.secrets["hash"])
    joint = "&" if "?" in order.return_url else "?"
    return f"{order.return_url}{joint}{pay_query(_result(order, order.paid, STRAIGHT, order.state), secret)}"


FACADE = Facade(notice=_notice, heard=_heard, way_back=_way_back)


@get("/vnpay/paymentv2/vpcpay.html", opt={"page": True})
async def pay(request: Request, state: Parts) -> Response:
    """What the payer's browser brings: an order, signed by the merchant."""
    cashier: Cashier = state.cashier
    try:
        fields = read_query(request.scope["query_string"])
        merchant = cashier.merchant(PROVIDER, fields["vnp_TmnCode"])
        if merchant is None:
            return refused("VNPAY không biết mã website này (vnp_TmnCode).")
        if not same(fields["vnp_SecureHash"], pay_hash(fields, merchant.secrets["hash"])):
            return refused("Sai chữ ký (vnp_SecureHash).")
        amount, rest = divmod(read_amount(fields["vnp_Amount"]), 100)
        if rest or not amount or fields["vnp_Command"] != "pay" or fields["vnp_CurrCode"] != "VND":
            return refused("Dữ liệu gửi sang không đúng định dạng.")
        expires_at, reference = read_compact_time(fields["vnp_ExpireDate"]), fields["vnp_TxnRef"]
        back, about, created = fields["vnp_ReturnUrl"], fields["vnp_OrderInfo"], fields["vnp_CreateDate"]
    except (ValueError, KeyError):
        return refused("Dữ liệu gửi sang không đúng định dạng.")

    def say(_: Twist) -> Response:
        try:
            order = cashier.begin(
                merchant,
                reference,
                amount,
                about=about,
                return_url=back,
                expires_at=expires_at,
                facts={"created": created},
            )
        except OtherOrder:
            return refused("Mã giao dịch này đã dùng cho một số tiền khác.")
        return to_page(order)

    return await answered(cashier, On.BEGIN, merchant, say)


@post("/vnpay/merchant_webapi/api/transaction", status_code=200)
async def transaction(request: Request, state: Parts) -> Response:
    """A merchant's questions (querydr) and wishes (refund)."""
    cashier: Cashier = state.cashier
    try:
        said = read_json(await request.body())
        fields = {name: text_of(said, name) for name in said}
        merchant = cashier.merchant(PROVIDER, fields["vnp_TmnCode"])
        is_refund = fields["vnp_Command"] == "refund"
        if merchant is None:
            return Response({"vnp_ResponseCode": "02", "vnp_Message": "Invalid TmnCode"})
        right = api_hash(fields, REFUND_ASKED if is_refund else QUERY_ASKED, merchant.secrets["hash"])
        if not same(fields["vnp_SecureHash"], right):
            return Response({"vnp_ResponseCode": "97", "vnp_Message": "Invalid Checksum"})
        expect(fields["vnp_Command"], "refund" if is_refund else "querydr")
        amount = read_amount(fields["vnp_Amount"]) // 100 if is_refund else 0
        expect({"vnp_RequestId", "vnp_TxnRef", "vnp_TransactionDate"} <= fields.keys(), wanted=True)
    except (ValueError, KeyError):
        return Response({"vnp_ResponseCode": "03", "vnp_Message": "Invalid format"})

    def say(twist: Twist) -> dict[str, str]:
        order = cashier.find(merchant, fields["vnp_TxnRef"])
        if order is not None and order.facts["created"] != fields["vnp_TransactionDate"]:
            order = None
        if is_refund:
            told = _refund(cashier, order, fields, amount, slowly=twist.slow)
        elif not cashier.first_time(merchant, fields["vnp_RequestId"]):
            told = {"vnp_ResponseCode": "94", "vnp_Message": "Duplicate request"}
        else:
            told = _query(order)
        names = REFUND_ANSWERED if is_refund else QUERY_ANSWERED
        return _signed(merchant, fields, told, names, twist, str(cashier.number()))

    return await answered(cashier, On.REFUND if is_refund else On.INQUIRE, merchant, say)


def _query(order: Order | None) -> dict[str, str]:
    if order is None:
        return {"vnp_ResponseCode": "91", "vnp_Message": "Order not found"}
    if order.refunds:
        latest = order.refunds[-1]
        return _refunded(latest, "00" if latest.state is RefundState.DONE else "05", order.about)
    status = {State.PAID: "00", State.FAILED: "02", State.EXPIRED: "02"}.get(order.state, "01")
    payment = order.paid
    return {
        "vnp_ResponseCode": "00",
        "vnp_Message": "QueryDR Success",
        "vnp_Amount": str(payment.amount if payment else order.amount),
        "vnp_BankCode": "NCB",
        "vnp_PayDate": compact_time(payment.at) if payment else "",
        "vnp_TransactionNo": payment.transaction if payment else "0",
        "vnp_TransactionType": "01",
        "vnp_TransactionStatus": status,
        "vnp_OrderInfo": order.about,
    }


def _refund(
    cashier: Cashier, order: Order | None, fields: dict[str, str], amount: int, *, slowly: bool
) -> dict[str, str]:
    if order is None:
        return {"vnp_ResponseCode": "91", "vnp_Message": "Order not found"}
    reference, number = fields["vnp_RequestId"], fields.get("vnp_TransactionNo", "0")
    if cashier.refunded(order.merchant, reference) is not None:
        return {"vnp_ResponseCode": "94", "vnp_Message": "Refund request is being processed"}
    try:
        done = cashier.refund(order, reference, "" if number == "0" else number, amount, slowly=slowly)
    except NotRefundable:
        return {"vnp_ResponseCode": "95", "vnp_Message": "Transaction cannot be refunded"}
    return _refunded(done, "05" if slowly else "00", fields["vnp_OrderInfo"])


def _refunded(done: Repayment, status: str, about: str) -> dict[str, str]:
    return {
        "vnp_ResponseCode": "00",
        "vnp_Message": "Success",
        "vnp_Amount": str(done.amount),
        "vnp_BankCode": "NCB",
        "vnp_PayDate": compact_time(done.at),
        "vnp_TransactionNo": done.transaction,
        "vnp_TransactionType": _FULL if done.amount == done.payment.amount else _PART,
        "vnp_TransactionStatus": status,
        "vnp_OrderInfo": about,
    }


def _signed(
    merchant: PracticeMerchant,
    asked: dict[str, Any],
    told: dict[str, str],
    names: tuple[str, ...],
    twist: Twist,
    response_id: str,
) -> dict[str, str]:
    said = {
        "vnp_ResponseId": response_id,
        "vnp_Command": asked["vnp_Command"],
        "vnp_TmnCode": merchant.code,
        "vnp_TxnRef": asked["vnp_TxnRef"],
        **told,
    }
    if "vnp_Amount" in said:
        said["vnp_Amount"] = str(twist.amount(int(said["vnp_Amount"])) * 100)
    return {**said, "vnp_SecureHash": api_hash(said, names, twist.secret(merchant.secrets["hash"]))}


ROUTES = (pay, transaction)
