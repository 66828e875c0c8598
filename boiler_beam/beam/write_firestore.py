"""Writes rows to Firestore, with many workers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import PipelineOptions, WorkerOptions
from apache_beam.transforms.util import ReshufflePerKey
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from boiler_beam.beam.append import count_rows
from boiler_beam.beam.elements import NAMESPACE, WrittenRows
from boiler_beam.beam.read_firestore import address_of
from boiler_beam.beam.stateful import KEYED
from boiler_beam.connectors.firestore.options import WriteOptions
from boiler_beam.events import DeadLetter, Row
from boiler_beam.steps.keyed.wire import decode, encode, path_bytes

__all__ = ["WriteToFirestore", "workers_of"]

_MOST_ROWS, _MOST_BYTES = 5_000, 32 << 20


class WriteToFirestore(beam.PTransform):  # type: ignore[misc]
    """Writes rows with many workers, each unless the stored row is newer (S17).

    A bundle ends when its rows are durable:

        with beam.Pipeline() as pipeline:
            rows = pipeline | beam.Create([Row("Greeting", "greetings/hello", 1, 7, 7, {"text": "Hello"})])
            written = rows | WriteToFirestore("my-project")
            written.dead_letters | beam.Map(print)

    A row with `fields` None is deleted. Rows that were not computed are not deleted: only a backfill by the command
    line or `boiler_beam.backfill` prunes.

    Args:
        project: `PROJECT`, or `PROJECT/DATABASE`.
        database: The database, if it is not in `project`; None: `(default)`.
        options: How rows are written. By default `writers`, which share the ramp-up's rate, is the number of workers
            in the pipeline's options; each copy of the writer uses one share.

    Returns:
        `WrittenRows`, with `dead_letters`, for a PCollection of `Row`.
    """

    def __init__(self, project: str, *, database: str | None = None, options: WriteOptions | None = None) -> None:
        super().__init__()
        self.address, self.options = address_of(project, database), options

    def expand(self, rows: Any) -> WrittenRows:
        """Applies it to a PCollection of `Row`."""
        options = self.options or WriteOptions(writers=workers_of(rows.pipeline.options))
        dead_letters = (
            rows
            | "Path" >> beam.Map(_keyed).with_input_types(Row).with_output_types(KEYED)
            | "Durable" >> ReshufflePerKey()
            | "Write" >> beam.ParDo(_Write(self.address, options)).with_output_types(DeadLetter)
        )
        return WrittenRows(dead_letters)


def workers_of(options: PipelineOptions) -> int:
    """Returns the initial number of workers in Beam's options; else the maximal number; else 1."""
    workers = options.view_as(WorkerOptions)
    return workers.num_workers or workers.max_num_workers or 1


def _keyed(row: Row) -> tuple[bytes, bytes]:
    return path_bytes(row.path), encode(row)


class _Write(beam.DoFn):  # type: ignore[misc]
    """Gathers and writes the rows of a bundle. Its cache of written rows is kept for later bundles."""

    def __init__(self, address: str, options: WriteOptions) -> None:
        self.address, self.options = address, options

    def setup(self) -> None:
        """Opens the connection."""
        from boiler_beam.connectors.firestore.client import Client
        from boiler_beam.connectors.firestore.sink import guarded

        self.client = Client(self.address)
        self.guard = guarded(self.client, self.options)

    def start_bundle(self) -> None:
        """Starts with no rows."""
        self.rows: list[Row] = []
        self.size = 0

    def process(self, element: tuple[bytes, bytes]) -> Iterator[DeadLetter]:
        """Adds a row; writes the rows when there are many."""
        self.rows.append(decode(element[1]))
        self.size += len(element[1])
        if len(self.rows) >= _MOST_ROWS or self.size >= _MOST_BYTES:
            yield from self._written()

    def finish_bundle(self) -> Iterator[Any]:
        """Writes the remaining rows."""
        for dead_letter in self._written():
            yield WindowedValue(dead_letter, GlobalWindow().max_timestamp(), (GlobalWindow(),))

    def _written(self) -> list[DeadLetter]:
        before = asdict(self.guard.counts)
        dead_letters = self.guard.write((row.encoded() for row in self.rows), is_together=self.options.is_together)
        count_rows(self.rows, dead_letters)
        for name, number in asdict(self.guard.counts).items():
            unit = 1000 if name == "throttled_seconds" else 1
            label = "throttled_millis" if name == "throttled_seconds" else name
            Metrics.counter(NAMESPACE, f"firestore/{label}").inc(int((number - before[name]) * unit))
        self.start_bundle()
        return dead_letters

    def teardown(self) -> None:
        """Closes the connection."""
        self.client.close()
