"""The Terraform configuration and the script of `gcloud` commands: complete, explained, and the same in both."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

hcl2 = pytest.importorskip("hcl2", reason="python-hcl2 parses Terraform; it is in the extra dev")

DATAFLOW = Path(__file__).resolve().parents[2] / "dataflow"
FILES = sorted((DATAFLOW / "terraform").glob("*.tf"))
TEXT = "\n".join(re.sub(r"^\s*#.*$", "", path.read_text(), flags=re.MULTILINE) for path in FILES)


def plain(value: Any) -> Any:
    """What hcl2 reads, without the quotes that it keeps and its own keys."""
    if isinstance(value, dict):
        return {plain(key): plain(one) for key, one in value.items() if not str(key).startswith("__")}
    if isinstance(value, list):
        return [plain(one) for one in value]
    return value[1:-1] if isinstance(value, str) and value[:1] == value[-1:] == '"' else value


@cache
def parsed(path: Path) -> Any:
    with path.open() as file:
        return plain(hcl2.load(file))


def blocks(kind: str) -> Iterator[dict[str, Any]]:
    for path in FILES:
        yield from parsed(path).get(kind, [])


@cache
def local_values() -> dict[str, Any]:
    return {name: value for block in blocks("locals") for name, value in block.items()}


def grants() -> dict[tuple[str, str], Any]:
    """What accounts may do, by group and name."""
    groups = {name: one for name, one in local_values().items() if name.endswith("_grants") and isinstance(one, dict)}
    return {(group, name): one for group, some in groups.items() for name, one in some.items()}


def test_every_variable_is_used_and_says_what_it_is() -> None:
    variables = {name: one for block in blocks("variable") for name, one in block.items()}
    assert len(variables) > 10
    assert [
        name
        for name in variables
        if not re.search(rf"\bvar\.{name}\b", re.sub(r"validation \{.*?\n  \}", "", TEXT, flags=re.DOTALL))
    ] == []
    assert set(re.findall(r"\bvar\.(\w+)", TEXT)) == set(variables)
    assert [name for name, one in variables.items() if len(one.get("description", "")) < 15] == []


def test_every_local_value_and_resource_that_is_named_exists() -> None:
    assert set(re.findall(r"\blocal\.(\w+)", TEXT)) == set(local_values())
    made = {f"{kind}.{name}" for block in blocks("resource") for kind, named in block.items() for name in named}
    read = {f"{kind}.{name}" for block in blocks("data") for kind, named in block.items() for name in named}
    named = set(re.findall(r"(?<!data\.)(?<![\w\"/])(google_\w+\.\w+)\b", TEXT))
    assert named <= made
    assert set(re.findall(r"\bdata\.(\w+\.\w+)", TEXT)) == read


def test_every_role_is_granted_by_a_list_that_explains_it() -> None:
    assert len(grants()) > 10
    tracking = re.findall(r'tracking_grants = .*?role = "([^"]+)", why = "([^"]+)"', TEXT, re.DOTALL)
    reasons = [(one["role"], one["why"]) for one in grants().values()] + tracking
    assert [role for role, why in reasons if len(why) < 20] == []
    for block in blocks("resource"):
        for kind, named in block.items():
            for one in named.values():
                if kind.endswith("_iam_member"):
                    assert re.fullmatch(r"\$\{(each\.value|local\.agent_grants\.\w+)\.role\}", one["role"]), (
                        kind,
                        one["role"],
                    )
    assert set(re.findall(r"roles/[\w.]+", TEXT)) == {role for role, _ in reasons}
    assert {role for role, _ in reasons}.isdisjoint({"roles/owner", "roles/editor", "roles/viewer"})
    assert not [role for role, _ in reasons if role.endswith((".admin", ".owner"))], "least roles"


def test_every_account_has_a_role_and_every_list_is_granted() -> None:
    (made,) = (
        named["account"]
        for block in blocks("resource")
        for kind, named in block.items()
        if kind == "google_service_account"
    )
    accounts = set(made["for_each"])
    assert (
        {one["account"] for one in grants().values() if "account" in one}
        == accounts
        == {"relay", "worker", "scheduler"}
    )
    used = " ".join(str(one) for block in blocks("resource") for named in block.values() for one in named.values())
    assert [group for group, _ in grants() if f"local.{group}" not in used] == []


def test_the_jobs_pass_parameters_that_the_templates_have() -> None:
    from pipelines.deploy.parameters import checked

    (stream,) = (
        named["stream"]
        for block in blocks("resource")
        for kind, named in block.items()
        if kind == "google_dataflow_flex_template_job"
    )
    values = {
        "${local.address},pubsub:${google_pubsub_subscription.views.id}": "firestore:my-project,pubsub:projects/my-project/subscriptions/views",
        "${local.address}": "firestore:my-project", "${local.dead_where}": "pubsub:projects/my-project/topics/dead",
        "${var.consistency}": "eventual",
    }  # fmt: skip
    checked("streaming", {name: values[value] for name, value in stream["parameters"].items()})


@pytest.mark.skipif(shutil.which("terraform") is None, reason="needs terraform for its own check of the format")
def test_it_is_formatted_as_terraform_does(tmp_path: Path) -> None:
    done = subprocess.run(
        ["terraform", "fmt", "-check", "-diff", str(DATAFLOW / "terraform")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def script(*arguments: str, path: str = "", **given: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PROJECT": "my-project",
        "REGION": "us-central1",
        "LOCATION": "nam5",
        "NAME": "shop",
        **given,
    }
    environment["PATH"] = f"{path}:{os.environ['PATH']}"
    return subprocess.run(
        ["sh", str(DATAFLOW / "setup.sh"), *arguments], env=environment, capture_output=True, text=True, check=False
    )


def test_the_script_grants_what_terraform_grants() -> None:
    done = script("--print", CONSISTENCY="commit")
    assert done.returncode == 0, done.stderr
    granted = set(re.findall(r"--member=serviceAccount:shop-(\w+)@my-project\S+ --role=(\S+)", done.stdout))
    wanted = {(one["account"], one["role"]) for one in grants().values() if "account" in one}
    assert granted == wanted | {("worker", "roles/pubsub.editor")}
    reasons = dict(re.findall(r"^# \w+ has (\S+): (.+)$", done.stderr, re.MULTILINE))
    assert set(reasons) == {role for _, role in granted}
    assert "roles/pubsub.editor" not in script("--print").stdout, "only where Dataflow needs it"


def test_the_script_makes_what_terraform_makes() -> None:
    printed = script("--print").stdout
    topics, subscriptions = (
        set(re.findall(rf"pubsub {kind} create (\S+)", printed)) for kind in ("topics", "subscriptions")
    )
    assert topics == {"changes", "shop-dead-letters", "shop-undelivered"}
    assert subscriptions == {"shop", "shop-dead-letters", "shop-undelivered"}
    services = set(re.findall(r"(\w+\.googleapis\.com)", printed.splitlines()[0]))
    assert services == set(local_values()["services"])
    kinds = {kind for block in blocks("resource") for kind in block}
    assert {
        "google_pubsub_topic",
        "google_firestore_field",
        "google_cloudfunctions2_function",
        "google_monitoring_alert_policy",
    } <= kinds


def test_the_script_can_be_run_again(tmp_path: Path) -> None:
    """What `describe` finds is not made again."""
    log, program = tmp_path / "log", tmp_path / "gcloud"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >> {log}\n')
    program.chmod(0o755)
    done = script(path=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert [line for line in log.read_text().splitlines() if " create " in line] == []
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >> {log}\ncase "$*" in *describe*) exit 1;; esac\n')
    assert script(path=str(tmp_path)).returncode == 0
    assert len([line for line in log.read_text().splitlines() if " create " in line]) == 11
