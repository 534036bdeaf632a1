"""The decorator `timed`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, overload

from msprof_rs import _core

_F = TypeVar("_F", bound=Callable[..., Any])


@overload
def timed(function: _F, /) -> _F: ...
@overload
def timed(*, name: str | None = None, domain: str = "Default", level: int = 20) -> Callable[[_F], _F]: ...
def timed(
    function: Any = None,
    /,
    *more: Any,
    name: str | None = None,
    domain: str = "Default",
    level: int = 20,
    **unknown: Any,
) -> Any:
    """Decorates a function, so that each call becomes a span; a coroutine's lasts until it is done.

    The name is the function's qualified name, unless another is given. What can't be timed stays as it is.
    """

    def put_on(function: Any = None, /, *surplus: Any, **others: Any) -> Any:
        if type(function) in (staticmethod, classmethod):
            return type(function)(put_on(function.__func__, *surplus, **others))
        return _core.timed(function, name, domain, level, more + surplus, unknown | others)

    return put_on if function is None else put_on(function)
