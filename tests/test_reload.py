"""A changed symbol file is applied at the next start of collection; what left it is as it was before."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from program import PATIENCE, Program, wait_until

# Answers one expression a line, so that the test can switch collection in between.
SERVER = """
import json, sys, threading
import places, shapes
from places import Borrower, LargeStore, Store
from shapes import Shape

def state():
    "What stands in all the places, as identities."
    here = [vars(places), vars(shapes), vars(Borrower), vars(LargeStore), vars(Store), vars(Shape)]
    functions = [{name: id(value) for name, value in place.items() if name[:2] != "__"} for place in here]
    calls = [id(vars(places.Clerk)["__call__"]), "__call__" in vars(places.Trainee)]
    return [functions, calls, id(vars(Store)["catalogue"].func)]

results, stop = [], threading.Event()

def call_all_the_time():
    def work():
        while not stop.is_set():
            results.append(shapes.add(1) + Store().multiply(3) + places.cached(2))
    threading.Thread(target=work).start()

bare = state()
import msprof_rs
from shapes import add as imported_later
for line in sys.stdin:
    print(json.dumps(eval(line)), flush=True)
"""

ALL = """
    - {symbol: "places:count", domain: Test}
    - {symbol: "places:cached", domain: Test}
    - {symbol: "places:Store.size", domain: Test}
    - {symbol: "places:Store.size.setter", domain: Test}
    - {symbol: "places:Store.multiply", domain: Test}
    - {symbol: "places:LargeStore.multiply", domain: Test}
    - {symbol: "places:Store.catalogue", domain: Test}
    - {symbol: "places:Store.plus", domain: Test}
    - {symbol: "places:clerk", domain: Test}
    - {symbol: "places:trainee", domain: Test}
    - {symbol: "shapes:add", domain: Test}
    - {symbol: "shapes:Shape.unit", domain: Test}
    - {symbol: "shapes:Shape.corners", domain: Test}
"""


class Server:
    """A running program, its collection off at first."""

    def __init__(self, program: Program) -> None:
        self.program = program
        program.configure(enable=0)
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            env=program.environment,
            cwd=program.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ask(self, expression: str) -> Any:
        """The value of an expression in the program."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(expression + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, self.process.communicate(timeout=PATIENCE)[1]
        return json.loads(answer)

    def collect(self, *calls: str) -> None:
        """One collection, with these calls in it."""
        self.program.switch(1)
        wait_until(lambda: self.ask("msprof_rs.is_enabled()"), "the start of collection")
        for call in calls:
            self.ask(call)
        self.program.switch(0)
        wait_until(lambda: not self.ask("msprof_rs.is_enabled()"), "the end of collection")

    def end(self) -> str:
        """Ends the program; gives what it wrote to stderr."""
        _, err = self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == 0, err
        return err

    def spans(self) -> list[str]:
        """The names of all spans up to now, in order of time."""
        spans = self.program.capture().spans
        return [span.name for span in sorted(spans, key=lambda span: span.start)]


@pytest.fixture
def server(hooked: Program) -> Iterator[Server]:
    hooked.hook(ALL)
    server = Server(hooked)
    with server.process:
        server.ask("True")  # it has read the file
        yield server
        server.process.kill()


def test_what_left_the_file_is_restored_exactly(server: Server) -> None:
    server.ask("Store().size")
    server.program.hook("- {symbol: 'colorsys:rgb_to_hsv'}")
    server.collect("places.count()", "Store().size")
    assert server.ask("state() == bare")
    assert server.spans() == []
    assert server.ask("shapes.add(1)") == 2
    server.end()


def test_a_setter_comes_back_without_its_getter_and_leaves_again(server: Server) -> None:
    server.program.hook("[]")
    server.collect()
    server.program.hook("- {symbol: 'places:Store.size.setter', domain: Test}")
    server.collect("[Store().size, setattr(Store(), 'size', 2)]")
    assert server.spans() == ["size.setter"]
    server.program.hook("[]")
    server.collect()
    assert server.ask("state() == bare")
    server.end()


def test_a_new_entry_acts_and_others_stay(server: Server) -> None:
    server.collect("shapes.add(1)", "Shape(2).area()")
    server.program.hook(ALL + '\n    - {symbol: "shapes:Shape.area", domain: Test}')
    server.collect("shapes.add(1)", "Shape(2).area()")
    server.end()
    assert server.spans() == ["add", "add", "area"]


