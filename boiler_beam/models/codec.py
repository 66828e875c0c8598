"""Decodes documents into models and encodes models: one codec for the models that share a collection."""

from __future__ import annotations

import datetime
import enum
import functools
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from boiler_beam.errors import InvalidDocument, Mistake
from boiler_beam.models.collection import CollectionPattern
from boiler_beam.models.declare import DomainModel, ModelMeta, options_of, shown_names, stored_as
from boiler_beam.models.narrow import Narrowed, Partial, known_fields
from boiler_beam.models.pathfield import path_fields
from boiler_beam.models.shapes import (
    CHECKED,
    PLAIN,
    FieldShape,
    _by_names,
    mistakes_in,
    optional_without_default,
    resolve_annotations,
    struct_fields,
)
from boiler_beam.models.typed import prepare_fields, reference_hook, stored_name_of, stored_value, target_of
from boiler_beam.values import Database, GeoPoint, decode_fields, from_wire, localized, to_wire, to_wire_map

__all__ = ["STORED_AS_THEY_ARE", "DocumentType", "ModelCodec", "base_model", "stored_fields"]
__all__ += ["wire_of", "wire_of_document"]

_set = msgspec.structs.force_setattr
_ANY_PROJECT = Database()


class ModelCodec:
    """Reads and checks the fields of one model class.

    Args:
        model: The class.
        mistakes: A list to which the mistakes in the class are appended.
        database: The database whose documents are read.
    """

    def __init__(self, model: type[DomainModel], mistakes: list[Mistake], database: Database) -> None:
        self.model, self.database = model, database
        case = model.__boiler__.case or "camel"
        self.path_fields = path_fields(model)
        mistakes.extend(self._wrong_path_fields())
        self.fields: list[FieldShape] = struct_fields(model, case, mistakes)
        mistakes.extend(mistakes_in(model))
        resolve_annotations(model, self.fields)
        is_renamed = any(one.encoded != one.stored or one.was for one in self.fields)
        speeds = [PLAIN, *(one.shape.speed for one in self.fields if one.typed is None)]
        self.speed = max(speeds) if not is_renamed else CHECKED + 1
        typed = {one.name: one.typed for one in self.fields if one.typed is not None}
        references = [name for name, one in typed.items() if one.is_reference]
        prepare_fields(model, [*self.path_fields, *(one.name for one in self.fields)], references)
        self._typed = [(stored_value(name), stored_name_of(name), one.finish(database)) for name, one in typed.items()]
        self._normalize = _by_names([(one.encoded, one.stored, one.was, one.shape.normalize) for one in self.fields])
        self._names = frozenset(name for one in self.fields for name in (one.stored, *one.was))
        self._hook = reference_hook(database)
        self._decode: Callable[[bytes | msgspec.Raw], DomainModel] = self._decode_slowly
        try:
            self._decode = msgspec.json.Decoder(model, dec_hook=self._hook).decode
        except TypeError as error:
            mistakes.append(
                Mistake(model.__name__, "types that msgspec can tell apart", str(error), "use one type and None")
            )

    def _wrong_path_fields(self) -> Iterator[Mistake]:
        pattern = self.model.__boiler__.collection
        if pattern is None:
            return
        for name, one in self.path_fields.items():
            where = f"{self.model.__name__}.{name}"
            try:
                kind, target = one.annotation, target_of(one.annotation)
            except NameError as error:
                yield Mistake(where, "an annotation that can be resolved", str(error), "define the class in its module")
                continue
            shape = pattern.parent_shape(one.placeholder_index)
            if kind is not str and target is None:
                got = getattr(kind, "__name__", str(kind))
                yield Mistake(where, "str or Ref[Parent]: it is read from the path", got, "annotate it so")
            elif target is not None and not (
                target.__boiler__.collection and target.__boiler__.collection.holds(shape)
            ):
                expected = f"a Ref to the model of {'/{...}/'.join(shape)!r}, which the path names there"
                yield Mistake(where, expected, f"Ref[{target.__name__}]", "name that model, or annotate it str")

    def decode(self, path: str, version: int, data: bytes | msgspec.Raw) -> DomainModel:
        """Decodes a document from its path, version (microseconds) and fields (JSON bytes).

        Raises:
            InvalidDocument: The fields do not fit the model.
        """
        if self.speed == PLAIN or (self.speed == CHECKED and not _may_hold_typed_values(data)):
            try:
                document = self._decode(data)
                for value_of, name, finish in self._typed:
                    if (stored := value_of(document)) is not None:
                        _set(document, name, finish(stored))
            except (msgspec.ValidationError, ValueError):
                document = self._decode_slowly(data)
            except RecursionError:
                raise InvalidDocument("invalid_document", "expected at most 20 levels of nesting, got more") from None
        else:
            document = self._decode_slowly(data)
        _set(document, "path", path)
        _set(document, "version", version)
        return document

    def _decode_slowly(self, data: bytes | msgspec.Raw) -> DomainModel:
        try:
            values = self._normalize(self._localized(decode_fields(data, self._names), data))
            found = self._typed_values(values)
            document: DomainModel = _convert(values, self.model, self._hook)
            for name, value in found.items():
                _set(document, name, value)
            return document
        except (msgspec.MsgspecError, ValueError, NotImplementedError) as error:
            message = shown_names(f"{self.model.__name__}: {error}")
            raise InvalidDocument("invalid_document", message) from error
        except RecursionError:
            raise InvalidDocument("invalid_document", "expected at most 20 levels of nesting, got more") from None

    def _typed_values(self, values: Any) -> dict[str, Any]:
        """Takes the values of typed fields out of a document's values, as models hold them."""
        found: dict[str, Any] = {}
        for one in self.fields if type(values) is dict else ():
            if one.typed is not None and one.encoded in values:
                try:
                    value = found[one.name] = _convert(values[one.encoded], one.annotation, self._hook)
                except msgspec.ValidationError as error:
                    raise _at_field(error, one.encoded) from None
                values[one.encoded] = None if value is None else one.typed.placeholder
        return found

    def _localized(self, values: Any, data: bytes | msgspec.Raw) -> Any:
        text = bytes(data)
        return localized(values, self.database) if b"projects" in text or b"\\u00" in text else values

    def partial(self, path: str, version: int, data: bytes | msgspec.Raw) -> Partial:
        """Decodes those fields of an invalid or narrowed document that are present and valid.

        A tainted row is judged by the key fields of an invalid document that can be decoded (S5).
        """
        known = Partial(path=path, version=version, doc_id=path.rpartition("/")[2], model__=self.model)
        vars(known).update({name: one.read(path) for name, one in self.path_fields.items()})
        try:
            values = self._normalize(self._localized(from_wire_leniently(data), data))
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return known
        if type(values) is dict:
            for one in self.fields:
                if one.encoded not in values:
                    _default(known, self.model, one.name)
                else:
                    try:
                        value = _convert(values[one.encoded], one.shape.native, self._hook)
                    except (msgspec.MsgspecError, ValueError, NotImplementedError):
                        continue
                    setattr(known, one.name, value)
        return known


