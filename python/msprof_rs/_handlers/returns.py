"""The local variables of a function when it returns. CPython tells since 3.12, by `sys.monitoring`.

What it tells of is the code, not the call. The call is found by the frames: a frame knows its caller's.
"""

from __future__ import annotations

import functools
import inspect
import sys
from types import CodeType, FrameType, FunctionType
from typing import Any, Protocol

from msprof_rs._core import quietly


class Watcher(Protocol):
    """Wants to know the local variables of what it calls."""

    def returns(self, local_values: dict[str, Any]) -> None: ...


_watchers: dict[CodeType, str] = {}
"""The name of the variable that holds the watcher, for the code that calls on its behalf."""


def calls_for(caller: Any, variable: str) -> None:
    """Calls from this function are watched by what that variable of it holds."""
    _watchers[caller.__code__] = variable


def code_of(target: Any) -> CodeType | None:
    """What `watch` takes; None where the target is not the function that its signature is of."""
    is_function = isinstance(target, FunctionType) and inspect.unwrap(target) is target
    return target.__code__ if is_function else None


@functools.cache
def watch(code: CodeType) -> None:
    """From now on tells of this code's returns, which then take some 0.2 µs longer.

    Never taken back: each change of what is told of takes the longer the larger the code is.
    """
    if sys.version_info >= (3, 12):
        tool = _tool()
        if tool is not None:
            sys.monitoring.set_local_events(tool, code, sys.monitoring.events.PY_RETURN)


@functools.cache
def _tool() -> int | None:
    """Our place among the tools that monitor; None if there is none left."""
    if sys.version_info >= (3, 12):
        for tool in (4, 3):  # the two that are not kept for debuggers, coverage and the like
            if sys.monitoring.get_tool(tool) is None:
                sys.monitoring.use_tool_id(tool, "msprof_rs")
                sys.monitoring.register_callback(tool, sys.monitoring.events.PY_RETURN, _returned)
                return tool
    return None


def _returned(code: CodeType, _offset: int, _value: object) -> None:
    try:
        quietly(_tell_watchers, code, sys._getframe(1))
    except Exception:
        return  # else the function that returns would raise it


def _tell_watchers(code: CodeType, frame: FrameType) -> None:
    caller = frame.f_back
    # Several handlers of one function call each other; whatever else of ours is between them is passed over.
    while caller is not None and _is_ours(caller):
        variable = _watchers.get(caller.f_code)
        if variable is not None:
            own = {*code.co_varnames, *code.co_cellvars}
            values = {name: value for name, value in frame.f_locals.items() if name in own}
            caller.f_locals[variable].returns(values)
        caller = caller.f_back


def _is_ours(frame: FrameType) -> bool:
    name = frame.f_globals.get("__name__")
    return isinstance(name, str) and name.startswith("msprof_rs.")
