"""The block ``ThongTinBienLai`` that says what a payment is for.

It is the same in PayPlat and, as ``bill_info``, in KeyPay-DVCQG.  Amounts are texts.  The fields of a fine are empty,
for what is paid here are fees; so are those of the payer, whose name and number nobody needs in order to take money.
"""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from bkapp.payments.providers import Line, Order
from bkapp.payments.providers.wire import ascii_text
from bkapp.payments.rules import FeeKind

FEES = "2"  # MaDichVu: phí, lệ phí
LONGEST_NAME = 250
LONGEST_TEXT = 50
_KINDS = {FeeKind.FEE: "1", FeeKind.CHARGE: "2", FeeKind.DELIVERY: "3"}
_EMPTY = (
    "MaLoaiHinhThuPhat",
    "TenLoaiHinhThuPhat",
    "KhoBac",
    "NgayQD",
    "SoQD",
    "ThoiGianViPham",
    "DiaDiemViPham",
    "TenNguoiViPham",
    "TaiKhoanThuNSNN",
    "HoTenNguoiNop",
    "SoCMNDNguoiNop",
    "DiaChiNguoiNop",
    "HuyenNguoiNop",
    "TinhNguoiNop",
)


class Owed(Struct, frozen=True, kw_only=True):
    """What is owed, and to whom."""

    bill_code: str
    dossier_code: str  # "" where the bill is for none
    procedure_code: str
    procedure_name: str
    agency: str
    account: str
    account_name: str
    bank_bin: str
    amount: int
    lines: Sequence[Line]


def owed_for(order: Order) -> Owed:
    """What an order is for."""
    return Owed(**{name: getattr(order, name) for name in Owed.__struct_fields__})


def receipt_block(owed: Owed, agency_code: str) -> dict[str, Any]:
    """What is owed, as both protocols say it; raise ``ValueError`` where the lines do not add up."""
    if sum(line.amount for line in owed.lines) != owed.amount:
        raise ValueError("The lines do not add up to the amount.")
    procedure = owed.procedure_name[:LONGEST_NAME]
    return {
        "MaDichVu": FEES,
        "MaDVC": f"{owed.procedure_code}.01",
        "TenDVC": procedure,
        "MaTTHC": owed.procedure_code,
        "TenTTHC": procedure,
        "MaDonVi": agency_code,
        "TenDonVi": owed.agency,
        "MaCoQuanQD": agency_code,
        "TenCoQuanQD": owed.agency,
        "MaHoSo": owed.dossier_code or owed.bill_code,
        "TKThuHuong": owed.account,
        "MaNHThuHuong": owed.bank_bin,
        "TenTKThuHuong": owed.account_name,
        "NoiDungThanhToan": payment_text(owed.bill_code, owed.dossier_code),
        **dict.fromkeys(_EMPTY, ""),
        "PhiLePhi": [
            {
                "LoaiPhiLePhi": _KINDS[line.kind],
                "MaPhiLePhi": line.code,
                "TenPhiLePhi": line.name[:LONGEST_NAME],
                "SoTien": str(line.amount),
            }
            for line in owed.lines
        ],
        "DSKhoanNop": [{"NoiDung": line.name[:LONGEST_NAME], "SoTien": str(line.amount)} for line in owed.lines],
    }


def payment_text(bill_code: str, dossier_code: str) -> str:
    """What a payment says it is for: ASCII, and at most 50 characters."""
    return ascii_text(f"Thanh toan ho so {dossier_code}" if dossier_code else f"Thanh toan {bill_code}", LONGEST_TEXT)
