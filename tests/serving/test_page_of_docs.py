"""docs/serving.md: its requests are sent to the server that it starts, and answered as it says."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from boiler_beam.serving import app, core, rpc
from boiler_beam.serving.graphql import MAX_ALIASES, MAX_DEPTH, MAX_TOKENS
from boiler_beam.serving.hub import Limits
from pipelines.cli import _cli
from tests.test_docs import options

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "serving.md").read_text()
REQUESTS = re.findall(r"^```sh\n(curl .*?)```\n```json\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE)


def test_requests_are_answered_as_the_page_says(tmp_path: Path) -> None:
    command, over_firestore = re.findall(r"^boiler-beam (serve .*)$", PAGE, re.MULTILINE)
    assert "--rows firestore:" in over_firestore  # tests/serving/test_firestore_rows.py runs this one
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli", *shlex.split(command), "--port", "0"], cwd=tmp_path, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        address = process.stdout.readline().split(" at ")[1].partition("/views")[0]
        while subprocess.run(["curl", "-sf", f"{address}/readyz"], capture_output=True, check=False).returncode:
            assert process.poll() is None
        assert len(REQUESTS) == 4
        for request, expected in REQUESTS:
            sent = request.replace("localhost:8080", address)
            done = subprocess.run(["sh", "-c", sent], capture_output=True, text=True, check=True)
            while "no such row" in done.stdout and "no such row" not in expected:  # the engine has begun, not more
                done = subprocess.run(["sh", "-c", sent], capture_output=True, text=True, check=True)
            assert json.loads(done.stdout) == json.loads(expected)
    finally:
        process.terminate()
        process.communicate()


def test_options_and_limits_are_those_of_the_code() -> None:
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z_-]+", PAGE))
    assert named - options(_cli) == set()
    for text in (
        f"at most {core.MAX_LIMIT}", f"({core.DEFAULT_LIMIT}, at most", f"a batch {rpc.MAX_BATCH} calls",
        f"depth {MAX_DEPTH}, {MAX_ALIASES} aliases and {MAX_TOKENS:,} tokens", f"{app.MAX_BODY >> 20} MiB",
        f"no sign of life for {Limits().stale_seconds:.0f} seconds",
    ):  # fmt: skip
        assert text in PAGE, text
