"""Context handlers: one part before the call, one after it, and the call is as it would be without them."""

from __future__ import annotations

import sys

import pytest

from handled import run
from program import Program

GENERATOR = """
seen = []
def handler(ctx):
    seen.append(("before", dict(ctx.local_values), ctx.return_value))
    yield
    seen.append(("after", dict(ctx.local_values), ctx.return_value))
"""

CONTEXTS = {
    "generator": GENERATOR,
    "contextmanager": "from contextlib import contextmanager\n"
    + GENERATOR.replace("def handler", "@contextmanager\ndef handler"),
    "class": """
seen = []
class handler:
    def __init__(self, ctx):
        self.ctx = ctx

    def __enter__(self):
        seen.append(("before", dict(self.ctx.local_values), self.ctx.return_value))

    def __exit__(self, kind, error, traceback):
        if error is None:
            seen.append(("after", dict(self.ctx.local_values), self.ctx.return_value))
        else:
            assert isinstance(error, kind) and error.__traceback__ is traceback
""",
}


@pytest.mark.parametrize("way", CONTEXTS)
@pytest.mark.parametrize(
    ("symbol", "call", "result", "local_values"),
    [
        ("counted:double", "counted.double(2)", "[4]", "dict(number=2, plus=0, more=(), options={})"),
        (
            "counted:double",
            "counted.double(2, 1, 5, x=6)",
            "[10]",
            "dict(number=2, plus=1, more=(5,), options={'x': 6})",
        ),
        ("counted:Box.grow", "box.grow(by=2)", "5", "dict(self=box, by=2)"),
        ("counted:Box.of", "Box.of(3)", "Box(3)", "dict(cls=Box, size=3)"),
        ("counted:Crate.grow", "counted.Crate(3).grow()", "5", "dict(self=counted.Crate(5), by=1)"),
        ("counted:Box.unit", "Box.unit()", "'cm'", "{}"),
        (
            "counted:slow_double",
            "asyncio.run(counted.slow_double(2))",
            "[4]",
            "dict(number=2, plus=0, pauses=1)",
        ),
        ("counted:Box.slow_grow", "asyncio.run(box.slow_grow())", "4", "dict(self=box, by=1)"),
    ],
)
def test_the_parts_run_around_the_call_and_see_arguments_and_result(
    hooked: Program, way: str, symbol: str, call: str, result: str, local_values: str
) -> None:
    run(
        hooked,
        CONTEXTS[way],
        f"""
        box = Box(3)
        assert {call} == {result}
        assert seen == [("before", {local_values}, None), ("after", {local_values}, {result})], seen
        """,
        symbol,
    )


def test_the_parts_run_inside_of_the_coroutine(hooked: Program) -> None:
    run(
        hooked,
        """
        events = []
        def handler(ctx):
            events.append("before")
            yield
            events.append("after")
        """,
        """
        coroutine = counted.slow_double(1)
        assert inspect.iscoroutine(coroutine) and coroutine.__qualname__ == "slow_double"
        assert events == [] and runs == []
        coroutine.send(None)
        assert events == ["before"] and runs == [1]
        try:
            coroutine.send(None)
        except StopIteration as stop:
            assert stop.value == [2]
        assert events == ["before", "after"]
        """,
        "counted:slow_double",
    )


RAISING = {
    "a bare yield": ("yield\nevents.append('after')", []),
    "finally": ("try:\n    yield\nfinally:\n    events.append('finally')", ["finally"]),
    "except and raise": (
        "try:\n    yield\nexcept Exception as e:\n    events.append(e)\n    raise",
        ["error"],
    ),
    "except": ("try:\n    yield\nexcept BaseException as e:\n    events.append(e)", ["error"]),
}


@pytest.mark.parametrize("parts", RAISING)
@pytest.mark.parametrize("call", ["counted.double(-1)", "asyncio.run(counted.slow_double(-1))"])
def test_a_generator_sees_the_exception_and_the_caller_gets_it_whatever_the_generator_does(
    hooked: Program, parts: str, call: str
) -> None:
    body, events = RAISING[parts]
    indented = "\n".join("    " + line for line in body.splitlines())
    err = run(
        hooked,
        f"events = []\ndef handler(ctx):\n{indented}\n",
        f"""
        for _ in range(8):
            events.clear()
            try:
                {call}
            except RefusedError as error:
                assert events == [{{"error": error}}.get(event, event) for event in {events!r}], events
                assert error.__context__ is None and error.__cause__ is None
                frames, trace = [], error.__traceback__
                while trace:
                    frames.append(trace.tb_frame.f_code.co_name)
                    trace = trace.tb_next
                assert frames[-2:] == ["drive", {call!r}.split(".")[-1].split("(")[0]], frames
                assert "handler" not in frames, frames
            else:
                raise SystemExit("no exception")
        assert runs == [-1] * 8, runs
        """,
        "counted:slow_double" if "slow" in call else "counted:double",
    )
    assert "WARN" not in err


