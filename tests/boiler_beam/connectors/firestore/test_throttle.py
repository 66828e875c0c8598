"""The limits of the rate of calls."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boiler_beam.connectors.firestore.throttle import AdaptiveThrottle, RampUp, back_off


@pytest.mark.parametrize(
    ("accepted", "refused", "expected"),
    [(0, 0, 0.0), (10, 0, 0.0), (10, 10, 0.0), (10, 30, 20 / 41), (0, 9, 0.9), (1, 0, 0.0)],
)
def test_what_is_held_back_follows_from_what_was_taken(accepted: int, refused: int, expected: float) -> None:
    throttle = AdaptiveThrottle(lambda: 0.5)
    for number in range(accepted + refused):
        throttle.told(0.0, is_accepted=number < accepted)
    assert throttle.probability(1.0) == pytest.approx(expected)


def test_what_is_long_past_is_forgotten() -> None:
    throttle = AdaptiveThrottle(lambda: 0.5, window_seconds=30)
    for second in range(20):
        throttle.told(second, is_accepted=False)
    assert throttle.probability(20) > 0.9
    assert throttle.probability(40) == pytest.approx(9 / 10)
    assert throttle.probability(49) == 0.0


def test_a_call_is_held_as_often_as_is_probable_and_for_some_time() -> None:
    chance = random.Random(1).random
    throttle = AdaptiveThrottle(chance, hold_seconds=2.0)
    for number in range(40):
        throttle.told(0.0, is_accepted=number < 10)
    held = [seconds for seconds in (throttle.hold(0.0) for _ in range(4000)) if seconds]
    assert len(held) / 4000 == pytest.approx(20 / 41, abs=0.03)
    assert all(1.0 <= seconds <= 3.0 for seconds in held)


def test_the_budget_grows_by_half_every_five_minutes() -> None:
    ramp_up = RampUp()
    assert [ramp_up.rate(now) for now in (1000, 1299, 1300, 1600, 1900)] == [500, 500, 750, 1125, 1687.5]


@pytest.mark.parametrize("writers", [1, 2, 500])
def test_the_budget_is_that_of_all_writers_together(writers: int) -> None:
    each = [RampUp(writers) for _ in range(writers)]
    sent = 0
    for ramp_up in each:
        now = 0.0
        while True:
            number = min(500, ramp_up.most(now))
            now += ramp_up.take(number, now)
            if now >= 10.0:
                break
            sent += number
    assert 5000 <= sent <= 5500


@given(st.lists(st.tuples(st.integers(1, 500), st.floats(0, 3)), max_size=60))
def test_no_more_goes_than_the_budget_and_nothing_waits_without_need(calls: list[tuple[int, float]]) -> None:
    ramp_up, now, free = RampUp(), 0.0, 0.0
    for number, later in calls:
        wait = ramp_up.take(number, now)
        assert now + wait == pytest.approx(max(now, free))
        free = max(now, free) + number / 500
        now += later


def test_a_back_off_doubles_up_to_a_limit_and_is_spread() -> None:
    assert [back_off(attempt, 1.0) for attempt in (1, 2, 3, 7, 8, 10_000)] == pytest.approx(
        [0.1, 0.2, 0.4, 6.4, 10, 10]
    )
    assert back_off(3, 0.0) == pytest.approx(0.2)
