"""Messages: our format and Firestore's events are decoded; any other message is a dead letter and raises nothing."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from boiler_beam.connectors import open_dead_letters, open_source
from boiler_beam.connectors.firestore.values import put_fields, put_micros
from boiler_beam.connectors.pubsub.envelope import (
    decode,
    decode_again,
    document_message,
    event_message,
    message_of,
    row_message,
    touch_message,
)
from boiler_beam.connectors.pubsub.protos import DocumentEventData
from boiler_beam.events import Change, DeadLetter, EncodedRow, Stamp, Touch
from boiler_beam.values import INT64_MAX, decode_fields, encode_fields, micros_of
from tests.helpers.values import fields, texts

ROOT = "projects/p/databases/(default)/documents/"
names = texts.filter(lambda text: text and "/" not in text)
paths = st.lists(names, min_size=1, max_size=3).map(lambda some: "/".join(f"c{one}/{one}" for one in some))
versions = st.integers(0, INT64_MAX)
KINDS = ("created", "updated", "deleted", "written", "written.withAuthContext")


def raw(value: bytes) -> msgspec.Raw:
    return msgspec.Raw(value)


def told(data: bytes, attributes: dict[str, str] | None = None) -> tuple[str, int, bytes]:
    """Returns a decoded message as a tuple."""
    change = decode(data, attributes or {})
    assert isinstance(change, Change), change
    return change.path, change.version, bytes(change.fields)


@given(paths, versions, st.one_of(st.none(), fields()))
def test_a_document_comes_back(path: str, version: int, given_fields: dict[str, Any] | None) -> None:
    data = b"null" if given_fields is None else encode_fields(given_fields)
    message = document_message(Change(path, version, raw(data)), database="projects/p/databases/(default)")
    assert told(*message) == (path, version, data)
    assert all(len(value.encode()) <= 1024 for value in message.attributes.values())
    assert message == document_message(Change(path, version, raw(data)), database="projects/p/databases/(default)")


@given(paths, versions, versions, st.one_of(st.none(), fields()))
def test_s9_a_row_comes_back_as_a_document_ordered_by_its_seq(
    path: str, version: int, seq: int, given_fields: dict[str, Any] | None
) -> None:
    data = None if given_fields is None else encode_fields(given_fields)
    message = row_message("View", EncodedRow(path, Stamp(3, version, seq), data))
    assert told(*message) == (path, max(version, seq), b"null" if data is None else data)


@given(texts, paths, versions)
def test_s16_a_touch_comes_back(view: str, path: str, read_time: int) -> None:
    touch = Touch(view, path, read_time)
    assert decode(*touch_message(touch)) == touch


def test_copies_of_a_message_have_one_id_and_others_another() -> None:
    one, deleted = Change("a/b", 7, raw(b"{}")), Change("a/b", 7, raw(b"null"))
    messages = [
        document_message(one),
        document_message(deleted),
        document_message(Change("a/c", 7, raw(b"{}"))),
        document_message(one, event_id="mine"),
        row_message("V", EncodedRow("a/b", Stamp(1, 7, 7), b"{}")),
        row_message("V", EncodedRow("a/b", Stamp(1, 7, 8), b"{}")),
        touch_message(Touch("V", "a/b", 7)),
    ]
    assert len({message.attributes["event_id"] for message in messages}) == len(messages)


def test_attributes_are_what_the_server_takes() -> None:
    change = Change(f"{'long' * 300}/x", INT64_MAX, raw(b"{}"))
    message = document_message(change, database="projects/p/databases/d")
    assert sorted(message.attributes) == ["database", "event_id"]  # neither the collection nor the time fits
    assert document_message(Change("users/u1", 1_500_000, raw(b"{}"))).attributes["event_time"] == (
        "1970-01-01T00:00:01.500000Z"
    )


# CloudEvents ----------------------------------------------------------------------------------------------------------


def event_of(path: str, version: int, data: bytes | None) -> Any:
    """Returns the data of an event of Firestore; of a deletion if there is no document."""
    event = DocumentEventData()
    event.old_value.name = ROOT + path
    put_micros(event.old_value.update_time, version if data is None else version - 1)
    if data is not None:
        event.value.name = ROOT + path
        put_micros(event.value.update_time, version)
        put_fields(event.value.fields, data, ROOT)
    return event


def spellings(kind: str, event: Any) -> list[tuple[bytes, dict[str, str]]]:
    """Returns one event in every mode and format."""
    kind = f"google.cloud.firestore.document.v1.{kind}"
    proto, text = event.SerializeToString(), json_format.MessageToJson(event, indent=None).encode()
    structured = {"specversion": "1.0", "id": "1", "source": "//firestore.googleapis.com/projects/p", "type": kind}
    attributes = {"content-type": "application/cloudevents+json"}
    in_base64 = {**structured, "data_base64": base64.b64encode(proto).decode()}
    return [
        (proto, {"ce-type": kind, "ce-datacontenttype": "application/protobuf"}),
        (proto, {"ce-type": kind, "Content-Type": "application/protobuf"}),
        (proto, {"ce-type": kind}),
        (text, {"ce-type": kind, "content-type": "application/json; charset=utf-8"}),
        (text, {"ce-type": kind}),
        (msgspec.json.encode({**structured, "data": raw(text)}), attributes),
        (msgspec.json.encode({**structured, "datacontenttype": "application/json", "data": raw(text)}), {}),
        (msgspec.json.encode({**in_base64, "datacontenttype": "application/protobuf"}), attributes),
    ]


@given(st.sampled_from(KINDS), paths, st.integers(1, 2**53), fields())
def test_s1_an_event_comes_through_in_every_mode(
    kind: str, path: str, version: int, given_fields: dict[str, Any]
) -> None:
    data = None if kind == "deleted" else encode_fields(given_fields)
    for spelling in spellings(kind, event_of(path, version, data)):
        found = told(*spelling)
        assert found[:2] == (path, version)
        assert found[2] == b"null" if data is None else encode_fields(decode_fields(found[2])) == data


@pytest.mark.parametrize(
    ("time", "micros"),
    [("1970-01-01T00:00:01.5Z", 1_500_000), ("1970-01-01T01:00:01.5+01:00", 1_500_000), ("yesterday", 0), ("", 0)],
)
def test_s1_the_time_of_a_deletion_travels(time: str, micros: int) -> None:
    gone, there = Change("users/u1", 7, raw(b"null")), Change("users/u1", 7, raw(b"{}"))
    assert decode(*document_message(gone, event_time=time or "-")) == Change("users/u1", 7, gone.fields, micros)
    assert decode(*document_message(there, event_time=time)) == there
    for data, attributes in spellings("deleted", event_of("users/u1", 7, None)):
        if "ce-type" in attributes:
            attributes["ce-time"] = time
        else:
            data = msgspec.json.encode({**msgspec.json.decode(data), "time": time})
        assert decode(data, attributes) == Change("users/u1", 7, gone.fields, micros)
    told_by_relay = document_message(Change("users/u1", 7, gone.fields, micros))
    assert decode(*told_by_relay) == Change("users/u1", 7, gone.fields, micros or 7)


def test_protobuf_that_begins_like_json() -> None:
    events = (event_of("users/u1", 7, encode_fields({"a" * length: 1})) for length in range(120))
    (data,) = (data for data in (event.SerializeToString() for event in events) if data[:2] == b"\n{")
    assert told(data, {"ce-type": "google.cloud.firestore.document.v1.created"})[:2] == ("users/u1", 7)


def test_a_written_event_without_a_value_is_a_deletion() -> None:
    for spelling in spellings("written", event_of("users/u1", 7, None)):
        assert told(*spelling) == ("users/u1", 7, b"null")


RECORDED = (
    "CpgCCjFwcm9qZWN0cy9wL2RhdGFiYXNlcy8oZGVmYXVsdCkvZG9jdW1lbnRzL3VzZXJzL3UxEgsKAWESBkoECgIQARIHCgFiEgIIARIOCgFkEgkZ"
    "AAAAAAAA+D8SGQoBZxIUQhIJAAAAAAAA8D8RAAAAAAAABMASEAoBaRILEICAgICAgICAgAESEgoBbRINMgsKCQoBeBIEigEBeRIHCgFuEgJYABI4"
    "CgFyEjMqMXByb2plY3RzL3AvZGF0YWJhc2VzLyhkZWZhdWx0KS9kb2N1bWVudHMvdXNlcnMvdTISCgoBcxIFigECw6kSDAoBdBIHUgUIARDoBxIK"
    "CgF5EgWSAQL/ABoGCICg+PoFIgsIgOLPqgYQgJTvOhI7CjFwcm9qZWN0cy9wL2RhdGFiYXNlcy8oZGVmYXVsdCkvZG9jdW1lbnRzL3VzZXJzL3Ux"
    "IgYI/+HPqgYaAwoBcw=="
)
"""An update, as Google's own package `google-events` (0.14) writes it."""