@pytest.mark.parametrize("answer", ["return True", "return False", "raise error", "raise KeyError"])
@pytest.mark.parametrize("call", ["counted.double(-1)", "asyncio.run(counted.slow_double(-1))"])
def test_a_class_sees_the_exception_and_the_caller_gets_it_whatever_the_class_does(
    hooked: Program, answer: str, call: str
) -> None:
    err = run(
        hooked,
        f"""
        seen = []
        class handler:
            def __init__(self, ctx): ...
            def __enter__(self): ...
            def __exit__(self, kind, error, traceback):
                assert type(error) is kind and error.__traceback__ is traceback
                seen.append(error)
                {answer}
        """,
        f"""
        try:
            {call}
        except RefusedError as error:
            assert seen == [error] and runs == [-1]
            assert error.__context__ is None and error.__cause__ is None
        else:
            raise SystemExit("no exception")
        """,
        "counted:slow_double" if "slow" in call else "counted:double",
    )
    assert err.count("its handler failed") == (answer == "raise KeyError")


@pytest.mark.parametrize(
    "body",
    [
        "raise ValueError('mine')\nyield",
        "yield\nraise ValueError('mine')",
        "return\nyield",
        "yield\nyield",
        "try:\n    yield\nexcept Exception:\n    yield",
        "try:\n    yield\nfinally:\n    raise ValueError('mine')",
    ],
)
@pytest.mark.parametrize("number", [1, -1])
@pytest.mark.parametrize("call", ["counted.double({})", "asyncio.run(counted.slow_double({}))"])
def test_a_handler_that_fails_or_does_not_yield_once_does_not_change_the_call(
    hooked: Program, body: str, number: int, call: str
) -> None:
    fails = not (number < 0 and body.startswith("yield")) and not (number > 0 and "except" in body)
    indented = "\n".join("    " + line for line in body.splitlines())
    err = run(
        hooked,
        f"def handler(ctx):\n{indented}\n",
        f"""
        try:
            result = {call.format(number)}
        except RefusedError as error:
            assert {number} < 0
            assert error.__context__ is None and error.__cause__ is None
        else:
            assert result == [2]
        assert runs == [{number}]
        """,
        "counted:slow_double" if "slow" in call else "counted:double",
    )
    assert err.count("its handler failed") == fails, err


@pytest.mark.parametrize("part", ["before", "after"])
def test_an_interrupt_in_the_handler_passes(hooked: Program, part: str) -> None:
    body = "raise KeyboardInterrupt\n    yield" if part == "before" else "yield\n    raise KeyboardInterrupt"
    err = run(
        hooked,
        f"def handler(ctx):\n    {body}\n",
        f"""
        try:
            counted.double(1)
        except KeyboardInterrupt:
            assert runs == [1] * {part == "after"}
        else:
            raise SystemExit("no exception")
        """,
    )
    assert "WARN" not in err


def test_a_cancelled_call_ends_as_cancelled_and_the_handler_cleans_up(hooked: Program) -> None:
    err = run(
        hooked,
        """
        events = []
        def handler(ctx):
            try:
                yield
            finally:
                events.append("finally")
        """,
        """
        async def main():
            task = asyncio.create_task(counted.forever(1))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
        for _ in range(8):
            asyncio.run(main())
        counted.forever(1).close()
        assert events == ["finally"] * 8 and runs == [1] * 8
        """,
        "counted:forever",
    )
    assert "WARN" not in err


def test_arguments_that_do_not_fit_lead_to_the_targets_own_error(hooked: Program) -> None:
    err = run(
        hooked,
        CONTEXTS["generator"],
        """
        try:
            counted.double()
        except TypeError as error:
            assert "missing 1 required positional argument: 'number'" in str(error)
        else:
            raise SystemExit("no exception")
        assert seen == [("before", {}, None)]
        """,
    )
    assert "WARN" not in err


