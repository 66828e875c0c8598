"""Programs of npm for tests, installed once in the user's cache: `tsc`, `pyright`."""

from __future__ import annotations

import fcntl
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
