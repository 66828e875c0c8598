"""Our functions, served by functions-framework as in the cloud, and events as Eventarc sends them."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tests.helpers.servers import answers, free_port, wait_until

ROOT = Path(__file__).resolve().parent.parent.parent
RELAY = ROOT / "dataflow" / "relay" / "function" / "main.py"
FORMS = ROOT / "dataflow" / "forms" / "function" / "main.py"


def served(topic: str, log: Path) -> AbstractContextManager[str]:
    """Serves the relay's function, and yields its address."""
    return served_function(RELAY, "relay", {"BOILER_BEAM_TOPIC": topic}, log)


@contextmanager
def served_function(file: Path, target: str, variables: Mapping[str, str], log: Path) -> Iterator[str]:
    """Serves a function with some environment variables, and yields its address."""
    port = free_port()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    command = [sys.executable, "-m", "functions_framework", f"--source={file}", f"--target={target}", f"--port={port}"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        wait_until(lambda: answers(port) or process.poll() is not None, "functions-framework")
        assert process.poll() is None, log.read_text()
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait()


def post(address: str, body: bytes, headers: Mapping[str, str]) -> int:
    """Sends an event, and returns the status."""
    request = urllib.request.Request(address, body, dict(headers), method="POST")
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
