"""The registry: known schemes, refused schemes, and a third party's class."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence

import pytest

from boiler_beam.connectors import Source, open_sink, open_source, register, registry, schemes
from boiler_beam.errors import UsageError
from boiler_beam.events import Change
from boiler_beam.install import install_command


@pytest.fixture(autouse=True)
def _nothing_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registered", {})


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        (
            "nobody:p",
            r"nobody:p: expected the scheme of a source, got 'nobody'; fix: use one of dead-letters, documents, file, ",
        ),
        ("data.jsonl", r"data.jsonl: expected a source as SCHEME:ADDRESS, got no scheme; fix: put one before it"),
        ("./a:b", r"got no scheme"),
        ("sqlite:x", r"got 'sqlite' \(it is one of a sink\)"),
    ],
)
def test_sources_that_are_refused(uri: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        open_source(uri)


def test_sinks_that_are_refused() -> None:
    with pytest.raises(
        UsageError, match=r"got 'file' \(it is one of a source\); fix: use one of firestore, jsonl, parquet, "
    ):
        open_sink("file:x")


def test_one_class_makes_a_scheme() -> None:
    @register
    class Nothing(Source):
        scheme = "nothing"

        def splits(self) -> Sequence[str]:
            return ["all"]

        def read(self, split: str) -> Iterator[Change]:
            return iter(())

    assert isinstance(open_source("nothing:at all"), Nothing)
    assert schemes(Source) == ["dead-letters", "documents", "file", "firestore", "nothing", "pubsub", "sample", "tail"]
    with pytest.raises(UsageError, match="expected an unused scheme, got 'nothing'"):
        register(type("Other", (Nothing,), {}))
    with pytest.raises(UsageError, match="which is taken"):
        register(type("Mine", (Nothing,), {"scheme": "file"}))


def test_a_scheme_may_be_of_a_source_and_of_a_sink() -> None:
    assert open_source("pubsub:projects/some/subscriptions/one").is_bounded is False
    assert open_sink("pubsub:projects/some/topics/one").has_path is False


def test_client_libraries_that_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("boiler_beam.connectors.pubsub.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "grpc", None)
    with pytest.raises(UsageError, match=f"got no grpc; fix: {re.escape(install_command('firestore'))}"):
        open_source("pubsub:projects/some/subscriptions/one")
