"""What is no `Exception` and arrives while the profiler runs Python code goes on to the caller, at once."""

from __future__ import annotations

import json

import pytest

import engine_stub
from program import Program

SYMBOLS = """
- {symbol: interrupts:returns, attributes: [{name: told, expr: told | str}]}
- {symbol: interrupts:fails, attributes: [{name: told, expr: told | str}]}
- {symbol: interrupts:waits, attributes: [{name: told, expr: told | str}]}
- {symbol: interrupts:waits_and_fails, attributes: [{name: told, expr: told | str}]}
- {symbol: interrupts:yields, attributes: [{name: told, expr: told}]}
- {symbol: interrupts:yields_later, attributes: [{name: told, expr: told}]}
- {symbol: interrupts:promises, until: done, attributes: [{name: told, expr: told}]}
- {symbol: interrupts:makes, until: done, attributes: [{name: told, expr: told}]}
- {symbol: interrupts:promises_nothing, until: done, attributes: [{name: told, expr: told}]}
- {symbol: interrupts:surrounds, until: exit, attributes: [{name: told, expr: told}]}
- {symbol: interrupts:manages, until: exit, attributes: [{name: told, expr: told}]}
"""

CALLS = [
    "returns",
    "fails",
    "waits",
    "waits_and_fails",
    "yields",
    "yields, closed",
    "yields_later",
    "yields_later, closed",
    "promises_nothing",
    "surrounds",
    "surrounds, failing",
    "manages",
    "manages, failing",
    "span",
    "span[]",
    "event",
    "Profiler",
]
"""Those of `programs/interrupts.py`."""


@pytest.mark.parametrize("call", CALLS)
def test_an_interrupt_while_an_attribute_is_asked_for_reaches_the_caller(call: str, hooked: Program) -> None:
    hooked.hook(SYMBOLS)
    out, err = hooked.run(
        f"""
        import json, interrupts
        call = interrupts.CALLS[{call!r}]
        for interrupt in interrupts.INTERRUPTS:
            is_it, context = interrupts.outcome(call, interrupt)
            print(json.dumps([type(interrupt).__name__, is_it, context, interrupts.RAN]))
        """
    )
    assert not [word for word in ("failed", "SystemError", "Traceback") if word in err], err
    for line in out.splitlines():
        interrupt, is_it, context, ran = json.loads(line)
        if interrupt == "GeneratorExit" and "closed" in call:
            continue  # to whoever closes a generator this says that it is closed
        assert is_it, (interrupt, context)
        if "closed" in call:
            assert context in (None, "GeneratorExit"), interrupt
        else:
            assert context == ("LookupError" if "fail" in call else None), interrupt
        assert len(ran) == len(set(ran)), f"the original ran more than once: {ran}"
    assert len(out.splitlines()) == 4


def test_a_destructor_has_an_interrupt_raised_as_soon_as_the_thread_runs_python_again(
    hooked: Program,
) -> None:
    hooked.hook(SYMBOLS)
    out, err = hooked.run(
        """
        import threading, interrupts
        from interrupts import RAN, TOLD, drop, outcome

        def here():
            print(*outcome(drop, SystemExit(7)), len(RAN) < 50)

        def elsewhere():
            # Another thread can be given no more than the type.
            TOLD.interrupt = interrupts.Cancelled()
            RAN.clear()
            try:
                drop()
            except interrupts.Cancelled:
                print("raised", len(RAN) < 50)

        here()
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        """
    )
    assert out == "True None True\nraised True\n"
    assert "Exception ignored" not in err
    assert "SystemError" not in err


def test_an_interrupt_of_a_failures_text_is_no_failure(hooked: Program) -> None:
    hooked.hook(
        """
        - {symbol: shapes:add, attributes: [{name: bad, expr: a.nothing}]}
        - {symbol: shapes:Shape.area, handler: '__main__:handler'}
        """
    )
    out, _ = hooked.run(
        """
        class Mute(Exception):
            def __str__(self):
                raise KeyboardInterrupt("while it was asked")

        class Bad:
            @property
            def nothing(self):
                raise Mute

        def handler(original, this):
            raise Mute

        import shapes
        for call in (lambda: shapes.add(Bad()), lambda: shapes.Shape().area()):
            try:
                call()
            except KeyboardInterrupt as interrupt:
                print(interrupt)
        """
    )
    assert out == "while it was asked\n" * 2