def test_an_event_that_googles_own_classes_wrote() -> None:
    kind = "google.cloud.firestore.document.v1.updated"
    path, version, data = told(base64.b64decode(RECORDED), {"ce-type": kind})
    assert (path, version) == ("users/u1", 1_700_000_000_123_456)
    assert msgspec.json.decode(data) == {
        "n": None,
        "b": True,
        "i": -(2**63),
        "d": 1.5,
        "t": {"timestampValue": "1970-01-01T00:00:01.000001Z"},
        "s": "é",
        "y": {"bytesValue": "/wA="},
        "r": {"referenceValue": "users/u2"},
        "g": {"geoPointValue": {"latitude": 1.0, "longitude": -2.5}},
        "a": [1],
        "m": {"x": "y"},
    }


NANOS = b"""{"value": {"name": "projects/p/databases/(default)/documents/users/u1", "updateTime": "%s",
    "fields": {"at": {"timestampValue": "%s"}}}}"""


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("2025-12-31T23:59:59.9999999Z", 1_767_225_599_999_999),
        ("2026-01-01T00:00:00.123456789Z", 1_767_225_600_123_456),
    ],
)
def test_times_finer_than_a_microsecond_are_rounded_down(text: str, micros: int) -> None:
    kind = {"ce-type": "google.cloud.firestore.document.v1.updated"}
    proto = json_format.Parse(NANOS % (text.encode(), text.encode()), DocumentEventData()).SerializeToString()
    structured = b'{"specversion": "1.0", "type": "%s", "data": %s}'
    event = NANOS % (text.encode(), text.encode())
    for spelling in ((event, kind), (proto, kind), (structured % (kind["ce-type"].encode(), event), {})):
        path, version, data = told(*spelling)
        assert (path, version) == ("users/u1", micros)
        assert micros_of(decode_fields(data)["at"]) == micros
    own = document_message(Change("users/u1", 7, raw(b"null")), event_time=text)
    assert decode(*own) == Change("users/u1", 7, raw(b"null"), micros)


