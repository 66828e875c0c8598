"""Decodes Pub/Sub messages to events, and encodes events as messages.

Decoded are boiler_beam's own format, with documents, rows and touches, and Firestore's CloudEvents in binary and
structured mode (docs/events.md). Any other message becomes a dead letter.

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
from boiler_beam.events import Change, DeadLetter, EncodedRow, Touch
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
    """A message to publish.

    Attributes:
        data: The body.
        attributes: `collection` and `database`, for filters of subscriptions; `event_id`, by which readers recognize
            copies of a message; and `event_time`.
    """

    data: bytes
    attributes: dict[str, str]


# Our format -----------------------------------------------------------------------------------------------------------


class _Document(msgspec.Struct, omit_defaults=True, gc=False):
    """A version of a document, or a row with its view and stamp."""

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
    """Returns the message for a version of a document.

    Args:
        change: The version.
        event_id: Equal for all copies of the message; by default built from path and version.
        event_time: The time of the event, in RFC 3339; by default the time of the change, or its version.
        database: Its database's resource name, `projects/p/databases/(default)`.
    """
    kind = "deleted" if change.is_deleted else "written"
    event_id = event_id or _identity(change.path, change.version, kind)
    event_time = event_time or _time_of(change.event_time or change.version)
    document = _Document(
        1, change.path, change.version, change.fields, database=database, event_id=event_id, event_time=event_time
    )
    return Message(_encode(document), _attributes(event_id, event_time, collection_of(change.path), database))


def row_message(view: str, row: EncodedRow) -> Message:
    """Returns the message for a row; its `event_id` is built from its path and stamp."""
    stamp = row.stamp
    event_id, event_time = _identity(row.path, *stamp), _time_of(stamp.version)
    fields = _NULL if row.fields is None else msgspec.Raw(row.fields)
    document = _Document(1, row.path, stamp.version, fields, view, stamp.generation, stamp.seq)
    document.event_id, document.event_time = event_id, event_time
    return Message(_encode(document), _attributes(event_id, event_time, collection_of(row.path)))


def touch_message(touch: Touch) -> Message:
    """Returns the message for a touch, which asks a stream to write a row again (S16)."""
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
    """Returns a deletion's time in microseconds since the epoch.

    0 if it is malformed, because it orders nothing (S1).
    """
    try:
        return max(0, micros_of(parse_timestamp(event_time)))
    except ValueError:
        return 0


def collection_of(path: str) -> str:
    """Returns the id of a document's collection."""
    return path.rpartition("/")[0].rpartition("/")[2]


def _attributes(event_id: str, event_time: str, collection: str = "", database: str = "") -> dict[str, str]:
    return _allowed({"event_id": event_id, "event_time": event_time, "collection": collection, "database": database})


def _allowed(attributes: Mapping[str, str]) -> dict[str, str]:
    """Returns the attributes that the server accepts.

    Source: https://cloud.google.com/pubsub/quotas
    """
    return {name: value for name, value in attributes.items() if 0 < len(value.encode()) <= _LARGEST_ATTRIBUTE}


