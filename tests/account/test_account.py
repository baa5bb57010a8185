"""What people do on their pages: claim an address, invite, sign out, ask about their data; what officers decide."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from urllib.parse import quote
from uuid import uuid4

import msgspec
import pytest
from httpx import AsyncClient
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.access.models import DataRead
from bkapp.access.operations import Caller
from bkapp.access.rules import Role
from bkapp.address import operations
from bkapp.address.models import Dwelling, Household
from bkapp.address.rules import PointSource, Status
from bkapp.config import Settings
from bkapp.db import Sessions
from bkapp.households.models import AddressClaim, Membership
from bkapp.households.providers import RegisterUnavailable
from bkapp.households.rules import REGISTER_STANDS, ClaimStatus, MemberStatus
from bkapp.http import IdempotencyRecord, today
from bkapp.identity.models import Notice, Person, SignIn
from bkapp.identity.rules import SignInKind
from bkapp.privacy.models import Consent, SubjectRequest
from tests import make
from tests.account.make import link, see, send, served
from tests.households.make import Answers, a_head, a_person, an_officer
from tests.pages.test_pages import Page

CLAIM = "/toi/ho-gia-dinh/dia-chi"
MAP = f"{CLAIM}/ban-do"


@pytest.fixture
async def head(session: AsyncSession) -> Caller:
    return await a_head(session)


@pytest.fixture
async def officer(session: AsyncSession) -> Caller:
    return await an_officer(session)


@pytest.fixture
async def registrar(session: AsyncSession) -> Caller:
    person = await a_person(session, "Lường Văn Quyết")
    return msgspec.structs.replace(person, role=Role.ADMIN, unit_ids=None, authenticated_at=datetime.now(UTC))


@pytest.fixture
async def browser(
    settings: Settings, sessions: Sessions, session: AsyncSession, head: Caller, officer: Caller, registrar: Caller
) -> AsyncIterator[AsyncClient]:
    await session.commit()
    async with served(settings, sessions, head, officer, registrar) as client:
        yield client


async def pin_of(session: AsyncSession, unit: str = make.COMMUNE) -> dict[str, str]:
    place = await make.a_place(session, unit)
    return {"lat": f"{place.lat:.6f}", "lon": f"{place.lon:.6f}", "z": "15"}


async def claimed(session: AsyncSession) -> AddressClaim:
    found = await session.scalars(select(AddressClaim).execution_options(populate_existing=True))
    return found.one()


class TestDoors:
    @pytest.mark.parametrize(
        "path", ["/toi", "/toi/ho-gia-dinh", CLAIM, "/toi/thiet-bi", "/toi/du-lieu", "/toi/du-lieu/xoa", "/can-bo/viec"]
    )
    async def test_a_stranger_is_led_to_sign_in_and_back(self, browser: AsyncClient, path: str) -> None:
        answer = await see(browser, None, f"{path}?a=1")

        assert answer.status_code == 302
        quoted = path.replace("/", "%2F")
        assert answer.headers["location"] == f"/dang-nhap?next={quoted}%3Fa%3D1"
        assert answer.headers["cache-control"] == "no-store"

    async def test_a_stranger_that_is_a_program_is_told_so(self, browser: AsyncClient) -> None:
        answer = await browser.get("/toi", headers={"Accept": "application/json"})

        assert answer.status_code == 401
        assert answer.json()["type"] == "/problems/unauthenticated"

    async def test_a_form_of_a_stranger_changes_nothing_and_says_how_to_go_on(self, browser: AsyncClient) -> None:
        answer = await send(browser, None, "/toi/du-lieu/xoa")

        assert answer.status_code == 401
        assert link(answer, '/dang-nhap[^"]*') == "/dang-nhap?next=%2Ftoi"

    async def test_a_form_of_another_site_is_refused(self, browser: AsyncClient, head: Caller) -> None:
        answer = await browser.post(
            "/toi/du-lieu/xoa",
            headers={"Accept": "text/html", "Sec-Fetch-Site": "cross-site", "Cookie": f"__Host-bkapp={head.id}"},
            data={"idempotency_key": uuid4().hex},
        )

        assert answer.status_code == 403
        assert "Yêu cầu không đến từ trang của hệ thống" in answer.text

    async def test_a_citizen_has_no_office(self, browser: AsyncClient, head: Caller) -> None:
        assert (await see(browser, head, "/can-bo/viec")).status_code == 403
        assert (await see(browser, head, "/can-bo/quyen-du-lieu")).status_code == 403

    async def test_who_is_not_sure_enough_is_told_how_to_become_so(
        self, settings: Settings, sessions: Sessions, session: AsyncSession
    ) -> None:
        lowly = msgspec.structs.replace(await a_person(session), level=1)
        await session.commit()
        async with served(settings, sessions, lowly) as browser:
            home = await see(browser, lowly, "/toi")
            household = await see(browser, lowly, "/toi/ho-gia-dinh")

        assert home.status_code == 200
        assert "Cần tài khoản định danh mức độ 2" in home.text
        assert household.status_code == 403
        assert "công an xã" in Page(household.text).text

    async def test_only_the_page_that_asks_for_the_position_may_run_a_script(
        self, browser: AsyncClient, head: Caller
    ) -> None:
        policies = {
            path: (await see(browser, head, path)).headers["content-security-policy"]
            for path in (CLAIM, "/toi", "/toi/ho-gia-dinh", f"{MAP}?lat=22.2&lon=105.8")
        }
        script = await see(browser, None, f"{CLAIM}/vi-tri.js")

        assert "script-src 'self'" in policies.pop(CLAIM)
        assert not [policy for policy in policies.values() if "script" in policy]
        assert script.headers["content-type"].startswith("text/javascript")


class TestHome:
    async def test_it_greets_by_name_and_says_what_to_do_next(self, browser: AsyncClient, head: Caller) -> None:
        answer = await see(browser, head, "/toi")
        page = Page(answer.text)

        assert answer.headers["cache-control"] == "no-store"
        assert "Xin chào, Nông Văn Hùng" in page.text.replace(" ,", ",")
        assert link(answer, CLAIM) == CLAIM
        assert "/can-bo/viec" not in answer.text

    async def test_officers_see_their_work(self, browser: AsyncClient, officer: Caller, registrar: Caller) -> None:
        assert "/can-bo/viec" in (await see(browser, officer, "/toi")).text
        assert "/can-bo/quyen-du-lieu" in (await see(browser, registrar, "/toi")).text

    async def test_a_notice_stays_until_it_is_read(
        self, browser: AsyncClient, session: AsyncSession, head: Caller
    ) -> None:
        session.add(Notice(id=uuid4(), person_id=head.person, kind="new_device", data={"device": "Firefox, Windows"}))
        await session.commit()

        before = await see(browser, head, "/toi")
        done = await send(browser, head, link(before, '/toi/thong-bao/[^"]+'))

        assert "Firefox, Windows" in before.text
        assert (done.status_code, done.headers["location"]) == (303, "/toi")
        assert "Firefox, Windows" not in (await see(browser, head, "/toi")).text

    async def test_that_one_read_ones_own_name_is_recorded(
        self, browser: AsyncClient, session: AsyncSession, head: Caller
    ) -> None:
        await see(browser, head, "/toi")

        reads = await session.scalars(select(DataRead.what).where(DataRead.subject == head.id))
        assert "/toi" in list(reads)


class TestClaiming:
    async def test_the_way_by_a_pin_ends_with_a_confirmed_address(
        self, browser: AsyncClient, session: AsyncSession, head: Caller, officer: Caller
    ) -> None:
        at = await pin_of(session)
        start = await see(browser, head, f"{CLAIM}?q={at['lat']}, {at['lon']}")
        pin = await see(browser, head, link(start, f'{MAP}[^"]+'))
        drawing = await see(browser, head, link(pin, f'{MAP}.svg[^"]+'))
        review = await send(browser, head, f"{CLAIM}/xem-lai", **at, house_number="12", street="Đường Nà Ít")
        sent = dict(re.findall(r'<input type="hidden" name="(?!idem)(\w+)" value="([^"]*)"', review.text))
        made = await send(browser, head, CLAIM, **sent)

        assert "Xã Phủ Thông" in pin.text
        assert drawing.headers["content-type"].startswith("image/svg+xml")
        assert "Đường Nà Ít" in review.text
        assert (made.status_code, made.headers["location"]) == (303, "/toi/ho-gia-dinh")
        claim = await claimed(session)
        home = await session.get_one(Dwelling, claim.code)
        assert (home.house_number, home.street, home.point_source) == ("12", "Đường Nà Ít", PointSource.MAP)
        assert "Đang chờ xã xác nhận" in (await see(browser, head, "/toi")).text

        work = await see(browser, officer, "/can-bo/viec")
        assert "Nông Văn Hùng" in work.text
        assert (await see(browser, officer, link(work, '/can-bo/[^"]+svg'))).status_code == 200
        done = await send(browser, officer, link(work, '/can-bo/viec/dia-chi/[^"]+/xac-nhan'))
        assert done.status_code == 303
        assert "Không có địa chỉ nào chờ" in (await see(browser, officer, "/can-bo/viec")).text
        shown = await see(browser, head, "/toi/ho-gia-dinh")
        assert f"/c/{claim.code}" in shown.text
        assert "Số 12, Đường Nà Ít" in shown.text

    async def test_a_measured_position_is_kept_as_such_until_the_pin_is_moved(
        self, browser: AsyncClient, session: AsyncSession, head: Caller
    ) -> None:
        at = await pin_of(session)
        moved = await see(browser, head, f"{MAP}?lat={at['lat']}&lon={at['lon']}&z=15&m=12&huong=bac&buoc=10")
        await send(browser, head, CLAIM, **at, m="12")

        assert "m=" not in moved.headers["location"]
        home = await session.get_one(Dwelling, (await claimed(session)).code)
        assert (home.point_source, home.point_accuracy_m) == (PointSource.GPS, 12)

    @pytest.mark.parametrize(
        ("asked", "moved"),
        [
            ("huong=bac&buoc=200", (200, 0)),
            ("huong=nam&buoc=50", (-50, 0)),
            ("huong=dong&buoc=10", (0, 10)),
            ("huong=tay&buoc=10", (0, -10)),
            ("pin.x=140&pin.y=110", (221, 0)),
            ("pin.x=240&pin.y=160", (0, 442)),
            ("pin.x=0&pin.y=0", None),
        ],
    )
    async def test_buttons_and_taps_move_the_pin(
        self, browser: AsyncClient, head: Caller, asked: str, moved: tuple[float, float] | None
    ) -> None:
        answer = await see(browser, head, f"{MAP}?lat=22.260000&lon=105.840000&z=15&{asked}")

        if moved is None:  # the map was reached with the keyboard, which taps nowhere
            assert answer.status_code == 200
            return
        found = re.search(r"lat=([\d.]+)&lon=([\d.]+)&z=15", answer.headers["location"])
        assert found
        north = (float(found[1]) - 22.26) * 111_320
        east = (float(found[2]) - 105.84) * 111_320 * 0.9255
        assert (north, east) == pytest.approx(moved, abs=3)

    async def test_zooming_keeps_the_pin(self, browser: AsyncClient, head: Caller) -> None:
        answer = await see(browser, head, f"{MAP}?lat=22.260000&lon=105.840000&z=15&to=16")

        assert answer.headers["location"] == f"{MAP}?lat=22.260000&lon=105.840000&z=16#ban-do"

    @pytest.mark.parametrize(
        "asked",
        [
            "",
            "lat=x&lon=1",
            "lat=nan&lon=105",
            "lat=22&lon=105&z=99",
            "lat=22&lon=105&pin.x=-1",
            "thon=x",
            "thon=9999999",
        ],
    )
    async def test_an_address_that_somebody_typed_leads_back_to_the_start(
        self, browser: AsyncClient, head: Caller, asked: str
    ) -> None:
        answer = await see(browser, head, f"{MAP}?{asked}")

        assert (answer.status_code, answer.headers["location"]) == (303, CLAIM)

    async def test_no_home_is_on_the_map(self, browser: AsyncClient, session: AsyncSession, head: Caller) -> None:
        at = await pin_of(session)
        drawing = f"{MAP}.svg?lat={at['lat']}&lon={at['lon']}&z=17"
        before = await see(browser, head, drawing)
        await make.an_address(session)
        await session.commit()

        assert (await see(browser, head, drawing)).text == before.text

    async def test_from_afar_the_map_shows_communes_and_their_borders(
        self, browser: AsyncClient, session: AsyncSession, head: Caller
    ) -> None:
        at = await pin_of(session)
        drawing = await see(browser, head, f"{MAP}.svg?lat={at['lat']}&lon={at['lon']}&z=12")

        assert ">Xã Phủ Thông</text>" in drawing.text
        assert "stroke-dasharray" in drawing.text, "approximate borders are dashed"
        assert len(drawing.content) < 15_000

    async def test_what_was_typed_into_a_refused_form_is_kept_nowhere(
        self, browser: AsyncClient, session: AsyncSession, head: Caller
    ) -> None:
        await send(browser, head, CLAIM, **await pin_of(session, "02083"), street="Đường Riêng Tư")

        bodies = await session.scalars(select(IdempotencyRecord.body))
        assert not [body for body in bodies if "Riêng Tư".encode() in body or "Nông Văn Hùng".encode() in body]

    async def test_a_hamlet_of_the_commune_is_a_place_to_begin(
        self, browser: AsyncClient, session: AsyncSession, head: Caller
    ) -> None:

        await operations.open_hamlet(
            session, make.ADMIN, unit_code=make.COMMUNE, name="Nà Ít", since=None, today=today()
        )
        await session.commit()

        start = await see(browser, head, CLAIM)
        chosen = re.search(r'<option value="(\d+)">Nà Ít</option>', start.text)
        assert chosen
        answer = await see(browser, head, f"{MAP}?thon={chosen[1]}")
        assert answer.headers["location"].startswith(f"{MAP}?lat=")

    async def test_by_its_code(self, browser: AsyncClient, session: AsyncSession, head: Caller) -> None:
        home = await make.an_address(session)
        await session.commit()

        review = await send(browser, head, f"{CLAIM}/xem-lai", code=home.code)
        made = await send(browser, head, CLAIM, code=home.code)

        assert "Xã Phủ Thông" in review.text
        assert made.status_code == 303
        assert (await claimed(session)).code == home.code

    async def test_a_mistyped_code_is_said_beside_its_field(self, browser: AsyncClient, head: Caller) -> None:
        answer = await send(browser, head, f"{CLAIM}/xem-lai", code="123 456 780")
        page = Page(answer.text)

        assert answer.status_code == 422
        assert "<title>Lỗi: " in answer.text
        field = next(field for field in page.every("input") if field.get("id") == "code")
        assert (field["value"], field["aria-invalid"]) == ("123 456 780", "true")
        assert "Xin so lại từng chữ số" in page.text

    async def test_an_address_in_another_commune_is_refused_with_where_it_must_be(
        self, browser: AsyncClient, session: AsyncSession, head: Caller
    ) -> None:
        at = await pin_of(session, "02083")
        pin = await see(browser, head, f"{MAP}?lat={at['lat']}&lon={at['lon']}")
        answer = await send(browser, head, CLAIM, **at, house_number="7")
        page = Page(answer.text)

        assert "Hộ của bạn đăng ký thường trú ở Xã Phủ Thông" in Page(pin.text).text
        assert answer.status_code == 422
        assert "Hộ của bạn đăng ký thường trú ở Xã Phủ Thông. Địa chỉ phải ở đó." in page.text
        assert next(field for field in page.every("input") if field.get("id") == "house_number")["value"] == "7"

    async def test_the_door_of_somebody_else_is_refused_without_saying_whose(
        self, browser: AsyncClient, session: AsyncSession, head: Caller
    ) -> None:
        other = await make.an_address(session)
        await session.commit()
        answer = await send(browser, head, CLAIM, **await pin_of(session))

        assert answer.status_code == 422
        assert "đã có nhà khác" in answer.text
        assert other.code not in answer.text.replace(" ", "")
        assert (await session.scalars(select(AddressClaim))).all() == []

    async def test_outside_of_the_province_nothing_can_be_claimed(self, browser: AsyncClient, head: Caller) -> None:
        answer = await see(browser, head, f"{MAP}?lat=10&lon=106")

        assert "Điểm này nằm ngoài Bắc Kạn" in answer.text
        assert f'action="{CLAIM}/xem-lai"' not in answer.text

    async def test_an_unknown_hamlet_is_said_beside_its_field(
        self, browser: AsyncClient, session: AsyncSession, head: Caller
    ) -> None:
        answer = await send(browser, head, CLAIM, **await pin_of(session), hamlet="Không Có")

        assert answer.status_code == 422
        assert 'id="hamlet-wrong"' in answer.text

    async def test_sent_twice_it_is_made_once(self, browser: AsyncClient, session: AsyncSession, head: Caller) -> None:
        fields = {**await pin_of(session), "idempotency_key": uuid4().hex}

        first, second = [await send(browser, head, CLAIM, **fields) for _ in range(2)]

        assert first.status_code == second.status_code == 303
        await claimed(session)
        again = await send(browser, head, CLAIM, **await pin_of(session))
        assert again.status_code == 409
        assert "đang có một đề nghị chờ xử lý" in again.text

    async def test_it_can_be_taken_back(self, browser: AsyncClient, session: AsyncSession, head: Caller) -> None:
        await send(browser, head, CLAIM, **await pin_of(session))
        shown = await see(browser, head, "/toi/ho-gia-dinh")
        answer = await send(browser, head, link(shown, '/toi/ho-gia-dinh/dia-chi/[^"]+/rut'))

        assert answer.status_code == 303
        assert (await claimed(session)).status is ClaimStatus.WITHDRAWN
        again = await send(browser, head, link(shown, '/toi/ho-gia-dinh/dia-chi/[^"]+/rut'))
        assert again.status_code == 409

    async def test_a_refusal_is_told_with_its_reason(
        self, browser: AsyncClient, session: AsyncSession, head: Caller, officer: Caller
    ) -> None:
        await send(browser, head, CLAIM, **await pin_of(session))
        path = link(await see(browser, officer, "/can-bo/viec"), '/can-bo/viec/dia-chi/[^"]+/tu-choi')

        without = await send(browser, officer, path, reason=" ")
        assert without.status_code == 422
        assert "Hãy ghi lý do" in without.text
        assert (await send(browser, officer, path, reason="Sai thôn")).status_code == 303
        shown = await see(browser, head, "/toi/ho-gia-dinh")
        assert "Xã không chấp nhận" in shown.text
        assert "Sai thôn" in shown.text
        again = await send(browser, officer, path.replace("tu-choi", "xac-nhan"))
        assert again.status_code == 409
        assert "đã được xử lý" in again.text

    async def test_an_officer_of_elsewhere_neither_sees_nor_decides(
        self, settings: Settings, sessions: Sessions, session: AsyncSession, head: Caller, browser: AsyncClient
    ) -> None:
        other = await an_officer(session, "02083")
        await session.commit()
        await send(browser, head, CLAIM, **await pin_of(session))
        claim = await claimed(session)
        async with served(settings, sessions, other) as theirs:
            work = await see(theirs, other, "/can-bo/viec")
            drawing = await see(theirs, other, f"/can-bo/viec/dia-chi/{claim.id}/ban-do.svg")
            decided = await send(theirs, other, f"/can-bo/viec/dia-chi/{claim.id}/xac-nhan")

        assert "Không có địa chỉ nào chờ" in work.text
        assert drawing.status_code == decided.status_code == 403
        assert (await session.get_one(Dwelling, claim.code)).status is Status.PROPOSED


class TestHousehold:
    async def test_while_the_register_is_away_what_is_known_stands(
        self, settings: Settings, sessions: Sessions, session: AsyncSession
    ) -> None:
        newcomer = await a_person(session)
        await session.commit()
        away = Answers(RegisterUnavailable("It does not answer.", reason="no_answer"))
        async with served(settings, sessions, newcomer, population=away) as browser:
            answer = await see(browser, newcomer, "/toi/ho-gia-dinh")
            home = await see(browser, newcomer, "/toi")
            again = await send(browser, newcomer, "/toi/ho-gia-dinh/hoi-lai")

        assert answer.status_code == home.status_code == 200
        assert "tạm thời không trả lời" in answer.text
        assert "tạm thời không trả lời" in home.text
        assert again.status_code == 303

    async def test_an_invitation_is_shown_once_and_kept_nowhere(
        self, settings: Settings, sessions: Sessions, session: AsyncSession, browser: AsyncClient, head: Caller
    ) -> None:
        made = await send(browser, head, "/toi/ho-gia-dinh/loi-moi", relation="Mẹ")
        token = link(made, 'http://bkapp.test/moi/[^"]+').rpartition("/")[2]
        later = await see(browser, head, "/toi/ho-gia-dinh")

        assert made.headers["cache-control"] == "no-store"
        assert '<svg role="img" aria-label="Mã QR' in made.text
        assert token not in later.text
        assert "Mẹ" in later.text
        assert not [one for one in await session.scalars(select(IdempotencyRecord.body)) if token.encode() in one]

        mother = await a_person(session, "Triệu Thị Mẩy")
        await session.commit()
        async with served(settings, sessions, mother, head) as theirs:
            stranger = await see(theirs, None, f"/moi/{token}")
            known = await see(theirs, mother, f"/moi/{token}")
            accepted = await send(theirs, mother, f"/moi/{token}")
            again = await send(theirs, mother, f"/moi/{token}")
            shown = await see(theirs, mother, "/toi/ho-gia-dinh")
        assert f"/dang-nhap?next=%2Fmoi%2F{token}" in stranger.text
        assert f'action="/moi/{token}"' in known.text
        assert (accepted.status_code, accepted.headers["location"]) == (303, "/toi/ho-gia-dinh")
        assert again.status_code == 409
        assert "Đang chờ xã xác nhận bạn là thành viên" in shown.text
        assert "Nông Văn Hùng" not in shown.text

    async def test_an_officer_confirms_who_was_invited(
        self, settings: Settings, sessions: Sessions, session: AsyncSession, head: Caller, officer: Caller
    ) -> None:
        mother = await a_person(session, "Triệu Thị Mẩy")
        await session.commit()
        async with served(settings, sessions, mother, head, officer) as browser:
            made = await send(browser, head, "/toi/ho-gia-dinh/loi-moi", relation="Mẹ")
            await send(browser, mother, link(made, 'http://bkapp.test/moi/[^"]+').removeprefix("http://bkapp.test"))
            work = await see(browser, officer, "/can-bo/viec")
            done = await send(browser, officer, link(work, '/can-bo/viec/thanh-vien/[^"]+/xac-nhan'))
            shown = await see(browser, head, "/toi/ho-gia-dinh")

        assert "Triệu Thị Mẩy" in work.text
        assert done.status_code == 303
        assert "Triệu Thị Mẩy" in shown.text
        found = await session.scalars(select(Membership.status).where(Membership.person_id == mother.person))
        assert found.one() is MemberStatus.ACTIVE

    async def test_who_was_invited_leaves_or_is_sent_away_and_told(
        self, settings: Settings, sessions: Sessions, session: AsyncSession, head: Caller, officer: Caller
    ) -> None:
        leaving, sent = [await a_person(session, f"Triệu Thị {name}") for name in ("Mùi", "Mẩy")]
        await session.commit()
        async with served(settings, sessions, leaving, sent, head, officer) as browser:
            for guest in (leaving, sent):
                made = await send(browser, head, "/toi/ho-gia-dinh/loi-moi", relation="Mẹ")
                await send(browser, guest, link(made, 'http://bkapp.test/moi/[^"]+').removeprefix("http://bkapp.test"))
            waits = await see(browser, leaving, "/toi/ho-gia-dinh")
            took_back = await send(browser, leaving, link(waits, "/toi/ho-gia-dinh/roi"))
            again = await send(browser, leaving, "/toi/ho-gia-dinh/roi")
            work = await see(browser, officer, "/can-bo/viec")
            await send(browser, officer, link(work, '/can-bo/viec/thanh-vien/[^"]+/xac-nhan'))
            theirs = await see(browser, sent, "/toi/ho-gia-dinh")
            heads = await see(browser, head, "/toi/ho-gia-dinh")
            stays = await send(browser, head, "/toi/ho-gia-dinh/roi")
            way = link(heads, '/toi/ho-gia-dinh/thanh-vien/[^"]+/moi-ra')
            foreign = await send(browser, sent, way)
            done = await send(browser, head, way)
            told = await see(browser, sent, "/toi")
            after = await see(browser, head, "/toi/ho-gia-dinh")

        assert "Rút đề nghị vào hộ" in waits.text
        assert (took_back.status_code, took_back.headers["location"]) == (303, "/toi/ho-gia-dinh")
        assert (again.status_code, stays.status_code, foreign.status_code) == (409, 409, 403)
        assert "<title>Lỗi: " in stays.text
        assert "Thành viên hộ theo đăng ký cư trú" in stays.text
        assert "Rời hộ" in theirs.text
        assert "Mời ra khỏi hộ" not in theirs.text
        assert (done.status_code, done.headers["location"]) == (303, "/toi/ho-gia-dinh")
        assert "Bạn không còn là thành viên của hộ gia đình" in told.text
        assert "đăng xuất mọi nơi" not in told.text
        assert "Triệu Thị" not in after.text
        found = await session.scalars(select(Membership.status).where(Membership.person_id == sent.person))
        assert found.one() is MemberStatus.ENDED

    async def test_what_the_register_said_long_ago_opens_no_door(
        self, settings: Settings, sessions: Sessions, session: AsyncSession, head: Caller
    ) -> None:
        own = (await session.scalars(select(Membership).where(Membership.person_id == head.person))).one()
        household = await session.get_one(Household, own.household_id)
        home = await make.an_address(
            session,
            door=operations.Door(house_number="77B"),
            household=operations.HouseholdRef(household.source, household.source_id),
        )
        await session.commit()
        away = Answers(RegisterUnavailable("It does not answer.", reason="no_answer"))
        async with served(settings, sessions, head, population=away) as browser:
            fresh = await see(browser, head, "/toi/ho-gia-dinh")
            own.checked_at = datetime.now(UTC) - REGISTER_STANDS - timedelta(seconds=1)
            await session.commit()
            stale = await see(browser, head, "/toi/ho-gia-dinh")

        assert "Số 77B" in fresh.text
        assert "77B" not in stale.text
        assert f"/c/{home.code}" in stale.text

    async def test_an_invitation_needs_a_relation_and_can_be_ended(self, browser: AsyncClient, head: Caller) -> None:
        wrong = await send(browser, head, "/toi/ho-gia-dinh/loi-moi", relation="Bạn")
        await send(browser, head, "/toi/ho-gia-dinh/loi-moi", relation="Con")
        shown = await see(browser, head, "/toi/ho-gia-dinh")
        ended = await send(browser, head, link(shown, '/toi/ho-gia-dinh/loi-moi/[^"]+/huy'))

        assert wrong.status_code == 422
        assert 'id="relation-wrong"' in wrong.text
        assert ended.status_code == 303
        assert "Hủy lời mời" not in (await see(browser, head, "/toi/ho-gia-dinh")).text

    async def test_a_false_invitation_is_said_to_be_one(self, browser: AsyncClient, head: Caller) -> None:
        answer = await send(browser, head, f"/moi/{'x' * 43}")

        assert answer.status_code == 404
        assert "Lời mời không đúng" in answer.text


class TestDevices:
    async def test_they_are_listed_and_signed_out(
        self, browser: AsyncClient, session: AsyncSession, head: Caller
    ) -> None:
        now = datetime.now(UTC)
        for name in ("Chrome, Android", "Firefox, Windows"):
            session.add(
                SignIn(
                    id=uuid4(),
                    person_id=head.person,
                    kind=SignInKind.BROWSER,
                    secret_hash=uuid4().bytes,
                    level=2,
                    authenticated_at=now,
                    issuer="test",
                    device=name,
                    expires_at=now + timedelta(days=1),
                )
            )
        await session.commit()

        shown = await see(browser, head, "/toi/thiet-bi")
        one = await send(browser, head, link(shown, "/toi/thiet-bi/[0-9a-f-]{36}/dang-xuat"))
        left = await see(browser, head, "/toi/thiet-bi")
        every = await send(browser, head, "/toi/thiet-bi/dang-xuat-moi-noi")

        assert ("Chrome, Android" in shown.text, "Firefox, Windows" in shown.text) == (True, True)
        assert (one.status_code, one.headers["location"]) == (303, "/toi/thiet-bi")
        assert ("Chrome, Android" in left.text) != ("Firefox, Windows" in left.text)
        assert (every.status_code, every.headers["location"]) == (303, "/")
        assert "__Host-bkapp=" in every.headers["set-cookie"]
        assert "Max-Age=0" in every.headers["set-cookie"]
        assert 'dang-xuat"' not in (await see(browser, head, "/toi/thiet-bi")).text.replace('/dang-xuat"', "", 1)

    async def test_a_device_of_somebody_else_is_none(self, browser: AsyncClient, head: Caller) -> None:
        assert (await send(browser, head, f"/toi/thiet-bi/{uuid4()}/dang-xuat")).status_code == 404


class TestData:
    async def test_it_shows_what_is_kept_with_the_number_hidden(self, browser: AsyncClient, head: Caller) -> None:
        page = Page((await see(browser, head, "/toi/du-lieu")).text)

        assert "Họ tên Nông Văn Hùng" in page.text
        assert re.search(r"Số định danh •••••••• \d{4} ", page.text)
        assert not re.search(r"\b099\d{9}\b", page.text)

    async def test_who_read_it_is_told_but_for_oneself(
        self, browser: AsyncClient, session: AsyncSession, head: Caller, officer: Caller
    ) -> None:
        await send(browser, head, CLAIM, **await pin_of(session))
        await see(browser, officer, "/can-bo/viec")
        shown = Page((await see(browser, head, "/toi/du-lieu")).text).text
        every = Page((await see(browser, head, "/toi/du-lieu/luot-xem")).text).text

        assert "Bạn :" not in shown
        assert "Bạn :" in every

    async def test_consent_is_given_and_withdrawn(
        self, browser: AsyncClient, session: AsyncSession, head: Caller
    ) -> None:
        answers = []
        for answer in ("give", "withdraw"):
            answers.append(
                await send(browser, head, "/toi/du-lieu/dong-y", purpose="notices", version="1", answer=answer)
            )
            shown = (await see(browser, head, "/toi/du-lieu")).text
            assert ("Bạn đã đồng ý lúc" in shown) == (answer == "give")

        assert [answer.status_code for answer in answers] == [303, 303]
        consent = (await session.scalars(select(Consent))).one()
        assert (consent.purpose, consent.channel.value) == ("notices", "web")
        assert consent.withdrawn_at is not None

    @pytest.mark.parametrize("answer", [{}, {"answer": ""}, {"answer": "x"}])
    async def test_an_answer_that_is_none_withdraws_nothing(
        self, browser: AsyncClient, session: AsyncSession, head: Caller, answer: dict[str, str]
    ) -> None:
        await send(browser, head, "/toi/du-lieu/dong-y", purpose="notices", version="1", answer="give")
        odd = await send(browser, head, "/toi/du-lieu/dong-y", purpose="notices", version="1", **answer)

        assert odd.status_code == 422
        assert (await session.scalars(select(Consent.withdrawn_at))).one() is None

    async def test_who_is_not_sure_enough_is_not_told_who_read(
        self, settings: Settings, sessions: Sessions, session: AsyncSession, head: Caller, officer: Caller
    ) -> None:
        lowly = msgspec.structs.replace(head, level=1)
        await session.commit()
        async with served(settings, sessions, head, officer) as browser:
            await send(browser, head, CLAIM, **await pin_of(session))
            await see(browser, officer, "/can-bo/viec")
            known = (await see(browser, head, "/toi/du-lieu")).text
        async with served(settings, sessions, lowly) as browser:
            page = (await see(browser, lowly, "/toi/du-lieu")).text

        assert "Xét đề nghị nhận địa chỉ" in known
        assert "Xét đề nghị nhận địa chỉ" not in page
        assert "/toi/du-lieu/luot-xem" not in page

    async def test_an_open_request_is_not_hidden_by_closed_ones(
        self, browser: AsyncClient, session: AsyncSession, head: Caller
    ) -> None:
        await send(browser, head, "/toi/du-lieu/yeu-cau", kind="access")
        now = datetime.now(UTC)
        for day in range(1, 7):
            session.add(
                SubjectRequest(
                    person_id=head.person,
                    kind="rectify",
                    status="done",
                    received_at=now + timedelta(days=day),
                    acknowledge_by=now,
                    due_at=now,
                    closed_at=now,
                )
            )
        await session.commit()

        assert "Còn 10 ngày" in (await see(browser, head, "/toi/du-lieu")).text

    async def test_a_request_that_cannot_be_done_yet_hides_none_behind_it(
        self, browser: AsyncClient, head: Caller, registrar: Caller
    ) -> None:
        for kind in ("access", "rectify", "provide", "object"):
            await send(browser, head, "/toi/du-lieu/yeu-cau", kind=kind)
        here = "/can-bo/quyen-du-lieu"
        first = await see(browser, registrar, here)
        rest = await see(browser, registrar, link(first, f'{here}\\?sau=[^"]+'))

        ids = [set(re.findall(f"{here}/([^/]+)/tiep-nhan", page.text)) for page in (first, rest)]
        assert [len(each) for each in ids] == [2, 2]
        assert not ids[0] & ids[1]
        assert "?sau=" not in rest.text
        for odd in ("x", "", str(uuid4())):
            assert (await see(browser, registrar, f"{here}?sau={odd}")).status_code in {200, 400}

    async def test_a_text_that_changed_meanwhile_is_not_agreed_to(self, browser: AsyncClient, head: Caller) -> None:
        answer = await send(browser, head, "/toi/du-lieu/dong-y", purpose="notices", version="0", answer="give")

        assert answer.status_code == 409
        assert "Nội dung đồng ý đã thay đổi" in answer.text

    async def test_a_request_is_taken_and_answered(
        self, browser: AsyncClient, session: AsyncSession, head: Caller, registrar: Caller
    ) -> None:
        wrong = await send(browser, head, "/toi/du-lieu/yeu-cau", kind="erase")
        asked = await send(browser, head, "/toi/du-lieu/yeu-cau", kind="rectify", details="Tên tôi sai")
        twice = await send(browser, head, "/toi/du-lieu/yeu-cau", kind="rectify", details="Tên tôi sai")
        assert (wrong.status_code, asked.status_code, twice.status_code) == (422, 303, 409)
        # The days are those until the day that stands beside them, not until the acknowledgement.
        assert "Còn 10 ngày" in (await see(browser, head, "/toi/du-lieu")).text

        here = "/can-bo/quyen-du-lieu"
        work = await see(browser, registrar, here)
        assert "Tên tôi sai" in work.text
        one = link(work, f'{here}/[^"]+/tiep-nhan').removesuffix("/tiep-nhan")
        assert (await send(browser, registrar, f"{one}/tiep-nhan")).status_code == 303
        assert (await send(browser, registrar, f"{one}/tiep-nhan")).status_code == 409
        for days in ("99", "0", "٣", "0001" + "0" * 5000):
            odd = await send(browser, registrar, f"{one}/gia-han", days=days, words="Chờ hồ sơ gốc")
            assert (odd.status_code, "Chờ hồ sơ gốc" in odd.text) == (422, True)
        assert (await send(browser, registrar, f"{one}/gia-han", days="5", words="Chờ công an xã")).status_code == 303
        assert (await send(browser, registrar, f"{one}/xong", words="")).status_code == 422
        assert "Chờ công an xã" in (await see(browser, head, "/toi/du-lieu")).text
        assert (await send(browser, registrar, f"{one}/xong", words="Đã sửa")).status_code == 303
        assert "Đã sửa" in (await see(browser, head, "/toi/du-lieu")).text
        assert "Không có yêu cầu nào đang mở" in (await see(browser, registrar, here)).text
        assert (await send(browser, registrar, f"{one}/tu-choi", words="Thôi")).status_code == 409

    async def test_who_asks_to_be_erased_is_told_what_it_means_and_then_is(
        self, settings: Settings, sessions: Sessions, session: AsyncSession, head: Caller, registrar: Caller
    ) -> None:
        stale = msgspec.structs.replace(registrar, authenticated_at=datetime.now(UTC) - timedelta(hours=1))
        await session.commit()
        async with served(settings, sessions, head, registrar) as browser:
            told = await see(browser, head, "/toi/du-lieu/xoa")
            asked = await send(browser, head, "/toi/du-lieu/xoa")
            again = await send(browser, head, "/toi/du-lieu/xoa")
            one = link(await see(browser, registrar, "/can-bo/quyen-du-lieu"), '/can-bo/[^"]+/xoa')
        async with served(settings, sessions, stale) as browser:
            late = await send(browser, stale, one)
        assert (await session.scalars(select(Person.erased_at).where(Person.id == head.person))).one() is None
        async with served(settings, sessions, registrar) as browser:
            erased = await send(browser, registrar, one)

        assert "Không thể lấy lại" in told.text
        assert (asked.status_code, again.status_code) == (303, 409)
        assert late.status_code == 401
        assert link(late, '/dang-nhap[^"]+') == "/dang-nhap?max_age=300&next=%2Fcan-bo%2Fquyen-du-lieu"
        assert erased.status_code == 303
        session.expire_all()
        assert (await session.get_one(Person, head.person)).name_cipher is None
        assert (await session.scalars(select(SubjectRequest.closed_at))).one() is not None


async def test_nothing_typed_ends_in_an_error_of_ours(browser: AsyncClient, head: Caller, officer: Caller) -> None:
    odd = "\x00\ud800<b>'\"" + "9" * 300
    sent = odd.encode("utf-8", "surrogatepass").decode("latin-1")
    some = uuid4()
    forms = [
        (head, f"{CLAIM}/xem-lai", {"code": sent}),
        (head, f"{CLAIM}/xem-lai", {"lat": "22.26", "lon": "105.84", "house_number": sent, "hamlet": sent}),
        (head, f"{CLAIM}/xem-lai", {"lat": sent}),
        (head, CLAIM, {"code": sent}),
        (head, CLAIM, {"lat": "22.26", "lon": "105.84", "m": sent}),
        (head, CLAIM, {}),
        (head, "/toi/ho-gia-dinh/loi-moi", {"relation": sent}),
        (head, f"/toi/ho-gia-dinh/loi-moi/{some}/huy", {}),
        (head, f"/toi/ho-gia-dinh/dia-chi/{some}/rut", {}),
        (head, "/toi/ho-gia-dinh/roi", {}),
        (head, f"/toi/ho-gia-dinh/thanh-vien/{some}/moi-ra", {}),
        (head, f"/toi/thong-bao/{some}", {}),
        (head, "/toi/du-lieu/dong-y", {"purpose": sent, "answer": "give"}),
        (head, "/toi/du-lieu/yeu-cau", {"kind": "rectify", "details": sent * 10}),
        (officer, f"/can-bo/viec/dia-chi/{some}/tu-choi", {"reason": sent}),
        (officer, f"/can-bo/viec/dia-chi/{some}/xac-nhan", {}),
        (officer, f"/can-bo/viec/thanh-vien/{some}/xac-nhan", {}),
    ]
    for caller, path, fields in forms:
        answer = await send(browser, caller, path, **fields)
        assert 400 <= answer.status_code < 500, (path, answer.status_code)
    for thon in ("9" * 5000, "٣", "-1", sent):
        answer = await see(browser, head, f"{MAP}?thon={quote(thon)}")
        assert answer.headers["location"] == CLAIM
    many = await send(browser, head, CLAIM, **{f"f{n}": "x" for n in range(60)})
    assert many.status_code == 400
    assert (await see(browser, head, "/moi/" + "%20" * 40)).status_code == 400
