"""Prepares a release: `make release ARGS="--version 0.2.0"`. The page `docs/releasing.md` describes it.

It writes the version into pyproject.toml, collects `changelog.d` into CHANGELOG.md, builds the sdist and the wheel into
`dist/`, and checks both. It neither commits, tags, pushes nor uploads: it prints the commands for that.
`--dry_run` does the same in a temporary clone, and changes nothing here.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from packaging.version import InvalidVersion, Version

ROOT = Path(__file__).resolve().parent.parent
WRITTEN = re.compile(r'^version = "([^"]+)"$', re.MULTILINE)
"""The line of pyproject.toml that has the version: the only place where it is written."""

SHOWN_LINES = 15


class RefusedError(Exception):
    """The release can't be made; the message says what was expected, found, and the fix."""


def main(arguments: list[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Prepare a release.", allow_abbrev=False)
    parser.add_argument("--version", help="the new version; by default the one in pyproject.toml")
    parser.add_argument("--dry_run", "--dry-run", action="store_true", help="change nothing in this checkout")
    options = parser.parse_args(arguments)
    try:
        version = new_version(options.version)
        if not any((ROOT / "changelog.d").glob("*.md")):
            raise RefusedError("changelog.d: expected at least one change, got none; fix: describe what users notice")
        if options.dry_run:
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name) / "clone"
                run(ROOT, "git", "clone", "--quiet", ROOT, folder)
                release(folder, version)
            print("A dry run: this checkout was not changed, and the files were removed. A release ends with:\n")
        else:
            if output(ROOT, "git", "status", "--porcelain"):
                raise RefusedError("this checkout: expected no uncommitted changes, got some; fix: commit them")
            release(ROOT, version)
            print("Look at the changes; then:\n")
    except RefusedError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:
        print(f"error: {' '.join(map(str, error.cmd))}: expected exit code 0, got {error.returncode}", file=sys.stderr)
        return 1
    print(f'git commit -a -m "Release {version}"')
    print(f'git tag -a v{version} -m "boiler_beam {version}"')
    print(f"git push origin HEAD v{version}")
    print(f"twine upload dist/boiler_beam-{version}*")
    return 0


def new_version(given: str | None) -> Version:
    """Returns the version of the release.

    Raises:
        RefusedError: It is no version, or there is a release of this version or a newer one.
    """
    found = WRITTEN.findall((ROOT / "pyproject.toml").read_text())
    if len(found) != 1:
        raise RefusedError(f'pyproject.toml: expected one line version = "...", got {len(found)}; fix: write it once')
    try:
        version = Version(given or found[0])
    except InvalidVersion:
        raise RefusedError(f"--version: expected a version as 0.2.0, got {given!r}; fix: --version 0.2.0") from None
    tags = output(ROOT, "git", "tag", "--list", "v[0-9]*").split()
    newest = max((Version(tag) for tag in tags), default=None)
    if newest is not None and version <= newest:
        next_one = f"{newest.major}.{newest.minor + 1}.0"
        raise RefusedError(f"the version: expected one after {newest}, got {version}; fix: --version {next_one}")
    return version


def release(folder: Path, version: Version) -> None:
    """Makes the release in a checkout: version, changelog, sdist and wheel, and their checks."""
    project = folder / "pyproject.toml"
    project.write_text(WRITTEN.sub(f'version = "{version}"', project.read_text()))
    run(folder, sys.executable, "-m", "towncrier", "build", "--yes", "--version", version)
    shutil.rmtree(folder / "dist", ignore_errors=True)
    run(folder, sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist", ".")
    built = sorted((folder / "dist").iterdir())
    run(folder, sys.executable, "-m", "twine", "check", "--strict", *built)
    (wheel,) = (folder / "dist").glob("*.whl")
    run(folder, sys.executable, "scripts/check_wheel.py", wheel)
    print("\n" + (folder / "CHANGELOG.md").read_text().partition("<!-- releases -->")[2].partition("\n## ")[2][:400])
    print(f"\nbuilt and checked: {', '.join(path.name for path in built)}")


def run(folder: Path, *command: object) -> None:
    """Runs a command that must succeed; the end of its output is shown if it fails."""
    done = subprocess.run([str(part) for part in command], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        print(*(done.stdout + done.stderr).splitlines()[-SHOWN_LINES:], sep="\n", file=sys.stderr)
        done.check_returncode()


def output(folder: Path, *command: str) -> str:
    """Returns what a command prints."""
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
