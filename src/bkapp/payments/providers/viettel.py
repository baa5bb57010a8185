"""ViettelPay (Viettel Money), as the one-stop shops have it.

``check_sum`` is the HMAC-SHA1, in hexadecimal digits, of values written one after another, with nothing between them:
the access code's and the fields' in the order of the fields' names.  ``access_code`` itself is never sent.

* The payer is sent to the PAYMENT page with ``billcode``, ``command``, ``desc``, ``merchant_code``, ``order_id``,
  ``return_url``, ``trans_amount`` and ``version``; ``PAYMENT_SIGNED`` are signed.
* Before it takes money Viettel asks us (``verify``, in Viettel's words ``mcpaymentconfirm``); ``VERIFY_SIGNED`` are
  signed.  ``trans_amount`` is signed too, yet need not be sent: our ``billcode`` begins with it, for that reason.
* Then it says what came of it (``result``, or ``mcreceiveresult``).  One known system never checks that message, and no
  source says what is signed; we ask for all that it says, ``RESULT_SIGNED``.  The payer's browser brings the same.
* We may ask (``search``) with ``SEARCH_SIGNED``.  The answer is JSON; all of it that is in ``FOUND_SIGNED`` is signed,
  by the same rule.  It need not say the amount, which then is the one that Viettel was told when it asked.

Questions and messages of Viettel are forms; our answers are JSON with an ``error_code``: 00 good, 01 a wrong order or
merchant, 02 a wrong check_sum, 03 anything else.

Nothing stands between the values, so every field has to have a form that says where it ends, and what is not well
signed gets an answer without a ``check_sum``: whoever could choose what we sign could have us sign a result.  The
amount and ``vt_transaction_id`` stand together in a result: where the border could be another, it must be that of the
amount which was asked for.  Weak as this is, keep a list of the addresses that Viettel's messages may come from.

Secrets: ``hash_key``.  Options: ``access_code``, ``pay_url``, ``search_url``, ``search_cmd`` (``TRANS_INQUIRY``).
"""

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
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
    Verdict,
)
from bkapp.payments.providers.asking import option_of, secret_of
from bkapp.payments.providers.calling import Wire
from bkapp.payments.providers.receipts import payment_text
from bkapp.payments.providers.wire import read_amount, read_json, read_query, signed, text_of

VERSION = "2.0"
OK = "00"
NOT_YET, PAID = "0", "1"
LONGEST_MESSAGE = 65_536

PAYMENT_SIGNED = ("billcode", "command", "merchant_code", "order_id", "trans_amount", "version")
VERIFY_SIGNED = ("billcode", "merchant_code", "order_id", "trans_amount")
RESULT_SIGNED = (
    "billcode",
    "cust_msisdn",
    "error_code",
    "merchant_code",
    "order_id",
    "payment_status",
    "trans_amount",
    "vt_transaction_id",
)
SEARCH_SIGNED = ("cmd", "merchant_code", "order_id", "version")
FOUND_SIGNED = (
    "error_code",
    "merchant_code",
    "order_id",
    "payment_status",
    "trans_amount",
    "version",
    "vt_transaction_id",
)

_FORMS = {
    "billcode": re.compile(r"([1-9][0-9]{0,14})-[0-9A-Z]{12}"),
    "cust_msisdn": re.compile(r"[0-9]{0,15}"),
    "error_code": re.compile(r"[0-9A-Z]{2}"),
    "order_id": re.compile(r"[0-9A-Z]{12}"),
    "payment_status": re.compile(r"[0-9]"),
    "trans_amount": re.compile(r"0|[1-9][0-9]{0,14}"),
    "version": re.compile(r"[0-9]\.[0-9]"),
    "vt_transaction_id": re.compile(r"(?:[!-~]{1,100})?"),
}
_VERIFY = frozenset({"verify", "mcpaymentconfirm"})
_RESULT = frozenset({"", "result", "mcreceiveresult"})
_ERRORS = {
    Verdict.TAKEN: OK,
    Verdict.KNOWN: OK,
    Verdict.NO_ORDER: "01",
    Verdict.BAD_SIGNATURE: "02",
}


def checksum(access_code: str, fields: Mapping[str, str], secret: str) -> str:
    """``check_sum`` of some fields."""
    values = {**fields, "access_code": access_code}
    text = "".join(values[name] for name in sorted(values))
    return hmac.new(secret.encode(), text.encode(), hashlib.sha1).hexdigest()


