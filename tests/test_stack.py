"""A recursion that fits a stack without hooks fits it with hooks that look at arguments or results."""

from __future__ import annotations

import pytest

from program import Program

DEEP = """
def count(n):
    return 0 if n == 0 else count(n - 1) + 1
"""

HANDLERS = """
def handler(original, n):
    return original(n)

def context(ctx):
    yield
"""

ENTRIES = {
    "attribute": "attributes: [{name: n, expr: n | str}]",
    "sampled attribute": "sample: 2, attributes: [{name: n, expr: n | str}]",
    "caller filter": "caller_filter: count",
    "handler": "handler: '__main__:handler'",
    "context": "handler: '__main__:context'",
}


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_recursion_in_a_thread_with_a_small_stack_goes_to_its_end(entry: str, hooked: Program) -> None:
    (hooked.folder / "deep.py").write_text(DEEP)
    hooked.hook(f"- {{symbol: 'deep:count', {ENTRIES[entry]}}}")
    out, err = hooked.run(
        HANDLERS
        + """
import sys, threading
sys.path.insert(0, ".")
import deep
threading.stack_size(512 * 1024)
thread = threading.Thread(target=lambda: print(deep.count(200)))
thread.start()
thread.join()
"""
    )
    assert out == "200\n", err


def test_calls_for_which_there_is_too_little_stack_are_counted_and_told_once(hooked: Program) -> None:
    (hooked.folder / "deep.py").write_text(DEEP)
    hooked.hook("- {symbol: 'deep:count', attributes: [{name: n, expr: n}]}")
    out, err = hooked.run(
        """
        import sys, threading
        sys.path.insert(0, ".")
        import deep
        print(deep.count(0))
        threading.stack_size(128 * 1024)
        for _ in range(3):
            thread = threading.Thread(target=lambda: print(deep.count(80)))
            thread.start()
            thread.join()
        """
    )
    assert out == "0\n" + "80\n" * 3
    assert err.count("half of a thread's stack is used up") == 1
    capture = hooked.capture()
    recorded = len(capture.named("count"))
    assert 0 < recorded < 1 + 3 * 81
    passed = [value for name, value in capture.counters if "too little stack" in name]
    assert passed[:3] == [1, 2, 4]
    assert passed[-1] <= 1 + 3 * 81 - recorded


SHOWN = """
import sys, threading
sys.path.insert(0, ".")
import shown
value = 1
for _ in range({depth}):
    value = [value]
def work():
    print(shown.same(value) is value)
"""


@pytest.mark.parametrize("depth", [0, 10, 50, 95, 200])
@pytest.mark.parametrize("kib", [32, 64, 128, 256, 512])
def test_a_value_is_shown_only_as_deep_as_the_threads_stack_allows(
    kib: int, depth: int, hooked: Program
) -> None:
    (hooked.folder / "shown.py").write_text("def same(value):\n    return value\n")
    hooked.hook(
        "- {symbol: 'shown:same', attributes: [{name: text, expr: str(return)}, {name: it, expr: return}]}"
    )
    out, err = hooked.run(
        SHOWN.format(depth=depth)
        + f"""
threading.stack_size({kib} * 1024)
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""
    )
    assert out == "True\n", err


@pytest.mark.parametrize("kib", [256, 384])
def test_a_small_stack_of_the_main_thread_is_enough(kib: int, hooked: Program) -> None:
    (hooked.folder / "shown.py").write_text("def same(value):\n    return value\n")
    hooked.hook("- {symbol: 'shown:same', attributes: [{name: text, expr: str(return)}]}")
    program = "import msprof_rs\n" + SHOWN.format(depth=50) + "work()\n"
    (hooked.folder / "main.py").write_text(program)
    out, err = hooked.run(
        f"""
        import os, subprocess, sys
        shell = ["sh", "-c", 'ulimit -s {kib} && exec "$@"', "sh"]
        subprocess.run([*shell, sys.executable, "main.py"], check=True)
        """
    )
    assert out == "True\n", err


IMPORTED_THERE = """
import sys, threading
sys.path.insert(0, ".")
def work():
    import deep
    print(deep.count(1))
threading.stack_size(48 * 1024)
thread = threading.Thread(target=work)
thread.start()
thread.join()
import deep
"""

LATER = {
    "import": "import colorsys\n",
    "start": "msprof_rs.stop()\nmsprof_rs.start()\n",
}


@pytest.mark.parametrize("later", LATER)
def test_hooks_of_a_module_that_a_small_thread_imports_come_later(later: str, hooked: Program) -> None:
    """A debug build once died of it."""
    (hooked.folder / "deep.py").write_text(DEEP)
    hooked.hook("- {symbol: 'deep:count', attributes: [{name: n, expr: n}]}")
    out, err = hooked.run(IMPORTED_THERE + LATER[later] + "print(deep.count(2))\n")
    assert out == "1\n2\n", err
    assert err.count("deep is not hooked yet") == 1, err
    assert sorted(span.attributes["n"] for span in hooked.capture().named("count")) == [0, 1, 2]


@pytest.mark.parametrize("kib", [32, 40, 64, 128, 256])
def test_a_module_with_hooks_is_imported_on_any_stack(kib: int, hooked: Program) -> None:
    (hooked.folder / "deep.py").write_text(DEEP)
    hooked.hook("- {symbol: 'deep:count', attributes: [{name: n, expr: n}]}")
    out, err = hooked.run(IMPORTED_THERE.replace("48 *", f"{kib} *"))
    assert out == "1\n", err
