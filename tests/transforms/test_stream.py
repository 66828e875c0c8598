"""The streaming pipeline on Beam's runners: timers, watermarks, stable labels, coders and state."""

from __future__ import annotations

import itertools
import json
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest

pytest.importorskip("apache_beam", reason="Beam is an extra: other Pythons run without it")
pytestmark = pytest.mark.beam

import apache_beam as beam  # noqa: E402
from apache_beam.options.pipeline_options import DebugOptions, PipelineOptions, StandardOptions  # noqa: E402
from apache_beam.portability.api import beam_runner_api_pb2  # noqa: E402
from apache_beam.runners.direct.direct_runner import BundleBasedDirectRunner  # noqa: E402
from apache_beam.runners.direct.direct_userstate import DirectUserStateContext  # noqa: E402
from apache_beam.testing.test_stream import TestStream as Events  # noqa: E402
from apache_beam.transforms.window import TimestampedValue  # noqa: E402

import boiler_beam as bb  # noqa: E402
from boiler_beam import Ref, aggregate, group, root, view_property  # noqa: E402
from boiler_beam.beam import ComputeRows  # noqa: E402
from boiler_beam.beam.elements import Changes  # noqa: E402
from boiler_beam.beam.stateful import BeamOutput, Behavior, RememberedTimer, Roles, keyed_view, stateful  # noqa: E402
from boiler_beam.beam.stream import follow_views  # noqa: E402
from boiler_beam.errors import UsageError  # noqa: E402
from boiler_beam.events import Change, Row, Touch  # noqa: E402
from boiler_beam.plan import PlanName, compile_plan  # noqa: E402
from boiler_beam.steps.keyed import Step, steps_of  # noqa: E402
from boiler_beam.steps.keyed.wire import decode, encode  # noqa: E402
from pipelines.streaming import refuse_at_least_once  # noqa: E402
from tests.helpers.executors import streamed_on_beam  # noqa: E402
from tests.helpers.histories import change, lines  # noqa: E402
from tests.helpers.servers import NO_PRISM, prism  # noqa: E402

HERE = Path(__file__).parent
MEETING = "boiler_beam.samples.meeting:MeetingSession"


class Account(bb.DomainModel, collection="accounts"):
    balance: int
    currency: str = "EUR"


class Bank(bb.DomainModel, collection="banks"):
    accounts: list[Ref[Account]]


class Total(bb.ViewModel, collection="totals"):
    class Store(bb.Store):
        bank: Bank = root(Bank)
        accounts: dict[str, Account] = bb.reference("bank.accounts")

    store: Store
    total = aggregate.sum("accounts", of="balance")

    @view_property
    def shown(self) -> int:
        return sum(account.balance for account in self.store.accounts.values())


class Balances(bb.ViewModel, collection="balances"):
    class Store(bb.Store):
        accounts: dict[str, Account] = group(Account, by="balance")

    store: Store
    number = aggregate.count("accounts")


def balance(account: Account) -> int:
    time.sleep(0.13)  # longer than Prism waits until it splits the bundle
    return account.balance


class SlowTotal(bb.ViewModel, collection="slow_totals"):
    class Store(bb.Store):
        accounts: dict[str, Account] = group(Account, by="currency")

    store: Store
    total = aggregate.sum("accounts", of=balance)


class Pass(NamedTuple):
    """Time passes on the runner's clock, which begins at 0."""

    seconds: float


def follow(steps: list[Any], behavior: Behavior, view: type[bb.ViewModel] = Total) -> list[Any]:
    """Sends changes and watermarks (numbers, in microseconds) through the pipeline; gives the rows in their order."""
    stream = Events()
    for step in steps:
        if isinstance(step, Pass):
            stream = stream.advance_processing_time(step.seconds)
        elif isinstance(step, (int, float)):
            stream = stream.advance_watermark_to(step / 1e6)
        else:
            stream = stream.add_elements([_timed(one) for one in step])
    stream = stream.advance_watermark_to(1_000_000).advance_watermark_to_infinity()
    options = PipelineOptions()
    options.view_as(StandardOptions).streaming = True
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows")
        path.touch()

        def keep(row: Row) -> None:
            with path.open("a") as file:
                file.write(encode(row).hex() + "\n")

        with beam.Pipeline(runner=BundleBasedDirectRunner(), options=options) as pipeline:
            events = pipeline | stream | beam.Map(decode)
            changes = events | beam.Filter(lambda event: isinstance(event, Change)).with_output_types(Change)
            touches = events | "Touch" >> beam.Filter(lambda event: isinstance(event, Touch)).with_output_types(Touch)
            given = Changes(changes, touches=touches)
            computed = follow_views(given, compile_plan([view]).name, {view.__name__: behavior})
            computed.rows | beam.Map(keep)
        return [decode(bytes.fromhex(line)) for line in path.read_text().splitlines()]


