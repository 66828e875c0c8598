"""Rows of a pipeline in Firestore, by many writers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("apache_beam", reason="Beam is an extra: other Pythons run without it")
pytestmark = pytest.mark.beam

import apache_beam as beam  # noqa: E402
from apache_beam.metrics import MetricsFilter  # noqa: E402
from apache_beam.testing.util import assert_that  # noqa: E402

from boiler_beam.connectors.firestore.client import Client  # noqa: E402
from boiler_beam.connectors.firestore.options import WriteOptions  # noqa: E402
from boiler_beam.events import EncodedRow, Row  # noqa: E402
from tests.helpers.firestore_rows import row, rows, tombstones  # noqa: E402
from transforms import WriteToFirestore  # noqa: E402

UNPACED = WriteOptions(pace_seconds=0.0)


@pytest.fixture(name="client")
def _client(firestore_emulator: str, project: str) -> Iterator[Client]:
    client = Client(project)
    yield client
    client.close()


def written(
    project: str, some: list[EncodedRow], letters: list[str], options: WriteOptions = UNPACED
) -> dict[str, int]:
    """Writes rows by a pipeline; gives its counters."""

    def check(found: Any) -> None:
        assert sorted(one.path or "" for one in found) == letters

    pipeline = beam.Pipeline(runner="FnApiRunner")
    elements = [Row("One", one.path, *one.stamp, one.fields) for one in some]
    written = pipeline | beam.Create(elements, reshuffle=True) | WriteToFirestore(project, options=options)
    assert_that(written.dead_letters, check)
    result = pipeline.run()
    result.wait_until_finish()
    counters = result.metrics().query(MetricsFilter().with_namespace("boiler_beam"))["counters"]
    return {one.key.metric.name: one.committed for one in counters}


def test_rows_stand_and_the_newest_wins(client: Client, project: str) -> None:
    """An older row never replaces a newer one, for any order of the elements (S17)."""
    some = [row(f"ones/{number}", version, a=version) for number in range(50) for version in (1, 3, 2)]
    some += [row("ones/0", 4), row("ones/1", 2)]
    counts = written(project, some, [])
    found = rows(client, *[f"ones/{number}" for number in range(50)])
    assert {one.stamp.version for one in found.values()} == {3}
    assert found.keys() == {f"ones/{number}" for number in range(1, 50)}
    assert set(tombstones(client, "ones/0", "ones/1")) == {"ones/0"}
    assert (counts["One/written"], counts["One/deleted"]) == (150, 2)
    assert counts["firestore/writes"] >= 50
    assert counts["firestore/throttled_millis"] == 0
    assert written(project, some, [])["firestore/writes"] == 0


def test_rows_that_are_refused_come_out(client: Client, project: str) -> None:
    some = [row("ones/1", 1, a=1), row("ones/2", 1, **{"": 1}), row("ones/3", 1, a="x" * (1 << 20))]
    written(project, some, ["ones/2", "ones/3"])
    assert rows(client, "ones/1", "ones/2", "ones/3").keys() == {"ones/1"}


def test_a_bundle_of_many_rows_is_written_in_parts(
    client: Client, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("boiler_beam.beam.write_firestore._MOST_ROWS", 7)
    written(project, [row(f"ones/{number}", 1, a=number) for number in range(60)], [])
    assert len(rows(client, *[f"ones/{number}" for number in range(60)])) == 60