class Viettel:
    """ViettelPay."""

    name = "viettel"
    needs_allow_list = True

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def begin(self, merchant: Merchant, order: Order, *, now: datetime) -> Begun:
        fields = {
            "billcode": billcode(order),
            "command": "PAYMENT",
            "merchant_code": merchant.code,
            "order_id": order.reference,
            "trans_amount": str(order.amount),
            "version": VERSION,
        }
        said = {
            **fields,
            "desc": payment_text(order.bill_code, order.dossier_code),
            "return_url": order.return_url,
            "check_sum": checksum(option_of(merchant, "access_code"), fields, secret_of(merchant, "hash_key")),
        }
        return Begun(redirect_url=f"{option_of(merchant, 'pay_url')}?{urlencode(said)}")

    async def inquire(self, merchant: Merchant, order: Order, *, now: datetime) -> Finding:
        fields = {
            "cmd": merchant.options.get("search_cmd", "TRANS_INQUIRY"),
            "merchant_code": merchant.code,
            "order_id": order.reference,
            "version": VERSION,
        }
        proof = checksum(option_of(merchant, "access_code"), fields, secret_of(merchant, "hash_key"))
        reply = await self._wire.send(
            "POST",
            option_of(merchant, "search_url"),
            body=urlencode({**fields, "check_sum": proof}).encode(),
            media_type="application/x-www-form-urlencoded",
        )
        if reply.status != 200:
            raise NoAnswer(f"Viettel answered {reply.status}.")
        try:
            return _found(merchant, order, reply.body)
        except (ValueError, KeyError):
            raise NoAnswer("Viettel's answer cannot be believed or read.") from None

    def hear(self, merchant: Merchant, call: Call, *, now: datetime) -> Hearing:
        context = {"kind": "verify" if call.what in _VERIFY else "result"}
        try:
            if call.what in _VERIFY:
                return _asked(merchant, call.body, context)
            if call.what in _RESULT:
                return _told(merchant, call.body, context)
        except (ValueError, KeyError):
            raise HookRefused(Verdict.MALFORMED, "The message cannot be read.", context) from None
        raise HookRefused(Verdict.MALFORMED, "There is no such message.", context)

    def answer(self, merchant: Merchant, verdict: Verdict, context: Mapping[str, str], *, now: datetime) -> Answer:
        verify = context.get("kind") == "verify"
        names = ("billcode", "order_id", "trans_amount") if verify else ("order_id",)
        fields = {name: context.get(name, "") for name in names}
        # Asked before money is taken, "known" means that it need not be.
        code = "03" if verify and verdict is Verdict.KNOWN else _ERRORS.get(verdict, "03")
        fields |= {"error_code": code, "merchant_code": merchant.code}
        secrets, access_code = merchant.secrets.get("hash_key", ()), merchant.options.get("access_code", "")
        good = bool(secrets) and all(fields.values())  # what was not well signed has left no fields in the context
        proof = checksum(access_code, fields, secrets[0]) if good else ""
        others = {} if verify else dict.fromkeys(("return_url", "return_bill_code", "return_other_info"), "")
        return Answer(200, msgspec.json.encode({**fields, **others, "check_sum": proof}))

    def came_back(self, merchant: Merchant, query: bytes, *, now: datetime) -> Finding | None:
        try:
            return _told(merchant, query, {}).finding
        except (ValueError, KeyError, HookRefused):
            return None


def billcode(order: Order) -> str:
    """What Viettel is to call the bill: the amount is in it, and where it ends is plain."""
    return f"{order.amount}-{order.bill_code}"


def _asked(merchant: Merchant, body: bytes, context: Mapping[str, str]) -> Hearing:
    """Viettel's question whether to take money."""
    said = _read(body)
    asked = _amount_in(said["billcode"])
    fields = _checked(merchant, {"trans_amount": asked, **said}, VERIFY_SIGNED, said["check_sum"], context)
    context = {**context, **fields}
    if fields["trans_amount"] != asked:
        raise HookRefused(Verdict.WRONG_AMOUNT, "The amount is not the one that was asked for.", context)
    return Hearing(
        event_id=_event("verify", fields),
        finding=None,
        asks=fields["order_id"],
        amount=read_amount(asked),
        context=context,
    )


