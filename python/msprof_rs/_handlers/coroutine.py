"""Handlers in place of a coroutine function: `async def`, or a function that returns something to await.

The original is run once, when the handler first awaits it; what else the handler does with it gives that
run's outcome again.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from msprof_rs._core import quietly
from msprof_rs._handlers.call import Inner, Report


def in_place(handler: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, Any]]:
    """What makes the coroutine that the target's callers get."""

    async def drive(inner: Inner, report: Report, /, *args: Any, **kwargs: Any) -> Any:
        original = Original(inner)
        try:
            try:
                result = handler(original, *(args or (None,)), **kwargs)
                if quietly(inspect.isawaitable, result):
                    result = await result
            except Exception as error:
                if original.raised(error):
                    raise
                report.failed(error)
                interruption = _interruption(error)
            else:
                if not original.called:
                    report.not_called()
                elif type(result) is Run:
                    result = await result
                elif not original.begun:
                    report.not_awaited()
                    await original()
                return result
            # Not in the `except`: what is raised must not get the handler's exception as its context.
            if interruption is not None:
                raise interruption
            return await original(*args, **kwargs)
        finally:
            original.close()

    return drive


def _interruption(error: BaseException) -> BaseException | None:
    """The cancellation or the like that `error` came up while handling; not one that it is raised from."""
    while error.__context__ is not None and error.__cause__ is None:
        error = error.__context__
        if not isinstance(error, Exception):
            return error
    return None


class Original:
    """`original_func`. Its second and later calls stand for the first one."""

    def __init__(self, inner: Inner) -> None:
        self._inner = inner
        self._coroutine: Coroutine[Any, Any, Any] | None = None
        self._result: Any = None
        self._error: BaseException | None = None
        self._ended = False
        self._closed = False
        self._waiting: list[Any] = []
        self.called = False
        self.begun = False

    def __call__(self, *args: Any, **kwargs: Any) -> Run:
        self._check()
        if not self.called:
            self.called = True
            try:
                self._coroutine = self._inner(*args, **kwargs)
            except BaseException as error:
                self._error = error
                self.begun = self._ended = True
                raise
        return Run(self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def raised(self, error: BaseException) -> bool:
        """Whether this is the original's own exception."""
        return self._error is error

    def steps(self) -> Generator[Any, Any, Any]:
        """What an `await` goes through."""
        self._check()
        if self._coroutine is not None and not self.begun:
            self.begun = True
            try:
                self._result = yield from self._coroutine.__await__()
            except BaseException as error:
                self._error = error
                raise
            finally:
                self._end()
            return self._result
        while not self._ended:
            yield from self._until_ended()
        if self._error is not None:
            raise self._error
        return self._result

    def close(self) -> None:
        """The call is over. An exception is not kept: its frames hold this."""
        self._closed = True
        if self._coroutine is not None and not self.begun:
            self._coroutine.close()
        self._coroutine = self._result = self._error = None

    def _check(self) -> None:
        if self._closed:
            raise RuntimeError("the call that this original function belongs to is over")

    def _until_ended(self) -> Generator[Any, Any, Any]:
        """The original is being run by another task."""
        import asyncio

        waiting = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        yield from waiting

    def _end(self) -> None:
        self._ended = True
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)
        self._waiting.clear()


class Run(Coroutine[Any, Any, Any]):
    """What a call of the original gives: a coroutine, but one that can be awaited again."""

    def __init__(self, original: Original) -> None:
        self._original = original
        self._own_steps: Generator[Any, Any, Any] | None = None

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._original.steps()

    @property
    def _steps(self) -> Generator[Any, Any, Any]:
        """Those of the task that has this as its coroutine."""
        if self._own_steps is None:
            self._own_steps = self._original.steps()
        return self._own_steps

    def send(self, value: Any) -> Any:
        """As that of a coroutine."""
        return self._steps.send(value)

    def throw(self, *error: Any) -> Any:
        """As that of a coroutine."""
        return self._steps.throw(*error)

    def close(self) -> None:
        """As that of a coroutine."""
        self._steps.close()
