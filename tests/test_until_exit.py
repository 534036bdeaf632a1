"""`until: exit`: a span covers the `with` block, and the context manager is to its user what it was."""

from __future__ import annotations

import re

import pytest

from program import PROGRAMS, Program

PRELUDE = """
import asyncio, contextlib, gc, weakref
import managed
from managed import *

def told(work):
    "The result or the exception of a call, and what the targets did meanwhile, as text."
    EVENTS.clear()
    try:
        outcome = ("returned", work())
    except BaseException as error:
        outcome = ("raised", type(error).__name__, str(error), repr(error.__context__), repr(error.__cause__))
    return repr((outcome, EVENTS))
"""

SOURCE = (PROGRAMS / "managed.py").read_text()

FUNCTIONS = [
    *re.findall(r"^@contextlib\.\w+\n(?:async )?def (\w+)", SOURCE, re.MULTILINE),
    "rows", "response", "failing", "shared", "text",
]  # fmt: skip

CASES = [case for case in re.findall(r"^def (\w+)\(\) -> Any", SOURCE, re.MULTILINE) if case not in FUNCTIONS]

EVERYTHING = "".join(f"- {{symbol: 'managed:{function}', until: exit}}\n" for function in FUNCTIONS)


def test_managers_do_what_they_did(hooked: Program) -> None:
    code = PRELUDE + f"for case in {CASES!r}: print(case, told(getattr(managed, case)))"
    hooked.hook("[]")
    bare, _ = hooked.run(code)
    hooked.hook(EVERYTHING)
    followed, err = hooked.run(code)
    assert followed.splitlines() == bare.splitlines()
    assert "can't be followed" not in err
    spans = hooked.capture().spans
    assert {span.name for span in spans} == set(FUNCTIONS)
    assert [span.name for span in spans if span.duration is None] == []


def error_of(program: Program, symbol: str, code: str) -> str | None:
    """The attribute of the one span of a program that hooks one function."""
    program.hook(f"- {{symbol: 'managed:{symbol}', until: exit}}")
    program.run(PRELUDE + f"told(lambda: {code})")
    (span,) = program.capture().spans
    assert set(span.attributes) <= {"error"}
    return span.attributes.get("error")


@pytest.mark.parametrize(
    ("symbol", "code", "error"),
    [
        ("block", "within(block())", None),
        ("block", "within(block(), OddError())", "OddError"),
        ("block", "within(block(), GeneratorExit())", "GeneratorExit"),
        ("forgiving", "within(forgiving(), OddError())", None),
        ("renaming", "within(renaming(), OddError())", "KeyError"),
        ("ablock", "asyncio.run(awithin(ablock()))", None),
        ("ablock", "asyncio.run(awithin(ablock(), OddError()))", "OddError"),
        ("aforgiving", "asyncio.run(awithin(aforgiving(), OddError()))", None),
        ("rows", "within(rows(), OddError())", "OddError"),
        ("failing", "within(failing(''), OddError())", "OddError"),
        ("failing", "within(failing('enter'))", "KeyError"),
        ("failing", "within(failing('exit'))", "KeyError"),
        ("response", "asyncio.run(awithin(response(), OddError()))", "OddError"),
    ],
)
def test_the_error_is_what_left_the_statement(
    hooked: Program, symbol: str, code: str, error: str | None
) -> None:
    assert error_of(hooked, symbol, code) == error


@pytest.mark.parametrize("make", ["block", "rows"])
def test_the_span_is_the_block_and_sees_the_arguments(hooked: Program, make: str) -> None:
    hooked.hook(
        f"""
        - {{symbol: 'managed:{make}', until: exit, name: outer, attributes: [{{name: n, expr: args | len}}]}}
        - {{symbol: 'managed:within', name: inside}}
        - {{symbol: 'managed:response', name: before}}
        """
    )
    argument = "'a'" if make == "block" else "1"
    hooked.run(
        PRELUDE + f"manager = {make}({argument}); response()\nwith manager: within(contextlib.nullcontext())"
    )
    before, outer, inside = hooked.capture().spans
    assert (before.name, outer.name, inside.name) == ("before", "outer", "inside")
    assert before.end <= outer.start <= inside.start <= inside.end <= outer.end
    assert outer.attributes == {"n": 1}


@pytest.mark.parametrize("make", ["block", "rows"])
def test_two_entries_on_one_function_nest(hooked: Program, make: str) -> None:
    hooked.hook(
        f"""
        - {{symbol: 'managed:{make}', until: exit, name: inner}}
        - {{symbol: 'managed:{make}', until: exit, name: outer}}
        """
    )
    hooked.run(PRELUDE + f"within({make}())")
    outer, inner = hooked.capture().spans
    assert (outer.name, inner.name) == ("outer", "inner")
    assert outer.start <= inner.start <= inner.end <= outer.end


def test_a_manager_that_is_entered_three_times_has_three_spans(hooked: Program) -> None:
    hooked.hook("- {symbol: 'managed:shared', until: exit}")
    hooked.run(PRELUDE + "lock = shared()\nwith lock:\n    with lock: pass\n    with lock: pass\n")
    outer, first, second = hooked.capture().spans
    assert outer.start <= first.start <= first.end <= second.start <= second.end <= outer.end


def test_managers_are_collected(hooked: Program) -> None:
    hooked.hook(EVERYTHING)
    hooked.run(
        PRELUDE
        + """
class Node:
    pass
def cycle(make):
    node = Node()
    node.manager = make(node)
    node.manager.__enter__()
    return weakref.ref(node)
for make in (lambda node: block("a"), rows):
    gone = cycle(make)
    gc.collect()
    assert gone() is None
"""
    )


def test_a_manager_is_the_same_object_as_without_collection(hooked: Program) -> None:
    """Nothing is exchanged while nothing is collected."""
    hooked.hook(EVERYTHING)
    hooked.configure(enable=0)
    out, _ = hooked.run(
        PRELUDE + "print(type(rows()) is Rows, shared() is SHARED, type(block().gen).__name__)"
    )
    assert out == "True True generator\n"
