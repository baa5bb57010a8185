"""What personal data is used for: the catalogue that people are shown.

A purpose rests on a task that an act gives to the authority (``task``: no consent is needed, Luật 91/2025/QH15 điều 19)
or on the person's ``consent``.  Its text is what they agree to: whoever changes a word of it gives it a new version,
and an old consent does not count for the new text.
"""

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct

from bkapp.errors import DomainError, NotFound


class Basis(StrEnum):
    """On what the use of data rests."""

    TASK = "task"  # nhiệm vụ theo luật
    CONSENT = "consent"  # sự đồng ý


class ConsentState(StrEnum):
    """How a person stands to a purpose.  Nothing is given until they give it."""

    NOT_NEEDED = "not_needed"
    NOT_GIVEN = "not_given"
    GIVEN = "given"
    OUTDATED = "outdated"  # given for an earlier text
    WITHDRAWN = "withdrawn"


class Purpose(Struct, frozen=True, kw_only=True):
    """``text``, Vietnamese, says who uses what and how; ``data`` are kinds of data; ``act`` is the legal ground."""

    id: str
    title: str
    text: str
    basis: Basis
    act: str
    data: tuple[str, ...]
    version: str


class NoConsentNeeded(DomainError):
    """The purpose rests on a task that the law gives to the authority, so there is nothing to give or withdraw."""

    code = "no_consent_needed"
    title = "Mục đích này thực hiện theo luật, không dựa trên sự đồng ý"


class TextChanged(DomainError):
    """The text of the purpose is no longer the one that was shown; show `text` and ask again with `text_version`."""

    code = "consent_text_changed"
    title = "Nội dung đồng ý đã thay đổi, xin đọc lại trước khi đồng ý"


_CONSENT = "Luật 91/2025/QH15 (sự đồng ý của chủ thể dữ liệu); Nghị định 356/2025/NĐ-CP"

