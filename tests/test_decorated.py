"""`@msprof_rs.timed` on all that can be called: it does what it did before, and goes when it is dropped."""

from __future__ import annotations

import json

import pytest

from program import Program

COMPARED = """
import json, warnings, callables
warnings.simplefilter("ignore")
def twice(thing):
    return msprof_rs.timed(msprof_rs.timed(thing))
different = {}
for name, make in callables.MAKERS.items():
    bare = callables.outcomes(make())
    for way in (msprof_rs.timed, msprof_rs.timed(name="n", domain="d"), twice):
        timed = callables.outcomes(way(make()))
        for place in bare:
            if bare[place] != timed[place]:
                different[f"{name} {place}"] = [bare[place], timed[place]]
print(json.dumps(different))
"""


@pytest.mark.parametrize("enable", [1, 0], ids=["collecting", "not collecting"])
def test_what_is_timed_does_in_every_place_what_it_did_before(hooked: Program, enable: int) -> None:
    hooked.configure(enable=enable)
    hooked.hook("[]")
    out, _ = hooked.run(COMPARED)
    assert json.loads(out) == {}


def timed_calls(program: Program, code: str) -> list[str]:
    """The names of the spans of a program."""
    program.hook("[]")
    program.run(code)
    return sorted(span.name for span in program.capture().spans)


def test_each_call_is_one_span_wherever_it_comes_from(hooked: Program) -> None:
    names = timed_calls(
        hooked,
        """
        import functools, callables
        t = msprof_rs.timed
        class C:
            method = t(name="method")(lambda self: 1)
            hybrid = t(name="hybrid")(callables.Hybrid())
            partial = t(name="partial")(functools.partial(lambda: 1))
            value = t(name="value")(property(lambda self: 1))
            kept = t(name="kept")(functools.cached_property(lambda self: 1))
            half = t(name="half")(functools.partialmethod(lambda self, x: x, 1))
            static = t(name="static")(staticmethod(lambda: 1))
            of_class = t(name="of class")(classmethod(lambda cls: 1))
            def __new__(cls): return super().__new__(cls)
            __new__ = t(name="new")(__new__)
            @t(name="subclass")
            def __init_subclass__(cls): pass
            @t(name="item")
            def __class_getitem__(cls, key): return key
        class D(C): pass
        c = C()
        c.method(), C.method(c), c.hybrid(), C.hybrid(), c.static(), C.static(), c.of_class(), C.of_class()
        c.value, c.kept, c.kept, c.half(), C[1], super(D, D()).method(), c.hybrid
        """,
    )
    assert names == sorted(
        ["method"] * 3 + ["hybrid"] * 2 + ["static"] * 2 + ["of class"] * 2 + ["new"] * 2
        + ["value", "kept", "half", "item", "subclass"]
    )  # fmt: skip


def test_a_class_stays_as_it_is_and_that_is_said(hooked: Program) -> None:
    hooked.hook("[]")
    _, err = hooked.run(
        """
        class C:
            pass
        assert msprof_rs.timed(C) is C
        """
    )
    assert "it is a class; decorate its `__init__`" in err


def test_a_symbol_sees_what_binds_in_its_own_way_with_its_instance(hooked: Program) -> None:
    (hooked.folder / "bound.py").write_text(
        "from callables import Hybrid\nclass C:\n    x = 5\n    hybrid = Hybrid()\nclass D(C): pass\n"
    )
    hooked.hook("- {symbol: 'bound:C.hybrid', attributes: [{name: x, expr: this.x}]}")
    hooked.run(
        """
        import bound
        c = bound.C()
        assert c.hybrid(1) == ("instance", c, bound.C, 1)
        assert bound.D.hybrid(1) == ("class", None, bound.D, 1)
        assert vars(bound.C)["hybrid"](1) == ("called", (1,))
        """,
        PYTHONPATH=f"{hooked.folder}:{hooked.environment['PYTHONPATH']}",
    )
    spans = hooked.capture().named("hybrid")
    assert [span.attributes.get("x") for span in spans] == [5, None, None]


DROPPED = """
import gc, tracemalloc, weakref
class Box: pass
alive = weakref.WeakSet()
def decorate(n):
    box = Box()
    alive.add(box)
    {definition}
    timed = msprof_rs.timed({made})
    {use}
    return timed
tracemalloc.start()
memory = []
for _ in range(3):
    for n in range({rounds}):
        decorate(n)
    gc.collect()
    assert not alive, len(alive)
    memory.append(tracemalloc.get_traced_memory()[0])
print((memory[2] - memory[1]) / {rounds})
"""

CLOSURES: dict[str, tuple[str, str, str]] = {
    "function": ("def f(): return box", "f", "timed()"),
    "twice": ("def f(): return box", "msprof_rs.timed(f)", "timed()"),
    "coroutine": ("async def f(): return box", "f", "timed().close()"),
    "generator": ("def f(): yield box", "f", "[*timed()]"),
    "partial": ("import functools", "functools.partial(id, box)", "timed()"),
    "circle": ("def f(): return box, f", "f", "box.timed = timed; timed()"),
    "recursive": ("def f(deep=2): return deep and timed(deep - 1)", "f", "timed()"),
    "method": ("def f(self): return box", "f", "type('C', (), {'f': timed})().f()"),
    "hybrid": (
        "import callables; h = callables.Hybrid(); h.box = box",
        "h",
        "type('C', (), {'f': timed})().f()",
    ),
}


@pytest.mark.parametrize("kind", CLOSURES)
def test_what_is_decorated_and_dropped_is_gone(hooked: Program, kind: str) -> None:
    hooked.hook("[]")
    definition, made, use = CLOSURES[kind]
    rounds = 20_000 if kind == "function" else 4_000
    out, _ = hooked.run(DROPPED.format(definition=definition, made=made, use=use, rounds=rounds))
    assert float(out) < 8  # a reference to each would be as many


def test_a_function_that_is_called_while_it_is_collected_or_survives_that_is_still_timed(
    hooked: Program,
) -> None:
    names = timed_calls(
        hooked,
        """
        import gc
        kept = []
        class Last:
            def __del__(self):
                self.function()
                kept.append(self.function)
        def make():
            @msprof_rs.timed(name="seen")
            def function(): pass
            last = Last()
            last.function, function.last = function, last
            return last
        make().function()
        gc.collect()
        kept.pop()()
        gc.collect()
        """,
    )
    assert names == ["seen"] * 3


def test_a_function_that_gives_itself_up_while_it_runs_ends_its_span(hooked: Program) -> None:
    names = timed_calls(
        hooked,
        """
        def make():
            @msprof_rs.timed(name="getter")
            def getter(self):
                del C.value
                for n in range(100):  # what takes the place in memory
                    msprof_rs.timed(name="other")(lambda: None)()
                return 5
            return getter
        class C: pass
        C.value = property(make())
        assert C().value == 5
        """,
    )
    assert names == ["getter"] + ["other"] * 100


def test_many_functions_come_and_go_in_any_order(hooked: Program) -> None:
    hooked.hook("[]")
    out, _ = hooked.run(
        """
        import random
        random.seed(1)
        there = []
        def make(n):
            return msprof_rs.timed(lambda: n)
        for n in range(20_000):
            there.append((n, make(n)))
            if len(there) > 300:
                assert there.pop(random.randrange(len(there)))
            if n % 500 == 0:
                assert all(function() == n for n, function in there)
        print(len(there))
        """
    )
    assert out == "300\n"
