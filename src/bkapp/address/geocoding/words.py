"""The words of addresses that are no names: kinds of units and hamlets, what stands before numbers, fillers.

After the grammar of Vietnamese addresses: [house] [street] hamlet, commune, district, province, each with its kind
in front, which may be abbreviated, run together with the name, or left out.
"""

import re
from enum import StrEnum
from typing import NamedTuple

from bkapp.address.geocoding.normalise import squeeze


class Role(StrEnum):
    """What a word that is no name says about the name or number behind it."""

    HAMLET = "hamlet"
    COMMUNE = "commune"
    DISTRICT = "district"
    PROVINCE = "province"
    HOUSE = "house"
    ALLEY = "alley"
    ROAD = "road"
    KILOMETRE = "kilometre"
    PLACE = "place"
    """What somebody is at, a school or an office: it says little about where that is."""
    NOISE = "noise"
    """Says nothing: "nay là", "thuộc", "Việt Nam"."""


class Word(NamedTuple):
    """``kind`` tells words of one role apart: xã is not thị trấn."""

    roles: tuple[Role, ...]
    kind: str


_WORDS: dict[tuple[Role, str], tuple[str, ...]] = {
    (Role.COMMUNE, "xa"): ("xã", "x"),
    (Role.COMMUNE, "phuong"): ("phường", "p", "ph", "fường"),
    (Role.COMMUNE, "thi tran"): ("thị trấn", "tt", "thị tr"),
    (Role.DISTRICT, "huyen"): ("huyện", "h", "hu"),
    (Role.DISTRICT, "thanh pho"): ("thành phố", "tp", "thành phố trực thuộc tỉnh"),
    (Role.DISTRICT, "thi xa"): ("thị xã", "tx"),
    (Role.DISTRICT, "quan"): ("quận",),
    (Role.PROVINCE, "tinh"): ("tỉnh", "t"),
    (Role.HAMLET, "thon"): (
        "thôn",
        "xóm",
        "làng",
        "buôn",
        "ấp",
        "cụm dân cư",
        "khu dân cư",
        "th",
        "t",
        "bản",
        "b",
        "x",
    ),
    (Role.HAMLET, "to"): ("tổ", "tổ dân phố", "tdp", "tổ nhân dân", "tổ dân cư"),
    (Role.HAMLET, "khu"): ("khu", "khu phố", "k"),
    (Role.HAMLET, "tieu khu"): ("tiểu khu", "tk", "t khu"),
    (Role.HOUSE, "so"): ("số", "số nhà", "nhà số", "sn", "s", "nhà", "no", "nhà riêng số"),
    (Role.ALLEY, "ngo"): ("ngõ", "ngách", "hẻm", "kiệt", "ng"),
    (Role.ROAD, "duong"): ("đường", "phố", "đg", "tuyến đường", "trục đường"),
    (Role.KILOMETRE, "km"): ("km", "cây số", "kilomet"),
    (Role.PLACE, ""): (
        *(
            "ubnd",
            "ủy ban",
            "ủy ban nhân dân",
            "trụ sở",
            "công an",
            "bưu điện",
            "bưu cục",
            "bến xe",
            "ngã ba",
            "ngã tư",
        ),
        *(
            "trường",
            "trường tiểu học",
            "tiểu học",
            "thcs",
            "thpt",
            "ptdtbt",
            "mầm non",
            "trạm y tế",
            "y tế",
            "bệnh viện",
        ),
        *("đa khoa", "trung tâm", "nhà văn hóa", "ngân hàng", "agribank", "chi nhánh", "htx", "hợp tác xã", "công ty"),
        *("cửa hàng", "nhà nghỉ", "khách sạn", "homestay", "tạp hóa"),
    ),
    (Role.NOISE, ""): (
        *("nay", "nay là", "nay thuộc", "cũ", "mới", "trước", "trước đây", "trước là", "thuộc", "tại", "ở", "là"),
        *("việt nam", "vn", "địa chỉ", "đc", "đ/c", "hộ khẩu", "thường trú", "nơi ở", "sau sáp nhập", "và"),
        *("quê quán", "nguyên quán", "trú quán", "nơi ở hiện nay", "chỗ ở", "người nhận", "giao đến", "gửi"),
    ),
}
# What kinds of hamlets are called instead of one another, for those that have a number and no name.
HAMLET_KINDS = {
    "to": ("tổ", "tổ dân phố", "tdp", "tổ nhân dân", "khu tổ", "t"),
    "thon": ("thôn", "xóm", "bản", "ấp", "t", "th", "x"),
    "khu": ("khu", "khu phố", "khu dân cư", "k"),
    "tieu khu": ("tiểu khu", "tk", "t khu"),
}


