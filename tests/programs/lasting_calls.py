"""Calls of the targets in `lasting`, each with what it is about. To be imported when they are hooked."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

from lasting import (
    Box,
    OddError,
    async_generator,
    block,
    cached,
    call,
    changed,
    coroutine,
    describe,
    failing_coroutine,
    future,
    generator,
    give,
    handled,
    handled_coroutine,
    handled_refusal,
    managed,
    mishandled,
    partial,
    refuse,
    refuse_described,
    surrounded,
    surrounded_coroutine,
)

numbers = itertools.count()


def finish(made: Coroutine[Any, Any, Any]) -> Any:
    """Runs a coroutine that waits for nothing."""
    try:
        while True:
            made.send(None)
    except StopIteration as end:
        return end.value


async def collect(items: AsyncGenerator[Any, Any]) -> list[Any]:
    return [item async for item in items]


async def begin(items: AsyncGenerator[Any, Any]) -> Any:
    """One item, and no more."""
    item = await anext(items)
    await items.aclose()
    return item


def abandon(value: Any) -> None:
    items = generator(value)
    next(items)


def leave(made: Coroutine[Any, Any, Any]) -> None:
    made.send(None)
    made.close()


def throw(value: Any) -> None:
    items = generator(value)
    next(items)
    items.throw(OddError(value))


def within(value: Any) -> None:
    with block(value):
        raise OddError(value)


def set_both(value: Any) -> None:
    Box(value).both = value


class Mute:
    """Has no text."""

    def __repr__(self) -> str:
        raise OddError(self)


CALLS: dict[str, Callable[[Any], Any]] = {
    "function": give,
    "function with keywords": lambda value: give(value, value, key=value, other=value),
    "function by unpacking": lambda value: give(*[value, value], **dict.fromkeys(["key"], value)),
    "attributes": lambda value: describe(value, name=f"name {next(numbers)}"),
    "attributes of containers": lambda value: describe({value: [{"deep": (value, {value})}]}),
    "attributes that are cut": lambda value: describe([value, "long" * 100] * 50),
    "attributes that fail": lambda value: describe([Mute()]),
    "exception": refuse,
    "exception with attributes": refuse_described,
    "arguments that do not fit": lambda value: refuse(),  # type: ignore[call-arg]
    "recursion": lambda value: call(lambda inner: call(give, inner), value),
    "below a caller": lambda value: call(give, value),
    "init": Box,
    "method": lambda value: Box(value).take(value),
    "bound method": lambda value: [bound(value) for bound in [Box(value).take] * 2],
    "static method": Box.static,
    "class method": Box.of,
    "property": lambda value: Box(value).both,
    "setter": set_both,
    "partial": partial,
    "lru_cache": cached,
    "coroutine": lambda value: finish(coroutine(value)),
    "coroutine that raises": lambda value: finish(failing_coroutine(value)),
    "coroutine that is closed": lambda value: leave(coroutine(value)),
    "coroutine that never begins": lambda value: coroutine(value).close(),
    "generator": lambda value: list(generator(value)),
    "generator that is abandoned": abandon,
    "generator that is thrown into": throw,
    "async generator": lambda value: finish(collect(async_generator(value))),
    "async generator that is closed": lambda value: finish(begin(async_generator(value))),
    "future": lambda value: future(value).result(),
    "with block that raises": within,
    "handler": handled,
    "handler and an exception": handled_refusal,
    "handler that changes everything": changed,
    "generator as handler": surrounded,
    "context manager as handler": managed,
    "handler that fails": mishandled,
    "handler of a coroutine": lambda value: finish(handled_coroutine(value)),
    "generator as handler of a coroutine": lambda value: finish(surrounded_coroutine(value)),
}
