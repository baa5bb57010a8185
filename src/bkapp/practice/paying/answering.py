"""Answering the calls of merchants, with the faults that are set."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from litestar import MediaType, Request, Response
from litestar.exceptions import ClientException
from litestar.response import Redirect
from litestar.types import Receive, Scope, Send
from typing_extensions import override

from bkapp.payments.providers.wire import read_amount, read_query, text_of
from bkapp.practice.eid_routes import NO_STORE, page
from bkapp.practice.paying.cashier import GARBAGE, Cashier, Order
from bkapp.practice.paying.faults import STRAIGHT, TWISTS, Do, On, Twist
from bkapp.practice.paying.merchants import PREFIX, PracticeMerchant


class _BrokenOff:
    """An answer that promises more than it says, so that the server closes the connection in its middle."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"application/json"), (b"content-length", b"64")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{", "more_body": True})


class BrokenOff(Response[None]):
    """An answer that breaks off."""

    @override
    def to_asgi_response(self, *args: Any, **kwargs: Any) -> Any:
        return _BrokenOff()


def broken_off() -> Response:
    """An answer that breaks off."""
    return BrokenOff(None)


def error_500() -> Response:
    """That it went wrong."""
    return Response("Lỗi hệ thống (lỗi luyện tập).", status_code=500, media_type=MediaType.TEXT)


def to_page(order: Order) -> Response:
    """On to the page where the payer chooses."""
    return Redirect(f"{PREFIX}/don/{order.ticket}", status_code=303, headers=NO_STORE)


def page_url(cashier: Cashier, order: Order) -> str:
    """The address of that page."""
    return f"{cashier.site}{PREFIX}/don/{order.ticket}"


def refused(reason: str, *, status: int = 400) -> Response:
    """A page that says why not."""
    return page("paying/refused.html", status=status, reason=reason)


async def form_of(request: Request) -> dict[str, str]:
    """What a page of ours sends."""
    try:
        return read_query(await request.body())
    except ValueError:
        raise ClientException("Không đọc được dữ liệu đã gửi.") from None


def lines_in(block: Any, amount: int) -> list[tuple[str, int]]:
    """What a payment is for, part by part, out of ``ThongTinBienLai``.

    Raise what a bad block raises, and ``ValueError`` where the parts do not come to the amount.
    """
    lines = [(text_of(line, "TenPhiLePhi"), read_amount(line["SoTien"])) for line in block["PhiLePhi"]]
    if not 0 < amount == sum(part for _, part in lines):
        raise ValueError("the lines do not add up")
    return lines


def expect(found: object, wanted: object) -> None:
    """Raise ``ValueError`` for a message that is another one than it should be."""
    if found != wanted:
        raise ValueError("another message")


class TurnedAway(Exception):
    """A call is refused before anything is done; ``answer`` is how its protocol says so."""

    def __init__(self, answer: Response) -> None:
        super().__init__("turned away")
        self.answer = answer


def turn_away(_: Request, turned: TurnedAway) -> Response:
    """What is answered to a call that is refused."""
    return turned.answer


async def answered(
    cashier: Cashier, on: On, merchant: PracticeMerchant, say: Callable[[Twist], Mapping[str, Any] | Response]
) -> Response:
    """The answer to a merchant's call, or what the script of faults makes of it.

    ``say`` does what is asked and answers; it is told how the answer is to be spoilt.
    """
    do = cashier.script.take(on, merchant.key)
    if do is Do.DROP:
        return broken_off()
    if do is Do.ERROR_500:
        return error_500()
    if do is Do.DUPLICATE:
        say(STRAIGHT)
    said = say(TWISTS.get(do, STRAIGHT))
    if do is Do.TIMEOUT:
        await asyncio.sleep(cashier.pace.hang)
    if do is Do.SLOW:
        await asyncio.sleep(cashier.pace.lag)
    if do is Do.GARBAGE:
        return Response(GARBAGE, media_type=MediaType.HTML)
    return said if isinstance(said, Response) else Response(said, headers=NO_STORE)
