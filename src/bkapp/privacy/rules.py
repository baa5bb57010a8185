"""Rules of personal data: what a person may ask for, how long we may take, how long we keep what.

Everything here is data with a small function beside it.  The clock is never read: ``now`` comes as an argument.
Days are those of Bắc Kạn (Asia/Ho_Chi_Minh, which has no summer time).
"""

import csv
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import cache
from importlib.resources import files
from zoneinfo import ZoneInfo

from msgspec import Struct

from bkapp.errors import DomainError, FieldError, Invalid

HANOI = ZoneInfo("Asia/Ho_Chi_Minh")


class Channel(StrEnum):
    """How a consent was given or withdrawn."""

    WEB = "web"
    APP = "app"
    OFFICE = "office"


class RequestKind(StrEnum):
    """What a data subject may ask for (Luật 91/2025/QH15)."""

    ACCESS = "access"  # xem
    RECTIFY = "rectify"  # chỉnh sửa
    ERASE = "erase"  # xóa
    RESTRICT = "restrict"  # hạn chế xử lý
    OBJECT = "object"  # phản đối xử lý
    WITHDRAW = "withdraw"  # rút lại sự đồng ý
    PROVIDE = "provide"  # cung cấp dữ liệu


class RequestStatus(StrEnum):
    """Where a request stands."""

    RECEIVED = "received"
    ACKNOWLEDGED = "acknowledged"
    DONE = "done"
    REFUSED = "refused"


class IllegalStep(DomainError):
    """The request is closed, or was acknowledged before; ask for the list to see where it stands."""

    code = "request_step_not_possible"
    title = "Yêu cầu không còn ở bước này"


class ExtendedBefore(DomainError):
    """The law allows one extension and this request had it."""

    code = "request_extended_before"
    title = "Yêu cầu này đã được gia hạn một lần"


class ExtensionTooLate(DomainError):
    """The time is over, so it cannot be made longer; close the request or refuse it."""

    code = "request_extension_too_late"
    title = "Đã quá hạn nên không thể gia hạn"


# --- requests and their clocks ----------------------------------------------------------------------------------


class Limit(Struct, frozen=True):
    """How long a request of a kind may take, in calendar days after the day it came.

    ``with_processor`` counts where somebody who processes for us has to act as well.
    """

    title: str
    days: int
    with_processor: int
    act: str


_ACT = "Luật 91/2025/QH15; Nghị định 356/2025/NĐ-CP"

# 15 and 20 days are known from the decree.  For the other kinds it sets limits between 10 and 20 days, whose split we
# have at second hand only: the shortest stands here, so that an error makes us early and not late.
LIMITS: Mapping[RequestKind, Limit] = {
    RequestKind.ACCESS: Limit("Xem dữ liệu của tôi", 10, 15, _ACT),
    RequestKind.RECTIFY: Limit("Chỉnh sửa dữ liệu của tôi", 10, 15, _ACT),
    RequestKind.PROVIDE: Limit("Cung cấp dữ liệu cho tôi", 10, 15, _ACT),
    RequestKind.ERASE: Limit("Xóa dữ liệu của tôi", 10, 15, _ACT),
    RequestKind.RESTRICT: Limit("Hạn chế xử lý dữ liệu của tôi", 15, 20, _ACT),
    RequestKind.OBJECT: Limit("Phản đối xử lý dữ liệu của tôi", 15, 20, _ACT),
    RequestKind.WITHDRAW: Limit("Rút lại sự đồng ý", 15, 20, _ACT),
}
ACKNOWLEDGE_WITHIN = 2  # working days
EXTEND_BY_AT_MOST = 15  # days, once

# Erasing is a step of its own, so that nobody says it is done without having done it.
NEXT: Mapping[RequestStatus, frozenset[RequestStatus]] = {
    RequestStatus.RECEIVED: frozenset({RequestStatus.ACKNOWLEDGED, RequestStatus.DONE, RequestStatus.REFUSED}),
    RequestStatus.ACKNOWLEDGED: frozenset({RequestStatus.DONE, RequestStatus.REFUSED}),
    RequestStatus.DONE: frozenset(),
    RequestStatus.REFUSED: frozenset(),
}


class Clock(Struct, frozen=True):
    """Until when a request has to be acknowledged and carried out: the last second that is in time."""

    acknowledge_by: datetime
    due_at: datetime


class Standing(Struct, frozen=True):
    """How a clock stands: whole days until the end of ``next_due``, negative after it."""

    next_due: datetime
    days_left: int
    overdue: bool


def move(now: RequestStatus, to: RequestStatus) -> RequestStatus:
    """Return ``to`` if a request may go there from ``now``."""
    if to not in NEXT[now]:
        raise IllegalStep(f"A request that is {now} cannot become {to}.", now=now.value, to=to.value)
    return to


