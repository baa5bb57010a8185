"""The practice ViettelPay; the fields and signatures are those of :mod:`bkapp.payments.providers.viettel`.

It asks the merchant (``verify``) before it takes money, and takes none without a well signed 00.
"""

from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from litestar import Request, Response, get, post
from litestar.datastructures import State as Parts

from bkapp.payments.providers.viettel import (
    NOT_YET,
    OK,
    PAID,
    PAYMENT_SIGNED,
    SEARCH_SIGNED,
    VERSION,
    checksum,
)
from bkapp.payments.providers.wire import read_amount, read_json, read_query, same, text_of
from bkapp.practice.paying.answering import answered, expect, refused, to_page
from bkapp.practice.paying.cashier import Cashier, Facade, Message, Order, OtherOrder, Payment, State
from bkapp.practice.paying.faults import STRAIGHT, On, Twist
from bkapp.practice.paying.merchants import PracticeMerchant

PROVIDER = "viettel"
_FAILED, _CANCELLED, _ABSENT = "2", "21", "01"
_PAYER = "84990000001"


def _proof(merchant: PracticeMerchant, fields: dict[str, str], twist: Twist) -> str:
    return checksum(merchant.options["access_code"], fields, twist.secret(merchant.secrets["hash_key"]))


def _form(url: str, merchant: PracticeMerchant, fields: dict[str, str], twist: Twist) -> Message:
    body = urlencode({**fields, "check_sum": _proof(merchant, fields, twist)}).encode()
    return Message(url=url, body=body, headers={"Content-Type": "application/x-www-form-urlencoded"})


def _result(order: Order, payment: Payment | None, twist: Twist, state: State) -> dict[str, str]:
    failed = state in {State.FAILED, State.EXPIRED}
    return {
        "billcode": order.facts["billcode"],
        "cust_msisdn": _PAYER,
        "error_code": _CANCELLED if failed else OK,
        "merchant_code": order.merchant.code,
        "order_id": order.reference,
        "payment_status": PAID if payment else _FAILED if failed else NOT_YET,
        "trans_amount": str(twist.amount(payment.amount if payment else order.amount)),
        "vt_transaction_id": payment.transaction if payment else "",
    }


def _notice(order: Order, payment: Payment | None, twist: Twist, _: datetime) -> Message:
    result = _result(order, payment, twist, State.PAID if payment else State.FAILED)
    return _form(f"{order.notify_url}/result", order.merchant, result, twist)


def _ask(order: Order, twist: Twist) -> Message:
    fields = {
        "billcode": order.facts["billcode"],
        "merchant_code": order.merchant.code,
        "order_id": order.reference,
        "trans_amount": str(order.amount),
    }
    return _form(f"{order.notify_url}/verify", order.merchant, fields, twist)


def _agreed(order: Order, status: int, body: bytes) -> bool:
    names = ("billcode", "error_code", "merchant_code", "order_id", "trans_amount")
    fields = _answer(order.merchant, status, body, names)
    asked = (order.facts["billcode"], OK, order.merchant.code, order.reference, str(order.amount))
    return fields is not None and tuple(fields[name] for name in names) == asked


def _answer(merchant: PracticeMerchant, status: int, body: bytes, names: tuple[str, ...]) -> dict[str, str] | None:
    """The fields of a merchant's answer, if they are signed."""
    try:
        said = read_json(body)
        fields = {name: text_of(said, name) for name in names}
        good = same(text_of(said, "check_sum"), _proof(merchant, fields, STRAIGHT))
    except ValueError:
        return None
    return fields if status == 200 and good else None


def _way_back(order: Order, twist: Twist) -> str:
    fields = _result(order, order.paid, STRAIGHT, order.state)
    joint = "&" if "?" in order.return_url else "?"
    return f"{order.return_url}{joint}{urlencode({**fields, 'check_sum': _proof(order.merchant, fields, twist)})}"


def _heard(order: Order, status: int, body: bytes) -> bool:
    fields = _answer(order.merchant, status, body, ("error_code", "merchant_code", "order_id"))
    return fields is not None and (fields["error_code"], fields["order_id"]) == (OK, order.reference)


FACADE = Facade(notice=_notice, heard=_heard, way_back=_way_back, ask=_ask, agreed=_agreed, prefix="VT")


@get("/viettel/payment", opt={"page": True})
async def pay(request: Request, state: Parts) -> Response:
    """What the payer's browser brings: an order, signed by the merchant."""
    cashier: Cashier = state.cashier
    try:
        said = read_query(request.scope["query_string"])
        fields = {name: said[name] for name in PAYMENT_SIGNED}
        merchant = cashier.merchant(PROVIDER, fields["merchant_code"])
        if merchant is None:
            return refused("ViettelPay không biết đơn vị này (merchant_code).")
        if not same(said["check_sum"], _proof(merchant, fields, STRAIGHT)):
            return refused("Sai chữ ký (check_sum).")
        amount, about, back = read_amount(fields["trans_amount"]), said["desc"], said["return_url"]
        expect((fields["command"], fields["version"]), ("PAYMENT", VERSION))
    except (ValueError, KeyError):
        return refused("Dữ liệu gửi sang không đúng định dạng.")

    def say(_: Twist) -> Response:
        facts = {"billcode": fields["billcode"]}
        try:
            order = cashier.begin(merchant, fields["order_id"], amount, about=about, return_url=back, facts=facts)
        except OtherOrder:
            return refused("Mã đơn hàng này đã dùng cho một số tiền khác.")
        return to_page(order)

    return await answered(cashier, On.BEGIN, merchant, say)


@post("/viettel/search", status_code=200)
async def search(request: Request, state: Parts) -> Response:
    """What came of a payment."""
    cashier: Cashier = state.cashier
    try:
        said = read_query(await request.body())
        fields = {name: said[name] for name in SEARCH_SIGNED}
        merchant = cashier.merchant(PROVIDER, fields["merchant_code"])
        if merchant is None:
            return Response({"error_code": _ABSENT})
        if not same(said["check_sum"], _proof(merchant, fields, STRAIGHT)):
            return Response({"error_code": "02"})
    except (ValueError, KeyError):
        return Response({"error_code": "03"})

    def say(twist: Twist) -> dict[str, Any]:
        order = cashier.find(merchant, fields["order_id"])
        told = {"merchant_code": merchant.code, "order_id": fields["order_id"], "version": VERSION}
        if order is None:
            told["error_code"] = _ABSENT
        else:
            result = _result(order, order.paid, twist, order.state)
            told |= {name: result[name] for name in ("payment_status", "trans_amount", "vt_transaction_id")}
            told["error_code"] = OK
        return {**told, "check_sum": _proof(merchant, told, twist)}

    return await answered(cashier, On.INQUIRE, merchant, say)


ROUTES = (pay, search)
