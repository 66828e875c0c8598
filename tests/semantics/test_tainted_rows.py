"""A backfill never replaces a tainted row in the sink, and names each tainted row (S5)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

import boiler_beam as bb
from boiler_beam import Ref, aggregate, document, group, reference, referrers, root, view_property
from boiler_beam.connectors.memory import MemorySink
from boiler_beam.engine import Report, backfill
from boiler_beam.engine.write import RowWriter
from boiler_beam.events import DeadLetter
from boiler_beam.oracle import compute
from boiler_beam.plan import Plan, compile_plan
from boiler_beam.plan.explain import explain
from tests.helpers import shop, town
from tests.helpers.engine import Batches, followed
from tests.helpers.executors import on_beam, partitioned, told
from tests.helpers.histories import Event, ListSource, changes, lines
from tests.helpers.random_views import views
from tests.helpers.strategies import histories

PLANS = {"shop": compile_plan(shop.VIEWS), "town": compile_plan(town.VIEWS)}
Run = Callable[[Plan, list[Event], MemorySink], list[DeadLetter]]


def embedded(plan: Plan, table: list[Event], sink: MemorySink) -> list[DeadLetter]:
    letters: list[DeadLetter] = []
    backfill(plan, [ListSource(changes(table))], sink, letters.append, prune="all", read_time=99)
    return letters


def in_partitions(plan: Plan, table: list[Event], sink: MemorySink) -> list[DeadLetter]:
    """Runs the batch steps without Beam, and the last stage, which writes their rows."""
    outcome = partitioned(plan, changes(table))
    letters = list(outcome.letters)
    with sink.backfill([view.target for view in plan.views]) as writer:
        rows = RowWriter(plan.views, sink, writer, 99, letters.append)
        for place in range(len(plan.views)):
            rows.views[place].possible_members([one for where, one in outcome.possible_members if where == place])
        for place, copy in outcome.copies:
            if copy.fields is None:
                rows.views[place].unknown(copy.path, copy.tainted_by)
        for place, copy in outcome.copies:
            if copy.fields is not None:
                rows.views[place].write(*copy)  # type: ignore[arg-type]
        letters += rows.finish("all", [False for _ in plan.views])
    return letters


RUNS: dict[str, Run] = {"embedded": embedded, "in partitions": in_partitions}
runs = pytest.mark.parametrize("run", RUNS.values(), ids=list(RUNS))


def snapshot(table: list[Event]) -> list[Event]:
    """Returns the documents that a database has after a history: the newest version of each, also if it is invalid."""
    newest = {path: (path, version, fields) for path, version, fields in sorted(table, key=lambda event: event[1])}
    return [event for event in newest.values() if event[2] is not None]


def once(table: list[Event]) -> list[Event]:
    """Returns a history in which the versions of a document are distinct."""
    return list({event[:2]: event for event in table}.values())


def stands(plan: Plan, sink: MemorySink) -> dict[str, bytes]:
    return {row.path: row.fields or b"" for view in plan.views for row in sink.current_rows(view.target)}


def assert_not_spoiled(plan: Plan, run: Run, before: list[Event], after: list[Event]) -> None:
    """Backfills a snapshot of a history, then one of a longer history, and checks each row."""
    sink = MemorySink()
    run(plan, snapshot(before), sink)
    old = stands(plan, sink)
    letters = run(plan, snapshot([*before, *after]), sink)
    new = stands(plan, sink)
    truth, computed = (
        compute(plan, changes([*before, *after])),
        compute(plan, changes(snapshot([*before, *after]))),
    )
    named = {letter.path or "" for letter in letters if letter.code == "row_tainted"}
    unknown = truth.unknown | computed.unknown
    for path in told(plan, unknown, {**old, **new, **truth.rows, **computed.rows}):
        there, right, naive = new.get(path), truth.rows.get(path), computed.rows.get(path)
        is_named = any(name == path or is_template_of(name, path) for name in named)
        assert there in (old.get(path), naive), path
        assert there == naive or is_named, f"{path} was left, and not named"
        assert there in (right, old.get(path)) or is_named, f"{path} was made wrong, and not named"
        if old.get(path) is not None and old.get(path) == right:
            assert there == right, f"{path} was right, and was spoiled"


def is_template_of(name: str, path: str) -> bool:
    parts = name.split("/")
    return len(parts) == path.count("/") + 1 and all(
        one == other or one[:1] == "{" for one, other in zip(parts, path.split("/"), strict=True)
    )


WRONG: dict[str, list[dict[str, Any]]] = {
    "tags": [{"name": 7}], "items": [{"label": None}, {"tag": 7}, {"obj_type": "Nobody"}], "people": [{"name": 7}, {"team": 7}],
    "orders": [{"status": "?"}, {"owner": 7}, {"items": 7}, {"slots": 7}, {"divisor": "x"}], "config": [{"factor": "x", "featured": 7}],
    "guests": [{"name": 7}, {"nick": 7}, {"level": "?"}], "rooms": [{"topic": 7}, {"members": 7}, {"host": 7}],
    "messages": [{"sent": "x"}, {"author": 7}, {"tags": ["x", 7]}], "notes": [{"text": None}], "comments": [{"stars": "x"}, {"by": 7}],
}  # fmt: skip
"""For each collection the invalid values: in a field that is no key or reference, and in one that is."""


@st.composite
def spoilt(draw: st.DrawFn, table: list[Event]) -> list[Event]:
    """Returns later versions of some documents with an invalid field."""
    newest = {event[0]: event for event in sorted(table, key=lambda event: event[1])}
    there = [event for event in newest.values() if event[2] is not None]
    found = []
    for path, version, fields in (
        draw(st.lists(st.sampled_from(there), max_size=3, unique_by=lambda one: one[0])) if there else []
    ):
        found.append((path, version + 1, fields | draw(st.sampled_from(WRONG[path.split("/")[-2]]))))
    return found


@st.composite
def stories(draw: st.DrawFn, *, is_town: bool) -> tuple[list[Event], list[Event]]:
    """Histories for a first and a second backfill; in both some documents are invalid."""
    before = once(draw(histories(is_town=is_town, is_invalid=False)))
    before += draw(spoilt(before))
    more = once(draw(histories(is_town=is_town, is_invalid=False)))[-8:]
    after = [(path, version + 9, fields) for path, version, fields in more]
    return before, [*after, *draw(spoilt([*before, *after]))]


@runs
@pytest.mark.parametrize("world", PLANS)
@given(data=st.data())
def test_s5_no_right_row_is_spoiled(run: Run, world: str, data: st.DataObject) -> None:
    story = data.draw(stories(is_town=world == "town"))
    note("before = {!r}\nafter = {!r}".format(*story))
    assert_not_spoiled(PLANS[world], run, *story)


@runs
@given(data=st.data())
def test_s5_no_right_row_of_any_view_is_spoiled(run: Run, data: st.DataObject) -> None:
    plan, story = compile_plan([data.draw(views())]), data.draw(stories(is_town=True))
    note(explain(plan))
    note("before = {!r}\nafter = {!r}".format(*story))
    assert_not_spoiled(plan, run, *story)


class Sale(bb.DomainModel, collection="sales"):
    day: str
    cents: int
    region: str = "north"
    tags: list[str] = bb.field(default_factory=list)

    @property
    def month(self) -> str:
        return self.day[:7]

    @property
    def size(self) -> str:
        return "large" if self.cents > 99 else "small"


class Month(bb.ViewModel, collection="months"):
    class Store(bb.Store):
        sales: dict[str, Sale] = group(Sale, by="month")

    store: Store
    total = aggregate.sum("sales", of="cents")


class Size(bb.ViewModel, collection="sizes"):
    class Store(bb.Store):
        sales: dict[str, Sale] = group(Sale, by="size")

    store: Store
    total = aggregate.count("sales")


class RegionSize(bb.ViewModel, collection="region_sizes"):
    class Store(bb.Store):
        sales: dict[str, Sale] = group(Sale, by=("region", "size"))

    store: Store
    total = aggregate.count("sales")


class Patient(bb.DomainModel, collection="patients"):
    name: str


class Drug(bb.DomainModel, collection="drugs"):
    name: str


class Prescription(bb.DomainModel, collection="prescriptions"):
    patient: Ref[Patient]
    drug: Ref[Drug]
    number: int = 1


class Card(bb.ViewModel, collection="cards"):
    class Store(bb.Store):
        patient: Patient = root(Patient)
        prescriptions: dict[str, Prescription] = referrers(Prescription, by="patient")
        drugs: dict[str, Drug] = reference("prescriptions.drug")

    store: Store

    @view_property
    def drugs(self) -> list[str]:
        return [drug.name for drug in self.store.drugs.values()]


class Use(bb.ViewModel, collection="uses"):
    class Store(bb.Store):
        drug: Drug = root(Drug)
        prescriptions: dict[str, Prescription] = referrers(Prescription, by="drug")

    store: Store
    number = aggregate.count("prescriptions")


class Both(bb.ViewModel, collection="boths"):
    class Store(bb.Store):
        prescriptions: dict[str, Prescription] = group(Prescription, by=("patient", "drug"))

    store: Store
    number = aggregate.count("prescriptions")


class Rates(bb.DomainModel, collection="config"):
    factor: int


class Priced(bb.ViewModel, collection="priced"):
    class Store(bb.Store):
        drug: Drug = root(Drug)
        rates: Rates | None = document(Rates, "config/rates", optional=True)

    store: Store

    @view_property
    def factor(self) -> int | None:
        return self.store.rates.factor if self.store.rates else None


SALES: list[Event] = [
    ("sales/a", 1, {"day": "2026-01-01", "cents": 100}),
    ("sales/b", 1, {"day": "2026-01-31", "cents": 50}),
    ("sales/c", 1, {"day": "2026-02-01", "cents": 10, "region": "south"}),
]
BAD_SALE: Event = ("sales/b", 2, {"day": "2026-01-31", "cents": "50"})
MEDICINE: list[Event] = [
    ("patients/p", 1, {"name": "Ann"}), ("patients/q", 1, {"name": "Bo"}), ("drugs/d", 1, {"name": "D"}),
    ("prescriptions/1", 1, {"patient": "patients/p", "drug": "drugs/d"}), ("config/rates", 1, {"factor": 2}),
]  # fmt: skip
BAD_PRESCRIPTION: Event = ("prescriptions/2", 2, {"patient": "patients/p", "drug": None})


def both(plan: Plan, first: list[Event], second: list[Event], run: Run) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns the rows after two backfills, and the tainted rows that the second one reported."""
    sink = MemorySink()
    if first:
        run(plan, first, sink)
    letters = run(plan, second, sink)
    said = {letter.path or "": letter.message for letter in letters if letter.code == "row_tainted"}
    return {path: json.loads(fields) for path, fields in stands(plan, sink).items()}, said


