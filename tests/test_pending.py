"""What a call raises is what its caller gets, whatever the profiler does in between."""

from __future__ import annotations

import pytest

from program import Program

TOGGLED = """
import asyncio, contextlib, sys, threading
import msprof_rs

class Its(Exception):
    pass

def again():
    assert msprof_rs.stop() is True or not msprof_rs.is_enabled()
    assert msprof_rs.start()

def call(told):
    again()
    raise Its

async def coroutine(told):
    again()
    await asyncio.sleep(0)
    again()
    raise Its

def generator(told):
    again()
    yield 1
    again()
    raise Its

async def async_generator(told):
    again()
    yield 1
    again()
    raise Its

@contextlib.contextmanager
def block(told):
    again()
    yield
    again()
    raise Its

def handled(told):
    again()
    raise Its
"""

USES = {
    "call": "call(1)",
    "coroutine": "asyncio.run(coroutine(1))",
    "generator": "list(generator(1))",
    "async_generator": "asyncio.run(walk(async_generator(1)))",
    "block": "enter(block(1))",
    "handled": "handled(1)",
}


@pytest.mark.parametrize("attributes", ["", ", attributes: [{name: told, expr: told | str}]"])
@pytest.mark.parametrize("kind", USES)
def test_a_call_raises_its_own_exception_though_collection_stops_and_starts_in_it(
    kind: str, attributes: str, hooked: Program
) -> None:
    (hooked.folder / "toggled.py").write_text(TOGGLED)
    until = ", until: exit" if kind == "block" else ""
    handler = ", handler: '__main__:handler'" if kind == "handled" else ""
    # The name of a thread is asked for when it records first: nothing of the program's may run then.
    hooked.hook(
        f"""
        - {{symbol: 'toggled:{kind}'{until}{attributes}{handler}}}
        - {{symbol: 'threading:Thread.name'}}
        - {{symbol: 'threading:current_thread'}}
        - {{symbol: 'threading:get_ident'}}
        """
    )
    out, err = hooked.run(
        f"""
        import sys; sys.path.insert(0, ".")
        def handler(original, told): return original(told)
        import threading
        from toggled import *

        async def walk(items):
            return [item async for item in items]

        def enter(manager):
            with manager:
                pass

        def use():
            for _ in range(3):
                try:
                    {USES[kind]}
                except Its as error:
                    print("its own", error.__context__, error.__cause__)

        use()
        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
        """
    )
    assert out == "its own None None\n" * 6
    assert not [word for word in ("SystemError", "Traceback") if word in err], err


def test_a_followed_generator_that_is_closed_has_its_attributes_and_says_nothing(hooked: Program) -> None:
    hooked.hook("- {symbol: interrupts:yields_later, attributes: [{name: told, expr: told | str}]}")
    _, err = hooked.run("import interrupts; interrupts.CALLS['yields_later, closed']()")
    (span,) = hooked.capture().spans
    assert span.attributes["told"] == "told"
    assert "Error" not in err, err


def test_a_thread_has_the_name_that_python_gave_it(hooked: Program) -> None:
    hooked.hook("- {symbol: shapes:add}\n- {symbol: 'threading:Thread.name'}")
    hooked.run(
        """
        import shapes, threading
        class Named(threading.Thread):
            @property
            def name(self): raise KeyboardInterrupt("nobody is to ask")
            @name.setter
            def name(self, name): self._name = name
            def run(self): shapes.add(1)
        plain = threading.Thread(target=lambda: shapes.add(1), name="worker 1")
        for thread in (plain, Named(name="worker 2")):
            thread.start()
            thread.join()
        shapes.add(1)
        """
    )
    capture = hooked.capture()
    assert {capture.thread_names[span.tid] for span in capture.named("add")} == {
        "worker 1",
        "worker 2",
        "MainThread",
    }
