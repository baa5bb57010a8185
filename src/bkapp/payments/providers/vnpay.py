"""VNPAY 2.1.0: the payer carries a signed request to VNPAY's page, and VNPAY calls us with a GET (its IPN).

Two ways of signing, both HMAC-SHA512 in lower-case hex: what goes through a browser over the fields sorted by name and
form-encoded (:func:`pay_hash`), what servers tell each other over values in a given order, parted by ``|``
(:func:`api_hash`).  VNPAY counts in hundredths of a đồng, here alone.

Secrets: ``hash``.  Options: ``pay_url`` and ``api_url``, the addresses of its page and of its ``…/api/transaction``;
``order_type`` (``other``), ``bank_code`` (the payer chooses), ``ip``, our own address (``127.0.0.1``).

``querydr`` answers about one transaction for each order: the payment, or after a refund the latest refund.  So two
refunds of one payment cannot be told apart by VNPAY's word but by their amounts, and while it speaks of the payment
alone it says nothing of a refund, not even that there is none.
"""

import hashlib
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote_plus

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
from bkapp.payments.providers.asking import option_of, secret_of
from bkapp.payments.providers.calling import Wire
from bkapp.payments.providers.wire import (
    ascii_text,
    compact_time,
    in_time,
    millis,
    read_amount,
    read_compact_time,
    read_query,
    signed,
    text_of,
)

VERSION = "2.1.0"
_HASH, _HASH_TYPE = "vnp_SecureHash", "vnp_SecureHashType"
QUERY_ASKED = (
    "vnp_RequestId",
    "vnp_Version",
    "vnp_Command",
    "vnp_TmnCode",
    "vnp_TxnRef",
    "vnp_TransactionDate",
    "vnp_CreateDate",
    "vnp_IpAddr",
    "vnp_OrderInfo",
)
REFUND_ASKED = (
    "vnp_RequestId",
    "vnp_Version",
    "vnp_Command",
    "vnp_TmnCode",
    "vnp_TransactionType",
    "vnp_TxnRef",
    "vnp_Amount",
    "vnp_TransactionNo",
    "vnp_TransactionDate",
    "vnp_CreateBy",
    "vnp_CreateDate",
    "vnp_IpAddr",
    "vnp_OrderInfo",
)
REFUND_ANSWERED = (
    "vnp_ResponseId",
    "vnp_Command",
    "vnp_ResponseCode",
    "vnp_Message",
    "vnp_TmnCode",
    "vnp_TxnRef",
    "vnp_Amount",
    "vnp_BankCode",
    "vnp_PayDate",
    "vnp_TransactionNo",
    "vnp_TransactionType",
    "vnp_TransactionStatus",
    "vnp_OrderInfo",
)
QUERY_ANSWERED = (*REFUND_ANSWERED, "vnp_PromotionCode", "vnp_PromotionAmount")
"""What is signed of each question and answer, in this order; what is missing is signed as empty."""

ANSWERS = {
    Verdict.TAKEN: ("00", "Confirm Success"),
    Verdict.KNOWN: ("02", "Order already confirmed"),
    Verdict.NO_ORDER: ("01", "Order not found"),
    Verdict.WRONG_AMOUNT: ("04", "Invalid amount"),
    Verdict.BAD_SIGNATURE: ("97", "Fail checksum"),
    Verdict.FORBIDDEN: ("03", "IP prohibited"),
    Verdict.MALFORMED: ("99", "Unknown error"),
    Verdict.STALE: ("99", "Unknown error"),
    Verdict.BROKEN: ("99", "Unknown error"),
}
"""VNPAY stops at 00 and 02 and calls again after anything else."""

_DONE, _FAILED = "00", "02"
_IN_DOUBT = frozenset({"04", "07"})
"""The payer's bank was debited and VNPAY has not decided: reversing it, or suspecting fraud.  Nobody knows yet."""
_FAILURES = frozenset({"09", "10", "11", "12", "13", "24", "51", "65", "75", "79"})
_PAYMENTS = {_DONE: Outcome.PAID, "01": Outcome.PENDING, _FAILED: Outcome.FAILED} | dict.fromkeys(
    _IN_DOUBT, Outcome.PENDING
)
_REFUNDS = {_DONE: Outcome.PAID, "05": Outcome.PENDING, "06": Outcome.PENDING, "09": Outcome.FAILED}
"""06: sent to the payer's bank, which may still refuse it."""
_ABSENT, _REPEATED = "91", "94"
_REFUSALS = frozenset({"02", "03", _ABSENT, "95", "97"})
_FULL, _PART = "02", "03"

