"""ZaloPay v2: we ask for a page to pay on, ZaloPay posts JSON to us when it is paid, and only then.

Signatures are HMAC-SHA256 in lower-case hex.  What we send is signed with ``key1`` over values parted by ``|``
(:func:`zalopay_hash`); ZaloPay's message with ``key2`` over its ``data`` exactly as it came, which is JSON in JSON.
ZaloPay does not sign its answers to our questions, nor name in them what was asked: they are believed because TLS says
who gives them.

Secrets: ``key1`` and ``key2``; a merchant's code is its ``app_id``.  Options: ``url``, where ZaloPay is
(``https://…``, no path).

ZaloPay names an order ``yymmdd_<reference>`` and a refund ``yymmdd_<app_id>_<reference>``, of the day in Việt Nam on
which it was made.  ZaloPay refuses a refund whose day is not today, and a payment that began more than 15 minutes ago.
"""

import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from bkapp.payments.providers import (
    Answer,
    Begun,
    Call,
    Finding,
    Hearing,
    HookRefused,
    Merchant,
    NoAnswer,
    Order,
    Outcome,
    RefundOrder,
    Refused,
    Verdict,
)
from bkapp.payments.providers.asking import option_of, payer_url, secret_of
from bkapp.payments.providers.calling import Wire, telling_who
from bkapp.payments.providers.wire import (
    HANOI,
    ascii_text,
    in_time,
    millis,
    read_amount,
    read_json,
    read_millis,
    read_query,
    signed,
    text_of,
)

RETURNED = ("appid", "apptransid", "pmcid", "bankcode", "amount", "discountamount", "status")
"""What is signed, with ``key2`` and as ``checksum``, of what the browser brings back."""

APP_USER = "bkapp"
"""Who pays, as ZaloPay is told: nobody in particular."""

ANSWERS = {
    Verdict.TAKEN: (1, "success"),
    Verdict.KNOWN: (2, "already confirmed"),
    Verdict.WRONG_AMOUNT: (2, "wrong amount"),
    Verdict.NO_ORDER: (0, "order not found"),
    Verdict.BROKEN: (0, "try again"),
    Verdict.BAD_SIGNATURE: (-1, "mac not equal"),
    Verdict.FORBIDDEN: (-1, "not from here"),
    Verdict.MALFORMED: (-1, "cannot be read"),
    Verdict.STALE: (-1, "time too far off"),
}
"""ZaloPay stops at 1 and 2.  An amount that is not ours is kept, and would come again as it is."""

_DONE, _FAILED, _PENDING = "1", "2", "3"
_ABSENT, _NOT_YET = "-101", "-63"
"""-63: the wallet holds too little, and may be filled while the order lasts."""
_ABOUT_US = frozenset(map(str, (-2, -3, -53, -92, -401, -402, -403, -405, 406, -429, -999)))
"""Why ZaloPay does not do what it is asked at all."""
_REFUSED_REFUNDS = _ABOUT_US | frozenset(map(str, (-4, -5, -6, -9, -12, -13, -14, -18, -24, -25, -26, -32, -101)))

_ORDER = re.compile(r"[0-9]{6}_([0-9A-Za-z_.\-]{1,33})")
_NUMBER = re.compile(r"[0-9A-Za-z]{1,64}")
_CODE = re.compile(r"-?[0-9]{1,6}")


def zalopay_hash(secret: str, *values: str | int) -> str:
    """The signature over values parted by ``|``; raise ``ValueError`` where one holds that."""
    texts = [str(value) for value in values]
    if any("|" in text for text in texts[:-1]):
        raise ValueError("a value holds what parts values")
    return data_hash(secret, "|".join(texts))


def data_hash(secret: str, data: str) -> str:
    """The signature over a text as it is."""
    return hmac.new(secret.encode(), data.encode(), hashlib.sha256).hexdigest()


def order_name(order: Order) -> str:
    """What ZaloPay calls an order: ``app_trans_id``."""
    return f"{order.created_at.astimezone(HANOI):%y%m%d}_{order.reference}"


def refund_name(merchant: Merchant, refund: RefundOrder) -> str:
    """What ZaloPay calls a refund: ``m_refund_id``."""
    return f"{refund.requested_at.astimezone(HANOI):%y%m%d}_{merchant.code}_{refund.reference}"


