"""Generators and coroutines that need not end when they are closed or thrown into, and what tells of them."""

from __future__ import annotations

import inspect
import traceback
import types
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from typing import Any

SEEN: list[str] = []
"""The exceptions that the targets caught."""


class ThrownError(Exception):
    """What is thrown in."""


class OwnError(Exception):
    """What the targets raise."""


def way(error: BaseException) -> list[str]:
    """The functions in its traceback."""
    # The frame that a hook may add to what it follows is at the function's first line, or in its own file.
    return [
        frame.f_code.co_name
        for frame, line in traceback.walk_tb(error.__traceback__)
        if line != frame.f_code.co_firstlineno and not frame.f_code.co_filename.endswith("_follow.py")
    ]


def described(error: BaseException) -> str:
    kept = "the same" if error in GIVEN else "another"
    return f"{error!r} {kept} {error.__context__!r} {error.__cause__!r} {way(error)}"


def note(error: BaseException) -> None:
    SEEN.append(described(error))


def plain() -> Generator[Any, Any, str]:
    """Lets everything through."""
    SEEN.append(repr((yield 1)))
    SEEN.append(repr((yield 2)))
    return "returned"


def staying() -> Generator[Any, Any, str]:
    """Goes on, whatever is thrown at it."""
    for number in range(6):
        try:
            SEEN.append(repr((yield number)))
        except BaseException as error:
            note(error)
    return "returned"


refusing = types.FunctionType(staying.__code__, globals(), "staying")
"""The same, for others to delegate to: not followed. One that is followed is asked to close once more."""


def inside() -> Generator[Any, Any, None]:
    """The same, and yields while it handles what was thrown."""
    try:
        yield 1
    except BaseException as error:
        note(error)
        SEEN.append(repr((yield 2)))
        yield 3


def returning() -> Generator[Any, Any, str]:
    try:
        yield 1
    except BaseException as error:
        note(error)
    return "returned"


def raising() -> Generator[Any, Any, None]:
    """Raises its own when the other is over."""
    try:
        yield 1
    except BaseException as error:
        note(error)
    raise OwnError("later")


def raising_inside() -> Generator[Any, Any, None]:
    """Raises its own instead of the other."""
    try:
        yield 1
    finally:
        raise OwnError("at once")


def delegating(inner: Callable[[], Iterator[Any]]) -> Generator[Any, Any, Any]:
    try:
        return (yield from inner())
    except Exception as error:
        note(error)
        yield "after"


def over_a_list() -> Generator[Any, Any, None]:
    """What it delegates to takes no exception."""
    yield from [1, 2, 3]


class Taking:
    """An iterator that takes exceptions in its own way."""

    def __iter__(self) -> Taking:
        return self

    def __next__(self) -> int:
        return 1

    def throw(self, *arguments: Any) -> str:
        SEEN.append(repr([str(argument) for argument in arguments]))
        return "taken"


def over_one_that_takes() -> Generator[Any, Any, None]:
    yield from Taking()


class Awaiting:
    """Awaits what a generator does."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make

    def __await__(self) -> Any:
        return self.make()


async def coroutine(make: Callable[[], Any]) -> Any:
    return await Awaiting(make)


async def careful(make: Callable[[], Any]) -> Any:
    try:
        return await Awaiting(make)
    except BaseException as error:
        note(error)
        await Awaiting(refusing)


@types.coroutine
def old_style() -> Generator[Any, Any, Any]:
    return (yield from refusing())


async def agenerator() -> AsyncGenerator[Any, Any]:
    """Goes on, whatever is thrown at it."""
    for number in range(6):
        try:
            SEEN.append(repr((yield number)))
        except BaseException as error:
            note(error)


async def plain_agenerator() -> AsyncGenerator[Any, Any]:
    SEEN.append(repr((yield 1)))
    yield 2


async def returning_agenerator() -> AsyncGenerator[Any, Any]:
    try:
        yield 1
    except BaseException as error:
        note(error)


async def raising_agenerator() -> AsyncGenerator[Any, Any]:
    try:
        yield 1
    except BaseException as error:
        note(error)
    raise OwnError("later")


async def waiting_agenerator() -> AsyncGenerator[Any, Any]:
    """Waits for something before each item, and goes on."""
    for number in range(6):
        try:
            await Awaiting(plain)
            yield number
        except BaseException as error:
            note(error)


class Driven:
    """Has a generator's methods for an asynchronous one."""

    def __init__(self, made: AsyncGenerator[Any, Any]) -> None:
        self.made = made

    def send(self, value: Any) -> Any:
        return self.run(self.made.asend(value))

    def throw(self, *error: Any) -> Any:
        return self.run(self.made.athrow(*error))

    def close(self) -> Any:
        return self.run(self.made.aclose())

    def run(self, awaitable: Any) -> Any:
        steps: list[Any] = []
        try:
            while len(steps) < 9:
                steps.append(awaitable.__await__().send(None))
        except StopIteration as stop:
            return steps, stop.value
        except RuntimeError as error:
            if steps:
                return steps, repr(error)
            raise
        return steps


class Waited:
    """The same for what one `asend` gave, in the midst of which something is thrown."""

    def __init__(self, made: AsyncGenerator[Any, Any]) -> None:
        self.made = made
        self.awaited: Any = made.asend(None)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.awaited, name)


GIVEN = [ThrownError("given"), GeneratorExit("given"), StopIteration("given"), StopAsyncIteration("given")]


def state(made: Any) -> list[Any]:
    """What can be seen of it without running it."""
    made = getattr(made, "made", made)
    prefix = {"g": "gi", "c": "cr", "a": "ag"}[type(made).__name__[0]]
    told: list[Any] = [getattr(made, f"{prefix}_frame") is None, getattr(made, f"{prefix}_running")]
    if prefix == "gi":
        told.append(inspect.getgeneratorstate(made))
    elif prefix == "cr":
        told.append(inspect.getcoroutinestate(made))
    return told


def told(made: Any, action: Callable[[Any], Any]) -> list[Any]:
    """What an action gives, what the targets caught, and how it has left the generator."""
    SEEN.clear()
    try:
        outcome = f"gave {action(made)!r}"
    except BaseException as error:
        outcome = f"raised {described(error)}"
    return [outcome, SEEN.copy(), state(made)]


def handling(action: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The same action of somebody who handles an exception of his own."""

    def act(made: Any) -> Any:
        try:
            raise KeyError("the caller's")
        except KeyError:
            return action(made)

    return act
