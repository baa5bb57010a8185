"""Plates say what they were given, in print and on screen, whatever they were given."""

import io
import re
import unicodedata
import xml.etree.ElementTree as ET
from datetime import date
from typing import Any

import msgspec
import pytest
import segno
from hypothesis import given, settings
from hypothesis import strategies as st
from pypdf import PdfReader

from bkapp.address.plates import DEMO_NOTICE, HEIGHT, QR_SIDE, QUIET_ZONE, WIDTH, Plate, pdf, svg

# As long as the link with a certificate is.
QR_TEXT = "https://bkapp.example/c/482719346?v=" + "eyJhbGciOiJFZERTQSIsImtpZCI6IjIw." * 12
PLATE = Plate(
    code="482719346",
    unit_name="Xã Ngân Sơn",
    province_name="Tỉnh Thái Nguyên",
    hamlet="Thôn Nà Ít",
    house_number="12A/3",
    street="Đường Trường Chinh",
    plus_code="7PH74RWM+RR",
    qr_text=QR_TEXT,
    check_url="https://bkapp.example/c/482719346",
    issued_on=date(2025, 8, 2),
    issuer="Ủy ban nhân dân xã Ngân Sơn",
)
SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = [
    "<script>alert(1)</script>",
    "]]><!--&lt;&amp; \"'",
    "Ngữ Nghĩa " * 50,
    "x" * 500,
    "ữ" * 500,
    "🏠 nhà 👨‍👩‍👧‍👦",
    "\u202etxet desrever\u202c עברית العربية",
    "a\x00b\x07c\x1b[31m\ud800\ufffe\uffff",
    "Z" + "\u0301" * 200 + "algo",
    "line one\nline two\r\n\tthree",
    "",
    " \u200b\u00ad ",
    "{{ 7 * 7 }} %s {0}",
]


def plate(**changes: Any) -> Plate:
    return msgspec.structs.replace(PLATE, **changes)


def texts(document: str) -> list[str]:
    """The lines of text of an SVG plate."""
    return ["".join(line.itertext()) for line in ET.fromstring(document).iter(f"{SVG}text")]  # noqa: S314  our own


def matrix(document: str) -> list[list[int]]:
    """The QR code as it is drawn, in modules, without its quiet zone."""
    path = ET.fromstring(document).find(f"{SVG}path[@id='qr']")  # noqa: S314  our own
    assert path is not None
    runs = [tuple(map(int, run)) for run in re.findall(r"M(\d+) (\d+)h(\d+)v1h-\3z", path.attrib["d"])]
    assert "".join(f"M{x} {y}h{n}v1h-{n}z" for x, y, n in runs) == path.attrib["d"]
    side = max(y for _, y, _ in runs) + 1
    rows = [[0] * side for _ in range(side)]
    for x, y, length in runs:
        rows[y][x : x + length] = [1] * length
    return rows


def words(document: bytes) -> str:
    return " ".join(PdfReader(io.BytesIO(document)).pages[0].extract_text().split())


