"""Serves the metrics of a stream over HTTP: `/metrics` (OpenMetrics), `/healthz`, `/readyz` (rows are in the sink)."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from boiler_beam.errors import UsageError
from boiler_beam.install import install_command
from boiler_beam.program import StreamReport

__all__ = ["serve_metrics"]


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Logs nothing for a request."""


@contextmanager
def serve_metrics(port: int) -> Iterator[Callable[[StreamReport], None]]:
    """Serves metrics on a port (0: any free one) within the context; yields the function to call with each report.

    Raises:
        UsageError: The library is not installed, or the port is taken.
    """
    try:
        from prometheus_client import CollectorRegistry, Counter, Gauge, make_wsgi_app
    except ImportError:
        raise UsageError(
            f"--metrics_port: expected prometheus_client to be installed, got none; fix: {install_command('metrics')}"
        ) from None
    registry = CollectorRegistry()
    changes = Counter("boiler_beam_changes", "Changes that were read.", registry=registry)
    written = Counter("boiler_beam_rows_written", "Rows that were written or deleted.", ["view"], registry=registry)
    refused = Counter("boiler_beam_rows_refused", "Rows that the sink will never accept.", ["view"], registry=registry)
    letters = Counter(
        "boiler_beam_dead_letters", "Dead letters: inputs and rows that could not be used.", registry=registry
    )
    late = Counter(
        "boiler_beam_late_changes", "Changes that arrived after their commit was released.", registry=registry
    )
    dirty = Gauge("boiler_beam_dirty_rows", "Rows that the last transaction rendered.", registry=registry)
    rows = Gauge("boiler_beam_rows", "Current rows.", ["view"], registry=registry)
    newest = Gauge(
        "boiler_beam_newest_version_seconds", "The newest version seen, in seconds since the epoch.", registry=registry
    )
    sink = Counter("boiler_beam_sink", "Operations of the sink.", ["what"], registry=registry)
    seen: dict[str, float] = {}
    is_ready = threading.Event()

    def raise_to(counter: Any, name: str, value: float) -> None:
        counter.inc(value - seen.get(name, 0))
        seen[name] = value

    def update(report: StreamReport) -> None:
        raise_to(changes, "changes", report.changes)
        raise_to(letters, "letters", report.dead_letters)
        raise_to(late, "late", report.late)
        for view in report.views:
            rows.labels(view.view).set(view.rows)
            raise_to(written.labels(view.view), f"written {view.view}", view.written + view.deleted)
            raise_to(refused.labels(view.view), f"refused {view.view}", view.refused)
        for what, figure in report.figures.items():
            raise_to(sink.labels(what), f"sink {what}", figure)
        dirty.set(report.dirty)
        newest.set(report.newest / 1e6)
        if report.is_ready:
            is_ready.set()

    metrics = make_wsgi_app(registry)

    def answer(environment: Any, start: Any) -> Any:
        path = environment["PATH_INFO"]
        if path == "/metrics":
            return metrics(environment, start)
        known = {"/healthz": (True, b"ok\n"), "/readyz": (is_ready.is_set(), b"ready\n")}
        is_well, body = known.get(path, (False, b""))
        status = "404 Not Found" if path not in known else "200 OK" if is_well else "503 Service Unavailable"
        start(status, [("Content-Type", "text/plain")])
        return [body if is_well else b"not ready\n" if path in known else b"/metrics, /healthz, /readyz\n"]

    try:
        server = make_server("", port, answer, handler_class=_Quiet)
    except OSError as error:
        raise UsageError(f"--metrics_port {port}: expected a free port, got: {error}; fix: name another") from None
    print(f"metrics at http://localhost:{server.server_port}/metrics", file=sys.stderr)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield update
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
