"""Writes rows: sets properties by their setters, creates rows by `new`, in one transaction each.

    update: the row's documents are read -> who may, and is it the row that the client saw -> setters -> commit
    create: `new` creates documents -> the new row is rendered -> who may -> commit

A user is None for a trusted program, for which nothing is checked; a user's id; or an object with `principals`: all
names by which `editors()` may mean them (their id, `"anyone"`, `"signed in"`, roles). A view without `editors()` can
be written by trusted programs only.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from boiler_beam.connectors import DocumentStore, open_store
from boiler_beam.engine.computed import ComputedView
from boiler_beam.engine.fresh import read_row
from boiler_beam.errors import BoilerBeamError, Rejected, RenderError, UsageError, WriteRefused
from boiler_beam.events import DeadLetter, EncodedRow, Stamp, View
from boiler_beam.plan import Plan, Root, compile_plan
from boiler_beam.raised import raised
from boiler_beam.steps.functions import group_ids
from boiler_beam.steps.newest import NewestVersions
from boiler_beam.steps.row import Copy
from boiler_beam.values import Ref
from boiler_beam.views import ViewModel
from boiler_beam.views.visibility import ANYONE, SIGNED_IN
from boiler_beam.writing.assigned import Argument, arguments_of, converted, named, setters_of
from boiler_beam.writing.row import TransactionSource, writable_row
from boiler_beam.writing.transaction import Transaction, run_transaction

__all__ = ["Principals", "Writer", "Written", "apply_update"]


class Principals(Protocol):
    """A user, by all names that `editors()` may yield for them."""

    @property
    def principals(self) -> frozenset[str]:
        """Their id, `"anyone"`, `"signed in"`, and roles as `boiler_beam.role` writes them."""


User = str | Principals | None


class Written(msgspec.Struct, frozen=True):
    """What a write did.

    Attributes:
        id: The row's id.
        versions: The version of each written document, in microseconds, by path.
    """

    id: str
    versions: dict[str, int]


class _View:
    """What is known of a view."""

    def __init__(self, model: type[ViewModel], store: DocumentStore) -> None:
        self.plan: Plan = compile_plan([model], store.database)
        (self.view,) = self.plan.views
        self.setters = setters_of(self.view)


class Writer:
    """Writes the rows of some views. It may be used by several threads.

    Args:
        views: The view classes.
        store: A URI (`firestore:PROJECT`, `documents:PATH`) or an opened store of their documents.
        rows: Returns a row as readers see it, by its view and path; None if there is none. With it `if_match` is exact:
            the row must have that stamp, and must be what the documents make now. Without it, no document of the row
            may be newer than the stamp.

    Raises:
        DeclarationError: A class can't be compiled.
        UsageError: The store can't be opened, or holds rows.
    """

    def __init__(
        self,
        views: Sequence[type[ViewModel]],
        store: str | DocumentStore,
        rows: Callable[[View, str], EncodedRow | None] | None = None,
    ) -> None:
        self.store = open_store(store) if isinstance(store, str) else store
        self._rows = rows
        self._views = {view.__name__: _View(view, self.store) for view in views}

    def update(
        self, view: str, id: str, fields: Mapping[str, Any], if_match: Stamp | None = None, user: User = None
    ) -> Written:
        """Sets properties of a row, in the given order, in one transaction.

        Args:
            view: The view's name.
            id: The row's id; the path of a copy if the row has several.
            fields: The new values by attribute or stored name: Firestore values, or JSON as in document files, with
                times also as RFC 3339 text, and references as paths.
            if_match: The stamp of the row that the client saw; another row is not changed. None: any row.
            user: Who writes; see the module.

        Raises:
            WriteRefused: Nothing was written; its `code` and `field` say why.
            Conflict: The documents were changed by others all the time.
        """
        known = self._known(view)
        setters = [(name, *self._setter(known, name, value)) for name, value in fields.items()]

        def change(tx: Transaction) -> str:
            row_id, row = self._row(known, tx, id, if_match, user)
            for name, setter, value in setters:
                _called(f"{view}.{name}", name, setter, row, value)
            return row_id

        row_id, versions = run_transaction(change, self.store)
        return Written(row_id, versions)

    def create(self, view: str, fields: Mapping[str, Any], user: User = None) -> Written:
        """Calls `new` of a view in one transaction.

        Args:
            view: The view's name.
            fields: Its arguments, by their names or these names as rows would store them; values as for `update`.
            user: Who writes: they must be among the editors of the new row.

        Raises:
            WriteRefused: Nothing was written; its `code` and `field` say why.
            Conflict: The documents were changed by others all the time.
        """
        known = self._known(view)
        new = known.view.model.declared_method("new")
        if new is None or not inspect.ismethod(new):
            raise WriteRefused(
                "not_creatable", f"{view}: expected a classmethod new(cls, tx, ...), got none; fix: write one"
            )
        values = self._arguments(known, new, fields)

        def create(tx: Transaction) -> str:
            made = _called(f"{view}.new", None, lambda: new(tx, **values))
            row_id = self._row_id(known, made)
            if user is not None:
                copies, _, _ = self._computed(known, tx, row_id)
                _check_editor(known, copies, user)
            return row_id

        row_id, versions = run_transaction(create, self.store)
        return Written(row_id, versions)

    def writable(self, view: str) -> list[str]:
        """Returns the stored names of the properties that have setters."""
        return [one.stored for one in self._known(view).setters.values() if one.set_value is not None]

    def close(self) -> None:
        """Closes the store."""
        self.store.close()

    # What is asked for ------------------------------------------------------------------------------------------------

    def _known(self, view: str) -> _View:
        known = self._views.get(view)
        if known is None:
            names = ", ".join(self._views) or "none"
            raise WriteRefused("not_found", f"{view}: expected a view, got an unknown name; fix: name one of {names}")
        return known

    def _setter(self, known: _View, name: str, value: Any) -> tuple[Any, Any]:
        view, found = known.view, named(known.setters, name)
        can = ", ".join(one.stored for one in known.setters.values() if one.set_value is not None) or "none"
        if found is None:
            message = f"{view.name}.{name}: expected a property of the view, got another name; fix: set one of: {can}"
            raise WriteRefused("unknown_field", message, name)
        if found.set_value is None:
            message = f"{view.name}.{name}: expected a property with a setter, got one without; fix: set one of: {can}"
            raise WriteRefused("not_writable", message, name)
        database = self.store.database
        where = f"{view.name}.{name}"
        return found.name, converted(where, name, value, found.annotation, view.case, database)

    def _arguments(self, known: _View, new: Callable[..., Any], fields: Mapping[str, Any]) -> dict[str, Any]:
        view, values = known.view, {}
        arguments = arguments_of(new, view.case)
        for name, value in fields.items():
            found = Argument(name, name) if arguments is None else named(arguments, name)
            if found is None:
                can = ", ".join(one.stored for one in arguments.values()) if arguments else "none"
                message = (
                    f"{view.name}.{name}: expected an argument of new(), got another name; fix: give one of: {can}"
                )
                raise WriteRefused("unknown_field", message, name)
            where = f"{view.name}.{name}"
            values[found.name] = converted(where, name, value, found.annotation, view.case, self.store.database)
        for one in (arguments or {}).values():
            if one.is_required and one.name not in values:
                message = f"{view.name}.{one.stored}: expected a value, got none; fix: give it"
                raise WriteRefused("invalid_value", message, one.stored)
        return values

    # The row ----------------------------------------------------------------------------------------------------------

    def _row(self, known: _View, tx: Transaction, id: str, if_match: Stamp | None, user: User) -> tuple[str, ViewModel]:
        """Reads a row, checks who may write it and whether it is the one that the client saw."""
        view, paths = known.view, known.view.paths
        is_path = "/" in id and view.target.matches(id) and paths.is_unique
        row_id = paths.row_id_of(id) if is_path else id
        copies, documents, versions = self._computed(known, tx, row_id)
        if not copies and user is None:
            raise WriteRefused("not_found", f"{view.name} {id}: expected a row, got none; fix: check its id")
        if user is not None:
            _check_editor(known, copies, user)
        copy = next((one for one in copies if one.path == id), copies[0])
        if if_match is not None:
            self._check_stamp(known, copy, if_match, versions)
        assert copy.fields is not None
        key = row_id.rpartition("/")[2]
        if not isinstance(view.root, Root):
            (member, *_) = documents(view.root.name).values()
            key = group_ids(view.root, member)[row_id]
        return row_id, writable_row(view, key, copy.path, copy.fields, documents, tx.writable)

    def _computed(self, known: _View, tx: Transaction, row_id: str) -> tuple[Sequence[Copy], Any, list[int]]:
        """Returns the copies of a row, its documents by edge, and their versions."""
        letters: list[DeadLetter] = []
        try:
            newest = NewestVersions(known.plan, letters.append)
            read_row(known.plan, row_id, TransactionSource(tx), newest)
        except (RenderError, ValueError) as error:
            raise WriteRefused("not_found", f"{known.view.name} {row_id}: expected a row's id, got: {error}") from error
        computed = ComputedView(known.plan.planned_views[0], newest, letters.append)
        copies = computed.copies(row_id)
        if any(copy.fields is None or copy.tainted_by for copy in copies):
            why = "; ".join(f"{letter.about}: {letter.message}" for letter in letters) or "a document is invalid"
            raise BoilerBeamError(
                f"{known.view.name} {row_id}: expected documents that make a row, got: {why}; fix: correct it"
            )
        documents = computed.documents(row_id)
        versions = [one.version for edge in known.view.edges for one in documents(edge.name).values()] if copies else []
        return copies, documents, versions

    def _row_id(self, known: _View, made: Any) -> str:
        view = known.view
        if isinstance(made, str):
            return made
        if isinstance(made, Ref) and isinstance(view.root, Root):
            return view.row_id(made.path)
        if isinstance(made, view.root.model):
            if isinstance(view.root, Root):
                return view.row_id(made.path)
            for row_id in group_ids(view.root, made):
                return row_id
        raise UsageError(
            f"{view.name}.new: expected the document or the id of the new row, got {made!r}; "
            f"fix: return the {view.root.model.__name__} that it created"
        )

    def _check_stamp(self, known: _View, copy: Copy, if_match: Stamp, versions: list[int]) -> None:
        if self._rows is None:
            is_same = max(versions, default=0) <= if_match.version
        else:
            row = self._rows(known.view.target, copy.path)
            is_same = row is not None and row.stamp == if_match and row.fields == copy.fields
        if not is_same:
            raise WriteRefused(
                "stale", f"{copy.path}: expected the row that was read, got a newer one; fix: read it again"
            )


def _check_editor(known: _View, copies: Sequence[Copy], user: str | Principals) -> None:
    """Raises an error if the user is not among a row's editors; the same if there is no row."""
    names = {user, ANYONE, SIGNED_IN} if isinstance(user, str) else user.principals
    editors = {name for copy in copies for name in msgspec.json.decode(copy.fields or b"{}").get("_editors", ())}
    if editors.isdisjoint(names):
        raise WriteRefused("forbidden", f"{known.view.name}: not allowed")


def _called(where: str, name: str | None, function: Any, row: Any = None, value: Any = None) -> Any:
    """Calls `new`, or sets a property; a user's ValueError refuses the write."""
    try:
        if row is None:
            return function()
        return setattr(row, function, value)
    except Rejected as error:
        raise WriteRefused("rejected", str(error), error.field or name) from error
    except BoilerBeamError:
        raise
    except ValueError as error:
        raise WriteRefused("rejected", str(error), name) from error
    except Exception as error:  # a mistake in the user's code, with its place
        raise BoilerBeamError(f"{where} raised {raised(error)}; nothing was written; fix: correct it") from error


def apply_update(
    view: type[ViewModel],
    row_id: str,
    fields: Mapping[str, Any],
    store: str | DocumentStore,
    user: User = None,
) -> Written:
    """Sets properties of one row; see `Writer.update`, which is faster for many."""
    writer = Writer([view], store)
    try:
        return writer.update(view.__name__, row_id, fields, user=user)
    finally:
        if isinstance(store, str):
            writer.close()
