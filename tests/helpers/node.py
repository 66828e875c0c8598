"""Packages of npm for tests: `tsc` and `pyright`, installed once in the user's cache, and a folder's own by its lock file."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

PACKAGES = ("typescript@5.9.3", "pyright@1.1.414", "@types/node@20.19.0")
FOLDER = Path.home() / ".cache" / "boiler_beam_tests" / "-".join(one.replace("/", "_") for one in PACKAGES)


def installed(program: str) -> str:
    """The path of a program; skips the test if there is no npm, fails if the packages can't be installed."""
    if shutil.which("npm") is None:
        pytest.skip(f"needs npm, to install {' '.join(PACKAGES)}: install Node.js")
    FOLDER.mkdir(parents=True, exist_ok=True)
    found = FOLDER / "node_modules" / ".bin" / program
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not found.exists():
            command = ["npm", "install", "--no-audit", "--no-fund", "--silent", "--prefix", str(FOLDER), *PACKAGES]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
    return str(found)


def install_locked(folder: Path) -> None:
    """Installs the packages of a folder by its lock file, if they are not there; skips the test if there is no Node.js.

    Raises:
        AssertionError: They can't be installed.
    """
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip(f"needs Node.js and npm, for the published clients in {folder}: install Node.js 20 or later")
    wanted = hashlib.sha256((folder / "package-lock.json").read_bytes()).hexdigest()
    stamp = folder / "node_modules" / ".installed"
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != wanted:
            command = ["npm", "ci", "--no-audit", "--no-fund", "--silent"]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
            stamp.write_text(wanted)
