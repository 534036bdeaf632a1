"""What users' own code records with: `span`, `timed`, `event`, `counter`, `Profiler`, `start`, `stop`."""

from __future__ import annotations

import pytest

from program import Program

NO_SYMBOLS = "[]"


def run(program: Program, code: str, **settings: object) -> str:
    program.hook(NO_SYMBOLS)
    program.configure(**settings)
    return program.run(code)[0]


def test_a_span_has_its_attributes_and_those_that_are_added(program: Program) -> None:
    run(
        program,
        """
        with msprof_rs.span("outer", domain="Shop", rid="r1", size=3):
            with msprof_rs.span("inner") as span:
                span["price"] = 1.5
                span["tags"] = ["a", "b"]
        """,
    )
    outer, inner = program.capture().spans
    assert (outer.domain, outer.name, outer.attributes) == ("Shop", "outer", {"rid": "r1", "size": 3})
    assert (inner.domain, inner.attributes) == ("Default", {"price": 1.5, "tags": ["a", "b"]})
    assert outer.start <= inner.start < inner.end <= outer.end


def test_an_exception_is_told_and_goes_on(program: Program) -> None:
    out = run(
        program,
        """
        try:
            with msprof_rs.span("fails"):
                raise KeyError("x")
        except KeyError:
            print("seen")
        """,
    )
    assert out == "seen\n"
    assert program.capture().spans[0].attributes == {"error": "KeyError"}


def test_spans_of_tasks_overlap_without_harm(program: Program) -> None:
    run(
        program,
        """
        import asyncio
        async def task(name, turns):
            with msprof_rs.span(name):
                for _ in range(turns):
                    await asyncio.sleep(0)
        async def main():
            await asyncio.gather(task("long", 9), task("short", 3))
        asyncio.run(main())
        with msprof_rs.span("after"):
            pass
        """,
    )
    spans = {span.name: span for span in program.capture().spans}
    assert spans["long"].start < spans["short"].start < spans["short"].end < spans["long"].end
    assert spans["long"].track != spans["short"].track != spans["after"].track
    assert spans["after"].start > spans["long"].end


def test_a_decorated_function_is_timed_whatever_it_is(program: Program) -> None:
    out = run(
        program,
        """
        import asyncio, inspect
        @msprof_rs.timed
        def plain(x): return x
        class C:
            @msprof_rs.timed(name="of C", domain="Shop")
            def method(self, x): return x
            @msprof_rs.timed
            @staticmethod
            def static(x): return x
            @classmethod
            @msprof_rs.timed
            def of_class(cls, x): return x
        @msprof_rs.timed
        async def slow(x):
            await asyncio.sleep(0.01)
            return x
        @msprof_rs.timed
        def items():
            yield from (1, 2, 3)
        print(plain(1), C().method(2), C.static(3), C.of_class(4), asyncio.run(slow(5)), list(items()))
        print(plain.__name__, inspect.iscoroutinefunction(slow))
        """,
    )
    assert out == "1 2 3 4 5 [1, 2, 3]\nplain True\n"
    spans = {span.name: span for span in program.capture().spans}
    assert set(spans) == {"plain", "of C", "C.static", "C.of_class", "slow", "items"}
    assert spans["of C"].domain == "Shop"
    assert (spans["slow"].duration or 0) > 9_000_000
    assert spans["items"].attributes["items"] == 3


def test_events_and_counters(program: Program) -> None:
    run(
        program,
        """
        msprof_rs.event("arrived", domain="Shop", rid=["a", "b"], how="late")
        msprof_rs.event("alone", rid=None)
        msprof_rs.counter("queue", 3)
        msprof_rs.counter("queue", 2.5, domain="Shop")
        """,
    )
    arrived, alone = program.capture().instants
    assert (arrived.name, arrived.attributes) == ("arrived", {"rid": ["a", "b"], "how": "late"})
    assert alone.attributes == {}
    assert len(arrived.flow_ids) == 2


