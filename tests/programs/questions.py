"""Looks at the callables of `introspected` from all sides: each question is an expression in this module."""

from __future__ import annotations

import asyncio
import collections  # noqa: F401  some modules are for the questions only
import contextlib  # noqa: F401
import copy  # noqa: F401
import dataclasses  # noqa: F401
import functools
import inspect
import json
import operator  # noqa: F401
import pickle
import pydoc  # noqa: F401
import re
import types
import typing
import unittest.mock
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import cloudpickle
import introspected as m
from introspected import Base, Derived, Point  # noqa: F401

d = Derived()
ATTRIBUTES = ["__name__", "__qualname__", "__module__", "__doc__", "__text_signature__", "__annotations__"]
KINDS = (
    "isfunction", "isbuiltin", "ismethod", "isroutine",
    "iscoroutinefunction", "isgeneratorfunction", "isasyncgenfunction",
)  # fmt: skip


def answer_all(questions: list[str]) -> None:
    """Prints the answers, without the addresses in them."""
    answers = {question: raised(functools.partial(eval, question, globals())) for question in questions}
    print(json.dumps({it: re.sub("0x[0-9a-f]+", "0x", repr(answer)) for it, answer in answers.items()}))


def raised(do: Callable[[], Any]) -> Any:
    """The result, or the exception as a text."""
    try:
        return do()
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def identity(function: Any) -> dict[str, Any]:
    """What everybody asks first."""
    return {name: getattr(function, name, "none") for name in ATTRIBUTES} | {
        "class": function.__class__,
        "repr": repr(function),
        "str": str(function),
        "dir": dir(function),
        "wrapped": hasattr(function, "__wrapped__"),
        "self": hasattr(function, "__self__"),
        "signature": raised(lambda: str(inspect.signature(function))),
        "unwrapped": raised(lambda: inspect.unwrap(function).__name__),
        "hints": raised(lambda: typing.get_type_hints(function)),
        "hash": hash(function) == hash(function),
        "equal": function == function,
        "unequal": function != function,
        "ordered": raised(lambda: function < function),
        "weak": function.__class__.__weakrefoffset__ == 0 or weakref.ref(function)() is function,
        "callable": callable(function),
        "kinds": kinds(function),
    }


def kinds(function: Any) -> dict[str, bool]:
    """What `inspect` and `asyncio` take it for."""
    answers = {question: getattr(inspect, question)(function) for question in KINDS}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return answers | {"asyncio": asyncio.iscoroutinefunction(function)}


def patched(name: str, **how: Any) -> list[Any]:
    """A function of the module, with a mock in its place for a while."""
    before = vars(m)[name]
    with unittest.mock.patch(f"introspected.{name}", **how) as double:
        during = vars(m)[name]
        double.return_value = "double"
        answers = [during(1), isinstance(during, types.FunctionType), str(inspect.signature(during))]
    return [*answers, during is double, vars(m)[name] is before]


def patched_method(name: str, **how: Any) -> list[Any]:
    """A method, the same."""
    before = vars(Base)[name]
    with unittest.mock.patch.object(Base, name, **how) as double:
        double.return_value = "double"
        answer = getattr(Derived(), name)(3)
    return [answer, double.call_args.args[-1], vars(Base)[name] is before]


def changed(function: Any, **attributes: Any) -> list[Any]:
    """What it does and says with other attributes."""
    before = {name: getattr(function, name) for name in attributes}
    for name, value in attributes.items():
        setattr(function, name, value)
    try:
        return [function(1), str(inspect.signature(function)), repr(function)[:16]]
    finally:
        for name, value in before.items():
            setattr(function, name, value)


def with_attribute(function: Any) -> list[Any]:
    """An attribute of our own, for a while."""
    function.extra = 1
    answers = [function.extra, "extra" in vars(function), "extra" in dir(function)]
    del function.extra
    return [*answers, hasattr(function, "extra"), raised(lambda: function.extra)]


def by_value(function: Any, *args: Any) -> Any:
    """What a copy gives that cloudpickle carried over, code and all."""
    cloudpickle.register_pickle_by_value(m)
    try:
        return pickle.loads(cloudpickle.dumps(function))(*args)
    finally:
        cloudpickle.unregister_pickle_by_value(m)


async def entered(manager: Any) -> Any:
    """What an asynchronous context manager gives."""
    async with manager as name:
        return name
