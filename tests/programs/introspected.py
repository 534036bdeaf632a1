"""Callables of many makes, to be looked at from all sides with and without hooks."""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import functools
import hashlib
import math
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, overload

import wrapt
from numpy.random import default_rng  # a function of Cython  # noqa: F401

square_root = math.sqrt
digest = hashlib.sha256
upper = str.upper


@overload
def plain(a: int, b: str = ...) -> str: ...
@overload
def plain(a: float, b: str = ...) -> str: ...
def plain(a: float, b: str = "x", *, c: bool = False) -> str:
    """Says what it was given."""
    return f"{a}{b}{c}"


plain.note = "kept"  # type: ignore[attr-defined]
table: dict[Callable[..., Any], str] = {plain: "found"}


async def coroutine(a: int) -> int:
    return a + 1


@functools.wraps(plain)
def wrapping(*args: Any, **kwargs: Any) -> str:
    return plain(*args, **kwargs)


def doubled(function: Callable[..., Any]) -> Callable[..., Any]:
    def twice(*args: Any) -> Any:
        return function(*args) * 2

    return twice


@wrapt.decorator
def knows_its_instance(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    return [type(instance).__name__, wrapped(*args, **kwargs)]


@knows_its_instance
def free(a: int) -> int:
    return a


@contextlib.contextmanager
def opened(name: str) -> Iterator[str]:
    yield name.upper()


@contextlib.asynccontextmanager
async def opened_later(name: str) -> AsyncIterator[str]:
    yield name.upper()


cached = functools.lru_cache(maxsize=4)(lambda a: a * 2)
added = functools.partial(plain, 1, c=True)


@functools.singledispatch
def dispatched(value: object) -> str:
    return "object"


@dispatched.register
def _(value: int) -> str:
    return "int"


class Desk:
    """Its objects can be called and much else."""

    def __init__(self) -> None:
        self.items = [1, 2]

    def __call__(self, a: int = 1) -> int:
        return a + len(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> int:
        return self.items[index]

    def __bool__(self) -> bool:
        return False

    def __add__(self, other: object) -> list[object]:
        return [self.items, other]

    __radd__ = __or__ = __add__

    def __enter__(self) -> int:
        return 3

    def __exit__(self, *error: object) -> None:
        pass

    async def __aenter__(self) -> int:
        return 4

    async def __aexit__(self, *error: object) -> None:
        pass

    def __index__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Desk)

    def __hash__(self) -> int:
        return 5

    def __getattr__(self, name: str) -> str:
        if name.startswith("_"):
            raise AttributeError(name)
        return name


desk = Desk()
desks = {desk: "found"}


def recursive(n: int) -> int:
    return n and n + recursive(n - 1)


class Base(abc.ABC):
    """What subclasses and tables see."""

    root = math.sqrt
    fixed = functools.partial(plain, 2)
    loud = str.upper

    def __new__(cls, *args: Any) -> Base:
        return super().__new__(cls)

    def __init__(self, size: int = 1) -> None:
        self.size = size

    def __enter__(self) -> Base:
        return self

    def __exit__(self, *error: object) -> None:
        self.size = 0

    def __call__(self, a: int) -> int:
        return self.size + a

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Base) and self.size == other.size

    def __lt__(self, other: Base) -> bool:
        return self.size < other.size

    def __hash__(self) -> int:
        return hash(self.size)

    def __len__(self) -> int:
        return self.size

    def method(self, a: int = 1) -> int:
        return self.size + a

    @abc.abstractmethod
    def promised(self) -> int:
        return 1

    @knows_its_instance
    def decorated(self, a: int) -> int:
        return self.size + a

    @staticmethod
    def static(a: int) -> int:
        return a

    @classmethod
    def of_class(cls, a: int) -> str:
        return f"{cls.__name__}{a}"

    @functools.lru_cache  # noqa: B019
    def remembered(self, a: int) -> int:
        return self.size + a

    class Nested:
        """A class in a class."""

        def inner(self) -> str:
            return "inner"

    method.role = "main"  # type: ignore[attr-defined]
    times = functools.partialmethod(method, 5)


class Derived(Base):
    """Calls its base in the usual ways."""

    def promised(self) -> int:
        return super().promised() + 1

    def method(self, a: int = 1) -> int:
        return super().method(a) * 10


@dataclasses.dataclass(order=True)
class Point:
    """Its methods are made by a decorator."""

    x: int = 0
    y: int = 0

    def __post_init__(self) -> None:
        self.y = self.y or self.x
