"""Changes, messages and rows as bytes between stages: MessagePack after one byte, the version of the form.

>>> change = decode(encode(Change("users/u1", 7, msgspec.Raw(b'{"a":1}'))))
>>> change.path, change.version, bytes(change.fields)
('users/u1', 7, b'{"a":1}')
"""

from __future__ import annotations

import msgspec

from boiler_beam.events import Change, DeadLetter, EncodedRow, Stamp, Touch
from boiler_beam.steps.keyed.messages import Message

__all__ = [
    "FORM",
    "decode",
    "decode_dead_letter",
    "decode_event",
    "decode_row",
    "encode",
    "encode_dead_letter",
    "encode_event",
]
__all__ += ["encode_row", "path_bytes"]

FORM = 2
_CHANGE, _MESSAGE, _TOUCH = bytes([FORM, 0]), bytes([FORM, 1]), bytes([FORM, 2])
_encode = msgspec.msgpack.Encoder().encode
_decode_change = msgspec.msgpack.Decoder(tuple[str, int, bytes, int]).decode
_decode_touch = msgspec.msgpack.Decoder(Touch).decode
_decode_message = msgspec.msgpack.Decoder(Message).decode
_decode_row = msgspec.msgpack.Decoder(tuple[str, str, tuple[int, int, int], bytes | None]).decode
_decode_dead_letter = msgspec.msgpack.Decoder(DeadLetter).decode


def _checked(data: bytes) -> memoryview:
    if data[0] != FORM:
        raise ValueError(f"expected a message of form {FORM}, got {data[0]}: another version sent it")
    return memoryview(data)


def _change(data: memoryview) -> Change:
    path, version, fields, event_time = _decode_change(data[2:])
    return Change(path, version, msgspec.Raw(fields), event_time)


def encode(message: Change | Message) -> bytes:
    """The bytes of a change or a message."""
    if isinstance(message, Change):
        return _CHANGE + _encode((message.path, message.version, bytes(message.fields), message.event_time))
    return _MESSAGE + _encode(message)


def decode(data: bytes) -> Change | Message:
    """The change or message that `encode` made bytes of.

    Raises:
        ValueError: Another version of the program made them.
    """
    view = _checked(data)
    if data[1] == _CHANGE[1]:
        return _change(view)
    return _decode_message(view[2:])  # type: ignore[no-any-return]


def encode_event(event: Change | Touch) -> bytes:
    """The bytes of an event of a source."""
    return _TOUCH + _encode(event) if isinstance(event, Touch) else encode(event)


def decode_event(data: bytes) -> Change | Touch:
    """The event that `encode_event` made bytes of.

    Raises:
        ValueError: Another version of the program made them.
    """
    view = _checked(data)
    if data[1] == _TOUCH[1]:
        return _decode_touch(view[2:])
    return _change(view)


def encode_row(view: str, row: EncodedRow) -> bytes:
    """The bytes of a row of a view."""
    return bytes([FORM]) + _encode((view, *row))


def decode_row(data: bytes) -> tuple[str, EncodedRow]:
    """The view's name and the row that `encode_row` made bytes of."""
    view, path, stamp, fields = _decode_row(_checked(data)[1:])
    return view, EncodedRow(path, Stamp(*stamp), fields)


def encode_dead_letter(dead_letter: DeadLetter) -> bytes:
    """The bytes of a dead letter."""
    return bytes([FORM]) + _encode(dead_letter)


def decode_dead_letter(data: bytes) -> DeadLetter:
    """The dead letter that `encode_dead_letter` made bytes of."""
    return _decode_dead_letter(_checked(data)[1:])


def path_bytes(path: str) -> bytes:
    """The path of a row, by which Beam groups what goes to the sink."""
    return path.encode("utf-8", "surrogatepass")
