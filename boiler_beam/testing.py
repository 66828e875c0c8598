"""For a user's own tests: the rows of a view over a list of documents, and the laws of an aggregate of one's own."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from boiler_beam.engine.purity import SEEDS, asks_seed, differing
from boiler_beam.errors import BoilerBeamError, UsageError
from boiler_beam.events import Change
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
    """The rows of a view, by path.

    They are computed twice, in another order of the documents; and, where the view's code makes sets or asks for
    hashes, the first times by other processes under other hash seeds, too, if these can import the view.

    Args:
        view: The view class.
        documents: Models with a `path`, or what a line of a document file holds:
            `{"path": "users/u1", "fields": {...}}` (`version` may be left out).

    Returns:
        The fields of each row as Firestore values, by the row's path.

    Raises:
        DeclarationError: The classes can't be compiled.
        BoilerBeamError: A document is invalid, a getter raised, or a property came out otherwise the second time.
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
    """How often a view was rendered under other hash seeds, which takes a second."""
    return itertools.count()


def _change(document: DomainModel | Mapping[str, Any], version: int) -> Change:
    if isinstance(document, DomainModel):
        path, fields = document.path, wire_of_document(document)
    else:
        path, fields, version = document["path"], document["fields"], document.get("version", version)
    return Change(path, version, msgspec.Raw(msgspec.json.encode(fields)))


def check_aggregate(custom: Custom, values: SearchStrategy[Any]) -> None:
    """Looks with many random values whether an aggregate of your own keeps the laws that every executor relies on.

    The state does not depend on the order of the values, nor on how they are split over states that are merged; a
    value that is retracted leaves no trace; a state is left as it was by what is made of it, and comes back from its
    bytes; the result is a Firestore value.

    Args:
        custom: The aggregate.
        values: What `of=` may give of a document, as a strategy: `hypothesis.strategies.integers()`.

    Raises:
        AssertionError: A law is broken: which, with the smallest values that show it.
        UsageError: `hypothesis` is not installed.
    """
    try:
        from hypothesis import given, settings
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

    @settings(database=None, deadline=None, report_multiple_bugs=False)
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