_NAME = re.compile(r"vnp_[0-9A-Za-z_]{1,60}")
_REFERENCE = re.compile(r"[0-9A-Za-z_.\-]{1,100}")
_NUMBER = re.compile(r"[0-9A-Za-z]{1,40}")
_CODE = re.compile(r"[0-9A-Za-z]{0,8}")


def pay_text(fields: Mapping[str, str]) -> str:
    """What is signed of a request to pay, of an IPN and of a return: the fields that say something, sorted."""
    return "&".join(
        f"{_encoded(name)}={_encoded(fields[name])}"
        for name in sorted(fields)
        if name.startswith("vnp_") and fields[name] and name not in {_HASH, _HASH_TYPE}
    )


def pay_hash(fields: Mapping[str, str], secret: str) -> str:
    """The signature of what goes through a browser, and of an IPN."""
    return _hmac(secret, pay_text(fields))


def pay_query(fields: Mapping[str, str], secret: str) -> str:
    """A signed query string."""
    text = pay_text(fields)
    return f"{text}&{_HASH}={_hmac(secret, text)}"


def api_hash(fields: Mapping[str, str], names: Sequence[str], secret: str) -> str:
    """The signature of what servers tell each other; raise ``ValueError`` where it could be of something else."""
    values = [fields.get(name, "") for name in names]
    if any("|" in value for value in values):
        raise ValueError("a field holds what parts fields")
    return _hmac(secret, "|".join(values))