class TestSvg:
    def test_it_is_an_a6_card_lying_down(self) -> None:
        root = ET.fromstring(svg(PLATE))  # noqa: S314  our own

        assert (root.attrib["width"], root.attrib["height"]) == ("148mm", "105mm")
        assert root.attrib["viewBox"] == "0 0 148 105"

    def test_it_says_the_address_in_words_that_can_be_read_and_copied(self) -> None:
        lines = texts(svg(PLATE))

        assert "BK 482 719 346" in lines
        for expected in (
            "Số 12A/3, Đường Trường Chinh",
            "Thôn Nà Ít",
            "Xã Ngân Sơn",
            "Tỉnh Thái Nguyên",
            "Cấp ngày 02/08/2025 · Plus Code 7PH74RWM+RR",
            "Ủy ban nhân dân xã Ngân Sơn",
            "Quét để kiểm tra · check at bkapp.example/c/482719346",
        ):
            assert expected in lines

    def test_it_describes_itself_to_those_who_cannot_see_it(self) -> None:
        root = ET.fromstring(svg(plate(demo=True, status="retired")))  # noqa: S314  our own

        title, description = root.findtext(f"{SVG}title"), root.findtext(f"{SVG}desc") or ""

        assert root.attrib["lang"] == "vi"
        assert root.attrib["aria-labelledby"] == "title desc"
        assert title == "Biển địa chỉ số BK 482 719 346"
        for expected in (DEMO_NOTICE, "ĐÃ NGỪNG SỬ DỤNG", "Thôn Nà Ít", "Xã Ngân Sơn", "bkapp.example/c/482719346"):
            assert expected in description

    def test_its_qr_code_holds_the_certificate(self) -> None:
        expected = segno.make_qr(QR_TEXT, error="M")

        assert matrix(svg(PLATE)) == [list(row) for row in expected.matrix]

    def test_its_qr_code_is_large_and_has_a_quiet_zone(self) -> None:
        document = svg(PLATE)
        side = len(matrix(document))
        placed = re.search(r'id="qr" transform="translate\(([\d.]+) ([\d.]+)\) scale\(([\d.]+)\)"', document)
        assert placed
        left, top, module = map(float, placed.groups())

        assert module * side >= 35
        # 0.5 mm a module is what the cameras of cheap phones resolve at arm's length.
        assert module >= 0.5
        assert left + module * (side + QUIET_ZONE) <= WIDTH
        assert top + module * (side + QUIET_ZONE) <= HEIGHT
        assert module * (side + 2 * QUIET_ZONE) == pytest.approx(QR_SIDE, abs=0.01)
        # Nothing else is drawn over the code: the white square below it is the last but two shapes.
        assert 'fill="#ffffff"/>' in document.split("Ủy ban")[-1].split('id="qr"')[0]

    def test_the_code_is_legible_from_three_metres(self) -> None:
        size = re.search(r'font-size="([\d.]+)"[^>]*>BK 482 719 346<', svg(PLATE))

        assert size
        # Capitals of Noto Sans are 0.714 of the size; a letter is read at 200 to 300 times its height.
        assert float(size[1]) * 0.714 * 250 >= 3000

    def test_it_loads_nothing_and_runs_nothing(self) -> None:
        document = svg(PLATE)

        assert not re.findall(r"<(?:script|style|image|foreignObject|use)\b|href|url\(|\sstyle=|\son\w+=", document)

    def test_every_line_stays_on_the_plate(self) -> None:
        for one in (PLATE, plate(demo=True, status="proposed", hamlet="Ngữ Nghĩa " * 50, street="Ữ" * 300)):
            for line in ET.fromstring(svg(one)).iter(f"{SVG}text"):  # noqa: S314  our own
                if "transform" not in line.attrib:
                    assert float(line.attrib["x"]) + float(line.attrib["textLength"]) <= WIDTH - 6.9
                assert 0 < float(line.attrib["y"]) < HEIGHT - 2.5

    def test_long_names_take_two_lines_and_lose_nothing(self) -> None:
        lines = texts(svg(plate(hamlet="Thôn Phiêng Khăm – Khuổi Lốc – Nà Quang Thượng")))

        assert "Thôn Phiêng Khăm – Khuổi Lốc – Nà Quang Thượng" in " ".join(lines)

    def test_endless_names_end_in_an_ellipsis(self) -> None:
        assert any(line.endswith("…") for line in texts(svg(plate(hamlet="Ngữ Nghĩa " * 50))))

    def test_text_is_composed(self) -> None:
        assert svg(plate(hamlet=unicodedata.normalize("NFD", "Thôn Nà Ít"))) == svg(PLATE)

    def test_a_letter_that_cannot_be_printed_is_shown_as_missing(self) -> None:
        assert "Thôn �� Ít" in texts(svg(plate(hamlet="Thôn 太原 Ít")))

    def test_what_is_not_known_leaves_no_gap(self) -> None:
        bare = plate(hamlet=None, house_number=None, street=None, plus_code=None)

        lines = texts(svg(bare))

        assert "Cấp ngày 02/08/2025" in lines
        assert not [line for line in lines if not line.strip() or "None" in line]

    @pytest.mark.parametrize(
        ("number", "street", "shown"),
        [
            ("12", None, "Số 12"),
            ("Số nhà 12", None, "Số nhà 12"),
            (None, "Phố Cũ", "Phố Cũ"),
            ("Km 3", "QL3", "Km 3, QL3"),
        ],
    )
    def test_a_house_number_is_named_once(self, number: str | None, street: str | None, shown: str) -> None:
        assert shown in texts(svg(plate(house_number=number, street=street)))


