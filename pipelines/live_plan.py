"""The plan of the live page as a graph: what each step took, which rows stand, and the way of the last change.

A step is a collection, an edge of a view that reads it, or the rows of a view.

    tickets/t2 -> MeetingRoom.tickets -> meeting_rooms/m1
               -> Participation.ticket -> participations/t2

Its numbers are those of the changes that the engine took in this run, and of its report. The rows of the last change
are those of the commits since it was taken.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from boiler_beam.connectors.documents.source import DocumentsFollower
from boiler_beam.events import Change, Event
from boiler_beam.models.collection import CollectionPattern
from boiler_beam.plan import Edge, compile_plan
from boiler_beam.serving.offsets import Position
from boiler_beam.serving.reader import RowReader
from boiler_beam.serving.run import Running
from boiler_beam.views import ViewModel

__all__ = ["PlanGraph", "WatchedDocuments"]

_SHOWN = 20
"""Documents and rows that are named."""


class WatchedDocuments(DocumentsFollower):
    """Follows a store of documents, and remembers which changes were taken.

    Args:
        rest: The file of the documents.
        rows: The file of the rows.
    """

    def __init__(self, rest: str, rows: str) -> None:
        super().__init__(rest)
        self._rows, self._lock = rows, threading.Lock()
        self._taken: Counter[str] = Counter()
        self._last: tuple[list[str], int] = ([], 0)

    def follow(self, position: str | None) -> Iterator[tuple[Sequence[Event], str]]:
        """Yields what the source yields. All rows of the batches before are written when the next one is asked for."""
        with closing(RowReader(self._rows)) as reader:
            for events, after in super().follow(position):
                paths = [event.path for event in events if isinstance(event, Change)]
                if paths:
                    number = reader.mark().number
                    with self._lock:
                        self._taken.update(path.rpartition("/")[0] for path in paths)
                        self._last = (paths, number)
                yield events, after

    def taken(self) -> tuple[dict[str, int], list[str], int]:
        """Returns how many changes of each collection were taken, the last ones, and the last commit before these."""
        with self._lock:
            return dict(self._taken), *self._last


class PlanGraph:
    """The graph of some views.

    Args:
        views: The classes.
        documents: What the engine follows.
    """

    def __init__(self, views: Sequence[type[ViewModel]], documents: WatchedDocuments) -> None:
        self.plan, self.documents = compile_plan(views), documents

    def route(self, served: Running) -> Route:
        """Returns the route that answers the graph as it is now."""

        async def answer(request: Request) -> Response:
            body = msgspec.json.encode(self.now(served))
            return Response(body, headers={"Cache-Control": "no-store"}, media_type="application/json")

        return Route("/page/plan.json", answer)

    def now(self, served: Running) -> dict[str, Any]:
        """Returns collections, views with their edges, and the documents of the last change."""
        taken, last, number = self.documents.taken()
        patterns = {pattern.text: pattern for view in self.plan.views for pattern in map(_collection, view.edges)}

        def step(name: str, pattern: CollectionPattern) -> dict[str, Any]:
            number_of = sum(some for collection, some in taken.items() if pattern.match(f"{collection}/-") is not None)
            passed = any(pattern.match(path) is not None for path in last)
            return {"name": name, "collection": pattern.text, "taken": number_of, "passed": passed}

        views = []
        for view in self.plan.views:
            changed = served.core.rows.of(view.name).changes(view.name, Position(number), _SHOWN).changed
            report = served.report
            views.append(
                {
                    "name": view.name,
                    "edges": [step(edge.name, _collection(edge)) for edge in view.edges],
                    "rows": 0 if report is None else report.rows.get(view.name, 0),
                    "written": 0 if report is None else report.written.get(view.name, 0),
                    "changed": list(dict.fromkeys(one.path for one in changed)),
                }
            )
        collections = [step(name, pattern) for name, pattern in sorted(patterns.items())]
        return {"collections": collections, "views": views, "last": last[:_SHOWN]}


def _collection(edge: Edge) -> CollectionPattern:
    found = edge.model.__boiler__.collection
    assert found is not None, "a model of an edge has a collection"
    return found
