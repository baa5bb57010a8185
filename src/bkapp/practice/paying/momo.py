"""The practice MoMo v2; the fields and signatures are those of :mod:`bkapp.payments.providers.momo`.

Its answers are not signed, so ``bad_signature`` changes none of them.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any
from urllib.parse import urlencode

import msgspec
from litestar import Request, Response, post
from litestar.datastructures import State as Parts

from bkapp.payments.providers.momo import CREATE, IPN, QUERY, REFUND, momo_hash
from bkapp.payments.providers.wire import millis, read_amount, read_json, same, text_of
from bkapp.practice.paying.answering import TurnedAway, answered, page_url
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

PROVIDER = "momo"
_DONE, _WAITING, _PROCESSING, _EXPIRED, _CANCELLED = 0, 1000, 7002, 1005, 1006
_BAD_SIGNATURE, _MALFORMED, _ACCESS, _REPEATED, _ORDER_REPEATED, _ABSENT = 13, 20, 11, 40, 41, 42
_NOT_REFUNDABLE = 1080
_MESSAGES = {_DONE: "Thành công.", _CANCELLED: "Giao dịch bị từ chối bởi người dùng.", _EXPIRED: "Giao dịch hết hạn."}


def _code(state: State) -> int:
    return {
        State.PAID: _DONE,
        State.PROCESSING: _PROCESSING,
        State.FAILED: _CANCELLED,
        State.EXPIRED: _EXPIRED,
    }.get(state, _WAITING)


def _result(order: Order, payment: Payment | None, twist: Twist, state: State) -> dict[str, str]:
    """What MoMo says of a try at paying, by IPN and by the browser, as texts and signed."""
    code = _code(state)
    fields = {
        "amount": str(twist.amount(payment.amount if payment else order.amount)),
        "extraData": order.facts["extraData"],
        "message": _MESSAGES.get(code, "Giao dịch đang được xử lý."),
        "orderId": order.reference,
        "orderInfo": order.about,
        "orderType": "momo_wallet",
        "partnerCode": order.merchant.code,
        "payType": "qr",
        "requestId": order.facts["requestId"],
        "responseTime": str(millis(payment.at if payment else order.closed_at or order.created_at)),
        "resultCode": str(code),
        "transId": payment.transaction if payment else "0",
    }
    secrets = order.merchant.secrets
    shown = momo_hash({**fields, "accessKey": secrets["access"]}, IPN, twist.secret(secrets["secret"]))
    return {**fields, "signature": shown}


def _notice(order: Order, payment: Payment | None, twist: Twist, _: datetime) -> Message:
    said: dict[str, str | int] = dict(_result(order, payment, twist, State.PAID if payment else State.FAILED))
    said |= {name: int(said[name]) for name in ("amount", "responseTime", "resultCode", "transId")}
    return Message(url=order.notify_url, body=msgspec.json.encode(said), headers={"Content-Type": "application/json"})


def _way_back(order: Order, twist: Twist) -> str:
    joint = "&" if "?" in order.return_url else "?"
    straight = Twist(forged=twist.forged)
    return f"{order.return_url}{joint}{urlencode(_result(order, order.paid, straight, order.state))}"


FACADE = Facade(notice=_notice, heard=lambda _order, status, _body: status == 204, way_back=_way_back)


async def _asked(
    request: Request, cashier: Cashier, names: Sequence[str]
) -> tuple[PracticeMerchant, dict[str, Any], dict[str, str]]:
    """Who asks, what was sent, and the signed fields as texts; raise :class:`TurnedAway`."""
    try:
        said = read_json(await request.body())
        merchant = cashier.merchant(PROVIDER, text_of(said, "partnerCode"))
        if merchant is None:
            raise _turned_away(_ACCESS)
        texts = {name: text_of(said, name) for name in names if name != "accessKey"}
        right = momo_hash({**texts, "accessKey": merchant.secrets["access"]}, names, merchant.secrets["secret"])
        if not same(text_of(said, "signature"), right):
            raise _turned_away(_BAD_SIGNATURE, texts)
    except ValueError:
        raise _turned_away(_MALFORMED) from None
    return merchant, said, texts


def _told(cashier: Cashier, texts: dict[str, str], code: int, **more: Any) -> dict[str, Any]:
    return {
        "partnerCode": texts["partnerCode"],
        "orderId": texts["orderId"],
        "requestId": texts["requestId"],
        "resultCode": code,
        "message": _MESSAGES.get(code, ""),
        "responseTime": millis(cashier.now()),
        **more,
    }


def _turned_away(code: int, texts: Mapping[str, str] = MappingProxyType({})) -> TurnedAway:
    """A refusal, which repeats whom and what it is for where that could be read."""
    named = {name: texts[name] for name in ("partnerCode", "orderId", "requestId") if name in texts}
    return TurnedAway(Response({**named, "resultCode": code, "message": "Bad request."}, status_code=400))


@post("/momo/v2/gateway/api/create", status_code=200)
async def create(request: Request, state: Parts) -> Response:
    """Begin a payment."""
    cashier: Cashier = state.cashier
    merchant, said, texts = await _asked(request, cashier, CREATE)
    try:
        amount = read_amount(said["amount"])
    except ValueError:
        raise _turned_away(_MALFORMED) from None

    def say(twist: Twist) -> dict[str, Any]:
        if not cashier.first_time(merchant, texts["requestId"]):
            return _told(cashier, texts, _REPEATED)
        try:
            order = cashier.begin(
                merchant,
                texts["orderId"],
                amount,
                about=texts["orderInfo"],
                return_url=texts["redirectUrl"],
                notify_url=texts["ipnUrl"],
                facts={"requestId": texts["requestId"], "extraData": texts["extraData"]},
            )
        except OtherOrder:
            return _told(cashier, texts, _ORDER_REPEATED)
        return _told(cashier, texts, _DONE, amount=twist.amount(amount), payUrl=page_url(cashier, order))

    return await answered(cashier, On.BEGIN, merchant, say)


@post("/momo/v2/gateway/api/query", status_code=200)
async def query(request: Request, state: Parts) -> Response:
    """What came of a payment."""
    cashier: Cashier = state.cashier

    def answer(merchant: PracticeMerchant, texts: dict[str, str], twist: Twist) -> dict[str, Any]:
        order = cashier.find(merchant, texts["orderId"])
        if order is None:
            return _told(cashier, texts, _ABSENT)
        payment = order.paid
        return _told(
            cashier,
            texts,
            _code(order.state),
            amount=twist.amount(payment.amount if payment else order.amount),
            transId=int(payment.transaction) if payment else 0,
            extraData=order.facts["extraData"],
            payType="qr",
            refundTrans=[_refund_entry(one, STRAIGHT) for one in order.refunds],
        )

    return await _question(request, cashier, On.INQUIRE, answer)


@post("/momo/v2/gateway/api/refund", status_code=200)
async def refund(request: Request, state: Parts) -> Response:
    """Give money back."""
    cashier: Cashier = state.cashier
    merchant, said, texts = await _asked(request, cashier, REFUND)
    try:
        amount = read_amount(said["amount"])
    except ValueError:
        raise _turned_away(_MALFORMED) from None

    def say(twist: Twist) -> dict[str, Any]:
        if not cashier.first_time(merchant, texts["requestId"]):
            return _told(cashier, texts, _REPEATED)
        order = cashier.paid_as(merchant, texts["transId"])
        if order is None:
            return _told(cashier, texts, _ABSENT)
        try:
            done = cashier.refund(order, texts["orderId"], texts["transId"], amount, slowly=twist.slow)
        except NotRefundable:
            return _told(cashier, texts, _NOT_REFUNDABLE)
        code = _PROCESSING if twist.slow else _DONE
        return _told(cashier, texts, code, amount=twist.amount(amount), transId=int(done.transaction))

    return await answered(cashier, On.REFUND, merchant, say)


@post("/momo/v2/gateway/api/refund/query", status_code=200)
async def query_refund(request: Request, state: Parts) -> Response:
    """What came of giving money back."""
    cashier: Cashier = state.cashier

    def answer(merchant: PracticeMerchant, texts: dict[str, str], twist: Twist) -> dict[str, Any]:
        done = cashier.refunded(merchant, texts["orderId"])
        if done is None:
            return _told(cashier, texts, _ABSENT)
        return _told(cashier, texts, _DONE, refundTrans=[_refund_entry(done, twist)])

    return await _question(request, cashier, On.INQUIRE, answer)


async def _question(
    request: Request,
    cashier: Cashier,
    on: On,
    answer: Callable[[PracticeMerchant, dict[str, str], Twist], dict[str, Any]],
) -> Response:
    merchant, _, texts = await _asked(request, cashier, QUERY)

    def say(twist: Twist) -> dict[str, Any]:
        if not cashier.first_time(merchant, texts["requestId"]):
            return _told(cashier, texts, _REPEATED)
        return answer(merchant, texts, twist)

    return await answered(cashier, on, merchant, say)


def _refund_entry(done: Repayment, twist: Twist) -> dict[str, Any]:
    return {
        "orderId": done.reference,
        "amount": twist.amount(done.amount),
        "resultCode": _DONE if done.state is RefundState.DONE else _PROCESSING,
        "transId": int(done.transaction),
        "createdTime": millis(done.at),
    }


ROUTES = (create, query, refund, query_refund)
