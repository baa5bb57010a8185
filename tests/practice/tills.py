"""The practice payment providers over real sockets, and a merchant that believes what bkapp's own providers believe."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
from litestar import Litestar, Request, Response, route

from bkapp.payments.providers import (
    Begun,
    Call,
    Finding,
    Hearing,
    HookRefused,
    Line,
    Merchant,
    Order,
    Provider,
    Verdict,
)
from bkapp.payments.providers.calling import Wire
from bkapp.payments.providers.keypay import Keypay
from bkapp.payments.providers.momo import Momo
from bkapp.payments.providers.paygov import Paygov, lookup_answer, read_lookup
from bkapp.payments.providers.receipts import owed_for
from bkapp.payments.providers.vietqr import Vietqr
from bkapp.payments.providers.viettel import Viettel
from bkapp.payments.providers.vnpay import Vnpay
from bkapp.payments.providers.zalopay import Zalopay
from bkapp.payments.references import new_reference
from bkapp.payments.rules import FeeKind
from bkapp.practice.paying.cashier import Cashier, Pace
from bkapp.practice.paying.cashier import Order as Asked
from bkapp.practice.paying.merchants import PracticeMerchant, practice_merchants
from bkapp.practice.server import application
from tests.practice.peers import address_of, listening, running

T = TypeVar("T")
CLASSES = (Paygov, Keypay, Vnpay, Momo, Zalopay, Viettel, Vietqr)
NAMES = tuple(provider.name for provider in CLASSES)
QUICK = Pace(slow=0.1, late=0.15, lag=0.05, hang=0.8, retries=(0.02, 0.02, 0.02))
DOSSIER = "000.00.01.H03-261124-0001"
SETTLED = 15.0  # seconds that anything may take that is waited for


class Heard:
    """What a merchant made of one message."""

    def __init__(self, key: str, call: Call, hearing: Hearing | None, refused: HookRefused | None) -> None:
        self.key = key
        self.call = call
        self.hearing = hearing
        self.refused = refused

    @property
    def finding(self) -> Finding:
        assert self.hearing is not None, self.refused
        assert self.hearing.finding is not None
        return self.hearing.finding


class Till:
    """Practice providers that run, bkapp's side of each, and a stub of bkapp that takes their messages."""

    def __init__(self, site: str, home: str, cashier: Cashier, go_on: threading.Event, wire: Wire, hasty: Wire) -> None:
        self.site = site
        self.home = home
        self.cashier = cashier
        self.go_on = go_on  # what is slow or late waits while this is not set
        self.http = httpx.AsyncClient(base_url=site, timeout=10)
        self.providers: dict[str, Provider] = {one.name: one(wire) for one in CLASSES}
        self.hasty: dict[str, Provider] = {one.name: one(hasty) for one in CLASSES}
        self.merchants = {one.key: opened(one, home) for one in practice_merchants(site)}
        self.heard: list[Heard] = []
        self.refuses: set[str] = set()  # references that the merchant wants no money for
        self.owed: dict[str, Order] = {}  # by dossier

    # --- the payer ---------------------------------------------------------------------------------------------------

    async def page_of(self, begun: Begun) -> str:
        """The address of the page where the payer chooses."""
        assert begun.redirect_url is not None
        address = begun.redirect_url
        page = await self.http.get(address)
        if page.status_code == 303:
            address = page.headers["location"]
            page = await self.http.get(address)
        assert page.status_code == 200, page.text
        assert "Thanh toán thành công" in page.text
        return urlsplit(address).path

    async def choose(self, begun: Begun, choice: str, **more: str) -> httpx.Response:
        """What the browser gets when the payer presses a button."""
        return await self.http.post(await self.page_of(begun), data={"choice": choice, **more})

    async def pay(self, begun: Begun, choice: str = "thanh-cong", **more: str) -> httpx.Response:
        """The same, or a transfer with the bank's page where there is a code."""
        if begun.qr is None:
            return await self.choose(begun, choice)
        read = await self.http.post("/thanh-toan/ngan-hang/doc-ma", data={"qr": begun.qr})
        fields = {name: value_of(read.text, name) for name in ("bank_bin", "account", "amount", "content")}
        return await self.transfer(**{**fields, "choice": choice, **more})

    async def transfer(self, **fields: str) -> httpx.Response:
        return await self.http.post("/thanh-toan/ngan-hang/chuyen-khoan", data=fields)

    # --- the merchant ------------------------------------------------------------------------------------------------

    async def begin(self, name: str, order: Order) -> Begun:
        return await self.providers[name].begin(self.merchants[name], order, now=datetime.now(UTC))

    async def inquire(self, name: str, order: Order, *, hastily: bool = False) -> Finding:
        provider = (self.hasty if hastily else self.providers)[name]
        return await provider.inquire(self.merchants[name], order, now=datetime.now(UTC))

    def about(self, order: Order) -> list[Heard]:
        """The messages about an order that were believed, and tell of something."""
        return [
            one
            for one in list(self.heard)
            if one.hearing is not None
            and one.hearing.finding is not None
            and order.reference in one.hearing.finding.references
        ]

    async def told(self, order: Order, count: int = 1) -> list[Heard]:
        """The same, once there are so many."""
        await eventually(lambda: len(self.about(order)) >= count)
        return self.about(order)

    def asked(self, order: Order) -> Asked:
        """What the practice provider has of an order."""
        orders = list(self.cashier.orders.values())
        return next(one for one in orders if order.reference in f"{one.reference} {one.about}")

    async def script(self, *faults: dict[str, Any]) -> None:
        answer = await self.http.post("/thanh-toan/kich-ban", json=list(faults))
        assert answer.status_code == 200, answer.text

    async def take(self, key: str, call: Call) -> Response:
        """A message, taken as bkapp would take it."""
        merchant, now = self.merchants[key], datetime.now(UTC)
        provider, hearing, refused = self.providers[merchant.provider], None, None
        if call.what == "bills":
            dossier = read_lookup(merchant, call.body, now)
            order = self.owed.get(dossier)
            answer = lookup_answer(merchant, owed_for(order) if order else None, known=dossier == DOSSIER, now=now)
            return Response(answer.body, status_code=answer.status, media_type=answer.media_type)
        try:
            hearing = provider.hear(merchant, call, now=now)
            verdict, context = Verdict.TAKEN, hearing.context
            if hearing.asks in self.refuses:
                verdict = Verdict.NO_ORDER
        except HookRefused as error:
            refused, verdict, context = error, error.verdict, error.context
        self.heard.append(Heard(key, call, hearing, refused))
        answer = provider.answer(merchant, verdict, context, now=now)
        return Response(answer.body, status_code=answer.status, media_type=answer.media_type)


