"""Values of kinds that a profiler should look at with care."""

from __future__ import annotations

import dataclasses
import enum
import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NoReturn


def take(value: Any) -> None:
    pass


class Tensor:
    """On a device: whoever looks at the data waits for it, so here it is an error."""

    dtype = "bfloat16"

    def __init__(self, *shape: int) -> None:
        self.shape = shape

    def refuse(self, *args: Any) -> NoReturn:
        raise AssertionError("the data was touched")

    __len__ = __iter__ = __getitem__ = __index__ = __int__ = __float__ = __bool__ = refuse
    __str__ = __repr__ = __format__ = __array__ = item = tolist = numpy = cpu = refuse
    __eq__ = refuse
    __hash__ = None  # type: ignore[assignment]


class Proxy:
    """Has every attribute, as the proxies of tracers do, and notes it."""

    asked = 0

    def __getattr__(self, name: str) -> Proxy:
        Proxy.asked += 1
        return Proxy()

    def __str__(self) -> str:
        return f"asked {Proxy.asked} times"


class Own(list[int]):
    """Says something else than it holds, and counts how often it is asked."""

    asked = 0

    def __len__(self) -> int:
        self.asked += 1
        return 10**18

    def __iter__(self) -> Iterator[int]:
        self.asked += 1
        return itertools.count()


class Shared:
    """Gives the same iterator to everybody."""

    def __init__(self, items: Iterable[int]) -> None:
        self.items = iter(items)

    def __iter__(self) -> Iterator[int]:
        return self.items


class Drained:
    """Gives a new iterator each time, over the same items."""

    def __init__(self, items: Iterable[int]) -> None:
        self.items = list(items)

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[int]:
        while self.items:
            yield self.items.pop(0)


class Sized:
    """Has as many as an integer can say."""

    def __len__(self) -> int:
        return sys.maxsize


class Numbers(Sequence[int]):
    """Is a sequence without an end, by what it gives."""

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, index: Any) -> Any:
        return index


@dataclasses.dataclass
class Request:
    """Its text has all of its tokens."""

    tokens: list[int]


class Plain(enum.Enum):
    """Its values mean nothing to a reader."""

    RUNNING = 17


class Number(enum.IntEnum):
    """Is a number."""

    TWO = 2


class Word(str, enum.Enum):
    """Is a text."""

    HELLO = "hello"


@dataclasses.dataclass
class Point:
    """Is its `repr`."""

    x: int = 1


def nested(depth: int) -> list[Any]:
    return [nested(depth - 1)] if depth else []
