"""Everything that has an attribute of which `str()` is interrupted, and what must come out of it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import msprof_rs


class Cancelled(BaseException):
    """As trio's and gevent's: no `Exception`."""


INTERRUPTS: list[BaseException] = [KeyboardInterrupt("now"), SystemExit(7), Cancelled(), GeneratorExit()]
RAN: list[str] = []


class Told:
    """Ctrl-C arrives while somebody asks it for its text."""

    interrupt: BaseException | None = None

    def __str__(self) -> str:
        if self.interrupt is not None:
            raise self.interrupt
        return "told"


TOLD = Told()


def returns(told: Told) -> str:
    RAN.append("returns")
    return "result"


def fails(told: Told) -> None:
    RAN.append("fails")
    raise LookupError("its own")


async def waits(told: Told) -> str:
    await asyncio.sleep(0)
    RAN.append("waits")
    return "result"


async def waits_and_fails(told: Told) -> None:
    await asyncio.sleep(0)
    RAN.append("waits_and_fails")
    raise LookupError("its own")


def yields(told: Told) -> Iterator[int]:
    RAN.append("yields")
    yield 1


async def yields_later(told: Told) -> AsyncIterator[int]:
    RAN.append("yields_later")
    yield 1
    yield 2


def promises(told: Told) -> concurrent.futures.Future[str]:
    RAN.append("promises")
    future: concurrent.futures.Future[str] = concurrent.futures.Future()
    future.set_result("result")
    return future


def promises_nothing(told: Told) -> str:
    RAN.append("promises_nothing")
    return "result"


@contextlib.contextmanager
def surrounds(told: Told) -> Iterator[None]:
    RAN.append("surrounds")
    yield


class Manager:
    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...


def manages(told: Told) -> Manager:
    RAN.append("manages")
    return Manager()


def block(manager: Any) -> None:
    with manager:
        RAN.append("in the block")


def failing_block(manager: Any) -> None:
    with manager:
        raise LookupError("its own")


async def walk(items: AsyncIterator[int]) -> list[int]:
    return [item async for item in items]


async def walk_a_bit(items: Any) -> None:
    await anext(items)
    await items.aclose()


def walk_some(items: Any) -> None:
    next(items)
    items.close()


async def nothing() -> None: ...


def makes(told: Told) -> Coroutine[Any, Any, None]:
    return nothing()


def drop() -> None:
    """Where nothing can be raised, it is as soon as Python code runs again."""
    made = makes(TOLD)
    del made
    for _ in range(100):
        RAN.append("went on")


def in_a_span(told: Told) -> None:
    with msprof_rs.span("s", told=told):
        RAN.append("in the span")


def into_a_span(told: Told) -> None:
    with msprof_rs.span("s") as span:
        span["told"] = told


CALLS: dict[str, Callable[[], object]] = {
    "returns": lambda: returns(TOLD),
    "fails": lambda: fails(TOLD),
    "waits": lambda: asyncio.run(waits(TOLD)),
    "waits_and_fails": lambda: asyncio.run(waits_and_fails(TOLD)),
    "yields": lambda: list(yields(TOLD)),
    "yields, closed": lambda: walk_some(yields(TOLD)),
    "yields_later": lambda: asyncio.run(walk(yields_later(TOLD))),
    "yields_later, closed": lambda: asyncio.run(walk_a_bit(yields_later(TOLD))),
    "promises_nothing": lambda: promises_nothing(TOLD),
    "surrounds": lambda: block(surrounds(TOLD)),
    "surrounds, failing": lambda: failing_block(surrounds(TOLD)),
    "manages": lambda: block(manages(TOLD)),
    "manages, failing": lambda: failing_block(manages(TOLD)),
    "span": lambda: in_a_span(TOLD),
    "span[]": lambda: into_a_span(TOLD),
    "event": lambda: msprof_rs.event("e", told=TOLD),
    "Profiler": lambda: msprof_rs.Profiler(msprof_rs.Level.INFO).attr("told", TOLD),
}


def outcome(call: Callable[[], object], interrupt: BaseException) -> tuple[bool, str | None]:
    """Whether the very interrupt came out, and what had been raised before it."""
    TOLD.interrupt = interrupt
    interrupt.__context__ = None
    RAN.clear()
    try:
        call()
    except BaseException as error:
        context = error.__context__
        return error is interrupt, type(context).__name__ if context is not None else None
    finally:
        TOLD.interrupt = None
    return False, "nothing was raised"
