"""`make release`: what it refuses, what it writes, and that a dry run changes nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def output(folder: Path, *command: str) -> str:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


def release(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "scripts/release.py", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def refused(folder: Path, *arguments: str) -> str:
    done = release(folder, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    return done.stderr


def commit(folder: Path) -> None:
    output(folder, "git", "add", "--all")
    who = ["-c", "user.name=Somebody", "-c", "user.email=somebody@example.org"]
    output(folder, "git", *who, "commit", "--quiet", "--message", "All of it")


@pytest.fixture(name="checkout")
def _checkout(tmp_path: Path) -> Path:
    """A copy of this checkout, as a repository of its own without tags; with `all` of it, or what versions need."""
    folder = tmp_path / "checkout"
    for name in output(ROOT, "git", "ls-files", "--cached", "--others", "--exclude-standard").splitlines():
        if (ROOT / name).exists() and not name.startswith(("tests/", "benchmarks/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    output(folder, "git", "init", "--quiet")
    commit(folder)
    return folder


def test_each_change_is_an_entry_of_the_changelog() -> None:
    draft = output(ROOT, sys.executable, "-m", "towncrier", "build", "--draft", "--version", "9.9.9")
    lines = {line.strip() for line in draft.splitlines()}
    for path in (ROOT / "changelog.d").iterdir():
        assert path.suffix == ".md", f"{path.name}: expected NAME.md"
        first, *rest = path.read_text().strip().splitlines()
        assert f"- {first.removeprefix('- ')}" in lines
        assert {line.strip() for line in rest} <= lines
    assert re.search(r"^## 9\.9\.9 \(\d{4}-\d\d-\d\d\)$", draft, re.MULTILINE)


def test_what_is_no_version_or_no_newer_one_is_refused(checkout: Path) -> None:
    assert "--version: expected a version as 0.2.0, got 'next'; fix: --version 0.2.0" in refused(
        checkout, "--version", "next"
    )
    output(checkout, "git", "tag", "v0.9.0")
    output(checkout, "git", "tag", "v0.10.0")
    assert "expected one after 0.10.0, got 0.9.1; fix: --version 0.11.0" in refused(checkout, "--version", "0.9.1")
    assert "expected one after 0.10.0, got 0.1.0" in refused(checkout)


def test_uncommitted_changes_are_refused(checkout: Path) -> None:
    (checkout / "README.md").write_text("changed")
    assert "expected no uncommitted changes, got some; fix: commit them" in refused(checkout)


def test_a_release_without_a_change_is_refused(checkout: Path) -> None:
    output(checkout, "git", "rm", "--quiet", "-r", "changelog.d")
    commit(checkout)
    assert "changelog.d: expected at least one change, got none" in refused(checkout, "--dry_run")


@pytest.mark.slow
def test_a_dry_run_changes_nothing_and_a_release_writes_what_it_says(checkout: Path) -> None:
    before = output(checkout, "git", "rev-parse", "HEAD")
    built = "boiler_beam-0.2.0-py3-none-any.whl, boiler_beam-0.2.0.tar.gz"
    done = release(checkout, "--version", "0.2.0", "--dry_run")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"built and checked: {built}" in done.stdout
    assert 'git tag -a v0.2.0 -m "boiler_beam 0.2.0"\n' in done.stdout
    assert output(checkout, "git", "status", "--porcelain") == ""
    assert not (checkout / "dist").exists()

    done = release(checkout, "--version", "0.2.0")
    assert (done.returncode, done.stderr) == (0, "")
    assert ", ".join(sorted(path.name for path in (checkout / "dist").iterdir())) == built
    assert 'version = "0.2.0"\n' in (checkout / "pyproject.toml").read_text()
    changelog = (checkout / "CHANGELOG.md").read_text()
    assert "<!-- releases -->\n\n## 0.2.0 (" in changelog
    assert changelog.count("\n- ") >= len(list((ROOT / "changelog.d").iterdir()))
    assert list(checkout.glob("changelog.d/*.md")) == []
    assert (output(checkout, "git", "rev-parse", "HEAD"), output(checkout, "git", "tag")) == (before, "")
