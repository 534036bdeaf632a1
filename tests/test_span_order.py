"""Spans that do not nest: each has its own times, whoever ends it, and in whatever order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from capture import Capture, Event
from perfetto_sql import NODE, WHY_NOT, TraceProcessor
from program import Program

TWO_GENERATORS = """
def hold(name):
    with msprof_rs.span(name, domain="Order"):
        yield 1
        yield 2
first, second = hold("first"), hold("second")
next(first)
msprof_rs.event("first is open")
next(second)
list(first)
msprof_rs.event("first is over")
with msprof_rs.span("within second"):
    pass
list(second)
"""


def run(program: Program, code: str, symbols: str = "[]") -> dict[str, Event]:
    """The spans and instants of a program, by name."""
    program.hook(symbols)
    program.run(code)
    return by_name(program.capture())


def by_name(capture: Capture) -> dict[str, Event]:
    events = [*capture.spans, *capture.instants]
    named = {event.name: event for event in events}
    assert len(named) == len(events)
    return named


def test_two_generators_that_hold_spans_in_turn_keep_their_times(program: Program) -> None:
    seen = run(program, TWO_GENERATORS)
    first, second, within = seen["first"], seen["second"], seen["within second"]
    assert first.start < seen["first is open"].start < second.start
    assert second.start < first.end < seen["first is over"].start < within.start < within.end < second.end
    # What nests stays on the thread; the other is on a lane of its own.
    assert within.track == second.track != first.track


def test_parse_tells_the_same_durations_as_the_capture(program: Program, tmp_path: Path) -> None:
    seen = run(program, TWO_GENERATORS)
    expected = sorted((name, event.duration) for name, event in seen.items() if event.duration)
    done = program.command("parse", f"--input-path={program.prof_dir}", f"--output-path={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    assert "end of a span" not in done.stdout
    assert "without an end" not in done.stdout
    shown = json.loads((tmp_path / "out" / "chrome_tracing.json").read_text())
    spans = [(event["name"], round(event["dur"] * 1000)) for event in shown if event["ph"] == "X"]
    assert sorted(spans) == expected


@pytest.mark.skipif(not NODE, reason=WHY_NOT)
def test_what_was_taken_off_a_thread_says_so_and_has_no_duration_there(program: Program) -> None:
    seen = run(program, TWO_GENERATORS)
    with TraceProcessor(program.capture().files[0].read_bytes()) as processor:
        assert processor.errors() == []
        rows = processor.query(
            "select slice.name, dur, extract_arg(arg_set_id, 'debug.does_not_nest') as within,"
            " track.name as track from slice join track on slice.track_id = track.id order by slice.id"
        )
    found = [(row["name"], row["dur"], row["within"]) for row in rows]
    assert ("first", 0, 1) in found
    assert ("first", seen["first"].duration, None) in found
    assert ("second", seen["second"].duration, None) in found
    assert [row["track"] for row in rows if row["name"] == "first" and row["dur"]] == ["Order"]


def test_a_span_that_another_thread_ends_is_ended_and_no_other(program: Program) -> None:
    seen = run(
        program,
        """
        import threading
        def hold():
            with msprof_rs.span("held"):
                yield
        held, by_hand = hold(), msprof_rs.span("by hand")
        with msprof_rs.span("around"):
            next(held)
            by_hand.__enter__()
        def other():
            with msprof_rs.span("of the other thread"):
                list(held)
                msprof_rs.event("held is over")
                by_hand.__exit__(None, None, None)
                msprof_rs.event("by hand is over")
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        """,
    )
    other = seen["of the other thread"]
    assert seen["around"].end < other.start < seen["held"].end < seen["held is over"].start
    assert seen["held is over"].start < seen["by hand"].end < seen["by hand is over"].start < other.end
    assert seen["held"].tid == seen["by hand"].tid == seen["around"].tid != other.tid


def test_a_span_can_be_ended_when_its_thread_has_gone(program: Program) -> None:
    seen = run(
        program,
        """
        import threading, time
        spans = []
        def begin():
            span = msprof_rs.span("left behind")
            span.__enter__()
            spans.append(span)
        thread = threading.Thread(target=begin)
        thread.start()
        thread.join()
        native = thread.native_id
        while str(native) in __import__("os").listdir("/proc/self/task"): time.sleep(0.001)
        msprof_rs.event("its thread has gone")
        spans.pop().__exit__(None, None, None)
        msprof_rs.event("over")
        """,
    )
    assert (
        seen["left behind"].start
        < seen["its thread has gone"].start
        < seen["left behind"].end
        < seen["over"].start
    )


def test_one_object_that_is_entered_twice_is_two_spans(program: Program) -> None:
    program.hook("[]")
    program.run(
        """
        span = msprof_rs.span("same", rid="r")
        span.__exit__(None, None, None)
        with span:
            span["depth"] = 1
            with span:
                span["depth"] = 2
        with span:
            pass
        """
    )
    outer, inner, again = program.capture().spans
    assert outer.start < inner.start < inner.end < outer.end < again.start < again.end
    attributes = [span.attributes for span in (outer, inner, again)]
    assert attributes == [{"rid": "r", "depth": 1}, {"rid": "r", "depth": 2}, {"rid": "r"}]


def test_one_object_in_two_threads_is_ended_where_it_was_entered(program: Program) -> None:
    program.hook("[]")
    program.run(
        """
        import threading
        span, entered, leave = msprof_rs.span("same"), threading.Event(), threading.Event()
        def other():
            with span:
                entered.set()
                leave.wait()
        thread = threading.Thread(target=other)
        with span:
            thread.start()
            entered.wait()
        leave.set()
        thread.join()
        """
    )
    first, second = program.capture().spans
    assert first.start < second.start < first.end < second.end
    assert first.tid != second.tid


def test_spans_within_context_managers_still_nest_on_their_thread(program: Program) -> None:
    seen = run(
        program,
        """
        import contextlib
        @contextlib.contextmanager
        def traced(name):
            with msprof_rs.span(name):
                yield
        with traced("outer"), contextlib.ExitStack() as stack:
            stack.enter_context(traced("middle"))
            with msprof_rs.span("inner"):
                pass
        """,
    )
    outer, middle, inner = seen["outer"], seen["middle"], seen["inner"]
    assert outer.start < middle.start < inner.start < inner.end < middle.end < outer.end
    assert outer.track == middle.track == inner.track


def test_a_hooked_function_that_a_greenlet_leaves_and_another_enters_keeps_its_times(hooked: Program) -> None:
    hooked.hook(
        """
        - {symbol: "lasting_calls:first", name: first}
        - {symbol: "lasting_calls:second", name: second}
        """
    )
    (hooked.folder / "lasting_calls.py").write_text(
        "def first(switch): switch()\ndef second(switch): switch()\ndef third(): pass\n"
    )
    hooked.environment["PYTHONPATH"] = f"{hooked.folder}"
    hooked.run(
        """
        import greenlet, lasting_calls
        main = greenlet.getcurrent()
        one = greenlet.greenlet(lambda: lasting_calls.first(main.switch))
        two = greenlet.greenlet(lambda: lasting_calls.second(main.switch))
        one.switch()
        msprof_rs.event("first runs")
        two.switch()
        msprof_rs.event("both run")
        one.switch()
        msprof_rs.event("first is over")
        two.switch()
        """
    )
    seen = by_name(hooked.capture())
    first, second = seen["first"], seen["second"]
    assert first.start < seen["first runs"].start < second.start < seen["both run"].start
    assert seen["both run"].start < first.end < seen["first is over"].start < second.end


def test_gevent_s_requests_keep_their_times_patched_and_hooked(hooked: Program) -> None:
    hooked.hook(
        """
        - {symbol: "served:handle", name: handle, attributes: [{name: n, expr: n}]}
        - {symbol: "served:wait", name: wait}
        """
    )
    (hooked.folder / "served.py").write_text(
        "import time, msprof_rs\n"
        "def wait(): time.sleep(0.001)\n"
        "def handle(n):\n"
        "    msprof_rs.event('begin', n=n)\n"
        "    for _ in range(n % 3 + 1):\n"
        "        with msprof_rs.span('turn', n=n):\n"
        "            wait()\n"
        "    msprof_rs.event('end', n=n)\n"
    )
    hooked.environment["PYTHONPATH"] = f"{hooked.folder}"
    hooked.run(
        """
        from gevent import monkey
        monkey.patch_all()
        import gevent, served
        gevent.joinall([gevent.spawn(served.handle, n) for n in range(20)], raise_error=True)
        """
    )
    capture = hooked.capture()
    begins = {event.attributes["n"]: event.start for event in capture.named("begin")}
    ends = {event.attributes["n"]: event.start for event in capture.named("end")}
    handled = {span.attributes["n"]: span for span in capture.named("handle")}
    assert len(handled) == 20
    last = max(span.end for span in handled.values())
    following = sorted([*begins.values(), *ends.values(), last + 1])
    for n, span in handled.items():
        before = max((time for time in following if time < begins[n]), default=0)
        after = min(time for time in following if time > ends[n])
        assert before < span.start < begins[n] < ends[n] < span.end <= after
    turns = capture.named("turn")
    assert len(turns) == len(capture.named("wait")) == sum(n % 3 + 1 for n in range(20))
    for turn in turns:
        assert begins[turn.attributes["n"]] < turn.start < turn.end < ends[turn.attributes["n"]]