def test_any_value_is_told_somehow(program: Program) -> None:
    run(
        program,
        """
        import dataclasses, enum
        class Color(enum.Enum):
            RED = 1
        @dataclasses.dataclass
        class Point:
            x: int = 1
        class Tensor:
            shape, dtype = (2, 3), "float32"
        class Broken:
            def __str__(self): raise ValueError("no")
        msprof_rs.event("e", color=Color.RED, point=Point(), broken=Broken(), big=1 << 70, text="t")
        """,
    )
    (event,) = program.capture().instants
    assert event.attributes["color"] == "RED"
    assert event.attributes["point"] == "Point(x=1)"
    assert event.attributes["text"] == "t"
    assert "broken" not in event.attributes


@pytest.mark.parametrize(("level", "seen"), [("ERROR", {"core"}), ("DETAILED", {"core", "normal", "fine"})])
def test_levels_and_domains_are_those_of_the_config(program: Program, level: str, seen: set[str]) -> None:
    code = """
        from msprof_rs import Level
        for name, level in ("core", Level.ERROR), ("normal", Level.INFO), ("fine", Level.DETAILED):
            with msprof_rs.span(name, domain="Shop", level=level): pass
            msprof_rs.Profiler(level).domain("Shop").event(f"event {name}")
        msprof_rs.event("elsewhere", domain="Other", level=Level.ERROR)
        """
    run(program, code, profiler_level=level, domain="Shop")
    capture = program.capture()
    assert {span.name for span in capture.spans} == seen
    assert {event.name for event in capture.instants} == {f"event {name}" for name in seen}


def test_the_profiler_of_old_does_what_it_did(program: Program) -> None:
    out = run(
        program,
        """
        from msprof_rs import Level, Profiler
        with Profiler(Level.INFO).domain("Shop").res("r1").attr("a", 1).span_start("sold") as sale:
            sale.metric("price", 3).metric_inc("sales", 1).metric_scope("till", 2).metric_scope("n")
        sale.span_end()
        Profiler(Level.L1).domain("Shop").metric_scope_as_req_id().event("asked")
        Profiler(20).launch()
        Profiler(20).domain("Shop").attr("lost", 1).link("x", "y")
        Profiler(20).add_meta_info("owner", 7)
        print(Profiler(Level.INFO).enable, Profiler(Level.VERBOSE).enable)
        """,
    )
    assert out == "True False\n"
    capture = program.capture()
    (sale,) = capture.spans
    expected = {"rid": "r1", "a": 1, "price=": 3, "sales+": 1, "scope#till": 2, "scope#n": 0}
    assert (sale.domain, sale.name, sale.attributes) == ("Shop", "sold", expected)
    events = {event.name: event for event in capture.instants}
    assert events["asked"].attributes == {"scope#": "req"}
    assert events["Link"].attributes == {"from": "x", "to": "y"}
    assert events["Launch"].domain == ""
    assert any(meta.attributes.get("owner") == "7" for meta in capture.meta)


def test_collection_can_be_switched_from_within(program: Program) -> None:
    out = run(
        program,
        """
        print(msprof_rs.is_enabled(), msprof_rs.start(), msprof_rs.is_enabled())
        msprof_rs.event("seen")
        print(msprof_rs.stop(), msprof_rs.is_enabled())
        msprof_rs.event("not seen")
        """,
        enable=0,
    )
    assert out == "False True True\nTrue False\n"
    assert [event.name for event in program.capture().instants] == ["seen"]


def test_without_the_profiler_nothing_has_an_effect(program: Program) -> None:
    out, _ = program.run(
        """
        import sys
        print("msprof_rs._core" in sys.modules)
        with msprof_rs.span("x", rid="r") as span:
            span["a"] = 1
        msprof_rs.event("e")
        msprof_rs.Profiler(msprof_rs.Level.INFO).domain("d").span_start("s").span_end()
        @msprof_rs.timed
        def f(): return 1
        print(f(), msprof_rs.is_enabled())
        try:
            msprof_rs.start()
        except RuntimeError as error:
            print(error)
        """,
        SERVICE_PROF_CONFIG_PATH="",
    )
    assert out.splitlines()[:2] == ["False", "1 False"]
    assert "SERVICE_PROF_CONFIG_PATH" in out


