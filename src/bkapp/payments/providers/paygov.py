"""Paygov, spoken as PayPlat: the payment platform of the National Public Service Portal, protocol 1.0.6.

Everything is JSON by POST, amounts are texts, times are ``yyyyMMddHHmmss`` of Hà Nội on the 24-hour clock.
``MaXacThuc`` is the SHA-256, in hexadecimal digits, of fields joined by ``|`` with the secret as the last one; which
fields, and in which order, say ``INIT_SIGNED``, ``CONFIRM_SIGNED``, ``QUERY_SIGNED`` and ``LOOKUP_SIGNED``.  A ``|``
within a field is refused: it would move the borders between them.

* ``INIT`` begins a payment; the answer ``{error_code, message}`` holds another JSON text in ``message``.  Its time is
  that of the order, and so is that of ``QUERY`` and ``GET_BILL``, which name the payment by both.  ``UrlTraVe``, where
  the payer comes back to, is ours, and not signed.
* The platform confirms to our notify address, and is answered ``{MaLoi, MoTaLoi, MaDoiTac, MaThamChieu, ThoiGianGD,
  MaXacThuc}``.  It sends again what is not answered ``00``.
* ``QUERY`` is answered in the fields of a confirmation.  No source says what is signed of an answer; we ask for the
  fields of ``CONFIRM_SIGNED`` that it has, in that order, and sign our own answers so.
* ``GET_BILL`` is answered ``{MaLoi, MoTaLoi, MaDoiTac, MaThamChieu, ThoiGianGD, BienLai, MaXacThuc}``, signed alike;
  ``BienLai`` is the PDF in Base64.  No source shows it.
* The hub looks a bill up by dossier code, for payers who go to it themselves or to a counter: ``{LoaiBanTin:
  "LOOKUP_BILL", PhienBan, MaDoiTac, MaHoSo, ThoiGianGD, MaXacThuc}``, our analogue of KeyPay's
  ``dptracuuthanhtoanhs``.  We answer ``{error_code, message}``: ``1`` with the bill, ``0`` where nothing is owed,
  ``-1`` for a dossier we do not know.  What is paid of it is confirmed under the ``MaThamChieu`` that goes with the
  bill; or under its ``MaTraCuuTT``, the dossier code and the time, and then the confirmation refers to the dossier.

``TrangThaiGD`` (1 paid, 3 pending, 4 failed) is signed nowhere, so it may only take away from what ``MaLoi`` says.

Secrets: ``checksum``; ``bearer``, the token of the LGSP in front, where there is one.  Options: ``init_url``,
``query_url``, ``bill_url``; ``agency_code`` (MaDonVi); ``absent_code``, the ``MaLoi`` of an order that the platform
does not know (``01``).
"""

import hashlib
import re
from base64 import b64decode
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

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
from bkapp.payments.providers.calling import Reply, Wire
from bkapp.payments.providers.receipts import Owed, owed_for, payment_text, receipt_block
from bkapp.payments.providers.wire import compact_time, read_amount, read_compact_time, read_json, signed, text_of

VERSION = "1.0.6"
OK = "00"
PAID, PENDING, FAILED = "1", "3", "4"
LONGEST_MESSAGE = 65_536
AHEAD = timedelta(minutes=15)
"""How far ahead of our clock a message may be."""
HORIZON = timedelta(days=7)
"""For how long a confirmation is taken; what came of an older one is found by asking."""

