"""Wrong hooks, each wrong in one way that real ones have been: what the comparison must find out."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any


def naive(function: Any) -> Any:
    """Looks like itself, not like the function."""
    return lambda *args, **kwargs: function(*args, **kwargs)


def twice(function: Any) -> Any:
    """Calls twice."""

    def double(*args: Any, **kwargs: Any) -> Any:
        function(*args, **kwargs)
        return function(*args, **kwargs)

    return double


def silent(function: Any) -> Any:
    """Swallows exceptions."""

    def double(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception:
            return None

    return double


def chained(function: Any) -> Any:
    """Raises another exception in place of the function's own."""

    def double(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            raise type(error)(*error.args) from error

    return double


def stale(function: Any) -> Any:
    """Gives the result of the call before."""
    results: list[Any] = []

    def double(*args: Any, **kwargs: Any) -> Any:
        results.append(function(*args, **kwargs))
        return results[-2:][0]

    return double


def sorted_keywords(function: Any) -> Any:
    """Passes keyword arguments in another order."""
    return lambda *args, **kwargs: function(*args, **dict(sorted(kwargs.items(), reverse=True)))


def static(function: Any) -> Any:
    """Does not bind to instances."""
    return staticmethod(function)


def deaf(function: Any) -> Any:
    """Makes a generator that hears nothing of `send`, `throw` and `close`, and returns nothing."""

    def double(*args: Any, **kwargs: Any) -> Iterator[Any]:
        yield from [*function(*args, **kwargs)]

    return double if inspect.isgeneratorfunction(function) else function


def deaf_later(function: Any) -> Any:
    """The same of an async generator."""

    async def double(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        for item in [item async for item in function(*args, **kwargs)]:
            yield item

    return double if inspect.isasyncgenfunction(function) else function


def uncancelled(function: Any) -> Any:
    """Keeps cancellation from a coroutine."""

    async def double(*args: Any, **kwargs: Any) -> Any:
        import asyncio

        return await asyncio.shield(asyncio.ensure_future(function(*args, **kwargs)))

    return double if inspect.iscoroutinefunction(function) else function


LOOKS: list[Callable[[Any], Any]] = [naive]
"""Found by how they look."""

DEEDS: list[Callable[[Any], Any]] = [
    twice,
    silent,
    chained,
    stale,
    sorted_keywords,
    static,
    deaf,
    deaf_later,
    uncancelled,
]
"""Found by what they do."""


def put(module: Any, symbol: str, name: str) -> None:
    """Puts the double of that name on what a symbol names; properties stay as they are."""
    way, _, last = symbol.rpartition(".")
    owner: Any = functools.reduce(getattr, way.split("."), module) if way else module
    raw = inspect.getattr_static(owner, last)
    if isinstance(raw, property) or isinstance(owner, property):
        return
    if isinstance(raw, staticmethod | classmethod):
        setattr(owner, last, type(raw)(_named(globals()[name], raw.__func__)))
    elif name != "static" or isinstance(owner, type):
        setattr(owner, last, _named(globals()[name], raw))


def _named(double: Callable[[Any], Any], function: Any) -> Any:
    """With the function's names, so that a `repr` or a message does not give it away."""
    made = double(function)
    if inspect.isfunction(made) and hasattr(function, "__qualname__"):
        made.__name__, made.__qualname__ = function.__name__, function.__qualname__
    return made
