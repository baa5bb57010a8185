"""The practice Paygov, which speaks PayPlat 1.0.6 (:mod:`bkapp.payments.providers.paygov`), and its own pages.

Somebody may also come to Paygov without the merchant: they type the code of a dossier, and Paygov asks the merchant
what is owed for it.
"""

import base64
from datetime import datetime
from typing import Any

import httpx
import msgspec
from fpdf import FPDF
from litestar import Request, Response, get, post
from litestar.datastructures import State as Parts
from msgspec import Struct

from bkapp.payments.providers.paygov import (
    FAILED,
    INIT_SIGNED,
    OK,
    PAID,
    PENDING,
    QUERY_SIGNED,
    VERSION,
    answer_checksum,
    confirm_checksum,
    init_checksum,
    lookup_checksum,
    query_checksum,
)
from bkapp.payments.providers.wire import compact_time, read_amount, read_json, same, text_of
from bkapp.practice.eid_routes import page
from bkapp.practice.paying.answering import answered, expect, form_of, lines_in, page_url, to_page
from bkapp.practice.paying.cashier import Cashier, Facade, Message, Order, OtherOrder, Payment, State
from bkapp.practice.paying.faults import On, Twist
from bkapp.practice.paying.merchants import PracticeMerchant

PROVIDER = "paygov"
ABSENT, BAD_CHECKSUM, MALFORMED, CANCELLED = "01", "02", "03", "24"
_NOT_A_DOSSIER = {"-1": "Không tìm thấy hồ sơ này.", "0": "Hồ sơ này không còn khoản nào phải nộp."}


def _notice(order: Order, payment: Payment | None, twist: Twist, _: datetime) -> Message:
    paid = payment is not None
    fields = {
        "LoaiBanTin": "CONFIRM",
        "MaLoi": OK if paid else CANCELLED,
        "MaDoiTac": order.merchant.code,
        "MaThamChieu": order.reference,
        "SoTien": str(twist.amount(payment.amount if payment else order.amount)),
        "MaTienTe": "VND",
        "MaGiaoDich": payment.transaction if payment else "",
        "MaNganHang": "VCB",
        "ThoiGianGD": compact_time(payment.at if payment else order.closed_at or order.created_at),
        "ThongTinGiaoDich": order.about,
    }
    proof = confirm_checksum(fields, twist.secret(order.merchant.secrets["checksum"]))
    said = {
        **fields,
        "MoTaLoi": "Thành công" if paid else "Người nộp hủy giao dịch",
        "TrangThaiGD": PAID if paid else FAILED,
        "MaXacThuc": proof,
    }
    return _json(order.notify_url, said)


def _heard(_: Order, status: int, body: bytes) -> bool:
    try:
        return status == 200 and text_of(read_json(body), "MaLoi") == OK
    except ValueError:
        return False


FACADE = Facade(notice=_notice, heard=_heard, way_back=lambda order, _: order.return_url, prefix="GD")


def _json(url: str, said: dict[str, Any]) -> Message:
    return Message(url=url, body=msgspec.json.encode(said), headers={"Content-Type": "application/json"})


def _merchant_asking(cashier: Cashier, request: Request, code: str) -> PracticeMerchant | None:
    merchant = cashier.merchant(PROVIDER, code)
    if merchant is None or not same(request.headers.get("authorization", ""), f"Bearer {merchant.secrets['bearer']}"):
        return None
    return merchant


