"""The pages say what they must, to everybody, within a few kilobytes, whatever they are given."""

import re
from collections.abc import Iterator
from datetime import date
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import UndefinedError
from typing_extensions import override

from bkapp.pages import (
    STATIC,
    AddressView,
    Changed,
    CodeLink,
    Hit,
    ProblemType,
    VerdictView,
    render,
)

STYLE = (STATIC / "style.css").read_text(encoding="utf-8")
LINK = CodeLink("482719346", "BK 482 719 346", "Xã Ngân Sơn")
VIEW = AddressView(
    code="482719346",
    display="BK 482 719 346",
    status="current",
    unit_name="Xã Ngân Sơn",
    province_name="Tỉnh Thái Nguyên",
    hamlet="Thôn Nà Ít",
    former_units=["Thị trấn Vân Tùng, Huyện Ngân Sơn, Tỉnh Bắc Kạn"],
    area="7PH7CR00+",
    boundary="approximate",
    since=date(2025, 8, 2),
    replaces=[LINK],
    replaced_by=[LINK],
    demo=True,
)
HREFS = {name: f"/api/v1/addresses/482719346?as={name}" for name in ("json_href", "svg_href", "pdf_href")}
SUPERSEDED = VerdictView(
    outcome="superseded",
    signed_on=date(2025, 8, 2),
    changes=[Changed("status", "current", "retired"), Changed("hamlet", "Thôn Nà Ít", None)],
)
PAGES: dict[str, tuple[str, dict[str, Any]]] = {
    "home": ("home.html", {"demo": True, "sample": LINK}),
    "home without demo": ("home.html", {"demo": False, "sample": None}),
    "code": ("code.html", {"view": VIEW, "verdict": None, **HREFS}),
    "code superseded": ("code.html", {"view": VIEW, "verdict": SUPERSEDED, **HREFS}),
    "code forged": ("code.html", {"view": VIEW, "verdict": VerdictView(outcome="not_genuine"), **HREFS}),
    "wrong code": ("wrong_code.html", {"typed": "BK 482 719 347", "suggestions": [LINK] * 9}),
    "wrong code without suggestions": ("wrong_code.html", {"typed": "", "suggestions": []}),
    "unknown code": ("unknown_code.html", {"code": LINK}),
    "search": (
        "search.html",
        {
            "q": "na it",
            "more": True,
            "hits": [Hit(kind="Thôn", name="Nà Ít", within="Xã Phủ Thông", note="đến 30/06/2025", href="/x")] * 20,
        },
    ),
    "search before the first question": ("search.html", {"q": "", "more": False, "hits": []}),
    "search without result": ("search.html", {"q": "xyzzy", "more": False, "hits": []}),
    "error": (
        "error.html",
        {"status": 503, "title": "Hệ thống đang bận", "detail": "The database is away.", "request_id": "a3f9c1d2"},
    ),
    "problems": (
        "problems.html",
        {"problems": [ProblemType(f"code_{n}", 409, "Không thực hiện được", "Why, in English.") for n in range(30)]},
    ),
}
HOSTILE = "\"><script>alert('x')</script><img src=x onerror=alert(1)>&amp;{{ 7*7 }}\u202e\x00\ud800'"


