"""What goes wrong at the practice payment providers: a script of faults, each for the next calls of a kind.

``POST /thanh-toan/kich-ban`` sets it as JSON, for instance::

    [{"on": "begin", "do": "timeout"}, {"on": "webhook", "do": "drop", "times": 2}]

A call takes the first fault that is ``on`` its kind (and of its ``merchant``, where one is named) and has times left.

================  ==========================================  ==========================================================
``do``            on begin, inquire and refund                on webhook; on pay
================  ==========================================  ==========================================================
``timeout``       it is done; the answer comes too late       not sent this time; paid, and no webhook is ever sent
``drop``          nothing is done; the connection breaks      not sent this time; nothing is paid, the page breaks
``error500``      nothing is done; status 500                 not sent this time; nothing is paid, the page says so
``garbage``       it is done; the answer is a page of HTML    the body is no message; the same, for every webhook
``bad_signature`` it is done; the answer's signature is bad   a bad signature; the same, for every webhook
``slow``          it is done; the answer comes late, a        sent late; paid, but pending for a while
                  refund is pending for a while
``duplicate``     it is done as if asked twice                sent twice; the money is taken twice
``wrong_amount``  it is done; the answer has another amount   another amount, well signed; another amount is taken
``ok``            what should be                              what should be
================  ==========================================  ==========================================================
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

MOST_RULES = 100


class On(StrEnum):
    """The kinds of calls."""

    BEGIN = "begin"
    INQUIRE = "inquire"
    REFUND = "refund"
    WEBHOOK = "webhook"
    PAY = "pay"


class Do(StrEnum):
    """What happens to a call."""

    OK = "ok"
    TIMEOUT = "timeout"
    DROP = "drop"
    ERROR_500 = "error500"
    GARBAGE = "garbage"
    BAD_SIGNATURE = "bad_signature"
    SLOW = "slow"
    DUPLICATE = "duplicate"
    WRONG_AMOUNT = "wrong_amount"


class Fault(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What happens to the next ``times`` calls of a kind; those of one ``merchant`` where one is named."""

    on: On
    do: Do
    times: Annotated[int, Meta(ge=1, le=1000)] = 1
    merchant: str = ""


Faults = Annotated[list[Fault], Meta(max_length=MOST_RULES)]


class Script:
    """The faults that are still to come."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self.faults = list(faults)

    def take(self, on: On, merchant: str) -> Do:
        """What happens to this call."""
        for at, fault in enumerate(self.faults):
            if fault.on is on and fault.merchant in {"", merchant}:
                rest = [msgspec.structs.replace(fault, times=fault.times - 1)] if fault.times > 1 else []
                self.faults[at : at + 1] = rest
                return fault.do
        return Do.OK


class Twist(Struct, frozen=True):
    """How a message is spoilt while it is written, or what it tells of is slow."""

    forged: bool = False
    more: int = 0  # đồng that it says too much
    slow: bool = False

    def secret(self, secret: str) -> str:
        """The secret to sign with."""
        return f"not {secret}" if self.forged else secret

    def amount(self, amount: int) -> int:
        """The amount to say."""
        return amount + self.more


STRAIGHT = Twist()
WRONG_BY = 1_000
TWISTS = {Do.BAD_SIGNATURE: Twist(forged=True), Do.WRONG_AMOUNT: Twist(more=WRONG_BY), Do.SLOW: Twist(slow=True)}
