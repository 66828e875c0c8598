"""A backfill in partitions: every document is asked once, where it lies, and messages alone travel from then on.

    observed -> ask: newest versions; each says what it is at every edge -> wants, hanging and waiting documents
             -> join 1 ... n: who wants a document, and the document, meet in its partition
             -> rows: values and folded accumulators meet in the row's partition, and getters run
             -> claims: of views whose path does not name the row, those that want one path meet in its partition

The *level* of an edge is the join that knows which rows reach its documents. All edges of a level share one grouping:

    meeting 0 (root) -> users 1, tickets 1, location 1
    users 0 (group)  -> tickets 1 (referrers: they hang in the partition of the user that they name)
"""

from boiler_beam.steps.partition.ask import ask_documents
from boiler_beam.steps.partition.join import join_level
from boiler_beam.steps.partition.levels import CLAIMS, ROWS, WRITE, PartitionedPlan, Send
from boiler_beam.steps.partition.rows import render_rows, settle_claims

__all__ = [
    "CLAIMS",
    "ROWS",
    "WRITE",
    "PartitionedPlan",
    "Send",
    "ask_documents",
    "join_level",
    "render_rows",
    "settle_claims",
]