def clock(kind: RequestKind, received: datetime, *, with_processor: bool = False) -> Clock:
    """The deadlines of a request that came at ``received``.

    The day it came does not count (Bộ luật Dân sự 2015, điều 147).  A last day that is no working day is not moved to
    the next one, though điều 148 would let us.
    """
    came = received.astimezone(HANOI).date()
    limit = LIMITS[kind]
    days = limit.with_processor if with_processor else limit.days
    return Clock(_end_of(after_working_days(came, ACKNOWLEDGE_WITHIN)), _end_of(came + timedelta(days=days)))


def extend(due: datetime, *, days: int, extended: bool, now: datetime) -> datetime:
    """The later deadline of a request; raise where it had its extension, is late, or asks for too much."""
    if extended:
        raise ExtendedBefore("A request is extended once.")
    if now > due:
        raise ExtensionTooLate("The deadline has passed.")
    if not 1 <= days <= EXTEND_BY_AT_MOST:
        raise Invalid(
            f"An extension is 1 to {EXTEND_BY_AT_MOST} days.", [FieldError("/days", f"1 to {EXTEND_BY_AT_MOST}")]
        )
    return due + timedelta(days=days)


def standing(status: RequestStatus, clock: Clock, *, now: datetime) -> Standing:
    """What is due next for an open request, and whether it is late."""
    waiting = status is RequestStatus.RECEIVED
    due = min(clock.acknowledge_by, clock.due_at) if waiting else clock.due_at
    return Standing(due, (due.astimezone(HANOI).date() - now.astimezone(HANOI).date()).days, now > due)


# --- working days -----------------------------------------------------------------------------------------------


class Holidays(Struct, frozen=True):
    """Days off beside weekends, and days of weekends on which offices work instead."""

    off: frozenset[date]
    work: frozenset[date]


@cache
def holidays() -> Holidays:
    """The days of ``data/holidays.csv``, for public offices.

    ``known`` says how: ``decided`` and announced by the Government; ``law``, fixed by the Labour Code (điều 112) and
    the lunar calendar; ``estimated``, where the choice of days is not announced: then only those stand there that are
    off in every likely plan.  A year that is not listed has weekends alone.  So a deadline may come early, never late.
    """
    text = files("bkapp.privacy").joinpath("data/holidays.csv").read_text(encoding="utf-8")
    days: dict[str, set[date]] = {"off": set(), "work": set()}
    for row in csv.DictReader(text.splitlines()):
        days[row["kind"]].add(date.fromisoformat(row["day"]))
    return Holidays(frozenset(days["off"]), frozenset(days["work"]))


def is_working_day(day: date) -> bool:
    """Whether public offices work on a day."""
    listed = holidays()
    return day in listed.work or (day.weekday() < 5 and day not in listed.off)


def after_working_days(day: date, count: int) -> date:
    """The working day that is the ``count``-th after ``day``, which itself does not count."""
    while count > 0:
        day += timedelta(days=1)
        count -= is_working_day(day)
    return day


def _end_of(day: date) -> datetime:
    return datetime.combine(day, time(23, 59, 59), HANOI).astimezone(UTC)


# --- what is kept how long --------------------------------------------------------------------------------------


class Retention(Struct, frozen=True):
    """What is deleted after some days, counted from what, why it is kept that long, and the task that deletes it."""

    what: str
    title: str
    days: int
    counted_from: str
    why: str
    task: str


RETENTION_TASK = "privacy.keep_no_longer"
RETENTION: Mapping[str, Retention] = {
    kept.what: kept
    for kept in (
        Retention(
            "read_notices",
            "Thông báo đã đọc",
            180,
            "khi đọc",
            "Để đối chiếu khi có khiếu nại",
            RETENTION_TASK,
        ),
        Retention(
            "unread_notices",
            "Thông báo chưa đọc",
            730,
            "khi gửi",
            "Người dùng có thể quay lại sau thời gian dài",
            RETENTION_TASK,
        ),
        Retention(
            "request_details",
            "Nội dung yêu cầu về dữ liệu đã giải quyết",
            365,
            "khi giải quyết xong",
            "Khiếu nại, thanh tra; sau đó chỉ giữ loại yêu cầu và thời hạn",
            RETENTION_TASK,
        ),
        Retention(
            "ended_sign_ins",
            "Phiên đăng nhập đã kết thúc",
            90,
            "khi kết thúc",
            "Điều tra sự cố an toàn thông tin",
            "identity.forget",
        ),
        Retention(
            "invitations",
            "Lời mời vào hộ đã hết hạn",
            30,
            "khi hết hạn",
            "Đối chiếu khi có tranh chấp về thành viên hộ",
            "households.forget_old_invitations",
        ),
        Retention(
            "geocode_files",
            "Tệp địa chỉ gửi lên để định vị",
            7,
            "khi gửi",
            "Để tải kết quả về",
            "address.tend_geocode_jobs",
        ),
        Retention(
            "payment_messages",
            "Thông điệp gốc của kênh thanh toán",
            400,
            "khi nhận",
            "Đối soát, quyết toán năm, khiếu nại về một lần nộp",
            "payments.forget_letters",
        ),
        Retention(
            "stored_answers",
            "Câu trả lời lưu theo khóa chống gửi trùng",
            35,
            "khi trả lời",
            "Gửi lại không làm hai lần",
            "bkapp.forget_old_keys",
        ),
    )
}
"""Kept without an end, because the law wants it or nobody is named there: who read data and the audit chain (our ids
alone), consents as proof (our ids alone), questions to the population register, the history of addresses.

Vouchers of accounting (bills, receipts, refunds, the ledger) are kept at least 10 years (Luật Kế toán 88/2015/QH13 điều
41, Nghị định 174/2016/NĐ-CP); nothing deletes them by itself.  Of a payer who is erased they keep an id of nobody."""

