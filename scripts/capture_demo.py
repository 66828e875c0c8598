"""Makes the capture of the live page that the README shows: `python -m scripts.capture_demo [FOLDER]`.

Starts `make demo`'s program and Chromium, shows both tabs side by side, switches an attendance in the left one, and
writes `demo-light.png` and `demo-dark.png`, by default to `docs/pictures`.
"""

import sys
import tempfile
from pathlib import Path

from tests.helpers import chromium, servers
from tests.serving.test_live_page import ROOT, live

WIDTH, HEIGHT = 1280, 660
_BOTH = """
document.documentElement.innerHTML = `<body style="margin:0; display:flex; height:100vh; gap:6px; background:#8886">
<iframe src="ADDRESS" style="flex:4; border:0; height:100%"></iframe>
<iframe src="ADDRESS?2#show=plan" style="flex:5; border:0; height:100%"></iframe></body>`;
window.at = (side, id) => document.querySelectorAll("iframe")[side]?.contentDocument?.getElementById(id);
"""
_SWITCH = "at(0, 'meetings')?.querySelector('[data-ticket=t2]')"


def capture(folder: Path, scheme: str) -> Path:
    """Captures the page in one color scheme; returns the picture."""
    picture = folder / f"demo-{scheme}.png"
    with (
        tempfile.TemporaryDirectory() as kept,
        chromium.browser(Path(kept, "profile")) as opened,
        live(Path(kept, "data")) as (address, _),
    ):
        page = opened(address, width=WIDTH, height=HEIGHT, scheme=scheme)
        page.evaluate(_BOTH.replace("ADDRESS", address))
        _until(
            page, f"{_SWITCH} && at(1, 'graph')?.childElementCount > 15 && at(1, 'connection').textContent === 'live'"
        )
        page.evaluate(f"{_SWITCH}.click()")
        _until(page, "/ms from/.test(at(0, 'took').textContent) && /^tickets/.test(at(1, 'way').textContent)")
        page.screenshot(picture)
    return picture


def _until(page: chromium.Page, condition: str) -> None:
    """Waits until a condition holds; changes within frames are not observed, so it is looked at again and again."""
    servers.wait_until(lambda: bool(page.evaluate(f"Boolean({condition})")), condition)


def main() -> None:
    """The command line."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    with servers.begun():
        for scheme in ("light", "dark"):
            print(capture(folder, scheme))


if __name__ == "__main__":
    main()
