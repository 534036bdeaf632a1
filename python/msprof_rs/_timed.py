"""The decorator `timed`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, overload

from msprof_rs import _core

_F = TypeVar("_F", bound=Callable[..., Any])


@overload
def timed(function: _F, /) -> _F: ...
@overload
def timed(name: str, /, *, domain: str = "Default", level: int = 20) -> Callable[[_F], _F]: ...
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

    The name is the function's qualified name, unless another is given, as `name` or in the function's place.
    Of a property the getter is timed.
    What can't be timed stays as it is, and so does a class: decorate its `__init__`.
    """
    if isinstance(function, str):
        function, name = None, function if name is None else name

    def put_on(function: Any = None, /, *surplus: Any, **others: Any) -> Any:
        def decorate(inner: Any) -> Any:
            return _core.timed(inner, name, domain, level, more + surplus, unknown | others)

        return _decorated(function, decorate)

    return put_on if function is None else put_on(function)


def _decorated(given: Any, decorate: Callable[[Any], Any]) -> Any:
    """What is to stand for `given`, with the function in it decorated: the same kind of object as it was."""
    kind = type(given)
    if issubclass(kind, (functools.cached_property, functools.partialmethod)):
        # They call whatever their `func` is.
        given.func = _decorated(given.func, decorate)
        return given
    if issubclass(kind, (staticmethod, classmethod)):
        function = given.__func__
    elif issubclass(kind, property) and given.fget is not None:
        function = given.fget
    else:
        return given if kind is property else decorate(given)
    inner = _decorated(function, decorate)
    if inner is function:
        return given
    try:
        return given.getter(inner) if issubclass(kind, property) else _again(given, inner)
    except Exception:
        return given  # a class of the program's own, which can't be made like this


def _again(holder: Any, inner: Any) -> Any:
    """A static or class method of the same class, with all that was set on the first."""
    other = type(holder)(inner)
    other.__dict__.update({name: value for name, value in vars(holder).items() if name != "__wrapped__"})
    return other
