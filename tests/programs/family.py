"""Classes that inherit what symbols name."""

from __future__ import annotations

import functools
import operator
import queue
import unittest.mock


class Base:
    def __new__(cls, *_: object) -> Base:
        return super().__new__(cls)

    def __init__(self) -> None:
        super().__init__()
        self.made_by = ["Base"]

    def method(self) -> str:
        return "base"

    async def later(self) -> str:
        return "later"

    @classmethod
    def kind(cls) -> str:
        return cls.__name__

    @staticmethod
    def static() -> str:
        return "static"

    @property
    def size(self) -> int:
        return 1

    @size.setter
    def size(self, value: int) -> None:
        self.given = value

    @functools.cached_property
    def catalogue(self) -> list[int]:
        return [1]

    def multiply(self, by: int) -> int:
        return by

    double = functools.partialmethod(multiply, 2)
    first = operator.itemgetter(0)

    def __len__(self) -> int:
        return 7


class Sub(Base):
    pass


class Other(Base):
    pass


class Mixin(Base):
    def __init__(self) -> None:
        super().__init__()
        self.made_by.append("Mixin")

    def method(self) -> str:
        return "mixin>" + super().method()


class Both(Sub, Mixin):
    pass


one = Sub()


class Line(queue.SimpleQueue[int]):
    pass


class Meta(type):
    def make(cls) -> object:
        return cls()

    def __getattr__(cls, name: str) -> object:
        if name == "dreamt":
            return lambda: "dreamt"
        raise AttributeError(f"no attribute {name!r}")


class Made(metaclass=Meta):
    pass


class Caller:
    def __call__(self) -> str:
        return "called"


class SubCaller(Caller):
    pass


sub_caller = SubCaller()

IMPLEMENTATIONS = {"lazy": lambda: "first"}


def __getattr__(name: str) -> object:
    if name in IMPLEMENTATIONS:
        return IMPLEMENTATIONS[name]
    raise AttributeError(f"no attribute {name!r}")


def late() -> str:
    """What a class gives that is made after all hooks."""

    class Late(Sub, Mixin):
        pass

    return Late().method()


def patched() -> str:
    """What an heir gives while its base has another function."""
    with unittest.mock.patch.object(Base, "method", return_value="patched"):
        return Sub().method()


def exchanged() -> str:
    """The same with another function for good."""
    Base.method = lambda self: "exchanged"  # type: ignore[method-assign]
    return Sub().method()