def _default(known: Partial, model: type[DomainModel], name: str) -> None:
    """Sets a field that a document lacks to its default, if the model has one."""
    (info,) = [info for info in msgspec.structs.fields(model) if info.name == name]
    if info.default is not msgspec.NODEFAULT:
        setattr(known, name, info.default)
    elif info.default_factory is not msgspec.NODEFAULT:
        setattr(known, name, info.default_factory())


def from_wire_leniently(data: bytes | msgspec.Raw) -> Any:
    """Decodes a map of fields like `decode_wire`, but leaves out fields with malformed values."""
    fields = msgspec.json.decode(data)
    if not isinstance(fields, dict):
        return fields
    known = {}
    for key, value in fields.items():
        try:
            known[key] = from_wire(value)
        except ValueError:
            continue
    return known


def _convert(value: Any, kind: Any, hook: Callable[[type, Any], Any]) -> Any:
    return msgspec.convert(value, kind, dec_hook=hook, builtin_types=(datetime.datetime, bytes))


def _at_field(error: msgspec.ValidationError, name: str) -> msgspec.ValidationError:
    """The error of a field's value as one of the document's."""
    message, _, where = str(error).partition(" - at `$")
    return msgspec.ValidationError(f"{message} - at `$.{name}{where or '`'}")


def _may_hold_typed_values(data: bytes | msgspec.Raw) -> bool:
    text = bytes(data)
    return b'Value"' in text or b"\\u00" in text


def base_model(model: type[DomainModel]) -> type[DomainModel]:
    """Returns the topmost base class with the model's collection."""
    base = model
    for candidate in model.__mro__:
        if isinstance(candidate, ModelMeta) and candidate.__boiler__.collection is not None:
            base = candidate  # type: ignore[assignment]
    return base


