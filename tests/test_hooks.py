"""A hooked function does what it did before, once per call, and each call is one span."""

from __future__ import annotations

import json
from typing import Any

import pytest

from program import Program

PRELUDE = "import asyncio, inspect, json, pickle, shapes\nfrom shapes import Shape, Square\n"


def evaluated(program: Program, expression: str, symbol: str) -> Any:
    """The value of an expression in a program with one hook."""
    program.hook(f"- {{symbol: '{symbol}', domain: Test}}")
    out, _ = program.run(PRELUDE + f"print(json.dumps({expression}))")
    return json.loads(out)


@pytest.mark.parametrize(
    ("symbol", "expression", "value", "calls"),
    [
        ("shapes:add", "shapes.add(1)", 2, 1),
        ("shapes:add", "shapes.add(b=3, a=1)", 4, 1),
        ("shapes:add", "[shapes.add(i) for i in range(3)]", [1, 2, 3], 3),
        ("shapes:add", "list(map(shapes.add, [1, 2], [3, 4]))", [4, 6], 2),
        ("shapes:sleep_and_add", "asyncio.run(shapes.sleep_and_add(1, 2))", 3, 1),
        ("shapes:Shape.area", "Shape(3).area()", 9, 1),
        ("shapes:Shape.area", "Square(3).area()", 9, 1),
        ("shapes:Square.area", "Square(3).area()", 9, 1),
        ("shapes:Shape.area", "[m() for m in [Shape(3).area] * 2]", [9, 9], 2),
        ("shapes:Shape.slow_area", "asyncio.run(Shape(3).slow_area())", 9, 1),
        ("shapes:Shape.corners", "[Shape.corners('square'), Shape().corners('square')]", [4, 4], 2),
        ("shapes:Shape.unit", "[Shape.unit().side, Square.unit().area()]", [1, 1], 2),
        ("shapes:Shape.describe", "Shape().describe(1, *[2], x=3, **{'y': 4})",
         {"args": [1, 2], "kwargs": {"x": 3, "y": 4}}, 1),
        ("shapes:Shape.__init__", "Shape(3).side", 3, 1),
    ],
)  # fmt: skip
def test_a_call_gives_its_result_and_one_span(
    hooked: Program, symbol: str, expression: str, value: Any, calls: int
) -> None:
    assert evaluated(hooked, expression, symbol) == value
    spans = hooked.capture().spans
    assert [(span.domain, span.name) for span in spans] == [
        ("Test", symbol.rpartition(":")[2].split(".")[-1])
    ] * calls
    assert all(span.duration is not None and span.duration > 0 for span in spans)
    assert hooked.capture().dropped == 0


@pytest.mark.parametrize(
    ("symbol", "expression", "value"),
    [
        ("shapes:add", "shapes.add.__name__", "add"),
        ("shapes:add", "shapes.add.__module__", "shapes"),
        ("shapes:add", "str(inspect.signature(shapes.add))", "(a: 'int', b: 'int' = 1) -> 'int'"),
        ("shapes:add", "pickle.loads(pickle.dumps(shapes.add)) is shapes.add", True),
        ("shapes:add", "shapes.add == shapes.add and hash(shapes.add) == hash(shapes.add)", True),
        ("shapes:sleep_and_add", "inspect.iscoroutinefunction(shapes.sleep_and_add)", True),
        ("shapes:sleep_and_add", "asyncio.iscoroutinefunction(shapes.sleep_and_add)", True),
        ("shapes:Shape.area", "str(inspect.signature(Shape.area))", "(self) -> 'int'"),
        ("shapes:Shape.area", "Shape.area.__qualname__", "Shape.area"),
        ("shapes:Shape.area", "inspect.ismethod(Shape().area)", True),
        ("shapes:Shape.corners", "isinstance(inspect.getattr_static(Shape, 'corners'), staticmethod)", True),
        ("shapes:Shape.unit", "isinstance(inspect.getattr_static(Shape, 'unit'), classmethod)", True),
    ],
)  # fmt: skip
def test_a_hooked_function_looks_as_before(hooked: Program, symbol: str, expression: str, value: Any) -> None:
    assert evaluated(hooked, expression, symbol) == value


@pytest.mark.parametrize("imported", ["before", "after"])
def test_modules_imported_before_and_after_the_profiler_are_hooked(hooked: Program, imported: str) -> None:
    hooked.hook("- {symbol: 'shapes:add', domain: Test}")
    lines = ["import msprof_rs", "import shapes"]
    hooked.run(
        f"""
        import os, subprocess, sys
        code = {"; ".join(reversed(lines) if imported == "before" else lines)!r} + "; shapes.add(1)"
        subprocess.run([sys.executable, "-c", code], check=True)
        """
    )
    assert len(hooked.capture().named("add")) == 1


def test_a_copy_made_by_from_import_is_recorded_too(hooked: Program) -> None:
    hooked.hook("- {symbol: 'shapes:add', domain: Test}")
    hooked.run(
        """
        import subprocess, sys
        code = "from shapes import add; import msprof_rs; add(1)"
        subprocess.run([sys.executable, "-c", code], check=True)
        """
    )
    assert len(hooked.capture().named("add")) == 1