def _timed(one: Any) -> TimestampedValue:
    if isinstance(one, Touch):
        return TimestampedValue(encode(one), one.read_time / 1e6)
    return TimestampedValue(encode(change(*one)), one[1] / 1e6)


BANK = ("banks/b1", 1_000, {"accounts": ["accounts/a1", "accounts/a2"]})
OPENED = [("accounts/a1", 1_000, {"balance": 0}), ("accounts/a2", 1_000, {"balance": 0})]


def test_s19_no_row_holds_a_part_of_a_commit() -> None:
    """A transfer whose second half comes late, after a later transfer: the total of every row is 0, until a deposit."""
    steps = [
        [BANK, *OPENED],
        50_000,
        [("accounts/a1", 60_000, {"balance": -5})],
        [("accounts/a2", 70_000, {"balance": 8}), ("accounts/a1", 70_000, {"balance": -8})],
        55_000,
        [("accounts/a2", 60_000, {"balance": 5})],
        65_000,
        [("accounts/a1", 80_000, {"balance": -7})],
        200_000,
    ]
    rows = [row.fields for row in follow(steps, Behavior(is_commit=True))]
    assert [(row["total"], row["shown"]) for row in rows] == [(0, 0), (1, 1)]
    halves = [row.fields["total"] for row in follow(steps, Behavior(coalesce_seconds=0))]
    assert halves[-1] == 1


def test_s19_later_steps_wait_longer() -> None:
    """A step's watermark is held at the time that the timers of the step before fire, so it must be past that."""
    plan, behavior = keyed_view(PlanName((MEETING,))), Behavior(is_commit=True)
    known = list(steps_of(plan, BeamOutput(plan)).values())
    ripe = [
        stateful(stage, PlanName((MEETING,)), level, behavior, Roles(False, frozenset())).ripe_at(1_234_567)
        for level, stage in enumerate(known)
    ]
    assert ripe == [1_235_000 + 1_000 * level for level in range(len(known))]


def test_s19_a_late_change_goes_on_as_an_eventual_one() -> None:
    late = [[BANK, *OPENED], 500_000, [("accounts/a1", 60_000, {"balance": 7})]]
    rows = follow(late, Behavior(is_commit=True))
    assert rows[-1].fields == {"shown": 7, "total": 7}


def test_gating_no_row_before_the_watermark_is_past_the_snapshot() -> None:
    """Each row is rendered once at that time, and again when all input is in."""
    steps = [
        [BANK, *OPENED],
        [("accounts/a1", 40_000, {"balance": 3})],
        90_000,
        [("accounts/a1", 95_000, {"balance": 4})],
    ]
    rows = follow(steps, Behavior(gate_micros=80_000))
    assert [row.fields["total"] for row in rows] == [3, 4]


class Kept:
    """A value in state."""

    value: Any = None

    def read(self) -> Any:
        return self.value

    def write(self, value: Any) -> None:
        self.value = value

    def clear(self) -> None:
        self.value = None


class Settings(list[int]):
    """A timer that notes for which times it was set, in microseconds."""

    def set(self, when: Any) -> None:
        self.append(when.micros)


def test_messages_of_a_busy_row_do_not_put_off_its_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    settings, due, now = Settings(), Kept(), [0]
    monkeypatch.setattr("boiler_beam.beam.stateful._now_micros", lambda: now[0])
    timer = RememberedTimer(due, settings)
    assert [timer.set(micros) for micros in (10_000, 20_000, 8_000, 9_000)] == [True, False, True, False]
    now[0] = 8_001
    assert timer.set(30_000)
    assert settings == [10_000, 8_000, 8_000], "an overdue timer is set for the same time"
    timer.forget()
    assert timer.set(40_000)


