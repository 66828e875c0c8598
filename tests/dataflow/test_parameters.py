"""Templates' parameters are the options of a run, and come back as its command line."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from boiler_beam.errors import UsageError
from pipelines.deploy.launcher import arguments_of
from pipelines.deploy.parameters import KINDS, OUTSIDE, Kind, checked, command_line, metadata
from pipelines.main import run_command

HERE = Path(__file__).parent
OPTIONS = {one.name: one for one in run_command.params if isinstance(one, click.Option)}


def parameters(kind: Kind) -> dict[str, dict[str, object]]:
    return {one["name"]: one for one in metadata(kind, "shop")["parameters"]}


def test_every_option_is_a_parameter_or_has_a_reason_not_to_be_one() -> None:
    named = {name for kind in KINDS for name in parameters(kind)}
    assert named | set(OUTSIDE) == {*OPTIONS, "help"}
    assert named.isdisjoint(OUTSIDE)
    assert all(OUTSIDE.values())


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_says_what_it_is(kind: Kind) -> None:
    for name, one in parameters(kind).items():
        assert name in OPTIONS
        assert len(str(one["helpText"])) > 10
        (pattern,) = one["regexes"]  # type: ignore[misc]
        assert (pattern[0], pattern[-1]) == ("^", "$")
        re.compile(pattern)
        assert not re.search(r"\(\?[^:]", pattern), "RE2 has no look-around"


GOOD = {
    "views": ["shop.views", "shop.views:Card,Table other"],
    "source": ["firestore:my-project,pubsub:projects/my-project/subscriptions/views"],
    "sink": ["firestore:my-project", "firestore:my-project/eu-data", "pubsub:projects/my-project/topics/rows"],
    "dead_letter": ["gs:my-bucket/letters", "gs://my-bucket/a/b", "firestore:my-project"],
    "consistency": ["commit"],
    "coalesce_seconds": ["0", "0.5"],
    "read_time": ["2026-01-01T00:00:00Z", "1767225600000000"],
    "from_empty": ["true"],
}
BAD = {
    "views": ["shop/views.py", "shop views:"],
    "source": ["firestore:my-project", "pubsub:views", "file:x.jsonl,pubsub:projects/my-project/subscriptions/views"],
    "sink": ["sqlite:rows.db", "jsonl:rows", "firestore:"],
    "dead_letter": ["jsonl:letters.jsonl", "gs:"],
    "consistency": ["Commit", "strong"],
    "coalesce_seconds": ["-1", "fast"],
    "read_time": ["yesterday"],
    "from_empty": ["yes"],
}


def test_values_are_checked_before_a_launcher_starts() -> None:
    rest = {"source": GOOD["source"][0], "sink": GOOD["sink"][0]}
    for name, values in GOOD.items():
        for value in values:
            checked("streaming", {**rest, name: value})
    for name, values in BAD.items():
        for value in values:
            with pytest.raises(UsageError, match=f"--{name}: expected "):
                checked("streaming", {**rest, name: value})
    with pytest.raises(UsageError, match="--sink: expected a value, got none"):
        checked("backfill", {"source": "firestore:my-project"})
    with pytest.raises(UsageError, match="color: expected a parameter of the backfill template, got another"):
        checked("backfill", {"source": "firestore:my-project", "sink": "firestore:my-project", "color": "red"})


@pytest.mark.parametrize("kind", KINDS)
def test_a_command_line_of_every_parameter_is_understood(kind: Kind) -> None:
    """What Dataflow passes comes out as the same values of the run's options."""
    given = {name: values[0] for name, values in GOOD.items() if name in parameters(kind)}
    given |= {name: "false" for name in ("ramp_up", "touches") if name in parameters(kind)}
    context = run_command.make_context("run", command_line([f"--{name}={value}" for name, value in given.items()]))
    assert context.params["source"] == tuple(given["source"].split(","))
    assert context.params["ramp_up"] is False
    assert context.params["sink"] == given["sink"]
    if kind == "streaming":
        assert (context.params["from_empty"], context.params["coalesce_seconds"]) == (True, 0.0)
    else:
        assert context.params["touches"] is False


def test_a_launcher_adds_what_its_image_says() -> None:
    environ = {"BOILER_BEAM_IMAGE": "host/p/r/shop:1"}
    live = arguments_of(["--source=firestore:p,pubsub:projects/p/subscriptions/s", "--region=r"], environ)
    assert live[-4:] == [
        "--runner=DataflowRunner", "--no_save_main_session", "--sdk_container_image=host/p/r/shop:1",
        "--enable_streaming_engine",
    ]  # fmt: skip
    assert "--update" in arguments_of(["--source=firestore:p", "--update=true"], {}), "Beam's flag takes no value"
    given = ["--runner=PrismRunner", "--sdk_container_image=other", "--source=firestore:p"]
    assert arguments_of(given, environ) == [*given, "--no_save_main_session"]


@pytest.mark.beam
@pytest.mark.slow
def test_what_is_deployed_for_the_example_is_as_it_was() -> None:
    """Parameters, Dockerfile, commands and the stages of both jobs: `python -m dataflow.graph --update` writes them."""
    pytest.importorskip("apache_beam", reason="Beam is an extra: other Pythons run without it")
    from dataflow.graph import FOLDER, generated

    found = generated()
    assert found == {path.name: path.read_text() for path in FOLDER.iterdir()}