INIT_SIGNED = (
    "LoaiBanTin",
    "PhienBan",
    "MaDoiTac",
    "MaThamChieu",
    "SoTien",
    "LoaiHinhThanhToan",
    "MaKenhThanhToan",
    "MaThietBi",
    "NgonNgu",
    "MaTienTe",
    "MaNganHang",
    "ThongTinGiaoDich",
    "ThoiGianGD",
    "Ip",
)
CONFIRM_SIGNED = (
    "LoaiBanTin",
    "MaLoi",
    "MaDoiTac",
    "MaThamChieu",
    "SoTien",
    "MaTienTe",
    "MaGiaoDich",
    "MaNganHang",
    "ThoiGianGD",
    "ThongTinGiaoDich",
)
QUERY_SIGNED = ("LoaiBanTin", "PhienBan", "MaDoiTac", "MaThamChieu", "ThoiGianGD")
LOOKUP_SIGNED = ("LoaiBanTin", "PhienBan", "MaDoiTac", "MaHoSo", "ThoiGianGD")

_REFERENCE = re.compile(r"[!-~]{1,255}")
_NUMBER = re.compile(r"[!-~](?:[ -~]{0,98}[!-~])?")
_LOOKUP = re.compile("LOOKUP_BILL")
_LOOKUP_CODE = re.compile(r"(.{1,241})([0-9]{14})")
_ANSWERS = {
    Verdict.TAKEN: (OK, "Thành công"),
    Verdict.KNOWN: (OK, "Thành công"),
    Verdict.NO_ORDER: ("01", "Không có giao dịch này"),
    Verdict.BAD_SIGNATURE: ("02", "Mã xác thực không đúng"),
    Verdict.MALFORMED: ("03", "Bản tin không đúng quy cách"),
    Verdict.WRONG_AMOUNT: ("04", "Số tiền không đúng"),
    Verdict.STALE: ("05", "Thời gian giao dịch không hợp lệ"),
    Verdict.FORBIDDEN: ("06", "Địa chỉ gửi không được phép"),
    Verdict.BROKEN: ("99", "Các lỗi khác"),
}


def signed_text(names: Iterable[str], fields: Mapping[str, str]) -> str:
    """What is signed, but for the secret; raise ``ValueError`` for a ``|`` within a field, ``KeyError`` for a lack."""
    values = [fields[name] for name in names]
    if any("|" in value for value in values):
        raise ValueError("a field has a | in it")
    return "|".join(values)


def checksum(text: str, secret: str) -> str:
    """``MaXacThuc`` of a text that is signed."""
    return hashlib.sha256(f"{text}|{secret}".encode()).hexdigest()


def init_checksum(fields: Mapping[str, str], secret: str) -> str:
    """``MaXacThuc`` of an INIT."""
    return checksum(signed_text(INIT_SIGNED, fields), secret)


def confirm_checksum(fields: Mapping[str, str], secret: str) -> str:
    """``MaXacThuc`` of a confirmation."""
    return checksum(signed_text(CONFIRM_SIGNED, fields), secret)


def query_checksum(fields: Mapping[str, str], secret: str) -> str:
    """``MaXacThuc`` of a QUERY or a GET_BILL."""
    return checksum(signed_text(QUERY_SIGNED, fields), secret)


def lookup_checksum(fields: Mapping[str, str], secret: str) -> str:
    """``MaXacThuc`` of a LOOKUP_BILL."""
    return checksum(signed_text(LOOKUP_SIGNED, fields), secret)


def answer_checksum(fields: Mapping[str, str], secret: str) -> str:
    """``MaXacThuc`` of an answer: of the fields of a confirmation that it has."""
    return checksum(signed_text(_answered(fields), fields), secret)


def init_message(merchant: Merchant, order: Order) -> dict[str, Any]:
    """The INIT of an order; the same whenever it is made."""
    fields = {
        "LoaiBanTin": "INIT",
        "PhienBan": VERSION,
        "MaDoiTac": merchant.code,
        "MaThamChieu": order.reference,
        "SoTien": str(order.amount),
        "LoaiHinhThanhToan": "PAY",
        "MaKenhThanhToan": "1",
        "MaThietBi": "1",
        "NgonNgu": "vi-VN",
        "MaTienTe": "VND",
        "MaNganHang": "PAYMENT",
        "ThongTinGiaoDich": payment_text(order.bill_code, order.dossier_code),
        "ThoiGianGD": compact_time(order.created_at),
        "Ip": order.payer_ip,
    }
    return {
        **fields,
        "ThongTinBienLai": receipt_block(owed_for(order), merchant.options.get("agency_code", "")),
        "UrlTraVe": order.return_url,
        "MaXacThuc": init_checksum(fields, secret_of(merchant, "checksum")),
    }


