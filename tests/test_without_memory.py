"""A program without memory goes on, or raises `MemoryError`: hooks never end it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from program import PROGRAMS, Program

SYMBOLS = """
- symbol: needy:function
  attributes:
    - {name: result, expr: return}
    - {name: text, expr: str(return)}
    - {name: too_much, expr: "'a' * 10000000"}
    - {name: lacking, expr: x.nothing}
    - {name: sorted, expr: sorted(return)}
    - {name: item, expr: "return[1]['a']"}
    - {name: keywords, expr: kwargs}
- {symbol: 'needy:raising', attributes: [{name: result, expr: return}, {name: text, expr: str(x)}]}
- {symbol: 'needy:coroutine', attributes: [{name: result, expr: return}, {name: text, expr: str(return)}]}
- {symbol: 'needy:generator', attributes: [{name: text, expr: str(x)}]}
- {symbol: 'needy:async_generator', attributes: [{name: text, expr: str(x)}]}
- {symbol: 'needy:context', until: exit, attributes: [{name: text, expr: str(x)}]}
- {symbol: 'needy:handled', handler: '__main__:handler'}
"""

NTH = 120
"""Allocations of an operation that fail, each in a process of its own."""


@pytest.mark.skipif(
    importlib.util.find_spec("_testcapi") is None, reason="this CPython comes without its own test module"
)
def test_an_allocation_that_fails_ends_no_process_and_changes_no_result(program: Program) -> None:
    program.hook(SYMBOLS.replace("__main__:handler", "without_memory_handler:handler"))
    (program.folder / "without_memory_handler.py").write_text(
        "def handler(original, *args):\n    return original(*args)\n"
    )
    path = f"{program.environment['PYTHONPATH']}:{program.folder}"
    out, err = program.run(
        f"import runpy, sys; sys.argv[1:] = ['{NTH}']; "
        f"runpy.run_path('{PROGRAMS / 'without_memory.py'}', run_name='__main__')",
        patience=600,
        PYTHONPATH=path,
        PROF_LOG_LEVEL="NONE",
        RUST_BACKTRACE="0",
    )
    ends = dict(line.split(" ", 1) for line in out.splitlines())
    assert len(ends) == 9, err
    assert ends == dict.fromkeys(ends, "{}"), err[-5000:]


def test_a_program_that_fills_its_memory_is_told_so_by_an_exception(hooked: Program) -> None:
    hooked.hook(
        "- {symbol: 'needy:handled', attributes: [{name: text, expr: str(return)}, {name: it, expr: return}]}"
    )
    out, err = hooked.run(
        """
        import needy, resource
        with open("/proc/self/statm") as sizes:
            now = int(sizes.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + (100 << 20), resource.RLIM_INFINITY))
        held = []
        try:
            while True:
                held.append(needy.handled([len(held)] * 3))
        except MemoryError:
            held.clear()
        print("goes on")
        """,
        patience=600,
    )
    assert out == "goes on\n", err


def test_exceptions_are_made_at_once() -> None:
    """Those of PyO3's `new_err` are made when they are looked at, which panics without memory."""
    sources = (Path(__file__).parents[1] / "src").rglob("*.rs")
    assert [file.name for file in sources if "::new_err(" in file.read_text()] == []
