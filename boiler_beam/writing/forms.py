"""Forms: documents by which clients ask for a write, without a server in between.

class AttendanceForm(bb.Form, collection="attendance_forms", author="user"):
    user: str
    ticket: Ref[Ticket]
    attends: bool

    def apply(self, tx: bb.Transaction) -> None:
        ticket = tx.get(Ticket, self.ticket)
        if ticket is None or ticket.user.doc_id != self.user:
            raise bb.Rejected("that is not your ticket", field="ticket")
        ticket.attendance = self.attends

A client creates the document. A program that follows the collection calls `apply`, and commits what it wrote together
with the form's outcome (or the form's deletion). So a form has its effect exactly once, however often its event comes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Literal, NamedTuple

import msgspec

from boiler_beam.connectors import DocumentStore, Source, open_store
from boiler_beam.connectors.field_values import SERVER_TIME, FieldTransform
from boiler_beam.connectors.stores import Precondition, Write
from boiler_beam.errors import BoilerBeamError, Conflict, InvalidDocument, UnknownOutcome, UsageError, WriteRefused
from boiler_beam.events import Change, DeadLetter
from boiler_beam.models import CollectionPattern, DomainModel, Struct, base_model, field
from boiler_beam.models.declare import ModelMeta
from boiler_beam.raised import raised
from boiler_beam.writing.transaction import MAX_RETRIES, Transaction, run_transaction

__all__ = ["Applied", "Form", "FormOptions", "FormRunner", "FormsReport", "Outcome", "applying_forms", "follow_forms"]

OUTCOME = "_outcome"
"""The stored field of a form's outcome."""


class FormOptions(NamedTuple):
    """The options in the class statement of a form.

    Attributes:
        after: What happens to a form that was applied: its outcome is written, or it is deleted.
        author: The field, or placeholder of the collection, that holds the id of the user who may create and read the
            form (a `Ref` to a document with that id will do); None: security rules let no client create it.
    """

    after: Literal["mark", "delete"] = "mark"
    author: str | None = None


class FormMeta(ModelMeta):
    """The metaclass that also reads `after=` and `author=`."""

    __form__: FormOptions

    def __new__(
        mcls,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        *,
        after: Literal["mark", "delete"] | None = None,
        author: str | None = None,
        **options: Any,
    ) -> FormMeta:
        """Creates the class.

        Raises:
            UsageError: `after=` is something else.
        """
        if after not in (None, "mark", "delete"):
            raise UsageError(f"{name}: expected after='mark' or 'delete', got {after!r}; fix: write one of the two")
        made: FormMeta = super().__new__(mcls, name, bases, namespace, **options)  # type: ignore[assignment]
        inherited = next((base.__form__ for base in bases if isinstance(base, FormMeta)), FormOptions())
        made.__form__ = FormOptions(after or inherited.after, author or inherited.author)
        return made


class Outcome(Struct, case="camel"):
    """What became of a form: stored in its field `_outcome`.

    Attributes:
        state: Whether its writes were made.
        at: When.
        error: Why it was rejected.
        field: The field that this is about.
    """

    state: Literal["done", "rejected"]
    at: datetime | None = None
    error: str | None = None
    field: str | None = None


class Form(DomainModel, metaclass=FormMeta):
    """Base of the classes of forms. Class keywords: those of a domain model, `after` and `author`.

    Attributes:
        outcome: What became of it; None before.
    """

    __boiler_base__: ClassVar[bool] = True

    outcome: Outcome | None = field(name=OUTCOME, default=None)

    def apply(self, tx: Transaction) -> None:
        """Writes domain documents.

        It may run several times, of which one is committed, so it must have no other effects.

        Raises:
            Rejected, ValueError: The form is rejected; the message is written to it.
        """
        raise NotImplementedError(f"{type(self).__name__}: expected a method apply(self, tx), got none; fix: write it")


class Applied(msgspec.Struct, frozen=True):
    """What became of a form.

    Attributes:
        path: Its path.
        state: `done` or `rejected` now; `known`: it has an outcome, or is gone.
        error: Why it was rejected.
        versions: The version of each written document, by path.
    """

    path: str
    state: Literal["done", "rejected", "known"]
    error: str | None = None
    versions: dict[str, int] = {}


