"""The pages of who has signed in, with made-up people: well formed, small, usable by everybody, and inert."""

import re
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from bkapp.account import office as work
from bkapp.account import rights
from bkapp.account.data import READS_ON_A_PAGE, READS_SHOWN, REQUESTS_SHOWN
from bkapp.account.devices import MOST_SHOWN
from bkapp.account.household import RELATIONS, _qr
from bkapp.pages import STATIC, render
from bkapp.pages.account import (
    Card,
    Choice,
    Claim,
    ClaimWork,
    Device,
    FieldProblem,
    HouseholdView,
    Invited,
    Line,
    Me,
    Member,
    MemberWork,
    NoticeView,
    Pin,
    Problem,
    PurposeView,
    ReadView,
    RequestView,
    RequestWork,
    Sent,
    Spot,
)
from bkapp.privacy.purposes import PURPOSES
from tests.pages.test_pages import HOSTILE, STYLE, Page

AT = datetime(2026, 11, 24, 3, 5, tzinfo=UTC)
ID = "0f8fad5b-d9cb-469f-a165-70867728950e"
ME = Me(name="Nông Văn Hùng")
REGISTRAR = Me(name="Lường Văn Quyết", officer=True, registrar=True)
CARD = Card(code="482719346", display="BK 482 719 346", door="Số 12", hamlet="Nà Ít", unit_name="Xã Phủ Thông")
CLAIM = Claim(id=ID, display="BK 482 719 346", new=True, status="waiting", at=AT)
MEMBERS = [
    Member(id=f"{ID[:-1]}1", name="Nông Văn Hùng", head=True, me=True),
    Member(id=f"{ID[:-1]}2", name="Hoàng Thị Lan", head=False, relation="vợ"),
    Member(id=f"{ID[:-1]}3", name="Triệu Thị Mẩy", head=False, relation="Mẹ", can_end=True),
    Member(id=f"{ID[:-1]}4", name=None, head=False, waiting=True, can_end=True),
]
HOUSEHOLD = HouseholdView(
    members=MEMBERS,
    head=True,
    waiting=False,
    address=CARD,
    claim=None,
    hindrance="housed",
    invitations=[Sent(id=ID, relation="Mẹ", until=AT)],
)
CLAIMING = msgspec.structs.replace(HOUSEHOLD, address=None, claim=CLAIM, hindrance="claim_waiting")
WITHOUT = msgspec.structs.replace(HOUSEHOLD, address=None, hindrance=None)
REFUSED = msgspec.structs.replace(WITHOUT, claim=msgspec.structs.replace(CLAIM, status="refused", reason="Sai thôn"))
WAITING = msgspec.structs.replace(
    HOUSEHOLD, members=[], head=False, waiting=True, address=None, invitations=[], can_leave=True
)
GUEST = msgspec.structs.replace(
    HOUSEHOLD,
    members=[msgspec.structs.replace(member, name=None, can_end=False) for member in MEMBERS],
    head=False,
    invitations=[],
    can_leave=True,
)
LINK = "https://bkapp.example/moi/" + "a" * 43
PIN = Pin(
    lon="105.840000",
    lat="22.260000",
    zoom=15,
    closer=16,
    wider=None,
    step=50,
    accuracy_m="12",
    near="Gần Nà Ít, Xã Phủ Thông",
    unit_name="Xã Phủ Thông",
    map_href="/toi/ho-gia-dinh/dia-chi/ban-do.svg?lat=22.26&lon=105.84&z=15",
)
HAMLETS = [Choice(f"Thôn Nà Ít {n}", f"Thôn Nà Ít {n}") for n in range(40)]
NEW: dict[str, dict[str, Any]] = {
    "household": {"household": None, "away": False, "unknown": None, "checked": None, "invited": None},
    "form": {"problem": None, "typed": {}},
}
PURPOSE_VIEWS = [
    PurposeView(key=one.id, title=one.title, text=one.text, version=one.version, given=AT, data=", ".join(one.data))
    for one in PURPOSES.values()
    if one.basis == "consent"
]
REQUEST = RequestView(title="Chỉnh sửa dữ liệu của tôi", status="received", at=AT, due=AT, left="Còn 9 ngày")
WORK = ClaimWork(
    id=ID,
    who="Nông Văn Hùng",
    display="BK 482 719 346",
    new=True,
    place="số 12, Xã Phủ Thông",
    at=AT,
    map_href=f"/can-bo/viec/dia-chi/{ID}/ban-do.svg",
)
CASE = RequestWork(
    id=ID,
    who="Nông Văn Hùng",
    title="Chỉnh sửa dữ liệu của tôi",
    erase=False,
    at=AT,
    acknowledge_left="còn 2 ngày",
    due=AT,
    left="Còn 9 ngày",
    late=False,
    extended=False,
    details="Tên tôi ghi sai, đúng là …",
)


