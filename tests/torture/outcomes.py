"""Runs programs and tells what everybody could see of it, one JSON value a line. A script of its own process:

    python outcomes.py FOLDER [DOUBLE]

FOLDER has `programs.json` and the modules. DOUBLE puts a wrong wrapper on every function that the symbols
name: for the test of the test.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import inspect
import json
import re
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

ADDRESS = re.compile(r"0x[0-9a-f]+")


def text(value: Any) -> str:
    """Its `repr`, without addresses."""
    return ADDRESS.sub("0x", repr(value))


def chain(error: BaseException | None) -> list[Any]:
    """An exception with all that it came from."""
    seen: list[Any] = []
    while error is not None and len(seen) < 10:
        seen.append([type(error).__name__, ADDRESS.sub("0x", str(error)), error.__suppress_context__])
        error = error.__cause__ or error.__context__
    return seen


def outcome(module: Any, call: str) -> Any:
    """What a call gives, and what the functions noted meanwhile."""
    module.LOG.clear()
    try:
        result: list[Any] = ["returned", text(eval(call, vars(module)))]
    except BaseException as error:
        result = ["raised", chain(error)]
    return [call, result, text(module.LOG)]


def look(module: Any, symbol: str) -> Any:
    """How a callable looks to others."""
    found: Any = functools.reduce(getattr, symbol.removesuffix(".setter").split("."), module)
    if isinstance(found, property):
        return [symbol, found.__doc__, [text(part) for part in (found.fget, found.fset, found.fdel)]]
    try:
        signature = str(inspect.signature(found))
    except (TypeError, ValueError) as error:
        signature = ADDRESS.sub("0x", str(error))
    questions: list[Callable[[Any], bool]] = [
        inspect.isfunction,
        inspect.ismethod,
        inspect.iscoroutinefunction,
        inspect.isgeneratorfunction,
        inspect.isasyncgenfunction,
        callable,
    ]
    names = [
        "__name__",
        "__qualname__",
        "__module__",
        "__doc__",
        "__defaults__",
        "__kwdefaults__",
        "__dict__",
    ]
    return [
        symbol,
        signature,
        [question(found) for question in questions],
        [text(getattr(found, name, "missing")) for name in names],
        ADDRESS.sub("", repr(found)),
        found == found,
        hash(found) == hash(found),
    ]


def naive(function: Any) -> Any:
    """A wrapper that looks like itself."""
    return lambda *args, **kwargs: function(*args, **kwargs)


def twice(function: Any) -> Any:
    """A wrapper that calls twice."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        function(*args, **kwargs)
        return function(*args, **kwargs)

    return wrapper


def silent(function: Any) -> Any:
    """A wrapper that swallows exceptions."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception:
            return None

    return wrapper


def main() -> None:
    """Tells everything about every program."""
    warnings.simplefilter("ignore")  # a coroutine that a wrong call left behind
    threading.excepthook = lambda _: None  # told by what the thread left
    asyncio.get_event_loop_policy()
    folder = Path(sys.argv[1])
    sys.path.insert(0, str(folder))
    for number, program in enumerate(json.loads((folder / "programs.json").read_text())):
        module = importlib.import_module(f"program_{number}")
        if len(sys.argv) > 2:
            for symbol in program["symbols"]:
                if "." not in symbol:
                    setattr(module, symbol, globals()[sys.argv[2]](getattr(module, symbol)))
        for symbol in program["symbols"]:
            print(json.dumps([number, "look", look(module, symbol)]))
        for call in program["calls"]:
            print(json.dumps([number, "call", outcome(module, call)]))


if __name__ == "__main__":
    main()
