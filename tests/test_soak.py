"""`make soak` finds a planted bug, and saves a test that fails while the bug exists."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from boiler_beam.engine.joins import KeyedJoin
from boiler_beam.steps.keyed.logs import WeightedLog
from scripts import soak


@pytest.mark.slow
def test_what_fails_is_saved_as_a_test(tmp_path: Path) -> None:
    arguments = ["--seconds", "0", "--seed", "1", "--folder", str(tmp_path), "--only"]
    assert soak.main([*arguments, "batches"]) == 0
    assert not list(tmp_path.iterdir())
    with pytest.MonkeyPatch.context() as planted:
        planted.setattr(KeyedJoin, "join_subscriptions", lambda *_: None)
        planted.setattr(WeightedLog, "add", lambda *_: None)
        for name in ("batches", "any order"):
            assert soak.main([*arguments, name]) == 1
        known = saved(tmp_path)
        assert set(known) == {"test_batches", "test_simulation"}
        for test in known.values():
            with pytest.raises(AssertionError):
                test()
    for test in known.values():
        test()


def saved(folder: Path) -> dict[str, Any]:
    """Runs the tests in some files."""
    found = [runpy.run_path(str(path)) for path in folder.glob("test_*.py")]
    return {name: one for names in found for name, one in names.items() if name.startswith("test_")}
