"""Spans that are begun and ended in any order, by generators, greenlets and threads, as a list of steps says.

Each step is `[actor, what, name]`; after it, an event says its number. The symbols hook
the functions `plain_…`.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator
from typing import Any

import greenlet

import msprof_rs

PLAIN = 400

Step = tuple[str, str]
Wait = Callable[[], Step]

entered: dict[str, Any] = {}
"""Spans that were entered by hand: anybody may leave them."""


def by_hand(what: str, name: str) -> None:
    if what == "enter":
        entered[name] = msprof_rs.span(name).__enter__()
    else:
        entered.pop(name).__exit__(None, None, None)


def act(wait: Wait) -> None:
    """Follows steps until one says `end`."""
    while True:
        what, name = wait()
        if what == "span":
            with msprof_rs.span(name):
                act(wait)
        elif what == "call":
            globals()[name](wait)
        elif what == "end":
            return
        else:
            by_hand(what, name)


def act_as_generator() -> Generator[None, Step, None]:
    """The same, between two `yield`s."""
    while True:
        what, name = yield
        if what == "span":
            with msprof_rs.span(name):
                yield from act_as_generator()
        elif what == "end":
            return
        else:
            by_hand(what, name)


for number in range(PLAIN):
    exec(f"def plain_{number}(wait): act(wait)")


class GeneratorActor:
    def __init__(self) -> None:
        self.generator = act_as_generator()
        next(self.generator)

    def do(self, step: Step) -> None:
        self.generator.send(step)


class GreenletActor:
    def __init__(self) -> None:
        main = greenlet.getcurrent()
        self.greenlet = greenlet.greenlet(lambda: act(main.switch))
        self.greenlet.switch()

    def do(self, step: Step) -> None:
        self.greenlet.switch(step)


class ThreadActor:
    def __init__(self) -> None:
        self.steps: queue.SimpleQueue[Step] = queue.SimpleQueue()
        self.done: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.has_begun = False
        threading.Thread(target=act, args=(self.next,), daemon=True).start()
        self.done.get()

    def next(self) -> Step:
        self.done.put(None)
        return self.steps.get()

    def do(self, step: Step) -> None:
        self.steps.put(step)
        self.done.get()


KINDS = {"generator": GeneratorActor, "greenlet": GreenletActor, "thread": ThreadActor}


def run(steps: list[tuple[str, str, str]]) -> None:
    """`steps` name an actor by its kind and a number, as in `greenlet 2`."""
    actors: dict[str, Any] = {}
    for number, (actor, what, name) in enumerate(steps):
        if actor not in actors:
            actors[actor] = KINDS[actor.split()[0]]()
        actors[actor].do((what, name))
        msprof_rs.event("step", n=number)
    kept.append(actors)


kept: list[dict[str, Any]] = []
"""An actor that goes closes its spans."""