@post("/paygov/init", status_code=200)
async def init(request: Request, state: Parts) -> Response:
    """Begin a payment (INIT)."""
    cashier: Cashier = state.cashier
    try:
        said = read_json(await request.body())
        fields = {name: text_of(said, name) for name in INIT_SIGNED}
        merchant = _merchant_asking(cashier, request, fields["MaDoiTac"])
        if merchant is None:
            return Response({"error_code": ABSENT, "message": "Không có đối tác này"})
        if not same(text_of(said, "MaXacThuc"), init_checksum(fields, merchant.secrets["checksum"])):
            return Response({"error_code": BAD_CHECKSUM, "message": "Mã xác thực không đúng"})
        expect((fields["LoaiBanTin"], fields["PhienBan"], fields["MaTienTe"]), ("INIT", VERSION, "VND"))
        amount, back, block = read_amount(fields["SoTien"]), text_of(said, "UrlTraVe", ""), said["ThongTinBienLai"]
        lines = lines_in(block, amount)
    except (ValueError, KeyError, TypeError):
        return Response({"error_code": MALFORMED, "message": "Bản tin không đúng quy cách"})

    def say(twist: Twist) -> dict[str, str]:
        facts = {"time": fields["ThoiGianGD"], "lines": lines}
        try:
            order = cashier.begin(
                merchant,
                fields["MaThamChieu"],
                amount,
                about=fields["ThongTinGiaoDich"],
                return_url=back,
                facts=facts,
            )
        except OtherOrder:
            return {"error_code": "05", "message": "Mã tham chiếu đã dùng cho giao dịch khác"}
        message = {
            "MaThamChieu": order.reference,
            "SoTien": str(twist.amount(amount)),
            "UrlThanhToan": page_url(cashier, order),
        }
        return {"error_code": "0", "message": msgspec.json.encode(message).decode()}

    return await answered(cashier, On.BEGIN, merchant, say)


async def _question(request: Request, state: Parts, kind: str) -> tuple[PracticeMerchant, dict[str, str]] | Response:
    """Who asks about which order, or the refusal."""
    cashier: Cashier = state.cashier
    try:
        said = read_json(await request.body())
        fields = {name: text_of(said, name) for name in QUERY_SIGNED}
        merchant = _merchant_asking(cashier, request, fields["MaDoiTac"])
        if merchant is None:
            return Response({"MaLoi": "06", "MoTaLoi": "Không có đối tác này"})
        if not same(text_of(said, "MaXacThuc"), query_checksum(fields, merchant.secrets["checksum"])):
            return Response({"MaLoi": BAD_CHECKSUM, "MoTaLoi": "Mã xác thực không đúng"})
        expect((fields["LoaiBanTin"], fields["PhienBan"]), (kind, VERSION))
    except (ValueError, KeyError):
        return Response({"MaLoi": MALFORMED, "MoTaLoi": "Bản tin không đúng quy cách"})
    return merchant, fields


def _asked_about(cashier: Cashier, merchant: PracticeMerchant, fields: dict[str, str]) -> Order | None:
    """The order that a question names, by its reference and the time of its INIT, if it began with one."""
    order = cashier.find(merchant, fields["MaThamChieu"])
    return order if order is not None and order.facts["time"] in {"", fields["ThoiGianGD"]} else None


def _answer(merchant: PracticeMerchant, fields: dict[str, str], more: dict[str, str], twist: Twist) -> dict[str, str]:
    said = {"MaDoiTac": merchant.code, "MaThamChieu": fields["MaThamChieu"], "ThoiGianGD": fields["ThoiGianGD"], **more}
    return {**said, "MaXacThuc": answer_checksum(said, twist.secret(merchant.secrets["checksum"]))}


@post("/paygov/query", status_code=200)
async def query(request: Request, state: Parts) -> Response:
    """What came of a payment (QUERY)."""
    cashier: Cashier = state.cashier
    asked = await _question(request, state, "QUERY")
    if isinstance(asked, Response):
        return asked
    merchant, fields = asked

    def say(twist: Twist) -> dict[str, str]:
        order = _asked_about(cashier, merchant, fields)
        if order is None:
            return _answer(merchant, fields, {"MaLoi": ABSENT, "MoTaLoi": "Không có giao dịch này"}, twist)
        payment = order.paid
        failed = order.state in {State.FAILED, State.EXPIRED}
        more = {
            "MaLoi": CANCELLED if failed else OK,
            "MoTaLoi": "Không thành công" if failed else "Thành công",
            "SoTien": str(twist.amount(payment.amount if payment else order.amount)),
            "MaTienTe": "VND",
            "MaGiaoDich": payment.transaction if payment else "",
            "MaNganHang": "VCB",
            "ThongTinGiaoDich": order.about,
            "TrangThaiGD": PAID if payment else FAILED if failed else PENDING,
        }
        if payment:
            more["ThoiGianGD"] = compact_time(payment.at)
        return _answer(merchant, fields, more, twist)

    return await answered(cashier, On.INQUIRE, merchant, say)


