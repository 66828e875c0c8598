"""Servers and projects of tests. Hypothesis profiles: `quick` for other Pythons, `default`, `thorough` for `make check-all`."""

import os
import uuid
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.helpers import servers

_COMMON = {"deadline": None, "print_blob": True, "suppress_health_check": [HealthCheck.too_slow]}
# Random models and histories through the embedded engine (tests/semantics/test_engine.py: four ways, this number each):
# 100 by `make check`, 2,000 by `make check-all`; through Beam (test_stream_on_beam.py): 3 and 50. More: `make soak`.
settings.register_profile("quick", max_examples=10, **_COMMON)
settings.register_profile("default", max_examples=25, **_COMMON)
settings.register_profile("thorough", max_examples=500, **_COMMON)
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "default")
settings.load_profile(PROFILE)


def examples(few: int, thorough: int) -> int:
    """The number of examples of a property whose examples take long."""
    return thorough if PROFILE == "thorough" else few


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        servers.begin()


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        servers.end()


@pytest.fixture(autouse=True)
def _quick_pipelines(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("beam") is not None:
        from tests.helpers.beam import quicken

        quicken()


@pytest.fixture
def firestore_emulator(monkeypatch: pytest.MonkeyPatch) -> str:
    """Returns HOST:PORT of the Firestore emulator, which the clients of this process then use."""
    host = servers.emulator("firestore")
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", host)
    return host


@pytest.fixture
def pubsub_emulator(monkeypatch: pytest.MonkeyPatch) -> str:
    """Returns HOST:PORT of the Pub/Sub emulator, which the clients of this process then use."""
    host = servers.emulator("pubsub")
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", host)
    return host


@pytest.fixture
def project() -> str:
    """Returns the id of a project for this test only."""
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def channel(pubsub_emulator: str, project: str) -> Iterator[Any]:
    """A topic with a subscription (`tests.helpers.pubsub.Channel`) on the emulator."""
    from tests.helpers.pubsub import Channel

    with closing(Channel(project)) as opened:
        yield opened
