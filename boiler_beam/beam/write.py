"""Writes the rows of a backfill to any sink of the command line, with one writer, and prunes other rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics

from boiler_beam.beam.dead_letters import worker_dead_letters
from boiler_beam.beam.elements import NAMESPACE, ComputedRows
from boiler_beam.beam.packs import PACKED, PackingDoFn, packing
from boiler_beam.connectors import open_sink
from boiler_beam.connectors.firestore.options import WriteOptions
from boiler_beam.connectors.memory import MemorySink
from boiler_beam.engine.write import Prune, RowWriter
from boiler_beam.events import DeadLetter, Row
from boiler_beam.plan import PlanName, load_plan
from boiler_beam.steps.hash_join import WRITE
from boiler_beam.steps.hash_join.messages import (
    Failure,
    RowCopy,
    Statistics,
    TaintedRow,
    ViewTaint,
    decode_pack,
)
from boiler_beam.steps.missing import Absences
from boiler_beam.steps.taint import PossibleMember

__all__ = ["Destination", "WriteRows"]


@dataclass(frozen=True)
class Destination:
    """The destination of a backfill's output, and how it is written.

    Attributes:
        sink: The sink's URI.
        dead_letters: The URI where dead letters are written.
        prune: Which rows that were not computed are deleted.
        read_time: The version of the rows, in microseconds since the epoch; None: the newest version read.
        dry_run: Whether nothing is written: neither rows nor dead letters.
        options: How rows are written to Firestore.
        is_remote: Whether workers may be other machines, so that dead letters are also logged.
    """

    sink: str
    dead_letters: str
    prune: Prune = "safe"
    read_time: int | None = None
    dry_run: bool = False
    options: WriteOptions = field(default_factory=WriteOptions)
    is_remote: bool = False


class WriteRows(beam.PTransform):  # type: ignore[misc]
    """Writes the rows of a backfill, prunes other rows, and writes dead letters, in one transaction of the sink.

    >>> import tempfile
    >>> from boiler_beam.beam import ComputeRows, ReadChanges
    >>> from boiler_beam.connectors import open_source
    >>> from boiler_beam.samples.meeting import MeetingSession
    >>> views = PlanName(("boiler_beam.samples.meeting:MeetingSession",))
    >>> folder = tempfile.TemporaryDirectory()
    >>> destination = Destination(f"jsonl:{folder.name}/rows", f"jsonl:{folder.name}/dead_letters")
    >>> with beam.Pipeline(runner="FnApiRunner") as pipeline:
    ...     read = pipeline | ReadChanges(("sample:", split) for split in open_source("sample:").splits())
    ...     _ = read | ComputeRows(MeetingSession) | WriteRows(views, destination)
    >>> sorted(row.path for row in open_sink(destination.sink).current_rows(load_plan(views).views[0].target))
    ['meeting_sessions/m1', 'meeting_sessions/m2', 'meeting_sessions/m3', 'meeting_sessions/m4']
    >>> folder.cleanup()

    Args:
        views: The plan of the views.
        destination: The destination.
    """

    def __init__(self, views: PlanName, destination: Destination) -> None:
        super().__init__()
        self.views, self.destination = views, destination

    def expand(self, computed: ComputedRows) -> Any:
        """Applies it to what `ComputeRows` returns for bounded input."""
        packs = [
            computed.rows | "PackRows" >> packing(_PackRows(self.views), [WRITE]),
            computed.dead_letters | "PackDeadLetters" >> packing(_PackDeadLetters(), [WRITE]),
        ]
        notes = computed.notes | "Notes" >> beam.Map(lambda pack: (0, pack)).with_output_types(PACKED)
        return (
            [notes, *(one[WRITE] for one in packs)]
            | "Flatten" >> beam.Flatten()
            | "Gather" >> beam.GroupByKey()
            | "Write" >> beam.ParDo(_Write(self.views, self.destination)).with_output_types(PACKED)
        )


class _PackRows(PackingDoFn):
    def __init__(self, views: PlanName) -> None:
        super().__init__()
        self.views = views

    def start_bundle(self) -> None:
        """Starts with no rows."""
        super().start_bundle()
        self.indexes = {view.name: index for index, view in enumerate(load_plan(self.views).views)}

    def process(self, element: Row) -> Iterable[Any]:
        if element.data is None:
            raise ValueError(f"{element.path}: expected the rows of a backfill, got a deleted row")
        return self.send(WRITE, RowCopy(element.path, element.data, (), self.indexes[element.view], ""))


class _PackDeadLetters(PackingDoFn):
    def process(self, element: DeadLetter) -> Iterable[Any]:
        return self.send(WRITE, Failure(element))


class _Write(beam.DoFn):  # type: ignore[misc]
    def __init__(self, views: PlanName, destination: Destination) -> None:
        self.views, self.destination = views, destination

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[Any]:
        _, packs = element
        plan = load_plan(self.views)
        # The packs are read twice, because counts, and documents of any row, are needed before the first row.
        total, known = Statistics(lost_types=[]), [(0, 0) for _ in plan.document_types]
        possible_members: list[list[PossibleMember]] = [[] for _ in plan.views]
        unknown: list[RowCopy] = []
        tainted: dict[tuple[int, str], tuple[str, ...]] = {}
        for message in _messages(packs):
            match message:
                case Statistics():
                    total.changes += message.changes
                    total.newest_version = max(total.newest_version, message.newest_version)
                    total.lost_types += message.lost_types
                    for index, (valid, invalid) in enumerate(message.known):
                        known[index] = known[index][0] + valid, known[index][1] + invalid
                case ViewTaint():
                    possible_members[message.view_index].append(message.member)
                case RowCopy(fields=None):
                    unknown.append(message)
                case TaintedRow():
                    tainted[message.view_index, message.path] = message.tainted_by
        destination, number_of_dead_letters = self.destination, 0

        def refuse(dead_letter: DeadLetter) -> None:
            nonlocal number_of_dead_letters
            number_of_dead_letters += 1
            if not destination.dry_run:
                writer_of_dead_letters.write(dead_letter)

        sink = open_sink(destination.sink, destination.options)
        writer_of_dead_letters = worker_dead_letters(destination.dead_letters, is_remote=destination.is_remote)
        if destination.dry_run:
            sink = MemorySink(sink)
        read_time = total.newest_version if destination.read_time is None else destination.read_time
        try:
            with sink.backfill([view.target for view in plan.views]) as writer:
                rows = RowWriter(plan.views, sink, writer, read_time, refuse)
                for index, some in enumerate(possible_members):
                    rows.views[index].possible_members(some)
                for one in unknown:
                    rows.views[one.view_index].unknown(one.path, one.tainted_by)
                for message in _messages(packs):
                    match message:
                        case RowCopy(fields=bytes(fields)):
                            tainted_by = tainted.get((message.view_index, message.path), ())
                            rows.views[message.view_index].write(message.path, fields, tainted_by)
                        case Statistics():
                            for index, absences in message.absences.items():
                                rows.views[index].absent(absences)
                        case Failure():
                            refuse(message.dead_letter)
                for index, view in enumerate(plan.views):
                    valid, invalid = known[view.root.type_index]
                    rows.views[index].absent(Absences(), 0 if valid else invalid)
                dead = {*total.lost_types, *(index for index, (_, invalid) in enumerate(known) if invalid)}
                dead_roots = [view.root.type_index in dead for view in plan.views]
                for dead_letter in rows.finish(destination.prune, dead_roots):
                    refuse(dead_letter)
        finally:
            writer_of_dead_letters.close()
        counts = {
            "changes": total.changes,
            "documents": sum(valid for valid, _ in known),
            "dead_letters": number_of_dead_letters,
        }
        counts |= {"touched": writer.touched, "drift": writer.drift}
        for report in [one.report for one in rows.views]:
            numbers = {name: number for name, number in asdict(report).items() if isinstance(number, int)}
            counts |= {f"{report.view}/{name}": number for name, number in numbers.items()}
        for name, number in counts.items():
            Metrics.counter(NAMESPACE, name).inc(number)
        yield from ()


def _messages(packs: Iterable[bytes]) -> Iterator[Any]:
    return (message for pack in packs for message in decode_pack(pack))
