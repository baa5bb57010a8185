"""The practice ZaloPay v2; the fields and signatures are those of :mod:`bkapp.payments.providers.zalopay`.

Its answers are not signed, so ``bad_signature`` changes none of them; nor does it tell of a payment that failed.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import msgspec
from litestar import Request, Response, post
from litestar.datastructures import State as Parts

from bkapp.payments.providers.wire import HANOI, millis, read_amount, read_json, read_millis, same, text_of
from bkapp.payments.providers.zalopay import RETURNED, data_hash, zalopay_hash
from bkapp.practice.paying.answering import TurnedAway, answered, page_url
from bkapp.practice.paying.cashier import (
    Cashier,
    Facade,
    Message,
    NotRefundable,
    Order,
    Payment,
    RefundState,
    State,
)
from bkapp.practice.paying.faults import On, Twist
from bkapp.practice.paying.merchants import PracticeMerchant

PROVIDER = "zalopay"
LASTS = timedelta(minutes=15)
_DONE, _FAILED, _PROCESSING = 1, 2, 3
_NO_APP, _BAD_MAC, _BAD_NAME, _MALFORMED = -2, -53, -92, -401
_REPEATED, _REFUND_REPEATED, _ABSENT, _BAD_AMOUNT = -68, -23, -101, -14
_EXPIRED, _NOT_COMPLETE = -54, -49


def _notice(order: Order, payment: Payment | None, twist: Twist, _: datetime) -> Message | None:
    if payment is None:
        return None
    data = msgspec.json.encode(
        {
            "app_id": int(order.merchant.code),
            "app_trans_id": order.reference,
            **order.facts,
            "amount": twist.amount(payment.amount),
            "zp_trans_id": int(payment.transaction),
            "server_time": millis(payment.at),
            "channel": 38,
            "merchant_user_id": "",
            "user_fee_amount": 0,
            "discount_amount": 0,
        }
    ).decode()
    mac = data_hash(twist.secret(order.merchant.secrets["key2"]), data)
    body = msgspec.json.encode({"data": data, "mac": mac, "type": 1})
    return Message(url=order.notify_url, body=body, headers={"Content-Type": "application/json"})


def _heard(_: Order, status: int, body: bytes) -> bool:
    try:
        return status == 200 and text_of(read_json(body), "return_code") in {"1", "2"}
    except ValueError:
        return False


def _way_back(order: Order, twist: Twist) -> str:
    if order.state is State.PROCESSING:  # there is no word for that among what the browser may bring
        return order.return_url
    payment = order.paid
    fields = {
        "appid": order.merchant.code,
        "apptransid": order.reference,
        "pmcid": "38",
        "bankcode": "",
        "amount": str(payment.amount if payment else order.amount),
        "discountamount": "0",
        "status": "1" if payment else str(_NOT_COMPLETE),
    }
    proof = zalopay_hash(twist.secret(order.merchant.secrets["key2"]), *(fields[name] for name in RETURNED))
    joint = "&" if "?" in order.return_url else "?"
    return f"{order.return_url}{joint}{urlencode({**fields, 'checksum': proof})}"


FACADE = Facade(notice=_notice, heard=_heard, way_back=_way_back)


def _turned_away(code: int) -> TurnedAway:
    return TurnedAway(Response(_failed(code)))


def _failed(code: int) -> dict[str, Any]:
    return {"return_code": _FAILED, "return_message": "Giao dịch thất bại", "sub_return_code": code}


async def _asked(
    request: Request, cashier: Cashier, mac_of: Callable[[Mapping[str, str], str], str]
) -> tuple[PracticeMerchant, dict[str, str]]:
    """Who asks, and what as texts, if it is signed; raise :class:`TurnedAway`."""
    try:
        said = read_json(await request.body())
        fields = {name: text_of(said, name) for name in said}
        merchant = cashier.merchant(PROVIDER, fields["app_id"])
        if merchant is None:
            raise _turned_away(_NO_APP)
        if not same(fields["mac"], mac_of(fields, merchant.secrets["key1"])):
            raise _turned_away(_BAD_MAC)
    except (ValueError, KeyError):
        raise _turned_away(_MALFORMED) from None
    return merchant, fields


@post("/zalopay/v2/create", status_code=200)
async def create(request: Request, state: Parts) -> Response:
    """Begin a payment."""
    cashier: Cashier = state.cashier
    names = ("app_id", "app_trans_id", "app_user", "amount", "app_time", "embed_data", "item")
    merchant, fields = await _asked(
        request, cashier, lambda said, key: zalopay_hash(key, *(said[name] for name in names))
    )
    try:
        amount, began = read_amount(fields["amount"]), read_millis(fields["app_time"])
        back = text_of(read_json(fields["embed_data"].encode()), "redirecturl", "")
    except ValueError:
        raise _turned_away(_MALFORMED) from None
    if not fields["app_trans_id"].startswith(f"{cashier.now().astimezone(HANOI):%y%m%d}_"):
        raise _turned_away(_BAD_NAME)
    if not amount or abs(cashier.now() - began) > LASTS:
        raise _turned_away(_MALFORMED)

    def say(_: Twist) -> dict[str, Any]:
        facts = {name: fields[name] for name in ("app_user", "embed_data", "item")} | {"app_time": millis(began)}
        if cashier.find(merchant, fields["app_trans_id"]) is not None:
            return _failed(_REPEATED)
        order = cashier.begin(
            merchant,
            fields["app_trans_id"],
            amount,
            about=fields.get("description", ""),
            return_url=back,
            notify_url=fields.get("callback_url", ""),
            expires_at=began + LASTS,
            facts=facts,
        )
        token = order.ticket
        return {
            "return_code": _DONE,
            "return_message": "Giao dịch thành công",
            "sub_return_code": _DONE,
            "order_url": page_url(cashier, order),
            "zp_trans_token": token,
            "order_token": token,
        }

    return await answered(cashier, On.BEGIN, merchant, say)


@post("/zalopay/v2/query", status_code=200)
async def query(request: Request, state: Parts) -> Response:
    """What came of a payment."""
    cashier: Cashier = state.cashier
    merchant, fields = await _asked(
        request, cashier, lambda said, key: zalopay_hash(key, said["app_id"], said["app_trans_id"], key)
    )

    def say(twist: Twist) -> dict[str, Any]:
        order = cashier.find(merchant, fields["app_trans_id"])
        if order is None:
            return _failed(_ABSENT)
        if order.state in {State.FAILED, State.EXPIRED}:
            return _failed(_EXPIRED if order.state is State.EXPIRED else _NOT_COMPLETE)
        payment = order.paid
        told = {"is_processing": payment is None, "amount": order.amount, "zp_trans_id": 0}
        if payment is not None:
            told |= {"amount": twist.amount(payment.amount), "zp_trans_id": int(payment.transaction)}
            told |= {"server_time": millis(payment.at), "discount_amount": 0}
        return {"return_code": _DONE if payment else _PROCESSING, "return_message": "", **told}

    return await answered(cashier, On.INQUIRE, merchant, say)


@post("/zalopay/v2/refund", status_code=200)
async def refund(request: Request, state: Parts) -> Response:
    """Give money back."""
    cashier: Cashier = state.cashier
    names = ("app_id", "zp_trans_id", "amount", "description", "timestamp")
    merchant, fields = await _asked(
        request, cashier, lambda said, key: zalopay_hash(key, *(said[name] for name in names))
    )
    name = fields.get("m_refund_id", "")
    if not name.startswith(f"{cashier.now().astimezone(HANOI):%y%m%d}_{merchant.code}_"):
        raise _turned_away(_BAD_NAME)
    try:
        amount = read_amount(fields["amount"])
        if abs(cashier.now() - read_millis(fields["timestamp"])) > LASTS:
            raise _turned_away(_MALFORMED)
    except ValueError:
        raise _turned_away(_MALFORMED) from None

    def say(twist: Twist) -> dict[str, Any]:
        if cashier.refunded(merchant, name) is not None:
            return _failed(_REFUND_REPEATED)
        order = cashier.paid_as(merchant, fields["zp_trans_id"])
        if order is None:
            return _failed(_ABSENT)
        try:
            done = cashier.refund(order, name, fields["zp_trans_id"], amount, slowly=twist.slow)
        except NotRefundable:
            return _failed(_BAD_AMOUNT)
        return {
            "return_code": _PROCESSING if twist.slow else _DONE,
            "return_message": "",
            "refund_id": int(done.transaction),
        }

    return await answered(cashier, On.REFUND, merchant, say)


@post("/zalopay/v2/query_refund", status_code=200)
async def query_refund(request: Request, state: Parts) -> Response:
    """What came of giving money back."""
    cashier: Cashier = state.cashier
    merchant, fields = await _asked(
        request, cashier, lambda said, key: zalopay_hash(key, said["app_id"], said["m_refund_id"], said["timestamp"])
    )

    def say(_: Twist) -> dict[str, Any]:
        done = cashier.refunded(merchant, fields["m_refund_id"])
        if done is None:
            return _failed(_ABSENT)
        return {
            "return_code": _DONE if done.state is RefundState.DONE else _PROCESSING,
            "return_message": "",
            "refund_id": int(done.transaction),
        }

    return await answered(cashier, On.INQUIRE, merchant, say)


ROUTES = (create, query, refund, query_refund)
