"""The keyed delta join of a stream on many workers: steps, each with what it keeps at one key, that send deltas.

    change -> DocumentStep        at a document of a root, group or referrers: where rows find it, what it contributes
           -> PathJoinStep, ReferrersJoinStep     at an edge and a path: rows that subscribe to it meet its documents
           -> PathCountStep, LimitStep            at a row: several paths lead to a document; the first documents
           -> DistinctStep, RankingStep           at an aggregate and a row: values that are counted once, or ordered
           -> RowStep             at a row: gathers documents and aggregates; renders when no message is on its way
           -> ClaimStep           at a row path that several rows may claim

What steps send adds up, so it may arrive in any order, once each.

| module | |
| --- | --- |
| `messages`, `routing`, `wire` | what is sent, where it goes, how it becomes bytes |
| `plan` | the edges of a view, and what rows wait for |
| `cells`, `logs`, `tiers` | what is kept at a key: a head, logs, rankings |
| `step`, `membership` | the base of all steps, and of those of an edge |
| `documents`, `joins`, `aggregates`, `rows`, `claims` | the steps |
| `row_documents`, `emissions` | the documents of a row; what is emitted of it |
| `dataflow` | the steps of a view in their order |
"""

from boiler_beam.steps.keyed.cells import Cell
from boiler_beam.steps.keyed.dataflow import reporting_labels, steps_of
from boiler_beam.steps.keyed.plan import KeyedView
from boiler_beam.steps.keyed.step import Output, Settings, Step

__all__ = ["Cell", "KeyedView", "Output", "Settings", "Step", "reporting_labels", "steps_of"]
