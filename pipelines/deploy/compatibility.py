"""Whether a running job can be updated to another one, decided before anything is sent.

Dataflow keeps the state of a stage that has the same label in both jobs. What it can't know is what the state means: a
new view would begin with nothing, and a stage with other state would misread what is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from boiler_beam.errors import UsageError

__all__ = ["Verdict", "compare"]

_BESIDE = (
    "deploy it beside the running job (--beside): the new job fills its state from a snapshot as the next generation, "
    "then drain the old one"
)


@dataclass(frozen=True)
class Verdict:
    """Whether a job can be updated.

    Attributes:
        reasons: Why it can't be; empty if it can.
        mapping: For Dataflow: stages of the running job that have another label, or none (empty text), in the new one.
        rebuilt: The views whose code changed: their rows need a backfill after the update.
        notes: What else changes.
    """

    reasons: list[str] = field(default_factory=list)
    mapping: dict[str, str] = field(default_factory=dict)
    rebuilt: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def refuse(self) -> None:
        """Raises an error if the job can't be updated.

        Raises:
            UsageError: With each reason, and what to do instead.
        """
        if self.reasons:
            raise UsageError(
                "--update: expected a job that can take the state of the running one, got\n  "
                + "\n  ".join(self.reasons)
                + f"\nfix: {_BESIDE}"
            )


def compare(running: Mapping[str, Any], new: Mapping[str, Any], renamed: Mapping[str, str] | None = None) -> Verdict:
    """Compares the descriptions of two jobs.

    Args:
        running: Of the running job, as `pipelines.deploy.graph` makes it.
        new: Of the job that is to take its place.
        renamed: Stages whose labels changed, old to new; what is below a stage goes with it.

    Raises:
        UsageError: One of them is not such a description.
    """
    for one in (running, new):
        if one.get("format") != 1 or not {"views", "stages", "versions"} <= one.keys():
            raise UsageError(
                "compatibility.json: expected the description of a job (format 1), got something else; "
                "fix: name the file that boiler-beam deploy wrote for the running job"
            )
    verdict = Verdict()
    _compare_views(running["views"], new["views"], verdict)
    _compare_stages(running["stages"], new["stages"], renamed or {}, set(running["views"]) - set(new["views"]), verdict)
    for name, known in running["versions"].items():
        if new["versions"].get(name) != known:
            verdict.notes.append(f"{name}: {known} -> {new['versions'].get(name)}")
    return verdict


def _compare_views(running: Mapping[str, Any], new: Mapping[str, Any], verdict: Verdict) -> None:
    for name in sorted(new.keys() - running.keys()):
        verdict.reasons.append(
            f"{name}: the view is new; its state would be empty, because an update reads no snapshot"
        )
    for name in sorted(running.keys() - new.keys()):
        verdict.notes.append(f"{name}: the view is removed with its state; its rows stay in the sink")
    for name in sorted(running.keys() & new.keys()):
        if running[name]["fingerprint"] != new[name]["fingerprint"]:
            verdict.rebuilt.append(name)


def _compare_stages(
    running: Mapping[str, Any], new: Mapping[str, Any], renamed: Mapping[str, str], removed: set[str], verdict: Verdict
) -> None:
    old = {_renamed(label, renamed): (label, stage) for label, stage in running.items()}
    added = {view for view in (_view(label) for label in new) if not any(_view(one) == view for one in old)}
    for label, (known_as, stage) in sorted(old.items()):
        if label not in new:
            _remove(known_as, stage, removed, verdict)
            continue
        if known_as != label:
            verdict.mapping[known_as] = label
        verdict.reasons.extend(_differences(label, stage, new[label]))
    for label in sorted(new.keys() - old.keys()):
        if _keeps(new[label]) and _view(label) not in added:
            verdict.reasons.append(f"{label}: the stage is new; its {_what(new[label])} would begin with nothing")


def _remove(label: str, stage: Mapping[str, Any], removed: set[str], verdict: Verdict) -> None:
    if _keeps(stage) and _view(label) not in removed:
        verdict.reasons.append(f"{label}: the stage is gone, and with it its {_what(stage)}")
    else:
        verdict.mapping[label] = ""


def _differences(label: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Returns what differs in a stage that both jobs have."""
    found = []
    for key, word in (("is", "kind"), ("gives", "coder of what it gives")):
        if old[key] != new[key]:
            found.append(f"{label}: {word}: expected {old[key]}, got {new[key]}")
    for key in ("state", "timers"):
        before, after = old.get(key, {}), new.get(key, {})
        for name in sorted(before.keys() | after.keys()):
            if before.get(name) != after.get(name):
                found.append(f"{label}: {key} {name}: expected {before.get(name)}, got {after.get(name)}")
    return found


def _keeps(stage: Mapping[str, Any]) -> bool:
    """Returns whether a stage keeps something between two elements: state, groups, or the position of a source."""
    return bool(stage.get("state")) or stage["is"].startswith(("group_by_key", "pubsub_read", "impulse"))


def _what(stage: Mapping[str, Any]) -> str:
    return "state" if stage.get("state") else "groups" if stage["is"].startswith("group") else "position in its source"


def _view(label: str) -> str:
    """Returns the view of a stage, from `Follow/VIEW/...`; empty text for a stage of all views."""
    first, _, rest = label.partition("/")
    return rest.partition("/")[0] if first == "Follow" and "/" in rest else ""


def _renamed(label: str, renamed: Mapping[str, str]) -> str:
    for old, new in renamed.items():
        if label == old or label.startswith(f"{old}/"):
            return new + label[len(old) :]
    return label