PURPOSES: Mapping[str, Purpose] = {
    purpose.id: purpose
    for purpose in (
        Purpose(
            id="sign_in",
            title="Đăng nhập và bảo vệ tài khoản",
            text=(
                "Hệ thống nhận số định danh, họ tên, ngày sinh và mức độ xác minh từ hệ thống định danh quốc gia để"
                " biết ai đang đăng nhập, ghi lại thiết bị và thời điểm đăng nhập để bảo vệ tài khoản. Số định "
                "danh, họ tên, ngày sinh được mã hóa khi lưu."
            ),
            basis=Basis.TASK,
            act="Luật 91/2025/QH15 điều 19; Luật Căn cước 26/2023/QH15; Nghị định 69/2024/NĐ-CP",
            data=("số định danh cá nhân", "họ tên", "ngày sinh", "thiết bị và thời điểm đăng nhập"),
            version="1",
        ),
        Purpose(
            id="household_register",
            title="Xác định hộ gia đình",
            text=(
                "Hệ thống tra cứu Cơ sở dữ liệu quốc gia về dân cư để biết bạn thuộc hộ nào, quan hệ với chủ hộ và "
                "xã nơi thường trú. Mỗi lần tra cứu đều được ghi lại: thời điểm, mục đích, người yêu cầu."
            ),
            basis=Basis.TASK,
            act="Luật 91/2025/QH15 điều 19; Luật Cư trú 68/2020/QH14; Luật Căn cước 26/2023/QH15",
            data=("số định danh cá nhân", "họ tên", "ngày sinh", "quan hệ với chủ hộ", "xã thường trú"),
            version="1",
        ),
        Purpose(
            id="address_register",
            title="Cấp và quản lý địa chỉ số",
            text=(
                "Hệ thống ghi nhận hộ của bạn ở địa chỉ số nào và từ khi nào. Mã địa chỉ là của ngôi nhà và được "
                "giữ lại khi bạn chuyển đi; người khác không thấy ai sống ở đó."
            ),
            basis=Basis.TASK,
            act="Luật 91/2025/QH15 điều 19; Luật Dữ liệu 60/2024/QH15",
            data=("mã hộ", "địa chỉ số", "thời gian cư trú"),
            version="1",
        ),
        Purpose(
            id="payments",
            title="Nộp phí, lệ phí và hoàn tiền",
            text=(
                "Cơ quan nhà nước lập khoản phải nộp cho người có số định danh và họ tên của bạn; hệ thống ghi lại các"
                " lần nộp, tiền đã nhận, tiền hoàn và vụ việc về tiền của bạn. Số định danh trên khoản phải nộp chỉ "
                "được lưu dưới dạng băm, họ tên được mã hóa khi lưu. Kênh thanh toán bạn chọn nhận số tiền, mã khoản "
                "nộp, mã hồ sơ và địa chỉ mạng của thiết bị, không nhận số định danh hay họ tên. Chứng từ được giữ ít "
                "nhất 10 năm; thông điệp gốc của kênh thanh toán được xóa sau 400 ngày."
            ),
            basis=Basis.TASK,
            act=(
                "Luật 91/2025/QH15 điều 19; Luật Phí và lệ phí 97/2015/QH13; Luật Kế toán 88/2015/QH13 điều 41; Nghị "
                "định 174/2016/NĐ-CP"
            ),
            data=("số định danh cá nhân", "họ tên", "khoản phải nộp", "các lần nộp", "địa chỉ mạng khi nộp"),
            version="1",
        ),
        Purpose(
            id="contact_phone",
            title="Liên hệ qua số điện thoại",
            text=(
                "Cơ quan tiếp nhận hồ sơ gọi hoặc nhắn tin tới số điện thoại bạn cung cấp khi cần trao đổi về hồ sơ"
                " của bạn. Số điện thoại được mã hóa khi lưu, không dùng cho việc khác và bị xóa ngay khi bạn rút "
                "lại sự đồng ý."
            ),
            basis=Basis.CONSENT,
            act=_CONSENT,
            data=("số điện thoại",),
            version="1",
        ),
        Purpose(
            id="notices",
            title="Nhận thông báo của chính quyền",
            text=(
                "Hệ thống gửi cho bạn thông báo về địa bàn nơi bạn ở: lịch tiếp dân, thiên tai, tiêm chủng và các "
                "thông báo tương tự. Bạn có thể rút lại bất cứ lúc nào; thông báo về hồ sơ và an toàn tài khoản vẫn"
                " được gửi."
            ),
            basis=Basis.CONSENT,
            act=_CONSENT,
            data=("xã nơi ở", "thiết bị nhận thông báo"),
            version="1",
        ),
        Purpose(
            id="statistics",
            title="Thống kê không nêu danh tính",
            text=(
                "Hệ thống đếm số hộ, số địa chỉ và mức độ sử dụng theo địa bàn. Con số dưới 5 không được công bố, "
                "nên không ai nhận ra được bạn từ thống kê."
            ),
            basis=Basis.TASK,
            act="Luật Thống kê 89/2015/QH13; Nghị định 47/2020/NĐ-CP; Nghị định 194/2025/NĐ-CP",
            data=("xã nơi ở", "tình trạng địa chỉ"),
            version="1",
        ),
        Purpose(
            id="assisted_service",
            title="Nhờ cán bộ làm giúp",
            text=(
                "Cán bộ một cửa hoặc tổ công nghệ số cộng đồng được mở hồ sơ của bạn trên thiết bị của họ để làm "
                "giúp bạn, khi bạn có mặt. Mỗi lần mở đều được ghi lại và bạn xem được ai đã mở."
            ),
            basis=Basis.CONSENT,
            act=_CONSENT,
            data=("họ tên", "hộ gia đình", "địa chỉ số", "hồ sơ đang làm"),
            version="1",
        ),
    )
}


def purpose_of(purpose_id: str) -> Purpose:
    """The purpose of this id."""
    purpose = PURPOSES.get(purpose_id)
    if purpose is None:
        raise NotFound("There is no such purpose.")
    return purpose


def of_consent(purpose_id: str) -> Purpose:
    """The purpose of this id; raise where it does not rest on consent."""
    purpose = purpose_of(purpose_id)
    if purpose.basis is not Basis.CONSENT:
        raise NoConsentNeeded(f"The purpose {purpose.id} rests on a task given by law.", purpose=purpose.id)
    return purpose


def require_shown(purpose: Purpose, version: str) -> None:
    """Refuse a consent to another text than today's."""
    if version != purpose.version:
        raise TextChanged(
            "The text has another version now.", purpose=purpose.id, text_version=purpose.version, text=purpose.text
        )


def state_of(purpose: Purpose, *, live: str | None, withdrawn: bool) -> ConsentState:
    """``live`` is the version of the consent that stands, ``withdrawn`` whether there was one that does not."""
    if purpose.basis is Basis.TASK:
        return ConsentState.NOT_NEEDED
    if live is not None:
        return ConsentState.GIVEN if live == purpose.version else ConsentState.OUTDATED
    return ConsentState.WITHDRAWN if withdrawn else ConsentState.NOT_GIVEN
