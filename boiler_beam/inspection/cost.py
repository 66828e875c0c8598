"""What a change costs: how many rows it writes, counted over real documents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from boiler_beam.connectors.billed import PRICES, Billed
from boiler_beam.engine.computed import ComputedView
from boiler_beam.events import DeadLetter
from boiler_beam.plan import Plan
from boiler_beam.steps.newest import NewestVersions

__all__ = ["Writes", "writes_per_change"]


@dataclass(frozen=True)
class Writes:
    """How many rows (each copy counts) a change of one document of a collection writes, if it changes all of them.

    Attributes:
        collection: The collection.
        documents: How many documents it has.
        total: The sum of the rows over all documents.
        by_path: The number of rows of each document that some row has, by the document's path.
    """

    collection: str
    documents: int
    total: int
    by_path: Counter[str]

    @property
    def mean(self) -> float:
        """Rows per change."""
        return self.total / self.documents if self.documents else 0.0

    def __str__(self) -> str:
        path = min(self.by_path, key=lambda one: (-self.by_path[one], one), default=None)
        most = f", at most {self.by_path[path]:,} ({path})" if path is not None else ""
        million = Billed(writes=round(self.mean * 1e6))
        costs = " to ".join(f"{million.usd(prices):,.2f}" for prices in PRICES.values())
        return f"{self.collection}: {self.mean:,.1f} rows{most}; in Firestore {costs} USD for a million changes"


def writes_per_change(plan: Plan, versions: NewestVersions) -> Iterator[Writes]:
    """Counts, for each collection of the plan, the rows that have each document."""
    counts: list[Counter[str]] = [Counter() for _ in plan.collections]
    dead_letters: list[DeadLetter] = []
    for planned in plan.planned_views:
        computed = ComputedView(planned, versions, dead_letters.append)
        for row_id in computed.row_ids():
            copies = sum(copy.fields is not None for copy in computed.copies(row_id))
            if not copies:
                continue
            documents = computed.documents(row_id)
            reached: dict[int, set[str]] = {}
            for edge in planned.view.edges:
                reached.setdefault(edge.type_index, set()).update(documents(edge.name))
            for type_index, paths in reached.items():
                for path in paths:
                    counts[type_index][path] += copies
    for type_index, (collection, count) in enumerate(zip(plan.collections, counts, strict=True)):
        yield Writes(collection, len(versions.types[type_index].documents), count.total(), count)