def test_a_signal_that_ends_the_program_does_so_in_the_midst_of_an_attribute(hooked: Program) -> None:
    hooked.hook("- {symbol: interrupts:returns, attributes: [{name: told, expr: told | str}]}")
    code = """
        import signal, sys, interrupts
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))

        class Slow(interrupts.Told):
            def __str__(self):
                signal.raise_signal(signal.SIGTERM)
                for _ in range(1000): pass
                return "told"

        interrupts.returns(Slow())
        print("went on")
        """
    out, _ = hooked.run(code, exit_code=7)
    assert out == ""


EVERYWHERE = """
import sys
from vllm.v1.core.sched import scheduler as module
from vllm.v1.core.sched.scheduler import Request, RequestStatus, Scheduler
from vllm.v1.core.kv_cache_manager import BlockPool, KVCacheManager
from vllm.v1.engine.core import EngineCore

INTERRUPT = KeyboardInterrupt()
left = None  # questions until the interrupt

def asked(self, name):
    global left
    if left is not None and sys._getframe(1).f_code is drive.__code__:  # by a handler
        left -= 1
        if left == 0:
            raise INTERRUPT
    return object.__getattribute__(self, name)

class Box:
    def __init__(self, **values):
        self.__dict__.update(values)

module.Box = Box
for kind in (Box, Request, Scheduler, BlockPool, KVCacheManager):
    kind.__getattribute__ = asked

def drive(method, *arguments):
    return method(*arguments)

def engine():
    engine = EngineCore(drafts=1)
    for n in range(3):
        engine.add_request(Request(f"r{n}", [n] * 5, max_tokens=2))
    engine.step()
    engine.add_request(Request("late", [9] * 5, max_tokens=2))
    return engine

def scheduled():
    it = engine()
    return it, it.scheduler.schedule()

def executed():
    it, output = scheduled()
    return it, output, {rid: [7] for rid in output.num_scheduled_tokens}

def request(it):
    return it.scheduler.requests["r1"]

CASES = {
    "schedule": lambda: (engine().scheduler.schedule,),
    "execute_model": lambda: (lambda it, output: (it.model_executor.execute_model, output))(*scheduled()),
    "update_from_output": lambda: (
        lambda it, output, result: (it.scheduler.update_from_output, output, result))(*executed()),
    "EngineCore.add_request": lambda: (engine().add_request, Request("new", [1], 1)),
    "Scheduler.add_request": lambda: (engine().scheduler.add_request, Request("new", [1], 1)),
    "preempt": lambda: (lambda it: (it.scheduler._preempt_request, request(it)))(engine()),
    "finish": lambda: (engine().scheduler.finish_requests, ["r1"], RequestStatus.FINISHED_ABORTED),
    "free": lambda: (lambda it: (it.scheduler.kv_cache_manager.free, request(it)))(engine()),
    "get_computed_blocks": lambda: (
        lambda it: (it.scheduler.kv_cache_manager.get_computed_blocks, request(it)))(engine()),
}

for name, make in CASES.items():
    question = 0
    while True:
        question += 1
        method, *arguments = make()
        left = question
        try:
            drive(method, *arguments)
        except KeyboardInterrupt as error:
            assert error is INTERRUPT
        else:
            if left > 0:
                break
            print(f"{name}: swallowed at question {question}")
        finally:
            left = None
    print(name, question - 1)
"""


@pytest.mark.parametrize("version", engine_stub.GENERATIONS)
def test_an_interrupt_at_any_question_of_a_built_in_handler_reaches_the_caller(
    version: str, hooked: Program
) -> None:
    folder = engine_stub.write(hooked.folder / "package", version)
    del hooked.environment["PROFILING_SYMBOLS_PATH"]  # the built-in pack
    out, _ = hooked.run(EVERYWHERE, PYTHONPATH=str(folder))
    assert "swallowed" not in out
    questions = dict(line.rsplit(maxsplit=1) for line in out.splitlines())
    assert len(questions) == 9
    # Not everything is among the symbols of every generation.
    assert {name for name, count in questions.items() if count == "0"} <= {"preempt"}
