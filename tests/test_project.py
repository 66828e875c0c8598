"""The project as a package: what it exports, what a worker installs, `make meeting`'s stages."""

from __future__ import annotations

import importlib
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

EXPORTS = {
    "boiler_beam": "DELETE_FIELD SERVER_TIME BoilerBeamError Conflict DeclarationError DomainModel Form GeoPoint Mistake Ref Rejected Store Struct "
    "Transaction UsageError ViewModel WriteRefused __version__ aggregate array_remove array_union backfill check diff document explain field "
    "follow group increment reference referrers role root route run_transaction seen_by transaction view_property why",
    "boiler_beam.program": "Check DeadLettersFound Difference Differences Explanation Progress Report Running StreamReport "
    "StreamedView TransactionReport ViewReport Why backfill check diff explain follow why",
    "boiler_beam.testing": "check_aggregate render",
    "boiler_beam.connectors": "BackfillWriter Control DeadLetterWriter DocumentStore KeyedSource Sink Source StreamWriter database_of dead_letters_beside open_dead_letters open_sink "
    "open_source open_sources open_store read_dead_letters read_sources register schemes",
    "boiler_beam.writing": "DELETE_FIELD MAX_RETRIES SERVER_TIME Form FormRunner FormsReport Outcome Principals Transaction Writer Written "
    "apply_update applying_forms array_remove array_union follow_forms increment run_transaction transaction",
    "boiler_beam.engine": "Report backfill",
    "boiler_beam.serving": "Access ClientLimits Memberships Problem Roles User Verifier Writer asgi_app running signed_in",
    "boiler_beam.views.aggregate": "AggregateDeclaration Custom collect count count_distinct custom max mean min sum top",
}


@pytest.mark.parametrize("module", EXPORTS)
def test_public_names(module: str) -> None:
    assert importlib.import_module(module).__all__ == EXPORTS[module].split()


@pytest.mark.beam
@pytest.mark.parametrize("module", ["transforms", "boiler_beam.beam"])
def test_public_names_of_transforms(module: str) -> None:
    names = """AppendRows ApplyForms Changes ComputeRows ComputedRows DecodeChanges Destination FollowSources Outlet ReadChanges
    ReadChangesFromPubSub ReadFromFirestore WriteRows WriteToFirestore WrittenRows"""
    assert importlib.import_module(module).__all__ == names.split()


@pytest.mark.beam
@pytest.mark.slow
def test_a_worker_installs_the_sdist_and_imports_every_transform(tmp_path: Path) -> None:
    """Beam's stager makes the source distribution; the worker has Beam, and installs the rest with pip."""
    from apache_beam.runners.portability.stager import Stager

    copied = tmp_path / "checkout"
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    for name in filter(None, names):
        if (ROOT / name).exists() and not name.startswith(("tests/", "benchmarks/", "docs/")):
            (copied / name).parent.mkdir(parents=True, exist_ok=True)
            (copied / name).write_bytes((ROOT / name).read_bytes())
    archive = Stager._build_setup_package(str(copied / "setup.py"), str(tmp_path))
    with tarfile.open(archive) as opened:
        held = [name.partition("/")[2] for name in opened.getnames()]
    assert {"setup.py", "pyproject.toml", "boiler_beam/beam/batch.py", "boiler_beam/samples/meeting.jsonl"} <= set(held)
    target = tmp_path / "site"
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "--target",
        str(target),
    ]
    subprocess.run([*install, str(archive)], check=True, capture_output=True)
    modules = sorted(f"boiler_beam.beam.{path.stem}" for path in (ROOT / "boiler_beam/beam").glob("[a-z]*.py"))
    program = f"import importlib, transforms; [importlib.import_module(name) for name in {modules!r}]; print(transforms.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(target)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.startswith(str(target))


