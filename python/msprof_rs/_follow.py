"""What a caller gets in the place of a coroutine, generator or context manager that is followed.

A real coroutine or generator, because `inspect`, `types` and `asyncio` can tell an imitation from it. It
hands everything on to the native `step`, which runs the original and takes the time.
"""

from __future__ import annotations

import functools
import inspect
import sys
import types

from ._core import returned

# Not `typing.TYPE_CHECKING`: this is imported at the first call that is followed, and by then the program may
# have put another dict into the place of `sys.modules`, after which CPython 3.12 cannot import `typing`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable
    from typing import Any, Protocol

    class Takes(Protocol):
        """The native side of what is followed."""

        def takes(self, error: BaseException) -> bool:
            """True: it was thrown at the caller, not raised by the original, which gets it next."""

    class AwaitableStep(Takes, Awaitable[Any], Protocol):
        """That of a coroutine."""

    class IterableStep(Takes, Iterable[Any], Protocol):
        """That of a generator."""

    class Step(Takes, Protocol):
        """The native side of an asynchronous generator: each method prepares what is then awaited."""

        def asend(self, value: Any) -> Awaitable[Any]:
            """Sends a value in; gives the next item."""

        def athrow(self, error: BaseException) -> Awaitable[Any]:
            """Throws an exception in; gives the next item."""

    class Span(Protocol):
        """The native side of a context manager."""

        def begin(self) -> None:
            """The block is about to be entered."""

        def end(self, error: BaseException | None) -> None:
            """The block has been left, by this exception if any."""


# What is thrown at one of these it has the step throw into the original, instead of raising it: it lives as
# long as the original does. From 3.12 on, `await` and `yield from` make a return of a `StopIteration` that is
# thrown; `returned` tells them apart.
if sys.version_info >= (3, 12):

    async def coroutine(step: AwaitableStep) -> Any:
        """`return await step`."""
        while True:
            try:
                return returned(step, await step)
            except BaseException as error:
                if not step.takes(error):
                    raise

    def generator(step: IterableStep) -> Generator[Any, Any, Any]:
        """`return (yield from step)`."""
        while True:
            try:
                return returned(step, (yield from step))
            except BaseException as error:
                if not step.takes(error):
                    raise
else:

    async def coroutine(step: AwaitableStep) -> Any:
        """`return await step`."""
        while True:
            try:
                return await step
            except BaseException as error:
                if not step.takes(error):
                    raise

    def generator(step: IterableStep) -> Generator[Any, Any, Any]:
        """`return (yield from step)`."""
        while True:
            try:
                return (yield from step)
            except BaseException as error:
                if not step.takes(error):
                    raise


async def async_generator(step: Step) -> AsyncGenerator[Any, Any]:
    """`yield from` for asynchronous generators, which the language does not have."""
    advance = _without_finalizer(step)
    while True:
        try:
            item = await advance
        except BaseException as error:
            if step.takes(error):
                continue
            if isinstance(error, StopAsyncIteration):
                return
            raise
        try:
            sent = yield item
        except BaseException as error:
            advance = step.athrow(error)
        else:
            advance = step.asend(sent)


def _without_finalizer(step: Step) -> Awaitable[Any]:
    """The first step; the event loop learns of the outer generator alone, or it would close both at once."""
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, None)
    try:
        return step.asend(None)
    finally:
        sys.set_asyncgen_hooks(*hooks)


_copies: dict[Any, Callable[..., Any]] = {}


def named_after(follow: types.FunctionType, target: Any) -> Callable[..., Any]:
    """A copy of a function above that has its target's name in tracebacks, `repr` and warnings.

    Targets that are the same in all of this, as closures are, have one in common.
    """
    name = getattr(target, "__name__", follow.__name__)
    qualname = getattr(target, "__qualname__", name)
    changes: dict[str, Any] = {"co_name": name}
    if sys.version_info >= (3, 11):
        changes["co_qualname"] = qualname
    code = getattr(target, "__code__", None)
    if code is not None and follow is not async_generator:
        changes |= {"co_filename": code.co_filename, "co_firstlineno": code.co_firstlineno}
        changes["co_linetable"] = _one_line(len(follow.__code__.co_code))
        # `types.coroutine` makes generators awaitable by this.
        changes["co_flags"] = follow.__code__.co_flags | code.co_flags & inspect.CO_ITERABLE_COROUTINE
    module = getattr(target, "__module__", follow.__module__)
    key = (follow, qualname, module, *changes.items())
    if key not in _copies:
        copy = types.FunctionType(follow.__code__.replace(**changes), follow.__globals__, name)
        copy.__qualname__ = qualname
        copy.__module__ = module
        _copies[key] = copy
    return _copies[key]


