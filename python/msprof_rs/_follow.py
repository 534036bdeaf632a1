"""What a caller gets in the place of a coroutine, generator or context manager that is followed.

A real coroutine or generator, because `inspect`, `types` and `asyncio` can tell an imitation from it. It
hands everything on to the native `step`, which runs the original and takes the time.
"""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Step(Protocol):
    """The native side of an asynchronous generator: each method prepares what is then awaited."""

    def asend(self, value: Any) -> Awaitable[Any]:
        """Sends a value in; gives the next item."""

    def athrow(self, error: BaseException) -> Awaitable[Any]:
        """Throws an exception in; gives the next item."""

    def aclose(self) -> Awaitable[None]:
        """Closes the original."""


class Span(Protocol):
    """The native side of a context manager."""

    def begin(self) -> None:
        """The block is about to be entered."""

    def end(self, error: BaseException | None) -> None:
        """The block has been left, by this exception if any."""


# fmt: off
async def coroutine(step: Awaitable[T]) -> T: return await step
def generator(step: Generator[Any, Any, T]) -> Generator[Any, Any, T]: return (yield from step)
# fmt: on
# On one line each, so that a copy says that it is at the line of its target's `def`.


async def async_generator(step: Step) -> AsyncGenerator[Any, Any]:
    """`yield from` for asynchronous generators, which the language does not have."""
    advance = _without_finalizer(step)
    while True:
        try:
            item = await advance
        except StopAsyncIteration:
            return
        try:
            sent = yield item
        except GeneratorExit:
            await step.aclose()
            raise
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


def named_after(follow: types.FunctionType, target: Any) -> Callable[..., Any]:
    """A copy of a function above that has its target's name in tracebacks, `repr` and warnings."""
    name = getattr(target, "__name__", follow.__name__)
    qualname = getattr(target, "__qualname__", name)
    changes: dict[str, Any] = {"co_name": name}
    if sys.version_info >= (3, 11):
        changes["co_qualname"] = qualname
    code = getattr(target, "__code__", None)
    if code is not None and follow is not async_generator:
        changes |= {"co_filename": code.co_filename, "co_firstlineno": code.co_firstlineno}
        # `types.coroutine` makes generators awaitable by this.
        changes["co_flags"] = follow.__code__.co_flags | code.co_flags & inspect.CO_ITERABLE_COROUTINE
    copy = types.FunctionType(follow.__code__.replace(**changes), follow.__globals__, name)
    copy.__qualname__ = qualname
    copy.__module__ = getattr(target, "__module__", follow.__module__)
    return copy


def context(manager: Any, span: Span) -> Any:
    """Stands before a context manager and times the `with` block."""
    kind = type(manager)
    is_sync, is_async = hasattr(kind, "__enter__"), hasattr(kind, "__aenter__")
    if is_sync and is_async:
        return _AnyContext(manager, span)
    if is_sync or is_async:
        return (_Context if is_sync else _AsyncContext)(manager, span)
    return None


class _Proxy:
    """Everything but the entering and leaving is the manager's own."""

    __slots__ = ("__weakref__", "_manager", "_span")

    def __init__(self, manager: Any, span: Span) -> None:
        object.__setattr__(self, "_manager", manager)
        object.__setattr__(self, "_span", span)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._manager, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._manager, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._manager, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._manager(*args, **kwargs)

    def __repr__(self) -> str:
        return repr(self._manager)

    @property
    def __class__(self) -> Any:
        return type(self._manager)

    @__class__.setter
    def __class__(self, kind: Any) -> None:
        self._manager.__class__ = kind


class _Context(_Proxy):
    __slots__ = ()

    def __enter__(self) -> Any:
        self._span.begin()
        try:
            return self._manager.__enter__()
        except BaseException as error:
            self._span.end(error)
            raise

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> Any:
        try:
            return self._manager.__exit__(kind, error, trace)
        finally:
            self._span.end(error)


class _AsyncContext(_Proxy):
    __slots__ = ()

    async def __aenter__(self) -> Any:
        self._span.begin()
        try:
            return await self._manager.__aenter__()
        except BaseException as error:
            self._span.end(error)
            raise

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> Any:
        try:
            return await self._manager.__aexit__(kind, error, trace)
        finally:
            self._span.end(error)


class _AnyContext(_Context, _AsyncContext):
    __slots__ = ()