# Dead letters ---------------------------------------------------------------------------------------------------------

DOCUMENT = b'{"boiler_beam":1,"path":"users/u1","version":7,"fields":%s}'
CREATED = {"ce-type": "google.cloud.firestore.document.v1.created", "ce-document": "users/u1"}
NAMED = b'{"value": {"name": "projects/p/databases/d/documents/users/u1"%s}}'


def far_event() -> bytes:
    """An event with a timestamp far out of range."""
    event = event_of("users/u1", 7, b"{}")
    event.value.fields["a"].timestamp_value.seconds = 10**15
    return bytes(event.SerializeToString())


BAD = [
    (b"", {}, "malformed_message", "Input data was truncated"),
    (b"\xff", {}, "malformed_message", "JSON is malformed"),
    (b"[]", {}, "unknown_message", "expected an object, got other JSON"),
    (b"{}", {}, "unknown_message", "expected an object with boiler_beam or specversion, got neither"),
    (b'{"boiler_beam": 2, "path": "users/u1"}', {}, "unknown_message", "expected boiler_beam 1, got 2; fix: update"),
    (DOCUMENT.replace(b"7", b"-7") % b"{}", {}, "malformed_message", r"Expected `int` >= 0 - at `\$.version`"),
    (DOCUMENT.replace(b"/u1", b"") % b"{}", {}, "malformed_message", "expected a document's path, got 'users'"),
    (DOCUMENT.replace(b"/u1", b"/") % b"{}", {}, "malformed_message", "expected a document's path, got 'users/'"),
    (DOCUMENT % b"7", {}, "malformed_message", "expected fields as an object or null, got b'7'"),
    (DOCUMENT % b'{"a":"\xff"}', {}, "malformed_message", "can't decode byte 0xff"),
    (DOCUMENT % (b"[" * 100_000), {}, "malformed_message", "recursion"),
    (b'{"boiler_beam":1,"touch":{"view":"V"}}', {}, "malformed_message", "missing required field `path`"),
    (b'{"specversion":"1.0","type":"x.y"}', {}, "unknown_message", "expected an event of Firestore's documents"),
    (b"{}", {"ce-type": "google.cloud.storage.object.v1.finalized"}, "unknown_message", "got 'google.cloud.storage"),
    (b"\xff\xff", CREATED, "malformed_message", "Error parsing message"),
    (b"", CREATED, "malformed_message", "expected value or old_value with a document's name, got ''"),
    (NAMED % b"", CREATED, "malformed_message", "expected a document with an update_time, got 0 us"),
    (far_event(), CREATED, "malformed_message", "year|too large"),
    (NAMED % b', "fields": {"a": {"integerValue": "x"}}', CREATED, "malformed_message", "Failed to parse integerValue field"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "attributes", "code", "said"), BAD)
