"""Limits the rate of calls: lower while the server is overloaded, and growing slowly for a new collection.

>>> ramp_up = RampUp()
>>> ramp_up.take(500, now=0.0), ramp_up.take(500, now=0.0), ramp_up.take(500, now=0.0)
(0.0, 1.0, 2.0)
>>> ramp_up.rate(now=600.0)
1125.0

Nothing here sleeps or reads a clock: the time is an argument, and seconds to wait are returned.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

__all__ = ["AdaptiveThrottle", "RampUp", "back_off"]

_LONGEST = 40
"""The most doublings; beyond it the waiting time is at its maximum anyway."""


def back_off(attempt: int, chance: float, first_seconds: float = 0.1, most_seconds: float = 10.0) -> float:
    """Returns the seconds before a call is repeated: exponential backoff with jitter.

    Args:
        attempt: The number of failures, from 1.
        chance: A random number from 0 to 1; the result is between half of the backoff and all of it.
        first_seconds: The longest time after the first failure.
        most_seconds: The longest time after any failure.
    """
    return float(min(most_seconds, first_seconds * 2 ** min(attempt - 1, _LONGEST)) * (1 + chance) / 2)


class AdaptiveThrottle:
    """Delays calls with a probability that depends on how many recent calls the server accepted.

    The probability is `(requests - ratio * accepts) / (requests + 1)` within a window: 0 while the server accepts at
    least one of `ratio` requests, nearly 1 when it accepts none.
    Source: https://sre.google/sre-book/handling-overload/, "Client-Side Throttling".

    Args:
        chance: Returns random numbers from 0 to 1.
        ratio: The allowed ratio of requests to accepted requests.
        window_seconds: The length of the window.
        hold_seconds: The average time before a delayed call tries again.
    """

    def __init__(
        self,
        chance: Callable[[], float],
        *,
        ratio: float = 2.0,
        window_seconds: float = 30.0,
        hold_seconds: float = 0.5,
    ) -> None:
        self.chance, self.ratio, self.hold_seconds = chance, ratio, hold_seconds
        self._seconds = window_seconds
        self._told: deque[tuple[float, bool]] = deque()
        self._accepts = 0

    def told(self, now: float, *, is_accepted: bool) -> None:
        """Records the response to a call: accepted, or refused because of overload."""
        self._told.append((now, is_accepted))
        self._accepts += is_accepted

    def probability(self, now: float) -> float:
        """Returns the probability that a call is delayed."""
        while self._told and self._told[0][0] <= now - self._seconds:
            self._accepts -= self._told.popleft()[1]
        requests = len(self._told)
        return max(0.0, (requests - self.ratio * self._accepts) / (requests + 1))

    def hold(self, now: float) -> float:
        """Returns the seconds for which a call has to wait before it tries again; 0: it may be sent."""
        probability = self.probability(now)
        if not probability or self.chance() >= probability:
            return 0.0
        return self.hold_seconds * (0.5 + self.chance())


class RampUp:
    """The rate of writes to a collection that may be new: 500 a second at first, half as many again every 5 minutes.

    Source: https://firebase.google.com/docs/firestore/best-practices, "Ramping up traffic".

    Args:
        writers: The number of writers that share the rate.
        first: Writes per second in the first period.
        growth: The factor by which the rate grows after each period.
        every_seconds: The length of a period.
    """

    def __init__(
        self, writers: int = 1, *, first: float = 500.0, growth: float = 1.5, every_seconds: float = 300.0
    ) -> None:
        self._first, self._growth, self._every = first / writers, growth, every_seconds
        self._begun: float | None = None
        self._free = 0.0

    def rate(self, now: float) -> float:
        """Returns the rate of this writer, in writes per second."""
        if self._begun is None:
            self._begun = self._free = now
        steps = int((now - self._begun) / self._every)
        return float(self._first * self._growth ** min(steps, _LONGEST))

    def most(self, now: float) -> int:
        """Returns how many writes a call should have, so that about one call a second is sent."""
        return max(1, int(self.rate(now)))

    def take(self, number: int, now: float) -> float:
        """Reserves a number of writes, and returns the seconds before they may be sent."""
        rate = self.rate(now)
        start = max(now, self._free)
        self._free = start + number / rate
        return start - now