class Zalopay:
    """The wallet ZaloPay."""

    name = "zalopay"

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def begin(self, merchant: Merchant, order: Order, *, now: datetime) -> Begun:
        app_trans_id, app_time = order_name(order), millis(order.created_at)
        embedded, items = json.dumps({"redirecturl": order.return_url}, separators=(",", ":")), "[]"
        mac = zalopay_hash(
            secret_of(merchant, "key1"),
            *(merchant.code, app_trans_id, APP_USER, order.amount, app_time, embedded, items),
        )
        said = await self._ask(
            merchant,
            "/v2/create",
            {
                "app_id": int(merchant.code),
                "app_user": APP_USER,
                "app_trans_id": app_trans_id,
                "app_time": app_time,
                "amount": order.amount,
                "description": ascii_text(f"Thanh toan {order.bill_code} {order.dossier_code}", 100),
                "callback_url": merchant.notify_url,
                "redirect_url": order.return_url,
                "embed_data": embedded,
                "item": items,
                "mac": mac,
            },
        )
        result, code = _result(said)
        if code in _ABOUT_US:
            raise Refused(code)
        if result != _DONE:  # -68 among others: there is one of this name already
            raise NoAnswer("ZaloPay does not say whether it takes the order.")
        try:
            return Begun(redirect_url=payer_url(text_of(said, "order_url")))
        except ValueError:
            raise NoAnswer("ZaloPay names no page to pay on.") from None

    async def inquire(self, merchant: Merchant, order: Order, *, now: datetime) -> Finding:
        key = secret_of(merchant, "key1")
        fields = {
            "app_id": int(merchant.code),
            "app_trans_id": order_name(order),
            "mac": zalopay_hash(key, merchant.code, order_name(order), key),
        }
        said = await self._ask(merchant, "/v2/query", fields)
        outcome, code = _outcome(said)
        try:
            return _payment(said, order.reference, outcome, code)
        except ValueError:
            raise NoAnswer("ZaloPay's answer cannot be read.") from None

    def hear(self, merchant: Merchant, call: Call, *, now: datetime) -> Hearing:
        if call.method != "POST" or call.what or call.query:
            raise HookRefused(Verdict.MALFORMED, "A callback is a POST without a query.")
        try:
            said = read_json(call.body)
            data, mac = said.get("data"), said.get("mac")
            if said.keys() - {"type"} != {"data", "mac"} or not isinstance(data, str) or not isinstance(mac, str):
                raise HookRefused(Verdict.MALFORMED, "It does not hold data, their signature, and nothing else.")
            good = signed(mac, merchant.secrets.get("key2", ()), lambda key: data_hash(key, data))
            if not good:
                raise HookRefused(Verdict.BAD_SIGNATURE, "The signature is not right.")
            fields = read_json(data.encode())
            if text_of(said, "type", "1") != "1":
                raise HookRefused(Verdict.MALFORMED, "It is not about an order.")
            if text_of(fields, "app_id") != merchant.code:
                raise HookRefused(Verdict.NO_ORDER, "It is for another app.")
            finding = _payment(fields, _reference(text_of(fields, "app_trans_id")), Outcome.PAID, _DONE)
        except ValueError:
            raise HookRefused(Verdict.MALFORMED, "A field is missing or cannot be read.") from None
        if finding.at is None or not in_time(finding.at, now):
            raise HookRefused(Verdict.STALE, "Its time is missing, or too far from ours.")
        return Hearing(event_id=hashlib.sha256(data.encode()).hexdigest(), finding=finding)

    def answer(self, merchant: Merchant, verdict: Verdict, context: Mapping[str, str], *, now: datetime) -> Answer:
        code, message = ANSWERS[verdict]
        return Answer(200, json.dumps({"return_code": code, "return_message": message}).encode())

    def came_back(self, merchant: Merchant, query: bytes, *, now: datetime) -> Finding | None:
        try:
            # The address to come back to may have a query of its own.
            shown = read_query(query)
            values = [shown[name] for name in RETURNED]
            if shown["appid"] != merchant.code or _CODE.fullmatch(shown["status"]) is None:
                return None
            keys = merchant.secrets.get("key2", ())
            if not signed(shown["checksum"], keys, lambda key: zalopay_hash(key, *values)):
                return None
            return Finding(
                references=[_reference(shown["apptransid"])],
                outcome=Outcome.PAID if shown["status"] == _DONE else Outcome.FAILED,
                amount=read_amount(shown["amount"]),
                code=shown["status"],
            )
        except (ValueError, KeyError):
            return None

    async def refund(self, merchant: Merchant, refund: RefundOrder, *, now: datetime) -> Finding:
        if _NUMBER.fullmatch(refund.transaction) is None:  # a number of the bank's, off its statement
            raise Refused("zp_trans_id")
        reason = ascii_text(refund.reason, 100) or refund.reference
        # The name makes it one refund however often it is sent; the time must be that of sending.
        timestamp = millis(now)
        mac = zalopay_hash(
            secret_of(merchant, "key1"), merchant.code, refund.transaction, refund.amount, reason, timestamp
        )
        said = await self._ask(
            merchant,
            "/v2/refund",
            {
                "app_id": int(merchant.code),
                "m_refund_id": refund_name(merchant, refund),
                "zp_trans_id": refund.transaction,
                "amount": refund.amount,
                "timestamp": timestamp,
                "description": reason,
                "mac": mac,
            },
        )
        result, code = _result(said)
        if code in _REFUSED_REFUNDS:
            raise Refused(code)
        if result not in {_DONE, _PENDING}:  # -23 among others: there is one of this name already
            raise NoAnswer("ZaloPay does not say whether it takes the refund.")
        return _given_back(said, refund, Outcome.PAID if result == _DONE else Outcome.PENDING, code)

    async def inquire_refund(self, merchant: Merchant, refund: RefundOrder, *, now: datetime) -> Finding:
        name, timestamp = refund_name(merchant, refund), millis(now)
        fields = {
            "app_id": int(merchant.code),
            "m_refund_id": name,
            "timestamp": timestamp,
            "mac": zalopay_hash(secret_of(merchant, "key1"), merchant.code, name, timestamp),
        }
        said = await self._ask(merchant, "/v2/query_refund", fields)
        outcome, code = _outcome(said)
        return _given_back(said, refund, outcome, code)

    async def _ask(self, merchant: Merchant, path: str, fields: Mapping[str, object]) -> dict[str, Any]:
        return await self._wire.ask(telling_who(option_of(merchant, "url") + path), fields)


