"""Firestore's sizes: a row of more than 1 MiB is refused, and says what is large in it."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from boiler_beam.errors import RenderError
from boiler_beam.steps.size import MAX_INDEX_ENTRIES, MAX_ROW_BYTES, check_size, index_entries, value_bytes
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


@pytest.mark.parametrize(
    ("value", "number"),
    [(7, 2), (None, 2), ([1, 1, 2], 2), ({"a": 1, "b": {"c": [1, 2, 3]}}, 5), ([{"a": 1}], 1), ({}, 0)],
)
def test_index_entries(value: Any, number: int) -> None:
    assert index_entries(value) == number


@pytest.mark.parametrize("extra", [0, 1])
def test_the_limit_of_index_entries_is_exact(extra: int) -> None:
    fields = encode_fields({"a": list(range(MAX_INDEX_ENTRIES - 2 + extra)), "b": 1})
    if not extra:
        check_size("Card", "rows/r1", fields)
        return
    with pytest.raises(RenderError) as caught:
        check_size("Card", "rows/r1", fields)
    assert caught.value.code == "too_many_index_entries"
    assert str(caught.value) == (
        "Card: expected at most 40,000 index entries, got 40,001; the biggest: a 39,999, b 2; "
        "fix: store what nobody queries by as one text"
    )


def test_small_maps_of_numbers_make_many_entries() -> None:
    fields = encode_fields({str(number): 1 for number in range(MAX_INDEX_ENTRIES // 2 + 1)})
    with pytest.raises(RenderError, match="index entries"):
        check_size("Card", "rows/r1", fields)
