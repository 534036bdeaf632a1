"""What a hooked function makes is followed to its end, and is to its user what it was before."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import pytest

from capture import Event
from conftest import HOOK_KINDS, IN_PLACE
from program import PROGRAMS, Program

Outcomes = tuple[dict[str, list[str]], dict[str, list[str]]]

ROUNDING = 1.001
"""A duration among the attributes is converted at once, a span's ends later and more exactly."""

PRELUDE = """
import asyncio, collections.abc, contextlib, gc, inspect, json, sys, types, warnings, weakref
import followed
from followed import EVENTS, Methods, OddError

def told(work):
    "The result or the exception of a call, and what the targets did meanwhile, as text."
    EVENTS.clear()
    try:
        outcome = ("returned", work())
    except BaseException as error:
        outcome = ("raised", type(error).__name__, str(error), repr(error.__context__), repr(error.__cause__))
    return repr((outcome, EVENTS))

async def collect(items):
    return [item async for item in items]
"""

EVERYTHING = """
- {symbol: 'followed:coroutine'}
- {symbol: 'followed:careful'}
- {symbol: 'followed:stubborn'}
- {symbol: 'followed:nested'}
- {symbol: 'followed:generator'}
- {symbol: 'followed:passing_on'}
- {symbol: 'followed:endless'}
- {symbol: 'followed:delegating'}
- {symbol: 'followed:ignoring'}
- {symbol: 'followed:unwilling'}
- {symbol: 'followed:block', until: exit}
- {symbol: 'followed:old_style'}
- {symbol: 'followed:agenerator'}
- {symbol: 'followed:Methods.coroutine'}
- {symbol: 'followed:Methods.generator'}
- {symbol: 'followed:Methods.agenerator'}
- {symbol: 'followed:Methods.static'}
"""

CASES = re.findall(r"^def (\w+)\(\)", (PROGRAMS / "following.py").read_text(), re.MULTILINE)


@pytest.fixture(scope="module", params=HOOK_KINDS)
def outcomes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """What every case gives, bare and followed, and what Python complained of meanwhile."""
    force_wrapper = IN_PLACE and request.param == "wrapper"
    program = Program(tmp_path_factory.mktemp("cases"), force_wrapper=force_wrapper)
    code = (
        PRELUDE
        + f"""
import following
for case in {CASES!r}:
    print(case, told(getattr(following, case)), file=sys.stderr)
    gc.collect()
"""
    )
    told = []
    for symbols in ("[]", EVERYTHING):
        program.hook(symbols)
        _, err = program.run(code)
        lines = [line for line in err.splitlines() if not line.startswith("[msprof_rs]")]
        starts = [index for index, line in enumerate(lines) if line.split(" ")[0] in CASES]
        told.append({lines[a].split(" ")[0]: lines[a:b] for a, b in pairwise([*starts, len(lines)])})
    assert len(program.capture().spans) > len(CASES)
    return told[0], told[1]


@pytest.mark.parametrize("case", CASES)
def test_a_followed_one_does_what_a_bare_one_does(outcomes: Outcomes, case: str) -> None:
    bare, followed = outcomes
    assert followed[case] == bare[case]


def looks(kind: str) -> str:
    """An expression for everything that can be told of what a call makes."""
    return f"""
made = {kind}
questions = ("iscoroutine", "isawaitable", "isgenerator", "isasyncgen")
classes = ("Coroutine", "Awaitable", "Generator", "AsyncGenerator")
code = next(getattr(made, name) for name in ("cr_code", "gi_code", "ag_code") if hasattr(made, name))
print(json.dumps([
    [name for name in questions if getattr(inspect, name)(made)],
    [name for name in classes if isinstance(made, getattr(collections.abc, name))],
    type(made).__name__, made.__name__, made.__qualname__, code.co_name, asyncio.iscoroutine(made),
    repr(made).split(" at ")[0], weakref.ref(made)() is made,
]))
getattr(made, "close", lambda: None)()
"""


@pytest.mark.parametrize(
    "kind",
    [
        "followed.coroutine()",
        "followed.generator()",
        "followed.agenerator()",
        "followed.old_style(1)",
        "Methods().coroutine()",
        "Methods().generator(1)",
        "Methods.agenerator(1)",
    ],
)
def test_it_looks_like_a_bare_one(hooked: Program, kind: str) -> None:
    hooked.hook("[]")
    bare, _ = hooked.run(PRELUDE + looks(kind))
    hooked.hook(EVERYTHING)
    assert hooked.run(PRELUDE + looks(kind))[0] == bare