class Vnpay:
    """The payment gateway VNPAY."""

    name = "vnpay"

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def begin(self, merchant: Merchant, order: Order, *, now: datetime) -> Begun:
        fields = {
            "vnp_Version": VERSION,
            "vnp_Command": "pay",
            "vnp_TmnCode": merchant.code,
            "vnp_Amount": str(order.amount * 100),
            "vnp_CurrCode": "VND",
            "vnp_TxnRef": order.reference,
            "vnp_OrderInfo": ascii_text(f"Thanh toan {order.bill_code} {order.dossier_code}", 255),
            "vnp_OrderType": merchant.options.get("order_type", "other"),
            "vnp_Locale": "vn",
            "vnp_ReturnUrl": order.return_url,
            "vnp_IpAddr": order.payer_ip,
            "vnp_CreateDate": compact_time(order.created_at),
            "vnp_ExpireDate": compact_time(order.expires_at),
            "vnp_BankCode": merchant.options.get("bank_code", ""),
        }
        query = pay_query(fields, secret_of(merchant, "hash"))
        return Begun(redirect_url=f"{option_of(merchant, 'pay_url')}?{query}")

    async def inquire(self, merchant: Merchant, order: Order, *, now: datetime) -> Finding:
        said = await self._query(merchant, order, f"{order.reference}{millis(now)}", now)
        code, status = said["vnp_ResponseCode"], said["vnp_TransactionStatus"]
        if code == _ABSENT:
            return Finding(references=[order.reference], outcome=Outcome.ABSENT, code=code)
        if code != _DONE or status not in _PAYMENTS or said["vnp_TransactionType"] in {_FULL, _PART}:
            raise NoAnswer("VNPAY does not say what came of the payment.")
        try:
            return _payment(said, _PAYMENTS[status], status)
        except ValueError:
            raise NoAnswer("VNPAY's answer cannot be read.") from None

    def hear(self, merchant: Merchant, call: Call, *, now: datetime) -> Hearing:
        if call.method != "GET" or call.what or call.body:
            raise HookRefused(Verdict.MALFORMED, "An IPN is a GET without a body.")
        try:
            fields = _read(call.query)
        except ValueError:
            raise HookRefused(Verdict.MALFORMED, "The query holds what is not signed, or is none.") from None
        text = pay_text(fields)
        if not _signed(fields, text, merchant):
            raise HookRefused(Verdict.BAD_SIGNATURE, "The signature is not right.")
        if fields.get("vnp_TmnCode") != merchant.code:
            raise HookRefused(Verdict.NO_ORDER, "It is for another terminal.")
        try:
            if read_amount(fields.get("vnp_Amount")) % 100:
                raise HookRefused(Verdict.WRONG_AMOUNT, "The amount is not in whole đồng.")
            finding = _told(fields)
        except ValueError:
            raise HookRefused(Verdict.MALFORMED, "A field is missing or cannot be read.") from None
        if finding.at is not None and not in_time(finding.at, now):
            raise HookRefused(Verdict.STALE, "Its time is too far from ours.")
        return Hearing(event_id=hashlib.sha256(text.encode()).hexdigest(), finding=finding)

    def answer(self, merchant: Merchant, verdict: Verdict, context: Mapping[str, str], *, now: datetime) -> Answer:
        code, message = ANSWERS[verdict]
        return Answer(200, json.dumps({"RspCode": code, "Message": message}).encode())

    def came_back(self, merchant: Merchant, query: bytes, *, now: datetime) -> Finding | None:
        try:
            # The address to come back to may have a query of its own.
            fields = {name: value for name, value in read_query(query).items() if name.startswith("vnp_")}
            if _signed(fields, pay_text(fields), merchant) and fields.get("vnp_TmnCode") == merchant.code:
                return _told(fields)
        except ValueError:
            pass
        return None

    async def refund(self, merchant: Merchant, refund: RefundOrder, *, now: datetime) -> Finding:
        # The same whenever it is sent, so that VNPAY sees a repetition as one.
        fields = {
            "vnp_RequestId": refund.reference,
            "vnp_Version": VERSION,
            "vnp_Command": "refund",
            "vnp_TmnCode": merchant.code,
            "vnp_TransactionType": _FULL if refund.full else _PART,
            "vnp_TxnRef": refund.order.reference,
            "vnp_Amount": str(refund.amount * 100),
            # 0: not known.  Off a bank's statement it is a number of the bank's.
            "vnp_TransactionNo": refund.transaction if re.fullmatch(r"[0-9]{1,15}", refund.transaction) else "0",
            "vnp_TransactionDate": compact_time(refund.order.created_at),
            "vnp_CreateBy": "bkapp",
            "vnp_CreateDate": compact_time(refund.requested_at),
            "vnp_IpAddr": merchant.options.get("ip", "127.0.0.1"),
            "vnp_OrderInfo": ascii_text(refund.reason, 255) or refund.reference,
        }
        said = await self._ask(merchant, fields, REFUND_ASKED, REFUND_ANSWERED)
        code = said["vnp_ResponseCode"]
        if code in _REFUSALS:
            raise Refused(code)
        if code == _REPEATED:
            return Finding(references=[refund.reference], outcome=Outcome.PENDING, code=code)
        if code != _DONE:
            raise NoAnswer("VNPAY does not say whether it takes the refund.")
        return _given_back(said, refund, _REFUNDS.get(said["vnp_TransactionStatus"], Outcome.PENDING))

    async def inquire_refund(self, merchant: Merchant, refund: RefundOrder, *, now: datetime) -> Finding:
        said = await self._query(merchant, refund.order, f"{refund.reference}{millis(now)}", now)
        code, status = said["vnp_ResponseCode"], said["vnp_TransactionStatus"]
        if code == _ABSENT:
            return Finding(references=[refund.reference], outcome=Outcome.ABSENT, code=code)
        kind = _FULL if refund.full else _PART
        if code != _DONE or said["vnp_TransactionType"] != kind or status not in _REFUNDS:
            raise NoAnswer("VNPAY does not say what came of the refund.")
        return _given_back(said, refund, _REFUNDS[status])

    async def _query(self, merchant: Merchant, order: Order, request: str, now: datetime) -> dict[str, str]:
        fields = {
            "vnp_RequestId": request,
            "vnp_Version": VERSION,
            "vnp_Command": "querydr",
            "vnp_TmnCode": merchant.code,
            "vnp_TxnRef": order.reference,
            "vnp_TransactionDate": compact_time(order.created_at),
            "vnp_CreateDate": compact_time(now),
            "vnp_IpAddr": merchant.options.get("ip", "127.0.0.1"),
            "vnp_OrderInfo": f"Truy van {order.reference}",
        }
        return await self._ask(merchant, fields, QUERY_ASKED, QUERY_ANSWERED)

    async def _ask(
        self, merchant: Merchant, fields: dict[str, str], asked: Sequence[str], answered: Sequence[str]
    ) -> dict[str, str]:
        """A signed answer about the order that was asked about; raise :class:`NotSent` or :class:`NoAnswer`."""
        signature = api_hash(fields, asked, secret_of(merchant, "hash"))
        reply = await self._wire.ask(option_of(merchant, "api_url"), {**fields, _HASH: signature})
        try:
            said = {name: _text(reply, name) for name in answered}
            shown, secrets = _text(reply, _HASH), merchant.secrets["hash"]
            good = signed(shown, secrets, lambda secret: api_hash(said, answered, secret))
        except ValueError:
            raise NoAnswer("VNPAY's answer cannot be read.") from None
        if not good:
            raise NoAnswer("VNPAY's answer is not signed by VNPAY.")
        if any(said[name] != fields[name] for name in ("vnp_Command", "vnp_TmnCode", "vnp_TxnRef")):
            raise NoAnswer("VNPAY's answer is about something else.")
        return said


