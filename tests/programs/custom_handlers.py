"""Handlers as users write them, good ones and bad ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

calls: list[tuple[Any, ...]] = []


def note_and_call(original: Callable[..., Any], this: Any, *args: Any, **kwargs: Any) -> Any:
    """Sees every call and changes nothing."""
    calls.append((type(this).__name__, args, kwargs))
    return original(this, *args, **kwargs)


async def await_and_double(original: Callable[..., Any], this: Any, *args: Any, **kwargs: Any) -> Any:
    """A handler may change the result."""
    return 2 * await original(this, *args, **kwargs)


def fail_before(original: Callable[..., Any], this: Any, *args: Any, **kwargs: Any) -> Any:
    """Never gets to call the original."""
    calls.append(("failed",))
    raise RuntimeError("a handler's own mistake")


def fail_after(original: Callable[..., Any], this: Any, *args: Any, **kwargs: Any) -> Any:
    """Has called the original already."""
    calls.append(("failed",))
    original(this, *args, **kwargs)
    raise RuntimeError("a handler's own mistake")


not_callable = 3