def test_a_coroutine_that_is_never_awaited_warns_once_with_its_name(hooked: Program) -> None:
    hooked.hook(EVERYTHING)
    out, _ = hooked.run(
        PRELUDE
        + """
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    followed.coroutine()
    Methods().coroutine()
    gc.collect()
print([str(warning.message) for warning in caught])
"""
    )
    assert out == (
        "[\"coroutine 'coroutine' was never awaited\", \"coroutine 'Methods.coroutine' was never awaited\"]\n"
    )
    assert hooked.capture().spans == []


def spans(program: Program, symbols: str, code: str) -> list[Event]:
    """The spans of a program, in order of time."""
    program.hook(symbols)
    program.run(PRELUDE + code)
    capture = program.capture()
    assert capture.dropped == 0
    return sorted(capture.spans, key=lambda span: span.start)


def test_a_coroutines_span_has_its_running_time_and_its_suspensions(hooked: Program) -> None:
    (span,) = spans(hooked, "- {symbol: 'followed:coroutine'}", "asyncio.run(followed.coroutine(1, 7))")
    assert span.attributes["suspensions"] == 7
    assert span.duration is not None
    assert 0 < span.attributes["active_ns"] <= span.duration * ROUNDING


def test_a_coroutines_span_begins_with_its_first_step(hooked: Program) -> None:
    code = """
async def main():
    first, second = followed.coroutine("first"), followed.coroutine("second")
    await second
    await first
asyncio.run(main())
"""
    symbols = "- {symbol: 'followed:coroutine', attributes: [{name: which, expr: return}]}"
    second, first = spans(hooked, symbols, code)
    assert (second.attributes["which"], first.attributes["which"]) == ("second", "first")
    assert second.end <= first.start


def test_a_waiting_coroutine_is_not_active(hooked: Program) -> None:
    code = "asyncio.run(followed.careful(0.2))"
    (span,) = spans(hooked, "- {symbol: 'followed:careful'}", code)
    assert span.duration is not None
    assert span.duration > 0.2e9
    assert span.attributes["active_ns"] < span.duration / 2
    assert span.attributes["suspensions"] == 1


@pytest.mark.parametrize(
    ("code", "items", "error"),
    [
        ("list(followed.generator(1, 2, 3))", 3, None),
        ("list(followed.generator())", 0, None),
        ("told(lambda: list(followed.generator(1, OddError())))", 1, "OddError"),
        ("next(followed.generator(1, 2, 3))", 1, None),
        ("g = followed.generator(1, 2, 3); next(g); next(g); g.close()", 2, None),
        ("asyncio.run(collect(followed.agenerator(1, 2, 3)))", 3, None),
        ("told(lambda: asyncio.run(collect(followed.agenerator(1, OddError()))))", 1, "OddError"),
    ],
)
def test_a_generators_span_has_its_items_and_the_time_to_the_first(
    hooked: Program, code: str, items: int, error: str | None
) -> None:
    name = "agenerator" if "agenerator" in code else "generator"
    (span,) = spans(hooked, f"- {{symbol: 'followed:{name}'}}", code)
    assert span.attributes["items"] == items
    assert span.duration is not None
    assert 0 < span.attributes["active_ns"] <= span.duration * ROUNDING
    assert ("first_item_ns" in span.attributes) == (items > 0)
    assert span.attributes.get("first_item_ns", 1) > 0
    assert span.attributes.get("error") == error


def test_a_closed_async_generator_is_no_error(hooked: Program) -> None:
    code = """
async def main():
    g = followed.agenerator(1, 2)
    await anext(g)
    await g.aclose()
asyncio.run(main())
"""
    (span,) = spans(hooked, "- {symbol: 'followed:agenerator'}", code)
    assert span.attributes["items"] == 1
    assert "error" not in span.attributes


def test_the_exception_is_the_same_and_its_traceback_gains_one_frame(hooked: Program) -> None:
    hooked.hook(EVERYTHING)
    out, _ = hooked.run(
        PRELUDE
        + """
def frames(error):
    trace, names = error.__traceback__, []
    while trace:
        names.append(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    return names
error = OddError()
for work in (
    lambda: followed.coroutine(error, 0).send(None),
    lambda: next(followed.generator(error)),
):
    error.__traceback__ = None
    try:
        work()
    except OddError as caught:
        assert caught is error
        print(frames(caught))
"""
    )
    assert out.splitlines() == [
        "['<module>', '<lambda>', 'coroutine', 'coroutine']",
        "['<module>', '<lambda>', 'generator', 'generator']",
    ]