@pytest.mark.parametrize(
    ("symbol", "call"),
    [
        ("shapes:fail", "shapes.fail()"),
        ("shapes:sleep_and_fail", "asyncio.run(shapes.sleep_and_fail())"),
    ],
)
def test_an_exception_passes_as_the_same_object_and_ends_the_span(
    hooked: Program, symbol: str, call: str
) -> None:
    hooked.hook(f"- {{symbol: '{symbol}', domain: Test}}")
    hooked.run(
        PRELUDE
        + f"""
try:
    {call}
except shapes.UnhappyError as error:
    assert error is shapes.UNHAPPY
    assert error.__context__ is None and error.__cause__ is None
    frames, trace = [], error.__traceback__
    while trace:
        frames.append(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    assert frames[0] == "<module>" and frames[-1] == {symbol.rpartition(":")[2]!r}, frames
else:
    raise SystemExit("no exception")
"""
    )
    (span,) = hooked.capture().spans
    assert span.duration is not None
    assert "UnhappyError" in span.attributes["error"]


@pytest.mark.parametrize("error", ["KeyboardInterrupt()", "SystemExit(0)", "GeneratorExit()"])
def test_exceptions_that_are_no_errors_pass_too(hooked: Program, error: str) -> None:
    hooked.hook("- {symbol: 'shapes:fail', domain: Test}")
    name = error.partition("(")[0]
    hooked.run(f"import shapes\ntry:\n    shapes.fail({error})\nexcept {name}:\n    print('passed')\n")
    (span,) = hooked.capture().spans
    assert name in span.attributes["error"]


def test_the_span_of_a_coroutine_lasts_until_it_ends_and_coroutines_may_overlap(hooked: Program) -> None:
    hooked.hook("- {symbol: 'shapes:sleep_and_add', domain: Test, attributes: [{name: a, expr: a}]}")
    hooked.run(
        """
        import asyncio, shapes
        async def main():
            return await asyncio.gather(*(shapes.sleep_and_add(i, 0, 0.02 * (3 - i)) for i in range(3)))
        assert asyncio.run(main()) == [0, 1, 2]
        """
    )
    spans = sorted(hooked.capture().spans, key=lambda span: span.attributes["a"])
    assert [span.attributes["a"] for span in spans] == [0, 1, 2]
    assert all(span.duration is not None and span.duration >= 20e6 * (3 - i) for i, span in enumerate(spans))
    assert max(span.start for span in spans) < min(span.end for span in spans)
    assert len({span.track for span in spans}) == 3


def test_a_coroutine_that_is_cancelled_or_never_awaited_harms_nothing(hooked: Program) -> None:
    hooked.hook("- {symbol: 'shapes:sleep_and_add', domain: Test}")
    hooked.run(
        """
        import asyncio, shapes
        async def main():
            shapes.sleep_and_add(1, 1).close()
            task = asyncio.create_task(shapes.sleep_and_add(1, 1, 3600))
            await asyncio.sleep(0)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                return
            raise SystemExit("not cancelled")
        asyncio.run(main())
        """
    )
    cancelled = [
        span for span in hooked.capture().spans if "CancelledError" in span.attributes.get("error", "")
    ]
    assert len(cancelled) == 1


def test_calls_of_several_threads_are_kept_apart_and_complete(hooked: Program) -> None:
    hooked.hook(
        "- {symbol: 'shapes:add', domain: Test, attributes: [{name: worker, expr: a}, {name: n, expr: b}]}"
    )
    hooked.run("import processes; processes.call_add_in_threads(4, 500)")
    capture = hooked.capture()
    by_thread: dict[int, list[tuple[int, int]]] = {}
    for span in capture.named("add"):
        by_thread.setdefault(span.tid, []).append((span.attributes["worker"], span.attributes["n"]))
    assert sorted(by_thread.values()) == [[(worker, n) for n in range(500)] for worker in range(4)]
    assert capture.dropped == 0
    assert sorted(capture.thread_names[tid] for tid in by_thread) == [f"worker-{n}" for n in range(4)]


def test_two_entries_on_one_symbol_nest_in_the_order_of_the_file(hooked: Program) -> None:
    hooked.hook(
        """
        - {symbol: "shapes:add", name: inner}
        - {symbol: "shapes:add", name: outer}
        """
    )
    hooked.run("import shapes; assert shapes.add(1) == 2")
    outer, inner = hooked.capture().spans
    assert (outer.name, inner.name) == ("outer", "inner")
    assert outer.start <= inner.start <= inner.end <= outer.end


def test_a_pattern_hooks_the_classes_that_it_names(hooked: Program) -> None:
    package = hooked.folder / "models"
    package.mkdir()
    (package / "__init__.py").touch()
    for module in ("one", "two"):
        (package / f"{module}.py").write_text(
            "class BigModel:\n    def embed(self): return 1\nclass Other:\n    def embed(self): return 2\n"
        )
    hooked.hook("- {symbol: 'models.*:*Model.embed', domain: Test}")
    hooked.run(
        """
        import models.one, models.two
        for module in (models.one, models.two):
            assert (module.BigModel().embed(), module.Other().embed()) == (1, 2)
        """,
        PYTHONPATH=f"{hooked.folder}:{hooked.environment['PYTHONPATH']}",
    )
    assert [span.name for span in hooked.capture().spans] == ["embed", "embed"]


def test_a_caller_filter_records_only_calls_from_that_function(hooked: Program) -> None:
    hooked.hook("- {symbol: 'shapes:Shape.area', domain: Test, caller_filter: slow_area}")
    hooked.run(PRELUDE + "Shape().area(); asyncio.run(Shape().slow_area())")
    assert len(hooked.capture().spans) == 1


def test_a_sample_is_taken_of_the_calls_that_the_caller_filter_lets_through(hooked: Program) -> None:
    hooked.hook("- {symbol: 'shapes:Shape.area', domain: Test, caller_filter: slow_area, sample: 1/2}")
    hooked.run(
        PRELUDE
        + """
shape = Shape()
for _ in range(10):
    shape.area()
    asyncio.run(shape.slow_area())
"""
    )
    assert len(hooked.capture().spans) == 5
