"""What the tests of providers share: an order, the other side of the wire, and how messages are spoilt."""

from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC, datetime, timedelta

import httpx
from hypothesis import strategies as st

from bkapp.payments.providers import Call, Line, Order
from bkapp.payments.providers.calling import LONGEST_ANSWER, Wire
from bkapp.payments.rules import FeeKind

NOW = datetime(2026, 11, 24, 16, 5, 9, tzinfo=UTC)  # 23:05:09 in Hà Nội
REFERENCE = "TT7K3M9Q2M4X"
ORDER = Order(
    reference=REFERENCE,
    amount=20_000,
    created_at=NOW - timedelta(minutes=2),
    expires_at=NOW + timedelta(minutes=13),
    bill_code="HD0123456789",
    dossier_code="000.00.01.H03-261124-0001",
    procedure_code="2.000815",
    procedure_name="Chứng thực bản sao từ bản chính",
    agency="UBND xã Phủ Thông",
    account="0011001234567",
    account_name="UBND XA PHU THONG",
    bank_bin="970436",
    lines=(
        Line(FeeKind.FEE, "P01", "Phí thẩm định", 15_000),
        Line(FeeKind.CHARGE, "LP01", "Lệ phí chứng thực", 5_000),
    ),
    return_url=f"https://bkapp.example/thanh-toan/ve/{REFERENCE}",
    payer_ip="203.0.113.7",
)
UNREADABLE = {
    "empty": b"",
    "html": b"<html>502 Bad Gateway</html>",
    "bytes": b"\xff\xfe\x00",
    "list": b"[]",
    "null": b"null",
    "other": b'{"a": 1}',
    "deep": b"[" * 50_000,
    "number": b"9" * 5_000,
    "surrogate": b'{"error_code":"0","error":"0","message":"\\ud800","payment_url":"\\ud800"}',
    "long": b" " * (LONGEST_ANSWER + 1),
}
BROKEN_BODIES = {
    "empty": b"",
    "not UTF-8": b"\xff\xfe\x00",
    "list": b"[1]",
    "NaN": b'{"a": NaN}',
    "deep": b'{"a":' * 50_000,
    "huge": b'{"a": "' + b"x" * 200_000 + b'"}',
    "twice": b'{"a": 1, "a": 2}',
    "query twice": b"a=1&a=2",
    "query bytes": b"a=%ff",
    "many": b"&".join(b"a%d=1" % n for n in range(200)),
}


def answer(status: int, content: bytes) -> httpx.Response:
    """An answer that is still to be read, as one over a socket is."""

    async def chunks() -> AsyncIterator[bytes]:
        yield content

    return httpx.Response(status, content=chunks())


def wire(status: int, content: bytes) -> Wire:
    """A wire to a provider that always answers the same."""
    return Wire(httpx.MockTransport(lambda _: answer(status, content)))


def wire_to(handler: Callable[[httpx.Request], Coroutine[None, None, httpx.Response]], *, patience: float = 5) -> Wire:
    """A wire to a provider that does as ``handler`` does."""
    return Wire(httpx.MockTransport(handler), patience=patience)


def post(body: bytes, what: str = "") -> Call:
    """A message to our notify address."""
    return Call(method="POST", what=what, query=b"", headers={}, body=body)


@st.composite
def tampered(draw: st.DrawFn, value: str) -> str:
    """A text that differs from ``value`` in one character: another one, one more, or one less."""
    at = draw(st.integers(0, len(value)))
    sign = draw(st.sampled_from("0123456789aZ-. |&=%đ\u0000") | st.characters())
    texts = [value[:at] + sign + value[at:]]
    if at < len(value):
        texts += [value[:at] + sign + value[at + 1 :], value[:at] + value[at + 1 :]]
    return draw(st.sampled_from(texts).filter(lambda text: text != value))


@st.composite
def mangled(draw: st.DrawFn, body: bytes) -> bytes:
    """A message with some of its bytes changed, dropped, repeated or put in."""
    spoilt = bytearray(body)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(spoilt)))
        end = min(len(spoilt), at + draw(st.integers(0, 12)))
        put = draw(st.binary(max_size=6) | st.sampled_from([b'"', b",", b"{", b"\\u0000", b"&", b"%00", b"1e999"]))
        spoilt[at:end] = put + (bytes(spoilt[at:end]) * 2 if draw(st.booleans()) else b"")
    return bytes(spoilt)
