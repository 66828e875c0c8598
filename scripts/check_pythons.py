"""Runs tests on every other installed Python from 3.10 to 3.13.

The oldest and the newest run all tests that need no Beam. What works on both works on those between, unless a module
can't be imported there, or a library behaves differently: they run the unit tests that need no server.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VERSIONS = ("3.10", "3.11", "3.12", "3.13")
UNIT_TESTS = ("tests/boiler_beam",)
TESTS = (*UNIT_TESTS, "tests/semantics", "tests/pipelines")
SAME = ("tests/pipelines/test_firestore.py", "tests/pipelines/test_faults.py")
"""Tests whose results do not depend on the Python version."""
WITH_SERVERS = ("tests/boiler_beam/connectors/firestore", "tests/boiler_beam/connectors/pubsub")


def interpreter(version: str) -> str | None:
    """Returns the path of a working Python, on PATH or among pyenv's versions."""
    pyenv = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    for candidate in (*map(str, pyenv), shutil.which(f"python{version}")):
        if candidate is None:
            continue
        done = subprocess.run(
            [candidate, "-c", "import sys; print(sys.version_info[:2])"], capture_output=True, text=True
        )
        if done.stdout.strip() == str(tuple(map(int, version.split(".")))):
            return candidate
    return None


def tests_on(version: str) -> list[str]:
    """Returns the arguments of pytest for a version."""
    is_between = version not in (VERSIONS[0], VERSIONS[-1])
    tests, left_out = (UNIT_TESTS, WITH_SERVERS) if is_between else (TESTS, SAME)
    return [*tests, *(f"--ignore={path}" for path in left_out)]


def main() -> int:
    """The command line."""
    tried, missing = [], []
    for version in VERSIONS:
        if version == f"{sys.version_info.major}.{sys.version_info.minor}":
            continue
        python = interpreter(version)
        if python is None:
            missing.append(version)
            continue
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([python, "-m", "venv", folder], check=True)
            binaries = Path(folder) / "bin"
            tools = [
                "-c",
                "constraints.txt",
                "-e",
                ".[firestore,parquet,metrics]",
                "pytest",
                "hypothesis",
                "pytest-xdist",
                "sqlalchemy",
            ]
            subprocess.run([binaries / "pip", "install", "-q", *tools], cwd=ROOT, check=True)
            subprocess.run([binaries / "python", "-c", "import boiler_beam, pipelines.main"], cwd=folder, check=True)
            command = [binaries / "python", "-m", "pytest", "-q", "-n", "2", "-m", "not slow and not beam"]
            command += tests_on(version)
            done = subprocess.run(command, cwd=ROOT, env={**os.environ, "HYPOTHESIS_PROFILE": "quick"})
            if done.returncode:
                print(f"Python {version}: tests failed")
                return 1
        tried.append(version)
    print(f"passed on {', '.join(tried) or 'none'}; not on this machine: {', '.join(missing) or 'none'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