def other(number: int) -> str:
    return ID[:-4] + f"{number:04d}"


def _household(view: HouseholdView | None, **changes: Any) -> tuple[str, dict[str, Any]]:
    values = {"me": ME, "household": view, "relations": RELATIONS, "checked": AT, **NEW["form"]}
    return "household.html", {**NEW["household"], **values, **changes}


def _home(view: HouseholdView | None, **changes: Any) -> tuple[str, dict[str, Any]]:
    values = {"me": ME, "notices": [], "household": view, "away": False, "unknown": None}
    return "home.html", values | changes


def _claim(**changes: Any) -> tuple[str, dict[str, Any]]:
    values: dict[str, Any] = {"me": ME, "hindrance": None, "unknown": None, "q": "", "tried": False, "hits": []}
    return "claim.html", {**values, "hamlets": HAMLETS, "unit_name": "Xã Phủ Thông", **NEW["form"], **changes}


def _pin(**changes: Any) -> tuple[str, dict[str, Any]]:
    values: dict[str, Any] = {"me": ME, "pin": PIN, "steps": (10, 50, 200), "registered": None, "hamlets": HAMLETS}
    return "pin.html", {**values, **NEW["form"], **changes}


def _data(**changes: Any) -> tuple[str, dict[str, Any]]:
    values: dict[str, Any] = {
        "me": ME,
        "profile": [Line("Họ tên", "Nông Văn Hùng"), Line("Số định danh", "•••••••• 0101")],
        "purposes": PURPOSE_VIEWS,
        "tasks": [Line(one.title, one.act) for one in PURPOSES.values() if one.basis == "task"],
        "sure": True,
        "requests": [REQUEST] * REQUESTS_SHOWN,
        "reads": [ReadView(AT, "Cán bộ Xã Phủ Thông", "Xem chi tiết địa chỉ")] * READS_SHOWN,
        "recent": False,
        "controller": "Ủy ban nhân dân tỉnh Thái Nguyên",
        "asks": [Choice("rectify", "Chỉnh sửa dữ liệu của tôi")],
    }
    return "data.html", {**values, **NEW["form"], **changes}


def _work(**changes: Any) -> tuple[str, dict[str, Any]]:
    claims = [msgspec.structs.replace(WORK, id=other(n), who=f"Nông Văn {n}") for n in range(work.SHOWN)]
    members = [
        MemberWork(id=other(n + 100), who=f"Triệu Thị {n}", relation="Mẹ", home="BK 482 719 346", at=AT)
        for n in range(work.SHOWN)
    ]
    values: dict[str, Any] = {"me": REGISTRAR, "claims": claims, "more_claims": True, "memberships": members}
    return "work.html", {**values, "more_memberships": False, "problem": None, "of": "", **changes}


def _requests(**changes: Any) -> tuple[str, dict[str, Any]]:
    cases = [msgspec.structs.replace(CASE, id=other(n), erase=n == 0, late=n == 1) for n in range(rights.SHOWN)]
    values: dict[str, Any] = {"me": REGISTRAR, "requests": cases, "more": other(9), "most_days": 15, "problem": None}
    return "requests.html", {**values, "typed": {}, "of": "", **changes}


