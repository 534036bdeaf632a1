"""What a hook adds to a call, beside what others add, in one run: nanoseconds over the bare call, and ratios.

    python benches/call_cost.py

Each figure is the least of many short loops: what the code costs when nobody disturbs it. Loops of all
variants take turns, so that they meet the same machine.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CALLS = 20_000
ROUNDS = 60

SYMBOLS = """
- {symbol: 'calls:Plain.method', domain: Bench}
- {symbol: 'calls:Attributes.method', domain: Bench, attributes: [
    {name: argument, expr: 'args[1] | str'},
    {name: field, expr: this.field},
    {name: length, expr: return | len}]}
- {symbol: 'calls:Off.method', domain: Elsewhere}
"""

TARGETS = """
class Bare:
    field = 7
    def method(self, x):
        return x
class Plain(Bare):
    def method(self, x):
        return x
class Attributes(Bare):
    def method(self, x):
        return x
class Off(Bare):
    def method(self, x):
        return x
class Closure(Bare):
    pass
class Wrapt(Bare):
    pass
"""


def closure(function: Callable[..., Any]) -> Callable[..., Any]:
    """The decorator that people write first: two clock readings and a list."""
    spans: list[int] = []

    def timed(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter_ns()
        try:
            return function(*args, **kwargs)
        finally:
            spans.append(time.perf_counter_ns() - start)
            if len(spans) > CALLS:
                spans.clear()

    return timed


def loop(method: Callable[[Any], Any], argument: Any) -> float:
    """Nanoseconds per call."""
    calls = range(CALLS)
    start = time.perf_counter_ns()
    for _ in calls:
        method(argument)
    return (time.perf_counter_ns() - start) / CALLS


@contextmanager
def profiled(folder: Path) -> Iterator[Any]:
    """The module of the targets, with hooks on and collection running."""
    (folder / "calls.py").write_text(TARGETS)
    (folder / "symbols.yaml").write_text(SYMBOLS)
    config = {"enable": 1, "prof_dir": str(folder / "captures"), "domain": "Bench"}
    (folder / "config.json").write_text(json.dumps(config))
    os.environ["SERVICE_PROF_CONFIG_PATH"] = str(folder / "config.json")
    os.environ["PROFILING_SYMBOLS_PATH"] = str(folder / "symbols.yaml")
    os.environ["PROF_LOG_LEVEL"] = "ERROR"
    sys.path.insert(0, str(folder))
    import calls  # type: ignore[import-not-found]

    import msprof_rs

    assert msprof_rs.is_recording()
    yield calls
    msprof_rs.shutdown()


def main() -> None:
    """Measures and prints the table."""
    with tempfile.TemporaryDirectory() as temporary, profiled(Path(temporary)) as calls:
        import wrapt

        calls.Closure.method = closure(calls.Bare.method)
        calls.Wrapt.method = wrapt.decorator(lambda f, _, args, kwargs: f(*args, **kwargs))(calls.Bare.method)
        variants = {
            "msprof_rs, enabled": calls.Plain(),
            "msprof_rs, domain not collected": calls.Off(),
            "msprof_rs, three attributes": calls.Attributes(),
            "Python closure, two perf_counter_ns": calls.Closure(),
            "wrapt decorator that does nothing": calls.Wrapt(),
        }
        bare, least = float("inf"), dict.fromkeys(variants, float("inf"))
        for _ in range(ROUNDS):
            bare = min(bare, loop(calls.Bare().method, "text"))
            for name, target in variants.items():
                least[name] = min(least[name], loop(target.method, "text"))
    closure_cost = least["Python closure, two perf_counter_ns"] - bare
    print(f"CPython {sys.version.split()[0]}; a bare method call takes {bare:.0f} ns")
    print(f"{'added to a method call':<40} {'ns':>6}  of the closure")
    for name, cost in least.items():
        print(f"{name:<40} {cost - bare:>6.0f}  {(cost - bare) / closure_cost:>14.2f}")


if __name__ == "__main__":
    main()
