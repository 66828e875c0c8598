"""The settings of a stream, and what it needs to start: a snapshot, its state, and sources with all that it missed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from boiler_beam.connectors.base import Sink, Source
from boiler_beam.engine.state.base import State
from boiler_beam.engine.write import Prune
from boiler_beam.errors import UsageError
from boiler_beam.plan import Plan

__all__ = ["Settings", "has_snapshot", "positions_to_follow_from"]

_log = logging.getLogger("boiler_beam")


@dataclass(frozen=True)
class Settings:
    """How a stream is followed.

    Attributes:
        coalesce_seconds: How long changes are gathered before rows are rendered; 0: each batch of a source.
        lateness_seconds: The allowed lateness of consistency `commit`; None: `eventual`.
        prune: What to do with rows of an older generation that this one did not compute.
        from_empty: Whether an unbounded source may be followed without a snapshot.
    """

    coalesce_seconds: float = 0.1
    lateness_seconds: float | None = None
    prune: Prune = "safe"
    from_empty: bool = False


def has_snapshot(sources: Sequence[Source]) -> bool:
    """Whether some source has all current documents."""
    return any(source.is_bounded or source.has_snapshot for source in sources)


def positions_to_follow_from(
    plan: Plan, sources: Sequence[Source], sink: Sink, state: State, settings: Settings, now: float
) -> dict[str, str]:
    """How far each source was read, by URI; a bounded one that must be read again has no position (S22).

    Raises:
        UsageError: Something is missing; nothing was changed.
    """
    bounded = [source for source in sources if source.is_bounded]
    unbounded = [source for source in sources if not source.is_bounded]
    positions = dict(state.positions)
    if _is_too_late(unbounded, bounded, positions, now - state.facts.get("alive", 0) / 1e6):
        _read_again(bounded, positions)
    if any(source.is_replay for source in bounded):
        _check_replay(plan, sink, state)
    missing = [] if state.is_new else [one for one in plan.collections if one not in state.collections]
    if missing:
        _read_again([source for source in bounded if source.is_snapshot], positions)
    if state.is_new and unbounded and not (has_snapshot(sources) or settings.from_empty):
        raise UsageError(
            f"{unbounded[0].uri}: expected a snapshot to begin with, got an empty state and no bounded "
            "source; fix: add --source with the documents, or --from_empty if there are none yet"
        )
    is_read = any(source.uri not in positions and not source.is_replay for source in bounded)
    if missing and not is_read and not has_snapshot(unbounded):
        raise UsageError(
            f"--state: expected one with the documents of {', '.join(missing)}, got one whose views "
            f"({', '.join(state.views) or 'none'}) did not read them; fix: name another --state, or add --source with "
            "a snapshot of them that was not read into this state"
        )
    for name in sorted(state.views.keys() - {view.name for view in plan.views}):
        _log.warning("%s: in the state, but not in --views: its state is removed, its rows stay in the sink", name)
    return positions


def _is_too_late(
    unbounded: Sequence[Source], bounded: Sequence[Source], positions: dict[str, str], down_seconds: float
) -> bool:
    """Whether a source no longer has all changes since the program stopped; then a snapshot is read again."""
    found = False
    for source in unbounded:
        kept = source.retention_seconds
        if source.uri not in positions or kept is None or down_seconds <= kept:
            continue
        if not bounded:
            raise UsageError(
                f"{source.uri}: expected a program that was down for at most {kept / 3600:,.0f} h, which is how "
                f"long changes are kept there, got {down_seconds / 3600:,.0f} h; fix: add --source with a snapshot"
            )
        found = True
    return found


def _read_again(sources: Sequence[Source], positions: dict[str, str]) -> None:
    for source in sources:
        positions.pop(source.uri, None)


def _check_replay(plan: Plan, sink: Sink, state: State) -> None:
    """Checks that dead letters are replayed into the state and sink of the stream that they came from."""
    known, asked = sorted(state.views), sorted(view.name for view in plan.views)
    if known != asked:
        raise UsageError(
            f"--views: expected those of the stream whose state this is, {', '.join(known) or 'none yet'}, got "
            f"{', '.join(asked)}; fix: --state, --views and --sink as the stream has them"
        )
    for name, one in (sink.controls() if sink.keeps_controls else {}).items():
        if name in asked and one.holder != state.identity:
            raise UsageError(
                f"{sink.uri}: expected the rows of {name} that this state feeds, got those of another; "
                "fix: --state, --views and --sink as the stream has them"
            )
