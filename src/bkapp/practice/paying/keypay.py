"""The practice KeyPay; the fields and signatures are those of :mod:`bkapp.payments.providers.keypay`.

The address for callbacks is agreed on beforehand, so no request names it.
"""

from datetime import datetime
from typing import Any

import msgspec
from litestar import Request, Response, post
from litestar.datastructures import State as Parts

from bkapp.payments.providers.keypay import (
    DETAIL_SIGNED,
    LONGEST_REFERENCE,
    PAY_SIGNED,
    VERSION,
    detail_checksum,
    pay_checksum,
)
from bkapp.payments.providers.wire import read_amount, read_json, same, text_of
from bkapp.practice.paying.answering import answered, expect, lines_in, page_url
from bkapp.practice.paying.cashier import Cashier, Facade, Message, Order, OtherOrder, Payment, State
from bkapp.practice.paying.faults import On, Twist

PROVIDER = "keypay"
_PAID, _NOT_YET, _FAILED = "0", "1", "2"


def _result(order: Order, payment: Payment | None, twist: Twist, state: State) -> dict[str, str]:
    """What a callback and the answer to a question say, signed with the second key."""
    failed = state in {State.FAILED, State.EXPIRED}
    fields = {
        "addition_fee": "0",
        "client_id": order.merchant.code,
        "command": "PAY",
        "trans_amount": str(twist.amount(payment.amount if payment else order.amount)),
        "transaction_id": order.reference,
        "version": VERSION,
    }
    return {
        **fields,
        "status": _PAID if payment else _FAILED if failed else _NOT_YET,
        "transaction_code": payment.transaction if payment else "",
        "payment_fee": "0",
        "check_sum": pay_checksum(fields, twist.secret(order.merchant.secrets["hash_2"])),
    }


def _notice(order: Order, payment: Payment | None, twist: Twist, _: datetime) -> Message:
    body = msgspec.json.encode(_result(order, payment, twist, State.PAID if payment else State.FAILED))
    return Message(url=order.notify_url, body=body, headers={"Content-Type": "application/json"})


def _heard(_: Order, status: int, body: bytes) -> bool:
    try:
        return status == 200 and text_of(read_json(body), "return_code") == "0"
    except ValueError:
        return False


FACADE = Facade(notice=_notice, heard=_heard, way_back=lambda order, _: order.return_url, prefix="KP")


def _refusal(code: str, words: str) -> Response:
    return Response({"error": code, "msg": words})


@post("/keypay/pay", status_code=200)
async def pay(request: Request, state: Parts) -> Response:
    """Begin a payment."""
    cashier: Cashier = state.cashier
    try:
        said = read_json(await request.body())
        fields = {name: text_of(said, name) for name in PAY_SIGNED}
        merchant = cashier.merchant(PROVIDER, fields["client_id"])
        if merchant is None:
            return _refusal("1", "client_id invalid")
        if not same(text_of(said, "check_sum"), pay_checksum(fields, merchant.secrets["hash_1"])):
            return _refusal("2", "check_sum invalid")
        amount, about, back = (
            read_amount(fields["trans_amount"]),
            text_of(said, "description"),
            text_of(said, "return_url"),
        )
        lines = lines_in(said["bill_info"], amount)
        expect((fields["command"], fields["version"]), ("PAY", VERSION))
        expect(len(fields["transaction_id"]) <= LONGEST_REFERENCE, wanted=True)
    except (ValueError, KeyError, TypeError):
        return _refusal("3", "data invalid")

    def say(_: Twist) -> dict[str, str]:
        try:
            order = cashier.begin(
                merchant, fields["transaction_id"], amount, about=about, return_url=back, facts={"lines": lines}
            )
        except OtherOrder:
            return {"error": "4", "msg": "transaction_id exists"}
        return {"error": "0", "msg": "success", "payment_url": page_url(cashier, order)}

    return await answered(cashier, On.BEGIN, merchant, say)


@post("/keypay/detail", status_code=200)
async def detail(request: Request, state: Parts) -> Response:
    """What came of a payment."""
    cashier: Cashier = state.cashier
    try:
        said = read_json(await request.body())
        fields = {name: text_of(said, name) for name in DETAIL_SIGNED}
        merchant = cashier.merchant(PROVIDER, fields["client_id"])
        if merchant is None:
            return _refusal("1", "client_id invalid")
        if not same(text_of(said, "check_sum"), detail_checksum(fields, merchant.secrets["hash_1"])):
            return _refusal("2", "check_sum invalid")
    except (ValueError, KeyError):
        return _refusal("3", "data invalid")

    def say(twist: Twist) -> dict[str, Any]:
        order = cashier.find(merchant, fields["transaction_id"])
        return (
            _result(order, order.paid, twist, order.state)
            if order
            else {"error": "5", "msg": "transaction_id not found"}
        )

    return await answered(cashier, On.INQUIRE, merchant, say)


ROUTES = (pay, detail)
