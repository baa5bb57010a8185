"""What a person takes with them of their data: the parts of an export, and the same as a PDF to read.

The JSON is for programs and holds everything; the PDF says the same in Vietnamese, with the newest :data:`MOST_ROWS` of
a part that has many.
"""

import tempfile
import unicodedata
from collections.abc import Collection, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pymupdf_fonts
from msgspec import Struct

MOST_ROWS = 200
_HANOI = ZoneInfo("Asia/Ho_Chi_Minh")
_MARGIN = 18.0  # mm
_REPLACEMENT = "\ufffd"
# Fields that hold words of ours: codes in the JSON, Vietnamese in the PDF.
_OF_CODES = frozenset(
    {"kind", "role", "status", "source", "channel", "withdrawn_channel", "end_reason", "outcome", "about"}
    | {"place", "reason"}
)
_CODES: Mapping[str, str] = {
    "browser": "trình duyệt",
    "native": "ứng dụng",
    "signed_out": "đã đăng xuất",
    "remote": "đăng xuất từ thiết bị khác",
    "everywhere": "đăng xuất mọi nơi",
    "provider": "đăng xuất ở nhà cung cấp",
    "reuse": "mã đăng nhập bị dùng lại",
    "renewed": "đăng nhập lại",
    "head": "chủ hộ",
    "member": "thành viên",
    "citizen": "người dân",
    "officer": "cán bộ",
    "monitor": "giám sát",
    "admin": "quản lý dữ liệu",
    "population": "Cơ sở dữ liệu quốc gia về dân cư",
    "invitation": "lời mời của chủ hộ",
    "waiting": "đang chờ",
    "active": "đang có hiệu lực",
    "ended": "đã kết thúc",
    "confirmed": "đã xác nhận",
    "refused": "bị từ chối",
    "withdrawn": "đã rút",
    "found": "tìm thấy",
    "not_found": "không tìm thấy",
    "mismatch": "thông tin không khớp",
    "unavailable": "không trả lời",
    "web": "trang web",
    "app": "ứng dụng",
    "office": "tại cơ quan",
    "received": "đã nhận",
    "acknowledged": "đang giải quyết",
    "running": "đang xử lý",
    "done": "đã xong",
    "failed": "không thành công",
    "new_device": "đăng nhập trên thiết bị mới",
    "token_reused": "mã đăng nhập bị dùng lại",
    "data_request": "yêu cầu về dữ liệu cá nhân",
    "membership_ended": "không còn là thành viên hộ",
    "person": "bản thân",
    "household": "hộ gia đình",
    "sign_in": "đăng nhập",
    "sign_out": "đăng xuất",
    "signed_out_everywhere": "đăng xuất mọi nơi",
    "device_signed_out": "đăng xuất một thiết bị",
    "provider_sign_out": "đăng xuất ở nhà cung cấp",
    "consent_given": "đồng ý",
    "consent_withdrawn": "rút lại sự đồng ý",
    "data_exported": "tải dữ liệu cá nhân",
    "phone_changed": "đổi số điện thoại",
    "restriction_lifted": "bỏ hạn chế xử lý",
    "request_received": "nhận yêu cầu về dữ liệu",
    "request_acknowledged": "báo đã nhận yêu cầu",
    "request_extended": "gia hạn yêu cầu",
    "request_done": "giải quyết xong yêu cầu",
    "request_refused": "từ chối yêu cầu",
    "address_claimed": "đề nghị nhận địa chỉ",
    "address_claim_withdrawn": "rút đề nghị nhận địa chỉ",
    "member_invited": "mời vào hộ",
    "invitation_accepted": "nhận lời mời vào hộ",
    "invitation_revoked": "hủy lời mời vào hộ",
    "membership_confirmed": "xác nhận thành viên hộ",
    "membership_refused": "không chấp nhận thành viên hộ",
    "address_claim_confirmed": "xác nhận địa chỉ",
    "address_claim_refused": "không chấp nhận địa chỉ",
    "open": "chưa nộp",
    "paid": "đã nộp",
    "cancelled": "đã hủy",
    "fee": "phí",
    "charge": "lệ phí",
    "delivery": "cước bưu chính",
    "created": "vừa bắt đầu",
    "unknown": "chưa rõ kết quả",
    "pending": "chờ kết quả",
    "expired": "hết hạn",
    "succeeded": "thành công",
    "approved": "đã duyệt",
    "rejected": "không hoàn",
    "applied": "khoản phải nộp",
    "suspense": "tài khoản chờ xử lý",
    "reversed": "đã hủy ghi nhận",
    "duplicate": "trả hai lần",
    "amount": "sai số tiền",
    "closed_bill": "tiền đến sau khi khoản phải nộp đã hủy",
    "refund_failed": "hoàn tiền không thành công",
    "bill_paid": "đã nộp xong một khoản",
    "money_suspended": "tiền đang chờ xử lý",
    "refund_succeeded": "đã hoàn tiền",
    "bill_issued": "lập khoản phải nộp",
    "bill_cancelled": "hủy khoản phải nộp",
    "receipt_applied": "ghi tiền vào khoản phải nộp",
    "refund_requested": "đề nghị hoàn tiền",
    "refund_approved": "duyệt hoàn tiền",
    "refund_rejected": "không hoàn tiền",
    "refund_transferred": "chuyển khoản hoàn tiền",
    "payment_case_closed": "xử lý xong vụ việc về tiền",
    "office_granted": "giao chức vụ",
    "office_ended": "thôi chức vụ",
}
_INK, _BLUE, _GREY = "#101418", "#0b3a82", "#4a5360"


