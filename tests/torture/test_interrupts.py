"""Random programs in which attributes are interrupted do what they would do if the calls themselves were.

The same programs run twice: hooked, with an attribute that asks an argument for its text; and bare, with a
decorator in Python on each function that asks the same question at the same place.
"""

from __future__ import annotations

import difflib
import itertools
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from conftest import HOOK_KINDS, IN_PLACE
from program import Program as Profiled

BATCHES = int(os.environ.get("TORTURE", "12"))
folders = itertools.count()

HEADER = """
import asyncio, functools, inspect, json, random

LOG = []

class Interrupt(BaseException):
    pass

class Trouble(Exception):
    pass

class Asked:
    '''Every few questions an interrupt arrives.'''
    def __init__(self):
        self.chance = random.Random(SEED)
        self.asked = 0
    def __str__(self):
        self.asked += 1
        if self.chance.random() < 0.2:
            kind = self.chance.choice([Interrupt, KeyboardInterrupt, SystemExit])
            raise kind(self.asked)
        return "asked"

def asked(function):
    '''What a hook does, with its question.'''
    if inspect.iscoroutinefunction(function):
        async def double(it):
            try:
                result = await function(it)
            except BaseException:
                str(it)
                raise
            str(it)
            return result
    elif inspect.isgeneratorfunction(function):
        def double(it):
            try:
                result = yield from function(it)
            except BaseException:
                str(it)
                raise
            str(it)
            return result
    else:
        def double(it):
            try:
                result = function(it)
            except BaseException:
                str(it)
                raise
            str(it)
            return result
    return double if BARE else function

def chain(error):
    seen = []
    while error is not None:
        seen.append([type(error).__name__, str(error)])
        error = error.__cause__ or error.__context__
    return seen

def outcome(call):
    LOG.clear()
    try:
        result = repr(call())
    except BaseException as error:
        result = chain(error)
    print(json.dumps([result, LOG]))
"""

KINDS = {"def": "def", "async": "async def", "gen": "def"}
CALLS = {"def": "{}(it)", "async": "asyncio.run({}(it))", "gen": "list({}(it))"}
WITHIN = {
    "def": {"def": "{}(it)", "gen": "list({}(it))"},
    "gen": {"def": "{}(it)", "gen": "yield from {}(it)"},
    "async": {"def": "{}(it)", "gen": "list({}(it))", "async": "await {}(it)"},
}
TAILS = [
    ["    except Trouble:", "        LOG.append('caught')"],
    ["    except BaseException as error:", "        LOG.append(type(error).__name__)", "        raise"],
    ["    finally:", "        LOG.append('left')"],
]


@st.composite
def modules(draw: st.DrawFn) -> tuple[str, list[str]]:
    """A module, and its functions."""
    lines: list[str] = []
    functions: dict[str, str] = {}
    for number in range(draw(st.integers(2, 6))):
        name, kind = f"f{number}", draw(st.sampled_from(list(KINDS)))
        lines += ["@asked", f"{KINDS[kind]} {name}(it):", f"    LOG.append({name!r})"]
        if kind == "gen":
            lines.append("    yield 1")
        for _ in range(draw(st.integers(0, 3))):
            callees = [(callee, way) for callee, of in functions.items() if (way := WITHIN[kind].get(of))]
            if not callees:
                break
            callee, way = draw(st.sampled_from(callees))
            call = way.format(callee)
            lines += ["    try:", f"        {call}", *draw(st.sampled_from(TAILS))]
        if draw(st.integers(0, 3)) == 0:
            lines.append(f"    raise Trouble({name!r})")
        lines.append(f"    return {name!r}")
        functions[name] = kind
    for name, kind in functions.items():
        lines += [f"def call_{name}(it):", f"    return {CALLS[kind].format(name)}"]
    return "\n".join(lines) + "\n", list(functions)


@pytest.mark.parametrize("kind", HOOK_KINDS)
def test_an_interrupted_attribute_is_as_an_interrupted_call(kind: str, tmp_path: Path) -> None:
    @settings(
        max_examples=BATCHES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(modules(), min_size=5, max_size=15), st.integers(0, 2**32))
    def compare(batch: list[tuple[str, list[str]]], seed: int) -> None:
        profiled = Profiled(tmp_path / str(next(folders)), force_wrapper=IN_PLACE and kind == "wrapper")
        entries: list[str] = []
        calls: list[str] = []
        for number, (source, functions) in enumerate(batch):
            for name in functions:
                attribute = "attributes: [{name: told, expr: it | str}]"
                entries.append(f"- {{symbol: 'program_{number}:{name}', {attribute}}}")
                calls += [f"outcome(lambda: program_{number}.call_{name}(it))"] * 3
            (profiled.folder / f"program_{number}.py").write_text("from header import *\n" + source)
        profiled.hook("\n".join(entries))
        imports = ", ".join(f"program_{number}" for number in range(len(batch)))
        code = "\n".join([f"import sys; sys.path.insert(0, '.'); import {imports}", *calls])
        outs: list[list[str]] = []
        for is_bare in (True, False):
            head = f"SEED, BARE = {seed}, {is_bare}\n"
            (profiled.folder / "header.py").write_text(head + HEADER)
            start = "from header import *\nit = Asked()\n"
            config = "" if is_bare else str(profiled.config)
            out, _ = profiled.run(start + code, SERVICE_PROF_CONFIG_PATH=config)
            outs.append(out.splitlines())
        account = "\n".join(difflib.unified_diff(outs[0], outs[1], "bare", "hooked", lineterm="", n=0))
        assert account == "", account + "\n".join(source for source, _ in batch)
        assert any("Interrupt" in line for line in outs[0])

    compare()
