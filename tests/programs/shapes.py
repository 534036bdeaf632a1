"""Every kind of callable that a symbol can name, small enough to say what a call of it must give."""

from __future__ import annotations

import asyncio
from typing import Any


class UnhappyError(Exception):
    """What the callables here raise."""


UNHAPPY = UnhappyError("as asked")


def add(a: int, b: int = 1) -> int:
    return a + b


def fail(error: BaseException = UNHAPPY) -> None:
    raise error


async def sleep_and_add(a: int, b: int, seconds: float = 0.0) -> int:
    await asyncio.sleep(seconds)
    return a + b


async def sleep_and_fail() -> None:
    await asyncio.sleep(0)
    raise UNHAPPY


class Shape:
    """A class with one method of each kind."""

    device = "cpu:0"

    def __init__(self, side: int = 2) -> None:
        self.side = side
        self.input_batch = {"_req_ids": ["a", "b", "c"]}

    def area(self) -> int:
        return self.side * self.side

    async def slow_area(self) -> int:
        await asyncio.sleep(0)
        return self.area()

    @staticmethod
    def corners(kind: str) -> int:
        return {"square": 4}[kind]

    @classmethod
    def unit(cls) -> Shape:
        return cls(1)

    def describe(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return {"args": args, "kwargs": kwargs}


class Square(Shape):
    """Overrides one method and calls the other's original."""

    def area(self) -> int:
        return super().area()
