"""Function handlers of functions: their return value is the call's, and the original runs once."""

from __future__ import annotations

import pytest

from handled import run
from program import Program


@pytest.mark.parametrize(
    ("symbol", "call", "result"),
    [
        ("counted:double", "counted.double(2)", [4]),
        ("counted:double", "counted.double(number=2, plus=1)", [5]),
        ("counted:double", "counted.double(2, 1, 5, 5)", [15]),
        ("counted:Box.grow", "counted.Box(2).grow()", 3),
        ("counted:Box.grow", "counted.Box(2).grow(by=2)", 4),
        ("counted:Box.of", "counted.Box.of(2).size", 2),
        ("counted:Box.unit", "counted.Box.unit()", "cm"),
        ("counted:count_to", "list(counted.count_to(3))", [0, 1, 2]),
    ],
)
def test_a_handler_that_passes_everything_on_changes_nothing(
    hooked: Program, symbol: str, call: str, result: object
) -> None:
    run(
        hooked,
        """
        handled = []
        def handler(original_func, this, *args, **kwargs):
            handled.append(original_func.__name__)
            return original_func(this, *args, **kwargs)
        """,
        f"assert {call} == {result!r}\nassert handled == [{symbol.split(':')[1].split('.')[-1]!r}]",
        symbol,
    )


def test_what_the_handler_returns_is_the_calls_result_also_if_it_is_none(hooked: Program) -> None:
    err = run(
        hooked,
        """
        def handler(original, this, *args):
            original(this, *args)
        """,
        "assert counted.double(1) is None and runs == [1]",
    )
    assert "WARN" not in err


def test_a_handler_may_change_the_arguments(hooked: Program) -> None:
    run(
        hooked,
        "def handler(original, this, *args): return original(this + 1, plus=1)",
        "assert counted.double(1) == [5] and runs == [2]",
    )


def test_a_second_call_of_the_original_gives_the_first_result_again(hooked: Program) -> None:
    run(
        hooked,
        """
        def handler(original, this, *args):
            first = original(this, *args)
            assert original(this + 5) is first
            return [first, original()]
        """,
        "first, second = counted.double(1); assert first is second and first == [2] and runs == [1]",
    )


def test_a_second_call_of_the_original_raises_the_first_exception_again(hooked: Program) -> None:
    run(
        hooked,
        """
        seen = []
        def handler(original, this, *args):
            try:
                original(this)
            except Exception as error:
                seen.append(error)
            return original(this)
        """,
        """
        for n in range(8):
            try:
                counted.double(-1)
            except RefusedError as error:
                assert error is seen[-1]
            else:
                raise SystemExit("no exception")
        assert runs == [-1] * 8 and len(seen) == 8, "the original's exceptions are not failures"
        """,
    )


def test_a_handler_may_swallow_the_originals_exception(hooked: Program) -> None:
    err = run(
        hooked,
        """
        def handler(original, this, *args):
            try:
                return original(this, *args)
            except Exception:
                return "swallowed"
        """,
        "assert [counted.double(-1) for _ in range(8)] == ['swallowed'] * 8 and runs == [-1] * 8",
    )
    assert "WARN" not in err


def test_a_handler_that_fails_after_the_originals_exception_leaves_that_one(hooked: Program) -> None:
    err = run(
        hooked,
        """
        def handler(original, this, *args):
            try:
                return original(this, *args)
            except Exception as error:
                raise ValueError("mine") from error
        """,
        """
        try:
            counted.double(-1)
        except RefusedError as error:
            assert error.__context__ is None and error.__cause__ is None
        else:
            raise SystemExit("no exception")
        assert runs == [-1]
        """,
    )
    assert err.count("mine") == 1


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_handler_that_fails_leaves_the_originals_own_result(hooked: Program, when: str) -> None:
    call = "" if when == "before" else "seen.append(original(this, *args))"
    err = run(
        hooked,
        f"""
        seen = []
        def handler(original, this, *args):
            {call}
            raise ValueError("mine")
        """,
        """
        result = counted.double(1, 1)
        assert result == [3] and runs == [1] and all(result is one for one in seen)
        """,
    )
    assert err.count("mine") == 1


def test_a_handler_that_never_calls_the_original_is_taken_at_its_word_with_one_warning(
    hooked: Program,
) -> None:
    err = run(
        hooked,
        "def handler(original, this, *args): return 'instead'",
        "assert [counted.double(n) for n in range(8)] == ['instead'] * 8 and runs == []",
    )
    assert err.count("taken at its word") == 1