class Page(HTMLParser):
    """Reads a page and fails where a tag is not closed in order."""

    VOID = {"meta", "link", "input", "br", "hr", "img"}

    def __init__(self, document: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(document)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"an attribute twice in <{tag}>"
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    @override
    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    @override
    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes another tag"

    @override
    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def every(self, tag: str) -> Iterator[dict[str, str | None]]:
        return (attributes for name, attributes in self.tags if name == tag)


def page(template: str, **values: Any) -> Page:
    return Page(render(template, **values))


def code_page(verdict: VerdictView | None = None, **changes: Any) -> Page:
    return page("code.html", view=msgspec.structs.replace(VIEW, **changes), verdict=verdict, **HREFS)


def hostile(value: Any, text: str = HOSTILE) -> Any:
    """The same values with every free text replaced."""
    if isinstance(value, str):
        return text
    if isinstance(value, list):
        return [hostile(item, text) for item in value]
    if isinstance(value, msgspec.Struct):
        kept = {"status", "outcome", "boundary"}
        return msgspec.structs.replace(
            value,
            **{
                name: hostile(getattr(value, name), text)
                for name in value.__struct_fields__
                if name not in kept and isinstance(getattr(value, name), str | list | msgspec.Struct)
            },
        )
    return value


@pytest.mark.parametrize("name", PAGES)
class TestEveryPage:
    def test_it_is_well_formed(self, name: str) -> None:
        template, values = PAGES[name]
        found = page(template, **values)

        assert render(template, **values).lstrip().startswith("<!doctype html>")
        assert [attributes["lang"] for attributes in found.every("html")] == ["vi"]
        assert len(list(found.every("h1"))) == len(list(found.every("main"))) == len(list(found.every("title"))) == 1
        ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
        assert len(ids) == len(set(ids))

    def test_it_fits_a_slow_phone(self, name: str) -> None:
        template, values = PAGES[name]

        assert len(STYLE.encode()) < 7_000
        assert len(render(template, **values).encode()) + len(STYLE.encode()) < 15_000

    def test_it_obeys_the_content_security_policy_and_loads_nothing_from_elsewhere(self, name: str) -> None:
        template, values = PAGES[name]
        found = page(template, **values)

        assert not {"script", "style", "iframe", "img", "object"} & {tag for tag, _ in found.tags}
        for _, attributes in found.tags:
            assert "style" not in attributes
            assert not [attribute for attribute in attributes if attribute.startswith("on")]
            for link in (attributes.get("href"), attributes.get("src"), attributes.get("action")):
                assert link is None or re.match(r"/(?!/)|#", link)

    def test_it_can_be_used_with_a_keyboard_and_a_screen_reader(self, name: str) -> None:
        template, values = PAGES[name]
        found = page(template, **values)
        ids = {attributes.get("id") for _, attributes in found.tags}
        labelled = {attributes.get("for") for attributes in found.every("label")}

        assert next(found.every("a")) == {"class": "skip", "href": "#main"}
        for field in found.every("input"):
            assert field["id"] in labelled
            assert set((field["aria-describedby"] or "").split()) <= ids
        for drawing in found.every("svg"):
            assert drawing["aria-hidden"] == "true"
        headings = [int(tag[1]) for tag, _ in found.tags if re.fullmatch("h[1-6]", tag)]
        assert all(after <= before + 1 for before, after in pairwise(headings))

    def test_hostile_values_stay_text(self, name: str) -> None:
        template, values = PAGES[name]
        document = render(template, **{key: hostile(value) for key, value in values.items()})
        plain, attacked = page(template, **values), Page(document)

        document.encode()
        assert "<script" not in document
        assert "49" not in attacked.text or "49" in plain.text
        assert [tag for tag, _ in attacked.tags] == [tag for tag, _ in plain.tags] or name.startswith(
            ("wrong", "search")
        )
        assert not {"script", "img"} & {tag for tag, _ in attacked.tags}

    def test_a_forgotten_value_is_an_error_and_not_a_gap(self, name: str) -> None:
        template, values = PAGES[name]

        # Whether there is more is only asked where something was found.
        for forgotten in values.keys() - ({"more"} if not values.get("hits") else set()):
            with pytest.raises(UndefinedError):
                render(template, **{key: value for key, value in values.items() if key != forgotten})


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=300))
def test_any_text_gives_a_well_formed_page(text: str) -> None:
    page("wrong_code.html", typed=text, suggestions=[CodeLink(text, text, text)])
    page("search.html", q=text, more=False, hits=[Hit(kind=text, name=text, within=text)])


class TestHome:
    def test_it_asks_for_a_code_and_for_an_address(self) -> None:
        found = page("home.html", demo=False, sample=None)

        assert [(form["action"], form["method"]) for form in found.every("form")] == [("/c", "get"), ("/tim", "get")]
        fields = {field["name"]: field for field in found.every("input")}
        assert fields["code"]["inputmode"] == "numeric"
        assert set(fields) == {"code", "q"}
        assert {"/schema", "/api/v1/address-events", "/healthz"} <= {link["href"] for link in found.every("a")}

    def test_demo_data_is_named(self) -> None:
        assert "Dữ liệu thử" in page("home.html", demo=True, sample=LINK).text
        assert "Dữ liệu thử" not in page("home.html", demo=False, sample=None).text


class TestCode:
    def test_it_says_what_the_register_holds(self) -> None:
        found = code_page(demo=False, boundary="official", replaces=[], replaced_by=[])

        for expected in (
            "BK 482 719 346",
            "Đang dùng",
            "Thôn Nà Ít",
            "Xã Ngân Sơn , Tỉnh Thái Nguyên",
            "Trước ngày 01/07/2025 Thị trấn Vân Tùng, Huyện Ngân Sơn, Tỉnh Bắc Kạn",
            "7PH7CR00+",
            "02/08/2025",
        ):
            assert expected in found.text
        for absent in ("gần đúng", "Dữ liệu thử", "thay thế", "Thay cho", "Chứng nhận"):
            assert absent not in found.text
        assert set(HREFS.values()) <= {link["href"] for link in found.every("a")}

    @pytest.mark.parametrize(
        ("status", "words"),
        [
            ("proposed", "Đang đề nghị, chưa có hiệu lực"),
            ("current", "Đang dùng"),
            ("retired", "Đã ngừng dùng"),
            ("rejected", "Không được chấp nhận"),
        ],
    )
    def test_each_state_has_words_of_its_own(self, status: str, words: str) -> None:
        assert words in code_page(status=status).text

    def test_approximate_boundaries_are_named_as_such(self) -> None:
        assert "ranh giới gần đúng, chưa phải ranh giới chính thức" in code_page().text

    def test_predecessors_and_successors_are_linked(self) -> None:
        next_one = CodeLink("100000012", "BK 100 000 012")
        found = code_page(status="retired", replaced_by=[next_one])

        assert "Địa chỉ thay thế BK 100 000 012" in found.text
        assert {"/c/100000012", "/c/482719346"} <= {link["href"] for link in found.every("a")}

    def test_a_fresh_certificate_is_confirmed(self) -> None:
        text = code_page(VerdictView(outcome="current", signed_on=date(2025, 8, 2))).text

        assert "Chứng nhận thật và còn đúng. Ký ngày 02/08/2025." in text

    def test_a_superseded_certificate_says_what_changed(self) -> None:
        text = code_page(SUPERSEDED, status="retired", hamlet=None).text

        assert "Chứng nhận thật nhưng đã cũ." in text
        assert "Trạng thái: Đang dùng nay là Đã ngừng dùng" in text
        assert "Thôn, bản, tổ: Thôn Nà Ít nay là không ghi" in text

    @pytest.mark.parametrize(
        ("reason", "words"),
        [
            ("wrong_signature", "Chữ ký không khớp"),
            ("unknown_key", "không phải của sổ đăng ký"),
            ("other_address", "chứng nhận của một địa chỉ khác"),
            ("malformed", "Mã QR bị hỏng"),
            (None, "Mã QR bị hỏng"),
        ],
    )
    def test_a_forged_certificate_is_told_apart_and_explained(self, reason: str | None, words: str) -> None:
        found = code_page(VerdictView(outcome="not_genuine", reason=reason))

        assert "Chứng nhận không thật." in found.text
        assert words in found.text
        assert "notice bad" in {division.get("class") for division in found.every("div")}

    def test_search_engines_are_asked_to_leave_homes_alone(self) -> None:
        assert {"name": "robots", "content": "noindex"} in list(code_page().every("meta"))


