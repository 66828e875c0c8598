"""Which jobs take the state of a running one: what is refused, with the reason, and what Dataflow is told."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from boiler_beam.errors import UsageError
from pipelines.deploy.compatibility import Verdict, compare

STAGES = json.loads(Path(__file__).resolve().parents[2].joinpath("dataflow/meeting/streaming_stages.json").read_text())
JOIN = "Follow/MeetingSession/tickets/Join/ParDo(Step)"


def job() -> dict[str, Any]:
    views = {name: {"fingerprint": "f1"} for name in ("MeetingSession", "UserMeetings", "OrganizationSummary")}
    return {"format": 1, "versions": {"apache-beam": "2.77.0"}, "views": views, "stages": copy.deepcopy(STAGES)}


def verdict(change: Any, renamed: dict[str, str] | None = None) -> Verdict:
    new = job()
    change(new)
    return compare(job(), new, renamed)


def test_the_same_job_can_take_the_place_of_itself() -> None:
    assert verdict(lambda new: None) == Verdict()


def test_changed_code_of_a_view_is_an_update_and_a_backfill() -> None:
    found = verdict(lambda new: new["views"]["UserMeetings"].update(fingerprint="f2"))
    assert found == Verdict(rebuilt=["UserMeetings"])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda new: new["stages"][JOIN]["state"].update(head="bag of bytes"),
         f"{JOIN}: state head: expected read_modify_write of bytes, got bag of bytes"),
        (lambda new: new["stages"][JOIN]["state"].pop("log0"), f"{JOIN}: state log0: expected bag of bytes, got None"),
        (lambda new: new["stages"][JOIN]["timers"].clear(), "expected event time, got None"),
        (lambda new: new["stages"][JOIN].update(gives=["kv(string_utf8, bytes)"]), f"{JOIN}: coder of what it gives: expected"),
        (lambda new: new["stages"].pop(JOIN), f"{JOIN}: the stage is gone, and with it its state"),
        (lambda new: new["stages"].update({JOIN.replace("tickets", "guests"): STAGES[JOIN]}),
         "guests/Join/ParDo(Step): the stage is new; its state would begin with nothing"),
        (lambda new: new["views"].update(Other={"fingerprint": "f1"}), "Other: the view is new; its state would be empty"),
    ],
)  # fmt: skip
def test_what_a_running_job_cannot_become(change: Any, reason: str) -> None:
    found = verdict(change)
    assert any(reason in one for one in found.reasons), found.reasons
    with pytest.raises(
        UsageError, match=r"(?s)expected a job that can take the state of the running one, got.*fix: .*--beside"
    ):
        found.refuse()


def test_another_subscription_would_lose_what_the_old_one_holds() -> None:
    def other(new: Any) -> None:
        new["stages"] = {
            label.replace("/subscriptions/meeting/", "/subscriptions/other/"): one
            for label, one in new["stages"].items()
        }

    assert any("the stage is gone, and with it its position in its source" in one for one in verdict(other).reasons)


def test_stages_that_keep_nothing_may_go_and_dataflow_is_told() -> None:
    found = verdict(lambda new: new["stages"].pop("Refused"))
    assert (found.reasons, found.mapping) == ([], {"Refused": ""})


def test_a_removed_view_goes_with_its_state() -> None:
    def without(new: Any) -> None:
        del new["views"]["UserMeetings"]
        new["stages"] = {label: one for label, one in new["stages"].items() if "Follow/UserMeetings/" not in label}

    found = verdict(without)
    gone = {label for label in STAGES if label.startswith("Follow/UserMeetings/")}
    assert (found.reasons, found.mapping) == ([], dict.fromkeys(gone, ""))
    assert found.notes == ["UserMeetings: the view is removed with its state; its rows stay in the sink"]


def test_a_renamed_stage_is_mapped_if_its_state_is_the_same() -> None:
    def moved(new: Any) -> None:
        new["stages"] = {label.replace("Write/", "Output/", 1): one for label, one in new["stages"].items()}

    assert verdict(moved).reasons
    found = verdict(moved, {"Write": "Output"})
    assert found.reasons == []
    assert found.mapping["Write/Append"] == "Output/Append"


def test_something_else_is_no_description() -> None:
    with pytest.raises(UsageError, match=r"compatibility.json: expected the description of a job \(format 1\)"):
        compare({"format": 2}, job())
