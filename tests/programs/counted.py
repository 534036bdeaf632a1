"""Targets that note each of their runs, so that one too many or too few is seen."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

runs: list[int] = []


class RefusedError(Exception):
    """What negative numbers lead to; each is an exception of its own."""


def double(number: int, plus: int = 0, *more: int, **options: int) -> list[int]:
    runs.append(number)
    if number < 0:
        raise RefusedError(number)
    return [2 * number + plus + sum(more)]


async def pause(times: int) -> None:
    for _ in range(times):
        await asyncio.sleep(0)


async def slow_double(number: int, plus: int = 0, pauses: int = 1) -> list[int]:
    runs.append(number)
    await pause(pauses)
    if number < 0:
        raise RefusedError(number)
    return [2 * number + plus]


def total(number: int) -> int:
    rest = total(number - 1) if number else 0
    number += rest
    return number


async def slow_total(number: int) -> int:
    await asyncio.sleep(0)
    rest = sum(range(number))
    await pause(number % 7)
    return number + rest


async def forever(number: int) -> None:
    runs.append(number)
    await asyncio.Event().wait()


def count_to(number: int) -> Iterator[int]:
    runs.append(number)
    yield from range(number)


def interrupt(error: BaseException) -> None:
    runs.append(0)
    raise error


@dataclass
class Box:
    """Methods of each kind."""

    size: int

    def grow(self, by: int = 1) -> int:
        runs.append(by)
        self.size += by
        return self.size

    @classmethod
    def of(cls, size: int) -> Box:
        return cls(size)

    @staticmethod
    def unit() -> str:
        return "cm"

    async def slow_grow(self, by: int = 1) -> int:
        await asyncio.sleep(0)
        return self.grow(by)


class Crate(Box):
    """Has a method that knows its class."""

    def grow(self, by: int = 1) -> int:
        return super().grow(2 * by)
