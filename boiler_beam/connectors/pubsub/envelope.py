"""Messages in, events out, and the other way round: what travels through Pub/Sub, from bytes and attributes.

Three kinds are understood (docs/events.md): ours, with documents, rows or touches; Firestore's CloudEvents in binary
and in structured mode; all else is a dead letter.

>>> decode(b'{"boiler_beam": 1, "path": "users/u1", "version": 7, "fields": {"name": "Ann"}}', {}).path
'users/u1'
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from boiler_beam.connectors.firestore.values import fields_of, micros_of_proto, path_of_name
from boiler_beam.events import Change, DeadLetter, Row, Touch
from boiler_beam.values import INT64_MAX, format_timestamp, micros_of, parse_timestamp

__all__ = [
    "CODES",
    "Message",
    "decode",
    "decode_again",
    "document_message",
    "event_message",
    "message_of",
    "raw_message",
    "row_message",
    "touch_message",
]

MALFORMED, UNKNOWN = "malformed_message", "unknown_message"
CODES = (MALFORMED, UNKNOWN)
"""The codes of dead letters whose input is a message."""
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_LARGEST_ATTRIBUTE = 1024
_Version = Annotated[int, msgspec.Meta(ge=0, le=INT64_MAX)]


class Message(NamedTuple):
    """What is published.

    Attributes:
        data: The body.
        attributes: For filters of subscriptions (`collection`, `database`), and for readers that tell copies of one
            message by its `event_id`, and its time by `event_time`.
    """

    data: bytes
    attributes: dict[str, str]


# Ours -----------------------------------------------------------------------------------------------------------------


class _Document(msgspec.Struct, omit_defaults=True, gc=False):
    """A document's version, or a row's: then with its view and stamp."""

    boiler_beam: Literal[1]
    path: str
    version: _Version
    fields: msgspec.Raw
    view: str = ""
    generation: _Version = 0
    seq: _Version = 0
    database: str = ""
    event_id: str = ""
    event_time: str = ""


class _TouchBody(msgspec.Struct):
    view: str
    path: str
    read_time: _Version


class _Touched(msgspec.Struct):
    boiler_beam: Literal[1]
    touch: _TouchBody


_encode = msgspec.json.Encoder().encode
_decode_document = msgspec.json.Decoder(_Document).decode
_decode_touch = msgspec.json.Decoder(_Touched).decode
_NULL = msgspec.Raw(b"null")


def document_message(change: Change, *, event_id: str = "", event_time: str = "", database: str = "") -> Message:
    """A document's version as a message.

    Args:
        change: The version.
        event_id: The same for each copy of the message; by default of path and version.
        event_time: When it happened, in RFC 3339; by default that of the change, or its version.
        database: Its database's resource name, `projects/p/databases/(default)`.
    """
    kind = "deleted" if change.is_deleted else "written"
    event_id = event_id or _identity(change.path, change.version, kind)
    event_time = event_time or _time_of(change.event_time or change.version)
    document = _Document(
        1, change.path, change.version, change.fields, database=database, event_id=event_id, event_time=event_time
    )
    return Message(_encode(document), _attributes(event_id, event_time, collection_of(change.path), database))


def row_message(view: str, row: Row) -> Message:
    """A row as a message; its `event_id` is of its path and stamp."""
    stamp = row.stamp
    event_id, event_time = _identity(row.path, *stamp), _time_of(stamp.version)
    fields = _NULL if row.fields is None else msgspec.Raw(row.fields)
    document = _Document(1, row.path, stamp.version, fields, view, stamp.generation, stamp.seq)
    document.event_id, document.event_time = event_id, event_time
    return Message(_encode(document), _attributes(event_id, event_time, collection_of(row.path)))


def touch_message(touch: Touch) -> Message:
    """A touch as a message (S16)."""
    event_id = _identity(f"{touch.view}/{touch.path}", touch.read_time, "touched")
    body = _Touched(1, _TouchBody(touch.view, touch.path, touch.read_time))
    return Message(_encode(body), _attributes(event_id, _time_of(touch.read_time)))


def _identity(path: str, *parts: object) -> str:
    return ".".join([hashlib.blake2b(path.encode(), digest_size=12).hexdigest(), *map(str, parts)])


def _time_of(micros: int) -> str:
    try:
        return format_timestamp(_EPOCH + timedelta(microseconds=micros))
    except OverflowError:
        return ""


def _micros_of(event_time: object) -> int:
    """A deletion's time in microseconds since the epoch; 0 of what is none, because it decides nothing (S1)."""
    try:
        return max(0, micros_of(parse_timestamp(event_time)))
    except ValueError:
        return 0


