"""`python -m pipelines.live`: the meeting room as a live page: documents in a file, engine, server and page."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from boiler_beam.connectors import open_source
from boiler_beam.connectors.documents.store import DocumentsStore
from boiler_beam.events import Change
from boiler_beam.samples import live_views
from boiler_beam.views import ViewModel
from pipelines.command import execute
from pipelines.serve import ServeOptions, run_serve

PAGE = Path(live_views.__file__).parent / "live"


@click.command("live")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0: any free one.")
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), help="Keep documents and rows here.")
def _live(port: int, folder: Path | None) -> int:
    """Show the meeting room as a live page, until ^C."""
    with _folder(folder) as where:
        if not (where / "documents.db").exists():
            changes = [one for one in open_source("sample:").read_all() if isinstance(one, Change)]
            DocumentsStore(f"{where}/documents.db").load(changes)
        views = [live_views.MeetingRoom, live_views.Participation, live_views.OrganizationSummary]
        return _served(views, where, port)


def _served(views: Sequence[type[ViewModel]], where: Path, port: int) -> int:
    try:
        from pipelines.live_plan import PlanGraph, WatchedDocuments
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("boiler_beam", "pipelines"):
            raise
        return run_serve(views, ServeOptions())  # it says what is not installed
    documents = WatchedDocuments(f"{where}/documents.db", f"{where}/rows.db")
    graph = PlanGraph(views, documents)
    options = ServeOptions(source=[documents], rows=f"sqlite:{where}/rows.db", port=port)
    return run_serve(views, options, page=PAGE, more=lambda served: [graph.route(served)])


@contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


if __name__ == "__main__":
    sys.exit(execute(_live))
