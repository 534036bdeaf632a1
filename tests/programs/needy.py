"""Functions that are hooked while there is no memory."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator


def function(x: object, y: int = 0) -> list[object]:
    return [x, {"a": x, "y": y}, "t" * 300]


def raising(x: object) -> None:
    raise ValueError("its own")


async def coroutine(x: object) -> list[object]:
    return [x]


def generator(x: object) -> Iterator[object]:
    yield x
    yield [x]


async def async_generator(x: object) -> AsyncIterator[object]:
    yield x


@contextlib.contextmanager
def context(x: object) -> Iterator[object]:
    yield [x]


def handled(x: object) -> list[object]:
    return [x]
