"""House plates: the address code and its certificate, drawn as an A6 card for paper or metal.

A plate is laid out once, in millimetres, as a list of boxes and lines of text;
:func:`svg` and :func:`pdf` draw the same list.  The code is set as large as
the plate is wide (capital letters of about 13 mm), which is readable at 3 m;
nothing is told by colour alone.

Widths are those of Noto Sans.  The PDF embeds the letters it uses; the SVG asks
for a sans-serif face that is at hand and fixes the length of each line, so that
a wider face cannot run over the edge.
"""

import html
import io
import tempfile
import unicodedata
from collections.abc import Iterable
from datetime import UTC, date, datetime, time
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import pymupdf_fonts
import segno
from msgspec import Struct

from bkapp.address import codes

WIDTH, HEIGHT = 148.0, 105.0
QR_SIDE = 52.0
QUIET_ZONE = 4
LONGEST_FIELD = 200

_EDGE = 7.0
_QR_LEFT, _QR_TOP = WIDTH - _EDGE - QR_SIDE + 1.5, 39.0
_COLUMN = _QR_LEFT - _EDGE - 2.0
_COLUMN_TOP, _COLUMN_BOTTOM = 42.0, 81.0
_SMALLEST = 2.6
_LEADING = 1.28

_INK, _BLUE, _PAPER, _PALE = "#101418", "#0b3a82", "#ffffff", "#d9dde3"
_POINTS_PER_MM = 72 / 25.4
_REPLACEMENT = "\ufffd"
_FAMILY = "'Noto Sans', 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

# Letters that need no shaping: Latin with every Vietnamese letter, combining marks, punctuation, ₫, №.
_LETTERS = (
    *range(0x20, 0x7F),
    *range(0xA0, 0x250),
    *range(0x300, 0x370),
    *range(0x1E00, 0x1F00),
    *range(0x2010, 0x2028),
    *range(0x2030, 0x205F),
    0x20AB,
    0x2116,
    0xFFFD,
)

_NOTICES = {
    "proposed": "ĐỀ XUẤT – CHƯA CÓ HIỆU LỰC",
    "retired": "ĐÃ NGỪNG SỬ DỤNG",
    "rejected": "KHÔNG ĐƯỢC CẤP",
}
DEMO_NOTICE = "DỮ LIỆU THỬ"


class Plate(Struct, frozen=True, kw_only=True):
    """What is printed on a plate.

    ``code`` is nine digits, ``qr_text`` the link with the certificate, and
    ``check_url`` the page that a person without a camera types.
    """

    code: str
    unit_name: str
    province_name: str
    hamlet: str | None = None
    house_number: str | None = None
    street: str | None = None
    plus_code: str | None = None
    qr_text: str
    check_url: str
    issued_on: date
    issuer: str = "Sổ đăng ký địa chỉ số"
    status: str = "current"
    demo: bool = False


class _Line(Struct, frozen=True):
    x: float
    y: float
    size: float
    text: str
    bold: bool = False
    colour: str = _INK
    turned: float = 0.0


class _Box(Struct, frozen=True):
    x: float
    y: float
    width: float
    height: float
    radius: float = 0.0
    fill: str | None = None
    stroke: str | None = None
    stroke_width: float = 0.0


class _Face(Struct, frozen=True):
    data: bytes
    advances: dict[str, float]

    def width(self, text: str, size: float) -> float:
        return sum(self.advances[letter] for letter in text) * size


class _Block(Struct, frozen=True):
    """One paragraph of the left column and the size it may take at most (mm)."""

    text: str
    largest: float
    bold: bool = False


def svg(plate: Plate) -> str:
    """The plate as a self-contained SVG document of 148 x 105 mm.

    It uses presentation attributes only, so it also works under a content
    security policy that forbids inline styles.
    """
    title, description = _spoken(plate)
    head = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH:g}mm" height="{HEIGHT:g}mm" '
        f'viewBox="0 0 {WIDTH:g} {HEIGHT:g}" lang="vi" xml:lang="vi" role="img" aria-labelledby="title desc" '
        f'font-family="{_FAMILY}">\n'
        f'<title id="title">{html.escape(title)}</title>\n<desc id="desc">{html.escape(description)}</desc>\n'
    )
    shapes = "".join(_svg_box(shape) if isinstance(shape, _Box) else _svg_line(shape) for shape in _shapes(plate))
    matrix = _qr(plate)
    module = QR_SIDE / (len(matrix) + 2 * QUIET_ZONE)
    left, top = _QR_LEFT + QUIET_ZONE * module, _QR_TOP + QUIET_ZONE * module
    path = "".join(f"M{x} {y}h{length}v1h-{length}z" for y, x, length in _runs(matrix))
    return (
        f'{head}{shapes}<path id="qr" transform="translate({left:.4f} {top:.4f}) scale({module:.5f})" '
        f'shape-rendering="crispEdges" d="{path}"/>\n</svg>\n'
    )


