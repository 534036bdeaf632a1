"""One of everything that `msprof_rs.timed` can be given, and what becomes of it in each place.

Each function here makes a new one. `outcomes` is what a program sees of it.
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
import functools
import inspect
import operator
import re
from collections.abc import Callable
from typing import Any

MAKERS: dict[str, Callable[[], Any]] = {}


def made(maker: Callable[[], Any]) -> Callable[[], Any]:
    MAKERS[maker.__name__] = maker
    return maker


class Named(type):
    """Its classes look the same in each run."""

    def __repr__(cls) -> str:
        return f"<class {cls.__name__}>"


class Thing(metaclass=Named):
    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def method(self, *args: Any, **kwargs: Any) -> Any:
        return self, args, kwargs

    @classmethod
    def of_class(cls, *args: Any) -> Any:
        return cls, args

    @staticmethod
    def static(*args: Any) -> Any:
        return args


class Called(Thing):
    def __call__(self, *args: Any) -> Any:
        return "called", args


class Hybrid(Called):
    """Bound to an instance or to a class, it is something else; as such it can be called too."""

    def __get__(self, instance: Any, owner: Any) -> Any:
        return functools.partial(
            Thing.static, "instance" if instance is not None else "class", instance, owner
        )


class Selfish(Called):
    """Binds to nothing."""

    def __get__(self, instance: Any, owner: Any) -> Any:
        return self


class Constant(Called):
    """Bound, it is no callable any more."""

    def __get__(self, instance: Any, owner: Any) -> Any:
        return 7


class Naming(Called):
    """Learns under which name it stands."""

    name = "none"

    def __set_name__(self, owner: Any, name: str) -> None:
        self.name = name

    def __call__(self, *args: Any) -> Any:
        return self.name, args


class Marked(staticmethod):  # type: ignore[type-arg]
    """A static method of a class of its own."""


class Refusing(Called):
    def __get__(self, instance: Any, owner: Any) -> Any:
        raise LookupError(instance)


@made
def function() -> Any:
    def function(*args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    return function


@made
def strict() -> Any:
    return lambda one, two: (one, two)


@made
def coroutine_function() -> Any:
    async def coroutine_function(*args: Any) -> Any:
        await asyncio.sleep(0)
        return args

    return coroutine_function


@made
def generator_function() -> Any:
    def generator_function(*args: Any) -> Any:
        yield from args

    return generator_function


@made
def async_generator_function() -> Any:
    async def async_generator_function(*args: Any) -> Any:
        for arg in args:
            yield arg

    return async_generator_function


@made
def context_manager() -> Any:
    @contextlib.contextmanager
    def context_manager(*args: Any) -> Any:
        yield args

    return context_manager


@made
def raising() -> Any:
    def raising(*args: Any) -> Any:
        raise KeyError(args)

    return raising


@made
def wrapped() -> Any:
    inner = function()
    return functools.wraps(inner)(lambda *args: inner("outer", *args))


@made
def bound_method() -> Any:
    return Thing().method


@made
def bound_class_method() -> Any:
    return Thing.of_class


@made
def function_of_static_method() -> Any:
    return Thing.static


@made
def partial() -> Any:
    return functools.partial(function(), 0, key=1)


@made
def partial_of_method() -> Any:
    return functools.partial(Thing().method, 0)


@made
def builtin() -> Any:
    return max


@made
def bound_builtin() -> Any:
    return "a-b".split


@made
def method_of_builtin() -> Any:
    return str.upper


@made
def item_getter() -> Any:
    return operator.itemgetter(0)


@made
def a_class() -> Any:
    return int


@made
def called() -> Any:
    return Called()


@made
def hybrid() -> Any:
    return Hybrid()


@made
def selfish() -> Any:
    return Selfish()


@made
def constant() -> Any:
    return Constant()


@made
def naming() -> Any:
    return Naming()


@made
def refusing() -> Any:
    return Refusing()


@made
def cached() -> Any:
    return functools.lru_cache(maxsize=None)(lambda *args: args)


@made
def dispatching() -> Any:
    return functools.singledispatch(lambda *args: args)


@made
def abstract() -> Any:
    return abc.abstractmethod(function())


@made
def static_method() -> Any:
    return staticmethod(function())


@made
def marked_static_method() -> Any:
    marked = Marked(function())
    marked.mark = 1  # type: ignore[attr-defined]
    return marked


@made
def class_method() -> Any:
    return classmethod(function())


@made
def class_method_of_hybrid() -> Any:
    return classmethod(Hybrid())


@made
def a_property() -> Any:
    return property(lambda self: (self, "value"), lambda self, value: None, doc="A value.")


@made
def set_only() -> Any:
    return property(None, lambda self, value: None)


@made
def cached_property() -> Any:
    return functools.cached_property(lambda self: (self, "value"))


@made
def partial_method() -> Any:
    return functools.partialmethod(function(), 0)


@made
def dispatching_method() -> Any:
    return functools.singledispatchmethod(function())


CALLS: list[tuple[Any, ...]] = [(), (1,), (1, 2), ([3],), ("a", "b")]


def outcome(of: Callable[[], Any]) -> str:
    """What it gives, however it comes; or what it raises."""

    async def collected(values: Any) -> list[Any]:
        return [value async for value in values]

    try:
        result = of()
        if inspect.iscoroutine(result):
            result = ("awaited", asyncio.run(result))
        elif inspect.isgenerator(result):
            result = ("generated", list(result))
        elif inspect.isasyncgen(result):
            result = ("generated", asyncio.run(collected(result)))
        elif isinstance(result, contextlib.AbstractContextManager):
            with result as entered:
                result = ("entered", entered)
    except Exception as error:
        # Messages name the callable, which has a name of its own in each place.
        return f"raised {type(error).__name__}"
    return re.sub(" at 0x[0-9a-f]+", "", repr(result))


def calls(of: Callable[[], Any]) -> list[str]:
    """What calls of an object give that is looked up anew each time."""
    return [outcome(lambda args=args: of()(*args)) for args in CALLS]  # type: ignore[misc]


def outcomes(thing: Any) -> dict[str, Any]:
    """What a program can see of it, in all places."""
    seen: dict[str, Any] = {"free": calls(lambda: thing), "named": outcome(lambda: thing(1, key=2))}
    holder = Thing()
    holder.attribute = thing  # type: ignore[attr-defined]
    seen["of an object"] = calls(lambda: holder.attribute)  # type: ignore[attr-defined]
    owner: Any = Named("Owner", (Thing,), {"attribute": thing})
    heir: Any = Named("Heir", (owner,), {})
    seen["of a class"] = calls(lambda: owner.attribute)
    seen["of an instance"] = calls(lambda: owner().attribute)
    seen["of an heir"] = calls(lambda: heir().attribute)
    seen["by super"] = calls(lambda: super(heir, heir()).attribute)
    seen["taken"] = outcome(lambda: [call(5) for call in [owner().attribute] * 2])
    seen["mapped"] = outcome(lambda: [*map(owner().attribute, [5, 6])])
    seen["as class method"] = calls(lambda: Named("C", (Thing,), {"it": classmethod(thing)}).it)  # type: ignore[attr-defined]
    seen["as static method"] = calls(lambda: Named("C", (Thing,), {"it": staticmethod(thing)})().it)
    seen["as property"] = outcome(lambda: Named("C", (Thing,), {"it": property(thing)})().it)
    for name in ("__init_subclass__", "__class_getitem__", "__new__", "__call__", "__len__"):
        seen[name] = outcome(lambda name=name: special(name, thing))  # type: ignore[misc]
    seen["kind"] = [type(vars(owner)["attribute"]).__name__ if is_shell(thing) else "", callable(thing)]
    seen["mark"] = outcome(lambda: thing.mark)
    seen["abstract"] = outcome(lambda: thing.__isabstractmethod__)
    seen["doc"] = outcome(lambda: thing.__doc__)
    return seen


def is_shell(thing: Any) -> bool:
    return isinstance(thing, (staticmethod, classmethod, property, functools.cached_property))


def special(name: str, thing: Any) -> Any:
    """What Python makes of it in a class by its name."""
    owner: Any = Named("Owner", (Thing,), {name: thing})
    kind = type(vars(owner)[name]).__name__
    if name == "__init_subclass__":
        return [kind in ("classmethod", "staticmethod") and kind, Named("Heir", (owner,), {})]
    if name == "__class_getitem__":
        return [kind in ("classmethod", "staticmethod") and kind, owner[3]]
    if name == "__new__":
        return [kind in ("classmethod", "staticmethod") and kind, owner(4)]
    return owner()(8) if name == "__call__" else len(owner())
