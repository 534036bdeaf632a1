"""Handlers that are contexts around the call: generators with one `yield`, and classes.

What they do or raise does not change what the target's caller gets.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Coroutine, Generator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

from msprof_rs._core import quietly
from msprof_rs._handlers import returns
from msprof_rs._handlers.call import Inner, Report


class Context:
    """`ctx`: what a context handler knows of the call."""

    __slots__ = ("local_values", "return_value")

    def __init__(self, local_values: dict[str, Any]) -> None:
        self.local_values = local_values
        """The arguments by the names of the target's parameters, defaults included. From CPython 3.12 on,
        after the call: its local variables when it returned."""
        self.return_value: Any = None
        """None before the call, its result after it."""


Factory = Callable[[Context], AbstractContextManager[Any]]


def factory(handler: Any) -> Factory | None:
    """What makes the handler's context manager for a call; None for a handler that is no context."""
    if isinstance(handler, type):
        return handler if hasattr(handler, "__enter__") and hasattr(handler, "__exit__") else None
    if inspect.isgeneratorfunction(handler):
        return lambda context: _OneYield(handler(context))
    is_decorated = inspect.isgeneratorfunction(getattr(handler, "__wrapped__", None))
    return handler if is_decorated else None


def around_function(factory: Factory, target: Any) -> Callable[..., Any]:
    """What is called in place of a function."""
    parameters = _Parameters(target)

    def drive(inner: Inner, report: Report, /, *args: Any, **kwargs: Any) -> Any:
        around = _Around(factory, report, quietly(parameters.values, args, kwargs))
        try:
            result = inner(*args, **kwargs)
        except BaseException as error:
            around.raised(error)
            raise
        around.returned(result)
        return result

    returns.calls_for(drive, "around")
    return drive


def around_coroutine(factory: Factory, target: Any) -> Callable[..., Coroutine[Any, Any, Any]]:
    """What makes the coroutine in place of a coroutine function's; both parts run inside of it."""
    parameters = _Parameters(target)

    async def drive(inner: Inner, report: Report, /, *args: Any, **kwargs: Any) -> Any:
        around = _Around(factory, report, quietly(parameters.values, args, kwargs))
        try:
            result = await inner(*args, **kwargs)
        except BaseException as error:
            around.raised(error)
            raise
        around.returned(result)
        return result

    returns.calls_for(drive, "around")
    return drive


class _OneYield(AbstractContextManager[Any]):
    """A generator as a context. `contextlib`'s way there may be hooked, even by this very handler."""

    def __init__(self, generator: Generator[Any, Any, Any]) -> None:
        self._generator = generator

    def __enter__(self) -> Any:
        for value in self._generator:
            return value
        raise RuntimeError("the handler did not yield")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None:
            for _ in self._generator:
                raise RuntimeError("the handler yielded more than once")
            return False
        try:
            self._generator.throw(error)
        except StopIteration as end:
            return end is not error
        except BaseException as own:
            # A generator may raise no `StopIteration`: one that passes through is the cause of another.
            if own is error or (isinstance(error, StopIteration) and own.__cause__ is error):
                return False
            raise
        raise RuntimeError("the handler yielded more than once")


class _Around:
    """A context handler around one call. Its exceptions end here, but for interrupts and the like."""

    def __init__(self, factory: Factory, report: Report, local_values: dict[str, Any]) -> None:
        self._report = report
        self._context = Context(local_values)
        self._manager: AbstractContextManager[Any] | None = None
        try:
            manager = factory(self._context)
            manager.__enter__()
        except Exception as error:
            report.failed(error)
        else:
            self._manager = manager

    def returns(self, local_values: dict[str, Any]) -> None:
        """What the target's local variables are at its end."""
        self._context.local_values = local_values

    def returned(self, result: Any) -> None:
        self._context.return_value = result
        self._exit(None)

    def raised(self, error: BaseException) -> None:
        traceback = error.__traceback__
        try:
            self._exit(error)
        finally:
            # Thrown into a generator, it has got that one's frames.
            error.__traceback__ = traceback

    def _exit(self, error: BaseException | None) -> None:
        if self._manager is None:
            return
        try:
            if error is None:
                self._manager.__exit__(None, None, None)
            else:
                self._manager.__exit__(type(error), error, error.__traceback__)
        except Exception as own:
            if own is not error:
                self._report.failed(own)


class _Default:
    """A parameter's default, which lives no longer than it would without us."""

    def __init__(self, value: Any) -> None:
        try:
            self.get: Callable[[], Any] = weakref.ref(value)
        except TypeError:
            self.get = lambda: value


def _let_go(signature: inspect.Signature) -> inspect.Signature:
    """Annotations and defaults would keep the classes of a module alive that the program has let go of."""
    empty = inspect.Parameter.empty
    return inspect.Signature(
        [
            one.replace(annotation=empty, default=empty if one.default is empty else _Default(one.default))
            for one in signature.parameters.values()
        ]
    )


class _Parameters:
    """Gives arguments the names of a target's parameters."""

    def __init__(self, target: Any) -> None:
        self._code = returns.code_of(target)
        try:
            self._signature: inspect.Signature | None = _let_go(inspect.signature(target))
        except (TypeError, ValueError):
            self._signature = None  # as with many built-in functions

    def values(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Of one call, which is about to be made."""
        if self._code is not None:
            returns.watch(self._code)
        if self._signature is None:
            return {}
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError:
            return {}  # the target will say so
        bound.apply_defaults()
        return {k: v.get() if type(v) is _Default else v for k, v in bound.arguments.items()}
