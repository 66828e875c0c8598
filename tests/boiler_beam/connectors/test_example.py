"""The example of a third party's connector, on SQLite."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from boiler_beam.connectors import open_sink, open_source, registry
from boiler_beam.engine import backfill
from boiler_beam.plan import compile_plan
from boiler_beam.samples.meeting import OrganizationSummary

sa = pytest.importorskip("sqlalchemy")


def test_rows_go_from_documents_to_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registered", {})
    example = importlib.reload(importlib.import_module("examples.postgres_connector"))
    uri = f"postgres:sqlite:///{tmp_path}/data.db"
    source, sink = open_source(uri), open_sink(uri)
    example.metadata.create_all(source.engine)  # type: ignore[attr-defined]
    with source.engine.begin() as connection:  # type: ignore[attr-defined]
        for change in open_source("sample:").read(open_source("sample:").splits()[0]):
            values = {"path": change.path, "version": change.version, "fields": bytes(change.fields).decode()}  # type: ignore[union-attr]
            connection.execute(example.documents.insert().values(values))
    plan = compile_plan([OrganizationSummary])
    first = backfill(plan, [source], sink, pytest.fail)
    assert (first.rows, first.views[0].inserted) == (3, 3)
    again = backfill(plan, [source], sink, pytest.fail)
    assert (again.views[0].inserted, again.views[0].unchanged) == (0, 3)
    assert {row.path for row in sink.current_rows(plan.views[0].target)} == {
        "organization_summaries/City%20Archive",
        "organization_summaries/Harbor%20Library",
        "organization_summaries/Riverside%20School",
    }
    for opened in (source, sink):
        opened.engine.dispose()  # type: ignore[attr-defined]


def test_the_class_is_short() -> None:
    example = importlib.import_module("examples.postgres_connector")
    lines = Path(str(example.__file__)).read_text().partition("@register")[2].splitlines()
    assert len([line for line in lines if line.strip()]) < 60
