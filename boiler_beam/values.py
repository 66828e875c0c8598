"""Firestore values: their Python types, their JSON form ("wire"), and the conversion between both.

| Firestore | Python | wire (document files, rows) |
| --- | --- | --- |
| null, boolean, string | `None`, `bool`, `str` | JSON |
| integer (int64) | `int` | JSON integer |
| double | `float` | JSON number with a point; `{"doubleValue": "NaN"}`, `"Infinity"`, `"-Infinity"` |
| timestamp (UTC, microseconds) | `datetime` | `{"timestampValue": "2026-01-01T00:00:00.000001Z"}` |
| bytes | `bytes` | `{"bytesValue": "<base64>"}` |
| reference | `Ref` | `{"referenceValue": "users/u1"}` |
| geo point | `GeoPoint` | `{"geoPointValue": {"latitude": 1.0, "longitude": 2.0}}` |
| array, map | `list`, `dict` | JSON; a map that looks like a typed value is `{"mapValue": {"fields": {...}}}` |

An object whose only key names a type is a typed value. The values that are plain JSON above may also be typed, as in
Firestore's REST API: `{"stringValue": "Ann"}`, `{"integerValue": "5"}`, `{"booleanValue": true}`, `{"nullValue":
null}`, `{"arrayValue": {"values": [...]}}`.

Source of the typed forms: https://firebase.google.com/docs/firestore/reference/rest/v1/Value
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable, Container
from datetime import datetime, timedelta, timezone
from typing import Any, Generic, NamedTuple, NoReturn, TypeVar

import msgspec

__all__ = [
    "INT64_MAX",
    "INT64_MIN",
    "TYPED_NAMES",
    "UNKNOWN_VALUE",
    "Database",
    "GeoPoint",
    "Ref",
    "decode_fields",
    "decode_wire",
    "encode_fields",
    "encode_wire",
    "from_wire",
    "is_typed",
    "localized",
    "parse_timestamp",
    "to_wire",
]

T_co = TypeVar("T_co", covariant=True)

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_RESOURCE_NAME = re.compile(r"projects/([^/]+)/databases/([^/]+)/documents/(.+)", re.DOTALL)
_DEFAULT = "(default)"


class Database(NamedTuple):
    """The database whose documents are read. References into it are local, and are shown by their relative path.

    >>> Database("p").relative("projects/p/databases/(default)/documents/users/u1")
    'users/u1'
    >>> Database("p").relative("projects/p/databases/archive/documents/users/u1")
    'projects/p/databases/archive/documents/users/u1'

    Attributes:
        project: The project's id; None: any project.
        name: The database's id.
    """

    project: str | None = None
    name: str = _DEFAULT

    @property
    def root(self) -> str:
        """The prefix of the full names of its documents; empty if the project is unknown."""
        return f"projects/{self.project}/databases/{self.name}/documents/" if self.project is not None else ""

    def relative(self, path: str) -> str:
        """Returns the relative path of a document in this database; any other name unchanged."""
        found = _full_name(path)
        if found is None or found[2] != self.name or self.project not in (None, found[1]):
            return path
        return found[3]


def _full_name(path: str) -> re.Match[str] | None:
    """Returns the parts of a full resource name.

    A relative path may also begin with `projects/`, but it has an even number of segments.
    """
    if not path.startswith("projects/") or path.count("/") % 2:
        return None
    return _RESOURCE_NAME.fullmatch(path)


class Ref(Generic[T_co]):
    """A reference to a document: its path relative to the database, `Ref("users/u1")`.

    References compare and hash by path. A full resource name is accepted too: a name in a `(default)` database is
    reduced to its relative path, any other name is kept.

    >>> Ref("projects/p/databases/(default)/documents/users/u1")
    Ref('users/u1')

    Attributes:
        path: The relative path; the full resource name of a document in another database.
    """

    __slots__ = ("path",)
    path: str

    def __init__(self, path: str) -> None:
        object.__setattr__(self, "path", Database().relative(path))

    @staticmethod
    def at(path: str) -> Ref[Any]:
        """Returns the reference with exactly this path, also if it is a full name in a `(default)` database."""
        ref: Ref[Any] = _new(Ref)
        _set_path(ref, path)
        return ref

    @property
    def is_local(self) -> bool:
        """Whether the document is in the database whose documents are read."""
        return _full_name(self.path) is None

    @property
    def relative_path(self) -> str:
        """The path relative to the document's own database."""
        found = _full_name(self.path)
        return self.path if found is None else found[3]

    @property
    def doc_id(self) -> str:
        """The last segment of the path."""
        return self.path.rpartition("/")[2]

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a Ref is immutable: make another with Ref({value!r})")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ref) and self.path == other.path

    def __hash__(self) -> int:
        return hash(self.path)

    def __repr__(self) -> str:
        return f"Ref({self.path!r})"

    def __reduce__(self) -> tuple[Callable[[str], Ref[Any]], tuple[str]]:
        return Ref.at, (self.path,)


