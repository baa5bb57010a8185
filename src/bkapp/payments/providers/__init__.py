"""What bkapp asks of a payment provider.

A provider is a bank, a wallet or the national payment platform; one module here speaks each one's protocol.  They know
neither the database nor HTTP requests: they are given a :class:`Merchant` with its opened secrets and an
:class:`Order`, and say what they found as a :class:`Finding`.  Amounts are đồng and times aware UTC on our side of the
seam, whatever the protocol counts in.

What every provider can do is :class:`Provider`; giving money back is :class:`Refunds`, which some cannot.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Protocol, runtime_checkable

from msgspec import Struct

from bkapp.errors import DomainError
from bkapp.payments.rules import FeeKind


class Merchant(Struct, frozen=True, kw_only=True):
    """Our account with a provider.

    ``key`` is its name in our addresses, ``code`` what the provider calls us; ``secrets`` are those in force by their
    purpose (each provider names its own), the one that signs first; ``options`` are addresses and what else the
    provider module documents; ``home`` is where our own site is (``https://…``, no slash at its end).
    """

    key: str
    provider: str
    code: str
    secrets: Mapping[str, Sequence[str]]
    options: Mapping[str, str]
    home: str

    @property
    def notify_url(self) -> str:
        """Where the provider's messages go."""
        return f"{self.home}/api/v1/payments/hooks/{self.key}"


class Line(Struct, frozen=True):
    """A part of what is paid."""

    kind: FeeKind
    code: str
    name: str
    amount: int


class Order(Struct, frozen=True, kw_only=True):
    """What is to be paid, or what was asked to be.

    ``reference`` is our name for the attempt (``TT…``, 12 ASCII letters and digits), and the same whenever it is asked
    about again; ``token`` is what :attr:`Begun.token` said, empty before.  ``created_at`` and ``expires_at`` never
    change, so a request made anew from an order is the same request.  ``payer_ip`` is only known while beginning.
    """

    reference: str
    amount: int
    created_at: datetime
    expires_at: datetime
    bill_code: str
    dossier_code: str  # "" where the bill is for none
    procedure_code: str
    procedure_name: str
    agency: str
    account: str
    account_name: str
    bank_bin: str
    lines: Sequence[Line]
    return_url: str
    token: str = ""
    payer_ip: str = "127.0.0.1"


class Begun(Struct, frozen=True, kw_only=True):
    """How the payer goes on: to an address, or with a QR code for their bank's app."""

    redirect_url: str | None = None
    qr: str | None = None
    token: str | None = None


class Outcome(StrEnum):
    """What a provider says came of an order."""

    PAID = "paid"
    FAILED = "failed"
    PENDING = "pending"
    ABSENT = "absent"  # the provider knows of no such order


class Finding(Struct, frozen=True, kw_only=True):
    """What a provider says of one order (or of money that names none).

    ``references`` are ours, as found in the message: one for most protocols, none or more for a bank transfer, whose
    content people type.  ``transaction`` is the provider's or the bank's own number of the money and ``amount`` what it
    says was paid; either is None where the message does not say.  ``at`` is when it was paid, None where not said.
    ``code`` is the provider's word for the outcome.
    """

    references: Sequence[str]
    outcome: Outcome
    amount: int | None = None
    transaction: str | None = None
    at: datetime | None = None
    code: str = ""


class Call(Struct, frozen=True, kw_only=True):
    """A message as it came over the wire: from a provider, or by the payer's browser.

    ``what`` is the last part of the address (``""``, or for instance ``verify``); header names are lower case;
    ``query`` is the raw query string, not decoded.
    """

    method: str
    what: str
    query: bytes
    headers: Mapping[str, str]
    body: bytes


class Hearing(Struct, frozen=True, kw_only=True):
    """A message whose signature is good.

    ``event_id`` is the same whenever the same message is sent again.  ``finding`` is None for a message that only asks
    (Viettel's ``verify``); ``asks`` is then the reference of the attempt, and ``amount`` what it would charge.
    ``context`` is for :meth:`Provider.answer` alone.
    """

    event_id: str
    finding: Finding | None
    asks: str = ""
    amount: int | None = None
    context: Mapping[str, str] = {}


class Verdict(StrEnum):
    """What we made of a provider's message, for the protocol's own answer."""

    TAKEN = "taken"  # it changed something, or was new
    KNOWN = "known"  # we knew that
    NO_ORDER = "no_order"
    WRONG_AMOUNT = "wrong_amount"
    BAD_SIGNATURE = "bad_signature"
    MALFORMED = "malformed"
    FORBIDDEN = "forbidden"  # from an address that is not the provider's
    STALE = "stale"  # its time is too far from ours
    BROKEN = "broken"  # our fault; send it again


class Answer(Struct, frozen=True):
    """What to answer a provider's message with, in its protocol."""

    status: int
    body: bytes
    media_type: str = "application/json"


class HookRefused(Exception):
    """A message cannot be believed or read.  ``reason`` is English, for the operator, and holds no value of it."""

    def __init__(self, verdict: Verdict, reason: str, context: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.verdict = verdict
        self.reason = reason
        self.context = context or {}


class NotSent(Exception):
    """The provider was not reached: nothing was asked of it."""


class NoAnswer(Exception):
    """The provider was asked, and what came back (nothing, or not to be believed) does not say what came of it."""


class Refused(Exception):
    """The provider says no, for certain.  ``code`` is its word for why."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


REFUNDING = frozenset({"vnpay", "momo", "zalopay"})
"""Providers that give money back themselves (:class:`Refunds`); for the others the treasury transfers it."""


class PaymentProviderUnavailable(DomainError):
    """The payment provider cannot be reached; nothing was charged.  Try another way to pay, or again later."""

    status = 503
    code = "payment_provider_unavailable"
    title = "Kênh thanh toán đang gián đoạn, xin chọn cách khác hoặc thử lại sau"


class Provider(Protocol):
    """What every provider can do.  All but ``begin`` and ``inquire`` are pure."""

    name: str

    async def begin(self, merchant: Merchant, order: Order, *, now: datetime) -> Begun:
        """Ask for a payment; raise :class:`NotSent`, :class:`NoAnswer` or :class:`Refused`.

        Where the protocol has the payer carry the request, nothing is asked and nothing is raised.
        """
        ...

    async def inquire(self, merchant: Merchant, order: Order, *, now: datetime) -> Finding:
        """What came of an order; raise :class:`NotSent` or :class:`NoAnswer`.

        A finding is signed, and of this order.
        """
        ...

    def hear(self, merchant: Merchant, call: Call, *, now: datetime) -> Hearing:
        """Check and read a message; raise :class:`HookRefused`, and nothing else, whatever the bytes are."""
        ...

    def answer(self, merchant: Merchant, verdict: Verdict, context: Mapping[str, str], *, now: datetime) -> Answer:
        """What the protocol answers to a message of which we made ``verdict``."""
        ...

    def came_back(self, merchant: Merchant, query: bytes, *, now: datetime) -> Finding | None:
        """What the payer's browser brings to ``return_url``, if its signature is good; None where it proves nothing."""
        ...


class RefundOrder(Struct, frozen=True, kw_only=True):
    """What is to be given back.  ``reference`` (``HT…``) is the same whenever it is sent or asked about again."""

    reference: str
    amount: int
    reason: str  # ASCII
    requested_at: datetime
    order: Order
    transaction: str  # the provider's number of the payment
    paid_at: datetime
    full: bool


@runtime_checkable
class Refunds(Protocol):
    """Giving money back through the provider."""

    async def refund(self, merchant: Merchant, refund: RefundOrder, *, now: datetime) -> Finding:
        """Ask for it; raise :class:`NotSent`, :class:`NoAnswer` or :class:`Refused`.

        A PAID finding says that it was given back; its ``transaction`` is the provider's number of the refund.
        """
        ...

    async def inquire_refund(self, merchant: Merchant, refund: RefundOrder, *, now: datetime) -> Finding:
        """What came of it; raise :class:`NotSent` or :class:`NoAnswer`."""
        ...