def _descendants(model: type[DomainModel]) -> Iterator[type[DomainModel]]:
    for child in model.__subclasses__():
        if "__boiler_writable__" not in vars(child):  # the form of a class whose documents can be assigned to
            yield child
            yield from _descendants(child)


class _Tag(msgspec.Struct, gc=False):
    obj_type: Any = None


class DocumentType:
    """Decodes the documents of one document type: of a base model and its subclasses, told apart by `obj_type`.

    Args:
        base: The base model.
        mistakes: A list to which the mistakes in the classes are appended.
        database: The database whose documents are read.

    Attributes:
        base: The base model.
        pattern: The collection of all these classes.
        codecs: The codec of each class.
    """

    def __init__(self, base: type[DomainModel], mistakes: list[Mistake], database: Database = _ANY_PROJECT) -> None:
        assert base.__boiler__.collection is not None
        self.base = base
        self.pattern: CollectionPattern = base.__boiler__.collection
        self.codecs: dict[type[DomainModel], ModelCodec] = {base: ModelCodec(base, mistakes, database)}
        self._by_tag: dict[str, ModelCodec] = {base.__boiler__.obj_type or base.__name__: self.codecs[base]}
        for model in dict.fromkeys(_descendants(base)):
            tag = model.__boiler__.obj_type or model.__name__
            codec = self.codecs[model] = ModelCodec(model, mistakes, database)
            if model.__boiler__.collection != self.pattern:
                mistakes.append(
                    Mistake(
                        model.__name__,
                        f"the collection of its base {base.__name__}",
                        repr(model.__boiler__.collection and model.__boiler__.collection.text),
                        "leave collection= out of the subclass",
                    )
                )
            if tag in self._by_tag:
                other = self._by_tag[tag].model.__name__
                mistakes.append(
                    Mistake(
                        model.__name__,
                        "a unique obj_type",
                        f"{tag!r}, which is {other}'s",
                        "give one of them another obj_type=",
                    )
                )
            self._by_tag[tag] = codec
        self._only = self.codecs[base] if len(self.codecs) == 1 else None
        self._read_tag = msgspec.json.Decoder(_Tag).decode

    def _codec_of(self, data: bytes | msgspec.Raw) -> ModelCodec:
        if self._only is not None:
            return self._only
        try:
            tag = self._read_tag(data).obj_type
            if type(tag) is dict:
                tag = from_wire(tag)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise InvalidDocument("invalid_document", f"{self.base.__name__}: {error}") from error
        if tag is None:
            return self.codecs[self.base]
        codec = self._by_tag.get(tag) if isinstance(tag, str) else None
        if codec is None:
            raise InvalidDocument(
                "unknown_subclass",
                f"{self.base.__name__}: expected obj_type to be one of {', '.join(self._by_tag)}, got {tag!r}",
            )
        return codec

    def decode(self, path: str, version: int, data: bytes | msgspec.Raw) -> DomainModel:
        """Decodes a document into the class that its `obj_type` names.

        Raises:
            InvalidDocument: Its class is unknown, or the fields do not fit it.
        """
        return (self._only or self._codec_of(data)).decode(path, version, data)

    def partial(self, path: str, version: int, data: bytes | msgspec.Raw) -> Partial:
        """Decodes those fields of an invalid or narrowed document that are present and valid.

        A tainted row is judged by the key fields of an invalid document that can be decoded (S5).
        """
        try:
            return self._codec_of(data).partial(path, version, data)
        except InvalidDocument:
            known = self.codecs[self.base].partial(path, version, data)
            known.is_class_known__ = False
            return known

    def notes(self) -> list[str]:
        """Returns notes on fields that may be null but not missing, because applications often remove fields."""
        fields = dict.fromkeys(name for model in self.codecs for name in optional_without_default(model))
        return [
            f"{name} may be null, but a document without it is invalid, and its rows are no longer updated; "
            "fix: = None, or bb.field(default=None)"
            for name in fields
        ]

    def stored_names(self, names: Iterable[str]) -> frozenset[str] | None:
        """Returns the stored names, present and former, of some attributes in all classes; None if one is no field."""
        wanted = set(names) - set(self.codecs[self.base].path_fields) - {"path", "version", "doc_id"}
        known = {one.name for codec in self.codecs.values() for one in codec.fields}
        if not wanted <= known:
            return None
        fields = [one for codec in self.codecs.values() for one in codec.fields if one.name in wanted]
        return frozenset({"obj_type", *(name for one in fields for name in (one.stored, *one.was))})


