"""Many calls at once, and many calls in a row that must leave nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any


def swap(pair: tuple[int, int]) -> tuple[int, int]:
    return pair[1], pair[0]


def call_in_threads(threads: int, calls: int) -> None:
    """Each thread checks each of its results."""
    wrong: list[Any] = []
    start = threading.Barrier(threads)

    def work(number: int) -> None:
        start.wait()
        for call in range(calls):
            if swap((number, call)) != (call, number):
                wrong.append((number, call))

    workers = [threading.Thread(target=work, args=(n,), name=f"worker-{n}") for n in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong, wrong[:10]


class Thing:
    """What is passed in, given back and raised: counted when it goes."""

    alive = 0

    def __init__(self) -> None:
        Thing.alive += 1

    def __del__(self) -> None:
        Thing.alive -= 1

    def method(self, other: Any, *, key: Any = None) -> Any:
        return other


class ThingError(Exception):
    """An exception that holds a thing."""

    def __init__(self, thing: Thing) -> None:
        super().__init__(thing)


def give(thing: Thing, *more: Any, **named: Any) -> Any:
    return thing


def fail(thing: Thing) -> None:
    raise ThingError(thing)


async def wait(thing: Thing) -> Thing:
    await asyncio.sleep(0)
    return thing


async def wait_and_fail(thing: Thing) -> None:
    await asyncio.sleep(0)
    raise ThingError(thing)


def items(thing: Thing) -> Iterator[Thing]:
    yield thing
    yield thing


async def aitems(thing: Thing) -> AsyncIterator[Thing]:
    yield thing
    yield thing


def through(original: Callable[..., Any], this: Any, *args: Any, **kwargs: Any) -> Any:
    return original(this, *args, **kwargs)


def failing_handler(original: Callable[..., Any], this: Any, *args: Any, **kwargs: Any) -> Any:
    original(this, *args, **kwargs)
    raise ThingError(this)


def handled(thing: Thing) -> Thing:
    return thing


def badly_handled(thing: Thing) -> Thing:
    return thing


def caught(work: Callable[[], Any]) -> None:
    with contextlib.suppress(ThingError):
        work()


async def every_coroutine() -> None:
    thing = Thing()
    await wait(thing)
    with contextlib.suppress(ThingError):
        await wait_and_fail(thing)
    async for _ in aitems(thing):
        pass
    async for _ in aitems(thing):
        break
    wait(thing).close()
    task = asyncio.create_task(wait(thing))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def everything() -> None:
    """One round of every kind of call, each with things of its own."""
    thing = Thing()
    thing.method([Thing()], key={"k": Thing()})
    give(thing, Thing(), named=Thing())
    caught(lambda: fail(Thing()))
    list(items(Thing()))
    next(items(Thing()))
    handled(Thing())
    badly_handled(Thing())
    asyncio.run(every_coroutine())


def resident() -> int:
    """Bytes of memory that the process holds."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def check_for_leaks(rounds: int) -> None:
    """After a warm-up no thing stays, and the memory does not grow by as much as a small object a round."""
    for _ in range(rounds // 4):
        everything()
    gc.collect()
    assert Thing.alive == 0, Thing.alive
    before, blocks = resident(), sys.getallocatedblocks()
    for _ in range(rounds):
        everything()
    gc.collect()
    assert Thing.alive == 0, Thing.alive
    grown = sys.getallocatedblocks() - blocks
    assert grown < rounds // 4, f"{grown} blocks in {rounds} rounds"
    assert resident() - before < 16 * rounds + (8 << 20), f"{resident() - before} bytes in {rounds} rounds"
