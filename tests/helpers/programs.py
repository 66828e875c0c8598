"""Programs of this project by their command lines: each is a process of its own, forked where its libraries are imported.

    done = run([sys.executable, "-m", "pipelines.main", "--views", "mine"], tmp_path, {**os.environ})

stands for `subprocess.run` of `python -m pipelines...` and `Program` for `subprocess.Popen`: exit codes, signals, output,
folder and environment are as there. What such a process does not show is the start of Python itself and that a module
imports what it needs: `tests/test_readme.py`, `tests/test_docs.py`, `tests/serving/test_page_of_docs.py` and
`scripts/check_wheel.py` start theirs from nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired
from typing import IO, Any

from tests.helpers import servers

__all__ = ["Program", "run"]

_PLAIN = (
    "boiler_beam.connectors", "boiler_beam.engine", "boiler_beam.program", "boiler_beam.engine.follow", "boiler_beam.engine.state",
    "pipelines.cli", "pipelines.doctor", "pipelines.finish", "pipelines.init", "pipelines.meeting",
    "pipelines.run", "pipelines.show", "pipelines.stream", "pipelines.views", "rich.console", "rich.table", "sqlite3",
)  # fmt: skip
_LIBRARIES = (
    "google.cloud.firestore", "google.cloud.pubsub_v1", "apache_beam", "transforms", "pipelines.beam", "pipelines.streaming",
)  # fmt: skip
_NEEDING_LIBRARIES = ("--runner", "firestore:", "pubsub:")
"""What in a command line asks for Beam or a client of Google's; other programs run where neither was imported."""
_SERVING = (
    "boiler_beam.serving.app", "boiler_beam.serving.run", "boiler_beam.serving.writer", "boiler_beam.connectors.documents.store",
    "pipelines.live", "pipelines.live_plan", "pipelines.serve", "starlette.staticfiles", "uvicorn.loops.auto",
    "uvicorn.protocols.http.auto", "uvicorn.protocols.websockets.auto", "uvicorn.lifespan.on",
)  # fmt: skip


class Program:
    """A running program; what it has of `subprocess.Popen` is the same.

    Args:
        args: The command line.
        folder: Where it runs.
        environment: Its environment variables.
        output: A file that takes its stdout and stderr; None: they are read here.
    """

    args: Sequence[str]
    returncode: int | None
    stdout: IO[str] | None
    stderr: IO[str] | None

    def __init__(
        self,
        args: Sequence[str],
        folder: Path | str,
        environment: Mapping[str, str] | None = None,
        output: IO[Any] | None = None,
    ) -> None:
        python, option, module, *arguments = args
        if (python, option) != (sys.executable, "-m"):
            raise ValueError(f"{args}: expected {sys.executable} -m MODULE, got another command; fix: use subprocess")
        self.args, self.returncode = args, None
        variables = dict(os.environ if environment is None else environment)
        request = {"module": module, "arguments": arguments, "folder": str(folder), "environment": variables}
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(_server(module, arguments))
        pipes = [] if output is not None else [os.pipe(), os.pipe()]
        given = [writing for _, writing in pipes] if output is None else 2 * [output.fileno()]
        socket.send_fds(self._connection, [json.dumps(request).encode() + b"\n"], given)
        for _, writing in pipes:
            os.close(writing)
        self.stdout, self.stderr = [os.fdopen(reading) for reading, _ in pipes] or (None, None)
        self._answers = self._connection.makefile("r")
        self.pid = int(self._answers.readline())
        self._end = threading.Thread(target=self._wait_for_end, daemon=True)
        self._end.start()
        self._said: dict[int, str] = {}
        self._readers: list[threading.Thread] = []

    def _wait_for_end(self) -> None:
        answer = self._answers.readline()
        self._answers.close()
        self._connection.close()
        self.returncode = int(answer)

    def poll(self) -> int | None:
        """The exit code; None as long as it runs."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Waits for its end."""
        self._end.join(timeout)
        if self.returncode is None:
            raise TimeoutExpired(self.args, timeout or 0)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Waits for its end; what is left of its stdout and stderr."""
        if self.stdout is None:
            self.wait(timeout)
            return "", ""
        if not self._readers:
            self._readers = [threading.Thread(target=self._read, args=(number,), daemon=True) for number in (0, 1)]
            for reader in self._readers:
                reader.start()
        self.wait(timeout)
        for reader in self._readers:
            reader.join(timeout)
            if reader.is_alive():
                raise TimeoutExpired(self.args, timeout or 0)
        return self._said[0], self._said[1]

    def _read(self, number: int) -> None:
        stream = (self.stdout, self.stderr)[number]
        assert stream is not None
        with stream:
            self._said[number] = stream.read()

    def send_signal(self, number: int) -> None:
        """Sends a signal, if it still runs."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):  # it has ended, and its exit code is on the way
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Asks it to end, if it still runs."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kills it, if it still runs."""
        self.send_signal(signal.SIGKILL)


def run(
    args: Sequence[str], folder: Path | str, environment: Mapping[str, str] | None = None, timeout: float = 120
) -> CompletedProcess[str]:
    """Runs `[sys.executable, "-m", MODULE, ...]` to its end."""
    program = Program(args, folder, environment)
    try:
        out, err = program.communicate(timeout)
    finally:
        program.kill()
    assert program.returncode is not None
    return CompletedProcess(args, program.returncode, out, err)


def _server(module: str, arguments: Sequence[str]) -> str:
    """The socket of the process that has imported what a program needs, and not much else."""
    if any(name in one for one in arguments for name in _NEEDING_LIBRARIES):
        return servers.program_server("programs_with_libraries", [*_PLAIN, *_LIBRARIES])
    if module == "pipelines.live" or arguments[:1] == ["serve"]:
        return servers.program_server("programs_that_serve", [*_PLAIN, *_SERVING])
    return servers.program_server("programs", _PLAIN)
