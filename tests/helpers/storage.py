"""Cloud Storage for tests: an emulator in this process, by which the clients of this process and of others are served."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.helpers.servers import free_port


class Storage:
    """A running emulator; `address` is http://HOST:PORT."""

    def __init__(self, address: str) -> None:
        self.address = address

    def make(self, bucket: str) -> None:
        """Makes a bucket."""
        self._call("POST", "/storage/v1/b?project=p", json.dumps({"name": bucket}).encode())

    def names(self, bucket: str) -> list[str]:
        """The names of its objects."""
        found = json.loads(self._call("GET", f"/storage/v1/b/{bucket}/o"))
        return sorted(one["name"] for one in found.get("items", []))

    def read(self, bucket: str, name: str) -> bytes:
        """What an object holds."""
        return self._call("GET", f"/storage/v1/b/{bucket}/o/{name.replace('/', '%2F')}?alt=media")

    def write(self, bucket: str, name: str, data: bytes) -> None:
        """Writes an object."""
        self._call("POST", f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name={name.replace('/', '%2F')}", data)

    def _call(self, method: str, path: str, data: bytes | None = None) -> bytes:
        headers = {"Content-Type": "application/octet-stream" if path.startswith("/upload") else "application/json"}
        request = urllib.request.Request(self.address + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            body: bytes = answer.read()
            return body


@contextmanager
def storage() -> Iterator[Storage]:
    """Starts the emulator, in memory."""
    pytest.importorskip("gcp_storage_emulator", reason="a development tool: other Pythons run without it")
    from gcp_storage_emulator.server import create_server

    port = free_port()
    server = create_server("127.0.0.1", port, in_memory=True)
    server.start()
    try:
        yield Storage(f"http://127.0.0.1:{port}")
    finally:
        server.stop()