def _table() -> dict[str, Word]:
    table: dict[str, Word] = {}
    for (role, kind), forms in _WORDS.items():
        for form in forms:
            had = table.get(squeeze(form))
            table[squeeze(form)] = Word((*had.roles, role), had.kind) if had else Word((role,), kind)
    return table


WORDS = _table()
LONGEST_WORD = max(map(len, WORDS))
SYLLABLES = frozenset(squeeze(word) for forms in _WORDS.values() for form in forms for word in form.split())

# A road by its number, as a key: QL3, QL 3B, TL254, ĐT254, HL1.
ROAD_CLASSES = {
    "ql": ("ql", "quoclo", "duongquoclo", "duongql"),
    "tl": ("tl", "tinhlo", "dt", "duongtinh", "duongtinhlo", "tinhlodt", "duongdt"),
    "hl": ("hl", "huonglo", "huyenlo", "dh", "duonghuyen"),
    "ct": ("ct", "caotoc"),
}
_ROAD_CLASS = {form: road for road, forms in ROAD_CLASSES.items() for form in forms}
_ROAD = re.compile(rf"({'|'.join(sorted(_ROAD_CLASS, key=len, reverse=True))})([0-9]+[a-z]?)")


def road_reference(joined: str) -> str | None:
    """The key of a numbered road: ``"quoclo3"`` and ``"ql3"`` are ``"ql3"``; None where it is none."""
    found = _ROAD.fullmatch(joined)
    return _ROAD_CLASS[found[1]] + found[2] if found else None


# Other provinces, of 2024 and of today.  One that is named and explained by nothing says: this is not here.
ELSEWHERE = frozenset(
    squeeze(name)
    for name in (
        *("An Giang", "Bà Rịa Vũng Tàu", "Bạc Liêu", "Bắc Giang", "Bắc Ninh", "Bến Tre", "Bình Dương", "Bình Định"),
        *("Bình Phước", "Bình Thuận", "Cà Mau", "Cao Bằng", "Cần Thơ", "Đà Nẵng", "Đắk Lắk", "Đắk Nông", "Điện Biên"),
        *("Đồng Nai", "Đồng Tháp", "Gia Lai", "Hà Giang", "Hà Nam", "Hà Nội", "Hà Tĩnh", "Hải Dương", "Hải Phòng"),
        *("Hậu Giang", "Hòa Bình", "Hưng Yên", "Khánh Hòa", "Kiên Giang", "Kon Tum", "Lai Châu", "Lạng Sơn"),
        *("Lào Cai", "Lâm Đồng", "Long An", "Nam Định", "Nghệ An", "Ninh Bình", "Ninh Thuận", "Phú Thọ", "Phú Yên"),
        *("Quảng Bình", "Quảng Nam", "Quảng Ngãi", "Quảng Ninh", "Quảng Trị", "Sóc Trăng", "Sơn La", "Tây Ninh"),
        *("Thái Bình", "Thanh Hóa", "Thừa Thiên Huế", "Tiền Giang", "Hồ Chí Minh", "TP HCM", "Sài Gòn", "Trà Vinh"),
        *(
            "Tuyên Quang",
            "Vĩnh Long",
            "Vĩnh Phúc",
            "Yên Bái",
            "Huế",
            "Vũng Tàu",
            "Đắc Lắc",
            "Đắk Lắc",
            "HN",
            "HCM",
            "SG",
        ),
        # and districts of the neighbours and of Hà Nội, where they are no names of ours
        *("Bảo Lâm", "Bảo Lạc", "Hà Quảng", "Trùng Khánh", "Hạ Lang", "Quảng Hòa", "Nguyên Bình", "Hòa An", "Thạch An"),
        *("Tràng Định", "Bình Gia", "Cao Lộc", "Văn Quan", "Bắc Sơn", "Hữu Lũng", "Chi Lăng", "Lộc Bình", "Đình Lập"),
        *("Na Hang", "Lâm Bình", "Chiêm Hóa", "Hàm Yên", "Yên Sơn", "Sơn Dương"),
        *("Ba Đình", "Hoàn Kiếm", "Tây Hồ", "Long Biên", "Cầu Giấy", "Đống Đa", "Hai Bà Trưng", "Hoàng Mai", "Hà Đông"),
        *("Từ Liêm", "Sóc Sơn", "Đông Anh", "Gia Lâm", "Thanh Trì"),
    )
)