LEFT, WRITTEN = (
    "the current row was left as it is",
    "the sink had no such row, and it was written without that document",
)
IS_INVALID = "is an invalid document that may belong to this row"


@runs
def test_a_key_that_is_computed_of_valid_fields_taints_its_row_alone(run: Run) -> None:
    rows, said = both(
        compile_plan([Month]), SALES, [SALES[0], BAD_SALE, ("sales/c", 2, SALES[2][2] | {"cents": 11})], run
    )
    assert rows == {"months/2026-01": {"total": 150}, "months/2026-02": {"total": 11}}
    assert said == {"months/2026-01": f"Month: sales/b {IS_INVALID}; {LEFT}"}


@runs
def test_a_key_that_cannot_be_computed_taints_each_row_that_would_change(run: Run) -> None:
    table = [SALES[0], BAD_SALE, ("sales/c", 2, SALES[2][2] | {"cents": 200})]
    rows, said = both(compile_plan([Size]), SALES, table, run)
    assert rows == {"sizes/large": {"total": 1}, "sizes/small": {"total": 2}}
    assert said == dict.fromkeys(rows, f"Size: sales/b {IS_INVALID}; {LEFT}")
    unchanged = [*SALES, ("sales/d", 1, {"day": "2026-01-31", "cents": "?"})]
    assert both(compile_plan([Size]), SALES, unchanged, run) == (rows, {}), "no row would change"