WRONG = Problem("Không thể cấp địa chỉ theo đề nghị này", [FieldProblem("building", "Đã có nhà khác ở đúng cửa này.")])
PAGES: dict[str, tuple[str, dict[str, Any]]] = {
    "home": _home(HOUSEHOLD, me=REGISTRAR),
    "home with notices": _home(
        CLAIMING,
        notices=[
            NoticeView(other(1), "new_device", AT, "Chrome, Android"),
            NoticeView(other(2), "token_reused", AT),
            NoticeView(other(3), "data_request", AT),
            NoticeView(other(4), "membership_ended", AT),
        ],
    ),
    "home with notices about money": _home(
        WITHOUT,
        notices=[
            NoticeView(other(1), "bill_paid", AT, bill=other(11)),
            NoticeView(other(2), "money_suspended", AT, bill=other(12)),
            NoticeView(other(3), "refund_succeeded", AT, bill=other(13)),
            NoticeView(other(4), "said_by_a_later_release", AT, bill=other(14)),
        ],
    ),
    "home without address": _home(WITHOUT),
    "home of who waits": _home(WAITING),
    "home of a child": _home(msgspec.structs.replace(WITHOUT, hindrance="minor")),
    "home without household": _home(None),
    "home while the register is away": _home(None, away=True),
    "home of who is not in the register": _home(None, unknown=Problem("Chưa tìm thấy bạn")),
    "household": _household(HOUSEHOLD),
    "household that claims": _household(CLAIMING),
    "household without address": _household(WITHOUT),
    "household that was refused": _household(REFUSED),
    "household with an invitation": _household(HOUSEHOLD, invited=Invited(LINK, _qr(LINK))),
    "household of who waits": _household(WAITING),
    "household of who was invited": _household(GUEST),
    "household while the register is away": _household(None, away=True),
    "household refused": _household(
        HOUSEHOLD, problem=Problem("Chưa tạo được lời mời", [FieldProblem("relation", "Hãy chọn.")])
    ),
    "claim": _claim(),
    "claim with hits": _claim(q="na it", tried=True, hits=[Spot("Nà Ít, Xã Phủ Thông", "/toi/x")] * 6),
    "claim without hits": _claim(q="xyzzy", tried=True),
    "claim hindered": _claim(hindrance="minor", hamlets=[], unit_name=None),
    "claim refused": _claim(
        problem=Problem("Mã địa chỉ không đúng", [FieldProblem("code", "Xin so lại.")]), typed={"code": "123"}
    ),
    "pin": _pin(),
    "pin elsewhere": _pin(registered="Xã Yên Phong"),
    "pin outside": _pin(pin=msgspec.structs.replace(PIN, near=None, unit_name=None)),
    "pin refused": _pin(problem=WRONG, typed={"building": "A", "house_number": "12"}),
    "review": (
        "review.html",
        {
            "me": ME,
            "found": [Line("Thôn", "Nà Ít")],
            "pin": PIN,
            "sent": {"lat": "22.26", "lon": "105.84"},
            "back": "/toi/ho-gia-dinh/dia-chi",
            "problem": None,
        },
    ),
    "invitation": ("invitation.html", {"me": ME, "token": "a" * 43, "problem": None}),
    "invitation to a stranger": ("invitation.html", {"me": None, "token": "a" * 43, "problem": None}),
    "devices": (
        "devices.html",
        {
            "me": ME,
            "devices": [
                Device(id=other(n), name="Chrome, Android", app=n > 7, since=AT, seen=AT, here=n == 0)
                for n in range(MOST_SHOWN)
            ],
            "problem": None,
        },
    ),
    "data": _data(),
    "data soon after signing in": _data(recent=True),
    "data of somebody new": _data(requests=[], reads=[]),
    "data refused": _data(problem=Problem("Chưa gửi được", [FieldProblem("kind", "Hãy chọn.")])),
    "reads": (
        "reads.html",
        {"me": ME, "reads": [ReadView(AT, "Bạn", "Xem trang cá nhân")] * READS_ON_A_PAGE, "older": 77},
    ),
    "erase": ("erase.html", {"me": ME, "consequences": ["Tên bạn bị xóa."], "problem": None}),
    "work": _work(),
    "work refused": _work(
        problem=Problem("Chưa ghi lý do", [FieldProblem(f"reason-{other(0)}", "Hãy ghi.")]), of=other(0)
    ),
    "no work": _work(claims=[], memberships=[], more_claims=False),
    "requests": _requests(),
    "requests refused": _requests(
        problem=Problem("Chưa ghi", [FieldProblem(f"words-{other(1)}", "Hãy ghi.")]), of=other(1)
    ),
    "step up": ("step_up.html", {"href": "/dang-nhap?max_age=300&next=%2Ftoi"}),
    "assurance": ("assurance.html", {}),
}
WITH_SCRIPT = {name for name in PAGES if name.startswith("claim")}
UNLABELLED = {"hidden", "image"}


def shown(name: str) -> Page:
    template, values = PAGES[name]
    return Page(render(f"account/{template}", **values))