def collection_of(path: str) -> str:
    """The id of the collection in which a document lies."""
    return path.rpartition("/")[0].rpartition("/")[2]


def _attributes(event_id: str, event_time: str, collection: str = "", database: str = "") -> dict[str, str]:
    return _allowed({"event_id": event_id, "event_time": event_time, "collection": collection, "database": database})


def _allowed(attributes: Mapping[str, str]) -> dict[str, str]:
    """Those that the server takes.

    Source: https://cloud.google.com/pubsub/quotas
    """
    return {name: value for name, value in attributes.items() if 0 < len(value.encode()) <= _LARGEST_ATTRIBUTE}


def event_message(data: bytes, attributes: Mapping[str, str], now_micros: int) -> Message:
    """A CloudEvent in binary mode (attributes `ce-id`, ...) as a message of ours; as it is where it can't be decoded.

    So the program that follows the topic makes a dead letter of it, and nobody delivers it again and again.

    Args:
        data: The event's body.
        attributes: Its attributes.
        now_micros: The time now, in microseconds since the epoch: that of an event that tells none.
    """
    change = decode(data, attributes)
    if not isinstance(change, Change):
        return _passed_on(data, attributes, now_micros)
    database = _DATABASE.search(attributes.get("ce-source", ""))
    return document_message(
        change,
        event_id=_first(attributes, ("ce-id",), _fits),
        event_time=_first(attributes, ("ce-time",), _is_time),
        database="" if database is None else database[0],
    )


def _passed_on(data: bytes, attributes: Mapping[str, str], now_micros: int) -> Message:
    """A message that can't be decoded, as it is, but for `event_id` and `event_time`.

    A Dataflow job that takes its times from `event_time` can't take one without it, and could never make a dead letter
    of it: its watermark would stand still.
    """
    digest = hashlib.blake2b(repr((data, sorted(attributes.items()))).encode(errors="backslashreplace"), digest_size=16)
    event_id = _first(attributes, ("event_id", "ce-id"), _fits) or digest.hexdigest()
    event_time = _first(attributes, ("event_time", "ce-time"), _is_time) or _time_of(now_micros)
    return Message(data, _allowed({**attributes, "event_id": event_id, "event_time": event_time}))


def _first(attributes: Mapping[str, str], names: Sequence[str], is_right: Callable[[str], bool]) -> str:
    """The first of some attributes that is right; else nothing."""
    return next((attributes[name] for name in names if is_right(attributes.get(name, ""))), "")


def _fits(value: str) -> bool:
    return 0 < len(value.encode(errors="replace")) <= _LARGEST_ATTRIBUTE


def _is_time(value: str) -> bool:
    """Whether it is RFC 3339, with its zone: Dataflow takes nothing else."""
    try:
        parse_timestamp(value)
    except ValueError:
        return False
    return _fits(value)


# Decoding -------------------------------------------------------------------------------------------------------------


class _UnknownMessageError(Exception):
    """It is none of the kinds."""


class _DocumentError(Exception):
    """It is of a document, whose path is known, and can't be used."""

    def __init__(self, path: str, problem: Exception) -> None:
        super().__init__(str(problem))
        self.path = path


