"""Calls of the public API with anything at all, one a line on standard input; tells what each gave."""

from __future__ import annotations

import asyncio
import collections
import decimal
import enum
import itertools
import sys
import threading
from typing import Any, NoReturn

import numpy

import msprof_rs
from msprof_rs import Level, Profiler


class TroubleError(Exception):
    """What the objects here raise."""


class Refuses:
    """Whatever it is asked, it raises."""

    def refuse(self, *args: Any) -> NoReturn:
        raise TroubleError("asked")

    __str__ = __repr__ = __bool__ = __len__ = __iter__ = __getitem__ = __getattr__ = refuse
    __int__ = __float__ = __index__ = __eq__ = __hash__ = __call__ = __get__ = refuse


class WrongTypes:
    """Answers with what is none of the kind."""

    def answer(self, *args: Any) -> Any:
        return 3.5

    __str__ = __repr__ = __bool__ = __len__ = __iter__ = __index__ = __hash__ = answer


class Text(str):
    """A text with opinions."""

    def refuse(self, *args: Any) -> NoReturn:
        raise TroubleError("asked")

    __str__ = __repr__ = __len__ = __eq__ = __hash__ = __iter__ = encode = refuse  # type: ignore[assignment]


class Color(enum.Enum):
    """A member with half a character."""

    RED = "\ud800"


def function(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
    return args


loop: list[Any] = []
loop.append(loop)
deep: list[Any] = []
for _ in range(5_000):
    deep = [deep]

VALUES: dict[str, Any] = {
    "none": None,
    "zero": 0,
    "minus": -1,
    "huge": 10**5_000,
    "larger": 2**64,
    "info": Level.INFO,
    "real": 20.0,
    "nan": float("nan"),
    "true": True,
    "decimal": decimal.Decimal("1e999999999"),
    "empty": "",
    "text": "text",
    "null": "a\0b",
    "half": "half \ud800 \udcff",
    "long": "x" * 100_000,
    "own": Text("own"),
    "bytes": b"\xff\xfe",
    "list": [1, "\udc80", None],
    "dict": {"\ud800": b"\xff", 3: "x", Refuses: 1},
    "loop": loop,
    "deep": deep,
    "set": {1, 2},
    "many": collections.deque(range(300_000)),
    "iterator": itertools.count(),
    "type": int,
    "module": sys,
    "refuses": Refuses(),
    "wrong": WrongTypes(),
    "color": Color.RED,
    "array": numpy.zeros((2, 3)),
    "scalar": numpy.float32("inf"),
    "function": function,
    "nameless": lambda: 1,
    "static": staticmethod(function),
    "class_method": classmethod(function),
    "bound": [].append,
    "lock": threading.Lock(),
    "error": TroubleError("given"),
    "event": asyncio.Event,
}


def run(line: str) -> str:
    """The types of what a call gave, or what it raised."""
    spans = {"span": msprof_rs.span("kept"), "profiler": Profiler(20)}
    try:
        result = eval(line, {"msprof_rs": msprof_rs, "Profiler": Profiler} | VALUES | spans)
    except BaseException as error:
        return f"raised {type(error).__name__}"
    if "timed(" in line:  # something of the same kind stands for it
        return "timed"
    return type(result).__name__


if __name__ == "__main__":
    for line in sys.stdin:
        print(run(line.rstrip("\n")))
