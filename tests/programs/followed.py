"""Functions whose calls only make something: coroutines, generators, futures, context managers."""

from __future__ import annotations

import asyncio
import contextlib
import types
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

EVENTS: list[Any] = []
"""What the targets did, in order."""


class OddError(Exception):
    """What the targets raise."""


async def coroutine(value: Any = 1, steps: int = 1) -> Any:
    for _ in range(steps):
        await asyncio.sleep(0)
    if isinstance(value, BaseException):
        raise value
    return value


async def careful(seconds: float = 3600.0) -> str:
    """Cleans up, and takes a step for it."""
    try:
        await asyncio.sleep(seconds)
        return "slept"
    except asyncio.CancelledError:
        EVENTS.append("cancelled")
        await asyncio.sleep(0)
        raise
    finally:
        EVENTS.append("cleaned up")


async def stubborn() -> str:
    """Does not let itself be cancelled."""
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        EVENTS.append("refused")
    return "still here"


async def nested(depth: int) -> int:
    return 0 if depth == 0 else 1 + await nested(depth - 1)


def generator(*items: Any) -> Generator[Any, Any, str]:
    """Yields its items, notes what is sent, raises what is an exception; returns a text."""
    try:
        for item in items:
            if isinstance(item, BaseException):
                raise item
            try:
                EVENTS.append((yield item))
            except OddError as error:
                EVENTS.append(("caught", error))
                yield "caught"
    finally:
        EVENTS.append("left")
    return "returned"


def passing_on(items: Iterator[Any]) -> Iterator[Any]:
    yield from items


def endless() -> Iterator[int]:
    number = 0
    while True:
        yield number
        number += 1


def delegating() -> Generator[Any, Any, Any]:
    result = yield from generator(1, 2)
    yield result


def ignoring() -> Generator[Any, Any, str]:
    """Takes being closed for a reason to return."""
    try:
        yield
    except GeneratorExit:
        EVENTS.append("closed")
    return "ignored"


async def unwilling() -> str:
    """The same."""
    try:
        await asyncio.sleep(0)
    except GeneratorExit:
        EVENTS.append("closed")
    return "ignored"


@types.coroutine
def old_style(value: int) -> Generator[Any, Any, int]:
    yield
    return value


async def agenerator(*items: Any) -> AsyncGenerator[Any, Any]:
    try:
        for item in items:
            await asyncio.sleep(0)
            if isinstance(item, BaseException):
                raise item
            try:
                EVENTS.append((yield item))
            except OddError as error:
                EVENTS.append(("caught", error))
                yield "caught"
    finally:
        await asyncio.sleep(0)
        EVENTS.append("left")


class Methods:
    """The same on instances and classes."""

    def __init__(self, start: int = 10) -> None:
        self.start = start

    async def coroutine(self) -> int:
        await asyncio.sleep(0)
        return self.start

    def generator(self, count: int) -> Iterator[int]:
        yield from range(self.start, self.start + count)

    @classmethod
    async def agenerator(cls, count: int) -> AsyncIterator[int]:
        for number in range(count):
            yield number

    @staticmethod
    async def static(value: int) -> int:
        return value


POOL = ThreadPoolExecutor(1)


def future(work: Callable[[], Any]) -> Future[Any]:
    return POOL.submit(work)


def task(coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    return asyncio.get_running_loop().create_task(coroutine)


def returns_coroutine(value: int) -> Awaitable[int]:
    return coroutine(value)


def returns_number(value: int) -> int:
    return value


@contextlib.contextmanager
def block(name: str) -> Iterator[str]:
    EVENTS.append(("enter", name))
    try:
        yield name.upper()
    finally:
        EVENTS.append(("exit", name))


@contextlib.asynccontextmanager
async def ablock(name: str) -> AsyncIterator[str]:
    await asyncio.sleep(0)
    yield name.upper()


class Manager:
    """Swallows OddErrors."""

    entered = 0

    def __enter__(self) -> Manager:
        self.entered += 1
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> bool:
        return isinstance(error, OddError)


def make_manager() -> Manager:
    return Manager()


def nothing() -> contextlib.nullcontext[None]:
    return contextlib.nullcontext()
