"""Declaring domain models: msgspec structs with a collection, stored names, and functions that decode fields.

class User(DomainModel, collection="users"):
    first_name: str                                   # stored as firstName
    kind: str = field(name="class", was=("type",))    # stored as class, once as type
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar
from urllib.parse import unquote

import msgspec
from typing_extensions import dataclass_transform

from boiler_beam.errors import Mistake
from boiler_beam.models.collection import CollectionPattern
from boiler_beam.models.pathfield import PathField

__all__ = [
    "DomainModel",
    "FieldOptions",
    "Struct",
    "field",
    "name_problem",
    "options_of",
    "shown_names",
    "stored_as",
    "stored_name",
]

RESERVED = frozenset({"doc_id", "path", "version"})
# Firestore reserves field names of this shape, so no document has them.
_HIDDEN = {"path": "__path__", "version": "__version__"}
_RESERVED_NAME = re.compile(r"__.*__", re.DOTALL)
_MAX_NAME_BYTES = 1500
_REFUSED_BY_MSGSPEC = re.compile(r'[\\"\x00-\x1f]')
_ESCAPED = re.compile(r'[\\"%`\x00-\x1f]')  # in messages of msgspec, names stand between backquotes
_HIDDEN_NAME = re.compile(r"__([^`]*?%[0-9A-F]{2}[^`]*?)__")


@dataclass(frozen=True)
class FieldOptions:
    """The arguments of `field()`, which describes them."""

    default: Any = msgspec.NODEFAULT
    default_factory: Any = msgspec.NODEFAULT
    name: str | None = None
    was: tuple[str, ...] = ()
    encode: Callable[[Any], Any] | None = None
    decode: Callable[[Any], Any] | None = None


def field(
    *,
    default: Any = msgspec.NODEFAULT,
    default_factory: Any = msgspec.NODEFAULT,
    name: str | None = None,
    was: tuple[str, ...] = (),
    encode: Callable[[Any], Any] | None = None,
    decode: Callable[[Any], Any] | None = None,
) -> Any:
    """Declares a field of a model that needs more than an annotation.

    >>> import boiler_beam as bb
    >>> from decimal import Decimal
    >>> class Product(bb.DomainModel, collection="products"):
    ...     kind: str = bb.field(name="class", was=("type",))
    ...     price: Decimal = bb.field(encode=str, decode=Decimal)

    Args:
        default: The value if the document lacks the field.
        default_factory: A function that returns that value, called for each document.
        name: The stored name, exactly as it is in Firestore. By default it follows from the attribute and `case`.
        was: Former stored names, read in this order if the document lacks `name`; never written.
        encode: Converts the attribute's value to the stored Firestore value.
        decode: Converts the stored Firestore value to the attribute's value. The annotation may then be any class.
    """
    return FieldOptions(default, default_factory, name, (was,) if isinstance(was, str) else tuple(was), encode, decode)


def stored_name(name: str, case: str) -> str:
    """Returns the stored form of a Python name: `firstName` for `first_name` in camel case.

    Leading underscores stay.
    """
    if case == "snake":
        return name
    bare = name.lstrip("_")
    head, *rest = bare.split("_")
    return name[: len(name) - len(bare)] + head + "".join(part[:1].upper() + part[1:] for part in rest)


def name_problem(name: object) -> str | None:
    """Returns why Firestore refuses a field name, or None if it accepts it.

    Source: https://firebase.google.com/docs/firestore/quotas#limits

    >>> name_problem("__id__"), name_problem('size "in"')
    ('a name that Firestore reserves', None)
    """
    if not isinstance(name, str):
        return "not text"
    if not name:
        return "an empty name"
    if _RESERVED_NAME.fullmatch(name):
        return "a name that Firestore reserves"
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return "a name that is not UTF-8"
    return f"a name of {size:,} bytes" if size > _MAX_NAME_BYTES else None


def _encoded_name(stored: str) -> str:
    """Returns the name that msgspec gets for a stored name.

    msgspec refuses some names that Firestore accepts. They are replaced by a reserved name, which no document has.
    """
    if _REFUSED_BY_MSGSPEC.search(stored) is None:
        return stored
    return f"__{_ESCAPED.sub(lambda found: f'%{ord(found[0]):02X}', stored)}__"


def shown_names(message: str) -> str:
    """Replaces msgspec's field names in a message by the stored names.

    >>> shown_names("Object missing required field `__size %22in%22__`")
    'Object missing required field `size "in"`'
    """
    return _HIDDEN_NAME.sub(lambda found: unquote(found[1]), message)


def stored_as(model: type, key: str, encoded: str, case: str) -> str:
    """Returns the stored name of a field of a model or struct.

    Args:
        model: The class.
        key: The attribute.
        encoded: Its name in msgspec.
        case: `"camel"` or `"snake"`.
    """
    options = options_of(model)
    if options is None:
        return encoded
    given = options.fields.get(key)
    return given.name if given is not None and given.name is not None else stored_name(key, case)


@dataclass(frozen=True)
class ModelOptions:
    """The options in the class statement of a model."""

    collection: CollectionPattern | None
    obj_type: str | None
    case: str | None
    fields: dict[str, FieldOptions]
    mistakes: tuple[Mistake, ...]


class ModelMeta(msgspec.StructMeta):
    """The metaclass that reads `collection=`, `obj_type=`, `case=` and the `field()` declarations of a class."""

    __boiler__: ModelOptions

    def __new__(
        mcls,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        *,
        collection: str | None = None,
        obj_type: str | None = None,
        case: str | None = None,
        **options: Any,
    ) -> ModelMeta:
        """Creates the class. Mistakes in it are stored, and reported when a plan is compiled."""
        inherited = next((base.__boiler__ for base in bases if isinstance(base, ModelMeta)), None)
        mistakes: list[Mistake] = []
        if case not in (None, "camel", "snake"):
            mistakes.append(Mistake(name, "case='camel' or 'snake'", f"case={case!r}", "write one of the two"))
            case = None
        case = case or (inherited.case if inherited else None)
        declared = dict(inherited.fields) if inherited else {}
        for key in namespace.get("__annotations__", {}):
            if key in RESERVED and "__boiler_base__" not in namespace:
                mistakes.append(
                    Mistake(
                        f"{name}.{key}",
                        "an unused name",
                        f"{key!r}, which every model has",
                        f"rename the field and write field(name={key!r})",
                    )
                )
        for key, value in list(namespace.items()):
            if isinstance(value, FieldOptions):
                declared[key] = value
                if value.default is not msgspec.NODEFAULT:
                    namespace[key] = msgspec.field(default=value.default)
                elif value.default_factory is not msgspec.NODEFAULT:
                    namespace[key] = msgspec.field(default_factory=value.default_factory)
                else:
                    del namespace[key]
        pattern = CollectionPattern(collection) if collection is not None else None
        known_pattern = pattern or (inherited.collection if inherited else None)
        for index, key in enumerate(known_pattern.placeholders if known_pattern else ()):
            mistakes += _path_field(name, namespace, index, key, is_inherited=pattern is None)
        if pattern and (problem := pattern.problem()):
            mistakes.append(
                Mistake(
                    name,
                    "a collection, which has an odd number of segments: 'a' or 'a/{b}/c'",
                    f"{collection!r}: {problem}",
                    "name the collection, not a document",
                )
            )

        own = namespace.get("__annotations__", {})
        names = _Names(name, declared, case or "camel", [base for base in bases if isinstance(base, ModelMeta)], own)
        options.setdefault("frozen", True)  # not visible to type checkers, because setters of views assign to documents
        if any(hasattr(base, "__boiler_base__") for base in bases):  # a subclass may add required fields
            options.setdefault("kw_only", True)
        model: ModelMeta = super().__new__(mcls, name, bases, namespace, rename=names.rename, **options)
        model.__boiler__ = ModelOptions(known_pattern, obj_type, case, declared, (*mistakes, *names.mistakes))
        return model


class _Names:
    """Computes msgspec's names for the fields of a class, and collects the mistakes in their stored names."""

    def __init__(
        self,
        model: str,
        declared: Mapping[str, FieldOptions],
        case: str,
        bases: Sequence[ModelMeta],
        own: Mapping[str, Any],
    ) -> None:
        self.model, self.declared, self.case = model, declared, case
        self.mistakes: list[Mistake] = []
        self.taken: dict[str, str] = {}
        for base in bases:
            fields: Any = zip(base.__struct_fields__, base.__struct_encode_fields__, strict=True)
            self.taken |= {encoded: key for key, encoded in fields if key not in own}

    def rename(self, key: str) -> str:
        if key in _HIDDEN:
            return _HIDDEN[key]
        given = self.declared.get(key, FieldOptions())
        stored = given.name if given.name is not None else stored_name(key, self.case)
        problems = [(name, problem) for name in (stored, *given.was) if (problem := name_problem(name)) is not None]
        for name, problem in problems:
            self._mistake(key, f"stored names of 1 to {_MAX_NAME_BYTES:,} bytes, not __...__", name, problem)
        if problems:
            return f"__{key}%__"
        encoded = _encoded_name(stored)
        if encoded in self.taken:
            self._mistake(key, "a unique stored name", stored, f"which {self.taken[encoded]} has")
            return f"__{key}%__"
        self.taken[encoded] = key
        return encoded

    def _mistake(self, key: str, expected: str, got: object, why: str) -> None:
        fix = f"write {key}: ... = bb.field(name=...), with the name as it is stored"
        if got in self.declared.get(key, FieldOptions()).was:
            fix = "remove it from was="
        self.mistakes.append(Mistake(f"{self.model}.{key}", expected, f"{got!r}, {why}", fix))


