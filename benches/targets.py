"""What is called in the benches. Their symbols name `targets:Plain.method` and the like."""

from __future__ import annotations

from typing import Any

# A class has code of its own, its loops too: the interpreter adapts code to what it meets there.
SOURCE = """
class {name}:
    n = 7

    def method(self, x):
        return x

    async def coroutine(self, x):
        await PAUSE
        return x

    def items(self, count):
        for item in range(count):
            yield item

    async def async_items(self, count):
        for item in range(count):
            yield item

    def call(self, count):
        for _ in range(count):
            self.method("text")

    def await_once(self, count):
        async def caller():
            for _ in range(count):
                await self.coroutine("text")
        run(caller())

    def iterate(self, count):
        for _ in self.items(count):
            pass

    def iterate_async(self, count):
        async def caller():
            async for _ in self.async_items(count):
                pass
        run(caller())
"""


class _Pause:
    """Awaited, it suspends the task once."""

    def __await__(self) -> Any:
        yield


def run(coroutine: Any) -> None:
    """Resumes a coroutine until it ends, as an event loop that has nothing else to do."""
    try:
        while True:
            coroutine.send(None)
    except StopIteration:
        pass


def make(name: str) -> type:
    """A class whose functions and loops are like those of the others, but its own."""
    namespace = {"PAUSE": _Pause(), "run": run, "__name__": __name__}
    exec(SOURCE.format(name=name), namespace)
    made = namespace[name]
    assert isinstance(made, type)
    return made


Plain, Attributes, Elsewhere, TakenOut = map(make, ("Plain", "Attributes", "Elsewhere", "TakenOut"))