@pytest.mark.parametrize("name", PAGES)
class TestEveryPage:
    def test_it_is_well_formed(self, name: str) -> None:
        found = shown(name)

        assert [attributes["lang"] for attributes in found.every("html")] == ["vi"]
        assert len(list(found.every("h1"))) == len(list(found.every("main"))) == 1
        ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
        assert len(ids) == len(set(ids))

    def test_it_fits_a_slow_phone(self, name: str) -> None:
        template, values = PAGES[name]

        assert len(render(f"account/{template}", **values).encode()) + len(STYLE.encode()) < 15_000

    def test_it_runs_no_script_and_loads_nothing_from_elsewhere(self, name: str) -> None:
        found = shown(name)

        scripts = [attributes.get("src") for attributes in found.every("script")]
        assert scripts == (["/toi/ho-gia-dinh/dia-chi/vi-tri.js"] if name in WITH_SCRIPT else [])
        assert not {"style", "iframe", "object"} & {tag for tag, _ in found.tags}
        for _, attributes in found.tags:
            assert "style" not in attributes
            assert not [attribute for attribute in attributes if attribute.startswith("on")]
            for link in (attributes.get("href"), attributes.get("src"), attributes.get("action")):
                assert link is None or re.match(r"/(?!/)|#", link) or link == LINK

    def test_every_field_has_a_label_and_every_button_words(self, name: str) -> None:
        found = shown(name)
        ids = {attributes.get("id") for _, attributes in found.tags}
        labelled = {attributes.get("for") for attributes in found.every("label")}

        for tag in ("input", "select", "textarea"):
            for field in found.every(tag):
                if field.get("type") in UNLABELLED:
                    continue
                assert field["id"] in labelled
                assert set((field.get("aria-describedby") or "").split()) <= ids
                if field.get("aria-invalid"):
                    assert f"{field['id']}-wrong" in ids
        for field in found.every("input"):
            assert field.get("type") != "image" or field["alt"]
        for picture in found.every("img"):
            assert picture["alt"]
        for _, attributes in found.tags:
            assert set((attributes.get("aria-labelledby") or "").split()) <= ids
        headings = [int(tag[1]) for tag, _ in found.tags if re.fullmatch("h[1-6]", tag)]
        assert all(after <= before + 1 for before, after in pairwise(headings))

    def test_what_is_wrong_is_linked_to_its_field_and_the_title_says_so(self, name: str) -> None:
        template, values = PAGES[name]
        problem = values.get("problem")
        if problem is None:
            return
        document = render(f"account/{template}", **values)
        found = Page(document)
        ids = {attributes.get("id") for _, attributes in found.tags}

        assert "<title>Lỗi: " in document
        for wrong in problem.fields:
            assert wrong.field in ids
            assert f"#{wrong.field}" in {link.get("href") for link in found.every("a")}
        summary = next(division for division in found.every("div") if division.get("id") == "refusal")
        assert {"role", "tabindex", "autofocus"} <= summary.keys()

    def test_every_change_has_a_key_of_its_own(self, name: str) -> None:
        forms = [form for form in shown(name).every("form") if form["method"] == "post"]
        reads = [form for form in forms if form["action"] == "/toi/ho-gia-dinh/dia-chi/xem-lai"]
        keys = [field["value"] for field in shown(name).every("input") if field.get("name") == "idempotency_key"]

        assert len(keys) == len(set(keys)) == len(forms) - len(reads)
        assert all(re.fullmatch("[0-9a-f]{32}", key or "") for key in keys)

    def test_hostile_values_stay_text(self, name: str) -> None:
        template, values = PAGES[name]
        document = render(f"account/{template}", **{key: hostile(value) for key, value in values.items()})
        document.encode()
        attacked, plain = Page(document), shown(name)

        assert len(list(attacked.every("script"))) == len(list(plain.every("script")))
        assert len(list(attacked.every("img"))) == len(list(plain.every("img")))
        assert not [tag for tag, attributes in attacked.tags if "onerror" in attributes]


FREE_TEXT = {"name", "reason", "text", "title", "who", "what", "details", "door", "hamlet", "unit_name", "relation",
             "device", "value", "place", "outcome", "near", "display", "left"}  # fmt: skip


