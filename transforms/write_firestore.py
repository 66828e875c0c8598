"""Writes the rows of a stream to Firestore, with many workers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.transforms.util import ReshufflePerKey
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from boiler_beam.connectors.firestore.options import WriteOptions
from boiler_beam.events import Row
from boiler_beam.steps.keyed.wire import decode_row, encode_letter
from transforms.append import count_rows
from transforms.write import NAMESPACE

__all__ = ["WriteToFirestore"]

_MOST_ROWS, _MOST_BYTES = 5_000, 32 << 20


class WriteToFirestore(beam.PTransform):  # type: ignore[misc]
    """Writes rows, each unless the stored row is newer (S17). A bundle ends when its rows are durable.

    Args:
        address: `PROJECT` or `PROJECT/DATABASE`.
        options: How rows are written. Set `writers` to the number of workers, so that they share the ramp-up's rate;
            each copy of the writer uses one share.

    Returns:
        A PCollection of dead letters: bytes for `boiler_beam.steps.keyed.wire.decode_letter`.
    """

    def __init__(self, address: str, options: WriteOptions | None = None) -> None:
        super().__init__()
        self.address, self.options = address, options or WriteOptions()

    def expand(self, rows: Any) -> Any:
        """Applies it to the `rows` of `FollowViews`: (path, bytes for `decode_row`)."""
        return (
            rows
            | "Durable" >> ReshufflePerKey()
            | "Write" >> beam.ParDo(_Write(self.address, self.options)).with_output_types(bytes)
        )


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
        self.rows: list[tuple[str, Row]] = []
        self.size = 0

    def process(self, element: tuple[bytes, bytes]) -> Iterator[bytes]:
        """Adds a row; writes the rows when there are many."""
        view, row = decode_row(element[1])
        self.rows.append((view, row))
        self.size += len(element[1])
        if len(self.rows) >= _MOST_ROWS or self.size >= _MOST_BYTES:
            yield from self._written()

    def finish_bundle(self) -> Iterator[Any]:
        """Writes the remaining rows."""
        for letter in self._written():
            yield WindowedValue(letter, GlobalWindow().max_timestamp(), (GlobalWindow(),))

    def _written(self) -> list[bytes]:
        before = asdict(self.guard.counts)
        letters = self.guard.write((row for _, row in self.rows), is_together=self.options.is_together)
        count_rows(self.rows, letters)
        for name, number in asdict(self.guard.counts).items():
            unit = 1000 if name == "throttled_seconds" else 1
            label = "throttled_millis" if name == "throttled_seconds" else name
            Metrics.counter(NAMESPACE, f"firestore/{label}").inc(int((number - before[name]) * unit))
        self.start_bundle()
        return [encode_letter(letter) for letter in letters]

    def teardown(self) -> None:
        """Closes the connection."""
        self.client.close()