def decode(data: bytes, attributes: Mapping[str, str], source: str | None = None) -> Change | Touch | DeadLetter:
    """What a message says; one that says nothing comes as a dead letter.

    A row comes as a version of a document, ordered by the greater of its version and its seq: the latter grows with
    each row of a path, and is never less than the former (S9).

    Args:
        data: The message's body.
        attributes: Its attributes.
        source: Where it came from, for the dead letter.
    """
    try:
        found = _decode_document(data)
        fields = bytes(found.fields)
        if fields[:1] != b"{" and fields != b"null":
            raise ValueError(f"expected fields as an object or null, got {fields[:20]!r}")
        if not data.isascii():
            data.decode()  # msgspec reads over text that nobody asks for
        event_time = _micros_of(found.event_time) if fields == b"null" else 0
        return _change(found.path, max(found.version, found.seq), found.fields, event_time)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        problem: Exception = error
    path, code = None, MALFORMED
    try:
        return _decode_other(data, attributes, problem)
    except _UnknownMessageError as error:
        code, problem = UNKNOWN, error
    except _DocumentError as error:
        path, problem = error.path, error
    except Exception as error:  # whatever a library says to bytes that anybody may have sent
        problem = error
    return DeadLetter(
        stage="decode",
        code=code,
        message=f"{str(problem) or type(problem).__name__}; docs/events.md tells what is understood",
        path=path or _path_in(data, attributes),
        source=source,
        input=_input_of(data, attributes),
    )


def _change(path: str, version: int, fields: msgspec.Raw, event_time: int) -> Change:
    if path.count("/") & 1 == 0 or "//" in path or path[0] == "/" or path[-1] == "/":
        raise ValueError(f"expected a document's path, got {path!r}")
    return Change(path, version, fields, event_time)


class _Head(msgspec.Struct):
    boiler_beam: Any = msgspec.UNSET
    touch: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    specversion: Any = msgspec.UNSET
    path: Any = None


def _decode_other(data: bytes, attributes: Mapping[str, str], problem: Exception) -> Change | Touch:
    """What a message says that is no document of ours.

    Args:
        data: See `decode`.
        attributes: See `decode`.
        problem: Why it is none.
    """
    known = {name.lower(): value for name, value in attributes.items()}
    if "ce-type" in known:
        content_type = known.get("content-type") or known.get("ce-datacontenttype") or ""
        is_json = "json" in content_type if content_type else data[:1] == b"{"
        return _decode_event(known["ce-type"], data, known.get("ce-time"), is_json=is_json)
    try:
        head = msgspec.json.decode(data, type=_Head)
    except msgspec.ValidationError:
        raise _UnknownMessageError("expected an object, got other JSON") from None
    data.decode()
    if head.specversion is not msgspec.UNSET:
        event = msgspec.json.decode(data, type=_CloudEvent)
        if isinstance(event.data_base64, str):
            body = base64.b64decode(event.data_base64, validate=True)
            return _decode_event(event.type, body, event.time, is_json="json" in event.datacontenttype)
        return _decode_event(event.type, bytes(event.data), event.time, is_json=True)
    if head.boiler_beam is msgspec.UNSET:
        raise _UnknownMessageError("expected an object with boiler_beam or specversion, got neither")
    if head.boiler_beam != 1:
        message = f"expected boiler_beam 1, got {head.boiler_beam!r}; fix: update this program"
        raise _UnknownMessageError(message)
    if head.touch is msgspec.UNSET:
        raise problem
    touch = _decode_touch(data).touch
    return Touch(touch.view, touch.path, touch.read_time)


# CloudEvents ----------------------------------------------------------------------------------------------------------

_EVENT = re.compile(r"google\.cloud\.firestore\.document\.v1\.(created|updated|deleted|written)(\.withAuthContext)?")
_DATABASE = re.compile(r"projects/[^/]+/databases/[^/]+")


class _CloudEvent(msgspec.Struct):
    type: str
    time: Any = None
    datacontenttype: str = "application/json"
    data: msgspec.Raw = msgspec.Raw(b"")
    data_base64: str | None = None


