"""Helpers for users' tests: `render` computes rows from a list of documents, `check_aggregate` checks an aggregate."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from boiler_beam.errors import BoilerBeamError, UsageError
from boiler_beam.events import Change
from boiler_beam.inspection.purity import SEEDS, asks_seed, differing
from boiler_beam.models import DomainModel, wire_of_document
from boiler_beam.oracle import compute
from boiler_beam.plan import compile_plan
from boiler_beam.values import decode_fields, decode_wire, encode_wire
from boiler_beam.views import ViewModel
from boiler_beam.views.aggregate import Custom

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

__all__ = ["check_aggregate", "render"]

_UNDER_OTHER_SEEDS = 2


def render(view: type[ViewModel], documents: Iterable[DomainModel | Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Computes the rows of a view over a list of documents.

    The rows are computed twice, with the documents in another order. If the view's code uses sets or hashes, they are
    also computed, the first few times, in other processes with other hash seeds, if these can import the view.

    Args:
        view: The view class.
        documents: Models with a `path`, or dicts as in a document file: `{"path": "users/u1", "fields": {...}}`
            (`version` is optional).

    Returns:
        The fields of each row as Firestore values, by the row's path.

    Raises:
        DeclarationError: The classes can't be compiled.
        BoilerBeamError: A document is invalid, a getter raised, or a property had another value the second time.
    """
    plan = compile_plan([view])
    changes = [_change(document, version) for version, document in enumerate(documents, start=1)]
    truth = compute(plan, changes)
    for letter in truth.dead_letters:
        raise BoilerBeamError(f"{letter.path}: {letter.code}: {letter.message}")
    asks = truth.rows and asks_seed(plan) and next(_times(plan.views[0].reference_name)) < _UNDER_OTHER_SEEDS
    for one in differing(plan, changes, seeds=SEEDS if asks else (), first=truth.rows):
        raise BoilerBeamError(str(one))
    return {path: decode_fields(fields) for path, fields in truth.rows.items()}


@functools.cache
def _times(view: str) -> Iterator[int]:
    """How often each view was rendered with other hash seeds; it is limited, because it takes a second."""
    return itertools.count()


def _change(document: DomainModel | Mapping[str, Any], version: int) -> Change:
    if isinstance(document, DomainModel):
        path, fields = document.path, wire_of_document(document)
    else:
        path, fields, version = document["path"], document["fields"], document.get("version", version)
    return Change(path, version, msgspec.Raw(msgspec.json.encode(fields)))


def check_aggregate(custom: Custom, values: SearchStrategy[Any]) -> None:
    """Checks a custom aggregate with many random values.

    Every executor relies on these laws:

    * The state does not depend on the order of the values, nor on how they are split over merged states.
    * A retracted value leaves the state as if it had never been added.
    * The methods do not change the states that they are given, and a state can be encoded and decoded.
    * The result is a Firestore value.

    Args:
        custom: The aggregate.
        values: A strategy for the values of `of=`: `hypothesis.strategies.integers()`.

    Raises:
        AssertionError: The aggregate breaks a law; the message has the law and the smallest failing values.
        UsageError: `hypothesis` is not installed.
    """
    try:
        from hypothesis import Phase, given, settings
        from hypothesis import strategies as st
    except ImportError:
        message = "check_aggregate: expected hypothesis to be installed, got none; fix: pip install hypothesis"
        raise UsageError(message) from None

    def folded(some: Iterable[Any]) -> Any:
        state = custom.empty()
        for value in some:
            before = encode_wire(state)
            after = custom.add(state, value)
            _same(before, state, f"add() changed the state that it was given, adding {value!r}")
            state = decode_wire(encode_wire(after))
        return state

    # The smallest values say enough: explaining which of their parts matter takes many times as long as finding them.
    @settings(database=None, deadline=None, report_multiple_bugs=False, phases=[Phase.generate, Phase.shrink])
    @given(st.lists(values, max_size=8), st.lists(values, max_size=8), st.randoms(use_true_random=False))
    def laws(some: list[Any], others: list[Any], shuffler: Any) -> None:
        state = encode_wire(folded([*some, *others]))
        shuffled = [*some, *others]
        shuffler.shuffle(shuffled)
        _same(state, folded(shuffled), f"{shuffled} gave another state than {[*some, *others]}")
        merged = custom.merge(folded(some), folded(others))
        _same(state, merged, f"merge() of the states of {some} and {others} is not the state of all")
        rest = decode_wire(state)
        for value in others:
            rest = custom.retract(rest, value)
        _same(encode_wire(folded(some)), rest, f"retract() of {others} from {[*some, *others]} left a trace")
        encode_wire(custom.result(decode_wire(state)))

    laws()


def _same(wanted: bytes, state: Any, broken: str) -> None:
    if encode_wire(state) != wanted:
        raise AssertionError(f"{broken}: expected {wanted.decode()}, got {encode_wire(state).decode()}")
