"""Writes the rows of a stream to a sink with one writer, such as a file or a database on a disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.coders import VarIntCoder
from apache_beam.metrics import Metrics
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec

from boiler_beam.beam.dead_letters import worker_dead_letters
from boiler_beam.beam.elements import NAMESPACE, ComputedRows
from boiler_beam.beam.stateful import KEYED
from boiler_beam.connectors import open_sink
from boiler_beam.events import DeadLetter, Row
from boiler_beam.plan import PlanName, load_plan
from boiler_beam.steps.keyed.wire import decode, encode

__all__ = ["AppendRows", "Outlet", "count_rows"]


_LEFT = b"\0"
"""Marks the path of an unknown row among encoded rows and dead letters."""


@dataclass(frozen=True)
class Outlet:
    """The destination of a stream's output.

    Attributes:
        sink: The sink's URI.
        dead_letters: The URI where dead letters are written.
        left: A file on the submitting machine for the paths of unknown rows, one JSON text a line; empty if nothing
            will be pruned.
        is_remote: Whether workers may be other machines, so that dead letters are also logged.
    """

    sink: str
    dead_letters: str
    left: str = ""
    is_remote: bool = False


class AppendRows(beam.PTransform):  # type: ignore[misc]
    """Appends the rows of a stream to any sink of the command line, with one writer: all rows have one key.

    >>> import tempfile
    >>> from boiler_beam.beam import ComputeRows, ReadChanges
    >>> from boiler_beam.connectors import open_source
    >>> from boiler_beam.samples.meeting import MeetingSession
    >>> views = PlanName(("boiler_beam.samples.meeting:MeetingSession",))
    >>> folder = tempfile.TemporaryDirectory()
    >>> outlet = Outlet(f"jsonl:{folder.name}/rows", f"jsonl:{folder.name}/dead_letters")
    >>> with beam.Pipeline(runner="FnApiRunner") as pipeline:
    ...     read = pipeline | ReadChanges(("sample:", split) for split in open_source("sample:").splits())
    ...     _ = read | ComputeRows(MeetingSession, mode="stream") | AppendRows(views, outlet)
    >>> sorted(row.path for row in open_sink(outlet.sink).current_rows(load_plan(views).views[0].target))
    ['meeting_sessions/m1', 'meeting_sessions/m2', 'meeting_sessions/m3', 'meeting_sessions/m4']
    >>> folder.cleanup()

    Args:
        views: The plan of the views.
        outlet: The destination.
    """

    def __init__(self, views: PlanName, outlet: Outlet) -> None:
        super().__init__()
        self.views, self.outlet = views, outlet

    def expand(self, computed: ComputedRows | dict[str, Any]) -> Any:
        """Applies it to what `ComputeRows` returns for a stream; a dict of it without `rows` writes the rest."""
        given = computed if isinstance(computed, dict) else computed._asdict()
        parts = [given["dead_letters"] | "DeadLetter" >> _keyed(encode)]
        if "rows" in given:
            parts.append(given["rows"] | "Row" >> _keyed(encode))
        if self.outlet.left:
            parts.append(given["notes"] | "Left" >> _keyed(lambda path: _LEFT + path))
        return (
            parts
            | "Flatten" >> beam.Flatten()
            | "Durable" >> beam.Reshuffle()
            | "Append" >> beam.ParDo(_Append(self.views, self.outlet)).with_output_types(bytes)
        )


def _keyed(encoded: Callable[[Any], bytes]) -> Any:
    """Returns a transform that gives all elements the same key, so that one writer gets them."""
    return beam.Map(lambda element: (b"", encoded(element))).with_output_types(KEYED)


class _Append(beam.DoFn):  # type: ignore[misc]
    """Writes the elements of a bundle at its end. State is declared only to serialize processing per key."""

    ONE = ReadModifyWriteStateSpec("one", VarIntCoder())

    def __init__(self, views: PlanName, outlet: Outlet) -> None:
        self.views, self.outlet = views, outlet

    def start_bundle(self) -> None:
        """Starts with no elements."""
        self.came: list[bytes] = []

    def process(self, element: KEYED, one: Any = beam.DoFn.StateParam(ONE)) -> Iterator[bytes]:
        self.came.append(element[1])
        yield from ()

    def finish_bundle(self) -> None:
        """Writes the elements of the bundle."""
        if not self.came:
            return
        targets = {view.name: view.target for view in load_plan(self.views).views}
        left = [data[1:].decode() for data in self.came if data[:1] == _LEFT]
        elements = [decode(data) for data in self.came if data[:1] != _LEFT]
        rows: list[Row] = [one for one in elements if isinstance(one, Row)]
        dead_letters: list[DeadLetter] = [one for one in elements if isinstance(one, DeadLetter)]
        if rows:
            with open_sink(self.outlet.sink).stream(list(targets.values())) as writer:
                refused = writer.write([(targets[row.view], row.encoded()) for row in rows]) or ()
            count_rows(rows, refused)
            dead_letters += refused
            left += [dead_letter.path for dead_letter in refused if dead_letter.path is not None]
        if left and self.outlet.left:
            with open(self.outlet.left, "a", encoding="utf-8") as file:
                file.writelines(json.dumps(path) + "\n" for path in left)
        with closing(
            worker_dead_letters(self.outlet.dead_letters, is_remote=self.outlet.is_remote)
        ) as writer_of_dead_letters:
            for dead_letter in dead_letters:
                writer_of_dead_letters.write(dead_letter)


def count_rows(rows: Sequence[Row], refused: Sequence[DeadLetter]) -> None:
    """Counts written, deleted and refused rows of each view; refused rows are dead letters."""
    paths, views = {dead_letter.path for dead_letter in refused}, {row.path: row.view for row in rows}
    for row in rows:
        if row.path not in paths:
            Metrics.counter(NAMESPACE, f"{row.view}/{'deleted' if row.data is None else 'written'}").inc()
    for dead_letter in refused:
        Metrics.counter(NAMESPACE, f"{views[dead_letter.path or '']}/refused").inc()
    Metrics.counter(NAMESPACE, "dead_letters").inc(len(refused))