def _told(merchant: Merchant, body: bytes, context: Mapping[str, str]) -> Hearing:
    """Viettel's message what came of an order."""
    said = _read(body)
    asked = _amount_in(said["billcode"])
    fields = _checked(merchant, said, RESULT_SIGNED, said["check_sum"], context)
    amount, number = fields["trans_amount"], fields["vt_transaction_id"]
    if amount != asked and (amount + number).startswith(asked):
        raise ValueError("the amount may end elsewhere")
    finding = Finding(
        references=[fields["order_id"]],
        outcome=_outcome(fields["error_code"], fields["payment_status"]),
        amount=read_amount(amount),
        transaction=number or None,
        code=f"{fields['error_code']}.{fields['payment_status']}",
    )
    _demand_transaction(finding)
    return Hearing(
        event_id=_event("result", fields), finding=finding, context={**context, "order_id": fields["order_id"]}
    )


def _found(merchant: Merchant, order: Order, body: bytes) -> Finding:
    """What the answer to a search says; raise ``ValueError`` or ``KeyError`` where that cannot be believed."""
    said = read_json(body)
    names = [name for name in FOUND_SIGNED if name in said]
    fields = {name: text_of(said, name) for name in names}
    if not _signed(merchant, fields, text_of(said, "check_sum")):
        raise ValueError("not signed")
    _demand_forms(fields)
    if (fields["merchant_code"], fields["order_id"]) != (merchant.code, order.reference):
        raise ValueError("about another order")
    if fields["error_code"] == "01":
        return Finding(references=[order.reference], outcome=Outcome.ABSENT, code="01")
    if fields["error_code"] != OK:
        raise ValueError("not answered")
    outcome = _outcome(OK, fields["payment_status"])
    finding = Finding(
        references=[order.reference],
        outcome=outcome,
        amount=read_amount(fields.get("trans_amount", order.amount)),
        transaction=fields.get("vt_transaction_id") or None,
        code=f"{OK}.{fields['payment_status']}",
    )
    _demand_transaction(finding)
    return finding


def _read(body: bytes) -> dict[str, str]:
    if len(body) > LONGEST_MESSAGE:
        raise ValueError("too long")
    return read_query(body)


def _checked(
    merchant: Merchant, said: Mapping[str, str], names: Iterable[str], shown: str, context: Mapping[str, str]
) -> dict[str, str]:
    """The fields that are signed, for us; raise :class:`HookRefused`, ``ValueError`` or ``KeyError``."""
    fields = {name: said[name] for name in names}
    _demand_forms(fields)
    if not _signed(merchant, fields, shown):
        raise HookRefused(Verdict.BAD_SIGNATURE, "check_sum is not right.", context)
    if fields["merchant_code"] != merchant.code:
        raise HookRefused(Verdict.NO_ORDER, "The message is for another merchant.", context)
    return fields


def _demand_forms(fields: Mapping[str, str]) -> None:
    """Raise ``ValueError`` where a field does not say where it ends.  Our own code at Viettel has no form of theirs."""
    for name, value in fields.items():
        if name in _FORMS and _FORMS[name].fullmatch(value) is None:
            raise ValueError(f"{name} is not of its form")


def _demand_transaction(finding: Finding) -> None:
    if finding.outcome is Outcome.PAID and finding.transaction is None:
        raise ValueError("paid, without a number")


def _signed(merchant: Merchant, fields: Mapping[str, str], shown: str) -> bool:
    access_code = merchant.options.get("access_code", "")
    return signed(shown, merchant.secrets.get("hash_key", ()), lambda secret: checksum(access_code, fields, secret))


def _amount_in(code: str) -> str:
    """The amount that a ``billcode`` of ours was made for; raise ``ValueError`` for any other."""
    found = _FORMS["billcode"].fullmatch(code)
    if found is None:
        raise ValueError("not a billcode of ours")
    return found[1]


def _outcome(error: str, status: str) -> Outcome:
    """What an error code and a status come to: where they contradict each other, nothing yet."""
    if status == PAID:
        return Outcome.PAID if error == OK else Outcome.PENDING
    return Outcome.PENDING if status == NOT_YET else Outcome.FAILED


def _event(kind: str, fields: Mapping[str, str]) -> str:
    text = "|".join([kind, *(fields[name] for name in sorted(fields))])
    return hashlib.sha256(text.encode()).hexdigest()
