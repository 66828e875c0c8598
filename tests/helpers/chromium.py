"""Real pages in Chromium, by the protocol of its developer tools."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import connect

from tests.helpers.servers import stop_group, wait_until


class Page:
    """A page; what is evaluated may be a promise."""

    def __init__(self, connection: Any) -> None:
        self.connection, self.last = connection, 0

    def call(self, method: str, **params: Any) -> Any:
        self.last += 1
        self.connection.send(json.dumps({"id": self.last, "method": method, "params": params}))
        while (message := json.loads(self.connection.recv(timeout=30))).get("id") != self.last:
            pass
        assert "error" not in message, message
        return message["result"]

    def evaluate(self, script: str) -> Any:
        result = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def until(self, condition: str) -> None:
        """Waits until a condition holds; it is looked at again after each change of the page."""
        self.evaluate(
            "new Promise((resolve, reject) => {"
            f"const look = () => {{ if ({condition}) {{ observer.disconnect(); resolve(true); }} }};"
            "const observer = new MutationObserver(look);"
            "observer.observe(document, {subtree: true, childList: true, attributes: true, characterData: true});"
            f"setTimeout(() => reject(new Error('never: ' + {json.dumps(condition)})), 25000); look(); }})"
        )

    def screenshot(self, path: Path) -> None:
        self.call("Page.bringToFront")  # pages behind others may not be painted
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))


def program() -> str | None:
    """Chromium, if it is installed."""
    return next(
        (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
    )


@contextmanager
def browser(folder: Path) -> Iterator[Any]:
    """Starts Chromium; yields a function that opens a page at an address, in a window of its own."""
    found = program()
    assert found is not None
    process = subprocess.Popen(
        [
            found, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank",
        ],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip
    pages: list[Any] = []
    try:
        assert process.stderr is not None
        port = next(line.split(":")[2].split("/")[0] for line in process.stderr if "DevTools listening" in line)

        def open_page(address: str, width: int = 1000, height: int = 900, scheme: str = "light") -> Page:
            target = httpx.put(f"http://127.0.0.1:{port}/json/new?about:blank", timeout=30).json()
            page = Page(connect(target["webSocketDebuggerUrl"], max_size=None))
            pages.append(page)
            page.call("Page.enable")
            features = [{"name": "prefers-color-scheme", "value": scheme}]
            page.call("Emulation.setEmulatedMedia", features=features)
            page.call(
                "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
            )
            page.call("Page.navigate", url=address)
            loaded = "document.readyState === 'complete' && location.href !== 'about:blank'"  # no observer would see it
            wait_until(lambda: bool(page.evaluate(loaded)), address)
            return page

        yield open_page
    finally:
        for page in pages:
            page.connection.close()
        process.terminate()
        process.wait()
        stop_group(process.pid)  # its children write to the profile for a moment longer
        if process.stderr is not None:
            process.stderr.close()
