"""The elements between transforms, with their coders, and the results of transforms that have several outputs.

Importing this module registers the coder of `Change`, `Touch`, `Row` and `DeadLetter`, so that Beam uses it wherever a
PCollection has one of these types. It is deterministic: equal elements have equal bytes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam import pvalue
from apache_beam.coders import Coder, registry

from boiler_beam.events import Change, DeadLetter, Row, Touch
from boiler_beam.steps.keyed.wire import decode, encode

__all__ = ["NAMESPACE", "Changes", "ComputedRows", "ElementCoder", "WrittenRows", "changes_of", "reading", "tagged"]

NAMESPACE = "boiler_beam"
"""The namespace of metrics: `changes`, `documents`, `dead_letters`, `touched`, `drift`.

`View/inserted` for each view.
"""


class ElementCoder(Coder):  # type: ignore[misc]
    """The coder of `Change`, `Touch`, `Row` and `DeadLetter`."""

    def encode(self, value: Change | Touch | Row | DeadLetter) -> bytes:
        """Encodes an element."""
        return encode(value)

    def decode(self, encoded: bytes) -> Any:
        """Decodes an element."""
        return decode(encoded)

    def is_deterministic(self) -> bool:
        """Returns True: equal elements have equal bytes."""
        return True


for _type in (Change, Touch, Row, DeadLetter):
    registry.register_coder(_type, ElementCoder)


class Changes(NamedTuple):
    """What a transform that reads changes returns: apply `ComputeRows` to all of it, or to its `changes` alone.

    Any other transform that is applied to it with `|` is applied to its `changes`.

    Attributes:
        changes: A PCollection of `Change`.
        dead_letters: A PCollection of `DeadLetter`: inputs that could not be read. `ComputeRows` passes them on.
        touches: A PCollection of `Touch`: requests of a backfill to a stream to write rows again; None: there are none.
    """

    changes: beam.PCollection[Change]
    dead_letters: beam.PCollection[DeadLetter] | None = None
    touches: beam.PCollection[Touch] | None = None

    def __or__(self, transform: Any) -> Any:
        """Applies a transform."""
        if not getattr(getattr(transform, "transform", transform), "takes_all_outputs", False):
            return self.changes | transform
        return {name: one for name, one in self._asdict().items() if one is not None} | transform


class ComputedRows(NamedTuple):
    """What `ComputeRows` returns.

    Attributes:
        rows: A PCollection of `Row`.
        dead_letters: A PCollection of `DeadLetter`: documents and rows that could not be used, and those of the input.
        notes: A PCollection of bytes for the transforms that write to the sinks of the command line: which rows are
            unknown, and what was counted.
    """

    rows: beam.PCollection[Row]
    dead_letters: beam.PCollection[DeadLetter]
    notes: beam.PCollection[bytes]


class WrittenRows(NamedTuple):
    """What a transform that writes rows returns.

    Attributes:
        dead_letters: A PCollection of `DeadLetter`: rows that the sink will never accept. The old rows stay.
    """

    dead_letters: beam.PCollection[DeadLetter]


_DEAD_LETTERS, _TOUCHES = "dead_letters", "touches"


def reading(function: beam.DoFn, *, has_touches: bool = True) -> Any:
    """Returns a `ParDo` of a DoFn that yields what `tagged` returns.

    Args:
        function: The DoFn.
        has_touches: Whether it yields touches, too; an output that stays empty costs some runners a stage.
    """
    types: Any = {_DEAD_LETTERS: DeadLetter, **({_TOUCHES: Touch} if has_touches else {})}
    return beam.ParDo(function).with_output_types(Change, **types).with_outputs(*types, main="changes")


def tagged(event: Change | Touch | DeadLetter) -> Any:
    """Returns an event as an element of its output."""
    if isinstance(event, Change):
        return event
    return pvalue.TaggedOutput(_TOUCHES if isinstance(event, Touch) else _DEAD_LETTERS, event)


def changes_of(outputs: Any, *, has_touches: bool = True) -> Changes:
    """Returns the outputs of `reading`."""
    return Changes(outputs["changes"], outputs[_DEAD_LETTERS], outputs[_TOUCHES] if has_touches else None)