def _path_field(name: str, namespace: dict[str, Any], index: int, key: str, *, is_inherited: bool) -> list[Mistake]:
    """Replaces the annotation of a path field in a class namespace by a `PathField`; returns the mistakes in it."""
    annotation = namespace.get("__annotations__", {}).pop(key, None)
    given = namespace.pop(key, None)
    if annotation is not None or not is_inherited:
        namespace[key] = PathField(key, index, annotation or str, namespace.get("__module__", ""))
    where, mistakes = f"{name}.{key}", []
    if given is not None:
        mistakes.append(Mistake(where, "no default: its value is read from the path", repr(given), "leave it out"))
    if key in RESERVED:
        fix = "rename the placeholder"
        mistakes.append(Mistake(where, "an unused name", f"{key!r}, which every model has", fix))
    return mistakes


def options_of(model: type) -> ModelOptions | None:
    """Returns the options of a model or struct; None for a plain msgspec struct."""
    return model.__boiler__ if isinstance(model, ModelMeta) else None


@dataclass_transform(field_specifiers=(field,))
class Struct(msgspec.Struct, metaclass=ModelMeta):
    """A nested struct of a model or of a row: a Firestore map with known fields.

    Its stored names follow its own `case`, or else the `case` of the model or view that contains it.
    """


@dataclass_transform(kw_only_default=True, field_specifiers=(field,))
class DomainModel(msgspec.Struct, metaclass=ModelMeta, kw_only=True, gc=False):
    """Base of the classes for the documents of one collection: `class User(DomainModel, collection="users")`.

    Class keywords: `collection` (required, except on subclasses, which inherit it), `case` (`"camel"` or `"snake"`: how
    names are stored), `obj_type` (the value of the stored field `obj_type` for a subclass, by default the class name).

    Attributes:
        path: The document's path relative to its database, `users/u1`.
        version: Its update time in microseconds since the epoch.
    """

    __boiler_base__: ClassVar[bool] = True

    path: str = ""
    version: int = 0

    @property
    def doc_id(self) -> str:
        """The last segment of the document's path."""
        return self.path.rpartition("/")[2]

    # msgspec's own methods read what documents hold: references are paths there until somebody reads them.

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__struct_fields__)

    __hash__ = msgspec.Struct.__hash__

    def __reduce__(self) -> Any:
        values = {name: getattr(self, name) for name in self.__struct_fields__}
        return partial(type(self), **values), ()

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__struct_fields__)
        return f"{type(self).__name__}({values})"