@runs
def test_the_part_of_a_key_that_can_be_computed_counts(run: Run) -> None:
    table = [SALES[0], BAD_SALE, ("sales/c", 2, SALES[2][2] | {"cents": 200})]
    rows, said = both(compile_plan([RegionSize]), SALES, table, run)
    assert rows == {
        "region_sizes/north,large": {"total": 1}, "region_sizes/north,small": {"total": 1},
        "region_sizes/south,large": {"total": 1},
    }  # fmt: skip
    assert list(said) == ["region_sizes/north,small"]


class Odd(bb.DomainModel, collection="odd"):
    value: Any

    @property
    def key(self) -> str:
        return self.value  # type: ignore[no-any-return]


class ByKey(bb.ViewModel, collection="by_keys"):
    class Store(bb.Store):
        odd: dict[str, Odd] = group(Odd, by="key")

    store: Store
    number = aggregate.count("odd")

    @view_property
    def its_key(self) -> str:
        return self.key


def test_a_key_is_of_the_type_that_it_is_annotated_with() -> None:
    """Otherwise "7" and 7 would have the same row."""
    table = [("odd/a", 1, {"value": "7"}), ("odd/b", 1, {"value": 7}), ("odd/c", 1, {"value": True})]
    truth = compute(compile_plan([ByKey]), changes(table))
    assert {path: json.loads(row) for path, row in truth.rows.items()} == {"by_keys/7": {"itsKey": "7", "number": 1}}
    message = "by= of odd raised TypeError: expected key to be str, as it is annotated, got 7"
    assert [letter.message for letter in truth.dead_letters if letter.path == "odd/b"] == [message]


