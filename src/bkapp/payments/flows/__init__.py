"""Asking somebody outside between two transactions of ours: intent, call, outcome."""

from collections.abc import Callable
from datetime import datetime, timedelta
from time import monotonic

Clock = Callable[[], datetime]


def going_on(now: datetime) -> Clock:
    """A clock that shows ``now`` at this moment and goes on: what takes long must not take the past for now."""
    started = monotonic()
    return lambda: now + timedelta(seconds=monotonic() - started)
