"""The site opens in a real browser."""

from pathlib import Path

from playwright.async_api import Page, expect

from tests.browser.site import Site


async def test_the_home_page_opens_on_a_phone_and_the_browser_has_nothing_to_complain_of(
    site: Site, page: Page, complaints: list[str], tmp_path: Path
) -> None:
    answer = await page.goto(site.url)

    assert answer is not None
    assert answer.ok
    await expect(page.locator("h1")).to_be_visible()
    wide = await page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 360, "the page scrolls sideways"
    await page.screenshot(path=tmp_path / "home.png", full_page=True)
    assert complaints == []
    assert "Traceback" not in site.log("serve")
