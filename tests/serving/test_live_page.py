"""`make demo`: the live page in real browsers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.helpers import chromium
from tests.helpers.programs import Program
from tests.helpers.servers import wait_until

ROOT = Path(__file__).resolve().parents[2]
needs_chromium = pytest.mark.skipif(
    chromium.program() is None, reason="Chromium is not installed: apt-get install chromium"
)
ATTENDING = "document.querySelector('[data-key=m1] [data-count=attending]').textContent"
SWITCH = "document.querySelector('[data-key=m1] [data-ticket=t2]')"


@contextmanager
def live(folder: Path, port: int = 0) -> Iterator[tuple[str, Program]]:
    command = [sys.executable, "-m", "pipelines.live", "--port", str(port), "--folder", str(folder)]
    process = Program(command, ROOT, {**os.environ, "PYTHONUNBUFFERED": "1"})
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if " at " not in line:
            raise AssertionError(process.communicate()[1])
        yield line.split(" at ")[1].strip(), process
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


def test_the_page_needs_no_other_site(tmp_path: Path) -> None:
    with live(tmp_path) as (address, process):
        assert address.endswith("/page/")
        for name in ("", "live.js", "plan.js", "live.css"):
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


def test_the_plan_says_which_steps_a_change_passed(tmp_path: Path) -> None:
    with live(tmp_path) as (address, _):
        site = address.removesuffix("/page/")

        def plan() -> Any:
            return httpx.get(f"{address}plan.json").raise_for_status().json()

        def is_complete() -> bool:
            return all(view["rows"] and view["rows"] == view["written"] for view in plan()["views"])

        wait_until(is_complete, "all rows")
        before = plan()
        known = {one["name"]: one["taken"] for one in before["collections"]}
        assert known == {"locations": 3, "meetings": 4, "tickets": 11, "users": 6}
        httpx.patch(f"{site}/views/Participation/t2", json={"attends": False}).raise_for_status()
        wait_until(lambda: plan()["last"] == ["tickets/t2"] and len(plan()["views"][0]["changed"]) == 1, "the change")
        after = plan()
        passed = {
            f"{view['name']}.{edge['name']}" for view in after["views"] for edge in view["edges"] if edge["passed"]
        }
        assert passed == {"MeetingRoom.tickets", "Participation.ticket", "OrganizationSummary.tickets"}
        assert [one["name"] for one in after["collections"] if one["passed"]] == ["tickets"]
        taken = {one["name"]: one["taken"] for one in after["collections"]}
        assert taken == {**known, "tickets": known["tickets"] + 1}
        changed = {view["name"]: view["changed"] for view in after["views"]}
        assert changed["MeetingRoom"] == ["meeting_rooms/m1"]
        assert changed["Participation"] == ["participations/t2"]


@needs_chromium
def test_the_plan_is_a_tab_for_keyboards_and_screen_readers(tmp_path: Path) -> None:
    pictures = ROOT / "build" / "screenshots"
    pictures.mkdir(parents=True, exist_ok=True)
    with chromium.browser(tmp_path / "profile") as opened, live(tmp_path / "data") as (address, _):
        page, phone = opened(address), opened(f"{address}#show=plan", width=390, height=844, scheme="dark")
        page.until(f"{SWITCH} !== null")
        page.evaluate(
            "document.getElementById('tab-rooms').focus();"
            "document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight', bubbles: true}))"
        )
        assert page.evaluate("document.activeElement.id") == "tab-plan"
        assert page.evaluate("document.activeElement.getAttribute('aria-selected')") == "true"
        assert page.evaluate("document.getElementById('rooms').hidden")
        for one in (page, phone):
            one.until("document.querySelectorAll('#graph rect').length === 4 + 8 + 3")
        page.evaluate(f"{SWITCH}.click()")
        for one in (page, phone):
            one.until("/^tickets.t2 → .*meeting_rooms.m1/.test(document.getElementById('way').textContent)")
            one.until("document.querySelectorAll('#graph path.passed').length >= 4")
        rows = "[...document.querySelectorAll('#steps tr')].map((row) => row.innerText.replaceAll('\\t', ' | '))"
        told = page.evaluate(rows)
        assert any(line.startswith("MeetingRoom.tickets |") and line.endswith("passed") for line in told), told
        assert any(line.startswith("MeetingRoom |") and line.endswith("1 row written") for line in told), told
        assert phone.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the graph scrolls by itself"
        page.screenshot(pictures / "plan.png")
        phone.screenshot(pictures / "plan-phone-dark.png")


@needs_chromium
@pytest.mark.slow
def test_the_capture_in_the_readme_can_be_made_again(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "scripts.capture_demo", str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    readme = (ROOT / "README.md").read_text()
    for name in ("demo-light.png", "demo-dark.png"):
        sizes = [(folder / name).read_bytes()[:24] for folder in (tmp_path, ROOT / "docs" / "pictures")]
        assert sizes[0] == sizes[1], "PNG of the same width and height"
        assert f"docs/pictures/{name}" in readme
