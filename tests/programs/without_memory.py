"""Makes one allocation of Python's fail in each of many forks, wherever it comes in an operation.

A line for each operation: how the forks ended that neither gave the result nor raised what CPython
raises without memory.
"""

from __future__ import annotations

import _testcapi  # type: ignore[import-not-found]
import enum
import os
import re
import sys
from collections.abc import Callable
from typing import Any

import needy

import msprof_rs


class Colour(enum.Enum):
    RED = 1


class Shown:
    def __str__(self) -> str:
        return "shown" * 10


ARGUMENT: tuple[object, ...] = (1, Colour.RED, Shown(), b"x" * 300, {1: 2})


def run(coroutine: Any) -> Any:
    """Without an event loop, which allocates on its own account."""
    try:
        while True:
            coroutine.send(None)
    except StopIteration as stop:
        return stop.value


def function() -> object:
    return needy.function(ARGUMENT, y=2)


def raising() -> object:
    try:
        needy.raising(ARGUMENT)
    except ValueError as error:
        return error.args
    return None


def coroutine() -> object:
    return run(needy.coroutine(ARGUMENT))


def generator() -> object:
    return list(needy.generator(ARGUMENT))


def async_generator() -> object:
    items, iterator = [], needy.async_generator(ARGUMENT)
    while True:
        try:
            items.append(run(iterator.__anext__()))
        except StopAsyncIteration:
            return items


def context() -> object:
    with needy.context(ARGUMENT) as value:
        return value


def handled() -> object:
    return needy.handled(ARGUMENT)


def span() -> object:
    with msprof_rs.span("name", rid="r", items=[1], shown=Shown()) as it:
        it["more"] = Shown()
    return 1


def event() -> object:
    msprof_rs.event("name", items=[1], shown=Shown())
    return 1


OPERATIONS = (function, raising, coroutine, generator, async_generator, context, handled, span, event)


def attempt(operation: Callable[[], object], expected: object, nth: int) -> int:
    _testcapi.set_nomemory(nth, nth + 1)
    try:
        result = operation()
    except MemoryError:
        result = expected
    except SystemError as error:
        # What CPython itself raises where it has no memory for an exception.
        result = expected if re.search("without (setting an )?exception", str(error)) else error
    finally:
        _testcapi.remove_mem_hooks()
    again = operation()
    if result == expected and again == expected:
        return 0
    told = f"{operation.__name__}, allocation {nth}: {result!r}, and then {again!r}"
    print(told, file=sys.stderr, flush=True)
    return 1


def main(most: int) -> None:
    for operation in OPERATIONS:
        expected = operation()
        ends = {}
        for nth in range(most):
            child = os.fork()
            if child == 0:
                code = 2
                try:
                    code = attempt(operation, expected, nth)
                finally:
                    os._exit(code)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            if code != 0:
                ends[nth] = code
        print(operation.__name__, ends, flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
