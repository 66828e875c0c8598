"""`make deploy-check` and `make rehearse` say in one line what they miss."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ("sh", "date", "tail", "cut", "cat", "rm")


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A folder for the PATH, with what any machine has, and a `python` that does nothing."""
    for name in TOOLS:
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    (tmp_path / "python").write_text("#!/bin/sh\necho done\n")
    (tmp_path / "python").chmod(0o755)
    return tmp_path


def test_a_check_of_a_deployment_names_what_it_leaves_out(bare: Path) -> None:
    (bare / "java").symlink_to(bare / "python")
    done = subprocess.run(
        [bare / "sh", "scripts/deploy_check.sh"], cwd=ROOT, env={"PATH": str(bare)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    first, *others = done.stdout.splitlines()
    assert first.startswith("not installed, so not checked: gcloud (")
    assert [name in first for name in ("terraform (", "systemd-analyze (", "java (")] == [True, True, False]
    assert [" ok " in line for line in others] == [True, True]


@pytest.mark.parametrize("missing", ["gcloud", "java"])
def test_a_rehearsal_names_what_it_misses(bare: Path, missing: str) -> None:
    pytest.importorskip("apache_beam", reason="Beam is an extra: other Pythons run without it")
    for name in {"gcloud", "java"} - {missing}:
        (bare / name).symlink_to(bare / "python")
    done = subprocess.run(
        [sys.executable, "-m", "dataflow.rehearsal"], cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "PATH": str(bare), "BOILER_BEAM_PRISM": str(bare / "python")},
    )  # fmt: skip
    (line,) = done.stderr.splitlines()
    assert (done.returncode, line.partition(",")[0]) == (1, f"error: expected {missing} on the PATH")
    assert "; fix: install" in line
