"""What the program lets go of goes when it would without us."""

from __future__ import annotations

import pytest

from program import Program

TARGETS = """
import asyncio, contextlib, weakref
from concurrent.futures import Future

async def coroutine(first, second, *rest, **named):
    del first, second, rest, named
    await asyncio.sleep(0)

def generator(first, second, *rest, **named):
    del first, second, rest, named
    yield

async def agenerator(first, second, *rest, **named):
    del first, second, rest, named
    yield

@contextlib.contextmanager
def block(first, second, *rest, **named):
    del first, second, rest, named
    yield

def future(first, second, *rest, **named):
    return Future()
"""
SYMBOLS = [
    "symbol: 'targets:coroutine'",
    "symbol: 'targets:generator'",
    "symbol: 'targets:agenerator'",
    "symbol: 'targets:block', until: exit",
    "symbol: 'targets:future', until: done",
]
NAMES = ["coroutine", "generator", "agenerator", "block", "future"]

CALLS = """
from targets import *

class Thing:
    size = 3

def called(target):
    "What it makes, and those of its arguments that are still there."
    things = {name: Thing() for name in ("first", "second", "third", "fourth", "a", "b")}
    there = {name: weakref.ref(thing) for name, thing in things.items()}
    positional = [things.pop(name) for name in ("first", "second", "third", "fourth")]
    return target(*positional, **things), lambda: [name for name, thing in there.items() if thing()]

def advance(awaitable):
    try:
        awaitable.send(None)
    except StopIteration:
        pass

for target, begin, end in (
    (coroutine, advance, advance),
    (generator, next, lambda made: next(made, None)),
    (agenerator, lambda made: advance(made.asend(None)), lambda made: advance(made.aclose())),
    (block, lambda made: made.__enter__(), lambda made: made.__exit__(None, None, None)),
    (future, lambda made: None, lambda made: made.set_result(1)),
):
    made, there = called(target)
    begin(made)
    print(target.__name__, *there())
    end(made)
    print(target.__name__, *there())
"""


@pytest.mark.parametrize(
    ("expression", "kept"),
    [
        (None, ""),
        ("return", ""),
        ("len(args) + len(rest) + len(kwargs)", ""),
        ("first.size", " first"),
        ("second.size or return", " second"),
        ("args[2].size", " third"),
        ("rest[-1].size", " fourth"),
        ("kwargs['a'].size", " a"),
        ("named.get('b', 0).size", " b"),
        ("str(rest)", " third fourth"),
        ("str(args)", " first second third fourth"),
        ("str(kwargs)", " a b"),
    ],
)
def test_an_argument_is_kept_until_the_end_only_if_an_attribute_will_look_at_it_then(
    hooked: Program, expression: str | None, kept: str
) -> None:
    (hooked.folder / "targets.py").write_text(TARGETS)
    attribute = f", attributes: [{{name: value, expr: {expression!r}}}]" if expression else ""
    hooked.hook("\n".join(f"- {{{symbol}{attribute}}}" for symbol in SYMBOLS))
    out, err = hooked.run(CALLS, PYTHONPATH=str(hooked.folder))
    assert out.splitlines() == [line for name in NAMES for line in (name + kept, name)]
    assert "is left out" not in err
    spans = hooked.capture().spans
    assert sorted(span.name for span in spans) == sorted(NAMES)
    if expression not in (None, "return"):
        assert all("value" in span.attributes for span in spans)
