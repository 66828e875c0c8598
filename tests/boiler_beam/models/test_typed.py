"""Fields of references and times, decoded as msgspec reads them: the same as value by value, and never the slow way."""

from __future__ import annotations

import copy
import json
from datetime import datetime, timezone
from typing import Any

import pytest

import boiler_beam as bb
from boiler_beam import Ref
from boiler_beam.errors import InvalidDocument
from boiler_beam.models import ModelCodec, stored_value, wire_of_document
from boiler_beam.values import Database


class Person(bb.DomainModel, collection="people"):
    name: str


class Message(bb.DomainModel, collection="messages"):
    sender: Ref[Person]
    sent_at: datetime
    reply_to: Ref[Any] | None = None
    seen_by: list[Ref[Person]] = bb.field(default_factory=list)
    reactions: dict[str, Ref[Person]] = bb.field(default_factory=dict)
    edits: list[datetime] | None = None
    owner: Ref[Person] = Ref("people/nobody")


NOON = {"timestampValue": "2026-01-01T12:00:00Z"}
ANN = {"referenceValue": "people/ann"}
FULL = "projects/p/databases/(default)/documents/people/ann"
ELSEWHERE = "projects/p/databases/archive/documents/people/ann"

VALID: dict[str, dict[str, Any]] = {
    "as Firestore gives it": {"seenBy": [ANN, ANN], "reactions": {"+1": ANN}, "edits": [NOON], "replyTo": ANN},
    "text": {"sender": "people/ann", "seenBy": ["people/ann"], "reactions": {"+1": "people/bob"}},
    "text and typed": {"seenBy": ["people/ann", ANN]},
    "a bare id": {"sender": "ann", "seenBy": ["ann"]},
    "a full name": {"sender": FULL, "seenBy": [{"referenceValue": FULL}], "replyTo": {"referenceValue": FULL}},
    "another database": {"sender": {"referenceValue": ELSEWHERE}, "replyTo": ELSEWHERE},
    "nothing": {"replyTo": None, "edits": None},
    "any model": {"replyTo": {"referenceValue": "rooms/r/messages/1"}},
    "a map of two": {"reactions": {"referenceValue": ANN, "+1": ANN}},
    "a map like a typed value": {"reactions": {"mapValue": {"fields": {"referenceValue": "people/ann"}}}},
    "typed text": {"sender": {"stringValue": "people/ann"}},
    "a typed list": {"seenBy": {"arrayValue": {"values": [ANN]}}},
}
INVALID: dict[str, tuple[dict[str, Any], str]] = {
    "a number": ({"sender": 5}, "expected a reference, got 5 - at `$.sender`"),
    "no text": ({"sender": ""}, "expected a reference, got '' - at `$.sender`"),
    "null": ({"sender": None}, "expected a reference, got None - at `$.sender`"),
    "elsewhere": ({"seenBy": [ANN, {"referenceValue": "rooms/r"}]}, "into 'people', got 'rooms/r' - at `$.seenBy[1]`"),
    "in a map": ({"reactions": {"+1": "rooms/r"}}, "into 'people', got 'rooms/r' - at `$.reactions[...]`"),
    "a reference for a map": ({"reactions": ANN}, "Expected `object`, got `Ref` - at `$.reactions`"),
    "two keys": ({"sender": {**ANN, "more": 1}}, "expected a reference, got {"),
    "a time for a reference": ({"sender": NOON}, "expected a reference, got datetime"),
    "text for a time": ({"sentAt": "2026-01-01T12:00:00Z"}, "Expected `datetime`, got `str` - at `$.sentAt`"),
    "no time": ({"sentAt": {"timestampValue": "soon"}}, "timestampValue: expected"),
    "an empty reference": ({"sender": {"referenceValue": ""}}, "referenceValue: expected a document path, got ''"),
}


@pytest.fixture
def codec() -> ModelCodec:
    return ModelCodec(Message, [], Database("p"))


def stored(fields: dict[str, Any]) -> bytes:
    return json.dumps({"sender": ANN, "sentAt": NOON, **fields}).encode()


