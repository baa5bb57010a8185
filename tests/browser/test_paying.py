"""A person pays in a real browser: by redirect, by VietQR, and while the worker is killed."""

import asyncio
import io
import time
from collections.abc import Iterator

import psycopg
import pytest
import zxingcpp
from httpx import AsyncClient
from PIL import Image
from playwright.async_api import BrowserContext, Page, expect

from bkapp.practice.people import PHU_THONG, person
from tests.browser.site import Site
from tests.browser.test_account import Album, album, other, press, sign_in  # noqa: F401  (album and other are fixtures)

BILLS = "/toi/hoa-don"
PAYER = "chu-ho"


@pytest.fixture
def database(own_database: str) -> Iterator[psycopg.Connection]:
    """The site's database, for what no page tells and to let time pass."""
    with psycopg.connect(own_database.replace("+psycopg", ""), autocommit=True) as connection:
        yield connection


async def choose(page: Page, site: Site, bill: str, method: str) -> None:
    """Open a bill from the list and choose how to pay it."""
    await page.goto(f"{site.url}{BILLS}")
    await page.get_by_role("link", name=bill).click()
    await press(page, method)


async def scanned(page: Page) -> str:
    """What a bank's app reads from the code that the screen shows."""
    [code] = zxingcpp.read_barcodes(Image.open(io.BytesIO(await page.locator(".qr").screenshot())))
    return str(code.text)


async def transfer(bank: Page, site: Site, code: str, choice: str) -> None:
    """Make the transfer of a code at the practice bank."""
    await bank.goto(f"{site.practice}/thanh-toan/ngan-hang")
    await bank.get_by_label("Dán nội dung mã QR").fill(code)
    await press(bank, "Đọc mã")
    await bank.get_by_label("Việc xảy ra").select_option(label=choice)
    await press(bank, "Chuyển khoản")
    await expect(bank.get_by_text("Đã thanh toán")).to_be_visible()


async def issue(site: Site, what: str, amount: int) -> None:
    """An office asks for a fee, as its program does."""
    key = (await site.bkapp("keys", "new", "--label", "Một cửa", "--unit", PHU_THONG)).strip()
    payer = person(PAYER)
    bill = {
        "unit": PHU_THONG,
        "description": what,
        "procedure_code": "1.004884",
        "procedure_name": "Đăng ký lại khai sinh",
        "lines": [{"kind": "charge", "code": "01", "name": what, "amount": amount}],
        "payer": {"number": payer.number, "name": payer.name},
    }
    async with AsyncClient(
        headers={"Authorization": f"Bearer {key}", "Idempotency-Key": what.encode().hex()}
    ) as office:
        (await office.post(f"{site.url}/api/v1/bills", json=bill)).raise_for_status()


def a_minute_passes(database: psycopg.Connection) -> None:
    database.execute("UPDATE payment_attempt SET next_check_at = now() WHERE next_check_at IS NOT NULL")


async def is_asked(site: Site) -> None:
    """The bank is being asked at this moment; the script that lets the answer wait is used up."""
    end = time.monotonic() + 30
    async with AsyncClient() as client:
        while (await client.get(f"{site.practice}/thanh-toan/kich-ban")).json():
            assert time.monotonic() < end, site.log("worker")[-2000:]
            await asyncio.sleep(0.05)


@pytest.mark.slow
async def test_fees_are_paid_once_by_redirect_by_code_and_while_the_worker_is_killed(
    site: Site,
    page: Page,
    complaints: list[str],
    other: BrowserContext,  # noqa: F811
    album: Album,  # noqa: F811
    database: psycopg.Connection,
) -> None:
    await site.bkapp("demo", "payments")
    await site.spawn("worker")
    await issue(site, "Lệ phí hộ tịch", 8_000)
    bank = await other.new_page()
    await sign_in(page, site, PAYER, BILLS)
    await expect(page.get_by_text("Chưa nộp")).to_have_count(3)
    await album.keep(page, "01-bills")

    # The bank takes the money and never tells of it; it is asked, and the worker dies waiting for the answer.
    waiting = await page.context.new_page()
    await choose(waiting, site, "Lệ phí hộ tịch", "Chuyển khoản VietQR")
    await album.keep(waiting, "02-code")
    script = [{"on": "inquire", "do": "timeout", "merchant": "vietqr"}]
    await bank.context.request.post(f"{site.practice}/thanh-toan/kich-ban", data=script)
    await transfer(bank, site, await scanned(waiting), "Mất thông báo: chỉ tra cứu mới thấy")
    a_minute_passes(database)
    await is_asked(site)
    await site.kill("worker")

    # By redirect, without a worker.
    await choose(page, site, "Lệ phí chứng thực", "Paygov")
    await page.wait_for_url(f"{site.practice}/thanh-toan/don/*")
    await press(page, "Thanh toán thành công")
    await page.wait_for_url(f"{site.url}/toi/thanh-toan/*")
    await expect(page.get_by_text("Thành công", exact=True)).to_be_visible()
    await album.keep(page, "03-paid")
    link = await page.get_by_role("link", name="Giấy xác nhận thanh toán (PDF)").get_attribute("href")
    confirmation = await page.context.request.get(f"{site.url}{link}")
    assert (await confirmation.body()).startswith(b"%PDF")

    # By code: the page that shows it learns by itself that the bank told of the money.
    await choose(page, site, "Lệ phí đăng ký hộ kinh doanh", "Chuyển khoản VietQR")
    await transfer(bank, site, await scanned(page), "Chuyển thành công, báo ngay")
    await expect(page.get_by_text("Thành công", exact=True)).to_be_visible()

    # So does the one whose bank was never heard, once there is a worker again.
    await expect(waiting.get_by_text("Đang chờ bạn trả")).to_be_visible()
    await site.spawn("worker")
    a_minute_passes(database)
    await expect(waiting.get_by_text("Thành công", exact=True)).to_be_visible(timeout=30_000)
    await album.keep(waiting, "04-paid-by-code")

    await page.goto(f"{site.url}{BILLS}")
    await expect(page.get_by_text("Đã nộp")).to_have_count(3)
    await album.keep(page, "05-bills-paid")
    await page.get_by_role("link", name="Lệ phí chứng thực").click()
    await album.keep(page, "06-bill-paid")
    kept = database.execute("SELECT place, count(*), count(DISTINCT bill_id) FROM receipt GROUP BY place").fetchall()
    assert kept == [("applied", 3, 3)]
    assert database.execute("SELECT DISTINCT status FROM payment_attempt").fetchall() == [("succeeded",)]
    await site.bkapp("ledger", "verify")  # which ends with 1 if anything is wrong
    assert complaints == []
    assert "Traceback" not in site.log("serve") + site.log("worker")
