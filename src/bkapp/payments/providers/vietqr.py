"""Bank transfers: a VietQR code to pay with, and the bank's word for what came into the account.

The bank tells of a credit in the shape of payOS: ``{code, desc, success, data: {…}, signature}``, signed by the
HMAC-SHA256 of ``data`` as :func:`data_text` writes it.  A bank that signs after Standard Webhooks sends the same
``data``, and no ``signature``.  Which order money is for stands in its content alone, which people type and banks
change; money that names none of our orders is found all the same, and the caller's to keep.

We ask with ``GET <api>/transactions?reference=TT…``, ``X-Timestamp`` (seconds) and ``X-Signature``, the HMAC-SHA256 of
``<timestamp>.<path>?<query>``.  The answer is ``{data: [{…}, …], signature}``, signed over :func:`list_text`.

Secrets: ``checksum`` for payOS's signatures, questions and answers; ``webhook`` for Standard Webhooks (``whsec_…``,
``whpk_…``).  Options: ``api``, without which the bank cannot be asked; ``accounts``, parted by spaces: credits to any
other are refused (payOS sends a made-up one, of account 12345678, when it is told our address).
"""

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import msgspec

from bkapp.errors import DomainError, Forbidden, Malformed, Unauthenticated, Unavailable
from bkapp.payments import standardwebhooks, vietqr
from bkapp.payments.providers import (
    Answer,
    Begun,
    Call,
    Finding,
    Hearing,
    HookRefused,
    Merchant,
    NoAnswer,
    NotSent,
    Order,
    Outcome,
    Verdict,
)
from bkapp.payments.providers.calling import Wire
from bkapp.payments.providers.wire import HANOI, read_amount, read_json, signed, text_of
from bkapp.payments.references import references_in

AHEAD = timedelta(days=1)
"""How far ahead of our clock the time of a credit may be; beyond that it is no time."""

_PAID = "00"
_NAME = re.compile(r"[0-9A-Za-z_]{1,64}")
_READS_LIKE_A_FIELD = re.compile(r"&[^&=]*=|\n")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}")
_TRANSACTION = re.compile(r"[!-~](?:[ -~]{0,98}[!-~])?")
_ACCOUNT = re.compile(r"[0-9A-Za-z]{1,34}")
_CODE = re.compile(r"[0-9A-Za-z_-]{1,32}")

_VERDICTS = {
    standardwebhooks.Reason.INCOMPLETE: Verdict.MALFORMED,
    standardwebhooks.Reason.MALFORMED: Verdict.MALFORMED,
    standardwebhooks.Reason.SIGNATURE: Verdict.BAD_SIGNATURE,
    standardwebhooks.Reason.TIME: Verdict.STALE,
}
_REFUSALS: dict[Verdict, tuple[type[DomainError], str]] = {
    Verdict.BAD_SIGNATURE: (Unauthenticated, "The signature is not right."),
    Verdict.MALFORMED: (Malformed, "This is no notification of a credit in đồng."),
    Verdict.STALE: (Malformed, "The time of the message is too far from ours."),
    Verdict.FORBIDDEN: (Forbidden, "Messages are not taken from this network address."),
    Verdict.BROKEN: (Unavailable, "The message could not be kept; send it again."),
}


def data_text(data: dict[str, Any]) -> str:
    """What is signed of ``data``: ``name=value&…`` in the order of the names, null as empty.

    Raise ``ValueError`` where this would not say what it was made of: for a value that is neither text nor a whole
    number, or that reads like another field.
    """
    parts = []
    for name in sorted(data):
        text = "" if data[name] is None else text_of(data, name)
        if _NAME.fullmatch(name) is None or _READS_LIKE_A_FIELD.search(text) is not None:
            raise ValueError("The data could be signed for something else.")
        parts.append(f"{name}={text}")
    return "&".join(parts)


def list_text(reference: str, entries: Iterable[dict[str, Any]]) -> str:
    """What is signed of an answer: ``reference=TT…``, and a line for each entry."""
    return "\n".join([f"reference={reference}", *(data_text(entry) for entry in entries)])


def signature(secret: str, text: str) -> str:
    """The HMAC-SHA256 of a text, in hexadecimal digits."""
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


class Vietqr:
    """Transfers to the account of whoever the fee is for."""

    name = "vietqr"

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def begin(self, merchant: Merchant, order: Order, *, now: datetime) -> Begun:
        return Begun(qr=vietqr.credit_transfer(order.bank_bin, order.account, order.amount, order.reference))

    async def inquire(self, merchant: Merchant, order: Order, *, now: datetime) -> Finding:
        secrets = merchant.secrets.get("checksum", ())
        if not secrets or "api" not in merchant.options:
            raise NotSent("This bank cannot be asked.")
        address = urlsplit(f"{merchant.options['api']}/transactions?reference={order.reference}")
        moment = str(int(now.timestamp()))
        headers = {
            "X-Timestamp": moment,
            "X-Signature": signature(secrets[0], f"{moment}.{address.path}?{address.query}"),
        }
        reply = await self._wire.send("GET", address.geturl(), headers=headers)
        if reply.status != 200:
            raise NoAnswer(f"The bank answered {reply.status}.")
        try:
            return _find(reply.body, order, secrets)
        except (ValueError, KeyError):
            raise NoAnswer("The bank's answer cannot be believed or read.") from None

    def hear(self, merchant: Merchant, call: Call, *, now: datetime) -> Hearing:
        try:
            event_id, data = (_standard if standardwebhooks.ID in call.headers else _payos)(merchant, call, now)
            finding = _credit(data)
        except (ValueError, KeyError):
            raise HookRefused(Verdict.MALFORMED, "The message is no credit in đồng that can be read.") from None
        accounts = merchant.options.get("accounts", "").split()
        if accounts and text_of(data, "accountNumber") not in accounts:
            raise HookRefused(Verdict.MALFORMED, "The credit is to an account that is not one of the merchant's.")
        if finding.at is not None and finding.at > now + AHEAD:
            raise HookRefused(Verdict.STALE, "The time of the credit is ahead of ours.")
        return Hearing(event_id=event_id, finding=finding)

    def answer(self, merchant: Merchant, verdict: Verdict, context: Mapping[str, str], *, now: datetime) -> Answer:
        if verdict not in _REFUSALS:  # money that is for no order, or too much, came all the same
            return Answer(200, b'{"success":true}')
        kind, detail = _REFUSALS[verdict]
        problem = {"type": f"/problems/{kind.code}", "title": kind.title, "status": kind.status, "detail": detail}
        return Answer(kind.status, msgspec.json.encode(problem), "application/problem+json")

    def came_back(self, merchant: Merchant, query: bytes, *, now: datetime) -> Finding | None:
        return None