class Part(Struct, frozen=True, kw_only=True):
    """A kind of data that is held: what it is, on what ground, what its fields mean, and the rows themselves.

    ``fields`` maps the names of the rows' fields to Vietnamese words.
    """

    id: str
    title: str
    note: str
    basis: str
    fields: dict[str, str]
    rows: list[dict[str, Any]]


class Export(Struct, frozen=True, kw_only=True):
    """Everything that is held about a person, at one moment."""

    title: str
    note: str
    generated_at: datetime
    person: str
    parts: list[Part]


def pdf(export: Export) -> bytes:
    """The export as an A4 document whose title and language are set and whose parts are bookmarks."""
    # Takes more than half a second to import, for something few requests ask for.
    from fpdf import FPDF  # noqa: PLC0415
    from fpdf.prefs import ViewerPreferences  # noqa: PLC0415

    document = FPDF(format="A4")
    document.set_margin(_MARGIN)
    document.set_auto_page_break(auto=True, margin=_MARGIN)
    document.set_title(export.title)
    document.set_subject(export.note)
    document.set_lang("vi-VN")
    document.set_creation_date(export.generated_at)
    document.viewer_preferences = ViewerPreferences(display_doc_title=True)
    # fpdf2 takes fonts from files only, and reads them until the document is finished.
    with tempfile.TemporaryDirectory(prefix="bkapp-export-") as folder:
        for style, name in (("", "notos"), ("B", "notosbo")):
            file = Path(folder) / f"sans{style}.ttf"
            file.write_bytes(pymupdf_fonts.myfont(name))
            document.add_font("sans", style, file)
        faces: Any = document.fonts
        known = faces["sans"].cmap.keys() & faces["sansB"].cmap.keys()
        document.add_page()
        _write(document, known, export.title, 18, bold=True, colour=_BLUE, space=4)
        _write(document, known, f"Lập lúc {_shown(export.generated_at)}. {export.note}", 10, colour=_GREY, space=3)
        for part in export.parts:
            _part(document, known, part)
        return bytes(document.output())


def _part(document: Any, known: Collection[int], part: Part) -> None:
    if document.will_page_break(40):
        document.add_page()
    document.ln(4)
    document.start_section(_clean(part.title, known))
    _write(document, known, part.title, 14, bold=True, colour=_BLUE, space=1)
    _write(document, known, f"{part.note} Căn cứ: {part.basis}.", 9, colour=_GREY, space=2)
    if not part.rows:
        _write(document, known, "Không có dữ liệu.", 10.5, space=1)
    for row in part.rows[:MOST_ROWS]:
        lines = [
            f"{words}: {_said(name, row[name])}" for name, words in part.fields.items() if row.get(name) is not None
        ]
        _write(document, known, " · ".join(lines), 10.5, space=1.5)
    if len(part.rows) > MOST_ROWS:
        rest = len(part.rows) - MOST_ROWS
        _write(document, known, f"Còn {rest} dòng cũ hơn trong tệp JSON.", 10.5, bold=True, space=1)


def _write(
    document: Any,
    known: Collection[int],
    text: str,
    size: float,
    *,
    bold: bool = False,
    colour: str = _INK,
    space: float = 0,
) -> None:
    document.set_font("sans", "B" if bold else "", size)
    document.set_text_color(colour)
    document.multi_cell(0, size * 0.5, _clean(text, known), align="L", new_x="LMARGIN", new_y="NEXT")
    document.ln(space)


def _said(name: str, value: Any) -> str:
    """A field of a row, in Vietnamese where it holds a word of ours."""
    return _CODES.get(value, value) if name in _OF_CODES and isinstance(value, str) else _shown(value)


def _shown(value: Any) -> str:
    """A value as people here write it."""
    match value:
        case bool():
            return "có" if value else "không"
        case datetime():
            return f"{value.astimezone(_HANOI):%H:%M ngày %d/%m/%Y}"
        case date():
            return f"{value:%d/%m/%Y}"
        case dict():
            return ", ".join(f"{name} {_shown(each)}" for name, each in value.items())
        case list() | tuple():
            return ", ".join(_shown(each) for each in value)
        case _:
            return str(value)


def _clean(text: str, known: Collection[int]) -> str:
    """One line of letters the font has: the writer of PDFs would log those it lacks, which are of somebody's data."""
    kept = [
        letter if ord(letter) in known else _REPLACEMENT
        for letter in unicodedata.normalize("NFC", " ".join(text.split()))
        if unicodedata.category(letter) not in {"Cc", "Cf", "Cs"}
    ]
    return "".join(kept)