def pdf(plate: Plate) -> bytes:
    """The plate as a one-page A6 PDF.  The same plate always gives the same bytes."""
    # Takes more than half a second to import, for something few requests ask for.
    from fpdf import FPDF  # noqa: PLC0415
    from fpdf.drawing import PaintedPath  # noqa: PLC0415
    from fpdf.drawing_primitives import DeviceGray  # noqa: PLC0415
    from fpdf.enums import PathPaintRule  # noqa: PLC0415
    from fpdf.prefs import ViewerPreferences  # noqa: PLC0415

    title, description = _spoken(plate)
    document = FPDF(orientation="landscape", unit="mm", format=(HEIGHT, WIDTH))
    document.set_margin(0)
    document.set_auto_page_break(False)
    document.set_title(title)
    document.set_subject(description)
    document.set_author(_clean(plate.issuer))
    document.set_lang("vi-VN")
    document.set_creation_date(datetime.combine(plate.issued_on, time(), UTC))
    document.viewer_preferences = ViewerPreferences(display_doc_title=True)
    # fpdf2 takes fonts from files only, and reads them until the document is finished.
    with tempfile.TemporaryDirectory(prefix="bkapp-plate-") as folder:
        for style, face in (("", _face(bold=False)), ("B", _face(bold=True))):
            file = Path(folder) / f"sans{style}.ttf"
            file.write_bytes(face.data)
            document.add_font("sans", style, file)
        document.add_page()
        for shape in _shapes(plate):
            if isinstance(shape, _Line):
                document.set_font("sans", "B" if shape.bold else "", shape.size * _POINTS_PER_MM)
                document.set_text_color(shape.colour)
                with document.rotation(-shape.turned, shape.x, shape.y):
                    document.text(shape.x, shape.y, shape.text)
                continue
            style = ("D" if shape.stroke else "") + ("F" if shape.fill else "")
            document.set_fill_color(shape.fill or _PAPER)
            document.set_draw_color(shape.stroke or _INK)
            document.set_line_width(shape.stroke_width)
            document.rect(
                shape.x,
                shape.y,
                shape.width,
                shape.height,
                style,
                round_corners=shape.radius > 0,
                corner_radius=shape.radius,
            )
        matrix = _qr(plate)
        module = QR_SIDE / (len(matrix) + 2 * QUIET_ZONE)
        left, top = _QR_LEFT + QUIET_ZONE * module, _QR_TOP + QUIET_ZONE * module
        # One path, filled at once: separate squares show hairlines between them on a screen.
        path = PaintedPath()
        path.style.paint_rule = PathPaintRule.FILL_NONZERO
        path.style.fill_color = DeviceGray(0)
        for y, x, length in _runs(matrix):
            path.rectangle(left + x * module, top + y * module, length * module, module)
        with document.drawing_context() as drawing:
            drawing.add_item(path, clone=False)
        return bytes(document.output())


