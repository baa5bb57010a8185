"""The practice providers' memory: orders, the money taken for them, and the messages sent about it.

Everything that is the same whatever protocol is spoken; a :class:`Facade` says the rest.
"""

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import httpx
import msgspec
from msgspec import Struct, field

from bkapp.practice.clients import Clock
from bkapp.practice.paying.faults import STRAIGHT, TWISTS, WRONG_BY, Do, Fault, On, Script, Twist
from bkapp.practice.paying.merchants import PracticeMerchant

Sleep = Callable[[float], Coroutine[Any, Any, object]]
KEPT = 5_000
LONGEST_KEPT = 2_000
GARBAGE = b"<html><body>502 Bad Gateway</body></html>"
UNSENT = frozenset({Do.TIMEOUT, Do.DROP, Do.ERROR_500})


class State(StrEnum):
    """How far an order is."""

    WAITING = "waiting"
    PROCESSING = "processing"  # the money is taken, and the provider does not say so yet
    PAID = "paid"
    FAILED = "failed"
    EXPIRED = "expired"


class Choice(StrEnum):
    """What the payer wants to happen."""

    PAY = "thanh-cong"
    FAIL = "that-bai"
    SLOW = "cham"
    TWICE = "trung"
    LOST = "mat-thong-bao"
    LATE = "muon"
    FORGED = "sai-chu-ky"


class Plan(Struct, frozen=True):
    """What a choice comes to.  ``spoilt`` is what happens to every webhook about it."""

    payments: int = 1
    more: int = 0
    told: bool = True
    slow: bool = False
    failed_first: bool = False
    spoilt: Do = Do.OK


PLANS = {
    Choice.PAY: Plan(),
    Choice.FAIL: Plan(payments=0),
    Choice.SLOW: Plan(slow=True),
    Choice.TWICE: Plan(payments=2),
    Choice.LOST: Plan(told=False),
    Choice.LATE: Plan(failed_first=True),
    Choice.FORGED: Plan(spoilt=Do.BAD_SIGNATURE),
}
SCRIPTED = {
    Do.OK: Plan(),
    Do.TIMEOUT: Plan(told=False),
    Do.GARBAGE: Plan(spoilt=Do.GARBAGE),
    Do.BAD_SIGNATURE: PLANS[Choice.FORGED],
    Do.SLOW: PLANS[Choice.SLOW],
    Do.DUPLICATE: PLANS[Choice.TWICE],
    Do.WRONG_AMOUNT: Plan(more=WRONG_BY),
}


class Pace(Struct, frozen=True):
    """How long things take, in seconds.

    ``slow`` is how long a payment or a refund is pending, ``late`` how long after its failure money comes, ``lag`` how
    late a slow answer is, ``hang`` how long a call without one lasts; ``retries`` go before each further try to deliver
    a webhook.
    """

    slow: float = 20
    late: float = 30
    lag: float = 5
    hang: float = 20
    retries: tuple[float, ...] = (2, 5, 15, 60, 300, 900)


USUAL = Pace()


class Payment(Struct, frozen=True):
    """Money that was taken, with the provider's number of it."""

    transaction: str
    amount: int
    at: datetime


class RefundState(StrEnum):
    """How far money given back is."""

    PENDING = "pending"
    DONE = "done"


class Repayment(Struct, kw_only=True):
    """Money given back."""

    reference: str
    payment: Payment
    transaction: str
    amount: int
    at: datetime
    state: RefundState


class Message(Struct, frozen=True, kw_only=True):
    """A message to a merchant, ready to be sent."""

    url: str
    method: str = "POST"
    body: bytes = b""
    headers: Mapping[str, str] = {}


class Try(Struct, frozen=True, kw_only=True):
    """A message that was sent, or was to be, and what came back: ``status`` is None where nothing did."""

    at: datetime
    sent: str
    status: int | None
    answer: str
    taken: bool


class Delivery(Struct, kw_only=True):
    """Everything that was done to tell a merchant one thing."""

    about: str
    tries: list[Try] = field(default_factory=list)
    done: bool = False


