"""Values of kinds that a profiler should look at with care."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterator
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


class Endless(list[int]):
    """Says how many it has, and counts how many of them were looked at."""

    seen = 0

    def __len__(self) -> int:
        return 10**9

    def __iter__(self) -> Iterator[int]:
        for number in range(10**9):
            self.seen += 1
            yield number


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
