"""How attempts and refunds move, and whose word counts.  Pure: no clock, no database.

The word of a provider about an attempt has a strength (:class:`Evidence`).  An attempt keeps the strongest word for
success and the strongest for failure that it ever heard, and its status follows from the two and from what we did
ourselves.  Both only grow, so the order in which words arrive does not matter: late, doubled and swapped messages lead
to the same status.
"""

from collections.abc import Iterator
from datetime import timedelta
from enum import IntEnum, StrEnum

from msgspec import Struct


class BillStatus(StrEnum):
    """Whether a bill is still owed."""

    OPEN = "open"
    PAID = "paid"
    CANCELLED = "cancelled"


class FeeKind(StrEnum):
    """What a line of a bill is for (Luật Phí và lệ phí 97/2015/QH13)."""

    FEE = "fee"  # phí
    CHARGE = "charge"  # lệ phí
    DELIVERY = "delivery"  # cước bưu chính công ích


class AttemptStatus(StrEnum):
    """How far a try at paying is."""

    CREATED = "created"  # we mean to ask the provider
    UNKNOWN = "unknown"  # we asked and do not know what came of it
    PENDING = "pending"  # the provider waits for the payer
    EXPIRED = "expired"  # nobody paid in time, or the payer chose another way
    FAILED = "failed"
    SUCCEEDED = "succeeded"


LIVE = frozenset({AttemptStatus.CREATED, AttemptStatus.UNKNOWN, AttemptStatus.PENDING})
"""What may still become a payment without anything unusual; a bill has one of these at the most."""


class Evidence(IntEnum):
    """How strong a word about an attempt is."""

    NONE = 0
    HINT = 1  # the payer's browser coming back, or a refusal while asking: shown, never proof that money came
    WEBHOOK = 2  # the provider's signed message
    INQUIRY = 3  # the provider's answer to our question, or its daily report
    STATEMENT = 4  # the bank's statement


PROOF = Evidence.WEBHOOK
"""From where on a word for success is believed."""


class Event(StrEnum):
    """Why an attempt moved."""

    SUBMITTED = "submitted"
    TIMED_OUT = "timed_out"
    PAID = "paid"
    LATE_MONEY = "late_money"
    REFUSED = "refused"
    OVERRULED = "overruled"
    EXPIRED = "expired"


class Edge(Struct, frozen=True):
    """A way an attempt may go."""

    start: AttemptStatus
    event: Event
    end: AttemptStatus


def _edges() -> Iterator[Edge]:
    status, event = AttemptStatus, Event
    yield Edge(status.CREATED, event.TIMED_OUT, status.UNKNOWN)
    yield Edge(status.CREATED, event.SUBMITTED, status.PENDING)
    yield Edge(status.UNKNOWN, event.SUBMITTED, status.PENDING)
    for live in (status.CREATED, status.UNKNOWN, status.PENDING):
        yield Edge(live, event.PAID, status.SUCCEEDED)
        yield Edge(live, event.REFUSED, status.FAILED)
        yield Edge(live, event.EXPIRED, status.EXPIRED)
    yield Edge(status.EXPIRED, event.LATE_MONEY, status.SUCCEEDED)
    yield Edge(status.EXPIRED, event.REFUSED, status.FAILED)
    yield Edge(status.FAILED, event.LATE_MONEY, status.SUCCEEDED)
    yield Edge(status.SUCCEEDED, event.OVERRULED, status.FAILED)


EDGES = tuple(_edges())
"""The graph.  ``attempt_edge``, which a trigger enforces, holds the same; ``bkapp payments graph`` draws it."""

EVENTS = {(edge.start, edge.end): edge.event for edge in EDGES}

_FAR = {AttemptStatus.CREATED: 0, AttemptStatus.UNKNOWN: 1, AttemptStatus.PENDING: 2, AttemptStatus.EXPIRED: 3}