def _shapes(plate: Plate) -> Iterable[_Box | _Line]:
    """Everything but the QR code, from back to front."""
    yield _Box(0, 0, WIDTH, HEIGHT, fill=_PAPER)
    if plate.demo:
        yield _Line(12, 90, 12.4, DEMO_NOTICE, bold=True, colour=_PALE, turned=-28)
    yield _Box(2.5, 2.5, WIDTH - 5, HEIGHT - 5, radius=3.5, stroke=_BLUE, stroke_width=1.2)
    yield _Box(2.5, 2.5, WIDTH - 5, 12.5, radius=3.5, fill=_BLUE)
    yield _Box(2.5, 9, WIDTH - 5, 6, fill=_BLUE)
    yield _Line(_EDGE, 11.2, 6.2, "ĐỊA CHỈ SỐ", bold=True, colour=_PAPER)
    yield _right("DIGITAL ADDRESS", 11.0, 4.4, colour=_PAPER)
    if plate.demo:
        # In words and in the head as well, because a copier may lose the pale letters behind the text.
        width = _face(bold=True).width(DEMO_NOTICE, 4.6)
        yield _Box(49, 5.4, width + 6, 7.4, radius=1, fill=_PAPER)
        yield _Line(52, 10.8, 4.6, DEMO_NOTICE, bold=True)

    code = codes.display(plate.code)
    size = (WIDTH - 2 * _EDGE) / _face(bold=True).width(code, 1)
    yield _Line(_EDGE, 33.4, size, code, bold=True)

    yield from _column(plate)

    dated = f"Cấp ngày {plate.issued_on:%d/%m/%Y}"
    dated += f" · Plus Code {_clean(plate.plus_code)}" if plate.plus_code else ""
    yield _fitted(dated, 85.4, _COLUMN, 3.4)
    yield _fitted(_clean(plate.issuer), 90.0, _COLUMN, 3.4)
    yield _Box(_QR_LEFT, _QR_TOP, QR_SIDE, QR_SIDE, fill=_PAPER)
    yield _Box(_EDGE, 92.6, WIDTH - 2 * _EDGE, 0.4, fill=_BLUE)
    where = urlsplit(plate.check_url)
    page = _clean(f"Quét để kiểm tra · check at {where.netloc}{where.path}")
    yield _fitted(page, 98.4, WIDTH - 2 * _EDGE, 4.1, bold=True)


def _column(plate: Plate) -> Iterable[_Box | _Line]:
    """The state of the address if it is not in use, and the address in words, as large as they fit."""
    top = _COLUMN_TOP
    if notice := _NOTICES.get(plate.status):
        width = _face(bold=True).width(notice, 4.6)
        yield _Box(_EDGE, top - 0.5, width + 5, 7.2, radius=1, fill=_INK)
        yield _Line(_EDGE + 2.5, top + 4.75, 4.6, notice, bold=True, colour=_PAPER)
        top += 8.5
    blocks = [block for block in _blocks(plate) if block.text]
    scale = 1.0
    while True:
        placed = [(block, *_set(block, scale)) for block in blocks]
        height = sum(size * _LEADING * len(lines) for _, size, lines in placed)
        if height <= _COLUMN_BOTTOM - top:
            break
        scale *= 0.95
    # What is left over goes above and below, so that a short address sits beside the middle of the QR code.
    y = top + (_COLUMN_BOTTOM - top - height) / 2
    for block, size, lines in placed:
        for line in lines:
            y += size * _LEADING
            yield _Line(_EDGE, y - size * 0.3, size, line, bold=block.bold)


def _blocks(plate: Plate) -> list[_Block]:
    number = _clean(plate.house_number or "")
    if number[:1].isdigit():
        number = f"Số {number}"
    house = ", ".join(part for part in (number, _clean(plate.street or "")) if part)
    return [
        _Block(house, 6.2),
        _Block(_clean(plate.hamlet or ""), 8.6, bold=True),
        _Block(_clean(plate.unit_name), 7.4, bold=True),
        _Block(_clean(plate.province_name), 5.6),
    ]


def _set(block: _Block, scale: float) -> tuple[float, list[str]]:
    """The size and lines of a block: one line if it stays large, else two, else cut with an ellipsis."""
    face = _face(bold=block.bold)
    largest = block.largest * scale
    smallest = min(_SMALLEST, largest)
    one = _COLUMN / face.width(block.text, 1)
    if one >= 0.75 * largest:
        return min(one, largest), [block.text]
    size = largest
    while size > smallest:
        lines = _wrap(block.text, size, face)
        if len(lines) <= 2 and all(face.width(line, size) <= _COLUMN for line in lines):
            return size, lines
        size *= 0.96
    first, *others = _wrap(block.text, smallest, face)
    return smallest, [_cut(line, smallest, _COLUMN, face) for line in (first, " ".join(others)) if line]


def _wrap(text: str, size: float, face: _Face) -> list[str]:
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and face.width(longer, size) > _COLUMN:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _cut(text: str, size: float, room: float, face: _Face) -> str:
    if face.width(text, size) <= room:
        return text
    while text and face.width(f"{text}…", size) > room:
        text = text[:-1]
    return f"{text}…"


def _fitted(text: str, y: float, room: float, largest: float, *, bold: bool = False) -> _Line:
    """One line from the left edge, shrunk to the room it has, then cut."""
    face = _face(bold=bold)
    size = max(min(largest, room / max(face.width(text, 1), 1.0)), _SMALLEST)
    return _Line(_EDGE, y, size, _cut(text, size, room, face), bold=bold)