def _payos(merchant: Merchant, call: Call, now: datetime) -> tuple[str, dict[str, Any]]:
    """The id and the data of a notification that payOS's signature is on.  The id is of what was signed, and so the
    same whenever it is sent again, under another key too."""
    said = read_json(call.body)
    data = _data(said)
    text, shown = data_text(data), text_of(said, "signature")
    if not signed(shown, merchant.secrets.get("checksum", ()), lambda secret: signature(secret, text)):
        raise HookRefused(Verdict.BAD_SIGNATURE, "The signature of the data is not right.")
    return hashlib.sha256(text.encode()).hexdigest(), data


def _standard(merchant: Merchant, call: Call, now: datetime) -> tuple[str, dict[str, Any]]:
    """The same of one that is signed after Standard Webhooks."""
    try:
        event_id, _ = standardwebhooks.verify(call.headers, call.body, merchant.secrets.get("webhook", ()), now=now)
    except standardwebhooks.WebhookRefused as refused:
        raise HookRefused(_VERDICTS[refused.reason], f"Standard Webhooks: {refused.reason}.") from None
    except standardwebhooks.BadKey:
        raise HookRefused(Verdict.BROKEN, "A key that the merchant has for Standard Webhooks is none.") from None
    return event_id, _data(read_json(call.body))


def _data(said: Mapping[str, Any]) -> dict[str, Any]:
    """The data of a notification.  What stands around it is not signed by payOS, and must not say anything else."""
    data = said["data"]
    if not isinstance(data, dict) or "code" not in data:
        raise ValueError("The data are no object, or say no outcome.")
    paid = data["code"] == _PAID
    if said.get("code", data["code"]) != data["code"] or said.get("success", paid) is not paid:
        raise ValueError("The message contradicts itself.")
    return data


def _credit(data: dict[str, Any]) -> Finding:
    """Money that came, as the bank's data say; raise ``ValueError`` or ``KeyError`` for a debit, other money, or what
    cannot be read."""
    fields = {name: text_of(data, name) for name in ("currency", "reference", "code", "accountNumber")}
    amount, content = read_amount(data["amount"]), _content(data)
    if fields["currency"] != "VND" or amount == 0:
        raise ValueError("This is no credit in đồng.")
    if (
        _TRANSACTION.fullmatch(fields["reference"]) is None
        or _CODE.fullmatch(fields["code"]) is None
        or _ACCOUNT.fullmatch(fields["accountNumber"]) is None
    ):
        raise ValueError("A number is not of its form.")
    return Finding(
        references=references_in(content),
        # A transfer that did not go through ends no order: the same code can be paid again.
        outcome=Outcome.PAID if fields["code"] == _PAID else Outcome.PENDING,
        amount=amount,
        transaction=fields["reference"],
        at=_time(data["transactionDateTime"]),
        code=fields["code"],
    )


def _content(data: Mapping[str, Any]) -> str:
    """What the payer wrote, or nothing."""
    content = data["description"]
    if content is None:
        return ""
    if not isinstance(content, str) or len(content) > 1000:
        raise ValueError("The content of the transfer is no text, or too long.")
    return content


def _time(text: object) -> datetime:
    """The UTC time of ``yyyy-MM-dd HH:mm:ss``, which is of Hà Nội and the 24-hour clock."""
    if not isinstance(text, str) or _TIME.fullmatch(text) is None:
        raise ValueError("This is no time.")
    try:
        return datetime.fromisoformat(text).replace(tzinfo=HANOI).astimezone(UTC)
    except OverflowError:  # the first hours of the year 1, which UTC does not have
        raise ValueError("This is no time.") from None


def _find(body: bytes, order: Order, secrets: Iterable[str]) -> Finding:
    """The credit that pays an order among those that the bank lists; the one of the right amount first, else the
    earliest.  Others of the same order come as notifications, or with the bank's statement."""
    said = read_json(body)
    entries = said["data"]
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError("The data are no list of objects.")
    text = list_text(order.reference, entries)
    if not signed(text_of(said, "signature"), secrets, lambda secret: signature(secret, text)):
        raise ValueError("The signature is not right.")
    found = [_credit(entry) for entry in entries if _may_pay(entry, order)]
    if not found:
        return Finding(references=[order.reference], outcome=Outcome.PENDING)
    best = min(found, key=lambda credit: (credit.amount != order.amount, credit.at))
    return msgspec.structs.replace(best, references=[order.reference])


def _may_pay(entry: Mapping[str, Any], order: Order) -> bool:
    """Whether an entry is a credit in đồng for an order.  A bank lists debits too, such as our refunds."""
    return (
        order.reference in references_in(_content(entry))
        and entry["code"] == _PAID
        and entry["currency"] == "VND"
        and not str(entry["amount"]).startswith("-")
    )
