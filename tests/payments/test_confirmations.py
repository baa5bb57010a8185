"""Confirmations: amounts in words, a page that prints, a code that proves it."""

import io
import re
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
import zxingcpp
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from pypdf import PdfReader

from bkapp.payments.confirmations import (
    DISCLAIMER,
    MOST_AMOUNT,
    MOST_LINES,
    Confirmation,
    Part,
    in_words,
    masked,
    money,
    number_of,
    pdf,
    token,
)
from bkapp.payments.rules import FeeKind
from tests.identity.make import KEYRING

PAID = Confirmation(
    number=123,
    amount=20_000,
    parts=[
        Part(FeeKind.CHARGE, "Lệ phí cấp bản sao trích lục khai sinh", 12_000),
        Part(FeeKind.DELIVERY, "Chuyển phát tại nhà", 8_000),
    ],
    bill_code="HD7K3M9Q2M4X",
    description="Lệ phí hồ sơ H03.01-261124-0001",
    procedure_name="Cấp bản sao trích lục hộ tịch",
    dossier_code="H03.01-261124-0001",
    agency="Ủy ban nhân dân xã Phủ Thông",
    account="3511012345678",
    account_name="UBND XA PHU THONG",
    treasury="Kho bạc Nhà nước khu vực VII",
    paid_at=datetime(2026, 11, 24, 17, 5, 9, tzinfo=UTC),
    method="VNPAY",
    reference="TT7K3M9Q2M4X",
    transaction="14422574",
    payer="Nông Văn Hùng",
    check_url="https://bkapp.example/xac-nhan/123-ABCDEFGHIJKLMNOP",
)


def mac_of(text: str) -> bytes:
    return KEYRING.lookup("receipt", text)


def words(document: bytes) -> str:
    [only] = PdfReader(io.BytesIO(document)).pages
    return " ".join(only.extract_text().split())


def scanned(document: bytes) -> str:
    """What a reader of QR codes makes of the squares that are drawn, which have to lie on the page."""
    [only] = PdfReader(io.BytesIO(document)).pages
    contents = only.get_contents()
    assert contents is not None
    squares = re.findall(r"([\d.]+) ([\d.]+) ([\d.]+) \3 re", contents.get_data().decode("latin-1"))
    assert all(18 <= float(x) <= 192 and 18 <= float(y) <= 284 for x, y, _ in squares)  # mm of an A4 page
    left, top = (min(float(square[place]) for square in squares) for place in (0, 1))
    picture = Image.new("L", (600, 600), 255)
    pen = ImageDraw.Draw(picture)
    for x, y, side in squares:
        column, row = (round((float(at) - first) / float(side)) for at, first in ((x, left), (y, top)))
        pen.rectangle((80 + column * 8, 80 + row * 8, 87 + column * 8, 87 + row * 8), fill=0)
    [found] = zxingcpp.read_barcodes(picture)
    return str(found.text)


# --- amounts ----------------------------------------------------------------------------------------------------

SAID = {
    0: "Không đồng",
    1: "Một đồng",
    5: "Năm đồng",
    10: "Mười đồng",
    11: "Mười một đồng",
    15: "Mười lăm đồng",
    20: "Hai mươi đồng",
    21: "Hai mươi mốt đồng",
    25: "Hai mươi lăm đồng",
    91: "Chín mươi mốt đồng",
    100: "Một trăm đồng",
    101: "Một trăm linh một đồng",
    105: "Một trăm linh năm đồng",
    110: "Một trăm mười đồng",
    111: "Một trăm mười một đồng",
    115: "Một trăm mười lăm đồng",
    121: "Một trăm hai mươi mốt đồng",
    555: "Năm trăm năm mươi lăm đồng",
    1_000: "Một nghìn đồng",
    1_001: "Một nghìn không trăm linh một đồng",
    1_015: "Một nghìn không trăm mười lăm đồng",
    1_100: "Một nghìn một trăm đồng",
    10_500: "Mười nghìn năm trăm đồng",
    20_000: "Hai mươi nghìn đồng",
    105_000: "Một trăm linh năm nghìn đồng",
    1_250_000: "Một triệu hai trăm năm mươi nghìn đồng",
    1_000_005: "Một triệu không trăm linh năm đồng",
    1_005_000: "Một triệu không trăm linh năm nghìn đồng",
    21_021_021: "Hai mươi mốt triệu không trăm hai mươi mốt nghìn không trăm hai mươi mốt đồng",
    1_000_000_000: "Một tỷ đồng",
    1_000_000_001: "Một tỷ không trăm linh một đồng",
    15_000_000_000: "Mười lăm tỷ đồng",
    999_000_000_000: "Chín trăm chín mươi chín tỷ đồng",
}


@pytest.mark.parametrize(("amount", "said"), SAID.items())
def test_an_amount_is_read_as_people_read_it(amount: int, said: str) -> None:
    assert in_words(amount) == said