def _has_outcome(form: Change) -> bool:
    """Whether a stored form has an outcome; a program that creates one may store null."""
    return msgspec.json.decode(bytes(form.fields)).get(OUTCOME) is not None


class _Unapplied(Exception):
    """A form that is rejected."""

    def __init__(self, message: str, field: str | None) -> None:
        super().__init__(message)
        self.field = field


def apply_form(
    model: type[Form], path: str, store: DocumentStore, *, sleep: Callable[[float], None] = time.sleep
) -> Applied:
    """Applies the form at a path, unless it has an outcome.

    Args:
        model: The class of its collection.
        path: Its path.
        store: The store of the form and of the documents that it writes.
        sleep: Sleeps for some seconds.

    Raises:
        Conflict: The documents were changed by others all the time.
        BoilerBeamError: The store can't be reached; nothing was written, or it is unknown. Apply it again.
        Exception: What `apply` raised, if it is not a `Rejected` or `ValueError`; nothing was written.
    """

    def apply(tx: Transaction) -> bool:
        try:
            form = tx.get(model, path)
        except InvalidDocument as error:
            raise _Unapplied(str(error), None) from error
        if form is None or form.outcome is not None:
            return False
        try:
            form.apply(tx)
        except (WriteRefused, ValueError) as error:  # another document that is invalid is not the client's mistake
            raise _Unapplied(str(error), getattr(error, "field", None)) from error
        if type(form).__form__.after == "delete":
            tx.delete(form)
        else:
            form.outcome = Outcome("done", at=SERVER_TIME)
        return True

    for is_last in (False, False, True):
        try:
            was_open, versions = run_transaction(apply, store, sleep=sleep)
        except (_Unapplied, WriteRefused) as error:  # or what it wrote does not fit, or exists
            return _reject(path, store, str(error), error.field)
        except UnknownOutcome:  # if it was applied, the form has an outcome
            if is_last:
                raise
        else:
            return Applied(path, "done" if was_open else "known", versions=versions)
    raise AssertionError("a loop that returns or raises")


def _reject(path: str, store: DocumentStore, error: str, about: str | None) -> Applied:
    """Writes an error to a form that has no outcome. The form itself may be malformed, so it is not decoded."""
    outcome = {"state": "rejected", "error": error, "field": about}
    transform: FieldTransform = SERVER_TIME
    for number in range(MAX_RETRIES + 1):
        with closing(store.begin()) as attempt:
            (form,) = attempt.get([path])
            if form.is_deleted or _has_outcome(form):
                return Applied(path, "known")
            at = Precondition(version=form.version)
            write = Write(path, {OUTCOME: outcome}, [(OUTCOME,)], {(OUTCOME, "at"): transform}, at)
            try:
                return Applied(path, "rejected", error, attempt.commit([write]))
            except (Conflict, UnknownOutcome):
                if number == MAX_RETRIES:
                    raise
    raise AssertionError("a loop that returns or raises")


# Following ------------------------------------------------------------------------------------------------------------


@dataclass
class FormsReport:
    """Counts of a run.

    Attributes:
        done: Forms that were applied.
        rejected: Forms that were rejected.
        failed: Forms whose `apply` raised something else; they are tried again at the next start.
    """

    done: int = 0
    rejected: int = 0
    failed: int = 0


