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
    function: Any = None, /, *, name: str | None = None, domain: str = "Default", level: int = 20
) -> Any:
    """Decorates a function, so that each call becomes a span; a coroutine's lasts until it is done.

    The name is the function's qualified name, unless another is given.
    """
    if function is None:
        return lambda function: timed(function, name=name, domain=domain, level=level)  # type: ignore[call-overload]
    if isinstance(function, (staticmethod, classmethod)):
        inner = timed(function.__func__, name=name, domain=domain, level=level)  # type: ignore[call-overload]
        return type(function)(inner)
    known_as = name or getattr(function, "__qualname__", None) or type(function).__qualname__
    return _core.timed(function, known_as, domain, level)