def question(merchant: Merchant, kind: str, order: Order) -> dict[str, str]:
    """The QUERY or the GET_BILL of an order."""
    fields = {
        "LoaiBanTin": kind,
        "PhienBan": VERSION,
        "MaDoiTac": merchant.code,
        "MaThamChieu": order.reference,
        "ThoiGianGD": compact_time(order.created_at),
    }
    return {**fields, "MaXacThuc": query_checksum(fields, secret_of(merchant, "checksum"))}


class Paygov:
    """The payment platform."""

    name = "paygov"

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def begin(self, merchant: Merchant, order: Order, *, now: datetime) -> Begun:
        reply = await self._post(merchant, "init_url", init_message(merchant, order))
        try:
            said = read_json(reply.body)
            code = read_code(text_of(said, "error_code"))
            if code == "0":
                return Begun(redirect_url=_payment_page(text_of(said, "message"), order))
        except ValueError:
            raise NoAnswer("The platform's answer cannot be read.") from None
        raise Refused(code)

    async def inquire(self, merchant: Merchant, order: Order, *, now: datetime) -> Finding:
        reply = await self._post(merchant, "query_url", question(merchant, "QUERY", order))
        try:
            return _found(merchant, order, _answer_fields(merchant, order, reply))
        except (ValueError, KeyError):
            raise NoAnswer("The platform's answer cannot be believed or read.") from None

    async def bill_pdf(self, merchant: Merchant, order: Order, *, now: datetime) -> bytes:
        """The platform's own receipt (biên lai); raise :class:`NotSent`, :class:`NoAnswer` or :class:`Refused`."""
        reply = await self._post(merchant, "bill_url", question(merchant, "GET_BILL", order))
        try:
            said = _answer_fields(merchant, order, reply)
            code = read_code(text_of(said, "MaLoi"))
            if code == OK:
                return _pdf(text_of(said, "BienLai"))
        except (ValueError, KeyError):
            raise NoAnswer("The platform's answer cannot be believed or read.") from None
        raise Refused(code)

    def hear(self, merchant: Merchant, call: Call, *, now: datetime) -> Hearing:
        try:
            said = _read(call.body)
            fields = {name: text_of(said, name) for name in CONFIRM_SIGNED}
            text = signed_text(CONFIRM_SIGNED, fields)
            _check(merchant, fields["MaDoiTac"], text, text_of(said, "MaXacThuc"))
            state = text_of(said, "TrangThaiGD", "")
            finding = _confirmed(fields, _outcome(fields["MaLoi"], state))
            at = read_compact_time(fields["ThoiGianGD"])
        except (ValueError, KeyError):
            raise HookRefused(Verdict.MALFORMED, "The message is no confirmation that can be read.") from None
        context = {name: fields[name] for name in ("MaThamChieu", "ThoiGianGD")}
        if not now - HORIZON <= at <= now + AHEAD:
            raise HookRefused(Verdict.STALE, "The time of the payment is too far from ours.", context)
        # The state is not signed, and yet part of what was said: pending is followed by paid.
        event = hashlib.sha256(f"{text}|{state}".encode()).hexdigest()
        return Hearing(event_id=event, finding=finding, context=context)

    def answer(self, merchant: Merchant, verdict: Verdict, context: Mapping[str, str], *, now: datetime) -> Answer:
        code, words = _ANSWERS[verdict]
        # Only what came well signed is repeated, or anybody could have us sign what they like.
        fields = {
            "MaLoi": code,
            "MaDoiTac": merchant.code,
            "MaThamChieu": context.get("MaThamChieu", ""),
            "ThoiGianGD": context.get("ThoiGianGD") or compact_time(now),
        }
        secrets = merchant.secrets.get("checksum", ())
        proof = answer_checksum(fields, secrets[0]) if secrets else ""
        return Answer(200, msgspec.json.encode({**fields, "MoTaLoi": words, "MaXacThuc": proof}))

    def came_back(self, merchant: Merchant, query: bytes, *, now: datetime) -> Finding | None:
        return None

    async def _post(self, merchant: Merchant, option: str, message: Mapping[str, Any]) -> Reply:
        url, tokens = option_of(merchant, option), merchant.secrets.get("bearer", ())
        headers = {"Authorization": f"Bearer {tokens[0]}"} if tokens else {}
        reply = await self._wire.send("POST", url, body=msgspec.json.encode(message), headers=headers)
        if reply.status != 200:
            raise NoAnswer(f"The platform answered {reply.status}.")
        return reply


