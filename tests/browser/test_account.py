"""The pages of who has signed in, in a real browser: an address is claimed and confirmed without any script."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, BrowserContext, Page, ViewportSize, expect

from tests.browser.site import Site

PHONE = ViewportSize(width=360, height=740)
SECRETS = """() => JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])"""


class Album:
    """Keeps a picture of every page it is shown, where nothing sticks out and no secret of the session is anywhere."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def keep(self, page: Page, name: str) -> None:
        wide = await page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 360, f"{name} scrolls sideways: {wide}"
        small = await page.evaluate(
            """() => [...document.querySelectorAll('button, main input, main select, main a, header a')]
            .filter(e => e.type !== 'hidden' && !e.closest('p:not(.links), dd, .notice p') && e.offsetParent !== null)
            .map(e => [e.outerHTML.slice(0, 80), e.type === 'radio' || e.type === 'checkbox'
                ? e.closest('.pick').getBoundingClientRect().height : e.getBoundingClientRect().height])
            .filter(([_, height]) => height < 44)"""
        )
        assert small == [], f"{name} has small targets"
        await self.scan(page, name)
        await page.screenshot(path=self.folder / f"{name}.png", full_page=True)

    async def scan(self, page: Page, name: str) -> None:
        cookies = [cookie for cookie in await page.context.cookies() if cookie["name"].startswith("__Host-bkapp")]
        assert all(cookie["httpOnly"] and cookie["secure"] for cookie in cookies)
        kept: str = await page.evaluate(SECRETS)
        shown = await page.content()
        for cookie in cookies:
            assert cookie["value"] not in kept + shown + page.url, f"{name} shows a cookie"
        assert not re.search(r"eyJ[\w-]+\.[\w-]+\.", kept + shown), f"{name} shows a token"
        assert kept == '[{},{},""]'


@pytest.fixture
def album(tmp_path: Path) -> Album:
    return Album(tmp_path)


@pytest.fixture
async def other(browser: Browser) -> AsyncIterator[BrowserContext]:
    context = await browser.new_context(viewport=PHONE, locale="vi-VN", timezone_id="Asia/Ho_Chi_Minh")
    context.set_default_timeout(15_000)
    yield context
    await context.close()


async def sign_in(page: Page, site: Site, handle: str, path: str = "/toi") -> None:
    """Open a page of one's own, which leads to the practice eID and back."""
    await page.goto(f"{site.url}{path}")
    await page.locator(f'button[value="{handle}"]').click()
    await page.wait_for_url(f"{site.url}{path}")


async def signed_in(page: Page, site: Site) -> bool:
    answer = await page.context.request.get(f"{site.url}/api/v1/session")
    return bool((await answer.json())["signed_in"])


async def press(page: Page, name: str) -> None:
    await page.get_by_role("button", name=name).first.click()
    await page.wait_for_load_state()


@pytest.mark.slow
async def test_a_household_claims_its_address_and_an_officer_confirms_it(  # noqa: PLR0915  (one long story)
    site: Site, page: Page, complaints: list[str], other: BrowserContext, album: Album
) -> None:
    await site.bkapp("demo", "seed", "--households", "200")
    await site.bkapp("demo", "people")

    await sign_in(page, site, "chu-ho")
    await expect(page.locator("h1")).to_contain_text("Nông Văn Hùng")
    await album.keep(page, "01-home")
    await page.get_by_role("link", name="Hộ gia đình").click()
    await expect(page.get_by_text("Chủ hộ", exact=True)).to_be_visible()
    await album.keep(page, "02-household")

    # Where the home is: from the hamlet, by buttons and by a tap on the map.
    await page.get_by_role("link", name="Nhận địa chỉ cho gia đình").click()
    await album.keep(page, "03-claim")
    await page.get_by_label("Tìm nơi gần nhà").fill("xã Phủ Thông")
    await press(page, "Tìm")
    await expect(page.get_by_role("heading", name="Tìm thấy")).to_be_visible()
    await album.keep(page, "04-claim-found")
    await page.get_by_label(re.compile("^Thôn, bản, tổ của")).select_option(index=0)
    await press(page, "Mở bản đồ")
    await album.keep(page, "05-map")
    before = page.url
    await press(page, "↑ Bắc")
    assert float(_lat(page.url)) - float(_lat(before)) == pytest.approx(50 / 111_320, rel=0.02)
    await page.get_by_label("200 m").check()
    await press(page, "Đông →")
    await expect(page.get_by_label("200 m")).to_be_checked()
    await press(page, "Phóng to")
    before = page.url
    await page.locator("input[type=image]").click(position={"x": 200, "y": 80})
    await page.wait_for_url(lambda url: url != before)
    assert float(_lat(page.url)) > float(_lat(before))
    drawn = await page.evaluate("document.querySelector('input[type=image]').getBoundingClientRect().toJSON()")
    assert (drawn["width"], drawn["height"]) == (280, 320)
    await album.keep(page, "06-map-moved")

    await page.get_by_label("Số nhà").fill("12")
    await page.get_by_label("Đường, phố").fill("Đường Nà Ít")
    await press(page, "Kiểm tra lại")
    await expect(page.locator("img")).to_be_visible()
    await album.keep(page, "07-review")
    await press(page, "Gửi xã xác nhận")
    await page.wait_for_url(f"{site.url}/toi/ho-gia-dinh")
    await expect(page.get_by_text("Đang chờ xã xác nhận")).to_be_visible()
    await album.keep(page, "08-waiting")

    office = await other.new_page()
    await sign_in(office, site, "can-bo", "/can-bo/viec")
    await expect(office.get_by_text("Nông Văn Hùng").first).to_be_visible()
    await office.get_by_text("Xem vị trí trên bản đồ").click()
    await expect(office.locator("img")).to_be_visible()
    await office.get_by_text("Không chấp nhận", exact=True).first.click()
    await album.keep(office, "09-work")
    await press(office, "Không chấp nhận Nông Văn Hùng")
    await expect(office.locator("#refusal")).to_be_focused()
    await album.keep(office, "10-work-without-reason")
    await press(office, "Xác nhận Nông Văn Hùng")
    await expect(office.get_by_text("Không có địa chỉ nào chờ xác nhận.")).to_be_visible()

    await page.reload()
    code = await page.locator("a.code").inner_text()
    assert re.fullmatch(r"BK \d{3} \d{3} \d{3}", code)
    await album.keep(page, "11-household-with-address")
    await page.get_by_label("Người được mời là gì của chủ hộ?").select_option("Mẹ")
    await press(page, "Tạo lời mời")
    await expect(page.locator(".qr svg")).to_be_visible()
    await album.keep(page, "12-invitation-made")
    link = await page.locator("#moi a").inner_text()
    await page.locator("a.code").click()
    await expect(page.locator("h1")).to_have_text(code)

    guest = await (await _fresh(office)).new_page()
    await guest.goto(link)
    await album.keep(guest, "13-invitation-stranger")
    await guest.get_by_role("link", name="Đăng nhập").last.click()
    await guest.locator('button[value="ba-78"]').click()
    await guest.wait_for_url(link)
    await album.keep(guest, "14-invitation")
    await press(guest, "Nhận lời mời")
    await guest.context.close()

    own = {"15-devices": "thiet-bi", "16-data": "du-lieu", "17-reads": "du-lieu/luot-xem", "18-erase": "du-lieu/xoa"}
    for name, path in own.items():
        await page.goto(f"{site.url}/toi/{path}")
        await album.keep(page, name)
    await press(page, "Gửi yêu cầu xóa")
    await page.wait_for_url(f"{site.url}/toi/du-lieu*")
    await album.keep(page, "19-data-with-request")
    assert complaints == []
    assert "Traceback" not in site.log("serve")


