"""Firestore's sizes: a row of more than 1 MiB is refused, and says what is large in it."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from boiler_beam.errors import RenderError
from boiler_beam.steps.size import MAX_ROW_BYTES, check_size, value_bytes
from boiler_beam.values import GeoPoint, Ref, encode_fields


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (None, 1), (True, 1), (7, 8), (0.5, 8), ("é", 3), (b"abc", 3), (datetime(2026, 1, 1, tzinfo=timezone.utc), 8),
        (GeoPoint(1.0, 2.0), 16), (Ref("users/u1"), 25), ([1, "a"], 10), ({"a": 1, "bc": "d"}, 15),
    ],
)  # fmt: skip
def test_what_values_take(value: Any, size: int) -> None:
    assert value_bytes(value) == size


def test_the_documented_example() -> None:
    """The task `users/jeff/tasks/my_task_id`: 147 bytes by the page that the module names."""
    fields = {"type": "Personal", "done": False, "priority": 1, "description": "Learn Cloud Firestore"}
    sizes = sum(len(name) + 1 + value_bytes(value) for name, value in fields.items())
    assert sizes + value_bytes(Ref("users/jeff/tasks/my_task_id")) + 32 == 147


@pytest.mark.parametrize("extra", [0, 1])
def test_the_limit_is_exact(extra: int) -> None:
    path, around = "rows/r1", 32 + (16 + 5 + 3) + 2 + 1
    fields = encode_fields({"a": "x" * (MAX_ROW_BYTES - around + extra)})
    if not extra:
        check_size("Card", path, fields)
        return
    with pytest.raises(RenderError) as caught:
        check_size("Card", path, fields)
    assert caught.value.code == "row_too_large"
    assert str(caught.value).startswith(
        "Card: expected a row of at most 1,048,576 bytes, got 1,048,577; the biggest: a "
    )


def test_many_small_numbers_are_larger_than_their_json() -> None:
    fields = encode_fields({"few": [1], "many": [1] * 200_000, "some": [2] * 100})
    with pytest.raises(RenderError, match=r"the biggest: many 1,600,005, some 805, few 12$"):
        check_size("Card", "rows/r1", fields)
