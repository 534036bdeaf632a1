"""Targets that say in their result which call it belongs to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator


class OddError(Exception):
    """Raised for odd numbers; says which."""


class Halver:
    """Its methods call one another, so that spans nest."""

    def __init__(self, number: int) -> None:
        self.number = number

    def half(self) -> int:
        return halve(self.number)


def halve(number: int) -> int:
    if number % 2:
        raise OddError(number)
    return number // 2


def double(number: int) -> int:
    return 2 * number


async def wait_and_double(number: int, gate: asyncio.Event) -> int:
    await gate.wait()
    return double(number)


def multiples(number: int, count: int) -> Iterator[int]:
    for factor in range(count):
        yield number * factor


async def slow_multiples(number: int, count: int) -> AsyncIterator[int]:
    for factor in range(count):
        await asyncio.sleep(0)
        yield number * factor