@post("/paygov/bill", status_code=200)
async def bill(request: Request, state: Parts) -> Response:
    """The receipt of a payment as a PDF (GET_BILL)."""
    cashier: Cashier = state.cashier
    asked = await _question(request, state, "GET_BILL")
    if isinstance(asked, Response):
        return asked
    merchant, fields = asked

    def say(twist: Twist) -> dict[str, str]:
        order = _asked_about(cashier, merchant, fields)
        if order is None or order.paid is None:
            return _answer(merchant, fields, {"MaLoi": ABSENT, "MoTaLoi": "Chưa có biên lai"}, twist)
        more = {"MaLoi": OK, "MoTaLoi": "Thành công", "BienLai": base64.b64encode(_receipt(order, order.paid)).decode()}
        return _answer(merchant, fields, more, twist)

    return await answered(cashier, On.INQUIRE, merchant, say)


def _receipt(order: Order, payment: Payment) -> bytes:
    """A receipt that nobody can take for a real one, in signs that every PDF reader has a font for."""
    document = FPDF()
    document.add_page()
    document.set_font("Helvetica", size=12)
    for line in (
        "BIEN LAI THUC HANH - KHONG CO GIA TRI",
        f"Ma tham chieu: {order.reference}",
        f"Ma giao dich: {payment.transaction}",
        f"So tien: {payment.amount} VND",
        f"Thoi gian: {compact_time(payment.at)}",
    ):
        document.cell(text=line, new_x="LMARGIN", new_y="NEXT", h=8)
    return bytes(document.output())


# --- a payer who comes with a dossier code -------------------------------------------------------------------------


@get("/paygov/tra-cuu", opt={"page": True})
async def look_up_page() -> Response:
    """Where one types the code of a dossier."""
    return page("paying/look_up.html", dossier="", mistake="")


@post("/paygov/tra-cuu", status_code=200, opt={"page": True})
async def look_up(request: Request, state: Parts) -> Response:
    """Ask the merchant what is owed for a dossier, and go on to pay it."""
    cashier: Cashier = state.cashier
    dossier = (await form_of(request)).get("dossier", "").strip()
    merchant = next((one for one in cashier.merchants.values() if one.provider == PROVIDER), None)
    if merchant is None:
        return page("paying/look_up.html", dossier=dossier, mistake="Không có đơn vị thu phí nào nối với Paygov.")
    try:
        owed = await _owed(cashier, merchant, dossier)
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        owed = "Đơn vị thu phí không trả lời được lúc này."
    if isinstance(owed, str):
        return page("paying/look_up.html", dossier=dossier, mistake=owed)
    facts = {"time": "", "lines": owed.lines}
    return to_page(cashier.begin(merchant, owed.reference, owed.amount, about=owed.about, facts=facts))


class _Owed(Struct, frozen=True):
    """What a merchant says that somebody owes for a dossier."""

    reference: str
    amount: int
    about: str
    lines: list[tuple[str, int]]

    @classmethod
    def of(cls, said: dict[str, Any]) -> "_Owed":
        """The same out of the merchant's answer; raise ``ValueError``, ``KeyError`` or ``TypeError``."""
        amount = read_amount(said["SoTien"])
        reference = text_of(said, "MaThamChieu", "") or text_of(said, "MaTraCuuTT")
        about = text_of(said, "NoiDungThanhToan")
        return cls(reference, amount, about, lines_in(said, amount))


async def _owed(cashier: Cashier, merchant: PracticeMerchant, dossier: str) -> _Owed | str:
    """The bill of a dossier, or why there is none; raise what a bad answer or none raises."""
    fields = {
        "LoaiBanTin": "LOOKUP_BILL",
        "PhienBan": VERSION,
        "MaDoiTac": merchant.code,
        "MaHoSo": dossier.replace("|", " "),
        "ThoiGianGD": compact_time(cashier.now()),
    }
    proof = lookup_checksum(fields, merchant.secrets["checksum"])
    answer = await cashier.ask(_json(f"{cashier.hook(merchant)}/bills", {**fields, "MaXacThuc": proof}))
    said = read_json(answer)
    code = text_of(said, "error_code")
    if code != "1":
        return _NOT_A_DOSSIER.get(code, "Đơn vị thu phí từ chối câu hỏi.")
    return _Owed.of(said["message"])


ROUTES = (init, query, bill, look_up_page, look_up)
