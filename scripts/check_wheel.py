"""Builds a wheel, installs it into an empty environment, and runs a view there, outside the checkout.

`python scripts/check_wheel.py dist/boiler_beam-0.2.0-py3-none-any.whl` takes that wheel instead of building one.
"""

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VIEW = """
import boiler_beam as bb
from boiler_beam import root, view_property

class Note(bb.DomainModel, collection="notes"):
    text: str

class Shout(bb.ViewModel, collection="shouts"):
    class Store(bb.Store):
        note: Note = root(Note)
    store: Store

    @view_property
    def text(self) -> str:
        return self.store.note.text.upper()
"""
DOCUMENT = '{"path": "notes/n1", "version": 1, "fields": {"text": "it works"}}\n'


def main() -> int:
    """The command line."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheels = [Path(argument).resolve() for argument in sys.argv[1:]]
        if not wheels:
            run(folder, sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder / "dist", ROOT)
            wheels = list((folder / "dist").glob("*.whl"))
        (wheel,) = wheels
        venv.create(folder / "venv", with_pip=True)
        binaries = folder / "venv" / "bin"
        run(folder, binaries / "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel)
        (folder / "views.py").write_text(VIEW)
        (folder / "notes.jsonl").write_text(DOCUMENT)
        arguments = ["--views", "views", "--source", "file:notes.jsonl", "--sink", "jsonl:rows.jsonl"]
        run(folder, binaries / "boiler-beam", "run", *arguments)
        row = (folder / "rows.jsonl").read_text()
        if '"fields":{"text":"IT WORKS"}' not in row:
            print(f"expected a row that shouts, got {row!r}")
            return 1
        for option, extra in (("--sink=parquet:rows", "parquet"), ("--runner=DirectRunner", "beam")):
            command = [str(binaries / "boiler-beam"), "run", *arguments, option]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            if done.returncode != 2 or f"fix: pip install 'boiler_beam[{extra}] @ file://" not in done.stderr:
                print(f"expected to be told that {extra} is not installed, got {done.stderr!r}")
                return 1
    print("installed from a wheel, and ran a view")
    return 0


def run(folder: Path, *command: object) -> None:
    """Runs a command that must succeed."""
    subprocess.run([str(part) for part in command], cwd=folder, check=True)


if __name__ == "__main__":
    sys.exit(main())