WRONG = [
    ("span()", "the name is missing"),
    ("span(1)", "the name is no text"),
    ("span('')", "the name is empty"),
    ("event('')", "the name is empty"),
    ("counter('', 1)", "the name is empty"),
    ("timed(name='')(print)", "the name is empty"),
    ("Profiler(20).span_start('')", "the name is empty"),
    ("span('a', level='high')", ""),
    ("event('a', 'b')", "arguments that it does not take"),
    ("counter('c')", "the value is missing"),
    ("counter('c', 'x')", ""),
    ("counter('c', 10**400)", ""),
    ("counter('c', 1, unit='s')", "arguments that it does not take"),
    ("timed(3)", "only what can be called can be timed"),
    ("Profiler()", "the level is missing"),
    ("Profiler(-1)", ""),
    ("Profiler(20).event()", "the name is missing"),
    ("Profiler(20).attr(b'key', 1)", "the name is no text"),
]


@pytest.mark.parametrize(("call", "problem"), WRONG)
def test_a_call_that_makes_no_sense_has_no_effect_and_is_told_once(
    program: Program, call: str, problem: str
) -> None:
    program.hook(NO_SYMBOLS)
    _, err = program.run(f"for _ in range(3):\n    msprof_rs.{call}\nmsprof_rs.event('after')")
    assert err.count("this is said once") == 1, err
    assert "<string>:3: msprof_rs." in err
    assert problem in err
    assert [event.name for event in program.capture().instants] == ["after"]


def test_what_can_not_be_timed_is_given_back(program: Program) -> None:
    out = run(
        program, "print(msprof_rs.timed(3), msprof_rs.timed(name=7)('x'), msprof_rs.timed(len, 1)('ab'))"
    )
    assert out == "3 x 2\n"


def test_half_a_character_is_recorded_as_an_escape(program: Program) -> None:
    half = "a\\ud800"
    run(
        program,
        f"""
        half = "{half}"
        with msprof_rs.span(half, domain=half, rid=half, **{{half: half}}) as span:
            span[half + "2"] = [half, {{half: half}}]
        msprof_rs.event(half)
        msprof_rs.counter(half, 1)
        @msprof_rs.timed(name=half)
        def f(): pass
        f()
        profiler = msprof_rs.Profiler(20).domain(half).attr(half, half).span_start(half)
        profiler.span_end().add_meta_info(half, half)
        """,
    )
    capture = program.capture()
    told = {half: half, "rid": half, half + "2": [half, {half: half}]}
    assert (capture.spans[0].name, capture.spans[0].domain, capture.spans[0].attributes) == (half, half, told)
    assert [span.name for span in capture.spans] == [half] * 3
    assert [event.name for event in capture.instants] == [half]


def test_an_interrupt_while_a_value_is_asked_for_its_text_goes_on(program: Program) -> None:
    out = run(
        program,
        """
        class Interrupts:
            def __str__(self): raise KeyboardInterrupt
            def __float__(self): raise SystemExit(3)
        value = Interrupts()
        span = msprof_rs.span("it")
        for call in (
            lambda: msprof_rs.span("a", it=value),
            lambda: msprof_rs.event("a", it=[value]),
            lambda: msprof_rs.counter("a", value),
            lambda: span.__setitem__("key", value),
            lambda: msprof_rs.Profiler(20).attr("key", value),
            lambda: msprof_rs.Profiler(20).link("a", value),
            lambda: msprof_rs.Profiler(20).add_meta_info("key", value),
        ):
            try:
                call()
            except (KeyboardInterrupt, SystemExit) as error:
                print(type(error).__name__)
        """,
    )
    assert out.split() == ["KeyboardInterrupt"] * 2 + ["SystemExit"] + ["KeyboardInterrupt"] * 4