# --- who read what, in words ------------------------------------------------------------------------------------

ROLE_WORDS: Mapping[str, str] = {
    "officer": "Cán bộ",
    "monitor": "Giám sát hệ thống của tỉnh",
    "admin": "Cán bộ quản lý dữ liệu của tỉnh",
    "partner": "Đối tác",
}
MYSELF, RELATIVE, SOMEBODY, OFFICE = "Bạn", "Thành viên hộ", "Người dùng khác", "Cơ quan nhà nước"

# The longest beginning of a route that fits tells what was read there.
_WHAT_WORDS: Mapping[str, str] = {
    "/api/v1/addresses/{code}/certificate": "Xem giấy chứng nhận địa chỉ",
    "/api/v1/addresses/{code}/history": "Xem lịch sử địa chỉ",
    "/api/v1/addresses/{code}/": "Cập nhật địa chỉ",
    "/api/v1/addresses": "Xem chi tiết địa chỉ",
    "/api/v1/geocode": "Tìm địa chỉ",
    "/api/v1/autocomplete": "Tìm địa chỉ",
    "/api/v1/wash": "Tìm địa chỉ",
    "/api/v1/reverse": "Tìm địa chỉ quanh một điểm",
    "/tiles": "Xem bản đồ địa chỉ",
    "/api/v1/claims": "Xét đề nghị nhận địa chỉ",
    "/api/v1/memberships": "Xét thành viên hộ",
    "/api/v1/invitations": "Nhận lời mời vào hộ",
    "/api/v1/me/household/refresh": "Tra cứu Cơ sở dữ liệu quốc gia về dân cư",
    "/api/v1/me/household": "Xem hộ gia đình",
    "/api/v1/me/export": "Tải dữ liệu cá nhân",
    "/api/v1/me": "Xem dữ liệu của tài khoản",
    "/api/v1/privacy/requests": "Giải quyết yêu cầu về dữ liệu cá nhân",
    "/api/v1/bills": "Lập hoặc xem khoản phải nộp",
    "/api/v1/bills/{bill_id}/cancel": "Hủy khoản phải nộp",
    "/api/v1/bills/{bill_id}/confirmation": "Tải xác nhận thanh toán",
    "/api/v1/refunds": "Xem khoản hoàn tiền",
    "/api/v1/session": "Đăng nhập",
    "/api/v1/token": "Đăng nhập",
    "/dang-nhap": "Đăng nhập, tra cứu Cơ sở dữ liệu quốc gia về dân cư",
    "/ung-dung/dang-nhap": "Đăng nhập, tra cứu Cơ sở dữ liệu quốc gia về dân cư",
    "/toi/ho-gia-dinh": "Xem hộ gia đình",
    "/toi/hoa-don": "Xem khoản phải nộp",
    "/toi": "Xem trang cá nhân",
    "/moi": "Nhận lời mời vào hộ",
    "/can-bo/quyen-du-lieu": "Giải quyết yêu cầu về dữ liệu cá nhân",
    "/can-bo/hoa-don": "Lập hoặc xem khoản phải nộp",
    "/can-bo/doi-soat": "Đối soát, hoàn tiền",
    "/can-bo": "Xét đề nghị nhận địa chỉ, thành viên hộ",
}


def what_in_words(what: str) -> str:
    """What a recorded route shows, for the person whose data it is."""
    plain = re.sub(r"\{(\w+):\w+\}", r"{\1}", what)
    fitting = [start for start in _WHAT_WORDS if plain.startswith(start)]
    return _WHAT_WORDS[max(fitting, key=len)] if fitting else "Xem dữ liệu"