_new, _set_path = object.__new__, Ref.__dict__["path"].__set__


def localized(value: Any, database: Database) -> Any:
    """Returns a Firestore value with the full names of documents in a database replaced by relative paths."""
    if isinstance(value, Ref):
        return Ref.at(database.relative(value.path))
    if isinstance(value, dict):
        return {key: localized(item, database) for key, item in value.items()}
    return [localized(item, database) for item in value] if isinstance(value, list) else value


class GeoPoint(msgspec.Struct, frozen=True, order=True):
    """A point on the earth: latitude and longitude in degrees."""

    latitude: float
    longitude: float


_FINER_THAN_MICROSECONDS = re.compile(r"(?<=\.[0-9]{6})[0-9]+")


def parse_timestamp(text: object) -> datetime:
    """Parses an RFC 3339 time, in UTC. Finer times than a microsecond are rounded down, as Firestore does.

    A fraction is added to its second in every year, so cutting its digits rounds down before 1970 too.

    Raises:
        ValueError: The text is not a time, or has no time zone.

    >>> parse_timestamp("1969-12-31T23:59:59.9999999Z").microsecond
    999999
    """
    if not isinstance(text, str):
        raise ValueError(f"expected an RFC 3339 string, got {text!r}")
    try:
        moment = msgspec.convert(_FINER_THAN_MICROSECONDS.sub("", text), datetime)
    except msgspec.ValidationError:
        raise ValueError(f"expected an RFC 3339 string, got {text!r}") from None
    if moment.tzinfo is None:
        raise ValueError(f"expected a timestamp with a time zone, got {text!r}")
    try:
        return moment.astimezone(timezone.utc)
    except OverflowError:
        raise ValueError(f"expected a time from year 1 to 9999 in UTC, got {text!r}") from None


def _decode_bytes(text: object) -> bytes:
    if not isinstance(text, str):
        raise ValueError(f"expected base64 text, got {text!r}")
    return base64.b64decode(text, validate=True)


_DOUBLES = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def _decode_double(number: object) -> float:
    if isinstance(number, str) and number in _DOUBLES:
        return _DOUBLES[number]
    if isinstance(number, (int, float)) and not isinstance(number, bool):
        try:
            return float(number)
        except OverflowError:
            raise ValueError("expected a number that a double holds, got an integer beyond it") from None
    raise ValueError(f"expected a number, 'NaN', 'Infinity' or '-Infinity', got {number!r}")


def _decode_reference(path: object) -> Ref[Any]:
    if not isinstance(path, str) or not path:
        raise ValueError(f"expected a document path, got {path!r}")
    return Ref.at(path)


def _decode_geo_point(point: object) -> GeoPoint:
    if not isinstance(point, dict):
        raise ValueError(f"expected latitude and longitude, got {point!r}")
    # Firestore's REST API leaves out a coordinate that is 0.
    return GeoPoint(_decode_double(point.get("latitude", 0.0)), _decode_double(point.get("longitude", 0.0)))


