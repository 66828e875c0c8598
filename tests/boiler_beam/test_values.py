"""Firestore values and their JSON: lossless in both directions, with an error for malformed values."""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boiler_beam.values import (
    INT64_MIN,
    GeoPoint,
    Ref,
    decode_fields,
    decode_wire,
    encode_fields,
    encode_wire,
    format_timestamp,
    parse_timestamp,
)
from tests.helpers.values import fields, rest_of, timestamps, values


def same(one: Any, other: Any) -> bool:
    """Returns whether values are equal and of one type; NaN equals NaN, and -0.0 does not equal 0.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return (math.isnan(one) and math.isnan(other)) or (
            one == other and math.copysign(1, one) == math.copysign(1, other)
        )
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, GeoPoint):
        return same([one.latitude, one.longitude], [other.latitude, other.longitude])
    return bool(one == other)


@given(values)
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    assert same(decode_wire(encode_wire(value)), value)


@given(fields())
def test_fields_come_back_and_equal_fields_are_equal_bytes(given_fields: dict[str, Any]) -> None:
    data = encode_fields(given_fields)
    assert same(decode_fields(data), given_fields)
    assert encode_fields(dict(reversed(given_fields.items()))) == data


@given(values)
def test_a_value_as_the_rest_api_writes_it_is_the_same_value(value: Any) -> None:
    assert same(decode_wire(msgspec.json.encode(rest_of(value))), value)


@given(timestamps, st.integers(0, 999))
def test_what_is_finer_than_a_microsecond_is_rounded_down(moment: datetime, nanos: int) -> None:
    text = f"{moment.replace(tzinfo=None).isoformat(timespec='microseconds')}{nanos:03}"
    assert parse_timestamp(f"{text}Z") == moment
    assert parse_timestamp(f"{text}+00:00") == moment


def test_what_is_malformed_in_a_field_that_is_not_read_concerns_nobody() -> None:
    data = b'{"a": {"integerValue": "x"}, "b": 1}'
    assert decode_fields(data, {"b", "c"}) == {"b": 1}
    with pytest.raises(ValueError, match=r"integerValue: expected an int64 as text, got 'x' - at `\$\.a`"):
        decode_fields(data)


WRITTEN = [
    (None, "null"),
    (1, "1"),
    (1.0, "1.0"),
    (float("-inf"), '{"doubleValue":"-Infinity"}'),
    (datetime(2026, 1, 1, 0, 0, 0, 1, timezone.utc), '{"timestampValue":"2026-01-01T00:00:00.000001Z"}'),
    (b"\x00\xff", '{"bytesValue":"AP8="}'),
    (Ref("users/u1"), '{"referenceValue":"users/u1"}'),
    (GeoPoint(1.5, -2.0), '{"geoPointValue":{"latitude":1.5,"longitude":-2.0}}'),
    ({"bytesValue": 1}, '{"mapValue":{"fields":{"bytesValue":1}}}'),
    ({"bytesValue": 1, "a": 2}, '{"a":2,"bytesValue":1}'),
    ({"stringValue": "x"}, '{"mapValue":{"fields":{"stringValue":"x"}}}'),
    ({"unknownValue": ""}, '{"mapValue":{"fields":{"unknownValue":""}}}'),
]


@pytest.mark.parametrize(("value", "text"), WRITTEN)
def test_how_values_are_written(value: Any, text: str) -> None:
    assert encode_wire(value).decode() == text
    assert same(decode_wire(text.encode()), value)


ROOT = "projects/p/databases/(default)/documents/"
READ = [
    ('{"timestampValue": "2026-01-01T02:00:00+02:00"}', datetime(2026, 1, 1, tzinfo=timezone.utc)),
    ('{"referenceValue": "projects/p/databases/(default)/documents/users/u1"}', Ref.at(f"{ROOT}users/u1")),
    ('{"geoPointValue": {"latitude": 1}}', GeoPoint(1.0, 0.0)),
    ('{"doubleValue": 3}', 3.0),
    ('{"mapValue": {}}', {}),
    ('{"arrayValue": {}}', []),
    ('{"arrayValue": {"values": [{"integerValue": "5"}, {"stringValue": "a"}, 7, [null]]}}', [5, "a", 7, [None]]),
    ('{"integerValue": "-9223372036854775808"}', INT64_MIN),
    ('{"integerValue": 5}', 5),
    ('{"stringValue": "5"}', "5"),
    ('{"booleanValue": false}', False),
    ('{"nullValue": null}', None),
    ('{"nullValue": "NULL_VALUE"}', None),
    ('{"mapValue": {"fields": {"stringValue": {"stringValue": "x"}}}}', {"stringValue": "x"}),
    ('{"stringValue": "x", "integerValue": "5"}', {"stringValue": "x", "integerValue": "5"}),
]


@pytest.mark.parametrize(("text", "value"), READ)
def test_other_spellings_are_read(text: str, value: Any) -> None:
    assert same(decode_wire(text.encode()), value)


BAD = [
    ('{"timestampValue": "yesterday"}', "timestampValue: expected an RFC 3339 string, got 'yesterday'"),
    ('{"timestampValue": "2026-01-01T00:00:00"}', "timestampValue: expected a timestamp with a time zone"),
    ('{"bytesValue": "*"}', "bytesValue: "),
    ('{"doubleValue": "many"}', "doubleValue: expected a number, 'NaN', 'Infinity' or '-Infinity', got 'many'"),
    ('{"referenceValue": ""}', "referenceValue: expected a document path, got ''"),
    ('{"geoPointValue": 7}', "geoPointValue: expected latitude and longitude, got 7"),
    ('{"mapValue": {"fields": 7}}', "mapValue: expected an object with fields"),
    ('{"arrayValue": [1]}', "arrayValue: expected an object with values, got [1]"),
    ('{"stringValue": 7}', "stringValue: expected text, got 7"),
    ('{"integerValue": "1.0"}', "integerValue: expected an int64 as text, got '1.0'"),
    ('{"integerValue": "9223372036854775808"}', "integerValue: expected an int64 as text, got 9223372036854775808"),
    ('{"integerValue": true}', "integerValue: expected an int64 as text, got True"),
    ('{"booleanValue": 1}', "booleanValue: expected true or false, got 1"),
    ('{"nullValue": 0}', "nullValue: expected null, got 0"),
    (
        '{"unknownValue": ""}',
        "unknownValue: expected a value of a type that this version knows, got another one; fix: ",
    ),
    ("9223372036854775808", "9223372036854775808 is not an int64"),
]


@pytest.mark.parametrize(("text", "said"), BAD)
def test_malformed_values_are_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        decode_wire(text.encode())
    assert said in str(caught.value)


@pytest.mark.parametrize("value", [2**63, {1: 2}, {1, 2}, object(), datetime(2026, 1, 1)])
def test_what_firestore_has_no_type_for_is_refused(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        encode_wire(value)


def test_timestamps_are_written_in_utc() -> None:
    moment = datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))
    assert format_timestamp(moment) == "2026-01-01T00:00:00Z"


def test_a_reference_is_its_path() -> None:
    ref: Ref[Any] = Ref("users/u1")
    assert (ref.doc_id, hash(ref), repr(ref)) == ("u1", hash("users/u1"), "Ref('users/u1')")
    assert {ref: 1}[Ref("projects/p/databases/(default)/documents/users/u1")] == 1
    with pytest.raises(AttributeError, match="immutable"):
        ref.path = "x"
