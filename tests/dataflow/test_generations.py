"""The generation of rows when a running job is updated: it stays, and a changed view takes the next one."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("apache_beam", reason="Beam is an extra: other Pythons run without it")
pytestmark = pytest.mark.beam

from boiler_beam.connectors import open_sink  # noqa: E402
from boiler_beam.connectors.base import Control  # noqa: E402
from boiler_beam.errors import UsageError  # noqa: E402
from boiler_beam.plan import compile_plan  # noqa: E402
from pipelines.streaming import _updated_generations  # noqa: E402
from tests.pipelines.streaming_views import Card, Table  # noqa: E402

PLAN = compile_plan([Card, Table])


def test_an_update_keeps_generation_and_holder(tmp_path: Path) -> None:
    sink = open_sink(f"sqlite:{tmp_path}/rows.db")
    same, changed = PLAN.views
    controls = {
        same.name: Control(generation=3, fingerprint=same.fingerprint, holder="job"),
        changed.name: Control(generation=5, fingerprint="of the old code", holder="job"),
    }
    with sink.stream([view.target for view in PLAN.views]) as writer:
        writer.control(controls)
    found = _updated_generations(PLAN, open_sink(sink.uri))
    assert found[same.name] == controls[same.name]
    assert found[changed.name] == Control(generation=6, fingerprint=changed.fingerprint, holder="job")


def test_what_no_job_writes_cannot_be_updated(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"--update: expected a job that writes Card to sqlite:.*, got none; fix: start it"
    ):
        _updated_generations(PLAN, open_sink(f"sqlite:{tmp_path}/rows.db"))
