"""KeyPay, as the National Public Service Portal has it (KeyPay-DVCQG, version 3.0).

JSON by POST.  ``check_sum`` is the HMAC-SHA256, in hexadecimal digits, of fields joined by ``|``: of ``PAY_SIGNED``
with the first key where we ask for a payment, and with the second where KeyPay calls back; of ``DETAIL_SIGNED`` with
the first where we ask what came of one.  No source says what is signed of the answer to that: we ask for what a
callback is signed with.

``status`` (0 paid, 1 not yet; anything else failed) and ``transaction_code`` are signed nowhere, and ``check_sum`` is
the same in every callback of a transaction.  So a callback is worth no more than the way it came: keep a list of the
addresses it may come from, and take our own question, over TLS, for the better word.

``addition_fee`` is always 0, since postage is a line of the bill; a callback with another would leave open what
``trans_amount`` is.  A callback is answered ``{return_code, return_msg}``: 0, or -1 to have it again.

Old merchants of KeyPay (``legacy``) send the payer with a signed address instead: ``secure_hash`` is the MD5, in
capital hexadecimal digits, of the secret and the values that are not empty in the order of their names, with nothing
between them.  What the payer brings back is signed alike.

Secrets: ``hash_1`` and ``hash_2``; ``legacy``.  Options: ``pay_url``, ``detail_url``; ``agency_code`` (MaDonVi);
``pending_statuses``, parted by spaces (``1``); ``legacy``, which is ``1`` or not there, and then ``legacy_url`` and
``service_code`` (``720``).
"""

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import msgspec

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
    Refused,
    Verdict,
)
from bkapp.payments.providers.asking import option_of, payer_url, read_code, secret_of
from bkapp.payments.providers.calling import Wire, telling_who
from bkapp.payments.providers.receipts import owed_for, payment_text, receipt_block
from bkapp.payments.providers.wire import read_amount, read_json, read_query, signed, text_of

VERSION = "3.0"
LONGEST_REFERENCE = 20
LONGEST_MESSAGE = 65_536

PAY_SIGNED = ("addition_fee", "client_id", "command", "trans_amount", "transaction_id", "version")
DETAIL_SIGNED = ("client_id", "command", "transaction_id")
BROUGHT_SIGNED = (
    "bank_code",
    "command",
    "currency_code",
    "good_code",
    "merchant_code",
    "merchant_trans_id",
    "net_cost",
    "response_code",
    "service_code",
    "ship_fee",
    "tax",
    "trans_id",
)

_REFERENCE = re.compile(r"[!-~]{1,20}")
_TRANSACTION = re.compile(r"[!-~](?:[ -~]{0,98}[!-~])?")
_STATUS = re.compile(r"-?[0-9]{1,6}")
_TAKEN = frozenset({Verdict.TAKEN, Verdict.KNOWN})
_WORDS = {
    Verdict.TAKEN: "success",
    Verdict.KNOWN: "success",
    Verdict.NO_ORDER: "error: no such transaction",
    Verdict.WRONG_AMOUNT: "error: trans_amount",
    Verdict.BAD_SIGNATURE: "error: check_sum invalid",
    Verdict.MALFORMED: "error: malformed",
    Verdict.FORBIDDEN: "error: address",
    Verdict.STALE: "error: time",
    Verdict.BROKEN: "error: system exception",
}


def signed_text(names: Iterable[str], fields: Mapping[str, str]) -> str:
    """What is signed; raise ``ValueError`` for a ``|`` within a field, ``KeyError`` for a lack."""
    values = [fields[name] for name in names]
    if any("|" in value for value in values):
        raise ValueError("a field has a | in it")
    return "|".join(values)


def checksum(text: str, secret: str) -> str:
    """``check_sum`` of a text that is signed."""
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


def pay_checksum(fields: Mapping[str, str], secret: str) -> str:
    """``check_sum`` of a request for a payment (first key), of a callback or of an answer (second key)."""
    return checksum(signed_text(PAY_SIGNED, fields), secret)


def detail_checksum(fields: Mapping[str, str], secret: str) -> str:
    """``check_sum`` of the question what came of a payment (first key)."""
    return checksum(signed_text(DETAIL_SIGNED, fields), secret)