def test_two_entries_nest_and_attributes_see_arguments_and_the_result(hooked: Program) -> None:
    symbols = """
    - {symbol: "followed:coroutine", name: inner, attributes: [{name: steps, expr: steps}]}
    - {symbol: "followed:coroutine", name: outer, attributes: [{name: result, expr: return | len}]}
    """
    outer, inner = spans(hooked, symbols, "asyncio.run(followed.coroutine([1, 2], steps=3))")
    assert (outer.name, inner.name) == ("outer", "inner")
    assert outer.start <= inner.start <= inner.end <= outer.end
    assert outer.attributes["result"] == 2
    assert inner.attributes["steps"] == 3
    assert inner.attributes["suspensions"] == outer.attributes["suspensions"] == 3


def test_a_cycle_through_a_followed_coroutine_is_collected(hooked: Program) -> None:
    hooked.hook(EVERYTHING)
    hooked.run(
        PRELUDE
        + """
class Node:
    pass
def cycle(make):
    node = Node()
    node.made = make(node)
    next(node.made)
    return weakref.ref(node)
for make in (lambda node: followed.generator(node, 1), lambda node: followed.delegating()):
    gone = cycle(make)
    gc.collect()
    assert gone() is None
"""
    )


def test_ten_thousand_coroutines_at_once_are_all_right_and_all_there(hooked: Program) -> None:
    code = """
async def main():
    values = await asyncio.gather(*(followed.coroutine(n, 1 + n % 3) for n in range(10_000)))
    assert values == list(range(10_000))
asyncio.run(main())
"""
    symbols = "- {symbol: 'followed:coroutine', attributes: [{name: n, expr: value}]}"
    found = spans(hooked, symbols, code)
    assert sorted(span.attributes["n"] for span in found) == list(range(10_000))
    assert all(span.attributes["suspensions"] == 1 + span.attributes["n"] % 3 for span in found)


UNTIL: list[tuple[str, str, str, Any]] = [
    ("future", "done", "followed.future(lambda: 3).result()", {}),
    ("future", "done", "told(followed.future(lambda: [][0]).result)", {"error": "IndexError"}),
    ("task", "done", "run(lambda: followed.task(followed.coroutine(1, 3)))", {}),
    ("task", "done", "told(lambda: run(lambda: followed.task(followed.nested(''))))", {"error": "TypeError"}),
    ("returns_coroutine", "done", "run(lambda: followed.returns_coroutine(1))", {"suspensions": 1}),
    ("block", "exit", "with followed.block('a') as name: assert name == 'A'", {}),
    ("block", "exit", "told(lambda: within(followed.block('a'), OddError()))", {"error": "OddError"}),
    ("ablock", "exit", "asyncio.run(awithin(followed.ablock('a')))", {}),
    ("make_manager", "exit", "within(followed.make_manager(), OddError())", {}),
    ("nothing", "exit", "within(followed.nothing(), None); asyncio.run(awithin(followed.nothing()))", {}),
]  # fmt: skip


@pytest.mark.parametrize(("symbol", "until", "code", "attributes"), UNTIL)
def test_a_span_may_last_until_what_was_returned_is_over(
    hooked: Program, symbol: str, until: str, code: str, attributes: dict[str, Any]
) -> None:
    helpers = """
def run(make):
    async def main():
        return await make()
    return asyncio.run(main())
def within(manager, error):
    with manager:
        if error: raise error
async def awithin(manager):
    async with manager:
        await asyncio.sleep(0)
"""
    found = spans(hooked, f"- {{symbol: 'followed:{symbol}', until: {until}}}", helpers + code)
    assert len(found) == code.count(f"followed.{symbol}(")
    for span in found:
        assert span.duration is not None
        assert {key: value for key, value in span.attributes.items() if key != "active_ns"} == attributes


def test_a_future_ends_its_span_when_it_is_done_and_not_before(hooked: Program) -> None:
    code = """
import threading
go = threading.Event()
future = followed.future(go.wait)
followed.returns_number(1)
go.set()
future.result()
"""
    symbols = "- {symbol: 'followed:future', until: done}\n- {symbol: 'followed:returns_number'}"
    future, number = spans(hooked, symbols, code)
    assert (future.name, number.name) == ("future", "returns_number")
    assert future.end > number.end


