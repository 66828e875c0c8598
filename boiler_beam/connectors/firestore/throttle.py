"""How much a writer may ask of a server: less while it is overloaded, and more and more of a new collection.

>>> ramp_up = RampUp()
>>> ramp_up.take(500, now=0.0), ramp_up.take(500, now=0.0), ramp_up.take(500, now=0.0)
(0.0, 1.0, 2.0)
>>> ramp_up.rate(now=600.0)
1125.0

Nothing here sleeps or knows a clock: times are passed in, seconds are given back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

__all__ = ["AdaptiveThrottle", "RampUp", "back_off"]

_LONGEST = 40
"""Doublings, beyond which a float needs none."""


def back_off(attempt: int, chance: float, first_seconds: float = 0.1, most_seconds: float = 10.0) -> float:
    """Seconds before the same is asked again: twice as long after each attempt, and spread.

    Args:
        attempt: How often it failed, from 1.
        chance: A random number from 0 to 1: between half of the time and all of it is waited.
        first_seconds: After the first attempt, at most.
        most_seconds: After any.
    """
    return float(min(most_seconds, first_seconds * 2 ** min(attempt - 1, _LONGEST)) * (1 + chance) / 2)


class AdaptiveThrottle:
    """Holds calls back with a probability that follows from how many the server took lately.

    It is `(requests - ratio * accepts) / (requests + 1)`, within a window: none while the server takes at least one of
    `ratio` requests, nearly all when it takes none.
    Source: https://sre.google/sre-book/handling-overload/, "Client-Side Throttling".

    Args:
        chance: Gives random numbers from 0 to 1.
        ratio: How many times as many requests as are taken may be sent.
        window_seconds: What is remembered.
        hold_seconds: For how long a call that is held back waits before it asks again, on average.
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
        """A call was answered: taken, or refused because there is too much to do."""
        self._told.append((now, is_accepted))
        self._accepts += is_accepted

    def probability(self, now: float) -> float:
        """That a call is held back."""
        while self._told and self._told[0][0] <= now - self._seconds:
            self._accepts -= self._told.popleft()[1]
        requests = len(self._told)
        return max(0.0, (requests - self.ratio * self._accepts) / (requests + 1))

    def hold(self, now: float) -> float:
        """Seconds for which a call must wait before it asks again; 0: it may go."""
        probability = self.probability(now)
        if not probability or self.chance() >= probability:
            return 0.0
        return self.hold_seconds * (0.5 + self.chance())


class RampUp:
    """The budget of writes to a collection that may be new: 500 a second, and half as many again every 5 minutes.

    Source: https://firebase.google.com/docs/firestore/best-practices, "Ramping up traffic".

    Args:
        writers: How many share the budget: it is that of the whole pipeline.
        first: Writes a second in the first five minutes.
        growth: By which they are multiplied after each.
        every_seconds: Those five minutes.
    """

    def __init__(
        self, writers: int = 1, *, first: float = 500.0, growth: float = 1.5, every_seconds: float = 300.0
    ) -> None:
        self._first, self._growth, self._every = first / writers, growth, every_seconds
        self._begun: float | None = None
        self._free = 0.0

    def rate(self, now: float) -> float:
        """Writes a second of this writer."""
        if self._begun is None:
            self._begun = self._free = now
        steps = int((now - self._begun) / self._every)
        return float(self._first * self._growth ** min(steps, _LONGEST))

    def most(self, now: float) -> int:
        """How many writes a call should hold, so that one goes about every second."""
        return max(1, int(self.rate(now)))

    def take(self, number: int, now: float) -> float:
        """Takes so many writes from the budget; gives the seconds before they may go."""
        rate = self.rate(now)
        start = max(now, self._free)
        self._free = start + number / rate
        return start - now
