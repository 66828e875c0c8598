"""Computes rows from changes: the transform that everything else of this package is for."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import apache_beam as beam
from apache_beam.options.pipeline_options import DebugOptions, StandardOptions
from apache_beam.transforms.window import GlobalWindows

from boiler_beam.beam.batch import Backfill, Batch
from boiler_beam.beam.elements import Changes, ComputedRows
from boiler_beam.beam.stateful import Behavior
from boiler_beam.beam.stream import follow_views
from boiler_beam.beam.views import ViewLike, plan_name
from boiler_beam.errors import UsageError
from boiler_beam.plan import load_plan
from boiler_beam.values import Database

__all__ = ["DURABLE_RUNNERS", "ComputeRows"]

DURABLE_RUNNERS = (
    "DirectRunner", "SwitchingDirectRunner", "FnApiRunner", "BundleBasedDirectRunner", "PrismRunner", "DataflowRunner",
)  # fmt: skip
"""Runners on which only committed output reaches a sink (S15): Dataflow has a durable shuffle before it, the others
never repeat a bundle. On Flink rows may be written whose bundle is rolled back."""

PRISM_RUNNERS = ("PrismRunner", "SwitchingDirectRunner", "DirectRunner")
"""Runners that are Prism, or may choose it."""

PRISM_NEVER_SPLITS = "prism_disable_sdf_split"
"""Prism's experiment that stops it from splitting slow bundles. Where it splits one of a stateful step, a second bundle
gets messages of a key while the first one still works on that key: state is lost, and with it timers
(https://github.com/apache/beam/issues/35771)."""

RETENTION_MICROS = 10 * 86_400 * 1_000_000
"""How long deletions are remembered: longer than a source redelivers changes (S3)."""


class ComputeRows(beam.PTransform):  # type: ignore[misc]
    """Computes the rows of views from the changes of documents, in batch and streaming pipelines.

    >>> from boiler_beam.beam import ComputeRows
    >>> from boiler_beam.events import Change
    >>> from boiler_beam.samples.meeting import OrganizationSummary
    >>> ann = {"firstName": "Ann", "lastName": "Gray", "organization": "org1", "hearingAidRequested": True}
    >>> with beam.Pipeline(runner="FnApiRunner") as pipeline:
    ...     changes = pipeline | beam.Create([Change("users/u1", 7, ann), Change("users/u2", 8, {"firstName": "Bo"})])
    ...     computed = changes | ComputeRows(OrganizationSummary)
    ...     _ = computed.rows | beam.Map(lambda row: print(row.path, row.version, row.fields["numUsers"]))
    ...     _ = computed.dead_letters | "Why" >> beam.Map(lambda dead_letter: print(dead_letter.path, dead_letter.code))
    users/u2 invalid_document
    organization_summaries/org1 8 1

    A backfill gives each row once, from the newest versions of all documents. A stream gives a row again whenever it
    changes, also as deleted (`fields` is None), and keeps the documents in its state. Of two rows of one path the one
    with the greater stamp is newer; Beam may deliver them in any order.

    The input may be in any windows; rows are computed in the global window, and are in it.

    Args:
        views: The views, as classes or as `"module:Class"`, in modules that workers can import.
        mode: `backfill`, `stream`, or `auto`: a stream if the input is unbounded or the pipeline is a streaming one.
        project: The project of the documents: references into it are local; None: any project.
        database: The database of the documents.
        generation: The generation of the rows (S13), from 1, or that of each view by the name of its class. The rows of
            a higher generation replace those of a lower one. Use a higher one when a stream begins anew, or a view
            changed.
        read_time: Backfills: the version of the rows, in microseconds since the epoch; None: the newest version read.
        partitions: Backfills: the number of partitions of documents and rows: a few for each worker.
        memory_bytes: Backfills: the bytes of documents of a partition that are joined in memory at once; as objects
            they need five times as much.
        in_memory: Backfills: whether all documents fit one worker's memory; then they are computed there at once.
        consistency: Streams: `eventual`, or `commit`: no row has a part of a commit (S19), and rows are later.
        coalesce_seconds: Streams: how long changes of a row are gathered before it is computed.
        allowed_lateness_seconds: Streams, with `consistency="commit"`: how long after newer changes a change may
            arrive, beyond the watermark of the input.
        snapshot_time: Streams: no row is computed before the watermark passes this time, in microseconds since the
            epoch. Set it to the time at which the pipeline is built if the input begins with a snapshot.

    Returns:
        `ComputedRows`: `rows`, `dead_letters`, `notes`. The input is a PCollection of `Change`, or the `Changes` that
        `DecodeChanges` or `ReadChangesFromPubSub` return: then their dead letters are passed on.

    Raises:
        UsageError: A view can't be imported, or an option is wrong.
        DeclarationError: The views can't be compiled; with all mistakes in them.
    """

    takes_all_outputs = True
    """Read by `Changes`: the transform takes its dead letters and touches, too."""

    def __init__(
        self,
        *views: ViewLike,
        mode: Literal["auto", "backfill", "stream"] = "auto",
        project: str | None = None,
        database: str = "(default)",
        generation: int | Mapping[str, int] = 1,
        read_time: int | None = None,
        partitions: int = 32,
        memory_bytes: int = 128 << 20,
        in_memory: bool = False,
        consistency: Literal["eventual", "commit"] = "eventual",
        coalesce_seconds: float = 0.1,
        allowed_lateness_seconds: float = 10.0,
        snapshot_time: int | None = None,
    ) -> None:
        super().__init__()
        self.views = plan_name("ComputeRows", views, Database(project, database))
        for name, choice, choices in (
            ("mode", mode, ("auto", "backfill", "stream")),
            ("consistency", consistency, ("eventual", "commit")),
        ):
            if choice not in choices:
                raise UsageError(
                    f"ComputeRows: expected {name} to be one of {', '.join(choices)}, got {choice!r}; fix: choose one"
                )
        self.mode = mode
        names = [view.name for view in load_plan(self.views).views]
        self.generation = dict.fromkeys(names, generation) if isinstance(generation, int) else dict(generation)
        if set(self.generation) != set(names):
            raise UsageError(
                f"ComputeRows: expected a generation of each of {', '.join(names)}, got those of "
                f"{', '.join(self.generation) or 'none'}; fix: give one number, or one for each view"
            )
        self.batch = Batch(self.generation, read_time, partitions, memory_bytes, in_memory)
        self.behavior = Behavior(
            coalesce_seconds=coalesce_seconds,
            is_commit=consistency == "commit",
            gate_micros=snapshot_time,
            lateness_micros=round(allowed_lateness_seconds * 1e6),
        )

    def expand(self, changes: Any) -> ComputedRows:
        """Applies it to a PCollection of `Change`, to `Changes`, or to a dict of the PCollections of `Changes`."""
        collections = changes if isinstance(changes, dict) else {"changes": changes}
        if isinstance(changes, Changes):
            collections = {name: one for name, one in changes._asdict().items() if one is not None}
        is_unbounded = not collections["changes"].is_bounded
        given = Changes(**{name: _in_global_window(name, one) for name, one in collections.items()})
        if self._is_stream(given.changes.pipeline, is_unbounded=is_unbounded):
            behaviors = self._behaviors(given.changes.pipeline, is_unbounded=is_unbounded)
            _keep_bundles_whole(given.changes.pipeline)
            return follow_views(given, self.views, behaviors)
        return Backfill(self.views, self.batch).compute(given)

    def _is_stream(self, pipeline: Any, *, is_unbounded: bool) -> bool:
        if self.mode == "backfill" and is_unbounded:
            raise UsageError(
                f"{self.label}: expected a bounded PCollection for mode='backfill', got an unbounded one; "
                "fix: mode='stream', or read a source that ends"
            )
        is_streaming = is_unbounded or bool(pipeline.options.view_as(StandardOptions).streaming)
        return self.mode == "stream" or (self.mode == "auto" and is_streaming)

    def _behaviors(self, pipeline: Any, *, is_unbounded: bool) -> dict[str, Behavior]:
        behavior = replace(
            self.behavior,
            is_durable=type(pipeline.runner).__name__ in DURABLE_RUNNERS,
            retention_micros=RETENTION_MICROS if is_unbounded else None,
            since_micros=time.time_ns() // 1000,
        )
        return {name: replace(behavior, generation=one) for name, one in self.generation.items()}


def _keep_bundles_whole(pipeline: Any) -> None:
    """Adds the option that Prism needs to keep state; other runners do not get it."""
    if type(pipeline.runner).__name__ in PRISM_RUNNERS:
        pipeline.options.view_as(DebugOptions).add_experiment(PRISM_NEVER_SPLITS)


def _in_global_window(name: str, collection: Any) -> Any:
    if collection.windowing.is_default():
        return collection
    return collection | f"GlobalWindow {name}" >> beam.WindowInto(GlobalWindows())
