"""The REST interface does what its description says: schemathesis asks the running server."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.serving import client
from tests.serving.test_serve import documents, served, until_ready

NEEDED = pytest.mark.skipif(
    importlib.util.find_spec("schemathesis") is None, reason="schemathesis is not installed: it needs Python 3.11"
)


@NEEDED
@pytest.mark.slow
def test_the_server_does_what_its_description_says(tmp_path: Path) -> None:
    """Values that fit the description may still be refused: by a setter, or because a row is not there."""
    with served(tmp_path, "--source", documents(tmp_path / "docs.db")) as (address, _), client(address) as http:
        until_ready(http)
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"{address}/openapi.json", "--max-examples", "20"]
        command += ["--seed", "1", "--no-color", "--exclude-checks", "positive_data_acceptance"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
        assert "Tested: 4" in done.stdout
