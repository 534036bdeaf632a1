"""Threads that end inside of hooks, and threads that run hooked functions while they end.

CPython up to 3.13 ends daemon threads where they are when the process ends.
"""

from __future__ import annotations

import os

import pytest

from program import Program

EXITS = int(os.environ.get("TORTURE", "4"))
"""How often each way to end is taken, and each kind of hook."""

SYMBOLS = """
- {symbol: 'daemons:timed'}
- {symbol: 'daemons:attributed', attributes: [{name: s, expr: value | str}, {name: n, expr: len(return)}]}
- {symbol: 'daemons:failing', attributes: [{name: s, expr: value | str}]}
- {symbol: 'daemons:deep'}
- {symbol: 'daemons:coroutine', attributes: [{name: s, expr: value | str}]}
- {symbol: 'daemons:items', attributes: [{name: s, expr: value | str}]}
- {symbol: 'daemons:generator', attributes: [{name: s, expr: value | str}]}
- {symbol: 'daemons:future', until: done, attributes: [{name: s, expr: value | str}]}
- {symbol: 'daemons:block', until: exit, attributes: [{name: s, expr: value | str}]}
- {symbol: 'daemons:handled', handler: 'daemons:handler'}
- {symbol: 'daemons:handled_in_context', handler: 'daemons:Context'}
- {symbol: 'daemons:handled_coroutine', handler: 'daemons:awaiting'}
- {symbol: 'daemons:blocked', handler: 'daemons:handler'}
- {symbol: 'daemons:Manager.free', handler: 'msprof_rs.handlers:free'}
"""


@pytest.mark.parametrize(
    ("end", "exit_code"), [("pass", 0), ("raise SystemExit(3)", 3), ("raise ValueError('unhandled')", 1)]
)
def test_daemon_threads_do_not_change_how_a_process_ends(hooked: Program, end: str, exit_code: int) -> None:
    hooked.hook(SYMBOLS)
    for number in range(EXITS):
        hooked.configure(enable=int(number % 4 != 3))
        _, err = hooked.run(f"import daemons; daemons.end({number}, {end!r})", exit_code)
        assert "not hooked" not in err
        assert "timer is used" not in err


@pytest.mark.parametrize("where", ["__add__", "__len__"])
def test_a_thread_that_is_ended_inside_of_hooks_ends(hooked: Program, where: str) -> None:
    hooked.hook(
        """
        - {symbol: 'shapes:add', attributes: [{name: n, expr: a | len}]}
        - {symbol: 'shapes:add', handler: 'custom_handlers:note_and_call'}
        """
    )
    hooked.run(
        f"""
        import _thread, ctypes, os, shapes

        class Last:
            def __add__(self, other): return other
            def __len__(self): return 1

        def threads():
            return len(os.listdir("/proc/self/task"))

        Last.{where} = lambda *_: ctypes.CDLL(None).pthread_exit(None)
        assert msprof_rs.is_enabled()
        before = threads()
        _thread.start_new_thread(shapes.add, (Last(), 1))
        while threads() > before:
            pass
        assert shapes.add(1, 2) == 3
        """
    )


def test_destructors_of_a_threads_own_data_run_hooked_functions(hooked: Program) -> None:
    hooked.hook(
        """
        - {symbol: 'shapes:add', attributes: [{name: a, expr: a}]}
        - {symbol: 'shapes:add', handler: 'custom_handlers:note_and_call'}
        - {symbol: 'shapes:sleep_and_add', attributes: [{name: a, expr: a}]}
        """
    )
    _, err = hooked.run(
        """
        import ctypes, shapes, threading
        libc = ctypes.CDLL(None)
        key = ctypes.c_uint()
        waiting = [shapes.sleep_and_add(1, 2)]
        waiting[0].send(None)
        seen = []

        @ctypes.CFUNCTYPE(None, ctypes.c_void_p)
        def destructor(_):
            try:
                msprof_rs.event("late", n=1)
                msprof_rs.Profiler(20).add_meta_info("late", 1)
                with msprof_rs.span("late", n=1):
                    waiting.pop().close()
            finally:
                seen.append(shapes.add(1, 2))

        def work():
            shapes.add(0, 0)
            libc.pthread_setspecific(key, ctypes.c_void_p(1))

        assert libc.pthread_key_create(ctypes.byref(key), destructor) == 0
        threading.Thread(target=work).start()
        while not seen:
            pass
        assert seen == [3]
        """
    )
    assert "panicked" not in err
    assert "ignored" not in err