def opened(merchant: PracticeMerchant, home: str) -> Merchant:
    """A practice merchant as bkapp has it."""
    return Merchant(
        key=merchant.key,
        provider=merchant.provider,
        code=merchant.code,
        secrets={purpose: (secret,) for purpose, secret in merchant.secrets.items()},
        options=merchant.options,
        home=home,
    )


def an_order(amount: int = 20_000, *, lasts: timedelta = timedelta(minutes=15)) -> Order:
    reference, now = new_reference("TT"), datetime.now(UTC).replace(microsecond=0)
    return Order(
        reference=reference,
        amount=amount,
        created_at=now,
        expires_at=now + lasts,
        bill_code=new_reference("HD"),
        dossier_code=DOSSIER,
        procedure_code="2.000815",
        procedure_name="Chứng thực bản sao từ bản chính",
        agency="UBND xã Phủ Thông",
        account="0011001234567",
        account_name="UBND XA PHU THONG",
        bank_bin="970436",
        lines=(
            Line(FeeKind.FEE, "P01", "Phí thẩm định", amount - 5_000),
            Line(FeeKind.CHARGE, "LP01", "Lệ phí chứng thực", 5_000),
        ),
        return_url=f"http://localhost/thanh-toan/ve/{reference}",
    )


def value_of(page: str, name: str) -> str:
    """What a field of a form holds."""
    _, _, after = page.partition(f'name="{name}"')
    tag, _, _ = after.partition(">")
    return tag.partition('value="')[2].partition('"')[0]


async def eventually(what: Callable[[], T]) -> T:
    """What comes true before long."""
    until = time.monotonic() + SETTLED
    while time.monotonic() < until:
        if found := what():
            return found
        await asyncio.sleep(0.01)
    raise AssertionError("it never came true")


@asynccontextmanager
async def a_till() -> AsyncIterator[Till]:
    practice, bkapp = listening(), listening()
    site, home = address_of(practice), address_of(bkapp)
    go_on = threading.Event()
    go_on.set()

    async def sleep(seconds: float) -> None:
        """Wait, and where that is for something slow or late, until the test says so too."""
        await asyncio.sleep(seconds)
        if seconds in {QUICK.slow, QUICK.late}:
            await asyncio.to_thread(go_on.wait, SETTLED)

    app = application(
        base_url=site,
        eid_clients=(),
        population_secret="practice",
        home_url=home,
        merchants=practice_merchants(site),
        pace=QUICK,
        sleep=sleep,
    )
    wire, hasty = Wire(), Wire(patience=0.4)
    till = Till(site, home, app.state.cashier, go_on, wire, hasty)

    hooks = "/api/v1/payments/hooks/{key:str}"

    @route([hooks, f"{hooks}/{{what:str}}"], http_method=["GET", "POST"])
    async def hook(request: Request) -> Response:
        call = Call(
            method=request.method,
            what=request.path_params.get("what", ""),
            query=request.scope["query_string"],
            headers={name.lower(): value for name, value in request.headers.items()},
            body=await request.body(),
        )
        return await till.take(request.path_params["key"], call)

    merchant = Litestar([hook], openapi_config=None, logging_config=None)
    async with running(merchant, bkapp), running(app, practice), till.http:
        yield till
    await wire.close()
    await hasty.close()