@runs
def test_a_reference_in_a_key_is_read_of_an_invalid_document(run: Run) -> None:
    """Its last valid version is in another row; `number` makes it invalid."""
    valid: Event = ("prescriptions/2", 1, {"patient": "patients/q", "drug": "drugs/d"})
    bad: Event = ("prescriptions/2", 2, {"patient": "patients/p", "drug": "drugs/d", "number": "x"})
    another: Event = ("prescriptions/3", 1, {"patient": "patients/p", "drug": "drugs/d"})
    rows, said = both(compile_plan([Both]), MEDICINE, [*MEDICINE, valid, bad, another], run)
    assert rows["boths/patients%2Fp,drugs%2Fd"] == {"number": 1}, "it stays, though prescriptions/3 is there"
    assert "boths/patients%2Fp,drugs%2Fd" in said


@runs
def test_the_last_valid_version_says_the_key_where_it_is_known(run: Run) -> None:
    table = [*SALES, BAD_SALE, ("sales/c", 2, SALES[2][2] | {"cents": 200})]
    rows, said = both(compile_plan([Size]), SALES, table, run)
    assert rows == {"sizes/large": {"total": 2}, "sizes/small": {"total": 2}}
    assert list(said) == ["sizes/small"], "sales/b was small; sizes/large is written as it is now"


@runs
def test_a_first_backfill_gives_what_a_stream_gives(run: Run) -> None:
    plan, table = compile_plan([Card, Use, Priced]), [*MEDICINE, BAD_PRESCRIPTION, ("config/rates", 2, {"factor": "x"})]
    rows, said = both(plan, [], table[:4] + table[5:], run)
    streamed, _ = followed(plan, [Batches("all", [changes(table[:4] + table[5:])])])
    assert rows == {path: json.loads(fields) for path, fields in streamed.rows.items()}
    assert rows["cards/p"] == {"drugs": ["D"]}
    assert said == {
        "cards/p": f"Card: prescriptions/2 {IS_INVALID}; {WRITTEN}",
        "uses/d": f"Use: prescriptions/2 {IS_INVALID}; {WRITTEN}",
        "priced/d": f"Priced: config/rates {IS_INVALID}; {WRITTEN}",
    }


