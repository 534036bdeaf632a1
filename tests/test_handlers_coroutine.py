"""Handlers of coroutine functions: the call gives a coroutine, and the original is run once in it."""

from __future__ import annotations

import pytest

from handled import run
from program import Program

SLOW = "counted:slow_double"

PASS_ON = {
    "async": """
        import asyncio
        async def handler(original, this, *args, **kwargs):
            return await original(this, *args, **kwargs)
        """,
    "async, with pauses": """
        import asyncio
        async def handler(original, this, *args, **kwargs):
            await asyncio.sleep(0)
            result = await original(this, *args, **kwargs)
            await asyncio.sleep(0)
            return result
        """,
    "async, in a task": """
        import asyncio
        async def handler(original, this, *args, **kwargs):
            return await asyncio.create_task(original(this, *args, **kwargs))
        """,
    "async, without await": """
        async def handler(original, this, *args, **kwargs):
            return original(this, *args, **kwargs)
        """,
    "plain": """
        def handler(original, this, *args, **kwargs):
            return original(this, *args, **kwargs)
        """,
    "plain, decorated": """
        def passing_on(function):
            return lambda *args, **kwargs: function(*args, **kwargs)
        @passing_on
        async def handler(original, this, *args, **kwargs):
            return await original(this, *args, **kwargs)
        """,
}


@pytest.mark.parametrize("way", PASS_ON)
def test_a_handler_that_passes_everything_on_changes_nothing(hooked: Program, way: str) -> None:
    err = run(
        hooked,
        PASS_ON[way],
        """
        async def main():
            coroutine = counted.slow_double(2, plus=1)
            assert inspect.iscoroutine(coroutine) and asyncio.iscoroutine(coroutine)
            assert (coroutine.__name__, coroutine.__qualname__) == ("slow_double", "slow_double")
            assert await coroutine == [5]
            assert await counted.slow_double(number=2) == [4]
            assert await asyncio.create_task(counted.slow_double(3)) == [6]
            try:
                await counted.slow_double(-1)
            except RefusedError as error:
                assert error.__context__ is None and error.__cause__ is None
            else:
                raise SystemExit("no exception")
        asyncio.run(main())
        assert inspect.iscoroutinefunction(counted.slow_double)
        assert runs == [2, 2, 3, -1], runs
        """,
        SLOW,
    )
    assert "WARN" not in err
    assert "never awaited" not in err


def test_a_method_gets_its_instance(hooked: Program) -> None:
    run(
        hooked,
        """
        async def handler(original, this, *args, **kwargs):
            assert this.size == 2
            return 10 * await original(this, *args, **kwargs)
        """,
        """
        coroutine = Box(2).slow_grow(by=3)
        assert coroutine.__qualname__ == "Box.slow_grow"
        assert asyncio.run(coroutine) == 50
        """,
        "counted:Box.slow_grow",
    )


def test_a_second_await_gives_the_first_outcome_again(hooked: Program) -> None:
    err = run(
        hooked,
        """
        import asyncio
        async def handler(original, this, *args):
            coroutine = original(this, *args)
            outcomes = []
            for again in (coroutine, coroutine, original(this), asyncio.create_task(original())):
                try:
                    outcomes.append(await again)
                except Exception as error:
                    outcomes.append(error)
            assert all(outcome is outcomes[0] for outcome in outcomes), outcomes
            return await coroutine
        """,
        """
        assert asyncio.run(counted.slow_double(1)) == [2]
        try:
            asyncio.run(counted.slow_double(-1))
        except RefusedError:
            assert runs == [1, -1], runs
        else:
            raise SystemExit("no exception")
        """,
        SLOW,
    )
    assert "WARN" not in err


def test_tasks_that_await_the_original_at_the_same_time_get_the_outcome_of_one_run(hooked: Program) -> None:
    run(
        hooked,
        """
        import asyncio
        async def handler(original, this, *args):
            results = await asyncio.gather(*(original(this, pauses=3) for _ in range(5)))
            assert all(result is results[0] for result in results)
            return results[0]
        """,
        "assert asyncio.run(counted.slow_double(1)) == [2] and runs == [1]",
        SLOW,
    )


def test_a_call_that_the_handler_never_awaits_is_run_all_the_same_with_one_warning(hooked: Program) -> None:
    err = run(
        hooked,
        """
        async def handler(original, this, *args):
            original(this, *args)
            return "word"
        """,
        """
        for n in range(8):
            assert asyncio.run(counted.slow_double(n)) == "word"
        assert runs == list(range(8))
        """,
        SLOW,
    )
    assert err.count("does not await the original") == 1
    assert "never awaited" not in err


@pytest.mark.parametrize("kind", ["async def", "def"])
def test_a_handler_that_never_calls_the_original_is_taken_at_its_word_with_one_warning(
    hooked: Program, kind: str
) -> None:
    err = run(
        hooked,
        f"{kind} handler(original, this, *args): return 'instead'",
        """
        for n in range(8):
            assert asyncio.run(counted.slow_double(n)) == "instead"
        assert runs == []
        """,
        SLOW,
    )
    assert err.count("taken at its word") == 1


@pytest.mark.parametrize(
    "steps",
    [
        "",
        "await asyncio.sleep(0)",
        "original(this, *args)",
        "await original(this, *args)",
        "await original(this, *args); await asyncio.sleep(0)",
        "asyncio.create_task(original(this, *args)); await asyncio.sleep(0)",
    ],
)
@pytest.mark.parametrize("number", [1, -1])
def test_a_handler_that_fails_leaves_the_originals_own_outcome(
    hooked: Program, steps: str, number: int
) -> None:
    err = run(
        hooked,
        f"""
        import asyncio
        async def handler(original, this, *args):
            try:
                {steps or "pass"}
            except counted.RefusedError:
                pass
            raise ValueError("mine")
        """,
        f"""
        try:
            result = asyncio.run(counted.slow_double({number}, 0, 3))
        except RefusedError as error:
            assert {number} < 0 and error.__context__ is None
        else:
            assert result == [2 * {number}]
        assert runs == [{number}], runs
        """,
        SLOW,
    )
    assert err.count("its handler failed: ValueError: mine") == 1
    assert "never awaited" not in err


