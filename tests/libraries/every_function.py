"""Prints a symbols file that names every function of a package. Runs in an environment that has the package."""

from __future__ import annotations

import contextlib
import functools
import importlib
import pkgutil
import sys
import types
from collections.abc import Iterator

FUNCTIONS = (types.FunctionType, functools.partial, functools._lru_cache_wrapper)
METHODS = (*FUNCTIONS, staticmethod, classmethod, property)
"""Not any callable: pytest, for one, knows a fixture by its exact type, and nobody calls it."""


def modules(package: str) -> Iterator[types.ModuleType]:
    """The package and all below it that can be imported here."""
    root = importlib.import_module(package)
    yield root
    for found in pkgutil.walk_packages(root.__path__, f"{package}."):
        # Some need a system or another library that is not here; `__main__` runs.
        with contextlib.suppress(ImportError):
            if not found.name.endswith("__main__"):
                yield importlib.import_module(found.name)


def functions(owner: types.ModuleType | type, way: str = "") -> Iterator[str]:
    """What stands in a module or class and was defined in that module."""
    module = owner.__name__ if isinstance(owner, types.ModuleType) else owner.__module__
    for name, value in vars(owner).items():
        if isinstance(value, type):
            # Not one from elsewhere, nor one that has a second name here.
            if value.__module__ == module and value.__qualname__ == f"{way}{name}":
                yield from functions(value, f"{way}{name}.")
        elif isinstance(owner, type) and isinstance(value, METHODS):
            yield f"{way}{name}"
            if isinstance(value, property):
                yield from (f"{way}{name}.{kind}" for kind in ("setter", "deleter") if _has(value, kind))
        elif isinstance(value, FUNCTIONS) and getattr(value, "__module__", None) == module:
            yield f"{way}{name}"


def _has(value: property, kind: str) -> bool:
    return (value.fset if kind == "setter" else value.fdel) is not None


if __name__ == "__main__":
    for package in sys.argv[1:]:
        for module in modules(package):
            for path in functions(module):
                print(f"- symbol: '{module.__name__}:{path}'")
