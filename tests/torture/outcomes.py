"""Runs programs and tells what everybody could see of it, one JSON value a line. A script of its own process:

    python outcomes.py FOLDER [DOUBLE]

FOLDER has `programs.json` and the modules. DOUBLE is the name of a wrong hook (see `doubles`) that is put on
everything that the symbols name: for the test of the test.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import inspect
import json
import pickle
import re
import sys
import threading
import traceback
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
        # The frame that a hook may add to what it follows stands at the first line of the function.
        way = [
            f"{frame.f_code.co_name}:{line}"
            for frame, line in traceback.walk_tb(error.__traceback__)
            if Path(frame.f_code.co_filename).name.startswith("program_")
            and line != frame.f_code.co_firstlineno
        ]
        seen.append([type(error).__name__, ADDRESS.sub("0x", str(error)), error.__suppress_context__, way])
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
        None if symbol.startswith("partial_") else copied(found),  # see test_copies.py
    ]


def copied(found: Any) -> Any:
    """Whether it comes back from a pickle as itself, or what is said against it."""
    try:
        return pickle.loads(pickle.dumps(found)) is found
    except Exception as error:
        return [type(error).__name__, ADDRESS.sub("0x", str(error))]


def leave_running(calls: list[Callable[[], Any]]) -> None:
    """Has daemon threads repeat the calls, and is over while they do: they die amid them."""

    def repeat(call: Callable[[], Any]) -> None:
        begun.wait()
        while True:
            call()

    begun = threading.Barrier(len(calls) + 1)
    sys.setswitchinterval(1e-5)  # so that each waits for the interpreter's lock now and then, wherever it is
    for call in calls:
        threading.Thread(target=repeat, args=(call,), daemon=True).start()
    begun.wait()
    for call in calls:
        call()


def main() -> None:
    """Tells everything about every program."""
    warnings.simplefilter("ignore")  # a coroutine that a wrong call left behind
    threading.excepthook = lambda _: None  # told by what the thread left
    asyncio.get_event_loop_policy()
    folder = Path(sys.argv[1])
    sys.path[:0] = [str(folder), str(Path(__file__).parent.parent)]
    from torture.doubles import put

    left: list[Callable[[], Any]] = []
    toggles = list(range(8))  # each makes a session, which takes some milliseconds
    for number, program in enumerate(json.loads((folder / "programs.json").read_text())):
        module = importlib.import_module(f"program_{number}")
        vars(module)["TOGGLES"] = toggles
        if len(sys.argv) > 2:
            for symbol in program["symbols"]:
                put(module, symbol, sys.argv[2])
        for symbol in program["symbols"]:
            print(json.dumps([number, "look", look(module, symbol)]))
        for call in program["calls"]:
            print(json.dumps([number, "call", outcome(module, call)]))
        left += [functools.partial(outcome, module, call) for call in program["left"]]
    leave_running(left)


if __name__ == "__main__":
    main()