class LossyTimer:
    """A timer that loses its first setting.

    Args:
        timer: The runner's timer.
        key: Its key.
        known: The keys whose timers were set before.
    """

    def __init__(self, timer: Any, key: bytes, known: set[bytes]) -> None:
        self.timer, self.key, self.known = timer, key, known

    def set(self, when: Any) -> None:
        if self.key in self.known:
            self.timer.set(when)
        self.known.add(self.key)


@pytest.mark.parametrize(
    ("lost", "behavior", "steps", "totals"),
    [
        (
            "render", Behavior(),
            [[BANK, *OPENED], Pass(100), [("accounts/a1", 20_000, {"balance": 3})], Pass(100), [("accounts/a1", 30_000, {"balance": 4})]],
            [0, 3, 4],
        ),
        (
            "backstop", Behavior(gate_micros=80_000),
            [[BANK, *OPENED], [("accounts/a1", 40_000, {"balance": 3})], 90_000, [("accounts/a1", 95_000, {"balance": 4})]],
            [3, 4],
        ),
        (
            "ripe", Behavior(is_commit=True),
            [[BANK, *OPENED], 50_000, [("accounts/a1", 60_000, {"balance": 3})], 90_000],
            [0, 3],
        ),
    ],
)  # fmt: skip
def test_a_timer_that_the_runner_loses_is_set_again_by_the_next_message(
    lost: str, behavior: Behavior, steps: list[Any], totals: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds, known, get_timer = itertools.count(1), set[bytes](), DirectUserStateContext.get_timer

    def lossy(context: Any, spec: Any, key: bytes, *others: Any) -> Any:
        timer = get_timer(context, spec, key, *others)
        return LossyTimer(timer, key, known) if spec.name == f"ts-{lost} Total/Row" else timer

    monkeypatch.setattr("boiler_beam.beam.stateful._now_micros", lambda: next(seconds) * 1_000_000)
    monkeypatch.setattr(DirectUserStateContext, "get_timer", lossy)
    rows = follow(steps, behavior)
    assert known, "a timer was lost"
    assert [row.fields["total"] for row in rows] == totals


def test_a_group_whose_members_all_left_is_deleted() -> None:
    steps = [[("accounts/a1", 1_000, {"balance": 1})], 50_000, [("accounts/a1", 60_000, {"balance": 2})], 90_000]
    rows = follow(steps, Behavior(is_commit=True), Balances)
    assert sorted((row.path, row.fields) for row in rows[1:]) == [
        ("balances/1", None),
        ("balances/2", {"number": 1}),
    ]


def test_s16_a_touch_gives_a_row_again_and_one_of_no_row_is_passed_over() -> None:
    paths = ("totals/b1", "totals/b2", "accounts/a1", "totals", "x/totals/b1")
    rows = follow([[BANK, *OPENED], 50_000, [Touch("Total", path, 60_000) for path in paths], 90_000], Behavior())
    found = [(row.path, row.stamp.version, row.fields is None) for row in rows]
    assert sorted(found) == [("totals/b1", 60_000, False), ("totals/b2", 60_000, True)], (
        "what came together is given once"
    )


@pytest.mark.slow
@pytest.mark.skipif(prism() is None, reason=NO_PRISM)
def test_prism_loses_nothing_where_bundles_are_slow(tmp_path: Path) -> None:
    """It would split them, and then a document's state, of which a copy was in use, is older than what was sent of it."""
    table = [(f"accounts/a{place % 2}", 10 * (place + 1), {"balance": place % 7}) for place in range(16)]
    own = "--experiments=disable_prism_server_singleton"  # another test's Prism may have been looked for elsewhere
    outcome = streamed_on_beam(
        compile_plan([SlowTotal]), lines(table), tmp_path, f"--prism_location={prism()}", own, runner="PrismRunner",
    )  # fmt: skip
    assert outcome.rows == {"slow_totals/EUR": b'{"total":1}'}


def test_only_prism_is_told_not_to_split_bundles() -> None:
    told = []
    for runner in ("PrismRunner", "FnApiRunner"):
        pipeline = beam.Pipeline(runner=runner, options=PipelineOptions(["--experiments=another"]))
        changes = pipeline | beam.Create([change(*BANK)])
        changes | ComputeRows(Total, mode="stream")
        told.append(pipeline.options.view_as(DebugOptions).experiments)
    assert ["prism_disable_sdf_split" in one for one in told] == [True, False]
    assert all("another" in one for one in told)


@pytest.mark.skipif(prism() is None, reason=NO_PRISM)
@pytest.mark.parametrize("consistency", ["eventual", "commit"])
def test_prism(tmp_path: Path, consistency: str) -> None:
    table = [BANK, *OPENED, ("accounts/a1", 60_000, {"balance": -5}), ("accounts/a2", 60_000, {"balance": 5})]
    own = "--experiments=disable_prism_server_singleton"  # another test's Prism may have been looked for elsewhere
    outcome = streamed_on_beam(
        compile_plan([Total]), lines(table), tmp_path, f"--prism_location={prism()}", own, runner="PrismRunner", consistency=consistency,
    )  # fmt: skip
    assert outcome.rows == {"totals/b1": b'{"shown":0,"total":0}'}


@pytest.mark.parametrize("is_commit", [False, True])
def test_s3_what_went_long_before_the_program_began_is_forgotten(
    is_commit: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its timer waits until the program may forget; where the clock is not so far yet, the cell is looked at again."""
    seconds, found, expire = [1.1], [], Step.expire

    def watched(stage: Step, cell: Any, horizon: int) -> int | None:
        gone = expire(stage, cell, horizon)
        found.append((stage.label, horizon, cell.read() is None))
        seconds[0] = 70.0
        return gone

    monkeypatch.setattr(Step, "expire", watched)
    monkeypatch.setattr("boiler_beam.beam.stateful._now_micros", lambda: int(seconds[0] * 1e6))
    steps = [[("accounts/a1", 1_000, {"balance": 1}), ("accounts/a1", 10_000, None)], 600_000]
    behavior = Behavior(is_commit=is_commit, retention_micros=500_000, since_micros=1_000_000)
    follow(steps, behavior, Balances)
    first = found[0][0]
    assert [one for one in found if one[0] == first] == [(first, 0, False), (first, 69_500_000, True)]


def graph(view: str, consistency: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What Dataflow would be sent of a view: each stage with its coder, state and timers."""
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    arguments = ["--runner=DataflowRunner", "--dry_run=True", "--project=project", "--region=r", "--streaming"]
    options = PipelineOptions([*arguments, "--temp_location=gs://bucket/temp", "--no_auth"])
    pipeline = beam.Pipeline(options=options)
    changes = pipeline | beam.Impulse() | "Changes" >> beam.Map(lambda data: data).with_output_types(Change)
    changes | "Follow" >> ComputeRows(view, mode="stream", consistency=consistency)
    parts = pipeline.run().job.proto_pipeline.components
    found = {}
    for one in parts.transforms.values():
        if one.spec.urn != "beam:transform:pardo:v1" or not one.unique_name.startswith("Follow/"):
            continue
        payload = beam_runner_api_pb2.ParDoPayload.FromString(one.spec.payload)
        (coder,) = {parts.pcollections[name].coder_id for name in one.inputs.values()}
        inner = [parts.coders[name].spec.urn for name in parts.coders[coder].component_coder_ids]
        found[one.unique_name] = {
            "coder": [parts.coders[coder].spec.urn, *inner],
            "state": {name: spec.WhichOneof("spec") for name, spec in sorted(payload.state_specs.items())},
            "timers": sorted(payload.timer_family_specs),
        }
    return found


@pytest.mark.parametrize("consistency", ["eventual", "commit"])
def test_a_running_job_can_be_updated(consistency: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels, coders and state of the meeting view are what they were: a change of `meeting.json` breaks running jobs."""
    found = graph(MEETING, consistency, monkeypatch)
    assert found == json.loads((HERE / "meeting.json").read_text())
    kinds = {kind for stage in found.values() for kind in stage["state"].values()}
    assert kinds <= {"bag_spec", "read_modify_write_spec"}, "state that every runner has (rule 7)"


def test_at_least_once_is_refused() -> None:
    options = PipelineOptions(["--dataflow_service_options=streaming_mode_at_least_once"])
    with pytest.raises(UsageError, match="expected exactly-once streaming, because stages add up the messages"):
        refuse_at_least_once(options)
    refuse_at_least_once(PipelineOptions([]))