def hostile(value: Any) -> Any:
    """The same values with everything that people or registers word replaced."""
    if isinstance(value, list):
        return [hostile(item) for item in value]
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.replace(
            value,
            **{
                name: HOSTILE if name in FREE_TEXT and isinstance(given, str) else hostile(given)
                for name in value.__struct_fields__
                if (given := getattr(value, name)) is not None
            },
        )
    return value


def test_the_header_says_who_has_signed_in_and_how_to_leave() -> None:
    found = shown("home")

    assert "Lường Văn Quyết" in found.text
    assert ("/dang-xuat", "post") in [(form["action"], form["method"]) for form in found.every("form")]
    stranger = shown("invitation to a stranger")
    assert "/dang-nhap?next=%2Ftoi" in [link.get("href") for link in stranger.every("a")]


def test_who_is_invited_may_go_and_be_sent_away_in_two_steps() -> None:
    def forms(name: str) -> list[str]:
        actions = [form["action"] or "" for form in shown(name).every("form")]
        return [action for action in actions if action.endswith(("/roi", "/moi-ra"))]

    assert forms("household of who waits") == forms("household of who was invited") == ["/toi/ho-gia-dinh/roi"]
    assert "Rút đề nghị vào hộ" in shown("household of who waits").text
    assert "Rời hộ" in shown("household of who was invited").text
    assert forms("household") == [f"/toi/ho-gia-dinh/thanh-vien/{ID[:-1]}{n}/moi-ra" for n in (3, 4)]
    assert len(list(shown("household").every("summary"))) == 2


def test_consent_is_never_given_beforehand_and_as_easily_withdrawn_as_given() -> None:
    found = shown("data")

    buttons = [button for button in found.every("button") if button.get("name") == "answer"]
    assert {button["value"] for button in buttons} == {"give", "withdraw"}
    assert {button["class"] for button in buttons} == {"plain"}
    assert not [field for field in found.every("input") if "checked" in field]


def test_who_is_asked_for_consent_is_told_which_data_and_when_they_withdrew() -> None:
    one = msgspec.structs.replace(PURPOSE_VIEWS[0], given=None, withdrawn=AT)
    template, values = _data(purposes=[one])
    found = Page(render(f"account/{template}", **values)).text

    assert f"Dữ liệu được dùng: {one.data}." in found
    assert "Bạn đã rút lại sự đồng ý lúc" in found
    assert "Bạn chưa đồng ý" not in found
    for purpose in PURPOSES.values():
        if purpose.basis == "task":
            assert purpose.act in found


def test_a_notice_about_money_says_what_happened_and_leads_to_its_bill() -> None:
    found = shown("home with notices about money")
    hrefs = [link.get("href") for link in found.every("a")]
    for bill, words in (
        (11, "Bạn đã nộp xong một khoản"),
        (12, "Tiền bạn chuyển đang chờ xử lý"),
        (13, "Bạn đã được hoàn tiền"),
        (14, "Khoản phải nộp của bạn có thay đổi"),
    ):
        assert f"/toi/hoa-don/{other(bill)}" in hrefs
        assert words in found.text
    # None of them is about a stranger at one's account.
    assert "Nếu không phải bạn" not in found.text


def test_the_reason_for_more_time_is_not_lost_and_what_is_wrong_stands_at_its_field() -> None:
    days = f"days-{other(1)}"
    problem = Problem("Chưa gia hạn được", [FieldProblem(days, "Gia hạn từ 1 đến 15 ngày.")])
    template, values = _requests(problem=problem, of=other(1), typed={"words": "Chờ <xã>"})
    html = render(f"account/{template}", **values)
    chosen = next(select for select in Page(html).every("select") if select["id"] == days)

    assert chosen["aria-describedby"] == f"{days}-wrong"
    assert html.count("Chờ &lt;xã&gt;</textarea>") == 1


def test_export_is_offered_only_to_who_signed_in_just_now() -> None:
    links = [link.get("href") for link in shown("data").every("a")]
    fresh = [link.get("href") for link in shown("data soon after signing in").every("a")]

    assert "/dang-nhap?max_age=300&next=%2Ftoi%2Fdu-lieu" in links
    assert "/api/v1/me/export.pdf" not in links
    assert {"/api/v1/me/export.pdf", "/api/v1/me/export.json"} <= set(fresh)


def test_the_script_is_tiny() -> None:
    assert len((STATIC / "locate.js").read_bytes()) < 1024