@pytest.mark.slow
async def test_signing_out_everywhere_ends_the_other_browser_too(
    site: Site, page: Page, complaints: list[str], other: BrowserContext, album: Album
) -> None:
    elsewhere = await other.new_page()
    await sign_in(elsewhere, site, "vo")
    await sign_in(page, site, "vo")
    await album.keep(page, "20-home-with-notice")
    await press(page, "Tôi đã biết")
    await expect(page.get_by_text("thiết bị mới")).to_have_count(0)
    await page.goto(f"{site.url}/toi/thiet-bi")
    await expect(page.locator("section")).to_have_count(2)

    await press(page, "Đăng xuất mọi nơi")
    await page.wait_for_url(f"{site.url}/")
    await album.scan(page, "first page")
    for left in (page, elsewhere):
        assert not await signed_in(left, site)
    assert complaints == []


@pytest.mark.slow
async def test_the_header_signs_out(site: Site, page: Page, complaints: list[str]) -> None:
    await sign_in(page, site, "vo")

    await press(page, "Đăng xuất")

    await expect(page).not_to_have_url(f"{site.url}/toi")
    assert not await signed_in(page, site)
    assert complaints == []


@pytest.mark.slow
async def test_the_telephone_may_say_where_it_is(site: Site, page: Page, complaints: list[str], album: Album) -> None:
    await page.context.grant_permissions(["geolocation"])
    await page.context.set_geolocation({"latitude": 22.268, "longitude": 105.874, "accuracy": 12})
    await sign_in(page, site, "chu-ho")
    await page.goto(f"{site.url}/toi/ho-gia-dinh/dia-chi")

    await press(page, "Dùng vị trí của điện thoại")
    await page.wait_for_url("**/ban-do?*")

    await expect(page.get_by_text("Điện thoại đo chính xác khoảng 12 m.")).to_be_visible()
    await album.keep(page, "21-map-by-gps")
    assert complaints == []


@pytest.mark.slow
async def test_the_data_officer_answers(site: Site, page: Page, complaints: list[str], album: Album) -> None:
    await site.bkapp("demo", "people")
    await sign_in(page, site, "hang-xom", "/toi/du-lieu")
    await page.get_by_label("Bạn muốn").select_option("rectify")
    await page.get_by_label("Nội dung").fill("Tên tôi ghi sai.")
    await press(page, "Gửi yêu cầu")
    await expect(page.get_by_text("Đã nhận").first).to_be_visible()
    await page.context.clear_cookies()

    await sign_in(page, site, "quan-tri", "/can-bo/quyen-du-lieu")
    await page.get_by_text("Trả lời", exact=True).click()
    await album.keep(page, "22-requests")
    await press(page, "Báo đã nhận")
    await expect(page.get_by_role("button", name="Báo đã nhận")).to_have_count(0)
    assert complaints == []


def _lat(url: str) -> str:
    found = re.search(r"lat=([\d.]+)", url)
    assert found
    return found[1]


async def _fresh(page: Page) -> BrowserContext:
    browser = page.context.browser
    assert browser is not None
    context = await browser.new_context(viewport=PHONE, locale="vi-VN", timezone_id="Asia/Ho_Chi_Minh")
    context.set_default_timeout(15_000)
    return context