def test_a_bad_message_is_a_dead_letter(data: bytes, attributes: dict[str, str], code: str, said: str) -> None:
    letter = decode(data, attributes, "pubsub:here:17")
    assert isinstance(letter, DeadLetter)
    assert (letter.stage, letter.code, letter.version, letter.source) == ("decode", code, None, "pubsub:here:17")
    assert re.search(f"({said}).*; docs/events.md describes the formats", letter.message), letter.message
    assert decode_again(letter) == letter


@pytest.mark.parametrize("name", ["users/u2", "projects/p/databases/d/documents/users", "projects/p/databases/d", ""])
def test_a_reference_that_is_no_resource_name(name: str) -> None:
    event = event_of("users/u1", 7, b'{"fine": 1}')
    event.value.fields["deep"].array_value.values.add().reference_value = name
    for spelling in spellings("updated", event):
        letter = decode(*spelling)
        assert isinstance(letter, DeadLetter)
        assert (letter.code, letter.path) == ("malformed_message", "users/u1")
        said = "deep: expected the resource name of a document (projects/P/databases/D/documents/...), got"
        assert f"{said} {name!r}" in letter.message


@pytest.mark.parametrize("is_json", [True, False])
def test_a_value_of_a_type_that_this_version_does_not_know_is_no_null(is_json: bool) -> None:
    """If a model reads the field, the document is invalid; otherwise the value has no effect."""
    event, kind = event_of("users/u1", 7, b'{"old": null}'), "google.cloud.firestore.document.v1.updated"
    event.value.fields["new"].MergeFromString(b"\xca\x3e\x01x")  # field 1001, text
    event.value.fields["deep"].map_value.fields["x"].array_value.values.add()
    data = event.SerializeToString()
    if is_json:
        message = msgspec.json.decode(json_format.MessageToJson(event))
        message["value"]["fields"]["new"] = {"brandNewValue": "x"}
        data = msgspec.json.encode(message)
    _, _, fields = told(data, {"ce-type": kind})
    assert msgspec.json.decode(fields) == {
        "old": None,
        "new": {"unknownValue": "" if is_json else "yj4BeA=="},
        "deep": {"x": [{"unknownValue": ""}]},
    }
    assert decode_fields(fields, {"old"}) == {"old": None}
    for name in ("new", "deep"):
        with pytest.raises(
            ValueError, match=rf"of a type that this version knows, .*; fix: update .* - at `\$\.{name}`"
        ):
            decode_fields(fields, {name})