def event_message(data: bytes, attributes: Mapping[str, str], now_micros: int) -> Message:
    """Returns a CloudEvent in binary mode (attributes `ce-id`, ...) as a message of our format.

    An event that can't be decoded is returned unchanged. It becomes a dead letter of the program that follows the
    topic, and is not delivered to the function again and again.

    Args:
        data: The event's body.
        attributes: Its attributes.
        now_micros: The current time in microseconds since the epoch, for events without a time.
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
    """Returns a message that can't be decoded unchanged, except for added `event_id` and `event_time`.

    A Dataflow job that reads its event times from `event_time` never receives a message without it, so it could not
    make a dead letter of the message, and its watermark would not advance.
    """
    digest = hashlib.blake2b(repr((data, sorted(attributes.items()))).encode(errors="backslashreplace"), digest_size=16)
    event_id = _first(attributes, ("event_id", "ce-id"), _fits) or digest.hexdigest()
    event_time = _first(attributes, ("event_time", "ce-time"), _is_time) or _time_of(now_micros)
    return Message(data, _allowed({**attributes, "event_id": event_id, "event_time": event_time}))


def _first(attributes: Mapping[str, str], names: Sequence[str], is_right: Callable[[str], bool]) -> str:
    """Returns the first valid one of some attributes, or empty text."""
    return next((attributes[name] for name in names if is_right(attributes.get(name, ""))), "")


def _fits(value: str) -> bool:
    return 0 < len(value.encode(errors="replace")) <= _LARGEST_ATTRIBUTE


def _is_time(value: str) -> bool:
    """Returns whether text is RFC 3339 with a time zone; Dataflow accepts nothing else."""
    try:
        parse_timestamp(value)
    except ValueError:
        return False
    return _fits(value)


# Decoding -------------------------------------------------------------------------------------------------------------


class _UnknownMessageError(Exception):
    """A message of none of the formats."""


class _DocumentError(Exception):
    """A message about a document, with a known path, that can't be used."""

    def __init__(self, path: str, problem: Exception) -> None:
        super().__init__(str(problem))
        self.path = path


def decode(data: bytes, attributes: Mapping[str, str], source: str | None = None) -> Change | Touch | DeadLetter:
    """Decodes a message; a message that can't be decoded becomes a dead letter.

    A row is returned as a version of a document. Its version is the greater of the row's version and seq, because seq
    grows with each row of a path.

    Args:
        data: The message's body.
        attributes: Its attributes.
        source: The position of the message, for the dead letter.
    """
    try:
        found = _decode_document(data)
        fields = bytes(found.fields)
        if fields[:1] != b"{" and fields != b"null":
            raise ValueError(f"expected fields as an object or null, got {fields[:20]!r}")
        if not data.isascii():
            data.decode()  # msgspec does not validate the text of unused keys
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
    except Exception as error:  # any error of a library for arbitrary bytes
        problem = error
    return DeadLetter(
        stage="decode",
        code=code,
        message=f"{str(problem) or type(problem).__name__}; docs/events.md describes the formats",
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
    """Decodes a message that is not a document in our format.

    Args:
        data: The message's body.
        attributes: Its attributes.
        problem: Why it is not a document in our format.
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
    """Decodes an event of Firestore. The version of a deletion is that of the deleted document, the old value (S1)."""
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
    """Returns a message as text: `{"attributes": {...}, "text": "..."}`, or with base64 `data` if it is not text."""
    try:
        found = _Input(dict(attributes), text=data.decode())
    except UnicodeDecodeError:
        found = _Input(dict(attributes), data=data)
    return _encode(found).decode("utf-8", "backslashreplace")


def raw_message(letter_input: str) -> Message:
    """Returns the message in a dead letter.

    Raises:
        msgspec.MsgspecError: The dead letter has another input.
    """
    found = msgspec.json.decode(letter_input, type=_Input)
    return Message(found.data if found.text is None else found.text.encode(), found.attributes)


def message_of(event: Change | Touch | DeadLetter, now_micros: int, database: str = "") -> Message | None:
    """Returns an event of a source as a message; None for a dead letter without input.

    The input of a dead letter is passed on unchanged, and becomes a dead letter of the program that reads it.

    Args:
        event: The event.
        now_micros: The current time in microseconds since the epoch, for inputs without a time.
        database: The database's resource name, as in `document_message`.
    """
    if isinstance(event, Change):
        return document_message(event, database=database)
    if isinstance(event, Touch):
        return touch_message(event)
    if event.code in CODES:
        return _passed_on(*raw_message(event.input or "{}"), now_micros)
    return _passed_on(event.input.encode(), {}, now_micros) if event.input else None


def decode_again(dead_letter: DeadLetter) -> Change | Touch | DeadLetter:
    """Decodes the message in a dead letter again."""
    return decode(*raw_message(dead_letter.input or "{}"), dead_letter.source)


def _path_in(data: bytes, attributes: Mapping[str, str]) -> str | None:
    """Returns the path of the document in a message that can't be decoded, if it can be found."""
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
    """Returns the value under a sequence of keys in parsed JSON; None if there is none."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, kind) else None
