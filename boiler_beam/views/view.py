"""View models: classes with a store, view properties and aggregates."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from boiler_beam.views.aggregate import AggregateDeclaration
from boiler_beam.views.store import Store
from boiler_beam.views.visibility import seen_by, viewers_of

__all__ = ["CopyOfRow", "ViewModel", "ViewOptions", "view_property"]

MAX_PATHS = 10_000


class _ViewProperty:
    """A field of the row, computed once for each row by a getter, from the store, aggregates and other properties.

    Attributes:
        viewers: To whom it is restricted among the viewers of the row; empty: to nobody.
    """

    def __new__(cls, getter: Any = None, setter: Any = None, *, viewers: str | Iterable[str] | None = None) -> Any:
        """Returns the property; where only `viewers` are given, a decorator that makes it."""
        if getter is None:
            if viewers is None:
                raise TypeError("view_property: expected a getter or viewers=, got none; fix: write @view_property")
            restrict = seen_by(*((viewers,) if isinstance(viewers, str) else viewers))
            return lambda getter: cls(restrict(getter))
        return super().__new__(cls)

    def __init__(self, getter: Callable[[Any], Any], setter: Callable[[Any, Any], None] | None = None) -> None:
        self.getter, self.set_value = getter, setter
        self.viewers = viewers_of(getter)
        self.name = getattr(getter, "__name__", "")
        self.__doc__ = getter.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def setter(self, setter: Callable[[Any, Any], None]) -> _ViewProperty:
        """Returns the property with a setter, which changes documents of the store."""
        return type(self)(self.getter, setter)

    def __get__(self, view: ViewModel | None, owner: type) -> Any:
        if view is None:
            return self
        copy: CopyOfRow = view.__dict__["_copy"]
        reads = copy.reads
        value = self.getter(view)
        if copy.reads == reads:  # the value is the same in every copy
            view.__dict__[self.name] = value
        return value


class CopyOfRow:
    """The copy of a row that is being rendered.

    Attributes:
        path: Its path; empty while `paths()` runs.
        placeholders: Returns the placeholders of a path.
        reads: How often `self.at`, `self.path` or `self.doc_id` was read. A getter that reads them is called for each
            copy; the value of another getter is used for all copies.
    """

    __slots__ = ("path", "placeholders", "reads")

    def __init__(self, placeholders: Callable[[str], dict[str, str]]) -> None:
        """Creates it; `placeholders` returns the placeholders of a path."""
        self.path, self.reads, self.placeholders = "", 0, placeholders


class _OfCopy:
    """An attribute of a view that depends on the copy that is being rendered."""

    def __init__(self, read: Callable[[CopyOfRow], Any]) -> None:
        self.read = read

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, view: ViewModel | None, owner: type) -> Any:
        if view is None:
            return self
        copy: CopyOfRow = view.__dict__["_copy"]
        copy.reads += 1
        if not copy.path:
            raise AttributeError(f"self.{self.name} is known while a copy of the row is rendered, not in paths()")
        return self.read(copy)


if TYPE_CHECKING:
    view_property = property
else:
    view_property = _ViewProperty


class ViewOptions(NamedTuple):
    """The options in the class statement of a view."""

    collection: str | None
    path: str | None
    case: str | None
    revision: str | int | None
    max_paths: int
    indexed: tuple[str, ...] = ()


class ViewModel:
    """The declaration of a view, as executors know it. Users subclass `boiler_beam.ViewModel`, which also has `get`."""

    __boiler_base__: ClassVar[bool] = True
    __boiler__: ClassVar[ViewOptions] = ViewOptions(None, None, None, None, MAX_PATHS)

    store: Any
    key: Any
    if TYPE_CHECKING:
        path: str
        doc_id: str
        at: dict[str, str]
    else:
        path = _OfCopy(lambda copy: copy.path)
        doc_id = _OfCopy(lambda copy: copy.path[copy.path.rfind("/") + 1 :])
        at = _OfCopy(lambda copy: copy.placeholders(copy.path))

    def __init_subclass__(
        cls,
        *,
        collection: str | None = None,
        path: str | None = None,
        case: str | None = None,
        revision: str | int | None = None,
        max_paths: int | None = None,
        indexed: Iterable[str] | None = None,
        **unknown: Any,
    ) -> None:
        if unknown:
            name = next(iter(unknown))
            raise TypeError(
                f"{cls.__name__}: {name}= is not a class keyword of a view: "
                "write collection, path, case, revision, max_paths or indexed"
            )
        inherited = cls.__boiler__
        most = inherited.max_paths if max_paths is None else max_paths
        names = inherited.indexed if indexed is None else (indexed,) if isinstance(indexed, str) else tuple(indexed)
        cls.__boiler__ = ViewOptions(collection, path, case or inherited.case, revision, most, names)
        super().__init_subclass__()

    @classmethod
    def declared_properties(cls) -> dict[str, _ViewProperty | AggregateDeclaration]:
        """Returns view properties and aggregates in the order of their declaration, those of base views first."""
        declared: dict[str, _ViewProperty | AggregateDeclaration] = {}
        for base in reversed(cls.__mro__):
            for name, value in base.__dict__.items():
                if isinstance(value, (_ViewProperty, AggregateDeclaration)):
                    declared[name] = value
                elif name in declared:
                    del declared[name]
        return declared

    @classmethod
    def declared_method(cls, name: str) -> Callable[[Any], Any] | None:
        """Returns a method that a view may define (`paths`, `viewers` or `editors`), or None."""
        found = getattr(cls, name, None)
        return found if callable(found) else None

    @classmethod
    def declared_store(cls) -> type[Store] | None:
        """Returns the class `Store` in the view, or None."""
        store = getattr(cls, "Store", None)
        return store if isinstance(store, type) and issubclass(store, Store) else None