class TestMarks:
    @pytest.mark.parametrize(
        ("status", "notice"),
        [
            ("proposed", "ĐỀ XUẤT – CHƯA CÓ HIỆU LỰC"),
            ("retired", "ĐÃ NGỪNG SỬ DỤNG"),
            ("rejected", "KHÔNG ĐƯỢC CẤP"),
        ],
    )
    def test_an_address_that_is_not_in_use_says_so_in_words(self, status: str, notice: str) -> None:
        assert notice in texts(svg(plate(status=status)))
        assert notice in words(pdf(plate(status=status)))
        assert notice not in words(pdf(PLATE))

    def test_demo_data_is_marked_behind_the_text_and_in_words(self) -> None:
        assert texts(svg(plate(demo=True))).count(DEMO_NOTICE) == 2
        assert words(pdf(plate(demo=True))).count(DEMO_NOTICE) == 2
        assert DEMO_NOTICE not in svg(PLATE)
        assert DEMO_NOTICE not in words(pdf(PLATE))


class TestPdf:
    def test_it_is_one_a6_page_with_a_title_and_a_language(self) -> None:
        reader = PdfReader(io.BytesIO(pdf(PLATE)))

        assert len(reader.pages) == 1
        box = reader.pages[0].mediabox
        assert (float(box.width), float(box.height)) == pytest.approx((148 / 25.4 * 72, 105 / 25.4 * 72), abs=0.02)
        assert reader.metadata
        assert reader.metadata.title == "Biển địa chỉ số BK 482 719 346"
        assert str(reader.root_object["/Lang"]) == "vi-VN"

    def test_its_text_can_be_read_and_copied(self) -> None:
        found = words(pdf(PLATE))

        for expected in texts(svg(PLATE)):
            assert expected in found

    def test_every_vietnamese_letter_is_printed(self) -> None:
        every = "aàảãáạăằẳẵắặâầẩẫấậeèẻẽéẹêềểễếệiìỉĩíịoòỏõóọôồổỗốộơờởỡớợuùủũúụưừửữứựyỳỷỹýỵđ"

        for letters in (every, every.upper()):
            found = words(pdf(plate(street=letters[:34], hamlet=letters[34:])))
            assert letters[:34] in found
            assert letters[34:] in found

    def test_only_the_letters_it_uses_are_embedded(self) -> None:
        document = pdf(PLATE)
        fonts: Any = PdfReader(io.BytesIO(document)).pages[0]["/Resources"]
        names = {font.get_object()["/BaseFont"] for font in fonts["/Font"].values()}

        assert names == {"/MPDFAA+NotoSans", "/MPDFAA+NotoSansBold"}
        assert len(document) < 60_000

    def test_the_same_plate_gives_the_same_bytes(self) -> None:
        assert pdf(PLATE) == pdf(plate())
        assert pdf(PLATE) != pdf(plate(issued_on=date(2025, 8, 3)))


class TestHostileText:
    @pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
    def test_hostile_text_neither_crashes_nor_breaks_out(self, text: str) -> None:
        one = plate(
            hamlet=text, unit_name=text, province_name=text, street=text, house_number=text, plus_code=text, issuer=text
        )

        document = svg(one)
        root = ET.fromstring(document)  # noqa: S314  our own

        assert {element.tag.removeprefix(SVG) for element in root.iter()} == {
            "svg", "title", "desc", "rect", "text", "path",
        }  # fmt: skip
        assert not re.search("[\x00-\x09\x0b-\x1f\u202a-\u202e]", document)
        assert "BK 482 719 346" in words(pdf(one))

    @settings(max_examples=20, deadline=None)
    @given(st.text(max_size=120), st.text(max_size=120))
    def test_any_text_makes_a_well_formed_plate(self, hamlet: str, street: str) -> None:
        one = plate(hamlet=hamlet, street=street)

        assert "BK 482 719 346" in texts(svg(one))
        assert pdf(one).startswith(b"%PDF-")

    def test_a_text_too_long_for_any_qr_code_is_refused(self) -> None:
        with pytest.raises(ValueError, match="Data too large"):
            svg(plate(qr_text="x" * 3000))