def legacy_hash(fields: Mapping[str, str], secret: str) -> str:
    """``secure_hash`` of the old protocol."""
    text = secret + "".join(fields[name] for name in sorted(fields))
    # The old protocol has nothing better; what it signs is a hint, and never proof.
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest().upper()


class Keypay:
    """KeyPay."""

    name = "keypay"
    needs_allow_list = True

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def begin(self, merchant: Merchant, order: Order, *, now: datetime) -> Begun:
        if len(order.reference) > LONGEST_REFERENCE:
            raise ValueError("A transaction_id has at most 20 characters.")
        if merchant.options.get("legacy") == "1":
            return Begun(redirect_url=legacy_address(merchant, order))
        said = await self._post(merchant, "pay_url", pay_message(merchant, order))
        try:
            code = read_code(text_of(said, "error"))
            if code == "0":
                return Begun(redirect_url=payer_url(text_of(said, "payment_url")))
        except ValueError:
            raise NoAnswer("KeyPay's answer cannot be read.") from None
        raise Refused(code)

    async def inquire(self, merchant: Merchant, order: Order, *, now: datetime) -> Finding:
        said = await self._post(merchant, "detail_url", detail_message(merchant, order))
        try:
            fields = _checked(merchant, said)
            finding = _finding(merchant, said, fields)
        except (ValueError, KeyError, HookRefused):
            raise NoAnswer("KeyPay's answer cannot be believed or read.") from None
        if list(finding.references) != [order.reference]:
            raise NoAnswer("KeyPay's answer is about another order.")
        return finding

    def hear(self, merchant: Merchant, call: Call, *, now: datetime) -> Hearing:
        try:
            said = _read(call.body)
            fields = _checked(merchant, said)
            finding = _finding(merchant, said, fields)
            # What is not signed is part of what was said all the same: a failure may be followed by a success.
            parts = [signed_text(PAY_SIGNED, fields), finding.code, finding.transaction or ""]
            event = hashlib.sha256("|".join(parts).encode()).hexdigest()
        except (ValueError, KeyError):
            raise HookRefused(Verdict.MALFORMED, "The message is no callback that can be read.") from None
        return Hearing(event_id=event, finding=finding)

    def answer(self, merchant: Merchant, verdict: Verdict, context: Mapping[str, str], *, now: datetime) -> Answer:
        said = {"return_code": 0 if verdict in _TAKEN else -1, "return_msg": _WORDS[verdict]}
        return Answer(200, msgspec.json.encode(said))

    def came_back(self, merchant: Merchant, query: bytes, *, now: datetime) -> Finding | None:
        if merchant.options.get("legacy") != "1":
            return None
        try:
            return _brought(merchant, query)
        except (ValueError, KeyError):
            return None

    async def _post(self, merchant: Merchant, option: str, message: Mapping[str, Any]) -> dict[str, Any]:
        # What an answer says came of it is not signed, so TLS has to say who gives it.
        url = telling_who(option_of(merchant, option))
        reply = await self._wire.send("POST", url, body=msgspec.json.encode(message))
        if reply.status != 200:
            raise NoAnswer(f"KeyPay answered {reply.status}.")
        try:
            return read_json(reply.body)
        except ValueError:
            raise NoAnswer("KeyPay's answer cannot be read.") from None


def pay_message(merchant: Merchant, order: Order) -> dict[str, Any]:
    """The request for a payment; the same whenever it is made."""
    fields = {
        "addition_fee": "0",
        "client_id": merchant.code,
        "command": "PAY",
        "trans_amount": str(order.amount),
        "transaction_id": order.reference,
        "version": VERSION,
    }
    return {
        **fields,
        "description": payment_text(order.bill_code, order.dossier_code),
        "locale": "vn",
        "country_code": "vi",
        "currency_code": "VND",
        "environment": "1",
        "bill_info": receipt_block(owed_for(order), merchant.options.get("agency_code", "")),
        "return_url": order.return_url,
        "check_sum": pay_checksum(fields, secret_of(merchant, "hash_1")),
    }


