"""Transactions: documents are read, assigned to, created and deleted, and committed together.

with bb.transaction("documents:app.db") as tx:
    meeting = tx.get(Meeting, "m1")
    meeting.status = "closed"          # only this field is written
print(tx.versions)                     # {"meetings/m1": 1700000000000000}

A block can't run twice. If something that it read was changed before its commit, it raises `Conflict`, and nothing was
written. `run_transaction` repeats a function instead, up to `MAX_RETRIES` times.
"""

from __future__ import annotations

import os
import random
import secrets
import string
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any, TypeVar

import msgspec

from boiler_beam.connectors import DocumentStore, open_store
from boiler_beam.connectors.field_values import FieldTransform
from boiler_beam.connectors.stores import (
    Attempt,
    FieldNames,
    Filter,
    Precondition,
    Write,
    matches,
    put_at,
    written_fields,
)
from boiler_beam.errors import Conflict, InvalidDocument, UsageError, WriteRefused
from boiler_beam.events import Change
from boiler_beam.models import CollectionPattern, DocumentType, DomainModel, base_model
from boiler_beam.values import Database, Ref, decode_fields
from boiler_beam.writing.configured import configured_store
from boiler_beam.writing.writable import changes, model_of, stored_values, writable

__all__ = ["MAX_RETRIES", "Transaction", "run_transaction", "transaction"]

MAX_RETRIES = 10
"""How often a transaction is repeated after a conflict."""
_LEAST_SECONDS, _MOST_SECONDS = 0.02, 2.0
_ID = string.ascii_letters + string.digits
_ID_LENGTH = 20
_NULL = msgspec.Raw(b"null")

ModelT = TypeVar("ModelT", bound=DomainModel)
T = TypeVar("T")


class _Known:
    """A document of a transaction.

    Attributes:
        change: As it was read; None if it was not.
        raw: Its stored fields in JSON form; None if there was none.
        document: What users see and assign to; None if it is deleted or missing.
        before: The stored form of that document when it was read.
        precondition: What must be so at the commit.
        is_created: Whether the whole document is written.
        is_deleted: Whether it is to be deleted.
    """

    def __init__(self, change: Change | None = None) -> None:
        self.change = change
        self.raw: dict[str, Any] | None = None
        self.precondition = Precondition()
        if change is not None and not change.is_deleted:
            self.raw = msgspec.json.decode(bytes(change.fields))
            self.precondition = Precondition(version=change.version)
        self.document: DomainModel | None = None
        self.before: dict[str, Any] | None = None
        self.is_created = self.is_deleted = False