@pytest.mark.parametrize("fields", VALID.values(), ids=list(VALID))
def test_a_field_at_a_time_gives_what_value_by_value_gives(codec: ModelCodec, fields: dict[str, Any]) -> None:
    document = codec.decode("messages/m", 1, stored(fields))
    assert isinstance(document, Message)
    assert isinstance(document.sender, Ref)
    assert document.sent_at == datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
    slowly = codec._decode_slowly(stored(fields))
    for name in ("sender", "reply_to", "seen_by", "reactions", "edits", "owner"):
        assert repr(getattr(document, name)) == repr(getattr(slowly, name)), name


@pytest.mark.parametrize(("fields", "message"), INVALID.values(), ids=list(INVALID))
def test_what_does_not_fit_is_invalid_and_says_where(codec: ModelCodec, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidDocument) as refused:
        codec.decode("messages/m", 1, stored(fields))
    assert message in str(refused.value)


def test_what_firestore_gives_is_not_decoded_slowly(codec: ModelCodec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "_decode_slowly", lambda data: pytest.fail("decoded slowly"))
    for name in ("as Firestore gives it", "text", "a bare id", "a full name", "another database", "any model"):
        codec.decode("messages/m", 1, stored(VALID[name]))


def test_the_default_of_a_field_stays(codec: ModelCodec) -> None:
    document = codec.decode("messages/m", 1, stored({}))
    assert isinstance(document, Message)
    assert (document.owner, document.seen_by, document.edits) == (Ref("people/nobody"), [], None)


def decoded(codec: ModelCodec) -> Message:
    fields = {"sender": "people/ann", "sentAt": NOON, "seenBy": ["people/ann"], "reactions": {"+1": "people/bob"}}
    document = codec.decode("messages/m1", 1, json.dumps(fields).encode())
    assert isinstance(document, Message)
    return document


def test_references_are_paths_until_they_are_read(codec: ModelCodec) -> None:
    message = decoded(codec)
    assert stored_value("sender")(message) == "people/ann"
    assert stored_value("seen_by")(message) == ["people/ann"]
    assert (message.sender, message.seen_by) == (Ref("people/ann"), [Ref("people/ann")])
    assert message.reactions == {"+1": Ref("people/bob")}
    assert stored_value("sender")(message) == Ref("people/ann")
    assert message.seen_by is message.seen_by


def test_a_document_is_the_same_whether_its_references_were_read_or_not(codec: ModelCodec) -> None:
    read, unread = decoded(codec), decoded(codec)
    assert (read.sender, len(read.seen_by), len(read.reactions)) == (Ref("people/ann"), 1, 1)
    assert read == unread == decoded(codec)
    assert repr(decoded(codec)) == repr(read)
    assert copy.copy(decoded(codec)) == copy.deepcopy(decoded(codec)) == read
    assert wire_of_document(decoded(codec)) == wire_of_document(read)
    assert read != codec.decode("messages/m1", 2, json.dumps({"sender": "ann", "sentAt": NOON}).encode())


@pytest.mark.parametrize("path", ["people/a\npeople/b", "people/", "people/a/b", "people/a/b/c", "others/a", ""])
def test_a_list_with_one_text_that_is_no_path_is_invalid(codec: ModelCodec, path: str) -> None:
    fields = {"sender": "people/ann", "sentAt": NOON, "seenBy": ["people/ann", path, "people/bob"]}
    with pytest.raises(InvalidDocument, match=r"seenBy\[1\]"):
        codec.decode("messages/m1", 1, json.dumps(fields).encode())


def test_an_id_with_a_newline_is_a_path(codec: ModelCodec) -> None:
    fields = {"sender": "people/a\nb", "sentAt": NOON, "seenBy": ["people/a\nb", "people/c"]}
    message = codec.decode("messages/m1", 1, json.dumps(fields).encode())
    assert isinstance(message, Message)
    assert (message.sender, message.seen_by) == (Ref("people/a\nb"), [Ref("people/a\nb"), Ref("people/c")])


def test_a_subclass_may_declare_a_field_of_references_as_text() -> None:
    class Note(bb.DomainModel, collection="notes"):
        about: Ref[Person]

    class Label(Note):
        about: str  # type: ignore[assignment]

    mistakes: list[Any] = []
    codecs = [ModelCodec(model, mistakes, Database()) for model in (Note, Label)]
    note, label = (codec.decode("notes/n1", 1, b'{"about": "people/ann"}') for codec in codecs)
    assert not mistakes
    assert isinstance(note, Note)
    assert isinstance(label, Label)
    assert (note.about, label.about) == (Ref("people/ann"), "people/ann")
