"""`boiler-beam forms`: applies the forms that clients create. `boiler-beam documents load`: fills a store."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing

from boiler_beam.connectors import open_dead_letters, open_source, open_store, read_sources
from boiler_beam.connectors.documents.store import DocumentsStore
from boiler_beam.errors import UsageError
from boiler_beam.events import Change, DeadLetter
from boiler_beam.program.signals import asked_to_end
from boiler_beam.writing import Form, FormsReport, follow_forms
from boiler_beam.writing.configured import configured_store

__all__ = ["load_documents", "run_forms"]


def run_forms(
    forms: Sequence[type[Form]], store: str | None, source: str | None, dead_letter: str, *, is_once: bool
) -> FormsReport:
    """Applies forms until the program is asked to end.

    Args:
        forms: The classes.
        store: The URI of the store; None: the configured one.
        source: The URI of the source of forms; None: the store.
        dead_letter: Where forms go whose `apply` failed.
        is_once: Whether to end when all forms that are there were applied.

    Raises:
        UsageError: An argument is wrong; nothing was written.
    """
    address = store or configured_store(os.environ)
    opened = open_source(source or address)
    followed = opened if is_once else opened.following()
    with ExitStack() as stack:
        documents = stack.enter_context(closing(open_store(address)))
        letters = stack.enter_context(closing(open_dead_letters(dead_letter)))
        should_stop = stack.enter_context(asked_to_end())

        def refuse(letter: DeadLetter) -> None:
            letters.write(letter)
            letters.flush()
            print(f"{letter.about}: {letter.message}", file=sys.stderr)

        print(f"applies {', '.join(form.__name__ for form in forms)} of {followed.uri}", file=sys.stderr)
        return follow_forms(forms, followed, documents, refuse=refuse, should_stop=should_stop)


def load_documents(sources: Iterable[str], store: str) -> int:
    """Writes the newest versions of documents to a new store; returns their number.

    Raises:
        UsageError: The store is none in a file, or holds documents.
    """
    opened = open_store(store)
    if not isinstance(opened, DocumentsStore):
        raise UsageError(f"{store}: expected documents:PATH, got another store; fix: write documents:PATH")
    newest: dict[str, Change] = {}
    for change in read_sources(sources, []):
        if isinstance(change, DeadLetter):
            raise UsageError(f"{change.about}: expected a document, got: {change.message}; fix: correct it")
        if change.path not in newest or newest[change.path].version <= change.version:
            newest[change.path] = change
    known = [change for change in newest.values() if not change.is_deleted]
    opened.load(known)
    return len(known)
