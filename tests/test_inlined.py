"""Calls that the interpreter specialises are seen like all others, from code that ran before the hooks too.

With `TORTURE` in the environment (`make torture`): loops as long as a compiler waits for.
"""

from __future__ import annotations

import csv
import io
import os
import sys

import pytest

from program import PATIENCE, PROGRAMS, Program

sys.path.insert(0, str(PROGRAMS))
import inlined

JIT = getattr(sys, "_jit", None)  # since CPython 3.14
HAS_JIT = JIT is not None and JIT.is_available()

ROUNDS = 10_000 if "TORTURE" in os.environ else 1_000

PROGRAM = """
import json, pathlib, inlined
symbols = pathlib.Path("symbols.yaml")
for kind, (symbol, body) in inlined.KINDS.items():
    earlier = inlined.loop(body)
    earlier({rounds})
    symbols.write_text(json.dumps([{{"symbol": "inlined:" + symbol, "name": kind}}]))
    assert msprof_rs.start()
    earlier({rounds})
    inlined.loop(body)({rounds})
    msprof_rs.stop()
"""

KEPT = {"bound method", "bound method with a default", "bound method with names", "getter of a function"}
"""Calls of functions that somebody took before an object came to stand for them."""


@pytest.fixture(autouse=True, params=["interpreted", "compiled"] if HAS_JIT else ["interpreted"])
def jit(request: pytest.FixtureRequest, hooked: Program) -> None:
    """The interpreter with its own compiler and without."""
    hooked.environment["PYTHON_JIT"] = "1" if request.param == "compiled" else "0"


def counted(program: Program, code: str) -> dict[str, int]:
    """How many spans of each name a program has, whose collection is off at first."""
    program.configure(enable=0)
    program.hook("[]")
    program.run(code, patience=10 * PATIENCE)
    stats = program.command("stats", str(program.prof_dir), "--csv", "--limit", "1000")
    assert stats.returncode == 0, stats.stderr
    rows = csv.DictReader(io.StringIO(stats.stdout))
    return {row["Name"].rpartition("/")[2]: int(row["Instances"]) for row in rows}


def test_every_call_is_seen_however_the_interpreter_makes_it(hooked: Program) -> None:
    counts = counted(hooked, PROGRAM.format(rounds=ROUNDS))
    is_wrapped = sys.version_info < (3, 12) or "MSPROF_FORCE_WRAPPER" in hooked.environment
    assert counts == dict.fromkeys(inlined.KINDS.keys() - (KEPT if is_wrapped else set()), 2 * ROUNDS)


def test_every_decorated_function_is_seen_however_the_interpreter_calls_it(hooked: Program) -> None:
    counts = counted(
        hooked,
        f"""
        import inlined
        assert msprof_rs.start()
        def start(self): pass
        class A:
            @msprof_rs.timed(name="init")
            def __init__(self): pass
            @property
            @msprof_rs.timed(name="getter")
            def got(self): return 1
            @msprof_rs.timed(name="outer getter")
            @property
            def got_too(self): return 1
            @msprof_rs.timed(name="item")
            def __getitem__(self, key): return 1
        class B:
            __init__ = msprof_rs.timed(name="other init")(start)
        class C:
            p = property(msprof_rs.timed(name="other getter")(lambda self: 2))
        class D(A): pass
        class E:
            @msprof_rs.timed(name="outer")
            @msprof_rs.timed(name="inner")
            def __init__(self): pass
        inlined.a, inlined.c = A(), C()
        vars(inlined).update(A=A, B=B, D=D, E=E)
        for body in "A()", "D()", "B()", "E()", "a.got", "a.got_too", "c.p", "a[1]":
            inlined.loop(body)({ROUNDS})
        """,
    )
    assert counts == dict.fromkeys(
        ["getter", "outer getter", "other getter", "item", "other init", "outer", "inner"], ROUNDS
    ) | {"init": 2 * ROUNDS + 1}
