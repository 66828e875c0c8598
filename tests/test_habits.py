"""Continuous integration, hooks and policies say what the project is: supported Pythons, the steps of `make check`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent


def read(path: str) -> Any:
    """Returns what a YAML file contains."""
    return pytest.importorskip("yaml", reason="PyYAML is not installed; fix: make dev").safe_load(
        (ROOT / path).read_text()
    )


def test_continuous_integration_runs_all_checks_on_each_supported_python() -> None:
    (job,) = read(".github/workflows/ci.yml")["jobs"].values()
    supported = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', (ROOT / "pyproject.toml").read_text())
    assert job["strategy"]["matrix"]["python"] == supported
    assert job["steps"][-1] == {"run": ".ci/run"}


def test_prism_is_that_of_the_version_of_beam() -> None:
    (beam,) = re.findall(r"^apache-beam==(.*)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert f"/cmd/prism@v{beam}\n" in (ROOT / ".github/workflows/ci.yml").read_text()


def test_the_hooks_are_the_steps_of_make_check() -> None:
    text = (ROOT / "scripts/check.sh").read_text()
    steps = dict(re.findall(r'^(?:step|later) "([^"]*)" (.*)$', text, re.MULTILINE))
    assert steps.pop("collect") == f"{steps['tests'].replace(' -n 3 --dist worksteal', '')} --collect-only"
    (repository,) = read(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    hooks = {hook["id"]: hook["entry"].removeprefix(".venv/bin/") for hook in repository["hooks"]}
    assert hooks == steps
    assert [hook["entry"] for hook in repository["hooks"] if not hook["entry"].startswith(".venv/bin/")] == []


def test_the_tools_of_the_hooks_have_versions() -> None:
    pinned = re.findall(r"^([\w-]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert {"ruff", "mypy", "pytest", "pytest-xdist", "build", "pyright", "towncrier", "twine"} <= set(pinned)


def test_policies_are_where_others_refer_to_them() -> None:
    assert "\n## Stability\n" in (ROOT / "docs/api.md").read_text()
    for page in ("CHANGELOG.md", "docs/releasing.md"):
        assert "api.md#stability" in (ROOT / page).read_text()
    assert "docs/releasing.md" in (ROOT / "CONTRIBUTING.md").read_text()
    assert "## Report a vulnerability" in (ROOT / "SECURITY.md").read_text()