def checkout(tmp_path: Path) -> Path:
    """The least of a checkout that the stages need."""
    for name in (
        "pyproject.toml",
        "constraints.txt",
        "README.md",
        "LICENSE",
        "setup.py",
        "scripts/stage.py",
        "boiler_beam/__init__.py",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    return tmp_path


def stage(folder: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_no_network_is_one_clear_line(tmp_path: Path) -> None:
    folder = checkout(tmp_path)
    done = stage(
        folder, sys.executable, "scripts/stage.py", "base",
        PIP_INDEX_URL="http://127.0.0.1:9", PIP_EXTRA_INDEX_URL="", PIP_RETRIES="0", PIP_NO_CACHE_DIR="1",
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "error: pip: expected to reach a package index, got no answer; fix: check the network, then run make again"
    )
    assert (folder / ".venv" / "venv.stamp").exists()
    assert not (folder / ".venv" / "base.stamp").exists()


def test_a_python_without_venv_is_one_clear_line(tmp_path: Path) -> None:
    folder = checkout(tmp_path)
    (folder / "venv.py").write_text("raise SystemExit('No module named venv')")
    done = stage(folder, sys.executable, "scripts/stage.py", "base", PYTHONPATH=str(folder))
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "expected Python's venv module with pip, got none; fix: install it" in line


def test_no_disk_is_one_clear_line(tmp_path: Path) -> None:
    folder = checkout(tmp_path)
    (folder / ".venv").write_text("a file in its place")
    done = stage(folder, sys.executable, "scripts/stage.py", "base")
    assert done.returncode == 2
    assert "fix: free space or rights" in done.stderr.splitlines()[-1]


def commands_of(target: str) -> str:
    """What `make` would run for a target."""
    return subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_the_first_look_installs_only_the_base() -> None:
    assert re.findall(r"stage\.py (.*)", commands_of("meeting")) == ["base"]
    assert "-m pipelines.demo\n" in commands_of("meeting")
    assert re.findall(r"stage\.py (?!quiet)(.*)", commands_of("beam")) == ["base", "beam"]
    assert "-m pipelines.demo --runner DirectRunner\n" in commands_of("beam")


@pytest.mark.slow
def test_the_first_look_of_a_clean_clone(tmp_path: Path) -> None:
    """It needs no Beam, shows views and a change, and names what can come next."""
    folder = tmp_path / "clone"
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    for name in filter(None, names):
        if (ROOT / name).exists() and not name.startswith(("tests/", "benchmarks/", "docs/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    own = {
        name: value for name, value in os.environ.items() if not name.startswith("MAKE")
    }  # not those of `make check-all`
    done = subprocess.run(["make", "meeting"], cwd=folder, env=own, capture_output=True, text=True, check=True)
    first, *shown, empty, last = done.stdout.splitlines()
    assert first == "installing boiler_beam into .venv (a few seconds) ..."
    assert "The attendance of tickets/t2 becomes false: 3 of 13 rows are written." in shown
    assert (empty, "make beam" in last, "minutes, 800 MB" in last) == ("", True, True)
    installed = {path.name.partition("-")[0] for path in folder.glob(".venv/lib/*/site-packages/*.dist-info")}
    assert "msgspec" in installed
    assert installed.isdisjoint({"apache_beam", "pytest", "pyarrow"})


def old_python() -> str | None:
    found = sorted(Path.home().glob(".pyenv/versions/3.[6789].*/bin/python"))
    return str(found[0]) if found else None


@pytest.mark.skipif(old_python() is None, reason="no Python older than 3.10 was found to try it with")
def test_a_python_out_of_range_is_one_clear_line(tmp_path: Path) -> None:
    done = stage(checkout(tmp_path), str(old_python()), "scripts/stage.py", "base")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "expected Python 3.10 to 3.13, got 3." in line


@pytest.mark.slow
def test_an_interrupted_stage_is_done_again(tmp_path: Path) -> None:
    folder = checkout(tmp_path)
    command = [sys.executable, "scripts/stage.py", "base"]
    process = subprocess.Popen(
        command, cwd=folder, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    log = folder / ".venv" / "base.log"
    while not log.exists():
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (folder / ".venv" / "base.stamp").exists()
    assert stage(folder, *command).returncode == 0
    assert (folder / ".venv" / "base.stamp").exists()
    assert stage(folder, *command).stdout == ""