def _decode_map(value: object) -> dict[str, Any]:
    fields = value.get("fields", {}) if isinstance(value, dict) else None
    if not isinstance(fields, dict):
        raise ValueError(f"expected an object with fields, got {value!r}")
    return {key: from_wire(item) for key, item in fields.items()}


def _decode_array(value: object) -> list[Any]:
    items = value.get("values", []) if isinstance(value, dict) else None
    if not isinstance(items, list):
        raise ValueError(f"expected an object with values, got {value!r}")
    return [from_wire(item) for item in items]


def _decode_string(text: object) -> str:
    if not isinstance(text, str):
        raise ValueError(f"expected text, got {text!r}")
    return text


_INTEGER = re.compile(r"-?[0-9]{1,19}")


def _decode_integer(number: object) -> int:
    if isinstance(number, str) and _INTEGER.fullmatch(number):
        number = int(number)
    if type(number) is not int or not INT64_MIN <= number <= INT64_MAX:
        raise ValueError(f"expected an int64 as text, got {number!r}")
    return number


def _decode_boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, got {value!r}")
    return value


def _decode_null(value: object) -> None:
    if value not in (None, "NULL_VALUE"):  # the name of the only value of its enum
        raise ValueError(f"expected null, got {value!r}")


def _decode_unknown(value: object) -> NoReturn:
    raise ValueError("expected a value of a type that this version knows, got another one; fix: update boiler_beam")


UNKNOWN_VALUE = "unknownValue"
"""A value of a Firestore type that this version does not know; it is invalid in every field that a model reads."""

_TYPED: dict[str, Callable[[object], Any]] = {
    "referenceValue": _decode_reference,
    "timestampValue": parse_timestamp,
    "bytesValue": _decode_bytes,
    "doubleValue": _decode_double,
    "geoPointValue": _decode_geo_point,
    "mapValue": _decode_map,
    "arrayValue": _decode_array,
    "stringValue": _decode_string,
    "integerValue": _decode_integer,
    "booleanValue": _decode_boolean,
    "nullValue": _decode_null,
    UNKNOWN_VALUE: _decode_unknown,
}

TYPED_NAMES = frozenset(_TYPED)
"""The names of types: an object whose only key is one of them is a typed value."""


def from_wire(value: Any) -> Any:
    """Returns the Firestore value for parsed JSON.

    Raises:
        ValueError: A typed value is malformed, or an integer is not an int64.

    >>> from_wire({"at": {"timestampValue": "2026-01-01T00:00:00Z"}, "by": {"referenceValue": "users/u1"}})
    {'at': datetime.datetime(2026, 1, 1, 0, 0, tzinfo=datetime.timezone.utc), 'by': Ref('users/u1')}
    """
    kind = type(value)
    if kind is dict:
        if len(value) == 1:
            ((key, item),) = value.items()
            if (decode := _TYPED.get(key)) is not None:
                try:
                    return decode(item)
                except ValueError as error:
                    raise ValueError(f"{key}: {error}") from None
        return {key: from_wire(item) for key, item in value.items()}
    if kind is list:
        return [from_wire(item) for item in value]
    if kind is int and not INT64_MIN <= value <= INT64_MAX:
        raise ValueError(f"{value} is not an int64")
    return value


