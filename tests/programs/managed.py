"""Functions that return context managers of many habits, and what can be done with these, a function each."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import io
import pickle
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from typing import Any

EVENTS: list[Any] = []


class OddError(Exception):
    """What is raised in the blocks."""


@contextlib.contextmanager
def block(name: str = "a") -> Iterator[str]:
    """Waits for no exception in particular, and notes that it has come to its end."""
    try:
        yield name.upper()
    finally:
        EVENTS.append(name)


@contextlib.contextmanager
def forgiving() -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        EVENTS.append(repr(error))


@contextlib.contextmanager
def renaming() -> Iterator[None]:
    try:
        yield
    except OddError as error:
        raise KeyError("renamed") from error


@contextlib.contextmanager
def yielding_twice() -> Iterator[None]:
    yield
    yield


@contextlib.contextmanager
def never_yielding() -> Iterator[None]:
    EVENTS.append("never")
    yield from ()


@contextlib.asynccontextmanager
async def ablock(name: str = "a") -> AsyncIterator[str]:
    await asyncio.sleep(0)
    try:
        yield name.upper()
    finally:
        await asyncio.sleep(0)
        EVENTS.append(name)


@contextlib.asynccontextmanager
async def aforgiving() -> AsyncIterator[None]:
    with contextlib.suppress(OddError):
        yield


class Rows:
    """Much more than a context manager."""

    def __init__(self, *rows: int) -> None:
        self.rows = list(rows)
        self._manager = "an attribute with a name that others use too"

    def __enter__(self) -> Rows:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        EVENTS.append(error)

    def __iter__(self) -> Iterator[int]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> int:
        return self.rows[index]

    def __contains__(self, row: object) -> bool:
        return row in self.rows

    def __add__(self, more: int) -> Rows:
        return Rows(*self.rows, more)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rows) and self.rows == other.rows

    __hash__ = None  # type: ignore[assignment]


def rows(*values: int) -> Rows:
    return Rows(*values)


class Response:
    """Awaited or entered, as those of HTTP clients are."""

    def __await__(self) -> Generator[Any, Any, str]:
        yield from asyncio.sleep(0).__await__()
        return "awaited"

    async def __aenter__(self) -> str:
        return await self

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        EVENTS.append("left")


def response() -> Response:
    return Response()


class Failing:
    """Raises where it is asked to."""

    def __init__(self, where: str) -> None:
        self.where = where

    def __enter__(self) -> None:
        if self.where == "enter":
            raise KeyError(self.where)

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if self.where == "exit":
            raise KeyError(self.where)


def failing(where: str) -> Failing:
    return Failing(where)


SHARED = threading.RLock()


def shared() -> Any:
    return SHARED


def text() -> io.StringIO:
    return io.StringIO("one\ntwo\n")


def within(manager: Any, error: BaseException | None = None) -> Any:
    with manager as entered:
        if error:
            raise error
        return entered


async def awithin(manager: Any, error: BaseException | None = None) -> Any:
    async with manager as entered:
        await asyncio.sleep(0)
        if error:
            raise error
        return entered


def raised_in(make: Callable[[], Any], error: BaseException) -> Any:
    """What comes out of a block that raises: nothing, the very same exception, or another."""
    try:
        within(make(), error)
    except BaseException as caught:
        return "the same" if caught is error else (repr(caught), repr(caught.__cause__))
    return "nothing"


def a_block() -> Any:
    return within(block("b"))


def an_exception() -> Any:
    return raised_in(block, OddError("x"))


def exceptions_that_mean_something_to_generators() -> Any:
    errors = [StopIteration(1), GeneratorExit(), RuntimeError("r"), KeyboardInterrupt()]
    return [raised_in(make, error) for error in errors for make in (block, forgiving)]


def a_swallowed_exception() -> Any:
    return raised_in(forgiving, OddError("x"))


def another_exception() -> Any:
    return raised_in(renaming, OddError("x"))


def a_generator_that_yields_twice() -> Any:
    return within(yielding_twice())


def a_generator_that_never_yields() -> Any:
    return within(never_yielding())


def used_twice() -> Any:
    manager = block()
    return within(manager), within(manager)


def a_decorator() -> Any:
    @block("d")
    def decorated() -> str:
        return "called"

    return decorated(), decorated()


def what_it_is() -> Any:
    return type(block()), type(ablock()), block().__doc__, isinstance(block(), contextlib.ContextDecorator)


def a_stack() -> Any:
    with contextlib.ExitStack() as stack:
        return [stack.enter_context(block("s")), stack.enter_context(rows(1)).rows]


def never_entered() -> Any:
    block()


def an_async_block() -> Any:
    return asyncio.run(awithin(ablock("b")))


def an_async_exception() -> Any:
    return asyncio.run(awithin(ablock(), OddError("x")))


def async_exceptions_that_mean_something_to_generators() -> Any:
    return asyncio.run(awithin(ablock(), StopAsyncIteration(1)))


def an_async_swallowed_exception() -> Any:
    return asyncio.run(awithin(aforgiving(), OddError("x")))


def an_async_stack() -> Any:
    async def main() -> Any:
        async with contextlib.AsyncExitStack() as stack:
            return [await stack.enter_async_context(ablock("s")), stack.enter_context(block("t"))]

    return asyncio.run(main())


def cancelled_in_a_block() -> Any:
    async def main() -> Any:
        task = asyncio.create_task(awithin(ablock()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        await task

    return asyncio.run(main())


def operators() -> Any:
    some = rows(3, 4)
    return list(some), len(some), some[1], 4 in some, bool(rows()), list(some + 5), some == rows(3, 4)


def what_it_cannot() -> Any:
    return callable(rows()), hasattr(rows(), "__next__"), hasattr(type(rows()), "__aenter__")


def called() -> Any:
    some: Any = rows()
    return some()


def hashed() -> Any:
    return hash(rows())


def its_class() -> Any:
    some = rows()
    return isinstance(some, Rows), some.__class__ is Rows, str(type(some)), Rows.__eq__(some, some)


def its_attributes() -> Any:
    some = rows(1)
    some.rows = [2]
    named = some._manager
    del some._manager
    return list(some), named, vars(some), hasattr(some, "_manager")


def copies() -> Any:
    return copy.copy(rows(1)).rows, copy.deepcopy(rows(2)).rows, pickle.loads(pickle.dumps(rows(3))).rows


def a_weak_reference() -> Any:
    some = rows()
    return weakref.ref(some)() is some


def lines() -> Any:
    with text() as file:
        return list(file), list(text()), next(text())


def a_response() -> Any:
    async def main() -> Any:
        awaited: Awaitable[str] = response()
        return await awaited, await awithin(response())

    return asyncio.run(main())


def entered_within_itself() -> Any:
    with shared(), shared():
        return within(shared())


def failing_to_enter() -> Any:
    return within(failing("enter"))


def failing_to_leave() -> Any:
    return within(failing("exit"))


def failing_to_leave_with_an_exception() -> Any:
    return raised_in(lambda: failing("exit"), OddError("x"))