class Standing(Struct, frozen=True):
    """Everything an attempt's status depends on.

    ``reached`` is how far our own doings brought it (never succeeded or failed); ``success`` and ``failure`` are the
    strongest words heard for either.
    """

    reached: AttemptStatus = AttemptStatus.CREATED
    success: Evidence = Evidence.NONE
    failure: Evidence = Evidence.NONE

    @property
    def status(self) -> AttemptStatus:
        """A success that is proven stands against any failure that is not stronger: money that came is not undone by
        a message about another try."""
        if self.success >= PROOF and self.success >= self.failure:
            return AttemptStatus.SUCCEEDED
        if self.failure > Evidence.NONE:
            return AttemptStatus.FAILED
        return self.reached

    def hear(self, *, success: Evidence = Evidence.NONE, failure: Evidence = Evidence.NONE) -> "Standing":
        """After a word of the given strength."""
        return Standing(self.reached, max(self.success, success), max(self.failure, failure))

    def reach(self, status: AttemptStatus) -> "Standing":
        """After something we did: asked, could not tell, gave up.  What came later in an attempt's life stays."""
        return Standing(max(self.reached, status, key=_FAR.__getitem__), self.success, self.failure)


class Place(StrEnum):
    """Where money that came stands."""

    APPLIED = "applied"  # it pays its bill
    SUSPENSE = "suspense"  # it belongs to nothing, yet
    REVERSED = "reversed"  # stronger evidence says that it never came


class CaseKind(StrEnum):
    """Why money, or an attempt, needs somebody's attention."""

    DUPLICATE = "duplicate"  # the bill was paid before
    AMOUNT = "amount"  # not what the bill asks
    CLOSED_BILL = "closed_bill"  # the bill was cancelled
    UNIDENTIFIED = "unidentified"  # of no attempt or bill that we know
    CONFLICT = "conflict"  # stronger evidence denies money that was partly given back
    OVERREFUND = "overrefund"  # a refund turned out done whose reservation was released
    REFUND_FAILED = "refund_failed"
    MISSING = "missing"  # we have it, the provider's or the bank's file does not
    STATUS = "status"  # we and a file disagree about what came of it


CASE_CLOCK = timedelta(days=7)
"""Within how long a case is to be settled; shown to the citizen."""


class RefundStatus(StrEnum):
    """How far a refund is.  From ``waiting`` to ``pending`` its amount is reserved on the receipt."""

    WAITING = "waiting"  # a second person has to agree
    APPROVED = "approved"  # to be sent (or, without a provider that can, to be transferred by hand)
    UNKNOWN = "unknown"  # we asked and do not know what came of it
    PENDING = "pending"  # the provider is at it
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REJECTED = "rejected"


REFUND_EDGES: dict[RefundStatus, frozenset[RefundStatus]] = {
    RefundStatus.WAITING: frozenset({RefundStatus.APPROVED, RefundStatus.REJECTED}),
    RefundStatus.APPROVED: frozenset(
        {RefundStatus.UNKNOWN, RefundStatus.PENDING, RefundStatus.SUCCEEDED, RefundStatus.FAILED, RefundStatus.REJECTED}
    ),
    RefundStatus.UNKNOWN: frozenset({RefundStatus.PENDING, RefundStatus.SUCCEEDED, RefundStatus.FAILED}),
    RefundStatus.PENDING: frozenset({RefundStatus.SUCCEEDED, RefundStatus.FAILED}),
    RefundStatus.FAILED: frozenset({RefundStatus.SUCCEEDED}),  # a late success: the money did leave
    RefundStatus.SUCCEEDED: frozenset(),
    RefundStatus.REJECTED: frozenset(),
}
RESERVING = frozenset({RefundStatus.WAITING, RefundStatus.APPROVED, RefundStatus.UNKNOWN, RefundStatus.PENDING})
"""While a refund is one of these, its amount is kept back on its receipt."""

ATTEMPT_LASTS = timedelta(minutes=15)
TRANSFER_LASTS = timedelta(hours=24)
"""A bank transfer may be made from another telephone, or at a counter."""
CALL_LEASE = timedelta(seconds=40)
"""How long whoever created an attempt has to ask the provider before a sweeper finds out what became of it."""
LATE_CHECKS = timedelta(days=3)
"""For how long an expired attempt is still asked about, sparsely."""


AUTOMATIC_REFUND = 500_000
"""Up to how many đồng a payment made twice is given back without anybody's agreement."""


def next_check(checks: int) -> timedelta:
    """How long to wait before asking again, after ``checks`` questions: 15 s, 30 s, 1, 2, 4 … 30 minutes."""
    return min(timedelta(seconds=15 * 2 ** min(checks, 7)), timedelta(minutes=30))