class Transaction:
    """What a transaction reads and writes; see `transaction`.

    Args:
        attempt: The attempt of the store.
        database: The database of its documents.

    Attributes:
        database: The same.
        versions: The version of each written document, by path; empty before the commit.
    """

    def __init__(self, attempt: Attempt, database: Database) -> None:
        self._attempt, self.database = attempt, database
        self._known: dict[str, _Known] = {}
        self._codecs: dict[type[DomainModel], DocumentType] = {}
        self.versions: dict[str, int] = {}

    # Reading ----------------------------------------------------------------------------------------------------------

    def get(self, model: type[ModelT], doc_id: str | Ref[ModelT]) -> ModelT | None:
        """Returns a document that can be assigned to; None if there is none.

        The same object is returned every time.

        Args:
            model: Its class.
            doc_id: Its id, its path if the collection is not flat, or a reference to it.

        Raises:
            InvalidDocument: Its fields do not fit the class.
        """
        path = self.path(model, doc_id)
        self._read([path])
        return self._document(model, path)

    def get_all(self, model: type[ModelT], doc_ids: Iterable[str | Ref[ModelT]]) -> dict[str, ModelT]:
        """Returns several documents by id; missing ones are left out. They are read in one call."""
        paths = [self.path(model, one) for one in doc_ids]
        self._read(paths)
        found = {path: self._document(model, path) for path in paths}
        return {path.rpartition("/")[2]: one for path, one in found.items() if one is not None}

    def path(self, model: type[DomainModel], doc_id: str | Ref[Any]) -> str:
        """Returns the path of a document.

        Raises:
            UsageError: It is not one of the model's collection.
        """
        pattern = model.__boiler__.collection
        assert pattern is not None
        path = doc_id.path if isinstance(doc_id, Ref) else doc_id
        if "/" not in path and pattern.is_flat:
            path = f"{pattern.text}/{path}"
        if pattern.match(path) is None:
            raise UsageError(
                f"{model.__name__}: expected the id or path of a document in {pattern.text!r}, got {path!r}; "
                "fix: name one of that collection"
            )
        return path

    def _read(self, paths: Iterable[str]) -> None:
        missing = [path for path in dict.fromkeys(paths) if path not in self._known]
        for change in self._attempt.get(missing) if missing else ():
            self._known[change.path] = _Known(change)

    def _codec(self, model: type[DomainModel]) -> DocumentType:
        base = base_model(model)
        if base not in self._codecs:
            self._codecs[base] = DocumentType(base, [], self.database)
        return self._codecs[base]

    def _document(self, model: type[ModelT], path: str) -> ModelT | None:
        known = self._known[path]
        if known.document is None and known.change is not None and known.raw is not None and not known.is_deleted:
            document = self._codec(model).decode(path, known.change.version, known.change.fields)
            known.document = writable(document)
            known.before = _stored(known.document)
        if known.document is not None and not isinstance(known.document, model):
            raise UsageError(
                f"{path}: expected a {model.__name__}, got a {model_of(known.document).__name__}; fix: get that"
            )
        return known.document

    # Writing ----------------------------------------------------------------------------------------------------------

    def create(self, document: ModelT, doc_id: str | None = None) -> ModelT:
        """Adds a document, which must not exist; returns it in a form that can be assigned to.

        Args:
            document: The document, `User(first_name="Ann")`.
            doc_id: Its id; by default its `path`, or else a random id of 20 letters and digits.
        """
        model = model_of(document)
        path = doc_id or document.path
        if not path:
            path = "".join(secrets.choice(_ID) for _ in range(_ID_LENGTH))
        path = self.path(model, path)
        known = self._known.setdefault(path, _Known())
        if known.document is not None or (known.raw is not None and not known.is_deleted):
            raise WriteRefused("exists", f"{path}: expected no such document, got one; fix: another id")
        if not known.is_deleted:
            known.precondition = Precondition(exists=False)
        created = known.document = writable(msgspec.structs.replace(document, path=path))
        known.is_created, known.is_deleted, known.before = True, False, None
        return created

    def save(self, document: ModelT) -> ModelT:
        """Writes all fields of a document that was not got in this transaction, whether it exists or not.

        Stored fields that its class does not know stay. A document that was got needs no `save`: what is assigned to it
        is written.
        """
        path = self.path(model_of(document), document.path)
        known = self._known.setdefault(path, _Known())
        if known.document is not document:
            known.document, known.before, known.is_deleted = writable(document), None, False
        return known.document

    def delete(self, document: DomainModel | Ref[Any]) -> None:
        """Deletes a document."""
        path = document.path
        known = self._known.setdefault(path, _Known())
        if known.precondition.exists is False:  # it was created in this transaction
            self._known[path] = _Known(known.change)
        else:
            known.document, known.is_deleted, known.is_created = None, True, False

    def writes(self) -> list[Write]:
        """Returns what is written at the commit.

        Raises:
            WriteRefused: A document does not fit its class.
        """
        return [write for path, known in self._known.items() if (write := self._write(path, known)) is not None]

    def _write(self, path: str, known: _Known) -> Write | None:
        if known.is_deleted:
            is_absent = known.change is not None and known.raw is None
            return None if is_absent else Write(path, None, precondition=known.precondition)
        if known.document is None:
            return None
        if known.document.path != path:
            raise WriteRefused(
                "not_writable", f"{path}: expected its path to stay, got {known.document.path!r}", "path"
            )
        after = _stored(known.document)
        found: dict[FieldNames, Any] = {(name,): value for name, value in after.items()}
        if known.before is not None:
            found = changes(known.before, after)
        if known.before is not None and not found:
            return None
        found = _whole(found, known.raw or {}, after)
        transforms = {names: one for names, one in _transforms(found) if one.kind != "delete"}
        fields: dict[str, Any] = {}
        for names, value in found.items():
            kept = _without_transforms(value)
            if kept is not None:
                put_at(fields, names, kept[0])
        mask = None if known.is_created else [names for names in found if names not in transforms]
        write = Write(path, fields, mask, transforms, known.precondition)
        self._check(known, write)
        return write

    def _check(self, known: _Known, write: Write) -> None:
        """Checks that the document still fits its class after the write."""
        document = known.document
        assert document is not None
        fields = written_fields(known.raw, write, time.time_ns() // 1000)
        try:
            self._codec(model_of(document)).decode(write.path, 0, msgspec.json.encode(fields))
        except InvalidDocument as error:
            message = f"{write.path}: expected values that fit their fields, got: {error}; fix: correct the value"
            raise WriteRefused("invalid_value", message, _field_in(str(error))) from error

    # For others -------------------------------------------------------------------------------------------------------

    def current(self, paths: Sequence[str]) -> Iterator[Change]:
        """Yields documents as they are with what this transaction writes; a deletion for each missing one."""
        self._read(paths)
        for path in paths:
            yield self._overlaid(path)

    def writable(self, model: type[ModelT], path: str) -> ModelT | None:
        """Returns the form of a document that can be assigned to, by its path."""
        self._read([path])
        return self._document(model, path)

    def query(self, collection: str, filters: Sequence[Filter]) -> Iterator[Change]:
        """Yields the documents of a collection that match filters, with what this transaction writes."""
        for change in self._attempt.query(collection, filters):
            if change.path not in self._known:
                self._known[change.path] = _Known(change)
        pattern = CollectionPattern(collection)
        for path in list(self._known):
            if pattern.match(path) is None and path.rpartition("/")[0] != collection:
                continue
            change = self._overlaid(path)
            if not change.is_deleted and matches(decode_fields(bytes(change.fields)), filters):
                yield change

    def _overlaid(self, path: str) -> Change:
        known = self._known[path]
        read = known.change or Change(path, 0, _NULL)
        write = self._write(path, known)
        if write is None:
            return read
        fields = written_fields(known.raw, write, time.time_ns() // 1000)
        return Change(path, read.version + 1, msgspec.Raw(msgspec.json.encode(fields)))

    def commit(self) -> dict[str, int]:
        """Writes everything; returns the versions by path. `transaction` calls it at the end of its block."""
        self.versions = self._attempt.commit(self.writes())
        return self.versions


def _stored(document: DomainModel) -> dict[str, Any]:
    """Returns the stored form of a document; that of a subclass names its class."""
    model = model_of(document)
    try:
        fields = stored_values(document)
    except (TypeError, ValueError, AttributeError) as error:
        message = f"{document.path}: expected Firestore values, got: {error}; fix: correct the value"
        raise WriteRefused("invalid_value", message) from error
    if model is not base_model(model):
        fields["obj_type"] = model.__boiler__.obj_type or model.__name__
    return fields


def _whole(found: Mapping[FieldNames, Any], raw: Mapping[str, Any], after: Mapping[str, Any]) -> dict[FieldNames, Any]:
    """Replaces changes within a map that is not stored (it has an old name, or is a default) by the whole map."""
    whole: dict[FieldNames, Any] = {}
    for names, value in found.items():
        stored: Any = raw
        new: Any = after
        for index, name in enumerate(names[:-1]):
            stored = stored.get(name) if isinstance(stored, dict) else None
            new = new[name]
            if not isinstance(stored, dict):
                whole[names[: index + 1]] = new
                break
        else:
            whole[names] = value
    return whole


def _transforms(found: Mapping[FieldNames, Any]) -> Iterator[tuple[FieldNames, FieldTransform]]:
    for names, value in found.items():
        if isinstance(value, FieldTransform):
            yield names, value
        elif type(value) is dict:
            yield from _transforms({(*names, name): one for name, one in value.items()})


def _without_transforms(value: Any) -> tuple[Any] | None:
    """Returns a value without what the store computes; None if nothing is left to write."""
    if isinstance(value, FieldTransform):
        return None
    if type(value) is dict:
        kept = {name: _without_transforms(one) for name, one in value.items()}
        return ({name: one[0] for name, one in kept.items() if one is not None},)
    if type(value) is list and any(isinstance(one, FieldTransform) for one in value):
        raise WriteRefused("invalid_value", f"expected plain values in a list, got {value!r}; fix: assign to the field")
    return (value,)


def _field_in(message: str) -> str | None:
    """Returns the field that a message of msgspec names: `... - at `$.firstName``."""
    _, _, place = message.rpartition("`$.")
    if place and place != message:
        return place.partition("`")[0]
    _, _, named = message.rpartition("required field `")
    return named.partition("`")[0] if named != message else None


# Blocks and functions -------------------------------------------------------------------------------------------------


@contextmanager
def _opened(store: str | DocumentStore | None) -> Iterator[DocumentStore]:
    if isinstance(store, DocumentStore):
        yield store
        return
    with closing(open_store(store if store is not None else configured_store(os.environ))) as opened:
        yield opened


@contextmanager
def transaction(store: str | DocumentStore | None = None) -> Iterator[Transaction]:
    """Opens a transaction, which is committed at the end of the block; an exception in it writes nothing.

    Args:
        store: A URI (`firestore:PROJECT`, `documents:PATH`) or an opened store; by default the configured one: the
            environment variable `BOILER_BEAM_STORE`, or `store` in `[tool.boiler_beam]` of pyproject.toml.

    Raises:
        Conflict: What was read was changed meanwhile; nothing was written.
        WriteRefused: A document does not fit its class, or was to be created and exists.
        UsageError: The store can't be opened, or holds rows.
    """
    with _opened(store) as opened, closing(opened.begin()) as attempt:
        tx = Transaction(attempt, opened.database)
        yield tx
        tx.commit()


def run_transaction(
    function: Callable[[Transaction], T],
    store: str | DocumentStore | None = None,
    *,
    retries: int = MAX_RETRIES,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[T, dict[str, int]]:
    """Runs a function in a transaction, again after each conflict.

    Args:
        function: Reads and writes by the transaction that it is given. It may run several times, so it must have no
            other effects.
        store: As for `transaction`.
        retries: How often it is repeated.
        sleep: Sleeps for some seconds.

    Returns:
        What the function returned, and the version of each written document, by path.

    Raises:
        Conflict: There was a conflict in every attempt; nothing was written.
    """
    with _opened(store) as opened:
        for number in range(retries + 1):
            try:
                with closing(opened.begin()) as attempt:
                    tx = Transaction(attempt, opened.database)
                    result = function(tx)
                    return result, tx.commit()
            except Conflict:
                if number == retries:
                    raise
                sleep(min(_MOST_SECONDS, _LEAST_SECONDS * 2**number) * random.uniform(0.5, 1))
    raise AssertionError("a loop that returns or raises")