def read_lookup(merchant: Merchant, body: bytes, now: datetime) -> str:
    """The dossier code that the hub asks about; raise :class:`HookRefused`.

    A question is good for as long as clocks may differ, so that one that somebody saw cannot be asked again later.
    """
    try:
        said = _read(body)
        fields = {name: text_of(said, name) for name in LOOKUP_SIGNED}
        _check(merchant, fields["MaDoiTac"], signed_text(LOOKUP_SIGNED, fields), text_of(said, "MaXacThuc"))
        _of_form(_LOOKUP, fields["LoaiBanTin"])
        dossier, at = _of_form(_NUMBER, fields["MaHoSo"]), read_compact_time(fields["ThoiGianGD"])
    except (ValueError, KeyError):
        raise HookRefused(Verdict.MALFORMED, "The message is no lookup that can be read.") from None
    if not now - AHEAD <= at <= now + AHEAD:
        raise HookRefused(Verdict.STALE, "The time of the lookup is too far from ours.")
    return dossier


def lookup_answer(merchant: Merchant, owed: Owed | None, *, known: bool, now: datetime, reference: str = "") -> Answer:
    """What the hub is told of a dossier: what is owed for it, or that nothing is, or that we do not know it.

    ``reference`` is what the hub is to call the payment when it confirms it (``MaThamChieu``).
    """
    if owed is not None:
        bill = receipt_block(owed, merchant.options.get("agency_code", ""))
        code = f"{owed.dossier_code}{compact_time(now)}"
        said: dict[str, Any] = {
            "error_code": "1",
            "message": {**bill, "SoTien": str(owed.amount), "MaTienTe": "VND", "MaTraCuuTT": code}
            | ({"MaThamChieu": reference} if reference else {}),
        }
    elif known:
        said = {"error_code": "0", "message": "Hồ sơ không còn khoản phải nộp"}
    else:
        said = {"error_code": "-1", "message": "Không tìm thấy hồ sơ"}
    return Answer(200, msgspec.json.encode(said))


def lookup_refused(verdict: Verdict) -> Answer:
    """What the hub is told whose question cannot be believed: nothing about any dossier."""
    return Answer(200, msgspec.json.encode({"error_code": "-1", "message": f"Yêu cầu bị từ chối ({verdict})"}))


def _read(body: bytes) -> dict[str, Any]:
    if len(body) > LONGEST_MESSAGE:
        raise ValueError("too long")
    return read_json(body)


def _check(merchant: Merchant, partner: str, text: str, shown: str) -> None:
    """Whether a message is signed, and for us; raise :class:`HookRefused`."""
    if not signed(shown, merchant.secrets.get("checksum", ()), lambda secret: checksum(text, secret)):
        raise HookRefused(Verdict.BAD_SIGNATURE, "MaXacThuc is not right.")
    if partner != merchant.code:
        raise HookRefused(Verdict.NO_ORDER, "The message is for another partner.")


