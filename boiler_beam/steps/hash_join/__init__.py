"""The hash join of a backfill on many workers: messages of one document, or one row, meet in one partition.

    changes -> index_documents  the newest version of each document, and what it contributes at every edge
            -> join_level 1..n  rows that request a document, and the document, meet at the document's path
            -> render_rows      documents and accumulators meet at the row, whose getters run
            -> settle_claims    of views with `paths()`: rows that claim one path meet there

The *level* of an edge is the join that knows which rows its documents belong to. The edges of a level share a grouping:

    meeting 0 (root)  -> users 1, tickets 1, location 1
    users 0 (group)   -> tickets 1 (referrers: each meets the user that it names)

How the modules hang together; each imports those to its left:

    messages - plan -+- matches -+- documents    `index_documents`
                     |           +- joins        `join_level`
                     +- rows                     `render_rows`, `settle_claims`
                     +- spill                    for `transforms`, which bounds the memory of a stage

| module | |
| --- | --- |
| `messages` | what is sent, and packs of it as bytes |
| `plan` | the levels of a plan's edges |
| `matches` | what is sent once it is known which rows have a document; the first ones of each row |
| `documents`, `joins`, `rows` | the stages |
| `spill` | partitions that are larger than memory |
"""

from boiler_beam.steps.hash_join.documents import index_documents
from boiler_beam.steps.hash_join.joins import join_level
from boiler_beam.steps.hash_join.plan import CLAIMS, OBSERVED, ROWS, WRITE, HashJoinPlan, Send, join_stage
from boiler_beam.steps.hash_join.rows import render_rows, settle_claims

__all__ = ["CLAIMS", "OBSERVED", "ROWS", "WRITE", "HashJoinPlan", "Send"]
__all__ += ["index_documents", "join_level", "join_stage", "render_rows", "settle_claims"]