def _one_line(size: int) -> bytes:
    """A table by which all of a code's bytes are at its first line."""
    if sys.version_info < (3, 11):
        parts = [min(254, size - start) for start in range(0, size, 254)]
        return b"".join(bytes([part, 0]) for part in parts)
    units = size // 2
    parts = [min(8, units - start) for start in range(0, units, 8)]
    # No columns (13), for so many units; no lines on.
    return b"".join(bytes([1 << 7 | 13 << 3 | part - 1, 0]) for part in parts)


def context(manager: Any, span: Span) -> Any:
    """Stands before a context manager and times its `with` blocks. None: it is no context manager."""
    kind: Any = type(manager)
    stand_in = _stand_in_for(kind)
    return stand_in and stand_in(manager, span)


def _enter(self: _StandIn) -> Any:
    manager, span = self._msprof_manager, self._msprof_span
    span.begin()
    try:
        return type(manager).__enter__(manager)
    except BaseException as error:
        span.end(error)
        raise


def _exit(self: _StandIn, kind: Any, error: BaseException | None, trace: Any) -> Any:
    manager, span = self._msprof_manager, self._msprof_span
    try:
        swallowed = type(manager).__exit__(manager, kind, error, trace)
    except BaseException as own:
        span.end(own)
        raise
    span.end(None if swallowed else error)
    return swallowed


async def _aenter(self: _StandIn) -> Any:
    manager, span = self._msprof_manager, self._msprof_span
    span.begin()
    try:
        return await type(manager).__aenter__(manager)
    except BaseException as error:
        span.end(error)
        raise


async def _aexit(self: _StandIn, kind: Any, error: BaseException | None, trace: Any) -> Any:
    manager, span = self._msprof_manager, self._msprof_span
    try:
        swallowed = await type(manager).__aexit__(manager, kind, error, trace)
    except BaseException as own:
        span.end(own)
        raise
    span.end(None if swallowed else error)
    return swallowed


_TIMED = {"__enter__": _enter, "__exit__": _exit, "__aenter__": _aenter, "__aexit__": _aexit}


class _StandIn:
    """Everything but the entering and leaving is the manager's own."""

    __slots__ = ("__weakref__", "_msprof_manager", "_msprof_span")

    def __init__(self, manager: Any, span: Span) -> None:
        object.__setattr__(self, "_msprof_manager", manager)
        object.__setattr__(self, "_msprof_span", span)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._msprof_manager, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._msprof_manager, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._msprof_manager, name)

    @property
    def __class__(self) -> Any:
        return type(self._msprof_manager)

    @__class__.setter
    def __class__(self, kind: Any) -> None:
        self._msprof_manager.__class__ = kind


_NOT_FORWARDED = frozenset(vars(_StandIn)) | {
    "__class_getitem__",
    "__del__",
    "__getattribute__",
    "__init_subclass__",
    "__new__",
    "__subclasshook__",
}


@functools.lru_cache
def _stand_in_for(kind: type) -> type[_StandIn] | None:
    """A class with those special methods that `kind` has: operators and built-ins look for them there."""
    if not (hasattr(kind, "__enter__") or hasattr(kind, "__aenter__")):
        return None
    namespace: dict[str, Any] = {"__slots__": (), "__module__": kind.__module__, "__doc__": kind.__doc__}
    for name in {name for base in kind.__mro__ for name in vars(base)}:
        if not (name.startswith("__") and name.endswith("__")) or name in _NOT_FORWARDED:
            continue
        method = getattr(kind, name, None)
        if name in _TIMED:
            namespace[name] = _TIMED[name]
        elif callable(method):  # not a `__hash__` of None, which is what a class without one gets
            namespace[name] = _forwarded(name)
    return type(kind.__name__, (_StandIn,), namespace)


def _forwarded(name: str) -> Callable[..., Any]:
    def method(self: _StandIn, /, *args: Any, **kwargs: Any) -> Any:
        manager = self._msprof_manager
        return getattr(type(manager), name)(manager, *args, **kwargs)

    method.__name__ = name
    return method
