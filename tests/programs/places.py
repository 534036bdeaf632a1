"""Callables that stand in unusual places of their class or module."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any


class Clerk:
    """Its objects can be called, and can do more than that."""

    def __init__(self, bonus: int = 1) -> None:
        self.bonus = bonus

    def __call__(self, x: int, times: int = 1) -> int:
        return x * times + self.bonus

    def __len__(self) -> int:
        return self.bonus


class Trainee(Clerk):
    """Inherits what a call does."""


class Courier:
    """Calls of its objects make coroutines."""

    async def __call__(self, x: int) -> int:
        return x


clerk, colleague, trainee, courier = Clerk(), Clerk(2), Trainee(3), Courier()


class Store:
    """One of each descriptor."""

    class Shelf:
        """A nested class."""

        def label(self) -> str:
            return "top"

    def __init__(self) -> None:
        self._size = 1

    def __call__(self, x: int) -> int:
        return x + 1

    @property
    def size(self) -> int:
        """How much fits in."""
        return self._size

    @size.setter
    def size(self, value: int) -> None:
        self._size = value

    @size.deleter
    def size(self) -> None:
        self._size = 0

    @functools.cached_property
    def catalogue(self) -> list[int]:
        return [self._size]

    def multiply(self, by: int) -> int:
        return self._size * by

    double = functools.partialmethod(multiply, 2)

    @functools.lru_cache(maxsize=8)  # noqa: B019
    def remembered(self, x: int) -> int:
        return x * 3

    def __secret(self, x: int) -> int:
        return x + self._size

    @property
    def __state(self) -> int:
        return self._size

    @__state.setter
    def __state(self, value: int) -> None:
        self._size = value

    def opened(self, x: int) -> int:
        self.__state = x
        return self.__secret(self.__state)

    # Neither an object without `__get__` nor a builtin binds to the instance.
    clerk = clerk
    plus = operator.add


class LargeStore(Store):
    """Inherits everything."""


def count(start: int = 0) -> int:
    return start + 1


class Borrower:
    """Has others' functions under names of its own."""

    tally = count  # called on the class only
    times = Store.multiply

    def __init__(self) -> None:
        self._size = 5


also_count = count
count_from_ten: Callable[..., int] = functools.partial(count, 10)


@functools.cache
def cached(x: int) -> int:
    return x * x


@functools.singledispatch
def describe(value: Any) -> str:
    return "thing"


@describe.register
def _(value: int) -> str:
    return "number"
