"""What the API tells of messages from providers and of the books."""

from datetime import datetime
from uuid import UUID

from msgspec import Struct

from bkapp.payments.queries.inbox import LetterRow


class LetterOut(Struct, frozen=True):
    """A message from a provider, without what stood in it."""

    id: int
    merchant: str
    what: str
    received_at: datetime
    remote_ip: str
    body_bytes: int
    outcome: str
    reason: str | None
    attempt_id: UUID | None

    @classmethod
    def of(cls, row: LetterRow) -> "LetterOut":
        return cls(
            row.id,
            row.merchant,
            row.what,
            row.received_at,
            row.remote_ip,
            row.body_bytes,
            row.outcome,
            row.reason,
            row.attempt_id,
        )


class LettersOut(Struct, frozen=True):
    """A page of them; ``next`` is None on the last."""

    messages: list[LetterOut]
    next: int | None


class ReplayedOut(Struct, frozen=True):
    """What a message came to when it was acted on anew."""

    id: int
    outcome: str
    reason: str | None


class BalanceOut(Struct, frozen=True):
    """What an account comes to, in đồng: debits above zero, credits below."""

    account: str
    balance: int


class BalancesOut(Struct, frozen=True):
    """The accounts of the ledger.  ``unmatched`` is what receipts in suspense come to, and equals suspense."""

    accounts: list[BalanceOut]
    suspense: int
    unmatched: int
