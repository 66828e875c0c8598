"""`boiler-beam init`: writes models, a first view and its test, proposed from documents."""

from __future__ import annotations

import importlib.util
import os
import pprint
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from boiler_beam.connectors import read_sources
from boiler_beam.engine.computed import ComputedView
from boiler_beam.errors import UsageError
from boiler_beam.events import Change, DeadLetter
from boiler_beam.oracle import compute
from boiler_beam.plan import compile_plan
from boiler_beam.propose import pattern_of, propose
from boiler_beam.steps.newest import NewestVersions
from boiler_beam.values import decode_fields
from boiler_beam.views import ViewModel

__all__ = ["initialize"]

_SHOWN = 30
"""The most documents in the test."""


def initialize(path: str, sources: Sequence[str], sample: int) -> Iterator[str]:
    """Writes a module of views, and a test beside it; prints what it wrote.

    Args:
        path: The module's file, `my_views.py`.
        sources: URIs of bounded sources.
        sample: The maximal number of documents of each collection that are read.

    Raises:
        UsageError: A file exists already, or there are no documents.
    """
    folder, name = os.path.split(path)
    module = name.removesuffix(".py")
    if not name.endswith(".py") or not module.isidentifier():
        raise UsageError(f"{path}: expected the file of a Python module, got {name!r}; fix: write my_views.py")
    test = os.path.join(folder, f"test_{name}")
    for one in (path, test):
        if os.path.exists(one):
            raise UsageError(f"{one}: expected no file, got one; fix: name another, or remove it")
    documents, known = _sampled(sources, sample)
    if not documents:
        raise UsageError(f"{' '.join(sources)}: expected documents, got none; fix: check the address")
    proposal = propose({path: decode_fields(change.fields) for path, change in documents.items()}, known)
    os.makedirs(folder or ".", exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(proposal.views)
    yield f"{path}: models of {len(set(map(pattern_of, documents))):,} collections, from {len(documents):,} documents"
    view = getattr(_imported(module, path), proposal.view)
    with open(test, "w", encoding="utf-8") as file:
        file.write(_test(module, view, list(documents.values())))
    yield f"{test}: a row of {proposal.view}, which has one for each of {_root_of(view)}"
    given = " ".join(f"--source {one}" for one in sources)
    yield f"next: pip install pytest; python -m pytest {test}; boiler-beam check --views {module} {given}"


def _sampled(sources: Sequence[str], sample: int) -> tuple[dict[str, Change], set[str]]:
    """Returns the newest version of some documents of each collection, and the paths of all."""
    newest: dict[str, Change] = {}
    kept: Counter[str] = Counter()
    known: set[str] = set()
    for change in read_sources(sources, ()):
        if isinstance(change, DeadLetter) or _is_ours(change):
            continue
        known.add(change.path)
        pattern = pattern_of(change.path)
        if change.path not in newest and kept[pattern] >= sample:
            continue
        if change.path not in newest:
            kept[pattern] += 1
        if change.path not in newest or newest[change.path].version <= change.version:
            newest[change.path] = change
    return {path: change for path, change in newest.items() if _is_readable(change)}, known


def _is_ours(change: Change) -> bool:
    """Returns whether boiler_beam wrote the document: a row, or a document in a `_boiler` collection."""
    if any(name.startswith("_boiler") for name in change.path.split("/")[::2]):
        return True
    try:
        return "_boiler" in decode_fields(change.fields)
    except (ValueError, msgspec.MsgspecError):
        return False


def _is_readable(change: Change) -> bool:
    try:
        decode_fields(change.fields)
    except (ValueError, msgspec.MsgspecError):  # a deletion, or malformed fields, which `boiler-beam check` reports
        return False
    return True


def _imported(module: str, path: str) -> Any:
    spec = importlib.util.spec_from_file_location(module, path)
    assert spec is not None
    assert spec.loader is not None
    made = sys.modules[module] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def _root_of(view: type[ViewModel]) -> str:
    collection = compile_plan([view]).views[0].root.model.__boiler__.collection
    return collection.text if collection is not None else ""


def _test(module: str, view: type[ViewModel], documents: list[Change]) -> str:
    """Returns a test of the row with the most fields, with the documents of that row."""
    plan = compile_plan([view])
    versions = NewestVersions(plan, lambda letter: None)
    versions.add_all(documents)
    computed = ComputedView(plan.planned_views[0], versions, lambda letter: None)
    best: set[str] = set()
    for row_id in computed.row_ids():
        has = computed.documents(row_id)
        reached = {path for edge in plan.views[0].edges for path in has(edge.name)}
        if len(best) < len(reached) <= _SHOWN:
            best = reached
    shown = [one for one in documents if one.path in best]
    rows = compute(plan, shown).rows
    given = [{"path": one.path, "fields": msgspec.json.decode(one.fields)} for one in shown]
    expected = {path: decode_fields(fields) for path, fields in rows.items()}
    lines = [
        f'"""A first test of {module}: the documents of one row, and the rows that they make."""',
        "",
        "from boiler_beam.testing import render",
        f"from {module} import {view.__name__}",
        "",
        f"DOCUMENTS = {pprint.pformat(given, width=110, sort_dicts=False)}",
        "",
        f"ROWS = {pprint.pformat(expected, width=110, sort_dicts=False)}",
        "",
        "",
        "def test_rows() -> None:",
        f"    assert render({view.__name__}, DOCUMENTS) == ROWS",
        "",
    ]
    return "\n".join(lines)