def _encoded(text: str) -> str:
    """As forms are encoded by PHP, which VNPAY's own samples are written in."""
    return quote_plus(text).replace("~", "%7E")


def _hmac(secret: str, text: str) -> str:
    return hmac.new(secret.encode(), text.encode(), hashlib.sha512).hexdigest()


def _read(query: bytes) -> dict[str, str]:
    """The fields of an IPN; raise ``ValueError`` where one could not have been signed."""
    fields = read_query(query)
    if any(_NAME.fullmatch(name) is None for name in fields):
        raise ValueError("a field is not one of VNPAY's")
    if fields.get(_HASH_TYPE, "HMACSHA512") not in {"HMACSHA512", "HmacSHA512", "SHA512"}:
        raise ValueError("signed in another way")
    return fields


def _signed(fields: Mapping[str, str], text: str, merchant: Merchant) -> bool:
    secrets = merchant.secrets.get("hash", ())
    return signed(fields.get(_HASH, ""), secrets, lambda secret: _hmac(secret, text))


def _text(reply: dict[str, Any], name: str) -> str:
    return "" if reply.get(name) is None else text_of(reply, name)


def _matching(pattern: re.Pattern[str], text: str) -> str:
    if pattern.fullmatch(text) is None:
        raise ValueError("a field is not of its form")
    return text


def _told(fields: Mapping[str, str]) -> Finding:
    """What an IPN, or a return, says; raise ``ValueError`` where it cannot be read.

    Only both codes together say that it was paid, and only a failure that nothing contradicts is one.
    """
    code, status = fields.get("vnp_ResponseCode", ""), fields.get("vnp_TransactionStatus", "")
    outcome = Outcome.PENDING
    if code == status == _DONE:
        outcome = Outcome.PAID
    elif not {code, status} & _IN_DOUBT and (
        (status == _FAILED and code != _DONE) or (not status and code in _FAILURES)
    ):
        outcome = Outcome.FAILED
    return _payment(fields, outcome, status if code == _DONE else code)


def _payment(fields: Mapping[str, str], outcome: Outcome, code: str) -> Finding:
    """A finding about a payment; raise ``ValueError`` where the fields do not bear it out."""
    amount, number, at = (fields.get(name) for name in ("vnp_Amount", "vnp_TransactionNo", "vnp_PayDate"))
    # A try that came to nothing has the number 0.
    transaction = _matching(_NUMBER, number) if number and number != "0" else None
    if outcome is Outcome.PAID and (not amount or transaction is None):
        raise ValueError("paid, without an amount or a number")
    return Finding(
        references=[_matching(_REFERENCE, fields.get("vnp_TxnRef", ""))],
        outcome=outcome,
        amount=_dong(amount) if amount else None,
        transaction=transaction,
        at=read_compact_time(at) if at else None,
        code=_matching(_CODE, code),
    )


def _given_back(said: Mapping[str, str], refund: RefundOrder, outcome: Outcome) -> Finding:
    """A finding about a refund; raise :class:`NoAnswer` where it is about another amount."""
    number, at = said["vnp_TransactionNo"], said["vnp_PayDate"]
    try:
        if _dong(said["vnp_Amount"]) != refund.amount:
            raise NoAnswer("VNPAY's answer is about another amount.")
        return Finding(
            references=[refund.reference],
            outcome=outcome,
            amount=refund.amount,
            transaction=_matching(_NUMBER, number) if number and number != "0" else None,
            at=read_compact_time(at) if at else None,
            code=_matching(_CODE, said["vnp_TransactionStatus"]),
        )
    except ValueError:
        raise NoAnswer("VNPAY's answer cannot be read.") from None


def _dong(hundredths: str) -> int:
    amount = read_amount(hundredths)
    if amount % 100:
        raise ValueError("not in whole đồng")
    return amount // 100
