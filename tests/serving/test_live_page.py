"""`make demo`: the live page in real browsers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.helpers import chromium

ROOT = Path(__file__).resolve().parents[2]
needs_chromium = pytest.mark.skipif(
    chromium.program() is None, reason="Chromium is not installed: apt-get install chromium"
)
ATTENDING = "document.querySelector('[data-key=m1] [data-count=attending]').textContent"
SWITCH = "document.querySelector('[data-key=m1] [data-ticket=t2]')"


@contextmanager
def live(folder: Path, port: int = 0) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    command = [sys.executable, "-m", "pipelines.live", "--port", str(port), "--folder", str(folder)]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if " at " not in line:
            raise AssertionError(process.communicate()[1])
        yield line.split(" at ")[1].strip(), process
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)


def test_the_page_needs_no_other_site(tmp_path: Path) -> None:
    with live(tmp_path) as (address, process):
        assert address.endswith("/page/")
        for name in ("", "live.js", "live.css"):
            answer = httpx.get(address + name)
            assert answer.status_code == 200
            assert "://" not in answer.text, name
    assert process.returncode == 0


@needs_chromium
def test_two_pages_stay_equal_and_come_back_after_a_restart(tmp_path: Path) -> None:
    pictures = ROOT / "build" / "screenshots"
    pictures.mkdir(parents=True, exist_ok=True)
    with chromium.browser(tmp_path / "profile") as opened:
        with live(tmp_path / "data") as (address, _):
            first, second = opened(address), opened(address, width=390, height=844, scheme="dark")
            for page in (first, second):
                page.until("document.querySelectorAll('[role=switch]').length > 3")
                page.until("document.getElementById('connection').textContent === 'live'")
                assert page.evaluate(f"{SWITCH}.getAttribute('aria-checked')") == "true"
            before = int(first.evaluate(ATTENDING))
            first.evaluate(f"{SWITCH}.focus(); {SWITCH}.click()")
            for page in (first, second):
                page.until(f"{SWITCH}.getAttribute('aria-checked') === 'false' && {ATTENDING} === '{before - 1}'")
            first.until("/ ms from the switch/.test(document.getElementById('took').textContent)")
            second.until("/changed elsewhere/.test(document.getElementById('took').textContent)")
            assert first.evaluate(f"document.activeElement === {SWITCH}"), "the keyboard stays where it was"
            assert second.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it fits on a phone"
            first.screenshot(pictures / "live.png")
            second.screenshot(pictures / "live-phone-dark.png")
            assert first.evaluate("document.getElementById('organizations').children.length") == 3
        first.until("document.getElementById('connection').textContent === 'reconnecting'")
        port = int(address.split(":")[2].split("/")[0])
        with live(tmp_path / "data", port):
            for page in (first, second):
                page.until("document.getElementById('connection').textContent === 'live'")
            second.evaluate(f"{SWITCH}.click()")
            for page in (first, second):
                page.until(f"{SWITCH}.getAttribute('aria-checked') === 'true' && {ATTENDING} === '{before}'")