def test_an_entry_that_comes_back_finds_the_copies_that_were_made_meanwhile(server: Server) -> None:
    server.program.hook("[]")
    server.collect("imported_later(1)", "places.also_count()")
    server.program.hook(ALL)
    server.collect("imported_later(1)", "places.also_count()", "Borrower.tally(1)")
    server.end()
    assert server.spans() == ["add", "count", "count"]


def test_the_order_of_the_new_file_holds(server: Server) -> None:
    server.program.hook("- {symbol: 'shapes:add', name: a}\n- {symbol: 'shapes:add', name: b}")
    server.collect("shapes.add(1)")
    server.program.hook("- {symbol: 'shapes:add', name: b}\n- {symbol: 'shapes:add', name: a}")
    server.collect("shapes.add(1)")
    server.end()
    assert server.spans() == ["b", "a", "a", "b"]


@pytest.mark.parametrize("text", ["- {symbol: 'shapes:", "key: value", "- {name: no symbol}"])
def test_a_file_that_makes_no_sense_changes_nothing(server: Server, text: str) -> None:
    server.program.symbols.write_text(text)
    server.collect("shapes.add(1)")
    assert "the symbols stay as they are" in server.end()
    assert server.spans() == ["add"]


def test_what_somebody_else_put_there_stays(server: Server) -> None:
    server.ask("setattr(places, 'cached', shapes.fail)")
    server.program.hook("[]")
    server.collect()
    assert server.ask("places.cached is shapes.fail")
    server.end()


def test_calls_go_on_while_hooks_come_and_go(server: Server) -> None:
    server.ask("call_all_the_time()")
    for symbols in ("[]", ALL, "- {symbol: 'shapes:add'}", ALL):
        server.program.hook(symbols)
        server.collect()
    seen = server.ask("len(results)")
    wait_until(lambda: server.ask("len(results)") > seen, "another call")
    server.ask("stop.set()")
    assert server.ask("set(results) == {9}")
    server.end()


CALLS = {
    "decorated:function": "decorated.function(1)",
    "decorated:Worker.work": "decorated.Worker().work()",
    "decorated:Worker.advise": "decorated.Worker.advise()",
    "decorated:Worker.state": "decorated.Worker().state",
}


@pytest.mark.parametrize("symbol", CALLS)
def test_a_reload_exchanges_the_hooks_of_symbols_and_leaves_those_of_decorators(
    server: Server, symbol: str
) -> None:
    server.ask("globals().update(decorated=__import__('decorated'))")
    call = CALLS[symbol]
    server.collect(call)
    for name in ("one", "two"):
        server.program.hook(f"- {{symbol: '{symbol}', name: {name}}}")
        server.collect(call)
    server.program.hook("[]")
    server.collect(call)
    server.program.hook(f"- {{symbol: '{symbol}', name: three}}\n- {{symbol: '{symbol}', name: four}}")
    server.collect(call)
    server.program.hook("- {symbol: 'shapes:add'}")
    server.collect(call)
    server.end()
    assert server.spans() == [
        "timed", "timed", "one", "timed", "two", "timed", "timed", "four", "three", "timed",
    ]  # fmt: skip


def test_what_is_decorated_after_a_symbol_has_hooked_it_keeps_both_apart(server: Server) -> None:
    server.program.hook("- {symbol: 'decorated:later', name: named}")
    server.collect()
    server.ask("globals().update(decorated=__import__('decorated'))")
    decorate = "setattr(decorated, 'later', msprof_rs.timed(name='timed')(decorated.later))"
    server.collect("decorated.later(1)", decorate, "decorated.later(1)")
    server.program.hook("[]")
    server.collect("decorated.later(1)")
    server.program.hook("- {symbol: 'decorated:later', name: again}")
    server.collect("decorated.later(1)")
    server.program.hook("[]")
    server.collect("decorated.later(1)")
    server.end()
    assert server.spans() == ["named", "timed", "named", "timed", "timed", "again", "timed"]


def test_two_decorators_stay_in_their_order_whatever_symbols_do(server: Server) -> None:
    server.program.hook("- {symbol: 'decorated:twice', name: named}")
    server.collect()
    server.ask("globals().update(decorated=__import__('decorated'))")
    server.collect("decorated.twice(1)")
    server.program.hook("- {symbol: 'decorated:twice', name: other, handler: 'decorated:handler'}")
    server.collect("decorated.twice(1)")
    server.program.hook("[]")
    server.collect("decorated.twice(1)")
    server.end()
    assert server.spans() == ["outer", "inner", "named", "outer", "inner", "handled", "outer", "inner"]