CANCEL = """
async def main():
    task = asyncio.create_task(counted.forever(1))
    for _ in range(5):
        await asyncio.sleep(0)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        assert task.cancelled()
    else:
        raise SystemExit("not cancelled")
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == 1
for _ in range(8):
    asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("handler", "runs_of_original"),
    [
        ("await asyncio.Event().wait()", 0),
        ("return await original(this)", 1),
        ("original(this); await asyncio.Event().wait()", 0),
        ("\n    try: await asyncio.Event().wait()\n    finally: await original(this)", 1),
        ("\n    try: await original(this)\n    finally: await original(this)", 1),
    ],
)
def test_a_cancelled_call_ends_as_cancelled_and_that_is_no_failure(
    hooked: Program, handler: str, runs_of_original: int
) -> None:
    cancel = CANCEL
    if "finally" in handler and "Event" in handler:
        # The original has to be cancelled too.
        cancel = CANCEL.replace(
            "task.cancel()\n", "task.cancel(); await asyncio.sleep(0); task.cancel()\n", 1
        )
    err = run(
        hooked,
        f"import asyncio\nasync def handler(original, this):\n    {handler}\n",
        cancel + f"\nassert runs == [1] * 8 * {runs_of_original}, runs",
        "counted:forever",
    )
    assert "WARN" not in err
    assert "never awaited" not in err


def test_a_cancellation_outlives_a_failure_in_cleaning_up(hooked: Program) -> None:
    err = run(
        hooked,
        """
        import asyncio
        async def handler(original, this):
            try:
                await asyncio.Event().wait()
            finally:
                raise ValueError("mine")
        """,
        CANCEL.replace("range(8)", "range(2)") + "\nassert runs == []",
        "counted:forever",
    )
    assert err.count("mine") == 2


def test_a_timeout_of_the_handlers_own_is_a_failure_as_any_other(hooked: Program) -> None:
    err = run(
        hooked,
        """
        import asyncio
        async def handler(original, this):
            await asyncio.wait_for(asyncio.Event().wait(), 0.001)
        """,
        "assert asyncio.run(counted.slow_double(1)) == [2] and runs == [1]",
        SLOW,
    )
    assert err.count("its handler failed: TimeoutError") == 1


def test_a_coroutine_that_is_closed_or_never_awaited_harms_nothing(hooked: Program) -> None:
    err = run(
        hooked,
        PASS_ON["async, with pauses"],
        """
        counted.slow_double(1).close()
        for steps in (1, 2):
            coroutine = counted.slow_double(1)
            for _ in range(steps):
                coroutine.send(None)
            coroutine.close()
        assert runs == [1], runs
        """,
        SLOW,
    )
    assert "WARN" not in err
    assert "Error" not in err


def test_an_original_that_is_kept_is_not_run_after_the_call(hooked: Program) -> None:
    err = run(
        hooked,
        """
        kept = []
        async def handler(original, this):
            kept.append(original)
        """,
        """
        async def late():
            await counted.slow_double(1)
            kept[0](1)
        try:
            asyncio.run(late())
        except RuntimeError as error:
            assert "is over" in str(error)
        else:
            raise SystemExit("it ran")
        assert runs == []
        """,
        SLOW,
    )
    assert "never awaited" not in err


def test_an_original_keeps_running_in_a_task_that_the_handler_leaves(hooked: Program) -> None:
    run(
        hooked,
        """
        import asyncio
        tasks = []
        async def handler(original, this):
            tasks.append(asyncio.create_task(original(this, pauses=3)))
            await asyncio.sleep(0)
            return "soon"
        """,
        """
        async def main():
            assert await counted.slow_double(1) == "soon"
            return await tasks[0]
        assert asyncio.run(main()) == [2] and runs == [1]
        """,
        SLOW,
    )


def test_nothing_of_a_call_is_kept(hooked: Program) -> None:
    run(
        hooked,
        PASS_ON["async, with pauses"],
        """
        import gc, weakref
        class Number(float): ...
        async def main():
            gc.disable()
            gone = 0
            for n in (1, -1):
                number = Number(n)
                watch = weakref.ref(number)
                try:
                    await counted.slow_double(number)
                except RefusedError:
                    pass
                runs.clear()
                del number
                gone += watch() is None
            assert gone == 2, gone
        asyncio.run(main())
        """,
        SLOW,
    )


def test_ten_thousand_tasks_each_get_the_outcome_of_their_own_call(hooked: Program) -> None:
    run(
        hooked,
        """
        import asyncio
        async def handler(original, this, *args):
            if this % 4 == 3:
                raise ValueError("mine")
            await asyncio.sleep(0)
            first = await original(this, *args)
            if this % 4 == 2:
                raise ValueError("mine")
            return await original(this, *args) if first else None
        """,
        """
        async def main():
            calls = (counted.slow_double(n, 0, n % 7) for n in range(-10, 10_000))
            return await asyncio.gather(*calls, return_exceptions=True)
        results = asyncio.run(main())
        assert [error.args for error in results[:10]] == [(n,) for n in range(-10, 0)]
        assert results[10:] == [[2 * n] for n in range(10_000)]
        assert sorted(runs) == list(range(-10, 10_000))
        """,
        SLOW,
    )
