"""Install hints name what can be installed: the checkout, file or repository that this copy came from."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import pytest

from boiler_beam import install

ROOT = Path(__file__).resolve().parents[2]


class Installed:
    def __init__(self, text: str | None) -> None:
        self.text = text

    def read_text(self, name: str) -> str | None:
        assert name == "direct_url.json"
        return self.text


def test_a_checkout_is_named_by_its_path() -> None:
    assert install.install_command("beam") == f"pip install '{ROOT}[beam]'"


@pytest.mark.parametrize(
    ("direct_url", "requirement"),
    [
        ({"url": "file:///tmp/boiler_beam-0.1.0-py3-none-any.whl", "archive_info": {}}, "boiler_beam[beam] @ file:///tmp/boiler_beam-0.1.0-py3-none-any.whl"),
        ({"url": "https://example.org/b.git", "vcs_info": {"vcs": "git", "commit_id": "1"}}, "boiler_beam[beam] @ git+https://example.org/b.git"),
        (None, "boiler_beam[beam]"),
    ],
)  # fmt: skip
def test_an_installed_package_is_named_by_where_it_came_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, direct_url: object, requirement: str
) -> None:
    text = None if direct_url is None else json.dumps(direct_url)
    monkeypatch.setattr(metadata, "distribution", lambda name: Installed(text))
    assert install._requirement("beam", tmp_path) == requirement


def test_messages_do_not_name_the_package_themselves() -> None:
    """One function says how an extra is installed."""
    code = [path for name in ("boiler_beam", "pipelines") for path in (ROOT / name).rglob("*.py")]
    assert [path.name for path in code if "pip install '" in path.read_text()] == ["install.py"]