def _answered(fields: Mapping[str, object]) -> list[str]:
    """The fields of an answer that are signed."""
    return [name for name in CONFIRM_SIGNED if name in fields]


def _answer_fields(merchant: Merchant, order: Order, reply: Reply) -> dict[str, Any]:
    """An answer that is signed, and about an order; raise ``ValueError`` or ``KeyError`` for any other."""
    said = read_json(reply.body)
    fields = {name: text_of(said, name) for name in _answered(said)}
    text = signed_text(fields, fields)
    if not signed(text_of(said, "MaXacThuc"), merchant.secrets["checksum"], lambda secret: checksum(text, secret)):
        raise ValueError("not signed")
    if (fields["MaDoiTac"], fields["MaThamChieu"]) != (merchant.code, order.reference):
        raise ValueError("about another order")
    return {**said, **fields}


def _found(merchant: Merchant, order: Order, said: dict[str, Any]) -> Finding:
    """What an answer to a QUERY says; raise ``ValueError`` or ``KeyError`` where that is nothing about the order."""
    code, state = text_of(said, "MaLoi"), text_of(said, "TrangThaiGD", "")
    if code == merchant.options.get("absent_code", "01") and not state:
        return Finding(references=[order.reference], outcome=Outcome.ABSENT, code=read_code(code))
    if not state:
        raise ValueError("no state")  # 00, or that the question was not answered
    outcome = _outcome(code, state)
    if outcome is Outcome.PAID:
        # All of them, because the text that is signed does not say which are missing.
        return _confirmed({name: said[name] for name in CONFIRM_SIGNED[1:]}, outcome)
    return Finding(references=[order.reference], outcome=outcome, code=read_code(code))


def _outcome(code: str, state: str) -> Outcome:
    """What ``MaLoi`` and ``TrangThaiGD`` come to; raise ``ValueError`` where they contradict each other."""
    outcome = {"": None, PAID: Outcome.PAID, PENDING: Outcome.PENDING, FAILED: Outcome.FAILED}[state]
    if code == OK:
        return outcome or Outcome.PAID
    if outcome is Outcome.PAID:
        raise ValueError("paid, and not")
    return outcome or Outcome.FAILED


def _confirmed(fields: Mapping[str, str], outcome: Outcome) -> Finding:
    """What the fields of a confirmation say; raise ``ValueError`` or ``KeyError`` for what is none."""
    if fields["MaTienTe"] != "VND":
        raise ValueError("not đồng")
    number = fields["MaGiaoDich"]
    if number or outcome is Outcome.PAID:
        _of_form(_NUMBER, number)
    return Finding(
        references=_references(_of_form(_REFERENCE, fields["MaThamChieu"])),
        outcome=outcome,
        amount=read_amount(fields["SoTien"]),
        transaction=number or None,
        at=read_compact_time(fields["ThoiGianGD"]),
        code=read_code(fields["MaLoi"]),
    )


def _references(reference: str) -> list[str]:
    """What a confirmation refers to: an order, or the dossier that a bill was looked up by."""
    looked_up = _LOOKUP_CODE.fullmatch(reference)
    return [reference, looked_up[1]] if looked_up else [reference]


def _payment_page(message: str, order: Order) -> str:
    """Where an answer to an INIT sends the payer; raise ``ValueError`` where it is about another order or amount."""
    said = read_json(message.encode())
    asked = {"MaThamChieu": order.reference, "SoTien": str(order.amount)}
    if any(text_of(said, name, asked[name]) != asked[name] for name in asked):
        raise ValueError("about another order")
    return payer_url(text_of(said, "UrlThanhToan"))


def _pdf(text: str) -> bytes:
    pdf = b64decode(text, validate=True)
    if not pdf.startswith(b"%PDF-"):
        raise ValueError("not a PDF")
    return pdf


def _of_form(form: re.Pattern[str], text: str) -> str:
    if form.fullmatch(text) is None:
        raise ValueError("not of its form")
    return text