def test_a_coroutine_that_was_returned_and_never_awaited_ends_its_span_and_warns_as_itself(
    hooked: Program,
) -> None:
    code = """
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    followed.returns_coroutine(1)
    gc.collect()
assert [str(warning.message) for warning in caught] == ["coroutine 'coroutine' was never awaited"], caught
caught.clear()  # has the coroutine
assert repr(followed.returns_coroutine(1)).startswith("<coroutine object coroutine at ")
"""
    found = spans(hooked, "- {symbol: 'followed:returns_coroutine', until: done}", code)
    assert [span.attributes["error"] for span in found] == ["GeneratorExit", "GeneratorExit"]
    assert all(span.duration is not None for span in found)


def test_an_exception_that_nobody_retrieved_is_still_reported(hooked: Program) -> None:
    hooked.hook("- {symbol: 'followed:task', until: done}")
    _, err = hooked.run(
        PRELUDE
        + """
async def main():
    followed.task(followed.coroutine(OddError("lost")))
    await asyncio.sleep(0.01)
asyncio.run(main())
gc.collect()
"""
    )
    assert "Task exception was never retrieved" in err


@pytest.mark.parametrize("until", ["done", "exit"])
def test_what_can_not_be_followed_is_given_back_and_told_once(hooked: Program, until: str) -> None:
    hooked.hook(f"- {{symbol: 'followed:returns_number', until: {until}}}")
    _, err = hooked.run(PRELUDE + "assert [followed.returns_number(n) for n in range(3)] == [0, 1, 2]")
    assert err.count("followed:returns_number: what it returned") == 1


def test_a_followed_context_manager_is_to_its_user_what_it_was(hooked: Program) -> None:
    hooked.hook(
        """
        - {symbol: "followed:make_manager", until: exit}
        - {symbol: "followed:block", until: exit}
        """
    )
    hooked.run(
        PRELUDE
        + """
manager = followed.make_manager()
assert isinstance(manager, followed.Manager) and not hasattr(type(manager), "__aenter__")
with manager as entered:
    assert entered.entered == 1 and manager.entered == 1
manager.entered = 5
assert entered.entered == 5
with contextlib.ExitStack() as stack:
    assert stack.enter_context(followed.make_manager()).entered == 1
@followed.block("decorated")
def decorated():
    return 4
assert [decorated(), decorated()] == [4, 4]
assert EVENTS.count(("exit", "decorated")) == 2
"""
    )


def test_return_times_the_call_alone(hooked: Program) -> None:
    (span,) = spans(hooked, "- {symbol: 'followed:generator', until: return}", "list(followed.generator(1))")
    assert "items" not in span.attributes


NEVER_BEGAN = {
    "left": ("pass", 1),
    # Before 3.12, closing gives up at once what has not begun.
    "closed": ("made.close()", 0),
    "thrown into": ("""
try:
    made.throw(ValueError())
except ValueError as error:
    kept.append(error)
""", 0),
    "a cancelled task": ("""
loop = asyncio.new_event_loop()
task = loop.create_task(made)
task.cancel()
try:
    loop.run_until_complete(task)
except asyncio.CancelledError as error:
    kept += [task, error]
loop.close()
del loop, task
""", 0),
    "older": ("gc.collect(); gc.collect(1); gc.collect()", 1),
}  # fmt: skip


@pytest.mark.parametrize("end", NEVER_BEGAN)
@pytest.mark.parametrize("hooks", [1, 2])
def test_a_coroutine_in_a_cycle_that_never_began_warns_as_the_original_does(
    hooked: Program, hooks: int, end: str
) -> None:
    (hooked.folder / "target.py").write_text("async def f(argument): pass\n")
    hooked.hook("\n".join(f"- {{symbol: 'target:f', name: f{n}}}" for n in range(hooks)))
    what_happens, warnings = NEVER_BEGAN[end]
    code = f"""
import asyncio, gc, target, weakref
class Argument: pass
kept = [Argument()]
there = weakref.ref(kept[0])
made = target.f(kept[0])
kept += [made, kept]
{what_happens}
assert there() is not None
del made, kept
gc.collect()
assert there() is None
"""
    _, err = hooked.run(code, PYTHONPATH=str(hooked.folder), PYTHONWARNINGS="always")
    assert err.count("never awaited") == warnings
