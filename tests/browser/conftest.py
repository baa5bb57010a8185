"""Fixtures: the system's Chromium and a whole site to look at with it."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, ConsoleMessage, Error, Page, async_playwright

from tests.browser.site import Site, serving

# Nothing but the site is asked for anything, and root may start it (without a sandbox, on pages of our own).
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def chromium() -> str | None:
    """The program to run; a snap's cannot reach the profile that a test gives it."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    return None if found is None or found.startswith("/snap/") else found


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    program = chromium()
    if program is None:
        pytest.skip("neither Debian's Chromium nor Chrome is installed (./dev test installs the first)")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield browser
        await browser.close()


@pytest.fixture
async def site(own_database: str, tmp_path: Path) -> AsyncIterator[Site]:
    """A site of this test's own; ``site.log("serve")`` is what its server wrote."""
    async with serving(own_database, tmp_path) as site:
        yield site


@pytest.fixture
def complaints() -> list[str]:
    """What the browser complains of on ``page``: errors in the console (refused requests too) and in scripts."""
    return []


@pytest.fixture
async def page(browser: Browser, complaints: list[str]) -> AsyncIterator[Page]:
    """A page on a phone in Bắc Kạn, in a browser that knows nothing yet."""

    def note(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            complaints.append(message.text)

    def note_error(error: Error) -> None:
        complaints.append(str(error))

    context = await browser.new_context(
        viewport={"width": 360, "height": 740},
        device_scale_factor=2,
        is_mobile=True,
        has_touch=True,
        locale="vi-VN",
        timezone_id="Asia/Ho_Chi_Minh",
    )
    context.set_default_timeout(15_000)
    context.on("console", note)
    context.on("weberror", lambda error: note_error(error.error))
    yield await context.new_page()
    await context.close()