COLLECT = """
collected = {}
def handler(ctx):
    number = ctx.local_values["number"]
    assert ctx.return_value is None
    yield
    assert ctx.local_values["number"] == number
    collected[number] = ctx.return_value
"""


def test_a_thousand_threads_each_have_a_context_of_their_own(hooked: Program) -> None:
    err = run(
        hooked,
        COLLECT,
        """
        ready = threading.Barrier(1000)
        def work(n):
            ready.wait()
            for turn in range(5):
                assert counted.double(1000 * turn + n) == [2 * (1000 * turn + n)]
        threads = [threading.Thread(target=work, args=(n,)) for n in range(1000)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert collected == {n: [2 * n] for n in range(5000)}
        assert sorted(runs) == list(range(5000))
        """,
    )
    assert "WARN" not in err


def test_ten_thousand_tasks_each_have_a_context_of_their_own(hooked: Program) -> None:
    err = run(
        hooked,
        COLLECT,
        """
        async def main():
            return await asyncio.gather(*(counted.slow_double(n, 0, n % 7) for n in range(10_000)))
        assert asyncio.run(main()) == [[2 * n] for n in range(10_000)]
        assert collected == {n: [2 * n] for n in range(10_000)}
        assert sorted(runs) == list(range(10_000))
        """,
        "counted:slow_double",
    )
    assert "WARN" not in err


LOCALS = """
seen = []
def handler(ctx):
    before = dict(ctx.local_values)
    yield
    seen.append((before, ctx.local_values, ctx.return_value))
"""


@pytest.mark.skipif(sys.version_info < (3, 12), reason="CPython tells since 3.12")
def test_after_the_call_the_local_values_are_the_local_variables_at_return(hooked: Program) -> None:
    run(
        hooked,
        LOCALS,
        """
        assert counted.total(2) == 3
        assert seen == [
            (dict(number=0), dict(number=0, rest=0), 0),
            (dict(number=1), dict(number=1, rest=0), 1),
            (dict(number=2), dict(number=3, rest=1), 3),
        ], seen
        """,
        "counted:total",
    )


@pytest.mark.skipif(sys.version_info < (3, 12), reason="CPython tells since 3.12")
def test_each_of_a_thousand_tasks_sees_its_own_local_variables(hooked: Program) -> None:
    run(
        hooked,
        LOCALS,
        """
        async def main():
            await asyncio.gather(*(counted.slow_total(n) for n in range(1000)))
        asyncio.run(main())
        seen.sort(key=lambda entry: entry[0]["number"])
        for n, entry in enumerate(seen):
            rest = n * (n - 1) // 2
            assert entry == (dict(number=n), dict(number=n, rest=rest), n + rest), entry
        assert len(seen) == 1000
        """,
        "counted:slow_total",
    )


@pytest.mark.skipif(sys.version_info < (3, 12), reason="CPython tells since 3.12")
@pytest.mark.parametrize("target", ["total", "slow_total"])
def test_all_handlers_of_a_function_see_its_local_variables(hooked: Program, target: str) -> None:
    entries = [f"- {{symbol: 'counted:{target}', handler: '{h}'}}" for h in ("__main__:handler", "timer")]
    hooked.hook("\n".join(entries * 2))
    hooked.run(
        f"""
        {LOCALS.replace(chr(10), chr(10) + " " * 8)}
        import asyncio, counted
        result = counted.{target}(0)
        assert (asyncio.run(result) if asyncio.iscoroutine(result) else result) == 0
        assert seen == [(dict(number=0), dict(number=0, rest=0), 0)] * 2, seen
        """
    )


@pytest.mark.parametrize("free_tools", [True, False])
def test_where_cpython_does_not_tell_the_local_values_stay_the_parameters(
    hooked: Program, free_tools: bool
) -> None:
    tells = free_tools and sys.version_info >= (3, 12)
    taken = "" if free_tools else "[sys.monitoring.use_tool_id(tool, 'other') for tool in (3, 4)]"
    run(
        hooked,
        f"import sys\nif sys.version_info >= (3, 12):\n    {taken or 'pass'}\n{LOCALS}",
        f"""
        assert counted.total(0) == 0
        (_, after, _), = seen
        assert after == (dict(number=0, rest=0) if {tells} else dict(number=0))
        """,
        "counted:total",
    )
