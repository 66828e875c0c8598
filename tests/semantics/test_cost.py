"""Rule 5: the work for a change follows the change (S12): counted, not timed, with 33 (`make check-all`: 100) times as much data around it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import boiler_beam as bb
from boiler_beam import Ref, aggregate, document, group, reference, referrers, root, view_property
from boiler_beam.engine.incremental import IncrementalEngine
from boiler_beam.engine.state import SqliteState
from boiler_beam.engine.state.base import StateUpdate
from boiler_beam.oracle import compute
from boiler_beam.plan import Plan, compile_plan
from tests.conftest import examples
from tests.helpers.histories import changes
from tests.helpers.network import CountedLog, Network
from tests.helpers.work import calls_of

pytestmark = pytest.mark.thorough
FEW, MANY, CHANGES = 30, examples(1000, 3000), 60


class Tag(bb.DomainModel, collection="tags"):
    weight: int


class Owner(bb.DomainModel, collection="owners"):
    name: str


class Item(bb.DomainModel, collection="items"):
    owner: Ref[Owner]
    tag: Ref[Tag]
    value: int


def view(store: dict[str, Any], **properties: Any) -> type[bb.ViewModel]:
    body = {"Store": type("Store", (bb.Store,), store), "__module__": __name__, **properties}
    return type("View", (bb.ViewModel,), body, collection="rows")


def reads(name: str) -> Any:
    return view_property(lambda self: [one.value for one in getattr(self.store, name).values()])


def of_owner(**options: Any) -> dict[str, Any]:
    return {"items": group(Item, by="owner", **options)}


VIEWS: dict[str, type[bb.ViewModel]] = {
    "count": view(of_owner(), n=aggregate.count("items")),
    "sum": view(of_owner(), n=aggregate.sum("items", of="value")),
    "mean": view(of_owner(), n=aggregate.mean("items", of="value")),
    "count_distinct": view(of_owner(), n=aggregate.count_distinct("items", of="value")),
    "min": view(of_owner(), n=aggregate.min("items", of="value")),
    "max": view(of_owner(), n=aggregate.max("items", of="value")),
    "top": view(of_owner(), n=aggregate.top("items", n=3, by="value", of="value")),
    "collect": view(of_owner(), n=aggregate.collect("items", of="value", order_by="value", limit=3)),
    "group with a limit": view(of_owner(order_by="value", limit=2), n=reads("items")),
    "referrers": view({"owner": root(Owner), "items": referrers(Item, by="owner")}, n=aggregate.count("items")),
    "referrers with a limit": view(
        {"owner": root(Owner), "items": referrers(Item, by="owner", order_by="-value", limit=2)}, n=reads("items")
    ),
    "reference": view(
        {"item": root(Item), "owner": reference("item.owner")},
        n=view_property(lambda self: [self.store.item.value, self.store.owner.name]),
    ),
    "references of many": view(
        {"items": group(Item, by="owner"), "tags": reference("items.tag")}, n=aggregate.sum("tags", of="weight")
    ),
    "fixed document": view(
        {"item": root(Item), "owner": document(Owner, "owners/o")},
        n=view_property(lambda self: [self.store.item.value, self.store.owner.name]),
    ),
}
Events = list[tuple[str, int, Any]]


def item(number: int, value: int, tag: int = 0) -> tuple[str, Any]:
    return f"items/i{number}", {"owner": "owners/o", "tag": f"tags/t{tag % 3}", "value": value}


def toggled(size: int) -> Events:
    """Changes one item in the middle."""
    return [
        (*item(size // 2, size + number % 2, number)[:1], 0, item(size // 2, size + number % 2, number)[1])
        for number in range(CHANGES)
    ]


def queued(size: int, *, is_smallest: bool) -> Events:
    """Removes the item at one end, and adds one at the other end."""
    events: Events = []
    for number in range(CHANGES // 2):
        gone, come = (number, size + number) if is_smallest else (size - 1 - number, -1 - number)
        events.append((f"items/i{gone}", 0, None))
        path, fields = item(come % (4 * MANY), come)
        events.append((path, 0, fields))
    return events


HISTORIES: dict[str, Callable[[int], Events]] = {
    "toggled": toggled,
    "smallest go": lambda size: queued(size, is_smallest=True),
    "largest go": lambda size: queued(size, is_smallest=False),
}


def history(size: int, kind: str) -> tuple[Events, Events]:
    """Returns documents, and changes with increasing versions."""
    there: Events = [("owners/o", 1, {"name": "o"}), *((f"tags/t{one}", 1, {"weight": one}) for one in range(3))]
    there += [(path, 1, fields) for path, fields in (item(number, number, number) for number in range(size))]
    return there, [(path, place, fields) for place, (path, _, fields) in enumerate(HISTORIES[kind](size), start=2)]


def by_logs(plan: Plan, size: int, kind: str) -> tuple[float, float]:
    """Counts messages, and read and written log entries, for a change in the keyed steps."""
    there, events = history(size, kind)
    network = Network(plan)
    (view,) = network.views
    for change in changes(there):
        network.observe(change)
    view.settle()
    view.render()

    def entries() -> int:
        logs = [log for cell in view.cells.values() for log in cell.logs]
        assert all(isinstance(log, CountedLog) for log in logs)
        return sum(log.entries_read + log.entries_written for log in logs)

    before, view.number_of_messages = entries(), 0
    for change in changes(events):
        network.observe(change)
        view.settle()
        view.render()
    assert network.outcome().rows == compute(plan, changes(there + events)).rows
    return view.number_of_messages / len(events), (entries() - before) / len(events)


def in_one_process(plan: Plan, size: int, kind: str) -> tuple[float, float]:
    """Functions called, and bytes written to the log of a state, for a change; the program was started again before."""
    there, events = history(size, kind)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "state.db"))
        with closing(SqliteState(path)) as state:
            engine = IncrementalEngine(plan, pytest.fail)
            state.open(engine)
            engine.observe(changes(there))
            assert list(engine.views[0].rows.take_dirty())
            state.facts["newest"] = 1
            state.commit(StateUpdate(), engine)
        with closing(SqliteState(path)) as state:
            engine = IncrementalEngine(plan, pytest.fail)
            state.open(engine)
            list(engine.views[0].rows.emit_rows(engine.views[0].rows.records))  # sorts what it reads for the first time
            state.commit(StateUpdate(), engine)
            before = state.numbers()["log"]

            def work() -> None:
                for change in changes(events):
                    engine.observe([change])
                    list(engine.views[0].rows.take_dirty())
                    state.commit(StateUpdate(), engine)

            calls = calls_of(work)
            query = "SELECT sum(length(batch)) FROM log WHERE id > ?"
            (written,) = state.database.execute(query, [before]).fetchone()
    return calls / len(events), written / len(events)


@cache
def plan_of(name: str) -> Plan:
    return compile_plan([VIEWS[name]])


@pytest.mark.parametrize("kind", HISTORIES)
@pytest.mark.parametrize("name", VIEWS)
def test_a_change_costs_the_same_on_many_machines(name: str, kind: str) -> None:
    plan = compile_plan([VIEWS[name]])
    (messages, entries), (more_messages, more_entries) = (by_logs(plan, size, kind) for size in (FEW, MANY))
    assert more_messages <= messages + 0.5
    assert more_entries <= 3 * entries + 300, "compactions and refills are paid by many changes"


@pytest.mark.parametrize("kind", HISTORIES)
@pytest.mark.parametrize("name", VIEWS)
def test_a_change_costs_the_same_in_one_process(name: str, kind: str) -> None:
    plan = plan_of(name)
    (calls, written), (more_calls, more_written) = (in_one_process(plan, size, kind) for size in (FEW, MANY))
    assert more_calls <= calls + 2
    assert more_written <= written + 20, "what did not change is not written again"
