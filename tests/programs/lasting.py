"""Targets of every kind, and handlers of every kind for them, all of which keep nothing."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from concurrent.futures import Future
from typing import Any


class OddError(Exception):
    """Has what the call was about as its argument."""


def give(value: Any, *more: Any, **options: Any) -> Any:
    return value


def describe(value: Any, *, name: str = "") -> list[Any]:
    return [value, name]


def refuse(value: Any) -> None:
    raise OddError(value)


def refuse_described(value: Any) -> None:
    raise OddError(value)


def call(function: Callable[[Any], Any], value: Any) -> Any:
    return function(value)


class Box:
    """Every kind of member."""

    def __init__(self, value: Any) -> None:
        self.content = value

    def take(self, value: Any) -> Any:
        return value

    @staticmethod
    def static(value: Any) -> Any:
        return value

    @classmethod
    def of(cls, value: Any) -> Box:
        return cls(value)

    @property
    def both(self) -> tuple[Any, Any]:
        return self.content, self

    @both.setter
    def both(self, value: Any) -> None:
        self.content = value


async def coroutine(value: Any) -> Any:
    await asyncio.sleep(0)
    return value


async def failing_coroutine(value: Any) -> Any:
    await asyncio.sleep(0)
    raise OddError(value)


def generator(value: Any) -> Generator[Any, Any, Any]:
    yield value
    yield value
    return value


async def async_generator(value: Any) -> AsyncGenerator[Any, Any]:
    yield value
    yield value


def future(value: Any) -> Future[Any]:
    result: Future[Any] = Future()
    result.set_result(value)
    return result


@contextlib.contextmanager
def block(value: Any) -> Iterator[Any]:
    yield value


partial = functools.partial(give, more=1)


@functools.lru_cache(maxsize=4)
def cached(value: Any) -> tuple[Any]:
    return (value,)


# What handlers are put on.


def handled(value: Any) -> Any:
    return value


def handled_refusal(value: Any) -> Any:
    raise OddError(value)


def changed(value: Any) -> Any:
    return value


def surrounded(value: Any) -> Any:
    return value


def managed(value: Any) -> Any:
    return value


def mishandled(value: Any) -> Any:
    return value


async def handled_coroutine(value: Any) -> Any:
    await asyncio.sleep(0)
    return value


async def surrounded_coroutine(value: Any) -> Any:
    await asyncio.sleep(0)
    return value


CALLED: set[str] = set()
"""The handlers that were."""


def passing_on(original_func: Any, this: Any, *args: Any, **kwargs: Any) -> Any:
    CALLED.add("passing_on")
    return original_func(this, *args, **kwargs)


def changing(original_func: Any, this: Any, *args: Any, **kwargs: Any) -> Any:
    CALLED.add("changing")
    with contextlib.suppress(TypeError):
        original_func([this], *args, **kwargs)
    return (this, original_func(this))


async def passing_on_later(original_func: Any, this: Any, *args: Any, **kwargs: Any) -> Any:
    CALLED.add("passing_on_later")
    return await original_func(this, *args, **kwargs)


def surrounding(ctx: Any) -> Iterator[None]:
    CALLED.add("surrounding")
    before = ctx.local_values
    yield
    after = (ctx.local_values, ctx.return_value)
    del before, after


class Managing:
    """A context manager as handler."""

    def __init__(self, ctx: Any) -> None:
        CALLED.add("Managing")
        self.ctx = ctx

    def __enter__(self) -> None:
        self.seen: Any = [self.ctx.local_values]

    def __exit__(self, *error: Any) -> None:
        self.seen = [self.ctx.return_value, self]


def failing(original_func: Any, this: Any) -> Any:
    CALLED.add("failing")
    raise OddError(original_func, this)
