"""MoMo v2: we ask for a page to pay on, MoMo posts JSON to us when it is paid or not.

Everything is signed by the HMAC-SHA256, in lower-case hex, over ``name=value&…`` of given fields in the order of their
names (:func:`momo_hash`); ``accessKey`` is among them and never in a message of MoMo's: it is ours.  MoMo does not sign
its answers to our questions.  They are believed because TLS says who gives them, and must name our question.

Secrets: ``access`` (accessKey) and ``secret`` (secretKey).  Options: ``url``, where MoMo is (``https://…``, no path);
``request_type`` (``captureWallet``; ``payWithMethod``, ``payWithATM``).

A ``requestId`` is the same for what is to happen once, so that MoMo sees a repetition as one, and new for every
question.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
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
    ascii_text,
    in_time,
    millis,
    read_amount,
    read_json,
    read_millis,
    read_query,
    same,
    text_of,
)

CREATE = (
    "accessKey",
    "amount",
    "extraData",
    "ipnUrl",
    "orderId",
    "orderInfo",
    "partnerCode",
    "redirectUrl",
    "requestId",
    "requestType",
)
QUERY = ("accessKey", "orderId", "partnerCode", "requestId")
REFUND = ("accessKey", "amount", "description", "orderId", "partnerCode", "requestId", "transId")
IPN = (
    "accessKey",
    "amount",
    "extraData",
    "message",
    "orderId",
    "orderInfo",
    "orderType",
    "partnerCode",
    "payType",
    "requestId",
    "responseTime",
    "resultCode",
    "transId",
)
"""What is signed of each message; :data:`IPN` of a return, too."""
_SHOWN = IPN[1:]

_PAID, _ABSENT = "0", "42"
PENDING = frozenset({"1000", "7000", "7002", "9000"})
FAILED = frozenset(map(str, (98, *range(1001, 1008), 1017, 1026, 1080, 1081, 1088, 2019, 4001, 4002, 4100)))
"""What MoMo lists as final, but for 99, which says nothing.  Any other code in an answer is about our question."""
_NOT_TAKEN = FAILED | frozenset(map(str, (11, 12, 13, 20, 21, 22, 42, 45, 47)))
"""Why MoMo takes no request.  40, 41 and 43 are no refusals: there is one already."""
_NOT_SIGNED = frozenset({"signature", "paymentOption", "promotionInfo", "userFee"})
"""What an IPN may hold that is not signed.  None of it is looked at."""

_REFERENCE = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.\-]{0,99}")
_NUMBER = re.compile(r"[0-9]{1,20}")
_CODE = re.compile(r"-?[0-9]{1,6}")


def momo_text(fields: Mapping[str, str], names: Sequence[str]) -> str:
    """What is signed of the fields of these names."""
    return "&".join(f"{name}={fields[name]}" for name in names)


def momo_hash(fields: Mapping[str, str], names: Sequence[str], secret: str) -> str:
    """The signature over the fields of these names."""
    return hmac.new(secret.encode(), momo_text(fields, names).encode(), hashlib.sha256).hexdigest()


class Momo:
    """The wallet MoMo."""

    name = "momo"

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def begin(self, merchant: Merchant, order: Order, *, now: datetime) -> Begun:
        said = await self._ask(
            merchant,
            "/v2/gateway/api/create",
            CREATE,
            {
                "partnerCode": merchant.code,
                "requestId": order.reference,
                "orderId": order.reference,
                "amount": order.amount,
                "orderInfo": ascii_text(f"Thanh toan {order.bill_code} {order.dossier_code}", 255),
                "redirectUrl": order.return_url,
                "ipnUrl": merchant.notify_url,
                "requestType": merchant.options.get("request_type", "captureWallet"),
                "extraData": "",
                "lang": "vi",
            },
        )
        if _taken(said) != _PAID or said.get("amount") != order.amount:
            raise NoAnswer("MoMo's answer is not yes, or about another amount.")
        try:
            return Begun(redirect_url=payer_url(text_of(said, "payUrl")))
        except ValueError:
            raise NoAnswer("MoMo names no page to pay on.") from None

    async def inquire(self, merchant: Merchant, order: Order, *, now: datetime) -> Finding:
        said = await self._question(merchant, "/v2/gateway/api/query", order.reference, now)
        code = _code(said)
        if code == _PAID or code in PENDING | FAILED:
            return _answered(said, order.reference, _outcome(code), code)
        if code == _ABSENT:
            return Finding(references=[order.reference], outcome=Outcome.ABSENT, code=code)
        raise NoAnswer("MoMo does not say what came of the payment.")

    def hear(self, merchant: Merchant, call: Call, *, now: datetime) -> Hearing:
        if call.method != "POST" or call.what or call.query:
            raise HookRefused(Verdict.MALFORMED, "An IPN is a POST without a query.")
        try:
            said = read_json(call.body)
            if said.keys() - _NOT_SIGNED - set(_SHOWN):
                raise HookRefused(Verdict.MALFORMED, "It holds fields that are not signed.")
            fields = {name: text_of(said, name) for name in _SHOWN}
            good = _signed(fields, text_of(said, "signature"), merchant)
        except ValueError:
            raise HookRefused(Verdict.MALFORMED, "A field is missing or cannot be read.") from None
        if not good:
            raise HookRefused(Verdict.BAD_SIGNATURE, "The signature is not right.")
        if fields["partnerCode"] != merchant.code:
            raise HookRefused(Verdict.NO_ORDER, "It is for another partner.")
        try:
            finding = _told(fields)
        except ValueError:
            raise HookRefused(Verdict.MALFORMED, "A field cannot be read.") from None
        if finding.at is None or not in_time(finding.at, now):
            raise HookRefused(Verdict.STALE, "Its time is too far from ours.")
        # Of what MoMo says alone: our keys may change between a message and its repetition.
        return Hearing(event_id=hashlib.sha256(momo_text(fields, _SHOWN).encode()).hexdigest(), finding=finding)

    def answer(self, merchant: Merchant, verdict: Verdict, context: Mapping[str, str], *, now: datetime) -> Answer:
        # MoMo looks at the status alone, and 204 ends it.  An amount that is not ours is kept: asking again is idle.
        statuses = {
            Verdict.TAKEN: 204,
            Verdict.KNOWN: 204,
            Verdict.WRONG_AMOUNT: 204,
            Verdict.NO_ORDER: 404,
            Verdict.FORBIDDEN: 403,
            Verdict.BROKEN: 503,
        }
        return Answer(statuses.get(verdict, 400), b"")

    def came_back(self, merchant: Merchant, query: bytes, *, now: datetime) -> Finding | None:
        try:
            # The address to come back to may have a query of its own.
            shown = read_query(query)
            fields = {name: shown[name] for name in _SHOWN}
            if _signed(fields, shown["signature"], merchant) and fields["partnerCode"] == merchant.code:
                return _told(fields)
        except (ValueError, KeyError):
            pass
        return None

    async def refund(self, merchant: Merchant, refund: RefundOrder, *, now: datetime) -> Finding:
        if _NUMBER.fullmatch(refund.transaction) is None:  # a number of the bank's, off its statement
            raise Refused("transId")
        said = await self._ask(
            merchant,
            "/v2/gateway/api/refund",
            REFUND,
            {
                "partnerCode": merchant.code,
                "orderId": refund.reference,
                "requestId": refund.reference,
                "amount": refund.amount,
                "transId": int(refund.transaction),
                "description": ascii_text(refund.reason, 255),
                "lang": "vi",
            },
        )
        code = _taken(said)
        return _given_back(said, refund, _outcome(code), code)

    async def inquire_refund(self, merchant: Merchant, refund: RefundOrder, *, now: datetime) -> Finding:
        said = await self._question(merchant, "/v2/gateway/api/refund/query", refund.reference, now)
        code = _code(said)
        if code == _ABSENT:
            return Finding(references=[refund.reference], outcome=Outcome.ABSENT, code=code)
        listed = said.get("refundTrans")
        if code == _PAID and listed is not None:
            # The question was answered; what came of the refund stands in its own entry.
            said = _entry(listed, refund.reference)
            code = _code(said)
        if code == _PAID or code in PENDING | FAILED:
            return _given_back(said, refund, _outcome(code), code)
        raise NoAnswer("MoMo does not say what came of the refund.")

    async def _question(self, merchant: Merchant, path: str, order_id: str, now: datetime) -> dict[str, Any]:
        fields: dict[str, str | int] = {
            "partnerCode": merchant.code,
            "requestId": f"{order_id}-{millis(now)}",
            "orderId": order_id,
            "lang": "vi",
        }
        return await self._ask(merchant, path, QUERY, fields)

    async def _ask(
        self, merchant: Merchant, path: str, names: Sequence[str], fields: dict[str, str | int]
    ) -> dict[str, Any]:
        """An answer to just this request; raise :class:`NotSent` or :class:`NoAnswer`."""
        url = telling_who(option_of(merchant, "url") + path)
        texts = {name: str(value) for name, value in fields.items()} | {"accessKey": secret_of(merchant, "access")}
        signature = momo_hash(texts, names, secret_of(merchant, "secret"))
        said = await self._wire.ask(url, {**fields, "signature": signature})
        if any(said.get(name) != fields[name] for name in ("partnerCode", "orderId", "requestId")):
            raise NoAnswer("MoMo's answer is about something else.")
        return said


def _signed(fields: Mapping[str, str], shown: str, merchant: Merchant) -> bool:
    """Whether any of our keys in force made a signature.  All are tried, whichever fits.

    Raise ``ValueError`` where what is signed could be of something else.
    """
    if any("&" in value for value in fields.values()):
        raise ValueError("a field holds what parts fields")
    fits = [
        same(shown, momo_hash({**fields, "accessKey": access}, IPN, secret))
        for access in merchant.secrets.get("access", ())
        for secret in merchant.secrets.get("secret", ())
    ]
    return any(fits)


def _outcome(code: str) -> Outcome:
    if code == _PAID:
        return Outcome.PAID
    return Outcome.PENDING if code in PENDING else Outcome.FAILED


def _code(said: dict[str, Any]) -> str:
    try:
        return text_of(said, "resultCode")
    except ValueError:
        raise NoAnswer("MoMo does not say how it went.") from None


def _taken(said: dict[str, Any]) -> str:
    """The code of an answer to a request that MoMo takes; raise :class:`Refused` or :class:`NoAnswer` for any other."""
    code = _code(said)
    if code in _NOT_TAKEN:
        raise Refused(code)
    if code != _PAID and code not in PENDING:
        raise NoAnswer("MoMo does not say whether it takes the request.")
    return code


def _told(fields: Mapping[str, str]) -> Finding:
    """What an IPN, or a return, says; raise ``ValueError`` where it cannot be read."""
    code = fields["resultCode"]
    if any(
        pattern.fullmatch(fields[name]) is None
        for name, pattern in (("orderId", _REFERENCE), ("transId", _NUMBER), ("resultCode", _CODE))
    ):
        raise ValueError("a field is not of its form")
    outcome = _outcome(code)
    transaction = _transaction(fields["transId"])
    if outcome is Outcome.PAID and transaction is None:
        raise ValueError("paid, without a number")
    return Finding(
        references=[fields["orderId"]],
        outcome=outcome,
        amount=read_amount(fields["amount"]),
        transaction=transaction,
        at=read_millis(fields["responseTime"]),
        code=code,
    )


def _answered(said: dict[str, Any], reference: str, outcome: Outcome, code: str) -> Finding:
    """A finding out of an answer; raise :class:`NoAnswer` where it does not bear it out."""
    try:
        amount = read_amount(said["amount"]) if said.get("amount") is not None else None
        transaction = _transaction(text_of(said, "transId", "0"))
    except ValueError:
        raise NoAnswer("MoMo's answer cannot be read.") from None
    if outcome is Outcome.PAID and (amount is None or transaction is None):
        raise NoAnswer("MoMo's answer names no amount, or no transaction.")
    return Finding(references=[reference], outcome=outcome, amount=amount, transaction=transaction, code=code)


def _given_back(said: dict[str, Any], refund: RefundOrder, outcome: Outcome, code: str) -> Finding:
    finding = _answered(said, refund.reference, outcome, code)
    if finding.amount not in {None, refund.amount}:
        raise NoAnswer("MoMo's answer is about another amount.")
    return finding


def _entry(listed: object, reference: str) -> dict[str, Any]:
    """The entry of a refund in a list of them; raise :class:`NoAnswer` unless there is just one."""
    entries = listed if isinstance(listed, list) else []
    found = [entry for entry in entries if isinstance(entry, dict) and entry.get("orderId") == reference]
    if len(found) != 1:
        raise NoAnswer("MoMo's answer does not name the refund.")
    return found[0]


def _transaction(text: str) -> str | None:
    """MoMo's number; a try that came to nothing has 0."""
    if _NUMBER.fullmatch(text) is None:
        raise ValueError("not a number of MoMo's")
    return None if int(text) == 0 else text