def format_timestamp(moment: datetime) -> str:
    """Formats a time as RFC 3339 in UTC, with as many digits as needed: `2026-01-01T00:00:00.000001Z`."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment!r} has no time zone: write datetime(..., tzinfo=timezone.utc)")
    text = moment.astimezone(timezone.utc).replace(tzinfo=None).isoformat()
    return f"{text}Z"


_COUNTERS = 10**12
"""Versions below are counters, not times."""
_LAST = 253_402_300_799_999_999


def format_version(version: int) -> str:
    """Formats a version for people: as a time, or as the number that it is where it is no time.

    >>> format_version(1767225604000012), format_version(3)
    ('2026-01-01T00:00:04.000012Z', '3')
    """
    if not _COUNTERS <= version <= _LAST:
        return str(version)
    return format_timestamp(_EPOCH + timedelta(microseconds=version))


def micros_of(moment: datetime) -> int:
    """Returns the microseconds since the epoch of an aware datetime."""
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def to_wire(value: Any) -> Any:
    """Returns the JSON form of a Firestore value: the inverse of `from_wire`, without loss.

    Raises:
        TypeError: Firestore has no type for the value.
        ValueError: Firestore refuses a key or an integer in it.
    """
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return value
    if kind is float:
        if math.isfinite(value):
            return value
        return {"doubleValue": "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"}
    if kind is int:
        if not INT64_MIN <= value <= INT64_MAX:
            raise ValueError(f"{value} is not an int64")
        return value
    if kind is list or kind is tuple:
        return [to_wire(item) for item in value]
    if kind is dict:
        return to_wire_map(value, to_wire)
    return _to_wire_typed(value)


def is_typed(value: dict[str, Any]) -> bool:
    """Returns whether an object of JSON is a typed value: its only key names a type."""
    return len(value) == 1 and next(iter(value)) in _TYPED


def to_wire_map(value: dict[Any, Any], encode: Callable[[Any], Any]) -> dict[str, Any]:
    """Returns the wire form of a map; `encode` converts its items."""
    fields = {}
    for key, item in value.items():
        if type(key) is not str:
            raise TypeError(f"a map's keys are strings, got {key!r}")
        fields[key] = encode(item)
    if is_typed(fields):
        return {"mapValue": {"fields": fields}}
    return fields


def _to_wire_typed(value: Any) -> Any:
    if isinstance(value, Ref):
        return {"referenceValue": value.path}
    if isinstance(value, datetime):
        return {"timestampValue": format_timestamp(value)}
    if isinstance(value, bytes):
        return {"bytesValue": base64.b64encode(value).decode("ascii")}
    if isinstance(value, GeoPoint):
        return {"geoPointValue": {"latitude": to_wire(value.latitude), "longitude": to_wire(value.longitude)}}
    natives: tuple[Any, ...] = (str, int, float, dict, list)
    for native in natives:  # subclasses of these types, such as a member of a StrEnum
        if isinstance(value, native):
            return to_wire(native(value))
    raise TypeError(f"Firestore has no type for {type(value).__name__} ({value!r})")


_decoder = msgspec.json.Decoder()
_encoder = msgspec.json.Encoder(order="deterministic")


def decode_fields(data: bytes | msgspec.Raw, names: Container[str] | None = None) -> dict[str, Any]:
    """Decodes a document's fields from JSON bytes. The outermost object is always the map of fields.

    Args:
        data: The bytes.
        names: The names of the fields to decode; malformed values in other fields are ignored. None: all fields.

    Raises:
        msgspec.DecodeError: The bytes are not JSON.
        ValueError: They are not an object, or a typed value in it is malformed.
    """
    fields = _decoder.decode(data)
    if type(fields) is not dict:
        raise ValueError(f"expected an object of fields, got {type(fields).__name__}")
    known: dict[str, Any] = {}
    for name, value in fields.items():
        if names is None or name in names:
            try:
                known[name] = from_wire(value)
            except ValueError as error:
                raise ValueError(f"{error} - at `$.{name}`") from None
    return known


def encode_fields(fields: dict[str, Any]) -> bytes:
    """Encodes a document's fields as canonical JSON bytes, with sorted keys and no white space.

    Equal fields give equal bytes.

    >>> encode_fields({"b": 1.0, "a": [None, float("nan")]})
    b'{"a":[null,{"doubleValue":"NaN"}],"b":1.0}'
    """
    return _encoder.encode({name: to_wire(value) for name, value in fields.items()})


def encode_wire(value: Any) -> bytes:
    """Encodes any Firestore value as canonical JSON bytes."""
    return _encoder.encode(to_wire(value))


def decode_wire(data: bytes) -> Any:
    """Decodes a Firestore value from JSON bytes: the inverse of `encode_wire`."""
    return from_wire(_decoder.decode(data))