EVENT = b'{"specversion":"1.0","type":"google.cloud.firestore.document.v1.updated","data":%s}'


@pytest.mark.parametrize(
    ("data", "attributes"),
    [
        (b"\xff", {"ce-type": CREATED["ce-type"], "ce-subject": "documents/users/u1"}),
        (b"\xff", {"CE-Type": CREATED["ce-type"], "CE-Document": "users/u1"}),
        (NAMED % b', "updateTime": "x"', {"ce-type": CREATED["ce-type"]}),
        (NAMED.replace(b'"value"', b'"oldValue"') % b', "updateTime": "x"', {"ce-type": CREATED["ce-type"]}),
        (EVENT % (NAMED % b', "updateTime": "x"'), {}),
        (EVENT.replace(b"1.0", b'1.0", "subject": "documents/users/u1') % b"7", {}),
        (NAMED % b"", {"ce-type": CREATED["ce-type"]}),
        ((NAMED % b"").replace(b"projects/p/", b"projects/documents/"), {"ce-type": CREATED["ce-type"]}),
    ],
)
def test_a_bad_event_names_the_document(data: bytes, attributes: dict[str, str]) -> None:
    letter = decode(data, attributes)
    assert isinstance(letter, DeadLetter)
    assert letter.path == "users/u1"


def test_collections_whose_names_are_parts_of_resource_names() -> None:
    path = "projects/p1/databases/d1/documents/x"
    for spelling in spellings("updated", event_of(path, 7, b'{"r": {"referenceValue": "documents/d"}}')):
        assert told(*spelling) == (path, 7, b'{"r":{"referenceValue":"documents/d"}}')
    assert (
        decode(b'{"value": {"name": "%s%s"}}' % (ROOT.encode(), path.encode()), CREATED | {"ce-document": ""}).path
        == path
    )


def test_a_dead_letter_names_the_document_where_it_can() -> None:
    assert decode(DOCUMENT % b"7", {}).path == "users/u1"
    assert decode(b"\xff", CREATED).path == "users/u1"
    letter = decode(b'{"path": 7}', {})
    assert isinstance(letter, DeadLetter)
    assert letter.path is None


junk = st.one_of(
    st.binary(max_size=200),
    st.sampled_from(
        [base64.b64decode(RECORDED), *(data for data, *_ in BAD), DOCUMENT % b'{"a":{"doubleValue":"NaN"}}']
    ),
)


@given(
    junk,
    st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=3)), max_size=4),
    st.dictionaries(
        st.sampled_from(["ce-type", "content-type", "ce-document"]), st.one_of(texts, *map(st.just, KINDS))
    ),
    st.booleans(),
)
def test_nothing_raises(data: bytes, cuts: list[tuple[int, bytes]], attributes: dict[str, str], is_event: bool) -> None:
    for place, more in cuts:
        data = data[:place] + more + data[place + 1 :]
    if is_event:
        attributes = {**attributes, "ce-type": CREATED["ce-type"]}
    found = decode(data, attributes)
    if isinstance(found, Change):
        assert msgspec.json.decode(found.fields) is None or type(msgspec.json.decode(found.fields)) is dict
    if isinstance(found, DeadLetter):
        assert msgspec.json.decode(msgspec.json.encode(found), type=DeadLetter) == found
        assert decode_again(found) == found


