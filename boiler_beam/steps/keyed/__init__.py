"""The keyed delta join of a stream on many workers: steps that keep state by key and send deltas to each other.

    change -> DocumentStep        at a document of a root, group or referrers: where rows find it, what it contributes
           -> PathJoinStep, ReferrersJoinStep     at an edge and a path: rows that subscribe to it meet its documents
           -> PathCountStep, LimitStep            at a row: several paths lead to a document; the first documents
           -> DistinctStep, RankingStep           at an aggregate and a row: values that are counted once, or ordered
           -> RowStep             at a row: gathers documents and aggregates; renders when no message is missing
           -> ClaimStep           at a row path that several rows may claim

Deltas add up: they may arrive in any order, each once.

How the modules hang together; each imports those of the lines above:

    messages  cells                            what is sent; the state at a key: a head, and logs
    plan  logs  wire                           the edges of a view; collections as logs; messages as bytes
    routing  tiers                             where messages go; rankings
    step                                       the base of all steps
    membership  aggregates  rows  claims       the base of the steps of edges; the other steps
    documents                                  the step of documents
    joins                                      the steps where documents and rows meet
    dataflow                                   the steps of a view in their order, for `transforms`

`docs/following_a_change_on_beam.md` shows the messages of one change.
"""

from boiler_beam.steps.keyed.cells import Cell
from boiler_beam.steps.keyed.dataflow import reporting_labels, steps_of
from boiler_beam.steps.keyed.plan import KeyedView
from boiler_beam.steps.keyed.step import Output, Step, StepSettings

__all__ = ["Cell", "KeyedView", "Output", "Step", "StepSettings", "reporting_labels", "steps_of"]
