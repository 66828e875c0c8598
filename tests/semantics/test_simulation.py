"""Simulated streams on many machines, by `tests.helpers.simulation`.

Each statement is held by planting its violation, too: the simulator must find it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

import boiler_beam.steps.keyed.edges as edges
import boiler_beam.steps.stream.claims as claims
import boiler_beam.steps.stream.down as down
import boiler_beam.steps.stream.row as row_step
from boiler_beam.errors import InvalidDocument
from boiler_beam.events import Change
from boiler_beam.steps.keyed.edges import UpStage
from boiler_beam.steps.keyed.held import Holding
from boiler_beam.steps.keyed.rows import RowStage
from boiler_beam.steps.stream.cells import DownCell
from boiler_beam.steps.stream.down import Down
from boiler_beam.steps.stream.messages import Shown
from boiler_beam.steps.stream.ways import CountWays
from tests.conftest import PROFILE
from tests.helpers.simulation import WORLDS, generations, restarts

SEEDS = range(2000 if PROFILE == "thorough" else 120)


@pytest.mark.parametrize("name", WORLDS)
def test_what_stands_is_right(name: str) -> None:
    for seed in SEEDS:
        try:
            WORLDS[name](seed)
        except AssertionError as error:
            raise AssertionError(f"{name}, seed {seed}: {error}") from error


# Violations: each must be found --------------------------------------------------------------------------------------


def s2(real: Any) -> Any:
    def observed(self: Down, cell: DownCell, family: int, change: Change) -> Any:
        try:
            self.plan.plan.families[family].decode(change.path, change.version, change.fields)
        except InvalidDocument:
            change = Change(change.path, change.version, msgspec.Raw(b"null"))
        return real(self, cell, family, change)

    return observed


def s3(real: Any) -> Any:
    def observed(self: Down, cell: DownCell, family: int, change: Change) -> Any:
        self.horizon = 0
        return real(self, cell, family, change)

    return observed


def s7(real: Any) -> Any:
    def receive(self: RowStage, cell: Any, key: str, message: Any) -> bool:
        if isinstance(message, Shown) and (message.new is None or message.parts):
            message = msgspec.structs.replace(message, version=0)
        return bool(real(self, cell, key, message))

    return receive


def s9(real: Any) -> Any:
    def emit(last: Any, version: int, fields: Any, epoch: int, least: int = 0) -> Any:
        found = real(last, version, fields, epoch, least)
        return found and msgspec.structs.replace(found, seq=1 if last is None else last.seq + 1)

    return emit


def s10(real: Any) -> Any:
    def candidate(self: Any, cell: Any, edge: int, row: str, path: str, weight: int, state: Any, version: int) -> None:
        cell.states.clear()
        real(self, cell, edge, row, path, min(1, weight), state, version)

    return candidate


VIOLATIONS: dict[str, tuple[str, Any, str, Callable[[Any], Any]]] = {
    "S1: whichever comes last stands": ("any order", down, "replaces", lambda real: lambda *_: True),
    "S2: an invalid version deletes": ("any order", Down, "observed", s2),
    "S3: nothing is too old": ("forgetting", Down, "observed", s3),
    "S3: subscribers are dropped": ("forgetting", UpStage, "gone_since", lambda real: lambda self, cell: edges._gone_since(self._codec.read(cell).down)),
    "S7: what leaves does not raise the version": ("a backfill while no stream is live", RowStage, "receive", s7),
    "S8: rows do not wait": ("seen", Holding, "is_waiting", lambda real: property(lambda self: False, lambda self, value: None)),
    "S9: a sequence restarts below itself": ("forgetting", row_step, "emit", s9),
    "S10: a way is a way": ("any order", CountWays, "candidate", s10),
    "S11: the largest has the path": ("any order", claims, "min", lambda real: max),
    "S16: a touch does nothing": ("a backfill beside the stream", row_step.Row, "touch", lambda real: lambda *_: None),
}  # fmt: skip


@pytest.mark.parametrize("name", VIOLATIONS)
def test_a_violation_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    world, where, what, broken = VIOLATIONS[name]
    monkeypatch.setattr(where, what, broken(getattr(where, what, None)), raising=False)
    assert any(is_wrong(WORLDS[world], seed) for seed in range(2000))


def test_s13_s15_violations_are_found() -> None:
    """Without the next generation a restarted program is refused for ever; without a clock a rolled-back stamp returns."""
    assert any(is_wrong(lambda one: generations(one, step=0), seed) for seed in range(2000))
    assert any(is_wrong(lambda one: restarts(one, is_durable=False), seed) for seed in range(2000))


def is_wrong(world: Callable[[int], None], seed: int) -> bool:
    try:
        world(seed)
    except AssertionError:
        return True
    return False