class FormRunner:
    """Applies forms of some classes as their documents are observed.

    Args:
        forms: The classes; a subclass belongs to the collection of its base.
        store: The store of forms and documents.
        refuse: Takes a dead letter for each form whose `apply` raised something else than a rejection.
        sleep: Sleeps for some seconds.

    Raises:
        UsageError: A class has no collection.
    """

    def __init__(
        self,
        forms: Sequence[type[Form]],
        store: DocumentStore,
        refuse: Callable[[DeadLetter], None],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.store, self.refuse, self._sleep = store, refuse, sleep
        self.report = FormsReport()
        bases: dict[str, type[Form]] = {}
        for form in forms:
            base: Any = base_model(form)
            if base.__boiler__.collection is None:
                raise UsageError(f"{form.__name__}: expected a collection, got none; fix: write collection=")
            bases[base.__boiler__.collection.text] = base
        self._patterns = [(CollectionPattern(text), base) for text, base in bases.items()]
        self.collections = list(bases)

    def _model(self, path: str) -> type[Form] | None:
        return next((one for pattern, one in self._patterns if pattern.match(path) is not None), None)

    def take(self, change: Change) -> Applied | None:
        """Applies a form that was observed; returns None if the document is no form, is gone, or has an outcome."""
        model = self._model(change.path)
        if model is None or change.is_deleted or _has_outcome(change):
            return None
        return self.apply(model, change.path, change.version)

    def take_path(self, path: str) -> Applied | None:
        """Applies the form at a path; returns None if no class has such forms.

        Raises:
            Exception: What `apply` raised, so that its event is delivered again.
        """
        model = self._model(path)
        return None if model is None else apply_form(model, path, self.store, sleep=self._sleep)

    def apply(self, model: type[Form], path: str, version: int) -> Applied | None:
        """Applies one form; one whose `apply` fails is a dead letter."""
        try:
            applied = apply_form(model, path, self.store, sleep=self._sleep)
        except BoilerBeamError as error:
            if not isinstance(error, (InvalidDocument, Conflict)):
                raise
            self._failed(path, version, str(error))
            return None
        except Exception as error:  # a mistake in the user's code must not stop other forms
            self._failed(path, version, f"{model.__name__}.apply raised {raised(error)}")
            return None
        self.report.done += applied.state == "done"
        self.report.rejected += applied.state == "rejected"
        return applied

    def _failed(self, path: str, version: int, message: str) -> None:
        self.report.failed += 1
        self.refuse(DeadLetter(stage="form", code="form_failed", message=message, path=path, version=version))


def follow_forms(
    forms: Sequence[type[Form]],
    source: Source,
    store: str | DocumentStore,
    *,
    refuse: Callable[[DeadLetter], None],
    should_stop: Callable[[], bool] = lambda: False,
    on_report: Callable[[FormsReport], None] = lambda report: None,
) -> FormsReport:
    """Applies the forms that a source yields, until it ends.

    No position is kept: a source that begins again yields forms that have an outcome, and these are passed over.

    Args:
        forms: The classes.
        source: The source of the forms; `following()` of a store's source does not end.
        store: A URI or an opened store.
        refuse: Takes dead letters.
        should_stop: Asked after each batch.
        on_report: Called after each batch.
    """
    with closing(open_store(store)) if isinstance(store, str) else _kept(store) as opened:
        runner = FormRunner(forms, opened, refuse)
        source.prepare(runner.collections)
        for events, position in source.follow(None):
            for event in events:
                if isinstance(event, Change):
                    runner.take(event)
                elif isinstance(event, DeadLetter):
                    refuse(event)
            source.acknowledge(position)
            on_report(runner.report)
            if should_stop():
                break
        return runner.report


@contextmanager
def _kept(store: DocumentStore) -> Iterator[DocumentStore]:
    yield store


@contextmanager
def applying_forms(
    forms: Sequence[type[Form]], source: Source, store: str | DocumentStore, refuse: Callable[[DeadLetter], None]
) -> Iterator[FormsReport]:
    """Applies forms in a thread while the block runs, beside a stream or a server; yields its counts.

    Raises:
        BoilerBeamError: The thread failed; raised at the end of the block.
    """
    is_over, report = threading.Event(), FormsReport()
    failures: list[BaseException] = []

    def copy_counts(now: FormsReport) -> None:
        report.done, report.rejected, report.failed = now.done, now.rejected, now.failed

    def run() -> None:
        try:
            follow_forms(forms, source, store, refuse=refuse, should_stop=is_over.is_set, on_report=copy_counts)
        except BaseException as error:  # raised again at the end of the block
            failures.append(error)

    thread = threading.Thread(target=run, name="forms")
    thread.start()
    try:
        yield report
    finally:
        is_over.set()
        thread.join()
    for error in failures:
        raise error