@runs
def test_the_next_backfill_after_the_fix_updates_what_was_written_so(run: Run) -> None:
    plan, sink = compile_plan([Card]), MemorySink()
    run(plan, [*MEDICINE, BAD_PRESCRIPTION], sink)
    fixed = [*MEDICINE, ("drugs/e", 3, {"name": "E"}), ("prescriptions/2", 3, {"patient": "p", "drug": "e"})]
    assert not [one for one in run(plan, fixed, sink) if one.code == "row_tainted"]
    assert json.loads(stands(plan, sink)["cards/p"]) == {"drugs": ["D", "E"]}


@runs
def test_a_row_that_an_invalid_root_would_make_is_named_and_not_deleted(run: Run) -> None:
    plan = compile_plan([Card])
    rows, said = both(
        plan, MEDICINE, [("patients/p", 2, {"name": 7}), ("patients/z", 2, {"name": 7}), MEDICINE[1]], run
    )
    assert rows.keys() == {"cards/p", "cards/q"}
    assert said == {
        "cards/p": f"Card: patients/p {IS_INVALID}; {LEFT}",
        "cards/z": f"Card: patients/z {IS_INVALID}; there is no row, and none is computed without that document",
    }


@runs
def test_many_rows_that_a_document_may_belong_to_are_named_once(run: Run) -> None:
    table: list[Event] = [(f"drugs/d{number:03}", 1, {"name": "D"}) for number in range(150)]
    rows, said = both(compile_plan([Use]), [], [*table, BAD_PRESCRIPTION], run)
    assert len(rows) == 150
    assert len(said) == 101
    assert said["uses/{id}"] == f"Use: prescriptions/2 {IS_INVALID}; 50 more rows of the view were written without it"


def test_a_line_that_cannot_be_read_taints_as_an_invalid_document_does(tmp_path: Path) -> None:
    plan = compile_plan([Month, Card])
    torn = DeadLetter(stage="read", code="malformed_line", message="torn", path="sales/b", source="x:1")
    sink = MemorySink()
    embedded(plan, SALES, sink)

    class Torn(ListSource):
        def read(self, split: str) -> Any:
            return iter([*changes([SALES[0], SALES[2]]), torn])

    letters: list[DeadLetter] = []
    report: Report = backfill(plan, [Torn([])], sink, letters.append, prune="all", read_time=99)
    assert json.loads(stands(plan, sink)["months/2026-01"]) == {"total": 150}
    assert [(letter.code, letter.path) for letter in letters] == [
        ("malformed_line", "sales/b"), ("row_tainted", "months/2026-01"),
    ]  # fmt: skip
    assert report.dead_letters == 2


@pytest.mark.beam
@pytest.mark.parametrize(
    "bad", [BAD_SALE, ("sales/b", '"oops"', {})], ids=["an invalid document", "an unreadable line"]
)
def test_on_beam(tmp_path: Path, bad: Event) -> None:
    plan = compile_plan([Month, Size, RegionSize])
    on_beam(plan, lines(SALES), tmp_path)
    second = on_beam(plan, lines([SALES[0], ("sales/c", 2, SALES[2][2] | {"cents": 11}), bad]), tmp_path)
    rows = {path: json.loads(fields) for path, fields in second.rows.items()}
    assert rows["months/2026-01"] == {"total": 150}
    assert rows["sizes/small"] == {"total": 2}
    named = {letter.path for letter in second.letters if letter.code == "row_tainted"}
    assert {"months/2026-01", "sizes/small", "region_sizes/north,small"} <= named