def detail_message(merchant: Merchant, order: Order) -> dict[str, str]:
    """The question what came of a payment."""
    fields = {"client_id": merchant.code, "command": "PAY", "transaction_id": order.reference}
    return {**fields, "check_sum": detail_checksum(fields, secret_of(merchant, "hash_1"))}


def legacy_address(merchant: Merchant, order: Order) -> str:
    """Where the old protocol sends the payer."""
    fields = {
        "version": "1.0",
        "current_locale": "vn",
        "command": "pay",
        "merchant_trans_id": order.reference,
        "merchant_code": merchant.code,
        "country_code": "+84",
        "good_code": order.bill_code,
        "net_cost": str(order.amount),
        "ship_fee": "0",
        "tax": "0",
        "service_code": merchant.options.get("service_code", "720"),
        "currency_code": "704",
        "return_url": order.return_url,
    }
    proof = legacy_hash(fields, secret_of(merchant, "legacy"))
    return f"{option_of(merchant, 'legacy_url')}?{urlencode({**fields, 'secure_hash': proof})}"


def _read(body: bytes) -> dict[str, Any]:
    if len(body) > LONGEST_MESSAGE:
        raise ValueError("too long")
    return read_json(body)


def _checked(merchant: Merchant, said: dict[str, Any]) -> dict[str, str]:
    """The fields of a callback or an answer that are signed, for us; raise :class:`HookRefused` or ``ValueError``."""
    fields = {name: text_of(said, name) for name in PAY_SIGNED}
    text, shown = signed_text(PAY_SIGNED, fields), text_of(said, "check_sum")
    if not signed(shown, merchant.secrets.get("hash_2", ()), lambda secret: checksum(text, secret)):
        raise HookRefused(Verdict.BAD_SIGNATURE, "check_sum is not right.")
    if fields["client_id"] != merchant.code:
        raise HookRefused(Verdict.NO_ORDER, "The message is for another client.")
    return fields


def _finding(merchant: Merchant, said: dict[str, Any], fields: Mapping[str, str]) -> Finding:
    """What a callback or an answer says; raise ``ValueError`` for what is none."""
    if fields["command"] != "PAY" or fields["addition_fee"] != "0":
        raise ValueError("not a payment as we ask for it")
    status = _of_form(_STATUS, text_of(said, "status"))
    number = text_of(said, "transaction_code", "")
    if number or status == "0":
        _of_form(_TRANSACTION, number)
    return Finding(
        references=[_of_form(_REFERENCE, fields["transaction_id"])],
        outcome=_outcome(status, merchant.options.get("pending_statuses", "1").split()),
        amount=read_amount(fields["trans_amount"]),
        transaction=number or None,
        code=status,
    )


def _outcome(status: str, pending: Iterable[str]) -> Outcome:
    if status == "0":
        return Outcome.PAID
    return Outcome.PENDING if status in pending else Outcome.FAILED


def _brought(merchant: Merchant, query: bytes) -> Finding:
    """What the payer brings back in the old protocol; raise ``ValueError`` or ``KeyError`` for what proves nothing."""
    if len(query) > LONGEST_MESSAGE:
        raise ValueError("too long")
    said = read_query(query)
    fields = {name: said[name] for name in BROUGHT_SIGNED if name in said}
    if not signed(said["secure_hash"], merchant.secrets.get("legacy", ()), lambda secret: legacy_hash(fields, secret)):
        raise ValueError("not signed")
    if fields["merchant_code"] != merchant.code:
        raise ValueError("for another merchant")
    code = read_code(fields["response_code"])
    return Finding(
        references=[_of_form(_REFERENCE, fields["merchant_trans_id"])],
        outcome=Outcome.PAID if code == "00" else Outcome.FAILED,
        amount=read_amount(fields["net_cost"]),
        transaction=_of_form(_TRANSACTION, fields["trans_id"]) if fields.get("trans_id") else None,
        code=code,
    )


def _of_form(form: re.Pattern[str], text: str) -> str:
    if form.fullmatch(text) is None:
        raise ValueError("not of its form")
    return text