# Writing --------------------------------------------------------------------------------------------------------------


_Row = tuple[str, str, Callable[[Any], Any] | None]
"""Of a field: its attribute, its stored name, and `encode=` or None."""


class _Stored(NamedTuple):
    """How the fields of a class are stored.

    Attributes:
        case: Of the names in structs that they contain.
        names: The stored names.
        encodes: `encode=` of each field, or None; empty where no field has any.
        read: Returns the attributes of an instance, in this order.
    """

    case: str
    names: tuple[str, ...]
    encodes: tuple[Callable[[Any], Any] | None, ...]
    read: Callable[[Any], tuple[Any, ...]]

    @classmethod
    def of(cls, case: str, rows: Sequence[_Row]) -> _Stored:
        """Makes it of the fields of a class."""
        keys, names, encodes = zip(*rows, strict=True) if rows else ((), (), ())
        read = operator.attrgetter(*keys) if len(keys) > 1 else lambda value: tuple(getattr(value, key) for key in keys)
        return cls(case, names, encodes if any(encodes) else (), read)


@functools.lru_cache(maxsize=4096)
def stored_fields(model: type[msgspec.Struct], case: str) -> tuple[str, tuple[_Row, ...]]:
    """Returns the case of a class's names, and for each field its attribute, stored name, and `encode=` or None."""
    options = options_of(model)
    is_document = issubclass(model, DomainModel)
    if is_document:
        case = (options.case if options else None) or "camel"
    own_case = (options.case if options else None) or case
    rows = []
    for key, encoded in zip(model.__struct_fields__, model.__struct_encode_fields__, strict=True):
        if is_document and key in ("path", "version"):
            continue
        declared = options.fields.get(key) if options else None
        rows.append((key, stored_as(model, key, encoded, own_case), declared.encode if declared else None))
    return case, tuple(rows)


@functools.lru_cache(maxsize=4096)
def _stored(model: type[msgspec.Struct], case: str) -> _Stored:
    return _Stored.of(*stored_fields(model, case))


STORED_AS_THEY_ARE = frozenset({str, bool, type(None)})
"""The types whose values are their own JSON form; numbers may be out of range."""


def wire_of(value: Any, case: str = "camel") -> Any:
    """Returns the JSON form of a value that may contain structs, models and Enums, with names in `case`.

    Raises:
        TypeError, ValueError: Firestore has no type for something in it.
    """
    kind: Any = type(value)
    if kind in STORED_AS_THEY_ARE or (kind is float and math.isfinite(value)):
        return value
    if kind is list or kind is tuple:
        kinds = set(map(type, value))
        if kinds <= STORED_AS_THEY_ARE:
            return list(value)
        if len(kinds) == 1 and _is_struct(kind := kinds.pop()):
            return _wires_of(value, _stored(kind, case))
        return [wire_of(item, case) for item in value]
    if kind is dict:
        return to_wire_map(value, lambda item: wire_of(item, case))
    if _is_struct(kind):
        return _wires_of((value,), _stored(kind, case))[0]
    if kind is Narrowed:
        model, known = known_fields(value)
        case, rows = stored_fields(model, case)
        return _wires_of((value,), _Stored.of(case, [row for row in rows if row[0] in known]))[0]
    if isinstance(value, enum.Enum):
        return to_wire(value.value)
    return to_wire(value)


def wire_of_document(document: DomainModel) -> dict[str, Any]:
    """Returns the JSON form of a document's fields; the outermost object is always the map of fields."""
    return _fields_of((document,), _stored(type(document), "camel"))[0]


def _is_struct(kind: type) -> bool:
    return issubclass(kind, msgspec.Struct) and kind is not GeoPoint


def _wires_of(values: Iterable[Any], stored: _Stored) -> list[Any]:
    """Returns the maps as which structs or models of one class are stored."""
    found = _fields_of(values, stored)
    return found if len(stored.names) != 1 else [to_wire_map(fields, lambda item: item) for fields in found]


def _fields_of(values: Iterable[Any], stored: _Stored) -> list[dict[str, Any]]:
    case, names, encodes, read = stored
    found = []
    for value in values:
        items = read(value)
        if encodes:
            items = tuple([item if to is None else to(item) for to, item in zip(encodes, items, strict=True)])
        if not STORED_AS_THEY_ARE.issuperset(map(type, items)):
            items = tuple([item if type(item) in STORED_AS_THEY_ARE else wire_of(item, case) for item in items])
        found.append(dict(zip(names, items, strict=True)))
    return found