def _result(said: dict[str, Any]) -> tuple[str, str]:
    """How it went, and ZaloPay's nearest word for why; raise :class:`NoAnswer` where neither is said."""
    try:
        result = text_of(said, "return_code")
        code = text_of(said, "sub_return_code", result) if result == _FAILED else result
    except ValueError:
        raise NoAnswer("ZaloPay does not say how it went.") from None
    if _CODE.fullmatch(code) is None:
        raise NoAnswer("ZaloPay does not say how it went.")
    return result, code


def _outcome(said: dict[str, Any]) -> tuple[Outcome, str]:
    """What an answer to a question says; raise :class:`NoAnswer` where it is about the question alone."""
    result, code = _result(said)
    if result == _DONE:
        return Outcome.PAID, code
    if result == _PENDING or code == _NOT_YET or said.get("is_processing") is True:
        return Outcome.PENDING, code
    if result != _FAILED or code in _ABOUT_US or code == "-500":
        raise NoAnswer("ZaloPay does not answer the question.")
    return Outcome.ABSENT if code == _ABSENT else Outcome.FAILED, code


def _reference(name: str) -> str:
    found = _ORDER.fullmatch(name)
    if found is None:
        raise ValueError("not a name of an order")
    return found[1]


def _payment(fields: dict[str, Any], reference: str, outcome: Outcome, code: str) -> Finding:
    """A finding about a payment; raise ``ValueError`` where the fields do not bear it out."""
    if outcome is not Outcome.PAID:
        return Finding(references=[reference], outcome=outcome, code=code)
    transaction = text_of(fields, "zp_trans_id")
    if _NUMBER.fullmatch(transaction) is None or transaction == "0":
        raise ValueError("paid, without a number")
    return Finding(
        references=[reference],
        outcome=outcome,
        amount=read_amount(fields.get("amount")),
        transaction=transaction,
        at=read_millis(text_of(fields, "server_time")) if "server_time" in fields else None,
        code=code,
    )


def _given_back(said: dict[str, Any], refund: RefundOrder, outcome: Outcome, code: str) -> Finding:
    try:
        number = text_of(said, "refund_id", "")
    except ValueError:
        raise NoAnswer("ZaloPay's answer cannot be read.") from None
    if number and _NUMBER.fullmatch(number) is None:
        raise NoAnswer("ZaloPay's answer cannot be read.")
    return Finding(references=[refund.reference], outcome=outcome, transaction=number or None, code=code)
