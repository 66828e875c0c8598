"""A stream on many workers, simulated by `tests.helpers.simulation` (S1-S16).

Each statement is held by planting its violation, too: the simulator must find it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from boiler_beam.errors import InvalidDocument
from boiler_beam.events import Change
from boiler_beam.steps import claims, emission, newest
from boiler_beam.steps.emission import Emitted
from boiler_beam.steps.keyed import documents, joins, rows
from boiler_beam.steps.keyed.joins import PathCount, PathCountStep, PathJoinStep
from boiler_beam.steps.keyed.messages import CandidateDelta, MembershipDelta
from boiler_beam.steps.keyed.rows import KeptDocuments, RowStep
from tests.conftest import PROFILE
from tests.helpers.simulation import WORLDS, generations, restarts

SEEDS = range(2000 if PROFILE == "thorough" else 60)


@pytest.mark.thorough
@pytest.mark.parametrize("name", WORLDS)
def test_what_stands_is_right(name: str) -> None:
    for seed in SEEDS:
        try:
            WORLDS[name](seed)
        except AssertionError as error:
            raise AssertionError(f"{name}, seed {seed}: {error}") from error


# Violations: each must be found --------------------------------------------------------------------------------------


def s2(real: Any) -> Any:
    def observe(edge: Any, head: Any, change: Change, horizon: int, refuse: Any) -> Any:
        try:
            edge.codec.decode(change.path, change.version, change.fields)
        except InvalidDocument:
            change = Change(change.path, change.version, msgspec.Raw(b"null"))
        return real(edge, head, change, horizon, refuse)

    return observe


def s3(real: Any) -> Any:
    return lambda edge, head, change, horizon, refuse: real(edge, head, change, 0, refuse)


def s7(real: Any) -> Any:
    def update(self: RowStep, head: Any, cell: Any, key: Any, message: Any) -> bool:
        if isinstance(message, MembershipDelta) and (message.new is None or message.values):
            message = msgspec.structs.replace(message, version=0)
        return bool(real(self, head, cell, key, message))

    return update


def s9(real: Any) -> Any:
    def emit(last: Emitted | None, version: int, fields: Any, epoch: int, now: int | None = None) -> Any:
        found = real(last, version, fields, epoch, now)
        return found and msgspec.structs.replace(found, seq=1 if last is None else last.seq + 1)

    return emit


def s10(real: Any) -> Any:
    def update(self: Any, head: PathCount, cell: Any, key: Any, message: CandidateDelta) -> None:
        head.states.clear()
        real(self, head, cell, key, msgspec.structs.replace(message, weight=min(1, message.weight)))

    return update


VIOLATIONS: dict[str, tuple[str, list[Any], str, Callable[[Any], Any]]] = {
    "S1: whichever comes last stands": ("any order", [newest], "_replaces", lambda real: lambda *_: True),
    "S2: an invalid version deletes": ("any order", [documents, joins], "take_version", s2),
    "S3: nothing is too old": ("forgetting", [documents, joins], "take_version", s3),
    "S3: subscribers are dropped": ("forgetting", [PathJoinStep], "empty_since", lambda real: lambda self, head, cell: head.empty_since()),
    "S7: what leaves does not raise the version": ("a backfill while no stream is live", [RowStep], "update", s7),
    "S8: rows do not wait": ("seen", [KeptDocuments], "is_waiting", lambda real: property(lambda self: False, lambda self, value: None)),
    "S9: a sequence restarts below itself": ("forgetting", [emission, claims], "emit", s9),
    "S10: a path is a path": ("any order", [PathCountStep], "update", s10),
    "S11: the largest has the path": ("any order", [claims], "min", lambda real: max),
    "S16: a touch does nothing": ("a backfill beside the stream", [rows], "uncertain", lambda real: lambda last: last or Emitted(0, 0, None, 0)),
}  # fmt: skip


@pytest.mark.parametrize("name", VIOLATIONS)
def test_a_violation_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    world, places, what, broken = VIOLATIONS[name]
    for where in places:
        monkeypatch.setattr(where, what, broken(getattr(where, what, None)), raising=False)
    assert any(is_wrong(WORLDS[world], seed) for seed in range(2000))


@pytest.mark.slow
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