def test_dead_letters_of_messages_are_replayed(tmp_path: Path) -> None:
    kind = {"ce-type": "google.cloud.firestore.document.v1.updated"}
    unknown = decode(base64.b64decode(RECORDED), {"ce-type": "another"})
    assert isinstance(unknown, DeadLetter)
    fixed = msgspec.structs.replace(unknown, input=str(unknown.input).replace("another", kind["ce-type"]))
    writer = open_dead_letters(f"jsonl:{tmp_path}/dead")
    for letter in (unknown, fixed):
        writer.write(letter)
    writer.close()
    source = open_source(f"dead-letters:jsonl:{tmp_path}/dead")
    one, two = (found for split in source.splits() for found in source.read(split))
    assert isinstance(one, DeadLetter)
    assert one.code == "unknown_message"
    assert isinstance(two, Change)
    assert (two.path, two.version) == ("users/u1", 1_700_000_000_123_456)


NOW, NOW_TEXT = 1_767_225_600_123_456, "2026-01-01T00:00:00.123456Z"


@pytest.mark.parametrize(
    ("attributes", "event_id", "event_time"),
    [
        ({"ce-id": "e1", "ce-time": "2026-01-01T00:00:00Z"}, "e1", "2026-01-01T00:00:00Z"),
        ({"ce-id": "e1"}, "e1", NOW_TEXT),
        ({"ce-id": "e1", "ce-time": "yesterday"}, "e1", NOW_TEXT),
        ({"ce-id": "e1", "ce-time": "2026-01-01T00:00:00"}, "e1", NOW_TEXT),
        ({"event_id": "own", "event_time": "2025-01-01T00:00:00Z", "ce-id": "e1"}, "own", "2025-01-01T00:00:00Z"),
        ({"ce-id": "e" * 2000}, None, NOW_TEXT),
        ({}, None, NOW_TEXT),
    ],
)
def test_what_cannot_be_decoded_is_passed_on_with_an_id_and_a_time(
    attributes: dict[str, str], event_id: str | None, event_time: str
) -> None:
    """Without these attributes the message would hold back a Dataflow job's watermark, and never be a dead letter."""
    message = event_message(b"broken", attributes, NOW)
    assert message.data == b"broken"
    assert message.attributes["event_time"] == event_time
    assert message.attributes["event_id"] == (
        event_id or event_message(b"broken", attributes, NOW + 1).attributes["event_id"]
    )
    assert len(message.attributes["event_id"]) <= 32
    assert isinstance(decode(*message), DeadLetter)
    other = event_message(b"other", attributes, NOW).attributes["event_id"]
    assert (other == message.attributes["event_id"]) is (event_id is not None)


def test_a_relay_passes_dead_letters_on_with_an_id_and_a_time() -> None:
    letter = decode(b"broken", {"a": "b"})
    line = DeadLetter(stage="read", code="malformed_line", message="", input="line")
    for one, data in ((letter, b"broken"), (line, b"line")):
        message = message_of(one, NOW)
        assert message is not None
        assert (message.data, message.attributes["event_time"]) == (data, NOW_TEXT)
        assert message.attributes["event_id"]
    assert message_of(DeadLetter(stage="read", code="malformed_line", message=""), NOW) is None


def test_an_event_whose_time_cannot_be_read_has_that_of_its_document() -> None:
    event = DocumentEventData()
    event.value.name = ROOT + "users/u1"
    put_micros(event.value.update_time, NOW)
    message = event_message(event.SerializeToString(), {**CREATED, "ce-id": "e1", "ce-time": "yesterday"}, NOW + 7)
    assert (message.attributes["event_id"], message.attributes["event_time"]) == ("e1", NOW_TEXT)
