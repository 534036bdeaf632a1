"""Each way in which the interpreter calls a Python function, in a loop that it specialises.

`KINDS` has, by the name of the span, the symbol and a loop body that makes one call of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any


class Meta(type):
    def __call__(cls, *args: Any) -> Any:
        return super().__call__(*args)

    def __len__(cls) -> int:
        return 1


class Made:
    def __init__(self) -> None:
        self.x = 1


class MadeOf:
    def __init__(self, x: int, y: int = 2) -> None:
        self.x = x + y


class Heir(Made):
    pass


class Extending(Made):
    def __init__(self) -> None:
        super().__init__()


class Slotted:
    __slots__ = ("x",)

    def __init__(self, x: int) -> None:
        self.x = x


class New:
    def __new__(cls, *args: int) -> New:
        return super().__new__(cls)


class OfMeta(metaclass=Meta):
    pass


def start(self: Any) -> None:
    self.x = 3


class Borrowing:
    __init__ = start


def read(self: Any) -> int:
    return 4


class BorrowingProperty:
    p = property(read)


class A:
    attribute = 1

    def method(self) -> int:
        return 1

    def method_of(self, x: int, y: int = 2) -> int:
        return x

    def method_of_all(self, *args: int, **named: int) -> int:
        return 1

    @classmethod
    def of_class(cls) -> int:
        return 1

    @staticmethod
    def static() -> int:
        return 1

    @property
    def got(self) -> int:
        return 1

    @got.setter
    def got(self, value: int) -> None:
        pass

    @got.deleter
    def got(self) -> None:
        pass

    def __getitem__(self, key: int) -> int:
        return 1

    def __setitem__(self, key: int, value: int) -> None:
        pass

    def __delitem__(self, key: int) -> None:
        pass

    def __getattr__(self, name: str) -> int:
        return 1

    def __setattr__(self, name: str, value: int) -> None:
        if name != "set":
            super().__setattr__(name, value)

    def __call__(self, x: int = 1) -> int:
        return x

    def __iter__(self) -> Iterator[int]:
        return iter((1,))

    def __enter__(self) -> A:
        return self

    def __exit__(self, *args: object) -> None:
        pass

    def __contains__(self, x: int) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 1

    def __lt__(self, other: object) -> bool:
        return True

    def __add__(self, other: int) -> int:
        return 1

    def __radd__(self, other: int) -> int:
        return 1

    def __neg__(self) -> int:
        return 1

    def __index__(self) -> int:
        return 1

    def __len__(self) -> int:
        return 1

    def __format__(self, spec: str) -> str:
        return ""


class B(A):
    def method(self) -> int:
        return super().method()


class Truth:
    def __bool__(self) -> bool:
        return True


class Overridden:
    def __getattribute__(self, name: str) -> int:
        return 1


class Deleted:
    def __del__(self) -> None:
        pass


class Endless:
    def __iter__(self) -> Endless:
        return self

    def __next__(self) -> int:
        return 1


class Descriptor:
    def __get__(self, instance: Any, owner: Any) -> int:
        return 1

    def __set__(self, instance: Any, value: int) -> None:
        pass


class Described:
    d = Descriptor()


def function() -> int:
    return 1


def function_of(x: int, y: int = 2) -> int:
    return x


def function_of_all(*args: int, **named: int) -> int:
    return 1


def generator() -> Iterator[int]:
    yield 1


async def coroutine() -> int:
    return 1


def run(made: Any) -> None:
    with contextlib.suppress(StopIteration):
        made.send(None)


def key(x: int) -> int:
    return x


def closure() -> Callable[[], int]:
    def inner() -> int:
        return a.x

    return inner


def decorator(f: Any) -> Any:
    return f


a, b = A(), B()
truth, overridden, described, endless = Truth(), Overridden(), Described(), iter(Endless())
bound, partial_args, named = a.method_of, (1,), {"y": 2}

KINDS: dict[str, tuple[str, str]] = {
    "init": ("Made.__init__", "Made()"),
    "init with arguments": ("MadeOf.__init__", "MadeOf(1, 2)"),
    "init with names": ("MadeOf.__init__", "MadeOf(1, y=2)"),
    "inherited init": ("Made.__init__", "Heir()"),
    "init of the base": ("Made.__init__", "Extending()"),
    "init that calls the base": ("Extending.__init__", "Extending()"),
    "init called": ("Made.__init__", "Made.__init__(a)"),
    "init with slots": ("Slotted.__init__", "Slotted(1)"),
    "init under another name": ("start", "Borrowing()"),
    "new": ("New.__new__", "New(1)"),
    "call of a class": ("Meta.__call__", "OfMeta()"),
    "len of a class": ("Meta.__len__", "len(OfMeta)"),
    "function": ("function", "function()"),
    "function with arguments": ("function_of", "function_of(1, 2)"),
    "function with a default": ("function_of", "function_of(1)"),
    "function with names": ("function_of", "function_of(1, y=2)"),
    "function with a tuple": ("function_of", "function_of(*partial_args)"),
    "function with a dict": ("function_of", "function_of(1, **named)"),
    "function of all": ("function_of_all", "function_of_all(1, 2, z=3)"),
    "function of all with all": ("function_of_all", "function_of_all(*partial_args, **named)"),
    "method": ("A.method", "a.method()"),
    "method with arguments": ("A.method_of", "a.method_of(1, 2)"),
    "method with a default": ("A.method_of", "a.method_of(1)"),
    "method with names": ("A.method_of", "a.method_of(1, y=2)"),
    "method with a tuple": ("A.method_of", "a.method_of(*partial_args)"),
    "method of all": ("A.method_of_all", "a.method_of_all(1, z=3)"),
    "method of the class": ("A.method", "A.method(a)"),
    "bound method": ("A.method_of", "bound(1, 2)"),
    "bound method with a default": ("A.method_of", "bound(1)"),
    "bound method with names": ("A.method_of", "bound(1, y=2)"),
    "inherited method": ("A.method_of", "b.method_of(1)"),
    "method of the base": ("A.method", "b.method()"),
    "class method": ("A.of_class", "A.of_class()"),
    "class method of an instance": ("A.of_class", "a.of_class()"),
    "static method": ("A.static", "A.static()"),
    "static method of an instance": ("A.static", "a.static()"),
    "getter": ("A.got", "a.got"),
    "inherited getter": ("A.got", "b.got"),
    "getter of a function": ("read", "borrowing.p"),
    "setter": ("A.got.setter", "a.got = 1"),
    "deleter": ("A.got.deleter", "del a.got"),
    "getitem": ("A.__getitem__", "a[1]"),
    "inherited getitem": ("A.__getitem__", "b[1]"),
    "setitem": ("A.__setitem__", "a[1] = 2"),
    "delitem": ("A.__delitem__", "del a[1]"),
    "getattr": ("A.__getattr__", "a.nothing"),
    "setattr": ("A.__setattr__", "a.set = 1"),
    "getattribute": ("Overridden.__getattribute__", "overridden.x"),
    "call": ("A.__call__", "a(1)"),
    "iter": ("A.__iter__", "for x in a: pass"),
    "next": ("Endless.__next__", "next(endless)"),
    "next in a loop": ("Endless.__next__", "for x in endless: break"),
    "enter": ("A.__enter__", "with a: pass"),
    "exit": ("A.__exit__", "with a: pass"),
    "contains": ("A.__contains__", "1 in a"),
    "eq": ("A.__eq__", "a == 1"),
    "lt": ("A.__lt__", "a < b"),
    "hash": ("A.__hash__", "hash(a)"),
    "add": ("A.__add__", "a + 1"),
    "radd": ("A.__radd__", "1 + a"),
    "neg": ("A.__neg__", "-a"),
    "index": ("A.__index__", "(1, 2)[a]"),
    "len": ("A.__len__", "len(a)"),
    "bool": ("Truth.__bool__", "not truth"),
    "bool of a branch": ("Truth.__bool__", "if truth: pass"),
    "format": ("A.__format__", "f'{a}'"),
    "del": ("Deleted.__del__", "Deleted()"),
    "descriptor": ("Descriptor.__get__", "described.d"),
    "set of a descriptor": ("Descriptor.__set__", "described.d = 1"),
    "generator": ("generator", "[*generator()]"),
    "generator in a loop": ("generator", "for x in generator(): pass"),
    "coroutine": ("coroutine", "run(coroutine())"),
    "map": ("key", "[*map(key, (1,))]"),
    "sort": ("key", "sorted((1,), key=key)"),
    "comprehension": ("key", "[key(x) for x in (1,)]"),
    "decorator": ("decorator", "decorator(function)"),
    "lambda": ("key", "(lambda: key(1))()"),
}
borrowing = BorrowingProperty()


def loop(body: str) -> Callable[[int], None]:
    """A function that runs this so many times; new each time, for the interpreter to specialise."""
    scope: dict[str, Any] = {}
    exec(f"def loop(n):\n    for _ in range(n):\n        {body}", globals(), scope)
    return scope["loop"]  # type: ignore[no-any-return]