def _decode_event(kind: str, data: bytes, time: object, *, is_json: bool) -> Change:
    """The document's version in one of Firestore's events. A deletion's is that of the old value (S1)."""
    if _EVENT.fullmatch(kind) is None:
        raise _UnknownMessageError(f"expected an event of Firestore's documents, got {kind!r}")
    from google.protobuf import json_format

    from boiler_beam.connectors.pubsub.protos import DocumentEventData

    if is_json:
        event: Any = json_format.Parse(data, DocumentEventData(), ignore_unknown_fields=True)
    else:
        event = DocumentEventData.FromString(data)
    is_deleted = not event.value.name
    document = event.old_value if is_deleted else event.value
    if not document.name:
        raise ValueError("expected value or old_value with a document's name, got ''")
    path = path_of_name(document.name)
    try:
        version = micros_of_proto(document.update_time)
        if not 0 < version <= INT64_MAX:
            raise ValueError(f"expected a document with an update_time, got {version} us since the epoch")
        if is_deleted:
            return _change(path, version, _NULL, _micros_of(time))
        return _change(path, version, fields_of(document), 0)
    except ValueError as error:
        raise _DocumentError(path, error) from error


# Dead letters ---------------------------------------------------------------------------------------------------------


class _Input(msgspec.Struct, omit_defaults=True):
    attributes: dict[str, str] = {}
    text: str | None = None
    data: bytes = b""


def _input_of(data: bytes, attributes: Mapping[str, str]) -> str:
    """A message as text: `{"attributes": {...}, "text": "..."}`, or with base64 `data` where it is no text."""
    try:
        found = _Input(dict(attributes), text=data.decode())
    except UnicodeDecodeError:
        found = _Input(dict(attributes), data=data)
    return _encode(found).decode("utf-8", "backslashreplace")


def raw_message(letter_input: str) -> Message:
    """The message that a dead letter was made of.

    Raises:
        msgspec.MsgspecError: It was made of something else.
    """
    found = msgspec.json.decode(letter_input, type=_Input)
    return Message(found.data if found.text is None else found.text.encode(), found.attributes)


def message_of(event: Change | Touch | DeadLetter, now_micros: int, database: str = "") -> Message | None:
    """What a source gave, to be passed on; None for a dead letter that was made of nothing.

    The input of a dead letter goes on as it came: who reads it makes a dead letter of it, too.

    Args:
        event: What a source gave.
        now_micros: The time now, in microseconds since the epoch: that of an input that tells none.
        database: See `document_message`.
    """
    if isinstance(event, Change):
        return document_message(event, database=database)
    if isinstance(event, Touch):
        return touch_message(event)
    if event.code in CODES:
        return _passed_on(*raw_message(event.input or "{}"), now_micros)
    return _passed_on(event.input.encode(), {}, now_micros) if event.input else None


def decode_again(letter: DeadLetter) -> Change | Touch | DeadLetter:
    """What a dead letter's message says now."""
    return decode(*raw_message(letter.input or "{}"), letter.source)


def _path_in(data: bytes, attributes: Mapping[str, str]) -> str | None:
    """The document that a message that can't be read was of, where that can be told."""
    known = {name.lower(): value for name, value in attributes.items()}
    message: Any = None
    with suppress(msgspec.MsgspecError, ValueError, RecursionError):
        message = msgspec.json.decode(data)
    subject = known.get("ce-subject") or _at(message, "subject")
    told = [known.get("ce-document"), _at(message, "path"), subject.removeprefix("documents/") if subject else None]
    for event in (_at(message, "data", kind=dict), message):
        for key in ("value", "oldValue"):
            with suppress(ValueError):
                told.append(path_of_name(_at(event, key, "name") or ""))
    return next((path for path in told if path), None)


def _at(value: Any, *keys: str, kind: type = str) -> Any:
    """What parsed JSON holds under keys; None where it is no such thing."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, kind) else None
