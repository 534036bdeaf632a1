"""Daemon threads that are in the middle of something when their process ends, each in another way."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from typing import Any

import msprof_rs

PAUSE = 0.0005
"""Long enough for the interpreter's lock to go to others."""


class Slow:
    """Whoever looks at it waits for the interpreter's lock."""

    def __str__(self) -> str:
        time.sleep(PAUSE)
        return "slow"

    def __len__(self) -> int:
        time.sleep(PAUSE)
        return 1

    @property
    def request_id(self) -> str:
        return str(self)

    @property
    def block_pool(self) -> Slow:
        return self

    num_gpu_blocks = 8

    def get_num_free_blocks(self) -> int:
        return len(self)


SLOW = Slow()
NEVER: queue.Queue[None] = queue.Queue()


def timed(value: Any) -> Any:
    time.sleep(PAUSE)
    return value


def attributed(value: Any) -> Any:
    return value


def failing(value: Any) -> Any:
    raise ValueError(value)


def deep(depth: int) -> int:
    return timed(0) if depth == 0 else 1 + deep(depth - 1)


async def coroutine(value: Any, steps: int = 3) -> Any:
    for _ in range(steps):
        await asyncio.sleep(PAUSE)
        time.sleep(PAUSE)
    return value


async def items(value: Any) -> AsyncIterator[Any]:
    for _ in range(3):
        time.sleep(PAUSE)
        yield value


def generator(value: Any) -> Iterator[Any]:
    for _ in range(3):
        time.sleep(PAUSE)
        yield value


def future(value: Any) -> Future[Any]:
    made: Future[Any] = Future()
    made.set_result(value)
    return made


@contextlib.contextmanager
def block(value: Any) -> Iterator[Any]:
    time.sleep(PAUSE)
    yield value


def handled(value: Any) -> Any:
    time.sleep(PAUSE)
    return value


def handled_in_context(value: Any) -> Any:
    time.sleep(PAUSE)
    return value


async def handled_coroutine(value: Any) -> Any:
    await asyncio.sleep(PAUSE)
    return value


def blocked() -> None:
    """In the original of a handler, for ever."""
    NEVER.get()


class Manager(Slow):
    """What a built-in handler reads."""

    def free(self, request: Any) -> None:
        time.sleep(PAUSE)


def handler(original_func: Callable[..., Any], this: Any, *args: Any, **kwargs: Any) -> Any:
    time.sleep(PAUSE)
    result = original_func(*args, **kwargs) if this is None else original_func(this, *args, **kwargs)
    time.sleep(PAUSE)
    return result


class Context:
    """A handler around the original."""

    def __init__(self, this: Any, *args: Any, **kwargs: Any) -> None:
        time.sleep(PAUSE)

    def __enter__(self) -> None:
        time.sleep(PAUSE)

    def __exit__(self, *error: object) -> None:
        time.sleep(PAUSE)


async def awaiting(original_func: Callable[..., Any], this: Any, *args: Any, **kwargs: Any) -> Any:
    await asyncio.sleep(PAUSE)
    return await original_func(this, *args, **kwargs)


def fail() -> None:
    with contextlib.suppress(ValueError):
        failing(SLOW)


async def walk() -> None:
    async for _ in items(SLOW):
        pass


def enter() -> None:
    with block(SLOW):
        time.sleep(PAUSE)


def record_span() -> None:
    with msprof_rs.span("mine", value=SLOW) as span:
        span["later"] = SLOW


def record_profile() -> None:
    profiler = msprof_rs.Profiler(20).domain("Mine").res(SLOW).attr("value", SLOW)
    profiler.span_start("mine").span_end()
    profiler.event("mine")


@msprof_rs.timed
def decorated() -> None:
    time.sleep(PAUSE)


def count() -> None:
    msprof_rs.counter("mine", 1.0)
    time.sleep(0)


DEEDS: list[Callable[[], object]] = [
    lambda: timed(SLOW),
    lambda: attributed(SLOW),
    fail,
    lambda: deep(30),
    lambda: asyncio.run(coroutine(SLOW)),
    lambda: asyncio.run(walk()),
    lambda: list(generator(SLOW)),
    lambda: future(SLOW),
    enter,
    lambda: handled(SLOW),
    lambda: handled_in_context(SLOW),
    lambda: asyncio.run(handled_coroutine(SLOW)),
    blocked,
    lambda: Manager().free(SLOW),
    record_span,
    lambda: msprof_rs.event("mine", value=SLOW),
    record_profile,
    decorated,
    count,
]


def repeat(deed: Callable[[], object], has_begun: threading.Barrier) -> None:
    has_begun.wait()
    while True:
        deed()


def end(number: int, how: str) -> None:
    """Ends this process by the statement `how`, while each deed is being done by a thread of its own.

    When that is depends on `number`."""
    has_begun = threading.Barrier(len(DEEDS) + 1)
    for deed in DEEDS:
        threading.Thread(target=functools.partial(repeat, deed, has_begun), daemon=True).start()
    has_begun.wait()
    for _ in range(10 + number % 7):
        timed(SLOW)
    exec(how)
