"""The people of the practice servers: made up, and numbered as nobody can be.

A citizen number is ``PPP G YY RRRRRR`` (NĐ 137/2015, art. 13): a province, the century with the gender, the year of
birth, six digits.  Provinces go from 001 to 096 and countries begin at 1, so that 099 is nobody's.  Phone numbers
begin with 0990, which no operator has.
"""

import unicodedata
from datetime import date, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from msgspec import Struct

from bkapp.access.rules import Role

NOBODYS_PROVINCE = "099"
PHU_THONG = "01969"  # Xã Phủ Thông
YEN_PHONG = "02083"  # Xã Yên Phong
COMMUNES = {PHU_THONG: "Xã Phủ Thông", YEN_PHONG: "Xã Yên Phong"}
PROVINCE, PROVINCE_NAME = "19", "Tỉnh Thái Nguyên"
TODAY: Final = datetime.now(ZoneInfo("Asia/Ho_Chi_Minh")).date()


class TestCitizen(Struct, frozen=True, kw_only=True):
    """Somebody who does not exist.  ``head`` is the handle of the household's head, ``use`` what they are good for.

    ``level`` is the IAL (0 to 3); ``tax_code`` makes it the account of an organisation; ``registered_name`` is the
    name in the population register where it is another one than the eID knows, None for who is not in the register.
    """

    __test__ = False  # its name is no reason for pytest to collect it

    handle: str
    number: str
    name: str
    birth: date
    female: bool
    commune: str
    hamlet: str
    head: str
    relation: str
    use: str
    registered_name: str | None
    level: int = 2
    phone: str | None = None
    tax_code: str | None = None

    @property
    def subject(self) -> str:
        """Who they are to the eID: stable, and not the number."""
        return f"practice-{self.handle}-{self.birth.year}"

    def age(self, on: date = TODAY) -> int:
        """Full years of life on a day."""
        return on.year - self.birth.year - ((on.month, on.day) < (self.birth.month, self.birth.day))


def number(birth: date, *, female: bool, serial: int) -> str:
    """The citizen number that fits a day of birth and a gender, in the province that does not exist."""
    century = 2 * (birth.year // 100 - 19) + female
    return f"{NOBODYS_PROVINCE}{century}{birth.year % 100:02d}{serial:06d}"


def _somebody(
    handle: str, serial: int, name: str, birth: date, *, female: bool, use: str, registered: bool = True, **rest: Any
) -> TestCitizen:
    facts: dict[str, Any] = {
        "commune": PHU_THONG,
        "hamlet": "Nà Lẹng",
        "head": handle,
        "relation": "chủ hộ",
        "registered_name": name if registered else None,
    }
    made = number(birth, female=female, serial=serial)
    return TestCitizen(handle=handle, number=made, name=name, birth=birth, female=female, use=use, **{**facts, **rest})


def citizens(today: date) -> tuple[TestCitizen, ...]:
    """Everybody, as they are on a day.

    Birthdays are fixed but that of the child, who is always seventeen: another child each year, with another number
    and subject, born on the first of January.
    """
    return (
        _somebody(
            "chu-ho", 101, "Nông Văn Hùng", date(1984, 3, 12), female=False, phone="0990000101",
            use="chủ hộ: xem và nhận địa chỉ của hộ, mời thành viên",
        ),
        _somebody(
            "vo", 102, "Hoàng Thị Lan", date(1987, 8, 25), female=True, head="chu-ho", relation="vợ",
            use="vợ của chủ hộ: thành viên hộ theo CSDL dân cư",
        ),
        _somebody(
            "con-17", 103, "Nông Minh Anh", date(today.year - 17, 1, 1), female=True, head="chu-ho", relation="con",
            use="con, 17 tuổi: thành viên hộ chưa thành niên",
        ),
        _somebody(
            "ba-78", 104, "Triệu Thị Mẩy", date(1948, 5, 19), female=True, commune=YEN_PHONG, hamlet="Bản Cáp",
            use="bà, sống ở hộ khác, xã khác: để thử lời mời vào hộ",
        ),
        _somebody(
            "hang-xom", 105, "Dương Văn Páo", date(1975, 11, 2), female=False, phone="0990000105",
            use="chủ một hộ khác cùng xã: không được xem hộ bên cạnh",
        ),
        _somebody(
            "muc-1", 106, "Bàn Thị Nhẩy", date(1999, 2, 14), female=True, level=1,
            use="tài khoản mức 1, chưa xác minh danh tính: bị giới hạn",
        ),
        _somebody(
            "to-chuc", 107, "Hợp tác xã Nà Lẹng", date(1980, 1, 15), female=False, registered=False,
            tax_code="0990000107", use="tài khoản tổ chức: bkapp từ chối, chỉ nhận công dân",
        ),
        _somebody(
            "can-bo", 108, "Lường Văn Quyết", date(1988, 6, 30), female=False, commune=YEN_PHONG, hamlet="Bản Cáp",
            use="cán bộ Xã Phủ Thông (01969)",
        ),
        _somebody(
            "can-bo-khac", 109, "Ma Thị Bích", date(1991, 12, 9), female=True, use="cán bộ Xã Yên Phong (02083)",
        ),
        _somebody(
            "giam-sat", 110, "Trần Quốc Toàn", date(1982, 4, 21), female=False, commune=YEN_PHONG, hamlet="Bản Cáp",
            use="giám sát cấp tỉnh: đọc tất cả, không sửa",
        ),
        _somebody(
            "quan-tri", 111, "Phạm Thu Hà", date(1979, 9, 7), female=True, commune=YEN_PHONG, hamlet="Bản Cáp",
            use="quản trị và phụ trách dữ liệu cá nhân của tỉnh",
        ),
        _somebody(
            "khong-co", 112, "Vi Văn Thông", date(1995, 7, 1), female=False, registered=False,
            use="không có trong CSDL dân cư",
        ),
        _somebody(
            "sai-ten", 113, "Lê Thị Hoa", date(1990, 10, 20), female=True, registered_name="Lê Thị Huệ",
            use="CSDL dân cư ghi tên khác",
        ),
    )  # fmt: skip


PEOPLE: Final[dict[str, TestCitizen]] = {citizen.handle: citizen for citizen in citizens(TODAY)}

OFFICES: Final[dict[str, tuple[Role, str | None]]] = {
    "can-bo": (Role.OFFICER, PHU_THONG),
    "can-bo-khac": (Role.OFFICER, YEN_PHONG),
    "giam-sat": (Role.MONITOR, None),
    "quan-tri": (Role.ADMIN, None),
}
"""Who holds an office in the demo: the role, and the code of the commune that it covers."""


def person(handle: str) -> TestCitizen:
    """The test citizen of that handle."""
    return PEOPLE[handle]


def plain(name: str) -> str:
    """A name as the population register asks for it: ``"Nông Văn Hùng"`` is ``"NONGVANHUNG"``."""
    letters = unicodedata.normalize("NFD", name.upper().replace("Đ", "D"))
    return "".join(letter for letter in letters if letter.isalpha() and not unicodedata.combining(letter))
