"""Runs random histories through every executor for a given time, with new seeds; saves each failure as a test.

make soak ARGS="--seconds 3600"
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from hypothesis import HealthCheck, Phase, given, seed, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from tests.helpers.proofs import EXECUTORS, prove  # noqa: E402
from tests.helpers.random_views import sources  # noqa: E402
from tests.helpers.simulation import WORLDS  # noqa: E402
from tests.helpers.strategies import histories  # noqa: E402

EXAMPLES = {"beam": 2}
"""The number of histories in a round; a pipeline takes a second."""
CASE = '''"""{why}"""

from tests.helpers.proofs import prove

VIEW = """
{view}"""
TABLE = [
{table}]


def test_{executor}() -> None:
    prove({executor!r}, VIEW, TABLE, {seed})
'''
WORLD = '''"""{why}"""

from tests.helpers.simulation import WORLDS


def test_simulation() -> None:
    WORLDS[{world!r}]({seed})
'''


def case(executor: str, number: int) -> tuple[int, str | None]:
    """Runs a round of random views and histories; returns their number, and a test of the smallest failure."""
    last: tuple[str, list[Any], int] = "", [], 0
    count = 0

    @seed(number)
    @settings(
        max_examples=EXAMPLES.get(executor, 30),
        database=None,
        deadline=None,
        print_blob=False,
        report_multiple_bugs=False,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(sources(), histories(is_town=True), st.integers(0, 999))
    def holds(source: str, table: list[Any], order: int) -> None:
        nonlocal last, count
        last, count = (source, table, order), count + 1
        prove(executor, source, table, order)

    try:
        holds()
    except Exception as error:  # hypothesis tries the smallest failure last
        source, table, order = _smaller(executor, *last)
        lines = "".join(f"    {event!r},\n" for event in table)
        return count, CASE.format(why=_why(error), view=source, table=lines, executor=executor, seed=order)
    return count, None


def _smaller(executor: str, source: str, table: list[Any], order: int) -> tuple[str, list[Any], int]:
    """Removes the changes that are not needed for the failure; may return another seed."""
    for event in list(table):
        fewer = [one for one in table if one is not event]
        for other in range(5):
            try:
                prove(executor, source, fewer, other)
            except Exception:
                table, order = fewer, other
                break
    return source, table, order


def world(name: str, number: int) -> tuple[int, str | None]:
    """Runs a round of simulations; returns their number, and a test of the first failure."""
    for place, one in enumerate(range(number, number + 100), start=1):
        try:
            WORLDS[name](one)
        except Exception as error:
            return place, WORLD.format(why=_why(error), world=name, seed=one)
    return 100, None


def _why(error: Exception) -> str:
    text = f"{type(error).__name__}: {error}"[:4000].replace("\\", "\\\\").replace('"""', "'''")
    return f"Found by `make soak`.\n\n{text}\n"


def rounds(names: list[str]) -> Iterator[tuple[str, Callable[[int], tuple[int, str | None]]]]:
    """Yields all executors and simulations in turns, without end."""
    known = {name: (lambda number, one=name: case(one, number)) for name in EXECUTORS}
    known |= {name: (lambda number, one=name: world(one, number)) for name in WORLDS}
    return itertools.cycle([(name, one) for name, one in known.items() if not names or name in names])


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make soak", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=600, help="duration (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=time.time_ns(), help="first seed (default: the time)")
    parser.add_argument(
        "--only", action="append", default=[], choices=[*EXECUTORS, *WORLDS], help="only these; repeatable"
    )
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "soak", help="folder for failures")
    given_ = parser.parse_args(arguments)
    order, end = random.Random(given_.seed), time.monotonic() + given_.seconds
    done: Counter[str] = Counter()
    saved = 0
    for name, one in rounds(given_.only):
        number = order.randrange(1 << 40)
        count, failed = one(number)
        done[name] += count
        if failed is not None:
            given_.folder.mkdir(parents=True, exist_ok=True)
            path = given_.folder / f"test_{name.replace(' ', '_')}_{number}.py"
            path.write_text(failed)
            saved += 1
            print(f"FAILED {name}: {path}", flush=True)
        if time.monotonic() > end:
            break
    print(", ".join(f"{number} {name}" for name, number in done.items()))
    print(f"{done.total()} histories, {saved} failed; seed {given_.seed}")
    return 1 if saved else 0


if __name__ == "__main__":
    sys.exit(main())
