"""Users' handlers that take more than a call: those of coroutine functions, and contexts.

`driver` is asked once for each hook. What it returns is called in place of the target, with the target's
arguments behind two of the profiler's own. Plain functions in place of plain functions need no driver: the
Rust side (`src/hook/custom.rs`) calls them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from msprof_rs._handlers import context, coroutine


def driver(handler: Any, target: Any, kind: str) -> Callable[..., Any] | None:
    """What calls the handler in place of the target; None where the handler can be called as it is.

    `kind` is what a call of the target gives: `function`, `coroutine`, `generator` or `async generator`.
    Raises TypeError where the handler does not fit.
    """
    factory = context.factory(handler)
    if factory is not None:
        if kind.endswith("generator"):
            raise TypeError("it is a context, and would only be around the making of the generator")
        around = context.around_coroutine if kind == "coroutine" else context.around_function
        return _named_like(target, around(factory, target))
    if isinstance(handler, type):
        raise TypeError("it is a class without `__enter__` and `__exit__`")
    if kind == "coroutine":
        return _named_like(target, coroutine.in_place(handler))
    if any(inspect.iscoroutinefunction(function) for function in (handler, handler.__call__)):
        raise TypeError("it is async, and the target is not")
    return None


def _named_like(target: Any, drive: Callable[..., Any]) -> Callable[..., Any]:
    """Coroutines take their names from the function that makes them."""
    for attribute in ("__name__", "__qualname__"):
        setattr(drive, attribute, getattr(target, attribute, getattr(drive, attribute)))
    return drive