class Order(Struct, kw_only=True, eq=False):
    """What a merchant wants paid.  ``facts`` are what the protocol repeats later on; ``ticket`` opens its page.

    ``settles_at`` says from when on the money of a slow payment is to be seen.
    """

    ticket: str
    merchant: PracticeMerchant
    reference: str
    amount: int
    about: str
    notify_url: str
    return_url: str
    created_at: datetime
    expires_at: datetime | None
    facts: dict[str, Any]
    state: State = State.WAITING
    choice: Choice | None = None
    forged: bool = False
    closed_at: datetime | None = None
    payments: list[Payment] = field(default_factory=list)
    refunds: list[Repayment] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)

    @property
    def paid(self) -> Payment | None:
        """The money that the provider says it has taken; of several the first."""
        return self.payments[0] if self.state is State.PAID else None


class Facade(Struct, frozen=True, kw_only=True):
    """What one protocol says where the practice provider speaks first.

    ``notice`` is the webhook about money taken, or without any about the failure of the order, whatever came of it
    since (None: the protocol has no such message); ``heard`` whether an answer to it means that it is not to be sent
    again; ``way_back`` where the payer's browser goes, "" for nowhere.  ``ask`` is a question that has to be answered
    with what ``agreed`` takes before any money is.
    """

    notice: Callable[[Order, Payment | None, Twist, datetime], Message | None]
    heard: Callable[[Order, int, bytes], bool]
    way_back: Callable[[Order, Twist], str]
    ask: Callable[[Order, Twist], Message] | None = None
    agreed: Callable[[Order, int, bytes], bool] = lambda _order, _status, _body: True
    prefix: str = ""


class Closed(Exception):
    """Nobody can pay this order any more, or not now."""


class OtherOrder(Exception):
    """The merchant used this reference for something else."""


class NotRefundable(Exception):
    """That money cannot be given back: there is not so much of it (any more)."""


