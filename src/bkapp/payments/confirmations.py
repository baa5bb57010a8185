"""The confirmation that a bill was paid (Giấy xác nhận thanh toán): amounts in words, a page to print, a code to check.

It is no tax receipt (biên lai điện tử), and says so.  Its QR code leads to a public page, which tells whether it is
genuine and whether the money was given back since, and nobody's name.  Pure: no clock, no database, no keys.
"""

import base64
import hmac
import re
import tempfile
import unicodedata
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pymupdf_fonts
import segno
from msgspec import Struct

from bkapp.errors import DomainError
from bkapp.payments.rules import FeeKind

KINDS = {FeeKind.FEE: "Phí", FeeKind.CHARGE: "Lệ phí", FeeKind.DELIVERY: "Cước bưu chính"}
TITLE = "Giấy xác nhận thanh toán"
DISCLAIMER = (
    "Giấy này xác nhận khoản phải nộp trên đã được thanh toán, không thay thế biên lai điện tử thu phí, lệ phí do cơ "
    "quan thu phát hành."
)
DEMO_NOTICE = "DỮ LIỆU THỬ"
MOST_AMOUNT = 999_999_999_999
MOST_LINES = 7

_HANOI = ZoneInfo("Asia/Ho_Chi_Minh")
_TOKEN = re.compile(r"([1-9][0-9]{0,17})-([A-Z2-7]{16})")
_MARGIN, _LABELS, _QR_SIDE, _QUIET_ZONE = 18.0, 44.0, 44.0, 4  # mm; the last in modules
_INK, _BLUE, _GREY, _PALE = "#101418", "#0b3a82", "#4a5360", "#d9dde3"
_REPLACEMENT = "\ufffd"


class NotPaid(DomainError):
    """There is nothing to confirm: the bill is not paid."""

    code = "bill_not_paid"
    title = "Khoản này chưa được thanh toán"


class Part(Struct, frozen=True):
    """A line of what was paid."""

    kind: FeeKind
    name: str
    amount: int


class Confirmation(Struct, frozen=True, kw_only=True):
    """What is confirmed.

    ``number`` is the receipt's; ``reference`` names our attempt and ``transaction`` the provider's or the bank's;
    ``refunded`` is how much of it was given back.  ``payer`` is None where nobody told a name.
    """

    number: int
    amount: int
    parts: Sequence[Part]
    bill_code: str
    description: str
    procedure_name: str
    dossier_code: str | None
    agency: str
    account: str
    account_name: str
    treasury: str | None
    paid_at: datetime
    method: str
    reference: str | None
    transaction: str | None
    payer: str | None
    refunded: int = 0
    check_url: str
    demo: bool = False


# --- amounts ----------------------------------------------------------------------------------------------------


def money(amount: int) -> str:
    """An amount as it is written here: ``1.250.000 đồng``."""
    return f"{amount:,}".replace(",", ".") + " đồng"


def in_words(amount: int) -> str:
    """An amount as it is read out: ``Một triệu hai trăm năm mươi nghìn đồng``; from 0 to 999 tỷ."""
    if not 0 <= amount <= MOST_AMOUNT:
        raise ValueError("Amounts are read from 0 to 999 999 999 999 đồng.")
    said: list[str] = []
    for scale, name in ((10**9, "tỷ"), (10**6, "triệu"), (10**3, "nghìn"), (1, "")):
        group = amount // scale % 1000
        if group:
            said += [*_three(group, whole=bool(said)), name]
    words = " ".join(word for word in said or ["không"] if word)
    return f"{words[0].upper()}{words[1:]} đồng"


_DIGITS = ("không", "một", "hai", "ba", "bốn", "năm", "sáu", "bảy", "tám", "chín")


def _three(group: int, *, whole: bool) -> list[str]:
    """Three digits; ``whole`` also where the first are zeros, because others were read before them."""
    hundreds, tens, ones = group // 100, group // 10 % 10, group % 10
    words = [_DIGITS[hundreds], "trăm"] if hundreds or whole else []
    if tens == 0:
        if ones:
            words += ["linh", _DIGITS[ones]] if words else [_DIGITS[ones]]
        return words
    words += ["mười"] if tens == 1 else [_DIGITS[tens], "mươi"]
    if ones == 1 and tens > 1:
        words.append("mốt")
    elif ones == 5:
        words.append("lăm")
    elif ones:
        words.append(_DIGITS[ones])
    return words


def moment(at: datetime) -> str:
    """A time as a confirmation tells it, in Hà Nội."""
    return f"{at.astimezone(_HANOI):%H:%M:%S ngày %d/%m/%Y}"


# --- the code in the link ---------------------------------------------------------------------------------------

