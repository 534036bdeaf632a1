"""Code that `torch.compile` takes, with calls of every kind in it."""

# mypy: disallow-subclassing-any=False, disallow-untyped-calls=False, disallow-untyped-decorators=False

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch

root = math.sqrt


class Scale:
    """Its objects are called, and more."""

    def __call__(self, x: torch.Tensor, by: float = 2.0) -> torch.Tensor:
        return x * by

    def __len__(self) -> int:
        return 3


scale = Scale()


@torch.library.custom_op("compiled::tripled", mutates_args=())
def tripled(x: torch.Tensor) -> torch.Tensor:
    return x * 3


@tripled.register_fake
def _(x: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


@torch.jit.script
def scripted(x: torch.Tensor) -> torch.Tensor:
    return x + 3


@torch.compile(backend="eager")
def compiled(x: torch.Tensor) -> torch.Tensor:
    return x - 1


def scaled(x: torch.Tensor, scale: float = 2.0) -> torch.Tensor:
    return torch.relu(x) * scale


by_five = functools.partial(scaled, scale=5.0)


@functools.lru_cache
def twice(n: int) -> int:
    return n * 2


@functools.wraps(scaled)
def wrapping(x: torch.Tensor) -> torch.Tensor:
    return scaled(x) + 2


def entry(x: torch.Tensor) -> torch.Tensor:
    return scaled(x) + scaled(x, scale=3.0) + scaled(scale=4.0, x=x)


class Activation(torch.nn.Module):
    """A module in a module."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return scaled(x)


class Net(torch.nn.Module):
    """Its forward pass calls its other methods."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(4, 4)
        self.activation = Activation()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.activation(self.linear(x))) + self.of_class(x)

    def head(self, x: torch.Tensor) -> torch.Tensor:
        return x.sum(-1, keepdim=True)

    def shifted(self, x: torch.Tensor, by: float = 1.0, *, times: float = 2.0) -> torch.Tensor:
        return (x + by) * times

    @torch.no_grad()
    def frozen(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2

    def __getitem__(self, index: int, step: int = 2) -> int:
        return index * step

    @staticmethod
    def doubled(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    @classmethod
    def of_class(cls, x: torch.Tensor, plus: float = 1.0) -> torch.Tensor:
        return cls.doubled(x) + plus


class Derived(Net):
    """Calls its base."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * 2

    def head(self, x: torch.Tensor, times: float = 3.0) -> torch.Tensor:
        return super().head(x) * times


def in_closure() -> Callable[[torch.Tensor], torch.Tensor]:
    inner = scaled
    return lambda x: inner(x) + 1


def cases() -> dict[str, Callable[[torch.Tensor], Any]]:
    """What is to be compiled; looked up when it is hooked already."""
    net, derived = Net(), Derived()
    return {
        "a function": entry,
        "a function that calls others": lambda x: entry(x) + scaled(x),
        "a function with functools.wraps": wrapping,
        "a function in a closure": in_closure(),
        "a module": net,
        "a module that calls its base": derived,
        "a method that calls its base": lambda x: derived.head(x),
        "a method with a closure": lambda x: net.frozen(x),
        "defaults of methods": lambda x: net.shifted(x) + net.of_class(x) + net[1] + Net.shifted(net, x),
        "methods in a table": lambda x: sum(map(net.shifted, [x, x])),
        "a bound method": net.head,
        "methods from outside": lambda x: net.head(x) + net.of_class(x) + Net.doubled(x) + Net.head(net, x),
        "functions in a table": lambda x: torch.cat([f(x) for f in (scaled, entry, net.head)], 1),
        "a function given to others": lambda x: torch.func.vmap(scaled)(x) + sum(map(scaled, [x, x])),
        "attributes of functions": lambda x: x * len(scaled.__name__) + callable(entry),
        "a builtin": lambda x: x * root(4.0),
        "a partial": lambda x: by_five(x) + 1,
        "a cached function": lambda x: x * twice(3),
        "a custom operator": lambda x: tripled(x) + 1,
        "a scripted function": lambda x: scripted(x) * 2,
        "a compiled function": lambda x: compiled(x) * 2,
        "a function that is compiled twice": compiled,
        "an object": lambda x: scale(x) * len(scale),
        "a function as a key": lambda x: x * {scaled: 2.0}[scaled],
        "the defaults of a function": lambda x: x * (scaled.__defaults__ or (1.0,))[0],
    }
