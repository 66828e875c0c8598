"""Declaring view models: a store, view properties and aggregates."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from boiler_beam.views.aggregate import AggregateDeclaration
from boiler_beam.views.store import Store

__all__ = ["ViewModel", "ViewOptions", "view_property"]


class _ViewProperty:
    """A field of the row, computed by a getter from the store, aggregates and other properties; once for each row."""

    def __init__(self, getter: Callable[[Any], Any], setter: Callable[[Any, Any], None] | None = None) -> None:
        self.getter, self.set_value = getter, setter
        self.name = getattr(getter, "__name__", "")
        self.__doc__ = getter.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def setter(self, setter: Callable[[Any, Any], None]) -> _ViewProperty:
        """Makes the property writable: the setter changes documents of the store."""
        return type(self)(self.getter, setter)

    def __get__(self, view: ViewModel | None, owner: type) -> Any:
        if view is None:
            return self
        value = view.__dict__[self.name] = self.getter(view)
        return value


if TYPE_CHECKING:
    view_property = property
else:
    view_property = _ViewProperty


class ViewOptions(NamedTuple):
    """What a class statement said of a view."""

    collection: str | None
    path: str | None
    case: str | None
    revision: str | int | None


class ViewModel:
    """Base of the classes for the rows of one view.

    Class keywords: `collection` (rows lie at `collection/{root id or key}`) or `path`, `case` (`"camel"` or
    `"snake"`: how names are stored), `revision` (another value forces a rebuild).

    Attributes:
        store: What the row is made of.
        key: The typed key of a grouped row; for rooted views the root's id.
        path: The row's path, `meeting_sessions/m1`.
        doc_id: Its last segment.
    """

    __boiler__: ClassVar[ViewOptions] = ViewOptions(None, None, None, None)

    store: Any
    key: Any
    path: str
    doc_id: str

    def __init_subclass__(
        cls,
        *,
        collection: str | None = None,
        path: str | None = None,
        case: str | None = None,
        revision: str | int | None = None,
        **unknown: Any,
    ) -> None:
        if unknown:
            name = next(iter(unknown))
            raise TypeError(
                f"{cls.__name__}: {name}= is no class keyword of a view: write collection, path, case or revision"
            )
        cls.__boiler__ = ViewOptions(collection, path, case or cls.__boiler__.case, revision)
        super().__init_subclass__()

    @classmethod
    def declared_properties(cls) -> dict[str, _ViewProperty | AggregateDeclaration]:
        """View properties and aggregates in the order of their declaration, those of base views first."""
        declared: dict[str, _ViewProperty | AggregateDeclaration] = {}
        for base in reversed(cls.__mro__):
            for name, value in base.__dict__.items():
                if isinstance(value, (_ViewProperty, AggregateDeclaration)):
                    declared[name] = value
                elif name in declared:
                    del declared[name]
        return declared

    @classmethod
    def declared_store(cls) -> type[Store] | None:
        """The class `Store` in the view, or None."""
        store = getattr(cls, "Store", None)
        return store if isinstance(store, type) and issubclass(store, Store) else None
