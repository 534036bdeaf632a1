"""What can be done with a coroutine or a generator, a function each; the test runs them bare and followed."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncIterable, Generator
from typing import Any

import followed
from followed import EVENTS, Methods, OddError


async def collect(items: AsyncIterable[Any]) -> list[Any]:
    return [item async for item in items]


def a_result() -> Any:
    return asyncio.run(followed.coroutine([1]))


def a_tuple_as_result() -> Any:
    return asyncio.run(followed.coroutine((1, 2)))


def an_exception_as_result() -> Any:
    async def main() -> Any:
        return repr(await followed.coroutine(1))

    return asyncio.run(main())


def nothing_as_result() -> Any:
    return asyncio.run(followed.coroutine(None))


def an_error() -> Any:
    return asyncio.run(followed.coroutine(OddError("x")))


def stop_iteration_inside() -> Any:
    return asyncio.run(followed.coroutine(StopIteration(1)))


def traced() -> Any:
    def trace(*_: Any) -> Any:
        return None

    sys.settrace(trace)
    try:
        return [
            asyncio.run(followed.coroutine((1, 2))),
            returned(followed.generator(1)),
            list(followed.delegating()),
        ]
    finally:
        sys.settrace(None)


def returned(generator: Generator[Any, Any, Any]) -> Any:
    """Both what it yields and what it returns."""

    def outer() -> Generator[Any, Any, None]:
        yield (yield from generator)

    return list(outer())


def never_suspended() -> Any:
    return asyncio.run(followed.coroutine(5, 0))


def recursion() -> Any:
    return asyncio.run(followed.nested(30))


def a_task() -> Any:
    async def main() -> Any:
        return await asyncio.create_task(followed.coroutine(4))

    return asyncio.run(main())


def gather() -> Any:
    async def main() -> Any:
        return await asyncio.gather(*map(followed.coroutine, range(50)))

    return asyncio.run(main())


def wait_for() -> Any:
    async def main() -> Any:
        return await asyncio.wait_for(followed.careful(), 0.001)

    return asyncio.run(main())


def shield() -> Any:
    async def main() -> Any:
        return await asyncio.shield(followed.coroutine(6))

    return asyncio.run(main())


def cancelled() -> Any:
    async def main() -> Any:
        task = asyncio.create_task(followed.careful())
        await asyncio.sleep(0)
        task.cancel("enough")
        return await task

    return asyncio.run(main())


def cancelled_in_vain() -> Any:
    async def main() -> Any:
        task = asyncio.create_task(followed.stubborn())
        await asyncio.sleep(0)
        task.cancel()
        return await task, task.cancelled()

    return asyncio.run(main())


def by_hand() -> Any:
    coroutine = followed.old_style(3)
    steps = [coroutine.send(None)]
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return steps, stop.value


def awaited_twice() -> Any:
    async def main() -> Any:
        coroutine = followed.coroutine(1)
        return await coroutine, await coroutine

    return asyncio.run(main())


def thrown_into() -> Any:
    coroutine = followed.careful()
    coroutine.send(None)
    return coroutine.throw(OddError("in"))


def closed() -> Any:
    coroutine = followed.careful()
    coroutine.send(None)
    return coroutine.close()


def closed_at_once() -> Any:
    return followed.coroutine(1).close()


def an_old_coroutine() -> Any:
    async def main() -> Any:
        return await followed.old_style(9)

    return asyncio.run(main())


def a_wrong_call() -> Any:
    return followed.coroutine(1, 2, 3)  # type: ignore[call-arg]


def items() -> Any:
    return list(followed.generator(1, None, (2, 3)))


def no_items() -> Any:
    return list(followed.generator())


def a_return_value() -> Any:
    def outer() -> Any:
        EVENTS.append((yield from followed.generator(1)))

    return list(outer())


def an_error_between() -> Any:
    return list(followed.generator(1, OddError("y"), 2))


def a_stop_inside() -> Any:
    return list(followed.generator(1, StopIteration(2)))


def a_break() -> Any:
    for item in followed.generator(1, 2, 3):
        return item
    return None


def sent() -> Any:
    g = followed.generator(1, 2, 3)
    return [next(g), g.send("a"), g.send("b")]


def sent_too_early() -> Any:
    return followed.generator(1).send("a")


def thrown_and_caught() -> Any:
    g = followed.generator(1, 2)
    return [next(g), g.throw(OddError("t")), *g]


def thrown_and_not_caught() -> Any:
    g = followed.generator(1, 2)
    next(g)
    g.throw(KeyError("t"))


def thrown_too_early() -> Any:
    return followed.generator(1).throw(OddError("t"))


def closed_generator() -> Any:
    g = followed.generator(1, 2)
    next(g)
    g.close()
    return list(g)


def closed_with_a_value() -> Any:
    g = followed.ignoring()
    next(g)
    return g.close()


def closed_with_a_value_below() -> Any:
    def outer() -> Any:
        yield from followed.ignoring()

    g = outer()
    next(g)
    return g.close()


def exit_thrown_into() -> Any:
    g = followed.ignoring()
    next(g)
    if sys.version_info >= (3, 13):
        g.throw(GeneratorExit())


def a_coroutine_closed_with_a_value() -> Any:
    coroutine = followed.unwilling()
    coroutine.send(None)
    return coroutine.close()


def a_block_whose_generator_is_closed() -> Any:
    manager = followed.block("a")
    return manager.__enter__(), manager.gen.close()  # type: ignore[func-returns-value]


def delegation() -> Any:
    return list(followed.delegating())


def into_a_delegation() -> Any:
    g = followed.delegating()
    return [next(g), g.throw(OddError("t")), *g]


def stepped_from_inside() -> Any:
    def items() -> Any:
        yield next(generator)

    generator = followed.passing_on(items())
    return list(generator)


def an_endless_one() -> Any:
    return [n for n, _ in zip(followed.endless(), range(5), strict=False)]


def async_items() -> Any:
    return asyncio.run(collect(followed.agenerator(1, None, (2, 3))))


def no_async_items() -> Any:
    return asyncio.run(collect(followed.agenerator()))


def an_async_error() -> Any:
    return asyncio.run(collect(followed.agenerator(1, OddError("z"), 2)))


def an_async_stop_inside() -> Any:
    return asyncio.run(collect(followed.agenerator(1, StopAsyncIteration(2))))


def an_async_break() -> Any:
    async def main() -> Any:
        async for item in followed.agenerator(1, 2, 3):
            return item
        return None

    return asyncio.run(main())


def asend() -> Any:
    async def main() -> Any:
        g = followed.agenerator(1, 2, 3)
        return [await g.asend(None), await g.asend("a"), await g.asend("b"), await anext(g, "end")]

    return asyncio.run(main())


def asend_too_early() -> Any:
    async def main() -> Any:
        return await followed.agenerator(1).asend("a")

    return asyncio.run(main())


def athrow_caught() -> Any:
    async def main() -> Any:
        g = followed.agenerator(1, 2)
        return [await anext(g), await g.athrow(OddError("t")), await collect(g)]

    return asyncio.run(main())


def athrow_not_caught() -> Any:
    async def main() -> Any:
        g = followed.agenerator(1, 2)
        await anext(g)
        await g.athrow(KeyError("t"))

    return asyncio.run(main())


def aclose() -> Any:
    async def main() -> Any:
        g = followed.agenerator(1, 2)
        await anext(g)
        await g.aclose()
        return await collect(g)

    return asyncio.run(main())


def aclose_at_once() -> Any:
    async def main() -> Any:
        await followed.agenerator(1).aclose()

    return asyncio.run(main())


def cancelled_in_an_async_for() -> Any:
    async def main() -> Any:
        task = asyncio.create_task(collect(followed.agenerator(*range(100))))
        for _ in range(5):
            await asyncio.sleep(0)
        task.cancel()
        return await task

    return asyncio.run(main())


def left_to_the_loop() -> Any:
    async def main() -> Any:
        g = followed.agenerator(1, 2)
        await anext(g)
        del g
        gc.collect()
        for _ in range(5):
            await asyncio.sleep(0)

    return asyncio.run(main())


kept: list[Any] = []


def left_to_the_end_of_the_loop() -> Any:
    async def main() -> Any:
        kept.append(followed.agenerator(1, 2))
        return await anext(kept[-1])

    return asyncio.run(main())


def methods() -> Any:
    async def main() -> Any:
        return [await Methods(5).coroutine(), await collect(Methods.agenerator(3)), await Methods.static(7)]

    return [asyncio.run(main()), list(Methods(3).generator(2))]
