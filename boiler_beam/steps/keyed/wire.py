"""The elements of a stream as bytes: MessagePack after two bytes, the version of the format and the kind of element.

>>> change = decode(encode(Change("users/u1", 7, msgspec.Raw(b'{"a":1}'))))
>>> change.path, change.version, bytes(change.fields)
('users/u1', 7, b'{"a":1}')
"""

from __future__ import annotations

from typing import Any

import msgspec

from boiler_beam.events import Change, DeadLetter, Row, Touch
from boiler_beam.steps.keyed.messages import Message

__all__ = ["decode", "encode", "path_bytes"]

_FORMAT = 3
_MESSAGE, _CHANGE, _TOUCH, _ROW, _DEAD_LETTER = (bytes([_FORMAT, kind]) for kind in range(5))
_encode = msgspec.msgpack.Encoder().encode
_decode_message = msgspec.msgpack.Decoder(Message).decode
_decode_change = msgspec.msgpack.Decoder(tuple[str, int, bytes, int]).decode
_decode_touch = msgspec.msgpack.Decoder(Touch).decode
_decode_row = msgspec.msgpack.Decoder(tuple[str, str, int, int, int, bytes | None]).decode
_decode_dead_letter = msgspec.msgpack.Decoder(DeadLetter).decode


def encode(element: Message | Change | Touch | Row | DeadLetter) -> bytes:
    """The bytes of an element; equal elements have equal bytes."""
    match element:
        case Change():
            return _CHANGE + _encode((element.path, element.version, bytes(element.fields), element.event_time))
        case Touch():
            return _TOUCH + _encode(element)
        case Row():
            return _ROW + _encode((element.view, element.path, *element.stamp, element.data))
        case DeadLetter():
            return _DEAD_LETTER + _encode(element)
        case _:
            return _MESSAGE + _encode(element)


def decode(data: bytes) -> Any:
    """The element that `encode` made bytes of.

    Raises:
        ValueError: Another version of the program made them.
    """
    kind, rest = bytes(data[:2]), memoryview(data)[2:]
    if kind == _MESSAGE:
        return _decode_message(rest)
    if kind == _CHANGE:
        path, version, fields, event_time = _decode_change(rest)
        return Change(path, version, msgspec.Raw(fields), event_time)
    if kind == _TOUCH:
        return _decode_touch(rest)
    if kind == _ROW:
        return Row(*_decode_row(rest))
    if kind == _DEAD_LETTER:
        return _decode_dead_letter(rest)
    raise ValueError(f"expected a message of format {_FORMAT}, got {data[0]}: another version sent it")


def path_bytes(path: str) -> bytes:
    """The path of a row, by which Beam groups what goes to the sink."""
    return path.encode("utf-8", "surrogatepass")
