"""Reads bounded sources of the command line, such as document files, by their URIs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam

from boiler_beam.beam.elements import Changes, changes_of, reading, tagged
from boiler_beam.connectors import open_source

__all__ = ["ReadChanges"]


class ReadChanges(beam.PTransform):  # type: ignore[misc]
    """Reads parts of bounded sources in parallel.

    >>> from boiler_beam.beam import ReadChanges
    >>> source = open_source("sample:")
    >>> with beam.Pipeline(runner="FnApiRunner") as pipeline:
    ...     read = pipeline | ReadChanges((source.uri, split) for split in source.splits())
    ...     _ = read.changes | beam.combiners.Count.Globally() | beam.Map(print)
    24

    Args:
        splits: URI and split of each part, as `boiler_beam.connectors.Source.splits` names them.

    Returns:
        `Changes`: every change in the parts, in no particular order; inputs that can't be read are dead letters.
    """

    def __init__(self, splits: Iterable[tuple[str, str]]) -> None:
        super().__init__()
        self.splits: Sequence[tuple[str, str]] = list(splits)

    def expand(self, pipeline: Any) -> Changes:
        """Applies it to a pipeline."""
        splits = pipeline | "Splits" >> beam.Create(self.splits, reshuffle=True).with_output_types(tuple[str, str])
        return changes_of(splits | "Read" >> reading(_Read(), has_touches=False), has_touches=False)


class _Read(beam.DoFn):  # type: ignore[misc]
    def process(self, element: tuple[str, str]) -> Iterator[Any]:
        uri, split = element
        for change in open_source(uri).read(split):
            yield tagged(change)
