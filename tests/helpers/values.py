"""Random Firestore values."""

from __future__ import annotations

import math
from datetime import datetime, timezone
from typing import Any

from hypothesis import strategies as st

from boiler_beam.values import INT64_MAX, INT64_MIN, GeoPoint, Ref, to_wire

texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
timestamps = st.datetimes(
    datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(timezone.utc), allow_imaginary=False
).map(lambda moment: moment.replace(fold=0))
geo_points = st.builds(GeoPoint, st.floats(-90, 90), st.floats(-180, 180))
refs = st.builds(lambda one, two: Ref(f"{one}/{two}"), *[st.text("abcé", min_size=1, max_size=4)] * 2)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(INT64_MIN, INT64_MAX), st.floats(), texts, st.binary(max_size=8),
    timestamps, refs, geo_points,
)  # fmt: skip
typed_names = st.sampled_from([
    "doubleValue", "mapValue", "referenceValue", "timestampValue", "bytesValue", "geoPointValue", "arrayValue",
    "stringValue", "integerValue", "booleanValue", "nullValue", "unknownValue",
])  # fmt: skip
values: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.one_of(texts, typed_names), inner, max_size=3)
    ),
    max_leaves=8,
)


LOOK_ALIKES: list[Any] = [
    1, 1.0, True, "1", 0, 0.0, -0.0, False, float("nan"), 2**53, 2**53 + 1, float(2**53), "", None, {}, [],
]  # fmt: skip
"""Values that Python considers equal or that look alike."""

look_alikes: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from(LOOK_ALIKES),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.sampled_from("ab"), inner, max_size=2)),
    max_leaves=3,
)
numeric_refs = st.sampled_from(["__id7__", "__id12__", "7", "a", "a-"]).map(lambda name: Ref(f"things/{name}"))
vectors = st.lists(st.floats(-1, 1), max_size=2).map(lambda items: {"__type__": "__vector__", "value": items})
firestore_values: st.SearchStrategy[Any] = st.one_of(look_alikes, values, numeric_refs, vectors)
"""Returns any value, often one that looks like another."""


def fields() -> st.SearchStrategy[dict[str, Any]]:
    """Fields of a document or row."""
    return st.dictionaries(st.one_of(texts, typed_names), values, max_size=4)


def rest_of(value: Any) -> Any:
    """A Firestore value as the REST API writes it: every value with its type.

    Source: https://firebase.google.com/docs/firestore/reference/rest/v1/Value
    """
    match value:
        case None:
            return {"nullValue": None}
        case bool():
            return {"booleanValue": value}
        case int():
            return {"integerValue": str(value)}
        case float():
            return {"doubleValue": value} if math.isfinite(value) else to_wire(value)
        case str():
            return {"stringValue": value}
        case list():
            return {"arrayValue": {"values": [rest_of(one) for one in value]} if value else {}}
        case dict():
            return {"mapValue": {"fields": {key: rest_of(one) for key, one in value.items()}} if value else {}}
        case _:
            return to_wire(value)
