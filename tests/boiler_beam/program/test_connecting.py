"""Sources, sinks and times, given as text or as objects."""

from __future__ import annotations

import pytest

from boiler_beam.program.connecting import read_time_micros


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("1767225600123456", 1_767_225_600_123_456),
        ("2026-01-01T00:00:00Z", 1_767_225_600_000_000),
        ("2025-12-31T23:59:59.9999999Z", 1_767_225_599_999_999),
        ("1969-12-31T23:59:59.9999999Z", -1),
    ],
)
def test_a_time_of_reading_is_rounded_down(text: str, micros: int) -> None:
    assert read_time_micros(text) == micros