@pytest.mark.parametrize("error", ["KeyboardInterrupt", "SystemExit", "GeneratorExit"])
@pytest.mark.parametrize("cleanup", ["pass", "raise ValueError('in cleaning up')"])
def test_an_interrupt_in_the_handler_passes_and_the_original_is_not_begun(
    hooked: Program, error: str, cleanup: str
) -> None:
    err = run(
        hooked,
        f"""
        def handler(original, this, *args):
            try:
                raise {error}
            finally:
                {cleanup}
        """,
        f"""
        try:
            counted.double(1)
        except {error}:
            assert runs == []
        else:
            raise SystemExit("no exception")
        """,
    )
    assert ("its handler failed" in err) == (cleanup != "pass")


def test_an_interrupt_in_the_original_passes_and_is_nobodys_failure(hooked: Program) -> None:
    err = run(
        hooked,
        "def handler(original, this): return original(this)",
        """
        for _ in range(8):
            interrupt = KeyboardInterrupt()
            try:
                counted.interrupt(interrupt)
            except KeyboardInterrupt as error:
                assert error is interrupt
        assert len(runs) == 8
        """,
        "counted:interrupt",
    )
    assert "WARN" not in err


def test_a_handler_may_call_the_hooked_function_itself(hooked: Program) -> None:
    run(
        hooked,
        """
        def handler(original, this, *args):
            if this > 0:
                counted.double(this - 1)
            return original(this, *args)
        """,
        "assert counted.double(3) == [6] and runs == [0, 1, 2, 3]",
    )


def test_an_original_that_is_called_by_the_original_is_refused(hooked: Program) -> None:
    run(
        hooked,
        """
        class Number(int):
            def __mul__(self, other):
                return self.original(self)
            __rmul__ = __mul__
            def __lt__(self, other):
                return False

        def handler(original, this, *args):
            this.original = original
            return original(this, *args)
        """,
        """
        try:
            counted.double(Number(1))
        except RuntimeError as error:
            assert "still running" in str(error)
        else:
            raise SystemExit("no exception")
        assert runs == [1]
        """,
    )


def test_an_original_that_is_kept_is_not_run_after_the_call(hooked: Program) -> None:
    run(
        hooked,
        """
        kept = []
        def handler(original, this, *args):
            kept.append(original)
        """,
        """
        counted.double(1)
        try:
            kept[0](1)
        except RuntimeError as error:
            assert "is over" in str(error)
        else:
            raise SystemExit("it ran")
        assert runs == []
        """,
    )


def test_an_original_that_runs_in_another_thread_is_waited_for(hooked: Program) -> None:
    run(
        hooked,
        """
        import threading
        begun, go_on = threading.Event(), threading.Event()

        class Number(int):
            def __lt__(self, other):
                begun.set()
                go_on.wait()
                return False

        class MineError(Exception):
            def __str__(self):
                go_on.set()  # it is told of, so the handler has failed
                return "mine"

        def handler(original, this, *args):
            threading.Thread(target=original, args=(this,)).start()
            begun.wait()
            raise MineError
        """,
        "assert counted.double(Number(4)) == [8] and runs == [4]",
    )


def test_nothing_of_a_call_is_kept(hooked: Program) -> None:
    run(
        hooked,
        """
        def handler(original, this, *args):
            return original(this, *args)
        """,
        """
        import gc, weakref
        gc.disable()
        gone = 0
        class Number(float): ...
        for n in (1, -1):
            number = Number(n)
            watch = weakref.ref(number)
            try:
                counted.double(number)
            except RefusedError:
                pass
            runs.clear()
            del number
            gone += watch() is None
        assert gone == 2, gone
        """,
    )


def test_a_thousand_threads_each_get_the_result_of_their_own_call(hooked: Program) -> None:
    run(
        hooked,
        """
        def handler(original, this, *args):
            if this % 3 == 0:
                raise ValueError("mine")
            first = original(this, *args)
            if this % 3 == 1:
                raise ValueError("mine")
            return original(this, *args) if first[0] > 0 else None
        """,
        """
        results, ready = {}, threading.Barrier(1000)
        def work(n):
            ready.wait()
            results[n] = [counted.double(n, turn) for turn in range(5)]
        threads = [threading.Thread(target=work, args=(n,)) for n in range(1000)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == {n: [[2 * n + turn] for turn in range(5)] for n in range(1000)}
        assert sorted(runs) == sorted(list(range(1000)) * 5)
        """,
    )