class Cashier:
    """The practice providers' memory and their messengers.

    They are at ``site``, and bkapp at ``home``.
    """

    def __init__(
        self,
        *,
        site: str,
        home: str,
        merchants: Iterable[PracticeMerchant],
        facades: Mapping[str, Facade],
        http: httpx.AsyncClient,
        clock: Clock,
        script: Iterable[Fault] = (),
        pace: Pace,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.site = site
        self.home = home
        self.merchants = {merchant.key: merchant for merchant in merchants}
        self.facades = facades
        self.script = Script(script)
        self.pace = pace
        self.orders: dict[str, Order] = {}
        self._by_reference: dict[tuple[str, str], Order] = {}
        self._http = http
        self._clock = clock
        self._sleep = sleep
        self._last_number = 0
        self._asked: dict[tuple[str, str], None] = {}
        self._busy: set[asyncio.Task[None]] = set()

    def now(self) -> datetime:
        """The time, as the practice providers have it."""
        return datetime.fromtimestamp(self._clock(), UTC)

    def number(self) -> int:
        """A number that was never given out, also not before the last start."""
        self._last_number = max(self._last_number + 1, int(self._clock() * 1000))
        return self._last_number

    def merchant(self, provider: str, code: str) -> PracticeMerchant | None:
        """The merchant that a provider knows by a code."""
        merchants = self.merchants.values()
        return next((one for one in merchants if (one.provider, one.code) == (provider, code)), None)

    def first_time(self, merchant: PracticeMerchant, request_id: str) -> bool:
        """Whether a merchant has not used that name of a request before."""
        before = len(self._asked)
        self._asked[merchant.key, request_id] = None
        first = len(self._asked) > before
        if len(self._asked) > KEPT:
            del self._asked[next(iter(self._asked))]
        return first

    def hook(self, merchant: PracticeMerchant) -> str:
        """Where a merchant's messages go, where its requests do not say."""
        return f"{self.home}/api/v1/payments/hooks/{merchant.key}"

    def facade(self, order: Order) -> Facade:
        """Who speaks about an order."""
        return self.facades[order.merchant.provider]

    # --- orders ----------------------------------------------------------------------------------------------------

    def begin(
        self,
        merchant: PracticeMerchant,
        reference: str,
        amount: int,
        *,
        about: str,
        return_url: str = "",
        notify_url: str = "",
        expires_at: datetime | None = None,
        facts: dict[str, Any] | None = None,
    ) -> Order:
        """The order of that reference, new or the same again; raise :class:`OtherOrder` if it is for another amount."""
        order = self._by_reference.get((merchant.key, reference))
        if order is not None:
            if order.amount != amount:
                raise OtherOrder
            return order
        order = Order(
            ticket=secrets.token_urlsafe(12),
            merchant=merchant,
            reference=reference,
            amount=amount,
            about=about,
            notify_url=notify_url or self.hook(merchant),
            return_url=return_url,
            created_at=self.now(),
            expires_at=expires_at,
            facts=facts or {},
        )
        self.orders[order.ticket] = self._by_reference[merchant.key, reference] = order
        if len(self.orders) > KEPT:
            oldest = self.orders.pop(next(iter(self.orders)))
            del self._by_reference[oldest.merchant.key, oldest.reference]
        return order

    def find(self, merchant: PracticeMerchant, reference: str) -> Order | None:
        """The merchant's order of that reference, as it stands now."""
        order = self._by_reference.get((merchant.key, reference))
        return self.standing(order) if order else None

    def standing(self, order: Order) -> Order:
        """An order as it stands now: nobody can pay it for ever."""
        if order.state is State.WAITING and order.choice is None and order.expires_at and order.expires_at < self.now():
            order.state, order.closed_at = State.EXPIRED, order.expires_at
        return order

    # --- paying ----------------------------------------------------------------------------------------------------

    async def pay(self, order: Order, choice: Choice, *, after: float | None = None) -> Do:
        """Do what the payer chose, and say what the page is to do to the payer: nothing is done for drop and error500.

        ``after`` is in how many seconds a slow or a late payment is told.
        """
        if self.standing(order).state is not State.WAITING or order.choice is not None:
            raise Closed
        do = self.script.take(On.PAY, order.merchant.key) if choice is Choice.PAY else Do.OK
        if do in {Do.DROP, Do.ERROR_500}:
            return do
        plan = SCRIPTED[do] if choice is Choice.PAY else PLANS[choice]
        order.choice, order.forged = choice, plan.spoilt is Do.BAD_SIGNATURE
        if plan.payments and not await self._allowed(order):
            self._fail(order)
        elif not plan.payments or plan.failed_first:
            self._fail(order)
            self._start(self._tell(order, None, plan.spoilt))
            if plan.payments:
                self._start(self._settle(order, plan, self.pace.late if after is None else after))
        elif plan.slow:
            order.state = State.PROCESSING
            self._start(self._settle(order, plan, self.pace.slow if after is None else after))
        else:
            await self._settle(order, plan, 0)
        return do

    async def _allowed(self, order: Order) -> bool:
        facade = self.facade(order)
        if facade.ask is None:
            return True
        delivery = Delivery(about="hỏi trước khi thu tiền")
        order.deliveries.append(delivery)
        tried = await self._send(order, facade.ask(order, STRAIGHT), facade.agreed)
        delivery.tries.append(tried)
        delivery.done = tried.taken
        return tried.taken

    def _fail(self, order: Order) -> None:
        order.state, order.closed_at = State.FAILED, self.now()

    async def _settle(self, order: Order, plan: Plan, after: float) -> None:
        """Take the money, and tell of it once ``after`` seconds have passed."""
        late = plan.failed_first
        if not late:
            self._take(order, plan)
        await self._sleep(after)
        if late:
            self._take(order, plan)
        order.state = State.PAID
        if plan.told:
            for payment in order.payments:
                self._start(self._tell(order, payment, plan.spoilt))

    def _take(self, order: Order, plan: Plan) -> None:
        for _ in range(plan.payments):
            transaction = f"{self.facade(order).prefix}{self.number()}"
            order.payments.append(Payment(transaction, order.amount + plan.more, self.now()))

    # --- telling ---------------------------------------------------------------------------------------------------

    async def _tell(self, order: Order, payment: Payment | None, spoilt: Do) -> None:
        """Send a webhook until it is taken, or nobody wants to try any more."""
        facade, at = self.facade(order), self.now()
        if facade.notice(order, payment, STRAIGHT, at) is None:
            return
        delivery = Delivery(about=f"đã thu, giao dịch {payment.transaction}" if payment else "không thành công")
        order.deliveries.append(delivery)
        for wait in (0.0, *self.pace.retries):
            await self._sleep(wait)
            do = self.script.take(On.WEBHOOK, order.merchant.key)
            do = spoilt if do is Do.OK else do
            if do in UNSENT:
                lost = Try(at=self.now(), sent="(bị mất theo kịch bản)", status=None, answer="", taken=False)
                delivery.tries.append(lost)
                continue
            if do is Do.SLOW:
                await self._sleep(self.pace.slow)
            message = facade.notice(order, payment, TWISTS.get(do, STRAIGHT), self.now())
            if message is None:
                return
            if do is Do.GARBAGE:
                message = msgspec.structs.replace(message, url=message.url.partition("?")[0], body=GARBAGE)
            for _ in range(2 if do is Do.DUPLICATE else 1):
                delivery.tries.append(await self._send(order, message, facade.heard))
            if any(one.taken for one in delivery.tries):
                delivery.done = True
                return

    async def _send(self, order: Order, message: Message, taken: Callable[[Order, int, bytes], bool]) -> Try:
        at, sent = self.now(), f"{message.method} {message.url}\n{message.body.decode()}"[:LONGEST_KEPT].strip()
        try:
            answer = await self._post(message)
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            return Try(at=at, sent=sent, status=None, answer=type(error).__name__, taken=False)
        said = answer.content.decode(errors="replace")[:LONGEST_KEPT]
        well = taken(order, answer.status_code, answer.content)
        return Try(at=at, sent=sent, status=answer.status_code, answer=said, taken=well)

    async def ask(self, message: Message) -> bytes:
        """What a merchant answers to a question; raise what httpx does where it does not answer well."""
        return (await self._post(message)).raise_for_status().content

    async def _post(self, message: Message) -> httpx.Response:
        return await self._http.request(
            message.method, message.url, content=message.body or None, headers=dict(message.headers)
        )

    # --- giving back -----------------------------------------------------------------------------------------------

    def refund(self, order: Order, reference: str, transaction: str, amount: int, *, slowly: bool) -> Repayment:
        """Give money back, once for each reference; raise :class:`NotRefundable`."""
        again = self.refunded(order.merchant, reference)
        if again is not None:
            return again
        paid = [one for one in order.payments if one.transaction == transaction or not transaction]
        if order.state is not State.PAID or not paid:
            raise NotRefundable
        before = sum(one.amount for one in order.refunds if one.payment.transaction == paid[0].transaction)
        if not 0 < amount <= paid[0].amount - before:
            raise NotRefundable
        refund = Repayment(
            reference=reference,
            payment=paid[0],
            transaction=f"{self.facade(order).prefix}{self.number()}",
            amount=amount,
            at=self.now(),
            state=RefundState.PENDING if slowly else RefundState.DONE,
        )
        order.refunds.append(refund)
        if slowly:
            self._start(self._finish(refund))
        return refund

    def refunded(self, merchant: PracticeMerchant, reference: str) -> Repayment | None:
        """What was given back under a reference."""
        orders = (order for order in self.orders.values() if order.merchant.key == merchant.key)
        return next((one for order in orders for one in order.refunds if one.reference == reference), None)

    def paid_as(self, merchant: PracticeMerchant, transaction: str) -> Order | None:
        """The order that a provider's number of money belongs to."""
        orders = (order for order in self.orders.values() if order.merchant.key == merchant.key)
        return next((one for one in orders if any(paid.transaction == transaction for paid in one.payments)), None)

    async def _finish(self, refund: Repayment) -> None:
        await self._sleep(self.pace.slow)
        refund.state = RefundState.DONE

    # --- working in the background ---------------------------------------------------------------------------------

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._busy.add(task)
        task.add_done_callback(self._busy.discard)

    async def close(self) -> None:
        """Stop sending."""
        busy = list(self._busy)
        for task in busy:
            task.cancel()
        await asyncio.gather(*busy, return_exceptions=True)