class TestWrongAndUnknownCodes:
    def test_a_wrong_code_is_questioned_and_never_corrected(self) -> None:
        found = page("wrong_code.html", typed="BK 482 719 347", suggestions=[LINK])

        assert "“ BK 482 719 347 ” không phải là mã địa chỉ" in found.text
        assert "Có phải bạn muốn tìm…? BK 482 719 346 Xã Ngân Sơn" in found.text
        field = next(found.every("input"))
        assert field["value"] == "BK 482 719 347"
        assert field["aria-invalid"] == "true"

    def test_without_suggestions_there_is_no_question(self) -> None:
        assert "Có phải" not in page("wrong_code.html", typed="1", suggestions=[]).text

    def test_a_code_that_was_never_issued_warns_of_a_false_plate(self) -> None:
        assert "tấm biển đó không do sổ đăng ký địa chỉ cấp" in page("unknown_code.html", code=LINK).text


class TestSearch:
    def test_hits_are_linked_with_where_they_are(self) -> None:
        hits = [Hit(kind="Xã", name="Vi Hương", within="Huyện Bạch Thông", note="nay là Xã Phủ Thông", href="/u/01975")]
        found = page("search.html", q="vi huong", more=False, hits=hits)

        assert "1 kết quả Vi Hương Xã · Huyện Bạch Thông · nay là Xã Phủ Thông" in found.text
        assert "/u/01975" in {link["href"] for link in found.every("a")}
        assert next(found.every("input"))["value"] == "vi huong"

    def test_nothing_found_comes_with_hints(self) -> None:
        assert "Không tìm thấy “ xyzzy ”" in page("search.html", q="xyzzy", more=False, hits=[]).text


def test_each_problem_has_an_anchor() -> None:
    found = page("problems.html", problems=[ProblemType("not_found", 404, "Không tìm thấy", "There is nothing here.")])

    assert {"id": "not_found"} in list(found.every("section"))
    assert "404 · Không tìm thấy There is nothing here." in found.text


class TestStyle:
    TEXT_ON_GROUND = [
        *(("ink", ground) for ground in ("paper", "panel", "mind-panel")),
        *(("soft", ground) for ground in ("paper", "panel")),
        *(("blue", ground) for ground in ("paper", "panel", "mind-panel")),
        ("on-blue", "blue"),
        *((name, ground) for name in ("good", "bad", "mind") for ground in ("paper", f"{name}-panel")),
    ]

    @pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
    def test_text_has_a_contrast_of_seven_and_lines_of_three(self, scheme: int) -> None:
        colours = dict(
            re.findall(r"--([\w-]+): (#[0-9a-f]{6})", re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)[scheme])
        )

        for text, ground in self.TEXT_ON_GROUND:
            assert _contrast(colours[text], colours[ground]) >= 7, (text, ground)
        for ground in ("paper", "panel"):
            assert _contrast(colours["line"], colours[ground]) >= 3

    def test_it_loads_nothing(self) -> None:
        assert "url(" not in STYLE
        assert "@import" not in STYLE

    def test_every_class_that_is_used_is_styled(self) -> None:
        used = {
            name
            for template, values in PAGES.values()
            for _, attributes in page(template, **values).tags
            for name in (attributes.get("class") or "").split()
        }

        assert used <= set(re.findall(r"\.([a-z]+)", STYLE))

    def test_the_icon_is_there(self) -> None:
        assert (STATIC / "icon.svg").read_text(encoding="utf-8").startswith("<svg")


def _contrast(one: str, other: str) -> float:
    """WCAG 2.2, "contrast ratio"."""
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