def _right(text: str, y: float, size: float, colour: str) -> _Line:
    return _Line(WIDTH - _EDGE - _face(bold=False).width(text, size), y, size, text, colour=colour)


def _clean(text: str) -> str:
    """One line of letters the plate can print.

    Control and direction marks go; a letter Noto Sans lacks becomes �, so that
    whoever checks the proof sees that something is missing.
    """
    known = _face(bold=True).advances.keys() & _face(bold=False).advances.keys()
    kept: list[str] = []
    marks = 0
    for letter in unicodedata.normalize("NFC", " ".join(text.split())):
        category = unicodedata.category(letter)
        marks = marks + 1 if category == "Mn" else 0
        # More than two marks on one letter is no language but a tower that runs over its neighbours.
        if category in {"Cc", "Cf", "Cs"} or marks > 2:
            continue
        kept.append(letter if letter in known else _REPLACEMENT)
        if len(kept) > LONGEST_FIELD:
            return "".join(kept[:LONGEST_FIELD]).rstrip() + "…"
    return " ".join("".join(kept).split())


def _spoken(plate: Plate) -> tuple[str, str]:
    """Title and description for those who cannot see the plate."""
    title = f"Biển địa chỉ số {codes.display(plate.code)}"
    notices = [DEMO_NOTICE] if plate.demo else []
    notices += [_NOTICES[plate.status]] if plate.status in _NOTICES else []
    words = ", ".join(block.text for block in _blocks(plate) if block.text)
    dated = f"Cấp ngày {plate.issued_on:%d/%m/%Y}. Mã QR để kiểm tra tại {_clean(plate.check_url)}"
    return title, ". ".join([*notices, words, dated])


def _svg_box(box: _Box) -> str:
    radius = f' rx="{box.radius:g}"' if box.radius else ""
    stroke = f' stroke="{box.stroke}" stroke-width="{box.stroke_width:g}"' if box.stroke else ""
    return (
        f'<rect x="{box.x:g}" y="{box.y:.2f}" width="{box.width:.2f}" height="{box.height:.2f}"{radius} '
        f'fill="{box.fill or "none"}"{stroke}/>\n'
    )


def _svg_line(line: _Line) -> str:
    length = _face(bold=line.bold).width(line.text, line.size)
    weight = ' font-weight="700"' if line.bold else ""
    turned = f' transform="rotate({line.turned:g} {line.x:g} {line.y:g})"' if line.turned else ""
    return (
        f'<text x="{line.x:.2f}" y="{line.y:.2f}" font-size="{line.size:.2f}" textLength="{length:.2f}" '
        f'lengthAdjust="spacingAndGlyphs" fill="{line.colour}"{weight}{turned}>{html.escape(line.text)}</text>\n'
    )


def _qr(plate: Plate) -> tuple[bytearray, ...]:
    """The modules of the QR code without its quiet zone; raises ValueError if the text is too long for one."""
    # M withstands 15 % of damage; a higher level would make the squares of a certificate too small to scan.
    return segno.make_qr(plate.qr_text, error="M", encoding="utf-8").matrix


def _runs(matrix: tuple[bytearray, ...]) -> Iterable[tuple[int, int, int]]:
    """The dark runs of each row, as (row, first column, length)."""
    for y, row in enumerate(matrix):
        x = 0
        while x < len(row):
            length = 0
            while x + length < len(row) and row[x + length]:
                length += 1
            if length:
                yield y, x, length
            x += length + 1


@cache
def _face(*, bold: bool) -> _Face:
    """Noto Sans reduced to the letters a plate can need: reading the whole font costs ten times as much."""
    # Slow to import, as fpdf2 is.
    from fontTools import subset  # type: ignore[import-untyped]  # noqa: PLC0415
    from fontTools.ttLib import TTFont  # type: ignore[import-untyped]  # noqa: PLC0415

    font = TTFont(io.BytesIO(pymupdf_fonts.myfont("notosbo" if bold else "notos")), recalcTimestamp=False, lazy=True)
    options = subset.Options(layout_features=[], hinting=False, notdef_outline=True)
    options.drop_tables += ["TTFA"]  # hinting instructions of another tool
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=_LETTERS)
    subsetter.subset(font)
    metrics, units = font["hmtx"].metrics, font["head"].unitsPerEm
    advances = {chr(point): metrics[name][0] / units for point, name in font.getBestCmap().items()}
    out = io.BytesIO()
    font.save(out)
    return _Face(out.getvalue(), advances)
