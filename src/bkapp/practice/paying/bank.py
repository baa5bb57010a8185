"""The practice bank: transfers by hand or by VietQR, told of as payOS does or after Standard Webhooks.

A merchant asks below ``/thanh-toan/ngan-hang/<its key>``; what it sends and gets is described in
:mod:`bkapp.payments.providers.vietqr`.
"""

from datetime import datetime, timedelta
from typing import Any

import msgspec
from litestar import Request, Response, get
from litestar.datastructures import State as Parts
from litestar.params import FromPath

from bkapp.payments import standardwebhooks
from bkapp.payments.providers.vietqr import data_text, list_text, signature
from bkapp.payments.providers.wire import HANOI, ascii_text, read_query, same
from bkapp.payments.references import is_reference, references_in
from bkapp.practice.paying.answering import answered
from bkapp.practice.paying.cashier import Cashier, Facade, Message, Order, Payment, State
from bkapp.practice.paying.faults import On, Twist
from bkapp.practice.paying.merchants import PracticeMerchant

PROVIDER = "vietqr"
LONGEST_CONTENT = 140
FRESH = timedelta(minutes=5)
PAYOS, STANDARD = "payos", "standard-webhooks"


def transfer(
    cashier: Cashier, merchant: PracticeMerchant, *, bank_bin: str, account: str, amount: int, content: str, scheme: str
) -> Order:
    """A transfer that somebody is about to make; banks keep little of what people write."""
    return cashier.begin(
        merchant,
        f"CK{cashier.number()}",
        amount,
        about=ascii_text(content, LONGEST_CONTENT),
        facts={"bank_bin": bank_bin, "account": account, "scheme": scheme},
    )


def account_holder(cashier: Cashier, account: str) -> PracticeMerchant | None:
    """Whom the bank tells of credits to an account: who names it, or else who names none."""
    watching = [one for one in cashier.merchants.values() if one.provider == PROVIDER]
    named = [one for one in watching if account in one.options.get("accounts", "").split()]
    return next(iter(named or [one for one in watching if not one.options.get("accounts")]), None)


def _entry(order: Order, payment: Payment, amount: int) -> dict[str, Any]:
    """A credit as payOS has it."""
    return {
        "orderCode": 0,
        "amount": amount,
        "description": order.about,
        "accountNumber": order.facts["account"],
        "reference": payment.transaction,
        "transactionDateTime": f"{payment.at.astimezone(HANOI):%Y-%m-%d %H:%M:%S}",
        "currency": "VND",
        "paymentLinkId": "",
        "code": "00",
        "desc": "Thành công",
        "counterAccountBankId": "",
        "counterAccountBankName": "Ngân hàng thực hành",
        "counterAccountName": None,
        "counterAccountNumber": None,
        "virtualAccountName": None,
        "virtualAccountNumber": None,
    }


def _notice(order: Order, payment: Payment | None, twist: Twist, now: datetime) -> Message | None:
    if payment is None:
        return None
    data = _entry(order, payment, twist.amount(payment.amount))
    said: dict[str, Any] = {"code": "00", "desc": "success", "success": True, "data": data}
    headers = {"Content-Type": "application/json"}
    if order.facts["scheme"] == STANDARD:
        body, moment, message_id = msgspec.json.encode(said), int(now.timestamp()), f"msg_{payment.transaction}"
        key = order.merchant.secrets["webhook"]
        shown = standardwebhooks.sign(
            message_id, moment, body, [standardwebhooks.new_secret() if twist.forged else key]
        )
        headers |= {
            standardwebhooks.ID: message_id,
            standardwebhooks.TIMESTAMP: str(moment),
            standardwebhooks.SIGNATURE: shown,
        }
        return Message(url=order.notify_url, body=body, headers=headers)
    said["signature"] = signature(twist.secret(order.merchant.secrets["checksum"]), data_text(data))
    return Message(url=order.notify_url, body=msgspec.json.encode(said), headers=headers)


FACADE = Facade(
    notice=_notice,
    heard=lambda _order, status, _body: 200 <= status < 300,
    way_back=lambda _order, _twist: "",
    prefix="FT",
)


@get("/ngan-hang/{key:str}/transactions")
async def transactions(request: Request, state: Parts, key: FromPath[str]) -> Response:
    """The credits whose content holds a reference, for the merchant whose checksum key signed the question."""
    cashier: Cashier = state.cashier
    merchant = cashier.merchants.get(key)
    query = request.scope["query_string"]
    if merchant is None or merchant.provider != PROVIDER or not _may_ask(request, merchant, query, cashier.now()):
        return Response({"code": "401", "desc": "signature"}, status_code=401)
    try:
        reference = read_query(query).get("reference", "")
    except ValueError:
        reference = ""
    if not is_reference(reference):
        return Response({"code": "400", "desc": "reference"}, status_code=400)

    def say(twist: Twist) -> dict[str, Any]:
        entries = [
            _entry(order, payment, twist.amount(payment.amount))
            for order in cashier.orders.values()
            if order.merchant is merchant and order.state is State.PAID and reference in references_in(order.about)
            for payment in order.payments
        ]
        secret = twist.secret(merchant.secrets["checksum"])
        return {"data": entries, "signature": signature(secret, list_text(reference, entries))}

    return await answered(cashier, On.INQUIRE, merchant, say)


def _may_ask(request: Request, merchant: PracticeMerchant, query: bytes, now: datetime) -> bool:
    moment = request.headers.get("x-timestamp", "")
    if not moment.isascii() or not moment.isdigit() or len(moment) > 12:
        return False
    asked = f"{moment}.{request.scope['path']}?{query.decode('latin-1')}"
    well_signed = same(request.headers.get("x-signature", ""), signature(merchant.secrets["checksum"], asked))
    return well_signed and abs(now.timestamp() - int(moment)) <= FRESH.total_seconds()


ROUTES = (transactions,)
