"""The pipelines in docstrings and on the page about pipelines of one's own."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("apache_beam", reason="Beam is an extra: other Pythons run without it")
pytestmark = pytest.mark.beam

import apache_beam as beam  # noqa: E402
from apache_beam.options.pipeline_options import PipelineOptions  # noqa: E402

from boiler_beam.connectors.firestore.client import Client  # noqa: E402
from boiler_beam.events import Row  # noqa: E402
from boiler_beam.samples.meeting import MeetingSession  # noqa: E402
from tests.helpers.firestore import put  # noqa: E402
from tests.helpers.firestore_rows import rows  # noqa: E402
from transforms import ComputeRows, ReadChangesFromPubSub, ReadFromFirestore, WriteToFirestore  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
NAMES: dict[str, Any] = {
    "beam": beam, "ComputeRows": ComputeRows, "MeetingSession": MeetingSession, "PipelineOptions": PipelineOptions,
    "ReadChangesFromPubSub": ReadChangesFromPubSub, "ReadFromFirestore": ReadFromFirestore, "Row": Row,
    "WriteToFirestore": WriteToFirestore,
}  # fmt: skip


def pipeline_of(transform: type, project: str = "my-project") -> str:
    """The pipeline in a docstring."""
    (text,) = re.findall(r"^ {8}with .*\n(?: {9,}.*\n)+", transform.__doc__ or "", re.MULTILINE)
    return textwrap.dedent(text).replace("my-project", project)


def test_the_pipeline_that_reads_firestore(
    firestore_emulator: str, project: str, capsys: pytest.CaptureFixture[str]
) -> None:
    client = Client(project)
    put(client, {"users/u1": {"firstName": "Ann", "lastName": "Gray"}})
    client.close()
    exec(pipeline_of(ReadFromFirestore, project), dict(NAMES))
    assert capsys.readouterr().out == "users/u1 {'firstName': 'Ann'}\n"


def test_the_pipeline_that_writes_firestore(
    firestore_emulator: str, project: str, capsys: pytest.CaptureFixture[str]
) -> None:
    exec(pipeline_of(WriteToFirestore, project), dict(NAMES))
    client = Client(project)
    assert rows(client, "greetings/hello")["greetings/hello"].fields == b'{"text":"Hello"}'
    client.close()
    assert capsys.readouterr().out == ""


def stages(text: str, found: dict[str, Any]) -> set[str]:
    """Builds the pipeline of a text, with all types checked, and does not run it; gives its labels."""
    found["built"] = beam.Pipeline(options=PipelineOptions(["--auto_unique_labels"]))
    exec(re.sub(r"with beam.Pipeline.*:", "pipeline = built\nif True:", text), found)
    return {one.unique_name for one in found["built"].to_runner_api().components.transforms.values()}


def test_the_pipeline_that_reads_pubsub() -> None:
    names = stages(pipeline_of(ReadChangesFromPubSub), dict(NAMES))
    assert {"ReadChangesFromPubSub/Decode", "ComputeRows/MeetingSession/Route", "WriteToFirestore/Write"} <= names


def test_the_pipelines_of_the_page_can_be_built() -> None:
    page = (ROOT / "docs/transforms.md").read_text()
    text = "".join(re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE))
    found: dict[str, Any] = {}
    names = stages(text.replace("pages = ", "meetings = pipeline | beam.Create(['m1'])\npages = "), found)
    assert found["computed"].rows.element_type is Row
    assert found["windowed"].windowing.windowfn.size == 60
    assert any(name.endswith("MeetingSession/Route") for name in names)
    assert any(name.endswith("Newest/Join") for name in names)
