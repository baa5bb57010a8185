"""What the tests of VNPAY, MoMo and ZaloPay share: orders, a provider's side made of a function, spoilt messages."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
import pytest

from bkapp.payments.providers import (
    Call,
    Hearing,
    HookRefused,
    Line,
    Merchant,
    NoAnswer,
    NotSent,
    Order,
    Provider,
    RefundOrder,
    Verdict,
)
from bkapp.payments.providers.calling import Wire
from bkapp.payments.rules import FeeKind

CREATED = datetime(2022, 3, 15, 3, 15, 30, tzinfo=UTC)  # 10:15:30 in Hà Nội
NOW = CREATED + timedelta(minutes=5)
HOME = "https://app.example.vn"

ORDER = Order(
    reference="TT00000000AK",
    amount=20_000,
    created_at=CREATED,
    expires_at=CREATED + timedelta(minutes=15),
    bill_code="HD00000000AB",
    dossier_code="000.00.01.H03-220315-0001",
    procedure_code="1.001193",
    procedure_name="Đăng ký khai sinh",
    agency="UBND phường Đức Xuân",
    account="0011012345678",
    account_name="UBND PHUONG DUC XUAN",
    bank_bin="970403",
    lines=[Line(FeeKind.CHARGE, "LP1", "Lệ phí", 20_000)],
    return_url=f"{HOME}/thanh-toan/ve?bill=1&lang=vi",
    payer_ip="113.160.0.7",
)
REFUND = RefundOrder(
    reference="HT00000000AC",
    amount=20_000,
    reason="Nop trung",
    requested_at=CREATED + timedelta(hours=2),
    order=ORDER,
    transaction="14422574",
    paid_at=CREATED + timedelta(minutes=3),
    full=True,
)

Handler = Callable[[httpx.Request], httpx.Response]


def reply(status: int, said: object = b"", **headers: str) -> httpx.Response:
    """An answer that is yet to be read, as one that comes over a socket."""
    raw = said if isinstance(said, bytes) else json.dumps(said).encode()

    async def chunks() -> AsyncIterator[bytes]:
        yield raw

    return httpx.Response(status, headers=headers, content=chunks())


class Peer:
    """A provider's side: what it was asked, and what it answers."""

    def __init__(self, answer: Callable[[dict[str, Any]], object]) -> None:
        self.asked: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self._answer = answer
        self.wire = Wire(httpx.MockTransport(self._take))

    def _take(self, request: httpx.Request) -> httpx.Response:
        asked = json.loads(request.content)
        self.asked.append(asked)
        self.paths.append(request.url.path)
        return reply(200, self._answer(asked))


def _broken(request: httpx.Request) -> httpx.Response:
    raise httpx.ReadTimeout("too slow", request=request)


def _unreachable(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("no route", request=request)


TROUBLES: dict[str, tuple[Handler, type[Exception]]] = {
    "unreachable": (_unreachable, NotSent),
    "timeout": (_broken, NoAnswer),
    "error 500": (lambda _: reply(500, {}), NoAnswer),
    "redirect": (lambda _: reply(302, {}, Location="https://elsewhere.vn/"), NoAnswer),
    "a page": (lambda _: reply(200, "<html>Bảo trì</html>".encode()), NoAnswer),
    "empty": (lambda _: reply(200), NoAnswer),
    "a list": (lambda _: reply(200, [1]), NoAnswer),
    "an empty object": (lambda _: reply(200, {}), NoAnswer),
    "a name twice": (lambda _: reply(200, b'{"resultCode":1006,"resultCode":0}'), NoAnswer),
    "too long": (lambda _: reply(200, b'{"a":"' + b"a" * 300_000 + b'"}'), NoAnswer),
    "null everywhere": (
        lambda _: reply(200, {"vnp_ResponseCode": None, "resultCode": None, "return_code": None}),
        NoAnswer,
    ),
}
"""What a provider may do instead of answering, and what a call raises then."""


async def meets_trouble(call: Callable[[Wire], Awaitable[object]]) -> None:
    """Check what a call raises in each kind of trouble."""
    for name, (handler, raised) in TROUBLES.items():
        with pytest.raises(raised):
            pytest.fail(f"{name}: {await call(Wire(httpx.MockTransport(handler)))}")


async def needs_settings(merchant: Merchant, call: Callable[[Wire, Merchant], Awaitable[object]]) -> None:
    """Check that nothing is asked for a merchant without secrets, or without addresses."""
    peer = Peer(lambda _: {})
    for bare in (msgspec.structs.replace(merchant, secrets={}), msgspec.structs.replace(merchant, options={})):
        with pytest.raises(NotSent):
            await call(peer.wire, bare)
    assert peer.asked == []


@asynccontextmanager
async def socket_that(says: bytes) -> AsyncIterator[str]:
    """A server on a real socket that says just this, and leaves the connection open."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(says)
        await writer.drain()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def spoilt(message: bytes) -> Iterator[bytes]:
    """Everything that one wrong character makes of a message: another one, a missing one, a doubled one."""
    for at, byte in enumerate(message):
        for other in {byte ^ 1, byte ^ 0x20, *b'0a&=%+"{, \x00\xff'} - {byte}:
            yield message[:at] + bytes([other]) + message[at + 1 :]
        yield message[:at] + message[at + 1 :]
        yield message[: at + 1] + message[at:]


def refusal(provider: Provider, merchant: Merchant, call: Call, now: datetime = NOW) -> Verdict:
    """Why a message is refused; fails where it is not."""
    with pytest.raises(HookRefused) as caught:
        provider.hear(merchant, call, now=now)
    assert caught.value.reason.isascii() or "đồng" in caught.value.reason
    return caught.value.verdict


def nothing_spoilt_is_taken(
    provider: Provider, merchant: Merchant, right: bytes, call: Callable[[bytes], Call], read: Callable[[bytes], object]
) -> int:
    """Check that a message with a wrong character is refused, unless it says the very same to anybody.

    ``read`` is how anybody would read it.  Returns how many said the same.
    """
    whole, meaning = provider.hear(merchant, call(right), now=NOW), read(right)
    taken = 0
    for message in spoilt(right):
        try:
            heard: Hearing | None = provider.hear(merchant, call(message), now=NOW)
        except HookRefused:
            continue
        assert heard == whole
        assert read(message) == meaning
        taken += 1
    return taken


def json_meaning(body: bytes) -> object:
    """A JSON body as anybody reads it; its numbers and texts alike, as signatures are over their texts."""

    def plain(value: object) -> object:
        if isinstance(value, dict):
            return {name: plain(inner) for name, inner in value.items()}
        return value if isinstance(value, bool | None) else str(value)

    return plain(json.loads(body))


def posted(body: bytes | Mapping[str, object]) -> Call:
    """A message that a provider posts."""
    raw = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    return Call(method="POST", what="", query=b"", headers={"content-type": "application/json"}, body=raw)