MacOf = Callable[[str], bytes]
"""What only we can make of a text: ``Keyring.lookup("receipt", text)``."""


def token(number: int, mac_of: MacOf) -> str:
    """What the link of a confirmation ends with: the receipt's number, and 80 bits that nobody guesses."""
    return f"{number}-{base64.b32encode(mac_of(str(number))[:10]).decode()}"


def number_of(text: str, mac_of: MacOf) -> int | None:
    """The receipt's number, if the token is one of ours.  Small letters will do: some type it from paper."""
    found = _TOKEN.fullmatch(text.upper())
    if found is None:
        return None
    number = int(found[1])
    return number if hmac.compare_digest(token(number, mac_of), text.upper()) else None


def masked(code: str) -> str:
    """A dossier's code for everybody's eyes: its end, enough to compare with the one in hand and to find nothing by."""
    kept = min(4, len(code) // 3)
    return (
        "".join("•" if letter.isalnum() else letter for letter in code[: len(code) - kept]) + code[len(code) - kept :]
    )


# --- the page ---------------------------------------------------------------------------------------------------


def pdf(confirmation: Confirmation) -> bytes:
    """The confirmation on one A4 page.  The same confirmation always gives the same bytes."""
    # Takes more than half a second to import, for something few requests ask for.
    from fpdf import FPDF  # noqa: PLC0415
    from fpdf.prefs import ViewerPreferences  # noqa: PLC0415

    document = FPDF(format="A4")
    document.set_margin(_MARGIN)
    document.set_auto_page_break(False)
    document.set_title(f"{TITLE} {confirmation.number:07d}")
    document.set_subject(f"{money(confirmation.amount)}, {moment(confirmation.paid_at)}")
    document.set_lang("vi-VN")
    document.set_creation_date(confirmation.paid_at)
    document.viewer_preferences = ViewerPreferences(display_doc_title=True)
    # fpdf2 takes fonts from files only, and reads them until the document is finished.
    with tempfile.TemporaryDirectory(prefix="bkapp-confirmation-") as folder:
        for style, name in (("", "notos"), ("B", "notosbo")):
            file = Path(folder) / f"sans{style}.ttf"
            file.write_bytes(pymupdf_fonts.myfont(name))
            document.add_font("sans", style, file)
        faces: Any = document.fonts
        document.add_page()
        _draw(_Page(document, faces["sans"].cmap.keys() & faces["sansB"].cmap.keys()), confirmation)
        return bytes(document.output())


class _Page(Struct, frozen=True):
    """The page that is written down, from the top, and the letters that its faces have."""

    document: Any
    known: Collection[int]


def _write(
    page: _Page,
    text: str,
    size: float,
    *,
    left: float = _MARGIN,
    width: float = 0,
    bold: bool = False,
    colour: str = _INK,
    lines: int = 2,
    align: str = "L",
) -> float:
    """Write a text from here on, in a few lines at the most; return where it ends."""
    document = page.document
    document.set_font("sans", "B" if bold else "", size)
    document.set_text_color(colour)
    width = width or document.w - _MARGIN - left
    found: list[str] = document.multi_cell(width, size * 0.5, _clean(text, page.known), dry_run=True, output="LINES")
    if len(found) > lines:
        found = [*found[: lines - 1], _cut(document, " ".join(found[lines - 1 :]), width)]
    top = document.get_y()
    for number, line in enumerate(found):
        document.set_xy(left, top + number * size * 0.5)
        document.cell(width, size * 0.5, line, align=align)
    return float(top + len(found) * size * 0.5)


def _cut(document: Any, text: str, width: float) -> str:
    while text and document.get_string_width(f"{text}…") > width - 2.5:
        text = text[:-1]
    return f"{text.rstrip()}…"


def _clean(text: str, known: Collection[int]) -> str:
    """One line of letters the font has: the writer of PDFs would log those it lacks, which are of somebody's data."""
    kept = [
        letter if ord(letter) in known else _REPLACEMENT
        for letter in unicodedata.normalize("NFC", " ".join(text.split()))
        if unicodedata.category(letter) not in {"Cc", "Cf", "Cs"}
    ]
    return "".join(kept)


def _draw(page: _Page, confirmation: Confirmation) -> None:
    document = page.document
    if confirmation.demo:
        with document.rotation(32, 40, 190):
            document.set_xy(30, 180)
            _write(page, DEMO_NOTICE, 60, left=30, width=150, bold=True, colour=_PALE)
    document.set_fill_color(_BLUE)
    document.rect(0, 0, document.w, 3, "F")
    document.set_y(14)
    document.set_y(_write(page, TITLE.upper(), 20, bold=True, colour=_BLUE) + 1)
    notice = f" · {DEMO_NOTICE}" if confirmation.demo else ""
    document.set_y(
        _write(page, f"Số {confirmation.number:07d} · Mã {confirmation.bill_code}{notice}", 11, bold=True) + 4
    )
    for label, value in _facts(confirmation):
        top = document.get_y()
        _write(page, label, 10, width=_LABELS, colour=_GREY, lines=1)
        document.set_y(top)
        document.set_y(_write(page, value, 10.5, left=_MARGIN + _LABELS) + 1.6)
    document.ln(3)
    _table(page, confirmation)
    document.set_y(_write(page, f"Bằng chữ: {in_words(confirmation.amount)}.", 11) + 3)
    if confirmation.refunded:
        rest = " toàn bộ" if confirmation.refunded == confirmation.amount else ""
        text = f"Đã hoàn trả{rest} cho người nộp: {money(confirmation.refunded)}."
        document.set_y(_write(page, text, 11, bold=True) + 3)
    document.ln(3)
    top = document.get_y()
    _qr(document, confirmation.check_url, _MARGIN, top)
    beside = _MARGIN + _QR_SIDE + 6
    document.set_y(top + 3)
    document.set_y(_write(page, "Quét mã để kiểm tra giấy này", 11, left=beside, bold=True) + 1)
    document.set_y(_write(page, confirmation.check_url, 9, left=beside, lines=3) + 3)
    _write(page, DISCLAIMER, 9.5, left=beside, colour=_GREY, lines=5)


def _facts(confirmation: Confirmation) -> Iterable[tuple[str, str]]:
    if confirmation.payer:
        yield "Người nộp", confirmation.payer
    yield "Nội dung", confirmation.description
    yield "Thủ tục", confirmation.procedure_name
    if confirmation.dossier_code:
        yield "Mã hồ sơ", confirmation.dossier_code
    yield "Cơ quan thu", confirmation.agency
    at = f", {confirmation.treasury}" if confirmation.treasury else ""
    yield "Tài khoản", f"{confirmation.account} – {confirmation.account_name}{at}"
    yield "Thời điểm", f"{moment(confirmation.paid_at)} (giờ Hà Nội)"
    yield "Cách nộp", confirmation.method
    if confirmation.reference:
        yield "Lần thanh toán", confirmation.reference
    if confirmation.transaction:
        yield "Mã giao dịch", confirmation.transaction


def _table(page: _Page, confirmation: Confirmation) -> None:
    """The fee lines and their sum; those beyond :data:`MOST_LINES` in one."""
    parts = list(confirmation.parts)
    shown = [(f"{KINDS[part.kind]}: {part.name}", part.amount) for part in parts[:MOST_LINES]]
    if len(parts) > MOST_LINES:
        rest = parts[MOST_LINES - 1 :]
        shown[MOST_LINES - 1] = (f"{len(rest)} khoản khác", sum(part.amount for part in rest))
    document = page.document
    sums = 42.0
    left = document.w - _MARGIN - sums
    document.set_draw_color(_GREY)
    for name, amount, bold in [*((name, amount, False) for name, amount in shown), ("Tổng", confirmation.amount, True)]:
        top = document.get_y()
        document.line(_MARGIN, top, document.w - _MARGIN, top)
        document.set_y(top + 1.5)
        end = _write(page, name, 11, width=left - _MARGIN, bold=bold, lines=2 if len(shown) < 5 else 1)
        document.set_y(top + 1.5)
        _write(page, money(amount), 11, left=left, width=sums, bold=bold, align="R")
        document.set_y(end + 1.5)
    top = document.get_y()
    document.line(_MARGIN, top, document.w - _MARGIN, top)
    document.set_y(top + 3)


def _qr(document: Any, text: str, left: float, top: float) -> None:
    """A QR code with its quiet zone, as one path: separate squares show hairlines between them on a screen."""
    from fpdf.drawing import PaintedPath  # noqa: PLC0415
    from fpdf.drawing_primitives import DeviceGray  # noqa: PLC0415
    from fpdf.enums import PathPaintRule  # noqa: PLC0415

    matrix = segno.make_qr(text, error="M").matrix
    module = _QR_SIDE / (len(matrix) + 2 * _QUIET_ZONE)
    path = PaintedPath()
    path.style.paint_rule = PathPaintRule.FILL_NONZERO
    path.style.fill_color = DeviceGray(0)
    document.set_fill_color("#ffffff")
    document.rect(left, top, _QR_SIDE, _QR_SIDE, "F")
    for y, row in enumerate(matrix):
        for x, dark in enumerate(row):
            if dark:
                path.rectangle(left + (x + _QUIET_ZONE) * module, top + (y + _QUIET_ZONE) * module, module, module)
    with document.drawing_context() as drawing:
        drawing.add_item(path, clone=False)