def heard(said: str) -> int:
    """The number that words mean, by rules of its own."""
    ones = ["không", "một", "hai", "ba", "bốn", "năm", "sáu", "bảy", "tám", "chín"]
    digits = {**{word: digit for digit, word in enumerate(ones)}, "mốt": 1, "lăm": 5}
    scales = {"tỷ": 10**9, "triệu": 10**6, "nghìn": 1000, "đồng": 1}
    total = group = digit = 0
    for word in said.lower().split():
        if word in digits:
            digit = digits[word]
        elif word == "mười":
            group += 10
        elif word in {"mươi", "trăm"}:
            group, digit = group + digit * (10 if word == "mươi" else 100), 0
        elif word in scales:
            total, group, digit = total + (group + digit) * scales[word], 0, 0
        else:
            assert word == "linh"
    return total


@given(st.integers(0, MOST_AMOUNT) | st.integers(0, 10**6))
def test_what_is_read_out_is_the_amount_and_no_other(amount: int) -> None:
    assert heard(in_words(amount)) == amount


@pytest.mark.parametrize("amount", [-1, MOST_AMOUNT + 1])
def test_amounts_beyond_are_not_guessed(amount: int) -> None:
    with pytest.raises(ValueError, match="999"):
        in_words(amount)


def test_amounts_are_written_with_dots() -> None:
    assert [money(each) for each in (0, 999, 20_000, 1_250_000)] == [
        "0 đồng",
        "999 đồng",
        "20.000 đồng",
        "1.250.000 đồng",
    ]


# --- the code ---------------------------------------------------------------------------------------------------


@given(st.integers(1, 10**12))
def test_a_token_is_read_back_also_as_it_is_typed(number: int) -> None:
    made = token(number, mac_of)

    assert re.fullmatch(r"[1-9][0-9]*-[A-Z2-7]{16}", made)  # 80 bits
    assert number_of(made, mac_of) == number_of(made.lower(), mac_of) == number


def test_no_other_token_is_taken() -> None:
    made = token(123, mac_of)
    wrong = [
        made.replace("123-", "124-"),
        "0" + made,
        made + "A",
        made[:-1],
        made.replace("-", ""),
        "",
        "123",
        "ſ" + made,
    ]
    for place in range(4, len(made)):
        wrong += [made[:place] + other + made[place + 1 :] for other in "AQ7" if other != made[place]]

    assert [text for text in wrong if number_of(text, mac_of) is not None] == []


def test_a_token_needs_our_key() -> None:
    assert number_of(token(123, lambda text: KEYRING.lookup("citizen", text)), mac_of) is None


def test_a_masked_code_can_be_compared_and_not_looked_up() -> None:
    assert masked("H03.01-261124-0001") == "•••.••-••••••-0001"
    assert masked("AB") == "••"


# --- the page ---------------------------------------------------------------------------------------------------


def test_the_page_says_what_was_paid_and_to_whom() -> None:
    said = words(pdf(PAID))

    for expected in (
        "GIẤY XÁC NHẬN THANH TOÁN",
        "Số 0000123 · Mã HD7K3M9Q2M4X",
        "Nông Văn Hùng",
        "H03.01-261124-0001",
        "Ủy ban nhân dân xã Phủ Thông",
        "3511012345678 – UBND XA PHU THONG, Kho bạc Nhà nước khu vực VII",
        "00:05:09 ngày 25/11/2026 (giờ Hà Nội)",
        "VNPAY",
        "TT7K3M9Q2M4X",
        "14422574",
        "Lệ phí: Lệ phí cấp bản sao trích lục khai sinh 12.000 đồng",
        "Cước bưu chính: Chuyển phát tại nhà 8.000 đồng",
        "Tổng 20.000 đồng",
        "Bằng chữ: Hai mươi nghìn đồng.",
        "không thay thế biên lai điện tử",
    ):
        assert expected in said, expected
    assert "hoàn" not in said
    assert "DỮ LIỆU THỬ" not in said
    assert " ".join(DISCLAIMER.split()[-6:]) in said


def test_its_qr_code_leads_to_where_it_is_checked() -> None:
    assert scanned(pdf(PAID)) == PAID.check_url


def test_the_same_confirmation_is_the_same_bytes() -> None:
    assert pdf(PAID) == pdf(PAID)
    assert pdf(PAID) != pdf(msgspec.structs.replace(PAID, number=124))


def test_money_that_went_back_and_a_trial_are_told() -> None:
    def said(**changes: Any) -> str:
        return words(pdf(msgspec.structs.replace(PAID, **changes)))

    assert "Đã hoàn trả toàn bộ cho người nộp: 20.000 đồng." in said(refunded=20_000)
    assert "Đã hoàn trả cho người nộp: 5.000 đồng." in said(refunded=5_000)
    assert said(demo=True).count("DỮ LIỆU THỬ") == 2


def test_it_is_one_page_whatever_it_is_given() -> None:
    long = "Ngữ Nghĩa \u202e\x00🏠 " * 60
    hostile = msgspec.structs.replace(
        PAID,
        amount=9_999_999_999,
        parts=[Part(FeeKind.FEE, long, 1_000)] * 20,
        **dict.fromkeys(
            ("description", "procedure_name", "dossier_code", "agency", "account_name", "treasury", "method", "payer"),
            long,
        ),
        refunded=1,
        demo=True,
    )
    document = pdf(hostile)
    said = words(document)

    assert f"{20 - MOST_LINES + 1} khoản khác 14.000 đồng" in said
    assert said.count("…") >= 8
    assert "\x00" not in said
    assert "\u202e" not in said
    assert scanned(document) == PAID.check_url
