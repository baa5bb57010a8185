"""The rate limit: fixed windows, counted in this process, added up between processes through Redis.

Nobody waits for Redis: what was counted here is added to the common figures a
few times a second, and the common figures come back with it.  So a burst may
exceed the limit by what reaches the other processes within that time, and while
Redis is away each process goes on limiting by itself.
"""

import asyncio
import time

import structlog
from prometheus_client import Counter
from redis.asyncio import Redis
from redis.exceptions import RedisError

SHARED_EVERY = 0.2  # seconds
MOST_CALLERS = 200_000  # in one window; whoever changes addresses faster than that is not stopped by counting
_PERIODS = {"second": 1, "minute": 60, "hour": 3600}

log = structlog.get_logger("bkapp.limiter")

DOWN = Counter("bkapp_http_rate_limiter_errors", "Times that counts could not be shared because Redis was down.")


class Limiter:
    """Lets every caller have ``rate`` requests, such as ``600/minute``, in each window of the clock."""

    def __init__(self, rate: str, redis_url: str | None) -> None:
        number, _, period = rate.partition("/")
        self._most = int(number)
        self._period = _PERIODS[period]
        self._window = 0
        self._counts: dict[str, int] = {}
        self._unshared: dict[str, int] = {}
        self._redis = (
            Redis.from_url(redis_url, socket_timeout=1, socket_connect_timeout=1) if redis_url is not None else None
        )
        self._sharing: asyncio.Task[None] | None = None

    def hit(self, who: str) -> int:
        """Count a request; return 0 to let it through, else the seconds to wait."""
        now = time.time()
        window = int(now // self._period)
        if window != self._window or len(self._counts) >= MOST_CALLERS:
            self._window = window
            self._counts = {}
            self._unshared = {}
        count = self._counts[who] = self._counts.get(who, 0) + 1
        if self._redis is not None:
            self._unshared[who] = self._unshared.get(who, 0) + 1
            if self._sharing is None:
                self._sharing = asyncio.create_task(self._share(self._redis))
        return 0 if count <= self._most else int((window + 1) * self._period - now) + 1

    async def close(self) -> None:
        """Stop sharing and leave Redis."""
        if self._sharing is not None:
            self._sharing.cancel()
        if self._redis is not None:
            await self._redis.aclose()

    async def _share(self, redis: Redis) -> None:
        """Add what was counted here to the common figures and take those over; end when there is nothing to add."""
        try:
            while self._unshared:
                await asyncio.sleep(SHARED_EVERY)
                window, counted, self._unshared = self._window, self._unshared, {}
                try:
                    totals = await self._add(redis, window, counted)
                except (RedisError, OSError) as error:
                    DOWN.inc()
                    log.warning("rate_limit_not_shared", kind=type(error).__name__)
                    continue
                if window == self._window:
                    for who, total in totals.items():
                        # What came in meanwhile is not in the total yet.
                        self._counts[who] = total + self._unshared.get(who, 0)
        finally:
            self._sharing = None

    async def _add(self, redis: Redis, window: int, counted: dict[str, int]) -> dict[str, int]:
        async with redis.pipeline(transaction=False) as pipe:
            for who, count in counted.items():
                key = f"bkapp:rate:{self._period}:{window}:{who}"
                pipe.incrby(key, count)
                pipe.expire(key, 2 * self._period)
            answers = await pipe.execute()
        return dict(zip(counted, answers[::2], strict=True))
